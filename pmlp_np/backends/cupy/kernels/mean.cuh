// Sums over members of a part of their raw outputs, in float64: the members of a group one after another, as the CPU adds.
// Shapes: out (members, rows, outputs), n_summed of them; sums (groups, parts, rows), to which it adds. Launch: a thread
// for each row of a group, blocks of a group side by side. Shared memory: none. Traffic: raw outputs and sums once.
template <class Part> DEVICE void add_parts(const Job& job) {
    const int64 n = job.sums_rows, blocks = (n + blockDim.x - 1) / blockDim.x;
    const int64 group = blockIdx.x / blocks, row = (blockIdx.x - group * blocks) * blockDim.x + threadIdx.x;
    if (row >= n) return;
    const int64 outputs = job.n_outputs, stop = min((group + 1) * MEAN_GROUP, job.n_summed);
    double* const sums = job.sums + group * Part::count(outputs) * n + row;
    for (int64 k = group * MEAN_GROUP; k < stop; ++k) Part::add(job.out + (k * n + row) * outputs, outputs, sums, n);
}

#define MEAN_KERNEL(part, threads)                                                                                      \
    extern "C" __global__ void __launch_bounds__(threads) mean_##part(JOBS) { add_parts<part_##part>(jobs.job); }
