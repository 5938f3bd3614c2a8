"""The report says what the evidence says, needs nothing outside itself, and refuses evidence it cannot trust."""

from __future__ import annotations

import itertools
import json
import re
import runpy
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest

from fraudlab import plots
from fraudlab.privacy.disclosure import protected
from fraudlab.report import build_report, limits, read_evidence, results, sections, to_pdf
from fraudlab.report.blocks import Cell
from fraudlab.report.evidence import DOCUMENTS, TABLES
from fraudlab.schema import FraudlabError, InputError

write_evidence = runpy.run_path(str(Path(__file__).with_name("evidence_sample.py")))["write_evidence"]
VOID = {"meta", "img", "br", "hr", "link", "input"}


class Page(HTMLParser):
    """The parsed report: elements with attributes, text by section, and whether every tag is closed."""

    def __init__(self, html: str):
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text: dict[str, str] = {}
        self.section = ""
        self.feed(html.replace("<wbr>", ""))
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag == "section":
            self.section = dict(attrs)["id"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag
        if tag == "section":
            self.section = ""

    def handle_data(self, data):
        if words := " ".join(data.split()):
            self.text[self.section] = f"{self.text.get(self.section, '')} {words}"

    def all(self, *tags):
        return [(tag, attrs) for tag, attrs in self.elements if tag in tags]


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    return write_evidence(tmp_path_factory.mktemp("runs") / "demo")


@pytest.fixture(scope="module")
def html(run) -> str:
    return build_report(run, run / "report.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(html) -> Page:
    return Page(html)


@pytest.fixture
def copy(run, tmp_path):
    """An evidence folder of one's own to damage."""
    folder = tmp_path / "run" / "evidence"
    folder.mkdir(parents=True)
    for file in (run / "evidence").iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    return folder


def edit(folder: Path, name: str, **changes) -> None:
    path = folder / f"{name}.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def table(run: Path, name: str) -> pd.DataFrame:
    return pd.read_csv(run / "evidence" / f"{name}.csv")


def section_text(folder: Path, section) -> str:
    """One section's words without drawing the others."""

    def words(block) -> str:
        if isinstance(block, str | bool):
            return block if isinstance(block, str) else ""
        if isinstance(block, plots.Picture):
            return block.alt
        if isinstance(block, list | tuple):
            return " | ".join(words(inner) for inner in block)
        if isinstance(block, Cell):
            return f"{block.text} | {block.small}"
        return " | ".join(words(value) for value in vars(block).values())

    return words(section(read_evidence(folder)))


def pictures(run: Path) -> int:
    """How many pictures the sections of a run's report hold."""

    def within(blocks) -> int:
        return sum(within(block.blocks) if block.kind == "group" else block.kind == "figure" for block in blocks)

    evidence = read_evidence(run / "evidence")
    return sum(within(section(evidence).blocks) for section in sections.SECTIONS)


# --- self-contained and accessible -------------------------------------------------------------------------------


def test_nothing_is_fetched_from_anywhere(page, html):
    for _, attrs in page.elements:
        for name in ("src", "href", "srcset", "poster", "data", "action", "style"):
            value = attrs.get(name) or ""
            assert not re.match(r"\s*(https?:)?//", value)
            assert name not in ("src", "href") or not value or value.startswith(("#", "data:image/svg+xml;base64,"))
    assert not page.all("script", "link", "iframe", "object", "embed", "form", "base")
    style = html[html.index("<style>") : html.index("</style>")]
    assert "url(" not in style
    assert "@import" not in style
    policy = next(attrs["content"] for _, attrs in page.all("meta") if attrs.get("http-equiv"))
    assert policy.startswith("default-src 'none'; img-src data:;")


def test_headings_go_down_one_level_at_a_time(page):
    levels = [int(tag[1]) for tag, _ in page.all("h1", "h2", "h3", "h4")]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))


def test_pictures_tables_and_links_are_usable_without_eyes_or_mouse(page, run):
    images = page.all("img")
    assert len(images) == pictures(run)
    assert all(len(attrs["alt"]) > 40 for _, attrs in images)
    ids = [attrs["id"] for _, attrs in page.elements if "id" in attrs]
    assert len(ids) == len(set(ids))
    assert all(attrs["href"][1:] in ids for _, attrs in page.all("a"))
    assert all(attrs.get("scope") in ("col", "row") for _, attrs in page.all("th"))
    assert len(page.all("table")) == len(page.all("caption"))
    assert page.all("html")[0][1]["lang"] == "en"
    assert page.all("a")[0][1] == {"class": "skip", "href": "#summary"}
    regions = [attrs for _, attrs in page.elements if attrs.get("role") == "region"]
    assert all(
        attrs["tabindex"] == "0" and (attrs.get("aria-label") or attrs["aria-labelledby"] in ids) for attrs in regions
    )


def luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_colours_of_the_page_and_of_picture_texts_reach_contrast_aa(html):
    modes = re.findall(r":root \{(.*?)\}", html, re.DOTALL)
    assert len(modes) == 3  # light, dark, print
    light = dict(re.findall(r"--(\w+): (#\w{6})", modes[0]))
    dark = dict(re.findall(r"--(\w+): (#\w{6})", modes[1]))
    assert light.keys() == dark.keys()
    for colours in (light, dark):
        for name in ("ink", "muted", "accent", "good", "hold", "bad"):
            for ground in ("paper", "soft"):
                assert contrast(colours[name], colours[ground]) >= 4.5, (name, ground)
    for colour in (plots.style.INK, plots.style.MUTED, *(look[0] for look in plots.style.LOOKS)):
        assert contrast(colour, "#ffffff") >= 4.5


@pytest.mark.slow
def test_it_is_small_and_the_same_every_time(run, html, tmp_path):
    assert len(html.encode()) < 2_000_000
    again = build_report(run, tmp_path / "sub" / "again.html")
    assert again.read_text(encoding="utf-8") == html
    assert [path.name for path in again.parent.iterdir()] == ["again.html"]


def test_hostile_text_in_the_evidence_is_shown_not_run(copy, tmp_path):
    for path in copy.glob("*.csv"):  # without their pictures the page is quickly made
        if path.stem not in ("features", "metrics"):
            path.unlink()
    edit(copy, "run", title="<script>alert(1)</script>", owner='"><img src=x onerror=alert(1)>')
    page = Page(build_report(copy.parent, tmp_path / "r.html").read_text(encoding="utf-8"))
    assert not page.all("script")
    assert all(attrs["src"].startswith("data:") for _, attrs in page.all("img"))
    assert not any(name.startswith("on") for _, attrs in page.elements for name in attrs)
    assert "<script>alert(1)</script>" in page.text["purpose"]


# --- every section says what its table says ----------------------------------------------------------------------


def test_sections_stand_in_order_and_in_the_contents(page):
    ids = [attrs["id"] for _, attrs in page.all("section")]
    parts = [attrs["id"] for _, attrs in page.all("h2") if attrs.get("class") == "part"]
    assert parts == ["development", "validation", "governance"]
    assert ids[:3] == ["summary", "purpose", "data"]
    assert [attrs["href"][1:] for _, attrs in page.all("a") if attrs["href"][1:] in ids][1:] == ids
    assert len(ids) == len(set(ids)) == len(sections.SECTIONS)


def test_summary_holds_decision_key_figures_intervals_and_best_baseline(page, run):
    said = page.text["summary"]
    metrics = table(run, "metrics")
    assert "Decision: promoted" in said
    assert "demo version 3 is the champion now." in said
    for metric in ("card_precision_at_k", "money_caught_share", "average_precision", "auc_roc"):
        rows = metrics[metrics["metric"] == metric].set_index("model")
        ours = rows.loc["xgboost"]
        texts = [plots.metric_text(metric, ours[name]) for name in ("value", "low", "high")]
        assert f"{texts[0]} {texts[1]} to {texts[2]}" in said
        best = rows.drop("xgboost")["value"].idxmax()
        label = {"logistic": "Logistic regression", "rules": "Rules"}[best]
        assert f"{label}: {plots.metric_text(metric, rows.loc[best, 'value'])}" in said
    assert "AUC ROC on the test part: 0.891 (≥ 0.600)" in said
    found = limits.found_limitations(read_evidence(run / "evidence"))
    assert f"{len(found)} limitations were found in this run" in said
    assert "The promotion gate" not in said  # the reasons name every check


def test_the_gate_is_tabled_where_a_check_failed_or_no_reason_names_it(copy):
    edit(copy, "decision", reasons=["There was no champion."])
    said = section_text(copy, sections.summary)
    assert "The promotion gate" in said
    assert "AUC ROC on the test part | 0.6 | 0.8911 | passed" in said
    checks = [{"check": "AUC ROC", "required": ">= 0.600", "found": 0.55, "passed": False}]
    edit(copy, "decision", reasons=["AUC ROC: required >= 0.600, found 0.550"], gate=checks, decision="rejected")
    said = section_text(copy, sections.summary)
    assert "AUC ROC: required ≥ 0.600, found 0.550" in said
    assert "AUC ROC | ≥ 0.600 | 0.55 | failed" in said
    edit(copy, "decision", gate=[])
    assert "No check of the promotion gate was recorded." in section_text(copy, sections.summary)


