"""Opening the store of runs and models, the project's own or its team's, and getting at the files in it.

A project's own store is one SQLite database and a folder of files inside the project. `open_store` makes the database
once, whoever comes first, and heals it after the project's folder has been moved, because MLflow keeps absolute paths.
A team's (`tracking_place`) is a PostgreSQL database and an object store: files come from there as local copies, and a
change of the champion is under a lock of the database, so that two machines cannot both make it.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import logging
import os
import re
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

# Read by MLflow when it is imported: nothing is reported to anyone, nothing pickled is loaded, no chatter.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")

import mlflow
import sqlalchemy.exc
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

from fraudlab.config import Workspace
from fraudlab.schema import FraudlabError, InputError
from fraudlab.tracking_place import (
    SECONDS,
    SETTINGS,
    TrackingConfig,
    UnreachableError,
    connected,
    has_tables,
    settings_of,
    unreachable_files,
    unreachable_store,
)

EXPERIMENT = "fraudlab"
# Where MLflow keeps absolute paths: all of them move with the project.
LOCATIONS = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "storage_location"),
    ("model_versions", "source"),
)
# Of PostgreSQL's advisory locks, which are numbers: "fraudlab" in ASCII is far from anybody's counter.
_MAKING = int.from_bytes(b"fraudlab", "big")
_NOT_ALLOWED = "permission denied|must be owner|read-only transaction"
_ABANDONED_SECONDS = 3600
LOCK_SECONDS = 10
"""Who waits longer for another machine's change of the champion is told so."""


class TeamClient(MlflowClient):
    """A client of a team's store; a database or an object store that is gone ends its calls in one sentence.

    `place` says where the store is, `copies` is the folder that holds local copies of its files.
    """

    def __init__(self, place: TrackingConfig, copies: Path) -> None:
        self.place, self.copies = place, copies
        super().__init__(tracking_uri=place.address, registry_uri=place.address)

    def __getattribute__(self, name: str) -> Any:
        found = super().__getattribute__(name)
        return found if name.startswith("_") or not callable(found) else _in_one_sentence(found, self.place)


class OwnClient(MlflowClient):
    """A client of the project's own store; a database that is locked, full or gone ends its calls in one sentence."""

    def __getattribute__(self, name: str) -> Any:
        found = super().__getattribute__(name)
        return found if name.startswith("_") or not callable(found) else _in_one_sentence(found, None)


def _in_one_sentence(call: Callable[..., Any], place: TrackingConfig | None) -> Callable[..., Any]:
    @functools.wraps(call)
    def told(*args: Any, **named: Any) -> Any:
        with _reaching_own() if place is None else reaching(place):
            return call(*args, **named)

    return told


@contextlib.contextmanager
def _reaching_own() -> Iterator[None]:
    try:
        yield
    except MlflowException as error:
        if isinstance(error.__cause__, sqlalchemy.exc.DatabaseError):
            raise _own_unusable(error.__cause__.orig) from None
        raise
    except sqlalchemy.exc.DatabaseError as error:
        raise _own_unusable(error.orig) from None


def _own_unusable(said: BaseException | None) -> FraudlabError:
    return FraudlabError(
        f"mlruns/mlflow.db: must be there, free and whole; found otherwise ({said}); the champion is as it was; let "
        "other programs that use it end, make room, or restore mlruns/ from a backup; then go on with --resume"
    )


@contextlib.contextmanager
def reaching(place: TrackingConfig) -> Iterator[None]:
    """Turn what the clients of database and object store say when these are gone into one sentence.

    Raises
    ------
    UnreachableError : the database or the object store does not answer, or refuses.
    """
    gone = _store_errors() if place.artifacts.startswith("s3://") else ()
    try:
        yield
    except MlflowException as error:
        cause = error.__cause__
        if isinstance(cause, gone):
            raise unreachable_files(place, _said_by_store(cause)) from None
        if isinstance(cause, sqlalchemy.exc.OperationalError | sqlalchemy.exc.InterfaceError):
            raise unreachable_store(place, "found it lost on the way") from None
        if isinstance(cause, sqlalchemy.exc.DBAPIError) and re.search(_NOT_ALLOWED, str(cause.orig)):
            raise unreachable_store(place, "found that it does not let this role write") from None
        raise
    except gone as error:
        raise unreachable_files(place, _said_by_store(error)) from None


def _store_errors() -> tuple[type[BaseException], ...]:
    """Return what boto3 raises; it has no error of its own that covers all."""
    try:
        from boto3.exceptions import Boto3Error
        from botocore.exceptions import BotoCoreError, ClientError
    except ImportError:
        raise InputError(f"{SETTINGS}: s3:// needs boto3; found none installed; install fraudlab[team]") from None
    return Boto3Error, BotoCoreError, ClientError


