"""The sheet of one case: a page of its own that an investigator reads, prints, decides on and locks away."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

import pandas as pd
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from fraudlab import plots
from fraudlab.casework.facts import LINK_DAYS, Case
from fraudlab.decisions import TIERS
from fraudlab.plots.casework import payment_history
from fraudlab.report.blocks import Figure, Table, share
from fraudlab.report.explaining import changed_inputs
from fraudlab.report.language import capital, language, marked, plain, retold, say, speaking, term

_SENTENCES = {tier.action: tier.sentence for tier in TIERS.values()}
_TONES = {"severe": "bad", "high": "hold"}
_HTML_LANG = {"zh": "zh-Hans"}
_ALIGN = {"merchant_id": "l", "merchant_category": "l", "channel": "l", "country": "l", "auth": "l"}
_ALIGN |= {"place_km": "r", "place_kmh": "r"}


def case_sheet(case: Case, lang: str = "en") -> str:
    """Return the sheet of a case as HTML: the same bytes for the same case, no script, no address outside the file.

    Parameters
    ----------
    case : from `case_facts`. Its customers appear by the first signs of their pseudonyms only.
    lang : "en" or "zh"; pictures stay English and are marked so.

    Raises
    ------
    InputError : no sheet is written in that language.
    """
    with speaking(lang):
        return fill("sheet.html.j2", title=f"{say('Case')} {case.alert_id}", **_content(case))


def fill(template: str, **content: Any) -> str:
    """Fill a template of this folder, in the style of the reports and the language that is being spoken."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"marked": marked, "plain": plain}
    here, lang = files(__package__), language()
    styles = (files("fraudlab.report").joinpath("style.css"), here.joinpath("case.css"))
    return environment.from_string(here.joinpath(template).read_text(encoding="utf-8")).render(
        say=say,
        html_lang=_HTML_LANG.get(lang, lang),
        foreign="" if lang == "en" else Markup(' lang="en"'),
        style="\n".join(style.read_text(encoding="utf-8") for style in styles),
        **content,
    )


def action_words(action: str) -> str:
    """Return what an action is called, in the language that is being spoken.

    >>> action_words("limit_and_review")
    'limit and review'
    """
    return term(action.replace("_", " "))


def minute(moment: pd.Timestamp) -> str:
    """Return a moment to the minute, in UTC.

    >>> minute(pd.Timestamp("2026-03-01T09:30:59Z"))
    '2026-03-01 09:30'
    """
    return f"{moment.tz_convert('UTC'):%Y-%m-%d %H:%M}"


def _content(case: Case) -> dict[str, Any]:
    lang, payments = language(), case.payments
    currency = _one_currency(payments)
    words = action_words(case.action)
    waiting = int((case.as_of - payments["event_time"].min()) / pd.Timedelta(days=1))
    return {
        "case": case,
        "head_facts": [
            (say("Day"), case.day),
            (say("Customer (code)"), case.customer),
            (say("Risk tier"), term(case.tier)),
            (say("Model"), say("{name}, version {version}", name=case.model, version=case.version)),
        ],
        "as_of": minute(case.as_of),
        "tone": _TONES.get(case.tier, "hold"),
        "action": words,
        "action_sentence": retold(_SENTENCES[case.action]),
        "key": [
            (say("Stated risk"), share(payments["risk"].max()), say("calibrated; of the riskiest payment")),
            (say("Amount"), f"{payments['amount'].sum():,.2f}", currency),
            (say("Payments"), f"{len(payments)}", say("that the decision is about")),
            (say("Waiting"), say("{n} days", n=waiting), say("on {moment}", moment=minute(case.as_of))),
        ],
        "reasons": [(each["code"], each[lang]) for each in case.reasons],
        "would_change": [changed_inputs(each) for each in case.changes] or [retold(text) for text in case.would_change],
        "note": retold(case.note),
        "payments": _payments(payments),
        "usual": _usual(case.usual),
        "history": Figure(
            payment_history(case.history),
            say("This customer's payments of 90 days, as known when the case was listed; both axes are logarithmic."),
        ),
        "links": _links(case.links),
        "waterfall": _waterfall(case),
        "outcomes": _outcomes(case.outcomes),
        "choices": [
            ("fraud", say("Fraud"), say("not paid by the customer, or paid under deceit")),
            ("genuine", say("Genuine"), say("the customer's own, meant as it was")),
            ("unsure", say("Unsure"), say("cannot be told; leaves what is known as it is")),
        ],
        "record": f"fraudlab labels record {case.alert_id} OUTCOME --dataset {case.dataset} --by ROLE "
        '--decided-at "YYYY-MM-DD HH:MM"',
        "lookup": f"fraudlab privacy reidentify {case.dataset} --case {case.alert_id} "
        '--reason "call back on this case"',
    }


