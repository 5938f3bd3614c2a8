"""A column contract: what each source column means, how it is treated, and for which purposes it may be used.

`configs/contracts/*.toml` becomes one frozen `Contract`. What it does not declare does not enter.
"""

from __future__ import annotations

import datetime as dt
import difflib
import re
import tomllib
import zoneinfo
from collections import Counter
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from fraudlab.config import digest_of, explain_validation
from fraudlab.privacy.treatments import FORMS, IPV4_BITS, IPV6_BITS
from fraudlab.schema import BY_NAME, REQUIRED, InputError, did_you_mean, refuse

PERSONAL = ("customer_id", "card_id", "device_id", "ip")
"""Canonical columns that point at a person: they enter under pseudonyms only."""

EVERYWHERE = ("transaction_id", "event_time", "customer_id")
"""Columns every purpose needs: they make the total order and say whose row it is."""

ROW_NUMBER, ONE = "(row number)", "(one)"
MADE = {ROW_NUMBER: "id", ONE: "number"}
"""Sources no file has, and their types: each row's number, where the data name no transaction or no customer; and 1,
where they know no amount, so that money counts frauds."""

UNITS = {
    "ns": 0.001,
    "us": 1.0,
    "ms": 1e3,
    "s": 1e6,
    "min": 60e6,
    "h": 3600e6,
    "d": 86_400e6,
    "w": 604_800e6,
}
"""Microseconds of each unit a time may be counted in."""

FREE_TEXT = {"comment", "description", "information", "memo", "message", "narrative", "note", "remark", "remittance"}
"""A text column whose name ends in one of these words, or its plural, holds what people typed: masked, or not kept."""


class Generalisation(NamedTuple):
    """One way to make a column coarser: the types it takes, what it becomes, options it needs and may have."""

    types: tuple[str, ...]
    becomes: str
    needs: tuple[str, ...] = ()
    takes: tuple[str, ...] = ()


GENERALISATIONS: dict[str, Generalisation] = {
    "grid": Generalisation(("number",), "number", needs=("step",)),
    "prefix": Generalisation(("text", "id"), "text", needs=("characters",)),
    "age-band": Generalisation(("date",), "text", takes=("reference",)),
    "bin": Generalisation(("id", "text"), "text", takes=("digits",)),
    "email-domain": Generalisation(("text", "id"), "text"),
    "network": Generalisation(("id", "text"), "text", takes=("ipv4", "ipv6")),
    "distance": Generalisation(("number",), "number"),
    "speed": Generalisation(("number",), "number"),
}
OPTIONS = tuple(dict.fromkeys(option for way in GENERALISATIONS.values() for option in way.needs + way.takes))
MOVEMENT = ("distance", "speed")
"""Computed from both coordinates of the row and of the customer's previous one, before these are made coarser."""


