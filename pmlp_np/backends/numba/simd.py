"""SIMD vectors: passes written with them become LLVM IR.

An `Emitter` appends straight-line code and loops for one `Kind` (float32 or float64). A `Value` is a vector of 64 bytes
(16 float32 or 8 float64 lanes) or a scalar; operators on Values append instructions. Formulas are step lists, which
`emitting` appends.

Lane count and instruction order are fixed here, whatever the processor. LLVM lowers a vector of 64 bytes to one AVX-512
register or two AVX2 registers, with the same bits. For the same reason no instruction has a fast-math flag:
reassociation would change bits between processors, `nnan` and `ninf` would let NaN spread or disappear.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from llvmlite import ir

VECTOR_BYTES = 64
I1, I32, I64 = ir.IntType(1), ir.IntType(32), ir.IntType(64)
DOUBLE = ir.DoubleType()
POINTER = ir.PointerType()


@dataclass(frozen=True)
class Kind:
    """A floating-point type, and the vectors of it."""

    name: str
    scalar: ir.Type
    integer: ir.IntType

    @property
    def itemsize(self) -> int:
        return self.integer.width // 8

    @property
    def lanes(self) -> int:
        return VECTOR_BYTES // self.itemsize

    @property
    def vector(self) -> ir.Type:
        return ir.VectorType(self.scalar, self.lanes)


FLOAT32, FLOAT64 = Kind("float32", ir.FloatType(), I32), Kind("float64", DOUBLE, I64)
KINDS = {kind.name: kind for kind in (FLOAT32, FLOAT64)}


class Emitter:
    """Appends instructions to an LLVM block: memory, loops, and Values."""

    def __init__(self, builder: ir.IRBuilder, kind: Kind) -> None:
        self.builder = builder
        self.kind = kind

    # Integers and addresses are plain i64 values of LLVM.

    def integer(self, value: int) -> ir.Constant:
        return ir.Constant(I64, value)

    def declared(self, name: str, result: ir.Type, arguments: list[ir.Type]) -> ir.Function:
        """Return the function of that name, declared in the module at first use."""
        declared = self.builder.module.globals.get(name)
        return declared or ir.Function(self.builder.module, ir.FunctionType(result, arguments), name)

    def pointer(self, address: Any) -> Any:
        return self.builder.inttoptr(address, POINTER)

    def offset(self, address: Any, elements: Any, itemsize: int | None = None) -> Any:
        """Return address + elements * itemsize; `elements` is an i64 or a Python int."""
        size = self.kind.itemsize if itemsize is None else itemsize
        if isinstance(elements, int):
            return self.builder.add(address, self.integer(elements * size)) if elements else address
        return self.builder.add(address, self.builder.mul(elements, self.integer(size)))

    def rows(self, address: Any, first: Any, stride: Any, count: int) -> list[Any]:
        """Return the addresses of `count` rows from the row `first` on, `stride` elements apart.

        By additions: a multiplication for each would take longer than reading short rows.
        """
        step = self.builder.mul(stride, self.integer(self.kind.itemsize))
        addresses = [self.builder.add(address, self.builder.mul(first, step))]
        for _ in range(count - 1):
            addresses.append(self.builder.add(addresses[-1], step))
        return addresses

    def minimum(self, a: Any, b: Any) -> Any:
        return self.builder.select(self.builder.icmp_signed("<", a, b), a, b)

    # Loops and branches.

    def loop(
        self, count: Any, body: Callable[..., Sequence[Any] | None], *initial: Any, step: int = 1, start: Any = None
    ) -> list[Any]:
        """Emit `for i in range(start, count, step): carried = body(i, *carried)`.

        Returns the carried LLVM values after the last turn; `initial` before the first.
        """
        b = self.builder
        start = self.integer(0) if start is None else start
        before = b.block
        head, after = b.append_basic_block("loop"), b.append_basic_block("done")
        b.cbranch(b.icmp_signed("<", start, count), head, after)
        b.position_at_end(head)
        i = b.phi(I64)
        i.add_incoming(start, before)
        carried = [b.phi(value.type) for value in initial]
        for phi, value in zip(carried, initial, strict=True):
            phi.add_incoming(value, before)
        results = list(body(i, *carried) or ())
        following = b.add(i, self.integer(step))
        latch = b.block
        i.add_incoming(following, latch)
        for phi, value in zip(carried, results, strict=True):
            phi.add_incoming(value, latch)
        b.cbranch(b.icmp_signed("<", following, count), head, after)
        b.position_at_end(after)
        final = []
        for value, result in zip(initial, results, strict=True):
            phi = b.phi(value.type)
            phi.add_incoming(value, before)
            phi.add_incoming(result, latch)
            final.append(phi)
        return final

    def blocks(
        self, count: Any, sizes: Sequence[int], body: Callable[[Any, int], None], odd: int = 0, start: Any = None
    ) -> None:
        """Cover range(start, count) by blocks of these sizes, each as often as it fits, and emit body(i, size) of each.

        sizes: descending, the last is 1. odd: an odd size, of which one block comes first where the count is odd and
        the block fits; 0: none.
        """
        start = self.integer(0) if start is None else start
        if odd:
            is_odd = self.builder.and_(count, self.integer(1))
            fits = self.builder.select(self.builder.icmp_signed(">=", count, self.integer(odd)), is_odd, start)
            self.loop(fits, lambda i: body(i, odd))
            start = self.builder.mul(fits, self.integer(odd))
        for size in sizes:
            stop = self.builder.sub(count, self.integer(size - 1))

            def turn(i: Any, _: Any, size: int = size) -> list[Any]:
                body(i, size)
                return [self.builder.add(i, self.integer(size))]

            (start,) = self.loop(stop, turn, start, step=size, start=start)

    def when(self, condition: Any, body: Callable[[], object]) -> None:
        with self.builder.if_then(condition):
            body()

    # Memory. Vectors may be unaligned; aligned ones cost nothing extra.

    def load(self, address: Any) -> Value:
        pointer = self.pointer(address)
        return Value(self, self.builder.load(pointer, typ=self.kind.vector, align=self.kind.itemsize))

    def load_masked(self, address: Any, mask: Any, scalar: ir.Type | None = None) -> Value:
        """Load the mask's lanes; the others are zero, and their memory is not accessed.

        scalar: the type in memory, by default the kind's.
        """
        vector = self.kind.vector if scalar is None else ir.VectorType(scalar, self.kind.lanes)
        name = f"llvm.masked.load.v{vector.count}{vector.element.intrinsic_name}.p0"
        function = self.declared(name, vector, [POINTER, I32, mask.type, vector])
        alignment = ir.Constant(I32, 8 if scalar is DOUBLE else self.kind.itemsize)
        zero = constant(0.0, vector)
        return Value(self, self.builder.call(function, [self.pointer(address), alignment, mask, zero]))

    def store(self, value: Value, address: Any) -> None:
        self.builder.store(value.ir, self.pointer(address), align=self.kind.itemsize)

    def store_masked(self, value: Value, address: Any, mask: Any) -> None:
        """Store the mask's lanes; the memory of the other lanes is not accessed."""
        vector = self.kind.vector
        name = f"llvm.masked.store.v{vector.count}{vector.element.intrinsic_name}.p0"
        function = self.declared(name, ir.VoidType(), [vector, POINTER, I32, mask.type])
        alignment = ir.Constant(I32, self.kind.itemsize)
        self.builder.call(function, [value.ir, self.pointer(address), alignment, mask])

    def load_scalar(self, address: Any, scalar: ir.Type | None = None) -> Any:
        scalar = self.kind.scalar if scalar is None else scalar
        return self.builder.load(self.pointer(address), typ=scalar, align=8 if scalar is DOUBLE else self.kind.itemsize)

    def store_scalar(self, value: Any, address: Any) -> None:
        self.builder.store(value, self.pointer(address))

    def broadcast(self, address: Any) -> Value:
        """Load the scalar at an address into every lane."""
        return self.splat(self.load_scalar(address))

    # Values.

    def splat(self, scalar: Any) -> Value:
        """Return a vector with a scalar, of any type, in every lane."""
        b, kind = self.builder, self.kind
        undefined = ir.Constant(ir.VectorType(scalar.type, kind.lanes), ir.Undefined)
        first = b.insert_element(undefined, scalar, ir.Constant(I32, 0))
        zeros = ir.Constant(ir.VectorType(I32, kind.lanes), [0] * kind.lanes)
        return Value(self, b.shuffle_vector(first, undefined, zeros))

    def constant(self, number: float, like: ir.Type | None = None) -> Value:
        return Value(self, constant(number, self.kind.vector if like is None else like))

    def splat_integer(self, integer: Any, scalar: ir.Type) -> Value:
        """Return a vector with an i64, as a floating-point number of this type, in every lane."""
        return self.splat(self.builder.sitofp(integer, scalar))

    def first_lanes(self, count: Any) -> Any:
        """Return the mask of the lanes below `count` (an i64, any value)."""
        b, lanes = self.builder, self.kind.lanes
        bounded = b.trunc(self.minimum(count, self.integer(lanes)), I32)
        vector = ir.VectorType(I32, lanes)
        undefined = ir.Constant(vector, ir.Undefined)
        first = b.insert_element(undefined, bounded, ir.Constant(I32, 0))
        bound = b.shuffle_vector(first, undefined, ir.Constant(vector, [0] * lanes))
        return b.icmp_signed("<", ir.Constant(vector, list(range(lanes))), bound)

    def masked(self, mask: Any, value: Value) -> Value:
        """Return the value in the mask's lanes, zero elsewhere (also for NaN: it is a select); mask None: all lanes."""
        if mask is None:
            return value
        return Value(self, self.builder.select(mask, value.ir, constant(0.0, value.ir.type)))

    def folded(self, sums: Value) -> Any:
        """Return the sum of all lanes, an LLVM scalar: halves are added until one lane is left."""
        width = sums.ir.type.count
        while width > 1:
            width //= 2
            sums = self.shuffle(sums, sums, range(width)) + self.shuffle(sums, sums, range(width, 2 * width))
        return self.builder.extract_element(sums.ir, self.integer(0))

    def shuffle(self, a: Value, b: Value, lanes: Sequence[int]) -> Value:
        mask = ir.Constant(ir.VectorType(I32, len(lanes)), list(lanes))
        return Value(self, self.builder.shuffle_vector(a.ir, b.ir, mask))


