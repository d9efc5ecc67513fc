"""Dropout, clipped gradients and averaged weights: what a user sees of them, and their passes against the formulas."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import oracle
import pmlp_np as pm
from conftest import BACKENDS
from member_state import member_states
from pmlp_np.backends.numba.job import EVALUATE, FORWARD, TRAIN
from pmlp_np.formulas.optimizers import RULES
from pmlp_np.formulas.regularizers import averaged, clip_factor, dropout_factors, dropout_scale, dropout_threshold
from running_passes import LANES, bits, padded, run_pass, sentinel
from strategies import random_data
from test_isolated import DIVERGING
from varied_pool import assert_same_bits

numba_only = pytest.mark.skipif("numba" not in BACKENDS, reason="PMLP_TEST_BACKENDS leaves out numba")
both_dtypes = pytest.mark.parametrize("dtype", ["float32", "float64"])

X, Y = random_data("squared_error", 60, 6, 2, seed=4)
FIT: dict[str, Any] = {"batch_size": 16, "progress": False}
SHAPES: list[tuple[int, ...]] = [(), (5,), (17, 33)]


def pool_of(members: list[pm.Member], dtype: str = "float32", backend: str = "numba", **changes: Any) -> pm.Pool:
    arguments = {"seed": 8, "dtype": dtype, "backend": backend} | changes
    return pm.Pool(members, X.shape[1], Y.shape[1], **arguments)


def members_with(**options: float) -> list[pm.Member]:
    rules = [pm.SGD(0.05, weight_decay=0.1), pm.SGD(0.01, momentum=0.9), pm.AdamW(0.01)]
    return [
        pm.Member(hidden=hidden, activation="tanh", bias=i % 2 == 0, optimizer=rule, **options)
        for hidden in SHAPES
        for i, rule in enumerate(rules)
    ]


def tensors(mlp: pm.MLP) -> list[np.ndarray]:
    return list(mlp.weights) + list(mlp.biases or [])


# Dropout.


@both_dtypes
def test_predictions_use_all_units(backend: str, dtype: str) -> None:
    pool = pool_of(members_with(dropout=0.5, input_dropout=0.5), dtype, backend).fit(X, Y, epochs=2, **FIT)
    raw = pool.forward(X)
    assert np.array_equal(raw, pool.forward(X))
    np.testing.assert_allclose(raw, [pool.extract(i).forward(X) for i in pool.ids_], rtol=1e-4, atol=1e-5)
    # The loss of training is that of the network that is left: with targets that the whole one meets it is not zero.
    for i in pool.ids_:
        alone = pool_of([pool.specs[int(i)]], dtype, backend, ids=[i])
        y = alone.forward(X)[0]
        alone.partial_fit(X, y, **FIT, shuffle=None)
        assert alone.history_["loss"][0, 0] > 1e-3


@both_dtypes
@pytest.mark.parametrize("option", ["dropout", "input_dropout"])
def test_a_share_below_all_draws_drops_nothing(backend: str, dtype: str, option: str) -> None:
    """1 / (1 - share) is 1 then, and no word is below 0: the pass runs, and changes nothing."""
    never = pool_of(members_with(**{option: 1e-20}), dtype, backend).fit(X, Y, epochs=2, **FIT)
    without = pool_of(members_with(), dtype, backend).fit(X, Y, epochs=2, **FIT)
    if backend == "numba":
        assert_same_bits(never, without)
    np.testing.assert_allclose(never.forward(X), without.forward(X), rtol=1e-4, atol=1e-5)


def test_dropout_of_hidden_layers_leaves_a_linear_member_alone(backend: str) -> None:
    pools = [pool_of([pm.Member(hidden=(), **o)], backend=backend).fit(X, Y, **FIT) for o in ({}, {"dropout": 0.9})]
    assert np.array_equal(*(pool.forward(X) for pool in pools))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("share", [0.0, 1e-12, 0.25, 0.5, 1.0 - 2.0**-53])
def test_factors_are_the_oracles(share: float, dtype: Any) -> None:
    for place in (0, 1, 6, 2**34 - 4, 2**34 - 3):
        expected = oracle.dropout_mask(share, 2**63 + 5, 3, 2, place, (9 if place < 2**34 - 4 else 3, 7))
        got = dropout_factors(np.uint64(2**63 + 5), 3, 2, place, len(expected), 7, share, np.dtype(dtype))
        assert got.dtype == dtype
        assert np.array_equal(got, expected.astype(dtype))


def test_draws_never_repeat_within_an_epoch_of_a_huge_table() -> None:
    """Beyond 2^34 rows the number of the four rows has a high word."""
    factors = [dropout_factors(np.uint64(1), 0, 1, place, 60, 60, 0.5, np.dtype("f8")) for place in (8, 2**34 + 8)]
    assert 0.4 < np.mean(factors[0] == factors[1]) < 0.6


@numba_only
@pytest.mark.parametrize("place", [0, 1, 7, 2**34 - 2])
@pytest.mark.parametrize("rows", [1, 2, 5, 32])
@both_dtypes
def test_dropout_passes_agree_with_arrays(dtype: str, rows: int, place: int) -> None:
    lanes, share, key, epoch = LANES[dtype], 0.3, 2**63 + 11, 5
    first, vectors = 2 * lanes, 3
    stride, width = 4 * lanes, vectors * lanes
    draw = np.random.default_rng(rows)
    drawing = {
        "threshold": int(dropout_threshold(share)), "scale": bits(dropout_scale(share)),
        "key": int(np.uint64(key).view(np.int64)), "cursor": np.array([epoch, place]),
        "rows": rows, "first": 1, "last": 1,
    }  # fmt: skip
    blocks = [sentinel((rows + 1, stride), dtype) for _ in range(2)]
    before = []
    for block in blocks:
        block[:rows, :width] = draw.normal(size=(rows, width))
        block[:rows, width - 3 : width] = 0.0  # padding
        before.append(block.copy())
    run_pass(dtype, "dropout", **drawing, a=blocks[0], d=blocks[1], stride=stride, vectors=vectors, unit=first, layer=2)
    factors = dropout_factors(np.uint64(key), epoch, 2, place, rows, first + width, share, np.dtype(dtype))
    for block, old in zip(blocks, before, strict=True):
        assert np.array_equal(block[:rows, :width], old[:rows, :width] * factors[:, first:])
        assert not block[:rows, width - 3 : width].any(), "padding is not zero"
        assert np.isnan(block[rows:]).all() and np.isnan(block[:, width:]).all(), "written beyond"

    features = 2 * lanes + 3
    x, out = draw.normal(size=(rows, stride)).astype(dtype), sentinel(rows * features + lanes, dtype)
    run_pass(dtype, "input_dropout", **drawing, x=x, x_stride=stride, out=out, features=features)
    expected = x[:, :features] * dropout_factors(
        np.uint64(key), epoch, 0, place, rows, features, share, np.dtype(dtype)
    )
    assert np.array_equal(out[: rows * features].reshape(rows, features), expected)
    assert np.isnan(out[rows * features :]).all(), "written beyond"
    dense = np.ascontiguousarray(x[:, :features])
    run_pass(dtype, "input_dropout", **drawing, x=dense, x_stride=features, out=dense, features=features)
    assert np.array_equal(dense, expected)


@both_dtypes
@pytest.mark.filterwarnings("ignore::pmlp_np.DivergedWarning")
def test_a_dropped_nan_is_not_hidden(backend: str, dtype: str) -> None:
    """Zero times NaN is NaN, as in PyTorch."""
    pool = pool_of([pm.Member(hidden=(40,), activation="tanh", dropout=0.9)], dtype, backend)
    weights, biases = pool._ready().store.read(0, "last")
    weights[0][:, 3] = np.nan
    pool._backend.store.write(0, weights, biases)
    pool.partial_fit(X[:4], Y[:4], **FIT)
    assert pool.status_ == ["diverged"]


# Clipping.


# Of these each layer has its own numbers.
LAYERED: dict[str, Any] = {
    "parametrization": "ntk",
    "first_layer_rate_factor": 3.0,
    "bias_rate_factor": 0.1,
    "l1": 1e-3,
    "decoupled_weight_decay": 0.1,
    "schedule": "cosine",
}


@both_dtypes
@pytest.mark.parametrize("options", [{}, {"l1": 1e-3}, LAYERED], ids=["plain", "shrinking", "layered"])
def test_a_limit_out_of_reach_changes_no_bit(backend: str, dtype: str, options: dict[str, Any]) -> None:
    """Though weights then take their step at the end, and not in passing."""
    free, limited = (pool_of(members_with(**options, **o), dtype, backend) for o in ({}, {"clip_norm": 1e30}))
    assert_same_bits(limited.fit(X, Y, epochs=2, **FIT), free.fit(X, Y, epochs=2, **FIT))


@both_dtypes
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("parametrization", ["standard", "ntk"])
def test_a_step_is_as_long_as_the_limit(backend: str, dtype: str, bias: bool, parametrization: str) -> None:
    """Over all layers together, with plain SGD of rate 1, in terms of the weights that are trained; members beside it
    that don't clip step further."""
    members = [
        pm.Member(
            hidden=h, activation="tanh", bias=bias, optimizer=pm.SGD(1.0), clip_norm=c, parametrization=parametrization
        )
        for h in SHAPES
        for c in (0.0, 0.05)
    ]
    pool = pool_of(members, dtype, backend)
    before = [tensors(pool.extract(i)) for i in pool.ids_]
    pool.partial_fit(X, 10 * Y, batch_size=len(X), progress=False)
    for i, (member, old) in enumerate(zip(members, before, strict=True)):
        square = 0.0
        for new, was in zip(tensors(pool.extract(i)), old, strict=True):
            # A weight w stands for W = sqrt(fan_in) w.
            divided = parametrization == "ntk" and new.ndim == 2
            square += np.sum((new.astype(np.float64) - was) ** 2) * (len(new) if divided else 1)
        if member.clip_norm:
            assert np.sqrt(square) == pytest.approx(0.05, rel=1e-4)
        else:
            assert np.sqrt(square) > 0.5


