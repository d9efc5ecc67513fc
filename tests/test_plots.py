"""Plots: what is drawn is what the pool says, computed here from its history, its specs and its predictions."""

from itertools import combinations, pairwise, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import pmlp_np as pm
from conftest import requires
from plotted import (
    CLASSES,
    EXPLODING,
    TRAIN,
    VALIDATION,
    X,
    band,
    dots,
    kinds,
    legend_texts,
    lines,
    notes,
    quantile,
    regression,
    rmse,
)
from pmlp_np.formulas.activations import ACTIVATIONS
from pmlp_np.plots.curves import spread
from pmlp_np.plots.scores import median_line
from pmlp_np.plots.styles import ACTIVATION_STYLES, frame, scale_of

pytestmark = pytest.mark.filterwarnings("ignore::pmlp_np.DivergedWarning")


@pytest.fixture(autouse=True, scope="module")
def needs_matplotlib():
    requires("matplotlib")


@pytest.fixture(scope="module")
def pool():
    """60 members of 20 kinds."""
    return regression(pm.grid(hidden=[(2,), (40,)], activation=["tanh", "relu"],
                              learning_rate=[1e-4, 1e-3, 1e-2, 5e-2, 1e-1], repeats=3))  # fmt: skip


@pytest.fixture(scope="module")
def half_diverged():
    """Two of three relu members and all identity members diverge."""
    members = [pm.Member(hidden=4, activation="tanh")] * 3
    members += [pm.Member(hidden=4, activation="relu", optimizer=o) for o in (pm.SGD(), EXPLODING, EXPLODING)]
    members += [pm.Member(hidden=8, activation="identity", optimizer=EXPLODING)] * 2
    pool = regression(members)
    assert [status == "diverged" for status in pool.status_] == [False] * 4 + [True] * 4
    return pool


@pytest.fixture(scope="module")
def classifier():
    specs = pm.grid(hidden=[(1,), (3,), (30,)], activation=["tanh", "relu", "sigmoid"], learning_rate=0.03, repeats=4)
    pool = pm.Pool(specs, 5, n_outputs=3, loss="cross_entropy")
    return pool.fit(X[:100], CLASSES[:100], epochs=12, validation_data=(X[100:], CLASSES[100:]), metrics=["log_loss"])


# Loss curves.


@pytest.mark.parametrize("by", ["activation", "learning_rate", "width"])
def test_curves_are_medians_and_quartiles_of_their_members(pool, by):
    key = {
        "activation": lambda m: m.activation,
        "learning_rate": lambda m: f"{m.optimizer.learning_rate:g}",
        "width": lambda m: str(m.hidden[0]),
    }[by]
    ax = pm.plots.loss_curves(pool, by=by, curves=["validation_loss", "loss"])
    groups = kinds(pool, key)
    assert len(lines(ax)) == 2 * len(groups)
    for name, places in groups.items():
        for curve in ("validation_loss", "loss"):
            values = pool.history_[curve][places]
            line, (low, high) = lines(ax)[f"{curve} of {name}"], band(ax, f"{curve} of {name}")
            assert line.get_xdata().tolist() == [1, 2, 3, 4, 5, 6]
            for drawn, q in ((line.get_ydata(), 0.5), (low, 0.25), (high, 0.75)):
                assert np.allclose(drawn, [quantile(column, q) for column in values.T], rtol=1e-6)
    assert [text.split("  ")[0] for text in legend_texts(ax)[: len(groups)] if by == "learning_rate"] in (
        [], ["0.0001", "0.001", "0.01", "0.05", "0.1"],
    )  # fmt: skip
    assert all(f"  ×{len(places)}" in "".join(legend_texts(ax)) for places in groups.values())
    assert ax.get_xlabel() == "epoch" and ax.get_ylabel() == "loss (squared error)"


