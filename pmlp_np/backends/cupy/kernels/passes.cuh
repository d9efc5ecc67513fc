// Passes of the Numba backend on one chunk of rows, by the same names and with the same orders of accumulation:
//
//   layer              over inputs, one after another, from the biases; then the activation and its derivative
//   outputs            over units, one sum per lane (unit mod LANES), a halving tree, then the bias
//   loss               over rows, one sum per lane (row mod LANES), a halving tree with the last chunk
//   output_backward    over rows, one after another
//   hidden_backward    over units, one sum per lane, a halving tree
//   column_sums        over rows, one after another
//   weights_backward   over rows, one after another; with the last chunk the weights take their step
//
// All threads of a block call a pass; what follows it waits for them (__syncthreads). CHUNK rows are worked on at once; blocks of activations are (CHUNK,
// units) by a pitch, what exists per output is (outputs, CHUNK). Columns from the width on stay zero.
// docs/kernels.md explains the passes, docs/gpu.md how they are cut into threads.

constexpr int WIDTH = LOAD_BYTES / sizeof(real);     // numbers in a load
constexpr int TILE_ROWS = 4, TILE_UNITS = 8;         // of a product that a thread keeps in registers
constexpr unsigned ALL = 0xffffffffu;

// Four numbers that lie side by side.
struct Four { real at[4]; };
DEVICE Four load_four(const real* p) {
    Four v;
    if (sizeof(real) == 4) {
        const float4 x = *reinterpret_cast<const float4*>(p);
        v.at[0] = x.x, v.at[1] = x.y, v.at[2] = x.z, v.at[3] = x.w;
    } else {
        const double2 x = reinterpret_cast<const double2*>(p)[0], y = reinterpret_cast<const double2*>(p)[1];
        v.at[0] = x.x, v.at[1] = x.y, v.at[2] = y.x, v.at[3] = y.y;
    }
    return v;
}
DEVICE void store_four(real* p, const Four& v) {
    if (sizeof(real) == 4) {
        *reinterpret_cast<float4*>(p) = make_float4(v.at[0], v.at[1], v.at[2], v.at[3]);
    } else {
        reinterpret_cast<double2*>(p)[0] = make_double2(v.at[0], v.at[1]);
        reinterpret_cast<double2*>(p)[1] = make_double2(v.at[2], v.at[3]);
    }
}

// The halving tree over LANES neighboring threads; all threads of the warp take part, and each group gets its own sum.
template <class T> DEVICE T folded(T v) {
#pragma unroll
    for (int half = LANES / 2; half > 0; half >>= 1) v = v + __shfl_xor_sync(ALL, v, half);
    return v;
}

// Of a matrix `width` wide: quads of 2 x 2 tiles across, and the reciprocal of that, worked out once.
struct Across { int quads; float reciprocal; };
DEVICE Across across(const int width) {
    const int quads = ((width + TILE_UNITS - 1) / TILE_UNITS + 1) / 2;
    return {quads, 1.0f / (float)quads};
}

// A product's tiles are assigned to threads in quads, neighbors in rows (bit 0 of the lane) and in units (bit 1): a 16-byte
// load of either operand then finds one address in two threads, which the hardware serves at once. A division of integers
// would take as long as a tenth of a small product: the quotient of floats is one off at most.
struct Tile { int row, unit; };
DEVICE Tile tile_of(const int number, const Across& across) {
    const int quad = number / 4;
    int down = (int)((float)quad * across.reciprocal), over = quad - down * across.quads;
    if (over < 0) down -= 1, over += across.quads;
    else if (over >= across.quads) down += 1, over -= across.quads;
    return {TILE_ROWS * (2 * down + (number & 1)), TILE_UNITS * (2 * over + (number >> 1 & 1))};
}

