"""The sections about why the model scores as it does, how steady its reasons are, and what failed inputs would cost."""

from __future__ import annotations

from typing import Any

import pandas as pd

from fraudlab import plots
from fraudlab.report.blocks import (
    ABSENT,
    HIDDEN,
    NOT_APPLICABLE,
    NOT_PROVIDED,
    Bullets,
    Cell,
    Facts,
    Figure,
    Group,
    Prose,
    Section,
    Table,
    capital,
    metric_label,
    metric_text,
    money,
    not_available,
    notes,
    share,
    span,
)
from fraudlab.report.evidence import Evidence
from fraudlab.report.language import foreign, language, retold, say, spoken, term
from fraudlab.report.results import named

MOST_FEATURES, MOST_PAIRS, MOST_ALERTS, MOST_STEPS = 12, 8, 5, 6


def explanation(e: Evidence) -> Section:
    """What moves the score, in general and for five alerts; what would have changed those; how steady reasons are."""
    intro = say(
        "Contributions are SHAP values of the model itself, in log-odds: added to the average they give a payment's "
        "score exactly, which is checked for every explained payment. They say how the model came to its score, not "
        "why a fraud happened."
    )
    blocks: list[Any] = [Prose(intro), *_importance(e)]
    if e.dependence is None:
        blocks.append(not_available("dependence.csv"))
    else:
        caption = say(
            "Medians with the middle 80 % of the contributions, over groups of at least 10 payments of similar value."
        )
        blocks.append(Figure(plots.dependence(e.dependence, e.words), caption))
    blocks += [_together(e), *_alerts(e), _steadiness(e)]
    return Section("explanation", say("Explanation"), blocks)


def _importance(e: Evidence) -> list[Any]:
    if e.importance is None:
        return [not_available("importance.csv")]
    best = e.importance.sort_values("mean_abs", ascending=False, kind="stable").head(MOST_FEATURES)
    ranged = {"low", "high"}.issubset(best)
    rows = [
        (
            _named(row.feature, e),
            _group(row.group, e),
            Cell(
                f"{row.mean_abs:.3f}",
                span(f"{row.low:.3f}", f"{row.high:.3f}") if ranged and pd.notna(row.low) else "",
            ),
            share(row.share),
        )
        for row in best.itertuples()
    ]
    head = (say("Feature"), say("Kind of reason"), say("Mean contribution"), say("Share"))
    note = notes(best["note"]) if "note" in best else ""
    caption = say(
        "Mean absolute contribution, and its share of the sum over all features. Lines, where drawn, span what the "
        "same settings gave when learnt on earlier periods: where they are long, the rank of a feature is a matter of "
        "the period."
    )
    return [
        Figure(plots.importance(e.importance, e.words), caption),
        Table(say("The strongest features"), head, rows, "llrr", note),
    ]


def _named(column: str, e: Evidence) -> str | Cell:
    found = named(column, e)
    return foreign(found) if isinstance(found, str) else found


def _together(e: Evidence) -> Group:
    """The pairs of features that act together."""
    title = say("Features that act together")
    if e.interactions is None:
        return Group(title, [not_available("interactions.csv")])
    pairs = e.interactions.dropna(subset=["mean_abs"])
    if pairs.empty:
        return Group(title, [Prose(notes(e.interactions["note"]) or say("not applicable"))])
    intro = say(
        "What two features move together, beyond what each moves alone (SHAP interaction values, over {n} payments).",
        n=f"{pairs['n'].iloc[0]:,.0f}",
    )
    rows = [
        (_named(row.first, e), _named(row.second, e), f"{row.mean_abs:.3f}", share(row.share))
        for row in pairs.head(MOST_PAIRS).itertuples()
    ]
    head = (say("Feature"), say("together with"), say("Mean interaction"), say("Share"))
    blocks: list[Any] = [Prose(intro), Table(say("The strongest pairs"), head, rows, "llrr")]
    if e.pair_dependence is not None and len(e.pair_dependence):
        caption = say(
            "Where the lines run apart, the second feature decides what the first one means. Bands hold the middle "
            "80 % of the contributions, over groups of at least 10 payments."
        )
        blocks.append(Figure(plots.pair_dependence(e.pair_dependence, e.words), caption))
    return Group(title, blocks)


