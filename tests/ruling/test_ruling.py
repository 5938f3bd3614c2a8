"""Rules on a run's payments: matured labels only, shadow rules apart, versions raised, evidence that holds."""

from __future__ import annotations

import functools
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from fraudlab import plots, recipe, ruling
from fraudlab.cli import app
from fraudlab.config import RunConfig, Workspace, config_digest, load_config
from fraudlab.privacy.disclosure import protected
from fraudlab.report.blocks import Bullets, Cell, Group, Table
from fraudlab.report.evidence import Evidence
from fraudlab.report.language import speaking
from fraudlab.report.ruling import rules
from fraudlab.rulebook import RuleBook, read_rules
from fraudlab.schema import InputError
from fraudlab.splits import temporal_fold

ROOT = Path(__file__).resolve().parents[2]
CHANGES = {
    "split__train_days": 20,
    "split__delay_days": 2,
    "split__valid_days": 14,
    "split__test_days": 14,
    "decision__alerts_per_day": 12,
    "rules__book": None,
}
TOLD = 'title = { en = "Rule %s", zh = "规则 %s" }\nsince = 2026-01-01\nowner = "a team"\nwhy = "an example of rules"\n'


def rule(name: str, expression: str, status: str = "active") -> str:
    return f"[[rule]]\nid = '{name}'\nexpression = '''{expression}'''\nstatus = '{status}'\n" + TOLD % (name, name)


BOOK = read_rules(
    "name = 'test'\nversion = 1\n"
    + rule("large", "amount > 90")
    + rule("night", "night > 1.8 or size is missing")
    + rule("both", "amount > 40 and night > 1", "shadow")
    + rule("old", "amount > 1", "retired")
)


@pytest.fixture(scope="module")
def one(sixty_days) -> tuple[RunConfig, recipe.Prepared, pd.DataFrame]:
    """Sixty days of 600 customers whose frauds are larger and at night, and scores that see it through noise."""
    rng = np.random.default_rng(0)
    rows, config = 12_000, load_config(ROOT / "configs" / "demo.toml", **CHANGES)
    transactions, _, fraud = sixty_days(rng, rows, 0.25)
    size = np.log(transactions["amount"]).mask(rng.random(rows) < 0.01)
    features = pd.DataFrame({"size": size, "night": 1.5 * fraud + rng.normal(0, 1, rows)}, dtype="float32")
    split = config.split.model_copy(update={"exclude_known_compromised": False})
    config = config.model_copy(update={"split": split})
    prepared = recipe.Prepared(transactions, features, None, temporal_fold(transactions, split))
    noise = np.log(transactions["amount"]) + features["night"] + rng.normal(0, 1, rows)
    scores = pd.DataFrame({"xgboost": noise.iloc[prepared.fold.test].to_numpy()})
    return config, prepared, scores


@pytest.fixture(scope="module")
def table(one) -> pd.DataFrame:
    config, prepared, scores = one
    return ruling.backtest(BOOK, prepared, scores, config, n_boot=8)


def test_a_backtest_has_a_row_per_rule_view_and_figure(one, table: pd.DataFrame) -> None:
    assert list(table) == list(ruling.COLUMNS)
    assert list(dict.fromkeys(table["rule"])) == ["model", "large", "night", "both", "together", "payments"]
    assert table.groupby("rule")["status"].unique().map(list).to_dict() == {
        "model": ["model"],
        "large": ["active"],
        "night": ["active"],
        "both": ["shadow"],
        "together": ["active"],
        "payments": ["payments"],
    }
    assert (table["value"].isna() == table["note"].str.startswith("not ")).all()
    assert table.loc[table["rule"] == "large", "action"].unique().tolist() == ["manual_review"]
    assert not table.astype(str).apply(lambda column: column.str.contains("customer-|t0")).any(axis=None)


