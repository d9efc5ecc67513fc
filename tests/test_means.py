"""Means over members: what each predicts, averaged; no bit depends on threads, on other rows, or on the backend."""

import numpy as np
import pytest

import emulated_device
import pmlp_np as pm
from c_header import compiler
from conftest import BACKENDS
from loss_variants import VARIANTS, heads, library_loss
from pmlp_np import backends
from pmlp_np.backends.contract import MEAN_GROUP, Control
from pmlp_np.backends.cupy import backend as cupy_backend
from pmlp_np.backends.numba import backend as numba_backend
from pmlp_np.data.dataset import Dataset
from pmlp_np.pool import prediction

F = 5
# A whole group of members, and some.
MEMBERS = MEAN_GROUP + 9
v = pm.formulas.vocabulary
on_numba = pytest.mark.skipif("numba" not in BACKENDS, reason="PMLP_TEST_BACKENDS leaves out numba")


def pool_of(label, outputs=2, members=MEMBERS, dtype="float32", backend="numba", seed=None):
    draw = np.random.default_rng(seed)
    specs = [
        pm.Member(
            [(), (3,), (20, 7)][draw.integers(3)], activation=("relu", "tanh")[draw.integers(2)],
            bias=bool(draw.integers(2)), feature_scale=bool(draw.integers(2)),
        )
        for _ in range(members)
    ]  # fmt: skip
    loss = library_loss(label, outputs) if label in VARIANTS else label
    return pm.Pool(specs, F, outputs, loss, seed=int(draw.integers(1 << 30)), backend=backend, dtype=dtype)


def rows(n, dtype="float32"):
    # Spread, so that raw outputs are in all parts of a link.
    return np.random.default_rng().normal(scale=4.0, size=(n, F)).astype(dtype)


def expected(label, raw):
    """From raw outputs (members, rows, raw outputs), float64: the mean of all that a loss predicts, by method."""
    n_heads = heads(label)
    found = {"forward": raw.mean(axis=0)}
    name = VARIANTS[label][0]
    if name == "cross_entropy":
        p = np.exp(raw - raw.max(axis=2, keepdims=True))
        found["predict_proba"] = (p / p.sum(axis=2, keepdims=True)).mean(axis=0)
        found["predict"] = found["predict_proba"].argmax(axis=1)
    elif name == "binary_cross_entropy":
        found["predict_proba"] = (1.0 / (1.0 + np.exp(-raw))).mean(axis=0)
        found["predict"] = (found["predict_proba"] > 0.5).astype(int)
    elif name == "poisson":
        found["predict"] = np.exp(raw).mean(axis=0)
    elif name == "gaussian_nll":
        found["predict"] = raw[..., ::2].mean(axis=0)
        found["predict_std"] = np.exp(0.5 * raw[..., 1::2]).mean(axis=0)
    elif name == "quantile":
        found["predict_quantiles"] = raw.reshape(*raw.shape[:2], -1, n_heads).mean(axis=0)
        levels = library_loss(label, 2).levels
        found["predict"] = found["predict_quantiles"][..., np.argmin(np.abs(np.array(levels) - 0.5))]
    else:
        found["predict"] = raw.mean(axis=0)
    return found


@pytest.mark.one_in(2)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("n", [1, 33, 300])
@pytest.mark.parametrize("label", VARIANTS)
def test_a_mean_is_that_of_what_members_predict(label, n, dtype, backend):
    pool, X = pool_of(label, dtype=dtype, backend=backend), rows(n, dtype)
    chosen = np.random.default_rng().permutation(pool.ids_)[: MEMBERS - 3]
    for name, mean in expected(label, pool.forward(X, members=chosen).astype(np.float64)).items():
        found = getattr(pool, name)(X, members=chosen, reduce="mean")
        if found.dtype == np.int64:
            # Where two classes are as likely, but for rounding, either may be said.
            p = expected(label, pool.forward(X, members=chosen).astype(np.float64))["predict_proba"]
            best = p.max(axis=1) if label.endswith("cross-entropy") or label == "cross_entropy" else None
            sure = (np.sort(p, axis=1)[:, -2] < best - 1e-5) if best is not None else np.abs(p - 0.5) > 1e-5
            # Of one row all may be in doubt.
            assert np.array_equal(found[sure], mean[sure]) and (sure.mean() > 0.9 or n == 1)
            continue
        assert found.dtype == dtype and found.shape == mean.shape, name
        # A mean may cancel what the members' rounding leaves.
        np.testing.assert_allclose(found, mean, rtol=1e-6 if dtype == "float32" else 1e-12, atol=1e-6, err_msg=name)


def test_many_rows(backend):
    pool, X = pool_of("poisson", members=9, backend=backend), rows(5000)
    mean = expected("poisson", pool.forward(X).astype(np.float64))["predict"]
    np.testing.assert_allclose(pool.predict(X, reduce="mean"), mean, rtol=1e-6)


def test_groups_of_members_are_added_up_one_after_another(backend):
    pool, X = pool_of("squared_error", members=2 * MEAN_GROUP + 5, backend=backend), rows(7)
    raw = pool.forward(X).astype(np.float64)
    total = np.zeros(raw.shape[1:])
    for start in range(0, len(raw), MEAN_GROUP):
        group = np.zeros(raw.shape[1:])
        for each in raw[start : start + MEAN_GROUP]:
            group += each
        total += group
    assert np.array_equal(pool.forward(X, reduce="mean"), (total / len(raw)).astype(np.float32))