def _alerts(e: Evidence) -> list[Any]:
    if e.alerts is None:
        return [not_available("alerts.json")]
    return [_case(alert, e) for alert in e.alerts[:MOST_ALERTS]]


def _case(alert: dict[str, Any], e: Evidence) -> Group:
    outcomes = {
        "fraud": say("Example alert {n}: it was fraud", n=alert["case"]),
        "genuine": say("Example alert {n}: it was genuine", n=alert["case"]),
    }
    score = f"{alert['score']:.4g}" if "score" in alert else NOT_PROVIDED
    facts = [
        (say("When"), say("{day}, {hour} h UTC", day=alert["day"], hour=f"{int(alert['hour']):02d}")),
        (say("Amount"), money(alert["amount"])),
        (say("Score before calibration"), score),
        (say("Stated risk"), share(alert["risk"])),
        (
            say("Tier and action"),
            say("{tier}: {action}", tier=term(alert["tier"]), action=term(str(alert["action"]).replace("_", " "))),
        ),
    ]
    reasons = alert.get(f"reasons_{language()}") or [foreign(text) for text in alert["reasons"]]
    blocks: list[Any] = [
        Facts(facts),
        Bullets(reasons) if reasons else Prose(say("No feature pushed this score towards fraud.")),
    ]
    if "would_change" in alert:
        blocks.append(_would_change(alert))
    blocks.append(
        Figure(
            plots.waterfall(alert, e.words, e.kinds, top=MOST_STEPS),
            say("From the average payment's score to this one's, largest contributions first."),
        )
    )
    title = outcomes.get(alert["outcome"], say("Example alert {n}: not known yet what it was", n=alert["case"]))
    return Group(title, blocks)


def _would_change(alert: dict[str, Any]) -> Group:
    """What would have kept the payment from review."""
    title = say("What would have kept it below the threshold of review")
    if not alert.get("changes"):
        return Group(title, [Bullets([retold(text) for text in alert["would_change"]])])
    said = [changed_inputs(change["inputs"]) for change in alert["changes"]]
    scores = say("; ").join(f"{change['score']:.4g}" for change in alert["changes"])
    one = say("It alone would have given the score {score}.", score=scores)
    several = say("Each alone would have sufficed; the scores would have been {scores}.", scores=scores)
    return Group(title, [Bullets(said), Prose(one if len(said) == 1 else several)])


def changed_inputs(inputs: list[dict[str, Any]]) -> str:
    """Say what would have sufficed, as `counterfactuals.Change.facts` holds it, in the report's language."""
    return capital(say(" and ").join(_fragment(**each) for each in inputs))


def _fragment(input: str, before: str, after: str) -> str:
    """Say one changed input as `fraudlab.counterfactuals.FRAGMENTS` does, in the report's language."""
    match input:
        case "amount":
            return say("an amount of {after} instead of {before}", after=after, before=before)
        case "time" if after == "1 hour":
            return say("1 hour later")
        case "time":
            return say("{n} hours later", n=after.split()[0])
        case "authentication":
            return say("an authentication by {after} that passed", after=foreign(after))
        case "device":
            return say("a device this customer used before")
        case "network":
            return say("a network address this customer used before")
        case "place":
            return say("the place this customer mostly pays from")
        case "merchant":
            return say("a merchant this customer paid before")
    return foreign(input)


