"""Likely identifiers in free text, by pattern: found, counted, masked. Names and addresses have no pattern."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from fraudlab.privacy.treatments import arrow_text, text_series

KINDS = ("card", "iban", "email", "phone")

# The registry of ISO 13616: how many characters an IBAN has, by country.
_LENGTHS = (
    "AD24 AE23 AL28 AT20 AZ28 BA20 BE16 BG22 BH22 BI27 BR29 BY28 CH21 CR22 CY28 CZ24 DE22 DJ27 DK18 DO28 EE20 EG29 "
    "ES24 FI18 FK18 FO18 FR27 GB22 GE22 GI23 GL18 GR27 GT28 HN28 HR21 HU28 IE22 IL23 IQ23 IS26 IT27 JO30 KW30 KZ20 "
    "LB28 LC32 LI21 LT20 LU20 LV21 LY25 MC27 MD24 ME22 MK19 MN20 MR27 MT31 MU30 NI28 NL18 NO15 OM23 PK24 PL28 PS29 "
    "PT25 QA29 RO24 RS22 RU33 SA24 SC31 SD18 SE24 SI19 SK24 SM27 SO23 ST25 SV28 TL23 TN24 TR26 UA29 VA22 VG24 XK20 YE30"
)
IBAN_LENGTHS = {word[:2]: int(word[2:]) for word in _LENGTHS.split()}

# The ways card numbers are printed, digits per group; one group of 13 to 19 is another.
CARD_SHAPES = {(4, 4, 4, 4), (4, 6, 5), (4, 6, 4), (4, 3, 3, 3), (4, 4, 5), (4, 4, 4, 4, 3)}

_SPACE = " \u00a0\u202f"
_BEFORE, _AFTER = r"(?<![^\W_])", r"(?![^\W_])"  # no letter and no digit there; an underscore may be
_ANSI = re.compile(r"\x1b\[[0-9;]*m")

_EMAIL = re.compile(r"(?<![\w.+%-])\w[\w.+%'-]*@(?:[\w-]+\.)+(?:xn--[\w-]+|[^\W\d_]{2,63})")
_IBAN_START = re.compile(_BEFORE + rf"([A-Za-z]{{2}})[0-9]{{2}}(?=[{_SPACE}-]?[A-Za-z0-9])")
_IBAN_REST = {
    n: re.compile(rf"(?:[{_SPACE}-]?[A-Za-z0-9]){{{n - 4}}}" + _AFTER) for n in sorted(set(IBAN_LENGTHS.values()))
}
_DIGIT_RUN = re.compile(_BEFORE + rf"(?<!\d\.)(?<!\+)\d(?:[{_SPACE}-]?\d){{12,}}" + _AFTER + r"(?!\.\d)")
_GROUP = re.compile(r"\d+")

_EXTENSION = r"(?: ?x\d{1,6})?"
_PHONE = re.compile(
    _BEFORE
    + r"(?<!\d[./:-])(?:"  # not within a date or a time
    # With a country code, a trunk prefix or an area code in brackets ...
    + rf"(?:\+\d|\(\+?\d{{1,5}}\)|00[1-9]|0[1-9])(?:[{_SPACE}()/.-]{{0,3}}\d){{5,16}}"
    # ... or as North America writes them.
    + r"|(?:1[ .-]?)?(?:\(\d{3}\) ?|\d{3}[.-])\d{3}[.-]\d{4}"
    + ")"
    + _EXTENSION
    + _AFTER
)
_CALLING = "call|ring|phone|telephone|telefon|tel|mobile|mobil|handy|cell|fax|sms|whatsapp"
_CALL = re.compile(
    _BEFORE
    + rf"(?:{_CALLING})"
    + r"(?:[\s.:=#-]{1,3}(?:me|us|at|on|under|no|nr|number|is)){0,3}[\s.:=#-]{1,3}"
    + rf"(\(?\d(?:[{_SPACE}()/.-]{{0,3}}\d){{6,16}}{_EXTENSION})"
    + _AFTER,
    re.IGNORECASE,
)
_DATE_OR_HOURS = re.compile(
    r"\d{1,2}[./-]\d{1,2}[./-](?:19|20)\d\d|(?:19|20)\d\d[./-]\d\d[./-]\d\d|\d\d\.\d\d ?- ?\d\d\.\d\d"
)

# What each kind has at least, for RE2 (no looking around, no classes of Unicode: these would cost a hundredfold).
_MORE = "(?:[^A-Za-z0-9]{0,3}[0-9])"
SUSPECT = "|".join(
    (
        "@",
        rf"[0-9](?:[{_SPACE}-]?[0-9]){{12}}",
        rf"[A-Za-z]{{2}}[0-9]{{2}}(?:[{_SPACE}-]?[A-Za-z0-9]){{11}}",
        rf"[+(]\+?[0-9]{_MORE}{{6}}",
        rf"(?:^|[^A-Za-z0-9])0[0-9]{_MORE}{{5}}",
        r"[0-9]{3}[.-][0-9]{4}",
        rf"(?i:{_CALLING})[^0-9]{{1,32}}[0-9]{_MORE}{{6}}",
        "[٠-٩۰-۹०-९০-৯๐-๙０-９]",  # digits of other scripts
        "\x1b",
    )
)
"""One pass of this over many texts tells which are worth a closer look: those of `find_identifiers`, and few others."""


class Identifier(NamedTuple):
    """A likely identifier in a text: what it looks like, and where."""

    kind: str
    start: int
    end: int


def find_identifiers(text: str) -> list[Identifier]:
    """Find likely identifiers in a text: e-mail addresses, IBANs, card numbers, phone numbers.

    Where two overlap, the more certain kind wins: e-mail (letters after the last dot), IBAN (ISO 13616: length of its
    country and checksum), card (13 to 19 digits in a usual grouping with ISO/IEC 7812-1 checksum, not beginning with 0
    or 1), phone (7 to 15 digits after ITU-T E.164 that begin with +, 0 or a bracket, are grouped as in North America,
    or follow a word such as "call"). Colour codes of a terminal are no part of a text.

    >>> text = "call +49 30 1234567 or ann@example.com, card 4111 1111 1111 1111"
    >>> [(found.kind, text[found.start : found.end]) for found in find_identifiers(text)]
    [('phone', '+49 30 1234567'), ('email', 'ann@example.com'), ('card', '4111 1111 1111 1111')]
    """
    rest = _blanked(text, [match.span() for match in _ANSI.finditer(text)]) if "\x1b" in text else text
    found: list[Identifier] = []
    for kind, find in _FINDERS:
        spans = list(find(rest))
        found += [Identifier(kind, start, end) for start, end in spans]
        rest = _blanked(rest, spans)
    return sorted(found, key=lambda identifier: identifier.start)


def mask_text(text: str) -> tuple[str, Counter[str]]:
    """Replace each likely identifier by its kind in brackets; return the text and how many there were of each kind.

    >>> mask_text("invoice to ann@example.com, card 4111-1111-1111-1111 12/27")
    ('invoice to [email], card [card] 12/27', Counter({'email': 1, 'card': 1}))
    """
    parts, done, counts = [], 0, Counter()
    for kind, start, end in find_identifiers(text):
        parts += [text[done:start], f"[{kind}]"]
        done = end
        counts[kind] += 1
    return "".join([*parts, text[done:]]), counts


def mask(values: pd.Series) -> tuple[pd.Series, dict[str, int]]:
    """Mask likely identifiers in free text, each different text once.

    Parameters
    ----------
    values : text; missing values stay missing.

    Returns
    -------
    Series of text, same index and name, and the number of masked identifiers by kind (`KINDS`), over all rows.

    >>> masked, counts = mask(pd.Series(["call +49 30 1234567", "thank you", None]))
    >>> masked.tolist(), counts
    (['call [phone]', 'thank you', nan], {'card': 0, 'iban': 0, 'email': 0, 'phone': 1})
    """
    texts = arrow_text(values)
    suspect = pc.fill_null(pc.match_substring_regex(texts, SUSPECT), False)
    coded = texts.filter(suspect).dictionary_encode()
    masked = [mask_text(text) for text in coded.dictionary.to_pylist()]
    counts = dict.fromkeys(KINDS, 0)
    times = np.bincount(coded.indices.to_numpy(), minlength=len(masked))
    for (_, found), rows in zip(masked, times.tolist()):
        for kind, number in found.items():
            counts[kind] += number * rows
    replaced = pa.array([text for text, _ in masked], type=pa.large_string()).take(coded.indices)
    return text_series(pc.replace_with_mask(texts, suspect, replaced), values), counts


def count_identifiers(texts: pa.Array | pa.ChunkedArray) -> Counter[str]:
    """Count likely identifiers over many texts by kind; those without any are passed over quickly."""
    suspect = texts.filter(pc.fill_null(pc.match_substring_regex(texts, SUSPECT), False))
    return Counter(found.kind for text in suspect.to_pylist() for found in find_identifiers(text))


def _blanked(text: str, spans: Iterable[tuple[int, int]]) -> str:
    """Put characters that belong to no identifier in the place of what was found, so that nothing is found twice."""
    parts, done = [], 0
    for start, end in spans:
        parts += [text[done:start], "\0" * (end - start)]
        done = end
    return "".join([*parts, text[done:]]) if done else text


def _emails(text: str) -> Iterator[tuple[int, int]]:
    if "@" in text:
        for match in _EMAIL.finditer(text):
            yield match.span()


def _ibans(text: str) -> Iterator[tuple[int, int]]:
    done = 0
    for match in _IBAN_START.finditer(text):
        length = IBAN_LENGTHS.get(match[1].upper())
        rest = _IBAN_REST[length].match(text, match.end()) if length and match.start() >= done else None
        if rest and _iban_holds(match[0] + rest[0]):
            done = rest.end()
            yield match.start(), done


def _iban_holds(text: str) -> bool:
    """Whether the checksum of ISO 13616 (MOD 97-10 of ISO/IEC 7064) holds."""
    plain = re.sub(r"[\s-]", "", text).upper()
    return int("".join(str(int(sign, 36)) for sign in plain[4:] + plain[:4])) % 97 == 1


def _cards(text: str) -> Iterator[tuple[int, int]]:
    for run in _DIGIT_RUN.finditer(text):
        groups = [match.span() for match in _GROUP.finditer(text, *run.span())]
        first = 0
        while first < len(groups):
            size = _groups_of_card(text, groups[first : first + 5], alone=len(groups) <= 5 and first == 0)
            if size:
                yield groups[first][0], groups[first + size - 1][1]
            first += max(size, 1)


def _groups_of_card(text: str, groups: list[tuple[int, int]], *, alone: bool) -> int:
    """Return how many of the first groups of digits make a card number: 0 where none does."""
    for size in range(len(groups), 0, -1):
        lengths = tuple(end - start for start, end in groups[:size])
        unusual = alone and size == len(groups) and min(lengths) >= 3  # nothing else beside it
        if (size == 1 or lengths in CARD_SHAPES or unusual) and _luhn(text[groups[0][0] : groups[size - 1][1]]):
            return size
    return 0


def _luhn(text: str) -> bool:
    digits = [int(sign) for sign in reversed(text) if sign.isdecimal()]
    # No payment card begins with 0 or 1; clock readings in milliseconds do.
    if not 13 <= len(digits) <= 19 or digits[-1] < 2 or len(set(digits)) == 1:
        return False
    return (sum(digits[::2]) + sum(sum(divmod(2 * digit, 10)) for digit in digits[1::2])) % 10 == 0


def _phones(text: str) -> Iterator[tuple[int, int]]:
    for match in _PHONE.finditer(text):
        if _phone_holds(match[0]):
            yield match.span()


def _called(text: str) -> Iterator[tuple[int, int]]:
    for match in _CALL.finditer(text):
        if _phone_holds(match[1]):
            yield match.span(1)


def _phone_holds(text: str) -> bool:
    number = text.partition("x")[0]
    return 7 <= sum(sign.isdecimal() for sign in number) <= 15 and not _DATE_OR_HOURS.match(text)


# The more certain kinds first.
_FINDERS: tuple[tuple[str, Callable[[str], Iterator[tuple[int, int]]]], ...] = (
    ("email", _emails),
    ("iban", _ibans),
    ("card", _cards),
    ("phone", _called),
    ("phone", _phones),
)