def _one_currency(payments: pd.DataFrame) -> str:
    known = payments["currency"].dropna().unique() if "currency" in payments else []
    return str(known[0]) if len(known) == 1 else say("in the payments' own currencies") if len(known) else ""


def _payments(payments: pd.DataFrame) -> Table:
    rows = payments
    if "auth_method" in rows:
        result = rows["auth_result"] if "auth_result" in rows else pd.Series("", index=rows.index)
        said = [_authentication(how, ended) for how, ended in zip(rows["auth_method"], result)]
        rows = rows.assign(auth=pd.Series(said, index=rows.index, dtype="str"))
    there = [name for name in _ALIGN if name in rows]
    heads = {
        "merchant_id": say("Merchant"),
        "merchant_category": say("Sells"),
        "channel": say("Channel"),
        "country": say("Country"),
        "auth": say("Authentication"),
        "place_km": say("km before"),
        "place_kmh": say("km/h needed"),
    }
    cells = [
        [
            str(row["number"]),
            minute(row["event_time"]),
            f"{row['amount']:,.2f}",
            share(row["risk"]),
            *(_cell(row[name]) for name in there),
        ]
        for row in rows.to_dict("records")
    ]
    return Table(
        say("Payments of this case, in order of time (UTC)"),
        [say("No."), say("When"), say("Amount"), say("Stated risk"), *(heads[name] for name in there)],
        cells,
        "lmrr" + "".join(_ALIGN[name] for name in there),
    )


def _authentication(how: Any, ended: Any) -> str:
    method = "–" if pd.isna(how) else str(how)
    return method if pd.isna(ended) or str(ended) in ("", "none", method) else f"{method}, {term(str(ended))}"


def _cell(value: Any) -> str:
    if pd.isna(value):
        return "–"
    return f"{value:,.0f}" if isinstance(value, float) else _word(value)


def _word(value: Any) -> str:
    """Return a word of the data as people read it, translated where it is known."""
    return term(str(value).replace("_", " "))


def _usual(usual: dict[str, Any]) -> list[tuple[str, str]]:
    if not usual:
        return []
    told = [
        (
            say("Payments before"),
            say("{n} in {days} days", n=f"{usual['payments']:,}", days=usual["days"]),
        ),
        (
            say("Amounts"),
            say(
                "median {median}; most between {low} and {high}",
                median=f"{usual['median']:,.2f}",
                low=f"{usual['low']:,.2f}",
                high=f"{usual['high']:,.2f}",
            ),
        ),
        (say("Time of day"), say("mostly between {first} and {last} h UTC", first=usual["first"], last=usual["last"])),
    ]
    names = {
        "channel": say("Channel"),
        "country": say("Country"),
        "merchant_category": say("Sells"),
        "auth_method": say("Authentication"),
    }
    for name, label in names.items():
        if name in usual:
            value, part = usual[name]
            told.append((label, say("{value} in {share} of them", value=_word(value), share=share(part))))
    if "devices" in usual:
        told.append((say("Devices used online"), f"{usual['devices']:,}"))
    return told


def _links(links: pd.DataFrame) -> Table:
    rows = [
        [
            capital(term(row.what)),
            f"{row.others:,}",
            f"{row.known_fraud:,}",
            ", ".join(row.codes) + (" …" if row.codes and row.others > len(row.codes) else "") or "–",
        ]
        for row in links.itertuples()
    ]
    return Table(
        say("Other customers who used the same within {n} days before, as known when the case was listed", n=LINK_DAYS),
        [
            say("Shared"),
            say("Other customers"),
            say("of them with a known fraud there"),
            say("Codes, known frauds first"),
        ],
        rows,
        "lrrl",
    )


def _waterfall(case: Case) -> Figure | None:
    if case.score is None:
        return None
    alert = {"case": case.alert_id, **case.score}
    return Figure(
        plots.waterfall(alert, labels=case.score["labels"], kinds=case.score["kinds"]),
        say(
            "How the riskiest payment's score differs from that of an average payment: each bar is what one feature "
            "adds or takes away. It explains the model, not the world."
        ),
    )


def _outcomes(outcomes: pd.DataFrame) -> Table:
    rows = [
        [minute(row.decided_at), capital(term(row.outcome)), capital(term(row.source)), str(row.by)]
        for row in outcomes.itertuples()
    ]
    return Table(
        say("Outcomes of this case's payments, whenever they came"),
        [say("Decided"), say("Outcome"), say("Source"), say("Role")],
        rows,
        "mlll",
    )
