"""The papers: every figure comes from vault, ledger and registry; what a machine cannot know is asked."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import os
import re
import shutil
import stat
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from fraudlab import papers, tracking
from fraudlab.config import ModelConfig, RunConfig, Workspace
from fraudlab.datasets import ingest
from fraudlab.decisions import Thresholds
from fraudlab.features import FeatureSet, count, value
from fraudlab.papers import facts as facts_module
from fraudlab.papers import texts
from fraudlab.privacy.auditlog import audit_log
from fraudlab.privacy.consent import Ledger
from fraudlab.privacy.scan import find_planted
from fraudlab.schema import FraudlabError, InputError
from fraudlab.serving import save_package
from fraudlab.training import fit_estimator

ROOT = Path(__file__).resolve().parents[2]
NOW = pd.Timestamp("2024-06-01", tz="UTC")
CONTRACT = """
name = "shop"
timezone = "UTC"
label_delay_days = 14
extras = ["nickname"]

[purposes.fraud-model-training]
basis = "legitimate-interest"
meaning = "Train models that find fraud"
retention_days = 60

[purposes.newsletter]
basis = "consent"
meaning = "Send you our news"
retention_days = 3650
"""
# source, name, type, treatment and more, purposes
COLUMNS = [
    ("no", "transaction_id", "id", 'treatment = "keep"', "both"),
    ("at", "event_time", "time", 'treatment = "keep"', "both"),
    ("who", "customer_id", "id", 'treatment = "pseudonymise"\nidentity = true', "both"),
    ("paid", "amount", "number", 'treatment = "keep"', "training"),
    ("land", "country", "text", 'treatment = "keep"', "training"),
    ("money", "currency", "text", 'treatment = "keep"', "training"),
    ("born", "age_band", "date", 'treatment = "generalise"\nhow = "age-band"\nidentity = true', "both"),
    ("nick", "nickname", "text", 'treatment = "drop"\nidentity = true', "news"),
    ("bad", "is_fraud", "boolean", 'treatment = "keep"', "training"),
]
PURPOSES = {
    "both": '["fraud-model-training", "newsletter"]',
    "training": '["fraud-model-training"]',
    "news": '["newsletter"]',
}


def raw_table() -> pd.DataFrame:
    rng = np.random.default_rng(3)
    rows, people = 600, 40
    who = rng.integers(0, people, rows)
    at = pd.Timestamp("2024-01-10 12:00", tz="UTC") + pd.to_timedelta(rng.integers(0, 120 * 86_400, rows), unit="s")
    at = [NOW - pd.Timedelta(days=60), *at[1:]]  # of exactly its age: not past it
    return pd.DataFrame(
        {
            "no": [f"t{i:05d}" for i in range(rows)],
            "at": [f"{moment:%Y-%m-%dT%H:%M:%SZ}" for moment in at],
            "who": [f"customer-{i:06d}" for i in who],
            "paid": np.round(rng.lognormal(3, 1, rows), 2),
            "land": np.where(who % 7 == 0, "FR", "DE"),
            "money": "EUR",
            "born": [f"{1950 + 12 * (i % 4)}-05-01" for i in who],
            "nick": [f"nickname-of-{i:06d}" for i in who],
            "bad": rng.random(rows) < 0.1,
            "shoe_size": np.where(rng.random(rows) < 0.5, 42.0, np.nan),
        }
    )


RAW = raw_table()
FEATURES = FeatureSet("tiny", [value("amount"), count(by="customer_id", window="1d")])


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A file through its contract into a vault, one registered model, one objection."""
    root = tmp_path_factory.mktemp("project")
    declared = [
        f'[[columns]]\nsource = "{source}"\nname = "{name}"\ntype = "{kind}"\n{treated}\n'
        f'purposes = {PURPOSES[whose]}\nmeaning = "the {name}"\n'
        for source, name, kind, treated, whose in COLUMNS
    ]
    (root / "shop.toml").write_text(CONTRACT + "\n" + "\n".join(declared))
    RAW.to_csv(root / "shop.csv", index=False)
    dataset = {"name": "shop", "source": "file", "path": root / "shop.csv", "contract": root / "shop.toml"}
    config = RunConfig.model_validate({"name": "shop-model", "dataset": dataset})
    made = Workspace(root)
    ingest(config, made, now=NOW)
    rng = np.random.default_rng(0)
    X = pd.DataFrame({name: rng.gamma(2, 10, 400) for name in FEATURES.columns})
    fitted = fit_estimator(X, (X["amount"] > 30).to_numpy(), model=ModelConfig(n_estimators=5), seed=0, threads=1)
    about = {"purpose": "fraud-model-training", "feature_set": FEATURES.to_dict()}
    save_package(root / "package", fitted, Thresholds(review=0.5, step_up=0.2), FEATURES.describe(), about)
    client = tracking.open_store(made)
    run_id = tracking.start_run(client, config, name="a run")
    tracking.register_package(client, run_id, root / "package", name="shop-model", config=config)
    tracking.finish_run(client, run_id, "FINISHED")
    Ledger(made.ledger).record(
        "7f" * 16, "fraud-model-training", "objection", basis="legitimate-interest", source="letter of 2024-05-01"
    )
    return made


