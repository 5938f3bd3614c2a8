"""The papers themselves: each is a function from the facts to sections, and every figure comes from there.

To add a paper, write a function `Facts -> Paper` and put it into `PAPERS`. What only a person knows is asked with
`asked`, never invented. These are drafts for the people who answer for the processing, not legal advice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pandas as pd

from fraudlab.papers.facts import QUESTIONS, SPLITTING, Facts
from fraudlab.papers.render import Paper
from fraudlab.report.blocks import NOT_PROVIDED, Bullets, Prose, Section, Table, capital, count, moment
from fraudlab.report.blocks import Facts as Terms
from fraudlab.report.data import BASES, TREATMENTS

NOBODY = "no model, no named feature set"

RISKS: tuple[tuple[str, str, str, str], ...] = (
    (
        "Someone reads the stored data: a stolen disk, another account",
        "AES-256-GCM, a key of its own for features and for identities, files for their owner only",
        "tests/privacy/test_vault.py, tests/privacy/test_keys.py",
        "Who has the keys and the vault has everything; see FD05 of fraudlab doctor",
    ),
    (
        "An analyst sees more than the purpose needs",
        "The contract decides the columns of each purpose; others are refused by name",
        "tests/datasets/test_ingest.py",
        "Amounts, times and merchants stay exact, because fraud shows there",
    ),
    (
        "A customer is recognised in pseudonymous payments",
        "Keyed pseudonyms, coarser age, place and postcode; the figures below",
        "tests/privacy/test_treatments.py, tests/privacy/test_anonymity.py",
        "Who knows a few payments of a person can find that person: the data stay personal data",
    ),
    (
        "A customer objects or withdraws, and is used all the same",
        "A ledger that every load heeds; reports say how many were left out",
        "tests/privacy/test_consent.py",
        "A model trained before still knows what it learnt, until it is trained anew",
    ),
    (
        "Data are kept longer than needed",
        "A retention time for each purpose; the retention table counts what is past it",
        "tests/doors/test_papers.py",
        "Copies outside the workspace are not seen",
    ),
    (
        "Raw identifiers reach logs, reports or models",
        "Raw values live in one step only; `fraudlab privacy scan` searches every byte",
        "tests/privacy/test_scan.py, tests/doors/test_workflow.py",
        "Pictures, other compression and identifiers of fewer than six characters",
    ),
    (
        "Data are changed or lost",
        "A sealed manifest with the digest of each file; a version is replaced whole or not at all",
        "tests/privacy/test_vault.py",
        "A whole older version put back with its manifest is not noticed",
    ),
    (
        "Misuse stays unseen",
        "An audit log whose entries are chained; loads, look-ups and refusals are entered",
        "tests/privacy/test_auditlog.py",
        "A cut tail shows only against an anchor kept elsewhere",
    ),
    (
        "A customer is treated wrongly by a score",
        "Reasons with each alert, tiers with a person's review, a gate before a model goes to work",
        "tests/serving/test_serving.py, tests/decisions/test_decisions.py",
        "Differences between groups of customers are not assessed",
    ),
)
"""Risk to the customers, what stands against it, the test that shows it, what remains."""

PLAIN_BASES = {
    "consent": "You said yes. You can take that back at any time.",
    "contract": "We need it to do what we agreed with you.",
    "legal-obligation": "The law tells us to.",
    "vital-interests": "It protects a life.",
    "public-task": "It is a task the law gave us for the public good.",
    "legitimate-interest": "We have a fair reason: to stop fraud. You can object.",
}
PLAIN_TREATMENTS = {
    "keep": "We keep this as it is.",
    "pseudonymise": "We swap this for a code. The code does not show who you are.",
    "generalise": "We make this less exact.",
    "mask": "We blank out card numbers, phone numbers and mail addresses in this.",
    "identity": "We lock this away. Our models do not see it.",
}


def asked(facts: Facts, question: str) -> str:
    """Return a person's answer, else "not provided" with the question and its name in answers.toml."""
    return facts.answers.get(question) or f"{NOT_PROVIDED}: {QUESTIONS[question]} (answers.toml: {question})"


def origin(facts: Facts) -> list[tuple[str, str]]:
    """Return where the figures of a paper come from."""
    return [
        ("Data set", str(facts.manifest["dataset"])),
        ("Written into the vault", moment(facts.manifest["created"])),
        ("Manifest (sha-256)", facts.manifest_digest),
        ("Data (sha-256)", str(facts.manifest["digest"])),
        ("Contract (sha-256)", str(facts.manifest["contract_digest"])),
        ("Made", moment(facts.made.isoformat())),
    ]


