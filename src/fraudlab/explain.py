"""Say why a model scored as it did: contributions, importance, and reasons in plain words.

Every explanation rests on one table, `contributions`: for each row, how much each feature moved the log-odds of fraud
away from the base. Reasons, importance and example alerts are read from that table and from `FeatureSet.describe()`
(columns `column`, `group`, `meaning`, `template`, `kind`). They hold feature values only, never an identifier.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from fraudlab.features.words import format_value
from fraudlab.models import FittedModel, Logistic, RuleBaseline, Trees
from fraudlab.reasons import BASE, NAMES, aligned, reasons, unexplained
from fraudlab.schema import FraudlabError, InputError, did_you_mean

if TYPE_CHECKING:
    import shap

TOLERANCE = 1e-4
"""How far the contributions of a row may lie from its margin, in log-odds: what single precision can lose."""

BATCH = 2_000
"""Rows explained between two words about the progress."""


def contributions(model: FittedModel, X: pd.DataFrame, *, say: Callable[[str], None] | None = None) -> pd.DataFrame:
    """Split each row's margin into what every feature added to it.

    Explains the model, not the world: a contribution says what moved this score, not what caused the fraud.

    Parameters
    ----------
    model : trees, logistic regression or rules.
    X : features by name; rows to explain. Trees take about 0.3 ms a row and thread: explain alerts and samples.
    say : is told after every 2,000 rows how many are done; see `fraudlab.progress.progress_line`.

    Returns
    -------
    One column per model feature and "base", in log-odds, index of `X`. Rows sum to `model.margin(X)` (trees: within
    1e-4, single precision). For trees these are path-dependent Shapley values, equal to `shap.TreeExplainer`; for the
    logistic regression coefficient x (value - training mean); for rules the points of each fired rule; for forests the
    Shapley values of the probability, stretched to add up in log-odds. A wrapped classifier has the base alone, which
    is its margin: explanations read "not available for this kind of model".

    Raises
    ------
    InputError : a feature is missing or no number.
    FraudlabError : the contributions of some row do not add up to its margin within 1e-4, so that none can be trusted.

    References
    ----------
    Lundberg et al. (2020), doi:10.1038/s42256-019-0138-9.

    >>> from fraudlab.training import fit_rules
    >>> X = pd.DataFrame({"amount": [5.0] * 98 + [80.0, 90.0, 70.0]})
    >>> model = fit_rules(X, [0] * 98 + [1] * 3)
    >>> contributions(model, X.iloc[[0, 100]]).round(2).to_dict("list")
    {'amount': [0.0, 7.23], 'base': [-3.34, -3.34]}
    """
    values = model.matrix(X)
    columns = [*model.features, BASE] if model.explains else [BASE]
    return pd.DataFrame(contributions_of(model, values, say=say), columns=columns, index=X.index)


def contributions_of(model: FittedModel, values: np.ndarray, *, say: Callable[[str], None] | None = None) -> np.ndarray:
    """Return `contributions` as numbers, the base last, from the model's inputs as `FittedModel.matrix` gives them."""
    if not model.explains:
        return model.estimator.margin(values)[:, None] + model.shift
    parts = np.empty((len(values), len(model.features) + 1))
    for begin in range(0, len(values), BATCH):
        rows = slice(begin, begin + BATCH)
        parts[rows] = model.estimator.contributions(values[rows])
        if say is not None:
            say(f"explained {min(begin + BATCH, len(values)):,} of {len(values):,} payments")
    parts[:, -1] += model.shift
    _check_sum(parts, model.estimator.margin(values) + model.shift)
    return parts


def _check_sum(parts: np.ndarray, margin: np.ndarray) -> None:
    gap = np.abs(parts.sum(axis=1) - margin)
    if wrong := int((~(gap <= TOLERANCE)).sum()):  # NaN is wrong too
        raise FraudlabError(
            f"explanation: contributions must add up to the margin within {TOLERANCE:g}; found {wrong:,} of "
            f"{len(margin):,} rows that do not, the largest gap {gap.max():.3g}; do not use them, train the model again"
        )


