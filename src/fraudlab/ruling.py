"""Rules that people wrote, measured on a run's payments: alone, beside the model, within its budget, by their overlap.

Nothing is chosen here. Labels count only once their delay has passed, so that early reports do not flatter; shadow
rules are measured like the others and never acted on.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fraudlab import metrics, plots
from fraudlab.config import RunConfig
from fraudlab.datasets import indicators
from fraudlab.datasets.contracts import load_contract
from fraudlab.features.sets import configured_set
from fraudlab.metrics.cases import Cases, Data
from fraudlab.recipe import Prepared, score_part
from fraudlab.rulebook import RuleBook, answered, column_kinds, misfits, read_rules
from fraudlab.schema import TIME_DTYPE, InputError
from fraudlab.training import FittedModel

COLUMNS = ("rule", "status", "action", "view", "metric", "value", "low", "high", "n", "note")
"""Of the table `backtest` returns."""
VERSION_LOG = "rule_books.jsonl"
"""In the folder of runs: which rules each version of a book held when it was measured."""
OVERLAP_COLUMNS = ("first", "second", "cases", "both", "share")
_DTYPES = {"number": "float64", "time": TIME_DTYPE, "boolean": "boolean"}


def read_book(path: Path) -> RuleBook:
    """Read a rule book from its file.

    Raises
    ------
    InputError : there is no such file; and as `rulebook.read_rules`.
    """
    path = Path(path)
    if not path.is_file():
        there = sorted(found.name for found in path.parent.glob("*.toml")) if path.parent.is_dir() else []
        hint = f"found there: {', '.join(there)}" if there else "the folder has no .toml file"
        raise InputError(f"rule book: no file at {path}; {hint}")
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise InputError(f"rule book {path.name}: must be UTF-8 text; found other bytes; save it as UTF-8") from None
    return read_rules(text, f"rule book {path.name}")


def book_of(config: RunConfig) -> RuleBook | None:
    """Return the rule book a config names, None where it names none."""
    return None if config.rules.book is None else read_book(config.rules.book)


def columns_of_config(config: RunConfig) -> dict[str, str]:
    """Return the columns a rule may name under a config, with their kinds, from its contract and feature set alone.

    No data is read, so a book can be checked before anything is ingested.
    """
    contract = load_contract(config.dataset.contract)
    allowed = [column for column in contract.columns if column.in_features and config.purpose in column.purposes]
    empty = pd.DataFrame({c.name: pd.Series(dtype=_DTYPES.get(c.becomes, "object")) for c in allowed})
    shared = [name for name in indicators.COLUMNS if indicators.base_of(name) in empty]  # those of other institutions
    empty = empty.assign(**dict.fromkeys(shared, pd.Series(dtype="float64")))
    features, _ = configured_set(config.features, empty)
    return dict.fromkeys(features.columns, "number") | column_kinds(empty)


def rule_table(part: Mapping[str, Any]) -> pd.DataFrame:
    """Put the columns of transactions and features side by side, as rules read them.

    Parameters
    ----------
    part : of `Prepared.rows`. Where both hold a column of a name, that of the transactions counts.
    """
    transactions, features = part["transactions"], part["features"]
    more = [name for name in features.columns if name not in transactions.columns]
    return pd.concat([transactions, features[more]], axis=1)


@dataclass(frozen=True)
class Measured:
    """The payments that rules are measured on, and how many were left out because of their labels.

    `keep` are the rows of the part of the fold whose label delay had passed by `known_until`.
    """

    part: Mapping[str, Any]
    keep: np.ndarray
    known_until: pd.Timestamp
    immature: int
    unlabelled: int

    @property
    def transactions(self) -> pd.DataFrame:
        """The payments."""
        return self.part["transactions"][self.keep].reset_index(drop=True)

    @property
    def table(self) -> pd.DataFrame:
        """What rules read of them."""
        return rule_table(self.part)[self.keep].reset_index(drop=True)

    @property
    def y(self) -> np.ndarray:
        """Their labels."""
        return self.part["y"][self.keep]


def matured(prepared: Prepared, config: RunConfig, part: str = "test") -> Measured:
    """Return the payments of a part whose label delay had passed when the data were read.

    What is known ends at `as_of`, else with the latest payment or label. A label that came before its delay had passed
    is left out with the others of its day: early ones are nearly all frauds.
    """
    rows, transactions = prepared.rows(part), prepared.transactions
    known = config.as_of_time
    if known is None:
        known = max(transactions[name].max() for name in ("event_time", "label_time") if name in transactions)
    old = rows["transactions"]["event_time"] + prepared.fold.delay <= known
    missing = int(prepared.fold.unlabelled.get(part, 0))
    return Measured(rows, old.to_numpy(), known, int((~old).sum()), missing)


def scores_of(
    models: Mapping[str, FittedModel], prepared: Prepared, config: RunConfig, part: str = "test"
) -> pd.DataFrame:
    """Return the candidate's scores on the test part, or on validation those it had before its refit."""
    name = config.model.kind
    if part == "valid":
        return pd.DataFrame({name: models[name].valid_score})
    return score_part({name: models[name]}, prepared, part)


