"""Real servers for the team's registry, on this machine only: PostgreSQL, and Ceph's object gateway (S3).

Both are Debian packages (`postgresql`, `ceph-mon ceph-osd radosgw`). Where one is not installed, or its Python client
(the extra `team`) is not, what needs it is skipped with the reason.
"""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import os
import pwd
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import time
import urllib.request
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from fraudlab import tracking_store
from fraudlab.config import ModelConfig
from fraudlab.decisions import Thresholds
from fraudlab.serving import save_package
from fraudlab.tracking_place import TrackingConfig
from fraudlab.training import fit_estimator

ROLES = Path(__file__).resolve().parents[2] / "deploy" / "team" / "roles.sql"
# Every sign that an address or a password file reads otherwise.
PASSWORD = "p@ss:w\\ö/rd %25?#&'x"
ADMIN = "an administrator's"


def tool(name: str) -> str:
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: float(path.parent.name), reverse=True)
    found = shutil.which(name, path=os.pathsep.join([*map(str, versions), os.environ.get("PATH", ""), "/usr/sbin"]))
    if found is None:
        pytest.skip(f"{name} is not installed (deploy/team/README.md names the packages)")
    return found


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def certificate(folder: Path, name: str) -> tuple[Path, Path]:
    """Make a certificate that this machine's own servers show, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    known = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=2))
        .add_extension(x509.SubjectAlternativeName(known), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.crt").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    plain = serialization.NoEncryption()
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    (folder / f"{name}.key").write_bytes(pem)
    (folder / f"{name}.key").chmod(0o600)
    return folder / f"{name}.crt", folder / f"{name}.key"


@dataclass
class Postgres:
    """A running server: `roles.sql` was carried out in the database `template`, whose tables the owner made."""

    folder: Path
    port: int
    passwords: Path
    certificate: Path
    account: dict[str, int]

    def address(self, database: str, role: str = "fraudlab_writer", said: str = "") -> str:
        return f"postgresql://{role}@127.0.0.1:{self.port}/{database}{said}"

    def control(self, *words: str) -> None:
        command = [tool("pg_ctl"), "-D", str(self.folder / "data"), "-s", "-w", "-l", str(self.folder / "log"), *words]
        # A server that inherits a pipe keeps it open.
        subprocess.run(command, check=True, timeout=120, stdin=subprocess.DEVNULL, cwd="/", **self.account)

    def start(self) -> None:
        self.control("start")

    def stop(self) -> None:
        self.control("stop", "-m", "immediate")

    def admin(self, statement: str, database: str = "postgres") -> list[tuple]:
        import psycopg

        where = {"host": "127.0.0.1", "port": self.port, "user": "admin", "password": ADMIN, "dbname": database}
        with psycopg.connect(**where, autocommit=True) as connection:
            done = connection.execute(statement)
            return done.fetchall() if done.description else []

    def database(self, template: str = "template") -> str:
        name = f"db_{uuid.uuid4().hex[:12]}"
        self.admin(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        return name


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    pytest.importorskip("psycopg", reason="the extra `team` is not installed")
    initdb = tool("initdb")
    folder = Path(tempfile.mkdtemp(prefix="fraudlab-postgres-"))
    account: dict[str, int] = {}
    if os.geteuid() == 0:  # PostgreSQL refuses to be root
        with contextlib.suppress(KeyError):
            found = pwd.getpwnam("nobody")
            account = {"user": found.pw_uid, "group": found.pw_gid, "extra_groups": []}
            os.chown(folder, found.pw_uid, found.pw_gid)
    passwords = folder / "pgpass"
    escaped = PASSWORD.replace("\\", "\\\\").replace(":", "\\:")
    passwords.write_text(f"127.0.0.1:*:*:fraudlab_nobody:wrong\n127.0.0.1:*:*:*:{escaped}\nlocalhost:*:*:*:{escaped}\n")
    passwords.chmod(0o600)
    (folder / "admin").write_text(ADMIN)
    crt, key = certificate(folder, "server")
    for path in (crt, key, folder / "admin"):
        os.chown(path, account.get("user", -1), account.get("group", -1))
    server = Postgres(folder, free_port(), passwords, crt, account)
    make = [initdb, "-D", str(folder / "data"), "-U", "admin", f"--pwfile={folder / 'admin'}", "-A", "scram-sha-256"]
    subprocess.run([*make, "-N", "-E", "UTF8"], check=True, capture_output=True, cwd="/", **account)
    with (folder / "data" / "postgresql.conf").open("a") as settings:
        settings.write(
            f"listen_addresses = '127.0.0.1'\nport = {server.port}\nunix_socket_directories = '{folder}'\n"
            f"fsync = off\nssl = on\nssl_cert_file = '{crt}'\nssl_key_file = '{key}'\nshared_buffers = 32MB\n"
            "max_connections = 60\n"
        )
    try:
        server.start()
        for name in ("empty", "template"):
            server.admin(f"CREATE DATABASE {name}")
        server.admin(ROLES.read_text(), "template")
        rights = ROLES.read_text().split("CREATE ROLE fraudlab_reader LOGIN;")[1]
        server.admin(rights, "empty")
        quoted = PASSWORD.replace("'", "''")
        for role in ("owner", "writer", "reader"):
            server.admin(f"ALTER ROLE fraudlab_{role} PASSWORD '{quoted}'")
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("PGPASSFILE", str(passwords))
            settings = TrackingConfig(store=server.address("template", "fraudlab_owner"), artifacts="/nowhere")
            tracking_store._make_tables(settings)
        yield server
    finally:
        with contextlib.suppress(subprocess.CalledProcessError):
            server.stop()
        shutil.rmtree(folder, ignore_errors=True)


@dataclass
class ObjectStore:
    """A running S3-compatible server with one account and the bucket `models`."""

    folder: Path
    port: int
    certificate: Path
    key: str = "FRAUDLABKEY"
    secret: str = "s3cr+t/=x"

    @property
    def endpoint(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    def run(self, name: str, *words: str) -> None:
        setting = [] if name in ("ceph-authtool", "monmaptool") else ["-c", str(self.folder / "ceph.conf")]
        # A server that inherits a pipe keeps it open.
        with (self.folder / "said").open("a") as said:
            command = [tool(name), *setting, *words]
            subprocess.run(command, check=True, stdin=subprocess.DEVNULL, stdout=said, stderr=said, timeout=180)

    def start(self) -> None:
        self.run("radosgw", "-n", "client.rgw")
        until, context = time.monotonic() + 120, ssl.create_default_context(cafile=self.certificate)
        while True:
            try:
                with urllib.request.urlopen(self.endpoint, timeout=5, context=context):
                    return
            except OSError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.5)

    def stop(self, which: str = "client.rgw") -> None:
        for path in self.folder.glob(f"{which}.pid"):
            with contextlib.suppress(ValueError, ProcessLookupError):
                os.kill(int(path.read_text()), signal.SIGKILL)

    def client(self) -> Any:
        import boto3

        keys = {"aws_access_key_id": self.key, "aws_secret_access_key": self.secret}
        return boto3.client("s3", endpoint_url=self.endpoint, verify=str(self.certificate), **keys)

    def names(self, prefix: str = "") -> list[str]:
        pages = self.client().get_paginator("list_objects_v2").paginate(Bucket="models", Prefix=prefix)
        return [found["Key"] for page in pages for found in page.get("Contents", [])]


CEPH = """[global]
fsid = {fsid}
mon host = v2:127.0.0.1:{monitor}/0
public addr = 127.0.0.1
cluster addr = 127.0.0.1
ms bind msgr1 = false
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 1
osd pool default pgp num = 1
osd crush chooseleaf type = 0
osd objectstore = memstore
memstore device bytes = 1073741824
mon allow pool size one = true
mon data avail crit = 1
run dir = {folder}
admin socket = {folder}/$name.asok
pid file = {folder}/$name.pid
log file = {folder}/$name.log
keyring = {folder}/keyring
crash dir = {folder}
[mon]
mon data = {folder}/mon
mon initial members = a
[osd]
osd data = {folder}/osd
[client.rgw]
keyring = {folder}/keyring
rgw data = {folder}/rgw
rgw frontends = beast ssl_endpoint=127.0.0.1:{port} ssl_certificate={folder}/both.pem
rgw thread pool size = 16
"""


@pytest.fixture(scope="session")
def object_store() -> Iterator[ObjectStore]:
    """Ceph's object gateway over a cluster of one monitor and one store in memory."""
    pytest.importorskip("boto3", reason="the extra `team` is not installed")
    for name in ("ceph-authtool", "monmaptool", "ceph-mon", "ceph", "ceph-osd", "radosgw", "radosgw-admin"):
        tool(name)
    folder = Path(tempfile.mkdtemp(prefix="fraudlab-ceph-"))
    monitor, fsid = free_port(), str(uuid.uuid4())
    crt, key = certificate(folder, "gateway")
    store = ObjectStore(folder, free_port(), crt)
    for part in ("mon", "osd", "rgw"):
        (folder / part).mkdir()
    (folder / "both.pem").write_bytes(key.read_bytes() + crt.read_bytes())
    (folder / "ceph.conf").write_text(CEPH.format(fsid=fsid, monitor=monitor, folder=folder, port=store.port))
    keyring, run = str(folder / "keyring"), store.run
    rights = [word for kind in ("mon", "osd", "mgr") for word in ("--cap", kind, "allow *")]
    try:
        run("ceph-authtool", "--create-keyring", keyring, "--gen-key", "-n", "mon.", "--cap", "mon", "allow *")
        for name in ("client.admin", "client.rgw", "osd.0"):
            run("ceph-authtool", keyring, "--gen-key", "-n", name, *rights)
        where = f"[v2:127.0.0.1:{monitor}]"
        run("monmaptool", "--create", "--addv", "a", where, "--fsid", fsid, str(folder / "monmap"))
        run("ceph-mon", "--mkfs", "-i", "a", "--monmap", str(folder / "monmap"), "--keyring", keyring)
        run("ceph-mon", "-i", "a")
        run("ceph", "osd", "create")
        run("ceph-osd", "-i", "0", "--mkfs")
        run("ceph-osd", "-i", "0")
        store.start()
        made = ("--access-key", store.key, "--secret", store.secret)
        run("radosgw-admin", "user", "create", "--uid=fraudlab", "--display-name=fraudlab", *made)
        store.client().create_bucket(Bucket="models")
        yield store
    finally:
        store.stop("*")
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def small_packages(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three packages that score alike and are not the same."""
    X = pd.DataFrame({"amount": np.r_[np.arange(60.0), 900.0, 950.0, 990.0]})
    fitted = fit_estimator(X, X["amount"] > 500, model=ModelConfig(n_estimators=3), seed=0, threads=1)
    words = pd.DataFrame([["amount", "amount", "", "{value} paid", "amount"]])
    words.columns = ["column", "group", "meaning", "template", "kind"]
    folders = [tmp_path_factory.mktemp("small") / "package" for _ in range(3)]
    for number, folder in enumerate(folders):
        save_package(folder, fitted, Thresholds(review=0.5, step_up=0.2), words, {"name": "demo", "number": number})
    return folders


@pytest.fixture
def other_certificate(tmp_path: Path) -> Path:
    """A certificate that no server here shows."""
    return certificate(tmp_path / "certificates", "other")[0]
