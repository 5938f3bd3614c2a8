"""What differs between a run and the one whose model was champion before it: config, data, features, figures."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

FACTS = ("data_digest", "as_of", "config_digest", "code_digest", "lock_digest", "seed")
"""Facts of a run that are held against each other."""

METRICS = ("card_precision_at_k", "money_caught_share", "average_precision", "auc_roc")
NONE = {"facts": [], "config": [], "features_added": [], "features_removed": [], "metrics": []}


def since(before: Path, after: Path, *, version: str) -> dict[str, Any]:
    """Compare two evidence folders, ready for JSON.

    Parameters
    ----------
    before : evidence of the run that made the earlier version; it may be gone, or written over by `after`.
    after : evidence of this run.
    version : the earlier version's number.

    Returns
    -------
    dict: version, run_id (of the earlier run; None where its evidence is gone), note (why nothing is compared, else
    ""), facts and config (what, before, after; differing ones only), features_added, features_removed, metrics (metric,
    before, after; of the candidates, each on the test part of its own run). Values are those of the files.

    >>> since(Path("gone"), Path("."), version="3")["note"]
    "the evidence of version 3's run is no longer here"
    """
    told = {"version": version, "run_id": None, "note": "", **NONE}
    if before.resolve() == after.resolve() or not (before / "run.json").is_file():
        return told | {"note": f"the evidence of version {version}'s run is no longer here"}
    old, new = _document(before, "run"), _document(after, "run")
    added, removed = _features(before, after)
    return told | {
        "run_id": old.get("run_id"),
        "facts": _differing({name: old.get(name) for name in FACTS}, {name: new.get(name) for name in FACTS}),
        "config": _differing(dict(_flat(_config(before))), dict(_flat(_config(after)))),
        "features_added": added,
        "features_removed": removed,
        "metrics": _metrics(before, after),
    }


def first() -> dict[str, Any]:
    """Return what is said of a model without a predecessor."""
    return {"version": None, "run_id": None, "note": "there was no champion before", **NONE}


def _document(folder: Path, name: str) -> dict[str, Any]:
    return json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))


def _config(folder: Path) -> dict[str, Any]:
    path = folder / "config.toml"
    return tomllib.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Lay tables out as `table.key` with values as JSON, so that equal ones read alike."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", json.dumps(value, default=str, ensure_ascii=False)


def _differing(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return what differs, in the order of the new and then of the old; what one lacks is None.

    >>> _differing({"a": "1", "b": "2"}, {"b": "3", "c": "4"})
    [{'what': 'b', 'before': '2', 'after': '3'}, {'what': 'c', 'before': None, 'after': '4'}, {'what': 'a', 'before':
    '1', 'after': None}]
    """
    names = dict.fromkeys([*new, *old])
    pairs = ((name, old.get(name), new.get(name)) for name in names)
    return [{"what": name, "before": one, "after": other} for name, one, other in pairs if one != other]


def _features(before: Path, after: Path) -> tuple[list[str], list[str]]:
    old, new = (
        pd.read_csv(folder / "features.csv")["column"].tolist() if (folder / "features.csv").is_file() else []
        for folder in (before, after)
    )
    return [name for name in new if name not in old], [name for name in old if name not in new]


def _metrics(before: Path, after: Path) -> list[dict[str, Any]]:
    old, new = (_figures(folder) for folder in (before, after))
    return [{"metric": name, "before": old.get(name), "after": new[name]} for name in METRICS if name in new]


def _figures(folder: Path) -> dict[str, float]:
    """Return the candidate's headline figures over everybody."""
    if not ((folder / "metrics.csv").is_file() and (folder / "models.json").is_file()):
        return {}
    models = json.loads((folder / "models.json").read_text(encoding="utf-8"))
    candidate = next((model["name"] for model in models if model["role"] == "candidate"), None)
    table = pd.read_csv(folder / "metrics.csv")
    mine = table[(table["model"] == candidate) & (table["group"] == "all")].dropna(subset="value")
    return {row.metric: float(row.value) for row in mine.itertuples() if row.metric in METRICS}
