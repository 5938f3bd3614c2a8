"""What a feature means in words: a label for pictures, the sentence for tables, the reason for investigators.

`words.toml` holds a line per statistic, in English and Chinese; what stands in its braces is filled in here from the
spec. A template's `{value}` is filled later, by `format_value`, which adds the unit for the kinds days, speed, share,
part and weekday. Its parts in [square brackets] name a fact and are left out where that fact is unknown or none. Every
feature belongs to a named reason with a code; at most one sentence per reason is shown, so a reason is what an
investigator takes for one thought.
"""

from __future__ import annotations

import functools
import math
import re
import tomllib
from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from importlib.resources import files
from types import SimpleNamespace
from typing import Any, NamedTuple

import pandas as pd

from fraudlab.schema import BY_NAME, InputError, did_you_mean

LANGUAGES = ("en", "zh")
SPOKEN = ("label", "group", "meaning", "template")
"""The columns of `FeatureSet.describe()` that are sentences or names: each also with the suffix `_zh`."""

# Last words of a column's name that make its values identifiers, wherever a contract keeps such a column as a category.
# fmt: off
SECRET = frozenset({
    "account", "address", "email", "fingerprint", "hash", "iban", "id", "ip", "key", "name", "number", "pan",
    "passport", "phone", "pseudonym", "ref", "ssn", "token", "uuid",
})
# fmt: on


class Words(NamedTuple):
    """The words of one column in one language; `reason` is the code of the reason it belongs to, `group` its name."""

    column: str
    label: str
    reason: str
    group: str
    meaning: str
    template: str
    kind: str


class Reason(NamedTuple):
    """A named reason: its code, its name and what it is about, by language."""

    code: str
    name: Mapping[str, str]
    about: Mapping[str, str]


@functools.cache
def wording() -> dict[str, Any]:
    """Return the table of words, as it stands in `words.toml`."""
    return tomllib.loads(files("fraudlab.features").joinpath("words.toml").read_text(encoding="utf-8"))


def check_language(lang: str) -> None:
    """Refuse a language that has no words.

    >>> check_language("de")
    Traceback (most recent call last):
    fraudlab.schema.InputError: lang: must be one of en, zh; found 'de'; valid are: en, zh
    """
    if lang not in LANGUAGES:
        raise InputError(
            f"lang: must be one of {', '.join(LANGUAGES)}; found '{lang}'; {did_you_mean(lang, LANGUAGES)}"
        )


def phrase(name: str, lang: str) -> str:
    """Return one of the small fixed phrases, such as "unknown" or "unexplained", in a language.

    >>> phrase("unknown", "en").format("amount"), phrase("between", "zh")
    ('Not known for this payment: amount', '；')
    """
    return wording()["say"][name][lang]


# -- nouns, values, durations ------------------------------------------------------------------------------------------


def noun(column: str) -> tuple[str, str, str]:
    """Return (singular, plural, preposition) of a column's values, in English.

    >>> noun("merchant_id"), noun("terminal_id"), noun("card_status")
    (('merchant', 'merchants', 'at'), ('terminal', 'terminals', 'of'), ('card status', 'values of card status', 'of'))
    """
    if column in wording()["noun"]:
        one, many, how = wording()["noun"][column]["en"]
        return one, many, how
    name = _safe(column.removesuffix("_id").replace("_", " ").strip()) or _safe(column)
    return name, f"values of {name}" if name.endswith(("s", "x", "z", "y", "ch", "sh")) else f"{name}s", "of"


def noun_zh(column: str) -> tuple[str, str, str]:
    """Return (name, measure word, what is done with it) of a column's values, in Chinese; unknown names stay.

    >>> noun_zh("merchant_id"), noun_zh("v14")
    (('商户', '家', '在{}交易'), ('v14', '个', '出现{}'))
    """
    if column in wording()["noun"]:
        one, measure, doing = wording()["noun"][column]["zh"]
        return one, measure, doing
    return _safe(column), "个", "出现{}"


def is_identifier(column: str) -> bool:
    """Tell whether a column's values point at someone: its own value is then never part of a reason.

    >>> [is_identifier(name) for name in ("device_id", "ip", "holder_name", "merchant_category", "email_domain")]
    [True, True, True, False, False]
    """
    declared = column in BY_NAME and BY_NAME[column].kind == "id"
    return declared or re.split(r"[^a-z]+", column.lower())[-1] in SECRET