def _said_by_store(error: BaseException) -> str:
    """Say why without the store's own words: they name keys and requests."""
    code = _code(error)
    # boto3 tells of a failed upload in words only.
    words = code or str(error)
    for known, said in (
        (("403", "AccessDenied"), "found that it does not let these keys do this"),
        (("InvalidAccessKeyId", "SignatureDoesNotMatch", "Unable to locate credentials"), "found no keys it knows"),
        (("404", "NoSuchBucket"), "found no such bucket"),
        (("SSL", "certificate"), "found no TLS connection that can be trusted (AWS_CA_BUNDLE names the authority)"),
    ):
        if any(each in words for each in known):
            return said
    return f"found that it answered {code}" if code else "found no answer"


def _code(error: BaseException) -> str:
    return str(getattr(error, "response", {}).get("Error", {}).get("Code", ""))


# -- opening -------------------------------------------------------------------------------------------------------


def open_store(workspace: Workspace) -> MlflowClient:
    """Open the store of runs and models; make it if there is none, heal its paths if the project has moved.

    Safe to call from several processes at once. A process killed while making the project's database leaves none.

    Parameters
    ----------
    workspace : `tracking.toml` in it names a team's database and files; without it the database is `mlruns/mlflow.db`,
        and artifacts go to `mlruns/artifacts`.

    Returns
    -------
    A client of this database, for runs and registered models alike.

    Raises
    ------
    InputError : the project's path holds `%` or `?`, which database addresses cannot express; `tracking.toml` breaks a
        rule.
    FraudlabError : the database is damaged, is no MLflow database or was made by another MLflow version.
    UnreachableError : the team's database does not answer.
    """
    settings = settings_of(workspace)
    if settings is not None:
        return _open_team(settings, workspace.mlruns / "copies")
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)  # one sentence says it
    uri, artifacts = addresses(workspace)
    database, folder = workspace.mlruns.resolve() / "mlflow.db", Path(artifacts)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with _locked(database.parent / ".lock"):
        if not database.is_file():
            with _reaching_own():
                _create(database, folder)
        _heal(database, folder)
    try:
        with _reaching_own():  # a client reads the database when it is made
            client = OwnClient(tracking_uri=uri, registry_uri=uri)
        _ensure_experiment(client, artifacts)
    except MlflowException as error:
        raise _of_another_version(error, "mlruns/mlflow.db", "copy mlruns/ to a safe place", uri) from None
    return client


def addresses(workspace: Workspace) -> tuple[str, str]:
    """Return the address of the database and where files go, as MLflow takes them; neither holds a password."""
    settings = settings_of(workspace)
    if settings is not None:
        return settings.address, settings.artifacts
    folder = str(workspace.mlruns.resolve())
    if bad := sorted(set("%?") & set(folder)):
        raise InputError(
            f"project folder: its path must not hold {' or '.join(bad)}, which MLflow cannot address; "
            "rename the folder or set FRAUDLAB_HOME to another one"
        )
    return f"sqlite:///{folder}/mlflow.db", f"{folder}/artifacts"


def _ensure_experiment(client: MlflowClient, artifacts: str) -> None:
    experiment = client.get_experiment_by_name(EXPERIMENT)
    if experiment is None:
        client.create_experiment(EXPERIMENT, artifact_location=f"{artifacts}/{EXPERIMENT}")
    elif experiment.lifecycle_stage == "deleted":
        client.restore_experiment(experiment.experiment_id)


def _of_another_version(error: MlflowException, where: str, keep: str, uri: str) -> Exception:
    if "out-of-date database schema" not in str(error):
        return error
    return FraudlabError(
        f"{where}: must have the form of MLflow {mlflow.__version__}; found another version's; "
        f"{keep}, then run: mlflow db upgrade {uri}"
    )


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _create(database: Path, artifacts: Path) -> None:
    """Make the database under another name, then rename it. The caller holds the lock."""
    for left in database.parent.glob(".new-*"):
        left.unlink()
    # MLflow keeps one engine per address for the life of a process, so each attempt needs a name of its own.
    handle, building = tempfile.mkstemp(prefix=".new-", dir=database.parent)
    os.close(handle)
    try:
        store = SqlAlchemyStore(f"sqlite:///{building}", str(artifacts))
        store.create_experiment(EXPERIMENT, artifact_location=str(artifacts / EXPERIMENT))
        store.engine.dispose()
        with contextlib.closing(sqlite3.connect(building)) as connection:
            connection.execute("PRAGMA journal_mode=WAL")
        os.replace(building, database)
    finally:
        for left in database.parent.glob(f"{Path(building).name}*"):
            left.unlink()


