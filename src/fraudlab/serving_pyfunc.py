"""The script that MLflow keeps beside a registered package and runs to load it: no pickle, no registry, no network.

`mlflow.pyfunc.load_model("models:/NAME@champion").predict(features, params={"threshold": 0.2})` ends up here, and so
does `mlflow models serve`. Features may be given, or raw transactions as the source names them. For these the project's
folder (FRAUDLAB_HOME) must be at hand: the codes of customers need its keys, their history its vault, and neither is
ever put into a registry.
"""

from __future__ import annotations

import datetime as dt
import logging
import math
import os
import threading
from typing import Any

# MLflow's own message about a wrong column type quotes the rows it was given; with this set it does not.
os.environ.setdefault("MLFLOW_DISABLE_SCHEMA_DETAILS", "true")

import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.models import set_model
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from mlflow.pyfunc import PythonModel

from fraudlab.features.words import phrase
from fraudlab.schema import FraudlabError, InputError
from fraudlab.serving import load_package

# Other columns are ignored by design; MLflow would write their names into the log at every request.
logging.getLogger("mlflow.models.utils").setLevel(logging.ERROR)


class Refusal(MlflowException):
    """A refusal whose sentence stays as it is: MLflow's server would put the rows that it was given before it."""

    @property
    def message(self) -> str:
        """The sentence."""
        return self._said

    @message.setter
    def message(self, text: str) -> None:
        self._said = getattr(self, "_said", text)


class ScoringModel(PythonModel):
    """Features, or raw transactions, in; score, risk, tier, action and reasons out, one row each."""

    def load_context(self, context: Any) -> None:
        """Read the package that lies beside this script, after checking every byte of it."""
        self.package = load_package(context.artifacts["package"])
        self._lock = threading.Lock()
        self._service: Any = None

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Score a table of features.

        Parameters
        ----------
        context : what MLflow knows about the model; not used.
        model_input : features by name; a missing column is refused by its name. Or raw transactions: each is scored
            once, in the order of the rows, and remembered as long as this process lives.
        params : threshold (where manual review begins; NaN = the package's own), reasons (explain alerts or not), lang
            (of the reasons, "en" or "zh").

        Returns
        -------
        Columns score, risk, tier, action, reasons; tier as text, reasons joined by "; " (in Chinese "；"). Of raw
        transactions also rules (ids of those that fired) and kind ("scored", "late", "repeated", "too_late").
        """
        wanted = {"threshold": math.nan, "reasons": True, "lang": "en"} | (params or {})
        given = sum(name in model_input for name in self.package.features)
        if given < len(self.package.features) / 2 and given < model_input.shape[1]:
            return self._of_raw(model_input, wanted)
        threshold = None if math.isnan(wanted["threshold"]) else wanted["threshold"]
        lang = wanted["lang"]
        scored = self.package.score(model_input, reasons=wanted["reasons"], threshold=threshold, lang=lang)
        told = scored["reasons"].map(phrase("between", lang).join).astype("str")
        return scored.assign(tier=scored["tier"].astype("str"), reasons=told)

    def _of_raw(self, rows: pd.DataFrame, wanted: dict[str, Any]) -> pd.DataFrame:
        """Score raw transactions with the history in the project's vault."""
        try:
            if not math.isnan(wanted["threshold"]):
                raise InputError("threshold: is for features; raw transactions are acted on as the run decided")
            with self._lock:
                if self._service is None:
                    self._service = self._opened()
                service = self._service
            said = service.score(_plain(rows), lang=wanted["lang"])
        except FraudlabError as error:  # one sentence for the caller, status 400
            raise Refusal(str(error), error_code=INVALID_PARAMETER_VALUE) from None
        joint = phrase("between", wanted["lang"])
        table = pd.DataFrame(said).reindex(columns=["score", "risk", "tier", "action", "reasons", "rules", "kind"])
        told = [joint.join(each) if wanted["reasons"] and isinstance(each, list) else "" for each in table["reasons"]]
        fired = [",".join(each) if isinstance(each, list) else "" for each in table["rules"]]
        return table.assign(reasons=told, rules=fired)

    def _opened(self) -> Any:
        from fraudlab.config import Workspace
        from fraudlab.scoring.live import Live
        from fraudlab.scoring.rest import Service
        from fraudlab.scoring.scorer import Deployed, Scorer, learn, load_history, open_door

        workspace, facts = Workspace.of(), self.package.facts
        name = facts.get("name") or "model"
        model = Deployed(name, "of the registry", self.package, facts.get("dataset") or name)
        door = open_door(workspace, model)
        scorer = Scorer(self.package, learn(self.package, load_history(workspace, model)))
        return Service(Live(model, scorer, door), clock=lambda: dt.datetime.now(dt.UTC))


def _plain(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """Return rows as plain values; missing ones are None, times are written out."""
    table = rows.astype(object).where(rows.notna(), None)
    return [
        {name: value.isoformat() if isinstance(value, dt.datetime) else value for name, value in row.items()}
        for row in table.to_dict("records")
    ]


set_model(ScoringModel())
