"""The sheet of a case: true, without anyone's name, the same in two languages, and found by its code."""

from __future__ import annotations

import ast
import base64
import re
import shutil
import stat
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from fraudlab import casework
from fraudlab.casework.facts import CHAINED, Case, case_facts, links_of, usual_of
from fraudlab.casework.queue import queue_table
from fraudlab.casework.sheet import case_sheet
from fraudlab.cli import app
from fraudlab.config import RunConfig, Workspace
from fraudlab.datasets import load_transactions, raw_identifiers
from fraudlab.datasets.labelling import cases_of, record_outcome
from fraudlab.plots.casework import payment_history
from fraudlab.privacy.auditlog import audit_log
from fraudlab.report.language import tables
from fraudlab.schema import InputError
from fraudlab.tracking import registered_package

DAY = pd.Timedelta(days=1)


@pytest.fixture(scope="module")
def home(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    root = tmp_path_factory.mktemp("sheet") / "home"
    shutil.copytree(made, root)
    return Workspace(root)


@pytest.fixture(scope="module")
def case(home: Workspace) -> Case:
    """The case with most payments."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("FRAUDLAB_KEYS", raising=False)
        table = queue_table("demo", home, open_only=False)
        return case_facts(table.sort_values("payments")["alert_id"].iloc[-1], "demo", home)


@pytest.fixture(scope="module")
def sheets(case: Case) -> dict[str, str]:
    return {lang: case_sheet(case, lang) for lang in ("en", "zh")}


class Page(HTMLParser):
    """Reads a page's words, ids and what it would fetch."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.labels: list[str] = []
        self.fetched: list[str] = []
        self.headings: list[int] = []
        self.images: list[dict] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list) -> None:
        given = dict(attrs)
        self.ids += [given["id"]] if "id" in given else []
        self.labels += [given["for"]] if tag == "label" else []
        self.headings += [int(tag[1])] if re.fullmatch(r"h[1-6]", tag) else []
        self.images += [given] if tag == "img" else []
        self.fetched += [given[k] for k in ("src", "href") if k in given and not given[k].startswith(("#", "data:"))]


def test_the_facts_are_those_of_the_vault(case: Case, home: Workspace, as_of: pd.Timestamp) -> None:
    rows = cases_of("demo", home)
    rows = rows[rows["alert_id"] == case.alert_id]
    known = load_transactions("demo", purpose="case-investigation", as_of=as_of, workspace=home)
    mine = known[known["customer_id"] == rows["customer_id"].iloc[0]]
    of_case = mine[mine["transaction_id"].isin(rows["transaction_id"])]
    assert case.payments["amount"].tolist() == of_case["amount"].tolist()
    assert case.payments["number"].tolist() == list(range(1, len(rows) + 1))
    assert case.payments["risk"].tolist() == rows["risk"].tolist()
    last = of_case["event_time"].max()
    near = mine[(mine["event_time"] <= last) & (mine["event_time"] >= last - 90 * DAY)]
    assert case.history["amount"].tolist() == near["amount"].tolist()
    assert case.history["case"].sum() == len(rows)
    assert case.history["fraud"].tolist() == near["is_fraud"].fillna(False).tolist()
    assert "latitude" not in case.payments


def test_contributions_sum_to_the_score_that_listed_it(case: Case, home: Workspace) -> None:
    rows = cases_of("demo", home)
    best = rows[rows["alert_id"] == case.alert_id]["score"].max()
    _, _, package = registered_package(home, "demo/1")
    assert case.note == ""
    assert 1 / (1 + np.exp(-case.score["margin"])) == pytest.approx(best, abs=1e-5) or best == pytest.approx(
        case.score["margin"], abs=1e-4
    )
    shown = sum(part["contribution"] for part in case.score["contributions"])
    assert abs(case.score["base"] + shown - case.score["margin"]) < abs(case.score["margin"] - case.score["base"]) + 10
    assert {part["feature"] for part in case.score["contributions"]} <= set(package.model.features)
    assert case.would_change


def test_no_name_number_or_whole_pseudonym_is_on_a_sheet(
    case: Case, home: Workspace, config: RunConfig, sheets: dict[str, str]
) -> None:
    # Pictures as what they say: decoded, without the coordinates of their lines.
    decoded = [base64.b64decode(found).decode() for found in re.findall(r"svg\+xml;base64,([^\"]+)", sheets["en"])]
    assert len(decoded) == 2
    pages = [re.sub(r"base64,[^\"]+", "", html) for html in sheets.values()]
    text = "".join([*pages, *(re.sub(r'\b(d|style)="[^"]*"', "", svg) for svg in decoded)])
    known = load_transactions("demo", purpose="case-investigation", workspace=home)
    hidden = {
        *known["customer_id"],
        *known["transaction_id"],
        *known["card_id"],
        *known["device_id"].dropna(),
        *known["ip"].dropna(),
    }
    assert not [value for value in [*raw_identifiers(config), *map(str, hidden)] if value in text]
    assert case.customer in text
    assert len(case.customer) == 8


