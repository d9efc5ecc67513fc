"""Holds the oracle to finite differences, PyTorch, scikit-learn, published test vectors and worked examples."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import oracle
from conftest import requires
from loss_variants import VARIANTS, heads, named, random_targets

# Double precision errs by about 1e-16 per operation; steps of Adam, which divides by small gradients, amplify that.
SAME = {"rtol": 1e-8, "atol": 1e-10}
# Central differences with this step err by about step² (truncation) + 1e-16 / step (cancellation).
STEP = 1e-5
NEARLY = {"rtol": 1e-5, "atol": 1e-7}
# Far enough that no parameter moved by STEP carries a pre-activation over a kink, at the activations drawn here.
CLEAR_OF_KINKS = 1e-3
# A mean loss beyond this is divergence, which amplifies rounding errors without bound.
DIVERGING = 100.0


@pytest.fixture(scope="module")
def torch() -> Iterator[ModuleType]:
    torch = requires("torch")
    # NAdam keeps a product of momenta in the default dtype.
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield torch
    torch.set_default_dtype(before)


@pytest.fixture(scope="module")
def neural_network() -> ModuleType:
    return requires("sklearn.neural_network")


@dataclass(frozen=True)
class Problem:
    """An architecture, and the seed of its parameters and data."""

    hidden: tuple[int, ...]
    activation: str | tuple[str, ...]
    n_features: int
    n_outputs: int
    loss: str
    bias: bool
    rows: int
    seed: int

    def network(
        self, optimizer: str = "sgd", options: dict[str, Any] | None = None, **hyperparameters: Any
    ) -> oracle.OracleMLP:
        mlp = oracle.OracleMLP(
            self.hidden,
            self.activation,
            self.n_features,
            self.n_outputs * heads(self.loss),
            named(self.loss, self.n_outputs)[0],
            optimizer,
            hyperparameters,
            bias=self.bias,
            options=options,
            loss_parameters=named(self.loss, self.n_outputs)[1],
        )
        rng = np.random.default_rng(self.seed)
        # Larger than usual initial weights, so that deep networks of units that shrink keep a signal.
        weights = [rng.normal(0.0, 1.5 / math.sqrt(len(w)), w.shape) for w in mlp.weights]
        if mlp.loss_name in ("poisson", "gaussian_nll"):
            # Exponentials of large raw outputs bend more than central differences can follow.
            weights[-1] *= 0.2
        mlp.set_state(weights, [rng.normal(0.0, 0.5, b.shape) * self.bias for b in mlp.biases])
        if mlp.options["feature_scale"]:
            mlp.set_state(mlp.weights, scales=[rng.normal(1.0, 0.5, self.n_features)])
        return mlp

    def data(self) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng([self.seed, 1])
        X = rng.normal(size=(self.rows, self.n_features))
        if self.loss == "binary_cross_entropy":
            # scikit-learn takes labels only.
            return X, rng.integers(2, size=(self.rows, self.n_outputs)).astype(np.float64)
        return X, random_targets(self.loss, rng, self.rows, self.n_outputs)


@st.composite
def problems(
    draw: st.DrawFn,
    activations: Sequence[str] = tuple(oracle.ACTIVATIONS),
    losses: Sequence[str] = tuple(VARIANTS),
) -> Problem:
    hidden = tuple(draw(st.lists(st.integers(1, 5), max_size=4)))
    one_for_all = st.sampled_from(activations)
    return Problem(
        hidden=hidden,
        activation=draw(one_for_all | st.tuples(*[st.sampled_from(activations)] * len(hidden))),
        n_features=draw(st.integers(1, 5)),
        n_outputs=draw(st.integers(1, 4)),
        loss=draw(st.sampled_from(losses)),
        bias=draw(st.booleans()),
        rows=draw(st.integers(1, 9)),
        seed=draw(st.integers(0, 2**32 - 1)),
    )


def assert_same_arrays(got: Sequence[np.ndarray], expected: Sequence[np.ndarray], rtol: float, atol: float) -> None:
    assert len(got) == len(expected)
    for g, e in zip(got, expected, strict=True):
        np.testing.assert_allclose(g, e, rtol=rtol, atol=atol, strict=True)


# Randomness


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [
        ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ],
)
def test_philox_gives_the_published_vectors(counter: tuple, key: tuple, expected: tuple) -> None:
    """Random123's kat_vectors, philox4x32 with 10 rounds; the same through arrays of words."""
    assert oracle.philox4x32(counter, key) == expected
    blocks = oracle.philox4x32([np.full(3, word, dtype=np.uint64) for word in counter], key)
    assert [block.tolist() for block in blocks] == [[word] * 3 for word in expected]


@given(st.lists(st.integers(0, 2**32 - 1), min_size=3, max_size=3), st.integers(0, 2**64 - 1))
def test_philox_takes_words_and_arrays_together(rest: list[int], key: int) -> None:
    words = oracle.key_words(key)
    blocks = oracle.philox4x32((np.arange(5, dtype=np.uint64), *rest), words)
    for i, block in enumerate(np.stack(blocks, axis=1).tolist()):
        assert tuple(block) == oracle.philox4x32((i, *rest), words)


