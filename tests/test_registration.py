"""A user's own activations and losses: what is refused, and that the rest trains like the built-in ones."""

import re
import shutil

import numpy as np
import pytest

import pmlp_np as pm
from conftest import run_python
from pmlp_np.backends.numba.code_cache import cache_folder
from pmlp_np.formulas.activations import ACTIVATIONS
from pmlp_np.formulas.losses import LOSSES

pytestmark = pytest.mark.usefixtures("own_formulas")
v = pm.formulas.vocabulary
X = np.random.default_rng(0).normal(size=(50, 3))
Y = np.random.default_rng(1).normal(size=(50, 2))


def copy_of_softsign(z):
    r = 1.0 / (1.0 + v.absolute(z))
    return z * r, r * r


def copy_of_leaky_relu(z):
    slope = v.where(z > 0.0, 1.0, 0.01 * v.ones_like(z))
    return slope * z, slope


def copy_of_squared_error(raw, target):
    error = raw - target
    return v.mean_outputs(error * error), 2.0 * error / v.n_outputs(raw)


def copy_of_gaussian(raw, target):
    mean, log_variance = raw
    error = mean - target
    scaled = error * v.exp(-log_variance)
    n = v.n_outputs(mean)
    return 0.5 * v.mean_outputs(log_variance + error * scaled), (scaled / n, 0.5 * (1.0 - error * scaled) / n)


def learned(activation="tanh", loss="squared_error", y=Y, **settings):
    members = [pm.Member(hidden=(7, 5), activation=activation, seed=3), pm.Member(hidden=(), seed=4)]
    pool = pm.Pool(members, 3, 2, loss, dtype="float64", **settings)
    return pool.fit(X, y, epochs=3, validation_data=(X, y), progress=False)


@pytest.mark.parametrize("backend", ["numba", "reference"])
def test_a_copy_of_an_activation_trains_like_it(backend):
    pm.register_activation("own_softsign", copy_of_softsign)
    pm.register_activation("own_leaky", copy_of_leaky_relu, kinks=[0])
    assert list(ACTIVATIONS)[-2:] == ["own_softsign", "own_leaky"]
    for own, known in (("own_softsign", "softsign"), ("own_leaky", "leaky_relu")):
        pool, expected = learned(own, backend=backend), learned(known, backend=backend)
        np.testing.assert_allclose(pool.forward(X), expected.forward(X), rtol=1e-9)
    assert np.array_equal(pool.forward(X), expected.forward(X)), "the same text has the same bits"
    assert pool.extract(0).activation == ("own_leaky",) * 2


@pytest.mark.parametrize("backend", ["numba", "reference"])
def test_copies_of_losses_train_like_them(backend):
    pm.register_loss("own_squares", copy_of_squared_error)
    pm.register_loss("own_gaussian", copy_of_gaussian, heads=2)
    for own, known in (("own_squares", "squared_error"), ("own_gaussian", "gaussian_nll")):
        pool, expected = learned(loss=own, backend=backend), learned(loss=known, backend=backend)
        np.testing.assert_allclose(pool.forward(X), expected.forward(X), rtol=1e-9)
        np.testing.assert_allclose(pool.predict(X), expected.predict(X), rtol=1e-9)
        assert pool.loss == own
        record = pool.leaderboard()[0]
        # Without a score of its own a loss is its own score.
        assert record["metric"] == "loss" and record["validation_score"] == record["validation_loss"]


