"""The SIMD vector type: formulas and kernels written with it become LLVM IR.

An `Emitter` writes straight-line code and loops for one `Kind` (float32 or float64). A `Value` is a vector of 64 bytes
(16 float32 or 8 float64 lanes) or a scalar; operators and the vocabulary of `pmlp_np.formulas.vocabulary` on Values
append instructions. Running a formula on Values therefore compiles it: there is one text of each formula.

Lane count and instruction order are fixed here and not by the processor: LLVM lowers the same 64-byte vectors to one
AVX-512 register or two AVX2 registers, so the bits of a result do not depend on which. For the same reason no
instruction carries a fast-math flag: reassociation would change bits between processors, `nnan`/`ninf` would let NaN
leak or hide.
"""

from __future__ import annotations

import math
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
    """A floating-point type as vectors see it, with the constants of its elementary functions."""

    name: str
    scalar: ir.Type
    integer: ir.IntType
    mantissa_bits: int
    exponent_bias: int
    # exp: arguments are clamped here so that the scale 2^n stays a normal number.
    exp_low: float
    exp_high: float
    ln2_high: float
    ln2_low: float
    # (e^r - 1 - r) / r² on |r| <= ln 2 / 2: minimax polynomial, lowest power first.
    exp_series: tuple[float, ...]
    log_terms: int
    # Beyond these, tanh(x) is ±1 and sigmoid's exponential is negligible or dominant.
    tanh_limit: float
    sigmoid_limit: float
    # Integer from which subtracting the bits of x gives 1/x within 13 %; Newton steps that follow.
    reciprocal_seed: int
    reciprocal_newton_steps: int
    # pi / 2 in three pieces, each the rest rounded. sin and cos are not a number beyond the limit.
    half_pi: tuple[float, float, float]
    sine_limit: float
    # (sin r - r) / r³ and (cos r - 1 + r² / 2) / r⁴ as polynomials in r² on |r| <= 0.81, lowest power first.
    sine_series: tuple[float, ...]
    cosine_series: tuple[float, ...]

    @property
    def itemsize(self) -> int:
        return self.integer.width // 8

    @property
    def lanes(self) -> int:
        return VECTOR_BYTES // self.itemsize

    @property
    def vector(self) -> ir.Type:
        return ir.VectorType(self.scalar, self.lanes)


# The float32 reduction takes ln 2 in one piece: n is at most 127, and the product enters the fma unrounded.
# The series' relative errors in e^r are below 8e-9 and 2e-19, in sin r and cos r below 2e-8 and 2e-17 (mpmath's
# chebyfit).
FLOAT32 = Kind(
    "float32", ir.FloatType(), I32, 23, 127,
    exp_low=-87.0, exp_high=88.0, ln2_high=0.6931471805599453, ln2_low=0.0,
    exp_series=(0.5, 0.16666575943917947, 0.041666553310798285, 0.008363352682558865, 0.001392640047984433),
    log_terms=5, tanh_limit=9.1, sigmoid_limit=40.0, reciprocal_seed=0x7EF311C3, reciprocal_newton_steps=0,
    half_pi=(1.5707963705062866, -4.371138828673793e-08, -1.7151245100058819e-15), sine_limit=1e5,
    sine_series=(-0.16666664256136596, 0.008332671788493312, -0.0001957187653111038),
    cosine_series=(0.04166666425253917, -0.0013888226393554423, 2.453189290669784e-05),
)  # fmt: skip
FLOAT64 = Kind(
    "float64", ir.DoubleType(), I64, 52, 1023,
    exp_low=-708.0, exp_high=709.0, ln2_high=6.93147180369123816490e-01, ln2_low=1.90821492927058770002e-10,
    exp_series=(
        0.5, 0.1666666666666667, 0.04166666666666667, 0.008333333333325966, 0.0013888888888883629,
        0.0001984126987540889, 2.4801587325967827e-05, 2.7557254656202336e-06, 2.7557273111810967e-07,
        2.5105525761140995e-08, 2.091490745304636e-09,
    ),
    log_terms=11, tanh_limit=20.0, sigmoid_limit=40.0, reciprocal_seed=0x7FDE623822FC16E6, reciprocal_newton_steps=1,
    half_pi=(1.5707963267948966, 6.123233995736766e-17, -1.497384905065873e-33), sine_limit=1e9,
    sine_series=(
        -0.16666666666666663, 0.008333333333330088, -0.00019841269835498498, 2.7557315469490136e-06,
        -2.5051004013548807e-08, 1.590920350380264e-10,
    ),
    cosine_series=(
        0.041666666666666664, -0.001388888888888686, 2.4801587297977393e-05, -2.755731687568584e-07,
        2.087606629630959e-09, -1.1377048360571915e-11,
    ),
)  # fmt: skip
KINDS = {kind.name: kind for kind in (FLOAT32, FLOAT64)}


