"""The sections on the model: what it depends on, what it is made of, what was tried, what was left out."""

from __future__ import annotations

from typing import Any

from pmlp_np.model_selection.targets import REGRESSION
from pmlp_np.report import charts
from pmlp_np.report.axes import date_text
from pmlp_np.report.blocks import bar, card, figure, grid, legend, listing, numbers, section, table
from pmlp_np.report.charts import Words
from pmlp_np.report.figures import count, decimals_of, duration, fixed, percent, short
from pmlp_np.report.markup import Html, element, together

Contents = dict[str, Any]
_MOST_COLUMNS, _MOST_TRIALS, _MOST_SHARES = 15, 15, 6
_DECIMALS = 3


def effect_section(contents: Contents) -> Html:
    """Return importances and partial dependence."""
    loss = "mean squared error, as a share of the variance" if contents["task"] == REGRESSION else "log loss"
    lead = "By networks that have not seen the rows. Neither says what happens where someone changes a column."
    found = contents["importances"]
    largest = max(found[0]["importance"], 1e-9)
    decimals = max(decimals_of(largest), _DECIMALS)
    rows = [
        [each["column"], bar(each["importance"] / largest, fixed(each["importance"], decimals)),
         f"± {fixed(each['spread'], decimals)}"]
        for each in found[:_MOST_COLUMNS]
    ]  # fmt: skip
    more = len(found) - len(rows)
    says = f"How much the {loss} grows when a column's cells change places among the rows."
    shown = card(
        "Importance of columns", says,
        table("Importances", ["Column", "Growth", "Spread"], rows, minor=(2,), class_="bars"),
        element("p", f"{count(more, 'column')} below these.") if more else None, class_="tall" if len(rows) > 4 else "",
    )  # fmt: skip
    return section("columns", "What it depends on", lead, grid(shown, _dependences(contents)))


def _dependences(contents: Contents) -> list[Html]:
    found = contents["dependence"]
    everything = [
        value
        for each in found
        for line in each["lines"]
        for value in [*line["values"], *([] if line["missing"] is None else [line["missing"]])]
    ]
    return [_dependence(contents, each, i, everything) for i, each in enumerate(found)]


def _dependence(contents: Contents, each: dict[str, Any], i: int, y_range: list[float]) -> Html:
    names = [line["name"] for line in each["lines"]]
    what = _predicted(contents, names)
    words = Words(f"dependence-{i}", f"Mean prediction by {each['column']}", f"{what} at {len(each['at'])} cells.",
                  each["column"], what)  # fmt: skip
    if each["kind"] == "category":
        words = Words(words.name, words.title, words.shows, what, each["column"])
        chart, cells = charts.dependence_rows(words, each["at"], each["lines"], y_range), each["at"]
    else:
        is_date = each["kind"] == "date"
        chart = charts.dependence_curve(words, each["at"], each["lines"], each["deciles"], y_range, is_date)
        cells = [date_text(at) if is_date else short(at) for at in each["at"]]
    rows: list[list[Any]] = [
        [cell, *(short(line["values"][k]) for line in each["lines"])] for k, cell in enumerate(cells)
    ]
    if any(line["missing"] is not None for line in each["lines"]):
        rows.append(["missing", *(short(line["missing"]) for line in each["lines"])])
    columns = [each["column"], *(names if len(names) > 1 else [what])]
    return figure(f"By {each['column']}", "", chart, legend(names) if len(names) > 1 else None,
                  numbers(table(words.title, columns, rows)))  # fmt: skip


def _predicted(contents: Contents, names: list[str]) -> str:
    if contents["task"] == REGRESSION:
        return f"mean prediction of {names[0]}" if len(names) == 1 else "mean prediction, standardized"
    return f"mean probability of {names[0]}" if len(names) == 1 else "mean probability"


def ensemble_section(contents: Contents) -> Html:
    """Return what the ensemble is made of."""
    made = contents["ensemble"]
    lead = (
        f"{count(made['configurations'], 'configuration')}, each as {count(contents['folds'], 'network')}, one for "
        f"each fold; {count(made['networks'], 'network')} with {made['parameters']:,} parameters in all. Weights were "
        "chosen by predictions of unseen rows."
    )
    titles = {"hidden": "Hidden layers", "activation": "Activation", "view": "Encoding of the columns"}
    used = sorted((t for t in contents["trials"] if t["weight"] > 0.0), key=lambda t: -t["weight"])
    cards = [_shares("Weights of configurations", [[t["configuration"], t["weight"]] for t in used])]
    cards += [_shares(titles.get(name, name), pairs) for name, pairs in made["shares"].items()]
    return section("ensemble", "What the model is made of", lead, element("div", cards, class_="columns"))


