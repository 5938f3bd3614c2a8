"""From an unknown table to a contract and a run config that somebody can edit: proposed, with the reasons in them."""

from __future__ import annotations

import itertools
import json
import os
import re
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fraudlab.config import FeaturesConfig, SplitConfig, load_config, project_root
from fraudlab.datasets.contracts import ONE, ROW_NUMBER, load_contract, plain_name
from fraudlab.datasets.profile import Plan, Profile, compressed
from fraudlab.features.sets import configured_set
from fraudlab.schema import BY_NAME, InputError, as_known_at
from fraudlab.splits import Fold, temporal_fold

PURPOSE = "fraud-model-training"
FEWEST = {"train": 20, "valid": 10, "test": 10}
"""Frauds that a part must hold: to learn from, to tune and calibrate on, to judge by."""

SHARES = ((0.2, 0.15), (0.25, 0.2), (0.3, 0.25))
"""Shares of the test and the validation, tried in this order until each part has its frauds."""

DELAYS = ((60, 7), (20, 3), (8, 1), (0, 0))
"""Assumed label delay in days, by how many days the table spans at least."""

WIDE = 100
"""From this number of inputs on, fine bins cost more memory than they bring."""


@dataclass(frozen=True)
class Split:
    """How the table is divided: the shares, the assumed label delay, whether known victims leave the test; the fold."""

    test_share: float
    valid_share: float
    delay_days: int
    exclude: bool
    fold: Fold


@dataclass(frozen=True)
class Proposal:
    """A contract and a config as texts to write, what they leave out, and sentences about what was assumed.

    `left_out` are the features of the named set that the table lacks the columns for: feature, lacks.
    """

    name: str
    contract: str
    config: str
    split: Split
    features: int
    left_out: pd.DataFrame
    notes: tuple[str, ...]


def choose_split(found: Profile, *, now: pd.Timestamp | None = None) -> Split:
    """Choose shares and label delay so that every part holds the frauds it needs.

    Parameters
    ----------
    found : the table's profile.
    now : labels that the delay dates after this moment are not known. Default: the clock.

    Raises
    ------
    InputError : in no division every part holds enough frauds; the numbers are said.
    """
    now = pd.Timestamp.now("UTC") if now is None else now
    days = (found.time.max() - found.time.min()) / pd.Timedelta(days=1)
    longest = next(delay for least, delay in DELAYS if days >= least)
    most: dict[str, int] = {}
    delays = dict.fromkeys((longest, longest // 2, 0))
    # Known victims stay in the test only where too little is left without them.
    for exclude, delay in itertools.product([True, False] if found.entity is not None else [False], delays):
        frame = _bare(found, delay, now)
        for test_share, valid_share in SHARES:
            split = SplitConfig(
                test_share=test_share,
                valid_share=valid_share,
                delay_days=delay,
                min_positives=1,
                exclude_known_compromised=exclude,
            )
            try:
                fold = temporal_fold(frame, split)
            except InputError:
                continue
            if all(fold.frauds[part] >= least for part, least in FEWEST.items()):
                return Split(test_share, valid_share, delay, exclude, fold)
            if sum(fold.frauds.values()) > sum(most.values()):
                most = fold.frauds
    raise InputError(
        f"frauds: must be at least {FEWEST['train']} to learn from, {FEWEST['valid']} to tune on and {FEWEST['test']} "
        f"to judge by, one after the other in time; found at best {most.get('train', 0):,}, {most.get('valid', 0):,} "
        f"and {most.get('test', 0):,} of {int(found.label.sum()):,} in {days:,.1f} days; bring a longer table"
    )


def _bare(found: Profile, delay: int, now: pd.Timestamp) -> pd.DataFrame:
    """Return what a fold needs of the table, with labels as known by now."""
    number = np.arange(len(found.time))
    frame = pd.DataFrame(
        {
            "event_time": found.time.dt.as_unit("us"),
            "customer_id": number if found.entity is None else pd.factorize(found.entity)[0],
            "is_fraud": found.label,
            "transaction_id": number,
        }
    ).sort_values(["event_time", "transaction_id"], ignore_index=True)
    known = frame["event_time"] + pd.Timedelta(days=delay)
    return as_known_at(frame.assign(label_time=known.where(frame["is_fraud"].notna())), now)


def propose(found: Profile, *, name: str, data: Path, config_path: Path, now: pd.Timestamp | None = None) -> Proposal:
    """Write the contract and the config of a profiled table as texts.

    Parameters
    ----------
    found : the table's profile.
    name : of the data set, the run and the model: lower case letters, digits, hyphens.
    data : the table's file.
    config_path : where the config will be; its paths are written as seen from there.
    now : default: the clock.

    Raises
    ------
    InputError : a row lies in the future; there are too few frauds.
    """
    now = pd.Timestamp.now("UTC") if now is None else now
    if future := int((found.time > now).sum()):
        raise InputError(
            f"--time: moments must not lie in the future; found {future:,} of {len(found.time):,} rows; check "
            "--time-unit, the column and the source's clock"
        )
    split = choose_split(found, now=now)
    wanted = _features(found, split)
    feature_set, left_out = configured_set(wanted, _typed_empty(found.plans))
    inputs = len(feature_set.columns) + len(wanted.categories)
    budget = _budget(found, split)
    notes = [*found.notes, _delay_note(split)]
    if found.entity is not None and not split.exclude:
        notes.append("known victims stay in the test, as too few frauds would be left without them: figures flatter")
    if found.entity is not None and found.entity.nunique() == len(found.entity):
        notes.append("every row has an entity of its own: no history can be looked back on")
    return Proposal(
        name=name,
        contract=_contract_text(found, name, split, now),
        config=_config_text(found, name, data, config_path, split, wanted, inputs, budget),
        split=split,
        features=inputs,
        left_out=left_out,
        notes=tuple(notes),
    )


def write(proposal: Proposal, config_path: Path, *, force: bool = False) -> tuple[Path, Path]:
    """Write the proposed config and contract, and read them back; return their paths.

    Raises
    ------
    InputError : a file is there already and `force` is not set.
    """
    contract_path = config_path.parent / "contracts" / config_path.name
    for path in (config_path, contract_path):
        if path.exists() and not force:
            raise InputError(
                f"{path.name}: is there already in {path.parent.name}/ and may hold what somebody edited; take another "
                "--name, or --force to write over it"
            )
    for path, text in ((contract_path, proposal.contract), (config_path, proposal.config)):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}")
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, path)
    load_contract(contract_path)
    load_config(config_path)
    return config_path, contract_path


