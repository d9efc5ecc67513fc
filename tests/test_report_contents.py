"""Contents of reports against scikit-learn, NumPy and networks taken out of the pools, and what is said in words."""

import json
import math

import numpy as np
import pytest

import pmlp_np as pm
from conftest import requires
from pmlp_np.data.preprocessing.raw_table import part
from pmlp_np.model_selection.importance import ValidatedRows, by_unseen_members
from pmlp_np.model_selection.table_model import weights_of
from pmlp_np.report import report_contents
from pmlp_np.report.class_checks import OTHERS, class_checks, wilson
from pmlp_np.report.contents_check import require_contents
from pmlp_np.report.effects import MISSING
from pmlp_np.report.evidence import Evidence
from pmlp_np.report.figures import count, decimals_of, duration, fixed, joined, percent, percents, short
from pmlp_np.report.value_checks import value_checks
from reported import HOSTILE, SPACE, TASKS, contents_of, found, search


def scores_of(task):
    return {(score["name"], score["target"]): score for score in contents_of(task)["scores"]}


@pytest.mark.parametrize("task", TASKS)
def test_contents_survive_json_and_are_the_same_each_time(task):
    contents = contents_of(task)
    again = json.loads(json.dumps(contents, allow_nan=False))
    assert again == contents
    require_contents(again)
    assert report_contents(found(task)[0]) == contents


@pytest.mark.parametrize("task", ["values", "several values"])
def test_scores_of_values_are_scikit_learns(task):
    metrics = requires("sklearn.metrics")
    result, y = found(task)
    y, z = y.reshape(len(y), -1), result.out_of_fold
    scores = scores_of(task)
    for i in range(y.shape[1]):
        name, true = f"y {i}" if task == "several values" else "", y[:, i]
        predicted, constant = z[:, i] * true.std() + true.mean(), np.full(len(true), true.mean())
        for label, metric in (("R²", metrics.r2_score), ("RMSE", metrics.root_mean_squared_error),
                              ("MAE", metrics.mean_absolute_error)):  # fmt: skip
            score = scores[label, name]
            assert score["value"] == pytest.approx(metric(true, predicted), rel=1e-5)
            assert score["constant"] == pytest.approx(metric(true, constant), abs=1e-9)
            assert score["low"] < score["value"] < score["high"]
        mae = scores["MAE", name]
        half = 1.96 * np.abs(true - predicted).std(ddof=1) / math.sqrt(len(true))
        assert (mae["low"], mae["high"]) == pytest.approx((mae["value"] - half, mae["value"] + half), rel=1e-3)
        square = (true - predicted) ** 2
        top = square.mean() + 1.96 * square.std(ddof=1) / math.sqrt(len(true))
        assert scores["RMSE", name]["high"] == pytest.approx(math.sqrt(top), rel=1e-3)
        assert scores["R²", name]["low"] == pytest.approx(1.0 - top / true.var(), rel=1e-2, abs=1e-3)


@pytest.mark.parametrize("task", ["two classes", "classes"])
def test_scores_of_classes_are_scikit_learns(task):
    metrics = requires("sklearn.metrics")
    result, y = found(task)
    p, classes = result.out_of_fold, np.unique(y)
    shares = np.array([np.mean(y == each) for each in classes])
    constant = np.tile(shares, (len(y), 1))
    scores = scores_of(task)
    for which, q in (("value", p), ("constant", constant)):
        predicted = classes[q.argmax(axis=1)]
        q = q / q.sum(axis=1, keepdims=True)  # scikit-learn insists on it to the eighth digit
        ranked = q[:, 1] if len(classes) == 2 else q
        expected = {
            "accuracy": metrics.accuracy_score(y, predicted),
            "balanced accuracy": np.mean([np.mean(predicted[y == each] == each) for each in classes]),
            "log loss": metrics.log_loss(y, q, labels=classes),
            "ROC AUC": metrics.roc_auc_score(y == classes[1] if len(classes) == 2 else y, ranked, multi_class="ovr"),
        }
        for name, value in expected.items():
            assert scores[name, ""][which] == pytest.approx(value, rel=1e-5), (name, which)
    hits = classes[p.argmax(axis=1)] == y
    half = 1.96 * hits.std(ddof=1) / math.sqrt(len(y))
    assert scores["accuracy", ""]["low"] == pytest.approx(hits.mean() - half, rel=1e-3)
    assert scores["ROC AUC", ""]["low"] is None
    common = classes[shares.argmax()]
    assert contents_of(task)["most_frequent"] == str(common)


