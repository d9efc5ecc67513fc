"""Weights of rows: their scale means nothing, evaluation counts them as scikit-learn does, and a row of weight 0 may
have any target."""

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import pmlp_np as pm
from conftest import requires
from loss_variants import VARIANTS, library_loss, random_targets
from pmlp_np.backends.numba.passes.loss_passes import loss_pass
from pmlp_np.data.weights import harmless
from pmlp_np.formulas.losses import LOSSES
from pmlp_np.training.metrics import METRICS
from running_passes import LANES, bits, padded, run_pass, sentinel
from small_pool import F, X, draw_x, draw_y, pool_of, same_history
from small_pool import bits as learned

N = len(X)
VALIDATION = draw_x(30, 2)
DTYPES = ("float32", "float64")
EVALUATED = [("squared_error", 1), ("squared_error", 2), ("cross_entropy", 2), ("cross_entropy", 3),
             ("binary_cross_entropy", 1), ("binary_cross_entropy", 2)]  # fmt: skip
every_kind = pytest.mark.parametrize(("loss", "outputs"), EVALUATED)


def fitting(loss):
    return [name for name, metric in METRICS.items() if LOSSES[loss].targets in metric.targets]


def draw_weights(n=N, seed=7, zeros=0.3, members=None):
    """Weights of which some are 0, but not the first ten."""
    draw = np.random.default_rng(seed)
    shape = n if members is None else (members, n)
    found = draw.uniform(0.3, 3.0, shape) * (draw.random(shape) >= zeros)
    found[..., :10] = draw.uniform(0.5, 1.0, found[..., :10].shape)
    return found


def weighted_pool(weights, backend="numba", dtype="float32", loss="squared_error", outputs=1, own=False, **changes):
    """Trained, validated and stopped by weights, those of validation (30,) first."""
    of_validation, of_rows = weights[..., :30], weights[..., 30:]
    if own:
        held_out = {"validation_rows": [np.arange(20), np.arange(5, 30)] * 2}
    else:
        y = draw_y(loss, outputs, n=30, seed=3)
        held_out = {"validation_data": (VALIDATION, y, of_validation)}
    pool = pool_of(loss, outputs, dtype, backend=backend)
    return pool.fit(X, draw_y(loss, outputs), epochs=4, batch_size=8, sample_weight=of_rows, metrics=fitting(loss),
                    early_stopping=True, patience=2, **held_out, **changes)  # fmt: skip


# The scale of weights.


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_common_power_of_two_changes_no_bit(backend, dtype):
    weights = draw_weights(30 + N)
    pools = [weighted_pool(weights * scale, backend, dtype) for scale in (1.0, 2.0**-126, 2.0**-900, 2.0**900)]
    for pool in pools[1:]:
        assert learned(pool) == learned(pools[0]) and same_history(pool.history_, pools[0].history_)
    y = draw_y()
    for scale in (2.0**-1000, 2.0**1000):
        for metric in (None, "r2", "mae"):
            found = pools[0].score(X, y, metric, sample_weight=weights[30:] * scale)
            assert np.array_equal(found, pools[0].score(X, y, metric, sample_weight=weights[30:]))


@pytest.mark.parametrize("scale", [1e-300, 1e-45, 7.0, 1e300])
def test_any_common_factor_changes_no_more_than_it_rounds(backend, scale):
    weights = draw_weights(30 + N, members=4)
    # Members' weights may differ in scale from each other, too.
    factors = np.array([scale, 1.0, 3.0, scale])[:, None]
    pool, scaled = (weighted_pool(w, backend, "float64") for w in (weights, weights * factors))
    np.testing.assert_allclose(scaled.forward(X), pool.forward(X), rtol=1e-9, atol=1e-9)
    for name, curve in pool.history_.items():
        np.testing.assert_allclose(scaled.history_[name], curve, rtol=1e-6)


@pytest.mark.parametrize("scale", [2.0**-900, 2.0**900])
def test_class_weights_have_no_scale(backend, scale):
    y, weights = draw_y("cross_entropy", 3), draw_weights()

    def trained(class_scale, sample_scale):
        table = {0: 2.0 * class_scale, 1: class_scale, 2: 0.25 * class_scale}
        pool = pool_of("cross_entropy", 3, backend=backend)
        return learned(pool.fit(X, y, epochs=2, class_weight=table, sample_weight=weights * sample_scale))

    assert trained(scale, 1.0) == trained(1.0, 1.0) == trained(scale, scale)