@both_dtypes
@pytest.mark.parametrize("name", DIVERGING)
@pytest.mark.filterwarnings("ignore::pmlp_np.DivergedWarning")
def test_a_member_that_diverges_does_so_with_clipping_out_of_reach(backend: str, dtype: str, name: str) -> None:
    """Norms that are no numbers, or whose square overflows, clip nothing and hide nothing."""
    member = DIVERGING[name]
    options = {"hidden": member.hidden, "activation": member.activation, "initializer": member.initializer}
    options |= {"optimizer": member.optimizer}
    pools = [pool_of([pm.Member(**options, clip_norm=c)], dtype, backend) for c in (0.0, 1e307)]
    for pool in pools:
        pool.fit(X, Y, epochs=40, **FIT)
        assert pool.status_ == ["diverged"]
    assert_same_bits(*pools)


@pytest.mark.parametrize(
    ("norm", "limit", "factor"),
    [(2.0, 1.0, 1.0 / (2.0 + 1e-6)), (0.5, 1.0, 1.0), (0.0, 1.0, 1.0), (np.inf, 1.0, 1.0), (np.nan, 1.0, 1.0)],
)
def test_clip_factor(norm: float, limit: float, factor: float) -> None:
    with np.errstate(invalid="ignore"):
        assert clip_factor(np.array([norm]), np.array([limit])).tolist() == [factor]