def test_shadow_rules_are_measured_and_not_part_of_what_is_acted_on(one, table: pd.DataFrame) -> None:
    _, prepared, _ = one
    part = prepared.rows("test")
    fires = (part["transactions"]["amount"] > 90) | (part["features"]["night"] > 1.8) | part["features"]["size"].isna()
    cases = len(set(zip(part["transactions"]["event_time"].dt.date[fires], part["transactions"]["customer_id"][fires])))
    found = table.set_index(["rule", "view", "metric"])["value"].sort_index()
    assert found["together", "alone", "alerts_per_day"] == pytest.approx(cases / 14)
    assert found["both", "alone", "alerts_per_day"] > 0
    unknown = part["features"]["size"].isna()
    assert found["night", "alone", "unknown_share"] == 0, "'is missing' is never unknown"
    assert unknown.any()


def test_what_a_missing_value_leaves_open_is_counted(one) -> None:
    config, prepared, scores = one
    book = read_rules("name = 'test'\nversion = 1\n" + rule("big", "size > 4"))
    found = ruling.backtest(book, prepared, scores, config, n_boot=0)
    row = found[found["metric"] == "unknown_share"].iloc[0]
    assert row["value"] == pytest.approx(prepared.rows("test")["features"]["size"].isna().mean())
    assert "together" not in set(found["rule"]), "one active rule is together what it is alone"


def test_payments_whose_label_delay_has_not_passed_are_left_out_and_counted(one) -> None:
    config, prepared, scores = one
    end = prepared.fold.test_end
    early = config.model_copy(update={"as_of": (end - pd.Timedelta(days=3)).to_pydatetime()})
    measured = ruling.matured(prepared, early)
    moments = prepared.rows("test")["transactions"]["event_time"]
    late = moments + pd.Timedelta(days=2) > end - pd.Timedelta(days=3)
    assert measured.immature == late.sum() > 100
    assert measured.transactions["event_time"].max() == moments[~late].max()
    found = ruling.backtest(BOOK, prepared, scores, early, n_boot=0)
    left = found[found["rule"] == "payments"].set_index("metric")
    assert left.loc["left_out_immature", "value"] == late.sum()
    assert found["n"].unique().tolist() == [(~late).sum()]
    short = prepared.rows("test")["transactions"][~late]
    cases = len(set(zip(short["event_time"].dt.date, short["customer_id"])))
    overlap = ruling.overlap(BOOK, prepared, scores, early)
    assert overlap["cases"].max() <= cases
    nothing = config.model_copy(update={"as_of": prepared.fold.test_start.to_pydatetime()})
    with pytest.raises(InputError, match="rules: need payments of the test part whose label delay has passed; found"):
        ruling.backtest(BOOK, prepared, scores, nothing)


def test_the_future_changes_nothing(one, table: pd.DataFrame) -> None:
    config, prepared, scores = one
    again = ruling.backtest(BOOK, prepared, scores, config, n_boot=8)
    pd.testing.assert_frame_equal(again, table)
    after = prepared.transactions["event_time"] >= prepared.fold.test_end
    changed = prepared.transactions.assign(amount=prepared.transactions["amount"].mask(after, 9e9))
    other = recipe.Prepared(changed, prepared.features, None, prepared.fold)
    pd.testing.assert_frame_equal(ruling.backtest(BOOK, other, scores, config, n_boot=8), table)


def test_rules_can_be_tried_on_validation_so_that_the_test_stays_unseen(one) -> None:
    config, prepared, _ = one
    valid = pd.DataFrame({"xgboost": np.linspace(0, 1, len(prepared.fold.valid))})
    found = ruling.backtest(BOOK, prepared, valid, config, part="valid", n_boot=0)
    assert found["n"].iloc[0] == len(prepared.fold.valid)
    said = found[(found["rule"] == "large") & (found["view"] == "alone") & found["value"].notna()]["note"]
    assert said.str.endswith("the model was tuned on these payments, which flatters it").sum() > 4
    alone = ruling.backtest(BOOK, prepared, None, config, n_boot=0)
    assert set(alone["view"]) == {"alone"}


