"""Run configs: read, refused, overridden, digested."""

from __future__ import annotations

from pathlib import Path

import pytest

from fraudlab.config import Workspace, config_digest, explain_keys, load_config, project_root
from fraudlab.schema import InputError

ROOT = Path(__file__).resolve().parents[2]
DEMO = ROOT / "configs" / "demo.toml"


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.toml")), ids=lambda path: path.stem)
def test_shipped_configs_are_valid(path: Path) -> None:
    config = load_config(path)
    assert config.dataset.contract.is_file()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"split__tset_days": 7}, "unknown key 'split.tset_days'; did you mean 'test_days'?"),
        ({"splitt": {}}, "unknown key 'splitt'; did you mean 'split'?"),
        ({"model__max_depth": "deep"}, "key 'model.max_depth': input should be a valid integer"),
        ({"model__max_depth": 0}, "key 'model.max_depth': input should be greater than or equal to 1"),
        ({"dataset__source": "file"}, "dataset.path must name a CSV or Parquet file"),
        ({"as_of": "2026-01-01T00:00:00"}, "must carry a time zone"),
        ({"name": "Demo Run"}, "key 'name'"),
        ({"name__foo": 1}, "key 'name' holds a value and no keys of its own"),
        ({"split__entity": "foo"}, "key 'split.entity'"),
    ],
)
def test_wrong_keys_are_refused_with_the_key_and_the_rule(change: dict[str, object], sentence: str) -> None:
    with pytest.raises(InputError) as refusal:
        load_config(DEMO, **change)
    assert sentence in str(refusal.value)
    assert "demo.toml" in str(refusal.value)


def test_missing_and_broken_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no file at .*dmo\.toml; found there: .*demo\.toml"):
        load_config(DEMO.with_name("dmo.toml"))
    broken = tmp_path / "broken.toml"
    broken.write_text("name = ")
    with pytest.raises(InputError, match="not valid TOML"):
        load_config(broken)


def test_the_digest_follows_meaning_not_place(tmp_path: Path) -> None:
    here = load_config(DEMO)
    elsewhere = tmp_path / "configs" / "demo.toml"
    elsewhere.parent.mkdir()
    elsewhere.write_text(DEMO.read_text())
    (tmp_path / "pyproject.toml").touch()
    moved = load_config(elsewhere)
    assert moved.dataset.contract != here.dataset.contract
    assert config_digest(moved) == config_digest(here)
    assert config_digest(load_config(DEMO, seed=8)) != config_digest(here)


def test_which_reports_are_made_decides_no_result() -> None:
    asked = load_config(DEMO, report__languages=["en", "zh"], report__formats=["html", "pdf"])
    assert config_digest(asked) == config_digest(load_config(DEMO))
    assert asked.report.languages == ("en", "zh")
    with pytest.raises(InputError, match=r"key 'report\.languages\.0': input should be 'en' or 'zh'; found 'fr'"):
        load_config(DEMO, report__languages=["fr"])
    with pytest.raises(InputError, match=r"key 'report\.languages': tuple should have at least 1 item"):
        load_config(DEMO, report__languages=[])


def test_configs_are_frozen() -> None:
    with pytest.raises(ValueError):
        load_config(DEMO).seed = 8  # type: ignore[misc]


def test_every_key_is_explained_or_obvious() -> None:
    keys = {key: meaning for key, _, _, meaning in explain_keys()}
    assert keys["decision.alerts_per_day"].startswith("cases the investigators")
    assert "[split]" in keys


def test_the_workspace_is_found_from_below(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pyproject.toml").touch()
    below = tmp_path / "notebooks" / "deep"
    below.mkdir(parents=True)
    assert project_root(below) == tmp_path
    monkeypatch.delenv("FRAUDLAB_HOME", raising=False)
    monkeypatch.chdir(below)
    assert Workspace.of().root == tmp_path
    assert Workspace.of(DEMO).root == ROOT
    assert Workspace.of(Path("/tmp/no-project/x.toml")).root == tmp_path
    (tmp_path / "pyproject.toml").unlink()
    with pytest.raises(InputError, match=r"found no pyproject\.toml at or above the working folder"):
        Workspace.of()
    monkeypatch.setenv("FRAUDLAB_HOME", str(below))
    assert Workspace.of().vault == below / "data" / "vault"
    monkeypatch.setenv("FRAUDLAB_KEYS", str(tmp_path / "elsewhere"))
    assert Workspace.of().keys == tmp_path / "elsewhere"
