"""Checks of what the model is worth: does it hold outside the training, does it say what it means, for everybody?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from fraudlab.checks.finding import Answer, named, not_applicable
from fraudlab.schema import InputError

MOST_LOST = {"auc_roc": 0.05, "average_precision": 0.30}
"""What may be lost from training to test, at the low end of its interval. Boosted trees rank their own training frauds
nearly perfectly, so that some loss is sure; no theory gives a limit. These are the house's: half of what parts a good
ranking (0.90) from a perfect one, and almost a third of the frauds at the top."""

FEWEST_FRAUDS = 20
"""With fewer frauds on a side no share of them says much."""

MISPLACED = 0.5
"""Frauds misplaced per fraud that a stated risk may be off by: risks half too high or too low on average."""

FOUR_FIFTHS = (0.8, 1.25)
"""Ratios of false alarms between groups that count as alike: the four-fifths rule of US employment practice (29 CFR
1607.4 D) and its inverse, here for the interval and not for the bare figure."""

LARGEST_LOSS = "average_precision"

STEADY_REASONS = 0.8
"""Share of alerts whose first reason must stay when inputs move by small noise: a case worker should meet another first
reason on fewer than one alert in five."""


def holds(
    learnt: tuple[Any, Any, Any],
    test: tuple[Any, Any, Any],
    *,
    n_boot: int = 200,
    seed: int = 0,
    limits: Mapping[str, float] = MOST_LOST,
) -> Answer:
    """Fail when the model is far better on what it learnt from than on the test.

    Parameters
    ----------
    learnt, test : labels (0/1), scores and entities of the rows learnt from, and of later ones.
    n_boot : bootstrap replicates; entities are drawn anew, each with its rows on both sides.
    seed : of the bootstrap.
    limits : metric -> what may be lost at the low end of the 95 % interval of the loss.

    Returns
    -------
    Answer; the table has three rows per metric: metric, part ("training", "test", "loss"), value, low, high, n, note.
    Average precision is taken at the test's share of frauds on both sides (Siblini and others 2020), because a rarer
    fraud alone would lower it.

    References
    ----------
    Siblini, Fréry, He-Guelton, Oblé and Wang (2020), Master your metrics with calibration,
    doi:10.1007/978-3-030-44584-3_36.
    """
    columns = ["metric", "part", "value", "low", "high", "n", "note"]
    sides = [(np.asarray(y, dtype=bool), np.asarray(score, dtype=float)) for y, score, _ in (learnt, test)]
    if any(y.sum() < FEWEST_FRAUDS or (~y).sum() < FEWEST_FRAUDS for y, _ in sides):
        return not_applicable(f"There are fewer than {FEWEST_FRAUDS} frauds or genuine payments on one side.", columns)
    codes, names = pd.factorize(np.concatenate([np.asarray(learnt[2]), np.asarray(test[2])]))
    entity = codes[: len(sides[0][0])], codes[len(sides[0][0]) :]
    share = float(sides[1][0].mean())
    ordered = [_ordered(y, score, of) for (y, score), of in zip(sides, entity)]

    def measured(weights: np.ndarray) -> np.ndarray:
        return np.array([_ranked(side, weights, share) for side in ordered])  # [side, metric]

    point = measured(np.ones(len(names)))
    rng = np.random.default_rng(seed)
    drawn = np.array(
        [
            measured(np.bincount(rng.integers(0, len(names), len(names)), minlength=len(names)).astype(float))
            for _ in range(n_boot)
        ]
    ).reshape(n_boot, 2, 2)
    rows = []
    for place, metric in enumerate(("auc_roc", "average_precision")):
        values = (*point[:, place], point[0, place] - point[1, place])
        replicates = (drawn[:, 0, place], drawn[:, 1, place], drawn[:, 0, place] - drawn[:, 1, place])
        note = "" if metric == "auc_roc" else "at the test's share of frauds"
        for part, value, several, n in zip(
            ("training", "test", "loss"), values, replicates, (len(sides[0][0]), len(sides[1][0]), len(sides[1][0]))
        ):
            low, high = np.nanpercentile(several, [2.5, 97.5]) if n_boot and len(names) > 1 else (np.nan, np.nan)
            rows.append((metric, part, float(value), float(low), float(high), n, note))
    table = pd.DataFrame(rows, columns=columns)
    loss = table[table["part"] == "loss"].set_index("metric")
    said = "; ".join(
        f"{words} {_shown(loss.loc[metric, 'value'])} "
        f"({_shown(loss.loc[metric, 'low'])} to {_shown(loss.loc[metric, 'high'])})"
        for metric, words in (("auc_roc", "AUC"), ("average_precision", "average precision"))
    )
    beyond = [metric for metric, most in limits.items() if loss.loc[metric, "low"] > most]
    return ("failed" if beyond else "passed"), f"From training to test the model loses: {said}.", table


def _shown(loss: float) -> str:
    """Return a loss with three decimals, none of them "-0.000"."""
    return f"{round(loss, 3) + 0.0:.3f}"


def _ordered(y: np.ndarray, score: np.ndarray, entity: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return labels and entities, best score first, and where each run of equal scores ends."""
    order = np.argsort(-score, kind="stable")
    ends = np.flatnonzero(np.append(np.diff(score[order]) != 0, True))
    return y[order], entity[order], ends