@pytest.mark.parametrize(
    ("decision", "said"),
    [
        ("kept champion", "demo version 3 stays a challenger; version 2 remains the champion."),
        ("rejected", "demo version 3 did not pass the gate and is not to be used."),
    ],
)
def test_other_decisions_read_differently(copy, decision, said):
    edit(copy, "decision", decision=decision, champion_before="2")
    assert said in section_text(copy, sections.summary)


def test_purpose_leaves_empty_human_fields_not_provided(page):
    said = page.text["purpose"]
    assert "Owner not provided" in said
    assert "Purpose of the processing fraud-model-training: Train and judge models" in said


def test_purpose_states_basis_and_retention_of_the_contract(page, copy):
    said = page.text["purpose"]
    assert "Lawful basis in the data contract legitimate interest, GDPR Article 6(1)(f)" in said
    assert "Kept for this purpose at most 1,095 days" in said
    edit(copy, "data", basis="another", retention_days=None)
    said = section_text(copy, sections.purpose_and_owner)
    assert "Lawful basis in the data contract | another" in said
    assert "Kept for this purpose at most | not provided" in said


def test_data_counts_digests_treatments_and_dropped_columns(page, run):
    said = page.text["data"]
    facts = json.loads((run / "evidence" / "data.json").read_text())
    for key in ("rows", "customers", "labelled", "unlabelled", "frauds"):
        assert f" {facts[key]:,} " in said
    assert "b2" * 32 in said
    assert "customer_id id replaced by a keyed pseudonym fraud-model-training who paid" in said
    assert "memo 81,204" in said
    assert "loyalty_tier fewer than 10" in said
    assert "half within 14.0, 90 % within 14.0, longest 27.3" in said


def test_privacy_names_columns_and_that_pseudonymised_data_stays_personal(page):
    said = page.text["privacy"]
    assert "Replaced by a keyed pseudonym customer_id, card_id, device_id" in said
    assert "Encrypted apart, in the identity file customer_name, email" in said
    assert "Undeclared, never left ingest memo, loyalty_tier" in said
    assert "remain personal data" in said


def test_method_tables_the_parts_and_the_models(page):
    said = page.text["method"]
    assert "Learns from 60 days, waits 14 days for labels" in said
    assert "train 2026-02-10 2026-04-11 35,120 371 1.06 % 846" in said
    assert "Left out of the test: 96 customers with 1,804 payments" in said
    assert "XGBoost candidate 36,400 392 10 143 yes 12,870 isotonic, 140 frauds 1.9" in said
    assert "Logistic regression baseline 36,400 392 10 – no – 1.9" in said
    assert "Calibration was learned on validation rows." in said
    assert "XGBoost max_depth = 4, learning_rate = 0.1, eval_metric = logloss and aucpr, seed = 7 Logistic" in said
    assert "Logistic regression C = 1, seed = 7" in said
    assert "best_iteration" not in said
    assert "35120" not in said  # the train part stands in the table of the split


def test_method_reads_the_rules_with_units_and_points(page):
    said = page.text["method"]
    assert "merchant, risk, 7d merchant_id__risk__7d above 17 % +4.57" in said
    assert "is night is_night yes +0.86" in said
    assert "customer, since last customer_id__since_last at least 29 minutes +1.10" in said
    assert "a rule of another making" in said


def test_features_have_names_and_meanings(page, run, html):
    for row in table(run, "features").itertuples():
        names = row.column if row.label == row.column else f"{row.label} {row.column}"
        assert f" {names} {row.group} {row.meaning}" in page.text["features"]
    assert "customer_id__<wbr>amount__<wbr>zscore__<wbr>90d" in html


def test_evidence_without_short_names_and_kinds_falls_back_to_meanings(copy):
    bare = pd.read_csv(copy / "features.csv").drop(columns=["label", "kind"])
    bare.to_csv(copy / "features.csv", index=False)
    said = section_text(copy, results.features)
    assert "customer_id__amount__zscore__90d | amount | Amount against this customer's own amounts" in said
    said = section_text(copy, sections.explaining.explanation)
    assert "Amount against this customer's own amounts over 90 days | customer_id__amount__zscore__90d" in said
    assert "above 0.1667" in section_text(copy, results.method)


