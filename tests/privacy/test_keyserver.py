"""The key server and HashiCorp Vault: keys are used, not handed out, and only by whom they are meant for."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import pickle
import signal
import socket
import stat
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from fraudlab.config import Workspace
from fraudlab.privacy.keys import KeyDirectory, KeyUnavailableError, ParquetCipher, open_folder, open_keys
from fraudlab.privacy.keyserver import KeyClient, parse_grants
from fraudlab.privacy.rotation import rotate
from fraudlab.privacy.treatments import pseudonymise
from fraudlab.privacy.vault import Vault
from fraudlab.schema import InputError

NOBODY = 65534
as_root = pytest.mark.skipif(os.getuid() != 0, reason="another account can only be taken on by root")
FEATURES = pd.DataFrame(
    {"customer_id": pd.Series(["c0", "c1"] * 20, dtype="str"), "amount": [i / 4 for i in range(40)]}
)
IDENTITY = pd.DataFrame({"customer_id": ["c0"], "raw_name": ["Rosalind Appleby"]}).astype("str")
PARTS = [(month, {"features": FEATURES, "identity": IDENTITY}) for month in ("2026-01", "2026-02", "2026-03")]


class Server:
    """A key server in a process of its own, as the command starts it."""

    def __init__(self, *allow: str) -> None:
        # Not below pytest's folder, which other accounts may not enter.
        self.folder = Path(tempfile.mkdtemp(prefix="fraudlab-keys-"))
        self.folder.chmod(0o755)
        self.keys, self.path, self.log = (
            self.folder / "keys",
            self.folder / "keys.sock",
            self.folder / "keys" / "served.jsonl",
        )
        command = [sys.executable, "-m", "fraudlab.cli", "keys", "serve", "--socket", str(self.path)]
        self.process = subprocess.Popen(
            [*command, *(word for each in allow for word in ("--allow", each))],
            env=os.environ | {"FRAUDLAB_HOME": str(self.folder), "FRAUDLAB_KEYS": str(self.keys)},
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline().startswith("Serving.")

    def logged(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.read_text().splitlines()] if self.log.exists() else []

    def end(self) -> None:
        import shutil

        self.process.terminate()
        self.process.wait(10)
        self.process.stdout.close()
        shutil.rmtree(self.folder)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    started = Server(f"{NOBODY}:features,manifest")
    yield started
    started.end()


@pytest.fixture
def vault(server: Server) -> Vault:
    held = Vault(server.folder / "vault", KeyClient(server.path))
    held.write("demo", PARTS, {})
    return held


def as_nobody(work: Callable[[], Any]) -> Any:
    """Return what `work` returns or raises in a process of the account 'nobody'."""
    out, into = os.pipe()
    child = os.fork()
    if child == 0:
        signal.alarm(30)
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
        try:
            result = work()
        except BaseException as error:
            result = error
        os.write(into, pickle.dumps(result))
        os._exit(0)
    os.close(into)
    with os.fdopen(out, "rb") as file:
        data = file.read()
    os.waitpid(child, 0)
    return pickle.loads(data)


def test_a_vault_works_through_the_server_and_no_key_comes_with_it(server: Server, vault: Vault) -> None:
    everything = pd.concat([FEATURES] * 3, ignore_index=True)
    pd.testing.assert_frame_equal(vault.read("demo"), everything)
    folder = KeyDirectory(server.keys)
    assert vault.keys.key_ids() == folder.key_ids()
    assert set(folder.key_ids()) >= {"features", "identity", "manifest"}
    pd.testing.assert_frame_equal(Vault(vault.root, folder).read("demo"), everything)
    assert not hasattr(vault.keys, "key")
    secret = os.urandom(32)
    assert vault.keys.unwrap("features", folder.wrap("features", secret)) == secret
    assert folder.unwrap("features", vault.keys.wrap("features", secret)) == secret
    message = b"x" * 3_000_000
    assert vault.keys.hmac("manifest", message) == hmac.digest(folder.key("manifest"), message, "sha256")


def test_pseudonyms_are_the_same_and_ask_once(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    from functools import partial

    asked, real = [], KeyClient._ask
    monkeypatch.setattr(KeyClient, "_ask", lambda self, do, **what: asked.append(do) or real(self, do, **what))
    values = pd.Series([f"customer {i}" for i in range(5000)], dtype="str")
    codes = pseudonymise(values, partial(KeyClient(server.path).hmac, "pseudonym"), "customer_id")
    assert asked == ["hmac"]
    pd.testing.assert_series_equal(
        codes, pseudonymise(values, KeyDirectory(server.keys).key("pseudonym"), "customer_id")
    )


def test_every_unwrap_is_written_down_and_no_secret_with_it(server: Server, vault: Vault) -> None:
    before = len(server.logged())
    vault.read("demo")
    vault.read("demo", "identity")
    lines = server.logged()[before:]
    assert [(line["do"], line["key"], line["files"], line["allowed"]) for line in lines] == [
        ("unwrap", "features", 3, True),
        ("unwrap", "identity", 3, True),
    ]
    assert {(line["uid"], line["pid"]) for line in lines} == {(os.getuid(), os.getpid())}
    assert abs(pd.Timestamp(lines[0]["time"]) - pd.Timestamp.now("UTC")) < pd.Timedelta(minutes=1)
    assert stat.S_IMODE(server.log.stat().st_mode) == 0o600
    written = server.log.read_bytes()
    for key in KeyDirectory(server.keys).files().values():
        for form in (key.read_bytes(), base64.b64encode(key.read_bytes()), key.read_bytes().hex().encode()):
            assert form not in written


@as_root
def test_identity_is_unreadable_for_an_analyst_who_may_only_use_features_and_manifest(
    server: Server, vault: Vault
) -> None:
    for path in [vault.root, *vault.root.rglob("*")]:
        os.chown(path, NOBODY, NOBODY)  # the analyst has all the files, and the server keeps the keys
    identity = next(vault.root.rglob("identity.parquet"))

    def pandas() -> pd.DataFrame:
        return vault.read("demo", "identity")

    def pyarrow() -> object:
        return pq.read_table(identity, decryption_properties=ParquetCipher(vault.keys).decryption(), partitioning=None)

    def key_file() -> bytes:
        return (server.keys / "identity.key").read_bytes()

    assert isinstance(as_nobody(key_file), PermissionError)
    for reader, sentence in (
        (pandas, "its table 'identity' needs the key 'identity'"),
        (pyarrow, "may not use the key 'identity' (it may use: features, manifest); ask the key server's owner"),
    ):
        began = time.monotonic()
        refused = as_nobody(reader)
        assert isinstance(refused, KeyUnavailableError), refused
        assert sentence in str(refused)
        assert time.monotonic() - began < 5
    pd.testing.assert_frame_equal(as_nobody(lambda: vault.read("demo")), pd.concat([FEATURES] * 3, ignore_index=True))
    assert set(as_nobody(vault.keys.key_ids)) == {"features", "manifest"}
    noted = [line for line in server.logged() if line["uid"] == NOBODY]
    assert {(line["do"], line["key"], line["allowed"]) for line in noted} == {
        ("unwrap", "identity", False),
        ("unwrap", "features", True),
    }
    for ask in (
        lambda: vault.keys.wrap("identity", bytes(32)),
        lambda: vault.keys.hmac("pseudonym", b"guess"),
        lambda: vault.keys.make("identity"),
        lambda: vault.keys.begin_rotation("features"),
        lambda: vault.keys.end_rotation("features"),
        lambda: rotate(vault, "features"),
    ):
        refused = as_nobody(ask)
        assert isinstance(refused, KeyUnavailableError)
        assert "key server: account nobody may not use" in str(refused)


@as_root
def test_a_stranger_is_refused_in_a_sentence_and_written_down() -> None:
    server = Server("1:features")
    try:
        keys = KeyClient(server.path)
        for ask in (keys.key_ids, lambda: keys.hmac("features", b"x" * 5_000_000)):
            refused = as_nobody(ask)
            assert isinstance(refused, KeyUnavailableError)
            assert "account nobody may not use any key (it may use: none); ask the key server's owner" in str(refused)
        assert [(line["uid"], line["do"], line["allowed"]) for line in server.logged()] == [
            (NOBODY, "connect", False)
        ] * 2
    finally:
        server.end()


@as_root
def test_an_account_that_may_rotate_does() -> None:
    server = Server(f"{NOBODY}:features,identity,manifest,rotate")
    try:
        vault = Vault(server.folder / "vault", KeyClient(server.path))
        vault.write("demo", PARTS, {})
        for path in [vault.root, *vault.root.rglob("*")]:
            os.chown(path, NOBODY, NOBODY)
        old = KeyDirectory(server.keys).key("features")
        done = as_nobody(lambda: rotate(vault, "features"))
        assert done["data_sets"] == ["demo"]
        assert KeyDirectory(server.keys).key("features") != old
        assert not (server.keys / "features.retired").exists()
        assert len(vault.read("demo")) == 120
        assert [line["do"] for line in server.logged() if "rotation" in line["do"]] == [
            "begin_rotation",
            "end_rotation",
        ]
    finally:
        server.end()


def test_a_server_that_is_gone_or_hangs_is_said_within_five_seconds(
    server: Server, vault: Vault, tmp_path: Path
) -> None:
    hung = socket.socket(socket.AF_UNIX)
    hung.bind(str(tmp_path / "hung.sock"))
    hung.listen()
    dead = socket.socket(socket.AF_UNIX)
    dead.bind(str(tmp_path / "dead.sock"))
    dead.close()
    file = next(vault.root.rglob("features.parquet"))
    for name, reason in (("none", "no such file or directory"), ("dead", "connection refused"), ("hung", "timed out")):
        keys = KeyClient(tmp_path / f"{name}.sock")
        began = time.monotonic()
        with pytest.raises(
            KeyUnavailableError, match=rf"key server: no answer at .* \({reason}\); start it with `fraudlab"
        ):
            Vault(vault.root, keys).read("demo")
        assert time.monotonic() - began < 5
        if name != "hung":
            with pytest.raises(KeyUnavailableError, match="no answer"):
                pq.read_table(file, decryption_properties=ParquetCipher(keys).decryption(), partitioning=None)
    hung.close()


def test_a_server_killed_and_started_again_takes_its_socket_back(tmp_path: Path) -> None:
    server = Server()
    try:
        os.kill(server.process.pid, signal.SIGKILL)
        server.process.wait()
        assert server.path.exists()
        environment = os.environ | {"FRAUDLAB_HOME": str(server.folder), "FRAUDLAB_KEYS": str(server.keys)}
        command = [sys.executable, "-m", "fraudlab.cli", "keys", "serve", "--socket", str(server.path)]
        with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as again:
            assert again.stdout.readline().startswith("Serving.")
            assert stat.S_IMODE(server.path.stat().st_mode) == 0o600, "nobody else may even knock"
            second = subprocess.run(command, env=environment, capture_output=True, text=True)
            assert second.returncode == 2
            assert "another key server answers at" in second.stderr
            again.terminate()
            assert again.wait(10) == 0
        assert not server.path.exists()
    finally:
        server.end()


def test_nonsense_and_half_messages_harm_nobody_else(server: Server) -> None:
    def say(data: bytes) -> bytes:
        with socket.socket(socket.AF_UNIX) as line:
            line.settimeout(6)
            line.connect(str(server.path))
            line.sendall(data)
            line.shutdown(socket.SHUT_WR)
            return line.recv(4096)

    def framed(message: object) -> bytes:
        data = json.dumps(message).encode()
        return struct.pack(">I", len(data)) + data

    waiting = [socket.socket(socket.AF_UNIX) for _ in range(8)]
    for line in waiting:
        line.connect(str(server.path))
        line.sendall(b"\0\0")
    for data in (b"", b"\0\0\0\x05{", b"\xff\xff\xff\xff", struct.pack(">I", 3) + b"\xff\xfe\xfd", framed([1])):
        assert say(data) == b""
    for message in ({}, {"do": "unwrap"}, {"do": "key", "name": "features"}, {"do": "wrap", "name": "features"},
                    {"do": "unwrap", "name": ["features"], "wrapped": ""}, {"do": "held", "name": "../features"},
                    {"do": "unwrap", "name": "features", "wrapped": "AAAA"}):  # fmt: skip
        assert set(json.loads(say(framed(message))[4:])) >= {"refused"}
    began = time.monotonic()
    assert KeyClient(server.path).make("features")
    assert time.monotonic() - began < 1
    for line in waiting:
        line.close()


def test_where_nothing_can_be_written_down_nothing_is_unwrapped(server: Server, vault: Vault) -> None:
    kept = server.log.with_name("kept")
    if server.log.exists():
        server.log.rename(kept)
    server.log.mkdir()
    with pytest.raises(KeyUnavailableError, match=r"its log or its folder could not be used \(Is a directory\)"):
        vault.read("demo")
    server.log.rmdir()
    assert len(vault.read("demo")) == 120


def test_a_socket_where_others_can_put_theirs_is_not_trusted(server: Server, tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    (tmp_path / "keys.sock").symlink_to(server.path)
    with pytest.raises(
        KeyUnavailableError, match=r"writable for it alone; found owner .*, mode 777; use a folder such"
    ):
        KeyClient(tmp_path / "keys.sock").key_ids()


def test_what_an_account_may_use_is_read_strictly() -> None:
    assert parse_grants(["7:features", "7:manifest,rotate", "root:identity"]) == {
        7: {"features", "manifest", "rotate"},
        0: {"identity"},
    }
    for given, sentence in (
        ("features", r"must look like account:features,manifest; found 'features'"),
        ("7:", "must look like"),
        ("7:../x", "lower-case letters"),
        ("rooot:features", r"no account 'rooot'; did you mean 'root'\?"),
    ):
        with pytest.raises(InputError, match=sentence):
            parse_grants([given])


def test_the_environment_says_where_keys_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace = Workspace(tmp_path)
    monkeypatch.delenv("FRAUDLAB_KEYS", raising=False)
    assert open_keys(workspace) == KeyDirectory(tmp_path / ".keys")
    monkeypatch.setenv("FRAUDLAB_KEYS", str(tmp_path / "else:where"))
    assert open_keys(workspace) == open_folder(workspace) == KeyDirectory(tmp_path / "else:where")
    monkeypatch.setenv("FRAUDLAB_KEYS", "unix:/run/fraudlab/keys.sock")
    assert open_keys(workspace) == KeyClient(Path("/run/fraudlab/keys.sock"))
    with pytest.raises(InputError, match="this step needs the key folder itself, and FRAUDLAB_KEYS names a server"):
        open_folder(workspace)
    monkeypatch.setenv("FRAUDLAB_KEYS", "http://vault")
    with pytest.raises(
        InputError, match=r"must be a folder, unix:/path/to\.sock or vault:https://host/mount; found 'http:"
    ):
        open_keys(workspace)


# HashiCorp Vault


class Transit(BaseHTTPRequestHandler):
    """The documented answers of Vault's transit engine to the requests that are made here."""

    keys: dict[str, dict[str, Any]]
    policy: Callable[[str, str], bool]
    asked: list[str]

    def log_message(self, *arguments: object) -> None:
        pass

    def say(self, code: int, data: dict[str, Any] | None = None, errors: list[str] | None = None) -> None:
        body = b"" if code == 204 else json.dumps({"data": data} if errors is None else {"errors": errors}).encode()
        self.send_response(code)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or b"{}")
        path = self.path.partition("?")[0]
        self.asked.append(f"{self.command} {path}")
        if self.headers.get("X-Vault-Token") != "s.good" or not type(self).policy(self.command, path):
            return self.say(403, errors=["permission denied"])
        if not path.startswith("/v1/fraud/transit/"):
            return self.say(404, errors=["no handler for route"])
        what, *rest = path.removeprefix("/v1/fraud/transit/").split("/")
        if what == "keys" and not rest:
            return self.say(200, {"keys": sorted(self.keys)}) if self.keys else self.say(404, errors=[])
        name, *rest = rest
        key = self.keys.get(name)
        if (self.command, what, rest) == ("POST", "keys", []):
            assert body["type"] == "aes256-gcm96"
            fresh = {"versions": {1: (os.urandom(32), os.urandom(32))}, "latest": 1, "decrypt": 1, "encrypt": 0}
            self.keys.setdefault(name, fresh)
            return self.say(204)
        if key is None:
            return self.say(
                404 if what == "keys" else 400, errors=[] if what == "keys" else ["encryption key not found"]
            )
        if (self.command, what, rest) == ("GET", "keys", []):
            versions = {str(v): 1442851412 + v for v in key["versions"] if v >= key["decrypt"]}
            return self.say(200, {"type": "aes256-gcm96", "keys": versions, "latest_version": key["latest"],
                                  "min_decryption_version": key["decrypt"], "min_encryption_version": key["encrypt"],
                                  "min_available_version": 0, "name": name})  # fmt: skip
        match what, rest:
            case "keys", ["rotate"]:
                key["latest"] += 1
                key["versions"][key["latest"]] = (os.urandom(32), os.urandom(32))
                return self.say(204)
            case "keys", ["config"]:
                changed = {"decrypt": body.get("min_decryption_version", key["decrypt"]),
                           "encrypt": body.get("min_encryption_version", key["encrypt"])}  # fmt: skip
                if changed["encrypt"] and changed["encrypt"] < changed["decrypt"]:
                    return self.say(
                        400, errors=["min encryption version should not be less than min decryption version"]
                    )
                key.update(changed)
                return self.say(204)
            case "keys", ["trim"]:
                least = body["min_available_version"]
                if not key["encrypt"] or least > min(key["decrypt"], key["encrypt"]):
                    return self.say(400, errors=["cannot trim"])
                key["versions"] = {v: k for v, k in key["versions"].items() if v >= least}
                return self.say(204)
            case "encrypt", []:
                nonce, version = os.urandom(12), key["latest"]
                sealed = AESGCM(key["versions"][version][0]).encrypt(nonce, base64.b64decode(body["plaintext"]), None)
                text = base64.b64encode(nonce + sealed).decode()
                return self.say(200, {"ciphertext": f"vault:v{version}:{text}", "key_version": version})
            case "decrypt", []:
                try:
                    _, version, text = body["ciphertext"].split(":")
                    if int(version[1:]) < key["decrypt"]:
                        return self.say(
                            400, errors=["ciphertext or signature version is disallowed by policy (too old)"]
                        )
                    sealed = base64.b64decode(text)
                    plain = AESGCM(key["versions"][int(version[1:])][0]).decrypt(sealed[:12], sealed[12:], None)
                except (InvalidTag, ValueError, KeyError):
                    return self.say(400, errors=["cipher: message authentication failed"])
                return self.say(200, {"plaintext": base64.b64encode(plain).decode()})
            case "hmac", []:
                version = body.get("key_version", key["latest"])
                if version < max(key["encrypt"], key["decrypt"]) or body["algorithm"] != "sha2-256":
                    return self.say(400, errors=["cannot generate HMAC: version is too old (disallowed by policy)"])
                made = hmac.digest(key["versions"][version][1], base64.b64decode(body["input"]), hashlib.sha256)
                return self.say(200, {"hmac": f"vault:v{version}:{base64.b64encode(made).decode()}"})
        return self.say(404, errors=["unsupported path"])

    do_GET = do_POST = do_LIST = do_PUT = do


