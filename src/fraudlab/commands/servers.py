"""`fraudlab lab` and `fraudlab ui`: JupyterLab and MLflow for this person on this machine, with a password or token."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from fraudlab.commands.reidentify import typed
from fraudlab.commands.shared import workspace_of

PasswordOption = Annotated[
    bool, typer.Option("--password", help="Ask for a password of your own, for this start; else one is made.")
]
HttpsOption = Annotated[
    bool, typer.Option("--https", help="Encrypt, with a certificate made here for localhost and 127.0.0.1.")
]
CertOption = Annotated[
    Path | None, typer.Option("--certfile", help="Encrypt, with your own certificate (PEM); needs --keyfile.")
]
KeyOption = Annotated[Path | None, typer.Option("--keyfile", help="The private key of --certfile (PEM).")]

SHORTEST_PASSWORD = 12
RENEW_DAYS = 30
_KEY_USAGES = (
    "digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
    "key_cert_sign", "crl_sign", "encipher_only", "decipher_only",
)  # fmt: skip


def lab(
    port: Annotated[int, typer.Option(help="Port on 127.0.0.1.")] = 8888,
    password: PasswordOption = False,
    https: HttpsOption = False,
    certfile: CertOption = None,
    keyfile: KeyOption = None,
    browser: Annotated[bool, typer.Option(help="Open a browser.")] = True,
) -> None:
    """Open JupyterLab on the notebooks, on this machine only, with a token or password.

    Example: fraudlab lab --port 8889 --https
    """
    from importlib.util import find_spec

    from fraudlab.privacy.secondfactor import beside_keys
    from fraudlab.schema import FraudlabError

    os.umask(0o077)
    if find_spec("jupyterlab") is None:
        raise FraudlabError("lab: JupyterLab is not installed; run: pip install 'fraudlab[lab]'")
    workspace = workspace_of()
    private = beside_keys(workspace)
    pair = _certificate(private, https, certfile, keyfile)
    command = [
        sys.executable, "-m", "jupyterlab", f"--ServerApp.root_dir={workspace.root}", "--ServerApp.ip=127.0.0.1",
        f"--ServerApp.port={port}", "--LabApp.default_url=/lab/tree/notebooks/01_ingest.ipynb",
        # Only under the names of this machine, only for who is logged in, only from its own pages.
        "--ServerApp.allow_remote_access=False", "--ServerApp.allow_unauthenticated_access=False",
        "--ServerApp.disable_check_xsrf=False", "--ServerApp.allow_origin=", "--ServerApp.allow_origin_pat=",
        # Likely identifiers in outputs do not reach the disk.
        "--ContentsManager.pre_save_hook=fraudlab.jupyter_hook.mask_outputs",
        # Kernels talk over Unix sockets, readable by their owner only, instead of plain TCP.
        "--KernelManager.transport=ipc",
        # Nothing is fetched from outside: no news, no look for updates, no further extensions.
        "--LabApp.news_url=None", "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
        "--LabApp.extension_manager=readonly",
    ]  # fmt: skip
    if pair is not None:
        command += [f"--ServerApp.certfile={pair[0]}", f"--ServerApp.keyfile={pair[1]}"]
    if not browser:
        command.append("--no-browser")
    environment = {
        # Settings of the account, such as an empty token, do not hold here.
        "JUPYTER_CONFIG_DIR": str(_jupyter_settings(private / "jupyter", _new_password() if password else None)),
        # Two extensions lack a mark on their web sockets, for which the server then asks for the login itself.
        "PYTHONWARNINGS": "ignore:Extension endpoints without",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
        "OMP_WAIT_POLICY": "PASSIVE",
    }
    _become(command, environment)


def ui(
    port: Annotated[int, typer.Option(help="Port on 127.0.0.1.")] = 5000,
    password: PasswordOption = False,
    https: HttpsOption = False,
    certfile: CertOption = None,
    keyfile: KeyOption = None,
) -> None:
    """Open MLflow on this project's own runs and models (a plain `mlflow ui` would open another database).

    On this machine only; the browser asks for the user and password printed here.

    Example: fraudlab ui --port 5001 --https
    """
    import secrets

    from fraudlab import tracking
    from fraudlab.privacy.secondfactor import beside_keys

    os.umask(0o077)
    workspace = workspace_of()
    pair = _certificate(beside_keys(workspace), https, certfile, keyfile)
    chosen = _new_password() if password else None
    made = secrets.token_urlsafe(24)
    tracking.open_store(workspace)
    command, environment = tracking.ui_command(workspace, port=port, password=chosen or made, certificate=pair)
    typer.echo(f"MLflow: {'http' if pair is None else 'https'}://127.0.0.1:{port}   (Ctrl+C ends it)")
    typer.echo(f"user fraudlab, password {'as you chose' if chosen else made}")
    _become(command, environment)


def _become(command: list[str], environment: dict[str, str]) -> None:
    """Turn this process into the server."""
    os.execvpe(command[0], command, os.environ | environment)


def _new_password() -> str:
    from fraudlab.schema import InputError

    password = typed("New password")
    if len(password) < SHORTEST_PASSWORD:
        raise InputError(
            f"password: must have at least {SHORTEST_PASSWORD} characters; found {len(password)}; take some words"
        )
    if typed("The same again") != password:
        raise InputError("password: the two must be equal; found different ones; start again")
    return password


def _jupyter_settings(folder: Path, password: str | None) -> Path:
    """Write Jupyter's settings of this start: the password's argon2 hash, else none, so that a token is made."""
    import json

    from fraudlab.privacy.keys import replace_private

    held: dict[str, Any] = {}
    if password is not None:
        from jupyter_server.auth import passwd

        held = {"PasswordIdentityProvider": {"hashed_password": passwd(password, algorithm="argon2")}}
    replace_private(folder / "jupyter_server_config.json", json.dumps(held).encode())
    return folder


def _certificate(folder: Path, https: bool, certfile: Path | None, keyfile: Path | None) -> tuple[Path, Path] | None:
    """Return the files of a certificate and its key: those given, those made here, or None for plain HTTP."""
    from fraudlab.schema import InputError

    if (certfile is None) != (keyfile is None):
        raise InputError("--certfile and --keyfile: must be given together; found one; add the other, or take --https")
    if certfile is not None and keyfile is not None:
        if not _fit(certfile, keyfile):
            raise InputError(
                f"--certfile: must be a PEM certificate whose private key, without a passphrase, is --keyfile; found "
                f"others in {certfile} and {keyfile}; correct them, or take --https"
            )
        return certfile.resolve(), keyfile.resolve()
    if not https:
        return None
    pair = folder / "localhost-cert.pem", folder / "localhost-key.pem"
    if not _lasting(*pair):
        from fraudlab.privacy.keys import replace_private

        certificate, key = _self_signed()
        replace_private(pair[1], key)
        replace_private(pair[0], certificate)
    typer.echo(f"certificate: {pair[0]} (let your browser trust it once; it is for this machine only)")
    return pair


def _fit(certfile: Path, keyfile: Path) -> bool:
    import ssl

    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certfile, keyfile, password=lambda: "")
    except (OSError, ValueError):
        return False
    return True


def _lasting(certfile: Path, keyfile: Path) -> bool:
    """Return whether a certificate made earlier is whole and holds for some time yet."""
    import datetime as dt

    from cryptography import x509

    if not _fit(certfile, keyfile):
        return False
    ends = x509.load_pem_x509_certificate(certfile.read_bytes()).not_valid_after_utc
    return ends > dt.datetime.now(dt.UTC) + dt.timedelta(days=RENEW_DAYS)


def _self_signed() -> tuple[bytes, bytes]:
    """Return a certificate for localhost and 127.0.0.1, good for a year, and its key, as PEM (RFC 5280).

    It is no authority: whoever steals the key can pose as this machine's localhost and as nothing else.
    """
    import datetime as dt
    import ipaddress

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "fraudlab on localhost")])
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    usage = {name: name == "digital_signature" for name in _KEY_USAGES}
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(minutes=5))
        .not_valid_after(now + dt.timedelta(days=365))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.KeyUsage(**usage), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return certificate.public_bytes(serialization.Encoding.PEM), private