def test_checks_prints_checks_and_the_features_to_look_at_first(page, run):
    said = page.text["checks"]
    for check in json.loads((run / "evidence" / "checks.json").read_text()):
        shown = f"{ {'passed': '✓', 'failed': '✗'}.get(check['result'], '○') } {check['result']}"
        assert f"{check['code']} {check['title']} {check['severity']} {shown} {check['sentence']}" in said
    assert "Features that are not clean" not in said
    assert "the first half (18,000 payments, 190 frauds) and was judged on the second (18,400 payments, 202" in said
    drift = table(run, "stability").groupby("feature")["psi"].max()
    alone = table(run, "time_consistency").set_index("feature")
    places = {name: said.index(f" {name} {alone.loc[name, 'verdict']} ") for name in alone.index}
    for name, place in places.items():
        row, here = alone.loc[name], said[place : place + 200]
        for value, low, high in ((row[f"{n}_{when}"] for n in ("auc", "low", "high")) for when in ("first", "last")):
            shown = "–" if pd.isna(value) else f"{value:.3f} {low:.3f} to {high:.3f}"
            assert f" {shown} " in here
        assert f" {drift[name]:.3f}" in here
    ordered = sorted(places, key=places.get)
    assert ordered[0] == alone.index[alone["verdict"] == "fades"][0]
    assert ordered[1] == "customer_id__since_last"  # it drifts most


def test_checks_tables_a_leak_and_hides_small_counts(copy):
    leaking = pd.read_csv(copy / "leakage.csv", keep_default_na=False)
    leaking.loc[0, ["verdict", "moved", "rewriting", "meaning"]] = ["leaks", 4, "later rows added", "It sees more."]
    leaking.to_csv(copy / "leakage.csv", index=False)
    checks = json.loads((copy / "checks.json").read_text())
    checks[0] |= {"result": "failed", "sentence": "1 of 10 features sees the future."}
    (copy / "checks.json").write_text(json.dumps(checks))
    early = pd.read_csv(copy / "time_consistency.csv").assign(frauds_first=7)
    early.to_csv(copy / "time_consistency.csv", index=False)
    said = section_text(copy, sections.checking.checks)
    assert "Features that are not clean" in said
    assert "customer_id__amount__zscore__90d | leaks | fewer than 10 | It sees more." in said
    assert "18,000 payments, fewer than 10 frauds" in said
    assert "Check FL001 failed: 1 of 10 features sees the future." in limits.found_limitations(read_evidence(copy))


def test_performance_prints_every_value_of_the_metric_table(page, run):
    said = page.text["performance"]
    for row in table(run, "metrics").dropna(subset=["value"]).itertuples():
        value, low, high = (plots.metric_text(row.metric, number) for number in (row.value, row.low, row.high))
        assert f"{value} {low} to {high}" in said
    assert "A case is one customer on one day" in said
    assert "Not applicable: the model states no risk." in said


def looked_at(copy: Path, configs: list[str]) -> str:
    """What the section says after as many looks."""
    when = pd.date_range("2026-07-01", periods=len(configs), freq="2D", tz="UTC")
    seen = pd.DataFrame({"when": when, "run": "demo-5f", "config_digest": configs, "model": "xgboost", "whole": True})
    seen = seen.assign(auc_roc=0.91234, average_precision=0.5, card_precision_at_k=float("nan"))
    seen.to_csv(copy / "test_looks.csv", index=False)
    return section_text(copy, results.performance)


def test_performance_says_how_often_the_test_was_looked_at(copy):
    (copy / "test_looks.csv").unlink(missing_ok=True)
    assert "Not available: test_looks.csv" in section_text(copy, results.performance)
    once = looked_at(copy, ["c1"])
    assert "These test days were looked at once, on 2026-07-01." in once
    assert "Looks at these test days" not in once
    often = looked_at(copy, ["c1", "c2abcdefghijk"])
    assert "looked at 2 times, with 2 different configs, first on 2026-07-01 and last on 2026-07-03" in often
    assert "2026-07-03 00:00 | demo-5f | c2abcdefgh | 0.912 | " in often
    many = looked_at(copy, ["c1"] * 13)
    assert "with 1 different config," in many
    assert "Looks at these test days, the last 10" in many
    assert many.count("demo-5f") == 10


def test_calibration_prints_the_last_stage_in_groups_without_few_frauds(page, run):
    after = table(run, "calibration").query("stage == 'after'")
    frauds = (after["n"] * after["observed"]).round()
    assert frauds.between(1, 9).any(), "the sample has what must not be shown"
    for row in after[frauds.cumsum().eq(0)].itertuples():
        assert f"{row.n:,} {plots.share(row.mean_predicted)} 0 %" in page.text["calibration"]
    printed = re.findall(r"\b([\d,]+) [\d.]+ % ([\d.]+) % [\d.]+ % to", page.text["calibration"])
    printed = [(int(n.replace(",", "")), float(observed)) for n, observed in printed]
    assert len(printed) < len(after)
    assert sum(n for n, _ in printed) == after["n"].sum(), "joined, not left out"
    assert not any(0 < n * observed / 100 < 9.5 for n, observed in printed)


