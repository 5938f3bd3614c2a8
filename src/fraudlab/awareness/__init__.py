"""Pages that teach people to notice fraud: how each kind looks in the data, what to do, what the model found of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fraudlab import recipe
from fraudlab.awareness.cases import invented_cases
from fraudlab.awareness.findings import apart, found_by_kind, given_reasons
from fraudlab.awareness.pages import LANGUAGES, Findings, write_pages
from fraudlab.config import SimulateConfig
from fraudlab.datasets import load_transactions
from fraudlab.decisions import TIERS, Thresholds, assign_tiers
from fraudlab.runs import Run
from fraudlab.schema import InputError

REVIEW, KIND = "typology-review", "fraud_scenario"


def find(run: Run) -> Findings:
    """Measure, on the test of a finished run, what its candidate found of each kind of fraud.

    The kind is loaded for the purpose "typology-review", after the fact; the model has never seen it.

    Raises
    ------
    InputError : the data set does not tell kinds of fraud.
    """
    config = run.config
    prepared = recipe.prepare(config, run.workspace)
    try:
        kinds = load_transactions(
            config.dataset.name,
            purpose=REVIEW,
            columns=["transaction_id", KIND],
            as_of=config.as_of_time,
            workspace=run.workspace,
        )
    except InputError as error:
        raise InputError(
            f"awareness: the data set must tell the kind of each fraud, in column {KIND} for purpose {REVIEW}; {error}"
        ) from None
    test = prepared.rows("test")
    kind = test["transactions"]["transaction_id"].map(kinds.set_index("transaction_id")[KIND]).fillna("")
    model = run.load_models()[run.load_json("run")["candidate"]]
    score, thresholds = model.score(test["features"]), Thresholds.from_dict(run.load_json("thresholds"))
    budget = config.decision.alerts_per_day
    suspicious = np.asarray(assign_tiers(score, thresholds).codes) > list(TIERS).index("low")
    words = {language: model.words(prepared.feature_set.describe(language)) for language in LANGUAGES}
    return Findings(
        run=run.folder.name,
        budget=budget,
        found=found_by_kind(kind, score, test["transactions"], thresholds, budget),
        apart=apart(kind, test["features"], words["en"]),
        reasons=given_reasons(kind, test["features"], model, words["en"], suspicious),
        words=words,
    )


def write(run: Run, folder: Path, command: str) -> list[Path]:
    """Write the awareness pages of a finished run into a folder and return them; pictures show invented people."""
    simulated = run.config.dataset.simulate or SimulateConfig()
    return write_pages(folder, invented_cases(simulated, run.config.seed), find(run), command)
