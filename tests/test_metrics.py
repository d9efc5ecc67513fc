"""Metrics: scikit-learn's values, ties, absent classes and weights included, whoever else is asked; what is refused."""

import contextlib
import re
import tracemalloc
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import pmlp_np as pm
import sklearn_metrics
from conftest import requires
from pmlp_np.formulas.losses import LOSSES
from pmlp_np.training.metrics import (
    BYTES_PER_OUTPUT_BYTE,
    METRIC_ALIASES,
    METRICS,
    canonical,
    known_from_means,
    metric_values,
    require_fit,
)

# Both sides sum in float64, in other orders; a value near zero is a difference of larger ones.
CLOSE = {"rtol": 1e-11, "atol": 1e-12}
VALUES = [name for name, metric in METRICS.items() if "values" in metric.targets]
CLASSES = [name for name, metric in METRICS.items() if "labels" in metric.targets]


def outcomes(outputs, ties):
    """(raw outputs (members, rows, outputs), numbers in the shape of (outputs, rows), weights of rows or None)."""

    def make(seed, n_members, n_rows, n_outputs, weighted, dtype):
        draw = np.random.default_rng(seed)
        raw, y = draw.normal(size=(n_members, n_rows, n_outputs)), draw.normal(size=(n_outputs, n_rows))
        if ties:
            raw, y = raw.round(), y.round()
        if ties and seed % 3 == 0:
            raw[0] = y.T
        # Halves, so that sums of weights are exact; some are zero, but not those of the first three rows.
        weight = draw.integers(0, 4, n_rows) / 2 if weighted else None
        if weight is not None:
            weight[:3] = 1.0
        return raw.astype(dtype), y.astype(dtype), weight

    return st.builds(
        make,
        st.integers(0, 2**32),
        st.integers(1, 4),
        st.integers(3, 40),
        outputs,
        st.booleans(),
        st.sampled_from(["float32", "float64"]),
    )


def counted(weight, *arrays):
    """Arrays (rows, ...) without the rows of weight 0, and the weights of the others."""
    if weight is None:
        return *arrays, None
    return *(array[weight > 0] for array in arrays), weight[weight > 0]


@pytest.fixture(scope="module")
def sk():
    return requires("sklearn.metrics")


@contextlib.contextmanager
def undefined_allowed():
    """scikit-learn warns of what it cannot define, and then returns what is compared."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@given(data=st.data(), ties=st.booleans())
def test_values(sk, data, ties):
    raw, y, weight = data.draw(outcomes(st.integers(1, 4), ties))
    found = metric_values(VALUES, LOSSES["squared_error"], raw, y, weight)
    assert list(found) == list(sklearn_metrics.VALUES)
    for i, own in enumerate(raw):
        true, predicted, w = counted(weight, y.T.astype(float), own.astype(float))
        for name, function in sklearn_metrics.VALUES.items():
            np.testing.assert_allclose(found[name][i], function(sk, true, predicted, w), **CLOSE)


@undefined_allowed()
def expected_of_classes(sk, true, predicted, p, w, averaged):
    """What scikit-learn says of one label per row; p is (rows,) of class 1, or (rows, classes)."""
    return {name: function(sk, true, predicted, p, w, averaged) for name, function in sklearn_metrics.CLASSES.items()}


@given(data=st.data(), ties=st.booleans())
def test_classes(sk, data, ties):
    """Also where classes are absent from the targets, the predictions, or both."""
    raw, numbers, weight = data.draw(outcomes(st.integers(2, 5), ties))
    n_classes = raw.shape[-1]
    highest = data.draw(st.integers(1, n_classes))
    true = np.floor(np.abs(numbers[0]) * 2) % highest
    loss = LOSSES["cross_entropy"]
    found = metric_values(CLASSES, loss, raw, true[None], weight)
    for i, own in enumerate(raw):
        p = loss.probabilities(own)
        y, guess, p, w = counted(weight, true.astype(int), own.argmax(axis=1), p)
        binary = n_classes == 2
        expected = expected_of_classes(sk, y, guess, p[:, 1] if binary else p, w, "binary" if binary else "macro")
        check_classes(found, i, expected)


def check_classes(found, i, expected):
    # Probabilities are rounded to the pool's dtype before scikit-learn takes logarithms.
    rounded = {"rtol": 1e-4, "atol": 1e-6}
    assert set(expected) == set(found)
    for name, value in expected.items():
        tolerance = rounded if name == "log_loss" else CLOSE
        np.testing.assert_allclose(found[name][i], value, **tolerance, err_msg=name)


@given(data=st.data(), ties=st.booleans())
def test_labels(sk, data, ties):
    """One label per row is two classes; of several, scikit-learn's multilabel metrics, or the mean over labels."""
    raw, numbers, weight = data.draw(outcomes(st.integers(1, 4), ties))
    true = (numbers > data.draw(st.sampled_from([0.0, 1.0, 9.0]))).astype(raw.dtype)
    loss = LOSSES["binary_cross_entropy"]
    found = metric_values(CLASSES, loss, raw, true, weight)
    for i, own in enumerate(raw):
        y, guess, p, w = counted(weight, true.T.astype(int), (own > 0).astype(int), loss.probabilities(own))
        each = [expected_of_classes(sk, y[:, k], guess[:, k], p[:, k], w, "binary") for k in range(y.shape[1])]
        expected = {name: np.mean([label[name] for label in each]) for name in CLASSES}
        if len(each) > 1:
            expected["accuracy"] = sk.accuracy_score(y, guess, sample_weight=w)
            with undefined_allowed():
                expected["f1"] = sk.f1_score(y, guess, average="macro", sample_weight=w)
        check_classes(found, i, expected)


