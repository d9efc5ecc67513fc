"""Plots of any pool: nothing overlaps or is cut off, nothing global is touched, and what cannot be drawn is refused."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import pmlp_np as pm
from conftest import requires, run_python
from plotted import EXPLODING, X, Y, assert_inside_and_apart, dots, lines, regression
from pmlp_np.plots.styles import ACTIVATION_STYLES

pytestmark = pytest.mark.filterwarnings("ignore::pmlp_np.DivergedWarning")


@pytest.fixture(autouse=True, scope="module")
def needs_matplotlib():
    requires("matplotlib")


@pytest.fixture(scope="module")
def pool():
    return regression(pm.grid(hidden=[(2,), (40,)], activation=["tanh", "relu"], learning_rate=[1e-3, 1e-1], repeats=3))


@pytest.fixture(
    scope="module",
    params=["one", "two", "untrained half", "all diverged", "every activation", "long", "one epoch"],
)
def any_pool(request):
    specs = {
        "one": [pm.Member(hidden=4)],
        "two": pm.grid(hidden=[(4,), (9,)]),
        "untrained half": [pm.Member(hidden=4)] * 2,
        "all diverged": pm.grid(hidden=[(4,), (8,)], optimizer=EXPLODING, repeats=2),
        "every activation": pm.grid(hidden=[(4,), (8,)], activation=list(ACTIVATION_STYLES), repeats=2),
        "long": pm.grid(hidden=[(30,) * k for k in (1, 7, 15)], activation=["hard_sigmoid", "leaky_relu"],
                        optimizer=["adamw", "rmsprop"], weight_decay=[0.0, 1e-3], repeats=2)
        + [pm.Member(hidden=(5, 5, 5), activation=("hard_sigmoid", "leaky_relu", "hardshrink"))],
        "one epoch": pm.grid(hidden=[(4,), (8,)], repeats=2),
    }[request.param]  # fmt: skip
    if request.param == "untrained half":
        return pm.concat([regression(specs), pm.Pool(specs, 5, seed=9)])
    return regression(specs, epochs=1 if request.param == "one epoch" else 4)


DRAWINGS = {
    "curves": lambda pool, **o: pm.plots.loss_curves(pool, **o),
    "curves by activation": lambda pool, **o: pm.plots.loss_curves(pool, by="activation", **o),
    "parameters": lambda pool, **o: pm.plots.score_by_size(pool, **o),
    "width": lambda pool, **o: pm.plots.score_by_size(pool, size="width", color="learning_rate", **o),
    "activation": lambda pool, **o: pm.plots.score_by_activation(pool, **o),
    "heat": lambda pool, **o: pm.plots.heat_map(pool, "activation", "architecture", **o),
}


@pytest.mark.parametrize("drawing", DRAWINGS)
def test_nothing_is_cut_off_and_nothing_overlaps(any_pool, drawing):
    ax = DRAWINGS[drawing](any_pool)
    assert_inside_and_apart(ax.figure)
    assert ax.get_title(loc="left") and ax.get_xlabel()


def test_long_titles_are_broken(pool):
    for drawing in DRAWINGS.values():
        ax = drawing(pool, title="What a long title this is, " * 6)
        assert ax.get_title(loc="left").count("What") == 6
        assert_inside_and_apart(ax.figure)


def test_a_layout_that_overlaps_is_noticed(pool):
    ax = pm.plots.score_by_size(pool)
    ax.set_xticks([30, 31, 32], ["thirty", "thirty-one", "thirty-two"])
    with pytest.raises(AssertionError):
        assert_inside_and_apart(ax.figure)


@pytest.mark.parametrize("drawing", DRAWINGS)
def test_axes_and_titles_can_be_given(pool, drawing):
    from matplotlib.figure import Figure

    mine = Figure(figsize=(12, 5), layout="constrained").subplots(1, 2)[1]
    ax = DRAWINGS[drawing](pool, ax=mine, title="My title")
    assert ax is mine and ax.get_title(loc="left") == "My title"
    assert len(DRAWINGS[drawing](pool).figure.axes) <= 2


def test_ten_thousand_members_are_few_artists():
    pool = pm.Pool(pm.grid(hidden=range(1, 101), activation=pm.PAPER_ACTIVATIONS, repeats=10), 5)
    pool.fit(X[:32], Y[:32], epochs=1, validation_data=(X[:8], Y[:8]))
    assert len(lines(pm.plots.loss_curves(pool))) == 11
    ax = pm.plots.score_by_size(pool)
    assert {name: len(xy) for name, xy in dots(ax).items()} == dict.fromkeys(pm.PAPER_ACTIVATIONS, 1000)
    assert len(ax.collections) == len(ax.get_lines()) == 10


def test_drawing_needs_no_display_and_changes_nothing_global(tmp_path):
    code = """
