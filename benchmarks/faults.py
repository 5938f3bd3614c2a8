"""A retraining broken anywhere: faults at single operations, and real processes killed at chance moments.

    python benchmarks/faults.py --wanted 400                      # tiny data: every boundary and 400 operations
    python benchmarks/faults.py --wanted 0                        # each of some 5,000 operations; hours
    python benchmarks/faults.py --kills 20 --home DIR             # kill -9 at chance moments, in a copy of a demo

Writes benchmarks/results/faults.json; each of the two parts replaces its own half of that file.
"""

from __future__ import annotations

import argparse
import importlib
import json
import shutil
import sys
import tempfile
import time
from pathlib import Path

import figures

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "faults.json"


def main() -> int:
    """Run what is asked for, and keep what was found; exit 1 where anything is broken."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--wanted", type=int, help="operations to break beside every boundary; 0: each")
    parser.add_argument("--kills", type=int, default=0, help="retrainings to kill at a chance moment")
    parser.add_argument("--home", type=Path, help="a finished demo workspace to kill retrainings in a copy of")
    parser.add_argument(
        "--seconds", type=float, help="how long a retraining takes undisturbed; default: it is measured"
    )
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--out", type=Path, default=RESULTS)
    asked = parser.parse_args()
    sys.path.insert(0, str(ROOT / "tests" / "faults"))
    killing, retraining = importlib.import_module("killing"), importlib.import_module("retraining")
    found = json.loads(asked.out.read_text()) if asked.out.is_file() else {}

    def say(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    with tempfile.TemporaryDirectory(prefix="faults-") as work:
        if asked.wanted is not None:
            found["injected"] = retraining.run(Path(work), asked.wanted or None, say)
        if asked.kills:
            home = Path(work) / "home"
            names = ("data", "mlruns", "reports", "runs", ".keys")
            for name in names if asked.home else ():
                shutil.copytree(asked.home / name, home / name)
            began = time.monotonic()
            if asked.seconds is None or not asked.home:
                code, said = killing.ended(killing.command(home, *killing.retraining({"model.n_estimators": 299})))
                if code:
                    raise SystemExit(f"undisturbed, it failed: {said}")
            seconds = asked.seconds or time.monotonic() - began
            client = killing.tracking.open_store(killing.Workspace(home))
            if killing.tracking.champion(client, "demo") is None:
                killing.tracking.promote(client, "demo", "1", reason="for this benchmark")
            kills = killing.kill_at_random(home, {}, asked.kills, seconds, seed=asked.seed, say=say)
            found["killed"] = {"undisturbed_seconds": round(seconds), "kills": kills}
    broken = len(found.get("injected", {}).get("broken", []))
    broken += sum(bool(each["broken"]) for each in found.get("killed", {}).get("kills", []))
    found |= figures.setting() | {"broken": broken}
    figures.write(found, asked.out)
    say(f"{broken} broken; written to {asked.out.name}")
    return int(broken > 0)


if __name__ == "__main__":
    sys.exit(main())