def test_links_scores_and_targets_of_a_users_loss():
    def poisson(raw, target):
        rate = v.exp(raw)
        return v.mean_outputs(rate - target * raw), (rate - target) / v.n_outputs(raw)

    def logistic(raw, target):
        e = v.exp(-v.absolute(raw))
        loss = v.where(raw > 0.0, raw, 0.0 * raw) - raw * target + v.log1p(e)
        return v.mean_outputs(loss), (v.sigmoid(raw) - target) / v.n_outputs(raw)

    def softmax(raw, target):
        shifted = raw - v.max_outputs(raw)
        e = v.exp(shifted)
        total, hit = v.sum_outputs(e), v.output_index(raw) == target
        loss = v.log(total) - v.sum_outputs(v.where(hit, shifted, 0.0))
        return loss, e / total - v.where(hit, v.ones_like(e), 0.0)

    def distance(raw, target):
        return v.mean_outputs(v.absolute(v.exp(raw) - target))

    counts, labels = np.abs(Y).round(), (Y > 0).astype(float)
    pm.register_loss("own_poisson", poisson, link=v.exp, score=distance, score_name="distance")
    pm.register_loss("own_logistic", logistic, targets="probabilities")
    pm.register_loss("own_softmax", softmax, targets="labels")
    cases = [
        ("own_poisson", "poisson", counts), ("own_logistic", "binary_cross_entropy", labels),
        ("own_softmax", "cross_entropy", labels[:, 0].astype(int)),
    ]  # fmt: skip
    for own, known, y in cases:
        pool, expected = learned(loss=own, y=y), learned(loss=known, y=y)
        np.testing.assert_allclose(pool.predict(X), expected.predict(X), rtol=1e-9)
        if known != "poisson":
            np.testing.assert_allclose(pool.predict_proba(X), expected.predict_proba(X), rtol=1e-9)
    record = learned(loss="own_poisson", y=counts).leaderboard()[0]
    assert record["metric"] == "distance" and record["validation_score"] > 0


def test_files_name_it_and_need_it(tmp_path):
    pm.register_activation("own_softsign", copy_of_softsign)
    pm.register_loss("own_squares", copy_of_squared_error)
    pool = learned("own_softsign", "own_squares")
    pool.save(tmp_path / "pool")
    pool.extract(0).save(tmp_path / "mlp")
    again = pm.load(tmp_path / "pool")
    assert np.array_equal(again.forward(X), pool.forward(X)) and again.loss == "own_squares"
    assert pm.MLP.load(tmp_path / "mlp").loss == "own_squares"
    del LOSSES["own_squares"]
    for load in (lambda: pm.load(tmp_path / "pool"), lambda: pm.MLP.load(tmp_path / "mlp")):
        message = "^file .*loss: expected one of squared_error, .* got 'own_squares'.*pm.register_loss"
        with pytest.raises(pm.FileFormatError, match=message):
            load()
    pm.register_loss("own_squares", copy_of_squared_error)
    del ACTIVATIONS["own_softsign"]
    message = "activations: expected one of identity, .* got 'own_softsign'.*pm.register_act"
    with pytest.raises(pm.FileFormatError, match=message):
        pm.load(tmp_path / "pool")


def test_the_same_function_may_come_again_another_may_not():
    pm.register_activation("own", copy_of_softsign)
    pm.register_activation("own", lambda z: copy_of_softsign(z))
    pm.register_loss("own", copy_of_squared_error)
    pm.register_loss("own", lambda raw, target: copy_of_squared_error(raw, target))
    assert list(ACTIVATIONS).count("own") == 1
    hint = "Choose another name; a registered function stays until the process ends."
    for what, register in [
        ("activation has, got 'own'", lambda: pm.register_activation("own", copy_of_leaky_relu, kinks=[0])),
        ("activation has, got 'relu'", lambda: pm.register_activation("relu", copy_of_softsign)),
        ("activation has, got 'swish'", lambda: pm.register_activation("swish", copy_of_softsign)),
        ("loss has, got 'own'", lambda: pm.register_loss("own", copy_of_gaussian, heads=2)),
        ("loss has, got 'own'", lambda: pm.register_loss("own", copy_of_squared_error, score_name="mse")),
        ("loss has, got 'huber'", lambda: pm.register_loss("huber", copy_of_squared_error)),
        ("loss has, got 'mse'", lambda: pm.register_loss("mse", copy_of_squared_error)),
    ]:
        with pytest.raises(pm.DataError, match=re.escape(f"name: expected one that no other {what}. {hint}")):
            register()


