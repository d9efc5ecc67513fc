// A member on a multiprocessor: where its numbers lie, and its rows, chunk by chunk.
//
// `Job` is written by the host (launch_job.py): 64-bit fields alone, numbers and addresses. Tables are indexed by
// member, layer or code, as PoolLayout, Plan and Progress have them.

// What a block works with: a part of shared memory, or of this block's scratch in global memory. The host says where each
// lies (Job::regions: bytes from the start; -1: not needed), as large as any member of the launch needs, and which of them
// are shared.
template <bool ALL_SHARED> struct Memory {
    char *shared, *scratch;
    const int64* regions;
    int64 in_shared;                                 // a bit per region
    template <class T> DEVICE T* at(const Region region) const {
        const int64 offset = regions[region];
        if (offset < 0) return nullptr;
        // Orders of rows have the length of the table.
        if (region == ORDER) return reinterpret_cast<T*>(scratch + offset);
        return reinterpret_cast<T*>((ALL_SHARED || in_shared >> region & 1 ? shared : scratch) + offset);
    }
};

// What a member sees of the data: features, how many rows, in which order (null: as they lie), which rows the order's
// places stand for (null: themselves), targets by y_stride, weights of rows (null: none). As state/placed.py groups them.
struct Source {
    const real* x;
    int64 x_stride, n;
    const int64 *order, *chosen;
    const real* y;
    const double* weights;
};

DEVICE Source source_of(const Job& job, const int64 m, const int64 k) {
    const int64 group = (job.view_of ? job.view_of[m] : 0) + (job.epoch_views > 1 ? k : 0);
    const int64* const view = job.views + group * VIEW_WORDS;
    Source source;
    source.x = reinterpret_cast<const real*>(view[0]);
    source.x_stride = view[1], source.n = view[2];
    source.order = reinterpret_cast<const int64*>(view[3]), source.chosen = reinterpret_cast<const int64*>(view[4]);
    source.y = reinterpret_cast<const real*>(view[5]);
    source.weights = reinterpret_cast<const double*>(view[6]);
    if (source.y) source.y += (job.targets ? job.targets[m] : 0) * job.n_targets * job.y_stride;
    if (source.weights) source.weights += (job.weight_of ? job.weight_of[m] : 0) * job.y_stride;
    return source;
}

// One hidden layer, or the output layer, of a member. Offsets in its block.
struct Layer { int64 weights, bias; int fan_in, fan_out, stride, padded, activation; Across across; };
static_assert(sizeof(Layer) == LAYER_BYTES, "regions.py says how large it is");

