"""What changed between two reports, from the facts that each carries for programs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from fraudlab import plots
from fraudlab.report.evidence import Evidence
from fraudlab.report.pages import Grid, Part, page

FORMAT = 1
ABSENT = "–"
# Part -> the heading of its table; the order of the page.
TITLES = {
    "about": "What it is about, and the decision",
    "figures": "Key figures of the candidate on its own test part",
    "gate": "The promotion gate",
    "checks": "Checks",
    "features": "Features",
    "config": "Config",
    "settings": "Settings of the fitted model",
    "data": "Data",
    "digests": "Digests",
    "versions": "Versions of the software",
}
_VARYING = ("seconds",)


def facts(e: Evidence, lang: str = "en") -> dict[str, Any]:
    """Return what programs may know of a report: what it is about, its figures, and what it was made from.

    Parameters
    ----------
    e : the run's evidence; nothing is in the facts that the report does not say.
    lang : the report's language.

    Returns
    -------
    JSON-like: format, lang, about, decision, gate, figures (model, label, candidate, metric, value, low, high), checks,
    features (column -> label), config and settings (dotted key -> value), data, digests, versions.
    """
    run, data, decision = e.run, e.data, e.decision
    candidate = next(model for model in e.models if model["name"] == e.candidate)
    figures = [
        {
            "model": row.model,
            "label": e.labels.get(row.model, row.model),
            "candidate": row.model == e.candidate,
            "metric": row.metric,
            **{name: _number(getattr(row, name)) for name in ("value", "low", "high")},
        }
        for row in e.overall.itertuples()
    ]
    words = e.words
    return {
        "format": FORMAT,
        "lang": lang,
        "about": {
            "run": run["run_id"],
            "model": run.get("model_name") or run["name"],
            "version": run.get("model_version"),
            "title": run.get("title"),
            "owner": run.get("owner"),
            "purpose": run.get("purpose"),
            "made": run["created"],
            "as_of": run.get("as_of"),
            "candidate": e.labels[e.candidate],
        },
        "decision": {
            name: decision.get(name) for name in ("decision", "champion_before", "champion_after", "alerts_per_day")
        },
        "gate": [
            {name: check[name] for name in ("check", "required", "found", "passed")} for check in decision["gate"]
        ],
        "figures": figures,
        "checks": [
            {name: check[name] for name in ("code", "title", "severity", "result", "sentence")}
            for check in e.checks or []
        ],
        "features": {column: words[column] for column in e.features["column"]},
        "config": dict(_flat(e.config)),
        "settings": {key: value for key, value in _flat(candidate["facts"]) if key not in _VARYING},
        "data": {
            name: data.get(name)
            for name in ("dataset", "source", "first", "last", "rows", "customers", "frauds", "labelled", "unlabelled")
        },
        "digests": {
            name: digest
            for name, digest in (
                ("config", run["config_digest"]),
                ("data", run.get("data_digest") or data["digest"]),
                ("contract", data.get("contract_digest")),
                ("code", run.get("code_digest")),
                ("locked environment", run.get("lock_digest")),
                ("evidence", e.digest),
            )
            if digest
        },
        "versions": dict(run["versions"]),
    }


def compare(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, pd.DataFrame]:
    """Return what differs between the facts of two reports.

    Parameters
    ----------
    before, after : from `facts`.

    Returns
    -------
    Name (the keys of `TITLES`) -> table. `figures` holds every figure of the candidates: metric, before, after, change,
    intervals ("apart", "overlap", or "none"; apart is a sign of a true difference, overlap is no proof of none). The
    others hold only rows that differ: what, before, after; absent things are "–".

    >>> same = {name: {} for name in TITLES} | {"decision": {}, "figures": [], "gate": [], "checks": []}
    >>> tables = compare(same, same | {"config": {"seed": 8}})
    >>> tables["config"].values.tolist(), len(tables["about"])
    ([['seed', '–', '8']], 0)
    """
    tables = {
        "about": _differing(before["about"] | before["decision"], after["about"] | after["decision"]),
        "figures": _figures(before["figures"], after["figures"]),
        "gate": _differing(*({check["check"]: _gate(check) for check in each["gate"]} for each in (before, after))),
        "checks": _differing(
            *({_named(check): check["result"] for check in each["checks"]} for each in (before, after))
        ),
    }
    for name in ("features", "config", "settings", "data", "digests", "versions"):
        tables[name] = _differing(before[name], after[name])
    return {name: tables[name] for name in TITLES}


def headline(tables: Mapping[str, pd.DataFrame], before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """Return in one sentence what `compare` found."""
    figures = tables["figures"]
    moved = int((figures["before"] != figures["after"]).sum())
    apart = int((figures["intervals"] == "apart").sum())
    counted = [
        f"{len(tables[name])} {said if len(tables[name]) != 1 else one}"
        for name, one, said in (
            ("config", "key of the config", "keys of the config"),
            ("features", "feature", "features"),
            ("checks", "check", "checks"),
            ("digests", "digest", "digests"),
        )
        if len(tables[name])
    ]
    rest = f"; {', '.join(counted)} differ" if counted else "; config, features, checks and digests are the same"
    decided = before["decision"]["decision"], after["decision"]["decision"]
    what = decided[0] if decided[0] == decided[1] else f"{decided[0]}, then {decided[1]}"
    return (
        f"{_called(before)} and {_called(after)}: {what}; {moved} of {len(figures)} figures moved, {apart} by more "
        f"than their intervals{rest}."
    )


def differences_page(tables: Mapping[str, pd.DataFrame], before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """Return what `compare` found as a page of its own."""
    parts = []
    for name, table in tables.items():
        if table.empty:
            parts.append(Part(TITLES[name], ["No difference."]))
            continue
        head = [column.capitalize() for column in table.columns]
        align = "lrrrl" if name == "figures" else "lll"
        rows = [[_wrapped(value) for value in row] for row in table.itertuples(index=False)]
        note = (
            ["Each figure is of its own test part: where the data or the period differ, so may the difficulty."]
            if name == "figures"
            else []
        )
        parts.append(
            Part(TITLES[name], note, [Grid("Every figure" if name == "figures" else "What differs", head, rows, align)])
        )
    return page(
        f"{_called(before)} and {_called(after)}",
        kicker="Differences between two reports",
        lead=headline(tables, before, after),
        parts=parts,
    )


def _called(told: Mapping[str, Any]) -> str:
    about = told["about"]
    version = f" version {about['version']}" if about.get("version") else ""
    return f"{about['model']}{version} ({about['run']})"


def _figures(before: list[dict[str, Any]], after: list[dict[str, Any]]) -> pd.DataFrame:
    old, new = ({row["metric"]: row for row in each if row["candidate"]} for each in (before, after))
    rows = []
    for metric in dict.fromkeys([*old, *new]):
        a, b = old.get(metric), new.get(metric)
        values = [None if row is None else row["value"] for row in (a, b)]
        change = ABSENT
        if None not in values:
            change = "0" if values[0] == values[1] else _signed(metric, values[1] - values[0])
        rows.append(
            {
                "what": plots.METRIC_LABELS.get(metric, metric),
                "before": _shown(metric, values[0]),
                "after": _shown(metric, values[1]),
                "change": change,
                "intervals": _intervals(a, b),
            }
        )
    return pd.DataFrame(rows, columns=["what", "before", "after", "change", "intervals"])


def _shown(metric: str, value: float | None) -> str:
    return ABSENT if value is None else plots.metric_text(metric, value)


def _signed(metric: str, change: float) -> str:
    """Return a change in the metric's unit; of shares in percentage points."""
    text = plots.metric_text(metric, abs(change)).replace(" %", " points")
    return f"{'+' if change > 0 else '−'}{text}"