def test_explanation_shows_features_and_five_cases_with_reasons(page, run):
    said = page.text["explanation"]
    for row in table(run, "importance").itertuples():
        ends = f"{row.low:.3f} to {row.high:.3f}"
        assert f"{row.feature} {row.group} {row.mean_abs:.3f} {ends} {plots.share(row.share)}" in said
    alts = " ".join(attrs["alt"] for _, attrs in page.all("img"))
    assert "make up" in alts
    assert "customer, amount, zscore, 90d" in alts
    alerts = json.loads((run / "evidence" / "alerts.json").read_text())
    for alert in alerts:
        assert f"Example alert {alert['case']}: " in said
        assert f"When {alert['day']}, {alert['hour']:02d} h UTC Amount {alert['amount']:,.0f}" in said
        assert f"Score before calibration {alert['score']:.4g} Stated risk {plots.share(alert['risk'])}" in said
    assert said.count("First time on this device; 3 other customers used it within 30 days") == 5


def test_reproduce_holds_command_digests_versions_and_config(page, run):
    said = page.text["reproduce"]
    for text in (
        "fraudlab retrain --config configs/demo.toml",
        "a1" * 32,
        "c3" * 32,
        "e5" * 32,
        "d4" * 20,
        "xgboost 3.2.0",
    ):
        assert text in said
    assert read_evidence(run / "evidence").digest in said
    assert 'contract = "configs/contracts/demo.toml"' in said


def test_sign_off_is_left_to_people(page):
    said = page.text["sign-off"]
    assert "Independent validator not provided not provided not provided" in said
    assert "Champion before 2 Champion after demo version 3" in said


def test_change_log_says_what_differs_from_the_champion_before(page, copy):
    said = page.text["change-log"]
    short = "settings: 3, features added: 1, features removed: 1, the data"
    assert f"3 2026-07-02 {short} not provided not provided" in said
    assert "Data (sha-256) a9a9a9a9a9a9 b2b2b2b2b2b2" in said
    assert 'model.max_depth 5 4 model.calibration platt isotonic decision.groups – ["age_band"]' in said
    assert "Features added: is_night. Features removed: amount__log." in said
    assert "Precision of the daily cases 38.7 % 41.3 % AUC ROC – 0.891" in said
    edit(copy, "changes", version=None, note="there was no champion before", facts=[], config=[], metrics=[])
    edit(copy, "changes", features_added=[], features_removed=[])
    said = section_text(copy, sections.governance.change_log)
    assert "first version" in said
    assert "Nothing to compare with: there was no champion before." in said
    edit(copy, "changes", version="2", note="")
    assert "nothing: the same config, data and code" in section_text(copy, sections.governance.change_log)
    (copy / "changes.json").unlink()
    assert "Not available: changes.json" in section_text(copy, sections.governance.change_log)


def test_data_quality_and_anonymity_are_those_of_their_tables(page, run):
    said = page.text["data"]
    assert "device_id 41.3 % 1,204 – – –" in said
    assert "amount 0 % 21,377 1.25 27.50 412.75" in said
    assert "latitude not shown 48 −38.50 48.75 59.50 not shown: fewer than 10 payments lack it, or have it" in said
    assert "37 payments repeat an earlier one in customer, moment, amount and merchant." in said
    assert "customers 870 1 4.14 % 22.8 % 1 0.914 payments 98,310 12 0 % 0 % 2 0.227" in page.text["privacy"]


def test_privacy_counts_the_lines_that_small_numbers_hide(run):
    evidence = read_evidence(run / "evidence")
    hidden = sections.data.hidden_cells(evidence)
    assert hidden["segments.csv"] == 6  # two of the three bands of amounts, three figures each
    assert hidden["data_quality.csv"] == 1
    notes = table(run, "comparison")["note"].fillna("")
    assert hidden["comparison.csv"] == notes.str.contains("not shown").sum()
    assert "roc.csv" not in hidden


def test_segments_print_every_figure_and_hide_small_ones(page, run):
    said = page.text["segments"]
    found = table(run, "segments")
    for row in found.dropna(subset="value").itertuples():
        value, low, high = (plots.metric_text(row.metric, number) for number in (row.value, row.low, row.high))
        assert f"{value} {low} to {high}" in said
    assert "up to 12.50 3,010 not shown not shown not shown not shown" in said
    weeks = table(run, "comparison").query("view == 'period' and model == 'xgboost' and champion == 'logistic'")
    for row in weeks.itertuples():
        value = plots.metric_text(row.metric, row.value)
        assert f"{row.group} 4,000 {value} " in said


