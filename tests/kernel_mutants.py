"""Mutants of the kernels: each barrier removed, each bound that protects memory weakened."""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib.resources import files

from recorded_launches import kernels_text

KERNELS = files("pmlp_np.backends.cupy").joinpath("kernels")
FILES = ("draw.cuh", "infer.cuh", "mean.cuh", "member.cuh", "passes.cuh", "train.cuh")
BARRIER = re.compile(r"__syncthreads\(\);|__syncthreads_or\((\w+)\)")


@dataclass(frozen=True)
class Mutant:
    """A kernel file with other text from `start` to `stop`. sanitizers: those that may notice, the likelier first."""

    name: str
    file: str
    start: int
    stop: int
    new: str
    sanitizers: tuple[str, ...] = ("thread",)

    def text(self, dtype: str) -> str:
        """The text of the kernels with the change."""
        whole, part = kernels_text(dtype), content(self.file)
        assert whole.count(part) == 1
        return whole.replace(part, part[: self.start] + self.new + part[self.stop :])


def content(file: str) -> str:
    return KERNELS.joinpath(file).read_text(encoding="utf-8")


def line_of(file: str, at: int) -> int:
    return content(file).count("\n", 0, at) + 1


def barriers() -> list[Mutant]:
    """A mutant without each barrier."""
    found = []
    for file in FILES:
        for match in BARRIER.finditer(content(file)):
            name = f"no barrier in line {line_of(file, match.start())} of {file}"
            found.append(Mutant(name, file, *match.span(), match[1] or ""))
    return found


def _mask(name: str, file: str, old: str, new: str, first: str = "thread") -> Mutant:
    whole = content(file)
    assert whole.count(old) == 1, (file, old)
    start = whole.index(old)
    other = "address" if first == "thread" else "thread"
    return Mutant(name, file, start, start + len(old), new, (first, other))