def name_of(path: Path) -> str:
    """Return a data set's name made of a file's: lower case, its endings left out.

    >>> name_of(Path("My Payments (2026).csv.gz"))
    'my-payments-2026'
    """
    stem = path.name
    while Path(stem).suffix.casefold() in (".csv", ".tsv", ".gz", ".parquet", ".pq"):
        stem = Path(stem).stem
    return re.sub(r"[^a-z0-9]+", "-", stem.casefold()).strip("-") or "table"


PUBLISHED = ("baf", "ieee-cis", "paysim", "sparkov", "tabformer", "ulb")
"""The public sets whose configs are shipped (docs/datasets.md); other configs are somebody's own."""


def ready_config(names: Iterable[str], folder: Path) -> Path | None:
    """Return the config of the public set in `folder` whose source columns are all among `names`; None without one.

    Of several, the one that reads most columns.
    """
    names, best = set(names), (0, None)
    for path in (folder / f"{name}.toml" for name in PUBLISHED):
        sources = load_contract(load_config(path).dataset.contract).sources if path.is_file() else ()
        if sources and set(sources) <= names and len(sources) > best[0]:
            best = (len(sources), path)
    return best[1]


def _features(found: Profile, split: Split) -> FeaturesConfig:
    """Choose the named set by what histories the table has, and the table's own columns."""
    repeats = found.entity is not None and found.entity.nunique() < len(found.entity)
    by_the_hour = bool((found.time.dt.hour != found.time.dt.hour.iloc[0]).any())
    return FeaturesConfig(
        set="card-v1" if repeats else "payment-v1" if by_the_hour else "amount-v1",
        missing="leave_out",
        labels=split.delay_days > 0,
        columns="all" if found.of("number") else (),
        categories=tuple(plan.column["name"] for plan in found.of("category") if plan.column),
    )


