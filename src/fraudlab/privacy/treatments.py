"""What ingest does to a column: keyed pseudonyms and coarser values. Pure functions of values and a key."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import re
import unicodedata
from collections.abc import Callable

import numpy as np
import pandas as pd
import pyarrow as pa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.hmac import HMAC

from fraudlab.features import FeatureSet, distance, speed
from fraudlab.schema import InputError, did_you_mean

VERSION = 1
"""Raised whenever the output of a treatment changes, so that held data are treated again."""

Key = bytes | Callable[[bytes], bytes]
"""A key, or what computes HMAC-SHA256 under a key that stays where it is."""

PSEUDONYM_BYTES = 16
OLDEST_BAND = 80
BIN_DIGITS = (6, 8)
"""How many digits name a card's issuer (ISO/IEC 7812-1: six of old, eight since 2017)."""
IPV4_BITS, IPV6_BITS = (8, 24), (16, 48)
"""The shortest and the longest network prefix; a longer one would be a household."""

_LABEL = re.compile(r"(?!-)[a-z0-9-]{1,63}(?<!-)")


def _text(value: str) -> str:
    return unicodedata.normalize("NFKC", value).strip().casefold()


def _exact(value: str) -> str:
    return value.strip()


def _digits(value: str) -> str:
    return "".join(sign for sign in value if sign.isdigit())


FORMS: dict[str, Callable[[str], str]] = {"text": _text, "exact": _exact, "digits": _digits}
"""How a value is normalised before it is keyed, by name."""


def pseudonymise(values: pd.Series, key: Key, namespace: str, *, form: str = "text") -> pd.Series:
    """Replace identifiers by keyed codes: equal values get equal codes, and without the key none can be guessed back.

    Parameters
    ----------
    values : text or whole numbers; 5 and "5" are the same value.
    key : at least 32 bytes, or a function that returns the HMAC-SHA256 of a message under such a key, where the key
        itself is kept by a server; it is called once.
    namespace : what the values are, such as the canonical column name; the same value in two namespaces gets two
        unrelated codes.
    form : how values are normalised first. "text": Unicode NFKC, outer blanks and case ignored; "digits": only the
        digits count (card numbers, phones); "exact": outer blanks ignored, case counts.

    Returns
    -------
    Series of text, 32 hexadecimal digits, same index. Missing values, and those with nothing left after normalising,
    stay missing: a shared code for "empty" would link strangers.

    Raises
    ------
    InputError : a short key, an unknown form, floating-point values (which damage long numbers).

    Notes
    -----
    code = first 128 bits of HMAC-SHA256(HMAC-SHA256(key, namespace), normalised value), computed once per different
    value. Two of a billion values share a code with probability below 1e-20.

    References
    ----------
    RFC 2104 (HMAC); ENISA, Pseudonymisation techniques and best practices, 2019.

    >>> codes = pseudonymise(pd.Series(["Ann@Example.com", " ann@example.com", None]), bytes(32), "email")
    >>> codes[0] == codes[1], len(codes[0]), bool(codes.isna()[2])
    (True, 32, True)
    """
    if pd.api.types.is_float_dtype(values.dtype):
        raise InputError(
            f"pseudonymise: {namespace} must hold text or whole numbers; found floating point, which damages long "
            "numbers; read the column as text"
        )
    return _each(values, pseudonymiser(key, namespace, form=form))


def pseudonymiser(key: Key, namespace: str, *, form: str = "text") -> Callable[[str], str | None]:
    """Return the function that gives one value, as text, the code that `pseudonymise` gives it.

    Parameters
    ----------
    key, namespace, form : as in `pseudonymise`. A key that a server keeps is asked for once, here.

    Raises
    ------
    InputError : a short key, an unknown form.

    >>> pseudonymiser(bytes(32), "email")("Ann@Example.com") == pseudonymiser(bytes(32), "email")(" ann@example.com")
    True
    """
    if isinstance(key, bytes) and len(key) < 32:
        raise InputError(
            f"pseudonymise: the key must have at least 32 bytes; found {len(key)}; use a key of the project"
        )
    if form not in FORMS:
        raise InputError(f"pseudonymise: unknown form '{form}'; {did_you_mean(form, FORMS)}")
    normalise = FORMS[form]
    purpose = b"fraudlab pseudonym\0" + namespace.encode()
    subkey = hmac.digest(key, purpose, hashlib.sha256) if isinstance(key, bytes) else key(purpose)
    begun = HMAC(subkey, SHA256())

    def code(value: str) -> str | None:
        normal = normalise(value)
        if not normal:
            return None
        mine = begun.copy()  # the key's part of the work is done in it already: four times as fast
        mine.update(normal.encode())
        return mine.finalize()[:PSEUDONYM_BYTES].hex()

    return code