def record(facts: Facts) -> Paper:
    """The record of processing activities, GDPR Art. 30(1)."""
    who = [
        ("Controller", asked(facts, "controller")),
        ("Contact", asked(facts, "controller_contact")),
        ("Data protection officer", asked(facts, "data_protection_officer")),
        ("Processors", asked(facts, "processors")),
    ]
    people = [
        ("Data subjects", f"customers who pay: {count(facts.customers)} in this data set"),
        ("Merchants", "businesses; a trader under the own name is a person too"),
        ("Payments", count(facts.manifest["rows"])),
        ("Source", asked(facts, "data_source")),
        ("Special categories (Art. 9)", asked(facts, "special_categories")),
    ]
    to = [("Recipients", asked(facts, "recipients")), ("Transfers", asked(facts, "transfers"))]
    sections = [
        Section("who", "Who answers for it", [Terms(who)]),
        Section("purposes", "Purposes", [_purposes(facts)]),
        Section("people", "Whose data", [Terms(people)]),
        Section("data", "Which data", [_columns(facts)]),
        Section("recipients", "Who gets the data", [Terms(to), *_gone(facts)]),
        Section("retention", "How long", [_retention(facts)]),
        Section("security", "Security measures (Art. 32)", [Bullets([*_security(facts)])]),
    ]
    return _paper("record-of-processing", "Record of processing activities", "GDPR Article 30(1).", sections, facts)


def assessment(facts: Facts) -> Paper:
    """A draft of the data protection impact assessment, GDPR Art. 35(7)."""
    described = [
        ("Data set", f"{facts.manifest['dataset']}, {count(facts.manifest['rows'])} payments"),
        ("Customers", count(facts.customers)),
        (
            "What happens",
            "payments are checked, treated and encrypted; models rank them; people review alerts",
        ),
        ("Registered models", _models_said(facts)),
        ("Automated decisions (Art. 22)", asked(facts, "automated_decisions")),
        ("Balance of interests", asked(facts, "interest_balance")),
    ]
    decided = [
        ("Customers' views (Art. 35(9))", asked(facts, "customer_views")),
        ("Officer's advice (Art. 35(2))", asked(facts, "officer_advice")),
        ("Remaining risk accepted by", asked(facts, "remaining_risk_accepted_by")),
    ]
    risks = Table("Risks to the customers", ("Risk", "Measure", "Test", "What remains"), RISKS, "llll")
    sections = [
        Section("description", "What is done, and why", [Terms(described), _purposes(facts)]),
        Section("necessity", "Is it needed, and is it in proportion", _necessity(facts)),
        Section("risks", "Risks and measures", [risks]),
        Section("recognition", "How easily a customer is recognised", _recognition(facts)),
        Section("rights", "What customers said", [_rights(facts)]),
        Section("decision", "Advice and decision", [Terms(decided)]),
    ]
    about = "A draft under GDPR Article 35(7). How likely and how severe each risk is, people have to judge."
    return _paper("impact-assessment", "Data protection impact assessment, draft", about, sections, facts)


def minimisation(facts: Facts) -> Paper:
    """What was collected, may be used, is used, and is used by nobody."""
    sections = [
        Section("collected", "What was collected", [_collected(facts), *_dropped(facts)]),
        Section("allowed", "What each purpose may use", [_allowed(facts)]),
        Section("used", "What the trained models use", _models(facts)),
        Section("unused", "What nobody uses", _unused(facts)),
    ]
    about = "GDPR Article 5(1)(c): adequate, relevant and limited to what is necessary."
    return _paper("data-minimisation", "Data minimisation", about, sections, facts)


