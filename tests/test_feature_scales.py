"""Learned scales of features: what users see of them. That they train as they should is in test_faithful.py."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import pmlp_np as pm
from conftest import BACKENDS
from pmlp_np.base.arrays import to_numpy
from pmlp_np.state.layout import PoolLayout
from running_passes import LANES, padded, run_pass, sentinel
from strategies import random_data

numba_only = pytest.mark.skipif("numba" not in BACKENDS, reason="about passes of the Numba backend")

X, Y = random_data("squared_error", 60, 5, 2, seed=3)
FIT = {"batch_size": 16, "progress": False}
SCALED = {"feature_scale": True, "feature_scale_rate_factor": 6.0, "learning_rate": 0.02}


def pool_of(members: list[pm.Member], backend: str, seed: int = 1) -> pm.Pool:
    return pm.Pool(members, 5, 2, seed=seed, dtype="float64", backend=backend)


def several(backend: str) -> pm.Pool:
    """Members with scales beside members without, at each depth."""
    return pool_of(
        [
            pm.Member(hidden=hidden, activation="tanh", **(SCALED if scaled else {}))
            for hidden in [(), (9,), (20, 3)]
            for scaled in (True, False)
        ],
        backend,
    )


def scales(pool: pm.Pool, place: int) -> np.ndarray:
    """Of a member, from the backend's buffers."""
    backend = pool._ready()
    layout: PoolLayout = backend.layout
    found = layout.scales(backend.store.parameters, place)
    assert found is not None
    return to_numpy(found).copy()


def test_scales_start_at_one_and_learn(backend: str) -> None:
    """Alone, where weights stand still, they learn which features matter."""
    still = {"optimizer": pm.SGD(0.05), "bias_rate_factor": 0.0, "last_layer_rate_factor": 0.0}
    pool = pool_of([pm.Member(hidden=(), feature_scale=scaled, **still) for scaled in (False, True)], backend)
    assert np.array_equal(scales(pool, 1), np.ones(5))
    initial = pool.extract(1)
    target = (X * [2.0, 0.0, 1.0, 1.0, -1.0]) @ initial.weights[0] + initial.biases[0]
    pool.fit(X, target, epochs=2000, **FIT)
    np.testing.assert_allclose(scales(pool, 1), [2.0, 0.0, 1.0, 1.0, -1.0], atol=1e-6)
    assert pool.evaluate(X, target)[1] < 1e-9 < pool.evaluate(X, target)[0]


def test_extracted_networks_answer_as_members_do(backend: str) -> None:
    pool = several(backend).fit(X, Y, epochs=5, **FIT)
    raw, records = pool.forward(X), {record["id"]: record for record in pool.leaderboard()}
    for i in range(len(pool)):
        mlp = pool.extract(i)
        np.testing.assert_allclose(mlp.forward(X), raw[i], rtol=1e-9, atol=1e-12)
        assert records[i]["parameters"] == mlp.n_parameters()


def test_given_weights_begin_with_scales_of_one(backend: str) -> None:
    pool = several(backend).fit(X, Y, epochs=5, **FIT)
    given = several(backend).extract(2)
    pool.set_weights(2, given)
    assert np.array_equal(scales(pool, 2), np.ones(5))
    assert np.array_equal(pool.extract(2).weights[0], given.weights[0])
    np.testing.assert_allclose(pool.forward(X)[2], given.forward(X), rtol=1e-9, atol=1e-12)


def test_predictions_follow_training(backend: str) -> None:
    """A forward pass of one row is prepared once and asked often: it must not answer by old scales."""
    pool = several(backend).fit(X, Y, epochs=1, **FIT)
    before = pool.forward(X[:1])
    for _ in range(2):
        pool.partial_fit(X, Y, epochs=1, **FIT)
        after = pool.forward(X[:1])
        np.testing.assert_allclose(after, [pool.extract(i).forward(X[:1]) for i in range(len(pool))], rtol=1e-9)
        assert (after != before).all()
        before = after


