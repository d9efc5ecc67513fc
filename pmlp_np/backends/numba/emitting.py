"""Step lists become LLVM IR, step by step: no instruction is added, left out or moved.

Values are vectors of 64 bytes, lanes across rows, or scalars, as the inputs are. A value of extent OUTPUT or RAW is
emitted output by output, where it is needed: a reduction over outputs is one loop, so that a formula of any number of
outputs stays a handful of loops. A word with a list of its own (`formulas.elementary`) is emitted as that list.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from llvmlite import ir

from pmlp_np.backends.numba.simd import DOUBLE, I1, I32, I64, Emitter, Value, constant, intrinsic
from pmlp_np.formulas.elementary import DEFINITIONS, definition
from pmlp_np.formulas.tracing import FLOATS, ROW, Constant, Step, StepList

# What a value per output is: from an output's number, an i64, to the value for it.
ByOutput = Callable[[Any], Value]
_TYPES = {"float32": ir.FloatType(), "float64": DOUBLE, "bool": I1, "int32": I32, "int64": I64, "uint64": I64}


def emit(e: Emitter, steps: StepList, *inputs: Any, counts: Mapping[str, Any] | None = None) -> list[Any]:
    """The results of a step list. Inputs and results are Values; of extent OUTPUT or RAW functions from an output's
    number to a Value. counts: how many there are of an extent, an i64."""
    emission = _Emission(e, steps, inputs, counts or {})
    return [emission.result(result) for result in steps.results]


class _Emission:
    """A list that is being emitted: the values so far, and those for one output."""

    def __init__(self, e: Emitter, steps: StepList, inputs: tuple[Any, ...], counts: Mapping[str, Any]) -> None:
        self.e, self.list, self.inputs, self.counts = e, steps, inputs, counts
        self.values: list[Any] = [None if callable(value) else value.ir for value in inputs]
        self.tables: dict[int, Any] = {}
        self.output: Any = None
        self.for_output: dict[int, Any] = {}
        for number, step in enumerate(steps.steps, len(inputs)):
            if step.word == "output_constants":
                self.tables[number] = self._table(step)
            self.values.append(self._emitted(step, self.values.__getitem__) if step.extent == ROW else None)

    def result(self, argument: Any) -> Any:
        if self.list.value(argument).extent == ROW:
            return Value(self.e, self.values[argument])
        return lambda o: Value(self.e, self.at(argument, o))

    def at(self, number: int, o: Any) -> Any:
        """A value for the output whose number is the i64 `o`. Within one loop body each is emitted once."""
        if self.values[number] is not None:
            return self.values[number]
        if self.output is not o:
            self.output, self.for_output = o, {}
        known = self.for_output
        if number not in known:
            if number < len(self.inputs):
                known[number] = self.inputs[number](o).ir
            else:
                step = self.list.value(number)
                assert isinstance(step, Step)
                found = self._of_outputs(step, number, o)
                known[number] = self._emitted(step, lambda n: self.at(n, o)) if found is None else found
        return known[number]

    def _of_outputs(self, step: Step, number: int, o: Any) -> Any:
        """A word that speaks of the output's number; None for any other."""
        e = self.e
        if step.word == "output_index":
            return e.splat_integer(o).ir
        if step.word == "output_constants":
            table = self.tables[number]
            place = e.builder.gep(table, [e.integer(0), o], source_etype=table.value_type)
            return e.splat(e.builder.load(place, typ=table.value_type.element)).ir
        if step.word == "head":
            (raw,), (heads, h) = step.arguments, step.parameters
            assert isinstance(raw, int)
            place = e.builder.add(e.builder.mul(o, e.integer(heads)), e.integer(h))
            return self.inputs[raw](place).ir
        return None

    def _table(self, step: Step) -> Any:
        """The numbers lie in the compiled code."""
        module = self.e.builder.module
        type_ = ir.ArrayType(_TYPES[step.dtype], len(step.parameters))
        table = ir.GlobalVariable(module, type_, module.get_unique_name("output_constants"))
        table.linkage, table.global_constant = "internal", True
        table.initializer = ir.Constant(type_, list(step.parameters))
        return table

    def _emitted(self, step: Step, value: Callable[[int], Any]) -> Any:
        """The instructions of one step, from the values of its arguments."""
        if step.word in _REDUCTIONS:
            (x,) = step.arguments
            assert isinstance(x, int)
            return _REDUCTIONS[step.word](self, x, self.counts.get(self.list.value(x).extent))
        if step.word == "n_outputs":
            (x,) = step.arguments
            assert isinstance(x, int)
            return self.e.splat_integer(self.counts[self.list.value(x).extent]).ir
        known: list[Any] = [None if isinstance(a, Constant) else value(a) for a in step.arguments]
        lanes = next((x.type.count for x in known if x is not None and isinstance(x.type, ir.VectorType)), None)
        # An exponent is one number for all lanes.
        of_constants = None if step.word == "power" else lanes
        given = [
            constant(argument.value, _typed(argument.dtype, of_constants)) if isinstance(argument, Constant) else x
            for argument, x in zip(step.arguments, known, strict=True)
        ]
        if step.word in DEFINITIONS:
            (result,) = emit(self.e, definition(step.word, step.dtype), *(Value(self.e, x) for x in given))
            return result.ir
        if lanes is not None and step.dtype == "uint64":
            # Random numbers: what is equal in all lanes is computed once, until it meets what is not.
            given = [x if isinstance(x.type, ir.VectorType) else self.e.splat(x).ir for x in given]
        return WORDS[step.word](self.e, step, _typed(step.dtype, lanes), *given)


