"""The formulas of a pool's kernels as CUDA C++: loss, activations, rules, schedules, regularizers, random numbers.

Each is rendered from its step list when a pool needs it, so that no number is written twice, and formulas that users
register run on a GPU as they are. Kernels know them by fixed names: `PoolLoss`, `activate`, `rule_...`.
"""

from __future__ import annotations

from collections.abc import Iterable

from pmlp_np.backends.cupy.cuda_text import SCALARS, CudaText, function_text
from pmlp_np.formulas.activations import ACTIVATIONS
from pmlp_np.formulas.initializers import DISTRIBUTIONS
from pmlp_np.formulas.loss_base import Loss
from pmlp_np.formulas.optimizers import HYPERPARAMETERS, RULES, STEP_INPUTS
from pmlp_np.formulas.options import OPTIONS
from pmlp_np.formulas.random import PURPOSE_SHUFFLE, PURPOSE_WEIGHTS, philox
from pmlp_np.formulas.schedules import SCHEDULES
from pmlp_np.formulas.step_lists import (
    activation_steps,
    average_steps,
    clip_steps,
    distribution_steps,
    dropout_steps,
    loss_steps,
    part_steps,
    scalar_steps,
    schedule_steps,
    score_steps,
    update_steps,
)
from pmlp_np.formulas.tracing import OUTPUT, RAW, Input, StepList, traced

# Lanes of a vector of the CPU, over which sums are spread: a part of the promise of equal bits.
VECTOR_BYTES = 64


def activation_text(name: str, dtype: str) -> str:
    """Render `activation_NAME::at(z, a, d)`: an activation and its derivative."""
    text, scalar = CudaText(), SCALARS[dtype]
    a, d = text.results(activation_steps(name, dtype), "z")
    text.write(f"a = {a};")
    text.write(f"d = {d};")
    at = function_text(f"static void at(const {scalar} z, {scalar}& a, {scalar}& d)", text)
    return "\n".join([f"struct activation_{name} {{", at, "};"])


def loss_text(loss: Loss, dtype: str, name: str = "loss") -> str:
    """Render `loss_train` (loss of a row, and its gradients times a factor) and `loss_evaluate` (loss and score).

    name: the prefix of both names.
    """
    scalar = SCALARS[dtype]
    arguments = f"const {scalar}* raw, const int64 ld, const {scalar}* target, const int64 ld_target, const int64 n_raw"

    def started() -> tuple[CudaText, tuple[object, object]]:
        text = CudaText({RAW: "n_raw", OUTPUT: "n_raw" if loss.heads == 1 else f"(n_raw / {loss.heads})"})

        def raw(o: str) -> str:
            return text.let(f"raw[{o} * ld]", dtype)

        def target_of(o: str) -> str:
            return text.let(f"target[{o} * ld_target]", dtype)

        return text, (raw, text.let("target[0]", dtype) if loss.targets == "labels" else target_of)

    text, given = started()
    row_loss, *gradients = text.results(loss_steps(loss, dtype), *given)

    def output(o: str) -> None:
        for h, gradient in enumerate(gradients):
            place = o if loss.heads == 1 else f"({o} * {loss.heads} + {h})"
            text.write(f"dz[{place} * ld] = {gradient(o)} * factor;")

    text.loop(text.counts[OUTPUT], output)
    text.write(f"return {row_loss};")
    train = function_text(f"{scalar} {name}_train({arguments}, const {scalar} factor, {scalar}* dz)", text)

    text, given = started()
    (row_loss,) = text.results(loss_steps(loss, dtype).only("loss"), *given)
    (score,) = text.results(score_steps(loss, dtype), *given)
    text.write(f"score = {score};")
    text.write(f"return {row_loss};")
    return train + "\n\n" + function_text(f"{scalar} {name}_evaluate({arguments}, {scalar}& score)", text)


def part_text(loss: Loss, part: str, dtype: str, name: str = "") -> str:
    """Render `part_NAME`: `count`, of raw outputs, and `add`, of a part of a row's raw outputs to sums.

    part: as in `Loss.part`; name: by default the part's.
    """
    per_output = "n_raw" if part == "raw" or loss.heads == 1 else f"(n_raw / {loss.heads})"
    text = CudaText({RAW: "n_raw", OUTPUT: per_output})
    (value,) = text.results(part_steps(loss, part), lambda o: text.let(f"(double)raw[{o}]", "float64"))
    text.loop(per_output, lambda o: text.write(f"sums[{o} * line] = sums[{o} * line] + {value(o)};"))
    arguments = f"const {SCALARS[dtype]}* raw, const int64 n_raw, double* sums, const int64 line"
    count = f"    static DEVICE int64 count(const int64 n_raw) {{ return {per_output}; }}"
    add = function_text(f"static void add({arguments})", text)
    return "\n".join([f"struct part_{name or part} {{", count, add, "};"]) + "\n"


def rule_text(name: str, dtype: str) -> str:
    """Render `rule_NAME`: the number of slots, `scalars` (the numbers of a step) and `update`."""
    rule, scalar, numbers = RULES[name], SCALARS[dtype], scalar_steps(name)
    text = CudaText()
    given = [*(f"inputs[{i}]" for i in range(len(STEP_INPUTS))), "step"]
    for i, value in enumerate(text.results(numbers, *given)):
        text.write(f"numbers[{i}] = ({scalar}){value};")
    scalars = function_text(f"static void scalars(const double* inputs, const int64 step, {scalar}* numbers)", text)
    text = CudaText()
    slots = [text.let(f"slot[{i}]", dtype) for i in range(rule.slots)]
    s = [text.let(f"numbers[{i}]", dtype) for i in range(len(numbers.names))]
    new_w, *new_slots = text.results(update_steps(name, dtype), text.let("w", dtype), "g", *slots, *s)
    text.write(f"w = {new_w};")
    for i, value in enumerate(new_slots):
        text.write(f"slot[{i}] = {value};")
    update = function_text(
        f"static void update({scalar}& w, const {scalar} g, {scalar}* slot, const {scalar}* numbers)", text
    )
    head = f"    static DEVICE constexpr int n_slots() {{ return {rule.slots}; }}"
    return "\n".join([f"struct rule_{name} {{", head, scalars, update, "};"])


