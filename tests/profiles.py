"""How much the tests test. HYPOTHESIS_PROFILE names one of three profiles:

- ci, the default of pytest by itself: Hypothesis draws 25 examples, and every test runs;
- quick, the default of `make test`: Hypothesis draws 10 examples, and of a slow family, which is a parametrized test
  under `@pytest.mark.one_in(n)`, one case in n runs, drawn anew in each run;
- thorough: Hypothesis draws 500 examples, and every test runs.

The terminal says what was left out, and PMLP_TEST_SEED, which has the same cases drawn again. Tests that are named by
their ids on the command line run under every profile.
"""

from __future__ import annotations

import os
import random
import secrets
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import settings

PROFILE = os.environ.get("HYPOTHESIS_PROFILE", "ci")
# Set before pytest-xdist starts its workers, which inherit it: all must draw the same cases.
SEED = int(os.environ.setdefault("PMLP_TEST_SEED", str(secrets.randbelow(10**6))))

settings.register_profile("ci", derandomize=False, deadline=None, max_examples=25, print_blob=True)
settings.register_profile("quick", settings.get_profile("ci"), max_examples=10)
settings.register_profile("thorough", settings.get_profile("ci"), max_examples=500)
settings.load_profile(PROFILE)

_LEFT_OUT = pytest.StashKey[tuple[int, int]]()


def drawn(cases: Sequence[Any], one_in: int, seed: str) -> list[Any]:
    """One of each `one_in` consecutive cases, so that what is drawn is spread over all parameters."""
    rng = random.Random(seed)
    return [rng.choice(cases[start : start + one_in]) for start in range(0, len(cases), one_in)]


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "one_in(n): of this slow family's cases the profile quick runs one in n")
    config.stash[_LEFT_OUT] = (0, 0)


# After pytest has dropped what -k and -m don't choose.
@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if PROFILE != "quick" or any("::" in argument for argument in config.args):
        return
    families = defaultdict(list)
    for item in items:
        if item.get_closest_marker("one_in") is not None:
            families[item.nodeid.partition("[")[0]].append(item)
    kept: set[pytest.Item] = set()
    for name, cases in families.items():
        marker = cases[0].get_closest_marker("one_in")
        assert marker is not None
        kept.update(drawn(cases, *marker.args, f"{SEED} {name}"))
    left_out = [item for cases in families.values() for item in cases if item not in kept]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        dropped = set(left_out)
        items[:] = [item for item in items if item not in dropped]
    config.stash[_LEFT_OUT] = (len(left_out), len(families))


def pytest_report_header() -> str:
    return f"profile: {PROFILE}" + (f", PMLP_TEST_SEED={SEED}" if PROFILE == "quick" else "")


def pytest_sessionfinish(session: pytest.Session) -> None:
    # A worker of pytest-xdist hands over to the process that reports.
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["left_out"] = session.config.stash[_LEFT_OUT]


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: object) -> None:
    """A worker has ended: all workers left out the same."""
    config, output = node.config, getattr(node, "workeroutput", {})  # type: ignore[attr-defined]
    config.stash[_LEFT_OUT] = tuple(output.get("left_out", config.stash[_LEFT_OUT]))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    cases, families = config.stash[_LEFT_OUT]
    if cases:
        terminalreporter.write_line(
            f"profile quick left out {cases} cases of {families} slow families, drawn by PMLP_TEST_SEED={SEED}; "
            "make test PROFILE=ci runs all, as CI does"
        )
