"""What a scorer at work has done, kept for whoever looks: counts by minute, how long payments took, the newest alerts.

The scorer says what it answered, after it has answered; who looks gets a copy. Memory is bounded, one lock is held for
some microseconds. Nothing in it points at a person: no id, no code of a customer, no amount but its band, and of an
alert's reasons the names alone.
"""

from __future__ import annotations

import math
import threading
from bisect import bisect_left
from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate

import numpy as np

from fraudlab.reasons import Reason
from fraudlab.scoring.live import Answer

MINUTES = 60
"""So many minutes are kept one by one, the running one included."""
NEWEST = 50
"""So many alerts are kept."""
SCORES = 2_000
"""So many scores are kept, the newest, to be held against what the model gave before."""
BANDS = (10, 50, 200, 1_000, 5_000)
"""Where the bands of amounts begin but the first, in major units of the payment's own currency."""
_UNUSABLE = ("refused", "too_late")
_STEPS = (1, 1.12, 1.25, 1.4, 1.6, 1.8, 2, 2.24, 2.5, 2.8, 3.15, 3.55, 4, 4.5, 5, 5.6, 6.3, 7.1, 8, 9)
BOUNDS = (*(float(f"{step}e{power}") for power in range(-5, 1) for step in _STEPS), 10.0)
"""Upper ends of the classes of times, in seconds: 10 microseconds to 10 seconds, twenty to a factor of ten."""


@dataclass(frozen=True)
class Alert:
    """An alert as anybody may see it.

    `number` is that of the file of alerts, `minute` the payment's own time in seconds since 1970, cut to the minute;
    `band` counts how many of `BANDS` the amount reaches; `reasons` are code and English name, strongest first.
    """

    number: int
    minute: int
    tier: str
    action: str
    band: int
    reasons: tuple[tuple[str, str], ...]
    late: bool


@dataclass
class Minute:
    """What was answered within one minute, `start` in seconds since 1970; `took` counts payments by `BOUNDS`.

    `unusable` are events that were refused or came more than a day late.
    """

    start: int
    payments: int = 0
    alerts: int = 0
    unusable: int = 0
    tiers: Counter[str] = field(default_factory=Counter)
    took: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS) + 1))

    def copy(self) -> Minute:
        """Return one that no longer changes."""
        return replace(self, tiers=self.tiers.copy(), took=self.took.copy())


@dataclass(frozen=True)
class Reading:
    """A copy of the figures at one moment; times in seconds since 1970.

    Parameters
    ----------
    now, since, last : the moment, when counting began, when a payment was last answered (None: none yet).
    minutes : `MINUTES` of them without gaps, the oldest first, the running one last.
    kinds : events by what became of them (`live.KINDS`), since counting began.
    tiers, actions : payments by tier; alerts by what is done about them.
    took, seconds : payments by how long each took (see `BOUNDS`; one more class beyond the last), and all their time.
    scores : float64, the newest, at most `SCORES`, in their order.
    alerts : the newest, at most `NEWEST`, the newest first.
    """

    now: float
    since: float
    last: float | None
    minutes: tuple[Minute, ...]
    kinds: Mapping[str, int]
    tiers: Mapping[str, int]
    actions: Mapping[str, int]
    took: tuple[int, ...]
    seconds: float
    scores: np.ndarray = field(repr=False)
    alerts: tuple[Alert, ...] = field(repr=False)

    @property
    def took_lately(self) -> list[int]:
        """Payments of the kept minutes by how long each took."""
        return [sum(counts) for counts in zip(*(minute.took for minute in self.minutes))]


