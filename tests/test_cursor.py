"""The cursor: an epoch that was cut short goes on with what it was begun with, and begins anew with anything else."""

import itertools
from types import SimpleNamespace

import numpy as np
import pytest

import pmlp_np as pm
from pmlp_np.training.data_keys import row_keys

F, N = 3, 40
SPECS = [pm.Member(hidden=4), pm.Member(hidden=5, batch_size=7), pm.Member(hidden=(3, 2), activation="tanh")]
HOW = {"batch_size": 4, "progress": False}
# Where each member stands after the cut, in minibatches; the second one's are of 7 rows.
CUT = 3


@pytest.fixture
def cut_short(monkeypatch):
    """Train a fresh epoch and cut it short after some minibatches: by the clock of budgets, which says at a look that
    it is over. The reference backend looks after every minibatch, of members that march in step together."""

    def cut(pool, *data, call="fit", at=CUT, **how):
        # Looked at when it begins and before the first epoch.
        looks = itertools.chain([0.0] * (2 + at - 1), itertools.repeat(1e9))
        with monkeypatch.context() as patch:
            patch.setattr("pmlp_np.training.loop.time", SimpleNamespace(monotonic=lambda: next(looks)))
            getattr(pool, call)(*data, time_budget=5.0, **{**HOW, **how})
        assert pool.ended_ == "time budget" and pool._progress.minibatch.any(), "it was not cut short"
        return pool

    return cut


def fresh(dtype="float32"):
    return pm.Pool(SPECS, F, backend="reference", dtype=dtype, seed=int(np.random.default_rng().integers(2**32)))


def drawn(n=N):
    rng = np.random.default_rng()
    return rng.normal(size=(n, F)), rng.normal(size=n)


def bits(pool):
    mlps = [pool.extract(i, "last") for i in pool.ids_]
    return b"".join(a.tobytes() for mlp in mlps for a in mlp.weights + mlp.biases)


def steps_left(pool, *data, **how):
    """Minibatches that one epoch more takes of each member that is under way."""
    under_way = pool._progress.minibatch > 0
    assert under_way.any()
    before = pool._progress.step.copy()
    pool.partial_fit(*data, **{**HOW, **how})
    assert not pool._progress.minibatch.any()
    return (pool._progress.step - before)[under_way].tolist()