def test_fairness_prints_rates_ratios_and_recalls_by_group(page, run, copy):
    said = page.text["fairness"]
    found = table(run, "comparison").query("view == 'group' and champion == 'logistic'")
    for row in found[(found["model"] != "difference") & found["value"].notna()].itertuples():
        write = (lambda value: f"{value:.2f}") if row.metric == "false_positive_ratio" else plots.share
        assert f"{write(row.value)} {write(row.low)} to {write(row.high)}" in said
    assert "0-19 164 not shown not shown" in said
    assert "No group's ratio lies outside 0.80 to 1.25 with an interval that excludes 1." in said
    bent = table(run, "comparison")
    where = (bent["metric"] == "false_positive_ratio") & (bent["group"] == "20-29") & (bent["model"] == "xgboost")
    bent.loc[where, ["value", "low", "high"]] = [1.6, 1.2, 2.1]
    bent.to_csv(copy / "comparison.csv", index=False)
    assert "Large differences for XGBoost: 20-29." in section_text(copy, sections.comparison.fairness)
    bent.loc[where, "low"] = 0.9
    bent.to_csv(copy / "comparison.csv", index=False)
    assert "Large differences" not in section_text(copy, sections.comparison.fairness)


# --- limitations are computed ------------------------------------------------------------------------------------


def test_limitations_are_found_where_the_evidence_crosses_a_limit(copy, run):
    fold = json.loads((copy / "fold.json").read_text())
    fold["parts"][-1]["frauds"] = 40
    edit(copy, "fold", parts=fold["parts"], late_frauds=0.05)
    edit(copy, "data", label_delay_days={"median": 9, "p90": 30.5, "max": 60}, source="file", dropped=[])
    table(run, "daily").groupby("model").head(5).to_csv(copy / "daily.csv", index=False)
    late = table(run, "label_maturity").assign(share_known=0.5, share_frauds_known=0.7)
    late.to_csv(copy / "label_maturity.csv", index=False)
    table(run, "importance").assign(share=[0.7] + [0.3 / 9] * 9).to_csv(copy / "importance.csv", index=False)
    risk = table(run, "calibration")
    risk.loc[risk.index[-2:], "mean_predicted"] = 0.99
    risk.to_csv(copy / "calibration.csv", index=False)
    assert limits.found_limitations(read_evidence(copy)) == [
        "Few frauds: the test part holds 40, below 100; expect wide intervals.",
        "Few days: the test has 5, below 20; intervals over days are too narrow then.",
        "Frauds still to come: about 5.00 % of the test's frauds are expected to be reported later.",
        "Late labels: 90 % are known only after 30.5 days; the split waits 14.",
        "Immature labels: only 50.0 % are known when the split stops waiting.",
        "Late reports: 30.0 % of the frauds are reported only after the 14 days that the split waits, too late for the "
        "newest training payments.",
        "Not clearly ahead: at the alert budget the interval of Logistic regression overlaps the candidate's.",
        "Level: the stated risks of the test part add up to 2,384 frauds and 86 were seen; the level of fraud has "
        "moved since validation, so read risks as too high.",
        "Calibration: in 2 of 4 groups the stated risk lies outside the 95 % interval.",
        "Memory: the stated risk tells with an AUC of 0.812 which frauds the model learnt from; a smaller depth or a "
        "larger min_child_weight makes it forget single payments.",
        "One feature dominates: customer, amount, zscore, 90d makes up 70.0 % of all movement.",
    ]


def test_simulated_data_and_unused_columns_are_limitations(run, copy):
    found = limits.found_limitations(read_evidence(run / "evidence"))
    assert found[0].startswith("The data is simulated")
    edit(copy, "data", source="simulated payments (870 customers, 180 days, seed 7)")
    assert limits.found_limitations(read_evidence(copy)) == found
    assert found[-1] == (
        "Unused source columns: the contract does not declare memo, loyalty_tier, so the model never saw them."
    )


def test_no_limitation_is_said_when_none_is_crossed(copy, run):
    edit(copy, "data", source="file", dropped=[])
    metrics = table(run, "metrics")
    metrics.loc[metrics["model"] != "xgboost", ["value", "low", "high"]] *= 0.5
    metrics.to_csv(copy / "metrics.csv", index=False)
    table(run, "membership").assign(auc=0.6).to_csv(copy / "membership.csv", index=False)
    assert limits.found_limitations(read_evidence(copy)) == []
    assert "No limit of this report's list was crossed." in section_text(copy, limits.limitations)


