"""The step list of each formula, for backends and exports to render.

These are activations, losses, scores, parts of predictions, update rules, schedules, distributions and regularizers.
"""

from __future__ import annotations

from functools import cache
from types import SimpleNamespace
from typing import Any

from pmlp_np.formulas.activations import ACTIVATIONS, Activation
from pmlp_np.formulas.initializers import DISTRIBUTIONS
from pmlp_np.formulas.loss_base import Loss
from pmlp_np.formulas.optimizers import RULES, STEP_INPUTS
from pmlp_np.formulas.random import dropout_words
from pmlp_np.formulas.regularizers import averaged, clip_factor
from pmlp_np.formulas.schedules import options_read, rate_factor
from pmlp_np.formulas.tracing import OUTPUT, RAW, ROW, Input, StepList, traced

_WHOLE, _WORD = "int64", "uint64"


def activation_steps(name: str, dtype: str) -> StepList:
    """Return the steps z -> activation, derivative. Raises DataError for a registered function that is no formula."""
    return _activation(ACTIVATIONS[name], dtype)


@cache
def _activation(entry: Activation, dtype: str) -> StepList:
    return traced(entry.function, [Input("z", dtype)], ["activation", "derivative"], f"activation {entry.name!r}")


def _loss_inputs(loss: Loss, dtype: str) -> list[Input]:
    """Return the inputs of a loss: raw outputs, and targets (one per output, or a label)."""
    return [
        Input("raw", dtype, OUTPUT if loss.heads == 1 else RAW),
        Input("target", dtype, ROW if loss.targets == "labels" else OUTPUT),
    ]


@cache
def loss_steps(loss: Loss, dtype: str) -> StepList:
    """Return the steps raw, target -> loss (of the row), gradient_0, gradient_1, ... (of the loss by each head).

    Raises DataError for a registered function that is no formula.
    """

    def formula(raw: Any, target: Any) -> tuple[Any, ...]:
        row_loss, gradients = loss.by_head(raw, target)
        return row_loss, *gradients

    names = ["loss", *(f"gradient_{h}" for h in range(loss.heads))]
    return traced(formula, _loss_inputs(loss, dtype), names, f"loss {loss.name!r}")


@cache
def score_steps(loss: Loss, dtype: str) -> StepList:
    """Return the steps raw, target -> score (of the row)."""
    return traced(loss.score, _loss_inputs(loss, dtype), ["score"], f"loss {loss.name!r}")


@cache
def part_steps(loss: Loss, part: str) -> StepList:
    """Return the steps raw -> part, for each output, in float64; see `Loss.part`."""
    extent = RAW if part == "raw" or loss.heads > 1 else OUTPUT
    inputs = [Input("raw", "float64", extent)]
    return traced(lambda raw: loss.part(part, raw), inputs, ["part"], f"{part} of loss {loss.name!r}")


@cache
def scalar_steps(rule: str) -> StepList:
    """Return the steps STEP_INPUTS (float64), 1-based step (int64) -> the numbers of the step, float64, by name."""
    inputs = [*(Input(name, "float64") for name in STEP_INPUTS), Input("step", _WHOLE)]

    def formula(*values: Any) -> dict[str, Any]:
        return RULES[rule].scalars(SimpleNamespace(**dict(zip(STEP_INPUTS, values[:-1], strict=True))), values[-1])

    return traced(formula, inputs, label=f"rule {rule!r}")


@cache
def update_steps(rule: str, dtype: str) -> StepList:
    """Return the steps w, g, slot_0, ... and the numbers of `scalar_steps` -> w, slot_0, ..."""
    entry = RULES[rule]
    slots, numbers = [f"slot_{i}" for i in range(entry.slots)], scalar_steps(rule).names

    def formula(w: Any, g: Any, *others: Any) -> tuple[Any, ...]:
        s = SimpleNamespace(**dict(zip(numbers, others[entry.slots :], strict=True)))
        new_w, new_slots = entry.update(w, g, others[: entry.slots], s)
        return new_w, *new_slots

    return traced(
        formula, [Input(name, dtype) for name in ("w", "g", *slots, *numbers)], ["w", *slots], f"rule {rule!r}"
    )


@cache
def schedule_steps(name: str) -> StepList:
    """Return the steps options, epoch, minibatch, minibatches, fit_epochs -> factor of the learning rate.

    The options are those of `schedules.options_read`, float64; the other inputs are int64.
    """
    counts = ("epoch", "minibatch", "minibatches", "fit_epochs")
    options = options_read(name)
    inputs = [*(Input(option, "float64") for option in options), *(Input(count, _WHOLE) for count in counts)]

    def formula(*values: Any) -> Any:
        n = len(options)
        return rate_factor(name, SimpleNamespace(**dict(zip(options, values[:n], strict=True))), *values[n:])

    return traced(formula, inputs, ["factor"], f"schedule {name!r}")


@cache
def distribution_steps(name: str) -> StepList:
    """Return the steps u in (0, 1), float64 -> a draw from the distribution."""
    return traced(DISTRIBUTIONS[name], [Input("u", "float64")], ["draw"], f"distribution {name!r}")


@cache
def dropout_steps() -> StepList:
    """Return the steps four, epoch, layer, unit, key -> four random words; all uint64. See `random.dropout_words`."""
    inputs = [Input(name, _WORD) for name in ("four", "epoch", "layer", "unit", "key")]
    return traced(dropout_words, inputs, [f"word_{i}" for i in range(4)], "dropout")


@cache
def clip_steps() -> StepList:
    """Return the steps norm, limit (float64) -> factor of the gradient."""
    return traced(clip_factor, [Input("norm", "float64"), Input("limit", "float64")], ["factor"], "clipping")


@cache
def average_steps(dtype: str) -> StepList:
    """Return the steps average, w, decay, rest -> average."""
    inputs = [Input(name, dtype) for name in ("average", "w", "decay", "rest")]
    return traced(averaged, inputs, ["average"], "averaging")
