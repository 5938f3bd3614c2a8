"""What a feature means in words: a label for pictures, the sentence for tables, the reason for investigators.

The tables below hold a line per statistic; what stands in braces is filled in from the spec. A template's `{value}` is
filled later, by `format_value`, which adds the unit for the kinds days, speed, share and part. At most one reason per
group is shown, so a group is what an investigator takes for one thought.
"""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any, NamedTuple

UNITS = {"s": "second", "min": "minute", "h": "hour", "d": "day", "w": "week"}


class Words(NamedTuple):
    """One row of `FeatureSet.describe()`."""

    column: str
    label: str
    group: str
    meaning: str
    template: str
    kind: str


class _Line(NamedTuple):
    """What a statistic says: its short name, its meaning, its reason, and the kind of its value."""

    label: str
    meaning: str
    template: str
    kind: str


# column -> (noun, plural, how a payment belongs to it)
_NOUNS = {
    "customer_id": ("customer", "customers", "by"),
    "card_id": ("card", "cards", "with"),
    "merchant_id": ("merchant", "merchants", "at"),
    "merchant_category": ("merchant category", "merchant categories", "in"),
    "device_id": ("device", "devices", "on"),
    "ip": ("network address", "network addresses", "from"),
    "country": ("country", "countries", "in"),
    "currency": ("currency", "currencies", "in"),
    "channel": ("channel", "channels", "through"),
    "auth_result": ("authentication", "authentication results", "with"),
    "auth_method": ("authentication method", "authentication methods", "with"),
}
_COMPARISONS = {"=": "of", "!=": "other than", "<": "below", "<=": "of at most", ">": "above", ">=": "of at least"}

