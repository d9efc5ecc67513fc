"""Bad input: refused before training starts, in words that name the argument or member, what was expected, what came,
and how to correct it. What single modules refuse is in their own tests; here is what users meet."""

import re

import numpy as np
import pytest

import pmlp_np as pm

F, N = 3, 20
X = np.random.default_rng(0).normal(size=(N, F))
Y = X[:, 0].copy()
LABELS = np.arange(N) % 3


def with_value(array, place, value):
    array = array.astype(np.float64)
    array[place] = value
    return array


def pool_for(loss):
    outputs = {"squared_error": 1, "binary_cross_entropy": 1, "cross_entropy": 3}[loss]
    return pm.Pool(pm.grid(hidden=[2, 4]), F, n_outputs=outputs, loss=loss, ids=[5, 8])


def good_y(loss):
    return {"squared_error": Y, "binary_cross_entropy": LABELS > 0, "cross_entropy": LABELS}[loss]


def state(pool):
    """All that training could have changed."""
    store = pool._ready().store
    arrays = {"last": store.parameters, "best": store.weights("best"), "slots": store.slots}
    arrays |= vars(pool._progress) | pool.history_
    return {name: array.tobytes() for name, array in arrays.items()} | {"ended": pool.ended_, "kept": pool._kept_best}


