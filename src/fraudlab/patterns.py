"""Emerging patterns: unusual payments that share a device, a merchant, an amount with more others than chance explains.

A payment is unusual when few of the weeks before scored as high. What unusual payments share is counted in customers,
since one customer's payments are alike anyway, and held against what is usual at that very value: at a jeweller
payments often are unusual, and a family has one tablet. No label is read, so a pattern can be seen before anybody has
reported it; most unusual payments are honest, so a person decides what a pattern is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.special import betaln, gammaln, logsumexp
from scipy.stats import nbinom

from fraudlab.drift import adjusted
from fraudlab.schema import InputError, require_columns

LINKS: dict[str, tuple[str, ...]] = {
    "device": ("device_id",),
    "address": ("ip",),
    "merchant": ("merchant_id",),
    "amount": ("amount",),
    "merchant and amount": ("merchant_id", "amount"),
    "place": ("latitude", "longitude"),
}
"""What payments can share, and the columns that say it; a link is left out where one of its columns is not there."""

OWN = ("device", "address", "amount", "merchant and amount")
"""Links that seldom join customers at all: that several meet there counts, however many of their payments are usual."""

AGAINST = ("ratio", "max_ratio", "zscore", "percentile", "is_new", "repeats")
"""Statistics that hold the payment itself against a merchant's history; other ones say something of the merchant."""

TOP = 0.05
"""A payment is unusual where so small a share of the weeks before scored as high."""

LEAST = 3
"""Customers with unusual payments; fewer are no pattern."""

PERIODS = 8
"""Stretches before the window, each as long as it, that say what is usual."""

FALSE_SHARE = 0.10
"""Of the values called surprising, so many may be chance (false discovery rate)."""

SAME = 0.5
"""Surprising values are one pattern where they share so much of the smaller one's payments."""

GRID = 0.1
"""Degrees: side of the cells that places are counted in."""

COLUMNS = (
    *("pattern", "shares", "payments", "customers", "first", "last", "amount", "unusual", "alerted"),
    *("observed", "of", "expected", "p", "q"),
)
SHARED = ("pattern", "link", "value", "payments", "customers", "of", "expected", "p", "q")

_PRIOR = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0)
_FIRM = (3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 1e5)
"""What the law of chance may have: how much a value like others is believed before its own past, and how much at most.

Fitted by trying all pairs: the likelihood is flat, and a grid gives the same bits everywhere.
"""
_AMOUNT_BINS, _SHRINK, _LEAST_MEAN = 12, 50.0, 1e-4
_LEAST_BEFORE = 500
_MATTERS = ("k", "n", "alike", "k_before", "n_before", "used_before")


@dataclass(frozen=True, eq=False)
class Patterns:
    """What was found in a window; `shared` holds raw values and is for case work only.

    Attributes
    ----------
    table : a row per candidate, the most surprising first, with `COLUMNS`: pattern (1, 2, ...); shares (its links,
        comma-separated, the most surprising first); payments and customers of its members, which are the unusual
        payments at its values; first, last (their times) and amount (their sum); unusual (share of the weeks before
        that scored as high as the members' median); alerted (members that were, NaN where that is not known). Of its
        most surprising value: observed (customers with an unusual payment), of (customers in all), expected (of
        observed, by chance), p, and q, corrected for all values looked at.
    shared : a row per candidate and value that made it one, with `SHARED`; the value is a tuple, an entry a column.
    members : pattern, row (position in the payments), a row per candidate and member, in the order of time.
    tested : how many values of each link were looked at.
    threshold : the score above which a payment is unusual.
    """

    table: pd.DataFrame
    shared: pd.DataFrame = field(repr=False)
    members: pd.DataFrame = field(repr=False)
    tested: dict[str, int]
    threshold: float


