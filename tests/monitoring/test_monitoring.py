"""The champion watched end to end on a small project: tables, lights, page, command, notebook."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from fraudlab import drift, monitoring, plots, watching
from fraudlab.config import RunConfig, Workspace
from fraudlab.datasets import load_transactions
from fraudlab.drift import GROUPS
from fraudlab.privacy.disclosure import protected
from fraudlab.report.language import speaking
from fraudlab.report.monitoring import at_work, bring_findings, found_words, monitoring_page, step_words, topic_words
from fraudlab.runs import Run
from fraudlab.schema import InputError

ROOT = Path(__file__).resolve().parents[2]
AS_OF = pd.Timestamp("2026-04-21", tz="UTC")
TOPICS = [*GROUPS, "training", "performance", "estimate", "age"]


@pytest.fixture(scope="module")
def written(watched: monitoring.Watched, workspace: Workspace, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return monitoring.report(watched, workspace, ["en", "zh"], out=tmp_path_factory.mktemp("pages"))


def test_every_topic_has_a_light_and_every_light_its_words(watched: monitoring.Watched) -> None:
    assert [light["topic"] for light in watched.lights] == TOPICS
    assert watched.worst in ("red", "amber", "green")
    for lang in ("en", "zh"):
        with speaking(lang) as untold:
            for light in watched.lights:
                assert topic_words(light["topic"])
                assert found_words(light).strip()
                for colour in ("red", "amber", "grey"):
                    assert step_words(light | {"light": colour})
                assert step_words(light | {"light": "green"}) == ""
        assert not untold


def test_a_light_tells_of_the_newest_alarm_however_old_it_is() -> None:
    until = pd.Timestamp("2026-06-30", tz="UTC")
    met = SimpleNamespace(until=until)
    days = pd.date_range("2026-05-01", "2026-06-29", tz="UTC")
    signals = pd.DataFrame({"day": days, "group": "volume", "signal": "payments", "z": 0.1})
    alarm = {"group": "volume", "signal": "payments", "z": 9.0, "what": "", "kind": "one day"}

    def said(*ago: int) -> tuple[str, str]:
        rows = [alarm | {"day": until - pd.Timedelta(days=each)} for each in ago]
        alarms = pd.DataFrame(rows, columns=[*alarm, "day"])
        light = watching._alarm_light(met, signals, alarms, "volume")
        return light["light"], found_words(light)

    assert said() == ("green", "Within limits on 60 days.")
    assert said(45, 40) == ("green", "No alarm within four weeks; the newest is of 2026-05-21.")
    assert said(45, 20)[0] == "amber"
    assert said(45, 3) == ("red", "Alarm of 2026-06-27 (on one day): payments.")


def test_what_is_watched_begins_where_learning_ended(watched: monitoring.Watched, workspace: Workspace) -> None:
    facts, tables = watched.facts, watched.tables
    learnt = pd.Timestamp(facts["learnt_until"])
    payments = load_transactions("demo", purpose="fraud-detection", as_of=AS_OF, workspace=workspace)
    assert facts["payments"] == (payments["event_time"] >= learnt).sum()
    assert facts["until"] == AS_OF.isoformat()
    assert tables["monitor_signals"]["day"].min() >= learnt.floor("D")
    assert (tables["monitor_performance"]["week"] >= learnt).all()
    assert tables["monitor_weeks"]["start"].min() >= learnt
    assert set(tables["monitor_columns"]["against"]) == {"training", "last week"}
    training = tables["monitor_columns"].query("against == 'training'")
    assert "score" not in set(training["feature"]), "of payments it learnt from a model is surer"
    assert {"auth_result", "country", "amount"} <= set(training["feature"])


def test_parts_add_up_and_saving_hides_small_counts(watched: monitoring.Watched) -> None:
    moved = watched.tables["monitor_contributions"]
    assert moved[moved["feature"] != "all"]["difference"].sum() == pytest.approx(moved["difference"].iloc[-1], abs=1e-9)
    for name, columns in {
        "monitor_hours": ["n"],
        "monitor_decisions": ["cases"],
        "monitor_reasons": ["alerts", "alerts_before"],
        "monitor_performance": ["alerts", "hits", "frauds"],
        "monitor_precision": ["alerts", "hits"],
        "monitor_segments": ["n_reference", "n_current"],
    }.items():
        table = watched.tables[name]
        for column in columns:
            counts = table[column].dropna().astype(float)
            assert not ((counts > 0) & (counts < 10)).any(), (name, column)
        pd.testing.assert_frame_equal(protected(name, table), table, check_dtype=False)


def test_the_scores_of_late_are_kept_for_the_live_page(watched: monitoring.Watched) -> None:
    kept = watched.facts["scored_lately"]
    assert len(kept["counts"]) == len(kept["breaks"]) + 1
    assert json.loads(json.dumps(kept)) == kept
    assert min(kept["counts"]) >= 10

    def lately(score: np.ndarray, review: float) -> dict:
        return watching.scored_lately(
            SimpleNamespace(score=score, lately=np.arange(len(score)), thresholds=SimpleNamespace(review=review))
        )

    even = np.arange(1000) / 1000
    assert lately(even, 0.9)["alerted"] == 0.1
    assert lately(even, 0.995)["alerted"] is None, "five payments"
    assert lately(even, 0.005)["alerted"] is None, "all but five"
    assert lately(even, 2.0)["alerted"] == 0
    assert lately(even[:199], 0.9) == {}
    # A value that fills its bin leaves few beside it: a neighbour takes them in, and each payment stays counted.
    for values in ([0.0] * 3 + [0.5] * 990 + [1.0] * 7, [0.1] * 990 + [0.2] * 4 + [0.3] * 6, [0.5] * 300):
        found = lately(np.array(values), 0.9)
        assert min(found["counts"]) >= 10
        assert sum(found["counts"]) == len(values)
        assert len(found["counts"]) == len(found["breaks"]) + 1
        codes = np.bincount(drift.bin_codes(np.array(values), np.array(found["breaks"])))[: len(found["counts"])]
        assert codes.tolist() == [count for count in found["counts"] if count]


def test_rates_that_would_tell_a_small_count_are_hidden_with_it() -> None:
    weeks = pd.DataFrame(
        {
            "hits": [3.0, 40.0, 0.0], "frauds": [30.0, 45.0, 20.0], "alerts": [60, 80, 50],
            "precision": 0.1, "low": 0.0, "high": 0.2, "recall": 0.1, "recall_low": 0.0, "recall_high": 0.2,
        }
    )  # fmt: skip
    shown = protected("monitor_performance", weeks)
    assert shown["precision"].isna().tolist() == [True, False, False]
    # 45 frauds less 40 hits would be five missed ones.
    assert shown["recall"].isna().tolist() == [True, True, False]
    signals = pd.DataFrame(
        {
            "group": ["labels", "customers", "feed", "customers"],
            "signal": ["victims", "first payments", "distribution of amount", "first payments"],
            "value": [4.0, 0.01, 0.2, 0.1], "usual": [1.0, 0.01, 0.1, 0.1], "n": 400, "z": 1.234, "sum": 0.0,
        }
    )  # fmt: skip
    shown = protected("monitor_signals", signals)
    assert shown["value"].isna().tolist() == [True, True, False, False]
    assert shown["z"].tolist() == [1.2] * 4
    columns = pd.DataFrame({"missing_reference": [0.0], "missing_current": [0.002], "new": [0.5], "n_reference": 1000,
                            "n_current": 1000})  # fmt: skip
    shown = protected("monitor_columns", columns)
    assert shown["missing_current"].isna().all()
    assert shown["new"].tolist() == [0.5]
    segments = pd.DataFrame({"by": "channel", "segment": list("abc"), "n_reference": 1000, "n_current": [1000, 1000, 5],
                             "rate_reference": 0.05, "rate_current": 0.05, "mix": 0.0, "rate": 0.0,
                             "total": 0.0})  # fmt: skip
    shown = protected("monitor_segments", segments)
    assert shown["rate_current"].isna().sum() == 2, "one alone could be worked out from the whole"


def test_no_identifier_is_in_what_is_written(written: list[Path], workspace: Workspace) -> None:
    assert [path.name for path in written] == [
        *("demo.monitoring.html", "demo.monitoring.zh.html", "demo.monitoring.json"),
    ]
    payments = load_transactions("demo", purpose="fraud-detection", as_of=AS_OF, workspace=workspace)
    needles = {str(value) for name in ("customer_id", "merchant_id", "device_id") for value in payments[name].dropna()}
    needles |= set(payments["transaction_id"].astype(str).head(500))
    for path in written:
        text = path.read_text(encoding="utf-8")
        assert not [needle for needle in needles if len(needle) > 8 and needle in text]
        assert not list(path.parent.glob(".*"))
    found = json.loads(written[-1].read_text(encoding="utf-8"))
    assert [light["topic"] for light in found["lights"]] == TOPICS


def test_the_page_is_the_same_bytes_and_reaches_for_nothing(watched: monitoring.Watched, written: list[Path]) -> None:
    pages = {lang: path.read_text(encoding="utf-8") for lang, path in zip(("en", "zh"), written)}
    assert pages["en"] == monitoring_page(watched.facts, watched.lights, watched.tables, "en")
    for page in pages.values():
        assert "<script" not in page
        assert 'src="http' not in page
    assert '<html lang="zh-Hans">' in pages["zh"]
    assert pages["zh"].count("<table") == pages["en"].count("<table")
    with pytest.raises(InputError, match="lang: unknown 'fr'"):
        monitoring_page(watched.facts, watched.lights, watched.tables, "fr")


def test_what_was_found_comes_into_the_reviewers_report(
    watched: monitoring.Watched, config: RunConfig, tmp_path: Path
) -> None:
    def evidence_of(monitored: dict | None, version: str = "1") -> SimpleNamespace:
        told = {"run": {"name": "demo", "run_id": "demo-7"}, "decision": {"challenger_version": version}}
        return SimpleNamespace(monitoring=monitored, **told)

    def section(monitored: dict | None, version: str = "1") -> str:
        return repr(at_work(evidence_of(monitored, version)).blocks)

    run = Run(tmp_path / "runs" / "demo-7", config, Workspace(tmp_path))
    assert bring_findings(run) == ""
    assert not run.evidence.exists()
    assert "There was no monitoring report of demo" in section(None)
    assert "make this report again: `fraudlab report demo-7`" in section(None)
    json_file = monitoring.report(watched, run.workspace, [])[-1]
    assert bring_findings(run) == ""
    kept = run.load_json("monitoring")
    assert len(kept["tables"]["monitor_signals"]) < len(watched.tables["monitor_signals"]) / 5
    assert kept["lights"] == json.loads(json_file.read_text())["lights"]
    whole = plots.drift_charts(watched.tables["monitor_signals"], watched.tables["monitor_alarms"])
    (brought,) = [block.picture for block in at_work(evidence_of(kept)).blocks if block.kind == "figure"]
    assert brought.png == whole.png, "what was left out is not drawn"
    assert brought.alt == whole.alt
    assert "(the model of this report)" in section(kept)
    assert "(not the model of this report)" in section(kept, version="2")
    for text in ("{", '{"facts": {}, "lights": [], "tables": {}}', "[]"):
        json_file.write_text(text)
        assert bring_findings(run) == (
            "What monitoring found is not in the report: demo.monitoring.json is not what `fraudlab monitor report` "
            "writes; run it again, then make the report again."
        )
    assert run.load_json("monitoring") == kept


def test_the_command_says_lights_with_next_steps_and_fails_on_demand(
    watched: monitoring.Watched, workspace: Workspace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from fraudlab.cli import app

    monkeypatch.delenv("FRAUDLAB_KEYS", raising=False)
    monkeypatch.setenv("FRAUDLAB_HOME", str(workspace.root))
    monkeypatch.setattr(monitoring, "watch", lambda *args, **kwargs: watched)
    monkeypatch.setattr(monitoring, "monitoring_page", lambda *args: "a page")
    config = str(ROOT / "configs" / "demo.toml")
    done = CliRunner().invoke(app, ["monitor", "report", "--config", config, "--out", str(tmp_path)])
    assert done.exit_code == 0, done.output
    assert "Number of payments" in done.output
    assert "Next: open" in done.output
    red = monitoring.Watched(watched.facts, [watched.lights[0] | {"light": "red", "kind": "one day", "what": "payments",
                                             "day": "2026-04-01", "bin": ""}], watched.tables)  # fmt: skip
    monkeypatch.setattr(monitoring, "watch", lambda *args, **kwargs: red)
    for fail_on, code in (("never", 0), ("red", 1), ("amber", 1)):
        done = CliRunner().invoke(
            app, ["monitor", "report", "--config", config, "--out", str(tmp_path), "--json", "--fail-on", fail_on]
        )
        assert done.exit_code == code
    refused = CliRunner().invoke(app, ["monitor", "report", "--config", config, "--fail-on", "pink"])
    assert "unknown 'pink'" in str(refused.exception)


def test_a_model_that_does_not_say_until_when_it_learnt_is_refused(
    workspace: Workspace, config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FRAUDLAB_KEYS", raising=False)
    name, version, package = monitoring.registered_package(workspace, "demo")
    silent = replace(package, facts={})
    monkeypatch.setattr(monitoring, "registered_package", lambda *args: (name, version, silent))
    with pytest.raises(InputError, match="does not say until when it learnt; register the model again"):
        monitoring.watch(config, workspace)


def test_too_early_a_moment_is_refused(
    workspace: Workspace, config: RunConfig, watched: monitoring.Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FRAUDLAB_KEYS", raising=False)
    learnt = pd.Timestamp(watched.facts["learnt_until"])
    with pytest.raises(InputError, match=r"monitoring: needs payments from before and after .* ingest newer payments$"):
        monitoring.watch(config, workspace, as_of=learnt)


def test_whether_retraining_helps_is_asked_on_payments_neither_learnt_from(
    workspace: Workspace, config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FRAUDLAB_KEYS", raising=False)
    _, _, package = monitoring.registered_package(workspace, "demo")
    table = monitoring.retraining(config, workspace, package)
    assert np.isfinite(table["difference"]).any()
    # The same recipe on the same data: the fresh fit is the model at work.
    assert table["difference"].abs().max() == pytest.approx(0, abs=1e-9)
    later = replace(package, facts=package.facts | {"learnt_until": "2026-04-19T00:00:00+00:00"})
    told = monitoring.retraining(config, workspace, later)
    assert told["note"].iloc[0].startswith("not applicable: the model at work learnt until 2026-04-19")


def test_the_cells_of_the_notebook_run(
    workspace: Workspace, watched: monitoring.Watched, monkeypatch: pytest.MonkeyPatch, config: RunConfig
) -> None:
    """In this process and with what was watched already: a kernel of its own is for the slow tests."""
    monkeypatch.delenv("FRAUDLAB_KEYS", raising=False)
    monkeypatch.setenv("FRAUDLAB_HOME", str(workspace.root))
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(monitoring, "watch", lambda *args, **kwargs: watched)
    cells = json.loads((ROOT / "notebooks" / "07_monitor.ipynb").read_text(encoding="utf-8"))["cells"]
    names: dict[str, object] = {}
    for cell in cells:
        if cell["cell_type"] == "code":
            exec("".join(cell["source"]), names)  # our own notebook
    assert names["tables"] is watched.tables


@pytest.mark.slow
def test_the_notebook_runs_in_a_kernel(
    workspace: Workspace, config: RunConfig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from fraudlab.workflow import run_notebook

    monkeypatch.delenv("FRAUDLAB_KEYS", raising=False)
    monkeypatch.setenv("FRAUDLAB_HOME", str(workspace.root))
    out = tmp_path / "07_monitor.ipynb"
    parameters = {"config": str(ROOT / "configs" / "demo.toml"), "as_of": AS_OF.isoformat()}
    run_notebook(ROOT / "notebooks" / "07_monitor.ipynb", out, parameters, cwd=workspace.root)
    assert "image/png" in out.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["drift_by_week", "odd_hours", "precision_weeks", "score_movers", "drift_charts"])
def test_a_picture_without_data_says_so(watched: monitoring.Watched, name: str) -> None:
    tables = watched.tables
    given = {
        "drift_by_week": [tables["monitor_weeks"].iloc[:0]],
        "odd_hours": [tables["monitor_hours"].assign(z=np.nan)],
        "precision_weeks": [tables["monitor_performance"].iloc[:0], tables["monitor_precision"].iloc[:0]],
        "score_movers": [tables["monitor_contributions"].iloc[:0]],
        "drift_charts": [tables["monitor_signals"].assign(z=np.nan), tables["monitor_alarms"].iloc[:0]],
    }[name]
    picture = getattr(plots, name)(*given)
    assert len(picture.axes) == 0
    assert picture.alt.endswith(".")