# Every line: what is given to fit, and the error that says so.
BAD_DATA = [
    (
        "squared_error",
        {"X": with_value(X, (4, 1), np.nan)},
        r"^X: expected finite float32 numbers, got nan in X\[4, 1\]\. Fill",
    ),
    (
        "squared_error",
        {"X": with_value(X, (4, 1), -np.inf)},
        r"^X: expected finite .*, got -inf in X\[4, 1\]\. Fill or drop",
    ),
    (
        "squared_error",
        {"X": with_value(X, (4, 1), 1e39)},
        r"^X: expected finite float32 .*, got inf in X\[4, 1\]\. .*scale",
    ),
    (
        "squared_error",
        {"y": with_value(Y, 7, np.nan)},
        r"^y: expected finite float32 numbers, got nan in y\[7\]\. Fill",
    ),
    ("squared_error", {"y": with_value(Y, 7, -1e39)}, r"^y: expected finite float32 numbers, got -inf in y\[7\]"),
    (
        "squared_error",
        {"X": X[:, :2]},
        r"^X: expected 3 features \(columns\), got 2\. The pool was made with n_features=3",
    ),
    (
        "squared_error",
        {"X": X[:, 0]},
        r"^X: expected shape \(n_samples, 3\), got \(20,\)\. One feature: X\.reshape\(-1, 1\)",
    ),
    ("squared_error", {"X": X[:0], "y": Y[:0]}, r"^X: expected at least one row, got none"),
    ("squared_error", {"X": X[:19]}, r"^y: expected shape \(19,\), got \(20,\)\. X and y must have as many rows"),
    ("squared_error", {"y": np.zeros((N, 2))}, r"^y: expected shape \(20,\), got \(20, 2\)"),
    ("squared_error", {"X": X.astype(str)}, r"^X: expected real numbers, got dtype <U"),
    ("squared_error", {"X": None}, r"^X: expected an array, got None"),
    ("squared_error", {"y": None}, r"^y: expected an array, got None"),
    (
        "cross_entropy",
        {"y": LABELS + 1},
        r"^y: expected whole numbers from 0 to 2 \(n_outputs=3\), got 3 in row 2\. Number",
    ),
    (
        "cross_entropy",
        {"y": LABELS - 1},
        r"^y: expected whole numbers from 0 to 2 .*, got -1 in row 0\. Number the classes",
    ),
    ("cross_entropy", {"y": LABELS + 0.5}, r"^y: expected whole numbers .*, got 0\.5 in row 0"),
    (
        "cross_entropy",
        {"y": np.array(["cat", "dog"] * 10)},
        r"^y: expected real .*\. Number the classes: np\.unique\(y, ret",
    ),
    ("cross_entropy", {"y": np.eye(3)[LABELS]}, r"^y: expected shape \(20,\), got \(20, 3\)"),
    (
        "binary_cross_entropy",
        {"y": LABELS},
        r"^y: expected values from 0 to 1, got .*2.* in row 2\. Labels are 0 and 1",
    ),
    ("binary_cross_entropy", {"y": LABELS - 1.0}, r"^y: expected values from 0 to 1, got .*-1\.0.* in row 0"),
]
BAD_ARGUMENTS = [
    ({"epochs": 0}, r"^epochs: expected a whole number, at least 1, got 0"),
    ({"epochs": -3}, r"^epochs: expected a whole number, at least 1, got -3"),
    ({"epochs": 1.5}, r"^epochs: expected a whole number, at least 1, got 1\.5"),
    ({"epochs": True}, r"^epochs: expected a whole number, at least 1, got True"),
    ({"epochs": None}, r"^epochs: expected a whole number, at least 1, got None"),
    (
        {"epochs": 2**70},
        r"^epochs: expected no more than .* of memory .*, got a need of .* TB\. The history takes 4 bytes",
    ),
    ({"batch_size": 0}, r"^batch_size: expected a whole number, at least 1, got 0"),
    ({"batch_size": "32"}, r"^batch_size: expected a whole number, at least 1, got '32'"),
    ({"shuffle": "shard"}, r"^shuffle: expected 'shared', 'member' or None, got 'shard'"),
    ({"shuffle": True}, r"^shuffle: expected 'shared', 'member' or None, got True"),
    ({"shuffle": ["shared"]}, r"^shuffle: expected 'shared', 'member' or None, got \['shared'\]"),
    ({"patience": 0}, r"^patience: expected a whole number, at least 1, got 0"),
    ({"min_delta": -0.1}, r"^min_delta: expected a number, at least 0, got -0\.1"),
    ({"min_delta": np.nan}, r"^min_delta: expected a number, at least 0, got nan"),
    ({"min_delta": "0"}, r"^min_delta: expected a number, at least 0, got '0'"),
    ({"time_budget": 0}, r"^time_budget: expected seconds, above 0, or None, got 0"),
    ({"time_budget": np.nan}, r"^time_budget: expected seconds, above 0, or None, got nan"),
    ({"time_budget": 10**400}, r"^time_budget: expected seconds, above 0, or None, got 1000"),
    ({"min_delta": 10**400}, r"^min_delta: expected a number, at least 0, got 1000"),
    ({"time_budget": "1 h"}, r"^time_budget: expected seconds, above 0, or None, got '1 h'"),
    ({"early_stopping": "yes"}, r"^early_stopping: expected True or False, got 'yes'"),
    (
        {"early_stopping": True},
        r"^validation_data: expected data to stop early on, got None\. Pass validation_data=\(X, y\)",
    ),
    ({"progress": "tqdm"}, r"^progress: expected True, False or 'auto', got 'tqdm'"),
    ({"n_threads": 0}, r"^n_threads: expected a whole number, at least 1, got 0"),
    ({"validation_data": X}, r"^validation_data: expected \(X, y\) or \(X, y, sample_weight\), got array"),
    ({"validation_data": (X,)}, r"^validation_data: expected \(X, y\) or \(X, y, sample_weight\), got "),
    ({"validation_data": (X[:, :1], Y)}, r"^validation_data\[0\]: expected 3 features \(columns\), got 1"),
    ({"validation_data": (X, Y[:5])}, r"^validation_data\[1\]: expected shape \(20,\), got \(5,\)"),
    (
        {"validation_data": (X, with_value(Y, 3, np.inf))},
        r"^validation_data\[1\]: expected finite .*, got inf in validation_data\[1\]\[3\]",
    ),
]


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
@pytest.mark.parametrize(("loss", "bad", "text"), BAD_DATA)
def test_bad_data_are_refused_before_training(loss, bad, text, method):
    pool = pool_for(loss).fit(X, good_y(loss))
    before = state(pool)
    with pytest.raises(pm.DataError, match=text):
        getattr(pool, method)(**{"X": X, "y": good_y(loss)} | bad, epochs=3)
    assert state(pool) == before


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
@pytest.mark.parametrize(("bad", "text"), BAD_ARGUMENTS)
def test_bad_arguments_are_refused_before_training(bad, text, method):
    pool = pool_for("squared_error").fit(X, Y, validation_data=(X, Y), early_stopping=True)
    before = state(pool)
    with pytest.raises(pm.PmlpError, match=text):
        getattr(pool, method)(X, Y, **bad)
    assert state(pool) == before


