"""Mutants: the list fits the code, its results are all good, some of them are run for real, and the runner tells
mutants that are noticed from those that are not."""

from __future__ import annotations

import ast
import datetime
import os
import time
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from mutants import page
from mutants.listing import ROOT, SAMPLE_SECONDS, Mutant, is_known, load, load_results, sample, save_results, sources
from mutants.trial import CAUGHT, HUNG, NOTICED, SURVIVED, WRONG, judge, not_green

MUTANTS, RESULTS = load(), load_results()


# The list and its results.


def test_the_list_is_long_and_every_name_is_its_own() -> None:
    assert len(MUTANTS) >= 30
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)
    assert {"pmlp_np/backends/reference/backend.py", "pmlp_np/backends/numba/driver.py"} <= {m.path() for m in MUTANTS}


@cache
def functions_of(file: str) -> set[str]:
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutant_finds_its_text_and_its_tests(mutant: Mutant) -> None:
    """The old text occurs exactly once; what comes out is Python; the tests it names exist."""
    path, broken = mutant.path(), mutant.broken()
    assert broken != (ROOT / path).read_text(encoding="utf-8")
    compile(broken, path, "exec")
    assert mutant.tests
    for test in mutant.tests:
        file, _, function = test.partition("::")
        assert not function or function.partition("[")[0] in functions_of(file)


def test_all_are_noticed() -> None:
    """Run `make mutants MUTANTS_ARGS=--missing` after a change of the list."""
    missing = [mutant.name for mutant in MUTANTS if not is_known(mutant, RESULTS)]
    assert missing == []
    assert [name for name, result in RESULTS.items() if result["outcome"] not in NOTICED] == []
    assert list(RESULTS) == [mutant.name for mutant in MUTANTS]
    for mutant in MUTANTS:
        result = RESULTS[mutant.name]
        assert result["outcome"] == HUNG or result["test"].startswith(tuple(mutant.tests))


def test_the_page_is_that_of_the_results() -> None:
    assert page.PAGE.read_text(encoding="utf-8") == page.page(MUTANTS, RESULTS), "python -m tests.mutants.page"


def test_samples_are_short_and_take_turns() -> None:
    seen = set()
    for turn in range(len(MUTANTS)):
        chosen = sample(MUTANTS, RESULTS, turn)
        assert len(chosen) > 1 and any("backends/numba" in mutant.path() for mutant in chosen)
        assert len({mutant.name for mutant in chosen}) == len(chosen)
        assert sum(RESULTS[mutant.name]["seconds"] for mutant in chosen) <= SAMPLE_SECONDS
        seen |= {mutant.name for mutant in chosen}
    quick = {mutant.name for mutant in MUTANTS if RESULTS[mutant.name]["seconds"] <= SAMPLE_SECONDS / 2}
    assert seen <= quick and len(seen) > len(MUTANTS) / 2


def test_a_sample_is_noticed(capsys: pytest.CaptureFixture[str]) -> None:
    """Other mutants each day; PMLP_MUTANTS_TURN, a day's number, has those of that day again."""
    turn = int(os.environ.get("PMLP_MUTANTS_TURN", datetime.date.today().toordinal()))
    chosen = sample(MUTANTS, RESULTS, turn)
    with capsys.disabled():
        print(f"\nmutants of PMLP_MUTANTS_TURN={turn}: {', '.join(mutant.name for mutant in chosen)}")
    assert not_green(test for mutant in chosen for test in mutant.tests) == {}
    verdicts = {mutant.name: judge(mutant) for mutant in chosen}
    assert {name: verdict for name, verdict in verdicts.items() if verdict.outcome != CAUGHT} == {}


# The runner, on a small package.