class Figures:
    """Counts what a scorer answers, from one thread or several.

    Parameters
    ----------
    since : when counting begins, in seconds since 1970.
    """

    def __init__(self, since: float) -> None:
        self._lock = threading.Lock()
        self._since = since
        self._last: float | None = None
        self._minutes: deque[Minute] = deque([Minute(_minute(since))], maxlen=MINUTES)
        self._kinds: Counter[str] = Counter()
        self._tiers: Counter[str] = Counter()
        self._actions: Counter[str] = Counter()
        self._took = [0] * (len(BOUNDS) + 1)
        self._seconds = 0.0
        self._scores: deque[float] = deque(maxlen=SCORES)
        self._alerts: deque[Alert] = deque(maxlen=NEWEST)

    def note(
        self,
        answers: Sequence[Answer],
        seconds: float,
        *,
        now: float,
        reasons: Mapping[int, Iterable[Reason]] | None = None,
    ) -> None:
        """Count a group that has been answered.

        Parameters
        ----------
        answers : of one group, in their order.
        seconds : that the group took; each of its payments counts with its part of them.
        now : seconds since 1970. A clock that is set back counts into the newest minute.
        reasons : of the alerts, by the answer's number.
        """
        each = seconds / max(len(answers), 1)
        with self._lock:
            minute = self._running(now)
            paid = 0
            for answer in answers:
                self._kinds[answer.kind] += 1
                scored = answer.scored
                if scored is None:
                    minute.unusable += answer.kind in _UNUSABLE
                    continue
                paid += 1
                minute.tiers[scored.tier] += 1
                self._tiers[scored.tier] += 1
                self._scores.append(scored.score)
                if scored.alert:
                    minute.alerts += 1
                    self._actions[scored.action] += 1
                    self._alerts.append(_seen(answer, (reasons or {}).get(answer.number, ())))
            if paid:
                minute.payments += paid
                at = bisect_left(BOUNDS, each)
                minute.took[at] += paid
                self._took[at] += paid
                self._seconds += each * paid
                self._last = now

    def refuse(self, events: int, *, now: float) -> None:
        """Count events that were refused before they had a number."""
        with self._lock:
            self._kinds["refused"] += events
            self._running(now).unusable += events

    def read(self, now: float) -> Reading:
        """Return a copy of all figures; `now` in seconds since 1970."""
        with self._lock:
            self._running(now)
            there = {minute.start: minute.copy() for minute in self._minutes}  # minutes without events are not kept
            newest = self._minutes[-1].start
            starts = range(newest - 60 * (MINUTES - 1), newest + 60, 60)
            return Reading(
                now=now,
                since=self._since,
                last=self._last,
                minutes=tuple(there.get(start) or Minute(start) for start in starts),
                kinds=dict(self._kinds),
                tiers=dict(self._tiers),
                actions=dict(self._actions),
                took=tuple(self._took),
                seconds=self._seconds,
                scores=np.array(self._scores, dtype=np.float64),
                alerts=tuple(reversed(self._alerts)),
            )

    def _running(self, now: float) -> Minute:
        """Return the running minute; the oldest one makes room for a new one."""
        start = _minute(now)
        if start > self._minutes[-1].start:
            self._minutes.append(Minute(start))
        return self._minutes[-1]


def _minute(moment: float) -> int:
    return int(moment) // 60 * 60


def _seen(answer: Answer, reasons: Iterable[Reason]) -> Alert:
    scored = answer.scored
    return Alert(
        number=answer.number,
        minute=_minute(scored.event_time.timestamp()),
        tier=scored.tier,
        action=scored.action,
        band=sum(scored.payment["amount"] >= limit for limit in BANDS),
        reasons=tuple((reason.code, reason.name) for reason in reasons),
        late=scored.late,
    )


def quantile(took: Sequence[int], share: float) -> float | None:
    """Return the time in seconds that a share of the payments did not exceed; None without payments.

    Parameters
    ----------
    took : payments by `BOUNDS`. Inside a class they count as spread evenly over the logarithm of time, so that the
        answer is off by 15 % at most.
    share : 0 to 1.

    >>> took = [0] * (len(BOUNDS) + 1)
    >>> took[BOUNDS.index(0.001)] = 100
    >>> round(1000 * quantile(took, 0.5), 3), quantile([0], 0.5)
    (0.949, None)
    """
    below = [0, *accumulate(took)]
    if not below[-1]:
        return None
    wanted = max(share * below[-1], 1e-9)
    at = bisect_left(below, wanted) - 1
    if at >= len(BOUNDS):
        return BOUNDS[-1]
    low, high = BOUNDS[max(at - 1, 0)] if at else BOUNDS[0] / 1.12, BOUNDS[at]
    inside = (wanted - below[at]) / took[at]
    return low * math.exp(inside * math.log(high / low))
