"""Which model versions are due to be trained again, because customers they learnt from were erased or corrected."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pandas as pd
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from fraudlab.config import Workspace
from fraudlab.privacy import lineage
from fraudlab.privacy.consent import EVERY_PURPOSE, Ledger
from fraudlab.privacy.identities import Correction, IdentityStore
from fraudlab.privacy.keys import open_keys
from fraudlab.schema import InputError
from fraudlab.tracking_registry import package_folder

DUE, REASON = "fraudlab.retrain_due", "fraudlab.retrain_due_reason"


def due_by_rights(workspace: Workspace) -> tuple[dict[tuple[str, str], int], list[Correction]]:
    """Return the versions trained on erased customers, and on how many; and all corrections."""
    events = Ledger(workspace.ledger).events(purpose=EVERY_PURPOSE)
    erased = events.loc[events["event"] == "erasure", "customer"].drop_duplicates()
    known = lineage.trained_on(workspace.lineage, erased) if len(erased) else {}
    return known, IdentityStore(workspace.identities, open_keys(workspace)).corrections()


def mark(
    client: MlflowClient, workspace: Workspace, erased: dict[tuple[str, str], int], corrections: list[Correction]
) -> list[dict[str, Any]]:
    """Tag the versions that are due and return them; see `fraudlab.tracking.mark_retrain_due`."""
    corrected: dict[tuple[str, str], set[str]] = {}
    for each in corrections:
        for model in lineage.trained_on(workspace.lineage, [each.code]):
            with contextlib.suppress(MlflowException):
                found = client.get_model_version(*model)
                if _learnt_before(client, found, each.at) and _reads(client, found, each):
                    corrected.setdefault(model, set()).add(each.code)
    due = []
    for name, version in sorted({*erased, *corrected}, key=lambda model: (model[0], int(model[1]), model[1])):
        gone, wrong = erased.get((name, version), 0), len(corrected.get((name, version), ()))
        reason = _reason(gone, wrong)
        with contextlib.suppress(MlflowException):  # a version that was deleted needs no mark
            tags = client.get_model_version(name, version).tags
            if tags.get(REASON) != reason:
                since = tags.get(DUE, pd.Timestamp.now("UTC").floor("s").isoformat())
                client.set_model_version_tag(name, version, DUE, since)
                client.set_model_version_tag(name, version, REASON, reason)
            due.append({"name": name, "version": version, "customers": gone, "corrected": wrong, "reason": reason})
    return due


def _reason(erased: int, corrected: int) -> str:
    """Say why a version is due.

    >>> _reason(2, 0)
    'erasure of 2 customers that it was trained on'
    >>> _reason(1, 1)
    'erasure of 1 customer that it was trained on; correction of what it read of 1 customer'
    """
    told = [f"erasure of {erased:,} customer{'s' * (erased > 1)} that it was trained on"] if erased else []
    told += [f"correction of what it read of {corrected:,} customer{'s' * (corrected > 1)}"] if corrected else []
    return "; ".join(told)


def _learnt_before(client: MlflowClient, version: ModelVersion, moment: pd.Timestamp) -> bool:
    """Say whether a version's data were loaded before a moment: its run began before it."""
    began = version.creation_timestamp
    with contextlib.suppress(MlflowException):
        if version.run_id:
            began = client.get_run(version.run_id).info.start_time
    return began < moment.value // 1_000_000


def _reads(client: MlflowClient, version: ModelVersion, correction: Correction) -> bool:
    """Say whether a version's features read any of the corrected columns; yes where its package does not tell."""
    from fraudlab.features import FeatureSet

    try:
        about = json.loads((package_folder(client, version) / "package.json").read_text(encoding="utf-8"))
        read = FeatureSet.from_dict(about["facts"]["feature_set"]).requires
    except (OSError, ValueError, KeyError, TypeError, InputError):
        return True
    return bool(set(read) & set(correction.columns))