TOO_SMALL = (
    "derivative of activation 'own': expected 60.0002, by finite differences, got 30.0001 at z = 30.0001, off by 30."
)


@pytest.mark.parametrize(
    ("function", "kinks", "message"),
    [
        (lambda z: (z * z, z), (), TOO_SMALL),
        # Right but for one half.
        (lambda z: (v.tanh(z), v.where(z < 2.0, 1.0 - v.tanh(z) * v.tanh(z), 0.0)), (), "off by 0.0706"),
        (lambda z: (z * z, 2.0 * z * (1.0 + 1e-5)), (), "at z = 20.0001, off by 0.0004."),
        (
            lambda z: (v.where(z > 0.0, z, 0.0), v.where(z > 0.0, v.ones_like(z), 0.0)),
            (0.0,),
            "activation 'own': expected NaN where its argument is NaN, got 0.0.",
        ),
        (lambda z: z, (), "activation 'own': expected a pair, got array"),
        (
            lambda z: (z, 1.0),
            (),
            "derivative of activation 'own': expected an array of shape (2, 3), float32, got 1.0.",
        ),
        (
            lambda z: (np.float64(2.0) * z, 2.0 * v.ones_like(z)),
            (),
            "value of activation 'own': expected an array of shape (2, 3), float32, got (2, 3) float64.",
        ),
        (lambda z: (z if z > 0.0 else 0.1 * z, v.ones_like(z)), (), "got ValueError: The truth value of an array"),
        (lambda z: (v.square(z), 2.0 * z), (), "got AttributeError: "),
        (copy_of_softsign, ("a",), "kinks: expected finite numbers, got 'a'."),
        (copy_of_softsign, 0.0, "kinks: expected a tuple of numbers, got 0.0."),
        ("tanh", (), "function: expected a function that is the activation, got 'tanh'."),
    ],
)
def test_a_bad_activation_is_refused(function, kinks, message):
    with pytest.raises(pm.DataError, match=re.escape(message)):
        pm.register_activation("own", function, kinks)
    assert "own" not in ACTIVATIONS


def test_a_jump_must_be_named():
    def sawtooth(z):
        return v.where(z > 0.5003, z - 1.0, z), v.ones_like(z)

    def kinked(z):
        return v.where(z > 0.0001, 2.0 * z - 0.0001, z), v.where(z > 0.0001, 2.0, v.ones_like(z))

    with pytest.raises(pm.DataError, match=re.escape("at z = 0.0001, off by 0.5. If the derivative jumps there, list")):
        pm.register_activation("own", kinked)
    pm.register_activation("own", kinked, kinks=(0.0001,))
    pm.register_activation("sawtooth", sawtooth, kinks=(0.5003,))


@pytest.mark.parametrize("name", ["", "Relu", "my relu", "2relu", "relu!", None, 3])
def test_a_bad_name_is_refused(name):
    for register, function in ((pm.register_activation, copy_of_softsign), (pm.register_loss, copy_of_squared_error)):
        with pytest.raises(pm.DataError, match="name: expected small letters, digits and underscores, got"):
            register(name, function)


