"""What the tests of formulas share, on arrays and as machine code: arguments of every size, problems, and a measure."""

import numpy as np

from loss_variants import heads, random_targets
from pmlp_np.formulas.activations import ACTIVATIONS
from pmlp_np.formulas.optimizers import STEP_INPUTS, shrinking_name

DTYPES = ("float32", "float64")
# Pre-activations up to this size are held to bounds: beyond, gelu's and mish's tails multiply a tiny number, which exp
# keeps from being zero, by an even larger one.
HUGE = {"float32": 1e30, "float64": 1e290}


# rule -> (PyTorch's class, its arguments, ours)
RULE_SETTINGS = {
    "sgd": ("SGD", {"lr": 0.1}, {}),
    "momentum": ("SGD", {"lr": 0.1, "momentum": 0.9}, {"momentum": 0.9}),
    "nesterov": ("SGD", {"lr": 0.1, "momentum": 0.8, "nesterov": True}, {"momentum": 0.8, "nesterov": 1.0}),
    "adam": ("Adam", {"lr": 0.1, "betas": (0.8, 0.95), "eps": 1e-3}, {"beta1": 0.8, "beta2": 0.95, "eps": 1e-3}),
    "adamw": ("AdamW", {"lr": 0.1, "betas": (0.8, 0.95), "eps": 1e-3}, {"beta1": 0.8, "beta2": 0.95, "eps": 1e-3}),
    "rmsprop": ("RMSprop", {"lr": 0.1, "alpha": 0.9, "eps": 1e-3}, {"alpha": 0.9, "eps": 1e-3}),
    "rmsprop_momentum": (
        "RMSprop",
        {"lr": 0.1, "alpha": 0.9, "eps": 1e-3, "momentum": 0.7},
        {"alpha": 0.9, "eps": 1e-3, "momentum": 0.7},
    ),
    "nadam": (
        "NAdam",
        {"lr": 0.1, "betas": (0.8, 0.95), "eps": 1e-3, "momentum_decay": 0.02},
        {"beta1": 0.8, "beta2": 0.95, "eps": 1e-3, "momentum_decay": 0.02},
    ),
}
# What the variants of the rules do besides, which PyTorch leaves to the caller.
SHRINKING = {"l1": 0.03, "decoupled_weight_decay": 0.2}


def rule_settings(rule):
    """(PyTorch's class, its arguments, ours) of a rule or its variant."""
    for name, (kind, theirs, ours) in RULE_SETTINGS.items():
        if rule in (name, shrinking_name(name)):
            return kind, theirs, ours | (SHRINKING if rule != name else {})
    raise KeyError(rule)


def hyperparameters(rule, weight_decay):
    given = {"learning_rate": 0.1, "weight_decay": weight_decay}
    return dict.fromkeys(STEP_INPUTS, 0.0) | given | rule_settings(rule)[2]


def wide(dtype, n=4096):
    """Numbers of every size: ordinary ones, large ones, and ones down to denormals; kinks among them."""
    draw = np.random.default_rng(20)
    info = np.finfo(dtype)
    sizes = 10.0 ** draw.uniform(np.log10(float(info.smallest_normal)), np.log10(HUGE[dtype]), n)
    special = [0.0, -0.0, 0.5, -0.5, 1.0, -1.0, 3.0, -3.0]
    special += [info.smallest_normal, -info.smallest_subnormal, HUGE[dtype], -HUGE[dtype]]
    parts = [draw.uniform(-8, 8, n), draw.uniform(-1000, 1000, n), sizes * draw.choice([-1, 1], n), special]
    return np.concatenate(parts).astype(dtype)


def assert_within(got, exact, bound, dtype, smallest=1.0):
    """|got - exact| <= bound * eps * max(smallest, |exact|), elementwise, with nothing but numbers in `got`."""
    assert got.dtype == dtype
    unit = float(np.finfo(dtype).eps) * np.maximum(smallest, np.abs(exact))
    errors = np.abs(got.astype(np.float64) - exact) / unit
    assert errors.shape == exact.shape
    assert errors.max() <= bound, f"{errors.max():.3g} eps at {np.unravel_index(errors.argmax(), errors.shape)}"


def apply(name, z):
    with np.errstate(all="ignore"):
        return ACTIVATIONS[name].function(z)


def loss_problem(draw, label, outputs, rows, scale=1.0):
    """Raw outputs (outputs * heads, rows) and targets of a loss, by its label in loss_variants."""
    raw = draw.normal(size=(outputs * heads(label), rows)) * scale
    return raw, random_targets(label, draw, rows, outputs).astype(float).T
