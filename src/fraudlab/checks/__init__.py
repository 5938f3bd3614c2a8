"""The numbered checks of a run: each asks one question about the model and answers it in a sentence.

    finding = CHECKS["FL001"](feature_set, transactions, seed=7)
    finding.result, finding.sentence, finding.table

To add a check, write a function that returns (result, sentence, table), give it the next number in `CHECKS`, and tell
in `guide.toml` what it detects, why that matters and what to do. A number is never used again. "Not applicable" is an
answer: the sentence says why.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from fraudlab.checks import inputs, labels, outputs, performance, received
from fraudlab.checks.finding import Answer, Check, Finding, Result, Severity, merged, overview, tables
from fraudlab.schema import InputError, did_you_mean, refuse

__all__ = [
    "CHECKS",
    "Answer",
    "Check",
    "Finding",
    "Result",
    "Severity",
    "check_features",
    "merged",
    "overview",
    "tables",
    "waive",
]

CHECKS: dict[str, Check] = {
    check.code: check
    for check in (
        Check("FL001", "Features see only the past", "stops the run", inputs.past_only),
        Check("FL002", "Each feature alone still tells frauds later", "informs", inputs.lasting),
        Check("FL003", "The values of the features stay as they were", "informs", inputs.steady),
        Check("FL004", "What the run wrote holds no raw identifier", "stops the run", outputs.nameless),
        Check("FL005", "No feature tells frauds almost alone", "stops the run", inputs.hidden_answer),
        Check("FL006", "The labels had time to become known", "blocks promotion", labels.mature),
        Check("FL007", "There are enough frauds to learn from and to judge by", "blocks promotion", labels.enough),
        Check("FL008", "What was learnt holds outside the training", "informs", performance.holds),
        Check("FL009", "A stated risk means what it says", "informs", performance.calibrated),
        Check("FL010", "The test holds the values that were learnt from", "informs", inputs.drifted),
        Check("FL011", "Groups of customers are bothered alike", "informs", performance.alike),
        Check("FL012", "Reasons stay under small noise", "informs", performance.steady_reasons),
        Check("FL013", "The test holds nothing the training has seen", "blocks promotion", labels.apart),
        Check("FL014", "The model does not remember single frauds", "blocks promotion", outputs.forgetful),
        Check("FL015", "The evidence shows no small group", "blocks promotion", outputs.no_small_cells),
        Check("FL016", "The model reads the columns it was made for", "blocks promotion", inputs.columns_agree),
        Check("FL017", "The test days were not looked at with other configs", "informs", performance.settled),
        Check("FL018", "What was learnt is recent enough", "blocks promotion", performance.recent),
        Check(
            "FL019", "At the budget it is not below the champion", "blocks promotion", performance.not_below_champion
        ),
        Check("FL020", "No planted noise ranks among the first features", "informs", inputs.above_noise),
        Check("FL021", "No day is missing", "informs", received.no_gap),
        Check("FL022", "No payments came twice", "blocks promotion", received.not_doubled),
        Check("FL023", "The share of fraud can be believed", "blocks promotion", received.believable),
    )
}


def check_features(findings: Mapping[str, Finding]) -> None:
    """Refuse to go on when a check that stops the run has failed.

    Raises
    ------
    InputError : a feature sees the future, or tells frauds almost alone; one sentence per failed check.
    """
    confirm = "; where one is honest, list it in features.confirmed"
    refuse(
        [
            f"{finding.code} {finding.title.lower()}: {finding.sentence} Nothing was trained; take them out or mend "
            f"them, `fraudlab features audit` says what each one reads{confirm if finding.code == 'FL005' else ''}"
            for finding in findings.values()
            if finding.stops
        ]
    )


def waive(findings: Mapping[str, Finding], codes: tuple[str, ...], because: str) -> dict[str, Finding]:
    """Return findings in which the failed ones of these codes are waived: they no longer block promotion.

    Parameters
    ----------
    findings : name -> finding.
    codes : checks a person has looked into, from `gate.waive`.
    because : their reason, from `gate.waived_because`; shown wherever the finding is.

    Raises
    ------
    InputError : a code is no check, or one that does not block promotion.
    """
    for code in codes:
        if code not in CHECKS:
            raise InputError(
                f"gate.waive: every entry must be a check; unknown check '{code}'; {did_you_mean(code, CHECKS)}"
            )
        if (severity := CHECKS[code].severity) != "blocks promotion":
            raise InputError(
                f"gate.waive: only a check that blocks promotion can be waived; found {code}, which {severity}; "
                "take it out"
            )
    return {
        name: replace(finding, waived=because) if finding.code in codes and finding.result == "failed" else finding
        for name, finding in findings.items()
    }
