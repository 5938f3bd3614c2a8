"""The benchmark of emerging patterns: its sums are right, and what it plants is what it says."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest
from scipy import stats


@pytest.fixture(scope="module")
def bench() -> Iterator[ModuleType]:
    folder = str(Path(__file__).resolve().parents[2] / "benchmarks")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        before = set(sys.modules)
        import patterns

        yield patterns
        for name in set(sys.modules) - before:
            if str(getattr(sys.modules[name], "__file__", "")).startswith(folder):
                del sys.modules[name]


def test_what_is_found_is_counted_by_kind_and_size(bench: ModuleType) -> None:
    calm = [{"weeks": 4.0, "right": 1, "false": 2}, {"weeks": 4.0, "right": 0, "false": 0}]
    row = {"kind": "one device", "size": 6, "unusual": 0.5, "alerted": 0.25}
    found = [row | {"days": 3}, row | {"days": None, "alerted": 0.75}, row | {"days": 5, "size": 12}]
    told = bench.judge(calm, found)
    assert (told["calm"]["false"], told["calm"]["a_week"], told["calm"]["right"]) == (2, 0.25, 1)
    assert told["calm"]["high"] == pytest.approx(stats.chi2.ppf(0.975, 6) / 2 / 8, abs=1e-3)
    assert [(each["size"], each["streams"], each["found"]) for each in told["found"]] == [(6, 2, 1), (12, 1, 1)]
    assert told["found"][0]["median_days"] == 3
    assert told["found"][0]["alerted"] == 0.5
    text = bench.markdown(told)
    assert "2 false candidates in 8 weeks of 2 streams, 0.25 a week" in text
    assert "| one device: accounts are emptied with one device | 6 | 2 | 50% |" in text


def test_what_is_planted_shares_what_it_should(bench: ModuleType) -> None:
    rng = np.random.default_rng(1)
    n = 4000
    frame = pd.DataFrame(
        {
            "event_time": bench.streams.moment(80) + pd.to_timedelta(np.sort(rng.uniform(0, 20 * 86_400, n)), unit="s"),
            "customer_id": [f"c{each}" for each in rng.integers(0, 300, n)],
            "merchant_id": [f"m{each}" for each in rng.integers(0, 40, n)],
            "merchant_category": rng.choice(["marketplace", "groceries"], n),
            "channel": rng.choice(["online", "pos"], n),
            "amount": 10.0,
            **dict.fromkeys(("device_id", "ip", "country", "auth_result"), "x"),
            "latitude": 50.0,
            "longitude": 8.0,
        }
    )
    shared = {"one device": "device_id", "one address": "ip", "one merchant": "merchant_id", "one amount": "amount"}
    for name, (plant, _) in bench.KINDS.items():
        rows = plant(frame, np.random.default_rng(3), 12)
        assert len(rows) == rows["customer_id"].nunique() == 12
        assert rows[shared[name]].nunique() == 1
        assert rows["event_time"].between(bench.streams.moment(100), bench.streams.moment(105)).all()
        assert rows["is_fraud"].all()
        # No label is known while the streams are looked at.
        assert rows["label_time"].min() > bench.streams.moment(bench.PERSUADED + bench.LOOKS)
