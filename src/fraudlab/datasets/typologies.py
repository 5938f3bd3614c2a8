"""Fraud typologies: what each kind of fraud looks like, as a vectorised generator.

The first three follow the published scenarios of Le Borgne, Siblini, Lebichot and Bontempi (2022), "Reproducible
Machine Learning for Credit Card Fraud Detection"; the others are patterns that public fraud reports describe. A
generator gets the honest payments and returns fraudulent ones: either honest payments taken over (`replaces` names the
row) or new ones (`replaces` is -1). `episode` numbers what belongs together and is reported together.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from fraudlab.datasets.world import (
    CATEGORIES,
    DAY,
    FAILED,
    FAR_KM,
    NONE,
    PASSED,
    PASSWORD,
    PIN,
    TOTP,
    UNASKED,
    World,
    address,
    kilometres,
    price_points,
    proxies,
    stream,
)
from fraudlab.schema import InputError, did_you_mean

THRESHOLD = 220.0
MERCHANT_DAYS, CARD_DAYS = 28, 14
CARD_SHARE, CARD_FACTOR = 1 / 3, 5.0
HIGH_VALUE = ("electronics", "gift_cards", "marketplace", "travel")
HOUR = 3_600


@dataclass(frozen=True)
class Typology:
    """One kind of fraud: the share of payments it aims at, and how soon it is reported (1 = as usual).

    What people should know of it stands in `fraudlab/awareness/texts.toml`, in two languages.
    """

    share: float
    report_factor: float = 1.0


TYPOLOGIES: dict[str, Typology] = {
    "large_amount": Typology(share=0.0008),
    "compromised_merchant": Typology(share=0.0015),
    "compromised_card": Typology(share=0.0012),
    "card_testing": Typology(share=0.0014, report_factor=0.5),
    "account_takeover": Typology(share=0.0011),
    "impossible_travel": Typology(share=0.0008),
    "new_account": Typology(share=0.0009, report_factor=1.6),
}


def fraud_payments(
    world: World, genuine: pd.DataFrame, onset: Mapping[str, int] | None = None
) -> dict[str, pd.DataFrame]:
    """Return the fraudulent payments by typology; no honest payment is taken over twice, the first typology has it.

    `onset` names the first day of typologies that begin later: no episode of theirs starts before; nothing else moves.

    Raises
    ------
    InputError : `onset` names none of `TYPOLOGIES`.
    """
    onset = onset or {}
    for name in onset:
        if name not in TYPOLOGIES:
            raise InputError(
                f"dataset.simulate.onset: unknown kind of fraud '{name}'; {did_you_mean(name, TYPOLOGIES)}"
            )
    free = np.ones(len(genuine), dtype=bool)
    frauds = {}
    for name, typology in TYPOLOGIES.items():
        rng = stream(world.seed, f"fraud {name}")
        rows = _GENERATORS[name](world, genuine, rng, typology.share * len(genuine))
        replaces = rows["replaces"].to_numpy()
        keep = (rows["time"].to_numpy() < world.days * DAY) & ((replaces < 0) | free[replaces])
        if onset.get(name):
            keep &= rows.groupby("episode")["time"].transform("min").to_numpy() >= onset[name] * DAY
        free[replaces[keep & (replaces >= 0)]] = False
        frauds[name] = rows[keep].reset_index(drop=True)
    return frauds


def _taken_over(genuine: pd.DataFrame, rows: np.ndarray, episode: np.ndarray) -> pd.DataFrame:
    return genuine.iloc[rows].assign(replaces=rows, episode=episode)


def _large_amount(world: World, genuine: pd.DataFrame, rng: np.random.Generator, target: float) -> pd.DataFrame:
    rows = np.sort(rng.choice(len(genuine), max(3, round(target)), replace=False))
    frauds = _taken_over(genuine, rows, np.arange(len(rows)))
    amount = THRESHOLD * (1 + rng.lognormal(-0.7, 0.8, len(rows)))
    amount = price_points(amount, frauds["online"].to_numpy(), rng)
    return frauds.assign(amount=np.maximum(amount, THRESHOLD + 1))


def _compromised_merchant(world: World, genuine: pd.DataFrame, rng: np.random.Generator, target: float) -> pd.DataFrame:
    """All payments at some merchants of middling traffic, 28 days each, until the target is met."""
    merchant, day = genuine["merchant"].to_numpy(), genuine["time"].to_numpy() // DAY
    visits = np.bincount(merchant, minlength=len(world.merchants)) / world.days * MERCHANT_DAYS
    low, high = np.quantile(visits[visits > 0], [0.5, 0.8])
    fitting = np.flatnonzero((visits >= low) & (visits <= high))
    chosen = rng.permutation(fitting)
    enough = 1 + int(np.searchsorted(np.cumsum(visits[chosen]), target))
    first = np.full(len(world.merchants), world.days)
    first[chosen[:enough]] = rng.integers(0, max(1, world.days - MERCHANT_DAYS + 1), len(chosen[:enough]))
    rows = np.flatnonzero((day >= first[merchant]) & (day < first[merchant] + MERCHANT_DAYS))
    return _taken_over(genuine, rows, np.arange(len(rows)))


def _compromised_card(world: World, genuine: pd.DataFrame, rng: np.random.Generator, target: float) -> pd.DataFrame:
    """A random third of the payments of some customers, 14 days each, with five times the amount."""
    customer, day = genuine["customer"].to_numpy(), genuine["time"].to_numpy() // DAY
    per_victim = len(genuine) / len(world.customers) / world.days * CARD_DAYS * CARD_SHARE
    victims = rng.permutation(np.unique(customer))[: max(3, round(target / per_victim))]
    first = np.full(len(world.customers), world.days)
    first[victims] = rng.integers(0, max(1, world.days - CARD_DAYS + 1), len(victims))
    inside = (day >= first[customer]) & (day < first[customer] + CARD_DAYS)
    rows = np.flatnonzero(inside & (rng.random(len(genuine)) < CARD_SHARE))
    frauds = _taken_over(genuine, rows, np.arange(len(rows)))
    amount = frauds["amount"].to_numpy() * CARD_FACTOR
    return frauds.assign(amount=price_points(amount, frauds["online"].to_numpy(), rng))


def _card_testing(world: World, genuine: pd.DataFrame, rng: np.random.Generator, target: float) -> pd.DataFrame:
    """Bursts of tiny online payments, then up to three larger ones; a tester tries two or three cards in a row."""
    bursts = max(1, round(target / 13))
    victims = genuine.iloc[rng.integers(0, len(genuine), bursts)]
    tester = np.arange(bursts) // 3
    start = victims["time"].to_numpy()[tester * 3] + (np.arange(bursts) % 3) * rng.integers(900, 5 * HOUR, bursts)
    start = np.maximum(start, world.customers["opened"].to_numpy()[victims["customer"]] * DAY)
    small, large = rng.integers(6, 17, bursts), rng.integers(0, 4, bursts)
    burst, rank = _expand(small + large)
    is_small = rank < small[burst]
    gap = np.where(is_small, rng.exponential(35, len(burst)), rng.exponential(1_500, len(burst)))
    amount = np.where(is_small, rng.uniform(0.5, 2.9, len(burst)), rng.lognormal(4.7, 0.6, len(burst)))
    tested = _shops(world, ("digital_goods", "marketplace", "streaming"), 2 * bursts, rng).reshape(bursts, 2)
    merchant = np.where(
        is_small,
        tested[burst, rng.integers(0, 2, len(burst))],
        _shops(world, HIGH_VALUE, len(burst), rng),
    )
    asked = rng.random(len(burst)) < 0.25
    return _online(
        world,
        time=start[burst] + _elapsed(gap, burst),
        customer=victims["customer"].to_numpy()[burst],
        card=victims["card"].to_numpy()[burst],
        merchant=merchant,
        amount=np.where(is_small, np.round(amount, 2), price_points(amount, ~is_small, rng)),
        device=_fresh_device("card_testing", tester)[burst],
        network=_hideout(world, tester, rng, proxied=0.4)[burst],
        method=np.where(asked, PASSWORD, NONE),
        result=np.where(asked, np.where(rng.random(len(burst)) < 0.4, FAILED, PASSED), UNASKED),
        episode=burst,
        rng=rng,
    )


def _account_takeover(world: World, genuine: pd.DataFrame, rng: np.random.Generator, target: float) -> pd.DataFrame:
    """Failed attempts, then high amounts within hours, from a device and an address the customer never used."""
    cases = max(1, round(target / 4.5))
    early = genuine["time"].to_numpy() < (world.days - 3) * DAY
    online = np.flatnonzero(genuine["online"].to_numpy() & early)
    victims = genuine.iloc[online[rng.integers(0, len(online), cases)]]
    start = victims["time"].to_numpy() + rng.integers(HOUR, 60 * HOUR, cases)
    failures, bought = rng.integers(0, 4, cases), rng.integers(1, 6, cases)
    case, rank = _expand(failures + bought)
    fails = rank < failures[case]
    level = world.customers["level"].to_numpy()[victims["customer"]]
    amount = level[case] * rng.lognormal(np.log(170), 0.6, len(case))
    # A quarter of the thieves come back for another victim with the same device: that one can be found through it.
    thief = np.where(rng.random(cases) < 0.25, np.maximum(np.arange(cases) - 1, 0), np.arange(cases))
    local = rng.random(cases) < 0.3
    city = world.city_of[victims["customer"], victims["time"].to_numpy() // DAY].astype(np.int64)
    network = np.where(local, city, _hideout(world, np.arange(cases), rng, proxied=0.3))
    gap = np.where(fails, rng.exponential(60, len(case)), rng.exponential(3_000, len(case)))
    return _online(
        world,
        time=start[case] + _elapsed(gap, case),
        customer=victims["customer"].to_numpy()[case],
        card=victims["card"].to_numpy()[case],
        merchant=_shops(world, HIGH_VALUE, len(case), rng),
        amount=price_points(amount, np.ones(len(case), dtype=bool), rng),
        device=_fresh_device("account_takeover", thief)[case],
        network=network[case],
        method=np.where(rng.random(len(case)) < 0.6, PASSWORD, TOTP),
        result=np.where(fails, FAILED, PASSED),
        episode=case,
        rng=rng,
    )


def _impossible_travel(world: World, genuine: pd.DataFrame, rng: np.random.Generator, target: float) -> pd.DataFrame:
    """One to three counter payments over 1,000 km away, the first within an hour of a payment near home."""
    cases = max(1, round(target / 2))
    counter = np.flatnonzero(~genuine["online"].to_numpy())
    victims = genuine.iloc[rng.choice(counter, cases, replace=False)]
    latitude, longitude = world.city_latitude, world.city_longitude
    far = kilometres(latitude[:, None], longitude[:, None], latitude, longitude) > FAR_KM
    here = victims["city"].to_numpy()
    there = np.argmax(rng.random((cases, len(latitude))) * far[here], axis=1)
    case, rank = _expand(rng.integers(1, 4, cases))
    gap = np.where(rank == 0, rng.integers(10 * 60, 55 * 60, len(case)), rng.integers(3 * 60, 25 * 60, len(case)))
    merchant = world.counter.draw(there[case], rng)
    median = np.array([c.median for c in CATEGORIES])[world.merchants["category"].to_numpy()[merchant]]
    amount = np.maximum(median, 25) * rng.lognormal(0.8, 0.5, len(case))
    return _counter(
        world,
        time=victims["time"].to_numpy()[case] + _elapsed(gap, case),
        customer=victims["customer"].to_numpy()[case],
        card=victims["card"].to_numpy()[case],
        merchant=merchant,
        amount=price_points(amount, np.zeros(len(case), dtype=bool), rng),
        episode=case,
        rng=rng,
    )


def _new_account(world: World, genuine: pd.DataFrame, rng: np.random.Generator, target: float) -> pd.DataFrame:
    """Fresh accounts in rings of three that share a device: a few small payments, then growing ones, some counter."""
    accounts = len(world.fraudsters)
    ring = np.arange(accounts) // 3
    account, rank = _expand(np.maximum(4, rng.poisson(target / accounts, accounts)))
    n = len(account)
    begins = world.customers["opened"].to_numpy()[world.fraudsters] * DAY + rng.integers(6 * HOUR, 4 * DAY, accounts)
    gap = np.where(rank == 0, 0, rng.exponential(30 * HOUR, n))
    amount = 30 * np.exp(np.minimum(rank, 6) * 0.22) * rng.lognormal(0, 0.7, n)
    modest = _shops(world, ("marketplace", "fashion", "digital_goods", "food_delivery"), n, rng)
    resold = _shops(world, (*HIGH_VALUE, "fashion"), n, rng)
    own_device = rng.random(n) < 0.6
    home = world.customers["city"].to_numpy()[world.fraudsters]
    asked = rng.random(n) < 0.6
    at_counter = rng.random(n) < 0.35
    columns = {
        "time": begins[account] + _elapsed(gap, account),
        "customer": world.fraudsters[account],
        "card": world.fraudsters[account] * 2,
        "amount": price_points(amount, ~at_counter, rng),
        "episode": account,
    }
    counter = _counter(world, **columns, merchant=world.counter.draw(home[account], rng), rng=rng)
    online = _online(
        world,
        **columns,
        merchant=np.where(rank < 3, modest, resold),
        device=np.where(own_device, world.fraudsters[account], _fresh_device("new_account", ring)[account]),
        network=home[ring * 3][account],
        method=np.where(asked, PASSWORD, NONE),
        result=np.where(asked, PASSED, UNASKED),
        rng=rng,
    )
    return pd.concat([online[~at_counter], counter[at_counter]], ignore_index=True)


def _counter(world: World, *, merchant: np.ndarray, rng: np.random.Generator, **columns: np.ndarray) -> pd.DataFrame:
    """Counter payments: at the merchant's place, half of them by PIN, which a thief does not always know."""
    by_pin = rng.random(len(merchant)) < 0.5
    failed = rng.random(len(merchant)) < 0.06
    return pd.DataFrame(
        {
            **columns,
            "merchant": merchant,
            "online": False,
            "city": world.merchants["city"].to_numpy()[merchant],
            "latitude": world.merchants["latitude"].to_numpy()[merchant],
            "longitude": world.merchants["longitude"].to_numpy()[merchant],
            "device": -1,
            "ip": -1,
            "method": np.where(by_pin, PIN, NONE),
            "result": np.where(by_pin, np.where(failed, FAILED, PASSED), UNASKED),
            "replaces": -1,
        }
    )