def test_scores_of_labels_are_means_over_labels():
    metrics = requires("sklearn.metrics")
    result, y = found("labels")
    p, scores = result.out_of_fold, scores_of("labels")
    of_labels = range(y.shape[1])
    assert scores["accuracy", ""]["value"] == np.mean(((p > 0.5) == y).all(axis=1))
    half = 1.96 * ((p > 0.5) == y).all(axis=1).std(ddof=1) / math.sqrt(len(y))
    ends = scores["accuracy", ""]["value"] - half, scores["accuracy", ""]["value"] + half
    assert (scores["accuracy", ""]["low"], scores["accuracy", ""]["high"]) == pytest.approx(ends, rel=1e-3)
    log_loss = np.mean([metrics.log_loss(y[:, i], p[:, i], labels=[0, 1]) for i in of_labels])
    assert scores["log loss", ""]["value"] == pytest.approx(log_loss)
    assert scores["log loss", ""]["low"] < log_loss < scores["log loss", ""]["high"]
    auc = np.mean([metrics.roc_auc_score(y[:, i], p[:, i]) for i in of_labels])
    assert scores["ROC AUC", ""]["value"] == pytest.approx(auc)


def test_intervals_are_checked_by_the_other_folds():
    result, y = found("values")
    checks = contents_of("values")["values"][0]
    truth, predicted = (y - y.mean()) / y.std(), result.out_of_fold[:, 0]
    used = np.flatnonzero(result.weights)
    each = np.stack([result.trials[i].out_of_fold[:, 0] for i in used]).astype(float)
    between = result.weights[used] @ (each - predicted) ** 2
    residual = truth - predicted
    for entry in checks["coverage"]:
        inside, widths = [], []
        for rows in result.problem.folds.validation:
            others = np.setdiff1d(np.arange(len(y)), rows)
            noise = math.sqrt(
                max(np.mean(residual[others] ** 2 - between[others]), 1e-4 * np.mean(residual[others] ** 2))
            )
            ratios = sorted(np.abs(residual[others]) / np.sqrt(noise**2 + between[others]))
            k = min(math.ceil((len(others) + 1) * entry["asked"]), len(others))
            half = ratios[k - 1] * np.sqrt(noise**2 + between[rows])
            inside += list(np.abs(residual[rows]) <= half)
            widths += list(2.0 * half * y.std())
        assert entry["found"] == pytest.approx(np.mean(inside))
        assert entry["width"] == pytest.approx(np.mean(widths), rel=1e-6)
    assert [entry["asked"] for entry in checks["coverage"]] == [0.5, 0.8, 0.9, 0.95]


def test_errors_and_points_are_those_of_the_rows():
    result, y = found("values")
    checks = contents_of("values")["values"][0]
    predicted = result.out_of_fold[:, 0] * y.std() + y.mean()
    pairs = {(round(a, 6), round(b, 6)) for a, b in zip(y.tolist(), predicted.tolist(), strict=True)}
    assert {(round(a, 6), round(b, 6)) for a, b in checks["points"]} == pairs
    assert checks["within"] == pytest.approx(np.quantile(np.abs(predicted - y), [0.5, 0.9]))
    edges = [bin[0] for bin in checks["errors"]] + [checks["errors"][-1][1]]
    counts = np.histogram(np.clip(predicted - y, edges[0], edges[-1]), edges)[0]
    assert [bin[2] for bin in checks["errors"]] == counts.tolist() and counts.sum() == len(y)


def evidence(true, predicted, fold=None):
    """Evidence of values with one output."""
    n = len(true)
    true, predicted = np.asarray(true, float)[:, None], np.asarray(predicted, float)[:, None]
    fold = np.zeros(n, np.int64) if fold is None else fold
    return Evidence("regression", ("y",), (), fold, true, predicted, predicted, np.zeros((n, 1)), true.mean(axis=0))


def test_intervals_of_a_single_fold_are_not_checked_on_what_they_are_made_of():
    draw = np.random.default_rng()
    true = draw.normal(size=4000)
    checks = value_checks(evidence(true, 0.1 * true), np.ones(1), draw)[0]
    assert len(checks["points"]) == 800
    for entry in checks["coverage"]:
        assert entry["found"] == pytest.approx(entry["asked"], abs=0.04)
    # The row with the largest error is in no interval that is made of the others.
    assert value_checks(evidence(true[:20], 0.1 * true[:20]), np.ones(1), draw)[0]["coverage"][-1]["found"] <= 0.95
    perfect = value_checks(evidence(true[:20], true[:20]), np.ones(1), draw)[0]
    assert perfect["errors"] == [[0.0, 0.0, 20.0]] and perfect["within"] == [0.0, 0.0]


