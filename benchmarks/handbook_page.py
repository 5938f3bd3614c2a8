"""Write the measured tables into docs/handbook.md, between its markers, from the two result files.

python benchmarks/handbook_page.py
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
PAGE = ROOT / "docs" / "handbook.md"
FIGURES = ("auc_roc", "average_precision", "card_precision_100")
WORDS = {
    "auc_roc": "AUC ROC",
    "average_precision": "average precision",
    "card_precision_100": "CP@100",
    "logistic_regression": "logistic regression",
    "balanced_bagging": "balanced bagging",
    "decision_tree": "decision tree",
    "random_forest": "random forest",
    "xgboost": "XGBoost, library defaults",
    "xgboost_100_trees_depth_3": "XGBoost, 100 trees, depth 3",
    "default recipe": "**default recipe**",
}


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table.

    >>> print(table(["a", "b"], [["1", "2"]]))
    | a | b |
    |---|---|
    | 1 | 2 |
    """
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(
        f"|{'|'.join(cells)}|" if cells[0] == "---" else f"| {' | '.join(cells)} |" for cells in map(list, lines)
    )


def figures(row: Mapping[str, Any]) -> str:
    """Write a row's three figures as the book does."""
    return " / ".join(f"{row[figure]['value']:.3f}" for figure in FIGURES)


def change(found: Mapping[str, float]) -> str:
    """Write a paired difference with its interval, in thousandths; a true minus sign."""
    numbers = [1000 * found[key] for key in ("difference", "difference_low", "difference_high")]
    return "{:+.1f} ({:+.1f} to {:+.1f})".format(*numbers).replace("-", "−")


def beside_the_book(results: Mapping[str, Any]) -> str:
    """Tabulate the goals and every model beside its published figures."""
    ours = results["prequential_test"]["default recipe"]
    goals = [
        [
            WORDS[figure],
            f"{ours[figure]['value']:.4f} ({ours[figure]['low']:.3f} to {ours[figure]['high']:.3f})",
            f"{goal:.3f}",
            "yes" if ours[figure]["value"] >= goal else f"no, short by {goal - ours[figure]['value']:.4f}",
            change(ours[figure]),
        ]
        for figure, goal in results["goals"].items()
    ]
    rows = []
    for part, title in (("base_week", "base week"), ("prequential_test", "mean of TEST")):
        for name, row in results[part].items():
            theirs = results["published"][part].get(name)
            said = " / ".join(f"{theirs[figure]:.3f}" for figure in FIGURES) if theirs else "-"
            rows.append([title, WORDS[name], said, figures(row)])
    return "\n\n".join(
        [
            table(
                ["TEST, mean of four weeks", "default recipe", "goal", "reached", "against XGBoost, in 1/1000"], goals
            ),
            table(["weeks", "model", "published", "here"], rows),
        ]
    )


def by_step(results: Mapping[str, Any]) -> str:
    """Tabulate the ablation: figures and paired differences on VALIDATION, where declared on TEST too."""
    rows = []
    for row in results["steps"]:
        found, test = row["validation"], row.get("test")
        moved = [change(found[figure]) if row["against"] else "-" for figure in FIGURES]
        rows.append(
            [row["topic"], row["step"], figures(found), row["against"] or "-", *moved, figures(test) if test else "-"]
        )
    head = ["topic", "step", "VALIDATION", "against", *(f"{WORDS[figure]}, 1/1000" for figure in FIGURES), "TEST"]
    errors = [
        [row["step"], f"{row['error']['before']:.2f}", f"{row['error']['after']:.2f}"]
        for row in results["steps"]
        if "error" in row
    ]
    tested = [
        [row["step"], row["test_against"], *(change(row["test"][figure]) for figure in FIGURES)]
        for row in results["steps"]
        if row.get("test_against")
    ]
    return "\n\n".join(
        [
            table(head, rows),
            table(["TEST, declared models", "against", *(f"{WORDS[figure]}, 1/1000" for figure in FIGURES)], tested),
            table(["calibration", "error before", "error after"], errors),
        ]
    )


def by_kind(results: Mapping[str, Any]) -> str:
    """Tabulate what is found of each kind of fraud, and what a perfect use of what shows would give."""
    rows = []
    for row in results["kinds"]:
        if row["frauds"] is None:
            rows.append([row["kind"], "fewer than 10", "-", "-", "-"])
            continue
        shares = [f"{100 * row[key]:.0f} %" for key in ("found_100", "top_percent")]
        rows.append([row["kind"], f"{row['frauds']:,.0f}", *shares, f"{row['auc_roc']:.3f}"])
    limits = [
        [name, " / ".join(f"{found[figure]:.3f}" for figure in FIGURES)]
        for name, found in results["perfect_use_of_what_shows"].items()
    ]
    return "\n\n".join(
        [
            table(["kind of fraud (TEST)", "frauds", "on an inspected card", "above 99 % of genuine", "AUC ROC"], rows),
            table(["a judge better than any model", "AUC ROC / average precision / CP@100"], limits),
        ]
    )


def filled(page: str, parts: Mapping[str, str]) -> str:
    """Return the page with each part between its markers `<!-- name -->` and `<!-- /name -->`.

    >>> filled("a <!-- x -->old<!-- /x --> b", {"x": "new"})
    'a <!-- x -->\\nnew\\n<!-- /x --> b'
    """
    for name, text in parts.items():
        between = re.compile(rf"(<!-- {name} -->).*?(<!-- /{name} -->)", re.DOTALL)
        page = between.sub(lambda found, text=text: f"{found[1]}\n{text}\n{found[2]}", page)
    return page


def main() -> None:
    """Fill docs/handbook.md."""
    handbook, ablation = (
        json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8")) for name in ("handbook", "ablation")
    )
    parts = {"models": beside_the_book(handbook), "steps": by_step(ablation), "kinds": by_kind(ablation)}
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8"), parts), encoding="utf-8")


if __name__ == "__main__":
    main()
