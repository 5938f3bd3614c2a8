"""Scores payments with a package and an online state: many at once or one by one, with the same result to the bit."""

from __future__ import annotations

import contextlib
import datetime as dt
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import expit

from fraudlab import tracking
from fraudlab.acting import REVIEWED
from fraudlab.anomaly import ANOMALY
from fraudlab.config import Workspace
from fraudlab.datasets import load_transactions
from fraudlab.datasets.companions import INVESTIGATION
from fraudlab.datasets.indicators import COLUMNS as INDICATORS
from fraudlab.datasets.indicators import Flags
from fraudlab.features.chunks import score_table_then_update
from fraudlab.features.online import EPOCH, OnlineState
from fraudlab.models import Trees
from fraudlab.privacy.keys import open_keys
from fraudlab.privacy.vault import Vault
from fraudlab.reasons import Reason
from fraudlab.schema import InputError
from fraudlab.scoring.door import LABELS, Door
from fraudlab.scoring.walk import Walk
from fraudlab.serving import Package

SCORING = "fraud-detection"
"""The purpose that payments are scored for, where the contract states it; else they are for "case-investigation"."""
LABEL_HORIZON = "180d"
"""How long after a payment its label may still come in; as long its id is remembered, so that a repeat is noticed."""


@dataclass(frozen=True)
class Deployed:
    """A registered version, its package, and the data set that it scores."""

    name: str
    version: str
    package: Package
    dataset: str

    @property
    def said(self) -> str:
        """The version in words."""
        return f"{self.name} version {self.version}"


def deployed(workspace: Workspace, reference: str, *, dataset: str = "") -> Deployed:
    """Return a registered version with its package, checked byte by byte before it is loaded.

    Parameters
    ----------
    reference : NAME@ALIAS, NAME/VERSION, or NAME for its champion.
    dataset : whose contract and history it works with; default: the one it was trained on.

    Raises
    ------
    InputError : no such model or version; its package is damaged, or it is not the one that was registered.
    """
    name, version, package = tracking.registered_package(workspace, reference)
    return Deployed(name, version, package, dataset or package.facts.get("dataset") or name)


def needed_columns(package: Package) -> list[str]:
    """Return the columns of transactions that features, categories and active rules are made from, and the required."""
    features = set(package.features)
    read = [name for name in package.acting.columns if name not in features]
    first = ("transaction_id", "event_time", "customer_id", "amount")
    return list(dict.fromkeys([*first, *package.feature_set.requires, *package.categories, *read]))


def purpose_of(manifest: Mapping[str, Any]) -> str:
    """Return the purpose that a data set's payments are scored for, or refuse a contract that states none."""
    for purpose in (SCORING, INVESTIGATION):
        if purpose in manifest["purposes"]:
            return purpose
    raise InputError(
        f"data set {manifest['dataset']}: its contract has no purpose '{SCORING}', so no payment of it may be scored; "
        "declare the purpose there and ingest again"
    )


def open_door(workspace: Workspace, model: Deployed, **settings: Any) -> Door:
    """Return the door for a model's payments; see `Door`."""
    vault = Vault(workspace.vault, open_keys(workspace))
    manifest = vault.manifest(model.dataset)
    needed, purpose = needed_columns(model.package), purpose_of(manifest)
    flags = Flags([name for name in needed if name in INDICATORS], vault, purpose)
    return Door(manifest, vault.keys, needed, purpose=purpose, flags=flags, **settings)


def load_history(workspace: Workspace, model: Deployed, *, before: pd.Timestamp | None = None) -> pd.DataFrame:
    """Return what the vault holds of a model's payments, with all labels known by now, each from its label_time on.

    Parameters
    ----------
    before : only payments before this moment.
    """
    manifest = Vault(workspace.vault, open_keys(workspace)).manifest(model.dataset)
    columns = [name for name in needed_columns(model.package) if name not in LABELS]
    held = [name for name in LABELS if any(column["name"] == name for column in manifest["columns"])]
    purpose = purpose_of(manifest)
    seen = [column["name"] for column in manifest["columns"] if purpose in column["purposes"]]
    wanted = [*columns, *(name for name in held if name in seen)]
    frame = load_transactions(model.dataset, purpose=purpose, columns=wanted, workspace=workspace)
    return frame if before is None else frame[frame["event_time"] < before].reset_index(drop=True)


