"""Registration of users' activations and losses: validated once, then used like the built-in ones."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np

from pmlp_np.base.errors import DataError, compose, show, unknown_name
from pmlp_np.formulas import vocabulary as v
from pmlp_np.formulas.activations import ACTIVATION_ALIASES, ACTIVATIONS, Activation
from pmlp_np.formulas.losses import LOSS_ALIASES, LOSSES, Loss
from pmlp_np.formulas.step_lists import part_steps
from pmlp_np.formulas.tracing import ROW, StepList

_NAME = re.compile(r"[a-z][a-z0-9_]*\Z")
_TARGETS = ("values", "probabilities", "labels")
# Errors of central differences: the square of the step times the third derivative, and rounding (1e-16 / step).
_STEP, _TOLERANCE = 1e-5, 1e-6
# The z at which a derivative is compared: dense where most pre-activations are, and far from there.
_POINTS = np.concatenate([np.linspace(-6.0, 6.0, 4001) + 1e-4, np.linspace(-30.0, 30.0, 601) + 1e-4])


def register_activation(name: str, function: Callable[[Any], tuple[Any, Any]], kinks: Iterable[float] = ()) -> None:
    """Register a custom activation, for use by its name.

    name: small letters, digits and underscores. Each process that uses the activation, or reads files with it, must
        register it first.
    function: function(z) -> (a, da/dz), elementwise, written with operators, Python floats and the functions of
        `pm.formulas.vocabulary`, so that it can be compiled: no NumPy functions, no `if` on values. NaN must stay NaN.
    kinks: the z where the derivative jumps. Default ().

    The derivative is compared with finite differences from -30 to 30, away from kinks. Raises DataError if they differ,
    with the z and the size of the error; if NaN does not stay NaN, or dtypes change; and if another function has the
    name (registering the same function again is allowed).

        v = pm.formulas.vocabulary
        pm.register_activation("square_plus", lambda z: (0.5 * (z + v.sqrt(z * z + 1.0)),
                                                         0.5 + 0.5 * z / v.sqrt(z * z + 1.0)))
    """
    label = f"activation {name!r}"
    _check_name("activation", name, function)
    if isinstance(kinks, (str, bytes)) or not isinstance(kinks, Iterable):
        raise DataError(compose("kinks", "a tuple of numbers", show(kinks)))
    points = tuple(kinks)
    for point in points:
        if isinstance(point, (bool, np.bool_)) or not isinstance(point, Real) or not np.isfinite(float(point)):
            raise DataError(compose("kinks", "finite numbers", show(point)))
    entry = Activation(name, function, tuple(float(point) for point in points), registered=True)
    _check_activation(label, entry)
    known = ACTIVATIONS.get(name)
    if name in ACTIVATION_ALIASES or (known is not None and not known.registered):
        _refuse_name("activation", name)
    if known is not None:
        if not _is_same(entry.function, known.function, (_POINTS,), entry.kinks, known.kinks):
            _refuse_name("activation", name)
        return
    ACTIVATIONS[name] = entry


def register_loss(
    name: str,
    function: Callable[[Any, Any], tuple[Any, Any]],
    targets: str = "values",
    heads: int = 1,
    link: Callable[[Any], Any] | None = None,
    score: Callable[[Any, Any], Any] | None = None,
    score_name: str = "loss",
    score_grows: bool = False,
) -> None:
    """Register a custom loss, for use by its name.

    name: small letters, digits and underscores. Each process that uses the loss, or reads files with it, must register
        it first.
    function: function(raw, target) -> (loss of the row, gradient by raw), written with operators, Python floats and the
        functions of `pm.formulas.vocabulary`: `raw` has a value per output (on arrays: axis 0); `mean_outputs` and
        similar functions reduce over outputs. NaN must stay NaN.
    targets: "values", "probabilities" (numbers from 0 to 1, a label per output) or "labels" (class numbers). Default
        "values".
    heads: raw outputs per output, for losses on values. With several heads, `raw` and the gradient are tuples of them.
        Default 1.
    link: formula from `raw` to predictions (losses on values; default: raw, or its first head), or to probabilities
        (default: sigmoid for targets "probabilities", softmax for "labels"); a value per output.
    score: score(raw, target) -> a number per row; its mean is shown. Default: the loss.
    score_name: name of the score. Default "loss".
    score_grows: whether a larger score is better. Default False.

    The gradient is compared with finite differences. Raises DataError if they differ, with the raw output and the size
    of the error; if NaN does not stay NaN, or dtypes change; and if another function has the name (registering the same
    function again is allowed).

        v = pm.formulas.vocabulary

        def log_cosh(raw, target):
            size = v.absolute(raw - target)
            return v.mean_outputs(size + v.log1p(v.exp(-2.0 * size))), v.tanh(raw - target) / v.n_outputs(raw)

        pm.register_loss("log_cosh", log_cosh)
    """
    _check_name("loss", name, function)
    if targets not in _TARGETS:
        raise DataError(unknown_name("targets", targets, _TARGETS))
    most = 2**10 if targets == "values" else 1
    if isinstance(heads, bool) or not isinstance(heads, int) or not 1 <= heads <= most:
        hint = "Only losses on values have several." if most == 1 else ""
        raise DataError(compose("heads", f"a whole number from 1 to {most}", show(heads), hint))
    for argument, value in (("link", link), ("score", score)):
        if value is not None and not callable(value):
            raise DataError(compose(argument, "a function or None", show(value)))
    if not isinstance(score_name, str) or not score_name:
        raise DataError(compose("score_name", "a name", show(score_name)))
    if not isinstance(score_grows, (bool, np.bool_)):
        raise DataError(compose("score_grows", "True or False", show(score_grows)))
    entry = RegisteredLoss(name, function, heads, link, score, score_name, targets, bool(score_grows))
    _check_loss(f"loss {name!r}", entry)
    known = LOSSES.get(name)
    if name in LOSS_ALIASES or (known is not None and not known.registered):
        _refuse_name("loss", name)
    if isinstance(known, RegisteredLoss):
        settings = [
            (loss.targets, loss.heads, loss.score_name, loss.score_grows, _parts(loss)) for loss in (entry, known)
        ]
        if not _is_same(entry.function, known.function, _loss_problem(entry, "float64"), *settings):
            _refuse_name("loss", name)
        return
    LOSSES[name] = entry


@dataclass(frozen=True)
class RegisteredLoss(Loss):
    """A user's loss; the fields are the arguments of `register_loss`."""

    name: str
    custom_formula: Callable[[Any, Any], tuple[Any, Any]]
    custom_heads: int
    custom_link: Callable[[Any], Any] | None
    custom_score: Callable[[Any, Any], Any] | None
    score_name: str
    targets: str = "values"
    score_grows: bool = False
    registered = True

    def __reduce__(self) -> tuple[Any, ...]:
        # By name, as in files: each process registers the formulas that it uses.
        return registered_loss, (self.name,)

    @property
    def heads(self) -> int:
        return self.custom_heads

    def formula(self, raw: Any, target: Any) -> tuple[Any, Any]:
        return self.custom_formula(raw, target)

    def score_formula(self, raw: Any, target: Any) -> Any:
        return self.custom_formula(raw, target)[0] if self.custom_score is None else self.custom_score(raw, target)

    @property
    def link_name(self) -> str | None:
        return super().link_name if self.custom_link is None else None

    def link(self, raw: Any) -> Any:
        if self.custom_link is not None:
            return self.custom_link(raw)
        return v.sigmoid(raw) if self.targets == "probabilities" else LOSSES["cross_entropy"].link(raw)

    def values(self, raw: np.ndarray) -> np.ndarray:
        heads = v.split_heads(np.moveaxis(raw, -1, 0), self.heads)
        if self.custom_link is None:
            return raw if self.heads == 1 else np.ascontiguousarray(np.moveaxis(heads[0], 0, -1))
        with np.errstate(all="ignore"):
            return np.moveaxis(self.custom_link(heads), 0, -1)


