"""The pool's public face: what it is, predictions, training and the leaderboard, as documented, on small pools."""

import numpy as np
import pytest

import oracle
import pmlp_np as pm
from conftest import requires
from small_pool import MEMBERS, VALIDATION, F, N, X, Y, bits, draw_y, pool_of, same_history, trained

KEYS = [
    "rank", "id", "architecture", "hidden", "activation", "optimizer", "learning_rate", "parameters", "epochs",
    "minibatch", "status", "loss", "validation_loss", "metric", "validation_score", "best_epoch",
]  # fmt: skip
# float32 sums in another order than NumPy's; float64 the same.
CLOSE = {"float32": {"rtol": 2e-5, "atol": 2e-5}, "float64": {"rtol": 1e-12, "atol": 1e-12}}
# (loss, outputs)
PROBLEMS = [
    ("squared_error", 1),
    ("squared_error", 3),
    ("binary_cross_entropy", 1),
    ("binary_cross_entropy", 3),
    ("cross_entropy", 2),
    ("cross_entropy", 4),
]

# What it is.


def test_what_it_says_about_itself():
    pool = pool_of("cross_entropy", 3)
    assert len(pool) == 4
    assert pool.ids_.tolist() == [10, 7, 30, 20] and pool.ids_.dtype == np.int64
    assert (pool.n_features, pool.n_outputs, pool.loss, pool.dtype) == (4, 3, "cross_entropy", np.float32)
    assert list(pool.specs) == MEMBERS
    assert (pool.history_, pool.ended_, pool.status_) == ({}, "", ["ok"] * 4)
    assert repr(pool) == (
        "Pool(4 members: widths 3-20, depth 0-2, 4 activations, sgd, adam, adamw; 4 features, 3 outputs, "
        "cross_entropy, float32, backend 'numba', 0 epochs)"
    )
    pool.fit(X, draw_y("cross_entropy", 3), epochs=2)
    assert "2 epochs" in repr(pool) and pool.ended_ == "done"
    assert pm.Pool(pm.Member(hidden=2), 1).ids_.tolist() == [0]
    assert pm.Pool(pm.grid(hidden=[2, 3]), 1, backend="auto").backend == "numba"


@pytest.mark.parametrize("dtype", ["float32", "float64", np.float64, np.dtype("f4")])
def test_dtypes(dtype):
    pool = pm.Pool(MEMBERS, F, dtype=dtype)
    assert pool.dtype == np.dtype(dtype)
    assert pool.forward(X).dtype == np.dtype(dtype)
    assert pool.extract(0).dtype == np.dtype(dtype)


def test_initial_weights_follow_from_seeds_and_ids_alone():
    pool = pool_of()
    for i, member in zip(pool.ids_.tolist(), MEMBERS, strict=True):
        key = oracle.stream_key(3, i, member.seed)
        weights, biases = oracle.initial_weights(member, F, 1, key)
        mlp = pool.extract(i)
        for found, expected in zip(mlp.weights + mlp.biases, weights + biases, strict=True):
            np.testing.assert_allclose(found, expected.astype(np.float32), rtol=1e-6)
    other = pm.Pool(MEMBERS[::-1], F, seed=3, ids=[20, 30, 7, 10])
    assert bits(other) == bits(pool)
    with_another_seed = bits(pm.Pool(MEMBERS, F, seed=4, ids=[10, 7, 30, 20]))
    assert [with_another_seed[i] == bits(pool)[i] for i in (10, 7, 30, 20)] == [False, False, False, True]


# Predictions.


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("loss", "outputs"), PROBLEMS)
def test_predictions_are_those_of_the_extracted_members(loss, outputs, dtype):
    pool = trained(loss, outputs, dtype)
    raw, values = pool.forward(X), pool.predict(X)
    assert raw.shape == (4, N, outputs) and raw.dtype == dtype
    per_row = () if loss == "cross_entropy" or outputs == 1 else (outputs,)
    assert values.shape == (4, N, *per_row)
    assert values.dtype == (dtype if loss == "squared_error" else np.int64)
    for i, member_id in enumerate(pool.ids_):
        mlp = pool.extract(member_id)
        np.testing.assert_allclose(raw[i], mlp.forward(X), **CLOSE[dtype])
        if loss == "squared_error":
            assert np.array_equal(values[i], raw[i].reshape(values[i].shape))
        else:
            expected = raw[i].argmax(axis=1) if loss == "cross_entropy" else (raw[i] > 0).reshape(values[i].shape)
            assert np.array_equal(values[i], expected)
            probabilities = pool.predict_proba(X)
            assert probabilities.shape == (4, N, outputs) and probabilities.dtype == dtype
            np.testing.assert_allclose(probabilities[i], mlp.predict_proba(X), **CLOSE[dtype])


