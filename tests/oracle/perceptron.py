"""The network: forward, backward, steps, epochs."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from .activation_functions import ACTIVATIONS, KINKS
from .arrays import Array, float64_copies
from .learning_rates import OPTION_DEFAULTS, rate_factor
from .loss_functions import LOSSES, weighted
from .optimizer_steps import OPTIMIZERS, SLOT_POWERS, Slots, rmsprop
from .philox import dropout_mask, shuffled_order


class OracleMLP:
    """One multi-layer perceptron, trained minibatch by minibatch; it starts with all parameters zero. n_outputs counts
    raw outputs, of which some losses take several per target.

    Its whole state may be read and replaced from outside, at best through `set_state`, which copies, casts to float64
    and checks shapes:

    - `weights[k]` (fan_in, fan_out) and `biases[k]` (fan_out,) of layer k, the output layer last; without biases
      (bias=False) they are zeros that no step touches;
    - `scales[0]` (n_features,), by which features are multiplied: ones, which no step touches without "feature_scale";
    - `slots[name]["weights"][k]`, `slots[name]["biases"][k]` and `slots[name]["scales"][0]`, shaped like the
      parameters: "m" and "v" for "adam" and "adamw", "momentum" for "sgd" (kept, to no effect, where momentum is 0);
    - `step_count`, the number of updates done, on which Adam's bias correction depends;
    - `fit_epochs`, the epochs of the first `train`, by which schedules go; `rate_factor`, what plateaus have left of
      the learning rate, `plateau_loss` and `plateau_wait`, the lowest loss and the epochs since;
    - `nearest_zero`, how near a step brought a parameter under an L1 penalty to 0, relative to where it came from: the
      penalty's slope jumps there, and rounding decides on which side;
    - `averages`, averaged weights, then biases, then scales (where features have them), after the first step; without
      averaging the last ones.

    With parametrization "ntk" a layer divides its weights by the root of their number of rows; `divided_weights`
    and `divided_averages` are those divided; `effective_weights` are by which features are multiplied. Options are
    those of a member, by name; what is left out has its default.
    key: the member's stream, from which dropout is drawn.
    """

    def __init__(
        self,
        hidden: Sequence[int],
        activation: str | Sequence[str],
        n_features: int,
        n_outputs: int,
        loss: str,
        optimizer: str,
        hyperparameters: Mapping[str, Any],
        bias: bool = True,
        options: Mapping[str, Any] | None = None,
        loss_parameters: Mapping[str, Any] | None = None,
        key: int = 0,
    ) -> None:
        names = [activation] * len(hidden) if isinstance(activation, str) else list(activation)
        if len(names) != len(hidden):
            raise ValueError(f"expected {len(hidden)} activations, one per hidden layer, got {names}")
        update, slot_names, defaults = OPTIMIZERS[optimizer]
        if unknown := set(hyperparameters) - set(defaults):
            raise ValueError(f"{optimizer} has no {sorted(unknown)}")
        if unknown := set(options or {}) - set(OPTION_DEFAULTS):
            raise ValueError(f"there are no options {sorted(unknown)}")
        self.options = {**OPTION_DEFAULTS, **(options or {})}
        self.activations = names
        self.loss_name, self.loss_parameters = loss, dict(loss_parameters or {})
        self.update = update
        self.hyperparameters = {**defaults, **hyperparameters}
        self.bias = bias
        self.key = key
        sizes = [n_features, *hidden, n_outputs]
        self.weights = [np.zeros(shape) for shape in zip(sizes[:-1], sizes[1:], strict=True)]
        self.biases = [np.zeros(size) for size in sizes[1:]]
        self.scales = [np.ones(n_features)]
        self.slots: dict[str, dict[str, list[Array]]] = {
            name: {
                "scales": [np.zeros(n_features)],
                "weights": [np.zeros_like(w) for w in self.weights],
                "biases": [np.zeros_like(b) for b in self.biases],
            }
            for name in slot_names
        }
        self.step_count = 0
        self.fit_epochs = 0
        self.rate_factor, self.plateau_loss, self.plateau_wait = 1.0, math.inf, 0
        self.averages: list[Array] = []
        self.nearest_zero = math.inf

    def scale(self, k: int) -> float:
        """What the weights of layer k are divided by."""
        return math.sqrt(len(self.weights[k])) if self.options["parametrization"] == "ntk" else 1.0

    @property
    def divided_weights(self) -> list[Array]:
        """The weights by which a layer multiplies what goes into it."""
        return [w / self.scale(k) for k, w in enumerate(self.weights)]

    @property
    def effective_weights(self) -> list[Array]:
        """The weights of a network without feature scales that does the same."""
        first, *others = self.divided_weights
        return [np.diag(self.scales[0]) @ first if self.options["feature_scale"] else first, *others]

    def slot_scale(self, name: str, kind: str, k: int) -> float:
        """What a slot would be multiplied by, were the effective weights trained."""
        normalized = self.update is rmsprop and name == "momentum"
        return 1.0 if kind != "weights" or normalized else self.scale(k) ** SLOT_POWERS[name]

    @property
    def divided_averages(self) -> list[Array]:
        """Averages of what multiplies a layer's inputs, of the biases, and of scales."""
        return [a / self.scale(k) if k < len(self.weights) else a for k, a in enumerate(self.averages)]

    def set_state(
        self,
        weights: Iterable[ArrayLike],
        biases: Iterable[ArrayLike] | None = None,
        slots: Mapping[str, Mapping[str, Iterable[ArrayLike]]] | None = None,
        step_count: int | None = None,
        scales: Iterable[ArrayLike] | None = None,
    ) -> None:
        """Replace the weights and, where given, biases, slots (any of them, by name), the step count and scales by
        copies."""
        self.weights = float64_copies(weights, self.weights)
        if biases is not None:
            self.biases = float64_copies(biases, self.biases)
        for name, slot in (slots or {}).items():
            own = self.slots[name]
            self.slots[name] = own | {kind: float64_copies(slot[kind], own[kind]) for kind in slot}
        if scales is not None:
            self.scales = float64_copies(scales, self.scales)
        if step_count is not None:
            self.step_count = step_count

    def loss_function(self, raw: Array, y: ArrayLike) -> tuple[float, Array]:
        """Mean loss of raw outputs, and its gradient."""
        return LOSSES[self.loss_name](raw, y, **self.loss_parameters)

    def masks(self, rows: int, epoch: int, place: int) -> list[Array] | None:
        """What the features and each hidden layer's activations of these rows are multiplied by in training."""
        shares = [self.options["input_dropout"]] + [self.options["dropout"]] * len(self.activations)
        if not any(shares):
            return None
        units = [len(w) for w in self.weights]
        return [
            dropout_mask(share, self.key, epoch, layer, place, (rows, units[layer]))
            for layer, share in enumerate(shares)
        ]

    def _forward(self, X: ArrayLike, masks: list[Array] | None = None) -> tuple[list[Array], list[Array]]:
        """The input of each layer and its pre-activation; the output layer's pre-activation is the raw output."""
        inputs, pre_activations = [np.asarray(X, dtype=np.float64)], []
        if masks is not None:
            inputs[0] = inputs[0] * masks[0]
        if self.options["feature_scale"]:
            inputs[0] = inputs[0] * self.scales[0]
        for k, (w, b) in enumerate(zip(self.weights, self.biases, strict=True)):
            pre_activations.append(inputs[k] @ w / self.scale(k) + b)
            if k < len(self.activations):
                function, _ = ACTIVATIONS[self.activations[k]]
                inputs.append(function(pre_activations[k]))
                if masks is not None:
                    inputs[-1] = inputs[-1] * masks[k + 1]
        return inputs, pre_activations

    def _loss_and_gradients(
        self, X: ArrayLike, y: ArrayLike, row_weights: Array | None = None, masks: list[Array] | None = None
    ) -> tuple[float, list[Array], list[Array], list[Array]]:
        """Mean loss, and its gradients by weights, biases and scales."""
        inputs, pre_activations = self._forward(X, masks)
        if row_weights is None:
            loss, delta = self.loss_function(pre_activations[-1], y)
        else:
            loss, delta = weighted(self.loss_function, pre_activations[-1], y, row_weights)
        weight_gradients: list[Array] = []
        bias_gradients: list[Array] = []
        for k in reversed(range(len(self.weights))):
            weight_gradients.insert(0, inputs[k].T @ delta / self.scale(k))
            bias_gradients.insert(0, delta.sum(axis=0) if self.bias else np.zeros_like(self.biases[k]))
            if k > 0:
                _, derivative = ACTIVATIONS[self.activations[k - 1]]
                delta = delta @ self.weights[k].T / self.scale(k)
                if masks is not None:
                    delta = delta * masks[k]
                delta = delta * derivative(pre_activations[k - 1])
        scale_gradient = np.zeros_like(self.scales[0])
        if self.options["feature_scale"]:
            unscaled = np.asarray(X, np.float64) * (1.0 if masks is None else masks[0])
            scale_gradient = np.sum(unscaled * (delta @ self.weights[0].T / self.scale(0)), axis=0)
        return loss, weight_gradients, bias_gradients, [scale_gradient]

    @np.errstate(all="ignore")
    def forward(self, X: ArrayLike) -> Array:
        """Raw outputs, (rows, outputs)."""
        _, pre_activations = self._forward(X)
        return pre_activations[-1]

    @np.errstate(all="ignore")
    def loss(self, X: ArrayLike, y: ArrayLike, masks: list[Array] | None = None) -> float:
        """Mean loss over these rows."""
        _, pre_activations = self._forward(X, masks)
        return self.loss_function(pre_activations[-1], y)[0]

    @np.errstate(all="ignore")
    def gradients(
        self, X: ArrayLike, y: ArrayLike, masks: list[Array] | None = None
    ) -> tuple[list[Array], list[Array], list[Array]]:
        """Gradients of `loss` with respect to weights, biases and scales (zeros where there are none), without weight
        decay."""
        return self._loss_and_gradients(X, y, masks=masks)[1:]

    def hyperparameters_of(self, kind: str, k: int, rate: float = 1.0) -> dict[str, Any]:
        """What the step of a layer's weights or biases, or of scales, goes by, with l1 and decoupled decay; decay
        spares scales, and biases, unless an option says otherwise. rate: what the schedule makes of the learning
        rate."""
        o = self.options
        h = {**self.hyperparameters, **{name: o[name] for name in ("l1", "decoupled_weight_decay")}}
        h["learning_rate"] *= rate * self.rate_factor
        if kind == "scales":
            h.update(weight_decay=0.0, l1=0.0, decoupled_weight_decay=0.0)
            h["learning_rate"] *= o["feature_scale_rate_factor"]
            return h
        if kind == "biases":
            h["learning_rate"] *= o["bias_rate_factor"]
            if not o["decay_biases"]:
                h.update(weight_decay=0.0, l1=0.0, decoupled_weight_decay=0.0)
        if k == 0 and len(self.weights) > 1:
            h["learning_rate"] *= o["first_layer_rate_factor"]
        if k == len(self.weights) - 1:
            h["learning_rate"] *= o["last_layer_rate_factor"]
        return h

    def updated(self, w: Array, g: Array, slots: Slots, step: int, h: Mapping[str, Any]) -> tuple[Array, Slots]:
        """A parameter after a step of the optimizer along g and the slope of the L1 penalty, and decoupled decay."""
        moved, slots = self.update(w, g + h["l1"] * np.sign(w), slots, step, h)
        return moved - h["learning_rate"] * h["decoupled_weight_decay"] * w, slots

    @np.errstate(all="ignore")
    def step(
        self,
        X: ArrayLike,
        y: ArrayLike,
        rate: float = 1.0,
        row_weights: Array | None = None,
        masks: list[Array] | None = None,
    ) -> float:
        """One update on one minibatch, with a learning rate multiplied by `rate` and dropout by masks; returns the loss
        before it."""
        loss, *gradients = self._loss_and_gradients(X, y, row_weights, masks)
        weight_gradients, bias_gradients, scale_gradients = self.clipped(*gradients)
        self.step_count += 1
        for k in range(len(self.weights)):
            self._update("weights", self.weights, weight_gradients, k, rate)
            if self.bias:
                self._update("biases", self.biases, bias_gradients, k, rate)
        now, decay = self.weights + self.biases, self.options["average"]
        if self.options["feature_scale"]:
            self._update("scales", self.scales, scale_gradients, 0, rate)
            now = now + self.scales
        if self.step_count == 1 or not self.averages:
            self.averages = now
        self.averages = [decay * a + (1.0 - decay) * w for a, w in zip(self.averages, now, strict=True)]
        return loss

    def clip_factor(self, gradients: Iterable[Array]) -> float:
        """What all gradients are multiplied by, so that together they are no longer than `clip_norm`."""
        norm, limit = math.sqrt(sum(float(np.sum(g * g)) for g in gradients)), self.options["clip_norm"]
        return min(1.0, limit / (norm + 1e-6)) if limit > 0.0 and math.isfinite(norm) else 1.0

    def clipped(self, *gradients: list[Array]) -> list[list[Array]]:
        factor = self.clip_factor(g for kind in gradients for g in kind)
        return [[factor * g for g in kind] for kind in gradients]

    def _update(self, kind: str, parameters: list[Array], gradients: list[Array], k: int, rate: float) -> None:
        slots = {name: slot[kind][k] for name, slot in self.slots.items()}
        h = self.hyperparameters_of(kind, k, rate)
        old = parameters[k]
        parameters[k], slots = self.updated(old, gradients[k], slots, self.step_count, h)
        way = np.abs(old) + np.abs(parameters[k] - old)
        if h["l1"] > 0.0 and (way > 0.0).any():
            self.nearest_zero = min(self.nearest_zero, float((np.abs(parameters[k])[way > 0.0] / way[way > 0.0]).min()))
        # Slopes of few values cancel in one order of summation, and leave a rounding error in another.
        if h["l1"] > 0.0 and self.loss_name in ("quantile", "absolute_error") and (way <= 1e-12 * rate).any():
            self.nearest_zero = 0.0
        for name, value in slots.items():
            self.slots[name][kind][k] = value

    def watch(self, loss: float) -> None:
        """Reduce the learning rate where an epoch's loss has not fallen for long."""
        if self.options["plateau_patience"] == 0:
            return
        self.plateau_wait += 1
        if loss < self.plateau_loss:
            self.plateau_loss, self.plateau_wait = loss, 0
        if self.plateau_wait >= self.options["plateau_patience"]:
            self.rate_factor *= self.options["plateau_factor"]
            self.plateau_wait = 0

    def train(
        self,
        X: ArrayLike,
        y: ArrayLike,
        epochs: int,
        batch_size: int,
        shuffle_key: int | None = None,
        first_epoch: int = 0,
        sample_weight: ArrayLike | None = None,
        validation: tuple[ArrayLike, ArrayLike] | None = None,
    ) -> list[float]:
        """Train in minibatches, the last of which may be smaller; returns each epoch's mean of minibatch losses.

        Rows are taken in order, or in `shuffled_order` of the key; first_epoch is the number of epochs done before.
        sample_weight is scaled to mean 1 over all rows.
        validation: the data (X, y) whose loss is watched for a plateau, in place of the minibatches'.
        """
        X, y = np.asarray(X), np.asarray(y)
        n = len(X)
        if sample_weight is not None:
            sample_weight = np.asarray(sample_weight, np.float64)
            sample_weight = sample_weight * (n / sample_weight.sum())
        self.fit_epochs = self.fit_epochs or epochs
        history = []
        for epoch in range(first_epoch, first_epoch + epochs):
            order = np.arange(n) if shuffle_key is None else shuffled_order(shuffle_key, epoch, n)
            batches = {start: order[start : start + batch_size] for start in range(0, n, batch_size)}
            losses = []
            for i, (start, batch) in enumerate(batches.items()):
                rate = rate_factor(self.options, epoch, i, len(batches), self.fit_epochs)
                counted = None if sample_weight is None else sample_weight[batch]
                masks = self.masks(len(batch), epoch, start)
                losses.append(self.step(X[batch], y[batch], rate, counted, masks))
            history.append(sum(losses) / len(losses))
            self.watch(history[-1] if validation is None else self.loss(*validation))
        return history

    @np.errstate(all="ignore")
    def smallest_kink_distance(self, X: ArrayLike, masks: list[Array] | None = None) -> float:
        """The smallest distance of a hidden pre-activation to a kink of its activation; inf where there is none."""
        _, pre_activations = self._forward(X, masks)
        distances = [
            float(np.abs(z - kink).min())
            for name, z in zip(self.activations, pre_activations[:-1], strict=True)
            for kink in KINKS.get(name, ())
        ]
        return min(distances, default=math.inf)
