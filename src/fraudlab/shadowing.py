"""The version in shadow: score what has come in beside the champion, and decide when its days are in.

Nothing is kept from day to day: each look loads the payments of the shadow's days from the vault, with what its
customers allow today, and scores them with both models anew. The champion serves all the while, and only its cases go
to investigators.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from fraudlab import metrics, production, serving, shadow, tracking, tracking_decisions
from fraudlab.casework.queue import choose_cases, needed_columns
from fraudlab.config import RunConfig, Workspace, load_config
from fraudlab.datasets import load_transactions
from fraudlab.decision_record import KEPT, PROMOTED
from fraudlab.gate_config import GateConfig
from fraudlab.privacy.disclosure import protected
from fraudlab.privacy.keys import open_keys
from fraudlab.privacy.vault import Vault
from fraudlab.report.making import checked_reports
from fraudlab.runs import Run
from fraudlab.schema import InputError, utc
from fraudlab.tracking import registered_package

WAITING, OVER, ENDED = "waiting", "over", "ended"
"""Days are still to come; all are in; it cannot go on."""


@dataclass(frozen=True)
class Seen:
    """What a look at the shadow found: which days are in, the tables as they may leave, the rows that judge it.

    `state` is waiting, over or ended; `reason` why it ended. `record` is the decision, where one was made.
    """

    model: str
    version: str
    champion: str
    first_day: str
    last_day: str
    days: int
    days_in: int
    state: str
    reason: str = ""
    tables: dict[str, pd.DataFrame] = field(default_factory=dict, repr=False)
    gate: list[dict[str, Any]] = field(default_factory=list, repr=False)
    record: dict[str, Any] | None = field(default=None, repr=False)

    @property
    def said(self) -> str:
        """The look in a sentence."""
        if self.record is not None:
            why = f": {self.record['reasons'][0]}" if self.record["decision"] == KEPT else ""
            return f"the shadow of version {self.version} is over: {self.record['headline']}{why}"
        if self.state == ENDED:
            return f"version {self.version} cannot stay in shadow: {self.reason}"
        days = f"{self.days_in} of {self.days} days are in"
        if self.state == OVER:
            return f"version {self.version} in shadow: {days}; it can be decided"
        return f"version {self.version} is in shadow until {self.last_day}: {days}"


def look(
    config: RunConfig,
    workspace: Workspace,
    *,
    as_of: pd.Timestamp | None = None,
    progress: Callable[[str], None] = lambda text: None,
) -> Seen | None:
    """Score the days in shadow with both models and judge what is there; changes nothing.

    Parameters
    ----------
    config : names the model and data set, whose cases are counted, how many a day can be reviewed, and the seed. The
        limits are those that were written down when the shadow began.
    as_of : what is known; default: all that the vault held when the file was ingested last.
    progress : is told what is being done.

    Returns
    -------
    None where no version is in shadow. Tables, none where it has ended: shadow (`shadow.disagreement`) and, where
    enough labels are known, shadow_comparison: the differences of `metrics.compare`, because over a few days the values
    themselves tell small counts.

    Raises
    ------
    InputError : the purpose may not see a column that a model reads; the champion's package is damaged.
    """
    client = tracking.open_store(workspace)
    stands = tracking_decisions.in_shadow(client, config.name)
    if stands is None:
        return None
    keys = ("champion", "first_day", "last_day", "days")
    told = {"model": config.name, "version": stands["version"], **{key: stands[key] for key in keys}}
    vault = Vault(workspace.vault, open_keys(workspace))
    manifest = vault.manifest(config.dataset.name)
    moment = _moment(as_of, manifest)
    if why := _why_it_ends(client, config, workspace, stands, moment):
        return Seen(**told, days_in=0, state=ENDED, reason=why)
    try:
        _, _, challenger = registered_package(workspace, f"{config.name}/{stands['version']}")
    except InputError as error:
        return Seen(**told, days_in=0, state=ENDED, reason=str(error))
    _, _, champion = registered_package(workspace, f"{config.name}/{stands['champion']}")
    packages = {"challenger": challenger, "champion": champion}
    start, end = (pd.Timestamp(stands[key], tz="UTC") for key in ("first_day", "last_day"))
    end += pd.Timedelta(days=1)
    # Whole days only: the best cases of a day are known when it is over.
    payments, scores = _scored(config, workspace, packages, as_of, (start, min(end, moment.floor("D"))), progress)
    gate = GateConfig.model_validate(stands["gate"])
    table, comparison, days_in = _judged(config, packages, payments, scores)
    if not shadow.value_of(table, "labels_known") >= gate.min_known_labels:
        comparison = None  # of a handful of payments, most of them frauds that were reported early
    there = days_in and payments["event_time"].max() >= end - pd.Timedelta(days=1)
    return Seen(
        **told,
        days_in=days_in,
        state=OVER if there and moment >= end else WAITING,
        tables={"shadow": protected("shadow", table)}
        | ({} if comparison is None else {"shadow_comparison": comparison[comparison["model"] == "difference"]}),
        gate=shadow.shadow_gate(table, gate, comparison=comparison),
    )


def settle(
    config: RunConfig,
    workspace: Workspace,
    *,
    as_of: pd.Timestamp | None = None,
    progress: Callable[[str], None] = lambda text: None,
) -> Seen | None:
    """Look at the shadow and decide where its days are in, or it cannot go on; call it under the project's lock.

    The decision is a record that names the one before it. It goes into the evidence and the report of the run that made
    the version, into the registry and the audit log; the champion's alias moves after all that, the shadow's last.

    Parameters
    ----------
    config, workspace, as_of, progress : as in `look`.

    Returns
    -------
    As `look`, with `record` where it was decided.

    Raises
    ------
    InputError : as in `look`; another version became champion meanwhile.
    FraudlabError : a raw identifier was found in what would be reported; nothing is decided.
    """
    seen = look(config, workspace, as_of=as_of, progress=progress)
    if seen is None or seen.state == WAITING:
        return seen
    client = tracking.open_store(workspace)
    stands = tracking_decisions.in_shadow(client, config.name)
    if stands is None:
        return seen
    if seen.reason == _SERVES:  # by hand, or a kill right before the alias was taken back
        tracking_decisions.end_shadow(client, config.name)
        return None
    passed = seen.state == OVER and all(row["passed"] for row in seen.gate)
    record = production.concluded(
        client,
        config.name,
        stands,
        decision=PROMOTED if passed else KEPT,
        gate=seen.gate,
        reason=seen.reason,
        seen=_figures(seen),
    )
    progress("writing what was decided")
    _write_evidence(client, config, workspace, seen, record)
    production.carry_out(workspace, record, config_digest=record["made_from"].get("config_digest"))
    return Seen(**{key: value for key, value in vars(seen).items() if key != "record"}, record=record)


def config_of(workspace: Workspace, name: str) -> RunConfig | None:
    """Return the config of the run that made the version in shadow, without its moment; None where none is in shadow.

    Raises
    ------
    InputError : its run's folder is gone.
    """
    client = tracking.open_store(workspace)
    stands = tracking_decisions.in_shadow(client, name)
    if stands is None:
        return None
    run_id = client.get_run(client.get_model_version(name, stands["version"]).run_id).info.run_name
    path = workspace.runs / run_id / "config.toml"
    if not path.is_file():
        raise InputError(f"config: the run of version {stands['version']} is gone, {run_id}; name one with --config")
    return load_config(path).model_copy(update={"as_of": None})


def overview(table: pd.DataFrame) -> pd.DataFrame:
    """Lay the disagreement out for reading: a row per group of cases, a column per measure; "–" where not shown."""
    wide = table[table["group"].isin(shadow.HELD)].pivot(index="group", columns="metric", values="value")
    wide = wide.loc[list(shadow.HELD), list(shadow.MEASURES)]
    return wide.map(lambda value: "–" if pd.isna(value) else f"{value:,.0f}").reset_index(names="alerted by")


def seen_json(seen: Seen) -> dict[str, Any]:
    """Return a look as JSON can hold it; figures that may not leave, or are not there, are None."""
    told = {key: value for key, value in vars(seen).items() if key != "tables"}
    tables = {
        name: table.astype(object).where(table.notna(), None).to_dict("records") for name, table in seen.tables.items()
    }
    return told | {"tables": tables, "said": seen.said}


_SERVES = "it is the champion"


def _why_it_ends(
    client: Any, config: RunConfig, workspace: Workspace, stands: Mapping[str, Any], moment: pd.Timestamp
) -> str:
    """Return why a version cannot stay in shadow, "" where it can."""
    serving_now = (tracking.champion(client, config.name) or {}).get("version")
    if serving_now == stands["version"]:
        return _SERVES
    if serving_now != stands["champion"]:
        return (
            f"it stood beside version {stands['champion']}, and the champion is {serving_now or 'none'} by now: "
            "what was shown says nothing of that one"
        )
    due = {each["version"]: each for each in tracking.mark_retrain_due(workspace) if each["name"] == config.name}
    if due.get(stands["version"], {}).get("customers"):
        return f"it is due to be replaced: {due[stands['version']]['reason']}"
    if moment < (known := utc(stands["known"], "known")):
        return (
            f"what is known now ends at {moment:%Y-%m-%d %H:%M}, before it was trained ({known:%Y-%m-%d %H:%M}): "
            "the clock or the data went back"
        )
    return ""


def _moment(as_of: pd.Timestamp | None, manifest: Mapping[str, Any]) -> pd.Timestamp:
    """Return what is known: as asked, when the file was ingested, else the end of the last payment's day."""
    if as_of is not None:
        return utc(as_of, "as_of")
    if manifest.get("known_at") is not None:
        return utc(manifest["known_at"], "known_at")
    return (utc(manifest["last"], "last") + pd.Timedelta(microseconds=1)).ceil("D")