@numba_only
@both_dtypes
@pytest.mark.parametrize("limit", [0.5, 1e9])
def test_clip_pass_agrees_with_arrays(dtype: str, limit: float) -> None:
    """Two matrices, the second with room between its rows and counting half, and biases; what lies between is NaN."""
    lanes = LANES[dtype]
    shapes = [(3, lanes + 5, 2 * lanes), (4, 2 * lanes, 3 * lanes), (1, 3, lanes)]
    draw, gradient = np.random.default_rng(3), sentinel(sum(rows * stride for rows, _, stride in shapes), dtype)
    lines, views, start, counted = [], [], 0, [1.0, 0.5, 1.0]
    for (rows, width, stride), factor in zip(shapes, counted, strict=True):
        view = gradient[start : start + rows * stride].reshape(rows, stride)
        view[:, :width] = draw.normal(size=(rows, width))
        lines.append((start, stride, rows, width, bits(factor)))
        views.append(view[:, :width])
        start += rows * stride
    before = [view.copy() for view in views]
    run_pass(dtype, "clip", gradient=gradient, tensors=np.array(lines, np.int64), n=len(lines), limit=bits(limit))
    norm = np.sqrt(sum(np.sum((view * np.float64(c)) ** 2) for view, c in zip(before, counted, strict=True)))
    factor = np.dtype(dtype).type(min(1.0, limit / (norm + 1e-6)))
    for view, old in zip(views, before, strict=True):
        np.testing.assert_allclose(view, old * factor, rtol=2 * np.finfo(dtype).eps)
        assert limit < norm or np.array_equal(view, old)