// A member in its block's memory. `pitch` of a layer's activations: its stride and 16 bytes, so that rows begin in banks of
// their own. n_inputs: rows of a rule's inputs (see state/step_inputs.py).
template <bool ALL_SHARED> struct Frame {
    const Job& job;
    Memory<ALL_SHARED> memory;
    int64 m, first_layer, block_size;
    int depth, n_outputs, features, x_pitch, n_inputs;
    bool scales, keeps_block;
    real *block, *x, *a, *d, *raw, *dz, *output_rows, *targets, *scaled;
    double *weights, *sums, *totals;
    Layer* layers;

    DEVICE Frame(const Job& given, char* shared, const int64 member)
        : job(given), memory{shared, given.scratch + blockIdx.x * given.scratch_bytes, given.regions, given.in_shared}, m(member) {
        first_layer = job.first_layer[m], depth = (int)(job.first_layer[m + 1] - 1 - first_layer);
        block_size = job.block_size[m], n_outputs = (int)job.n_outputs;
        features = (int)job.fan_in[first_layer], n_inputs = (int)job.input_count[m];
        x_pitch = ((features + WIDTH - 1) / WIDTH | 1) * WIDTH;
        if (sizeof(real) == 8) x_pitch = (x_pitch + 3) / 4 * 4;
        keeps_block = ALL_SHARED || memory.regions[BLOCK] >= 0;
        block = keeps_block ? memory.template at<real>(BLOCK) : job.parameters + job.block_offset[m];
        x = memory.template at<real>(FEATURES);
        scales = job.scale_offset && job.scale_offset[m] >= 0;
        a = memory.template at<real>(UNITS), d = memory.template at<real>(DERIVATIVES);
        raw = memory.template at<real>(RAW_OUTPUTS), dz = memory.template at<real>(OUTPUT_DZ);
        output_rows = memory.template at<real>(OUTPUT_ROWS);
        targets = memory.template at<real>(TARGETS), scaled = memory.template at<real>(SCALED_WEIGHTS);
        weights = memory.template at<double>(ROW_WEIGHTS), sums = memory.template at<double>(LANE_SUMS);
        totals = memory.template at<double>(TOTALS);
        layers = memory.template at<Layer>(LAYERS);
    }

    // All layers of the member, to the block's memory; a thread each.
    DEVICE void fetch_layers() const {
        for (int k = threadIdx.x; k <= depth; k += blockDim.x) {
            const int64 l = first_layer + k;
            Layer& layer = layers[k];
            layer.weights = job.weight_offset[l], layer.bias = job.bias_offset[l];
            layer.fan_in = (int)job.fan_in[l], layer.fan_out = (int)job.fan_out[l], layer.stride = (int)job.row_stride[l];
            layer.padded = (int)job.vectors[l] * LANES, layer.activation = (int)job.activation[l];
            layer.across = across(layer.fan_out);
        }
    }
    DEVICE Layer layer_at(const int k) const { return layers[k]; }
    DEVICE bool has_scales() const { return scales; }
    DEVICE const real* start_of(const Layer& layer) const { return layer.bias < 0 ? nullptr : block + layer.bias; }
    DEVICE const real* weights_of(const Layer& layer, const int k) const {
        return k == 0 && has_scales() ? scaled : block + layer.weights;
    }
    static DEVICE int pitch_of(const Layer& layer) { return layer.stride + WIDTH; }
};

// Copy WIDTH numbers.
DEVICE void copy_vector(real* to, const real* from) {
    if (sizeof(real) == 4) *reinterpret_cast<float4*>(to) = *reinterpret_cast<const float4*>(from);
    else *reinterpret_cast<double2*>(to) = *reinterpret_cast<const double2*>(from);
}

// Copy n numbers, whole 16 bytes, with all threads.
DEVICE void copy(real* to, const real* from, const int64 n) {
    for (int64 i = WIDTH * threadIdx.x; i < n; i += WIDTH * blockDim.x) copy_vector(to + i, from + i);
}
DEVICE void clear(real* to, const int64 n) {
#pragma unroll 1
    for (int64 i = threadIdx.x; i < n; i += blockDim.x) to[i] = 0;
}

// A member's parameters come to the block's memory, where they have room there, and what is never written is zero: padding of activations and features.
template <bool S> DEVICE void fetch_member(const Frame<S>& f) {
    f.fetch_layers();
    __syncthreads();
    if (f.keeps_block) copy(f.block, f.job.parameters + f.job.block_offset[f.m], f.block_size);
    int64 wide = 0;
    for (int k = 0; k < f.depth; ++k) wide += Frame<S>::pitch_of(f.layer_at(k));
    clear(f.a, CHUNK * wide);
    if (f.d) clear(f.d, CHUNK * wide);
    clear(f.x, CHUNK * f.x_pitch);
}

// The first layer's weights times feature scales: out[i, n] = scales[i] w[i, n].
template <bool S> DEVICE void scale_features(const Frame<S>& f) {
    if (!f.has_scales()) return;
    const Layer layer = f.layer_at(0);
    const real *const scales = f.block + f.job.scale_offset[f.m], *const w = f.block + layer.weights;
    for (int at = threadIdx.x; at < layer.fan_in * layer.stride; at += blockDim.x) {
        const int i = at / layer.stride;
        f.scaled[at] = at - i * layer.stride < layer.fan_out ? scales[i] * w[at] : (real)0;
    }
}

