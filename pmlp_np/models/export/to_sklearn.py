"""Networks as fitted scikit-learn estimators."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np

from pmlp_np.base.errors import DataError, compose, show
from pmlp_np.data.labels import as_strings
from pmlp_np.formulas.losses import Loss
from pmlp_np.formulas.reading import Reading, reading_of
from pmlp_np.models.export.common import members_of, needed
from pmlp_np.models.network import Network, Networks

_ACTIVATIONS = {"identity": "identity", "sigmoid": "logistic", "tanh": "tanh", "relu": "relu"}
_INSTEAD = "Use to_python, to_onnx or to_torch."


def to_sklearn(model: Networks, classes: Any = None) -> Any:
    """Return a fitted estimator. Arguments and errors as of `MLP.to_sklearn`."""
    needed("sklearn")
    members = members_of(model)
    reading = reading_of(model.loss)
    if reading.heads > 1:
        _cannot("loss", "one raw output per output", f"{reading.heads} ({model.loss})")
    n = model.n_raw_outputs
    labels = _labels(classes, reading, n)
    if not model.is_mean:
        return _estimator(members[0][1], model.loss, reading, labels)
    if n > 1 and reading.link != "softmax":
        _cannot("ensemble", "one output, of which scikit-learn takes means", f"{n}")
    # These estimators compute the means that `averaging.averages` defines: of values, and of probabilities.
    from sklearn.ensemble import VotingClassifier, VotingRegressor

    # The inner estimators of a VotingClassifier know classes by number.
    inner = None if labels is None else np.arange(len(labels))
    order = None if labels is None else np.argsort(labels, kind="stable")
    fitted = [_estimator(network, model.loss, reading, inner, order) for _, network in members]
    estimators = [(f"member_{i}", estimator) for i, estimator in enumerate(fitted)]
    weights = [weight for weight, _ in members]
    if labels is None:
        voting = VotingRegressor(estimators, weights=weights)
    else:
        from sklearn.preprocessing import LabelEncoder

        voting = VotingClassifier(estimators, voting="soft", weights=weights)
        voting.le_ = LabelEncoder().fit(labels)
        voting.classes_ = voting.le_.classes_
    from sklearn.utils import Bunch

    voting.estimators_ = [estimator for _, estimator in estimators]
    voting.named_estimators_ = Bunch(**dict(estimators))
    if (names := model.feature_names) is not None:
        voting.feature_names_in_ = names
    return voting


def _cannot(name: str, expected: str, got: str) -> None:
    raise DataError(compose(f"{name} for scikit-learn", expected, got, _INSTEAD))


def _labels(classes: Any, reading: Reading, n: int) -> np.ndarray | None:
    """Return labels of the classes in the model's order; None for values, and for several labels at once.

    Raises DataError for labels that don't fit.
    """
    if not reading.has_probabilities or (reading.link == "sigmoid" and n > 1):
        if classes is not None:
            raise DataError(compose("classes", "None for a model without classes", show(classes)))
        return None
    n_classes = 2 if reading.link == "sigmoid" else n
    labels = np.arange(n_classes) if classes is None else np.asarray(classes)
    if labels.shape != (n_classes,) or len(set(labels.tolist())) != n_classes:
        raise DataError(compose("classes", f"{n_classes} different labels", show(classes)))
    return labels


def _estimator(
    network: Network, loss: Loss, reading: Reading, labels: np.ndarray | None, order: np.ndarray | None = None
) -> Any:
    """Return a fitted MLPRegressor or MLPClassifier.

    order: the network's classes in the estimator's order. Default: the order that sorts the labels.
    """
    from sklearn.neural_network import MLPClassifier, MLPRegressor
    from sklearn.preprocessing import LabelBinarizer

    activation = _activation(network)
    first = np.zeros((network.n_features, network.weights[0].shape[1]), network.dtype)
    # Added up: a network may read a column twice.
    columns = np.arange(network.n_features) if network.features is None else network.features
    np.add.at(first, columns, network.weights[0])
    coefs = [first, *(w.copy() for w in network.weights[1:])]
    intercepts = [b.copy() for b in network.biases]
    settings = {"hidden_layer_sizes": network.hidden, "activation": activation}
    if not reading.has_probabilities:
        if reading.link == "exp":
            if "loss" not in inspect.signature(MLPRegressor).parameters:
                _cannot("loss", "squared_error, with scikit-learn below 1.7", str(loss))
            settings["loss"] = "poisson"
        estimator = MLPRegressor(**settings)
        estimator.out_activation_ = "exp" if reading.link == "exp" else "identity"
    else:
        estimator = MLPClassifier(**settings)
        binarizer = LabelBinarizer()
        if labels is None:
            binarizer.fit(np.eye(network.n_raw_outputs, dtype=np.int64))
        else:
            binarizer.fit(labels)
            order = np.argsort(labels, kind="stable") if order is None else order
            coefs[-1], intercepts[-1] = _last_layer(coefs[-1], intercepts[-1], order)
        estimator._label_binarizer, estimator.classes_ = binarizer, binarizer.classes_
        estimator.out_activation_ = "softmax" if coefs[-1].shape[1] > 2 and labels is not None else "logistic"
    estimator.coefs_, estimator.intercepts_ = coefs, intercepts
    estimator.n_features_in_, estimator.n_outputs_ = network.n_features, coefs[-1].shape[1]
    estimator.n_layers_ = len(coefs) + 1
    if (names := as_strings(network.names)) is not None:
        estimator.feature_names_in_ = names
    # The state from which partial_fit and warm_start continue.
    estimator.n_iter_, estimator.t_, estimator.loss_curve_, estimator.best_loss_ = 0, 0, [], np.inf
    estimator._no_improvement_count = 0
    estimator.validation_scores_ = estimator.best_validation_score_ = None
    return estimator


def _activation(network: Network) -> str:
    """Return scikit-learn's name of the network's activation. Raises DataError for several or unknown ones."""
    names = set(network.activation) or {"identity"}
    if len(names) > 1:
        _cannot("activation", "the same one in all layers", "/".join(network.activation))
    (name,) = names
    if name not in _ACTIVATIONS:
        _cannot("activation", f"one of {', '.join(_ACTIVATIONS)}", name)
    return _ACTIVATIONS[name]


def _last_layer(w: np.ndarray, b: np.ndarray, order: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return weights and biases of the output layer with classes in this order. Two classes get one logistic output."""
    if w.shape[1] == 1:
        # Log-odds of the second class. Those of the first have the opposite sign.
        sign = w.dtype.type(1 if order[0] == 0 else -1)
        return sign * w, sign * b
    w, b = w[:, order], b[order]
    if w.shape[1] > 2:
        return w, b
    # softmax(r0, r1)[1] = sigmoid(r1 - r0)
    return w[:, 1:] - w[:, :1], b[1:] - b[:1]