def importance(
    contributions: pd.DataFrame,
    X: pd.DataFrame,
    describe: pd.DataFrame,
    refits: Sequence[pd.DataFrame] = (),
) -> pd.DataFrame:
    """Rank features by how much they move scores.

    Parameters
    ----------
    contributions : from `contributions`; a sample of 2,000 to 5,000 rows is enough.
    X : the features of the same rows.
    describe : `FeatureSet.describe()`.
    refits : contribution tables of the same settings learnt on earlier periods, each of its own later rows.

    Returns
    -------
    One row per feature, largest first: feature, mean_abs (mean absolute contribution, log-odds), low and high (the
    smallest and the largest mean absolute contribution over this model and the `refits`; NaN without refits), share (of
    the sum of mean_abs, 0..1), direction (rank correlation of value and contribution: 1 = higher values are riskier,
    -1 = lower ones are; NaN where the value or the contribution is constant, and for categories), n (rows explained),
    meaning, group, note (what low and high rest on).

    Notes
    -----
    Low and high are a range over a few models, not a confidence interval: with three or four refits a t-interval would
    be wider than the range by a factor that says more about the number of refits than about the feature. A feature
    that a refit does not have counts as 0 there.

    >>> table = pd.DataFrame({"a": [1.0, -1.0], "b": [0.0, 0.5], "base": [-3.0, -3.0]})
    >>> words = pd.DataFrame({"column": ["a", "b"], "group": "g", "meaning": "", "template": "", "kind": "number"})
    >>> importance(table, pd.DataFrame({"a": [9, 2], "b": [1, 1]}), words)[["feature", "mean_abs", "direction"]]
      feature  mean_abs  direction
    0       a      1.00        1.0
    1       b      0.25        NaN
    """
    moved, values, words = aligned(contributions, X, describe)
    mean_abs = moved.abs().mean()
    whole = float(mean_abs.sum())
    low = high = np.full(len(mean_abs), np.nan)
    note = "no range: no earlier period is long enough for a refit"
    if refits:
        tables = [mean_abs, *(table.abs().mean().reindex(moved.columns, fill_value=0.0) for table in refits)]
        reached = np.array([table.to_numpy() for table in tables])
        low, high = reached.min(axis=0), reached.max(axis=0)
        note = f"range over this model and {len(refits)} refit{'s' if len(refits) > 1 else ''} on earlier periods"
    direction = [
        float("nan") if kind in NAMES else _rank_correlation(values[name], moved[name])
        for name, kind in zip(moved.columns, words["kind"])
    ]
    table = pd.DataFrame(
        {
            "feature": moved.columns,
            "mean_abs": mean_abs.to_numpy(),
            "low": low,
            "high": high,
            "share": mean_abs.to_numpy() / whole if whole else 0.0,
            "direction": direction,
            "n": len(moved),
            "meaning": words["meaning"].to_numpy(),
            "group": words["group"].to_numpy(),
            "note": note,
        }
    )
    return table.sort_values("mean_abs", ascending=False, kind="stable", ignore_index=True)


def _rank_correlation(value: pd.Series, moved: pd.Series) -> float:
    known = value.notna()
    ranks = value[known].rank(), moved[known].rank()
    if known.sum() < 2 or any(rank.nunique() < 2 for rank in ranks):
        return float("nan")
    return float(np.corrcoef(*ranks)[0, 1])


def dependence(
    contributions: pd.DataFrame,
    X: pd.DataFrame,
    *,
    features: Sequence[str] | None = None,
    top: int = 4,
    max_rows: int = 1000,
    seed: int = 0,
) -> pd.DataFrame:
    """Return values against contributions, to draw what the model learned about a feature.

    Parameters
    ----------
    contributions, X : as in `importance`.
    features : which ones, all numbers; default: the `top` largest of these by mean absolute contribution.
    max_rows : rows drawn at random (without replacement, by `seed`) for each feature; a missing value stays NaN.

    Returns
    -------
    Columns feature, value, contribution (log-odds); features in the order asked, rows by value.

    >>> table = pd.DataFrame({"a": [1.0, -1.0], "base": [-3.0, -3.0]})
    >>> dependence(table, pd.DataFrame({"a": [9, 2]})).to_dict("list")
    {'feature': ['a', 'a'], 'value': [2.0, 9.0], 'contribution': [-1.0, 1.0]}
    """
    moved, values, _ = aligned(contributions, X, None)
    numbers = moved[[name for name in moved.columns if pd.api.types.is_numeric_dtype(values[name].dtype)]]
    if features is None:
        features = list(numbers.abs().mean().sort_values(ascending=False, kind="stable").index[:top])
    elif absent := [name for name in features if name not in numbers.columns]:
        raise InputError(
            f"features: must be numbers among the model's; found {', '.join(absent)}; "
            f"{did_you_mean(absent[0], numbers.columns)}"
        )
    rows = np.arange(len(moved))
    if len(rows) > max_rows:
        rows = np.random.default_rng(seed).choice(rows, max_rows, replace=False)
    parts = [
        pd.DataFrame(
            {"feature": name, "value": values[name].to_numpy()[rows], "contribution": moved[name].to_numpy()[rows]}
        ).sort_values("value", kind="stable")
        for name in features
    ]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=["feature", "value", "contribution"])


