"""The state files of runs: which steps are done, for whoever lists runs or goes on with one."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

from fraudlab.config import Workspace


def state_files(workspace: Workspace, name: str = "") -> list[Path]:
    """Return the state files of all runs, or of those of one config, the newest first."""
    found = workspace.runs.glob(f"{name}-*/state.json" if name else "*/state.json")
    return sorted(found, key=lambda path: path.stat().st_mtime, reverse=True)


def read_state(path: Path) -> dict[str, Any]:
    """Return a run's state (status, steps); empty where the file is not there or damaged."""
    with contextlib.suppress(OSError, ValueError):
        return dict(json.loads(path.read_text(encoding="utf-8")))
    return {}
