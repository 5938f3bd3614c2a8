"""The live page: one HTML document from the figures, and the addresses that a browser asks for.

The page is written here, whole, whenever it is asked for; a small script fetches it anew each second and exchanges the
parts that differ. Without scripts the browser loads it again every ten seconds.
"""

from __future__ import annotations

import datetime as dt
import functools
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any

from jinja2 import Environment, StrictUndefined, Template

from fraudlab.dashboard.lights import LEAST, live_lights
from fraudlab.dashboard.metrics import Told, exposition
from fraudlab.decisions import TIERS
from fraudlab.features.words import format_value, phrase
from fraudlab.report.blocks import ABSENT, capital, day, retold, share, span
from fraudlab.report.language import LANGUAGES, foreign, language, marked, plain, say, speaking, term
from fraudlab.report.monitoring import TONES, found_words, light_words, step_words, topic_words
from fraudlab.scoring.figures import BANDS, Alert, Figures, Minute, Reading, quantile
from fraudlab.scoring.live import Live
from fraudlab.scoring.rest import Page, Pages

KEPT = 0.5
"""Seconds for which a page that was written is given to whoever asks."""
SHOWN = 20
"""So many of the newest alerts are shown."""
POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src data:; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Frame-Options": "DENY",
}
_HTML_LANG = {"zh": "zh-Hans"}
_LAMPS = {"green": "●", "amber": "▲", "red": "■", "grey": "○"}


@dataclass(frozen=True)
class AtWork:
    """What a page is about: who scores, what it did, and where the newest monitoring report is asked for.

    Parameters
    ----------
    live, figures : of the scorer.
    report : returns what `monitoring.newest` found of this version; None where there is none.
    """

    live: Live
    figures: Figures
    report: Callable[[], Mapping[str, Any] | None] = field(repr=False)

    def told(self, now: float) -> tuple[Told, Mapping[str, Any] | None]:
        """Return all figures and lights of a moment (seconds since 1970), and the monitoring report."""
        model, counts, report = self.live.model, self.live.door.counts, self.report()
        reading = self.figures.read(now)
        missing, facts = dict(counts.missing), {} if report is None else report["facts"]
        lights = live_lights(
            reading,
            usual=facts.get("scored_lately") or {},
            review=model.package.thresholds.review,
            rows=counts.rows,
            missing=missing,
        )
        named = {"name": model.name, "version": str(model.version), "dataset": model.dataset}
        learnt = _seconds(model.package.facts.get("learnt_until"))
        kept = None if self.live.journal is None else self.live.journal.kept_at
        return Told(reading, named, learnt, lights, missing, _seconds(facts.get("until")), kept), report


def pages_of(work: AtWork, *, clock: Callable[[], float], lang: str = "en") -> Pages:
    """Return the pages of a scorer at work: / (the live page, ?lang=zh), its style and script, /metrics.

    Parameters
    ----------
    clock : returns seconds since 1970.
    lang : where a browser asks for none.
    """
    scrape = exposition(lambda: work.told(clock())[0])
    style = "\n".join(
        files(package).joinpath(name).read_text(encoding="utf-8")
        for package, name in (("fraudlab.report", "style.css"), (__package__, "live.css"))
    )
    script = files(__package__).joinpath("live.js").read_text(encoding="utf-8")
    fixed = {
        "/live.css": Page(style.encode(), "text/css; charset=utf-8", HEADERS),
        "/live.js": Page(script.encode(), "text/javascript; charset=utf-8", HEADERS),
    }
    written: dict[str, tuple[float, bytes]] = {}
    lock = threading.Lock()

    def pages(path: str, query: Mapping[str, str]) -> Page | None:
        if path == "/metrics":
            return Page(scrape(), "text/plain; version=1.0.0; charset=utf-8", HEADERS)
        if path != "/":
            return fixed.get(path)
        asked = query.get("lang", lang)
        asked = asked if asked in LANGUAGES else lang
        now = clock()
        with lock:
            at, body = written.get(asked, (float("-inf"), b""))
            if not 0 <= now - at < KEPT:
                body = live_page(*work.told(now), words=work.live.model.package.describe, lang=asked).encode()
                written[asked] = now, body
        return Page(body, "text/html; charset=utf-8", HEADERS)

    return pages


def live_page(told: Told, report: Mapping[str, Any] | None, *, words: Any, lang: str = "en") -> str:
    """Return the live page as HTML: the same bytes for the same figures.

    Parameters
    ----------
    told : figures and lights.
    report : of monitoring, as written to its JSON: facts and lights; None where there is none.
    words : the package's table of words, for the names of reasons.
    lang : "en" or "zh".
    """
    with speaking(lang):
        return _template().render(
            say=say,
            lang=lang,
            absent=ABSENT,
            html_lang=_HTML_LANG.get(lang, lang),
            **_content(told, report, _names(words)),
        )


