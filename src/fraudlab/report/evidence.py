"""Read a run's evidence folder and refuse one that a report cannot be made from.

The folder is written by the notebooks: facts as JSON, tables as CSV, the config as used. Files marked optional here may
be absent; the section that needs one then says so. Anything else missing, damaged or lacking a column is refused with
one sentence per problem.
"""

from __future__ import annotations

import hashlib
import json
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from fraudlab.decision_record import DECISIONS
from fraudlab.privacy.disclosure import joined_bins
from fraudlab.report.language import capital, foreign, language, term
from fraudlab.schema import InputError, did_you_mean, refuse

# File -> (required, the keys or columns it must have).
DOCUMENTS: dict[str, tuple[bool, str]] = {
    "run": (True, "name run_id created config_digest versions command"),
    "data": (
        True,
        "dataset rows customers first last frauds labelled unlabelled digest columns dropped purpose purpose_columns",
    ),
    "fold": (True, "explain parts excluded_customers excluded_transactions"),
    "models": (True, "name label role facts"),
    "decision": (True, "decision reasons gate thresholds alerts_per_day"),
    "alerts": (False, "case day hour amount risk tier action outcome reasons base margin contributions"),
    "checks": (False, "code title severity result sentence"),
    "monitoring": (False, "facts lights tables"),
    "rulebook": (False, "name version digest told rules"),
    "changes": (False, "version run_id facts config features_added features_removed metrics"),
}
TABLES: dict[str, tuple[bool, str]] = {
    "features": (True, "column group meaning"),
    "metrics": (True, "model metric group value low high n note"),
    "daily_volume": (False, "day transactions frauds labelled"),
    "label_maturity": (False, "days_since_event share_known"),
    "label_sources": (False, "metric group value n note"),
    "blind_side": (False, "metric group value low high n note"),
    "daily": (False, "model day precision perfect_precision"),
    "roc": (False, "model fpr tpr"),
    "pr": (False, "model recall precision"),
    "calibration": (False, "model stage n mean_predicted observed low high"),
    "calibration_error": (False, "metric model stage value low high n note"),
    "simulation": (False, "model by budget threshold chosen metric value low high n note"),
    "tiers": (False, "tier action transactions frauds fraud_rate amount fraud_amount"),
    "policy": (False, "action decided_by transactions frauds fraud_rate amount fraud_amount cases_per_day"),
    "policy_reasons": (False, "action proposed why transactions"),
    "policy_costs": (False, "action cost friction stops price"),
    "policy_outcomes": (False, "way against metric value low high n note"),
    "customer_rating": (False, "week rating customers share"),
    "rating_after": (False, "rating customers transactions frauds fraud_rate low high"),
    "rating_moves": (False, "before after customers share"),
    "rating_effect": (False, "way against metric value low high n note"),
    "importance": (False, "feature mean_abs share meaning group"),
    "dependence": (False, "feature value contribution"),
    "interactions": (False, "first second mean_abs share n note"),
    "pair_dependence": (False, "feature partner level value contribution"),
    "reason_stability": (False, "metric group threshold value low high n note"),
    "robustness": (False, "scenario features metric value low high change change_low change_high n note"),
    "leakage": (False, "column verdict moved meaning"),
    "time_consistency": (
        False,
        "feature verdict auc_first low_first high_first auc_last low_last high_last "
        "n_first frauds_first n_last frauds_last",
    ),
    "stability": (False, "feature period psi reading"),
    "membership": (False, "group members others auc note"),
    "check_FL008": (False, "metric part value low high n note"),
    "check_FL010": (False, "feature psi reading note"),
    "check_FL020": (False, "feature importance planted rank reading"),
    "data_quality": (False, "column missing distinct low median high note"),
    "anonymity": (False, "unit columns units k_anonymity share_alone share_below distinct_l t_closeness"),
    "segments": (False, "by group metric value low high n frauds note"),
    "rules_backtest": (False, "rule status action view metric value low high n note"),
    "rules_overlap": (False, "first second cases both share"),
    "test_looks": (False, "when run config_digest model whole auc_roc average_precision card_precision_at_k"),
    "threshold_outcomes": (False, "rule used period metric value low high note"),
    "comparison": (False, "challenger champion view by group metric model value low high share_worse n note"),
    "shadow": (False, "metric group value low high n note"),
    "shadow_comparison": (False, "view metric model value low high n note"),
    "champion_comparison": (False, "challenger champion view by group metric model value low high share_worse n note"),
}


