"""The script that MLflow keeps beside a registered package and runs to load it: no pickle, no registry, no network.

`mlflow.pyfunc.load_model("models:/NAME@champion").predict(features, params={"threshold": 0.2})` ends up here.
"""

from __future__ import annotations

import logging
import math
import os
from typing import Any

# MLflow's own message about a wrong column type quotes the rows it was given; with this set it does not.
os.environ.setdefault("MLFLOW_DISABLE_SCHEMA_DETAILS", "true")

import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel

from fraudlab.features.words import phrase
from fraudlab.serving import load_package

# Other columns are ignored by design; MLflow would write their names into the log at every request.
logging.getLogger("mlflow.models.utils").setLevel(logging.ERROR)


class ScoringModel(PythonModel):
    """Features in; score, risk, tier, action and reasons out, one row each."""

    def load_context(self, context: Any) -> None:
        """Read the package that lies beside this script, after checking every byte of it."""
        self.package = load_package(context.artifacts["package"])

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Score a table of features.

        Parameters
        ----------
        context : what MLflow knows about the model; not used.
        model_input : features by name; a missing column is refused by its name.
        params : threshold (where manual review begins; NaN = the package's own), reasons (explain alerts or not), lang
            (of the reasons, "en" or "zh").

        Returns
        -------
        Columns score, risk, tier, action, reasons; tier as text, reasons joined by "; " (in Chinese "；").
        """
        wanted = {"threshold": math.nan, "reasons": True, "lang": "en"} | (params or {})
        threshold = None if math.isnan(wanted["threshold"]) else wanted["threshold"]
        lang = wanted["lang"]
        scored = self.package.score(model_input, reasons=wanted["reasons"], threshold=threshold, lang=lang)
        told = scored["reasons"].map(phrase("between", lang).join).astype("str")
        return scored.assign(tier=scored["tier"].astype("str"), reasons=told)


set_model(ScoringModel())
