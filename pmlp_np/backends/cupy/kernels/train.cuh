// Training of members, one thread block each: up to job.limit epochs, with what follows each (state/epoch_rule.py).
//
// Launch: a block per entry of the queue. Traffic: parameters and slots once each way, rows once an epoch.

// Numbers of the steps from `done` on, of as many as fit, at most up to the end of the epoch: learning rates by the
// schedule, then what the rule derives. A thread per step and row of inputs.
template <class Rule, bool S>
DEVICE void step_numbers(const Frame<S>& f, const int64 epoch, const int64 done, const int64 batches, const int64 step, real* numbers) {
    const Job& job = f.job;
    const int64 m = f.m;
    const int count = (int)min((int64)STEPS, batches - done);
    const double* const factors = job.input_factors + job.first_input[m] * N_STEP_INPUTS;
    const double* const options = job.options ? job.options + m * N_OPTIONS : nullptr;
    for (int i = threadIdx.x; i < count * f.n_inputs; i += blockDim.x) {
        const int s = i / f.n_inputs, row = i - s * f.n_inputs;
        double inputs[N_STEP_INPUTS];
        for (int k = 0; k < N_STEP_INPUTS; ++k) {
            double value = factors[row * N_STEP_INPUTS + k];
            if (k < N_HYPERPARAMETERS) value = value * job.hyperparameters[m * N_HYPERPARAMETERS + k];
            if (k == LEARNING_RATE) value = value * job.rate_factor[m];
            inputs[k] = value;
        }
        if (options && (options[SCHEDULE_AT] != 0.0 || options[WARMUP_AT] != 0.0))
            inputs[LEARNING_RATE] = inputs[LEARNING_RATE] * schedule_factor((int)options[SCHEDULE_AT], options, epoch,
                                                                            done + s, batches, job.fit_epochs[m]);
        Rule::scalars(inputs, step + s + 1, numbers + (s * f.n_inputs + row) * MOST_NUMBERS);
    }
}

// From the gradient by scales[i] w[i, n] those by both: dscales[i] = sum over n of w dw, one sum per lane, a halving tree;
// dw[i, n] *= scales[i].
template <bool S> DEVICE void scales_backward(const Frame<S>& f, const Block& block) {
    const Layer l = f.layer_at(0);
    const int64 scales = f.job.scale_offset[f.m];
    by_lanes(l.fan_in, [&](const int task, const int lane) {
        const bool inside = task < l.fan_in;
        real total = 0;
        for (int n = lane; inside && n < l.padded; n += LANES) {
            const int64 at = l.weights + (int64)task * l.stride + n;
            const real g = n < l.fan_out ? block.dw[at] : (real)0;
            total = multiply_add(block.w[at], g, total);
            if (n < l.fan_out) block.dw[at] = block.w[scales + task] * g;
        }
        total = folded(total);
        if (inside && lane == 0) block.dw[scales + task] = total;
    });
}

// Squares of a gradient's tensor, added to a sum of a lane and a strand, to which rows go in turns.
DEVICE double added_squares(const real* dw, const int rows, const int width, const int stride, const double factor,
                            const int strand, double sum) {
    const int lane = threadIdx.x % LANES;
#pragma unroll 1
    for (int r = strand; r < rows; r += NORM_STRANDS)
#pragma unroll 1
        for (int n = lane; n < (width + LANES - 1) / LANES * LANES; n += LANES) {
            const double x = (n < width ? (double)dw[(int64)r * stride + n] : 0.0) * factor;
            sum = fma(x, x, sum);
        }
    return sum;
}

// The halving tree over N numbers that lie LANES apart.
template <int N> DEVICE double halved(const double* at) {
    double sums[N];
#pragma unroll
    for (int i = 0; i < N; ++i) sums[i] = at[i * LANES];
#pragma unroll
    for (int half = N / 2; half > 0; half /= 2)
#pragma unroll
        for (int i = 0; i < half; ++i) sums[i] = sums[i] + sums[i + half];
    return sums[0];
}