@functools.cache
def _template() -> Template:
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"marked": marked, "plain": plain}
    return environment.from_string(files(__package__).joinpath("live.html.j2").read_text(encoding="utf-8"))


def _content(told: Told, report: Mapping[str, Any] | None, names: Mapping[str, str]) -> dict[str, Any]:
    reading = told.reading
    lights = [_live_light(light) for light in told.lights] + _report_lights(report)
    worst = next((each for each in ("red", "amber", "green") if each in {light["light"] for light in lights}), "grey")
    newest = reading.alerts[0] if reading.alerts else None
    return {
        "title": say("{name}, version {version}", name=foreign(told.model["name"]), version=told.model["version"]),
        "now": _clock(reading.now),
        "since": _clock(reading.since),
        "worst": {"tone": TONES[worst], "lamp": _LAMPS[worst], "words": light_words(worst)},
        "key": _key(reading),
        "charts": _charts(reading.minutes),
        "tiers": _tiers(reading.minutes),
        "lights": lights,
        "alerts": [_alert(alert, names) for alert in reading.alerts[:SHOWN]],
        "said": ""
        if newest is None
        else say("Newest alert: number {n}, {tier}", n=f"{newest.number:,}", tier=term(newest.tier)),
    }


# -- figures -----------------------------------------------------------------------------------------------------------


def _key(reading: Reading) -> list[tuple[str, str, str]]:
    """Return the key figures: what, how much, and what is beside it."""
    hour = [sum(getattr(minute, name) for minute in reading.minutes) for name in ("payments", "alerts")]
    begin = max(reading.since, reading.minutes[-5].start)
    elapsed = max((reading.now - begin) / 60, 1 / 60)
    rates = [sum(getattr(minute, name) for minute in reading.minutes[-5:]) / elapsed for name in ("payments", "alerts")]
    took = reading.took_lately
    middle, slow = quantile(took, 0.5), quantile(took, 0.99)
    alerted = say("{n} within the hour", n="0")
    if hour[1]:
        alerted = say("{n} within the hour, one payment in {m}", n=f"{hour[1]:,}", m=f"{hour[0] / hour[1]:,.0f}")
    last = ABSENT, say("none since {moment}", moment=_clock(reading.since))
    if reading.last is not None:
        last = say("{time} ago", time=_ago(reading.now - reading.last)), _clock(reading.last)
    return [
        (say("Payments a minute"), _rate(rates[0]), say("{n} within the hour", n=f"{hour[0]:,}")),
        (say("Alerts a minute"), _rate(rates[1]), alerted),
        (
            say("Time for a payment"),
            _ms(middle),
            "" if slow is None else say("99 % within {time}", time=_ms(slow)),
        ),
        (say("Newest payment"), *last),
    ]


def _charts(minutes: tuple[Minute, ...]) -> list[dict[str, Any]]:
    """Return the pictures of the hour: bars of 0 to 100, oldest minute first, each with its largest value in words."""
    slow = [1000 * (quantile(minute.took, 0.99) or 0.0) for minute in minutes]
    drawn = [
        (say("Payments"), [float(minute.payments) for minute in minutes], "payments", _plain),
        (say("Alerts"), [float(minute.alerts) for minute in minutes], "alerts", _plain),
        (say("99 % took at most"), slow, "slow", lambda value: _ms(value / 1000)),
    ]
    charts = []
    for title, values, name, said in drawn:
        top = max(values)
        charts.append(
            {
                "title": title,
                "name": name,
                "top": say("up to {value}", value=said(top)) if top else say("none yet"),
                "alt": say(
                    "{what}: at most {top} within the hour, {now} in the running minute",
                    what=title,
                    top=said(top),
                    now=said(values[-1]),
                ),
                "bars": [round(100 * value / top, 1) if top else 0.0 for value in values],
            }
        )
    return charts


def _tiers(minutes: tuple[Minute, ...]) -> list[dict[str, Any]]:
    counts = {name: sum(minute.tiers[name] for minute in minutes) for name in TIERS}
    whole = sum(counts.values())
    return [
        {
            "tier": capital(term(name)),
            "name": name,
            "sentence": retold(tier.sentence),
            "count": f"{counts[name]:,}",
            "share": share(counts[name] / whole) if whole else ABSENT,
            "width": round(100 * counts[name] / whole, 2) if whole else 0.0,
        }
        for name, tier in reversed(TIERS.items())
    ]


# -- lights ------------------------------------------------------------------------------------------------------------