@pytest.mark.parametrize(("loss", "bad", "text"), BAD_DATA)
def test_bad_data_can_not_be_evaluated_or_predicted(loss, bad, text):
    pool = pool_for(loss)
    data = {"X": X, "y": good_y(loss)} | bad
    with pytest.raises(pm.DataError, match=text):
        pool.evaluate(data["X"], data["y"])
    if "X" in bad and "y: " not in text:
        for ask in (pool.forward, pool.predict):
            with pytest.raises(pm.DataError, match=text):
                ask(data["X"])


def test_sizes_beyond_all_rows_mean_all_rows():
    """A minibatch that could hold more rows than there are is no mistake."""
    pools = [pm.Pool([pm.Member(hidden=2, batch_size=own)], F) for own in (2**63 - 1, None, None)]
    for pool, size in zip(pools, (32, 2**70, N), strict=True):
        pool.fit(X, Y, epochs=2, batch_size=size, patience=2**70)
    found = [pool.extract(0).weights[0].tobytes() for pool in pools]
    assert found[0] == found[1] == found[2]
    assert pools[0]._progress.step.tolist() == [2]


MEMBER = pm.Member(hidden=3)
BAD_POOLS = [
    ({"specs": []}, pm.SpecError, r"^specs: expected at least one member, got none\. For example \[pm\.Member"),
    ({"specs": [MEMBER, 5]}, pm.SpecError, r"^member 1: expected a pm\.Member, got 5\. For example"),
    ({"specs": 7}, pm.SpecError, r"^specs: expected pm\.grid\(\.\.\.\), .*, got 7"),
    ({"specs": "relu"}, pm.SpecError, r"^specs: expected pm\.grid\(\.\.\.\), .*, got 'relu'"),
    ({"n_features": 0}, pm.DataError, r"^n_features: expected a whole number from 1 to [0-9,]+, got 0"),
    ({"n_features": 2.5}, pm.DataError, r"^n_features: expected a whole number from 1 to [0-9,]+, got 2\.5"),
    ({"n_features": True}, pm.DataError, r"^n_features: .*, got True"),
    ({"n_outputs": 0}, pm.DataError, r"^n_outputs: expected a whole number from 1 to [0-9,]+, got 0"),
    (
        {"n_outputs": 1, "loss": "cross_entropy"},
        pm.DataError,
        r"^n_outputs: expected a whole number from 2 to .*, got 1",
    ),
    ({"loss": "squared_eror"}, pm.DataError, r"^loss: expected one of squared_error, .*Did you mean 'squared_error'\?"),
    ({"loss": None}, pm.DataError, r"^loss: expected one of squared_error, .*, got None"),
    ({"loss": ["mse"]}, pm.DataError, r"^loss: expected one of squared_error, .*, got \['mse'\]"),
    ({"seed": -1}, pm.DataError, r"^seed: expected a whole number from 0 to [0-9,]+, got -1"),
    ({"seed": 2**64}, pm.DataError, r"^seed: expected a whole number from 0 to 18,446,744,073,709,551,615, got 1844"),
    ({"seed": "abc"}, pm.DataError, r"^seed: expected a whole number from 0 to [0-9,]+, got 'abc'"),
    ({"backend": "nunba"}, pm.DataError, r"^backend: expected one of numba, .*, got 'nunba'\. Did you mean 'numba'\?"),
    ({"device": "gpu"}, pm.DataError, r"^device: expected 'cpu' for backend 'numba', got 'gpu'"),
    ({"dtype": "float16"}, pm.DataError, r"^dtype: expected 'float32' or 'float64', got 'float16'"),
    ({"dtype": ">f4"}, pm.DataError, r"^dtype: expected 'float32' or 'float64', got '>f4'"),
    ({"dtype": "nonsense"}, pm.DataError, r"^dtype: expected 'float32' or 'float64', got 'nonsense'"),
    ({"ids": [1]}, pm.DataError, r"^ids: expected 2 distinct whole numbers, at least 0, got \[1\]"),
    ({"ids": [1, 1]}, pm.DataError, r"^ids: expected 2 distinct whole numbers, at least 0, got \[1, 1\]"),
    ({"ids": [1, -2]}, pm.DataError, r"^ids: expected 2 distinct whole numbers, at least 0, got \[1, -2\]"),
    ({"ids": [1.0, 2.0]}, pm.DataError, r"^ids: expected 2 distinct whole numbers, at least 0, got \[1\.0, 2\.0\]"),
    ({"ids": ["a", "b"]}, pm.DataError, r"^ids: expected 2 distinct whole numbers"),
    ({"ids": np.array([1, 2**63], np.uint64)}, pm.DataError, r"^ids: expected 2 distinct whole numbers"),
    ({"ids": [1, 2**64]}, pm.DataError, r"^ids: expected 2 distinct whole numbers"),
    ({"ids": [1, [2, 3]]}, pm.DataError, r"^ids: expected 2 distinct whole numbers"),
]


