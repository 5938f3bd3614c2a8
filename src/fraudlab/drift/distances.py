"""How far two samples of payments lie apart, column by column, and how much of that chance alone would give.

Bins are laid on the reference: quantiles of what is not missing, cut so that a value which fills a whole bin has one of
its own; missing values have a bin, and so have categories that the reference does not hold. Payments of one customer
are not independent, so p-values rest on customers: the variance of each bin's share is summed customer by customer over
both samples (a customer who is in both counts once, with the difference), and statistics are divided by the mean design
effect that follows (Rao and Scott 1984, first order).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from fraudlab.schema import InputError, did_you_mean

STABLE, CHANGED = 0.10, 0.25
"""Customary limits of the population stability index, without a test behind them (Siddiqi 2006)."""

MOST_CATEGORIES = 30
"""The most frequent categories of the reference have a bin each; the others share one."""

METHODS = ("by", "bh", "holm")
_NOT = "not applicable"


def bin_breaks(values: np.ndarray, bins: int) -> np.ndarray:
    """Return the upper ends of all bins but the last, closed, from the quantiles of what is not missing.

    Parameters
    ----------
    values : float64[rows], NaN = missing; of the reference alone.
    bins : at most so many, of equally many rows; ties make fewer.

    >>> bin_breaks(np.array([0.0, 0, 0, 0, 1, 2, 3, 4]), 4).tolist()
    [-5e-324, 0.0, 2.0]
    """
    known = values[~np.isnan(values)]
    if known.size == 0:
        return known
    ends = np.quantile(known, np.linspace(0, 1, bins + 1), method="lower")
    whole = ends[1:][ends[1:] == ends[:-1]]  # a value that fills a bin: cut just below it too
    return np.unique(np.concatenate([ends[1:-1], np.nextafter(whole, -np.inf)]))


def bin_codes(values: np.ndarray, breaks: np.ndarray) -> np.ndarray:
    """Return each value's bin, 0 to `breaks.size`; missing ones have the number `breaks.size + 1`."""
    return np.where(np.isnan(values), breaks.size + 1, np.searchsorted(breaks, values, side="left"))


def psi(reference: np.ndarray, current: np.ndarray) -> float:
    """Return the population stability index of two arrays of counts over the same bins.

    A bin that is empty on one side counts there as half a row; one that is empty on both counts nothing.

    >>> round(psi(np.array([50, 50]), np.array([75, 25])), 4)
    0.2747
    """
    there = (reference > 0) | (current > 0)
    q, p = (np.maximum(count[there], 0.5) / count.sum() for count in (reference, current))
    return float(((p - q) * np.log(p / q)).sum())


def chance_psi(reference: int, current: int, bins: int, effect: float = 1.0) -> float:
    """Return the index that two samples of one law are expected to have: effect (bins - 1)(1 / n + 1 / m).

    Parameters
    ----------
    reference, current : rows of each sample.
    bins : with rows in either sample.
    effect : the design effect (`design_effect`); 1 for independent rows.

    References
    ----------
    Yurdakul and Naranjo (2020), Statistical properties of the population stability index, Journal of Risk Model
    Validation 14(4).

    >>> round(chance_psi(1000, 1000, 10), 4)
    0.018
    """
    return effect * (bins - 1) * (1 / reference + 1 / current)


def psi_p_value(value: float, reference: int, current: int, bins: int, effect: float = 1.0) -> float:
    """Return the chance that two samples of one law have an index at least so large, by the chi-square approximation.

    >>> round(psi_p_value(0.0338, 1000, 1000, 10), 3)
    0.05
    """
    from scipy.stats import chi2

    if bins < 2:
        return 1.0
    return float(chi2.sf(value / (effect * (1 / reference + 1 / current)), bins - 1))