@pytest.mark.parametrize("task", ["two classes", "classes", "labels"])
def test_reliability_is_counted_by_bins(task):
    result, y = found(task)
    checks, p = contents_of(task)["classes"], result.out_of_fold
    used = np.flatnonzero(result.weights)
    before = np.tensordot(result.weights[used], [result.trials[i].out_of_fold for i in used], 1)
    about = {"two classes": "of yes", "classes": "of the predicted class", "labels": "of each label"}[task]
    assert checks["about"] == about and checks["temperature"] == result.ensemble.temperature
    assert checks["calibration_error"] == pytest.approx(calibration_error_of(task, p, y, checks["reliability"]))
    assert checks["calibration_error_before"] == pytest.approx(calibration_error_of(task, before, y))


def calibration_error_of(task, p, y, bins=None):
    """The error by a loop over bins, which are compared with those of a report."""
    classes = np.unique(y)
    if task == "two classes":
        probability, is_so = p[:, 1], y == classes[1]
    elif task == "classes":
        probability, is_so = p.max(axis=1), classes[p.argmax(axis=1)] == y
    else:
        probability, is_so = p.ravel(), y.ravel() == 1
    error = 0.0
    for k in range(10):
        inside = [i for i, q in enumerate(probability) if k / 10 <= q < (k + 1) / 10 or (k == 9 and q == 1.0)]
        if not inside:
            continue
        mean, share = np.mean(probability[inside]), np.mean(is_so[inside])
        if bins is not None:
            (entry,) = [b for b in bins if b["mean"] == pytest.approx(mean)]
            assert entry["share"] == pytest.approx(share) and entry["rows"] == len(inside)
            assert entry["low"] <= share <= entry["high"]
        error += len(inside) / len(probability) * abs(share - mean)
    return error


def test_wilsons_interval_is_scipys():
    stats = requires("scipy.stats")
    draw = np.random.default_rng()
    for n in (1, 7, 400):
        k = int(draw.integers(0, n + 1))
        expected = stats.binomtest(k, n).proportion_ci(method="wilson")
        assert wilson(k / n, n) == pytest.approx((expected.low, expected.high), abs=1e-6)


@pytest.mark.parametrize("task", ["two classes", "classes"])
def test_the_confusion_matrix_is_scikit_learns(task):
    metrics = requires("sklearn.metrics")
    result, y = found(task)
    confusion, classes = contents_of(task)["classes"]["confusion"], np.unique(y)
    predicted = classes[result.out_of_fold.argmax(axis=1)]
    assert confusion["classes"] == [str(each) for each in classes]
    assert confusion["rows"] == metrics.confusion_matrix(y, predicted, labels=classes).tolist()


def test_classes_with_few_rows_are_one_in_a_large_confusion_matrix():
    draw = np.random.default_rng()
    true = draw.choice(14, 2000, p=np.arange(1, 15) / 105)
    p = draw.dirichlet(np.ones(14), 2000)
    names = tuple(f"class {i}" for i in range(14))
    many = Evidence("classification", ("y",), names, np.zeros(2000, int), true, p, p, p, p.mean(axis=0))
    confusion = class_checks(many, 1.0)["confusion"]
    counts = np.array(confusion["rows"])
    assert confusion["classes"][-1] == OTHERS and counts.shape == (10, 10) and counts.sum() == 2000
    kept = [int(name.removeprefix("class ")) for name in confusion["classes"][:-1]]
    sizes = np.bincount(true, minlength=14)
    assert min(sizes[kept]) >= max(np.delete(sizes, kept))
    i, j = 2, 5
    assert counts[i, j] == np.sum((true == kept[i]) & (p.argmax(axis=1) == kept[j]))
    assert counts[-1, -1] == np.sum(~np.isin(true, kept) & ~np.isin(p.argmax(axis=1), kept))


def by_networks(result, table):
    """Predictions of all rows by networks that need NumPy alone, each row by those that have not seen it."""
    model, problem = result.ensemble, result.problem
    wide = model.views.wide(table, model.blocks)
    method = "predict" if problem.targets.task == "regression" else "predict_proba"
    mean = np.zeros((len(wide), problem.n_outputs))
    for weight, (pool, ids) in zip(model.weights, model.members, strict=True):
        for id, rows in zip(ids, problem.folds.validation, strict=True):
            network = pool.extract(int(id), weights=weights_of(pool))
            mean[rows] += weight * np.asarray(getattr(network, method)(wide[rows]), float).reshape(len(rows), -1)
    return mean


