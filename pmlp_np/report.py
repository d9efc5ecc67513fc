"""Tables that people look at: the leaderboard, and lists of records that print aligned and turn into data frames."""

from __future__ import annotations

import functools
import html
from collections.abc import Callable, Iterable, Iterator
from typing import Any, SupportsIndex, overload

import numpy as np

from pmlp_np.backends.base import DIVERGED, READY, STATUS_NAMES, Plan, Progress
from pmlp_np.formulas.optimizers import OPTIMIZERS
from pmlp_np.training.monitoring import Records, grows, ranker

_ROWS_SHOWN = 20
# Columns that a glance needs; the records hold more.
_LEFT = {"architecture", "optimizer", "status", "metric"}
_OWN_CURVES = ("loss", "validation_loss", "validation_score")


# Of tables up to this long all records are made at once: some milliseconds, and a list like any other.
_SHORT = 2000


def _of_all(name: str) -> Any:
    """A method of lists that is called when all records are made."""

    @functools.wraps(getattr(list, name))
    def method(self: Table, *args: Any, **kwargs: Any) -> Any:
        return getattr(list, name)(self.filled(), *args, **kwargs)

    return method


class _Unmade:
    """What stands for a record that is not made yet. Compiled code that reads a list's memory (orjson, pyarrow) finds
    it there, and knows no such type: None would pass for a record without a word."""

    def __repr__(self) -> str:
        return "<a record that is not made yet: hand over list(table)>"


_UNMADE = _Unmade()


class Table(list[dict[str, Any]]):
    """A list of records (dictionaries with the same keys). Printing shows the first rows; `to_pandas()` takes all.

    Slices are tables too. Records of a long leaderboard are made when they are asked for.

    columns: the keys to print; the records may hold more.
    """

    def __init__(self, records: Iterable[dict[str, Any]], columns: tuple[str, ...] = ()) -> None:
        super().__init__(records)
        self._columns = columns
        # What makes the record of a place that holds _UNMADE; None where all are made.
        self._make: Callable[[int], dict[str, Any]] | None = None

    @classmethod
    def made_at_need(cls, n: int, make: Callable[[int], dict[str, Any]], columns: tuple[str, ...]) -> Table:
        """The table of the records make(0) ... make(n - 1)."""
        unmade: list[Any] = [_UNMADE] * n
        table = cls(unmade, columns)
        table._make = make
        return table.filled() if n <= _SHORT else table

    def filled(self) -> Table:
        """Itself, with all records made."""
        for place in range(len(self) if self._make is not None else 0):
            self._record(place)
        self._make = None
        return self

    def _record(self, place: int) -> dict[str, Any]:
        record: Any = list.__getitem__(self, place)
        if record is _UNMADE and self._make is not None:
            record = self._make(place)
            list.__setitem__(self, place, record)
        return record

    @overload
    def __getitem__(self, index: SupportsIndex) -> dict[str, Any]: ...
    @overload
    def __getitem__(self, index: slice) -> Table: ...
    def __getitem__(self, index: SupportsIndex | slice) -> dict[str, Any] | Table:
        if isinstance(index, slice):
            return Table([self._record(place) for place in range(*index.indices(len(self)))], self._columns)
        # Raises as lists do where there is no such place.
        list.__getitem__(self, index)
        return self._record(range(len(self))[index])

    def __iter__(self) -> Iterator[dict[str, Any]]:
        if self._make is None:
            return super().__iter__()
        return map(self._record, range(len(self)))

    def __reduce__(self) -> tuple[Any, ...]:
        return Table, (list(self), self._columns)

    def to_pandas(self) -> Any:
        """The records as a pandas.DataFrame. ImportError where pandas is not installed."""
        import pandas

        return pandas.DataFrame(list(self))

    def _cells(self) -> tuple[list[str], list[list[str]]]:
        columns = list(self._columns or (self[0] if self else ()))
        return columns, [[_shown(record.get(name)) for name in columns] for record in self[:_ROWS_SHOWN]]

    def __str__(self) -> str:
        if not self:
            return "(no rows)"
        columns, rows = self._cells()
        widths = [max(len(cell) for cell in column) for column in zip(columns, *rows, strict=True)]
        lines = [columns, *rows]
        text = [
            "  ".join(cell.ljust(w) if name in _LEFT else cell.rjust(w)
                      for name, cell, w in zip(columns, line, widths, strict=True)).rstrip()
            for line in lines
        ]  # fmt: skip
        text.insert(1, "  ".join("-" * w for w in widths))
        if len(self) > _ROWS_SHOWN:
            text.append(f"... {len(self) - _ROWS_SHOWN:,} more rows")
        return "\n".join(text)

    __repr__ = __str__

    def __radd__(self, other: list[Any]) -> list[Any]:
        return other + list(self)

    def _repr_html_(self) -> str:
        columns, rows = self._cells()
        head = "".join(f"<th>{html.escape(name)}</th>" for name in columns)
        body = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
        more = f"<p>... {len(self) - _ROWS_SHOWN:,} more rows</p>" if len(self) > _ROWS_SHOWN else ""
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{more}"


