"""The main job, end to end on small demo data: notebooks through papermill, registry, report, no identifier left."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest

from fraudlab import features_kept, serving, tracking, workflow
from fraudlab.checks import CHECKS
from fraudlab.config import Workspace, load_config
from fraudlab.datasets import raw_identifiers
from fraudlab.decision_record import sealed
from fraudlab.features import FeatureSet
from fraudlab.privacy.scan import find_planted
from fraudlab.report import making, read_evidence
from fraudlab.report.sealing import examine, known_keys
from fraudlab.run_states import read_state
from fraudlab.schema import FraudlabError, InputError
from fraudlab.tracking_registry import find_version

ROOT = Path(__file__).resolve().parents[2]
DEMO = ROOT / "configs" / "demo.toml"
SMALL = {
    "dataset__simulate__customers": 400,
    "dataset__simulate__merchants": 120,
    "dataset__simulate__days": 95,
    "split__train_days": 30,
    "split__valid_days": 14,
    "split__test_days": 12,
    "split__min_positives": 5,
    "model__n_estimators": 60,
    "decision__alerts_per_day": 3,
    "decision__step_up_per_day": 6,
}


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[workflow.Run, list[dict]]:
    """One small retraining, shared by the tests below."""
    workspace = Workspace(tmp_path_factory.mktemp("workspace"))
    events: list[dict] = []
    run = workflow.retrain(DEMO, changes=SMALL, workspace=workspace, progress=events.append)
    return run, events


def test_every_step_runs_and_says_what_it_reached(finished: tuple[workflow.Run, list[dict]]) -> None:
    run, events = finished
    ended = [event for event in events if event["status"] == "done"]
    assert [event["step"] for event in ended] == [step for step, _ in (*workflow.STEPS, workflow.REPORT_STEP)]
    assert all(event["headline"] for event in ended)
    for step, _ in workflow.STEPS:
        notebook = json.loads((run.folder / "notebooks" / f"{step}.ipynb").read_text())
        outputs = [output for cell in notebook["cells"] for output in cell.get("outputs", [])]
        assert outputs
        assert not any(output["output_type"] == "error" for output in outputs)
        said = ["".join(output["text"]) for output in outputs if output.get("name") == "stderr"]
        # On a machine's first run the user is told why it takes longer; anything else would be a warning.
        assert not [text for text in said if not text.startswith("Compiling the feature kernels")]


def test_the_model_is_registered_explained_and_reported(finished: tuple[workflow.Run, list[dict]]) -> None:
    run, _ = finished
    decision, facts = run.load_json("decision"), run.load_json("run")
    champion = tracking.champion(tracking.open_store(run.workspace), "demo")
    if decision["decision"] == "promoted":
        assert champion["version"] == facts["model_version"] == decision["champion_after"]
    else:
        assert champion is None
    html = run.report.read_text(encoding="utf-8")
    metrics = run.load_table("metrics")
    auc = metrics.query("model == 'xgboost' and metric == 'auc_roc'")["value"].iloc[0]
    assert f"{auc:.3f}" in html
    assert facts["config_digest"][:12] in html
    assert auc > 0.6  # a few dozen frauds for sixty columns: better than chance is all that can be asked


def test_tracking_holds_the_same_figures(finished: tuple[workflow.Run, list[dict]]) -> None:
    run, _ = finished
    tracked = tracking.open_store(run.workspace).get_run(run.load_json("run")["mlflow_run_id"])
    metrics = run.load_table("metrics").query("model == 'xgboost'").set_index("metric")["value"]
    assert tracked.info.status == "FINISHED"
    assert tracked.data.metrics["xgboost/auc_roc"] == pytest.approx(metrics["auc_roc"])
    assert tracked.data.tags["fraudlab.data_digest"] == run.load_json("run")["data_digest"]
    artifacts = {found.path for found in tracking.open_store(run.workspace).list_artifacts(tracked.info.run_id)}
    assert {"evidence", "figures", "notebooks", "report"} <= artifacts
    assert len(list((run.folder / "figures").glob("*.png"))) >= 10


def test_the_packaged_model_scores_what_was_evaluated(finished: tuple[workflow.Run, list[dict]]) -> None:
    run, _ = finished
    from fraudlab import recipe

    prepared = recipe.prepare(run.config, run.workspace)
    part = prepared.rows("test")
    package = serving.load_package(run.package)
    scored = package.score(part["features"])
    from sklearn.metrics import roc_auc_score

    metrics = run.load_table("metrics").query("model == 'xgboost'").set_index("metric")["value"]
    assert roc_auc_score(part["y"], scored["score"]) == pytest.approx(metrics["auc_roc"], abs=1e-9)
    assert scored["reasons"][scored["tier"] != "low"].str.len().gt(0).all()
    # What goes to work decides as the report says it does.
    told = run.load_table("tiers").set_index("tier")["transactions"]
    counted = scored["tier"].value_counts().reindex(told.index)
    shown = told.notna()
    assert shown.sum() >= 2
    assert counted[shown].tolist() == told[shown].tolist()
    # Of what is hidden at least one group is small, and one more is hidden with it.
    assert (~shown).sum() != 1
    assert counted.between(1, 9).sum() == 0 or counted[~shown].between(1, 9).any()


def test_the_features_were_checked_before_training_and_the_report_says_so(
    finished: tuple[workflow.Run, list[dict]], monkeypatch: pytest.MonkeyPatch
) -> None:
    from typer.testing import CliRunner

    from fraudlab.cli import app

    run, _ = finished
    checks = run.load_json("checks")
    assert [check["code"] for check in checks] == list(CHECKS)
    assert checks[0]["result"] == "passed"
    assert run.load_table("leakage")["verdict"].eq("clean").all()
    assert len(run.load_table("time_consistency")) == len(run.load_table("leakage"))
    assert run.load_table("stability")["feature"].nunique() == len(run.load_table("leakage"))
    assert checks[0]["sentence"] in run.report.read_text(encoding="utf-8")
    monkeypatch.setenv("FRAUDLAB_HOME", str(run.workspace.root))
    result = CliRunner().invoke(app, ["features", "audit", "--config", str(DEMO), "--rows", "2000", "--cuts", "2"])
    assert result.exit_code == 0, result.output
    many = len(run.load_table("leakage"))
    assert f"{many} features: {many} clean, 0 leaking, 0 not judged, over" in result.output


def test_report_notebooks_and_index_lie_beside_each_other_sealed(finished: tuple[workflow.Run, list[dict]]) -> None:
    run, _ = finished
    pages = sorted((run.workspace.reports / run.folder.name / "notebooks").glob("*.html"))
    assert [page.stem for page in pages] == [step for step, _ in workflow.STEPS]
    index, known = run.workspace.reports / "index.html", known_keys(run.workspace)
    assert all(examine(path.read_bytes(), known).ok for path in (run.report, index, *pages))
    listed = index.read_text(encoding="utf-8")
    decision = run.load_json("decision")["decision"]
    assert f'href="{run.report.name}"' in listed
    assert f'href="{run.folder.name}/notebooks/01_ingest.html"' in listed
    assert f">{decision}</td>" in listed
    found = find_version(tracking.open_store(run.workspace), "demo/1")
    assert found.run == run.folder.name
    assert found.folder is not None
    # What the version was registered with is what its report was made from.
    assert read_evidence(found.folder / "evidence").digest == read_evidence(run.evidence).digest


@pytest.mark.slow
def test_another_language_is_reported_without_training_again(
    finished: tuple[workflow.Run, list[dict]], tmp_path: Path
) -> None:
    run = copied(finished[0], tmp_path / "copy")
    events: list[dict] = []
    changes = SMALL | {"report__languages": ["en", "zh"]}
    again = workflow.retrain(DEMO, changes=changes, workspace=run.workspace, progress=events.append)
    assert [event["status"] for event in events] == ["reused"]
    assert again.folder == run.folder
    assert '<html lang="zh' in again.report_file("zh").read_text(encoding="utf-8")


def test_asking_again_reuses_the_run(finished: tuple[workflow.Run, list[dict]]) -> None:
    run, _ = finished
    events: list[dict] = []
    again = workflow.retrain(DEMO, changes=SMALL, workspace=run.workspace, progress=events.append)
    assert again.folder == run.folder
    assert [event["status"] for event in events] == ["reused"]


def test_no_raw_identifier_is_left_anywhere(finished: tuple[workflow.Run, list[dict]], tmp_path: Path) -> None:
    run, _ = finished
    needles = raw_identifiers(run.config)
    assert len(needles) > 2000
    places = [run.workspace.runs, run.workspace.reports, run.workspace.mlruns, run.workspace.vault]
    assert all(any(place.rglob("*")) for place in places)
    found = find_planted(places, needles)
    assert found.empty, found.to_string()
    # The search can find: one planted address, hidden in other bytes.
    (tmp_path / "leak.bin").write_bytes(b"\0\1" + needles[len(needles) // 2].encode() + b"\2")
    assert len(find_planted([tmp_path], needles)) == 1


def test_files_are_for_their_owner_only(finished: tuple[workflow.Run, list[dict]]) -> None:
    run, _ = finished
    written = [path for path in run.folder.rglob("*") if path.is_file()]
    assert not [path for path in written if path.stat().st_mode & 0o077]


def test_no_folder_of_this_machine_is_told(finished: tuple[workflow.Run, list[dict]]) -> None:
    run, _ = finished
    told = [*run.evidence.rglob("*"), *(run.folder / "notebooks").rglob("*"), *run.package.rglob("*")]
    told += run.workspace.reports.rglob("*.html")
    machine = (str(run.workspace.root), str(ROOT))
    guilty = [
        path.name for path in told if path.is_file() and any(m in path.read_text(errors="ignore") for m in machine)
    ]
    assert not guilty


def copied(run: workflow.Run, folder: Path) -> workflow.Run:
    shutil.copytree(run.workspace.root, folder)
    return workflow.Run(folder / "runs" / run.folder.name, run.config, Workspace(folder))


def test_a_run_whose_model_or_data_is_gone_is_not_reused(
    finished: tuple[workflow.Run, list[dict]], tmp_path: Path
) -> None:
    for gone in ("mlruns", "data/vault", "reports"):
        run = copied(finished[0], tmp_path / gone.replace("/", "-"))
        assert workflow._can_be_reused(run)
        shutil.rmtree(run.workspace.root / gone)
        assert not workflow._can_be_reused(run)


def test_a_fresh_run_that_fails_or_is_killed_leaves_the_finished_one(
    finished: tuple[workflow.Run, list[dict]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = copied(finished[0], tmp_path / "copy")
    kept = {path.relative_to(run.folder): path.read_bytes() for path in run.folder.rglob("*") if path.is_file()}

    def now() -> dict[Path, bytes]:
        return {path.relative_to(run.folder): path.read_bytes() for path in run.folder.rglob("*") if path.is_file()}

    def fails(*_: object) -> None:
        raise FraudlabError("step 2 failed")

    monkeypatch.setattr(workflow, "_run_steps", fails)
    with pytest.raises(FraudlabError, match="step 2 failed"):
        workflow.retrain(DEMO, changes=SMALL, workspace=run.workspace, fresh=True)
    assert now() == kept
    # Killed in the middle: the launcher had no chance to put it back; the next one does.
    os.rename(run.folder, run.folder.with_name(f"{run.folder.name}.before"))
    run.folder.mkdir()
    (run.folder / "state.json").write_text("{")
    workflow.retrain(DEMO, changes=SMALL, workspace=run.workspace)
    assert now() == kept
    assert [path.name for path in run.workspace.runs.iterdir() if path.is_dir()] == [run.folder.name]


def cut_off(run: workflow.Run, *, after: int, status: str = "running") -> None:
    """Make a finished run look as if its launcher was killed after so many steps, before the alias moved."""
    state = json.loads((run.folder / "state.json").read_text())
    (run.folder / "state.json").write_text(json.dumps({"status": status, "steps": state["steps"][:after]}))
    for path in run.report_files():
        path.unlink()
    client = tracking.open_store(run.workspace)
    if tracking.champion(client, "demo") is not None:
        client.delete_registered_model_alias("demo", "champion")


def test_a_run_that_was_cut_off_is_gone_on_with_and_the_alias_moves_last(
    finished: tuple[workflow.Run, list[dict]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = copied(finished[0], tmp_path / "copy")
    # Whatever the small data say: this challenger shall become champion.
    decision = sealed(run.load_json("decision") | {"decision": "promoted", "champion_before": None})
    run.save_json("decision", decision)
    cut_off(run, after=6)
    client, name = tracking.open_store(run.workspace), run.folder.name

    def fails(*_: object) -> None:
        raise FraudlabError("no room on the disk")

    with monkeypatch.context() as broken:
        broken.setattr(workflow, "_report", fails)
        with pytest.raises(FraudlabError, match="no room"):
            workflow.retrain(workflow.unfinished(run.workspace, name), workspace=run.workspace, resume=name)
    assert tracking.champion(client, "demo") is None, "the alias moves last"
    message = json.loads((run.workspace.reports / "demo.message.json").read_text())
    assert (message["status"], message["step"], message["error"]) == ("failed", "report", "no room on the disk")
    assert client.get_run(run.load_json("run")["mlflow_run_id"]).info.status == "FAILED"

    events: list[dict] = []
    again = workflow.retrain(
        workflow.unfinished(run.workspace, name), workspace=run.workspace, resume=name, progress=events.append
    )
    assert again.folder == run.folder
    assert [event["step"] for event in events if event["status"] == "done"] == ["report"]
    assert tracking.champion(client, "demo")["version"] == decision["challenger_version"]
    assert tracking.models_table(client)["version"].tolist() == [decision["challenger_version"]]
    assert client.get_run(run.load_json("run")["mlflow_run_id"]).info.status == "FINISHED"
    message = json.loads((run.workspace.reports / "demo.message.json").read_text())
    assert (message["status"], message["run"]) == ("promoted", name)
    assert run.report.is_file()
    assert read_state(run.folder / "state.json")["status"] == "done"


def test_a_model_that_learnt_from_somebody_erased_since_the_decision_is_not_promoted(
    finished: tuple[workflow.Run, list[dict]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = copied(finished[0], tmp_path / "copy")
    decision = sealed(run.load_json("decision") | {"decision": "promoted", "champion_before": None})
    run.save_json("decision", decision)
    cut_off(run, after=7)
    version = decision["challenger_version"]
    due = [{"name": "demo", "version": version, "customers": 2, "corrected": 0, "reason": "2 erased"}]
    monkeypatch.setattr(tracking, "mark_retrain_due", lambda _: due)
    with pytest.raises(FraudlabError, match="has learnt from 2 customers who were erased since it was decided"):
        run.carry_out()
    client = tracking.open_store(run.workspace)
    assert tracking.champion(client, "demo") is None
    due[0]["version"] = "999"
    run.carry_out()
    assert tracking.champion(client, "demo")["version"] == version


def test_what_cannot_be_gone_on_with_is_refused(
    finished: tuple[workflow.Run, list[dict]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = copied(finished[0], tmp_path / "copy")
    name = run.folder.name

    def resume(wanted: str = name) -> None:
        workflow.retrain(workflow.unfinished(run.workspace, wanted), workspace=run.workspace, resume=wanted)

    with pytest.raises(InputError, match=f"no run 'demo-none'; .*{name}"):
        resume("demo-none")
    cut_off(run, after=0)
    with pytest.raises(InputError, match="has no finished step to go on from; start anew"):
        resume()
    run = copied(finished[0], tmp_path / "another")
    cut_off(run, after=3)
    monkeypatch.setattr(workflow, "code_digest", lambda _: "other")
    with pytest.raises(InputError, match="config, code or source have changed since"):
        resume()
    monkeypatch.undo()
    facts = json.loads((run.evidence / "run.json").read_text())
    (run.evidence / "run.json").write_text(json.dumps(facts | {"data_digest": "other"}))
    with pytest.raises(InputError, match="the data in the vault have changed since"):
        resume()


def test_a_version_that_is_there_is_not_registered_twice(
    finished: tuple[workflow.Run, list[dict]], tmp_path: Path
) -> None:
    run = copied(finished[0], tmp_path / "copy")
    before = tracking.models_table(tracking.open_store(run.workspace))
    decision = run.load_json("decision")
    features = serving.load_package(run.package).facts["feature_set"]
    again = run._register(run.load_json("run"), FeatureSet.from_dict(features), decision["gate"])
    assert again["challenger_version"] == decision["challenger_version"]
    pd.testing.assert_frame_equal(tracking.models_table(tracking.open_store(run.workspace)), before)


def test_a_killed_run_is_listed_as_killed(finished: tuple[workflow.Run, list[dict]], tmp_path: Path) -> None:
    run = copied(finished[0], tmp_path / "copy")
    (run.folder / "state.json").write_text('{"status": "running", "steps": []}')
    assert workflow.runs_table(run.workspace)["status"].tolist() == ["killed"]
    with workflow.project_lock(run.workspace):
        assert workflow.runs_table(run.workspace)["status"].tolist() == ["running"]


def test_a_damaged_champion_is_told_to_the_gate(finished: tuple[workflow.Run, list[dict]], tmp_path: Path) -> None:
    from fraudlab import recipe

    run = copied(finished[0], tmp_path / "copy")
    prepared = recipe.prepare(run.config, run.workspace)
    client = tracking.open_store(run.workspace)
    if tracking.champion(client, "demo") is None:
        tracking.promote(client, "demo", "1", reason="for this test")
    sound = run.incumbent(prepared)
    assert sound.problem == ""
    assert sound.learnt_until == prepared.fold.refit_end
    package = tracking.champion(client, "demo")["package"]
    booster = next(Path(package).rglob("*.ubj"))
    booster.chmod(0o600)
    booster.write_bytes(booster.read_bytes() + b"x")
    broken = run.incumbent(prepared)
    assert sound.scores is not None
    assert broken.scores is None
    assert broken.problem


def test_a_person_can_promote_with_a_reason(
    finished: tuple[workflow.Run, list[dict]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from typer.testing import CliRunner

    from fraudlab.cli import app

    run = copied(finished[0], tmp_path / "copy")
    client = tracking.open_store(run.workspace)
    client.delete_registered_model_alias("demo", "champion")
    monkeypatch.setenv("FRAUDLAB_HOME", str(run.workspace.root))
    result = CliRunner().invoke(app, ["models", "promote", "demo", "1", "--reason", "the gate was too strict"])
    assert result.output == "demo version 1 is the champion\n"
    assert tracking.champion(client, "demo")["version"] == "1"
    assert CliRunner().invoke(app, ["models", "promote", "demo", "1"]).exit_code == 2, "a reason is needed"


def test_a_moved_project_keeps_its_champion(finished: tuple[workflow.Run, list[dict]], tmp_path: Path) -> None:
    run, _ = finished
    moved = Workspace(tmp_path / "moved")
    shutil.copytree(run.workspace.root, moved.root)
    hidden = run.workspace.root.with_name("hidden")
    os.rename(run.workspace.root, hidden)
    try:
        client = tracking.open_store(moved)
        table = tracking.models_table(client)
        assert table["name"].tolist() == ["demo"]
        champion = tracking.champion(client, "demo")
        if champion is not None:
            assert str(champion["package"]).startswith(str(moved.root))
            serving.load_package(champion["package"])
    finally:
        os.rename(hidden, run.workspace.root)


@pytest.mark.slow
def test_too_few_frauds_are_refused_and_nothing_is_left(finished: tuple[workflow.Run, list[dict]]) -> None:
    run, _ = finished
    before = sorted(path.name for path in run.workspace.runs.iterdir())
    models = tracking.models_table(tracking.open_store(run.workspace))
    with pytest.raises(InputError, match="frauds"):
        workflow.retrain(DEMO, changes=SMALL | {"split__min_positives": 100_000}, workspace=run.workspace)
    assert sorted(path.name for path in run.workspace.runs.iterdir()) == before
    pd.testing.assert_frame_equal(tracking.models_table(tracking.open_store(run.workspace)), models)


def test_unknown_notebooks_and_parameters_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="unknown parameter 'confg'; did you mean 'config'"):
        workflow.run_notebook(
            ROOT / "notebooks" / "02_explore.ipynb", tmp_path / "out.ipynb", {"confg": "x"}, cwd=tmp_path
        )
    with pytest.raises(InputError, match=r"no file 02_explor\.ipynb; did you mean '02_explore'"):
        workflow.run_notebook(ROOT / "notebooks" / "02_explor.ipynb", tmp_path / "out.ipynb", {}, cwd=tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_failing_cell_names_the_notebook_and_keeps_what_ran(tmp_path: Path) -> None:
    import nbformat

    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell("print('before')"), nbformat.v4.new_code_cell("1 / 0")],
        metadata={"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}},
    )
    nbformat.write(notebook, tmp_path / "bad.ipynb")
    with pytest.raises(FraudlabError, match=r"bad\.ipynb, cell 2 failed: ZeroDivisionError"):
        workflow.run_notebook(tmp_path / "bad.ipynb", tmp_path / "out" / "bad.ipynb", {}, cwd=tmp_path)
    assert "before" in (tmp_path / "out" / "bad.ipynb").read_text()


def test_interactive_notebooks_find_the_config_from_their_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fraudlab.runs import open_run

    (tmp_path / "pyproject.toml").touch()
    shutil.copytree(ROOT / "configs", tmp_path / "configs")
    (tmp_path / "notebooks").mkdir()
    monkeypatch.delenv("FRAUDLAB_HOME", raising=False)
    monkeypatch.chdir(tmp_path / "notebooks")
    run = open_run("configs/demo.toml")
    assert run.folder == tmp_path / "runs" / "demo-lab"
    assert load_config(run.folder / "config.toml") == run.config
    with pytest.raises(InputError, match=r"no data\.json yet; run the notebooks in order"):
        run.load_json("data")
    # What was made from other settings, or from other data, is not mixed with this pass.
    run.save_json("thresholds", {"review": 0.5})
    assert open_run("configs/demo.toml").load_json("thresholds") == {"review": 0.5}
    run.record_data({"digest": "a"})
    run.save_json("thresholds", {"review": 0.5})
    run.record_data({"digest": "a"})
    assert run.load_json("thresholds") == {"review": 0.5}
    run.record_data({"digest": "b"})
    assert not (run.evidence / "thresholds.json").exists()
    run.save_json("thresholds", {"review": 0.5})
    open_run("configs/demo.toml", as_of="2026-05-01T00:00Z")
    assert not (run.evidence / "thresholds.json").exists()


def test_kernels_get_ready_while_a_notebook_leaves_a_core_to_them(tmp_path: Path) -> None:
    started: list[tuple[str, str, bool]] = []

    class Ahead:
        def start(self, notebook: Path, also: tuple[str, ...], *, now: bool) -> None:
            if notebook.stem not in [each for _, each, _ in started]:
                started.append((step, notebook.stem, now))

    order = [step for step, _ in workflow.STEPS]
    for step in ("", *order, "report"):
        workflow._start_ahead(Ahead(), ROOT, step, order)
    assert started == [
        ("", "01_ingest", True),
        ("01_ingest", "02_explore", False),
        ("02_explore", "03_train", False),
        ("02_explore", "04_evaluate", False),
        ("04_evaluate", "05_explain", False),
        ("04_evaluate", "06_register", False),
    ]
    started.clear()
    for step in ("", "05_explain", "06_register", "report"):
        workflow._start_ahead(Ahead(), ROOT, step, order[4:])
    assert started == [("", "05_explain", True)], "a resumed run starts its first, and nothing beside busy ones"


def test_features_that_notebooks_shared_are_gone_before_the_report_searches_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "private").mkdir()
    (tmp_path / "private" / features_kept.FILE).write_bytes(b"unreadable")
    there: list[list[Path]] = []
    monkeypatch.setattr(
        making, "checked_reports", lambda run, needles, pictures: there.append(list(run.folder.rglob("*.kept")))
    )
    workflow._report(SimpleNamespace(folder=tmp_path, done=lambda *_: None), [], {})
    assert there == [[]]
