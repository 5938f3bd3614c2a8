"""Measure whether reasons hold when the inputs move a little: a reason that a rounding error removes is no reason."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from fraudlab.explain import contributions
from fraudlab.metrics import SMALLEST_CELL, small_cells
from fraudlab.models import FittedModel, feature_matrix
from fraudlab.reasons import aligned
from fraudlab.schema import InputError

STEADINESS: dict[str, str] = {
    "top_reason_kept": "share of the payments whose first group of reasons (this one) stays the first",
    "top_reasons_overlap": "mean share of a payment's first groups of reasons that stay among the first",
    "rank_correlation": "mean rank correlation of a payment's contributions before and after",
    "feature_kept": "share of the payments whose strongest feature, this one, stays the strongest",
    "group_kept": "share of the payments with this group among the first whose group stays among the first",
}
"""Every metric of `reason_stability`, with its meaning."""

Z95 = 1.959964


@dataclass(frozen=True, eq=False)
class Spread:
    """How much each numeric feature varies among genuine payments, which is what noise is scaled by.

    Attributes
    ----------
    features : the numeric features.
    scale : float64[features], the standard deviation that a normal distribution with the same middle 80 % would have;
        0 for a flag and for what hardly varies, which noise then leaves alone.
    whole : bool[features], whole numbers, which stay whole.
    low, high : float64[features], the smallest and the largest value found.
    """

    features: tuple[str, ...]
    scale: np.ndarray
    whole: np.ndarray
    low: np.ndarray
    high: np.ndarray

    @classmethod
    def of(cls, genuine: pd.DataFrame, describe: pd.DataFrame) -> Spread:
        """Measure it on genuine payments; text columns and flags get no noise.

        >>> words = pd.DataFrame({"column": ["a", "b"], "kind": ["amount", "flag"]})
        >>> spread = Spread.of(pd.DataFrame({"a": [0.0, 1.0, 2.0, 3.0, 4.0], "b": [0, 1, 0, 1, 0]}), words)
        >>> spread.scale.round(2).tolist(), spread.whole.tolist()
        ([1.25, 0.0], [True, True])
        """
        names = tuple(name for name in genuine.columns if pd.api.types.is_numeric_dtype(genuine[name].dtype))
        kinds = dict(zip(describe["column"], describe["kind"]))
        values = feature_matrix(genuine, names)
        scale, low, high = (np.zeros(len(names)) for _ in range(3))
        whole = np.zeros(len(names), dtype=bool)
        for place, name in enumerate(names):
            known = values[:, place][~np.isnan(values[:, place])]
            if not len(known):
                continue
            low[place], high[place] = known.min(), known.max()
            whole[place] = bool((known == np.round(known)).all())
            if kinds.get(name) != "flag":
                tenth, ninetieth = np.percentile(known, [10, 90])
                scale[place] = (ninetieth - tenth) / (2 * 1.2815516)
        return cls(names, scale, whole, low, high)

    def nudged(self, X: pd.DataFrame, noise: float, rng: np.random.Generator) -> pd.DataFrame:
        """Return `X` with normal noise of so many scales added.

        Missing values stay missing, whole numbers whole, and no value leaves the range found (or moves further out
        where it lies outside).
        """
        values = feature_matrix(X, self.features)
        moved = values + rng.normal(size=values.shape) * noise * self.scale
        moved = np.where(self.whole & (values == np.round(values)), np.round(moved), moved)
        moved = np.clip(moved, np.minimum(self.low, values), np.maximum(self.high, values))
        return X.assign(**dict(zip(self.features, moved.T)))


def reason_stability(
    model: FittedModel,
    X: pd.DataFrame,
    describe: pd.DataFrame,
    spread: Spread,
    *,
    noise: float = 0.05,
    repeats: int = 5,
    top: int = 3,
    seed: int = 0,
) -> pd.DataFrame:
    """Measure how much the reasons of payments change under small noise in their inputs.

    Parameters
    ----------
    model : any kind that explains.
    X : the features of the payments whose reasons matter, the alerts; with "anomaly" where the model has it.
    describe : `FeatureSet.describe()`, see `FittedModel.words`; its groups are the reasons.
    spread : what the noise is scaled by.
    noise : standard deviation of the noise, in those of the feature.
    repeats : how often each payment is moved.
    top : how many groups count as first, as many as an alert shows.
    seed : of the noise.

    Returns
    -------
    DataFrame metric (see `STEADINESS`), group ("all", a feature or a group of reasons), threshold (the noise), value,
    low, high, n (payments), note. `value` is NaN exactly where `note` says "not applicable" or "not shown".

    Raises
    ------
    InputError : noise or repeats out of range.

    Notes
    -----
    As in an alert, groups are ranked by the sum of their contributions, and only those that push towards fraud count.
    Payments without such a group have no reasons and are left out. Low and high are value ± 1.96 standard errors over
    payments, each payment's repeats averaged first, kept inside the metric's bounds.

    References
    ----------
    Alvarez-Melis and Jaakkola (2018), On the robustness of interpretability methods, arXiv:1806.08049.

    >>> from fraudlab.training import fit_rules
    >>> X = pd.DataFrame({"amount": [5.0, 6.0] * 49 + [80.0, 90.0, 70.0]})
    >>> words = pd.DataFrame({"column": ["amount"], "group": "amount", "meaning": "", "template": "", "kind": "amount"})
    >>> model = fit_rules(X, [0] * 98 + [1] * 3)
    >>> reason_stability(model, X.iloc[[98] * 12], words, Spread.of(X[:98], words))["value"].tolist()[:2]
    [1.0, 1.0]
    """
    if not 0 < noise <= 1 or repeats < 1:
        raise InputError(
            f"reason stability: noise must lie in (0, 1] and repeats be at least 1; found {noise} and {repeats}; the "
            "defaults are 0.05 and 5"
        )
    if not model.explains:
        return _table([_row("top_reason_kept", "all", noise, [], "not applicable: this kind of model has no reasons")])
    before = contributions(model, X)
    pushes, _, words = aligned(before, X, describe)
    reasons = _Groups.of(words["group"])
    first = reasons.ranked(pushes.to_numpy())
    reasoned = first[:, :1].ravel() >= 0 if first.size else np.zeros(len(X), dtype=bool)
    leading = first[reasoned, 0] if first.size else np.empty(0, dtype=int)
    shape = (repeats, int(reasoned.sum()))
    kept, overlap, ranks, same = (np.empty(shape) for _ in range(4))
    stays = np.full((*shape, len(reasons.names)), np.nan)
    own = pushes.to_numpy()[reasoned]
    strongest = own.argmax(axis=1) if own.size else np.empty(0, dtype=int)
    rng = np.random.default_rng(seed)
    for repeat in range(repeats):
        moved = model.complete(spread.nudged(X[reasoned], noise, rng))
        after = contributions(model, moved).drop(columns="base").to_numpy()
        then = reasons.ranked(after)
        kept[repeat] = leading == then[:, 0]
        shared = reasons.flags(first[reasoned], top) & reasons.flags(then, top)
        counted = reasons.flags(first[reasoned], top)
        overlap[repeat] = shared.sum(axis=1) / counted.sum(axis=1)
        stays[repeat] = np.where(counted, shared, np.nan)
        ranks[repeat] = _rank_correlations(own, after)
        same[repeat] = strongest == after.argmax(axis=1)
    rows = [
        _row("top_reason_kept", "all", noise, kept.mean(axis=0)),
        *_by_part("top_reason_kept", [reasons.names[place] for place in leading], noise, kept.mean(axis=0)),
        _row("top_reasons_overlap", "all", noise, overlap.mean(axis=0)),
        _row("rank_correlation", "all", noise, ranks.mean(axis=0), low=-1.0),
    ]
    of_group = stays.mean(axis=0)  # NaN where the group was not among the first
    for place, name in enumerate(reasons.names):
        rows.append(_row("group_kept", name, noise, of_group[~np.isnan(of_group[:, place]), place]))
    rows += _by_part("feature_kept", [str(pushes.columns[place]) for place in strongest], noise, same.mean(axis=0))
    return _table(rows)


@dataclass(frozen=True, eq=False)
class _Groups:
    """Which features make which group of reasons."""

    names: list[str]
    member: np.ndarray  # float64[features, groups], 1 where it belongs

    @classmethod
    def of(cls, group: Sequence[str]) -> _Groups:
        code, names = pd.factorize(pd.Series(group))
        return cls([str(name) for name in names], (code[:, None] == np.arange(len(names))).astype(float))

    def ranked(self, pushes: np.ndarray) -> np.ndarray:
        """Return each row's groups, the strongest first, -1 from the first that does not push towards fraud."""
        totals = pushes @ self.member
        order = np.argsort(-totals, axis=1, kind="stable")
        return np.where(np.take_along_axis(totals, order, axis=1) > 0, order, -1)

    def flags(self, ranked: np.ndarray, top: int) -> np.ndarray:
        """Return bool[rows, groups]: whether a group is among a row's first."""
        return (ranked[:, :top, None] == np.arange(len(self.names))).any(axis=1)