def arrow_text(values: pd.Series) -> pa.LargeStringArray:
    """Return values as Arrow text; missing ones are null. Text of pandas is not copied."""
    texts = pa.array(values.astype("str"), type=pa.large_string(), from_pandas=True)
    return texts.combine_chunks() if isinstance(texts, pa.ChunkedArray) else texts


def text_series(texts: pa.Array, like: pd.Series) -> pd.Series:
    """Return Arrow text as a Series of pandas text, with the index and the name of another."""
    return pd.Series(pd.StringDtype(na_value=np.nan).__from_arrow__(texts), index=like.index, name=like.name)


def _each(values: pd.Series, change: Callable[[str], str | None]) -> pd.Series:
    """Apply a function to each different value once, as text; missing values, and those it gives None for, are missing.

    Whole numbers are told apart as numbers, before they become text.
    """
    whole = pd.api.types.is_integer_dtype(values.dtype)
    given = pa.array(values, from_pandas=True) if whole else arrow_text(values)
    coded = given.dictionary_encode()
    changed = pa.array([change(str(value)) for value in coded.dictionary.to_pylist()], type=pa.large_string())
    return text_series(changed.take(coded.indices), values)


def card_bin(values: pd.Series, digits: int = 6) -> pd.Series:
    """Keep the digits of a card number that name its issuer.

    Parameters
    ----------
    values : card numbers as text or whole numbers, in any grouping.
    digits : 6 or 8.

    Returns
    -------
    Series of text; missing where the value is missing or does not have the 13 to 19 digits of a card number.

    >>> card_bin(pd.Series(["4111 1111-1111 1111", "41111", None])).fillna("-").tolist()
    ['411111', '-', '-']
    """
    if digits not in BIN_DIGITS:
        raise InputError(f"bin: digits must be 6 or 8; found {digits}; correct the contract")

    def issuer(value: str) -> str | None:
        number = _digits(_text(value))
        return number[:digits] if number.isascii() and 13 <= len(number) <= 19 else None

    return _each(values, issuer)


def email_domain(values: pd.Series) -> pd.Series:
    """Keep the domain of an e-mail address, in lower case; letters beyond ASCII in their DNS form (RFC 3490).

    Returns
    -------
    Series of text; missing where the value is no address, or its domain no name with a dot (RFC 1123), such as a
    network address.

    >>> email_domain(pd.Series(["Ann@Mail.Example.COM", "ann@bücher.example", "ann@[192.0.2.1]"])).fillna("-").tolist()
    ['mail.example.com', 'xn--bcher-kva.example', '-']
    """
    return _each(values, _domain)


def _domain(value: str) -> str | None:
    local, _, domain = _text(value).rpartition("@")
    quoted = local.startswith('"') and local.endswith('"') and len(local) > 2
    if not local or (not quoted and ("@" in local or any(sign.isspace() for sign in local))):
        return None
    try:
        name = domain.encode("idna").decode("ascii").lower().removesuffix(".")
    except UnicodeError:
        return None
    labels = name.split(".")
    fits = len(name) <= 253 and len(labels) > 1 and all(map(_LABEL.fullmatch, labels)) and not labels[-1].isdigit()
    return name if fits else None


def network(values: pd.Series, ipv4: int = 24, ipv6: int = 48) -> pd.Series:
    """Keep the network of an address, as "192.0.2.0/24" or "2001:db8:1::/48" (RFC 4632, RFC 4291).

    Parameters
    ----------
    values : addresses as text; an IPv4 address written as IPv6 (::ffff:192.0.2.7) counts as IPv4.
    ipv4, ipv6 : how many bits stay: 8 to 24, 16 to 48.

    Returns
    -------
    Series of text; missing where the value is missing or no address.

    >>> network(pd.Series(["192.0.2.77", "2001:db8:1:2::5", "localhost"])).fillna("-").tolist()
    ['192.0.2.0/24', '2001:db8:1::/48', '-']
    """
    for name, bits, (least, most) in (("ipv4", ipv4, IPV4_BITS), ("ipv6", ipv6, IPV6_BITS)):
        if not least <= bits <= most:
            raise InputError(f"network: {name} must be {least} to {most} bits; found {bits}; correct the contract")

    return _each(values, lambda value: network_of(value, ipv4, ipv6))


def address_of(value: str) -> str | None:
    """Return an address in its one spelling, IPv4 in IPv6 as IPv4; None for what is none.

    >>> address_of(" ::ffff:192.0.2.7 "), address_of("2001:DB8:0::5"), address_of("localhost")
    ('192.0.2.7', '2001:db8::5', None)
    """
    try:
        address = ipaddress.ip_address(value.strip().partition("%")[0])
    except ValueError:
        return None
    return str(getattr(address, "ipv4_mapped", None) or address)


