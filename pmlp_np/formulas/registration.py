"""A user's own activations and losses: checked when they are entered, then like the built-in ones."""

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

_NAME = re.compile(r"[a-z][a-z0-9_]*\Z")
_TARGETS = ("values", "probabilities", "labels")
# Central differences err by the square of the step times the third derivative, and by rounding (1e-16 / step).
_STEP, _TOLERANCE = 1e-5, 1e-6
# Places at which a derivative is compared: between kinks, and far from where most pre-activations are.
_POINTS = np.concatenate([np.linspace(-6.0, 6.0, 4001) + 1e-4, np.linspace(-30.0, 30.0, 601) + 1e-4])


def register_activation(name: str, function: Callable[[Any], tuple[Any, Any]], kinks: Iterable[float] = ()) -> None:
    """Enter an activation of your own, which members may then name.

    name: how it is called; small letters, digits and underscores. Each process that uses it or reads files of it must
        enter it first.
    function: function(z) -> (a, da/dz), element by element, written with operators, Python floats and the words of
        `pm.formulas.vocabulary`, so that it can be compiled: no NumPy functions, no `if` on values. NaN must stay NaN.
    kinks: the z where the derivative jumps. Default ().

    The derivative is compared with finite differences from -30 to 30, away from kinks. Raises DataError where it is
    another one, with the place and the size of the error; where NaN gets lost, or types change; and where the name is
    taken by another function (the same one may be entered again).

        v = pm.formulas.vocabulary
        pm.register_activation("square_plus", lambda z: (0.5 * (z + v.sqrt(z * z + 1.0)),
                                                         0.5 + 0.5 * z / v.sqrt(z * z + 1.0)))
    """
    what = f"activation {name!r}"
    _check_name("activation", name, function)
    if isinstance(kinks, (str, bytes)) or not isinstance(kinks, Iterable):
        raise DataError(compose("kinks", "a tuple of numbers", show(kinks)))
    places = tuple(kinks)
    for place in places:
        if isinstance(place, (bool, np.bool_)) or not isinstance(place, Real) or not np.isfinite(float(place)):
            raise DataError(compose("kinks", "finite numbers", show(place)))
    entry = Activation(name, function, tuple(float(place) for place in places), registered=True)
    _check_activation(what, entry)
    known = ACTIVATIONS.get(name)
    taken = name in ACTIVATION_ALIASES or (known is not None and not known.registered)
    if taken or (known is not None and not _same(entry.function, known.function, (_POINTS,), entry.kinks, known.kinks)):
        _taken("activation", name)
    if known is None:
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
    """Enter a loss of your own, which pools may then name.

    name: how it is called; small letters, digits and underscores. Each process that uses it or reads files of it must
        enter it first.
    function: function(raw, target) -> (loss of the row, gradient by raw), written with operators, Python floats and the
        words of `pm.formulas.vocabulary`: `raw` holds a value per output (on arrays: axis 0), which `mean_outputs` and
        the like reduce. NaN must stay NaN.
    targets: "values", "probabilities" (numbers from 0 to 1, a label per output) or "labels" (class numbers). Default
        "values".
    heads: raw outputs per output, for losses on values. With several, `raw` is a tuple of them, and so must the
        gradient be. Default 1.
    link: what makes predictions of `raw` (losses on values; default: raw itself, or its first head), or probabilities
        (default: sigmoid of probabilities, softmax of labels).
    score: score(raw, target) -> a number per row, of which people read the mean. Default: the loss.
    score_name: how the score is called. Default "loss".
    score_grows: whether more of it is better. Default False.

    The gradient is compared with finite differences. Raises DataError where it is another one, with the place and the
    size of the error; where NaN gets lost, or types change; and where the name is taken by another function (the same
    one may be entered again).

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
        _taken("loss", name)
    if isinstance(known, RegisteredLoss):
        kinds = [(each.targets, each.heads, each.score_name, each.score_grows) for each in (entry, known)]
        if not _same(entry.function, known.function, _loss_problem(entry, "float64"), *kinds):
            _taken("loss", name)
        return
    LOSSES[name] = entry


@dataclass(frozen=True)
class RegisteredLoss(Loss):
    """A user's loss; the fields are the arguments of `register_loss`."""

    name: str
    own_formula: Callable[[Any, Any], tuple[Any, Any]]
    own_heads: int
    own_link: Callable[[Any], Any] | None
    own_score: Callable[[Any, Any], Any] | None
    score_name: str
    targets: str = "values"
    score_grows: bool = False
    registered = True

    def __reduce__(self) -> tuple[Any, ...]:
        # By name, as in files: each process enters its own formulas.
        return registered_loss, (self.name,)

    @property
    def heads(self) -> int:
        return self.own_heads

    def formula(self, raw: Any, target: Any) -> tuple[Any, Any]:
        return self.own_formula(raw, target)

    def score_formula(self, raw: Any, target: Any) -> Any:
        return self.own_formula(raw, target)[0] if self.own_score is None else self.own_score(raw, target)

    @property
    def link_name(self) -> str | None:
        return super().link_name if self.own_link is None else None

    def link(self, raw: Any) -> Any:
        if self.own_link is not None:
            return self.own_link(raw)
        return v.sigmoid(raw) if self.targets == "probabilities" else LOSSES["cross_entropy"].link(raw)

    def values(self, raw: np.ndarray) -> np.ndarray:
        heads = v.split_heads(np.moveaxis(raw, -1, 0), self.heads)
        if self.own_link is None:
            return raw if self.heads == 1 else np.ascontiguousarray(np.moveaxis(heads[0], 0, -1))
        with np.errstate(all="ignore"):
            return np.moveaxis(self.own_link(heads), 0, -1)