def schedule_text(name: str) -> str:
    """Render `schedule_NAME(options, epoch, minibatch, minibatches, fit_epochs)`: a factor of the learning rate."""
    text, steps, places = CudaText(), schedule_steps(name), list(OPTIONS)
    counts = ("epoch", "minibatch", "minibatches", "fit_epochs")
    given = [key if key in counts else f"options[{places.index(key)}]" for key, *_ in steps.inputs]
    text.write(f"return {text.results(steps, *given)[0]};")
    arguments = ", ".join(f"const int64 {each}" for each in counts)
    return function_text(f"double schedule_{name}(const double* options, {arguments})", text)


def _function(name: str, steps: StepList, arguments: Iterable[str]) -> str:
    """Render a function with one result, with these names of arguments."""
    text = CudaText()
    (result,) = text.results(steps, *arguments)
    text.write(f"return {result};")
    first = steps.inputs[0].dtype
    given = ", ".join(f"const {SCALARS[each.dtype]} {to}" for each, to in zip(steps.inputs, arguments, strict=True))
    return function_text(f"{SCALARS[first]} {name}({given})", text)


def _words(name: str, steps: StepList) -> str:
    """Render a function that writes four random 32-bit words to `words`."""
    text, names = CudaText(), [each.name for each in steps.inputs]
    for i, word in enumerate(text.results(steps, *names)):
        text.write(f"words[{i}] = {word};")
    given = ", ".join(f"const uint64 {each}" for each in names)
    return function_text(f"void {name}({given}, uint64* words)", text)


def _philox_steps() -> StepList:
    inputs = [Input(each, "uint64") for each in ("c0", "c1", "c2", "c3", "key")]
    return traced(philox, inputs, [f"word_{i}" for i in range(4)], "philox")


def switch(signature: str, code: str, cases: dict[int, str], otherwise: str = "") -> str:
    """Render a function that selects a call by a code."""
    lines = [f"        case {value}: {call} break;" for value, call in cases.items()]
    body = [f"    switch ({code}) {{", *lines, "    }", f"    {otherwise}"]
    return "\n".join([f"DEVICE {signature} {{", *body, "}"])


def constants_text(dtype: str) -> str:
    """Render the constants of a dtype and of the tables of formulas."""
    itemsize = 4 if dtype == "float32" else 8
    constants = {
        "LANES": VECTOR_BYTES // itemsize,
        "N_HYPERPARAMETERS": len(HYPERPARAMETERS),
        "N_STEP_INPUTS": len(STEP_INPUTS),
        "LEARNING_RATE": STEP_INPUTS.index("learning_rate"),
        "N_OPTIONS": len(OPTIONS),
        "MOST_NUMBERS": max(len(scalar_steps(rule).names) for rule in RULES),
        "MOST_SLOTS": max(rule.slots for rule in RULES.values()),
        "PURPOSE_WEIGHTS": PURPOSE_WEIGHTS,
        "PURPOSE_SHUFFLE": PURPOSE_SHUFFLE,
    }
    lines = [f"typedef {SCALARS[dtype]} real;"]
    return "\n".join(lines + [f"constexpr int {name} = {value};" for name, value in constants.items()])


def pool_text(
    loss: Loss, dtype: str, activations: Iterable[str], rules: Iterable[str], schedules: Iterable[str]
) -> str:
    """Render all formulas of a pool with this dtype."""
    codes = list(ACTIVATIONS)
    activations, rules, schedules = sorted(set(activations)), sorted(set(rules)), sorted(set(schedules))
    parts = [loss_text(loss, dtype), *(activation_text(name, dtype) for name in activations)]
    cases = [f"CASE({codes.index(name)}, {name})" for name in activations]
    parts.append(" ".join(["#define EACH_ACTIVATION(CASE)", *cases]))
    parts += [rule_text(name, dtype) for name in rules]
    parts += [schedule_text(name) for name in schedules]
    arguments = "options, epoch, minibatch, minibatches, fit_epochs"
    calls = {list(SCHEDULES).index(name): f"return schedule_{name}({arguments});" for name in schedules}
    parts.append(
        switch(
            "double schedule_factor(const int code, const double* options, const int64 epoch, const int64 minibatch,"
            " const int64 minibatches, const int64 fit_epochs)",
            "code",
            calls,
            "return 1.0;",
        )
    )
    parts.append(_function("averaged", average_steps(dtype), ("average", "w", "decay", "rest")))
    parts.append(_function("clip_factor", clip_steps(), ("norm", "limit")))
    parts.append(_words("dropout_words", dropout_steps()))
    return "\n\n".join(parts) + "\n"


def drawing_text() -> str:
    """Render `philox`, and `distribution`, which selects an initial distribution by its code."""
    names = list(DISTRIBUTIONS)
    parts = [_words("philox", _philox_steps())]
    parts += [_function(f"distribution_{name}", distribution_steps(name), ("u",)) for name in names]
    calls = {code: f"return distribution_{name}(u);" for code, name in enumerate(names)}
    parts.append(switch("double distribution(const int code, const double u)", "code", calls, "return u;"))
    return "\n\n".join(parts) + "\n"
