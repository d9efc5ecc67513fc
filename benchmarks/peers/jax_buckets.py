"""The same members in JAX: vmap over members of one activation and nearly one width, a compiled loop over minibatches.

Widths are rounded up to 16, and members of one rounded width and one activation form a bucket: 70 for the paper's pool.
A bucket trains a whole epoch in one compiled call, with its buffers donated; the calls of all buckets are dispatched
before the first is waited for. Compiling is not timed.

Padding stays zero by itself: a padded unit's incoming weights get no gradient because its outgoing ones are zero, and
those get none because its activation is zero. Only sigmoid(0) is not: there the outgoing gradient is masked.

A last minibatch of fewer rows is exact. Where filling it up costs less than 3 % of an epoch, it is a full one whose
further rows have weight zero; otherwise it has a compiled step of its own.

Also tried, on the paper's pool at F=10 B=32 and F=100 B=128 with 1,000 rows, two cores: units × rows instead of
rows × units (as fast); the first layer as one matrix product of a whole bucket (1.1 to 1.5 times as long); all
activations of a width in one call (1.0 to 1.4 times); the bucket cut into pieces of 40 members which train one after
another and stay nearer to the cache (1.35 times as long at F=10, 0.9 times at F=100); pieces of 8 or 20 (longer).
"""

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.common import Adam, Architecture, Cell, Weights, available_cores, fans
from benchmarks.peers import columns
from benchmarks.peers.textbook import mean_losses

ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "identity": lambda z: z,
    "sigmoid": jax.nn.sigmoid,
    "tanh": jnp.tanh,
    "relu": jax.nn.relu,
    "leaky_relu": lambda z: jax.nn.leaky_relu(z, 0.01),
    "elu": jax.nn.elu,
    "gelu": lambda z: jax.nn.gelu(z, approximate=False),
    "selu": jax.nn.selu,
    "hardshrink": lambda z: jnp.where(jnp.abs(z) > 0.5, z, 0.0),
    "mish": jax.nn.mish,
}
NOT_ZERO_AT_ZERO = {"sigmoid"}

WIDTH_STEP = 16
FILLED_UP_AT_MOST = 0.03
# Data are padded to this many rows, and how many minibatches to go through is an argument: what was compiled for one
# number of rows serves the others.
CAPACITY = 10_000

Parameters = list[tuple[jax.Array, jax.Array]]  # per layer, as one member sees it: (fan_in, fan_out), (fan_out,)


class State(NamedTuple):
    parameters: Parameters
    slots: Any  # Adam's two moments; nothing for plain SGD
    step: jax.Array  # () float32, of all members


class Rows(NamedTuple):
    """Minibatches of one size: (n_batches, rows, ...)."""

    x: jax.Array
    y: jax.Array
    weight: jax.Array  # (n_batches, rows, 1): 1 / rows of the minibatch; 0 for rows that only fill it up


def forward(activation: str, parameters: Parameters, x: jax.Array) -> jax.Array:
    for matrix, bias in parameters[:-1]:
        x = ACTIVATIONS[activation](x @ matrix + bias)
    matrix, bias = parameters[-1]
    return x @ matrix + bias


def member_loss(activation: str, parameters: Parameters, x: jax.Array, y: jax.Array, weight: jax.Array) -> jax.Array:
    return jnp.sum(weight * jnp.square(forward(activation, parameters, x) - y)) / y.shape[1]


