"""The pool's public face: members in and out, parts and wholes, files, which weights, and memory."""

import numpy as np
import pytest

import pmlp_np as pm
from pmlp_np.base.errors import readable_bytes
from small_pool import MEMBERS, VALIDATION, F, X, Y, bits, pool_of, same_history, trained

# Members in and out.


def test_extracted_networks_are_copies():
    pool = trained()
    mlp = pool.extract(10)
    before = bits(pool)
    mlp.weights[0][:] = 0
    assert bits(pool) == before
    assert pool.extract(np.int64(30)).bias is False and pool.extract(30).activation == ("gelu",)
    assert [w.shape for w in mlp.weights] == [(4, 5), (5, 4), (4, 1)]
    assert [b.shape for b in mlp.biases] == [(5,), (4,), (1,)]


@pytest.mark.parametrize("loss", ["squared_error", "cross_entropy"])
def test_set_weights_is_the_inverse_of_extract(loss):
    outputs = 3
    source = trained(loss, outputs)
    pool = pool_of(loss, outputs)
    for i in pool.ids_:
        pool.set_weights(i, source.extract(i))
    assert bits(pool) == bits(source)
    assert np.array_equal(pool.forward(X), source.forward(X))


def test_fit_starts_from_weights_that_were_set():
    given = trained().extract(7)
    pool, plain = pool_of(), pool_of()
    pool.set_weights(7, given)
    learned = bits(pool.fit(X, Y, epochs=2))
    assert bits(pool.fit(X, Y, epochs=2)) == learned
    without = bits(plain.fit(X, Y, epochs=2))
    assert learned[7] != without[7]
    assert all(learned[i] == without[i] for i in (10, 30, 20))
    # The same as a member that got its weights and nothing else.
    alone = plain.subset([7])
    alone.set_weights(7, given)
    assert bits(alone.fit(X, Y, epochs=2))[7] == learned[7]


@pytest.mark.parametrize("early_stopping", [False, True])
def test_set_weights_starts_the_members_training_afresh(early_stopping):
    settings = {"early_stopping": early_stopping, "validation_data": VALIDATION}
    pool = trained(epochs=3, **settings)
    others = bits(pool)
    given = pool_of().extract(10)
    pool.set_weights(10, given)
    assert pool.extract(10).weights[0].tobytes() == given.weights[0].tobytes()
    assert pool.predict(X, members=[10]).tobytes() == pool_of().predict(X, members=[10]).tobytes()
    assert {i: learned for i, learned in bits(pool).items() if i != 10} == {i: b for i, b in others.items() if i != 10}
    assert np.isnan(pool.history_["loss"][0]).all() and np.isfinite(pool.history_["loss"][1:]).all()
    record = next(record for record in pool.leaderboard() if record["id"] == 10)
    assert (record["epochs"], record["status"], record["rank"]) == (0, "untrained", 4)
    # Its optimizer's state is gone, too: it learns what a new pool learns.
    fresh = pool_of().fit(X, Y, epochs=2, validation_data=VALIDATION)
    pool.partial_fit(X, Y, epochs=2, validation_data=VALIDATION)
    assert bits(pool, "last")[10] == bits(fresh)[10]


# Parts and wholes.


def test_subset_keeps_all_that_its_members_are():
    pool = trained(epochs=3, validation_data=VALIDATION)
    pool.set_weights(30, pool_of().extract(30))
    part = pool.subset([20, 30, 10])
    assert part.ids_.tolist() == [20, 30, 10]
    assert list(part.specs) == [MEMBERS[3], MEMBERS[2], MEMBERS[0]]
    assert bits(part) == {i: bits(pool)[i] for i in (20, 30, 10)}
    assert same_history(part.history_, {name: curve[[3, 2, 0]] for name, curve in pool.history_.items()})
    for name in ("stream_key", "order_key"):
        assert np.array_equal(getattr(part._plan, name), getattr(pool._plan, name)[[3, 2, 0]])
    # As text, in which NaN equals NaN.
    by_id = {record["id"]: str(record | {"rank": 0}) for record in pool.leaderboard()}
    for record in part.leaderboard():
        assert str(record | {"rank": 0}) == by_id[record["id"]]
    # Both go on as if nothing had happened, and independently of each other.
    before = bits(pool)
    part.partial_fit(X, Y, epochs=2, batch_size=8)
    assert bits(pool) == before
    pool.partial_fit(X, Y, epochs=2, batch_size=8)
    assert bits(part) == {i: bits(pool)[i] for i in (20, 30, 10)}
    part.fit(X, Y, shuffle="member")
    pool.fit(X, Y, shuffle="member")
    assert bits(part) == {i: bits(pool)[i] for i in (20, 30, 10)}
    assert part.subset([30]).ids_.tolist() == [30]


def test_subset_of_an_untrained_pool():
    part = pool_of().subset([20])
    assert bits(part)[20] == bits(pool_of())[20]