def test_repeats_are_a_group_and_the_best_ten_are_drawn_over_the_others(pool):
    ax = pm.plots.loss_curves(pool)
    groups = kinds(pool, lambda m: (m.hidden, m.activation, m.optimizer))
    score = rmse(pool)
    ranked = sorted(groups.values(), key=lambda places: np.median(score[places]))
    drawn, rest = ranked[:10], sum(ranked[10:], [])
    names = [
        f"{m.hidden[0]} {m.activation}, learning rate {m.optimizer.learning_rate:g}"
        for m in (pool.specs[places[0]] for places in drawn)
    ]
    assert list(lines(ax)) == ["validation_loss of the other 10", *[f"validation_loss of {name}" for name in names]]
    for name, places in [*zip(names, drawn, strict=True), ("the other 10", rest)]:
        expected = np.median(pool.history_["validation_loss"][places], axis=0)
        assert np.allclose(lines(ax)[f"validation_loss of {name}"].get_ydata(), expected)
    assert [text.replace("\n", " ") for text in legend_texts(ax)] == [f"{name}  ×3" for name in names] + [
        "the other 10  ×30"
    ]
    assert "best 10 of 20" in ax.get_legend().get_title().get_text()
    assert "60 members over 6 epochs" in ax.get_title(loc="left")


def test_what_the_optimizer_says_is_not_said_again():
    pool = regression(pm.grid(hidden=4, optimizer=["adamw", "rmsprop"], weight_decay=[0.0, 0.1]))
    names = {gid.partition(" of ")[2] for gid in lines(pm.plots.loss_curves(pool))}
    assert names == {
        f"{optimizer}, learning rate {rate}, weight decay {decay}"
        for optimizer, rate in (("adamw", 0.001), ("rmsprop", 0.01)) for decay in ("0", "0.1")
    }  # fmt: skip


def test_diverged_members_are_counted_and_not_drawn(half_diverged):
    ax = pm.plots.loss_curves(half_diverged, by="activation", curves="validation_loss")
    curves = half_diverged.history_["validation_loss"]
    assert np.allclose(lines(ax)["validation_loss of relu"].get_ydata(), curves[3])
    assert np.allclose(lines(ax)["validation_loss of tanh"].get_ydata(), np.median(curves[:3], axis=0))
    assert np.isnan(lines(ax)["validation_loss of identity"].get_ydata()).all()
    assert sorted(legend_texts(ax)) == ["identity  ×2, 2 diverged", "relu  ×3, 2 diverged", "tanh  ×3"]


def test_a_line_ends_where_fewer_than_half_still_train():
    def one_leaves(end):
        end.stop({2: [0], 3: [1], 4: [2]}.get(end.epoch, []))

    pool = regression([pm.Member(hidden=4)] * 4, epochs=5, callbacks=[one_leaves])
    curves = pool.history_["validation_loss"]
    assert np.isfinite(curves).sum(axis=0).tolist() == [4, 4, 3, 2, 1]
    ax = pm.plots.loss_curves(pool, curves="validation_loss")
    drawn = lines(ax)["validation_loss of all"].get_ydata()
    assert np.allclose(drawn[:4], [np.median(c[np.isfinite(c)]) for c in curves.T[:4]]) and np.isnan(drawn[4])
    # Nor does the axis go on.
    assert 4.0 < ax.get_xlim()[1] < 4.5 and "4 members over 4 of 5 epochs" in ax.get_title(loc="left")


def test_curves_of_some_members(pool):
    ax = pm.plots.loss_curves(pool, members=[7, 7, 2], by="activation", curves="loss")
    assert "2 members" in ax.get_title(loc="left")
    names = {pool.specs[i].activation for i in (2, 7)}
    assert set(lines(ax)) == {f"loss of {name}" for name in names}


def test_training_loss_alone_where_nothing_was_validated():
    pool = pm.Pool([pm.Member(hidden=2), pm.Member(hidden=3)], 5).fit(*TRAIN, epochs=2)
    ax = pm.plots.loss_curves(pool)
    assert set(lines(ax)) == {"loss of 2 relu", "loss of 3 relu"}
    assert ax.get_ylabel() == "training loss (squared error)"
    assert np.allclose(lines(ax)["loss of 3 relu"].get_ydata(), pool.history_["loss"][1])