def registered_loss(name: str) -> Loss:
    """Return the loss that is registered under this name. Raises DataError if there is none."""
    if name not in LOSSES:
        hint = "Enter it first: pm.register_loss."
        raise DataError(compose("loss", "one that this process knows", show(name), hint))
    return LOSSES[name]


def _parts(loss: Loss) -> list[StepList]:
    """Return the formulas of all that the loss predicts."""
    return [part_steps(loss, part) for part in loss.parts]


def _check_name(kind: str, name: Any, function: Any) -> None:
    """Raise DataError unless the arguments are a valid name and a function."""
    if not isinstance(name, str) or not _NAME.match(name):
        raise DataError(compose("name", "small letters, digits and underscores", show(name)))
    if not callable(function):
        raise DataError(compose("function", f"a function that is the {kind}", show(function)))


def _refuse_name(kind: str, name: str) -> None:
    """Raise the error about a name that another function has."""
    hint = "Choose another name; a registered function stays until the process ends."
    raise DataError(compose("name", f"one that no other {kind} has", show(name), hint))


def _is_same(function: Any, known: Any, arguments: tuple[Any, ...], settings: Any, known_settings: Any) -> bool:
    """Return whether two functions give the same bits for these arguments, with equal settings."""
    if settings != known_settings:
        return False
    with np.errstate(all="ignore"):
        results = [np.concatenate([np.ravel(part) for part in formula(*arguments)]) for formula in (function, known)]
    return results[0].tobytes() == results[1].tobytes()


