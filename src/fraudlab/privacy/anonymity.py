"""How anonymous a table is, which of its columns single people out, and which cells of a table must not be shown.

Pure functions of frames. None of the results holds a value of a row: only names of columns and counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from fraudlab.schema import InputError, require_columns

SIZE_STEPS = (1, 2, 3, 5, 10, 20, 50, 100, 1_000, 10_000)
"""Where the bins of the table of class sizes begin; the threshold is added to them."""

_WIDEST = 2**62


@dataclass(frozen=True)
class Risk:
    """How far a table singles out its units (customers or rows) by some columns.

    A class holds the units that nothing in these columns tells apart.

    Fields: unit (the column that names a customer; None: each row stands alone), columns, threshold (the k asked for),
    rows, units, classes, k_anonymity (units in the smallest class), alone (units in a class of one), units_below
    (units in classes below the threshold: those whose risk exceeds 1/threshold), sizes (DataFrame: smallest, largest,
    classes, units; a row per bin of class sizes that occurs), sensitive (DataFrame: column, distance, distinct_l,
    entropy_l, t_closeness, units_alike; a row per sensitive column, units_alike being units in classes where all share
    one value).
    """

    unit: str | None
    columns: tuple[str, ...]
    threshold: int
    rows: int
    units: int
    classes: int
    k_anonymity: int
    alone: int
    units_below: int
    sizes: pd.DataFrame
    sensitive: pd.DataFrame

    @property
    def share_below(self) -> float:
        """Share of units in classes below the threshold."""
        return self.units_below / self.units

    @property
    def highest_risk(self) -> float:
        """Highest chance to pick the right unit, for one who knows that it is in the table: 1 / smallest class."""
        return 1 / self.k_anonymity

    @property
    def average_risk(self) -> float:
        """The same chance, averaged over the units: classes / units."""
        return self.classes / self.units

    def facts(self) -> dict[str, Any]:
        """Return everything as a dict, ready for JSON."""
        told = {name: getattr(self, name) for name in self.__dataclass_fields__}
        tables = {name: told[name].to_dict("records") for name in ("sizes", "sensitive")}
        shares = {name: getattr(self, name) for name in ("share_below", "highest_risk", "average_risk")}
        return told | shares | tables | {"columns": list(self.columns)}


def risk_table(
    frame: pd.DataFrame,
    quasi_identifiers: Sequence[str],
    *,
    sensitive: str | Sequence[str] | None = None,
    unit: str | None = "customer_id",
    k: int = 10,
) -> Risk:
    """Measure how far some columns single out the customers, or the rows, of a table.

    Parameters
    ----------
    frame : a row per transaction.
    quasi_identifiers : columns that somebody outside may know about a person. A missing value is a value of its own:
        that something is not known tells people apart too.
    sensitive : columns that shall not be learnt from the others.
    unit : the column that names the customer. The profile of a customer is the set of combinations of all their rows,
        as one who knows a person may know any of them. None: each row stands alone.
    k : classes with fewer units count as small.

    Returns
    -------
    `Risk`, with counts and column names only: a class of one person, listed with its values, would disclose them.

    Raises
    ------
    InputError : an empty table, a missing column, no quasi-identifier or one twice, the unit among them, a customer
        without a name, a k below 2.

    Notes
    -----
    The sensitive value of a customer is the highest known one of numbers and booleans (one fraud makes a fraud
    customer), the set of values of texts; missing is a value of its own, the last in the order.

    distinct_l is the smallest number of sensitive values in a class, entropy_l the smallest exp(entropy), so that the
    table is entropy l-diverse for every l up to it. t_closeness is the largest distance of a class from the whole
    table: the earth mover's, with equal distances for texts and booleans (total variation), with the ordered distance
    |i - j| / (m - 1) between the m values for numbers.

    These figures hold for these columns alone. Amounts and times single nearly everybody out, so that pseudonymous
    transactions stay personal data, whatever is found here.

    References
    ----------
    Sweeney, k-anonymity, IJUFKS 10(5), 2002; Machanavajjhala et al., l-diversity, ACM TKDD 1(1), 2007; Li, Li and
    Venkatasubramanian, t-closeness, ICDE 2007; El Emam and Dankar, Protecting privacy using k-anonymity, JAMIA 15(5),
    2008 (the prosecutor's risk).

    >>> frame = pd.DataFrame({"customer_id": [1, 1, 2, 2, 3], "country": ["DE", "FR", "FR", "DE", "DE"]})
    >>> rows, people = risk_table(frame, ["country"], unit=None), risk_table(frame, ["country"])
    >>> rows.k_anonymity, people.k_anonymity, people.alone, people.classes
    (2, 1, 1, 2)
    """
    wanted = [sensitive] if isinstance(sensitive, str) else list(sensitive or ())
    units = _checked_units(frame, quasi_identifiers, unit, k, also=wanted)
    classes = _classes([_codes(frame[name]) for name in quasi_identifiers], units, len(frame))
    sizes = np.bincount(classes)
    rows = [(name, *_diversity(classes, *_unit_values(frame[name], units))) for name in wanted]
    table = pd.DataFrame(
        rows, columns=["column", "distance", "distinct_l", "entropy_l", "t_closeness", "units_alike"]
    ).astype({"column": "str", "distance": "str"})
    return Risk(
        unit=unit,
        columns=tuple(quasi_identifiers),
        threshold=k,
        rows=len(frame),
        units=len(classes),
        classes=len(sizes),
        **_smallness(sizes, k),
        sizes=_size_table(sizes, k),
        sensitive=table,
    )


def remedy_table(
    frame: pd.DataFrame, quasi_identifiers: Sequence[str], *, unit: str | None = "customer_id", k: int = 10
) -> pd.DataFrame:
    """Table what one change of one column would do for the anonymity, the most helpful first.

    Each column is tried without ("drop it") and coarser. Numbers, and texts that all begin with a digit (age bands,
    postcodes), are coarsened by "merge neighbours in pairs"; other texts by "merge rare values" (those that fewer than
    k units hold) into one.

    Parameters and errors are those of `risk_table`.

    Returns
    -------
    DataFrame: column, remedy, k_anonymity, alone, units_below, share_below.

    >>> frame = pd.DataFrame({"customer_id": range(6), "age": [20, 21, 20, 21, 20, 21], "country": ["DE"] * 5 + ["FR"]})
    >>> remedy_table(frame, ["age", "country"], k=3)[["column", "remedy", "units_below"]].head(2)
        column                     remedy  units_below
    0  country                    drop it            0
    1      age                    drop it            1
    """
    units = _checked_units(frame, quasi_identifiers, unit, k)
    columns = {name: _codes(frame[name]) for name in quasi_identifiers}
    coarser = {name: _coarser(frame[name], units, k) for name in quasi_identifiers}
    columns, coarser, units = _without_repeats(columns, coarser, units)
    rows = []
    for name in columns:
        others = [codes for other, codes in columns.items() if other != name]
        for remedy, changed in (("drop it", others), (coarser[name][0], [*others, coarser[name][1]])):
            rows.append({"column": name, "remedy": remedy} | _outcome(changed, units, len(columns[name]), k))
    table = pd.DataFrame(rows).astype({"column": "str", "remedy": "str"})
    return table.sort_values(["units_below", "alone"], kind="stable", ignore_index=True)


def drop_order(
    frame: pd.DataFrame, quasi_identifiers: Sequence[str], *, unit: str | None = "customer_id", k: int = 10
) -> pd.DataFrame:
    """Drop columns one after the other, each time the one whose loss helps most, until no class is below k.

    Parameters and errors are those of `risk_table`.

    Returns
    -------
    DataFrame: dropped, k_anonymity, alone, units_below, share_below; a row per step, cumulative. Empty where no class
    is below k to begin with; the last column left is never dropped.

    >>> frame = pd.DataFrame({"customer_id": range(4), "a": [1, 2, 3, 4], "b": [1, 2, 3, 4], "c": [1, 1, 2, 2]})
    >>> drop_order(frame, ["a", "b", "c"], k=2)[["dropped", "alone", "units_below"]]
      dropped  alone  units_below
    0       a      4            4
    1       b      0            0
    """
    units = _checked_units(frame, quasi_identifiers, unit, k)
    columns, _, units = _without_repeats({name: _codes(frame[name]) for name in quasi_identifiers}, {}, units)
    length = len(columns[quasi_identifiers[0]])
    rows: list[dict[str, Any]] = []
    below = _outcome(list(columns.values()), units, length, k)["units_below"]
    while below and len(columns) > 1:
        tried = []
        for name in columns:
            others = [codes for other, codes in columns.items() if other != name]
            tried.append({"dropped": name} | _outcome(others, units, length, k))
        best = min(tried, key=lambda row: (row["units_below"], row["alone"]))
        rows.append(best)
        below = best["units_below"]
        del columns[best["dropped"]]
    return pd.DataFrame(rows, columns=["dropped", "k_anonymity", "alone", "units_below", "share_below"])


def _checked_units(
    frame: pd.DataFrame, names: Sequence[str], unit: str | None, k: int, also: Sequence[str] = ()
) -> np.ndarray | None:
    """Refuse what cannot be measured; return the number of each row's unit, 0 .. units-1, None for single rows."""
    if isinstance(names, str) or not names:
        raise InputError("quasi_identifiers: must be a list of at least one column; found none; name what may be known")
    require_columns(frame, [*names, *also, *([unit] if unit else [])], where="risk")
    if len(set(names)) < len(names) or unit in names:
        raise InputError(
            f"quasi_identifiers: must be different columns without the unit; found {', '.join(names)}; name each once"
        )
    if k < 2:
        raise InputError(f"k: must be at least 2; found {k}; 10 is usual")
    if frame.empty:
        raise InputError("risk: the table has no rows; check the data set and its purpose")
    if unit is None:
        return None
    units, _ = pd.factorize(frame[unit])
    if missing := int((units < 0).sum()):
        raise InputError(f"risk: column '{unit}' must not be empty; found {missing:,} empty rows; drop these rows")
    return units


def _codes(values: pd.Series) -> np.ndarray:
    """Return whole numbers, equal for equal values; missing is 0."""
    return pd.factorize(values)[0] + 1


def _joined(columns: Sequence[np.ndarray], length: int) -> np.ndarray:
    """Return one number 0 .. n-1 per row, equal where all columns are equal."""
    key, span = np.zeros(length, dtype=np.int64), 1
    for codes in columns:
        width = int(codes.max()) + 1
        if span > _WIDEST // width:
            key = pd.factorize(key)[0]
            span = int(key.max()) + 1
        key = key * width + codes
        span *= width
    return pd.factorize(key)[0]


def _classes(columns: Sequence[np.ndarray], units: np.ndarray | None, length: int) -> np.ndarray:
    """Return the class 0 .. n-1 of each unit."""
    combinations = _joined(columns, length)
    return combinations if units is None else _equal_sets(units, combinations)


def _equal_sets(units: np.ndarray, members: np.ndarray) -> np.ndarray:
    """Return one number 0 .. n-1 per unit, equal where two units have the same set of members.

    Exact, without hashing: the ordered sets are told apart by their size, then member by member, and only as long as
    another unit agrees with all members so far.
    """
    span = int(members.max()) + 1
    owner, member = np.divmod(_distinct(units * np.int64(span) + members)[0], span)
    starts = np.flatnonzero(np.r_[True, owner[1:] != owner[:-1]])
    sizes = np.diff(np.r_[starts, len(owner)])
    found = np.empty(len(starts), dtype=np.int64)
    open_, group, given, position = np.arange(len(starts)), pd.factorize(sizes)[0], 0, 0
    while len(open_):
        crowd = np.bincount(group)
        done = (crowd[group] == 1) | (sizes[open_] == position)
        found[open_[done]] = given + group[done]
        given += len(crowd)
        open_, group = open_[~done], group[~done]
        group = pd.factorize(group * span + member[starts[open_] + position])[0]
        position += 1
    return pd.factorize(found)[0]


def _distinct(keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the different keys in order and how often each occurs; np.unique takes ten times as long for it."""
    ordered = np.sort(keys)
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    return ordered[starts], np.diff(np.r_[starts, len(ordered)])


def _smallness(sizes: np.ndarray, k: int) -> dict[str, int]:
    return {
        "k_anonymity": int(sizes.min()),
        "alone": int((sizes == 1).sum()),
        "units_below": int(sizes[sizes < k].sum()),
    }


def _outcome(columns: Sequence[np.ndarray], units: np.ndarray | None, length: int, k: int) -> dict[str, float]:
    sizes = np.bincount(_classes(columns, units, length))
    small = _smallness(sizes, k)
    return small | {"share_below": small["units_below"] / int(sizes.sum())}


def _size_table(sizes: np.ndarray, k: int) -> pd.DataFrame:
    starts = np.array(sorted({*SIZE_STEPS, k}))
    place = np.searchsorted(starts, sizes, side="right") - 1
    ends = np.r_[starts[1:] - 1, max(int(sizes.max()), starts[-1])]
    table = pd.DataFrame(
        {
            "smallest": starts,
            "largest": ends,
            "classes": np.bincount(place, minlength=len(starts)),
            "units": np.bincount(place, weights=sizes, minlength=len(starts)).astype(np.int64),
        }
    )
    return table[table["classes"] > 0].reset_index(drop=True)


def _without_repeats(
    columns: dict[str, np.ndarray], coarser: dict[str, tuple[str, np.ndarray]], units: np.ndarray | None
) -> tuple[dict[str, np.ndarray], dict[str, tuple[str, np.ndarray]], np.ndarray | None]:
    """Keep one of a customer's rows that are equal in all columns: the sets stay the same, the work shrinks."""
    if units is None:
        return columns, coarser, None
    first = ~pd.Series(_joined([units, *columns.values()], len(units))).duplicated().to_numpy()
    kept = {name: codes[first] for name, codes in columns.items()}
    return kept, {name: (said, codes[first]) for name, (said, codes) in coarser.items()}, units[first]


def _coarser(values: pd.Series, units: np.ndarray | None, k: int) -> tuple[str, np.ndarray]:
    """Return what makes a column coarser, in words, and its coarser codes; missing stays a value of its own."""
    places, different = pd.factorize(values)
    numeric = pd.api.types.is_numeric_dtype(values.dtype) and not pd.api.types.is_bool_dtype(values.dtype)
    if numeric:
        order = np.argsort(np.asarray(different, dtype=float))
    else:
        said = pd.Series(different, dtype="object").astype("str")
        leading = said.str.extract(r"^(\d+)", expand=False).astype(float)
        if leading.isna().any():
            return "merge rare values", _rare_merged(places, units, k)
        order = np.lexsort((said, leading))
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(len(order)) // 2
    return "merge neighbours in pairs", np.where(places < 0, 0, rank[places] + 1 if len(rank) else 0)


def _rare_merged(places: np.ndarray, units: np.ndarray | None, k: int) -> np.ndarray:
    """Give values that fewer than k units hold one common code."""
    width = int(places.max()) + 2
    held = places + 1 if units is None else _distinct(units * np.int64(width) + places + 1)[0] % width
    holders = np.bincount(held, minlength=width)[1:]
    common = len(holders) + 1
    return np.where(places < 0, 0, np.where(holders[places] < k, common, places + 1))


def _unit_values(values: pd.Series, units: np.ndarray | None) -> tuple[np.ndarray, bool]:
    """Return the sensitive value of each unit as a code 0 .. m-1, and whether the codes are in the values' order."""
    boolean = pd.api.types.is_bool_dtype(values.dtype)
    if not boolean and not pd.api.types.is_numeric_dtype(values.dtype):
        codes = _codes(values)
        return pd.factorize(codes)[0] if units is None else _equal_sets(units, codes), False
    places, different = pd.factorize(values, sort=True)
    if units is not None:
        highest = np.full(int(units.max()) + 1, -1)
        np.maximum.at(highest, units, places)
        places = highest
    places = np.where(places < 0, len(different), places)
    held = np.bincount(places) > 0
    return (np.cumsum(held) - 1)[places], not boolean


def _diversity(classes: np.ndarray, values: np.ndarray, ordered: bool) -> tuple[str, int, float, float, int]:
    """Return distance, distinct l, entropy l, t and the units of classes that share one value."""
    width = int(values.max()) + 1
    cells, counts = _distinct(classes * np.int64(width) + values)
    owner, value = np.divmod(cells, width)
    sizes = np.bincount(classes)
    share = counts / sizes[owner]
    overall = np.bincount(values) / len(values)
    distinct = np.bincount(owner)
    entropy = np.bincount(owner, weights=-share * np.log(share))
    if ordered:
        reached = np.cumsum(counts)
        starts = np.cumsum(distinct) - distinct
        before = (reached[starts] - counts[starts])[owner]
        distance = _ordered_distance(owner, value, (reached - before) / sizes[owner], starts, overall)
    else:
        distance = np.bincount(owner, weights=np.maximum(share - overall[value], 0))
    return (
        "ordered" if ordered else "equal",
        int(distinct.min()),
        float(np.exp(entropy.min())),
        float(distance.max()),
        int(sizes[distinct == 1].sum()),
    )


def _ordered_distance(
    owner: np.ndarray, value: np.ndarray, level: np.ndarray, starts: np.ndarray, overall: np.ndarray
) -> np.ndarray:
    """Return per class the area between its distribution function and that of the whole table, over m - 1.

    A class's function is a step at each of its values, to `level`; the whole table's rises, so it crosses a step once.
    """
    m = len(overall)
    if m == 1:
        return np.zeros(len(starts))
    whole = np.cumsum(overall)
    area = np.r_[0.0, np.cumsum(whole)]
    last = np.r_[starts[1:] - 1, len(owner) - 1]
    end = np.r_[value[1:], m]
    end[last] = m
    crossing = np.clip(np.searchsorted(whole, level), value, end)
    above = level * (crossing - value) - (area[crossing] - area[value])
    below = (area[end] - area[crossing]) - level * (end - crossing)
    return (np.bincount(owner, weights=above + below) + area[value[starts]]) / (m - 1)


class _Line(NamedTuple):
    """Cells that add up to a total: their rows, and the row of the total where the table shows it."""

    cells: np.ndarray
    total: np.ndarray


def suppress_small_cells(
    table: pd.DataFrame,
    counts: Sequence[str],
    by: Sequence[str],
    k: int = 10,
    *,
    values: Sequence[str] | None = None,
    total: str = "all",
) -> pd.DataFrame:
    """Hide the counts below k of a table that leaves the house, and as many more as would give them away.

    Parameters
    ----------
    table : a row per cell.
    counts : columns of whole numbers >= 0.
    by : the columns that say which cell a row is; each combination once.
    k : counts from 1 to k - 1 are hidden.
    values : columns computed from the counts (rates, means, sums), hidden wherever a count of their row is; default:
        every other column of numbers.
    total : what `by` says in the row of a total. Totals that the table does not show count as known all the same,
        since another table may show them.

    Returns
    -------
    The table with hidden cells missing, same rows and order; counts as nullable integers. Nothing shown is changed,
    and totals are hidden only where they are small or nothing else can protect a cell.

    Raises
    ------
    InputError : a missing or repeated column or cell, counts that are missing, negative or broken, a k below 2.

    Notes
    -----
    In every line (the cells that differ in one column of `by` only) with a hidden cell, at least two are hidden, and
    those that add up to something known add up to at least k, where the line has as much: the next smallest go too,
    zeros last. Two dimensions can still pin a cell down through several lines, so linear programmes ask whether any
    hidden count could have another value >= 0 that fits all that is shown; where not, one more cell goes. A line of a
    single cell is its own total: show no total for it.

    The columns of `counts` are protected one by one: of columns that add up to another one (frauds and genuine
    payments to payments), show all but one at most.

    References
    ----------
    Cox, Suppression methodology and statistical disclosure control, JASA 75(370), 1980; Hundepool et al., Statistical
    Disclosure Control, Wiley 2012, chapter 4.

    >>> table = pd.DataFrame({"country": ["DE", "FR", "LU", "all"], "frauds": [40, 12, 3, 55], "rate": [0.1] * 4})
    >>> suppress_small_cells(table, ["frauds"], ["country"])
      country  frauds  rate
    0      DE      40   0.1
    1      FR    <NA>   NaN
    2      LU    <NA>   NaN
    3     all      55   0.1
    """
    numbers = _checked_counts(table, counts, by, k)
    lines = _lines(table, by, total)
    hidden = {name: _hidden(cells, lines, k) for name, cells in numbers.items()}
    shown = table.copy()
    for name, cells in numbers.items():
        shown[name] = pd.Series(cells, index=table.index, dtype="Int64").mask(hidden[name])
    if values is None:
        values = [name for name in table.select_dtypes("number").columns if name not in by and name not in counts]
    require_columns(table, values, where="suppress_small_cells")
    anywhere = np.logical_or.reduce(list(hidden.values()))
    for name in values:
        shown[name] = table[name].astype("float64").mask(anywhere)
    return shown


def _checked_counts(table: pd.DataFrame, counts: Sequence[str], by: Sequence[str], k: int) -> dict[str, np.ndarray]:
    require_columns(table, [*by, *counts], where="suppress_small_cells")
    if not by or not counts or len({*by, *counts}) < len(by) + len(counts):
        raise InputError(
            "suppress_small_cells: by and counts must name at least one column each and none twice; "
            f"found by {', '.join(by) or 'nothing'}, counts {', '.join(counts) or 'nothing'}; name each once"
        )
    if k < 2:
        raise InputError(f"k: must be at least 2; found {k}; 10 is usual")
    if repeated := int(table.duplicated(list(by)).sum()):
        raise InputError(
            f"suppress_small_cells: each combination of {', '.join(by)} must be one row; found {repeated:,} repeated; "
            "add them up first"
        )
    numbers = {}
    for name in counts:
        cells = pd.to_numeric(table[name], errors="coerce").to_numpy(dtype=float, na_value=np.nan)
        wrong = int((~(cells >= 0) | (cells != np.floor(cells)) | np.isinf(cells)).sum())
        if wrong:
            raise InputError(
                f"suppress_small_cells: column '{name}' must hold whole numbers >= 0; found {wrong:,} other values; "
                "give the true counts, before anything is hidden"
            )
        numbers[name] = cells.astype(np.int64)
    return numbers


def _lines(table: pd.DataFrame, by: Sequence[str], total: str) -> list[_Line]:
    """Return every set of two or more rows that differ in one column of `by` only."""
    codes = {name: _codes(table[name]) for name in by}
    lines = []
    for name in by:
        is_total = table[name].astype("object").eq(total).to_numpy(dtype=bool)
        group = _joined([codes[other] for other in by if other != name], len(table))
        for rows in pd.Series(group).groupby(group).indices.values():
            if len(rows) > 1:
                lines.append(_Line(rows[~is_total[rows]], rows[is_total[rows]]))
    return lines


def _hidden(counts: np.ndarray, lines: list[_Line], k: int) -> np.ndarray:
    """Return which cells to hide."""
    hidden = (counts > 0) & (counts < k)
    while True:
        protected = [_protect(line, counts, hidden, k) for line in lines]
        if any(protected):
            continue
        exposed = _derivable(counts, hidden, lines)
        through = [line for line in lines if exposed[line.cells].any() or exposed[line.total].any()]
        if not any(_hide_next(line, counts, hidden) for line in through):
            return hidden


def _protect(line: _Line, counts: np.ndarray, hidden: np.ndarray, k: int) -> bool:
    """Hide one more cell of a line whose hidden cells it gives away; return whether that was done."""
    inside = line.cells[hidden[line.cells]]
    total_hidden = bool(hidden[line.total].any())
    unknown = len(inside) + total_hidden
    if unknown == 0 or (unknown > 1 and (total_hidden or counts[inside].sum() >= k)):
        return False
    if unknown > 1 and (counts[inside] == 0).any():  # the line holds fewer than k in all; a zero among them blurs it
        return False
    return _hide_next(line, counts, hidden)


def _hide_next(line: _Line, counts: np.ndarray, hidden: np.ndarray) -> bool:
    """Hide the smallest count shown in a line, zeros after the others, the total last."""
    for rows in (line.cells[counts[line.cells] > 0], line.cells[counts[line.cells] == 0], line.total):
        shown = rows[~hidden[rows]]
        if len(shown):
            hidden[shown[np.argmin(counts[shown])]] = True
            return True
    return False


def _derivable(counts: np.ndarray, hidden: np.ndarray, lines: list[_Line]) -> np.ndarray:
    """Return which hidden counts can have one value only, given all that is shown and that counts are >= 0."""
    places = np.flatnonzero(hidden)
    column = np.full(len(counts), -1)
    column[places] = np.arange(len(places))
    touched = [line for line in lines if hidden[line.cells].any() or hidden[line.total].any()]
    system = np.zeros((len(touched), len(places)))
    for row, line in enumerate(touched):
        system[row, column[line.cells[hidden[line.cells]]]] = 1
        system[row, column[line.total[hidden[line.total]]]] = -1
    exposed = np.zeros(len(counts), dtype=bool)
    if not touched:
        return exposed
    from scipy.optimize import linprog  # half a second to import, for the tables that hide something

    truth = counts[places].astype(float)
    free = np.zeros(len(places), dtype=bool)
    for cell in range(len(places)):
        for sign in (1.0, -1.0):
            if free[cell]:
                break
            aim = np.zeros(len(places))
            aim[cell] = sign
            # One solution shows of many cells at once that they could be something else.
            found = linprog(aim, A_eq=system, b_eq=system @ truth, bounds=(0, 2 * counts.max() + 1))
            free |= np.abs(found.x - truth) > 1e-6
    exposed[places[~free]] = True
    return exposed
