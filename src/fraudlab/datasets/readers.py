"""Sources: the simulator or one file, read under a contract into declared columns of declared types.

A card number must not become a float, the postcode 01234 not 1234, the country NA not missing: everything in a CSV file
is read as text and then given the type the contract states. A message never holds a value of a row.
"""

from __future__ import annotations

import csv
import datetime as dt
import difflib
import hashlib
import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from fraudlab.config import DatasetConfig, digest_of
from fraudlab.datasets.contracts import MADE, ROW_NUMBER, UNITS, Contract, ContractColumn
from fraudlab.privacy.treatments import arrow_text
from fraudlab.schema import InputError, did_you_mean, refuse

DELIMITERS = ",;\t|"
CSV_SUFFIXES = (".csv", ".csv.gz", ".tsv", ".tsv.gz")
PARQUET_SUFFIXES = (".parquet", ".pq")
_COLUMN_NAME = re.compile(r"(?!.*[0-9]{4})[A-Za-z_][A-Za-z0-9_ ]{0,62}")
CURRENCY_SIGNS = "$€£¥"
FIRST_YEAR, LAST_YEAR = 1900, 2200
_WITH_ZONE = r"\d\d:\d\d.*(?:[Zz]|[+-]\d\d(?::?\d\d)?)$"


@dataclass(frozen=True)
class Source:
    """A raw table under canonical names, and where it came from.

    Attributes
    ----------
    frame : the declared columns in declared types; raw values, for memory only.
    undeclared : other source columns and how many of their values were there.
    digest : sha-256 of the file, or of the simulator's settings and code.
    description : the source in a few words, without a path.
    """

    frame: pd.DataFrame
    undeclared: dict[str, int]
    digest: str
    description: str


def source_digest(dataset: DatasetConfig, seed: int) -> str:
    """Return the sha-256 of a file's bytes, or of the simulator's settings, seed and code, without reading a table.

    Raises
    ------
    InputError : the file is missing or cannot be read.
    """
    if dataset.source == "simulate":
        code = hashlib.sha256()
        for path in sorted(Path(__file__).parent.glob("*.py")):
            code.update(path.read_bytes())
        settings = dataset.simulate.model_dump(mode="json")
        return digest_of({"simulate": settings, "seed": seed, "code": code.hexdigest()})
    digests = [_file_digest(existing(path, dataset.name), dataset.name) for path in dataset.files]
    return digests[0] if len(digests) == 1 else digest_of(digests)


def read_source(dataset: DatasetConfig, contract: Contract, seed: int) -> Source:
    """Read a raw table under its contract; simulated payments are made in memory and never touch the disk.

    Raises
    ------
    InputError : the file is missing, empty, of an unknown format or undecodable; a declared column is missing; a column
        holds values that are not of its declared type, with their count.
    """
    digest = source_digest(dataset, seed)
    where = dataset.name
    if dataset.source == "simulate":
        from fraudlab.datasets.simulate import simulate

        settings = dataset.simulate
        raw = simulate(settings, seed)
        said = f"simulated payments ({settings.customers:,} customers, {settings.days} days, seed {seed})"
        _refuse_names(contract, list(raw.columns), where)
        others = raw.drop(columns=contract.sources).astype("str")
        undeclared = {name: int(values.replace("", None).count()) for name, values in others.items()}
        return Source(_typed(raw, contract, where), undeclared, digest, said)
    paths = [existing(path, where) for path in dataset.files]
    beside = paths[-1] if dataset.attach else None
    names = column_names(paths[0])
    if beside:
        names += _without_key(column_names(beside), beside, dataset.key or "")
    _refuse_names(contract, names, where)
    table = _appended([read_table(path) for path in paths[: 1 + len(dataset.append)]], paths, where)
    if table.num_rows == 0:
        raise InputError(f"{where}: the table has no rows; check the source and its filter")
    if beside:
        table = _attached(table, read_table(beside), dataset.key or "", where)
    declared = dict.fromkeys(contract.sources)
    undeclared = {name: _present(table[name]) for name in table.column_names if name not in declared}
    raw = to_pandas(table.select(list(declared)), paths[0])
    return Source(_typed(raw, contract, where), undeclared, digest, " and ".join(path.name for path in paths))


