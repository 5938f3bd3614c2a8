"""Watch the champion: load what it met since it learnt, table it, judge it, keep the page and the lights.

What is watched comes from the vault, scored by the registered package, as the queue of cases does; nothing is fitted.
Tables leave protected (`privacy.disclosure`); the page and its JSON hold no identifier.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fraudlab import metrics, recipe, serving, watching
from fraudlab.casework.queue import SCORING, needed_columns
from fraudlab.config import RunConfig, Workspace
from fraudlab.datasets import load_transactions
from fraudlab.datasets.load import allowed_columns
from fraudlab.privacy.disclosure import protected
from fraudlab.privacy.keys import open_keys
from fraudlab.privacy.vault import Vault
from fraudlab.report.monitoring import found_words, monitoring_page, step_words, topic_words
from fraudlab.runs import write_whole
from fraudlab.schema import BY_NAME, InputError, utc
from fraudlab.tracking import registered_package

NAME = "monitoring"


@dataclass(frozen=True, eq=False)
class Watched:
    """What monitoring found: facts about what was watched, lights, and protected tables by name."""

    facts: dict[str, Any]
    lights: list[dict[str, Any]]
    tables: dict[str, pd.DataFrame] = field(repr=False)

    @property
    def worst(self) -> str:
        """The worst light: red, amber, green, or grey where nothing could be judged."""
        found = {light["light"] for light in self.lights}
        return next((light for light in ("red", "amber", "green") if light in found), "grey")


def watch(
    config: RunConfig,
    workspace: Workspace,
    *,
    model: str = "",
    as_of: pd.Timestamp | None = None,
    refit: bool = False,
    progress: Callable[[str], None] = lambda text: None,
) -> Watched:
    """Hold what a registered model met since it learnt against what it learnt from.

    Parameters
    ----------
    config : names the data set, the model and its purpose.
    model : NAME@ALIAS, NAME/VERSION or NAME, which is its champion; default: the config's own.
    as_of : what was known then; default: the config's, else when the file was ingested, else all.
    refit : also fit anew on what is known and compare both on the newest mature payments, where the model has not
        learnt from these; takes as long as a training.
    progress : is told what is being done.

    Returns
    -------
    Watched. Its tables are protected.

    Raises
    ------
    InputError : no such model; it does not say until when it learnt; no payment came after that; a column that it
        reads may not be read for the purpose.
    """
    name, version, package = registered_package(workspace, model or config.name)
    until_text = package.facts.get("learnt_until")
    if not until_text:
        raise InputError(
            f"monitoring: the package of {name} {version} does not say until when it learnt; register the model again"
        )
    progress("loading the payments")
    met = _met(config, workspace, package, utc(until_text, "learnt_until"), as_of or config.as_of_time, progress)
    progress("comparing")
    tables = watching.tables_of(met)
    lights = watching.lights_of(met, tables, config.gate.max_age_days)
    if refit:
        progress("fitting anew on what is known")
        tables["monitor_retraining"] = retraining(config, workspace, package)
    facts = {
        "model": name,
        "version": version,
        "dataset": config.dataset.name,
        "learnt_until": met.learnt_until.isoformat(),
        "reference_start": met.reference_start.isoformat(),
        "until": met.until.isoformat(),
        "payments": len(met.at_work),
        "reference_payments": len(met.reference),
        "review_threshold": float(package.thresholds.review),
        "package_digest": package.digest,
        "scored_lately": watching.scored_lately(met),
        "drift_limits": {group: list(pair) for group, pair in watching.drift.LIMITS.items()},
    }
    return Watched(facts, lights, {key: protected(key, table) for key, table in tables.items()})


def _met(
    config: RunConfig,
    workspace: Workspace,
    package: serving.Package,
    learnt_until: pd.Timestamp,
    as_of: pd.Timestamp | None,
    progress: Callable[[str], None],
) -> watching.Met:
    """Load, compute and score; every payment since the beginning, because windows and charts look back."""
    manifest = Vault(workspace.vault, open_keys(workspace)).manifest(config.dataset.name)
    purpose = SCORING if SCORING in manifest["purposes"] else config.purpose
    allowed = allowed_columns(manifest, purpose)
    needed = needed_columns(package)
    if lacking := [column for column in needed if column not in allowed]:
        raise InputError(
            f"data set {config.dataset.name}: its contract must allow the purpose '{purpose}' every column that the "
            f"model reads; it does not allow {', '.join(lacking)}; add the purpose to these columns and ingest again"
        )
    # Beside what the model reads: the canonical columns that the purpose may see, so that a broken feed is seen there.
    also = [name for name in allowed if name in BY_NAME and name not in needed and name not in ("fraud_scenario",)]
    payments = load_transactions(
        config.dataset.name, purpose=purpose, as_of=as_of, columns=[*needed, *also], workspace=workspace
    ).reset_index(drop=True)
    if payments.empty:
        raise InputError(f"data set {config.dataset.name}: no payment may be read for '{purpose}'; see its retention")
    last = payments["event_time"].iloc[-1]
    moment = as_of if as_of is not None else last + pd.Timedelta(microseconds=1)
    # The last day counts where all of it is there: known by the moment asked for, or payments close to midnight.
    until = min(moment.floor("D"), last.ceil("D"))
    progress(f"computing {len(package.features)} features")
    features = package.features_of(payments)
    progress(f"scoring {len(payments):,} payments")
    score = package.model.score(features)
    calibrated = package.model.calibrator is not None
    return watching.Met(
        payments=payments,
        features=features[list(package.features)],
        score=score,
        risk=package.model.risk_of(score) if calibrated else np.full(len(score), np.nan),
        model=package.model,
        thresholds=package.thresholds,
        words=package.describe,
        from_labels=package.feature_set.from_labels,
        reference_start=max(
            learnt_until - pd.Timedelta(days=config.split.train_days), payments["event_time"].iloc[0].floor("D")
        ),
        learnt_until=learnt_until,
        until=until,
        as_of=moment,
    )


def retraining(config: RunConfig, workspace: Workspace, package: serving.Package) -> pd.DataFrame:
    """Compare a fresh fit on what is known with the model at work, on the newest mature payments.

    Returns
    -------
    DataFrame: metric, fresh, at_work, difference, low, high (95 %, block bootstrap over customers), n, note. One row
    with the note "not applicable: ..." where the model at work has learnt from these payments itself.
    """
    prepared = recipe.prepare(config, workspace)
    named = ["metric", "fresh", "at_work", "difference", "low", "high", "n", "note"]
    learnt = utc(package.facts["learnt_until"], "learnt_until")
    if learnt > prepared.fold.test_start:
        note = (
            f"not applicable: the model at work learnt until {learnt:%Y-%m-%d}, and the newest mature payments begin "
            f"on {prepared.fold.test_start:%Y-%m-%d}; ask again in "
            f"{int(np.ceil((learnt - prepared.fold.test_start) / pd.Timedelta(days=1)))} days"
        )
        return pd.DataFrame([dict.fromkeys(named, np.nan) | {"metric": "", "note": note}])
    fitted = recipe.fit(config.model_copy(update={"tuning": config.tuning.model_copy(update={"trials": 0})}), prepared)
    part = prepared.rows("test")
    fresh = fitted.candidate.score(part["features"])
    at_work = package.model.score(package.features_of(prepared.transactions).iloc[prepared.fold.test])
    table = metrics.compare(
        part["y"],
        fresh,
        at_work,
        event_time=part["transactions"]["event_time"],
        entity=part["transactions"][config.split.entity],
        amount=part["transactions"]["amount"].to_numpy(),
        k=config.decision.alerts_per_day,
        names=("fresh", "at_work"),
        n_boot=300,
        seed=config.seed,
    )
    rows = []
    for metric, found in table[table["view"] == "overall"].groupby("metric", sort=False):
        values = found.set_index("model")
        off = values.loc["difference"]
        rows.append(
            {
                "metric": metric,
                "fresh": values.loc["fresh", "value"],
                "at_work": values.loc["at_work", "value"],
                **{key: off[name] for key, name in (("difference", "value"), ("low", "low"), ("high", "high"))},
                "n": len(part["y"]),
                "note": str(off["note"]),
            }
        )
    return pd.DataFrame(rows, columns=named)


def report(
    watched: Watched, workspace: Workspace, languages: tuple[str, ...] | list[str], *, out: Path | None = None
) -> list[Path]:
    """Write the page in each language and the lights with their tables as JSON; each file appears whole.

    Parameters
    ----------
    languages : of the page, "en" and "zh".
    out : folder; default: the workspace's reports.

    Returns
    -------
    The files: MODEL.monitoring.html, MODEL.monitoring.zh.html (as asked for) and MODEL.monitoring.json.
    """
    folder = out or workspace.reports
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    model, written = watched.facts["model"], []
    for lang in languages:
        path = folder / f"{model}.{NAME}{'' if lang == 'en' else f'.{lang}'}.html"
        write_whole(path, monitoring_page(watched.facts, watched.lights, watched.tables, lang))
        written.append(path)
    path = folder / f"{model}.{NAME}.json"
    write_whole(path, json.dumps(as_json(watched), indent=1, ensure_ascii=False, allow_nan=False) + "\n")
    return [*written, path]


def newest(workspace: Workspace, model: str, version: str) -> dict[str, Any] | None:
    """Return what the newest report of a version says, as `as_json` has it; None where there is none to read."""
    path = workspace.reports / f"{model}.{NAME}.json"
    try:
        facts = path.stat()
        found = _read(path, facts.st_mtime_ns, facts.st_size)
        return found if str(found["facts"]["version"]) == str(version) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


@functools.lru_cache(maxsize=1)
def _read(path: Path, changed: int, size: int) -> dict[str, Any]:
    found = json.loads(path.read_text(encoding="utf-8"))
    return {name: found[name] for name in ("facts", "lights")}


def as_json(watched: Watched) -> dict[str, Any]:
    """Return what monitoring found as plain values: facts, lights, tables (lists of rows, null for missing)."""
    tables = {
        name: json.loads(table.to_json(orient="records", date_format="iso", double_precision=6))
        for name, table in watched.tables.items()
    }
    return {"facts": watched.facts, "lights": [_plain(light) for light in watched.lights], "tables": tables}


def _plain(light: Mapping[str, Any]) -> dict[str, Any]:
    return {key: None if isinstance(value, float) and np.isnan(value) else value for key, value in light.items()}


def lights_table(watched: Watched) -> pd.DataFrame:
    """Lay the lights out for reading: topic, light, found, next step, in words."""
    rows = [
        (topic_words(light["topic"]), light["light"], found_words(light), step_words(light)) for light in watched.lights
    ]
    return pd.DataFrame(rows, columns=["topic", "light", "found", "next step"])


def column_names(watched: Watched) -> dict[str, str]:
    """Return what people call each column that was compared."""
    table = watched.tables["monitor_columns"]
    return dict(zip(table["feature"], table["label"]))
