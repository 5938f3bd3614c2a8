"""Kernels are ready when their notebooks come, serve one notebook each, and none outlives its launcher's work."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from fraudlab.executing import imported, kernels, load, run_notebook, turn
from fraudlab.schema import FraudlabError


def notebook(folder: Path, name: str, *cells: str) -> Path:
    made = [
        {"cell_type": "code", "id": f"c{n}", "metadata": {}, "outputs": [], "execution_count": None, "source": source}
        for n, source in enumerate(cells)
    ]
    path = folder / f"{name}.ipynb"
    spec = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    path.write_text(json.dumps({"cells": made, "metadata": spec, "nbformat": 4, "nbformat_minor": 5}))
    return path


def printed(path: Path) -> list[str]:
    cells = json.loads(path.read_text())["cells"]
    return ["".join(output.get("text", [])).strip() for cell in cells for output in cell.get("outputs", [])]


def children() -> set[int]:
    found = psutil.Process().children(recursive=True)
    return {child.pid for child in found if "ipykernel" in " ".join(child.cmdline())}


def test_a_kernel_started_ahead_has_imported_what_its_notebook_asks_for(tmp_path: Path) -> None:
    told = "import os, sys\nprint('mailbox' in sys.modules, 'wave' in sys.modules, 'load' in dir(), os.getpid())"
    first, second = notebook(tmp_path, "first", told), notebook(tmp_path, "second", told, "from mailbox import Maildir")
    before = children()
    with kernels(tmp_path) as ahead:
        ahead.start(second, also=["wave"])
        ahead.start(second, also=["wave"])
        (waiting,) = children() - before
        run_notebook(first, tmp_path / "out" / "first.ipynb", {}, cwd=tmp_path, ahead=ahead)
        run_notebook(second, tmp_path / "out" / "second.ipynb", {}, cwd=tmp_path, ahead=ahead)
    *known, pid = printed(tmp_path / "out" / "first.ipynb")[0].split()
    assert known == ["False", "False", "False"]
    assert int(pid) != waiting, "no kernel runs two notebooks"
    assert printed(tmp_path / "out" / "second.ipynb")[0] == f"True True False {waiting}"
    assert children() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["first.ipynb", "out", "runs", "second.ipynb"]
    assert not list((tmp_path / "runs").iterdir())


def test_a_kernel_that_nobody_takes_or_that_died_does_no_harm(tmp_path: Path) -> None:
    here = notebook(tmp_path, "here", "import wave\nprint('it ran')")
    before = children()
    with kernels(tmp_path) as ahead:
        ahead.start(here)
        (waiting,) = children() - before
        psutil.Process(waiting).kill()
        while psutil.Process(waiting).status() != psutil.STATUS_ZOMBIE:
            time.sleep(0.01)
        run_notebook(here, tmp_path / "out.ipynb", {}, cwd=tmp_path, ahead=ahead)
        assert printed(tmp_path / "out.ipynb") == ["it ran"]
        ahead.start(here)
        assert len(children() - before) == 1
    assert children() == before
    assert not list((tmp_path / "runs").iterdir())


def test_imports_ahead_wait_for_their_turn_and_a_process_that_dies_gives_it_up(tmp_path: Path) -> None:
    place = tmp_path / "turn"
    line = (
        f"from fraudlab.executing import load; print('up', flush=True); load(['wave'], {str(place)!r}); print('done')"
    )
    with turn(place):
        other = subprocess.Popen([sys.executable, "-c", line], stdout=subprocess.PIPE, text=True)
        assert other.stdout.readline() == "up\n"
        time.sleep(0.5)
        assert other.poll() is None, "it waits"
    assert other.communicate(timeout=30)[0] == "done\n"
    holds = f"from fraudlab.executing import turn; import pathlib, time\nwith turn(pathlib.Path({str(place)!r})):\n "
    holder = subprocess.Popen(
        [sys.executable, "-c", holds + "print('held', flush=True); time.sleep(60)"], stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout.readline() == "held\n"
    holder.kill()
    with turn(place), turn(tmp_path / "no" / "such folder" / "turn"):
        holder.communicate()


def test_papermill_comes_without_the_grammars_that_nobody_asks_for(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from fraudlab.executing import run_notebook\n"
        f"run_notebook(Path({str(notebook(tmp_path, 'here', 'print(1)'))!r}), Path({str(tmp_path / 'out.ipynb')!r}), "
        f"{{}}, cwd=Path({str(tmp_path)!r}))\n"
        "print('rfc3987_syntax' in sys.modules, 'jsonschema' in sys.modules)"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said == "False True\n"
    assert printed(tmp_path / "out.ipynb") == ["1"]


def test_what_is_wrong_with_an_import_is_said_by_the_notebook(tmp_path: Path) -> None:
    here = notebook(tmp_path, "here", "print('before')", "import no_such_module_at_all")
    with kernels(tmp_path) as ahead:
        ahead.start(here)
        with pytest.raises(FraudlabError, match=r"here\.ipynb, cell 2 failed: ModuleNotFoundError: No module named"):
            run_notebook(here, tmp_path / "out.ipynb", {}, cwd=tmp_path, ahead=ahead)
    assert printed(tmp_path / "out.ipynb")[0] == "before"


def test_sockets_of_a_killed_launcher_are_removed_and_those_of_a_live_one_are_not(tmp_path: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    alive = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        for pid in (ended.pid, alive.pid):
            (tmp_path / "runs" / ".kernels" / str(pid)).mkdir(parents=True)
            (tmp_path / "runs" / ".kernels" / str(pid) / "1-1").touch()
        with kernels(tmp_path):
            pass
        assert [path.name for path in (tmp_path / "runs" / ".kernels").iterdir()] == [str(alive.pid)]
    finally:
        alive.kill()
        alive.wait()


def test_modules_are_found_and_loaded_as_far_as_they_can_be(tmp_path: Path) -> None:
    path = notebook(
        tmp_path, "some", "import json as j, os.path\nfrom fraudlab import plots\nfrom . import no", "def broken(:"
    )
    assert imported(path) == ["json", "os.path", "fraudlab", "fraudlab.plots"]
    (tmp_path / "raises_when_imported.py").write_text("1 / 0")
    sys.path.insert(0, str(tmp_path))
    try:
        load(["no_such_module_at_all", "raises_when_imported", "fraudlab.schema"])
    finally:
        sys.path.remove(str(tmp_path))
    assert "fraudlab.schema" in sys.modules
    assert "raises_when_imported" not in sys.modules


def test_a_notebook_ends_when_its_last_cell_has(tmp_path: Path) -> None:
    slow = "import atexit, time\natexit.register(time.sleep, 60)\nprint('done')"
    began = time.monotonic()
    run_notebook(notebook(tmp_path, "slow", slow), tmp_path / "out.ipynb", {}, cwd=tmp_path)
    assert printed(tmp_path / "out.ipynb") == ["done"]
    assert time.monotonic() - began < 50
    assert os.getpid() not in children()


def test_no_kernel_waits_for_a_library_that_its_notebook_does_not_use() -> None:
    folder = Path(__file__).resolve().parents[2] / "notebooks"
    paths = [str(path) for path in sorted(folder.glob("*.ipynb"))[:5]]
    # The launcher logs the metrics and 06 registers: nobody else needs MLflow, and shap is for people's own plots.
    code = (
        "import sys; from pathlib import Path; from fraudlab.executing import imported, load\n"
        "first = set(sys.modules)\n"
        f"for path in {paths!r}: load(imported(Path(path)))\n"
        "print(*first); print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    first, every = (set(line.split()) for line in done.stdout.splitlines())
    assert {"fraudlab.runs", "pandas"} <= first
    assert not first & {"mlflow", "xgboost", "sklearn", "shap", "numba", "matplotlib"}
    assert {"fraudlab.recipe", "fraudlab.explaining", "fraudlab.plots", "fraudlab.checking"} <= every
    assert not every & {"mlflow", "shap"}