def interactions(
    model: FittedModel,
    X: pd.DataFrame,
    describe: pd.DataFrame,
    *,
    top: int = 12,
    say: Callable[[str], None] | None = None,
) -> pd.DataFrame:
    """Rank pairs of features by how much the two together move scores beyond what each moves alone.

    Parameters
    ----------
    model : boosted trees of XGBoost; other kinds have no table, and the note says why.
    X : features by name; some hundred rows: one of 60 features takes about 20 ms for each 100 trees.
    describe : `FeatureSet.describe()`.
    top : how many pairs.
    say : as in `contributions`.

    Returns
    -------
    One row per pair, largest first: first, second (by their own main effect), mean_abs (mean absolute interaction of
    the pair, log-odds), share (of the sum over all pairs and all single features, 0..1), n (rows), meaning, note. One
    row without a pair, with the reason in `note`, where there is nothing to tell.

    Raises
    ------
    FraudlabError : the interactions of some row do not add up to its margin within 1e-4.

    References
    ----------
    SHAP interaction values: Lundberg et al. (2020), doi:10.1038/s42256-019-0138-9.

    >>> from fraudlab.training import fit_rules
    >>> X = pd.DataFrame({"amount": [5.0] * 98 + [80.0, 90.0, 70.0]})
    >>> words = pd.DataFrame({"column": ["amount"], "group": "amount", "meaning": "", "template": "", "kind": "amount"})
    >>> interactions(fit_rules(X, [0] * 98 + [1] * 3), X, words)["note"].tolist()
    ['not applicable: this kind of model adds single features up, it has no interactions']
    """
    if isinstance(model.estimator, Logistic | RuleBaseline):
        return _no_pairs("this kind of model adds single features up, it has no interactions", len(X))
    if not isinstance(model.estimator, Trees):
        return _no_pairs("interaction values are computed for models of kind xgboost only", len(X))
    values, parts = model.matrix(X), []
    for begin in range(0, len(values), 50):
        parts.append(model.estimator.interactions(values[begin : begin + 50]))
        if say is not None:
            say(f"interactions of {min(begin + 50, len(values)):,} of {len(values):,} payments")
    if not parts:
        return _no_pairs("no rows to explain", 0)
    whole = np.concatenate(parts)
    whole[:, -1, -1] += model.shift
    _check_sum(whole.sum(axis=1), model.estimator.margin(values) + model.shift)
    effect = np.abs(whole[:, :-1, :-1]).mean(axis=0)
    alone = np.diag(effect)
    one, two = np.triu_indices(len(alone), 1)
    pairs = effect[one, two] + effect[two, one]
    total = float(alone.sum() + pairs.sum())
    order = np.argsort(-pairs, kind="stable")[:top]
    order = order[pairs[order] > 0]
    if not len(order):
        return _no_pairs("no two features act together in this model", len(X))
    words = describe.set_index("column")
    rows = []
    for pair in order:
        first, second = sorted((int(one[pair]), int(two[pair])), key=lambda place: (-alone[place], place))
        names = [model.features[first], model.features[second]]
        said = [str(words["label"].get(name, name)) if "label" in words else name for name in names]
        rows.append(
            {
                "first": names[0],
                "second": names[1],
                "mean_abs": float(pairs[pair]),
                "share": float(pairs[pair]) / total,
                "n": len(X),
                "meaning": f"{said[0]}, together with {said[1]}",
                "note": "",
            }
        )
    return pd.DataFrame(rows)


def _no_pairs(reason: str, rows: int) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {
                "first": "",
                "second": "",
                "mean_abs": np.nan,
                "share": np.nan,
                "n": rows,
                "meaning": "",
                "note": f"not applicable: {reason}",
            }
        ]
    )


