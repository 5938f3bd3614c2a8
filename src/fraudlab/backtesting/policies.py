"""When a model is made anew, and whether the gate decides about it: a policy of retraining is data."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from fraudlab.schema import InputError, did_you_mean

DAY = pd.Timedelta(days=1)
CADENCES = {"daily": 1, "weekly": 7, "monthly": 28}
ALWAYS = "-ungated"
DEFAULT = ("never", "monthly", "weekly")


@dataclass(frozen=True)
class Policy:
    """One policy: its name, days from one retraining to the next (None: never again), whether the gate decides."""

    name: str
    every: int | None
    gate: bool = True

    def dates(self, start: pd.Timestamp, end: pd.Timestamp) -> list[pd.Timestamp]:
        """Return the moments at which it retrains: `start`, then every so many days before `end`.

        >>> start, end = pd.Timestamp("2026-01-01", tz="UTC"), pd.Timestamp("2026-01-20", tz="UTC")
        >>> [f"{date:%d}" for date in policy_of("weekly").dates(start, end)]
        ['01', '08', '15']
        """
        if self.every is None:
            return [start]
        return list(pd.date_range(start, end, freq=self.every * DAY, inclusive="left"))

    def said(self) -> str:
        """Say what it does.

        >>> policy_of("monthly").said()
        'a new model every 28 days, which serves if it passes the gate'
        """
        if self.every is None:
            return "the first model serves for ever"
        which = "which serves if it passes the gate" if self.gate else "which serves whatever the gate would say"
        return f"a new model every {'day' if self.every == 1 else f'{self.every} days'}, {which}"


def policy_of(name: str) -> Policy:
    """Return the policy of a name: never, daily, weekly, monthly (28 days), or days such as 14d; "-ungated" may follow.

    Raises
    ------
    InputError : an unknown name.

    >>> policy_of("14d"), policy_of("weekly-ungated")
    (Policy(name='14d', every=14, gate=True), Policy(name='weekly-ungated', every=7, gate=False))
    """
    cadence = name.removesuffix(ALWAYS)
    if name == "never":
        return Policy(name, None)
    if cadence in CADENCES:
        return Policy(name, CADENCES[cadence], not name.endswith(ALWAYS))
    if re.fullmatch(r"[1-9]\d{0,3}d", cadence):
        return Policy(name, int(cadence[:-1]), not name.endswith(ALWAYS))
    raise InputError(f"policy: unknown '{name}'; {did_you_mean(name, ['never', *CADENCES, '14d', f'weekly{ALWAYS}'])}")


def policies_of(names: Sequence[str], step: int) -> list[Policy]:
    """Return policies by name, the one that all others are held against first: "never" if it is there, else the first.

    Raises
    ------
    InputError : an unknown name, one that is given twice, or a cadence that is no multiple of the step.

    >>> [policy.name for policy in policies_of(["weekly", "never"], step=7)]
    ['never', 'weekly']
    """
    found = [policy_of(name) for name in names]
    if twice := sorted({name for name in names if list(names).count(name) > 1}):
        raise InputError(f"policy: '{twice[0]}' is given twice; leave one out")
    if len(found) < 2:
        raise InputError(f"policy: a comparison needs two policies or more; found {len(found)}; name another")
    for policy in found:
        if policy.every is not None and policy.every % step:
            raise InputError(
                f"policy: '{policy.name}' retrains every {policy.every} days, which must be a multiple of the step of "
                f"the walk; found --every {step}d; choose a step that divides it"
            )
    return sorted(found, key=lambda policy: policy.name != "never")


def step_days(text: str) -> int:
    """Read a step such as 7d.

    >>> step_days("7d")
    7
    """
    if not re.fullmatch(r"[1-9]\d{0,3}d", text):
        raise InputError(f"--every: must be a number of days such as 7d; found '{text}'; correct it")
    return int(text[:-1])
