"""The sections of a model report: each is a function from the evidence to blocks, and every number comes from there.

To add a section, write a function `Evidence -> Section` and put it into `SECTIONS`; the template needs no change. The
sections about results are in `results.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pandas as pd

from fraudlab import plots
from fraudlab.report import comparison, results
from fraudlab.report.blocks import (
    NOT_PROVIDED,
    Bullets,
    Code,
    Facts,
    Figure,
    Group,
    KeyFigure,
    Prose,
    Section,
    Table,
    Verdict,
    capital,
    count,
    interval,
    moment,
    not_available,
    provided,
)
from fraudlab.report.evidence import Evidence

TREATMENTS = {
    "keep": "kept as it is",
    "pseudonymise": "replaced by a keyed pseudonym",
    "generalise": "made coarser",
    "mask": "identifiers in the text masked",
    "identity": "encrypted apart, in the identity file",
    "drop": "dropped at ingest",
}
BASES = {
    "consent": "consent, GDPR Article 6(1)(a)",
    "contract": "contract, GDPR Article 6(1)(b)",
    "legal-obligation": "legal obligation, GDPR Article 6(1)(c)",
    "vital-interests": "vital interests, GDPR Article 6(1)(d)",
    "public-task": "public task, GDPR Article 6(1)(e)",
    "legitimate-interest": "legitimate interest, GDPR Article 6(1)(f)",
}
KEY_METRICS = ("card_precision_at_k", "money_caught_share", "average_precision", "auc_roc")
FEW_FRAUDS, FEW_DAYS = 100, 20
NOT_APPLICABLE = "not applicable"
REMEMBERS = 0.75
"""AUC of the guess from which the report warns that the model remembers frauds."""


def summary(e: Evidence) -> Section:
    """The decision, the key figures with intervals against the best baseline, and the gate."""
    d, test = e.decision, e.part("test")
    model = f"{provided(e.run.get('model_name') or e.run['name'])} version {provided(d.get('challenger_version'))}"
    before = provided(d.get("champion_before"))
    tone, word, sentence = {
        "promoted": ("good", "promoted", f"{model} is the champion now."),
        "kept champion": (
            "hold",
            "champion kept",
            f"{model} stays a challenger; version {before} remains the champion.",
        ),
        "rejected": ("bad", "rejected", f"{model} did not pass the gate and is not to be used."),
    }[d["decision"]]
    figures = []
    for metric in KEY_METRICS:
        if (row := e.metric(e.candidate, metric)) is not None:
            best = next(iter(e.rivals(metric)), None)
            against = "no baseline measured"
            if best is not None:
                against = f"{e.labels[best['model']]}: {plots.metric_text(metric, best['value'])}"
            value, spread = plots.metric_text(metric, row["value"]), interval(metric, row["low"], row["high"])
            figures.append(KeyFigure(capital(plots.METRIC_LABELS[metric]), value, spread, against))
    explained = (
        f"The figures are those of {e.labels[e.candidate]} on the test part ({moment(test.get('start'))[:10]} until "
        f"before {moment(test.get('end'))[:10]}, {count(test.get('transactions', 0))} payments), from which no model "
        f"learnt, when investigators review {d['alerts_per_day']:,} cases a day. Below each figure stand its 95 % "
        "interval and the best baseline."
    )
    reasons = [_signs(reason) for reason in d["reasons"]]
    return Section("summary", "Summary", [Verdict(tone, word, sentence, reasons, figures), Prose(explained), *_gate(d)])


def _gate(decision: dict[str, Any]) -> list[Any]:
    """Table the gate where a check failed or the reasons do not name every check."""
    if not decision["gate"]:
        return [Prose("No check of the promotion gate was recorded.")]
    said = " ".join(decision["reasons"])
    if all(check["passed"] and check["check"] in said for check in decision["gate"]):
        return []
    rows = [
        (
            capital(check["check"]),
            _signs(str(check["required"])),
            str(check["found"]),
            "passed" if check["passed"] else "failed",
        )
        for check in decision["gate"]
    ]
    return [Table("The promotion gate", ("Check", "Required", "Found", "Result"), rows, "lrrl")]


def _signs(text: str) -> str:
    return capital(text.replace(">=", "≥").replace("<=", "≤"))


def purpose_and_owner(e: Evidence) -> Section:
    """Who answers for the model and what it is for; empty human fields say so."""
    run, kept = e.run, e.data.get("retention_days")
    purpose = provided(run.get("purpose"))
    if meaning := e.data.get("purpose_meaning"):
        purpose += f": {meaning}"
    basis = e.data.get("basis")
    facts = [
        ("Model", provided(run.get("model_name") or run["name"])),
        ("Title", provided(run.get("title"))),
        ("Purpose of the processing", purpose),
        ("Lawful basis in the data contract", BASES.get(basis, provided(basis))),
        ("Kept for this purpose at most", NOT_PROVIDED if kept is None else f"{kept:,} days"),
        ("Owner", provided(run.get("owner"))),
        ("Intended users", provided(run.get("users"))),
        ("Materiality or risk tier", provided(run.get("risk_tier"))),
    ]
    use = (
        "Intended use: to order payments for review by people and to ask for a second factor. A score is no proof of "
        "fraud; a decision against a customer needs a person's review."
    )
    return Section("purpose", "Purpose and owner", [Facts(facts), Prose(use)])


def data(e: Evidence) -> Section:
    """What the model was made from: volume, labels, columns with their treatment, what was dropped."""
    blocks: list[Any] = [Facts(_data_facts(e))]
    if e.daily_volume is None:
        blocks.append(not_available("daily_volume.csv"))
    else:
        caption = (
            "Payments a day and the weekly rate of fraud. Where the area ends, labels are not known yet; frauds are "
            "labelled first, so a rate over those few labels would be far too high."
        )
        blocks.append(Figure(plots.daily_volume(e.daily_volume), caption))
    if e.label_maturity is None:
        blocks.append(not_available("label_maturity.csv"))
    else:
        caption = (
            "How soon frauds are reported, among payments old enough for their reports to have arrived. That a payment "
            "was genuine is known only after waiting: the split uses no label before its time."
        )
        blocks.append(Figure(plots.label_maturity(e.label_maturity, e.setting("split", "delay_days")), caption))
    order = [*TREATMENTS, *(column["treatment"] for column in e.data["columns"])]
    columns = [
        (
            column["name"],
            provided(column.get("type")),
            TREATMENTS.get(column["treatment"], column["treatment"]),
            ", ".join(column.get("purposes") or ["none"]),
            provided(column.get("meaning")),
        )
        for column in sorted(e.data["columns"], key=lambda column: order.index(column["treatment"]))
    ]
    head = ("Column", "Type", "Treatment", "Purposes", "Meaning")
    blocks.append(Table("Columns of the contract, by treatment", head, columns, "lllll"))
    if e.data["dropped"]:
        caption = "Columns of the source that the contract does not declare: dropped and counted"
        dropped = [(row["column"], count(row["non_null"])) for row in e.data["dropped"]]
        blocks.append(Table(caption, ("Column", "Values dropped"), dropped, "lr"))
    else:
        blocks.append(Prose("The source held no column that the contract does not declare."))
    return Section("data", "Data", blocks)


def _data_facts(e: Evidence) -> list[tuple[str, str]]:
    d = e.data
    frauds = count(d["frauds"])
    if d["frauds"] >= plots.SMALLEST_CELL:
        frauds += f" ({plots.share(d['frauds'] / d['labelled'])} of the labelled)"
    facts = [
        ("Data set", f"{d['dataset']} (source: {provided(d.get('source'))})"),
        ("Period", f"{moment(d['first'])} to {moment(d['last'])}"),
        ("Known as of", moment(e.run["as_of"]) if e.run.get("as_of") else "everything held"),
        ("Payments", count(d["rows"])),
        ("Customers", count(d["customers"])),
        ("Merchants", "no such column" if d.get("merchants") is None else count(d["merchants"])),
        ("With a known label", count(d["labelled"])),
        ("Label not known yet", count(d["unlabelled"])),
        ("Frauds", frauds),
    ]
    if delay := d.get("label_delay_days"):
        said = f"half within {delay['median']:.1f}, 90 % within {delay['p90']:.1f}, longest {delay['max']:.1f}"
        facts.append(("Days until a label is known", said))
    facts.append(("Data (sha-256)", provided(d["digest"])))
    facts.append(("Contract (sha-256)", provided(d.get("contract_digest"))))
    return facts


def privacy(e: Evidence) -> Section:
    """What personal data was used, how it was protected, what this report leaves out."""
    treated: dict[str, list[str]] = {}
    for column in e.data["columns"]:
        treated.setdefault(column["treatment"], []).append(column["name"])
    used = e.data["purpose_columns"]
    facts = [("Purpose", provided(e.data["purpose"])), ("Columns loaded for it", f"{len(used)}: {', '.join(used)}")]
    facts += [(capital(TREATMENTS.get(key, key)), ", ".join(names)) for key, names in treated.items() if key != "keep"]
    undeclared = ", ".join(row["column"] for row in e.data["dropped"]) or "none"
    facts.append(("Undeclared, never left ingest", undeclared))
    rules = [
        "Payments with pseudonyms remain personal data: whoever holds the key, or knows a few payments of a customer, "
        "can recognise that customer. This report is for people bound to confidentiality.",
        "Pseudonyms are keyed and differ per column; no raw identifier is part of the data the model saw.",
        "Tables about payments and people do not show counts from 1 to 9, nor rates that would give them away; where "
        "one hidden count could be worked out from a total, a second one is hidden. Groups of stated risk are joined "
        "until each holds no frauds or at least 10, alert budgets that differ by fewer frauds are left out, frauds are "
        "counted by the week. Curves and the precision of the daily list describe the model's scores, not people with "
        "a common trait, and are shown as measured.",
        "Example alerts carry no identifier and no pseudonym.",
    ]
    return Section("privacy", "Privacy", [Facts(facts), Bullets(rules), *_memory(e)])


def _memory(e: Evidence) -> list[Any]:
    """Say how well the model's stated risks tell whom it learnt from."""
    if e.membership is None:
        return [not_available("membership.csv")]
    rows = [
        (
            capital(row.group),
            count(row.members),
            count(row.others),
            NOT_APPLICABLE if pd.isna(row.auc) else f"{row.auc:.3f}",
            "" if pd.isna(row.note) else str(row.note),
        )
        for row in e.membership.itertuples()
    ]
    said = (
        "Does the model remember single payments? Whoever knows a payment and its label sees from the stated risk how "
        "surprised the model is, and guesses that the payments which surprise it least were in its training. 0.5: the "
        "guess is worth nothing; 1: it is always right. The frauds count most, because they are few."
    )
    head = ("Payments", "Learnt from", "Not learnt from", "Guess (AUC)", "Note")
    return [Prose(said), Table("What the model gives away of whom it learnt from", head, rows, "lrrrl")]


