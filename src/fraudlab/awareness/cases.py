"""One invented case of each kind of fraud, cut out of the simulator's payments for a picture: nobody in it exists."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from fraudlab.config import SimulateConfig
from fraudlab.datasets.simulate import simulate
from fraudlab.datasets.typologies import TYPOLOGIES
from fraudlab.datasets.world import kilometres


@dataclass(frozen=True)
class Cut:
    """How a case of one kind is cut out: what its payments share, from when to when, in which unit, drawn as what."""

    shared: str
    first: float
    last: float
    unit: str = "days"
    shown: str = "amount"


CUTS: dict[str, Cut] = {
    "large_amount": Cut("customer_ref", -45, 30),
    "compromised_merchant": Cut("merchant_ref", -15, 32),
    "compromised_card": Cut("customer_ref", -45, 25),
    "card_testing": Cut("device_fingerprint", -10, 6, "hours"),
    "account_takeover": Cut("customer_ref", -12, 4),
    "impossible_travel": Cut("customer_ref", -72, 24, "hours", "km"),
    "new_account": Cut("device_fingerprint", -1, 35),
}


@dataclass(frozen=True)
class Case:
    """One case: `payments` with since (from its first fraud), value (EUR or km), role; `reported` when first known.

    Roles are "own" (genuine), "bad" (fraud) and "failed" (a payment whose authentication failed, fraud or not).
    """

    name: str
    unit: str
    shown: str
    payments: pd.DataFrame
    reported: float | None


def invented_cases(config: SimulateConfig, seed: int) -> dict[str, Case]:
    """Return one case of each typology that the simulated world holds.

    Parameters
    ----------
    config, seed : of the simulator; the same give the same cases.

    Returns
    -------
    Case by typology. Of all cases of a kind the one with the median number of frauds is taken (of equally large ones
    that with most payments around it, then the first), so that the picture shows the rule and not the exception.
    """
    world = simulate(config, seed, identities=False)
    return {name: case for name in TYPOLOGIES if (case := _case(world, name, CUTS[name])) is not None}


def _case(world: pd.DataFrame, name: str, cut: Cut) -> Case | None:
    frauds = world[world["fraud_scenario"] == name]
    frauds = frauds[frauds[cut.shared].astype(str) != ""]
    if frauds.empty:
        return None
    sizes = frauds.groupby(cut.shared, sort=True, observed=True)["amount"].size()
    middle = np.sort(sizes.to_numpy())[len(sizes) // 2]
    around = [(_around(world, frauds, cut, key), key) for key in sizes.index[sizes == middle][:25]]
    rows, key = max(around, key=lambda each: len(each[0]))
    mine = frauds[frauds[cut.shared] == key]
    first = mine["paid_at"].min()
    step = pd.Timedelta(1, unit=cut.unit)
    roles = np.where(rows["auth_result"] == "failed", "failed", np.where(rows["fraud_scenario"] == name, "bad", "own"))
    payments = pd.DataFrame(
        {
            "since": ((rows["paid_at"] - first) / step).to_numpy(),
            "value": _values(rows, cut, name),
            "role": roles,
        }
    )
    reports = mine.loc[mine["reported_fraud"] == 1, "reported_at"]
    reported = None if reports.empty else float((reports.min() - first) / step)
    return Case(name, cut.unit, cut.shown, payments, reported)


def _around(world: pd.DataFrame, frauds: pd.DataFrame, cut: Cut, key: str) -> pd.DataFrame:
    """Return the payments of the case: those of its merchant, or of its customers, within the window."""
    mine = frauds[frauds[cut.shared] == key]
    whose = "merchant_ref" if cut.shared == "merchant_ref" else "customer_ref"
    since = (world["paid_at"] - mine["paid_at"].min()) / pd.Timedelta(1, unit=cut.unit)
    return world[world[whose].isin(mine[whose].unique()) & since.between(cut.first, cut.last)]


def _values(rows: pd.DataFrame, cut: Cut, name: str) -> np.ndarray:
    """Return amounts, or kilometres from the middle of the customer's genuine counter payments."""
    if cut.shown == "amount":
        return rows["amount"].to_numpy(dtype=float)
    own = rows[(rows["fraud_scenario"] != name) & (rows["channel"] == "pos")]
    home = own[["latitude", "longitude"]].median()
    place = rows[["latitude", "longitude"]].to_numpy(dtype=float)
    there = np.broadcast_to(home.to_numpy(dtype=float), place.shape)
    return kilometres(there[:, 0], there[:, 1], place[:, 0], place[:, 1])
