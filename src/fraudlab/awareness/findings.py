"""What a model found of each kind of fraud in its test period, for people who learn to notice them."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd

from fraudlab.decisions import TIERS, Thresholds, assign_tiers
from fraudlab.explain import contributions
from fraudlab.metrics import SMALLEST_CELL
from fraudlab.metrics.curves import wilson
from fraudlab.models import FittedModel
from fraudlab.reasons import tell
from fraudlab.schema import InputError

MOST_APART, MOST_REASONS = 3, 3


def found_by_kind(
    kind: pd.Series, score: np.ndarray, transactions: pd.DataFrame, thresholds: Thresholds, alerts_per_day: int
) -> pd.DataFrame:
    """Count what was found of each kind of fraud: on the day's case list, or met by a second factor at least.

    Parameters
    ----------
    kind : the kind of fraud of each transaction, "" for genuine ones; shape (n,).
    score : of the same transactions.
    transactions : event_time, customer_id, label_time of the same.
    thresholds, alerts_per_day : where tiers begin; how many cases (customers on a day, UTC) are inspected.

    Returns
    -------
    A row per kind, in the order of their names: kind, payments, customers, on_list, low, high (share of its payments
    whose case is on the list; 95 %, Wilson's formula over the customers, whose payments stand or fall together),
    stepped_up (share with tier elevated or above), report_days (median days until it was known), note. Kinds with
    fewer than 10 payments have missing figures and say so in `note`.

    >>> day = pd.to_datetime(["2026-01-01"] * 12, utc=True)
    >>> payments = pd.DataFrame({"event_time": day, "customer_id": list("abbbbbbbbbbc"),
    ...                          "label_time": day + pd.Timedelta("2D")})
    >>> table = found_by_kind(pd.Series([""] + ["theft"] * 10 + [""]), np.array([0.1] + [0.9] * 10 + [0.95]), payments,
    ...                       Thresholds(review=0.9, step_up=0.5), alerts_per_day=1)
    >>> table[["kind", "payments", "customers", "on_list", "stepped_up", "report_days"]].values.tolist()
    [['theft', 10, 1, 0.0, 1.0, 2.0]]
    """
    kind = pd.Series(kind).reset_index(drop=True)
    rows = transactions.reset_index(drop=True)
    if len({len(kind), len(rows), len(score)}) > 1:
        raise InputError(
            f"awareness: kind, score and transactions must be the same rows; found {len(kind):,}, {len(score):,} and "
            f"{len(rows):,}; pass those of the test part"
        )
    case = [rows["event_time"].dt.floor("D"), rows["customer_id"]]
    best = pd.Series(score).groupby(case, observed=True).transform("max")
    cases = pd.DataFrame({"day": case[0], "customer": case[1], "best": best}).drop_duplicates(["day", "customer"])
    place = cases.groupby("day")["best"].rank(ascending=False, method="first")
    listed = cases[place <= alerts_per_day].set_index(["day", "customer"]).index
    on_list = pd.MultiIndex.from_arrays(case).isin(listed)
    stepped = np.asarray(assign_tiers(score, thresholds).codes) > list(TIERS).index("low")
    days = (rows["label_time"] - rows["event_time"]) / pd.Timedelta(days=1)
    found = []
    for name in sorted(set(kind) - {""}):
        mine = (kind == name).to_numpy()
        payments, customers = int(mine.sum()), int(rows.loc[mine, "customer_id"].nunique())
        row = {"kind": name, "payments": payments, "customers": customers}
        if payments < SMALLEST_CELL:
            found.append(row | {"payments": None, "customers": None, "note": f"fewer than {SMALLEST_CELL} payments"})
            continue
        share = float(on_list[mine].mean())
        low, high = wilson(np.array([share * customers]), np.array([customers]))
        interval = {"on_list": share, "low": float(low[0]), "high": float(high[0])}
        found.append(
            row
            | interval
            | {"stepped_up": float(stepped[mine].mean()), "report_days": float(days[mine].median()), "note": ""}
        )
    names = ["kind", "payments", "customers", "on_list", "low", "high", "stepped_up", "report_days", "note"]
    return pd.DataFrame(found, columns=names)


def apart(kind: pd.Series, features: pd.DataFrame, describe: pd.DataFrame) -> pd.DataFrame:
    """Say which features set each kind of fraud apart from genuine payments, one of each group of features.

    Parameters
    ----------
    kind : as in `found_by_kind`.
    features : numbers by name, of the same rows; missing values are left out of a feature's rank and medians.
    describe : `FeatureSet.describe()`.

    Returns
    -------
    At most three rows per kind, the strongest first: kind, feature, rank (AUC of the feature alone against genuine
    payments: above 0.5 the frauds have higher values), fraud, genuine (medians). Kinds with fewer than 10 payments
    are left out.

    >>> words = pd.DataFrame({"column": ["km"], "group": ["place"]})
    >>> kind = pd.Series(["far"] * 10 + [""] * 10)
    >>> apart(kind, pd.DataFrame({"km": [900.0] * 10 + [1.0] * 10}), words).values.tolist()
    [['far', 'km', 1.0, 900.0, 1.0]]
    """
    group = describe.set_index("column")["group"]
    kind = np.asarray(kind)
    names = [name for name in features.columns if name in group.index]
    sizes = pd.Series(kind).value_counts()
    kinds = [name for name in sorted(set(kind) - {""}) if sizes[name] >= SMALLEST_CELL]
    rows = []
    for name in names:
        values = pd.to_numeric(features[name], errors="coerce").to_numpy(dtype=float)
        genuine = np.sort(values[(kind == "") & ~np.isnan(values)])
        for each in kinds:
            mine = values[(kind == each) & ~np.isnan(values)]
            if len(mine) < SMALLEST_CELL or not len(genuine):
                continue
            below, up_to = (np.searchsorted(genuine, mine, side=side) for side in ("left", "right"))
            rank = float((below + up_to).mean() / 2 / len(genuine))
            rows.append((each, name, rank, float(np.median(mine)), float(np.median(genuine)), group[name]))
    table = pd.DataFrame(rows, columns=["kind", "feature", "rank", "fraud", "genuine", "group"])
    table["strength"] = (table["rank"] - 0.5).abs()
    table = table.sort_values(["kind", "strength"], ascending=[True, False], kind="stable")
    table = table[~table.duplicated(["kind", "group"])]
    kept = table.groupby("kind", sort=False).head(MOST_APART)
    return kept[["kind", "feature", "rank", "fraud", "genuine"]].reset_index(drop=True)


def given_reasons(
    kind: pd.Series, features: pd.DataFrame, model: FittedModel, describe: pd.DataFrame, suspicious: np.ndarray
) -> dict[str, list[str]]:
    """Return the codes of the reasons given most often for the suspicious payments of each kind, the most often first.

    Parameters
    ----------
    kind, features, describe : as in `apart`; `describe` with a row for each of the model's features.
    model : trees or another model that explains itself; else every list is empty.
    suspicious : which payments had tier elevated or above; only those have reasons.

    Returns
    -------
    At most three codes by kind; a reason given for fewer than 10 payments is not told.
    """
    wanted = np.flatnonzero(np.asarray(suspicious) & (np.asarray(kind) != ""))
    kinds = sorted(set(kind) - {""})
    if not len(wanted) or not model.explains:
        return {name: [] for name in kinds}
    shown = model.complete(features.iloc[wanted])
    told = tell(contributions(model, shown), shown, describe, top=MOST_REASONS)
    mine = np.asarray(kind)[wanted]
    return {
        name: _most_often([reason.code for row, said in zip(mine, told) if row == name for reason in said])
        for name in kinds
    }


def _most_often(codes: Iterable[str]) -> list[str]:
    counted = pd.Series(list(codes), dtype="object").value_counts()
    counted = counted[counted >= SMALLEST_CELL]
    return list(counted.sort_index().sort_values(ascending=False, kind="stable").index[:MOST_REASONS])