def notice(facts: Facts) -> Paper:
    """A privacy notice in plain words, to be completed and put before the customers (GDPR Art. 13 and 14)."""
    us = [("We are", asked(facts, "controller")), ("Write to us", asked(facts, "controller_contact"))]
    us.append(("Our data protection officer", asked(facts, "data_protection_officer")))
    why = [
        f"{purpose['meaning']}. {PLAIN_BASES[purpose['basis']]} We keep the data for {_plain_days(purpose)}."
        for purpose in facts.manifest["purposes"].values()
    ]
    what = []
    for treatment, words in PLAIN_TREATMENTS.items():
        if named := [column["meaning"] for column in facts.columns if column["treatment"] == treatment]:
            what += [Prose(words), Bullets([f"{capital(meaning.partition(';')[0])}." for meaning in named])]
    gets = [("Who gets them", asked(facts, "recipients")), ("Other countries", asked(facts, "transfers"))]
    rights = [
        "You can ask what we hold on you. We give you a copy.",
        "You can ask us to fix what is wrong.",
        "You can ask us to erase your data.",
        "You can ask us to stop for a while.",
        "You can object. We then stop, or tell you why we may not.",
        "If you said yes to a use, you can take it back.",
        "You can ask a person to look at what a model said of you.",
        "You can complain. Here is who to turn to.",
    ]
    source = [("Where we got the data", asked(facts, "data_source"))]
    sections = [
        Section("us", "Who we are", [Terms(us)]),
        Section("why", "Why we use your data", [Prose("We want to stop fraud. This is what we do."), Bullets(why)]),
        Section("what", "What we use", [*what, Terms(source)]),
        Section("model", "How a model helps", [Bullets(_plain_model())]),
        Section("who", "Who sees your data", [Terms(gets)]),
        Section("rights", "What you can do", [Bullets(rights), Terms(_authority(facts))]),
    ]
    return _paper(
        "privacy-notice", "How we use your data to stop fraud", "This is for you, our customer.", sections, facts
    )


def retention(facts: Facts) -> Paper:
    """How old the rows are against what each purpose allows, and what to do."""
    reasons = [("Why each time is needed", asked(facts, "retention_reasons"))]
    sections = [
        Section("table", "What is past its time", [_retention(facts)]),
        Section("next", "Next step", [Bullets(_retention_steps(facts))]),
        Section("reasons", "Reasons", [Terms(reasons)]),
    ]
    about = "GDPR Article 5(1)(e): kept no longer than is necessary."
    return _paper("retention", "Retention", about, sections, facts)


PAPERS: tuple[Callable[[Facts], Paper], ...] = (record, assessment, minimisation, notice, retention)


def summary(facts: Facts, papers: Iterable[Paper]) -> Paper:
    """The list of papers and of the questions that are still open."""
    open_ = [name for name in QUESTIONS if name not in facts.answers]
    rows = [(paper.title, f"{paper.id}.md", f"{paper.id}.html", paper.about) for paper in papers]
    listed: list[Any] = [
        Prose(f"{len(open_)} of {len(QUESTIONS)} questions are open. Answer them in answers.toml, then make them anew.")
    ]
    if open_:
        table = [(name, QUESTIONS[name]) for name in open_]
        listed.append(Table("Not provided", ("Name in answers.toml", "Question"), table, "ll"))
    sections = [
        Section("open", "What is still open", listed),
        Section("papers", "The papers", [Table("Papers", ("Paper", "To edit", "To read", "What for"), rows, "llll")]),
    ]
    about = "Drafts made from facts; the people who answer for the processing complete, judge and sign them."
    return _paper("summary", "Data protection papers", about, sections, facts)


# -- their parts ---------------------------------------------------------------------------------------------------


def _paper(name: str, title: str, about: str, sections: list[Section], facts: Facts) -> Paper:
    return Paper(name, title, about, sections, origin(facts))


def _purposes(facts: Facts) -> Table:
    rows = [
        (name, purpose["meaning"], BASES.get(purpose["basis"], purpose["basis"]), f"{purpose['retention_days']:,}")
        for name, purpose in facts.manifest["purposes"].items()
    ]
    return Table("Purposes in the contract", ("Purpose", "Meaning", "Lawful basis", "Kept, days"), rows, "lllr")


def _columns(facts: Facts) -> Table:
    rows = [
        (column["name"], column["meaning"], TREATMENTS.get(column["treatment"], column["treatment"]), _for(column))
        for column in facts.columns
    ]
    return Table("Categories of data", ("Column", "Meaning", "Treatment", "For"), rows, "llll")


def _for(column: dict[str, Any]) -> str:
    return ", ".join(column["purposes"])


