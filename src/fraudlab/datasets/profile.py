"""Look at an unknown table: what each column holds, what may become of it, and why.

A decision errs towards leaving out: identifiers, protected attributes, free text and what may be known only after the
event do not enter unless somebody declares them. Nothing here returns or says a value of a row.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from fraudlab.datasets.contracts import names_free_text, plain_name
from fraudlab.datasets.readers import joined
from fraudlab.datasets.shapes import identifier_kind, numbers_of, read_label, read_time, tells_time
from fraudlab.schema import BY_NAME, InputError, did_you_mean

ALONE = 0.99
"""A column that alone orders the frauds this well (AUC ROC) is likely known only afterwards."""

MANY = 5_000
"""Categories beyond so many different values are rather names."""

HARDLY_REPEATS = 0.5
"""From this number of different values per row on, a text or an id says who rather than what."""

PERSONAL = {
    "a person's name": r"^(?:first|last)(?:_?name)?$|(?:^|_)(?:sur|fore|full_?|given_?|family_?|maiden_?)name$|^name$"
    r"|^(?:customer|client|card_?holder|holder|account|person|payer|sender|recipient)_?name$",
    "where somebody lives": r"(?:^|_)(?:street|address|zip|zip_?code|postcode|postal|postal_?code|plz)(?:_?\d)?$"
    r"|^(?:city|town|village|county)$",
    "a birth date": r"(?:^|_)(?:dob|birth|birthday|birth_?date|date_of_birth|year_of_birth)$",
    "an official number": r"(?:^|_)(?:ssn|social_security(?:_\w+)?|passport(?:_\w+)?|tax_id|national_id|iban)$",
    "a phone number": r"(?:^|_)(?:phone|mobile|telephone|fax|msisdn)(?:_?(?:number|num|no|home|work|mobile|\d))?$",
    "what a person is known by": r"^(?:login|user_?name|nickname|handle|job|job_title|occupation|profession|employer)$",
}
PROTECTED = r"^(?:customer_?)?(?:gender|sex|age|race|ethnicity|religion|nationality|marital(?:_status)?|disability)$"
AFTERWARDS = (
    r"(?:^|_)(?:is_?)?(?:fraud|fraudulent|chargebacks?|disputed?|flagged|flaggedfraud|label|target|investigated|reported"
    r"|investigation|outcome|resolution|write_?off|recovered|blocked|alert|case_id)(?:$|_|\d)"
)
BALANCE_AFTER = r"^new_?balance|balance_?after|after_?balance|^new_?bal(?:$|_)"
_EVENT = "transaction|trans|tx|txn|trx|payment|order|event|application|row"
IDS = rf"^(?:(?:{_EVENT})_?)?(?:id|num|number|nr|no|key|uuid|guid)$"
AMOUNTS = rf"^(?:(?:{_EVENT}|purchase)_?)?(?:amount|amt|value|price|sum|total)(?:_?(?:usd|eur|gbp))?$"
ENTITIES = r"customer|client|^cust|user|account|acct|member|holder|^card|_card|cc_num|nameorig|sender|payer|buyer"

CARDS = r"^(?:credit_?|debit_?)?(?:card|cc|pan)(?:_?(?:id|no|nr|num|number|hash|token))?$"
ACCOUNTS = r"(?:^|_)(?:account|acct|card|cc|pan|iban)(?:_?(?:id|no|nr|num|number|hash|token))$"
LONG = 1e8
"""Whole numbers all as large as this are ids rather than quantities."""

_PAYEES = "merchant|terminal|shop|store|payee|beneficiary|seller|vendor"
CANONICAL: tuple[tuple[str, str, str], ...] = (
    ("merchant_id", "id", rf"^(?:(?:{_PAYEES})(?:_?(?:id|name|num|ref))?|name_?dest)$"),
    ("merchant_category", "text", r"^(?:mcc|(?:merchant_)?category(?:_code)?|merchant_type|product_?cd)$"),
    ("channel", "text", r"^(?:channel|(?:transaction_?|payment_?)?type|use_chip|entry_mode)$"),
    ("country", "text", r"^(?:merchant_)?country(?:_code)?$"),
    ("currency", "text", r"^currency(?:_?code)?$"),
    ("auth_method", "text", r"^auth(?:entication)?_method$"),
    ("auth_result", "text", r"^auth(?:entication)?_result$"),
    ("device_id", "id", r"^device(?:_?(?:id|fingerprint|hash))?$"),
    ("latitude", "number", r"^(?:merch(?:ant)?_)?lat(?:itude)?$"),
    ("longitude", "number", r"^(?:merch(?:ant)?_)?(?:lon|long|longitude|lng)$"),
)
"""Canonical columns, their kinds, and what sources call them; each goes to the first column that fits."""


@dataclass(frozen=True)
class Plan:
    """What was decided about one column.

    Attributes
    ----------
    source : its name in the table.
    holds : what its values are, in a word.
    missing, distinct : share missing, number of different values.
    becomes : in a few words, what a load will see of it.
    why : the reason, a clause.
    column : the keys of its contract entry without `source`; None where it does not enter.
    role : "time", "label", "entity", "amount", "id", "history", "category" or "number"; "" for what is not used.
    """

    source: str
    holds: str
    missing: float
    distinct: int
    becomes: str
    why: str
    column: dict[str, Any] | None = None
    role: str = ""


@dataclass(frozen=True)
class Profile:
    """A table as it was understood.

    Attributes
    ----------
    plans : one per column, in the table's order.
    time, label : as read: UTC moments; nullable booleans.
    entity : the raw values that say whose row it is; None where no column does.
    has_amount : whether a column tells the amount.
    notes : sentences about what was assumed.
    """

    plans: tuple[Plan, ...]
    time: pd.Series
    label: pd.Series
    entity: pd.Series | None
    has_amount: bool
    notes: tuple[str, ...]

    def of(self, role: str) -> list[Plan]:
        """Return the plans of one role."""
        return [plan for plan in self.plans if plan.role == role]


def profile(
    frame: pd.DataFrame, *, time: str, label: str, entity: str = "", amount: str = "", time_unit: str = ""
) -> Profile:
    """Understand a table of payments or the like.

    Parameters
    ----------
    frame : raw values: text as of a CSV file, or typed as of a Parquet file.
    time : the column of the moment; several, comma-separated, where it is spread over columns.
    label : the column that says which rows are fraud; two different values.
    entity : the column that says whose row it is; "" where none does.
    amount : the column of the amount; "" looks for one by its name.
    time_unit : what a number of the time column counts (s, ms, h, d, 30d ...); "" guesses.

    Raises
    ------
    InputError : a named column is not there; the time cannot be read; the label does not have two values, or no row is
        fraud or none genuine; the time, the entity or the amount is missing in some rows.

    >>> table = pd.DataFrame({"step": [1, 2, 3, 4], "who": list("aabb"), "amount": [5.0, 7.0, 5.5, 900.0],
    ...                       "isFraud": [0, 0, 0, 1], "gender": list("FMFM")})
    >>> found = profile(table, time="step", label="isFraud", entity="who")
    >>> [plan.becomes for plan in found.plans], found.time.iloc[0].isoformat()
    (['the time', 'pseudonym', 'the amount', 'the label', 'left out'], '2020-01-01T01:00:00+00:00')
    """
    times = [name.strip() for name in time.split(",")]
    _refuse_names(frame, {"--time": times, "--label": [label], "--entity": [entity], "--amount": [amount]})
    parts = [frame[name] for name in times]
    moments, how_time = read_time(joined(parts) if len(parts) > 1 else parts[0], time, time_unit)
    if missing := int(moments.isna().sum()):
        raise InputError(
            f"--time: column '{time}' must not be empty; found {missing:,} empty of {len(frame):,} rows; fill or drop "
            "them at the source"
        )
    labels, how_label = read_label(frame[label], label)
    whose = _entity(frame[entity], entity) if entity else None
    look = _Look(frame, moments, labels)
    notes = [f"{time}: {how_time.pop('note')}"] if "note" in how_time else []
    amount, how_amount, said = _amount(frame, amount, {*times, label, entity})
    notes += [said] if said else []

    plans = {
        times[0]: look.enters(
            times[0], "event_time", "time", "the time", how_time.pop("said"), "time",
            **({"join": times[1:]} if times[1:] else {}), **how_time,
        ),
        label: look.enters(
            label, "is_fraud", "boolean", "the label",
            f"{int(labels.sum()):,} frauds of {int(labels.notna().sum()):,} labelled rows", "label", **how_label,
        ),
    }  # fmt: skip
    plans |= {name: look.told(name, "read with the time", f"together with {times[0]}") for name in times[1:]}
    if entity:
        digits = {"how": "digits"} if identifier_kind(frame[entity]) == "card" else {}
        why = "whose row it is: histories are made of it, it is no input"
        plans[entity] = look.enters(
            entity, "customer_id", "id", "pseudonym", why, "entity", treatment="pseudonymise", **digits
        )
    if amount:
        plans[amount] = look.enters(amount, "amount", "number", "the amount", "how much", "amount", **how_amount)
    for name in frame.columns:
        if name not in plans:
            plans[name] = look.plan(name)
    if not entity:
        notes.append(_candidates(plans, len(frame)))
    ordered = tuple(plans[name] for name in frame.columns)
    return Profile(ordered, moments, labels, whose, bool(amount), tuple(notes))


def _refuse_names(frame: pd.DataFrame, given: dict[str, list[str]]) -> None:
    for option, names in given.items():
        for name in filter(None, names):
            if name not in frame.columns:
                raise InputError(f"{option}: no column '{name}'; {did_you_mean(name, map(str, frame.columns))}")
    used = [name for names in given.values() for name in names if name]
    if twice := sorted({name for name in used if used.count(name) > 1}):
        raise InputError(f"column '{twice[0]}' is named for two things; name another column for one of them")


def _entity(values: pd.Series, name: str) -> pd.Series:
    if pd.api.types.is_float_dtype(values.dtype):
        raise InputError(
            f"--entity: column '{name}' must hold text or whole numbers; found floating point, which damages long "
            "numbers; export it as text"
        )
    texts = values.astype("str")
    if missing := int((texts.isna() | (texts.str.strip() == "")).sum()):
        raise InputError(
            f"--entity: column '{name}' must say whose each row is; found {missing:,} empty of {len(values):,} rows; "
            "fill them at the source, name another column or leave --entity out"
        )
    return texts


def _amount(frame: pd.DataFrame, name: str, taken: set[str]) -> tuple[str, dict[str, Any], str]:
    """Return the column of the amount, the keys to read it, and what is to be said about it."""
    candidates = [c for c in frame.columns if re.match(AMOUNTS, plain_name(c)) and c not in taken]
    for candidate in [name] if name else candidates:
        numbers = numbers_of(frame[candidate])
        wrong = len(frame) if numbers is None else int((~np.isfinite(numbers)).sum())
        if wrong and name:
            raise InputError(
                f"--amount: column '{name}' must hold a finite number in every row; found {wrong:,} others of "
                f"{len(frame):,}; correct them at the source or name another column"
            )
        if not wrong and (negative := int((numbers < 0).sum())):
            said = f"{candidate}: {negative:,} amounts are below 0; their sign is dropped (absolute = true)"
            return candidate, {"absolute": True}, said
        if not wrong:
            return candidate, {}, ""
    return "", {}, "no amount was found: every row counts 1, so that money counts frauds; name one with --amount"


def _candidates(plans: dict[str, Plan], rows: int) -> str:
    """Name columns that repeat and are called like somebody."""
    named = [
        name
        for name, plan in plans.items()
        if re.search(ENTITIES, plain_name(name))
        and 10 < plan.distinct < 0.7 * rows
        and plan.missing == 0
        and plan.holds != "numbers"
    ]
    return (
        "no entity was named: each row is a case of its own, and no history is looked back on; say with --entity whose "
        f"rows they are{', perhaps ' + ' or '.join(named[:3]) if named else ''}"
    )


@dataclass(frozen=True)
class _Facts:
    """What is counted once of a column: rows, kind of values, share missing, different values; the numbers it holds."""

    rows: int
    kind: str
    missing: float
    distinct: int
    numbers: pd.Series | None
    whole: bool

    @classmethod
    def of(cls, values: pd.Series) -> _Facts:
        there = values.notna()
        if pd.api.types.is_string_dtype(values.dtype):
            there &= values.str.strip() != ""
        numbers = numbers_of(values)
        whole = numbers is not None and bool((numbers.dropna() % 1 == 0).all())
        kind = "text" if numbers is None else "whole numbers" if whole else "numbers"
        if pd.api.types.is_bool_dtype(values.dtype):
            kind = "yes or no"
        if pd.api.types.is_datetime64_any_dtype(values.dtype):
            kind = "times"
        return cls(len(values), kind, float(1 - there.mean()), int(values[there].nunique()), numbers, whole)


class _Look:
    """Decides about one column after the other, and remembers which names are taken."""

    def __init__(self, frame: pd.DataFrame, moments: pd.Series, labels: pd.Series) -> None:
        self.frame, self.labels = frame, labels
        self.when = moments.rank().to_numpy()
        self.facts: tuple[str, _Facts] = ("", _Facts.of(pd.Series(dtype="str")))
        self.placed = any(re.match(r"merch(?:ant)?_l", plain_name(name)) for name in frame.columns)
        self.taken: set[str] = set()

    def told(self, name: str, becomes: str, why: str, role: str = "", column: dict[str, Any] | None = None) -> Plan:
        facts = self.look_at(name)
        return Plan(name, facts.kind, facts.missing, facts.distinct, becomes, why, column, role)

    def look_at(self, name: str) -> _Facts:
        """Return a column's facts; those of the last one asked for are kept, as several rules ask for them."""
        if self.facts[0] != name or not self.facts[1].rows:
            self.facts = (name, _Facts.of(self.frame[name]))
        return self.facts[1]

    def enters(self, name: str, canonical: str, kind: str, becomes: str, why: str, role: str, **keys: Any) -> Plan:
        """Return the plan of a column that enters; `canonical` is "" for a name of its own."""
        if not canonical:
            canonical = plain_name(name)
            while canonical in BY_NAME or canonical in self.taken:
                canonical = f"own_{canonical}"
        self.taken.add(canonical)
        column = {"name": canonical, "type": kind, "treatment": "keep", "meaning": why} | keys
        return self.told(name, becomes, why, role, column)

    def floating(self, name: str) -> bool:
        return pd.api.types.is_float_dtype(self.frame[name].dtype)

    def left_out(self, name: str, why: str) -> Plan:
        return self.told(name, "left out", why)

    def plan(self, name: str) -> Plan:
        """Decide: the first rule that answers does."""
        rules: tuple[Callable[[str, str, _Facts], Plan | None], ...] = (
            self._says_nothing,
            self._numbers_rows,
            self._afterwards,
            self._free_text,
            self._personal,
            self._canonical,
            self._number,
            self._text,
        )
        facts = self.look_at(name)
        return next(plan for rule in rules if (plan := rule(name, plain_name(name), facts)) is not None)

    def _free_text(self, name: str, plain: str, facts: _Facts) -> Plan | None:
        text = facts.kind == "text" and names_free_text(name)
        return self.left_out(name, "free text may hold anything") if text else None

    def _says_nothing(self, name: str, plain: str, facts: _Facts) -> Plan | None:
        if not facts.distinct:
            return self.left_out(name, "is empty")
        return self.left_out(name, "has one value only") if facts.distinct == 1 and not facts.missing else None

    def _numbers_rows(self, name: str, plain: str, facts: _Facts) -> Plan | None:
        if facts.distinct < facts.rows:
            return None
        if facts.whole and re.match(r"c_$|unnamed|index|row_?n|level_0", plain):
            return self.left_out(name, "numbers the rows")
        if re.match(IDS, plain) and (facts.whole or facts.numbers is None) and "transaction_id" not in self.taken:
            if self.floating(name):
                return self.left_out(name, "an id as floating point, which damages long numbers; export it as text")
            return self.enters(name, "transaction_id", "id", "the row's id", "identifies the row", "id")
        return None

    def _afterwards(self, name: str, plain: str, facts: _Facts) -> Plan | None:
        if re.search(AFTERWARDS, plain):
            return self.left_out(name, "by its name, may be known only afterwards; declare it if it is not")
        if re.search(BALANCE_AFTER, plain):
            return self.left_out(name, "by its name, a balance after the event")
        return None

    def _personal(self, name: str, plain: str, facts: _Facts) -> Plan | None:
        shape = identifier_kind(self.frame[name])
        if shape == "email":
            keys = {"treatment": "generalise", "how": "email-domain"}
            why = "e-mail addresses: only the domain stays"
            return self.enters(name, "", "text", "domain, a category", why, "category", **keys)
        called = re.search(CARDS, plain) and facts.distinct > 10 and not self.floating(name)
        if shape in ("card", "ip") or called:
            canonical, how = ("ip", {}) if shape == "ip" else ("card_id", {"how": "digits"} if shape else {})
            what = (
                f"{'looks' if shape else 'is called'} like {'network addresses' if shape == 'ip' else 'card numbers'}"
            )
            if canonical in self.taken:
                return self.left_out(name, what)
            why = f"{what}: only who shares one stays"
            return self.enters(name, canonical, "id", "pseudonym", why, "history", treatment="pseudonymise", **how)
        if shape:
            return self.left_out(name, f"looks like {'IBANs' if shape == 'iban' else 'phone numbers'}")
        if re.search(ACCOUNTS, plain) and facts.distinct > 10:
            return self.left_out(name, "by its name, numbers of cards or accounts")
        for what, names in PERSONAL.items():
            # Some numbers are only called so: a flag, a code of a few values.
            if re.search(names, plain) and (facts.distinct > 10 or what == "a birth date"):
                return self.left_out(name, f"by its name, {what}")
        if re.match(PROTECTED, plain):
            return self.left_out(name, "a protected attribute; declare it for a purpose of its own to compare groups")
        return None

    def _canonical(self, name: str, plain: str, facts: _Facts) -> Plan | None:
        for canonical, kind, names in CANONICAL:
            if not re.match(names, plain) or canonical in self.taken or facts.kind == "yes or no":
                continue
            if kind == "number":
                if (
                    facts.numbers is None
                    or not (facts.numbers.abs().dropna() <= (90 if canonical == "latitude" else 180)).all()
                ):
                    return None
                if self.placed and not plain.startswith("merch"):
                    return self.left_out(name, "by its name, where somebody lives: the merchant has a place of its own")
                keys = {"treatment": "generalise", "how": "grid", "step": 0.1}
                return self.enters(name, canonical, kind, "coarse place", "a place, to about 11 km", "history", **keys)
            if self.floating(name):
                return None
            if kind == "text" and (facts.distinct > MANY or identifier_kind(self.frame[name], least=0)):
                return None
            if kind == "text":
                return self.enters(name, canonical, kind, f"{canonical}, a category", "by its name", "category")
            keys = {"treatment": "pseudonymise"} if canonical == "device_id" or plain.startswith("name") else {}
            becomes = f"{canonical}{', a pseudonym' if keys else ''}"
            return self.enters(
                name, canonical, kind, becomes, "by its name: histories are made of it", "history", **keys
            )
        return None

    def _number(self, name: str, plain: str, facts: _Facts) -> Plan | None:
        values, numbers = self.frame[name], facts.numbers
        if numbers is None:
            return None
        if pd.api.types.is_string_dtype(values.dtype) and bool(values.str.match(r"\s*0\d", na=False).any()):
            return None  # 01234 is a code
        if infinite := int(np.isinf(numbers).sum()):
            return self.left_out(name, f"holds {infinite:,} infinite values; make them missing at the source")
        if tells_time(values, numbers, name) or self._follows_time(numbers):
            return self.left_out(name, "repeats the time")
        if facts.whole and numbers.min() >= LONG:
            return self.left_out(name, "long whole numbers: ids rather than quantities")
        if re.search(r"(?:^|_)(?:id|num|uuid|ref|hash)$", plain) and facts.distinct > HARDLY_REPEATS * facts.rows:
            return self.left_out(name, "by its name, an id; it hardly repeats")
        return self._tells_too_much(name, numbers) or self.enters(
            name, "", "number", "a number", "an input as it is", "number"
        )

    def _follows_time(self, numbers: pd.Series) -> bool:
        """Say whether a number rises, or falls, with the time and with nothing else."""
        there = numbers.notna().to_numpy()
        if there.sum() < 100 or numbers.nunique() < 2:
            return False
        ranks = numbers[there].rank().to_numpy()
        return abs(np.corrcoef(ranks, self.when[there])[0, 1]) > 0.999

    def _tells_too_much(self, name: str, numbers: pd.Series) -> Plan | None:
        auc = alone(numbers, self.labels)
        if auc <= ALONE:
            return None
        return self.left_out(name, f"alone tells the frauds (AUC {auc:.3f}): known only afterwards? declare it if not")

    def _text(self, name: str, plain: str, facts: _Facts) -> Plan | None:
        values, distinct = self.frame[name], facts.distinct
        if tells_time(values, facts.numbers, name):
            return self.left_out(name, "a further time; only the one named enters")
        if not (pd.api.types.is_string_dtype(values.dtype) or pd.api.types.is_bool_dtype(values.dtype)):
            return self.left_out(name, "neither text nor number")
        texts = values.astype("str")
        if texts.str.len().mean() > 40:
            return self.left_out(name, "free text may hold anything")
        if distinct > HARDLY_REPEATS * len(values) or distinct > MANY:
            return self.left_out(name, "rather names than categories: too many different values")
        if identifier_kind(values, least=0):
            return self.left_out(name, "some values look like identifiers")
        codes = pd.Series(pd.factorize(texts)[0], index=texts.index)
        if distinct <= 50:
            rate = self.labels.astype("Float64").groupby(codes).mean()
            if (leak := self._tells_too_much(name, codes.map(rate).astype("float64"))) is not None:
                return leak
        return self.enters(name, "", "text", "a category", "an input as it is", "category")


