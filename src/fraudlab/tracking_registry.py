"""The registered versions of a model: which serves, what each is, how one takes another's place."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import pandas as pd
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.entities.model_registry import ModelVersion, RegisteredModel
from mlflow.exceptions import MlflowException

from fraudlab import tracking_store
from fraudlab.package_check import checked_package
from fraudlab.schema import InputError, did_you_mean

CHAMPION, CHALLENGER = "champion", "challenger"
KEY_METRICS = ("auc_roc", "average_precision", "card_precision_at_k", "money_caught_share", "calibration_error")


def promote(
    client: MlflowClient, name: str, version: str, *, reason: str, expected: str | None = None
) -> dict[str, Any]:
    """Make a version the champion, after checking every byte of it.

    Parameters
    ----------
    client : from `open_store`.
    name, version : a registered package.
    reason : why, for whoever reads the model's history; kept with the version.
    expected : the champion that the decision was made against; another one by now refuses the promotion. "": there was
        none. None: any.

    Returns
    -------
    name, version, previous (the champion it replaces, None for the first), reason, at (UTC, ISO).

    Raises
    ------
    InputError : there is no such version, it is the champion already, its package is damaged, or the champion is not
        the expected one.
    """
    with tracking_store.alone(client, name) as still_alone:
        aliases = aliases_of(client, name)
        found = _version(client, name, version)
        previous = aliases.get(CHAMPION)
        if expected is not None and (previous or "") != expected:
            wanted = f"version {expected}" if expected else "none"
            raise InputError(
                f"model: the champion of '{name}' must still be {wanted}, which the decision was made against; "
                f"found {previous or 'none'}; decide again"
            )
        if previous == version:
            raise InputError(f"model: must not be the champion yet; version {version} of '{name}' is; nothing to do")
        checked_package(package_folder(client, found), digest=found.tags.get("fraudlab.package_digest"))
        entry = {"at": pd.Timestamp.now("UTC").floor("s").isoformat(), "reason": reason, "previous": previous}
        entries = [*json.loads(found.tags.get("fraudlab.promotions", "[]")), entry]
        still_alone()
        client.set_model_version_tag(name, version, "fraudlab.promotions", json.dumps(entries))
        client.set_model_version_tag(name, version, "fraudlab.previous_champion", previous or "")
        # One statement decides: before it the old champion serves, after it the new one.
        client.set_registered_model_alias(name, CHAMPION, version)
        if aliases.get(CHALLENGER) == version:
            client.delete_registered_model_alias(name, CHALLENGER)
    return {"name": name, "version": version} | entry


def champion(client: MlflowClient, name: str) -> dict[str, Any] | None:
    """Return what is in production, or None.

    Returns
    -------
    name, version, run_id, metrics (of its own test), package (its folder), digest (for `load_package`), created (UTC).
    """
    version = aliases_of(client, name).get(CHAMPION)
    if version is None:
        return None
    found = client.get_model_version(name, version)
    return {
        "name": name,
        "version": str(found.version),
        "run_id": found.run_id,
        "metrics": json.loads(found.tags.get("fraudlab.metrics", "{}")),
        "package": package_folder(client, found),
        "digest": found.tags.get("fraudlab.package_digest"),
        "created": _created(found),
    }


def model_version(client: MlflowClient, name: str, version: str | None = None) -> dict[str, Any]:
    """Return what is known of a version; None takes the champion.

    Returns
    -------
    name, version, aliases, run_id, created (UTC, ISO), model (its kind), digests, metrics (of its own test),
    thresholds, facts (of its package, such as when it learnt until), promotions ({at, reason, previous} each).

    Raises
    ------
    InputError : there is no such version, or no champion; its package is damaged.
    """
    aliases = aliases_of(client, name)
    wanted = version or aliases.get(CHAMPION)
    if wanted is None:
        raise InputError(f"model: '{name}' has no champion; name a version, see `fraudlab models list`")
    found = _version(client, name, wanted)
    from fraudlab.serving import load_package  # brings XGBoost, which a rollback need not wait for

    package = load_package(package_folder(client, found), digest=found.tags.get("fraudlab.package_digest"))
    facts = {key: value for key, value in package.facts.items() if key != "feature_set"}
    return {
        "name": name,
        "version": str(found.version),
        "aliases": sorted(alias for alias, each in aliases.items() if each == str(found.version)),
        "run_id": found.run_id,
        "created": _created(found).isoformat(),
        "model": found.tags.get("fraudlab.model", ""),
        "features": len(package.features),
        "digests": {
            key.removeprefix("fraudlab."): value for key, value in found.tags.items() if key.endswith("_digest")
        },
        "metrics": json.loads(found.tags.get("fraudlab.metrics", "{}")),
        "thresholds": package.thresholds.to_dict(),
        "facts": facts,
        "promotions": json.loads(found.tags.get("fraudlab.promotions", "[]")),
    }


def version_made_by(client: MlflowClient, name: str, run_id: str, digest: str) -> str | None:
    """Return the version that a run has registered of this very package, None where it has not."""
    made = client.search_model_versions(f"name = '{name}'", max_results=10_000)
    found = [each for each in made if each.run_id == run_id and each.tags.get("fraudlab.package_digest") == digest]
    return str(found[0].version) if found else None


def _version(client: MlflowClient, name: str, version: str) -> ModelVersion:
    try:
        return client.get_model_version(name, version)
    except MlflowException:
        raise InputError(f"model: must be registered; found no version {version} of '{name}'; register it") from None


def models_table(client: MlflowClient) -> pd.DataFrame:
    """List all registered versions, newest first within each model.

    Returns
    -------
    Columns name, version, aliases (text), model (its kind), created (text, UTC) and the key metrics of its own test
    (NaN where not measured).
    """
    aliases: dict[tuple[str, str], list[str]] = {}
    for registered in client.search_registered_models(max_results=1000):
        for alias, version in registered.aliases.items():
            aliases.setdefault((registered.name, str(version)), []).append(alias)
    versions = client.search_model_versions(max_results=10_000)
    rows = []
    for found in sorted(versions, key=lambda each: (each.name, -int(each.version))):
        metrics = json.loads(found.tags.get("fraudlab.metrics", "{}"))
        rows.append(
            {
                "name": found.name,
                "version": str(found.version),
                "aliases": ", ".join(sorted(aliases.get((found.name, str(found.version)), []))),
                "model": found.tags.get("fraudlab.model", ""),
                "created": f"{_created(found):%Y-%m-%d %H:%M}",
            }
            | {name: metrics.get(name, math.nan) for name in KEY_METRICS}
        )
    return pd.DataFrame(rows, columns=["name", "version", "aliases", "model", "created", *KEY_METRICS])


def aliases_of(client: MlflowClient, name: str) -> dict[str, str]:
    """Return {alias: version} of a registered model; nothing when it is not there."""
    found = registered(client, name)
    return {} if found is None else {alias: str(version) for alias, version in found.aliases.items()}


def registered(client: MlflowClient, name: str) -> RegisteredModel | None:
    try:
        return client.get_registered_model(name)
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return None
        raise


def _created(version: ModelVersion) -> pd.Timestamp:
    return pd.Timestamp(version.creation_timestamp, unit="ms", tz="UTC")


def package_folder(client: MlflowClient, version: ModelVersion) -> Path:
    """Return where a version's package lies on this machine, fetched where it is in an object store.

    A local copy is checked byte by byte each time and fetched again where it is not what was registered.

    Raises
    ------
    UnreachableError : the object store does not answer.
    """
    address, digest = f"{version.source}/artifacts/package", version.tags.get("fraudlab.package_digest")
    if (folder := tracking_store.local(address)) is not None:
        return folder
    name = digest if digest and re.fullmatch(r"[0-9a-f]{64}", digest) else sha256(address.encode()).hexdigest()
    return tracking_store.copied(client, address, f"packages/{name}", lambda folder: _is_whole(folder, digest))


def _is_whole(folder: Path, digest: str | None) -> bool:
    try:
        checked_package(folder, digest=digest)
    except InputError:
        return False
    return True


@dataclass(frozen=True)
class Version:
    """A registered version: its name, number, the run that made it, and that run's evidence where it was logged."""

    name: str
    version: str
    run: str
    folder: Path | None