def backtest(
    book: RuleBook | None,
    prepared: Prepared,
    scores: pd.DataFrame | None,
    config: RunConfig,
    *,
    part: str = "test",
    n_boot: int = 200,
) -> pd.DataFrame:
    """Measure every rule alone and what it would change at the model's budget, on matured labels.

    Parameters
    ----------
    book : the rules; None gives an empty table. Retired ones are left out.
    prepared : what the model was trained on.
    scores : of the part, with a column for `config.model.kind`; None: rules are measured alone.
    config : its budget, costs and entity.
    part : "test", or "valid" while rules are being written, so that the test stays unseen.
    n_boot : bootstrap replicates over entities.

    Returns
    -------
    DataFrame with `COLUMNS`: the rows of `metrics.rule_outcomes` with each rule's status and action. Rule "model" is
    the model alone, "together" the active rules as one. View "alone" also has `unknown_share`: payments for which a
    missing value leaves open whether the rule fires. A rule that does not fit the columns has one row, "not applicable"
    with the reason. Last come the payments left out, rule "payments".

    Raises
    ------
    InputError : no payment has a matured label.
    """
    if book is None:
        return pd.DataFrame(columns=list(COLUMNS))
    measured = matured(prepared, config, part)
    if not measured.keep.any():
        raise InputError(
            f"rules: need payments of the {part} part whose label delay has passed; found none; load a later as_of"
        )
    transactions, decision = measured.transactions, config.decision
    answers, unfit = _answers(book, measured)
    active = [rule.id for rule in book.of() if rule.id in answers]
    table = metrics.rule_outcomes(
        measured.y,
        answers.fillna(False).astype(bool),
        score=None if scores is None else scores[config.model.kind].to_numpy()[measured.keep],
        event_time=transactions["event_time"],
        entity=transactions[config.split.entity],
        amount=transactions["amount"].to_numpy(),
        k=decision.alerts_per_day,
        review_cost=decision.review_cost,
        recovery_rate=decision.recovery_rate,
        false_alarm_cost=decision.false_alarm_cost,
        together=active if len(active) > 1 else (),
        n_boot=n_boot,
        seed=config.seed,
    )
    if part == "valid" and scores is not None:
        shown = ~table["note"].str.startswith("not ")
        table.loc[shown, "note"] += "; the model was tuned on these payments, which flatters it"
    table = pd.concat(
        [table, _unknown(answers), _unfit(unfit, table), _left_out(measured, prepared)], ignore_index=True
    )
    named = {rule.id: rule for rule in book.rules}
    also = {"together": "active"}
    table["status"] = [named[name].status if name in named else also.get(name, name) for name in table["rule"]]
    table["action"] = [named[name].action if name in named else "none" for name in table["rule"]]
    return table[list(COLUMNS)].astype({"value": "float64", "low": "float64", "high": "float64"})


def _answers(book: RuleBook, measured: Measured) -> tuple[pd.DataFrame, dict[str, str]]:
    """Return what the active and shadow rules that fit the columns say, and what is wrong with the others."""
    table, status = measured.table, ("active", "shadow")
    unfit = misfits(book, column_kinds(table), status)
    fitting = book.model_copy(update={"rule": tuple(rule for rule in book.rules if rule.id not in unfit)})
    return answered(fitting, table, status=status), unfit


def _unfit(unfit: Mapping[str, str], table: pd.DataFrame) -> pd.DataFrame:
    notes = {rule: f"not applicable: {problem.replace(chr(10), '; ')}" for rule, problem in unfit.items()}
    rows = pd.DataFrame({"rule": list(notes), "note": list(notes.values())}, dtype="object")
    return rows.assign(view="alone", metric="alerts_per_day", value=np.nan, low=np.nan, high=np.nan, n=table["n"].max())