_TELLING = re.compile(r"@|(?:\d\D?){7}|[0-9a-fA-F]{12}|.{41}|[\n\r]")


def points_at_someone(text: str) -> bool:
    """Tell whether a category's value looks like an identifier or free text instead of a name of a kind of thing.

    Looked for are an @, seven digits near each other, twelve hexadecimal ones in a row, and more than 40 characters.

    >>> [points_at_someone(text) for text in ("gift_cards", "SE", "a@b.se", "4929 1234 5678", "9f86d081884c7d65")]
    [False, False, True, True, True]
    """
    return _TELLING.search(text) is not None


def duration(text: str, lang: str = "en") -> str:
    """Say a window string in words.

    >>> duration("7d"), duration("1h"), duration("7d", "zh")
    ('7 days', '1 hour', '7天')
    """
    number = text.rstrip("".join(wording()["unit"]))
    unit = wording()["unit"][text[len(number) :]][lang]
    return f"{number}{unit}" if lang == "zh" else _many(number, *unit)


def one_or_none(template: str, count: int, lang: str = "en") -> str:
    """Return a count's template for one thing or none, in the grammar they need.

    >>> one_or_none("{value} payments by this customer within 7 days", 1)
    '{value} payment by this customer within 7 days'
    >>> one_or_none("{value} different terminals by this customer within 7 days", 1)
    '{value} terminal by this customer within 7 days'
    >>> one_or_none("{value} known frauds at this merchant within 7 days", 0)
    'No known frauds at this merchant within 7 days'
    >>> one_or_none("该客户过去7天内交易涉及{value}家不同的商户", 1, "zh")
    '该客户过去7天内交易涉及{value}家商户'
    """
    if lang == "zh":
        return template.replace("不同的", "", 1)
    if count == 0:
        return template.replace("{value} different", "No", 1).replace("{value}", "No", 1)
    found = re.fullmatch(r"\{value\} (?:different )?(earlier |other |such |)(.+)", template)
    if not found:
        return template
    which, rest = found.groups()
    for many, one in _ones().items():
        if rest == many or rest.startswith(f"{many} "):
            return f"{{value}} {which}{one}{rest.removeprefix(many)}"
    return f"{{value}} {which}{_FIRST_PLURAL.sub('', rest, count=1)}"


def format_value(value: float | str, kind: str, *, whole_amounts: bool = False, lang: str = "en") -> str:
    """Write a feature's value for people.

    Parameters
    ----------
    value : a number, not missing; a "category" may be text.
    kind : "count", "amount", "ratio", "days" (in days), "speed" (km/h), "share" (0..1), "part" (a share of which 0 is a
        reason too), "flag", "weekday" (0 for Monday), "category" or "number".
    whole_amounts : amounts without decimals, where exact ones would say too much.
    lang : of the units and of the categories known by name.

    >>> [format_value(v, k) for v, k in [(1200, "count"), (1234.5, "amount"), (4.75, "ratio"), (0.02, "share")]]
    ['1,200', '1,234.50', '4.8', '2 %']
    >>> [format_value(v, "days") for v in (40, 2, 1.5, 0.01, 0.0001)]
    ['40 days', '2 days', '36 hours', '14 minutes', 'less than 2 minutes']
    >>> format_value(912.4, "speed"), format_value(1, "flag"), format_value(0.123456, "number")
    ('912 km/h', '', '0.123')
    >>> [format_value(v, k, lang="zh") for v, k in [(0.01, "days"), (0.02, "share"), (6, "weekday")]]
    ['14分钟', '2%', '星期日']
    """
    if kind == "flag":
        return ""
    if isinstance(value, str) or kind == "category":
        text = value if isinstance(value, str) else f"{value:.0f}"
        return wording()["value"].get(text, {}).get(lang, text)
    if kind == "days":
        for length, unit in ((1, "day"), (24, "hour"), (1440, "minute")):
            if value * length >= 2:
                return phrase(unit, lang).format(f"{value * length:,.0f}")
        return phrase("quick", lang)
    if kind in ("share", "part"):
        if 0.995 <= value < 1:  # not all of them, so that 100 would be wrong
            value = math.floor(1000 * value) / 1000
            return phrase("percent", lang).format(f"{100 * value:.1f}")
        return phrase("percent", lang).format(f"{100 * value:.2g}" if abs(value) < 0.1 else f"{100 * value:.0f}")
    if kind == "speed":
        return phrase("speed", lang).format(f"{value:,.0f}")
    if kind == "weekday":
        return wording()["weekday"][lang][round(value) % 7]
    if kind == "ratio":
        return f"{value:,.1f}"
    if kind == "count" or (kind == "amount" and whole_amounts):
        return f"{value:,.0f}"
    if kind == "amount":
        return f"{value:,.2f}"
    return f"{value:,.0f}" if abs(value) >= 1000 or abs(value) < 1e-6 else f"{value:.3g}"


