"""Formulas on arrays: each against finite differences, PyTorch and the oracle. As machine code: test_passes.py."""

from statistics import NormalDist
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import oracle
import pmlp_np as pm
from conftest import requires
from formula_samples import DTYPES, apply, assert_within, hyperparameters, loss_problem, rule_settings, wide
from loss_variants import VARIANTS, library_loss, named
from pmlp_np.backends.numba import random_draws
from pmlp_np.backends.numba.compiling import kernel
from pmlp_np.formulas import random as random_formulas
from pmlp_np.formulas.activations import ACTIVATION_ALIASES, ACTIVATIONS
from pmlp_np.formulas.initializers import DISTRIBUTIONS, INITIALIZER_ALIASES, INITIALIZERS
from pmlp_np.formulas.losses import LOSS_ALIASES, LOSSES
from pmlp_np.formulas.optimizers import RULES, _nadam_product

# Published with the generator (Random123, kat_vectors, philox4x32 with 10 rounds): counter, key, result.
PHILOX_VECTORS = [
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


@pytest.fixture
def draw():
    return np.random.default_rng(20)


# Activations on arrays.


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation_derivative_is_the_slope(name, draw):
    z = draw.uniform(-6, 6, 500)
    step = 1e-5
    z = z[[all(abs(x - kink) > 2 * step for kink in ACTIVATIONS[name].kinks) for x in z]]
    slope = (apply(name, z + step)[0] - apply(name, z - step)[0]) / (2 * step)
    # Central differences err by step² times the third derivative, and by rounding: eps * |a| / step.
    np.testing.assert_allclose(apply(name, z)[1], slope, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_kinks_are_where_the_derivative_jumps(name):
    grid = np.linspace(-4, 4, 8001)
    _, derivative = apply(name, grid)
    jumps = grid[:-1][np.abs(np.diff(derivative)) > 0.1]
    kinks = ACTIVATIONS[name].kinks
    assert all(np.abs(np.asarray(kinks) - at).min(initial=np.inf) < 2e-3 for at in jumps)
    assert all(np.abs(jumps - kink).min(initial=np.inf) < 2e-3 for kink in kinks)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation_is_pytorchs(name, draw):
    torch = requires("torch")
    functional = torch.nn.functional
    other_names = {
        "identity": torch.nn.Identity(),
        "sin": torch.sin,
        "gelu_tanh": lambda x: functional.gelu(x, approximate="tanh"),
        # Up to its threshold, 20 by default, theirs is the function itself.
        "softplus": lambda x: functional.softplus(x, threshold=100),
    }
    theirs = other_names.get(name) or getattr(functional, name.replace("hard_", "hard"), None)
    if theirs is None:
        pytest.skip(f"PyTorch has no {name}; the next test holds it to the oracle")
    z = np.concatenate([draw.uniform(-30, 30, 2000), [0.0, -0.0, 0.5, -0.5, 1.0, -1.0, 3.0, -3.0],
                        [1e4, -1e4, 700.0, -700.0]])  # fmt: skip
    tensor = torch.tensor(z, requires_grad=True)
    expected = theirs(tensor)
    expected.sum().backward()
    a, derivative = apply(name, z)
    # PyTorch's own forms of gelu and mish cancel by some eps times |z| far to the left.
    np.testing.assert_allclose(a, expected.detach().numpy(), rtol=1e-14, atol=1e-14)
    # Its slope of hardsigmoid is a sixth in float32, in every dtype.
    rtol = 2.0**-24 if name == "hard_sigmoid" else 1e-13
    np.testing.assert_allclose(derivative, tensor.grad.numpy(), rtol=rtol, atol=1e-14)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation_on_arrays_keeps_dtype_and_is_accurate(name, dtype):
    z = wide(dtype)
    with np.errstate(all="ignore"):
        exact = [function(z.astype(np.float64)) for function in oracle.ACTIVATIONS[name]]
    a, derivative = apply(name, z)
    assert_within(a, exact[0], 4, dtype)
    # The oracle's own mish derivative cancels for larger z.
    assert_within(derivative, exact[1], 16 if name == "mish" else 4, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation_of_nan_is_nan_and_shapes_stay(name, dtype):
    z = np.array([[np.nan, 1.0, -1.0], [0.0, 2.0, np.nan]], dtype)
    a, derivative = apply(name, z)
    assert a.shape == derivative.shape == z.shape
    assert np.array_equal(np.isnan(a), np.isnan(z))
    assert np.isfinite(derivative[~np.isnan(z)]).all()


# Losses. PyTorch has outputs on axis 1.


@pytest.mark.parametrize("outputs", [1, 2, 7])
@pytest.mark.parametrize("label", VARIANTS)
def test_loss_gradient_is_the_slope(label, outputs, draw):
    raw, target = loss_problem(draw, label, outputs, 20)
    function = library_loss(label, outputs).function
    _, gradient = function(raw, target)
    assert gradient.shape == raw.shape
    step = 1e-5
    for o in range(len(raw)):
        shift = np.zeros((len(raw), 1))
        shift[o] = step
        upper, lower = function(raw + shift, target)[0], function(raw - shift, target)[0]
        np.testing.assert_allclose(gradient[o], (upper - lower) / (2 * step), rtol=1e-7, atol=1e-9)


def torch_loss(torch, label, outputs, raw, target):
    """PyTorch's mean loss; what it lacks is done to targets and results. Raw outputs and targets: (rows, outputs)."""
    name, parameters = named(label, outputs)
    target, functional = torch.tensor(target), torch.nn.functional
    smoothing = parameters.get("label_smoothing", 0.0)
    if name == "cross_entropy":
        return functional.cross_entropy(raw, target.long(), label_smoothing=smoothing)
    head = raw.reshape(len(raw), outputs, -1)
    functions = {
        "squared_error": functional.mse_loss,
        "absolute_error": functional.l1_loss,
        "huber": lambda r, t, reduction: functional.huber_loss(r, t, reduction, parameters.get("delta", 1.0)),
        "binary_cross_entropy": functional.binary_cross_entropy_with_logits,
        "poisson": lambda r, t, reduction: functional.poisson_nll_loss(r, t, reduction=reduction),
        "gaussian_nll": lambda r, t, reduction: functional.gaussian_nll_loss(
            head[..., 0], t, torch.exp(head[..., 1]), reduction=reduction, eps=1e-300
        ),
        "quantile": lambda r, t, reduction: sum(
            torch.maximum(q * (t - head[..., h]), (q - 1) * (t - head[..., h])) / head.shape[2]
            for h, q in enumerate(parameters.get("levels", (0.1, 0.5, 0.9)))
        ),
    }
    if name not in functions:
        pytest.skip(f"PyTorch's {name} is not known here; the next test holds it to the oracle")
    each = functions[name](raw, (1 - smoothing) * target + smoothing / 2, reduction="none")
    weight = torch.tensor(parameters.get("output_weight", [1.0] * outputs), dtype=raw.dtype)
    return (weight / weight.mean() * each).mean()


@pytest.mark.parametrize("scale", [1.0, 100.0])
@pytest.mark.parametrize("outputs", [1, 2, 7])
@pytest.mark.parametrize("label", VARIANTS)
def test_loss_is_pytorchs(label, outputs, scale, draw):
    torch = requires("torch")
    raw, target = loss_problem(draw, label, outputs, 50, scale)
    tensor = torch.tensor(raw.T.copy(), requires_grad=True)
    mean = torch_loss(torch, label, outputs, tensor, target.T.copy())
    mean.backward()
    loss, gradient = library_loss(label, outputs).function(raw, target)
    assert loss.shape == (50,)
    np.testing.assert_allclose(loss.mean(), mean.item(), rtol=1e-13)
    np.testing.assert_allclose(gradient / 50, tensor.grad.numpy().T, rtol=1e-10, atol=1e-15)


@pytest.mark.parametrize("outputs", [2, 5])
@pytest.mark.parametrize("label", VARIANTS)
def test_loss_is_the_oracles(label, outputs, draw):
    raw, target = loss_problem(draw, label, outputs, 30)
    name, parameters = named(label, outputs)
    by_row = target.astype(np.int64) if LOSSES[name].targets == "labels" else target.T
    mean, expected = oracle.LOSSES[name](raw.T, by_row, **parameters)
    loss, gradient = library_loss(label, outputs).function(raw, target)
    np.testing.assert_allclose(loss.mean(), mean, rtol=1e-12)
    np.testing.assert_allclose(gradient / 30, expected.T, rtol=1e-10, atol=1e-15)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", LOSSES)
def test_loss_of_nan_is_nan_and_of_large_outputs_finite(name, dtype):
    heads = LOSSES[name].heads
    raw = np.repeat(np.array([[np.nan, 1e4, -1e4], [0.0, -1e4, 1e4]], dtype), heads, axis=0)
    compete = LOSSES[name].targets == "labels"
    target = np.array([1, 0, 0] if compete else [[1, 1, 0], [0, 0, 1]], dtype)
    with np.errstate(over="ignore"):
        loss, gradient = LOSSES[name].function(raw, target)
    assert loss.dtype == gradient.dtype == dtype
    assert np.array_equal(np.isnan(loss), [True, False, False])
    # Where outputs compete it reaches all of a row.
    others = np.isfinite(gradient[heads:, 0]).all() or compete
    assert np.isnan(gradient[:heads, 0]).all() and others
    if name in ("poisson", "gaussian_nll"):
        # A rate or a precision of e^10000.
        assert np.isposinf(loss[1:]).all()
        return
    assert np.isfinite(gradient[:, 1:]).all()
    # The last row is as wrong as can be: right answers cost nothing, wrong ones their distance.
    expected = {
        "squared_error": [1e8, 1e8], "binary_cross_entropy": [0.0, 0.0], "cross_entropy": [0.0, 2e4],
        "absolute_error": [1e4, 1e4], "huber": [1e4, 1e4], "quantile": [5e3, 5e3],
    }.get(name, loss[1:])  # fmt: skip
    np.testing.assert_allclose(loss[1:], expected, rtol=1e-3)
    assert np.isfinite(loss[1:]).all()


def test_scores_and_predictions_on_examples():
    raw = np.array([[2.0, 1.0, -1.0], [1.0, 1.0, 3.0], [0.0, 0.5, 3.0]])  # outputs, rows
    accuracy = LOSSES["cross_entropy"].score(raw, np.array([0.0, 1.0, 1.0]))
    # The first of equally large outputs is the answer, as in predict.
    assert accuracy.tolist() == [1.0, 0.0, 1.0]
    assert LOSSES["cross_entropy"].predictions(raw.T).tolist() == [0, 0, 1]

    labels = np.array([[1.0, 0.0, 0.0], [1.0, 1.0, 1.0], [0.0, 1.0, 0.0]])
    score = LOSSES["binary_cross_entropy"].score(raw, labels)
    np.testing.assert_allclose(score, [1.0, 2 / 3, 2 / 3])
    assert LOSSES["binary_cross_entropy"].predictions(raw.T).T.tolist() == [[1, 1, 0], [1, 1, 1], [0, 1, 1]]

    score = LOSSES["squared_error"].score(raw, np.zeros_like(raw))
    np.testing.assert_allclose(score, (raw**2).mean(axis=0))
    assert LOSSES["squared_error"].finish(9.0) == 3.0
    assert LOSSES["squared_error"].predictions(raw[:1].T).shape == (3,)


@pytest.mark.parametrize("dtype", DTYPES)
def test_probabilities(dtype, draw):
    raw = (draw.normal(size=(4, 30, 3)) * 50).astype(dtype)
    raw[0, 0] = [1e4, -1e4, 0]
    softmax = LOSSES["cross_entropy"].probabilities(raw)
    assert softmax.dtype == dtype and softmax.shape == raw.shape
    np.testing.assert_allclose(softmax.sum(axis=-1), 1.0, rtol=1e-6)
    assert softmax[0, 0].tolist() == [1.0, 0.0, 0.0]
    wide_raw = raw.astype(np.float64)
    shifted = np.exp(wide_raw - wide_raw.max(axis=-1, keepdims=True))
    np.testing.assert_allclose(softmax, shifted / shifted.sum(axis=-1, keepdims=True), rtol=1e-5, atol=1e-30)
    sigmoid = LOSSES["binary_cross_entropy"].probabilities(raw)
    np.testing.assert_allclose(sigmoid, oracle.logistic(wide_raw), rtol=1e-5, atol=1e-30)
    with pytest.raises(pm.DataError, match="probabilities"):
        LOSSES["squared_error"].probabilities(raw)


# Optimizers on arrays.


@pytest.fixture
def float64_by_default():
    """PyTorch's NAdam keeps a product of momenta in the default dtype."""
    torch = requires("torch")
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


@pytest.mark.parametrize("weight_decay", [0.0, 0.3])
@pytest.mark.parametrize("rule", RULES)
def test_optimizer_is_pytorchs(rule, weight_decay, draw, float64_by_default):
    torch = requires("torch")
    kind, theirs, _ = rule_settings(rule)
    w = draw.normal(size=8)
    parameter = torch.tensor(w.copy(), requires_grad=True)
    optimizer = getattr(torch.optim, kind)([parameter], weight_decay=weight_decay, **theirs)
    slots = tuple(np.zeros_like(w) for _ in range(RULES[rule].slots))
    h = SimpleNamespace(**hyperparameters(rule, weight_decay))
    for step in range(1, 8):
        gradient = draw.normal(size=w.shape)
        scalars = SimpleNamespace(**RULES[rule].scalars(h, step))
        w, slots = RULES[rule].update(w, gradient, slots, scalars)
        before = parameter.detach().clone()
        parameter.grad = torch.tensor(gradient) + h.l1 * torch.sign(before)
        optimizer.step()
        with torch.no_grad():
            parameter -= h.learning_rate * h.decoupled_weight_decay * before
        np.testing.assert_allclose(w, parameter.detach().numpy(), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("momentum_decay", [0.0, 1e-12, 4e-3, 0.5, 30.0])
@pytest.mark.parametrize("beta1", [0.0, 0.9, 0.9999])
def test_the_product_of_nadams_momenta(beta1, momentum_decay):
    """In closed form, against factors multiplied one by one."""
    h = SimpleNamespace(beta1=beta1, momentum_decay=momentum_decay)
    steps = np.arange(1, 3001)
    with np.errstate(under="ignore"):
        expected = np.cumprod(beta1 * (1 - 0.5 * 0.96 ** (steps * momentum_decay)))
        found = np.array([_nadam_product(h, int(step)) for step in steps[::7]])
    np.testing.assert_allclose(found, expected[::7], rtol=1e-12, atol=1e-300)


@pytest.mark.parametrize("rule", [name for name in RULES if "shrinking" in name])
def test_what_is_zero_is_not_moved_by_l1(rule):
    zeros, n = np.zeros(3), RULES[rule].slots
    h = SimpleNamespace(**(hyperparameters(rule, 0.0) | {"l1": 5.0, "eps": 1e-3}))
    scalars = SimpleNamespace(**RULES[rule].scalars(h, 1))
    w, _ = RULES[rule].update(np.array([0.0, -0.0, np.nan]), zeros, (zeros,) * n, scalars)
    assert not w[:2].any() and np.isnan(w[2])


# Names.


@pytest.mark.parametrize(
    ("aliases", "table"),
    [(ACTIVATION_ALIASES, ACTIVATIONS), (LOSS_ALIASES, LOSSES), (INITIALIZER_ALIASES, INITIALIZERS)],
)
def test_aliases_stand_for_names_and_hide_none(aliases, table):
    assert aliases
    assert set(aliases.values()) <= set(table)
    assert not set(aliases) & set(table)


@pytest.mark.parametrize("alias", ACTIVATION_ALIASES)
def test_activation_aliases_resolve(alias):
    assert pm.Member(hidden=3, activation=alias).activation == ACTIVATION_ALIASES[alias]
    mlp = pm.MLP([np.ones((2, 3)), np.ones((3, 1))], activation=alias)
    assert mlp.activation == (ACTIVATION_ALIASES[alias],)


@pytest.mark.parametrize("alias", LOSS_ALIASES)
def test_loss_aliases_resolve(alias):
    assert pm.Pool([pm.Member(hidden=3)], 2, n_outputs=2, loss=alias).loss == LOSS_ALIASES[alias]
    assert pm.MLP([np.ones((2, 2))], loss=alias).loss == LOSS_ALIASES[alias]


@pytest.mark.parametrize("alias", INITIALIZER_ALIASES)
def test_initializer_aliases_resolve(alias):
    assert pm.Member(initializer=alias).initializer == INITIALIZER_ALIASES[alias]


# Initializers.


@pytest.mark.parametrize("name", INITIALIZERS)
def test_initializer_scales(name):
    entry = INITIALIZERS[name]
    fan_in, fan_out = np.array([1.0, 3.0, 100.0]), np.array([7.0, 2.0, 1.0])
    expected = [oracle.INITIALIZERS[name][1](int(i), int(o)) for i, o in zip(fan_in, fan_out, strict=True)]
    np.testing.assert_allclose(entry.weight_scale(fan_in, fan_out), expected, rtol=1e-15)
    bias_scale = entry.bias_scale(fan_in, fan_out)
    np.testing.assert_allclose(bias_scale, 1 / np.sqrt(fan_in) if name == "pytorch" else np.zeros(3), rtol=1e-15)


@pytest.mark.parametrize(
    ("name", "theirs"),
    [
        ("glorot_uniform", "xavier_uniform_"),
        ("glorot_normal", "xavier_normal_"),
        ("he_uniform", "kaiming_uniform_"),
        ("he_normal", "kaiming_normal_"),
        ("lecun_normal", "kaiming_normal_"),
        ("pytorch", None),
    ],
)
def test_initializers_spread_as_pytorchs_do(name, theirs):
    torch = requires("torch")
    torch.manual_seed(0)
    fan_in, fan_out = 300, 500
    layer = torch.nn.Linear(fan_in, fan_out)
    if theirs:
        gain = {"nonlinearity": "linear" if name == "lecun_normal" else "relu"}
        getattr(torch.nn.init, theirs)(layer.weight, **(gain if "kaiming" in theirs else {}))
    pool = pm.Pool([pm.Member(hidden=fan_out, initializer=name)], n_features=fan_in, dtype="float64")
    mlp = pool.extract(0)
    # 150,000 draws: their standard deviation is known to 0.2 %.
    np.testing.assert_allclose(mlp.weights[0].std(), layer.weight.std().item(), rtol=0.01)
    assert abs(mlp.weights[0].mean()) < 0.01 * mlp.weights[0].std() * 2
    if "uniform" in name or name == "pytorch":
        np.testing.assert_allclose(np.abs(mlp.weights[0]).max(), layer.weight.abs().max().item(), rtol=1e-3)
    if name == "pytorch":
        np.testing.assert_allclose(np.abs(mlp.biases[0]).max(), layer.bias.abs().max().item(), rtol=0.02)
    else:
        assert not mlp.biases[0].any()


def test_inverse_normal_is_the_standard_librarys(draw):
    smallest = 2.0**-33
    edges = [smallest, 1 - smallest, 0.5, 0.075, 0.925, np.nextafter(0.075, 0), np.nextafter(0.925, 1), 1e-9, 1 - 1e-9]
    u = np.concatenate([edges, draw.uniform(size=2000), 2.0 ** -draw.uniform(1, 33, 500)])
    inverse = NormalDist().inv_cdf
    np.testing.assert_allclose(DISTRIBUTIONS["normal"](u), [inverse(p) for p in u.tolist()], rtol=2e-15, atol=1e-16)
    # That one uses the same algorithm: the error function does not.
    np.testing.assert_allclose(oracle.normal_cdf(DISTRIBUTIONS["normal"](u)), u, rtol=1e-13)
    assert DISTRIBUTIONS["uniform"](np.array([0.0, 0.5, 1.0])).tolist() == [-1.0, 0.0, 1.0]


# Random numbers.


@kernel(entry=True)
def _compiled_philox(counter0, counter1, counter2, counter3, key):
    return random_draws.philox(counter0, counter1, counter2, counter3, key)


def philox_words(counter, key):
    words = random_formulas.philox(*(np.uint64(c) for c in counter), np.uint64(key[0] | key[1] << 32))
    return tuple(int(w) for w in words)


@pytest.mark.parametrize(("counter", "key", "expected"), PHILOX_VECTORS)
def test_philox_gives_the_published_vectors(counter, key, expected):
    assert philox_words(counter, key) == expected
    whole_key = np.uint64(key[0] | key[1] << 32)
    arrays = random_formulas.philox(*(np.array([c, 0], np.uint64) for c in counter), whole_key)
    assert tuple(int(w[0]) for w in arrays) == expected
    compiled = _compiled_philox(*(np.uint64(c) for c in counter), whole_key)
    assert tuple(int(w) for w in compiled) == expected


KEYS = st.integers(0, 2**64 - 1)


@given(key=KEYS, epoch=st.integers(0, 2**32 - 1), n=st.integers(1, 300))
def test_shuffled_order_is_a_permutation_and_the_oracles(key, epoch, n):
    order = random_formulas.shuffled_order(key, epoch, n)
    assert order.dtype == np.int64
    assert np.array_equal(np.sort(order), np.arange(n))
    assert np.array_equal(order, oracle.shuffled_order(key, epoch, n))
    compiled = np.full(n + 1, -7)
    random_draws.shuffle(np.uint64(key).view(np.int64), epoch, compiled.ctypes.data, n)
    assert np.array_equal(compiled[:n], order) and compiled[n] == -7


def test_orders_differ_between_keys_epochs_and_numbers_of_rows():
    orders = [
        random_formulas.shuffled_order(*arguments) for arguments in [(1, 0, 50), (2, 0, 50), (1, 1, 50), (1, 0, 51)]
    ]
    assert len({order[:10].tobytes() for order in orders}) == 4


def test_shuffles_are_fair():
    # Each of 24 orders of 4 rows should come 250 times in 6,000; 75 is almost 5 standard deviations.
    counts = {}
    for epoch in range(6000):
        order = tuple(random_formulas.shuffled_order(9, epoch, 4).tolist())
        counts[order] = counts.get(order, 0) + 1
    assert len(counts) == 24
    assert all(abs(count - 250) < 75 for count in counts.values())


@given(key=KEYS, layer=st.integers(0, 5), tensor=st.integers(0, 1), n=st.integers(1, 50))
def test_uniforms_are_the_oracles_and_prefixes_of_each_other(key, layer, tensor, n):
    u = random_formulas.uniforms(key, layer, tensor, n)
    assert u.dtype == np.float64 and ((u > 0) & (u < 1)).all()
    assert np.array_equal(u, oracle.open_uniform(n, layer, tensor, key))
    assert np.array_equal(random_formulas.uniforms(key, layer, tensor, n + 3)[:n], u)


@given(seed=KEYS, ids=st.lists(st.integers(0, 2**63 - 1), min_size=1, max_size=5))
def test_keys_are_the_oracles(seed, ids):
    keys = random_formulas.stream_keys(seed, np.array(ids))
    assert keys.dtype == np.uint64
    assert keys.tolist() == [oracle.stream_key(seed, member_id) for member_id in ids]
    seeded = random_formulas.seeded_keys(np.array([seed], np.uint64))
    assert seeded.tolist() == [oracle.stream_key(0, member_seed=seed)]
    assert int(random_formulas.order_key(seed)) == oracle.order_key(seed)