def _unknown(answers: pd.DataFrame) -> pd.DataFrame:
    rows = []
    for name in answers:
        count = int(answers[name].isna().sum())
        few = 0 < count < metrics.SMALLEST_CELL
        note = "not shown: fewer than 10 payments" if few else "share of the payments; no interval"
        value = np.nan if few else count / len(answers)
        rows.append({"rule": name, "metric": "unknown_share", "value": value, "n": len(answers), "note": note})
    return pd.DataFrame(rows).assign(view="alone", low=np.nan, high=np.nan)


def _left_out(measured: Measured, prepared: Prepared) -> pd.DataFrame:
    until, days = measured.known_until.strftime("%Y-%m-%d"), prepared.fold.delay / pd.Timedelta(days=1)
    said = {
        "left_out_immature": (measured.immature, f"their label delay of {days:g} days had not passed by {until}"),
        "left_out_unlabelled": (measured.unlabelled, f"their label was not known by {until}"),
    }
    rows = []
    for metric, (count, note) in said.items():
        few = 0 < count < metrics.SMALLEST_CELL
        note = f"not shown: fewer than 10; {note}" if few else note
        rows.append({"metric": metric, "value": np.nan if few else float(count), "note": note})
    return pd.DataFrame(rows).assign(rule="payments", view="alone", low=np.nan, high=np.nan, n=int(measured.keep.sum()))


def overlap(
    book: RuleBook | None,
    prepared: Prepared,
    scores: pd.DataFrame | None,
    config: RunConfig,
    *,
    part: str = "test",
) -> pd.DataFrame:
    """Count how many cases two rules, or a rule and the model at its budget, have in common.

    Returns
    -------
    DataFrame with `OVERLAP_COLUMNS`, a row per ordered pair: first, second (rule ids or "model"), cases (of the first),
    both (of them, those the second has as well), share (both / cases; NaN where the first has none). Every pair with
    itself is there too. Small counts are hidden when it is saved (`privacy.disclosure`).
    """
    if book is None:
        return pd.DataFrame(columns=list(OVERLAP_COLUMNS))
    measured = matured(prepared, config, part)
    transactions = measured.transactions
    answers = _answers(book, measured)[0].fillna(False).astype(bool)
    score = np.zeros(len(transactions)) if scores is None else scores[config.model.kind].to_numpy()[measured.keep]
    data = Data.read(measured.y, score, transactions["event_time"], transactions[config.split.entity])
    cases = Cases.of(data)
    marks = {name: np.zeros(len(cases.day), dtype=bool) for name in answers}
    for name, mark in marks.items():
        mark[cases.of_row[answers[name].to_numpy()]] = True
    if scores is not None:
        marks = {"model": cases.place < config.decision.alerts_per_day} | marks
    rows = []
    for first, mine in marks.items():
        for second, theirs in marks.items():
            count, both = int(mine.sum()), int((mine & theirs).sum())
            rows.append((first, second, count, both, both / count if count else np.nan))
    return pd.DataFrame(rows, columns=list(OVERLAP_COLUMNS))


def overview(table: pd.DataFrame, book: RuleBook | None = None, *, intervals: bool = False) -> pd.DataFrame:
    """Lay a backtest out for reading: a row per rule, what it brings alone, what it adds, what it changes, in words.

    Columns: rule (its title where the book is given), status, then per view the figures that decide. Between what a
    figure of 1 to 9 frauds lies is said; "few" stands where not even that may be, "–" where there is no such figure.
    `intervals` puts the 95 % interval behind each value.
    """
    shown = {
        ("alone", "alerts_per_day"): "cases a day",
        ("alone", "precision"): "fraud among them",
        ("alone", "recall"): "frauds caught",
        ("beside", "alerts_per_day"): "more cases a day",
        ("beside", "precision"): "fraud among these",
        ("beside", "recall"): "more frauds caught",
        ("beside", "net_saved_per_day"): "saved more a day",
        ("within", "displaced_per_day"): "displaced a day",
        ("within", "recall"): "frauds caught, change",
        ("within", "net_saved_per_day"): "saved a day, change",
    }
    named = titles(book) | {"model": "the model", "together": "active rules together"}
    rows = []
    for rule, found in table[table["rule"] != "payments"].groupby("rule", sort=False):
        cells = found.set_index(["view", "metric"], drop=False)
        figures = {
            said: figure_text(cells.loc[key], interval=intervals) if key in cells.index else "–"
            for key, said in shown.items()
        }
        rows.append({"rule": named.get(str(rule), str(rule)), "status": found["status"].iloc[0], **figures})
    return pd.DataFrame(rows, columns=["rule", "status", *shown.values()])


