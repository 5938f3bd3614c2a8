"""Where a project's runs and models are kept: in its own folder, or in a team's PostgreSQL and object store.

A project is its own registry until `tracking.toml`, beside its pyproject.toml, names another place:

    store = "postgresql://fraudlab_writer@db.example/fraudlab"
    artifacts = "s3://fraud-models/fraudlab"
    s3_endpoint = "https://s3.example"

No password stands there, so the address may be shown. PostgreSQL's client takes it from `~/.pgpass` (PGPASSFILE) or
PGPASSWORD, the object store's from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or ~/.aws/credentials.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import re
import tomllib
from collections.abc import Iterator
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

from pydantic import Field, ValidationError, field_validator

from fraudlab.config import Workspace, explain_validation
from fraudlab.decision_config import Frozen
from fraudlab.schema import FraudlabError, InputError, did_you_mean

if TYPE_CHECKING:
    import psycopg

SETTINGS = "tracking.toml"
SECONDS = 5
"""A database or an object store that has not taken the connection within these is given up."""

TLS = ("require", "verify-ca", "verify-full")
NO_TLS = ("disable", "allow", "prefer")
# What an address may say after its `?`: nothing that is a secret, nothing that turns a check off.
_SAID = ("sslmode", "sslrootcert", "sslcert", "sslkey", "host")
_AGAIN = "see to it, then run the same command again (a retraining with --resume)"


class UnreachableError(FraudlabError):
    """The team's database or object store cannot be reached or refuses; nothing of it was changed."""


class TrackingConfig(Frozen):
    """Where a team keeps runs and models; a project without this file keeps them in its own folder."""

    store: str = Field(description="postgresql://ROLE@HOST[:PORT]/DATABASE, without password: that is PGPASSFILE's")
    artifacts: str = Field(description="s3://BUCKET/PREFIX, or a folder that every machine has at the same path")
    s3_endpoint: str = Field("", description="address of an S3-compatible server; empty: MLFLOW_S3_ENDPOINT_URL or AWS")

    @field_validator("store")
    @classmethod
    def _store_is_an_address(cls, value: str) -> str:
        form = "must be postgresql://ROLE@HOST/DATABASE"
        try:
            parts = urlsplit(value)
            port = parts.port
        except ValueError:
            raise ValueError(f"{form}; found no such address; correct it") from None
        said = dict(parse_qsl(parts.query, keep_blank_values=True))
        if parts.password is not None or {"password", "sslpassword"} & said.keys():
            raise ValueError("must hold no password; found one; put it into ~/.pgpass or PGPASSWORD, and change it")
        if unknown := sorted(said.keys() - set(_SAID)):
            raise ValueError(f"cannot say '{unknown[0]}' after the question mark; {did_you_mean(unknown[0], _SAID)}")
        if said.get("sslmode", "prefer") not in (*NO_TLS, *TLS):
            raise ValueError(f"sslmode must be one of {', '.join(TLS)}; found another; correct it")
        if "host" in said and (parts.hostname or not said["host"].startswith("/")):
            raise ValueError("host after the question mark must be the folder of a local socket; found otherwise")
        whole = parts.scheme == "postgresql" and parts.username and (parts.hostname or "host" in said)
        if not whole or not re.fullmatch(r"/[^/]+", parts.path) or parts.fragment or port == 0:
            raise ValueError(f"{form}; found otherwise; correct it")
        if not is_here(host_of(value)) and (mode := _mode(value)) in NO_TLS:
            raise ValueError(
                f"must be reached over TLS off this machine; found sslmode {mode}; say sslmode=verify-full"
            )
        return value

    @field_validator("artifacts")
    @classmethod
    def _artifacts_are_a_place(cls, value: str) -> str:
        if re.fullmatch(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[\w.-]+)*", value) is None:
            if not value.startswith("/") or set("%?#") & set(value):
                raise ValueError("must be s3://BUCKET/PREFIX or an absolute folder; found otherwise; correct it")
            return value.rstrip("/")
        return value

    @field_validator("s3_endpoint")
    @classmethod
    def _endpoint_is_safe(cls, value: str) -> str:
        if value and (problem := _endpoint_problem(value)):
            raise ValueError(problem)
        return value

    @property
    def is_here(self) -> bool:
        """Whether the database is on this machine."""
        return is_here(host_of(self.store))

    @property
    def tls(self) -> str:
        """How the database's connection is protected, in PostgreSQL's words."""
        return _mode(self.store)

    @property
    def shown(self) -> str:
        """What people are told of the database: its machine and its name."""
        return f"{host_of(self.store)}{urlsplit(self.store).path}"

    @property
    def address(self) -> str:
        """The address as MLflow takes it: with the driver, short time-outs and, off this machine, a checked server."""
        parts = urlsplit(self.store)
        said = dict(parse_qsl(parts.query))
        if not self.is_here:
            said.setdefault("sslmode", self.tls)
        # A server that falls silent is noticed within half a minute, by the client's own system.
        said |= {"connect_timeout": str(SECONDS), "tcp_user_timeout": "20000", "keepalives_idle": "10"}
        return f"postgresql+psycopg://{parts.netloc}{parts.path}?{urlencode(said | {'application_name': 'fraudlab'})}"

    @property
    def endpoint(self) -> str | None:
        """The object store's address; None for AWS itself."""
        return self.s3_endpoint or os.environ.get("MLFLOW_S3_ENDPOINT_URL") or None