def _heal(database: Path, artifacts: Path) -> None:
    """Rewrite the paths in the database if they lie elsewhere: the experiment's own location remembers where."""
    try:
        with contextlib.closing(sqlite3.connect(database, timeout=60)) as connection, connection:
            query = "SELECT artifact_location FROM experiments WHERE name = ?"
            row = connection.execute(query, (EXPERIMENT,)).fetchone()
            if row is None or Path(row[0]).parent == artifacts:
                return
            before = f"{Path(row[0]).parent}/"
            for table, column in LOCATIONS:
                connection.execute(
                    f"UPDATE {table} SET {column} = ? || substr({column}, ?) WHERE substr({column}, 1, ?) = ?",
                    (f"{artifacts}/", len(before) + 1, len(before), before),
                )
    except sqlite3.OperationalError as error:
        raise _own_unusable(error) from None
    except sqlite3.DatabaseError as error:
        raise FraudlabError(
            f"mlruns/mlflow.db: must be this project's MLflow database; found otherwise ({error}); "
            "restore mlruns/ from a backup, or move it away to begin anew"
        ) from None


# -- a team's ------------------------------------------------------------------------------------------------------


def _open_team(place: TrackingConfig, copies: Path) -> TeamClient:
    # MLflow tries an absent database ten times over two minutes, and prints statements of failed calls: ask first.
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
    _tell_object_store(place)
    with connected(place) as connection:
        if not has_tables(connection):
            _make_tables(place)
    try:
        with reaching(place):
            client = TeamClient(place, copies)
        _ensure_experiment(client, place.artifacts)
    except MlflowException as error:
        raise _of_another_version(
            error, f"registry {place.shown}", "dump it, let nobody write", place.address
        ) from None
    kept = client.get_experiment_by_name(EXPERIMENT).artifact_location
    if kept != f"{place.artifacts}/{EXPERIMENT}":
        raise InputError(
            f"{SETTINGS}: artifacts must be where this registry keeps them, {kept.rpartition('/')[0]}; "
            f"found {place.artifacts}; correct it"
        )
    return client


def _make_tables(place: TrackingConfig) -> None:
    """Make MLflow's tables in an empty database; of several machines at once one makes them."""
    with connected(place) as connection:
        connection.execute("SELECT pg_advisory_lock(%s)", (_MAKING,))
        if has_tables(connection):
            return
        try:
            SqlAlchemyStore(place.address, place.artifacts).engine.dispose()
        except sqlalchemy.exc.DBAPIError as error:
            if re.search(_NOT_ALLOWED, str(error.orig)):
                raise FraudlabError(
                    f"registry {place.shown}: the role must be allowed to make the tables the first time; found that "
                    "it is not; let the database's owner run `fraudlab models list` once"
                ) from None
            raise


def _tell_object_store(place: TrackingConfig) -> None:
    """Tell boto3 what MLflow has no word for: where the store is, and not to wait for minutes."""
    if not place.artifacts.startswith("s3://"):
        return
    os.environ.setdefault("AWS_RETRY_MODE", "standard")
    os.environ.setdefault("AWS_MAX_ATTEMPTS", "3")
    if place.endpoint:
        os.environ["MLFLOW_S3_ENDPOINT_URL"] = place.endpoint
        # Servers other than Amazon's do not all know the checksums that boto3 sends of its own accord.
        os.environ.setdefault("AWS_REQUEST_CHECKSUM_CALCULATION", "when_required")
        os.environ.setdefault("AWS_RESPONSE_CHECKSUM_VALIDATION", "when_required")


@contextlib.contextmanager
def alone(client: MlflowClient, name: str) -> Iterator[Callable[[], None]]:
    """Keep all others from changing a model's champion while the block reads, compares and writes.

    In a project of its own the project's lock does that; the caller holds it. In a team's database it is an advisory
    lock, which the server lets go of when this process or its machine dies.

    Yields
    ------
    A function to call right before the write: it raises where the lock was lost.

    Raises
    ------
    FraudlabError : another machine has held the lock for ten seconds.
    UnreachableError : the database does not answer.
    """
    if not isinstance(client, TeamClient):
        yield lambda: None
        return
    import psycopg.errors

    with connected(client.place) as connection:
        connection.execute(f"SET lock_timeout = '{LOCK_SECONDS}s'")
        try:
            connection.execute("SELECT pg_advisory_lock(hashtextextended(%s, %s))", (f"champion {name}", _MAKING))
        except psycopg.errors.LockNotAvailable:
            raise FraudlabError(
                f"model: the champion of '{name}' must be changed by one machine at a time; found another at it for "
                f"{LOCK_SECONDS} s; look what it decides, then try again"
            ) from None
        yield lambda: connection.execute("SELECT 1").close()


