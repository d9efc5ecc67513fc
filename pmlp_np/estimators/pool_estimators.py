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
from pmlp_np.base.errors import DataError, compose, show
from pmlp_np.base.table import Table
from pmlp_np.data.labels import columns_of, require_same_rows
from pmlp_np.data.preprocessing.raw_table import raw_columns, stacked
from pmlp_np.model_selection.clock import Clock
from pmlp_np.model_selection.continuing import continued
from pmlp_np.model_selection.importance import ValidatedRows, permutation_importances
from pmlp_np.model_selection.scoring import CustomMetric, Scoring
from pmlp_np.model_selection.search_loop import Search
from pmlp_np.model_selection.search_problem import Problem
from pmlp_np.model_selection.search_result import SearchResult
from pmlp_np.model_selection.search_settings import Settings
from pmlp_np.model_selection.space import Space
from pmlp_np.model_selection.table_model import TableModel
from pmlp_np.model_selection.targets import CLASSIFICATION, MULTILABEL, REGRESSION, as_targets


class _PoolEstimator(BaseEstimator):
    """What both estimators share: parameters, fitting, and what is kept of a search."""

    ensemble_: TableModel
    leaderboard_: Table
    out_of_fold_: np.ndarray
    _validated_rows: ValidatedRows
    _importances: np.ndarray | None
    _scoring: Scoring

    def __init__(
        self,
        time_budget: float | None = 60.0,
        space: Any = None,
        cv: Any = None,
        ensemble_size: str | int = "greedy",
        metric: str | CustomMetric | None = None,
        halving: int | None = None,
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
        self.metric = metric
        self.halving = halving
        self.max_members = max_members
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.n_threads = n_threads
        self.random_state = random_state
        self.progress = progress

    def _search(
        self, X: Any, y: Any, task: str, weights: Any, groups: Any = None, X_val: Any = None, y_val: Any = None,
        classes: Any = None,
    ) -> SearchResult:  # fmt: skip
        """Search on what was given to fit, and keep what predictions need."""
        clock = Clock(self.time_budget)
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        settings = Settings(
            self.time_budget, self.max_members, self.max_epochs, self.ensemble_size, self.batch_size, self.n_threads,
            seed, self.progress, None if self.space is None else Space.of(self.space),
            self.metric, self.halving,
        )  # fmt: skip
        for name, of_rows in (("groups", groups), ("sample_weight", weights)):
            require_same_rows(X, of_rows, ("X", name))
        table, cv = raw_columns(X), self.cv
        n = len(table[0].cells)
        if (X_val is None) != (y_val is None):
            raise DataError(compose("X_val", "X_val and y_val, or neither", "one of them"))
        if X_val is not None:
            if cv is not None or groups is not None:
                raise DataError(compose("X_val", "validation rows, or cv and groups", "both"))
            table = stacked(table, raw_columns(self._checked(X_val, reset=False), [c.kind for c in table]))
            require_same_rows(X_val, y_val, ("X_val", "y_val"))
            m, y, y_val = len(table[0].cells) - n, as_targets(y), as_targets(y_val)
            if len(y_val) != m:
                raise DataError(compose("y_val", f"{m} rows, as X_val", str(len(y_val))))
            if y_val.shape[1:] != y.shape[1:]:
                raise DataError(compose("y_val", f"shape {(m, *y.shape[1:])}, as y", str(y_val.shape)))
            y = np.concatenate([y, y_val])
            if weights is not None:
                weights = np.concatenate([np.asarray(weights, np.float64), np.full(m, np.mean(weights))])
            cv = [(np.arange(n), np.arange(n, n + m))]
        problem = Problem.of(table, y, task, cv, groups, weights, seed, classes)
        result = Search(problem, settings, clock).run()
        self.ensemble_ = result.ensemble
        self.leaderboard_ = result.records()
        self.best_member_ = self.leaderboard_[0]
        self.out_of_fold_, self._scoring = result.out_of_fold, result.scoring
        draw = np.random.default_rng(seed)
        self._validated_rows, self._importances = ValidatedRows.of(problem, problem.table, draw), None
        self.notes_ = result.notes
        for note in result.notes:
            say(note)
        self.ended_ = result.ended
        return result

    def _go_on(self, X: Any, y: Any, weights: Any) -> None:
        """Train the members of the ensemble on other rows, for an epoch."""
        how = {"batch_size": self.batch_size, "n_threads": self.n_threads, "progress": self.progress}
        table = raw_columns(X, self.ensemble_.views.kinds)
        self.ensemble_ = continued(self.ensemble_, table, y, weights, how)
        self._importances = None

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

    def _repr_html_inner(self) -> str:
        return super()._repr_html_inner() + self._ensemble_html()

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, str]:
        bundle: dict[str, str] = super()._repr_mimebundle_(**kwargs)
        if "text/html" in bundle:
            bundle["text/html"] += self._ensemble_html()
        return bundle

    def _ensemble_html(self) -> str:
        """Return what the ensemble is made of, below scikit-learn's diagram; nothing before fit."""
        return self.ensemble_._repr_html_() if hasattr(self, "ensemble_") else ""

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
        own = "score" in records[0]
        scores = np.array([record["score"] if own else -record["loss"] for record in records])
        folds = np.array([record["fold_scores"] if own else record["fold_losses"] for record in records])
        # Of scikit-learn's scores, larger ones are better.
        folds = folds if own else -folds
        if own and not self._scoring.grows:
            scores, folds = -scores, -folds
        ranks = np.empty(len(records), np.int64)
        ranks[[record["trial"] for record in self.leaderboard_]] = np.arange(1, len(records) + 1)
        found = {
            "params": np.array([record["configuration"] for record in records], object),
            "mean_fit_time": np.array([record["seconds"] for record in records]),
            "mean_test_score": scores, "std_test_score": folds.std(axis=1), "rank_test_score": ranks,
            "weight": np.array([record["weight"] for record in records]),
        }  # fmt: skip
        return found | {f"split{k}_test_score": fold for k, fold in enumerate(folds.T)}


