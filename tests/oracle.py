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
}


class Spec(Protocol):
    """The part of a member's spec that its initial weights depend on."""

    hidden: Any
    bias: Any
    initializer: Any
    zero_last: Any


def initial_weights(spec: Spec, n_features: int, n_raw_outputs: int, key: int) -> tuple[list[Array], list[Array]]:
    """Weights and biases of a member with this stream key, in float64 (the library casts them to the pool's dtype).

    Only PyTorch's initializer draws biases; without biases they are zeros.
    """
    distribution, scale = INITIALIZERS[spec.initializer]
    sizes = [n_features, *spec.hidden, n_raw_outputs]
    weights, biases = [], []
    for layer, (fan_in, fan_out) in enumerate(zip(sizes[:-1], sizes[1:], strict=True)):
        u = open_uniform(fan_in * fan_out, layer, 0, key)
        weights.append(distribution(u, scale(fan_in, fan_out)).reshape(fan_in, fan_out))
        if spec.bias and spec.initializer == "pytorch":
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
}

# Where a derivative jumps. ELU is not among them: with alpha = 1 its derivative is 1 on both sides of 0.
KINKS: dict[str, tuple[float, ...]] = {
    "relu": (0.0,),
    "leaky_relu": (0.0,),
    "selu": (0.0,),
    "hardshrink": (-SHRINK, SHRINK),
}


# Losses: of raw outputs and targets, the mean loss and its gradient with respect to the raw outputs


def targets_like(raw: Array, y: ArrayLike) -> Array:
    targets = np.asarray(y, dtype=np.float64).reshape(len(raw), -1)
    if targets.shape != raw.shape:
        raise ValueError(f"targets {np.shape(y)} don't fit raw outputs {raw.shape}")
    return targets


def squared_error(raw: Array, y: ArrayLike) -> tuple[float, Array]:
    """Mean over rows and outputs of (raw - y)²."""
    difference = raw - targets_like(raw, y)
    return float(np.mean(difference**2)), 2.0 * difference / raw.size


def binary_cross_entropy(raw: Array, y: ArrayLike) -> tuple[float, Array]:
    """Mean over rows and outputs of -y log p - (1 - y) log(1 - p), where p = sigmoid(raw)."""
    targets = targets_like(raw, y)
    return float(np.mean(softplus(raw) - raw * targets)), (logistic(raw) - targets) / raw.size


def cross_entropy(raw: Array, y: ArrayLike) -> tuple[float, Array]:
    """Mean over rows of log(sum of exp(raw)) - raw[y], for integer labels y of shape (rows,)."""
    labels = np.asarray(y)
    n_rows, n_classes = raw.shape
    integers = labels.shape == (n_rows,) and np.issubdtype(labels.dtype, np.integer)
    if not integers or labels.min() < 0 or labels.max() >= n_classes:
        raise ValueError(f"labels must be {n_rows} integers in 0 ... {n_classes - 1}, not {y!r}")
    rows = np.arange(n_rows)
    shifted = raw - raw.max(axis=1, keepdims=True)
    log_sum = np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    gradient = np.exp(shifted - log_sum)
    gradient[rows, labels] -= 1.0
    return float(np.mean(log_sum[:, 0] - shifted[rows, labels])), gradient / n_rows


