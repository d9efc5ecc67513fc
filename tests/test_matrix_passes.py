"""Passes on matrices against plain NumPy.

Small whole numbers make every order of summation exact, so that a wrong element can't hide.
"""

import functools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from formula_samples import DTYPES, hyperparameters
from pmlp_np.arrays import allocate
from pmlp_np.backends.numba.passes import AVX2_TILES, AVX512_TILES, PASSES
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
TILED = ("gemm", "dots")


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


PRODUCT = {
    "rows": st.integers(0, 20),
    "vectors": st.integers(1, 7),
    "depth": st.integers(0, 40),
    "spare": st.integers(0, 2),
    "turned": st.booleans(),
    "start_rows": st.sampled_from(["one", "each"]),
    "seed": st.integers(0, 1000),
}


@pytest.mark.parametrize("kind", DTYPES)
@pytest.mark.parametrize("tiles", TILES)
@given(**PRODUCT)
def test_gemm_is_a_matrix_product(kind, tiles, rows, vectors, depth, spare, turned, start_rows, seed):
    columns = vectors * LANES[kind]
    ld = columns + spare * LANES[kind]
    a = whole_numbers(seed, (depth, rows + spare) if turned else (rows, depth + spare), kind)
    a_row, a_k = (1, rows + spare) if turned else (depth + spare, 1)
    b = whole_numbers(seed + 1, (depth, ld), kind)
    start = whole_numbers(seed + 2, (rows if start_rows == "each" else 1, ld), kind)
    c = sentinel((rows + 1, ld), kind)
    run_pass(
        kind,
        f"gemm:{tiles}",
        c=c,
        ldc=ld,
        start=start,
        start_stride=ld if start_rows == "each" else 0,
        a=a,
        a_row=a_row,
        a_k=a_k,
        b=b,
        ldb=ld,
        rows=rows,
        vectors=vectors,
        depth=depth,
    )
    left = (a[:, :rows].T if turned else a[:, :depth]).astype(np.float64)
    expected = start[:, :columns] + left @ b[:, :columns].astype(np.float64)
    assert np.array_equal(c[:rows, :columns], np.broadcast_to(expected, (rows, columns)))
    assert np.isnan(c[~inside(c.shape, rows, columns)]).all(), "written outside"


