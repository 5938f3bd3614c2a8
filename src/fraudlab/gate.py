"""The promotion gate: what a candidate must show, on its own and against the champion, before it goes to work."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from fraudlab.checks import CHECKS, Finding
from fraudlab.gate_config import GateConfig
from fraudlab.schema import InputError
from fraudlab.splits import Fold


@dataclass(frozen=True)
class Incumbent:
    """The champion as the gate sees it: its scores on the candidate's test part, or why there are none.

    `scores` has a row per payment of the test part: champion, and champion_risk where it states one.
    """

    version: str
    learnt_until: pd.Timestamp | None
    scores: pd.DataFrame | None
    problem: str = ""


def promotion_gate(
    table: pd.DataFrame,
    candidate: str,
    champion: Incumbent | None,
    gate: GateConfig,
    *,
    fold: Fold,
    comparison: pd.DataFrame | None = None,
    findings: Mapping[str, Finding] | None = None,
) -> list[dict[str, Any]]:
    """Judge a candidate: each check with what was required, what was found and whether it passed.

    Parameters
    ----------
    table : metric table of this run's models on the test part.
    candidate : its model name in `table`.
    champion : the present champion; None when there is none.
    gate : the limits.
    fold : the candidate's; a model that has learnt from older payments than the champion does not replace it, so that
        a look back (`--as-of`) can be registered but never takes over.
    comparison : candidate and champion on the same payments, from `comparing.with_champion`; needed where there is a
        champion with scores. The whole 95 % interval of the paired difference must lie above -`non_inferiority`: a test
        that is too small to tell keeps the champion.
    findings : of the numbered checks, from `checking.run_checks`; one that failed, blocks promotion and is not waived
        (`gate.waive`) is enough to hold the candidate back. Of FL009 (stated risks) and FL011 (groups), which only
        inform, the tables are held against the gate's own, wider limits.

    Returns
    -------
    list of {check, required, found, passed}, which covers what promotion demands: worth on its own (AUC, rules),
    labels that are known (with FL006 among the numbered checks), calibration, groups, the numbered checks, and against
    the champion as late a training and no worse cases.

    Raises
    ------
    InputError : a table lacks a figure the gate needs.
    """
    auc = _one(table, "value", model=candidate, metric="auc_roc", group="all")
    precision = _one(table, "value", model=candidate, metric="card_precision_at_k", group="all")
    rules = _one(table, "value", model="rules", metric="card_precision_at_k", group="all")
    at_budget = "(precision at the budget)"
    checks = [
        check(
            "ranks frauds above genuine payments (AUC ROC)", f">= {gate.min_auc_roc:.3f}", auc, auc >= gate.min_auc_roc
        ),
        check(f"finds more victims than the rules alone {at_budget}", f"> {rules:.3f}", precision, precision > rules),
        _labels(fold, gate.min_known_labels),
        *([] if findings is None else [_calibration(findings, gate), _groups(findings, gate), _numbered(findings)]),
    ]
    if champion is None:
        return checks
    if champion.scores is None:
        why = champion.problem or "it could not be scored"
        return [*checks, check("the champion can be compared", "a package that loads", why, False)]
    if champion.learnt_until is not None:
        said, until = f"{champion.learnt_until:%Y-%m-%d}", f"{fold.refit_end:%Y-%m-%d}"
        passed = fold.refit_end >= champion.learnt_until
        checks.append(check("has learnt from payments as late as the champion's", f">= {said}", until, passed))
    seen = champion.learnt_until is not None and champion.learnt_until > fold.test_start
    which = ", which has learnt from some of these days" if seen else ""
    if comparison is None:
        raise InputError("gate: the champion has scores but no comparison was given; make one with comparing")
    found = {
        name: _one(comparison, name, view="overall", model="difference", metric="card_precision_at_k")
        for name in ("value", "low", "high")
    }
    return [
        *checks,
        check(
            f"not worse than the champion {at_budget}{which}",
            f"difference above {-gate.non_inferiority:.3f} with 95 % confidence",
            difference_said(**found),
            found["low"] > -gate.non_inferiority,
        ),
    ]


def _labels(fold: Fold, least: float) -> dict[str, Any]:
    """Return the row about labels: which share of the test part's payments has one; FL006 asks about late frauds."""
    known, unknown = len(fold.test), fold.unlabelled["test"]
    share = known / (known + unknown) if known else 0.0
    return check(
        "labels of the test part are known (share; late reports: FL006)", f">= {least:.3f}", share, share >= least
    )