def _scored(
    config: RunConfig,
    workspace: Workspace,
    packages: Mapping[str, serving.Package],
    as_of: pd.Timestamp | None,
    days: tuple[pd.Timestamp, pd.Timestamp],
    progress: Callable[[str], None],
) -> tuple[pd.DataFrame, dict[str, np.ndarray]]:
    """Return the payments of the days and each model's scores of them."""
    needed = [name for package in packages.values() for name in needed_columns(package)]
    columns = list(dict.fromkeys([*needed, config.split.entity, "is_fraud"]))
    progress("loading the payments")
    transactions = load_transactions(
        config.dataset.name, purpose=config.purpose, as_of=as_of, columns=columns, workspace=workspace
    )
    time = transactions["event_time"]
    where = np.flatnonzero((time >= days[0]) & (time < days[1]))
    scores: dict[str, np.ndarray] = {}
    made: tuple[Any, pd.DataFrame] = (None, pd.DataFrame())  # two models of one feature set share its features
    for name, package in packages.items():
        progress(f"scoring {len(where):,} payments with the {name}")
        reads = (package.feature_set.to_dict(), package.categories)
        if made[0] != reads:
            made = reads, package.features_of(transactions).iloc[where].reset_index(drop=True)
        scores[name] = package.score(made[1], reasons=False)["score"].to_numpy(dtype=float)
    return transactions.iloc[where].reset_index(drop=True), scores


