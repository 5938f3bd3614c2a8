"""Decisions and the shadow in the registry: what was decided about a version, and which one scores beside the champion.

Records are tags of the version, numbered and never changed; the alias `shadow` and the tag `fraudlab.shadow` say which
version stands beside the champion, since when and until when.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from typing import Any

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from fraudlab.decision_record import MADE_FROM, short_reason
from fraudlab.schema import InputError

SHADOW = "shadow"
"""The alias of the version in shadow."""

STANDS = "fraudlab.shadow"
RECORD = "fraudlab.decision_record."


def keep_decision(client: MlflowClient, record: Mapping[str, Any]) -> None:
    """Write a decision's record to its version, and its outcome, reason and digest to the version and its run.

    Doing it again changes nothing.
    """
    name, version = record["model"], record["challenger_version"]
    held = decisions(client, name, version)
    if record["digest"] not in [each["digest"] for each in held]:
        text = json.dumps(record, sort_keys=True, ensure_ascii=False)
        client.set_model_version_tag(name, version, f"{RECORD}{len(held) + 1:03d}", text)
    short = {
        "fraudlab.decision": record["decision"],
        "fraudlab.decision_reason": short_reason(record),
        "fraudlab.decision_digest": record["digest"],
    }
    run = client.get_model_version(name, version).run_id
    for key, value in short.items():
        client.set_model_version_tag(name, version, key, value)
        if run:
            with contextlib.suppress(MlflowException):  # a run that was deleted needs no tags
                client.set_tag(run, key, value)


def decisions(client: MlflowClient, name: str, version: str) -> list[dict[str, Any]]:
    """Return the records of a version, the first decision first.

    Raises
    ------
    InputError : there is no such version.
    """
    try:
        tags = client.get_model_version(name, version).tags
    except MlflowException:
        raise InputError(f"model: must be registered; found no version {version} of '{name}'; register it") from None
    return [json.loads(tags[key]) for key in sorted(tags) if key.startswith(RECORD)]


def made_from(client: MlflowClient, name: str, version: str) -> dict[str, Any]:
    """Return what a version's tags say it was made from."""
    tags = client.get_model_version(name, version).tags
    return {key: tags[f"fraudlab.{key}"] for key in MADE_FROM if f"fraudlab.{key}" in tags}


def begin_shadow(client: MlflowClient, name: str, version: str, facts: Mapping[str, Any]) -> None:
    """Let a version stand in shadow; the alias moves last."""
    client.set_model_version_tag(name, version, STANDS, json.dumps(facts, sort_keys=True))
    client.set_registered_model_alias(name, SHADOW, version)


def in_shadow(client: MlflowClient, name: str) -> dict[str, Any] | None:
    """Return the version in shadow: `version` and the facts given to `begin_shadow`; None where there is none."""
    try:
        version = client.get_registered_model(name).aliases.get(SHADOW)
    except MlflowException:
        return None
    if version is None:
        return None
    tags = client.get_model_version(name, version).tags
    return {"version": str(version), **json.loads(tags.get(STANDS, "{}"))}


def end_shadow(client: MlflowClient, name: str) -> None:
    """Take the alias back; the facts stay with the version."""
    client.delete_registered_model_alias(name, SHADOW)