@pytest.fixture
def transit(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Transit]]:
    pytest.importorskip("hvac")
    handler = type("Fresh", (Transit,), {"keys": {}, "policy": staticmethod(lambda *_: True), "asked": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("FRAUDLAB_KEYS", f"vault:http://127.0.0.1:{server.server_port}/fraud/transit")
    monkeypatch.setenv("VAULT_TOKEN", "s.good")
    yield handler
    server.shutdown()
    server.server_close()


def test_a_vault_stands_on_hashicorp_vault_and_rotates_there(transit: type[Transit], tmp_path: Path) -> None:
    keys = open_keys(Workspace(tmp_path))
    assert keys.key_ids() == {}
    vault = Vault(tmp_path / "vault", keys)
    vault.write("demo", PARTS, {})
    everything = pd.concat([FEATURES] * 3, ignore_index=True)
    pd.testing.assert_frame_equal(vault.read("demo"), everything)
    assert len(set(keys.key_ids().values())) == 3
    wrapped = keys.wrap("features", b"data key")
    for name in ("features", "manifest", "identity", "features"):
        before = keys.key_ids()
        assert rotate(vault, name)["data_sets"] == ["demo"]
        assert {each for each, now in keys.key_ids().items() if now != before[each]} == {name}
        pd.testing.assert_frame_equal(vault.read("demo"), everything)
        assert len(vault.read("demo", "identity")) == 3
    with pytest.raises(KeyUnavailableError, match="made with another key or a retired version, or is damaged"):
        keys.unwrap("features", wrapped)
    assert sorted(transit.keys["features"]["versions"]) == [3], "trimmed for good"
    keys.begin_rotation("manifest")
    pd.testing.assert_frame_equal(vault.read("demo"), everything)
    assert rotate(vault, "manifest")["resumed"]
    pd.testing.assert_frame_equal(vault.read("demo"), everything)
    assert not any(path.suffix == ".key" for path in tmp_path.rglob("*"))


def test_hashicorp_vault_computes_the_digest_and_binds_to_the_name(transit: type[Transit], tmp_path: Path) -> None:
    keys = open_keys(Workspace(tmp_path))
    made = keys.hmac("pseudonym", b"\0 anything")
    assert made == hmac.digest(transit.keys["pseudonym"]["versions"][1][1], b"\0 anything", "sha256")
    keys.make("identity")
    with pytest.raises(KeyUnavailableError, match="key 'identity' does not open this"):
        keys.unwrap("identity", keys.wrap("features", b"data key"))
    assert keys.unwrap("features", keys.wrap("features", b"data key")) == b"data key"
    assert [key.readers.startswith("whom the policies of http://127.0.0.1:") for key in keys.held()] == [True] * 3


def test_hashicorp_vaults_refusals_are_sentences(
    transit: type[Transit], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vault = Vault(tmp_path / "vault", open_keys(Workspace(tmp_path)))
    vault.write("demo", PARTS, {})
    transit.policy = staticmethod(lambda method, path: "identity" not in path)
    assert len(vault.read("demo")) == 120
    with pytest.raises(
        KeyUnavailableError, match="the token may not use key 'identity' like this; ask for a policy on fr"
    ):
        vault.read("demo", "identity")
    monkeypatch.setenv("VAULT_TOKEN", "s.stale")
    with pytest.raises(KeyUnavailableError, match="or renew the token") as refused:
        Vault(vault.root, open_keys(Workspace(tmp_path))).read("demo")
    assert "s.stale" not in str(refused.value)
    hung = socket.create_server(("127.0.0.1", 0))
    port = hung.getsockname()[1]
    monkeypatch.setenv("FRAUDLAB_KEYS", f"vault:http://127.0.0.1:{port}/transit")
    began = time.monotonic()
    with pytest.raises(KeyUnavailableError, match=rf"vault: http://127.0.0.1:{port} does not answer \(ReadTimeout\)"):
        Vault(vault.root, open_keys(Workspace(tmp_path))).read("demo")
    hung.close()
    with pytest.raises(KeyUnavailableError, match="does not answer"):
        Vault(vault.root, open_keys(Workspace(tmp_path))).read("demo")
    assert time.monotonic() - began < 5.5


def test_the_token_comes_from_the_environment_or_a_closed_file(
    transit: type[Transit], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("VAULT_TOKEN")
    file = tmp_path / "token"
    monkeypatch.setenv("VAULT_TOKEN_FILE", str(file))
    with pytest.raises(
        KeyUnavailableError, match="vault: no token; set VAULT_TOKEN, or name its file in VAULT_TOKEN_FILE"
    ):
        open_keys(Workspace(tmp_path))
    file.write_text("s.good\n")
    file.chmod(0o644)
    with pytest.raises(KeyUnavailableError, match="must be closed to other accounts; found mode 644; run: chmod 600"):
        open_keys(Workspace(tmp_path))
    file.chmod(0o600)
    assert open_keys(Workspace(tmp_path)).make("features")
    for address, sentence in (
        ("vault:http://vault.example/transit", "must be asked over https; found 'http'"),
        ("vault:https://vault.example", "must be followed by https://host:8200/mount"),
        ("vault:https://me:secret@vault.example/transit", "with no name, password or query"),
    ):
        monkeypatch.setenv("FRAUDLAB_KEYS", address)
        with pytest.raises(InputError, match=sentence) as refused:
            open_keys(Workspace(tmp_path))
        assert "secret" not in str(refused.value)
