"""Sources: the simulator or one file, read under a contract into declared columns of declared types.

A card number must not become a float, the postcode 01234 not 1234, the country NA not missing: everything in a CSV file
is read as text and then given the type the contract states. A message never holds a value of a row.
"""

from __future__ import annotations

import csv
import difflib
import hashlib
import io
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from fraudlab.config import DatasetConfig, digest_of
from fraudlab.datasets.contracts import Contract, ContractColumn
from fraudlab.schema import InputError, did_you_mean, refuse

DELIMITERS = ",;\t|"
CSV_SUFFIXES = (".csv", ".csv.gz", ".tsv", ".tsv.gz")
PARQUET_SUFFIXES = (".parquet", ".pq")
_COLUMN_NAME = re.compile(r"(?!.*[0-9]{4})[A-Za-z_][A-Za-z0-9_ ]{0,62}")
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
    path = _existing(dataset)
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(
            f"{dataset.name}: {path.name} cannot be read ({error.strerror or error}); correct its rights or its disk"
        ) from None


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
    path = _existing(dataset)
    read = _read_parquet if path.name.lower().endswith(PARQUET_SUFFIXES) else _read_csv
    table = read(path, contract, where)
    if table.num_rows == 0:
        raise InputError(f"{where}: the table has no rows; check the source and its filter")
    undeclared = {name: _present(table[name]) for name in table.column_names if name not in contract.sources}
    raw = _to_pandas(table.select(contract.sources), path)
    return Source(_typed(raw, contract, where), undeclared, digest, path.name)


def _existing(dataset: DatasetConfig) -> Path:
    path = Path(dataset.path or "")
    known = CSV_SUFFIXES + PARQUET_SUFFIXES
    if not path.is_file():
        folder = path.parent
        there = [p.name for p in folder.iterdir() if p.name.lower().endswith(known)] if folder.is_dir() else []
        hint = did_you_mean(path.name, there) if there else "correct dataset.path"
        raise InputError(f"{dataset.name}: no data file at {path}; {hint}")
    if not path.name.lower().endswith(known):
        raise InputError(f"{dataset.name}: {path.name} must be CSV or Parquet; known endings are: {', '.join(known)}")
    if path.stat().st_size == 0:
        raise InputError(f"{dataset.name}: {path.name} is empty; check the export that wrote it")
    return path


def _read_parquet(path: Path, contract: Contract, where: str) -> pa.Table:
    try:
        with pq.ParquetFile(path) as file:
            _refuse_names(contract, file.schema_arrow.names, where)
            return file.read()
    except (pa.ArrowException, OSError):
        raise InputError(f"{path.name}: is not a readable Parquet file; write it again at the source") from None


def _read_csv(path: Path, contract: Contract, where: str) -> pa.Table:
    undecodable = InputError(f"{path.name}: is not UTF-8 text; export it as UTF-8")
    try:
        with pa.input_stream(str(path)) as stream:
            start = stream.read(1 << 20).decode("utf-8-sig", errors="ignore")
        first, _, rows = start.partition("\n")
        if "\0" in first:
            raise undecodable
        delimiter = max(DELIMITERS, key=first.count)
        names = next(csv.reader(io.StringIO(start, newline=""), delimiter=delimiter), [])
    except (pa.ArrowException, OSError, csv.Error):
        raise InputError(f"{path.name}: cannot be read or unpacked; write it again at the source") from None
    _refuse_names(contract, names, where)
    if not rows.strip():
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
        raise undecodable from None
    except pa.ArrowException as error:
        if "UTF8" in str(error) or "UTF-8" in str(error):
            raise undecodable from None
        raise InputError(f"{path.name}: is not a readable CSV file; write it again at the source") from None
    if ragged:
        raise InputError(
            f"{path.name}: each row must have the header's {len(names)} fields; found {ragged:,} rows with another "
            "number; quote fields that hold the delimiter"
        )
    return table


def _to_pandas(table: pa.Table, path: Path) -> pd.DataFrame:
    """Convert declared columns without loss: missing integers stay integers, bytes become text, decimals numbers."""
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
    missing = [name for name in contract.sources if name not in present]
    others = [name for name in present if name not in contract.sources]
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
        values, problem = _AS_TYPE[column.type](raw[column.source], contract.timezone)
        if problem:
            problems.append(f"{where}: {spoken(column)} {problem}")
        typed[column.name] = values
    refuse(problems)
    return pd.DataFrame(typed)


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
    numbers = pd.to_numeric(values.str.strip(), errors="coerce").astype("float64")
    said = values.str.strip().str.casefold()
    wrong = int((numbers.isna() & said.notna() & ~said.isin(["", "nan"])).sum())
    return numbers, _wrong(wrong, values, "numbers (12.50)")


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