@pytest.mark.parametrize("kind", DTYPES)
@pytest.mark.parametrize("rule", RULES)
@given(rows=st.integers(1, 20), width=st.integers(1, 70), depth=st.integers(0, 9), seed=st.integers(0, 1000))
def test_gradient_step_is_gemm_and_update_to_the_last_bit(rule, kind, rows, width, depth, seed):
    """And leaves padding zero, whatever was there."""
    draw = np.random.default_rng(seed)
    n_slots, stride = RULES[rule].slots, padded(width, kind)
    state, a, b, start, gradient = (
        sentinel(shape, kind)
        for shape in [(1 + n_slots, rows, stride), (depth, rows), (depth, stride), (rows, stride), (rows, stride)]
    )
    state[..., :width] = draw.normal(size=(1 + n_slots, rows, width)) ** 2
    a[...] = draw.normal(size=a.shape)
    b[:, :width], start[:, :width] = draw.normal(size=(depth, width)), draw.normal(size=(rows, width))
    numbers = sentinel((16, LANES[kind]), kind)
    h = np.array(list(hyperparameters(rule, 0.3).values()))
    run_pass(kind, f"scalars:{rule}", out=numbers, hyperparameters=h, step=3)

    product = {
        "start": start,
        "start_stride": stride,
        "a": a,
        "a_row": 1,
        "a_k": rows,
        "b": b,
        "ldb": stride,
        "rows": rows,
    }
    block = {"slot_stride": rows * stride, "width": width, "numbers": numbers}
    apart, fused = state.copy(), state.copy()
    run_pass(kind, "gemm", c=gradient, ldc=stride, vectors=stride // LANES[kind], depth=depth, **product)
    run_pass(kind, f"update:{rule}", w=apart[0], gradient=gradient, slots=apart[1:], rows=rows, **block)
    run_pass(kind, f"gradient_step:{rule}", w=fused[0], slots=fused[1:], depth=depth, **product, **block)
    assert fused.tobytes() == apart.tobytes() != state.tobytes()
    assert not fused[..., width:].any(), "padding is not zero"


@pytest.mark.parametrize("kind", DTYPES)
@given(
    rows=st.integers(1, 20),
    vectors=st.integers(1, 8),
    outputs=st.integers(1, 5),
    sums=st.sampled_from(["none", "new", "go on"]),
    seed=st.integers(0, 1000),
)
def test_output_slopes_and_their_sums(kind, rows, vectors, outputs, sums, seed):
    columns = vectors * LANES[kind]
    ld = padded(rows, kind)
    d, slope = whole_numbers(seed, (rows + 1, columns), kind), whole_numbers(seed + 1, (outputs, ld), kind)
    w, before = whole_numbers(seed + 2, (outputs, columns), kind), whole_numbers(seed + 3, (columns,), kind)
    d[rows] = np.nan
    slope[:, rows:] = np.nan
    found = before.copy() if sums == "go on" else sentinel(columns, kind)
    expected = d[:rows] * (slope[:, :rows].T.astype(np.float64) @ w.astype(np.float64))
    run_pass(
        kind,
        "output_slopes",
        d=d,
        slope=slope,
        ld=ld,
        w=w,
        rows=rows,
        vectors=vectors,
        outputs=outputs,
        sums=0 if sums == "none" else found,
        go_on=int(sums == "go on"),
    )
    assert np.array_equal(d[:rows], expected) and np.isnan(d[rows]).all()
    if sums == "none":
        assert np.isnan(found).all()
    else:
        assert np.array_equal(found, expected.sum(axis=0) + (before if sums == "go on" else 0.0))


@pytest.mark.parametrize("kind", DTYPES)
@pytest.mark.parametrize("tiles", TILES)
@given(
    n_p=st.integers(1, 40),
    n_q=st.integers(0, 6),
    vectors=st.integers(1, 4),
    spare=st.integers(0, 2),
    added=st.booleans(),
    scaled=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_dots_are_dot_products(kind, tiles, n_p, n_q, vectors, spare, added, scaled, seed):
    lanes = LANES[kind]
    units, ld = vectors * lanes, (vectors + spare) * lanes
    columns = padded(n_p, kind)
    p = whole_numbers(seed, (columns, ld), kind)
    p[n_p:] = np.nan  # read and dropped
    q = whole_numbers(seed + 1, (n_q, ld), kind)
    start = whole_numbers(seed + 2, (n_q,), kind)
    factor = whole_numbers(seed + 3, (n_q, columns), kind)
    out = sentinel((n_q + 1, columns), kind)
    run_pass(
        kind,
        f"dots:{tiles}",
        out=out,
        ldo=columns,
        start=start if added else 0,
        p=p,
        ldp=ld,
        q=q,
        ldq=ld,
        n_p=n_p,
        n_q=n_q,
        vectors=vectors,
        factor=factor if scaled else 0,
    )
    expected = q[:, :units].astype(np.float64) @ p[:n_p, :units].astype(np.float64).T
    expected = (expected + start[:, None] if added else expected) * (factor[:, :n_p] if scaled else 1.0)
    assert np.array_equal(out[:n_q, :n_p], expected)
    assert not out[:n_q, n_p:].any(), "padding is not zero"
    assert np.isnan(out[n_q:]).all(), "written outside"


@pytest.mark.parametrize("kind", DTYPES)
@given(rows=st.integers(0, 40), vectors=st.integers(1, 9), go_on=st.booleans(), seed=st.integers(0, 1000))
def test_column_sums(kind, rows, vectors, go_on, seed):
    columns = vectors * LANES[kind]
    block = whole_numbers(seed, (rows, columns), kind)
    out = sentinel(columns + LANES[kind], kind)
    before = whole_numbers(seed + 1, (columns,), kind)
    if go_on:
        out[:columns] = before
    run_pass(kind, "column_sums", out=out, block=block, rows=rows, vectors=vectors, go_on=int(go_on))
    expected = block.sum(axis=0, dtype=np.float64) + (before if go_on else 0.0)
    assert np.array_equal(out[:columns], expected)
    assert np.isnan(out[columns:]).all(), "written outside"


@pytest.mark.parametrize("kind", DTYPES)
@given(
    blocks=st.lists(st.integers(1, 40), min_size=1, max_size=4), outputs=st.integers(1, 6), seed=st.integers(0, 1000)
)
def test_row_sums_over_several_blocks(kind, blocks, outputs, seed):
    lanes = LANES[kind]
    out, lane_sums = sentinel(outputs + 1, kind), sentinel((outputs, lanes), kind)
    expected = np.zeros(outputs)
    for i, rows in enumerate(blocks):
        ld = padded(rows, kind) + lanes
        block = sentinel((outputs, ld), kind)
        block[:, : padded(rows, kind)] = 0.0
        block[:, :rows] = whole_numbers(seed + i, (outputs, rows), kind)
        expected += block[:, :rows].sum(axis=1, dtype=np.float64)
        run_pass(
            kind,
            "row_sums",
            out=out,
            lane_sums=lane_sums,
            block=block,
            ld=ld,
            rows=rows,
            outputs=outputs,
            go_on=int(i > 0),
            finish=int(i == len(blocks) - 1),
        )
    assert np.array_equal(out[:outputs], expected)
    assert np.isnan(out[outputs])


@pytest.mark.parametrize("kind", DTYPES)
def test_products_of_arbitrary_numbers_err_by_rounding_alone_and_alike_for_all_tiles(kind, draw):
    rows, vectors, depth = 13, 3, 37
    columns = vectors * LANES[kind]
    a, b, start = (sentinel(shape, kind) for shape in [(rows, depth), (depth, columns), (1, columns)])
    for array in (a, b, start):
        array[...] = draw.normal(size=array.shape)
    exact_a, exact_b, exact_start = (array.astype(np.float64) for array in (a, b, start))
    sizes = np.abs(exact_start) + np.abs(exact_a) @ np.abs(exact_b)
    found = {}
    for tiles in TILES:
        c = found[tiles] = sentinel((rows, columns), kind)
        run_pass(
            kind, f"gemm:{tiles}", c=c, ldc=columns, start=start, start_stride=0, a=a, a_row=depth, a_k=1, b=b,
            ldb=columns, rows=rows, vectors=vectors, depth=depth,
        )  # fmt: skip
        bound = depth * np.finfo(kind).eps * sizes
        assert (np.abs(c - (exact_start + exact_a @ exact_b)) <= bound).all()
    assert found["avx2"].tobytes() == found["avx512"].tobytes()

    q = draw.normal(size=(5, columns)).astype(kind)
    p = sentinel((2 * LANES[kind], columns), kind)
    p[...] = draw.normal(size=p.shape)
    for tiles in TILES:
        out = found[tiles] = sentinel((5, len(p)), kind)
        run_pass(
            kind, f"dots:{tiles}", out=out, ldo=len(p), start=0, p=p, ldp=columns, q=q, ldq=columns, n_p=len(p), n_q=5,
            vectors=vectors, factor=0,
        )  # fmt: skip
        bound = columns * np.finfo(kind).eps * (np.abs(q.astype(np.float64)) @ np.abs(p.astype(np.float64)).T)
        assert (np.abs(out - q.astype(np.float64) @ p.astype(np.float64).T) <= bound).all()
    assert found["avx2"].tobytes() == found["avx512"].tobytes()


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
        "first": 20,
        "rows": rows,
        "targets": outputs,
    }
    run_pass(kind, "gather_targets", **from_y, order=0)
    assert np.array_equal(targets[:, :rows], y[:, 20 : 20 + rows])
    run_pass(kind, "gather_targets", **from_y, order=order)
    assert np.array_equal(targets[:, :rows], y[:, order])

    turned = sentinel((rows, outputs), kind)
    run_pass(kind, "scatter_outputs", out=turned, block=targets, ld=ld, rows=rows, outputs=outputs)
    assert np.array_equal(turned, targets[:, :rows].T)
    again = sentinel((outputs, ld), kind)
    run_pass(kind, "transpose", out=again, ldo=ld, block=turned, ld=outputs, rows=rows, columns=outputs)
    assert np.array_equal(again[:, :rows], targets[:, :rows]) and np.isnan(again[:, rows:]).all()


@pytest.mark.parametrize("kind", DTYPES)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, None])
def test_finite_sees_every_place(kind, bad):
    n = 3 * LANES[kind]
    for place in range(n):
        block, verdict = whole_numbers(place, (n,), kind), np.array([-1.0])
        if bad is not None:
            block[place] = bad
        run_pass(kind, "finite", block=block, count=n, verdict=verdict)
        assert verdict[0] == 0.0 if bad is None else np.isnan(verdict[0])
