"""What checkpoints promise, measured: kills at random moments, and what a checkpoint costs.

    python -m benchmarks.reliability            # writes benchmarks/results/reliability.json and docs/reliability.md
    python -m benchmarks.reliability --kills 10 --sizes 5 --output few.json
    python -m benchmarks.reliability --render   # the page from the JSON, without measuring

Ten minutes. Kills do not depend on the machine's speed; seconds of checkpoints depend on the disk.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

import pmlp_np as pm
from benchmarks.common import RESULTS, ROOT, machine
from benchmarks.reliability.kills import kill_randomly, undisturbed
from benchmarks.rendering import between_markers
from pmlp_np.pool.checkpoints import Checkpoints

JSON, PAGE = RESULTS / "reliability.json", ROOT / "docs" / "reliability.md"
KILLS, SIZES = 200, (10, 100, 500)
_WIDTH, _FEATURES, _WRITES = 500, 100, 7


def cost(megabytes: int, folder: Path) -> dict[str, float]:
    """Return the size of a checkpoint of a pool of Adam members, and the seconds for which training waits for it."""
    # Parameters and two slots, float32.
    n = max(1, round(megabytes * 1e6 / (12 * _WIDTH * (_FEATURES + 2))))
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(200, _FEATURES)), rng.normal(size=200)
    pool = pm.Pool([pm.Member(_WIDTH)] * n, _FEATURES)
    seconds: list[float] = []
    write = Checkpoints.write

    def timed(self: Checkpoints, state: Any, last: bool = False) -> None:
        began = time.perf_counter()
        write(self, state, last)
        seconds.append(time.perf_counter() - began)

    Checkpoints.write = timed  # type: ignore[method-assign]
    try:
        pool.fit(X, y, epochs=_WRITES - 2, checkpoint=folder, checkpoint_every=1e-6, progress=False)
    finally:
        Checkpoints.write = write  # type: ignore[method-assign]
    size = (folder / "checkpoint.pmlp").stat().st_size
    return {"megabytes": size / 1e6, "seconds": float(np.median(seconds)), "longest": max(seconds)}


def measure(kills: int, sizes: list[int]) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        costs = [cost(size, folder / f"{size}") for size in sizes]
        expected, seconds = undisturbed(folder)
        found = kill_randomly(kills, folder, expected, seconds, np.random.default_rng())
    return {"machine": machine(), "kills": asdict(found), "costs": costs}


def section(whole: dict[str, Any]) -> str:
    kills = whole["kills"]
    lines = [
        f"Killed at {kills['kills']} random moments ({kills['without_checkpoint']} of them before there was a "
        f"checkpoint, after which the run begins again), {kills['equal']} of "
        f"{kills['equal'] + kills['different']} runs ended with the bits of a run that nothing has disturbed."
    ]
    lines += ["", "| checkpoint | training waits | share of a minute |", "| ---: | ---: | ---: |"]
    for each in whole["costs"]:
        lines.append(
            f"| {each['megabytes']:.0f} MB | {each['seconds']:.2f} s (at most {each['longest']:.2f} s) | "
            f"{each['seconds'] / 60:.1%} |"
        )
    where = whole["machine"]
    command = "`python -m benchmarks.reliability`, [reliability.json](../benchmarks/results/reliability.json)"
    lines += ["", f"Measured on {where['date'][:10]}: {where['processor']}, {where['cores']} cores; {command}."]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=KILLS)
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SIZES), help="megabytes")
    parser.add_argument("--output", type=Path, default=JSON)
    parser.add_argument("--render", action="store_true")
    options = parser.parse_args()
    if not options.render:
        options.output.write_text(json.dumps(measure(options.kills, options.sizes), indent=1) + "\n")
    if options.output == JSON:
        text = PAGE.read_text(encoding="utf-8")
        PAGE.write_text(between_markers(text, "reliability", section(json.loads(JSON.read_text()))), encoding="utf-8")


if __name__ == "__main__":
    main()
