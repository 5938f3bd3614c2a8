"""The sections about decisions: what other budgets would save, which action when, how customers are rated."""

from __future__ import annotations

from typing import Any

import pandas as pd

from fraudlab import plots, rating
from fraudlab.report.blocks import (
    ABSENT,
    HIDDEN,
    NOT_APPLICABLE,
    Bullets,
    Cell,
    Facts,
    Figure,
    Group,
    Prose,
    Section,
    Table,
    count,
    counts,
    day,
    money,
    not_available,
    provided,
    share,
    span,
)
from fraudlab.report.comparison import threshold_blocks
from fraudlab.report.evidence import Evidence
from fraudlab.report.language import capital, retold, say, term


def money_saved(e: Evidence) -> Section:
    """What more or fewer reviews a day would bring, net of their costs, with intervals."""
    title = say("Money")
    if e.simulation is None:
        return Section("money", title, [not_available("simulation.csv")])
    cost, saved = e.setting("decision", "review_cost"), e.setting("decision", "recovery_rate")
    intro = say(
        "A review costs {cost}; of a caught fraud's amount the share {share} is taken as saved. Amounts are a day's "
        "mean over the test part, in units of the data's currency; every number of reviews sees the same replicates.",
        cost=provided(cost),
        share=provided(saved),
    )
    caption = say(
        "Each further review costs the same and finds less; past the peak it costs more than it saves. The band is the "
        "95 % interval of the candidate over customers; diamonds are what its thresholds brought. Numbers that differ "
        "by fewer than {n} frauds are not told apart.",
        n=plots.SMALLEST_CELL,
    )
    figure = plots.simulation(e.simulation, e.labels, budget=e.decision["alerts_per_day"])
    mine = e.simulation[e.simulation["model"] == e.candidate]
    blocks: list[Any] = [Prose(intro), Figure(figure, caption)]
    blocks += [_simulated(e, mine[mine["by"] == by], by) for by in ("budget", "threshold") if (mine["by"] == by).any()]
    return Section("money", title, blocks)


def _simulated(e: Evidence, table: pd.DataFrame, by: str) -> Table:
    """Table the candidate's budgets, or its thresholds."""
    measures = [
        "cases",
        "frauds_caught",
        "precision",
        "recall",
        "bothered_per_day",
        "net_saved_per_day",
        "net_saved_gain",
    ]
    rows = []
    for budget, found in table.sort_values("budget", kind="stable").groupby("budget"):
        values = found.set_index("metric")
        chosen = say("in use") if bool(found["chosen"].iloc[0]) else ""
        cut = found["threshold"].iloc[0]
        head = (
            Cell(f"{budget:,}", chosen) if by == "budget" else Cell(f"{budget:,}", say("from {cut}", cut=f"{cut:.4g}"))
        )
        rows.append((head, *(_simulated_cell(metric, values) for metric in measures)))
    head = (
        say("Cases a day") if by == "budget" else say("Cases a day on validation"),
        say("Reviews"),
        say("Frauds caught"),
        say("Precision"),
        say("Share of the frauds"),
        say("Genuine cases a day"),
        say("Saved a day, net"),
        say("More than in use"),
    )
    caption = (
        say("{model}: the best cases of each day", model=e.called(e.candidate))
        if by == "budget"
        else say("{model}: every case from a threshold chosen on validation", model=e.called(e.candidate))
    )
    note = say(
        "More than in use: what is saved a day less what the number in use saves; an interval without 0 is more than "
        "chance"
    )
    return Table(caption, head, rows, "lrrrrrrr", note)


def _simulated_cell(metric: str, values: pd.DataFrame) -> str | Cell:
    row = values.loc[metric]
    if pd.isna(row["value"]):
        return HIDDEN if str(row["note"]).startswith(HIDDEN) else Cell(NOT_APPLICABLE)

    def said(number: float) -> str:
        if metric in ("cases", "frauds_caught"):
            return f"{number:,.0f}"
        if metric in ("precision", "recall"):
            return share(number)
        return f"{number:,.1f}" if metric == "bothered_per_day" else money(number)

    sure = pd.notna(row["low"]) and metric != "cases"
    return Cell(said(row["value"]), span(said(row["low"]), said(row["high"])) if sure else "")


