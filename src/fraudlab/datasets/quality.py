"""How good a loaded table is, and how far it singles people out: two tables of evidence, with no value of a person."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from fraudlab.metrics import SMALLEST_CELL
from fraudlab.privacy.anonymity import risk_table
from fraudlab.schema import BY_NAME, require_columns

OUTER = 0.01
"""The share of values beyond the low and the high quantile; with fewer than 10 payments beyond one it is not given."""
LABELS = ("is_fraud", "label_time")
ANONYMITY = ("unit", "columns", "units", "k_anonymity", "share_alone", "share_below", "distinct_l", "t_closeness")


def data_quality(transactions: pd.DataFrame) -> pd.DataFrame:
    """Table what each column of a load holds: how much is missing, how many different values, where numbers lie.

    Parameters
    ----------
    transactions : as of `load_transactions`.

    Returns
    -------
    DataFrame, a row per column but the label's: column, missing (share; NaN where fewer than 10 payments lack it or
    fewer than 10 have it), distinct (number of different values), low, median, high (1 %, 50 % and 99 % of a number;
    NaN for others, and low and high where fewer than 10 payments lie beyond), note. The last row, "(payments)", says
    in its note how many payments repeat an earlier one in customer, moment, amount and merchant.

    >>> frame = pd.DataFrame({"event_time": pd.to_datetime(["2026-01-01"] * 40, utc=True), "customer_id": ["a"] * 40,
    ...                       "amount": [float(n) for n in range(40)], "channel": [None] * 20 + ["web"] * 20})
    >>> data_quality(frame)[["column", "missing", "distinct", "median"]]
            column  missing  distinct  median
    0   event_time      0.0         1     NaN
    1  customer_id      0.0         1     NaN
    2       amount      0.0        40    19.5
    3      channel      0.5         1     NaN
    4   (payments)      NaN      <NA>     NaN
    """
    require_columns(transactions, ["event_time", "customer_id", "amount"], where="data_quality")
    rows = [_column(name, transactions[name]) for name in transactions.columns if name not in LABELS]
    table = pd.DataFrame(rows, columns=["column", "missing", "distinct", "low", "median", "high", "note"])
    table.loc[len(table)] = ["(payments)", np.nan, None, np.nan, np.nan, np.nan, _repeats(transactions)]
    return table.astype({"distinct": "Int64"})


def _column(name: str, values: pd.Series) -> dict[str, Any]:
    lacking, there, notes = int(values.isna().sum()), int(values.notna().sum()), []
    row = {"column": name, "missing": lacking / max(len(values), 1), "distinct": int(values.nunique())}
    if any(0 < n < SMALLEST_CELL for n in (lacking, there)):
        row["missing"] = np.nan
        notes.append("not shown: fewer than 10 payments lack it, or have it")
    if there and row["distinct"] == 1:
        notes.append("one value only: it tells nothing")
    low = median = high = np.nan
    if pd.api.types.is_numeric_dtype(values.dtype) and not pd.api.types.is_bool_dtype(values.dtype) and there:
        median = float(values.median())
        if there * OUTER >= SMALLEST_CELL:
            low, high = (float(values.quantile(share)) for share in (OUTER, 1 - OUTER))
    return row | {"low": low, "median": median, "high": high, "note": "; ".join(notes)}


def _repeats(transactions: pd.DataFrame) -> str:
    keys = [name for name in ("customer_id", "event_time", "amount", "merchant_id") if name in transactions]
    found = int(transactions.duplicated(keys).sum())
    if 0 < found < SMALLEST_CELL:
        return "fewer than 10 payments repeat an earlier one in customer, moment, amount and merchant"
    said = f"{found:,} payments" if found else "no payment"
    return f"{said} repeat{'' if found else 's'} an earlier one in customer, moment, amount and merchant"


def personal_columns(described: Sequence[dict[str, Any]], allowed: Sequence[str]) -> list[str]:
    """Return the columns that somebody may know of a person: made coarser, the country, and the contract's own.

    Parameters
    ----------
    described : the columns as manifest and data.json describe them (name, treatment, type).
    allowed : the columns that the purpose may load.

    >>> personal_columns([{"name": "age_band", "treatment": "generalise", "type": "text"},
    ...                   {"name": "amount", "treatment": "keep", "type": "number"}], ["age_band", "amount"])
    ['age_band']
    """
    known = {column["name"]: column for column in described}
    return [
        name
        for name in allowed
        if name == "country"
        or known[name]["treatment"] == "generalise"
        or (name not in BY_NAME and known[name]["treatment"] == "keep" and known[name]["type"] != "time")
    ]


def anonymity(transactions: pd.DataFrame, facts: dict[str, Any]) -> pd.DataFrame:
    """Table how far the coarse personal columns of a load single out its customers and its payments.

    Parameters
    ----------
    transactions : as of `load_transactions`.
    facts : of `dataset_facts`, for the columns and what they hold.

    Returns
    -------
    DataFrame `ANONYMITY`, rows "customers" and "payments": columns (names, separated by spaces), units, k_anonymity,
    share_alone, share_below (in groups below 10), distinct_l and t_closeness of fraud or not (NaN where no label was
    loaded); see `fraudlab.privacy.anonymity.risk_table`. No rows where the purpose sees no such column.
    """
    known = [name for name in personal_columns(facts["columns"], facts["purpose_columns"]) if name in transactions]
    rows = []
    for said, unit in (("customers", "customer_id"), ("payments", None)) if known and len(transactions) else ():
        sensitive = [name for name in ("is_fraud",) if name in transactions]
        risk = risk_table(transactions, known, sensitive=sensitive, unit=unit, k=SMALLEST_CELL)
        told = risk.sensitive.iloc[0] if len(risk.sensitive) else {"distinct_l": np.nan, "t_closeness": np.nan}
        shares = (risk.alone / risk.units, risk.share_below)
        rows.append(
            (said, " ".join(known), risk.units, risk.k_anonymity, *shares, told["distinct_l"], told["t_closeness"])
        )
    return pd.DataFrame(rows, columns=list(ANONYMITY))