def _shares(title: str, pairs: list[list[Any]]) -> Html:
    shown, rest = pairs[:_MOST_SHARES], sum(pair[1] for pair in pairs[_MOST_SHARES:])
    rows = [[name, bar(share, percent(share))] for name, share in [*shown, *([["others", rest]] if rest else [])]]
    return card(title, "", table(title, [title, "Weight"], rows, class_="bars unnamed"))


def trial_section(contents: Contents) -> Html:
    """Return the leaderboard, losses by size, and learning curves."""
    trials, regression = contents["trials"], contents["task"] == REGRESSION
    loss = "mean squared error of standardized values" if regression else "log loss"
    decimals = decimals_of(trials[0]["loss"] or 1.0)
    rows = [
        [
            t["configuration"], fixed(t["loss"], decimals), f"± {fixed(t['loss_spread'], decimals)}",
            percent(t["weight"]) if t["weight"] else "–", f"{t['parameters']:,}", f"{t['epochs']:,}",
            duration(t["seconds"]) if t["status"] == "done" else t["status"],
        ]
        for t in trials[:_MOST_TRIALS]
    ]  # fmt: skip
    columns = ["Configuration", "Loss", "Spread", "Weight", "Parameters", "Epochs", "Time"]
    lead = (
        f"The best {len(rows)} of {count(len(trials), 'configuration')}. Loss: {loss}, of unseen rows; spread: its "
        "standard deviation over folds. Hidden layers, activation, and encoding of the columns name a configuration."
    )
    leaderboard = element("div", table("Leaderboard", columns, rows, minor=(2, 5, 6)), class_="card")
    return section(
        "trials", "What was tried", lead, leaderboard, grid(_sizes(trials, loss), _curves(contents), width="wide")
    )


def _sizes(trials: list[dict[str, Any]], loss: str) -> Html | None:
    done = [t for t in trials if t["status"] == "done" and t["loss"] is not None and t["parameters"] > 0]
    if len(done) < 3:
        return None
    words = Words("sizes", "Loss against size", f"{len(done)} configurations.", "parameters of a network", "loss")
    points = [(t["parameters"], t["loss"], t["weight"], t["configuration"]) for t in done]
    says = "Filled circles are in the ensemble; the larger, the more weight. Lower is better."
    rows = [[t["configuration"], f"{t['parameters']:,}", short(t["loss"], 4)] for t in done]
    return figure("Loss against size", says, charts.sizes(words, points),
                  numbers(table("Loss against size", ["Configuration", "Parameters", "Loss"], rows)))  # fmt: skip


def _curves(contents: Contents) -> Html | None:
    curves = [each for each in contents["curves"] if len(each["points"]) > 1]
    if not curves:
        return None
    words = Words("curves", "Training loss by epoch", f"{len(curves)} configurations.", "epoch", "training loss")
    rows = [
        [each["configuration"], f"{each['points'][-1][0]:,}", short(each["points"][0][1]), short(each["points"][-1][1])]
        for each in curves
    ]
    return figure(
        "Learning curves", "Training loss, dropout included, mean over folds; the largest weights of the ensemble.",
        charts.lines(words, [each["points"] for each in curves]), legend([each["configuration"] for each in curves]),
        numbers(table("Learning curves", ["Configuration", "Epochs", "First loss", "Last loss"], rows)),
    )  # fmt: skip


def rest_section(contents: Contents) -> Html:
    """Return what was left out and why, notes, time and versions."""
    diverged = [t["configuration"] for t in contents["trials"] if t["status"] == "diverged"]
    notes = [note[:1].upper() + note[1:] + "." * (not note.endswith(".")) for note in contents["notes"]]
    if contents["ended"] == "interrupted":
        notes.insert(0, "The search was interrupted: the model is made of what it had until then.")
    if diverged:
        notes.append(f"Diverged in training, and left out: {', '.join(diverged)}.")
    notes.append(f"The search took {duration(contents['seconds'])}.")
    notes.append("Made with " + ", ".join(f"{name} {version}" for name, version in contents["versions"]) + ".")
    left_out = None
    if contents["left_out"]:
        more = contents["n_left_out"] - len(contents["left_out"])
        title = "Columns that are not used"
        listed = table(title, ["Column", "Reason"], contents["left_out"], texts=2)
        left_out = card(title, "", listed, element("p", f"and {more:,} more") if more else None)
    title = "Left out, and notes" if left_out or diverged else "Notes"
    return section("rest", title, "", grid(left_out, card("About the search", "", listing(notes)), width="wide"))


def bottom(contents: Contents) -> Html:
    """Return all of these sections."""
    return together(
        effect_section(contents), ensemble_section(contents), trial_section(contents), rest_section(contents)
    )  # fmt: skip
