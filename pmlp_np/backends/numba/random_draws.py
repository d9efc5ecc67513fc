"""Random numbers in compiled code: orders of rows and initial weights, from the formulas' generator."""

from __future__ import annotations

import numpy as np

from pmlp_np.backends.numba.compiling import kernel
from pmlp_np.backends.numba.frame import DRAWS, DRAWS_AT
from pmlp_np.backends.numba.intrinsics import bits_of, call, float_item, item, set_float_item, set_item
from pmlp_np.backends.numba.program.step_arguments import Distribution, Fill, Scale
from pmlp_np.formulas import random as random_formulas

philox = kernel()(random_formulas.philox)
_PURPOSE_WEIGHTS = np.uint64(random_formulas.PURPOSE_WEIGHTS)
_PURPOSE_SHUFFLE = random_formulas.PURPOSE_SHUFFLE
_LOW, _BITS = np.uint64(0xFFFFFFFF), np.uint64(32)


@kernel(entry=True)
def shuffle(key, epoch, order, n):
    """Fill the int64 table `order` with the epoch's order of n rows, as formulas.random.shuffled_order does."""
    for i in range(n):
        set_item(order, i, i)
    purpose = np.uint64(_PURPOSE_SHUFFLE ^ ((n >> 32) << 8))
    low, key, epoch = np.uint64(n & 0xFFFFFFFF), np.uint64(key), np.uint64(epoch)
    w0 = w1 = w2 = w3 = np.uint64(0)
    for s in range(n - 1):
        if s & 3 == 0:
            w0, w1, w2, w3 = philox(np.uint64(s >> 2), epoch, low, purpose, key)
        else:
            w0, w1, w2 = w1, w2, w3
        last = n - 1 - s
        target = np.int64((w0 * np.uint64(last + 1)) >> _BITS)
        last_row = item(order, last)
        set_item(order, last, item(order, target))
        set_item(order, target, last_row)


@kernel()
def _draw_row(job, m, tensor, first, count, out, stride, scale, draws):
    """Draw elements first ... first + count of a tensor into `out`, `stride` elements apart.

    tensor: 2 * layer, + 1 for biases. draws: the address of room for DRAWS numbers.
    """
    key = np.uint64(item(job.stream_key, m))
    distribution = item(job.distribution_pass, item(job.distribution, m))
    done = 0
    while done < count:
        begin = (first + done) // 4
        skipped = first + done - 4 * begin
        n = min(count - done, DRAWS - skipped)
        for block in range((skipped + n + 3) // 4):
            counter = np.uint64(begin + block)
            words = philox(counter & _LOW, counter >> _BITS, np.uint64(tensor), _PURPOSE_WEIGHTS, key)
            for i in range(4):
                set_float_item(draws, 4 * block + i, (np.float64(words[i]) + 0.5) * 2.0**-32)
        call(distribution, Distribution(values=draws, n=skipped + n))
        call(job.scale_pass, Scale(
            out=out + done * stride * job.itemsize, stride=stride, values=draws + 8 * skipped, n=n,
            factor=bits_of(scale),
        ))  # fmt: skip
        done += n


@kernel()
def initialize(job, slot, m):
    """Draw a member's initial weights and biases; padding becomes zero."""
    size, draws = job.itemsize, item(job.scratch, slot) + DRAWS_AT
    block = job.parameters + item(job.block_offset, m) * size
    call(job.fill_pass, Fill(out=block, n=item(job.block_size, m)))
    first = item(job.first_layer, m)
    for layer in range(first, item(job.first_layer, m + 1)):
        tensor = 2 * (layer - first)
        fan_in, fan_out, scale = item(job.fan_in, layer), item(job.fan_out, layer), float_item(job.weight_scale, layer)
        weights = block + item(job.weight_offset, layer) * size
        for i in range(fan_in):
            out = weights + i * item(job.stride_in, layer) * size
            _draw_row(job, m, tensor, i * fan_out, fan_out, out, item(job.stride_out, layer), scale, draws)
        if item(job.bias_offset, layer) >= 0:
            out, scale = block + item(job.bias_offset, layer) * size, float_item(job.bias_scale, layer)
            _draw_row(job, m, tensor + 1, 0, fan_out, out, 1, scale, draws)
