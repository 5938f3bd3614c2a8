"""What alerts are worth week by week: an estimate before any label, and what the labels say once they mature.

The unit is the case: one customer on one day (UTC) with the best score of that day. Before labels come, calibrated
risks say how many of the cases are frauds (confidence-based estimation); that is as good as the calibration, and blind
to a fraud that the model does not see. As labels come, the frauds known so far are divided by the share of frauds that
are known after so long (`fraudlab.delays`).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from fraudlab.delays import ReportDelays
from fraudlab.drift.charts import share_chart
from fraudlab.schema import InputError, require_columns

_Z95 = 1.959963984540054
_NOT = "not applicable"
MATURE = 0.9
"""A week is mature when this share of its frauds is expected to be known."""
LEAST_KNOWN = 0.3
"""With less than this share known, frauds found so far say nothing about the week."""
LEAST_CASES = 10

CASES = ["day", "customer_id", "time", "score", "risk", "alerted", "fraud", "label_time", "known_victim"]
COLUMNS = [
    *("week", "cases", "alerts", "expected_hits", "expected_frauds", "hits", "frauds", "known"),
    *(
        "precision_expected",
        "precision_corrected",
        "precision",
        "low",
        "high",
        "recall_expected",
        "recall",
        "recall_low",
        "recall_high",
    ),
    *("mature", "note"),
]


def cases_of(payments: pd.DataFrame, score: Any, risk: Any, *, review: float, as_of: pd.Timestamp) -> pd.DataFrame:
    """Join payments to cases: one customer on one day, with its best score and what is known of it.

    Parameters
    ----------
    payments : event_time, customer_id and, where known, is_fraud and label_time.
    score, risk : of the same rows; the calibrated risk may be NaN.
    review : cases with a payment at or above this score are reviewed.
    as_of : labels that became known later are not read.

    Returns
    -------
    DataFrame, a row per case in the order of days: day, customer_id, time (of its first payment), score and risk (the
    largest of its payments), alerted, fraud (one of its payments is known to be), label_time (when the first became
    known, NaT where none is), known_victim (a fraud on this customer was known when the day began).

    >>> when = pd.to_datetime(["2026-01-01 09:00", "2026-01-01 10:00", "2026-01-02 09:00"], utc=True)
    >>> rows = pd.DataFrame({"event_time": when, "customer_id": ["a", "a", "a"], "is_fraud": [False, True, False],
    ...                      "label_time": when + pd.Timedelta(days=3)})
    >>> told = cases_of(rows, [0.1, 0.9, 0.2], [0.0, 0.5, 0.0], review=0.5, as_of=when[2] + pd.Timedelta(days=9))
    >>> told[["score", "alerted", "fraud"]].values.tolist()
    [[0.9, True, True], [0.2, False, False]]
    """
    require_columns(payments, ["event_time", "customer_id"], where="cases")
    frame = pd.DataFrame(
        {
            "day": payments["event_time"].dt.floor("D").to_numpy(),
            "customer_id": payments["customer_id"].to_numpy(),
            "time": payments["event_time"].to_numpy(),
            "score": np.asarray(score, dtype=float),
            "risk": np.asarray(risk, dtype=float),
        }
    )
    if {"is_fraud", "label_time"} <= set(payments.columns):
        known = payments["is_fraud"].fillna(False).to_numpy(dtype=bool) & (payments["label_time"] <= as_of).to_numpy()
        frame["label_time"] = payments["label_time"].where(known).to_numpy()
    else:
        frame["label_time"] = pd.Series(pd.NaT, index=frame.index, dtype="datetime64[us, UTC]")
    grouped = frame.groupby(["day", "customer_id"], sort=True)
    told = grouped.agg(
        time=("time", "min"), score=("score", "max"), risk=("risk", "max"), label_time=("label_time", "min")
    )
    told = told.reset_index()
    for name in ("day", "time", "label_time"):
        told[name] = pd.to_datetime(told[name], utc=True)
    first = told.groupby("customer_id")["label_time"].transform("min")
    return told.assign(
        alerted=told["score"] >= review, fraud=told["label_time"].notna(), known_victim=(first <= told["day"])
    )[CASES]


def weekly_performance(
    cases: pd.DataFrame, *, start: pd.Timestamp, as_of: pd.Timestamp, delays: ReportDelays | None
) -> pd.DataFrame:
    """Table what each week's alerts are worth: expected from risks alone, and found so far, corrected for maturity.

    Parameters
    ----------
    cases : from `cases_of`.
    start : weeks of seven days begin here; a week that `as_of` cuts off is left out.
    as_of : the moment of knowing.
    delays : how soon frauds are reported; None where no fraud is known, which leaves the estimate alone.

    Returns
    -------
    DataFrame, a row per week: week (its start), cases, alerts, expected_hits and expected_frauds (sums of risks over
    alerts and over all cases), hits and frauds (known so far), known (share of its frauds expected to be known by now),
    precision_expected, precision_corrected (see `corrected`), precision (hits over known and alerts) with low and
    high (95 %, Wilson), recall_expected, recall
    (hits over frauds) with recall_low and recall_high, mature (known >= 0.9), note. NaN, with the reason in the note,
    where there are no alerts, no risks, fewer than 30 % known or no fraud known.

    Notes
    -----
    Recall needs no correction where alerted frauds are reported as soon as others; where reviews speed reports up it is
    too high until a week is mature. Hidden frauds are in neither.
    """
    require_columns(cases, CASES, where="weekly_performance")
    number = ((cases["time"] - start) // pd.Timedelta(days=7)).to_numpy(dtype=np.int64)
    weeks = int((as_of - start) // pd.Timedelta(days=7))
    if weeks < 1:
        raise InputError("weekly performance: there must be a whole week; found none; choose an earlier start")
    rows = []
    for week in range(weeks):
        mine = cases[number == week]
        alerted = mine[mine["alerted"]]
        age = (as_of - mine["time"]) / pd.Timedelta(days=1)
        known = float(np.mean(delays.by(age))) if delays is not None and len(mine) else np.nan
        row: dict[str, Any] = dict.fromkeys(COLUMNS, np.nan)
        row |= {
            "week": start + pd.Timedelta(days=7 * week),
            "cases": len(mine),
            "alerts": len(alerted),
            "expected_hits": float(alerted["risk"].sum(skipna=False)),
            "expected_frauds": float(mine["risk"].sum(skipna=False)),
            "hits": int(alerted["fraud"].sum()),
            "frauds": int(mine["fraud"].sum()),
            "known": known,
            "mature": bool(known >= MATURE),
        }
        rows.append(row | _rates(row))
    return corrected(pd.DataFrame(rows, columns=COLUMNS))


def _rates(row: dict[str, Any]) -> dict[str, Any]:
    """Return precision and recall of a week, expected and found, and why some of it is missing."""
    told: dict[str, Any] = {}
    why = []
    if row["alerts"] < 1:
        return {"note": f"{_NOT}: no alert in this week"}
    if np.isnan(row["expected_hits"]):
        why.append("the model states no risks to expect from")
    else:
        told["precision_expected"] = row["expected_hits"] / row["alerts"]
        if row["expected_frauds"] > 0:
            told["recall_expected"] = row["expected_hits"] / row["expected_frauds"]
    if np.isnan(row["known"]):
        why.append("no fraud is known yet to learn from how soon they are reported")
    elif row["known"] < LEAST_KNOWN:
        why.append(f"fewer than {LEAST_KNOWN:.0%} of the week's frauds can be known yet".replace("%", " %"))
    else:
        low, high = _wilson(row["hits"], row["alerts"])
        told |= {
            name: min(value / row["known"], 1.0)
            for name, value in (("precision", row["hits"] / row["alerts"]), ("low", low), ("high", high))
        }
        if row["frauds"]:
            low, high = _wilson(row["hits"], row["frauds"])
            told |= {"recall": row["hits"] / row["frauds"], "recall_low": low, "recall_high": high}
        else:
            why.append("no fraud of this week is known")
    return told | {"note": f"{_NOT} in part: {'; '.join(why)}" if why else ""}


def _wilson(hits: float, n: float) -> tuple[float, float]:
    centre, half = hits + _Z95**2 / 2, _Z95 * np.sqrt(hits * (n - hits) / n + _Z95**2 / 4)
    return float((centre - half) / (n + _Z95**2)), float((centre + half) / (n + _Z95**2))


def corrected(weeks: pd.DataFrame) -> pd.DataFrame:
    """Fill in precision_corrected: what the risks state, times what the other mature weeks found over what they stated.

    Parameters
    ----------
    weeks : from `weekly_performance`, of one model.

    Returns
    -------
    The table; a mature week is corrected by the other mature ones, so that it can be judged by itself. NaN with fewer
    than three of them, or with fewer than ten frauds stated in them.

    >>> table = pd.DataFrame({"mature": [True] * 3 + [False], "expected_hits": [20.0, 20, 20, 30], "alerts": [40] * 4,
    ...                       "hits": [10.0, 10, 10, 0], "known": [1.0] * 3 + [0.2], "precision_corrected": np.nan})
    >>> corrected(table)["precision_corrected"].tolist()
    [nan, nan, nan, 0.375]
    """
    mature = weeks["mature"].astype(bool).to_numpy() & weeks["expected_hits"].notna().to_numpy()
    stated = np.where(mature, weeks["expected_hits"].to_numpy(dtype=float), 0.0)
    found = np.where(mature, weeks["hits"].to_numpy(dtype=float) / weeks["known"].to_numpy(dtype=float), 0.0)
    others = mature.sum() - mature
    sums = stated.sum() - stated
    usable = (others >= 3) & (sums >= LEAST_CASES)
    ratio = np.where(usable, (found.sum() - found) / np.where(sums > 0, sums, 1.0), np.nan)
    alerts = weeks["alerts"].to_numpy(dtype=float)
    told = np.minimum(weeks["expected_hits"].to_numpy(dtype=float) * ratio / np.where(alerts > 0, alerts, np.nan), 1.0)
    return weeks.assign(precision_corrected=told)


def estimate_error(weeks: pd.DataFrame) -> pd.DataFrame:
    """Measure the estimates made before labels against what the mature weeks turned out to be.

    Parameters
    ----------
    weeks : from `weekly_performance`, of one model or of many.

    Returns
    -------
    DataFrame, a row for each metric ("precision", "corrected precision", "recall"): bias (mean of estimate less found,
    on the scale 0 to 1), error (mean absolute difference), typical (standard deviation of the difference), n (mature
    weeks with both), note (why nothing is told: fewer than three such weeks).

    >>> table = pd.DataFrame({"mature": True, "precision_expected": [0.5, 0.4, 0.6], "precision": [0.4, 0.4, 0.6],
    ...                       "precision_corrected": np.nan, "recall_expected": np.nan, "recall": np.nan})
    >>> estimate_error(table)[["metric", "bias", "n"]].round(3).values.tolist()
    [['precision', 0.033, 3], ['corrected precision', nan, 0], ['recall', nan, 0]]
    """
    rows = []
    for metric, estimate, found in ESTIMATES:
        both = weeks.loc[weeks["mature"].astype(bool), [estimate, found]].dropna().astype(float)
        off = (both[estimate] - both[found]).to_numpy()
        row = {"metric": metric, "bias": np.nan, "error": np.nan, "typical": np.nan, "n": len(off), "note": ""}
        if len(off) < 3:
            row["note"] = f"{_NOT}: fewer than three mature weeks to measure it by"
        else:
            row |= {"bias": off.mean(), "error": np.abs(off).mean(), "typical": off.std(ddof=1)}
        rows.append(row)
    return pd.DataFrame(rows)


ESTIMATES = (
    ("precision", "precision_expected", "precision"),
    ("corrected precision", "precision_corrected", "precision"),
    ("recall", "recall_expected", "recall"),
)


def precision_chart(weeks: pd.DataFrame) -> pd.DataFrame:
    """Chart the precision of the mature weeks' alerts with control limits (`charts.share_chart`).

    Returns
    -------
    DataFrame: week, alerts, hits and the columns of `share_chart`; the limits come from all mature weeks, with eight
    or more from all but the last two, so that a fall does not set the limits it is judged by.
    """
    mature = weeks[weeks["mature"].astype(bool)].reset_index(drop=True)
    first = len(mature) - 2 if len(mature) >= 8 else len(mature)
    chart = share_chart(mature["hits"], mature["alerts"], baseline=first)
    return pd.concat([mature[["week", "alerts", "hits"]], chart], axis=1)