def test_no_book_no_rows(one) -> None:
    config, prepared, scores = one
    assert ruling.book_of(config) is None
    assert ruling.backtest(None, prepared, scores, config).empty
    assert ruling.overlap(None, prepared, scores, config).columns.tolist() == list(ruling.OVERLAP_COLUMNS)
    assert ruling.headline(ruling.backtest(None, prepared, scores, config)) == "There is no rule book."
    assert ruling.facts(None)["rules"] == []
    assert ruling.overview(ruling.backtest(None, prepared, scores, config)).empty


def test_overlap_counts_the_cases_two_have_in_common(one) -> None:
    config, prepared, scores = one
    part = prepared.rows("test")
    keys = list(zip(part["transactions"]["event_time"].dt.date, part["transactions"]["customer_id"]))
    large = {key for key, amount in zip(keys, part["transactions"]["amount"]) if amount > 90}
    night = {
        key
        for key, hour, size in zip(keys, part["features"]["night"], part["features"]["size"])
        if hour > np.float32(1.8) or np.isnan(size)
    }
    best = pd.Series(scores["xgboost"].to_numpy()).groupby([key[0] for key in keys]).nlargest(400)
    model: set = set()
    for day in sorted({key[0] for key in keys}):
        ranked = list(dict.fromkeys(keys[at] for at in best[day].index))
        model |= set(ranked[:12])
    found = ruling.overlap(BOOK, prepared, scores, config).set_index(["first", "second"])
    sides = {"large": large, "night": night, "model": model}
    for first, mine in sides.items():
        for second, theirs in sides.items():
            row = found.loc[(first, second)]
            assert (row["cases"], row["both"]) == (len(mine), len(mine & theirs)), (first, second)
            assert row["share"] == pytest.approx(len(mine & theirs) / len(mine))


def test_small_counts_of_an_overlap_are_hidden_with_what_would_tell_them() -> None:
    cases = {"a": 100, "b": 40, "c": 8, "d": 0}
    both = {("a", "b"): 20, ("a", "c"): 0, ("a", "d"): 0, ("b", "c"): 0, ("b", "d"): 0, ("c", "d"): 0}
    rows = [
        (x, y, cases[x], cases[x] if x == y else both.get((x, y), both.get((y, x), 0)), 0.5)
        for x in cases
        for y in cases
    ]
    table = pd.DataFrame(rows, columns=list(ruling.OVERLAP_COLUMNS))
    shown = protected("rules_overlap", table).set_index(["first", "second"])
    assert shown.loc[("a", "b"), "both"] == 20
    assert shown.loc[("d", "d"), "cases"] == 0
    assert np.isnan(shown.loc[("c", "c"), "cases"])
    assert shown.xs("c", level="second")["both"].isna().all()
    nearly = table.assign(both=table["both"].mask(table["both"] == 20, 35), share=0.5)
    told = protected("rules_overlap", nearly).set_index(["first", "second"])
    assert np.isnan(told.loc[("a", "b"), "both"]), "5 of b's 40 without a would follow"
    pd.testing.assert_frame_equal(protected("rules_overlap", shown.reset_index()), shown.reset_index())


def test_a_changed_book_whose_version_was_not_raised_is_told(tmp_path: Path) -> None:
    log = tmp_path / "runs" / "rule_books.jsonl"
    assert ruling.facts(BOOK, log)["told"] == ""
    assert ruling.note_version(log, BOOK) == ""
    assert len(log.read_text().splitlines()) == 1, "the same version is noted once"
    changed = RuleBook.model_validate(BOOK.model_dump() | {"rule": BOOK.model_dump()["rule"][:2]})
    said = "rule book 'test' was changed without raising its version: version 1 was measured with other rules before"
    assert ruling.version_problem(log, changed).startswith(said)
    assert ruling.note_version(log, changed).startswith(said)
    assert ruling.note_version(log, changed).startswith(said), "it stays told until the version is raised"
    raised = RuleBook.model_validate(changed.model_dump() | {"version": 2})
    assert ruling.note_version(log, raised) == ""
    assert ruling.note_version(log, BOOK).startswith(said)
    back = RuleBook.model_validate(changed.model_dump() | {"version": 1, "name": "other"})
    assert ruling.note_version(log, back) == "", "another book has versions of its own"
    (tmp_path / "log").write_text("{}\n")
    with pytest.raises(InputError, match="log: each line must be a version of a rule book; found another in line 1"):
        ruling.version_problem(tmp_path / "log", BOOK)
    assert log.stat().st_mode & 0o077 == 0