# Scores.


def parameters(widths):
    return sum((a + 1) * b for a, b in pairwise([5, *widths, 1]))


@pytest.mark.parametrize("size", ["parameters", "width"])
def test_dots_are_members_and_lines_their_medians(size):
    pool = regression(pm.grid(hidden=[(), (3,), (2, 9), (60,)], activation=["tanh", "relu"], repeats=5))
    ax = pm.plots.score_by_size(pool, size=size)
    score = rmse(pool)
    measure = parameters if size == "parameters" else lambda widths: max(widths, default=0)
    for name, places in kinds(pool, lambda m: m.activation).items():
        sizes = np.array([measure(pool.specs[i].hidden) for i in places])
        assert np.allclose(dots(ax)[name][:, 0], sizes, rtol=0.07)
        assert np.allclose(dots(ax)[name][:, 1], score[places], rtol=1e-5)
        line = lines(ax)[f"median of {name}"]
        assert line.get_xdata().tolist() == np.unique(sizes).tolist()
        expected = [np.median(score[places][sizes == step]) for step in np.unique(sizes)]
        assert np.allclose(line.get_ydata(), expected, rtol=1e-5)
    assert set(dots(ax)) == {"tanh", "relu", "identity"}
    assert ax.get_xscale() == ("log" if size == "parameters" else "symlog")
    assert ax.get_ylabel() == "validation root-mean-square error (smaller is better)"


def test_many_sizes_take_in_their_neighbors():
    pool = regression(pm.grid(hidden=range(1, 41), activation="relu"))
    ax = pm.plots.score_by_size(pool, size="width")
    widths, score = np.arange(1, 41), rmse(pool)
    for width, drawn in zip(*lines(ax)["median of relu"].get_data(), strict=True):
        ratio = np.maximum(widths / width, width / widths)
        within, nearest = ratio <= 1.1, ratio <= sorted(ratio)[6]
        assert np.isclose(drawn, np.median(score[within if within.sum() >= 7 else nearest]), rtol=1e-5)
    assert "over neighbors in size" in notes(ax)


def test_shares_are_drawn_by_their_odds_in_percent_and_ranked_from_the_largest(classifier):
    ax = pm.plots.score_by_size(classifier, size="width")
    accuracy = (classifier.predict(X[100:]) == CLASSES[100:]).mean(axis=1)
    assert ax.get_ylabel() == "validation accuracy (larger is better)"
    at_widest = {}
    for name, places in kinds(classifier, lambda m: m.activation).items():
        assert np.allclose(sorted(dots(ax)[name][:, 1]), sorted(accuracy[places]))
        at_widest[name] = np.median([accuracy[i] for i in places if classifier.specs[i].hidden == (30,)])
    shown = [text.split("  ") for text in legend_texts(ax)]
    assert {name: f"{value:.1%}" for name, value in at_widest.items()} == dict(shown)
    assert [at_widest[name] for name, _ in shown] == sorted(at_widest.values(), reverse=True)
    assert ax.yaxis.get_major_formatter()(0.985, 0) == "98.5%"


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, "validation accuracy (larger is better)"),
        ("validation_loss", "validation loss (cross entropy) (smaller is better)"),
        ("loss", "training loss (cross entropy) (smaller is better)"),
        ("validation_log_loss", "validation log loss (smaller is better)"),
        ("epochs", "epochs"),
    ],
)
def test_scores_are_the_leaderboards(classifier, value, words):
    ax = pm.plots.score_by_activation(classifier, value=value)
    key = value or "validation_score"
    assert ax.get_xlabel() == words
    for name in ("tanh", "relu", "sigmoid"):
        expected = [r[key] for r in classifier.leaderboard() if r["activation"] == name]
        assert np.allclose(sorted(dots(ax)[name][:, 0]), sorted(expected))