# --- evidence that is missing or wrong ---------------------------------------------------------------------------

OPTIONAL = {
    "data_quality.csv": "data",
    "anonymity.csv": "privacy",
    "segments.csv": "segments",
    "changes.json": "change-log",
    "membership.csv": "privacy",
    "daily_volume.csv": "data",
    "label_maturity.csv": "data",
    "label_sources.csv": "data",
    "blind_side.csv": "data",
    "daily.csv": "performance",
    "roc.csv": "ranking",
    "pr.csv": "ranking",
    "simulation.csv": "money",
    "calibration.csv": "calibration",
    "calibration_error.csv": "calibration",
    "tiers.csv": "tiers",
    "policy.csv": "tiers",
    "policy_reasons.csv": "tiers",
    "policy_costs.csv": "tiers",
    "policy_outcomes.csv": "tiers",
    "customer_rating.csv": "rating",
    "rating_after.csv": "rating",
    "rating_moves.csv": "rating",
    "rating_effect.csv": "rating",
    "threshold_outcomes.csv": "tiers",
    "comparison.csv": "comparison",
    "importance.csv": "explanation",
    "dependence.csv": "explanation",
    "interactions.csv": "explanation",
    "reason_stability.csv": "explanation",
    "robustness.csv": "robustness",
    "alerts.json": "explanation",
    "checks.json": "checks",
    "leakage.csv": "checks",
    "time_consistency.csv": "checks",
    "stability.csv": "checks",
}


def test_absent_optional_evidence_is_named_in_its_section(copy, tmp_path):
    for kind, files in (("json", DOCUMENTS), ("csv", TABLES)):
        for name, (required, _) in files.items():
            if not required:
                (copy / f"{name}.{kind}").unlink(missing_ok=True)
    page = Page(build_report(copy.parent, tmp_path / "r.html").read_text(encoding="utf-8"))
    for file, section in OPTIONAL.items():
        assert f"Not available: {file}" in page.text[section]
    assert len(page.all("img")) == 2  # the split's time line and the models side by side


def test_empty_optional_tables_are_no_failure(copy, tmp_path):
    for file in OPTIONAL:
        if file.endswith(".csv"):
            pd.read_csv(copy / file).iloc[:0].to_csv(copy / file, index=False)
    (copy / "alerts.json").write_text("[]")
    (copy / "checks.json").write_text("[]")
    page = Page(build_report(copy.parent, tmp_path / "r.html").read_text(encoding="utf-8"))
    alts = " ".join(attrs["alt"] for _, attrs in page.all("img"))
    assert "There is no simulation to draw." in alts
    assert "the test part lacks one of them" in alts


@pytest.mark.parametrize("file", ["run.json", "data.json", "fold.json", "models.json", "decision.json"])
def test_absent_required_evidence_is_refused_and_nothing_written(copy, tmp_path, file):
    (copy / file).unlink()
    (copy / "metrics.csv").unlink()
    with pytest.raises(InputError) as refused:
        build_report(copy.parent, tmp_path / "out" / "r.html")
    assert str(refused.value).splitlines() == [
        f"report: {file} is missing in the evidence folder; run the notebook that writes it",
        "report: metrics.csv is missing in the evidence folder; run the notebook that writes it",
    ]
    assert not (tmp_path / "out").exists()


def damage_json(folder):
    (folder / "run.json").write_text('{"name": ')


def damage_shape(folder):
    (folder / "models.json").write_text("{}")


def drop_key(folder):
    decision = json.loads((folder / "decision.json").read_text())
    del decision["gate"]
    (folder / "decision.json").write_text(json.dumps(decision))


def drop_column(folder):
    pd.read_csv(folder / "roc.csv").rename(columns={"tpr": "tprs"}).to_csv(folder / "roc.csv", index=False)


def empty_table(folder):
    (folder / "pr.csv").write_text("")


def wrong_decision(folder):
    edit(folder, "decision", decision="promote")


def two_candidates(folder):
    models = json.loads((folder / "models.json").read_text())
    (folder / "models.json").write_text(json.dumps([model | {"role": "candidate"} for model in models]))


def text_metrics(folder):
    pd.read_csv(folder / "metrics.csv").assign(value="high").to_csv(folder / "metrics.csv", index=False)


def unmeasured(folder):
    pd.read_csv(folder / "metrics.csv").query("model != 'rules'").to_csv(folder / "metrics.csv", index=False)