@numba_only
@both_dtypes
@pytest.mark.parametrize("rule", RULES)
def test_rows_step_as_in_one_line(dtype: str, rule: str) -> None:
    """The pass for whole matrices with room between rows, against the one for vectors one behind the other."""
    lanes, rows, width = LANES[dtype], 3, LANES[dtype] + 5
    dense, stride = padded(width, dtype), 3 * lanes
    draw, slots = np.random.default_rng(2), RULES[rule].slots
    line, matrix = sentinel((2 + slots, rows, dense), dtype), sentinel((2 + slots, rows, stride), dtype)
    line[..., :width] = matrix[..., :width] = draw.random((2 + slots, rows, width))
    numbers = np.full((16, lanes), 0.25, dtype)
    both: dict[str, Any] = {"numbers": numbers}
    widths = np.full(rows, width)
    run_pass(dtype, f"update:{rule}", w=line[0], dw=line[1], slots=line[2:], slot_stride=rows * dense,
             widths=widths, n=rows, **both)  # fmt: skip
    run_pass(dtype, f"update_rows:{rule}", w=matrix[0], dw=matrix[1], slots=matrix[2:],
             slot_stride=rows * stride, stride=stride, rows=rows, width=width, **both)  # fmt: skip
    assert np.array_equal(matrix[..., :width], line[..., :width])
    changed = [0, *range(2, 2 + slots)]
    assert not matrix[changed, :, width:dense].any(), "padding is not zero"
    assert np.isnan(matrix[:, :, dense:]).all(), "written beyond the padding"


# Averaged weights.


@numba_only
@both_dtypes
def test_average_pass_agrees_with_arrays(dtype: str) -> None:
    lanes, decay = LANES[dtype], 0.9
    draw = np.random.default_rng(1)
    w, old = (draw.normal(size=2 * lanes).astype(dtype) for _ in range(2))
    for step in (1, 2, 7):
        average = sentinel(3 * lanes, dtype)
        average[: 2 * lanes] = old
        run_pass(dtype, "average", average=average, w=w, n=2 * lanes, decay=bits(decay), step=np.array([step]))
        kind = np.dtype(dtype).type
        expected = w if step == 1 else averaged(old, w, kind(decay), kind(1.0 - decay))
        np.testing.assert_allclose(average[: 2 * lanes], expected, rtol=4 * np.finfo(dtype).eps, atol=1e-7)
        assert step > 1 or np.array_equal(average[: 2 * lanes], w)
        assert np.isnan(average[2 * lanes :]).all()


def averaging_pool(backend: str, **changes: Any) -> pm.Pool:
    """Members 0 and 2 average, 1 does not."""
    members = [pm.Member(hidden=(7,), activation="tanh", learning_rate=0.05, average=a) for a in (0.8, 0.0, 0.5)]
    return pool_of(members, "float64", backend, **changes)