def whole(pool, under_way, n=N, batch_size=4):
    own = np.where(pool.specs.batch_size > 0, pool.specs.batch_size, batch_size)
    return (-(-n // own))[under_way].tolist()


SAME = {
    "the same": lambda X, y: (X, y),
    "lists": lambda X, y: (X.tolist(), y.tolist()),
    "column-major": lambda X, y: (np.asfortranarray(X), y[:, None]),
    "of a wider table": lambda X, y: (np.hstack([X, X])[:, :F], np.repeat(y, 2)[::2]),
    "every other row": lambda X, y: (np.repeat(X, 2, axis=0)[::2], y),
    "after the cast": lambda X, y: (X.astype(np.float32), y.astype(np.float32).astype(np.float64)),
}


@pytest.mark.parametrize("form", SAME)
def test_the_same_data_in_any_form_finish_the_epoch(cut_short, form):
    (X, y), pool = drawn(), fresh()
    cut_short(pool, X, y)
    cursors, full = pool._progress.minibatch.copy(), whole(pool, slice(None))
    expected = [f - c for f, c in zip(full, cursors, strict=True) if c]
    whole_epoch = pm.concat([pool]).fit(X, y, **HOW)
    assert steps_left(pool, *SAME[form](X, y)) == expected
    finished = np.flatnonzero(cursors)
    assert np.array_equal(pool.history_["loss"][finished, 0], whole_epoch.history_["loss"][finished, 0])


OTHERS = {
    "another batch size": lambda X, y: ((X, y), {"batch_size": 5}),
    "another order": lambda X, y: ((X, y), {"shuffle": None}),
    "orders of their own": lambda X, y: ((X, y), {"shuffle": "member"}),
    "other features": lambda X, y: ((X + (np.arange(N) == N - 1)[:, None], y), {}),
    "other targets": lambda X, y: ((X, -y), {}),
    "one other target": lambda X, y: ((X, y + 1e-6 * (np.arange(N) == 0)), {}),
    "rows in another order": lambda X, y: ((X[::-1], y[::-1]), {}),
    "weights": lambda X, y: ((X, y), {"sample_weight": np.linspace(1, 2, N)}),
    "other rows": lambda X, y: ((X, y), {"rows": np.r_[1:N, 0]}),
    "more rows": lambda X, y: ((np.vstack([X, X[:1]]), np.r_[y, y[:1]]), {}),
    "fewer rows": lambda X, y: ((X[:-1], y[:-1]), {}),
}


@pytest.mark.parametrize("other", OTHERS)
def test_with_anything_else_it_begins_anew(cut_short, other):
    (X, y), pool = drawn(), fresh("float64")
    cut_short(pool, X, y)
    under_way = pool._progress.minibatch > 0
    data, how = OTHERS[other](X, y)
    if other == "another batch size":
        # Not for the member whose spec names its own.
        pool, under_way = pool.subset(pool.ids_[under_way & (pool.specs.batch_size == 0)]), None
        under_way = pool._progress.minibatch > 0
    if other == "other rows":
        how = {"rows": [how["rows"]] * len(pool)}
    assert steps_left(pool, *data, **how) == whole(pool, under_way, len(data[0]), how.get("batch_size", 4))
    # The loss of the epoch is of the new one alone.
    assert np.isfinite(pool.history_["loss"][under_way]).all()


def test_a_member_whose_batch_size_is_its_own_goes_on(cut_short):
    (X, y), pool = drawn(), fresh().subset([1])
    cut_short(pool, X, y)
    assert steps_left(pool, X, y, batch_size=33) == [-(-N // 7) - CUT]


def test_rows_of_each_member_tell_by_what_it_sees(cut_short):
    """A bootstrap is the same whether it is given by row numbers or lies in X; others of equal length are others."""
    (X, y), pool = drawn(), fresh().subset([0])
    rows = np.random.default_rng().integers(0, N, N)
    cut_short(pool, X, y, rows=[rows])
    again = pm.concat([pool])
    assert steps_left(pool, X[rows], y[rows]) == [N // 4 - CUT]
    assert steps_left(again, X, y, rows=[np.roll(rows, 1)]) == [N // 4]


@pytest.mark.parametrize("own", ["targets", "sample_weight"])
def test_targets_and_weights_of_each_member(cut_short, own):
    (X, y), rng = drawn(), np.random.default_rng()
    each = rng.uniform(0.5, 2.0, (3, N))
    data, how = ((X, None), {"targets": each}) if own == "targets" else ((X, y), {"sample_weight": each})
    pool = fresh()
    cut_short(pool, *data, **how)
    under_way = np.flatnonzero(pool._progress.minibatch)
    others = each.copy()
    others[under_way[0]] = each[under_way[0]][::-1]
    left = steps_left(pool, *data, **{own: others})
    assert left[0] == whole(pool, under_way)[0]
    assert left[1:] == [n - CUT for n in whole(pool, under_way)[1:]]


@pytest.mark.parametrize("way", ["file", "subset", "concat", "cut again", "others first"])
def test_the_key_is_kept(cut_short, way, tmp_path):
    (X, y), pool = drawn(), fresh()
    cut_short(pool, X, y)
    under_way = np.flatnonzero(pool._progress.minibatch)
    expected = [n - CUT for n in whole(pool, under_way)]
    if way == "file":
        pool.save(tmp_path / "cut.pmlp")
        pool = pm.load(tmp_path / "cut.pmlp")
    elif way == "subset":
        pool = pool.subset(pool.ids_[under_way[::-1]])
        expected = expected[::-1]
    elif way == "concat":
        pool = pm.concat([fresh(), pool])
    elif way == "cut again":
        cut_short(pool, X, y, call="partial_fit", at=1)
        expected[0] -= 1
    else:
        resting = pool.ids_[pool._progress.minibatch == 0]
        if not len(resting):
            pool.set_weights(0, pool.extract(0))
            resting, expected = [0], expected[1:]
        pool.partial_fit(-X, y, members=resting, **HOW)
    assert steps_left(pool, X, y) == expected


def test_of_the_numba_backend(monkeypatch):
    """Members that are cut short are those that its threads were at."""
    rng = np.random.default_rng()
    X = rng.normal(size=(60_000, F)).astype(np.float32)
    y = X[:, 0] * X[:, 1]
    how = {"batch_size": 1, "shuffle": None, "progress": False}
    pool = pm.Pool(pm.grid(hidden=[24, 17], activation=["tanh", "gelu"]), F)
    looks = iter([0.0, 0.0])
    with monkeypatch.context() as patch:
        patch.setattr("pmlp_np.training.loop.time", SimpleNamespace(monotonic=lambda: next(looks, 1e9)))
        pool.fit(X, y, time_budget=5.0, n_threads=1, **how)
    (first, *_), steps = np.flatnonzero(pool._progress.minibatch), pool._progress.step.copy()
    other = pool.subset([first])
    pool.partial_fit(X, y, members=[first], **how)
    assert pool._progress.step[first] == len(X) and pool._progress.epoch[first] == 1
    other.partial_fit(X, -y, **how)
    assert other._progress.step[0] == steps[first] + len(X)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("k", [1, 2, 5])
def test_rows_that_differ_in_a_bit_have_other_keys(dtype, k):
    rng = np.random.default_rng()
    x = rng.normal(size=(2000, k)).astype(dtype)
    keys = row_keys(x)
    assert len(np.unique(keys)) == len(x) and np.array_equal(row_keys(np.asfortranarray(x)), keys)
    assert np.array_equal(np.concatenate([row_keys(x[:7]), row_keys(x[7:])]), keys)
    row, column = rng.integers(2000), rng.integers(k)
    x[row, column] = np.nextafter(x[row, column], x.dtype.type(np.inf))
    assert np.flatnonzero(row_keys(x) != keys).tolist() == [row]
