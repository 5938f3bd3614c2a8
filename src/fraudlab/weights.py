"""How much each training row counts, and what that does to the stated risk.

Frauds are rare, labels come late, some frauds are never reported. Each remedy here is a weight per row: a factor for
the class, the age, the amount, a draw of the genuine rows (weight 0 = not drawn), a correction of the labels. Class
factors and draws move the log-odds of a fitted model by a constant, which `prior_shift` says and the model takes off
again. What each one brought, and what it cost, is in docs/imbalance.md.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from fraudlab.config import SamplingConfig
from fraudlab.delays import ReportDelays
from fraudlab.schema import InputError, utc

MOST = 10.0
"""No fraud counts as more than so many for want of its late fellows: few reports must not carry a model."""


def training_weights(
    y: Any,
    *,
    event_time: Any,
    label_time: Any,
    amount: Any,
    as_of: pd.Timestamp,
    sampling: SamplingConfig,
    seed: int,
    score: Any = None,
) -> np.ndarray | None:
    """Weigh the rows a model is fitted on, as `[sampling]` says.

    Parameters
    ----------
    y : nullable booleans, shape (n,): the labels as known at `as_of`. Missing ones are refused, unless
        `sampling.labels` is "delayed_feedback", which takes them for "no report yet".
    event_time, label_time : times with a zone, shape (n,); `label_time` may be missing where `y` is.
    amount : shape (n,), >= 0.
    as_of : the moment at which these labels were known, for a fold its `test_start`.
    sampling : the settings; the default ones give None.
    seed : of the draw of genuine rows.
    score : probabilities of a report, shape (n,), each by a model that did not learn from its row (`held_out_scores`);
        needed by "positive_unlabelled" only.

    Returns
    -------
    float64[n], or None where every row counts as one. Rows of weight 0 may be left out of the fit.

    Raises
    ------
    InputError : lengths differ, labels are missing or of one class, times are missing or after `as_of`, amounts are
        negative or those of the frauds all 0, no score where one is needed.

    Notes
    -----
    The weight is the product of these factors; each leaves the others' meaning alone.

    - class: `fraud_weight` for a fraud, 1 for a genuine row.
    - age: 2^(-age / half-life), divided by its mean over the rows.
    - amount: amount^power of a fraud, divided by its mean over the frauds; 1 for a genuine row.
    - draw: 1 for every fraud and for `genuine_per_fraud` genuine rows a fraud, drawn without replacement; else 0.
    - "delayed_feedback": a fraud of age a counts 1 / F(a), at most 10, where F is the share of frauds reported by that
      age (`ReportDelays`): it stands for those of its age still to come. A row without a label counts as genuine
      with (1 - p) / (1 - p F(a)), the chance that no report will come, p the share of frauds so corrected
      (Chapelle 2014; Yasui et al. 2020). Where frauds are rare that is nearly 1.
    - "positive_unlabelled": with c the share of frauds that are ever reported, a fraud counts 1 / c, a genuine row
      1 - (1 - c) / c * s / (1 - s), at least 0, s being its `score`: the chance that it is no unreported fraud (Elkan
      and Noto 2008; as weights Liu and Tao 2016). Frauds are taken to go unreported regardless of what they look like.

    References
    ----------
    Chapelle (2014), doi:10.1145/2623330.2623634; Yasui, Morishita, Fujita, Shibata (2020),
    doi:10.1145/3366423.3380032; Elkan and Noto (2008), doi:10.1145/1401890.1401920; Liu and Tao (2016),
    doi:10.1109/TPAMI.2015.2456899.

    >>> day = pd.to_datetime(["2026-01-01", "2026-01-03", "2026-01-05"], utc=True)
    >>> shared = {"event_time": day, "label_time": day, "amount": [30.0, 5.0, 10.0], "seed": 0,
    ...           "as_of": pd.Timestamp("2026-01-05", tz="UTC")}
    >>> training_weights([True, False, True], sampling=SamplingConfig(fraud_weight=4.0, amount_power=1.0), **shared)
    array([6., 1., 2.])
    """
    if sampling == SamplingConfig():
        return None
    labels, age, delay, amount = _rows(y, event_time, label_time, amount, as_of, sampling)
    fraud = labels.fillna(False).to_numpy(dtype=bool)
    factors: list[np.ndarray] = []
    if sampling.fraud_weight != 1.0:
        factors.append(np.where(fraud, sampling.fraud_weight, 1.0))
    if sampling.recency_half_life_days is not None:
        lived = 0.5 ** ((age - age.min()) / sampling.recency_half_life_days)
        factors.append(lived / lived.mean())
    if sampling.amount_power:
        factors.append(np.where(fraud, _by_amount(amount, fraud, sampling.amount_power), 1.0))
    if sampling.genuine_per_fraud is not None:
        factors.append(drawn(fraud, sampling.genuine_per_fraud, seed).astype("float64"))
    if sampling.labels == "delayed_feedback":
        factors.append(_delayed(labels, fraud, age, delay))
    if sampling.labels == "positive_unlabelled":
        factors.append(_unreported(fraud, score, sampling.reported_share))
    return np.prod(factors, axis=0)


def _rows(
    y: Any, event_time: Any, label_time: Any, amount: Any, as_of: pd.Timestamp, sampling: SamplingConfig
) -> tuple[pd.Series, np.ndarray, np.ndarray, np.ndarray]:
    """Return labels, age and delay of the label in days (no label: NaN) and amounts, all checked."""
    labels = pd.Series(pd.array(y, dtype="boolean"))
    times = {name: pd.DatetimeIndex(given) for name, given in (("event_time", event_time), ("label_time", label_time))}
    amount = np.asarray(amount, dtype="float64")
    sizes = {"y": len(labels), **{name: len(given) for name, given in times.items()}, "amount": len(amount)}
    if len(set(sizes.values())) > 1 or not len(labels):
        said = ", ".join(f"{name} {size:,}" for name, size in sizes.items())
        raise InputError(f"weights: need an entry for each training row, at least one; found {said}; pass the same")
    unknown = labels.isna().to_numpy()
    if unknown.any() and sampling.labels != "delayed_feedback":
        raise InputError(
            f"weights: labels must be known; found {unknown.sum():,} unknown of {len(labels):,}; leave these rows out, "
            'or set sampling.labels = "delayed_feedback"'
        )
    frauds = int(labels.sum())
    if not 0 < frauds < len(labels):
        raise InputError(
            f"weights: must weigh frauds against genuine rows; found {frauds:,} frauds of {len(labels):,} rows; "
            "lengthen the training period"
        )
    wrong = int((~(np.isfinite(amount) & (amount >= 0))).sum())
    if wrong:
        raise InputError(
            f"weights: amount must be finite and >= 0; found {wrong:,} others of {len(amount):,}; "
            "mend them at the source"
        )
    until = utc(as_of, "as_of")
    for name, given in times.items():
        if given.tz is None:
            raise InputError(f"weights: {name} must carry a time zone; found none; pass canonical transactions")
        missing = int((given.isna() & ~(unknown & (name == "label_time"))).sum())
        late = int((given > until).sum())
        if missing or late:
            raise InputError(
                f"weights: {name} must be there and not lie after as_of; found {missing:,} missing and {late:,} later "
                f"of {len(labels):,}; take the rows as they were known at as_of"
            )
    event, told = times["event_time"], times["label_time"]
    day = pd.Timedelta(days=1)
    return labels, ((until - event) / day).to_numpy(), ((told - event) / day).to_numpy(), amount


def _by_amount(amount: np.ndarray, fraud: np.ndarray, power: float) -> np.ndarray:
    scaled = amount**power
    mean = scaled[fraud].mean()
    if mean == 0:
        raise InputError(
            f"weights: sampling.amount_power needs frauds of an amount above 0; found {fraud.sum():,} frauds, all of "
            "amount 0; set it to 0"
        )
    return scaled / mean


# -- fewer genuine rows, and back to the true risk -------------------------------------------------------------------


def drawn(fraud: np.ndarray, genuine_per_fraud: float, seed: int) -> np.ndarray:
    """Return bool[n]: every fraud, and `genuine_per_fraud` genuine rows for each, drawn without replacement.

    >>> drawn(np.array([True, False, False, False]), 2, seed=0).tolist()
    [True, True, False, True]
    """
    genuine = np.flatnonzero(~fraud)
    taken = fraud.copy()
    taken[np.random.default_rng(seed).permutation(genuine)[: _wanted(fraud, genuine_per_fraud)]] = True
    return taken


def _wanted(fraud: np.ndarray, genuine_per_fraud: float) -> int:
    frauds = int(fraud.sum())
    return min(max(round(genuine_per_fraud * frauds), 1), len(fraud) - frauds)


def prior_shift(y: Any, sampling: SamplingConfig) -> float:
    """Say what must be added to the log-odds of a model fitted with `training_weights`; 0 where nothing must.

    Frauds that count w times among genuine rows of which the share b was drawn multiply the odds of fraud by w / b; the
    logarithm of b / w takes that back. It changes no ranking, and leaves the corrections of age, amount and labels
    alone.

    Parameters
    ----------
    y : the training labels, shape (n,); missing ones count as genuine.
    sampling : what `training_weights` was given.

    References
    ----------
    Dal Pozzolo, Caelen, Johnson, Bontempi (2015), doi:10.1109/SSCI.2015.33; King and Zeng (2001),
    doi:10.1093/oxfordjournals.pan.a004868.

    >>> y = [True] + [False] * 40
    >>> round(prior_shift(y, SamplingConfig(genuine_per_fraud=10)), 4)  # ln(10 / 40)
    -1.3863
    """
    fraud = pd.Series(pd.array(y, dtype="boolean")).fillna(False).to_numpy(dtype=bool)
    kept = 1.0
    if sampling.genuine_per_fraud is not None and not fraud.all():
        kept = _wanted(fraud, sampling.genuine_per_fraud) / (~fraud).sum()
    return float(np.log(kept / sampling.fraud_weight))


def prior_corrected(score: Any, kept: float) -> np.ndarray:
    """Turn the probability learnt from all frauds and the share `kept` of the genuine rows into that of all rows.

    p = b s / (b s - s + 1), with b = `kept`: the formula of Dal Pozzolo et al. (2015), doi:10.1109/SSCI.2015.33. It
    is the same as adding `prior_shift` to the log-odds.

    >>> prior_corrected([0.0, 0.5, 1.0], 0.25).tolist()
    [0.0, 0.2, 1.0]
    """
    if not 0 < kept <= 1:
        raise InputError(f"kept: must be a share above 0 and at most 1; found {kept}; give the share of genuine rows")
    score = np.asarray(score, dtype="float64")
    return kept * score / (kept * score - score + 1)


# -- labels that come late -------------------------------------------------------------------------------------------


def _delayed(labels: pd.Series, fraud: np.ndarray, age: np.ndarray, delay: np.ndarray) -> np.ndarray:
    delays = ReportDelays.of(delay[fraud], age[fraud])
    reported = delays.by(age)
    counts = 1 / np.maximum(reported[fraud], 1 / MOST)
    rate = min(counts.sum() / len(fraud), 1.0)
    weight = np.where(labels.isna(), (1 - rate) / (1 - rate * reported), 1.0)
    weight[fraud] = counts
    return weight


# -- frauds that nobody reports --------------------------------------------------------------------------------------


def held_out_scores(
    y: np.ndarray, fit_and_score: Callable[[np.ndarray, np.ndarray], np.ndarray], blocks: int = 3
) -> np.ndarray:
    """Score every training row by a model that did not learn from it, float64[n].

    Parameters
    ----------
    y : bool[n], labels in time order.
    fit_and_score : given row positions to learn from and positions to score, returns the scores of the latter.
    blocks : equal stretches of time; each is scored by a model of the others, so that a burst of fraud is not both
        learnt from and scored.

    Raises
    ------
    InputError : without one of the blocks no fraud is left to learn from.

    >>> held_out_scores(np.array([1, 0, 1, 0, 0, 1], bool), lambda learn, at: np.full(len(at), float(len(learn))))
    array([4., 4., 4., 4., 4., 4.])
    """
    y = np.asarray(y, dtype=bool)
    block = np.arange(len(y)) * blocks // len(y)
    score = np.empty(len(y))
    for each in range(blocks):
        learn, at = np.flatnonzero(block != each), np.flatnonzero(block == each)
        if not y[learn].any():
            raise InputError(
                f"held-out scores: each of {blocks} stretches of time needs frauds outside it; found all {y.sum():,} "
                "frauds in one; lengthen the training period"
            )
        score[at] = fit_and_score(learn, at)
    return score


def reported_share(score: Any, y: Any) -> float:
    """Estimate the share of frauds that are ever reported: the mean held-out score of the reported ones.

    Right only where frauds look like no genuine payment, so that an ideal score of theirs is that share itself. Where
    they overlap, as payments do, it comes out far too low: state the share if anything is known about it.

    References
    ----------
    Elkan and Noto (2008), doi:10.1145/1401890.1401920, estimator e1.

    >>> reported_share([0.8, 0.6, 0.1], [True, True, False])
    0.7
    """
    return float(np.asarray(score, dtype="float64")[np.asarray(y, dtype=bool)].mean())


def _unreported(fraud: np.ndarray, score: Any, share: float | None) -> np.ndarray:
    if score is None:
        raise InputError(
            'weights: sampling.labels = "positive_unlabelled" needs each row\'s held-out score; found none; make them '
            "with held_out_scores"
        )
    score = np.asarray(score, dtype="float64")
    wrong = int((~((score >= 0) & (score <= 1))).sum())
    if score.shape != fraud.shape or wrong:
        raise InputError(
            f"weights: score must be a probability for each row; found {score.size:,} for {fraud.size:,} rows, "
            f"{wrong:,} of them outside [0, 1]; make them with held_out_scores"
        )
    share = reported_share(score, fraud) if share is None else share
    hidden = (1 - share) / share * score / np.maximum(1 - score, 1e-12)
    return np.where(fraud, 1 / share, np.clip(1 - hidden, 0, 1))