// sums[i][j] += a(i) b[j].
template <class A> DEVICE void add_outer(const A& a, const real* b, real (&sums)[TILE_ROWS][TILE_UNITS]) {
    const Four left = load_four(b), right = load_four(b + 4);
#pragma unroll
    for (int i = 0; i < TILE_ROWS; ++i)
#pragma unroll
        for (int j = 0; j < 4; ++j) {
            sums[i][j] = multiply_add(a(i), left.at[j], sums[i][j]);
            sums[i][4 + j] = multiply_add(a(i), right.at[j], sums[i][4 + j]);
        }
}

// sums[i][j] += x[i][k] w[k, j], for the first `count` of four k.
DEVICE void add_inputs(const real* const (&x)[TILE_ROWS], const int from, const real* w, const int stride, const int count,
                       real (&sums)[TILE_ROWS][TILE_UNITS]) {
    Four a[TILE_ROWS];
#pragma unroll
    for (int i = 0; i < TILE_ROWS; ++i) a[i] = load_four(x[i] + from);
#pragma unroll
    for (int k = 0; k < 4; ++k)
        if (k < count) add_outer([&](const int i) { return a[i].at[k]; }, w + k * stride, sums);
}

// sums[i][j] += sum over k of x[i, k] w[k, j], one k after another; of x the rows, of w eight columns lie in a tile. Rows of
// x have room for whole fours. Addresses go on by additions, one for each row of w and each eight of x: an instruction that
// is no multiply-add costs as much as one. (Constant strides would spare those of w, 2 % of the loop, for twice the code.)
DEVICE void product(const real* x, const int pitch, const real* w, const int stride, const int n,
                    real (&sums)[TILE_ROWS][TILE_UNITS]) {
    const real* rows[TILE_ROWS];
#pragma unroll
    for (int i = 0; i < TILE_ROWS; ++i) rows[i] = x + i * pitch;
    const auto go_on = [&](const int count) {
        w += count * stride;
#pragma unroll
        for (int i = 0; i < TILE_ROWS; ++i) rows[i] += count;
    };
    int left = n;
#pragma unroll 1
    for (; left >= 8; left -= 8) {
        add_inputs(rows, 0, w, stride, 4, sums);
        add_inputs(rows, 4, w + 4 * stride, stride, 4, sums);
        go_on(8);
    }
#pragma unroll 1
    for (; left > 0; left -= 4) {
        add_inputs(rows, 0, w, stride, left, sums);
        go_on(4);
    }
}

struct no_activation {
    static DEVICE void at(const real z, real& a, real& d) { a = z, d = 1; }
};

// An activation on a thread's own tile, z in place of a; d: its derivative, or null. A loop, so that the code of all
// activations stays small.
template <class Activation> DEVICE void activate_tile(real* a, real* d, const int pitch) {
#pragma unroll 1
    for (int n = 0; n < TILE_ROWS * TILE_UNITS; n += 4) {
        const int at = n / TILE_UNITS * pitch + n % TILE_UNITS;
        const Four z = load_four(a + at);
        Four value, derivative;
#pragma unroll
        for (int j = 0; j < 4; ++j) Activation::at(z.at[j], value.at[j], derivative.at[j]);
        store_four(a + at, value);
        if (d) store_four(d + at, derivative);
    }
}

