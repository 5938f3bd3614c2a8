"""Two samples held against each other: scipy, brute force and simulation agree, and customers count, not rows."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from fraudlab.drift import adjusted, chance_psi, compare_columns, design_effect, psi, psi_p_value
from fraudlab.drift.distances import MOST_CATEGORIES, bins_of
from fraudlab.features.lasting import stability
from fraudlab.schema import InputError


def frame(rng: np.random.Generator, rows: int, shift: float = 0.0) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "amount": rng.normal(shift, 1, rows),
            "channel": pd.Series(rng.choice(["pos", "online", "atm"], rows, p=[0.6, 0.3, 0.1]), dtype="str"),
        }
    )


def test_statistics_of_independent_rows_are_scipys() -> None:
    rng = np.random.default_rng(1)
    before, after = frame(rng, 4_000), frame(rng, 3_000, 0.1)
    after.loc[rng.random(3_000) < 0.1, "channel"] = "atm"
    table = compare_columns(before, after, np.arange(4_000), np.arange(4_000, 7_000)).set_index("feature")
    ks = stats.ks_2samp(before["amount"], after["amount"], method="asymp")
    assert table.loc["amount", "statistic"] == pytest.approx(ks.statistic)
    effect = max(table.loc["amount", "effect"], 1)
    assert effect < 1.1
    rows = 4_000 * 3_000 / 7_000 / effect
    assert table.loc["amount", "p"] == pytest.approx(stats.kstwobign.sf(np.sqrt(rows) * ks.statistic))
    counts = [frame_["channel"].value_counts().reindex(["atm", "online", "pos"]) for frame_ in (before, after)]
    chi = stats.chi2_contingency(np.array(counts), correction=False)
    effect = max(table.loc["channel", "effect"], 1)
    assert table.loc["channel", "statistic"] == pytest.approx(chi.statistic / chi.dof / effect)
    assert table.loc["channel", "p"] == pytest.approx(stats.chi2.sf(chi.statistic / effect, chi.dof))


def test_one_index_serves_the_checks_and_the_monitoring() -> None:
    rng = np.random.default_rng(2)
    values = pd.Series(np.round(rng.lognormal(0, 1, 4_000), 1)).mask(rng.random(4_000) < 0.05)
    time = pd.Series(pd.date_range("2026-01-01", periods=4_000, freq="10min", tz="UTC"))
    half = time.iloc[2_000]
    theirs = stability(pd.DataFrame({"x": values}), time, period=1, reference=half)["psi"].iloc[0]
    before, after = (pd.DataFrame({"x": values.iloc[side]}) for side in (slice(0, 2_000), slice(2_000, None)))
    ours = compare_columns(before, after, np.arange(2_000), np.arange(2_000, 4_000))["psi"].iloc[0]
    assert ours == pytest.approx(theirs)


def test_the_index_by_chance_and_its_p_value_hold_in_simulation() -> None:
    rng = np.random.default_rng(3)
    law = np.array([0.3, 0.25, 0.2, 0.15, 0.1])
    found = np.array([psi(rng.multinomial(900, law), rng.multinomial(600, law)) for _ in range(4_000)])
    assert found.mean() == pytest.approx(chance_psi(900, 600, 5), rel=0.05)
    p = np.array([psi_p_value(value, 900, 600, 5) for value in found])
    assert np.mean(p < 0.05) == pytest.approx(0.05, abs=0.012)
    assert psi_p_value(0.5, 900, 600, 1) == 1.0


def test_whose_payments_they_are_decides_what_is_chance() -> None:
    """Twenty equal payments a customer: taken as independent, two samples of one law would differ nearly always."""
    rng = np.random.default_rng(4)
    naive = honest = 0
    for _ in range(60):
        people = rng.normal(size=400)
        rows = np.repeat(people, 20)
        table = compare_columns(
            pd.DataFrame({"x": rows[:4_000]}),
            pd.DataFrame({"x": rows[4_000:]}),
            np.repeat(np.arange(200), 20),
            np.repeat(np.arange(200, 400), 20),
        )
        honest += table["p"].iloc[0] < 0.05
        naive += stats.ks_2samp(rows[:4_000], rows[4_000:], method="asymp").pvalue < 0.05
        assert table["effect"].iloc[0] == pytest.approx(20, rel=0.35)
    assert naive > 40
    assert honest < 9


def test_the_design_effect_is_that_of_brute_force() -> None:
    rng = np.random.default_rng(5)
    code, entity = rng.integers(0, 3, 60), rng.integers(0, 9, 60)
    now = rng.random(60) < 0.4
    n, m = (~now).sum(), now.sum()
    share = {side: np.array([(code[now == side] == bin_).mean() for bin_ in range(3)]) for side in (False, True)}
    variance = np.zeros(3)
    for who in range(9):
        off = np.zeros(3)
        for row in np.flatnonzero(entity == who):
            off += (np.eye(3)[code[row]] - share[now[row]]) * (1 / m if now[row] else -1 / n)
        variance += off**2
    pooled = np.bincount(code, minlength=3) / 60
    expected = ((1 - pooled) * variance / (pooled * (1 - pooled) * (1 / n + 1 / m))).sum() / 2
    assert design_effect(code, now, entity, 3) == pytest.approx(expected)
    assert design_effect(np.zeros(4, dtype=int), np.array([0, 0, 1, 1], dtype=bool), np.arange(4), 2) == 1.0


@pytest.mark.parametrize("method", ["by", "bh"])
def test_false_discovery_is_scipys_and_holm_is_by_hand(method: str) -> None:
    p = np.random.default_rng(6).random(30) ** 3
    np.testing.assert_allclose(adjusted(p, method), stats.false_discovery_control(p, method=method))
    assert adjusted([0.01, 0.03, 0.04], "holm").tolist() == pytest.approx([0.03, 0.06, 0.06])
    assert np.isnan(adjusted([np.nan], method)).all()
    with pytest.raises(InputError, match=r"^method: unknown 'bonferroni'; valid are: bh, by, holm$"):
        adjusted([0.1], "bonferroni")


def test_missing_and_new_values_are_told() -> None:
    rng = np.random.default_rng(7)
    before, after = frame(rng, 1_000), frame(rng, 1_000)
    after["amount"] = after["amount"].mask(np.arange(1_000) < 300)
    after["channel"] = after["channel"].where(np.arange(1_000) >= 100, "phone")
    table = compare_columns(before, after, np.arange(1_000), np.arange(1_000, 2_000)).set_index("feature")
    assert table.loc["amount", "missing_current"] == 0.3
    assert table.loc["channel", "new"] == 0.1
    assert table["reading"].tolist() == ["changed", "changed"]


def test_limits_of_what_can_be_compared() -> None:
    rng = np.random.default_rng(8)
    few = frame(rng, 20)
    table = compare_columns(few, few, np.arange(20), np.arange(20))
    assert set(table["reading"]) == {"not applicable"}
    assert table["note"].iloc[0] == "not applicable: fewer than 200 payments on one side"
    whole = frame(rng, 500).assign(flat=1.0, gone=np.nan, yes=True)
    same = compare_columns(whole, whole, np.arange(500), np.arange(500)).set_index("feature")
    assert (same["psi"].abs() < 1e-12).all()
    assert (same["p"] > 0.99).all()
    assert set(same["reading"]) == {"stable"}
    text = whole.assign(amount="n/a")
    told = compare_columns(whole, text, np.arange(500), np.arange(500)).set_index("feature")
    assert told.loc["amount", "note"].startswith("not applicable: the reference holds numbers")


def test_many_categories_share_a_bin_and_new_ones_have_their_own() -> None:
    before = pd.Series([f"c{number:03d}" for number in range(60) for _ in range(60 - number)])
    (codes, new), size, place, kind = bins_of(before, pd.Series(["c000", "c059", "fresh", None]))
    assert (kind, size) == ("category", MOST_CATEGORIES + 3)
    assert new.tolist() == [0, MOST_CATEGORIES, place, size - 1]
    assert len(codes) == len(before)


def test_refusals_say_what_to_do() -> None:
    whole = frame(np.random.default_rng(9), 300)
    with pytest.raises(InputError, match=r"^drift: column 'channel' is missing; valid are: amount$"):
        compare_columns(whole, whole[["amount"]], np.arange(300), np.arange(300))
    with pytest.raises(
        InputError, match=r"^drift: entity_current must have a value for each row; found 2 for 300 rows;"
    ):
        compare_columns(whole, whole, np.arange(300), np.arange(2))