@dataclass(frozen=True)
class Evidence:
    """Everything a report says, read and checked; an optional table or list is None when its file is absent."""

    run: dict[str, Any]
    data: dict[str, Any]
    fold: dict[str, Any]
    models: list[dict[str, Any]]
    decision: dict[str, Any]
    config: dict[str, Any]
    config_text: str
    digest: str
    features: pd.DataFrame
    metrics: pd.DataFrame
    alerts: list[dict[str, Any]] | None = None
    daily_volume: pd.DataFrame | None = None
    label_maturity: pd.DataFrame | None = None
    label_sources: pd.DataFrame | None = None
    blind_side: pd.DataFrame | None = None
    daily: pd.DataFrame | None = None
    roc: pd.DataFrame | None = None
    pr: pd.DataFrame | None = None
    calibration: pd.DataFrame | None = None
    calibration_error: pd.DataFrame | None = None
    simulation: pd.DataFrame | None = None
    tiers: pd.DataFrame | None = None
    policy: pd.DataFrame | None = None
    policy_reasons: pd.DataFrame | None = None
    policy_costs: pd.DataFrame | None = None
    policy_outcomes: pd.DataFrame | None = None
    customer_rating: pd.DataFrame | None = None
    rating_after: pd.DataFrame | None = None
    rating_moves: pd.DataFrame | None = None
    rating_effect: pd.DataFrame | None = None
    importance: pd.DataFrame | None = None
    dependence: pd.DataFrame | None = None
    interactions: pd.DataFrame | None = None
    pair_dependence: pd.DataFrame | None = None
    reason_stability: pd.DataFrame | None = None
    robustness: pd.DataFrame | None = None
    checks: list[dict[str, Any]] | None = None
    changes: dict[str, Any] | None = None
    monitoring: dict[str, Any] | None = None
    leakage: pd.DataFrame | None = None
    time_consistency: pd.DataFrame | None = None
    stability: pd.DataFrame | None = None
    membership: pd.DataFrame | None = None
    check_FL008: pd.DataFrame | None = None
    check_FL010: pd.DataFrame | None = None
    check_FL020: pd.DataFrame | None = None
    data_quality: pd.DataFrame | None = None
    anonymity: pd.DataFrame | None = None
    segments: pd.DataFrame | None = None
    rulebook: dict[str, Any] | None = None
    rules_backtest: pd.DataFrame | None = None
    rules_overlap: pd.DataFrame | None = None
    test_looks: pd.DataFrame | None = None
    threshold_outcomes: pd.DataFrame | None = None
    comparison: pd.DataFrame | None = None
    champion_comparison: pd.DataFrame | None = None
    shadow: pd.DataFrame | None = None
    shadow_comparison: pd.DataFrame | None = None

    @property
    def labels(self) -> dict[str, str]:
        """Model name -> what people call it, the candidate first."""
        ordered = sorted(self.models, key=lambda model: model["role"] != "candidate")
        return {model["name"]: model["label"][:1].upper() + model["label"][1:] for model in ordered}

    def called(self, model: str) -> str:
        """Return what people call a model, in the report's language."""
        label = next((each["label"] for each in self.models if each["name"] == model), model)
        return capital(term(label))

    @property
    def words(self) -> dict[str, str]:
        """Feature -> its short name; its meaning where the evidence has no short names."""
        column = "label" if "label" in self.features else "meaning"
        return dict(zip(self.features["column"], self.features[column].fillna("")))

    def described(self, what: str) -> dict[str, str]:
        """Return every feature's label, group or meaning in the report's language, "" where it has none."""
        english = self.features[what] if what in self.features else pd.Series("", index=self.features.index)
        english = english.fillna("").astype("str")
        say_it = term if what == "group" else foreign
        told = [say_it(text) for text in english]
        if (wanted := f"{what}_{language()}") in self.features:
            told = [text if isinstance(text, str) else other for text, other in zip(self.features[wanted], told)]
        return dict(zip(self.features["column"], told))

    @property
    def kinds(self) -> dict[str, str]:
        """Feature -> the kind of its values, which gives them a unit; empty where the evidence does not tell."""
        return dict(zip(self.features["column"], self.features["kind"])) if "kind" in self.features else {}

    @property
    def candidate(self) -> str:
        """The name of the model the report is about."""
        return next(iter(self.labels))

    @property
    def overall(self) -> pd.DataFrame:
        """The metric rows over all test payments, without those of single groups."""
        group = self.metrics["group"]
        return self.metrics[group.isna() | group.isin(["", "all"])]

    def metric(self, model: str, name: str) -> pd.Series | None:
        """Return one row of the overall metric table, or None when it is absent or not applicable."""
        rows = self.overall[(self.overall["model"] == model) & (self.overall["metric"] == name)]
        return None if rows.empty or pd.isna(rows["value"].iloc[0]) else rows.iloc[0]

    def rivals(self, name: str) -> list[pd.Series]:
        """Return the overall rows of a metric of all models but the candidate, the best first."""
        found = [
            row for model in self.labels if model != self.candidate and (row := self.metric(model, name)) is not None
        ]
        return sorted(found, key=lambda row: -row["value"])

    def part(self, name: str) -> dict[str, Any]:
        """Return one part of the fold, empty when it has none of that name."""
        return next((part for part in self.fold["parts"] if part["part"] == name), {})

    @property
    def stated_risk(self) -> pd.DataFrame | None:
        """The candidate's calibration table of the last stage, small groups joined; None when absent."""
        if self.calibration is None:
            return None
        mine = joined_bins(self.calibration[self.calibration["model"] == self.candidate])
        return None if mine.empty else mine[mine["stage"] == mine["stage"].iloc[-1]]

    def setting(self, table: str, key: str) -> Any:
        """Return a value of the config as used, or None where it is absent."""
        return self.config.get(table, {}).get(key)


