"""The files for schedulers: read by the real tools where they are installed, and true to what fraudlab does."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import types
from pathlib import Path
from typing import ClassVar

import pytest
import yaml
from typer.testing import CliRunner

from fraudlab.cli import app
from fraudlab.config import Workspace
from fraudlab.tracking_place import settings_of

KUBERNETES = "1.37"
DEPLOY = Path(__file__).resolve().parents[2] / "deploy"


def needs(tool: str) -> str:
    found = shutil.which(tool)
    if found is None:
        pytest.skip(f"{tool} is not installed")
    return found


def fraudlab_commands(text: str) -> set[str]:
    return {match[1] for match in re.finditer(r"(?:\.venv/bin/|ENTRYPOINT.*)fraudlab ([a-z]+(?: [a-z]+)?)", text)}


@pytest.mark.parametrize(
    "file", ["cron/fraudlab", "systemd/fraudlab-retrain@.service", "airflow/fraudlab_retrain.py", "README.md"]
)
def test_every_command_that_is_scheduled_exists(file):
    text = (DEPLOY / file).read_text(encoding="utf-8")
    for command in fraudlab_commands(text) | {"retrain"}:
        words = [word for word in command.split() if not word.startswith("-")]
        result = CliRunner().invoke(app, [*words, "--help"])
        assert result.exit_code == 0, command


def test_cron_reads_its_table():
    done = subprocess.run([needs("crontab"), "-n", DEPLOY / "cron" / "fraudlab"], capture_output=True, text=True)
    if "invalid option" in done.stderr:
        pytest.skip("this crontab has no dry run")
    assert done.returncode == 0, done.stderr
    jobs = [line for line in (DEPLOY / "cron" / "fraudlab").read_text().splitlines() if re.match(r"[\d*]", line)]
    assert [line.split()[5] for line in jobs] == ["fraudlab", "fraudlab"], "an account of its own"


def test_systemd_reads_its_units(tmp_path):
    tool = needs("systemd-analyze")
    shutil.copytree(DEPLOY / "systemd", tmp_path / "units")
    unit = tmp_path / "units" / "fraudlab-retrain@.service"
    unit.write_text(unit.read_text().replace("/opt/fraudlab/.venv/bin/fraudlab", sys.executable))
    done = subprocess.run(
        [tool, "verify", *sorted((tmp_path / "units").iterdir())], capture_output=True, text=True, timeout=60
    )
    assert "fraudlab" not in done.stderr, done.stderr
    moment = re.search(r"OnCalendar=(.*)", (DEPLOY / "systemd" / "fraudlab-retrain@.timer").read_text())[1]
    assert subprocess.run([tool, "calendar", moment], capture_output=True).returncode == 0


def test_kubernetes_reads_its_objects():
    documents = list(yaml.safe_load_all((DEPLOY / "kubernetes" / "cronjob.yaml").read_text()))
    validate = pytest.importorskip("kubernetes_validate", reason="kubernetes-validate is not installed")
    assert [document["kind"] for document in documents] == ["CronJob", "PersistentVolumeClaim"]
    for document in documents:
        validate.validate(document, KUBERNETES, strict=True)
        with pytest.raises(validate.ValidationError):
            validate.validate(document | {"spec": {"nosuch": 1}}, KUBERNETES, strict=True)


def test_the_pod_has_no_rights_and_knows_the_exit_codes():
    job, claim = yaml.safe_load_all((DEPLOY / "kubernetes" / "cronjob.yaml").read_text())
    assert job["spec"]["concurrencyPolicy"] == "Forbid"
    spec = job["spec"]["jobTemplate"]["spec"]
    rules = {rule["action"]: rule["onExitCodes"]["values"] for rule in spec["podFailurePolicy"]["rules"]}
    assert rules == {"FailJob": [2], "Ignore": [75]}
    pod = spec["template"]["spec"]
    assert pod["restartPolicy"] == "Never", "the policy on exit codes needs it"
    assert pod["securityContext"]["runAsNonRoot"] is True
    (container,) = pod["containers"]
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    mounted = {mount["name"] for mount in container["volumeMounts"]}
    assert mounted == {volume["name"] for volume in pod["volumes"]}
    claims = [each["persistentVolumeClaim"]["claimName"] for each in pod["volumes"] if "persistentVolumeClaim" in each]
    assert claims == [claim["metadata"]["name"]]


class Task:
    made: ClassVar[list[Task]] = []

    def __init__(self, **settings: object) -> None:
        self.settings = settings
        Task.made.append(self)


class Dag(Task):
    def __enter__(self) -> Dag:
        return self

    def __exit__(self, *_: object) -> None:
        pass


@pytest.fixture
def airflow(monkeypatch) -> list[Task]:
    """Run the DAG's file against stand-ins that keep what they were made with."""
    for name, contents in {
        "airflow": {},
        "airflow.sdk": {"DAG": Dag},
        "airflow.providers": {},
        "airflow.providers.standard": {},
        "airflow.providers.standard.operators": {},
        "airflow.providers.standard.operators.bash": {"BashOperator": Task},
        "pendulum": {"datetime": lambda *day, tz: (day, tz)},
    }.items():
        module = types.ModuleType(name)
        module.__dict__.update(contents)
        monkeypatch.setitem(sys.modules, name, module)
    Task.made.clear()
    exec(compile((DEPLOY / "airflow" / "fraudlab_retrain.py").read_text(), "fraudlab_retrain.py", "exec"), {})
    return list(Task.made)


