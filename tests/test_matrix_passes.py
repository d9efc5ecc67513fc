"""Passes on matrices against plain NumPy.

Small whole numbers make every order of summation exact, so that a wrong element can't hide.
"""

import functools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from formula_samples import DTYPES, hyperparameters
from pmlp_np.backends.numba.passes import AVX2_TILES, AVX512_TILES, PASSES
from pmlp_np.base.arrays import allocate
from pmlp_np.formulas.optimizers import RULES
from running_passes import LANES, padded, run_pass, sentinel


@pytest.fixture
def draw():
    return np.random.default_rng(20)


def whole_numbers(draw_seed, shape, kind):
    array = allocate(int(np.prod(shape)), np.dtype(kind)).reshape(shape)
    array[...] = np.random.default_rng(draw_seed).integers(-8, 9, shape)
    return array


def inside(shape, rows, columns):
    mask = np.zeros(shape, bool)
    mask[:rows, :columns] = True
    return mask


TILES = {"avx512": AVX512_TILES, "avx2": AVX2_TILES}
TILED = (
    "layer:identity",
    "layer_train:tanh",
    "outputs",
    "hidden_backward",
    "weights_backward:adam",
    "output_backward:adam",
)
ONE_BLOCK = {"first": 1, "last": 1}


@pytest.fixture(scope="module", autouse=True)
def passes_by_tiles():
    """Passes under names like gemm:avx2, so that each shape of tiles is tested on every processor."""
    with pytest.MonkeyPatch.context() as patch:
        for name in TILED:
            for tiles in TILES:
                patch.setitem(PASSES, f"{name}:{tiles}", with_tiles(PASSES[name], TILES[tiles]))
        yield


def with_tiles(emit, tiles):
    @functools.wraps(emit)
    def emit_with_tiles(e, _, *arguments):
        emit(e, tiles, *arguments)

    return emit_with_tiles


LAYER = {
    "rows": st.integers(0, 20),
    "width": st.integers(1, 110),
    "fan_in": st.integers(0, 40),
    "spare": st.integers(0, 2),
    "seed": st.integers(0, 1000),
}


@pytest.mark.parametrize("kind", DTYPES)
@pytest.mark.parametrize("tiles", TILES)
@given(**LAYER)
def test_layer_is_a_matrix_product(kind, tiles, rows, width, fan_in, spare, seed):
    stride = padded(width, kind) + spare * LANES[kind]
    x = whole_numbers(seed, (rows, fan_in + spare), kind)
    w, start = whole_numbers(seed + 1, (fan_in, stride), kind), whole_numbers(seed + 2, (stride,), kind)
    a = sentinel((rows + 1, stride), kind)
    run_pass(
        kind, f"layer:identity:{tiles}", **ONE_BLOCK, rows=rows, x=x, x_stride=fan_in + spare, a=a, stride=stride, w=w,
        start=start, width=width, vectors=padded(width, kind) // LANES[kind], fan_in=fan_in,
    )  # fmt: skip
    expected = start[:width] + x[:, :fan_in].astype(np.float64) @ w[:, :width].astype(np.float64)
    assert np.array_equal(a[:rows, :width], expected)
    assert not a[:rows, width : padded(width, kind)].any(), "padding is not zero"
    assert np.isnan(a[~inside(a.shape, rows, padded(width, kind))]).all(), "written outside"


def stepping(rule, kind, size, step=3):
    """The arguments of a pass that takes a step: numbers of the rule, and `size` elements from slot to slot."""
    numbers = sentinel((16, LANES[kind]), kind)
    h = np.array(list(hyperparameters(rule, 0.3).values()))
    run_pass(kind, f"scalars:{rule}", out=numbers, out_stride=0, inputs=h, n=1, step=step)
    return {"slot_stride": size, "numbers": numbers}


def drawn_state(draw, rule, kind, shape, width):
    """A rule's weights and slots, padding NaN."""
    state = sentinel((1 + RULES[rule].slots, *shape), kind)
    state[..., :width] = draw.normal(size=(len(state), *shape[:-1], width)) ** 2
    return state


