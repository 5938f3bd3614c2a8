"""Faults at single operations: a sample of an ingest in the ordinary suite, a whole retraining with `-m slow`."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

sys.path.insert(0, str(Path(__file__).parent))

from injecting import KINDS, Fault, Operation, arm, forked, strike

from fraudlab.config import DatasetConfig, RunConfig, Workspace
from fraudlab.datasets import ingest, load_transactions
from fraudlab.privacy.auditlog import audit_log
from fraudlab.privacy.keys import open_keys
from fraudlab.privacy.vault import Vault

HERE = Path(__file__).parent
CONTRACT = HERE.parents[1] / "configs" / "contracts" / "handbook.toml"
NOW = pd.Timestamp("2026-06-01", tz="UTC")
SAMPLE = 16
"""So many faults in an ingest; `FRAUDLAB_FAULTS=all` tries each operation, of the whole retraining too."""
WANTED = 180
"""Operations of a whole retraining, beside its 42 at step boundaries."""


def _config(folder: Path, days: int) -> RunConfig:
    rng = np.random.default_rng(4)
    count = days * 20
    when = pd.Timestamp("2026-03-01") + pd.to_timedelta(np.sort(rng.integers(0, days * 86_400, count)), unit="s")
    table = pd.DataFrame(
        {
            "TRANSACTION_ID": np.arange(count),
            "TX_DATETIME": when.strftime("%Y-%m-%d %H:%M:%S"),
            "CUSTOMER_ID": [f"C{n:06d}" for n in rng.integers(0, 50, count)],
            "TERMINAL_ID": [f"T{n:04d}" for n in rng.integers(0, 10, count)],
            "TX_AMOUNT": rng.lognormal(3, 1, count).round(2),
            "TX_FRAUD": (rng.random(count) < 0.02).astype(int),
            "TX_FRAUD_SCENARIO": 0,
        }
    )
    path = folder / f"{days}.csv"
    table.to_csv(path, index=False)
    return RunConfig(name="bank", dataset=DatasetConfig(name="bank", path=path, contract=CONTRACT))


def test_an_ingest_broken_at_any_operation_holds_the_old_data_or_the_new_and_the_next_one_mends_it(
    tmp_path: Path,
) -> None:
    before, after = _config(tmp_path, 40), _config(tmp_path, 45)
    source, slot = tmp_path / "source", tmp_path / "slot"
    ingest(before, Workspace(source), now=NOW)

    def broken(fault: Fault | None) -> dict[str, object]:
        seen: list[Operation] = []

        def act(what: str, about: str) -> None:
            seen.append(Operation(len(seen) + 1, what, about))
            if fault is not None and fault.at == len(seen):
                strike(fault.kind, what, os.getpid())

        os.environ["TMPDIR"] = str(slot)
        tempfile.tempdir = None
        arm((slot,), act)
        try:
            ingest(after, Workspace(slot), now=NOW)
        except Exception as error:
            return {
                "seen": seen,
                "documented": isinstance(error, OSError) or hasattr(error, "exit_code"),
                "said": error,
            }
        return {"seen": seen, "documented": True}

    def rows(root: Path) -> int:
        return len(load_transactions("bank", purpose="fraud-model-training", workspace=Workspace(root)))

    def place() -> None:
        shutil.rmtree(slot, ignore_errors=True)
        shutil.copytree(source, slot)

    place()
    status, told = forked(lambda: broken(None))
    assert status == 0
    seen = told["seen"]
    faults = [
        Fault(kind, "launcher", operation.number)
        for kind, applies in KINDS.items()
        if kind != "kill -9 of the kernel"
        for operation in seen
        if operation.what in applies
    ]
    assert len(faults) > 100
    if os.environ.get("FRAUDLAB_FAULTS") != "all":
        faults = [faults[k * len(faults) // SAMPLE] for k in range(SAMPLE)]
    digest = Vault(Workspace(slot).vault, open_keys(Workspace(slot))).manifest("bank")["digest"]
    for fault in faults:
        place()
        status, told = forked(lambda fault=fault: broken(fault))
        if fault.kind == "kill -9":
            assert os.WIFSIGNALED(status), (fault, told)
        else:
            assert told["documented"], (fault, told)
        assert rows(slot) in (800, 900), fault
        ingest(after, Workspace(slot), now=NOW)
        assert rows(slot) == 900, fault
        assert Vault(Workspace(slot).vault, open_keys(Workspace(slot))).manifest("bank")["digest"] == digest
        assert audit_log(Workspace(slot)).verify().ok
        assert audit_log(Workspace(slot)).entries("ingest")["facts"].iloc[-1]["rows"] == 900
        left = [path.name for path in slot.rglob(".*") if path.name not in (".lock", ".keys")]
        assert not left, (fault, left)
        assert len([path for path in (slot / "data" / "vault" / "bank").iterdir() if path.is_dir()]) == 1, fault
    print(f"{len(faults)} faults in an ingest of {len(seen)} operations: none broken")


@pytest.mark.slow
def test_a_retraining_broken_anywhere_leaves_the_champion_and_is_gone_on_with(tmp_path: Path) -> None:
    wanted = 0 if os.environ.get("FRAUDLAB_FAULTS") == "all" else WANTED
    words = [sys.executable, str(HERE / "retraining.py"), str(tmp_path), str(wanted)]
    done = subprocess.run(words, stdout=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL)
    assert done.returncode == 0
    told = json.loads(done.stdout.strip().splitlines()[-1])
    print(f"{told['faults']} faults injected over {told['operations']} operations: {len(told['broken'])} broken")
    for name in ("by_step", "by_kind", "ended"):
        print(name, told[name])
    assert told["faults"] >= 200
    assert not told["broken"]