def test_no_probabilities_for_values():
    with pytest.raises(pm.DataError, match="^loss: expected one that defines probabilities, got 'squared_error'"):
        pool_of().predict_proba(X)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("loss", "outputs"), PROBLEMS)
def test_evaluate_is_the_mean_loss_over_all_rows(loss, outputs, dtype):
    pool = trained(loss, outputs, dtype)
    for rows in (N, 1, 33):
        x, y = X[:rows], draw_y(loss, outputs)[:rows]
        found = pool.evaluate(x, y)
        assert found.shape == (4,) and found.dtype == np.float64
        expected = [oracle.LOSSES[loss](raw.astype(np.float64), y)[0] for raw in pool.forward(x)]
        np.testing.assert_allclose(found, expected, **CLOSE[dtype])
        assert np.array_equal(pool.evaluate(x, y, members=[20, 10]), found[[3, 0]])


def test_losses_are_added_up_in_float64(backend):
    """Of many rows with the same loss the mean is that loss; a float32 sum of as many drifts away from it."""
    n, members = 60_000, [pm.Member(hidden=(), zero_last=True, optimizer=pm.SGD(0.01))] * 2
    x, y = np.zeros((n, 1), np.float32), np.full(n, 1.1, np.float32)
    pool = pm.Pool(members, 1, backend=backend)
    each = float(y[0] * y[0])
    np.testing.assert_allclose(pool.evaluate(x, y), each, rtol=1e-12)
    pool.fit(x, y, batch_size=n)
    assert (pool.history_["loss"] == np.float32(each)).all()


METHODS = ["forward", "predict", "predict_proba"]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("loss", ["binary_cross_entropy", "cross_entropy"])
def test_members_are_asked_in_the_order_given(loss, method):
    ask = getattr(trained(loss, 3), method)
    everyone = ask(X)
    for ids in ([20, 10], np.array([7]), (30, 30, 7), [10, 7, 30, 20]):
        places = [[10, 7, 30, 20].index(i) for i in ids]
        assert np.array_equal(ask(X, members=ids), everyone[places])
    assert np.array_equal(ask(X, members=30), everyone[2:3])


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("loss", "outputs"), PROBLEMS[2:])
def test_results_are_written_where_they_are_wanted(loss, outputs, method):
    ask = getattr(trained(loss, outputs), method)
    for reduce in (None, "mean"):
        expected = ask(X, reduce=reduce)
        dense = np.full_like(expected, 77)
        assert ask(X, out=dense, reduce=reduce) is dense
        assert np.array_equal(dense, expected)
        sparse = np.full((*expected.shape[:-1], 2 * expected.shape[-1]), 77, expected.dtype)
        assert np.array_equal(ask(X, out=sparse[..., ::2], reduce=reduce), expected)
        assert (sparse[..., 1::2] == 77).all()


