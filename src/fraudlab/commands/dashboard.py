"""What `fraudlab monitor` and `fraudlab serve` share: the live page, and who may ask for it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from fraudlab.config import Workspace
    from fraudlab.scoring.figures import Figures
    from fraudlab.scoring.live import Live
    from fraudlab.scoring.rest import Pages

DashboardOption = Annotated[
    bool, typer.Option("--dashboard", help="Show a live page in the browser, and tell Prometheus at /metrics.")
]
TokenOption = Annotated[
    Path | None, typer.Option(help="File that holds the token; default: FRAUDLAB_TOKEN of the environment.")
]
CertOption = Annotated[Path | None, typer.Option(help="Speak TLS, with this certificate (PEM); needs --keyfile.")]
KeyOption = Annotated[Path | None, typer.Option(help="The private key of --certfile (PEM).")]


def guarded(
    host: str, token_file: Path | None, certfile: Path | None, keyfile: Path | None
) -> tuple[str | None, tuple[Path, Path] | None]:
    """Return the token and the certificate with its key, or refuse what must not be served.

    Raises
    ------
    InputError : one of certificate and key is missing; the host is not this machine alone and token or TLS is lacking.
    """
    import os

    from fraudlab.schema import InputError
    from fraudlab.scoring.rest import Server

    if (certfile is None) != (keyfile is None):
        raise InputError("--certfile and --keyfile: must be given together; found one; add the other")
    token = token_file.read_text().strip() if token_file else os.environ.get("FRAUDLAB_TOKEN") or None
    pair = (certfile, keyfile) if certfile and keyfile else None
    Server.check(host, token, pair)
    return token, pair


def live_pages(workspace: Workspace, live: Live, figures: Figures, lang: str) -> Pages:
    """Return the pages of a scorer at work; that they are shown is entered in the audit log."""
    import sys
    import time

    from fraudlab import monitoring
    from fraudlab.dashboard import AtWork, pages_of
    from fraudlab.privacy.auditlog import audit_log

    model = live.model
    audit_log(workspace).append(
        "export", what="live page", dataset=model.dataset, model=model.name, model_version=model.version
    )
    sys.setswitchinterval(0.001)  # a payment waits for a page that is being written for a millisecond, not for five
    report = lambda: monitoring.newest(workspace, model.name, model.version)  # noqa: E731
    return pages_of(AtWork(live, figures, report), clock=time.time, lang=lang)