// Scales a gradient whose L2 norm is above the member's clip_norm.
template <bool S> DEVICE void clip(const Frame<S>& f, const Block& block, const bool divided) {
    double* const squares = f.memory.template at<double>(NORM_SUMS);
#pragma unroll 1
    for (int strand = threadIdx.x / LANES; strand < NORM_STRANDS; strand += blockDim.x / LANES) {
        double sum = 0;
#pragma unroll 1
        for (int k = 0; k <= f.depth; ++k) {
            const Layer l = f.layer_at(k);
            const bool turned = f.depth > 0 && k == f.depth;
            const double factor = divided ? 1.0 / sqrt((double)l.fan_in) : 1.0;
            sum = added_squares(block.dw + l.weights, turned ? l.fan_out : l.fan_in, turned ? l.fan_in : l.fan_out, l.stride,
                                factor, strand, sum);
            if (l.bias >= 0) sum = added_squares(block.dw + l.bias, 1, l.fan_out, 0, 1.0, strand, sum);
        }
        if (f.has_scales()) sum = added_squares(block.dw + f.job.scale_offset[f.m], 1, f.features, 0, 1.0, strand, sum);
        squares[strand * LANES + threadIdx.x % LANES] = sum;
    }
    __syncthreads();
    if (threadIdx.x < 32) {
        const double factor = clip_factor(sqrt(folded(halved<NORM_STRANDS>(squares + threadIdx.x % LANES))), f.job.clip_norm[f.m]);
        if (threadIdx.x == 0) f.totals[1] = factor;
    }
    __syncthreads();
    const double factor = f.totals[1];
    if (factor < 1.0) {
        const real by = (real)factor;
#pragma unroll 1
        for (int64 i = threadIdx.x; i < f.block_size; i += blockDim.x) block.dw[i] = block.dw[i] * by;
    }
    __syncthreads();
}

// The step of all that takes none in passing, and averages; see program/updates.py of the Numba backend.
template <class Rule, bool S>
DEVICE void finish_step(const Frame<S>& f, const Block& block, const bool clips, const real* numbers, const int64 step) {
    const Job& job = f.job;
    const int64 m = f.m;
    const bool scales = f.has_scales(), layered = f.n_inputs > MOST_SHARED_ROWS;
    const auto row_of = [&](const int k) { return layered ? 2 * k : 0; };
    if (scales) {
        scales_backward(f, block);
        __syncthreads();
    }
    if (clips) clip(f, block, job.options && job.options[m * N_OPTIONS + PARAMETRIZATION_AT] != 0.0);
    for (int k = 0; k <= f.depth; ++k) {
        const Layer l = f.layer_at(k);
        if (clips || (scales && k == 0)) {
            const bool turned = f.depth > 0 && k == f.depth;
            update<Rule>(block, l.weights, turned ? l.fan_out : l.fan_in, turned ? l.fan_in : l.fan_out, l.stride,
                         numbers + row_of(k) * MOST_NUMBERS);
        }
        if (l.bias >= 0) update<Rule>(block, l.bias, 1, l.fan_out, 0, numbers + (row_of(k) + 1) * MOST_NUMBERS);
    }
    if (scales) update<Rule>(block, job.scale_offset[m], 1, f.features, 0, numbers + (f.n_inputs - 1) * MOST_NUMBERS);
    __syncthreads();
    if (job.average && job.average[m] > 0.0) {
        const real decay = (real)job.average[m], rest = (real)(1.0 - job.average[m]);
        real* const average = job.averages + job.block_offset[m];
#pragma unroll 1
        for (int64 i = threadIdx.x; i < f.block_size; i += blockDim.x)
            average[i] = step == 1 ? f.block[i] : averaged(average[i], f.block[i], decay, rest);
    }
    scale_features(f);
}

// Gradients of a chunk, from that of the loss by raw outputs; with the last chunk weights take their step, each layer's
// after its old weights have passed the gradient on.
template <class Rule, bool S>
DEVICE void backward_chunk(const Frame<S>& f, const Block& block, const int rows, const bool first, const bool last,
                           const bool clips, const real* numbers) {
    const bool layered = f.n_inputs > MOST_SHARED_ROWS;
    const auto of_layer = [&](const int k) { return numbers + (layered ? 2 * k : 0) * MOST_NUMBERS; };
    const bool steps = last && !clips, first_steps = steps && !f.has_scales();
    const Layer output = f.layer_at(f.depth);
    int k = max(f.depth - 1, 0);
    Layer l = f.layer_at(k);
    int pitch = f.depth > 0 ? Frame<S>::pitch_of(l) : l.stride;
    int64 before = 0;
    for (int j = 0; j < k; ++j) before += CHUNK * Frame<S>::pitch_of(f.layer_at(j));
    // dz of layer k.
    real* dz = f.depth > 0 ? f.d + before : f.output_rows;
    if (f.depth > 0)
        output_backward<Rule>(f.a + before, dz, pitch, f.dz, f.n_outputs, l.fan_out, rows, first, steps, block, output.weights,
                              output.stride, of_layer(f.depth), l.bias < 0 ? nullptr : block.dw + l.bias);
    else
        by_row(f.dz, f.n_outputs, rows, dz, pitch);
    __syncthreads();
    for (;; --k) {
        const Layer below = f.layer_at(max(k - 1, 0));
        const int below_pitch = k > 0 ? Frame<S>::pitch_of(below) : f.x_pitch;
        if (k > 0) {
            before -= CHUNK * below_pitch;
            hidden_backward(dz, pitch, block.w + l.weights, l.stride, l.padded, l.fan_in, rows, f.d + before, below_pitch);
            __syncthreads();
        }
        weights_backward<Rule>(k > 0 ? f.a + before : f.x, below_pitch, dz, pitch, l.fan_in, l.fan_out, l.across, rows, first,
                               k > 0 ? steps : first_steps, block, l.weights, l.stride, of_layer(k));
        if (k == 0) return;
        dz = f.d + before;
        if (below.bias >= 0) column_sums(dz, below_pitch, below.fan_out, rows, first, block.dw + below.bias);
        l = below, pitch = below_pitch;
    }
}