def _call_pair(label: str, function: Callable[..., Any], arguments: tuple[Any, ...]) -> tuple[Any, Any]:
    """Return the pair that a user's function returns. Raises DataError where it fails or returns anything else."""
    hint = "It must return a pair: the value and its derivative."
    try:
        with np.errstate(all="ignore"):
            result = function(*arguments)
    except Exception as error:
        expected = "a formula of operators and the vocabulary's words"
        raise DataError(compose(label, expected, f"{type(error).__name__}: {error}")) from error
    if not isinstance(result, tuple) or len(result) != 2:
        raise DataError(compose(label, "a pair", show(result), hint))
    return result


def _require_like(label: str, part: str, value: Any, shape: tuple[int, ...], dtype: Any) -> None:
    """Raise DataError unless a part of a user's function has this shape and dtype."""
    if getattr(value, "shape", None) != shape or value.dtype != dtype:
        got = f"{value.shape} {value.dtype}" if isinstance(value, np.ndarray) else show(value)
        hint = "Constants must be Python floats; v.ones_like(z) is one in z's shape."
        raise DataError(compose(f"{part} of {label}", f"an array of shape {shape}, {np.dtype(dtype)}", got, hint))


def _require_nan(label: str, value: np.ndarray, index: Any) -> None:
    """Raise DataError unless `value` is NaN at these indices."""
    if not np.isnan(value[index]).all():
        hint = "A comparison with NaN is false: let v.where take the branch that keeps its argument."
        raise DataError(compose(label, "NaN where its argument is NaN", f"{value[index].ravel()[0]}", hint))


def _compare(label: str, derivative: np.ndarray, numerical: np.ndarray, scale: np.ndarray, describe: Any) -> None:
    """Raise DataError where a derivative differs from finite differences by more than their error.

    describe: returns the text of an index.
    """
    error = np.abs(derivative - numerical)
    with np.errstate(invalid="ignore"):
        bad = ~(error <= _TOLERANCE * np.maximum(1.0, scale))
    if bad.any():
        worst = np.unravel_index(np.argmax(np.where(bad, np.nan_to_num(error, nan=np.inf), -1.0)), error.shape)
        at = describe(worst)
        got = f"{derivative[worst]:.6g} at {at}, off by {error[worst]:.3g}"
        hint = "If the derivative jumps there, list it in kinks." if label.startswith("derivative") else ""
        raise DataError(compose(label, f"{numerical[worst]:.6g}, by finite differences", got, hint))


