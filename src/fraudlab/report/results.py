"""The sections about the model's results: how it was made, what it is worth, what it decides, why."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pandas as pd

from fraudlab import looks, plots
from fraudlab.metrics import METRICS
from fraudlab.report.blocks import (
    FEW,
    HIDDEN,
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
    count,
    counts,
    interval,
    moment,
    money,
    not_available,
    provided,
)
from fraudlab.report.comparison import threshold_blocks
from fraudlab.report.evidence import Evidence

ABSENT = "–"
MOST_LOOKS = 10
FACTS: dict[str, Callable[[Any], str]] = {
    "rows": count,
    "frauds": count,
    "features": "{:,}".format,
    "trees": "{:,}".format,
    "seconds": "{:,.1f}".format,
}
# Facts of a model that stand in a table: its own, that of the split, that of the rules. The others are settings.
TABLED = (*FACTS, "refit", "calibration", "train_rows", "train_frauds", "params", "rules")


def method(e: Evidence) -> Section:
    """How time was split, which models were fitted and with what."""
    fold = e.fold
    rows = [
        (
            part["part"],
            moment(part["start"])[:10],
            moment(part["end"])[:10],
            count(part["transactions"]),
            count(part["frauds"]),
            HIDDEN if count(part["frauds"]) == FEW else plots.share(part["frauds"] / part["transactions"]),
            count(part["customers"]),
        )
        for part in fold["parts"]
        if part["transactions"] is None or part["transactions"] > 0
    ]
    head = ("Part", "From", "Until before", "Payments", "Frauds", "Fraud rate", "Customers")
    caption = (
        "Parts of the split. Between them lies the time that labels need, so nothing is learned before it was known."
    )
    left_out = (
        f"Left out of the test: {count(fold['excluded_customers'])} customers with "
        f"{count(fold['excluded_transactions'])} payments, because they were already known as victims then."
    )
    blocks = [
        Prose(fold["explain"]),
        Figure(plots.timeline(pd.DataFrame(fold["parts"])), caption),
        Table("Parts of the split", head, rows, "lllrrrr"),
        Prose(left_out),
        _model_table(e),
        _settings(e),
        *_rule_tables(e),
    ]
    return Section("method", "Method and split", blocks)


def _model_table(e: Evidence) -> Table:
    facts = {model["name"]: model for model in e.models}
    rows = [_model_row(label, facts[name]["role"], facts[name]["facts"]) for name, label in e.labels.items()]
    head = ("Model", "Role", "Training payments", "Frauds", "Features", "Trees", "Refitted", "Calibrated on", "Seconds")
    learned = {str((model["facts"].get("calibration") or {}).get("learned") or "") for model in e.models} - {""}
    note = f"Calibration was learned {' or '.join(sorted(learned))}" if learned else ""
    return Table("Models and how they were fitted", head, rows, "llrrrrlrr", note)


def _model_row(label: str, role: str, facts: dict[str, Any]) -> list[str | Cell]:
    said = {key: ABSENT if facts.get(key) is None else write(facts[key]) for key, write in FACTS.items()}
    calibrated: str | Cell = ABSENT
    if learned := facts.get("calibration"):
        calibrated = Cell(count(learned["rows"]), f"{learned['method']}, {count(learned['frauds'])} frauds")
    refit = {True: "yes", False: "no"}.get(facts.get("refit"), ABSENT)
    numbers = [said[key] for key in ("rows", "frauds", "features", "trees")]
    return [label, role, *numbers, refit, calibrated, said["seconds"]]


def _settings(e: Evidence) -> Facts:
    settings = {model["name"]: ", ".join(_flat(model["facts"])) for model in e.models}
    return Facts([(label, settings[name]) for name, label in e.labels.items() if settings[name]], code=True)


def _flat(facts: dict[str, Any], prefix: str = "") -> list[str]:
    """Lay out what the table does not show as "name = value", parameters first; empty values are left out."""
    said = _flat(facts["params"]) if "params" in facts else []
    for key, value in facts.items():
        if key in TABLED or value is None:
            continue
        if isinstance(value, dict):
            said += _flat(value, f"{prefix}{key}.")
            continue
        if isinstance(value, list):
            shown = " and ".join(map(str, value)) if len(value) <= 3 else f"{len(value)} values"
        else:
            shown = f"{value:.6g}" if isinstance(value, float) else str(value)
        said.append(f"{prefix}{key} = {shown}")
    return list(dict.fromkeys(said))


def _rule_tables(e: Evidence) -> list[Table]:
    tables = []
    facts = {model["name"]: model["facts"] for model in e.models}
    for name, label in e.labels.items():
        rules = (facts[name].get("params") or {}).get("rules")
        if rules:
            caption = f"{label}: each one that fires adds its points to the score, in log-odds"
            rows = [_rule_row(str(rule), e) for rule in rules]
            tables.append(Table(caption, ("What it looks at", "Fires when", "Points"), rows, "llr"))
    return tables


def _rule_row(rule: str, e: Evidence) -> tuple[str | Cell, str, str]:
    parsed = re.fullmatch(r"(\S+) (>=?) (\S+) \((\S+)\)", rule)
    if not parsed:
        return rule, "", ""
    column, comparison, threshold, points = parsed.groups()
    kind = e.kinds.get(column, "")
    value = plots.value_text(float(threshold), kind)
    when = "yes" if kind == "flag" else f"{'at least' if comparison == '>=' else 'above'} {value}"
    return _named(column, e), when, points


def _named(column: str, e: Evidence) -> str | Cell:
    """Return a feature's short name with its column name below, or the column name alone."""
    said = e.words.get(column)
    return Cell(said.rstrip("."), column) if said and said != column else column


