"""A run is a file: `configs/*.toml` becomes one frozen, validated `RunConfig`.

Relative paths in a config are relative to the project's root, the folder above `configs/` (found by its
`pyproject.toml`, else the config's own folder). An unknown key is refused with the nearest valid one.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import os
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from pydantic import BaseModel, Field, ValidationError, field_validator, model_validator

from fraudlab.decision_config import DecisionConfig
from fraudlab.decision_config import Frozen as _Frozen
from fraudlab.gate_config import GateConfig
from fraudlab.notify_config import NotifyConfig
from fraudlab.schema import BY_NAME, InputError, did_you_mean, utc


class SimulateConfig(_Frozen):
    """The embedded demo data: how large, how long, from when."""

    customers: int = Field(2500, ge=50, description="customers at the end of the period")
    merchants: int = Field(800, ge=20, description="merchants, online and at the counter")
    days: int = Field(180, ge=30, description="days of transactions")
    start: dt.date = Field(dt.date(2026, 1, 1), description="first day")
    label_noise: float = Field(0.002, ge=0, lt=0.1, description="share of frauds nobody reports")
    onset: dict[str, int] | None = Field(
        None, description="kind of fraud (docs/typologies.md) -> the first day it occurs, from 0; others occur always"
    )


class DatasetConfig(_Frozen):
    """Where the raw table comes from and under which contract it enters."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]*$", description="name of the data set in the vault")
    source: Literal["simulate", "file"] = "file"
    path: Path | None = Field(None, description="CSV or Parquet file (source = file)")
    append: tuple[Path, ...] = Field((), description="further files with the same columns, whose rows follow")
    attach: Path | None = Field(None, description="a file whose columns are put beside each row, found by `key`")
    key: str | None = Field(None, description="the column that path and attach share; unique in attach")
    contract: Path = Field(description="the column contract, configs/contracts/*.toml")
    simulate: SimulateConfig = SimulateConfig()
    fresh_days: float | None = Field(None, gt=0, description="preflight refuses data whose newest payment is older")

    @model_validator(mode="after")
    def _path_for_file(self) -> DatasetConfig:
        if self.source == "file" and self.path is None:
            raise ValueError("dataset.path must name a CSV or Parquet file when dataset.source is 'file'")
        if (self.attach is None) != (self.key is None):
            raise ValueError(
                "dataset.attach and dataset.key belong together: a file, and the column to find its rows by"
            )
        return self

    @property
    def files(self) -> tuple[Path, ...]:
        """Every file the raw table is made from, in order; none where it is simulated."""
        if self.source != "file" or self.path is None:
            return ()
        return (self.path, *self.append, *((self.attach,) if self.attach else ()))


class FeaturesConfig(_Frozen):
    """Which named feature set of `fraudlab.features.sets` the model sees."""

    set: str = Field("card-v1", description="a named set: `fraudlab features list`")
    missing: Literal["refuse", "leave_out"] = Field(
        "refuse", description="what becomes of features whose columns the data lack"
    )
    labels: bool = Field(
        True, description="whether features may count known frauds; false where nobody knows when labels came in"
    )
    columns: Literal["all"] | tuple[str, ...] = Field(
        (), description="the data's own numeric columns that enter as they are; all: every one that is not canonical"
    )
    confirmed: tuple[str, ...] = Field(
        (), description="features that tell frauds almost alone and were looked into: known before the payment"
    )
    categories: tuple[str, ...] = Field(
        (), description="columns of names or codes that enter as categories, known from the training rows only"
    )
    encoding: Literal["native", "target", "frequency"] = Field(
        "native", description="of categories: split as sets (trees), share of frauds, or share of payments"
    )

    @model_validator(mode="after")
    def _categories_may_be_learnt(self) -> FeaturesConfig:
        for name in self.categories:
            column = BY_NAME.get(name)
            if name in ("fraud_scenario", "is_fraud", "label_time"):
                raise ValueError(f"'{name}' is known only after the payment; take it out of features.categories")
            if column is not None and column.kind == "id" and name != "merchant_id":
                raise ValueError(
                    f"'{name}' points at a person or a single payment, which a model must not remember; use features "
                    "such as is_new, count or risk by it"
                )
            if column is not None and column.kind in ("number", "time"):
                raise ValueError(f"'{name}' is a {column.kind}, no category; use it in the feature set")
        if twice := sorted({name for name in self.categories if self.categories.count(name) > 1}):
            raise ValueError(f"features.categories names '{twice[0]}' twice; remove one")
        return self


