"""A whole retraining on tiny data that can be broken anywhere: snapshots before each step, a forked process per fault.

The launcher is the real one. A notebook's kernel is a forked process that runs the notebook's cells; papermill is told
what it would have been told by its own kernel: an error in a cell, or a dead kernel. What is computed (features, fits,
metrics, pictures) is computed once and said again afterwards; every file, lock and statement of a database is real.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib
import json
import os
import pickle
import pkgutil
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).parent))

import papermill
from injecting import KINDS, Fault, Operation, arm, forked, strike
from papermill.exceptions import PapermillExecutionError

import fraudlab
from fraudlab import (
    checking,
    comparing,
    deciding,
    executing,
    explain,
    explaining,
    gate,
    plots,
    recipe,
    ruling,
    runs,
    serving,
    tracking,
    workflow,
)
from fraudlab.config import Workspace, load_config
from fraudlab.datasets import ingest
from fraudlab.features import FeatureSet
from fraudlab.run_states import read_state

ROOT = Path(__file__).resolve().parents[2]
DEMO = ROOT / "configs" / "demo.toml"
TINY: dict[str, Any] = {
    "dataset__simulate__customers": 160,
    "dataset__simulate__merchants": 60,
    "dataset__simulate__days": 84,
    "split__train_days": 20,
    "split__valid_days": 14,
    "split__test_days": 10,
    "split__min_positives": 1,
    "model__n_estimators": 20,
    "decision__alerts_per_day": 3,
    "decision__step_up_per_day": 6,
}
"""The retraining that is broken."""
BEFORE = TINY | {"model__n_estimators": 10}
"""The one that made the champion."""
YESTERDAY = TINY | {"dataset__simulate__days": 83}
"""The data that are in the vault when the retraining begins."""
PASSED = [{"check": "for this test", "required": "-", "found": "-", "passed": True}]
ORDER = [step for step, _ in (*workflow.STEPS, workflow.REPORT_STEP)]
BOUNDARIES = ("kill -9", "KeyboardInterrupt", "RuntimeError")


# -- computed once -------------------------------------------------------------------------------------------------


@dataclass
class Drawn:
    """A picture that was drawn once: only its bytes are left."""

    png: bytes


@dataclass
class Memory:
    """What was computed, by step, function and call: computed in the first pass, said again in all later ones."""

    folder: Path
    recording: bool = False
    step: str = ""
    calls: Counter[str] = field(default_factory=Counter)
    inside: bool = False

    def wrap(self, owner: Any, name: str, *, steps: tuple[str, ...]) -> None:
        """Let a function of a module, or a method, be computed once per call in these steps."""
        real = getattr(owner, name)

        def said(*given: Any, **named: Any) -> Any:
            if self.inside or self.step not in steps:
                return real(*given, **named)
            self.calls[name] += 1
            path = self.folder / f"{self.step}-{name}-{self.calls[name]}"
            if path.is_file():
                return pickle.loads(path.read_bytes())
            self.inside = True
            try:
                found = real(*given, **named)
            finally:
                self.inside = False
            found = Drawn(found.png) if hasattr(found, "png") else found
            if self.recording:
                path.write_bytes(pickle.dumps(found))
            return found

        setattr(owner, name, said)


def compute_once(memory: Memory) -> None:
    """Let what takes long and touches no file be computed once."""
    notebooks, report = tuple(ORDER[:-1]), (ORDER[-1],)
    for module in (comparing, deciding, explaining, checking, plots, explain):
        for name, found in list(vars(module).items()):
            own = str(getattr(found, "__module__", "")).startswith(module.__name__)
            if own and callable(found) and not isinstance(found, type) and not name.startswith("_"):
                memory.wrap(module, name, steps=notebooks)
    for owner, names, steps in (
        (recipe, ("performance", "single_feature_ranking", "membership"), notebooks),
        (FeatureSet, ("compute",), notebooks),
        (ruling, ("backtest", "overlap"), notebooks),
        (sys.modules["fraudlab.datasets.ingest"], ("read_source",), notebooks),
        (sys.modules["fraudlab.datasets.ingest"], ("raw_identifiers",), report),
        (sys.modules["fraudlab.datasets"], ("raw_identifiers",), report),
        (sys.modules["fraudlab.report"], ("render",), report),
        (sys.modules["fraudlab.report.notebooks"], ("notebook_page",), report),
    ):
        for name in names:
            memory.wrap(owner, name, steps=steps)
    gate.promotion_gate = lambda *_, **__: PASSED


# -- one retraining, in this process ---------------------------------------------------------------------------------


class Watch:
    """Counts the operations of the launcher and of each kernel, and lets one of them go wrong."""

    def __init__(self, memory: Memory, fault: Fault | None = None) -> None:
        self.memory, self.fault = memory, fault
        self.process, self.launcher, self.done, self.struck = "launcher", os.getpid(), 0, False
        self.seen_all: dict[str, list[Operation]] = {"launcher": []}

    def seen(self, what: str, about: str) -> None:
        """Count an operation; let the fault happen where it is due."""
        self.done += 1
        self.seen_all[self.process].append(Operation(self.done, what, about))
        fault = self.fault
        if fault is not None and fault.process == self.process and fault.at == self.done:
            self.struck = True
            strike(fault.kind, what, self.launcher)

    def kernel(self, step: str) -> None:
        """Become the kernel of a step's notebook."""
        self.process, self.done = step, 0
        self.seen_all = {step: []}
        self.memory.step, self.memory.calls = step, Counter()


