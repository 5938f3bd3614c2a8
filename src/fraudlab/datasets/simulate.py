"""A public, documented payment simulator: the embedded demo data.

`simulate` makes a world (places, customers, merchants, journeys), lets honest people pay in it, lets fraud happen
(`fraudlab.datasets.typologies`) and lets it be reported days later. Assumptions and measured shares are in
docs/typologies.md. Everything is invented; the same configuration and seed give the same table, bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from fraudlab.config import SimulateConfig
from fraudlab.datasets.people import card_numbers, people
from fraudlab.datasets.typologies import TYPOLOGIES, fraud_payments
from fraudlab.datasets.world import (
    AUTH_METHODS,
    AUTH_RESULTS,
    CARRIER,
    CATEGORIES,
    DAY,
    FAILED,
    NONE,
    PASSED,
    PASSWORD,
    PIN,
    TOTP,
    UNASKED,
    World,
    address,
    build_world,
    mix,
    price_points,
    proxies,
    stream,
)
from fraudlab.schema import TIME_DTYPE, InputError

CURRENCY = "EUR"
GENUINE_LABEL_DAYS = 14
DELAY_MEDIAN_DAYS, DELAY_P95_DAYS, DELAY_CAP_DAYS = 5.0, 25.0, 60.0
FRIENDLY_FRAUD = 5e-5
"""Share of genuine payments that their own customer reports as fraud."""

WEEKDAY = np.array([0.90, 0.92, 0.95, 1.00, 1.15, 1.25, 0.83])
COUNTER_HOURS = ((0.25, 8.5, 1.2), (0.35, 12.8, 1.6), (0.40, 17.8, 1.8))
ONLINE_HOURS = ((0.25, 12.5, 2.5), (0.65, 20.3, 2.3), (0.10, 2.0, 2.5))
MEMOS = ("", "thank you", "see receipt", "gift", "monthly order", "family", "shared with flatmates", "work expenses")
MEMO_WEIGHTS = (0.80, 0.05, 0.04, 0.03, 0.03, 0.02, 0.015, 0.015)
MEMO_WITH_CONTACT = 0.01


def simulate(config: SimulateConfig, seed: int, *, identities: bool = True) -> pd.DataFrame:
    """Simulate the demo table: card payments of invented customers, in time order, some of them fraud.

    Parameters
    ----------
    config : how many customers, merchants and days, from when, the share of frauds nobody reports, and kinds of fraud
        that begin later.
    seed : whole number >= 0; the same configuration and seed give the same table bit for bit.
    identities : False leaves out customer_name, email, phone and street (and the contact details in memo), which
        saves about a third of the time; every other value stays the same.

    Returns
    -------
    One row per payment attempt, in time order: payment_id, paid_at (UTC), customer_ref, customer_name, email, phone,
    street, postcode, birth_date, card_number, merchant_ref, merchant_category, channel (pos, online), country (of the
    merchant), currency, latitude and longitude (the merchant's at the counter, the network address's place online),
    device_fingerprint and ip_address (NA at the counter, else never), auth_method, auth_result (a failed one is a
    declined attempt), amount (EUR, in cents, at least 0.50), memo, loyalty_tier, fraud_scenario ("" or a name in
    `TYPOLOGIES`: what truly happened), reported_fraud (0/1), reported_at (when that label becomes known; it may lie
    after the last payment). No other column holds missing values.

    Raises
    ------
    InputError : `seed` is not a whole number >= 0; `onset` names an unknown kind of fraud.

    Notes
    -----
    With few customers and days the fraud rate lies above the usual 0.8 %: each typology has at least one attempt.

    >>> table = simulate(SimulateConfig(customers=50, merchants=20, days=30), seed=1, identities=False)
    >>> bool(table["paid_at"].is_monotonic_increasing), bool(table["payment_id"].is_unique)
    (True, True)
    """
    if not isinstance(seed, int | np.integer) or seed < 0:
        raise InputError(f"seed: must be a whole number >= 0; found {seed!r}; give one such as 7")
    world = build_world(config, int(seed))
    start = pd.Timestamp(config.start, tz="UTC")
    genuine = genuine_payments(world, weekday=start.weekday())
    frauds = fraud_payments(world, genuine, config.onset)
    genuine = _genuine_labels(_with_memos(genuine, stream(seed, "memos")), stream(seed, "friendly fraud"))
    parts = [genuine.drop(index=np.concatenate([rows["replaces"] for rows in frauds.values()]), errors="ignore")]
    for name, rows in frauds.items():
        rows = _with_memos(rows, stream(seed, f"memos {name}"))
        parts.append(_fraud_labels(rows, name, config.label_noise, stream(seed, f"reports {name}")))
    payments = pd.concat(parts, ignore_index=True).sort_values("time", kind="stable", ignore_index=True)
    return _table(world, payments, start, identities=identities)


def genuine_payments(world: World, *, weekday: int) -> pd.DataFrame:
    """Return the honest payments as numbers: time (seconds since the start), customer, card, merchant, place ..."""
    visits = _visits(world, weekday, stream(world.seed, "visits"))
    payments = _at_merchants(world, visits, stream(world.seed, "choice of merchant"))
    payments["amount"] = _amounts(world, payments, stream(world.seed, "amounts"))
    payments = _with_devices(world, payments, stream(world.seed, "devices"))
    payments = _with_runs(world, payments, stream(world.seed, "runs"))
    payments = _with_authentication(payments, stream(world.seed, "authentication"))
    return payments[payments["time"] < world.days * DAY].reset_index(drop=True)


def _visits(world: World, weekday: int, rng: np.random.Generator) -> pd.DataFrame:
    """Who pays when, and whether online: a Poisson count per customer, spread over days and hours by their rhythm."""
    customers = world.customers
    per_day = WEEKDAY[(weekday + np.arange(world.days)) % 7]
    clock = np.concatenate([[0.0], np.cumsum(per_day)])
    open_from = clock[customers["opened"].to_numpy()]
    expected = customers["payments_per_day"].to_numpy() * (clock[-1] - open_from)
    customer = np.repeat(np.arange(len(customers)), rng.poisson(expected))
    # A new account is used most in its first weeks, by honest customers too.
    skew = np.where(open_from[customer] > 0, 1.6, 1.0)
    moment = open_from[customer] + rng.random(len(customer)) ** skew * (clock[-1] - open_from[customer])
    day = np.clip(np.searchsorted(clock, moment, side="right") - 1, 0, world.days - 1)
    online = rng.random(len(customer)) < customers["online_share"].to_numpy()[customer]
    hours = np.where(online, _hours(ONLINE_HOURS, len(day), rng) % 24, _hours(COUNTER_HOURS, len(day), rng))
    hours = np.where(online, hours, np.clip(hours, 6.5, 22.5))
    time = day * DAY + np.minimum((hours * 3600).astype(np.int64), DAY - 1)
    second = (rng.random(len(customer)) < 0.3) & (customers["cards"].to_numpy()[customer] > 1)
    visits = pd.DataFrame({"time": time, "customer": customer, "card": customer * 2 + second, "online": online})
    return visits[~world.in_transit[customer, day]].reset_index(drop=True)


def _hours(parts: tuple[tuple[float, float, float], ...], n: int, rng: np.random.Generator) -> np.ndarray:
    """Draw hours of the day from a mixture of normals (weight, mean, spread)."""
    weights, means, spreads = map(np.array, zip(*parts))
    part = rng.choice(len(weights), n, p=weights)
    return rng.normal(means[part], spreads[part])


def _at_merchants(world: World, visits: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """Choose a merchant for each visit: mostly favourites (at the counter: near home), else by popularity."""
    customer, online = visits["customer"].to_numpy(), visits["online"].to_numpy()
    here = world.city_of[customer, visits["time"].to_numpy() // DAY].astype(np.int64)
    at_home = here == world.customers["city"].to_numpy()[customer]
    n = len(visits)
    category = _online_categories(world, n, rng)
    merchant = np.where(online, world.online.draw(category, rng), world.counter.draw(here, rng))
    near, liked = _favourites(world, rng)
    favourite = np.where(online, liked[customer, _rank(n, rng)], near[customer, _rank(n, rng)])
    loyal = rng.random(n) < np.where(online, 0.5, 0.7)
    merchant = np.where(loyal & (online | at_home), favourite, merchant)
    # An online payment happens where its network address is thought to be: around the centre of the city.
    jitter = rng.normal(0, 0.03, (2, n))
    shops = world.merchants
    return visits.assign(
        merchant=merchant,
        city=here,
        latitude=np.where(online, world.city_latitude[here] + jitter[0], shops["latitude"].to_numpy()[merchant]),
        longitude=np.where(online, world.city_longitude[here] + jitter[1], shops["longitude"].to_numpy()[merchant]),
    )


def _online_categories(world: World, n: int, rng: np.random.Generator) -> np.ndarray:
    filled = world.online.filled()
    share = np.array([CATEGORIES[number].share for number in filled])
    return rng.choice(filled, n, p=share / share.sum())


def _rank(n: int, rng: np.random.Generator) -> np.ndarray:
    """Draw places 0..5 in a list of favourites, the first ones more often."""
    return np.minimum(rng.geometric(0.35, n) - 1, 5)


def _favourites(world: World, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Six counter merchants (the nearest of twelve known ones) and six online merchants for each customer."""
    n, homes = len(world.customers), world.customers
    known = world.counter.draw(np.repeat(homes["city"].to_numpy(), 12), rng).reshape(n, 12)
    shops = world.merchants
    north = shops["latitude"].to_numpy()[known] - homes["latitude"].to_numpy()[:, None]
    east = (shops["longitude"].to_numpy()[known] - homes["longitude"].to_numpy()[:, None]) * 0.65
    near = np.take_along_axis(known, np.argsort(north**2 + east**2, axis=1, kind="stable")[:, :6], axis=1)
    liked = world.online.draw(_online_categories(world, n * 6, rng), rng).reshape(n, 6)
    return near, liked