# Of windows: {rows} are the payments of the window that count, {compared} the same after "the mean amount".
_WINDOW = {
    name: _Line(
        f"{adjective} {{what}}",
        f"{adjective} {{what}} of the {{rows}}",
        f"{adjective} {{what}} of {{value}}{{which}} {{this}} {{within}}",
        "amount",
    )
    for name, adjective in (("mean", "mean"), ("median", "median"), ("minimum", "smallest"), ("maximum", "largest"))
} | {
    "count": _Line(
        "payments", "number of payments{which} {history}", "{value} payments{which} {this} {within}", "count"
    ),
    "total": _Line(
        "{what} in total", "sum of {what} over the {rows}", "{paid} in total{which} {this} {within}", "amount"
    ),
    "std": _Line(
        "spread of the {what}",
        "standard deviation of {what} over the {rows}",
        "{what} varying by {value}{which} {this} {within}",
        "amount",
    ),
    "quantile": _Line(
        "{order} quantile of the {what}",
        "{order} quantile of the {what} over the {rows}",
        "{order} quantile of the {what}{which} {this} {within}: {value}",
        "amount",
    ),
    "zscore": _Line(
        "{what} against usual, z-score",
        "distance of the {what} from the mean {what} {compared}, in standard deviations",
        "{value} standard deviations from {whose} usual {what}{which} {over}",
        "ratio",
    ),
    "ratio": _Line(
        "{what} against usual, ratio",
        "{what} divided by the mean {what} {compared}",
        "{value} times {whose} usual {what}{which} {over}",
        "ratio",
    ),
    "max_ratio": _Line(
        "{what} against the largest",
        "{what} divided by the largest {what} {compared}",
        "{value} times {whose} largest {what}{which} {within}",
        "ratio",
    ),
    "percentile": _Line(
        "{what} against usual, percentile",
        "share of the {rows} that have a smaller {what}, equal ones counting half",
        "{what} larger than {value} of {whose} {latest}{which} {all_over}",
        "share",
    ),
    "distinct": _Line(
        "different {plural}",
        "number of different {plural} in the {rows}",
        "{value} different {plural}{which} {this} {within}",
        "count",
    ),
    "mode_share": _Line(
        "share of the most frequent {what}",
        "share of the most frequent {what} among the {rows}",
        "the most frequent {what} makes up {value} of {whose} {latest}{which} {all_over}",
        "share",
    ),
    "entropy": _Line(
        "variety of {plural}, bits",
        "entropy of the {plural} in the {rows}, in bits",
        "{value} bits of variety in the {plural} of {whose} {latest}{which} {all_over}",
        "number",
    ),
    "repeats": _Line(
        "payments {how} the same {what}",
        "number of the {rows} that have the present one's {what}",
        "{value} earlier payments {how} this {what}{which} {this} {within}",
        "count",
    ),
    "share": _Line(
        "share of this {what}",
        "share of the {rows} that have the present one's {what}",
        "this {what} makes up {value} of {whose} {latest}{which} {all_over}",
        "part",
    ),
    "mean_gap": _Line(
        "days between payments",
        "mean days from one payment to the next over the {rows}",
        "{value} from one payment {this} to the next, on average {over}",
        "days",
    ),
    "std_gap": _Line(
        "days between payments, spread",
        "standard deviation of the days from one payment to the next over the {rows}",
        "time between payments {this} varying by {value} {over}",
        "days",
    ),
    "usual_hour": _Line(
        "usual hour",
        "mean hour of the day, taken round the clock, of the {rows}, {clock}",
        "{whose} usual hour of the day {over}{local}: {value}",
        "number",
    ),
    "hour_spread": _Line(
        "spread around the usual hour, hours",
        "standard deviation of the hour of the day, taken round the clock, over the {rows}, in hours, {clock}",
        "{whose} usual hour varying by {value} h {over}{local}",
        "number",
    ),
    "hour_shift": _Line(
        "hours from the usual hour",
        "hours between the time of day and the mean hour, taken round the clock, of the {rows}, {clock}",
        "{value} h from {whose} usual hour {over}{local}",
        "number",
    ),
    "usual_distance": _Line(
        "km from the usual place",
        "kilometres from the middle of the places of the {rows}",
        "{value} km from {whose} usual place {over}",
        "number",
    ),
    "frauds": _Line(
        "known frauds",
        "number of payments {history} already known to be fraud",
        "{value} known frauds {this} {within}",
        "count",
    ),
    "frauds of the latest": _Line(
        "known frauds",
        "number of frauds among the {rows} whose outcome is known",
        "{value} known frauds among {known_ones} {this} {all_within}",
        "count",
    ),
    "labelled": _Line(
        "payments with known outcome",
        "number of payments {history} whose outcome is known",
        "{value} payments with known outcome {this} {within}",
        "count",
    ),
    "risk": _Line(
        "share of known fraud",
        "share of fraud among the {rows} whose outcome is known{drawn}{empty}",
        "{value} fraud among {known_ones} {this} {all_within}{towards}",
        "share",
    ),
    "since_fraud": _Line(
        "days since the last known fraud",
        "days since the latest payment {history} already known to be fraud",
        "{value} since the last known fraud {this} {within}",
        "days",
    ),
    "since_first_fraud": _Line(
        "days since the first known fraud",
        "days since the first payment {history} already known to be fraud",
        "{value} since the first known fraud {this} {within}",
        "days",
    ),
}

_PAST = {
    "is_new": _Line(
        "new {what} for the {whom}",
        "1 if no earlier payment {same} has this {what}, else 0",
        "first payment {this} {how} this {what}",
        "flag",
    ),
    "since_last": _Line(
        "days since the {whom}'s previous payment",
        "days since the previous payment {same}",
        "{value} since {whose} previous payment",
        "days",
    ),
    "since_first": _Line(
        "days since the {whom}'s first payment",
        "days since the first payment {same}",
        "{value} since {whose} first payment",
        "days",
    ),
    "distance": _Line(
        "km from the {whom}'s previous place",
        "kilometres from the previous place of a payment {same}",
        "{value} km from {whose} previous place",
        "number",
    ),
    "speed": _Line(
        "km/h from the {whom}'s previous place",
        "speed needed from the previous place of a payment {same}, km/h",
        "{value} needed from {whose} previous place",
        "speed",
    ),
    "decayed_count": _Line(
        "recent payments{which}, {whom}, halved every {half}",
        "number of earlier payments{which} {same}, each worth half as much after every {half}",
        "recent payments{which} {this}, halved every {half}: {value}",
        "number",
    ),
    "decayed_total": _Line(
        "recent {what}{which}, {whom}, halved every {half}",
        "sum of {what} over the earlier payments{which} {same}, each worth half as much after every {half}",
        "{paid} lately{which} {this}, halved every {half}",
        "amount",
    ),
}