def _typed(dtype: str, lanes: int | None) -> ir.Type:
    return _TYPES[dtype] if lanes is None else ir.VectorType(_TYPES[dtype], lanes)


def _folded(emission: _Emission, x: int, count: Any, combine: Callable[[Value, Value], Value]) -> Any:
    e = emission.e
    first = emission.at(x, e.integer(0))

    def turn(o: Any, so_far: Any) -> list[Any]:
        return [combine(Value(e, so_far), Value(e, emission.at(x, o))).ir]

    (result,) = e.loop(count, turn, first, start=e.integer(1))
    return result


def _larger(a: Value, b: Value) -> Value:
    return Value(a.emitter, a.emitter.builder.select((b > a).ir, b.ir, a.ir))


def _first_largest(emission: _Emission, x: int, count: Any) -> Any:
    """The number of the first output that holds the largest value."""
    e, select = emission.e, emission.e.builder.select

    def turn(o: Any, best: Any, place: Any) -> list[Any]:
        value = emission.at(x, o)
        larger = (Value(e, value) > Value(e, best)).ir
        return [select(larger, value, best), select(larger, e.splat_integer(o).ir, place)]

    first = emission.at(x, e.integer(0))
    return e.loop(count, turn, first, constant(0.0, first.type), start=e.integer(1))[1]


_REDUCTIONS: dict[str, Callable[..., Any]] = {
    "sum_outputs": lambda emission, x, count: _folded(emission, x, count, lambda a, b: a + b),
    "max_outputs": lambda emission, x, count: _folded(emission, x, count, _larger),
    "argmax_outputs": _first_largest,
}


def _power(e: Emitter, step: Step, type_: ir.Type, base: Any, exponent: Any) -> Any:
    """By squaring; the exponent is an i64."""
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
        # What is not a number equals nothing.
        return (e.builder.fcmp_unordered if operator == "!=" else e.builder.fcmp_ordered)(operator, a, b)

    return emitted


def _bitwise(name: str) -> Callable[..., Any]:
    return lambda e, step, type_, a, b: getattr(e.builder, name)(a, b)


def _as_bits(e: Emitter, step: Step, type_: ir.Type, x: Any) -> Any:
    return e.builder.bitcast(x, type_)


# From a word to its instructions: of the emitter, the step, the LLVM type of the result, and LLVM values.
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