@on_numba
@pytest.mark.parametrize("label", ["cross_entropy", "gaussian_nll"])
def test_neither_threads_nor_other_rows_change_a_bit(label, monkeypatch):
    pool, X = pool_of(label, outputs=3), rows(700)
    method = pool.predict_proba if label == "cross_entropy" else pool.predict_std
    whole = method(X, reduce="mean")
    for some in (slice(0, 1), slice(3, 40), slice(130, 700)):
        assert np.array_equal(method(X[some], reduce="mean"), whole[some])
    monkeypatch.setattr(prediction, "_CHUNK_BYTES", 1)
    assert np.array_equal(method(X, reduce="mean"), whole)
    monkeypatch.setattr(numba_backend, "_SUMS_ROWS", 128)
    assert np.array_equal(method(X, reduce="mean"), whole)
    backend = pool._ready()
    part = "link" if label == "cross_entropy" else "deviation"
    for n_threads in (1, 2, 5):
        out = np.empty((len(X), 3))
        backend.mean(np.arange(MEMBERS), backend.place(Dataset([X])), part, out, "last", Control(n_threads=n_threads))
        assert np.array_equal(out.astype(np.float32), whole)


def test_members_with_features_of_their_own():
    draw = np.random.default_rng()
    sets = [sorted(draw.choice(F, size=3, replace=False).tolist()) for _ in range(MEMBERS)]
    X, y = rows(500), draw.normal(size=500)
    pool = pm.Pool([pm.Member(4)] * MEMBERS, F)
    pool.fit(X, y, epochs=1, features=sets, progress=False)
    mean = pool.predict(X).astype(np.float64).mean(axis=0)
    np.testing.assert_allclose(pool.predict(X, reduce="mean"), mean, rtol=1e-6, atol=1e-6)


@pytest.fixture
def emulated(monkeypatch):
    """The table with the backend "emulated"; without g++ these tests are skipped, and fail where CI=true."""
    compiler(("g++",))
    monkeypatch.setitem(backends.BACKENDS, "emulated", emulated_device.ENTRY)


@on_numba
@pytest.mark.one_in(3)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("label", VARIANTS)
def test_a_gpu_has_the_same_bits(label, dtype, emulated, monkeypatch):
    seed, outputs = int(np.random.default_rng().integers(1 << 30)), 3
    ours, theirs = (
        pool_of(label, outputs, members=2 * MEAN_GROUP + 5, dtype=dtype, backend=name, seed=seed)
        for name in ("numba", "emulated")
    )
    X = rows(45, dtype)
    of_member = 45 * outputs * heads(label) * ours.dtype.itemsize
    # All members at once, a group at a time, a part of a group.
    for most in (1 << 28, 100 * of_member, 20 * of_member):
        monkeypatch.setattr(cupy_backend, "_MEAN_BYTES", most)
        for part in library_loss(label, outputs).parts:
            out = [np.empty((45, outputs * (heads(label) if part == "raw" else 1))) for _ in range(2)]
            for pool, each in zip((ours, theirs), out, strict=True):
                backend = pool._ready()
                placed = backend.place(Dataset([X]))
                backend.mean(np.arange(len(pool)), placed, part, each, "last", Control())
            assert np.array_equal(*out), part


@pytest.mark.parametrize("name", ["numba", "emulated"])
def test_links_of_users_losses(name, own_formulas, emulated):
    def error(raw, target):
        both = raw[0] - target
        return v.mean_outputs(both * both) + 0.0 * v.mean_outputs(raw[1]), (
            2.0 * both / v.n_outputs(both), 0.0 * raw[1] / v.n_outputs(both),
        )  # fmt: skip

    def link(raw):
        largest = v.where(v.output_index(raw[0]) == v.argmax_outputs(raw[0]), raw[1], v.exp(raw[0]))
        return largest / v.n_outputs(raw[0])

    pm.register_loss("two_headed", error, heads=2, link=link)
    pool, X = pool_of("two_headed", outputs=3, backend=name), rows(50)
    raw = np.moveaxis(pool.forward(X).astype(np.float64), -1, 0)
    first, second = raw[::2], raw[1::2]
    largest = np.arange(3).reshape(3, 1, 1) == first.argmax(axis=0)
    mean = (np.where(largest, second, np.exp(first)) / 3.0).mean(axis=1).T
    np.testing.assert_allclose(pool.predict(X, reduce="mean"), mean, rtol=1e-6, atol=1e-6)


def test_a_link_must_be_a_formula_of_each_output(own_formulas):
    def error(raw, target):
        return v.mean_outputs((raw - target) * (raw - target)), 2.0 * (raw - target) / v.n_outputs(raw)

    for link, said in ((np.exp, "link of loss 'linked': expected a formula"), (v.sum_outputs, "a value per output")):
        with pytest.raises(pm.DataError, match=said):
            pm.register_loss("linked", error, link=link)
    pm.register_loss("linked", error, link=v.exp)
    pm.register_loss("linked", error, link=lambda raw: v.exp(raw))
    for other in (None, v.absolute):
        with pytest.raises(pm.DataError, match="no other loss has"):
            pm.register_loss("linked", error, link=other)