def test_a_sheet_is_whole_readable_and_the_same_each_time(case: Case, sheets: dict[str, str]) -> None:
    assert case_sheet(case) == sheets["en"]
    for html in sheets.values():
        page = Page(html)
        assert page.fetched == []
        assert "<script" not in html
        assert len(page.ids) == len(set(page.ids))
        assert set(page.labels) <= set(page.ids)
        assert page.headings[0] == 1
        assert all(step <= 1 for step in np.diff(page.headings))
        assert all(len(image["alt"]) > 40 for image in page.images)
        assert len(page.images) == 2
        assert f"fraudlab labels record {case.alert_id}" in html
        assert f"--case {case.alert_id}" in html
        assert len(html) < 400_000


def test_the_chinese_sheet_says_everything_in_chinese(case: Case, sheets: dict[str, str]) -> None:
    html = sheets["zh"]
    for said in ("待审核案件", "为何排名靠前", "本案的交易", "与谁有关联", "决定"):
        assert said in html
    for one in case.reasons:
        assert one["zh"] in html


def test_every_sentence_of_case_work_has_its_chinese() -> None:
    folder = Path(casework.__file__).parent
    said = set()
    for path in folder.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "say":
                said.add(ast.literal_eval(node.args[0]))
    for path in folder.glob("*.j2"):
        said |= set(re.findall(r'\bsay\("((?:[^"\\]|\\.)*)"', path.read_text(encoding="utf-8")))
    known = {english for table in tables("zh").values() for english in table}
    assert len(said) > 60
    assert said <= known


def test_links_are_those_of_a_plain_search() -> None:
    rng = np.random.default_rng(2)
    for _ in range(20):
        n = 60
        rows = pd.DataFrame(
            {
                "event_time": pd.Timestamp("2026-03-01", tz="UTC")
                + pd.to_timedelta(np.sort(rng.integers(0, 60 * 24, n)), unit="h"),
                "customer_id": [f"customer-{i}" for i in rng.integers(0, 25, n)],
                "device_id": [f"d{i}" if i < 20 else None for i in rng.integers(0, 24, n)],
                "card_id": [f"k{i}" for i in rng.integers(0, 40, n)],
                "is_fraud": pd.array(rng.choice([True, False, None], n), dtype="boolean"),
            }
        )
        payments = rows.iloc[[int(rng.integers(20, n))]]
        last, me = payments["event_time"].iloc[0], payments["customer_id"].iloc[0]
        links = links_of(rows, payments).set_index("what")
        before = [row for row in rows.to_dict("records") if row["event_time"] <= last]
        for name, what in (("device_id", "device"), ("card_id", "card")):
            value = payments[name].iloc[0]
            if value is None or value != value:
                assert what not in links.index
                continue
            near = [
                r for r in before if r["event_time"] >= last - 30 * DAY and r[name] == value and r["customer_id"] != me
            ]
            assert links.loc[what, "others"] == len({r["customer_id"] for r in near})
            assert links.loc[what, "known_fraud"] == len({r["customer_id"] for r in near if r["is_fraud"] is True})
        group, grew = {me}, True
        while grew:
            keys = {
                (n, r[n])
                for r in before
                if r["customer_id"] in group
                for n in ("device_id", "card_id")
                if r[n] == r[n] and r[n]
            }
            more = {r["customer_id"] for r in before for n in ("device_id", "card_id") if (n, r[n]) in keys}
            grew = not more <= group
            group |= more
        if CHAINED in links.index:
            assert links.loc[CHAINED, "others"] == len(group) - 1
        else:
            direct = {r["customer_id"] for r in before if r["event_time"] >= last - 30 * DAY}
            assert group - {me} <= direct


def test_a_first_payment_has_no_usual_and_an_empty_history_says_so() -> None:
    assert usual_of(pd.DataFrame(columns=["event_time", "amount"])) == {}
    alone = pd.DataFrame(
        {"event_time": pd.to_datetime(["2026-03-01"], utc=True), "amount": [0.0], "case": [True], "fraud": [True]}
    )
    picture = payment_history(alone)
    assert picture.alt.startswith("There is no earlier payment to compare with. 1 payments")
    assert "no payment of this case" in payment_history(alone.assign(case=False)).alt