def _typed_empty(plans: Sequence[Plan]) -> pd.DataFrame:
    """Return no row of what a load will give, with the columns and their kinds."""
    kinds = {"transaction_id": "int64", "event_time": "datetime64[us, UTC]", "customer_id": "str", "amount": "float64"}
    kinds |= {"label_time": "datetime64[us, UTC]"}
    numeric = {"number": "float64", "time": "datetime64[us, UTC]", "boolean": "boolean"}
    for column in (plan.column for plan in plans if plan.column):
        kinds[column["name"]] = numeric.get(column["type"], "str")
    return pd.DataFrame({name: pd.Series(dtype=kind) for name, kind in kinds.items()})


def _budget(found: Profile, split: Split) -> int:
    """Return as many cases a day as the test has victims a day: a start that wastes little and misses little."""
    fold = split.fold
    days = max((fold.test_end - fold.test_start) / pd.Timedelta(days=1), 1.0)
    return int(np.clip(round(fold.frauds["test"] / days), 1, 1000))


def _delay_note(split: Split) -> str:
    if not split.delay_days:
        return (
            "when labels became known is not known, and the table is too short to leave a delay: figures assume they "
            "are known at once, and no feature counts known frauds"
        )
    return (
        f"when labels became known is not known: {split.delay_days} days were assumed for every row (label_delay_days "
        "in the contract, delay_days in the config); put in what is true for you"
    )


def _contract_text(found: Profile, name: str, split: Split, now: pd.Timestamp) -> str:
    held = int(np.ceil((now - found.time.min()) / pd.Timedelta(days=1)))
    entries = [plan for plan in found.plans if plan.column]
    extras = [plan.column["name"] for plan in entries if plan.column and plan.column["name"] not in BY_NAME]
    alike = [plan for plan in entries if _is_plain(plan)]
    lines = [
        f"# What enters of {name}, as what, and for whom. Proposed by `fraudlab quickstart` from what the columns hold",
        "# and are called: read it before you rely on it. What is not declared is dropped at ingest and counted.",
        f"name = {_toml(name)}",
        *(
            [f"extras = {_toml(own)}"]
            if (own := [n for n in extras if n not in {p.column["name"] for p in alike}])
            else []
        ),
        *(['timezone = "UTC"          # assumed for times that carry none'] if _naive(found) else []),
        f"label_delay_days = {split.delay_days}     # assumed: how long it takes until a label is known",
        "",
        f"[purposes.{PURPOSE}]",
        'basis = "legitimate-interest"    # assumed; your data protection officer decides',
        'meaning = "Train and judge models that find fraud"',
        f"retention_days = {max(730, held + 365)}    # longer than the table is old; put in what your rules say",
    ]
    if not found.of("id"):
        lines += _entry(
            ROW_NUMBER, {"name": "transaction_id", "type": "id", "treatment": "keep", "meaning": "the row's number"}
        )
    if not found.of("entity"):
        why = "the row's number: no column says whose row it is, so each is a case of its own"
        lines += _entry(ROW_NUMBER, {"name": "customer_id", "type": "id", "treatment": "pseudonymise", "meaning": why})
    if not found.has_amount:
        why = "1: no column tells an amount, so that money counts rows"
        lines += _entry(ONE, {"name": "amount", "type": "number", "treatment": "keep", "meaning": why})
    for plan in entries:
        if plan not in alike:
            lines += _entry(plan.source, plan.column or {})
    for kind in ("number", "text"):
        members = [plan for plan in alike if plan.column and plan.column["type"] == kind]
        if members:
            what = "numbers of the row" if kind == "number" else "categories of the row"
            lines += ["", "[[families]]", f"sources = {_list(compressed([plan.source for plan in members]))}"]
            lines += [
                f'type = "{kind}"',
                'treatment = "keep"',
                f"purposes = {_toml([PURPOSE])}",
                f"meaning = {_toml(what)}",
            ]
    left = [plan for plan in found.plans if plan.becomes == "left out"]
    if left:
        lines += ["", "# Left out, and why. To let one in, declare it as above."]
        reasons: dict[str, list[str]] = {}
        for plan in left:
            reasons.setdefault(plan.why, []).append(plan.source or "(no name)")
        for why, sources in reasons.items():
            lines += [f"# {line}" for line in _wrapped(f"{', '.join(compressed(sources))}: {why}")]
    return "\n".join(lines) + "\n"


