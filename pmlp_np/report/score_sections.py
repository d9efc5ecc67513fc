"""The sections on how good predictions are: the answer, scores, values, classes."""

from __future__ import annotations

from typing import Any

from pmlp_np.model_selection.targets import REGRESSION
from pmlp_np.report import charts
from pmlp_np.report.blocks import card, figure, grid, numbers, section, table
from pmlp_np.report.charts import Words
from pmlp_np.report.figures import count, fixed, percent, percents, short
from pmlp_np.report.markup import Html, element, together

Contents = dict[str, Any]
_MOST_TILES, _DECIMALS = 4, 3


def heading(contents: Contents) -> Html:
    """Return the page's title, what it is about, the answer, and the main scores."""
    kinds = {"number": "numeric", "date": "date", "category": "categorical"}
    columns = [f"{contents['columns'][kind]:,} {text}" for kind, text in kinds.items() if kind in contents["columns"]]
    about = (
        f"{count(contents['rows'], 'row')}, {' + '.join(columns)} "
        f"{'column' if sum(contents['columns'].values()) == 1 else 'columns'}. "
    )
    first, *others = contents["answer"]
    answer = element("div", element("p", first, class_="first"), element("p", " ".join(others)), class_="answer")
    tiles = [_tile(score) for score in contents["scores"][:_MOST_TILES]]
    return element(
        "header", element("h1", contents["title"]),
        element("p", about, element("time", contents["written"]), class_="about"), answer,
        element("div", tiles, class_="tiles"),
    )  # fmt: skip


def _shown(score: dict[str, Any], value: float | None) -> str:
    """Return a value of a score: shares in percent, those of the target's unit with three digits, others decimals."""
    if score["unit"] == "%":
        return percent(value)
    return short(value) if score["unit"] else fixed(value, _DECIMALS)


def _between(score: dict[str, Any]) -> str:
    low, high = score["low"], score["high"]
    if low is None or high is None:
        return "–"
    return percents(low, high) if score["unit"] == "%" else f"{_shown(score, low)} to {_shown(score, high)}"


def _tile(score: dict[str, Any]) -> Html:
    name = score["name"] + (f" of {score['target']}" if score["target"] else "")
    return element(
        "div", element("span", name, class_="what"), element("span", _shown(score, score["value"]), class_="value"),
        element("span", f"constant: {_shown(score, score['constant'])}", class_="than"), class_="tile",
    )  # fmt: skip


def score_section(contents: Contents) -> Html:
    """Return all scores, with intervals and those of a constant."""
    constant = "the mean" if contents["task"] == REGRESSION else "the shares of the classes"
    how = (
        f"Each of the {contents['folds']} folds was predicted by networks that had not seen its rows"
        if contents["folds"] > 1
        else f"The {count(contents['validated'], 'validation row')} were predicted by networks that had not seen them"
    )
    lead = (
        f"{how}. The constant is what {constant} would score as a prediction of every row. Intervals hold the score "
        "with 95 % probability, if rows are independent. The ensemble was chosen by these same rows, so that scores on "
        "new rows may be a little worse."
    )
    if contents["weighted"]:
        lead += " Here each row counts once; training and selection used the weights of rows."
    rows = [
        [
            score["name"] + (f" of {score['target']}" if score["target"] else ""), _shown(score, score["value"]),
            _between(score),
            _shown(score, score["constant"]), "larger" if score["larger_is_better"] else "smaller",
        ]
        for score in contents["scores"]
    ]  # fmt: skip
    columns = ["Score", "Ensemble", "95 % interval", "Constant", "Better is"]
    shown = element("div", table("Scores", columns, rows, minor=(4,)), class_="card")
    return section("scores", "How good it is", lead, shown)


def test_section(contents: Contents) -> Html | None:
    """Return the scores on rows that were set aside, where there are such."""
    test = contents.get("test")
    if not test:
        return None
    lead = f"{count(test['rows'], 'row')} had no part in training or in the choice of the ensemble."
    doubts = [element("ul", [element("li", doubt) for doubt in test["doubts"]])] if test["doubts"] else []
    return section(
        "test", "On rows that were set aside", lead,
        element("div", table("Test scores", ["Score", "Ensemble", "Constant"], test["scores"]), class_="card"),
        *([element("p", "What speaks against these scores:", class_="lead"), *doubts] if doubts else []),
    )  # fmt: skip


