"""A retraining's second half, killed at one file operation after the other; `test_workflow` runs it as a process.

It registers, promotes and reports in a copy of a finished workspace and kills itself at its n-th write, rename, removal
or change of MLflow's database. Nothing before that half touches the registry. Prints what was found, as JSON.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import sqlalchemy

from fraudlab import recipe, report, serving, tracking
from fraudlab.config import RunConfig, Workspace, load_config
from fraudlab.runs import Run

WRITES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.chmod", "os.link", "os.symlink"}
PASSED = [{"check": "for this test", "required": "-", "found": "-", "passed": True}]


def count_operations(root: Path, act: Callable[[], None]) -> None:
    """Call `act` before each file operation below `root` and each statement that goes to a database."""

    def seen(event: str, arguments: tuple) -> None:
        if event == "open":
            path, _, flags = arguments
            writes = bool((flags or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
        elif event in WRITES:
            path, writes = arguments[0], True
        else:
            return
        if writes and isinstance(path, str | bytes | os.PathLike) and os.fsdecode(path).startswith(str(root)):
            act()

    sys.addaudithook(seen)
    for moment in ("commit", "before_cursor_execute"):
        sqlalchemy.event.listen(sqlalchemy.engine.Engine, moment, lambda *_: act())


def second_half(root: Path, name: str, config: RunConfig, prepared: recipe.Prepared) -> None:
    """Do what the launcher and the last notebook do once a model is fitted and judged."""
    run = Run(root / "runs" / name, config, Workspace(root))
    client = tracking.open_store(run.workspace)
    tracking.reap_stale_runs(client)
    tracked = tracking.start_run(client, config, name=name, tags=run.tags())
    run.note(mlflow_run_id=tracked)
    run.incumbent(prepared)
    run.register(prepared.feature_set, PASSED)
    report.build_report(run.folder, run.report)
    for part in ("evidence", "figures", "notebooks"):
        tracking.log_folder(client, tracked, run.folder / part, part)
    tracking.finish_run(client, tracked, "FINISHED")


def main() -> None:
    """Count the operations of an undisturbed run, then kill at each of them, or at so many."""
    source, work = Path(sys.argv[1]), Path(sys.argv[2])
    name, config = sys.argv[3], load_config(sys.argv[4], **json.loads(sys.argv[5]))
    wanted = int(sys.argv[6])
    prepared = recipe.prepare(config, Workspace(source))
    golden = prepared.rows("test")["features"].head(200)

    def forked(root: Path, kill_at: int) -> tuple[int, str]:
        shutil.rmtree(root, ignore_errors=True)
        shutil.copytree(source, root, symlinks=True)
        reader, writer = os.pipe()
        child = os.fork()
        if not child:
            done = 0

            def act() -> None:
                nonlocal done
                done += 1
                if done == kill_at:
                    os.kill(os.getpid(), signal.SIGKILL)

            told = "0"
            try:
                count_operations(root, act)
                second_half(root, name, config, prepared)
                told = str(done)
            except BaseException as error:
                told = repr(error)
            os.write(writer, told[:500].encode())
            os._exit(0 if told.isdigit() else 1)
        os.close(writer)
        status = os.waitpid(child, 0)[1]
        with os.fdopen(reader) as file:
            return status, file.read()

    def scores_of(root: Path) -> list[float]:
        champion = tracking.champion(tracking.open_store(Workspace(root)), config.name)
        return serving.load_package(Path(champion["package"])).score(golden)["score"].tolist()

    status, told = forked(work / "counted", 0)
    if status:
        raise SystemExit(f"undisturbed, it failed: {told}")
    total = int(told)
    before = scores_of(work / "counted")
    points = [1 + k * (total - 1) // (wanted - 1) for k in range(wanted)] if wanted else list(range(1, total + 1))
    broken = []
    for point in points:
        root = work / f"killed-{point}"
        status, told = forked(root, point)
        if not os.WIFSIGNALED(status):
            broken.append([point, "was not killed", told])
        client = tracking.open_store(Workspace(root))
        tracking.reap_stale_runs(client)
        experiments = [each.experiment_id for each in client.search_experiments()]
        if client.search_runs(experiments, "attributes.status = 'RUNNING'"):
            broken.append([point, "a run is left RUNNING", ""])
        if scores_of(root) != before:
            broken.append([point, "the champion scores otherwise", ""])
        shutil.rmtree(root)
    print(json.dumps({"operations": total, "kills": len(points), "broken": broken}))


if __name__ == "__main__":
    main()
