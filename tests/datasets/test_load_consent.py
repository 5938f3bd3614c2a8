"""Loading heeds the ledger: who withdrew is gone from the next load, for that purpose only, and it is counted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import tomli_w
from typer.testing import CliRunner

from fraudlab.cli import app
from fraudlab.config import DatasetConfig, RunConfig, Workspace
from fraudlab.datasets import dataset_facts, ingest, load_transactions
from fraudlab.datasets.customers import customer_code, customer_codes
from fraudlab.privacy.auditlog import audit_log
from fraudlab.privacy.consent import Ledger
from fraudlab.privacy.keys import KeyUnavailableError
from fraudlab.privacy.scan import find_planted
from fraudlab.schema import FraudlabError, InputError

NOW = pd.Timestamp("2026-03-01", tz="UTC")
TRAINING, MARKETING, REPORTING = "fraud-model-training", "marketing", "suspicion-reporting"
PURPOSES = {TRAINING: "legitimate-interest", MARKETING: "consent", REPORTING: "legal-obligation"}
CUSTOMERS = [f"Kunde-0077{i}" for i in range(6)]
LETTER = "letter of 2026-02-20"


def contract(path: Path) -> Path:
    def column(source: str, name: str, kind: str, treatment: str = "keep") -> dict[str, Any]:
        said = {"source": source, "name": name, "type": kind, "treatment": treatment, "meaning": "x"}
        return said | {"purposes": list(PURPOSES)}

    purposes = {name: {"basis": basis, "meaning": "x", "retention_days": 36500} for name, basis in PURPOSES.items()}
    columns = [
        column("id", "transaction_id", "id"),
        column("at", "event_time", "time"),
        column("who", "customer_id", "id", "pseudonymise"),
        column("amount", "amount", "number"),
    ]
    path.write_text(tomli_w.dumps({"name": "small", "purposes": purposes, "columns": columns}))
    return path


def raw() -> pd.DataFrame:
    n = 60
    return pd.DataFrame(
        {
            "id": [f"t{i:03d}" for i in range(n)],
            "at": pd.date_range("2026-01-01", periods=n, freq="12h", tz="UTC"),
            "who": [CUSTOMERS[i * i % 6] for i in range(n)],
            "amount": [float(i) for i in range(n)],
        }
    )


RAW = raw()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    RAW.to_parquet(tmp_path / "raw.parquet", index=False)
    source = DatasetConfig(name="demo", path=tmp_path / "raw.parquet", contract=contract(tmp_path / "small.toml"))
    workspace = Workspace(tmp_path / "home")
    ingest(RunConfig(name="demo", purpose=TRAINING, dataset=source), workspace, now=NOW)
    monkeypatch.setenv("FRAUDLAB_HOME", str(workspace.root))
    return workspace


def load(home: Workspace, purpose: str = TRAINING, **more: Any) -> pd.DataFrame:
    return load_transactions("demo", purpose=purpose, workspace=home, **more)


def say(home: Workspace, who: str, event: str, purpose: str = TRAINING, **more: Any) -> None:
    code = customer_code("demo", who, workspace=home)
    Ledger(home.ledger).record(code, purpose, event, basis=PURPOSES.get(purpose), source=LETTER, **more)


def ids(frame: pd.DataFrame) -> list[str]:
    return frame["transaction_id"].tolist()


def without(*customers: str) -> list[str]:
    return RAW.loc[~RAW["who"].isin(customers), "id"].tolist()


# Loading


def test_after_an_objection_the_next_load_has_none_of_the_customers_rows_for_that_purpose(home: Workspace) -> None:
    gone = CUSTOMERS[1]
    rows = int((RAW["who"] == gone).sum())
    assert rows > 0
    assert ids(load(home)) == without()
    say(home, gone, "objection")
    frame = load(home)
    assert ids(frame) == without(gone)
    assert frame.index.tolist() == list(range(len(frame)))
    assert frame.attrs["left_out"] == {"customers": 1, "rows": rows, "why": {"objection": 1}}
    assert ids(load(home, REPORTING)) == without(), "a legal obligation knows no objection"
    say(home, gone, "objection-withdrawn")
    assert ids(load(home)) == without()


def test_only_consenting_customers_are_loaded_where_consent_is_the_basis(home: Workspace) -> None:
    assert load(home, MARKETING).attrs["left_out"] == {
        "customers": RAW["who"].nunique(),
        "rows": len(RAW),
        "why": {"no consent": RAW["who"].nunique()},
    }
    there = sorted(RAW["who"].unique())
    for who in there[:3]:
        say(home, who, "consent", MARKETING)
    assert ids(load(home, MARKETING)) == without(*there[3:])
    say(home, there[0], "withdrawal", MARKETING)
    frame = load(home, MARKETING)
    assert ids(frame) == without(there[0], *there[3:])
    assert frame.attrs["left_out"]["why"] == {"withdrawal": 1, "no consent": len(there) - 3}
    assert ids(load(home)) == without(), "another purpose, on another basis"


def test_restriction_and_erasure_for_all_purposes_hold_for_each(home: Workspace) -> None:
    say(home, CUSTOMERS[0], "restriction", "*")
    say(home, CUSTOMERS[1], "erasure", "*")
    for purpose in (TRAINING, REPORTING):
        frame = load(home, purpose)
        assert ids(frame) == without(*CUSTOMERS[:2])
        assert frame.attrs["left_out"]["why"] == {"restriction": 1, "erasure": 1}


def test_what_was_known_last_month_is_loaded_as_the_customers_allow_today(home: Workspace) -> None:
    before = pd.Timestamp.now("UTC")
    say(home, CUSTOMERS[1], "objection")
    then = pd.Timestamp("2026-01-15", tz="UTC")
    early = RAW["at"] < then
    assert ids(load(home, as_of=then)) == RAW.loc[early & (RAW["who"] != CUSTOMERS[1]), "id"].tolist()
    assert ids(load(home, as_of=then, consent_as_of=before)) == RAW.loc[early, "id"].tolist()
    assert ids(load(home, consent_as_of=before)) == without()
    assert ids(load(home, consent_as_of=pd.Timestamp.now("UTC"))) == without(CUSTOMERS[1])
    with pytest.raises(InputError, match="consent_as_of: must carry a time zone"):
        load(home, consent_as_of=pd.Timestamp("2026-01-15"))


def test_fewer_columns_leave_out_the_same_customers(home: Workspace) -> None:
    say(home, CUSTOMERS[1], "objection")
    some = load(home, columns=["amount"])
    pd.testing.assert_frame_equal(some, load(home)[["amount"]])
    assert some.attrs["left_out"]["customers"] == 1


def test_loading_begins_no_ledger_and_a_damaged_one_stops_it(home: Workspace) -> None:
    load(home)
    assert not home.ledger.exists()
    home.ledger.write_bytes(b"no ledger" * 1000)
    with pytest.raises(FraudlabError, match=r"ledger: .* could not be read"):
        load(home)


def test_facts_say_how_many_are_left_out(home: Workspace) -> None:
    before = dataset_facts("demo", TRAINING, workspace=home)
    assert (before["left_out"], before["ledger_digest"]) == ({"customers": 0, "rows": 0, "why": {}}, None)
    say(home, CUSTOMERS[1], "objection")
    facts = dataset_facts("demo", TRAINING, workspace=home)
    json.dumps(facts, allow_nan=False)
    assert facts["left_out"]["rows"] == before["rows"] - facts["rows"] > 0
    assert facts["customers"] == before["customers"] - 1
    assert facts["ledger_digest"] == Ledger(home.ledger).digest(TRAINING) != before["ledger_digest"]
    everyone_gone = dataset_facts("demo", MARKETING, workspace=home)
    assert (everyone_gone["rows"], everyone_gone["first"]) == (0, None)


def test_a_load_is_entered_in_the_audit_log_and_stops_where_it_cannot_be(home: Workspace) -> None:
    log = audit_log(home)
    if not log.path.exists():
        load(home)
        assert not log.path.exists(), "reading begins no log"
        log.append("ingest", dataset="demo")
    load(home, columns=["amount"], as_of=pd.Timestamp("2026-01-15", tz="UTC"), consent_as_of=NOW)
    entry = log.entries("load")["facts"].iloc[-1]
    assert entry == {
        "dataset": "demo",
        "purpose": TRAINING,
        "rows": int((RAW["at"] < pd.Timestamp("2026-01-15", tz="UTC")).sum()),
        "columns": 1,
        "as_of": "2026-01-15T00:00:00+00:00",
        "consent_as_of": NOW.isoformat(),
    }
    assert log.verify().ok
    (home.keys / "audit.key").unlink()
    with pytest.raises(KeyUnavailableError, match="audit"):
        load(home)


# Whose rows are meant


def test_a_reference_and_its_pseudonym_name_the_same_customer(home: Workspace) -> None:
    held = load(home).assign(who=RAW["who"]).drop_duplicates("who").set_index("who")["customer_id"]
    for who, code in held.items():
        assert customer_code("demo", f" {who.upper()} ", workspace=home) == code
        assert customer_code("demo", code, workspace=home) == code
    known = customer_codes(
        "demo", pd.Series([*held.index, *held, "Kunde-9", "f" * 32, " "], dtype="str"), workspace=home
    )
    assert known["held"].tolist() == [True] * (2 * len(held)) + [False] * 3
    assert known["given"].tolist() == [False] * len(held) + [True] * len(held) + [False, True, False]
    assert known["code"].isna().tolist() == [False] * (2 * len(held) + 2) + [True]


@pytest.mark.parametrize("reference", ["Kunde-99999", "f" * 32])
def test_an_unknown_customer_is_refused_without_repeating_the_reference(home: Workspace, reference: str) -> None:
    with pytest.raises(InputError, match="customer: data set demo holds no such customer") as refused:
        customer_code("demo", reference, workspace=home)
    assert reference not in str(refused.value)
    assert len(customer_code("demo", reference, new=True, workspace=home)) == 32
    with pytest.raises(InputError, match="the reference is empty"):
        customer_code("demo", " ", workspace=home)


def test_references_that_look_like_pseudonyms_are_found_too(tmp_path: Path) -> None:
    looks = [f"{i:032x}" for i in range(6)]
    RAW.assign(who=RAW["who"].map(dict(zip(CUSTOMERS, looks)))).to_parquet(tmp_path / "raw.parquet", index=False)
    source = DatasetConfig(name="demo", path=tmp_path / "raw.parquet", contract=contract(tmp_path / "small.toml"))
    workspace = Workspace(tmp_path / "home")
    ingest(RunConfig(name="demo", purpose=TRAINING, dataset=source), workspace, now=NOW)
    frame = load(workspace)
    assert customer_code("demo", looks[1], workspace=workspace) == frame["customer_id"].iloc[1] != looks[1]


def test_without_the_key_only_pseudonyms_are_found_and_no_key_is_made(home: Workspace) -> None:
    code = customer_code("demo", CUSTOMERS[1], workspace=home)
    (home.keys / "pseudonym.key").unlink()
    assert customer_code("demo", code, workspace=home) == code
    with pytest.raises(KeyUnavailableError, match="finding a customer by reference needs the key 'pseudonym'"):
        customer_code("demo", CUSTOMERS[1], workspace=home)
    assert not (home.keys / "pseudonym.key").exists()


# The commands


def run(*words: str, given: str = "") -> Any:
    return CliRunner().invoke(app, ["privacy", "consent", *words], input=given)


def test_the_command_records_heeds_and_shows_without_the_reference(home: Workspace) -> None:
    said = ["--purpose", TRAINING, "--event", "objection", "--source", LETTER, "--at", "2026-02-20T00:00Z"]
    result = run("record", "--customer", "-", *said, given=f"{CUSTOMERS[1]}\n")
    assert result.exit_code == 0, result.exception
    code = customer_code("demo", CUSTOMERS[1], workspace=home)
    assert f"Recorded as event 1: objection of customer {code}." in result.output
    assert "leaves this customer out (objection)" in result.output
    assert ids(load(home)) == without(CUSTOMERS[1])
    described = CliRunner().invoke(app, ["describe", "demo", "--purpose", TRAINING])
    assert "left out for this purpose: 1 customers with" in described.output
    shown = run("show", "--customer", "-", given=CUSTOMERS[1])
    assert code in shown.output
    assert "letter of" in shown.output
    assert json.loads(run("show", "--json").output)[0]["event"] == "objection"
    assert "objection" in run("show").output
    assert CUSTOMERS[1] not in result.output + described.output + shown.output
    facts = audit_log(home).entries("object")["facts"].tolist()
    assert facts == [{"purpose": TRAINING, "event": "objection", "count": 1, "number": 1}]


def test_a_file_of_references_goes_in_and_leaves_no_reference_behind(home: Workspace, tmp_path: Path) -> None:
    there = sorted(RAW["who"].unique())
    lines = [f"{who},{MARKETING},consent,consent,2026-02-01T00:00Z,form 7" for who in there]
    file = tmp_path / "consents.csv"
    file.write_text("\n".join(["customer,purpose,basis,event,at,source", *lines]) + "\n")
    result = run("import", str(file))
    assert result.exit_code == 0, result.exception
    assert f"{len(there)} events in consents.csv: {len(there)} added, 0 there already" in result.output
    assert json.loads(run("import", str(file), "--json").output) == {
        "rows": len(there), "added": 0, "already": len(there)
    }  # fmt: skip
    assert ids(load(home, MARKETING)) == without()
    out = tmp_path / "ledger.csv"
    assert run("export", str(out)).exit_code == 0
    assert run("import", str(out)).exit_code == 0
    assert len(Ledger(home.ledger).events()) == len(there)
    found = find_planted([home.root, out], CUSTOMERS)
    assert found.empty, found
    assert not find_planted([file], CUSTOMERS).empty


def test_unknown_customers_of_a_file_are_named_by_line_unless_they_are_new(home: Workspace, tmp_path: Path) -> None:
    file = tmp_path / "consents.csv"
    lines = [f"{who},{MARKETING},consent,consent,2026-02-01T00:00Z,form 7" for who in (CUSTOMERS[1], "Kunde-99999")]
    file.write_text("\n".join(["customer,purpose,basis,event,at,source", *lines]) + "\n")
    refused = run("import", str(file))
    assert isinstance(refused.exception, InputError)
    assert "customer: must be a known customer's pseudonym" in str(refused.exception)
    assert "line 3" in str(refused.exception)
    assert not home.ledger.exists()
    assert run("import", str(file), "--new").exit_code == 0


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"--purpose": "fraud-model-trainin"}, "did you mean 'fraud-model-training'"),
        ({"--customer": "Kunde-99999"}, "holds no such customer"),
        ({"--customer": "-"}, "standard input held no reference"),
        ({"--source": f"letter of {CUSTOMERS[1].upper()}"}, "must not repeat the customer's reference"),
        ({"--purpose": REPORTING}, "'objection' does not exist on basis 'legal-obligation'"),
        ({"--at": "2026-02-20"}, "at: must carry a time zone"),
    ],
)
def test_a_wrong_command_is_refused_and_records_nothing(home: Workspace, change: dict[str, str], sentence: str) -> None:
    said = {"--customer": CUSTOMERS[1], "--purpose": TRAINING, "--event": "objection", "--source": LETTER} | change
    result = run("record", *(word for pair in said.items() for word in pair))
    assert isinstance(result.exception, InputError)
    assert sentence in str(result.exception)
    assert CUSTOMERS[1].casefold() not in str(result.exception).casefold()
    assert not home.ledger.exists()


@pytest.mark.parametrize("command", ["record", "show", "import", "export"])
def test_every_command_shows_an_example(command: str) -> None:
    result = CliRunner().invoke(app, ["privacy", "consent", command, "--help"], terminal_width=200)
    assert f"Example: fraudlab privacy consent {command}" in result.output