class SplitConfig(_Frozen):
    """Train | delay | validation | delay | test, in days; the delay is the time labels need to be known."""

    train_days: int = Field(60, ge=1)
    delay_days: int = Field(14, ge=0)
    valid_days: int = Field(21, ge=1)
    test_days: int = Field(21, ge=1)
    test_start: dt.date | None = Field(None, description="default: the latest period whose labels are mature")
    test_share: float | None = Field(
        None, gt=0, lt=1, description="instead of days: the latest share of the transactions is the test"
    )
    valid_share: float = Field(
        0.1, gt=0, lt=1, description="with test_share: the share before it that the model is tuned and calibrated on"
    )
    refit_on_latest: bool = Field(True, description="fit again on the latest train_days of matured labels")
    exclude_known_compromised: bool = Field(
        True, description="leave out customers already known as victims when a test day begins"
    )
    entity: Literal["customer_id", "card_id"] = Field(
        "customer_id", description="whose cases are counted and whose known victims are left out"
    )
    min_positives: int = Field(20, ge=1, description="fewer frauds in the training window than this are refused")

    @model_validator(mode="after")
    def _shares_fit(self) -> SplitConfig:
        if self.test_share is not None:
            if self.test_share + self.valid_share >= 1:
                raise ValueError("split.test_share and split.valid_share must leave a share to learn from; lower one")
            if self.test_start is not None:
                raise ValueError("split.test_share and split.test_start exclude each other; keep one")
        return self


class ModelConfig(_Frozen):
    """The model and every setting of it that changes results."""

    kind: Literal["xgboost", "logistic", "random_forest", "balanced_bagging", "lightgbm", "catboost", "wrapped"] = (
        "xgboost"
    )
    n_estimators: int = Field(300, ge=1, le=10_000, description="trees or rounds; of forests 100 unless stated")
    early_stopping_rounds: int = Field(30, ge=0, description="0: all trees are kept")
    learning_rate: float = Field(0.1, gt=0, le=1)
    max_depth: int = Field(4, ge=1, le=64, description="of forests 20 unless stated")
    min_child_weight: float = Field(1.0, ge=0)
    subsample: float = Field(1.0, gt=0, le=1)
    colsample_bytree: float = Field(1.0, gt=0, le=1)
    reg_lambda: float = Field(1.0, ge=0)
    tree_method: Literal["hist", "exact"] = "hist"
    max_bin: int = Field(4096, ge=2, le=65536, description="hist only; the library's 256 costs precision here")
    base_score: float = Field(0.5, gt=0, lt=1, description="pinned: the estimated default changes results")
    members: int = Field(1, ge=1, le=50, description="fits with other seeds whose log-odds are averaged")
    monotone: dict[str, Literal[-1, 1]] = Field(
        default_factory=dict, description="feature -> 1 (never lowers the risk when it rises) or -1"
    )
    device: Literal["cpu", "cuda"] = Field("cpu", description="cuda needs a GPU and is refused without one")
    calibration: Literal["isotonic", "sigmoid", "beta"] = "isotonic"
    classifier: str = Field(
        "",
        pattern=r"^(sklearn(\.[a-z_]+)+\.[A-Z][A-Za-z]+)?$",
        description="of kind wrapped: a classifier of scikit-learn, such as sklearn.ensemble.ExtraTreesClassifier",
    )
    params: dict[str, bool | int | float | str] = Field(
        default_factory=dict, description="of kind wrapped: what the classifier is made with"
    )

    @model_validator(mode="after")
    def _a_classifier_is_wrapped(self) -> ModelConfig:
        if (self.kind == "wrapped") != bool(self.classifier):
            raise ValueError("model.classifier belongs to kind = 'wrapped' and that kind to it; state both or neither")
        if self.params and not self.classifier:
            raise ValueError("model.params belong to kind = 'wrapped'; remove them or state model.classifier")
        return self


class SamplingConfig(_Frozen):
    """How much each training row counts, and which labels are believed."""

    fraud_weight: float = Field(1.0, gt=0, description="weight of a fraud beside a genuine payment")
    recency_half_life_days: float | None = Field(None, gt=0, description="a row this much older counts half")
    amount_power: float = Field(0.0, ge=0, le=1, description="0: all frauds count alike; 1: by their amount")
    genuine_per_fraud: float | None = Field(
        None, gt=0, description="genuine rows drawn for each fraud; risks are corrected for it"
    )
    labels: Literal["known", "delayed_feedback", "positive_unlabelled"] = Field(
        "known", description="known: as they are; the others correct for frauds not reported yet or never"
    )
    reported_share: float | None = Field(
        None, gt=0, le=1, description="share of frauds ever reported, for positive_unlabelled; else estimated, too low"
    )

    @model_validator(mode="after")
    def _share_is_used(self) -> SamplingConfig:
        if self.reported_share is not None and self.labels != "positive_unlabelled":
            raise ValueError("sampling.reported_share belongs to labels = 'positive_unlabelled'; remove it or set that")
        return self