def _is_plain(plan: Plan) -> bool:
    """Say whether a family can declare it: a number or a category kept as it is, under its own name."""
    column = plan.column or {}
    plain = {"name", "type", "treatment", "meaning"} == set(column) and column["treatment"] == "keep"
    return plan.role in ("number", "category") and plain and column["name"] == plain_name(plan.source)


def _naive(found: Profile) -> bool:
    """Say whether the time column may carry no zone: it is not counted."""
    return not any("unit" in (plan.column or {}) for plan in found.of("time"))


def _entry(source: str, column: dict[str, Any]) -> list[str]:
    keys = {"source": source} | column | {"purposes": [PURPOSE]}
    return ["", "[[columns]]", *(f"{key} = {_toml(value)}" for key, value in keys.items())]


def _config_text(
    found: Profile,
    name: str,
    data: Path,
    config_path: Path,
    split: Split,
    wanted: FeaturesConfig,
    inputs: int,
    budget: int,
) -> str:
    root, data = project_root(config_path), data.resolve()
    where = data.relative_to(root) if data.is_relative_to(root) else data
    contract = (config_path.parent / "contracts" / config_path.name).resolve().relative_to(root)
    frauds = split.fold.frauds
    histories = {
        "card-v1": "what each one's histories tell; features whose columns lack are left out",
        "payment-v1": "what a row alone tells: there is no history to look back on",
        "amount-v1": "the amount: there is no history and no time of day",
    }
    lines = [
        f"# How a model of {name} is made, proposed by `fraudlab quickstart`. Keys: `fraudlab config explain`.",
        f"# fraudlab retrain --config {config_path.name} does the whole job again after you have edited this.",
        f"name = {_toml(name)}",
        f"title = {_toml('Fraud in ' + name)}",
        "seed = 0",
        "",
        "[dataset]",
        f"name = {_toml(name)}",
        f"path = {_toml(where.as_posix())}",
        f"contract = {_toml(contract.as_posix())}",
        "",
        "[features]",
        f'set = "{wanted.set}"    # {histories[wanted.set]}',
        'missing = "leave_out"',
    ]
    if not wanted.labels:
        lines.append("labels = false          # no feature counts known frauds: nobody knows when they became known")
    if wanted.columns:
        lines.append('columns = "all"         # the contract\'s own numbers; or name some: ["age_of_account", ...]')
    if wanted.categories:
        lines.append(f"categories = {_list(list(wanted.categories))}")
    lines += [
        "",
        "[split]                 # all in the order of time; shares of the rows",
        f"test_share = {split.test_share:g}        # {frauds['test']:,} frauds to judge by",
        f"valid_share = {split.valid_share:g}      # {frauds['valid']:,} frauds to tune and calibrate on; "
        f"{frauds['train']:,} before to learn from",
        f"delay_days = {split.delay_days}          # as long as labels take; assumed",
    ]
    if not split.exclude:
        why = "nobody is known twice" if found.entity is None else "too few frauds would be left to judge by"
        lines.append(f"exclude_known_compromised = false    # {why}")
    lines += ["", "[model]", 'kind = "xgboost"', "n_estimators = 400", "learning_rate = 0.1", "max_depth = 4"]
    lines += [f"max_bin = 256           # {inputs} inputs: finer bins would need much memory"] if inputs >= WIDE else []
    whose = "cases" if found.entity is not None else "single rows: no column says whose they are"
    lines += [
        "",
        "[decision]",
        f"alerts_per_day = {budget}     # {whose}; as many as frauds a day: put in what your investigators can work",
        f"step_up_per_day = {3 * budget}",
    ]
    return "\n".join(lines) + "\n"


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_toml, value))}]"
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else str(value)


def _list(values: list[str]) -> str:
    """Write a list of texts over lines of readable length."""
    if len(whole := _toml(values)) <= 100:
        return whole
    lines = [""]
    for item in map(_toml, values):
        if len(lines[-1]) + len(item) > 100:
            lines.append("")
        lines[-1] += f"{item}, "
    return "[\n" + "\n".join(f"    {line.rstrip()}" for line in lines) + "\n]"


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, 110, break_long_words=False, break_on_hyphens=False)
