"""Random checks: a few cases a day drawn by chance from those the model does not list, so that its blind side is seen.

Each stands for the inverse of its chance, which is kept with it. Where the draw falls hangs on a key of the vault, the
data set and the day: the same again for who holds the key, unknown to everybody else. The queue does not say which
cases these are.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from fraudlab import survey
from fraudlab.privacy.keys import Keys

KEY = "case"
"""The named key that the draw hangs on, that of the cases' codes."""

DAY = pd.Timedelta(days=1)


def draw_cases(
    event_time: pd.Series,
    entity: pd.Series,
    score: np.ndarray,
    *,
    listed: np.ndarray,
    per_day: int,
    days: pd.DatetimeIndex,
    dataset: str,
    keys: Keys,
) -> tuple[np.ndarray, np.ndarray]:
    """Draw cases by chance from those of each day that are not listed.

    Parameters
    ----------
    event_time, entity, score : of payments, shape (n,). A case is one entity on one day (UTC), with all its payments;
        its score is the highest of them.
    listed : bool[n], payments of cases that are in the queue; a case with one of them is not drawn from.
    per_day : cases drawn a day; 0: none.
    days : the days (UTC, at midnight) to draw for.
    dataset, keys : the draw hangs on them and the day.

    Returns
    -------
    Positions of the drawn cases' payments, in their order, and for each the chance its case had.
    """
    day = pd.DatetimeIndex(event_time).tz_convert("UTC").floor("D")
    frame = pd.DataFrame(
        {"day": day, "entity": pd.Series(entity).astype("str").to_numpy(), "score": score, "listed": listed}
    )
    if not per_day:
        return np.empty(0, dtype=np.int64), np.empty(0)
    cases = (
        frame[frame["day"].isin(days)].groupby(["day", "entity"]).agg(score=("score", "max"), listed=("listed", "any"))
    )
    cases = cases[~cases["listed"]].reset_index()
    found = []
    for each, units in cases.groupby("day"):
        chance = survey.chances_by_rank(units["score"], per_day)
        rng = np.random.default_rng(_seed(keys, dataset, each))
        drawn = survey.draw(chance, rng.random(len(units)), rng.random())
        found.append(units.iloc[drawn][["day", "entity"]].assign(chance=chance[drawn]))
    if not found:
        return np.empty(0, dtype=np.int64), np.empty(0)
    chance = frame[["day", "entity"]].merge(pd.concat(found), on=["day", "entity"], how="left")["chance"].to_numpy()
    rows = np.flatnonzero(~np.isnan(chance))
    return rows, chance[rows]


def days_to_draw(
    since: pd.Timestamp, as_of: pd.Timestamp, event_time: pd.Series, chance: pd.Series
) -> pd.DatetimeIndex:
    """Return the whole days from `since` up to `as_of` for which nothing was drawn yet.

    Parameters
    ----------
    event_time, chance : of the payments in the queue so far; a day with a chance in it was drawn.

    >>> begin, now = pd.Timestamp("2026-03-01", tz="UTC"), pd.Timestamp("2026-03-04 12:00", tz="UTC")
    >>> held = pd.Series(pd.to_datetime(["2026-03-02 09:00", "2026-03-03 09:00"], utc=True))
    >>> days_to_draw(begin, now, held, pd.Series([0.1, None])).strftime("%d").tolist()
    ['01', '03']
    """
    begin = since.tz_convert("UTC").ceil("D")
    days = pd.date_range(begin, as_of.tz_convert("UTC").floor("D"), freq="D", inclusive="left", tz="UTC")
    return days.difference(pd.DatetimeIndex(pd.to_datetime(event_time[chance.notna()], utc=True)).floor("D"))


def _seed(keys: Keys, dataset: str, day: pd.Timestamp) -> int:
    message = "\0".join(("random check", dataset, "of the day", f"{day:%Y-%m-%d}", ""))
    return int.from_bytes(keys.hmac(KEY, message.encode())[:16], "big")
