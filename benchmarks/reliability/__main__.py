"""What is promised, measured: kills and signals at random moments, members beside others that go wrong, what a
checkpoint costs, fuzzed files.

    python -m benchmarks.reliability                  # adds to results/reliability.json, draws docs/reliability.md
    python -m benchmarks.reliability --parts fuzz --inputs 100000
    python -m benchmarks.reliability --parts kills costs --kills 10 --sizes 5 --output few.json
    python -m benchmarks.reliability --render         # the page from the JSON, without measuring

Twenty minutes. Costs depend on the disk, the others on no machine's speed. Fuzzed inputs and pools that are tried for
isolation add up: each run has others.
"""

from __future__ import annotations

import argparse
import json
import signal
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

import pmlp_np as pm
from benchmarks.common import RESULTS, ROOT, machine
from benchmarks.reliability import fuzz, larger_than_memory, settings, soak
from benchmarks.reliability.isolation import under_fire
from benchmarks.reliability.kills import end_randomly, kill_randomly, undisturbed
from benchmarks.rendering import between_markers
from pmlp_np.pool.checkpoints import Checkpoints

JSON, PAGE = RESULTS / "reliability.json", ROOT / "docs" / "reliability.md"
PARTS = ("kills", "signals", "isolation", "settings", "costs", "fuzz")
KILLS, SIGNALS, POOLS, SIZES, INPUTS = 200, 25, 2000, (10, 100, 500), 20_000
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


def measure(parts: Sequence[str], options: argparse.Namespace, whole: dict[str, Any]) -> dict[str, Any]:
    """Return the results with these parts measured anew; of fuzzed inputs, more."""
    found: dict[str, Any] = dict(whole)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if "costs" in parts:
            found["costs"] = [cost(size, folder / f"{size}") for size in options.sizes]
            found["machine"] = machine()
        if "kills" in parts:
            expected, seconds = undisturbed(folder)
            kills = kill_randomly(options.kills, folder, expected, seconds, np.random.default_rng())
            found["kills"] = asdict(kills)
        if "signals" in parts:
            expected, seconds = undisturbed(folder)
            ended = {
                name: end_randomly(number, options.signals, folder, expected, seconds, np.random.default_rng())
                for name, number in (("SIGINT", signal.SIGINT), ("SIGTERM", signal.SIGTERM))
            }
            found["signals"] = {name: asdict(each) for name, each in ended.items()}
    if "isolation" in parts:
        seed = int(np.random.default_rng().integers(2**31))
        found["isolation"] = [*found.get("isolation", []), under_fire(options.pools, seed)]
    if "settings" in parts:
        found["settings"] = settings.compare()
    if "fuzz" in parts:
        seed = int(np.random.default_rng().integers(2**31))
        found["fuzz"] = [*found.get("fuzz", []), {"seed": seed} | fuzz.in_bounds(options.inputs, seed)]
    return found


def section(whole: dict[str, Any]) -> str:
    lines: list[str] = []
    if "kills" in whole:
        kills = whole["kills"]
        runs = kills["equal"] + kills["different"]
        early = f"{kills['without_checkpoint']} of them before there was a checkpoint, after which a run begins again"
        lines.append(
            f"- **Kills.** Killed at {kills['kills']} random moments ({early}), {kills['equal']} of {runs} runs ended "
            "with the bits of a run that nothing has disturbed."
        )
    for name, each in whole.get("signals", {}).items():
        seconds, runs = np.array(each["seconds"]), each["equal"] + each["different"]
        lines.append(
            f"- **{name}.** Sent at {len(seconds)} random moments: the process ended after {np.median(seconds):.2f} s "
            f"in the median and {seconds.max():.2f} s at most, its last checkpoint and Python's own end included; "
            f"{each['equal']} of {runs} runs that went on ended with the bits of an undisturbed one."
        )
    if "isolation" in whole:
        pools, members, wild, diverged, changed = (
            sum(each[name] for each in whole["isolation"])
            for name in ("pools", "members", "wild", "diverged", "changed")
        )
        lines.append(
            f"- **Isolation under fire.** {pools:,} random pools, whose {members:,} members trained alone and among "
            f"{wild:,} others with learning rates of 10³ to 10³⁰ ({diverged:,} members diverged), on constant columns, "
            f"equal targets and sets of one row among others: {changed:,} members changed in any bit."
        )
    if "settings" in whole:
        wrong = {name: fault for name, fault in whole["settings"].items() if fault}
        lines.append(
            f"- **Threads and processes.** {len(whole['settings'])} settings ({', '.join(whole['settings'])}): "
            + ("all train to the same bits." if not wrong else f"{len(wrong)} do not: {wrong}.")
        )
    if "fuzz" in whole:
        inputs = sum(each["inputs"] for each in whole["fuzz"])
        faults = sum(len(each["faults"]) for each in whole["fuzz"])
        kinds = sorted({kind for each in whole["fuzz"] for kind in each["by_kind"]})
        accepted = sum(o["accepted"] for each in whole["fuzz"] for o in each["by_kind"].values())
        refused = inputs - accepted - faults
        lines.append(
            f"- **Fuzzed files.** {inputs:,} files ({', '.join(kinds)}) with changed bytes, or with changed contents "
            f"and right checksums: {refused:,} were refused by an error that names the file, {accepted:,} were as good "
            f"as the original, {faults:,} did anything else (hung, crashed, took 2 GB, another exception)."
        )
    if "soak" in whole:
        lines.append(soak.line(whole["soak"]))
    if "larger than memory" in whole:
        lines.append(larger_than_memory.line(whole["larger than memory"]))
    if "costs" in whole:
        where = whole["machine"]
        lines += [f"- **What a checkpoint costs** ({where['processor']}, {where['cores']} cores, "
                  f"{where['date'][:10]}); the share is that of one a minute:"]  # fmt: skip
        lines += ["", "| checkpoint | training waits | share |", "| ---: | ---: | ---: |"]
        for each in whole["costs"]:
            lines.append(
                f"| {each['megabytes']:.0f} MB | {each['seconds']:.2f} s (at most {each['longest']:.2f} s) | "
                f"{each['seconds'] / 60:.1%} |"
            )
    lines += ["", "By `python -m benchmarks.reliability`: [reliability.json](../benchmarks/results/reliability.json)."]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=KILLS)
    parser.add_argument("--signals", type=int, default=SIGNALS, help="of each kind")
    parser.add_argument("--pools", type=int, default=POOLS, help="for isolation")
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SIZES), help="megabytes")
    parser.add_argument("--inputs", type=int, default=INPUTS, help="fuzzed files")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--output", type=Path, default=JSON)
    parser.add_argument("--render", action="store_true")
    options = parser.parse_args()
    if not options.render:
        whole = json.loads(options.output.read_text()) if options.output.exists() else {}
        options.output.write_text(json.dumps(measure(options.parts, options, whole), indent=1) + "\n")
    if options.output == JSON:
        text = PAGE.read_text(encoding="utf-8")
        PAGE.write_text(between_markers(text, "reliability", section(json.loads(JSON.read_text()))), encoding="utf-8")


if __name__ == "__main__":
    main()
