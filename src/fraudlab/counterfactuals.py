"""Say what would have kept a payment from being an alert: the smallest plausible change of what it could have been.

What can change are inputs of the payment itself: its amount, its hour, the merchant, the place, the device, the network
address, how the customer was authenticated. What cannot are the customer, the card, all that happened before and all
that was known of it. Inputs change, features follow: every changed payment's features are computed anew by the run's
own feature set over the same history, so that a smaller amount is also a smaller multiple of the usual one. Offered are
values that occur: amounts within the middle 98 % of the genuine payments that the model learnt from, and devices,
merchants, places, addresses and authentications that this customer used before.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from fraudlab.features import FeatureSet
from fraudlab.features.specs import LinkSpec
from fraudlab.schema import InputError, did_you_mean

INPUTS: dict[str, tuple[str, ...]] = {
    "amount": ("amount",),
    "time": ("event_time",),
    "authentication": ("auth_method", "auth_result"),
    "device": ("device_id",),
    "network": ("ip",),
    "place": ("country", "latitude", "longitude"),
    "merchant": ("merchant_id", "merchant_category", "country", "latitude", "longitude"),
}
"""What of a payment could have been otherwise, and the columns that go with it. All other columns are frozen."""

FRAGMENTS: dict[str, str] = {
    "amount": "an amount of {after} instead of {before}",
    "time": "{after} later",
    "authentication": "an authentication by {after} that passed",
    "device": "a device this customer used before",
    "network": "a network address this customer used before",
    "place": "the place this customer mostly pays from",
    "merchant": "a merchant this customer paid before",
}
"""How a change of each input reads; `{before}` and `{after}` are filled where it has them."""

NONE_WOULD = "No plausible change of up to {most} inputs of this payment alone would have kept it below the threshold"
BELOW = "The score is below the threshold as it is"
LEVELS = (1, *range(5, 100, 5), 99)
"""The percentiles of the genuine amounts that are offered."""

HOURS = (1, 2, 3, 4, 6, 8, 12, 18, 24)
"""How many hours later a payment may come."""

STEPS = 6
"""Halvings between a found amount and the payment's own, in search of a smaller change."""


@dataclass(frozen=True, eq=False)
class Option:
    """One value that an input could have had.

    Attributes
    ----------
    input : a key of `INPUTS`.
    values : column -> what it would hold.
    distance : how far it is from what it was, 0..1: for amounts the share of the genuine payments that lie between; for
        hours their part of a day; for the others the share of the customer's earlier payments that had another value.
    before, after : what it was and would be, in words; "" where an identifier would have to be told.
    """

    input: str
    values: Mapping[str, Any]
    distance: float
    before: str = ""
    after: str = ""


@dataclass(frozen=True, eq=False)
class Change:
    """What would have sufficed: the options taken together, and the score they lead to."""

    options: tuple[Option, ...]
    score: float

    @property
    def distance(self) -> float:
        """The sum over the options."""
        return sum(option.distance for option in self.options)

    def facts(self) -> dict[str, Any]:
        """Return the change as plain values, ready for JSON: score, distance, and per input before and after."""
        parts = [{"input": each.input, "before": each.before, "after": each.after} for each in self.options]
        return {"inputs": parts, "score": round(self.score, 6), "distance": round(self.distance, 4)}


# -- what could have been ---------------------------------------------------------------------------------------------


