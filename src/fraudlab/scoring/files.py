"""`fraudlab score`: a file, or payments that the vault holds, scored in stretches that fit the memory.

What is held is the state of the features and three stretches of rows, whatever the size of the file: one is fetched,
one gets its features, one is decided on. The rows must come in the order of their times, as exports do; rows of one
moment may be in any order.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from fraudlab.config import Workspace
from fraudlab.datasets.readers import PARQUET_SUFFIXES, column_names, csv_start, existing, to_pandas
from fraudlab.schema import InputError, utc
from fraudlab.scoring.scorer import Deployed, Scorer, learn, load_history, open_door

ROWS = 500_000
"""Rows of a stretch: half a gigabyte with their features; the longer, the less of the past is read again."""
FORMATS = (".parquet", ".csv")
COLUMNS = ("transaction_id", "event_time", "score", "risk", "tier", "action", "rules", "reasons")


@dataclass
class Summary:
    """What a scoring brought: rows, alerts, tiers, what was missing."""

    rows: int = 0
    alerts: int = 0
    tiers: dict[str, int] = field(default_factory=dict)
    missing: dict[str, int] = field(default_factory=dict)


def score_file(
    workspace: Workspace,
    model: Deployed,
    source: Path,
    out: Path,
    *,
    lang: str = "en",
    reasons: bool = True,
    rows: int = ROWS,
    now: pd.Timestamp | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> Summary:
    """Score a file of raw transactions, with the vault's earlier payments as their history.

    Parameters
    ----------
    source : CSV or Parquet, columns as the data set's contract names them, in the order of time.
    out : Parquet or CSV, for its owner only; there as a whole or not at all.
    reasons : of alerts.
    rows : of a stretch.
    now : the clock, against which event times are held; None: not.
    say : is told how far it is.

    Raises
    ------
    InputError : the contract is broken, rows are not in the order of time, an ending is unknown.
    """
    _check_out(out)
    source = existing(source, "score")
    door = open_door(workspace, model)

    def chunks() -> Iterator[pd.DataFrame]:
        for raw in _read(source, rows, door.contract.sources):
            yield door.table(raw, now=now)

    summary = _score(workspace, model, chunks(), out, lang, reasons, say)
    summary.missing = dict(door.counts.missing)
    return summary


def score_vault(
    workspace: Workspace,
    model: Deployed,
    out: Path,
    *,
    since: pd.Timestamp | None = None,
    lang: str = "en",
    reasons: bool = True,
    rows: int = ROWS,
    say: Callable[[str], None] = lambda text: None,
) -> Summary:
    """Score payments that the vault holds, each with what was known at its moment; see `score_file`.

    Parameters
    ----------
    since : payments of this moment and later; default: all.
    """
    _check_out(out)
    say("loading the payments")
    payments = load_history(workspace, model)
    begin = 0 if since is None else int((payments["event_time"] < utc(since, "since")).sum())
    if begin == len(payments):
        raise InputError("score: the vault holds no payment since then; take an earlier moment")
    scorer = Scorer(model.package, learn(model.package, payments.iloc[:begin], say=say))
    chunks = (payments.iloc[start : start + rows] for start in range(begin, len(payments), rows))
    return _write(scorer, chunks, out, lang, reasons, say)


def _score(
    workspace: Workspace,
    model: Deployed,
    chunks: Iterator[pd.DataFrame],
    out: Path,
    lang: str,
    reasons: bool,
    say: Callable[[str], None],
) -> Summary:
    chunks = _in_order(chunks)
    first = next(chunks)
    history = load_history(workspace, model, before=first["event_time"].iloc[0])
    scorer = Scorer(model.package, learn(model.package, history, say=say))

    def every() -> Iterator[pd.DataFrame]:
        yield first
        yield from chunks

    return _write(scorer, every(), out, lang, reasons, say)


def _write(
    scorer: Scorer,
    chunks: Iterator[pd.DataFrame],
    out: Path,
    lang: str,
    reasons: bool,
    say: Callable[[str], None],
) -> Summary:
    summary = Summary()
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = out.with_name(f".{out.name}.{os.getpid()}")
    writer: pq.ParquetWriter | pa.csv.CSVWriter | None = None
    try:
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            for scored in scorer.tables(chunks, reasons=reasons, lang=lang):
                table = _arrow(scored)
                if writer is None:
                    parquet = out.suffix.lower() == ".parquet"
                    writer = pq.ParquetWriter(file, table.schema) if parquet else pa.csv.CSVWriter(file, table.schema)
                writer.write_table(table)
                summary.rows += len(scored)
                summary.alerts += int((scored["tier"] > "elevated").sum())
                for tier, n in scored["tier"].value_counts().items():
                    summary.tiers[str(tier)] = summary.tiers.get(str(tier), 0) + int(n)
                say(f"scored {summary.rows:,} payments, {summary.alerts:,} alerts")
            if writer is not None:
                writer.close()
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, out)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return summary


def _arrow(scored: pd.DataFrame) -> pa.Table:
    reasons = [" | ".join(each) for each in scored["reasons"]]
    plain = scored[list(COLUMNS)].assign(tier=scored["tier"].astype("str"), reasons=pd.Series(reasons, scored.index))
    return pa.Table.from_pandas(plain.astype({"reasons": "str"}), preserve_index=False)


def _read(path: Path, rows: int, declared: tuple[str, ...] | list[str]) -> Iterator[pd.DataFrame]:
    """Yield stretches of a file, CSV as text; other columns than the declared ones are not read."""
    if path.name.lower().endswith(PARQUET_SUFFIXES):
        wanted = [name for name in column_names(path) if name in set(declared)]
        try:
            with pq.ParquetFile(path) as file:
                for batch in file.iter_batches(batch_size=rows, columns=wanted):
                    yield to_pandas(pa.Table.from_batches([batch]), path)
        except (pa.ArrowException, OSError):
            raise InputError(f"{path.name}: is not a readable Parquet file; write it again at the source") from None
        return
    delimiter, names, more = csv_start(path)
    if not more:
        raise InputError(f"{path.name}: has a header and no rows; check the export and its filter")
    options = {
        "read_options": pa.csv.ReadOptions(block_size=16 << 20),
        "parse_options": pa.csv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
        "convert_options": pa.csv.ConvertOptions(
            column_types=dict.fromkeys(names, pa.large_string()),
            null_values=[""],
            strings_can_be_null=True,
            include_columns=[name for name in names if name in set(declared)],
        ),
    }
    try:
        with pa.csv.open_csv(str(path), **options) as reader:
            held: pa.Table | None = None
            for batch in reader:  # a block of the file, which may hold many stretches or a part of one
                fresh = pa.Table.from_batches([batch])
                held = fresh if held is None else pa.concat_tables([held, fresh])
                while held.num_rows > rows:
                    yield to_pandas(held.slice(0, rows), path)
                    held = held.slice(rows)
            if held is not None and held.num_rows:
                yield to_pandas(held, path)
    except (pa.ArrowException, UnicodeDecodeError):
        raise InputError(f"{path.name}: is not a readable CSV file in UTF-8; write it again at the source") from None


def _in_order(chunks: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
    """Yield the rows so that no moment is torn apart; refuse rows that lie before what came already."""
    held: pd.DataFrame | None = None
    done: pd.Timestamp | None = None
    for chunk in chunks:
        if done is not None and (early := int((chunk["event_time"] <= done).sum())):
            raise InputError(
                f"score: rows must come in the order of time; found {early:,} that lie before earlier ones; sort the "
                "file by its time at the source"
            )
        whole = chunk if held is None else pd.concat([held, chunk])
        whole = whole.sort_values(["event_time", "transaction_id"], kind="stable", ignore_index=True)
        last = whole["event_time"].iloc[-1]
        ready, held = whole[whole["event_time"] < last], whole[whole["event_time"] == last]
        if len(ready):
            done = ready["event_time"].iloc[-1]
            yield ready
    if held is not None:
        if repeated := int(held["transaction_id"].duplicated().sum()):
            raise InputError(f"score: transaction ids must be unique; found {repeated:,} repeated; remove them")
        yield held


def _check_out(out: Path) -> None:
    if out.suffix.lower() not in FORMATS:
        raise InputError(f"--out: must end in {' or '.join(FORMATS)}; found '{out.suffix}'; choose one of them")


def facts(summary: Summary) -> dict[str, Any]:
    """Return a summary as plain values."""
    return {
        "rows": summary.rows,
        "alerts": summary.alerts,
        "tiers": summary.tiers,
        "missing": summary.missing,
    }