def read_evidence(folder: Path) -> Evidence:
    """Read and check an evidence folder.

    Parameters
    ----------
    folder : `runs/<id>/evidence`.

    Raises
    ------
    InputError : the folder or a required file is missing; a file is damaged, lacks a key or column, or names no
        candidate, an unknown decision or a model without metrics.
    """
    if not folder.is_dir():
        raise InputError(f"report: no evidence folder at {folder}; run the notebooks first (fraudlab retrain)")
    problems: list[str] = []
    found = _read_files(folder, problems)
    config_text = _read_text(folder / "config.toml", True, problems) or ""
    config: dict[str, Any] = {}
    try:
        config = tomllib.loads(config_text)
    except tomllib.TOMLDecodeError as error:
        problems.append(f"report: config.toml must be TOML; found: {error}; write the evidence again")
    refuse(problems)
    evidence = Evidence(**found, config=config, config_text=config_text, digest=evidence_digest(folder))
    refuse(_contradictions(evidence))
    return evidence


def evidence_so_far(folder: Path) -> Evidence:
    """Read the evidence of a run that is going on, in which nothing is decided yet.

    Raises
    ------
    InputError : what a report needs beside the decision is missing or damaged.
    """
    problems: list[str] = []
    config = tomllib.loads(_read_text(folder / "config.toml", True, problems) or "")
    thresholds = _read_json(folder / "thresholds.json", True, [], problems)
    found = _read_files(folder, problems, to_come="decision")
    refuse(problems)
    found["decision"] = {
        "decision": "kept champion",
        "reasons": [],
        "gate": [],
        "thresholds": thresholds,
        "alerts_per_day": config.get("decision", {}).get("alerts_per_day", 0),
    }
    return Evidence(**found, config=config, config_text="", digest="")


