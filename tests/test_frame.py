"""The frame of the Numba backend: a member's arrays in a slot's scratch have room, don't overlap, and stay inside."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import pmlp_np as pm
from pmlp_np.backends.numba.compiling import kernel
from pmlp_np.backends.numba.frame import PROGRAM_AT, Frame, frame_of, scratch_bytes
from pmlp_np.backends.numba.intrinsics import set_items
from pmlp_np.backends.numba.job import EVALUATE, TRAIN, JobBuilder
from pmlp_np.backends.numba.program.instructions import INSTRUCTION_BYTES
from pmlp_np.backends.numba.program.team import Team
from pmlp_np.backends.numba.program.writing import write_program
from pmlp_np.backends.numba.views import DataViews
from pmlp_np.data.dataset import Dataset
from pmlp_np.data.encoded import EncodedTable, Encoding
from pmlp_np.formulas.optimizers import STEP_INPUTS
from varied_pool import varied_members

N_FEATURES, N_OUTPUTS = 5, 3
# The regions of a frame, in order.
REGIONS = Frame._fields[Frame._fields.index("program") :]
WORD, LINE = 8, 64


@kernel(entry=True)
def _frame(jobs, m, at):
    set_items(at, frame_of(jobs[0], 0, m))


@kernel(entry=True)
def _write_program(jobs, m):
    return write_program(jobs[0], Team(0, 0, 1), m, 1).end


def pool_of(dtype: str, members: list[pm.Member] | None = None) -> pm.Pool:
    members = varied_members() if members is None else members
    return pm.Pool(members, n_features=N_FEATURES, n_outputs=N_OUTPUTS, loss="cross_entropy", dtype=dtype)


def scratch_and_job(
    backend: Any, task: int, views: DataViews | None = None
) -> tuple[np.ndarray, JobBuilder, np.ndarray]:
    """A block of scratch, and a job of all members that has it, and reads these views."""
    everybody = np.arange(backend.plan.n_members)
    scratch = backend.runner.new_scratch(backend.runner.scratch_items([views], everybody))
    progress = {"rate_factor": np.ones(len(everybody)), "fit_epochs": np.ones(len(everybody), np.int64)}
    template = backend.runner.templates.template(task, everybody, encodes=views is not None)
    job = JobBuilder(template).put(
        parameters=backend.store.parameters, scratch=np.array([scratch.ctypes.data]), **progress
    )
    if views is not None:
        job.put(**views.job_fields())
    return scratch, job, job.build()


def encoded_views(backend: Any) -> DataViews:
    """Views of a table with encoded columns, one of which has one bin."""
    bins = (1, 3)
    numbers = np.zeros((4, N_FEATURES - sum(bins) + 2 * len(bins)), backend.plan.dtype)
    table = EncodedTable.checked(numbers, Encoding(N_FEATURES - sum(bins), tuple(np.zeros(n) for n in bins)))
    views: DataViews = backend.place(Dataset([table])).in_order
    return views


def frames(backend: Any, views: DataViews | None = None) -> list[dict[str, int]]:
    """Of each member the frame; addresses from the start of the scratch."""
    scratch, job, jobs = scratch_and_job(backend, TRAIN, views)
    words, found = np.zeros(len(Frame._fields), np.int64), []
    for m in range(backend.plan.n_members):
        _frame(jobs, m, words.ctypes.data)
        values = dict(zip(Frame._fields, words.tolist(), strict=True))
        found.append(values | {name: values[name] - scratch.ctypes.data for name in REGIONS})
    assert job is not None
    return found


def needed(backend: Any, m: int, rows: int, encodes: bool = False) -> dict[str, int]:
    """The bytes of each region, from what is written there."""
    # Of a column of one bin and one of three: sums, and rows of zeros.
    # Where features drop out, the inputs are read one by one.
    drops = backend.plan.specs.option("input_dropout")[m] > 0.0
    table_rows = (2 + 2 + 4 + 2) if encodes and not drops else 0
    layout, size = backend.layout, backend.plan.dtype.itemsize
    layers = slice(int(layout.first_layer[m]), int(layout.first_layer[m + 1]))
    strides, features = layout.row_stride[layers], int(layout.fan_in[layers][0])
    outputs = -(-N_OUTPUTS // layout.lanes) * layout.lanes
    hidden, widest = int(strides[:-1].sum()), max(int(strides.max()), outputs)
    n_inputs = int(backend.runner.templates._inputs.count[m])
    per_output = outputs * rows * size
    return {
        "raw": per_output, "dz": per_output, "targets": per_output, "row_major": per_output,
        "zeros": widest * size, "unused": widest * size, "numbers": n_inputs * LINE,
        "inputs": n_inputs * WORD * len(STEP_INPUTS), "rates": n_inputs * WORD, "lane_sums": outputs * LINE,
        "gradient": int(layout.block_size[m]) * size, "row_numbers": rows * WORD, "weights": rows * WORD,
        "x": rows * features * size, "activations": rows * hidden * size, "derivatives": rows * hidden * size,
        "scaled": features * int(strides[0]) * size if layout.scale_offset[m] >= 0 else 0,
    } | dict.fromkeys(("tables", "dtables"), table_rows * int(strides[0]) * size)  # fmt: skip


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("encodes", [False, True])
def test_regions_have_room_in_order_within_the_scratch(dtype: str, encodes: bool) -> None:
    backend: Any = pool_of(dtype)._ready()
    views = encoded_views(backend) if encodes else None
    every = frames(backend, views)
    most = backend.runner.scratch_items([views], np.arange(len(every))) * backend.plan.dtype.itemsize
    assert {frame["depth"] for frame in every} >= {0, 1, 2}
    assert any(frame["end"] > frame["scaled"] for frame in every), "no member has feature scales"
    for m, frame in enumerate(every):
        assert frame["program"] == PROGRAM_AT and frame["end"] <= most
        following = dict(zip(REGIONS, REGIONS[1:], strict=False))
        for name, size in needed(backend, m, frame["rows"], encodes).items():
            assert frame[following[name]] - frame[name] >= size, (m, name)
        whole = [frame[name] for name in REGIONS if name not in ("inputs", "rates")]
        assert all(at % LINE == 0 for at in whole)


def test_the_scratch_of_a_pool_is_that_of_its_largest_member() -> None:
    """No more than the frame of a member that is the largest in every respect, but for rows per block."""
    backend: Any = pool_of("float32", [pm.Member(hidden=700, feature_scale=True)])._ready()
    (frame,) = frames(backend)
    most = scratch_bytes(backend.layout, 4, backend.runner.templates.most_input_rows)
    per_row = 4 * (4 * 16 + N_FEATURES) + 2 * WORD
    assert frame["end"] <= most <= frame["end"] + (128 - frame["rows"]) * per_row + LINE


@pytest.mark.parametrize("task", [TRAIN, EVALUATE])
@pytest.mark.parametrize("encodes", [False, True])
def test_programs_end_before_the_next_region(task: int, encodes: bool) -> None:
    """With the table that clipping reads behind the instructions."""
    options: dict[str, Any] = {
        "dropout": 0.1, "input_dropout": 0.0 if encodes else 0.1, "clip_norm": 1.0, "average": 0.5,
        "feature_scale": True, "schedule": "cosine", "first_layer_rate_factor": 0.5,
    }  # fmt: skip
    members = [pm.Member(hidden=(3,) * depth, **(options if task == TRAIN else {})) for depth in (1, 2, 5)]
    backend: Any = pool_of("float32", members)._ready()
    views = encoded_views(backend) if encodes else None
    scratch, job, jobs = scratch_and_job(backend, task, views)
    words = scratch.view(np.int64)
    for m, frame in enumerate(frames(backend, views)):
        words[:] = -1
        assert _write_program(jobs, m) > scratch.ctypes.data
        following = frame["evaluation_program" if task == TRAIN else "raw"] // WORD
        assert (words[following : frame["zeros"] // WORD] == -1).all()
        assert not (words[following - INSTRUCTION_BYTES // WORD * 12 : following] == -1).all(), "far too much room"
    assert job is not None