def _amounts(world: World, payments: pd.DataFrame, rng: np.random.Generator) -> np.ndarray:
    """Lognormal amounts by category, price level of the merchant and of the customer; now and then something large."""
    merchant = payments["merchant"].to_numpy()
    category = world.merchants["category"].to_numpy()[merchant]
    median = np.array([c.median for c in CATEGORIES])[category]
    sigma = np.array([c.sigma for c in CATEGORIES])[category]
    level = world.customers["level"].to_numpy()[payments["customer"]]
    amount = median * world.merchants["price"].to_numpy()[merchant] * level * np.exp(rng.normal(0, sigma))
    special = rng.random(len(amount)) < 0.006
    amount = np.where(special, amount * rng.uniform(3, 9, len(amount)), amount)
    return price_points(amount, payments["online"].to_numpy(), rng)


def _with_runs(world: World, payments: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """Add honest runs of payments: several small purchases of digital goods, a second purchase at the same shop."""
    names = np.array([c.name for c in CATEGORIES])[world.merchants["category"].to_numpy()[payments["merchant"]]]
    draw = rng.random(len(payments))
    more = np.where((names == "digital_goods") & (draw < 0.03), rng.integers(2, 8, len(payments)), 0)
    more = np.where((names != "digital_goods") & (draw < 0.012), 1, more)
    again = np.repeat(np.arange(len(payments)), more)
    rank = np.arange(len(again)) - np.repeat(np.cumsum(more) - more, more) + 1
    extra = payments.iloc[again].reset_index(drop=True)
    extra["time"] += rank * 40 + rng.integers(0, 240, len(extra))
    factor = rng.lognormal(0, 0.5, len(extra))
    extra["amount"] = price_points(extra["amount"].to_numpy() * factor, extra["online"].to_numpy(), rng)
    return pd.concat([payments, extra], ignore_index=True)


def _with_devices(world: World, payments: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """Give online payments a device and an address: own phone (replaced at times), the household's computer, others.

    Counter payments have neither (-1). Some addresses belong to mobile networks, which a whole city shares, a few to
    proxies, which place the payer in a random city.
    """
    n, crowd = len(payments), len(world.customers)
    customer, online = payments["customer"].to_numpy(), payments["online"].to_numpy()
    day = payments["time"].to_numpy() // DAY
    homes = world.customers
    household = homes["household"].to_numpy()[customer]
    new_phone = day >= homes["new_phone_day"].to_numpy()[customer]
    draw = rng.random(n)
    device = customer + crowd * new_phone
    device = np.where((draw < 0.30) & homes["uses_shared_device"].to_numpy()[customer], 2 * crowd + household, device)
    device = np.where(draw > 0.975, 3 * crowd + rng.integers(0, crowd, n), device)
    device = np.where(draw > 0.985, 4 * crowd + np.arange(n), device)

    city = payments["city"].to_numpy()
    at_home = city == homes["city"].to_numpy()[customer]
    lease = day // 45
    where = np.where(at_home, household * 1_000 + lease, -1 - (customer * 1_000 + day // 10))
    ip = address(city, mix(where))
    path = rng.random(n)
    ip = np.where(path < 0.25, address(CARRIER + city, rng.integers(0, 60, n)), ip)
    proxied = online & (path > 0.988)
    exit_city = rng.integers(0, len(world.cities), n)
    ip = np.where(proxied, proxies(n, rng), ip)
    return payments.assign(
        device=np.where(online, device, -1),
        ip=np.where(online, ip, -1),
        latitude=np.where(proxied, world.city_latitude[exit_city], payments["latitude"]),
        longitude=np.where(proxied, world.city_longitude[exit_city], payments["longitude"]),
    )


def _with_authentication(payments: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """Ask some payers for a PIN, password or one-time code; a few honest ones fail, and most of these try again."""
    n = len(payments)
    online, amount = payments["online"].to_numpy(), payments["amount"].to_numpy()
    draw = rng.random(n)
    at_counter = np.where(draw < np.where(amount > 50, 0.95, 0.3), PIN, NONE)
    asked = np.where(amount > 30, 0.75, 0.4)
    factor = np.where(rng.random(n) < np.where(amount > 100, 0.7, 0.35), TOTP, PASSWORD)
    method = np.where(online, np.where(draw < asked, factor, NONE), at_counter)
    chance = np.array([0.0, 0.008, 0.030, 0.020])[method]
    failed = rng.random(n) < chance
    result = np.where(method == NONE, UNASKED, np.where(failed, FAILED, PASSED))
    payments = payments.assign(method=method, result=result)
    retry = payments[failed & (rng.random(n) < 0.7)].copy()
    retry["time"] += rng.integers(15, 240, len(retry))
    retry["result"] = np.where(rng.random(len(retry)) < 0.15, FAILED, PASSED)
    return pd.concat([payments, retry], ignore_index=True)


def _with_memos(payments: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """Choose a memo for each payment: a number in `MEMOS`, or one of the two beyond it that hold contact details."""
    weights = np.append(np.array(MEMO_WEIGHTS) * (1 - MEMO_WITH_CONTACT), [MEMO_WITH_CONTACT / 2] * 2)
    return payments.assign(memo=rng.choice(len(weights), len(payments), p=weights))


def _delays(n: int, rng: np.random.Generator) -> np.ndarray:
    """Draw days between a fraud and its report: lognormal with the stated median and 95th percentile."""
    sigma = np.log(DELAY_P95_DAYS / DELAY_MEDIAN_DAYS) / 1.6449
    return DELAY_MEDIAN_DAYS * rng.lognormal(0, sigma, n)


def _labelled(payments: pd.DataFrame, scenario: int, reported: np.ndarray, days: np.ndarray) -> pd.DataFrame:
    """Add what the label will say and after how many seconds; unreported payments count as genuine after 14 days."""
    days = np.where(reported, np.clip(days, 1 / 24, DELAY_CAP_DAYS), GENUINE_LABEL_DAYS)
    return payments.assign(
        scenario=scenario, reported=reported.astype(np.int64), label_after=(days * DAY).astype(np.int64)
    )


def _genuine_labels(payments: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    n = len(payments)
    return _labelled(payments, len(TYPOLOGIES), rng.random(n) < FRIENDLY_FRAUD, _delays(n, rng))


def _fraud_labels(payments: pd.DataFrame, name: str, label_noise: float, rng: np.random.Generator) -> pd.DataFrame:
    """Report the frauds: the payments of one episode wait equally long; some are never reported."""
    episode = payments["episode"].to_numpy()
    days = _delays(int(episode.max(initial=-1)) + 1, rng)[episode] * TYPOLOGIES[name].report_factor
    return _labelled(payments, list(TYPOLOGIES).index(name), rng.random(len(episode)) >= label_noise, days)


def _table(world: World, payments: pd.DataFrame, start: pd.Timestamp, *, identities: bool) -> pd.DataFrame:
    """Put the raw table together: numbers become the references, texts and times of a bank's export."""
    n = len(payments)
    customer, merchant = payments["customer"].to_numpy(), payments["merchant"].to_numpy()
    person = people(world, start, identities=identities)
    cards = card_numbers(2 * len(world.customers), stream(world.seed, "card numbers"))
    category = world.merchants["category"].to_numpy()[merchant]
    city = world.merchants["city"].to_numpy()[merchant]
    seconds = payments["time"].to_numpy()
    columns = {
        "payment_id": pd.array([f"P{number:08d}" for number in range(1, n + 1)], dtype="str"),
        "paid_at": _moments(start, seconds),
        "customer_ref": _text(person["customer_ref"], customer),
        **{name: _text(person[name], customer) for name in _named_columns(person)},
        "postcode": _text(person["postcode"], customer),
        "birth_date": _text(person["birth_date"], customer),
        "card_number": _text(cards, payments["card"].to_numpy()),
        "merchant_ref": _text([f"M{number:04d}" for number in range(len(world.merchants))], merchant),
        "merchant_category": _text([c.name for c in CATEGORIES], category),
        "channel": _text(["pos", "online"], payments["online"].to_numpy().astype(np.int64)),
        "country": _text([c.country for c in world.cities], city),
        "currency": _text([CURRENCY], np.zeros(n, dtype=np.int64)),
        "latitude": np.round(payments["latitude"].to_numpy(), 4),
        "longitude": np.round(payments["longitude"].to_numpy(), 4),
        "device_fingerprint": _printed(payments["device"].to_numpy(), _fingerprints),
        "ip_address": _printed(payments["ip"].to_numpy(), _dotted),
        "auth_method": _text(AUTH_METHODS, payments["method"].to_numpy()),
        "auth_result": _text(AUTH_RESULTS, payments["result"].to_numpy()),
        "amount": payments["amount"].to_numpy(),
        "memo": _memos(person, customer, payments["memo"].to_numpy()),
        "loyalty_tier": _text(person["loyalty_tier"], customer),
        "fraud_scenario": _text([*TYPOLOGIES, ""], payments["scenario"].to_numpy()),
        "reported_fraud": payments["reported"].to_numpy(),
        "reported_at": _moments(start, seconds + payments["label_after"].to_numpy()),
    }
    return pd.DataFrame(columns)


def _named_columns(person: pd.DataFrame) -> list[str]:
    return [name for name in ("customer_name", "email", "phone", "street") if name in person]


def _moments(start: pd.Timestamp, seconds: np.ndarray) -> pd.DatetimeIndex:
    return (start + pd.to_timedelta(seconds, unit="s")).astype(TIME_DTYPE)


def _text(values: object, codes: np.ndarray) -> pd.api.extensions.ExtensionArray:
    """Look codes up in a short list of texts."""
    return pd.array(list(values), dtype="str").take(codes)


def _printed(codes: np.ndarray, form: Callable[[np.ndarray], list[str]]) -> pd.api.extensions.ExtensionArray:
    """Write each different code once with `form`; -1 becomes missing."""
    places, unique = pd.factorize(codes)
    places = np.where(codes < 0, -1, places)
    return pd.array(form(unique), dtype="str").take(places, allow_fill=True)


def _fingerprints(codes: np.ndarray) -> list[str]:
    return [f"{code:016x}" for code in mix(codes).tolist()]


def _dotted(codes: np.ndarray) -> list[str]:
    return [f"{code >> 24}.{code >> 16 & 255}.{code >> 8 & 255}.{code & 255}" for code in codes.tolist()]


def _memos(person: pd.DataFrame, customer: np.ndarray, memo: np.ndarray) -> pd.api.extensions.ExtensionArray:
    """Write the memos out; a few hold the customer's own phone number or e-mail address."""
    texts = np.array([*MEMOS, "", ""], dtype=object)[memo]
    if "email" in person:
        for number, (words, detail) in enumerate([("please call ", "phone"), ("invoice to ", "email")], len(MEMOS)):
            rows = memo == number
            texts[rows] = (words + person[detail]).to_numpy(dtype=object)[customer[rows]]
    return pd.array(texts, dtype="str")