// A layer forward: a = f(x w + start) of `rows` rows, and d = f' there (null: not wanted). start: biases, or null.
// An activation code below 0: none. x (CHUNK, fan_in) by x_pitch, w (fan_in, units) by stride, a and d by pitch.
DEVICE void layer(const real* x, const int x_pitch, const real* w, const int stride, const real* start, const int fan_in,
                  const int width, const Across& across, const int rows, real* a, real* d, const int pitch,
                  const int activation) {
    const int down = (rows + 2 * TILE_ROWS - 1) / (2 * TILE_ROWS);
    for (int number = threadIdx.x; number < 4 * across.quads * down; number += blockDim.x) {
        const Tile tile = tile_of(number, across);
        if (tile.unit >= width) continue;
        real sums[TILE_ROWS][TILE_UNITS] = {};
        if (start) {
#pragma unroll
            for (int j = 0; j < TILE_UNITS; j += 4) {
                const Four from = load_four(start + tile.unit + j);
#pragma unroll
                for (int i = 0; i < TILE_ROWS; ++i)
#pragma unroll
                    for (int k = 0; k < 4; ++k) sums[i][j + k] = from.at[k];
            }
        }
        product(x + tile.row * x_pitch, x_pitch, w + tile.unit, stride, fan_in, sums);
        real* const a_at = a + tile.row * pitch + tile.unit;
#pragma unroll
        for (int i = 0; i < TILE_ROWS; ++i)
#pragma unroll
            for (int j = 0; j < TILE_UNITS; j += 4)
                store_four(a_at + i * pitch + j, {{sums[i][j], sums[i][j + 1], sums[i][j + 2], sums[i][j + 3]}});
        real* const d_at = d ? d + tile.row * pitch + tile.unit : nullptr;
        switch (activation) {
#define CASE(code, name) case code: activate_tile<activation_##name>(a_at, d_at, pitch); break;
            EACH_ACTIVATION(CASE)
#undef CASE
            default: activate_tile<no_activation>(a_at, d_at, pitch);
        }
        // Padding stays zero, where an activation of zero may not be.
#pragma unroll 1
        for (int j = width - tile.unit; j < TILE_UNITS; ++j)
#pragma unroll
            for (int i = 0; i < TILE_ROWS; ++i) {
                a_at[i * pitch + j] = 0;
                if (d) d_at[i * pitch + j] = 0;
            }
    }
}

// use(task, lane), for tasks that LANES neighboring threads do together: each warp goes through whole tasks, so that all
// of its threads meet in `folded`. Tasks from `count` on have no result.
template <class Use> DEVICE void by_lanes(const int count, const Use& use) {
    const int together = blockDim.x / LANES, lane = threadIdx.x % LANES;
    for (int first = 0; first < count; first += together) use(first + (int)threadIdx.x / LANES, lane);
}

// use(r, j, product) for the dot products, over units, of `rows` rows p of a chunk, by pitch, with n rows q, by stride; each
// by one thread. LANES threads form four times Q products: each thread has a sum for its lane of every product. Their
// halving trees are one: at each step a thread hands half of the products to its neighbor.
template <int Q, class Use>
DEVICE void dot_products(const real* p, const int pitch, const int rows, const real* q, const int stride, const int n,
                         const int padded, const Use& use) {
    constexpr int N = 4 * Q, KEPT = N > LANES ? N / LANES : 1, SHARING = N < LANES ? LANES / N : 1;
    const int down = (rows + 3) / 4;
    by_lanes(down * ((n + Q - 1) / Q), [&](const int number, const int lane) {
        // Neighbors in rows share q, and their p are in different banks.
        const int over = number / down, first = 4 * (number - over * down), from = Q * over;
        const real *p_at[4], *q_at[Q];
#pragma unroll
        for (int i = 0; i < 4; ++i) p_at[i] = p + (first + i) * pitch + lane;
#pragma unroll
        for (int j = 0; j < Q; ++j) q_at[j] = q + (int64)min(from + j, n - 1) * stride + lane;
        real sums[N] = {};
#pragma unroll 1
        for (int k = 0; k < padded; k += LANES) {
            real left[4], right[Q];
#pragma unroll
            for (int i = 0; i < 4; ++i) left[i] = *p_at[i], p_at[i] += LANES;
#pragma unroll
            for (int j = 0; j < Q; ++j) right[j] = *q_at[j], q_at[j] += LANES;
#pragma unroll
            for (int i = 0; i < N; ++i) sums[i] = multiply_add(left[i / Q], right[i % Q], sums[i]);
        }
#pragma unroll
        for (int step = 1; step < LANES; step *= 2) {
            const int half = LANES / 2 / step, left = N / step; // of so many products, the thread keeps one half
            const bool upper = (lane & half) != 0;
            if (left > 1)
#pragma unroll
                for (int i = 0; i < left / 2; ++i) {
                    const real mine = upper ? sums[i + left / 2] : sums[i], theirs = upper ? sums[i] : sums[i + left / 2];
                    sums[i] = mine + __shfl_xor_sync(ALL, theirs, half);
                }
            else sums[0] = sums[0] + __shfl_xor_sync(ALL, sums[0], half);
        }
        // With more threads than products, neighbors end with the same one.
        if (lane % SHARING == 0)
#pragma unroll
            for (int k = 0; k < KEPT; ++k) {
                const int product = lane / SHARING * KEPT + k, r = first + product / Q, j = from + product % Q;
                if (r < rows && j < n) use(r, j, sums[k]);
            }
    });
}