def _read_files(folder: Path, problems: list[str], to_come: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, (required, keys) in DOCUMENTS.items():
        found[name] = _read_json(folder / f"{name}.json", required and name != to_come, keys.split(), problems)
    for name, (required, columns) in TABLES.items():
        found[name] = _read_csv(folder / f"{name}.csv", required, columns.split(), problems)
    return found


def evidence_digest(folder: Path) -> str:
    """Return the sha-256 over the names and contents of the evidence files, in the order of their names."""
    digest = hashlib.sha256()
    names = {f"{name}.json" for name in DOCUMENTS} | {f"{name}.csv" for name in TABLES} | {"config.toml"}
    for name in sorted(names):
        if (path := folder / name).is_file():
            digest.update(f"{name}\0{hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()


def _read_text(path: Path, required: bool, problems: list[str]) -> str | None:
    if not path.is_file():
        if required:
            problems.append(f"report: {path.name} is missing in the evidence folder; run the notebook that writes it")
        return None
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        problems.append(f"report: {path.name} must be UTF-8 text; it is damaged; write the evidence again")
        return None


def _read_json(path: Path, required: bool, keys: list[str], problems: list[str]) -> Any:
    text = _read_text(path, required, problems)
    if text is None:
        return None
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        problems.append(f"report: {path.name} must be JSON; found an error in line {error.lineno}; write it again")
        return None
    expected = list if path.stem in ("models", "alerts", "checks") else dict
    records = value if expected is list else [value]
    if not isinstance(value, expected) or not all(isinstance(record, dict) for record in records):
        kind = "a list of objects" if expected is list else "one object"
        problems.append(f"report: {path.name} must hold {kind}; found {type(value).__name__}; write it again")
        return None
    if missing := [key for key in keys if any(key not in record for record in records)]:
        problems.append(f"report: {path.name} must have {', '.join(missing)}; found none; write the evidence again")
    return value


def _read_csv(path: Path, required: bool, columns: list[str], problems: list[str]) -> pd.DataFrame | None:
    if _read_text(path, required, problems) is None:
        return None
    try:
        table = pd.read_csv(path)
    except (pd.errors.EmptyDataError, pd.errors.ParserError):
        problems.append(f"report: {path.name} must be a CSV table with a header; it is not; write the evidence again")
        return None
    for name in columns:
        if name not in table.columns:
            problems.append(f"report: {path.name} lacks column '{name}'; {did_you_mean(name, table.columns)}")
    return table


def _contradictions(evidence: Evidence) -> list[str]:
    problems = []
    candidates = [model["name"] for model in evidence.models if model["role"] == "candidate"]
    if len(candidates) != 1:
        problems.append(f"report: models.json must name one candidate; found {len(candidates)}; set its role")
    if evidence.decision["decision"] not in DECISIONS:
        hint = did_you_mean(evidence.decision["decision"], DECISIONS)
        problems.append(f"report: decision.json: unknown decision '{evidence.decision['decision']}'; {hint}")
    for name in ("value", "low", "high"):
        if not pd.api.types.is_numeric_dtype(evidence.metrics[name]):
            problems.append(f"report: metrics.csv: column '{name}' must hold numbers; found text; write it again")
    measured = set(evidence.overall["model"])
    problems += [
        f"report: metrics.csv must measure every model of models.json; found no rows of '{name}'; evaluate it"
        for name in evidence.labels
        if name not in measured
    ]
    return problems
