"""Kill or end a run at random moments: is its result, after all, that of a run that nothing has disturbed?"""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.common import ROOT

_COMMAND = (sys.executable, "-m", "benchmarks.reliability.killed_run")
# Kills come up to this share of an undisturbed run's seconds after the process is ready. It imports before that.
_LATEST = 0.6
# Seconds between checkpoints: as often as they can be.
_EVERY = "0.01"


def run(folder: Path, seconds: float | None = None, number: int = signal.SIGKILL) -> int:
    """Run the process in a folder, and send it a signal so many seconds after it is ready (None: never).

    Returns its status. It begins, or goes on where it stands; the folder's result.pmlp is its result.
    """
    return timed_run(folder, seconds, number)[0]


def timed_run(folder: Path, seconds: float | None, number: int) -> tuple[int, float | None]:
    """Do as `run`. Returns the status, and the seconds from the signal to the end of the process, if it was sent."""
    command = [*_COMMAND, str(folder / "run"), str(folder / "result.pmlp"), _EVERY]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=ROOT) as process:
        assert process.stdout is not None
        process.stdout.readline()
        sent = None
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.send_signal(number)
            sent = time.monotonic()
        status = process.wait()
        return status, None if sent is None else time.monotonic() - sent


def undisturbed(folder: Path) -> tuple[bytes, float]:
    """Return the result of a run that nothing disturbs, and its seconds."""
    # The first one may compile.
    for _ in range(2):
        shutil.rmtree(folder / "run", ignore_errors=True)
        began = time.monotonic()
        if run(folder) != 0:
            raise RuntimeError("the run failed")
    return (folder / "result.pmlp").read_bytes(), time.monotonic() - began


@dataclass
class Kills:
    """What became of kills: how many, of runs that had no checkpoint yet, and results that were and were not equal."""

    kills: int = 0
    without_checkpoint: int = 0
    equal: int = 0
    different: int = 0


def kill_randomly(n: int, folder: Path, expected: bytes, seconds: float, draw: np.random.Generator) -> Kills:
    """Kill runs n times, at random moments, and let each run end. expected, seconds: of an undisturbed run."""
    found, result = Kills(), folder / "result.pmlp"
    while found.kills < n:
        shutil.rmtree(folder / "run", ignore_errors=True)
        result.unlink(missing_ok=True)
        while not result.exists():
            moment = float(draw.uniform(0.0, _LATEST)) * seconds if found.kills < n else None
            if run(folder, moment) == -signal.SIGKILL:
                found.kills += 1
                found.without_checkpoint += not (folder / "run" / "checkpoint.pmlp").exists()
        same = result.read_bytes() == expected
        found.equal += same
        found.different += not same
    return found


@dataclass
class Signals:
    """What became of signals: seconds from each to the end of its process, and results equal and not."""

    seconds: list[float]
    equal: int = 0
    different: int = 0


def end_randomly(
    number: int, n: int, folder: Path, expected: bytes, seconds: float, draw: np.random.Generator
) -> Signals:
    """Send runs a signal n times, at random moments, and let each run end. Other arguments: as of `kill_randomly`."""
    found, result = Signals([]), folder / "result.pmlp"
    while len(found.seconds) < n:
        shutil.rmtree(folder / "run", ignore_errors=True)
        result.unlink(missing_ok=True)
        while not result.exists():
            moment = float(draw.uniform(0.0, _LATEST)) * seconds if len(found.seconds) < n else None
            _, waited = timed_run(folder, moment, number)
            if waited is not None:
                found.seconds.append(round(waited, 3))
        same = result.read_bytes() == expected
        found.equal += same
        found.different += not same
    return found
