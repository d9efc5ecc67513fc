"""Step lists: on arrays each is the formula itself, and as compiled code computes it, bit for bit."""

import ctypes
import math
import operator
import subprocess
from fractions import Fraction
from types import SimpleNamespace

import numpy as np
import pytest

import pmlp_np as pm
import step_lists_in_cuda
from c_header import compiler
from formula_samples import DTYPES, hyperparameters, loss_problem, wide
from loss_variants import VARIANTS, library_loss
from pmlp_np.backends.numba.emitting import WORDS as EMITTED
from pmlp_np.backends.numba.passes.layers import layer_pass
from pmlp_np.backends.numba.passes.loss_passes import loss_pass
from pmlp_np.formulas import step_lists, tracing
from pmlp_np.formulas import vocabulary as v
from pmlp_np.formulas.activations import ACTIVATIONS
from pmlp_np.formulas.elementary import DEFINITIONS, definition
from pmlp_np.formulas.initializers import DISTRIBUTIONS
from pmlp_np.formulas.interpreter import _WORDS as ON_ARRAYS
from pmlp_np.formulas.interpreter import evaluate, fused_multiply_add
from pmlp_np.formulas.losses import LOSSES
from pmlp_np.formulas.optimizers import RULES, STEP_INPUTS
from pmlp_np.formulas.options import OPTIONS
from pmlp_np.formulas.random import dropout_words
from pmlp_np.formulas.regularizers import averaged, clip_factor
from pmlp_np.formulas.schedules import SCHEDULES, rate_factor
from pmlp_np.formulas.tracing import OUTPUT, RAW, ROW, Constant, Input, StepList, traced
from pmlp_np.models.export import c_formulas, python_formulas, to_onnx
from running_passes import LANES, bits, run_pass, sentinel

requires_dtype = pytest.mark.parametrize("dtype", DTYPES)


@pytest.fixture
def draw():
    return np.random.default_rng()


def same(found, expected):
    """Equal bits, and equal dtypes; NaN equals NaN."""
    found, expected = np.asarray(found), np.asarray(expected)
    assert found.dtype == expected.dtype and found.shape == expected.shape
    signs = np.signbit(found) == np.signbit(expected) if found.dtype.kind == "f" else True
    equal = (found == expected) & signs
    if found.dtype.kind == "f":
        equal |= np.isnan(found) & np.isnan(expected)
    assert equal.all(), f"{(~equal).sum()} of {equal.size} differ: {found[~equal][:3]}, {expected[~equal][:3]}"


def every_list():
    """(what it is, list) of every entry of every table."""
    for dtype in DTYPES:
        yield from ((f"{name} {dtype}", step_lists.activation_steps(name, dtype)) for name in ACTIVATIONS)
        for label in VARIANTS:
            loss = library_loss(label, 2)
            yield f"{label} {dtype}", step_lists.loss_steps(loss, dtype)
            yield f"score of {label} {dtype}", step_lists.score_steps(loss, dtype)
            yield from ((f"{part} of {label}", step_lists.part_steps(loss, part)) for part in loss.parts)
        yield from ((f"update of {rule} {dtype}", step_lists.update_steps(rule, dtype)) for rule in RULES)
        yield from ((f"{word} {dtype}", definition(word, dtype)) for word in DEFINITIONS)
        yield f"average {dtype}", step_lists.average_steps(dtype)
    yield from ((f"numbers of {rule}", step_lists.scalar_steps(rule)) for rule in RULES)
    yield from ((name, step_lists.schedule_steps(name)) for name in SCHEDULES)
    yield from ((name, step_lists.distribution_steps(name)) for name in DISTRIBUTIONS)
    yield "dropout", step_lists.dropout_steps()
    yield "clip", step_lists.clip_steps()


LISTS = dict(every_list())


