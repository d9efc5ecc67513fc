"""Output of the commands. Results go to stdout; progress and errors to stderr.

Colors are used on a terminal only, and not if NO_COLOR is set. With --json, stdout gets one document and nothing else.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from pmlp_np.app import target_scores
from pmlp_np.app.folder import as_json
from pmlp_np.base.console import Tolerant, is_terminal
from pmlp_np.training.metrics import METRICS

# Width, in characters, of output to a pipe or a file.
_PIPE_WIDTH = 120


class Screen:
    """The output of a command. json: whether stdout is for one JSON document only."""

    def __init__(self, json: bool = False) -> None:
        self.json = json
        self.out = _console(sys.stdout)
        self.err = _console(Tolerant(sys.stderr))

    def say(self, *parts: Any) -> None:
        """Print lines, or tables of rich; nothing with --json."""
        if not self.json:
            for each in parts or ("",):
                self.out.print(each, soft_wrap=not self.out.is_terminal and isinstance(each, (str, Text)))

    def facts(self, pairs: Sequence[tuple[str, str]]) -> None:
        """Print pairs of a name and a text, aligned."""
        if self.json:
            return
        if self.out.is_terminal:
            grid = Table.grid(padding=(0, 2))
            grid.add_column(style="bold", no_wrap=True)
            grid.add_column(overflow="fold")
            for name, text in pairs:
                grid.add_row(name, Text(text))
            self.out.print(grid)
        else:
            width = max(len(name) for name, _ in pairs)
            for name, text in pairs:
                self.out.print(f"{name:<{width}}  {text}", soft_wrap=True)

    def notes(self, notes: Sequence[str]) -> None:
        """Print notes on stderr, so that they are visible if stdout is a pipe."""
        if not self.json:
            for note in notes:
                self.err.print(Text.assemble(("note: ", "yellow"), note), soft_wrap=not self.err.is_terminal)

    def document(self, value: Any) -> None:
        """Print the JSON document, with --json only."""
        if self.json:
            sys.stdout.write(as_json(value))

    @contextlib.contextmanager
    def busy(self, text: str) -> Iterator[Callable[[float], None]]:
        """Show a text on a terminal while the block runs.

        Yields a function that takes the share that is done, for a display of the time left.
        """
        if not self.err.is_terminal:
            yield lambda share: None
            return
        began = time.monotonic()
        with self.err.status(Text(text)) as status:

            def show(share: float) -> None:
                left = (time.monotonic() - began) * (1.0 / max(share, 1e-9) - 1.0)
                if share > 0.0:
                    status.update(Text(f"{text}: {share:.0%}, {left:.0f} s left"))

            yield show


def _console(stream: Any) -> Console:
    terminal = is_terminal(stream)
    return Console(file=stream, highlight=False, markup=False, width=None if terminal else _PIPE_WIDTH)


def table(columns: Sequence[tuple[str, str]], rows: Sequence[Sequence[str]], title: str | None = None) -> Table:
    """Return a table of texts. columns: (heading, "left" or "right")."""
    grid = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), title=title, title_justify="left", header_style="bold")
    for heading, side in columns:
        grid.add_column(heading, justify=side, overflow="ellipsis", no_wrap=True)
    for row in rows:
        grid.add_row(*map(Text, row))
    return grid


# Columns of a leaderboard that are dropped on a narrow screen, in this order.
_DISPENSABLE = (
    "status", "members", "validation_balanced_accuracy", "validation_mae", "learning_rate", "epochs",
    "parameters", "validation_log_loss",
)  # fmt: skip
_LEFT = ("configuration", "status")
_HEADINGS = {"learning_rate": "rate"}
# What the configuration's words and the scores say better.
_HIDDEN = ("hidden", "activation", "view", "seconds", "loss", "loss_spread")


def leaderboard(records: Sequence[dict[str, Any]], width: int) -> Table:
    """Return records as a table at most `width` characters wide; less important columns are dropped."""
    names = [name for name in (records[0] if records else ()) if name not in _HIDDEN]
    if all(record.get("status") == "done" for record in records):
        names.remove("status")
    shown = {name: [_cell(name, record[name]) for record in records] for name in names}
    headings = {name: _heading(name) for name in names}
    widths = {name: max(len(headings[name]), *map(len, shown[name]), 0) + 2 for name in names} if records else {}
    for name in _DISPENSABLE:
        if sum(widths.values()) - 2 > width and name in widths:
            del widths[name]
    names = list(widths)
    columns = [(headings[name], "left" if name in _LEFT else "right") for name in names]
    return table(columns, [[shown[name][i] for name in names] for i in range(len(records))])


def _heading(name: str) -> str:
    metric = name.removeprefix("validation_")
    if metric in METRICS and metric != name:
        return METRICS[metric].label
    return _HEADINGS.get(name, name.replace("_", " "))


def _cell(name: str, value: Any) -> str:
    metric = name.removeprefix("validation_")
    if value is None or (isinstance(value, float) and value != value):
        return "-"
    if metric in METRICS:
        return target_scores.shown(metric, value)
    if name == "weight":
        return f"{value:.0%}" if value else ""
    if isinstance(value, float):
        return f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) and name != "id" else str(value)


def bars(title: str, rows: Sequence[tuple[str, float]], shown: Sequence[str], width: int) -> Group:
    """Return horizontal bars, the longest for the largest value."""
    most = max((value for _, value in rows), default=1.0) or 1.0
    names = max(len(name) for name, _ in rows)
    room = max(10, width - names - max(map(len, shown)) - 4)
    lines = [Text(title, style="bold")]
    for (name, value), text in zip(rows, shown, strict=True):
        eighths = round(8 * room * value / most)
        bar = "█" * (eighths // 8) + ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"][eighths % 8]
        lines.append(Text.assemble((f"{name:>{names}}  ",), (bar, "cyan"), f" {text}"))
    return Group(*lines)