def _ranked(side: tuple[np.ndarray, ...], weights: np.ndarray, share: float) -> tuple[float, float]:
    """Return AUC ROC and the average precision at a share of frauds, when entities count as their weights say."""
    y, entity, ends = side
    each = weights[entity]
    fraud = np.cumsum(each * y)[ends]
    genuine = np.cumsum(each * ~y)[ends]
    if fraud[-1] == 0 or genuine[-1] == 0:
        return np.nan, np.nan
    caught, alarmed = fraud / fraud[-1], genuine / genuine[-1]
    step = np.diff(caught, prepend=0.0)
    auc = float((step * (1 - alarmed + np.diff(alarmed, prepend=0.0) / 2)).sum())
    flagged = share * caught + (1 - share) * alarmed
    precision = np.divide(share * caught, flagged, out=np.zeros_like(flagged), where=flagged > 0)
    return auc, float((step * precision).sum())


def calibrated(errors: pd.DataFrame | None, model: str, most: float = MISPLACED) -> Answer:
    """Fail when the stated risk is off by more than chance and tolerance allow.

    Parameters
    ----------
    errors : metric, model, stage, value, low, high, n, note, as `calibration_errors` makes it.
    model : the candidate's name in it; its stage "after" is judged.
    most : frauds misplaced per fraud that are tolerated at the low end of the interval.

    >>> errors = pd.DataFrame({"metric": "calibration_error", "model": "m", "stage": ["after"], "value": [1.0],
    ...                        "low": [0.7], "high": [1.6], "n": [900], "note": ["by chance 0.2"]})
    >>> calibrated(errors, "m")[:2]
    ('failed', 'The stated risks misplace 1.00 frauds per fraud (0.70 to 1.60); the limit is 0.5.')
    """
    if errors is None or errors.empty:
        return not_applicable("No model of the run states a risk.")
    mine = errors[(errors["model"] == model) & (errors["stage"] == "after")]
    if mine.empty:
        return not_applicable("The model states no risk.", errors.columns)
    row = mine.iloc[0]
    if pd.isna(row["low"]):
        return "not applicable", "The error of the stated risks has no interval.", mine
    said = (
        f"The stated risks misplace {row['value']:.2f} frauds per fraud ({row['low']:.2f} to {row['high']:.2f}); "
        f"the limit is {most:g}."
    )
    return ("failed" if row["low"] > most else "passed"), said, mine.reset_index(drop=True)