def updated(rule, kind, state, gradient, width, step):
    """The state after the pass `update`, which test_passes holds to the formulas."""
    after = state.copy()
    widths = np.full(gradient.size // gradient.shape[-1], width)
    run_pass(
        kind, f"update:{rule}", w=after[0], dw=gradient, slots=after[1:], widths=widths, n=len(widths), **step
    )  # fmt: skip
    return after


@pytest.mark.parametrize("kind", DTYPES)
@pytest.mark.parametrize("rule", RULES)
@given(
    blocks=st.lists(st.integers(1, 20), min_size=1, max_size=3),
    fan_in=st.integers(1, 20),
    width=st.integers(1, 70),
    seed=st.integers(0, 1000),
)
def test_weights_backward_gathers_blocks_and_takes_a_step(rule, kind, blocks, fan_in, width, seed):
    """And leaves padding zero, whatever was there."""
    draw = np.random.default_rng(seed)
    stride, rows = padded(width, kind), sum(blocks)
    x, dz = whole_numbers(seed, (rows, fan_in), kind), sentinel((rows, stride), kind)
    dz[:, :width] = whole_numbers(seed + 1, (rows, width), kind)
    state = drawn_state(draw, rule, kind, (fan_in, stride), width)
    step, dw, found = stepping(rule, kind, fan_in * stride), sentinel((fan_in, stride), kind), state.copy()
    done = 0
    for i, count in enumerate(blocks):
        run_pass(
            kind, f"weights_backward:{rule}", rows=count, first=int(i == 0), last=int(i == len(blocks) - 1), x=x[done:],
            x_stride=fan_in, dz=dz[done:], w=found[0], dw=dw, stride=stride, slots=found[1:],
            fan_in=fan_in, width=width, vectors=stride // LANES[kind], **step,
        )  # fmt: skip
        done += count
        if done < rows:
            assert found.tobytes() == state.tobytes(), "stepped before the last block"
    exact = sentinel((fan_in, stride), kind)
    exact[:, :width] = x.astype(np.float64).T @ dz[:, :width].astype(np.float64)
    assert found.tobytes() == updated(rule, kind, state, exact, width, step).tobytes() != state.tobytes()
    assert not found[..., width:].any(), "padding is not zero"


@pytest.mark.parametrize("kind", DTYPES)
@pytest.mark.parametrize("rule", RULES)
@given(
    blocks=st.lists(st.integers(1, 20), min_size=1, max_size=3),
    width=st.integers(1, 130),
    outputs=st.integers(1, 6),
    seed=st.integers(0, 1000),
)
def test_output_backward(rule, kind, blocks, width, outputs, seed):
    """dz of the hidden layer and its sums, and the output weights' step."""
    draw = np.random.default_rng(seed)
    stride, rows = padded(width, kind), sum(blocks)
    ld = padded(max(blocks), kind)
    a, d = (sentinel((rows, stride), kind) for _ in range(2))
    a[...], d[...] = 0.0, 0.0
    a[:, :width], d[:, :width] = whole_numbers(seed, (rows, width), kind), whole_numbers(seed + 1, (rows, width), kind)
    dz = whole_numbers(seed + 2, (rows, outputs), kind)
    state = drawn_state(draw, rule, kind, (outputs, stride), width)
    state[0, :, :width] = whole_numbers(seed + 3, (outputs, width), kind)
    state[0, :, width:] = 0.0  # weights are read whole vectors at a time
    step, dw = stepping(rule, kind, outputs * stride), sentinel((outputs, stride), kind)
    found, found_d, sums = state.copy(), d.copy(), sentinel(stride, kind)
    done = 0
    for i, count in enumerate(blocks):
        by_output = sentinel((outputs, ld), kind)
        by_output[:, :count] = dz[done : done + count].T
        run_pass(
            kind, f"output_backward:{rule}", rows=count, first=int(i == 0), last=int(i == len(blocks) - 1), a=a[done:],
            d=found_d[done:], stride=stride, hidden_db=sums, dz=by_output, ld=ld, w=found[0], dw=dw,
            slots=found[1:], width=width, vectors=stride // LANES[kind], outputs=outputs, **step,
        )  # fmt: skip
        done += count
    exact_dz = dz.astype(np.float64)
    expected_d = d * (exact_dz @ state[0].astype(np.float64))
    assert np.array_equal(found_d, expected_d)
    assert np.array_equal(sums, expected_d.sum(axis=0))
    exact = sentinel((outputs, stride), kind)
    exact[...] = exact_dz.T @ a.astype(np.float64)
    assert found.tobytes() == updated(rule, kind, state, exact, width, step).tobytes()
    assert not found[..., width:].any(), "padding is not zero"


DOTS = {
    "rows": st.integers(1, 40),
    "vectors": st.integers(1, 4),
    "spare": st.integers(0, 2),
    "seed": st.integers(0, 1000),
}


@pytest.mark.parametrize("kind", DTYPES)
@pytest.mark.parametrize("tiles", TILES)
@given(outputs=st.integers(1, 6), **DOTS)
def test_outputs_are_dot_products(kind, tiles, rows, vectors, spare, outputs, seed):
    lanes = LANES[kind]
    units, stride, ld = vectors * lanes, (vectors + spare) * lanes, padded(rows, kind)
    a = whole_numbers(seed, (ld, stride), kind)
    a[rows:] = np.nan  # read and dropped
    w, start = whole_numbers(seed + 1, (outputs, stride), kind), whole_numbers(seed + 2, (outputs,), kind)
    raw = sentinel((outputs + 1, ld), kind)
    run_pass(
        kind, f"outputs:{tiles}", **ONE_BLOCK, rows=rows, raw=raw, ld=ld, start=start, a=a, stride=stride, w=w,
        outputs=outputs, vectors=vectors,
    )  # fmt: skip
    expected = w[:, :units].astype(np.float64) @ a[:rows, :units].astype(np.float64).T + start[:, None]
    assert np.array_equal(raw[:outputs, :rows], expected)
    assert not raw[:outputs, rows:].any(), "padding is not zero"
    assert np.isnan(raw[outputs:]).all(), "written outside"


@pytest.mark.parametrize("kind", DTYPES)
@pytest.mark.parametrize("tiles", TILES)
@given(fan_in=st.integers(1, 40), **DOTS)
def test_hidden_backward_hands_dz_to_the_layer_below(kind, tiles, rows, vectors, spare, fan_in, seed):
    lanes = LANES[kind]
    units, stride, below = vectors * lanes, (vectors + spare) * lanes, padded(fan_in, kind)
    w = whole_numbers(seed, (below, stride), kind)
    w[fan_in:] = np.nan  # read and dropped
    dz, d = whole_numbers(seed + 1, (rows, stride), kind), whole_numbers(seed + 2, (rows + 1, below), kind)
    d[rows] = np.nan
    expected = d[:rows, :fan_in] * (dz[:, :units].astype(np.float64) @ w[:fan_in, :units].astype(np.float64).T)
    run_pass(
        kind, f"hidden_backward:{tiles}", **ONE_BLOCK, rows=rows, d=d, d_stride=below, dz=dz, w=w, stride=stride,
        fan_in=fan_in, vectors=vectors,
    )  # fmt: skip
    assert np.array_equal(d[:rows, :fan_in], expected)
    assert not d[:rows, fan_in:].any(), "padding is not zero"
    assert np.isnan(d[rows]).all(), "written outside"


@pytest.mark.parametrize("kind", DTYPES)
@given(rows=st.integers(0, 40), vectors=st.integers(1, 9), go_on=st.booleans(), seed=st.integers(0, 1000))
def test_column_sums(kind, rows, vectors, go_on, seed):
    columns = vectors * LANES[kind]
    block = whole_numbers(seed, (rows, columns), kind)
    out = sentinel(columns + LANES[kind], kind)
    before = whole_numbers(seed + 1, (columns,), kind)
    if go_on:
        out[:columns] = before
    run_pass(
        kind, "column_sums", rows=rows, first=int(not go_on), last=0, out=out, block=block, stride=columns,
        vectors=vectors,
    )  # fmt: skip
    expected = block.sum(axis=0, dtype=np.float64) + (before if go_on else 0.0)
    assert np.array_equal(out[:columns], expected)
    assert np.isnan(out[columns:]).all(), "written outside"


@pytest.mark.parametrize("kind", DTYPES)
def test_arbitrary_numbers_err_by_rounding_alone_and_alike_for_all_tiles(kind, draw):
    rows, width, fan_in, outputs = 21, 3 * LANES[kind] - 5, 37, 5
    stride, ld, vectors = padded(width, kind), padded(21, kind), 3

    def numbers(*shape):
        array = sentinel(shape, kind)
        array[...] = draw.normal(size=shape)
        return array

    x, w, start = numbers(rows, fan_in), numbers(fan_in, stride), numbers(stride)
    output_w, output_dz = numbers(outputs, stride), numbers(outputs, ld)
    w[:, width:], output_w[:, width:] = 0.0, 0.0
    results = {}
    for tiles in TILES:
        a, d = (sentinel((ld, stride), kind) for _ in range(2))
        results[tiles] = kept = [a, d]
        shape = {"stride": stride, "vectors": vectors}
        run_pass(
            kind, f"layer_train:tanh:{tiles}", **ONE_BLOCK, **shape, rows=rows, x=x, x_stride=fan_in, a=a, d=d, w=w,
            start=start, width=width, fan_in=fan_in,
        )  # fmt: skip
        exact = np.tanh(start + x.astype(np.float64) @ w.astype(np.float64))[:, :width]
        sizes = np.abs(start[:width]) + np.abs(x.astype(np.float64)) @ np.abs(w[:, :width].astype(np.float64))
        assert (np.abs(a[:rows, :width] - exact) <= (fan_in + 4) * np.finfo(kind).eps * (1 + sizes)).all()

        kept.append(raw := sentinel((outputs, ld), kind))
        run_pass(
            kind, f"outputs:{tiles}", **ONE_BLOCK, **shape, rows=rows, raw=raw, ld=ld, start=start, a=a, w=output_w,
            outputs=outputs,
        )  # fmt: skip
        exact = start[:outputs, None] + output_w.astype(np.float64) @ a[:rows].astype(np.float64).T
        bound = (stride + 1) * np.finfo(kind).eps * (np.abs(output_w).astype(np.float64).sum(axis=1) + 3)
        assert (np.abs(raw[:, :rows] - exact) <= bound[:, None]).all()

        below, sums = numbers(rows, padded(fan_in, kind)), sentinel(stride, kind)
        below[...] = 1.0
        taken = [w.copy(), output_w.copy()]
        slots = [np.zeros((2, *block.shape), kind) for block in taken]
        steps = [stepping("adam", kind, block.size) for block in taken]
        run_pass(
            kind, f"output_backward:adam:{tiles}", **ONE_BLOCK, **shape, **steps[1], rows=rows, a=a, d=d,
            hidden_db=sums, dz=output_dz, ld=ld, w=taken[1], dw=sums, slots=slots[1], width=width,
            outputs=outputs,
        )  # fmt: skip
        run_pass(
            kind, f"hidden_backward:{tiles}", **ONE_BLOCK, **shape, rows=rows, d=below, d_stride=padded(fan_in, kind),
            dz=d, w=np.vstack([w, np.zeros((LANES[kind], stride), kind)]), fan_in=fan_in,
        )  # fmt: skip
        run_pass(
            kind, f"weights_backward:adam:{tiles}", **ONE_BLOCK, **shape, **steps[0], rows=rows, x=x, x_stride=fan_in,
            dz=d, w=taken[0], dw=w.copy(), slots=slots[0], width=width, fan_in=fan_in,
        )  # fmt: skip
        kept += [below, sums, *taken, *slots]
    for one, other in zip(results["avx2"], results["avx512"], strict=True):
        assert one.tobytes() == other.tobytes()


@pytest.mark.parametrize("kind", DTYPES)
@given(rows=st.integers(1, 30), columns=st.integers(1, 40), outputs=st.integers(1, 5), seed=st.integers(0, 1000))
def test_rows_and_targets_are_gathered_and_turned(kind, rows, columns, outputs, seed):
    lanes = LANES[kind]
    source = whole_numbers(seed, (50, columns + 3), kind)
    order = np.random.default_rng(seed).integers(0, 50, rows)
    gathered = sentinel(rows * columns + lanes, kind)
    run_pass(
        kind,
        "gather_rows",
        out=gathered,
        source=source,
        row_stride=columns + 3,
        order=order,
        rows=rows,
        columns=columns,
    )
    assert np.array_equal(gathered[: rows * columns].reshape(rows, columns), source[order, :columns])
    assert np.isnan(gathered[rows * columns :]).all()

    y = whole_numbers(seed + 1, (outputs, 50), kind)
    ld = padded(rows, kind)
    targets = sentinel((outputs, ld), kind)
    from_y = {
        "out": targets,
        "ldo": ld,
        "source": y,
        "source_stride": 50,
        "rows": rows,
        "targets": outputs,
    }
    run_pass(kind, "gather_targets", **from_y, order=order)
    assert np.array_equal(targets[:, :rows], y[:, order])

    turned = sentinel((rows, outputs + 2), kind)
    block = {**ONE_BLOCK, "rows": rows, "outputs": outputs}
    run_pass(kind, "by_row", **block, out=turned, ldo=outputs + 2, block=targets, ld=ld)
    assert np.array_equal(turned[:, :outputs], targets[:, :rows].T) and not turned[:, outputs:].any()
    again = sentinel((outputs, ld), kind)
    run_pass(kind, "by_output", **block, out=again, ldo=ld, block=turned, ld=outputs + 2)
    assert np.array_equal(again[:, :rows], targets[:, :rows]) and np.isnan(again[:, rows:]).all()


@pytest.mark.parametrize("kind", DTYPES)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, None])
def test_finite_sees_every_place(kind, bad):
    n = 3 * LANES[kind]
    for place in range(n):
        block, verdict = whole_numbers(place, (n,), kind), np.array([-1.0])
        if bad is not None:
            block[place] = bad
        run_pass(kind, "finite", block=block, n=n, verdict=verdict)
        assert verdict[0] == 0.0 if bad is None else np.isnan(verdict[0])