// Raw outputs from the last hidden layer: raw[o, r] = start[o] + sum over n of a[r, n] w[o, n].
DEVICE void outputs(const real* a, const int pitch, const real* w, const int stride, const real* start, const int n_outputs,
                    const int padded, const int rows, real* raw) {
    const auto use = [&](const int r, const int o, const real product) {
        raw[o * CHUNK + r] = product + (start ? start[o] : (real)0);
    };
    if (n_outputs == 1) dot_products<1>(a, pitch, rows, w, stride, n_outputs, padded, use);
    else dot_products<4>(a, pitch, rows, w, stride, n_outputs, padded, use);
}

// Rows turned into lines of outputs: out[o, r] = block[r, o].
DEVICE void by_output(const real* block, const int pitch, const int n_outputs, const int rows, real* out) {
    for (int i = threadIdx.x; i < rows * n_outputs; i += blockDim.x) {
        const int r = i / n_outputs, o = i - r * n_outputs;
        out[o * CHUNK + r] = block[r * pitch + o];
    }
}

// Lines of outputs turned into rows: out[r, o] = block[o, r], zero from n_outputs up to the pitch.
DEVICE void by_row(const real* block, const int n_outputs, const int rows, real* out, const int pitch) {
    for (int i = threadIdx.x; i < rows * pitch; i += blockDim.x) {
        const int r = i / pitch, o = i - r * pitch;
        out[i] = o < n_outputs ? block[o * CHUNK + r] : (real)0;
    }
}

// A sum over rows, one per lane, with the rows of this chunk added: `value` is row `lane of the warp`'s, zero from `rows`
// on. Lanes beyond LANES get no sum.
template <class T> DEVICE T added_by_lane(T sum, const T value, const int rows) {
    const int lane = threadIdx.x % 32;
#pragma unroll
    for (int group = 0; group < CHUNK / LANES; ++group) {
        const T theirs = __shfl_sync(ALL, value, (lane + group * LANES) % 32);
        // A group without rows adds nothing, not zero: the sign of a zero would change.
        if (group * LANES < rows) sum = sum + theirs;
    }
    return sum;
}

// Targets of a chunk, (targets, CHUNK), and the weights of its rows (null: none) by what they are divided by.
struct Targets { const real* values; const double* weights; double mean; };

// The weight of a row, and whether it counts: rows of weight zero are left out, not multiplied by it, as their losses may
// be infinite.
DEVICE double weight_of(const Targets& targets, const int r, bool& counts) {
    if (!targets.weights || !counts) return 1.0;
    const double weight = targets.weights[r] / targets.mean;
    counts = weight > 0.0;
    return weight;
}