@pytest.mark.parametrize(
    ("function", "arguments", "message"),
    [
        (
            lambda raw, target: (v.mean_outputs((raw - target) * (raw - target)), raw - target),
            {},
            "gradient of loss 'own': expected 3.59006, by finite differences, got 5.3851 at raw = 2.98686, "
            "target = -2.39823 (output 0), off by 1.8.",
        ),
        (
            lambda raw, target: (copy_of_gaussian(raw, target)[0], (raw[0], raw[1])),
            {"heads": 2},
            ", head ",
        ),
        (
            lambda raw, target: (copy_of_gaussian(raw, target)[0], raw[0]),
            {"heads": 2},
            "gradient of loss 'own': expected a tuple of 2, one per head, got array",
        ),
        (
            lambda raw, target: ((raw - target) * (raw - target), 2.0 * (raw - target)),
            {},
            "loss of loss 'own': expected an array of shape (40,), float32, got (3, 40) float32.",
        ),
        (
            lambda raw, target: (v.mean_outputs(v.where(raw > 0.0, raw, 0.0)), 0.0 * raw),
            {},
            "loss 'own': expected NaN where its argument is NaN, got ",
        ),
        (copy_of_squared_error, {"targets": "value"}, "targets: expected one of values, probabilities, labels, got"),
        (copy_of_squared_error, {"heads": 0}, "heads: expected a whole number from 1 to 1024, got 0."),
        (
            copy_of_squared_error,
            {"heads": 2, "targets": "labels"},
            "heads: expected a whole number from 1 to 1, got 2. Only losses on values have several.",
        ),
        (copy_of_squared_error, {"link": "exp"}, "link: expected a function or None, got 'exp'."),
        (copy_of_squared_error, {"score": lambda raw, target: raw}, "score of loss 'own': expected an array of shape"),
        (copy_of_squared_error, {"score_name": ""}, "score_name: expected a name, got ''."),
        (copy_of_squared_error, {"score_grows": 1}, "score_grows: expected True or False, got 1."),
        ("mse", {}, "function: expected a function that is the loss, got 'mse'."),
    ],
)
def test_a_bad_loss_is_refused(function, arguments, message):
    with pytest.raises(pm.DataError, match=re.escape(message)):
        pm.register_loss("own", function, **arguments)
    assert "own" not in LOSSES


def test_what_cannot_be_compiled_is_refused_before_training():
    """NumPy's functions work on arrays, where the derivative is checked."""
    pm.register_activation("own", lambda z: (np.sin(z), np.cos(z)))
    pm.register_loss("own", lambda raw, t: (np.sqrt((raw - t) ** 2 + 1.0).mean(axis=0),
                                            (raw - t) / np.sqrt((raw - t) ** 2 + 1.0) / len(raw)))  # fmt: skip
    for arguments, what in (({"activation": "own"}, "activation 'own'"), ({"loss": "own"}, "loss 'own'")):
        with pytest.raises(pm.DataError, match=f"^{what}: expected a formula of operators and the vocabulary's words"):
            learned(**arguments)
        assert learned(**arguments, backend="reference").status_ == ["ok", "ok"]


SCALED = """
import sys
import numpy as np
import pmlp_np as pm
v, scale = pm.formulas.vocabulary, float(sys.argv[1])
pm.register_activation("own", lambda z: (scale * v.tanh(z), scale * (1.0 - v.tanh(z) * v.tanh(z))))
def squares(raw, target):
    error = raw - target
    return scale * v.mean_outputs(error * error), (2.0 * scale) * error / v.n_outputs(raw)
pm.register_loss("own", squares)
X = np.linspace(-1.0, 1.0, 12).reshape(6, 2)
pools = [pm.Pool(pm.Member(hidden=4, activation="own"), 2, 1, "own", backend=b) for b in ("numba", "reference")]
raw = [pool.fit(X, X[:, 0], epochs=2, progress=False).forward(X) for pool in pools]
np.testing.assert_allclose(raw[0], raw[1], rtol=1e-4, atol=1e-5)
np.testing.assert_allclose(pools[0].evaluate(X, X[:, 0]), pools[1].evaluate(X, X[:, 0]), rtol=1e-4)
"""


def test_a_name_with_another_formula_finds_no_old_code(tmp_path):
    """Compiled code is kept from one process to the next: here two processes give the name another meaning."""
    # What others compiled is taken over; theirs is not.
    kept = cache_folder()
    shutil.copytree(kept, tmp_path / kept.name)
    for scale in ("1.0", "2.5", "1.0"):
        run_python(SCALED, scale, PMLP_CACHE_DIR=str(tmp_path))