def registered_loss(name: str) -> Loss:
    """The loss that has been entered under this name. DataError where none has."""
    if name not in LOSSES:
        hint = "Enter it first: pm.register_loss."
        raise DataError(compose("loss", "one that this process knows", show(name), hint))
    return LOSSES[name]


def _check_name(kind: str, name: Any, function: Any) -> None:
    if not isinstance(name, str) or not _NAME.match(name):
        raise DataError(compose("name", "small letters, digits and underscores", show(name)))
    if not callable(function):
        raise DataError(compose("function", f"a function that is the {kind}", show(function)))


def _taken(kind: str, name: str) -> None:
    hint = "Take another name; a function that has been entered stays until the process ends."
    raise DataError(compose("name", f"one that no other {kind} has", show(name), hint))


def _same(function: Any, known: Any, arguments: tuple[Any, ...], own: Any, other: Any) -> bool:
    """Whether a formula with its settings computes what the known one does with its own."""
    if own != other:
        return False
    with np.errstate(all="ignore"):
        results = [np.concatenate([np.ravel(part) for part in each(*arguments)]) for each in (function, known)]
    return results[0].tobytes() == results[1].tobytes()


def _called(what: str, function: Callable[..., Any], arguments: tuple[Any, ...]) -> tuple[Any, Any]:
    hint = "It must return a pair: the value and its derivative."
    try:
        with np.errstate(all="ignore"):
            found = function(*arguments)
    except Exception as error:
        expected = "a formula of operators and the vocabulary's words"
        raise DataError(compose(what, expected, f"{type(error).__name__}: {error}")) from error
    if not isinstance(found, tuple) or len(found) != 2:
        raise DataError(compose(what, "a pair", show(found), hint))
    return found


def _like(what: str, part: str, value: Any, shape: tuple[int, ...], dtype: Any) -> None:
    if getattr(value, "shape", None) != shape or value.dtype != dtype:
        got = f"{value.shape} {value.dtype}" if isinstance(value, np.ndarray) else show(value)
        hint = "Constants must be Python floats; v.ones_like(z) is one in z's shape."
        raise DataError(compose(f"{part} of {what}", f"an array of shape {shape}, {np.dtype(dtype)}", got, hint))


def _keep_nan(what: str, value: np.ndarray, lost: Any) -> None:
    if not np.isnan(value[lost]).all():
        hint = "A comparison with NaN is false: let v.where take the branch that keeps its argument."
        raise DataError(compose(what, "NaN where its argument is NaN", f"{value[lost].ravel()[0]}", hint))