def host_of(address: str) -> str:
    """Return the machine of an address; the folder where it is a local socket.

    >>> host_of("postgresql://me@db.example:6432/fraud"), host_of("postgresql://me@/fraud?host=/run/postgresql")
    ('db.example', '/run/postgresql')
    """
    parts = urlsplit(address)
    return parts.hostname or dict(parse_qsl(parts.query)).get("host", "")


def is_here(host: str) -> bool:
    """Say whether a machine's name is this machine's own: a local socket, localhost, a loopback address.

    >>> is_here("127.0.0.9"), is_here("::1"), is_here("/run/postgresql"), is_here("db.example"), is_here("10.0.0.1")
    (True, True, True, False, False)
    """
    try:
        return host == "localhost" or host.startswith("/") or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _mode(store: str) -> str:
    """Return how the database's connection is protected."""
    said = dict(parse_qsl(urlsplit(store).query)).get("sslmode") or os.environ.get("PGSSLMODE")
    return said or ("prefer" if is_here(host_of(store)) else "verify-full")


def _endpoint_problem(address: str) -> str | None:
    parts = urlsplit(address)
    if parts.username or parts.password or parts.query or not parts.hostname or parts.scheme not in ("http", "https"):
        return "must be https://HOST[:PORT] and nothing else; found otherwise; correct it"
    if parts.scheme == "http" and not is_here(parts.hostname):
        return "must be https off this machine; found http; use the server's https address"
    return None


def settings_of(workspace: Workspace) -> TrackingConfig | None:
    """Read where a project's team keeps runs and models; None where the project keeps them itself.

    Raises
    ------
    InputError : `tracking.toml` is no TOML; a key is unknown, missing or breaks its rule; the project has a registry
        of its own already, whose models would be lost from sight.
    """
    path = workspace.root / SETTINGS
    if not path.is_file():
        return None
    try:
        settings = TrackingConfig.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{SETTINGS}: not valid TOML: {error}; correct it") from None
    except ValidationError as error:
        said = explain_validation(error, TrackingConfig)
        raise InputError("\n".join(f"{SETTINGS}: {line}" for line in said)) from None
    if (workspace.mlruns / "mlflow.db").is_file():
        raise InputError(
            f"{SETTINGS}: must not take the place of a registry that exists; found mlruns/mlflow.db, whose models "
            "would be lost from sight; move mlruns/ away to begin with the team's, or remove the file"
        )
    if settings.artifacts.startswith("s3://"):
        if (endpoint := settings.endpoint) and (problem := _endpoint_problem(endpoint)):
            raise InputError(f"MLFLOW_S3_ENDPOINT_URL: {problem}")
        unchecked = os.environ.get("MLFLOW_S3_IGNORE_TLS", "").lower() in ("1", "true")
        if unchecked and not is_here(urlsplit(endpoint or "").hostname or ""):
            raise InputError(
                "MLFLOW_S3_IGNORE_TLS: must not be set for a server elsewhere; found it set; name the server's "
                "certificate in AWS_CA_BUNDLE instead"
            )
    return settings