_LINK = {
    "linked": _Line(
        "{plural} linked through {shared}",
        "number of {plural} that hang together with the payment through shared {shared}, its own included",
        "{value} {plural} linked through shared {shared}, this one included",
        "count",
    ),
    "linked_frauds": _Line(
        "known frauds of {plural} linked through {shared}",
        "number of payments already known to be fraud of the {plural} that hang together with the payment through "
        "shared {shared}",
        "{value} known frauds of {plural} linked through shared {shared}",
        "count",
    ),
}

_CURRENT = {
    "value": _Line("{what}", "{what} of the payment", "{what} of {value}", "number"),
    "cents": _Line("cents of the {what}", "cents of the {what}, 0 to 99", "{what} ends in {value} cents", "number"),
    "round": _Line(
        "round {what}{multiple}", "1 if the {what} is a multiple of {step}, else 0", "round {what}{multiple}", "flag"
    ),
    "hour": _Line(
        "hour of the day{local}", "hour of the day, {clock}, 0 to 23", "hour of the day{local}: {value}", "number"
    ),
    "night": _Line("night{local}", "1 between 00:00 and 06:59 {clock}, else 0", "at night{local}", "flag"),
    "weekday": _Line(
        "day of the week{local}",
        "day of the week, {clock}, 0 (Monday) to 6",
        "day of the week{local}, 0 for Monday: {value}",
        "number",
    ),
    "weekend": _Line("weekend{local}", "1 on Saturday and Sunday, {clock}, else 0", "at the weekend{local}", "flag"),
    "month_day": _Line(
        "day of the month{local}", "day of the month, {clock}, 1 to 31", "day of the month{local}: {value}", "number"
    ),
}

# statistic -> group, where the statistic alone decides; pace gives way to what the payment names (see `_group`).
_GROUPS = (
    dict.fromkeys(("usual_hour", "hour_spread", "hour_shift"), "time of day")
    | dict.fromkeys(("hour", "night", "weekday", "weekend", "month_day"), "time of day")
    | dict.fromkeys(("frauds", "labelled", "risk", "since_fraud", "since_first_fraud", "linked_frauds"), "known fraud")
    | dict.fromkeys(("distance", "speed", "usual_distance"), "place")
)
_PACE = ("count", "total", "since_last", "mean_gap", "std_gap", "decayed_count", "decayed_total")


def noun(column: str) -> tuple[str, str, str]:
    """Return (singular, plural, preposition) of a column's values.

    >>> noun("merchant_id"), noun("terminal_id"), noun("card_status")
    (('merchant', 'merchants', 'at'), ('terminal', 'terminals', 'of'), ('card status', 'values of card status', 'of'))
    """
    name = column.removesuffix("_id").replace("_", " ")
    plural = f"values of {name}" if name.endswith(("s", "x", "z", "y", "ch", "sh")) else f"{name}s"
    return _NOUNS.get(column, (name, plural, "of"))


def duration(text: str) -> str:
    """Say a window string in words.

    >>> duration("7d"), duration("1h")
    ('7 days', '1 hour')
    """
    number = text.rstrip("".join(UNITS))
    return _many(number, UNITS[text[len(number) :]])


def one_or_none(template: str, count: int) -> str:
    """Return a count's template for one thing or none, in the grammar they need.

    >>> one_or_none("{value} payments by this customer within 7 days", 1)
    '{value} payment by this customer within 7 days'
    >>> one_or_none("{value} different terminals by this customer within 7 days", 1)
    '{value} terminal by this customer within 7 days'
    >>> one_or_none("{value} known frauds at this merchant within 7 days", 0)
    'No known frauds at this merchant within 7 days'
    """
    if count == 0:
        return template.replace("{value} different", "No", 1).replace("{value}", "No", 1)
    found = re.fullmatch(r"\{value\} (?:different )?(earlier |)(.+)", template)
    if not found:
        return template
    which, rest = found.groups()
    for many, one in _ONE.items():
        if rest.startswith(f"{many} "):
            return f"{{value}} {which}{one}{rest.removeprefix(many)}"
    return f"{{value}} {which}{_FIRST_PLURAL.sub('', rest, count=1)}"