// Loss of a chunk, and its gradient by raw outputs dz (outputs, CHUNK), times scale; by the first warp. With the last
// chunk db (outputs,) is the gradient by output biases (null: there are none) and *total the sum of losses. Until then
// sums are kept per lane in db_lanes (outputs, LANES) and loss_lanes.
DEVICE void loss(const Targets& targets, const real* raw, real* dz, const int n_outputs, const int rows, const bool first,
                 const bool last, const double scale, real* db_lanes, double* loss_lanes, real* db, double* total) {
    if (threadIdx.x >= 32) return;
    const int r = threadIdx.x;
    bool counts = r < rows;
    const double weight = weight_of(targets, r, counts);
    double row_loss = 0;
    if (counts) {
        const real factor = (real)scale, wide = (real)weight;
        const bool weighted = targets.weights != nullptr;
        const real value = loss_train(raw + r, CHUNK, targets.values + r, CHUNK, n_outputs, weighted ? wide * factor : factor,
                                      dz + r);
        row_loss = (double)(weighted ? wide * value : value);
    } else {
#pragma unroll 1
        for (int o = 0; o < n_outputs; ++o) dz[o * CHUNK + r] = 0;
    }
    const bool holds = r < LANES;
    const double losses = added_by_lane(first || !holds ? 0.0 : loss_lanes[r], row_loss, rows);
    if (holds) loss_lanes[r] = losses;
    if (last) {
        const double sum = folded(losses);
        if (r == 0) *total = sum;
    }
#pragma unroll 1
    for (int o = 0; o < n_outputs; ++o) {
        const real sum = added_by_lane(first || !holds ? (real)0 : db_lanes[o * LANES + r], dz[o * CHUNK + r], rows);
        if (holds) db_lanes[o * LANES + r] = sum;
        if (last) {
            const real gradient = folded(sum);
            if (r == 0 && db) db[o] = gradient;
        }
    }
}

// Sums of losses, scores and weights of a chunk, (3, LANES); with the last chunk folded to totals (3,). By the first warp.
DEVICE void loss_sums(const Targets& targets, const real* raw, const int n_outputs, const int rows, const bool first,
                      const bool last, double* sums, double* totals) {
    if (threadIdx.x >= 32) return;
    const int r = threadIdx.x;
    bool counts = r < rows;
    const double weight = weight_of(targets, r, counts);
    double values[3] = {0, 0, 0};
    if (counts) {
        real score;
        const real row_loss = loss_evaluate(raw + r, CHUNK, targets.values + r, CHUNK, n_outputs, score);
        values[0] = targets.weights ? weight * (double)row_loss : (double)row_loss;
        values[1] = targets.weights ? weight * (double)score : (double)score;
        values[2] = weight;
    }
    const bool holds = r < LANES;
#pragma unroll
    for (int i = 0; i < 3; ++i) {
        const double sum = added_by_lane(first || !holds ? 0.0 : sums[i * LANES + r], values[i], rows);
        if (holds) sums[i * LANES + r] = sum;
        if (last) {
            const double total = folded(sum);
            if (r == 0) totals[i] = total;
        }
    }
}

// A step of a rule on the parameter at an offset of the block, whose slots lie slot_stride apart.
template <class Rule>
DEVICE void take_step(real* block, real* slots, const int64 slot_stride, const int64 at, const real g, const real* numbers) {
    real slot[MOST_SLOTS];
#pragma unroll
    for (int i = 0; i < Rule::n_slots(); ++i) slot[i] = slots[i * slot_stride + at];
    Rule::update(block[at], g, slot, numbers);
#pragma unroll
    for (int i = 0; i < Rule::n_slots(); ++i) slots[i * slot_stride + at] = slot[i];
}