def features(e: Evidence) -> Section:
    """Every input of the model with its meaning."""
    described = e.features.fillna("")
    names = [_named(column, e) if "label" in described else column for column in described["column"]]
    rows = list(zip(names, described["group"], described["meaning"]))
    intro = f"The model sees {len(rows)} features, each computed only from what was known at the moment of the payment."
    table = Table("Features and their meaning", ("Feature", "Kind of reason", "Meaning"), rows, "lll")
    return Section("features", "Features", [Prose(intro), table])


def audit(e: Evidence) -> Section:
    """Whether the features see only the past, and whether they held through the training period."""
    blocks: list[Any] = []
    if e.checks is None:
        blocks.append(not_available("checks.json"))
    else:
        rows = [
            (check["code"], Cell(check["title"], check["severity"]), check["result"], check["sentence"])
            for check in e.checks
        ]
        head = ("Check", "What is checked; if it fails", "Result", "What was found")
        blocks.append(Table("The numbered checks", head, rows, "llll"))
    if e.leakage is None:
        blocks.append(not_available("leakage.csv"))
    else:
        blocks.append(
            Prose(
                "On a sample of the payments before the test, all that came after some moments was changed, joined by "
                "invented payments and removed, and labels not known then were turned. A feature is clean when none of "
                "its earlier values moved by one bit."
            )
        )
        dirty = e.leakage[e.leakage["verdict"] != "clean"]
        rows = [(_named(row.column, e), row.verdict, count(row.moved), row.meaning) for row in dirty.itertuples()]
        if rows:
            head = ("Feature", "Verdict", "Values moved", "Meaning")
            blocks.append(Table("Features that are not clean", head, rows, "llrl"))
    blocks += [not_available(f"{name}.csv") for name in ("time_consistency", "stability") if getattr(e, name) is None]
    if e.time_consistency is not None and len(e.time_consistency):
        blocks += _over_time(e.time_consistency, e)
    return Section("audit", "Do the features see only the past, and will they last?", blocks)


def _over_time(alone: pd.DataFrame, e: Evidence) -> list[Any]:
    """Table the features that turned or faded first, then those whose values drifted most."""
    drift = pd.Series(dtype=float) if e.stability is None else e.stability.groupby("feature")["psi"].max()
    told = alone.assign(
        order=alone["verdict"].map({"turns round": 0, "fades": 1}).fillna(2), psi=alone["feature"].map(drift)
    )
    rows = [
        (
            _named(row.feature, e),
            row.verdict,
            *(
                _ranked(*(getattr(row, f"{name}_{when}") for name in ("auc", "low", "high")))
                for when in ("first", "last")
            ),
            ABSENT if pd.isna(row.psi) else f"{row.psi:.3f}",
        )
        for row in told.sort_values(["order", "psi"], ascending=[True, False], kind="stable").head(12).itertuples()
    ]
    one = alone.iloc[0]
    intro = (
        "On the training period alone. Each feature by itself learnt fraud from the first half "
        f"({count(one['n_first'])} payments, {count(one['frauds_first'])} frauds) and was judged on the second "
        f"({count(one['n_last'])} payments, {count(one['frauds_last'])} frauds). The stability index compares the "
        "values of each week with those of the first; up to 0.10 counts as stable, above 0.25 as changed."
    )
    head = ("Feature", "Alone over time", "AUC ROC, first half", "Second half", "Largest index")
    note = (
        "The twelve to look at first; not applicable: alone it does not tell fraud, or there are too few frauds to say"
    )
    return [Prose(intro), Table("Features over the training period", head, rows, "llrrr", note)]