def alike(comparison: pd.DataFrame | None, model: str, between: tuple[float, float] = FOUR_FIFTHS) -> Answer:
    """Fail when genuine customers of a group are bothered more or less often than all others, beyond chance.

    Parameters
    ----------
    comparison : as `metrics.compare` makes it; its view "group" is read.
    model : the candidate's name in it.
    between : ratios of false positive rates that count as alike. A group fails when its whole 95 % interval lies
        outside; with g groups about g in 40 do so on one side by chance alone where the truth is at the border.

    Returns
    -------
    Answer; the table has a row per group: by, group, value (the ratio), low, high, reading ("alike", "bothered more",
    "bothered less", "not told"), note.
    """
    columns = ["by", "group", "value", "low", "high", "reading", "note"]
    if comparison is None or comparison.empty:
        return not_applicable("The run compared no groups.", columns)
    rows = comparison[
        (comparison["view"] == "group")
        & (comparison["model"] == model)
        & (comparison["metric"] == "false_positive_ratio")
    ].drop_duplicates(["by", "group"])
    if rows.empty:
        return not_applicable("The data have none of the columns in decision.groups.", columns)
    low, high = between
    reading = np.select(
        [rows["low"].isna(), rows["low"] > high, rows["high"] < low],
        ["not told", "bothered more", "bothered less"],
        "alike",
    )
    table = rows.assign(reading=reading)[columns].reset_index(drop=True)
    judged = table[table["reading"] != "not told"]
    if judged.empty:
        return "not applicable", "No group has enough genuine customers to be judged.", table
    apart = judged[judged["reading"] != "alike"]
    if apart.empty:
        said = f"No group of {len(judged)} is bothered more or less often than the others beyond four fifths."
        return "passed", said, table
    shown = [
        f"{row.by} {row.group} ({row.value:.2f} times, {row.low:.2f} to {row.high:.2f})"
        for row in apart.sort_values("value", ascending=False, kind="stable").itertuples()
    ]
    are = "is" if len(apart) == 1 else "are"
    said = f"{len(apart)} of {len(judged)} groups {are} bothered more or less often than the others: {named(shown)}."
    return "failed", said, table


def steady_reasons(stability: pd.DataFrame | None, least: float = STEADY_REASONS) -> Answer:
    """Fail when small noise in the inputs gives an alert another first reason, too often for chance.

    Parameters
    ----------
    stability : metric, group, value, low, high, note; of the metric "top_reason_kept" the row of group "all" is judged,
        and the groups of reasons are named that stay less often than `least`.
    least : share of the rows whose first reason must stay; the whole 95 % interval lies below it where the check fails.

    >>> table = pd.DataFrame({"metric": "top_reason_kept", "group": ["all", "place"], "value": [0.7, 0.5],
    ...                       "low": [0.65, 0.4], "high": [0.75, 0.6], "note": ""})
    >>> steady_reasons(table)[:2]
    ('failed', 'Under small noise 70.0 % of the alerts keep their first reason (65.0 % to 75.0 %); the limit is 80 %; \
least steady: place.')
    """
    if stability is None or stability.empty:
        return not_applicable("The run did not measure how reasons change under noise.")
    kept = stability[stability["metric"] == "top_reason_kept"]
    whole = kept[kept["group"] == "all"]
    if whole.empty or whole["value"].isna().all() or whole["high"].isna().all():
        notes = [str(note) for note in whole["note"].dropna() if str(note)] if "note" in whole else []
        why = notes[0].removeprefix("not applicable: ") if notes else "no alert was explained"
        return "not applicable", f"How reasons change under noise is not known: {why}.", kept
    row = whole.iloc[0]
    said = (
        f"Under small noise {row['value']:.1%} of the alerts keep their first reason ({row['low']:.1%} to "
        f"{row['high']:.1%}); the limit is {least:.0%}"
    ).replace("%", " %")
    failed = row["high"] < least
    loose = kept[(kept["group"] != "all") & (kept["value"] < least)].sort_values("value", kind="stable")
    which = f"; least steady: {named(loose['group'])}" if failed and len(loose) else ""
    return ("failed" if failed else "passed"), f"{said}{which}.", kept.reset_index(drop=True)


