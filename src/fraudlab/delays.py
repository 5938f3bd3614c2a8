"""How long it takes until something is known: frauds to be reported, cases to be decided.

Of a young fraud only a quick report can have been seen, and of a young case a slow decision is still to come. Both
distort a plain share; each has its estimate here, with an interval.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from fraudlab.schema import InputError

_Z95 = 1.959963984540054
LONGEST_DAYS = 180
COLUMNS = ("days", "share", "low", "high", "n")


@dataclass(frozen=True, eq=False)
class ReportDelays:
    """How long frauds take to be reported: `share[i]` of them come within `days[i]`; 1 from the last on, 0 before.

    `low` and `high` are 95 % intervals of the shares.
    """

    days: np.ndarray
    share: np.ndarray
    low: np.ndarray
    high: np.ndarray

    @classmethod
    def of(cls, delay: Any, age: Any) -> ReportDelays:
        """Estimate the delays from the frauds reported so far.

        Of a young fraud only a short delay can have been seen, so the plain distribution of the delays seen is too
        short. This is the estimate for such truncated times: run backwards from the longest delay, the chance of a
        report at d is that among the reported frauds whose delay is at most d and which are old enough to have shown
        it. It is relative to the oldest fraud: what takes longer than its age cannot be known.

        Parameters
        ----------
        delay : days from each reported fraud to its report, shape (n,), >= 0.
        age : days from each of them to the moment of knowing, shape (n,), not below its delay.

        Raises
        ------
        InputError : no fraud, unequal lengths, a delay below 0 or above its age.

        Notes
        -----
        The intervals follow Greenwood's variance of the logarithm of the product, on the scale log(-log share), so
        that they stay between 0 and 1. Where one day holds all frauds that are old enough, nothing is known of the
        days before it: their share is 0, from 0 to 1.

        References
        ----------
        Lagakos, Barraj, De Gruttola (1988), doi:10.1093/biomet/75.3.515; Kaplan and Meier (1958),
        doi:10.1080/01621459.1958.10501452; Kalbfleisch and Lawless (1989), doi:10.1080/01621459.1989.10478780.

        Three frauds of one day's delay; only the two old ones could have shown nine days, and one of them did:

        >>> delays = ReportDelays.of(delay=[1, 1, 1, 9], age=[2, 2, 30, 30])
        >>> delays.days.tolist(), delays.share.tolist()
        ([1.0, 9.0], [0.5, 1.0])
        >>> delays.by([0, 5, 20]).tolist()
        [0.0, 0.5, 1.0]
        """
        delay, age = np.asarray(delay, dtype="float64"), np.asarray(age, dtype="float64")
        if delay.shape != age.shape or not delay.size or not ((delay >= 0) & (delay <= age)).all():
            wrong = 0 if delay.shape != age.shape else int((~((delay >= 0) & (delay <= age))).sum())
            raise InputError(
                f"delays: need the delay of each reported fraud, from 0 to its age; found {delay.size:,} delays, "
                f"{age.size:,} ages and {wrong:,} that do not fit; pass reported frauds only"
            )
        days, reported = np.unique(delay, return_counts=True)
        seen = np.searchsorted(np.sort(delay), days, side="right")
        too_young = np.searchsorted(np.sort(age), days, side="left")
        at_risk = seen - too_young
        later = 1 - reported / at_risk  # chance of no report at this delay, given none after it
        share = np.append(np.cumprod(later[:0:-1])[::-1], 1.0)
        with np.errstate(divide="ignore"):
            added = reported[1:] / (at_risk[1:] * (at_risk[1:] - reported[1:]))
        variance = np.append(np.cumsum(added[::-1])[::-1], 0.0)
        return cls(days, share, *_between_0_and_1(share, variance))

    def by(self, age: Any) -> np.ndarray:
        """Return the share of frauds reported by each age in days, float64[n]."""
        return self._at(self.share, age)

    def table(self) -> pd.DataFrame:
        """Table the share reported by each whole day since the payment.

        Returns
        -------
        DataFrame: days (0 to the longest delay seen, at most 180), share, low, high (0 to 1).
        """
        days = np.arange(int(min(np.ceil(self.days[-1]), LONGEST_DAYS)) + 1)
        told = {name: self._at(getattr(self, name), days) for name in ("share", "low", "high")}
        # Before the first delay seen nothing is known to come; where none was old enough to show it, anything may.
        nothing_known = (days < self.days[0]) & (self.share[0] == 0)
        return pd.DataFrame({"days": days, **told, "high": np.where(nothing_known, 1.0, told["high"])})

    def _at(self, values: np.ndarray, age: Any) -> np.ndarray:
        place = np.searchsorted(self.days, np.asarray(age, dtype="float64"), side="right")
        return np.append(0.0, values)[place]


def _between_0_and_1(share: np.ndarray, variance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return 95 % limits of shares whose logarithms have these variances, on the scale log(-log share)."""
    low, high = share.copy(), share.copy()
    inside = (share > 0) & (share < 1)
    log = np.log(share[inside])
    factor = np.exp(_Z95 * np.sqrt(variance[inside]) / -log)
    low[inside], high[inside] = np.exp(log * factor), np.exp(log / factor)
    high[share <= 0] = 1.0
    return low, high


