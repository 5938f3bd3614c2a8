"""Draw the README's pictures again from a finished run of the demo: `python docs/pictures.py runs/demo-...`.

The picture of the report's first page is a browser's screenshot of it, 1,100 by 1,000 points.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pandas as pd

from fraudlab import plots

IMAGES = Path(__file__).parent / "images"


def main(run: Path) -> None:
    """Write docs/images/*.png from a run's evidence."""
    evidence = run / "evidence"
    tables = {name: pd.read_csv(evidence / f"{name}.csv") for name in ("simulation", "calibration")}
    labels = {row["name"]: row["label"] for row in json.loads((evidence / "models.json").read_text())}
    alert = json.loads((evidence / "alerts.json").read_text())[0]
    words = pd.read_csv(evidence / "features.csv").set_index("column")
    pictures = {
        "simulation": plots.simulation(tables["simulation"], labels, budget=5),
        "calibration": plots.calibration(tables["calibration"], labels),
        "waterfall": plots.waterfall(alert, words["label"].to_dict(), words["kind"].to_dict()),
    }
    IMAGES.mkdir(exist_ok=True)
    for name, picture in pictures.items():
        picture.savefig(IMAGES / f"{name}.png", dpi=130)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
