"""The export methods of networks and ensembles. Each imports the file of its target on first use."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    import onnx
    import torch

    from pmlp_np.models.network import Networks


class Exportable:
    """The common methods of pm.MLP and pm.Ensemble: folding of preprocessing, and exports to other systems."""

    def _networks(self) -> Networks:
        """Return the model as plain data."""
        raise NotImplementedError

    def _of_networks(self, networks: Networks) -> Self:
        """Return a model of this class from plain data. An ensemble keeps its weights."""
        raise NotImplementedError

    def folded(self, inputs: Any = None, outputs: Any = None) -> Self:
        """Return the same model for raw data: preprocessing of inputs and targets is folded into weights and biases.

        inputs: (shift, scale), numbers or arrays (n_features,), of columns that were preprocessed as
            (x - shift) / scale; or the fitted StandardScaler, MinMaxScaler, MaxAbsScaler or RobustScaler of
            scikit-learn. Default None: no preprocessing.
        outputs: the same of targets, numbers or arrays (n_outputs,). Predictions become y * scale + shift, and standard
            deviations are multiplied by scale. Default None.

        Weights are computed in float64 and rounded to the model's dtype. In float32, digits are lost where a shift is
        far larger than its scale. A network without biases gets biases if a shift needs them.

        Raises DataError for scales of 0, for a scaler that is not affine (one that clips), and for `outputs` if the
        loss does not predict values directly (Poisson, classes).
        """
        from pmlp_np.models.export.folding import folded

        return self._of_networks(folded(self._networks(), inputs, outputs))

    def to_onnx(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        input_names: Sequence[str] | None = None,
        class_names: Sequence[str] | Sequence[int] | None = None,
    ) -> onnx.ModelProto:
        """Return the model as ONNX (opset 13, IR version 7), for ONNX Runtime 1.6 and newer. Needs the package onnx.

        Input: X (n_samples, n_features) of the model's dtype. Outputs, shaped as the results of the `predict...`
        methods: `prediction`, and `std` or `quantiles` if the loss has them; for classes `label` and `probabilities`.
        If raw outputs are not numbers, as for far too large values of X, the label is -1 (with named classes "", or the
        smallest class minus 1 if -1 is a class).

        path: a file to write the model to, atomically. Default None: no file.
        input_names: names of the columns, stored as JSON in the model's metadata ("feature_names"). Default:
            `feature_names_in_`, if any.
        class_names: names of the labels, strings or whole numbers: one per class of cross-entropy, two for one output
            of binary cross-entropy. Default: labels are numbers from 0.

        Raises DataError for names that don't fit and for weights that are not finite (of a member that diverged),
        ImportError if onnx is missing.
        """
        from pmlp_np.models.export.to_onnx import to_onnx

        return to_onnx(self._networks(), path, input_names, class_names)

    def to_torch(self) -> torch.nn.Module:
        """Return the model as a torch.nn.Module with trainable parameters. Needs PyTorch.

        The module's `forward` takes (n_samples, n_features) of the model's dtype and returns raw outputs, as this
        model's `forward` does. `predict`, `predict_proba`, `predict_std` and `predict_quantiles` return tensors without
        gradients. The label is -1 if outputs are not numbers. The module's class is in models/export/torch_module.py,
        which needs PyTorch alone.

        Raises DataError for weights that are not finite (of a member that diverged), ImportError if PyTorch is missing.
        """
        from pmlp_np.models.export.to_torch import to_torch

        return to_torch(self._networks())

    def to_sklearn(self, classes: Any = None) -> Any:
        """Return the model as a fitted scikit-learn estimator.

        A network becomes an MLPRegressor or MLPClassifier, an ensemble a VotingRegressor or (soft) VotingClassifier.

        classes: labels of the classes, in the order of this model's. Default: 0, 1, 2, ...

        The estimator's `predict` returns this model's predictions. Columns of `predict_proba` are in the order of
        `classes_`, which scikit-learn sorts; there are two for one output of binary cross-entropy. Columns of X that
        the network doesn't read get weights of zero. The estimator has `feature_names_in_` if this model has.

        Raises DataError for models that scikit-learn can't express: activations other than identity, sigmoid, tanh and
        relu, or several in one network; losses with several heads; ensembles of several outputs; and for weights that
        are not finite (of a member that diverged). Raises ImportError if scikit-learn is missing. If X is so large that
        outputs overflow, the estimator's labels are undefined: check predict_proba for NaN.
        """
        from pmlp_np.models.export.to_sklearn import to_sklearn

        return to_sklearn(self._networks(), classes)

    def to_python(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        input_names: Sequence[str] | None = None,
        class_names: Sequence[str] | Sequence[int] | None = None,
    ) -> str:
        """Return the model as the text of one Python file that needs NumPy alone. All weights are exact.

        The file defines `predict`, and `forward`, `predict_proba`, `predict_std` and `predict_quantiles` if the model
        has them, and a command line: `python model.py rows.csv` prints a prediction per row of a CSV file.

        path: a file to write the text to, atomically. Default None: no file.
        input_names: names of the columns. A CSV file is then read by name; a data frame must have the columns in this
            order. Default: `feature_names_in_`; if that is None, columns are read by position.
        class_names: as for `to_onnx`; `predict` then returns names.

        Raises DataError for names that don't fit and for weights that are not finite (of a member that diverged). The
        file's `predict` raises ValueError, with the row, if labels are to be predicted from outputs that are not
        numbers.
        """
        from pmlp_np.models.export.to_python import to_python

        return to_python(self._networks(), path, input_names, class_names)

    def to_c(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        input_names: Sequence[str] | None = None,
        class_names: Sequence[str] | Sequence[int] | None = None,
        prefix: str | None = None,
    ) -> str:
        """Return the model as the text of one C header: C99 (and C++11), <math.h> alone, no allocation, exact weights.

        Numbers are float for a float32 model (double for float64). The functions for x, an array of n_features numbers:

        - values: `float model_predict(x)` of one output, `model_predict_values(x, out)` of any number; and
          `model_predict_std(x, out)`, `model_predict_quantiles(x, out)` if the loss has them;
        - classes: `int model_predict(x)`, a number from 0, or -1 if outputs are not numbers, and
          `model_predict_proba(x, out)`; of several labels at once `model_predict_labels(x, labels)`;
        - `model_forward(x, raw)`, raw outputs, of a network (not of an ensemble).

        path: a file to write the text to, atomically. Default None: no file.
        input_names: names of the columns, as an array `model_feature_names`. Default: `feature_names_in_`, if any.
        class_names: as for `to_onnx`, as an array `model_class_names`. Default: none.
        prefix: prefix of all names, instead of "model". Default: the file's name if it is an identifier, else "model".

        Raises DataError for names that don't fit.
        """
        from pmlp_np.models.export.to_c import to_c

        return to_c(self._networks(), path, input_names, class_names, prefix)