// Bring rows start ... start + rows of a member's order to the block, with their targets and weights.
template <bool S> DEVICE void fetch_rows(const Frame<S>& f, const Source& source, const int64 start, const int rows) {
    const Job& job = f.job;
    const auto row_at = [&](const int r) {
        int64 row = start + r;
        if (source.order) row = source.order[row];
        return source.chosen ? source.chosen[row] : row;
    };
    // 16 bytes a thread, neighbors from one row: as many as it needs up to a warp, rounded up to a power of two.
    int shift = 0;
    while (shift < 5 && WIDTH << shift < f.features) ++shift;
    for (int i = threadIdx.x; i < rows << shift; i += blockDim.x) {
        const int r = i >> shift;
        const real* const from = source.x + row_at(r) * source.x_stride;
        for (int c = WIDTH * (i - (r << shift)); c < f.features; c += WIDTH << shift) copy_vector(f.x + r * f.x_pitch + c, from + c);
    }
    if (!source.y) return;
    for (int i = threadIdx.x; i < rows * (int)job.n_targets; i += blockDim.x) {
        const int t = i / rows, r = i - t * rows;
        f.targets[t * CHUNK + r] = source.y[t * job.y_stride + row_at(r)];
    }
    if (source.weights)
        for (int r = threadIdx.x; r < rows; r += blockDim.x) f.weights[r] = source.weights[row_at(r)];
}

template <bool S> DEVICE Targets targets_of(const Frame<S>& f, const Source& source) {
    return {f.targets, source.weights ? f.weights : nullptr, f.job.weight_mean ? f.job.weight_mean[f.m] : 1.0};
}

// Layers and raw outputs of the chunk that is in the block. place: of its first row in the epoch's order; training alone
// has derivatives, and dropout. A member without hidden layers has its output layer computed like a hidden one.
template <bool S>
DEVICE void forward_chunk(const Frame<S>& f, const int rows, const bool training, const int64 place, const int64 epoch) {
    const Job& job = f.job;
    const double share = training && job.dropout ? job.dropout[f.m] : 0.0;
    const real* x = f.x;
    int x_pitch = f.x_pitch;
    int64 before = 0;
    for (int k = 0; k < max(f.depth, 1); ++k) {
        const bool hidden = f.depth > 0;
        const Layer l = f.layer_at(k);
        const int pitch = hidden ? Frame<S>::pitch_of(l) : l.stride;
        real* const a = hidden ? f.a + before : f.output_rows;
        real* const d = training && hidden ? f.d + before : nullptr;
        layer(x, x_pitch, f.weights_of(l, k), l.stride, f.start_of(l), l.fan_in, l.fan_out, l.across, rows, a, d, pitch, l.activation);
        __syncthreads();
        if (hidden && share > 0.0) {
            dropout_factors(place, rows, l.fan_out, job.dropout_threshold[f.m], job.dropout_scale[f.m], job.stream_key[f.m],
                            epoch, k + 1, [&](const int r, const int n, const real factor) {
                                a[r * pitch + n] = a[r * pitch + n] * factor;
                                d[r * pitch + n] = d[r * pitch + n] * factor;
                            });
            __syncthreads();
        }
        x = a, x_pitch = pitch, before += CHUNK * pitch;
    }
    const Layer last = f.layer_at(f.depth);
    if (f.depth > 0)
        outputs(x, x_pitch, f.block + last.weights, last.stride, f.start_of(last), f.n_outputs, last.padded, rows, f.raw);
    else
        by_output(x, x_pitch, f.n_outputs, rows, f.raw);
    __syncthreads();
}

// (mean loss, mean score) over the rows of a source, to totals[0] and [1]: all threads may read them afterwards.
template <bool S> DEVICE void evaluate_rows(const Frame<S>& f, const Source& source) {
    for (int64 start = 0; start < source.n; start += CHUNK) {
        const int rows = (int)min((int64)CHUNK, source.n - start);
        fetch_rows(f, source, start, rows);
        __syncthreads();
        forward_chunk(f, rows, false, 0, 0);
        loss_sums(targets_of(f, source), f.raw, f.n_outputs, rows, start == 0, start + rows >= source.n, f.sums, f.totals);
        __syncthreads();
    }
    if (threadIdx.x == 0) {
        const double total = source.weights ? f.totals[2] : 1.0 * (double)source.n;
        f.totals[0] = f.totals[0] / total, f.totals[1] = f.totals[1] / total;
    }
    __syncthreads();
}
