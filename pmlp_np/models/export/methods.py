"""The methods by which networks and ensembles leave: what both share, each a thin door to the file that does it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    import onnx
    import torch

    from pmlp_np.models.network import Networks


class Exportable:
    """What pm.MLP and pm.Ensemble have in common: folding of preprocessing, and forms for other systems."""

    def _networks(self) -> Networks:
        """The model as plain data."""
        raise NotImplementedError

    def _of_networks(self, networks: Networks) -> Self:
        """A model of this kind, with the same weights of a mean, from plain data."""
        raise NotImplementedError

    def folded(self, inputs: Any = None, outputs: Any = None) -> Self:
        """The same model for raw data: what prepared its inputs and targets is folded into weights and biases.

        inputs: (shift, scale), numbers or arrays (n_features,), of columns that were prepared as (x - shift) / scale;
            or the fitted StandardScaler, MinMaxScaler, MaxAbsScaler or RobustScaler of scikit-learn that did it.
            Default None: as they are.
        outputs: likewise of targets, numbers or arrays (n_outputs,); predictions become y * scale + shift, standard
            deviations grow with them. Default None.

        It is computed in float64 and rounded to the model's dtype. Where a shift is far larger than its scale, a
        float32 network of raw columns has the fewer digits for it. A network without biases gets some where a shift
        needs them. Raises DataError for scales of 0, for what is not affine (a scaler that clips), and for outputs
        where the loss doesn't predict values as they are (Poisson, classes).
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
        """The model as ONNX (opset 13, IR version 7), which ONNX Runtime 1.6 and newer runs. Needs the package onnx.

        Input: X (n_samples, n_features) of the model's dtype. Outputs, shaped as `predict` and its like return them:
        `prediction`, and `std` or `quantiles` where the loss has them; for classes `label` and `probabilities`. Where
        raw outputs are not numbers, as of an X that is far too large, the label is -1 (of named classes "", or the
        number below the least where -1 is a class).

        path: a file to write it to, whole or not at all. Default None: none.
        input_names: names of the columns, kept as JSON in the model's metadata ("feature_names"). Default:
            `feature_names_in_`, if any.
        class_names: what labels are called, strings or whole numbers: one per class of cross-entropy, two for one
            output of binary cross-entropy. Default: labels are numbers from 0.

        Raises DataError where names don't fit or weights are not finite (of a member that diverged), ImportError where
        onnx is missing.
        """
        from pmlp_np.models.export.to_onnx import to_onnx

        return to_onnx(self._networks(), path, input_names, class_names)

    def to_torch(self) -> torch.nn.Module:
        """The model as a torch.nn.Module with trainable parameters. Needs PyTorch.

        `forward` takes (n_samples, n_features) of the model's dtype and returns raw outputs as the model's own
        `forward` does; `predict`, `predict_proba`, `predict_std` and `predict_quantiles` return tensors, without
        gradients. The label is -1 where outputs are not numbers. Its class is in models/export/torch_module.py, which
        needs PyTorch alone.

        Raises DataError where weights are not finite (of a member that diverged), ImportError where PyTorch is missing.
        """
        from pmlp_np.models.export.to_torch import to_torch

        return to_torch(self._networks())

    def to_sklearn(self, classes: Any = None) -> Any:
        """The model as a fitted estimator of scikit-learn: MLPRegressor or MLPClassifier; VotingRegressor or (soft)
        VotingClassifier for ensembles.

        classes: labels of the classes, in the order of this model's. Default: 0, 1, 2, ...

        predict returns this model's predictions; predict_proba has its columns in the order of `classes_`, which
        scikit-learn sorts, and two of them for one output of binary cross-entropy. Columns that the network doesn't
        read have weights of zero there. It has `feature_names_in_` where this model has.

        Raises DataError for what scikit-learn can't express: activations other than identity, sigmoid, tanh and relu,
        or several in one network; losses with several heads; ensembles of several outputs; and for weights that are not
        finite (of a member that diverged). ImportError where scikit-learn is missing. What its predict makes of an X so
        large that outputs overflow is scikit-learn's: look at predict_proba there.
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
        """The model as the text of one Python file that needs NumPy alone, with all its weights to the last bit.

        It has `predict`, and `forward`, `predict_proba`, `predict_std` and `predict_quantiles` where they are defined,
        and a command line: `python model.py rows.csv` prints a prediction per row of a CSV file.

        path: a file to write it to, whole or not at all. Default None: none.
        input_names: names of the columns, by which a CSV file's columns are then found; a data frame must have them in
            this order. Default: `feature_names_in_`; where that is None, columns are taken by their order.
        class_names: as for `to_onnx`; `predict` then returns names.

        Raises DataError where names don't fit or weights are not finite (of a member that diverged). `predict` raises
        ValueError, with the row, where outputs are not numbers, of which no label can be made.
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
        """The model as the text of one C header: C99 (and C++11), <math.h> alone, no allocation, all weights exact.

        Numbers are float for a float32 model (double for float64). For x with a number for each feature it has:

        - values: `float model_predict(x)` of one output, `model_predict_values(x, out)` of any number; and
          `model_predict_std(x, out)`, `model_predict_quantiles(x, out)` where the loss has them;
        - classes: `int model_predict(x)`, a number from 0, or -1 where outputs are not numbers, and
          `model_predict_proba(x, out)`; of several labels at once `model_predict_labels(x, labels)`;
        - `model_forward(x, raw)`, raw outputs, of a network that is no ensemble.

        path: a file to write it to, whole or not at all. Default None: none.
        input_names: names of the columns, as an array `model_feature_names`. Default: `feature_names_in_`, if any.
        class_names: as for `to_onnx`, as an array `model_class_names`. Default: none.
        prefix: what all names begin with instead. Default: the file's name where it is an identifier, else "model".

        Raises DataError where names don't fit.
        """
        from pmlp_np.models.export.to_c import to_c

        return to_c(self._networks(), path, input_names, class_names, prefix)
