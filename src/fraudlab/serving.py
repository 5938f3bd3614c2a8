"""A model as it goes to production: one folder that scores, tiers and explains, checked byte by byte before use.

A package holds the fitted model, the thresholds of its risk tiers, the words of its reasons and the facts of its
making. Nothing in it is pickled and it needs no registry: `load_package(folder).score(features)` is all a batch job
takes. `fraudlab.tracking.register_package` puts the same folder into MLflow.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fraudlab import explain
from fraudlab import reasons as reasons_of
from fraudlab.acting import Acting
from fraudlab.config import digest_of
from fraudlab.decisions import TIERS, Thresholds, actions_for, assign_tiers
from fraudlab.features import FeatureSet
from fraudlab.features.words import check_language
from fraudlab.model_files import load_model, save_model
from fraudlab.models import FittedModel
from fraudlab.package_check import ABOUT as ABOUT
from fraudlab.package_check import FORMAT, as_json, checked_package, digests_of
from fraudlab.schema import InputError, require_columns

ACTING = "acting.json"
TOP_REASONS = 3
SHOWN = 10
# Of `FeatureSet.describe()`, as far as it has them: packages from before there were codes or Chinese words read alike.
KEPT_WORDS = (
    *("column", "label", "reason", "group", "meaning", "template", "kind"),
    *("label_zh", "group_zh", "meaning_zh", "template_zh"),
)
NO_TIERS = pd.Categorical([], categories=list(TIERS), ordered=True)


@dataclass(frozen=True, eq=False)
class Package:
    """A loaded package: what scores, where the tiers begin, how a reason reads, how it all came about.

    `digest` is the sha-256 of its `package.json`, which in turn holds the sha-256 of every other file.
    """

    model: FittedModel
    thresholds: Thresholds
    describe: pd.DataFrame = field(repr=False)
    facts: dict[str, Any] = field(repr=False)
    digest: str
    acting: Acting = field(repr=False)

    @property
    def features(self) -> tuple[str, ...]:
        """The columns a caller must bring."""
        return self.model.inputs

    @property
    def feature_set(self) -> FeatureSet:
        """The set that its features are computed by."""
        return FeatureSet.from_dict(self.facts["feature_set"])

    @property
    def categories(self) -> tuple[str, ...]:
        """The columns of transactions that the model reads as they are; it turns them into numbers itself."""
        return self.model.encoder.columns if self.model.encoder else ()

    def features_of(self, transactions: pd.DataFrame) -> pd.DataFrame:
        """Compute from canonical transactions, in the total order, what `score` takes: a row for each, with its index.

        Raises
        ------
        InputError : a column is missing that the features or the categories are made from.
        """
        features = self.feature_set.compute(transactions)
        require_columns(transactions, self.categories, where="the model's categories")
        return features.assign(**{name: transactions[name].to_numpy() for name in self.categories})

    def score(
        self, X: pd.DataFrame, *, reasons: bool = True, threshold: float | None = None, lang: str = "en"
    ) -> pd.DataFrame:
        """Score transactions' features, put them into tiers and say why the risky ones are.

        Parameters
        ----------
        X : features by name, any order; other columns are ignored. NaN means missing.
        reasons : explain rows above the lowest tier; takes about 0.3 ms for each of them.
        threshold : where manual review begins, instead of the package's own; the tiers around it give way.
        lang : of the reasons, "en" or "zh"; a package from before there were Chinese words says them in English.

        Returns
        -------
        A row for each of `X`, with its index: score (uncalibrated, ranks), risk (calibrated probability, NaN for a
        model without calibrator), tier (ordered: low < elevated < high < severe), action, reasons (a list of at most
        three sentences, empty for tier low). Tiers are cut on the score: calibration ties scores, and a tie at a
        threshold would waste alerts.

        Raises
        ------
        InputError : a feature is missing, given twice, not a number or infinite; the threshold is outside [0, 1];
            another language.
            Messages name columns and count rows; they never hold a value.
        """
        self._check(X)
        check_language(lang)
        score = self.model.score(X)
        calibrated = self.model.calibrator is not None
        risk = self.model.risk_of(score) if calibrated else np.full(len(X), np.nan)
        thresholds = self._thresholds(threshold)
        # An hour without payments is no error.
        tier = assign_tiers(score, thresholds) if len(X) else NO_TIERS
        return pd.DataFrame(
            {
                "score": score,
                "risk": risk,
                "tier": tier,
                "action": actions_for(tier).array,
                "reasons": self.reasons(X, tier > "low", lang=lang) if reasons else [[] for _ in range(len(X))],
            },
            index=X.index,
        ).astype({"action": "str", "reasons": object})

    def act(self, transactions: pd.DataFrame, X: pd.DataFrame, score: np.ndarray | None = None) -> pd.DataFrame:
        """Score transactions and decide on each the way the run decided: `decision.way` of its config.

        Parameters
        ----------
        transactions : canonical ones, with their amounts and what rules read of them.
        X : their features, as from `features_of`.
        score : of the same rows, where the model was asked already.

        Returns
        -------
        A row for each, with the index of `X`: score, risk, tier, action, rules (ids of the active rules that fired,
        comma-separated).

        Raises
        ------
        InputError : as `score`; a rule reads a column that is not there; an amount is negative or not finite.
        """
        self._check(X)
        score = self.model.score(X) if score is None else score
        risk = self.model.risk_of(score) if self.model.calibrator is not None else np.full(len(X), np.nan)
        more = [name for name in self.acting.columns if name in X.columns and name not in transactions.columns]
        table = pd.concat([transactions.set_axis(X.index), X[more]], axis=1)
        done = self.acting.act(score, risk, transactions["amount"].to_numpy(), table)
        return pd.DataFrame({"score": score, "risk": risk}, index=X.index).join(done)

    def _check(self, X: pd.DataFrame) -> None:
        if not isinstance(X, pd.DataFrame):
            raise InputError(
                f"scoring: must get a table whose columns are named; found {type(X).__name__}; pass a pandas DataFrame"
            )
        # What is there instead is not said: the header of a table without one is its first row.
        if absent := [f"'{name}'" for name in self.features if name not in X.columns]:
            shown = ", ".join(absent[:SHOWN]) + (", ..." if len(absent) > SHOWN else "")
            raise InputError(
                f"scoring: every feature of the model must be there; missing are {len(absent):,} of "
                f"{len(self.features):,}: {shown}; compute the feature set this model was trained on"
            )
        twice = X.columns[X.columns.duplicated()].intersection(list(self.features))
        if len(twice):
            raise InputError(f"scoring: each feature must be there once; found twice: {', '.join(twice)}; drop one")

    def _thresholds(self, review: float | None) -> Thresholds:
        if review is None:
            return self.thresholds
        if not 0 <= review <= 1:
            raise InputError(f"threshold: must lie in [0, 1]; found {review}; leave it out for the package's own")
        limit = self.thresholds.limit
        return Thresholds(
            review=float(review),
            step_up=min(self.thresholds.step_up, float(review)),
            limit=None if limit is None else max(limit, float(review)),
        )

    def reasons(self, X: pd.DataFrame, wanted: Any, *, lang: str = "en") -> list[list[str]]:
        """Say why some payments are risky, strongest first.

        Parameters
        ----------
        X : features of all.
        wanted : bool[n], whose reasons are told; each takes about 0.3 ms.
        lang : "en" or "zh".

        Returns
        -------
        For each row at most three sentences, none where not wanted.
        """
        return [[reason.sentence for reason in row] for row in self.told(X, wanted, lang=lang)]

    def told(self, X: pd.DataFrame, wanted: Any, *, lang: str = "en") -> list[list[reasons_of.Reason]]:
        """As `reasons`, with each sentence's code and name beside it."""
        told: list[list[reasons_of.Reason]] = [[] for _ in range(len(X))]
        rows = np.flatnonzero(np.asarray(wanted, dtype=bool))
        if len(rows):
            alerts = self.model.complete(X.iloc[rows])
            found = self._unexplained(len(rows), lang)
            if self.model.explains:
                table = explain.contributions(self.model, alerts)
                found = reasons_of.tell(table, alerts, self.describe, top=TOP_REASONS, lang=lang)
            for row, said in zip(rows, found, strict=True):
                told[row] = said
        return told

    def told_of(
        self, values: np.ndarray, shown: Sequence[np.ndarray], *, lang: str = "en"
    ) -> list[list[reasons_of.Reason]]:
        """As `told`, for rows that are laid out already.

        Parameters
        ----------
        values : the model's inputs as numbers, shape (rows, features).
        shown : of each feature what is said of it: the same numbers, or text with NaN for missing as object[rows].
        """
        if not self.model.explains:
            return self._unexplained(len(values), lang)
        pushes = explain.contributions_of(self.model, values)[:, :-1]
        return reasons_of.tell_of(pushes, shown, self.describe, self.model.features, TOP_REASONS, lang=lang)

    def _unexplained(self, rows: int, lang: str) -> list[list[reasons_of.Reason]]:
        return [[reasons_of.Reason("", "", reasons_of.unexplained(lang), "", 0.0)]] * rows