def test_area_is_the_share_of_pairs_in_order():
    """By its definition, without scikit-learn."""
    draw = np.random.default_rng(0)
    for n_rows in (2, 3, 9, 30):
        raw = draw.integers(-2, 3, size=(5, n_rows, 1)).astype(float)
        true = draw.permutation(np.arange(n_rows) % 2).astype(float)
        weight = draw.integers(1, 4, n_rows) / 2
        for w in (None, weight):
            (found,) = metric_values(["roc_auc"], LOSSES["binary_cross_entropy"], raw, true[None], w).values()
            pair_weight = np.outer(weight[true == 1], weight[true == 0]) if w is not None else 1.0
            for i in range(5):
                high, low = raw[i, true == 1, 0][:, None], raw[i, true == 0, 0]
                pairs = (high > low) + 0.5 * (high == low)
                assert found[i] == pytest.approx(np.average(pairs, weights=pair_weight + np.zeros_like(pairs)))


def test_constant_targets():
    """Also where their mean is rounded: 1 for those who are right, 0 for the others."""
    y = np.full((1, 3), 0.1)
    raw = np.stack([y.T, y.T + 0.25])
    assert metric_values(["r2"], LOSSES["squared_error"], raw, y)["r2"].tolist() == [1.0, 0.0]
    y, weight = np.array([[0.1, 0.1, 0.1, 7.0]]), np.array([1.0, 1.0, 1.0, 0.0])
    raw = np.stack([y.T, y.T + 0.25])
    assert metric_values(["r2"], LOSSES["squared_error"], raw, y, weight)["r2"].tolist() == [1.0, 0.0]


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(
    ("loss", "n_outputs"), [("squared_error", 1), ("squared_error", 3), ("cross_entropy", 2), ("cross_entropy", 4),
                            ("binary_cross_entropy", 1), ("binary_cross_entropy", 3)],
)  # fmt: skip
@pytest.mark.parametrize("n_rows", [1000, 77])
def test_nobody_else_changes_a_members_bits(loss, n_outputs, n_rows, weighted):
    draw = np.random.default_rng(1)
    raw = draw.normal(size=(7, n_rows, n_outputs)).astype("float32")
    y = draw.normal(size=(n_outputs, n_rows)).astype("float32")
    if loss != "squared_error":
        y = (y > 0).astype("float32") if loss == "binary_cross_entropy" else np.arange(n_rows)[None] % n_outputs
    weight = draw.random(n_rows) if weighted else None
    names = VALUES if loss == "squared_error" else CLASSES
    together = metric_values(names, LOSSES[loss], raw, y, weight)
    for i in range(len(raw)):
        for chosen in ([i], [i, (i + 1) % 7, 0], [0, i]):
            part = metric_values(names, LOSSES[loss], raw[chosen], y, weight)
            for name in names:
                assert part[name][chosen.index(i)] == together[name][i], name


