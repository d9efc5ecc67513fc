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
    """A weighted mean of networks: of their values, of their probabilities (not of logits). It needs NumPy alone.

    mlps: the networks, which agree on columns of X (and their names, where they have them), outputs, loss and dtype.
    weights: how much each counts, (n_mlps,) finite numbers at least 0, scaled to sum 1. Default None: all the same.

    As attributes, `mlps` is a tuple and `weights` a float64 array of sum 1. Means are taken in float64 and returned in
    the networks' dtype; networks of weight 0 are not evaluated.

    Raises DataError where a network doesn't fit the first, by position, or has weights that are not finite (of a member
    that diverged) and counts, or weights are no weights.

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
        """Columns that X must have."""
        return self.mlps[0].n_features

    @property
    def feature_names_in_(self) -> np.ndarray | None:
        """Names of the columns of X, (n_features,) strings as objects, a copy; None where no network has them."""
        return as_strings(self._names)

    @property
    def n_raw_outputs(self) -> int:
        """Columns that `forward` returns."""
        return self.mlps[0].n_raw_outputs

    @property
    def loss(self) -> str:
        """The loss's name, with those parameters that are not at their default."""
        return self.mlps[0].loss

    @property
    def dtype(self) -> np.dtype:
        """float32 or float64: what its networks compute in."""
        return self.mlps[0].dtype

    def __len__(self) -> int:
        return len(self.mlps)

    def members(self) -> list[tuple[float, MLP]]:
        """(weight, network) of those that count: whose weight is not 0."""
        return [(w, mlp) for w, mlp in zip(self.weights.tolist(), self.mlps, strict=True) if w > 0.0]

    def n_parameters(self) -> int:
        """Number of weights and biases of all networks."""
        return sum(mlp.n_parameters() for mlp in self.mlps)

    def forward(self, X: Any) -> np.ndarray:
        """Raw outputs (n_samples, n_raw_outputs) that one network would need to predict the same.

        Where raw outputs are values or quantiles, their mean; else logarithms of mean probabilities (cross-entropy),
        log-odds of mean probabilities (binary cross-entropy), logarithms of mean rates (Poisson), mean and logarithm of
        the variance (Gaussian). Where one network alone counts, its own. DataError for a registered loss with a link of
        its own.
        """
        reading, members, X = reading_of(self._loss), self.members(), self._numbers(X)
        if len(members) == 1:
            return members[0][1].forward(X)
        with np.errstate(all="ignore"):
            return raw_of_mean(reading, [(w, mlp.forward(X)) for w, mlp in members]).astype(self.dtype)

    def predict(self, X: Any) -> np.ndarray:
        """Predictions in the target's own space, shaped as those of one network: means of values; int64 labels by the
        mean of probabilities."""
        X = self._numbers(X)
        if not self._loss.has_probabilities:
            return self._mean(lambda mlp: mlp.predict(X)).astype(self.dtype)
        # The mean probability of one label, less a half, has the sign that the label's raw output would have.
        shift = 0.0 if self._loss.targets == "labels" else label_threshold(is_mean=True)
        return self._loss.predictions(self._mean(lambda mlp: mlp.predict_proba(X)) - shift)

    def predict_proba(self, X: Any) -> np.ndarray:
        """Means of probabilities, (n_samples, n_outputs): of the classes, or of each label being 1. DataError for
        regression losses."""
        X = self._numbers(X)
        return self._mean(lambda mlp: mlp.predict_proba(X)).astype(self.dtype)

    def predict_std(self, X: Any) -> np.ndarray:
        """Standard deviations of the mixture, shaped as `predict` returns values: by the law of total variance, the
        mean of variances plus the variance of means. DataError for losses without a variance."""
        X = self._numbers(X)
        self._loss.standard_deviations(np.zeros((1, self.n_raw_outputs)))  # DataError where it has none
        raws = [(w, mlp.forward(X)) for w, mlp in self.members()]
        with np.errstate(all="ignore"):
            variance = mixture_variance([(w, raw[:, 0::2], raw[:, 1::2]) for w, raw in raws])
            found = np.sqrt(variance).astype(self.dtype)
        return found[:, 0] if found.shape[1] == 1 else found

    def predict_quantiles(self, X: Any) -> np.ndarray:
        """Means of each level's quantiles, (n_samples, n_levels) for one output, else (n_samples, n_outputs, n_levels).
        DataError for losses without."""
        X = self._numbers(X)
        return self._mean(lambda mlp: mlp.predict_quantiles(X)).astype(self.dtype)

    def _numbers(self, X: Any) -> np.ndarray:
        """X as an array, once for all networks, with its names checked."""
        require_names(self._names, X, source="ensemble.feature_names_in_")
        return as_numbers(X, "X")

    def _mean(self, predicted: Callable[[MLP], np.ndarray]) -> np.ndarray:
        with np.errstate(all="ignore"):
            return weighted_sum((w, predicted(mlp)) for w, mlp in self.members())

    def _networks(self) -> Networks:
        found = [mlp._network() for mlp in self.mlps]
        return Networks(tuple(found), tuple(self.weights.tolist()), True, self._loss, self._names, repr(self))

    def _of_networks(self, networks: Networks) -> Ensemble:
        found = Ensemble([MLP._of_network(network, networks.loss) for network in networks.networks], self.weights)
        found.weights = self.weights.copy()  # to the last bit
        return found

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the ensemble to a file (a zip of .npy arrays and a JSON header; no pickle)."""
        headers, arrays = [], {"weights": self.weights}
        for i, mlp in enumerate(self.mlps):
            header, own = mlp._parts(f"mlps[{i}]")
            headers.append(header)
            arrays |= {f"{i}/{name}": array for name, array in own.items()}
        write_archive(path, "ensemble", {"mlps": headers}, arrays)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Ensemble:
        """Read an ensemble that `save` wrote. Raises FileFormatError for any other file."""
        head, arrays = read_archive(path, "ensemble")
        try:
            if head.keys() != {"mlps"} or not isinstance(head["mlps"], list) or "weights" not in arrays:
                raise DataError(compose("header", "a list of networks, and their weights", show(list(head))))
            weights, parts = arrays.pop("weights"), [dict[str, np.ndarray]() for _ in head["mlps"]]
            places = {str(i): i for i in range(len(parts))}
            for name, array in arrays.items():
                number, _, rest = name.partition("/")
                if number not in places:
                    raise DataError(compose("arrays", f"those of {len(parts)} networks", show(name)))
                parts[places[number]][rest] = array
            found = cls([MLP._from_parts(*pair) for pair in zip(head["mlps"], parts, strict=True)], weights)
            fits = weights.dtype == np.float64 and np.allclose(weights, found.weights, rtol=1e-9, atol=0.0)
            if not fits:
                raise DataError(compose("weights", "float64 numbers of sum 1", show(weights)))
            found.weights = weights  # to the last bit
            return found
        except MISFITS as error:
            raise unfit(path, "an ensemble", error) from error

    def __repr__(self) -> str:
        shown = f"{len(self):,} network{'s' * (len(self) > 1)}"
        if np.ptp(self.weights) > 0.0:
            shown += f" of weight {self.weights.min():.2g} to {self.weights.max():.2g}"
        shown += f", {self.n_features} features, {self.loss}, {self.n_parameters():,} parameters, {self.dtype}"
        return f"Ensemble({shown})"


def _shares(weights: Any, n: int) -> np.ndarray:
    """(n,) float64 numbers of sum 1. DataError where they can't be had of what is given."""
    if weights is None:
        return np.full(n, 1.0 / n)
    given = numbers("weights", weights).astype(np.float64)
    if given.shape != (n,):
        raise DataError(compose("weights", f"a number for each of {n} networks", show(weights)))
    for i, w in enumerate(given.tolist()):
        if not (np.isfinite(w) and w >= 0.0):
            raise DataError(compose(f"weights[{i}]", "a finite number, at least 0", f"{w}"))
    if not given.any():
        raise DataError(compose("weights", "a number above 0 among them", show(weights)))
    # By the largest first: a sum must not overflow.
    given = given / given.max()
    return given / given.sum()
