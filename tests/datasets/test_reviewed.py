"""Outcomes as dated labels: what stands at a moment, how they come in, and that they outlive all that data outlive."""

from __future__ import annotations

import shutil
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xlsxwriter

from fraudlab import backup
from fraudlab.config import DatasetConfig, RunConfig, SimulateConfig, Workspace
from fraudlab.datasets import dataset_facts, ingest, label_maturity, load_transactions
from fraudlab.datasets.companions import CASES, OUTCOMES, append, companion_rows
from fraudlab.datasets.labelling import import_outcomes, label_facts, maturity_table, record_outcome
from fraudlab.datasets.reviewed import data_digest, label_changes, outcomes_of, with_outcomes
from fraudlab.datasets.rights import access, access_page, erase, retention
from fraudlab.datasets.sheets import read_sheet
from fraudlab.datasets.simulate import simulate
from fraudlab.privacy.auditlog import audit_log
from fraudlab.privacy.consent import Ledger
from fraudlab.privacy.keys import KeyDirectory
from fraudlab.privacy.rotation import rotate
from fraudlab.privacy.shortcodes import short_code
from fraudlab.privacy.vault import Vault
from fraudlab.schema import InputError, as_known_at

ROOT = Path(__file__).resolve().parents[2]
CONTRACT = ROOT / "configs" / "contracts" / "demo.toml"
SMALL = SimulateConfig(customers=50, merchants=20, days=40)
RAW = simulate(SMALL, 7)
TRAINING, INVESTIGATION = "fraud-model-training", "case-investigation"
LETTER = "letter of 2026-03-01"
DAY = pd.Timedelta(days=1)
START = pd.Timestamp("2026-03-01", tz="UTC")
NOW = pd.Timestamp("2026-07-01", tz="UTC")


def settings() -> RunConfig:
    return RunConfig(
        name="demo", seed=7, dataset=DatasetConfig(name="demo", source="simulate", contract=CONTRACT, simulate=SMALL)
    )


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("FRAUDLAB_KEYS", raising=False)
        ingest(settings(), Workspace(root))
        vault = Vault(Workspace(root).vault, KeyDirectory(Workspace(root).keys))
        append(vault, "demo", CASES, cases(vault), came={}, now=NOW)
    return root


@pytest.fixture
def workspace(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    monkeypatch.delenv("FRAUDLAB_KEYS", raising=False)
    shutil.copytree(made, tmp_path / "home")
    return Workspace(tmp_path / "home")


def vault_of(workspace: Workspace) -> Vault:
    return Vault(workspace.vault, KeyDirectory(workspace.keys))


def cases(vault: Vault) -> pd.DataFrame:
    """A case a customer, of the customer's last three payments: as a queue would list them."""
    rows = vault.read("demo", columns=["transaction_id", "event_time", "customer_id"])
    rows = rows.groupby("customer_id").tail(3).reset_index(drop=True)
    codes = {code: short_code(code.encode()) for code in rows["customer_id"].unique()}
    return rows.assign(
        alert_id=rows["customer_id"].map(codes),
        model="demo", version="1", as_of=rows["event_time"].max() + DAY, score=0.5, risk=0.5, tier="high",
        action="manual_review", reasons='[{"code": "R1", "en": "It is large", "zh": "金额较大"}]', rules="",
        chance=np.nan,
    )  # fmt: skip


def first_case(workspace: Workspace) -> pd.DataFrame:
    """A case of three payments that the source says nothing of but silence."""
    rows = vault_of(workspace).read("demo.cases")
    labels = vault_of(workspace).read("demo", columns=["transaction_id", "is_fraud"]).set_index("transaction_id")
    fraud = rows["transaction_id"].map(labels["is_fraud"]).astype(bool).groupby(rows["alert_id"]).transform("any")
    rows = rows[~fraud & (rows.groupby("alert_id")["alert_id"].transform("size") == 3)]
    return rows[rows["alert_id"] == rows["alert_id"].iloc[0]].reset_index(drop=True)


def sheet(folder: Path, text: str, name: str = "sheet.csv") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def labels_of(workspace: Workspace, ids: list[str], as_of: pd.Timestamp | None = None) -> pd.DataFrame:
    frame = load_transactions("demo", purpose=TRAINING, as_of=as_of, workspace=workspace)
    return frame[frame["transaction_id"].isin(ids)].set_index("transaction_id")[["is_fraud", "label_time"]]


# -- what stands ------------------------------------------------------------------------------------------------------


def statements(*said: tuple[str, float, str]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "transaction_id": ["p"] * len(said),
            "outcome": [what for what, _, _ in said],
            "decided_at": pd.to_datetime([START + day * DAY for _, day, _ in said], utc=True),
            "source": [source for _, _, source in said],
        }
    )