@pytest.mark.parametrize("what", LISTS)
def test_lists_are_typed_and_refer_to_earlier_values(what):
    steps = LISTS[what]
    for number, step in enumerate(steps.steps, len(steps.inputs)):
        assert step.word in tracing.WORDS and step.word in ON_ARRAYS
        assert step.word in {*EMITTED, *DEFINITIONS, *tracing.REDUCTIONS, "n_outputs", "output_index", "head",
                             "output_constants"}  # fmt: skip
        given = [a.dtype if isinstance(a, Constant) else steps.value(a).dtype for a in step.arguments]
        assert all(a < number for a in step.arguments if isinstance(a, int))
        if step.word in tracing.COMPARISONS:
            assert step.dtype == "bool" and len(set(given)) == 1
        elif step.word == "where":
            assert given == ["bool", step.dtype, step.dtype]
        elif step.word in ("bits", "from_bits", "number", "power"):
            assert step.dtype != given[-1]
        else:
            assert set(given) == {step.dtype}
        extents = {steps.value(a).extent for a in step.arguments if isinstance(a, int)}
        assert step.extent in extents or step.extent in (ROW, OUTPUT)
    # Nothing is left that no result needs, but for the parts of a formula that a caller may drop.
    assert steps.only(*steps.names).results and len(steps.only(*steps.names).steps) <= len(steps.steps)


def test_renderers_have_every_word_that_activations_may_have():
    """One that is new in the vocabulary is noticed here."""
    words = {*tracing.ELEMENTWISE, *tracing.COMPARISONS, "add", "subtract", "multiply", "divide", "negative", "where",
             "power"}  # fmt: skip
    torch_module = pytest.importorskip("pmlp_np.models.export.torch_module")
    assert words <= set(python_formulas.WORDS)
    assert words <= set(c_formulas.WORDS)
    assert words <= set(to_onnx._ONE_OPERATOR) | set(to_onnx._WORDS)
    assert words <= set(torch_module._STEPS)
    assert set(tracing.WORDS) <= set(ON_ARRAYS)


# On arrays: the formula itself.


@requires_dtype
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_on_arrays(name, dtype):
    z = np.concatenate([wide(dtype), np.array([np.nan, np.inf, -np.inf], dtype)])
    with np.errstate(all="ignore"):
        expected = ACTIVATIONS[name].function(z)
    for found, value in zip(evaluate(step_lists.activation_steps(name, dtype), z), expected, strict=True):
        same(found, value)


def loss_arrays(draw, label, outputs, dtype, rows=37):
    loss = library_loss(label, outputs)
    raw, target = loss_problem(draw, label, outputs, rows, 3.0)
    return loss, raw.astype(dtype), target.astype(dtype)


@requires_dtype
@pytest.mark.parametrize("outputs", [1, 2, 5])
@pytest.mark.parametrize("label", VARIANTS)
def test_losses_scores_and_parts_on_arrays(label, outputs, dtype, draw):
    loss, raw, target = loss_arrays(draw, label, outputs, dtype)
    target = target.reshape(-1) if loss.targets == "labels" else target
    row_loss, gradients = loss.by_head(raw, target)
    found = evaluate(step_lists.loss_steps(loss, dtype), raw, target)
    for one, expected in zip(found, (row_loss, *gradients), strict=True):
        same(one, expected)
    same(evaluate(step_lists.score_steps(loss, dtype), raw, target)[0], loss.score(raw, target))
    for part in loss.parts if dtype == "float64" else ():
        same(evaluate(step_lists.part_steps(loss, part), raw)[0], loss.part(part, raw))


def rule_problem(draw, rule, dtype, n=64):
    values = draw.normal(size=(2 + RULES[rule].slots, n)).astype(dtype)
    values[2:] **= 2
    return values[0], values[1], values[2:]


@requires_dtype
@pytest.mark.parametrize("rule", RULES)
def test_rules_on_arrays(rule, dtype, draw):
    h = hyperparameters(rule, 0.3)
    for step in (1, 2, 17, 1000):
        numbers = RULES[rule].scalars(SimpleNamespace(**h), step)
        found = evaluate(step_lists.scalar_steps(rule), *map(np.float64, h.values()), step)
        assert step_lists.scalar_steps(rule).names == tuple(numbers)
        np.testing.assert_array_equal(found, list(numbers.values()))
    w, g, slots = rule_problem(draw, rule, dtype)
    numbers = {name: np.dtype(dtype).type(value) for name, value in numbers.items()}
    expected, new_slots = RULES[rule].update(w, g, tuple(slots), SimpleNamespace(**numbers))
    found = evaluate(step_lists.update_steps(rule, dtype), w, g, *slots, *numbers.values())
    for one, value in zip(found, (expected, *new_slots), strict=True):
        same(one, value)


