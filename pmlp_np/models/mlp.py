"""The standalone network: a multi-layer perceptron of NumPy arrays, which needs NumPy alone."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from pmlp_np.base.archive import MISFITS, read_archive, unfit, write_archive
from pmlp_np.base.checks import is_whole, numbers, whole_array
from pmlp_np.base.copying import Independent
from pmlp_np.base.errors import DataError, compose, show, unknown_name
from pmlp_np.data.containers import as_numbers
from pmlp_np.data.labels import as_strings, checked_names, require_names
from pmlp_np.formulas.activations import ACTIVATION_ALIASES, ACTIVATIONS
from pmlp_np.formulas.losses import Loss, as_loss, from_plain, to_plain
from pmlp_np.models.export.methods import Exportable
from pmlp_np.models.network import Layers, Network, Networks, require_finite


class MLP(Independent, Layers, Exportable):
    """One multi-layer perceptron: raw outputs = W_d' a(... a(W_0' x + b_0) ...) + b_d. It needs NumPy alone.

    weights: list of (fan_in, fan_out) arrays, one per layer, output layer last; all of one dtype, float32 or float64.
    biases: list of (fan_out,) arrays, or None for a network without biases (`biases` then holds zeros).
    activation: a name, or one name per hidden layer.
    loss: the loss of training, as for Pool. `predict` and the other `predict_...` methods read raw outputs by it. As an
        attribute: its name, with its parameters that differ from the defaults.
    features: columns of X that the network reads, in this order, (fan_in,) whole numbers; None (default) for all.
    n_columns: number of columns of X, required with `features`.
    feature_names: names of the columns of X, in order, or None (default). A data frame must then have these names, in
        this order; arrays have no names and are read by position.

    feature_names_in_: these names, (n_features,) strings as objects, or None.

    Raises DataError where shapes don't fit each other or a name is unknown.

        mlp = pool.extract(17);  mlp.predict(X);  mlp.weights[0].shape
    """

    weights: list[np.ndarray]
    biases: list[np.ndarray]

    def __init__(
        self,
        weights: Sequence[np.ndarray],
        biases: Sequence[np.ndarray] | None = None,
        activation: str | Sequence[str] = "relu",
        loss: str | Loss = "squared_error",
        features: Any = None,
        n_columns: int | None = None,
        feature_names: Sequence[str | int] | None = None,
    ) -> None:
        matrices = _matrices("weights", weights)
        vectors = None if biases is None else _matrices("biases", biases)
        dtype = np.result_type(*matrices) if matrices else np.dtype(np.float64)
        if dtype not in (np.float32, np.float64):
            dtype = np.dtype(np.float64)
        weights = [np.array(w, dtype) for w in matrices]
        biases = None if vectors is None else [np.array(b, dtype) for b in vectors]
        self._set(weights, biases, activation, loss, features, n_columns, feature_names)

    def _set(self, weights: list[np.ndarray], biases: list[np.ndarray] | None, activation: Any, loss: Any,
             features: Any, n_columns: Any, feature_names: Any) -> None:  # fmt: skip
        """Set all attributes, checked. The arrays, all of one dtype, are taken over without a copy."""
        if not weights:
            raise DataError(compose("weights", "at least one matrix", "none"))
        self.weights = weights
        self.bias = biases is not None
        self.biases = [np.zeros(w.shape[-1:], w.dtype) for w in weights] if biases is None else biases
        hidden = len(self.weights) - 1
        one_name = isinstance(activation, str) or not isinstance(activation, Iterable)
        names = [activation] * hidden if one_name else list(activation)
        self.activation = tuple(_known("activation", name, ACTIVATIONS, ACTIVATION_ALIASES) for name in names)
        self._loss = as_loss(loss)
        self.loss = str(self._loss)
        if len(self.activation) != hidden:
            raise DataError(compose("activation", f"one name per hidden layer ({hidden})", show(activation)))
        if len(self.biases) != len(self.weights):
            raise DataError(compose("biases", f"one vector per layer ({len(self.weights)})", f"{len(self.biases)}"))
        for k, (w, b) in enumerate(zip(self.weights, self.biases, strict=True)):
            if w.ndim != 2 or (k and w.shape[0] != self.weights[k - 1].shape[1]):
                rows = "fan_in" if k == 0 else self.weights[k - 1].shape[1]
                raise DataError(compose(f"weights[{k}]", f"shape ({rows}, fan_out)", str(w.shape)))
            if b.shape != (w.shape[1],):
                raise DataError(compose(f"biases[{k}]", f"shape ({w.shape[1]},)", str(b.shape)))

        fan_in = len(self.weights[0])
        self.features, self._n_columns = None, fan_in
        if features is not None:
            expected = f"{fan_in} column numbers below n_columns ({show(n_columns)})"
            columns = whole_array(features)
            if columns is None or columns.shape != (fan_in,) or not is_whole(n_columns):
                raise DataError(compose("features", expected, show(features)))
            if not ((columns >= 0) & (columns < n_columns)).all():
                raise DataError(compose("features", expected, show(features)))
            self.features, self._n_columns = columns, int(n_columns)
        self._names = checked_names("feature_names", feature_names, self._n_columns)

    def __setstate__(self, state: Any) -> None:
        super().__setstate__(state)
        for name in self.activation:
            if name not in ACTIVATIONS:
                hint = "Enter it first: pm.register_activation."
                raise DataError(compose("activation", "one that this process knows", show(name), hint))

    @property
    def n_features(self) -> int:
        """Number of columns of X."""
        return self._n_columns

    @property
    def feature_names_in_(self) -> np.ndarray | None:
        """Names of the columns of X, (n_features,) strings as objects, a copy; None if there are none."""
        return as_strings(self._names)

    def forward(self, X: Any) -> np.ndarray:
        """Return raw outputs, before any link: (n_samples, n_raw_outputs) of the network's dtype.

        X: (n_samples, n_features).
        """
        a = self._activations(X, len(self.hidden))
        with np.errstate(all="ignore"):
            return a @ self.weights[-1] + self.biases[-1]

    def hidden_activations(self, X: Any, layer: int = -1) -> np.ndarray:
        """Return the activations of a hidden layer: (n_samples, width) of the network's dtype.

        X: (n_samples, n_features).
        layer: index of the layer: 0 is the first behind the features, -1 the last one. Default -1.

        Raises DataError if there is no such layer.
        """
        return self._activations(X, hidden_layer(self.hidden, layer, "layer") + 1)

    def _activations(self, X: Any, depth: int) -> np.ndarray:
        """Return the activations of the last of the first `depth` hidden layers; for 0, the columns that are read."""
        require_names(self._names, X, source="mlp.feature_names_in_")
        with np.errstate(over="ignore"):  # too large values become infinite
            a = np.asarray(as_numbers(X, "X"), self.dtype)
        if a.ndim != 2 or a.shape[1] != self.n_features:
            raise DataError(compose("X", f"shape (n_samples, {self.n_features})", str(a.shape)))
        if self.features is not None:
            a = a[:, self.features]
        with np.errstate(all="ignore"):
            for w, b, name in zip(self.weights[:depth], self.biases[:depth], self.activation[:depth], strict=True):
                a, _ = ACTIVATIONS[name].function(a @ w + b)
        return a

    def predict(self, X: Any) -> np.ndarray:
        """Return predictions in the target's units.

        Values: (n_samples,) for one output, else (n_samples, n_outputs). Labels, int64: (n_samples,) classes for
        cross-entropy; 0 or 1, shaped like values, for binary cross-entropy. Raises DataError if labels are to be
        predicted from raw outputs that are NaN.
        """
        return self._loss.predictions(self.forward(X))

    def predict_proba(self, X: Any) -> np.ndarray:
        """Return probabilities, (n_samples, n_outputs): of the classes, or of each label being 1.

        Raises DataError for regression losses.
        """
        return self._loss.probabilities(self.forward(X))

    def predict_std(self, X: Any) -> np.ndarray:
        """Return predicted standard deviations, shaped as `predict` returns values.

        Raises DataError for losses without a variance.
        """
        return self._loss.standard_deviations(self.forward(X))

    def predict_quantiles(self, X: Any) -> np.ndarray:
        """Return all predicted quantiles, (n_samples, n_levels) or (n_samples, n_outputs, n_levels).

        The axis of outputs is dropped if there is one output. Raises DataError for losses without quantiles.
        """
        return self._loss.quantiles(self.forward(X))

    def _network(self) -> Network:
        return Network(tuple(self.weights), tuple(self.biases), self.bias, self.activation, self.features,
                       self._n_columns, self._names)  # fmt: skip

    def _networks(self) -> Networks:
        return Networks((self._network(),), (1.0,), False, self._loss, self._names, repr(self))

    @staticmethod
    def _of_network(network: Network, loss: Loss) -> MLP:
        biases = network.biases if network.bias else None
        n_columns = None if network.features is None else network.n_features
        return MLP(network.weights, biases, network.activation, loss, network.features, n_columns, network.names)

    def _of_networks(self, networks: Networks) -> MLP:
        return self._of_network(networks.networks[0], networks.loss)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the network to a file (a zip of .npy arrays and a JSON header; no pickle).

        Raises DataError for weights that are not finite, as of a member that diverged.
        """
        header, arrays = self._parts()
        write_archive(path, "mlp", header, arrays)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> MLP:
        """Read a network from a file that `save` wrote. Raises FileFormatError for any other file."""
        header, arrays = read_archive(path, "mlp")
        try:
            return cls._from_parts(header, arrays)
        except MISFITS as error:
            raise unfit(path, "a network", error) from error

    def _parts(self, name: str = "the network") -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """Return the content of the network's file: a header of plain values, and arrays by name.

        Raises DataError, which calls the network `name`, for weights that are not finite.
        """
        require_finite(name, self, "Networks that have diverged are kept in no file but their pool's.")
        header: dict[str, Any] = {
            "activation": list(self.activation),
            "loss": to_plain(self._loss),
            "bias": self.bias,
            "layers": len(self.weights),
        }
        arrays = {f"weights_{k}": w for k, w in enumerate(self.weights)}
        if self.bias:
            arrays |= {f"biases_{k}": b for k, b in enumerate(self.biases)}
        if self.features is not None:
            header["n_columns"] = self.n_features
            arrays["features"] = self.features
        header["feature_names"] = None if self._names is None else list(self._names)
        return header, arrays

    @classmethod
    def _from_parts(cls, header: Any, arrays: dict[str, np.ndarray]) -> MLP:
        """Return the network of these parts (see `_parts`). Raises DataError for missing and for wrong ones."""
        if not isinstance(header, dict):
            raise DataError(compose("header", "the parts of a network", show(header)))
        has_features = "features" in arrays
        names = {"activation", "loss", "bias", "layers", "feature_names", *(["n_columns"] if has_features else [])}
        if header.keys() != names:
            raise DataError(compose("header", f"{', '.join(sorted(names))}", ", ".join(map(show, sorted(header)))))
        layers, bias = header["layers"], header["bias"]
        # A single missing array gets the clearer error below. The limit is needed because `layers` may be any number.
        if not is_whole(layers) or not 1 <= layers <= len(arrays) + 1 or not isinstance(bias, bool):
            raise DataError(compose("header", "a number of layers, and whether they have biases", show(header)))
        kinds = ["weights", "biases"] if bias else ["weights"]
        expected = [f"{kind}_{k}" for kind in kinds for k in range(layers)] + ["features"] * has_features
        if arrays.keys() != set(expected):
            odd = arrays.keys() ^ set(expected)
            raise DataError(compose("arrays", f"those of {layers} layers", f"{show(min(odd))} missing or too many"))
        for name, array in arrays.items():
            dtypes = (np.int64,) if name == "features" else (np.float32, np.float64)
            if array.dtype not in dtypes or (name != "features" and array.dtype != arrays["weights_0"].dtype):
                raise DataError(compose(name, " or ".join(np.dtype(d).name for d in dtypes), str(array.dtype)))
            if not array.size:
                raise DataError(compose(name, "at least one number", "none"))
        mlp = object.__new__(cls)
        parts = [[arrays[f"{kind}_{k}"] for k in range(layers)] for kind in kinds]
        mlp._set(parts[0], parts[1] if bias else None, header["activation"], from_plain(header["loss"]),
                 arrays.get("features"), header.get("n_columns"), header["feature_names"])  # fmt: skip
        require_finite("the network", mlp, "")
        heads = mlp._loss.heads
        mlp._loss.check_outputs(mlp.n_raw_outputs // heads)
        if mlp.n_raw_outputs % heads or not isinstance(header["activation"], list):
            raise DataError(compose("header", f"what fits {mlp.n_raw_outputs} outputs", show(header)))
        return mlp

    def __repr__(self) -> str:
        widths = "-".join(str(w) for w in (len(self.weights[0]), *self.hidden, self.n_raw_outputs))
        names = sorted(set(self.activation), key=self.activation.index)
        shown = ", ".join([widths, *(["/".join(names)] if names else ["linear"]), *([] if self.bias else ["no bias"])])
        return f"MLP({shown}, {self.loss}, {self.n_parameters():,} parameters, {self.dtype})"


def hidden_layer(hidden: tuple[int, ...], layer: Any, name: str) -> int:
    """Return the index, from 0, of a hidden layer. Negative ones count from the last layer.

    hidden: widths of the hidden layers. name: of the argument, for errors. Raises DataError if there is no such layer.
    """
    depth = len(hidden)
    if not depth:
        raise DataError(compose(name, "a network with hidden layers", "one without"))
    if not is_whole(layer) or not -depth <= layer < depth:
        raise DataError(compose(name, f"a whole number from {-depth} to {depth - 1}", show(layer)))
    return int(layer) % depth


def _matrices(name: str, values: Any) -> list[np.ndarray]:
    """Return a list of arrays of real numbers. Raises DataError, with the position, for anything else."""
    if not isinstance(values, Iterable) or isinstance(values, (str, bytes, dict)):
        raise DataError(compose(name, "a list of arrays", show(values)))
    return [numbers(f"{name}[{k}]", value) for k, value in enumerate(values)]


def _known(argument: str, name: Any, table: dict[str, Any], aliases: dict[str, str]) -> str:
    known = aliases.get(name, name) if isinstance(name, str) else None
    if known not in table:
        raise DataError(unknown_name(argument, name, table, aliases))
    return known
