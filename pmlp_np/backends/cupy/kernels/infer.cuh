// Evaluation and raw outputs of members, one thread block each. Launch: a block per entry of the queue. Traffic: parameters
// once, rows once for each member (from L2).

template <bool S> DEVICE void evaluate(const Job& job, char* shared) {
    const int64 m = job.queue[blockIdx.x];
    const Frame<S> f(job, shared, m);
    fetch_member(f);
    __syncthreads();
    scale_features(f);                               // read behind the barrier that rows need, too
    evaluate_rows(f, source_of(job, m, 0));
    if (threadIdx.x == 0) job.loss[m] = f.totals[0], job.score[m] = f.totals[1];
}

// To the member's place of the result, (members, rows, outputs).
template <bool S> DEVICE void predict(const Job& job, char* shared) {
    const int64 m = job.queue[blockIdx.x];
    const Frame<S> f(job, shared, m);
    fetch_member(f);
    __syncthreads();
    scale_features(f);                               // read behind the barrier that rows need, too
    const int64 n = source_of(job, m, 0).n;
    real* const out = job.out + job.place[m] * n * f.n_outputs;
    for (int64 start = 0; start < n; start += CHUNK) {
        const Source source = source_of(job, m, 0);      // read again: fourteen registers less from chunk to chunk
        const int rows = (int)min((int64)CHUNK, source.n - start);
        fetch_rows(f, source, start, rows);
        __syncthreads();
        forward_chunk(f, rows, false, 0, 0);
        for (int i = threadIdx.x; i < rows * f.n_outputs; i += blockDim.x) {
            const int r = i / f.n_outputs, o = i - r * f.n_outputs;
            out[(start + r) * f.n_outputs + o] = f.raw[o * CHUNK + r];
        }
    }
}

#define INFER_KERNEL(task, memory, all_shared, threads)                                                                 \
    extern "C" __global__ void __launch_bounds__(threads) task##_##memory(JOBS) {                                       \
        DYNAMIC_SHARED(shared);                                                                                         \
        task<all_shared>(jobs.job, shared);                                                                             \
    }
