"""What a feature means in words: a label for pictures, the sentence for tables, the reason for investigators.

A template's `{value}` is filled by `format_value`, which adds the unit for the kinds days, speed and share.
At most one reason per group is shown, so a group is what an investigator takes for one thought.
"""

from __future__ import annotations

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


# column -> (noun, plural, how a payment belongs to it)
_NOUNS = {
    "customer_id": ("customer", "customers", "by"),
    "card_id": ("card", "cards", "with"),
    "merchant_id": ("merchant", "merchants", "at"),
    "merchant_category": ("merchant category", "merchant categories", "in"),
    "device_id": ("device", "devices", "on"),
    "ip": ("network address", "network addresses", "from"),
    "country": ("country", "countries", "in"),
    "channel": ("channel", "channels", "through"),
    "auth_result": ("authentication", "authentication results", "with"),
    "auth_method": ("authentication method", "authentication methods", "with"),
}
_COMPARISONS = {"!=": "other than", "<": "below", "<=": "of at most", ">": "above", ">=": "of at least"}


def noun(column: str) -> tuple[str, str, str]:
    """Return (singular, plural, preposition) of a column's values.

    >>> noun("merchant_id"), noun("terminal_id")
    (('merchant', 'merchants', 'at'), ('terminal', 'terminals', 'of'))
    """
    name = column.removesuffix("_id").replace("_", " ")
    return _NOUNS.get(column, (name, f"{name}s", "of"))


def duration(text: str) -> str:
    """Say a window string in words.

    >>> duration("7d"), duration("1h")
    ('7 days', '1 hour')
    """
    number = text.rstrip("".join(UNITS))
    unit = UNITS[text[len(number) :]]
    return f"{number} {unit}" if number == "1" else f"{number} {unit}s"


def one_or_none(template: str, count: int) -> str:
    """Return a count's template for one thing or none, in the grammar they need.

    >>> one_or_none("{value} payments by this customer within 7 days", 1)
    '{value} payment by this customer within 7 days'
    >>> one_or_none("{value} known frauds at this merchant within 7 days", 0)
    'No known frauds at this merchant within 7 days'
    """
    if count == 0:
        return template.replace("{value}", "No", 1)
    plurals = {"payments": "payment", "known frauds": "known fraud"} | {many: one for one, many, _ in _NOUNS.values()}
    for many, one in plurals.items():
        for which in ("{value} ", "{value} different "):
            if template.startswith(f"{which}{many} "):
                return f"{{value}} {one} {template.removeprefix(f'{which}{many} ')}"
    return template


