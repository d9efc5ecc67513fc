"""Passes made of formulas: machine code against the same formulas on arrays."""

from types import SimpleNamespace

import numpy as np
import pytest

from formula_samples import DTYPES, apply, assert_within, hyperparameters, loss_problem, wide
from loss_variants import VARIANTS, library_loss
from pmlp_np.backends.numba.emitting import emit
from pmlp_np.backends.numba.passes import PASSES
from pmlp_np.backends.numba.passes.loss_passes import loss_pass
from pmlp_np.formulas import vocabulary
from pmlp_np.formulas.activations import ACTIVATIONS
from pmlp_np.formulas.initializers import DISTRIBUTIONS
from pmlp_np.formulas.losses import LOSSES
from pmlp_np.formulas.optimizers import RULES
from pmlp_np.formulas.tracing import Input, traced
from running_passes import LANES, bits, padded, run_pass, sentinel


@pytest.fixture
def draw():
    return np.random.default_rng(20)


# Words of the vocabulary by themselves: what they mean, and for each type the least and the largest argument and the
# bound of the error in units of eps. In float32 the error of exp's argument reduction grows with the argument.
WORDS = {
    "exp": (np.exp, {"float32": (-87, 88, 3), "float64": (-708, 709, 1)}),
    "expm1": (np.expm1, {"float32": (-20, 20, 2), "float64": (-20, 20, 2)}),
    "log": (np.log, {"float32": (1e-37, 1e37, 1), "float64": (1e-300, 1e300, 2)}),
    "log1p": (np.log1p, {"float32": (0, 1, 2), "float64": (0, 1, 2)}),
    "tanh": (np.tanh, {"float32": (-30, 30, 2.5), "float64": (-30, 30, 2.5)}),
    "sigmoid": (lambda x: 1 / (1 + np.exp(-x)), {"float32": (-40, 40, 3), "float64": (-40, 40, 3)}),
    "sin": (np.sin, {"float32": (-1e5, 1e5, 1.5), "float64": (-1e9, 1e9, 1.5)}),
    "cos": (np.cos, {"float32": (-1e5, 1e5, 1.5), "float64": (-1e9, 1e9, 1.5)}),
    "sqrt": (np.sqrt, {"float32": (1e-37, 1e37, 0.5), "float64": (1e-300, 1e300, 0.5)}),
    "reciprocal": (lambda x: 1 / x, {"float32": (1e-18, 1e18, 1), "float64": (1e-18, 1e18, 1)}),
}


def word_pass(word):
    def every_vector(e, tiles, values, count):
        def vector(i):
            place = e.offset(values, i)
            steps = traced(getattr(vocabulary, word), [Input("x", e.kind.name)], ["result"])
            e.store(*emit(e, steps, e.load(place)), place)

        e.loop(count, vector, step=e.kind.lanes)

    return every_vector


@pytest.mark.parametrize("kind", DTYPES)
@pytest.mark.parametrize("word", WORDS)
def test_words_are_accurate(word, kind, draw, monkeypatch):
    monkeypatch.setitem(PASSES, f"word:{word}", word_pass(word))
    meaning, ranges = WORDS[word]
    low, high, bound = ranges[kind]
    values = [draw.uniform(low, high, 2**14), draw.uniform(max(low, -1), min(high, 1), 2**14)]
    smallest, largest = (max(low, 1e-30) if low >= 0 else 1e-30), high
    values.append(10.0 ** draw.uniform(np.log10(smallest), np.log10(largest), 2**14))
    x = np.concatenate(values).astype(kind)
    x = x[(x >= low) & (x <= high)]
    x = x[: len(x) - len(x) % 16]
    # long double: its own error is a thousandth of float64's.
    exact = meaning(x.astype(np.longdouble))
    found = x.copy()
    run_pass(kind, f"word:{word}", values=found, count=len(found))
    errors = np.abs(found - exact) / np.maximum(np.abs(exact), np.finfo(kind).smallest_normal) / np.finfo(kind).eps
    assert errors.max() <= bound, f"{errors.max():.3g} eps at {x[errors.argmax()]}"
    special = np.full(16, np.nan, kind)
    if word in ("sin", "cos"):
        special[:6] = np.inf, -np.inf, 1.01 * high, -1.01 * high, 1e30, -1e30
    run_pass(kind, f"word:{word}", values=special, count=16)
    assert np.isnan(special).all()