def pair_dependence(
    contributions: pd.DataFrame,
    X: pd.DataFrame,
    describe: pd.DataFrame,
    pair: tuple[str, str],
    *,
    max_rows: int = 3000,
    seed: int = 0,
) -> pd.DataFrame:
    """Return one feature's values against its contributions, apart for low and for high values of a second feature.

    Parameters
    ----------
    contributions, X, describe : as in `importance`.
    pair : the feature to follow and its partner; where the first holds text, they change places.
    max_rows, seed : as in `dependence`.

    Returns
    -------
    Columns feature, partner, level, value, contribution (log-odds), rows by level and value. The level says what the
    partner is: "up to 12" and "above 12", its median; "no" and "yes" of a flag; "online" and "not online", its most
    frequent category; or "missing". No rows where both features hold text.

    >>> table = pd.DataFrame({"a": [1.0, -1.0], "b": [0.5, 0.5], "base": -3.0})
    >>> words = pd.DataFrame({"column": ["a", "b"], "group": "g", "meaning": "", "template": "", "kind": "count"})
    >>> pair_dependence(table, pd.DataFrame({"a": [9, 2], "b": [1, 7]}), words, ("a", "b"))["level"].tolist()
    ['up to 4', 'above 4']
    """
    moved, values, words = aligned(contributions, X, describe)
    kinds = dict(zip(moved.columns, words["kind"]))
    numeric = [pd.api.types.is_numeric_dtype(values[name].dtype) for name in pair]
    feature, partner = pair if numeric[0] else pair[::-1]
    columns = ["feature", "partner", "level", "value", "contribution"]
    if not any(numeric):
        return pd.DataFrame(columns=columns)
    rows = np.arange(len(moved))
    if len(rows) > max_rows:
        rows = np.sort(np.random.default_rng(seed).choice(rows, max_rows, replace=False))
    other = values[partner].iloc[rows]
    if pd.api.types.is_numeric_dtype(other.dtype):
        known = other.dropna()
        middle = float(known.median()) if len(known) else 0.0
        if len(known) and middle == known.max():  # such as a flag that is mostly set
            middle = float(known[known < middle].max()) if (known < middle).any() else middle
        limit = format_value(middle, kinds[partner]) or f"{middle:g}"
        said = ["no", "yes"] if kinds[partner] == "flag" else [f"up to {limit}", f"above {limit}"]
        high = (other > middle).to_numpy()
    else:
        most = other.mode().iloc[0] if len(other) else ""
        said = [str(most), f"not {most}"]
        high = (other != most).to_numpy()
    level = np.where(other.isna().to_numpy(), 2, high.astype(int))
    table = pd.DataFrame(
        {
            "feature": feature,
            "partner": partner,
            "order": level,
            "level": np.array([*said, "missing"], dtype=object)[level],
            "value": values[feature].to_numpy()[rows],
            "contribution": moved[feature].to_numpy()[rows],
        }
    )
    return table.sort_values(["order", "value"], kind="stable", ignore_index=True)[columns]