def design_effect(code: np.ndarray, in_current: np.ndarray, entity: np.ndarray, bins: int) -> float:
    """Return by how much whose payments they are inflates the variance of the difference between two samples' shares.

    Parameters
    ----------
    code : int[rows], the bin of each payment of both samples, from 0.
    in_current : bool[rows], False for the reference.
    entity : int[rows], whose payment, numbered from 0; the same number for the same customer in both samples.
    bins : how many bins there are.

    Returns
    -------
    Mean generalised design effect, weighted as Rao and Scott do: about 1 for independent payments, above 1 where a
    customer's payments are alike, below 1 where the same customers pay alike in both samples. 1 where there is one bin.

    References
    ----------
    Rao and Scott (1984), On chi-squared tests for multiway contingency tables with cell proportions estimated from
    survey data, doi:10.1214/aos/1176346391.

    >>> each = np.array([0, 1, 0, 1])
    >>> design_effect(np.repeat(each, 2), np.repeat([False, False, True, True], 2), np.repeat([0, 1, 2, 3], 2), 2)
    2.0
    """
    n, m = int((~in_current).sum()), int(in_current.sum())
    weight = np.where(in_current, 1 / m, -1 / n)
    people = int(entity.max()) + 1
    # Linearised: each payment's indicator less its own sample's share, summed per customer.
    cells = np.bincount(entity * bins + code, weights=weight, minlength=people * bins).reshape(people, bins)
    rows = {side: np.bincount(entity[in_current == side], minlength=people) for side in (False, True)}
    share = {side: np.bincount(code[in_current == side], minlength=bins) / (m if side else n) for side in (False, True)}
    off = cells - np.outer(rows[True] / m, share[True]) + np.outer(rows[False] / n, share[False])
    variance = (off**2).sum(axis=0)
    pooled = np.bincount(code, minlength=bins) / code.size
    there = pooled > 0
    if there.sum() < 2:
        return 1.0
    simple = pooled * (1 - pooled) * (1 / n + 1 / m)
    effect = (1 - pooled[there]) * variance[there] / simple[there]
    return float(effect.sum() / (there.sum() - 1))


def adjusted(p: Any, method: str = "by") -> np.ndarray:
    """Return p-values corrected for how many were asked for; NaN stay NaN and do not count.

    Parameters
    ----------
    p : float[tests], NaN where there was no test.
    method : "by" (Benjamini and Yekutieli 2001, doi:10.1214/aos/1013699998: false discovery rate whatever the
        dependence, as features of one window overlap), "bh" (Benjamini and Hochberg 1995: independent or positively
        dependent tests) or "holm" (Holm 1979: no false finding at all).

    Raises
    ------
    InputError : another method.

    >>> adjusted([0.01, np.nan, 0.04], "holm").tolist(), adjusted([0.01, 0.04], "bh").tolist()
    ([0.02, nan, 0.04], [0.02, 0.04])
    """
    from scipy.stats import false_discovery_control

    if method not in METHODS:
        raise InputError(f"method: unknown '{method}'; {did_you_mean(method, METHODS)}")
    values = np.asarray(p, dtype=float)
    told = np.full(values.shape, np.nan)
    known = np.flatnonzero(~np.isnan(values))
    if known.size == 0:
        return told
    if method == "holm":
        order = known[np.argsort(values[known], kind="stable")]
        told[order] = np.minimum(np.maximum.accumulate(values[order] * np.arange(order.size, 0, -1)), 1.0)
    else:
        told[known] = false_discovery_control(values[known], method=method)
    return told


def bins_of(reference: pd.Series, *more: pd.Series, bins: int = 10) -> tuple[list[np.ndarray], int, int, str]:
    """Return the bin of each value of several samples, laid on the first.

    Returns
    -------
    The codes of each sample; how many bins there are; which bin holds what the reference does not know (categories:
    new values; -1 for numbers, whose outer bins are open); "number" or "category". The last bin is that of the missing.

    >>> bins_of(pd.Series(["a", "a", "b"]), pd.Series(["c", None, "b"]))[0][1].tolist()
    [3, 4, 1]
    """
    if is_number(reference):
        arrays = [values.to_numpy(dtype=np.float64, na_value=np.nan) for values in (reference, *more)]
        breaks = bin_breaks(arrays[0], bins)
        return [bin_codes(values, breaks) for values in arrays], breaks.size + 2, -1, "number"
    texts = [values.astype("str").where(values.notna()) for values in (reference, *more)]
    counted = texts[0].value_counts().sort_index().sort_values(ascending=False, kind="stable")
    own = counted.index[:MOST_CATEGORIES]
    others, new, missing = len(own), len(own) + 1, len(own) + 2
    code_of = pd.Series(others, index=counted.index, dtype=np.int64)
    code_of[own] = np.arange(len(own))
    codes = []
    for values in texts:
        code = values.map(code_of).fillna(new).to_numpy(dtype=np.int64)
        codes.append(np.where(values.isna(), missing, code))
    return codes, missing + 1, new, "category"