def test_averages_by_hand(backend: str) -> None:
    pool = averaging_pool(backend)
    expected: list[Any] = [None] * 3
    for _ in range(4):
        pool.partial_fit(X, Y, batch_size=len(X), progress=False)
        for i, decay in enumerate((0.8, 0.0, 0.5)):
            now = tensors(pool.extract(i, "last"))
            held = now if expected[i] is None else expected[i]
            expected[i] = [decay * a + (1.0 - decay) * w for a, w in zip(held, now, strict=True)]
            for got, want in zip(tensors(pool.extract(i, "average")), expected[i], strict=True):
                np.testing.assert_allclose(got, want, rtol=1e-12)


def test_every_question_can_be_asked_of_averages(backend: str) -> None:
    pool = averaging_pool(backend).fit(X, Y, epochs=3, **FIT)
    mlps = [pool.extract(i, "average") for i in range(3)]
    raw = pool.forward(X, weights="average")
    np.testing.assert_allclose(raw, [mlp.forward(X) for mlp in mlps], rtol=1e-9, atol=1e-12)
    assert np.array_equal(pool.predict(X, weights="average"), raw)
    assert np.array_equal(pool.forward(X, members=[2], weights="average"), raw[2:])
    np.testing.assert_allclose(pool.evaluate(X, Y, weights="average"), np.mean((raw - Y) ** 2, axis=(1, 2)), rtol=1e-9)
    last = pool.forward(X)
    assert np.array_equal(last, pool.forward(X, weights="last"))
    differs = [not np.array_equal(a, b) for a, b in zip(raw, last, strict=True)]
    assert differs == [True, False, True]
    # After further training, too: what a member without an average answers is not what it was.
    pool.partial_fit(X, Y, **FIT)
    assert np.array_equal(pool.forward(X, weights="average")[1], pool.forward(X)[1])
    assert not np.array_equal(pool.forward(X)[1], last[1])


def test_averages_before_training_are_the_initial_weights(backend: str) -> None:
    pool = averaging_pool(backend)
    assert np.array_equal(pool.forward(X, weights="average"), pool.forward(X))


def test_training_does_not_see_averages(backend: str) -> None:
    """Nor do validation and early stopping, which look at the last weights."""
    validation = random_data("squared_error", 20, 6, 2, seed=5)
    arguments = FIT | {"epochs": 8, "validation_data": validation, "early_stopping": True, "patience": 2}
    averaging, plain = (
        pool_of([pm.Member(hidden=(9,), learning_rate=0.05, average=a)], backend=backend).fit(X, Y, **arguments)
        for a in (0.99, 0.0)
    )
    for name, curve in plain.history_.items():
        assert np.array_equal(averaging.history_[name], curve, equal_nan=True)
    assert np.array_equal(averaging.forward(X), plain.forward(X))
    assert np.array_equal(averaging.forward(X, weights="last"), plain.forward(X, weights="last"))
    assert not np.array_equal(averaging.forward(X, weights="average"), plain.forward(X, weights="last"))


def test_averages_are_kept_by_files_subsets_and_joined_pools(backend: str, tmp_path: Path) -> None:
    pool = averaging_pool(backend).fit(X, Y, epochs=2, **FIT)
    expected = pool.forward(X, weights="average")
    pool.save(tmp_path / "pool.pmlp")
    loaded, part = pm.load(tmp_path / "pool.pmlp"), pool.subset([2, 1])
    plain = pool.subset([1])
    assert np.array_equal(loaded.forward(X, weights="average"), expected)
    np.testing.assert_allclose(part.forward(X, weights="average"), expected[[2, 1]], rtol=1e-9)
    with pytest.raises(pm.DataError, match=r"^weights: expected 'last' or 'best', got 'average'. .*average=0\.999"):
        plain.forward(X, weights="average")
    whole = pm.concat([plain, pool.subset([0, 2])])
    np.testing.assert_allclose(whole.forward(X, weights="average"), expected[[1, 0, 2]], rtol=1e-9)
    pool.partial_fit(X, Y, **FIT)
    for other in (loaded, part, whole):
        other.partial_fit(X, Y, **FIT)
        states = member_states(pool), member_states(other)
        for id in other.ids_.tolist():
            for got, want in zip(states[1][id].average, states[0][id].average, strict=True):
                np.testing.assert_allclose(got, want, rtol=1e-9)
    assert np.array_equal(member_states(loaded)[0].average[0], member_states(pool)[0].average[0])