CODE = '''"""Twice."""
import sys


def twice(x):
    return x + x
'''
TESTS = """import pmlp_np
import pytest


def test_twice():
    assert pmlp_np.twice(2) == 4


@pytest.fixture
def four():
    assert pmlp_np.twice(2) == 4
    return 4


def test_by_fixture(four):
    assert four == 4


@pytest.mark.parametrize("x", [0, 3])
def test_many(x):
    assert pmlp_np.twice(x) == 2 * x
"""


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A checkout with a package of one function."""
    for folder in ("pmlp_np", "tests"):
        (tmp_path / folder).mkdir()
    (tmp_path / "pmlp_np" / "__init__.py").write_text(CODE)
    (tmp_path / "tests" / "test_twice.py").write_text(TESTS)
    (tmp_path / "tests" / "test_other.py").write_text(TESTS)
    mutants = tmp_path / "tests" / "mutants"
    mutants.mkdir()
    for name in ("__init__.py", "witness.py"):
        (mutants / name).write_text((ROOT / "tests" / "mutants" / name).read_text(encoding="utf-8"), encoding="utf-8")
    return tmp_path


def mutant_of(old: str, new: str, *tests: str) -> Mutant:
    tests = tests or ("tests/test_twice.py::test_twice",)
    return Mutant("room", "name", "It is broken.", old, new, tests)


def before_and_after(root: Path) -> dict[str, str]:
    return {str(path): path.read_text() for path in root.rglob("*") if path.is_file()}


@pytest.mark.one_in(3)
@pytest.mark.parametrize(
    ("changes", "outcome", "text"),
    [
        (("x + x", "x + x + x"), CAUGHT, "assert 6 == 4"),
        (('"Twice."', '"Thrice."'), SURVIVED, "passed: 1 tests"),
        (("x + x", "x * x"), SURVIVED, "passed: 1 tests"),
        (("x + x", "x +"), WRONG, "SyntaxError: invalid syntax"),
        (("import sys", "import no_such_module"), WRONG, "No module named 'no_such_module'"),
        (("x + x", "x + y"), WRONG, "NameError: name 'y' is not defined"),
        (("def twice", "def thrice"), WRONG, "AttributeError: module 'pmlp_np' has no attribute 'twice'"),
        (("x + x", "sys.exit(3)"), WRONG, "SystemExit: 3"),
        (("x + x", "__import__('os')._exit(3)"), WRONG, "pytest ended with 3"),
        (("x + x", "x + x + x", "tests/test_twice.py::test_by_fixture"), WRONG, "assert 6 == 4"),
        (("x + x", "x * x", "tests/test_twice.py::test_twice", "tests/test_other.py::test_many[3]"), CAUGHT, "9 == "),
        (("x + x", "x + x + x", "tests/test_twice.py::test_none"), WRONG, "no test ran"),
    ],
)  # fmt: skip
def test_verdicts(small: Path, changes: tuple[str, ...], outcome: str, text: str) -> None:
    """Noticed is what a check of a test notices, and nothing else."""
    before = before_and_after(small)
    verdict = judge(mutant_of(*changes), small)
    assert (verdict.outcome, text in verdict.error) == (outcome, True), verdict
    assert before_and_after(small) == before, "the checkout was touched"


def test_a_failure_in_another_file_does_not_count(small: Path) -> None:
    (small / "tests" / "test_twice.py").write_text("from test_other import test_twice as test_it\n")
    mutant = mutant_of("x + x", "x + x + x", "tests/test_other.py")
    assert judge(mutant, small).outcome == CAUGHT
    assert judge(mutant_of("x + x", "x + x + x", "tests/test_twice.py"), small).outcome == CAUGHT


def test_endless_loops_are_ended(small: Path) -> None:
    began = time.monotonic()
    verdict = judge(mutant_of("return x + x", "while True: pass"), small, limit=3.0)
    assert verdict.outcome == HUNG and time.monotonic() - began < 20


@pytest.mark.parametrize("count", [0, 2])
def test_texts_that_do_not_occur_once_are_refused(small: Path, count: int) -> None:
    (small / "pmlp_np" / "__init__.py").write_text(CODE + "# here\n" * count)
    with pytest.raises(ValueError, match=f"^name: its old text occurs {count} times in the package, expected once$"):
        judge(mutant_of("# here", "# there"), small)


def test_a_text_is_found_in_whatever_file_it_stands(small: Path) -> None:
    """A file's name is asked for only where several hold the text."""
    (small / "pmlp_np" / "parts").mkdir()
    (small / "pmlp_np" / "parts" / "one.py").write_text("# here\n")
    mutant = mutant_of("# here", "# there")
    assert mutant.path(small) == "pmlp_np/parts/one.py" and mutant.broken(small) == "# there\n"
    sources.cache_clear()
    (small / "pmlp_np" / "parts" / "two.py").write_text("# here\n")
    with pytest.raises(ValueError, match=r"occurs 2 times in the package, expected once \(pmlp_np/parts/one.py, pm"):
        mutant.path(small)
    assert replace(mutant, file="pmlp_np/parts/two.py").path(small) == "pmlp_np/parts/two.py"
    with pytest.raises(ValueError, match="occurs 0 times in pmlp_np/parts/none.py, expected once$"):
        replace(mutant, file="pmlp_np/parts/none.py").path(small)


def test_no_file_is_named_without_need() -> None:
    needless = [m.name for m in MUTANTS if m.file and sum(text.count(m.old) for text in sources(ROOT).values()) == 1]
    assert needless == []


def test_tests_that_are_not_green_are_named(small: Path) -> None:
    tests = ["tests/test_twice.py::test_twice", "tests/test_other.py", "tests/test_twice.py::test_many[3]"]
    assert not_green(tests, small) == {}
    (small / "tests" / "test_other.py").write_text(TESTS.replace("2 * x", "2 * x + 1"))
    assert not_green(tests, small) == {"tests/test_other.py": "AssertionError: assert 0 == ((2 * 0) + 1)"}
    assert "took" not in not_green(["tests/test_none.py"], small)["tests/test_none.py"]
    (small / "tests" / "test_other.py").write_text("import pytest\npytest.skip('not here', allow_module_level=True)\n")
    assert not_green(tests, small) == {"tests/test_other.py": "none ran; is a package missing?"}


def test_results_are_kept_in_the_lists_order_and_of_one_text(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    first, second = MUTANTS[:2]
    results: dict[str, dict[str, Any]] = {"gone": {}, second.name: {"digest": second.digest}}
    results[first.name] = {"digest": ""}
    save_results(results, MUTANTS, path)
    found = load_results(path)
    assert list(found) == [first.name, second.name]
    assert [is_known(mutant, found) for mutant in MUTANTS[:3]] == [False, True, False]
    assert load_results(tmp_path / "none.json") == {}
