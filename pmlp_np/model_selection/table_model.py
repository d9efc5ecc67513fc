"""A model of a table: feature views, an ensemble of members, and targets, with how sure it is."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pmlp_np.base.errors import DataError, compose, show
from pmlp_np.base.table import Table
from pmlp_np.data.encoded import EncodedTable
from pmlp_np.data.preprocessing.feature_views import FeatureViews
from pmlp_np.data.preprocessing.raw_table import part, raw_columns
from pmlp_np.model_selection import model_file
from pmlp_np.model_selection.calibration import Spread
from pmlp_np.model_selection.composition import composition
from pmlp_np.model_selection.targets import REGRESSION, Targets
from pmlp_np.models.ensemble import Ensemble
from pmlp_np.pool.pool import Pool

if TYPE_CHECKING:
    import onnx

# Rows that are predicted at a time.
_ROWS = 1 << 14


@dataclass(frozen=True, repr=False)
class TableModel:
    """Configurations with their weights in a mean, and all that leads from a table's rows to predictions.

    members: for each configuration a pool and the ids of the configuration's members in it, one for each fold, whose
    mean is its prediction. weights: (configurations,) of sum 1. spread: how far predictions may be off (regression), or
    None. temperature: of probabilities.

    Predictions are computed by the pools' backend: those of a row don't depend on the other rows, to the last bit.
    """

    views: FeatureViews
    blocks: tuple[str, ...]
    targets: Targets
    members: tuple[tuple[Pool, np.ndarray], ...]
    weights: np.ndarray
    spread: Spread | None = None
    temperature: float = 1.0

    def predict(self, X: Any) -> np.ndarray:
        """Return predictions in y's terms, (n_samples,) or (n_samples, n_outputs)."""
        return self.targets.predictions(self._mean(X))

    def predict_proba(self, X: Any) -> np.ndarray:
        """Return probabilities, (n_samples, n_classes), or of each label being 1. Raises DataError for regression."""
        self._require(REGRESSION, "probabilities", needed=False)
        return self._mean(X)

    def predict_std(self, X: Any) -> np.ndarray:
        """Return standard deviations of y around predictions, in their shape. Raises DataError for classes."""
        self._require(REGRESSION, "standard deviations", needed=True)
        assert self.spread is not None
        _, between = self._mean_and_spread(X)
        return self._in_units(self.spread.deviation(between))

    def predict_interval(self, X: Any, coverage: float = 0.9) -> np.ndarray:
        """Return the interval that holds y with this probability, (n_samples, 2), or (n_samples, n_outputs, 2).

        By conformal prediction: half-widths are quantiles of out-of-fold residuals over their expected size. Raises
        DataError for classes, and for a coverage that is not between 0 and 1.
        """
        self._require(REGRESSION, "intervals", needed=True)
        if not isinstance(coverage, (int, float, np.number)) or not 0.0 < coverage < 1.0:
            raise DataError(compose("coverage", "a number between 0 and 1", show(coverage)))
        assert self.spread is not None
        mean, between = self._mean_and_spread(X)
        half = self.spread.half_width(between, float(coverage))
        ends = np.stack([mean - half, mean + half], axis=-1) * self.targets.scale[:, None] + self.targets.mean[:, None]
        return ends[:, 0] if self.targets.flat else ends

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the model to a file, without pickle."""
        model_file.write(self, path)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> TableModel:
        """Read a model from a file that `save` wrote. Raises FileFormatError for any other file."""
        return cls(**model_file.read(path))

    def means(self, wide: EncodedTable) -> np.ndarray:
        """Return means over configurations of rows of the wide matrix, (n_samples, outputs).

        These are values in training's units, or probabilities.
        """
        return np.concatenate([self._of_rows(wide[k : k + _ROWS])[0] for k in range(0, len(wide), _ROWS)])

    def networks(self) -> Ensemble:
        """Return the members as a model of the wide matrix that needs NumPy alone."""
        networks = [pool.extract(int(id), weights=weights_of(pool)) for pool, ids in self.members for id in ids]
        counts = [len(ids) for _, ids in self.members]
        return Ensemble(networks, np.repeat(self.weights / counts, counts))

    def to_python(self, path: str | os.PathLike[str] | None = None) -> str:
        """Return the model as the text of one Python file that needs NumPy alone, preprocessing included.

        The file defines `predict(table)`, and `predict_proba(table)` of classes. A table is a dict of columns or a data
        frame, read by name; or rows in the order of training. Cells are as in training, texts of ISO dates too. As a
        script, `python model.py rows.csv` prints a prediction for each row of a CSV file, whose first line names the
        columns; missing cells are empty, or words such as NA. Labels that were booleans are 0 and 1.

        path: a file to write the text to, atomically. Default None: no file.

        Encodings are computed in float64 and cast once, as here; predictions equal those of `predict` but for the
        rounding of the members' dtype (float32: some 1e-6 standard deviations of y, or of probability).

        Raises DataError for whole numbers as labels that 64 bits don't hold.
        """
        from pmlp_np.model_selection.export.table_parts import parts_of
        from pmlp_np.model_selection.export.table_to_python import table_to_python

        return table_to_python(parts_of(self), path)

    def to_onnx(self, path: str | os.PathLike[str] | None = None) -> onnx.ModelProto:
        """Return the model as ONNX (opset 13), preprocessing included. Needs the package onnx.

        Inputs: one (n_samples, 1) for each column that is read, with its name. Numbers are float64, NaN where missing;
        dates float64 days since 1970-01-01 (UTC), NaN where missing; categories strings, "" where missing (if "" is a
        category: the text under "missing" in the metadata "columns", JSON that lists name, kind and missing).
        Outputs: `prediction` float64, shaped as `predict`'s; or `label` (strings or int64; booleans are 0 and 1) and
        `probabilities` (n_samples, n_classes) float64. An output with a column's name gets "_" appended. For infinite
        numbers, which `predict` refuses, values are NaN and labels those of no class (-1 or "").

        path: a file to write the model to, atomically. Default None: no file.

        Encodings are float64 and cast once to the members' dtype, as here: predictions differ by rounding (float32:
        some 1e-6 standard deviations of y, or of probability). Raises DataError for whole numbers as labels that 64
        bits don't hold, ImportError if onnx is missing.
        """
        from pmlp_np.model_selection.export.table_parts import parts_of
        from pmlp_np.model_selection.export.table_to_onnx import table_to_onnx

        return table_to_onnx(parts_of(self), path)

    def to_c(self, path: str | os.PathLike[str] | None = None, *, prefix: str | None = None) -> str:
        """Return the model as the text of one C99 header (C++11 too) that allocates nothing, preprocessing included.

        A row of the table is a struct `model_row` with a field for each column that is read: numbers double, NAN where
        missing; dates double, days since 1970-01-01 as `model_days(year, month, day)` gives them; categories strings,
        a null pointer where missing. Names that C does not allow are changed; comments have the original ones.
        Functions: `model_predict_values(row, out)`, and `double model_predict(row)` of one output; of classes
        `int model_predict(row)`, a number of the array `model_class_names`, and `model_predict_proba(row, out)`; of
        labels `model_predict_labels(row, labels)`. For infinite numbers values are NAN and labels -1.

        path: a file to write the text to, atomically. Default None: no file.
        prefix: prefix of all names, instead of "model". Default: the file's name if it is an identifier, else "model".

        Encodings are computed in double and cast once to the members' dtype, as here: predictions differ by rounding
        (float32: some 1e-6 standard deviations of y, or of probability). Raises DataError for a prefix that is no
        identifier, for categories with a NUL, and for whole numbers as labels that 64 bits don't hold.
        """
        from pmlp_np.model_selection.export.table_parts import parts_of
        from pmlp_np.model_selection.export.table_to_c import table_to_c

        return table_to_c(parts_of(self), path, prefix)

    def __repr__(self) -> str:
        n, members = len(self.members), sum(len(ids) for _, ids in self.members)
        return (
            f"TableModel({self.targets.task} on {len(self.views.columns)} columns: {n} configuration{'s' * (n != 1)}, "
            f"{members} member{'s' * (members != 1)}, {self.n_parameters():,} parameters)"
        )

    def composition(self) -> Table:
        """Return what the model is made of: a record of each configuration, by falling weight; it prints as a table.

        Keys: weight, architecture, view (the encodings that are read), members (one for each fold), and of its first
        member inputs, parameters, epochs, optimizer and learning_rate.
        """
        return composition(self.members, self.weights, self.views, self.blocks)

    def _repr_html_(self) -> str:
        read = f"{len(self.views.columns)} columns are read"
        if self.views.left_out:
            read += f", {len(self.views.left_out)} are left out"
        return f"<p>TableModel of {self.targets.task}: {read}.</p>{self.composition()._repr_html_()}"

    def n_parameters(self) -> int:
        """Return the number of weights and biases of all members."""
        return self.networks().n_parameters()

    def _require(self, task: str, what: str, needed: bool) -> None:
        if (self.targets.task == task) != needed:
            raise DataError(compose("task", f"one with {what}", self.targets.task))

    def _in_units(self, values: np.ndarray) -> np.ndarray:
        values = values * self.targets.scale
        return values[:, 0] if self.targets.flat else values

    def _mean(self, X: Any) -> np.ndarray:
        return self._mean_and_spread(X)[0]

    def _mean_and_spread(self, X: Any) -> tuple[np.ndarray, np.ndarray]:
        """Return the mean over configurations, (n, outputs), and the variance between them."""
        table = raw_columns(X, self.views.kinds)
        self.views.require_names(X)
        parts = []
        for start in range(0, len(table[0].cells), _ROWS):
            rows = part(table, slice(start, start + _ROWS))
            parts.append(self._of_rows(self.views.wide(rows, self.blocks)))
        mean, spread = (np.concatenate(each) for each in zip(*parts, strict=True))
        return mean, spread

    def _of_rows(self, wide: EncodedTable) -> tuple[np.ndarray, np.ndarray]:
        each = np.stack([self._of_configuration(pool, ids, wide) for pool, ids in self.members])
        weights = self.weights[:, None, None]
        mean = (weights * each).sum(axis=0)
        if self.targets.task != REGRESSION:
            mean = tempered(mean, self.temperature, self.targets.task)
        return mean, (weights * np.square(each - mean)).sum(axis=0)

    def _of_configuration(self, pool: Pool, ids: np.ndarray, wide: EncodedTable) -> np.ndarray:
        method = pool.predict if self.targets.task == REGRESSION else pool.predict_proba
        found = method(wide, members=ids, reduce="mean", weights=weights_of(pool))
        return np.asarray(found, np.float64).reshape(len(wide), -1)


def weights_of(pool: Pool) -> str:
    """Return the weights that a pool's members predict with: averaged ones, where any member has them."""
    return "average" if pool.specs.option("average").any() else "last"


def tempered(p: np.ndarray, temperature: float, task: str) -> np.ndarray:
    """Return probabilities whose logits are divided by a temperature; of labels each by itself."""
    if task == REGRESSION or temperature == 1.0:
        return p
    tiny = np.finfo(np.float64).tiny
    log_p = np.log(np.maximum(p, tiny)) / temperature
    if p.ndim == 2 and task == "multilabel":
        log_q = np.log(np.maximum(1.0 - p, tiny)) / temperature
        return np.asarray(1.0 / (1.0 + np.exp(np.clip(log_q - log_p, -700.0, 700.0))))
    e = np.exp(log_p - log_p.max(axis=1, keepdims=True))
    return np.asarray(e / e.sum(axis=1, keepdims=True))