def _ranked(auc: float, low: float, high: float) -> str | Cell:
    return ABSENT if pd.isna(auc) else Cell(plots.metric_text("auc_roc", auc), interval("auc_roc", low, high))


def performance(e: Evidence) -> Section:
    """What every model is worth at the alert budget, with intervals, and per day."""
    entity = str(e.setting("split", "entity") or "customer_id").removesuffix("_id")
    intro = (
        f"A case is one {entity} on one day, with its highest score of that day. Investigators review the "
        f"{e.decision['alerts_per_day']:,} highest cases a day."
    )
    caption = "Where the intervals of two models overlap widely, the test does not tell them apart."
    blocks = [
        Prose(intro),
        _metric_table(e),
        *_looks(e),
        Figure(plots.metric_intervals(e.overall, e.labels), caption),
    ]
    if e.daily is None:
        blocks.append(not_available("daily.csv"))
    else:
        caption = (
            "Day by day. A perfect ranking stays below 100 % on days with fewer compromised cases than reviews; as "
            "found cases leave the later days, a model can lie above it late in the period."
        )
        blocks.append(Figure(plots.daily_precision(e.daily, e.labels), caption))
    return Section("performance", "Performance at the alert budget", blocks)


def _looks(e: Evidence) -> list[Any]:
    """Say how often these test days were looked at, this time included, and list the last looks of several."""
    if e.test_looks is None:
        return [not_available("test_looks.csv")]
    seen = e.test_looks.assign(when=pd.to_datetime(e.test_looks["when"], utc=True))
    said = [Prose(looks.explain(seen))]
    if len(seen) < 2:
        return said
    figures = list(looks.HEADLINE)
    rows = [
        (
            f"{look['when']:%Y-%m-%d %H:%M}",
            str(look["run"]),
            str(look["config_digest"])[:10],
            *(ABSENT if pd.isna(look[name]) else plots.metric_text(name, look[name]) for name in figures),
        )
        for _, look in seen.tail(MOST_LOOKS).iterrows()
    ]
    head = ("When, UTC", "Run", "Config", *(capital(plots.METRIC_LABELS[name]) for name in figures))
    title = "Looks at these test days" + (f", the last {MOST_LOOKS}" if len(seen) > MOST_LOOKS else "")
    return [*said, Table(title, head, rows, "lll" + "r" * len(figures))]


def _metric_table(e: Evidence) -> Table:
    rows = []
    for metric in dict.fromkeys(e.overall["metric"]):
        cells = [Cell(capital(plots.METRIC_LABELS.get(metric, metric)), METRICS.get(metric, ""))]
        for name in e.labels:
            row = e.metric(name, metric)
            if row is None:
                cells.append(Cell("not applicable"))
            else:
                cells.append(Cell(plots.metric_text(metric, row["value"]), interval(metric, row["low"], row["high"])))
        rows.append(cells)
    notes = [str(note) for note in e.overall["note"].dropna().unique() if str(note).strip()]
    head = ("Metric", *e.labels.values())
    caption = "Models on the test part: value and 95 % interval"
    return Table(caption, head, rows, "l" + "r" * len(e.labels), capital("; ".join(notes)))


def ranking(e: Evidence) -> Section:
    """How the models order payments over all thresholds."""
    roc_caption = "Left: every threshold. Right: the part that matters where few payments can be reviewed."
    blocks = [
        not_available("roc.csv") if e.roc is None else Figure(plots.roc(e.roc, e.labels), roc_caption),
        not_available("pr.csv")
        if e.pr is None
        else Figure(plots.precision_recall(e.pr, e.labels), "The area under each curve is its average precision."),
    ]
    return Section("ranking", "Ranking curves", blocks)


