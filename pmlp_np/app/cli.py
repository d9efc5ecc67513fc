"""The commands of `pmlp`: arguments, options and help. The work is done in the other modules."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

import pmlp_np as pm
from pmlp_np.app import folder, target_scores
from pmlp_np.app.exit_codes import INTERRUPTED
from pmlp_np.app.screen import Screen

app = typer.Typer(
    name="pmlp",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    help="Train hundreds of small neural networks on a table at once, and use the best ensemble of them.",
    epilog="Start with [bold]pmlp demo[/], or [bold]pmlp fit table.csv --target COLUMN --out result[/].",
)

_TABLE, _ROWS, _SEARCH, _OUTPUT = "The table", "Parts of its rows", "The search", "Output"

_METRICS = "; ".join(", ".join(target_scores.choices(task)) for task in target_scores.USUAL)

# A flag takes no value, though Typer writes <bool> beside it.
_flag = partial(typer.Option, metavar="")
Json = Annotated[bool, _flag("--json", help="Print one JSON document, and nothing else on stdout.",
                                    rich_help_panel=_OUTPUT)]  # fmt: skip
Debug = Annotated[bool, _flag("--debug", help="Show where an error came from.", rich_help_panel=_OUTPUT)]
Folder = Annotated[Path, typer.Argument(metavar="FOLDER", help="The result folder of a [bold]pmlp fit[/].",
                                        show_default=False)]  # fmt: skip
# Options on how a table is written, which fit and predict share.
Encoding = Annotated[
    str | None,
    typer.Option(
        "--encoding",
        metavar="NAME",
        rich_help_panel=_TABLE,
        show_default=False,
        help="utf-8, cp1252, latin-1, utf-16, ... Default: detected from the file.",
    ),
]
Delimiter = Annotated[
    str | None,
    typer.Option(
        "--delimiter",
        metavar="CHARACTER",
        rich_help_panel=_TABLE,
        show_default=False,
        help="Separator of cells: , ; tab | or another. Default: detected from the first lines.",
    ),
]
Decimal = Annotated[
    str | None,
    typer.Option(
        "--decimal",
        metavar="MARK",
        rich_help_panel=_TABLE,
        show_default=False,
        help="Decimal mark, a point or a comma. Default: detected; needed where 1.275 could be either.",
    ),
]
Thousands = Annotated[
    str | None,
    typer.Option(
        "--thousands",
        metavar="MARK",
        rich_help_panel=_TABLE,
        show_default=False,
        help="Separator of thousands: , . ' or space. Default: detected from the cells.",
    ),
]
DayFirst = Annotated[
    bool | None,
    _flag(
        "--day-first/--month-first",
        rich_help_panel=_TABLE,
        show_default=False,
        help="How to read 01/02/2026, where no date has a day above 12.",
    ),
]
SkipLines = Annotated[
    int,
    typer.Option(
        "--skip-lines",
        metavar="N",
        min=0,
        rich_help_panel=_TABLE,
        show_default=False,
        help="Number of lines to skip at the top of the file.",
    ),
]
NotMissing = Annotated[list[str] | None, typer.Option("--not-missing", metavar="WORD", rich_help_panel=_TABLE,
    show_default=False, help="A word such as None or NA that does not mean a missing cell; COLUMN=WORD for one column. "
    "Repeatable.")]  # fmt: skip
Overwrite = Annotated[bool, _flag("--overwrite", help="Replace an existing file or folder.", rich_help_panel=_OUTPUT)]


def _version(requested: bool) -> None:
    if requested:
        print(f"pmlp_np {pm.__version__}")
        raise typer.Exit


@app.callback()
def _pmlp(
    version: Annotated[bool, _flag("--version", callback=_version, is_eager=True, help="Print the version.")] = False,
) -> None:
    pass


def _command(*examples: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Return a decorator that makes a function a command. The help is the docstring, followed by these examples."""

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        # Paragraphs as wide as the screen, not as the docstring's lines.
        paragraphs = inspect.cleandoc(function.__doc__ or "").split("\n\n")
        help_text = "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)
        shown = "[bold]Examples[/]\n\n" + "\n\n".join(f"  {example}" for example in examples)
        return app.command(help=help_text, epilog=shown)(function)

    return decorate