def _online(
    world: World,
    *,
    network: np.ndarray,
    episode: np.ndarray,
    rng: np.random.Generator,
    **columns: np.ndarray,
) -> pd.DataFrame:
    """Online payments from one address per episode; `network` is a city's number, or -1 for a proxy."""
    places = int(episode.max()) + 1
    proxied = network < 0
    exit_city = rng.integers(0, len(world.cities), places)[episode]
    city = np.where(proxied, exit_city, network)
    host = rng.integers(0, 65_536, places)[episode]
    jitter = np.where(proxied, 0.0, rng.normal(0, 0.03, (2, len(episode))))
    return pd.DataFrame(
        {
            **columns,
            "online": True,
            "city": city,
            "latitude": world.city_latitude[city] + jitter[0],
            "longitude": world.city_longitude[city] + jitter[1],
            "ip": np.where(proxied, proxies(places, rng)[episode], address(city, host)),
            "replaces": -1,
            "episode": episode,
        }
    )


def _shops(world: World, categories: tuple[str, ...], n: int, rng: np.random.Generator) -> np.ndarray:
    """Draw online merchants of some categories (of any, in a world too small to have them)."""
    filled = world.online.filled()
    wanted = [number for number in filled if CATEGORIES[number].name in categories]
    return world.online.draw(rng.choice(np.array(wanted or filled), n), rng)


