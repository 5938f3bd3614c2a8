"""The search: finds every disguise of a planted identifier and nothing that was not planted."""

from __future__ import annotations

import base64
import gzip
import json
import sqlite3
import time
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from fraudlab.cli import app
from fraudlab.privacy.scan import _STEP, find_likely, find_planted, telling
from fraudlab.schema import InputError

NAME, EMAIL, CARD, REF = "Zoë O'Hara", "zoe.ohara@mail.example.com", "4242424242424242", "C000123"
NEEDLES = [NAME, EMAIL, CARD, REF, "+49 30 1234567", "0176606276"]


def kinds(path: Path) -> dict[str, int]:
    found = find_planted([path], NEEDLES)
    return dict(zip(found["kind"], found["count"]))


def planted(tmp_path: Path, data: bytes) -> dict[str, int]:
    path = tmp_path / "file.bin"
    path.write_bytes(b"\x01\xff some bytes before " + data + b" and after \x00")
    return kinds(path)


def test_every_disguise_is_found(tmp_path: Path) -> None:
    assert planted(tmp_path, NAME.encode()) == {"raw": 1}
    assert planted(tmp_path, EMAIL.upper().encode()) == {"case-folded": 1}
    assert planted(tmp_path, json.dumps(NAME).encode()) == {"escaped": 1}
    assert planted(tmp_path, b"<td>Zo\xc3\xab O&#39;Hara") == {"escaped": 1}
    assert planted(tmp_path, EMAIL.encode("utf-16-le")) == {"utf-16": 1}
    assert planted(tmp_path, EMAIL.encode("utf-16-be")) == {"utf-16": 1}
    assert planted(tmp_path, f"{EMAIL}, {EMAIL}; {CARD}".encode()) == {"raw": 3}


@pytest.mark.parametrize("needle", NEEDLES)
@pytest.mark.parametrize("before", ["", "x", "xy", "xyz"])
@pytest.mark.parametrize("encode", [base64.b64encode, base64.urlsafe_b64encode])
def test_base64_is_found_at_every_alignment(tmp_path: Path, needle: str, before: str, encode) -> None:
    path = tmp_path / "file.txt"
    path.write_bytes(encode(f"{before}{needle}!".encode()))
    assert kinds(path) == {"base64": 1}


def test_packed_files_are_opened(tmp_path: Path) -> None:
    (tmp_path / "a.gz").write_bytes(gzip.compress(EMAIL.encode() * 3))
    with zipfile.ZipFile(tmp_path / "b.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("inner.txt", f"dear {NAME}")
    pd.DataFrame({"who": [EMAIL, None], "card": [int(CARD), 1]}).to_parquet(tmp_path / "c.parquet", compression="zstd")
    with sqlite3.connect(tmp_path / "d.db") as database:
        database.execute("create table t (a, b)")
        database.execute("insert into t values (?, ?)", (REF, EMAIL))
    (tmp_path / "e.gz").write_bytes(gzip.compress(EMAIL.encode())[:-9])
    found = find_planted([tmp_path], NEEDLES)
    names = found["file"].str.removeprefix(f"{tmp_path}/").tolist()
    assert {"a.gz!", "b.zip!inner.txt", "c.parquet!who", "c.parquet!card", "d.db"} <= set(names)
    assert found.loc[found["file"].str.endswith("a.gz!"), "count"].tolist() == [3]
    assert not any(needle in found.to_csv() for needle in NEEDLES), "the table tells no identifier"


def test_what_is_no_identifier_is_not_found(tmp_path: Path) -> None:
    innocent = f"0.01766062769 c000123 {CARD}7 1{CARD} 3{CARD[:-1]} +49 30 123456 zoe.ohara@mail.example.co"
    assert planted(tmp_path, innocent.encode()) == {}
    assert planted(tmp_path, np.random.default_rng(0).bytes(3_000_000)) == {}
    assert find_planted([tmp_path], NEEDLES).columns.tolist() == ["file", "kind", "count"]


def test_hits_on_the_edges_of_a_block_count_once(tmp_path: Path) -> None:
    path = tmp_path / "big.bin"
    for start in (0, *range(_STEP - len(CARD) - 1, _STEP + 2, 3), _STEP - 1, _STEP, 2 * _STEP - len(CARD)):
        data = bytearray(b"." * (2 * _STEP))
        data[start : start + len(CARD)] = CARD.encode()
        path.write_bytes(data)
        assert kinds(path) == {"raw": 1}, start
    longer = bytearray(b"." * (_STEP + 100))
    longer[_STEP - 1 : _STEP + 16] = b"7" + CARD.encode()
    path.write_bytes(longer)
    assert kinds(path) == {}, "a digit before the block's edge belongs to the number"


@pytest.mark.slow
def test_counts_agree_with_a_plain_search(tmp_path: Path) -> None:
    dice = np.random.default_rng(5)
    needles = {"".join(dice.choice(list("abc"), int(n))) for n in dice.integers(6, 10, 300)}
    data = "".join(dice.choice(list("abcd"), 60_000))
    (tmp_path / "x.txt").write_text(data)
    expected = sum(data.startswith(needle, i) for needle in needles for i in range(len(data)))
    assert expected > 100
    assert find_planted([tmp_path], needles)["count"].tolist() == [expected]


def test_bad_questions_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="at least 6 characters; found 1 shorter ones of 2"):
        find_planted([tmp_path], ["short", "long enough"])
    with pytest.raises(InputError, match="found none"):
        find_planted([tmp_path], [])
    (tmp_path / "runs").mkdir()
    with pytest.raises(InputError, match="did you mean 'runs'"):
        find_planted([tmp_path / "rnus"], NEEDLES)