class Later:
    """Does a piece of work when its result is asked for: a process that is forked must have one thread."""

    def __init__(self, max_workers: int) -> None:
        pass

    def __enter__(self) -> Later:
        return self

    def __exit__(self, *_: Any) -> None:
        pass

    def shutdown(self, **_: Any) -> None:
        pass

    def submit(self, work: Callable[..., Any], *given: Any) -> Later:
        """Return what does the work once, when asked."""
        later = Later(1)
        later.result = functools.cache(functools.partial(work, *given))  # type: ignore[attr-defined]
        return later


def retrain(world: World, root: Path, watch: Watch, *, begin: str, until: str, boundary: tuple[str, str] | None) -> Any:
    """Retrain in a workspace, from its unfinished step on, until the next step would begin; "" goes to the end."""
    ended: dict[str, Any] = {}

    def progress(event: dict[str, Any]) -> None:
        step, status = event["step"], event["status"]
        if status == "started":
            watch.memory.step, watch.memory.calls = step, Counter()
            if step == until:
                ended["at"] = step
                raise SystemExit(0)
            if world.snapshot is not None:
                world.snapshot(root, step)
        if boundary is not None and boundary[0] == f"{step} {status}":
            if boundary[1] == "kill -9":
                os.killpg(watch.launcher, signal.SIGKILL)
            raise KeyboardInterrupt if boundary[1] == "KeyboardInterrupt" else RuntimeError("at a boundary")

    def execute(notebook: str, output: str, parameters: dict[str, Any], cwd: str, **_: Any) -> None:
        _execute(Path(notebook), Path(output), parameters, cwd, watch)

    papermill.execute_notebook = execute
    executing.Kernels.start = executing.Kernels.take = lambda *_, **__: None  # no kernel of Jupyter's is needed
    workflow.ThreadPoolExecutor = Later  # type: ignore[misc,assignment]
    workspace, name = Workspace(root), world.name
    steps = read_state(root / "runs" / name / "state.json").get("steps") if name else None
    if steps and read_state(root / "runs" / name / "state.json").get("status") != "done":
        return workflow.retrain(
            workflow.unfinished(workspace, name), workspace=workspace, resume=name, progress=progress
        )
    return workflow.retrain(DEMO, changes=world.changes, workspace=workspace, progress=progress)


