"""Trials: tests run on a copy of the checkout, in which one thing may be broken. The checkout itself is never touched.

Every copy lies in a folder of its own, and compiled code in an empty cache: nothing that was compiled from other
sources can be taken for what the mutant's sources compile to.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .listing import ROOT, Mutant

# What tests look at.
_PARTS = (
    "pmlp_np", "tests", "docs", "examples", "benchmarks", "pyproject.toml", "README.md", "CHANGELOG.md", "CITATION.cff",
    "LICENSE", "Makefile", "mkdocs.yml",
)  # fmt: skip
_LEFT_OUT = shutil.ignore_patterns("__pycache__", ".*", "*.egg-info")
LIMIT_SECONDS = 300.0
# An error's text is shown up to so many letters.
_LONGEST = 120

CAUGHT, HUNG, SURVIVED, WRONG = "caught", "hung", "survived", "failed for another reason"
# What counts as noticed: an endless loop would be.
NOTICED = (CAUGHT, HUNG)


@dataclass(frozen=True)
class Verdict:
    """What became of a mutant. test: the id of the test that failed. error: what it said; of other outcomes, why."""

    outcome: str
    test: str
    error: str
    seconds: float


class _Running:
    """Processes under way, so that an interrupt can end them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._processes: set[subprocess.Popen[bytes]] = set()
        self._over = False

    def start(self, command: list[str], **options: Any) -> subprocess.Popen[bytes]:
        with self._lock:
            if self._over:
                raise KeyboardInterrupt
            process = subprocess.Popen(command, start_new_session=True, **options)
            self._processes.add(process)
        return process

    def end(self, process: subprocess.Popen[bytes]) -> None:
        """With all that it has started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        with self._lock:
            self._processes.discard(process)

    def end_all(self) -> None:
        with self._lock:
            self._over, left = True, list(self._processes)
        for process in left:
            self.end(process)


running = _Running()


@contextlib.contextmanager
def copied(root: Path = ROOT) -> Iterator[Path]:
    """A copy of what tests look at, in a folder that is removed afterward."""
    with tempfile.TemporaryDirectory(prefix="pmlp_np-mutant-") as folder:
        tree = Path(folder) / "checkout"
        tree.mkdir()
        for part in _PARTS:
            if (root / part).is_dir():
                shutil.copytree(root / part, tree / part, ignore=_LEFT_OUT)
            elif (root / part).exists():
                shutil.copy2(root / part, tree / part)
        yield tree


def run_tests(tree: Path, tests: Iterable[str], limit: float, cache: Path | None) -> dict[str, Any] | None:
    """What happened, as `witness` writes it down; None where it took longer than `limit` seconds.

    cache: where compiled code is kept; None for the user's own cache.
    """
    report = tree.parent / "witness.json"
    report.unlink(missing_ok=True)
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTEST_ADDOPTS", "PMLP_TEST_BACKENDS")}
    environment |= {
        "PYTHONPATH": os.pathsep.join([str(tree), str(tree / "tests")]),
        "PYTHONDONTWRITEBYTECODE": "1",
        "HYPOTHESIS_PROFILE": "mutants",
        "MUTANT_WITNESS": str(report),
    }
    if cache is not None:
        environment |= {"PMLP_CACHE_DIR": str(cache), "NUMBA_CACHE_DIR": str(cache)}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "mutants.witness", "-p", "no:cacheprovider", *tests]
    command[4:4] = ["-x"] if cache is not None else []
    with (tree.parent / "output.txt").open("w+b") as output:
        process = running.start(command, cwd=tree, env=environment, stdout=output, stderr=subprocess.STDOUT)
        try:
            process.wait(limit)
        except subprocess.TimeoutExpired:
            return None
        finally:
            running.end(process)
        output.seek(0)
        said = output.read().decode(errors="replace").strip().splitlines()
    if not report.exists():
        why = [f"pytest ended with {process.returncode}", *said[-3:]]
        return {"package": "", "passed": [], "failed": [], "errors": why}
    found: dict[str, Any] = json.loads(report.read_text(encoding="utf-8"))
    if not found["errors"] and found["package"] != str(tree / "pmlp_np"):
        found["errors"].append(f"the package was imported from {found['package']}")
    return found


def not_green(tests: Iterable[str], root: Path = ROOT, limit: float = 4 * LIMIT_SECONDS) -> dict[str, str]:
    """Those of these tests that don't pass where nothing is broken, and why."""
    tests = list(dict.fromkeys(tests))
    with copied(root) as tree:
        found = run_tests(tree, tests, limit, None)
    if found is None:
        return dict.fromkeys(tests, f"they take more than {limit:.0f} seconds")
    if found["errors"]:
        return dict.fromkeys(tests, "; ".join(found["errors"]))
    bad = {}
    for test in tests:
        failed = [entry for entry in found["failed"] if selects(test, entry["id"])]
        if failed:
            bad[test] = failed[0]["error"]
        elif not any(selects(test, passed) for passed in found["passed"]):
            bad[test] = "none ran; is a package missing?"
    return bad


def selects(test: str, node: str) -> bool:
    """Whether the id of a file, a test, or a test with parameters stands for this node."""
    return node == test or node.startswith((test + "::", test + "["))


def judge(mutant: Mutant, root: Path = ROOT, limit: float = LIMIT_SECONDS) -> Verdict:
    """Run the mutant's tests on a copy with the change."""
    with copied(root) as tree:
        (tree / mutant.path(root)).write_text(mutant.broken(root), encoding="utf-8")
        cache = tree.parent / "cache"
        cache.mkdir()
        began = time.monotonic()
        found = run_tests(tree, mutant.tests, limit, cache)
        seconds = round(time.monotonic() - began, 1)
    if found is None:
        return Verdict(HUNG, "", f"not done after {limit:.0f} seconds", seconds)
    if found["errors"]:
        return Verdict(WRONG, "", _short("; ".join(found["errors"])), seconds)
    if not found["failed"]:
        count = len(found["passed"])
        return Verdict(SURVIVED if count else WRONG, "", f"passed: {count} tests" if count else "no test ran", seconds)
    entry = found["failed"][0]
    named = entry["id"].partition("::")[0] in mutant.test_files
    return Verdict(CAUGHT if entry["is_check"] and named else WRONG, entry["id"], _short(entry["error"]), seconds)


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