def money_saved(e: Evidence) -> Section:
    """What reviewing more or fewer cases brings, net of its costs."""
    if e.cost is None:
        return Section("money", "Money", [not_available("cost.csv")])
    rows = [
        (
            f"{row.alerts_per_day:,}",
            count(row.cases),
            count(row.frauds_caught),
            money(row.fraud_amount_caught),
            money(row.review_costs),
            money(row.net_saved),
            HIDDEN if count(row.frauds_caught) == FEW else plots.share(row.precision),
        )
        for row in e.cost[e.cost["model"] == e.candidate].sort_values("alerts_per_day").itertuples()
    ]
    head = (
        "Cases a day",
        "Reviews",
        "Frauds caught",
        "Fraud amount caught",
        "Cost of reviews",
        "Net saving",
        "Precision",
    )
    cost, saved = e.setting("decision", "review_cost"), e.setting("decision", "recovery_rate")
    intro = (
        f"A review costs {provided(cost)}; of a caught fraud's amount the share {provided(saved)} is taken as saved. "
        "All sums are over the test part, in units of the data's currency."
    )
    figure = plots.cost_curve(e.cost, e.decision["alerts_per_day"], e.labels)
    blocks = [
        Prose(intro),
        Figure(figure, "Each further review costs the same and finds less; past the peak it costs more than it saves."),
        Table(f"{e.labels[e.candidate]}: saving by number of reviews", head, rows, "rrrrrrr"),
    ]
    return Section("money", "Money", blocks)


def calibration(e: Evidence) -> Section:
    """Whether a stated risk of 10 % means 10 frauds in 100."""
    risk = e.stated_risk
    if e.calibration is None or risk is None:
        return Section("calibration", "Calibration", [not_available("calibration.csv"), *_calibration_errors(e)])
    rows = [
        (
            str(number),
            count(row.n),
            plots.share(row.mean_predicted),
            HIDDEN if pd.isna(row.observed) else plots.share(row.observed),
            HIDDEN if pd.isna(row.observed) else f"{plots.share(row.low)} to {plots.share(row.high)}",
        )
        for number, row in enumerate(risk.sort_values("mean_predicted").itertuples(), start=1)
    ]
    head = ("Group", "Payments", "Stated risk", "Observed fraud", "95 % interval")
    figure = plots.calibration(e.calibration, e.labels, e.calibration_error)
    blocks = [
        Prose(
            "The stated risk is what people read on an alert, so it has to mean what it says: points on the diagonal "
            "do. Ranking, thresholds and tiers rest on the score before calibration, which keeps payments apart that "
            "calibration gives the same risk."
        ),
        Figure(
            figure,
            "Payments in groups of similar stated risk, each with no frauds or at least 10; bars are 95 % intervals.",
        ),
        Table("Stated risk and what was observed", head, rows, "lrrrr"),
        *_calibration_errors(e),
    ]
    return Section("calibration", "Calibration", blocks)


def _calibration_errors(e: Evidence) -> list[Any]:
    if e.calibration_error is None:
        return [not_available("calibration_error.csv")]
    mine = e.calibration_error[e.calibration_error["model"] == e.candidate]
    rows = [
        (f"{row.stage} calibration", f"{row.value:.2f}", f"{row.low:.2f} to {row.high:.2f}")
        for row in mine.itertuples()
    ]
    note = mine["note"].iloc[0] if len(mine) else "no risk with known labels"
    return [
        Table("Calibration error: frauds misplaced per fraud", ("", "Error", "95 % interval"), rows, "lrr"),
        Prose(
            f"An error of 1 is that of risks twice as high as they should be; {note}. Chance only ever adds, "
            "so the interval of a small error may lie above it."
        ),
    ]


def decision_tiers(e: Evidence) -> Section:
    """Thresholds, tiers and what each tier leads to."""
    names = {
        "step_up": "Second factor from score",
        "review": "Manual review from score",
        "limit": "Limit and review from score",
    }
    limits = e.decision["thresholds"]
    facts = [(said, "not used" if limits.get(key) is None else f"{limits[key]:.4g}") for key, said in names.items()]
    blocks: list[Any] = [
        Facts([*facts, ("Cases reviewed a day", f"{e.decision['alerts_per_day']:,}")]),
        Prose(
            "Tiers are cut on the score before calibration, not on the stated risk: calibration gives many payments "
            "the same risk, and a tie at a threshold would waste reviews. The thresholds were chosen on payments "
            "before the test part. Actions are recommendations; a person decides."
        ),
    ]
    if e.tiers is None:
        blocks.append(not_available("tiers.csv"))
    else:
        blocks += [
            Figure(plots.tiers(e.tiers), "A useful tier holds few payments and many frauds."),
            _tier_table(e.tiers),
        ]
    blocks += threshold_blocks(e)
    return Section("tiers", "Decision tiers", blocks)


