"""The benchmark of orchestration holds the two ways against each other fairly, and notices when they differ."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))

import retrain as bench  # noqa: E402


def evidence(folder: Path, **files: str) -> Path:
    folder.mkdir(parents=True)
    for name, text in files.items():
        (folder / f"{name}.csv").write_text(text)
    return folder


def test_evidence_is_compared_byte_by_byte_but_for_what_tells_of_the_run(tmp_path: Path) -> None:
    one = evidence(tmp_path / "one", metrics="a", roc="b", test_looks="of one", bare_only="x")
    other = evidence(tmp_path / "other", metrics="a", roc="b", test_looks="of other")
    assert bench.same_figures(one, other) == ["metrics.csv", "roc.csv"]
    (other / "roc.csv").write_text("c")
    with pytest.raises(SystemExit, match=r"the two ways differ in: roc\.csv"):
        bench.same_figures(one, other)
    for folder in (one, other):
        (folder / "metrics.csv").unlink()
    (other / "roc.csv").write_text("b")
    with pytest.raises(SystemExit, match=r"metrics\.csv is missing"):
        bench.same_figures(one, other)


def test_seconds_of_the_processor_count_children_and_failures_are_told(tmp_path: Path) -> None:
    burn = "import time\nwhile time.process_time() < 0.4: pass"
    inner = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {burn!r}])"
    found = bench.started([sys.executable, "-c", inner], tmp_path)
    assert 0.4 <= found["processor_s"] < 2
    assert found["clock_s"] >= 0.4
    with pytest.raises(SystemExit, match=r"failed \(3\):\nit says why"):
        bench.started([sys.executable, "-c", "import sys; print('it says why'); sys.exit(3)"], tmp_path)


def test_both_ways_go_by_turns_and_medians_are_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []

    def way(name: str, seconds: list[float]) -> Callable[..., dict]:
        def took(config: Path, changes: list[str], home: Path) -> dict:
            order.append(name)
            assert (home / "of the template").is_file()
            clock = seconds[order.count(name) - 1]
            found = {"clock_s": clock, "processor_s": clock / 2, "peak_gb": 1.0}
            steps = {"01_ingest": {"clock_s": clock / 4}} | ({} if name == "bare" else {"report": {"clock_s": 7.0}})
            return found | {"steps": steps, "evidence": str(evidence(home / "evidence", metrics="same"))}

        return took

    def template(home: Path) -> None:
        home.mkdir()
        (home / "of the template").touch()

    monkeypatch.setattr(bench, "_open_store", template)
    monkeypatch.setattr(bench, "bare", way("bare", [100.0, 90.0, 500.0]))
    monkeypatch.setattr(bench, "orchestrated", way("orchestrated", [130.0, 110.0, 120.0]))
    found = bench.compared(Path("demo.toml"), [], 3, lambda _: None)
    assert order == ["bare", "orchestrated", "orchestrated", "bare", "bare", "orchestrated"]
    assert found["overhead_s"] == 120 - 100
    assert found["overhead_processor_s"] == 60 - 50
    assert found["steps_s"]["01_ingest"] == {"bare": 25.0, "orchestrated": 30.0, "overhead": 5.0}
    assert found["steps_s"]["report"] == {"bare": 0.0, "orchestrated": 7.0, "overhead": 7.0}
    assert found["same_evidence"] == 1


@pytest.mark.slow
def test_the_bare_calls_and_the_command_leave_the_same_figures(tmp_path: Path) -> None:
    small = {
        "dataset.simulate.customers": 400,
        "dataset.simulate.merchants": 120,
        "dataset.simulate.days": 95,
        "split.train_days": 30,
        "split.valid_days": 14,
        "split.test_days": 12,
        "split.min_positives": 5,
        "model.n_estimators": 60,
        "decision.alerts_per_day": 3,
        "decision.step_up_per_day": 6,
    }
    words = [f"--set={key}={value}" for key, value in small.items()]
    out = tmp_path / "retrain.json"
    command = [sys.executable, str(ROOT / "benchmarks" / "retrain.py"), "--times", "1", "--out", str(out), *words]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(out.read_text())["demo"]
    assert found["same_evidence"] > 40
    assert set(found["steps_s"]) > {"start", "01_ingest", "06_register", "report"}
    # Whatever else this machine does: orchestration costs the processor something, and not as much as the work.
    assert 0 < found["overhead_processor_s"] < found["bare"]["processor_s"]
