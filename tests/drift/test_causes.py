"""A change taken apart: the parts add up, and a planted cause is found where it was planted."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from fraudlab.drift import contribution_shift, segment_change
from fraudlab.schema import InputError


def test_contributions_add_up_and_intervals_hold_over_customers() -> None:
    rng = np.random.default_rng(1)
    outside = 0
    for _ in range(100):
        level = rng.normal(size=80)
        who = rng.integers(0, 40, 400)
        before = pd.DataFrame({"a": level[who], "b": rng.normal(size=400)})
        later = rng.integers(40, 80, 300)
        after = pd.DataFrame({"a": level[later], "b": rng.normal(size=300)})
        table = contribution_shift(before, after, who, later)
        parts = table[table["feature"] != "all"]
        assert parts["difference"].sum() == pytest.approx(table["difference"].iloc[-1])
        row = table.set_index("feature").loc["a"]
        outside += not row["low"] <= 0 <= row["high"]
    # 95 % intervals over 40 customers a side; taken as independent payments more than half would miss 0.
    assert 1 <= outside <= 14


def test_the_feature_that_moved_comes_first() -> None:
    rng = np.random.default_rng(2)
    before = pd.DataFrame(rng.normal(size=(500, 4)), columns=list("abcd"))
    after = before.add([0.0, 0.0, -0.8, 0.1])
    table = contribution_shift(before, after, np.arange(500), np.arange(500))
    assert table["feature"].iloc[0] == "c"
    assert table["share"].iloc[0] == pytest.approx(0.8 / 0.9)
    with pytest.raises(
        InputError, match=r"^contribution_shift: entity_current must have a value for each row; found 3"
    ):
        contribution_shift(before, after, np.arange(500), np.arange(3))


def test_segments_add_up_whatever_the_mix() -> None:
    rng = np.random.default_rng(3)
    for _ in range(10):
        sides = []
        for n in (int(rng.integers(20, 400)), int(rng.integers(20, 400))):
            segment = rng.choice(list("abcd"), n, p=rng.dirichlet(np.ones(4)))
            sides.append(pd.DataFrame({"segment": segment, "value": rng.random(n) < 0.3}))
        table = segment_change("channel", *sides)
        assert table["total"].sum() == pytest.approx(sides[1]["value"].mean() - sides[0]["value"].mean())
        # Mix does not depend on where rates are measured from: alike rates give none.
        flat = [side.assign(value=1) for side in sides]
        assert segment_change("channel", *flat)["total"].abs().max() == pytest.approx(0)


def test_a_new_segment_is_mix_and_missing_labels_are_a_segment() -> None:
    before = pd.DataFrame({"segment": ["pos"] * 90 + [None] * 10, "value": [0] * 90 + [1] * 10})
    after = pd.DataFrame({"segment": ["pos"] * 50 + ["phone"] * 50, "value": [0] * 50 + [1] * 50})
    table = segment_change("channel", before, after).set_index("segment")
    assert set(table.index) == {"pos", "phone", "missing"}
    assert table["rate"].abs().max() == 0
    assert table["total"].sum() == pytest.approx(0.4)
    with pytest.raises(InputError, match=r"^segment_change: current must hold payments; found none"):
        segment_change("channel", before, after.iloc[:0])