def delays_known(payments: pd.DataFrame, as_of: pd.Timestamp) -> ReportDelays | None:
    """Return how soon frauds are reported, from those of `payments` that are known at a moment; None where none is.

    >>> rows = pd.DataFrame({"event_time": pd.to_datetime(["2026-01-01", "2026-01-02"], utc=True), "is_fraud": True})
    >>> rows = rows.assign(label_time=rows["event_time"] + pd.Timedelta(days=3))
    >>> delays_known(rows, rows["event_time"].min()) is None
    True
    >>> float(delays_known(rows, rows["label_time"].max()).by(5))
    1.0
    """
    fraud = payments["is_fraud"].fillna(False).to_numpy(dtype=bool)
    known = payments[fraud & (payments["label_time"] <= as_of).to_numpy()]
    if known.empty:
        return None
    day = pd.Timedelta(days=1)
    return ReportDelays.of((known["label_time"] - known["event_time"]) / day, (as_of - known["event_time"]) / day)


def report_delays(event_time: Any, label_time: Any, as_of: pd.Timestamp) -> pd.DataFrame:
    """Table how soon frauds are reported, corrected for young ones whose slow reports are still to come.

    Parameters
    ----------
    event_time, label_time : of known frauds, times with a zone, shape (n,): when they were paid, when they were
        reported. Those without a report by `as_of` are left out.
    as_of : the moment of knowing.

    Returns
    -------
    DataFrame: days (whole days since the payment), share (reported by then), low, high (95 % interval), n (frauds it
    rests on); no row where no fraud was reported. See `ReportDelays` for what it is relative to.

    >>> paid = pd.to_datetime(["2026-01-01", "2026-01-01", "2026-01-08"], utc=True)
    >>> told = pd.to_datetime(["2026-01-02", "2026-01-04", "2026-01-09"], utc=True)
    >>> report_delays(paid, told, pd.Timestamp("2026-01-10", tz="UTC"))[["days", "share", "n"]].values.tolist()
    [[0.0, 0.0, 3.0], [1.0, 0.5, 3.0], [2.0, 0.5, 3.0], [3.0, 1.0, 3.0]]
    """
    event, label = pd.DatetimeIndex(event_time), pd.DatetimeIndex(label_time)
    known = label.notna() & (label <= as_of)
    day = pd.Timedelta(days=1)
    delay, age = ((label - event) / day)[known], ((as_of - event) / day)[known]
    if not known.any():
        return pd.DataFrame(columns=list(COLUMNS))
    return ReportDelays.of(delay.to_numpy(), age.to_numpy()).table().assign(n=int(known.sum()))


def decision_delays(begin: Any, decided: Any, as_of: pd.Timestamp) -> pd.DataFrame:
    """Table how soon cases are decided, those still waiting counted for as long as they have waited.

    Parameters
    ----------
    begin : when each case began, times with a zone, shape (n,), not after `as_of`.
    decided : when it was decided, shape (n,); missing, or later than `as_of`: it waits.
    as_of : the moment of knowing.

    Returns
    -------
    DataFrame: days (whole days since the case began), share (decided by then), low, high (95 % interval), n (cases);
    the days end with the longest wait. No row without a case.

    References
    ----------
    Kaplan and Meier (1958), doi:10.1080/01621459.1958.10501452.

    >>> begin = pd.to_datetime(["2026-01-01", "2026-01-01", "2026-01-03", "2026-01-04"], utc=True)
    >>> decided = pd.to_datetime(["2026-01-02", None, "2026-01-05", None], utc=True)
    >>> table = decision_delays(begin, decided, pd.Timestamp("2026-01-05", tz="UTC"))
    >>> [round(share, 3) for share in table["share"]]  # on day 2 one of the two that waited so long was decided
    [0.0, 0.25, 0.625, 0.625, 0.625]
    """
    from scipy.stats import CensoredData, ecdf

    begin, decided = pd.DatetimeIndex(begin), pd.DatetimeIndex(decided)
    if not len(begin):
        return pd.DataFrame(columns=list(COLUMNS))
    done = decided.notna() & (decided <= as_of)
    day = pd.Timedelta(days=1)
    waited = ((decided.where(done, as_of) - begin) / day).to_numpy()
    if (waited < 0).any():
        raise InputError(
            f"delays: no case may begin after it was decided or after as_of; found {(waited < 0).sum():,} of "
            f"{len(waited):,}; correct the times"
        )
    curve = ecdf(CensoredData.right_censored(waited, ~done))
    days = np.arange(int(min(np.ceil(waited.max()), LONGEST_DAYS)) + 1)
    waits = curve.sf.quantiles
    share = np.append(0.0, 1 - curve.sf.probabilities)
    at_risk = np.searchsorted(np.sort(waited), waits, side="left")
    left = len(waited) - at_risk
    gone = np.array([(waited[done] == wait).sum() for wait in waits])
    with np.errstate(divide="ignore", invalid="ignore"):
        variance = np.cumsum(np.where(gone > 0, gone / (left * (left - gone)), 0.0))
    low, high = _between_0_and_1(1 - share[1:], variance)
    # Once none is left waiting the variance says nothing: what was sure before stays sure.
    low, high = np.maximum.accumulate(np.append(0.0, 1 - high)), np.append(0.0, 1 - low)
    place = np.searchsorted(waits, days, side="right")
    return pd.DataFrame({"days": days, "share": share[place], "low": low[place], "high": high[place], "n": len(waited)})
