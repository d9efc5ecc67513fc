// Initial weights and orders of rows, from the formulas' generator.

// Fisher and Yates from the last place down, as formulas/random.py: by one thread.
DEVICE void shuffle(const int64 key, const int64 epoch, int64* order, const int64 n) {
    for (int64 i = 0; i < n; ++i) order[i] = i;
    const uint64 purpose = (uint64)PURPOSE_SHUFFLE ^ ((uint64)(n >> 32) << 8);
    uint64 words[4] = {0, 0, 0, 0};
    for (int64 s = 0; s + 1 < n; ++s) {
        if ((s & 3) == 0)
            philox((uint64)(s >> 2), (uint64)epoch, (uint64)n & 0xffffffffull, purpose, (uint64)key, words);
        const int64 last = n - 1 - s, target = (int64)((words[0] * (uint64)(last + 1)) >> 32);
        for (int i = 0; i < 3; ++i) words[i] = words[i + 1]; // an index that is computed would need memory
        const int64 held = order[last];
        order[last] = order[target];
        order[target] = held;
    }
}

// The orders that members share: a block each.
extern "C" __global__ void draw_orders(JOBS) {
    const Job& job = jobs.job;
    const int64 i = blockIdx.x;
    if (threadIdx.x == 0)
        shuffle(job.order_keys[i], job.order_epochs[i], job.orders + job.order_offsets[i], job.order_lengths[i]);
}

// Elements of a tensor (2 * layer, + 1 for biases), four by four: element e of (fan_in, fan_out) is draw number e.
DEVICE void draw_tensor(const Job& job, const int64 m, const int64 tensor, const int64 count, const int64 across,
                        const int64 stride_in, const int64 stride_out, const double scale, real* out) {
    for (int64 four = threadIdx.x; four < (count + 3) / 4; four += blockDim.x) {
        uint64 words[4];
        philox((uint64)four & 0xffffffffull, (uint64)four >> 32, (uint64)tensor, (uint64)PURPOSE_WEIGHTS,
               (uint64)job.stream_key[m], words);
        for (int i = 0; i < 4; ++i) {
            const int64 e = 4 * four + i;
            if (e >= count) break;
            const double draw = distribution((int)job.distribution[m], ((double)words[i] + 0.5) * 0x1p-32);
            const double value = scale * draw;
            out[e / across * stride_in + e % across * stride_out] = (real)value;
        }
    }
}

// Initial weights and biases of a member, one thread block each; padding becomes zero.
extern "C" __global__ void draw_weights(JOBS) {
    const Job& job = jobs.job;
    const int64 m = job.queue[blockIdx.x], first = job.first_layer[m];
    real* const block = job.parameters + job.block_offset[m];
    for (int64 i = threadIdx.x; i < job.block_size[m]; i += blockDim.x) block[i] = 0;
    __syncthreads();
    for (int64 l = first; l < job.first_layer[m + 1]; ++l) {
        const int64 tensor = 2 * (l - first), fan_in = job.fan_in[l], fan_out = job.fan_out[l];
        draw_tensor(job, m, tensor, fan_in * fan_out, fan_out, job.stride_in[l], job.stride_out[l], job.weight_scale[l],
                    block + job.weight_offset[l]);
        if (job.bias_offset[l] >= 0)
            draw_tensor(job, m, tensor + 1, fan_out, fan_out, 0, 1, job.bias_scale[l], block + job.bias_offset[l]);
    }
}
