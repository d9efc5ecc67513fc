"""Tables that people look at: the leaderboard, and lists of records that print aligned and turn into data frames."""

from __future__ import annotations

import html
from collections.abc import Iterable
from typing import Any

import numpy as np

from pmlp_np.backends.base import DIVERGED, READY, STATUS_NAMES, Plan, Progress
from pmlp_np.formulas.optimizers import OPTIMIZERS
from pmlp_np.training.monitoring import Records, grows, ranker

_ROWS_SHOWN = 20
# Columns that a glance needs; the records hold more.
_LEFT = {"architecture", "optimizer", "status", "metric"}
_OWN_CURVES = ("loss", "validation_loss", "validation_score")


class Table(list[dict[str, Any]]):
    """A list of records (dictionaries with the same keys). Printing shows the first rows; `to_pandas()` takes all.

    columns: the keys to print; the records may hold more.
    """

    def __init__(self, records: Iterable[dict[str, Any]], columns: tuple[str, ...] = ()) -> None:
        super().__init__(records)
        self._columns = columns

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

    def _repr_html_(self) -> str:
        columns, rows = self._cells()
        head = "".join(f"<th>{html.escape(name)}</th>" for name in columns)
        body = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
        more = f"<p>... {len(self) - _ROWS_SHOWN:,} more rows</p>" if len(self) > _ROWS_SHOWN else ""
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{more}"


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
    optimizers = list(OPTIMIZERS)
    records_of_members = []
    for rank, i in enumerate(order.tolist(), 1):
        member = plan.specs[i]
        record = {
            "rank": rank,
            "id": int(ids[i]),
            "architecture": plan.specs.describe(i),
            "hidden": member.hidden,
            "activation": member.activation,
            "optimizer": optimizers[plan.specs.optimizer[i]],
            "learning_rate": member.optimizer.learning_rate,
            "parameters": int(parameters[i]),
            "epochs": int(progress.epoch[i]),
            "minibatch": int(progress.minibatch[i]),
            "status": "untrained" if progress.step[i] == 0 else STATUS_NAMES[progress.status[i]],
            "loss": float(loss[i]),
            "validation_loss": float(validation[i]),
            "metric": plan.loss.score_name if ranks == "score" else ranks,
            "validation_score": float(score[i]),
            "best_epoch": int(records.best_epoch[i]) + 1 if kept_best else None,
        }
        record |= {name: float(values[i]) for name, values in metrics.items()}
        records_of_members.append(record)
    shown = ["rank", "id", "architecture", "optimizer", "learning_rate", "parameters", "epochs", "status", "loss"]
    if "validation_loss" in records.curves:
        # What ranks is shown once, under its own name.
        shown += ["validation_loss", *(["validation_score"] if ranks == "score" else []), *metrics]
    return Table(records_of_members, tuple(shown))


def _at(curve: np.ndarray | None, epoch: np.ndarray, n_members: int) -> np.ndarray:
    """A curve's value at each member's epoch, float64; NaN where there is none."""
    if curve is None or not curve.shape[1]:
        return np.full(n_members, np.nan)
    known = (epoch >= 0) & (epoch < curve.shape[1])
    values = curve[np.arange(n_members), np.where(known, epoch, 0)].astype(np.float64)
    return np.where(known, values, np.nan)