# Activations.


def compiled_activation(name, z):
    kind = z.dtype.name
    width = padded(len(z), kind)
    a, derivative, plain, start = (sentinel(width, kind) for _ in range(4))
    start[: len(z)] = z
    # Without inputs a layer's pre-activations are its biases.
    layer = {
        "rows": 1, "first": 1, "last": 1, "x": 0, "x_stride": 0, "stride": width, "w": 0, "start": start,
        "width": len(z), "vectors": width // LANES[kind], "fan_in": 0,
    }  # fmt: skip
    run_pass(kind, f"layer_train:{name}", **layer, a=a, d=derivative)
    run_pass(kind, f"layer:{name}", **layer, a=plain)
    assert not a[len(z) :].any() and not derivative[len(z) :].any() and not plain[len(z) :].any(), "padding is not zero"
    assert np.array_equal(a, plain, equal_nan=True), "training and prediction differ"
    return a[: len(z)], derivative[: len(z)]


# Largest error in units in the last place of an activation itself for |z| <= 8, where it is not yet lost in rounding.
# gelu's: z² / 2 is rounded before its exponential is taken.
# So is gelu_tanh's argument of it, up to 50.
CORE_BOUND = dict.fromkeys(ACTIVATIONS, 4) | {
    "identity": 0, "relu": 0, "hardshrink": 0, "hard_tanh": 0, "leaky_relu": 1, "gelu": 16, "gelu_tanh": 64,
}  # fmt: skip


@pytest.mark.parametrize("kind", DTYPES)
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation_agrees_with_arrays(name, kind):
    z = wide(kind)
    if name == "sin":
        z = z[np.abs(z) <= WORDS["sin"][1][kind][1]]
    z = z[: len(z) - len(z) % LANES[kind] - 3]  # the last vector is a part of one
    exact, exact_derivative = apply(name, z.astype(np.float64))
    a, derivative = compiled_activation(name, z)
    assert_within(a, exact, 4, kind)
    assert_within(derivative, exact_derivative, 8, kind)
    core = np.abs(z) <= 8
    assert_within(a[core], exact[core], CORE_BOUND[name], kind, smallest=float(np.finfo(kind).smallest_normal))


@pytest.mark.parametrize("kind", DTYPES)
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation_of_nan_and_infinity(name, kind):
    z = np.array([np.nan, np.inf, -np.inf, 1.0], kind)
    a, _ = compiled_activation(name, z)
    expected, _ = apply(name, z)
    assert np.isnan(a[0])
    assert a[1] == expected[1] or (name == "sin" and np.isnan(a[1]) and np.isnan(expected[1]))
    # Minus infinity times a vanishing number: not a number on arrays, minus infinity in compiled code.
    assert not np.isfinite(a[2]) if not np.isfinite(expected[2]) else abs(a[2] - expected[2]) < 1e-6
    assert np.isfinite(a[3])


