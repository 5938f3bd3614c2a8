"""A run's models and rules held against each other on its test part: thresholds by every rule, model against model."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from fraudlab import decisions, metrics
from fraudlab.config import RunConfig
from fraudlab.gate import Incumbent
from fraudlab.metrics.comparison import COLUMNS, NOT_SHOWN
from fraudlab.plots import RULE_LABELS
from fraudlab.privacy.disclosure import joined_bins
from fraudlab.recipe import Prepared, review_threshold
from fraudlab.training import FittedModel


def threshold_outcomes(
    model: FittedModel, prepared: Prepared, scores: pd.DataFrame, config: RunConfig, *, n_boot: int = 500
) -> pd.DataFrame:
    """Table what each rule for the review threshold promised on validation and what it brought on the test part.

    Parameters
    ----------
    model : the candidate; thresholds come from its validation scores.
    prepared : what it was trained on.
    scores : of the test part, from `recipe.score_part`.
    config : its costs, its entity and which rule is in use.
    n_boot : bootstrap replicates over entities.

    Returns
    -------
    DataFrame: rule, used (the one in `decision.rule`), threshold (NaN for `by_amount`, which has none), period
    ("validation" or "test"), metric (see `metrics.OUTCOMES`), value, low, high, n, note. `by_amount` reviews each
    payment whose stated risk times amount is worth it (Elkan 2001); no package can act on it yet. On validation a
    threshold or a calibration was chosen on the very rows, so its figures flatter, and the note says so.
    """
    costs = {name: getattr(config.decision, name) for name in ("review_cost", "recovery_rate", "false_alarm_cost")}
    parts = {"validation": prepared.rows("valid"), "test": prepared.rows("test")}
    name = config.model.kind
    score = {"validation": model.valid_score, "test": scores[name].to_numpy()}
    tables = []
    for rule in RULE_LABELS:
        threshold = None
        if rule == "by_amount":
            if model.calibrator is None:
                continue
            risk = {"validation": model.risk_of(model.valid_score), "test": scores[f"{name}_risk"].to_numpy()}
        else:
            threshold = _threshold(rule, model, prepared, config)
        for period, part in parts.items():
            transactions = part["transactions"]
            amount = transactions["amount"].to_numpy()
            alerted = (
                decisions.worth_reviewing(risk[period], amount, **costs)
                if threshold is None
                else score[period] >= threshold
            )
            table = metrics.alert_outcomes(
                part["y"],
                alerted,
                event_time=transactions["event_time"],
                entity=transactions[config.split.entity],
                amount=amount,
                **costs,
                n_boot=n_boot,
                seed=config.seed,
            )
            if period == "validation":
                table["note"] += "; chosen on these rows"
            used = rule == config.decision.rule
            for place, (key, value) in enumerate(
                {"rule": rule, "used": used, "threshold": threshold, "period": period}.items()
            ):
                table.insert(place, key, value)
            tables.append(table)
    return pd.concat(tables, ignore_index=True).astype({"threshold": "float64"})


def _threshold(rule: str, model: FittedModel, prepared: Prepared, config: RunConfig) -> float:
    review = review_threshold(rule, model, prepared, config)
    if review is not None:
        return review
    transactions = prepared.rows("valid")["transactions"]
    return decisions.choose_thresholds(
        model.valid_score,
        transactions["event_time"],
        transactions[config.split.entity],
        alerts_per_day=config.decision.alerts_per_day,
        step_up_per_day=0,
    ).review


def outcomes_overview(table: pd.DataFrame) -> pd.DataFrame:
    """Lay the outcomes of the rules out for reading: a row per rule and period, a column per measure."""
    wide = table.pivot(index=["rule", "threshold", "period"], columns="metric", values="value").reset_index()
    wide = wide.assign(order=wide["rule"].map(list(RULE_LABELS).index)).sort_values(
        ["order", "period"], ascending=[True, False]
    )
    wide["rule"] = wide["rule"].map(RULE_LABELS)
    return wide[["rule", "threshold", "period", *metrics.OUTCOMES]].reset_index(drop=True)


def with_baselines(prepared: Prepared, scores: pd.DataFrame, config: RunConfig, *, n_boot: int = 200) -> pd.DataFrame:
    """Compare the candidate with every other model of the run, on the same test payments.

    Returns
    -------
    DataFrame with the columns of `metrics.compare` after `challenger` and `champion`, the two models compared; here the
    candidate is the challenger. One view more: "calibration", stated_risk and observed_rate per bin and model.
    """
    names = [name for name in scores if not name.endswith("_risk") and name != config.model.kind]
    tables = [_compared(prepared, scores, config.model.kind, name, config, n_boot) for name in names]
    return pd.concat(tables, ignore_index=True) if tables else _nothing()


SEGMENT_METRICS = ("recall_at_budget", "precision_at_budget", "money_caught_share", "average_precision", "auc_roc")
NEW_DAYS = 30
"""A customer counts as new for so many days after their first payment in the data."""
MOST_SEGMENTS = 7


def by_segment(prepared: Prepared, scores: pd.DataFrame, config: RunConfig, *, n_boot: int = 200) -> pd.DataFrame:
    """Measure the candidate on parts of the test payments: by amount, channel, kind of merchant, hour, new customers.

    Parameters
    ----------
    prepared, scores, config : as in `with_baselines`.
    n_boot : bootstrap replicates over entities.

    Returns
    -------
    DataFrame: by, group, metric (`SEGMENT_METRICS`), value, low, high, n, frauds, note. The cases to review are chosen
    over everybody, as at work. Amounts are cut at the quartiles of the training payments, so that nothing is chosen on
    the test part. Small cells are hidden when it is saved (`privacy.disclosure`).
    """
    part = prepared.rows("test")
    transactions, decision = part["transactions"], config.decision
    tables = []
    for by, label in segments(transactions, prepared.rows("train")["transactions"], prepared.transactions).items():
        table = metrics.evaluate(
            part["y"],
            scores[config.model.kind].to_numpy(),
            event_time=transactions["event_time"],
            entity=transactions[config.split.entity],
            amount=transactions["amount"].to_numpy(),
            k=decision.alerts_per_day,
            n_boot=n_boot,
            block="entity",
            seed=config.seed,
            groups=label,
        )
        table = table[(table["group"] != "all") & table["metric"].isin(SEGMENT_METRICS)]
        frauds = pd.Series(np.asarray(part["y"], dtype=int)).groupby(np.asarray(label)).sum()
        tables.append(table.assign(by=by, frauds=table["group"].map(frauds)))
    columns = ["by", "group", "metric", "value", "low", "high", "n", "frauds", "note"]
    return pd.concat(tables, ignore_index=True)[columns]


def segments(test: pd.DataFrame, train: pd.DataFrame, everything: pd.DataFrame) -> dict[str, np.ndarray]:
    """Return what the test payments are grouped by: name -> label of each payment.

    Parameters
    ----------
    test, train : the payments of these parts; limits and kinds are those of the training payments.
    everything : all payments, to know each customer's first one.

    >>> frame = pd.DataFrame({"event_time": pd.to_datetime(["2026-01-01 02:00", "2026-03-01 12:00"], utc=True),
    ...                       "customer_id": "a", "amount": [5.0, 50.0]})
    >>> {by: label.tolist() for by, label in segments(frame, frame, frame).items()}["customer"]
    ['new: in the first 30 days', 'known longer']
    """
    found: dict[str, np.ndarray] = {}
    limits = np.unique(train["amount"].quantile([0.25, 0.5, 0.75]).round(2))
    said = [f"up to {limits[0]:,.2f}", *(f"{low:,.2f} to {high:,.2f}" for low, high in pairwise(limits))]
    names = np.array([*said, f"above {limits[-1]:,.2f}"], dtype=object)
    found["amount"] = names[np.searchsorted(limits, test["amount"].to_numpy(), side="left")]
    for by in ("channel", "merchant_category"):
        if by in test and train[by].notna().any():
            kept = train[by].value_counts().sort_index().sort_values(ascending=False, kind="stable").index
            label = test[by].astype("str").where(test[by].isin(kept[:MOST_SEGMENTS]), "others")
            found[by] = label.where(test[by].notna(), "missing").to_numpy(dtype=object)
    hour = test["event_time"].dt.hour.to_numpy()
    found["hour"] = np.where(hour < 6, "00 to 06 h UTC", np.where(hour < 18, "06 to 18 h UTC", "18 to 24 h UTC"))
    first = everything.groupby("customer_id")["event_time"].min()
    new = test["event_time"] - test["customer_id"].map(first) < pd.Timedelta(days=NEW_DAYS)
    found["customer"] = np.where(new, f"new: in the first {NEW_DAYS} days", "known longer")
    return found


def with_champion(
    prepared: Prepared, scores: pd.DataFrame, champion: Incumbent | None, config: RunConfig, *, n_boot: int = 500
) -> pd.DataFrame:
    """Compare the candidate with the champion at work on the same test payments; no rows where it has no scores."""
    if champion is None or champion.scores is None:
        return _nothing()
    beside = pd.concat([scores, champion.scores], axis=1)
    return _compared(prepared, beside, config.model.kind, "champion", config, n_boot)


def _nothing() -> pd.DataFrame:
    return pd.DataFrame(columns=["challenger", "champion", *COLUMNS])


def _compared(
    prepared: Prepared, scores: pd.DataFrame, challenger: str, champion: str, config: RunConfig, n_boot: int
) -> pd.DataFrame:
    part = prepared.rows("test")
    transactions, decision = part["transactions"], config.decision
    table = metrics.compare(
        part["y"],
        scores[challenger].to_numpy(),
        scores[champion].to_numpy(),
        event_time=transactions["event_time"],
        entity=transactions[config.split.entity],
        amount=transactions["amount"].to_numpy(),
        k=decision.alerts_per_day,
        names=(challenger, champion),
        risks=(scores.get(f"{challenger}_risk"), scores.get(f"{champion}_risk")),
        groups={name: transactions.get(name) for name in decision.groups},
        k_groups=decision.alerts_per_day + decision.step_up_per_day,
        n_boot=n_boot,
        seed=config.seed,
    )
    for name in (challenger, champion):
        if f"{name}_risk" in scores:
            table = pd.concat([table, _calibration(part["y"], scores[f"{name}_risk"], name)], ignore_index=True)
    table.insert(0, "challenger", challenger)
    table.insert(1, "champion", champion)
    return table


def _calibration(y: Any, risk: pd.Series, name: str) -> pd.DataFrame:
    """Lay a model's calibration table out as rows of a comparison: what it states and what was observed."""
    bins = joined_bins(metrics.calibration_table(y, risk.to_numpy(), model=name)).assign(
        view="calibration", by="bin", group=lambda table: table["bin"].astype(str)
    )
    stated = bins.assign(metric="stated_risk", value=bins["mean_predicted"], low=np.nan, high=np.nan, note="mean")
    note = np.where(bins["observed"].isna(), NOT_SHOWN, "95 % Wilson interval, as if payments were independent")
    seen = bins.assign(metric="observed_rate", value=bins["observed"], note=note)
    table = pd.concat([stated, seen], ignore_index=True).assign(share_worse=np.nan)
    return table[list(COLUMNS)].astype({"n": "Int64"})


def overview(comparison: pd.DataFrame) -> pd.DataFrame:
    """Lay the overall differences out for reading: a row per metric and pair."""
    rows: list[dict[str, Any]] = []
    overall = comparison[comparison["view"] == "overall"]
    for (challenger, champion, metric), found in overall.groupby(["challenger", "champion", "metric"], sort=False):
        values = found.set_index("model")
        difference = values.loc["difference"]
        rows.append(
            {
                "metric": metric,
                "challenger": challenger,
                "its value": values.loc[challenger, "value"],
                "against": champion,
                "its value ": values.loc[champion, "value"],
                "difference": difference["value"],
                "low": difference["low"],
                "high": difference["high"],
                "share of replicates worse": difference["share_worse"],
            }
        )
    return pd.DataFrame(rows)