@pytest.mark.parametrize("are_trained", [(True, True), (True, False), (False, True), (False, False)])
def test_concat_keeps_all_that_the_members_are(are_trained):
    a, b = pool_of(), pm.Pool(MEMBERS[:2], F, seed=8, ids=[30, 31])
    for pool, is_trained in zip((a, b), are_trained, strict=True):
        if is_trained:
            pool.fit(X, Y, epochs=3, batch_size=8, validation_data=VALIDATION if pool is b else None)
    a.set_weights(7, a.extract(7))
    before = bits(a), bits(b), {name: curve.copy() for name, curve in a.history_.items()}
    whole = pm.concat([a, b])
    assert whole.ids_.tolist() == [10, 7, 30, 20, 32, 31]
    assert list(whole.specs) == MEMBERS + MEMBERS[:2]
    expected = bits(a) | {32: bits(b)[30], 31: bits(b)[31]}
    assert bits(whole) == expected
    for curve in whole.history_.values():
        assert curve.shape == (6, 3)
    whole.partial_fit(X, Y, epochs=2, batch_size=8)
    assert (bits(a), bits(b)) == before[:2] and same_history(a.history_, before[2])
    for pool in (a, b):
        pool.partial_fit(X, Y, epochs=2, batch_size=8)
    assert bits(whole) == bits(a) | {32: bits(b)[30], 31: bits(b)[31]}
    # Keys came along: each starts again where it would have alone.
    for pool in (a, b, whole):
        pool.fit(X, Y)
    assert bits(whole) == bits(a) | {32: bits(b)[30], 31: bits(b)[31]}


def test_concat_leaves_its_arguments_alone():
    a, b = trained(epochs=1), trained(epochs=3, validation_data=VALIDATION)
    pm.concat([a, b])
    assert list(a.history_) == ["loss"] and a.history_["loss"].shape == (4, 1)


def test_concat_of_one_or_the_same():
    pool = trained()
    assert bits(pm.concat([pool])) == bits(pool)
    twice = pm.concat([pool, pool])
    assert twice.ids_.tolist() == [10, 7, 30, 20, 31, 32, 33, 34]
    assert list(bits(twice).values()) == list(bits(pool).values()) * 2


def test_subset_and_concat_are_inverse():
    pool = trained(validation_data=VALIDATION, early_stopping=True)
    again = pm.concat([pool.subset([10]), pool.subset([7, 30]), pool.subset([20])])
    assert again.ids_.tolist() == pool.ids_.tolist()
    for weights in ("last", "best"):
        assert bits(again, weights) == bits(pool, weights)
    assert same_history(again.history_, pool.history_)
    assert str(again.leaderboard()) == str(pool.leaderboard())


def test_concat_of_pools_of_which_one_stopped_early():
    """Members whose best weights nobody kept are at their best where they stand, and so are those that go on without
    validation."""
    a, b = trained(validation_data=VALIDATION, early_stopping=True), trained()
    whole = pm.concat([a, b])
    assert list(bits(whole, "best").values()) == [*bits(a, "best").values(), *bits(b).values()]
    whole.partial_fit(X, Y, epochs=2)
    b.partial_fit(X, Y, epochs=2)
    a.partial_fit(X, Y, epochs=2)
    for weights in (None, "best", "last"):
        assert list(bits(whole, weights).values()) == [*bits(a, "last").values(), *bits(b).values()]


# Files.


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shuffle", ["shared", "member"])
def test_files_hold_all_that_training_needs(tmp_path, shuffle, dtype):
    pool = trained(dtype=dtype, validation_data=VALIDATION, early_stopping=True, shuffle=shuffle)
    pool.set_weights(30, pool_of(dtype=dtype).extract(30))
    pool.save(tmp_path / "run.pmlp")
    again = pm.load(tmp_path / "run.pmlp")
    assert repr(again) == repr(pool)
    assert again.ids_.tolist() == pool.ids_.tolist() and again.specs == pool.specs
    assert (again.ended_, again.status_) == (pool.ended_, pool.status_)
    assert str(again.leaderboard()) == str(pool.leaderboard())
    for weights in (None, "last", "best"):
        assert bits(again, weights) == bits(pool, weights)
    assert same_history(again.history_, pool.history_)
    for each in (pool, again):
        each.partial_fit(X, Y, epochs=3, shuffle=shuffle, validation_data=VALIDATION, early_stopping=True)
    assert bits(again, "last") == bits(pool, "last") and bits(again, "best") == bits(pool, "best")
    assert same_history(again.history_, pool.history_)
    for each in (pool, again):
        each.fit(X, Y, shuffle=shuffle)
    assert bits(again) == bits(pool)