def data_protection(e: Evidence) -> Section:
    """Purposes, minimisation and retention, as far as the evidence tells; the papers tell the rest."""
    columns, mine = e.data["columns"], provided(e.data["purpose"])
    purposes = dict.fromkeys([mine, *(name for column in columns for name in column.get("purposes") or [])])
    rows = []
    for name in purposes:
        allowed = [column for column in columns if name in (column.get("purposes") or [])]
        apart = sum(column["treatment"] in ("identity", "drop") for column in allowed)
        rows.append((name, str(len(allowed) - apart), str(apart), "this model" if name == mine else ""))
    head = ("Purpose", "Columns it may load", "Kept apart, for look-ups", "")
    used = len(e.data["purpose_columns"])
    facts = [
        ("Lawful basis in the data contract", BASES.get(e.data.get("basis"), provided(e.data.get("basis")))),
        ("Left out for the customers' sake", _left_out(e.data.get("left_out"))),
        ("Not declared, dropped at ingest", f"{len(e.data['dropped'])} columns of the source"),
        ("Loaded for this purpose", f"{used} of {len(columns)} columns"),
        ("Kept for this purpose at most", _retention(e)),
    ]
    papers = (
        "Record of processing, impact assessment, minimisation, notice and retention: `fraudlab privacy papers` makes "
        "them from the vault, the ledger and the registered models."
    )
    blocks = [Facts(facts), Table("Purposes", head, rows, "lrrl"), Prose(papers)]
    return Section("data-protection", "Data protection", blocks)