def bad_config(folder):
    (folder / "config.toml").write_text("name = ")


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (damage_json, "report: run.json must be JSON; found an error in line 1; write it again"),
        (damage_shape, "report: models.json must hold a list of objects; found dict; write it again"),
        (drop_key, "report: decision.json must have gate; found none; write the evidence again"),
        (drop_column, "report: roc.csv lacks column 'tpr'; did you mean 'tprs'?"),
        (empty_table, "report: pr.csv must be a CSV table with a header; it is not; write the evidence again"),
        (wrong_decision, "report: decision.json: unknown decision 'promote'; did you mean 'promoted'?"),
        (two_candidates, "report: models.json must name one candidate; found 3; set its role"),
        (text_metrics, "report: metrics.csv: column 'value' must hold numbers; found text; write it again"),
        (
            unmeasured,
            "report: metrics.csv must measure every model of models.json; found no rows of 'rules'; evaluate it",
        ),
        (
            bad_config,
            "report: config.toml must be TOML; found: Invalid value (at end of document); write the evidence again",
        ),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_damaged_evidence_is_refused(copy, damage, said):
    damage(copy)
    with pytest.raises(InputError, match=f"^{re.escape(said)}$"):
        read_evidence(copy)


def test_a_missing_folder_and_a_wrong_file_name_are_refused(tmp_path, run):
    with pytest.raises(InputError, match=r"report: no evidence folder at .*; run the notebooks first"):
        build_report(tmp_path, tmp_path / "r.html")
    with pytest.raises(InputError, match=r"^out: must name a file ending in \.html; found 'r\.pdf'"):
        build_report(run, tmp_path / "r.pdf")


def test_the_evidence_digest_changes_with_any_file(copy):
    before = read_evidence(copy).digest
    text = (copy / "simulation.csv").read_text()
    (copy / "simulation.csv").write_text(text.replace("21", "22", 1))
    assert read_evidence(copy).digest != before
    (copy / "notes.txt").write_text("no evidence")
    (copy / "simulation.csv").write_text(text)
    assert read_evidence(copy).digest == before


def test_privacy_says_what_the_model_remembers_and_hides_few_frauds(page, copy):
    assert "Fraud 700 140 0.812" in page.text["privacy"]
    remembered = "Memory: the stated risk tells with an AUC of 0.812 which frauds the model learnt from"
    assert remembered in page.text["limitations"]
    table = pd.read_csv(copy / "membership.csv").assign(auc=[0.51, 0.6, 0.51], others=[12_870, 4, 12_866])
    protected("membership", table).to_csv(copy / "membership.csv", index=False)
    said = section_text(copy, sections.data.privacy)
    assert "fewer than 10" in said
    assert "12,866" not in said
    assert remembered not in " ".join(limits.found_limitations(read_evidence(copy)))


def test_data_protection_counts_columns_by_purpose_and_days_by_the_run(copy):
    data, made = json.loads((copy / "data.json").read_text()), pd.Timestamp("2030-01-11T00:00Z")
    edit(copy, "run", created=made.isoformat())
    left_out = {"customers": 12, "rows": 90, "why": {"objection": 12}}
    edit(copy, "data", first="2030-01-01T00:00:00+00:00", retention_days=9, left_out=left_out)
    said = section_text(copy, sections.data.data_protection)
    assert "9 days; the oldest payment had 10 when this was made: past its time" in said
    assert "12 customers with 90 payments (objection: 12)" in said
    for purpose in {name for column in data["columns"] for name in column["purposes"]}:
        loads = apart = 0
        for column in data["columns"]:
            if purpose in column["purposes"]:
                apart += column["treatment"] in ("identity", "drop")
                loads += column["treatment"] not in ("identity", "drop")
        assert f"{purpose} | {loads} | {apart}" in said
    edit(copy, "data", retention_days=10)
    assert "past its time" not in section_text(copy, sections.data.data_protection)
    edit(copy, "data", retention_days=None, left_out=None)
    assert section_text(copy, sections.data.data_protection).count("not provided") == 2


# --- PDF ---------------------------------------------------------------------------------------------------------


def test_pdf_without_weasyprint_says_what_to_install(run, html, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "weasyprint", None)
    with pytest.raises(FraudlabError, match=r"PDF needs WeasyPrint, which is not installed; .*make extras"):
        to_pdf(run / "report.html", tmp_path / "r.pdf")
    with pytest.raises(InputError, match=r"html_path: no report at .*absent\.html; build it first"):
        to_pdf(tmp_path / "absent.html", tmp_path / "r.pdf")
    assert not (tmp_path / "r.pdf").exists()


def test_the_package_ships_template_and_style():
    code = (
        "from importlib.resources import files; here = files('fraudlab.report'); "
        "print([here.joinpath(name).is_file() for name in ('template.html.j2', 'style.css')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[True, True]"