def _intervals(a: Mapping[str, Any] | None, b: Mapping[str, Any] | None) -> str:
    if a is None or b is None or any(row[name] is None for row in (a, b) for name in ("low", "high")):
        return "none"
    return "overlap" if a["low"] <= b["high"] and b["low"] <= a["high"] else "apart"


def _differing(before: Mapping[str, Any], after: Mapping[str, Any]) -> pd.DataFrame:
    names = [*before, *(name for name in after if name not in before)]
    rows = [(name, _text(before, name), _text(after, name)) for name in names]
    return pd.DataFrame(
        [row for row in rows if row[1] != row[2]], columns=["what", "before", "after"], dtype="object"
    ).reset_index(drop=True)


def _text(told: Mapping[str, Any], name: str) -> str:
    value = told.get(name)
    if value is None or value == "":
        return ABSENT
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def _gate(check: Mapping[str, Any]) -> str:
    return f"{'passed' if check['passed'] else 'failed'}: {check['found']} ({check['required']})"


def _named(check: Mapping[str, Any]) -> str:
    return f"{check['code']} {check['title']}"


def _wrapped(value: str) -> str:
    """Let a digest break in the middle."""
    return (
        value if len(value) < 40 or " " in value else " ".join(value[at : at + 16] for at in range(0, len(value), 16))
    )


def _number(value: float) -> float | None:
    """Return a figure to nine digits, or None where it does not apply."""
    return None if pd.isna(value) else float(f"{value:.9g}")


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        elif isinstance(value, list | tuple):
            yield f"{prefix}{key}", ", ".join(map(str, value))
        else:
            yield f"{prefix}{key}", value if isinstance(value, bool | int | float | str | None) else str(value)
