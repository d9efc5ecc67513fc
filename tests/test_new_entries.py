"""docs/contributing.md: its activation, loss, optimizer, schedule and metric, added as it says to a copy of the
library, are found by everything that goes by the tables."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from conftest import BACKENDS, requires
from mutants.listing import ROOT
from mutants.trial import copied
from page_blocks import python_blocks
from profiles import PROFILE

PAGE = ROOT / "docs" / "contributing.md"
SECTION = "## Add an activation, a loss, an optimizer, a schedule or a metric"
# Where the section's blocks go, one after the other.
FILES = (
    "pmlp_np/formulas/activations.py", "tests/oracle/activation_functions.py",
    "pmlp_np/formulas/losses.py", "tests/oracle/loss_functions.py",
    "pmlp_np/formulas/optimizers.py", "tests/oracle/optimizer_steps.py", "tests/formula_samples.py",
    "pmlp_np/formulas/schedules.py", "tests/oracle/learning_rates.py",
    "pmlp_np/training/metrics.py", "tests/sklearn_metrics.py",
)  # fmt: skip
PUBLIC = """
from pmlp_np.formulas.losses import LogCosh
from pmlp_np.formulas.optimizers import Adagrad

__all__ = sorted([*__all__, "LogCosh", "Adagrad"])
"""
LINE = "| `max_error` | smaller | values | max of abs(p − y) | mean over outputs |\n"
# Tests over the tables: those of what has been added, by its names, and those of whole tables.
ADDED = "softshrink or soft_shrink or log_cosh or adagrad or square_root or max_error"
OF_TABLES = (
    "test_values or scikit_learns_names or describes_every_metric or style_that_stands_apart or "
    "page_of_knobs or (chosen_pools and float64 and every and (optimizer or activation or schedule))"
)
ON_ARRAYS = (
    "test_formulas.py", "test_schedules.py", "test_metrics.py", "test_export.py", "test_plots.py", "test_packaging.py",
    "test_docs.py", "test_faithful.py",
)  # fmt: skip
COMPILED = ("test_passes.py",)

needs_numba = pytest.mark.skipif("numba" not in BACKENDS, reason="PMLP_TEST_BACKENDS leaves out numba")


def definition(code: str) -> str:
    """A block without what it tries out."""
    return code.partition("# Try it.")[0]


def section() -> list[str]:
    page = PAGE.read_text(encoding="utf-8")
    return [block.code for block in python_blocks(page.partition(SECTION)[2].partition("\n## ")[0], "contributing")]


@pytest.fixture(scope="module")
def tree() -> Iterator[Path]:
    """A copy of the checkout with the page's additions."""
    with copied() as tree:
        for file, code in zip(FILES, section(), strict=True):
            with (tree / file).open("a", encoding="utf-8") as text:
                text.write("\n\n" + definition(code))
        with (tree / "pmlp_np" / "__init__.py").open("a", encoding="utf-8") as text:
            text.write(PUBLIC)
        page = tree / "docs" / "monitoring.md"
        lines = page.read_text(encoding="utf-8").splitlines(keepends=True)
        last = max(i for i, line in enumerate(lines) if line.startswith("| `log_loss`"))
        page.write_text("".join([*lines[: last + 1], LINE, *lines[last + 1 :]]), encoding="utf-8")
        run(tree, "docs/draw_knobs.py")
        yield tree


def run(tree: Path, *arguments: str, **variables: str) -> str:
    """Run Python on the copy, which compiles into a cache of its own."""
    environment = os.environ | variables | {
        "PYTHONPATH": os.pathsep.join([str(tree), str(tree / "tests")]),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PMLP_CACHE_DIR": str(tree.parent / "cache"),
    }  # fmt: skip
    done = subprocess.run([sys.executable, *arguments], cwd=tree, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(arguments)}\n{done.stdout[-6000:]}\n{done.stderr[-3000:]}"
    return done.stdout


def passed(tree: Path, files: tuple[str, ...], chosen: str, backend: str) -> list[str]:
    """The tests in these files that passed; all that were chosen must."""
    # As many examples as here, and no family without the cases that are looked for.
    said = run(tree, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-rA", "-k", chosen,
               f"--hypothesis-profile={PROFILE}", *(f"tests/{name}" for name in files),
               HYPOTHESIS_PROFILE="ci", PMLP_TEST_BACKENDS=backend)  # fmt: skip
    return [line for line in said.splitlines() if line.startswith("PASSED")]