# -- the words of a spec -----------------------------------------------------------------------------------------------


def describe_category(column: str, lang: str = "en") -> Words:
    """Say what a column of categories is; an identifier's own value is never part of a reason.

    >>> describe_category("merchant_category").template, describe_category("merchant_id").template
    ('Merchant category: {value}', 'This merchant')
    >>> describe_category("merchant_category", "zh").template
    '商户类别：{value}'
    """
    what = "identifier" if is_identifier(column) else "category"
    spec = SimpleNamespace(statistic="category", value=column, kind="category")
    words = _words(spec, column, wording()["current"][what], _fields(spec, lang), lang)
    return words._replace(template=_capital(words.template))


def describe_anomaly(column: str, lang: str = "en") -> Words:
    """Say what the score of a detector is.

    >>> describe_anomaly("anomaly").template
    'more unusual as a whole than {value} of the payments learnt from'
    """
    spec = SimpleNamespace(statistic="anomaly", value=None, kind="current")
    return _words(spec, column, wording()["current"]["anomaly"], _fields(spec, lang), lang)


def in_every_language(describe: Callable[..., Words], *given: Any) -> dict[str, str]:
    """Return a row of `FeatureSet.describe()` from a function that describes in one language.

    >>> row = in_every_language(describe_category, "channel")
    >>> row["template"], row["template_zh"]
    ('Channel: {value}', '渠道：{value}')
    """
    row, chinese = describe(*given, "en")._asdict(), describe(*given, "zh")
    return row | {f"{name}_zh": getattr(chinese, name) for name in SPOKEN}


def describe_window(spec: Any, column: str, window: str, lang: str = "en") -> Words:
    """Return the words of one window of a `WindowSpec`."""
    known = _fields(spec, lang)
    known |= _window_zh(spec, window, known) if lang == "zh" else _window_en(spec, window, known)
    key = "median" if spec.q == 0.5 else f"{spec.statistic} of the latest" if spec.last else spec.statistic
    line = wording()["window"].get(key, wording()["window"][spec.statistic])
    label = line["label"][lang].format_map(known)
    line = line | {"label": {lang: phrase("label", lang).format_map(known | {"label": label})}}
    return _words(spec, column, line, known, lang)


def describe_past(spec: Any, column: str, lang: str = "en") -> Words:
    """Return the words of a `PastSpec`."""
    return _words(spec, column, wording()["past"][spec.statistic], _fields(spec, lang), lang)


def describe_link(spec: Any, column: str, lang: str = "en") -> Words:
    """Return the words of a `LinkSpec`."""
    known = _fields(spec, lang)
    *firsts, last = (noun_zh(name)[0] if lang == "zh" else noun(name)[1] for name in spec.through)
    comma, and_ = ("、", "和") if lang == "zh" else (", ", " and ")
    known["shared"] = f"{comma.join(firsts)}{and_}{last}" if firsts else last
    return _words(spec, column, wording()["link"][spec.statistic], known, lang)


def describe_current(spec: Any, column: str, lang: str = "en") -> Words:
    """Return the words of a `CurrentSpec`."""
    line = wording()["current"][spec.statistic]
    if spec.statistic == "value" and spec.value == "amount":
        line = line | {"kind": "amount"}
    if spec.statistic == "value" and is_identifier(spec.value):
        line = wording()["current"]["identifier"]
    multiple = f", a multiple of {spec.step}" if spec.step not in (None, 10) else ""
    return _words(spec, column, line, _fields(spec, lang) | {"step": spec.step, "multiple": multiple}, lang)