@pytest.mark.parametrize(("bad", "error", "text"), BAD_POOLS)
def test_bad_pools_are_refused(bad, error, text):
    with pytest.raises(error, match=text):
        pm.Pool(**{"specs": [MEMBER, MEMBER], "n_features": F} | bad)


# What test_spec.py and test_search_space.py hold in full: here every line that users asked for, from all three doors.
BAD_SPECS = [
    ({"hidden": 0}, r"hidden.*: expected a layer's width, .*, got 0\. hidden=64 is one layer"),
    ({"hidden": -3}, r"hidden.*: expected a layer's width, .*, got -3\. hidden=64 is one layer"),
    ({"hidden": (4, 0)}, r"hidden.*: expected .*, got \(4, 0\)"),
    ({"activation": "rleu"}, r"activation.*: expected one of .*, got 'rleu'\. Did you mean 'relu'\?"),
    ({"learning_rate": -1.0}, r"learning_rate.*: expected a finite number, above 0, got -1\.0\. For example"),
    ({"learning_rate": float("nan")}, r"learning_rate.*: expected a finite number, above 0, got nan"),
    ({"learning_rate": float("inf")}, r"learning_rate.*: expected a finite number, above 0, got inf"),
    ({"optimizer": pm.SGD(learning_rate=-1.0)}, r"optimizer.*: learning_rate: expected a finite number, .*, got -1\.0"),
    (
        {"momentum": 0.9},
        r"momentum: expected a hyperparameter of Adam \(.*\), got 'momentum'\. Optimizers with momentum",
    ),
    ({"learning_rat": 0.1}, r"learning_rat: expected .*, got 'learning_rat'\. Did you mean 'learning_rate'\?"),
    ({"initializer": "he"}, r"initializer.*: expected one of .*, got 'he'"),
    ({"batch_size": 0}, r"batch_size.*: expected a whole number of rows, at least 1, or None, got 0"),
]


