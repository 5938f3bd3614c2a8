"""What a run is made from besides data and config: the package's sources, the notebooks' code, the commit."""

from __future__ import annotations

import contextlib
import hashlib
import json
import subprocess
from pathlib import Path


def code_digest(project: Path) -> str:
    """Return the sha-256 over the package's sources and the notebooks' code, in a fixed order."""
    digest = hashlib.sha256()
    package = Path(__file__).parent
    sources = sorted(p for p in package.rglob("*") if p.suffix in {".py", ".j2", ".css", ".toml"})
    for path in sources:
        digest.update(str(path.relative_to(package)).encode() + b"\0" + path.read_bytes())
    for path in sorted((project / "notebooks").glob("*.ipynb")):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        digest.update(path.name.encode() + b"\0" + "".join("".join(cell["source"]) for cell in cells).encode())
    return digest.hexdigest()


def git_commit(project: Path) -> str | None:
    """Return the project's commit, marked when the working tree differs from it; None outside git."""

    def git(*words: str) -> str | None:
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            return subprocess.run(
                ["git", "-C", str(project), *words], capture_output=True, text=True, check=True, timeout=10
            ).stdout.strip()
        return None

    commit = git("rev-parse", "HEAD")
    return None if commit is None else commit + ("+changes" if git("status", "--porcelain") else "")
