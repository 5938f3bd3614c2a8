"""All that is held on one customer, for the customer: as data, and as a page in plain words (GDPR Art. 15)."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from fraudlab.config import Workspace
from fraudlab.datasets.companions import CASES, OUTCOMES, PATTERNS, VERDICTS, Companion, companion_rows
from fraudlab.datasets.corrections import told
from fraudlab.datasets.customers import customer_code
from fraudlab.datasets.erasure import CUSTOMER
from fraudlab.datasets.retention import oldest_kept
from fraudlab.privacy import lineage
from fraudlab.privacy.auditlog import ACTIONS, audit_log
from fraudlab.privacy.consent import EVERY_PURPOSE, Ledger
from fraudlab.privacy.identities import IdentityStore, identities
from fraudlab.privacy.keys import open_keys
from fraudlab.privacy.vault import Vault
from fraudlab.schema import InputError

_BASES = {
    "consent": "you agreed to it",
    "contract": "a contract with you needs it",
    "legal-obligation": "a law demands it",
    "vital-interests": "it protects someone's life",
    "public-task": "it is a task in the public interest",
    "legitimate-interest": "we have a legitimate interest in it",
}
_MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?\+00:00")
_READABLE = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d")
_TREATMENTS = {
    "keep": "as it came",
    "pseudonymise": "replaced by a code",
    "generalise": "made coarser",
    "mask": "with numbers and addresses blanked",
    "identity": "locked away apart from the payments",
}


def access(dataset: str, customer: str, *, workspace: Workspace | None = None) -> dict[str, Any]:
    """Return everything that is held on one customer, and note in the audit log that it was asked for.

    Parameters
    ----------
    dataset : its name in the vault.
    customer : the reference as the source writes it, or the pseudonym.
    workspace : default: the project around the working folder.

    Returns
    -------
    dict, ready for JSON: customer (pseudonym), dataset, source (of the data), created (of this copy, UTC), purposes
    (purpose, meaning, basis, retention_days, kept_since: earlier rows are no longer used for it), columns (name,
    source, meaning, treatment, purposes), transactions (a dict each, missing values None, times in UTC), identity
    {source's column: [values]}, corrections (at, column, transaction, since, until, value, source, applied), cases
    (payments that a model put before an investigator, and why), outcomes (what was found of payments), patterns
    (payments that were among unusual ones that share something), verdicts (what was decided on these patterns), events
    (of the ledger), audit (entries that name the pseudonym), models (name, version), notes (what is not in it).

    Raises
    ------
    InputError : unknown data set, or neither rows nor events of such a customer.
    KeyUnavailableError : a key that this needs, `identity` among them, is not here.
    """
    workspace = workspace or Workspace.of()
    vault = Vault(workspace.vault, open_keys(workspace))
    manifest = vault.manifest(dataset)
    code = customer_code(dataset, customer, new=True, workspace=workspace)
    rows = vault.read(dataset)
    rows = rows[rows[CUSTOMER] == code]
    events = Ledger(workspace.ledger).events(code)
    if rows.empty and events.empty:
        raise InputError(
            f"customer: data set {dataset} holds nothing on such a customer; check the reference, or name the data set "
            "that does"
        )
    log = audit_log(workspace)
    entries = log.entries() if log.path.exists() else pd.DataFrame(columns=["number", "time", "action", "facts"])
    named = entries[entries["facts"].map(lambda facts: code in _texts(facts)).astype(bool)]
    held = {
        "customer": code,
        "dataset": dataset,
        "source": manifest["source"],
        "created": pd.Timestamp.now("UTC").isoformat(timespec="seconds"),
        "purposes": [_purpose(manifest, name) for name in manifest["purposes"]],
        "columns": [
            {key: column[key] for key in ("name", "source", "meaning", "treatment", "purposes")}
            for column in manifest["columns"]
        ],
        "transactions": _records(rows),
        "identity": _identity(vault, manifest, code),
        "corrections": _corrections(vault, manifest, code),
        "cases": _cases(vault, dataset, code),
        "outcomes": _beside(vault, dataset, OUTCOMES, code, without=("event_time",)),
        "patterns": _beside(vault, dataset, PATTERNS, code),
        "verdicts": _beside(vault, dataset, VERDICTS, code, without=("event_time",)),
        "events": _records(events.drop(columns="customer")),
        "audit": _records(named[["number", "time", "action", "facts"]]),
        "models": [
            {"name": name, "version": version} for name, version in lineage.trained_on(workspace.lineage, [code])
        ],
        "notes": [
            "Scores are kept of payments that were put before an investigator, listed here; those of all others are "
            "computed when asked for and not kept.",
            "Reports of finished runs show a few payments as examples, without anything that says whose they are.",
            "Models keep no payment; which models learnt from yours is listed.",
        ],
    }
    log.append("access", dataset=dataset, customer=code, rows=len(rows), events=len(events))
    return held


def access_page(held: Mapping[str, Any]) -> str:
    """Return what `access` found as one HTML page that needs nothing else, in plain words; every value is escaped."""
    purposes = {purpose["purpose"]: purpose["meaning"] for purpose in held["purposes"]}
    sections = [
        "<h1>What we hold about you</h1>",
        _paragraph(
            f"This is a copy of everything that the data set {held['dataset']} holds about you, made "
            f"{_readable(held['created'])}. In it you go by the code {held['customer']}. Where it came from: "
            f"{held['source']}. All times are in UTC."
        ),
        "<h2>What we use it for, why we may, and how long</h2>",
        _table(
            ["What for", "Why we may", "How long after a payment", "Payments used since"],
            (
                [
                    purpose["meaning"],
                    f"{_BASES[purpose['basis']]} ({_words(purpose['basis']).lower()})",
                    f"{purpose['retention_days']:,} days",
                    _readable(purpose["kept_since"]) or "all",
                ]
                for purpose in held["purposes"]
            ),
        ),
        _paragraph(
            "Who sees it: the fraud team's analysts see the payments, with codes in place of names and numbers. Only "
            "who holds a separate key, gives a reason and a second code sees your identity; each look is written down."
        ),
        "<h2>Who you are</h2>",
        _paragraph("Locked away apart from the payments."),
        _table(
            ["What", "Value"],
            ([_words(name), value] for name, values in held["identity"].items() for value in values),
        ),
        f"<h2>Your payments ({len(held['transactions']):,})</h2>",
        _payments(held["transactions"], {column["name"]: column["meaning"] for column in held["columns"]}),
        "<h2>Payments that an investigator was to look at</h2>",
        _table(
            ["Case", "Payment", "When", "Stated risk", "Recommended", "Why", "Model"],
            (
                [
                    each["alert_id"],
                    each["transaction_id"],
                    _readable(each["event_time"]),
                    each["risk"],
                    _words(each["action"]),
                    "; ".join(each["reasons"]),
                    f"{each['model']} {each['version']}",
                ]
                for each in held["cases"]
            ),
        ),
        "<h2>What was found of your payments</h2>",
        _table(
            ["Payment", "Found", "When", "How it came to be looked at", "By", "Case"],
            (
                [
                    each["transaction_id"],
                    each["outcome"],
                    _readable(each["decided_at"]),
                    each["source"],
                    each["by"],
                    each["alert_id"],
                ]
                for each in held["outcomes"]
            ),
        ),
        "<h2>Your payments among unusual ones that had something in common</h2>",
        _table(
            ["Pattern", "Payment", "When"],
            ([each["pattern"], each["transaction_id"], _readable(each["event_time"])] for each in held["patterns"]),
        ),
        "<h2>What was decided on them</h2>",
        _table(
            ["Pattern", "Payment", "Decided", "Why", "By", "When"],
            (
                [
                    *(each[name] for name in ("pattern", "transaction_id", "decision", "because", "by")),
                    _readable(each["decided_at"]),
                ]
                for each in held["verdicts"]
            ),
        ),
        "<h2>What each piece means</h2>",
        _table(
            ["Name", "Where it comes from", "Meaning", "How it is kept", "What for"],
            (
                [
                    _words(column["name"]),
                    column["source"],
                    column["meaning"],
                    _TREATMENTS.get(column["treatment"], column["treatment"]),
                    "; ".join(purposes[name] for name in column["purposes"]),
                ]
                for column in held["columns"]
            ),
        ),
        "<h2>What was corrected</h2>",
        _table(
            ["When", "What", "Which payments", "Right is", "How it came in"],
            (
                [
                    _readable(each["at"]),
                    _words(each["column"]),
                    _which(each) + ("" if each["applied"] else " (not yet)"),
                    "nothing" if each["value"] is None else each["value"],
                    each["source"],
                ]
                for each in held["corrections"]
            ),
        ),
        "<h2>What you told us</h2>",
        _table(
            ["No.", "What for", "What", "Since", "How it came in", "Note"],
            (
                [
                    event["number"],
                    "everything"
                    if event["purpose"] == EVERY_PURPOSE
                    else purposes.get(event["purpose"], event["purpose"]),
                    _words(event["event"]),
                    _readable(event["at"]),
                    event["source"],
                    event["note"],
                ]
                for event in held["events"]
            ),
        ),
        "<h2>What was done with your data by name of your code</h2>",
        _table(
            ["No.", "When", "What", "Details"],
            (
                [entry["number"], _readable(entry["time"]), ACTIONS.get(entry["action"], entry["action"]), _told(entry)]
                for entry in held["audit"]
            ),
        ),
        "<h2>Models that learnt from your payments</h2>",
        _table(["Model", "Version"], ([model["name"], model["version"]] for model in held["models"])),
        "<h2>Good to know</h2>",
        *(_paragraph(note) for note in held["notes"]),
        _paragraph(
            "You may have it corrected or erased, restrict or object to its use, and complain to a data protection "
            "authority. Who is responsible and how to reach them: see the letter that came with this page."
        ),
    ]
    return _PAGE.format(body="\n".join(sections))


_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>What we hold about you</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 70em; margin: 2em auto; padding: 0 1em; color: #222; }}
h2 {{ margin-top: 2em; }}
div {{ overflow-x: auto; }}
table {{ border-collapse: collapse; font-size: 14px; }}
.moment {{ white-space: nowrap; }}
th, td {{ text-align: left; vertical-align: top; padding: .25em .75em .25em 0; border-bottom: 1px solid #ddd; }}
@media print {{ body {{ margin: 0; max-width: none; }} table {{ font-size: 9px; }} }}
</style>
</head>
<body>
{body}
</body>
</html>
"""


def _purpose(manifest: Mapping[str, Any], name: str) -> dict[str, Any]:
    since = oldest_kept(manifest, name)
    stated = manifest["purposes"][name]
    told = {key: stated[key] for key in ("meaning", "basis", "retention_days")}
    return {"purpose": name, **told, "kept_since": None if since is None else since.isoformat(timespec="seconds")}


def _identity(vault: Vault, manifest: Mapping[str, Any], code: str) -> dict[str, list[str]]:
    if "identity" not in manifest["keys"]:
        return {}
    table = identities(vault, manifest["dataset"], customers=[code]).drop(columns=CUSTOMER)
    return {name.removeprefix("raw_"): table[name].dropna().unique().tolist() for name in table.columns}


def _corrections(vault: Vault, manifest: Mapping[str, Any], code: str) -> list[dict[str, Any]]:
    store = IdentityStore.beside(vault)
    return told(store, manifest, store.corrections(manifest["dataset"], code))


def _beside(
    vault: Vault, dataset: str, companion: Companion, code: str, without: Iterable[str] = ()
) -> list[dict[str, Any]]:
    """Return a customer's rows of a table beside the data set."""
    rows = companion_rows(vault, dataset, companion)
    if rows is None:
        return []
    return _records(rows[rows[CUSTOMER] == code].drop(columns=[CUSTOMER, *without]))


def _cases(vault: Vault, dataset: str, code: str) -> list[dict[str, Any]]:
    rows = _beside(vault, dataset, CASES, code)
    return [row | {"reasons": [reason["en"] for reason in json.loads(row["reasons"])]} for row in rows]


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Return rows as dicts of what JSON knows."""
    return [{name: _plain(value) for name, value in row.items()} for row in table.to_dict("records")]


def _plain(value: Any) -> Any:
    if isinstance(value, pd.Timestamp):
        return value.isoformat()
    if isinstance(value, dict):
        return value
    if pd.isna(value):
        return None
    return value.item() if hasattr(value, "item") else value


def _texts(facts: Mapping[str, Any]) -> set[Any]:
    return {text for value in facts.values() for text in (value if isinstance(value, list) else [value])}


def _payments(rows: list[dict[str, Any]], meanings: Mapping[str, str]) -> str:
    """Return payments as a table under readable names; what a name means shows when one points at it."""
    names = list(rows[0]) if rows else []
    cells = ([_shown(row.get(name)) for name in names] for row in rows)
    return _table([_words(name) for name in names], cells, [meanings.get(name, "") for name in names])


def _shown(value: Any) -> str:
    """Return a value as people write it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str) and _MOMENT.fullmatch(value):
        return _readable(value)
    return "" if value is None else str(value)