def decision_tiers(e: Evidence) -> Section:
    """Thresholds and tiers of the package, then the policy: which action when, and who decides."""
    names = {
        "step_up": say("Second factor from score"),
        "review": say("Manual review from score"),
        "limit": say("Limit and review from score"),
    }
    limits = e.decision["thresholds"]
    facts = [
        (said, say("not used") if limits.get(key) is None else f"{limits[key]:.4g}") for key, said in names.items()
    ]
    blocks: list[Any] = [
        Facts([*facts, (say("Cases reviewed a day"), f"{e.decision['alerts_per_day']:,}")]),
        Prose(
            say(
                "Tiers are cut on the score before calibration, not on the stated risk: calibration gives many "
                "payments the same risk, and a tie at a threshold would waste reviews. The thresholds were chosen on "
                "payments before the test part. Actions are recommendations; a person decides."
            )
        ),
    ]
    if e.tiers is None:
        blocks.append(not_available("tiers.csv"))
    else:
        blocks += [
            Figure(plots.tiers(e.tiers), say("A useful tier holds few payments and many frauds.")),
            _tier_table(e.tiers),
        ]
    blocks += threshold_blocks(e)
    blocks.append(Group(say("Which action when, and who decides"), _policy(e), "policy"))
    return Section("tiers", say("Decision tiers and actions"), blocks)


def _tier_table(tiers: pd.DataFrame) -> Table:
    hidden = plots.small_cells(tiers["frauds"]) | plots.small_cells(tiers["transactions"])
    shown = zip(tiers.itertuples(), counts(tiers["transactions"]), counts(tiers["frauds"]), hidden)
    rows = [
        (term(row.tier), _action(row.action), *_counted(row, payments, frauds, hide), *_cases_a_day(row))
        for row, payments, frauds, hide in shown
    ]
    head = [say("Tier"), say("Action"), *_counted_head()]
    if "cases_per_day" in tiers:
        head.append(say("Cases a day (planned)"))
    return Table(say("Decision tiers on the test part"), tuple(head), rows, "ll" + "r" * (len(head) - 2))


def _counted_head() -> list[str]:
    return [say("Payments"), say("Frauds"), say("Fraud rate"), say("Amount"), say("Fraud amount")]


def _counted(row: Any, payments: str, frauds: str, hide: bool) -> tuple[str, ...]:
    return (
        payments,
        frauds,
        HIDDEN if hide else share(row.fraud_rate) if row.transactions else ABSENT,
        HIDDEN if hide else money(row.amount),
        HIDDEN if hide else money(row.fraud_amount),
    )


def _cases_a_day(row: Any) -> tuple[str, ...]:
    found = getattr(row, "cases_per_day", None)
    planned = getattr(row, "planned_per_day", None)
    if found is None:
        return ()
    return (f"{found:,.1f}" + ("" if planned is None or pd.isna(planned) else f" ({planned:,.0f})"),)


def _action(name: Any) -> str:
    return term(str(name).replace("_", " "))