def _execute(notebook: Path, output: Path, parameters: dict[str, Any], cwd: str, watch: Watch) -> None:
    """Run a notebook's cells in a forked process, and write and raise what papermill would."""
    content = json.loads(notebook.read_text(encoding="utf-8"))
    content["metadata"]["papermill"] = {"input_path": str(notebook), "output_path": str(output)}
    output.write_text(json.dumps(content))
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        os.close(reader)
        watch.kernel(notebook.stem)
        with open(os.devnull, "w") as nowhere:
            sys.stdout = nowhere
            told: dict[str, Any] = {}
            try:
                os.chdir(cwd)
                words: dict[str, Any] = {"__name__": "__main__", "display": lambda *_: None}
                for cell in content["cells"]:
                    if cell["cell_type"] == "code":
                        exec(compile("".join(cell["source"]), notebook.name, "exec"), words)
                        if "parameters" in cell["metadata"].get("tags", []):
                            words.update(parameters)
            except BaseException as error:
                told = {"ename": type(error).__name__, "evalue": str(error), "traceback": traceback.format_exc()}
        told["operations"], told["struck"] = watch.seen_all, watch.struck
        with os.fdopen(writer, "wb") as file:
            file.write(pickle.dumps(told))
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as file:
        said = file.read()
    status = os.waitpid(child, 0)[1]
    output.write_text(json.dumps(content))
    if os.WIFSIGNALED(status) or not said:
        from nbclient.exceptions import DeadKernelError

        raise DeadKernelError("Kernel died")
    told = pickle.loads(said)
    watch.seen_all |= told["operations"]
    watch.struck |= told["struck"]
    if "ename" in told:
        raise PapermillExecutionError(0, 1, "", told["ename"], told["evalue"], [told["traceback"]])


# -- the world that is broken ----------------------------------------------------------------------------------------


@dataclass
class World:
    """A workspace with a champion, at each step of a retraining, and what an undisturbed retraining makes of it."""

    work: Path
    changes: dict[str, Any] = field(default_factory=lambda: TINY)
    name: str = ""
    snapshot: Callable[[Path, str], None] | None = None
    undisturbed: dict[str, dict[str, str]] = field(default_factory=dict)
    scores: dict[str, list[float]] = field(default_factory=dict)
    operations: dict[tuple[str, str], list[Operation]] = field(default_factory=dict)

    @property
    def memory(self) -> Memory:
        """What was computed in the first pass."""
        return Memory(self.work / "memory")


def build(work: Path, say: Callable[[str], None] = lambda text: None) -> World:
    """Make a champion, then retrain undisturbed, keeping the workspace as it is before each step."""
    world = World(work)
    live = work / "live"
    for folder in ("memory", "before", "temporary"):
        (work / folder).mkdir(parents=True, exist_ok=True)
    _harness()
    say("the champion")
    _demand(*forked(lambda: _first(World(work, BEFORE), live, recording=True)))
    _demand(*forked(lambda: _older_data(live)))
    say("an undisturbed retraining")

    def keep(root: Path, step: str) -> None:
        if step != ORDER[0]:
            shutil.copytree(root, work / "before" / step, symlinks=True)

    # Before the launcher has begun there is nothing of this run.
    shutil.copytree(live, work / "before" / ORDER[0], symlinks=True)
    world.snapshot = keep
    status, told = forked(lambda: _first(world, live))
    _demand(status, told)
    world.snapshot = None
    world.name = told["name"]
    shutil.copytree(live, work / "before" / "the end", symlinks=True)
    for step in (*ORDER[1:], "the end"):
        world.undisturbed[step] = made(work / "before" / step, world.name)
    status, golden = forked(lambda: _golden(world, live))
    _demand(status, golden)
    (work / "golden").write_bytes(pickle.dumps(golden))
    for number in ("1", "2"):
        status, world.scores[number] = forked(lambda n=number: _scores(world, live, n))
        _demand(status, world.scores[number])
    assert world.scores["1"] != world.scores["2"]
    return world


