"""Losses on the SIMD vector type: lanes run across rows, and a per-output value is evaluated output by output.

A loss formula combines values that exist once per row with values that exist once per row and output. A `PerOutput` is
the recipe of the latter: given an output's number it emits the Value. Operators and words on it build larger recipes; a
reduction over the outputs emits one loop, so that a formula of any number of outputs stays a handful of loops.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir

from pmlp_np.backends.numba.simd import Emitter, Value, Words


class PerOutput:
    """A value for each output: `at(o)` emits it for the output whose number is the i64 `o`."""

    def __init__(self, emitter: Emitter, count: Any, recipe: Callable[[Any], Value]) -> None:
        self.emitter = emitter
        self.count = count
        self._recipe = recipe
        self._last: tuple[Any, Value] | None = None

    def at(self, o: Any) -> Value:
        # Within one loop body every use of a recipe shares its instructions.
        if self._last is None or self._last[0] is not o:
            self._last = (o, self._recipe(o))
        return self._last[1]

    @property
    def vocabulary(self) -> OutputWords:
        return OutputWords(self)

    def _combined(self, function: Callable[..., Any], *values: Any) -> PerOutput:
        return PerOutput(self.emitter, self.count, lambda o: function(*(_at(value, o) for value in values)))

    # fmt: off
    def __add__(self, other): return self._combined(lambda a, b: a + b, self, other)
    def __radd__(self, other): return self._combined(lambda a, b: b + a, self, other)
    def __sub__(self, other): return self._combined(lambda a, b: a - b, self, other)
    def __rsub__(self, other): return self._combined(lambda a, b: b - a, self, other)
    def __mul__(self, other): return self._combined(lambda a, b: a * b, self, other)
    def __rmul__(self, other): return self._combined(lambda a, b: b * a, self, other)
    def __truediv__(self, other): return self._combined(lambda a, b: a / b, self, other)
    def __rtruediv__(self, other): return self._combined(lambda a, b: b / a, self, other)
    def __neg__(self): return self._combined(lambda a: -a, self)
    def __lt__(self, other): return self._combined(lambda a, b: a < b, self, other)
    def __le__(self, other): return self._combined(lambda a, b: a <= b, self, other)
    def __gt__(self, other): return self._combined(lambda a, b: a > b, self, other)
    def __ge__(self, other): return self._combined(lambda a, b: a >= b, self, other)
    def __eq__(self, other): return self._combined(lambda a, b: a == b, self, other)
    # fmt: on
    __hash__ = None  # type: ignore[assignment]


def _at(value: Any, o: Any) -> Any:
    return value.at(o) if isinstance(value, PerOutput) else value


class OutputWords:
    """The vocabulary on per-output values: elementwise words output by output, and the reductions over outputs."""

    def __init__(self, value: PerOutput) -> None:
        self._value = value

    def __getattr__(self, word: str) -> Callable[..., PerOutput]:
        function = getattr(Words, word)
        return lambda *values: self._value._combined(function, *values)

    def _reduced(self, x: PerOutput, combine: Callable[[Value, Value], Value]) -> Value:
        emitter = x.emitter
        first = x.at(emitter.integer(0))

        def turn(o: Any, so_far: Any) -> list[Any]:
            return [combine(Value(emitter, so_far), x.at(o)).ir]

        (result,) = emitter.loop(x.count, turn, first.ir, start=emitter.integer(1))
        return Value(emitter, result)

    def sum_outputs(self, x: PerOutput) -> Value:
        return self._reduced(x, lambda a, b: a + b)

    def max_outputs(self, x: PerOutput) -> Value:
        return self._reduced(x, lambda a, b: Words.where(b > a, b, a))

    def argmax_outputs(self, x: PerOutput) -> Value:
        emitter = x.emitter

        def turn(o: Any, best: Any, place: Any) -> list[Any]:
            value, best, place = x.at(o), Value(emitter, best), Value(emitter, place)
            larger = value > best
            return [Words.where(larger, value, best).ir, Words.where(larger, emitter.splat_integer(o), place).ir]

        first = x.at(emitter.integer(0))
        _, place = emitter.loop(x.count, turn, first.ir, first.like(0.0).ir, start=emitter.integer(1))
        return Value(emitter, place)

    def n_outputs(self, x: PerOutput) -> Value:
        return x.emitter.splat_integer(x.count)

    def output_index(self, x: PerOutput) -> PerOutput:
        return PerOutput(x.emitter, x.count, x.emitter.splat_integer)

    def split_heads(self, raw: PerOutput, heads: int) -> tuple[PerOutput, ...]:
        builder, many = raw.emitter.builder, raw.emitter.integer(heads)
        count = builder.sdiv(raw.count, many)

        def head(h: int) -> PerOutput:
            place = raw.emitter.integer(h)
            return PerOutput(raw.emitter, count, lambda o: raw.at(builder.add(builder.mul(o, many), place)))

        return tuple(head(h) for h in range(heads))

    def output_constants(self, x: PerOutput, numbers: tuple[float, ...]) -> PerOutput:
        """The numbers lie in the compiled code, as a table."""
        emitter = x.emitter
        builder, scalar = emitter.builder, emitter.kind.scalar
        table_type = ir.ArrayType(scalar, len(numbers))
        table = ir.GlobalVariable(builder.module, table_type, builder.module.get_unique_name("output_constants"))
        table.linkage, table.global_constant = "internal", True
        table.initializer = ir.Constant(table_type, list(numbers))

        def number(o: Any) -> Value:
            place = builder.gep(table, [emitter.integer(0), o], source_etype=table_type)
            return emitter.splat(builder.load(place, typ=scalar))

        return PerOutput(emitter, x.count, number)
