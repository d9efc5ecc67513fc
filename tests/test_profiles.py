"""Profiles: of a slow family the profile quick runs some cases, other ones by each seed; the other profiles run all."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from profiles import drawn

FAMILIES = """import pytest


@pytest.mark.one_in(4)
@pytest.mark.parametrize("y", ["left", "right"])
@pytest.mark.parametrize("x", range(10))
def test_slow(x, y):
    pass


@pytest.mark.one_in(3)
def test_single():
    pass


@pytest.mark.parametrize("x", range(5))
def test_fast(x):
    pass
"""
LEFT_OUT = "profile quick left out 15 cases of 2 slow families, drawn by PMLP_TEST_SEED={seed}; make test PROFILE=ci"


@pytest.mark.parametrize(("count", "one_in"), [(0, 3), (1, 3), (3, 3), (10, 3), (12, 4), (5, 1)])
def test_one_of_each_few_consecutive_cases_is_drawn(count: int, one_in: int) -> None:
    cases = list(range(count))
    found = drawn(cases, one_in, "1")
    assert [case // one_in for case in found] == list(range(-(-count // one_in)))
    assert drawn(cases, one_in, "1") == found
    assert {case for seed in range(99) for case in drawn(cases, one_in, str(seed))} == set(cases)


def ran(folder: Path, *arguments: str, profile: str, seed: int = 1) -> tuple[set[str], str]:
    """The tests that pytest runs in a folder with these families, and what it prints."""
    (folder / "test_families.py").write_text(FAMILIES)
    command = [sys.executable, "-m", "pytest", "-rA", "-p", "profiles", "-p", "no:cacheprovider", *arguments]
    variables = {"HYPOTHESIS_PROFILE": profile, "PMLP_TEST_SEED": str(seed), "PYTHONPATH": str(Path(__file__).parent)}
    done = subprocess.run(command, cwd=folder, env=os.environ | variables, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return set(re.findall(r"^PASSED (\S+)$", done.stdout, re.MULTILINE)), done.stdout


def test_the_quick_profile_runs_some_cases_of_slow_families(tmp_path: Path) -> None:
    found, said = ran(tmp_path, profile="quick")
    assert len(found) == 5 + 1 + 5 and LEFT_OUT.format(seed=1) in said
    assert "profile: quick, PMLP_TEST_SEED=1" in said
    assert ran(tmp_path, profile="quick")[0] == found
    assert ran(tmp_path, profile="quick", seed=2)[0] != found


@pytest.mark.parametrize("profile", ["ci", "thorough"])
def test_other_profiles_run_all(tmp_path: Path, profile: str) -> None:
    found, said = ran(tmp_path, profile=profile)
    assert len(found) == 20 + 1 + 5 and "left out" not in said and f"profile: {profile}\n" in said


def test_tests_that_are_named_run(tmp_path: Path) -> None:
    found, said = ran(tmp_path, "test_families.py::test_slow", profile="quick")
    assert len(found) == 20 and "left out" not in said
    # What -k leaves is drawn from.
    found, said = ran(tmp_path, "-k", "test_slow and left", profile="quick")
    assert len(found) == 3 and "left out 7 cases of 1 slow families" in said


def test_workers_draw_the_same_cases(tmp_path: Path) -> None:
    """And what they left out is said once."""
    found, said = ran(tmp_path, "--numprocesses", "2", profile="quick")
    assert len(found) == 11 and said.count(LEFT_OUT.format(seed=1)) == 1
