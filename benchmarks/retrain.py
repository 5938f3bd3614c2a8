"""What orchestration costs: a retraining by `fraudlab retrain` beside the bare library calls of the same notebooks.

    python benchmarks/retrain.py                                   # the demo, some 20 minutes on two quiet cores
    python benchmarks/retrain.py --times 1                         # a look
    python benchmarks/retrain.py --data path/to/handbook.parquet   # the published transactions too, once

Without --data the file keeps what was measured on the published transactions before.

Bare: the code cells of the notebooks, in their order, in one process, without papermill, kernels, MLflow, champion and
report; the data are prepared once, and pictures are drawn once. Orchestrated: the command as a scheduler calls it, in a
workspace that has an MLflow database and nothing else. Both by turns, each in a workspace of its own, and both must
leave the same figures in their evidence.

Seconds are told twice: on the clock, which a busy machine stretches, and of the processor, kernels included.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "retrain.json"
DEMO, HANDBOOK = ROOT / "configs" / "demo.toml", ROOT / "configs" / "handbook.toml"
GOALS = {"overhead_s": ("<=", 35.0), "handbook_s": ("<", 300.0)}
# Evidence that tells of the run itself: its name, its looks at the test, seconds, what is in production.
OWN = {"run.json", "models.json", "test_looks.csv", "decision.json", "changes.json", "trials.csv", "config.toml"}
# Evidence that the report's step adds to, or that depends on a registry.
ADDED = {"checks.json"}


def bare_calls(config: Path, changes: dict[str, Any], home: Path) -> dict[str, Any]:
    """Execute the code cells of the notebooks in this process; return seconds by notebook and the peak of memory."""
    os.environ["FRAUDLAB_HOME"] = str(home)
    began = _clocks()
    from fraudlab import runs
    from fraudlab.config import Workspace, load_config
    from fraudlab.workflow import STEPS

    class Bare(runs.Run):
        """A run without registry: evidence is written, nothing is tracked, and the data are prepared once."""

        def prepare(self) -> Any:
            if not once:
                from fraudlab import recipe

                once.append(recipe.prepare(self.config, self.workspace))
            return once[0]

        def track_metrics(self, table: Any) -> None:
            self.note_look(table)

        def incumbent(self, prepared: Any) -> None:
            return None

        def register(self, feature_set: Any, gate: Any) -> dict[str, Any]:
            return {"summary": {}, "headline": "not registered"}

    once: list[Any] = []
    run = Bare(home / "runs" / "bare", load_config(config, **changes), Workspace(home))
    runs.begin(run, ROOT, command="bare calls")
    runs.open_run = lambda *_: run
    runs.show = lambda table: table
    steps = {"start": _since(began)}
    namespace: dict[str, Any] = {"__name__": "__main__", "display": lambda *_: None}
    for step, _ in STEPS:
        began = _clocks()
        for cell in json.loads((ROOT / "notebooks" / f"{step}.ipynb").read_text(encoding="utf-8"))["cells"]:
            if cell["cell_type"] == "code":
                exec(compile("".join(cell["source"]), step, "exec"), namespace)
        steps[step] = _since(began)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"steps": steps, "peak_gb": peak / 1e9, "evidence": str(run.evidence)}


def _clocks() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()


def _since(began: tuple[float, float]) -> dict[str, float]:
    now = _clocks()
    return {"clock_s": now[0] - began[0], "processor_s": now[1] - began[1]}


def started(command: list[str], home: Path) -> dict[str, Any]:
    """Run a command to its end: seconds on the clock and of the processor, and the largest process's peak of memory."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    environment = {**os.environ, "FRAUDLAB_HOME": str(home)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    clock = time.perf_counter() - began
    if done.returncode:
        said = f"{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
        raise SystemExit(f"{' '.join(command)} failed ({done.returncode}):\n{said}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"clock_s": clock, "processor_s": used, "said": done.stdout}


def bare(config: Path, changes: list[str], home: Path) -> dict[str, Any]:
    """Make the bare calls in a fresh process."""
    told = home / "bare.json"
    command = [sys.executable, __file__, "--bare", str(told), "--config", str(config)]
    found = started([*command, *(f"--set={change}" for change in changes)], home)
    return found | json.loads(told.read_text(encoding="utf-8"))


def orchestrated(config: Path, changes: list[str], home: Path) -> dict[str, Any]:
    """Retrain as a scheduler does."""
    command = [sys.executable, "-m", "fraudlab.cli", "retrain", "--config", str(config), "--fresh"]
    found = started([*command, *(word for change in changes for word in ("--set", change))], home)
    state = json.loads(next((home / "runs").glob("*/state.json")).read_text(encoding="utf-8"))
    steps = {step["step"]: {"clock_s": step["seconds"]} for step in state["steps"]}
    around = found["clock_s"] - sum(step["clock_s"] for step in steps.values())
    evidence = next((home / "runs").glob("*/state.json")).parent / "evidence"
    return found | {"steps": {"start": {"clock_s": around}, **steps}, "evidence": str(evidence)}


def same_figures(one: Path, other: Path) -> list[str]:
    """Return the names of the evidence that both hold alike, byte by byte.

    Raises
    ------
    SystemExit : they differ in what does not tell of the run itself.
    """
    names = {path.name for path in one.iterdir()} & {path.name for path in other.iterdir()}
    told = sorted(names - OWN - ADDED)
    different = [name for name in told if (one / name).read_bytes() != (other / name).read_bytes()]
    if different or "metrics.csv" not in told:
        raise SystemExit(f"the two ways differ in: {', '.join(different) or 'metrics.csv is missing'}")
    return told


def compared(config: Path, changes: list[str], times: int, say: Any) -> dict[str, Any]:
    """Time both ways by turns, in workspaces of their own; the medians and what each step took."""
    took: dict[str, list[dict[str, Any]]] = {"bare": [], "orchestrated": []}
    with tempfile.TemporaryDirectory(prefix="retrain-") as folder:
        template = Path(folder) / "template"
        _open_store(template)
        alike: list[str] = []
        for number in range(times):
            found = {}
            for name in ("bare", "orchestrated") if number % 2 == 0 else ("orchestrated", "bare"):
                home = Path(folder) / f"{name}-{number}"
                shutil.copytree(template, home)
                found[name] = {"bare": bare, "orchestrated": orchestrated}[name](config, changes, home)
                clock, processor = found[name]["clock_s"], found[name]["processor_s"]
                say(f"{name} {number + 1}: {clock:.0f} s, {processor:.0f} s of processor")
                took[name].append(found[name])
            alike = same_figures(*(Path(found[name]["evidence"]) for name in ("bare", "orchestrated")))
            for name in found:
                shutil.rmtree(Path(folder) / f"{name}-{number}")
    steps = {
        step: {name: median(run["steps"].get(step, {}).get("clock_s", 0.0) for run in took[name]) for name in took}
        for step in took["orchestrated"][0]["steps"]
    }
    whole = {name: {key: median(run[key] for run in took[name]) for key in ("clock_s", "processor_s")} for name in took}
    return {
        "config": config.name,
        "changes": changes,
        "times": times,
        "steps_s": {step: {**both, "overhead": both["orchestrated"] - both["bare"]} for step, both in steps.items()},
        "bare": whole["bare"] | {"peak_gb": median(run["peak_gb"] for run in took["bare"])},
        "orchestrated": whole["orchestrated"],
        "overhead_s": whole["orchestrated"]["clock_s"] - whole["bare"]["clock_s"],
        "overhead_processor_s": whole["orchestrated"]["processor_s"] - whole["bare"]["processor_s"],
        "same_evidence": len(alike),
    }


def _open_store(home: Path) -> None:
    """Make a workspace with an MLflow database, as a project has from its first day on."""
    home.mkdir(parents=True)
    code = "from fraudlab import tracking; from fraudlab.config import Workspace; tracking.open_store(Workspace.of())"
    started([sys.executable, "-c", code], home)


def show(name: str, part: dict[str, Any], console: Any) -> None:
    """Print the steps of both ways beside each other."""
    import figures

    rows = [
        (step, f"{both['bare']:.1f} s", f"{both['orchestrated']:.1f} s", f"{both['overhead']:.1f} s")
        for step, both in part["steps_s"].items()
    ]
    both = part["bare"], part["orchestrated"]
    rows.append(("whole", *(f"{way['clock_s']:.1f} s" for way in both), f"{part['overhead_s']:.1f} s"))
    rows.append(
        ("of the processor", *(f"{way['processor_s']:.1f} s" for way in both), f"{part['overhead_processor_s']:.1f} s")
    )
    title = f"{name}: medians of {part['times']}, {part['same_evidence']} files of evidence alike, to the byte"
    figures.table(console, title, ("", "bare", "orchestrated", "overhead"), rows)
    console.print(f"peak memory of the bare process: {part['bare']['peak_gb']:.2f} GB\n")


def main() -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", type=Path, default=DEMO, help="the config that the overhead is measured on")
    parser.add_argument("--set", action="append", default=[], help="an override, key=value, as of `fraudlab retrain`")
    parser.add_argument("--data", type=Path, help="the published transactions: retrain on them too, once")
    parser.add_argument("--times", type=int, default=3, help="rounds; medians are reported")
    parser.add_argument("--out", type=Path, help="where the figures go (JSON)")
    parser.add_argument("--bare", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.bare:
        from fraudlab.commands.shared import changes_of

        with contextlib.redirect_stdout(io.StringIO()):
            found = bare_calls(arguments.config, changes_of(arguments.set), Path(os.environ["FRAUDLAB_HOME"]))
        arguments.bare.write_text(json.dumps(found), encoding="utf-8")
        return 0

    sys.path.insert(0, str(Path(__file__).parent))
    import figures
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=True)
    load = os.getloadavg()[0]
    results: dict[str, Any] = {"demo": compared(arguments.config, arguments.set, arguments.times, console.print)}
    show(arguments.config.stem, results["demo"], console)
    measured = {"overhead_s": results["demo"]["overhead_s"]}
    changed = arguments.config != DEMO or arguments.set
    out = arguments.out or (None if changed else RESULTS)
    if arguments.data:
        with tempfile.TemporaryDirectory(prefix="retrain-") as folder:
            _open_store(home := Path(folder) / "home")
            found = orchestrated(HANDBOOK, [f"dataset.path={arguments.data.resolve()}"], home)
        results["handbook"] = {key: found[key] for key in ("clock_s", "processor_s", "steps")}
        measured["handbook_s"] = found["clock_s"]
        console.print(f"handbook: {found['clock_s']:.0f} s, {found['processor_s']:.0f} s of processor\n")
    elif out and out.is_file() and (before := json.loads(out.read_text(encoding="utf-8")).get("handbook")):
        results["handbook"], measured["handbook_s"] = before, before["clock_s"]
    limits = {what: GOALS[what] for what in measured}
    results["goals"] = [
        {"what": what, "measured": measured[what], "goal": f"{sign} {limit:g}", "met": measured[what] <= limit}
        for what, (sign, limit) in limits.items()
    ]
    results |= figures.setting() | {"load_average": load}
    for goal in results["goals"]:
        console.print(
            f"{goal['what']}: {goal['measured']:.1f} (asked: {goal['goal']}) {'met' if goal['met'] else 'NOT met'}"
        )
    if out:
        figures.write(json.loads(json.dumps(results)), out)
        console.print(f"written to {out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