def _calibration(findings: Mapping[str, Finding], gate: GateConfig) -> dict[str, Any]:
    name = "stated risks mean what they say (frauds misplaced per fraud, beyond chance; FL009)"
    if (why := _silent(findings.get("FL009"))) is not None:
        return check(name, _beyond_chance(gate.max_calibration_error), why, True)
    return _low_end(name, findings["FL009"].table.iloc[0], gate.max_calibration_error)


def _groups(findings: Mapping[str, Finding], gate: GateConfig) -> dict[str, Any]:
    name = "no group's genuine customers are bothered more often than all others (ratio, beyond chance; FL011)"
    if (why := _silent(findings.get("FL011"))) is not None:
        return check(name, _beyond_chance(gate.max_group_ratio), why, True)
    judged = findings["FL011"].table.dropna(subset="low")
    return _low_end(name, judged.loc[judged["low"].idxmax()], gate.max_group_ratio)


def _beyond_chance(most: float) -> str:
    return f"low end of the 95 % interval <= {most:.3f}"


def _low_end(name: str, row: pd.Series, most: float) -> dict[str, Any]:
    """Return a row that fails only where all of the interval lies above the limit: less can be chance."""
    found = f"low end {row['low']:.3f}, value {row['value']:.3f}, high end {row['high']:.3f}"
    return check(name, _beyond_chance(most), found, bool(row["low"] <= most))


def _silent(finding: Finding | None) -> str | None:
    """Return why a check has nothing to hold against a limit; None where it has."""
    if finding is None:
        return "not applicable: it was not asked"
    return "not applicable" if finding.result == "not applicable" else None


def _numbered(findings: Mapping[str, Finding]) -> dict[str, Any]:
    """Return one row for all numbered checks: which of those that block promotion failed, and which are waived."""
    failed = sorted({finding.code for finding in findings.values() if finding.blocks})
    waived = sorted({finding.code for finding in findings.values() if finding.waived})
    found = ", ".join(failed) or "none failed"
    if waived:
        found += f"; waived: {', '.join(waived)}"
    blocking = [code for code, check in CHECKS.items() if check.severity != "informs"]
    name = "numbered checks that block promotion"
    return check(name, f"none of {len(blocking)} failed", found, not failed)


def difference_said(value: float, low: float, high: float) -> str:
    """Say a paired difference with its interval, or why there is none."""
    if not np.isfinite(value):
        return "no difference: there are no frauds"
    interval = f"{low:+.3f} to {high:+.3f}" if np.isfinite(low) else "unknown: one customer only"
    return f"{value:+.3f}, interval {interval}"


def _one(table: pd.DataFrame, column: str, **where: str) -> float:
    """Return the one figure of a table at these keys."""
    row = table
    for key, value in where.items():
        row = row[row[key] == value]
    if len(row) != 1:
        of = where.get("model", "")
        raise InputError(f"gate: the metric table must hold {where['metric']} of {of} once; found {len(row)}")
    return float(row[column].iloc[0])


def check(name: str, required: str, found: float | str, passed: bool) -> dict[str, Any]:
    """Return a row of the gate's table."""
    shown = found if isinstance(found, str) else f"{found:.3f}"
    return {"check": name, "required": required, "found": shown, "passed": bool(passed)}