@_command(
    "pmlp fit concrete.csv --target compressive_strength --out concrete",
    "pmlp fit iris.parquet --target species --out iris --time-budget 20",
    "pmlp fit t.csv --target y --out r --cv 5 --max-members 80 --max-epochs 100",
    "pmlp fit t.csv --target y --out r --space space.json --metric balanced_accuracy",
    "pmlp fit visits.csv --target outcome --out r --group patient",
)
def fit(
    table: Annotated[str, typer.Argument(metavar="TABLE", show_default=False,
                                         help="A CSV or Parquet file; - for CSV from stdin.")],
    target: Annotated[str, typer.Option(help="The column to predict.", metavar="COLUMN", show_default=False)],
    out: Annotated[Path, typer.Option(help="The folder to create for the result.", metavar="FOLDER",
                                      show_default=False)],
    task: Annotated[str | None, typer.Option(metavar="TASK", rich_help_panel=_TABLE, show_default=False,
        help="regression or classification. Default: detected from the target's cells.")] = None,
    missing: Annotated[list[str] | None, typer.Option(metavar="TEXT", rich_help_panel=_TABLE, show_default=False,
        help="A text that means a missing cell, besides empty, NA, null...; COLUMN=TEXT for one column. "
        "Repeatable.")] = None,
    not_missing: NotMissing = None,
    categorical: Annotated[list[str] | None, typer.Option(metavar="COLUMN", rich_help_panel=_TABLE, show_default=False,
        help="A column to treat as categories. Repeatable.")] = None,
    numeric: Annotated[list[str] | None, typer.Option(metavar="COLUMN", rich_help_panel=_TABLE, show_default=False,
        help="A column to treat as numbers, even if it looks like row numbers. Repeatable.")] = None,
    drop: Annotated[list[str] | None, typer.Option(metavar="COLUMN", rich_help_panel=_TABLE, show_default=False,
        help="A column to leave out. Repeatable.")] = None,
    skip_missing_target: Annotated[bool, _flag("--skip-missing-target", rich_help_panel=_TABLE,
        help="Skip rows that have no target.")] = False,
    encoding: Encoding = None,
    delimiter: Delimiter = None,
    decimal: Decimal = None,
    thousands: Thousands = None,
    day_first: DayFirst = None,
    skip_lines: SkipLines = 0,
    test_share: Annotated[float | None, typer.Option(metavar="SHARE", rich_help_panel=_ROWS, show_default=False,
        help="Share of rows for the test of the ensemble. Default 0.2.")] = None,
    validation_share: Annotated[float | None, typer.Option(metavar="SHARE", rich_help_panel=_ROWS, show_default=False,
        help="Share of rows to evaluate configurations on, instead of folds.")] = None,
    cv: Annotated[int | None, typer.Option("--cv", metavar="N", rich_help_panel=_ROWS, show_default=False,
        help="Number of folds of the training rows. Default: 10 for few rows, down to 4 for many.")] = None,
    group: Annotated[str | None, typer.Option(metavar="COLUMN", rich_help_panel=_ROWS, show_default=False,
        help="Keep rows with the same value (a patient, a customer) in one part and fold.")] = None,
    order_by: Annotated[str | None, typer.Option(metavar="COLUMN", rich_help_panel=_ROWS, show_default=False,
        help="Split by this column's numbers or dates: the last rows test, those before validate.")] = None,
    part: Annotated[str | None, typer.Option(metavar="COLUMN", rich_help_panel=_ROWS, show_default=False,
        help="A column that holds train, validation or test for each row.")] = None,
    validation: Annotated[str | None, typer.Option(metavar="FILE", rich_help_panel=_ROWS, show_default=False,
        help="A separate table to evaluate configurations on, instead of folds.")] = None,
    test: Annotated[str | None, typer.Option(metavar="FILE", rich_help_panel=_ROWS, show_default=False,
        help="A separate table for the test.")] = None,
    weight: Annotated[str | None, typer.Option(metavar="COLUMN", rich_help_panel=_ROWS, show_default=False,
        help="A column of sample weights, for training and scores.")] = None,
    max_rows: Annotated[int | None, typer.Option(metavar="N", min=1, rich_help_panel=_ROWS, show_default=False,
        help="The most rows to use of a table, drawn at random from all. Default: all, or as many as memory has room "
        "for.")] = None,
    time_budget: Annotated[float | None, typer.Option(metavar="SECONDS", rich_help_panel=_SEARCH, show_default=False,
        help="Seconds for the search. Default 60; no limit with --max-members.")] = None,
    max_members: Annotated[int | None, typer.Option(metavar="N", min=1, rich_help_panel=_SEARCH, show_default=False,
        help="The most members to train; a configuration has one for each fold. Without a time budget the result is "
        "the same on any machine.")] = None,
    max_epochs: Annotated[int | None, typer.Option(metavar="N", min=1, rich_help_panel=_SEARCH, show_default=False,
        help="The most epochs of a member. Default: by the time budget.")] = None,
    space: Annotated[str | None, typer.Option(metavar="FILE", rich_help_panel=_SEARCH, show_default=False,
        help="A JSON file of choices to try instead of those that are known to be good.")] = None,
    metric: Annotated[str | None, typer.Option(metavar="NAME", rich_help_panel=_SEARCH, show_default=False,
        help=f"The metric to select the ensemble by: {_METRICS}. Default: squared error or log loss.")] = None,
    seed: Annotated[int, typer.Option(metavar="N", min=0, rich_help_panel=_SEARCH,
        help="Seed of the split, of folds and of initial weights.")] = 0,
    threads: Annotated[int | None, typer.Option(metavar="N", min=1, rich_help_panel=_SEARCH, show_default=False,
        help="Number of threads. Default: all cores.")] = None,
    quick: Annotated[bool, _flag("--quick", rich_help_panel=_SEARCH,
        help="A first result in 8 seconds, with 5 folds.")] = False,
    checkpoint: Annotated[str | None, typer.Option(metavar="FOLDER", rich_help_panel=_SEARCH, show_default=False,
        help="A folder for checkpoints, once a minute. A search that was killed goes on with --resume.")] = None,
    resume: Annotated[bool, _flag("--resume", rich_help_panel=_SEARCH,
        help="Go on with the search in the --checkpoint folder, with the same table and options.")] = False,
    scheduler: Annotated[str | None, typer.Option(metavar="ADDRESS", rich_help_panel=_SEARCH, show_default=False,
        help="Train on the workers of the Dask scheduler at this address.")] = None,
    overwrite: Overwrite = False,
    json: Json = False,
    debug: Debug = False,
) -> None:  # fmt: skip
    """Search for the best ensemble of networks on a table, test it, and save it in a folder.

    Some rows are set aside for the test. The others are split into folds: each configuration is trained once for each
    fold, on the rows of the others, and evaluated on the fold's. The ensemble is picked by these predictions. --group,
    --order-by, --part, --validation and --test split rows otherwise. Ctrl-C ends the search and saves what it has.
    """
    from pmlp_np.app.choices import Choices
    from pmlp_np.app.fitting import fit_table
    from pmlp_np.app.problem import Source
    from pmlp_np.app.reading.reading_options import Reading

    choices = Choices(time_budget, cv, max_members, max_epochs, space, metric, seed, threads, quick, checkpoint, resume,
                      scheduler)  # fmt: skip
    reading = Reading.of(encoding, delimiter, decimal, thousands, day_first, skip_lines, tuple(not_missing or ()))
    source = Source(table, target, task, missing or [], categorical or [], drop or [], skip_missing_target,
                    validation_share, test_share, numeric or [], group, order_by, part, validation, test,
                    weight, reading, max_rows)  # fmt: skip
    if fit_table(source, choices, out, overwrite, Screen(json)) == "interrupted":
        raise typer.Exit(INTERRUPTED)


