"""Lights over the last minutes: does the model score as it did lately, are as many alerted, can the events be used?

First looks, judged on payments as if each were independent of the others. The monitoring report has measured limits and
decides (docs/monitoring.md); its lights stand beside these.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from fraudlab import drift
from fraudlab.scoring.figures import Reading

LEAST = 200
"""With fewer scores nothing is said."""
FAR, FARTHER = 3.0, 5.0
"""Standard deviations of the share of alerts from which on its light is amber, and red."""
SOME, MANY = 0.01, 0.10
"""Shares of events that cannot be used from which on their light is amber, and red."""
LOST = 0.5
"""A column is named when so large a share of the payments came without it."""


def live_lights(
    reading: Reading, *, usual: Mapping[str, Any], review: float, rows: int, missing: Mapping[str, int]
) -> list[dict[str, Any]]:
    """Judge the newest scores, the share of alerts among them, and what comes in.

    Parameters
    ----------
    reading : what was done.
    usual : `watching.scored_lately` of the newest monitoring report; empty where there is none.
    review : the score from which on a payment is reviewed.
    rows, missing : payments that came in since the start, and how many of them lacked a column altogether.

    Returns
    -------
    list of dicts: topic ("scores", "alerts" or "events"), light (green, amber, red, or grey: not judged), n (what it
    rests on) and figures: index (stability index less what chance gives), value and usual (shares), unusable (share),
    columns (names).

    - scores: amber from an index of 0.10 on, red above 0.25 (`drift.STABLE`, `drift.CHANGED`).
    - alerts: amber from 3 standard deviations on (difference of arcsine roots), red from 5.
    - events: amber from one in a hundred that is refused or too late within the hour, red from one in ten; amber where
      a column is lost.
    """
    return [_scores(reading.scores, usual), _alerts(reading.scores, usual, review), _events(reading, rows, missing)]


def _light(topic: str, light: str, n: int, **figures: Any) -> dict[str, Any]:
    return {"topic": topic, "light": light, "n": n, **figures}


def _scores(scores: np.ndarray, usual: Mapping[str, Any]) -> dict[str, Any]:
    n = len(scores)
    if n < LEAST or not usual:
        return _light("scores", "grey", n)
    before = np.array(usual["counts"])
    now = np.bincount(drift.bin_codes(scores, np.array(usual["breaks"])), minlength=len(before))[: len(before)]
    index = drift.psi(before, now) - drift.chance_psi(int(before.sum()), n, len(before))
    light = "green" if index < drift.STABLE else "amber" if index <= drift.CHANGED else "red"
    return _light("scores", light, n, index=max(index, 0.0))


def _alerts(scores: np.ndarray, usual: Mapping[str, Any], review: float) -> dict[str, Any]:
    n = len(scores)
    if n < LEAST or usual.get("alerted") is None:
        return _light("alerts", "grey", n)
    value, before = float((scores >= review).mean()), float(usual["alerted"])
    spread = np.sqrt(1 / n + 1 / sum(usual["counts"]))
    off = 2 * abs(np.arcsin(np.sqrt(value)) - np.arcsin(np.sqrt(before))) / spread
    return _light("alerts", _by(off, FAR, FARTHER), n, value=value, usual=before)


def _events(reading: Reading, rows: int, missing: Mapping[str, int]) -> dict[str, Any]:
    unusable = sum(minute.unusable for minute in reading.minutes)
    n = unusable + sum(minute.payments for minute in reading.minutes)
    lost = sorted(name for name, count in missing.items() if count >= LOST * rows)
    if not n:
        return _light("events", "grey", 0)
    light = _by(unusable / n, SOME, MANY)
    return _light("events", "amber" if light == "green" and lost else light, n, unusable=unusable / n, columns=lost)


def _by(value: float, amber: float, red: float) -> str:
    return "red" if value >= red else "amber" if value >= amber else "green"