@pytest.mark.parametrize("kind", DTYPES)
@pytest.mark.parametrize("outputs", [1, 5])
@pytest.mark.parametrize("label", VARIANTS)
def test_loss_agrees_with_arrays(label, outputs, kind, draw):
    rows, name, reference = 5 * LANES[kind] + 3, VARIANTS[label][0], library_loss(label, outputs)
    raw, target = loss_problem(draw, label, outputs, rows)
    raw *= 10.0 ** draw.uniform(-3, 3, rows)
    # A sure answer and a surely wrong one, and an overflow of everything but the loss itself.
    raw[:, :2] = [1e4, -1e4]
    exponential = name in ("poisson", "gaussian_nll")
    if exponential:
        raw = np.clip(raw, -20.0, 20.0)
    raw, target = raw.astype(kind), np.atleast_2d(target.astype(kind))
    ld = padded(rows, kind) + LANES[kind]
    raw_outputs = len(raw)
    raws, dz = (sentinel((raw_outputs, ld), kind) for _ in range(2))
    targets, db = sentinel(target.shape, kind), sentinel(raw_outputs + 1, kind)
    raws[:, :rows], targets[...] = raw, target
    # Two blocks, the first of whole vectors.
    some = 2 * LANES[kind]
    sums, lane_sums = np.full(2, np.nan), np.full((2, LANES[kind]), np.nan)
    db_lanes = sentinel((raw_outputs, 16), kind)
    both = {"ld": ld, "ldt": rows, "outputs": raw_outputs, "weights": 0, "mean": 0}
    train = {"scale": bits(0.125), "db": db, "db_lanes": db_lanes}
    for begin, end in ((0, some), (some, rows)):
        block = {"rows": end - begin, "first": int(begin == 0), "last": int(end == rows), "raw": raws[:, begin:],
                 "target": targets[:, begin:]}  # fmt: skip
        run_pass(kind, loss_pass(reference, "loss_train"), **both, **train, **block, dz=dz[:, begin:],
                 loss_lanes=lane_sums, total=sums)  # fmt: skip
    loss_sum = sums[0]
    for begin, end in ((0, some), (some, rows)):
        block = {"rows": end - begin, "first": int(begin == 0), "last": int(end == rows), "raw": raws[:, begin:],
                 "target": targets[:, begin:]}  # fmt: skip
        run_pass(kind, loss_pass(reference, "loss_evaluate"), **both, **block, sums=lane_sums, totals=sums)

    exact_raw, exact_target = raw.astype(np.float64), target.astype(np.float64)
    exact_target = exact_target[0] if name == "cross_entropy" else exact_target
    loss, gradient = reference.function(exact_raw, exact_target)
    eps = float(np.finfo(kind).eps)
    # Each row's loss is rounded to the dtype; their sum is not.
    tolerance = 8 * eps * (np.abs(loss).sum() + np.abs(raw).max(axis=0).astype(np.float64).sum())
    assert abs(loss_sum - loss.sum()) <= tolerance
    assert sums[0] == loss_sum
    score = reference.score(exact_raw, exact_target).sum()
    assert sums[1] == pytest.approx(score, rel=16 * eps, abs=16 * eps * np.abs(score))
    # Softmax: the difference to the largest output is rounded before its exponential is taken.
    sizes = 1.0 + np.abs(exact_raw).max(axis=0)
    unit = 8 * eps * np.maximum(np.abs(gradient), sizes if "squared" in name else np.minimum(sizes, 30))
    if exponential:
        # The exponential's argument r is rounded, by r roundings of the result; a difference is multiplied by it.
        unit = 8 * eps * sizes**2 * np.exp(np.abs(exact_raw).max(axis=0))
    assert (np.abs(dz[:, :rows] - 0.125 * gradient) <= 0.125 * unit).all()
    exact_sums = dz[:, :rows].sum(axis=1, dtype=np.float64)
    rounding = rows * eps * np.abs(dz[:, :rows]).sum(axis=1, dtype=np.float64)
    assert (np.abs(db[:raw_outputs] - exact_sums) <= rounding).all() and np.isnan(db[raw_outputs])
    assert not dz[:, rows : padded(rows, kind)].any(), "padding is not zero"
    assert np.isnan(dz[:, padded(rows, kind) :]).all(), "written beyond the padding"


