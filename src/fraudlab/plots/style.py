"""The one style of all pictures, and what they share: a figure that shows itself, number words, small cells."""

from __future__ import annotations

import contextlib
import functools
import io
import pickle
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextToPath
from matplotlib.ticker import FuncFormatter

from fraudlab.features.words import format_value

INK, MUTED, RULE, PALE = "#1c2430", "#59636f", "#e3e6ea", "#c9ced6"


BLUE, RED, GREEN, PURPLE = "#0072b2", "#bf4e00", "#00785a", "#9b4f82"


LOOKS = (
    (BLUE, "-", 2.0),
    (RED, (0, (5, 2)), 1.5),
    (MUTED, (0, (1.2, 1.4)), 1.7),
    (GREEN, (0, (7, 2, 1, 2)), 1.5),
    (PURPLE, (0, (3, 3)), 1.5),
)


MARKS = ("o", "s", "^", "D", "v")


_STYLE = {
    "font.family": "sans-serif",
    # Verdana has DejaVu's widths, so that a machine without DejaVu shows the same picture.
    "font.sans-serif": ["DejaVu Sans", "Verdana", "Arial"],
    "font.size": 8.5,
    "text.color": INK,
    "axes.edgecolor": "#9aa3ae",
    "axes.facecolor": "white",
    "axes.labelcolor": MUTED,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.prop_cycle": matplotlib.cycler(color=[BLUE]),
    "axes.titlesize": 8.5,
    "axes.titlelocation": "left",
    "axes.titlecolor": INK,
    "axes.unicode_minus": True,
    "grid.color": RULE,
    "grid.linewidth": 0.7,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "xtick.color": "#9aa3ae",
    "ytick.color": "#9aa3ae",
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "xtick.major.size": 3,
    "ytick.major.size": 0,
    "legend.frameon": False,
    "legend.handlelength": 2.4,
    "legend.labelcolor": "linecolor",
    "svg.fonttype": "none",
    "svg.hashsalt": "fraudlab",
}


WIDTH = 7.6


class Picture(Figure):
    """A figure that shows itself in notebooks, carries an alternative text and writes small, repeatable SVG."""

    alt: str = ""

    @functools.cached_property
    def png(self) -> bytes:
        """The finished picture, drawn once for the file and the notebook that shows it."""
        target = io.BytesIO()
        own, dpi = self.canvas, self.get_dpi()
        with matplotlib.rc_context(_STYLE):
            # As savefig does, less a first drawing that only lays out; see `svg`.
            self.set_dpi(144)
            FigureCanvasAgg(self).print_png(target, metadata={"Software": None})
        self.set_dpi(dpi)
        self.set_canvas(own)
        return target.getvalue()

    def _repr_png_(self) -> tuple[bytes, dict[str, Any]]:
        width, height = (round(96 * inches) for inches in self.get_size_inches())
        return self.png, {"width": width, "height": height, "alt": self.alt, "needs_background": "light"}

    def svg(self) -> str:
        """Return the picture as SVG text: the same bytes for the same numbers, without links or metadata."""
        return self._svg

    @functools.cached_property
    def _svg(self) -> str:
        target = io.StringIO()
        with matplotlib.rc_context(_STYLE), warnings.catch_warnings():
            # Text stays text, so the reader's fonts draw what the style's lack: Chinese, for one.
            warnings.filterwarnings("ignore", message=r"Glyph \d+ .* missing from font")
            # As savefig does, less a second drawing for a tight frame that nobody asks for.
            own = self.canvas
            FigureCanvasSVG(self).print_svg(target, metadata={"Date": None, "Creator": None})
            self.set_canvas(own)
        text = target.getvalue()
        text = text[text.index("<svg ") :]
        text = re.sub(r"\s*<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
        # Two decimals of a point are finer than any screen and save a third of the size.
        return re.sub(r' d="[^"]*"', lambda found: re.sub(r"(\.\d\d)\d+", r"\1", found[0]).replace("\n", ""), text)


def share(value: float) -> str:
    """Return a share as per cent: two decimals below 10 %, one above, and never rounded onto a bound it does not reach.

    >>> share(0.3041), share(0.0084), share(0.000481), share(0.99999), share(0), share(1)
    ('30.4 %', '0.84 %', '0.048 %', 'over 99.9 %', '0 %', '100 %')
    """
    if value in (0, 1):
        return f"{100 * value:.0f} %"
    if 0.9995 <= value < 1:
        return "over 99.9 %"
    return f"{100 * value:.1f} %" if value >= 0.0995 else f"{100 * value:.{2 if value >= 0.000995 else 3}f} %"


def signed(value: float, sign: str = "+") -> str:
    """Return a number with two decimals and a true minus sign; `sign` "" leaves out the plus.

    >>> signed(0.314), signed(-4.6, ""), signed(-0.001)
    ('+0.31', '−4.60', '+0.00')
    """
    return format(round(value, 2) + 0.0, f"{sign}.2f").replace("-", "−")


_kept: dict[bytes, Picture] | None = None


@contextlib.contextmanager
def keeping(pictures: dict[bytes, Picture]) -> Iterator[None]:
    """Draw each picture once: who asks again with the same numbers gets the one in `pictures`; one thread at a time.

    Drawing is most of a report's time. Its second language has the same pictures, and a launcher draws them ahead.
    """
    global _kept
    before, _kept = _kept, pictures
    try:
        yield
    finally:
        _kept = before


def drawn(draw: Callable[..., Picture]) -> Callable[..., Picture]:
    """Draw in the house style whatever the caller's own settings are, and leave those untouched."""

    @functools.wraps(draw)
    def styled(*args: Any, **kwargs: Any) -> Picture:
        if _kept is not None:
            asked = pickle.dumps((draw.__module__, draw.__qualname__, args, kwargs))
            if asked in _kept:
                return _kept[asked]
        with matplotlib.rc_context(_STYLE):
            picture = draw(*args, **kwargs)
        if _kept is not None:
            _kept[asked] = picture
        return picture

    return styled


def fit(text: str, inches: float, size: float = 8.5, weight: str = "normal") -> str:
    """Break a text into lines that are no wider than so many inches in the style's font."""
    font = FontProperties(family="DejaVu Sans", size=size, weight=weight)
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and TextToPath().get_text_width_height_descent(longer, font, False)[0] <= 72 * inches:
            lines[-1] = longer
        else:
            lines.append(word)
    return "\n".join(lines)


def picture(height: float, title: str, *, width: float = WIDTH) -> Picture:
    title = fit(title, width - 0.25, 10, "bold")
    figure = Picture(figsize=(width, height + 0.17 * title.count("\n")), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.07, h_pad=0.06, wspace=0.03, hspace=0.03)
    figure.suptitle(title, x=0.01, ha="left", fontsize=10, fontweight="bold")
    return figure


def sentence(text: str) -> Picture:
    figure = Picture(figsize=(WIDTH, 1.1), layout="constrained")
    figure.text(0.5, 0.5, fit(text, WIDTH - 0.5, 9.5), ha="center", va="center", color=MUTED, fontsize=9.5)
    figure.alt = text
    return figure


def days_of(values: pd.Series) -> pd.Series:
    return pd.to_datetime(values, utc=True).dt.tz_localize(None)


def date_axis(ax: Axes) -> None:
    """Label a time axis with months or days, and the year where it begins or beside the axis."""
    locator = AutoDateLocator(minticks=3, maxticks=8)
    days = "%d %b"
    ax.xaxis.set_major_locator(locator)
    ax.xaxis.set_major_formatter(
        ConciseDateFormatter(
            locator,
            formats=["%Y", "%b", days, "%H:%M", "%H:%M", "%S"],
            zero_formats=["", "%Y", days, days, "%H:%M", "%H:%M"],
            offset_formats=["", "%Y", "%Y", "%Y %b %d", "%Y %b %d", "%Y %b %d"],
        )
    )


def percent_axis(axis: Any) -> None:
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{round(100 * value, 6):,.4g} %"))


def number_axis(axis: Any) -> None:
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}".replace("-", "−")))