class Emitter:
    """Appends instructions to an LLVM block: memory, loops, and the Values that formulas are run on."""

    def __init__(self, builder: ir.IRBuilder, kind: Kind) -> None:
        self.builder = builder
        self.kind = kind

    # Integers and addresses are plain i64 values of LLVM.

    def integer(self, value: int) -> ir.Constant:
        return ir.Constant(I64, value)

    def declared(self, name: str, result: ir.Type, arguments: list[ir.Type]) -> ir.Function:
        """The function of that name, declared in the module once."""
        known = self.builder.module.globals.get(name)
        return known or ir.Function(self.builder.module, ir.FunctionType(result, arguments), name)

    def pointer(self, address: Any) -> Any:
        return self.builder.inttoptr(address, POINTER)

    def offset(self, address: Any, elements: Any, itemsize: int | None = None) -> Any:
        """address + elements * itemsize; `elements` is an i64 or a Python int."""
        size = self.kind.itemsize if itemsize is None else itemsize
        if isinstance(elements, int):
            return self.builder.add(address, self.integer(elements * size)) if elements else address
        return self.builder.add(address, self.builder.mul(elements, self.integer(size)))

    def rows(self, address: Any, first: Any, stride: Any, count: int) -> list[Any]:
        """The addresses of `count` rows from the row `first` on, `stride` elements apart.

        By addition: multiplied out each by itself they would cost more than short rows take to read.
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
        """for i in range(start, count, step): carried = body(i, *carried); the carried LLVM values after the last
        turn."""
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
        """Cover range(start, count) from the left by blocks of the given sizes, largest first and as many as fit; the
        last is 1. Where the count is odd, one block of the odd size `odd` comes first if it fits."""
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
        """The mask's lanes from memory, zero elsewhere; what the other lanes lie on is not touched. scalar: what lies
        there, if not numbers of the pool's kind."""
        vector = self.kind.vector if scalar is None else ir.VectorType(scalar, self.kind.lanes)
        name = f"llvm.masked.load.v{vector.count}{vector.element.intrinsic_name}.p0"
        function = self.declared(name, vector, [POINTER, I32, mask.type, vector])
        alignment = ir.Constant(I32, 8 if scalar is DOUBLE else self.kind.itemsize)
        zero = _constant(0.0, vector)
        return Value(self, self.builder.call(function, [self.pointer(address), alignment, mask, zero]))

    def store(self, value: Value, address: Any) -> None:
        self.builder.store(value.ir, self.pointer(address), align=self.kind.itemsize)

    def store_masked(self, value: Value, address: Any, mask: Any) -> None:
        """The mask's lanes to memory; what the other lanes lie on is not touched."""
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
        """The scalar at an address in every lane."""
        return self.splat(self.load_scalar(address))

    # Values.

    def splat(self, scalar: Any) -> Value:
        """A number, of the pool's kind or another, in every lane."""
        b, kind = self.builder, self.kind
        undefined = ir.Constant(ir.VectorType(scalar.type, kind.lanes), ir.Undefined)
        first = b.insert_element(undefined, scalar, ir.Constant(I32, 0))
        zeros = ir.Constant(ir.VectorType(I32, kind.lanes), [0] * kind.lanes)
        return Value(self, b.shuffle_vector(first, undefined, zeros))

    def constant(self, number: float, like: ir.Type | None = None) -> Value:
        return Value(self, _constant(number, self.kind.vector if like is None else like))

    def splat_integer(self, integer: Any) -> Value:
        """An i64 as a floating-point number in every lane."""
        return self.splat(self.builder.sitofp(integer, self.kind.scalar))

    def first_lanes(self, count: Any) -> Any:
        """The mask of the lanes below `count` (an i64, any value)."""
        b, lanes = self.builder, self.kind.lanes
        bounded = b.trunc(self.minimum(count, self.integer(lanes)), I32)
        vector = ir.VectorType(I32, lanes)
        undefined = ir.Constant(vector, ir.Undefined)
        first = b.insert_element(undefined, bounded, ir.Constant(I32, 0))
        bound = b.shuffle_vector(first, undefined, ir.Constant(vector, [0] * lanes))
        return b.icmp_signed("<", ir.Constant(vector, list(range(lanes))), bound)

    def masked(self, mask: Any, value: Value) -> Value:
        """The value in the mask's lanes, zero elsewhere (a select: NaN does not pass); mask None: all lanes."""
        if mask is None:
            return value
        return Value(self, self.builder.select(mask, value.ir, _constant(0.0, value.ir.type)))

    def folded(self, sums: Value) -> Any:
        """The sum of all lanes, a scalar of LLVM: halves are added until one is left."""
        width = sums.ir.type.count
        while width > 1:
            width //= 2
            sums = self.shuffle(sums, sums, range(width)) + self.shuffle(sums, sums, range(width, 2 * width))
        return self.builder.extract_element(sums.ir, self.integer(0))

    def shuffle(self, a: Value, b: Value, lanes: Sequence[int]) -> Value:
        mask = ir.Constant(ir.VectorType(I32, len(lanes)), list(lanes))
        return Value(self, self.builder.shuffle_vector(a.ir, b.ir, mask))