def alone(numbers: pd.Series, labels: pd.Series) -> float:
    """Return how well values alone order the frauds, in whichever direction (AUC ROC); missing ones rank lowest.

    >>> alone(pd.Series([3.0, 2.0, None, 1.0]), pd.Series([True, False, False, True], dtype="boolean"))
    0.75
    """
    known = labels.notna().to_numpy()
    y = labels[known].to_numpy(dtype=bool)
    ranks = numbers[known].fillna(-np.inf).rank().to_numpy()
    frauds, genuine = int(y.sum()), int((~y).sum())
    auc = (ranks[y].sum() - frauds * (frauds + 1) / 2) / (frauds * genuine)
    return float(max(auc, 1 - auc))


def summary(plans: Sequence[Plan]) -> pd.DataFrame:
    """Table what was decided, columns alike in one row.

    Returns
    -------
    DataFrame: column, holds, missing (largest share of the row's columns, percent), distinct (a range), becomes, why.
    """
    alike: dict[tuple[str, ...], list[Plan]] = {}
    for plan in plans:
        alike.setdefault((plan.holds, plan.becomes, plan.why), []).append(plan)
    rows = []
    for (holds, becomes, why), together in alike.items():
        least, most = min(plan.distinct for plan in together), max(plan.distinct for plan in together)
        rows.append(
            {
                "column": ", ".join(compressed([plan.source or "(no name)" for plan in together])),
                "holds": holds,
                "missing": f"{max(plan.missing for plan in together):.0%}",
                "distinct": f"{least:,}" if least == most else f"{least:,} to {most:,}",
                "becomes": becomes,
                "why": why,
            }
        )
    return pd.DataFrame(rows, columns=["column", "holds", "missing", "distinct", "becomes", "why"])


def compressed(names: Sequence[str]) -> list[str]:
    """Write runs of numbered names short, as a contract's families may.

    >>> compressed(["V1", "V2", "V3", "id_09", "id_10", "Amount"])
    ['V1..V3', 'id_09..id_10', 'Amount']
    """
    runs: list[list[str]] = []
    for name in names:
        if runs and _next(runs[-1][-1]) == name:
            runs[-1].append(name)
        else:
            runs.append([name])
    return [f"{run[0]}..{run[-1]}" if len(run) > 1 else run[0] for run in runs]


def _next(name: str) -> str | None:
    found = re.fullmatch(r"(.*?)(\d+)", name)
    if not found:
        return None
    width = len(found[2]) if found[2].startswith("0") else 1
    return f"{found[1]}{int(found[2]) + 1:0{width}d}"