class MLPPoolRegressor(RegressorMixin, _PoolEstimator):
    """Regression by an ensemble of multi-layer perceptrons that a search picks within a time.

    X may be an array or a data frame, with categories, dates and missing cells. Nothing has to be scaled.

    time_budget: seconds for `fit`. Default 60. None: no clock, and the same result anywhere; needs `max_members`.
    space: what to try instead of the built-in configurations, as for `pm.search`. Default None.
    cv: number of folds, an object with `split`, or pairs of row numbers. Default None: 10 for few rows, down to 4.
    ensemble_size: "greedy" (default), "all", "best", or a number of the best configurations.
    metric, halving: what configurations are selected by, and whether many begin of which the better ones go on, as for
        `pm.search`. Default None: squared error or log loss, and all are trained to their last epoch.
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

    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Train the members of the ensemble on these rows for an epoch; the first call is `fit`. Returns self.

        Encodings of columns, the scale of y, the weights of configurations and what is known of errors (intervals,
        leaderboard, out-of-fold predictions) stay those of the first call. The learning rate is a tenth of a member's
        highest, and constant.
        """
        if not hasattr(self, "ensemble_"):
            return self.fit(X, y, sample_weight)
        X = self._checked(X, reset=False)
        require_same_rows(X, y, ("X", "y"))
        self._go_on(X, y, sample_weight)
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
        metric: str | CustomMetric | None = None,
        halving: int | None = None,
        class_weight: Any = None,
        max_members: int | None = None,
        max_epochs: int | None = None,
        batch_size: int = 64,
        n_threads: int | None = None,
        random_state: Any = None,
        progress: bool | str = "auto",
    ) -> None:
        super().__init__(
            time_budget, space, cv, ensemble_size, metric, halving, max_members, max_epochs, batch_size, n_threads,
            random_state, progress,
        )  # fmt: skip
        self.class_weight = class_weight

    def fit(
        self, X: Any, y: Any, sample_weight: Any = None, groups: Any = None, X_val: Any = None, y_val: Any = None
    ) -> Self:
        """Search on these rows. Returns self.

        y: classes (n_samples,), or labels 0 and 1 (n_samples, n_labels). Other arguments as for MLPPoolRegressor.
        """
        return self._fit(X, y, None, sample_weight, groups, X_val, y_val)

    def partial_fit(self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None) -> Self:
        """Train the members of the ensemble on these rows for an epoch; the first call is `fit`. Returns self.

        classes: all classes that may come, (n_classes,), at the first call. Default None: those of y, and at later
            calls those of the first. What stays, and the learning rate, are as for MLPPoolRegressor.

        Raises DataError for classes that the first call did not name.
        """
        if isinstance(self.class_weight, str):
            hint = "Give weights by a dict: a call does not know how many rows will come of a class."
            raise DataError(compose("class_weight", "a dict or None, for partial_fit", show(self.class_weight), hint))
        if not hasattr(self, "ensemble_"):
            return self._fit(X, y, classes, sample_weight)
        if classes is not None and not np.array_equal(np.unique(np.asarray(classes)), self.classes_):
            raise DataError(compose("classes", f"{show(self.classes_.tolist())}, as before", show(classes)))
        X = self._checked(X, reset=False)
        y, sample_weight = self._checked_classes(X, y, sample_weight)
        self._go_on(X, y, sample_weight)
        return self

    def _fit(
        self, X: Any, y: Any, classes: Any, weights: Any, groups: Any = None, X_val: Any = None, y_val: Any = None
    ) -> Self:
        X = self._checked(X, reset=True)
        y, weights = self._checked_classes(X, y, weights)
        task = CLASSIFICATION if y.ndim == 1 else MULTILABEL
        self._search(X, y, task, weights, groups, X_val, y_val, classes)
        self.classes_ = self.ensemble_.targets.classes if task == CLASSIFICATION else np.arange(2)
        return self

    def _checked_classes(self, X: Any, y: Any, sample_weight: Any) -> tuple[np.ndarray, Any]:
        """Return y as an array, and weights of rows, those of classes among them."""
        if y is None:
            raise ValueError(f"{type(self).__name__} requires y to be passed, but the target y is None.")
        y = np.asarray(y)
        if y.ndim != 2 or y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        require_same_rows(X, y, ("X", "y"))
        if self.class_weight is not None:
            by_class = compute_sample_weight(self.class_weight, y)
            sample_weight = by_class if sample_weight is None else by_class * np.asarray(sample_weight, np.float64)
        return y, sample_weight

    def predict_proba(self, X: Any) -> np.ndarray:
        """Predict probabilities, (n_samples, n_classes), or of each label being 1, (n_samples, n_labels)."""
        X = self._fitted(X)
        return self.ensemble_.predict_proba(X)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        tags.target_tags.multi_output = False
        return tags