def format_value(value: float | str, kind: str, *, whole_amounts: bool = False) -> str:
    """Write a feature's value for people.

    Parameters
    ----------
    value : a number, not missing; a "category" may be text.
    kind : "count", "amount", "ratio", "days" (in days), "speed" (km/h), "share" (0..1), "part" (a share of which 0 is a
        reason too), "flag", "category" or "number".
    whole_amounts : amounts without decimals, where exact ones would say too much.

    >>> [format_value(v, k) for v, k in [(1200, "count"), (1234.5, "amount"), (4.75, "ratio"), (0.02, "share")]]
    ['1,200', '1,234.50', '4.8', '2 %']
    >>> [format_value(v, "days") for v in (40, 2, 1.5, 0.01, 0.0001)]
    ['40 days', '2 days', '36 hours', '14 minutes', 'less than 2 minutes']
    >>> format_value(912.4, "speed"), format_value(1, "flag"), format_value(0.123456, "number")
    ('912 km/h', '', '0.123')
    """
    if kind == "flag":
        return ""
    if isinstance(value, str) or kind == "category":
        return value if isinstance(value, str) else f"{value:.0f}"
    if kind == "days":
        for length, unit in ((1, "days"), (24, "hours"), (1440, "minutes")):
            if value * length >= 2:
                return f"{value * length:,.0f} {unit}"
        return "less than 2 minutes"
    if kind in ("share", "part"):
        return f"{100 * value:.2g} %" if abs(value) < 0.1 else f"{100 * value:.0f} %"
    if kind == "speed":
        return f"{value:,.0f} km/h"
    if kind == "ratio":
        return f"{value:,.1f}"
    if kind == "count" or (kind == "amount" and whole_amounts):
        return f"{value:,.0f}"
    if kind == "amount":
        return f"{value:,.2f}"
    return f"{value:,.0f}" if abs(value) >= 1000 or abs(value) < 1e-6 else f"{value:.3g}"


def describe_category(column: str) -> Words:
    """Say what a column of categories is; an identifier's own value is never part of a reason.

    >>> describe_category("merchant_category").template, describe_category("merchant_id").template
    ('Merchant category: {value}', 'This merchant')
    """
    one = noun(column)[0]
    name = f"{one[0].upper()}{one[1:]}"
    secret = column.endswith("_id")
    return Words(
        column,
        one,
        _group(SimpleNamespace(statistic="category", value=column, kind="category")),
        f"{name} of the payment.",
        f"This {one}" if secret else f"{name}: {{value}}",
        "identifier" if secret else "category",
    )


def describe_window(spec: Any, column: str, window: str) -> Words:
    """Return the words of one window of a `WindowSpec`."""
    known = _fields(spec)
    which, last = known["which"], spec.last
    length = duration(window)
    ended = f" that ended {duration(spec.delay)} ago" if spec.delay else ""
    during = f"in the {length}{ended}" if ended else f"in the last {length.removeprefix('1 ')}"
    history = f"{known['same']} {during}{', the present one included' if spec.include_current else ''}"
    latest = "payments" if last is None else "latest payment" if last == 1 else f"latest {last} payments"
    rows = f"{latest}{which} {history}"
    within = f"over {length}{ended}" if ended else f"within {length}"
    only = latest.replace("payment", "such payment") if which else latest
    only = f"over the {only} within {length}{ended}" if last else ""
    known |= {
        "history": history,
        "rows": rows,
        "compared": f"of the {rows}" if which or last else history,
        "latest": latest,
        "known_ones": ("the " if last else "") + latest.replace("payment", "known payment"),
        "all_within": within,
        "all_over": f"over {length}{ended}",
        "within": only or within,
        "over": only or f"over {length}{ended}",
        "order": "" if spec.q is None else f"{100 * spec.q:g} %",
        "drawn": "",
        "towards": "",
        "empty": "" if spec.empty is None else f", {spec.empty:g} where none is known",
    }
    when = [known["whom"], length]
    when += [f"ended {duration(spec.delay)} ago"] if ended else []
    when += [f"latest {last}"] if last else []
    if spec.prior is not None:
        towards = f"drawn towards {100 * spec.prior[0]:g} %"
        labels = _many(f"{spec.prior[1]:g}", "more label")
        known |= {"drawn": f", {towards} as by {labels}", "towards": f", {towards}"}
        when.append(towards)
    key = "median" if spec.q == 0.5 else f"{spec.statistic} of the latest" if last else spec.statistic
    line = _WINDOW.get(key, _WINDOW[spec.statistic])
    return _words(spec, column, line._replace(label=f"{line.label}{{which}}, {', '.join(when)}{{local}}"), known)