def settled(looks: pd.DataFrame | None, metrics: pd.DataFrame | None = None, model: str = "") -> Answer:
    """Fail when other configs were judged on the same test days before: the best of several flatters.

    The same recipe retrained every night looks at days it has seen before, and is not chosen by them; only another
    config is a new try.

    Parameters
    ----------
    looks : config_digest and a row per look at any of these test days, this one included; None without a log.
    metrics : the metric table, to say by how much the best of several flatters; None says nothing of it.
    model : the candidate's name in it.

    Returns
    -------
    Answer; the table has one row: configs, looks, flatters (expected gain of the best of equals in average precision).

    >>> settled(pd.DataFrame({"config_digest": ["a", "a"]}))[:2]
    ('passed', 'Only this config was judged on these test days, 2 times.')
    """
    if looks is None or looks.empty:
        return not_applicable("No look at these test days is noted.", ("configs", "looks", "flatters"))
    configs = int(looks["config_digest"].nunique())
    flatters = np.nan
    if metrics is not None and configs > 1:
        row = metrics[(metrics["model"] == model) & (metrics["metric"] == LARGEST_LOSS) & (metrics["group"] == "all")]
        if len(row) and pd.notna(row["low"].iloc[0]):
            error = (row["high"].iloc[0] - row["low"].iloc[0]) / (2 * 1.959963984540054)
            flatters = float(error * _best_of(configs))
    table = pd.DataFrame({"configs": [configs], "looks": [len(looks)], "flatters": [flatters]})
    if configs == 1:
        times = "once" if len(looks) == 1 else f"{len(looks)} times"
        return "passed", f"Only this config was judged on these test days, {times}.", table
    more = "" if np.isnan(flatters) else f"; the best of as many equals gains up to {flatters:.3f} in average precision"
    return "failed", f"{configs} different configs were judged on these test days{more}.", table


def _best_of(several: int) -> float:
    """Return the mean of the largest of so many draws from a standard normal distribution."""
    from scipy.stats import norm

    at = np.linspace(-10, 10, 4001)
    density = several * norm.pdf(at) * norm.cdf(at) ** (several - 1)
    return float(np.trapezoid(at * density, at))


def recent(ages: pd.DataFrame, most: int | None) -> Answer:
    """Fail when what the candidate has learnt from ends longer ago than the policy allows.

    Parameters
    ----------
    ages : model ("candidate" first, "champion" where there is one), learnt_until, as_of, age_days.
    most : `gate.max_age_days`; None where the config sets no policy.

    >>> day = pd.Timestamp("2026-06-30", tz="UTC")
    >>> ages = pd.DataFrame({"model": ["candidate"], "learnt_until": [day], "as_of": [day], "age_days": [58.0]})
    >>> recent(ages, 90)[:2]
    ('passed', 'What the candidate has learnt from ends 58 days before what was known; the policy allows 90.')
    """
    if most is None:
        return "not applicable", "The config sets no gate.max_age_days.", ages
    known = ages.dropna(subset="age_days").set_index("model")["age_days"]
    if "candidate" not in known:
        return "not applicable", "The model does not say until when it has learnt.", ages
    champion = (
        f"; the champion's ends {known['champion']:.0f} days before"
        if "champion" in known and known["champion"] > most
        else ""
    )
    said = (
        f"What the candidate has learnt from ends {known['candidate']:.0f} days before what was known{champion}; "
        f"the policy allows {most:,}."
    )
    return ("failed" if known["candidate"] > most else "passed"), said, ages


def not_below_champion(comparison: pd.DataFrame | None) -> Answer:
    """Fail when at the budget the candidate is below the champion, and chance does not explain it.

    The gate lets a candidate lose a little (`gate.non_inferiority`); if each one does, the champion gets worse step by
    step. So a loss whose whole interval lies below 0 is not let pass, however small.

    Parameters
    ----------
    comparison : candidate and champion on the same payments, from `comparing.with_champion`.

    References
    ----------
    D'Agostino, Massaro and Sullivan (2003), Non-inferiority trials, doi:10.1002/sim.1425, section on "biocreep".
    """
    if comparison is None or comparison.empty:
        return not_applicable("There is no champion to compare with.")
    table = comparison[
        (comparison["view"] == "overall")
        & (comparison["model"] == "difference")
        & (comparison["metric"] == "card_precision_at_k")
    ].reset_index(drop=True)
    if len(table) != 1:
        raise InputError(
            "checks: the comparison with the champion must hold the difference in card_precision_at_k once; found "
            f"{len(table)}; make it with comparing.with_champion"
        )
    row = table.iloc[0]
    if pd.isna(row["value"]) or pd.isna(row["high"]):
        return "not applicable", "The difference from the champion has no interval.", table
    said = (
        f"At the budget the candidate differs from the champion by {row['value']:+.3f} in precision "
        f"({row['low']:+.3f} to {row['high']:+.3f})."
    )
    return ("failed" if row["high"] < 0 else "passed"), said, table
