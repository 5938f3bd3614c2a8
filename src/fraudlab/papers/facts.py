"""What the papers say, gathered: the vault's manifest, the ledger, the audit log, the registered models, the answers.

Nothing here holds a value of a row: names of columns, counts, days and digests only.
"""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from fraudlab import tracking
from fraudlab.config import RunConfig, Workspace
from fraudlab.datasets.load import allowed_columns
from fraudlab.features import FeatureSet
from fraudlab.features.sets import NAMED_SETS
from fraudlab.privacy.anonymity import Risk, risk_table
from fraudlab.privacy.auditlog import audit_log
from fraudlab.privacy.consent import Ledger
from fraudlab.privacy.keys import open_keys
from fraudlab.privacy.vault import Vault
from fraudlab.schema import FraudlabError, InputError, did_you_mean, refuse

SPLITTING = ("transaction_id", "event_time", "customer_id", "amount", "is_fraud", "label_time")
"""What order, labels, splits and evaluation need of any model's data."""

QUESTIONS: dict[str, str] = {
    "controller": "Who decides why and how the data are used: name and address?",
    "controller_contact": "How does a customer reach the controller: e-mail, phone?",
    "data_protection_officer": "Who is the data protection officer, and how are they reached?",
    "data_source": "Where do the data come from: which system, which business relation?",
    "processors": "Which processors handle the data, and under which contracts?",
    "recipients": "Who else gets the data, and why?",
    "transfers": "Do data leave the EEA: to which country, under which safeguard?",
    "retention_reasons": "Why is each retention time needed?",
    "interest_balance": "How were the interests weighed against the customers' (Art. 6(1)(f))?",
    "special_categories": "Can a column reveal health, faith or politics (Art. 9), such as what a merchant sells?",
    "automated_decisions": "Which decisions take effect before a person looks at them (Art. 22)?",
    "customer_views": "What did customers or their representatives say (Art. 35(9))?",
    "officer_advice": "What did the data protection officer advise (Art. 35(2))?",
    "remaining_risk_accepted_by": "Who accepted the risks that remain, and when?",
    "organisational_measures": "Which training, contracts and access rules protect the data?",
    "supervisory_authority": "Which authority may a customer complain to?",
}
"""What only a person knows; answered in a TOML file."""


@dataclass(frozen=True)
class UsedModel:
    """A registered version, its alias, its purpose and the columns of the transactions that its features read."""

    name: str
    version: str
    aliases: str
    purpose: str = ""
    features: int = 0
    columns: tuple[str, ...] = ()
    problem: str = ""


@dataclass(frozen=True)
class Facts:
    """Everything the papers stand on.

    manifest, manifest_digest : of the data set, and the sha-256 of its file.
    made : the moment the ages are counted from.
    retention : DataFrame purpose, days, oldest (UTC), age (days), past (rows older than that), rows.
    models : registered versions trained on this data set.
    events : DataFrame purpose, event, customers (how many have such an event in the ledger).
    loads : DataFrame purpose, loads, last; from the audit log; None without a log.
    gone : DataFrame what, to, times, last: what left the workspace; from the audit log; None without a log.
    risk : how far the coarse personal columns single customers out; None where there are none.
    answers : question -> answer, those given only.
    """

    manifest: dict[str, Any]
    manifest_digest: str
    made: pd.Timestamp
    customers: int
    retention: pd.DataFrame
    models: list[UsedModel]
    events: pd.DataFrame
    loads: pd.DataFrame | None
    gone: pd.DataFrame | None
    risk: Risk | None
    answers: Mapping[str, str]

    @property
    def columns(self) -> list[dict[str, Any]]:
        """The declared columns as the manifest describes them."""
        return self.manifest["columns"]

    def loadable(self, purpose: str) -> list[str]:
        """The columns a purpose may load."""
        return allowed_columns(self.manifest, purpose)

    @property
    def wanted(self) -> set[str]:
        """Columns that a named feature set could read."""
        return set().union(*(features.requires for features in NAMED_SETS.values()))

    @property
    def used(self) -> set[str]:
        """Columns that models, splitting and evaluation read; without a model the named feature sets stand in."""
        return set(SPLITTING).union(*(model.columns for model in self.models)) | (set() if self.models else self.wanted)

    @property
    def modelled(self) -> list[str]:
        """The purposes that models are trained for; see `model_purposes`."""
        return model_purposes(self.manifest, self.models)