NOT_SEARCHED = (
    "kind",
    "early_stopping_rounds",
    "members",
    "monotone",
    "device",
    "base_score",
    "calibration",
    "reported_share",
)
"""Keys of [model] and [sampling] that a search leaves as they are stated."""


def is_range(values: Sequence[float | int | str]) -> bool:
    """Say whether the values of a search space are the two ends of a range; all others are choices.

    >>> is_range([2, 8]), is_range(["none", 14]), is_range([256, 1024, 4096])
    (True, False, False)
    """
    return len(values) == 2 and not any(isinstance(value, str) for value in values)


class TuningConfig(_Frozen):
    """Search of the model's settings on periods before the test."""

    trials: int = Field(0, ge=0, description="settings tried; 0: those of [model] are used")
    seconds: float | None = Field(None, gt=0, description="no new trial begins after so many seconds")
    folds: int = Field(3, ge=1, description="validation periods, one after the other, all before the test")
    metric: Literal["average_precision", "card_precision_at_k", "auc_roc"] = "average_precision"
    rule: Literal["mean", "one_standard_error", "regret"] = Field(
        "one_standard_error", description="how the winner is chosen among the trials"
    )
    space: dict[str, list[float | int | str]] = Field(
        default_factory=dict,
        description="key of [model] or [sampling] -> [low, high], or three and more choices or texts ('none': none); "
        "empty: a default for the kind of model",
    )

    @field_validator("space")
    @classmethod
    def _space_is_known(cls, space: dict[str, list[float | int | str]]) -> dict[str, list[float | int | str]]:
        known = {name: owner for owner in (ModelConfig, SamplingConfig) for name in owner.model_fields}
        searched = [name for name in known if name not in NOT_SEARCHED]
        for key, values in space.items():
            if key not in known:
                raise ValueError(f"'{key}' is no key of [model] or [sampling]; {did_you_mean(key, searched)}")
            if key not in searched:
                raise ValueError(f"'{key}' is stated, not searched; take it out; searched are {', '.join(searched)}")
            if len(values) < 2 or (is_range(values) and values[0] >= values[1]):
                raise ValueError(f"'{key}' needs [low, high] with low < high, or some choices; found {values}")
            for value in values:
                try:
                    known[key].model_validate({key: None if value == "none" else value})
                except ValidationError as error:
                    why = error.errors(include_url=False)[0]["msg"]
                    raise ValueError(f"'{key}' cannot be {value!r}: {why[0].lower()}{why[1:]}") from None
        return space


class AnomalyConfig(_Frozen):
    """A score of how unusual a payment is, learnt without labels."""

    kind: Literal["none", "isolation_forest", "density"] = Field(
        "none", description="how unusual is told: a forest of random splits, or the distance from what is usual"
    )
    as_input: bool = Field(False, description="the anomaly score is one more feature of the model")

    @model_validator(mode="after")
    def _input_has_a_kind(self) -> AnomalyConfig:
        if self.as_input and self.kind == "none":
            raise ValueError("anomaly.as_input needs a score; set anomaly.kind to density or isolation_forest")
        return self


class RulesConfig(_Frozen):
    """Rules that people write, beside the model."""

    book: Path | None = Field(None, description="the rule book, a TOML file (docs/rules.md); none: no rules")


class ReportConfig(_Frozen):
    """What a retraining writes for reviewers at its end; no part of what decides a result."""

    languages: tuple[Literal["en", "zh"], ...] = Field(("en",), min_length=1, description="a report in each")
    formats: tuple[Literal["html", "pdf"], ...] = Field(
        ("html",), description="pdf: beside the HTML, a tagged PDF, for which make extras installs WeasyPrint"
    )


