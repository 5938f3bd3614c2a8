"""Real `fraudlab retrain` processes, killed with signal 9 at chance moments, and what is left of the workspace."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from fraudlab import recipe, serving, tracking
from fraudlab.config import Workspace
from fraudlab.run_states import read_state, state_files
from fraudlab.runs import finished_run

ROOT = Path(__file__).resolve().parents[2]
DEMO = ROOT / "configs" / "demo.toml"
VICTIMS = ("all processes", "the launcher", "a kernel")


def command(home: Path, *words: str) -> subprocess.Popen[str]:
    """Start `fraudlab WORDS` on a workspace, in a session of its own."""
    environment = os.environ | {"FRAUDLAB_HOME": str(home)}
    program = [sys.executable, "-c", "from fraudlab.cli import main; main()", *words]
    return subprocess.Popen(
        program, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Wait for a process; return its exit code and the end of what it said."""
    said = process.communicate()[0]
    return process.returncode, said[-1500:]


def retraining(changes: dict[str, Any]) -> list[str]:
    """Return the words of a retraining of the demo with changes."""
    return ["retrain", "--config", str(DEMO), *(f"--set={key}={value}" for key, value in changes.items())]


def kill(launcher: subprocess.Popen[str], victim: str) -> bool:
    """Kill a launcher with or without its kernels, or one of its kernels; return whether there was one to kill."""
    try:
        kernels = psutil.Process(launcher.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return False
    if launcher.poll() is not None:
        return False
    struck = kernels[:1] if victim == "a kernel" else [] if victim == "the launcher" else kernels
    if victim != "a kernel":
        os.kill(launcher.pid, signal.SIGKILL)
    for each in struck:
        with contextlib.suppress(psutil.NoSuchProcess):
            each.kill()
    return bool(struck) or victim != "a kernel"


def golden(home: Path) -> Any:
    """Return rows to score: the newest finished run's first test payments."""
    run = finished_run(Workspace(home), config="demo")
    return recipe.prepare(run.config, run.workspace).rows("test")["features"].head(100)


def serves(home: Path, rows: Any) -> tuple[str, list[float]]:
    """Return the champion's version and its scores of some rows."""
    champion = tracking.champion(tracking.open_store(Workspace(home)), "demo")
    package = serving.load_package(champion["package"], digest=champion["digest"])
    return champion["version"], package.score(rows)["score"].tolist()


def problems(home: Path) -> list[str]:
    """Return what an ended retraining must not leave: open runs, temporary files, living kernels."""
    client = tracking.open_store(Workspace(home))
    found = []
    experiments = [each.experiment_id for each in client.search_experiments()]
    if client.search_runs(experiments, "attributes.status = 'RUNNING'"):
        found.append("a run is left RUNNING")
    kept = (".lock", ".keys", ".gitignore")
    for folder in ("data", "mlruns", "reports", "runs"):
        left = [path.name for path in (home / folder).rglob(".*") if path.name not in kept]
        left += [path.name for path in (home / folder).glob("*.before")]
        found += [f"left in {folder}: {', '.join(left[:5])}"] if left else []
    return found


def kill_at_random(
    home: Path, changes: dict[str, Any], kills: int, seconds: float, *, seed: int, say: Callable[[str], None]
) -> list[dict[str, Any]]:
    """Start a retraining, kill it at a chance moment, look, go on with it, and look again; so many times.

    Parameters
    ----------
    home : a workspace with a champion of the demo.
    changes : of the demo's config; each attempt adds one of its own, so that each is a run of its own.
    seconds : how long an undisturbed retraining takes; moments are drawn evenly from it.

    Returns
    -------
    Per kill: victim, at (seconds), steps (finished by then), code (of going on), broken (a list of reasons).
    """
    rng, rows, told = np.random.default_rng(seed), golden(home), []
    for number in range(kills):
        victim, at = VICTIMS[number % len(VICTIMS)], float(rng.uniform(0, seconds))
        words = retraining(changes | {"model.n_estimators": 300 + number})
        before, versions = serves(home, rows), len(tracking.models_table(tracking.open_store(Workspace(home))))
        launcher = command(home, *words)
        until = time.monotonic() + at
        while time.monotonic() < until and launcher.poll() is None:
            time.sleep(0.05)
        while not (hit := kill(launcher, victim)) and launcher.poll() is None:
            time.sleep(0.05)  # no kernel at this moment
        code, said = ended(launcher)
        broken = [] if hit or code == 0 else [f"ended by itself with {code}: {said}"]
        if hit and victim == "a kernel" and code != 1:
            broken.append(f"a dead kernel ended it with {code}: {said}")
        newest = next(iter(state_files(Workspace(home), "demo")))
        state = read_state(newest)
        steps = len(state.get("steps", [])) if state.get("status") in ("running", "failed") else 0
        if serves(home, rows) != before and serves(home, rows)[0] == before[0]:
            broken.append("the champion scores otherwise")
        again = ["retrain", "--resume", newest.parent.name] if steps else words
        code, said = ended(command(home, *again))
        if code:
            broken.append(f"going on ended with {code}: {said}")
        broken += problems(home)
        found = len(tracking.models_table(tracking.open_store(Workspace(home)))) - versions
        if found != 1:
            broken.append(f"{found} versions came of it")
        told.append({"victim": victim, "at": round(at, 1), "steps": steps, "code": code, "broken": broken})
        say(json.dumps(told[-1]))
    return told