def _file_digest(path: Path, where: str) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(
            f"{where}: {path.name} cannot be read ({error.strerror or error}); correct its rights or its disk"
        ) from None


def _appended(tables: list[pa.Table], paths: list[Path], where: str) -> pa.Table:
    first, *others = tables
    for other, path in zip(others, paths[1:]):
        if lacking := sorted(set(first.column_names) ^ set(other.column_names)):
            raise InputError(
                f"{where}: {path.name} must have the columns of {paths[0].name} to be appended; "
                f"found {len(lacking):,} in one of them only; export both alike"
            )
    if not others:
        return first
    try:
        rest = [other.select(first.column_names) for other in others]
        return pa.concat_tables([first, *rest], promote_options="permissive")
    except pa.ArrowException:
        raise InputError(f"{where}: the appended files hold columns of different types; export them alike") from None


def _without_key(names: list[str], path: Path, key: str) -> list[str]:
    if key not in names:
        raise InputError(f"dataset.key: {path.name} has no column '{key}'; {did_you_mean(key, names)}")
    return [name for name in names if name != key]


def _attached(table: pa.Table, beside: pa.Table, key: str, where: str) -> pa.Table:
    """Put the columns of `beside` next to the rows with the same key; the rows and their order stay."""
    if key not in table.column_names:
        raise InputError(f"dataset.key: the first file has no column '{key}'; {did_you_mean(key, table.column_names)}")
    keys, wanted = (part[key].cast(pa.large_string()) for part in (beside, table))
    if repeated := len(keys) - len(keys.unique()):
        raise InputError(
            f"{where}: column '{key}' must be unique in the attached file; found {repeated:,} repeated of {len(keys):,}"
        )
    found = beside.drop_columns([key]).take(pc.index_in(wanted.combine_chunks(), value_set=keys.combine_chunks()))
    for name in found.column_names:
        table = table.append_column(name, found[name])
    return table


def existing(path: Path, where: str) -> Path:
    """Return the path of a CSV or Parquet file that is there and holds something.

    Raises
    ------
    InputError : no such file, of another kind, or empty.
    """
    known = CSV_SUFFIXES + PARQUET_SUFFIXES
    if not path.is_file():
        folder = path.parent
        there = [p.name for p in folder.iterdir() if p.name.lower().endswith(known)] if folder.is_dir() else []
        hint = did_you_mean(path.name, there) if there else "correct dataset.path"
        raise InputError(f"{where}: no data file at {path}; {hint}")
    if not path.name.lower().endswith(known):
        raise InputError(f"{where}: {path.name} must be CSV or Parquet; known endings are: {', '.join(known)}")
    if path.stat().st_size == 0:
        raise InputError(f"{where}: {path.name} is empty; check the export that wrote it")
    return path


def column_names(path: Path) -> list[str]:
    """Return the names of a file's columns, without reading the rest of it.

    Raises
    ------
    InputError : the file cannot be read as what its ending says.
    """
    if path.name.lower().endswith(PARQUET_SUFFIXES):
        try:
            return list(pq.read_schema(path).names)
        except (pa.ArrowException, OSError):
            raise InputError(f"{path.name}: is not a readable Parquet file; write it again at the source") from None
    return csv_start(path)[1]


def read_table(path: Path) -> pa.Table:
    """Read a whole file: a CSV file as text, empty fields missing; a Parquet file as it is.

    Raises
    ------
    InputError : the file cannot be read as what its ending says, is not UTF-8 text, has rows of another length or none.
    """
    if not path.name.lower().endswith(PARQUET_SUFFIXES):
        return _read_csv(path)
    try:
        with pq.ParquetFile(path) as file:
            return file.read()
    except (pa.ArrowException, OSError):
        raise InputError(f"{path.name}: is not a readable Parquet file; write it again at the source") from None