def test_keys_follow_their_definitions() -> None:
    seed, member = 0x0123456789ABCDEF, 5 * 2**32 + 7
    words = (0x89ABCDEF, 0x01234567)

    def first_two(counter: tuple[int, ...], key: tuple[int, int]) -> int:
        low, high, *_ = oracle.philox4x32(counter, key)
        return low + high * 2**32

    assert oracle.stream_key(seed, member) == first_two((7, 5, 0, 1), words)
    assert oracle.stream_key(seed, member_seed=2**32 + 3) == first_two((0, 0, 0, 2), (3, 1))
    assert oracle.stream_key(seed, member, member_seed=0) == first_two((0, 0, 0, 2), (0, 0))
    assert oracle.order_key(seed) == first_two((0, 0, 0, 3), words)
    with pytest.raises(ValueError, match="needs its id"):
        oracle.stream_key(seed)
    with pytest.raises(ValueError, match="not -1"):
        oracle.order_key(-1)


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**32 - 1), st.integers(0, 40))
def test_shuffled_order_follows_its_definition(key: int, epoch: int, n: int) -> None:
    order = list(range(n))
    for i in reversed(range(1, n)):
        s = n - 1 - i
        x = oracle.philox4x32((s // 4, epoch, n, 5), oracle.key_words(key))[s % 4]
        j = (x * (i + 1)) >> 32
        order[i], order[j] = order[j], order[i]
    got = oracle.shuffled_order(key, epoch, n)
    assert got.tolist() == order
    assert sorted(order) == list(range(n))


def test_all_orders_are_equally_likely() -> None:
    orders = [tuple(oracle.shuffled_order(key, epoch, 4).tolist()) for key in range(80) for epoch in range(30)]
    counts = np.unique(orders, axis=0, return_counts=True)[1]
    chi_squared = float(np.sum((counts - 100.0) ** 2 / 100.0))
    assert len(counts) == 24
    # The 99.9 % quantile with 23 degrees of freedom; the keys are fixed, so this never changes by chance.
    assert chi_squared < 49.7


@given(
    st.integers(0, 2**64 - 1), st.integers(0, 2**32 - 1), st.integers(0, 9), st.integers(0, 2**34), st.floats(0.0, 0.99)
)
def test_dropout_masks_follow_their_definition(key: int, epoch: int, layer: int, place: int, share: float) -> None:
    mask = oracle.dropout_mask(share, key, epoch, layer, place, (6, 3))
    assert mask.shape == (6, 3)
    for (row, unit), factor in np.ndenumerate(mask):
        four, i = divmod(place + row, 4)
        word = oracle.philox4x32((four, epoch, unit, 6 + 256 * layer), oracle.key_words(key))[i]
        assert factor == (0.0 if word < int(share * 2**32) else 1.0 / (1.0 - share))


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9])
def test_dropout_equals_pytorchs_in_distribution(torch: ModuleType, share: float) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        theirs = torch.nn.Dropout(share)(torch.ones(200, 100, dtype=torch.float64)).numpy()
    ours = oracle.dropout_mask(share, 3, 4, 1, 5, theirs.shape)
    np.testing.assert_allclose(np.unique(ours), np.unique(theirs), rtol=1e-15)
    # Of 20,000 draws; rows, columns and neighbors say nothing about each other.
    assert np.mean(ours == 0.0) == pytest.approx(share, abs=0.015)
    assert ours.mean() == pytest.approx(1.0, abs=0.15)
    if share:
        for a, b in ((ours[1:], ours[:-1]), (ours[:, 1:], ours[:, :-1])):
            assert abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) < 0.03


def test_dropout_draws_anew_in_each_row_layer_and_epoch() -> None:
    """And a row has the same mask wherever a minibatch begins."""
    whole = oracle.dropout_mask(0.5, 1, 2, 1, 0, (40, 30))
    for start in (0, 1, 2, 3, 7, 20):
        assert np.array_equal(oracle.dropout_mask(0.5, 1, 2, 1, start, (20, 30)), whole[start : start + 20])
    for key, epoch, layer in ((2, 2, 1), (1, 3, 1), (1, 2, 2), (1, 2, 0)):
        other = oracle.dropout_mask(0.5, key, epoch, layer, 0, (40, 30))
        assert 0.4 < np.mean(other == whole) < 0.6