@pytest.mark.parametrize(
    ("monitor", "words"),
    [
        ("r2", "validation R² (larger is better)"),
        ("mae", "validation mean absolute error (smaller is better)"),
        ("loss", "validation loss (squared error) (smaller is better)"),
    ],
)
def test_what_is_monitored_is_the_score_and_the_best_epoch_counts(monitor, words):
    specs = pm.grid(hidden=4, activation=["tanh", "relu"], learning_rate=0.3, repeats=3)
    pool = regression(specs, epochs=12, monitor=monitor, metrics=[m for m in ("r2", "mae") if m == monitor],
                      early_stopping=True, patience=2)  # fmt: skip
    ax = pm.plots.score_by_activation(pool)
    assert ax.get_xlabel() == words
    if monitor == "loss":
        score = pool.evaluate(*VALIDATION)
    else:
        score = pool.score(*VALIDATION, metric=monitor)
    for name, places in kinds(pool, lambda m: m.activation).items():
        assert np.allclose(dots(ax)[name][:, 0], score[places], rtol=1e-4)
    medians = [np.median(score[places]) for places in kinds(pool, lambda m: m.activation).values()]
    first = ax.get_yticklabels()[0].get_text().split("\n")[0]
    assert first == ["tanh", "relu"][(np.argmax if monitor == "r2" else np.argmin)(medians)]


def test_a_row_per_activation_has_its_quartiles_and_counts(pool, half_diverged):
    ax = pm.plots.score_by_activation(pool)
    score = rmse(pool)
    groups = kinds(pool, lambda m: m.activation)
    ranked = sorted(groups, key=lambda name: np.median(score[groups[name]]))
    assert [t.get_text() for t in ax.get_yticklabels()] == [f"{name}\nn = 30" for name in ranked]
    boxes = {patch.get_gid(): patch for patch in ax.patches}
    for row, name in enumerate(ranked):
        box, values = boxes[f"middle half of {name}"], score[groups[name]]
        assert np.isclose(box.get_x(), quantile(values, 0.25), rtol=1e-5)
        assert np.isclose(box.get_x() + box.get_width(), quantile(values, 0.75), rtol=1e-5)
        (middle,) = [c for c in ax.collections if c.get_gid() == f"median of {name}"]
        assert np.allclose(middle.get_segments()[0][:, 0], quantile(values, 0.5), rtol=1e-5)
        (ends,) = [c for c in ax.collections if c.get_gid() == f"5 to 95 % of {name}"]
        assert np.allclose(ends.get_segments()[0][:, 0], [quantile(values, 0.05), quantile(values, 0.95)], rtol=1e-5)
        assert (abs(dots(ax)[name][:, 1] - row) < 0.35).all()
    ax = pm.plots.score_by_activation(half_diverged)
    assert {t.get_text() for t in ax.get_yticklabels()} == {
        "tanh\nn = 3", "relu\nn = 1, 2 diverged", "identity\nn = 0, 2 diverged",
    }  # fmt: skip
    assert ax.get_yticklabels()[-1].get_text().startswith("identity") and "Not drawn: 4 diverged." in notes(ax)


def test_best_weights_make_diverged_members_worth_drawing():
    pool = regression([pm.Member(hidden=4, activation=name, optimizer=pm.SGD(learning_rate=rate, momentum=0.9))
                       for name in ("tanh", "relu", "identity") for rate in (0.01, 1.2)],
                      epochs=30, early_stopping=True, patience=30)  # fmt: skip
    records = {r["id"]: r for r in pool.leaderboard()}
    saved = [r for r in records.values() if r["status"] == "diverged" and r["best_epoch"] > 0]
    assert saved, "the example is to have a member that diverged after a good epoch"
    drawn = dots(pm.plots.score_by_activation(pool))
    assert all(np.isclose(drawn[r["activation"]][:, 0], r["validation_score"]).any() for r in saved)


def test_members_far_off_lie_outside_and_are_counted(pool):
    score = np.append(np.linspace(0.5, 1.0, 40), [1e12, 3e12])
    scale, limits = frame(score)
    assert scale == "linear" and limits[0] < 0.5 and 1.0 < limits[1] < 1.1
    assert frame(score[:40]) == ("linear", None) and frame(score[-9:])[1] is None
    assert frame(np.append(-score[:40], -1e9))[1][0] > -1.1
    assert frame(np.append(np.full(300, 0.99), 0.1), share=True)[1] is None


