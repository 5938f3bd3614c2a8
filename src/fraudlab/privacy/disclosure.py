"""What of a run's evidence may leave: tables whose small groups are merged where that helps, and hidden where not.

Evidence goes into the report, into MLflow and through executed notebooks, so it is protected when it is saved. A count
is small from 1 to 9 (`SMALLEST_CELL`). A reviewer is helped by fewer, larger groups and not by blanks: bins of stated
risk are joined, budgets left out, days added up to weeks; only what cannot be joined is hidden (missing), with as much
else as would give it away. Protecting what is protected changes nothing.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from fraudlab.metrics import SMALLEST_CELL, small_cells, wilson
from fraudlab.privacy.anonymity import suppress_small_cells
from fraudlab.privacy.disclosed_drift import hidden_monitoring


def protected(name: str, table: pd.DataFrame, *, budget: int | None = None) -> pd.DataFrame:
    """Return a table of evidence as it may leave; tables that hold no counts of payments or people are returned as is.

    Parameters
    ----------
    name : of the evidence: anonymity, backtest_precision, backtest_periods, blind_side, calibration, cost, daily,
        daily_volume, label_sources, membership, rules_overlap, segments, shadow, tiers and all
        that begin with monitor_ are known here.
    budget : cases a day that investigators review; this row of the simulation stays.
    """
    match name:
        case "calibration":
            return joined_bins(table)
        case "simulation":
            return thinned_budgets(table, budget)
        case "daily":
            return weekly_precision(table)
        case "daily_volume":
            return weekly_frauds(table)
        case "tiers" | "policy":
            return hidden_tiers(table)
        case "policy_reasons":
            counts = table["transactions"].astype("float64")
            return table.assign(transactions=counts.mask(small_cells(counts)))
        case "customer_rating" | "rating_after" | "rating_moves":
            return hidden_ratings(table)
        case "rules_overlap":
            return hidden_overlap(table)
        case "segments":
            return hidden_segments(table)
        case "shadow":
            return hidden_disagreement(table)
        case "backtest_precision":
            return hidden_precision(table)
        case "backtest_periods":
            return thinned_differences(table)
        case "anonymity":
            return hidden_shares(table)
        case "label_sources":
            return hidden_sources(table)
        case "blind_side":
            return hidden_blind_side(table)
        case _ if name.startswith("monitor_"):
            return hidden_monitoring(name, table)
        case "membership" if not table[["members", "others"]].isna().any(axis=None) and len(table) > 1:
            return suppress_small_cells(table, ["members", "others"], ["group"], values=[])
    return table


def protected_facts(name: str, facts: Any) -> Any:
    """Return facts of evidence as they may leave: of the split and the data, counts from 1 to 9 become None.

    >>> protected_facts("data", {"rows": 7000, "left_out": {"customers": 3, "rows": 40, "why": {"objection": 3}}})
    {'rows': 7000, 'left_out': {'customers': None, 'rows': None, 'why': {'objection': None}}}
    """
    if name == "data" and (left_out := facts.get("left_out")):
        # How many customers were left out tells with their rows, and the other way round.
        few = any(_small(left_out[key]) for key in ("customers", "rows"))
        told = {key: None if few else left_out[key] for key in ("customers", "rows")}
        why = {reason: None if few or _small(n) else n for reason, n in left_out["why"].items()}
        return {**facts, "left_out": {**left_out, **told, "why": why}}
    if name == "fold":
        few = any(_small(facts[key]) for key in ("excluded_customers", "excluded_transactions"))
        told = {key: None if few else facts[key] for key in ("excluded_customers", "excluded_transactions")}
        parts = [
            {**part, **{key: None for key in ("frauds", "transactions", "customers") if _small(part.get(key))}}
            for part in facts["parts"]
        ]
        return {**facts, **told, "parts": parts}
    return facts


def joined_bins(table: pd.DataFrame, smallest: int = SMALLEST_CELL) -> pd.DataFrame:
    """Join neighbouring bins of a calibration table until each holds enough payments, and no frauds or enough of them.

    Parameters
    ----------
    table : model, stage, n, mean_predicted, observed, low, high; bins of a model and stage from low to high risk.

    Returns
    -------
    The same columns with fewer rows; means and intervals are those of the joined bins. Where all of a stage has 1 to 9
    frauds, one bin is left, its observed share and interval missing.

    >>> table = pd.DataFrame({"model": "m", "stage": "after", "bin": [1, 2, 3], "n": [900, 50, 50],
    ...                       "observed": [0, .1, .3], "mean_predicted": [.0, .1, .3], "low": 0.0, "high": 1.0})
    >>> joined_bins(table)[["bin", "n", "mean_predicted", "observed"]].values.tolist()
    [[1.0, 900.0, 0.0, 0.0], [2.0, 100.0, 0.2, 0.2]]
    """
    whole = table[table["n"].gt(0) & table["mean_predicted"].notna()].reset_index(drop=True)
    made = []
    for _, bins in whole.groupby(["model", "stage"], sort=False, dropna=False):
        bins = bins.sort_values("mean_predicted", kind="stable")
        n = bins["n"].to_numpy(dtype=float)
        hits = np.round(bins["observed"].to_numpy(dtype=float) * n)
        if np.isnan(hits).any():  # hidden already
            made.append(bins)
            continue
        groups = _joined(n, hits, smallest)
        starts = [group[0] for group in groups]
        size, frauds = np.add.reduceat(n, starts), np.add.reduceat(hits, starts)
        stated = np.add.reduceat(n * bins["mean_predicted"].to_numpy(dtype=float), starts) / size
        low, high = wilson(frauds, size)
        alone = np.diff([*starts, len(n)]) == 1  # as it came, to the last digit
        told = {"mean_predicted": stated, "observed": frauds / size, "low": low, "high": high}
        told = {key: np.where(alone, bins[key].to_numpy(dtype=float)[starts], told[key]) for key in told}
        few = (frauds > 0) & (frauds < smallest) | (size < smallest)
        told |= {key: np.where(few, np.nan, told[key]) for key in ("observed", "low", "high")}
        joined = bins.iloc[starts].assign(n=size.astype(np.int64), **told)
        made.append(joined.assign(bin=np.arange(1, len(groups) + 1)) if "bin" in joined else joined)
    return pd.concat(made, ignore_index=True) if made else whole


def _joined(n: np.ndarray, hits: np.ndarray, smallest: int) -> list[list[int]]:
    """Return runs of neighbours that hold enough; what is left at the end joins those before it."""

    def enough(group: list[int]) -> bool:
        frauds = hits[group].sum()
        return n[group].sum() >= smallest and (frauds == 0 or frauds >= smallest)

    groups: list[list[int]] = [[]]
    for place in range(len(n)):
        groups[-1].append(place)
        if enough(groups[-1]):
            groups.append([])
    if not groups[-1]:
        groups.pop()
    while len(groups) > 1 and not enough(groups[-1]):
        last = groups.pop()
        groups[-1] += last
    return groups


def thinned_budgets(table: pd.DataFrame, budget: int | None = None, smallest: int = SMALLEST_CELL) -> pd.DataFrame:
    """Leave out budgets of a simulation that differ from the next by 1 to 9 frauds, or by as few compromised cases.

    Parameters
    ----------
    table : from `metrics.simulate`: model, by, budget, chosen, metric, value.
    budget : the one that stays, told or not; None: the chosen one, else the largest.

    >>> counts = {"cases": [30, 60, 90, 270], "frauds_caught": [np.nan, 12, 15, 31], "precision": [np.nan, .2, .15, .1]}
    >>> named = {"model": "m", "by": "budget", "chosen": False}
    >>> table = pd.DataFrame([named | {"budget": k, "metric": name, "value": each}
    ...                       for name, values in counts.items() for k, each in zip([1, 2, 3, 9], values)])
    >>> thinned_budgets(table, 2)["budget"].unique().tolist()
    [2, 9]
    """
    kept = []
    for _, rows in table.groupby(["model", "by"], sort=False):
        wide = rows.pivot(index="budget", columns="metric", values="value").sort_index()
        frauds = wide["frauds_caught"].to_numpy(dtype=float)
        counts = np.column_stack([frauds, np.round((wide["precision"] * wide["cases"]).to_numpy(dtype=float))])
        # No case at all, or no fraud in them, is told; a row not told rests on 1 to 9 of them.
        counts = np.where((wide["cases"].to_numpy() == 0)[:, None], 0.0, counts)
        in_use = rows.loc[rows["chosen"].astype(bool), "budget"].iloc[:1].tolist() if budget is None else [budget]
        own = np.flatnonzero(wide.index.isin(in_use))
        anchor = int(own[0]) if len(own) else len(wide) - 1
        chosen = [anchor]
        last = np.where(np.isnan(counts[anchor]), 0.0, counts[anchor])
        for place in range(anchor + 1, len(wide)):
            if not _few(counts[place] - last, smallest) and not np.isnan(counts[place]).any():
                chosen.append(place)
                last = counts[place]
        last = counts[anchor]
        for place in range(anchor - 1, -1, -1):
            hidden = np.isnan(last).any() or np.isnan(counts[place]).any()
            if not (hidden or _few(last - counts[place], smallest) or _few(counts[place], smallest)):
                chosen.append(place)
                last = counts[place]
        kept.append(rows[rows["budget"].isin(wide.index[chosen])])
    return pd.concat(kept, ignore_index=True) if kept else table


def weekly_frauds(table: pd.DataFrame, smallest: int = SMALLEST_CELL) -> pd.DataFrame:
    """Give the frauds of a table of days by the week: on its first day, missing on the others and where they are few.

    Parameters
    ----------
    table : day, transactions, frauds, labelled and, if wanted, amount; a row per day from the first on. Days of 1 to 9
        payments, or of as few known labels, are hidden too.
    """
    if table.empty or table["frauds"].isna().any():
        return table
    week = np.arange(len(table)) // 7
    weeks = pd.DataFrame({"week": week, "frauds": table["frauds"].to_numpy()}).groupby("week", as_index=False).sum()
    frauds = suppress_small_cells(weeks, ["frauds"], ["week"], smallest)["frauds"].astype("Float64")
    days = suppress_small_cells(
        table, ["transactions"], ["day"], smallest, values=[n for n in ["amount"] if n in table]
    )
    days["labelled"] = suppress_small_cells(table, ["labelled"], ["day"], smallest, values=[])["labelled"]
    first = np.arange(len(table)) % 7 == 0
    days["frauds"] = pd.Series(frauds.to_numpy()[week], index=table.index, dtype="Float64").where(first)
    numbers = [name for name in ("transactions", "labelled", "frauds") if name in days]
    return days.astype(dict.fromkeys(numbers, "float64"))


def weekly_precision(table: pd.DataFrame, smallest: int = SMALLEST_CELL) -> pd.DataFrame:
    """Give the cases a day and what was found among them by the week, where days hold few; hide weeks that do too.

    Parameters
    ----------
    table : day, cases, hits, compromised, precision, perfect_precision and model; a row per day and model.

    Returns
    -------
    The table as it is where each day has no or enough hits and compromised cases. Else a row per model and week, from
    the first day on, under that day: cases, hits, compromised and days added up, both precisions over the week; of a
    week whose counts are 1 to 9, and of as many more as would give them away, counts and precision are missing.

    >>> day = pd.date_range("2026-01-01", periods=14, tz="UTC")
    >>> table = pd.DataFrame({"day": day, "cases": 5, "hits": 2, "compromised": 4, "precision": 0.4,
    ...                       "perfect_precision": 0.8, "model": "m"})
    >>> weekly_precision(table)[["cases", "hits", "compromised", "precision", "days"]].values.tolist()
    [[35.0, 14.0, 28.0, 0.4, 7.0], [35.0, 14.0, 28.0, 0.4, 7.0]]
    """
    counts = ["hits", "compromised"]
    known = {*counts, "day", "cases", "precision", "perfect_precision", "model"} <= set(table.columns)
    if table.empty or not known or table[counts].isna().any(axis=None):
        return table
    if not _few(table[counts].to_numpy(dtype=float), smallest):
        return table
    day = pd.to_datetime(table["day"], utc=True).dt.floor("D")
    week = (day - day.min()).dt.days // 7
    perfect = table["perfect_precision"] * table["cases"]
    weeks = (
        table.assign(week=week, perfect=perfect, days=1)
        .groupby(["model", "week"], sort=False, as_index=False)
        .agg({"day": "first", "cases": "sum", "hits": "sum", "compromised": "sum", "perfect": "sum", "days": "sum"})
    )
    made = []
    for _, rows in weeks.groupby("model", sort=False):
        hits, bad = rows["hits"].astype("float64"), rows["compromised"].astype("float64")
        few_hits, few_bad = small_cells(hits, smallest), small_cells(bad, smallest)
        made.append(
            rows.assign(
                hits=hits.mask(few_hits),
                compromised=bad.mask(few_bad),
                precision=(hits / rows["cases"]).mask(few_hits),
                perfect_precision=(rows["perfect"] / rows["cases"]).mask(few_bad),
            )
        )
    named = ["day", "cases", "hits", "compromised", "precision", "perfect_precision", "model", "days"]
    return pd.concat(made, ignore_index=True)[named]


def hidden_tiers(table: pd.DataFrame, smallest: int = SMALLEST_CELL) -> pd.DataFrame:
    """Hide the small counts of a table of tiers, with rates and sums; shares of all payments and frauds stay beside.

    Parameters
    ----------
    table : tier or action, transactions, frauds and, if wanted, fraud_rate, amount, fraud_amount.

    Returns
    -------
    The table with hidden values missing and two columns more, `share_of_transactions` and `share_of_frauds`, hidden
    where their counts are.
    """
    if table["frauds"].isna().any() or table["transactions"].isna().any():
        return table
    shown = table.copy()
    hidden = np.zeros(len(table), dtype=bool)
    for name in ("transactions", "frauds"):
        by = "tier" if "tier" in table else "action"
        cells = suppress_small_cells(table, [name], [by], smallest, values=[])[name].astype("Float64")
        gone = cells.isna().to_numpy()
        hidden |= gone
        if gone.any():
            shown[name] = cells.astype("float64")
        share = table[name] / max(table[name].sum(), 1)
        shown[f"share_of_{name}"] = share.mask(gone)
    values = [name for name in ("fraud_rate", "amount", "fraud_amount") if name in table]
    return shown.assign(**{name: table[name].astype("float64").mask(hidden) for name in values})


def hidden_ratings(table: pd.DataFrame, smallest: int = SMALLEST_CELL) -> pd.DataFrame:
    """Hide the small counts of how customers were rated, how that moved, or what followed, with what is made of them.

    Parameters
    ----------
    table : from `deciding.rating_tables`: customers by week and rating; customers, transactions and frauds by rating;
        or customers by rating before and after.
    """
    counts = [name for name in ("customers", "transactions", "frauds") if name in table]
    if table[counts].isna().any(axis=None) or table.empty:
        return table
    if "before" in table:
        hidden = suppress_small_cells(table, counts, ["before", "after"], smallest, values=["share"])
        return hidden.astype({"customers": "Float64"})
    shown = table.copy()
    gone = np.zeros(len(table), dtype=bool)
    for name in counts:
        whole = table.groupby("week")[name] if "week" in table else table.groupby(np.zeros(len(table)))[name]
        small = whole.transform(lambda cells: small_cells(cells, smallest)).to_numpy(dtype=bool)
        shown[name] = table[name].astype("float64").mask(small)
        gone |= small
    rates = [name for name in ("share", "fraud_rate", "low", "high") if name in table]
    return shown.assign(**{name: table[name].astype("float64").mask(gone) for name in rates})


def hidden_segments(table: pd.DataFrame) -> pd.DataFrame:
    """Hide the figures of parts of the test whose payments, frauds or caught frauds are few, and what tells them.

    Parameters
    ----------
    table : by, group, metric, value, low, high, n, frauds, note; a row per metric of each group of each `by`.

    Returns
    -------
    The table; where a count of the group is hidden, value, low and high, n or frauds are missing and the note says so.
    """
    if table[["n", "frauds"]].isna().any(axis=None) or not len(table):
        return table
    shown = table.astype({"n": "Float64", "frauds": "Float64", "note": "str"})
    for _, part in table.groupby("by", sort=False):
        wide = part.pivot(index="group", columns="metric", values="value")
        counts = part.drop_duplicates("group").set_index("group")[["n", "frauds"]].astype("int64")
        counts["caught"] = (wide["recall_at_budget"].fillna(0) * counts["frauds"]).round().astype("int64")
        if len(counts) > 1:
            cells = suppress_small_cells(counts.reset_index(), list(counts), ["group"], values=[]).set_index("group")
        else:
            cells = counts.astype("Int64").mask((counts > 0) & (counts < SMALLEST_CELL))
        for name in ("n", "frauds"):
            shown.loc[part.index, name] = part["group"].map(cells[name].astype("Float64"))
        hidden = part.index[part["group"].map(cells.isna().any(axis=1))]
        shown.loc[hidden, ["value", "low", "high"]] = np.nan
        shown.loc[hidden, "note"] = "not shown: a count below 10 could be read from it"
    return shown


def hidden_precision(table: pd.DataFrame, smallest: int = SMALLEST_CELL) -> pd.DataFrame:
    """Hide the periods of CP@k over time in which few victims were found, or few were there, and what tells of them.

    Parameters
    ----------
    table : from `metrics.card_precision_by_period`, `way` called policy: policy, against, period, value, low, high,
        hits, compromised, note.

    >>> table = pd.DataFrame({"policy": "p", "against": "", "period": ["all", "1", "2", "3"], "value": 0.5, "low": 0.4,
    ...                       "high": 0.6, "hits": [35, 12, 3, 20], "compromised": [90, 30, 30, 30], "note": ""})
    >>> hidden_precision(table)["value"].tolist()
    [0.5, nan, nan, 0.5]
    """
    shown = table.astype({"hits": "float64", "compromised": "float64", "note": "str"})
    own = table[(table["against"] == "") & (table["period"] != "all")]
    if own[["hits", "compromised"]].isna().any(axis=None):
        return table
    for _, part in own.groupby("policy", sort=False):
        few = small_cells(part["hits"], smallest) | small_cells(part["compromised"], smallest)
        hidden = part.index[few]
        shown.loc[hidden, ["value", "low", "high", "hits", "compromised"]] = np.nan
        shown.loc[hidden, "note"] = "not shown: a count below 10 could be read from it"
    return shown


def thinned_differences(table: pd.DataFrame, smallest: int = SMALLEST_CELL) -> pd.DataFrame:
    """Tell a difference that adds up over time only where 0 or enough frauds made it since it was told last.

    Parameters
    ----------
    table : policy, by, period, cases, difference, and gained and lost: the frauds that this policy, or the one it is
        held against, catches alone in the period. These two are left out of what is returned.

    >>> table = pd.DataFrame({"policy": "p", "by": "budget", "period": list("abcd"), "cases": 35,
    ...                       "difference": [5.0, 9.0, 20.0, 21.0], "gained": [4, 6, 12, 2], "lost": [0, 0, 10, 0]})
    >>> thinned_differences(table)["difference"].tolist()
    [nan, 9.0, nan, 21.0]
    """
    if "gained" not in table:
        return table
    kept = np.zeros(len(table), dtype=bool)
    for _, part in table.groupby(["policy", "by"], sort=False):
        counts = part[["gained", "lost"]].to_numpy(dtype=float)
        told: list[int] = []
        since = np.zeros(2)
        for place, step in enumerate(counts):
            since = since + step
            if not _few(since, smallest):
                told.append(place)
                since = np.zeros(2)
        # What is left at the end joins what was told last, as bins do.
        while told and since.any():
            before = told[-2] if len(told) > 1 else -1
            since = counts[before + 1 :].sum(axis=0)
            told.pop()
            if not _few(since, smallest):
                told.append(len(counts) - 1)
                break
        kept[part.index[told]] = True
    return table.assign(difference=table["difference"].where(kept)).drop(columns=["gained", "lost"])


def hidden_disagreement(table: pd.DataFrame, smallest: int = SMALLEST_CELL) -> pd.DataFrame:
    """Hide the small counts of who alerts which cases, the sums and shares that rest on them, and what gives them away.

    Parameters
    ----------
    table : from `shadow.disagreement`: metric, group, value, low, high, n, note.

    Returns
    -------
    The table; hidden values are missing and their note says so. Amounts go with the counts of their cases, amounts of
    fraud with those of frauds, and shares of flipped cases with the counts they are made of.

    >>> table = pd.DataFrame({"metric": ["cases"] * 4, "group": ["both", "champion only", "challenger only", "neither"],
    ...                       "value": [40.0, 3.0, 15.0, 900.0], "low": np.nan, "high": np.nan, "n": 958, "note": ""})
    >>> hidden_disagreement(table)["value"].tolist()
    [40.0, nan, nan, 900.0]
    """
    shown = table.astype({"note": "str"}).copy()
    gone = pd.Series(False, index=table.index)
    for counts, sums in (("cases", "amount"), ("frauds", "fraud_amount")):
        mine = table[table["metric"] == counts]
        hidden = dict(zip(mine["group"], small_cells(mine["value"], smallest)))
        gone |= table["metric"].isin([counts, sums]) & table["group"].map(hidden).eq(True)
        if counts == "cases":
            # Without "neither" no count follows from a share of the alerted cases, as long as no other one is hidden.
            shares = {"flipped_share": ("both", "champion only", "challenger only"), "agreement": tuple(hidden)}
            for share, groups in shares.items():
                gone |= (table["metric"] == share) & any(hidden.get(group) for group in groups)
    shown.loc[gone, ["value", "low", "high"]] = np.nan
    shown.loc[gone, "note"] = "not shown: a count below 10 could be read from it"
    # How many cases are alerted by either tells a hidden count too.
    shown["n"] = shown["n"].astype("Float64").mask(gone & (shown["metric"] == "flipped_share"))
    return shown


def hidden_shares(table: pd.DataFrame) -> pd.DataFrame:
    """Hide the shares of an anonymity table that stand for 1 to 9 units."""
    shown = table.copy()
    for name in ("share_alone", "share_below"):
        shown[name] = table[name].mask((table[name] * table["units"]).round().between(1, SMALLEST_CELL - 1))
    return shown


def hidden_overlap(table: pd.DataFrame, smallest: int = SMALLEST_CELL) -> pd.DataFrame:
    """Hide what a table of overlaps says of 1 to 9 cases: of one side, of both, or of one without the other.

    Parameters
    ----------
    table : first, second, cases (of the first), both, share; a row per ordered pair, each with itself too.

    >>> pairs = [("a", "a", 50, 50), ("a", "b", 50, 4), ("b", "a", 30, 4), ("b", "b", 30, 30)]
    >>> table = pd.DataFrame(pairs, columns=["first", "second", "cases", "both"]).assign(share=0.5)
    >>> hidden_overlap(table)["both"].tolist()
    [50.0, nan, nan, 30.0]
    """
    if table.empty or table["cases"].isna().any():
        return table
    cases = table["cases"].to_numpy(dtype=float)
    other = table["second"].map(dict(zip(table["first"], cases))).to_numpy(dtype=float)
    both = table["both"].to_numpy(dtype=float)
    counts = np.stack([both, cases, other, cases - both, other - both])
    gone = ((counts > 0) & (counts < smallest)).any(axis=0) | np.isnan(both)
    few = (cases > 0) & (cases < smallest)
    return table.assign(
        cases=np.where(few, np.nan, cases),
        both=np.where(gone, np.nan, both),
        share=table["share"].astype("float64").mask(gone),
    )


def hidden_sources(table: pd.DataFrame, smallest: int = SMALLEST_CELL) -> pd.DataFrame:
    """Hide the small counts of where labels come from, with as many more as would give them away, and small shares.

    Parameters
    ----------
    table : from `datasets.blindside.label_sources`.

    >>> table = pd.DataFrame({"metric": "label_share", "group": ["source: genuine", "review", "random"],
    ...                       "value": [0.98, 0.004, 0.016], "n": [980, 4, 16], "note": ""})
    >>> hidden_sources(table)["n"].tolist()
    [980.0, nan, nan]
    """
    if table["n"].isna().any():
        return table
    shown = table.astype({"n": "float64", "value": "float64"})
    payments, looked = table[table["metric"] == "label_share"], table[table["metric"] == "looked_at"]
    hidden = payments.index[small_cells(payments["n"], smallest)]
    shown.loc[hidden, ["value", "n"]] = np.nan
    decided = (looked["value"].fillna(0) * looked["n"]).round()
    shown.loc[looked.index[small_cells(decided, smallest)], "value"] = np.nan
    shown.loc[looked.index[small_cells(looked["n"], smallest)], ["value", "n"]] = np.nan
    return shown


def hidden_blind_side(table: pd.DataFrame, smallest: int = SMALLEST_CELL) -> pd.DataFrame:
    """Hide what random checks estimate from 1 to 9 frauds, and shares of as few cases.

    Parameters
    ----------
    table : from `datasets.blindside.blind_side`.

    Returns
    -------
    The table; hidden values are missing and their note says so. Estimates from no fraud found stay: their upper limit
    says what may have been missed.

    >>> table = pd.DataFrame({"metric": ["random_checks", "frauds_found", "hidden_frauds", "queue_precision"],
    ...                       "value": [0.5, 3.0, 900.0, 0.4], "low": 0.0, "high": 1.0, "n": [60, 30, 30, 50],
    ...                       "note": ""})
    >>> hidden_blind_side(table)["value"].tolist()
    [0.5, nan, nan, 0.4]
    """
    if table["note"].str.startswith("not shown").any():
        return table
    counts = (table["value"].fillna(0) * table["n"]).round()
    few = _small_of(counts, smallest) | _small_of(table["n"] - counts, smallest)
    hidden = few & table["metric"].isin(["random_checks", "queue_precision"])
    found = table["metric"] == "frauds_found"
    if _small_of(table.loc[found, "value"], smallest).any():
        hidden |= found | table["metric"].isin(["frauds_per_10000", "hidden_frauds", "queue_recall"])
    if hidden[table["metric"] == "queue_precision"].any():  # the recall would tell the frauds among the listed cases
        hidden |= table["metric"] == "queue_recall"
    shown = table.astype({"value": "float64", "low": "float64", "high": "float64", "note": "str"})
    shown.loc[hidden, ["value", "low", "high"]] = np.nan
    shown.loc[hidden, "note"] = "not shown: a count below 10 could be read from it"
    return shown


def _small_of(counts: pd.Series, smallest: int) -> pd.Series:
    return (counts > 0) & (counts < smallest)


def _few(counts: np.ndarray, smallest: int) -> bool:
    return bool(((counts > 0) & (counts < smallest)).any())


def _small(count: Any) -> bool:
    return isinstance(count, int | float | np.integer) and 0 < count < SMALLEST_CELL