def payment(fraud: bool | None, day: float | None) -> pd.DataFrame:
    known = pd.NaT if day is None else START + day * DAY
    return pd.DataFrame(
        {
            "transaction_id": ["p"],
            "is_fraud": pd.array([fraud], dtype="boolean"),
            "label_time": pd.to_datetime([known], utc=True),
        }
    )


@pytest.mark.parametrize(
    ("source", "said", "stands", "since"),
    [
        ((None, None), [("fraud", 1, "review")], True, 1),
        ((None, None), [("unsure", 1, "review")], None, None),
        ((False, 14), [("fraud", 1, "review")], True, 1),  # silence does not overturn a review
        ((False, 14), [("fraud", 20, "chargeback")], True, 20),
        ((False, 14), [("unsure", 20, "review")], False, 14),
        ((True, 5), [("genuine", 6, "review")], False, 6),  # the newest wins
        ((True, 5), [("genuine", 4, "review")], True, 5),
        ((True, 5), [("fraud", 2, "review")], True, 2),  # known since the first of those who agree
        ((True, 5), [("fraud", 9, "review")], True, 5),
        ((None, None), [("fraud", 1, "review"), ("genuine", 3, "review"), ("fraud", 5, "chargeback")], True, 5),
        ((None, None), [("genuine", 3, "review"), ("fraud", 3, "chargeback")], True, 3),  # at once: the chargeback
        ((True, 3), [("genuine", 3, "review")], False, 3),  # at once: the review before the source
        ((None, None), [("fraud", 2, "review"), ("unsure", 4, "review")], True, 2),
    ],
)
def test_the_rules_of_what_stands(source: tuple, said: list, stands: bool | None, since: float | None) -> None:
    for order in (said, said[::-1]):
        label = with_outcomes(payment(*source), statements(*order), None).iloc[0]
        assert (label["is_fraud"] is pd.NA) if stands is None else label["is_fraud"] == stands
        assert (label["label_time"] is pd.NaT) if since is None else label["label_time"] == START + since * DAY


def plainly(fraud: bool | None, known: float | None, said: list[tuple[str, float, str]], as_of: float) -> tuple:
    """The rules once more, a payment at a time."""
    rank = {"source": 0, "review": 1, "random": 1, "chargeback": 2}
    told = [(day, rank[source], what == "fraud") for what, day, source in said if day <= as_of and what != "unsure"]
    if not told:
        return (fraud, known) if known is not None and known <= as_of else (None, None)
    if fraud and known is not None and known <= as_of:
        told.append((known, 0, True))
    best: dict[float, tuple[int, bool]] = {}
    for day, weight, answer in told:
        if day not in best or weight > best[day][0]:
            best[day] = (weight, answer)
    days = sorted(best)
    answer, since = best[days[-1]][1], days[-1]
    for day in reversed(days):
        if best[day][1] != answer:
            break
        since = day
    return answer, since


