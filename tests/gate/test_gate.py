"""The promotion gate: what it lets pass, what it holds back, and what it says of both."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from fraudlab.checks import CHECKS, Finding
from fraudlab.config import GateConfig
from fraudlab.gate import Incumbent, promotion_gate
from fraudlab.metrics import compare
from fraudlab.schema import InputError

DAY = pd.Timedelta(days=1)
REFIT_END = pd.Timestamp("2026-05-03", tz="UTC")
FOLD = SimpleNamespace(
    refit_end=REFIT_END,
    test_start=REFIT_END + 14 * DAY,
    test_end=REFIT_END + 35 * DAY,
    test=np.arange(950),
    unlabelled={"test": 50},
)
OURS = {"xgboost__auc_roc": 0.9, "xgboost__card_precision_at_k": 0.3, "rules__card_precision_at_k": 0.1}
SCORES = pd.DataFrame({"champion": [0.1]})


def figures(**values: float) -> pd.DataFrame:
    rows = []
    for name, value in values.items():
        model, metric = name.split("__")
        rows.append({"model": model, "metric": metric, "group": "all", "value": value})
    return pd.DataFrame(rows)


def difference(value: float, low: float, high: float) -> pd.DataFrame:
    row = {"view": "overall", "model": "difference", "metric": "card_precision_at_k", "value": value}
    return pd.DataFrame([row | {"low": low, "high": high}, row | {"view": "period", "low": 0.0, "high": 0.0}])


@pytest.mark.parametrize(
    ("changes", "beside", "passed"),
    [
        ({}, None, [True, True, True]),
        ({"xgboost__auc_roc": 0.55}, None, [False, True, True]),
        ({"rules__card_precision_at_k": 0.3}, None, [True, False, True]),
        ({}, (0.0, 0.0, 0.0), [True] * 5),
        ({}, (-0.01, -0.019, 0.02), [True] * 5),
        ({}, (0.01, -0.021, 0.05), [True] * 4 + [False]),  # ahead as it seems, but the test is too small to tell
        ({}, (np.nan, np.nan, np.nan), [True] * 4 + [False]),
    ],
)
def test_the_gate(changes, beside, passed) -> None:
    champion = None if beside is None else Incumbent("1", REFIT_END, SCORES)
    found = promotion_gate(
        figures(**(OURS | changes)),
        "xgboost",
        champion,
        GateConfig(non_inferiority=0.02),
        fold=FOLD,
        comparison=None if beside is None else difference(*beside),
    )
    assert [check["passed"] for check in found] == passed
    assert all(check["required"] and check["check"] and check["found"] for check in found)


def test_the_gate_says_the_difference_and_its_interval() -> None:
    found = promotion_gate(
        figures(**OURS),
        "xgboost",
        Incumbent("1", REFIT_END, SCORES),
        GateConfig(non_inferiority=0.05),
        fold=FOLD,
        comparison=difference(0.0952, 0.0193, 0.1524),
    )
    assert found[-1] == {
        "check": "not worse than the champion (precision at the budget)",
        "required": "difference above -0.050 with 95 % confidence",
        "found": "+0.095, interval +0.019 to +0.152",
        "passed": True,
    }


def numbered(**results: tuple[str, str]) -> dict[str, Finding]:
    return {
        code: Finding(code, CHECKS[code].title, CHECKS[code].severity, result, "So it is.", pd.DataFrame(), waived)
        for code, (result, waived) in results.items()
    }


@pytest.mark.parametrize(
    ("findings", "found", "passed"),
    [
        ({}, "none failed", True),
        ({"FL013": ("passed", ""), "FL010": ("failed", ""), "FL014": ("not applicable", "")}, "none failed", True),
        ({"FL014": ("failed", ""), "FL007": ("failed", "")}, "FL007, FL014", False),
        ({"FL014": ("failed", "seen")}, "none failed; waived: FL014", True),
        ({"FL014": ("failed", "seen"), "FL001": ("failed", "")}, "FL001; waived: FL014", False),
    ],
)
def test_a_failed_check_that_blocks_promotion_holds_the_candidate_back(findings, found, passed) -> None:
    rows = promotion_gate(figures(**OURS), "xgboost", None, GateConfig(), fold=FOLD, findings=numbered(**findings))
    blocking = sum(check.severity != "informs" for check in CHECKS.values())
    assert rows[-1] == {
        "check": "numbered checks that block promotion",
        "required": f"none of {blocking} failed",
        "found": found,
        "passed": passed,
    }
    without = promotion_gate(figures(**OURS), "xgboost", None, GateConfig(), fold=FOLD)
    assert rows[:3] == without
    assert [row["found"] for row in rows[3:5]] == ["not applicable: it was not asked"] * 2
    assert all(row["passed"] for row in rows[3:5])


@pytest.mark.parametrize(
    ("known", "unknown", "least", "passed", "found"),
    [
        (900, 100, 0.9, True, "0.900"),
        (899, 101, 0.9, False, "0.899"),
        (0, 100, 0.9, False, "0.000"),
        (0, 0, 0.9, False, "0.000"),
        (10, 90, 0.0, True, "0.100"),
    ],
)
def test_labels_that_are_not_known_yet_hold_the_candidate_back(known, unknown, least, passed, found) -> None:
    fold = SimpleNamespace(**vars(FOLD) | {"test": np.arange(known), "unlabelled": {"test": unknown}})
    rows = promotion_gate(figures(**OURS), "xgboost", None, GateConfig(min_known_labels=least), fold=fold)
    assert rows[2] == {
        "check": "labels of the test part are known (share; late reports: FL006)",
        "required": f">= {least:.3f}",
        "found": found,
        "passed": passed,
    }


def errors(low: float) -> pd.DataFrame:
    row = {"metric": "calibration_error", "stage": "after", "model": "xgboost", "value": 2.0, "low": low, "high": 3.0}
    return pd.DataFrame([row | {"n": 900, "note": ""}])


def ratios(*rows: tuple[str, float, float]) -> pd.DataFrame:
    made = [
        {"view": "group", "by": "age_band", "group": group, "metric": "false_positive_ratio", "model": "xgboost"}
        | {"value": value, "low": low, "high": value + 1, "n": 900, "note": ""}
        for group, value, low in rows
    ]
    return pd.DataFrame(made)


@pytest.mark.parametrize(
    ("low", "ratio_low", "passed"),
    [(1.0, 2.0, [True, True]), (1.001, 1.9, [False, True]), (0.2, 2.001, [True, False]), (0.2, np.nan, [True, True])],
)
def test_stated_risks_and_groups_are_held_against_the_gates_own_limits(low, ratio_low, passed) -> None:
    """The checks that inform make the tables; the gate's wider limits decide."""
    findings = {
        "FL009": CHECKS["FL009"](errors(low), "xgboost"),
        "FL011": CHECKS["FL011"](
            ratios(("18-30", 0.9, 0.7), ("60+", 2.5, ratio_low), ("few", np.nan, np.nan)), "xgboost"
        ),
    }
    rows = promotion_gate(figures(**OURS), "xgboost", None, GateConfig(), fold=FOLD, findings=findings)
    mine = [row for row in rows if "FL009" in row["check"] or "FL011" in row["check"]]
    assert [row["passed"] for row in mine] == passed
    assert [row["required"] for row in mine] == [
        f"low end of the 95 % interval <= {most}" for most in ("1.000", "2.000")
    ]
    assert mine[0]["found"] == f"low end {low:.3f}, value 2.000, high end 3.000"
    group = (0.7, 0.9, 1.9) if np.isnan(ratio_low) else (ratio_low, 2.5, 3.5)
    worst = "low end {:.3f}, value {:.3f}, high end {:.3f}".format(*group)
    assert mine[1]["found"] == worst
    wider = GateConfig(max_calibration_error=5, max_group_ratio=5)
    assert all(
        row["passed"] for row in promotion_gate(figures(**OURS), "xgboost", None, wider, fold=FOLD, findings=findings)
    )