def schedule_problem(draw):
    row = {name: option.encoded(option.default) for name, option in OPTIONS.items()}
    row |= {"schedule_epochs": float(draw.choice([0, 3, 7.5])), "schedule_interval": float(draw.choice([1, 2.5])),
            "schedule_factor": draw.uniform(0.1, 1.0), "final_rate_factor": draw.uniform(0, 0.5),
            "warmup_epochs": float(draw.choice([0, 0.5, 2]))}  # fmt: skip
    minibatches = int(draw.integers(1, 9))
    times = int(draw.integers(0, 12)), int(draw.integers(0, minibatches)), minibatches, int(draw.integers(1, 12))
    return row, times


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules_on_arrays(name, draw):
    for _ in range(50):
        row, times = schedule_problem(draw)
        steps = step_lists.schedule_steps(name)
        o = {key: np.float64(row[key]) for key, dtype, _ in steps.inputs if dtype == "float64"}
        with np.errstate(all="ignore"):
            expected = rate_factor(name, SimpleNamespace(**o), *times)
        same(evaluate(steps, *o.values(), *times)[0], expected)


def test_distributions_and_regularizers_on_arrays(draw):
    u = (draw.integers(0, 2**32, 1000) + 0.5) * 2.0**-32
    for name, function in DISTRIBUTIONS.items():
        same(evaluate(step_lists.distribution_steps(name), u)[0], function(u))
    four, unit = draw.integers(0, 2**35, 100).astype(np.uint64), draw.integers(0, 300, 100).astype(np.uint64)
    given = (four, np.uint64(7), np.uint64(2), unit, np.uint64(2**63 + 12345))
    for found, expected in zip(evaluate(step_lists.dropout_steps(), *given), dropout_words(*given), strict=True):
        same(found, expected)
    norms, limit = np.array([0.0, 1.9, 2.0, 2.1, 1e300, np.inf, np.nan]), np.float64(2.0)
    with np.errstate(all="ignore"):
        same(evaluate(step_lists.clip_steps(), norms, limit)[0], clip_factor(norms, limit))
    for dtype in DTYPES:
        given = draw.normal(size=(4, 100)).astype(dtype)
        same(evaluate(step_lists.average_steps(dtype), *given)[0], averaged(*given))


# As compiled: the bits of the passes.


@requires_dtype
def test_the_multiply_add_is_rounded_once(dtype, draw):
    a, b = draw.normal(size=(2, 3000)).astype(dtype)
    # Sums that cancel, to all degrees.
    c = (-a * b * (1.0 + draw.choice([0.0, 1e-3, 1e-7, 1e-12, 1.0], 3000))).astype(dtype)
    found = fused_multiply_add(a, b, c)
    assert found.dtype == dtype
    exact = [Fraction(float(x)) * Fraction(float(y)) + Fraction(float(z)) for x, y, z in zip(a, b, c, strict=True)]
    for one, value in zip(found.tolist(), exact, strict=True):
        near = [float(np.nextafter(np.dtype(dtype).type(one), np.dtype(dtype).type(to))) for to in (-np.inf, np.inf)]
        assert all(abs(Fraction(one) - value) <= abs(Fraction(other) - value) for other in near)
    assert (found != a * b + c).any()
    with np.errstate(invalid="ignore"):
        assert np.isnan(fused_multiply_add(*np.array([[np.inf], [0.0], [1.0]], dtype)))[0]