def updated(optimizer: str, state: State, gradients: Parameters, learning_rate: jax.Array) -> State:
    step = state.step + 1
    if optimizer == "sgd":
        moved = jax.tree.map(lambda p, g: p - learning_rate * g, state.parameters, gradients)
        return State(moved, state.slots, step)
    h = Adam()
    first = jax.tree.map(lambda m, g: h.beta1 * m + (1 - h.beta1) * g, state.slots[0], gradients)
    second = jax.tree.map(lambda v, g: h.beta2 * v + (1 - h.beta2) * g * g, state.slots[1], gradients)
    # 1 - beta**step, without the cancellation that would cost float32 half of its digits.
    first_part, second_part = (-jnp.expm1(step * math.log(beta)) for beta in (h.beta1, h.beta2))
    rate, scale = learning_rate / first_part, jax.lax.rsqrt(second_part)
    moved = jax.tree.map(lambda p, m, v: p - rate * m / (scale * jnp.sqrt(v) + h.eps), state.parameters, first, second)
    return State(moved, (first, second), step)


@functools.cache
def trainer(activation: str, optimizer: str) -> Callable[..., State]:
    """(state, masks, rows, number of minibatches, learning rate) to the state after them, compiled for each shape.

    A parameter of the bucket has an axis of members in front.
    """
    slope = jax.vmap(jax.grad(functools.partial(member_loss, activation)), in_axes=(0, None, None, None))

    def epoch(state: State, masks: Any, rows: Rows, count: Any, learning_rate: Any) -> State:
        def minibatch(i: jax.Array, state: State) -> State:
            gradients = slope(state.parameters, rows.x[i], rows.y[i], rows.weight[i])
            if masks is not None:
                inner = [(g * mask, b) for (g, b), mask in zip(gradients[1:], masks, strict=True)]
                gradients = [gradients[0], *inner]
            return updated(optimizer, state, gradients, learning_rate)

        return jax.lax.fori_loop(0, count, minibatch, state)

    return jax.jit(epoch, donate_argnums=0)


def on_all_cores(call: Callable[..., Any], items: Sequence[Any]) -> list[Any]:
    """Calls that compile: XLA compiles one function on one core."""
    with ThreadPoolExecutor(available_cores()) as threads:
        return list(threads.map(call, items))


class Bucket:
    """Members of one activation and one rounded width."""

    def __init__(self, cell: Cell, activation: str, width: int, members: list[int], weights: Sequence[Weights]) -> None:
        self.activation, self.optimizer, self.members = activation, cell.optimizer, members
        self.widths = [len(weights[m].biases[0]) for m in members]
        parameters, masks = [], []
        for layer, (fan_in, fan_out) in enumerate(fans(width, cell.n_features, cell.n_outputs, cell.depth)):
            matrix = np.zeros((len(members), fan_in, fan_out), np.float32)
            bias = np.zeros((len(members), fan_out), np.float32)
            mask = np.zeros((len(members), fan_in, 1), np.float32)
            for i, m in enumerate(members):
                given = weights[m].matrices[layer]
                matrix[i, : given.shape[0], : given.shape[1]] = given
                bias[i, : given.shape[1]] = weights[m].biases[layer]
                mask[i, : given.shape[0]] = 1
            parameters.append((jnp.asarray(matrix), jnp.asarray(bias)))
            masks.append(mask)
        self.masks = [jnp.asarray(mask) for mask in masks[1:]] if activation in NOT_ZERO_AT_ZERO else None
        slots = () if cell.optimizer == "sgd" else tuple(jax.tree.map(jnp.zeros_like, parameters) for _ in range(2))
        self.state = State(parameters, slots, jnp.zeros((), np.float32))

    def train(self, pieces: list[tuple[Rows, np.int32]], learning_rate: np.float32) -> None:
        """Returns before it is done."""
        call = trainer(self.activation, self.optimizer)
        for rows, count in pieces:
            self.state = call(self.state, self.masks, rows, count, learning_rate)


_kind: list[tuple[Any, ...]] = []  # the shapes that are compiled, as far as they follow from the cell