def _left_out(left_out: dict[str, Any] | None) -> str:
    """Say how many customers, with how many payments, the ledger left out of the load, and for which reasons."""
    if left_out is None:
        return NOT_PROVIDED
    if left_out["customers"] == 0:
        return "nobody"
    why = ", ".join(f"{reason}: {count(n)}" for reason, n in left_out["why"].items())
    rows = left_out.get("rows", 0)
    return f"{count(left_out['customers'])} customers with {count(rows)} payments{f' ({why})' if why else ''}"


def _retention(e: Evidence) -> str:
    """Say the limit, and how old the oldest payment was when the run was made."""
    days = e.data.get("retention_days")
    if days is None:
        return NOT_PROVIDED
    oldest, made = (pd.to_datetime(value, utc=True, errors="coerce") for value in (e.data["first"], e.run["created"]))
    if pd.isna(oldest) or pd.isna(made):
        return f"{days:,} days"
    age = max((made - oldest).days, 0)
    past = ": past its time, see `fraudlab privacy papers`" if age > days else ""
    return f"{days:,} days; the oldest payment had {age:,} when this was made{past}"


def limitations(e: Evidence) -> Section:
    """What the evidence does not show: found in this run, and always."""
    found = found_limitations(e)
    always = [
        "Labels are reports: a fraud nobody reported counts as genuine, and a payment that was stopped got no label.",
        "The test is one past period. Fraudsters adapt; performance has to be watched after release.",
        "Contributions describe the model. They are no causes; correlated features share weight as the model chose.",
        "Intervals cover the sampling of test days, not the choice of model and period.",
        f"Not assessed here: {'' if _groups_compared(e) else 'differences between groups of customers, '}deliberate "
        "evasion, drift after the test.",
    ]
    crossed = Bullets(found) if found else Prose("No limit of this report's list was crossed.")
    groups = [Group("Found in this run", [crossed]), Group("Always", [Bullets(always)])]
    return Section("limitations", "Limitations", groups)


