"""A pytest plugin that writes down what happened, as JSON, for the run of a mutant: `-p mutants.witness`.

$MUTANT_WITNESS names the file. It also makes Hypothesis draw the same examples in every run, and not spend time on
finding the smallest one that fails.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import Phase, settings

settings.register_profile(
    "mutants", deadline=None, derandomize=True, database=None, max_examples=25, phases=(Phase.explicit, Phase.generate)
)

_found: dict[str, Any] = {"package": "", "errors": [], "passed": [], "failed": []}


def leaves(error: BaseException) -> Iterator[BaseException]:
    """The error itself, or all that it groups."""
    if isinstance(error, BaseExceptionGroup):
        for part in error.exceptions:
            yield from leaves(part)
    else:
        yield error


@pytest.hookimpl
def pytest_collectreport(report: pytest.CollectReport) -> None:
    if report.failed:
        _found["errors"].append(f"{report.nodeid}: {report.longreprtext.strip().splitlines()[-1]}")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    report = yield
    if report.passed and report.when == "call":
        _found["passed"].append(item.nodeid)
    elif report.failed and call.excinfo is not None:
        errors = list(leaves(call.excinfo.value))
        # A failed check, and nothing that merely came in between.
        checks = [e for e in errors if isinstance(e, (AssertionError, pytest.fail.Exception))]
        shown = (checks or errors)[0]
        lines = [line.strip() for line in str(shown).splitlines() if line.strip()] or [""]
        entry = {
            "id": item.nodeid,
            "is_check": bool(checks) and report.when == "call",
            "error": f"{type(shown).__name__}: {lines[0]}",
        }
        _found["failed"].append(entry)
    return report


@pytest.hookimpl
def pytest_sessionfinish() -> None:
    package = sys.modules.get("pmlp_np")
    _found["package"] = str(Path(package.__file__ or "").parent) if package is not None else ""
    Path(os.environ["MUTANT_WITNESS"]).write_text(json.dumps(_found), encoding="utf-8")