def gather(
    workspace: Workspace, dataset: str, *, answers: Path | None = None, now: pd.Timestamp | None = None
) -> Facts:
    """Collect the facts about a data set.

    Parameters
    ----------
    answers : a TOML file, `question = "answer"` for any of `QUESTIONS`.
    now : the moment ages are counted from. Default: the clock.

    Raises
    ------
    InputError : no such data set; an answer to no question.
    FraudlabError : a key that is needed is not here; vault, ledger or log is damaged.
    """
    vault = Vault(workspace.vault, open_keys(workspace))
    manifest = vault.manifest(dataset)
    written = (workspace.vault / dataset / "manifest.json").read_bytes()
    moment = pd.Timestamp.now("UTC") if now is None else now
    models = used_models(workspace, dataset)
    risky = _coarse(manifest, model_purposes(manifest, models))
    frame = vault.read(dataset, columns=["event_time", "customer_id", *risky])
    return Facts(
        manifest=manifest,
        manifest_digest=hashlib.sha256(written).hexdigest(),
        made=moment,
        customers=int(frame["customer_id"].nunique()),
        retention=retention_table(frame["event_time"], manifest["purposes"], moment),
        models=models,
        events=_events(Ledger(workspace.ledger).events()),
        loads=_loads(workspace, dataset),
        gone=_gone(workspace, dataset),
        risk=risk_table(frame, risky) if risky and len(frame) else None,
        answers=read_answers(answers) if answers is not None else {},
    )


def retention_table(event_time: pd.Series, purposes: Mapping[str, Any], now: pd.Timestamp) -> pd.DataFrame:
    """Table how old the rows held are against the time each purpose may keep them.

    A row is past its time when it is older than `retention_days`; at exactly that age it is not.

    >>> days = pd.Series(pd.to_datetime(["2026-01-01", "2026-01-09"], utc=True))
    >>> table = retention_table(days, {"training": {"retention_days": 5}}, pd.Timestamp("2026-01-11", tz="UTC"))
    >>> table[["purpose", "days", "age", "past", "rows"]].values.tolist()
    [['training', 5, 10, 1, 2]]
    """
    oldest = event_time.min()
    rows = []
    for name, purpose in purposes.items():
        days = int(purpose["retention_days"])
        past = int((event_time < now - pd.Timedelta(days=days)).sum())
        age = 0 if pd.isna(oldest) else max((now - oldest).days, 0)
        rows.append((name, days, oldest, age, past, len(event_time)))
    return pd.DataFrame(rows, columns=["purpose", "days", "oldest", "age", "past", "rows"])


def used_models(workspace: Workspace, dataset: str) -> list[UsedModel]:
    """Return the registered versions trained on a data set, newest first within each model.

    What they used is read from their packages, the bytes of which must be those that were registered; a package that
    is not is named with the problem.
    """
    if not tracking.has_registry(workspace):
        return []
    client = tracking.open_store(workspace)
    table = tracking.models_table(client)
    found = []
    for row in table.itertuples():
        version = client.get_model_version(row.name, row.version)
        if client.get_run(version.run_id).data.params.get("dataset.name") != dataset:
            continue
        about = tracking.package_folder(client, version) / "package.json"
        try:
            purpose, features = _trained_on(about, version.tags.get("fraudlab.package_digest"))
        except FraudlabError as error:
            found.append(UsedModel(row.name, row.version, row.aliases, problem=str(error)))
            continue
        read = features.requires
        found.append(UsedModel(row.name, row.version, row.aliases, purpose, len(features.columns), read))
    return found


