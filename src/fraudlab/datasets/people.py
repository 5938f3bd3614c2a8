"""Invented identities for the simulator's customers, one per customer and never per payment.

Names, streets and phone numbers come from the library `faker`; e-mail addresses lie under the reserved domains of
RFC 2606, card numbers begin with issuer prefixes of the card schemes' published test cards: nobody's data.
"""

from __future__ import annotations

import unicodedata

import numpy as np
import pandas as pd

from fraudlab.datasets.world import City, World, stream

ISSUER_PREFIXES = (400000, 411111, 424242, 510510, 555555, 222300)
EMAIL_DOMAINS = ("mail.example.com", "post.example.net", "inbox.example.org")
# Letters that do not fall apart into a base letter and an accent.
_LATIN = str.maketrans({"ß": "ss", "ø": "oe", "ł": "l", "æ": "ae", "œ": "oe", "đ": "d", "ı": "i"})


def card_numbers(n: int, rng: np.random.Generator) -> list[str]:
    """Return `n` different 16-digit card numbers that pass the Luhn check (ISO/IEC 7812-1)."""
    prefix = np.array(ISSUER_PREFIXES, dtype=np.int64)[rng.integers(0, len(ISSUER_PREFIXES), n)]
    payload = prefix * 10**9 + rng.choice(10**9, n, replace=False)
    total = np.zeros(n, dtype=np.int64)
    rest = payload
    for position in range(15):
        rest, digit = np.divmod(rest, 10)
        doubled = digit * 2 if position % 2 == 0 else digit
        total += doubled - 9 * (doubled > 9)
    return (payload * 10 + (10 - total % 10) % 10).astype(str).tolist()


def people(world: World, start: pd.Timestamp, *, identities: bool) -> pd.DataFrame:
    """Return one row per customer with what the bank knows about the person.

    Columns: customer_ref, postcode, birth_date (ISO text), loyalty_tier, and with `identities` also customer_name,
    email, phone, street.
    """
    rng = stream(world.seed, "people")
    n = len(world.customers)
    age_days = np.clip(rng.normal(43, 16, n), 18, 92) * 365.25
    frame = pd.DataFrame(
        {
            "customer_ref": [f"C{number:06d}" for number in range(n)],
            "birth_date": (start.tz_localize(None) - pd.to_timedelta(np.ceil(age_days), unit="D")).strftime("%Y-%m-%d"),
            "loyalty_tier": rng.choice(["none", "silver", "gold"], n, p=[0.6, 0.3, 0.1]),
            "postcode": _postcodes(world, rng),
        }
    )
    return frame.join(_named(world)) if identities else frame


def _postcodes(world: World, rng: np.random.Generator) -> np.ndarray:
    """One postcode per household, in the pattern of its city."""
    household = world.customers["household"].to_numpy()
    heads = world.customers.drop_duplicates("household")
    draws = rng.integers(0, 1 << 30, (household.max() + 1, 9))
    made = np.empty(len(draws), dtype=object)
    for number, city in zip(heads["household"], heads["city"]):
        made[number] = _fill(world.cities[city], draws[number])
    return made[household]


def _fill(city: City, draws: np.ndarray) -> str:
    template = city.postcodes[draws[0] % len(city.postcodes)]
    letters = "ABDEFGHJLNPQRSTUWXYZ"
    signs = {"#": lambda draw: str(draw % 10), "?": lambda draw: letters[draw % len(letters)]}
    return "".join(signs[sign](int(draw)) if sign in signs else sign for sign, draw in zip(template, draws[1:]))


def _named(world: World) -> pd.DataFrame:
    """Names, addresses and numbers; the members of a household share surname and street."""
    from faker import Faker

    makers: dict[str, Faker] = {}
    for locale in sorted({city.locale for city in world.cities}):
        makers[locale] = Faker(locale)
        makers[locale].seed_instance(f"{world.seed}-{locale}")
    homes: dict[int, tuple[str, str]] = {}
    taken: dict[str, int] = {}
    rows = []
    for household, city in zip(world.customers["household"], world.customers["city"]):
        make = makers[world.cities[city].locale]
        if household not in homes:
            homes[household] = (make.last_name(), make.street_address().replace("\n", ", "))
        surname, street = homes[household]
        name = f"{make.first_name()} {surname}"
        rows.append((name, _email(name, taken), make.phone_number(), street))
    return pd.DataFrame(rows, columns=["customer_name", "email", "phone", "street"])


def _email(name: str, taken: dict[str, int]) -> str:
    """Make an address from a name, numbered when the name has come before."""
    plain = unicodedata.normalize("NFKD", name.lower().translate(_LATIN)).encode("ascii", "ignore").decode()
    local = ".".join("".join(sign for sign in part if sign.isalnum()) for part in plain.split())
    taken[local] = taken.get(local, 0) + 1
    number = "" if taken[local] == 1 else f"-{taken[local]}"
    return f"{local}{number}@{EMAIL_DOMAINS[sum(map(ord, local)) % len(EMAIL_DOMAINS)]}"