def offered(
    payment: Mapping[str, Any],
    past: pd.DataFrame,
    genuine_amounts: Any,
    *,
    reads: Iterable[str],
    frozen: Sequence[str] = (),
    monotone: Mapping[str, int] | None = None,
) -> list[Option]:
    """Return the values that a payment's inputs could plausibly have had.

    Parameters
    ----------
    payment : its canonical columns.
    past : the same customer's earlier payments, in order; may be empty.
    genuine_amounts : amounts of the genuine payments that the model learnt from, in the payment's currency.
    reads : the columns that the model's features read; an input none of whose columns is read is not offered.
    frozen : inputs that must not change, keys of `INPUTS`.
    monotone : feature -> 1 or -1 as in `[model] monotone`: where the score may only rise with the amount, a larger one
        is not offered, and the other way round.

    Returns
    -------
    Options, by input. A value of the customer's past is offered only where they used it more often than the present
    one, and never one they had not used; amounts keep their cents, and stay round or not round as they were.

    Raises
    ------
    InputError : an unknown input in `frozen`.

    >>> past = pd.DataFrame({"amount": [10.0] * 4, "device_id": ["d1", "d1", "d1", "d2"]})
    >>> given = {"amount": 90.0, "device_id": "d9", "event_time": pd.Timestamp("2026-01-01", tz="UTC")}
    >>> found = offered(given, past, [10.0, 20.0, 30.0], reads=["amount", "device_id"], frozen=["time"])
    >>> [(each.input, each.after, round(each.distance, 2)) for each in found][-3:]
    [('amount', '20', 0.5), ('device', '', 0.25), ('device', '', 0.75)]
    """
    if unknown := [name for name in frozen if name not in INPUTS]:
        raise InputError(f"frozen: no input of a payment is named '{unknown[0]}'; {did_you_mean(unknown[0], INPUTS)}")
    read = set(reads) | {"event_time"}
    free = [name for name, columns in INPUTS.items() if name not in frozen and read.intersection(columns)]
    made: list[Option] = []
    if "amount" in free and payment.get("amount") == payment.get("amount"):
        made += _amounts(float(payment["amount"]), genuine_amounts, (monotone or {}).get("amount", 0))
    if "time" in free:
        made += [
            Option(
                "time",
                {"event_time": payment["event_time"] + pd.Timedelta(hours=hours)},
                hours / 24,
                after=f"{hours} hour{'s' if hours > 1 else ''}",
            )
            for hours in HOURS
        ]
    for name in free:
        if name not in ("amount", "time"):
            made += _used_before(name, payment, past)
    return made


def _amounts(amount: float, genuine: Any, direction: int) -> list[Option]:
    known = np.sort(np.asarray(genuine, dtype="float64"))
    if not len(known):
        return []
    cents = round(amount - np.floor(amount), 2)
    round_step = 10 if amount > 0 and amount % 10 == 0 else 1
    wanted = np.floor(np.percentile(known, LEVELS) / round_step) * round_step + cents
    if round_step == 1 and not cents:  # neither should it become round
        wanted = np.where(wanted % 10 == 0, wanted + 1, wanted)
    return [
        _amount(amount, float(new), known)
        for new in np.unique(np.round(wanted, 2))
        if new > 0 and new != amount and (new < amount or direction != 1) and (new > amount or direction != -1)
    ]


def _amount(before: float, after: float, known: np.ndarray) -> Option:
    ranks = [np.searchsorted(known, value, side) for value in (before, after) for side in ("left", "right")]
    distance = abs(ranks[2] + ranks[3] - ranks[0] - ranks[1]) / (2 * len(known))
    # Never quite free, or a payment far beyond all genuine ones could move for nothing.
    distance = max(distance, 1 / (len(known) + 1))
    return Option("amount", {"amount": after}, float(distance), f"{before:,.0f}", f"{after:,.0f}")


def _used_before(name: str, payment: Mapping[str, Any], past: pd.DataFrame) -> list[Option]:
    columns = [column for column in INPUTS[name] if column in payment and column in past]
    key = columns if name in ("place", "authentication") else columns[:1]
    if INPUTS[name][0] not in columns or not len(past) or any(_missing(payment[column]) for column in key):
        return []
    rows = past.dropna(subset=key)
    if name == "merchant" and "channel" in rows and "channel" in payment:
        rows = rows[(rows["channel"] == payment["channel"]).to_numpy()]
    if not len(rows):
        return []
    total, own = len(rows), [payment[column] for column in key]
    counts = rows.groupby(key, sort=False).size()  # ties: the one met first, whatever the ids are
    here = int((rows[key] == own).all(axis=1).sum())
    if name == "authentication" and "auth_result" in key:
        counts = counts[counts.index.get_level_values("auth_result") == "passed"]
        here = here if payment["auth_result"] == "passed" else 0
    most = counts.sort_values(ascending=False, kind="stable").head(1 if name == "place" else 3)
    made = []
    for value, count in most.items():
        given = list(value) if isinstance(value, tuple) else [value]
        if count <= here or given == own:
            continue
        last = rows[(rows[key] == given).all(axis=1)].iloc[-1]
        after = str(last["auth_method"]) if name == "authentication" else ""
        made.append(Option(name, {column: last[column] for column in columns}, 1 - count / total, after=after))
    return made