@pytest.mark.parametrize(("bad", "text"), BAD_SPECS)
def test_bad_specs_are_refused(bad, text):
    ((name, value),) = bad.items()
    with pytest.raises(pm.SpecError, match="^" + text):
        pm.Member(**bad)
    with pytest.raises(pm.SpecError, match="^" + text):
        pm.sample(3, **bad)
    with pytest.raises(pm.SpecError, match="^" + text):
        pm.grid(**bad)
    good = {"hidden": 5, "activation": "tanh", "learning_rate": 0.1, "optimizer": pm.SGD(), "initializer": "he_normal"}
    if name in good:
        # Among choices, the first member that has the bad one is named.
        with pytest.raises(pm.SpecError, match=rf"^member 4: {re.escape(name)}\[2\]: "):
            pm.grid(**{name: [good[name], good[name], value]}, repeats=2)


NOT_AN_ID = r"^members: expected ids of this pool \(2 from 5 to 8\), got {}\. See pool\.ids_"
NOT_IDS = r"^members: expected a list of ids, got {}\. They are whole numbers, as in pool\.ids_"
NO_PLACE = r"^out: expected a writable array of shape \(2, 20\), float32, got {}"
BAD_QUESTIONS = [
    (lambda pool: pool.predict(X, members=[5, 9]), NOT_AN_ID.format(9)),
    (lambda pool: pool.predict(X, members=0), NOT_AN_ID.format(0)),
    (lambda pool: pool.evaluate(X, Y, members=[9]), NOT_AN_ID.format(9)),
    (lambda pool: pool.extract(9), NOT_AN_ID.format(9)),
    (lambda pool: pool.set_weights(9, None), NOT_AN_ID.format(9)),
    (lambda pool: pool.subset([9]), NOT_AN_ID.format(9)),
    (lambda pool: pool.subset([5, 5]), r"^ids: expected each id once, got \[5, 5\]"),
    (lambda pool: pool.predict(X, members=10**30), NOT_IDS.format("10+")),
    (lambda pool: pool.predict(X, members=[]), NOT_IDS.format(r"\[\]")),
    (lambda pool: pool.predict(X, members=["a"]), NOT_IDS.format(r"\['a'\]")),
    (lambda pool: pool.predict(X, members=[5.0]), NOT_IDS.format(r"\[5\.0\]")),
    (lambda pool: pool.predict(X, members=[True, False]), NOT_IDS.format(r"\[True, False\]")),
    (
        lambda pool: pool.partial_fit(X, Y, members=pool.ids_ == 5),
        NOT_IDS.format(r"array\(\[.*\]\)") + r"\. Of a mask: pool\.ids_\[mask\]\.$",
    ),
    (lambda pool: pool.predict(X, members=[[5]]), NOT_IDS.format(r"\[\[5\]\]")),
    (lambda pool: pool.predict(X, members=[5, [8]]), NOT_IDS.format(r"\[5, \[8\]\]")),
    (lambda pool: pool.predict(X, reduce="median"), r"^reduce: expected 'mean' or None, got 'median'"),
    (lambda pool: pool.predict(X, weights="bset"), r"^weights: expected one of .*, got 'bset'\. Did you mean 'best'"),
    (lambda pool: pool.evaluate(X, Y, weights="best"), r"^weights: expected 'last', got 'best'"),
    (lambda pool: pool.predict(X, out=np.zeros((2, 3), "f4")), NO_PLACE.format(r"\(2, 3\) float32")),
    (lambda pool: pool.predict(X, out=np.zeros((2, N))), NO_PLACE.format(r"\(2, 20\) float64")),
    (lambda pool: pool.predict(X, out=[]), NO_PLACE.format(r"\[\]")),
    (lambda pool: pool.predict(X, out=np.broadcast_to(np.float32(0), (2, N))), NO_PLACE.format(r"\(2, 20\) float32")),
]


@pytest.mark.parametrize(("ask", "text"), BAD_QUESTIONS)
def test_bad_questions_are_refused(ask, text):
    with pytest.raises(pm.DataError, match=text):
        ask(pool_for("squared_error"))


W, B = [np.ones((F, 2)), np.ones((2, 1))], [np.ones(2), np.ones(1)]


