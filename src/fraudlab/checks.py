"""The numbered checks of a run: each asks one question about the model's inputs and answers it in a sentence.

    finding = CHECKS["FL001"](feature_set, transactions, seed=7)
    finding.result, finding.sentence, finding.table

To add a check, write a function that returns (result, sentence, table) and give it the next number in `CHECKS`. A
number is never used again. "Not applicable" is an answer: the sentence says why.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from fraudlab.features import FeatureSet
from fraudlab.features.audit import audit_leakage, stability, time_consistency
from fraudlab.privacy.scan import find_planted, telling

MOST_ALONE = 0.99
"""AUC ROC of a single feature above which it is taken for a leak until somebody has confirmed it."""

Result = Literal["passed", "failed", "not applicable"]
Severity = Literal["stops the run", "informs"]
Answer = tuple[Result, str, pd.DataFrame]


@dataclass(frozen=True)
class Finding:
    """What a check found: its result, the sentence for people, the table it rests on."""

    code: str
    title: str
    severity: Severity
    result: Result
    sentence: str
    table: pd.DataFrame

    @property
    def stops(self) -> bool:
        """Whether a run must not go on."""
        return self.result == "failed" and self.severity == "stops the run"


@dataclass(frozen=True)
class Check:
    """A numbered question; calling it with what its function needs gives the finding."""

    code: str
    title: str
    severity: Severity
    answer: Callable[..., Answer]

    def __call__(self, *given: Any, **options: Any) -> Finding:
        result, sentence, table = self.answer(*given, **options)
        return Finding(self.code, self.title, self.severity, result, sentence, table)


def past_only(feature_set: FeatureSet | None, transactions: pd.DataFrame, **options: Any) -> Answer:
    """Fail when a feature sees the future; options as in `audit_leakage`, which makes the table."""
    table = audit_leakage(feature_set, transactions, **options)
    leaks, open_ = (table.loc[table["verdict"] == verdict, "column"] for verdict in ("leaks", "not judged"))
    tried = f"{table['rows'].max():,} payments, with the future rewritten after {table['cuts'].max()} moments"
    if len(leaks):
        see = "sees" if len(leaks) == 1 else "see"
        return "failed", f"{len(leaks)} of {len(table)} features {see} the future: {_named(leaks)}.", table
    if len(open_):
        return "not applicable", f"{len(open_)} of {len(table)} features could not be judged: {_named(open_)}.", table
    return "passed", f"No value of {len(table)} features moved over {tried}.", table


def lasting(features: pd.DataFrame, y: Any, event_time: Any, **options: Any) -> Answer:
    """Fail when a feature turns round or fades; options as in `time_consistency`, which makes the table."""
    table = time_consistency(features, y, event_time, **options)
    judged = table[table["verdict"] != "not applicable"]
    if judged.empty:
        return "not applicable", f"No feature could be judged; {_why(table)}.", table
    rest = f"; {len(table) - len(judged)} not applicable" if len(table) > len(judged) else ""
    said = [
        f"{len(found)} {words}: {_named(found)}"
        for verdict, words in (("turns round", "turned round"), ("fades", "faded"))
        if len(found := judged.loc[judged["verdict"] == verdict, "feature"])
    ]
    if said:
        return "failed", f"Of {len(judged)} features that tell frauds alone, {'; '.join(said)}{rest}.", table
    return "passed", f"All {len(judged)} features that tell frauds alone still do so later{rest}.", table


def steady(features: pd.DataFrame, event_time: Any, **options: Any) -> Answer:
    """Fail when the values of a feature change; options as in `stability`, which makes the table."""
    table = stability(features, event_time, **options)
    judged = table[table["reading"] != "not applicable"]
    if judged.empty:
        return "not applicable", f"No feature could be judged; {_why(table)}.", table
    worst = judged.groupby("feature", sort=False)["psi"].max().sort_values(ascending=False, kind="stable")
    changed = worst[worst.index.isin(judged.loc[judged["reading"] == "changed", "feature"])]
    if len(changed):
        return (
            "failed",
            f"The values of {len(changed)} of {len(worst)} features changed: {_named(changed.index)}.",
            table,
        )
    return "passed", f"The values of {len(worst)} features stayed; the largest index is {worst.iloc[0]:.2f}.", table


def nameless(paths: Iterable[Path], needles: Iterable[str], *, root: Path) -> Answer:
    """Fail when a file holds a raw identifier of the source, in whatever disguise; `find_planted` makes the table.

    Parameters
    ----------
    paths : what the run wrote: files, or folders with everything below them.
    needles : the raw identifiers, as `fraudlab.datasets.raw_identifiers` gives them; numbers that fill their range
        (`telling`) are left out.
    root : files are named from here.
    """
    needles = telling(needles)
    if not needles:
        nothing = pd.DataFrame(columns=["file", "kind", "count"])
        return "not applicable", "The source holds no identifiers that can be told from other numbers.", nothing
    table = find_planted(paths, needles)
    table["file"] = [str(Path(file).relative_to(root)) for file in table["file"]]
    if len(table):
        files = table["file"].unique()
        hold = "file holds" if len(files) == 1 else "files hold"
        return "failed", f"{len(files)} {hold} raw identifiers of the source: {_named(files)}.", table
    return "passed", f"None of {len(needles):,} raw identifiers of the source is in what the run wrote.", table


def hidden_answer(alone: pd.DataFrame, confirmed: Iterable[str] = (), most: float = MOST_ALONE) -> Answer:
    """Fail when a feature alone ranks the training frauds almost perfectly: it may hold the answer.

    Parameters
    ----------
    alone : feature, auc_roc: how well each ranks alone, in whichever direction.
    confirmed : features a person has looked into and found to be known before the payment.
    most : AUC ROC from which a feature is too good to be believed unseen.
    """
    if alone.empty:
        return "not applicable", "There are no features.", alone
    telling = alone.loc[alone["auc_roc"] > most, "feature"]
    found = [name for name in telling if name not in set(confirmed)]
    if found:
        tell = "tells" if len(found) == 1 else "tell"
        said = (
            f"{len(found)} of {len(alone)} features {tell} frauds almost alone (AUC above {most:g}): {_named(found)}."
        )
        return "failed", said, alone
    best = alone.loc[alone["auc_roc"].idxmax()]
    rest = f"; {len(telling)} above {most:g} confirmed" if len(telling) else ""
    return "passed", f"The best of {len(alone)} features alone reaches an AUC of {best['auc_roc']:.3f}{rest}.", alone


def _named(names: Iterable[str], most: int = 3) -> str:
    listed = [str(name) for name in names]
    more = len(listed) - most
    return ", ".join(listed[:most]) + (f" and {more} more" if more > 0 else "")


def _why(table: pd.DataFrame) -> str:
    return str(table["note"].iloc[0]) if len(table) else "not applicable: there is none"


CHECKS: dict[str, Check] = {
    check.code: check
    for check in (
        Check("FL001", "Features see only the past", "stops the run", past_only),
        Check("FL002", "Each feature alone still tells frauds later", "informs", lasting),
        Check("FL003", "The values of the features stay as they were", "informs", steady),
        Check("FL004", "What the run wrote holds no raw identifier", "stops the run", nameless),
        Check("FL005", "No feature tells frauds almost alone", "stops the run", hidden_answer),
    )
}


def overview(findings: Mapping[str, Finding]) -> pd.DataFrame:
    """Lay findings out as a table: code, title, severity, result, sentence."""
    names = ["code", "title", "severity", "result", "sentence"]
    return pd.DataFrame([[getattr(finding, name) for name in names] for finding in findings.values()], columns=names)


def tables(findings: Mapping[str, Finding]) -> dict[str, pd.DataFrame]:
    """Return the tables that findings rest on, under the findings' names."""
    return {name: finding.table for name, finding in findings.items()}
