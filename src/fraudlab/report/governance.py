"""The sections about control: how to make the result again, what changed, who agreed."""

from __future__ import annotations

import json
from typing import Any

import pandas as pd

from fraudlab.report.blocks import (
    ABSENT,
    Code,
    Facts,
    Group,
    Prose,
    Section,
    Table,
    day,
    metric_label,
    metric_text,
    moment,
    not_available,
    provided,
)
from fraudlab.report.evidence import Evidence
from fraudlab.report.language import foreign, retold, say, term

LABELS = {
    "data_digest": "Data (sha-256)",
    "as_of": "Known as of",
    "config_digest": "Config (sha-256)",
    "code_digest": "Code (sha-256)",
    "lock_digest": "Locked environment (sha-256)",
    "seed": "Seed",
}
SHORT = 12
"""Characters of a digest in the change log."""


def reproduce(e: Evidence) -> Section:
    """The command, the digests and the versions that give this result again."""
    run = e.run
    model, version = foreign(provided(run.get("model_name"))), provided(run.get("model_version"))
    digests = [
        (say("Run"), foreign(provided(run["run_id"]))),
        (say("Made"), moment(run["created"])),
        (say("Seed"), provided(run.get("seed"))),
        (say("Config (sha-256)"), provided(run["config_digest"])),
        (say("Data (sha-256)"), provided(run.get("data_digest") or e.data["digest"])),
        (say("Code (sha-256)"), provided(run.get("code_digest"))),
        (say("Git commit"), provided(run.get("git_commit"))),
        (say("Locked environment (sha-256)"), provided(run.get("lock_digest"))),
        (say("Evidence of this report (sha-256)"), e.digest),
        (say("MLflow run"), provided(run.get("mlflow_run_id"))),
        (say("Registered model"), say("{name}, version {version}", name=model, version=version)),
    ]
    versions = [(foreign(name), str(version)) for name, version in run["versions"].items()]
    vendor = say(
        "No bought model, score or data set is part of it. What others made is open source, in the versions below; all "
        "packages with their digests stand in the lock file whose digest is given above."
    )
    blocks = [
        Prose(say("With the same data, code and environment (equal digests) this command gives the same figures:")),
        Code(provided(run["command"]), say("Command")),
        Facts(digests),
        Group(
            say("Vendor products"),
            [Prose(vendor), Table(say("Versions"), (say("Package"), say("Version")), versions, "lr")],
        ),
        Group(say("The config as used"), [Code(e.config_text.rstrip(), say("Config"))]),
    ]
    return Section("reproduce", say("How to reproduce"), blocks)


def change_log(e: Evidence) -> Section:
    """What differs from the version that was champion before: config, data, features, figures."""
    version = provided(e.decision.get("challenger_version"))
    row = (version, day(e.run["created"]), _in_short(e), provided(None), provided(None))
    head = (say("Version"), say("Date"), say("What changed"), say("Why"), say("Approved by"))
    blocks: list[Any] = [Table(say("Change log"), head, [row], "lllll")]
    if e.changes is None:
        blocks.append(not_available("changes.json"))
    elif e.changes.get("note"):
        blocks.append(Prose(say("Nothing to compare with: {why}.", why=retold(e.changes["note"]))))
    else:
        blocks += _differences(e.changes, version)
    return Section("change-log", say("Change log"), blocks)


def _in_short(e: Evidence) -> str:
    """Say in a line what differs, or that nothing can be said."""
    changes = e.changes
    if changes is None or (changes.get("note") and changes.get("version")):
        return provided(None)
    if changes.get("version") is None:
        return say("first version")
    differ = {fact["what"] for fact in changes["facts"]}
    said = [
        say("settings: {n}", n=len(changes["config"])) if changes["config"] else "",
        say("features added: {n}", n=len(changes["features_added"])) if changes["features_added"] else "",
        say("features removed: {n}", n=len(changes["features_removed"])) if changes["features_removed"] else "",
        say("the data") if "data_digest" in differ else "",
        say("the code") if "code_digest" in differ else "",
    ]
    return say(", ").join(filter(None, said)) or say("nothing: the same config, data and code")


def _differences(changes: dict[str, Any], version: str) -> list[Any]:
    before = provided(changes["version"])
    head = ("", say("Version {version}", version=before), say("Version {version}", version=version))
    blocks: list[Any] = []
    facts = [
        (
            term(LABELS.get(fact["what"], fact["what"])),
            *(_short(fact["what"], fact[when]) for when in ("before", "after")),
        )
        for fact in changes["facts"]
    ]
    if facts:
        blocks.append(Table(say("What it was made from"), head, facts, "lll"))
    config = [(foreign(row["what"]), _setting(row["before"]), _setting(row["after"])) for row in changes["config"]]
    if config:
        blocks.append(Table(say("Settings that changed"), head, config, "lll"))
    added, removed = (foreign(", ".join(changes[f"features_{key}"])) for key in ("added", "removed"))
    blocks += [Prose(say("Features added: {names}.", names=added))] if added else []
    blocks += [Prose(say("Features removed: {names}.", names=removed))] if removed else []
    figures = [
        (
            metric_label(row["metric"]),
            *(
                ABSENT if pd.isna(value) else metric_text(row["metric"], value)
                for value in (row["before"], row["after"])
            ),
        )
        for row in changes["metrics"]
    ]
    if figures:
        note = say(
            "Each on the test part of its own run: a difference may lie in the payments. Both on the same payments: "
            "see the comparison"
        )
        blocks.append(Table(say("Headline figures"), head, figures, "lrr", note))
    return blocks or [Prose(say("Config, data, code, features and figures are those of the version before."))]


def _short(what: str, value: Any) -> str:
    """Return a fact for a narrow column: digests by their beginning."""
    if what == "as_of":
        return moment(value)
    text = provided(value)
    return text[:SHORT] if len(text) >= 40 else text


def _setting(value: str | None) -> str:
    """Return a setting as written, without the quotes of its text."""
    if value is None:
        return ABSENT
    try:
        plain = json.loads(value)
    except ValueError:
        return foreign(value)
    return foreign(plain if isinstance(plain, str) else value)


def sign_off(e: Evidence) -> Section:
    """Who agreed; left for people to fill in."""
    before, after = (foreign(provided(e.decision.get(f"champion_{when}"))) for when in ("before", "after"))
    absent = provided(None)
    roles = (
        say("Developer"),
        say("Independent validator"),
        say("Business owner"),
        say("Data protection officer"),
    )
    signed = [(role, absent, absent, absent) for role in roles]
    blocks = [
        Facts([(say("Champion before"), before), (say("Champion after"), after)]),
        Table(say("Sign-off"), (say("Role"), say("Name"), say("Decision"), say("Date")), signed, "llll"),
    ]
    return Section("sign-off", say("Sign-off"), blocks)