@_command(
    "pmlp leaderboard concrete",
    "pmlp leaderboard concrete --top 5 --sort weight",
    "pmlp leaderboard concrete --csv | head",
)
def leaderboard(
    result: Folder,
    top: Annotated[int | None, typer.Option(metavar="N", min=1, help="Show the first N. Default 20, or all with --csv "
                                            "and --json.", show_default=False)] = None,
    sort: Annotated[str, typer.Option(metavar="COLUMN", help="A column of leaderboard.csv; scores come best first.")
                    ] = "rank",
    csv: Annotated[bool, _flag("--csv", help="Print CSV.", rich_help_panel=_OUTPUT)] = False,
    json: Json = False,
    debug: Debug = False,
) -> None:  # fmt: skip
    """Show the configurations of a result, best first."""
    from pmlp_np.app.fitting import show_leaderboard

    show_leaderboard(folder.Result(result), top, sort, csv, Screen(json))


@_command(
    "pmlp predict concrete new.csv --out predictions.csv",
    "pmlp predict concrete new.csv --coverage 0.9 --keep id --out predictions.csv",
    "cat new.csv | pmlp predict concrete - --out - | head",
)
def predict(
    result: Folder,
    table: Annotated[str, typer.Argument(metavar="TABLE", show_default=False,
                                         help="A table with the columns of the fit; - for CSV from stdin.")],
    out: Annotated[Path, typer.Option(metavar="FILE", help="A CSV file to write; - for stdout.", show_default=False)],
    coverage: Annotated[float | None, typer.Option(metavar="SHARE", show_default=False,
        help="Add columns low and high: an interval that holds the value with this probability.")] = None,
    keep: Annotated[list[str] | None, typer.Option(metavar="COLUMN", show_default=False,
        help="A column of the table to put before the predictions. Repeatable.")] = None,
    missing: Annotated[list[str] | None, typer.Option(metavar="TEXT", show_default=False,
        help="A text that means a missing cell, besides those of the fit; COLUMN=TEXT for one column. "
        "Repeatable.")] = None,
    not_missing: NotMissing = None,
    encoding: Encoding = None,
    delimiter: Delimiter = None,
    decimal: Decimal = None,
    thousands: Thousands = None,
    skip_lines: SkipLines = 0,
    overwrite: Overwrite = False,
    json: Json = False,
    debug: Debug = False,
) -> None:  # fmt: skip
    """Predict the rows of a table: a value in the target's units, or a class and the probability of each class.

    If the table has the target column, the score is printed, too.
    """
    from pmlp_np.app.predicting import predict_table
    from pmlp_np.app.reading.reading_options import Reading

    reading = Reading.of(encoding, delimiter, decimal, thousands, None, skip_lines, tuple(not_missing or ()))
    predict_table(folder.Result(result), table, out, coverage, keep or [], missing or [], overwrite,
                  Screen(json or str(out) == "-"), json, reading)  # fmt: skip


