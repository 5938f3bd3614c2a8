"""Tables as notebooks show them."""

from __future__ import annotations

from typing import Any

import pandas as pd
from pandas.io.formats.style import Styler


def show(table: pd.DataFrame) -> Styler:
    """Lay a table out for reading in a notebook: text to the left and whole, numbers grouped, days without hours."""

    def said(value: Any) -> str:
        if isinstance(value, list | tuple):
            return ", ".join(map(str, value))
        if pd.api.types.is_scalar(value) and pd.isna(value):
            return "–"
        if isinstance(value, pd.Timestamp):
            return f"{value:%Y-%m-%d}"
        if isinstance(value, float):
            return (
                f"{value:,.0f}" if abs(value) >= 1000 or (value.is_integer() and abs(value) >= 10) else f"{value:.4g}"
            )
        return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)

    text = [name for name in table.columns if table[name].dtype.kind not in "iufM"]
    styled = table.style.format(said).hide(axis="index").set_properties(**{"vertical-align": "top"})
    left = {"selector": "", "props": [("text-align", "left"), ("max-width", "34em"), ("white-space", "normal")]}
    return styled.set_table_styles({name: [left] for name in text}, overwrite=False)