class RunConfig(_Frozen):
    """Everything that decides a run's result."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]*$", description="name of the run and the registered model")
    title: str = ""
    owner: str = "not provided"
    purpose: str = "fraud-model-training"
    seed: int = Field(7, ge=0)
    as_of: dt.datetime | None = Field(None, description="what was known then; default: when the file was ingested")
    dataset: DatasetConfig
    features: FeaturesConfig = FeaturesConfig()
    split: SplitConfig = SplitConfig()
    model: ModelConfig = ModelConfig()
    sampling: SamplingConfig = SamplingConfig()
    tuning: TuningConfig = TuningConfig()
    anomaly: AnomalyConfig = AnomalyConfig()
    decision: DecisionConfig = DecisionConfig()
    rules: RulesConfig = RulesConfig()
    gate: GateConfig = GateConfig()
    report: ReportConfig = ReportConfig()
    notify: NotifyConfig = NotifyConfig()

    @model_validator(mode="after")
    def _members_differ(self) -> RunConfig:
        alike = self.model.subsample == 1 and self.model.colsample_bytree == 1
        if self.model.kind == "xgboost" and self.model.members > 1 and alike and not self.tuning.trials:
            raise ValueError(
                "model.members differ only where rows or columns are drawn; set subsample or colsample_bytree below 1"
            )
        return self

    @model_validator(mode="after")
    def _categories_have_no_order(self) -> RunConfig:
        if ordered := [name for name in self.features.categories if name in self.model.monotone]:
            raise ValueError(
                f"model.monotone names '{ordered[0]}', a category: its values have no order; take it out of one of both"
            )
        return self

    @field_validator("as_of")
    @classmethod
    def _as_of_with_zone(cls, value: dt.datetime | None) -> dt.datetime | None:
        if value is not None and value.tzinfo is None:
            raise ValueError("must carry a time zone, such as 2026-07-01T00:00:00Z")
        return value

    @property
    def as_of_time(self) -> pd.Timestamp | None:
        """`as_of` as a UTC timestamp, or None."""
        return None if self.as_of is None else utc(self.as_of, "as_of")


@dataclass(frozen=True)
class Workspace:
    """Where a project keeps its things. Only the doors and the rooms that touch files ask for it."""

    root: Path

    @classmethod
    def of(cls, config: Path | None = None) -> Workspace:
        """Return the workspace at `FRAUDLAB_HOME`, else the project of `config`, else that of the working folder.

        Raises
        ------
        InputError : none of them is there; vaults and keys are not strewn over folders that are no project.
        """
        if home := os.environ.get("FRAUDLAB_HOME"):
            return cls(Path(home).resolve())
        for start in (config, Path.cwd()):
            if start is not None and ((root := project_root(start)) / "pyproject.toml").is_file():
                return cls(root)
        raise InputError(
            "project: found no pyproject.toml at or above the working folder; go to your fraudlab folder, "
            "or name one in the environment variable FRAUDLAB_HOME"
        )

    @property
    def vault(self) -> Path:
        """Encrypted data sets."""
        return self.root / "data" / "vault"

    @property
    def keys(self) -> Path:
        """The key directory, apart from the data it opens; `FRAUDLAB_KEYS` moves it elsewhere."""
        elsewhere = os.environ.get("FRAUDLAB_KEYS")
        return Path(elsewhere).resolve() if elsewhere else self.root / ".keys"

    @property
    def audit(self) -> Path:
        """The tamper-evident audit log, a database."""
        return self.root / "data" / "audit.db"

    @property
    def ledger(self) -> Path:
        """The ledger of consents, objections and erasures, a database."""
        return self.root / "data" / "ledger.db"

    @property
    def identities(self) -> Path:
        """The key of each customer's raw identities, a database; whose key is gone cannot be read any more."""
        return self.root / "data" / "identity.db"

    @property
    def mlruns(self) -> Path:
        """MLflow's database and artifacts."""
        return self.root / "mlruns"

    @property
    def lineage(self) -> Path:
        """Which customers each model version was trained on, a file each."""
        return self.mlruns / "lineage"

    @property
    def runs(self) -> Path:
        """A folder per run: executed notebooks, evidence, state."""
        return self.root / "runs"

    @property
    def reports(self) -> Path:
        """Exported reports for reviewers."""
        return self.root / "reports"


def project_root(path: Path) -> Path:
    """Return the nearest folder at or above `path` that holds a pyproject.toml, else the folder of `path`."""
    path = path.resolve()
    folder = path if path.is_dir() else path.parent
    for candidate in (folder, *folder.parents):
        if (candidate / "pyproject.toml").is_file():
            return candidate
    return folder