@pytest.mark.parametrize("name", METRICS)
def test_outputs_that_are_no_numbers_have_no_metric(name):
    loss = LOSSES["squared_error" if name in VALUES else "cross_entropy"]
    draw = np.random.default_rng(2)
    raw = draw.normal(size=(3, 20, 3))
    y = raw[0].T + 0.1 if name in VALUES else np.arange(20)[None] % 3
    raw[1, 7, 2] = np.nan
    (found,) = metric_values([name], loss, raw, y).values()
    assert np.isnan(found).tolist() == [False, True, False]


def test_what_an_evaluation_says_is_what_raw_outputs_say():
    """Every metric that is taken from mean loss and score, weighted or not."""
    draw = np.random.default_rng(3)
    taken = set()
    smooth = pm.CrossEntropy(label_smoothing=0.2), pm.BinaryCrossEntropy(label_smoothing=0.2)
    for loss in (*LOSSES.values(), *smooth, pm.SquaredError(output_weight=[2.0])):
        for n_outputs in (1, 2, 3) if loss.targets != "labels" else (2, 3):
            raw = draw.normal(size=(4, 30, n_outputs * loss.heads))
            y = np.abs(draw.normal(size=(n_outputs, 30)))
            if loss.targets == "probabilities":
                y = np.clip(y + 0.5, 0.0, 1.0)
            if loss.targets == "labels":
                y = np.arange(30.0)[None] % n_outputs
            for weight in (None, draw.random(30)):
                by_output, target = np.moveaxis(raw, -1, 0), y[0] if loss.targets == "labels" else y[:, None]
                means = [
                    np.average(rows, axis=1, weights=weight)
                    for rows in (loss.function(by_output, target)[0], loss.score(by_output, target))
                ]
                names = [name for name, metric in METRICS.items() if loss.targets in metric.targets]
                for name in names:
                    known = known_from_means(name, loss, *means, y, weight)
                    if known is None:
                        continue
                    taken.add((str(loss), n_outputs, name))
                    np.testing.assert_allclose(known, metric_values([name], loss, raw, y, weight)[name], rtol=1e-12)
                    nan = known_from_means(name, loss, means[0] * np.nan, means[1], y, weight)
                    assert np.isnan(nan).all()
    assert {("squared_error", 1, "r2"), ("squared_error", 1, "rmse"), ("cross_entropy", 3, "accuracy")} <= taken
    assert {("cross_entropy", 2, "log_loss"), ("binary_cross_entropy", 3, "log_loss")} <= taken
    assert {("absolute_error", 1, "mae"), ("huber", 1, "mae"), (str(smooth[0]), 3, "accuracy")} <= taken
    assert not {(loss, name) for loss, _, name in taken if loss in map(str, smooth)} & {
        (str(loss), "log_loss") for loss in smooth
    }
    # One root over all outputs is not the mean of their roots, nor a mean over labels the share of whole rows.
    assert not {(loss, n, name) for loss, n, name in taken if n > 1 and name in ("r2", "rmse")}
    assert ("binary_cross_entropy", 2, "accuracy") not in taken


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("loss", "n_outputs"), [("squared_error", 1), ("squared_error", 4), ("cross_entropy", 2), ("cross_entropy", 9),
                            ("binary_cross_entropy", 1), ("binary_cross_entropy", 4)],
)  # fmt: skip
def test_judging_takes_the_memory_that_is_stated(loss, n_outputs, dtype):
    draw = np.random.default_rng(4)
    raw = draw.normal(size=(20_000 // n_outputs, 10, n_outputs)).astype(dtype)
    y = (np.arange(10) % 2) * np.ones((1 if loss == "cross_entropy" else n_outputs, 1))
    names = VALUES if loss == "squared_error" else CLASSES
    metric_values(names, LOSSES[loss], raw, y)
    for weight in (None, draw.random(10)):
        tracemalloc.start()
        try:
            metric_values(names, LOSSES[loss], raw, y, weight)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak + raw.nbytes <= BYTES_PER_OUTPUT_BYTE * raw.nbytes


# Names.


def test_aliases_are_scikit_learns_names_and_its_signs_are_right(sk):
    scorers, others = set(sk.get_scorer_names()), set()
    for alias in [*METRICS, *METRIC_ALIASES]:
        name = canonical("metric", alias)
        if alias in scorers:
            assert (sk.get_scorer(alias)._sign > 0) == METRICS[name].grows
        elif not hasattr(sk, alias):
            others.add(alias)
    assert others == {"rmse", "mae"}
    assert not set(METRICS) & set(METRIC_ALIASES)
    assert sum(len(metric.aliases) for metric in METRICS.values()) == len(METRIC_ALIASES)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("acuracy", r"^metric: expected one of r2, .*log_loss, got 'acuracy'\. Did you mean 'accuracy'\?"),
        (3, r"^metric: expected one of r2, .*, got 3"),
        (["r2"], r"^metric: expected one of r2, .*, got \['r2'\]"),
    ],
)
def test_unknown_names_are_refused(name, text):
    with pytest.raises(pm.DataError, match=text):
        canonical("metric", name)


