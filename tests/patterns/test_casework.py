"""Patterns as case work: found in a vault, shown, confirmed as rule or labels, dismissed; who decided is on record."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from fraudlab import plots, rulebook, ruling
from fraudlab.casework.patterns import SHARES, pattern_facts, patterns_table, search
from fraudlab.casework.verdicts import confirm, dismiss
from fraudlab.cli import app
from fraudlab.config import RunConfig, Workspace
from fraudlab.datasets import load_transactions
from fraudlab.datasets.access import access, access_page
from fraudlab.datasets.blindside import label_sources
from fraudlab.datasets.companions import PATTERNS, VERDICTS, companion_rows
from fraudlab.datasets.load import dataset_facts
from fraudlab.datasets.reviewed import outcomes_of
from fraudlab.patterns import LINKS
from fraudlab.privacy.auditlog import audit_log
from fraudlab.privacy.consent import Ledger
from fraudlab.privacy.keys import KeyDirectory
from fraudlab.privacy.scan import find_planted
from fraudlab.privacy.vault import Vault
from fraudlab.schema import InputError

AS_OF = pd.Timestamp("2026-04-06", tz="UTC")
NOW = pd.Timestamp("2026-07-01", tz="UTC")
VICTIMS = 14
BECAUSE = "accounts were emptied with one device"


@pytest.fixture
def book(tmp_path: Path, config: RunConfig) -> Path:
    path = tmp_path / "book.toml"
    path.write_bytes(config.rules.book.read_bytes())
    path.chmod(0o644)
    return path


def vault_of(workspace: Workspace) -> Vault:
    return Vault(workspace.vault, KeyDirectory(workspace.keys))


def test_the_planted_device_is_found_and_kept(searched: tuple[Path, dict], workspace: Workspace, code: str) -> None:
    done = searched[1]
    assert done["found"] == done["new"] >= 1
    assert done["as_of"].startswith("2026-04-06")
    assert done["since"].startswith("2026-03-30")
    table = patterns_table("demo", workspace).set_index("pattern")
    row = table.loc[code]
    assert "device" in row["shares"].split(", ")
    assert (row["state"], row["of"]) == ("open", VICTIMS)
    assert 10 <= row["observed"] <= VICTIMS
    assert row["expected"] < 1
    rows = companion_rows(vault_of(workspace), "demo", PATTERNS)
    rows = rows[rows["pattern"] == code]
    payments = load_transactions("demo", purpose="case-investigation", workspace=workspace)
    mine = payments[payments["transaction_id"].astype("str").isin(rows["transaction_id"])]
    counts = payments["device_id"].value_counts()
    assert mine["device_id"].mode().iloc[0] in counts.index[counts >= VICTIMS]
    assert row["payments"] == len(rows) == len(mine)
    assert row["amount"] == pytest.approx(mine["amount"].sum())
    assert row["alerted"] == rows["alerted"].sum()
    assert ((rows["unusual"] > 0) & (rows["unusual"] < 0.2)).all()


def test_searching_again_changes_nothing_and_a_day_later_it_is_the_same_pattern(
    made: Path, config: RunConfig, tmp_path: Path, workspace: Workspace
) -> None:
    before = companion_rows(vault_of(workspace), "demo", PATTERNS)
    again = search(config, workspace, as_of=AS_OF, now=NOW)
    assert again["new"] == 0
    pd.testing.assert_frame_equal(companion_rows(vault_of(workspace), "demo", PATTERNS), before)
    # Found a day earlier first, it keeps its code when more of it comes.
    shutil.copytree(made, tmp_path / "early")
    workspace = Workspace(tmp_path / "early")
    early = search(config, workspace, as_of=pd.Timestamp("2026-04-05", tz="UTC"), now=NOW)
    assert early["new"] >= 1
    first = patterns_table("demo", workspace)
    device = first[first["shares"].str.contains("device")].iloc[0]
    search(config, workspace, as_of=AS_OF, now=NOW)
    after = patterns_table("demo", workspace).set_index("pattern")
    assert after.loc[device["pattern"], "payments"] > device["payments"]
    assert after["shares"].str.contains("device").sum() == 1


def test_nothing_of_a_pattern_lies_open_and_facts_hold_no_value(workspace: Workspace, code: str) -> None:
    rows = companion_rows(vault_of(workspace), "demo", PATTERNS)
    needles = [*rows["pattern"].unique(), *rows["customer_id"].unique()]
    assert find_planted([workspace.vault], needles).empty
    payments = load_transactions("demo", purpose="case-investigation", workspace=workspace)
    found = pattern_facts(code, "demo", workspace)
    said = json.dumps(found.facts) + found.payments.to_json(date_format="iso")
    for name in ("device_id", "ip", "customer_id", "transaction_id"):
        mine = payments.loc[payments["transaction_id"].astype("str").isin(rows["transaction_id"]), name]
        assert not [value for value in mine.dropna().astype("str").unique() if value in said], name


def test_what_is_shown_is_what_was_found(workspace: Workspace, code: str) -> None:
    found = pattern_facts(code.lower().replace("-", " "), "demo", workspace)
    assert found.code == code
    assert found.links[0] in LINKS
    assert found.payments["number"].tolist() == list(range(1, len(found.payments) + 1))
    assert found.payments["event_time"].is_monotonic_increasing
    assert found.payments["customer"].str.len().max() == 8
    assert {"merchant_id", "channel", "alerted", "fraud", "unusual"} <= set(found.payments)
    assert found.verdict == {}
    assert len(found.facts["why"]) >= 1
    assert {"en", "zh", "feature"} == set(found.facts["why"][0])
    assert not any("fraud" in each["feature"] or "risk" in each["feature"] for each in found.facts["why"])
    drawn = plots.pattern(found.payments, found.others, shared=SHARES[found.links[0]][0], facts=found.facts)
    assert f"{found.facts['observed']:,} of {found.facts['of']:,} customers paid unusually" in drawn.alt
    assert f"{len(found.payments):,} payments from" in drawn.alt
    again = plots.pattern(found.payments, found.others, shared=SHARES[found.links[0]][0], facts=found.facts)
    assert drawn.svg() == again.svg()
    empty = plots.pattern(found.payments.iloc[:0], found.others, shared="on the same device", facts=found.facts)
    assert "no payment of this pattern" in empty.alt


def test_confirmed_as_a_rule_it_is_a_shadow_in_the_book(
    workspace: Workspace, config: RunConfig, code: str, book: Path
) -> None:
    before = ruling.read_book(book)
    told = confirm(code, config, workspace, decision=["rule"], because=BECAUSE, by="desk-2", book=book, now=NOW)
    after = ruling.read_book(book)
    assert after.version == before.version + 1 == told["rule"]["version"]
    assert after.rules[:-1] == before.rules
    rule = after.rules[-1]
    assert (rule.id, rule.status, rule.owner, rule.why) == (f"pattern-{code.lower()}", "shadow", "desk-2", BECAUSE)
    assert str(rule.since) == "2026-04-06"
    assert book.stat().st_mode & 0o777 == 0o644
    rulebook.check_columns(after, ruling.columns_of_config(config))
    fact = pattern_facts(code, "demo", workspace)
    assert rule.expression == fact.facts["rule"]["expression"]
    assert fact.facts["rule"]["fires"] >= 0.8 * len(fact.payments)
    assert fact.state == "rule"
    assert fact.verdict["because"] == BECAUSE
    entry = audit_log(workspace).entries()
    entry = entry[entry["action"] == "decide"]["facts"].iloc[-1]
    assert entry["pattern"] == code
    assert (entry["what"], entry["decision"], entry["because"], entry["by"]) == ("pattern", "rule", BECAUSE, "desk-2")
    assert outcomes_of(vault_of(workspace), "demo") is None
    with pytest.raises(InputError, match="must be open or dismissed to be decided on; it was confirmed as rule on"):
        confirm(code, config, workspace, decision=["fraud"], because=BECAUSE, now=NOW)


def test_a_confirmation_cut_short_can_be_given_again(
    workspace: Workspace, config: RunConfig, code: str, book: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fraudlab.casework import verdicts

    keep = verdicts._keep_verdict

    def cut(*args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(verdicts, "_keep_verdict", cut)
    with pytest.raises(KeyboardInterrupt):
        confirm(code, config, workspace, decision=["rule", "fraud"], because=BECAUSE, book=book, now=NOW)
    monkeypatch.setattr(verdicts, "_keep_verdict", keep)
    assert pattern_facts(code, "demo", workspace).state == "open"
    told = confirm(code, config, workspace, decision=["fraud", "rule"], because=BECAUSE, book=book, now=NOW)
    assert told["decision"] == "rule and fraud"
    assert told["labels"]["new"] == 0
    ids = [rule.id for rule in ruling.read_book(book).rules]
    assert ids.count(told["rule"]["id"]) == 1
    assert pattern_facts(code, "demo", workspace).state == "rule and fraud"


def test_confirmed_as_fraud_its_payments_are_labels_and_it_is_not_found_again(
    workspace: Workspace, config: RunConfig, code: str, as_of: pd.Timestamp
) -> None:
    shown = pattern_facts(code, "demo", workspace).payments
    told = confirm(code, config, workspace, decision=["fraud"], because=BECAUSE, by="desk-2", only="2 1", now=NOW)
    assert (told["payments"], told["labels"]["new"], told["labels"]["fraud"]) == (2, 2, 2)
    outcomes = outcomes_of(vault_of(workspace), "demo")
    assert (outcomes["source"] == "pattern").all()
    assert (outcomes["alert_id"] == code).all()
    assert sorted(outcomes["event_time"]) == sorted(shown["event_time"].iloc[:2])
    labels = load_transactions("demo", purpose="fraud-model-training", as_of=as_of + pd.Timedelta("1h"),
                               workspace=workspace)  # fmt: skip
    mine = labels[labels["transaction_id"].astype("str").isin(outcomes["transaction_id"])]
    assert mine["is_fraud"].tolist() == [True, True]
    facts = dataset_facts("demo", purpose="fraud-model-training", as_of=None, workspace=workspace)
    sources = label_sources(facts, workspace=workspace).set_index("group")["n"]
    assert sources["pattern"] == 2
    again = search(config, workspace, as_of=AS_OF, now=NOW)
    table = patterns_table("demo", workspace)
    assert code not in table["pattern"].tolist()
    assert not table["shares"].str.contains("device").any()
    assert again["new"] == 0
    every = patterns_table("demo", workspace, open_only=False).set_index("pattern")
    assert every.loc[code, "state"] == "fraud"


def test_dismissed_it_is_gone_and_may_be_confirmed_later(workspace: Workspace, config: RunConfig, code: str) -> None:
    told = dismiss(code, "demo", workspace, because="a shared till at a club", by="desk-1", now=NOW)
    assert told["decision"] == "dismissed"
    assert code not in patterns_table("demo", workspace)["pattern"].tolist()
    search(config, workspace, as_of=AS_OF, now=NOW)
    assert not patterns_table("demo", workspace)["shares"].str.contains("device").any()
    later = pd.Timestamp("2026-04-09", tz="UTC")
    confirm(code, config, workspace, decision=["fraud"], because=BECAUSE, decided_at=later, now=NOW)
    assert pattern_facts(code, "demo", workspace).state == "fraud"
    assert companion_rows(vault_of(workspace), "demo", VERDICTS)["decided_at"].nunique() == 2


def test_who_objects_is_not_shown_and_who_asks_is_told(workspace: Workspace, config: RunConfig, code: str) -> None:
    rows = companion_rows(vault_of(workspace), "demo", PATTERNS)
    customer = rows.loc[rows["pattern"] == code, "customer_id"].iloc[0]
    dismiss(code, "demo", workspace, because="a shared till at a club", now=NOW)
    held = access("demo", customer, workspace=workspace)
    assert {row["pattern"] for row in held["patterns"]} >= {code}
    assert held["verdicts"][0]["because"] == "a shared till at a club"
    page = access_page(held)
    assert code in page
    assert "a shared till at a club" in page
    count = len(pattern_facts(code, "demo", workspace).payments)
    Ledger(workspace.ledger).record(
        customer, "case-investigation", "objection", basis="legitimate-interest", source="letter of 2026-03-01"
    )
    shown = pattern_facts(code, "demo", workspace).payments
    assert len(shown) < count
    assert customer[:8] not in shown["customer"].tolist()


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"decision": ["label"]}, "--as: must be rule or fraud, or both; found 'label'"),
        ({"decision": []}, "--as: must be rule or fraud"),
        ({"because": "so"}, "--because: must say why in 10 to 300 characters"),
        ({"because": "call ann@example.com about it"}, "what looks like an identifier"),
        ({"by": "ann@example.com"}, "by: must be a role"),
        ({"only": "99"}, "--only: must be numbers of the payments, 1 to"),
        ({"only": "1", "decision": ["rule"]}, "with --as fraud; found '1'"),
        ({"pattern": "6F13V-J6V4L"}, "pattern: must be ten letters and digits"),
        ({"pattern": "00000-00000"}, "holds no pattern 00000-00000 for the purpose"),
        ({"decided_at": pd.Timestamp("2026-01-05", tz="UTC")}, "decided_at: must not lie before the payment"),
    ],
)
def test_what_breaks_a_rule_is_refused_and_nothing_is_kept(
    workspace: Workspace, config: RunConfig, code: str, changes: dict, sentence: str
) -> None:
    given = {"pattern": code, "decision": ["fraud"], "because": BECAUSE, "now": NOW} | changes
    with pytest.raises(InputError) as told:
        confirm(given.pop("pattern"), config, workspace, **given)
    assert sentence in str(told.value)
    assert companion_rows(vault_of(workspace), "demo", VERDICTS) is None
    assert outcomes_of(vault_of(workspace), "demo") is None


def test_without_a_book_no_rule_is_proposed(workspace: Workspace, config: RunConfig, code: str) -> None:
    bare = config.model_copy(update={"rules": config.rules.model_copy(update={"book": None})})
    with pytest.raises(InputError, match="--as rule: the config names no rule book"):
        confirm(code, bare, workspace, decision=["rule"], because=BECAUSE, now=NOW)


def test_a_model_without_detector_gets_one(
    workspace: Workspace, config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fraudlab.casework import patterns as job

    name, version, package = job.registered_package(workspace, "demo")
    bare = package.model.__class__(**{**vars(package.model), "detector": None})
    package = package.__class__(**{**vars(package), "model": bare})
    monkeypatch.setattr(job, "registered_package", lambda *_: (name, version, package))
    assert search(config, workspace, as_of=AS_OF, now=NOW)["unusual"] > 0


def test_the_commands_tell_it(
    workspace: Workspace, code: str, book: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run = CliRunner().invoke
    config = Path(__file__).resolve().parents[2] / "configs" / "demo.toml"
    listed = run(app, ["monitor", "patterns", "--no-search", "--config", str(config)])
    assert listed.exit_code == 0, listed.output
    assert code in listed.output
    assert "Next: fraudlab monitor patterns show" in listed.output
    shown = run(app, ["monitor", "patterns", "show", code, "--out", "p.svg"])
    assert shown.exit_code == 0, shown.output
    assert "on the same device:" in shown.output
    assert "a rule for it:" in shown.output
    picture = tmp_path / "p.svg"
    assert picture.stat().st_mode & 0o777 == 0o600
    assert "<svg" in picture.read_text(encoding="utf-8")
    log = audit_log(workspace).entries()
    assert log[log["action"] == "export"]["facts"].iloc[-1]["pattern"] == code
    as_json = json.loads(run(app, ["monitor", "patterns", "show", code, "--out", "p.png", "--json"]).output)
    assert as_json["pattern"] == code
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")
    told = run(
        app,
        [
            *("monitor", "patterns", "confirm", code, "--as", "rule"),
            *("--because", BECAUSE, "--book", str(book), "--config", str(config)),
        ],
    )
    assert told.exit_code == 0, told.output
    assert "(shadow)" in told.output
    done = run(app, ["monitor", "patterns", "--no-search", "--all", "--json", "--config", str(config)])
    states = {row["pattern"]: row["state"] for row in json.loads(done.output)["patterns"]}
    assert states[code] == "rule"
    wrong = run(app, ["monitor", "patterns", "show", code, "--out", "p.gif"])
    assert isinstance(wrong.exception, InputError)
    assert "--out: must end in .png or .svg" in str(wrong.exception)


def test_numbers_are_finite(workspace: Workspace, code: str) -> None:
    facts = pattern_facts(code, "demo", workspace).facts
    for each in [facts, *facts["shares"]]:
        assert np.isfinite([each[name] for name in ("expected", "p", "q")]).all()