def format_value(value: float, kind: str, *, whole_amounts: bool = False) -> str:
    """Write a feature's value for people.

    Parameters
    ----------
    value : a number, not missing.
    kind : "count", "amount", "ratio", "days" (in days), "speed" (km/h), "share" (0..1), "flag" or "number".
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
    if kind == "days":
        for length, unit in ((1, "days"), (24, "hours"), (1440, "minutes")):
            if value * length >= 2:
                return f"{value * length:,.0f} {unit}"
        return "less than 2 minutes"
    if kind == "share":
        return f"{100 * value:.2g} %" if abs(value) < 0.1 else f"{100 * value:.0f} %"
    if kind == "speed":
        return f"{value:,.0f} km/h"
    if kind == "ratio":
        return f"{value:,.1f}"
    if kind == "count" or (kind == "amount" and whole_amounts):
        return f"{value:,.0f}"
    if kind == "amount":
        return f"{value:,.2f}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def describe_window(spec: Any, column: str, window: str) -> Words:
    """Return the words of one window of a `WindowSpec`."""
    this, same, whose = _entity(spec.by)
    within = f"within {duration(window)}"
    over = f"over {duration(window)}"
    during = f"in the last {duration(window).removeprefix('1 ')}"
    if spec.delay:
        within = over = f"over {duration(window)} that ended {duration(spec.delay)} ago"
        during = f"in the {duration(window)} that ended {duration(spec.delay)} ago"
    if spec.include_current:
        during += ", the present one included"
    which = _condition(spec.where)
    value = noun(spec.value)[0] if spec.value else ""
    usual = f"{same} {during}"
    meaning, template, kind = {
        "count": (f"number of payments{which} {usual}", f"{{value}} payments{which} {this} {within}", "count"),
        "total": (
            f"sum of {value} over the payments{which} {usual}",
            f"{{value}} paid in total{which} {this} {within}"
            if spec.value == "amount"
            else f"{value} of {{value}} in total{which} {this} {within}",
            "amount",
        ),
        "mean": (
            f"mean {value} of the payments{which} {usual}",
            f"mean {value} of {{value}}{which} {this} {within}",
            "amount",
        ),
        "std": (
            f"standard deviation of {value} over the payments{which} {usual}",
            f"{value} varying by {{value}}{which} {this} {within}",
            "amount",
        ),
        "zscore": (
            f"distance of the {value} from the mean {value} {usual}, in standard deviations",
            f"{{value}} standard deviations from {whose} usual {value} {over}",
            "ratio",
        ),
        "ratio": (
            f"{value} divided by the mean {value} {usual}",
            f"{{value}} times {whose} usual {value} {over}",
            "ratio",
        ),
        "max_ratio": (
            f"{value} divided by the largest {value} {usual}",
            f"{{value}} times {whose} largest {value} {within}",
            "ratio",
        ),
        "distinct": (
            f"number of different {noun(spec.value or '')[1]} in the payments{which} {usual}",
            f"{{value}} different {noun(spec.value or '')[1]}{which} {this} {within}",
            "count",
        ),
        "frauds": (
            f"number of payments {usual} already known to be fraud",
            f"{{value}} known frauds {this} {within}",
            "count",
        ),
        "risk": (
            f"share of fraud among the payments {usual} whose outcome is known",
            f"{{value}} fraud among known payments {this} {within}",
            "share",
        ),
    }[spec.statistic]
    whom = " and ".join(noun(column)[0] for column in spec.by)
    ended = f", ended {duration(spec.delay)} ago" if spec.delay else ""
    label = f"{_short(spec.statistic, spec.value)}{which}, {whom}, {duration(window)}{ended}"
    return Words(column, label, _group(spec), _sentence(meaning), template, kind)


def _short(statistic: str, column: str | None) -> str:
    value, plural, _ = noun(column or "")
    return {
        "count": "payments",
        "total": f"{value} in total",
        "mean": f"mean {value}",
        "std": f"spread of the {value}",
        "zscore": f"{value} against usual, z-score",
        "ratio": f"{value} against usual, ratio",
        "max_ratio": f"{value} against the largest",
        "distinct": f"different {plural}",
        "frauds": "known frauds",
        "risk": "share of known fraud",
    }[statistic]


def describe_past(spec: Any, column: str) -> Words:
    """Return the words of a `PastSpec`."""
    this, same, whose = _entity(spec.by)
    value = noun(spec.value)[0] if spec.value else ""
    meaning, template, kind = {
        "is_new": (
            f"1 if no earlier payment {same} has this {value}, else 0",
            f"first payment {this} {noun(spec.value or '')[2]} this {value}",
            "flag",
        ),
        "since_last": (f"days since the previous payment {same}", f"{{value}} since {whose} previous payment", "days"),
        "since_first": (f"days since the first payment {same}", f"{{value}} since {whose} first payment", "days"),
        "distance": (
            f"kilometres from the previous place of a payment {same}",
            f"{{value}} km from {whose} previous place",
            "number",
        ),
        "speed": (
            f"speed needed from the previous place of a payment {same}, km/h",
            f"{{value}} needed from {whose} previous place",
            "speed",
        ),
    }[spec.statistic]
    whom = " and ".join(noun(column)[0] for column in spec.by)
    label = {
        "is_new": f"new {value} for the {whom}",
        "since_last": f"days since the {whom}'s previous payment",
        "since_first": f"days since the {whom}'s first payment",
        "distance": f"km from the {whom}'s previous place",
        "speed": f"km/h from the {whom}'s previous place",
    }[spec.statistic]
    return Words(column, label, _group(spec), _sentence(meaning), template, kind)


def describe_current(spec: Any, column: str) -> Words:
    """Return the words of a `CurrentSpec`."""
    value = noun(spec.value)[0] if spec.value else ""
    meaning, template, kind = {
        "value": (f"{value} of the payment", f"{value} of {{value}}", "amount" if spec.value == "amount" else "number"),
        "cents": (f"cents of the {value}, 0 to 99", f"{value} ends in {{value}} cents", "number"),
        "round": (f"1 if the {value} is a multiple of {spec.step}, else 0", f"round {value}", "flag"),
        "hour": ("hour of the day, UTC, 0 to 23", "hour of the day: {value}", "number"),
        "night": ("1 between 00:00 and 06:59 UTC, else 0", "at night", "flag"),
        "weekend": ("1 on Saturday and Sunday, UTC, else 0", "at the weekend", "flag"),
    }[spec.statistic]
    label = {
        "value": value,
        "cents": f"cents of the {value}",
        "round": f"round {value}",
        "hour": "hour of the day",
        "night": "night",
        "weekend": "weekend",
    }[spec.statistic]
    return Words(column, label, _group(spec), _sentence(meaning), template, kind)


def _entity(by: tuple[str, ...]) -> tuple[str, str, str]:
    """Return ("by this customer", "by the same customer", "this customer's"), for a tuple joined."""
    nouns = [noun(column) for column in by]
    this = " ".join(f"{how} this {what}" for what, _, how in nouns)
    same = " ".join(f"{how} the same {what}" for what, _, how in nouns)
    whose = f"this {nouns[0][0]}'s"
    if len(by) > 1:
        whose = " and ".join(f"this {what}'s" for what, _, _ in nouns)
    return this, same, whose


def _condition(where: tuple | None) -> str:
    if where is None:
        return ""
    column, operator, value = where
    if operator == "=":
        return f" with {value} {noun(column)[0]}"
    return f" with {noun(column)[0]} {_COMPARISONS[operator]} {value}"


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


def _group(spec: Any) -> str:
    value, by = getattr(spec, "value", None), getattr(spec, "by", ())
    where = getattr(spec, "where", None)
    if spec.statistic in ("hour", "night", "weekend"):
        return "time of day"
    if spec.statistic in ("frauds", "risk"):
        return "known fraud"
    if spec.statistic in ("distance", "speed") or value == "country":
        return "place"
    if where and where[0].startswith("auth_"):
        return "authentication"
    if where and where[0] == "amount":
        return "trial payments"
    if {"device_id", "ip"} & {value, *by}:
        return "device and network"
    if spec.statistic == "since_first":
        return "account age"
    if "merchant_id" in (value, *by):
        return "merchant"
    if spec.statistic in ("count", "total", "since_last"):
        return "pace"
    return noun(value)[0] if value else "history"
