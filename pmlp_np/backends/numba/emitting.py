"""The LLVM renderer of step lists: each step becomes its instructions, none added, left out or moved.

Values are vectors of 64 bytes, lanes across rows, or scalars, like the inputs. `formulas.rendering` decides the order
of steps, and the loops over outputs; this module has the instructions of each word.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from llvmlite import ir

from pmlp_np.backends.numba.simd import DOUBLE, I1, I32, I64, Emitter, Value, constant, intrinsic
from pmlp_np.formulas.rendering import Rendering
from pmlp_np.formulas.tracing import FLOATS, Constant, Step, StepList

# A value per output: a function from an output's index, an i64, to its Value.
ByOutput = Callable[[Any], Value]
_TYPES = {"float32": ir.FloatType(), "float64": DOUBLE, "bool": I1, "int32": I32, "int64": I64, "uint64": I64}


def emit(e: Emitter, steps: StepList, *inputs: Any, counts: Mapping[str, Any] | None = None) -> list[Any]:
    """Append a step list's instructions. Returns the results.

    Inputs and results are Values, or, of extent OUTPUT or RAW, `ByOutput`. counts: the length of each extent, an i64.
    """

    def plain(value: Any) -> Any:
        return (lambda o: value(o).ir) if callable(value) else value.ir

    def wrapped(value: Any) -> Any:
        return (lambda o: Value(e, value(o))) if callable(value) else Value(e, value)

    return [wrapped(x) for x in Rendering(_Llvm(e, counts or {}), steps, tuple(map(plain, inputs))).results()]


class _Llvm:
    """The target language of `Rendering`: values are LLVM vectors or scalars, indices of outputs i64."""

    def __init__(self, e: Emitter, counts: Mapping[str, Any]) -> None:
        self.e, self.counts = e, counts

    def constant(self, argument: Constant, step: Step, known: list[Any]) -> Any:
        # An exponent is one number for all lanes.
        lanes = None if step.word == "power" else _lanes(known)
        return constant(argument.value, _typed(argument.dtype, lanes))

    def word(self, step: Step, values: list[Any]) -> Any:
        lanes = _lanes(values)
        if lanes is not None and step.dtype == "uint64":
            # Random numbers: what is equal in all lanes is computed as a scalar, up to the first step with a vector.
            values = [x if isinstance(x.type, ir.VectorType) else self.e.splat(x).ir for x in values]
        return WORDS[step.word](self.e, step, _typed(step.dtype, lanes), *values)

    def count(self, extent: str) -> Any:
        return self.counts[extent]

    def number_of(self, index: Any, step: Step) -> Any:
        return self.e.splat_integer(index, _TYPES[step.dtype]).ir

    def head(self, index: Any, heads: int, h: int) -> Any:
        return self.e.builder.add(self.e.builder.mul(index, self.e.integer(heads)), self.e.integer(h))

    def table(self, step: Step) -> Any:
        """Define the table as a constant of the compiled code."""
        module = self.e.builder.module
        type_ = ir.ArrayType(_TYPES[step.dtype], len(step.parameters))
        table = ir.GlobalVariable(module, type_, module.get_unique_name("output_constants"))
        table.linkage, table.global_constant = "internal", True
        table.initializer = ir.Constant(type_, list(step.parameters))
        return table

    def from_table(self, table: Any, index: Any, step: Step) -> Any:
        address = self.e.builder.gep(table, [self.e.integer(0), index], source_etype=table.value_type)
        return self.e.splat(self.e.builder.load(address, typ=table.value_type.element)).ir

    def reduced(self, step: Step, count: Any, at: Callable[[Any], Any]) -> Any:
        return _REDUCTIONS[step.word](self.e, count, at(self.e.integer(0)), at)


def _lanes(values: list[Any]) -> int | None:
    """Return the number of lanes, None of scalars."""
    return next((x.type.count for x in values if x is not None and isinstance(x.type, ir.VectorType)), None)


def _typed(dtype: str, lanes: int | None) -> ir.Type:
    return _TYPES[dtype] if lanes is None else ir.VectorType(_TYPES[dtype], lanes)


# Loops of reductions. count: outputs; first: the value of output 0; at: emits the value of an output.


def _sum(e: Emitter, count: Any, first: Any, at: Callable[[Any], Any]) -> Any:
    return e.loop(count, lambda o, total: [e.builder.fadd(total, at(o))], first, start=e.integer(1))[0]


def _largest(e: Emitter, count: Any, first: Any, at: Callable[[Any], Any]) -> Any:
    def turn(o: Any, best: Any) -> list[Any]:
        value = at(o)
        return [e.builder.select(e.builder.fcmp_ordered(">", value, best), value, best)]

    return e.loop(count, turn, first, start=e.integer(1))[0]


def _first_largest(e: Emitter, count: Any, first: Any, at: Callable[[Any], Any]) -> Any:
    """Return the index of the first output with the largest value."""

    def turn(o: Any, best: Any, number: Any) -> list[Any]:
        value = at(o)
        larger, index = e.builder.fcmp_ordered(">", value, best), e.splat_integer(o, first.type.element).ir
        return [e.builder.select(larger, value, best), e.builder.select(larger, index, number)]

    return e.loop(count, turn, first, constant(0.0, first.type), start=e.integer(1))[1]


_REDUCTIONS: dict[str, Callable[..., Any]] = {
    "sum_outputs": _sum,
    "max_outputs": _largest,
    "argmax_outputs": _first_largest,
}


def _power(e: Emitter, step: Step, type_: ir.Type, base: Any, exponent: Any) -> Any:
    """Emit a power by repeated squaring; the exponent is an i64."""
    b = e.builder

    def square(_: Any, result: Any, factor: Any, rest: Any) -> list[Any]:
        odd = b.trunc(rest, I1)
        result = b.select(odd, b.fmul(result, factor), result)
        return [result, b.fmul(factor, factor), b.lshr(rest, e.integer(1))]

    leading_zeros = e.declared("llvm.ctlz.i64", I64, [I64, I1])
    bits = b.sub(e.integer(64), b.call(leading_zeros, [exponent, ir.Constant(I1, 0)]))
    return e.loop(bits, square, constant(1.0, type_), base, exponent)[0]


def _arithmetic(of_floats: str, of_whole: str) -> Callable[..., Any]:
    def emitted(e: Emitter, step: Step, type_: ir.Type, a: Any, b: Any) -> Any:
        return getattr(e.builder, of_floats if step.dtype in FLOATS else of_whole)(a, b)

    return emitted


def _comparison(operator: str) -> Callable[..., Any]:
    def emitted(e: Emitter, step: Step, type_: ir.Type, a: Any, b: Any) -> Any:
        scalar = a.type.element if isinstance(a.type, ir.VectorType) else a.type
        if isinstance(scalar, ir.IntType):
            return e.builder.icmp_signed(operator, a, b)
        # NaN is equal to no number, and unequal to every number.
        return (e.builder.fcmp_unordered if operator == "!=" else e.builder.fcmp_ordered)(operator, a, b)

    return emitted


def _bitwise(name: str) -> Callable[..., Any]:
    return lambda e, step, type_, a, b: getattr(e.builder, name)(a, b)


def _as_bits(e: Emitter, step: Step, type_: ir.Type, x: Any) -> Any:
    return e.builder.bitcast(x, type_)


# The instructions of each word: functions of the emitter, the step, the LLVM type of the result, and LLVM values.
WORDS: dict[str, Callable[..., Any]] = {
    "add": _arithmetic("fadd", "add"),
    "subtract": _arithmetic("fsub", "sub"),
    "multiply": _arithmetic("fmul", "mul"),
    "divide": _arithmetic("fdiv", "sdiv"),
    "negative": lambda e, step, type_, x: e.builder.fneg(x),
    "less": _comparison("<"),
    "less_equal": _comparison("<="),
    "greater": _comparison(">"),
    "greater_equal": _comparison(">="),
    "equal": _comparison("=="),
    "not_equal": _comparison("!="),
    "where": lambda e, step, type_, condition, a, b: e.builder.select(condition, a, b),
    "absolute": lambda e, step, type_, x: intrinsic(e, "fabs", x),
    "sqrt": lambda e, step, type_, x: intrinsic(e, "sqrt", x),
    "fma": lambda e, step, type_, a, b, c: intrinsic(e, "fma", a, b, c),
    "ones_like": lambda e, step, type_, x: constant(1.0, type_),
    "power": _power,
    "number": lambda e, step, type_, count: e.builder.sitofp(count, type_),
    "bits": _as_bits,
    "from_bits": _as_bits,
    "and": _bitwise("and_"),
    "xor": _bitwise("xor"),
    "shift_left": _bitwise("shl"),
    "shift_right": lambda e, step, type_, a, b: (e.builder.lshr if step.dtype == "uint64" else e.builder.ashr)(a, b),
}
