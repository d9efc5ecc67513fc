"""Files that are changed at random are refused by name, or work: ten thousand of them with all cases."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.reliability.fuzz import ARCHIVES, KINDS, in_bounds
from profiles import PROFILE

ALL = 10_000
INPUTS = ALL // len(KINDS) // (10 if PROFILE == "quick" else 1) + 1


@pytest.mark.parametrize("kind", KINDS)
def test_changed_files_are_refused_or_work(kind: str) -> None:
    found = in_bounds(INPUTS, int(np.random.default_rng().integers(2**31)), [kind])
    assert found["faults"] == []
    counts = found["by_kind"][kind]
    assert counts["refused"] + counts["accepted"] == INPUTS
    # Of a table most changes make another table.
    assert counts["refused"] > (0.1 if "table" in kind and kind not in ARCHIVES else 0.7) * INPUTS
