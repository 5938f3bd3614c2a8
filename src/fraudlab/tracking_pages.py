"""MLflow's pages behind a password: what `fraudlab ui` serves.

MLflow's own accounts (its `basic-auth`) need a further package and leave some addresses open. Here every address needs
the password, by HTTP Basic authentication (RFC 7617), and a page from elsewhere cannot send requests in its name.
"""

from __future__ import annotations

import base64
import hmac
import os
import sys
from collections.abc import Awaitable, Callable, Collection
from pathlib import Path
from typing import Any

App = Callable[[dict[str, Any], Callable, Callable], Awaitable[None]]

USER = "fraudlab"
PASSWORD = "FRAUDLAB_UI_PASSWORD"
ORIGINS = "FRAUDLAB_UI_ORIGINS"


def pages() -> App:
    """Return MLflow's application behind the password; the server calls this once.

    The environment says what to serve: MLflow's own variables for its store, and `FRAUDLAB_UI_PASSWORD` and
    `FRAUDLAB_UI_ORIGINS` (separated by commas), which are taken out of it.
    """
    from mlflow.server import constants

    # What `mlflow server` does for its workers.
    os.environ[constants.BACKEND_STORE_URI_ENV_VAR] = os.environ["MLFLOW_BACKEND_STORE_URI"]
    os.environ[constants.ARTIFACT_ROOT_ENV_VAR] = os.environ["MLFLOW_DEFAULT_ARTIFACT_ROOT"]
    os.environ[constants.ARTIFACTS_DESTINATION_ENV_VAR] = os.environ["MLFLOW_ARTIFACTS_DESTINATION"]
    os.environ[constants.SERVE_ARTIFACTS_ENV_VAR] = "true"
    from mlflow.server.fastapi_app import app

    return behind_password(app, os.environ.pop(PASSWORD), os.environ.pop(ORIGINS).split(","))


def behind_password(app: App, password: str, origins: Collection[str]) -> App:
    """Return an ASGI application that lets a request through with the password only.

    Refused: no or another password (401); a request that a browser sends for a page of another origin (403), as it
    would add the password by itself.
    """
    expected = b"Basic " + base64.b64encode(f"{USER}:{password}".encode())
    allowed = {None, *(origin.encode() for origin in origins)}

    async def guarded(scope: dict[str, Any], receive: Callable, send: Callable) -> None:
        if scope["type"] != "lifespan":
            headers = dict(scope["headers"])
            if not hmac.compare_digest(headers.get(b"authorization", b""), expected):
                return await _refuse(scope, send, 401, b"The password of `fraudlab ui` is needed")
            if headers.get(b"origin") not in allowed:
                return await _refuse(scope, send, 403, b"Cross-origin request blocked")
        return await app(scope, receive, send)

    return guarded


async def _refuse(scope: dict[str, Any], send: Callable, status: int, text: bytes) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008})
        return
    headers = [(b"content-type", b"text/plain"), (b"cache-control", b"no-store")]
    if status == 401:
        headers.append((b"www-authenticate", b'Basic realm="fraudlab", charset="UTF-8"'))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": text})


def command(
    store: str, artifacts: str, *, port: int, password: str, certificate: tuple[Path, Path] | None = None
) -> tuple[list[str], dict[str, str]]:
    """Return the command line, and what its environment needs, that serves a store's pages.

    They are served on this machine only, behind the password (user `fraudlab`), under no other host name, by one
    process, without background jobs and without telemetry; over HTTPS where a certificate and its key are given.
    """
    line = [
        sys.executable, "-m", "uvicorn", "--factory", "fraudlab.tracking_pages:pages", "--host", "127.0.0.1",
        "--port", str(port), "--log-level", "warning", "--no-proxy-headers", "--no-server-header",
    ]  # fmt: skip
    if certificate is not None:
        line += ["--ssl-certfile", str(certificate[0]), "--ssl-keyfile", str(certificate[1])]
    hosts = [f"{name}:{port}" for name in ("127.0.0.1", "localhost")]
    scheme = "http" if certificate is None else "https"
    environment = {
        "FRAUDLAB_UI_PASSWORD": password,
        "FRAUDLAB_UI_ORIGINS": ",".join(f"{scheme}://{host}" for host in hosts),
        "MLFLOW_BACKEND_STORE_URI": store,
        "MLFLOW_DEFAULT_ARTIFACT_ROOT": artifacts,
        "MLFLOW_ARTIFACTS_DESTINATION": artifacts,
        "MLFLOW_SERVER_ALLOWED_HOSTS": ",".join(hosts),
        "MLFLOW_SERVER_DISABLE_SECURITY_MIDDLEWARE": "false",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    }
    return line, environment
