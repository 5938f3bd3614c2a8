"""Real processes: two retrainings at once, other commands beside one, kill -9 at chance moments."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from killing import command, ended, kill_at_random, retraining

from fraudlab import tracking
from fraudlab.config import Workspace
from fraudlab.run_states import state_files

SMALL = {
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


@pytest.mark.slow
def test_of_two_retrainings_one_goes_on_and_killed_ones_are_gone_on_with(tmp_path: Path) -> None:
    began = time.monotonic()
    both = [command(tmp_path, *retraining(SMALL)) for _ in range(2)]
    # While one of them is at work, nothing else may touch the registry.
    until = time.monotonic() + 120
    while not list(state_files(Workspace(tmp_path))) and time.monotonic() < until:
        time.sleep(0.2)
    code, said = ended(command(tmp_path, "models", "rollback", "demo", "--reason", "in a test"))
    assert (code, "another retraining is running" in said) == (75, True), said
    found = sorted((ended(process) for process in both), key=lambda each: each[0])
    seconds = time.monotonic() - began
    assert [code for code, _ in found] == [0, 75], found
    assert "another retraining is running in this project" in found[1][1]
    client = tracking.open_store(Workspace(tmp_path))
    assert tracking.models_table(client)["version"].tolist() == ["1"]
    if tracking.champion(client, "demo") is None:
        tracking.promote(client, "demo", "1", reason="for this test")
    told = kill_at_random(tmp_path, SMALL, 3, seconds, seed=7, say=print)
    assert not [each for each in told if each["broken"]], told
