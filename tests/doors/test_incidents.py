"""The incident runbook: each of its commands exists with these options, and the quick ones work as written."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from fraudlab import doctor
from fraudlab.cli import app

ROOT = Path(__file__).resolve().parents[2]
RUNBOOK = (ROOT / "docs" / "incident-response.md").read_text(encoding="utf-8")
PRIVACY = (ROOT / "docs" / "privacy.md").read_text(encoding="utf-8")
STEPS = ("How you notice", "First five minutes", "Contain", "Recover", "Prove", "Tell", "Learn")
INCIDENTS = (
    "Leaked key",
    "Wrong model promoted",
    "Poisoned data",
    "Erased by mistake",
    "Lost disk",
    "Lost second factor",
)
BEFORE = "Before anything happens"
# Not run here: they train, need a registered model, a phone or a person; their own tests run them.
NOT_RUN = ("retrain", "features audit", "models promote", "report", "privacy enrol", "privacy consent import")
NOT_RUN += ("privacy erase",)  # asks for customers whom the small project does not hold


def sections(text: str) -> dict[str, str]:
    """Return the text under each heading of the second level."""
    parts = re.split(r"^## (.+)$", text, flags=re.M)
    return dict(zip(parts[1::2], parts[2::2]))


def lines(text: str) -> list[str]:
    """Return the lines of a text's code blocks."""
    blocks = re.findall(r"^```sh\n(.*?)^```$", text, flags=re.M | re.S)
    return [line for block in blocks for line in block.splitlines() if line.strip()]


def spoken(text: str) -> list[str]:
    """Return the commands named inside sentences."""
    return re.findall(r"`(fraudlab [^`]+)`", text)


def refusal(line: str) -> str:
    """Return what the command line's own parser has against a command, down to its last option; nothing is run."""
    program, *words = shlex.split(line)
    assert program == "fraudlab"
    command, path = typer.main.get_command(app), program
    while hasattr(command, "commands"):
        name, *words = words or [""]
        if name not in command.commands and "make" in command.commands:
            name, words = "make", [name, *words]  # the word that may be left out
        if name not in command.commands:
            return f"there is no command '{path} {name}'"
        command, path = command.commands[name], f"{path} {name}"
    if words == ["--help"]:
        return ""
    try:
        command.make_context(path, words)
    except Exception as error:  # typer brings a click of its own, whose errors are not click's
        if not hasattr(error, "format_message"):
            raise
        return error.format_message()
    return ""


COMMANDS = list(dict.fromkeys(line for line in lines(RUNBOOK) if line.startswith("fraudlab ")))


@pytest.mark.parametrize("line", COMMANDS)
def test_each_command_of_the_runbook_exists_with_these_options(line: str) -> None:
    assert refusal(line) == ""


@pytest.mark.parametrize("line", sorted({*spoken(RUNBOOK), *spoken(PRIVACY)}))
def test_each_command_named_in_a_sentence_exists(line: str) -> None:
    said = refusal(line)
    assert said == "" or (" --" not in line and refusal(f"{line} --help") == ""), said


@pytest.mark.parametrize(
    "line", ["fraudlab nosuch", "fraudlab keys nosuch", "fraudlab audit verify --nosuch x", "fraudlab keys rotate"]
)
def test_a_command_that_does_not_exist_would_be_found_out(line: str) -> None:
    assert refusal(f"fraudlab {line}")


@pytest.mark.parametrize("fix", sorted(set(re.findall(r'"(fraudlab [^"{]+)"', Path(doctor.__file__).read_text()))))
def test_each_command_that_the_doctor_recommends_exists(fix: str) -> None:
    assert refusal(fix) == ""


def missing_tests(page: str) -> list[str]:
    """Return the tests named on a page that do not exist: files without a test, names that no named file defines."""
    files = sorted(set(re.findall(r"`(tests/[\w/.]+)`", page)))
    held = {name: (ROOT / name).read_text(encoding="utf-8") if (ROOT / name).is_file() else "" for name in files}
    names = re.findall(r"`(test_\w+)`", page)
    return [name for name, text in held.items() if "\ndef test_" not in text] + [
        name for name in names if not any(f"\ndef {name}(" in text for text in held.values())
    ]


def test_each_test_that_the_privacy_page_names_exists() -> None:
    assert missing_tests(PRIVACY) == []
    assert missing_tests("`tests/nosuch.py` and `test_nosuch`") == ["tests/nosuch.py", "test_nosuch"]


def test_each_protection_names_its_test() -> None:
    table = PRIVACY.split("## What is protected, how, and the test")[1].split("\n\n")[1]
    rows = [line for line in table.splitlines() if line.startswith("| ")][2:]
    assert len(rows) > 25
    assert [row.split("|")[1].strip() for row in rows if "`tests/" not in row] == []