def _policy(e: Evidence) -> list[Any]:
    """The policy's rules in words and numbers, what it did on the test part, why, and what it cost beside the tiers."""
    named = list((e.setting("decision", "policy") or {}).get("automatic", []))
    person = (
        say(
            "Limiting and declining are decided by a person: the machine proposes, and a manual review is done. A "
            "decision against a customer is not left to a machine alone (GDPR Art. 22; in China PIPL Art. 24)."
        )
        if not named
        else say(
            "The config lets the machine carry out without a person: {actions}. Every customer concerned must be able "
            "to have a person look again (GDPR Art. 22; in China PIPL Art. 24).",
            actions=", ".join(_action(name) for name in named),
        )
    )
    words = [
        say("Each payment gets the action expected to cost least at its stated risk and amount."),
        say("Reviews, and second factors, go where they save most, until the day's number is used up."),
        say("A fired rule or the customer's rating can ask for more, never for less."),
        person,
    ]
    blocks: list[Any] = [Bullets(words)]
    tables = ("policy_costs", "policy", "policy_reasons", "policy_outcomes")
    blocks += [not_available(f"{name}.csv") for name in tables if getattr(e, name) is None]
    if e.policy_costs is not None and len(e.policy_costs):
        blocks.append(_cost_table(e.policy_costs))
    if e.policy is not None:
        blocks.append(Figure(plots.actions(e.policy), say("Frauds that are approved are those nothing pointed to.")))
        blocks += [_action_table(e.policy)] if len(e.policy) else []
    if e.policy_reasons is not None and len(e.policy_reasons):
        told = zip(e.policy_reasons.itertuples(), counts(e.policy_reasons["transactions"]))
        rows = [(_action(row.action), _action(row.proposed), retold(row.why), n) for row, n in told]
        head = (say("Done"), say("Cheapest if all could be done"), say("Why"), say("Payments"))
        blocks.append(Table(say("Why each action was taken"), head, rows, "lllr"))
    if e.policy_outcomes is not None and len(e.policy_outcomes):
        blocks.append(
            ways_table(e.policy_outcomes, say("What ways to choose actions would have cost on the test part"))
        )
    return blocks


def _cost_table(table: pd.DataFrame) -> Table:
    rows = [
        (_action(row.action), f"{row.cost:,.2f}", f"{row.friction:,.2f}", share(row.stops), f"{row.price:,.2f}")
        for row in table.itertuples()
    ]
    head = (
        say("Action"),
        say("Costs"),
        say("More where the customer is genuine"),
        say("Share of a fraud's amount it stops"),
        say("Must save beyond its cost"),
    )
    note = say(
        "The last column is the price of a scarce action, chosen on validation so that the day's number of reviews and "
        "of second factors is kept; 0 where there is room for all that pays"
    )
    return Table(say("What each action costs and stops"), head, rows, "lrrrr", note)


def _action_table(table: pd.DataFrame) -> Table:
    hidden = plots.small_cells(table["frauds"]) | plots.small_cells(table["transactions"])
    shown = zip(table.itertuples(), counts(table["transactions"]), counts(table["frauds"]), hidden)
    rows = [
        (
            Cell(_action(row.action), term(row.decided_by)),
            *_counted(row, payments, frauds, hide),
            f"{row.cases_per_day:,.1f}",
        )
        for row, payments, frauds, hide in shown
    ]
    head = (say("Action, and who decides"), *_counted_head(), say("Cases a day"))
    return Table(say("What the policy does with the payments of the test part"), head, rows, "lrrrrrr")


def ways_table(table: pd.DataFrame, caption: str) -> Table:
    """Lay ways to choose actions side by side: what each does and costs a day, and how much more than the first."""
    measures = ("reviews_per_day", "step_ups_per_day", "bothered_per_day", "fraud_lost_per_day", "cost_per_day")
    against = table["against"].fillna("")
    rows = []
    for way in dict.fromkeys(table["way"]):
        own = table[(table["way"] == way) & (against == "")].set_index("metric")
        more = table[(table["way"] == way) & (against != "")].set_index("metric")
        cells = [_way_cell(measure, own) for measure in measures]
        label = capital(term(plots.WAY_LABELS.get(way, way)))
        rows.append((label, *cells, _way_cell("cost_per_day", more) if len(more) else ABSENT))
    first = term(plots.WAY_LABELS.get(table["way"].iloc[0], table["way"].iloc[0]))
    head = (
        say("Way"),
        say("Reviews a day"),
        say("Second factors a day"),
        say("Genuine cases a day"),
        say("Fraud lost a day"),
        say("Cost a day"),
        say("Costs more"),
    )
    note = say(
        "Cost a day: fraud lost and what the actions cost; genuine cases: customers' days without a fraud that get "
        "anything but approval. Costs more: a day, than “{first}”; below 0 is better, an interval without 0 is "
        "more than chance",
        first=first,
    )
    return Table(caption, head, rows, "l" + "r" * 6, note)