def _readable(moment: str | None) -> str:
    """Return a moment (ISO, UTC) to the second.

    >>> _readable("2026-03-01T09:30:00.250000+00:00")
    '2026-03-01 09:30:00'
    """
    return "" if moment is None else f"{pd.Timestamp(moment).tz_convert('UTC'):%Y-%m-%d %H:%M:%S}"


def _words(name: str) -> str:
    """Return a name of the tables as words.

    >>> _words("auth_method"), _words("objection-withdrawn"), _words("is_fraud")
    ('Auth method', 'Objection withdrawn', 'Is fraud')
    """
    words = name.replace("_", " ").replace("-", " ").strip()
    return words[:1].upper() + words[1:]


def _which(correction: Mapping[str, Any]) -> str:
    if correction["transaction"] is not None:
        return f"the payment {correction['transaction']}"
    ends = [f"{word} {_readable(correction[word])}" for word in ("since", "until") if correction[word] is not None]
    return " ".join(ends) or "all"


def _told(entry: Mapping[str, Any]) -> str:
    """Say an audit entry's facts, but for the code that this page is about."""
    facts = {name: value for name, value in entry["facts"].items() if name != "customer" and value is not None}
    return "; ".join(
        f"{_words(name).lower()}: {', '.join(map(str, value)) if isinstance(value, list) else _shown(value)}"
        for name, value in facts.items()
    )


def _paragraph(text: str) -> str:
    return f"<p>{html.escape(text)}</p>"


def _cell(text: str) -> str:
    """Return a cell; a moment in it is not broken over lines."""
    whole = ' class="moment"' if _READABLE.fullmatch(text) else ""
    return f"<td{whole}>{html.escape(text)}</td>"


def _table(names: list[str], rows: Iterable[list[Any]], meanings: list[str] | None = None) -> str:
    lines = ["".join(_cell("" if cell is None else str(cell)) for cell in row) for row in rows]
    if not lines:
        return _paragraph("Nothing.")
    hints = [f' title="{html.escape(meaning)}"' if meaning else "" for meaning in meanings or [""] * len(names)]
    head = "".join(f"<th{hint}>{html.escape(name)}</th>" for name, hint in zip(names, hints))
    body = "\n".join(f"<tr>{line}</tr>" for line in lines)
    return f"<div><table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table></div>"
