"""Each pass of a training step alone: checked against NumPy, then timed, beside what bounds it.

    python -m benchmarks.kernels.lab                           # the passes of one row block
    python -m benchmarks.kernels.lab --features 5 --width 56   # at one shape
    python -m benchmarks.kernels.lab --kind float64 --output lab.json

A block of 32 rows of one member, all of it in the nearest cache, on one core. The bound of a pass is its multiply-adds
at the rate of multiply-adds in registers, and its activations at the rate of the activation alone in the nearest cache:
loads, stores, loops and calls are what lies between the bound and the time.
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.common import machine
from benchmarks.kernels.peak import activation_seconds, multiply_add_rate
from benchmarks.kernels.runner import BoundPass, aligned, bits
from pmlp_np.formulas.activations import ACTIVATIONS
from pmlp_np.formulas.optimizers import RULES, STEP_INPUTS

SHAPES = ((5, 8), (5, 56), (10, 56), (50, 56), (100, 100))
ROWS = 32
# The only block of its minibatch: sums begin at zero and are folded, weights take their step.
BLOCK = {"first": 1, "last": 1}
TOLERANCE = {"float32": 2e-5, "float64": 1e-12}


class Case(NamedTuple):
    """A pass with its arguments, what it must leave in which array, and the work it does."""

    name: str
    arguments: dict[str, Any]
    results: list[tuple[np.ndarray, np.ndarray]]  # (array the pass writes, what NumPy says in float64)
    multiply_adds: int
    activations: int = 0
    activation: str = ""


class Shape(NamedTuple):
    kind: str
    n_features: int
    width: int
    rows: int

    @property
    def lanes(self) -> int:
        return 64 // np.dtype(self.kind).itemsize

    @property
    def stride(self) -> int:
        return -(-self.width // self.lanes) * self.lanes


def cases(shape: Shape, activations: list[str], rules: list[str]) -> Iterator[Case]:
    for name in activations:
        yield layer(shape, name)
    yield outputs(shape)
    yield loss(shape)
    for rule in rules:
        yield output_backward(shape, rule)
        yield weights_backward(shape, rule)
        yield update(shape, rule)


def layer(shape: Shape, activation: str) -> Case:
    draw = np.random.default_rng(0)
    x, w, start = draw.normal(size=(shape.rows, shape.n_features)), units(shape, shape.n_features), units(shape, 1)[0]
    a, d = empty(shape, shape.rows), empty(shape, shape.rows)
    exact_a, exact_d = ACTIVATIONS[activation].function(x @ w + start)
    inside = np.arange(shape.stride) < shape.width
    arguments = {
        **BLOCK, "rows": shape.rows, "x": aligned(x, shape.kind), "x_stride": shape.n_features, "a": a, "d": d,
        "stride": shape.stride, "w": aligned(w, shape.kind), "start": aligned(start, shape.kind), "width": shape.width,
        "vectors": shape.stride // shape.lanes, "fan_in": shape.n_features,
    }  # fmt: skip
    size = shape.rows * shape.stride
    return Case(f"layer_train:{activation}", arguments, [(a, exact_a * inside), (d, exact_d * inside)],
                shape.n_features * size, size, activation)  # fmt: skip


def outputs(shape: Shape) -> Case:
    a, w = units(shape, shape.rows), units(shape, 1)
    raw = empty_row(shape, shape.rows)
    arguments = {
        **BLOCK, "rows": shape.rows, "raw": raw, "ld": shape.rows, "start": empty_row(shape, 1),
        "a": aligned(a, shape.kind), "stride": shape.stride, "w": aligned(w, shape.kind), "outputs": 1,
        "vectors": shape.stride // shape.lanes,
    }  # fmt: skip
    return Case("outputs", arguments, [(raw, a @ w[0])], shape.rows * shape.stride)


def loss(shape: Shape) -> Case:
    draw = np.random.default_rng(0)
    raw, target = draw.normal(size=(2, shape.rows))
    dz, db, total = empty_row(shape, shape.rows), empty_row(shape, 1), np.zeros(1)
    exact = 2 * (raw - target) / shape.rows
    arguments = {
        **BLOCK, "raw": aligned(raw, shape.kind), "dz": dz, "ld": shape.rows, "target": aligned(target, shape.kind),
        "ldt": shape.rows, "rows": shape.rows, "outputs": 1, "scale": bits(1 / shape.rows), "weights": 0, "mean": 0,
        "db": db, "db_lanes": empty_row(shape, shape.lanes), "loss_lanes": np.zeros(16), "total": total,
    }  # fmt: skip
    results = [(dz, exact), (db, exact.sum(keepdims=True)), (total, np.square(raw - target).sum())]
    return Case("loss_train:squared_error", arguments, results, 0)


def output_backward(shape: Shape, rule: str) -> Case:
    a, d, w = units(shape, shape.rows), units(shape, shape.rows, seed=1), units(shape, 1)
    dz = np.random.default_rng(2).normal(size=shape.rows)
    held_d, sums, step = aligned(d, shape.kind), empty(shape, 1), Step(shape, rule, w)
    hidden_dz = d * dz[:, None] * w
    arguments = {
        **BLOCK, "stride": shape.stride, "dw": empty(shape, 1), "a": aligned(a, shape.kind), "d": held_d,
        "hidden_db": sums, "dz": aligned(dz, shape.kind), "ld": shape.rows, "rows": shape.rows, "width": shape.width,
        "vectors": shape.stride // shape.lanes, "outputs": 1, **step.arguments,
    }  # fmt: skip
    results = [(held_d, hidden_dz), (sums, hidden_dz.sum(axis=0, keepdims=True)), step.result(dz[None] @ a)]
    return Case(f"output_backward:{rule}", arguments, results, 2 * shape.rows * shape.stride)


def weights_backward(shape: Shape, rule: str) -> Case:
    x, d = np.random.default_rng(0).normal(size=(shape.rows, shape.n_features)), units(shape, shape.rows)
    step = Step(shape, rule, units(shape, shape.n_features, seed=1))
    arguments = {
        **BLOCK, "rows": shape.rows, "x": aligned(x, shape.kind), "x_stride": shape.n_features,
        "dz": aligned(d, shape.kind), "dw": empty(shape, shape.n_features), "stride": shape.stride,
        "fan_in": shape.n_features, "width": shape.width, "vectors": shape.stride // shape.lanes, **step.arguments,
    }  # fmt: skip
    size = shape.n_features * shape.stride
    return Case(f"weights_backward:{rule}", arguments, [step.result(x.T @ d)], shape.rows * size)


def update(shape: Shape, rule: str) -> Case:
    gradient = units(shape, 1, seed=1)
    step = Step(shape, rule, units(shape, 1))
    arguments = {"dw": aligned(gradient, shape.kind), "widths": np.array([shape.width]), "n": 1}
    arguments |= step.arguments
    return Case(f"update:{rule}", arguments, [step.result(gradient)], 0)


class Step:
    """Weights that take a first step by a rule: its arguments, and what it leaves."""

    def __init__(self, shape: Shape, rule: str, weights: np.ndarray) -> None:
        self.rule = RULES[rule]
        self.weights = weights
        self.scalars = self.rule.scalars(Hyperparameters(), 1)
        self.w = aligned(weights, shape.kind)
        numbers = np.repeat(list(self.scalars.values()), shape.lanes)
        self.arguments = {
            "w": self.w, "slots": aligned(np.zeros((self.rule.slots, weights.size)), shape.kind),
            "slot_stride": weights.size, "numbers": aligned(numbers, shape.kind),
        }  # fmt: skip

    def result(self, gradient: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        slots = (np.zeros_like(gradient),) * self.rule.slots
        new_weights, _ = self.rule.update(self.weights, gradient, slots, Attributes(self.scalars))
        return self.w, new_weights


class Attributes:
    """Names as attributes."""

    def __init__(self, values: dict[str, Any]) -> None:
        self.__dict__.update(values)


class Hyperparameters(Attributes):
    """A learning rate that vanishes, so that weights stay what they are however often a pass is timed."""

    def __init__(self) -> None:
        decays = dict.fromkeys(("weight_decay", "l1", "decoupled_weight_decay"), 0.0)
        super().__init__(dict.fromkeys(STEP_INPUTS, 0.5) | {"learning_rate": 1e-12} | decays)


def units(shape: Shape, rows: int, seed: int = 0) -> np.ndarray:
    """(rows, padded width) float64, padding zero."""
    values = np.zeros((rows, shape.stride))
    values[:, : shape.width] = np.random.default_rng(seed).normal(size=(rows, shape.width))
    return values


def empty(shape: Shape, rows: int) -> np.ndarray:
    return aligned(np.zeros((rows, shape.stride)), shape.kind)


def empty_row(shape: Shape, count: int) -> np.ndarray:
    return aligned(np.zeros(count), shape.kind)


def check(case: Case, kind: str) -> None:
    BoundPass(kind, case.name, **case.arguments).run()
    for found, expected in case.results:
        error = np.max(np.abs(found - expected) / np.maximum(np.abs(expected), 1.0))
        if not error <= TOLERANCE[kind]:
            raise SystemExit(f"{case.name} is wrong by {error:.1e}: not timed")


def measure(shape: Shape, activations: list[str], rules: list[str]) -> list[dict[str, Any]]:
    rate = multiply_add_rate(shape.kind)
    alone = {name: activation_seconds(shape.kind, name) for name in activations}
    rows = []
    for case in cases(shape, activations, rules):
        check(case, shape.kind)
        seconds = BoundPass(shape.kind, case.name, **case.arguments).seconds()
        bound = 2 * case.multiply_adds / rate + case.activations * alone.get(case.activation, 0.0)
        rows.append({
            "pass": case.name, "n_features": shape.n_features, "width": shape.width, "rows": shape.rows,
            "seconds": seconds, "bound_seconds": bound, "gflops": 2e-9 * case.multiply_adds / seconds,
        })  # fmt: skip
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    lines = [f"{'pass':28}{'features':>9}{'width':>6}{'ns':>9}{'bound':>9}{'reached':>9}{'GFLOP/s':>9}"]
    for r in rows:
        reached = f"{100 * r['bound_seconds'] / r['seconds']:.0f} %" if r["bound_seconds"] else ""
        lines.append(
            f"{r['pass']:28}{r['n_features']:9}{r['width']:6}{1e9 * r['seconds']:9.0f}{1e9 * r['bound_seconds']:9.0f}"
            f"{reached:>9}{r['gflops']:9.0f}"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--features", type=int)
    parser.add_argument("--width", type=int)
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--kind", choices=list(TOLERANCE), default="float32")
    parser.add_argument("--activations", nargs="+", default=["relu", "tanh", "gelu"], choices=list(ACTIVATIONS))
    parser.add_argument("--rules", nargs="+", default=["sgd", "adam"], choices=list(RULES))
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    shapes = [s for s in SHAPES if options.features in (None, s[0]) and options.width in (None, s[1])]
    if not shapes:
        shapes = [(options.features or SHAPES[0][0], options.width or SHAPES[0][1])]
    rows = []
    for n_features, width in shapes:
        shape = Shape(options.kind, n_features, width, options.rows)
        rows += measure(shape, options.activations, options.rules)
    print(table(rows))
    if options.output:
        results = {"machine": machine(), "kind": options.kind, "passes": rows}
        options.output.write_text(json.dumps(results, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