class BucketedPool:
    def __init__(self, cell: Cell, architectures: Sequence[Architecture], weights: Sequence[Weights]) -> None:
        self.cell = cell
        groups: dict[tuple[str, int], list[int]] = {}
        for m, (width, activation) in enumerate(architectures):
            groups.setdefault((activation, -(-width // WIDTH_STEP) * WIDTH_STEP), []).append(m)
        self.buckets = [Bucket(cell, a, width, members, weights) for (a, width), members in groups.items()]
        self.activations = [activation for _, activation in architectures]
        self.rate = np.float32(cell.learning_rate)
        self.data: tuple[Any, list[tuple[Rows, np.int32]]] = (None, [])
        # What was compiled for other shapes takes memory, and is of no use.
        kind = cell.n_features, cell.n_outputs, cell.depth, cell.optimizer
        if _kind != [kind]:
            jax.clear_caches()
            _kind[:] = [kind]

    def _pieces(self, x: np.ndarray, y: np.ndarray) -> list[tuple[Rows, np.int32]]:
        """The data as runs of equal minibatches, each with how many there are."""
        size = self.cell.batch_size
        full, rest = divmod(len(x), size)
        if not rest or size - rest <= FILLED_UP_AT_MOST * len(x):
            return [(padded(x, y, size), np.int32(full + bool(rest)))]
        last = (padded(x[full * size :], y[full * size :], rest, rest), np.int32(1))
        return [(padded(x[: full * size], y[: full * size], size), np.int32(full)), last] if full else [last]

    def prepare(self, x: np.ndarray, y: np.ndarray) -> None:
        """Put the data where JAX finds them, and compile; once for the same data."""
        if self.data[0] == fingerprint(x):
            return
        pieces = self._pieces(x, columns(y))
        self.data = fingerprint(x), pieces
        # A loop over no minibatch compiles, and leaves the state as it is.
        on_all_cores(lambda bucket: bucket.train([(rows, np.int32(0)) for rows, _ in pieces], self.rate), self.buckets)

    def train(self, x: np.ndarray, y: np.ndarray, n_threads: int, epochs: int = 1) -> None:
        """XLA uses all cores, whatever `n_threads` says. The epochs of a bucket follow each other: its parameters stay
        in the cache; nothing is waited for in between."""
        self.prepare(x, y)
        for bucket in self.buckets:
            for _ in range(epochs):
                bucket.train(self.data[1], self.rate)
        jax.block_until_ready([bucket.state for bucket in self.buckets])

    def losses(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        # Not in JAX: compiling the losses of all buckets would take longer than NumPy takes for a few rows.
        return mean_losses(self.weights(), self.activations, x, y)

    def weights(self) -> list[Weights]:
        return [weights for _, weights in sorted(self._weights(), key=lambda pair: pair[0])]

    def _weights(self) -> Iterator[tuple[int, Weights]]:
        for bucket in self.buckets:
            layers = [(np.asarray(w), np.asarray(b)) for w, b in bucket.state.parameters]
            for i, (member, width) in enumerate(zip(bucket.members, bucket.widths, strict=True)):
                sizes = fans(width, self.cell.n_features, self.cell.n_outputs, self.cell.depth)
                cut = [(w[i, :a, :b], v[i, :b]) for (w, v), (a, b) in zip(layers, sizes, strict=True)]
                yield member, Weights([w for w, _ in cut], [v for _, v in cut])


def fingerprint(x: np.ndarray) -> tuple[Any, ...]:
    return x.shape, float(x[0, 0]), float(x[-1, -1])


def padded(x: np.ndarray, y: np.ndarray, size: int, capacity: int = CAPACITY) -> Rows:
    n_batches = -(-max(len(x), capacity) // size)

    def batched(values: np.ndarray) -> np.ndarray:
        whole = np.zeros((n_batches * size, values.shape[1]), np.float32)
        whole[: len(values)] = values
        return whole.reshape(n_batches, size, values.shape[1])

    counts = batched(np.ones((len(x), 1)))
    weight = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    return Rows(jnp.asarray(batched(x)), jnp.asarray(batched(y)), jnp.asarray(weight.astype(np.float32)))