def test_files_of_untrained_pools(tmp_path):
    pool = pool_of()
    pool.save(str(tmp_path / "run.pmlp"))
    again = pm.load(str(tmp_path / "run.pmlp"))
    assert bits(again) == bits(pool)
    assert bits(again.fit(X, Y)) == bits(pool.fit(X, Y))
    again.save(tmp_path / "run.pmlp")
    assert bits(pm.load(tmp_path / "run.pmlp")) == bits(pool)


# Which weights.


def test_last_and_best_weights():
    pool = pm.Pool(pm.grid(hidden=[3, 8], learning_rate=[0.3, 0.5]), F)
    pool.fit(X, Y, epochs=15, validation_data=VALIDATION, early_stopping=True, patience=15)
    worst_last = pool.history_["validation_loss"][:, -1] > pool.history_["validation_loss"].min(axis=1)
    assert worst_last.any(), "the last epoch was everybody's best, nothing tested"
    for ask in (lambda w: pool.evaluate(*VALIDATION, weights=w), lambda w: pool.forward(X, weights=w)):
        assert np.array_equal(ask(None), ask("best"))
        assert not np.array_equal(ask("last"), ask("best"))
    np.testing.assert_allclose(
        pool.evaluate(*VALIDATION, weights="best"), pool.history_["validation_loss"].min(axis=1), rtol=1e-6
    )
    np.testing.assert_allclose(
        pool.evaluate(*VALIDATION, weights="last"), pool.history_["validation_loss"][:, -1], rtol=1e-6
    )
    assert bits(pool) == bits(pool, "best") != bits(pool, "last")
    assert np.array_equal(pool.predict(X), pool.predict(X, weights="best"))
    # Best weights are beside the training state, not in it: training goes on from the last.
    plain = pm.Pool(pm.grid(hidden=[3, 8], learning_rate=[0.3, 0.5]), F).fit(X, Y, epochs=15)
    assert bits(plain) == bits(pool, "last")
    assert bits(plain.partial_fit(X, Y)) == bits(pool.partial_fit(X, Y), "last")
    with pytest.raises(pm.DataError, match="^weights: expected 'last' or 'best', got 'average'"):
        pool.predict(X, weights="average")
    for ask in (lambda: plain.predict(X, weights="best"), lambda: plain.extract(0, "best")):
        with pytest.raises(pm.DataError, match="^weights: expected 'last', got 'best'. .*early_stopping=True"):
            ask()
    assert bits(plain) == bits(plain, "last")


def test_the_leaderboard_shows_figures_of_the_best_epoch():
    pool = pm.Pool(pm.grid(hidden=[3, 8], learning_rate=[0.3, 0.5]), F)
    pool.fit(X, Y, epochs=15, validation_data=VALIDATION, early_stopping=True, patience=15)
    best = pool.history_["validation_loss"].argmin(axis=1)
    for record in pool.leaderboard():
        i = record["id"]
        assert record["best_epoch"] == best[i] + 1
        for name in ("loss", "validation_loss", "validation_score"):
            assert record[name] == pool.history_[name][i, best[i]], name


# Memory.


def test_a_pool_that_would_not_fit_says_how_much_it_needs(monkeypatch):
    monkeypatch.setattr("pmlp_np.base.errors.SMALL_NEED", 0)
    monkeypatch.setattr("pmlp_np.base.errors.free_memory", lambda: 100)
    # 31 weights and biases, and for Adam two numbers more with each.
    for dtype, size in (("float32", 372), ("float64", 744)):
        expected = (
            f"^specs: expected no more than the 100 bytes of memory that are free, got a need of {size} bytes. Train"
        )
        with pytest.raises(pm.MemoryNeededError, match=expected):
            pm.Pool([pm.Member(hidden=10)], 1, dtype=dtype)
    monkeypatch.undo()
    with pytest.raises(pm.MemoryNeededError, match=r"^specs: .*a need of [0-9,]+ TB\. Train fewer or smaller members"):
        pm.Pool(pm.grid(hidden=[(2**20, 2**20)], repeats=100), 1)


@pytest.mark.parametrize("method", ["forward", "predict", "predict_proba"])
def test_a_result_that_would_not_fit_says_how_much_it_needs(method, monkeypatch):
    pool = trained("binary_cross_entropy", 3)
    before = getattr(pool, method)(X)
    monkeypatch.setattr("pmlp_np.base.errors.SMALL_NEED", 0)
    monkeypatch.setattr("pmlp_np.base.errors.free_memory", lambda: before.nbytes - 1)
    need = readable_bytes(before.nbytes)
    with pytest.raises(
        pm.MemoryNeededError, match=rf"^result: .* got a need of {need}\. Ask for fewer members= or rows"
    ):
        getattr(pool, method)(X)
    assert np.array_equal(getattr(pool, method)(X, members=[10]), before[:1])
    assert np.array_equal(getattr(pool, method)(X, out=np.empty_like(before)), before)
    assert getattr(pool, method)(X, reduce="mean").shape == before.shape[1:]