def describe_past(spec: Any, column: str) -> Words:
    """Return the words of a `PastSpec`."""
    return _words(spec, column, _PAST[spec.statistic], _fields(spec))


def describe_link(spec: Any, column: str) -> Words:
    """Return the words of a `LinkSpec`."""
    *firsts, last = (noun(name)[1] for name in spec.through)
    shared = f"{', '.join(firsts)} and {last}" if firsts else last
    return _words(spec, column, _LINK[spec.statistic], _fields(spec) | {"shared": shared})


def describe_current(spec: Any, column: str) -> Words:
    """Return the words of a `CurrentSpec`."""
    line = _CURRENT[spec.statistic]
    if spec.statistic == "value" and spec.value == "amount":
        line = line._replace(kind="amount")
    multiple = f", a multiple of {spec.step}" if spec.step not in (None, 10) else ""
    return _words(spec, column, line, _fields(spec) | {"step": spec.step, "multiple": multiple})


def _words(spec: Any, column: str, line: _Line, known: dict[str, Any]) -> Words:
    label, meaning, template = (text.format_map(known) for text in line[:3])
    return Words(column, label, _group(spec), f"{meaning[0].upper()}{meaning[1:]}.", template, line.kind)


def _fields(spec: Any) -> dict[str, Any]:
    """Return what may stand in braces for any spec; `{value}` stands for itself."""
    what, plural, how = noun(spec.value or "")
    nouns = [noun(column) for column in getattr(spec, "by", ())]
    zone = getattr(spec, "zone", None)
    zone = zone and f"{zone.replace('_', ' ')} time"
    return {
        "value": "{value}",
        "what": what,
        "plural": plural,
        "how": how,
        "this": " ".join(f"{how} this {one}" for one, _, how in nouns),
        "same": " ".join(f"{how} the same {one}" for one, _, how in nouns),
        "whose": " and ".join(f"this {one}'s" for one, _, _ in nouns),
        "whom": " and ".join(one for one, _, _ in nouns),
        "which": _condition(getattr(spec, "where", None)),
        "paid": "{value} paid" if spec.value == "amount" else f"{what} of {{value}}",
        "clock": f"in {zone}" if zone else "UTC",
        "local": f", {zone}" if zone else "",
        "half": duration(spec.half_life).removeprefix("1 ") if getattr(spec, "half_life", None) else "",
    }


def _condition(where: tuple | None) -> str:
    if where is None:
        return ""
    column, operator, value = where
    if operator == "=" and isinstance(value, str):
        return f" with {value} {noun(column)[0]}"
    said = str(value).lower() if isinstance(value, bool) else value
    return f" with {noun(column)[0]} {_COMPARISONS[operator]} {said}"


def _many(number: str, one: str) -> str:
    return f"{number} {one}" if number == "1" else f"{number} {one}s"


def _group(spec: Any) -> str:
    value, where = spec.value, getattr(spec, "where", None)
    names = {value, *getattr(spec, "by", ()), *getattr(spec, "through", ())}
    if spec.statistic in _GROUPS:
        return _GROUPS[spec.statistic]
    if value in ("country", "latitude", "longitude"):
        return "place"
    if any(name.startswith("auth_") for name in (value, where and where[0]) if name):
        return "authentication"
    if (where or "")[:2] in (("amount", "<"), ("amount", "<=")) or (spec.statistic, value) == ("repeats", "amount"):
        return "trial payments"
    if names & {"device_id", "ip"}:
        return "device and network"
    if spec.kind == "link":
        return "links"
    if spec.statistic == "since_first":
        return "account age"
    if names & {"merchant_id", "merchant_category"}:
        return "merchant"
    if spec.statistic in _PACE:
        return "pace"
    return noun(value)[0] if value else "history"


_ONE = {"payments": "payment", "known frauds": "known fraud", "values of": "value of"} | {
    many: one for one, many, _ in _NOUNS.values()
}
# Of a noun nobody foresaw: the s of the first word before what follows a noun in the templates.
_FIRST_PLURAL = re.compile(r"(?<=\w)s(?= (?:with|linked|of|by|at|in|on|from|through) )")