LOSSES: dict[str, Callable[[Array, ArrayLike], tuple[float, Array]]] = {
    "squared_error": squared_error,
    "binary_cross_entropy": binary_cross_entropy,
    "cross_entropy": cross_entropy,
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


ADAM_DEFAULTS = {"learning_rate": 1e-3, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "weight_decay": 0.0}

# name: (update, slot names, hyperparameters with their defaults)
OPTIMIZERS: dict[str, tuple[Update, tuple[str, ...], dict[str, Any]]] = {
    "sgd": (sgd, ("momentum",), {"learning_rate": 0.01, "momentum": 0.0, "nesterov": False, "weight_decay": 0.0}),
    "adam": (adam, ("m", "v"), ADAM_DEFAULTS),
    "adamw": (adamw, ("m", "v"), {**ADAM_DEFAULTS, "weight_decay": 0.01}),
}


def float64_copies(arrays: Iterable[ArrayLike], like: Sequence[Array]) -> list[Array]:
    copies = [np.array(array, dtype=np.float64) for array in arrays]
    got, expected = [copy.shape for copy in copies], [array.shape for array in like]
    if got != expected:
        raise ValueError(f"expected arrays of shapes {expected}, got {got}")
    return copies


class OracleMLP:
    """One multi-layer perceptron, trained minibatch by minibatch; it starts with all parameters zero.

    Its whole state may be read and replaced from outside, at best through `set_state`, which copies, casts to float64
    and checks shapes:

    - `weights[k]` (fan_in, fan_out) and `biases[k]` (fan_out,) of layer k, the output layer last; without biases
      (bias=False) they are zeros that no step touches;
    - `slots[name]["weights"][k]` and `slots[name]["biases"][k]`, shaped like the parameters: "m" and "v" for "adam" and
      "adamw", "momentum" for "sgd" (kept, to no effect, where momentum is 0);
    - `step_count`, the number of updates done, on which Adam's bias correction depends;
    - `averages`, averaged weights, then biases, after the first step; without averaging the last ones.
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
        dropout: float = 0.0,
        input_dropout: float = 0.0,
        key: int = 0,
        clip_norm: float = 0.0,
        average: float = 0.0,
    ) -> None:
        names = [activation] * len(hidden) if isinstance(activation, str) else list(activation)
        if len(names) != len(hidden):
            raise ValueError(f"expected {len(hidden)} activations, one per hidden layer, got {names}")
        update, slot_names, defaults = OPTIMIZERS[optimizer]
        if unknown := set(hyperparameters) - set(defaults):
            raise ValueError(f"{optimizer} has no {sorted(unknown)}")
        self.activations = names
        self.loss_function = LOSSES[loss]
        self.update = update
        self.hyperparameters = {**defaults, **hyperparameters}
        self.bias = bias
        # Shares of the units of each layer that drop out in training, features first; key: the member's stream.
        self.dropout = [input_dropout] + [dropout] * len(hidden)
        self.key = key
        self.clip_norm = clip_norm
        self.decay = average
        sizes = [n_features, *hidden, n_outputs]
        self.weights = [np.zeros(shape) for shape in zip(sizes[:-1], sizes[1:], strict=True)]
        self.biases = [np.zeros(size) for size in sizes[1:]]
        self.slots: dict[str, dict[str, list[Array]]] = {
            name: {
                "weights": [np.zeros_like(w) for w in self.weights],
                "biases": [np.zeros_like(b) for b in self.biases],
            }
            for name in slot_names
        }
        self.step_count = 0
        self.averages: list[Array] = []

    def set_state(
        self,
        weights: Iterable[ArrayLike],
        biases: Iterable[ArrayLike] | None = None,
        slots: Mapping[str, Mapping[str, Iterable[ArrayLike]]] | None = None,
        step_count: int | None = None,
    ) -> None:
        """Replace the weights and, where given, biases, slots (any of them, by name) and the step count by copies."""
        self.weights = float64_copies(weights, self.weights)
        if biases is not None:
            self.biases = float64_copies(biases, self.biases)
        for name, slot in (slots or {}).items():
            own = self.slots[name]
            self.slots[name] = {kind: float64_copies(slot[kind], own[kind]) for kind in ("weights", "biases")}
        if step_count is not None:
            self.step_count = step_count

    def masks(self, rows: int, epoch: int, place: int) -> list[Array] | None:
        """What the features and each hidden layer's activations of these rows are multiplied by in training."""
        if not any(self.dropout):
            return None
        units = [len(w) for w in self.weights]
        return [
            dropout_mask(share, self.key, epoch, layer, place, (rows, units[layer]))
            for layer, share in enumerate(self.dropout)
        ]

    def _forward(self, X: ArrayLike, masks: list[Array] | None = None) -> tuple[list[Array], list[Array]]:
        """The input of each layer and its pre-activation; the output layer's pre-activation is the raw output."""
        inputs, pre_activations = [np.asarray(X, dtype=np.float64)], []
        if masks is not None:
            inputs[0] = inputs[0] * masks[0]
        for k, (w, b) in enumerate(zip(self.weights, self.biases, strict=True)):
            pre_activations.append(inputs[k] @ w + b)
            if k < len(self.activations):
                function, _ = ACTIVATIONS[self.activations[k]]
                inputs.append(function(pre_activations[k]))
                if masks is not None:
                    inputs[-1] = inputs[-1] * masks[k + 1]
        return inputs, pre_activations

    def _loss_and_gradients(
        self, X: ArrayLike, y: ArrayLike, masks: list[Array] | None = None
    ) -> tuple[float, list[Array], list[Array]]:
        inputs, pre_activations = self._forward(X, masks)
        loss, delta = self.loss_function(pre_activations[-1], y)
        weight_gradients: list[Array] = []
        bias_gradients: list[Array] = []
        for k in reversed(range(len(self.weights))):
            weight_gradients.insert(0, inputs[k].T @ delta)
            bias_gradients.insert(0, delta.sum(axis=0) if self.bias else np.zeros_like(self.biases[k]))
            if k > 0:
                _, derivative = ACTIVATIONS[self.activations[k - 1]]
                delta = delta @ self.weights[k].T
                if masks is not None:
                    delta = delta * masks[k]
                delta = delta * derivative(pre_activations[k - 1])
        return loss, weight_gradients, bias_gradients

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
    ) -> tuple[list[Array], list[Array]]:
        """Gradients of `loss` with respect to weights and biases (zeros where there are none), without weight decay."""
        _, weight_gradients, bias_gradients = self._loss_and_gradients(X, y, masks)
        return weight_gradients, bias_gradients

    @np.errstate(all="ignore")
    def step(self, X: ArrayLike, y: ArrayLike, epoch: int = 0, place: int = 0) -> float:
        """One update on one minibatch; returns the loss before it. Weight decay spares the biases.

        For dropout: the first row is the one at this place of the epoch's order.
        """
        masks = self.masks(len(np.asarray(X)), epoch, place)
        loss, *gradients = self._loss_and_gradients(X, y, masks)
        weight_gradients, bias_gradients = self.clipped(*gradients)
        self.step_count += 1
        without_decay = {**self.hyperparameters, "weight_decay": 0.0}
        for k in range(len(self.weights)):
            self._update("weights", self.weights, weight_gradients, k, self.hyperparameters)
            if self.bias:
                self._update("biases", self.biases, bias_gradients, k, without_decay)
        now = self.weights + self.biases
        if self.step_count == 1 or not self.averages:
            self.averages = now
        self.averages = [self.decay * a + (1.0 - self.decay) * w for a, w in zip(self.averages, now, strict=True)]
        return loss

    def clip_factor(self, gradients: Iterable[Array]) -> float:
        """What all gradients are multiplied by, so that together they are no longer than `clip_norm`."""
        norm = math.sqrt(sum(float(np.sum(g * g)) for g in gradients))
        if self.clip_norm == 0.0 or not math.isfinite(norm):
            return 1.0
        return min(1.0, self.clip_norm / (norm + 1e-6))

    def clipped(self, weight_gradients: list[Array], bias_gradients: list[Array]) -> tuple[list[Array], list[Array]]:
        factor = self.clip_factor(weight_gradients + bias_gradients)
        return [factor * g for g in weight_gradients], [factor * g for g in bias_gradients]

    def _update(self, kind: str, parameters: list[Array], gradients: list[Array], k: int, h: Mapping[str, Any]) -> None:
        slots = {name: slot[kind][k] for name, slot in self.slots.items()}
        parameters[k], slots = self.update(parameters[k], gradients[k], slots, self.step_count, h)
        for name, value in slots.items():
            self.slots[name][kind][k] = value

    def train(
        self,
        X: ArrayLike,
        y: ArrayLike,
        epochs: int,
        batch_size: int,
        shuffle_key: int | None = None,
        first_epoch: int = 0,
    ) -> list[float]:
        """Train in minibatches, the last of which may be smaller; returns each epoch's mean of minibatch losses.

        Rows are taken in order, or in `shuffled_order` of the key; first_epoch is the number of epochs done before.
        """
        X, y = np.asarray(X), np.asarray(y)
        n = len(X)
        history = []
        for epoch in range(first_epoch, first_epoch + epochs):
            order = np.arange(n) if shuffle_key is None else shuffled_order(shuffle_key, epoch, n)
            batches = {start: order[start : start + batch_size] for start in range(0, n, batch_size)}
            losses = [self.step(X[batch], y[batch], epoch, start) for start, batch in batches.items()]
            history.append(sum(losses) / len(losses))
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
