"""A version is found by alias or number, with the evidence it was registered with."""

from __future__ import annotations

from pathlib import Path

import pytest
from mlflow import MlflowClient

from fraudlab import tracking
from fraudlab.config import RunConfig, Workspace
from fraudlab.schema import InputError
from fraudlab.tracking_registry import find_version

CONFIG = RunConfig.model_validate(
    {"name": "demo", "dataset": {"name": "demo", "source": "simulate", "contract": "contracts/demo.toml"}}
)


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> MlflowClient:
    """A store with two versions of one model: the first logged its evidence, the second did not."""
    workspace = Workspace(tmp_path_factory.mktemp("project"))
    client = tracking.open_store(workspace)
    client.create_registered_model("demo")
    evidence = workspace.root / "evidence"
    evidence.mkdir()
    (evidence / "run.json").write_text('{"run_id": "demo-1"}')
    for number in (1, 2):
        run_id = tracking.start_run(client, CONFIG, name=f"demo-{number}")
        if number == 1:
            tracking.log_folder(client, run_id, evidence, "evidence")
        client.create_model_version("demo", source=str(evidence), run_id=run_id)
    client.set_registered_model_alias("demo", "champion", "1")
    return client


def test_an_alias_and_a_number_name_the_same_version(client: MlflowClient) -> None:
    first = find_version(client, "demo@champion")
    assert first == find_version(client, "demo/1")
    assert (first.name, first.version, first.run) == ("demo", "1", "demo-1")
    assert first.folder is not None
    assert (Path(first.folder) / "evidence" / "run.json").read_text() == '{"run_id": "demo-1"}'


def test_a_version_whose_run_logged_nothing_has_no_evidence(client: MlflowClient) -> None:
    found = find_version(client, "demo/2")
    assert (found.run, found.folder) == ("demo-2", None)


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ("demo", "model: must look like NAME@ALIAS or NAME/VERSION; found 'demo'; see fraudlab models list"),
        ("demo@", "model: must look like NAME@ALIAS or NAME/VERSION; found 'demo@'; see fraudlab models list"),
        ("demo/x", "model: must look like NAME@ALIAS or NAME/VERSION; found 'demo/x'; see fraudlab models list"),
        ("dmo/1", "model: none is registered as 'dmo'; did you mean 'demo'?"),
        ("demo@champoin", "model: 'demo' has no version called 'champoin'; did you mean 'champion'?"),
        ("demo/9", "model: 'demo' has no version 9; see fraudlab models list"),
    ],
)
def test_what_is_not_registered_is_refused_in_one_sentence(client: MlflowClient, wanted: str, said: str) -> None:
    with pytest.raises(InputError) as refused:
        find_version(client, wanted)
    assert str(refused.value) == said


def test_a_model_without_aliases_says_to_name_a_version(client: MlflowClient) -> None:
    client.create_registered_model("bare")
    with pytest.raises(
        InputError, match=r"^model: 'bare' has no version called 'champion'; name a version: NAME/VERSION"
    ):
        find_version(client, "bare@champion")