def test_labels_are_those_of_the_rules_applied_one_by_one_at_any_moment() -> None:
    rng = np.random.default_rng(3)
    sources = ["review", "random", "chargeback"]
    for as_of in range(10):
        moment = START + as_of * DAY
        rows, told, expected = [], [], []
        for number in range(60):
            fraud, known = [(None, None), (True, float(rng.integers(0, 9))), (False, 6.0)][rng.integers(0, 3)]
            # One answer for each moment and kind: contradictions are refused before they come in.
            said = {}
            for _ in range(rng.integers(0, 5)):
                day, source = float(rng.integers(0, 9)), sources[rng.integers(0, 3)]
                kind = "looked at" if source != "chargeback" else source
                said[day, kind] = (str(rng.choice(["fraud", "genuine", "unsure"])), day, source)
            rows.append(payment(fraud, known).assign(transaction_id=f"p{number}", event_time=START - DAY))
            told.append(statements(*said.values()).assign(transaction_id=f"p{number}"))
            expected.append(plainly(fraud, known, list(said.values()), as_of))
        every = pd.concat(told).sample(frac=1, random_state=as_of)
        found = as_known_at(with_outcomes(pd.concat(rows, ignore_index=True), every, moment), moment)
        for label, (answer, since) in zip(found.to_dict("records"), expected):
            assert (None if pd.isna(label["is_fraud"]) else bool(label["is_fraud"])) is answer
            assert (None if pd.isna(label["label_time"]) else (label["label_time"] - START) / DAY) == since


def test_what_comes_later_moves_nothing_of_before() -> None:
    moment = START + 4 * DAY
    before = with_outcomes(payment(False, 3), statements(("fraud", 2, "review")), moment)
    later = statements(("fraud", 2, "review"), ("genuine", 4.5, "review"), ("genuine", 6, "chargeback"))
    pd.testing.assert_frame_equal(before, with_outcomes(payment(False, 3), later, moment))
    assert with_outcomes(payment(None, None), statements(("fraud", 9, "review")), moment)["is_fraud"].isna().all()


def test_other_payments_and_columns_are_untouched() -> None:
    rows = pd.concat([payment(True, 1), payment(False, 2).assign(transaction_id="q")], ignore_index=True)
    rows["amount"] = [1.0, 2.0]
    found = with_outcomes(rows, statements(("genuine", 3, "review")), None)
    pd.testing.assert_series_equal(found.loc[1], rows.loc[1])
    assert found["amount"].tolist() == [1.0, 2.0]
    assert with_outcomes(rows, None, None) is rows


# -- how they come in -------------------------------------------------------------------------------------------------


def test_a_case_labels_its_payments_from_the_decision_on_and_not_before(workspace: Workspace, tmp_path: Path) -> None:
    case = first_case(workspace)
    ids, decided = case["transaction_id"].tolist(), case["event_time"].max() + DAY
    before, digest = labels_of(workspace, ids), data_digest(vault_of(workspace), "demo")
    path = sheet(
        tmp_path, f"alert_id,outcome,decided_at,by,notes\n{case['alert_id'][0].lower()},fraud,{decided},desk-2,=x\n"
    )
    done = import_outcomes("demo", path, now=NOW, workspace=workspace)
    assert done == {
        "kind": "cases", "rows": 1, "undecided": 0, "unknown": 0, "outcomes": 3, "new": 3, "already": 0, "fraud": 3,
        "genuine": 0, "unsure": 0, "random": 0,
    }  # fmt: skip
    known = labels_of(workspace, ids)
    assert known["is_fraud"].tolist() == [True] * 3
    assert known["label_time"].tolist() == [decided] * 3
    assert not before["is_fraud"].any()
    early = decided - pd.Timedelta(microseconds=1)
    assert not labels_of(workspace, ids, early)["is_fraud"].fillna(False).any()
    assert labels_of(workspace, ids, decided)["is_fraud"].all()
    facts = dataset_facts("demo", TRAINING, workspace=workspace)
    assert facts["digest"] == data_digest(vault_of(workspace), "demo") != digest
    # The same file again: nothing new, the same data.
    again = import_outcomes("demo", path, now=NOW + DAY, workspace=workspace)
    assert (again["new"], again["already"]) == (0, 3)
    assert data_digest(vault_of(workspace), "demo") == facts["digest"]
    entries = audit_log(workspace).entries("label")["facts"].tolist()
    assert [(entry["new"], entry["source"]) for entry in entries] == [(3, "review"), (0, "review")]
    assert outcomes_of(vault_of(workspace), "demo")["by"].unique().tolist() == ["desk-2"]
    assert "notes" not in outcomes_of(vault_of(workspace), "demo")


