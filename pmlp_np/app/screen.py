"""Output of the commands. Results go to stdout; progress and errors to stderr.

Colors are used on a terminal only, and not if NO_COLOR is set. With --json, stdout gets one document and nothing else.
"""

from __future__ import annotations

import contextlib
import math
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

import pmlp_np as pm
from pmlp_np.app import target_scores
from pmlp_np.app.folder import as_json
from pmlp_np.base.console import Tolerant, is_terminal
from pmlp_np.training.metrics import METRICS

# Width, in characters, of output to a pipe or a file.
_PIPE_WIDTH = 120
_PLAIN_EVERY_SECONDS = 5.0


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
    def busy(self, text: str) -> Iterator[None]:
        """Show a text on a terminal while the block runs."""
        if self.err.is_terminal:
            with self.err.status(text):
                yield
        else:
            yield


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
    "optimizer", "status", "loss", "best_epoch", "validation_balanced_accuracy", "validation_mae", "epochs",
    "parameters", "validation_log_loss",
)  # fmt: skip
_LEFT = ("architecture", "optimizer", "status")
_HEADINGS = {"learning_rate": "rate", "loss": "training loss"}


def leaderboard(records: Sequence[dict[str, Any]], width: int) -> Table:
    """Return records as a table at most `width` characters wide; less important columns are dropped."""
    # Instead of the validation loss, equivalent columns are shown: log loss, or R² and RMSE in the target's units.
    hidden = ("hidden", "activation", "validation_loss")
    names = [name for name in (records[0] if records else ()) if name not in hidden]
    if len({record.get("optimizer") for record in records}) == 1:
        names.remove("optimizer")
    if all(record.get("status") in ("ok", "stopped early") for record in records):
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


class Watching:
    """Live progress of a fit: time left, epochs, members still training, the best score so far. A callback of `fit`.

    metric: the metric that ranks members, and `scale` the factor to the target's units.
    grows: whether a larger metric is better.
    """

    def __init__(
        self, screen: Screen, pool: pm.Pool, epochs: int, budget: float | None, metric: str, scale: float, grows: bool
    ) -> None:
        self._screen, self._epochs, self._budget, self._metric = screen, epochs, budget, metric
        self._work = {record["id"]: record["parameters"] for record in pool.leaderboard()}
        self._n, self._scale, self._grows = len(pool), scale, grows
        self._finished, self._left = 0.0, float(sum(self._work.values()) * epochs)
        self._epoch, self._in, self._best = 0, self._n, float("nan")
        self._began = self._last = time.monotonic()
        self._live: Live | None = None

    def __enter__(self) -> Watching:
        if self._screen.err.is_terminal:
            self._live = Live(self, console=self._screen.err, refresh_per_second=8, transient=True)
            self._live.start()
        self._began = self._last = time.monotonic()
        return self

    def __exit__(self, *_: Any) -> None:
        if self._live is not None:
            self._live.stop()

    def __call__(self, end: pm.EpochEnd) -> None:
        one = sum(self._work[i] for i in end.ids.tolist())
        # Members that stopped in this epoch are not counted, so the time left is slightly overestimated.
        self._finished += one
        self._left = float(one * (self._epochs - end.epoch))
        self._epoch, self._in = end.epoch, len(end.ids)
        curve = end.curves.get(f"validation_{self._metric}", end.curves["validation_score"])
        values = [self._best, *(curve[np.isfinite(curve)].astype(np.float64) * self._scale)]
        values = [value for value in values if value == value]
        if values:
            self._best = max(values) if self._grows else min(values)
        now = time.monotonic()
        if self._live is None and now - self._last >= _PLAIN_EVERY_SECONDS:
            self._last = now
            print("  ".join(self._words()), file=Tolerant(sys.stderr), flush=True)

    def _share_and_left(self) -> tuple[float, float | None]:
        """Return (the share of the work that is done, an upper bound of the seconds left, or None)."""
        elapsed = time.monotonic() - self._began
        share = self._finished / max(self._finished + self._left, 1.0)
        left = elapsed * (1.0 - share) / share if share > 0.0 else None
        if self._budget is not None:
            remaining = max(0.0, self._budget - elapsed)
            left = remaining if left is None else min(left, remaining)
            share = max(share, min(1.0, elapsed / self._budget))
        return share, left

    def _words(self) -> list[str]:
        _, left = self._share_and_left()
        best = target_scores.shown(self._metric, self._best)
        words = [f"epoch {self._epoch}/{self._epochs}", f"{self._in:,} of {self._n:,} members"]
        words.append(f"best {METRICS[self._metric].label} {best}")
        if left is not None:
            seconds = math.ceil(left)
            words.append(f"<{seconds // 60}:{seconds % 60:02d} left")
        return words

    def __rich__(self) -> Table:
        share, _ = self._share_and_left()
        grid = Table.grid(padding=(0, 2), expand=True)
        grid.add_column(ratio=1, min_width=6)
        for _ in range(4):
            grid.add_column(no_wrap=True)
        words = [Text(each) for each in self._words()]
        words[2].stylize("bold green")
        grid.add_row(ProgressBar(total=1.0, completed=share), *words)
        return grid