@pytest.mark.parametrize("incident", INCIDENTS)
def test_each_incident_goes_through_all_steps_in_order(incident: str) -> None:
    said = re.findall(r"^\*\*([^*]+)\.\*\*", sections(RUNBOOK)[incident], flags=re.M)
    assert [step for step in said if step in STEPS] == list(STEPS)


def test_links_lead_to_headings() -> None:
    anchors = {heading.lower().replace(" ", "-") for heading in sections(RUNBOOK)}
    assert set(re.findall(r"\]\(#([^)]+)\)", RUNBOOK)) <= anchors


def test_other_lines_are_ordinary_tools() -> None:
    others = [line for line in lines(RUNBOOK) if not line.startswith("fraudlab ")]
    assert [line for line in others if not shutil.which(shlex.split(line)[0])] == []


def test_the_codes_of_the_doctor_are_those_it_gives() -> None:
    given = set(re.findall(r'"(FD\d\d)"', Path(doctor.__file__).read_text()))
    assert set(re.findall(r"FD\d\d", RUNBOOK)) <= given


# --- running it --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small project with what the runbook wants before anything happens."""
    base = tmp_path_factory.mktemp("incident")
    (base / "project" / "configs" / "contracts").mkdir(parents=True)
    (base / "safe").mkdir(mode=0o700)
    (base / "project" / "pyproject.toml").write_text("")
    shutil.copy(ROOT / "configs" / "contracts" / "demo.toml", base / "project" / "configs" / "contracts")
    config = (ROOT / "configs" / "demo.toml").read_text()
    small = re.sub(
        r"(customers|merchants|days) = \d+", lambda m: f"{m[1]} = {60 if m[1] != 'days' else 35}", config, count=3
    )
    (base / "project" / "configs" / "demo.toml").write_text(small)
    with pytest.MonkeyPatch.context() as patch:
        run(["fraudlab ingest --config configs/demo.toml", *lines(sections(RUNBOOK)[BEFORE])], base, patch)
    return base


def run(commands: list[str], base: Path, patch: pytest.MonkeyPatch) -> dict[str, str]:
    """Run commands one after the other in a project; return what each said."""
    patch.delenv("FRAUDLAB_HOME", raising=False)
    patch.delenv("FRAUDLAB_KEYS", raising=False)
    patch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
    patch.setattr(doctor, "_listeners", list)  # other servers of the machine are not the test's
    patch.chdir(base / "project")
    said = {}
    for line in commands:
        if not line.startswith("fraudlab ") or line.removeprefix("fraudlab ").startswith(NOT_RUN):
            continue
        here = line.replace("/media/safe", str(base / "safe")).replace("/srv/", f"{base}/srv/")
        done = CliRunner().invoke(app, shlex.split(here)[1:], input="correct horse battery\n" * 2)
        assert done.exit_code == 0, f"{line}: {done.output}\n{done.exception}"
        said[line] = done.output
    return said


@pytest.mark.parametrize("incident", ["The 72 hours", *INCIDENTS])
def test_the_quick_commands_of_an_incident_work_as_written(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, incident: str
) -> None:
    shutil.copytree(prepared, tmp_path / "now")
    (tmp_path / "now" / "srv").mkdir()
    assert run(lines(sections(RUNBOOK)[incident]), tmp_path / "now", monkeypatch)


def test_after_a_lost_disk_the_restored_folder_holds_the_same(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = tmp_path / "now"
    shutil.copytree(prepared, base)
    (base / "srv").mkdir()
    before = run(["fraudlab describe demo --json"], base, monkeypatch)
    for gone in ("data", ".keys", "mlruns", "reports"):
        shutil.rmtree(base / "project" / gone, ignore_errors=True)
    wanted = ("fraudlab keys restore", "fraudlab backup restore")
    recover = [line for line in lines(sections(RUNBOOK)["Lost disk"]) if line.startswith(wanted)]
    run(recover, base, monkeypatch)
    shutil.rmtree(base / "project" / "data")
    shutil.move(base / "srv" / "fraudlab-restored" / "data", base / "project" / "data")
    assert run(["fraudlab describe demo --json"], base, monkeypatch) == before


def test_after_a_rotation_the_leaked_key_opens_nothing(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = tmp_path / "now"
    shutil.copytree(prepared, base)
    leaked = (base / "project" / ".keys" / "features.key").read_bytes()
    run(["fraudlab keys rotate features", "fraudlab describe demo"], base, monkeypatch)
    (base / "project" / ".keys" / "features.key").write_bytes(leaked)
    done = CliRunner().invoke(app, ["describe", "demo"])
    assert done.exit_code != 0
    assert "features" in str(done.exception)