def find_patterns(
    payments: pd.DataFrame,
    unusual: Any,
    *,
    since: pd.Timestamp,
    until: pd.Timestamp,
    alerted: Any = None,
    left_out: Any = None,
    top: float = TOP,
    periods: int = PERIODS,
    false_share: float = FALSE_SHARE,
    links: Mapping[str, tuple[str, ...]] = LINKS,
) -> Patterns:
    """Find groups of unusual payments of a window that share more than chance explains, without labels.

    Parameters
    ----------
    payments : canonical transactions, in order of time: event_time, customer_id, amount and what there is of the links'
        columns. Labels may be there and are not read.
    unusual : float[n], the higher the more unusual, such as `anomaly.Detector.score`; made without label features.
    since, until : the window, [since, until). What is usual is learnt from as many as `periods` stretches of its length
        before it.
    alerted : bool[n], whether the model alerted a payment; only counted.
    left_out : bool[n], payments that do not count, such as those of patterns that were decided on.
    top : in (0, 1), the share of the payments before that scored highest; a payment above these is unusual.
    false_share : in (0, 1), the false discovery rate.
    links : name -> columns, of `LINKS`.

    Returns
    -------
    Patterns; no row where nothing surprises. The same input gives the same output.

    Raises
    ------
    InputError : a column is missing, lengths differ, an argument is out of range, fewer than 500 payments lie before
        the window.

    Notes
    -----
    Merchants, amounts, places: of n customers at a value k have an unusual payment; by chance k is beta-binomial with
    mean (c m + k') / (c + n'), k' of n' its own past and m the share at values of its kind: seen before or not, and for
    amounts of its size. Only values with n >= 3 are looked at. Devices, addresses: k itself is gamma-Poisson with mean
    (c m + k') / (c + h), h the earlier stretches in which the value was used; all values in use are looked at. c and
    the precision, at most s, maximise the likelihood of the later half of the past, each stretch given those before
    it. Values with p small enough by a weighted Benjamini and Hochberg procedure, every link with an equal share of the
    errors, are surprising; those that share half of the smaller one's unusual payments are one candidate (connected
    components). Amounts are taken to the cent and places in cells of 0.1 degrees.

    References
    ----------
    Beta-binomial: Skellam (1948), A probability distribution derived from the binomial distribution,
    doi:10.1111/j.2517-6161.1948.tb00014.x. Gamma-Poisson for counts in cells: DuMouchel (1999), Bayesian data mining in
    large frequency tables, doi:10.1080/00031305.1999.10474456. Weights: Genovese, Roeder and Wasserman (2006), False
    discovery control with p-value weighting, doi:10.1093/biomet/93.3.509.

    >>> day = pd.Timestamp("2026-03-01", tz="UTC")
    >>> n = 2000
    >>> payments = pd.DataFrame({"event_time": day + pd.to_timedelta(np.arange(n), unit="h"),
    ...     "customer_id": [f"c{i % 97}" for i in range(n)], "amount": 1.0 + np.arange(n),
    ...     "device_id": [f"d{i % 97}" for i in range(n)]})
    >>> payments.loc[n - 12:, "device_id"] = "new"
    >>> odd = np.where(np.arange(n) >= n - 12, 0.99, np.arange(n) % 89 / 100)
    >>> week = pd.Timedelta(days=7)
    >>> until = payments["event_time"].iloc[-1] + pd.Timedelta(hours=1)
    >>> found = find_patterns(payments, odd, since=until - week, until=until)
    >>> found.table[["shares", "payments", "customers", "observed", "of"]].values.tolist()
    [['device', 12, 12, 12, 12]]
    """
    score, flagged, out = _checked(payments, unusual, alerted, left_out)
    _check_numbers(since, until, top, periods, false_share, links)
    time, width = payments["event_time"], until - since
    rows = np.flatnonzero(((time < until) & (time >= since - periods * width)).to_numpy() & ~out)
    # 0 is the window, 1 the stretch before it, and so on.
    age = np.ceil((since - time.iloc[rows]) / width).clip(lower=0).to_numpy(dtype=np.int64)
    if (age > 0).sum() < _LEAST_BEFORE:
        raise InputError(
            f"patterns: needs {_LEAST_BEFORE} payments before the window to know what is usual; found "
            f"{int((age > 0).sum()):,}; choose a later window"
        )
    before = np.sort(score[rows][age > 0])
    threshold = float(np.quantile(before, 1 - top))
    odd = score[rows] > threshold
    near = payments.iloc[rows]
    customer = pd.factorize(near["customer_id"])[0]
    tables, codes, tested = [], {}, {}
    for name, columns in links.items():
        if not {*columns} <= {*payments.columns}:
            continue
        codes[name] = _codes(near, columns)
        size = _size_of(near["amount"].to_numpy(dtype=float), age) if "amount" in columns else np.zeros_like(age)
        judged = _judged(_counted(codes[name], age, customer, odd, size), own=name in OWN, periods=periods)
        tested[name] = len(judged)
        judged = judged[judged["k"] >= LEAST]
        tables.append(judged.assign(link=name))
    every = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=["p", "link"])
    every["q"] = _weighted(every["p"].to_numpy(dtype=float), every["link"], tested)
    hits = every[every["q"] <= false_share].sort_values(["p", "link", "code"], kind="stable", ignore_index=True)
    now = odd & (age == 0)
    sets = [np.flatnonzero(now & (codes[hit.link] == hit.code)) for hit in hits.itertuples()]
    return _grouped(hits, sets, rows, payments, score, before, flagged, tested, threshold, links)