import sys
import matplotlib
before = dict(matplotlib.rcParams)
import numpy as np
import pmlp_np as pm
pool = pm.Pool([pm.Member(hidden=2)] * 3, 2).fit(np.eye(2), np.arange(2), validation_data=(np.eye(2), np.arange(2)))
pm.plots.loss_curves(pool), pm.plots.score_by_size(pool), pm.plots.score_by_activation(pool)
pm.plots.heat_map(pool, "activation", "width").figure.savefig(sys.argv[1])
assert "matplotlib.pyplot" not in sys.modules
assert dict(matplotlib.rcParams) == before
"""
    run_python(code, str(tmp_path / "heat.png"), MPLBACKEND="TkAgg", DISPLAY="")
    assert (tmp_path / "heat.png").stat().st_size > 5_000


def test_the_demo_draws_its_picture(tmp_path):
    requires("sklearn")
    demo = Path(pm.__file__).parents[1] / "examples" / "digits_demo.py"
    path = tmp_path / "new folder" / "digits.png"
    command = [sys.executable, demo, "--members-quick", "--epochs", "2", "--out", path]
    environment = os.environ | {"PYTHONPATH": str(demo.parents[1])}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert path.stat().st_size > 20_000 and str(path) in done.stdout


# What is refused.


def test_a_missing_matplotlib_is_named_with_its_extra(pool, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=re.escape("pip install 'pmlp_np[plots]'")):
        pm.plots.loss_curves(pool)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda p: pm.plots.loss_curves("pool.pmlp"), "pool: expected a pm.Pool, got 'pool.pmlp'"),
        (lambda p: pm.plots.loss_curves(pm.Pool(pm.Member(hidden=2), 5)), "one that has not. Call fit first"),
        (lambda p: pm.plots.loss_curves(p, members=[]), "members: expected a list of ids|ids: expected"),
        (lambda p: pm.plots.loss_curves(p, members=[999]), "ids of this pool .*got 999"),
        (lambda p: pm.plots.loss_curves(p, members="all"), "members"),
        (lambda p: pm.plots.loss_curves(p, by="activaton"), "by: .*vary here: .*Did you mean 'activation'"),
        (lambda p: pm.plots.loss_curves(p, by=3), "by: expected a column of the leaderboard.*got 3"),
        (lambda p: pm.plots.loss_curves(p, curves="validation_los"), "Did you mean 'validation_loss'"),
        (lambda p: pm.plots.loss_curves(p, curves=[]), "curves: expected names in pool.history_"),
        (lambda p: pm.plots.score_by_size(p, size="widht"), "size: .*Did you mean 'width'"),
        (lambda p: pm.plots.score_by_size(p, color="learning rate"), "color: .*Did you mean 'learning_rate'"),
        (lambda p: pm.plots.score_by_size(p, value="activation"), "value: expected a column of numbers"),
        (lambda p: pm.plots.score_by_activation(p, value="validation_r2"), "value: expected a column of the leader"),
        (lambda p: pm.plots.score_by_activation(p, value="best_epoch"), "values for these members, got 'best_epoch'"),
        (lambda p: pm.plots.heat_map(p, "width", "weight_decai"), "y: .*Did you mean 'weight_decay'"),
        (lambda p: pm.plots.heat_map(p, "width", "width"), "y: expected another column than x"),
        (lambda p: pm.plots.heat_map(p, "width", "depth", reduce="mean"), "reduce: expected one of median, best"),
        (lambda p: pm.plots.heat_map(p, "width", "depth", value="epochs", reduce="best"), "no epochs is better"),
    ],
)  # fmt: skip
def test_errors_name_the_culprit(pool, call, says):
    with pytest.raises(pm.DataError, match=says) as caught:
        call(pool)
    assert "\n" not in str(caught.value)