@pytest.mark.parametrize(
    ("mlp", "text"),
    [
        (
            pm.MLP([np.ones((F, 4)), np.ones((4, 1))], None),
            "expected widths 3-2-1, relu, with biases, got widths 3-4-1",
        ),
        (
            pm.MLP(W, B, activation="tanh"),
            "expected widths 3-2-1, relu, with biases, got widths 3-2-1, tanh, with biases",
        ),
        (pm.MLP(W), "expected widths 3-2-1, relu, with biases, got widths 3-2-1, relu, no biases"),
        (
            pm.MLP([np.ones((F, 1))], B[1:]),
            "expected widths 3-2-1, relu, with biases, got widths 3-1, linear, with biases",
        ),
        (pm.MLP([W[0] * np.nan, W[1]], B), "expected finite float32 weights, got NaN or infinity"),
        (pm.MLP([W[0] * 1e39, W[1]], B), "expected finite float32 weights, got NaN or infinity"),
        ([W, B], "expected a pm.MLP, got "),
        (None, "expected a pm.MLP, got None"),
    ],
)
def test_networks_that_are_not_the_members_are_refused(mlp, text):
    pool = pool_for("squared_error").fit(X, Y)
    before = state(pool)
    with pytest.raises(pm.DataError, match=f"^mlp for member 5: {text}"):
        pool.set_weights(5, mlp)
    assert state(pool) == before


@pytest.mark.parametrize(
    ("other", "name"),
    [
        ({"n_features": 4}, "n_features"),
        ({"n_outputs": 2}, "n_outputs"),
        ({"loss": "bce"}, "loss"),
        ({"dtype": "float64"}, "dtype"),
        ({"backend": "reference"}, "backend"),
    ],
)
def test_pools_that_do_not_match_are_not_joined(other, name):
    pool = pm.Pool([MEMBER], F)
    with pytest.raises(pm.DataError, match=rf"^pools\[1\]\.{name}: expected .*, as in pools\[0\], got "):
        pm.concat([pool, pm.Pool(**{"specs": [MEMBER], "n_features": F} | other)])


@pytest.mark.parametrize("pools", [[], [1], 5, None, pm.Pool([MEMBER], F)])
def test_only_lists_of_pools_are_joined(pools):
    with pytest.raises(pm.DataError, match=r"^pools: expected a list of at least one pm\.Pool, got "):
        pm.concat(pools)


def test_a_pool_is_whole_after_any_refusal():
    pool = pool_for("squared_error")
    for bad, _ in BAD_ARGUMENTS:
        with pytest.raises(pm.PmlpError):
            pool.fit(X, Y, **bad)
    plain = pool_for("squared_error")
    for each in (pool, plain):
        each.fit(X, Y, epochs=2)
    assert pool.forward(X).tobytes() == plain.forward(X).tobytes()


def test_memory_errors_come_before_anything_is_allocated(monkeypatch):
    """The size is worked out from the specs: a pool of 2**48 weights is refused at once."""
    with pytest.raises(
        pm.MemoryNeededError,
        match=r"^specs: expected no more than .* of memory that are free, got a need of [0-9,]+ TB",
    ):
        pm.Pool([pm.Member(hidden=(2**24, 2**24))], 1)
    pool = pool_for("squared_error").fit(X, Y)
    before = state(pool)
    monkeypatch.setattr("pmlp_np.base.errors.SMALL_NEED", 0)
    monkeypatch.setattr("pmlp_np.base.errors.free_memory", lambda: 39)
    with pytest.raises(pm.MemoryNeededError, match=r"^epochs: .* got a need of 40 bytes\. The history"):
        pool.fit(X.astype(np.float32), Y, epochs=5)
    with pytest.raises(
        pm.MemoryNeededError, match=r"^X: .* got a need of 240 bytes\. Hand over X as C-ordered float32"
    ):
        pool.fit(X, Y, epochs=4)
    assert state(pool) == before