def _words(spec: Any, column: str, line: Mapping[str, Any], known: dict[str, Any], lang: str) -> Words:
    label, meaning, template = (line[part][lang].format_map(known) for part in ("label", "meaning", "template"))
    reason, kind = reason_of(spec), line["kind"]
    if reason.code in ("R03", "R06") and kind in ("count", "number") and not template.startswith("["):
        template = f"[{template}]"  # none of the bad signs is no reason for suspicion
    group = reason.name[lang].format_map(known)
    meaning = f"{meaning}。" if lang == "zh" else f"{_capital(meaning)}."
    return Words(column, label, reason.code, group, meaning, template, kind)


def _fields(spec: Any, lang: str) -> dict[str, Any]:
    return _fields_zh(spec) if lang == "zh" else _fields_en(spec)


def _fields_en(spec: Any) -> dict[str, Any]:
    """Return what may stand in braces for any spec, in English; `{value}` stands for itself."""
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
        "which": _condition(getattr(spec, "where", None), "en"),
        "paid": "{value} paid" if spec.value == "amount" else f"{what} of {{value}}",
        "clock": f"in {zone}" if zone else "UTC",
        "local": f", {zone}" if zone else "",
        "half": duration(spec.half_life).removeprefix("1 ") if getattr(spec, "half_life", None) else "",
    }


def _fields_zh(spec: Any) -> dict[str, Any]:
    """Return what may stand in braces for any spec, in Chinese."""
    what, measure, doing = noun_zh(spec.value or "")
    names = [noun_zh(column)[0] for column in getattr(spec, "by", ())]
    zone = getattr(spec, "zone", None)
    half = duration(spec.half_life, "zh") if getattr(spec, "half_life", None) else ""
    return {
        "value": "{value}",
        "what": what,
        "measure": measure,
        "doing": doing.format(f"该{what}"),
        "whose": "和".join(f"该{name}" for name in names),
        "same": "和".join(f"同一{name}" for name in names),
        "whom": "和".join(names),
        "which": _condition(getattr(spec, "where", None), "zh"),
        "clock": f"{zone}时间" if zone else "UTC时间",
        "local": f"（{zone}时间）" if zone else "",
        "half": half[1:] if re.match(r"1\D", half) else half,
    }


def _window_en(spec: Any, window: str, known: Mapping[str, str]) -> dict[str, Any]:
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
    when = [known["whom"], length]
    when += [f"ended {duration(spec.delay)} ago"] if ended else []
    when += [f"latest {last}"] if last else []
    drawn = towards = ""
    if spec.prior is not None:
        towards = f"drawn towards {100 * spec.prior[0]:g} %"
        drawn = f", {towards} as by {_many(f'{spec.prior[1]:g}', 'more label', 'more labels')}"
        when.append(towards)
    return {
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
        "drawn": drawn,
        "towards": f", {towards}" if towards else "",
        "empty": "" if spec.empty is None else f", {spec.empty:g} where none is known",
        "when": ", ".join(when),
    }


def _window_zh(spec: Any, window: str, known: Mapping[str, str]) -> dict[str, Any]:
    which, last = known["which"], spec.last
    length = duration(window, "zh")
    span = f"截至{duration(spec.delay, 'zh')}前的{length}" if spec.delay else f"过去{length}"
    latest = f"最近{last}笔" if last else ""
    limited = f"{span}内{latest}{which}交易"
    when = [known["whom"], length]
    when += [f"截至{duration(spec.delay, 'zh')}前"] if spec.delay else []
    when += [latest] if last else []
    drawn = towards = ""
    if spec.prior is not None:
        towards = f"向{100 * spec.prior[0]:g}%收缩"
        drawn = f"，{towards}，相当于再加{spec.prior[1]:g}个标签"
        when.append(towards)
    return {
        "within": f"{span}内",
        "latest": latest,
        "deals": f"{known['whose']}{limited}",
        "period": limited if which or last else span,
        "rows": f"{known['same']}{limited}{'（含本笔）' if spec.include_current else ''}",
        "order": "" if spec.q is None else f"{100 * spec.q:g}%",
        "drawn": drawn,
        "towards": f"（{towards}）" if towards else "",
        "empty": "" if spec.empty is None else f"，无已知结果时为{spec.empty:g}",
        "when": "，".join(when),
    }