def network_of(value: str, ipv4: int = 24, ipv6: int = 48) -> str | None:
    """Return the network of one address, as `network` does of many.

    >>> network_of("192.0.2.77"), network_of("localhost")
    ('192.0.2.0/24', None)
    """
    address = address_of(value)
    if address is None:
        return None
    return str(ipaddress.ip_network(f"{address}/{ipv6 if ':' in address else ipv4}", strict=False))


def movement(transactions: pd.DataFrame) -> pd.DataFrame:
    """Compute how far, and how fast, a customer came from their previous known place, before places are made coarser.

    Parameters
    ----------
    transactions : canonical transactions with latitude and longitude in degrees, in the total order.

    Returns
    -------
    DataFrame, same index: distance (km, great circle) and speed (km/h, over a minute at least), as the features
    `distance` and `speed` without slack, rounded to whole ones: from exact distances exact places could be solved for.
    NaN without a previous place or a place now. A place that cannot be on earth is no place.

    >>> at = pd.to_datetime(["2026-01-01T10:00", "2026-01-01T12:00"], utc=True).as_unit("us")
    >>> rows = pd.DataFrame({"transaction_id": [1, 2], "event_time": at, "customer_id": "a", "amount": 1.0,
    ...                      "latitude": [52.5163, 48.8584], "longitude": [13.3777, 2.2945]})
    >>> movement(rows).iloc[1].tolist()  # from Berlin to Paris
    [879.0, 440.0]
    """
    latitude, longitude = transactions["latitude"], transactions["longitude"]
    known = (latitude.abs() <= 90) & (longitude.abs() <= 180)
    placed = transactions.assign(latitude=latitude.where(known), longitude=longitude.where(known))
    moved = FeatureSet("movement", [distance(by="customer_id"), speed(by="customer_id", slack_km=0)]).compute(placed)
    return moved.set_axis(["distance", "speed"], axis=1).set_axis(transactions.index).round()


def age_band(birth: pd.Series, on: pd.Timestamp) -> pd.Series:
    """Turn birth dates into ten-year age bands on one day: "0-19", "20-29" ... "70-79", "80+".

    Parameters
    ----------
    birth : ISO dates as text (YYYY-MM-DD).
    on : the day the age is taken at. One day for all rows: a band that changed from row to row would tell the birthday.

    Returns
    -------
    Series of text; missing where the date is missing, is no date, or gives an age below 0 or above 120.

    >>> age_band(pd.Series(["1990-06-02", "1990-06-01", "1930-01-01"]), pd.Timestamp("2020-06-01")).tolist()
    ['20-29', '30-39', '80+']
    """
    places, different = pd.factorize(birth)
    dates = pd.DatetimeIndex(pd.to_datetime(pd.Series(different, dtype="str"), format="%Y-%m-%d", errors="coerce"))
    before_birthday = (dates.month > on.month) | ((dates.month == on.month) & (dates.day > on.day))
    ages = (on.year - dates.year - before_birthday).to_numpy(dtype=float)
    bands = [_band(age) for age in np.where((ages >= 0) & (ages <= 120), ages, np.nan)]
    return pd.Series(pd.array(bands, dtype="str").take(places, allow_fill=True), index=birth.index, name=birth.name)


def _band(age: float) -> str | None:
    if np.isnan(age):
        return None
    if age >= OLDEST_BAND:
        return f"{OLDEST_BAND}+"
    decade = int(age) // 10 * 10
    return "0-19" if decade < 20 else f"{decade}-{decade + 9}"


def prefix(values: pd.Series, characters: int) -> pd.Series:
    """Keep the first characters of a text, such as the area of a postcode, in upper case without outer blanks.

    >>> prefix(pd.Series(["ec1a 1bb", "01234"]), 2).tolist()
    ['EC', '01']
    """
    if characters < 1:
        raise InputError(f"prefix: characters must be at least 1; found {characters}; correct the contract")
    return values.astype("str").str.strip().str.upper().str[:characters]


def grid(values: pd.Series, step: float) -> pd.Series:
    """Round numbers to the nearest multiple of `step`; 0.1 degree of latitude is about 11 km.

    >>> grid(pd.Series([52.5163, -0.04, None]), 0.1).tolist()
    [52.5, 0.0, nan]
    """
    if not step > 0:
        raise InputError(f"grid: step must be above 0; found {step}; correct the contract")
    return pd.Series(gridded(values.to_numpy(dtype=np.float64, na_value=np.nan), step), values.index, name=values.name)


def gridded(numbers: np.ndarray | float, step: float) -> np.ndarray:
    """Return numbers rounded as by `grid`.

    >>> float(gridded(52.5163, 0.1))
    52.5
    """
    # The last rounding removes 0.30000000000000004, the addition minus zero: equal places must be equal numbers.
    return np.round(np.round(np.asarray(numbers) / step) * step, 10) + 0.0
