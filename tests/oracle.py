"""An independent multi-layer perceptron, plain float64 NumPy, that the library's members are held to.

It shares no code with pmlp_np and doesn't import it: formulas stand in textbook form, one network at a time, and little
is done for speed. `test_oracle.py` holds it to finite differences, PyTorch, scikit-learn and Philox's test vectors.

Shapes: X is (rows, features), raw outputs are (rows, outputs), weights are (fan_in, fan_out), biases are (fan_out,).
Non-finite values flow through as IEEE arithmetic says, without warnings, so that a diverging network can be followed.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import NormalDist
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]
Word = int | NDArray[np.integer[Any]]

# Randomness: Philox4x32-10, from Salmon, Moraes, Dror and Shaw, "Parallel Random Numbers: As Easy as 1, 2, 3", SC 2011

LOW_32 = 0xFFFFFFFF
PHILOX_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
PHILOX_KEY_STEPS = (0x9E3779B9, 0xBB67AE85)

# Last counter word: what the random words are for.
FOR_MEMBER_ID, FOR_MEMBER_SEED, FOR_ORDER_KEY, FOR_WEIGHTS, FOR_SHUFFLE, FOR_DROPOUT = 1, 2, 3, 4, 5, 6


def low(value: int) -> int:
    return value & LOW_32


def high(value: int) -> int:
    return value >> 32


def philox4x32(counter: Sequence[Word], key: Sequence[int]) -> tuple[Word, Word, Word, Word]:
    """Four random 32-bit words of a counter of four 32-bit words and a key of two.

    The counter's words are Python ints or, for many blocks at once, uint64 arrays, which hold a product of two words.
    """
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        p0 = PHILOX_MULTIPLIERS[0] * c0
        p1 = PHILOX_MULTIPLIERS[1] * c2
        c0, c1, c2, c3 = (p1 >> 32) ^ c1 ^ k0, p1 & LOW_32, (p0 >> 32) ^ c3 ^ k1, p0 & LOW_32
        k0 = (k0 + PHILOX_KEY_STEPS[0]) & LOW_32
        k1 = (k1 + PHILOX_KEY_STEPS[1]) & LOW_32
    return c0, c1, c2, c3


def key_words(key: int) -> tuple[int, int]:
    if not 0 <= key < 2**64:
        raise ValueError(f"a key or seed must lie in 0 ... 2**64 - 1, not {key}")
    return low(key), high(key)


def derived_key(counter: Sequence[int], key: int) -> int:
    words = philox4x32(counter, key_words(key))
    return int(words[0]) | int(words[1]) << 32


def stream_key(pool_seed: int, member_id: int | None = None, member_seed: int | None = None) -> int:
    """A member's 64-bit key: from the pool's seed and the member's id, or from the member's own seed alone."""
    if member_seed is not None:
        return derived_key((0, 0, 0, FOR_MEMBER_SEED), member_seed)
    if member_id is None:
        raise ValueError("a member without a seed needs its id")
    return derived_key((low(member_id), high(member_id), 0, FOR_MEMBER_ID), pool_seed)


def order_key(pool_seed: int) -> int:
    """The 64-bit key of the row order that all members share."""
    return derived_key((0, 0, 0, FOR_ORDER_KEY), pool_seed)


def in_reading_order(blocks: Sequence[Word], count: int) -> NDArray[np.uint64]:
    return np.stack([np.asarray(words, dtype=np.uint64) for words in blocks], axis=1).ravel()[:count]


def shuffled_order(key: int, epoch: int, n: int) -> NDArray[np.intp]:
    """The order of n rows in an epoch: Fisher and Yates from the last position down, one random word per swap."""
    blocks = np.arange(-(-n // 4), dtype=np.uint64)
    counter = (blocks, epoch, low(n), FOR_SHUFFLE ^ (high(n) << 8))
    words = in_reading_order(philox4x32(counter, key_words(key)), n).tolist()
    order = list(range(n))
    for i in range(n - 1, 0, -1):
        j = words[n - 1 - i] * (i + 1) >> 32
        order[i], order[j] = order[j], order[i]
    return np.array(order, dtype=np.intp)


def dropout_mask(share: float, key: int, epoch: int, layer: int, place: int, shape: tuple[int, int]) -> Array:
    """What dropout multiplies a layer's (rows, units) by, 0 or 1 / (1 - share).

    The first row is the one at this place of the epoch's order; layer 0 are the features. Four rows share a counter.
    """
    rows, units = np.arange(place, place + shape[0], dtype=np.uint64)[:, None], np.arange(shape[1], dtype=np.uint64)
    words = philox4x32((rows // 4, epoch, units, FOR_DROPOUT ^ (layer << 8)), key_words(key))
    of_row = np.choose((rows % 4).astype(np.intp), [np.broadcast_to(word, shape) for word in words])
    return np.where(of_row < math.floor(share * 2**32), 0.0, 1.0 / (1.0 - share))


def open_uniform(count: int, layer: int, tensor: int, key: int) -> Array:
    """The numbers in (0, 1) behind a layer's weights (tensor 0) or biases (tensor 1)."""
    blocks = np.arange(-(-count // 4), dtype=np.uint64)
    counter = (blocks & LOW_32, blocks >> 32, 2 * layer + tensor, FOR_WEIGHTS)
    words = in_reading_order(philox4x32(counter, key_words(key)), count)
    return (words.astype(np.float64) + 0.5) * 2.0**-32


def uniform(u: Array, bound: float) -> Array:
    return bound * (2.0 * u - 1.0)


def normal(u: Array, std: float) -> Array:
    inverse = NormalDist().inv_cdf
    return std * np.array([inverse(p) for p in u.tolist()])


# name: (distribution of the weights, its bound or standard deviation from fan_in and fan_out)
INITIALIZERS: dict[str, tuple[Callable[[Array, float], Array], Callable[[int, int], float]]] = {
    "pytorch": (uniform, lambda fan_in, fan_out: 1.0 / math.sqrt(fan_in)),
    "glorot_uniform": (uniform, lambda fan_in, fan_out: math.sqrt(6.0 / (fan_in + fan_out))),
    "glorot_normal": (normal, lambda fan_in, fan_out: math.sqrt(2.0 / (fan_in + fan_out))),
    "he_uniform": (uniform, lambda fan_in, fan_out: math.sqrt(6.0 / fan_in)),
    "he_normal": (normal, lambda fan_in, fan_out: math.sqrt(2.0 / fan_in)),
    "lecun_normal": (normal, lambda fan_in, fan_out: math.sqrt(1.0 / fan_in)),
}


class Spec(Protocol):
    """The part of a member's spec that its initial weights depend on."""

    hidden: Any
    bias: Any
    initializer: Any
    zero_last: Any
    parametrization: Any


def initial_weights(spec: Spec, n_features: int, n_raw_outputs: int, key: int) -> tuple[list[Array], list[Array]]:
    """Weights and biases of a member with this stream key, in float64 (the library casts them to the pool's dtype).

    Only PyTorch's initializer draws biases; without biases they are zeros. The NTK parametrization has its own start:
    weights from N(0, 1) and no biases.
    """
    divided = spec.parametrization == "ntk"
    distribution, scale = (normal, lambda fan_in, fan_out: 1.0) if divided else INITIALIZERS[spec.initializer]
    sizes = [n_features, *spec.hidden, n_raw_outputs]
    weights, biases = [], []
    for layer, (fan_in, fan_out) in enumerate(zip(sizes[:-1], sizes[1:], strict=True)):
        u = open_uniform(fan_in * fan_out, layer, 0, key)
        weights.append(distribution(u, scale(fan_in, fan_out)).reshape(fan_in, fan_out))
        if spec.bias and spec.initializer == "pytorch" and not divided:
            biases.append(uniform(open_uniform(fan_out, layer, 1, key), 1.0 / math.sqrt(fan_in)))
        else:
            biases.append(np.zeros(fan_out))
    if spec.zero_last:
        weights[-1], biases[-1] = np.zeros_like(weights[-1]), np.zeros_like(biases[-1])
    return weights, biases


# Activations, with PyTorch's constants and its derivatives at kinks

LEAKY_SLOPE = 0.01
SHRINK = 0.5
# Klambauer, Unterthiner, Mayr, Hochreiter: "Self-Normalizing Neural Networks", 2017, equation 14
SELU_SCALE = 1.0507009873554804934193349852946
SELU_ALPHA = 1.6732632423543772848170429916717


def either(z: Array, condition: NDArray[np.bool_], yes: Any, no: Any) -> Array:
    """yes or no by the condition, and NaN where z is NaN, which a comparison alone would hide."""
    return np.where(np.isnan(z), np.nan, np.where(condition, yes, no))


def logistic(z: Array) -> Array:
    small: Array = np.exp(-np.abs(z))
    return np.where(z >= 0, 1.0, small) / (1.0 + small)


def softplus(z: Array) -> Array:
    return np.maximum(z, 0.0) + np.log1p(np.exp(-np.abs(z)))


def normal_cdf(z: Array) -> Array:
    """(1 + erf(z / sqrt 2)) / 2, as erfc(-z / sqrt 2) / 2, which stays exact far to the left."""
    twice: Array = np.vectorize(math.erfc, otypes=[np.float64])(-z / math.sqrt(2.0))
    return 0.5 * twice


def normal_density(z: Array) -> Array:
    density: Array = np.exp(-0.5 * z * z) / math.sqrt(2.0 * math.pi)
    return density


def gelu_argument(z: Array) -> Array:
    """sqrt(2 / pi) (z + 0.044715 z³), of which gelu_tanh takes the hyperbolic tangent: ±1 beyond |z| = 10."""
    z = np.clip(z, -10.0, 10.0)
    return math.sqrt(2.0 / math.pi) * (z + 0.044715 * z**3)


def gelu_argument_slope(z: Array) -> Array:
    """The derivative of tanh of `gelu_argument`."""
    inner = math.sqrt(2.0 / math.pi) * (1.0 + 3.0 * 0.044715 * np.clip(z, -10.0, 10.0) ** 2)
    return either(z, np.abs(z) < 10.0, inner / np.cosh(gelu_argument(z)) ** 2, 0.0)


# name: (function, derivative), both element by element on float64 arrays
ACTIVATIONS: dict[str, tuple[Callable[[Array], Array], Callable[[Array], Array]]] = {
    "identity": (
        lambda z: z,
        lambda z: either(z, z == z, 1.0, 1.0),
    ),
    "sigmoid": (
        lambda z: logistic(z),
        lambda z: logistic(z) * logistic(-z),
    ),
    "tanh": (
        lambda z: np.tanh(z),
        lambda z: 1.0 - np.tanh(z) ** 2,
    ),
    "relu": (
        lambda z: either(z, z > 0, z, 0.0),
        lambda z: either(z, z > 0, 1.0, 0.0),
    ),
    "leaky_relu": (
        lambda z: either(z, z > 0, z, LEAKY_SLOPE * z),
        lambda z: either(z, z > 0, 1.0, LEAKY_SLOPE),
    ),
    "elu": (
        lambda z: either(z, z > 0, z, np.expm1(np.minimum(z, 0.0))),
        lambda z: either(z, z > 0, 1.0, np.exp(np.minimum(z, 0.0))),
    ),
    "gelu": (
        lambda z: z * normal_cdf(z),
        lambda z: normal_cdf(z) + z * normal_density(z),
    ),
    "selu": (
        lambda z: SELU_SCALE * either(z, z > 0, z, SELU_ALPHA * np.expm1(np.minimum(z, 0.0))),
        lambda z: SELU_SCALE * either(z, z > 0, 1.0, SELU_ALPHA * np.exp(np.minimum(z, 0.0))),
    ),
    "hardshrink": (
        lambda z: either(z, np.abs(z) > SHRINK, z, 0.0),
        lambda z: either(z, np.abs(z) > SHRINK, 1.0, 0.0),
    ),
    "mish": (
        lambda z: z * np.tanh(softplus(z)),
        lambda z: np.tanh(softplus(z)) + z * logistic(z) * (1.0 - np.tanh(softplus(z)) ** 2),
    ),
    "silu": (
        lambda z: z * logistic(z),
        lambda z: logistic(z) + z * logistic(z) * logistic(-z),
    ),
    "softplus": (
        lambda z: softplus(z),
        lambda z: logistic(z),
    ),
    "softsign": (
        lambda z: z / (1.0 + np.abs(z)),
        lambda z: 1.0 / (1.0 + np.abs(z)) ** 2,
    ),
    "hard_tanh": (
        lambda z: np.clip(z, -1.0, 1.0),
        lambda z: either(z, np.abs(z) < 1.0, 1.0, 0.0),
    ),
    "hard_sigmoid": (
        lambda z: np.clip(z + 3.0, 0.0, 6.0) / 6.0,
        lambda z: either(z, np.abs(z) < 3.0, 1.0 / 6.0, 0.0),
    ),
    "hard_swish": (
        lambda z: z * np.clip(z + 3.0, 0.0, 6.0) / 6.0,
        lambda z: either(z, np.abs(z) < 3.0, z / 3.0 + 0.5, either(z, z > 0.0, 1.0, 0.0)),
    ),
    "gelu_tanh": (
        lambda z: 0.5 * z * (1.0 + np.tanh(gelu_argument(z))),
        lambda z: 0.5 * (1.0 + np.tanh(gelu_argument(z))) + 0.5 * z * gelu_argument_slope(z),
    ),
    "sin": (
        lambda z: np.sin(z),
        lambda z: np.cos(z),
    ),
}

# Where a derivative jumps. ELU is not among them: with alpha = 1 its derivative is 1 on both sides of 0.
KINKS: dict[str, tuple[float, ...]] = {
    "relu": (0.0,),
    "leaky_relu": (0.0,),
    "selu": (0.0,),
    "hardshrink": (-SHRINK, SHRINK),
    "hard_tanh": (-1.0, 1.0),
    "hard_sigmoid": (-3.0, 3.0),
    "hard_swish": (-3.0, 3.0),
}


# Losses: of raw outputs and targets, the mean loss and its gradient with respect to the raw outputs. With several heads
# an output's raw outputs stand side by side.


def targets_like(raw: Array, y: ArrayLike) -> Array:
    targets = np.asarray(y, dtype=np.float64).reshape(len(raw), -1)
    if targets.shape != raw.shape:
        raise ValueError(f"targets {np.shape(y)} don't fit raw outputs {raw.shape}")
    return targets


def weighted_mean(
    raw: Array, losses: Array, slopes: Array, output_weight: Sequence[float] | None
) -> tuple[float, Array]:
    """The mean over rows and outputs of losses (rows, outputs), and its gradient like raw from slopes (rows, outputs,
    heads); outputs count by their weights, scaled to mean 1."""
    n_rows, n_outputs = losses.shape
    weights = np.ones(n_outputs) if output_weight is None else np.array(output_weight, np.float64)
    weights = weights / weights.mean()
    gradient = (slopes * weights[:, np.newaxis]).reshape(raw.shape) / (n_rows * n_outputs)
    return float(np.mean(losses * weights)), gradient


def squared_error(raw: Array, y: ArrayLike, output_weight: Sequence[float] | None = None) -> tuple[float, Array]:
    """Mean over rows and outputs of (raw - y)²."""
    difference = raw - targets_like(raw, y)
    return weighted_mean(raw, difference**2, 2.0 * difference[..., np.newaxis], output_weight)


def binary_cross_entropy(
    raw: Array, y: ArrayLike, label_smoothing: float = 0.0, output_weight: Sequence[float] | None = None
) -> tuple[float, Array]:
    """Mean over rows and outputs of -y log p - (1 - y) log(1 - p), where p = sigmoid(raw)."""
    targets = targets_like(raw, y) * (1.0 - label_smoothing) + label_smoothing / 2.0
    slopes = logistic(raw) - targets
    return weighted_mean(raw, softplus(raw) - raw * targets, slopes[..., np.newaxis], output_weight)


def cross_entropy(raw: Array, y: ArrayLike, label_smoothing: float = 0.0) -> tuple[float, Array]:
    """Mean over rows of -sum q log p, for integer labels y of shape (rows,): p = softmax(raw), and q is 1 - smoothing
    at the label, plus smoothing shared out evenly."""
    labels = np.asarray(y)
    n_rows, n_classes = raw.shape
    integers = labels.shape == (n_rows,) and np.issubdtype(labels.dtype, np.integer)
    if not integers or labels.min() < 0 or labels.max() >= n_classes:
        raise ValueError(f"labels must be {n_rows} integers in 0 ... {n_classes - 1}, not {y!r}")
    wanted = np.full(raw.shape, label_smoothing / n_classes)
    wanted[np.arange(n_rows), labels] += 1.0 - label_smoothing
    shifted = raw - raw.max(axis=1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return float(np.mean((-wanted * log_p).sum(axis=1))), (np.exp(log_p) - wanted) / n_rows


def weighted(
    loss: Callable[[Array, ArrayLike], tuple[float, Array]], raw: Array, y: ArrayLike, weights: Array
) -> tuple[float, Array]:
    """Mean over rows of weight times the row's loss, and its gradient: row by row, from the loss of one row."""
    rows = [loss(raw[i : i + 1], np.asarray(y)[i : i + 1]) for i in range(len(raw))]
    mean = sum(w * value for w, (value, _) in zip(weights.tolist(), rows, strict=True)) / len(raw)
    slopes = [w * slope for w, (_, slope) in zip(weights.tolist(), rows, strict=True)]
    return float(mean), np.concatenate(slopes) / len(raw)


def absolute_error(raw: Array, y: ArrayLike, output_weight: Sequence[float] | None = None) -> tuple[float, Array]:
    """Mean over rows and outputs of |raw - y|."""
    difference = raw - targets_like(raw, y)
    return weighted_mean(raw, np.abs(difference), np.sign(difference)[..., np.newaxis], output_weight)


def huber(
    raw: Array, y: ArrayLike, delta: float = 1.0, output_weight: Sequence[float] | None = None
) -> tuple[float, Array]:
    """Mean over rows and outputs of a parabola up to delta, and a line that goes on from it."""
    difference = raw - targets_like(raw, y)
    near = np.minimum(np.abs(difference), delta)
    losses = near**2 / 2.0 + delta * (np.abs(difference) - near)
    return weighted_mean(raw, losses, np.clip(difference, -delta, delta)[..., np.newaxis], output_weight)


def in_heads(raw: Array, y: ArrayLike, heads: int) -> tuple[Array, Array]:
    """Raw outputs (rows, outputs, heads), and targets (rows, outputs, 1)."""
    split = raw.reshape(len(raw), -1, heads)
    return split, targets_like(split[..., 0], y)[..., np.newaxis]


def quantile(
    raw: Array,
    y: ArrayLike,
    levels: Sequence[float] = (0.1, 0.5, 0.9),
    output_weight: Sequence[float] | None = None,
) -> tuple[float, Array]:
    """Mean over rows, outputs and levels q of q (y - raw) where raw is too low, else (1 - q) (raw - y)."""
    split, targets = in_heads(raw, y, len(levels))
    q, missing = np.array(levels), targets - split
    losses = np.where(missing > 0.0, q * missing, (q - 1.0) * missing).mean(axis=2)
    slopes = (1.0 - q) * (missing < 0.0) - q * (missing > 0.0) + 0.0 * missing
    return weighted_mean(raw, losses, slopes / len(levels), output_weight)


def poisson(raw: Array, y: ArrayLike, output_weight: Sequence[float] | None = None) -> tuple[float, Array]:
    """Mean over rows and outputs of rate - y log rate, where rate = exp(raw)."""
    targets, rates = targets_like(raw, y), np.exp(raw)
    return weighted_mean(raw, rates - targets * raw, (rates - targets)[..., np.newaxis], output_weight)


def gaussian_nll(raw: Array, y: ArrayLike, output_weight: Sequence[float] | None = None) -> tuple[float, Array]:
    """Mean over rows and outputs of (log v + (y - m)² / v) / 2, where an output's two raw outputs are m and log v."""
    split, targets = in_heads(raw, y, 2)
    mean, variance = split[..., 0], np.exp(split[..., 1])
    difference = mean - targets[..., 0]
    losses = 0.5 * (split[..., 1] + difference**2 / variance)
    slopes = np.stack([difference / variance, 0.5 * (1.0 - difference**2 / variance)], axis=2)
    return weighted_mean(raw, losses, slopes, output_weight)


LOSSES: dict[str, Callable[..., tuple[float, Array]]] = {
    "squared_error": squared_error,
    "binary_cross_entropy": binary_cross_entropy,
    "cross_entropy": cross_entropy,
    "absolute_error": absolute_error,
    "huber": huber,
    "quantile": quantile,
    "poisson": poisson,
    "gaussian_nll": gaussian_nll,
}


# Optimizers: of a parameter, its gradient, its slots, the number of this step (from 1) and hyperparameters h,
# the new parameter and the new slots

Slots = dict[str, Array]
Update = Callable[[Array, Array, Slots, int, Mapping[str, Any]], tuple[Array, Slots]]


def sgd(w: Array, g: Array, slots: Slots, step: int, h: Mapping[str, Any]) -> tuple[Array, Slots]:
    g = g + h["weight_decay"] * w
    momentum = h["momentum"] * slots["momentum"] + g
    direction = g + h["momentum"] * momentum if h["nesterov"] else momentum
    return w - h["learning_rate"] * direction, {"momentum": momentum}


def adam_without_decay(w: Array, g: Array, slots: Slots, step: int, h: Mapping[str, Any]) -> tuple[Array, Slots]:
    m = h["beta1"] * slots["m"] + (1.0 - h["beta1"]) * g
    v = h["beta2"] * slots["v"] + (1.0 - h["beta2"]) * g**2
    unbiased_m = m / (1.0 - h["beta1"] ** step)
    unbiased_v = v / (1.0 - h["beta2"] ** step)
    return w - h["learning_rate"] * unbiased_m / (np.sqrt(unbiased_v) + h["eps"]), {"m": m, "v": v}


def adam(w: Array, g: Array, slots: Slots, step: int, h: Mapping[str, Any]) -> tuple[Array, Slots]:
    return adam_without_decay(w, g + h["weight_decay"] * w, slots, step, h)


def adamw(w: Array, g: Array, slots: Slots, step: int, h: Mapping[str, Any]) -> tuple[Array, Slots]:
    return adam_without_decay(w - h["learning_rate"] * h["weight_decay"] * w, g, slots, step, h)


def rmsprop(w: Array, g: Array, slots: Slots, step: int, h: Mapping[str, Any]) -> tuple[Array, Slots]:
    g = g + h["weight_decay"] * w
    square = h["alpha"] * slots["square"] + (1.0 - h["alpha"]) * g**2
    momentum = h["momentum"] * slots["momentum"] + g / (np.sqrt(square) + h["eps"])
    return w - h["learning_rate"] * momentum, {"square": square, "momentum": momentum}


def nadam(w: Array, g: Array, slots: Slots, step: int, h: Mapping[str, Any]) -> tuple[Array, Slots]:
    g = g + h["weight_decay"] * w
    mus = [h["beta1"] * (1.0 - 0.5 * 0.96 ** (t * h["momentum_decay"])) for t in range(1, step + 2)]
    m = h["beta1"] * slots["m"] + (1.0 - h["beta1"]) * g
    v = h["beta2"] * slots["v"] + (1.0 - h["beta2"]) * g**2
    ahead = (1.0 - mus[-2]) * g / (1.0 - math.prod(mus[:-1])) + mus[-1] * m / (1.0 - math.prod(mus))
    unbiased_v = v / (1.0 - h["beta2"] ** step)
    return w - h["learning_rate"] * ahead / (np.sqrt(unbiased_v) + h["eps"]), {"m": m, "v": v}


ADAM_DEFAULTS = {"learning_rate": 1e-3, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "weight_decay": 0.0}

# name: (update, slot names, hyperparameters with their defaults)
OPTIMIZERS: dict[str, tuple[Update, tuple[str, ...], dict[str, Any]]] = {
    "sgd": (sgd, ("momentum",), {"learning_rate": 0.01, "momentum": 0.0, "nesterov": False, "weight_decay": 0.0}),
    "adam": (adam, ("m", "v"), ADAM_DEFAULTS),
    "adamw": (adamw, ("m", "v"), {**ADAM_DEFAULTS, "weight_decay": 0.01}),
    "rmsprop": (
        rmsprop,
        ("square", "momentum"),
        {"learning_rate": 0.01, "alpha": 0.99, "eps": 1e-8, "momentum": 0.0, "weight_decay": 0.0},
    ),
    "nadam": (nadam, ("m", "v"), {**ADAM_DEFAULTS, "learning_rate": 2e-3, "momentum_decay": 4e-3}),
}

# Of slots, the power of a gradient that they grow with. (RMSprop's momentum adds up gradients divided by their size.)
SLOT_POWERS = {"momentum": 1, "m": 1, "v": 2, "square": 2}


# Options, and what the learning rate of a step is

OPTION_DEFAULTS: dict[str, Any] = {
    "zero_last": False,
    "l1": 0.0,
    "decoupled_weight_decay": 0.0,
    "decay_biases": False,
    "bias_rate_factor": 1.0,
    "first_layer_rate_factor": 1.0,
    "last_layer_rate_factor": 1.0,
    "parametrization": "standard",
    "feature_scale": False,
    "feature_scale_rate_factor": 1.0,
    "schedule": "constant",
    "schedule_epochs": 0.0,
    "schedule_interval": 1.0,
    "schedule_factor": 0.1,
    "final_rate_factor": 0.0,
    "one_cycle_start": 0.04,
    "one_cycle_peak": 0.3,
    "warmup_epochs": 0.0,
    "plateau_patience": 0.0,
    "plateau_factor": 0.1,
    "dropout": 0.0,
    "input_dropout": 0.0,
    "clip_norm": 0.0,
    "average": 0.0,
}


def along_cosine(start: float, end: float, way: float) -> float:
    return end + (start - end) * (1.0 + math.cos(math.pi * way)) / 2.0


def one_cycle(o: Mapping[str, Any], epochs: float, length: float) -> float:
    peak, t = o["one_cycle_peak"], part_done(epochs, length)
    if t < peak:
        return along_cosine(o["one_cycle_start"], 1.0, t / peak)
    return along_cosine(1.0, o["final_rate_factor"], (t - peak) / (1.0 - peak))


def linear(end: float, t: float) -> float:
    return 1.0 - t + t * end


def part_done(epochs: float, length: float) -> float:
    """How much of a schedule is over, from 0 to 1."""
    return min(epochs / length, 1.0) if length > 0.0 else 1.0


# name: function(options, epochs since the schedule's beginning, its length in epochs), the factor of the learning rate
SCHEDULES: dict[str, Callable[[Mapping[str, Any], float, float], float]] = {
    "constant": lambda o, epochs, length: 1.0,
    "step": lambda o, epochs, length: o["schedule_factor"] ** math.floor(epochs / o["schedule_interval"]),
    "exponential": lambda o, epochs, length: o["schedule_factor"] ** (epochs / o["schedule_interval"]),
    "cosine": lambda o, epochs, length: along_cosine(
        1.0, o["final_rate_factor"], epochs / length % 1.0 if length > 0.0 else 0.0
    ),
    "one_cycle": one_cycle,
    "linear": lambda o, epochs, length: linear(o["final_rate_factor"], part_done(epochs, length)),
    "coslog4": lambda o, epochs, length: (
        0.5 * (1.0 - math.cos(2.0 * math.pi * math.log2(1.0 + 15.0 * part_done(epochs, length))))
    ),
}


def schedule_factor(o: Mapping[str, Any], epochs: float, length: float) -> float:
    """What the schedule of options o makes of the learning rate, so many epochs after its beginning."""
    return float(SCHEDULES[o["schedule"]](o, epochs, length))


def rate_factor(o: Mapping[str, Any], epoch: int, minibatch: int, n_minibatches: int, fit_epochs: int) -> float:
    """What warm-up and schedule make of the learning rate of an epoch's minibatch (both counted from 0)."""
    now = epoch + minibatch / n_minibatches
    warmup = o["warmup_epochs"]
    if now < warmup:
        return schedule_factor(o, 0.0, 1.0) * min(1.0, (now + 1.0 / n_minibatches) / warmup)
    return schedule_factor(o, now - warmup, o["schedule_epochs"] or fit_epochs - warmup)


def float64_copies(arrays: Iterable[ArrayLike], like: Sequence[Array]) -> list[Array]:
    copies = [np.array(array, dtype=np.float64) for array in arrays]
    got, expected = [copy.shape for copy in copies], [array.shape for array in like]
    if got != expected:
        raise ValueError(f"expected arrays of shapes {expected}, got {got}")
    return copies


class OracleMLP:
    """One multi-layer perceptron, trained minibatch by minibatch; it starts with all parameters zero. n_outputs counts
    raw outputs, of which some losses take several per target.

    Its whole state may be read and replaced from outside, at best through `set_state`, which copies, casts to float64
    and checks shapes:

    - `weights[k]` (fan_in, fan_out) and `biases[k]` (fan_out,) of layer k, the output layer last; without biases
      (bias=False) they are zeros that no step touches;
    - `scales[0]` (n_features,), by which features are multiplied: ones, which no step touches without "feature_scale";
    - `slots[name]["weights"][k]`, `slots[name]["biases"][k]` and `slots[name]["scales"][0]`, shaped like the
      parameters: "m" and "v" for "adam" and "adamw", "momentum" for "sgd" (kept, to no effect, where momentum is 0);
    - `step_count`, the number of updates done, on which Adam's bias correction depends;
    - `fit_epochs`, the epochs of the first `train`, by which schedules go; `rate_factor`, what plateaus have left of
      the learning rate, `plateau_loss` and `plateau_wait`, the lowest loss and the epochs since;
    - `nearest_zero`, how near a step brought a parameter under an L1 penalty to 0, relative to where it came from: the
      penalty's slope jumps there, and rounding decides on which side;
    - `averages`, averaged weights, then biases, then scales (where features have them), after the first step; without
      averaging the last ones.

    With parametrization "ntk" a layer divides its weights by the root of their number of rows; `divided_weights`
    and `divided_averages` are those divided; `effective_weights` are by which features are multiplied. Options are
    those of a member, by name; what is left out has its default.
    key: the member's stream, from which dropout is drawn.
    """

    def __init__(
        self,
        hidden: Sequence[int],
        activation: str | Sequence[str],
        n_features: int,
        n_outputs: int,
        loss: str,
        optimizer: str,
        hyperparameters: Mapping[str, Any],
        bias: bool = True,
        options: Mapping[str, Any] | None = None,
        loss_parameters: Mapping[str, Any] | None = None,
        key: int = 0,
    ) -> None:
        names = [activation] * len(hidden) if isinstance(activation, str) else list(activation)
        if len(names) != len(hidden):
            raise ValueError(f"expected {len(hidden)} activations, one per hidden layer, got {names}")
        update, slot_names, defaults = OPTIMIZERS[optimizer]
        if unknown := set(hyperparameters) - set(defaults):
            raise ValueError(f"{optimizer} has no {sorted(unknown)}")
        if unknown := set(options or {}) - set(OPTION_DEFAULTS):
            raise ValueError(f"there are no options {sorted(unknown)}")
        self.options = {**OPTION_DEFAULTS, **(options or {})}
        self.activations = names
        self.loss_name, self.loss_parameters = loss, dict(loss_parameters or {})
        self.update = update
        self.hyperparameters = {**defaults, **hyperparameters}
        self.bias = bias
        self.key = key
        sizes = [n_features, *hidden, n_outputs]
        self.weights = [np.zeros(shape) for shape in zip(sizes[:-1], sizes[1:], strict=True)]
        self.biases = [np.zeros(size) for size in sizes[1:]]
        self.scales = [np.ones(n_features)]
        self.slots: dict[str, dict[str, list[Array]]] = {
            name: {
                "scales": [np.zeros(n_features)],
                "weights": [np.zeros_like(w) for w in self.weights],
                "biases": [np.zeros_like(b) for b in self.biases],
            }
            for name in slot_names
        }
        self.step_count = 0
        self.fit_epochs = 0
        self.rate_factor, self.plateau_loss, self.plateau_wait = 1.0, math.inf, 0
        self.averages: list[Array] = []
        self.nearest_zero = math.inf

    def scale(self, k: int) -> float:
        """What the weights of layer k are divided by."""
        return math.sqrt(len(self.weights[k])) if self.options["parametrization"] == "ntk" else 1.0

    @property
    def divided_weights(self) -> list[Array]:
        """The weights by which a layer multiplies what goes into it."""
        return [w / self.scale(k) for k, w in enumerate(self.weights)]

    @property
    def effective_weights(self) -> list[Array]:
        """The weights of a network without feature scales that does the same."""
        first, *others = self.divided_weights
        return [np.diag(self.scales[0]) @ first if self.options["feature_scale"] else first, *others]

    def slot_scale(self, name: str, kind: str, k: int) -> float:
        """What a slot would be multiplied by, were the effective weights trained."""
        normalized = self.update is rmsprop and name == "momentum"
        return 1.0 if kind != "weights" or normalized else self.scale(k) ** SLOT_POWERS[name]

    @property
    def divided_averages(self) -> list[Array]:
        """Averages of what multiplies a layer's inputs, of the biases, and of scales."""
        return [a / self.scale(k) if k < len(self.weights) else a for k, a in enumerate(self.averages)]

    def set_state(
        self,
        weights: Iterable[ArrayLike],
        biases: Iterable[ArrayLike] | None = None,
        slots: Mapping[str, Mapping[str, Iterable[ArrayLike]]] | None = None,
        step_count: int | None = None,
        scales: Iterable[ArrayLike] | None = None,
    ) -> None:
        """Replace the weights and, where given, biases, slots (any of them, by name), the step count and scales by
        copies."""
        self.weights = float64_copies(weights, self.weights)
        if biases is not None:
            self.biases = float64_copies(biases, self.biases)
        for name, slot in (slots or {}).items():
            own = self.slots[name]
            self.slots[name] = own | {kind: float64_copies(slot[kind], own[kind]) for kind in slot}
        if scales is not None:
            self.scales = float64_copies(scales, self.scales)
        if step_count is not None:
            self.step_count = step_count

    def loss_function(self, raw: Array, y: ArrayLike) -> tuple[float, Array]:
        """Mean loss of raw outputs, and its gradient."""
        return LOSSES[self.loss_name](raw, y, **self.loss_parameters)

    def masks(self, rows: int, epoch: int, place: int) -> list[Array] | None:
        """What the features and each hidden layer's activations of these rows are multiplied by in training."""
        shares = [self.options["input_dropout"]] + [self.options["dropout"]] * len(self.activations)
        if not any(shares):
            return None
        units = [len(w) for w in self.weights]
        return [
            dropout_mask(share, self.key, epoch, layer, place, (rows, units[layer]))
            for layer, share in enumerate(shares)
        ]

    def _forward(self, X: ArrayLike, masks: list[Array] | None = None) -> tuple[list[Array], list[Array]]:
        """The input of each layer and its pre-activation; the output layer's pre-activation is the raw output."""
        inputs, pre_activations = [np.asarray(X, dtype=np.float64)], []
        if masks is not None:
            inputs[0] = inputs[0] * masks[0]
        if self.options["feature_scale"]:
            inputs[0] = inputs[0] * self.scales[0]
        for k, (w, b) in enumerate(zip(self.weights, self.biases, strict=True)):
            pre_activations.append(inputs[k] @ w / self.scale(k) + b)
            if k < len(self.activations):
                function, _ = ACTIVATIONS[self.activations[k]]
                inputs.append(function(pre_activations[k]))
                if masks is not None:
                    inputs[-1] = inputs[-1] * masks[k + 1]
        return inputs, pre_activations

    def _loss_and_gradients(
        self, X: ArrayLike, y: ArrayLike, row_weights: Array | None = None, masks: list[Array] | None = None
    ) -> tuple[float, list[Array], list[Array], list[Array]]:
        """Mean loss, and its gradients by weights, biases and scales."""
        inputs, pre_activations = self._forward(X, masks)
        if row_weights is None:
            loss, delta = self.loss_function(pre_activations[-1], y)
        else:
            loss, delta = weighted(self.loss_function, pre_activations[-1], y, row_weights)
        weight_gradients: list[Array] = []
        bias_gradients: list[Array] = []
        for k in reversed(range(len(self.weights))):
            weight_gradients.insert(0, inputs[k].T @ delta / self.scale(k))
            bias_gradients.insert(0, delta.sum(axis=0) if self.bias else np.zeros_like(self.biases[k]))
            if k > 0:
                _, derivative = ACTIVATIONS[self.activations[k - 1]]
                delta = delta @ self.weights[k].T / self.scale(k)
                if masks is not None:
                    delta = delta * masks[k]
                delta = delta * derivative(pre_activations[k - 1])
        scale_gradient = np.zeros_like(self.scales[0])
        if self.options["feature_scale"]:
            unscaled = np.asarray(X, np.float64) * (1.0 if masks is None else masks[0])
            scale_gradient = np.sum(unscaled * (delta @ self.weights[0].T / self.scale(0)), axis=0)
        return loss, weight_gradients, bias_gradients, [scale_gradient]

    @np.errstate(all="ignore")
    def forward(self, X: ArrayLike) -> Array:
        """Raw outputs, (rows, outputs)."""
        _, pre_activations = self._forward(X)
        return pre_activations[-1]

    @np.errstate(all="ignore")
    def loss(self, X: ArrayLike, y: ArrayLike, masks: list[Array] | None = None) -> float:
        """Mean loss over these rows."""
        _, pre_activations = self._forward(X, masks)
        return self.loss_function(pre_activations[-1], y)[0]

    @np.errstate(all="ignore")
    def gradients(
        self, X: ArrayLike, y: ArrayLike, masks: list[Array] | None = None
    ) -> tuple[list[Array], list[Array], list[Array]]:
        """Gradients of `loss` with respect to weights, biases and scales (zeros where there are none), without weight
        decay."""
        return self._loss_and_gradients(X, y, masks=masks)[1:]

    def hyperparameters_of(self, kind: str, k: int, rate: float = 1.0) -> dict[str, Any]:
        """What the step of a layer's weights or biases, or of scales, goes by, with l1 and decoupled decay; decay
        spares scales, and biases, unless an option says otherwise. rate: what the schedule makes of the learning
        rate."""
        o = self.options
        h = {**self.hyperparameters, **{name: o[name] for name in ("l1", "decoupled_weight_decay")}}
        h["learning_rate"] *= rate * self.rate_factor
        if kind == "scales":
            h.update(weight_decay=0.0, l1=0.0, decoupled_weight_decay=0.0)
            h["learning_rate"] *= o["feature_scale_rate_factor"]
            return h
        if kind == "biases":
            h["learning_rate"] *= o["bias_rate_factor"]
            if not o["decay_biases"]:
                h.update(weight_decay=0.0, l1=0.0, decoupled_weight_decay=0.0)
        if k == 0 and len(self.weights) > 1:
            h["learning_rate"] *= o["first_layer_rate_factor"]
        if k == len(self.weights) - 1:
            h["learning_rate"] *= o["last_layer_rate_factor"]
        return h

    def updated(self, w: Array, g: Array, slots: Slots, step: int, h: Mapping[str, Any]) -> tuple[Array, Slots]:
        """A parameter after a step of the optimizer along g and the slope of the L1 penalty, and decoupled decay."""
        moved, slots = self.update(w, g + h["l1"] * np.sign(w), slots, step, h)
        return moved - h["learning_rate"] * h["decoupled_weight_decay"] * w, slots

    @np.errstate(all="ignore")
    def step(
        self,
        X: ArrayLike,
        y: ArrayLike,
        rate: float = 1.0,
        row_weights: Array | None = None,
        masks: list[Array] | None = None,
    ) -> float:
        """One update on one minibatch, with a learning rate multiplied by `rate` and dropout by masks; returns the loss
        before it."""
        loss, *gradients = self._loss_and_gradients(X, y, row_weights, masks)
        weight_gradients, bias_gradients, scale_gradients = self.clipped(*gradients)
        self.step_count += 1
        for k in range(len(self.weights)):
            self._update("weights", self.weights, weight_gradients, k, rate)
            if self.bias:
                self._update("biases", self.biases, bias_gradients, k, rate)
        now, decay = self.weights + self.biases, self.options["average"]
        if self.options["feature_scale"]:
            self._update("scales", self.scales, scale_gradients, 0, rate)
            now = now + self.scales
        if self.step_count == 1 or not self.averages:
            self.averages = now
        self.averages = [decay * a + (1.0 - decay) * w for a, w in zip(self.averages, now, strict=True)]
        return loss

    def clip_factor(self, gradients: Iterable[Array]) -> float:
        """What all gradients are multiplied by, so that together they are no longer than `clip_norm`."""
        norm, limit = math.sqrt(sum(float(np.sum(g * g)) for g in gradients)), self.options["clip_norm"]
        return min(1.0, limit / (norm + 1e-6)) if limit > 0.0 and math.isfinite(norm) else 1.0

    def clipped(self, *gradients: list[Array]) -> list[list[Array]]:
        factor = self.clip_factor(g for kind in gradients for g in kind)
        return [[factor * g for g in kind] for kind in gradients]

    def _update(self, kind: str, parameters: list[Array], gradients: list[Array], k: int, rate: float) -> None:
        slots = {name: slot[kind][k] for name, slot in self.slots.items()}
        h = self.hyperparameters_of(kind, k, rate)
        old = parameters[k]
        parameters[k], slots = self.updated(old, gradients[k], slots, self.step_count, h)
        way = np.abs(old) + np.abs(parameters[k] - old)
        if h["l1"] > 0.0 and way.any():
            self.nearest_zero = min(self.nearest_zero, float((np.abs(parameters[k])[way > 0.0] / way[way > 0.0]).min()))
        for name, value in slots.items():
            self.slots[name][kind][k] = value

    def watch(self, loss: float) -> None:
        """Reduce the learning rate where an epoch's loss has not fallen for long."""
        if self.options["plateau_patience"] == 0:
            return
        self.plateau_wait += 1
        if loss < self.plateau_loss:
            self.plateau_loss, self.plateau_wait = loss, 0
        if self.plateau_wait >= self.options["plateau_patience"]:
            self.rate_factor *= self.options["plateau_factor"]
            self.plateau_wait = 0

    def train(
        self,
        X: ArrayLike,
        y: ArrayLike,
        epochs: int,
        batch_size: int,
        shuffle_key: int | None = None,
        first_epoch: int = 0,
        sample_weight: ArrayLike | None = None,
        validation: tuple[ArrayLike, ArrayLike] | None = None,
    ) -> list[float]:
        """Train in minibatches, the last of which may be smaller; returns each epoch's mean of minibatch losses.

        Rows are taken in order, or in `shuffled_order` of the key; first_epoch is the number of epochs done before.
        sample_weight is scaled to mean 1 over all rows.
        validation: the data (X, y) whose loss is watched for a plateau, in place of the minibatches'.
        """
        X, y = np.asarray(X), np.asarray(y)
        n = len(X)
        if sample_weight is not None:
            sample_weight = np.asarray(sample_weight, np.float64)
            sample_weight = sample_weight * (n / sample_weight.sum())
        self.fit_epochs = self.fit_epochs or epochs
        history = []
        for epoch in range(first_epoch, first_epoch + epochs):
            order = np.arange(n) if shuffle_key is None else shuffled_order(shuffle_key, epoch, n)
            batches = {start: order[start : start + batch_size] for start in range(0, n, batch_size)}
            losses = []
            for i, (start, batch) in enumerate(batches.items()):
                rate = rate_factor(self.options, epoch, i, len(batches), self.fit_epochs)
                counted = None if sample_weight is None else sample_weight[batch]
                masks = self.masks(len(batch), epoch, start)
                losses.append(self.step(X[batch], y[batch], rate, counted, masks))
            history.append(sum(losses) / len(losses))
            self.watch(history[-1] if validation is None else self.loss(*validation))
        return history

    @np.errstate(all="ignore")
    def smallest_kink_distance(self, X: ArrayLike, masks: list[Array] | None = None) -> float:
        """The smallest distance of a hidden pre-activation to a kink of its activation; inf where there is none."""
        _, pre_activations = self._forward(X, masks)
        distances = [
            float(np.abs(z - kink).min())
            for name, z in zip(self.activations, pre_activations[:-1], strict=True)
            for kink in KINKS.get(name, ())
        ]
        return min(distances, default=math.inf)
