"""The promotion gate: what a candidate must show, on its own and against the champion, before it goes to work."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from fraudlab.checks import CHECKS, Finding
from fraudlab.config import GateConfig
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
        (`gate.waive`) is enough to hold the candidate back.

    Raises
    ------
    InputError : a table lacks a figure the gate needs.
    """
    auc = _one(table, "value", model=candidate, metric="auc_roc", group="all")
    precision = _one(table, "value", model=candidate, metric="card_precision_at_k", group="all")
    rules = _one(table, "value", model="rules", metric="card_precision_at_k", group="all")
    at_budget = "(precision at the budget)"
    checks = [
        _check(
            "ranks frauds above genuine payments (AUC ROC)", f">= {gate.min_auc_roc:.3f}", auc, auc >= gate.min_auc_roc
        ),
        _check(f"finds more victims than the rules alone {at_budget}", f"> {rules:.3f}", precision, precision > rules),
        *([] if findings is None else [_numbered(findings)]),
    ]
    if champion is None:
        return checks
    if champion.scores is None:
        why = champion.problem or "it could not be scored"
        return [*checks, _check("the champion can be compared", "a package that loads", why, False)]
    if champion.learnt_until is not None:
        said, until = f"{champion.learnt_until:%Y-%m-%d}", f"{fold.refit_end:%Y-%m-%d}"
        passed = fold.refit_end >= champion.learnt_until
        checks.append(_check("has learnt from payments as late as the champion's", f">= {said}", until, passed))
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
        _check(
            f"not worse than the champion {at_budget}{which}",
            f"difference above {-gate.non_inferiority:.3f} with 95 % confidence",
            _difference(**found),
            found["low"] > -gate.non_inferiority,
        ),
    ]


def _numbered(findings: Mapping[str, Finding]) -> dict[str, Any]:
    """Return one row for all numbered checks: which of those that block promotion failed, and which are waived."""
    failed = sorted({finding.code for finding in findings.values() if finding.blocks})
    waived = sorted({finding.code for finding in findings.values() if finding.waived})
    found = ", ".join(failed) or "none failed"
    if waived:
        found += f"; waived: {', '.join(waived)}"
    blocking = [code for code, check in CHECKS.items() if check.severity != "informs"]
    check = "numbered checks that block promotion"
    return _check(check, f"none of {len(blocking)} failed", found, not failed)


def _difference(value: float, low: float, high: float) -> str:
    if not np.isfinite(value):
        return "no difference: the test part has no frauds"
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


def _check(check: str, required: str, found: float | str, passed: bool) -> dict[str, Any]:
    shown = found if isinstance(found, str) else f"{found:.3f}"
    return {"check": check, "required": required, "found": shown, "passed": bool(passed)}