def _check_activation(label: str, entry: Activation) -> None:
    """Raise DataError unless a user's activation is valid."""
    for dtype in (np.float32, np.float64):
        z = np.array([[0.5, np.nan, -1.5], [-0.25, 2.0, np.nan]], dtype)
        a, derivative = _call_pair(label, entry.function, (z,))
        _require_like(label, "value", a, z.shape, dtype)
        _require_like(label, "derivative", derivative, z.shape, dtype)
        _require_nan(label, a, np.isnan(z))
    far = [np.abs(_POINTS - kink) > 2 * _STEP for kink in entry.kinks]
    points: np.ndarray = _POINTS[np.all(far, axis=0)] if far else _POINTS
    a, derivative = _call_pair(label, entry.function, (points,))
    above, below = (_call_pair(label, entry.function, (points + step,))[0] for step in (_STEP, -_STEP))
    numerical = (above - below) / (2.0 * _STEP)
    scale = np.maximum(np.abs(a), np.abs(numerical))
    _compare(f"derivative of {label}", derivative, numerical, scale, lambda i: f"z = {points[i]:.6g}")


def _loss_problem(entry: Loss, dtype: str, outputs: int = 3, rows: int = 40) -> tuple[Any, Any]:
    """Return raw outputs and targets as arguments of a loss."""
    draw = np.random.default_rng(0)
    raw = (2.0 * draw.normal(size=(outputs * entry.heads, rows))).astype(dtype)
    if entry.targets == "labels":
        target = draw.integers(0, outputs, rows).astype(dtype)
    else:
        spread = draw.uniform if entry.targets == "probabilities" else draw.normal
        target = np.asarray(spread(size=(outputs, rows))).astype(dtype)
    return v.split_heads(raw, entry.heads), target


def _check_loss(label: str, entry: RegisteredLoss) -> None:
    """Raise DataError unless a user's loss is valid."""
    for steps in _parts(entry):
        (result,) = steps.results
        if not isinstance(result, int) or steps.value(result).extent == ROW:
            raise DataError(compose(f"link of {label}", "a value per output", "one per row"))
    heads = range(entry.heads)
    for dtype in ("float32", "float64"):
        raw, target = _loss_problem(entry, dtype)
        raws = raw if entry.heads > 1 else (raw,)
        raws[0][1, 5] = np.nan
        loss, gradient = _call_pair(label, entry.formula, (raw, target))
        if entry.heads > 1 and not (isinstance(gradient, tuple) and len(gradient) == entry.heads):
            raise DataError(compose(f"gradient of {label}", f"a tuple of {entry.heads}, one per head", show(gradient)))
        _require_like(label, "loss", loss, target.shape[-1:], dtype)
        for head in gradient if entry.heads > 1 else (gradient,):
            _require_like(label, "gradient", head, raws[0].shape, dtype)
        _require_nan(label, loss, np.array([5]))
        score = _call_pair(label, lambda raw, target: (entry.score_formula(raw, target), 0), (raw, target))[0]
        _require_like(label, "score", score, target.shape[-1:], dtype)
    raw, target = _loss_problem(entry, "float64")
    raws = raw if entry.heads > 1 else (raw,)
    loss, gradient = _call_pair(label, entry.formula, (raw, target))
    for h, o in ((h, o) for h in heads for o in range(len(raws[0]))):

        def shifted_loss(step: float, h: int = h, o: int = o) -> Any:
            shifted = tuple(part.copy() for part in raws)
            shifted[h][o] += step
            return _call_pair(label, entry.formula, (shifted if entry.heads > 1 else shifted[0], target))[0]

        numerical = (shifted_loss(_STEP) - shifted_loss(-_STEP)) / (2.0 * _STEP)
        derivative = gradient[h][o] if entry.heads > 1 else gradient[o]
        scale = np.maximum(np.abs(loss), np.abs(numerical))

        def describe(i: Any, h: int = h, o: int = o) -> str:
            label_or_value = target[i] if target.ndim == 1 else target[o][i]
            head = f", head {h}" if entry.heads > 1 else ""
            return f"raw = {raws[h][o][i]:.6g}, target = {label_or_value:.6g} (output {o}{head})"

        _compare(f"gradient of {label}", derivative, numerical, scale, describe)