def _security(facts: Facts) -> list[str]:
    keys = ", ".join(facts.manifest["keys"])
    log = "not begun yet" if facts.loads is None else f"{int(facts.loads['loads'].sum()):,} loads of this data set"
    return [
        f"Encryption: AES-256-GCM, a key each for {keys}.",
        "Pseudonyms: HMAC-SHA256 under a key of the project, a key of its own for each column.",
        "Integrity: the sha-256 of every file, in a manifest that is sealed.",
        "Least privilege: each load states a purpose, which decides the columns.",
        f"Audit log: chained entries; {log}.",
        "State on this machine: `fraudlab doctor`.",
        asked(facts, "organisational_measures"),
    ]


def _models_said(facts: Facts) -> str:
    if not facts.models:
        return "none yet"
    return ", ".join(f"{m.name} {m.version}{f' ({m.aliases})' if m.aliases else ''}" for m in facts.models)


def _necessity(facts: Facts) -> list[Any]:
    rows = []
    for name in facts.manifest["purposes"]:
        loadable = facts.loadable(name)
        used = [column for column in loadable if column in facts.used]
        unused = [column for column in loadable if column not in facts.used]
        rows.append((name, str(len(loadable)), str(len(used)), ", ".join(unused) or "none"))
    head = ("Purpose", "May load", "Models read", "Allowed, read by no model")
    note = "People of a purpose may need what no model reads; the data-minimisation paper counts their loads."
    if not facts.models:
        note = f"No model is registered yet: the named feature sets stand in. {note}"
    return [
        Prose("A purpose sees the columns that the contract allows it, and no others."),
        Table("Columns of each purpose", head, rows, "lrrl", note),
    ]


def _recognition(facts: Facts) -> list[Any]:
    risk = facts.risk
    if risk is None:
        return [Prose("The data set holds no coarse column about a person, so there is nothing to measure.")]
    share = f"{risk.share_below:.1%}" if risk.units_below == 0 or risk.units_below >= 10 else "not shown"
    rows = [
        ("By what", ", ".join(risk.columns)),
        ("Customers", count(risk.units)),
        ("Smallest group (k-anonymity)", count(risk.k_anonymity)),
        ("Alone in their group", count(risk.alone)),
        (f"In groups below {risk.threshold}", f"{count(risk.units_below)} ({share})"),
    ]
    said = (
        "Measured over all payments of a customer: who knows that much of a person finds them. Amounts and times "
        "single nearly everybody out. More: `fraudlab privacy risk`."
    )
    return [Terms(rows), Prose(said)]


def _rights(facts: Facts) -> Any:
    if facts.events.empty:
        return Prose("The ledger holds no consent, objection, restriction or erasure yet.")
    rows = [(row.purpose, row.event, count(row.customers)) for row in facts.events.itertuples()]
    return Table("Events in the ledger", ("Purpose", "Event", "Customers"), rows, "llr")


def _collected(facts: Facts) -> Table:
    rows = [
        (
            column["source"] or "made at ingest",
            column["name"],
            TREATMENTS.get(column["treatment"], column["treatment"]),
            _users(facts, column["name"]),
        )
        for column in facts.columns
    ]
    return Table("Declared columns", ("In the source", "In the vault", "Treatment", "Used by"), rows, "llll")


def _users(facts: Facts, name: str) -> str:
    if any(column["name"] == name and column["treatment"] == "identity" for column in facts.columns):
        return "people, on re-identification"
    said = [f"{model.name} {model.version}" for model in facts.models if name in model.columns]
    if name in SPLITTING:
        said.append("order, labels, evaluation")
    if said:
        return ", ".join(said)
    return "no model; a named feature set could" if name in facts.wanted else NOBODY


def _dropped(facts: Facts) -> list[Any]:
    dropped = facts.manifest["dropped"]
    if not dropped:
        return [Prose("The source held no column that the contract does not declare.")]
    rows = [(row["column"], count(row["non_null"])) for row in dropped]
    return [Table("Not declared: dropped at ingest", ("Column", "Values dropped"), rows, "lr")]


def _allowed(facts: Facts) -> Table:
    logged = {} if facts.loads is None else facts.loads.set_index("purpose")["loads"].to_dict()
    loads = {
        name: "no log" if facts.loads is None else f"{logged.get(name, 0):,}" for name in facts.manifest["purposes"]
    }
    rows = []
    for name in facts.manifest["purposes"]:
        columns = facts.loadable(name)
        rows.append((name, str(len(columns)), ", ".join(columns), loads[name]))
    return Table("Columns by purpose", ("Purpose", "Columns", "Which", "Loads in the log"), rows, "lrlr")