def test_given_weights_begin_their_average_anew(backend: str) -> None:
    pool = averaging_pool(backend).fit(X, Y, epochs=2, **FIT)
    given = averaging_pool(backend, seed=9).extract(0)
    pool.set_weights(0, given)
    assert all(map(np.array_equal, tensors(pool.extract(0, "average")), tensors(given)))
    pool.partial_fit(X, Y, batch_size=len(X), progress=False)
    # One step: its average is where it led to.
    assert all(map(np.array_equal, tensors(pool.extract(0, "average")), tensors(pool.extract(0, "last"))))


# What it costs those who use none.


@numba_only
def test_members_without_need_no_passes_and_no_memory() -> None:
    members = [
        pm.Member(hidden=(5,)),
        pm.Member(hidden=(5,), dropout=0.1, clip_norm=1.0, average=0.5),
        pm.Member(hidden=(5,), optimizer=pm.SGD(0.1), feature_scale=True),
    ]
    templates = pool_of(members)._ready().runner.templates
    adam, sgd = list(RULES).index("adam"), list(RULES).index("sgd")
    nobody, clipped, scaled = np.array([0]), np.array([0, 1]), np.array([0, 2])
    assert templates.regularizers(nobody) == templates.regularizers(scaled) == {}
    assert set(templates.regularizers(clipped)) == {
        "dropout", "dropout_pass", "clip_norm", "clip_norm_pass", "average", "average_pass", "averages"
    }  # fmt: skip
    for task in (TRAIN, EVALUATE, FORWARD):
        assert templates.feature_scales(clipped, task) == {}
        passes = {"scale_features_pass"} | ({"scales_backward_pass"} if task == TRAIN else set())
        assert set(templates.feature_scales(scaled, task)) == {"scale_offset"} | passes
    found = [templates.rules_by_rows(some) for some in (nobody, clipped, scaled)]
    assert found == [set(), {adam}, {sgd}]
    assert pool_of([pm.Member(hidden=(5,), dropout=0.1, clip_norm=1.0)])._ready().store.average is None


@numba_only
def test_other_rules_that_clip_are_other_passes() -> None:
    """What members need is kept by what they use: of two that clip, each brings its own rule's pass."""
    rules = [(pm.SGD(0.01), 0.1), (pm.Adam(), 0.0), (pm.SGD(0.01), 0.0), (pm.Adam(), 0.1)]
    pool = pool_of([pm.Member(hidden=(5,), optimizer=rule, clip_norm=limit) for rule, limit in rules])
    templates = pool._ready().runner.templates
    first, second, again = (templates.template(TRAIN, np.array(members)) for members in ([0, 1], [2, 3], [0, 1]))
    assert first is again and first is not second


@pytest.mark.parametrize("name", ["dropout", "input_dropout", "average"])
@pytest.mark.parametrize("value", [-0.1, 1.0, 1.5, np.nan, np.inf, "half", None])
def test_shares_out_of_range_are_refused_by_member_and_name(name: str, value: Any) -> None:
    with pytest.raises(pm.SpecError, match=f"^{name}: expected a finite number, at least 0 and below 1"):
        pm.Member(hidden=(3,), **{name: value})


@pytest.mark.parametrize("value", [-1.0, np.nan, np.inf, "1"])
def test_limits_out_of_range_are_refused(value: Any) -> None:
    with pytest.raises(pm.SpecError, match="^clip_norm: expected a finite number, at least 0"):
        pm.Member(hidden=(3,), clip_norm=value)