def constant(number: float, type_: ir.Type) -> ir.Constant:
    """Return a constant of this type; of a vector type, the number in every lane."""
    if isinstance(type_, ir.VectorType):
        return ir.Constant(type_, [number] * type_.count)
    return ir.Constant(type_, number)


def intrinsic(e: Emitter, name: str, *values: Any) -> Any:
    """Call LLVM's intrinsic of this name on values of one type."""
    type_ = values[0].type
    scalar = type_.element if isinstance(type_, ir.VectorType) else type_
    count = f"v{type_.count}" if isinstance(type_, ir.VectorType) else ""
    function = e.declared(f"llvm.{name}.{count}{scalar.intrinsic_name}", type_, [type_] * len(values))
    return e.builder.call(function, list(values))


class Value:
    """A vector or scalar of floating-point numbers, with the operators that passes use.

    Formulas are not called with Values: see `emitting`.
    """

    def __init__(self, emitter: Emitter, value: Any) -> None:
        self.emitter = emitter
        self.ir = value

    @property
    def dtype(self) -> str:
        scalar = self.ir.type.element if isinstance(self.ir.type, ir.VectorType) else self.ir.type
        return "float64" if isinstance(scalar, ir.DoubleType) else "float32"

    def _operate(self, name: str, other: Value) -> Value:
        return Value(self.emitter, getattr(self.emitter.builder, name)(self.ir, other.ir))

    def _compare(self, operator: str, other: Value | float) -> Value:
        b = other.ir if isinstance(other, Value) else constant(other, self.ir.type)
        return Value(self.emitter, self.emitter.builder.fcmp_ordered(operator, self.ir, b))

    # fmt: off
    def __add__(self, other: Value) -> Value: return self._operate("fadd", other)
    def __sub__(self, other: Value) -> Value: return self._operate("fsub", other)
    def __mul__(self, other: Value) -> Value: return self._operate("fmul", other)
    def __truediv__(self, other: Value) -> Value: return self._operate("fdiv", other)
    def __lt__(self, other: Value | float) -> Value: return self._compare("<", other)
    def __gt__(self, other: Value | float) -> Value: return self._compare(">", other)
    # fmt: on


def fma(a: Value, b: Value, c: Value) -> Value:
    """Return a * b + c, rounded once."""
    return Value(a.emitter, intrinsic(a.emitter, "fma", a.ir, b.ir, c.ir))