def csv_start(path: Path) -> tuple[str, list[str], bool]:
    """Return the delimiter, the header's names and whether there is more than a header."""
    try:
        with pa.input_stream(str(path)) as stream:
            start = stream.read(1 << 20).decode("utf-8-sig", errors="ignore")
        first, _, rows = start.partition("\n")
        if "\0" in first:
            raise _undecodable(path)
        delimiter = max(DELIMITERS, key=first.count)
        names = next(csv.reader(io.StringIO(start, newline=""), delimiter=delimiter), [])
    except (pa.ArrowException, OSError, csv.Error):
        raise InputError(f"{path.name}: cannot be read or unpacked; write it again at the source") from None
    return delimiter, names, bool(rows.strip())


def _undecodable(path: Path) -> InputError:
    return InputError(f"{path.name}: is not UTF-8 text; export it as UTF-8")


def _read_csv(path: Path) -> pa.Table:
    delimiter, names, more = csv_start(path)
    if not more:
        raise InputError(f"{path.name}: has a header and no rows; check the export and its filter")
    ragged = 0

    def count(row: pa.csv.InvalidRow) -> str:
        nonlocal ragged
        ragged += 1
        return "skip"

    try:
        table = pa.csv.read_csv(
            str(path),
            parse_options=pa.csv.ParseOptions(delimiter=delimiter, newlines_in_values=True, invalid_row_handler=count),
            convert_options=pa.csv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.large_string()), null_values=[""], strings_can_be_null=True
            ),
        )
    except UnicodeDecodeError:
        raise _undecodable(path) from None
    except pa.ArrowException as error:
        if "UTF8" in str(error) or "UTF-8" in str(error):
            raise _undecodable(path) from None
        raise InputError(f"{path.name}: is not a readable CSV file; write it again at the source") from None
    if ragged:
        raise InputError(
            f"{path.name}: each row must have the header's {len(names)} fields; found {ragged:,} rows with another "
            "number; quote fields that hold the delimiter"
        )
    return table


def to_pandas(table: pa.Table, path: Path) -> pd.DataFrame:
    """Convert columns without loss: missing integers stay integers, bytes become text, decimals numbers."""
    refuse(
        [
            f"{path.name}: column '{field.name}' must hold text, numbers, times or yes and no; "
            f"found {str(field.type).split('<')[0].split('[')[0]}; write it again at the source"
            for field in table.schema
            if not _readable(field.type)
        ]
    )
    for number, field in enumerate(table.schema):
        plain = _plain_type(field.type)
        if plain is not None:
            try:
                table = table.set_column(number, field.name, table[number].cast(plain))
            except pa.ArrowException:
                raise InputError(
                    f"{path.name}: column '{field.name}' holds {field.type} that cannot be read as {plain}; "
                    "write it again at the source"
                ) from None
    nullable = {
        pa.bool_(): pd.BooleanDtype(),
        **{getattr(pa, f"{sign}int{bits}")(): pd.Int64Dtype() for sign in ("", "u") for bits in (8, 16, 32, 64)},
    }
    return table.to_pandas(types_mapper=nullable.get, date_as_object=False, ignore_metadata=True)


def _plain_type(kind: pa.DataType) -> pa.DataType | None:
    if _is_bytes(kind) or any(
        special(kind) for special in (pa.types.is_dictionary, pa.types.is_null, pa.types.is_string_view)
    ):
        return pa.large_string()
    if pa.types.is_decimal(kind):
        return pa.float64()
    if pa.types.is_uint64(kind):
        return pa.int64()
    return None


def _readable(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        return _readable(kind.value_type)
    return _plain_type(kind) is not None or any(
        fits(kind)
        for fits in (
            pa.types.is_string,
            pa.types.is_large_string,
            pa.types.is_integer,
            pa.types.is_floating,
            pa.types.is_boolean,
            pa.types.is_timestamp,
            pa.types.is_date,
        )
    )


def _is_bytes(kind: pa.DataType) -> bool:
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind)