# What else a list can do needs all records.
_NEED_ALL = """
    __eq__ __ne__ __lt__ __le__ __gt__ __ge__ __contains__ __reversed__ __add__ __mul__ __rmul__
    __iadd__ __imul__ __setitem__ __delitem__
    append clear copy count extend index insert pop remove reverse sort
"""
for _name in _NEED_ALL.split():
    setattr(Table, _name, _of_all(_name))


def _shown(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return "-" if value != value else f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def leaderboard(plan: Plan, progress: Progress, records: Records, ids: np.ndarray, kept_best: bool) -> Table:
    """The members ranked, as Pool.leaderboard describes it."""
    n = plan.n_members
    last = progress.epoch - 1
    has_best = kept_best & (records.best_epoch >= 0)
    best = np.where(has_best, records.best_epoch, last)
    # A diverged member's last figure stands at the epoch that it did not finish.
    latest = last + ((progress.minibatch > 0) & (progress.status != READY))
    loss = _at(records.curves.get("loss"), np.where(has_best, best, latest), n)
    figures = {name: column.astype(np.float64) for name, column in records.shown.items()}
    unknown = np.full(n, np.nan)
    validation = figures.get("validation_loss", unknown)
    ranks = ranker(records.monitor)
    score = figures.get(f"validation_{ranks}", unknown)
    keys = [-score if grows(ranks, plan.loss) else score, validation] if np.isfinite(score).any() else [loss]
    metrics = {name: figures.get(name, unknown) for name in records.curves if name not in _OWN_CURVES}
    # A diverged member is of use only where its best weights were kept.
    useless = (progress.status == DIVERGED) & ~(kept_best & (records.best_epoch >= 0))
    order = np.lexsort([np.where(np.isfinite(key) & ~useless, key, np.inf) for key in reversed(keys)])
    parameters = plan.parameter_counts()
    optimizers, metric = list(OPTIMIZERS), plan.loss.score_name if ranks == "score" else ranks
    rates = plan.specs.hyperparameter("learning_rate")
    # As they are now: training may go on before a record is asked for.
    epochs, minibatch, best_epoch = progress.epoch.copy(), progress.minibatch.copy(), records.best_epoch + 1
    status = np.where(progress.step == 0, -1, progress.status)
    looks: dict[tuple[Any, ...], tuple[Any, ...]] = {}

    def record_of(place: int) -> dict[str, Any]:
        i = int(order[place])
        layers = slice(plan.specs.width_offsets[i], plan.specs.width_offsets[i + 1])
        columns = plan.specs.widths[layers], plan.specs.activations[layers], plan.specs.bias[i]
        key = tuple(column.tobytes() for column in columns)
        if key not in looks:
            member = plan.specs[i]
            looks[key] = plan.specs.describe(i), member.hidden, member.activation
        architecture, hidden, activation = looks[key]
        record = {
            "rank": place + 1,
            "id": int(ids[i]),
            "architecture": architecture,
            "hidden": hidden,
            "activation": activation,
            "optimizer": optimizers[plan.specs.optimizer[i]],
            "learning_rate": float(rates[i]),
            "parameters": int(parameters[i]),
            "epochs": int(epochs[i]),
            "minibatch": int(minibatch[i]),
            "status": "untrained" if status[i] < 0 else STATUS_NAMES[status[i]],
            "loss": float(loss[i]),
            "validation_loss": float(validation[i]),
            "metric": metric,
            "validation_score": float(score[i]),
            "best_epoch": int(best_epoch[i]) if kept_best else None,
        }
        return record | {name: float(values[i]) for name, values in metrics.items()}

    shown = ["rank", "id", "architecture", "optimizer", "learning_rate", "parameters", "epochs", "status", "loss"]
    if "validation_loss" in records.curves:
        # What ranks is shown once, under its own name.
        shown += ["validation_loss", *(["validation_score"] if ranks == "score" else []), *metrics]
    return Table.made_at_need(n, record_of, tuple(shown))


def _at(curve: np.ndarray | None, epoch: np.ndarray, n_members: int) -> np.ndarray:
    """A curve's value at each member's epoch, float64; NaN where there is none."""
    if curve is None or not curve.shape[1]:
        return np.full(n_members, np.nan)
    known = (epoch >= 0) & (epoch < curve.shape[1])
    values = curve[np.arange(n_members), np.where(known, epoch, 0)].astype(np.float64)
    return np.where(known, values, np.nan)