def _rank_correlations(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Return Spearman's correlation of each row with its counterpart; 1 where both are constant, 0 where one is."""
    from scipy.stats import rankdata

    one, two = (rankdata(each, axis=1) if each.size else each for each in (before, after))
    one, two = (each - each.mean(axis=1, keepdims=True) for each in (one, two))
    size = np.sqrt((one**2).sum(axis=1) * (two**2).sum(axis=1))
    both = ((one == 0).all(axis=1) & (two == 0).all(axis=1)).astype(float)
    return np.divide((one * two).sum(axis=1), size, out=both, where=size > 0)


def _by_part(metric: str, parts: Sequence[str], noise: float, found: np.ndarray) -> list[dict[str, object]]:
    """Return a row for each part of the payments; what could be worked out of their total is hidden with the small."""
    counts = pd.Series(parts, dtype="str").value_counts(sort=False)
    hidden = dict(zip(counts.index, small_cells(counts)))
    of = np.asarray(parts)
    return [_row(metric, part, noise, found[of == part][: 1 if hidden[part] else None]) for part in counts.index]


def _row(
    metric: str, group: str, noise: float, found: Sequence[float] | np.ndarray, note: str = "", low: float = 0.0
) -> dict[str, object]:
    found = np.asarray(found, dtype="float64")
    row = {"metric": metric, "group": group, "threshold": noise, "value": np.nan, "low": np.nan, "high": np.nan}
    if note or not len(found):
        return row | {"n": len(found), "note": note or "not applicable: no payment has such a reason"}
    if len(found) < SMALLEST_CELL:
        return row | {"n": pd.NA, "note": f"not shown: fewer than {SMALLEST_CELL} payments"}
    value, half = found.mean(), Z95 * found.std(ddof=1) / np.sqrt(len(found))
    ends = {"low": max(low, value - half), "high": min(1.0, value + half)}
    return row | {"value": float(value)} | ends | {"n": len(found), "note": "95 % interval over payments"}


def _table(rows: Sequence[dict[str, object]]) -> pd.DataFrame:
    return pd.DataFrame(rows).astype({"n": "Int64"})