def _refuse_names(contract: Contract, present: list[str], where: str) -> None:
    """Refuse a source that lacks declared columns or repeats a name.

    In a file without a header row the "names" are a customer's data: only declared names are said, and a present one
    only where it can be nothing but a misspelt declared one.
    """
    declared = set(contract.sources)
    missing = [name for name in contract.sources if name not in set(present)]
    others = [name for name in present if name not in declared]
    if missing:
        has_header = 2 * len(missing) <= len(contract.sources)
        told = ", ".join(f"'{name}'{_hint(name, others, has_header)}" for name in missing)
        found = f"found {len(others):,} other column{'' if len(others) == 1 else 's'}"
        ask = "correct the source or the contract" if has_header else "is there a header row, and is this its contract?"
        raise InputError(f"{where}: declared columns are missing: {told}; {found}; {ask}")
    repeated = {name for name in present if present.count(name) > 1}
    if repeated:
        declared = [f"'{name}'" for name in contract.sources if name in repeated]
        undeclared = len(repeated) - len(declared)
        told = ", ".join(declared + ([f"{undeclared:,} undeclared"] if undeclared else []))
        raise InputError(f"{where}: column names must differ; found {told} repeated; rename them at the source")


def _hint(name: str, others: list[str], has_header: bool) -> str:
    """Name the other column that is this one misspelt; nothing where it might be a value."""
    candidates = {_folded(other): other for other in others if _COLUMN_NAME.fullmatch(other)}
    near = difflib.get_close_matches(_folded(name), candidates, n=1, cutoff=0.8 if has_header else 1.0)
    return f" (did you mean '{candidates[near[0]]}'?)" if near else ""


def _folded(name: str) -> str:
    return re.sub(r"[\W_]+", "", name).casefold()


def _present(values: pa.ChunkedArray) -> int:
    """Count values that are there; an empty text is none, nor is NaN."""
    if pa.types.is_string_view(values.type):
        values = values.cast(pa.large_string())
    there = len(values) - (pc.sum(pc.is_null(values, nan_is_null=True)).as_py() or 0)
    texts = pa.types.is_string(values.type) or pa.types.is_large_string(values.type)
    return there - (pc.sum(pc.equal(values, "")).as_py() or 0) if texts else there


def _typed(raw: pd.DataFrame, contract: Contract, where: str) -> pd.DataFrame:
    problems: list[str] = []
    typed: dict[str, pd.Series] = {}
    for column in contract.columns:
        values, problem = read_column(_source_of(raw, column), column, contract.timezone)
        if problem:
            problems.append(f"{where}: {spoken(column)} {problem}")
        typed[column.name] = values
    refuse(problems)
    return pd.DataFrame(typed)


def _source_of(raw: pd.DataFrame, column: ContractColumn) -> pd.Series:
    """Return the raw values a column is read from: made, or those of one source column or of several."""
    if column.source in MADE:
        made = np.arange(len(raw)) if column.source == ROW_NUMBER else np.ones(len(raw))
        return pd.Series(made, index=raw.index)
    if not column.join:
        return raw[column.source]
    return joined([raw[name] for name in (column.source, *column.join)])


def joined(parts: Sequence[pd.Series]) -> pd.Series:
    """Write values one behind the other with a blank between; a missing part is left empty, missing where all are.

    >>> joined([pd.Series(["2026", "2026"]), pd.Series([1, 12])]).tolist()
    ['2026 1', '2026 12']
    """
    there = pd.concat([part.notna() for part in parts], axis=1).any(axis=1)
    texts = [part.astype("str").fillna("") for part in parts]
    whole = texts[0]
    for text in texts[1:]:
        whole = whole + " " + text
    return whole.where(there)


def read_column(values: pd.Series, column: ContractColumn, zone: str | None) -> tuple[pd.Series, str]:
    """Give raw values the type a contract's column states; the second is what does not fit, empty where all does."""
    if column.unit:
        return _counted_time(values, column.unit, column.since or dt.date(1970, 1, 1))
    if column.format:
        return _written_time(values, column.format, zone)
    if column.yes is not None and pd.api.types.is_string_dtype(values.dtype):
        said = {column.yes.strip().casefold(): "1", (column.no or "").strip().casefold(): "0"}
        plain = values.str.strip().str.casefold()
        wrong = int((plain.notna() & ~plain.isin([*said, ""])).sum())
        values = plain.map(said).astype("str")
        if wrong:
            return values, (
                f"must be '{column.yes}', '{column.no}' or missing; found {wrong:,} other values; correct the contract"
            )
    values, problem = _AS_TYPE[column.type](values, zone)
    return (values.abs() if column.absolute and not problem else values), problem


