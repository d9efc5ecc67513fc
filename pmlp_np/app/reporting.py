"""`pmlp report`, and the report of a result folder: its contents as JSON, and the page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pmlp_np.app import folder
from pmlp_np.app.run import Fit
from pmlp_np.app.screen import Screen
from pmlp_np.app.target_scores import shown
from pmlp_np.base.errors import DataError, compose
from pmlp_np.report import report_contents, write_report
from pmlp_np.training.metrics import METRICS

_ENDINGS = (".html", ".htm")


def write_page(fit: Fit, where: Path) -> list[str]:
    """Write a fit's report into a folder: its contents, and the page. Returns a note if that failed.

    Then there is a result without a report; but an OSError (a full disk) stops the fit.
    """
    try:
        _write_page(fit, where)
    except OSError:
        raise
    except Exception as error:
        (where / folder.REPORT).unlink(missing_ok=True)
        return [f"the report could not be written: {type(error).__name__}: {error}"]
    return []


def _write_page(fit: Fit, where: Path) -> None:
    problem = fit.problem
    contents = report_contents(fit.result, names=problem.source.target, seed=fit.choices.seed)
    left_out = [[name, reason] for name, reason in problem.columns.left_out.items()] + contents["left_out"]
    contents |= {"left_out": left_out, "n_left_out": len(left_out), "notes": problem.notes}
    if len(problem.parts["test"]):
        contents |= _test(fit, contents["answer"])
    folder.write_text(where / folder.REPORT, folder.as_json(contents))
    write_report(contents, where / folder.PAGE)


def _test(fit: Fit, answer: list[str]) -> dict[str, Any]:
    """Return what a report says of test rows: their scores, and the answer with the first of these."""
    ensemble, guess = (fit.scores[name]["test"] for name in ("ensemble", "guess"))
    scores = [[METRICS[name].label, shown(name, value), shown(name, guess[name])] for name, value in ensemble.items()]
    n, (name, score, constant) = len(fit.problem.parts["test"]), scores[0]
    said = f"On {n:,} test rows, which were set aside before all this, {name} is {score} (a constant: {constant})."
    doubts = list(fit.problem.doubts)
    return {"test": {"rows": n, "scores": scores, "doubts": doubts}, "answer": [*answer, said]}


def report_of(result: folder.Result, out: Path, overwrite: bool, screen: Screen) -> None:
    """Run `pmlp report`."""
    if out.suffix.lower() not in _ENDINGS:
        raise DataError(compose("--out", f"a file that ends in {' or '.join(_ENDINGS)}", repr(str(out))))
    folder.check_file(out, overwrite, result.files())
    with folder.whole_file(out, overwrite) as draft:
        write_report(result.report, draft)
    screen.say(f"Written: {out}")
    screen.document({"out": str(out), "answer": result.report["answer"]})