@every_kind
def test_equal_weights_are_none(backend, loss, outputs):
    """To the last bit, whatever number they are."""
    ones, y = np.ones(30 + N), draw_y(loss, outputs)
    plain = weighted_pool(ones, backend, loss=loss, outputs=outputs)
    thirds = weighted_pool(np.full((4, 30 + N), 0.3), backend, loss=loss, outputs=outputs)
    unweighted = pool_of(loss, outputs, backend=backend)
    unweighted.fit(X, y, epochs=4, batch_size=8, validation_data=(VALIDATION, draw_y(loss, outputs, n=30, seed=3)),
                   metrics=fitting(loss), early_stopping=True, patience=2)  # fmt: skip
    for pool in (plain, thirds):
        assert learned(pool) == learned(unweighted) and same_history(pool.history_, unweighted.history_)
    for metric in (None, *fitting(loss)):
        found = plain.score(X, y, metric, sample_weight=np.full(N, 49.0))
        assert np.array_equal(found, plain.score(X, y, metric)), metric
    assert np.array_equal(plain.evaluate(X, y, sample_weight=np.full(N, 49.0)), plain.evaluate(X, y))


# Weighted evaluation.


def sklearn_value(sk, name, loss, raw, y, w):
    """A metric of one member by scikit-learn, without the rows of weight 0: some of its metrics count their classes."""
    raw, y, w = raw[w > 0].astype(np.float64), y[w > 0], w[w > 0]
    if loss == "squared_error":
        predicted = raw.reshape(y.shape)
        if name in ("rmse", "mae", "r2"):
            function = {"rmse": sk.root_mean_squared_error, "mae": sk.mean_absolute_error, "r2": sk.r2_score}[name]
            return function(y, predicted, sample_weight=w)
    if loss == "cross_entropy":
        p = np.exp(raw - raw.max(axis=1, keepdims=True))
        p /= p.sum(axis=1, keepdims=True)
        labels, predicted = np.arange(raw.shape[1]), raw.argmax(axis=1)
        if name == "roc_auc":
            of = p[:, 1] if len(labels) == 2 else p
            return sk.roc_auc_score(y, of, sample_weight=w, multi_class="ovr", labels=labels)
        if name == "log_loss":
            return sk.log_loss(y, p, sample_weight=w, labels=labels)
        if name == "f1":
            return sk.f1_score(y, predicted, sample_weight=w, average="binary" if len(labels) == 2 else "macro")
        return getattr(sk, f"{name}_score")(y, predicted, sample_weight=w)
    p = 1.0 / (1.0 + np.exp(-raw))
    y, predicted = y.reshape(raw.shape).astype(int), (raw > 0).astype(int)
    if name == "accuracy":
        return sk.accuracy_score(y, predicted, sample_weight=w)
    columns = []
    for k in range(raw.shape[1]):
        if name == "roc_auc":
            columns.append(sk.roc_auc_score(y[:, k], p[:, k], sample_weight=w))
        elif name == "log_loss":
            columns.append(sk.log_loss(y[:, k], p[:, k], sample_weight=w, labels=[0, 1]))
        else:
            columns.append(getattr(sk, f"{name}_score")(y[:, k], predicted[:, k], sample_weight=w))
    return np.mean(columns)


