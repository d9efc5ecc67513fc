"""`MLPPoolRegressor` and `MLPPoolClassifier`: scikit-learn's interface to a search.

The file needs scikit-learn and is imported late: `pmlp_np.MLPPoolRegressor` imports it at first use.
"""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.utils import check_random_state, compute_sample_weight
from sklearn.utils.validation import check_array, check_is_fitted, column_or_1d, validate_data

from pmlp_np.base.console import say
from pmlp_np.base.errors import DataError, compose
from pmlp_np.base.table import Table
from pmlp_np.data.labels import columns_of, require_same_rows
from pmlp_np.data.preprocessing.raw_table import raw_columns, stacked
from pmlp_np.model_selection.clock import Clock
from pmlp_np.model_selection.importance import ValidatedRows, permutation_importances
from pmlp_np.model_selection.search_loop import Search
from pmlp_np.model_selection.search_problem import Problem
from pmlp_np.model_selection.search_result import SearchResult
from pmlp_np.model_selection.search_settings import Settings
from pmlp_np.model_selection.space import Space
from pmlp_np.model_selection.table_model import TableModel
from pmlp_np.model_selection.targets import CLASSIFICATION, MULTILABEL, REGRESSION


class _PoolEstimator(BaseEstimator):
    """What both estimators share: parameters, fitting, and what is kept of a search."""

    ensemble_: TableModel
    leaderboard_: Table
    out_of_fold_: np.ndarray
    _validated_rows: ValidatedRows
    _importances: np.ndarray | None

    def __init__(
        self,
        time_budget: float | None = 60.0,
        space: Any = None,
        cv: Any = None,
        ensemble_size: str | int = "greedy",
        max_members: int | None = None,
        max_epochs: int | None = None,
        batch_size: int = 64,
        n_threads: int | None = None,
        random_state: Any = None,
        progress: bool | str = "auto",
    ) -> None:
        self.time_budget = time_budget
        self.space = space
        self.cv = cv
        self.ensemble_size = ensemble_size
        self.max_members = max_members
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.n_threads = n_threads
        self.random_state = random_state
        self.progress = progress

    def _search(self, X: Any, y: Any, task: str, weights: Any, groups: Any, X_val: Any, y_val: Any) -> SearchResult:
        """Search on what was given to fit, and keep what predictions need."""
        clock = Clock(self.time_budget)
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        settings = Settings(
            self.time_budget, self.max_members, self.max_epochs, self.ensemble_size, self.batch_size, self.n_threads,
            seed, self.progress, None if self.space is None else Space.of(self.space),
        )  # fmt: skip
        table, cv = raw_columns(X), self.cv
        n = len(table[0].cells)
        if (X_val is None) != (y_val is None):
            raise DataError(compose("X_val", "X_val and y_val, or neither", "one of them"))
        if X_val is not None:
            if cv is not None or groups is not None:
                raise DataError(compose("X_val", "validation rows, or cv and groups", "both"))
            table = stacked(table, raw_columns(self._checked(X_val, reset=False), [c.kind for c in table]))
            y = np.concatenate([np.asarray(y), np.asarray(y_val)])
            m = len(table[0].cells) - n
            if weights is not None:
                weights = np.concatenate([np.asarray(weights, np.float64), np.full(m, np.mean(weights))])
            cv = [(np.arange(n), np.arange(n, n + m))]
        problem = Problem.of(table, y, task, cv, groups, weights, seed)
        result = Search(problem, settings, clock).run()
        self.ensemble_ = result.ensemble
        self.leaderboard_ = result.records()
        self.best_member_ = self.leaderboard_[0]
        self.out_of_fold_ = result.out_of_fold
        draw = np.random.default_rng(seed)
        self._validated_rows, self._importances = ValidatedRows.of(problem, problem.table, draw), None
        self.notes_ = result.notes
        for note in result.notes:
            say(note)
        self.ended_ = result.ended
        return result

    def _checked(self, X: Any, reset: bool) -> Any:
        """Return X after scikit-learn's checks of its form; a data frame as it is."""
        if columns_of(X) is None:
            X = check_array(X, dtype=None, ensure_all_finite="allow-nan", estimator=self, input_name="X")
        validate_data(self, X, skip_check_array=True, reset=reset)
        return X

    def _fitted(self, X: Any) -> Any:
        check_is_fitted(self, "ensemble_")
        return self._checked(X, reset=False)

    def predict(self, X: Any) -> np.ndarray:
        """Predict in y's terms, (n_samples,) or (n_samples, n_outputs)."""
        X = self._fitted(X)
        return self.ensemble_.predict(X)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.categorical = True
        tags.input_tags.string = True
        tags.target_tags.multi_output = True
        return tags

    @property
    def feature_importances_(self) -> np.ndarray:
        """Importance of each column of X, (n_features,) of sum 1, by permutation on out-of-fold rows.

        How much the loss grows when a column's cells change places, of at most 1,000 rows; computed when first asked
        for. Columns that don't matter have 0.
        """
        check_is_fitted(self, "ensemble_")
        if self._importances is None:
            found = permutation_importances(self.ensemble_, self._validated_rows, np.random.default_rng(0))
            found = np.maximum(found, 0.0)
            self._importances = found / found.sum() if found.any() else found
        return self._importances.copy()

    @property
    def cv_results_(self) -> dict[str, np.ndarray]:
        """What was tried, as scikit-learn's searches say it: an array for each key, one entry per configuration."""
        check_is_fitted(self, "leaderboard_")
        records = sorted(self.leaderboard_, key=lambda record: record["trial"])
        folds = np.array([record["fold_losses"] for record in records])
        losses = np.array([record["loss"] for record in records])
        found = {
            "params": np.array([record["configuration"] for record in records], object),
            "mean_fit_time": np.array([record["seconds"] for record in records]),
            "mean_test_score": -losses, "std_test_score": folds.std(axis=1),
            "rank_test_score": np.argsort(np.argsort(losses, kind="stable")) + 1,
            "weight": np.array([record["weight"] for record in records]),
        }  # fmt: skip
        return found | {f"split{k}_test_score": -fold for k, fold in enumerate(folds.T)}


