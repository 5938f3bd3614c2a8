"""Rules that people write: a small safe language over a payment's columns, and versioned books of such rules.

Nothing here reads files or runs code that a rule holds; see docs/rules.md for the language.
"""

from fraudlab.rulebook.book import (
    ACTIONS,
    ADVERSE,
    RESERVED,
    STATUSES,
    Rule,
    RuleBook,
    added,
    answered,
    check_columns,
    fired,
    misfits,
    notices,
    read_rules,
    strongest_action,
)
from fraudlab.rulebook.evaluation import column_kinds, evaluate, holds
from fraudlab.rulebook.language import check, columns_of, parse, written
from fraudlab.rulebook.proposal import Proposal, propose

__all__ = [
    "ACTIONS",
    "ADVERSE",
    "RESERVED",
    "STATUSES",
    "Proposal",
    "Rule",
    "RuleBook",
    "added",
    "answered",
    "check",
    "check_columns",
    "column_kinds",
    "columns_of",
    "evaluate",
    "fired",
    "holds",
    "misfits",
    "notices",
    "parse",
    "propose",
    "read_rules",
    "strongest_action",
    "written",
]