@pytest.mark.parametrize("initializer", oracle.INITIALIZERS)
@pytest.mark.parametrize("bias", [True, False])
def test_initial_weights_follow_their_definition(initializer: str, bias: bool) -> None:
    settings = {"initializer": initializer, "zero_last": False, "parametrization": "standard"}
    spec = SimpleNamespace(hidden=(5, 3), bias=bias, **settings)
    key = oracle.stream_key(2**40 + 1, 3)
    weights, biases = oracle.initial_weights(spec, 4, 2, key)
    assert [w.shape for w in weights] == [(4, 5), (5, 3), (3, 2)]
    assert [b.shape for b in biases] == [(5,), (3,), (2,)]

    def u(layer: int, tensor: int, element: int) -> float:
        counter = (element // 4, 0, 2 * layer + tensor, 4)
        word = oracle.philox4x32(counter, oracle.key_words(key))[element % 4]
        return (word + 0.5) / 2**32

    def normal_cdf(x: float) -> float:
        return 0.5 * (1.0 + math.erf(x / math.sqrt(2.0)))

    for k, (w, b) in enumerate(zip(weights, biases, strict=True)):
        fan_in, fan_out = w.shape
        for (i, j), value in np.ndenumerate(w):
            expected = u(k, 0, i * fan_out + j)
            if initializer == "pytorch":
                assert value == pytest.approx((2 * expected - 1) / fan_in**0.5, abs=1e-15)
            elif initializer == "glorot_uniform":
                assert value == pytest.approx((2 * expected - 1) * (6 / (fan_in + fan_out)) ** 0.5, abs=1e-15)
            elif initializer == "he_uniform":
                assert value == pytest.approx((2 * expected - 1) * (6 / fan_in) ** 0.5, abs=1e-15)
            elif initializer == "glorot_normal":
                assert normal_cdf(value / (2 / (fan_in + fan_out)) ** 0.5) == pytest.approx(expected, abs=1e-14)
            elif initializer == "lecun_normal":
                assert normal_cdf(value * fan_in**0.5) == pytest.approx(expected, abs=1e-14)
            else:
                assert normal_cdf(value / (2 / fan_in) ** 0.5) == pytest.approx(expected, abs=1e-14)
        if initializer == "pytorch" and bias:
            np.testing.assert_allclose(b, [(2 * u(k, 1, j) - 1) / fan_in**0.5 for j in range(fan_out)], atol=1e-15)
        else:
            assert not b.any()


def test_divided_weights_start_from_standard_normal_numbers() -> None:
    settings = {"bias": True, "initializer": "pytorch", "zero_last": False}
    spec = SimpleNamespace(hidden=(500,), **settings, parametrization="ntk")
    weights, biases = oracle.initial_weights(spec, 40, 20, key=3)
    for w in weights:
        assert w.std() == pytest.approx(1.0, rel=0.02) and abs(w.mean()) < 0.03
    assert not any(b.any() for b in biases)


def test_initializers_equal_pytorchs_in_distribution(torch: ModuleType) -> None:
    """Bounds and standard deviations of torch.nn.init and torch.nn.Linear, by samples of both."""
    spec = SimpleNamespace(hidden=(), bias=True, zero_last=False, parametrization="standard")
    fan_in, fan_out = 120, 60
    empty = torch.zeros(fan_out, fan_in, dtype=torch.float64)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        linears = [torch.nn.Linear(fan_in, fan_out, dtype=torch.float64) for _ in range(50)]
        theirs = {
            "pytorch": linears[0].weight.detach(),
            "glorot_uniform": torch.nn.init.xavier_uniform_(empty.clone()),
            "glorot_normal": torch.nn.init.xavier_normal_(empty.clone()),
            "he_uniform": torch.nn.init.kaiming_uniform_(empty.clone(), nonlinearity="relu"),
            "he_normal": torch.nn.init.kaiming_normal_(empty.clone(), nonlinearity="relu"),
            "lecun_normal": torch.nn.init.kaiming_normal_(empty.clone(), nonlinearity="linear"),
        }
    biases = torch.cat([linear.bias.detach() for linear in linears]).numpy()
    assert set(theirs) == set(oracle.INITIALIZERS)
    for name, sample in theirs.items():
        spec.initializer = name
        (weights,), _ = oracle.initial_weights(spec, fan_in, fan_out, key=1)
        # Of 7200 numbers each, standard deviations agree to about 1 %; the nearest wrong one is 20 % away.
        assert weights.std() == pytest.approx(sample.numpy().std(), rel=0.05)
        assert abs(weights.mean()) < 0.05 * weights.std()
        if name.endswith("uniform") or name == "pytorch":
            assert np.abs(weights).max() == pytest.approx(sample.abs().max().item(), rel=0.005)
    spec.initializer = "pytorch"
    ours = np.concatenate([oracle.initial_weights(spec, fan_in, fan_out, key)[1][0] for key in range(50)])
    assert np.abs(ours).max() == pytest.approx(np.abs(biases).max(), rel=0.01)
    assert ours.std() == pytest.approx(biases.std(), rel=0.05)


# Formulas


def torch_activation(torch: ModuleType, name: str) -> Any:
    nn = torch.nn

    def elementwise(function: Any) -> Any:
        module = nn.Identity()
        module.forward = function
        return module

    modules = {
        "identity": nn.Identity,
        "sigmoid": nn.Sigmoid,
        "tanh": nn.Tanh,
        "relu": nn.ReLU,
        "leaky_relu": nn.LeakyReLU,
        "elu": nn.ELU,
        "gelu": nn.GELU,
        "selu": nn.SELU,
        "hardshrink": nn.Hardshrink,
        "mish": nn.Mish,
        "silu": nn.SiLU,
        # Up to its threshold PyTorch's is the function itself.
        "softplus": lambda: nn.Softplus(threshold=100.0),
        "softsign": nn.Softsign,
        "hard_tanh": nn.Hardtanh,
        # The slope of nn.Hardsigmoid is a sixth in float32, in every dtype.
        "hard_sigmoid": lambda: elementwise(lambda z: nn.functional.relu6(z + 3.0) / 6.0),
        "hard_swish": nn.Hardswish,
        "gelu_tanh": lambda: nn.GELU(approximate="tanh"),
        "sin": lambda: elementwise(torch.sin),
    }
    return modules[name]()


@pytest.mark.parametrize("name", oracle.ACTIVATIONS)
def test_activations_equal_pytorchs(torch: ModuleType, name: str) -> None:
    kinks = [0.0, -0.0, 0.5, -0.5, np.nextafter(0.5, 1.0), np.nextafter(-0.5, -1.0), 5e-324, -5e-324]
    kinks += [1.0, -1.0, 3.0, -3.0]
    z = np.concatenate([np.linspace(-8.0, 8.0, 1001), kinks, [-800.0, -40.0, 40.0, 800.0]])
    function, derivative = oracle.ACTIVATIONS[name]
    tensor = torch.tensor(z, requires_grad=True)
    value = torch_activation(torch, name)(tensor)
    (slope,) = torch.autograd.grad(value.sum(), tensor)
    np.testing.assert_allclose(function(z), value.detach().numpy(), rtol=1e-12, atol=1e-15, strict=True)
    # PyTorch's 1 - tanh² cancels: by an eps, times up to 8 for z and 4 for the argument's slope.
    atol = 1e-14 if name == "gelu_tanh" else 1e-15
    np.testing.assert_allclose(derivative(z), slope.numpy(), rtol=1e-12, atol=atol, strict=True)


@pytest.mark.parametrize("name", oracle.ACTIVATIONS)
def test_activations_keep_nan_and_their_argument(name: str) -> None:
    z = np.array([[np.nan, 1.0], [-1.0, np.nan]])
    before = z.copy()
    for function in oracle.ACTIVATIONS[name]:
        value = function(z)
        assert value.dtype == np.float64
        np.testing.assert_array_equal(np.isnan(value), np.isnan(z), strict=True)
    np.testing.assert_array_equal(z, before)


def torch_loss(torch: ModuleType, problem: Problem, raw: Any, y: np.ndarray) -> Any:
    """PyTorch's loss with the problem's parameters; those that it lacks are applied to targets and results."""
    name, parameters = named(problem.loss, problem.n_outputs)
    target, nn = torch.tensor(y), torch.nn
    smoothing = parameters.get("label_smoothing", 0.0)
    if name == "cross_entropy":
        return nn.CrossEntropyLoss(label_smoothing=smoothing)(raw, target)
    by_head = raw.reshape(len(raw), -1, heads(problem.loss))
    if name == "quantile":
        levels = torch.tensor(parameters.get("levels", (0.1, 0.5, 0.9)), dtype=raw.dtype)
        missing = target[..., None] - by_head
        losses = torch.maximum(levels * missing, (levels - 1.0) * missing).mean(dim=2)
    elif name == "gaussian_nll":
        own = nn.GaussianNLLLoss(reduction="none", eps=1e-300)
        losses = own(by_head[..., 0], target, torch.exp(by_head[..., 1]))
    else:
        modules = {
            "squared_error": nn.MSELoss,
            "binary_cross_entropy": nn.BCEWithLogitsLoss,
            "absolute_error": nn.L1Loss,
            "huber": nn.HuberLoss,
            "poisson": nn.PoissonNLLLoss,
        }
        own_parameters = {"delta": parameters["delta"]} if "delta" in parameters else {}
        losses = modules[name](reduction="none", **own_parameters)(raw, target * (1.0 - smoothing) + smoothing / 2.0)
    weights = torch.tensor(parameters.get("output_weight", (1.0,) * problem.n_outputs), dtype=raw.dtype)
    return (losses * weights).sum() / (weights.sum() * len(raw))


@pytest.mark.parametrize("scale", [1.0, 30.0, 1000.0])
@given(problem=problems())
def test_losses_equal_pytorchs(torch: ModuleType, scale: float, problem: Problem) -> None:
    """At large logits too, where naive formulas overflow (warnings are errors)."""
    name, parameters = named(problem.loss, problem.n_outputs)
    # These take exponentials of logarithms: 1000 is out of their range.
    scale = min(scale, 30.0) if name in ("poisson", "gaussian_nll") else scale
    raw_outputs = problem.n_outputs * heads(problem.loss)
    raw = np.random.default_rng(problem.seed).normal(0.0, scale, (problem.rows, raw_outputs))
    _, y = problem.data()
    loss, gradient = oracle.LOSSES[name](raw, y, **parameters)
    tensor = torch.tensor(raw, requires_grad=True)
    expected = torch_loss(torch, problem, tensor, y)
    (slope,) = torch.autograd.grad(expected, tensor)
    assert isinstance(loss, float)
    assert loss == pytest.approx(expected.item(), rel=1e-12, abs=1e-14)
    np.testing.assert_allclose(gradient, slope.numpy(), rtol=1e-11, atol=1e-14, strict=True)


def test_losses_refuse_targets_that_do_not_fit() -> None:
    raw = np.zeros((3, 2))
    for name in ("squared_error", "binary_cross_entropy"):
        assert oracle.LOSSES[name](raw[:, :1], np.zeros(3))[1].shape == (3, 1)
        for y in (np.zeros(3), np.zeros((3, 1)), np.zeros((3, 3))):
            with pytest.raises(ValueError, match="don't fit"):
                oracle.LOSSES[name](raw, y)
    for labels in ([0, 1], [0, 1, 2], [0, 1, -1], [0.0, 1.0, 1.0], [[0], [1], [1]]):
        with pytest.raises(ValueError, match="labels must be"):
            oracle.LOSSES["cross_entropy"](raw, labels)


# Gradients


def central_differences(
    mlp: oracle.OracleMLP, X: np.ndarray, y: np.ndarray, parameters: list[np.ndarray], masks: Any = None
) -> list[np.ndarray]:
    slopes = []
    for parameter in parameters:
        slope = np.empty_like(parameter)
        for index, value in np.ndenumerate(parameter):
            parameter[index] = value + STEP
            above = mlp.loss(X, y, masks)
            parameter[index] = value - STEP
            below = mlp.loss(X, y, masks)
            parameter[index] = value
            slope[index] = (above - below) / (2.0 * STEP)
        slopes.append(slope)
    return slopes


def differences_are_slopes(problem: Problem, **options: float) -> bool:
    X, y = problem.data()
    mlp = problem.network(options=options)
    masks = mlp.masks(len(X), 0, 0)
    distance = mlp.smallest_kink_distance(X, masks)
    if mlp.loss_name in ("absolute_error", "quantile"):
        _, pre_activations = mlp._forward(X, masks)
        split, targets = oracle.in_heads(pre_activations[-1], y, heads(problem.loss))
        distance = min(distance, np.abs(split - targets).min())
    # A loss of exp(10) is rounded by more than small gradients are.
    tame = mlp.loss_name not in ("poisson", "gaussian_nll") or np.abs(mlp.forward(X)).max() < 3.0
    return bool(distance > CLEAR_OF_KINKS and tame)


def assert_gradients_are_slopes(problem: Problem, **options: float) -> None:
    mlp = problem.network(options=options)
    X, y = problem.data()
    masks = mlp.masks(len(X), 0, 0)
    weight_gradients, bias_gradients, scale_gradients = mlp.gradients(X, y, masks)
    assert_same_arrays(weight_gradients, central_differences(mlp, X, y, mlp.weights, masks), **NEARLY)
    if problem.bias:
        assert_same_arrays(bias_gradients, central_differences(mlp, X, y, mlp.biases, masks), **NEARLY)
    else:
        assert not any(gradient.any() for gradient in bias_gradients)
    assert_same_arrays(scale_gradients, central_differences(mlp, X, y, mlp.scales, masks), **NEARLY)


@pytest.mark.parametrize("name", oracle.ACTIVATIONS)
@given(data=st.data())
def test_gradients_are_slopes_with_every_activation(name: str, data: st.DataObject) -> None:
    assert_gradients_are_slopes(data.draw(problems(activations=[name]).filter(differences_are_slopes)))


@pytest.mark.parametrize("name", VARIANTS)
@given(data=st.data())
def test_gradients_are_slopes_with_every_loss(name: str, data: st.DataObject) -> None:
    assert_gradients_are_slopes(data.draw(problems(losses=[name]).filter(differences_are_slopes)))


@given(problem=problems(), share=st.sampled_from([0.2, 0.6]), of_features=st.sampled_from([0.0, 0.3]))
def test_gradients_are_slopes_with_dropout(problem: Problem, share: float, of_features: float) -> None:
    options = {"dropout": share, "input_dropout": of_features}
    assume(differences_are_slopes(problem, **options))
    assert_gradients_are_slopes(problem, **options)


@given(problem=problems(), share=st.sampled_from([0.0, 0.3]), divided=st.booleans())
def test_gradients_are_slopes_with_feature_scales(problem: Problem, share: float, divided: bool) -> None:
    options = {"feature_scale": True, "input_dropout": share, "parametrization": "ntk" if divided else "standard"}
    assume(differences_are_slopes(problem, **options))
    assert_gradients_are_slopes(problem, **options)


def test_smallest_kink_distance() -> None:
    def distance(activation: str | tuple[str, ...], x: float) -> float:
        hidden = (1,) if isinstance(activation, str) else (1,) * len(activation)
        mlp = oracle.OracleMLP(hidden, activation, 1, 1, "squared_error", "sgd", {})
        mlp.set_state([np.ones((1, 1))] * len(mlp.weights))
        return mlp.smallest_kink_distance([[x], [10.0]])

    for name in ("relu", "leaky_relu", "selu"):
        assert distance(name, -0.25) == 0.25
    assert distance("hardshrink", 0.375) == 0.125
    assert distance("hardshrink", -0.75) == 0.25
    assert distance("hard_tanh", -0.75) == 0.25
    assert distance("hard_sigmoid", 2.5) == distance("hard_swish", -2.5) == 0.5
    smooth = ("identity", "sigmoid", "tanh", "elu", "gelu", "mish", "silu", "softplus", "softsign", "gelu_tanh", "sin")
    for name in (*smooth, ()):
        assert distance(name, 0.0) == math.inf
    assert distance(("relu", "hardshrink"), 0.4375) == 0.0625
    assert distance(("tanh", "relu"), 0.1) == math.tanh(0.1)


@pytest.mark.parametrize("name", oracle.ACTIVATIONS)
def test_kinks_are_where_the_derivative_jumps(name: str) -> None:
    _, derivative = oracle.ACTIVATIONS[name]
    z = np.linspace(-4.0, 4.0, 8001)
    jumps = np.abs(derivative(z + 1e-9) - derivative(z - 1e-9)) > 1e-3
    np.testing.assert_allclose(z[jumps], oracle.KINKS.get(name, ()), atol=1e-12)


# Training


def torch_twin(torch: ModuleType, problem: Problem, mlp: oracle.OracleMLP) -> Any:
    modules: list[Any] = []
    for k, (w, b) in enumerate(zip(mlp.weights, mlp.biases, strict=True)):
        linear = torch.nn.Linear(*w.shape, bias=problem.bias, dtype=torch.float64)
        with torch.no_grad():
            linear.weight.copy_(torch.from_numpy(w.T))
            if problem.bias:
                linear.bias.copy_(torch.from_numpy(b))
        modules.append(linear)
        if k < len(problem.hidden):
            name = problem.activation if isinstance(problem.activation, str) else problem.activation[k]
            modules.append(torch_activation(torch, name))
    return torch.nn.Sequential(*modules)


# Slots of the oracle and their names in PyTorch's optimizer state.
TORCH_SLOTS = {"momentum": "momentum_buffer", "m": "exp_avg", "v": "exp_avg_sq", "square": "square_avg"}

OPTIMIZERS: dict[str, tuple[str, dict[str, Any]]] = {
    "sgd": ("sgd", {"learning_rate": 0.02}),
    "sgd with decay": ("sgd", {"learning_rate": 0.02, "weight_decay": 0.1}),
    "momentum": ("sgd", {"learning_rate": 0.005, "momentum": 0.9, "weight_decay": 0.02}),
    "nesterov": ("sgd", {"learning_rate": 0.005, "momentum": 0.8, "nesterov": True, "weight_decay": 0.02}),
    "adam": ("adam", {"learning_rate": 0.01}),
    "adam with decay": ("adam", {"learning_rate": 0.02, "beta1": 0.8, "beta2": 0.97, "eps": 1e-5, "weight_decay": 0.1}),
    "adamw": ("adamw", {"learning_rate": 0.02, "beta1": 0.85, "beta2": 0.95, "eps": 1e-6, "weight_decay": 0.2}),
    "rmsprop": ("rmsprop", {"learning_rate": 0.005, "alpha": 0.9, "eps": 1e-4, "weight_decay": 0.1}),
    "rmsprop with momentum": ("rmsprop", {"learning_rate": 0.002, "eps": 1e-4, "momentum": 0.8}),
    "nadam": ("nadam", {"learning_rate": 0.01, "beta1": 0.8, "beta2": 0.97, "eps": 1e-5, "momentum_decay": 0.1}),
    "nadam with decay": ("nadam", {"learning_rate": 0.01, "weight_decay": 0.1}),
    "defaults of rmsprop": ("rmsprop", {}),
    "defaults of nadam": ("nadam", {}),
    "defaults of sgd": ("sgd", {}),
    "defaults of adam": ("adam", {}),
    "defaults of adamw": ("adamw", {}),
}


def torch_optimizer(torch: ModuleType, twin: Any, optimizer: str, hyperparameters: dict[str, Any]) -> Any:
    """PyTorch's optimizer with its own defaults, decay kept from the biases by a parameter group."""
    given = dict(hyperparameters)
    keywords: dict[str, Any] = {}
    if "learning_rate" in given:
        keywords["lr"] = given.pop("learning_rate")
    elif optimizer == "sgd":
        # The library's default; PyTorch's is 0.001 since version 2.3.
        keywords["lr"] = 0.01
    if "beta1" in given:
        keywords["betas"] = (given.pop("beta1"), given.pop("beta2"))
    keywords.update(given)
    linears = [module for module in twin if isinstance(module, torch.nn.Linear)]
    groups: list[dict[str, Any]] = [{"params": [linear.weight for linear in linears]}]
    if linears[0].bias is not None:
        groups.append({"params": [linear.bias for linear in linears], "weight_decay": 0.0})
    kinds = {
        "sgd": torch.optim.SGD,
        "adam": torch.optim.Adam,
        "adamw": torch.optim.AdamW,
        "rmsprop": torch.optim.RMSprop,
        "nadam": torch.optim.NAdam,
    }
    return kinds[optimizer](groups, **keywords)


def assert_same_as_twin(torch: ModuleType, mlp: oracle.OracleMLP, twin: Any, steps: Any) -> None:
    """Parameters, and those optimizer slots that PyTorch keeps (it has no momentum buffer without momentum)."""
    linears = [module for module in twin if isinstance(module, torch.nn.Linear)]
    for kind in ("weights", "biases") if linears[0].bias is not None else ("weights",):
        parameters = [linear.weight if kind == "weights" else linear.bias for linear in linears]
        assert_same_arrays(getattr(mlp, kind), [p.detach().numpy().T for p in parameters], **SAME)
        for name, slot in mlp.slots.items():
            theirs = [steps.state[p].get(TORCH_SLOTS[name]) for p in parameters]
            if theirs[0] is not None:
                assert_same_arrays(slot[kind], [t.numpy().T for t in theirs], **SAME)
            else:
                assert name == "momentum" and mlp.hyperparameters["momentum"] == 0.0


@pytest.mark.parametrize("name", OPTIMIZERS)
@given(problem=problems(), batch_size=st.integers(1, 9))
def test_training_equals_pytorchs(torch: ModuleType, name: str, problem: Problem, batch_size: int) -> None:
    optimizer, hyperparameters = OPTIMIZERS[name]
    mlp = problem.network(optimizer, **hyperparameters)
    twin = torch_twin(torch, problem, mlp)
    steps = torch_optimizer(torch, twin, optimizer, hyperparameters)
    X, y = problem.data()
    inputs = torch.tensor(X)
    np.testing.assert_allclose(mlp.forward(X), twin(inputs).detach().numpy(), **SAME, strict=True)
    history = mlp.train(X, y, epochs=3, batch_size=batch_size, shuffle_key=problem.seed)
    assume(all(loss < DIVERGING for loss in history))
    for epoch, loss in enumerate(history):
        losses = []
        for rows in torch.tensor(oracle.shuffled_order(problem.seed, epoch, len(X))).split(batch_size):
            steps.zero_grad()
            batch_loss = torch_loss(torch, problem, twin(inputs[rows]), y[rows.numpy()])
            batch_loss.backward()
            steps.step()
            losses.append(batch_loss.item())
        assert loss == pytest.approx(float(np.mean(losses)), rel=1e-8, abs=1e-10)
    assert_same_as_twin(torch, mlp, twin, steps)
    assert mlp.loss(X, y) == pytest.approx(torch_loss(torch, problem, twin(inputs), y).item(), rel=1e-8, abs=1e-10)


class Divided:
    """A layer whose weights are divided by the root of their fan-in."""

    def __init__(self, torch: ModuleType, weights: np.ndarray, biases: np.ndarray) -> None:
        self.weight = torch.nn.Parameter(torch.tensor(weights))
        self.bias = torch.nn.Parameter(torch.tensor(biases))
        self.root = math.sqrt(len(weights))

    def __call__(self, x: Any) -> Any:
        return x @ self.weight / self.root + self.bias


@pytest.mark.parametrize("optimizer", oracle.OPTIMIZERS)
@given(
    seed=st.integers(0, 2**32 - 1),
    decay_biases=st.booleans(),
    depth=st.integers(0, 2),
    limit=st.sampled_from([0.0, 0.3, 3.0]),
    scaled=st.booleans(),
)
def test_options_of_steps_by_autograd(
    torch: ModuleType, optimizer: str, seed: int, decay_biases: bool, depth: int, limit: float, scaled: bool
) -> None:
    """Penalties as terms of the loss, divided weights in the forward pass, learning rates in parameter groups; what is
    clipped is the gradient without penalties, by the weights that are trained."""
    options = {
        "l1": 0.05, "decoupled_weight_decay": 0.3, "decay_biases": decay_biases, "bias_rate_factor": 0.5,
        "first_layer_rate_factor": 3.0, "last_layer_rate_factor": 0.25, "parametrization": "ntk", "clip_norm": limit,
        "feature_scale": scaled, "feature_scale_rate_factor": 6.0,
    }  # fmt: skip
    rate, l2 = 0.01, 0.1
    hyperparameters = {"learning_rate": rate} | ({} if optimizer == "adamw" else {"weight_decay": l2})
    mlp = oracle.OracleMLP((4,) * depth, "tanh", 3, 2, "squared_error", optimizer, hyperparameters, options=options)
    rng = np.random.default_rng(seed)
    mlp.set_state([rng.normal(size=w.shape) for w in mlp.weights], [rng.normal(size=b.shape) for b in mlp.biases])
    layers = [Divided(torch, w, b) for w, b in zip(mlp.weights, mlp.biases, strict=True)]
    groups = []
    for k, layer in enumerate(layers):
        factor = (3.0 if k == 0 and depth else 1.0) * (0.25 if k == depth else 1.0)
        decay = {"weight_decay": 0.01} if optimizer == "adamw" else {}
        groups.append({"params": [layer.weight], "lr": rate * factor, **decay})
        no_decay = {} if decay_biases else {"weight_decay": 0.0}
        groups.append({"params": [layer.bias], "lr": rate * factor * 0.5, **decay, **no_decay})
    scales = torch.nn.Parameter(torch.ones(3, dtype=torch.float64))
    if scaled:
        groups.append({"params": [scales], "lr": rate * 6.0, "weight_decay": 0.0})
    kinds = {name.lower(): name for name in dir(torch.optim)}
    steps = getattr(torch.optim, kinds[optimizer])(groups, lr=rate)
    X, y = rng.normal(size=(5, 3)), rng.normal(size=(5, 2))
    decaying = [layer.weight for layer in layers] + [layer.bias for layer in layers if decay_biases]
    for _ in range(3):
        mlp.step(X, y)
        out = torch.tensor(X) * scales
        for k, layer in enumerate(layers):
            out = layer(out) if k == depth else torch.tanh(layer(out))
        steps.zero_grad()
        torch.nn.functional.mse_loss(out, torch.tensor(y)).backward()
        if limit:
            torch.nn.utils.clip_grad_norm_([p for group in groups for p in group["params"]], limit)
        penalty = sum(0.05 * p.abs().sum() for p in decaying)
        if optimizer != "adamw":
            penalty = penalty + sum(0.5 * l2 * (p**2).sum() for p in decaying)
        penalty.backward()
        before = [p.detach().clone() for p in decaying]
        steps.step()
        with torch.no_grad():
            for p, old in zip(decaying, before, strict=True):
                (group,) = (group for group in steps.param_groups if group["params"][0] is p)
                p -= group["lr"] * 0.3 * old
    assert_same_arrays(mlp.weights, [layer.weight.detach().numpy() for layer in layers], **SAME)
    assert_same_arrays(mlp.biases, [layer.bias.detach().numpy() for layer in layers], **SAME)
    assert_same_arrays(mlp.scales, [scales.detach().numpy()], **SAME)
    divided = [w / math.sqrt(len(w)) for w in mlp.weights]
    assert_same_arrays(mlp.divided_weights, divided, rtol=0.0, atol=0.0)
    divided[0] = divided[0] * mlp.scales[0][:, None]
    assert_same_arrays(mlp.effective_weights, divided, rtol=0.0, atol=0.0)


def test_how_near_a_penalized_parameter_came_to_zero() -> None:
    hyperparameters = {"learning_rate": 1.0}
    mlp = oracle.OracleMLP((), "tanh", 1, 1, "squared_error", "sgd", hyperparameters, options={"l1": 1.0})
    X, y = np.zeros((1, 1)), np.zeros(1)
    seen = []
    for weight in (2.0, 1.0, 5.0):
        mlp.set_state([[[weight]]])
        mlp.step(X, y)
        seen.append((mlp.weights[0].item(), mlp.nearest_zero))
    assert seen == [(1.0, 1.0 / 3.0), (0.0, 0.0), (4.0, 0.0)]
    plain = oracle.OracleMLP((), "tanh", 1, 1, "squared_error", "sgd", hyperparameters)
    plain.step(X, y)
    assert plain.nearest_zero == math.inf


def test_learning_rates_fall_on_a_plateau() -> None:
    options = {"plateau_patience": 2.0, "plateau_factor": 0.5}
    mlp = oracle.OracleMLP((), "tanh", 1, 1, "squared_error", "sgd", {}, options=options)
    seen = []
    for loss in (5.0, 4.0, 4.0, 4.5, 3.0, 3.0, math.nan, 3.5, 3.0, 2.0):
        mlp.watch(loss)
        seen.append(mlp.rate_factor)
    assert seen == [1.0, 1.0, 1.0, 0.5, 0.5, 0.5, 0.25, 0.25, 0.125, 0.125]


REGULARIZED: dict[str, dict[str, float]] = {
    "dropout": {"dropout": 0.3, "input_dropout": 0.2},
    "clipping": {"clip_norm": 0.2},
    "averages": {"average": 0.7},
    "all": {"dropout": 0.5, "input_dropout": 0.1, "clip_norm": 1.0, "average": 0.9},
}


def torch_raw(torch: ModuleType, twin: Any, inputs: Any, masks: Any) -> Any:
    """The twin's raw outputs with given masks in the place of torch.nn.Dropout, which draws its own."""
    factors = [torch.from_numpy(mask) for mask in masks or []]
    a = inputs * factors[0] if factors else inputs
    layer = 0
    for module in twin:
        a = module(a)
        if factors and not isinstance(module, torch.nn.Linear):
            layer += 1
            a = a * factors[layer]
    return a


@pytest.mark.parametrize("name", REGULARIZED)
@pytest.mark.parametrize("optimizer", ["sgd with decay", "adam with decay"])
@given(problem=problems(), batch_size=st.integers(1, 9))
def test_regularized_training_equals_pytorchs(
    torch: ModuleType, optimizer: str, name: str, problem: Problem, batch_size: int
) -> None:
    kind, hyperparameters = OPTIMIZERS[optimizer]
    mlp = problem.network(kind, REGULARIZED[name], **hyperparameters)
    twin = torch_twin(torch, problem, mlp)
    steps = torch_optimizer(torch, twin, kind, hyperparameters)
    decay, limit = (REGULARIZED[name].get(option, 0.0) for option in ("average", "clip_norm"))
    averaged = torch.optim.swa_utils.AveragedModel(twin, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(decay))
    X, y = problem.data()
    inputs = torch.tensor(X)
    history = mlp.train(X, y, epochs=3, batch_size=batch_size, shuffle_key=problem.seed)
    assume(all(loss < DIVERGING for loss in history))
    for epoch, loss in enumerate(history):
        losses = []
        order = oracle.shuffled_order(problem.seed, epoch, len(X))
        for place in range(0, len(X), batch_size):
            rows = order[place : place + batch_size]
            masks = mlp.masks(len(rows), epoch, place)
            steps.zero_grad()
            batch_loss = torch_loss(torch, problem, torch_raw(torch, twin, inputs[rows], masks), y[rows])
            batch_loss.backward()
            if limit:
                torch.nn.utils.clip_grad_norm_(twin.parameters(), limit)
            steps.step()
            averaged.update_parameters(twin)
            losses.append(batch_loss.item())
        assert loss == pytest.approx(float(np.mean(losses)), rel=1e-8, abs=1e-10)
    assert_same_as_twin(torch, mlp, twin, steps)
    linears = [module for module in averaged.module if isinstance(module, torch.nn.Linear)]
    theirs = [linear.weight for linear in linears] + [linear.bias for linear in linears if problem.bias]
    ours = mlp.averages if problem.bias else mlp.averages[: len(linears)]
    assert_same_arrays(ours, [parameter.detach().numpy().T for parameter in theirs], **SAME)
    # Without dropout.
    assert mlp.loss(X, y) == pytest.approx(torch_loss(torch, problem, twin(inputs), y).item(), rel=1e-8, abs=1e-10)


SKLEARN_ACTIVATIONS = {"identity": "identity", "sigmoid": "logistic", "tanh": "tanh", "relu": "relu"}


def sklearn_twin(neural_network: ModuleType, problem: Problem, mlp: oracle.OracleMLP, learning_rate: float) -> Any:
    """scikit-learn's network with the same parameters, ready for steps of plain SGD on all rows at once."""
    kind = neural_network.MLPRegressor if problem.loss == "squared_error" else neural_network.MLPClassifier
    twin = kind(
        hidden_layer_sizes=problem.hidden,
        activation=SKLEARN_ACTIVATIONS[str(problem.activation)],
        solver="sgd",
        alpha=0.0,
        momentum=0.0,
        nesterovs_momentum=False,
        learning_rate_init=learning_rate,
        batch_size=problem.rows,
        shuffle=False,
    )
    X, y = problem.data()
    # The first call makes the arrays that the next lines replace.
    if problem.loss == "squared_error":
        twin.partial_fit(X, sklearn_targets(y))
    else:
        twin.partial_fit(X, sklearn_targets(y), classes=np.arange(max(2, problem.n_outputs)))
    twin.coefs_ = [w.copy() for w in mlp.weights]
    twin.intercepts_ = [b.copy() for b in mlp.biases]
    return twin


def sklearn_targets(y: np.ndarray) -> np.ndarray:
    return y[:, 0] if y.shape[1:] == (1,) else y


def links(problem: Problem, raw: np.ndarray) -> np.ndarray:
    """Raw outputs as scikit-learn returns them: values, or probabilities."""
    if problem.loss == "squared_error":
        return sklearn_targets(raw)
    if problem.loss == "cross_entropy":
        powers = np.exp(raw - raw.max(axis=1, keepdims=True))
        return powers / powers.sum(axis=1, keepdims=True)
    p = 1.0 / (1.0 + np.exp(-raw))
    return np.hstack([1.0 - p, p]) if problem.n_outputs == 1 else p


@pytest.mark.parametrize("name", ["squared_error", "binary_cross_entropy", "cross_entropy"])
@given(data=st.data())
def test_one_step_equals_scikit_learns(neural_network: ModuleType, name: str, data: st.DataObject) -> None:
    """One partial_fit from the same parameters.

    scikit-learn halves the squared error. That it averages over outputs, as we do, but not its gradient; log loss it
    sums over outputs, with its gradient.
    """
    # With fewer than three classes scikit-learn has one logistic output.
    n_outputs = data.draw(st.integers(3 if name == "cross_entropy" else 1, 4))
    problem = replace(data.draw(problems(losses=[name])), n_outputs=n_outputs, bias=True)
    problem = replace(problem, activation=data.draw(st.sampled_from(list(SKLEARN_ACTIVATIONS))))
    loss_ratio = {"squared_error": 0.5, "binary_cross_entropy": n_outputs, "cross_entropy": 1.0}[name]
    gradient_ratio = {"squared_error": 0.5 * n_outputs, "binary_cross_entropy": n_outputs, "cross_entropy": 1.0}[name]

    mlp = problem.network("sgd", learning_rate=0.1)
    twin = sklearn_twin(neural_network, problem, mlp, learning_rate=0.1 / gradient_ratio)
    X, y = problem.data()
    raw = mlp.forward(X)
    # Its log loss is of probabilities, cut off at 2e-16; ours is of raw outputs and has no limit.
    assume(name == "squared_error" or np.abs(raw).max() < 12.0)
    predictions = twin.predict(X) if name == "squared_error" else twin.predict_proba(X)
    np.testing.assert_allclose(links(problem, raw), predictions, **SAME, strict=True)

    loss = mlp.step(X, y)
    twin.partial_fit(X, sklearn_targets(y))
    assert twin.loss_curve_[-1] == pytest.approx(loss * loss_ratio, rel=1e-8, abs=1e-10)
    assert_same_arrays(mlp.weights, twin.coefs_, **SAME)
    assert_same_arrays(mlp.biases, twin.intercepts_, **SAME)


@given(problem=problems(), batch_size=st.integers(1, 9), key=st.none() | st.integers(0, 2**64 - 1))
def test_train_is_steps_in_order_and_can_go_on(problem: Problem, batch_size: int, key: int | None) -> None:
    X, y = problem.data()
    whole, parts, by_hand = (problem.network("adam", learning_rate=0.02) for _ in range(3))
    history = whole.train(X, y, 3, batch_size, key)
    assert history == [*parts.train(X, y, 2, batch_size, key), *parts.train(X, y, 1, batch_size, key, first_epoch=2)]
    for epoch in range(3):
        order = np.arange(len(X)) if key is None else oracle.shuffled_order(key, epoch, len(X))
        losses = []
        while len(order):
            losses.append(by_hand.step(X[order[:batch_size]], y[order[:batch_size]]))
            order = order[batch_size:]
        assert history[epoch] == pytest.approx(np.mean(losses), rel=1e-14)
    assert whole.step_count == parts.step_count == by_hand.step_count == 3 * math.ceil(len(X) / batch_size)
    for other in (parts, by_hand):
        assert_same_arrays(other.weights + other.biases, whole.weights + whole.biases, rtol=0.0, atol=0.0)


@pytest.mark.parametrize("optimizer", oracle.OPTIMIZERS)
def test_state_can_be_carried_over(optimizer: str) -> None:
    problem = Problem((3, 2), "tanh", 4, 2, "squared_error", True, 6, seed=5)
    X, y = problem.data()
    hyperparameters = {"momentum": 0.9} if optimizer == "sgd" else {}
    first = problem.network(optimizer, **hyperparameters)
    first.train(X, y, 2, 4)
    second = problem.network(optimizer, **hyperparameters)
    second.set_state(first.weights, first.biases, first.slots, first.step_count)
    expected = [first.step(X, y), first.step(X, y)]
    assert [second.step(X, y), second.step(X, y)] == expected
    assert_same_arrays(second.weights + second.biases, first.weights + first.biases, rtol=0.0, atol=0.0)


def test_set_state_casts_copies_and_checks() -> None:
    mlp = oracle.OracleMLP((2,), "relu", 3, 1, "squared_error", "adam", {})
    weights = [np.ones((3, 2), dtype=np.float32), np.ones((2, 1), dtype=np.float32)]
    mlp.set_state(weights, slots={"v": {"weights": weights, "biases": [np.ones(2), np.ones(1)]}}, step_count=4)
    for array in (*mlp.weights, *mlp.slots["v"]["weights"]):
        assert array.dtype == np.float64
    mlp.step(np.ones((2, 3), dtype=np.float32), np.zeros(2, dtype=np.float32))
    assert mlp.weights[0].dtype == np.float64 and mlp.step_count == 5
    assert all(np.all(w == 1.0) for w in weights)
    with pytest.raises(ValueError, match="expected arrays of shapes"):
        mlp.set_state([w.T for w in weights])
    with pytest.raises(ValueError, match="expected arrays of shapes"):
        mlp.set_state(weights, [np.ones(2)])


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_absent_biases_stay_zero(name: str) -> None:
    optimizer, hyperparameters = OPTIMIZERS[name]
    problem = Problem((3, 2), "sigmoid", 4, 2, "squared_error", False, 6, seed=7)
    # Without eps Adam makes 0/0 of a zero gradient.
    without_eps = {} if optimizer == "sgd" else {"eps": 0.0}
    mlp = problem.network(optimizer, **{**hyperparameters, **without_eps})
    mlp.train(*problem.data(), epochs=3, batch_size=4)
    assert [b.shape for b in mlp.biases] == [(3,), (2,), (2,)]
    assert not any(b.any() for b in mlp.biases)


def test_divergence_is_silent_and_ends_in_nan() -> None:
    problem = Problem((3,), "relu", 2, 1, "squared_error", True, 6, seed=3)
    mlp = problem.network("sgd", learning_rate=1e6)
    history = mlp.train(*problem.data(), epochs=40, batch_size=2)
    assert math.isnan(history[-1])
    assert np.isnan(mlp.forward(problem.data()[0])).any()


def test_impossible_networks_are_refused() -> None:
    with pytest.raises(ValueError, match="one per hidden layer"):
        oracle.OracleMLP((2, 2), ("relu",), 3, 1, "squared_error", "adam", {})
    with pytest.raises(ValueError, match="adam has no"):
        oracle.OracleMLP((2,), "relu", 3, 1, "squared_error", "adam", {"momentum": 0.9})


# The checks themselves


def test_comparisons_can_fail(torch: ModuleType) -> None:
    arrays = [np.ones((2, 3)), np.ones(3)]
    a_little_off = np.array([1.0, 1.0, 1.0 + 1e-7])
    for wrong in ([arrays[0]], [arrays[0], np.ones(1)], [arrays[0], a_little_off], [arrays[0], np.full(3, np.nan)]):
        with pytest.raises(AssertionError):
            assert_same_arrays(wrong, arrays, **SAME)

    problem = Problem((3,), "tanh", 2, 2, "squared_error", True, 6, seed=3)
    X, y = problem.data()
    mlp = problem.network("adam")
    twin = torch_twin(torch, problem, mlp)
    steps = torch_optimizer(torch, twin, "adam", {})
    torch_loss(torch, problem, twin(torch.tensor(X)), y).backward()
    steps.step()
    mlp.step(X, y)
    assert_same_as_twin(torch, mlp, twin, steps)
    for arrays in (mlp.weights, mlp.biases, mlp.slots["m"]["weights"], mlp.slots["v"]["biases"]):
        arrays[1].flat[-1] += 1e-6
        with pytest.raises(AssertionError):
            assert_same_as_twin(torch, mlp, twin, steps)
        arrays[1].flat[-1] -= 1e-6


def test_gradient_check_can_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = Problem((3, 2), "tanh", 2, 2, "squared_error", True, 6, seed=3)
    assert_gradients_are_slopes(problem)
    function, derivative = oracle.ACTIVATIONS["tanh"]
    monkeypatch.setitem(oracle.ACTIVATIONS, "tanh", (function, lambda z: 1.001 * derivative(z)))
    with pytest.raises(AssertionError):
        assert_gradients_are_slopes(problem)


def test_missing_packages_skip_here_and_fail_on_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    assert requires("math") is math
    for value, outcome in (("", pytest.skip.Exception), ("true", pytest.fail.Exception)):
        monkeypatch.setenv("CI", value)
        for name in ("no_such_package", "no_such_package.part"):
            with pytest.raises(outcome, match="no_such_package is not installed"):
                requires(name)