class MLPPoolRegressor(RegressorMixin, _PoolEstimator):
    """Regression by an ensemble of multi-layer perceptrons that a search picks within a time.

    X may be an array or a data frame, with categories, dates and missing cells. Nothing has to be scaled.

    time_budget: seconds for `fit`. Default 60. None: no clock, and the same result anywhere; needs `max_members`.
    space: what to try instead of the built-in configurations, as for `pm.search`. Default None.
    cv: number of folds, an object with `split`, or pairs of row numbers. Default None: 10 for few rows, down to 4.
    ensemble_size: "greedy" (default), "all", "best", or a number of the best configurations.
    max_members, max_epochs: the most members to train, and the most epochs of each. Default None.
    batch_size: rows per minibatch. Default 64. n_threads: default all cores. random_state: as in scikit-learn.
    progress: whether to show a progress bar. Default "auto".

    ensemble_: the model, a `TableModel`. leaderboard_: a record of each configuration, best first. best_member_: the
    first of them. out_of_fold_: predictions of training rows by members that have not seen them, standardized.

        model = pm.MLPPoolRegressor(time_budget=10).fit(X, y)
        model.predict(X_test), model.predict_interval(X_test, coverage=0.9)
    """

    def fit(
        self, X: Any, y: Any, sample_weight: Any = None, groups: Any = None, X_val: Any = None, y_val: Any = None
    ) -> Self:
        """Search on these rows. Returns self.

        y: (n_samples,) or (n_samples, n_outputs). sample_weight: (n_samples,). groups: (n_samples,) labels of rows that
        stay in one fold. X_val, y_val: rows to evaluate members on, instead of folds.
        """
        X = self._checked(X, reset=True)
        if y is None:
            raise ValueError(f"{type(self).__name__} requires y to be passed, but the target y is None.")
        require_same_rows(X, y, ("X", "y"))
        self._search(X, y, REGRESSION, sample_weight, groups, X_val, y_val)
        return self

    def predict_std(self, X: Any) -> np.ndarray:
        """Predict standard deviations of y around predictions, in their shape."""
        return self.ensemble_.predict_std(self._fitted(X))

    def predict_interval(self, X: Any, coverage: float = 0.9) -> np.ndarray:
        """Predict intervals that hold y with this probability, (n_samples, 2) or (n_samples, n_outputs, 2)."""
        return self.ensemble_.predict_interval(self._fitted(X), coverage)


class MLPPoolClassifier(ClassifierMixin, _PoolEstimator):
    """Classification by an ensemble of multi-layer perceptrons that a search picks within a time.

    Parameters and attributes are those of MLPPoolRegressor, and:

    class_weight: weights of classes, a dict or "balanced". Default None: equal weights.

    classes_: the classes, in the order of `predict_proba`. For a y of labels 0 and 1, (n_samples, n_labels), each label
    is predicted by itself.

        model = pm.MLPPoolClassifier(time_budget=10).fit(X, y)
        model.predict_proba(X_test)
    """

    classes_: np.ndarray

    def __init__(
        self,
        time_budget: float | None = 60.0,
        space: Any = None,
        cv: Any = None,
        ensemble_size: str | int = "greedy",
        class_weight: Any = None,
        max_members: int | None = None,
        max_epochs: int | None = None,
        batch_size: int = 64,
        n_threads: int | None = None,
        random_state: Any = None,
        progress: bool | str = "auto",
    ) -> None:
        super().__init__(
            time_budget, space, cv, ensemble_size, max_members, max_epochs, batch_size, n_threads, random_state,
            progress,
        )  # fmt: skip
        self.class_weight = class_weight

    def fit(
        self, X: Any, y: Any, sample_weight: Any = None, groups: Any = None, X_val: Any = None, y_val: Any = None
    ) -> Self:
        """Search on these rows. Returns self.

        y: classes (n_samples,), or labels 0 and 1 (n_samples, n_labels). Other arguments as for MLPPoolRegressor.
        """
        X = self._checked(X, reset=True)
        if y is None:
            raise ValueError(f"{type(self).__name__} requires y to be passed, but the target y is None.")
        y = np.asarray(y)
        if y.ndim != 2 or y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        require_same_rows(X, y, ("X", "y"))
        task = CLASSIFICATION if y.ndim == 1 else MULTILABEL
        if self.class_weight is not None:
            by_class = compute_sample_weight(self.class_weight, y)
            sample_weight = by_class if sample_weight is None else by_class * np.asarray(sample_weight, np.float64)
        self._search(X, y, task, sample_weight, groups, X_val, y_val)
        self.classes_ = self.ensemble_.targets.classes if task == CLASSIFICATION else np.arange(2)
        return self

    def predict_proba(self, X: Any) -> np.ndarray:
        """Predict probabilities, (n_samples, n_classes), or of each label being 1, (n_samples, n_labels)."""
        X = self._fitted(X)
        return self.ensemble_.predict_proba(X)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        tags.target_tags.multi_output = False
        return tags