@pytest.mark.parametrize("kind", DTYPES)
@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize("name", LOSSES)
def test_loss_of_nan_is_nan_and_stays_in_its_row(name, place, kind):
    """Whichever output it is in, the right one, one before or one after it."""
    rows, ld, heads = 3, LANES[kind], LOSSES[name].heads
    raw, dz = (sentinel((3 * heads, ld), kind) for _ in range(2))
    target = sentinel((3, ld), kind)
    raw[:, :rows] = np.repeat([[1.0, 0.5, 2.0], [0.0, 1.0, 2.0], [0.1, 0.7, 1.0]], heads, axis=0)
    raw[place * heads, 1] = np.nan
    target[:, :rows] = 1.0
    loss_sum, sums, lane_sums = np.zeros(1), np.zeros(2), np.zeros((2, 16))
    settings = {"raw": raw, "target": target, "ld": ld, "ldt": ld, "rows": rows, "outputs": 3 * heads}
    settings |= {"first": 1, "last": 1, "weights": 0, "mean": 0}
    run_pass(
        kind, f"loss_train:{name}", **settings, dz=dz, scale=bits(1.0), loss_lanes=lane_sums, total=loss_sum,
        db=sentinel(3 * heads, kind), db_lanes=sentinel((3 * heads, ld), kind),
    )  # fmt: skip
    run_pass(kind, f"loss_evaluate:{name}", **settings, sums=lane_sums, totals=sums)
    assert np.isnan(loss_sum[0]) and np.isnan(sums[0])
    assert np.isnan(dz[place * heads, 1]) and np.isfinite(dz[:, [0, 2]]).all()


@pytest.mark.parametrize("kind", DTYPES)
@pytest.mark.parametrize("rule", RULES)
def test_optimizer_agrees_with_arrays(rule, kind, draw):
    rows, width = 3, LANES[kind] + 5
    stride = padded(width, kind)
    h = hyperparameters(rule, 0.3)
    n_slots = RULES[rule].slots
    block = sentinel((2 + n_slots, rows, stride), kind)
    values = draw.normal(size=block[..., :width].shape)
    values[2:] **= 2  # slots that hold means of squares among them
    block[..., :width] = values
    exact = block[..., :width].astype(np.float64)
    both = sentinel((2, 16, LANES[kind]), kind)
    step = 7
    rows_of_numbers = {"out": both, "out_stride": 16 * LANES[kind], "n": 2, "step": step}
    run_pass(kind, f"scalars:{rule}", inputs=np.array([list(h.values())] * 2), **rows_of_numbers)
    numbers = both[0]
    assert numbers.tobytes() == both[1].tobytes()
    scalars = RULES[rule].scalars(SimpleNamespace(**h), step)
    for line, (name, expected) in zip(numbers, scalars.items(), strict=False):
        np.testing.assert_allclose(line, expected, rtol=4 * np.finfo(kind).eps, err_msg=name)

    w, gradient, slots = block[0], block[1], block[2:]
    run_pass(
        kind,
        f"update:{rule}",
        w=w,
        dw=gradient,
        slots=slots,
        slot_stride=rows * stride,
        widths=np.full(rows, width),
        n=rows,
        numbers=numbers,
    )
    new_w, new_slots = RULES[rule].update(exact[0], exact[1], tuple(exact[2:]), SimpleNamespace(**scalars))
    assert_within(w[:, :width], new_w, 8, kind)
    for slot, expected in zip(slots, new_slots, strict=True):
        assert_within(slot[:, :width], expected, 8, kind)
    assert not w[:, width:].any() and not slots[..., width:].any(), "padding is not zero"


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_distribution_agrees_with_arrays(name, draw):
    u = (draw.integers(0, 2**32, 4096).astype(np.float64) + 0.5) * 2.0**-32
    u[:4] = [2.0**-33, 1 - 2.0**-33, 0.5, 0.075]
    drawn = u.copy()
    run_pass("float64", f"distribution:{name}", values=drawn, n=len(drawn))
    # Compiled code fuses multiplications and additions, and has a logarithm of its own.
    np.testing.assert_allclose(drawn, DISTRIBUTIONS[name](u), rtol=1e-14, atol=1e-15)