@every_kind
@settings(max_examples=4)
@given(seed=st.integers(0, 2**32 - 1), each=st.booleans())
def test_scores_are_scikit_learns(backend, loss, outputs, seed, each):
    sk = requires("sklearn.metrics")
    draw = np.random.default_rng(seed)
    x, y = draw_x(80, seed), draw_y(loss, outputs, 80, seed)
    w = draw_weights(80, seed, members=4 if each else None)
    y[:3] = [0, 1, outputs - 1] if loss == "cross_entropy" else y[:3]
    if loss == "binary_cross_entropy":
        y[:2] = [[0] * outputs, [1] * outputs] if outputs > 1 else [0, 1]
    pool = pool_of(loss, outputs, "float64", backend=backend)
    raw, of_each = pool.forward(x), np.broadcast_to(w, (4, 80))
    for name in fitting(loss):
        found = pool.score(x, y, name, sample_weight=w)
        expected = [sklearn_value(sk, name, loss, raw[i], y, of_each[i]) for i in range(4)]
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12, err_msg=name)
    some = draw.permutation(4)[:2]
    own = [draw.integers(0, 80, 200), np.arange(60)]
    found = pool.score(x, y, fitting(loss)[0], members=pool.ids_[some], rows=own, sample_weight=of_each[some])
    for value, i, rows in zip(found, some, own, strict=True):
        expected = sklearn_value(sk, fitting(loss)[0], loss, raw[i][rows], y[rows], of_each[i][rows])
        assert value == pytest.approx(expected, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("label", VARIANTS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_whole_weights_are_repeated_rows(backend, label, dtype):
    """Mean loss and the loss's own score, of every loss."""
    draw, outputs = np.random.default_rng(sum(map(ord, label))), 3
    y, w = random_targets(label, draw, N, outputs), draw.integers(0, 4, N)
    pool = pm.Pool(pm.grid(hidden=[(), (5,), (30, 4)]), F, outputs, library_loss(label, outputs), dtype=dtype,
                   backend=backend)  # fmt: skip
    rtol, repeated = 1e-5 if dtype == "float32" else 1e-12, np.repeat(np.arange(N), w)
    for way in (pool.evaluate, pool.score):
        expected = way(X[repeated], y[repeated])
        np.testing.assert_allclose(way(X, y, sample_weight=w), expected, rtol=rtol)
        np.testing.assert_allclose(way(X, y, rows=[np.arange(N)] * 3, sample_weight=np.stack([w] * 3)), expected, rtol)


@pytest.mark.usefixtures("own_formulas")
def test_registered_losses_are_weighted(backend):
    v = pm.formulas.vocabulary

    def log_cosh(raw, target):
        size = v.absolute(raw - target)
        return v.mean_outputs(size + v.log1p(v.exp(-2.0 * size))), v.tanh(raw - target) / v.n_outputs(raw)

    pm.register_loss("weighed_log_cosh", log_cosh)
    y, w = draw_y(), draw_weights()
    pool = pool_of("weighed_log_cosh", backend=backend).fit(X, np.where(w > 0, y, np.nan), sample_weight=w)
    size = np.abs(pool.predict(X).astype(np.float64) - y)
    expected = np.average(size + np.log1p(np.exp(-2.0 * size)), axis=1, weights=w)
    np.testing.assert_allclose(pool.evaluate(X, y, sample_weight=w), expected, rtol=1e-5)
    np.testing.assert_allclose(pool.score(X, y, sample_weight=w), expected, rtol=1e-5)


def test_a_perfect_member_scores_one():
    """Exactly, however weights are rounded."""
    y = draw_y("cross_entropy", 3)
    pool = pool_of("cross_entropy", 3)
    predicted = pool.predict(X)[1]
    for seed in range(5):
        w = np.random.default_rng(seed).uniform(0.1, 1.0, N)
        assert pool.score(X, predicted, members=[7], sample_weight=w).tolist() == [1.0]
        assert 0 < pool.score(X, y, members=[7], sample_weight=w)[0] < 1


@pytest.mark.parametrize("own", [False, True])
def test_validation_follows_weights(backend, own):
    """Curves, best epochs and the leaderboard are those of weighted means; classes' weights don't count."""
    weights = draw_weights(30 + N)
    pool = weighted_pool(weights, backend, "float64", "cross_entropy", 3, own, class_weight={0: 9.0}, monitor="loss")
    y, curve = draw_y("cross_entropy", 3), pool.history_["validation_loss"]
    if own:
        data, more = (X, y), {"rows": [np.arange(20), np.arange(5, 30)] * 2, "sample_weight": weights[30:]}
    else:
        data, more = (VALIDATION, draw_y("cross_entropy", 3, n=30, seed=3)), {"sample_weight": weights[:30]}
    np.testing.assert_allclose(pool.evaluate(*data, **more), np.nanmin(curve, axis=1), rtol=1e-6)
    assert not np.allclose(pool.evaluate(*data, rows=more.get("rows")), np.nanmin(curve, axis=1), rtol=1e-3)
    last = np.array([row[np.isfinite(row)][-1] for row in curve])
    np.testing.assert_allclose(pool.evaluate(*data, weights="last", **more), last, rtol=1e-6)
    records = {record["id"]: record for record in pool.leaderboard()}
    for i, id in enumerate(pool.ids_.tolist()):
        assert records[id]["best_epoch"] == 1 + np.nanargmin(curve[i])
        assert records[id]["validation_loss"] == pytest.approx(np.nanmin(curve[i]))
    for name in fitting("cross_entropy"):
        found = pool.score(*data, name, weights="last", **more)
        expected = [row[np.isfinite(row)][-1] for row in pool.history_[f"validation_{name}"]]
        np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_none_as_the_third_of_validation_data_is_a_pair():
    y, held_out = draw_y(), draw_y(n=30, seed=3)
    pools = [
        pool_of().fit(X, y, validation_data=data) for data in ((VALIDATION, held_out), [VALIDATION, held_out, None])
    ]
    assert same_history(pools[0].history_, pools[1].history_)


# Rows of weight 0.


NOTHING = {
    "squared_error": [np.nan, np.inf, -np.inf, 1e300],
    "poisson": [-1.0, np.nan, -np.inf],
    "binary_cross_entropy": [7.0, -1.0, np.nan],
    "cross_entropy": [np.nan, -100.0, 1e9, 0.5],
    "gaussian_nll": [np.nan, np.inf],
    "quantile": [np.nan, -np.inf],
}


@pytest.mark.parametrize("loss", NOTHING)
@pytest.mark.parametrize("shuffle", ["shared", None])
def test_a_row_of_weight_0_may_have_any_target(backend, loss, shuffle):
    """In fit, its validation, evaluate and score; nothing of it is learned, and nobody writes to the caller's array."""
    draw, outputs = np.random.default_rng(3), 2
    members = [
        pm.Member(hidden=(6, 4), dropout=0.3, average=0.9),
        pm.Member(hidden=5, input_dropout=0.2, clip_norm=0.1),
    ]
    members.append(pm.Member(hidden=(), optimizer=pm.SGD(learning_rate=0.05, weight_decay=0.1)))
    y = random_targets(loss, draw, N, outputs).astype(np.float64)
    y = y.round() if loss == "binary_cross_entropy" else y  # some metrics take no other labels
    w = draw_weights(seed=11)
    odd = y.copy()
    odd[w == 0.0] = np.resize(NOTHING[loss], odd[w == 0.0].shape)
    before = odd.copy()
    metrics = [name for name in fitting(loss) if name in METRICS and loss not in ("gaussian_nll", "quantile")]

    def results(targets):
        pool = pm.Pool(members, F, outputs, loss, backend=backend)
        pool.fit(X, targets, epochs=3, batch_size=8, shuffle=shuffle, sample_weight=w, metrics=metrics,
                 validation_data=(X, targets, w))  # fmt: skip
        found = [pool.evaluate(X, targets, sample_weight=w), pool.score(X, targets, sample_weight=w)]
        found += [pool.score(X, targets, name, sample_weight=w) for name in metrics]
        return learned(pool), [*pool.history_.values(), *found]

    (state, values), (odd_state, odd_values) = results(y), results(odd)
    assert state == odd_state
    assert all(np.array_equal(a, b) and np.isfinite(a).all() for a, b in zip(values, odd_values, strict=True))
    assert np.array_equal(odd, before, equal_nan=True)


def test_forms_of_targets_that_are_not_there():
    """What users have where nothing was measured."""
    pd = requires("pandas")
    y, w = draw_y(), (np.arange(N) % 4 > 0).astype(float)
    expected = learned(pool_of().fit(X, y, sample_weight=w))
    missing = [None if w[i] == 0 else float(y[i]) for i in range(N)]
    for form in (missing, np.array(missing, object), pd.Series(missing), pd.Series(missing, dtype="Float64"),
                 np.where(w > 0, y, np.nan).reshape(-1, 1), ["n/a" if each is None else each for each in missing],
                 np.array([pd.NA if each is None else each for each in missing], object)):  # fmt: skip
        assert learned(pool_of().fit(X, form, sample_weight=w)) == expected
    # A mask may cover what counts for nothing, and nothing else.
    hidden = np.ma.masked_where(w == 0, y)
    assert learned(pool_of().fit(X, hidden, sample_weight=w)) == expected and hidden.mask.any()
    hidden[5] = np.ma.masked
    for form in (hidden, [np.ma.masked if hidden.mask[i] else y[i] for i in range(N)]):
        with pytest.raises(pm.DataError, match=r"^y.*mask"):
            pool_of().fit(X, form, sample_weight=w)
    labels = draw_y("cross_entropy", 3)
    expected = learned(pool_of("cross_entropy", 3).fit(X, labels, sample_weight=w))
    ignored = np.where(w > 0, labels, -100)
    assert learned(pool_of("cross_entropy", 3).fit(X, ignored, sample_weight=w.astype(bool))) == expected


def test_what_stands_in_for_a_target_is_one_that_counts():
    """Neither the range nor the spread of targets changes, and what does not count is not looked at."""
    seconds = 1.7e9 + np.arange(8.0)
    without = np.arange(8) % 3 == 0
    given = np.where(without, [np.nan, 0, 0, -np.inf, 0, 0, 1e300, 0], seconds)
    found = harmless(given, without)
    assert np.array_equal(found[~without], seconds[~without]) and set(found[without]) <= set(seconds[~without])
    pairs = harmless(np.stack([given, -given], axis=1), without)
    assert pairs.min(axis=0).tolist() == [seconds[1], -seconds[7]]
    each = harmless(np.stack([given, np.ones(8)]), np.stack([without, ~without]))
    assert each[0].min() == seconds[1] and (each[1] == 1.0).all()
    assert harmless(given, np.zeros(8, bool)) is given and harmless("y", without) == "y"
    # What is wrong where it counts is still found there.
    given[4] = np.nan
    assert np.flatnonzero(np.isnan(harmless(given, without))).tolist() == [4]


def test_targets_and_weights_of_each_member(backend):
    """A target must be there where a member gives the row a weight."""
    w, y = draw_weights(members=4), np.random.default_rng(0).normal(size=(4, N))
    own = {"sample_weight": w, "epochs": 2}
    expected = pool_of(backend=backend).fit(X, targets=y, **own)
    found = pool_of(backend=backend).fit(X, targets=np.where(w > 0.0, y, np.nan), **own)
    assert learned(found) == learned(expected)
    with pytest.raises(pm.DataError, match=r"^targets of member 30: expected finite .* got nan in .*\[0\]"):
        pool_of().fit(X, targets=np.where(np.arange(4)[:, None] == 2, np.nan, y), **own)
    nobody = np.flatnonzero((w == 0.0).all(axis=0))
    some = np.flatnonzero((w > 0.0).sum(axis=0) == 1)
    shared = y[0].copy()
    shared[nobody] = np.nan
    assert learned(pool_of(backend=backend).fit(X, shared, **own)) == learned(
        pool_of(backend=backend).fit(X, y[0], **own)
    )
    shared[some[0]] = np.nan
    with pytest.raises(pm.DataError, match=rf"^y: expected finite float32 numbers, got nan in y\[{some[0]}\]"):
        pool_of().fit(X, shared, **own)


@pytest.mark.filterwarnings("ignore::pmlp_np.DivergedWarning")
def test_losses_of_rows_without_weight_may_overflow(backend):
    """Infinity times 0 would be no number, and the member lost."""
    x, y, w = X.copy(), draw_y(), np.ones(N)
    x[7], w[7] = 1e25, 0.0
    members = [pm.Member(hidden=(), optimizer=pm.SGD(learning_rate=1e-3)), pm.Member(hidden=4, activation="relu")]
    found = []
    for far in (x, X):
        pool = pm.Pool(members, F, backend=backend)
        pool.fit(far, y, epochs=2, batch_size=5, sample_weight=w, validation_data=(far, y, w))
        assert pool.status_ == ["ok", "ok"] and np.isfinite(pool.evaluate(far, y, sample_weight=w)).all()
        found.append((learned(pool), pool.history_["validation_loss"].tobytes()))
    assert found[0] == found[1]
    assert np.isinf(pool.evaluate(x, y)[0])


def test_balanced_classes_are_those_of_rows_with_weight(backend):
    y, w = draw_y("cross_entropy", 3), draw_weights()
    odd = np.where(w > 0.0, y, np.nan)
    kept = np.flatnonzero(w > 0.0)
    weight = requires("sklearn.utils.class_weight").compute_sample_weight("balanced", y[kept])
    together = np.zeros(N)
    together[kept] = weight * w[kept]
    found = pool_of("cross_entropy", 3, backend=backend).fit(X, odd, class_weight="balanced", sample_weight=w)
    expected = pool_of("cross_entropy", 3, backend=backend).fit(X, y, sample_weight=together)
    np.testing.assert_allclose(found.forward(X), expected.forward(X), rtol=1e-4, atol=1e-5)


# Compiled passes.


@pytest.mark.parametrize("kind", DTYPES)
@pytest.mark.parametrize("label", ["squared_error", "cross_entropy", "gaussian_nll"])
def test_weighted_passes_agree_with_arrays(label, kind):
    """In two blocks, with rows of weight 0 whose raw outputs are no numbers, beside rows that are read as they are."""
    draw, outputs, rows = np.random.default_rng(5), 3, 3 * LANES[kind] + 5
    loss = LOSSES[label]
    target = random_targets(label, draw, rows, outputs)
    target = np.ascontiguousarray(np.atleast_2d(target if label == "cross_entropy" else target.T), kind)
    raw = draw.normal(size=(outputs * loss.heads, rows)).astype(kind)
    weights = draw.uniform(0.1, 4.0, rows)
    weights[[0, 3, rows - 1]] = 0.0
    exact = raw.astype(np.float64)
    raw[:, 0], raw[:, 3], raw[:, rows - 1] = np.nan, np.inf, -np.inf
    mean, ld, some = 1.7, padded(rows, kind), 2 * LANES[kind]
    raws, dz = (sentinel((len(raw), ld), kind) for _ in range(2))
    raws[:, :rows] = raw
    db, db_lanes = sentinel(len(raw), kind), sentinel((len(raw), 16), kind)
    totals, total, sums, lane_sums = np.full(3, np.nan), np.full(1, np.nan), np.full((3, 16), np.nan), np.zeros(16)
    for begin, end in ((0, some), (some, rows)):
        block = {"rows": end - begin, "first": int(begin == 0), "last": int(end == rows), "raw": raws[:, begin:],
                 "target": target[:, begin:], "ldt": rows, "ld": ld, "outputs": len(raw),
                 "weights": weights[begin:], "mean": bits(mean)}  # fmt: skip
        run_pass(kind, loss_pass(loss, "loss_train_weighted"), **block, dz=dz[:, begin:],
                 scale=bits(0.125), db=db, db_lanes=db_lanes, loss_lanes=lane_sums, total=total)  # fmt: skip
        run_pass(kind, loss_pass(loss, "loss_evaluate_weighted"), **block, sums=sums, totals=totals)
    expected_target = target[0] if label == "cross_entropy" else target
    losses, gradient = loss.function(exact, expected_target.astype(np.float64))
    share = weights / mean
    rtol = 2e-5 if kind == "float32" else 1e-12
    assert total[0] == pytest.approx((share * losses).sum(), rel=rtol)
    score = loss.score(exact, expected_target.astype(np.float64))
    np.testing.assert_allclose(totals, [(share * losses).sum(), (share * score).sum(), share.sum()], rtol=rtol)
    np.testing.assert_allclose(dz[:, :rows], 0.125 * share * gradient, rtol=50 * rtol, atol=rtol)
    assert not dz[:, [0, 3, rows - 1]].any() and not dz[:, rows:].any()
    np.testing.assert_allclose(db, (0.125 * share * gradient).sum(axis=1), rtol=50 * rtol, atol=rtol)


def test_large_members_that_all_threads_train_together():
    """Bits don't depend on threads, rows gathered or read in place."""
    specs = [pm.Member(hidden=(500, 400)), pm.Member(hidden=3)]
    w, y = draw_weights(), draw_y()
    for shuffle in ("member", None):
        found = []
        for n_threads in (1, 2):
            pool = pm.Pool(specs, F).fit(X, y, epochs=2, shuffle=shuffle, sample_weight=w, n_threads=n_threads)
            found.append(learned(pool))
        assert found[0] == found[1]


# What is refused, and what the hints say.


def test_weights_that_cannot_be_told_from_0():
    y, w = draw_y(), np.ones(N)
    w[13] = 1e-60
    with pytest.raises(
        pm.DataError, match=r"^sample_weight of member 10: .* float32 .* less in row 13\. Set it to 0, or"
    ) as error:
        pool_of().fit(X, y, sample_weight=w)
    assert 'dtype="float64"' in str(error.value)
    assert pool_of(dtype="float64").fit(X, y, sample_weight=w).status_ == ["ok"] * 4
    # Evaluation computes in float64, whatever the pool's dtype.
    np.testing.assert_allclose(
        pool_of().evaluate(X, y, sample_weight=w), pool_of().evaluate(X, y, rows=[np.delete(np.arange(N), 13)] * 4)
    )
    w[13] = 0.0
    pool_of().fit(X, y, sample_weight=w)
    w *= 1e200
    w[13] = 1e-200
    for dtype in DTYPES:
        with pytest.raises(pm.DataError, match=r"less in row 13\. Set it to 0\.$"):
            pool_of(dtype=dtype).fit(X, y, sample_weight=w)
    with pytest.raises(pm.DataError, match=r"^sample_weight of member 10: .* less in row 13\. Set it to 0\.$"):
        pool_of().evaluate(X, y, sample_weight=w)
    labels = draw_y("cross_entropy", 3)
    w[13] = 1e200 * 1e-30
    with pytest.raises(pm.DataError, match=r"^sample_weight times class_weight of member 10: .* less in row 13\."):
        pool_of("cross_entropy", 3).fit(X, labels, sample_weight=w, class_weight={int(labels[13]): 1e-30})
    for table in ({1: 1e-50}, {0: 1e300, 1: 1e-300}):
        with pytest.raises(pm.DataError, match=r"^class_weight of member 10: .* less in row "):
            pool_of("cross_entropy", 3).fit(X, labels, class_weight=table)
    # A member that does not have the row trains.
    w[13] = 1e-200
    rows = [np.delete(np.arange(N), 13)] * 3 + [np.arange(N)]
    with pytest.raises(pm.DataError, match=r"^sample_weight of member 20: .* less in row 13\."):
        pool_of().fit(X, y, sample_weight=w, rows=rows)


def test_rows_that_are_validated_need_weight():
    y, w = draw_y(), np.ones(N)
    w[:10] = 0.0
    held_out = [np.arange(20), np.arange(10), np.arange(30), np.arange(30)]
    with pytest.raises(
        pm.DataError,
        match=r"^sample_weight in validation_rows of member 7: expected a row that counts, got only zeros.* rows=",
    ):
        pool_of().fit(X, y, sample_weight=w, validation_rows=held_out)
    w[:10] = 1.0
    pool = pool_of().fit(X, y, sample_weight=w, validation_rows=held_out, rows=[np.arange(10, N)] * 4)
    assert np.isfinite(pool.history_["validation_loss"]).all()
    with pytest.raises(
        pm.DataError, match=r"^sample_weight of member 30: expected a row that counts, got only zeros\."
    ):
        each = np.ones((2, N))
        each[1] = 0.0
        pool.evaluate(X, y, members=[7, 30], sample_weight=each)
    each[1, 4] = 1.0
    assert pool.evaluate(X, y, members=[7, 30], sample_weight=each).shape == (2,)


def test_features_are_finite_also_without_weight():
    x, y, w = X.copy(), draw_y(), np.ones(N)
    x[4, 1], w[4] = np.nan, 0.0
    text = (
        r"^{}: expected finite numbers, also in rows of weight 0, got others in row 4\. .* drop .* from {}, {} and {}\."
    )
    names = [re.escape(f"validation_data[{i}]") for i in range(3)]
    with pytest.raises(pm.DataError, match=text.format("X", "X", "y", "sample_weight")):
        pool_of().fit(x, y, sample_weight=w)
    with pytest.raises(pm.DataError, match=text.format(names[0], *names)):
        pool_of().fit(X, y, validation_data=(x, y, w))
    with pytest.raises(pm.DataError, match=r"^X: .* row 4\."):
        pool_of().evaluate(x, y, sample_weight=w)
    kept = w > 0.0
    pool_of().fit(x[kept], y[kept], sample_weight=w[kept])
    x[5, 0] = np.inf
    with pytest.raises(pm.DataError, match=r"^X: expected finite float32 numbers, got nan in X\[4, 1\]"):
        pool_of().fit(x, y, sample_weight=w)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda p, y: p.evaluate(X, y, sample_weight=np.ones(3)),
            r"^sample_weight: expected shape \(50,\), or \(4, 50\)",
        ),
        (
            lambda p, y: p.evaluate(X, y, [7], sample_weight=np.ones((4, N))),
            r"^sample_weight: expected shape \(50,\), or \(1, 50\)",
        ),
        (
            lambda p, y: p.score(X, y, sample_weight=-np.ones(N)),
            r"^sample_weight: expected finite numbers, at least 0, got -1.0 at \[0\]",
        ),
        (
            lambda p, y: p.score(X, y, sample_weight=np.full(N, 1j)),
            r"^sample_weight: expected real numbers, got dtype complex128",
        ),
        (
            lambda p, y: p.score(X, y, "r2", sample_weight=np.eye(N)[0]),
            r"^y: expected at least two rows, to compute r2",
        ),
        (
            lambda p, y: p.evaluate(X, y, [7, 7], sample_weight=draw_weights(members=2)),
            r"^members: expected each id once: members have separate sample_weight, got 7 again",
        ),
        (
            lambda p, y: p.evaluate(X, y, [7, 7], rows=[[1], [2]]),
            r"^members: expected each id once: members have separate rows",
        ),
        (
            lambda p, y: p.fit(X, y, validation_data=(X, y, np.ones(3))),
            r"^validation_data\[2\]: expected shape \(50,\), or \(4, 50\) .*got \(3,\)",
        ),
        (
            lambda p, y: p.fit(X, y, validation_data=(X, y, y)),
            r"^validation_data\[2\]: expected finite numbers, at least 0, got -",
        ),
        (
            lambda p, y: p.fit(X, y, validation_data=(X, y, np.zeros(N))),
            r"^validation_data\[2\] of member 10: expected a row that counts",
        ),
        (
            lambda p, y: p.fit(X, y, validation_data=(X, y, np.ones(N), 3)),
            r"^validation_data: expected \(X, y\) or \(X, y, sample_weight\)",
        ),
        (
            lambda p, y: p.fit(
                X, y, validation_data=(X, y, np.eye(N)[:4] + np.eye(N)[1:5] * [[1], [1], [0], [1]]), metrics="r2"
            ),
            r"^validation_data\[1\] of member 30: expected at least two rows",
        ),
        (
            lambda p, y: p.fit(X, np.where(np.arange(N) == 3, np.nan, y), sample_weight=np.ones(N)),
            r"^y: expected finite float32 numbers, got nan in y\[3\]",
        ),
    ],
)
def test_what_is_refused(call, message):
    with pytest.raises(pm.DataError, match=message):
        call(pool_of(), draw_y())


def test_class_weights_beyond_floats_are_refused():
    with pytest.raises(pm.DataError, match=r"^class_weight: .* got 0: 1000"):
        pool_of("cross_entropy", 3).fit(X, draw_y("cross_entropy", 3), class_weight={0: 10**400})


def test_class_weights_of_any_number_type():
    """Also of float32, beside which the largest float64 is infinite: no warning."""
    y = draw_y("cross_entropy", 3)
    fitted = [
        pool_of("cross_entropy", 3).fit(X, y, class_weight={np.int8(1): kind(2)}, progress=False)
        for kind in (int, float, np.float16, np.float32, np.longdouble, np.uint8)
    ]
    assert all(np.array_equal(pool.forward(X), fitted[0].forward(X)) for pool in fitted)