def _harness() -> None:
    for module in pkgutil.walk_packages(fraudlab.__path__, "fraudlab."):
        with contextlib.suppress(ImportError):  # an extra that is not installed
            importlib.import_module(module.name)  # once, for all the processes to come
    # Others may be at work on the code while this runs; which code it is is not what is asked here.
    for module in (workflow, runs):
        module.code_digest = lambda _: "the code of this test"  # type: ignore[attr-defined]
    runs.git_commit = lambda _: None  # type: ignore[attr-defined]


def _demand(status: int, told: Any) -> None:
    if status or told is None or (isinstance(told, dict) and "unforeseen" in told):
        raise SystemExit(f"undisturbed, it failed: {status} {told and told['unforeseen']}")


def _first(world: World, root: Path, *, recording: bool = False) -> dict[str, Any]:
    memory = Memory(world.work / "memory", recording=recording)
    compute_once(memory)
    run = retrain(world, root, Watch(memory), begin="", until="", boundary=None)
    return {"name": run.folder.name}


def _older_data(root: Path) -> dict[str, Any]:
    return ingest(load_config(DEMO, **YESTERDAY), Workspace(root))


def _golden(world: World, root: Path) -> Any:
    run = runs.finished_run(Workspace(root))
    return recipe.prepare(run.config, run.workspace).rows("test")["features"].head(100)


def _scores(world: World, root: Path, version: str) -> list[float]:
    client = tracking.open_store(Workspace(root))
    folder = tracking.package_folder(client, client.get_model_version("demo", version))
    golden = pickle.loads((world.work / "golden").read_bytes())
    return serving.load_package(folder).score(golden)["score"].tolist()


VOLATILE = ("run.json", "decision.json", "models.json", "test_looks.csv")
"""Evidence that tells moments and numbers of its own run; the decision is compared by what it says, models by their
own files. Every look at a test is noted, broken off or not, so that a run that was gone on with may have noted two."""


def made(root: Path, name: str) -> dict[str, str]:
    """Return the digests of what a run has made so far."""
    found = {}
    folder = root / "runs" / name
    for part in ("evidence", "models", "package", "figures", "headlines"):
        for path in sorted((folder / part).rglob("*")):
            if path.is_file() and path.name not in VOLATILE:
                found[str(path.relative_to(folder))] = hashlib.sha256(path.read_bytes()).hexdigest()
    decision = folder / "evidence" / "decision.json"
    if decision.is_file():
        said = json.loads(decision.read_text())
        found["decision"] = json.dumps([said[key] for key in ("decision", "reasons", "summary", "challenger_version")])
    return found


# -- faults ----------------------------------------------------------------------------------------------------------


def count(world: World, step: str, slot: Path) -> None:
    """Count the operations of a step, of its launcher and its kernel."""
    _place(world, step, slot)
    status, told = forked(lambda: _broken(world, slot, step, None, None))
    if status or told.get("error"):
        raise SystemExit(f"undisturbed, {step} failed: {told}")
    for process, operations in told["operations"].items():
        world.operations[step, process] = operations


def _place(world: World, step: str, slot: Path) -> None:
    for folder in (slot, _temporary(slot)):
        shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(world.work / "before" / step, slot, symlinks=True)
    _temporary(slot).mkdir()


def _temporary(slot: Path) -> Path:
    return slot.with_name(f"{slot.name}-temporary")


def _next(step: str) -> str:
    return "" if step == ORDER[-1] else ORDER[ORDER.index(step) + 1]


def _broken(
    world: World, slot: Path, step: str, fault: Fault | None, boundary: tuple[str, str] | None, *, whole: bool = False
) -> dict[str, Any]:
    """Retrain in a slot with one fault; return how it ended."""
    os.environ["TMPDIR"] = str(_temporary(slot))
    tempfile.tempdir = None
    memory = world.memory
    compute_once(memory)
    watch = Watch(memory, fault)
    told: dict[str, Any] = {"error": None}
    arm((slot, _temporary(slot)), watch.seen)
    try:
        retrain(world, slot, watch, begin=step, until="" if whole else _next(step), boundary=boundary)
    except SystemExit:
        pass
    except BaseException as error:
        told["error"] = [type(error).__name__, getattr(error, "exit_code", None), str(error)[:300]]
        told["documented"] = isinstance(error, KeyboardInterrupt | OSError) or hasattr(error, "exit_code")
        told["traceback"] = traceback.format_exc()
    return told | {"struck": watch.struck, "operations": watch.seen_all}


