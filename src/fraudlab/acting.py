"""How a deployed model acts: by its tiers, by what each action is expected to cost, or by cost with people's rules.

A run decides once, on its validation part, where tiers begin and what a review must save; this is kept with the model
and carried out for every payment, many at once or one by one, with the same result.
"""

from __future__ import annotations

import bisect
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from fraudlab.decisions import TIERS, ActionCost, Policy, Thresholds, actions_for, assign_tiers
from fraudlab.decisions import decide as decide_by_cost
from fraudlab.rulebook import RuleBook, columns_of, fired, holds, strongest_action
from fraudlab.schema import InputError, did_you_mean

WAYS = ("tiers", "costs", "rules")
"""What decides on an action: the score's tiers, expected costs, or these with the active rules of the rule book."""
REVIEWED = ("limit", "manual_review", "limit_and_review", "decline")
"""Actions after which somebody looks, or somebody is refused: an alert."""
_COSTS = ("step_up", "limit", "review", "decline")


class Act(NamedTuple):
    """What is done about one payment: its tier, the action, the ids of the active rules that fired."""

    tier: str
    action: str
    rules: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Acting:
    """What a package does about a payment.

    Parameters
    ----------
    thresholds : where the tiers begin, on the uncalibrated score.
    way : of `WAYS`.
    policy : costs with their prices; needed unless `way` is "tiers".
    book : rules; its active ones are always told, and acted on where `way` is "rules".

    Raises
    ------
    InputError : an unknown way; a way lacks its policy or its rules.
    """

    thresholds: Thresholds
    way: str = "tiers"
    policy: Policy | None = None
    book: RuleBook | None = None

    def __post_init__(self) -> None:
        if self.way not in WAYS:
            raise InputError(f"decision.way: unknown '{self.way}'; {did_you_mean(self.way, WAYS)}")
        if self.way != "tiers" and self.policy is None:
            raise InputError(
                f"decision.way: '{self.way}' needs a policy with prices; found none, as the model states no risk; "
                "calibrate it, or choose 'tiers'"
            )
        if self.way == "rules" and self.book is None:
            raise InputError("decision.way: 'rules' needs a rule book; found none; name one in rules.book")

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that the active rules read, of transactions or features."""
        rules = self.book.of() if self.book else ()
        return tuple(dict.fromkeys(name for rule in rules for name in columns_of(rule.tree)))

    def act(self, score: np.ndarray, risk: np.ndarray, amount: Any, table: pd.DataFrame) -> pd.DataFrame:
        """Decide on many payments.

        Parameters
        ----------
        score, risk, amount : shape (n,); the risk is not looked at by the way "tiers".
        table : the columns that rules read; see `columns`.

        Returns
        -------
        DataFrame with the table's index: tier (ordered), action (text), rules (text: ids of the active rules that
        fired, comma-separated).

        Raises
        ------
        InputError : a rule does not fit the columns; a risk outside [0, 1], an amount negative or not finite.
        """
        hits = fired(self.book, table) if self.book else pd.DataFrame(index=table.index)
        if self.way == "tiers":
            tier = assign_tiers(score, self.thresholds) if len(score) else pd.Categorical([], list(TIERS), ordered=True)
            found = pd.DataFrame({"tier": tier, "action": actions_for(tier).array}, index=table.index)
        else:
            asked = strongest_action(self.book, hits) if self.way == "rules" and self.book else None
            done = decide_by_cost(risk, amount, self.policy, rules=asked)
            found = done[["tier", "action"]].set_axis(table.index)
        answers = hits.to_numpy(dtype=bool)
        told = pd.array([""], dtype="str").take(np.zeros(len(hits), np.int64))
        some = np.flatnonzero(answers.any(axis=1))
        names = np.array(hits.columns, dtype=object)
        told[some] = [",".join(names[answers[row]]) for row in some.tolist()]
        return found.assign(rules=pd.Series(told, index=table.index)).astype({"action": "str"})

    def one(self, score: float, risk: float, row: Mapping[str, Any]) -> Act:
        """Decide on one payment as `act` would.

        Parameters
        ----------
        row : its amount and what rules read; None or NaN where missing.
        """
        rules = self.book.of() if self.book else ()
        hits = tuple(rule.id for rule in rules if holds(rule.tree, row) is True)
        if self.way == "tiers":
            cuts = self.thresholds
            limit = np.inf if cuts.limit is None else cuts.limit
            tier = list(TIERS)[bisect.bisect_right([cuts.step_up, cuts.review, limit], score)]
            return Act(tier, TIERS[tier].action, hits)
        asked = None
        if self.way == "rules" and self.book and hits:
            asked = strongest_action(self.book, pd.DataFrame({name: [True] for name in hits})).tolist()
        done = decide_by_cost([risk], [row["amount"]], self.policy, rules=asked)
        return Act(str(done["tier"].iloc[0]), str(done["action"].iloc[0]), hits)

    def to_dict(self) -> dict[str, Any]:
        """Return all but the thresholds as plain values for JSON."""
        policy = None
        if self.policy is not None:
            policy = asdict(self.policy) | {
                "automatic": list(self.policy.automatic),
                "at_least": dict(self.policy.at_least),
            }
        book = None if self.book is None else self.book.model_dump(mode="json")
        return {"way": self.way, "policy": policy, "book": book}

    @classmethod
    def from_dict(cls, thresholds: Thresholds, plain: Mapping[str, Any]) -> Acting:
        """Return what `to_dict` wrote, with the thresholds.

        >>> Acting.from_dict(Thresholds(0.8, 0.3), Acting(Thresholds(0.8, 0.3)).to_dict()).way
        'tiers'
        """
        policy = plain["policy"]
        if policy is not None:
            costs = {name: ActionCost(**policy[name]) for name in _COSTS}
            policy = Policy(**{**policy, **costs, "automatic": tuple(policy["automatic"])})
        book = None if plain["book"] is None else RuleBook.model_validate(plain["book"])
        return cls(thresholds, plain["way"], policy, book)