def _compare(what: str, derivative: np.ndarray, slope: np.ndarray, scale: np.ndarray, places: Any) -> None:
    """Refuse a derivative that is further off finite differences than they are themselves."""
    error = np.abs(derivative - slope)
    with np.errstate(invalid="ignore"):
        bad = ~(error <= _TOLERANCE * np.maximum(1.0, scale))
    if bad.any():
        worst = np.unravel_index(np.argmax(np.where(bad, np.nan_to_num(error, nan=np.inf), -1.0)), error.shape)
        at = places(worst)
        got = f"{derivative[worst]:.6g} at {at}, off by {error[worst]:.3g}"
        hint = "Where the derivative jumps, name the place in kinks." if what.startswith("derivative") else ""
        raise DataError(compose(what, f"{slope[worst]:.6g}, by finite differences", got, hint))


def _check_activation(what: str, entry: Activation) -> None:
    for dtype in (np.float32, np.float64):
        z = np.array([[0.5, np.nan, -1.5], [-0.25, 2.0, np.nan]], dtype)
        a, derivative = _called(what, entry.function, (z,))
        _like(what, "value", a, z.shape, dtype)
        _like(what, "derivative", derivative, z.shape, dtype)
        _keep_nan(what, a, np.isnan(z))
    far = [np.abs(_POINTS - kink) > 2 * _STEP for kink in entry.kinks]
    places: np.ndarray = _POINTS[np.all(far, axis=0)] if far else _POINTS
    a, derivative = _called(what, entry.function, (places,))
    above, below = (_called(what, entry.function, (places + step,))[0] for step in (_STEP, -_STEP))
    slope = (above - below) / (2.0 * _STEP)
    scale = np.maximum(np.abs(a), np.abs(slope))
    _compare(f"derivative of {what}", derivative, slope, scale, lambda i: f"z = {places[i]:.6g}")


def _loss_problem(entry: Loss, dtype: str, outputs: int = 3, rows: int = 40) -> tuple[Any, Any]:
    """Raw outputs and targets as the loss takes them."""
    draw = np.random.default_rng(0)
    raw = (2.0 * draw.normal(size=(outputs * entry.heads, rows))).astype(dtype)
    if entry.targets == "labels":
        target = draw.integers(0, outputs, rows).astype(dtype)
    else:
        spread = draw.uniform if entry.targets == "probabilities" else draw.normal
        target = np.asarray(spread(size=(outputs, rows))).astype(dtype)
    return v.split_heads(raw, entry.heads), target


def _check_loss(what: str, entry: RegisteredLoss) -> None:
    heads = range(entry.heads)
    for dtype in ("float32", "float64"):
        raw, target = _loss_problem(entry, dtype)
        raws = raw if entry.heads > 1 else (raw,)
        raws[0][1, 5] = np.nan
        loss, gradient = _called(what, entry.formula, (raw, target))
        if entry.heads > 1 and not (isinstance(gradient, tuple) and len(gradient) == entry.heads):
            raise DataError(compose(f"gradient of {what}", f"a tuple of {entry.heads}, one per head", show(gradient)))
        _like(what, "loss", loss, target.shape[-1:], dtype)
        for head in gradient if entry.heads > 1 else (gradient,):
            _like(what, "gradient", head, raws[0].shape, dtype)
        _keep_nan(what, loss, np.array([5]))
        score = _called(what, lambda raw, target: (entry.score_formula(raw, target), 0), (raw, target))[0]
        _like(what, "score", score, target.shape[-1:], dtype)
    raw, target = _loss_problem(entry, "float64")
    raws = raw if entry.heads > 1 else (raw,)
    loss, gradient = _called(what, entry.formula, (raw, target))
    for h, o in ((h, o) for h in heads for o in range(len(raws[0]))):

        def moved(step: float, h: int = h, o: int = o) -> Any:
            others = tuple(each.copy() for each in raws)
            others[h][o] += step
            return _called(what, entry.formula, (others if entry.heads > 1 else others[0], target))[0]

        slope = (moved(_STEP) - moved(-_STEP)) / (2.0 * _STEP)
        own = gradient[h][o] if entry.heads > 1 else gradient[o]
        scale = np.maximum(np.abs(loss), np.abs(slope))

        def place(i: Any, h: int = h, o: int = o) -> str:
            of_target = target[i] if target.ndim == 1 else target[o][i]
            head = f", head {h}" if entry.heads > 1 else ""
            return f"raw = {raws[h][o][i]:.6g}, target = {of_target:.6g} (output {o}{head})"

        _compare(f"gradient of {what}", own, slope, scale, place)
