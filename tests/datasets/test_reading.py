"""How contracts read what sources hold: made columns, joined ones, counted and written times, families, files."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from fraudlab.config import DatasetConfig
from fraudlab.datasets.contracts import Contract, ContractColumn, load_contract
from fraudlab.datasets.readers import read_column, read_source, source_digest
from fraudlab.schema import InputError


def column(kind: str, **keys: Any) -> ContractColumn:
    rest = {"source": "x", "name": "own", "treatment": "keep", "purposes": ("training",), "meaning": "x"}
    return ContractColumn.model_validate(rest | {"type": kind} | keys)


def contract(*columns: dict[str, Any], **top: Any) -> Contract:
    shared = {"treatment": "keep", "purposes": ["training"], "meaning": "m"}
    needed = [
        {"source": "(row number)", "name": "transaction_id", "type": "id"},
        {"source": "at", "name": "event_time", "type": "time", "unit": "h", "since": dt.date(2026, 1, 1)},
        {"source": "(row number)", "name": "customer_id", "type": "id", "treatment": "pseudonymise"},
        {"source": "(one)", "name": "amount", "type": "number"},
    ]
    purpose = {"training": {"basis": "legitimate-interest", "meaning": "to train", "retention_days": 30}}
    mine = [shared | each for each in (*needed, *columns)]
    return Contract.model_validate({"name": "small", "purposes": purpose, "columns": mine} | top)


@pytest.mark.parametrize(
    ("unit", "since", "count", "moment"),
    [
        # Known moments: the second 1,500,000,000; a leap day; PaySim's first hour; a month of 30 days.
        ("s", None, "1500000000", "2017-07-14T02:40:00Z"),
        ("ms", None, "951782400000", "2000-02-29T00:00:00Z"),
        ("us", None, "1500000000000001", "2017-07-14T02:40:00.000001Z"),
        ("ns", None, "1500000000000000000", "2017-07-14T02:40:00Z"),
        ("h", dt.date(2017, 1, 1), "1", "2017-01-01T01:00:00Z"),
        ("30d", dt.date(2021, 1, 1), "7", "2021-07-30T00:00:00Z"),
        ("s", dt.date(2013, 9, 1), "172792.0", "2013-09-02T23:59:52Z"),
        ("min", dt.date(2026, 1, 1), "-1.5", "2025-12-31T23:58:30Z"),
    ],
)
def test_counted_times(unit: str, since: dt.date | None, count: str, moment: str) -> None:
    for values in (pd.Series([count, None, ""], dtype="str"), pd.Series([float(count), np.nan, np.nan])):
        times, problem = read_column(values, column("time", unit=unit, since=since), None)
        assert not problem
        assert times[0] == pd.Timestamp(moment)
        assert times.isna().tolist() == [False, True, True]


def test_a_wrong_unit_is_noticed_by_the_year_it_gives() -> None:
    times, problem = read_column(pd.Series([1.5e12, 1.6e12]), column("time", unit="s"), None)
    assert "must lie between 1900 and 2200; found 2 of 2 outside; correct 'unit' or 'since'" in problem
    assert times.tolist() == [1.5e12, 1.6e12]


def test_written_times() -> None:
    form = column("time", format="%d/%m/%Y %H:%M")
    times, problem = read_column(pd.Series([" 31/12/2025 23:59", ""], dtype="str"), form, "Europe/Berlin")
    assert (problem, times[0]) == ("", pd.Timestamp("2025-12-31T22:59Z"))
    assert (
        "times written as %d/%m/%Y %H:%M; found 1 other values of 2"
        in read_column(pd.Series(["31/12/2025 23:59", "12/31/2025 23:59"], dtype="str"), form, "UTC")[1]
    )


@pytest.mark.parametrize(
    ("said", "number"),
    [("$12.50", 12.5), ("$-3.00", -3.0), ("-$3", -3.0), ("€ 7", 7.0), (" 8.25 ", 8.25), ("£0", 0.0), ("1e3", 1000.0)],
)
def test_amounts_with_a_currency_sign(said: str, number: float) -> None:
    numbers, problem = read_column(pd.Series([said, None], dtype="str"), column("number"), None)
    assert (problem, numbers[0]) == ("", number)
    absolute, _ = read_column(pd.Series([said, None], dtype="str"), column("number", absolute=True), None)
    assert absolute[0] == abs(number)
    assert "found 1 other values" in read_column(pd.Series(["12$", said], dtype="str"), column("number"), None)[1]


def test_labels_in_words() -> None:
    words = column("boolean", yes="Yes", no="No")
    labels, problem = read_column(pd.Series(["Yes", " no", "", None], dtype="str"), words, None)
    assert (problem, labels.tolist()) == ("", [True, False, pd.NA, pd.NA])
    problem = read_column(pd.Series(["Yes", "maybe"], dtype="str"), words, None)[1]
    assert problem == "must be 'Yes', 'No' or missing; found 1 other values; correct the contract"


WRONG = {
    "unit of a number": (column, {"kind": "number", "unit": "s"}, "'unit' is for type 'time'; found 'number'"),
    "no unit": (column, {"kind": "time", "unit": "fortnight"}, "unit"),
    "unit and format": (
        column,
        {"kind": "time", "unit": "s", "format": "%Y"},
        "'unit' and 'format' exclude each other",
    ),
    "since alone": (column, {"kind": "time", "since": dt.date(2026, 1, 1)}, "'since' needs 'unit'"),
    "absolute text": (column, {"kind": "text", "absolute": True}, "'absolute' is for type 'number'"),
    "yes alone": (column, {"kind": "boolean", "yes": "Y"}, "'yes' and 'no' belong together"),
    "row number as text": (column, {"kind": "text", "source": "(row number)"}, "needs type 'id'"),
    "one as id": (column, {"kind": "id", "source": "(one)"}, "needs type 'number'"),
    "identity of a row number": (
        column,
        {"kind": "id", "source": "(row number)", "treatment": "pseudonymise", "identity": True},
        "no 'identity'",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_reading_keys_that_do_not_fit_are_refused(case: str) -> None:
    make, keys, sentence = WRONG[case]
    with pytest.raises(ValueError, match=sentence):
        make(keys.pop("kind"), **keys)


def small(path: Path, **columns: Any) -> Path:
    pd.DataFrame(columns).to_csv(path, index=False)
    return path


def test_a_row_number_and_a_one_are_made(tmp_path: Path) -> None:
    path = small(tmp_path / "a.csv", at=[0, 1, 1])
    frame = read_source(DatasetConfig(name="a", path=path, contract=tmp_path), contract(), 0).frame
    assert frame["transaction_id"].tolist() == frame["customer_id"].tolist() == [0, 1, 2]
    assert frame["amount"].tolist() == [1.0, 1.0, 1.0]


def test_columns_are_joined_before_they_are_read(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("Year,Month,Time,at,card,area\n2026,1,06:21,0,13926,315\n2026,12,23:59,1,13926,\n,,,2,,\n")
    joined = contract(
        {"source": "Year", "join": ["Month", "Time"], "name": "label_time", "type": "time", "format": "%Y %m %H:%M"},
        {"source": "card", "join": ["area"], "name": "card_id", "type": "id", "treatment": "pseudonymise"},
        {"source": "at", "name": "is_fraud", "type": "boolean"},
    )
    path.write_text(path.read_text().replace(",2,,", ",0,,"))
    frame = read_source(DatasetConfig(name="a", path=path, contract=tmp_path), joined, 0).frame
    assert frame["card_id"].fillna("missing").tolist() == ["13926 315", "13926 ", "missing"]
    assert frame["label_time"].isna().tolist() == [False, False, True]
    assert joined.sources == ["at", "Year", "Month", "Time", "card", "area"]


def test_files_are_appended_and_another_put_beside(tmp_path: Path) -> None:
    first = small(tmp_path / "a.csv", key=[7, 8], at=[0, 1])
    second = small(tmp_path / "b.csv", at=[2], key=[9])
    beside = small(tmp_path / "c.csv", key=[9, 7, 55], os=["x", "y", "z"])
    dataset = DatasetConfig(name="a", path=first, append=(second,), attach=beside, key="key", contract=tmp_path)
    told = contract({"source": "os", "name": "os", "type": "text"}, extras=["os"])
    source = read_source(dataset, told, 0)
    assert source.frame["os"].fillna("missing").tolist() == ["y", "missing", "x"]
    assert source.frame["event_time"].dt.hour.tolist() == [0, 1, 2]
    assert source.undeclared == {"key": 3}
    assert source.description == "a.csv and b.csv and c.csv"
    # Every file counts: another value in any of them is another source.
    before = source_digest(dataset, 0)
    small(tmp_path / "c.csv", key=[9, 7, 55], os=["x", "y", "w"])
    assert source_digest(dataset, 0) != before


FILES = {
    "other columns": (
        {"b": {"at": [2], "other": [9]}},
        "b.csv must have the columns of a.csv to be appended; found 2 in",
    ),
    "no key beside": ({"c": {"id": [9], "os": ["x"]}}, "dataset.key: c.csv has no column 'key'"),
    "no key": (
        {"a": {"kex": [7], "at": [0]}, "b": {"kex": [7], "at": [0]}},
        "first file has no column 'key'; did you mean 'kex'",
    ),
    "twice": (
        {"c": {"key": [7, 7], "os": ["x", "y"]}},
        "column 'key' must be unique in the attached file; found 1 repeated of 2",
    ),
}


@pytest.mark.parametrize("case", FILES)
def test_files_that_do_not_fit_are_refused(case: str, tmp_path: Path) -> None:
    changes, sentence = FILES[case]
    tables = {"a": {"key": [7], "at": [0]}, "b": {"at": [2], "key": [9]}, "c": {"key": [9], "os": ["x"]}} | changes
    paths = {name: small(tmp_path / f"{name}.csv", **columns) for name, columns in tables.items()}
    dataset = DatasetConfig(
        name="a", path=paths["a"], append=(paths["b"],), attach=paths["c"], key="key", contract=tmp_path
    )
    with pytest.raises(InputError, match=sentence):
        read_source(dataset, contract({"source": "os", "name": "os", "type": "text"}, extras=["os"]), 0)


def test_attach_and_key_belong_together(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="belong together"):
        DatasetConfig(name="a", path=tmp_path / "a.csv", attach=tmp_path / "b.csv", contract=tmp_path)


def test_families_that_are_none_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "small.toml"
    path.write_text('name = "small"\n[[families]]\nsource = "V1"\ntype = "number"\n')
    with pytest.raises(InputError, match="a family must have 'sources', a list, and no 'source' or 'name'"):
        load_contract(path)


def test_a_slip_in_a_family_is_named_with_its_column(tmp_path: Path) -> None:
    path = tmp_path / "small.toml"
    path.write_text('name = "small"\n[[families]]\nsources = ["V1..V2"]\ntype = "numbr"\ntreatment = "keep"\n')
    with pytest.raises(InputError, match=r"contract small\.toml: column 'V2': key 'type'"):
        load_contract(path)