def test_what_no_check_could_judge_does_not_hold_back() -> None:
    findings = {"FL009": CHECKS["FL009"](None, "xgboost"), "FL011": CHECKS["FL011"](None, "xgboost")}
    rows = promotion_gate(figures(**OURS), "xgboost", None, GateConfig(), fold=FOLD, findings=findings)
    assert [(row["found"], row["passed"]) for row in rows[3:5]] == [("not applicable", True)] * 2


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"waive": ["FL013"]}, "gate.waive needs gate.waived_because"),
        ({"waive": ["FL013"], "waived_because": "  "}, "gate.waive needs gate.waived_because"),
        ({"waived_because": "so"}, "gate.waived_because belongs to gate.waive"),
        ({"waive": ["leakage"], "waived_because": "so"}, "numbers of checks such as FL013; found 'leakage'"),
        ({"max_age_days": 0}, "greater than or equal to 1"),
    ],
)
def test_a_waiver_needs_a_number_and_a_reason(changes, said) -> None:
    with pytest.raises(ValidationError, match=said):
        GateConfig(**changes)
    assert GateConfig(waive=["FL013", "FL013"], waived_because="M. Muster: known").waive == ("FL013",)


def test_the_gate_reads_the_paired_difference_of_a_comparison() -> None:
    """Two models that differ little pass on the paired interval, where their own intervals would say nothing."""
    rng = np.random.default_rng(0)
    y, noise = rng.random(4000) < 0.05, rng.normal(size=4000)
    score = 2 * y + noise
    table = compare(
        y,
        score + 0.01 * rng.normal(size=4000),
        score,
        event_time=REFIT_END + rng.integers(0, 20, 4000) * DAY,
        entity=rng.integers(0, 800, 4000),
        amount=np.ones(4000),
        k=8,
        names=("xgboost", "champion"),
        n_boot=100,
    )
    mine = table[(table["view"] == "overall") & (table["metric"] == "card_precision_at_k")].set_index("model")
    assert mine.loc["xgboost", "high"] - mine.loc["xgboost", "low"] > 0.08
    champion = Incumbent("1", REFIT_END, SCORES)
    gate = GateConfig(non_inferiority=0.02)
    found = promotion_gate(figures(**OURS), "xgboost", champion, gate, fold=FOLD, comparison=table)
    assert found[-1]["passed"], found[-1]


