"""A named list of specs that computes itself: one definition of a model's inputs for every engine."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd

from fraudlab.config import digest_of
from fraudlab.features.facts import with_facts
from fraudlab.features.specs import CurrentSpec, Spec, spec_from_dict, spec_to_dict
from fraudlab.features.words import LANGUAGES, SPOKEN, Words, check_language, with_derived
from fraudlab.schema import BY_NAME, COLUMNS, InputError, require_columns

if TYPE_CHECKING:
    from fraudlab.features.online import OnlineState

# The meaning of the numbers: raised when the same specs would give other values, so that digests differ.
VERSION = 2


@dataclass(frozen=True)
class FeatureSet:
    """A named list of specs: one definition of a model's inputs.

    Parameters
    ----------
    name : lower-case letters, digits, dots and hyphens.
    specs : what `count`, `mean`, `risk` ... return; their columns come out in this order.
    dtype : "float64", or "float32" for half the memory (about seven digits, what XGBoost uses anyway).
    derived : name -> a spec of one column, computed first; `specs` may use the name as a value or in a condition, so
        that windows can count what is unusual for someone. A column of that name in the transactions is not read.

    Raises
    ------
    InputError : two specs give the same column, something that is not a spec is among them, or a derived column has the
        name of a canonical one or is made of another derived one.

    >>> from fraudlab.features import count, value
    >>> features = FeatureSet("tiny", [value("amount"), count(by="customer_id", window="1d")])
    >>> features.columns
    ('amount', 'customer_id__count__1d')
    >>> frame = pd.DataFrame({"transaction_id": [3, 1, 2], "customer_id": ["a", "a", "a"], "amount": [9.0, 5.0, 7.0],
    ...     "event_time": pd.to_datetime(["2026-01-02 08:00", "2026-01-01 08:00", "2026-01-01 09:00"], utc=True)})
    >>> features.compute(frame)
       amount  customer_id__count__1d
    0     9.0                     1.0
    1     5.0                     0.0
    2     7.0                     1.0

    >>> from fraudlab.features import maximum, ratio
    >>> spree = FeatureSet("spree", [maximum("times_usual", by="customer_id", window="7d")],
    ...                    derived={"times_usual": ratio("amount", by="customer_id", window="30d")})
    >>> spree.compute(frame)["customer_id__times_usual__maximum__7d"].tolist()
    [1.4, nan, nan]
    """

    name: str
    specs: tuple[Spec, ...]
    dtype: str = "float64"
    derived: tuple[tuple[str, Spec], ...] = ()

    def __init__(
        self, name: str, specs: Iterable[Spec], dtype: str = "float64", derived: Mapping[str, Spec] | None = None
    ) -> None:
        object.__setattr__(self, "name", name)
        object.__setattr__(self, "specs", tuple(specs))
        object.__setattr__(self, "dtype", dtype)
        object.__setattr__(self, "derived", tuple((derived or {}).items()))
        if not isinstance(name, str) or not re.fullmatch(r"[a-z0-9][a-z0-9.-]*", name):
            raise InputError(f"feature set: name must be lower-case letters, digits, dots and hyphens; found {name!r}")
        if dtype not in ("float32", "float64"):
            raise InputError(f"feature set {name}: dtype must be float32 or float64; found {dtype!r}")
        for spec in (*self.specs, *(spec for _, spec in self.derived)):
            if not isinstance(spec, Spec):
                raise InputError(
                    f"feature set {name}: every entry must be a spec; found {type(spec).__name__}; "
                    "write count(...), mean(...) and the like"
                )
        seen: set[str] = set()
        if twice := [column for column in self.columns if column in seen or seen.add(column)]:
            raise InputError(
                f"feature set {name}: columns must differ; found '{twice[0]}' twice; remove one of its specs"
            )
        self._check_derived()

    def _check_derived(self) -> None:
        names = {name for name, _ in self.derived}
        for column, spec in self.derived:
            where = f"feature set {self.name}: derived column '{column}'"
            if not re.fullmatch(r"[a-z][a-z0-9_]*", column) or column in BY_NAME or "__" in column:
                raise InputError(
                    f"{where} must have a name of its own in lower-case letters, digits and single underscores, that "
                    "no canonical column has; rename it"
                )
            if len(spec.columns) != 1:
                raise InputError(f"{where} must be a spec of one column; found {len(spec.columns)}; give one window")
            if inner := names.intersection(spec.requires):
                raise InputError(
                    f"{where} must be made of the transactions' own columns; found the derived '{min(inner)}'; "
                    "write it without"
                )

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the columns, in order."""
        return tuple(column for spec in self.specs for column in spec.columns)

    @property
    def requires(self) -> tuple[str, ...]:
        """The columns of the transactions that `compute` reads, canonical ones first."""
        every = (*self.specs, *(spec for _, spec in self.derived))
        names = {"transaction_id", "event_time"}.union(*(self.reads(spec) for spec in every))
        canonical = [column.name for column in COLUMNS if column.name in names]
        return (*canonical, *sorted(names.difference(canonical)))

    def reads(self, spec: Spec) -> tuple[str, ...]:
        """Return the columns of the transactions that one spec reads, also through derived columns."""
        derived = dict(self.derived)
        return tuple(
            name for given in spec.requires for name in (derived[given].requires if given in derived else (given,))
        )

    @property
    def from_labels(self) -> tuple[str, ...]:
        """The columns that count frauds known by then, such as risks: they move when frauds are reported."""
        return tuple(column for spec in self.specs if "is_fraud" in self.reads(spec) for column in spec.columns)

    @property
    def before(self) -> FeatureSet | None:
        """The set of the derived columns, computed before all others; None without any."""
        return FeatureSet(self.name, [spec for _, spec in self.derived]) if self.derived else None

    @property
    def digest(self) -> str:
        """The sha-256 of what is computed: specs, their order, the number type; not the set's name."""
        return digest_of({key: item for key, item in self.to_dict().items() if key != "name"})

    def compute(self, transactions: pd.DataFrame) -> pd.DataFrame:
        """Compute the features of every row, each from its history alone.

        Parameters
        ----------
        transactions : canonical columns (`requires`), any row order, any index. Ids may be text, integers or
            categories; times carry a zone. Labels may be missing.

        Returns
        -------
        One row per transaction with the caller's index and order; columns as in `columns`. Ordering, hence every value,
        does not depend on the order of the rows given, nor on any row, value or label after a row's own moment.

        Raises
        ------
        InputError : a required column is missing (each is named); times are naive or missing; transaction_id is missing
            or repeated within one event_time; a value column is not numeric or infinite; places are outside the globe.
        """
        from fraudlab.features import engine

        frame = self.with_derived(transactions)
        found = engine.compute(self.specs, self.requires, frame, dtype=self.dtype, where=f"features {self.name}")
        return pd.DataFrame(found, index=transactions.index, columns=list(self.columns), copy=False)

    def with_derived(self, transactions: pd.DataFrame) -> pd.DataFrame:
        """Return the transactions with the derived columns beside their own; the same frame where there are none.

        Raises
        ------
        InputError : as `compute`.
        """
        from fraudlab.features import engine

        if self.before is None:
            return transactions
        found = engine.compute(
            self.before.specs, self.requires, transactions, dtype="float64", where=f"features {self.name}"
        )
        return transactions.assign(**{column: found[:, k] for k, (column, _) in enumerate(self.derived)})

    def online(self, history: pd.DataFrame | None = None, *, label_horizon: str = "400d") -> OnlineState:
        """Return a state that takes one transaction at a time and gives the same numbers as `compute`.

        Parameters
        ----------
        history : earlier transactions, with labels as far as known; None starts from nothing.
        label_horizon : how long after its payment a label may still come in; bounds what is kept of each payment.

        Raises
        ------
        InputError : as `compute`.

        >>> from fraudlab.features import count
        >>> state = FeatureSet("tiny", [count(by="customer_id", window="1d")]).online()
        >>> moments = pd.to_datetime(["2026-01-01 08:00", "2026-01-01 09:00"], utc=True)
        >>> [state.score_then_update({"transaction_id": k, "event_time": moment, "customer_id": "a"}).tolist()
        ...  for k, moment in enumerate(moments)]
        [[0.0], [1.0]]
        """
        from fraudlab.features.chunks import score_table_then_update
        from fraudlab.features.online import OnlineState

        state = OnlineState(self, label_horizon)
        if history is not None:
            require_columns(history, self.requires, where=state.where)
            score_table_then_update(state, history)
        return state

    def describe(self, lang: str = "en") -> pd.DataFrame:
        """Return a row per column: its words, all text.

        Parameters
        ----------
        lang : "en" or "zh", the language of label, group, meaning and template.

        Returns
        -------
        Columns column, label (short, for pictures), reason (code of the reason it belongs to), group (that reason's
        name), meaning (a sentence), template (a reason, with `{value}`; parts in [brackets] hold facts of other columns
        and are left out where unknown), kind (of value); and label_zh, group_zh, meaning_zh, template_zh in Chinese.

        Raises
        ------
        InputError : another language.

        >>> from fraudlab.features import ratio
        >>> words = FeatureSet("tiny", [ratio("amount", by="customer_id", window="90d")]).describe()
        >>> words[["reason", "template", "template_zh"]].iloc[0].tolist()
        ['R01', "{value} times this customer's usual amount over 90 days", '金额是该客户过去90天平均水平的{value}倍']
        """
        check_language(lang)
        spoken = {
            language: pd.DataFrame(self._words(language), columns=list(Words._fields)).astype("str")
            for language in LANGUAGES
        }
        table = spoken[lang]
        return table.assign(**{f"{name}_zh": spoken["zh"][name] for name in SPOKEN})

    def _words(self, lang: str) -> list[Words]:
        derived = dict(self.derived)
        rows = []
        for spec in self.specs:
            if isinstance(spec, CurrentSpec) and spec.statistic == "value" and spec.value in derived:
                # What was computed first is told as what it is, not by the name it was given.
                told = derived[spec.value].describe(lang)
                rows += [word._replace(column=column) for word, column in zip(told, spec.columns)]
                continue
            told = spec.describe(lang)
            where = getattr(spec, "where", None)
            if where and where[0] in derived:
                told = [with_derived(word, where, derived[where[0]], lang) for word in told]
            rows += told
        return with_facts(self.specs, rows, lang)

    def to_dict(self) -> dict[str, Any]:
        """Return the set as plain values, ready for JSON."""
        return {
            "name": self.name,
            "version": VERSION,
            "dtype": self.dtype,
            "specs": [spec_to_dict(spec) for spec in self.specs],
            **({"derived": {name: spec_to_dict(spec) for name, spec in self.derived}} if self.derived else {}),
        }

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> FeatureSet:
        """Return the set that `to_dict` wrote.

        Raises
        ------
        InputError : a key is missing; the set was written by another version of the statistics; a spec is invalid.
        """
        if missing := [key for key in ("name", "version", "dtype", "specs") if key not in plain]:
            raise InputError(
                f"feature set: keys must include {', '.join(missing)}; found none; write it with to_dict()"
            )
        if plain["version"] != VERSION:
            raise InputError(
                f"feature set {plain['name']}: must be of version {VERSION}; found {plain['version']}; "
                "its numbers would differ, so train the model anew"
            )
        derived = {name: spec_from_dict(spec) for name, spec in plain.get("derived", {}).items()}
        return cls(plain["name"], [spec_from_dict(spec) for spec in plain["specs"]], plain["dtype"], derived)