def answers(workspace: Workspace) -> str:
    """Ask a team's database and object store whether they answer; say what was asked, nothing for a project's own.

    Raises
    ------
    UnreachableError : one of them does not answer, or refuses.
    """
    place = settings_of(workspace)
    if place is None:
        return ""
    with connected(place) as connection:
        connection.execute("SELECT 1")
    if not place.artifacts.startswith("s3://"):
        return f"the database {place.shown}"
    _tell_object_store(place)
    with reaching(place):
        bucket, _ = _bucket(place.artifacts)
        _files(place).head_bucket(Bucket=bucket)
    return f"the database {place.shown}, the bucket {bucket}"


# -- files ---------------------------------------------------------------------------------------------------------


def local(address: str) -> Path | None:
    """Return the path of files that lie on this machine; None for an object store's.

    >>> local("/srv/models/1"), local("file:///srv/models/1"), local("s3://bucket/models/1")
    (PosixPath('/srv/models/1'), PosixPath('/srv/models/1'), None)
    """
    return None if address.startswith("s3://") else Path(address.removeprefix("file://"))


def copied(client: MlflowClient, address: str, name: str, whole: Callable[[Path], bool] = lambda folder: True) -> Path:
    """Return a folder of an object store as a local copy, fetched where it is not there yet.

    The copy appears under its name only when it is complete; others may ask for it at the same time.

    Parameters
    ----------
    address : s3://...
    name : the copy's own, by its content or by what never changes.
    whole : says of a copy whether it is what it must be; one that is not is fetched again, once.

    Raises
    ------
    UnreachableError : the object store does not answer, or refuses.
    """
    if not isinstance(client, TeamClient):
        raise InputError("registry: its files lie in an object store; found no tracking.toml for it; write it")
    target = client.copies / name
    if target.is_dir() and whole(target):
        return target
    _make_private(target.parent)
    for left in (*target.parent.glob(".new-*"), *target.parent.glob(".old-*")):  # of a process that was killed
        with contextlib.suppress(FileNotFoundError):
            if time.time() - left.stat().st_mtime > _ABANDONED_SECONDS:
                shutil.rmtree(left, ignore_errors=True)
    building = Path(tempfile.mkdtemp(prefix=".new-", dir=target.parent))
    try:
        _download(client.place, address, building)
        _put(building, target)
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return target


def _make_private(folder: Path) -> None:
    """Make a folder, and those above it that are missing, for their owner only."""
    if not folder.is_dir():
        _make_private(folder.parent)
        folder.mkdir(mode=0o700, exist_ok=True)


def _put(building: Path, target: Path) -> None:
    """Give a complete copy its name; where another process has put one there meanwhile, it is as good."""
    if target.is_dir():
        aside = Path(tempfile.mkdtemp(prefix=".old-", dir=target.parent))
        with contextlib.suppress(FileNotFoundError):
            os.replace(target, aside / "old")
        shutil.rmtree(aside, ignore_errors=True)
    with contextlib.suppress(OSError):
        os.replace(building, target)


def _download(place: TrackingConfig, address: str, folder: Path) -> None:
    with reaching(place):
        bucket, prefix = _bucket(f"{address}/")
        files = _files(place)
        for page in files.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
            for found in page.get("Contents", []):
                inside = PurePosixPath(found["Key"].removeprefix(prefix))
                if ".." in inside.parts or inside.is_absolute():
                    continue  # a key that climbs out of the folder is nobody's file here
                path = folder / inside
                _make_private(path.parent)
                files.download_file(bucket, found["Key"], str(path))
                path.chmod(0o600)


def forget_files(client: MlflowClient, address: str) -> None:
    """Delete a folder of files of the store; what cannot be deleted is left."""
    if (folder := local(address)) is not None:
        shutil.rmtree(folder, ignore_errors=True)
        return
    with contextlib.suppress(UnreachableError), reaching(client.place):
        bucket, prefix = _bucket(f"{address}/")
        files = _files(client.place)
        for page in files.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
            for found in page.get("Contents", []):
                files.delete_object(Bucket=bucket, Key=found["Key"])


def _bucket(address: str) -> tuple[str, str]:
    parts = urlsplit(address)
    return parts.netloc, parts.path[1:]


def _files(place: TrackingConfig) -> Any:
    import boto3.session
    from botocore.config import Config

    patience = Config(connect_timeout=SECONDS, read_timeout=60, retries={"mode": "standard", "max_attempts": 2})
    # A session of its own: the shared one keeps the first keys it saw for the life of the process.
    return boto3.session.Session().client("s3", endpoint_url=place.endpoint, config=patience)
