"""The prototype's kernels: matrix products, activations, and an epoch of the pool, one member at a time in cache."""

import numpy as np
from numba import get_num_threads, njit, prange

from benchmarks.peers.prototype.simd import LANES, bits_to_float, vadd, vfma, vload, vmul, vsplat, vstore, vsum
from benchmarks.peers.prototype.tile import make_tile

# The hidden biases and output weights of a member take this many floats: the widest member (100), padded to a vector.
STRIDE = 112

tile_1x1, tile_2x1, tile_4x1, tile_8x1 = (make_tile(rows, 1) for rows in (1, 2, 4, 8))
tile_1x2, tile_2x2, tile_4x2, tile_8x2 = (make_tile(rows, 2) for rows in (1, 2, 4, 8))

f = np.float32
LOG2E, LN2_HIGH, LN2_LOW = f(1.44269504), f(0.693359375), f(-2.12194440e-4)
SELU_ALPHA, SELU_SCALE = f(1.67326324), f(1.05070098)
SQRT_HALF, INVERSE_SQRT_2PI = f(0.70710678), f(0.39894228)


@njit(nogil=True)
def matmul_add(c, c0, ldc, a, a0, row_a, step_a, b, b0, ldb, rows, columns, depth):
    n = 0
    while n < columns:
        m = 0
        if columns - n >= 2 * LANES:
            while m + 8 <= rows:
                tile_8x2(c, c0 + m * ldc + n, ldc, a, a0 + m * row_a, row_a, step_a, b, b0 + n, ldb, depth)
                m += 8
            while m + 4 <= rows:
                tile_4x2(c, c0 + m * ldc + n, ldc, a, a0 + m * row_a, row_a, step_a, b, b0 + n, ldb, depth)
                m += 4
            while m + 2 <= rows:
                tile_2x2(c, c0 + m * ldc + n, ldc, a, a0 + m * row_a, row_a, step_a, b, b0 + n, ldb, depth)
                m += 2
            while m < rows:
                tile_1x2(c, c0 + m * ldc + n, ldc, a, a0 + m * row_a, row_a, step_a, b, b0 + n, ldb, depth)
                m += 1
            n += 2 * LANES
        else:
            while m + 8 <= rows:
                tile_8x1(c, c0 + m * ldc + n, ldc, a, a0 + m * row_a, row_a, step_a, b, b0 + n, ldb, depth)
                m += 8
            while m + 4 <= rows:
                tile_4x1(c, c0 + m * ldc + n, ldc, a, a0 + m * row_a, row_a, step_a, b, b0 + n, ldb, depth)
                m += 4
            while m + 2 <= rows:
                tile_2x1(c, c0 + m * ldc + n, ldc, a, a0 + m * row_a, row_a, step_a, b, b0 + n, ldb, depth)
                m += 2
            while m < rows:
                tile_1x1(c, c0 + m * ldc + n, ldc, a, a0 + m * row_a, row_a, step_a, b, b0 + n, ldb, depth)
                m += 1
            n += LANES


@njit(inline="always", fastmath=True, error_model="numpy")
def exp(x):
    x = min(max(x, f(-87.0)), f(87.0))
    n = np.floor(x * LOG2E + f(0.5))
    r = x - n * LN2_HIGH - n * LN2_LOW
    p = f(1.9875691500e-4)
    p = p * r + f(1.3981999507e-3)
    p = p * r + f(8.3334519073e-3)
    p = p * r + f(4.1665795894e-2)
    p = p * r + f(1.6666665459e-1)
    p = p * r + f(5.0000001201e-1)
    p = p * r * r + r + f(1)
    return p * bits_to_float((np.int32(n) + np.int32(127)) << np.int32(23))


@njit(nogil=True, fastmath=True, error_model="numpy")
def activate(code, z_flat, slope_flat, n):
    """z becomes act(z), slope becomes act'(z)."""
    if code == 0:  # identity
        for i in range(n):
            slope_flat[i] = f(1)
    elif code == 1:  # sigmoid
        for i in range(n):
            s = f(1) / (f(1) + exp(-z_flat[i]))
            z_flat[i] = s
            slope_flat[i] = s * (f(1) - s)
    elif code == 2:  # tanh
        for i in range(n):
            e = exp(-f(2) * z_flat[i])
            s = (f(1) - e) / (f(1) + e)
            z_flat[i] = s
            slope_flat[i] = f(1) - s * s
    elif code == 3:  # relu
        for i in range(n):
            z = z_flat[i]
            slope_flat[i] = f(1) if z > f(0) else f(0)
            z_flat[i] = max(z, f(0))
    elif code == 4:  # leaky_relu
        for i in range(n):
            z = z_flat[i]
            slope_flat[i] = f(1) if z > f(0) else f(0.01)
            z_flat[i] = z if z > f(0) else f(0.01) * z
    elif code == 5 or code == 7:  # elu, selu
        alpha = f(1) if code == 5 else SELU_ALPHA
        scale = f(1) if code == 5 else SELU_SCALE
        for i in range(n):
            z = z_flat[i]
            e = alpha * exp(z)
            slope_flat[i] = scale * (f(1) if z > f(0) else e)
            z_flat[i] = scale * (z if z > f(0) else e - alpha)
    elif code == 6:  # gelu; erf by Abramowitz and Stegun 7.1.26, whose exponential is that of the normal density
        for i in range(n):
            z = z_flat[i]
            x = abs(z) * SQRT_HALF
            t = f(1) / (f(1) + f(0.3275911) * x)
            e = exp(-x * x)
            p = f(1.061405429)
            p = p * t - f(1.453152027)
            p = p * t + f(1.421413741)
            p = p * t - f(0.284496736)
            p = p * t + f(0.254829592)
            tail = f(0.5) * p * t * e
            cdf = f(1) - tail if z > f(0) else tail
            z_flat[i] = z * cdf
            slope_flat[i] = cdf + z * e * INVERSE_SQRT_2PI
    elif code == 8:  # hardshrink
        for i in range(n):
            z = z_flat[i]
            keep = f(1) if (z > f(0.5) or z < f(-0.5)) else f(0)
            slope_flat[i] = keep
            z_flat[i] = keep * z
    else:  # mish
        for i in range(n):
            z = z_flat[i]
            e = exp(min(z, f(20)))
            w = e * (e + f(2))
            t = w / (w + f(2))
            s = e / (f(1) + e)
            z_flat[i] = z * t
            slope_flat[i] = t + z * s * (f(1) - t * t)