def save_package(
    folder: str | Path,
    model: FittedModel,
    thresholds: Thresholds,
    describe: pd.DataFrame,
    facts: Mapping[str, Any],
    *,
    acting: Acting | None = None,
) -> str:
    """Write a package and return its digest; it appears complete or not at all.

    Parameters
    ----------
    folder : a new one, or an earlier package, which is replaced.
    model, thresholds : what scores and where its tiers begin, on the uncalibrated score.
    describe : `FeatureSet.describe()`, with a row for each of the model's features.
    facts : plain values about how it came about: names, digests, dates. Never a row, never an identifier.
    acting : what is done about a payment, with the same thresholds; None acts by the tiers and asks no rules.

    Returns
    -------
    The sha-256 of `package.json`; `load_package(folder, digest=...)` refuses any other.

    Raises
    ------
    InputError : the folder holds something else; `describe` lacks a feature; a fact is not a plain value.
    """
    folder = Path(folder)
    if folder.exists() and not (folder / ABOUT).is_file() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"folder {folder.name}: must be new or a package; found something else; choose another name")
    words = model.words(describe).set_index("column", drop=False)
    if absent := [name for name in model.features if name not in words.index]:
        raise InputError(
            f"describe: must have a row for each feature; found none for {', '.join(absent)}; "
            "pass the describe() of the feature set the model was trained on"
        )
    columns = [name for name in KEPT_WORDS if name in words]
    try:
        facts_json = as_json(dict(facts))
    except (TypeError, ValueError) as error:
        raise InputError(
            f"facts: must be text, whole or finite numbers, lists and tables of them; found otherwise ({error}); "
            "turn times and numpy values into plain ones"
        ) from None
    folder.parent.mkdir(parents=True, exist_ok=True)
    building = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        save_model(model, building / "model")
        _write(building / "decision.json", as_json(thresholds.to_dict()))
        if acting is not None:
            _write(building / ACTING, as_json(acting.to_dict()))
        _write(building / "features.json", as_json(words.loc[list(model.features), columns].to_dict("records")))
        about = {"format": FORMAT, "facts": json.loads(facts_json), "files": digests_of(building)}
        about_bytes = as_json(about | {"digest": digest_of(about)})
        _write(building / ABOUT, about_bytes)
        if folder.exists():
            _swap(building, folder)
        else:
            os.replace(building, folder)
    except BaseException:
        shutil.rmtree(building, ignore_errors=True)
        raise
    return hashlib.sha256(about_bytes).hexdigest()