@_command("pmlp export concrete --out concrete.onnx", "pmlp export concrete --out concrete_model.py")
def export(
    result: Folder,
    out: Annotated[Path, typer.Option(metavar="FILE", help="The file to write.", show_default=False)],
    overwrite: Overwrite = False,
    json: Json = False,
    debug: Debug = False,
) -> None:  # fmt: skip
    """Write the ensemble as a model for other systems: .onnx for ONNX Runtime, .py for NumPy alone, .h for C.

    The model takes the table's columns as they are, and predicts in the target's units.
    """
    from pmlp_np.app.exporting import export_model

    export_model(folder.Result(result), out, overwrite, Screen(json))


@_command(
    "pmlp plot concrete --kind scores --out scores.png",
    "pmlp plot concrete --kind scores --x learning_rate --y r2 --out rates.svg",
    "pmlp plot concrete --kind ensemble --out ensemble.png",
)
def plot(
    result: Folder,
    kind: Annotated[str, typer.Option(metavar="KIND", show_default=False, help="scores or ensemble.")],
    out: Annotated[Path, typer.Option(metavar="FILE", help="A .png, .svg or .pdf file to write.", show_default=False)],
    x: Annotated[str, typer.Option(metavar="NAME", help="Scores: the column of the x axis.")] = "parameters",
    y: Annotated[str | None, typer.Option(metavar="NAME", show_default=False,
        help="Scores: the metric of the y axis. Default: the first one of the leaderboard.")] = None,
    overwrite: Overwrite = False,
    json: Json = False,
    debug: Debug = False,
) -> None:  # fmt: skip
    """Plot a result: scores of the configurations, or their weights in the ensemble."""
    from pmlp_np.app.plotting import draw_one

    draw_one(folder.Result(result), kind, out, x, y, overwrite, Screen(json))


@_command("pmlp report concrete --out report.html")
def report(
    result: Folder,
    out: Annotated[Path, typer.Option(metavar="FILE", help="The .html file to write.", show_default=False)],
    overwrite: Overwrite = False,
    json: Json = False,
    debug: Debug = False,
) -> None:  # fmt: skip
    """Write a result's report: one HTML file with the answer in words, scores, checks, importances, and the search.

    A fit writes it into its folder, too. The file needs nothing else to be shown.
    """
    from pmlp_np.app.reporting import report_of

    report_of(folder.Result(result), out, overwrite, Screen(json))


@_command("pmlp demo", "pmlp demo --out wine")
def demo(
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="The folder to create for the result.")
                   ] = Path("pmlp_demo"),
    overwrite: Overwrite = False,
    json: Json = False,
    debug: Debug = False,
) -> None:  # fmt: skip
    """Fit a small table that comes with scikit-learn, in seconds and without a network."""
    from pmlp_np.app.demo import run_demo

    if run_demo(out, overwrite, Screen(json)) == "interrupted":
        raise typer.Exit(INTERRUPTED)


@_command("pmlp bench", "pmlp bench --members 5000 --threads 1 --json")
def bench(
    members: Annotated[int, typer.Option(metavar="N", min=10, help="Networks to train at once.")] = 1000,
    threads: Annotated[int | None, typer.Option(metavar="N", min=1, show_default=False,
                                                help="Number of threads. Default: all cores.")] = None,
    json: Json = False,
    debug: Debug = False,
) -> None:  # fmt: skip
    """Measure how fast networks train on this machine, compared with other installed packages. Takes some seconds."""
    from pmlp_np.app.bench import run_bench

    run_bench(members, threads, Screen(json))


@_command("pmlp doctor", "pmlp doctor --json")
def doctor(json: Json = False, debug: Debug = False) -> None:
    """Show what is installed and what this machine can do: versions, backends, threads, SIMD, measured peak, GPU."""
    from pmlp_np.app.doctor import run_doctor

    run_doctor(Screen(json))