def _models(facts: Facts) -> list[Any]:
    if not facts.models:
        return [Prose("No model trained on this data set is registered. Below, the named feature sets stand in.")]
    rows = [
        (
            f"{model.name} {model.version}",
            model.aliases or "none",
            f"{model.features:,}",
            model.problem or ", ".join(model.columns),
        )
        for model in facts.models
    ]
    note = f"Besides, order, labels and evaluation read {', '.join(SPLITTING)}."
    return [Table("Registered models", ("Model", "Alias", "Features", "Columns they read"), rows, "llrl", note)]


def _unused(facts: Facts) -> list[Any]:
    loadable = {name for purpose in facts.manifest["purposes"] for name in facts.loadable(purpose)}
    idle = [column for column in facts.columns if column["name"] in loadable - facts.used - facts.wanted]
    if not idle:
        return [Prose("Every loadable column is read by a model or by a named feature set.")]
    rows = [(column["name"], column["source"], _for(column), _advice(facts, column["purposes"])) for column in idle]
    head = ("Column", "In the source", "Allowed for", "Recommendation")
    said = "No registered model and no named feature set reads these. A person may: the log counts loads, not looks."
    return [Table("Columns nobody uses", head, rows, "llll"), Prose(said)]


def _advice(facts: Facts, purposes: list[str]) -> str:
    """Say what to do with a column that neither models nor named feature sets read."""
    modelled = [name for name in purposes if name in facts.modelled]
    others = [name for name in purposes if name not in facts.modelled]
    loaded = set() if facts.loads is None else set(facts.loads["purpose"])
    said = [f"take it off {', '.join(modelled)}"] if modelled else []
    if not others:
        return "drop it from the contract"
    if facts.loads is not None and loaded.isdisjoint(others):
        return "; ".join([*said, f"nobody loaded data for {', '.join(others)}: drop it, or name who needs it"])
    return "; ".join([*said, f"keep it only if people of {', '.join(others)} name the need"])


def _gone(facts: Facts) -> list[Any]:
    """Tell what the audit log knows to have left the workspace, and to whom where it was made for somebody."""
    if facts.gone is None:
        return [Prose("There is no audit log yet, so that nothing is known of what left.")]
    if facts.gone.empty:
        return [Prose("The audit log has no entry of anything that left the workspace.")]
    rows = [
        (row.what, row.to or "whoever made it", f"{row.times:,}", f"{row.last:%Y-%m-%d}")
        for row in facts.gone.itertuples()
    ]
    return [Table("What left the workspace, from the audit log", ("What", "To", "Times", "Last"), rows, "llrl")]


def _retention(facts: Facts) -> Table:
    rows = [
        (
            row.purpose,
            f"{row.days:,}",
            f"{row.oldest:%Y-%m-%d}" if not pd.isna(row.oldest) else "none",
            f"{row.age:,}",
            count(row.past),
            _retention_step(row),
        )
        for row in facts.retention.itertuples()
    ]
    head = ("Purpose", "Kept, days", "Oldest payment", "Age, days", "Payments past it", "Next step")
    return Table("Retention by purpose", head, rows, "lrlrrl")


def _retention_step(row: Any) -> str:
    if row.past:
        return "remove: fraudlab privacy retention"
    if pd.isna(row.oldest):
        return "none"
    return f"none until {row.oldest + pd.Timedelta(days=row.days):%Y-%m-%d}"


def _retention_steps(facts: Facts) -> list[str]:
    over = [row.purpose for row in facts.retention.itertuples() if row.past]
    if not over:
        return ["Nothing is past its time. Make this paper again after the next ingest."]
    return [
        f"Payments are past the time of: {', '.join(over)}.",
        "See first what would go, then remove it: `fraudlab privacy retention --dry-run`.",
        "Backups made before still hold them: let these age out, or make new ones.",
    ]


def _plain_days(purpose: dict[str, Any]) -> str:
    days = int(purpose["retention_days"])
    if days >= 360:
        years = round(days / 365)
        return "about one year" if years == 1 else f"about {years} years"
    return f"{days} days"


def _plain_model() -> list[str]:
    return [
        "A model gives each payment a score.",
        "A high score means: a person should look.",
        "The score is no proof. It does not mean you did wrong.",
        "We may ask you for a second code before you pay.",
    ]


def _authority(facts: Facts) -> list[tuple[str, str]]:
    return [("Where to complain", asked(facts, "supervisory_authority"))]
