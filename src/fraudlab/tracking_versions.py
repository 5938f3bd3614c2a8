"""Find a registered version by its alias or number, and the evidence it was registered with."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from fraudlab.schema import InputError, did_you_mean


@dataclass(frozen=True)
class Version:
    """A registered version: its name, number, the run that made it, and that run's evidence where it was logged."""

    name: str
    version: str
    run: str
    folder: Path | None


def find_version(client: MlflowClient, wanted: str) -> Version:
    """Return the version that `NAME@ALIAS` or `NAME/VERSION` means.

    Parameters
    ----------
    client : from `tracking.open_store`.
    wanted : such as `demo@champion` or `demo/3`.

    Returns
    -------
    The version; `folder` holds `evidence/`, and is None where the run logged none.

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
        held = client.get_model_version(name, str(version))
    except MlflowException:
        raise InputError(f"model: '{name}' has no version {version}; see fraudlab models list") from None
    made = client.get_run(held.run_id)
    folder = Path(str(made.info.artifact_uri).removeprefix("file://"))
    logged = folder if (folder / "evidence" / "run.json").is_file() else None
    return Version(name, str(held.version), made.info.run_name, logged)
