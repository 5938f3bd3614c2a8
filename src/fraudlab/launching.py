"""What a launcher gives its kernels, and what one that was killed leaves for the next one to remove.

Temporary files of a retraining lie in one folder of the system's, found again by its name; those beside the files that
they become start with a dot. Whoever holds the project's lock may remove both: their owner is dead.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import os
import shutil
import signal
import stat
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from fraudlab.config import Workspace

LOCK = ".lock"
INTERACTIVE_END = "-lab"
"""How the folder of an interactive session ends, which works without the lock."""


@contextlib.contextmanager
def for_kernels(workspace: Workspace) -> Iterator[None]:
    """Give the kernels, which inherit it, this workspace, files for their owner only, a place for temporary files.

    Call it under the project's lock: what a killed retraining left in that place is removed first.
    """
    with _scratch(workspace) as scratch:
        wanted = {
            "FRAUDLAB_HOME": str(workspace.root),
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "OMP_WAIT_POLICY": "PASSIVE",
            "TMPDIR": str(scratch),
            "JUPYTER_RUNTIME_DIR": str(scratch),
        }
        before = {name: os.environ.get(name) for name in wanted}
        umask = os.umask(0o077)
        os.environ.update(wanted)
        tempfile.tempdir = str(scratch)
        try:
            yield
        finally:
            os.umask(umask)
            for name, value in before.items():
                if value is None:
                    os.environ.pop(name)
                else:
                    os.environ[name] = value
            tempfile.tempdir = None  # asked for anew


@contextlib.contextmanager
def _scratch(workspace: Workspace) -> Iterator[Path]:
    """Make a folder for temporary files under a name that the next launcher knows, empty; remove it at the end."""
    digest = hashlib.sha256(str(workspace.root.resolve()).encode()).hexdigest()[:12]
    folder = Path(_place(), f"fraudlab-{os.getuid()}-{digest}")
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        found = folder.lstat()
        if stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o077:
            for left in folder.iterdir():
                _remove(left)
        else:  # somebody else's, in a place where everybody writes
            folder = Path(tempfile.mkdtemp(prefix="fraudlab-", dir=_place()))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _place() -> str:
    """Return the system's folder for temporary files.

    `tempfile` writes a file there to try it, which a kill at that moment leaves behind under no name to find it by.
    """
    named = (os.environ.get(name) for name in ("TMPDIR", "TEMP", "TMP"))
    return next((place for place in (*named, "/tmp") if place and os.path.isdir(place)), None) or tempfile.gettempdir()


def sweep(workspace: Workspace, name: str) -> None:
    """Remove the temporary files that killed launchers left in the runs and among a model's reports; under the lock.

    Parameters
    ----------
    name : the model's; other models' reports may be in the making.
    """
    for path in [*workspace.runs.glob(".*"), *workspace.runs.glob("*/**/.*")]:
        inside = path.relative_to(workspace.runs).parts
        if path.name != LOCK and ".kernels" not in inside and not inside[0].endswith(INTERACTIVE_END):
            _remove(path)
    for start in (f".{name}", ".index"):
        for path in workspace.reports.glob(f"{start}*"):
            _remove(path)
    for path in workspace.reports.glob(f"{name}-*/**/.*"):
        _remove(path)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink()


def end_with_launcher() -> None:
    """Let this process end the moment its parent does; on Linux, elsewhere a kernel asks once a second."""
    if sys.platform == "linux":
        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)
        if os.environ.get("JPY_PARENT_PID", str(os.getppid())) != str(os.getppid()):
            os._exit(1)  # the parent died before it could be asked for