@pytest.mark.parametrize(("code", "shown"), [(0, 0), (1, 1), (2, 2), (75, 99)])
def test_the_task_of_airflow_passes_exit_codes_on(airflow, tmp_path, code, shown):
    dag, task = airflow
    assert dag.settings["max_active_runs"] == 1
    assert task.settings["skip_on_exit_code"] == 99
    program = tmp_path / ".venv" / "bin" / "fraudlab"
    program.parent.mkdir(parents=True)
    program.write_text(f'#!/bin/sh\necho "$@" > "{tmp_path}/called"\nexit {code}\n')
    program.chmod(0o700)
    command = task.settings["bash_command"].replace("/opt/fraudlab", str(tmp_path))
    filled = re.sub(r"{{ .* }}", "2026-06-01T00:00:00Z", command)
    assert subprocess.run(["bash", "-c", filled]).returncode == shown
    said = (tmp_path / "called").read_text()
    assert said == "retrain --config configs/demo.toml --as-of 2026-06-01T00:00:00Z\n"


def test_the_container_runs_as_nobody_and_holds_no_keys():
    text = (DEPLOY / "container" / "Containerfile").read_text()
    assert re.findall(r"^USER (\S+)$", text, flags=re.M) == ["fraudlab"]
    assert "--require-hashes -r requirements.lock" in text
    copied = re.findall(r"^COPY (?!--)(.+) \S+$", text, flags=re.M)
    root = DEPLOY.parent
    for line in copied:
        for name in line.split():
            assert (root / name).exists(), name
            assert name not in (".keys", "data", "runs", ".")


# -- the files of deploy/team --------------------------------------------------------------------------------------

TEAM = DEPLOY / "team"


def test_compose_reads_its_file():
    done = subprocess.run(
        [needs("check-jsonschema"), "--builtin-schema", "vendor.compose-spec", TEAM / "compose.yaml"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout


def test_the_team_s_servers_are_closed_and_filled_from_one_file():
    text = (TEAM / "compose.yaml").read_text()
    wanted = set(re.findall(r"\$\{(\w+)", text))
    given = dict(re.findall(r"^(\w+)=(.*)$", (TEAM / "example.env").read_text(), flags=re.M))
    assert wanted == set(given)
    services = yaml.safe_load(text)["services"]
    for name, service in services.items():
        assert "no-new-privileges:true" in service["security_opt"], name
        assert all(port.startswith("${ADDRESS") for port in service["ports"]), name
        assert re.search(r":v?\d+(\.\d+)*$", service["image"]), "a version of its own"
        assert {"server_crt", "server_key"} <= set(service["secrets"]), "TLS"
        for volume in service["volumes"]:
            source = volume.split(":")[0]
            assert (TEAM / source).is_file() if source.startswith("./") else source in ("database", "files")
    ignored = (TEAM / ".gitignore").read_text().split()
    assert {".env", "secrets/"} <= set(ignored)
    # Only what the database's hosts file lets in: TLS, a password, three roles.
    rules = [line.split() for line in (TEAM / "pg_hba.conf").read_text().splitlines() if not line.startswith("#")]
    assert [rule[0] for rule in rules] == ["local", "hostssl"]
    assert rules[1][2].split(",") == re.findall(r"CREATE ROLE (\w+) LOGIN", (TEAM / "roles.sql").read_text())


def test_the_project_s_settings_fit_the_servers(tmp_path):
    shutil.copy(TEAM / "tracking.toml", tmp_path)
    settings = settings_of(Workspace(tmp_path))
    services = yaml.safe_load((TEAM / "compose.yaml").read_text())["services"]
    assert services["database"]["environment"]["POSTGRES_DB"] == settings.store.rpartition("/")[2]
    assert services["files"]["ports"][0].endswith(settings.s3_endpoint.rpartition(":")[2])
    bucket, prefix = settings.artifacts.removeprefix("s3://").split("/")
    resources = {
        resource
        for statement in json.loads((TEAM / "bucket-policy.json").read_text())["Statement"]
        for resource in statement["Resource"]
    }
    assert resources == {f"arn:aws:s3:::{bucket}", f"arn:aws:s3:::{bucket}/{prefix}/*"}