// Steps of four neighboring parameters of a row, of which the first `count` exist: padding stays what it is.
template <class Rule>
DEVICE void take_four_steps(real* block, real* slots, const int64 slot_stride, const int64 at, const real* g, const int count,
                            const real* numbers) {
    Four w = load_four(block + at), slot[MOST_SLOTS];
#pragma unroll
    for (int i = 0; i < Rule::n_slots(); ++i) slot[i] = load_four(slots + i * slot_stride + at);
#pragma unroll
    for (int j = 0; j < 4; ++j) {
        real next = w.at[j], its[MOST_SLOTS];
#pragma unroll
        for (int i = 0; i < Rule::n_slots(); ++i) its[i] = slot[i].at[j];
        Rule::update(next, g[j], its, numbers);
        if (j < count) {
            w.at[j] = next;
#pragma unroll
            for (int i = 0; i < Rule::n_slots(); ++i) slot[i].at[j] = its[i];
        }
    }
    store_four(block + at, w);
#pragma unroll
    for (int i = 0; i < Rule::n_slots(); ++i) store_four(slots + i * slot_stride + at, slot[i]);
}

// A member's parameters with their gradient and slots, which are laid out alike.
struct Block { real *w, *dw, *slots; int64 slot_stride; };

// With the last chunk a parameter takes its step, before it its gradient is kept.
template <class Rule>
DEVICE void step_or_keep(const Block& block, const bool steps, const int64 at, const real g, const real* numbers) {
    if (steps) take_step<Rule>(block.w, block.slots, block.slot_stride, at, g, numbers);
    else block.dw[at] = g;
}

// The output layer backward, a thread per unit: derivatives d of the last hidden layer become its dz, summed up in
// hidden_db (null: it has no biases); the gradient by output weights (outputs, units), from `offset` on by stride.
template <class Rule>
DEVICE void output_backward(const real* a, real* d, const int pitch, const real* dz, const int n_outputs, const int width,
                            const int rows, const bool first, const bool steps, const Block& block, const int64 offset,
                            const int stride, const real* numbers, real* hidden_db) {
    for (int n = threadIdx.x; n < width; n += blockDim.x) {
        real total = first || !hidden_db ? (real)0 : hidden_db[n];
        const real* const w = block.w + offset + n;
        for (int r = 0; r < rows; ++r) {
            real back = 0;
            if (n_outputs == 1) back = dz[r] * w[0];
            else
                for (int o = 0; o < n_outputs; ++o) back = multiply_add(dz[o * CHUNK + r], w[(int64)o * stride], back);
            const real value = back * d[r * pitch + n];
            d[r * pitch + n] = value;
            total = total + value;
        }
        if (hidden_db) hidden_db[n] = total;
#pragma unroll 1
        for (int o = 0; o < n_outputs; ++o) {
            const int64 at = offset + (int64)o * stride + n;
            real g = first ? (real)0 : block.dw[at];
            for (int r = 0; r < rows; ++r) g = multiply_add(dz[o * CHUNK + r], a[r * pitch + n], g);
            step_or_keep<Rule>(block, steps, at, g, numbers);
        }
    }
}

// From dz of a layer to that of the layer below, over its derivatives: d[r, i] *= sum over n of w[i, n] dz[r, n].
DEVICE void hidden_backward(const real* dz, const int pitch, const real* w, const int stride, const int padded,
                            const int fan_in, const int rows, real* d, const int d_pitch) {
    dot_products<4>(dz, pitch, rows, w, stride, fan_in, padded, [&](const int r, const int i, const real back) {
        d[r * d_pitch + i] = back * d[r * d_pitch + i];
    });
}

// The gradient by hidden biases, row after row: db[n] += sum over rows of dz[r, n].
DEVICE void column_sums(const real* dz, const int pitch, const int width, const int rows, const bool first, real* db) {
    for (int n = threadIdx.x; n < width; n += blockDim.x) {
        real total = first ? (real)0 : db[n];
        for (int r = 0; r < rows; ++r) total = total + dz[r * pitch + n];
        db[n] = total;
    }
}