@requires_dtype
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_as_compiled(name, dtype, draw):
    z = np.concatenate([draw.normal(size=500) * s for s in (0.01, 1.0, 10.0, 100.0)]).astype(dtype)
    special = [np.inf, -np.inf, np.nan, 88.1, -87.5, 0.5, -0.5, 20.0, 0.0, -0.0, 1.0, -1.0, 3.0, -3.0]
    z = np.concatenate([z, np.array(special, dtype)])
    z = z[len(z) % 16 :]
    a, d = np.empty_like(z), np.empty_like(z)
    run_pass(dtype, layer_pass(name, "layer_train"), rows=1, first=1, last=1, x=0, x_stride=0, a=a, d=d,
             stride=len(z), w=0, start=z, width=len(z), vectors=len(z) // LANES[dtype], fan_in=0)  # fmt: skip
    found = evaluate(step_lists.activation_steps(name, dtype), z, as_compiled=True)
    same(found[0], a)
    same(found[1], d)


def folded(values, lanes):
    """A sum over rows as passes take it: one float64 for each lane, and then halves."""
    sums = values.reshape(-1, lanes).astype(np.float64).cumsum(axis=0)[-1]
    while len(sums) > 1:
        sums = sums[: len(sums) // 2] + sums[len(sums) // 2 :]
    return sums[0]


@requires_dtype
@pytest.mark.parametrize("label", VARIANTS)
def test_losses_as_compiled(label, dtype, draw):
    outputs, rows, lanes = 3, 48, LANES[dtype]
    loss, raw, target = loss_arrays(draw, label, outputs, dtype, rows)
    gradient, n_raw = np.empty_like(raw), len(raw)
    lane_sums, total, totals = np.empty((2, lanes)), np.empty(1), np.empty(2)
    both = {"rows": rows, "first": 1, "last": 1, "raw": raw, "target": np.ascontiguousarray(target), "ld": rows,
            "ldt": rows, "outputs": n_raw}  # fmt: skip
    run_pass(dtype, loss_pass(loss, "loss_train"), **both, weights=0, mean=0, scale=bits(1.0), dz=gradient,
             db=sentinel(n_raw, dtype), db_lanes=sentinel((n_raw, lanes), dtype), loss_lanes=lane_sums,
             total=total)  # fmt: skip
    run_pass(dtype, loss_pass(loss, "loss_evaluate"), **both, weights=0, mean=0, sums=lane_sums, totals=totals)
    target = target.reshape(-1) if loss.targets == "labels" else target
    row_loss, *gradients = evaluate(step_lists.loss_steps(loss, dtype), raw, target, as_compiled=True)
    for h, expected in enumerate(gradients):
        same(gradient[h :: loss.heads], expected)
    (score,) = evaluate(step_lists.score_steps(loss, dtype), raw, target, as_compiled=True)
    assert [folded(row_loss, lanes)] == total.tolist()
    assert [folded(row_loss, lanes), folded(score, lanes)] == totals.tolist()


@requires_dtype
@pytest.mark.parametrize("rule", RULES)
def test_rules_as_compiled(rule, dtype, draw):
    h, kind = hyperparameters(rule, 0.3), np.dtype(dtype).type
    names, lanes = step_lists.scalar_steps(rule).names, LANES[dtype]
    for step in (1, 7, 123457):
        numbers = np.empty((len(names), lanes), dtype)
        run_pass(dtype, f"scalars:{rule}", out=numbers, out_stride=numbers.size, inputs=np.array(list(h.values())),
                 n=1, step=step)  # fmt: skip
        found = evaluate(step_lists.scalar_steps(rule), *map(np.float64, h.values()), step, as_compiled=True)
        same(np.array([kind(value) for value in found]), numbers[:, 0])
    w, g, slots = rule_problem(draw, rule, dtype)
    expected = evaluate(step_lists.update_steps(rule, dtype), w, g, *slots, *numbers[:, 0], as_compiled=True)
    block = np.stack([w, *slots])
    run_pass(dtype, f"update:{rule}", w=block, dw=g, slots=block[1:], slot_stride=len(w),
             widths=np.array([len(w)]), n=1, numbers=numbers)  # fmt: skip
    same(block, np.stack(expected))


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules_as_compiled(name, draw):
    for _ in range(50):
        row, (epoch, minibatch, minibatches, fit_epochs) = schedule_problem(draw)
        inputs = np.zeros((1, len(STEP_INPUTS)))
        run_pass("float64", f"schedule:{name}", inputs=inputs, rates=np.ones(1), n=1,
                 options=np.array(list(row.values())), minibatches=minibatches, fit_epochs=fit_epochs, epoch=epoch,
                 minibatch=minibatch)  # fmt: skip
        steps = step_lists.schedule_steps(name)
        o = [np.float64(row[key]) for key, dtype, _ in steps.inputs if dtype == "float64"]
        (found,) = evaluate(steps, *o, epoch, minibatch, minibatches, fit_epochs, as_compiled=True)
        same(np.float64(found), inputs[0, STEP_INPUTS.index("learning_rate")])


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_distributions_as_compiled(name, draw):
    u = (draw.integers(0, 2**32, 4096) + 0.5) * 2.0**-32
    expected = u.copy()
    run_pass("float64", f"distribution:{name}", values=expected, n=len(u))
    same(evaluate(step_lists.distribution_steps(name), u, as_compiled=True)[0], expected)


# As CUDA C++, compiled for the CPU.

OUTPUTS, ROWS = 2, 64


@pytest.fixture(scope="module")
def in_cuda(tmp_path_factory):
    """All lists as functions of C++, by what they are."""
    folder = tmp_path_factory.mktemp("lists")
    names = {what: f"list_{i}" for i, what in enumerate(LISTS)}
    texts = [step_lists_in_cuda.function(names[what], steps) for what, steps in LISTS.items()]
    (folder / "lists.cpp").write_text("\n\n".join([step_lists_in_cuda.HEAD, *texts]))
    library = folder / "lists.so"
    # Nothing is fused that is not written so, as on a GPU with --fmad=false.
    flags = ["-O1", "-std=c++17", "-ffp-contract=off", "-fno-strict-aliasing", "-shared", "-fPIC"]
    subprocess.run(
        [compiler(("c++", "g++", "clang++")), *flags, "lists.cpp", "-o", str(library), "-lm"], check=True, cwd=folder
    )
    functions = ctypes.CDLL(str(library))
    return {what: getattr(functions, name) for what, name in names.items()}


def arguments(steps, what, draw):
    """Arrays of each input, and how many raw outputs there are."""
    heads = next((step.parameters[0] for step in steps.steps if step.word == "head"), 1)
    sizes = {ROW: (ROWS,), OUTPUT: (OUTPUTS, ROWS), RAW: (heads * OUTPUTS, ROWS)}
    found = []
    for name, dtype, extent in steps.inputs:
        if name == "target" and extent == ROW:
            found.append(draw.integers(0, OUTPUTS, sizes[extent]).astype(dtype))
        elif dtype in DTYPES:
            small = what.startswith("numbers of") or what in SCHEDULES or what in DISTRIBUTIONS
            values = draw.uniform(0.01, 0.99, sizes[extent]) if small else 3.0 * draw.normal(size=sizes[extent])
            found.append(values.astype(dtype))
        else:
            found.append(draw.integers(1, 40 if dtype == "int64" else 2**40, sizes[extent]).astype(dtype))
    return found, heads * OUTPUTS


@pytest.mark.parametrize("what", LISTS)
def test_lists_in_cuda_have_the_same_bits(what, in_cuda, draw):
    steps = LISTS[what]
    given, n_raw = arguments(steps, what, draw)
    expected = [np.asarray(value) for value in evaluate(steps, *given, as_compiled=True)]
    shapes = [(ROWS,) if steps.value(result).extent == ROW else (OUTPUTS, ROWS) for result in steps.results]
    found = [np.empty(shape, value.dtype) for shape, value in zip(shapes, expected, strict=True)]
    pointers = [(ctypes.c_void_p * len(arrays))(*(a.ctypes.data for a in arrays)) for arrays in (given, found)]
    in_cuda[what](*map(ctypes.c_int64, (ROWS, n_raw, OUTPUTS)), *pointers)
    for one, value, shape in zip(found, expected, shapes, strict=True):
        same(one, np.broadcast_to(value, shape))


# The tracer.


def test_steps_stand_as_they_are_written():
    def formula(x, y):
        return 2.0 * x + y, v.where(x > 1.0, x, -y)

    found = traced(formula, [Input("x", "float32"), Input("y", "float32")], ["sum", "choice"])
    two, one = Constant(2.0, "float32"), Constant(1.0, "float32")
    words = [(step.word, step.arguments, step.dtype) for step in found.steps]
    assert words == [
        ("multiply", (two, 0), "float32"), ("add", (2, 1), "float32"), ("greater", (0, one), "bool"),
        ("negative", (1,), "float32"), ("where", (4, 0, 5), "float32"),
    ]  # fmt: skip
    assert found.results == (3, 6) and found.names == ("sum", "choice")
    assert [step.word for step in found.only("sum").steps] == ["multiply", "add"]
    choice = found.only("choice")
    assert [step.arguments for step in choice.steps] == [(0, one), (1,), (2, 0, 3)] and choice.results == (4,)


def test_extents():
    raw, label = Input("raw", "float64", RAW), Input("label", "float64")

    def formula(raw, label):
        mean, other = v.split_heads(raw, 2)
        return v.sum_outputs(mean * other - label) / v.n_outputs(mean), v.output_index(mean) + label

    found = traced(formula, [raw, label], ["loss", "gradient"])
    assert [found.value(result).extent for result in found.results] == [ROW, OUTPUT]
    assert [(step.word, step.extent, step.parameters) for step in found.steps[:2]] == [
        ("head", OUTPUT, (2, 0)), ("head", OUTPUT, (2, 1))
    ]  # fmt: skip
    with pytest.raises(pm.DataError, match="use split_heads first"):
        traced(lambda raw, y: raw + y, [raw, Input("y", "float64", OUTPUT)], ["sum"], "a formula")


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda z: z if z > 0.0 else -z, "TypeError: no `if` on values"),
        (np.sin, "TypeError: operand '_Traced' does not support ufuncs"),
        (lambda z: np.float32(2.0) * z, "TypeError: unsupported operand"),
        (lambda z: v.square(z), "AttributeError: module"),
        (lambda z: z.vocabulary.square(z), "AttributeError: the vocabulary has no 'square'"),
        (lambda z: v.where(z > 0.0, 1.0, 0.0), "TypeError: where takes a comparison and two values"),
        (lambda z: z.vocabulary.exp(z, z), "TypeError: exp takes 1 arguments, got 2"),
        (lambda z: 1.0, "got 1.0"),
    ],
)
def test_what_is_no_formula(function, message):
    expected = "word: expected a formula of operators and the vocabulary's words, got "
    with pytest.raises(pm.DataError, match=f"^{expected}.*"[:60]) as caught:
        traced(function, [Input("z", "float32")], ["result"], "word")
    assert message in str(caught.value)