def test_a_look_back_never_takes_over() -> None:
    later = Incumbent("1", REFIT_END + DAY, SCORES)
    given = {"fold": FOLD, "comparison": difference(0.2, 0.1, 0.3)}
    found = promotion_gate(figures(**OURS), "xgboost", later, GateConfig(), **given)
    assert not found[-2]["passed"]
    assert found[-2]["check"] == "has learnt from payments as late as the champion's"
    flattered = Incumbent("1", FOLD.test_end, SCORES)
    found = promotion_gate(figures(**OURS), "xgboost", flattered, GateConfig(), **given)
    assert found[-1]["check"].endswith("which has learnt from some of these days")


def test_a_champion_that_cannot_be_read_is_not_replaced_in_silence() -> None:
    broken = Incumbent("1", None, None, "its package is damaged")
    found = promotion_gate(figures(**OURS), "xgboost", broken, GateConfig(), fold=FOLD)
    assert found[-1] == {
        "check": "the champion can be compared",
        "required": "a package that loads",
        "found": "its package is damaged",
        "passed": False,
    }


def test_the_gate_refuses_tables_without_the_figures() -> None:
    with pytest.raises(InputError, match="must hold card_precision_at_k of rules once; found 0"):
        promotion_gate(figures(**OURS).iloc[:2], "xgboost", None, GateConfig(), fold=FOLD)
    champion = Incumbent("1", REFIT_END, SCORES)
    with pytest.raises(InputError, match="the champion has scores but no comparison was given"):
        promotion_gate(figures(**OURS), "xgboost", champion, GateConfig(), fold=FOLD)
    with pytest.raises(InputError, match="must hold card_precision_at_k of difference once; found 0"):
        promotion_gate(
            figures(**OURS), "xgboost", champion, GateConfig(), fold=FOLD, comparison=difference(0, 0, 0).iloc[1:]
        )