// use(i, j, columns) for four numbers of a tile that are in the matrix (fan_in, width), and how many columns there are from
// there on.
template <class Use> DEVICE void each_four(const Tile& tile, const int fan_in, const int width, const Use& use) {
#pragma unroll
    for (int i = 0; i < TILE_ROWS; ++i)
#pragma unroll
        for (int j = 0; j < TILE_UNITS; j += 4)
            if (tile.row + i < fan_in && tile.unit + j < width) use(i, j, width - tile.unit - j);
}

// The gradient by hidden weights (fan_in, units), from `offset` on by stride: dw[i, n] += sum over rows of x[r, i] dz[r, n].
template <class Rule>
DEVICE void weights_backward(const real* x, const int x_pitch, const real* dz, const int pitch, const int fan_in,
                             const int width, const Across& across, const int rows, const bool first, const bool steps,
                             const Block& block, const int64 offset, const int stride, const real* numbers) {
    const int down = (fan_in + 2 * TILE_ROWS - 1) / (2 * TILE_ROWS);
    for (int number = threadIdx.x; number < 4 * across.quads * down; number += blockDim.x) {
        const Tile tile = tile_of(number, across);
        if (tile.unit >= width || tile.row >= fan_in) continue;
        real sums[TILE_ROWS][TILE_UNITS] = {};
        const int64 corner = offset + (int64)tile.row * stride + tile.unit;
        if (!first)
            each_four(tile, fan_in, width, [&](const int i, const int j, int) {
                const Four held = load_four(block.dw + corner + (int64)i * stride + j);
#pragma unroll
                for (int k = 0; k < 4; ++k) sums[i][j + k] = held.at[k];
            });
        const real *x_at = x + tile.row, *dz_at = dz + tile.unit;
#pragma unroll 8
        for (int r = 0; r < rows; ++r, x_at += x_pitch, dz_at += pitch) {
            const Four a = load_four(x_at);
            add_outer([&](const int i) { return a.at[i]; }, dz_at, sums);
        }
        if (steps)
            each_four(tile, fan_in, width, [&](const int i, const int j, const int columns) {
                take_four_steps<Rule>(block.w, block.slots, block.slot_stride, corner + (int64)i * stride + j, sums[i] + j,
                                      columns, numbers);
            });
        else
            each_four(tile, fan_in, width, [&](const int i, const int j, int) {
                const real* const g = sums[i] + j;
                store_four(block.dw + corner + (int64)i * stride + j, {{g[0], g[1], g[2], g[3]}});
            });
    }
}

// A step of a matrix along its whole gradient: `rows` rows of `width`, from `offset` on by stride. Of a vector rows is 1.
template <class Rule>
DEVICE void update(const Block& block, const int64 offset, const int rows, const int width, const int stride,
                   const real* numbers) {
#pragma unroll 1
    for (int i = threadIdx.x; i < rows * width; i += blockDim.x) {
        const int64 at = offset + (int64)(i / width) * stride + i % width;
        take_step<Rule>(block.w, block.slots, block.slot_stride, at, block.dw[at], numbers);
    }
}

// use(row, column, factor) for units (or features) of a chunk: 0 or scale, by random words that are a function of the
// place in the epoch's order, from `place` on. Words come for four places at a time.
template <class Use>
DEVICE void dropout_factors(const int64 place, const int rows, const int columns, const int64 threshold, const double scale,
                            const int64 key, const int64 epoch, const int layer, const Use& use) {
    const int64 from = place / 4, to = (place + rows + 3) / 4;
    const int fours = (int)(to - from);
    for (int i = threadIdx.x; i < fours * columns; i += blockDim.x) {
        const int four = i / columns, column = i - four * columns;
        uint64 words[4];
        dropout_words((uint64)(from + four), (uint64)epoch, (uint64)layer, (uint64)column, (uint64)key, words);
#pragma unroll
        for (int k = 0; k < 4; ++k) {
            const int64 r = 4 * (from + four) + k - place;
            if (r >= 0 && r < rows) use((int)r, column, words[k] >= (uint64)threshold ? (real)scale : (real)0);
        }
    }
}