def test_digests_tell_formulas_apart():
    z = [Input("z", "float32")]
    lists = [traced(function, z, ["a"]) for function in (v.exp, v.tanh, lambda z: 2.0 * z, lambda z: z * 2.0,
                                                          lambda z: 2.0000000000000004 * z, operator.neg)]  # fmt: skip
    assert len({tracing.digest(each) for each in lists}) == len(lists)
    assert tracing.digest(lists[0]) == tracing.digest(traced(v.exp, z, ["a"]))


@pytest.mark.usefixtures("own_formulas")
def test_registered_formulas_have_lists():
    def own(z):
        size = v.where(z != z, z, v.absolute(z))
        return v.power(0.1 * v.tanh(size), 3) + z, v.ones_like(z)

    ACTIVATIONS["own"] = ACTIVATIONS["relu"].__class__("own", own, (), registered=True)
    z = np.array([0.5, -2.0, np.nan, 100.0])
    steps = step_lists.activation_steps("own", "float64")
    assert isinstance(steps, StepList)
    same(evaluate(steps, z)[0], own(z)[0])
    a, d = np.empty(8), np.empty(8)
    run_pass("float64", layer_pass("own", "layer_train"), rows=1, first=1, last=1, x=0, x_stride=0, a=a, d=d, stride=8,
             w=0, start=np.resize(z, 8), width=8, vectors=1, fan_in=0)  # fmt: skip
    same(evaluate(steps, np.resize(z, 8), as_compiled=True)[0], a)
    assert math.isnan(a[2]) and not np.isnan(a[[0, 1, 3]]).any()
    for loss in (LOSSES["squared_error"],):
        pm.register_loss("own_loss", loss.formula)
    assert step_lists.loss_steps(LOSSES["own_loss"], "float32").steps == step_lists.loss_steps(loss, "float32").steps