def test_columns_that_a_purpose_does_not_see_are_not_shown_for_it(workspace: Workspace) -> None:
    case = first_case(workspace)
    record_outcome("demo", case["alert_id"][0], "fraud", decided_at="2026-05-01", now=NOW, workspace=workspace)
    frame = load_transactions("demo", purpose=TRAINING, columns=["is_fraud", "amount"], workspace=workspace)
    assert list(frame) == ["amount", "is_fraud"]
    whole = load_transactions("demo", purpose=TRAINING, workspace=workspace)
    assert frame["is_fraud"].sum() == whole["is_fraud"].sum()


def test_some_payments_of_a_case_may_be_named(workspace: Workspace) -> None:
    case = first_case(workspace)
    done = record_outcome(
        "demo", case["alert_id"][0], "fraud", decided_at="2026-05-01", only="1, 3", now=NOW, workspace=workspace
    )
    assert done["new"] == 2
    ids = case["transaction_id"].tolist()
    assert set(outcomes_of(vault_of(workspace), "demo")["transaction_id"]) == {ids[0], ids[2]}
    with pytest.raises(InputError, match="only: must not exceed the number of payments of the case"):
        record_outcome("demo", case["alert_id"][0], "fraud", decided_at="2026-05-01", only="4", workspace=workspace)


def test_chargebacks_come_by_the_sources_number_in_any_spelling(workspace: Workspace, tmp_path: Path) -> None:
    raw = RAW["payment_id"].iloc[[5, 9]].tolist()
    text = "\ufeffTransaction ID;Is Fraud;Reported At;Bank\n" + "".join(
        f"{each};{said};2026-05-0{day};x\n" for each, said, day in zip(raw, ("TRUE", "0"), (1, 2))
    )
    done = import_outcomes("demo", sheet(tmp_path, text), zone="Europe/Berlin", now=NOW, workspace=workspace)
    assert (done["kind"], done["new"], done["fraud"], done["genuine"]) == ("chargebacks", 2, 1, 1)
    held = outcomes_of(vault_of(workspace), "demo").set_index("transaction_id")
    assert held.loc[raw[0], "source"] == "chargeback"
    # A day alone is its end, where the sheet was filled in.
    assert held.loc[raw[0], "decided_at"] == pd.Timestamp("2026-05-01T22:00Z")
    assert labels_of(workspace, raw)["is_fraud"].tolist() == [True, False]


def test_a_sheet_from_excel_comes_in_with_its_dates(workspace: Workspace, tmp_path: Path) -> None:
    codes = vault_of(workspace).read("demo.cases")["alert_id"].unique()[:3]
    path = tmp_path / "sheet.xlsx"
    with xlsxwriter.Workbook(path) as book:
        page = book.add_worksheet()
        page.write_row(0, 0, ["alert_id", "outcome", "decided_at_utc", "by"])
        when = book.add_format({"num_format": "yyyy-mm-dd hh:mm"})
        for line, code in enumerate(codes, start=1):
            page.write_row(line, 0, [code, ["fraud", "genuine", ""][line - 1]])
            page.write_datetime(line, 2, pd.Timestamp("2026-05-01 14:30").to_pydatetime(), when)
    done = import_outcomes("demo", path, by="desk-1", now=NOW, workspace=workspace)
    assert (done["rows"], done["undecided"], done["fraud"], done["genuine"]) == (3, 1, 3, 3)
    held = outcomes_of(vault_of(workspace), "demo")
    assert held["decided_at"].unique().tolist() == [pd.Timestamp("2026-05-01T14:30Z")]


GOOD = "2026-05-01T10:00Z"