def _way_cell(metric: str, values: pd.DataFrame) -> str | Cell:
    row = values.loc[metric]
    if pd.isna(row["value"]):
        return HIDDEN

    def said(number: float) -> str:
        return (
            f"{number:,.1f}" if metric in ("reviews_per_day", "step_ups_per_day", "bothered_per_day") else money(number)
        )

    return Cell(said(row["value"]), span(said(row["low"]), said(row["high"])) if pd.notna(row["low"]) else "")


def customer_rating(e: Evidence) -> Section:
    """How risky customers were rated over the weeks, what followed, and whether acting on it would have paid."""
    title = say("Customers' ratings over time")
    needed = ("customer_rating", "rating_after", "rating_moves", "rating_effect")
    if missing := [name for name in needed if getattr(e, name) is None]:
        return Section("rating", title, [not_available(f"{name}.csv") for name in missing])
    stated = rating.RatingRule(**(e.setting("decision", "rating") or {}))
    lasts = stated.lasts()
    intro = say(
        "A customer's rating is the number of frauds expected on them: confirmed ones from the day they were reported, "
        "before that the risks the model stated; what is {half} days older counts half. From {medium} on a customer is "
        "medium, from {high} on high, until less than {keep} of it is left. One confirmed fraud keeps a customer at "
        "high for at most {high_days} days and above low for {medium_days}, if nothing follows.",
        half=f"{stated.half_life_days:g}",
        medium=f"{stated.medium_from:g}",
        high=f"{stated.high_from:g}",
        keep=share(stated.keep),
        high_days=f"{lasts['high']:.0f}",
        medium_days=f"{lasts['medium']:.0f}",
    )
    told, said = rating.verdict(e.rating_after, e.rating_effect)
    caption = say(
        "Left: customers rated above low on the first day of each week. Right: what followed in that week, known "
        "victims included, with 95 % Wilson intervals."
    )
    blocks: list[Any] = [
        Prose(intro),
        Prose(retold(told)),
        Prose(retold(said)),
        Figure(plots.ratings(e.customer_rating, e.rating_after), caption),
        _after_table(e.rating_after),
        _week_table(e.customer_rating),
        _moves_table(e.rating_moves),
    ]
    if len(e.rating_effect):
        blocks.append(ways_table(e.rating_effect, say("What acting on ratings would have cost on the test part")))
    return Section("rating", title, blocks)


def _after_table(table: pd.DataFrame) -> Table:
    rows = [
        (
            term(row.rating),
            HIDDEN if pd.isna(row.customers) else count(row.customers),
            HIDDEN if pd.isna(row.transactions) else count(row.transactions),
            HIDDEN if pd.isna(row.frauds) else count(row.frauds),
            HIDDEN if pd.isna(row.fraud_rate) else Cell(share(row.fraud_rate), span(share(row.low), share(row.high))),
        )
        for row in table.itertuples()
    ]
    head = (
        say("Rating"),
        say("Customers, all weeks"),
        say("Payments of the week after"),
        say("Frauds"),
        say("Fraud rate"),
    )
    return Table(say("What followed on each rating"), head, rows, "lrrrr")


def _week_table(table: pd.DataFrame) -> Table:
    rows = []
    for week, found in table.groupby("week", sort=False):
        by = found.set_index("rating")["customers"]
        rows.append((day(week), *(HIDDEN if pd.isna(by[name]) else count(by[name]) for name in rating.RATINGS)))
    head = (say("Week from"), *(capital(term(name)) for name in rating.RATINGS))
    return Table(say("Customers by rating, week by week"), head, rows, "lrrr")


def _moves_table(table: pd.DataFrame) -> Table:
    wide = table.set_index(["before", "after"])["share"]
    rows = [
        (
            capital(term(before)),
            *(HIDDEN if pd.isna(wide[before, after]) else share(wide[before, after]) for after in rating.RATINGS),
        )
        for before in rating.RATINGS
        if before in set(table["before"])
    ]
    head = (say("From one week to the next"), *(capital(term(name)) for name in rating.RATINGS))
    return Table(say("How ratings move: share of the customers of each row"), head, rows, "lrrr")