def learn(
    package: Package,
    history: pd.DataFrame | None,
    *,
    rows: int = 500_000,
    say: Callable[[str], None] = lambda text: None,
) -> OnlineState:
    """Return the state of a package's features after a history, taken in some rows at a time.

    It remembers each payment's id as long as its label may come in, also where no feature asks for labels.
    """
    state = OnlineState(package.feature_set, LABEL_HORIZON)
    state.remembers = True
    for start in range(0, 0 if history is None else len(history), rows):
        score_table_then_update(state, history.iloc[start : start + rows])
        say(f"learnt from {min(start + rows, len(history)):,} of {len(history):,} payments")
    return state


@dataclass(frozen=True)
class Scored:
    """What became of one payment; `features` are the model's, for reasons."""

    transaction_id: Any
    event_time: Any
    score: float
    risk: float | None
    tier: str
    action: str
    rules: tuple[str, ...]
    features: np.ndarray
    payment: Mapping[str, Any]
    late: bool = False

    @property
    def alert(self) -> bool:
        """Whether somebody looks at it, or it is stopped."""
        return self.action in REVIEWED


class Scorer:
    """A package with the state of its features.

    Parameters
    ----------
    package : what scores and decides.
    state : what is remembered; `one` and `table` go on from it.
    """

    def __init__(self, package: Package, state: OnlineState) -> None:
        self.package = package
        self.state = state
        model = package.model
        self._walk = None
        plain = isinstance(model.estimator, Trees) and ANOMALY not in model.features
        if plain:
            self._walk = Walk.of(model.estimator)
        place = {name: k for k, name in enumerate(state.columns)}
        coded = {coding.column for coding in model.encoder.codings} if model.encoder else set()
        self._from = np.array([place.get(name, -1) if name not in coded else -1 for name in model.features], np.int64)
        self._here = np.flatnonzero(self._from >= 0)
        self._codings = [
            (model.features.index(coding.column), coding, dict(zip(coding.known, coding.values)))
            for coding in (model.encoder.codings if model.encoder else ())
        ]
        if absent := [
            name for name, at in zip(model.features, self._from) if at < 0 and name not in coded and name != ANOMALY
        ]:
            raise InputError(
                f"scoring: the feature set does not make {', '.join(absent[:5])}; register the model again"
            )
        self._row = np.full((1, len(model.features)), np.nan, np.float32)
        self._rule_features = [(name, place[name]) for name in package.acting.columns if name in place]

    # --- one payment ----------------------------------------------------------------------------------------------

    def one(self, payment: Mapping[str, Any], *, late: bool = False, moved: Mapping[str, Any] | None = None) -> Scored:
        """Score one treated payment and remember it.

        Parameters
        ----------
        payment : as `Door.one` returns it; it must come after all others in the total order.
        late : noted in the result.
        moved : the payment as it is remembered, where that differs (a late one).

        Raises
        ------
        InputError : a value cannot be used; nothing is remembered. A feature is infinite.
        """
        found = self.state.score_then_update(moved if moved is not None else payment)
        return self._judged(found, payment, late)

    def warm_up(self, lang: str = "en") -> None:
        """Score a made-up payment of values met before and say why, and forget it.

        What is loaded, compiled or laid out when first asked for is there before the first payment waits for it.
        """
        state = self.state
        payment: dict[str, Any] = dict.fromkeys(needed_columns(self.package))
        payment |= {"transaction_id": "", "amount": 1.0}
        payment["event_time"] = EPOCH if state.last is None else EPOCH + dt.timedelta(microseconds=state.last[0] + 1)
        for known in (state.codes, state.before.codes if state.before is not None else {}):
            payment |= {name: next(iter(codes), None) for name, codes in known.items() if name in payment}
        with contextlib.suppress(InputError):  # so few values are known of it: the contract might refuse it
            self.told([self._judged(state.score(payment), payment)], lang)

    def _judged(self, found: np.ndarray, payment: Mapping[str, Any], late: bool = False) -> Scored:
        if np.isinf(found).any():
            raise InputError("features: values must be finite; found an infinite one; make it missing where undefined")
        score = self._score(found, payment)
        calibrated = self.package.model.calibrator is not None
        risk = float(self.package.model.risk_of(score)) if calibrated else float("nan")
        row = payment
        if self._rule_features:
            row = {name: float(found[at]) for name, at in self._rule_features} | dict(payment)
        act = self.package.acting.one(score, risk, row)
        return Scored(
            payment["transaction_id"],
            payment["event_time"],
            score,
            risk if calibrated else None,
            *act,
            found,
            payment,
            late,
        )

    def _score(self, found: np.ndarray, payment: Mapping[str, Any]) -> float:
        if self._walk is None:
            return float(self.package.model.score(self._frame([(found, payment)]))[0])
        row = self._row[0]
        row[self._here] = found[self._from[self._here]]
        for at, coding, values in self._codings:
            value = payment[coding.column]
            row[at] = _coded(value, coding, values)
        return float(expit(np.float64(self._walk.margins(self._row)[0]) + self.package.model.shift))

    def _frame(self, rows: list[tuple[np.ndarray, Mapping[str, Any]]]) -> pd.DataFrame:
        frame = pd.DataFrame(np.array([found for found, _ in rows]), columns=list(self.state.columns))
        more = {
            name: pd.Series([payment[name] for _, payment in rows], dtype=object) for name in self.package.categories
        }
        return frame.assign(**{name: values.where(values.notna(), None) for name, values in more.items()})

    def told(self, scored: list[Scored], lang: str = "en") -> list[list[Reason]]:
        """Return the reasons of some payments, at most three each, strongest first."""
        if not scored:
            return []
        if ANOMALY in self.package.model.features:
            frame = self._frame([(each.features, each.payment) for each in scored])
            return self.package.told(frame, np.ones(len(frame), bool), lang=lang)
        values = np.array([each.features for each in scored])[:, self._from].astype("float64")
        shown = list(values.T.copy())
        for at, coding, known in self._codings:
            given = [each.payment[coding.column] for each in scored]
            values[:, at] = [_coded(value, coding, known) for value in given]
            shown[at] = np.array([np.nan if _missing(value) else str(value) for value in given], dtype=object)
        return self.package.told_of(values, shown, lang=lang)

    # --- tables ---------------------------------------------------------------------------------------------------

    def table(
        self, payments: pd.DataFrame, *, reasons: bool = True, lang: str = "en", features: bool = False
    ) -> pd.DataFrame:
        """Score many treated payments and remember them.

        Parameters
        ----------
        payments : as `Door.table` returns them, or from the vault, with labels where known.
        reasons : of alerts.
        features : put the model's inputs beside, for monitoring.

        Returns
        -------
        A row per payment with its index: transaction_id, event_time, score, risk, tier, action, rules, reasons (list of
        sentences, empty unless an alert); then the features where asked for.
        """
        return self._decided(payments, score_table_then_update(self.state, payments), reasons, lang, features)

    def tables(
        self, payments: Iterable[pd.DataFrame], *, reasons: bool = True, lang: str = "en"
    ) -> Iterator[pd.DataFrame]:
        """Score one table after the other, as `table` does each.

        While the features of one are made, the next one is fetched and the one before is decided on.
        """
        coming = iter(payments)
        with ThreadPoolExecutor(2) as beside:
            following, decided = beside.submit(next, coming, None), None
            while (now := following.result()) is not None:
                following = beside.submit(next, coming, None)
                found = score_table_then_update(self.state, now)
                if decided is not None:
                    yield decided.result()
                decided = beside.submit(self._decided, now, found, reasons, lang)
            if decided is not None:
                yield decided.result()

    def _decided(
        self, payments: pd.DataFrame, found: pd.DataFrame, reasons: bool, lang: str, features: bool = False
    ) -> pd.DataFrame:
        X = found.assign(**{name: payments[name].array for name in self.package.categories})
        score = None
        if self._walk is not None:
            margin = self._walk.margins(self.package.model.matrix(X, dtype="float32"))
            score = expit(margin.astype("float64") + self.package.model.shift)
        done = self.package.act(payments, X, score)
        alert = done["action"].isin(REVIEWED).to_numpy()
        told = self.package.reasons(X, alert, lang=lang) if reasons else [[]] * len(X)
        out = pd.concat([payments[["transaction_id", "event_time"]], done], axis=1)
        out["reasons"] = pd.Series(told, index=out.index, dtype=object)
        return pd.concat([out, X], axis=1) if features else out


def _coded(value: Any, coding: Any, values: Mapping[str, float]) -> float:
    """Return the number of one category, as `Encoder.encode` does of many."""
    if _missing(value):
        return float("nan") if coding.missing is None else coding.missing
    if isinstance(value, bool | np.bool_):
        name = str(bool(value))
    elif isinstance(value, str):
        name = value
    else:
        name = str(int(value))
    return values.get(name, coding.other)


def _missing(value: Any) -> bool:
    return value is None or value is pd.NA or value != value