def example_alerts(
    model: FittedModel,
    X: pd.DataFrame,
    transactions: pd.DataFrame,
    y: Any,
    risk: Any,
    tiers: Any,
    actions: Any,
    describe: pd.DataFrame,
    n: int = 5,
    seed: int = 0,
    further: Callable[[int], dict[str, Any]] | None = None,
) -> list[dict[str, Any]]:
    """Choose a few alerts that show how the model works, errors included, and write them without identifiers.

    Chosen are the highest-scoring frauds, one a customer, those first whose leading contribution comes from a group
    not shown yet; and, as one of the `n`, the highest-scoring genuine transaction (a false alarm). Where frauds are
    lacking, the next highest scores fill up.

    Parameters
    ----------
    model : the model that scores.
    X, transactions, y, risk, tiers, actions : the test rows, all in the same order: features; canonical columns
        event_time, customer_id, amount; labels (NA = unknown); calibrated risk; tier; action.
    describe : `FeatureSet.describe()`.
    n : how many; fewer if there are fewer customers.
    seed : decides among equal scores.
    further : position of a chosen row -> what else to say of it.

    Returns
    -------
    Dictionaries ready for JSON, highest score first: case, day (ISO date), hour (0..23, UTC), amount (whole units),
    score, risk, tier, action, outcome ("fraud", "genuine", "unknown"), reasons, reasons_zh (the same in Chinese), base,
    margin (log-odds) and the eight largest contributions as feature, meaning, value (amounts in whole units; None =
    missing), contribution.

    Raises
    ------
    InputError : the tables differ in length or are empty; `describe` lacks a feature.
    """
    given = {"X": X, "transactions": transactions, "y": y, "risk": risk, "tiers": tiers, "actions": actions}
    sizes = {name: len(rows) for name, rows in given.items()}
    if len(set(sizes.values())) > 1 or not len(X):
        said = ", ".join(f"{name} {size:,}" for name, size in sizes.items())
        raise InputError(
            f"example alerts: all tables must have the same rows, at least one; found {said}; pass the test rows"
        )
    score = model.score(X)
    labels = pd.array(y, dtype="boolean")
    fraud = labels.fillna(False).to_numpy(dtype=bool)
    genuine = (~labels).fillna(False).to_numpy(dtype=bool)
    order = np.lexsort([np.random.default_rng(seed).permutation(len(score)), -score])
    firsts = order[~pd.Series(transactions["customer_id"].to_numpy()[order]).duplicated().to_numpy()]
    hits = firsts[fraud[firsts]]
    false_alarm = firsts[genuine[firsts]][: 1 if n > 1 else 0]
    chosen = [*_varied(model, X, hits[: 20 * n], describe, n - len(false_alarm)), *false_alarm]
    chosen += [row for row in firsts if row not in chosen][: n - len(chosen)]
    rows = np.array(sorted(chosen, key=lambda row: (-score[row], row)), dtype="int64")

    shown = model.complete(X.iloc[rows])
    table = contributions(model, shown)
    moved, values, words = aligned(table, shown, describe)
    told = {
        lang: reasons(table, shown, describe, whole_amounts=True, lang=lang)
        if model.explains
        else [[unexplained(lang)]] * len(shown)
        for lang in ("en", "zh")
    }
    times = transactions["event_time"].iloc[rows]
    amounts = transactions["amount"].to_numpy(dtype="float64")[rows]
    tier_of, action_of = pd.Series(tiers).astype("str").to_numpy(), pd.Series(actions).astype("str").to_numpy()
    risk = np.asarray(risk, dtype="float64")
    return [
        {
            "case": case + 1,
            "day": times.iloc[case].date().isoformat(),
            "hour": int(times.iloc[case].hour),
            "amount": round(float(amounts[case])),
            "score": round(float(score[row]), 6),
            "risk": round(float(risk[row]), 6),
            "tier": str(tier_of[row]),
            "action": str(action_of[row]),
            "outcome": "fraud" if fraud[row] else "genuine" if genuine[row] else "unknown",
            "reasons": told["en"][case],
            "reasons_zh": told["zh"][case],
            "base": round(float(table[BASE].iloc[case]), 4),
            "margin": round(float(table.iloc[case].sum()), 4),
            "contributions": _largest(moved.iloc[case], values.iloc[case], words, 8),
        }
        | (further(int(row)) if further is not None else {})
        for case, row in enumerate(rows)
    ]


def _varied(model: FittedModel, X: pd.DataFrame, rows: np.ndarray, describe: pd.DataFrame, wanted: int) -> list[int]:
    if not len(rows):
        return []
    shown = model.complete(X.iloc[rows])
    moved, _, words = aligned(contributions(model, shown), shown, describe)
    if not len(moved.columns):
        return list(rows[:wanted])
    leading = words["group"].to_numpy()[moved.to_numpy().argmax(axis=1)]
    new = ~pd.Series(leading).duplicated().to_numpy()
    return [*rows[new], *rows[~new]][:wanted]


def _largest(moved: pd.Series, values: pd.Series, words: pd.DataFrame, count: int) -> list[dict[str, Any]]:
    rows = []
    for position in np.argsort(-moved.abs().to_numpy(), kind="stable")[:count]:
        value, kind = values.iloc[position], words["kind"].iloc[position]
        if pd.isna(value) or kind == "identifier":
            value = None
        elif not isinstance(value, str):
            value = round(value) if kind in ("amount", "count") else round(float(value), 4)
        rows.append(
            {
                "feature": str(moved.index[position]),
                "meaning": str(words["meaning"].iloc[position]),
                "value": value,
                "contribution": round(float(moved.iloc[position]), 4),
            }
        )
    return rows


def shap_explanation(model: FittedModel, X: pd.DataFrame) -> shap.Explanation:
    """Return the contributions as a `shap.Explanation`, for shap's own plots; shap is imported here only.

    Parameters
    ----------
    model, X : as in `contributions`.

    Returns
    -------
    `values` float64[rows, features] in log-odds, `base_values` float64[rows], `data` and `feature_names` from `X`.
    """
    import shap

    table = contributions(model, X)
    return shap.Explanation(
        values=table[list(model.features)].to_numpy(),
        base_values=table[BASE].to_numpy(),
        data=model.matrix(X),
        feature_names=list(model.features),
    )