def _live_light(light: Mapping[str, Any]) -> dict[str, Any]:
    topic, found, step = light["topic"], _found(light), ""
    if light["light"] == "grey":
        step = say("Wait for payments.")
        if topic != "events" and light["n"] >= LEAST:
            step = say("`fraudlab monitor report` says how this version scored lately.")
    elif light["light"] != "green":
        step = {
            "scores": say("`fraudlab monitor report` finds what moved them; look at the feed first."),
            "alerts": say("Read ten of the newest alerts; then `fraudlab monitor report`."),
            "events": say("Ask where the events come from: another format, a clock, a column that is gone?"),
        }[topic]
    named = {
        "scores": say("Scores, now and lately"),
        "alerts": say("Share of alerts, now and lately"),
        "events": say("What comes in"),
    }[topic]
    return _row(named, light["light"], found, step)


def _found(light: Mapping[str, Any]) -> str:
    n = f"{light['n']:,}"
    if light["light"] == "grey":
        if light["topic"] == "events":
            return say("No payment within the hour.")
        if light["n"] < LEAST:
            return say("Not judged: {n} scores so far, {least} are needed.", n=n, least=LEAST)
        return say("Not judged: no monitoring report of this version to compare with.")
    if light["topic"] == "scores":
        return say("Stability index {index} over the newest {n} scores.", index=f"{light['index']:.2f}", n=n)
    if light["topic"] == "alerts":
        now, before = share(light["value"]), share(light["usual"])
        return say("{now} of the newest {n} payments; lately {before}.", now=now, n=n, before=before)
    found = say("{share} of {n} events within the hour could not be used.", share=share(light["unusable"]), n=n)
    if light["columns"]:
        found += say(" ") + say("Not given: {columns}.", columns=foreign(", ".join(light["columns"])))
    return found


def _report_lights(report: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """Return what the monitoring report has found, topic by topic where something is to do, in one line where not."""
    named = say("Monitoring report")
    if report is None:
        step = say("`fraudlab monitor report` makes one; see docs/monitoring.md.")
        return [_row(named, "grey", say("None of this version."), step)]
    lights = report["lights"]
    loud = [light for light in lights if light["light"] in ("red", "amber")]
    until, green = day(report["facts"]["until"]), sum(light["light"] == "green" for light in lights)
    found = say("Until {day}: {green} of {n} topics within limits.", day=until, green=green, n=len(lights))
    rows = [_row(named, "grey" if loud or not green else "green", found, "")]
    return rows + [
        _row(topic_words(light["topic"]), light["light"], found_words(light), step_words(light)) for light in loud
    ]


def _row(topic: str, light: str, found: str, step: str) -> dict[str, Any]:
    return {
        "topic": topic,
        "light": light,
        "tone": TONES[light],
        "lamp": _LAMPS[light],
        "words": light_words(light),
        "found": found,
        "step": step or ABSENT,
    }


# -- alerts ------------------------------------------------------------------------------------------------------------


def _alert(alert: Alert, names: Mapping[str, str]) -> dict[str, Any]:
    reasons = [capital(names.get(name, foreign(name))) for _, name in alert.reasons if name]
    return {
        "number": f"{alert.number:,}",
        "time": f"{dt.datetime.fromtimestamp(alert.minute, dt.UTC):%Y-%m-%d %H:%M}",
        "late": alert.late,
        "tier": capital(term(alert.tier)),
        "tone": {"severe": "bad", "high": "hold"}.get(alert.tier, "none"),
        "action": capital(term(alert.action.replace("_", " "))),
        "amount": _band(alert.band),
        "reasons": reasons or [phrase("unexplained", language())],
    }


def _band(band: int) -> str:
    if band == 0:
        return say("under {high}", high=f"{BANDS[0]:,}")
    if band == len(BANDS):
        return say("{low} and more", low=f"{BANDS[-1]:,}")
    return span(f"{BANDS[band - 1]:,}", f"{BANDS[band]:,}")


def _names(words: Any) -> dict[str, str]:
    """Return the names of reasons in the language that is being spoken, by their name in either language."""
    chinese = words["group_zh"] if "group_zh" in words else words["group"]
    spoken = words["group"] if language() == "en" else chinese
    return {**dict(zip(words["group"], spoken)), **dict(zip(chinese, spoken))}


# -- words of numbers --------------------------------------------------------------------------------------------------


def _clock(moment: float) -> str:
    return f"{dt.datetime.fromtimestamp(moment, dt.UTC):%H:%M:%S} UTC"


def _ago(seconds: float) -> str:
    if seconds < 120:
        return say("{n} s", n=f"{max(seconds, 0):.0f}")
    return format_value(seconds / 86_400, "days", lang=language())


def _rate(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 or value == 0 else f"{value:.1f}"


def _plain(value: float) -> str:
    return f"{value:,.0f}"


def _ms(seconds: float | None) -> str:
    if seconds is None:
        return ABSENT
    return say("{n} ms", n=f"{1000 * seconds:.3g}") if seconds < 0.9995 else say("{n} s", n=f"{seconds:.3g}")


def _seconds(text: str | None) -> float | None:
    return None if not text else dt.datetime.fromisoformat(text).timestamp()