# name, file, a part of its text that occurs once, and what comes in its place. First what lets several threads write,
# or changes numbers alone.
_RACES = (
    ("blocks share their scratch", "member.cuh", "given.scratch + blockIdx.x * given.scratch_bytes", "given.scratch"),
    ("every block draws its queue's first", "draw.cuh", "m = job.queue[blockIdx.x]", "m = job.queue[0]"),
    ("all threads shuffle", "draw.cuh", "if (threadIdx.x == 0)\n", ""),
    ("weights beyond a tensor", "draw.cuh", "if (e >= count) break;", ""),
    ("all threads clear all", "draw.cuh",
     "for (int64 i = threadIdx.x; i < job.block_size[m]; i += blockDim.x) block",
     "for (int64 i = 0; i < job.block_size[m]; ++i) block"),
    ("all threads report an evaluation", "infer.cuh", "if (threadIdx.x == 0) job", "job"),
    ("all blocks of a mean add up the first rows", "mean.cuh",
     "row = (blockIdx.x - group * blocks) * blockDim.x + threadIdx.x", "row = threadIdx.x"),
    ("all threads divide totals", "member.cuh",
     "if (threadIdx.x == 0) {\n"
     "        const double total",
     "{\n"
     "        const double total"),
    ("dot products by neighbors too", "passes.cuh", "if (lane % SHARING == 0)\n", ""),
    ("the loss by all warps", "passes.cuh", "double* total) {\n    if (threadIdx.x >= 32) return;", "double* total) {"),
    ("the loss's total by all lanes", "passes.cuh", "if (r == 0) *total", "*total"),
    ("gradients of output biases by all lanes", "passes.cuh", "if (r == 0 && db)", "if (db)"),
    ("an evaluation's totals by all lanes", "passes.cuh", "if (r == 0) totals[i]", "totals[i]"),
    ("dropout before the chunk", "passes.cuh", "if (r >= 0 && r < rows) use", "if (r < rows) use"),
    ("scales by tasks outside", "train.cuh", "inside && n < l.padded", "n < l.padded"),
    ("scales' sums by tasks outside", "train.cuh", "if (inside && lane == 0) block", "if (lane == 0) block"),
    ("scales' sums by all lanes", "train.cuh", "if (inside && lane == 0) block", "if (inside) block"),
    ("the norm's factor by all lanes", "train.cuh", "if (threadIdx.x == 0) f.totals[1]", "f.totals[1]"),
    ("all threads enter what is best", "train.cuh",
     "if (threadIdx.x == 0) {\n"
     "        job.validation_loss",
     "{\n"
     "        job.validation_loss"),
    ("all threads reduce the rate", "train.cuh",
     "if (threadIdx.x != 0 || !job.plateau_patience",
     "if (!job.plateau_patience"),
    ("all threads draw the order", "train.cuh", "if (threadIdx.x == 0) shuffle", "shuffle"),
    ("all threads enter an epoch's loss", "train.cuh", "if (threadIdx.x == 0) job.loss[line]", "job.loss[line]"),
    ("all threads enter the progress", "train.cuh",
     "if (threadIdx.x == 0) {\n"
     "        job.epoch",
     "{\n"
     "        job.epoch"),
)  # fmt: skip
# Then what lets addresses out of their bounds. Left out is what harms no memory where it is weaker: padding whose
# gradients are zero, a sum that all warps form alike, a return before loops of no turns.
_BOUNDS = (
    ("one too many of a block is cleared", "draw.cuh", "i < job.block_size[m]", "i <= job.block_size[m]"),
    ("raw outputs of rows that are none", "infer.cuh", "i < rows * f.n_outputs", "i < CHUNK * f.n_outputs"),
    ("whole chunks of the last rows", "infer.cuh", "(int)min((int64)CHUNK, source.n - start)", "CHUNK"),
    ("rows of a mean beyond the last", "mean.cuh", "if (row >= n) return;", ""),
    ("members of a mean beyond the last", "mean.cuh",
     "min((group + 1) * MEAN_GROUP, job.n_summed)", "(group + 1) * MEAN_GROUP"),
    ("one layer too many", "member.cuh", "k <= depth; k += blockDim.x", "k <= depth + 1; k += blockDim.x"),
    ("one copy too many", "member.cuh", "i < n; i += WIDTH * blockDim.x", "i <= n; i += WIDTH * blockDim.x"),
    ("one zero too many", "member.cuh", "i < n; i += blockDim.x) to", "i <= n; i += blockDim.x) to"),
    ("activations larger than their room", "member.cuh", "clear(f.a, CHUNK * wide)", "clear(f.a, CHUNK * wide + 4)"),
    ("derivatives where there are none", "member.cuh", "if (f.d) clear(f.d", "clear(f.d"),
    ("one scaled weight too many", "member.cuh",
     "at < layer.fan_in * layer.stride",
     "at <= layer.fan_in * layer.stride"),
    ("rows beyond the last", "member.cuh", "i < rows << shift", "i < CHUNK << shift"),
    ("features beyond the last", "member.cuh",
     "c < f.features; c += WIDTH <<",
     "c < f.features + WIDTH; c += WIDTH <<"),
    ("targets of a chunk by all rows", "member.cuh", "i < rows * (int)job.n_targets", "i <= rows * (int)job.n_targets"),
    ("weights of rows beyond the last", "member.cuh",
     "r = threadIdx.x; r < rows; r += blockDim.x) f.weights",
     "r = threadIdx.x; r < CHUNK; r += blockDim.x) f.weights"),
    ("whole chunks evaluated", "member.cuh", "(int)min((int64)CHUNK, source.n - start)", "CHUNK"),
    ("a remainder of inputs as whole fours", "passes.cuh", "if (k < count) add_outer(", "add_outer("),
    ("tiles beyond a layer's units", "passes.cuh", "if (tile.unit >= width) continue;", ""),
    ("tiles of rows beyond a chunk", "passes.cuh",
     "down = (rows + 2 * TILE_ROWS - 1) / (2 * TILE_ROWS);\n"
     "    for (int number = threadIdx.x; number < 4 * across.quads * down; number += blockDim.x) {\n"
     "        const Tile tile = tile_of(number, across);\n"
     "        if (tile.unit >= width) continue;",
     "down = (rows + 2 * TILE_ROWS) / (2 * TILE_ROWS);\n"
     "    for (int number = threadIdx.x; number < 4 * across.quads * down; number += blockDim.x) {\n"
     "        const Tile tile = tile_of(number, across);\n"
     "        if (tile.unit >= width) continue;"),
    ("derivatives stored where there are none", "passes.cuh", "if (d) store_four", "store_four"),
    ("dot products with rows beyond the last", "passes.cuh", "min(from + j, n - 1)", "(from + j)"),
    ("dot products beyond the last", "passes.cuh", "r < rows && j < n) use", "r < rows) use"),
    ("raw outputs of a row too many", "passes.cuh",
     "i < rows * n_outputs; i += blockDim.x) {\n"
     "        const int r = i / n_outputs",
     "i < (CHUNK + 1) * n_outputs; i += blockDim.x) {\n"
     "        const int r = i / n_outputs"),
    ("rows of outputs, one too many", "passes.cuh", "i < rows * pitch", "i < (CHUNK + 1) * pitch"),
    ("outputs beyond the last by row", "passes.cuh",
     "out[i] = o < n_outputs ? block[o * CHUNK + r] : (real)0",
     "out[i] = block[o * CHUNK + r]"),
    ("a loss of rows beyond the chunk", "passes.cuh",
     "bool counts = r < rows;\n"
     "    const double weight = weight_of(targets, r, counts);\n"
     "    double row_loss",
     "bool counts = true;\n"
     "    const double weight = weight_of(targets, r, counts);\n"
     "    double row_loss"),
    ("an evaluation of rows beyond the chunk", "passes.cuh",
     "bool counts = r < rows;\n"
     "    const double weight = weight_of(targets, r, counts);\n"
     "    double values",
     "bool counts = true;\n"
     "    const double weight = weight_of(targets, r, counts);\n"
     "    double values"),
    ("sums of losses in lanes beyond the last", "passes.cuh",
     "const bool holds = r < LANES;\n"
     "    const double losses",
     "const bool holds = true;\n"
     "    const double losses"),
    ("sums of an evaluation in lanes beyond the last", "passes.cuh",
     "const bool holds = r < LANES;\n"
     "#pragma",
     "const bool holds = true;\n"
     "#pragma"),
    ("gradients of output biases where there are none", "passes.cuh", "if (r == 0 && db)", "if (r == 0)"),
    ("hidden biases where there are none", "passes.cuh", "if (hidden_db) hidden_db", "hidden_db"),
    ("one unit too many of the output layer", "passes.cuh",
     "n < width; n += blockDim.x) {\n"
     "        real total = first || ",
     "n <= width; n += blockDim.x) {\n"
     "        real total = first || "),
    ("rows of a unit beyond the chunk", "passes.cuh",
     "for (int r = 0; r < rows; ++r) {\n"
     "            real back",
     "for (int r = 0; r < CHUNK; ++r) {\n"
     "            real back"),
    ("one column too many of a hidden layer", "passes.cuh",
     "n < width; n += blockDim.x) {\n"
     "        real total = first ?",
     "n <= width; n += blockDim.x) {\n"
     "        real total = first ?"),
    ("gradients of tiles beyond the units", "passes.cuh",
     "if (tile.unit >= width || tile.row >= fan_in) continue;",
     "if (tile.row >= fan_in) continue;"),
    ("gradients of tiles beyond the inputs", "passes.cuh",
     "if (tile.unit >= width || tile.row >= fan_in) continue;",
     "if (tile.unit >= width) continue;"),
    ("gradients and steps of inputs beyond the last", "passes.cuh",
     "if (tile.row + i < fan_in && tile.unit + j < width) use",
     "if (tile.unit + j < width) use"),
    ("gradients of a row too many", "passes.cuh",
     "for (int r = 0; r < rows; ++r, x_at",
     "for (int r = 0; r <= rows; ++r, x_at"),
    ("one step too many", "passes.cuh", "i < rows * width; i += blockDim.x", "i <= rows * width; i += blockDim.x"),
    ("dropout behind the chunk", "passes.cuh", "if (r >= 0 && r < rows) use", "if (r >= 0) use"),
    ("numbers of steps beyond the last", "train.cuh", "i < count * f.n_inputs", "i < (count + 1) * f.n_inputs"),
    ("numbers of more steps than fit", "train.cuh", "(int)min((int64)STEPS, batches - done)", "(int)(batches - done)"),
    ("one strand of the norm too many", "train.cuh",
     "strand < NORM_STRANDS; strand +=",
     "strand <= NORM_STRANDS; strand +="),
    ("squares of biases where there are none", "train.cuh", "if (l.bias >= 0) sum", "sum"),
    ("a gradient's last number twice", "train.cuh",
     "i < f.block_size; i += blockDim.x) block.dw",
     "i <= f.block_size; i += blockDim.x) block.dw"),
    ("steps of biases where there are none", "train.cuh", "if (l.bias >= 0) update", "update"),
    ("steps of scales where there are none", "train.cuh", "if (scales) update", "update"),
    ("an average of too much", "train.cuh",
     "i < f.block_size; i += blockDim.x)\n"
     "            average",
     "i <= f.block_size; i += blockDim.x)\n"
     "            average"),
    ("column sums where there are no biases", "train.cuh", "if (below.bias >= 0) column_sums", "column_sums"),
    ("whole chunks of the last minibatch", "train.cuh", "(int)min((int64)CHUNK, count - done)", "CHUNK"),
    ("no end of the parameters", "train.cuh",
     "i < f.block_size; i += blockDim.x) infinite",
     "i <= f.block_size; i += blockDim.x) infinite"),
    ("best weights of all members", "train.cuh",
     "if (better) copy(job.best + job.block_offset[m]",
     "if (better) copy(job.best"),
    ("slots where there are none", "train.cuh",
     "Rule::n_slots() * f.block_size);\n"
     "    clear",
     "(Rule::n_slots() + 1) * f.block_size);\n"
     "    clear"),
    ("gradients of a whole chunk too many", "train.cuh",
     "clear(kept, f.block_size - kept_from)",
     "clear(kept, f.block_size - kept_from + 4)"),
    ("minibatches beyond the last row", "train.cuh", "min(batch, n - done * batch)", "batch"),
)  # fmt: skip


def masks() -> list[Mutant]:
    return [*(_mask(*row) for row in _RACES), *(_mask(*row, first="address") for row in _BOUNDS)]