def attempt(
    world: World,
    step: str,
    slot: Path,
    *,
    fault: Fault | None = None,
    boundary: tuple[str, str] | None = None,
    whole: bool = False,
) -> dict[str, Any]:
    """Break a step once, look, go on with the run, and look again; return what was found, `broken` with the reasons."""
    broken: list[str] = []
    _place(world, step, slot)
    began = time.perf_counter()
    status, told = forked(lambda: _broken(world, slot, step, fault, boundary))
    kind = boundary[1] if boundary else fault.kind
    if kind == "kill -9":
        if not os.WIFSIGNALED(status):
            broken.append(f"was not killed: {told}")
        ended = "killed"
    else:
        if status or told is None or "unforeseen" in told:
            return {"ended": "?", "broken": [f"ended otherwise: {status} {told}"], "seconds": 0.0}
        error = told["error"]
        ended = "went on" if error is None else f"{error[0]} ({error[1]})"
        if error is not None and boundary is None and not told["documented"]:
            broken.append(f"ended without a sentence: {error} {told['traceback'][-1500:]}")
        if fault is not None and kind != "kill -9 of the kernel" and not told["struck"]:
            broken.append("the fault was not reached")
    status, after = forked(lambda: _look(world, slot))
    broken += _problems(status, after)
    status, told = forked(lambda: _broken(world, slot, step, None, None, whole=whole))
    if status or told is None or told.get("unforeseen") or told.get("error"):
        broken.append(f"could not go on: {status} {told and (told.get('unforeseen') or told.get('traceback'))}")
    else:
        last = whole or not _next(step)
        status, after = forked(lambda: _look(world, slot, ended=last))
        broken += _problems(status, after)
        broken += _differences(world, slot, "the end" if last else _next(step))
        broken += leftovers(slot, _temporary(slot))
    return {"ended": ended, "broken": broken, "seconds": round(time.perf_counter() - began, 2)}


def _problems(status: int, told: Any) -> list[str]:
    if status or told is None or isinstance(told, dict):
        return [f"could not be looked at: {status} {told}"]
    return told


def _look(world: World, slot: Path, *, ended: bool = False) -> list[str]:
    """Look at what serves, and with `ended` whether anything is left open after a run has ended."""
    problems = []
    client = tracking.open_store(Workspace(slot))
    champion = tracking.champion(client, "demo")
    if champion is None:
        return ["there is no champion"]
    golden = pickle.loads((world.work / "golden").read_bytes())
    package = serving.load_package(champion["package"], digest=champion["digest"])
    if package.score(golden)["score"].tolist() != world.scores[champion["version"]]:
        problems.append(f"the champion, version {champion['version']}, scores otherwise")
    running = tracking._running(client, tracking._experiment_id(client, tracking.EXPERIMENT))
    own = slot / "runs" / world.name / "evidence" / "run.json"
    mine = json.loads(own.read_text()).get("mlflow_run_id") if own.is_file() else None
    if ended:
        if champion["version"] != "2":
            problems.append(f"version {champion['version']} is the champion at the end")
        versions = tracking.models_table(client)["version"].tolist()
        if versions != ["2", "1"]:
            problems.append(f"registered versions: {versions}")
        if running:
            problems.append(f"{len(running)} runs are left RUNNING")
        if read_state(slot / "runs" / world.name / "state.json").get("status") != "done":
            problems.append("the state does not say done")
        if any((slot / "runs").glob("*.before")):
            problems.append("an earlier run is left aside")
    elif stale := [run.info.run_id for run in running if run.info.run_id != mine]:
        tracking.reap_stale_runs(client)
        if [run for run in tracking._running(client, "1") if run.info.run_id in stale]:
            problems.append("a run of nobody is left RUNNING")
    return problems