def _condition(where: tuple | None, lang: str, pattern: str = "{}") -> str:
    if where is None:
        return ""
    column, operator, value = where
    named = operator == "=" and isinstance(value, str)
    limit = str(value).lower() if isinstance(value, bool) else str(value)
    if lang != "en":
        limit = wording()["value"].get(limit, {}).get(lang, limit)
    what = noun_zh(column)[0] if lang == "zh" else noun(column)[0]
    said = wording()["comparison"]["name" if named else operator][lang]
    return said.format(what=what, limit=pattern.format(_safe(limit)))


def with_derived(word: Words, where: tuple, derived: Any, lang: str) -> Words:
    """Say a condition on a derived column as what the column is: "amount_ratio > 3" is "3 times the usual" amount.

    Parameters
    ----------
    word : the words of a spec with that condition.
    where : the condition.
    derived : the spec of the derived column; words change where it is a `ratio`.
    """
    _, operator, value = where
    if derived.statistic != "ratio":
        return word
    old = _condition(where, lang)
    new = _condition((derived.value, operator, value), lang, phrase("times_usual", lang))
    told = {part: getattr(word, part).replace(old, new) for part in ("label", "meaning", "template")}
    return word._replace(**told | {"meaning": _capital(told["meaning"])})


def _safe(text: str) -> str:
    """Return a name or a value without the signs that mean something in a template."""
    return text.translate({ord("["): "(", ord("]"): ")", ord("{"): "(", ord("}"): ")"})


def _capital(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}"


def _many(number: str, one: str, many: str) -> str:
    return f"{number} {one if number == '1' else many}"


@functools.cache
def _ones() -> dict[str, str]:
    """Return what is counted -> one of it, in English."""
    fixed = {"payments": "payment", "known frauds": "known fraud", "values of": "value of"}
    return fixed | {words["en"][1]: words["en"][0] for words in wording()["noun"].values()}


# Of a noun nobody foresaw: the s of the first word before what follows a noun in the templates.
_FIRST_PLURAL = re.compile(r"(?<=\w)s(?= (?:with|linked|of|by|at|in|on|from|through) )")


# -- reasons -----------------------------------------------------------------------------------------------------------


@functools.cache
def reason_codes() -> dict[str, Reason]:
    """Return every named reason by its code, in the order of the codes.

    >>> reason_codes()["R02"].name
    {'en': 'pace', 'zh': '交易频率'}
    """
    named = [entry for entry in wording()["reason"] if "name" in entry]
    return {
        entry["code"]: Reason(entry["code"], entry["name"], entry["about"])
        for entry in sorted(named, key=lambda entry: entry["code"])
    }


def reason_of(spec: Any) -> Reason:
    """Return the reason a spec belongs to: the first in `words.toml` one of whose patterns fits.

    >>> from fraudlab.features import count, is_new
    >>> [reason_of(spec).code for spec in (count("customer_id", "1h"), is_new("device_id", by="customer_id"))]
    ['R02', 'R05']
    """
    where = getattr(spec, "where", None)
    by = getattr(spec, "by", ())
    own = {
        "statistic": [spec.statistic],
        "value": [spec.value or ""],
        "by": list(by),
        "kind": [spec.kind],
        "where": [where[0] + where[1]] + ([where[0]] if where else []) if where else [],
        "names": [name for name in (spec.value, *by, *getattr(spec, "through", ())) if name],
    }
    for entry in wording()["reason"]:
        for pattern in entry["features"]:
            if all(
                any(fnmatchcase(name, wanted) for name in own[key] for wanted in many) for key, many in pattern.items()
            ):
                return reason_codes()[entry["code"]]
    raise AssertionError("the last reason fits every feature")


def regroup(describe: pd.DataFrame, told_with: Mapping[str, str]) -> pd.DataFrame:
    """Return `describe` with some features moved to the reasons of others.

    Parameters
    ----------
    describe : `FeatureSet.describe()`.
    told_with : column -> the column whose reason it takes, from `reasons.told_together`. What is not there is ignored.
    """
    rows = {column: place for place, column in enumerate(describe["column"])}
    moves = {rows[column]: rows[other] for column, other in told_with.items() if {column, other} <= rows.keys()}
    if not moves:
        return describe
    place = [moves.get(row, row) for row in range(len(describe))]
    named = [name for name in ("reason", "group", "group_zh") if name in describe]
    return describe.assign(**{name: describe[name].to_numpy()[place] for name in named})
