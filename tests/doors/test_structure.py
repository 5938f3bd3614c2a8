"""The house keeps its shape: light imports, thin notebooks, no outputs, small modules."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
MODULES = sorted((ROOT / "src" / "fraudlab").rglob("*.py"))
HEAVY = {"mlflow", "xgboost", "shap", "matplotlib", "sklearn", "numba", "pandas"}


@pytest.mark.parametrize("statement", ["import fraudlab", "import fraudlab.cli"])
def test_the_doors_open_without_anything_heavy(statement: str) -> None:
    loaded = subprocess.run(
        [sys.executable, "-c", f"{statement}; import sys; print(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert HEAVY.isdisjoint(loaded)


def cells(path: Path, kind: str) -> list[dict]:
    return [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == kind]


def test_the_notebooks_are_there_in_order() -> None:
    assert [path.stem[:2] for path in NOTEBOOKS] == [f"{i:02d}" for i in range(1, len(NOTEBOOKS) + 1)]
    assert len(NOTEBOOKS) >= 6


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_are_thin_and_committed_without_outputs(path: Path) -> None:
    code = cells(path, "code")
    assert not any(cell["outputs"] or cell["execution_count"] for cell in code)
    source = "\n".join("".join(cell["source"]) for cell in code)
    assert not re.search(r"^\s*(def|class|for|while|if) ", source, re.M), "logic belongs in src/"
    assert len(code) <= 14
    assert cells(path, "markdown"), "a notebook tells a story"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_have_one_parameters_cell_of_literals(path: Path) -> None:
    tagged = [cell for cell in cells(path, "code") if "parameters" in cell["metadata"].get("tags", [])]
    assert len(tagged) == 1
    lines = "".join(tagged[0]["source"]).splitlines()
    # A literal and a comment that says what it is: papermill can replace it, a person can understand it.
    assert all(re.fullmatch(r'\w+ = ("[^"]*"|\d+|True|False|None)  # .+', line) for line in lines)
    assert [line.split(" = ")[0] for line in lines] == ["config", "run_dir", "as_of"]


def test_modules_stay_small() -> None:
    long = {str(path.relative_to(ROOT)): n for path in MODULES if (n := path.read_text().count("\n")) > 600}
    assert not long


def test_no_path_of_a_machine_is_written_down() -> None:
    tracked = subprocess.run(["git", "-C", str(ROOT), "ls-files"], capture_output=True, text=True).stdout.split()
    text = [ROOT / name for name in tracked if Path(name).suffix in {".py", ".md", ".toml", ".ipynb", ".json", ".lock"}]
    guilty = [
        str(path.relative_to(ROOT))
        for path in text
        if path.is_file() and re.search(r"(^|[\s\"'(=])/(home|root|work|Users)/", path.read_text(encoding="utf-8"))
    ]
    assert not guilty