def test_a_version_older_than_one_measured_before_is_told(tmp_path: Path) -> None:
    ruling.note_version(tmp_path / "log", RuleBook.model_validate(BOOK.model_dump() | {"version": 3}))
    assert ruling.version_problem(tmp_path / "log", BOOK) == (
        "rule book 'test' is at version 1, and version 3 was measured before"
    )


def test_a_book_is_read_from_its_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"rule book: no file at .*nowhere.toml; the folder has no .toml file"):
        ruling.read_book(tmp_path / "nowhere.toml")
    (tmp_path / "bad.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match=r"rule book bad\.toml: must be UTF-8 text; found other bytes"):
        ruling.read_book(tmp_path / "bad.toml")
    (tmp_path / "worse.toml").write_text("name = 'x'\nversion = 1\n" + rule("r", "amount >"))
    with pytest.raises(InputError, match=r"rule book worse\.toml: rule 'r': after 'amount >' at column 9 expected"):
        ruling.read_book(tmp_path / "worse.toml")


def test_the_headline_and_the_overview_say_what_the_table_says(table: pd.DataFrame) -> None:
    wide = ruling.overview(table, BOOK).set_index("rule")
    assert wide.index.tolist() == ["the model", "Rule large", "Rule night", "Rule both", "active rules together"]
    cells = table.set_index(["rule", "view", "metric"])
    added = cells.loc[("together", "beside", "recall"), "value"]
    assert wide.loc["active rules together", "more frauds caught"] == plots.share(added)
    assert plots.share(added) in ruling.headline(table)
    ends = ruling.overview(table, intervals=True).set_index("rule").loc["large", "frauds caught"]
    low, high = cells.loc[("large", "alone", "recall"), ["low", "high"]]
    assert ends.endswith(f"({plots.share(low)} to {plots.share(high)})")
    few = table.assign(value=np.nan, low=np.nan, high=np.nan, note="not shown: fewer than 10 cases")
    assert ruling.headline(few) == "What the active rules add to the model is too little to be shown."


def evidence(one, table: pd.DataFrame) -> Evidence:
    config, prepared, scores = one
    empty = {field: {} for field in ("run", "data", "fold", "config")}
    overlap = protected("rules_overlap", ruling.overlap(BOOK, prepared, scores, config))
    return Evidence(
        **empty,
        models=[],
        decision={"alerts_per_day": 12},
        config_text="",
        digest="",
        features=pd.DataFrame(),
        metrics=pd.DataFrame(),
        rulebook=json.loads(json.dumps(ruling.facts(BOOK))),
        rules_backtest=table,
        rules_overlap=overlap,
    )


def tables_of(blocks) -> list[Table]:
    found: list[Table] = []
    for block in blocks:
        found += tables_of(block.blocks) if isinstance(block, Group) else [block] if isinstance(block, Table) else []
    return found


def test_every_number_of_the_section_is_one_of_the_tables(one, table: pd.DataFrame) -> None:
    section = rules(evidence(one, table))
    found = tables_of(section.blocks)
    assert [each.caption for each in found] == [
        "Each rule alone",
        "On top of the model's 12 cases a day",
        "First within the 12 cases a day",
        "Each rule alone",
        "On top of the model's 12 cases a day",
        "First within the 12 cases a day",
        "Cases of each rule that the model has as well",
        "Rules as written",
    ]
    cells = table.set_index(["rule", "view", "metric"])
    alone, added, moved = found[:3]
    names = [row[0].text for row in alone.rows]
    assert names == ["Rule large", "Rule night", "active rules together"]
    figures = {
        "alone": (
            "payments_per_day",
            "alerts_per_day",
            "precision",
            "recall",
            "customers_bothered",
            "net_saved_per_day",
            "unknown_share",
        ),
        "beside": ("alerts_per_day", "precision", "recall", "customers_bothered", "net_saved_per_day"),
        "within": ("displaced_per_day", "recall", "customers_bothered", "net_saved_per_day"),
    }
    numbers = 0
    for each, view in ((alone, "alone"), (added, "beside"), (moved, "within")):
        for row, rule_id in zip(each.rows, ["large", "night", "together"]):
            for cell, metric in zip(row[1:], figures[view]):
                if (rule_id, view, metric) not in cells.index:
                    assert cell == "–"
                    continue
                value = cells.loc[(rule_id, view, metric), "value"]
                text = cell.text if isinstance(cell, Cell) else cell
                if pd.isna(value):
                    assert not re.fullmatch(r"[\d.,]+( %)?", text)
                    continue
                numbers += 1
                read = float(text.replace(" %", "").replace(",", "").replace("−", "-"))
                scale = 100 if metric in ("precision", "recall", "unknown_share") else 1
                digits = 0 if metric in ("net_saved_per_day", "customers_bothered") else 1
                assert read == pytest.approx(scale * value, abs=0.51 * 10**-digits), (rule_id, view, metric)
    assert numbers > 20
    shadow = tables_of([block for block in section.blocks if isinstance(block, Group)][:1])
    assert [row[0].text for row in shadow[0].rows] == ["Rule both"]
    assert "Rule old" in [row[0].text for row in found[-1].rows], "retired rules stay on record"


def test_the_section_speaks_chinese_and_says_when_there_is_nothing(one, table: pd.DataFrame) -> None:
    full = evidence(one, table)
    with speaking("zh") as untold:
        section = rules(full)
    assert not untold
    assert section.title == "人工编写的规则"
    assert tables_of(section.blocks)[0].rows[0][0].text == "规则 large"
    without = {field: getattr(full, field) for field in Evidence.__dataclass_fields__}
    none = Evidence(**without | {"rulebook": ruling.facts(None), "rules_backtest": table.iloc[:0]})
    assert rules(none).blocks[0].text.startswith("This run's config names no rule book")
    absent = Evidence(**without | {"rulebook": None, "rules_backtest": None})
    assert "rules_backtest.csv" in rules(absent).blocks[0].text


def test_pictures_say_in_words_what_they_show(one, table: pd.DataFrame) -> None:
    config, prepared, scores = one
    titles = ruling.titles(BOOK)
    picture = plots.rules_backtest(table, titles)
    added = table.set_index(["rule", "view", "metric"]).loc[("together", "beside", "recall"), "value"]
    assert f"add {plots.share(added)} to the model" in picture.alt
    assert "Rule both" in picture.alt
    assert picture.svg() == plots.rules_backtest(table, titles).svg()
    raw = ruling.overlap(BOOK, prepared, scores, config)
    heat = plots.rules_overlap(protected("rules_overlap", raw), titles)
    assert "Share of each rule's cases that the model has as well" in heat.alt
    for nothing in (plots.rules_backtest(table.iloc[:0]), plots.rules_overlap(raw.iloc[:0])):
        assert nothing.alt == "No rule that people wrote was measured in this run."
    hidden = table.assign(value=np.nan, low=np.nan, high=np.nan)
    assert "too few to show" in plots.rules_backtest(hidden, titles).alt
    alone = ruling.backtest(BOOK, prepared, None, config, n_boot=0)
    assert "to the model" not in plots.rules_backtest(alone, titles).alt.partition(".")[0]


def test_the_command_lists_and_checks_a_book(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FRAUDLAB_HOME", str(tmp_path))
    monkeypatch.chdir(ROOT)
    run = CliRunner().invoke
    listed = run(app, ["rules", "list"])
    assert listed.exit_code == 0
    assert "impossible-travel" in listed.output
    assert 'channel = "pos" and customer_id__speed > 900' in listed.output
    assert json.loads(run(app, ["rules", "list", "--json"]).output)["version"] == 1
    checked = run(app, ["rules", "check"])
    assert checked.exit_code == 0
    assert "valid; 7 active, 1 shadow, 1 retired" in checked.output
    other = tmp_path / "mine.toml"
    other.write_text("name = 'mine'\nversion = 1\n" + rule("mine", "amunt > 3"))
    wrong = run(app, ["rules", "check", "--book", str(other)])
    assert isinstance(wrong.exception, InputError)
    assert str(wrong.exception) == "rule 'mine': unknown column 'amunt' at column 1; did you mean 'amount'?"
    other.write_text("name = 'mine'\nversion = 1\n" + rule("mine", "age_band = '80-89'"))
    told = json.loads(run(app, ["rules", "check", "--book", str(other), "--json"]).output)["notices"]
    assert "treats customers differently by age_band" in told[0]
    none = run(app, ["rules", "check", "--config", "configs/ulb.toml"])
    assert "rules.book: the config names no rule book" in str(none.exception)
    unknown = run(app, ["rules", "backtest", "--period", "tests"])
    assert str(unknown.exception) == "--period: unknown 'tests'; did you mean 'test'?"


def test_the_command_measures_a_book_and_notes_each_look_at_the_test(one, tmp_path: Path, monkeypatch) -> None:
    from fraudlab import looks, runs
    from fraudlab.commands import rules as command

    config, prepared, scores = one
    folder = tmp_path / "runs" / "demo-0123456789"
    chosen = runs.Run(folder, config, runs.Workspace(tmp_path))
    chosen.save_json("run", {"config_digest": "c0ffee", "data_digest": "d"})
    chosen.save_json("data", {"dataset": "demo", "digest": "d"})
    fold = recipe.fold_facts(prepared.fold)
    runs.write_whole(chosen.evidence / "fold.json", json.dumps(fold, default=str))
    book = tmp_path / "book.toml"
    text = "name = 'test'\nversion = 1\n" + rule("large", "amount > 90") + rule("night", "night > 2")
    book.write_text(text)
    monkeypatch.setenv("FRAUDLAB_HOME", str(tmp_path))
    monkeypatch.chdir(ROOT)
    early = CliRunner().invoke(app, ["rules", "backtest"])
    assert str(early.exception).startswith("run: no run")
    quick = functools.partial(ruling.backtest, n_boot=3)
    monkeypatch.setattr(ruling, "backtest", quick)
    monkeypatch.setattr(runs, "finished_run", lambda workspace, name="", config="": chosen)
    monkeypatch.setattr(command, "same_data", lambda run: None)
    monkeypatch.setattr(recipe, "prepare", lambda config, workspace: prepared)
    monkeypatch.setattr(runs.Run, "load_models", lambda run: {})
    monkeypatch.setattr(ruling, "scores_of", lambda models, prepared, config, part="test": scores)
    done = CliRunner().invoke(app, ["rules", "backtest", "--book", str(book)])
    assert done.exit_code == 0, done.output
    assert "On top of the model's 12 cases a day" in done.output
    assert "The active rules" in done.output or "the active rules" in done.output
    noted = looks.read(chosen.test_looks)
    assert noted["model"].tolist() == ["rules test"]
    assert noted["config_digest"].tolist() != ["c0ffee"], "rules that the run did not have are another try"
    chosen.save_json("rulebook", ruling.facts(ruling.read_book(book)))
    CliRunner().invoke(app, ["rules", "backtest", "--book", str(book)])
    assert looks.read(chosen.test_looks)["config_digest"].tolist()[1] == "c0ffee"
    book.write_text(text + rule("lost", "no_such_column > 1"))
    lost = CliRunner().invoke(app, ["rules", "backtest", "--book", str(book)])
    assert str(lost.exception).startswith("rule 'lost': unknown column 'no_such_column' at column 1")
    assert len(looks.read(chosen.test_looks)) == 2, "what was refused was no look"
    book.write_text(text.replace("90", "80"))
    told = CliRunner().invoke(app, ["rules", "backtest", "--book", str(book), "--json"])
    found = json.loads(told.output)
    assert "changed without raising its version" in found["told"]
    assert {row["rule"] for row in found["backtest"]} == {"model", "large", "night", "together", "payments"}
    assert "NaN" not in told.output


def test_a_rule_that_does_not_fit_the_run_is_told_and_the_others_are_measured(one, table: pd.DataFrame) -> None:
    config, prepared, scores = one
    more = rule("lost", "no_such_column > 3 and nor_this = 1") + rule("text", "night = 'late'", "shadow")
    book = read_rules("name = 'test'\nversion = 1\n" + rule("large", "amount > 90") + more)
    found = ruling.backtest(book, prepared, scores, config, n_boot=8)
    same = [each[each["rule"] == "large"].reset_index(drop=True) for each in (found, table)]
    pd.testing.assert_frame_equal(*same)
    lost = found[found["rule"] == "lost"].iloc[0]
    assert lost["note"].startswith("not applicable: rule 'lost': unknown column 'no_such_column' at column 1; ")
    assert "\n" not in lost["note"]
    assert ruling.overlap(book, prepared, scores, config)["first"].unique().tolist() == ["model", "large"]
    assert ruling.overview(found, book).set_index("rule").loc["Rule lost", "cases a day"] == "–"
    full = evidence(one, found)
    fields = {field: getattr(full, field) for field in Evidence.__dataclass_fields__}
    fields |= {"rulebook": json.loads(json.dumps(ruling.facts(book)))}
    said = [block for block in rules(Evidence(**fields)).blocks if isinstance(block, Bullets)]
    assert said[0].items[0].startswith("Rule lost was not measured: rule 'lost': unknown column 'no_such_column'")
    assert plots.rules_backtest(found, ruling.titles(book)).alt.startswith("The rule catches")


@pytest.mark.parametrize("command", ["list", "check", "backtest"])
def test_every_command_shows_an_example(command: str) -> None:
    shown = CliRunner().invoke(app, ["rules", command, "--help"], terminal_width=200)
    assert shown.exit_code == 0
    assert f"Example: fraudlab rules {command}" in shown.output


def test_a_wrong_book_is_one_sentence_and_exit_2(tmp_path: Path) -> None:
    book = tmp_path / "book.toml"
    book.write_text("name = 'test'\nversion = 1\n" + rule("large", "amount > "))
    done = subprocess.run(
        [sys.executable, "-m", "fraudlab.cli", "rules", "check", "--book", str(book)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=os.environ | {"FRAUDLAB_HOME": str(tmp_path)},
    )
    assert done.returncode == 2
    assert done.stderr.count("\n") <= 2
    assert "rule book book.toml: rule 'large': after 'amount >' at column 10 expected a value" in done.stderr
    assert list(tmp_path.iterdir()) == [book]


def test_the_config_names_the_book_and_no_folder_of_a_machine(tmp_path: Path) -> None:
    from fraudlab import runs

    here = load_config(ROOT / "configs" / "demo.toml")
    assert here.rules.book == ROOT / "configs" / "rules" / "demo.toml"
    moved = load_config(ROOT / "configs" / "demo.toml", rules__book=tmp_path / "demo.toml")
    assert moved.rules.book == tmp_path / "demo.toml"
    assert config_digest(here) == config_digest(moved), "what a book holds decides, not where it lies"
    other = load_config(ROOT / "configs" / "demo.toml", rules__book=tmp_path / "other.toml")
    assert config_digest(here) != config_digest(other)
    run = runs.Run(tmp_path / "runs" / "demo-x", moved, Workspace(tmp_path / "elsewhere"))
    runs.begin(run, ROOT, command="fraudlab retrain")
    kept = tomllib.loads((run.evidence / "config.toml").read_text())
    assert kept["rules"] == {"book": "demo.toml"}
    assert runs.load_config(run.folder / "config.toml").rules.book == tmp_path / "demo.toml"