def _groups_compared(e: Evidence) -> bool:
    return any(
        table is not None and (table["view"].eq("group") & table["value"].notna()).any()
        for table in (e.comparison, e.champion_comparison)
    )


def found_limitations(e: Evidence) -> list[str]:
    """Return a sentence for each limit that this run's evidence crosses."""
    found = []
    if str(e.data.get("source")).startswith("simulat"):
        found.append(
            "The data is simulated: the figures show that the method works, not how it does on real customers."
        )
    frauds = e.part("test").get("frauds", 0)
    if frauds is None or frauds < FEW_FRAUDS:
        found.append(f"Few frauds: the test part holds {count(frauds)}, below {FEW_FRAUDS}; expect wide intervals.")
    days = 0 if e.daily is None else int((e.daily["model"] == e.candidate).sum())
    if 0 < days < FEW_DAYS:
        found.append(f"Few days: the test has {days}, below {FEW_DAYS}; intervals over days are too narrow then.")
    if (late := e.fold.get("late_frauds", 0)) >= 0.01:
        found.append(
            f"Frauds still to come: about {plots.share(late)} of the test's frauds are expected to be reported later."
        )
    delay, needed = e.setting("split", "delay_days"), (e.data.get("label_delay_days") or {}).get("p90")
    if delay is not None and needed is not None and needed > delay:
        found.append(f"Late labels: 90 % are known only after {needed:.1f} days; the split waits {delay}.")
    if e.label_maturity is not None and delay is not None:
        known = e.label_maturity.loc[e.label_maturity["days_since_event"] <= delay, "share_known"].max()
        if known < 0.95:
            found.append(f"Immature labels: only {plots.share(known)} are known when the split stops waiting.")
        if "share_frauds_known" in e.label_maturity:
            in_time = e.label_maturity.loc[e.label_maturity["days_since_event"] <= delay, "share_frauds_known"].max()
            if in_time < 0.95:
                found.append(
                    f"Late reports: {plots.share(1 - in_time)} of the frauds are reported only after the {delay} days "
                    "that the split waits, too late for the newest training payments."
                )
    mine = e.metric(e.candidate, "card_precision_at_k")
    near = [] if mine is None else [r for r in e.rivals("card_precision_at_k") if r["high"] >= mine["low"]]
    if near:
        rival = e.labels[near[0]["model"]]
        found.append(f"Not clearly ahead: at the alert budget the interval of {rival} overlaps the candidate's.")
    if (risk := e.stated_risk) is not None:
        stated, seen = (risk["n"] * risk["mean_predicted"]).sum(), (risk["n"] * risk["observed"]).sum()
        if not 0.8 <= stated / max(seen, 1) <= 1.25:
            too = "high" if stated > seen else "low"
            found.append(
                f"Level: the stated risks of the test part add up to {stated:,.0f} frauds and {seen:,.0f} were seen; "
                f"the level of fraud has moved since validation, so read risks as too {too}."
            )
        outside = int((~risk["mean_predicted"].between(risk["low"], risk["high"])).sum())
        if outside:
            found.append(
                f"Calibration: in {outside} of {len(risk)} groups the stated risk lies outside the 95 % interval."
            )
    if e.membership is not None:
        of_frauds = e.membership.loc[e.membership["group"] == "fraud", "auc"].max()
        if of_frauds > REMEMBERS:
            found.append(
                f"Memory: the stated risk tells with an AUC of {of_frauds:.3f} which frauds the model learnt from; a "
                "smaller depth or a larger min_child_weight makes it forget single payments."
            )
    if e.importance is not None and len(e.importance):
        top = e.importance.nlargest(1, "share").iloc[0]
        if top["share"] > 0.5:
            name = e.words.get(top["feature"]) or top["feature"]
            found.append(f"One feature dominates: {name} makes up {plots.share(top['share'])} of all movement.")
    found += [
        f"Check {check['code']} failed: {check['sentence']}" for check in e.checks or [] if check["result"] == "failed"
    ]
    if e.data["dropped"]:
        names = ", ".join(row["column"] for row in e.data["dropped"])
        found.append(f"Unused source columns: the contract does not declare {names}, so the model never saw them.")
    return found