def test_best_and_averaged_scales_are_kept_beside_the_last(backend: str, tmp_path: Path) -> None:
    members = [pm.Member(hidden=(6,), average=0.9, **SCALED), pm.Member(hidden=(4,))]
    validation = random_data("squared_error", 30, 5, 2, seed=4)
    arguments = FIT | {"validation_data": validation, "early_stopping": True, "patience": 2, "epochs": 8}
    pool = pool_of(members, backend).fit(X, Y, **arguments)
    pool.save(tmp_path / "pool.pmlp")
    for kept in (pm.load(tmp_path / "pool.pmlp"), pool.subset([0, 1]), pm.concat([pool.subset([0]), pool.subset([1])])):
        for weights in ("last", "best", "average"):
            expected = pool.forward(X, weights=weights)
            np.testing.assert_allclose(kept.forward(X, weights=weights), expected, rtol=1e-9, atol=1e-12)
            mlp = pool.extract(0, weights)
            np.testing.assert_allclose(mlp.forward(X), expected[0], rtol=1e-9, atol=1e-12)
        kept.partial_fit(X, Y, epochs=2, **FIT)
    pool.partial_fit(X, Y, epochs=2, **FIT)
    np.testing.assert_allclose(kept.forward(X, weights="last"), pool.forward(X, weights="last"), rtol=1e-9, atol=1e-12)


def test_own_features_have_own_scales(backend: str) -> None:
    members = [pm.Member(hidden=(7,), seed=5, **SCALED), pm.Member(hidden=(7,), seed=5, **SCALED)]
    pool = pool_of(members, backend).fit(X, Y, epochs=3, features=[[4, 1], [0, 1, 2, 3, 4]], **FIT)
    assert [len(scales(pool, i)) for i in range(2)] == [2, 5]
    alone = pm.Pool(members[:1], 2, 2, seed=1, dtype="float64", backend=backend).fit(X[:, [4, 1]], Y, epochs=3, **FIT)
    np.testing.assert_allclose(pool.forward(X)[0], alone.forward(X[:, [4, 1]])[0], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("value", [-1.0, float("nan"), float("inf"), "six"])
def test_impossible_rate_factors_are_refused(value: object) -> None:
    with pytest.raises(pm.SpecError, match="feature_scale_rate_factor"):
        pm.Pool([pm.Member(feature_scale=True, feature_scale_rate_factor=value)], 5)  # type: ignore[arg-type]


@numba_only
@pytest.mark.parametrize(("rows", "width"), [(1, 1), (5, 8), (3, 16), (7, 33)])
@pytest.mark.parametrize("kind", LANES)
def test_passes(kind: str, rows: int, width: int) -> None:
    """Products, and their derivatives, in the dtype; padding ends zero whatever it held before."""
    rng, stride = np.random.default_rng(rows + width), padded(width, kind)
    w, gradient, out = (sentinel((rows, stride), kind) for _ in range(3))
    w[:, :width], gradient[:, :width] = rng.normal(size=(2, rows, width))
    s, by_scales = rng.normal(size=rows).astype(kind), np.full(rows, np.nan, kind)
    before = gradient[:, :width].copy()
    run_pass(kind, "scale_features", out=out, w=w, scales=s, stride=stride, rows=rows, width=width)
    assert np.array_equal(out[:, :width], s[:, None] * w[:, :width])
    assert not out[:, width:].any()
    w[:, width:] = 0.0
    run_pass(kind, "scales_backward", dscales=by_scales, dw=gradient, w=w, scales=s, stride=stride,
             rows=rows, width=width)  # fmt: skip
    assert np.array_equal(gradient[:, :width], s[:, None] * before)
    assert not gradient[:, width:].any()
    terms = np.float64(w[:, :width]) * np.float64(before)
    unit = np.finfo(kind).eps
    assert (np.abs(by_scales - terms.sum(axis=1)) <= width * unit * np.abs(terms).sum(axis=1)).all()