@pytest.fixture(scope="module")
def facts(workspace: Workspace) -> facts_module.Facts:
    return papers.gather(workspace, "shop", now=NOW)


@pytest.fixture(scope="module")
def written(workspace: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("out") / "privacy"
    papers.write_papers(workspace, "shop", folder, now=NOW)
    return folder


# --- where figures come from -------------------------------------------------------------------------------------


def test_every_paper_ends_with_the_digest_of_the_manifest_and_the_date(workspace: Workspace, written: Path) -> None:
    digest = hashlib.sha256((workspace.vault / "shop" / "manifest.json").read_bytes()).hexdigest()
    names = {path.stem for path in written.glob("*.md")}
    assert names == {
        "summary", "record-of-processing", "impact-assessment", "data-minimisation", "privacy-notice", "retention"
    }  # fmt: skip
    for name in names:
        end = (written / f"{name}.md").read_text().rpartition("\n---\n")[2]
        assert f"Manifest (sha-256): {digest}" in end
        assert "Made: 2024-06-01 00:00 UTC" in end
        foot = (written / f"{name}.html").read_text().rpartition("<footer>")[2]
        assert digest in foot
        assert "2024-06-01 00:00 UTC" in foot


def test_retention_counts_what_a_loop_counts(facts: facts_module.Facts) -> None:
    moments = [dt.datetime.fromisoformat(text.replace("Z", "+00:00")) for text in RAW["at"]]
    for row in facts.retention.itertuples():
        limit = {"fraud-model-training": 60, "newsletter": 3650}[row.purpose]
        past = 0
        for moment in moments:
            past += NOW.to_pydatetime() - moment > dt.timedelta(days=limit)
        assert (row.days, row.past, row.rows) == (limit, past, len(moments))
        assert row.age == (NOW.to_pydatetime() - min(moments)).days
    assert 0 < facts.retention["past"].iloc[0] < len(moments)


def test_retention_says_what_to_do(facts: facts_module.Facts, written: Path) -> None:
    text = (written / "retention.md").read_text()
    past = int(facts.retention["past"].iloc[0])
    assert re.search(rf"\| fraud-model-training \| 60 \|.*\| {past} \| remove: fraudlab privacy retention \|", text)
    assert re.search(r"\| newsletter \| 3,650 \|.*\| 0 \| none until 2034-01-\d\d \|", text)
    later = replace(facts, retention=facts.retention.assign(past=0))
    assert "Nothing is past its time" in papers.to_markdown(texts.retention(later))


def test_what_is_collected_dropped_used_and_unused(facts: facts_module.Facts, written: Path) -> None:
    text = (written / "data-minimisation.md").read_text()
    rows = {line.split(" | ")[1]: line for line in text.split("## What each purpose")[0].splitlines() if " | " in line}
    assert "shop-model 1" in rows["amount"]
    assert "shop-model 1" in rows["customer_id"]
    assert "people, on re-identification" in rows["nickname"]
    assert rows["country"].endswith("no model; a named feature set could |")
    assert f"| shoe_size | {RAW['shoe_size'].notna().sum()} |" in text
    unused = text.split("## What nobody uses")[1]
    assert "| currency | money | fraud-model-training | drop it from the contract |" in unused
    assert re.search(r"\| age_band \|.*take it off fraud-model-training; ", unused)
    assert "country" not in unused.split("---")[0]
    assert facts.models[0].columns == FEATURES.requires


def test_a_column_is_counted_as_used_once_a_model_reads_it(facts: facts_module.Facts) -> None:
    reading = replace(facts.models[0], columns=(*facts.models[0].columns, "currency"))
    text = papers.to_markdown(texts.minimisation(replace(facts, models=[reading])))
    assert "| currency |" not in text.split("## What nobody uses")[1]


def test_without_a_model_the_named_sets_stand_in_and_the_paper_says_so(facts: facts_module.Facts) -> None:
    none = replace(facts, models=[])
    assert "No model trained on this data set is registered" in papers.to_markdown(texts.minimisation(none))
    assert "country" in none.used
    assert "the named feature sets stand in" in papers.to_markdown(texts.assessment(none))


def test_a_purpose_nobody_loaded_for_is_named(facts: facts_module.Facts) -> None:
    loads = pd.DataFrame({"purpose": ["fraud-model-training"], "loads": [3], "last": [NOW]})
    unused = papers.to_markdown(texts.minimisation(replace(facts, loads=loads))).split("## What nobody uses")[1]
    assert "nobody loaded data for newsletter: drop it, or name who needs it" in unused


def test_the_record_tells_what_left_and_to_whom(workspace: Workspace, tmp_path: Path) -> None:
    copied = Workspace(shutil.copytree(workspace.root, tmp_path / "copy"))
    log = audit_log(copied)
    for receiver in ("Bank of the North", "Bank of the South", "Bank of the North"):
        log.append("export", what="indicators", agreement="card-circle", receiver=receiver)
    log.append("export", what="queue of cases", dataset="shop")
    log.append("export", what="queue of cases", dataset="another")
    found = facts_module.gather(copied, "shop", now=NOW)
    assert found.gone[["what", "to", "times"]].to_numpy().tolist() == [
        ["indicators", "Bank of the North", 2],
        ["indicators", "Bank of the South", 1],
        ["queue of cases", "", 1],
    ]
    told = papers.to_markdown(texts.record(found)).split("## Who gets the data")[1].split("## How long")[0]
    assert f"| indicators | Bank of the North | 2 | {dt.date.today():%Y-%m-%d} |" in told
    assert "| queue of cases | whoever made it | 1 |" in told
    nothing = papers.to_markdown(texts.record(replace(found, gone=found.gone[:0])))
    assert "The audit log has no entry of anything that left the workspace." in nothing
    assert "There is no audit log yet" in papers.to_markdown(texts.record(replace(found, gone=None)))


def test_recognition_is_what_counting_customers_one_by_one_gives(facts: facts_module.Facts, written: Path) -> None:
    last = max(RAW["at"])[:10]
    profiles: dict[str, set[tuple[str, int]]] = {}
    for who, land, born in zip(RAW["who"], RAW["land"], RAW["born"]):
        had = (int(last[:4]) - int(born[:4]) - (last[5:] < born[5:])) // 10
        profiles.setdefault(who, set()).add((land, had))
    groups = Counter(frozenset(profile) for profile in profiles.values())
    below = sum(size for size in groups.values() if size < 10)
    assert (facts.risk.units, facts.risk.k_anonymity) == (len(profiles), min(groups.values()))
    assert facts.risk.units_below == below > 0
    assert "By what: country, age_band" in (written / "impact-assessment.md").read_text()


def test_small_counts_of_people_are_hidden(written: Path) -> None:
    text = (written / "impact-assessment.md").read_text()
    assert "| fraud-model-training | objection | fewer than 10 |" in text


def test_a_changed_package_is_named_and_not_believed(workspace: Workspace, tmp_path: Path) -> None:
    about = next(workspace.mlruns.rglob("package/package.json"))
    kept = about.read_bytes()
    about.write_bytes(kept.replace(b"amount", b"amaunt"))
    try:
        found = facts_module.used_models(workspace, "shop")
    finally:
        about.write_bytes(kept)
    assert found[0].columns == ()
    assert "not the one that was registered" in found[0].problem
    assert facts_module.used_models(workspace, "another") == []


# --- what only a person knows ------------------------------------------------------------------------------------


def test_open_questions_are_counted_and_marked_where_they_stand(workspace: Workspace, written: Path) -> None:
    summary = (written / "summary.md").read_text()
    assert f"{len(papers.QUESTIONS)} of {len(papers.QUESTIONS)} questions are open" in summary
    others = "".join(path.read_text() for path in written.glob("*.md") if path.stem != "summary")
    for name in papers.QUESTIONS:
        assert f"**not provided**: {papers.QUESTIONS[name]} (answers.toml: {name})" in others, name
        assert f"| {name} |" in summary
    html = (written / "record-of-processing.html").read_text()
    assert html.count('class="absent"') == (written / "record-of-processing.md").read_text().count("**not provided**")


def test_an_answer_closes_its_question_and_is_kept(workspace: Workspace, tmp_path: Path) -> None:
    out = tmp_path / "privacy"
    first = papers.write_papers(workspace, "shop", out, now=NOW)
    assert first["open"] == list(papers.QUESTIONS)
    answers = out / "answers.toml"
    answers.write_text(answers.read_text().replace('controller = ""', 'controller = "Example <Bank> & Co"'))
    second = papers.write_papers(workspace, "shop", out, now=NOW)
    assert second["open"] == [name for name in papers.QUESTIONS if name != "controller"]
    assert "Controller: Example <Bank> & Co" in (out / "record-of-processing.md").read_text()
    assert "Example &lt;Bank&gt; &amp; Co" in (out / "record-of-processing.html").read_text()
    assert 'controller = "Example <Bank> & Co"' in answers.read_text(), "an answer is never overwritten"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('controler = "x"', "no question 'controler'; did you mean 'controller'?"),
        ("controller = 7", "'controller' must be text; found int"),
        ("controller =", "not valid TOML"),
    ],
)
def test_what_is_no_answer_is_refused_and_nothing_written(
    workspace: Workspace, tmp_path: Path, text: str, said: str
) -> None:
    (tmp_path / "mine.toml").write_text(text)
    with pytest.raises(InputError, match=re.escape(said)):
        papers.write_papers(workspace, "shop", tmp_path / "out", answers=tmp_path / "mine.toml", now=NOW)
    assert not (tmp_path / "out").exists()