def model_purposes(manifest: Mapping[str, Any], models: list[UsedModel]) -> list[str]:
    """Return the purposes that models state; without a model the usual one, where the contract has it."""
    stated = {model.purpose for model in models} or {RunConfig.model_fields["purpose"].default}
    return [name for name in manifest["purposes"] if name in stated]


def _trained_on(about: Path, digest: str | None) -> tuple[str, FeatureSet]:
    """Return the purpose and the feature set that a registered package was trained for and on."""
    try:
        written = about.read_bytes()
        facts = json.loads(written)["facts"]
        purpose, plain = str(facts["purpose"]), facts["feature_set"]
    except (OSError, ValueError, KeyError, TypeError):
        raise FraudlabError("its package cannot be read; restore mlruns/ from a backup") from None
    if digest is not None and hashlib.sha256(written).hexdigest() != digest:
        raise FraudlabError("its package is not the one that was registered; restore mlruns/ from a backup")
    return purpose, FeatureSet.from_dict(plain)


def read_answers(path: Path) -> dict[str, str]:
    """Read the answers that only a person can give; an empty one counts as not given.

    Raises
    ------
    InputError : no such file, no TOML, an answer that is no text, or one to no question; a line each.
    """
    try:
        given = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"answers: {path} cannot be read ({error.strerror}); name a file that can") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(
            f"answers {path.name}: not valid TOML: {error}; write lines such as controller = '...'"
        ) from None
    refuse(
        [
            *(
                f"answers {path.name}: no question '{n}'; {did_you_mean(n, QUESTIONS)}"
                for n in given.keys() - QUESTIONS
            ),
            *(
                f"answers {path.name}: '{name}' must be text; found {type(value).__name__}; put it in quotes"
                for name, value in given.items()
                if name in QUESTIONS and not isinstance(value, str)
            ),
        ]
    )
    return {name: value.strip() for name, value in given.items() if value.strip()}


def _coarse(manifest: dict[str, Any], purposes: list[str]) -> list[str]:
    """Return what somebody outside may know of a person, of the columns models may load: made coarser, the country."""
    described = {column["name"]: column["treatment"] for column in manifest["columns"]}
    seen = dict.fromkeys(name for purpose in purposes for name in allowed_columns(manifest, purpose))
    return [name for name in seen if name == "country" or described.get(name) == "generalise"]


def _events(events: pd.DataFrame) -> pd.DataFrame:
    return events.groupby(["purpose", "event"], as_index=False).agg(customers=("customer", "nunique"))


def _loads(workspace: Workspace, dataset: str) -> pd.DataFrame | None:
    """Count the loads of a data set by purpose; None where there is no log."""
    log = audit_log(workspace)
    if not log.path.exists():
        return None
    entries = log.entries("load")
    rows = [
        (facts.get("purpose", ""), time)
        for facts, time in zip(entries["facts"], entries["time"])
        if facts.get("dataset") == dataset
    ]
    table = pd.DataFrame(rows, columns=["purpose", "time"])
    return table.groupby("purpose", as_index=False).agg(loads=("time", "size"), last=("time", "max"))


def _gone(workspace: Workspace, dataset: str) -> pd.DataFrame | None:
    """Count what left the workspace, but for what was about another data set; None where there is no log."""
    log = audit_log(workspace)
    if not log.path.exists():
        return None
    entries = log.entries("export")
    rows = [
        (facts.get("what", "data"), facts.get("receiver", ""), time)
        for facts, time in zip(entries["facts"], entries["time"])
        if facts.get("dataset", dataset) == dataset
    ]
    table = pd.DataFrame(rows, columns=["what", "to", "time"])
    return table.groupby(["what", "to"], as_index=False).agg(times=("time", "size"), last=("time", "max"))
