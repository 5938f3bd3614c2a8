"""The simulator's world before anybody pays: places, customers and their habits, merchants, journeys.

Every part draws from its own named random stream, so that a new part (or a new fraud typology) leaves the others as
they were. Times are whole seconds since the first day; ids are small integers until the table is put together.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np
import pandas as pd

from fraudlab.config import SimulateConfig

DAY = 86_400
FAR_KM = 1_000.0
AUTH_METHODS = ("none", "pin", "password", "totp")
AUTH_RESULTS = ("none", "passed", "failed")
NONE, PIN, PASSWORD, TOTP = range(4)
UNASKED, PASSED, FAILED = range(3)
CARRIER, PROXY = 128, 250
"""Second byte of the addresses of mobile networks (plus the city's number) and of anonymising proxies."""
LATE_OPENERS = 0.15
"""Share of honest customers who open their account during the period."""


@dataclass(frozen=True)
class City:
    """A place where people live and shop: `homes` and `shops` are relative sizes, `postcodes` templates (# = digit)."""

    name: str
    country: str
    latitude: float
    longitude: float
    locale: str
    postcodes: tuple[str, ...]
    homes: float
    shops: float


# The first few lie far apart, so that even the smallest world has journeys and a far place.
CITIES: tuple[City, ...] = (
    City("Berlin", "DE", 52.520, 13.405, "de_DE", ("101##", "120##", "133##"), 12, 12),
    City("Madrid", "ES", 40.417, -3.703, "es_ES", ("280##",), 10, 10),
    City("New York", "US", 40.713, -74.006, "en_US", ("100##", "112##"), 1, 3),
    City("Paris", "FR", 48.857, 2.352, "fr_FR", ("750##",), 10, 10),
    City("Warsaw", "PL", 52.230, 21.012, "pl_PL", ("00-###", "02-###", "04-###"), 8, 8),
    City("London", "GB", 51.507, -0.128, "en_GB", ("SW# #??", "SE## #??", "NW# #??", "EC# #??"), 9, 9),
    City("Milan", "IT", 45.464, 9.190, "it_IT", ("201##",), 8, 8),
    City("Vienna", "AT", 48.208, 16.374, "de_AT", ("1##0",), 7, 7),
    City("Amsterdam", "NL", 52.368, 4.904, "nl_NL", ("10## ??",), 6, 6),
    City("Lisbon", "PT", 38.722, -9.139, "pt_PT", ("11##-###", "16##-###"), 6, 6),
    City("Stockholm", "SE", 59.329, 18.069, "sv_SE", ("11# ##", "12# ##"), 6, 6),
    City("Hamburg", "DE", 53.551, 9.994, "de_DE", ("20###", "22###"), 6, 6),
    City("Barcelona", "ES", 41.387, 2.170, "es_ES", ("080##",), 6, 6),
    City("Munich", "DE", 48.137, 11.575, "de_DE", ("80###", "81###"), 6, 6),
    City("Toronto", "CA", 43.653, -79.383, "en_CA", ("M5? #?#",), 1, 2),
    City("Dubai", "AE", 25.205, 55.271, "en_US", ("#####",), 0, 2),
    City("Bangkok", "TH", 13.756, 100.502, "en_US", ("10###",), 0, 2),
)


@dataclass(frozen=True)
class Category:
    """What a merchant sells: channel, share of the channel's merchants, median amount in EUR, spread of its log."""

    name: str
    online: bool
    share: float
    median: float
    sigma: float


CATEGORIES: tuple[Category, ...] = (
    Category("groceries", False, 30, 21.0, 0.70),
    Category("restaurants", False, 18, 26.0, 0.60),
    Category("electronics", False, 4, 110.0, 0.80),
    Category("fuel", False, 8, 50.0, 0.35),
    Category("clothing", False, 10, 46.0, 0.65),
    Category("transport", False, 10, 6.0, 0.60),
    Category("pharmacy", False, 8, 16.0, 0.60),
    Category("home_and_garden", False, 6, 55.0, 0.80),
    Category("leisure", False, 6, 19.0, 0.60),
    Category("digital_goods", True, 14, 6.0, 0.80),
    Category("electronics", True, 12, 120.0, 0.80),
    Category("gift_cards", True, 6, 35.0, 0.60),
    Category("marketplace", True, 26, 34.0, 0.85),
    Category("fashion", True, 16, 52.0, 0.60),
    Category("food_delivery", True, 12, 26.0, 0.40),
    Category("travel", True, 7, 190.0, 0.75),
    Category("streaming", True, 7, 11.0, 0.30),
)


@dataclass(frozen=True)
class Lottery:
    """Weighted draws within groups: `order` sorted by group, `cumulative` weights along it, `edges` per group."""

    order: np.ndarray
    cumulative: np.ndarray
    edges: np.ndarray

    @classmethod
    def of(cls, group: np.ndarray, weight: np.ndarray, members: np.ndarray, groups: int) -> Lottery:
        """Make a lottery in which each member of `group` has a chance proportional to its weight."""
        by_group = np.argsort(group, kind="stable")
        cumulative = np.concatenate([[0.0], np.cumsum(weight[by_group])])
        edges = np.searchsorted(group[by_group], np.arange(groups + 1))
        return cls(members[by_group], cumulative, edges)

    def draw(self, group: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Draw one member of each given group (which must not be empty)."""
        low, high = self.edges[group], self.edges[group + 1]
        span = self.cumulative[high] - self.cumulative[low]
        place = np.searchsorted(self.cumulative, self.cumulative[low] + rng.random(len(group)) * span, side="right") - 1
        return self.order[np.clip(place, low, high - 1)]

    def filled(self) -> np.ndarray:
        """Return the groups that have members."""
        return np.flatnonzero(np.diff(self.edges) > 0)


@dataclass(frozen=True)
class World:
    """Everything that exists before the first payment.

    `customers` and `merchants` are frames indexed by their number. `city_of[c, d]` is the city customer c is in on
    day d; `in_transit[c, d]` says that they spend that day on the way and pay nothing. `fraudsters` are the customers
    whose account was opened for fraud. `counter` draws merchants by city, `online` by category.
    """

    days: int
    seed: int
    cities: tuple[City, ...]
    customers: pd.DataFrame
    merchants: pd.DataFrame
    city_of: np.ndarray
    in_transit: np.ndarray
    fraudsters: np.ndarray
    counter: Lottery
    online: Lottery

    @property
    def city_latitude(self) -> np.ndarray:
        return np.array([city.latitude for city in self.cities])

    @property
    def city_longitude(self) -> np.ndarray:
        return np.array([city.longitude for city in self.cities])


def stream(seed: int, name: str) -> np.random.Generator:
    """Return the random generator that belongs to a name: independent of all others, the same for the same seed.

    >>> bool(stream(7, "homes").random() == stream(7, "homes").random())
    True
    >>> bool(stream(7, "homes").random() == stream(7, "shops").random())
    False
    """
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(zlib.crc32(name.encode()),)))


def mix(values: np.ndarray) -> np.ndarray:
    """Scatter integers over 64 bits, one to one (the splitmix64 finaliser), to make device prints and addresses."""
    z = np.asarray(values).astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def kilometres(lat1: np.ndarray, lon1: np.ndarray, lat2: np.ndarray, lon2: np.ndarray) -> np.ndarray:
    """Return great-circle distances in kilometres between places given in degrees.

    >>> round(float(kilometres(52.520, 13.405, 40.417, -3.703)), -1)     # Berlin - Madrid
    1870.0
    """
    lat1, lon1, lat2, lon2 = map(np.radians, (lat1, lon1, lat2, lon2))
    half = np.sin((lat2 - lat1) / 2) ** 2 + np.cos(lat1) * np.cos(lat2) * np.sin((lon2 - lon1) / 2) ** 2
    return 2 * 6371.0 * np.arcsin(np.sqrt(half))


def address(network: np.ndarray | int, host: np.ndarray) -> np.ndarray:
    """Return addresses 10.network.x.y as integers: the private range, so nobody's."""
    return (10 << 24) + np.asarray(network, dtype=np.int64) * 65_536 + (np.asarray(host) % 65_536).astype(np.int64)


def proxies(n: int, rng: np.random.Generator) -> np.ndarray:
    """Draw addresses of anonymising proxies."""
    return address(PROXY, rng.integers(0, 30, n))


def price_points(amount: np.ndarray, online: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Round to cents; some to whole or tens of euros, many online prices to .99; at least 0.50."""
    draw = rng.random(len(amount))
    whole = np.maximum(np.round(amount), 1.0)
    amount = np.where(draw < 0.10, whole, amount)
    amount = np.where((draw < 0.03) & (amount > 10), np.round(amount, -1), amount)
    amount = np.where(online & (draw > 0.65), whole - 0.01, amount)
    return np.maximum(np.round(amount, 2), 0.5)


def build_world(config: SimulateConfig, seed: int) -> World:
    """Make places, customers, merchants and journeys for a configuration."""
    online_merchants = max(6, round(0.3 * config.merchants))
    counter_merchants = config.merchants - online_merchants
    cities = CITIES[: int(np.clip(counter_merchants // 6, 3, len(CITIES)))]
    merchants = _merchants(counter_merchants, online_merchants, cities, stream(seed, "merchants"))
    customers = _customers(config.customers, config.days, cities, stream(seed, "customers"))
    fraudsters = _settle_fraudsters(customers, config.days, stream(seed, "fraudulent accounts"))
    city_of = _journeys(customers, config.days, cities, stream(seed, "journeys"))
    in_transit = np.zeros(city_of.shape, dtype=bool)
    in_transit[:, 1:] = city_of[:, 1:] != city_of[:, :-1]
    counter, online = merchants[~merchants["online"]], merchants[merchants["online"]]
    return World(
        days=config.days,
        seed=seed,
        cities=cities,
        customers=customers,
        merchants=merchants,
        city_of=city_of,
        in_transit=in_transit,
        fraudsters=fraudsters,
        counter=_lottery(counter, "city", len(cities)),
        online=_lottery(online, "category", len(CATEGORIES)),
    )


def _lottery(merchants: pd.DataFrame, group: str, groups: int) -> Lottery:
    return Lottery.of(
        merchants[group].to_numpy(), merchants["popularity"].to_numpy(), merchants.index.to_numpy(), groups
    )


def _around(city: np.ndarray, cities: tuple[City, ...], spread_km: float, rng: np.random.Generator):
    """Places scattered around their city's centre."""
    latitude = np.array([c.latitude for c in cities])[city]
    longitude = np.array([c.longitude for c in cities])[city]
    north, east = rng.normal(0, spread_km / 111.0, (2, len(city)))
    return latitude + north, longitude + east / np.cos(np.radians(latitude))


def _covering(choices: np.ndarray, weights: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """Draw `size` weighted choices of which the first few cover every choice once, as far as `size` allows."""
    drawn = rng.choice(choices, size, p=weights / weights.sum())
    first = min(size, len(choices))
    drawn[:first] = choices[:first]
    return drawn


def _merchants(counter: int, online: int, cities: tuple[City, ...], rng: np.random.Generator) -> pd.DataFrame:
    numbers = np.arange(len(CATEGORIES))
    is_online = np.array([category.online for category in CATEGORIES])
    share = np.array([category.share for category in CATEGORIES])
    shops = np.array([city.shops for city in cities])
    category = np.concatenate(
        [
            _covering(numbers[~is_online], share[~is_online], counter, rng),
            _covering(numbers[is_online], share[is_online], online, rng),
        ]
    )
    city = np.concatenate(
        [
            _covering(np.arange(len(cities)), shops, counter, rng),
            rng.choice(len(cities), online, p=shops / shops.sum()),
        ]
    )
    latitude, longitude = _around(city, cities, 4.0, rng)
    n = counter + online
    return pd.DataFrame(
        {
            "category": category,
            "online": is_online[category],
            "city": city,
            "latitude": latitude,
            "longitude": longitude,
            "popularity": rng.lognormal(0, 0.8, n),
            "price": rng.lognormal(0, 0.25, n),
        }
    )


def _customers(n: int, days: int, cities: tuple[City, ...], rng: np.random.Generator) -> pd.DataFrame:
    sizes = rng.choice([1, 2, 3, 4], n, p=[0.5, 0.3, 0.13, 0.07])
    household = np.repeat(np.arange(n), sizes)[:n]
    homes = np.array([city.homes for city in cities])
    home_city = rng.choice(len(cities), n, p=homes / homes.sum())
    latitude, longitude = _around(home_city, cities, 5.0, rng)
    opened = np.where(rng.random(n) < LATE_OPENERS, rng.integers(0, days, n), 0)
    replaced = rng.exponential(540, n).astype(np.int64)
    return pd.DataFrame(
        {
            "household": household,
            "city": home_city[household],
            "latitude": latitude[household],
            "longitude": longitude[household],
            "opened": opened,
            "payments_per_day": rng.gamma(2.0, 0.36, n),
            "online_share": rng.beta(2.2, 3.8, n),
            "level": rng.lognormal(0, 0.40, n),
            "cards": 1 + (rng.random(n) < 0.3),
            "new_phone_day": replaced,
            "uses_shared_device": rng.random(n) < 0.6,
            "travels": rng.gamma(1.2, 1.0, n),
        }
    )


def _settle_fraudsters(customers: pd.DataFrame, days: int, rng: np.random.Generator) -> np.ndarray:
    """Turn a few single-person accounts into accounts opened for fraud, and say which."""
    alone = np.flatnonzero(~customers["household"].duplicated(keep=False).to_numpy())
    fraudsters = np.sort(rng.choice(alone, min(len(alone), max(2, round(0.007 * len(customers)))), replace=False))
    customers.loc[fraudsters, "opened"] = rng.integers(0, max(1, days - 20), len(fraudsters))
    customers.loc[fraudsters, "payments_per_day"] = 0.0
    return fraudsters


def _journeys(customers: pd.DataFrame, days: int, cities: tuple[City, ...], rng: np.random.Generator) -> np.ndarray:
    """Return the city of each customer on each day: home, except on journeys of a few days."""
    home = customers["city"].to_numpy().astype(np.int16)
    city_of = np.repeat(home[:, None], days, axis=1)
    who = np.repeat(np.arange(len(home)), rng.poisson(customers["travels"].to_numpy() * days / 100))
    shops = np.array([city.shops for city in cities])
    where = rng.choice(len(cities), len(who), p=shops / shops.sum())
    first = rng.integers(0, days, len(who))
    last = np.minimum(first + rng.integers(2, 11, len(who)), days)
    for offset in range(10):
        on = first + offset < last
        city_of[who[on], first[on] + offset] = where[on]
    return city_of