def _constant(number: float, type_: ir.Type) -> ir.Constant:
    if isinstance(type_, ir.VectorType):
        return ir.Constant(type_, [number] * type_.count)
    return ir.Constant(type_, number)


class Value:
    """A traced vector or scalar: operators and vocabulary words on it append instructions."""

    # NumPy's scalars must leave binary operators to this class.
    __array_ufunc__ = None

    def __init__(self, emitter: Emitter, value: Any) -> None:
        self.emitter = emitter
        self.ir = value

    @property
    def vocabulary(self) -> type[Words]:
        return Words

    @property
    def dtype(self) -> str:
        scalar = self.ir.type.element if isinstance(self.ir.type, ir.VectorType) else self.ir.type
        return "float64" if isinstance(scalar, ir.DoubleType) else "float32"

    def like(self, number: Any) -> Value:
        return number if isinstance(number, Value) else Value(self.emitter, _constant(float(number), self.ir.type))

    def _operate(self, name: str, other: Any, swapped: bool = False) -> Value:
        if _foreign(other):
            return NotImplemented
        a, b = self.ir, self.like(other).ir
        return Value(self.emitter, getattr(self.emitter.builder, name)(*((b, a) if swapped else (a, b))))

    def _compare(self, operator: str, other: Any) -> Value:
        if _foreign(other):
            return NotImplemented
        return Value(self.emitter, self.emitter.builder.fcmp_ordered(operator, self.ir, self.like(other).ir))

    # fmt: off
    def __add__(self, other): return self._operate("fadd", other)
    def __radd__(self, other): return self._operate("fadd", other, swapped=True)
    def __sub__(self, other): return self._operate("fsub", other)
    def __rsub__(self, other): return self._operate("fsub", other, swapped=True)
    def __mul__(self, other): return self._operate("fmul", other)
    def __rmul__(self, other): return self._operate("fmul", other, swapped=True)
    def __truediv__(self, other): return self._operate("fdiv", other)
    def __rtruediv__(self, other): return self._operate("fdiv", other, swapped=True)
    def __neg__(self): return Value(self.emitter, self.emitter.builder.fneg(self.ir))
    def __lt__(self, other): return self._compare("<", other)
    def __le__(self, other): return self._compare("<=", other)
    def __gt__(self, other): return self._compare(">", other)
    def __ge__(self, other): return self._compare(">=", other)
    def __eq__(self, other): return self._compare("==", other)
    # fmt: on
    __hash__ = None  # type: ignore[assignment]


def _foreign(other: Any) -> bool:
    return not isinstance(other, Value | int | float)