// A minibatch: rows start ... start + count of the source, as step number `step` (from 1). Returns the mean loss before it.
template <class Rule, bool S>
DEVICE double minibatch(const Frame<S>& f, const Block& block, const Source& source, const int64 start, const int64 count,
                        const int64 epoch, const int64 step, const real* numbers) {
    const Job& job = f.job;
    const bool clips = job.clip_norm && job.clip_norm[f.m] > 0.0;
    const bool drops_inputs = job.input_dropout && job.input_dropout[f.m] > 0.0;
    const Layer output = f.layer_at(f.depth);
    real* const db = output.bias < 0 ? nullptr : block.dw + output.bias;
    for (int64 done = 0; done < count; done += CHUNK) {
        const int rows = (int)min((int64)CHUNK, count - done);
        const bool first = done == 0, last = done + rows >= count;
        fetch_rows(f, source, start + done, rows);
        __syncthreads();
        if (drops_inputs) {
            dropout_factors(start + done, rows, f.features, job.input_dropout_threshold[f.m], job.input_dropout_scale[f.m],
                            job.stream_key[f.m], epoch, 0, [&](const int r, const int c, const real factor) {
                                f.x[r * f.x_pitch + c] = f.x[r * f.x_pitch + c] * factor;
                            });
            __syncthreads();
        }
        forward_chunk(f, rows, true, start + done, epoch);
        loss(targets_of(f, source), f.raw, f.dz, f.n_outputs, rows, first, last, 1.0 / (double)count,
             f.memory.template at<real>(BIAS_LANE_SUMS), f.sums, db, f.totals);
        __syncthreads();
        backward_chunk<Rule>(f, block, rows, first, last, clips, numbers);
        __syncthreads();
    }
    finish_step<Rule>(f, block, clips, numbers, step);
    return f.totals[0] / (double)count;              // written again behind barriers of the next chunk
}

// Whether any of the parameters is no finite number: the same for all threads.
template <bool S> DEVICE bool any_infinite(const Frame<S>& f) {
    int infinite = 0;
    for (int64 i = threadIdx.x; i < f.block_size; i += blockDim.x) infinite |= !is_finite(f.block[i]);
    return __syncthreads_or(infinite) != 0;
}

// What follows an epoch, as in state/epoch_rule.py: validation, the best weights, early stopping. Returns the loss by which
// plateaus go; changes the status.
template <bool S> DEVICE double validate(const Frame<S>& f, const Job& evaluation, const int64 epoch, const int64 line, int& status) {
    const Job& job = f.job;
    const int64 m = f.m;
    // The same member, other rows.
    const Frame<S> seen(evaluation, f.memory.shared, m);
    evaluate_rows(seen, source_of(evaluation, m, 0));
    const double loss = f.totals[0], score = f.totals[1];
    double value = loss;
    if (job.by_score && loss == loss) value = job.score_grows ? -score : score;
    const bool tracked = job.early_stopping || job.best_epoch[m] >= 0;
    const bool better = tracked && value < job.best_value[m] - job.min_delta;
    if (better) copy(job.best + job.block_offset[m], f.block, f.block_size);
    else if (job.early_stopping && epoch - max(job.waits_from[m], (int64)0) >= job.patience) status = STOPPED_EARLY;
    __syncthreads();                                 // all threads have read what the first one writes
    if (threadIdx.x == 0) {
        job.validation_loss[line] = loss, job.validation_score[line] = score;
        if (better) job.best_value[m] = value, job.best_epoch[m] = epoch, job.waits_from[m] = epoch;
    }
    return loss;
}