def reproduce(e: Evidence) -> Section:
    """The command, the digests and the versions that give this result again."""
    run = e.run
    digests = [
        ("Run", provided(run["run_id"])),
        ("Made", moment(run["created"])),
        ("Seed", provided(run.get("seed"))),
        ("Config (sha-256)", provided(run["config_digest"])),
        ("Data (sha-256)", provided(run.get("data_digest") or e.data["digest"])),
        ("Code (sha-256)", provided(run.get("code_digest"))),
        ("Git commit", provided(run.get("git_commit"))),
        ("Locked environment (sha-256)", provided(run.get("lock_digest"))),
        ("Evidence of this report (sha-256)", e.digest),
        ("MLflow run", provided(run.get("mlflow_run_id"))),
        ("Registered model", f"{provided(run.get('model_name'))}, version {provided(run.get('model_version'))}"),
    ]
    versions = [(name, str(version)) for name, version in run["versions"].items()]
    blocks = [
        Prose("With the same data, code and environment (equal digests) this command gives the same figures:"),
        Code(provided(run["command"]), "Command"),
        Facts(digests),
        Table("Versions", ("Package", "Version"), versions, "lr"),
        Group("The config as used", [Code(e.config_text.rstrip(), "Config")]),
    ]
    return Section("reproduce", "How to reproduce", blocks)


def sign_off(e: Evidence) -> Section:
    """What changed and who agreed; left for people to fill in."""
    before, after = (provided(e.decision.get(f"champion_{when}")) for when in ("before", "after"))
    change = (provided(e.decision.get("challenger_version")), moment(e.run["created"])[:10], NOT_PROVIDED, NOT_PROVIDED)
    roles = ("Developer", "Independent validator", "Business owner", "Data protection officer")
    signed = [(role, NOT_PROVIDED, NOT_PROVIDED, NOT_PROVIDED) for role in roles]
    blocks = [
        Facts([("Champion before", before), ("Champion after", after)]),
        Table("Change log", ("Version", "Date", "What changed and why", "Approved by"), [change], "llll"),
        Table("Sign-off", ("Role", "Name", "Decision", "Date"), signed, "llll"),
    ]
    return Section("sign-off", "Change log and sign-off", blocks)


SECTIONS: tuple[Callable[[Evidence], Section], ...] = (
    summary,
    purpose_and_owner,
    data,
    privacy,
    data_protection,
    results.method,
    results.features,
    results.audit,
    results.performance,
    comparison.comparison,
    results.ranking,
    results.money_saved,
    results.calibration,
    results.decision_tiers,
    results.explanation,
    limitations,
    reproduce,
    sign_off,
)
