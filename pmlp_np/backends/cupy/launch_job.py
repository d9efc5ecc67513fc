"""The job: the arguments of a kernel, a record of 64-bit fields.

Its fields are listed here once; the C++ struct and the NumPy dtype are made of the list. Tables are indexed by member,
layer or code, as PoolLayout, Plan and Progress have them; a null address is a table that nobody needs.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from pmlp_np.backends.contract import MEAN_GROUP, MEMBER_ORDER
from pmlp_np.backends.cupy.device import Device, on_device
from pmlp_np.formulas.options import OPTIONS, SCHEDULE_AT, WARMUP_AT
from pmlp_np.formulas.regularizers import NORM_STRANDS
from pmlp_np.state.progress import DIVERGED, READY, STOPPED_EARLY
from pmlp_np.state.step_inputs import MOST_SHARED_ROWS

# Steps whose numbers are derived at once, and the words of a view (see `sources`).
STEPS, VIEW_WORDS = 16, 7
# Rows that a thread block works on at once: those of a warp. Bytes of a struct Layer (kernels/member.cuh), and of a
# thread's widest load: rows of features, and what lies in a block's memory, begin at multiples of them.
CHUNK, LAYER_BYTES, LOAD_BYTES = 32, 48, 16

# Columns that a launch changes, int64 and float64: of Progress, and of EpochRecord.
WHOLE_COLUMNS = ("epoch", "minibatch", "step", "status", "plateau_wait", "best_epoch", "waits_from", "due")
REAL_COLUMNS = ("loss_sum", "rate_factor", "plateau_loss", "best_value")

_WHOLE, _REAL = "const int64*", "const double*"
JOB_FIELDS: dict[str, str] = {
    # The queue: members, largest first; of results their places.
    "queue": _WHOLE, "place": _WHOLE,
    # Memory of a thread block: see `regions`.
    "scratch": "char*", "scratch_bytes": "int64", "regions": _WHOLE, "in_shared": "int64",
    # What members see of the data: see `sources`.
    "views": _WHOLE, "view_of": _WHOLE, "epoch_views": "int64", "y_stride": "int64", "n_targets": "int64",
    "targets": _WHOLE, "weight_of": _WHOLE, "weight_mean": _REAL, "shuffle": "int64",
    # Sums over members: see kernels/mean.cuh.
    "sums": "double*", "sums_rows": "int64", "n_summed": "int64",
    # Results. Records are (epochs, members), by record_stride.
    "out": "real*", "loss": "double*", "score": "double*", "validation_loss": "double*", "validation_score": "double*",
    "round_start": _WHOLE, "limit": _WHOLE, "record_stride": "int64",
    # What follows an epoch: see `state.epoch_rule`.
    "has_rule": "int64", "early_stopping": "int64", "patience": "int64", "min_delta": "double", "by_score": "int64",
    "score_grows": "int64", "plateau_patience": _REAL, "plateau_factor": _REAL,
    # Where parameters lie.
    "n_outputs": "int64", "parameters": "real*", "slots": "real*", "best": "real*", "averages": "real*",
    "first_layer": _WHOLE, "fan_in": _WHOLE, "fan_out": _WHOLE, "row_stride": _WHOLE, "vectors": _WHOLE,
    "stride_in": _WHOLE, "stride_out": _WHOLE, "weight_offset": _WHOLE, "bias_offset": _WHOLE, "scale_offset": _WHOLE,
    "activation": _WHOLE, "block_offset": _WHOLE, "block_size": _WHOLE, "slot_offset": _WHOLE, "gradient_start": _WHOLE,
    # What members are.
    "stream_key": _WHOLE, "batch_size": _WHOLE, "fit_epochs": _WHOLE, "hyperparameters": _REAL, "options": _REAL,
    "input_factors": _REAL, "first_input": _WHOLE, "input_count": _WHOLE, "dropout": _REAL, "input_dropout": _REAL,
    "dropout_threshold": _WHOLE, "dropout_scale": _REAL, "input_dropout_threshold": _WHOLE,
    "input_dropout_scale": _REAL, "clip_norm": _REAL, "average": _REAL,
    # Drawing: distributions and scales of initial weights; orders of rows.
    "distribution": _WHOLE, "weight_scale": _REAL, "bias_scale": _REAL, "order_keys": _WHOLE, "order_epochs": _WHOLE,
    "order_lengths": _WHOLE, "order_offsets": _WHOLE, "orders": "int64*",
    **dict.fromkeys(WHOLE_COLUMNS, "int64*"), **dict.fromkeys(REAL_COLUMNS, "double*"),
}  # fmt: skip
JOB = np.dtype([(name, np.float64 if kind == "double" else np.int64) for name, kind in JOB_FIELDS.items()])
# The argument of a kernel: a job, and that of the evaluations that take turns with it.
JOBS = np.dtype([("job", JOB), ("evaluation", JOB)])

# Parts of a thread block's memory: see kernels/member.cuh.
REGIONS = (
    "LAYERS", "TOTALS", "LANE_SUMS", "NORM_SUMS", "BIAS_LANE_SUMS", "STEP_NUMBERS", "ROW_WEIGHTS", "TARGETS",
    "RAW_OUTPUTS", "OUTPUT_DZ", "OUTPUT_ROWS", "FEATURES", "UNITS", "DERIVATIVES", "BLOCK", "GRADIENT",
    "SCALED_WEIGHTS", "SLOTS", "ORDER",
)  # fmt: skip


def job_text() -> str:
    """Render the struct `Job`, the enum of regions, and the constants that host and kernels share."""
    fields = [f"    {kind} {name};" for name, kind in JOB_FIELDS.items()]
    numbers = {
        "CHUNK": CHUNK, "LAYER_BYTES": LAYER_BYTES, "LOAD_BYTES": LOAD_BYTES, "STEPS": STEPS, "VIEW_WORDS": VIEW_WORDS,
        "MEAN_GROUP": MEAN_GROUP, "MEMBER_ORDER": MEMBER_ORDER, "READY": READY, "DIVERGED": DIVERGED,
        "STOPPED_EARLY": STOPPED_EARLY, "MOST_SHARED_ROWS": MOST_SHARED_ROWS, "NORM_STRANDS": NORM_STRANDS,
        "SCHEDULE_AT": SCHEDULE_AT, "WARMUP_AT": WARMUP_AT,
        "PARAMETRIZATION_AT": list(OPTIONS).index("parametrization"),
    }  # fmt: skip
    constants = [f"constexpr int {name} = {value};" for name, value in numbers.items()]
    types = ["struct Job {", *fields, "};", "struct Jobs { Job job, evaluation; };"]
    return "\n".join([*types, f"enum Region {{ {', '.join(REGIONS)} }};", *constants]) + "\n"


class JobBuilder:
    """A job under construction. It holds references to the arrays whose addresses it contains."""

    def __init__(self, device: Device, base: JobBuilder | None = None) -> None:
        self.device = device
        self._record: np.ndarray = np.zeros((), JOB) if base is None else base._record.copy()
        self._alive: list[Any] = [base]

    def put(self, **fields: Any) -> JobBuilder:
        """Set fields; return the builder.

        Values: numbers; NumPy arrays, which are copied to the device; arrays of the device; None for a null address.
        """
        for name, value in fields.items():
            if isinstance(value, np.ndarray) and value.ndim:
                value = on_device(self.device, value)
            if value is not None and hasattr(value, "shape") and value.shape != ():
                self._alive.append(value)
                value = self.device.address(value)
            self._record[name] = 0 if value is None else value
        return self

    def built(self, evaluation: JobBuilder | None = None) -> np.ndarray:
        """Return the job, and the job of validation after each epoch (zeros: none), as an array (1,) of JOBS."""
        jobs = np.zeros(1, JOBS)
        jobs["job"] = self._record
        if evaluation is not None:
            jobs["evaluation"] = evaluation._record
            self._alive.append(evaluation)
        return jobs