def _tier_table(tiers: pd.DataFrame) -> Table:
    hidden = plots.small_cells(tiers["frauds"]) | plots.small_cells(tiers["transactions"])
    shown = zip(tiers.itertuples(), counts(tiers["transactions"]), counts(tiers["frauds"]), hidden)
    rows = [
        (
            row.tier,
            row.action.replace("_", " "),
            payments,
            frauds,
            HIDDEN if hide else plots.share(row.fraud_rate) if row.transactions else ABSENT,
            HIDDEN if hide else money(row.amount),
            HIDDEN if hide else money(row.fraud_amount),
            *_cases_a_day(row),
        )
        for row, payments, frauds, hide in shown
    ]
    head = ["Tier", "Action", "Payments", "Frauds", "Fraud rate", "Amount", "Fraud amount"]
    if "cases_per_day" in tiers:
        head.append("Cases a day (planned)")
    return Table("Decision tiers on the test part", tuple(head), rows, "llrrrrr" + "r" * (len(head) - 7))


def _cases_a_day(row: Any) -> tuple[str, ...]:
    found = getattr(row, "cases_per_day", None)
    planned = getattr(row, "planned_per_day", None)
    if found is None:
        return ()
    return (f"{found:,.1f}" + ("" if planned is None or pd.isna(planned) else f" ({planned:,.0f})"),)


def explanation(e: Evidence) -> Section:
    """What moves the score, in general and for five alerts."""
    intro = (
        "Contributions are SHAP values of the model itself, in log-odds: added to the average they give a payment's "
        "score exactly. They say how the model came to its score, not why a fraud happened."
    )
    blocks: list[Any] = [Prose(intro)]
    if e.importance is None:
        blocks.append(not_available("importance.csv"))
    else:
        caption = "Mean absolute contribution, and its share of the sum over all features."
        best = e.importance.sort_values("mean_abs", ascending=False).head(12)
        rows = [
            (_named(row.feature, e), row.group, f"{row.mean_abs:.3f}", plots.share(row.share))
            for row in best.itertuples()
        ]
        head = ("Feature", "Kind of reason", "Mean contribution", "Share")
        figure = Figure(plots.importance(e.importance, e.words), caption)
        blocks += [figure, Table("The strongest features", head, rows, "llrr")]
    if e.dependence is None:
        blocks.append(not_available("dependence.csv"))
    else:
        caption = (
            "Medians with the middle 80 % of the contributions, over groups of at least 10 payments of similar value."
        )
        blocks.append(Figure(plots.dependence(e.dependence, e.words), caption))
    if e.alerts is None:
        blocks.append(not_available("alerts.json"))
    else:
        blocks += [_case(alert, e) for alert in e.alerts[:5]]
    return Section("explanation", "Explanation", blocks)


def _case(alert: dict[str, Any], e: Evidence) -> Group:
    outcomes = {"fraud": "it was fraud", "genuine": "it was genuine", "unknown": "not known yet what it was"}
    facts = [
        ("When", f"{alert['day']}, {int(alert['hour']):02d} h UTC"),
        ("Amount", money(alert["amount"])),
        ("Score before calibration", f"{alert['score']:.4g}" if "score" in alert else NOT_PROVIDED),
        ("Stated risk", plots.share(alert["risk"])),
        ("Tier and action", f"{alert['tier']}: {str(alert['action']).replace('_', ' ')}"),
    ]
    reasons = alert["reasons"]
    blocks = [
        Facts(facts),
        Bullets(reasons) if reasons else Prose("No feature pushed this score towards fraud."),
        Figure(
            plots.waterfall(alert, e.words, e.kinds),
            "From the average payment's score to this one's, largest contributions first.",
        ),
    ]
    return Group(f"Example alert {alert['case']}: {outcomes.get(alert['outcome'], alert['outcome'])}", blocks)
