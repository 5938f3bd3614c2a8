"""Quickstart: what an unknown table is taken for, what is written, what is refused; no value of a row leaves."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score
from typer.testing import CliRunner

from fraudlab import recipe, workflow
from fraudlab.cli import app
from fraudlab.config import Workspace, load_config
from fraudlab.datasets import ingest, quickstart
from fraudlab.datasets.contracts import load_contract
from fraudlab.datasets.profile import alone, profile, summary
from fraudlab.datasets.shapes import identifier_kind, read_label, read_time
from fraudlab.schema import InputError

ROOT = Path(__file__).resolve().parents[2]
NOW = pd.Timestamp("2026-06-01", tz="UTC")
ROWS = 4000


def payments(rows: int = ROWS, days: int = 120) -> pd.DataFrame:
    """Invented payments under names a bank might use, all text as of a CSV file."""
    rng = np.random.default_rng(3)
    at = pd.Timestamp("2026-01-01") + pd.to_timedelta(np.sort(rng.integers(0, days * 86_400, rows)), unit="s")
    who = rng.integers(0, 200, rows)
    fraud = rng.random(rows) < 0.06
    table = pd.DataFrame(
        {
            "Payment ID": [f"P{i:08d}" for i in range(rows)],
            "Paid At": at.strftime("%d/%m/%Y %H:%M:%S"),
            "Client": [f"C{i:05d}" for i in who],
            "Full Name": [f"Person Number{i:03d}" for i in who],
            "E-Mail": [f"someone{i}@mail{i % 3}.example" for i in who],
            "Card": [f"41111111{i:07d}{luhn(f'41111111{i:07d}')}" for i in who],
            "IP": [f"192.0.2.{i % 250}" for i in who],
            "Phone": [f"+49 30 {9_000_000 + i}" for i in who],
            "Date of birth": [f"19{40 + i % 50}-01-01" for i in who],
            "Gender": np.where(who % 2, "F", "M"),
            "Amount": np.where(fraud, rng.lognormal(5, 0.6, rows), rng.lognormal(3, 0.6, rows)).round(2),
            "Merchant": [f"Shop {i}" for i in rng.integers(0, 90, rows)],
            "MCC": rng.choice(["5411", "0742"], rows),
            "Account age": rng.integers(1, 900, rows),
            "Settled": (at + pd.Timedelta(days=2)).strftime("%Y-%m-%d"),
            "Reported": np.where(fraud, "1", "0"),
            "Oracle": fraud * 10 + rng.random(rows),
            "Batch": rng.integers(0, 20, rows) + at.day_of_year * 1000,
            "Balance after": rng.normal(0, 1, rows),
            "Remark": "see you soon",
            "Is Fraud?": np.where(fraud, "Yes", "No"),
        }
    )
    table.loc[0, "Remark"] = "another one"
    return table.astype("str")


def luhn(digits: str) -> int:
    doubled = [int(d) * (2 - i % 2) for i, d in enumerate(reversed(digits))]
    return -sum(d - 9 if d > 9 else d for d in doubled) % 10


@pytest.fixture(scope="module")
def found():
    return profile(payments(), time="Paid At", label="Is Fraud?", entity="Client")


EXPECTED = {
    "Payment ID": "the row's id",
    "Paid At": "the time",
    "Client": "pseudonym",
    "Full Name": "left out",
    "E-Mail": "domain, a category",
    "Card": "pseudonym",
    "IP": "pseudonym",
    "Phone": "left out",
    "Date of birth": "left out",
    "Gender": "left out",
    "Amount": "the amount",
    "Merchant": "merchant_id",
    "MCC": "merchant_category, a category",
    "Account age": "a number",
    "Settled": "left out",
    "Reported": "left out",
    "Oracle": "left out",
    "Batch": "left out",
    "Balance after": "left out",
    "Remark": "left out",
    "Is Fraud?": "the label",
}


def test_every_column_becomes_what_a_careful_person_would_make_of_it(found) -> None:
    assert {plan.source: plan.becomes for plan in found.plans} == EXPECTED
    why = {plan.source: plan.why for plan in found.plans}
    assert why["Full Name"] == "by its name, a person's name"
    assert why["Phone"] == "looks like phone numbers"
    assert why["Gender"].startswith("a protected attribute")
    assert why["Reported"].startswith("by its name, may be known only afterwards")
    assert why["Oracle"].startswith("alone tells the frauds (AUC 1.000)")
    assert why["Batch"] == "repeats the time"
    assert why["Remark"] == "free text may hold anything"


def test_the_summary_holds_no_value_of_a_row(found) -> None:
    said = summary(found.plans).to_csv() + " ".join(found.notes)
    values = payments().iloc[:, [0, 2, 3, 4, 5, 7, 11]].drop_duplicates().to_numpy().ravel()
    assert not [value for value in values if value in said]


def test_a_single_columns_ranking_is_sklearns() -> None:
    rng = np.random.default_rng(0)
    y = rng.random(500) < 0.3
    values = np.where(y, rng.integers(0, 6, 500), rng.integers(2, 9, 500)).astype(float)
    expected = roc_auc_score(y, values)
    assert alone(pd.Series(values), pd.Series(y, dtype="boolean")) == pytest.approx(max(expected, 1 - expected))


# What a column of two moments, a day apart, looks like in each form; all but the last five say which day it is.
START = pd.Timestamp("2025-03-30T10:20:30Z")
TIMES: dict[str, tuple[list[Any], dict[str, Any]]] = {
    "iso": (["2025-03-30T10:20:30Z", "2025-03-31T10:20:30Z"], {}),
    "iso, no zone": (["2025-03-30 10:20:30", "2025-03-31 10:20:30"], {}),
    "typed": ([START, START + pd.Timedelta(days=1)], {}),
    "day first": (["30/03/2025 10:20:30", "31/03/2025 10:20:30"], {"format": "%d/%m/%Y %H:%M:%S"}),
    "month first": (["03/30/2025 10:20:30", "03/31/2025 10:20:30"], {"format": "%m/%d/%Y %H:%M:%S"}),
    "dots": (["30.03.2025 10:20:30", "31.03.2025 10:20:30"], {"format": "%d.%m.%Y %H:%M:%S"}),
    "slashed": (["2025/03/30 10:20:30", "2025/03/31 10:20:30"], {}),
    "SAS": (["30MAR2025:10:20:30", "31MAR2025:10:20:30"], {"format": "%d%b%Y:%H:%M:%S"}),
    "digits": (["20250330102030", "20250331102030"], {"format": "%Y%m%d%H%M%S"}),
    "epoch s": ([1743330030, 1743416430], {"unit": "s"}),
    "epoch ms": (["1743330030000", "1743416430000"], {"unit": "ms"}),
    "epoch us": (["1743330030000000", "1743416430000000"], {"unit": "us"}),
}


@pytest.mark.parametrize("case", TIMES)
def test_times_are_recognised(case: str) -> None:
    values, keys = TIMES[case]
    times, how = read_time(pd.Series(values), "at")
    assert times.tolist() == [START, START + pd.Timedelta(days=1)]
    assert {key: how[key] for key in ("unit", "format", "since") if key in how} == keys


COUNTS = {
    "ULB seconds": ("Time", [0.0, 172_792.0], "s", "2020-01-02T23:59:52Z"),
    "PaySim hours": ("step", ["1", "743"], "h", "2020-01-31T23:00:00Z"),
    "BAF months": ("month", [0, 7], "30d", "2020-07-29T00:00:00Z"),
    "days": ("tx_day", [0, 182], "d", "2020-07-01T00:00:00Z"),
    "seconds by their size": ("dt", [86_400, 15_811_131], "s", "2020-07-01T23:58:51Z"),
}


@pytest.mark.parametrize("case", COUNTS)
def test_counts_from_an_unknown_start_are_read_by_name_or_size(case: str) -> None:
    name, values, unit, last = COUNTS[case]
    times, how = read_time(pd.Series(values), name)
    assert (how["unit"], how["since"], times.iloc[-1]) == (unit, dt.date(2020, 1, 1), pd.Timestamp(last))
    assert "no date is known; the start was set to 2020-01-01" in how["note"]


def test_a_stated_unit_is_taken() -> None:
    assert read_time(pd.Series([0, 48]), "step", "min")[0].iloc[1] == pd.Timestamp("2020-01-01T00:48Z")


def test_a_time_spread_over_columns_is_joined() -> None:
    table = payments().assign(Year="2026", Month="1", Day=[str(1 + i % 28) for i in range(ROWS)], Time="06:21")
    found = profile(table, time="Year,Month,Day,Time", label="Is Fraud?")
    assert found.time.max() == pd.Timestamp("2026-01-28T06:21Z")
    column = found.of("time")[0].column
    assert column["join"] == ["Month", "Day", "Time"]


@pytest.mark.parametrize(
    ("values", "keys"),
    [
        (["0", "1", None], {}),
        ([0, 1, 1], {}),
        ([True, False, True], {}),
        (["Yes", " no", ""], {"yes": "yes", "no": "no"}),
        (["legit", "fraud", "legit"], {"yes": "fraud", "no": "legit"}),
        ([0.0, 1.0, np.nan], {}),
    ],
)
def test_labels_are_recognised(values: list[Any], keys: dict[str, str]) -> None:
    labels, how = read_label(pd.Series(values), "y")
    assert how == keys
    assert int(labels.sum()) >= 1


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([f"a{i}@b.example" for i in range(9)], "email"),
        ([f"41111111{i:07d}{luhn(f'41111111{i:07d}')}" for i in range(9)], "card"),
        ([f"10.0.0.{i}" for i in range(9)], "ip"),
        ([f"2001:db8:0:{i}::1" for i in range(9)], "ip"),
        ([f"+44 20 7946 0{i:03d}" for i in range(9)], "phone"),
        ([str(2_079_460_000 + i) for i in range(9)], ""),
        (["online", "pos"], ""),
        ([0.5, 1.5], ""),
    ],
)
def test_identifiers_are_told_by_their_pattern(values: list[Any], kind: str) -> None:
    assert identifier_kind(pd.Series(values)) == kind


def changed(**columns: Any) -> pd.DataFrame:
    return payments(300).assign(**columns)


BAD: dict[str, tuple[Any, dict[str, str], str]] = {
    "time not there": (payments(300), {"time": "Payed At"}, "--time: no column 'Payed At'; did you mean 'Paid At'?"),
    "label not there": (payments(300), {"label": "fraud"}, "--label: no column 'fraud'"),
    "entity not there": (payments(300), {"entity": "Clients"}, "--entity: no column 'Clients'; did you mean 'Client'?"),
    "amount not there": (payments(300), {"amount": "Amounts"}, "--amount: no column 'Amounts'; did you mean 'Amount'?"),
    "named twice": (payments(300), {"entity": "Paid At"}, "column 'Paid At' is named for two things"),
    "no time": (changed(**{"Paid At": "soon"}), {}, "column 'Paid At' must tell times; found 300 values, not all"),
    "time missing": (
        changed(**{"Paid At": ["2026-01-01T00:00Z"] * 298 + [None] * 2}),
        {},
        "column 'Paid At' must not be empty; found 2 empty of 300 rows",
    ),
    "either way": (
        changed(**{"Paid At": "03/04/2026"}),
        {},
        "can be read with the day or the month first; write it as",
    ),
    "wrong unit": (changed(**{"Paid At": "5"}), {"time_unit": "moons"}, "--time-unit: must be a unit such as s, ms"),
    "three labels": (
        changed(**{"Is Fraud?": ["0", "1", "2"] * 100}),
        {},
        "found 3 different ones, of which 1 say neither",
    ),
    "words": (changed(**{"Is Fraud?": ["good", "bad"] * 150}), {}, "found 2 different ones, of which 2 say neither"),
    "no positives": (changed(**{"Is Fraud?": "0"}), {}, "found no fraud among 300 labelled rows of 300"),
    "all positives": (changed(**{"Is Fraud?": "1"}), {}, "found no genuine row among 300 labelled rows"),
    "entity missing": (changed(Client=["x"] * 299 + [""]), {}, "must say whose each row is; found 1 empty of 300 rows"),
    "entity a float": (changed(Client=np.arange(300) + 0.5), {}, "found floating point, which damages long numbers"),
    "amount no number": (
        changed(Amount="much"),
        {"amount": "Amount"},
        "must hold a finite number in every row; found 300",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_sentence_without_a_value(case: str) -> None:
    table, changes, sentence = BAD[case]
    arguments = {"time": "Paid At", "label": "Is Fraud?", "entity": "Client"} | changes
    with pytest.raises(InputError) as refused:
        profile(table, **arguments)
    assert sentence in str(refused.value)
    assert "\n" not in str(refused.value)
    assert not {"soon", "good", "bad", "much", "03/04/2026"} & set(str(refused.value).split())


def test_the_split_follows_from_the_data(found) -> None:
    split = quickstart.choose_split(found, now=NOW)
    assert split.delay_days == 7
    assert min(split.fold.frauds.values()) >= 10
    assert split.fold.delay == pd.Timedelta(days=7)
    # Two days leave no room for a delay.
    hours = pd.Timestamp("2026-01-01") + pd.to_timedelta(np.arange(ROWS) * 43, unit="s")
    table = payments().assign(**{"Paid At": hours.astype("str")})
    short = profile(table, time="Paid At", label="Is Fraud?", entity="Client")
    assert quickstart.choose_split(short, now=NOW).delay_days == 0


def test_known_victims_stay_only_where_too_little_is_left_without_them(found) -> None:
    assert quickstart.choose_split(found, now=NOW).exclude
    few = payments().assign(Client=[f"C{i % 5}" for i in range(ROWS)])  # five customers, all of them victims soon
    split = quickstart.choose_split(profile(few, time="Paid At", label="Is Fraud?", entity="Client"), now=NOW)
    assert not split.exclude
    assert split.fold.excluded_transactions == 0


def test_a_table_with_too_few_frauds_is_refused_with_the_numbers() -> None:
    few = payments()
    few.loc[few.index[25:], "Is Fraud?"] = "No"
    few.loc[few.index[::400], "Is Fraud?"] = "Yes"
    found = profile(few, time="Paid At", label="Is Fraud?")
    with pytest.raises(
        InputError, match=r"must be at least 20 to learn from, 10 to tune on and 10 to judge by, .* found"
    ):
        quickstart.choose_split(found, now=NOW)


def test_a_future_is_refused() -> None:
    found = profile(payments(), time="Paid At", label="Is Fraud?")
    with pytest.raises(InputError, match=r"must not lie in the future; found \d,\d+ of 4,000 rows"):
        quickstart.propose(
            found, name="a", data=Path("a.csv"), config_path=Path("a.toml"), now=pd.Timestamp("2026-02-01", tz="UTC")
        )


def proposed(folder: Path, table: pd.DataFrame, **named: str) -> tuple[quickstart.Proposal, Path]:
    data = folder / "My Payments.csv"
    table.to_csv(data, index=False)
    found = profile(pd.read_csv(data, dtype="str"), **({"time": "Paid At", "label": "Is Fraud?"} | named))
    config = folder / "configs" / "my-payments.toml"
    proposal = quickstart.propose(found, name=quickstart.name_of(data), data=data, config_path=config)
    quickstart.write(proposal, config)
    return proposal, config


def test_what_is_written_can_be_ingested_and_prepared(tmp_path: Path) -> None:
    proposal, path = proposed(tmp_path, payments(), entity="Client")
    config = load_config(path)
    manifest = ingest(config, Workspace(tmp_path))
    assert manifest["rows"] == ROWS
    dropped = {column["column"] for column in manifest["dropped"]}
    assert dropped == {name for name, becomes in EXPECTED.items() if becomes == "left out"}
    prepared = recipe.prepare(config, Workspace(tmp_path))
    assert {"account_age", "customer_id__count__1d", "card_id__count__1h__with_current__where_amount_lt_3"} <= set(
        prepared.features.columns
    )
    assert set(prepared.left_out["feature"]) == set(proposal.left_out["feature"])
    # The fold of the proposal is the fold of the run, row for row.
    for part in ("train", "valid", "refit", "test"):
        np.testing.assert_array_equal(getattr(prepared.fold, part), getattr(proposal.split.fold, part))
    assert proposal.features == prepared.features.shape[1]
    # Identifiers are pseudonyms or gone.
    assert prepared.transactions["card_id"].str.fullmatch("[0-9a-f]{32}").all()
    assert set(prepared.transactions["e_mail"]) == {f"mail{i}.example" for i in range(3)}


def test_a_table_without_entity_and_amount_works_and_says_what_that_means(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    fraud = rng.random(3000) < 0.05
    table = pd.DataFrame({f"V{i}": rng.normal(0, 1, 3000) + fraud * (i == 3) for i in range(1, 6)})
    table = table.assign(Time=np.sort(rng.integers(0, 172_792, 3000)), Class=fraud.astype(int))
    proposal, path = proposed(tmp_path, table, time="Time", label="Class")
    config = load_config(path)
    assert (config.features.set, config.features.labels) == ("payment-v1", False)
    assert any("no entity was named: each row is a case of its own" in note for note in proposal.notes)
    assert any("no amount was found: every row counts 1" in note for note in proposal.notes)
    assert 'sources = ["V1..V5"]' in proposal.contract
    ingest(config, Workspace(tmp_path))
    prepared = recipe.prepare(config, Workspace(tmp_path))
    assert {"amount", "v1", "v5"} <= set(prepared.features.columns)
    assert (prepared.transactions["amount"] == 1).all()


def test_what_somebody_edited_is_not_written_over(tmp_path: Path) -> None:
    proposal, path = proposed(tmp_path, payments(), entity="Client")
    edited = path.read_text() + "# mine\n"
    path.write_text(edited)
    with pytest.raises(InputError, match=r"my-payments\.toml: is there already in .*--force to write over it"):
        quickstart.write(proposal, path)
    assert path.read_text() == edited
    quickstart.write(proposal, path, force=True)
    assert path.read_text() == proposal.config
    assert [p.name for p in path.parent.rglob(".*")] == []


def test_names_that_toml_must_quote_survive(tmp_path: Path) -> None:
    odd = payments().rename(columns={"Account age": 'Age "of" account, \\days', "Amount": "Betrag (€)"})
    _, path = proposed(tmp_path, odd, entity="Client", amount="Betrag (€)")
    contract = load_contract(path.parent / "contracts" / path.name)
    assert {'Age "of" account, \\days', "Betrag (€)"} <= set(contract.sources)


def test_a_name_that_is_taken_gets_another(found) -> None:
    table = payments().rename(columns={"Account age": "customer_id", "MCC": "Country"}).assign(country="x")
    table.loc[::2, "country"] = "y"
    plans = profile(table, time="Paid At", label="Is Fraud?", entity="Client").plans
    names = [plan.column["name"] for plan in plans if plan.column]
    assert len(names) == len(set(names))
    assert "own_customer_id" in names
    assert "own_country" in names


def test_a_published_set_is_recognised_by_its_columns() -> None:
    ulb = ["Time", *(f"V{i}" for i in range(1, 29)), "Amount", "Class"]
    assert quickstart.ready_config(ulb, ROOT / "configs") == ROOT / "configs" / "ulb.toml"
    assert quickstart.ready_config(ulb[:-1], ROOT / "configs") is None


def test_every_named_public_set_is_shipped_and_a_config_of_ones_own_is_none(tmp_path: Path) -> None:
    assert all((ROOT / "configs" / f"{name}.toml").is_file() for name in quickstart.PUBLISHED)
    (tmp_path / "contracts").mkdir()
    for folder in ("", "contracts/"):
        (tmp_path / f"{folder}mine.toml").write_bytes((ROOT / "configs" / f"{folder}ulb.toml").read_bytes())
    ulb = ["Time", *(f"V{i}" for i in range(1, 29)), "Amount", "Class"]
    assert quickstart.ready_config(ulb, tmp_path) is None


def test_the_command_looks_writes_and_says_what_is_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FRAUDLAB_HOME", str(tmp_path))
    payments().to_csv(tmp_path / "pay.csv", index=False)
    words = ["quickstart", str(tmp_path / "pay.csv"), "--time", "Paid At", "--label", "Is Fraud?", "--profile-only"]
    told = CliRunner().invoke(app, [*words, "--entity", "Client"])
    assert told.exit_code == 0, told.output
    assert "Next: read both, then  fraudlab retrain --config configs/pay.toml" in told.output
    assert "pay.csv: 4,000 rows, 2026-01-01" in told.output
    again = CliRunner().invoke(app, words)
    assert isinstance(again.exception, InputError)
    assert "is there already" in str(again.exception)
    told = CliRunner().invoke(app, [*words, "--json", "--out", str(tmp_path / "elsewhere")])
    facts = json.loads(told.output)
    assert Path(facts["config"]).parent == tmp_path / "elsewhere"
    assert facts["split"]["test_share"] == 0.2


def test_without_profile_only_the_whole_retraining_follows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FRAUDLAB_HOME", str(tmp_path))
    payments().to_csv(tmp_path / "pay.csv", index=False)
    asked: list[Path] = []

    def retrained(config: Path, **_: Any) -> None:
        asked.append(config)
        raise InputError("far enough")

    monkeypatch.setattr(workflow, "retrain", retrained)
    words = ["quickstart", str(tmp_path / "pay.csv"), "--time", "Paid At", "--label", "Is Fraud?"]
    assert str(CliRunner().invoke(app, words).exception) == "far enough"
    assert asked == [tmp_path / "configs" / "pay.toml"]


FILES = {
    "not there": ("none.csv", None, "quickstart: no data file at"),
    "no table": ("a.xlsx", b"PK", "a.xlsx must be CSV or Parquet"),
    "empty": ("a.csv", b"", "a.csv is empty"),
    "no rows": ("a.csv", b"Paid At,Is Fraud?\n", "has a header and no rows"),
    "no Parquet": ("a.parquet", b"not one", "is not a readable Parquet file"),
    "binary": ("a.csv", b"\xff\xfe\x00a,b\n1,2\n", "is not UTF-8 text"),
}


@pytest.mark.parametrize("case", FILES)
def test_a_file_that_is_no_table_is_refused_and_nothing_is_written(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FRAUDLAB_HOME", str(tmp_path))
    name, content, sentence = FILES[case]
    if content is not None:
        (tmp_path / name).write_bytes(content)
    told = CliRunner().invoke(app, ["quickstart", str(tmp_path / name), "--time", "Paid At", "--label", "Is Fraud?"])
    assert isinstance(told.exception, InputError)
    assert sentence in str(told.exception)
    assert not list(tmp_path.rglob("*.toml"))
