"""The doctor: numbered checks of how a workspace and its machine protect the customers, with the command that helps.

    examine(workspace)   # a row per check: code, check, status, found, fix

It looks and changes nothing: no key, log or database is made or healed. What cannot be looked at is "not checked" with
the reason, never "ok". To add a check, write a function that returns a `Finding` and give it the next code in
`examine`; a code is never used again.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import ipaddress
import json
import os
import re
import resource
import shutil
import socket
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import psutil
from cryptography import x509
from packaging.markers import Marker
from packaging.utils import canonicalize_name

from fraudlab.backup import backup_state
from fraudlab.config import Workspace
from fraudlab.privacy.auditlog import SIGN_KEY, audit_log, read_anchor
from fraudlab.privacy.keys import HeldKey, open_keys
from fraudlab.privacy.rotation import ROTATABLE
from fraudlab.schema import FraudlabError
from fraudlab.tracking_place import SETTINGS, connected, settings_of

Status = Literal["ok", "warn", "fail", "not checked"]
KEY_DAYS, BACKUP_DAYS, CERTIFICATE_DAYS = 365, 7, 30
PORTS = (5000, 8888)
"""Where `fraudlab ui` and `fraudlab lab` listen by default."""

SERVERS = ("mlflow", "jupyter", "fraudlab", "ipykernel")
_SHOWN = 3
_SIDE_FILES = ("-wal", "-shm", "-journal")


@dataclass(frozen=True)
class Finding:
    """What a check found, in a sentence, and the command that puts it right ("" where nothing is to be done)."""

    status: Status
    found: str
    fix: str = ""


@dataclass(frozen=True)
class Listener:
    """A socket that waits for connections, and the command line behind it ("" where it is another account's)."""

    address: str
    port: int
    command: str


def examine(
    workspace: Workspace, *, anchor: Path | None = None, online: bool = False, now: pd.Timestamp | None = None
) -> pd.DataFrame:
    """Look at a workspace and its machine, and change nothing.

    Parameters
    ----------
    anchor : what `fraudlab audit anchor` wrote, kept elsewhere; the audit log is held against it.
    online : ask the public list of known weaknesses about the locked packages, through pip-audit.
    now : the moment ages are counted from. Default: the clock.

    Returns
    -------
    DataFrame: code, check, status (ok, warn, fail, not checked), found (a sentence), fix (a command; "" where nothing
    is to be done). A check that cannot be made is a row with status "not checked", not an error.
    """
    moment = pd.Timestamp.now("UTC") if now is None else now
    keys = partial(open_keys, workspace)
    lock = workspace.root / "requirements.lock"
    databases = [*_with_side_files(workspace.ledger), *_with_side_files(workspace.audit)]
    stores = [workspace.vault, *databases, workspace.root / "backups"]
    work = [workspace.runs, workspace.reports, workspace.mlruns]
    checks: list[tuple[str, str, Callable[[], Finding]]] = [
        ("FD01", "key files are closed", lambda: closed(_key_folders(workspace), workspace.root, strict=True)),
        ("FD02", "vault, ledger, log, backups are closed", lambda: closed(stores, workspace.root, strict=True)),
        ("FD03", "runs, reports and models are closed", lambda: closed(work, workspace.root)),
        ("FD04", "new files are closed", lambda: mask(_umask())),
        ("FD05", "keys lie apart from the data", lambda: apart(workspace, os.environ.get("FRAUDLAB_KEYS", ""))),
        ("FD06", "keys are young", lambda: key_age(keys().held(), moment)),
        ("FD07", "audit log is as it was written", lambda: audit_chain(workspace)),
        ("FD08", "audit log fits an outside anchor", lambda: audit_anchor(workspace, anchor)),
        ("FD09", "backup is verified and fresh", lambda: backup(backup_state(workspace), moment)),
        ("FD10", "MLflow reports to nobody", lambda: telemetry(os.environ)),
        ("FD11", "MLflow loads no pickles", lambda: pickles(os.environ)),
        ("FD12", "TLS certificates are valid", lambda: certificates(_certificates(workspace), moment)),
        ("FD13", "servers listen on this machine only", lambda: listeners(_listeners())),
        ("FD14", "installed packages are the locked ones", lambda: packages(locked(lock), _installed())),
        ("FD15", "known weaknesses of packages", lambda: weaknesses(_pip_audit(lock) if online else None, online)),
        ("FD16", "disk has room to write the vault anew", lambda: room(workspace)),
        ("FD17", "no run hangs", lambda: hanging(_running(workspace))),
        ("FD18", "a crash writes no memory to disk", lambda: core_dumps(resource.getrlimit(resource.RLIMIT_CORE)[0])),
        ("FD19", "memory is not swapped to disk", lambda: swap(psutil.swap_memory().total, sys.platform)),
        ("FD20", "git keeps no customer data", lambda: in_git(_tracked(workspace))),
        ("FD21", "the registry's servers are who they say", lambda: registry(workspace, _password_file())),
    ]
    rows = [(code, title, *_answer(check)) for code, title, check in checks]
    return pd.DataFrame(rows, columns=["code", "check", "status", "found", "fix"]).astype("str")


def _answer(check: Callable[[], Finding]) -> tuple[str, str, str]:
    try:
        found = check()
    except (FraudlabError, OSError, psutil.Error, sqlite3.Error) as error:
        found = Finding("not checked", str(error).splitlines()[0])
    return found.status, found.found, found.fix


# -- files ---------------------------------------------------------------------------------------------------------


def closed(places: Iterable[Path], root: Path, *, strict: bool = False) -> Finding:
    """Fail when other accounts have a right to a file that holds something; warn when only to a folder.

    Parameters
    ----------
    places : files and folders; what is absent is left out. Empty files and a README.md hold nothing of a customer.
    root : paths below it are said relative to it.
    strict : a folder open to others fails too.
    """
    there = [place for place in places if place.exists()]
    if not there:
        return Finding("not checked", "nothing is there yet", "fraudlab ingest")
    files, folders, seen = [], [], 0
    for path in (found for place in there for found in (place, *sorted(place.rglob("*")))):
        facts = path.lstat()
        seen += 1
        if stat.S_ISLNK(facts.st_mode) or not facts.st_mode & 0o077:
            continue
        if path.is_dir():
            folders.append(path)
        elif facts.st_size and path.name != "README.md":
            files.append(path)
    if not files and not folders:
        return Finding("ok", f"{seen:,} files and folders, none open to other accounts")
    shown = [_near(path, root) for path in [*files, *folders][:_SHOWN]]
    said = f"open to other accounts: {len(files):,} files, {len(folders):,} folders ({_some(shown, files, folders)})"
    # A database's side files come and go, with its rights.
    named = [_near(place, root) + "*" * place.is_file() for place in there if not place.name.endswith(_SIDE_FILES)]
    fix = f"chmod -R go= {' '.join(named)}"
    return Finding("fail" if files or strict else "warn", said, fix)


def mask(umask: int) -> Finding:
    """Warn when files that other programs write are open to other accounts."""
    if umask & 0o077 == 0o077:
        return Finding("ok", f"umask {umask:03o}")
    return Finding("warn", f"umask {umask:03o}: what an editor or a notebook writes is open to others", "umask 077")


def apart(workspace: Workspace, where: str) -> Finding:
    """Warn when one folder, so one account and one copy, holds the keys and what they open.

    `where` is what FRAUDLAB_KEYS says.
    """
    if re.match(r"(unix|vault):", where):
        return Finding("ok", "the keys are kept by a key server")
    keys, data = workspace.keys.resolve(), workspace.root.resolve()
    fix = "fraudlab keys serve --help"
    if keys.is_relative_to(data):
        return Finding("warn", "keys and data lie in one folder tree: whoever copies it has both", fix)
    if keys.exists() and workspace.vault.exists() and keys.stat().st_uid == workspace.vault.stat().st_uid:
        said = "keys and data lie apart and belong to one account: least privilege is not real"
        return Finding("warn", said, fix)
    return Finding("ok", "the keys lie in a folder of their own")


def room(workspace: Workspace) -> Finding:
    """Fail when the largest data set cannot be written beside itself, warn when the whole vault cannot."""
    if not workspace.vault.exists():
        return Finding("not checked", "the vault is empty", "fraudlab ingest")
    sizes = [_size(folder) for folder in workspace.vault.iterdir() if folder.is_dir()]
    free = shutil.disk_usage(workspace.vault).free
    said = f"{free / 1e9:,.1f} GB free; the vault holds {sum(sizes) / 1e9:,.3f} GB"
    if free < max(sizes, default=0):
        return Finding("fail", f"{said}; rotation and ingest would fail", "df -h data")
    return Finding("warn" if free < 2 * sum(sizes) else "ok", said, "df -h data" if free < 2 * sum(sizes) else "")


def in_git(tracked: list[str] | None) -> Finding:
    """Fail when git keeps files from where keys, data, runs, models and reports lie; None: no git here."""
    if tracked is None:
        return Finding("not checked", "this folder is not under git")
    guilty = [name for name in tracked if not name.endswith("README.md")]
    if not guilty:
        return Finding("ok", "no file of keys, data, runs, models or reports")
    return Finding("fail", f"{len(guilty):,} files ({', '.join(guilty[:_SHOWN])})", f"git rm --cached {guilty[0]}")


# -- keys, log, backup ---------------------------------------------------------------------------------------------


def key_age(held: list[HeldKey], now: pd.Timestamp) -> Finding:
    """Warn when a key that can be rotated is older than a year, or a rotation has stopped half way."""
    if not held:
        return Finding("not checked", "there is no key yet, or none this account may use", "fraudlab ingest")
    retired = [key.name for key in held if key.retired]
    if retired:
        said = f"a rotation of '{retired[0]}' has not ended: the old key still opens data"
        return Finding("warn", said, f"fraudlab keys rotate {retired[0]}")
    ages = {key.name: (now - pd.Timestamp(key.made)).days for key in held if key.name in ROTATABLE}
    old = {name: days for name, days in ages.items() if days > KEY_DAYS}
    if old:
        said = ", ".join(f"'{name}' {days:,} days" for name, days in old.items())
        return Finding("warn", f"older than {KEY_DAYS} days: {said}", f"fraudlab keys rotate {next(iter(old))}")
    return Finding("ok", f"{len(held)} keys; the oldest that is rotated has {max(ages.values(), default=0):,} days")


def audit_chain(workspace: Workspace) -> Finding:
    """Fail when an entry of the audit log was changed, removed or inserted."""
    log = audit_log(workspace)
    if not log.path.exists() and not log.keys.ids("audit"):
        return Finding("not checked", "there is no audit log yet")
    found = log.verify()
    if not found.ok:
        return Finding("fail", found.problems[0], "fraudlab audit verify")
    if found.warnings:
        return Finding("warn", found.warnings[0], "fraudlab audit verify")
    return Finding("ok", f"{found.entries:,} entries, each as it was written")


def audit_anchor(workspace: Workspace, anchor: Path | None) -> Finding:
    """Hold the log against an anchor kept elsewhere: only that shows a cut tail or a rewritten log."""
    log = audit_log(workspace)
    make = "fraudlab audit anchor --out /media/safe/anchor.json"
    if anchor is None:
        if not log.path.exists():
            return Finding("not checked", "there is no audit log yet")
        if not log.keys.ids(SIGN_KEY):
            return Finding("warn", "no anchor was ever made: nobody would notice a cut tail", make)
        return Finding(
            "not checked",
            "an anchor was made and is not named here",
            "fraudlab doctor --anchor /media/safe/anchor.json",
        )
    outside = read_anchor(anchor)
    found = log.verify(outside)
    if not found.ok:
        return Finding("fail", found.problems[0], f"fraudlab audit verify --anchor {anchor}")
    newer = found.entries - int(outside["number"])
    said = f"fits up to entry {outside['number']:,}; {newer:,} newer ones are not covered"
    if anchor.resolve().is_relative_to(workspace.root.resolve()):
        return Finding("warn", f"{said}; it lies beside the log, where both can be replaced", make)
    return Finding("ok", said)


def backup(state: Mapping[str, Any], now: pd.Timestamp) -> Finding:
    """Fail when the last backup does not verify, warn when it is old or was never tried; see `backup_state`."""
    if "created" not in state:
        return Finding("not checked", "no backup has been made", "fraudlab backup create")
    created = pd.Timestamp(state["created"])
    if not state.get("ok", True):
        return Finding("fail", f"the backup of {created:%Y-%m-%d} did not verify", "fraudlab backup create")
    days = (now - created).days
    said = f"made {days:,} days ago"
    if not state.get("verified"):
        return Finding("warn", f"{said}, never verified", "fraudlab backup drill")
    verified = pd.Timestamp(state["verified"])
    said += f", verified {verified:%Y-%m-%d}"
    return Finding("warn", said, "fraudlab backup create") if days > BACKUP_DAYS else Finding("ok", said)


# -- settings and servers ------------------------------------------------------------------------------------------


def telemetry(environment: Mapping[str, str]) -> Finding:
    """Fail when MLflow's usage reports are switched on, warn when they are merely not switched off."""
    return _switch(environment, "MLFLOW_DISABLE_TELEMETRY", wanted="true", danger="MLflow reports usage to its makers")


def pickles(environment: Mapping[str, str]) -> Finding:
    """Fail when MLflow may load pickled models, which run code; warn when it is merely not forbidden."""
    name = "MLFLOW_ALLOW_PICKLE_DESERIALIZATION"
    return _switch(environment, name, wanted="false", danger="a model file can run code when it is loaded")


def _switch(environment: Mapping[str, str], name: str, *, wanted: str, danger: str) -> Finding:
    value = environment.get(name)
    fix = f"export {name}={wanted}"
    if value is None:
        return Finding("warn", f"{name} is not set: fraudlab sets it for itself, other programs do not", fix)
    if value.strip().lower() in {"true": ("true", "1"), "false": ("false", "0")}[wanted]:
        return Finding("ok", f"{name}={wanted}")
    return Finding("fail", f"{name}={value}: {danger}", fix)


def certificates(found: Mapping[str, bytes], now: pd.Timestamp) -> Finding:
    """Fail when a TLS certificate (PEM, by file name) is out of date, warn when it soon will be."""
    if not found:
        return Finding("not checked", "there is no TLS certificate; servers on this machine only need none")
    ends = {}
    for name, pem in found.items():
        try:
            ends[name] = pd.Timestamp(x509.load_pem_x509_certificate(pem).not_valid_after_utc)
        except ValueError:
            return Finding("fail", f"{name} is no certificate", f"openssl x509 -in {name} -noout -enddate")
    name = min(ends, key=ends.__getitem__)
    days = (ends[name] - now).days
    if days < 0:
        return Finding("fail", f"{name} ended {ends[name]:%Y-%m-%d}", f"openssl x509 -in {name} -noout -enddate")
    status: Status = "warn" if days < CERTIFICATE_DAYS else "ok"
    fix = f"openssl x509 -in {name} -noout -enddate" if status == "warn" else ""
    return Finding(status, f"{name} ends in {days:,} days ({len(ends)} in all)", fix)


def listeners(sockets: Iterable[Listener]) -> Finding:
    """Fail when one of our servers, or anything on our ports, can be reached from outside this machine."""
    ours = [each for each in sockets if each.port in PORTS or any(name in each.command for name in SERVERS)]
    open_ = [each for each in ours if not ipaddress.ip_address(each.address.partition("%")[0]).is_loopback]
    if not open_:
        return Finding("ok", f"{len(ours)} servers of ours, all on this machine only")
    said = ", ".join(f"port {each.port} on {each.address}" for each in open_[:_SHOWN])
    return Finding(
        "fail",
        f"{len(open_)} can be reached from outside: {said}",
        "end it, then start it with: fraudlab lab (or fraudlab ui)",
    )


def hanging(running: list[str] | None) -> Finding:
    """Warn when a run is RUNNING in MLflow and its process is gone; `running` holds the runs' launcher tags."""
    if running is None:
        return Finding("not checked", "there is no MLflow database yet")
    here = [tag for tag in running if tag.partition(" ")[0] == socket.gethostname()]
    gone = [tag for tag in here if _is_gone(tag)]
    if gone:
        said = f"{len(gone)} of {len(running)} running runs have no process; the next retraining ends them"
        return Finding("warn", said, "fraudlab retrain")
    other = f"; {len(running) - len(here)} of another machine cannot be judged" if len(here) < len(running) else ""
    return Finding("ok", f"{len(running)} running runs, none without its process{other}")


def registry(workspace: Workspace, passwords: Path) -> Finding:
    """Warn when a team's database is reached over TLS that takes any server, or others can read its password.

    `passwords` is the file that PostgreSQL's client takes the password from; it passes over one that others can read.
    """
    settings = settings_of(workspace)
    if settings is None:
        return Finding("ok", "kept in this project's folder")
    said = f"database {settings.shown}, files in {settings.artifacts}"
    if passwords.is_file() and passwords.stat().st_mode & 0o077:
        return Finding("fail", f"{said}; others can read the password file", f"chmod 600 {passwords}")
    if not settings.is_here and (mode := settings.tls) != "verify-full":
        fix = f"in {SETTINGS}: sslmode=verify-full; PGSSLROOTCERT names the authority's certificate"
        return Finding("warn", f"{said}; sslmode {mode} encrypts, and believes any server that calls itself so", fix)
    return Finding("ok", said)


def core_dumps(limit: int) -> Finding:
    """Warn when a crash may write a process's memory, keys and customers in it, to the disk."""
    if limit == 0:
        return Finding("ok", "core dumps are off")
    return Finding("warn", "a crashed process may leave its memory, keys and all, on the disk", "ulimit -c 0")


def swap(size: int, system: str) -> Finding:
    """Warn when memory may be moved to a disk that need not be encrypted; macOS encrypts its own."""
    if size == 0:
        return Finding("ok", "no swap")
    if system == "darwin":
        return Finding("ok", "swap is encrypted by the system")
    said = f"{size / 1e9:,.1f} GB of swap; whether it is encrypted cannot be told from here"
    return Finding("warn", said, "swapon --show; then: sudo swapoff -a, or put swap on an encrypted disk")


# -- packages ------------------------------------------------------------------------------------------------------


def locked(lock: Path) -> dict[str, str]:
    """Return {package: version} that a lock wants on this machine, names in canonical form; nothing without a lock.

    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp()) / "requirements.lock"
    >>> _ = file.write_text("Foo.Bar==1.2 ; python_version >= '3'\\nold==1 ; python_version < '3'\\n")
    >>> locked(file)
    {'foo-bar': '1.2'}
    """
    wanted = {}
    for line in lock.read_text(encoding="utf-8").splitlines() if lock.is_file() else []:
        if found := re.match(r"([A-Za-z0-9._-]+)==([^\s;\\]+)\s*(?:;\s*([^\\]+))?", line):
            name, version, marker = found.groups()
            if marker is None or Marker(marker.strip()).evaluate():
                wanted[canonicalize_name(name)] = version
    return wanted


def packages(wanted: Mapping[str, str], installed: Mapping[str, str]) -> Finding:
    """Fail when an installed package is of another version than the lock's, warn when one is missing or extra."""
    if not wanted:
        return Finding("not checked", "no requirements.lock is here, or it names no package for this machine")
    other = [
        f"{name} {installed[name]} instead of {version}"
        for name, version in wanted.items()
        if installed.get(name, version) != version
    ]
    missing, extra = [sorted(a.keys() - b.keys()) for a, b in ((wanted, installed), (installed, wanted))]
    said = [
        f"{len(names)} {what}: {', '.join(names[:_SHOWN])}{' ...' if len(names) > _SHOWN else ''}"
        for what, names in (("of another version", other), ("missing", missing), ("not in the lock", extra))
        if names
    ]
    if said:
        return Finding("fail" if other else "warn", "; ".join(said), "make clean setup")
    return Finding("ok", f"{len(wanted)} packages, each of the locked version")


def weaknesses(answer: Mapping[str, Any] | None, online: bool) -> Finding:
    """Fail when pip-audit knows a weakness; whatever it skipped or could not ask is "not audited".

    `answer` is pip-audit's JSON, None where there is none: without a network it skips everything and still succeeds.
    """
    ask = "fraudlab doctor --online"
    if answer is None:
        why = "pip-audit is absent or got no answer" if online else "it needs the network"
        return Finding("not checked", f"not audited: {why}", "python -m pip install pip-audit" if online else ask)
    told = answer.get("dependencies", [])
    weak = [f"{one['name']} {one['version']}: {one['vulns'][0]['id']}" for one in told if one.get("vulns")]
    if weak:
        return Finding("fail", f"{len(weak)} packages with known weaknesses: {', '.join(weak[:_SHOWN])}", "make lock")
    skipped = [one["name"] for one in told if "vulns" not in one]
    if skipped or not told:
        return Finding("not checked", f"not audited: {len(skipped)} of {len(told)} packages were skipped", ask)
    return Finding("ok", f"{len(told)} packages, no known weakness")


# -- looking -------------------------------------------------------------------------------------------------------


def _umask() -> int:
    # There is no way to read it but to set it.
    found = os.umask(0o077)
    os.umask(found)
    return found


def _with_side_files(database: Path) -> list[Path]:
    return [database, *(database.with_name(database.name + end) for end in _SIDE_FILES)]


def _near(path: Path, root: Path) -> str:
    return str(path.relative_to(root)) if path.is_relative_to(root) else str(path)


def _some(shown: list[str], *lists: list[Path]) -> str:
    return ", ".join(shown) + (" ..." if sum(map(len, lists)) > len(shown) else "")


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _key_folders(workspace: Workspace) -> list[Path]:
    """Return where keys, and what is kept as closely, may lie: FRAUDLAB_KEYS may name a server instead of a folder."""
    return list(dict.fromkeys([workspace.keys, workspace.root / ".keys"]))


def _certificates(workspace: Workspace) -> dict[str, bytes]:
    """Return the certificates that `fraudlab lab --https` and the like left beside the keys."""
    found = [path for folder in _key_folders(workspace) for path in sorted(folder.glob("*cert*.pem"))]
    return {_near(path, workspace.root): path.read_bytes() for path in found}


def _listeners() -> list[Listener]:
    found = []
    for each in psutil.net_connections(kind="inet"):
        if each.status == psutil.CONN_LISTEN:
            command = ""
            with contextlib.suppress(psutil.Error):
                command = " ".join(psutil.Process(each.pid).cmdline()) if each.pid else ""
            found.append(Listener(each.laddr.ip, each.laddr.port, command))
    return found


def _installed() -> dict[str, str]:
    names = {each.metadata["Name"]: each.version for each in importlib.metadata.distributions()}
    # The tools of an environment itself, and this package, are in no lock.
    left_out = {"fraudlab", "pip", "setuptools", "wheel"}
    return {
        name: version
        for given, version in names.items()
        if given and (name := canonicalize_name(given)) not in left_out
    }


def _pip_audit(lock: Path) -> dict[str, Any] | None:
    """Return what pip-audit says of the lock, or None where it is absent, fails or gets no answer."""
    if importlib.util.find_spec("pip_audit") is None:
        return None
    command = [sys.executable, "-m", "pip_audit", "--require-hashes", "--disable-pip", "-r", str(lock), "-f", "json"]
    with contextlib.suppress(subprocess.TimeoutExpired, ValueError):
        return json.loads(subprocess.run(command, capture_output=True, text=True, timeout=300).stdout)
    return None


def _running(workspace: Workspace) -> list[str] | None:
    """Return the launchers of the runs that MLflow calls RUNNING; opening the store would make or heal it."""
    query = (
        "SELECT coalesce(tags.value, '') FROM runs LEFT JOIN tags ON tags.run_uuid = runs.run_uuid "
        "AND tags.key = 'fraudlab.launcher' WHERE runs.status = 'RUNNING' AND runs.lifecycle_stage = 'active'"
    )
    if (settings := settings_of(workspace)) is not None:
        with connected(settings) as connection:
            return [launcher for (launcher,) in connection.execute(query)]
    database = workspace.mlruns / "mlflow.db"
    if not database.is_file():
        return None
    with contextlib.closing(sqlite3.connect(f"{database.resolve().as_uri()}?mode=ro", uri=True)) as connection:
        return [launcher for (launcher,) in connection.execute(query)]


def _password_file() -> Path:
    return Path(os.environ.get("PGPASSFILE") or Path.home() / ".pgpass")


def _is_gone(launcher: str) -> bool:
    """Return whether the process "host number start" of this machine has ended, its number perhaps given anew."""
    _, number, started = launcher.split(" ")
    try:
        found = psutil.Process(int(number))
        return found.status() == psutil.STATUS_ZOMBIE or abs(found.create_time() - float(started)) > 1
    except psutil.NoSuchProcess:
        return True


def _tracked(workspace: Workspace) -> list[str] | None:
    """Return what git keeps of the folders that hold keys, data, runs, models and reports; None without git."""
    places = (workspace.keys, workspace.vault.parent, workspace.runs, workspace.mlruns, workspace.reports)
    inside = [_near(place, workspace.root) for place in places if place.is_relative_to(workspace.root)]
    command = ["git", "-C", str(workspace.root), "ls-files", "-z", "--", *inside]
    try:
        listed = subprocess.run(command, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return [name for name in listed.stdout.split("\0") if name] if listed.returncode == 0 else None