@pytest.mark.slow
def test_many_needles_in_much_data_are_quick(tmp_path: Path) -> None:
    dice = np.random.default_rng(0)
    needles = [f"customer-{i}@mail.example.com" for i in range(5000)] + [
        str(number) for number in dice.integers(4 * 10**15, 5 * 10**15, 10_000)
    ]
    rows = "\n".join(f"{a:.17g},{b:.17g}" for a, b in dice.random((250_000, 2)))
    (tmp_path / "table.csv").write_text(rows + "\n" + needles[77])
    began = time.process_time()
    found = find_planted([tmp_path], needles)
    assert time.process_time() - began < 8  # 10 MB here; 50 MB must take less than 20 s
    assert found["count"].tolist() == [1]


def test_likely_identifiers_are_counted_by_file_and_kind(tmp_path: Path) -> None:
    notebook = {"cells": [{"outputs": [{"text": [f"mail {EMAIL}\n", "card 4242 4242 4242 4242"]}]}]}
    (tmp_path / "a.ipynb").write_text(json.dumps(notebook, indent=1))
    (tmp_path / "b.log").write_text(f"2026-01-31 12:00:00 INFO paid\n2026-01-31 12:00:01 INFO {EMAIL} {EMAIL}\n")
    (tmp_path / "c.html").write_text("<td>DE89 3704 0044 0532 0130 00</td><td>0.0176606276</td>")
    (tmp_path / "d.bin").write_bytes(b"\0" + EMAIL.encode())
    (tmp_path / "e.latin").write_bytes("Zoë ".encode("latin-1") + EMAIL.encode())
    (tmp_path / "empty.md").write_text("")
    found = find_likely([tmp_path])
    rows = [(Path(file).name, kind, count) for file, kind, count in found.itertuples(index=False)]
    assert rows == [("a.ipynb", "card", 1), ("a.ipynb", "email", 1), ("b.log", "email", 2), ("c.html", "iban", 1)]
    assert EMAIL not in found.to_csv()


def test_numbers_that_fill_their_range_tell_nothing() -> None:
    dense, rare = [f"{n:06d}" for n in range(500)], ["12345678901", CARD, EMAIL]
    assert telling([*dense, *rare]) == rare
    assert telling(dense[:100]) == dense[:100]


@pytest.fixture
def small_source(tmp_path: Path) -> list[str]:
    """The words of a command that searches for the identifiers of a small file, after the paths."""
    contract = Path(__file__).resolve().parents[2] / "configs" / "contracts" / "handbook.toml"
    table = {"TRANSACTION_ID": [1, 2], "TX_DATETIME": pd.to_datetime(["2018-04-01", "2018-04-02"])}
    table |= {"CUSTOMER_ID": ["customer-0001", "customer-0002"], "TERMINAL_ID": [1, 2], "TX_AMOUNT": [1.0, 2.0]}
    pd.DataFrame(table | {"TX_FRAUD": [0, 1], "TX_FRAUD_SCENARIO": [0, 1]}).to_parquet(tmp_path / "source.parquet")
    config = tmp_path / "small.toml"
    config.write_text(
        f'name = "small"\n[dataset]\nname = "small"\npath = "{tmp_path / "source.parquet"}"\ncontract = "{contract}"\n'
    )
    return ["--config", str(config)]


def test_the_command_exits_1_on_a_planted_identifier_and_says_none_of_them(
    tmp_path: Path, small_source: list[str]
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a.md").write_text(f"write to {EMAIL}")
    words = ["privacy", "scan", str(tmp_path / "out"), *small_source]
    clean = CliRunner().invoke(app, [*words, "--patterns"])
    assert clean.exit_code == 0, clean.output
    assert "None of 2 raw identifiers found" in clean.output
    assert "email" in clean.output
    assert EMAIL not in clean.output
    (tmp_path / "out" / "b.json").write_text('{"who": "CUSTOMER-0002"}')
    found = CliRunner().invoke(app, [*words, "--json", "--patterns"])
    assert found.exit_code == 1
    told = json.loads(found.stdout)
    assert [(row["kind"], row["count"]) for row in told["planted"]] == [("case-folded", 1)]
    assert [(row["kind"], row["count"]) for row in told["likely"]] == [("email", 1)]
    assert "customer-0002" not in found.output.casefold()
    assert CliRunner().invoke(app, ["scan", str(tmp_path)]).exit_code == 2, "one way, not two"
