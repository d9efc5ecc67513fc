"""The text of a pool's kernels: the files of kernels/, and what is rendered for the pool between them."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from importlib.resources import files

from pmlp_np.backends.cupy.formulas_text import constants_text, drawing_text, pool_text
from pmlp_np.backends.cupy.job import job_text
from pmlp_np.formulas.loss_base import Loss

# Threads of a block at most, and blocks that a multiprocessor is to have room for: together they bound registers.
MOST_THREADS, RESIDENT = 256, 2


@cache
def _file(name: str) -> str:
    return files("pmlp_np.backends.cupy").joinpath("kernels", name).read_text(encoding="utf-8")


def program_text(
    loss: Loss, dtype: str, activations: Iterable[str], rules: Iterable[str], schedules: Iterable[str]
) -> str:
    """One text for the compiler. A kernel for training is instantiated for each of the rules; without any there are
    those for evaluation and prediction."""
    rules = sorted(set(rules))
    return assembled(dtype, pool_text(loss, dtype, activations, rules, schedules), rules)


def assembled(dtype: str, formulas: str, rules: Iterable[str]) -> str:
    """The text of kernels around the formulas of a pool."""
    parts = [_file("words.cuh"), constants_text(dtype), job_text(), drawing_text(), formulas]
    parts += [_file(name) for name in ("passes.cuh", "member.cuh", "draw.cuh")]
    parts += [_file("train.cuh"), *(f"TRAIN_KERNEL({rule}, {MOST_THREADS}, {RESIDENT})" for rule in rules)]
    parts += [_file("infer.cuh"), f"INFER_KERNELS({MOST_THREADS})"]
    return "\n".join(parts) + "\n"


def kernel_names(rules: Iterable[str]) -> list[str]:
    """The kernels of a text."""
    train = [f"train_{rule}_{memory}" for rule in sorted(set(rules)) for memory in ("shared", "mixed")]
    infer = [f"{task}_{memory}" for task in ("evaluate", "predict") for memory in ("shared", "mixed")]
    return [*train, *infer, "draw_orders", "draw_weights"]