def test_tests_over_the_tables_find_them(tree: Path) -> None:
    """Formulas, members beside the oracle, exports, styles, names, pages."""
    found = passed(tree, ON_ARRAYS, f"{ADDED} or {OF_TABLES}", "reference")
    for name in ("softshrink", "log_cosh", "adagrad", "adagrad_shrinking", "square_root", "every activation",
                 "every optimizer", "every schedule", "page_of_knobs", "test_values"):  # fmt: skip
        assert any(name in line for line in found), f"no test of {name}"


@needs_numba
def test_they_are_compiled(tree: Path) -> None:
    found = passed(tree, COMPILED, f"({ADDED}) and float32", "numba")
    for name in ("softshrink", "log_cosh", "adagrad", "adagrad_shrinking"):
        assert any(name in line for line in found), f"no test of {name}"


@needs_numba
def test_files_plots_leaderboard_and_command_line_find_them(tree: Path, tmp_path: Path) -> None:
    requires("matplotlib")
    requires("typer")
    said = run(tree, "-c", USE, str(tmp_path))
    assert said.splitlines()[-1] == "all found"


USE = """
import sys
from pathlib import Path
import numpy as np
import pmlp_np as pm
from pmlp_np.app.main import main

folder = Path(sys.argv[1])
rng = np.random.default_rng()
X = rng.normal(size=(120, 4))
y = X[:, 0] + 0.1 * rng.normal(size=120)
specs = pm.grid(hidden=(6,), activation=["soft_shrink", "tanh"], optimizer=pm.Adagrad(0.05), schedule="square_root")
pool = pm.Pool(specs, 4, loss="logcosh", seed=1)
pool.fit(X, y, epochs=3, validation_data=(X, y), metrics=["neg_max_error"], monitor="max_error", early_stopping=True)

pool.save(folder / "pool.pmlp")
loaded = pm.load(folder / "pool.pmlp")
assert np.array_equal(loaded.forward(X), pool.forward(X)) and loaded.loss == "log_cosh"
assert loaded.specs[0] == pool.specs[0] and loaded.specs[0].schedule == "square_root"

slow = pm.Pool(specs, 4, loss="logcosh", seed=1, backend="reference", dtype="float64").fit(X, y, epochs=3)
fast = pm.Pool(specs, 4, loss="logcosh", seed=1, dtype="float64").fit(X, y, epochs=3)
np.testing.assert_allclose(fast.forward(X), slow.forward(X), rtol=1e-9, atol=1e-9)

records = pool.leaderboard()
assert records[0]["metric"] == "max_error" and records[0]["optimizer"] == "adagrad"
assert [r["validation_score"] for r in records] == sorted(r["validation_score"] for r in records)
best = np.abs(pool.predict(X, members=[records[0]["id"]], weights="best")[0] - y).max()
assert np.isclose(best, records[0]["validation_score"], rtol=1e-4)

ax = pm.plots.score_by_activation(pool)
assert "largest error" in ax.get_xlabel() and "smaller is better" in ax.get_xlabel()
assert any("softshrink" in tick.get_text() for tick in ax.get_yticklabels())
assert pm.plots.ACTIVATION_STYLES["softshrink"].color == "#556b2f"
assert "log cosh" in pm.plots.loss_curves(pool).get_ylabel()

table = folder / "table.csv"
table.write_text("\\n".join(["a,b,c,d,y", *(",".join(map(str, (*row, v))) for row, v in zip(X, y))]))
(folder / "space.json").write_text('{"hidden": 6, "activation": ["softshrink", "tanh"]}')
fit = ["fit", str(table), "--target", "y", "--out", str(folder / "result"), "--space", str(folder / "space.json")]
assert main([*fit, "--cv", "2", "--max-members", "4", "--max-epochs", "3", "--metric", "max_error", "--json"]) == 0
assert main(["leaderboard", str(folder / "result"), "--top", "3"]) == 0
leaderboard = (folder / "result" / "leaderboard.csv").read_text()
assert "6 softshrink" in leaderboard and "validation_max_error" in leaderboard
print("all found")
"""