@pytest.mark.parametrize("task", TASKS)
def test_unseen_members_predict_what_the_search_has_found(task):
    result, _ = found(task)
    problem = result.problem
    rows = ValidatedRows.of(problem, problem.table, np.random.default_rng(0))
    used = np.flatnonzero(result.weights)
    expected = np.tensordot(result.weights[used], [result.trials[i].out_of_fold for i in used], 1)
    np.testing.assert_allclose(by_unseen_members(result.ensemble, rows, rows.table), expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(by_networks(result, problem.table), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("task", ["values", "several values", "classes"])
def test_partial_dependence_is_the_mean_of_predictions_with_a_column_set(task):
    result, y = found(task)
    contents, table = contents_of(task), result.problem.table
    kinds = set()
    for entry in contents["dependence"]:
        i = next(i for i, c in enumerate(table) if entry["column"] in (c.name, f"column {i}"))
        kinds.add(entry["kind"])
        for k in {0, len(entry["at"]) - 1}:
            cell = None if entry["at"][k] == MISSING else entry["at"][k]
            assert [line["values"][k] for line in entry["lines"]] == pytest.approx(
                means_with(result, i, cell, y), rel=2e-3, abs=2e-3
            )
        missing = [line["missing"] for line in entry["lines"]]
        if entry["column"] == "size":
            assert missing == pytest.approx(means_with(result, i, np.nan, y), rel=2e-3, abs=2e-3)
            assert entry["deciles"] == pytest.approx(np.nanquantile(table[i].cells, np.arange(1, 10) / 10))
        else:
            assert missing == [None] * len(missing)
    assert {"number", "category"} <= kinds


def means_with(result, i, cell, y):
    table = part(result.problem.table, np.arange(len(y)))
    table[i].cells[:] = cell
    p = by_networks(result, table)
    if result.problem.targets.task == "regression":
        return p.mean(axis=0) * y.std() + y.mean() if y.ndim == 1 else p.mean(axis=0)
    tempered = p ** (1.0 / result.ensemble.temperature)
    return (tempered / tempered.sum(axis=1, keepdims=True)).mean(axis=0)


@pytest.mark.parametrize("task", TASKS)
def test_columns_that_matter_come_first(task):
    contents = contents_of(task)
    names = [each["column"] for each in contents["importances"]]
    assert names[0] == "size" and set(names) == {"size", HOSTILE, "day", "column 3"}
    values = [each["importance"] for each in contents["importances"]]
    assert values == sorted(values, reverse=True) and values[0] > 5 * abs(values[names.index("column 3")])
    assert [each["column"] for each in contents["dependence"]] == [
        n for n, v in zip(names, values, strict=True) if v > 0
    ]
    assert contents["left_out"] == [["<b>constant</b>", "one value"]] and contents["n_left_out"] == 1
    assert contents["columns"] == {"number": 2, "category": 1, "date": 1}
    assert any("size" in sentence for sentence in contents["answer"])


def test_trials_and_the_ensemble_are_the_results():
    result, _ = found("values")
    contents, inputs = contents_of("values"), [len(result.problem.inputs_of(c.view, 0)) for c in SPACE]
    parameters = [inputs[0] * 8 + 8 + 8 + 1, inputs[1] * 6 + 6 + 6 * 5 + 5 + 5 + 1, inputs[2] + 1]
    assert [t["trial"] for t in contents["trials"]] == [r["trial"] for r in result.records()]
    for trial, record in zip(contents["trials"], result.records(), strict=True):
        assert all(trial[key] == record[key] for key in ("configuration", "loss", "weight", "epochs", "status"))
        assert trial["parameters"] == parameters[trial["trial"]]
    made, used = contents["ensemble"], np.flatnonzero(result.weights)
    assert made["configurations"] == len(used) and made["networks"] == 3 * len(used)
    assert made["parameters"] == 3 * sum(parameters[i] for i in used) == result.ensemble.n_parameters()
    texts = {
        "hidden": ["8", "6-5", "linear"],
        "activation": ["relu", "tanh", "linear"],
        "view": [c.view for c in SPACE],
    }
    for name, of_trials in texts.items():
        assert dict(map(tuple, made["shares"][name])) == pytest.approx({of_trials[i]: result.weights[i] for i in used})
    heaviest = int(result.weights.argmax())
    pool, curve = result.trials[heaviest].pool, contents["curves"][0]
    assert curve["configuration"] == SPACE[heaviest].text()
    mean = pool.history_["loss"][np.isin(pool.ids_, result.trials[heaviest].ids)].mean(axis=0)
    assert [point[0] for point in curve["points"]] == list(range(1, 16))
    assert [point[1] for point in curve["points"]] == pytest.approx(mean.tolist(), rel=1e-5)


def test_the_answer_has_the_figures():
    contents = contents_of("values")
    mae = next(score for score in contents["scores"] if score["name"] == "MAE")
    text = " ".join(contents["answer"])
    assert text.startswith(f"Predicts y with a mean error of {short(mae['value'])}; always predicting the mean would")
    assert f"within {short(contents['values'][0]['within'][1])}." in text and "may be chance" not in text
    text = " ".join(contents_of("two classes")["answer"])
    accuracy = scores_of("two classes")["accuracy", ""]
    assert f"correctly in {percent(accuracy['value'])} of the rows" in text and "“" in text
    assert "Predicts all 2 labels" in contents_of("labels")["answer"][0]
    named = report_contents(found("values")[0], "Some title", "price")
    assert named["answer"][0].startswith("Predicts price with") and named["title"] == "Some title"


def test_what_may_be_chance_is_said():
    n, draw = 60, np.random.default_rng()
    how = {"space": SPACE[:1], "time_budget": None, "max_members": 3, "max_epochs": 1, "cv": 3, "progress": False}
    noise = pm.search(draw.normal(size=(n, 2)), draw.normal(size=n), **how)
    answer = " ".join(report_contents(noise)["answer"])
    assert "may be chance" in answer and "by < 0.1" not in answer


def test_a_holdout_weights_and_what_diverged():
    wild = SPACE[0].changed(optimizer="sgd", learning_rate=1e12)
    wild.member.pop("decoupled_weight_decay")
    weights = np.random.default_rng().uniform(0.5, 2.0, 90)
    result, y = search("two classes", 90, [(np.arange(60), np.arange(60, 90))], weights, [wild, *SPACE[:1]], 8)
    contents = json.loads(json.dumps(report_contents(result), allow_nan=False))
    require_contents(contents)
    assert contents["validated"] == 30 and contents["rows"] == 90 and contents["folds"] == 1 and contents["weighted"]
    assert contents["trials"][-1]["status"] == "diverged" and contents["n_trials"] == 2
    accuracy = next(score for score in contents["scores"] if score["name"] == "accuracy")
    assert accuracy["value"] == np.mean(np.unique(y)[result.out_of_fold.argmax(axis=1)] == y[60:])


@pytest.mark.parametrize("names", [["a", "b"], [], [3], "", ("a", "")])
def test_names_that_don_t_fit_are_refused(names):
    with pytest.raises(pm.DataError, match="names: expected 1 text"):
        report_contents(found("values")[0], names=names)


def test_numbers_are_short():
    assert [short(v) for v in (0.0, 12345.6, 12.34, 0.01234, -1.5, 1e-7, 3e12, 999.96, None, -1e-30)] == [
        "0", "12,346", "12.3", "0.0123", "−1.5", "1.00e-07", "3.00e+12", "1,000", "–", "−1.00e-30",
    ]  # fmt: skip
    assert [percent(v).replace("\xa0", " ") for v in (0.5, 0.1234, 1.0, None)] == ["50 %", "12.3 %", "100 %", "–"]
    assert [fixed(v, 2) for v in (-0.001, 1234.5, -2.0, None)] == ["0.00", "1,234.50", "−2.00", "–"]
    assert [decimals_of(v) for v in (0.0, 0.0123, 12.0, 12345.0, 1e-300)] == [2, 4, 1, 0, 9]
    times = [duration(s).replace("\xa0", " ") for s in (0.001, 8.31, 9.97, 59.7, 125.0, 3720.0)]
    assert times == ["< 0.1 s", "8.3 s", "10 s", "1 min 0 s", "2 min 5 s", "1 h 2 min"]
    assert percents(0.5, 0.951).replace("\xa0", " ") == "50 to 95.1 %"
    assert count(1, "row") == "1 row" and count(1234, "row") == "1,234 rows"
    assert joined(["a"]) == "a" and joined(["a", "b", "c"]) == "a, b and c"