@pytest.mark.parametrize(
    ("head", "rows", "match"),
    [
        (
            "alert_id,outcome,decided_at",
            ["CODE,maybe,GOOD"],
            r"outcome: must be fraud, genuine or unsure; found 1 .*line 2",
        ),
        ("alert_id,outcome,decided_at", ["CODE,fraud,GOOD", "CODE,fraud,soon"], r"decided_at: must say .*line 3"),
        (
            "alert_id,outcome,decided_at",
            ["CODE,fraud,2025-01-01"],
            "decided_at: must not lie before the payment; found 3",
        ),
        ("alert_id,outcome,decided_at", ["CSS62-XB4D8,fraud,GOOD"], "alert_id: must be ten letters and digits"),
        ("alert_id,outcome,decided_at", ["CSS62-XB4D7,fraud,GOOD"], "alert_id: must be a case that was listed"),
        ("alert_id,outcome,decided_at", ["CODE,,GOOD"], "outcome: must be filled in on at least one row"),
        ("alert_id,outcome", ["CODE,fraud"], "file: column 'decided_at' is missing"),
        ("alertid,outcome,decided_at", ["CODE,fraud,GOOD"], "found none; did you mean 'alertid'?"),
        ("alert_id,alert_id", ["CODE,CODE"], "file: each column must be named once"),
        ("alert_id,outcome,decided_at,by", ["CODE,fraud,GOOD,ann@example.com"], "by: must be a role"),
        ("alert_id,outcome,decided_at,only", ["CODE,fraud,GOOD,all"], "only: must be payments' numbers"),
        (
            "alert_id,outcome,decided_at",
            ["CODE,fraud,GOOD", "CODE,genuine,GOOD"],
            "must not contradict each other.*2 and 3",
        ),
        ("transaction_id,is_fraud,reported_at", ["P99999999,1,GOOD"], "transaction_id: must be a payment that"),
        ("alert_id,outcome,decided_at", [], "file: must have a row of column names and rows below it"),
    ],
)
def test_what_breaks_a_rule_is_refused_in_one_sentence_and_nothing_comes_in(
    workspace: Workspace, tmp_path: Path, head: str, rows: list[str], match: str
) -> None:
    code = first_case(workspace)["alert_id"][0]
    text = "\n".join([head, *rows]).replace("CODE", code).replace("GOOD", GOOD) + "\n"
    with pytest.raises(InputError, match=match) as refused:
        import_outcomes("demo", sheet(tmp_path, text), now=NOW, workspace=workspace)
    assert code not in str(refused.value)
    assert "\n" not in str(refused.value)
    assert outcomes_of(vault_of(workspace), "demo") is None


def test_an_outcome_is_replaced_by_a_later_one_and_never_silently(workspace: Workspace) -> None:
    case = first_case(workspace)
    code, ids = case["alert_id"][0], case["transaction_id"].tolist()
    record_outcome("demo", code, "fraud", decided_at="2026-05-01 10:00", now=NOW, workspace=workspace)
    with pytest.raises(InputError, match="an outcome that replaces another has a later decided_at"):
        record_outcome("demo", code, "genuine", decided_at="2026-05-01 10:00", now=NOW, workspace=workspace)
    record_outcome("demo", code, "genuine", decided_at="2026-05-02 10:00", now=NOW, workspace=workspace)
    assert labels_of(workspace, ids)["is_fraud"].tolist() == [False] * 3
    assert labels_of(workspace, ids, pd.Timestamp("2026-05-01T12:00Z"))["is_fraud"].tolist() == [True] * 3
    assert len(outcomes_of(vault_of(workspace), "demo")) == 6, "both are kept"


def test_rows_that_are_not_held_any_more_may_be_left_out(workspace: Workspace, tmp_path: Path) -> None:
    code = first_case(workspace)["alert_id"][0]
    path = sheet(tmp_path, f"alert_id,outcome,decided_at\n{code},fraud,{GOOD}\nCSS62-XB4D7,fraud,{GOOD}\n")
    done = import_outcomes("demo", path, skip_unknown=True, now=NOW, workspace=workspace)
    assert (done["unknown"], done["new"]) == (1, 3)


def test_a_file_that_is_no_sheet_is_refused(tmp_path: Path) -> None:
    for name, data, match in (
        ("x.csv", b"\xff\xfe\x00bad", "file: must be UTF-8 text"),
        ("x.xlsx", b"no zip", "file: must be an Excel workbook"),
        ("x.txt", b"a", "file: must end in .csv or .xlsx; found '.txt'"),
    ):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(InputError, match=match):
            read_sheet(tmp_path / name)
    with pytest.raises(InputError, match=r"file: no file gone\.csv"):
        read_sheet(tmp_path / "gone.csv")