class _Frozen(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Purpose(_Frozen):
    """Why data is loaded, on which lawful basis (GDPR article 6), and how long it is kept for it."""

    basis: Literal[
        "consent", "contract", "legal-obligation", "vital-interests", "public-task", "legitimate-interest"
    ] = Field(description="lawful basis, GDPR Art. 6(1)")
    meaning: str = Field(min_length=1, description="the purpose in a sentence")
    retention_days: int = Field(ge=1, description="how long rows may be kept for it")


class ContractColumn(_Frozen):
    """One source column: its canonical name, type, treatment and purposes."""

    source: str = Field(min_length=1, description="the column's name in the source")
    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$", description="its canonical name, or one of `extras`")
    type: Literal["id", "time", "number", "text", "boolean", "date"] = Field(description="what the source holds")
    join: tuple[str, ...] | None = Field(
        None, min_length=1, description="further source columns, written behind it with a blank between, before reading"
    )
    unit: str | None = Field(
        None,
        pattern=rf"^([1-9]\d{{0,5}})?({'|'.join(UNITS)})$",
        description="time: it counts these (s, ms, h, d, 30d ...) since `since`",
    )
    since: dt.date | None = Field(None, description="unit: the day whose midnight (UTC) is 0; default 1970-01-01")
    format: str | None = Field(None, min_length=1, description="time: how it is written, such as %d/%m/%Y %H:%M")
    absolute: bool | None = Field(None, description="number: the sign is dropped, as of refunds")
    yes: str | None = Field(None, description="boolean: the text that stands for true; default 1 or true")
    no: str | None = Field(None, description="boolean: the text that stands for false; default 0 or false")
    treatment: Literal["keep", "pseudonymise", "generalise", "mask", "drop"]
    how: str | None = Field(
        None,
        description=f"pseudonymise: {', '.join(FORMS)}; generalise: {', '.join(GENERALISATIONS)}",
    )
    step: float | None = Field(None, gt=0, description="grid: round to multiples of this")
    characters: int | None = Field(None, ge=1, description="prefix: how many characters stay")
    reference: dt.date | None = Field(None, description="age-band: age on this day; default: the data's last day")
    digits: Literal[6, 8] | None = Field(None, description="bin: how many digits stay; default 6")
    ipv4: int | None = Field(None, ge=IPV4_BITS[0], le=IPV4_BITS[1], description="network: bits that stay; default 24")
    ipv6: int | None = Field(None, ge=IPV6_BITS[0], le=IPV6_BITS[1], description="network: bits that stay; default 48")
    purposes: tuple[str, ...] = Field(min_length=1, description="who may load it")
    identity: bool = Field(False, description="the raw value is kept in the identity file")
    meaning: str = Field(min_length=1, description="the column in a sentence")

    @property
    def in_features(self) -> bool:
        """Whether the treated value is part of the loadable table; a dropped one is in the identity file at most."""
        return self.treatment != "drop"

    @property
    def form(self) -> str:
        """How values are normalised before they are keyed."""
        return self.how or "text"

    @property
    def options(self) -> dict[str, Any]:
        """The options of its generalisation that are stated."""
        return {option: value for option in OPTIONS if (value := getattr(self, option)) is not None}

    @property
    def becomes(self) -> str:
        """The kind of values it holds once treated."""
        if self.treatment == "generalise":
            return GENERALISATIONS[self.how or ""].becomes
        return "id" if self.treatment == "pseudonymise" else self.type

    @model_validator(mode="after")
    def _treatment_fits(self) -> ContractColumn:
        own = {"pseudonymise": self._pseudonymise_problem, "generalise": self._generalise_problem}
        problem = (
            self._reading_problem()
            or self._free_text_problem()
            or own.get(self.treatment, self._plain_problem)()
            or self._option_problem()
            or self._target_problem()
        )
        if problem:
            raise ValueError(problem)
        return self

    def _reading_problem(self) -> str | None:
        made = MADE.get(self.source)
        if made and (self.type != made or self.join or self.identity):
            return f"source '{self.source}' needs type '{made}', no 'join' and no 'identity'; correct it"
        kinds = {
            "unit": "time",
            "since": "time",
            "format": "time",
            "absolute": "number",
            "yes": "boolean",
            "no": "boolean",
        }
        for key, kind in kinds.items():
            if getattr(self, key) is not None and self.type != kind:
                return f"'{key}' is for type '{kind}'; found '{self.type}'; remove it or correct the type"
        if self.unit and self.format:
            return "'unit' and 'format' exclude each other: a time is counted or written; keep one"
        if self.since and not self.unit:
            return "'since' needs 'unit'; add what is counted, such as s or h"
        if (self.yes is None) != (self.no is None):
            return "'yes' and 'no' belong together; add the other"
        return None

    def _free_text_problem(self) -> str | None:
        if self.treatment == "mask":
            if self.type != "text":
                return f"treatment 'mask' is for type 'text'; found '{self.type}'"
            return "raw free text is not kept; remove 'identity'" if self.identity else None
        if self.type == "text" and self.treatment != "drop" and names_free_text(self.source, self.name):
            return "free text holds what nobody expects there, such as phone numbers; take treatment 'mask' or 'drop'"
        return None

    def _pseudonymise_problem(self) -> str | None:
        if self.type not in ("id", "text"):
            return f"a pseudonym needs type 'id' or 'text'; found '{self.type}'"
        if self.form not in FORMS:
            return f"unknown how '{self.how}' for treatment 'pseudonymise'; {did_you_mean(self.form, FORMS)}"
        return None

    def _generalise_problem(self) -> str | None:
        if self.how not in GENERALISATIONS:
            said = f"unknown how '{self.how}'" if self.how else "how is missing"
            return f"{said} for treatment 'generalise'; {did_you_mean(self.how or '', GENERALISATIONS)}"
        way = GENERALISATIONS[self.how]
        if self.type not in way.types:
            return f"how '{self.how}' needs type {' or '.join(map(repr, way.types))}; found '{self.type}'"
        lacking = [option for option in way.needs if option not in self.options]
        return f"how '{self.how}' needs '{lacking[0]}'; add it" if lacking else None

    def _plain_problem(self) -> str | None:
        if self.how is not None:
            return f"'how' does not belong to treatment '{self.treatment}'; remove it"
        if self.treatment == "drop" and not self.identity:
            return "a dropped column is not declared at all (undeclared columns are dropped and counted); remove it"
        if self.treatment == "keep" and self.identity:
            return "a raw identity must not be kept among the features; take 'pseudonymise', 'generalise' or 'drop'"
        if self.treatment == "keep" and self.type == "date":
            return "type 'date' is for birth dates, to be generalised or dropped; take 'time'"
        return None

    def _option_problem(self) -> str | None:
        way = GENERALISATIONS[self.how] if self.treatment == "generalise" and self.how else None
        strange = [option for option in self.options if way is None or option not in way.needs + way.takes]
        return f"'{strange[0]}' does not belong to this treatment; remove it" if strange else None

    def _target_problem(self) -> str | None:
        if not self.in_features or self.name not in BY_NAME:
            return None
        if self.name in PERSONAL and self.treatment != "pseudonymise":
            return f"'{self.name}' points at a person; take treatment 'pseudonymise'"
        kind, becomes = BY_NAME[self.name].kind, self.becomes
        return (
            None if becomes == kind else f"'{self.name}' holds values of type '{kind}'; this would become '{becomes}'"
        )


def names_free_text(*names: str) -> bool:
    last = {re.split(r"[\W_]+", name.strip().casefold())[-1] for name in names}
    return any(word in FREE_TEXT or word.removesuffix("s") in FREE_TEXT for word in last)


class Contract(_Frozen):
    """What of a source enters, as what, treated how, for whom."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")
    description: str = ""
    timezone: str | None = Field(None, description="zone of times that carry none, such as UTC or Europe/Berlin")
    label_delay_days: float | None = Field(None, ge=0, description="stands in where the source has no label time")
    extras: tuple[str, ...] = Field((), description="names beyond the canonical ones that columns may take")
    purposes: dict[str, Purpose] = Field(min_length=1)
    columns: tuple[ContractColumn, ...] = Field(min_length=1)

    @model_validator(mode="before")
    @classmethod
    def _families_are_columns(cls, raw: Any) -> Any:
        return expand_families(raw)

    @field_validator("timezone")
    @classmethod
    def _zone_exists(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                zoneinfo.ZoneInfo(value)
            except (zoneinfo.ZoneInfoNotFoundError, ValueError):
                near = difflib.get_close_matches(value, zoneinfo.available_timezones(), n=1)
                hint = f"did you mean '{near[0]}'?" if near else "take a name such as UTC or Europe/Berlin"
                raise ValueError(f"no time zone '{value}'; {hint}") from None
        return value

    @model_validator(mode="after")
    def _columns_fit(self) -> Contract:
        problems = [
            *self._name_problems(),
            *self._purpose_problems(),
            *self._label_problems(),
            *self._movement_problems(),
        ]
        if problems:
            raise ValueError("\n".join(problems))
        return self

    def _name_problems(self) -> list[str]:
        allowed = {*BY_NAME, *self.extras}
        targets = Counter(column.name for column in self.columns)
        problems = [
            f"extras: '{name}' is a canonical name already; remove it" for name in self.extras if name in BY_NAME
        ]
        problems += [
            f"column '{c.source}': unknown name '{c.name}'; {did_you_mean(c.name, allowed)} (own names go into extras)"
            for c in self.columns
            if c.name not in allowed
        ]
        problems += [f"'{name}' is the name of {n} columns; give each its own" for name, n in targets.items() if n > 1]
        problems += [
            f"no column becomes '{name}' ({BY_NAME[name].meaning}); declare it"
            for name in REQUIRED
            if not any(c.name == name and c.in_features for c in self.columns)
        ]
        return problems

    def _purpose_problems(self) -> list[str]:
        problems = []
        for column in self.columns:
            problems += [
                f"column '{column.source}': unknown purpose '{purpose}'; {did_you_mean(purpose, self.purposes)}"
                for purpose in column.purposes
                if purpose not in self.purposes
            ]
            lacking = [purpose for purpose in self.purposes if purpose not in column.purposes]
            if column.name in EVERYWHERE and lacking:
                problems.append(
                    f"column '{column.source}': '{column.name}' is needed for every purpose; add {', '.join(lacking)}"
                )
        return problems

    def _label_problems(self) -> list[str]:
        named = {column.name: column for column in self.columns}
        if "is_fraud" not in named:
            return ["'label_time' needs 'is_fraud'; declare the label too"] if "label_time" in named else []
        if "label_time" not in named:
            return (
                ["a label needs its time; declare 'label_time', or state label_delay_days"]
                if self.label_delay_days is None
                else []
            )
        if self.label_delay_days is not None:
            return ["'label_time' and label_delay_days exclude each other; keep the one that is true"]
        lacking = [purpose for purpose in named["is_fraud"].purposes if purpose not in named["label_time"].purposes]
        return [f"'label_time' must allow every purpose of 'is_fraud'; add {', '.join(lacking)}"] if lacking else []

    def _movement_problems(self) -> list[str]:
        lacking = [name for name in ("latitude", "longitude") if name not in {column.name for column in self.columns}]
        return [
            f"column '{column.source}': how '{column.how}' needs both coordinates; declare {' and '.join(lacking)}"
            for column in self.columns
            if column.how in MOVEMENT and lacking
        ]

    @property
    def digest(self) -> str:
        """The sha-256 of the contract's meaning."""
        return digest_of(self.model_dump(mode="json", exclude_none=True))

    @property
    def sources(self) -> list[str]:
        """Source columns the declared ones are read from, each once, in file order."""
        read = (source for column in self.columns for source in (column.source, *(column.join or ())))
        return [source for source in dict.fromkeys(read) if source not in MADE]

    @property
    def identities(self) -> list[ContractColumn]:
        """Columns whose raw value goes into the identity file, one per source."""
        return list({column.source: column for column in self.columns if column.identity}.values())


def expand_families(raw: Any) -> Any:
    """Return a raw contract whose `families`, many columns declared alike, have become columns of their own.

    A family has the keys of a column, `sources` in place of `source` and `name`. A source "V1..V28" stands for all of
    them. Each gets its source's name in lower case, which counts as one of `extras`.

    >>> family = {"sources": ["V1..V3", "Device Type"], "type": "number", "treatment": "keep"}
    >>> made = expand_families({"families": [family], "columns": []})
    >>> [column["name"] for column in made["columns"]], made["extras"]
    (['v1', 'v2', 'v3', 'device_type'], ['v1', 'v2', 'v3', 'device_type'])
    """
    if not isinstance(raw, dict) or "families" not in raw:
        return raw
    raw = dict(raw)
    columns, extras = list(raw.get("columns", ())), list(raw.get("extras", ()))
    for family in raw.pop("families"):
        shared = {key: value for key, value in dict(family).items() if key != "sources"}
        sources = [source for stated in family.get("sources", ()) for source in _span(str(stated))]
        if not sources or {"source", "name"} & set(shared):
            raise ValueError("a family must have 'sources', a list, and no 'source' or 'name'; correct it")
        for source in sources:
            name = plain_name(source)
            columns.append({"source": source, "name": name} | shared)
            if name not in BY_NAME and name not in extras:
                extras.append(name)
    return raw | {"columns": columns, "extras": extras}


def plain_name(source: str) -> str:
    """Return a source column's name as a canonical one is written.

    >>> plain_name("Is Fraud?"), plain_name("3DS"), plain_name("oldbalanceOrg")
    ('is_fraud', 'c_3ds', 'oldbalanceorg')
    """
    name = re.sub(r"[^a-z0-9]+", "_", source.casefold()).strip("_")
    return name if re.match("[a-z]", name) else f"c_{name}"


def _span(stated: str) -> list[str]:
    """Return the names "id_01..id_38" stands for, or the one name it is."""
    found = re.fullmatch(r"(.*?)(\d+)\.\.\1(\d+)", stated)
    if not found:
        return [stated]
    width = len(found[2]) if found[2].startswith("0") else 1
    return [f"{found[1]}{number:0{width}d}" for number in range(int(found[2]), int(found[3]) + 1)]


def load_contract(path: str | Path) -> Contract:
    """Read and validate a column contract.

    Raises
    ------
    InputError : the file is missing or is not TOML; a key is unknown, missing or ill-typed; a name is no canonical one,
        is used twice or is missing; a treatment does not fit; a purpose is not declared. A line per problem.
    """
    path = Path(path)
    where = f"contract {path.name}"
    if not path.is_file():
        there = sorted(found.name for found in path.parent.glob("*.toml")) if path.parent.is_dir() else []
        raise InputError(f"contract: no file at {path}; {did_you_mean(path.name, there) if there else 'write one'}")
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{where}: not valid TOML: {error}") from None
    try:
        raw = expand_families(raw)
    except ValueError as error:
        raise InputError(f"{where}: {error}") from None
    problems: list[str] = []
    for number, column in enumerate(_tables(raw.get("columns")), 1):
        name = column.get("source", f"number {number}")
        problems += _explained(column, ContractColumn, f"{where}: column '{name}': ")
    declared = raw.get("purposes") if isinstance(raw.get("purposes"), dict) else {}
    for name, purpose in declared.items():
        problems += _explained(purpose, Purpose, f"{where}: purpose '{name}': ")
    refuse(problems)
    refuse(_explained(raw, Contract, f"{where}: "))
    return Contract.model_validate(raw)


def _tables(columns: Any) -> list[dict[str, Any]]:
    return [column for column in columns if isinstance(column, dict)] if isinstance(columns, list) else []


def _explained(raw: Any, model: type[BaseModel], where: str) -> list[str]:
    """Return the sentences for what is wrong with one table; none when it is right."""
    try:
        model.model_validate(raw)
    except ValidationError as error:
        sentences = [line.removeprefix("key 'the file': ") for line in explain_validation(error, model)]
        return [where + line for sentence in sentences for line in sentence.split("\n")]
    return []
