"""From a raw table under canonical names to the columns that may be loaded: checks first, then each treatment.

Ingest treats whole tables with this, a correction of one value treats that value with it, so that both come out alike.
"""

from __future__ import annotations

import re

import pandas as pd

from fraudlab.datasets.contracts import MOVEMENT, Contract, ContractColumn
from fraudlab.datasets.readers import spoken
from fraudlab.privacy import masking, treatments
from fraudlab.schema import BY_NAME, InputError, conform, refuse, sort_transactions

PSEUDONYM_KEY = "pseudonym"


def checked(frame: pd.DataFrame, contract: Contract, now: pd.Timestamp | None, where: str) -> pd.DataFrame:
    """Return the raw table in canonical form, or refuse it in the source's words."""
    event_time = frame["event_time"]
    delayed = contract.label_delay_days is not None and "is_fraud" in frame
    if delayed and isinstance(event_time.dtype, pd.DatetimeTZDtype):
        known = event_time + pd.Timedelta(days=contract.label_delay_days)
        frame = frame.assign(label_time=known.where(frame["is_fraud"].notna()))
    try:
        return conform(frame, now=now, where=where)
    except InputError as error:
        names = {column.name: spoken(column) for column in contract.columns}
        lines = [
            re.sub(r"column '(\w+)'", lambda found: names.get(found[1], found[0]), line, count=1)
            for line in str(error).split("\n")
        ]
        raise InputError("\n".join(lines)) from None


def refuse_hidden_identifiers(raw: pd.DataFrame, contract: Contract, where: str) -> None:
    """Refuse text that would be kept as it is and holds likely identifiers; the declared meaning is wrong then."""
    problems = []
    for column in contract.columns:
        if column.treatment == "keep" and column.type == "text" and column.name in raw:
            _, counts = masking.mask(raw[column.name])
            told = ", ".join(f"{n:,} {kind}" for kind, n in counts.items() if n)
            if told:
                problems.append(
                    f"{where}: {spoken(column)} must hold no identifiers to be kept as it is; found what looks like "
                    f"{told}; take treatment 'mask' in the contract"
                )
    refuse(problems)


def treated(raw: pd.DataFrame, contract: Contract, key: treatments.Key) -> pd.DataFrame:
    """Return the columns that may be loaded, treated, in canonical order and in the total order, with raw's index."""
    last_day = raw["event_time"].iloc[-1].tz_localize(None).normalize()
    if any(column.how in MOVEMENT for column in contract.columns):
        moved = treatments.movement(raw)
        raw = raw.assign(**{c.name: moved[c.how] for c in contract.columns if c.how in MOVEMENT})
    found = {column.name: treat(raw[column.name], column, key, last_day) for column in contract.columns}
    if "label_time" in raw:
        found["label_time"] = raw["label_time"]
    order = [name for name in (*BY_NAME, *contract.extras) if found.get(name) is not None]
    features = pd.DataFrame({name: found[name] for name in order})
    if any(column.name == "transaction_id" and column.treatment != "keep" for column in contract.columns):
        # The total order is that of what a loader sees.
        features = sort_transactions(features.assign(_row=features.index)).set_index("_row").rename_axis(None)
    return features


def treat(values: pd.Series, column: ContractColumn, key: treatments.Key, last_day: pd.Timestamp) -> pd.Series | None:
    """Return a column treated as its contract says; None where it is not part of the loadable table."""
    match column.treatment, column.how:
        case ("keep" | "mask", _) | ("generalise", "distance" | "speed"):  # masked and computed before
            return values
        case "pseudonymise", _:
            return treatments.pseudonymise(values, key, column.name, form=column.form)
        case "generalise", "grid":
            return treatments.grid(values, column.step)
        case "generalise", "prefix":
            return treatments.prefix(values, column.characters)
        case "generalise", "age-band":
            return treatments.age_band(values, pd.Timestamp(column.reference) if column.reference else last_day)
        case "generalise", "bin":
            return treatments.card_bin(values, **column.options)
        case "generalise", "email-domain":
            return treatments.email_domain(values)
        case "generalise", "network":
            return treatments.network(values, **column.options)
        case _:
            return None