def find_version(client: MlflowClient, wanted: str) -> Version:
    """Return the version that `NAME@ALIAS` or `NAME/VERSION` means, with the evidence of its run.

    Parameters
    ----------
    client : from `tracking.open_store`.
    wanted : such as `demo@champion` or `demo/3`.

    Returns
    -------
    The version; `folder` holds `evidence/`, and is None where the run logged none. Of an object store the evidence is
    fetched; who needs the version alone calls `named_version`.

    Raises
    ------
    InputError : as in `named_version`.
    """
    held = named_version(client, wanted)
    made = client.get_run(held.run_id)
    folder = tracking_store.local(made.info.artifact_uri) or _logged(client, made)
    logged = folder if (folder / "evidence" / "run.json").is_file() else None
    return Version(held.name, str(held.version), made.info.run_name, logged)


def named_version(client: MlflowClient, wanted: str) -> ModelVersion:
    """Return the version that `NAME@ALIAS` or `NAME/VERSION` means, as MLflow holds it.

    Raises
    ------
    InputError : the text has another form; no such model, alias or version is registered.
    """
    found = re.fullmatch(r"([^@/]+)(?:@([^@/]+)|/(\d+))", wanted)
    if found is None:
        raise InputError(
            f"model: must look like NAME@ALIAS or NAME/VERSION; found '{wanted}'; see fraudlab models list"
        )
    name, alias, version = found.groups()
    models = client.search_registered_models(max_results=1000)
    known = next((model for model in models if model.name == name), None)
    if known is None:
        hint = did_you_mean(name, [model.name for model in models])
        raise InputError(f"model: none is registered as '{name}'; {hint if models else 'see fraudlab models list'}")
    if alias is not None:
        version = known.aliases.get(alias)
        if version is None:
            hint = did_you_mean(alias, list(known.aliases)) if known.aliases else "name a version: NAME/VERSION"
            raise InputError(f"model: '{name}' has no version called '{alias}'; {hint}")
    try:
        return client.get_model_version(name, str(version))
    except MlflowException:
        raise InputError(f"model: '{name}' has no version {version}; see fraudlab models list") from None


def _logged(client: MlflowClient, made: Run) -> Path:
    """Return a folder that holds a copy of a run's evidence, fetched anew: it is written again where a shadow ends."""
    address, name = f"{made.info.artifact_uri}/evidence", f"runs/{made.info.run_id}/evidence"
    return tracking_store.copied(client, address, name, whole=lambda folder: False).parent