def load_package(folder: str | Path, *, digest: str | None = None) -> Package:
    """Read a package after checking every byte of it.

    Parameters
    ----------
    folder : what `save_package` wrote.
    digest : what `save_package` returned, kept elsewhere (the registry does): given, an exchanged package is refused.

    Raises
    ------
    InputError : a file is missing, damaged, exchanged or unexpected; the format is another.
    """
    folder = Path(folder)
    about, found = checked_package(folder, digest=digest)
    thresholds = Thresholds.from_dict(json.loads((folder / "decision.json").read_bytes()))
    acts = (
        json.loads((folder / ACTING).read_bytes()) if ACTING in about["files"] else None
    )  # older packages act by tiers
    return Package(
        model=load_model(folder / "model"),
        thresholds=thresholds,
        describe=pd.DataFrame(json.loads((folder / "features.json").read_bytes())),
        facts=about["facts"],
        digest=found,
        acting=Acting(thresholds) if acts is None else Acting.from_dict(thresholds, acts),
    )


def _write(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _swap(building: Path, folder: Path) -> None:
    # Two renames: a folder cannot be replaced by one in a portable way.
    aside = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    os.replace(folder, aside / "old")
    try:
        os.replace(building, folder)
    except BaseException:
        os.replace(aside / "old", folder)
        raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)