def _steadiness(e: Evidence) -> Group:
    """How the reasons of alerts change under small noise."""
    title = say("How steady the reasons are")
    if e.reason_stability is None:
        return Group(title, [not_available("reason_stability.csv")])
    table = e.reason_stability
    whole = table[table["group"] == "all"]
    if whole["value"].isna().all():
        return Group(title, [Prose(notes(whole["note"]) or say("not applicable"))])
    labels = {
        "top_reason_kept": say("The first reason stays the first"),
        "top_reasons_overlap": say("Share of the first three reasons that stay"),
        "rank_correlation": say("Rank correlation of the contributions"),
    }
    by_group = table[(table["metric"] == "top_reason_kept") & (table["group"] != "all")]
    rows = [(labels.get(row.metric, row.metric), *_measured(row)) for row in whole.itertuples()]
    rows += [
        (say("The first reason stays the first: {group}", group=_group(row.group, e)), *_measured(row))
        for row in by_group.itertuples()
    ]
    intro = say(
        "The inputs of the highest-scoring payments were moved by normal noise of {noise} of what each varies among "
        "genuine payments; whole numbers stayed whole, flags and categories as they were. A reason that goes with so "
        "little noise is no ground for a decision.",
        noise=share(float(table["threshold"].iloc[0])),
    )
    head = (say("Measure"), say("Value and 95 % interval"), say("Payments"))
    return Group(title, [Prose(intro), Table(title, head, rows, "lrr", notes(whole["note"]))])


def _measured(row: Any) -> tuple[str | Cell, str]:
    if pd.isna(row.value):
        return (HIDDEN if "not shown" in str(row.note) else NOT_APPLICABLE), (
            HIDDEN if pd.isna(row.n) else f"{row.n:,.0f}"
        )
    if row.metric == "rank_correlation":
        return Cell(f"{row.value:.3f}", span(f"{row.low:.3f}", f"{row.high:.3f}")), f"{row.n:,.0f}"
    return Cell(share(row.value), span(share(row.low), share(row.high))), f"{row.n:,.0f}"


def robustness(e: Evidence) -> Section:
    """What the model is worth on the test part when its inputs fail."""
    title = say("Robustness to failed inputs")
    if e.robustness is None:
        return Section("robustness", title, [not_available("robustness.csv")])
    intro = say(
        "Each row is the test part scored again with failed inputs: the values of a kind of reason missing, as when "
        "the feed behind it breaks; amounts ten times as large from the test's first day on, as when units are mixed "
        "up; small noise. Below each value stands its change, with the 95 % interval of the paired difference."
    )
    metrics = list(dict.fromkeys(e.robustness["metric"]))
    cells = {(row.scenario, row.metric): row for row in e.robustness.itertuples()}
    scenarios = e.robustness.drop_duplicates("scenario")
    rows = [
        (
            _scenario(row.scenario, e),
            f"{row.features:,.0f}" if row.features else ABSENT,
            *(_worth(cells[row.scenario, metric]) for metric in metrics),
        )
        for row in scenarios.itertuples()
    ]
    head = (say("Failed inputs"), say("Inputs hit"), *(metric_label(metric) for metric in metrics))
    caption = say("Changes that exclude zero are red. A long line means that the test part cannot tell.")
    blocks = [
        Prose(intro),
        Figure(plots.robustness(e.robustness, plots.METRIC_LABELS), caption),
        Table(title, head, rows, "lr" + "r" * len(metrics), notes(e.robustness["note"])),
    ]
    return Section("robustness", title, blocks)


def _group(name: str, e: Evidence) -> str:
    """Return a group of reasons in the report's language: in the feature set's own words, where it has them."""
    return dict(zip(e.features["group"], e.described("group").values())).get(name) or term(name)


def _scenario(name: str, e: Evidence) -> str:
    if name.startswith("without "):
        return capital(say("without {group}", group=_group(name.removeprefix("without "), e)))
    return capital(retold(name))


def _worth(row: Any) -> str | Cell:
    if pd.isna(row.value):
        return NOT_APPLICABLE
    text = metric_text(row.metric, row.value)
    if pd.isna(row.change):
        return text
    ends = (
        say("no interval")
        if pd.isna(row.change_low)
        else span(*(_change(x) for x in (row.change_low, row.change_high)))
    )
    return Cell(text, say("{change} points ({ends})", change=_change(row.change), ends=ends))


def _change(value: float) -> str:
    return spoken(plots.points(value))