class Words:
    """The vocabulary on Values. Polynomials and range reductions are explicit: no library function is called."""

    @staticmethod
    def _kind(x: Value) -> Kind:
        return KINDS[x.dtype]

    @staticmethod
    def _integers(x: Value) -> ir.Type:
        kind = Words._kind(x)
        return ir.VectorType(kind.integer, kind.lanes) if isinstance(x.ir.type, ir.VectorType) else kind.integer

    @staticmethod
    def _intrinsic(name: str, *values: Value) -> Value:
        emitter, type_ = values[0].emitter, values[0].ir.type
        scalar = type_.element if isinstance(type_, ir.VectorType) else type_
        count = f"v{type_.count}" if isinstance(type_, ir.VectorType) else ""
        function = emitter.declared(f"llvm.{name}.{count}{scalar.intrinsic_name}", type_, [type_] * len(values))
        return Value(emitter, emitter.builder.call(function, [value.ir for value in values]))

    @staticmethod
    def where(condition, a, b):
        a = b.like(a) if isinstance(b, Value) else a
        b = a.like(b)
        return Value(condition.emitter, condition.emitter.builder.select(condition.ir, a.ir, b.ir))

    @staticmethod
    def ones_like(x):
        return x.like(1.0)

    @staticmethod
    def absolute(x):
        return Words._intrinsic("fabs", x)

    @staticmethod
    def sqrt(x):
        return Words._intrinsic("sqrt", x)

    @staticmethod
    def fma(a, b, c):
        return Words._intrinsic("fma", a, a.like(b), a.like(c))

    @staticmethod
    def _clamped(x, low, high):
        x = Words.where(x > high, high, x)
        return Words.where(x < low, low, x)

    @staticmethod
    def _polynomial(x, coefficients):
        *lower, result = coefficients
        for c in reversed(lower):
            result = Words.fma(x, x.like(result), c)
        return result

    @staticmethod
    def _exp_parts(x):
        """(p, s) with e^x = (1 + p) s, s a power of two: Cody-Waite reduction, Taylor series of e^r - 1 on |r| <= ln 2
        / 2."""
        kind = Words._kind(x)
        # Adding 1.5 * 2^mantissa rounds to an integer and leaves it in the low bits.
        magic = 1.5 * 2.0**kind.mantissa_bits
        shifted = Words.fma(x, 1.0 / math.log(2.0), magic)
        n = shifted - magic
        r = Words.fma(n, -kind.ln2_high, x)
        if kind.ln2_low:
            r = Words.fma(n, -kind.ln2_low, r)
        series = Words._polynomial(r, kind.exp_series)
        p = Words.fma(r * r, series, r)
        b, integers = x.emitter.builder, Words._integers(x)
        bits = b.add(b.bitcast(shifted.ir, integers), _constant(kind.exponent_bias, integers))
        scale = b.bitcast(b.shl(bits, _constant(kind.mantissa_bits, integers)), x.ir.type)
        return p, Value(x.emitter, scale)

    @staticmethod
    def exp(x):
        kind = Words._kind(x)
        p, scale = Words._exp_parts(Words._clamped(x, kind.exp_low, kind.exp_high))
        return Words.where(x < kind.exp_low, 0.0, Words.fma(p, scale, scale))

    @staticmethod
    def expm1(x):
        kind = Words._kind(x)
        p, scale = Words._exp_parts(Words._clamped(x, kind.exp_low, kind.exp_high))
        return Words.fma(p, scale, scale - 1.0)

    @staticmethod
    def tanh(x):
        limit = Words._kind(x).tanh_limit
        p, scale = Words._exp_parts(2.0 * Words._clamped(x, -limit, limit))
        m = Words.fma(p, scale, scale - 1.0)
        return m * Words.reciprocal(m + 2.0)

    @staticmethod
    def sigmoid(x):
        limit = Words._kind(x).sigmoid_limit
        p, scale = Words._exp_parts(-Words._clamped(x, -limit, limit))
        return Words.reciprocal(Words.fma(p, scale, scale + 1.0))

    @staticmethod
    def reciprocal(x):
        # Seed from the bits (error below 13 %), then x (1 + e + e²) twice cubes the error, then Newton's x (1 + e).
        kind, b, integers = Words._kind(x), x.emitter.builder, Words._integers(x)
        seed = b.sub(_constant(kind.reciprocal_seed, integers), b.bitcast(x.ir, integers))
        y = Value(x.emitter, b.bitcast(seed, x.ir.type))
        for step in range(2 + kind.reciprocal_newton_steps):
            e = Words.fma(-x, y, 1.0)
            y = Words.fma(y, Words.fma(e, e, e) if step < 2 else e, y)
        return y

    @staticmethod
    def _log_of_one_plus(f):
        """log(1 + f) for -1/3 <= f <= 1/3: f - (f²/2 - s (f²/2 + R)), s = f / (2 + f) (fdlibm's form of the atanh
        series)."""
        terms = Words._kind(f).log_terms
        s = f / (2.0 + f)
        square = s * s
        rest = square * Words._polynomial(square, [2.0 / (2 * k + 1) for k in range(1, terms + 1)])
        half_square = 0.5 * (f * f)
        return f - (half_square - s * (half_square + rest))

    @staticmethod
    def log(x):
        kind, b, integers = Words._kind(x), x.emitter.builder, Words._integers(x)
        two_thirds = {"float32": 0x3F2AAAAB, "float64": 0x3FE5555555555555}[kind.name]
        bits = b.bitcast(x.ir, integers)
        shift = _constant(kind.mantissa_bits, integers)
        exponent = b.ashr(b.sub(bits, _constant(two_thirds, integers)), shift)
        mantissa = Value(x.emitter, b.bitcast(b.sub(bits, b.shl(exponent, shift)), x.ir.type))
        # An integer added to the bits of 1.5 * 2^mantissa is that number plus the integer.
        magic = 1.5 * 2.0**kind.mantissa_bits
        magic_bits = {"float32": 0x4B400000, "float64": 0x4338000000000000}[kind.name]
        n = Value(x.emitter, b.bitcast(b.add(exponent, _constant(magic_bits, integers)), x.ir.type)) - magic
        result = Words._log_of_one_plus(mantissa - 1.0)
        result = Words.fma(n, kind.ln2_high, Words.fma(n, kind.ln2_low, result))
        # The bits of NaN look like a number: x - x brings it back.
        return result + (x - x)

    @staticmethod
    def log1p(x):
        large = x > 1.0 / 3.0
        f = Words.where(large, 0.5 * x - 0.5, x)
        return Words._log_of_one_plus(f) + Words.where(large, x.like(math.log(2.0)), 0.0)

    @staticmethod
    def _quarter_turn(x, quarters):
        """sin(x + quarters pi / 2): x = n pi / 2 + r with |r| <= pi / 4, and then ±sin r or ±cos r.

        r is exact up to its last piece: x - n P is a multiple of P's last bit and below 1, so that it has no bits more.
        """
        kind, b, integers = Words._kind(x), x.emitter.builder, Words._integers(x)
        x = Words.where(Words.absolute(x) > kind.sine_limit, math.nan, x)
        # As in `_exp_parts`.
        magic = 1.5 * 2.0**kind.mantissa_bits
        shifted = Words.fma(x, 2.0 / math.pi, magic)
        n = shifted - magic
        r = x
        for piece in kind.half_pi:
            r = Words.fma(n, -piece, r)
        square = r * r
        sine = Words.fma(square * r, Words._polynomial(square, kind.sine_series), r)
        tail = Words.fma(square, Words._polynomial(square, kind.cosine_series), -0.5)
        cosine = Words.fma(square, tail, 1.0)
        turns = b.add(b.bitcast(shifted.ir, integers), _constant(quarters, integers))
        odd = b.icmp_signed("!=", b.and_(turns, _constant(1, integers)), _constant(0, integers))
        size = b.bitcast(b.select(odd, cosine.ir, sine.ir), integers)
        sign = b.shl(b.and_(turns, _constant(2, integers)), _constant(kind.integer.width - 2, integers))
        return Value(x.emitter, b.bitcast(b.xor(size, sign), x.ir.type))

    @staticmethod
    def sin(x):
        return Words._quarter_turn(x, 0)

    @staticmethod
    def cos(x):
        return Words._quarter_turn(x, 1)

    @staticmethod
    def power(base, exponent):
        """base^exponent by squaring; `exponent` is an i64 of LLVM."""
        emitter, b = base.emitter, base.emitter.builder

        def square(_, result, factor, rest):
            odd = b.trunc(rest, I1)
            result = b.select(odd, b.fmul(result, factor), result)
            return [result, b.fmul(factor, factor), b.lshr(rest, emitter.integer(1))]

        leading_zeros = emitter.declared("llvm.ctlz.i64", I64, [I64, I1])
        bits = b.sub(emitter.integer(64), b.call(leading_zeros, [exponent, ir.Constant(I1, 0)]))
        result, _, _ = emitter.loop(bits, square, base.like(1.0).ir, base.ir, exponent)
        return Value(emitter, result)

    @staticmethod
    def number(count, like):
        """An i64 of LLVM as a scalar."""
        return Value(like.emitter, like.emitter.builder.sitofp(count, like.ir.type))