def _hideout(world: World, who: np.ndarray, rng: np.random.Generator, *, proxied: float) -> np.ndarray:
    """Give each thief a city to act from, or -1: a proxy."""
    thieves = int(who.max()) + 1
    place = np.where(rng.random(thieves) < proxied, -1, rng.integers(0, len(world.cities), thieves))
    return place[who]


def _fresh_device(name: str, number: np.ndarray) -> np.ndarray:
    """Number devices that no honest customer has: each typology has its own range above theirs."""
    return (list(TYPOLOGIES).index(name) + 1 << 40) + np.asarray(number, dtype=np.int64)


def _expand(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return for runs of the given lengths which run each row is in, and its place there.

    >>> _expand(np.array([2, 1]))
    (array([0, 0, 1]), array([0, 1, 0]))
    """
    run = np.repeat(np.arange(len(counts)), counts)
    return run, np.arange(len(run)) - np.repeat(np.cumsum(counts) - counts, counts)


def _elapsed(gaps: np.ndarray, run: np.ndarray) -> np.ndarray:
    """Return whole seconds since each run's start, given the gap before each row.

    >>> _elapsed(np.array([5, 10, 1]), np.array([0, 0, 1]))
    array([ 5, 15,  1])
    """
    total = np.cumsum(np.ceil(gaps).astype(np.int64))
    first = np.searchsorted(run, run, side="left")
    before = np.concatenate([[0], total])[first]
    return total - before


Generator = Callable[[World, pd.DataFrame, np.random.Generator, float], pd.DataFrame]
_GENERATORS: dict[str, Generator] = {
    "large_amount": _large_amount,
    "compromised_merchant": _compromised_merchant,
    "compromised_card": _compromised_card,
    "card_testing": _card_testing,
    "account_takeover": _account_takeover,
    "impossible_travel": _impossible_travel,
    "new_account": _new_account,
}