def figure_text(row: pd.Series, *, interval: bool = False) -> str:
    """Return one figure of a backtest in words: its value, between what it lies, or why there is none.

    >>> few = {"metric": "recall", "view": "beside", "value": np.nan, "low": 0.01, "high": 0.09}
    >>> figure_text(pd.Series(few | {"note": metrics.FEW_FRAUDS}))
    '1.00 % to 9.00 %'
    """
    changed = row["view"] == "within" and row["metric"] != "displaced_per_day"

    def said(number: float) -> str:
        if row["metric"] in ("precision", "recall", "money_caught_share", "unknown_share"):
            return plots.points(number) if changed else plots.share(number)
        text = f"{number:,.0f}" if row["metric"] in ("net_saved_per_day", "customers_bothered") else f"{number:,.1f}"
        return ("+" if changed and number > 0 else "") + text.replace("-", "−")

    if pd.notna(row["value"]):
        ends = f" ({said(row['low'])} to {said(row['high'])})" if interval and row["low"] < row["high"] else ""
        return said(row["value"]) + ends
    if str(row["note"]).startswith(metrics.FEW_FRAUDS) and pd.notna(row["high"]):
        return f"{said(row['low'])} to {said(row['high'])}"
    return "–" if str(row["note"]).startswith("not applicable") else "few"


def headline(table: pd.DataFrame) -> str:
    """Say in one line what the active rules add to the model's cases, together or the only one."""
    if table.empty:
        return "There is no rule book."
    found = table[(table["view"] == "beside") & (table["status"] == "active")]
    name = "together" if "together" in set(found["rule"]) else next(iter(found["rule"]), None)
    if name is None:
        return "No active rule was measured beside a model."
    cells = found[found["rule"] == name].set_index("metric", drop=False)
    cases, frauds = (figure_text(cells.loc[metric]) for metric in ("alerts_per_day", "recall"))
    if "few" in (cases, frauds):
        return "What the active rules add to the model is too little to be shown."
    return f"On top of the model's, the active rules bring {cases} cases a day and {frauds} more of the frauds."


def titles(book: RuleBook | None, language: str = "en") -> dict[str, str]:
    """Return rule id -> title in a language, for pictures; empty where there is no book."""
    return {} if book is None else {rule.id: rule.said(language) for rule in book.rules}


def facts(book: RuleBook | None, log: Path | None = None) -> dict[str, Any]:
    """Return a rule book as evidence: name, version, digest, told, rules; all empty where there is none.

    Parameters
    ----------
    log : where the versions seen so far are noted; what it has to say of this one is `told` (see `note_version`).
    """
    if book is None:
        return {"name": None, "version": None, "digest": None, "told": "", "rules": []}
    return {
        "name": book.name,
        "version": book.version,
        "digest": book.digest,
        "told": "" if log is None else note_version(log, book),
        "rules": [rule.model_dump(mode="json") for rule in book.rules],
    }


def version_problem(log: Path, book: RuleBook) -> str:
    """Say what is wrong with a book's version beside those seen before; empty where nothing is."""
    seen = [entry for entry in _seen(log) if entry["book"] == book.name]
    if any(entry["version"] == book.version and entry["digest"] != book.digest for entry in seen):
        return (
            f"rule book '{book.name}' was changed without raising its version: version {book.version} was measured "
            "with other rules before; raise `version`"
        )
    newest = max((entry["version"] for entry in seen), default=0)
    if newest > book.version:
        return f"rule book '{book.name}' is at version {book.version}, and version {newest} was measured before"
    return ""


def note_version(log: Path, book: RuleBook) -> str:
    """Note which rules a version held when it was measured, once; return `version_problem`.

    Parameters
    ----------
    log : JSON lines {book, version, digest}; made when absent, for its owner only.
    """
    entry = {"book": book.name, "version": book.version, "digest": book.digest}
    if entry not in _seen(log):
        log.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with os.fdopen(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "w", encoding="utf-8") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.write(json.dumps(entry) + "\n")
    return version_problem(log, book)


def _seen(log: Path) -> list[dict[str, Any]]:
    lines = log.read_text(encoding="utf-8").splitlines() if log.is_file() else []
    found = []
    for number, line in enumerate(lines, start=1):
        try:
            entry = json.loads(line)
            found.append({name: entry[name] for name in ("book", "version", "digest")})
        except (ValueError, KeyError, TypeError):
            raise InputError(
                f"{log.name}: each line must be a version of a rule book; found another in line {number}; restore the "
                "file from a backup, or move the line out"
            ) from None
    return found
