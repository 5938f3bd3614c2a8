"""What ingest does to a column: keyed pseudonyms and coarser values. Pure functions of values and a key."""

from __future__ import annotations

import hashlib
import hmac
import unicodedata
from collections.abc import Callable

import numpy as np
import pandas as pd

from fraudlab.schema import InputError, did_you_mean

VERSION = 1
"""Raised whenever the output of a treatment changes, so that held data are treated again."""

PSEUDONYM_BYTES = 16
OLDEST_BAND = 80


def _text(value: str) -> str:
    return unicodedata.normalize("NFKC", value).strip().casefold()


def _exact(value: str) -> str:
    return value.strip()


def _digits(value: str) -> str:
    return "".join(sign for sign in value if sign.isdigit())


FORMS: dict[str, Callable[[str], str]] = {"text": _text, "exact": _exact, "digits": _digits}
"""How a value is normalised before it is keyed, by name."""


def pseudonymise(values: pd.Series, key: bytes, namespace: str, *, form: str = "text") -> pd.Series:
    """Replace identifiers by keyed codes: equal values get equal codes, and without the key none can be guessed back.

    Parameters
    ----------
    values : text or whole numbers; 5 and "5" are the same value.
    key : at least 32 bytes.
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
    if len(key) < 32:
        raise InputError(
            f"pseudonymise: the key must have at least 32 bytes; found {len(key)}; use a key of the project"
        )
    if form not in FORMS:
        raise InputError(f"pseudonymise: unknown form '{form}'; {did_you_mean(form, FORMS)}")
    if pd.api.types.is_float_dtype(values.dtype):
        raise InputError(
            f"pseudonymise: {namespace} must hold text or whole numbers; found floating point, which damages long "
            "numbers; read the column as text"
        )
    normalise = FORMS[form]
    subkey = hmac.digest(key, b"fraudlab pseudonym\0" + namespace.encode(), hashlib.sha256)
    places, different = pd.factorize(values)
    codes: list[str | None] = []
    for value in different.tolist():
        normal = normalise(str(value))
        codes.append(hmac.digest(subkey, normal.encode(), "sha256")[:PSEUDONYM_BYTES].hex() if normal else None)
    taken = pd.array(codes, dtype="str").take(places, allow_fill=True)
    return pd.Series(taken, index=values.index, name=values.name)


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
    numbers = values.to_numpy(dtype=np.float64, na_value=np.nan)
    # The last rounding removes 0.30000000000000004, the addition minus zero: equal places must be equal numbers.
    rounded = np.round(np.round(numbers / step) * step, 10) + 0.0
    return pd.Series(rounded, index=values.index, name=values.name)