def load_config(path: str | Path, **changes: Any) -> RunConfig:
    """Read and validate a run config.

    Parameters
    ----------
    path : a TOML file.
    changes : dotted keys to override, with `__` for the dot: `split__test_days=7`, `dataset__path=...`.

    Raises
    ------
    InputError : the file is missing or is not TOML; a key is unknown, missing or ill-typed.
    """
    path = Path(path)
    if not path.is_file():
        here = sorted(str(found) for found in path.parent.glob("*.toml")) if path.parent.is_dir() else []
        hint = f"found there: {', '.join(here)}" if here else "the folder has no .toml file"
        raise InputError(f"config: no file at {path}; {hint}")
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"config {path}: not valid TOML: {error}") from None
    for dotted, value in changes.items():
        table = raw
        *parents, key = dotted.split("__")
        for parent in parents:
            table = table.setdefault(parent, {})
            if not isinstance(table, dict):
                raise InputError(
                    f"config {path}: key '{parent}' holds a value and no keys of its own; see config explain"
                )
        table[key] = value
    root = project_root(path)
    dataset = raw.get("dataset")
    if isinstance(dataset, dict):
        for key in ("path", "contract", "attach"):
            if isinstance(dataset.get(key), str | Path):
                dataset[key] = str(root / dataset[key])
        if isinstance(dataset.get("append"), list):
            dataset["append"] = [str(root / path) if isinstance(path, str) else path for path in dataset["append"]]
    rules = raw.get("rules")
    if isinstance(rules, dict) and isinstance(rules.get("book"), str | Path):
        rules["book"] = str(root / rules["book"])
    try:
        return RunConfig.model_validate(raw)
    except ValidationError as error:
        raise InputError("\n".join(f"config {path}: {line}" for line in explain_validation(error, RunConfig))) from None


def explain_validation(error: ValidationError, model: type[BaseModel]) -> list[str]:
    """Turn pydantic's findings into one sentence each, naming the key and, for an unknown one, the nearest valid."""
    lines = []
    for finding in error.errors(include_url=False):
        where = [str(part) for part in finding["loc"]]
        key = ".".join(where) or "the file"
        if finding["type"] == "extra_forbidden":
            lines.append(f"unknown key '{key}'; {did_you_mean(where[-1], _keys_at(model, where[:-1]))}")
        elif finding["type"] == "missing":
            lines.append(f"key '{key}' is missing; add it")
        elif finding["type"] == "value_error":
            lines.append(f"key '{key}': {finding['ctx']['error']}")
        else:
            lines.append(f"key '{key}': {finding['msg'][0].lower()}{finding['msg'][1:]}; found {finding['input']!r}")
    return lines


def _keys_at(model: type[BaseModel], where: list[str]) -> list[str]:
    for part in where:
        field = model.model_fields.get(part)
        if field is None or not (isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)):
            return []
        model = field.annotation
    return list(model.model_fields)


ASIDE = ("report", "notify")
"""Sections of a config that decide no figure; [notify] holds people's addresses and stays out of all evidence."""


def config_digest(config: BaseModel) -> str:
    """Return the sha-256 of the config's meaning: equal for equal settings, wherever the project's folder lies.

    Paths count by their last part only; what a file holds is covered by the data's own digest. Which reports are made
    and who hears of them decides nothing.
    """
    meaning = config.model_dump_json(exclude_none=True, exclude=set(ASIDE))
    return digest_of(json.loads(meaning), paths=("path", "append", "attach", "contract", "book"))


def digest_of(value: Any, paths: tuple[str, ...] = ()) -> str:
    """Return the sha-256 of a JSON-like value in canonical form; keys in `paths` count by their last part.

    >>> digest_of({"a": 1, "b": 2}) == digest_of({"b": 2, "a": 1})
    True
    """

    def plain(item: Any, key: str = "") -> Any:
        if isinstance(item, dict):
            return {str(k): plain(v, str(k)) for k, v in item.items()}
        if isinstance(item, list | tuple):
            return [plain(v, key) for v in item]
        return Path(item).name if key in paths and isinstance(item, str) else item

    text = json.dumps(plain(value), sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def explain_keys(model: type[BaseModel] = RunConfig, prefix: str = "") -> list[tuple[str, str, str, str]]:
    """Return (key, type, default, meaning) for every key of a run config, in file order."""
    rows: list[tuple[str, str, str, str]] = []
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            rows += [
                (f"[{prefix}{name}]", "", "", (kind.__doc__ or "").strip()),
                *explain_keys(kind, f"{prefix}{name}."),
            ]
            continue
        shown = kind.__name__ if isinstance(kind, type) else str(kind).replace("typing.", "").replace("datetime.", "")
        default = "required" if field.is_required() else str(field.default)
        rows.append((f"{prefix}{name}", shown, default, field.description or ""))
    return rows