def value_section(contents: Contents) -> Html | None:
    """Return predicted against true values, errors and intervals, where values are predicted."""
    checks = contents.get("values")
    if not checks:
        return None
    lead = "How far predictions of unseen rows are from the truth, and how well the model knows it."
    return section("values", "Errors and intervals", lead, [_of_target(each, i) for i, each in enumerate(checks)])


def _of_target(checks: dict[str, Any], i: int) -> Html:
    name, bins = checks["target"], checks["errors"]
    scatter = Words(
        f"scatter-{i}", f"Predicted against true {name}",
        f"{len(checks['points'])} rows. Half of the errors are below {short(checks['within'][0])}, nine in ten below "
        f"{short(checks['within'][1])}.", "true", "predicted",
    )  # fmt: skip
    errors = Words(f"errors-{i}", f"Errors of {name}", "Number of rows by predicted minus true value.",
                   "predicted − true", "rows")  # fmt: skip
    counts = table(f"Errors of {name}", ["From", "To", "Rows"], [[short(a), short(b), f"{c:,.0f}"] for a, b, c in bins])
    coverage = [[percent(c["asked"]), percent(c["found"]), short(c["width"])] for c in checks["coverage"]]
    return grid(
        figure(f"Predicted against true {name}", "On the line, predictions are right.",
               charts.scatter(scatter, checks["points"])),
        figure(f"Errors of {name}", "The ends hold all errors beyond them.", charts.histogram(errors, bins),
               numbers(counts)),
        card(f"Intervals of {name}",
             "How many rows lie in their prediction interval. The intervals of a fold are made of the errors of the "
             "other folds.",
             table("Coverage of intervals", ["Asked for", "Found", "Mean width"], coverage)),
    )  # fmt: skip


def class_section(contents: Contents) -> Html | None:
    """Return reliability and confusion, where classes or labels are predicted."""
    checks = contents.get("classes")
    if not checks:
        return None
    bins = checks["reliability"]
    words = Words(
        "reliability", "Share of rows against probability",
        f"{len(bins)} bins; expected calibration error {percent(checks['calibration_error'])}.",
        f"probability {checks['about']}", "share of rows",
    )  # fmt: skip
    listed = [[percent(b["mean"]), percent(b["share"]), percents(b["low"], b["high"]), f"{b['rows']:,}"] for b in bins]
    columns = ["Mean probability", "Share of rows", "95 % interval", "Rows"]
    says = "On the line, events happen as often as their probability says. Larger circles stand for more rows."
    shown = figure("Are probabilities right?", says, charts.reliability(words, bins), _calibration(checks),
                   numbers(table("Reliability", columns, listed)))  # fmt: skip
    lead = "Whether probabilities can be taken at their word, and which classes are confused. By unseen rows."
    return section(
        "classes", "Probabilities and classes", lead, grid(shown, _confusion(checks["confusion"]), width="wide")
    )


def _calibration(checks: dict[str, Any]) -> Html:
    after, before = percent(checks["calibration_error"]), percent(checks["calibration_error_before"])
    if checks["temperature"] == 1.0:
        return element("p", f"Expected calibration error: {after}. No temperature made the log loss better.")
    text = f"Expected calibration error: {after}; before temperature scaling {before} (temperature "
    return element("p", f"{text}{short(checks['temperature'])}, chosen by these rows).")


def _confusion(confusion: dict[str, Any] | None) -> Html | None:
    if confusion is None:
        return None
    names = confusion["classes"]
    rows = []
    for name, counts in zip(names, confusion["rows"], strict=True):
        total = max(sum(counts), 1)
        cells = [
            element("span", f"{n:,}", element("small", percent(n / total)) if n else None, class_="share",
                    style=f"--share:{n / total:.3f}")
            for n in counts
        ]  # fmt: skip
        rows.append([name, *cells])
    shown = table("Confusion matrix", ["True class", *names], rows, class_="confusion")
    return card("Which class is taken for which?", "Rows: true classes. Columns: predicted ones.", shown)


def top(contents: Contents) -> Html:
    """Return all of these sections that apply."""
    return together(
        heading(contents), score_section(contents), test_section(contents), value_section(contents),
        class_section(contents),
    )  # fmt: skip