def _checked(
    payments: pd.DataFrame, unusual: Any, alerted: Any, left_out: Any
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    require_columns(payments, ["event_time", "customer_id", "amount"], where="patterns")
    score = np.asarray(unusual, dtype=float)
    flagged = np.full(len(payments), np.nan) if alerted is None else np.asarray(alerted, dtype=float)
    out = np.zeros(len(payments), dtype=bool) if left_out is None else np.asarray(left_out, dtype=bool)
    for name, values in (("unusual", score), ("alerted", flagged), ("left_out", out)):
        if values.shape != (len(payments),):
            raise InputError(
                f"patterns: '{name}' must have a value for each of {len(payments):,} payments; found {values.size:,}; "
                "pass those of the same payments"
            )
    if missing := int(np.isnan(score).sum()):
        raise InputError(f"patterns: 'unusual' must be known of every payment; found {missing:,} missing; score them")
    return score, flagged, out


def _check_numbers(
    since: pd.Timestamp,
    until: pd.Timestamp,
    top: float,
    periods: int,
    false_share: float,
    links: Mapping[str, tuple[str, ...]],
) -> None:
    if not since < until:
        raise InputError("patterns: the window must begin before it ends; found otherwise; correct since or until")
    for name, value in (("top", top), ("false_share", false_share)):
        if not 0 < value < 1:
            raise InputError(f"patterns: {name} must lie between 0 and 1; found {value:g}; correct it")
    if periods < 2:
        raise InputError(f"patterns: periods must be at least 2; found {periods}; correct it")
    if not links:
        raise InputError("patterns: needs a link; found none; pass some of patterns.LINKS")


def not_read(feature_set: Any) -> tuple[str, ...]:
    """Return the features of a set that unusualness must not read, in their order.

    Those made from labels, or a pattern would be found because somebody reported it; and those that say something of a
    merchant alone, or at a merchant where they are odd all payments are, and would pass for a pattern.

    Parameters
    ----------
    feature_set : `features.FeatureSet`.

    >>> from fraudlab.features import FeatureSet, count, percentile, risk, value
    >>> merchant = {"by": "merchant_id", "window": "30d"}
    >>> not_read(FeatureSet("tiny", [value("amount"), count(**merchant), percentile("amount", **merchant),
    ...                              risk(by="merchant_id", window="7d")]))
    ('merchant_id__count__30d', 'merchant_id__risk__7d')
    """
    of_merchants = {
        column
        for spec in feature_set.specs
        if tuple(getattr(spec, "by", ())) == ("merchant_id",) and spec.statistic not in AGAINST
        for column in spec.columns
    }
    return tuple(name for name in feature_set.columns if name in of_merchants or name in feature_set.from_labels)


# -- what chance explains --------------------------------------------------------------------------------------------


def _codes(payments: pd.DataFrame, columns: tuple[str, ...]) -> np.ndarray:
    """Return a code for each payment's value, equal for equal ones, -1 where a part of it is missing.

    >>> _codes(pd.DataFrame({"merchant_id": ["a", "b", "a", None], "amount": [1.0, 1.0, 1.001, 1.0]}),
    ...        ("merchant_id", "amount")).tolist()
    [0, 1, 0, -1]
    """
    code, missing = np.zeros(len(payments), dtype=np.int64), np.zeros(len(payments), dtype=bool)
    for name in columns:
        part, values = pd.factorize(_rounded(payments[name], name))
        missing |= part < 0
        code = code * (len(values) + 1) + part
    return np.where(missing, -1, pd.factorize(code)[0])


def _rounded(values: pd.Series, name: str) -> pd.Series:
    """Return amounts to the cent, places by the cell, everything else as it is."""
    if name == "amount":
        return values.astype("float64").round(2)
    if name in ("latitude", "longitude"):
        return ((values.astype("float64") / GRID).round() * GRID).round(6)
    return values


def _size_of(amount: np.ndarray, age: np.ndarray) -> np.ndarray:
    """Return the bin of each amount, on quantiles of those before the window."""
    edges = np.unique(np.quantile(amount[age > 0], np.linspace(0, 1, _AMOUNT_BINS + 1)[1:-1]))
    return np.searchsorted(edges, amount, side="right")


def _counted(
    code: np.ndarray, age: np.ndarray, customer: np.ndarray, odd: np.ndarray, size: np.ndarray
) -> pd.DataFrame:
    """Count customers, and those with an unusual payment, of each value in each stretch, with what came before.

    Returns
    -------
    DataFrame, a row per value and stretch in which it was used, the oldest first: code, age, n, k, size, and of the
    stretches before: n_before, k_before (sums), used_before (how many).
    """
    keep = code >= 0
    units = pd.DataFrame(
        {"code": code[keep], "age": -age[keep], "customer": customer[keep], "odd": odd[keep], "size": size[keep]}
    ).sort_values(["code", "age", "customer", "odd"], kind="stable")
    units = units[~units.duplicated(["code", "age", "customer"], keep="last")]  # the unusual one, where there is one
    table = units.groupby(["code", "age"], sort=True).agg(n=("odd", "size"), k=("odd", "sum"), size=("size", "max"))
    table = table.reset_index()
    by = table.groupby("code", sort=False)
    for name in ("n", "k"):
        table[f"{name}_before"] = by[name].cumsum() - table[name]
    return table.assign(used_before=by.cumcount(), age=-table["age"])


def _judged(table: pd.DataFrame, *, own: bool, periods: int) -> pd.DataFrame:
    """Return the window's rows that are looked at, with what chance explains of k and the chance of as many."""
    past = table[(table["age"] > 0) & (table["age"] <= max(periods // 2, 1))]
    now = table[(table["age"] == 0) & ((table["n"] >= LEAST) | own)].copy()
    past, now = _with_alike(past, now, own)
    alike = past.groupby(list(_MATTERS), sort=True).size().rename("times").reset_index()
    # Of equally good pairs the first is taken.
    law = max((_Law(own, prior, firm) for prior in _PRIOR for firm in _FIRM), key=lambda law: law.likelihood(alike))
    now["expected"], now["p"] = law.judge(now)
    return now


def _with_alike(past: pd.DataFrame, now: pd.DataFrame, own: bool) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Add to both what values of a row's kind had in the past: seen before or not, and of its size; shrunk to all."""
    exposed = 1.0 if own else past["n"]
    past = past.assign(exposed=exposed, seen=past["used_before"] > 0)
    overall = float((past["k"].sum() + 1) / (past["exposed"].sum() + _SHRINK))
    cells = past.groupby(["seen", "size"])[["exposed", "k"]].sum()
    alike = ((cells["k"] + _SHRINK * overall) / (cells["exposed"] + _SHRINK)).to_dict()

    def of(rows: pd.DataFrame) -> np.ndarray:
        kinds = zip((rows["used_before"] > 0).tolist(), rows["size"].tolist())
        return np.array([alike.get(kind, overall) for kind in kinds], dtype=float)

    return past.assign(alike=of(past)), now.assign(alike=of(now))


@dataclass(frozen=True)
class _Law:
    """How many customers with unusual payments chance puts at a value: beta-binomial, or gamma-Poisson where `own`."""

    own: bool
    prior: float
    firm: float

    def judge(self, rows: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
        """Return, per row, the expected k and the chance of k or more."""
        k, n = rows["k"].to_numpy(dtype=float), rows["n"].to_numpy(dtype=float)
        mean, firm = self._parameters(rows)
        if self.own:
            return mean, nbinom.sf(k - 1, mean * firm, firm / (firm + 1))
        tail = [_beta_binomial_tail(*each) for each in zip(k, n, mean * firm, (1 - mean) * firm)]
        return n * mean, np.array(tail, dtype=float)

    def likelihood(self, rows: pd.DataFrame) -> float:
        """Return the logarithm of the chance of the rows' k, each so many `times`, up to what no law changes."""
        k, n, times = rows["k"].to_numpy(dtype=float), rows["n"].to_numpy(dtype=float), rows["times"].to_numpy()
        mean, firm = self._parameters(rows)
        a, b = mean * firm, (1 - mean) * firm
        if self.own:
            return float(times @ (gammaln(a + k) - gammaln(a) - a * np.log1p(1 / firm) - k * np.log1p(firm)))
        return float(times @ (betaln(k + a, n - k + b) - betaln(a, b)))

    def _parameters(self, rows: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
        """Return the mean of what values like it and its own past say, and how firmly."""
        weight = rows["used_before" if self.own else "n_before"].to_numpy(dtype=float)
        mean = self.prior * rows["alike"].to_numpy() + rows["k_before"].to_numpy(dtype=float)
        most = np.inf if self.own else 1 - _LEAST_MEAN
        return np.clip(mean / (self.prior + weight), _LEAST_MEAN, most), np.minimum(self.prior + weight, self.firm)


def _beta_binomial_tail(k: float, n: float, a: float, b: float) -> float:
    """Return the chance of k or more of n; summed in logarithms, as 1 - cdf loses the small ones.

    >>> round(_beta_binomial_tail(2.0, 2.0, 1.0, 1.0), 6), _beta_binomial_tail(0.0, 5.0, 1.0, 9.0)
    (0.333333, 1.0)
    """
    if k <= 0:
        return 1.0
    j = np.arange(k, n + 1)
    terms = gammaln(n + 1) - gammaln(j + 1) - gammaln(n - j + 1) + betaln(j + a, n - j + b) - betaln(a, b)
    return float(min(np.exp(logsumexp(terms)), 1.0))


def _weighted(p: np.ndarray, link: pd.Series, tested: Mapping[str, int]) -> np.ndarray:
    """Return q: p corrected for all values looked at, each link with an equal share of the errors.

    p / weight, with weights of mean 1 over all values looked at; the p of those that are not here counts as 1.

    >>> _weighted(np.array([0.001, 0.001]), pd.Series(["device", "merchant"]), {"device": 10, "merchant": 90}).tolist()
    [0.02, 0.09]
    """
    if not len(p):
        return p
    looked, of = sum(tested.values()), sum(count > 0 for count in tested.values())
    weight = looked / (of * link.map(dict(tested)).to_numpy(dtype=float))
    others = np.ones(looked - len(p))
    return adjusted(np.append(np.minimum(p / weight, 1.0), others), "bh")[: len(p)]


# -- candidates ------------------------------------------------------------------------------------------------------


def _grouped(
    hits: pd.DataFrame,
    sets: list[np.ndarray],
    rows: np.ndarray,
    payments: pd.DataFrame,
    score: np.ndarray,
    before: np.ndarray,
    flagged: np.ndarray,
    tested: dict[str, int],
    threshold: float,
    links: Mapping[str, tuple[str, ...]],
) -> Patterns:
    """Join surprising values that are about the same payments, the most surprising first, and describe each group."""
    table, shared, members = [], [], []
    for number, group in enumerate(_same(sets), start=1):
        own = rows[np.unique(np.concatenate([sets[hit] for hit in group]))]
        mine, lead = payments.iloc[own], hits.iloc[group[0]]
        typical = float(np.median(score[own]))
        table.append(
            {
                "pattern": number,
                "shares": ", ".join(dict.fromkeys(hits["link"].iloc[group])),
                "payments": len(own),
                "customers": mine["customer_id"].nunique(),
                "first": mine["event_time"].min(),
                "last": mine["event_time"].max(),
                "amount": round(float(mine["amount"].sum()), 2),
                "unusual": (len(before) - int(np.searchsorted(before, typical, side="left")) + 1) / (len(before) + 1),
                "alerted": float(flagged[own].sum()),
                "observed": int(lead["k"]),
                "of": int(lead["n"]),
                **{name: float(lead[name]) for name in ("expected", "p", "q")},
            }
        )
        for hit in group:
            found = hits.iloc[hit]
            counts = {"payments": len(sets[hit]), "customers": int(found["k"]), "of": int(found["n"])}
            one = payments.iloc[[rows[sets[hit][0]]]]
            value = tuple(_rounded(one[name], name).iloc[0] for name in links[found["link"]])
            named = {"pattern": number, "link": found["link"], "value": value}
            shared.append(named | counts | {name: float(found[name]) for name in ("expected", "p", "q")})
        members.append(pd.DataFrame({"pattern": number, "row": own}))
    return Patterns(
        pd.DataFrame(table, columns=list(COLUMNS)),
        pd.DataFrame(shared, columns=list(SHARED)),
        pd.concat(members, ignore_index=True) if members else pd.DataFrame({"pattern": [], "row": []}, dtype=np.int64),
        tested,
        threshold,
    )


def _same(sets: list[np.ndarray]) -> list[list[int]]:
    """Return groups of sets that hang together by sharing half of the smaller one, each and all in the sets' order.

    >>> _same([np.array([1, 2, 3, 4]), np.array([7, 8]), np.array([3, 4, 9])])
    [[0, 2], [1]]
    """
    if not sets:
        return []
    of = np.repeat(np.arange(len(sets)), [len(each) for each in sets])
    member = np.concatenate(sets)
    holds = coo_array((np.ones(len(of)), (of, member)), shape=(len(sets), int(member.max()) + 1)).tocsr()
    both = (holds @ holds.T).tocoo()
    size = np.array([len(each) for each in sets])
    close = both.data >= SAME * np.minimum(size[both.row], size[both.col])
    joined = coo_array((both.data[close], (both.row[close], both.col[close])), shape=both.shape)
    group = connected_components(joined, directed=False)[1]
    return [np.flatnonzero(group == each).tolist() for each in dict.fromkeys(group.tolist())]
