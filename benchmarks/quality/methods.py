"""Methods that quality is compared of: from training rows to predictions.

A method takes (X, y, task, budget in seconds, seed) and returns a function from X to predictions: values, or
probabilities of the sorted classes. Peers have their defaults, unless their name says that they are searched: then
random settings are scored by three-fold cross-validation for as long as the budget allows, and the best is fitted.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

Predict = Callable[[Any], np.ndarray]
Method = Callable[[Any, np.ndarray, str, float, int], Predict]
# What a search leaves for the last fit.
_SEARCHED = 0.8
_MOST_CATEGORIES = 254


def _predict(model: Any, task: str) -> Predict:
    return model.predict if task == "regression" else model.predict_proba


def pmlp(X: Any, y: np.ndarray, task: str, budget: float, seed: int) -> Predict:
    import pmlp_np as pm

    estimator = pm.MLPPoolRegressor if task == "regression" else pm.MLPPoolClassifier
    return _predict(estimator(time_budget=budget, random_state=seed).fit(X, y), task)


def hist_gradient_boosting(X: Any, y: np.ndarray, task: str, budget: float, seed: int) -> Predict:
    from sklearn import ensemble

    # It takes at most 255 categories: of more the commonest ones.
    most = {c: X[c].value_counts().index[:_MOST_CATEGORIES] for c in _texts(X) if X[c].nunique() > _MOST_CATEGORIES}

    def with_fewer(frame: Any) -> Any:
        kept = {c: frame[c].astype("object").where(frame[c].isin(most[c]), "other").astype("category") for c in most}
        return frame.assign(**{c: column.cat.set_categories([*most[c], "other"]) for c, column in kept.items()})

    kind = "Regressor" if task == "regression" else "Classifier"
    model = getattr(ensemble, f"HistGradientBoosting{kind}")(categorical_features="from_dtype", random_state=seed)
    predict = _predict(model.fit(with_fewer(X), y), task)
    return lambda frame: predict(with_fewer(frame))


def _lightgbm(task: str, seed: int, **settings: Any) -> Any:
    import lightgbm

    kind = lightgbm.LGBMRegressor if task == "regression" else lightgbm.LGBMClassifier
    return kind(n_jobs=2, random_state=seed, verbose=-1, **settings)


def lightgbm(X: Any, y: np.ndarray, task: str, budget: float, seed: int) -> Predict:
    return _predict(_lightgbm(task, seed).fit(X, y), task)


def lightgbm_searched(X: Any, y: np.ndarray, task: str, budget: float, seed: int) -> Predict:
    def draw(rng: np.random.Generator) -> dict[str, Any]:
        return {
            "n_estimators": int(np.exp(rng.uniform(np.log(50), np.log(1000)))),
            "learning_rate": float(np.exp(rng.uniform(np.log(0.01), np.log(0.2)))),
            "num_leaves": int(np.exp(rng.uniform(np.log(4), np.log(128)))),
            "min_child_samples": int(np.exp(rng.uniform(np.log(2), np.log(60)))),
            "subsample": float(rng.uniform(0.5, 1.0)), "subsample_freq": 1,
            "colsample_bytree": float(rng.uniform(0.4, 1.0)),
            "reg_lambda": float(np.exp(rng.uniform(np.log(1e-3), np.log(30)))),
        }  # fmt: skip

    return _searched(X, y, task, budget, seed, draw, lambda settings: _lightgbm(task, seed, **settings))


def _catboost(texts: list[str], task: str, seed: int, **settings: Any) -> Any:
    import catboost

    kind = catboost.CatBoostRegressor if task == "regression" else catboost.CatBoostClassifier
    own = {"thread_count": 2, "random_seed": seed, "verbose": False, "allow_writing_files": False}
    return kind(cat_features=texts, **own, **settings)


def _texts(X: Any) -> list[str]:
    return [column for column in X if X[column].dtype.kind not in "biuf"]


def _as_texts(X: Any) -> Any:
    filled = {c: X[c].astype("object").where(X[c].notna(), "missing") for c in _texts(X)}
    return X.assign(**filled)


def catboost(X: Any, y: np.ndarray, task: str, budget: float, seed: int) -> Predict:
    predict = _predict(_catboost(_texts(X), task, seed).fit(_as_texts(X), y), task)
    return lambda frame: np.asarray(predict(_as_texts(frame)))


def catboost_searched(X: Any, y: np.ndarray, task: str, budget: float, seed: int) -> Predict:
    def draw(rng: np.random.Generator) -> dict[str, Any]:
        return {
            "iterations": int(np.exp(rng.uniform(np.log(100), np.log(1000)))),
            "learning_rate": float(np.exp(rng.uniform(np.log(0.02), np.log(0.2)))),
            "depth": int(rng.integers(4, 9)),
            "l2_leaf_reg": float(np.exp(rng.uniform(np.log(1.0), np.log(30.0)))),
            "random_strength": float(np.exp(rng.uniform(np.log(0.3), np.log(10.0)))),
        }

    texts = _texts(X)
    found = _searched(_as_texts(X), y, task, budget, seed, draw, lambda s: _catboost(texts, task, seed, **s))
    return lambda frame: np.asarray(found(_as_texts(frame)))


def scikit_learn_mlp_searched(X: Any, y: np.ndarray, task: str, budget: float, seed: int) -> Predict:
    from sklearn.compose import TransformedTargetRegressor, make_column_selector, make_column_transformer
    from sklearn.impute import SimpleImputer
    from sklearn.neural_network import MLPClassifier, MLPRegressor
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    def draw(rng: np.random.Generator) -> dict[str, Any]:
        shapes = [(32,), (64,), (128,), (256,), (64, 64), (128, 128), (256, 128), (64, 64, 64)]
        return {
            "hidden_layer_sizes": shapes[rng.integers(len(shapes))],
            "alpha": float(np.exp(rng.uniform(np.log(1e-5), np.log(1.0)))),
            "learning_rate_init": float(np.exp(rng.uniform(np.log(3e-4), np.log(2e-2)))),
            "activation": ["relu", "tanh"][rng.integers(2)], "batch_size": [32, 64, 200][rng.integers(3)],
        }  # fmt: skip

    def make(settings: dict[str, Any]) -> Any:
        numbers = make_pipeline(SimpleImputer(), StandardScaler())
        texts = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
        columns = make_column_transformer(
            (numbers, make_column_selector(dtype_include="number")),
            (texts, make_column_selector(dtype_exclude="number")),
        )
        kind = MLPRegressor if task == "regression" else MLPClassifier
        model = make_pipeline(columns, kind(early_stopping=True, max_iter=300, random_state=seed, **settings))
        return TransformedTargetRegressor(model, transformer=StandardScaler()) if task == "regression" else model

    return _searched(X, y, task, budget, seed, draw, make)


def _searched(
    X: Any, y: np.ndarray, task: str, budget: float, seed: int, draw: Callable[[np.random.Generator], dict[str, Any]],
    make: Callable[[dict[str, Any]], Any],
) -> Predict:  # fmt: skip
    from sklearn.metrics import get_scorer
    from sklearn.model_selection import check_cv

    rng, began = np.random.default_rng(seed), time.perf_counter()
    scorer = get_scorer("neg_mean_squared_error" if task == "regression" else "neg_log_loss")
    # Without cross_val_score, which clones models: CatBoost's cannot be.
    folds = list(check_cv(3, y, classifier=task != "regression").split(X, y))

    def score_of(settings: dict[str, Any]) -> float:
        scores = [scorer(make(settings).fit(X.iloc[a], y[a]), X.iloc[b], y[b]) for a, b in folds]
        return float(np.mean(scores))

    best, kept, longest = -np.inf, draw(rng), 0.0
    settings = kept
    while True:
        start = time.perf_counter()
        score = score_of(settings)
        longest = max(longest, time.perf_counter() - start)
        if score > best:
            best, kept = score, settings
        if time.perf_counter() - began + longest > _SEARCHED * budget:
            break
        settings = draw(rng)
    return _predict(make(kept).fit(X, y), task)


def autogluon(X: Any, y: np.ndarray, task: str, budget: float, seed: int) -> Predict:
    import tempfile

    from autogluon.tabular import TabularPredictor

    metric, target = "r2" if task == "regression" else "log_loss", "the target"
    kind = "regression" if task == "regression" else "binary" if len(np.unique(y)) == 2 else "multiclass"
    folder = tempfile.mkdtemp()
    predictor = TabularPredictor(target, problem_type=kind, eval_metric=metric, path=folder, verbosity=0)
    predictor.fit(X.assign(**{target: y}), time_limit=budget, presets="medium_quality", num_cpus=2)
    if task == "regression":
        return lambda frame: predictor.predict(frame).to_numpy()
    classes = np.unique(y).tolist()
    return lambda frame: predictor.predict_proba(frame)[classes].to_numpy()


def _pytabkit(name: str) -> Method:
    def method(X: Any, y: np.ndarray, task: str, budget: float, seed: int) -> Predict:
        import pytabkit

        kind = getattr(pytabkit, f"{name}_{'Regressor' if task == 'regression' else 'Classifier'}")
        texts = _texts(X)
        numbers = [column for column in X if column not in texts]
        middle = X[numbers].median()

        def whole(frame: Any) -> Any:
            """Return the frame without missing numbers, which these methods refuse; missing texts are a category."""
            filled = {c: frame[c].astype("object").where(frame[c].notna(), "missing").astype(str) for c in texts}
            return frame.assign(**frame[numbers].astype("float64").fillna(middle), **filled)

        model = kind(device="cpu", random_state=seed, n_threads=2, verbosity=0)
        predict = _predict(model.fit(whole(X), y, cat_col_names=texts), task)
        return lambda frame: np.asarray(predict(whole(frame)))

    return method


METHODS: dict[str, Method] = {
    "pmlp_np": pmlp,
    "HistGradientBoosting": hist_gradient_boosting,
    "LightGBM": lightgbm,
    "LightGBM, searched": lightgbm_searched,
    "CatBoost": catboost,
    "CatBoost, searched": catboost_searched,
    "scikit-learn's MLP, searched": scikit_learn_mlp_searched,
    "AutoGluon": autogluon,
    "RealMLP-TD": _pytabkit("RealMLP_TD"),
    "RealMLP-TD-S": _pytabkit("RealMLP_TD_S"),
    "TabM": _pytabkit("TabM_D"),
}
# Those that take the time they are given; the others take their own.
BUDGETED = {"pmlp_np", "LightGBM, searched", "CatBoost, searched", "scikit-learn's MLP, searched", "AutoGluon"}
