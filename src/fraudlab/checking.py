"""The numbered checks asked about a run: of its features before anything is trained, of its model before the gate."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from fraudlab import explain, recipe, training
from fraudlab.checks import CHECKS, Finding, waive
from fraudlab.config import ModelConfig, RunConfig, Workspace
from fraudlab.datasets import load_transactions
from fraudlab.features.audit import audit_leakage
from fraudlab.features.sets import configured_set, named_set
from fraudlab.gate import Incumbent
from fraudlab.recipe import Prepared
from fraudlab.training import FittedModel

SHOWN = ("FL006", "FL008", "FL010", "FL011", "FL013", "FL020")
"""Checks whose tables are evidence of their own; the tables of the others are in the evidence already, or count people
and stay in the run."""

PARTS = {"training": "train", "validation": "valid", "refit": "refit", "test": "test"}
"""What sentences call the parts of a fold."""

QUICK = ModelConfig(n_estimators=60, early_stopping_rounds=0, learning_rate=0.2, min_child_weight=5, max_bin=64)
"""The small booster that ranks features beside planted noise."""

PLANTINGS, GENUINE_PER_FRAUD, MOST_ROWS, RANKED_ROWS = 3, 20, 25_000, 2_000


def audit_features(prepared: Prepared, config: RunConfig, *, rows: int = 10_000) -> dict[str, Finding]:
    """Ask the numbered checks whether the features see only the past and will last, on rows before the test alone.

    Parameters
    ----------
    prepared : what the model will be trained on.
    config : its seed draws the sample, its split says whose rows belong together.
    rows : how many payments at most the leakage audit uses; a retraining must not wait long for it.

    Returns
    -------
    Finding per name of its evidence: leakage, from the payments before the test; time_consistency and stability, from
    the part the final model learns from, cut into halves and into weeks (halves, where it is a week or less); alone,
    from that part as a whole.
    """
    before = prepared.transactions["event_time"] < prepared.fold.test_start
    part = prepared.rows("refit")
    moments = part["transactions"]["event_time"]
    numbers = part["features"][list(prepared.feature_set.columns)]
    weeks = moments.iloc[-1] - moments.iloc[0] > pd.Timedelta(days=7)
    return {
        "leakage": CHECKS["FL001"](
            prepared.feature_set, prepared.transactions[before], rows=rows, by=config.split.entity, seed=config.seed
        ),
        "time_consistency": CHECKS["FL002"](
            numbers, part["y"], moments, entity=part["transactions"][config.split.entity]
        ),
        "stability": CHECKS["FL003"](numbers, moments, period="7d" if weeks else 2),
        "alone": CHECKS["FL005"](recipe.single_feature_ranking(prepared), config.features.confirmed),
    }


def leakage_table(config: RunConfig, workspace: Workspace, *, cuts: int = 5, rows: int = 20_000) -> pd.DataFrame:
    """Audit a run's feature set on what the vault holds, without a run; the table of `audit_leakage`.

    Raises
    ------
    InputError : the data set is not in the vault, a column the features need is missing, an argument is out of range.
    """
    named_set(config.features.set)  # an unknown name is refused before anything is loaded
    transactions = load_transactions(
        config.dataset.name, purpose=config.purpose, as_of=config.as_of_time, workspace=workspace
    )
    feature_set, _ = configured_set(config.features, transactions)
    return audit_leakage(feature_set, transactions, cuts=cuts, rows=rows, by=config.split.entity, seed=config.seed)


def features_to_watch(findings: Mapping[str, Finding], prepared: Prepared) -> pd.DataFrame:
    """Table each feature's fate over the training period: turned ones first, then faded ones, then by drift.

    Columns: feature, label, verdict, auc_first, auc_last, psi (its largest), reading.
    """
    alone = findings["time_consistency"].table
    drift = findings["stability"].table.groupby("feature")["psi"].max()
    label = prepared.feature_set.describe().set_index("column")["label"]
    table = alone[["feature", "verdict", "auc_first", "auc_last"]].assign(
        label=alone["feature"].map(label), psi=alone["feature"].map(drift)
    )
    order = table["verdict"].map({"turns round": 0, "fades": 1}).fillna(2)
    ranked = table.assign(order=order).sort_values(["order", "psi"], ascending=[True, False], kind="stable")
    return ranked[["feature", "label", "verdict", "auc_first", "auc_last", "psi"]].reset_index(drop=True)


def run_checks(
    prepared: Prepared,
    candidate: FittedModel,
    scores: pd.DataFrame,
    config: RunConfig,
    *,
    evidence: Mapping[str, pd.DataFrame],
    champion: Incumbent | None = None,
    n_boot: int = 200,
) -> dict[str, Finding]:
    """Ask every check that is asked of a model, after its evaluation and before the gate.

    Parameters
    ----------
    prepared : what it was trained on.
    candidate : the model that wants the champion's place.
    scores : of the test part, from `recipe.score_part`.
    config : its gate says what is waived and how old a model may be.
    evidence : every table of the run's evidence so far under its name; a check whose table is absent says so.
    champion : the champion at work, None where there is none.
    n_boot : bootstrap replicates of the loss from training to test.

    Returns
    -------
    Finding per code, FL006 to FL023. Nothing is fitted on the test part, and nothing chosen by it.

    Raises
    ------
    InputError : `gate.waive` names a check that cannot be waived.
    """
    name, fold, entity = config.model.kind, prepared.fold, config.split.entity
    parts = {said: prepared.rows(part) for said, part in PARTS.items()}
    learnt, test = parts["refit"], parts["test"]
    learnt_score = candidate.score(learnt["features"])
    known_until = prepared.transactions[["event_time", "label_time"]].max().max()
    moments = pd.concat([part["transactions"]["event_time"] for part in (learnt, test)], ignore_index=True)
    inputs = pd.concat([part["features"] for part in (learnt, test)], ignore_index=True)
    some = prepared.features.iloc[fold.test[:200]].reset_index(drop=True)
    findings = (
        CHECKS["FL006"](
            prepared.transactions, {"training": (fold.refit, fold.test_start), "test": (fold.test, known_until)}
        ),
        CHECKS["FL007"]({part: (rows["y"], rows["transactions"][entity]) for part, rows in parts.items()}),
        CHECKS["FL008"](
            (learnt["y"], learnt_score, learnt["transactions"][entity]),
            (test["y"], scores[name].to_numpy(), test["transactions"][entity]),
            n_boot=n_boot,
            seed=config.seed,
        ),
        CHECKS["FL009"](evidence.get("calibration_error"), name),
        CHECKS["FL010"](inputs, moments, fold.test_start),
        CHECKS["FL011"](evidence.get("comparison"), name),
        CHECKS["FL012"](evidence.get("reason_stability")),
        CHECKS["FL013"](
            learnt["transactions"],
            test["transactions"],
            inputs=(learnt["features"], test["features"]),
            entity=entity,
            victims_excluded=config.split.exclude_known_compromised,
        ),
        CHECKS["FL014"](evidence.get("membership")),
        CHECKS["FL015"](evidence),
        CHECKS["FL016"](candidate.inputs, some, categories=config.features.categories, score=candidate.score),
        CHECKS["FL017"](evidence.get("test_looks"), evidence.get("metrics"), name),
        CHECKS["FL018"](ages(prepared, config, champion), config.gate.max_age_days),
        CHECKS["FL019"](evidence.get("champion_comparison")),
        CHECKS["FL020"](planted_noise(prepared, config)),
        CHECKS["FL021"](prepared.transactions["event_time"]),
        CHECKS["FL022"](prepared.transactions),
        CHECKS["FL023"](prepared.transactions, known_until - pd.Timedelta(days=config.split.delay_days)),
    )
    return waive({finding.code: finding for finding in findings}, config.gate.waive, config.gate.waived_because)


def shown_tables(findings: Mapping[str, Finding]) -> dict[str, pd.DataFrame]:
    """Return the tables of checks that are evidence of their own, under their names: check_FL008.

    A check that was not applicable has none: its sentence in checks.json says why.
    """
    return {
        f"check_{code}": finding.table
        for code, finding in findings.items()
        if code in SHOWN and finding.result != "not applicable"
    }


def ages(prepared: Prepared, config: RunConfig, champion: Incumbent | None = None) -> pd.DataFrame:
    """Table how old candidate and champion are: model, learnt_until, as_of, age_days (missing where it is not known).

    Age runs to the config's `as_of`, else to the last payment: a look back judges what was known then.
    """
    as_of = config.as_of_time if config.as_of_time is not None else prepared.transactions["event_time"].max()
    until = {"candidate": prepared.fold.refit_end}
    if champion is not None:
        until["champion"] = pd.NaT if champion.learnt_until is None else champion.learnt_until
    table = pd.DataFrame({"model": list(until), "learnt_until": pd.to_datetime(list(until.values()), utc=True)})
    age = (as_of - table["learnt_until"]) / pd.Timedelta(days=1)
    return table.assign(as_of=as_of, age_days=age.astype("float64"))


def planted_noise(prepared: Prepared, config: RunConfig, *, plantings: int = PLANTINGS) -> pd.DataFrame:
    """Rank the features beside copies of them whose values were dealt out anew, by a small booster.

    Parameters
    ----------
    prepared : only the part the final model learns from is read: its frauds and some genuine payments.
    config : its seed draws the rows and deals the values; its categories stay categories.
    plantings : how often values are dealt out and the booster is fitted; importances are means over these.

    Returns
    -------
    DataFrame: feature, importance (mean absolute contribution in log-odds), planted. A copy has the values of its
    feature in another order, so that it looks like it and knows nothing. It answers for features in general: the model
    itself never sees a copy.
    """
    rng = np.random.default_rng(config.seed)
    part = prepared.rows("refit")
    fraud = np.flatnonzero(part["y"])[:MOST_ROWS]
    genuine = np.flatnonzero(part["y"] == 0)
    wanted = min(GENUINE_PER_FRAUD * len(fraud), max(MOST_ROWS - len(fraud), len(fraud)), len(genuine))
    rows = np.sort(np.concatenate([fraud, rng.choice(genuine, size=wanted, replace=False)]))
    real, y = part["features"].iloc[rows].reset_index(drop=True), part["y"][rows]
    names = {column: f"{column}, shuffled" for column in real.columns}
    categories = [column for column in config.features.categories if column in real.columns]
    looked = np.sort(rng.choice(len(real), size=min(RANKED_ROWS, len(real)), replace=False))
    total = 0.0
    for planting in range(plantings):
        copies = pd.DataFrame(
            {copy: real[column].to_numpy()[rng.permutation(len(real))] for column, copy in names.items()}
        )
        both = pd.concat([real, copies.astype(dict(zip(names.values(), real.dtypes)))], axis=1)
        model = training.fit_estimator(
            both,
            y,
            model=QUICK,
            seed=config.seed + planting,
            threads=1,  # small fits wait for one another's threads longer than they work
            categories=[*categories, *(names[column] for column in categories)],
        )
        total = total + explain.contributions(model, both.iloc[looked]).drop(columns="base").abs().mean() / plantings
    planted = set(names.values())
    table = pd.DataFrame({"feature": total.index, "importance": total.to_numpy(dtype=float)})
    return table.assign(planted=table["feature"].isin(planted))