def spoken(column: ContractColumn) -> str:
    """Name a column for a message: the source's name, and the canonical one when it differs."""
    return f"column '{column.source}'" + ("" if column.name == column.source else f" (for '{column.name}')")


def _id(values: pd.Series, zone: str | None) -> tuple[pd.Series, str]:
    if not pd.api.types.is_integer_dtype(values.dtype):
        return _text(values, zone)
    # Whole numbers with gaps become text: as numbers they would pass through floating point.
    return (values.astype("str") if values.isna().any() else values.astype("int64")), ""


def _text(values: pd.Series, zone: str | None) -> tuple[pd.Series, str]:
    if pd.api.types.is_float_dtype(values.dtype):
        return values, "must hold text or whole numbers; found floating point, which damages long numbers; export text"
    text = values.astype("str")
    return text.mask(text.str.strip() == ""), ""


def _number(values: pd.Series, zone: str | None) -> tuple[pd.Series, str]:
    if not pd.api.types.is_string_dtype(values.dtype):
        if pd.api.types.is_bool_dtype(values.dtype) or not pd.api.types.is_numeric_dtype(values.dtype):
            return values, _other_type(values, "numbers")
        return values.astype("float64"), ""
    if (quick := _plain_numbers(values)) is not None:
        return quick, ""
    numbers = pd.to_numeric(values.str.strip(), errors="coerce").astype("float64")
    priced = numbers.isna() & values.str.contains(f"[{CURRENCY_SIGNS}]", regex=True, na=False)
    if priced.any():
        bare = values[priced].str.replace(rf"^(\s*[+-]?)\s*[{CURRENCY_SIGNS}]", r"\1", regex=True)
        numbers[priced] = pd.to_numeric(bare.str.strip(), errors="coerce").astype("float64")
    said = values.str.strip().str.casefold()
    wrong = int((numbers.isna() & said.notna() & ~said.isin(["", "nan"])).sum())
    return numbers, _wrong(wrong, values, "numbers (12.50)")


def _plain_numbers(values: pd.Series) -> pd.Series | None:
    """Return texts as numbers where each present one is one; None where any needs a closer look. Ten times as quick."""
    texts = pc.utf8_trim_whitespace(arrow_text(values))
    try:
        numbers = pc.if_else(pc.equal(texts, ""), pa.scalar(None, texts.type), texts).cast(pa.float64())
    except pa.ArrowInvalid:
        return None
    return pd.Series(numbers.to_numpy(zero_copy_only=False), index=values.index, name=values.name)


def _boolean(values: pd.Series, zone: str | None) -> tuple[pd.Series, str]:
    if pd.api.types.is_bool_dtype(values.dtype):
        return values.astype("boolean"), ""
    if pd.api.types.is_string_dtype(values.dtype):
        said = values.str.strip().str.casefold().replace({"true": "1", "false": "0"})
        values = said.mask(said == "")
    elif not pd.api.types.is_numeric_dtype(values.dtype):
        return values, _other_type(values, "0, 1 or missing")
    numbers = pd.to_numeric(values, errors="coerce")
    wrong = int((values.notna() & ~numbers.isin([0, 1])).sum())
    if wrong:
        return values, f"must be 0, 1 or missing; found {wrong:,} other values; map them at the source"
    return numbers.astype("Float64").astype("boolean"), ""


