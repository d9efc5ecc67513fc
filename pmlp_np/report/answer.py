"""The answer in words: what was found, how good it is, and what it depends on."""

from __future__ import annotations

from typing import Any

from pmlp_np.model_selection.targets import CLASSIFICATION, REGRESSION
from pmlp_np.report.figures import count, duration, joined, percent, short

# Columns that are named, and the importance below which they aren't, as a share of the largest.
_MOST_COLUMNS, _LEAST_SHARE = 3, 0.05


def answer(contents: dict[str, Any]) -> list[str]:
    """Return the answer in sentences, from the other contents of a report."""
    if contents["task"] == REGRESSION:
        sentences = _of_values(contents)
    elif contents["task"] == CLASSIFICATION:
        sentences = _of_classes(contents)
    else:
        sentences = _of_labels(contents)
    return [*sentences, *_columns(contents), _model(contents)]


def _score(contents: dict[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(score for score in contents["scores"] if score["name"] == name)
    return found


def _of_values(contents: dict[str, Any]) -> list[str]:
    sentences = []
    for checks in contents["values"]:
        name, (half, most) = checks["target"], checks["within"]
        mine = [s for s in contents["scores"] if s["target"] in ("", name)]
        mae = next(score for score in mine if score["name"] == "MAE")
        text = (
            f"Predicts {name} with a mean error of {short(mae['value'])}; always predicting the mean would be off by "
            f"{short(mae['constant'])}."
        )
        sentences += [
            text + _compared(mae),
            f"Half of the predictions are within {short(half)} of the true value, nine in ten within {short(most)}.",
        ]
        sentences += [
            f"It explains {percent(score['value'])} of the variance (R²)." for score in mine if score["name"] == "R²"
        ]
    return sentences


def _compared(score: dict[str, Any]) -> str:
    if score["high"] is not None and score["high"] >= score["constant"]:
        return " That is no clear improvement: with these rows it may be chance."
    return ""


def _of_classes(contents: dict[str, Any]) -> list[str]:
    name, accuracy, loss = contents["targets"][0], _score(contents, "accuracy"), _score(contents, "log loss")
    text = (
        f"Predicts {name} correctly in {percent(accuracy['value'])} of the rows; always predicting the most frequent "
        f"class, “{contents['most_frequent']}”, would be correct in {percent(accuracy['constant'])}."
    )
    if accuracy["low"] is not None and accuracy["low"] <= accuracy["constant"]:
        text += " That is no clear improvement in classes."
    return [text, _probabilities(contents, loss)]


def _of_labels(contents: dict[str, Any]) -> list[str]:
    accuracy, loss = _score(contents, "accuracy"), _score(contents, "log loss")
    text = (
        f"Predicts all {len(contents['targets'])} labels of a row correctly in {percent(accuracy['value'])} of the "
        f"rows; the most frequent value of each label would be correct in {percent(accuracy['constant'])}."
    )
    return [text, _probabilities(contents, loss)]


def _probabilities(contents: dict[str, Any], loss: dict[str, Any]) -> str:
    error = contents["classes"]["calibration_error"]
    return (
        f"Its probabilities are off by {percent(error)} on average (calibration error), with a log loss of "
        f"{short(loss['value'])}; the shares of the classes alone have {short(loss['constant'])}.{_compared(loss)}"
    )


def _columns(contents: dict[str, Any]) -> list[str]:
    found = contents["importances"]
    least = _LEAST_SHARE * found[0]["importance"]
    names = [each["column"] for each in found[:_MOST_COLUMNS] if each["importance"] > max(least, 0.0)]
    if not names:
        return ["No single column matters to the predictions."]
    return [f"It depends most on {joined(names)}."]


def _model(contents: dict[str, Any]) -> str:
    made, tried = contents["ensemble"], contents["n_trials"]
    return (
        f"The model is a weighted mean of {made['configurations']:,} of the {count(tried, 'configuration')} tried, "
        f"{count(made['networks'], 'network')} in all, found in {duration(contents['seconds'])}."
    )
