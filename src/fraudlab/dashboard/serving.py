"""Serve the live page beside a monitor: a small server of its own in a thread, shut to strangers like the service."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fraudlab.scoring.rest import Pages, Server


@contextmanager
def served(
    pages: Pages,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    token: str | None = None,
    certificate: tuple[Path, Path] | None = None,
) -> Iterator[str]:
    """Serve pages while the block runs; gives their address.

    Parameters
    ----------
    pages : from `pages_of`.
    host, port, token, certificate : as for `Server`, which refuses an address beyond this machine without both.

    Raises
    ------
    InputError : as `Server`.
    """
    server = Server(None, pages=pages, host=host, port=port, token=token, certificate=certificate)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.2}, daemon=True)
    thread.start()
    try:
        yield f"{'https' if certificate else 'http'}://{host}:{server.server_address[1]}/"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
