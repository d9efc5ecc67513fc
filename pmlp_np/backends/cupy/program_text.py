"""The text of kernels: the files of kernels/, a pool's rendered formulas between them, and which kernels are made."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from importlib.resources import files

from pmlp_np.backends.cupy.formulas_text import constants_text, drawing_text
from pmlp_np.backends.cupy.launch_job import job_text

# Threads of a block at most, and blocks that a multiprocessor is to have room for: together they bound registers.
MOST_THREADS, RESIDENT = 256, 2
# Whether all that a thread block works with is in its shared memory, or some of it in its scratch in global memory.
SHARED, MIXED = "shared", "mixed"
# Kernels that draw orders of rows and initial weights; each text has them.
DRAW_ORDERS, DRAW_WEIGHTS = "draw_orders", "draw_weights"
_FILES = ("passes.cuh", "member.cuh", "draw.cuh", "train.cuh", "infer.cuh", "mean.cuh")


def train_kernel(rule: str, memory: str) -> str:
    """Return the name of the kernel that trains with a rule."""
    return f"train_{rule}_{memory}"


def infer_kernel(task: str, memory: str) -> str:
    """Return the name of the kernel for a task, "evaluate" or "predict"."""
    return f"{task}_{memory}"


def mean_kernel(part: str) -> str:
    """Return the name of the kernel that adds up a part of raw outputs, as in `Loss.part`."""
    return f"mean_{part}"


@cache
def _file(name: str) -> str:
    return files("pmlp_np.backends.cupy").joinpath("kernels", name).read_text(encoding="utf-8")


def program_text(dtype: str, formulas: str, kernels: Iterable[str]) -> str:
    """Return the text of these kernels, with the formulas of a pool (`formulas_text.pool_text`)."""
    parts = [_file("words.cuh"), constants_text(dtype), job_text(), drawing_text(), formulas, *map(_file, _FILES)]
    return "\n".join([*parts, *(_instance(name) for name in kernels)]) + "\n"


def _instance(name: str) -> str:
    if name in (DRAW_ORDERS, DRAW_WEIGHTS):
        return ""
    if name.startswith("mean_"):
        return f"MEAN_KERNEL({name.removeprefix('mean_')}, {MOST_THREADS})"
    task, memory = name.rsplit("_", 1)
    all_shared = "true" if memory == SHARED else "false"
    if task.startswith("train_"):
        rule = task.removeprefix("train_")
        return f"TRAIN_KERNEL({rule}, {memory}, {all_shared}, {MOST_THREADS}, {RESIDENT})"
    return f"INFER_KERNEL({task}, {memory}, {all_shared}, {MOST_THREADS})"