def is_number(values: pd.Series) -> bool:
    """Return whether a column holds numbers; truth values are categories."""
    return pd.api.types.is_numeric_dtype(values.dtype) and not pd.api.types.is_bool_dtype(values.dtype)


def compare_columns(
    reference: pd.DataFrame,
    current: pd.DataFrame,
    entity_reference: Any,
    entity_current: Any,
    *,
    bins: int = 10,
    min_rows: int = 200,
    method: str = "by",
) -> pd.DataFrame:
    """Compare every column of two samples: how far apart, how much of it by chance, missing and new values.

    Parameters
    ----------
    reference, current : the same columns, numbers (NaN = missing) or categories; columns of `current` that the
        reference lacks are left out.
    entity_reference, entity_current : whose each payment is, such as the customer.
    bins : of numbers, at most.
    min_rows : with fewer rows in either sample nothing is said.
    method : of the correction for many columns, see `adjusted`.

    Returns
    -------
    DataFrame, a row per column in their order: feature, kind (number or category), reading, psi, chance_psi (what
    chance alone is expected to give), test ("KS" for numbers, "chi-square" for categories), statistic (the largest
    distance of the distribution functions; the chi-square over its degrees of freedom and design effect, 1 by chance),
    p, p_adjusted, effect (design effect), missing_reference, missing_current, new (share of values that the reference
    does not hold; of numbers, outside its range), n_reference, n_current (rows), note.

    - "stable": the index less chance is below 0.10, or the correction leaves no difference at 5 %; "moved" up to 0.25;
      "changed" above. "not applicable": the note says why.

    Raises
    ------
    InputError : a column is missing in `current`, lengths differ, another method.

    Notes
    -----
    KS is scipy's two-sample statistic over what is not missing; its p-value is the asymptotic one for n / effect and
    m / effect rows, conservative where values are tied. Where values are missing, their share is tested too, by
    chi-square, and p is twice the smaller of both. With thousands of rows everything differs: the index says by
    how much, the p-value only whether chance explains it.

    >>> calm = pd.DataFrame({"amount": np.arange(400) % 100, "channel": np.where(np.arange(400) % 2, "pos", "online")})
    >>> loud = calm.assign(amount=calm["amount"] + 60.0)
    >>> table = compare_columns(calm, loud, np.arange(400), np.arange(400, 800))
    >>> table[["feature", "reading", "test", "new"]].values.tolist()
    [['amount', 'changed', 'KS', 0.6], ['channel', 'stable', 'chi-square', 0.0]]
    """
    for name in reference.columns:
        if name not in current.columns:
            raise InputError(f"drift: column '{name}' is missing; {did_you_mean(name, current.columns)}")
    for side, frame, entity in (("reference", reference, entity_reference), ("current", current, entity_current)):
        if len(frame) != len(entity):
            raise InputError(
                f"drift: entity_{side} must have a value for each row; found {len(entity):,} for {len(frame):,} rows; "
                "pass both for the same payments"
            )
    n, m = len(reference), len(current)
    both = pd.concat([pd.Series(np.asarray(entity_reference)), pd.Series(np.asarray(entity_current))])
    entity = pd.factorize(both, use_na_sentinel=False)[0]
    in_current = np.repeat([False, True], [n, m])
    rows = [
        _compared(name, reference[name], current[name], entity, in_current, bins, min_rows)
        for name in reference.columns
    ]
    table = pd.DataFrame(rows, columns=COLUMNS)
    table["p_adjusted"] = adjusted(table["p"], method)
    table["reading"] = _readings(table)
    return table


COLUMNS = [
    *("feature", "kind", "reading", "psi", "chance_psi", "test", "statistic", "p", "p_adjusted", "effect"),
    *("missing_reference", "missing_current", "new", "n_reference", "n_current", "note"),
]