def _missing(value: Any) -> bool:
    return value is None or value is pd.NA or value != value


# -- the features of what could have been -----------------------------------------------------------------------------


def recomputed(
    feature_set: FeatureSet,
    before: pd.DataFrame,
    payment: Mapping[str, Any],
    options: Sequence[Option],
    *,
    categories: Sequence[str] = (),
) -> Callable[[Sequence[Mapping[str, Any]]], pd.DataFrame]:
    """Return a function that gives the features of changed payments, each as if it had come in place of the real one.

    Parameters
    ----------
    feature_set : what the model reads.
    before : all transactions before the payment, in the total order, with their labels.
    payment : the real one.
    options : what may change; the history of every value offered is kept, the rest is left out.
    categories : columns of the payment that enter as they are.

    Returns
    -------
    A function from payments to a frame: the set's columns, then the categories. Its numbers are to the bit what
    `FeatureSet.compute` gives for a table that ends with the changed payment; a payment moved to a later hour has the
    history of the real one, so that what others did meanwhile does not count.
    """
    values: dict[str, set[Any]] = {column: {value} for column, value in payment.items() if not _missing(value)}
    for option in options:
        for column, value in option.values.items():
            if not _missing(value):
                values.setdefault(column, set()).add(value)
    state = feature_set.online(_relevant(feature_set, before, values))

    def features_of(payments: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
        frame = pd.DataFrame([state.score(each) for each in payments], columns=list(feature_set.columns))
        return frame.assign(**{name: [each[name] for each in payments] for name in categories})

    return features_of


def _relevant(feature_set: FeatureSet, before: pd.DataFrame, values: Mapping[str, set[Any]]) -> pd.DataFrame:
    """Return the rows of a history that the features of a payment with some of these values can depend on."""
    keep = np.zeros(len(before), dtype=bool)

    def sharing(names: Sequence[str], of: Mapping[str, set[Any]]) -> np.ndarray:
        rows = np.ones(len(before), dtype=bool)
        for name in names:
            rows &= before[name].isin(list(of.get(name, ()))).to_numpy()
        return rows

    entities = {tuple(spec.by) for spec in feature_set.specs if hasattr(spec, "by")}
    for names in sorted(entities):
        keep |= sharing(names, values)
    graphs = {spec.value_and_through for spec in feature_set.specs if isinstance(spec, LinkSpec)}
    for value, through in sorted(graphs):  # whoever hangs together, however many steps away
        reached, size = {name: set(values.get(name, ())) for name in (value, *through)}, -1
        while size < sum(map(len, reached.values())):
            size = sum(map(len, reached.values()))
            rows = np.zeros(len(before), dtype=bool)
            for name in reached:
                rows |= sharing([name], reached)
            for name in reached:
                reached[name] |= set(before[name].to_numpy()[rows & before[name].notna().to_numpy()])
        keep |= rows
    for _, spec in feature_set.derived:  # what a kept row's derived columns look back on
        names = tuple(getattr(spec, "by", ()))
        if names:
            keep |= sharing(
                names, {name: set(before.loc[keep, name].dropna()) | values.get(name, set()) for name in names}
            )
    return before[keep].reset_index(drop=True)


# -- the search -------------------------------------------------------------------------------------------------------


def smallest_changes(
    payment: Mapping[str, Any],
    options: Sequence[Option],
    score_of: Callable[[Sequence[Mapping[str, Any]]], np.ndarray],
    threshold: float,
    *,
    genuine_amounts: Any = (),
    most: int = 3,
    keep: int = 3,
) -> list[Change]:
    """Find the smallest changes that bring a payment's score below a threshold; each was scored, none is guessed.

    Parameters
    ----------
    payment : its canonical columns.
    options : from `offered`.
    score_of : payments -> their scores, shape (n,); from `recomputed` and a model.
    threshold : scores from here on are alerts.
    genuine_amounts : as in `offered`; with them a found amount moves as near to the payment's own as suffices.
    most : how many inputs may change together.
    keep : how many different sets of inputs to return.

    Returns
    -------
    Changes of the fewest inputs that suffice, the smallest distance first, the best of each set of inputs; empty where
    nothing offered suffices, or the payment is below the threshold as it is.

    Notes
    -----
    All combinations of up to `most` inputs are scored, so that over the values offered the answer is the smallest.
    Combinations of inputs that share a column, such as place and merchant, are left out. After Wachter, Mittelstadt and
    Russell (2018), arXiv:1711.00399: fewest changes first as in their sparse distance, in units of the data's own
    quantiles.

    >>> choices = [Option("amount", {"amount": value}, (90 - value) / 90) for value in (10.0, 30.0, 60.0)]
    >>> def score_of(rows):
    ...     return np.array([row["amount"] / 100 for row in rows])
    >>> found = smallest_changes({"amount": 90.0}, choices, score_of, 0.5)
    >>> [(change.options[0].values["amount"], change.score) for change in found]
    [(30.0, 0.3)]
    """
    if float(score_of([payment])[0]) < threshold:
        return []
    by_input: dict[str, list[Option]] = {}
    for option in options:
        by_input.setdefault(option.input, []).append(option)
    for size in range(1, most + 1):
        found: list[Change] = []
        for names in itertools.combinations(by_input, size):
            columns = [column for name in names for column in INPUTS[name]]
            if len(set(columns)) < len(columns):
                continue
            tried = list(itertools.product(*(by_input[name] for name in names)))
            scores = np.asarray(score_of([_changed(payment, each) for each in tried]), dtype="float64")
            enough = [Change(each, float(score)) for each, score in zip(tried, scores) if score < threshold]
            if enough:
                best = min(enough, key=lambda change: change.distance)
                found.append(_nearer(payment, best, score_of, threshold, genuine_amounts))
        if found:
            return sorted(found, key=lambda change: change.distance)[:keep]
    return []


def _changed(payment: Mapping[str, Any], options: Sequence[Option]) -> dict[str, Any]:
    changed = dict(payment)
    for option in options:
        changed |= option.values
    return changed


def _nearer(
    payment: Mapping[str, Any],
    change: Change,
    score_of: Callable[[Sequence[Mapping[str, Any]]], np.ndarray],
    threshold: float,
    genuine_amounts: Any,
) -> Change:
    """Move a changed amount towards the payment's own by halves, as long as the score stays below the threshold."""
    place = next((k for k, option in enumerate(change.options) if option.input == "amount"), None)
    known = np.sort(np.asarray(genuine_amounts, dtype="float64"))
    if place is None or not len(known):
        return change
    before, reached = float(payment["amount"]), float(change.options[place].values["amount"])
    step = 10 if before % 10 == 0 and before else 1
    too_near = before
    for _ in range(STEPS):
        half = reached + round((too_near - reached) / 2 / step) * step
        if half in (reached, too_near) or (step == 1 and half % 10 == 0 and before % 10 != 0):
            break
        tried = list(change.options)
        tried[place] = _amount(before, round(half, 2), known)
        score = float(score_of([_changed(payment, tried)])[0])
        if score < threshold:
            change, reached = Change(tuple(tried), score), half
        else:
            too_near = half
    return change


# -- in words ---------------------------------------------------------------------------------------------------------


def sentences(changes: Sequence[Change], *, most: int = 3, below: bool = False) -> list[str]:
    """Say each change in a sentence, or in one that nothing would have sufficed.

    Parameters
    ----------
    changes : from `smallest_changes`.
    most : how many inputs were tried together.
    below : the payment was below the threshold as it is.

    >>> option = Option("amount", {"amount": 30.0}, 0.2, "90", "30")
    >>> sentences([Change((option,), 0.1), Change((option, Option("device", {"device_id": "d"}, 0.1)), 0.1)])
    ['An amount of 30 instead of 90', 'An amount of 30 instead of 90 and a device this customer used before']
    >>> sentences([])
    ['No plausible change of up to 3 inputs of this payment alone would have kept it below the threshold']
    """
    if below:
        return [BELOW]
    if not changes:
        return [NONE_WOULD.format(most=most)]
    said = []
    for change in changes:
        text = " and ".join(
            FRAGMENTS[each.input].format(before=each.before, after=each.after) for each in change.options
        )
        said.append(f"{text[:1].upper()}{text[1:]}")
    return said