def _time(values: pd.Series, zone: str | None) -> tuple[pd.Series, str]:
    if pd.api.types.is_string_dtype(values.dtype):
        said = values.str.strip()
        there = said.notna() & (said != "")
        zoned = int(said[there].str.contains(_WITH_ZONE, regex=True).sum())
        if 0 < zoned < there.sum():
            return values, (
                f"must hold times all with or all without a time zone; found {zoned:,} with and "
                f"{int(there.sum()) - zoned:,} without; make them alike at the source"
            )
        times = pd.to_datetime(said.where(there), format="ISO8601", errors="coerce", utc=zoned == there.sum())
        wrong = int((times.isna() & there).sum())
        if wrong:
            return values, _wrong(wrong, values, "times such as 2026-01-31T12:00:00Z")
        values = times
    elif not pd.api.types.is_datetime64_any_dtype(values.dtype):
        return values, _other_type(values, "times")
    if zone is None or not pd.api.types.is_datetime64_dtype(values.dtype):
        return values, ""
    localised = values.dt.tz_localize(zone, ambiguous="NaT", nonexistent="NaT")
    lost = int((localised.isna() & values.notna()).sum())
    return localised, (
        f"holds {lost:,} times that do not exist or exist twice in {zone} (clock change); export it in UTC"
        if lost
        else ""
    )


def _counted_time(values: pd.Series, unit: str, since: dt.date) -> tuple[pd.Series, str]:
    """Read a time that is a number of units since a day's midnight (UTC), to the microsecond."""
    numbers, problem = _number(values, None)
    if problem:
        return values, problem
    many, name = re.fullmatch(r"(\d*)(\D+)", unit).groups()  # type: ignore[union-attr]
    start = (since - dt.date(1970, 1, 1)).days * UNITS["d"]
    moments = np.rint(numbers.to_numpy() * (UNITS[name] * int(many or 1)) + start)
    low, high = ((dt.date(year, 1, 1) - dt.date(1970, 1, 1)).days * UNITS["d"] for year in (FIRST_YEAR, LAST_YEAR))
    there = ~np.isnan(moments)
    wrong = int((there & ~((moments >= low) & (moments < high))).sum())
    if wrong:
        return values, (
            f"read in units of {unit} since {since} must lie between {FIRST_YEAR} and {LAST_YEAR}; found {wrong:,} of "
            f"{len(values):,} outside; correct 'unit' or 'since' in the contract"
        )
    known = pd.array(np.where(there, moments, 0).astype("int64").view("datetime64[us]")).tz_localize("UTC")
    return pd.Series(known, index=values.index).where(there), ""


def _written_time(values: pd.Series, form: str, zone: str | None) -> tuple[pd.Series, str]:
    """Read a time in the form the contract states."""
    said = values.astype("str").str.strip()
    there = said.notna() & (said != "")
    try:
        times = pd.to_datetime(said.where(there), format=form, errors="coerce", utc="%z" in form)
    except ValueError:
        return values, f"has a 'format' that is none; found '{form}'; write it like %d/%m/%Y %H:%M"
    wrong = int((times.isna() & there).sum())
    return (values, _wrong(wrong, values, f"times written as {form}")) if wrong else _time(times, zone)


def _date(values: pd.Series, zone: str | None) -> tuple[pd.Series, str]:
    if pd.api.types.is_datetime64_any_dtype(values.dtype):
        return values.dt.strftime("%Y-%m-%d").astype("str"), ""
    text, _ = _text(values.astype("str"), zone)
    different = pd.Series(text.dropna().unique())
    broken = different[pd.to_datetime(different, format="%Y-%m-%d", errors="coerce").isna()]
    return text, _wrong(int(text.isin(broken).sum()), values, "dates as YYYY-MM-DD")


def _other_type(values: pd.Series, rule: str) -> str:
    return f"must hold {rule}; found type {values.dtype}; correct the source or its contract"


def _wrong(count: int, values: pd.Series, rule: str) -> str:
    return f"must hold {rule}; found {count:,} other values of {len(values):,}; correct the source" if count else ""


_AS_TYPE: dict[str, Callable[[pd.Series, str | None], tuple[pd.Series, str]]] = {
    "id": _id,
    "text": _text,
    "number": _number,
    "boolean": _boolean,
    "time": _time,
    "date": _date,
}