# --- what is written ---------------------------------------------------------------------------------------------


def test_no_identifier_is_in_any_byte(workspace: Workspace, written: Path) -> None:
    needles = sorted({*RAW["who"], *RAW["nick"], *RAW["born"]})
    assert find_planted([written], needles).empty
    pseudonyms = facts_module.Vault(workspace.vault, facts_module.open_keys(workspace)).read("shop")["customer_id"]
    text = "".join(path.read_text() for path in written.iterdir())
    assert not [code for code in pseudonyms.unique() if code in text]


def test_files_are_for_their_owner_whatever_the_umask(workspace: Workspace, tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        papers.write_papers(workspace, "shop", tmp_path / "out", now=NOW)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "out").stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "out").iterdir()} == {0o600}


def test_a_disk_that_refuses_leaves_the_earlier_papers(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    papers.write_papers(workspace, "shop", out, now=NOW)
    before = {path.name: path.read_bytes() for path in out.iterdir()}

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(papers.os, "replace", full)
    with pytest.raises(FraudlabError, match="No space left on device"):
        papers.write_papers(workspace, "shop", out, now=NOW + pd.Timedelta(days=1))
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


class Page(HTMLParser):
    """What a browser would fetch, and whether every tag is closed."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.mark.parametrize("name", ["summary", "record-of-processing", "impact-assessment", "privacy-notice"])
def test_a_page_is_whole_and_fetches_nothing(written: Path, name: str) -> None:
    page = Page((written / f"{name}.html").read_text())
    assert page.open == []
    assert not [tag for tag, attrs in page.seen if tag in ("script", "link", "img") or {"src", "href"} & set(attrs)]
    levels = [int(tag[1]) for tag, _ in page.seen if re.fullmatch(r"h\d", tag)]
    assert levels[0] == 1
    assert set(levels[1:]) == {2}
    assert all(attrs.get("scope") in ("col", "row") for tag, attrs in page.seen if tag == "th")


@pytest.mark.parametrize("risk", texts.RISKS, ids=lambda risk: risk[0][:30])
def test_the_tests_that_the_assessment_names_are_there(risk: tuple[str, str, str, str]) -> None:
    assert [name for name in risk[2].split(", ") if not (ROOT / name).is_file()] == []


def test_the_command_writes_below_reports_and_says_what_is_next(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fraudlab.cli import app

    monkeypatch.setenv("FRAUDLAB_HOME", str(workspace.root))
    done = CliRunner().invoke(app, ["privacy", "papers", "--dataset", "shop"])
    assert done.exit_code == 0, done.output
    assert "16 answers are not provided. Next:" in done.output
    told = json.loads(CliRunner().invoke(app, ["privacy", "papers", "--dataset", "shop", "--json"]).stdout)
    assert sorted(told["papers"]) == sorted(path.name for path in (workspace.reports / "privacy").glob("*.html"))
    assert isinstance(CliRunner().invoke(app, ["privacy", "papers", "--dataset", "shp"]).exception, InputError)


# --- plain words -------------------------------------------------------------------------------------------------


def syllables(word: str) -> int:
    """A usual heuristic: groups of vowels, less a silent final e."""
    word = re.sub(r"[^a-z]", "", word.lower())
    groups = len(re.findall(r"[aeiouy]+", word))
    groups += bool(re.search(r"[aeiouy]ing$", word))
    silent = bool(re.search(r"[^aeiouyl]e$|[^aeioudt]ed$|[^aeiouy]es$", word)) and groups > 1
    return max(groups - silent, 1)


def readability(text: str) -> tuple[float, float]:
    """Flesch reading ease (1948) and Flesch-Kincaid grade (1975)."""
    sentences = [part for part in re.split(r"[.!?]+\s", text + " ") if re.search(r"[a-zA-Z]", part)]
    words = [word for part in sentences for word in re.findall(r"[A-Za-z'-]+", part)]
    a, b = len(words) / len(sentences), sum(map(syllables, words)) / len(words)
    return 206.835 - 1.015 * a - 84.6 * b, 0.39 * a + 11.8 * b - 15.59


def test_the_measure_of_readability_knows_published_examples() -> None:
    assert readability("The cat sat on the mat.")[0] == pytest.approx(116.1, abs=0.1)
    # Wikipedia gives 69 for this sentence.
    known = "This sentence, taken as a reading passage unto itself, is being used to prove a point."
    assert readability(known)[0] == pytest.approx(69, abs=4)
    law = (
        "Personal data shall be collected for specified, explicit and legitimate purposes and not further processed in "
        "a manner that is incompatible with those purposes; further processing for archiving purposes in the public "
        "interest, scientific or historical research purposes or statistical purposes shall, in accordance with "
        "Article 89(1), not be considered to be incompatible with the initial purposes."
    )
    assert readability(law)[1] > 20


def test_an_eighth_grader_can_read_the_notice(facts: facts_module.Facts) -> None:
    answered = replace(facts, answers=dict.fromkeys(papers.QUESTIONS, "A line of text."))
    text = papers.to_markdown(texts.notice(answered)).rpartition("\n---\n")[0]
    assert "not provided" not in text
    # Lists of words and the made-up answers are left out: they would flatter the figure.
    lines = [re.sub(r"^[-# ]+", "", line) for line in text.splitlines() if line.endswith(".")]
    plain = " ".join(line for line in lines if "A line of text." not in line and line.count(" ") > 3)
    ease, grade = readability(plain)
    assert grade <= 8, grade
    assert ease >= 60, ease