def test_other_colors_and_those_for_whom_there_is_none():
    pool = regression(pm.grid(hidden=4, learning_rate=np.geomspace(1e-4, 1e-1, 20).tolist()) + [
        pm.Member(hidden=4, batch_size=8)])  # fmt: skip
    ax = pm.plots.score_by_size(pool, color="learning_rate")
    assert len(lines(ax)) == 19 and len(dots(ax)["others"]) == 3
    assert sum(map(len, dots(ax).values())) == 21
    ax = pm.plots.score_by_size(pool, color="batch_size")
    assert {name: len(xy) for name, xy in dots(ax).items()} == {"8": 1, "others": 20}


# Heat maps.


def cells_of(ax):
    (mesh,) = [c for c in ax.collections if type(c).__name__ == "QuadMesh"]
    return np.ma.filled(mesh.get_array(), np.nan)


@pytest.mark.parametrize("reduce", ["median", "best"])
@pytest.mark.parametrize("value", [None, "validation_score", "validation_r2"])
def test_cells_are_the_median_or_best_of_their_members(reduce, value):
    pool = regression(pm.grid(hidden=[(2,), (8,), (30,)], activation=["tanh", "relu"], learning_rate=[1e-3, 1e-2],
                              repeats=2) + [pm.Member(hidden=5)], metrics=["r2"])  # fmt: skip
    ax = pm.plots.heat_map(pool, "learning_rate", "width", value=value, reduce=reduce)
    score = pool.score(*VALIDATION, metric="r2") if value == "validation_r2" else rmse(pool)
    best = max if value == "validation_r2" else min
    cells, groups = cells_of(ax), kinds(pool, lambda m: (m.hidden[0], m.optimizer.learning_rate))
    assert [t.get_text() for t in ax.get_xticklabels()] == ["0.001", "0.01"]
    assert [t.get_text() for t in ax.get_yticklabels()] == ["2", "5", "8", "30"]
    texts = {t.get_position(): t.get_text() for t in ax.texts if t.get_text() and t.get_position()[1] % 1 == 0.5}
    for (row, width), (column, rate) in product(enumerate((2, 5, 8, 30)), enumerate((1e-3, 1e-2))):
        own = score[groups.get((width, rate), [])]
        if not len(own):
            assert np.isnan(cells[row, column]) and (column + 0.5, row + 0.5) not in texts
            continue
        expected = np.median(own) if reduce == "median" else best(own)
        assert np.isclose(cells[row, column], expected, rtol=1e-4)
        assert np.isclose(float(texts[column + 0.5, row + 0.5]), expected, rtol=0.01)
    assert "Gray: no members." in notes(ax)
    (mesh,) = [c for c in ax.collections if type(c).__name__ == "QuadMesh"]
    light = mesh.to_rgba(mesh.get_array())[..., :3].sum(axis=-1)
    lightest = np.nanargmax(np.where(np.isnan(cells), np.nan, light))
    assert lightest == (np.nanargmax if best is max else np.nanargmin)(cells), "light is good"
    assert ax.get_ylim()[0] < ax.get_ylim()[1], "numbers grow upward"
    assert ax.get_title(loc="left").startswith(f"{reduce.capitalize()} validation ")


def test_cells_whose_members_diverged_have_a_cross(half_diverged):
    ax = pm.plots.heat_map(half_diverged, "optimizer", "activation")
    assert [t.get_text() for t in ax.get_yticklabels()] == ["tanh", "relu", "identity"]
    assert [t.get_text() for t in ax.get_xticklabels()] == ["adam", "sgd"]
    assert ax.get_ylim()[0] > ax.get_ylim()[1], "names are read from the top"
    cells = cells_of(ax)
    assert np.isfinite(cells).tolist() == [[True, False], [False, True], [False, False]]
    assert np.isclose(cells[1, 1], rmse(half_diverged.subset([3]))[0], rtol=1e-5)
    assert [t.get_position() for t in ax.texts if t.get_text() == "×"] == [(1.5, 2.5)]