def test_the_history_says_in_words_what_it_shows() -> None:
    rows = pd.DataFrame(
        {
            "event_time": pd.date_range("2026-03-01", periods=5, freq="D", tz="UTC"),
            "amount": [10.0, 20.0, 500.0, 30.0, 90.0],
            "case": [False, False, False, False, True],
            "fraud": [False, False, True, False, False],
            "place_km": [np.nan, 1.0, 4.0, 0.0, 1200.0],
        }
    )
    alt = payment_history(rows).alt
    assert "largest amount is 90.00; 1 of 4 other payments in 90 days were as large" in alt
    assert "5 payments from 01 March 2026 to 05 March 2026, 1 of this case, 1 known as fraud by then" in alt
    assert "1,200 km" in alt


def test_what_is_no_case_is_refused(home: Workspace) -> None:
    with pytest.raises(InputError, match="case: must be ten letters and digits"):
        case_facts("CSS62-XB4D8", "demo", home)
    with pytest.raises(InputError, match="data set demo holds no case CSS62-XB4D7 for the purpose"):
        case_facts("CSS62-XB4D7", "demo", home)
    with pytest.raises(InputError, match="vault: no data set 'other'"):
        case_facts("CSS62-XB4D7", "other", home)


def test_the_commands_lead_from_the_queue_to_the_label(workspace: Workspace, tmp_path: Path) -> None:
    def run(*words: str) -> str:
        done = CliRunner().invoke(app, list(words))
        assert done.exit_code == 0, f"{done.output}{done.exception!r}"
        return done.output

    shown = run("queue", "--no-score", "--as-of", "2026-04-06T00:00Z")
    code = queue_table("demo", workspace)["alert_id"].iloc[0]
    assert code in shown
    assert f"Next: fraudlab case {code} --dataset demo --out sheet.html" in shown
    out = tmp_path / "sheet.html"
    assert "this look is in the audit log" in run("case", code.lower().replace("-", ""), "--out", str(out))
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    assert code in out.read_text(encoding="utf-8")
    entry = audit_log(workspace).entries("export")["facts"].iloc[-1]
    assert (entry["what"], entry["case"]) == ("case sheet", code)
    assert "1 rows of cases" in run("labels", "record", code, "fraud", "--by", "desk-1", "--decided-at", "2026-04-06")
    assert "turned to fraud" in run("labels", "show")
    assert "share_known" in run("labels", "maturity", "--json")
    words = ("--as-of", "2026-04-08T00:00Z", "--out", str(tmp_path / "queue.csv"), "--json")
    assert code not in run("queue", "--no-score", *words)
    assert code not in (tmp_path / "queue.csv").read_text(encoding="utf-8")
    refused = CliRunner().invoke(app, ["queue", "--format", "csv"])
    assert isinstance(refused.exception, InputError)


def test_what_came_back_is_on_the_sheet(workspace: Workspace) -> None:
    code = queue_table("demo", workspace)["alert_id"].iloc[0]
    record_outcome("demo", code, "unsure", decided_at="2026-04-07 08:30", by="desk-3", workspace=workspace)
    facts = case_facts(code, "demo", workspace, explained=False)
    assert facts.outcomes[["outcome", "by"]].values.tolist() == [["unsure", "desk-3"]]
    html = case_sheet(facts)
    assert "2026-04-07 08:30" in html
    assert "desk-3" in html
    assert "How the score came about" not in html


def test_a_case_leads_to_its_customer_through_the_guarded_look_up(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = cases_of("demo", workspace)
    code = rows["alert_id"].iloc[0]
    mine = rows.loc[rows["alert_id"] == code, "transaction_id"].tolist()
    asked: list[dict] = []

    def look_up(dataset: str, **given: object) -> dict[str, list[str]]:
        asked.append({"dataset": dataset, **given})
        return {"customer_name": ["Ann"]}

    monkeypatch.setattr("fraudlab.datasets.reidentify.reidentify", look_up)
    words = ["privacy", "reidentify", "demo", "--case", code.lower(), "--reason", "call back on this case"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    assert [(each["dataset"], each["transaction"], each["pseudonym"]) for each in asked] == [("demo", mine[0], None)]
    assert all(payment in done.output for payment in mine)
    refused = CliRunner().invoke(app, [*words, "--transaction", mine[0]])
    assert isinstance(refused.exception, InputError)
    assert "name one case, one transaction or one pseudonym" in str(refused.exception)
    assert len(asked) == 1