def _compared(
    name: Any,
    reference: pd.Series,
    current: pd.Series,
    entity: np.ndarray,
    in_current: np.ndarray,
    bins: int,
    min_rows: int,
) -> tuple[Any, ...]:
    """Return the row of one column; reading and p_adjusted are filled in when all are known."""
    n, m = len(reference), len(current)
    number = is_number(reference)
    if number and not is_number(current):
        kind, note = "number", f"{_NOT}: the reference holds numbers, the current payments do not"
    elif min(n, m) < min_rows:
        kind, note = "number" if number else "category", f"{_NOT}: fewer than {min_rows} payments on one side"
    else:
        note = ""
    gaps = (reference.isna().mean() if n else np.nan, current.isna().mean() if m else np.nan)
    if note:
        nothing = (np.nan,) * 2
        return (name, kind, _NOT, *nothing, "", *(np.nan,) * 4, *gaps, np.nan, n, m, note)
    (before, after), size, new, kind = bins_of(reference, current, bins=bins)
    q, p = np.bincount(before, minlength=size), np.bincount(after, minlength=size)
    there = int(((q > 0) | (p > 0)).sum())
    effect = design_effect(np.concatenate([before, after]), in_current, entity, size)
    effect = max(effect, 1e-9)
    value, by_chance = psi(q, p), chance_psi(n, m, there, effect)
    if kind == "number":
        test, statistic, chance, unseen = _kolmogorov_smirnov(reference, current, effect)
        gone = np.concatenate([reference.isna(), current.isna()]).astype(np.int64)
        if gone.any():
            # What is missing is no value: asked for by itself, and the smaller of two p-values counts twice.
            lost = [np.bincount(gone[in_current == side], minlength=2) for side in (False, True)]
            _, by_missing = _chi_square(lost[0], lost[1], design_effect(gone, in_current, entity, 2))
            chance = min(2 * min(chance, by_missing), 1.0)
    else:
        test, unseen = "chi-square", float(p[new] / m)
        statistic, chance = _chi_square(q, p, effect)
    return (name, kind, "", value, by_chance, test, statistic, chance, np.nan, effect, *gaps, unseen, n, m, "")


def _kolmogorov_smirnov(reference: pd.Series, current: pd.Series, effect: float) -> tuple[str, float, float, float]:
    """Return test, largest distance, p-value and the share of values outside the reference's range."""
    from scipy.stats import ks_2samp, kstwobign

    before, after = (values.to_numpy(dtype=np.float64, na_value=np.nan) for values in (reference, current))
    before, after = before[~np.isnan(before)], after[~np.isnan(after)]
    if not before.size or not after.size:
        return "KS", float(before.size != after.size), 0.0 if before.size != after.size else 1.0, 0.0
    distance = float(ks_2samp(before, after, method="asymp").statistic)
    rows = before.size * after.size / (before.size + after.size) / max(effect, 1.0)
    outside = float(((after < before.min()) | (after > before.max())).sum() / len(current))
    return "KS", distance, float(kstwobign.sf(np.sqrt(rows) * distance)), outside


def _chi_square(q: np.ndarray, p: np.ndarray, effect: float) -> tuple[float, float]:
    """Return Pearson's statistic over its degrees of freedom and design effect, and its p-value."""
    from scipy.stats import chi2

    table = np.stack([q, p])[:, (q > 0) | (p > 0)].astype(float)
    freedom = table.shape[1] - 1
    if freedom < 1:
        return 0.0, 1.0
    expected = table.sum(axis=1, keepdims=True) * table.sum(axis=0) / table.sum()
    value = ((table - expected) ** 2 / expected).sum() / max(effect, 1.0)
    return float(value / freedom), float(chi2.sf(value, freedom))


def _readings(table: pd.DataFrame) -> list[str]:
    readings = []
    for row in table.itertuples():
        beyond = row.psi - row.chance_psi
        if row.note:
            readings.append(_NOT)
        elif beyond < STABLE or row.p_adjusted > 0.05:
            readings.append("stable")
        else:
            readings.append("moved" if beyond <= CHANGED else "changed")
    return readings