def test_random_draws_are_sorted_into_ranges():
    specs = pm.sample(80, hidden=[(4,), (8,)], learning_rate=pm.log_uniform(1e-4, 1e-1), seed=1)
    pool = regression(specs, epochs=2)
    cells, score = cells_of(pm.plots.heat_map(pool, "width", "learning_rate")), rmse(pool)
    rates = np.log([m.optimizer.learning_rate for m in specs])
    of = np.minimum(((rates - rates.min()) / (rates.max() - rates.min()) * 10).astype(int), 9)
    assert cells.shape == (10, 2)
    for row in range(10):
        for column, width in enumerate((4, 8)):
            own = [score[i] for i, m in enumerate(specs) if of[i] == row and m.hidden == (width,)]
            assert np.isclose(cells[row, column], np.median(own), rtol=1e-5) if own else np.isnan(cells[row, column])


def test_of_many_names_the_best_are_drawn():
    pool = regression(pm.grid(hidden=range(1, 41), activation="relu"), epochs=2)
    ax = pm.plots.heat_map(pool, "activation", "architecture")
    score = rmse(pool)
    best = {f"{place + 1} relu" for place in np.argsort(score)[:30]}
    assert {t.get_text() for t in ax.get_yticklabels()} == best and "best 30 of 40" in notes(ax)


# Helpers, by other means.


@given(arrays(np.float64, st.tuples(st.integers(1, 7), st.integers(1, 5)),
              elements=st.one_of(st.floats(-100, 100), st.just(np.nan), st.just(np.inf))))  # fmt: skip
def test_spread_is_of_what_is_known_by_half(curves):
    middle, low, high = spread(curves)
    for epoch, column in enumerate(curves.T):
        known = [value for value in column if np.isfinite(value)]
        if 2 * len(known) >= len(column) and known:
            found = middle[epoch], low[epoch], high[epoch]
            assert np.allclose(found, [quantile(known, q) for q in (0.5, 0.25, 0.75)])
        else:
            assert np.isnan([middle[epoch], low[epoch], high[epoch]]).all()


@given(st.lists(st.tuples(st.integers(0, 20), st.floats(-5, 5)), min_size=1, max_size=30))
def test_exact_medians_are_of_each_size(pairs):
    sizes, scores = map(np.array, zip(*pairs, strict=True))
    steps, medians = median_line(sizes, scores, exact=True)
    assert {s: quantile([y for x, y in pairs if x == s], 0.5) for s in set(sizes.tolist())} == pytest.approx(
        dict(zip(steps.tolist(), medians.tolist(), strict=True))
    )


def test_scales():
    assert scale_of(np.array([1.0, 9.0])) == "linear" and scale_of(np.array([1.0, 11.0])) == "log"
    assert scale_of(np.array([-1.0, 100.0])) == scale_of(np.array([0.0, 100.0])) == "linear"
    assert scale_of(np.array([0.3, 0.98]), share=True) == "logit"
    assert scale_of(np.array([0.3, 1.0]), share=True) == scale_of(np.array([0.9, 0.98]), share=True) == "linear"


def test_every_activation_has_a_style_that_stands_apart():
    own = [name for name, entry in ACTIVATIONS.items() if not entry.registered]
    assert set(own) == set(ACTIVATION_STYLES)
    for (color, dash, mark), (other, other_dash, other_mark) in combinations(ACTIVATION_STYLES.values(), 2):
        red = [np.array([int(c[i : i + 2], 16) for i in (1, 3, 5)]) for c in (color, other)]
        # Where hues are near, dashes and marks differ.
        assert abs(red[0] - red[1]).sum() > 60 or (dash != other_dash and mark != other_mark)
        assert (color, dash) != (other, other_dash) and (color, mark) != (other, other_mark)