def test_several_imports_at_once_lose_nothing(workspace: Workspace) -> None:
    codes = vault_of(workspace).read("demo.cases")["alert_id"].unique()[:6]

    def bring(code: str) -> None:
        record_outcome("demo", code, "fraud", decided_at="2026-05-01", now=NOW, workspace=workspace)

    threads = [threading.Thread(target=bring, args=(code,)) for code in codes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(outcomes_of(vault_of(workspace), "demo")["alert_id"]) == set(codes)
    assert vault_of(workspace).damaged("demo.outcomes") == []


def test_what_outcomes_change_is_counted(workspace: Workspace) -> None:
    case = first_case(workspace)
    ids = case["transaction_id"].tolist()
    was = labels_of(workspace, ids)
    assert was["is_fraud"].tolist() == [False] * 3
    record_outcome("demo", case["alert_id"][0], "fraud", decided_at="2026-05-01", now=NOW, workspace=workspace)
    facts = label_facts("demo", workspace=workspace)
    changes = facts["changes"].set_index("what")["payments"]
    assert changes["turned to fraud"] == changes["known later"] == 3
    assert changes["turned to genuine"] == changes["new"] == 0
    assert facts["outcomes"][["source", "outcome", "payments"]].values.tolist() == [["review", "fraud", 3]]
    assert [(each["rows"], each["source"]) for each in facts["imports"]] == [(3, "review")]
    table = maturity_table("demo", workspace=workspace)
    assert table.columns.tolist()[1:] == [
        "share_known", "share_frauds_known", "share_known_now", "share_frauds_known_now",
    ]  # fmt: skip
    source = label_maturity(vault_of(workspace).read("demo"))
    assert table["share_known"].head(len(source)).tolist() == source["share_known"].tolist()
    # Known as fraud later than the source would have said anything: such frauds come late.
    assert table["share_frauds_known_now"].iloc[14] < table["share_frauds_known"].iloc[14]
    none = label_changes(was, was).set_index("what")["payments"]
    assert none.drop(["known to the source", "known now"]).sum() == 0


# -- what they outlive ------------------------------------------------------------------------------------------------


def test_outcomes_survive_a_new_ingest_rotation_and_a_backup(workspace: Workspace, tmp_path: Path) -> None:
    case = first_case(workspace)
    ids = case["transaction_id"].tolist()
    record_outcome("demo", case["alert_id"][0], "fraud", decided_at="2026-05-01", now=NOW, workspace=workspace)
    known = labels_of(workspace, ids)
    assert ingest(settings(), workspace, force=True)["reused"] is False
    pd.testing.assert_frame_equal(labels_of(workspace, ids), known)
    digest = data_digest(vault_of(workspace), "demo")
    rotate(vault_of(workspace), "features")
    rotate(vault_of(workspace), "manifest")
    pd.testing.assert_frame_equal(labels_of(workspace, ids), known)
    done = backup.create(workspace, out=tmp_path / "one.flbk")
    assert {"demo", "demo.cases", "demo.outcomes"} == set(done["data_sets"])
    restored = backup.restore(tmp_path / "one.flbk", tmp_path / "restored", workspace)
    assert restored["replayed"]["left"] == ""
    shutil.copytree(workspace.keys, tmp_path / "restored" / ".keys")
    pd.testing.assert_frame_equal(labels_of(Workspace(tmp_path / "restored"), ids), known)
    assert data_digest(vault_of(Workspace(tmp_path / "restored")), "demo") == digest


def test_erased_is_erased_from_cases_and_outcomes_and_stays_so(workspace: Workspace, tmp_path: Path) -> None:
    case = first_case(workspace)
    customer, code = case["customer_id"][0], case["alert_id"][0]
    record_outcome("demo", code, "fraud", decided_at="2026-05-01", now=NOW, workspace=workspace)
    backup.create(workspace, out=tmp_path / "one.flbk")
    held = access("demo", customer, workspace=workspace)
    assert [row["alert_id"] for row in held["cases"]] == [code] * 3
    assert held["cases"][0]["reasons"] == ["It is large"]
    assert [(row["outcome"], row["decided_at"][:10]) for row in held["outcomes"]] == [("fraud", "2026-05-02")] * 3
    page = access_page(held)
    assert code in page
    assert "It is large" in page
    erase("demo", customer, source=LETTER, workspace=workspace)
    for companion in (CASES, OUTCOMES):
        assert customer not in set(companion_rows(vault_of(workspace), "demo", companion)["customer_id"])
    held = access("demo", customer, workspace=workspace)
    assert (held["cases"], held["outcomes"]) == ([], [])
    with pytest.raises(InputError, match="a case that was listed"):
        record_outcome("demo", code, "fraud", decided_at="2026-05-03", now=NOW, workspace=workspace)
    # A backup from before brings nothing of it back, and another outcome can still come in.
    backup.restore(tmp_path / "one.flbk", tmp_path / "restored", workspace)
    shutil.copytree(workspace.keys, tmp_path / "restored" / ".keys")
    for companion in (CASES, OUTCOMES):
        rows = companion_rows(vault_of(Workspace(tmp_path / "restored")), "demo", companion)
        assert customer not in set(rows["customer_id"])
    other = first_case(workspace)["alert_id"][0]
    assert record_outcome("demo", other, "genuine", decided_at="2026-05-03", now=NOW, workspace=workspace)["new"] == 3


def test_a_customer_who_restricts_investigations_has_no_case(workspace: Workspace) -> None:
    case = first_case(workspace)
    Ledger(workspace.ledger).record(case["customer_id"][0], INVESTIGATION, "restriction", source=LETTER)
    with pytest.raises(InputError, match="a case that was listed"):
        record_outcome("demo", case["alert_id"][0], "fraud", decided_at="2026-05-03", now=NOW, workspace=workspace)


def test_cases_go_when_their_time_is_over_and_outcomes_stay_as_long_as_the_payments(workspace: Workspace) -> None:
    case = first_case(workspace)
    record_outcome("demo", case["alert_id"][0], "fraud", decided_at="2026-05-01", now=NOW, workspace=workspace)
    later = case["event_time"].max() + 400 * DAY
    retention(now=later, workspace=workspace)
    assert companion_rows(vault_of(workspace), "demo", CASES).empty
    assert len(outcomes_of(vault_of(workspace), "demo")) == 3
    assert len(load_transactions("demo", purpose=TRAINING, workspace=workspace))


def test_a_data_set_without_dated_labels_or_investigations_takes_no_outcome(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Vault.manifest

    def without(self: Vault, dataset: str) -> dict:
        told = real(self, dataset)
        return told | {"purposes": {TRAINING: told["purposes"][TRAINING]}} if dataset == "demo" else told

    monkeypatch.setattr(Vault, "manifest", without)
    with pytest.raises(
        InputError, match="its contract has no purpose 'case-investigation', so no case of it may be kept"
    ):
        append(vault_of(workspace), "demo", OUTCOMES, pd.DataFrame(columns=list(OUTCOMES.columns)), came={}, now=NOW)


def test_outcomes_from_before_there_were_random_checks_go_on(workspace: Workspace) -> None:
    case = first_case(workspace)
    older = replace(OUTCOMES, columns={name: told for name, told in OUTCOMES.columns.items() if name != "chance"})
    rows = case.assign(outcome="genuine", decided_at=case["event_time"] + DAY, source="review", by="desk-1")
    append(vault_of(workspace), "demo", older, rows, came={}, now=NOW)
    assert "chance" not in vault_of(workspace).read("demo.outcomes")
    assert outcomes_of(vault_of(workspace), "demo")["chance"].isna().all()
    decided = str(case["event_time"].max() + 2 * DAY)
    record_outcome("demo", case["alert_id"][0], "fraud", decided_at=decided, now=NOW, workspace=workspace)
    held = vault_of(workspace).read("demo.outcomes")
    assert list(held) == list(OUTCOMES.columns)
    assert len(held) == 6
    assert labels_of(workspace, case["transaction_id"].tolist())["is_fraud"].all()
