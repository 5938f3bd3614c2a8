"""How long the random tests of this folder search: `FRAUDLAB_HYPOTHESIS=long` for an afternoon, short otherwise."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from hypothesis import settings

# The tests of this folder share one oracle; pytest's importlib mode finds no neighbours by itself.
sys.path.insert(0, str(Path(__file__).parent))

settings.register_profile("short", max_examples=50, deadline=None)
settings.register_profile("long", max_examples=3000, deadline=None)
settings.load_profile(os.environ.get("FRAUDLAB_HYPOTHESIS", "short"))