@pytest.mark.parametrize(("loss", "outputs"), PROBLEMS)
def test_means_over_members(loss, outputs):
    pool = trained(loss, outputs)
    raw = pool.forward(X).astype(np.float64)
    np.testing.assert_allclose(pool.forward(X, reduce="mean"), raw.mean(axis=0), rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(pool.forward(X, members=[7, 20], reduce="mean"), raw[[1, 3]].mean(axis=0), rtol=1e-6)
    mean = pool.predict(X, reduce="mean")
    if loss == "squared_error":
        np.testing.assert_allclose(mean, pool.predict(X).mean(axis=0), rtol=1e-5, atol=1e-6)
        return
    probabilities = pool.predict_proba(X).astype(np.float64).mean(axis=0)
    np.testing.assert_allclose(pool.predict_proba(X, reduce="mean"), probabilities, rtol=1e-6)
    assert mean.dtype == np.int64
    if loss == "cross_entropy":
        assert np.array_equal(mean, probabilities.argmax(axis=1))
    else:
        assert np.array_equal(mean, (probabilities > 0.5).astype(int).reshape(mean.shape))


@pytest.mark.parametrize(("loss", "outputs"), PROBLEMS[1:])
def test_results_made_in_pieces_are_the_same(loss, outputs, monkeypatch):
    pool = trained(loss, outputs)
    methods = [pool.forward, pool.predict] + [pool.predict_proba] * (loss != "squared_error")
    expected = [method(X, reduce=reduce) for method in methods for reduce in (None, "mean")]
    for size in (1, 2 * N * outputs * 4):
        monkeypatch.setattr("pmlp_np.pool.prediction._CHUNK_BYTES", size)
        found = [method(X, reduce=reduce) for method in methods for reduce in (None, "mean")]
        for a, b in zip(found, expected, strict=True):
            assert np.array_equal(a, b)


# Training: what fit and partial_fit promise. Early stopping and interrupts are in test_training.py.


@pytest.mark.parametrize("shuffle", ["shared", "member", None])
def test_partial_fit_goes_on_where_fit_ended(shuffle):
    y = draw_y()
    settings = {"batch_size": 8, "shuffle": shuffle, "validation_data": VALIDATION}
    whole = pool_of().fit(X, y, epochs=5, **settings)
    parts = pool_of().fit(X, y, epochs=2, **settings)
    assert parts.partial_fit(X, y, epochs=3, **settings) is parts
    assert bits(parts) == bits(whole)
    assert same_history(parts.history_, whole.history_)
    from_nothing = pool_of().partial_fit(X, y, epochs=5, **settings)
    assert bits(from_nothing) == bits(whole)


def test_fit_starts_again():
    pool = pool_of()
    initial = bits(pool)
    first = bits(pool.fit(X, Y, epochs=3))
    history = pool.history_
    assert pool.fit(X, Y, epochs=3) is pool
    assert bits(pool) == first and first != initial
    assert same_history(pool.history_, history)
    pool.fit(X, Y, epochs=1)
    assert pool.history_["loss"].shape == (4, 1)
    assert [record["epochs"] for record in pool.leaderboard()] == [1] * 4


def test_shuffles_differ():
    found = [bits(trained(shuffle=shuffle)) for shuffle in ("shared", "member", None)]
    for i in (10, 7, 30, 20):
        assert len({learned[i] for learned in found}) == 3


def test_history():
    pool = trained(epochs=3)
    assert list(pool.history_) == ["loss"]
    assert pool.history_["loss"].shape == (4, 3) and pool.history_["loss"].dtype == np.float32
    assert np.isfinite(pool.history_["loss"]).all()
    pool.partial_fit(X, Y, epochs=2, validation_data=VALIDATION)
    assert set(pool.history_) == {"loss", "validation_loss", "validation_score"}
    for name, curve in pool.history_.items():
        assert curve.shape == (4, 5)
        assert np.isnan(curve[:, :3]).all() == (name != "loss")
        assert np.isfinite(curve[:, 3:]).all()
    validation_loss = pool.history_["validation_loss"][:, -1]
    np.testing.assert_allclose(validation_loss, pool.evaluate(*VALIDATION), rtol=1e-6)
    np.testing.assert_allclose(pool.history_["validation_score"][:, -1], np.sqrt(validation_loss), rtol=1e-5)


def test_the_loss_curve_is_the_mean_of_minibatch_losses_before_each_update():
    x, y = X[:20], Y[:20]
    pool = pm.Pool([pm.Member(hidden=3, optimizer=pm.SGD(learning_rate=0.5))], F, dtype="float64")
    mlp = pool.extract(0)
    losses = []
    for rows in (slice(0, 8), slice(8, 16), slice(16, 20)):
        one = pm.Pool([pm.Member(hidden=3, optimizer=pm.SGD(learning_rate=0.5))], F, dtype="float64")
        one.set_weights(0, mlp)
        losses.append(one.evaluate(x[rows], y[rows])[0])
        mlp = one.fit(x[rows], y[rows], batch_size=20, shuffle=None).extract(0)
    pool.fit(x, y, batch_size=8, shuffle=None)
    np.testing.assert_allclose(pool.history_["loss"], [[np.mean(losses)]], rtol=1e-6)
    np.testing.assert_allclose(pool.extract(0).weights[0], mlp.weights[0], rtol=1e-12)


def test_a_members_batch_size_wins_over_fits():
    shape = {"hidden": 5, "seed": 1}
    pool = pm.Pool([pm.Member(**shape, batch_size=size) for size in (7, None, 1000)], F)
    pool.fit(X, Y, epochs=3, batch_size=16)
    found = bits(pool)
    for i, size in enumerate((7, 16, N)):
        alone = pm.Pool([pm.Member(**shape)], F).fit(X, Y, epochs=3, batch_size=size)
        assert found[i] == bits(alone)[0]
    assert len(set(found.values())) == 3


@pytest.mark.parametrize("n_threads", [1, 3])
def test_threads_change_nothing(n_threads, monkeypatch):
    expected = bits(trained())
    # Without this, work as small as this one is done by the calling thread.
    monkeypatch.setattr("pmlp_np.backends.numba.task_runner.SMALL_WORK", 0)
    assert bits(trained(n_threads=n_threads)) == expected


# The leaderboard.


def test_leaderboard_before_training():
    board = pool_of("cross_entropy", 2).leaderboard()
    assert isinstance(board, list)
    assert [list(record) for record in board] == [KEYS] * 4
    assert [record["id"] for record in board] == [10, 7, 30, 20]
    assert [record["rank"] for record in board] == [1, 2, 3, 4]
    assert {record["status"] for record in board} == {"untrained"}
    assert {record["metric"] for record in board} == {"accuracy"}
    assert all(np.isnan(record["loss"]) for record in board)


def test_leaderboard_describes_members():
    record = next(record for record in trained().leaderboard() if record["id"] == 10)
    assert type(record) is dict
    assert record["architecture"] == "5-4 tanh-relu"
    assert (record["hidden"], record["activation"]) == ((5, 4), ("tanh", "relu"))
    assert (record["optimizer"], record["learning_rate"]) == ("adam", 0.05)
    assert record["parameters"] == 4 * 5 + 5 + 5 * 4 + 4 + 4 + 1
    assert (record["epochs"], record["minibatch"], record["status"]) == (3, 0, "ok")
    assert (record["metric"], record["best_epoch"]) == ("rmse", None)
    for name, kind in {"rank": int, "id": int, "parameters": int, "loss": float, "validation_loss": float}.items():
        assert type(record[name]) is kind


def test_without_validation_the_training_loss_ranks():
    pool = trained()
    board = pool.leaderboard()
    losses = [record["loss"] for record in board]
    assert losses == sorted(losses)
    by_id = dict(zip(pool.ids_.tolist(), pool.history_["loss"][:, -1].tolist(), strict=True))
    assert {record["id"]: record["loss"] for record in board} == by_id
    assert all(np.isnan(record["validation_loss"]) for record in board)


@pytest.mark.parametrize(("loss", "outputs", "sign"), [("squared_error", 1, 1), ("cross_entropy", 3, -1)])
def test_with_validation_the_score_ranks_and_its_loss_breaks_ties(loss, outputs, sign):
    members = pm.grid(hidden=[2, 3, 4], learning_rate=[1e-3, 1e-2, 0.1])
    pool = pm.Pool(members, F, n_outputs=outputs, loss=loss)
    pool.fit(X, draw_y(loss, outputs), epochs=3, validation_data=(X[:6], draw_y(loss, outputs)[:6]))
    board = pool.leaderboard()
    ranking = [(sign * record["validation_score"], record["validation_loss"]) for record in board]
    assert ranking == sorted(ranking)
    if loss == "cross_entropy":
        assert len({score for score, _ in ranking}) < len(ranking), "no tie, nothing tested"
        labels = pool.predict(X[:6])
        accuracy = (labels == draw_y(loss, outputs)[:6]).mean(axis=1)
        for record in board:
            assert record["validation_score"] == pytest.approx(accuracy[record["id"]])


def test_diverged_members_come_last():
    members = [pm.Member(hidden=3, optimizer=pm.SGD(learning_rate=rate)) for rate in (1e30, 0.01, 1e30, 0.1)]
    with pytest.warns(pm.DivergedWarning, match="2 of 4 members diverged: ids 4, 2"):
        pool = pm.Pool(members, F, ids=[4, 3, 2, 1]).fit(X, Y, epochs=3, validation_data=VALIDATION)
    board = pool.leaderboard()
    assert [record["status"] for record in board] == ["ok", "ok", "diverged", "diverged"]
    assert {record["id"] for record in board[:2]} == {3, 1}
    assert [record["id"] for record in board[2:]] == [4, 2]
    assert pool.status_ == ["diverged", "ok", "diverged", "ok"]


def test_leaderboard_prints_as_a_table():
    text = str(trained(validation_data=VALIDATION).leaderboard()).splitlines()
    assert text[0].split()[:4] == ["rank", "id", "architecture", "optimizer"]
    assert text[0].endswith("validation_score") and len(text) == 6
    plain = str(trained().leaderboard())
    assert "validation" not in plain and "gelu, no bias" in plain


def test_leaderboard_as_a_data_frame():
    requires("pandas")
    frame = trained().leaderboard().to_pandas()
    assert list(frame.columns) == KEYS
    assert frame.shape == (4, len(KEYS))
    assert frame["loss"].is_monotonic_increasing