@pytest.mark.parametrize("loss", LOSSES.values(), ids=lambda loss: loss.name)
def test_metrics_that_do_not_fit_are_refused(loss):
    fitting = CLASSES if loss.has_probabilities else VALUES
    for name in METRICS:
        if name in fitting:
            require_fit("metrics", name, loss, 3)
            continue
        text = rf"^metrics: expected a metric that fits loss '{loss.name}' \({', '.join(fitting)}\), got '{name}'"
        with pytest.raises(pm.DataError, match=text):
            require_fit("metrics", name, loss, 3)


def test_the_page_describes_every_metric_as_it_is():
    page = Path(__file__).resolve().parent.parent / "docs" / "monitoring.md"
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \| ([\w, ]+) \|", page.read_text(encoding="utf-8"), re.MULTILINE)
    kinds = {"values": "values", "classes, labels": "labels probabilities"}
    told = [(name, better == "larger", tuple(kinds[of].split())) for name, better, of in rows]
    assert told == [(metric.name, metric.grows, metric.targets) for metric in METRICS.values()]


def test_every_metric_says_how_people_read_it():
    labels = [metric.label for metric in METRICS.values()]
    assert all(labels) and len(set(labels)) == len(labels)
    assert all(metric.unit in ("", "%", "target") for metric in METRICS.values())
    assert METRICS["rmse"].in_words == "root-mean-square error" and METRICS["r2"].in_words == "R²"
    assert [name for name, metric in METRICS.items() if metric.is_share] == ["accuracy", "balanced_accuracy"]
    assert [name for name, metric in METRICS.items() if metric.needs_every_class] == ["roc_auc"]


def test_units_are_right():
    """A metric in the target's unit grows with it; another one doesn't change."""
    draw = np.random.default_rng(5)
    raw, y = draw.normal(size=(3, 50, 1)), draw.normal(size=(1, 50))
    once, scaled = (metric_values(VALUES, LOSSES["squared_error"], factor * raw, factor * y) for factor in (1.0, 8.0))
    for name in VALUES:
        factor = 8.0 if METRICS[name].unit == "target" else 1.0
        np.testing.assert_allclose(scaled[name], factor * once[name], rtol=1e-12)
