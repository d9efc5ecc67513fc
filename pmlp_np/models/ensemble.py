"""The mean of several networks, as one model of NumPy arrays."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from pmlp_np.base.archive import MISFITS, read_archive, unfit, write_archive
from pmlp_np.base.checks import numbers
from pmlp_np.base.copying import Independent
from pmlp_np.base.errors import DataError, compose, show
from pmlp_np.data.containers import as_numbers
from pmlp_np.data.labels import agreed_names, as_strings, require_names
from pmlp_np.formulas.reading import reading_of
from pmlp_np.models.averaging import label_threshold, mixture_variance, raw_of_mean, weighted_sum
from pmlp_np.models.export.methods import Exportable
from pmlp_np.models.mlp import MLP
from pmlp_np.models.network import Networks, require_finite


class Ensemble(Independent, Exportable):
    """A weighted mean of networks: of their values, or of their probabilities (not logits). It needs NumPy alone.

    mlps: the networks, which agree on columns of X (and their names, if any), outputs, loss and dtype.
    weights: weight of each network, (n_mlps,) finite numbers at least 0, scaled to sum 1. Default None: equal weights.

    As attributes, `mlps` is a tuple and `weights` a float64 array of sum 1. Means are computed in float64 and returned
    in the networks' dtype; networks of weight 0 are not evaluated.

    Raises DataError, with the network's position, for a network that doesn't fit the first one, or that diverged (its
    weights are not finite) and has a weight above 0; and for invalid `weights`.

        ensemble = pool.ensemble([17, 4, 23]);  ensemble.predict(X);  ensemble.to_onnx("mean.onnx")
    """

    def __init__(self, mlps: Sequence[MLP], weights: Any = None) -> None:
        self.mlps = tuple(mlps) if isinstance(mlps, Iterable) else ()
        if not self.mlps:
            raise DataError(compose("mlps", "a list of at least one pm.MLP", show(mlps)))
        first = self.mlps[0]
        for i, mlp in enumerate(self.mlps):
            if not isinstance(mlp, MLP):
                raise DataError(compose(f"mlps[{i}]", "a pm.MLP", show(mlp)))
            for name in ("n_features", "n_raw_outputs", "loss", "dtype"):
                expected, got = getattr(first, name), getattr(mlp, name)
                if got != expected:
                    raise DataError(compose(f"mlps[{i}].{name}", f"{expected}, as in mlps[0]", f"{got}"))
        self._names = agreed_names([mlp._names for mlp in self.mlps], "mlps")
        self.weights = _shares(weights, len(self.mlps))
        for i, (w, mlp) in enumerate(zip(self.weights.tolist(), self.mlps, strict=True)):
            if w > 0.0:
                require_finite(f"mlps[{i}]", mlp, "Leave it out, or give it weight 0.")
        self._loss = first._loss

    @property
    def n_features(self) -> int:
        """Number of columns of X."""
        return self.mlps[0].n_features

    @property
    def feature_names_in_(self) -> np.ndarray | None:
        """Names of the columns of X, (n_features,) strings as objects, a copy; None if no network has names."""
        return as_strings(self._names)

    @property
    def n_raw_outputs(self) -> int:
        """Number of columns that `forward` returns."""
        return self.mlps[0].n_raw_outputs

    @property
    def loss(self) -> str:
        """The loss's name, with its parameters that differ from the defaults."""
        return self.mlps[0].loss

    @property
    def dtype(self) -> np.dtype:
        """The networks' dtype, float32 or float64."""
        return self.mlps[0].dtype

    def __len__(self) -> int:
        return len(self.mlps)

    def members(self) -> list[tuple[float, MLP]]:
        """Return (weight, network) of each network with a weight above 0."""
        return [(w, mlp) for w, mlp in zip(self.weights.tolist(), self.mlps, strict=True) if w > 0.0]

    def n_parameters(self) -> int:
        """Return the number of weights and biases of all networks."""
        return sum(mlp.n_parameters() for mlp in self.mlps)

    def forward(self, X: Any) -> np.ndarray:
        """Return raw outputs (n_samples, n_raw_outputs) with which one network would predict the same.

        Raw outputs that are values or quantiles: their mean. Cross-entropy: logarithms of mean probabilities. Binary
        cross-entropy: log-odds of mean probabilities. Poisson: logarithms of mean rates. Gaussian: mean and logarithm
        of the variance. With a single network of weight above 0: its raw outputs.

        Raises DataError for a registered loss with a custom link.
        """
        reading, members, X = reading_of(self._loss), self.members(), self._numbers(X)
        if len(members) == 1:
            return members[0][1].forward(X)
        with np.errstate(all="ignore"):
            return raw_of_mean(reading, [(w, mlp.forward(X)) for w, mlp in members]).astype(self.dtype)

    def predict(self, X: Any) -> np.ndarray:
        """Return predictions in the target's units, shaped as those of one network.

        Means of values, or int64 labels from the mean of probabilities.
        """
        X = self._numbers(X)
        if not self._loss.has_probabilities:
            return self._mean(lambda mlp: mlp.predict(X)).astype(self.dtype)
        # The mean probability of a label minus 0.5 has the sign of the label's raw output.
        shift = 0.0 if self._loss.targets == "labels" else label_threshold(is_mean=True)
        return self._loss.predictions(self._mean(lambda mlp: mlp.predict_proba(X)) - shift)

    def predict_proba(self, X: Any) -> np.ndarray:
        """Return mean probabilities, (n_samples, n_outputs): of the classes, or of each label being 1.

        Raises DataError for regression losses.
        """
        X = self._numbers(X)
        return self._mean(lambda mlp: mlp.predict_proba(X)).astype(self.dtype)

    def predict_std(self, X: Any) -> np.ndarray:
        """Return standard deviations of the mixture, shaped as `predict` returns values.

        By the law of total variance its variance is the mean of variances plus the variance of means. Raises DataError
        for losses without a variance.
        """
        X = self._numbers(X)
        self._loss.standard_deviations(np.zeros((1, self.n_raw_outputs)))  # raises DataError if there are none
        raws = [(w, mlp.forward(X)) for w, mlp in self.members()]
        with np.errstate(all="ignore"):
            variance = mixture_variance([(w, raw[:, 0::2], raw[:, 1::2]) for w, raw in raws])
            std = np.sqrt(variance).astype(self.dtype)
        return std[:, 0] if std.shape[1] == 1 else std

    def predict_quantiles(self, X: Any) -> np.ndarray:
        """Return the mean quantile of each level, (n_samples, n_levels) or (n_samples, n_outputs, n_levels).

        The axis of outputs is dropped if there is one output. Raises DataError for losses without quantiles.
        """
        X = self._numbers(X)
        return self._mean(lambda mlp: mlp.predict_quantiles(X)).astype(self.dtype)

    def _numbers(self, X: Any) -> np.ndarray:
        """Return X as an array, converted once for all networks, after a check of its names."""
        require_names(self._names, X, source="ensemble.feature_names_in_")
        return as_numbers(X, "X")

    def _mean(self, predicted: Callable[[MLP], np.ndarray]) -> np.ndarray:
        with np.errstate(all="ignore"):
            return weighted_sum((w, predicted(mlp)) for w, mlp in self.members())

    def _networks(self) -> Networks:
        networks = tuple(mlp._network() for mlp in self.mlps)
        return Networks(networks, tuple(self.weights.tolist()), True, self._loss, self._names, repr(self))

    def _of_networks(self, networks: Networks) -> Ensemble:
        ensemble = Ensemble([MLP._of_network(network, networks.loss) for network in networks.networks], self.weights)
        ensemble.weights = self.weights.copy()  # exact: scaling to sum 1 again may change the last bit
        return ensemble

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the ensemble to a file (a zip of .npy arrays and a JSON header; no pickle)."""
        headers, arrays = [], {"weights": self.weights}
        for i, mlp in enumerate(self.mlps):
            header, mlp_arrays = mlp._parts(f"mlps[{i}]")
            headers.append(header)
            arrays |= {f"{i}/{name}": array for name, array in mlp_arrays.items()}
        write_archive(path, "ensemble", {"mlps": headers}, arrays)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Ensemble:
        """Read an ensemble from a file that `save` wrote. Raises FileFormatError for any other file."""
        head, arrays = read_archive(path, "ensemble")
        try:
            if head.keys() != {"mlps"} or not isinstance(head["mlps"], list) or "weights" not in arrays:
                raise DataError(compose("header", "a list of networks, and their weights", show(list(head))))
            weights, parts = arrays.pop("weights"), [dict[str, np.ndarray]() for _ in head["mlps"]]
            positions = {str(i): i for i in range(len(parts))}
            for name, array in arrays.items():
                number, _, rest = name.partition("/")
                if number not in positions:
                    raise DataError(compose("arrays", f"those of {len(parts)} networks", show(name)))
                parts[positions[number]][rest] = array
            ensemble = cls([MLP._from_parts(*pair) for pair in zip(head["mlps"], parts, strict=True)], weights)
            fits = weights.dtype == np.float64 and np.allclose(weights, ensemble.weights, rtol=1e-9, atol=0.0)
            if not fits:
                raise DataError(compose("weights", "float64 numbers of sum 1", show(weights)))
            ensemble.weights = weights  # exact: scaling to sum 1 again may change the last bit
            return ensemble
        except MISFITS as error:
            raise unfit(path, "an ensemble", error) from error

    def __repr__(self) -> str:
        shown = f"{len(self):,} network{'s' * (len(self) > 1)}"
        if np.ptp(self.weights) > 0.0:
            shown += f" of weight {self.weights.min():.2g} to {self.weights.max():.2g}"
        shown += f", {self.n_features} features, {self.loss}, {self.n_parameters():,} parameters, {self.dtype}"
        return f"Ensemble({shown})"


def _shares(weights: Any, n: int) -> np.ndarray:
    """Return weights as (n,) float64 numbers of sum 1. Raises DataError for invalid ones."""
    if weights is None:
        return np.full(n, 1.0 / n)
    values = numbers("weights", weights).astype(np.float64)
    if values.shape != (n,):
        raise DataError(compose("weights", f"a number for each of {n} networks", show(weights)))
    for i, w in enumerate(values.tolist()):
        if not (np.isfinite(w) and w >= 0.0):
            raise DataError(compose(f"weights[{i}]", "a finite number, at least 0", f"{w}"))
    if not values.any():
        raise DataError(compose("weights", "a number above 0 among them", show(weights)))
    # Divided by the largest first, so that the sum does not overflow.
    values = values / values.max()
    return values / values.sum()