def has_registry(workspace: Workspace) -> bool:
    """Say whether a project has a registry of runs and models yet; asking makes none.

    Raises
    ------
    InputError : as in `settings_of`.
    UnreachableError : the team's database does not answer.
    """
    settings = settings_of(workspace)
    if settings is None:
        return (workspace.mlruns / "mlflow.db").is_file()
    with connected(settings) as connection:
        return has_tables(connection)


def has_tables(connection: psycopg.Connection) -> bool:
    """Say whether a team's database has been made MLflow's."""
    return connection.execute("SELECT to_regclass('alembic_version')").fetchone() != (None,)


@contextlib.contextmanager
def connected(settings: TrackingConfig) -> Iterator[psycopg.Connection]:
    """Give a connection to the team's database, each statement by itself; it ends with the block.

    Raises
    ------
    UnreachableError : the database does not answer within five seconds, refuses, or is lost in the block.
    """
    try:
        import psycopg
    except ImportError:
        raise InputError(
            f"{SETTINGS}: needs the PostgreSQL client; found none installed; install fraudlab[team]"
        ) from None
    parts = urlsplit(settings.address)
    said: dict[str, str | int | None] = dict(parse_qsl(parts.query))
    said |= {"user": unquote(parts.username or ""), "dbname": unquote(parts.path[1:])}
    if parts.hostname:
        said |= {"host": parts.hostname, "port": parts.port or 5432}
    try:
        with psycopg.connect(**said, autocommit=True) as connection:
            yield connection
    except psycopg.OperationalError as error:
        raise unreachable_store(settings, _why(str(error))) from None


def unreachable_store(settings: TrackingConfig, why: str) -> UnreachableError:
    """Return the error that says that the team's database is gone, in one sentence without a password."""
    return UnreachableError(f"registry: the database {settings.shown} must answer; {why}; {_AGAIN}")


def unreachable_files(settings: TrackingConfig, why: str) -> UnreachableError:
    """Return the error that says that the team's object store is gone."""
    return UnreachableError(f"registry: the object store of {settings.artifacts} must answer; {why}; {_AGAIN}")


def _why(said: str) -> str:
    """Say in our own words why a database refused: its message names roles, addresses and files.

    >>> _why('connection to server failed: FATAL:  password authentication failed for user "ann"')
    'found that it refuses the password (~/.pgpass, PGPASSWORD)'
    >>> _why("connection is bad: connection timeout expired")
    'found no answer'
    """
    reasons = (
        ("password authentication failed|no password", "that it refuses the password (~/.pgpass, PGPASSWORD)"),
        ('database ".*" does not exist', "no such database there"),
        ('role ".*" (does not exist|is not permitted)|pg_hba', "that it does not let this role in from here"),
        ("certificate|SSL|TLS", "no TLS connection that can be trusted (PGSSLROOTCERT names the authority's file)"),
        ("too many|connection slots", "all its connections taken"),
        ("starting up|shutting down|recovery|terminating", "it starting or stopping"),
    )
    for pattern, reason in reasons:
        if re.search(pattern, said):
            return f"found {reason}"
    return "found no answer"