def _differences(world: World, slot: Path, step: str) -> list[str]:
    found, wanted = made(slot, world.name), world.undisturbed[step]
    differ = sorted(name for name in {*found, *wanted} if found.get(name) != wanted.get(name))
    return [f"differs from the undisturbed run: {', '.join(differ[:6])}"] if differ else []


ALLOWED = {".lock", ".keys", ".gitignore"}
"""Names with a dot that belong there."""


def leftovers(slot: Path, temporary: Path) -> list[str]:
    """Return what looks like a temporary file below a workspace or in the folder for temporary files."""
    left = [
        str(path.relative_to(slot))
        for path in slot.rglob("*")
        if (path.name.startswith(".") and path.name not in ALLOWED) or path.name.endswith((".tmp", ".before", ".part"))
    ]
    left += [f"(temporary)/{path.name}" for path in temporary.iterdir()]
    return [f"left over: {', '.join(left[:6])}"] if left else []


def plan(world: World, wanted: int | None) -> list[tuple[str, Fault | None, tuple[str, str] | None]]:
    """List the faults to try: every boundary, and `wanted` operations, each different one first; None: all."""
    boundaries = [
        (step, None, (f"{step} {status}", kind))
        for step in ORDER
        for status in ("started", "done")
        for kind in BOUNDARIES
    ]
    first, rest, known = [], [], set()
    for (step, process), operations in world.operations.items():
        for kind, applies in KINDS.items():
            if kind == "kill -9 of the kernel" and process == "launcher":
                continue
            for operation in operations:
                if operation.what in applies:
                    fault = (step, Fault(kind, process, operation.number), None)
                    mark = (process, kind, operation.what, operation.about)
                    (rest if mark in known else first).append(fault)
                    known.add(mark)
    if wanted is None:
        return boundaries + first + rest
    chosen = first if len(first) <= wanted else [first[i * len(first) // wanted] for i in range(wanted)]
    return boundaries + chosen


def run(work: Path, wanted: int | None, say: Callable[[str], None] = lambda text: None) -> dict[str, Any]:
    """Build the world, try every boundary and the wanted number of operations, and tell what came of it.

    Returns
    -------
    operations (of one retraining), faults, by_step and by_kind (counts), ended (how the broken runs ended), broken (a
    list of step, fault, what was wrong), seconds.
    """
    began = time.perf_counter()
    world = build(work, say)
    slot = work / "slot"
    for step in ORDER:
        count(world, step, slot)
    faults = plan(world, wanted)
    operations = sum(len(found) for found in world.operations.values())
    say(f"{len(faults)} faults in {operations} operations")
    by_step, by_kind, ended, broken = Counter(), Counter(), Counter(), []
    for number, (step, fault, boundary) in enumerate(faults, start=1):
        found = attempt(world, step, slot, fault=fault, boundary=boundary)
        kind = f"{boundary[1]} at a boundary" if boundary else fault.kind
        by_step[step] += 1
        by_kind[kind] += 1
        ended[found["ended"]] += 1
        if found["broken"]:
            broken.append([step, str(fault or boundary), found["broken"]])
            say(f"broken: {broken[-1]}")
        if number % 20 == 0:
            say(f"{number} of {len(faults)}, {len(broken)} broken")
    shutil.rmtree(slot, ignore_errors=True)
    return {
        "operations": operations,
        "faults": len(faults),
        "by_step": dict(by_step),
        "by_kind": dict(by_kind),
        "ended": dict(ended),
        "broken": broken,
        "seconds": round(time.perf_counter() - began),
    }


if __name__ == "__main__":
    amount = int(sys.argv[2])
    print(json.dumps(run(Path(sys.argv[1]), amount or None, lambda text: print(text, file=sys.stderr, flush=True))))
