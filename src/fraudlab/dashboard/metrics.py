"""The figures of a scorer for Prometheus: counters, one histogram of times, lights; closed lists of labels.

Labels are words of this program and names of columns; none has to do with a customer, a merchant or an amount.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
    StateSetMetricFamily,
)

from fraudlab.acting import REVIEWED
from fraudlab.decisions import TIERS
from fraudlab.scoring.figures import BOUNDS, Reading
from fraudlab.scoring.live import KINDS

LIGHTS = ("green", "amber", "red", "grey")
SHOWN = tuple(BOUNDS.index(float(f"{step}e{power}")) for power in range(-4, 1) for step in (1, 2, 5))
"""Of `BOUNDS` those that Prometheus is told: 1, 2 and 5 of each power of ten, in seconds from a ten-thousandth on."""


@dataclass(frozen=True)
class Told:
    """What Prometheus is told of one moment: the figures, the model, the lights, columns that were not given.

    Moments are in seconds since 1970; `snapshot` is when the state was last kept.
    """

    reading: Reading
    model: Mapping[str, str]
    learnt_until: float | None
    lights: list[dict[str, Any]]
    missing: Mapping[str, int]
    report: float | None
    snapshot: float | None = None


def exposition(ask: Callable[[], Told]) -> Callable[[], bytes]:
    """Return a function that writes what `ask` tells, in Prometheus's text format.

    Parameters
    ----------
    ask : is asked at each scrape.
    """
    registry = CollectorRegistry(auto_describe=False)
    ProcessCollector(registry=registry)
    registry.register(_Asked(ask))
    return lambda: generate_latest(registry)


@dataclass(frozen=True)
class _Asked:
    """What the library asks at each scrape."""

    ask: Callable[[], Told]

    def collect(self) -> Iterator[Metric]:
        """Yield each family with its samples."""
        yield from families(self.ask())


def families(told: Told) -> Iterator[Metric]:
    """Yield the families of metrics of one moment."""
    reading = told.reading
    yield InfoMetricFamily("fraudlab_model", "The model at work.", value=dict(told.model))
    yield _counted("fraudlab_events", "Events by what became of them.", "kind", dict.fromkeys(KINDS, 0), reading.kinds)
    yield _counted(
        "fraudlab_payments", "Payments scored, by risk tier.", "tier", dict.fromkeys(TIERS, 0), reading.tiers
    )
    actions = dict.fromkeys(REVIEWED, 0)
    yield _counted("fraudlab_alerts", "Alerts, by what is done about them.", "action", actions, reading.actions)
    text = "Payments that lacked a column altogether, by column."
    yield _counted("fraudlab_missing_columns", text, "column", {}, told.missing)
    below = list(accumulate(reading.took))
    buckets = [(f"{BOUNDS[place]:g}", below[place]) for place in SHOWN] + [("+Inf", below[-1])]
    text = "Time to score a payment and answer, within the process, the disk included."
    took = HistogramMetricFamily("fraudlab_scoring_duration_seconds", text)
    took.add_metric([], buckets, reading.seconds)
    yield took
    for name, text, value in (
        ("fraudlab_last_payment_timestamp_seconds", "When a payment was last answered.", reading.last),
        ("fraudlab_snapshot_timestamp_seconds", "When a snapshot of the state was last kept.", told.snapshot),
        ("fraudlab_learnt_until_timestamp_seconds", "Until when the model has learnt.", told.learnt_until),
        ("fraudlab_monitoring_report_timestamp_seconds", "Up to when the monitoring report watched.", told.report),
    ):
        if value is not None:
            yield GaugeMetricFamily(name, text, value=value)
    lights = StateSetMetricFamily("fraudlab_light", "The live page's lights; one of each topic is 1.", labels=["topic"])
    for light in told.lights:
        lights.add_metric([light["topic"]], {each: each == light["light"] for each in LIGHTS})
    yield lights
    if index := [light["index"] for light in told.lights if "index" in light]:
        text = "Stability index of the newest scores against those of the monitoring report, less what chance gives."
        yield GaugeMetricFamily("fraudlab_score_stability_index", text, value=index[0])


def _counted(name: str, text: str, label: str, none: Mapping[str, int], found: Mapping[str, int]) -> Metric:
    family = CounterMetricFamily(name, text, labels=[label])
    for value, count in {**none, **found}.items():
        family.add_metric([value], count)
    return family
