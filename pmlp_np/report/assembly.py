"""The contents of a report: all that it says, as plain values that JSON holds."""

from __future__ import annotations

import datetime
import importlib.metadata
import platform
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from pmlp_np.base.version import __version__
from pmlp_np.model_selection.targets import CLASSIFICATION, REGRESSION
from pmlp_np.report.answer import answer
from pmlp_np.report.class_checks import class_checks
from pmlp_np.report.contents_check import FORMAT, VERSION
from pmlp_np.report.effects import effects
from pmlp_np.report.evidence import Evidence, Found, shortened
from pmlp_np.report.goodness import scores
from pmlp_np.report.trial_facts import composition, learning_curves, trial_facts
from pmlp_np.report.value_checks import value_checks

_MOST_LEFT_OUT = 50


def report_contents(
    result: Found, title: str = "", names: str | Sequence[str] | None = None, seed: int = 0
) -> dict[str, Any]:
    """Return what a report of a search says, as values that JSON holds.

    It takes a few seconds: importances and partial dependence are computed here, on at most 1,000 rows. The contents
    hold up to 800 pairs of true and predicted values, names of classes and categories, and quantiles of columns.

    result: of `search`. title: of the page; default: made of the names. names: the name of y, or one for each of its
    columns; default "y", or "y 0", "y 1", ... seed: of the rows that are drawn. Default 0.

    Raises DataError for names that don't fit y.
    """
    evidence, draw = Evidence.of(result, names), np.random.default_rng(seed)
    problem = result.problem
    kinds = Counter(problem.views.kinds[i] for i in problem.views.columns)
    trials = trial_facts(result)
    left_out = list(problem.views.left_out.items())
    contents: dict[str, Any] = {
        "format": FORMAT, "version": VERSION,
        "title": title or f"Prediction of {', '.join(evidence.targets[:3])}",
        "written": datetime.date.today().isoformat(),
        "task": evidence.task, "targets": list(evidence.targets),
        "rows": len(problem.wide), "validated": len(evidence), "folds": len(problem.folds),
        "weighted": problem.weights is not None, "columns": dict(kinds),
        "scores": scores(evidence), "trials": trials, "n_trials": len(trials),
        "curves": learning_curves(result), "ensemble": composition(result),
        **effects(result, evidence, draw),
        "left_out": [[shortened(name), reason] for name, reason in left_out[:_MOST_LEFT_OUT]],
        "n_left_out": len(left_out),
        "notes": list(result.notes), "ended": result.ended, "seconds": float(result.seconds),
        "versions": _versions(),
    }  # fmt: skip
    if evidence.task == REGRESSION:
        contents["values"] = value_checks(evidence, problem.targets.scale, draw)
    else:
        contents["classes"] = class_checks(evidence, result.ensemble.temperature)
    if evidence.task == CLASSIFICATION:
        contents["most_frequent"] = evidence.classes[int(np.bincount(evidence.true).argmax())]
    return contents | {"answer": answer(contents)}


def _versions() -> list[list[str]]:
    packages = [[name, importlib.metadata.version(name)] for name in ("numpy", "numba")]
    return [["pmlp_np", __version__], *packages, ["Python", platform.python_version()]]