// Multiply a member's learning rate by its plateau_factor where its loss has not fallen for long; by the first thread.
template <bool S> DEVICE void reduce_rate(const Frame<S>& f, const double loss) {
    const Job& job = f.job;
    const int64 m = f.m;
    if (threadIdx.x != 0 || !job.plateau_patience || !(job.plateau_patience[m] > 0.0)) return;
    int64 wait = 0;
    if (loss < job.plateau_loss[m]) job.plateau_loss[m] = loss;
    else wait = job.plateau_wait[m] + 1;
    if ((double)wait >= job.plateau_patience[m]) {
        job.rate_factor[m] = job.rate_factor[m] * job.plateau_factor[m];
        wait = 0;
    }
    job.plateau_wait[m] = wait;
}

template <class Rule, bool S> DEVICE void train(const Job& job, const Job& evaluation, char* shared) {
    const int64 m = job.queue[blockIdx.x];
    const Frame<S> f(job, shared, m);
    const bool slots_move = f.memory.regions[SLOTS] >= 0;
    real* const slots = slots_move ? f.memory.template at<real>(SLOTS) : job.slots + job.slot_offset[m];
    // The block's memory has gradients from here on: see `regions.gradient_starts`.
    const int64 kept_from = job.gradient_start[m];
    real* const kept = f.memory.template at<real>(GRADIENT);
    const Block block = {f.block, kept ? kept - kept_from : nullptr, slots, f.block_size};
    real* const numbers = f.memory.template at<real>(STEP_NUMBERS);
    fetch_member(f);
    if (slots_move) copy(slots, job.slots + job.slot_offset[m], Rule::n_slots() * f.block_size);
    clear(kept, f.block_size - kept_from);
    __syncthreads();
    scale_features(f);

    int64 epoch = job.epoch[m], done = job.minibatch[m], step = job.step[m];
    double loss_sum = job.loss_sum[m];
    int status = READY;
    // What an epoch reads once is read from the job again: registers are scarce.
    const int64 batch = job.batch_size[m];
    const int64 n = source_of(job, m, 0).n, batches = (n + batch - 1) / batch;
    while (epoch < job.limit[m] && status == READY) {
        if (job.shuffle == MEMBER_ORDER) {
            if (threadIdx.x == 0) shuffle(job.stream_key[m], epoch, f.memory.template at<int64>(ORDER), n);
            __syncthreads();
        }
        int64 numbered = done, known = done;         // steps between these have their numbers
        double last = 0;
        bool healthy = true;
        while (healthy && done < batches) {
            if (done == known) {
                step_numbers<Rule>(f, epoch, done, batches, step, numbers);
                numbered = done, known = min(done + STEPS, batches);
            }
            Source source = source_of(job, m, epoch - job.round_start[m]);
            if (job.shuffle == MEMBER_ORDER) source.order = f.memory.template at<int64>(ORDER);
            step += 1;
            last = minibatch<Rule>(f, block, source, done * batch, min(batch, n - done * batch), epoch, step,
                                   numbers + (done - numbered) * f.n_inputs * MOST_NUMBERS);
            done += 1, loss_sum += last;
            healthy = is_finite(last);
        }
        const int64 line = (epoch - job.round_start[m]) * job.record_stride + m;
        if (threadIdx.x == 0) job.loss[line] = loss_sum / (double)done;
        if (!healthy) {
            status = DIVERGED;
            break;
        }
        double mean = loss_sum / (double)batches;
        epoch += 1, done = 0, loss_sum = 0;
        if (any_infinite(f)) status = DIVERGED;
        else if (job.has_rule) {
            if (evaluation.views) mean = validate(f, evaluation, epoch - 1, line, status);
            reduce_rate(f, mean);
            __syncthreads();                         // before rates are read again
        }
    }
    if (f.keeps_block) copy(job.parameters + job.block_offset[m], f.block, f.block_size);
    if (slots_move) copy(job.slots + job.slot_offset[m], slots, Rule::n_slots() * f.block_size);
    if (threadIdx.x == 0) {
        job.epoch[m] = epoch, job.minibatch[m] = done, job.step[m] = step, job.loss_sum[m] = loss_sum;
        job.status[m] = status;
        if (job.has_rule) job.due[m] = 0;
    }
}

#define TRAIN_KERNEL(rule, memory, all_shared, threads, blocks)                                                         \
    extern "C" __global__ void __launch_bounds__(threads, blocks) train_##rule##_##memory(JOBS) {                       \
        DYNAMIC_SHARED(shared);                                                                                         \
        train<rule_##rule, all_shared>(jobs.job, jobs.evaluation, shared);                                             \
    }