def line_up(table: pd.DataFrame, labels: Mapping[str, str] | None) -> list[tuple[str, str, int]]:
    present = list(dict.fromkeys(table["model"].astype(str)))
    named = dict(labels or {})
    order = [name for name in named if name in present] + [name for name in present if name not in named]
    shown = [named.get(name, name) for name in order]
    return [
        (name, said[:1].upper() + said[1:], rank % len(LOOKS)) for rank, (name, said) in enumerate(zip(order, shown))
    ]


def name_at_end(ax: Axes, entries: list[tuple[float, str, str]]) -> None:
    """Write each line's name beside its last point, pushed apart so that none covers another."""
    low, high = ax.get_ylim()
    gap = 0.075 * (high - low) * 2.6 / max(ax.figure.get_size_inches()[1], 1)
    placed = -np.inf
    for height, text, colour in sorted(entries):
        placed = max(height, placed + gap * (1 + text.count("\n")))
        ax.annotate(
            text, (1.01, placed), xycoords=("axes fraction", "data"), color=colour, va="center", annotation_clip=False
        )


def value_text(value: object, kind: str = "") -> str:
    """Return a feature's value as short text with its unit; a missing one reads "missing".

    Parameters
    ----------
    value : a number, a truth value, text, or None.
    kind : as in `FeatureSet.describe()`; "" where it is not known. Numbers read as in the reasons of an alert
        (`format_value`), whole amounts without decimals.

    >>> value_text(4.81234), value_text(12000.0), value_text(None), value_text(3)
    ('4.812', '12,000', 'missing', '3')
    >>> value_text(0.0036, "days"), value_text(1.0, "flag"), value_text(394, "amount"), value_text(0.02, "share")
    ('5 minutes', 'yes', '394', '2 %')
    """
    if value is None or (isinstance(value, float) and np.isnan(value)):
        return "missing"
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if not isinstance(value, int | float | np.number):
        return str(value)
    number = float(value)
    if kind == "flag":
        return "yes" if number else "no"
    if kind:
        return format_value(number, kind, whole_amounts=number == round(number))
    return f"{number:,.0f}" if abs(number) >= 10_000 else f"{number:.4g}"


def called(feature: str, labels: Mapping[str, str] | None) -> str:
    """Return what people call a feature, its own name where there is no word for it."""
    text = (labels or {}).get(feature)
    return feature if not isinstance(text, str) or not text else text.rstrip(".")