@njit(nogil=True)
def output_of_row(z_flat, z0, w2, w20, padded, b2):
    a = vmul(vload(z_flat, z0), vload(w2, w20))
    for h in range(LANES, padded, LANES):
        a = vfma(vload(z_flat, z0 + h), vload(w2, w20 + h), a)
    return vsum(a) + b2


@njit(nogil=True)
def hidden_of_rows(x_flat, first, rows, n_features, padded, code, w1, w10, b1, b10, z_flat, slope_flat):
    for s in range(rows):
        for h in range(0, padded, LANES):
            vstore(z_flat, s * padded + h, vload(b1, b10 + h))
    matmul_add(z_flat, 0, padded, x_flat, first * n_features, n_features, 1, w1, w10, padded, rows, padded, n_features)
    activate(code, z_flat, slope_flat, rows * padded)


@njit(nogil=True)
def train_member(
    x_flat, y, n, n_features, batch, width, padded, code, w1, w10, b1, w2, b2, m, rate, masks, z_flat, slope_flat, d_out
):
    m0 = m * STRIDE
    first = 0
    while first < n:
        rows = min(batch, n - first)
        hidden_of_rows(x_flat, first, rows, n_features, padded, code, w1, w10, b1, m0, z_flat, slope_flat)
        scale = -rate * f(2) / f(rows)
        d_bias = f(0)
        for s in range(rows):
            out = output_of_row(z_flat, s * padded, w2, m0, padded, b2[m])
            d = (out - y[first + s]) * scale
            d_out[s] = d
            d_bias += d
        for h in range(0, padded, LANES):
            weights = vload(w2, m0 + h)
            new_weights = weights
            new_bias = vload(b1, m0 + h)
            for s in range(rows):
                d = vsplat(d_out[s])
                new_weights = vfma(d, vload(z_flat, s * padded + h), new_weights)
                dz = vmul(vmul(d, weights), vload(slope_flat, s * padded + h))
                vstore(z_flat, s * padded + h, dz)
                new_bias = vadd(new_bias, dz)
            if h + LANES == padded:
                # sigmoid(0) is not 0: without this the padding would train as units of its own.
                new_weights = vmul(new_weights, vload(masks, (width - 1) % LANES * LANES))
            vstore(w2, m0 + h, new_weights)
            vstore(b1, m0 + h, new_bias)
        b2[m] += d_bias
        matmul_add(
            w1, w10, padded, x_flat, first * n_features, 1, n_features, z_flat, 0, padded, n_features, padded, rows
        )
        first += rows


@njit(parallel=True, nogil=True)
def train_pool(
    x_flat, y, n, n_features, batch, widths, padded_widths, codes, w1, w1_at, b1, w2, b2, rate, epochs, order, masks
):
    chunks = get_num_threads() * 16
    for c in prange(chunks):
        z_flat = np.empty(batch * STRIDE, np.float32)
        slope_flat = np.empty(batch * STRIDE, np.float32)
        d_out = np.empty(batch, np.float32)
        for j in range(c, len(widths), chunks):
            m = order[j]
            for _ in range(epochs):
                train_member(
                    x_flat, y, n, n_features, batch, widths[m], padded_widths[m], codes[m], w1, w1_at[m], b1, w2, b2, m,
                    rate, masks, z_flat, slope_flat, d_out,
                )  # fmt: skip


@njit(parallel=True, nogil=True)
def pool_losses(x_flat, y, n, n_features, batch, padded_widths, codes, w1, w1_at, b1, w2, b2):
    losses = np.empty(len(codes))
    for m in prange(len(codes)):
        z_flat = np.empty(batch * STRIDE, np.float32)
        slope_flat = np.empty(batch * STRIDE, np.float32)
        padded = padded_widths[m]
        total = 0.0
        for first in range(0, n, batch):
            rows = min(batch, n - first)
            hidden_of_rows(
                x_flat, first, rows, n_features, padded, codes[m], w1, w1_at[m], b1, m * STRIDE, z_flat, slope_flat
            )
            for s in range(rows):
                error = output_of_row(z_flat, s * padded, w2, m * STRIDE, padded, b2[m]) - y[first + s]
                total += np.float64(error) * np.float64(error)
        losses[m] = total / n
    return losses