def _judged(
    config: RunConfig,
    packages: Mapping[str, serving.Package],
    payments: pd.DataFrame,
    scores: Mapping[str, np.ndarray],
) -> tuple[pd.DataFrame, pd.DataFrame | None, int]:
    """Return the table of disagreement, the paired comparison where labels are known, and the days with payments."""
    entity, decision = payments[config.split.entity], config.decision
    alerted = {name: np.zeros(len(payments), dtype=bool) for name in packages}
    for name, package in packages.items():
        alerted[name][
            choose_cases(
                scores[name],
                payments["event_time"],
                entity,
                threshold=package.thresholds.review,
                per_day=decision.alerts_per_day,
            )
        ] = True
    days_in = int(payments["event_time"].dt.floor("D").nunique())
    known = payments["is_fraud"].notna().to_numpy()
    table = shadow.disagreement(
        shadow.cases(payments.assign(entity=entity), alerted),
        scores["champion"],
        scores["challenger"],
        labels_known=float(known.mean()) if len(known) else np.nan,
        days=days_in,
    )
    if not known.any():
        return table, None, days_in
    comparison = metrics.compare(
        payments.loc[known, "is_fraud"].astype(int),
        scores["challenger"][known],
        scores["champion"][known],
        event_time=payments.loc[known, "event_time"],
        entity=entity[known],
        amount=payments.loc[known, "amount"].to_numpy(),
        k=decision.alerts_per_day,
        seed=config.seed,
        views=("overall",),
    )
    return table, comparison, days_in


def _figures(seen: Seen) -> dict[str, Any]:
    """Return the figures of the shadow that its record repeats: as they may leave, None where they may not."""
    told: dict[str, Any] = {"days_in": seen.days_in}
    if "shadow" in seen.tables:
        for name in ("flipped_share", "agreement", "rank_correlation", "labels_known"):
            value = shadow.value_of(seen.tables["shadow"], name)
            told[name] = round(value, 6) if np.isfinite(value) else None
    return told


def _write_evidence(
    client: Any, config: RunConfig, workspace: Workspace, seen: Seen, record: Mapping[str, Any]
) -> None:
    """Put tables and record beside the evidence of the run that made the version, and report anew, if it is still here.

    Where its folder is gone the record in the registry and the audit log are all there is.
    """
    found = client.get_model_version(config.name, seen.version)
    try:
        run_id = client.get_run(found.run_id).info.run_name
        run = Run(workspace.runs / run_id, config, workspace)
        if run.load_json("run").get("model_version") != seen.version:  # written over since, as in JupyterLab
            return
    except InputError:
        return
    run.save_tables(seen.tables)
    run.save_json("decision", record)
    checked_reports(run)
    tracking.log_folder(client, found.run_id, run.evidence, "evidence")
    for path in run.report_files():
        tracking.log_folder(client, found.run_id, path, "report")
