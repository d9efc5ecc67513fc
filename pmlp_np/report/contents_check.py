"""The form of a report's contents, which may have been read from a file, and its check."""

from __future__ import annotations

from typing import Any

from pmlp_np.base.errors import FileFormatError, compose, show
from pmlp_np.model_selection.targets import REGRESSION, TASKS

FORMAT, VERSION = "pmlp_np report", 1
# Forms: a type; (form,): that or None; [form]: a list of such; [form, ...]: a list of at least one; a list of several
# forms: a list with these entries; a dict: a dictionary with these keys, those that end in "?" need not be there;
# {str: form}: one with any keys; object: a text or a number.
_LARGEST, _LARGEST_WHOLE, _LAST_DAY = 1e100, 10**15, 1e8
_BIN = {"mean": float, "share": float, "low": float, "high": float, "rows": int}
_LINE = {"name": str, "values": [float], "missing": (float,)}
_CONTENTS: dict[Any, Any] = {
    "format": str, "version": int, "title": str, "written": str, "task": str, "targets": [str, ...],
    "answer": [str, ...], "rows": int, "validated": int, "folds": int, "weighted": bool, "columns": {str: int},
    "scores": [{
        "name": str, "unit": str, "larger_is_better": bool, "target": str, "value": float, "constant": float,
        "low": (float,), "high": (float,),
    }, ...],
    "trials": [{
        "trial": int, "configuration": str, "loss": (float,), "loss_spread": (float,), "weight": float,
        "parameters": int, "epochs": int, "seconds": float, "status": str,
    }, ...],
    "n_trials": int,
    "curves": [{"configuration": str, "points": [[float, float], ...]}],
    "ensemble": {
        "configurations": int, "networks": int, "parameters": int, "shares": {str: [[str, float]]},
    },
    "importances": [{"column": str, "kind": str, "importance": float, "spread": float}, ...],
    "dependence": [{"column": str, "kind": str, "at": [object, ...], "lines": [_LINE, ...], "deciles": [float]}],
    "left_out": [[str, str]], "n_left_out": int, "notes": [str], "ended": str, "seconds": float,
    "versions": [[str, str]],
    "values?": [{
        "target": str, "points": [[float, float], ...], "errors": [[float, float, float], ...],
        "within": [float, float], "coverage": [{"asked": float, "found": float, "width": float}],
    }, ...],
    "classes?": {
        "about": str, "reliability": [_BIN, ...], "temperature": float, "calibration_error": float,
        "calibration_error_before": float, "confusion": ({"classes": [str, ...], "rows": [[int]]},),
    },
    "most_frequent?": str,
    # Rows that were set aside: name, score and that of a constant, as texts; and what speaks against the scores.
    "test?": {"rows": int, "scores": [[str, str, str], ...], "doubts": [str]},
}  # fmt: skip
_NAMES = {str: "a text", int: "a whole number", float: "a finite number", bool: "true or false"}


def require_contents(contents: Any) -> None:
    """Raise FileFormatError, with the place, unless contents have the form of a report's."""
    if not isinstance(contents, dict) or contents.get("format") != FORMAT:
        hint = "Contents are those of report_contents."
        raise FileFormatError(compose("contents", f"contents of a report (format {FORMAT!r})", show(contents), hint))
    if contents.get("version") != VERSION:
        hint = "Make the report with the version that made the contents."
        raise FileFormatError(compose("contents.version", str(VERSION), show(contents.get("version")), hint))
    _require("contents", contents, _CONTENTS)
    if contents["task"] not in TASKS:
        raise FileFormatError(compose("contents.task", "one of " + ", ".join(TASKS), show(contents["task"])))
    needed = "values" if contents["task"] == REGRESSION else "classes"
    if needed not in contents:
        raise FileFormatError(compose(f"contents.{needed}", f"checks of a {contents['task']}", "none"))
    _require_sizes(contents)


def _require(name: str, value: Any, form: Any) -> None:
    if isinstance(form, tuple):
        if value is not None:
            _require(name, value, form[0])
    elif isinstance(form, dict):
        _require_dict(name, value, form)
    elif isinstance(form, list):
        _require_list(name, value, form)
    elif not _is(value, form):
        raise _error(name, _NAMES.get(form, "a text or a number"), value)


def _require_list(name: str, value: Any, form: list[Any]) -> None:
    if not isinstance(value, list):
        raise _error(name, "a list", value)
    if form[-1] is ...:
        if not value:
            raise _error(name, "at least one entry", value)
        form = form[:1]
    if len(form) > 1 and len(value) != len(form):
        raise _error(name, f"a list of {len(form)}", value)
    for i, each in enumerate(value):
        _require(f"{name}[{i}]", each, form[i] if len(form) > 1 else form[0])


def _require_dict(name: str, value: Any, form: dict[Any, Any]) -> None:
    if not isinstance(value, dict):
        raise _error(name, "an object", value)
    if str in form:
        for key, each in value.items():
            _require(f"{name}.{key}", each, form[str])
        return
    known = {key.removesuffix("?"): (each, key.endswith("?")) for key, each in form.items()}
    for key in value.keys() - known.keys():
        raise _error(f"{name}.{key}", f"one of {', '.join(known)}", key)
    for key, (each, may_lack) in known.items():
        if key in value:
            _require(f"{name}.{key}", value[key], each)
        elif not may_lack:
            raise FileFormatError(compose(f"{name}.{key}", "a value", "none"))


def _is(value: Any, form: Any) -> bool:
    if form is object:
        return isinstance(value, str) or _is(value, float)
    if form is float:
        # NaN is not below anything.
        return type(value) in (int, float) and abs(value) < _LARGEST
    return type(value) is form and (form is not int or abs(value) < _LARGEST_WHOLE)


def _error(name: str, expected: str, got: Any) -> FileFormatError:
    return FileFormatError(compose(name, expected, show(got)))


def _require_sizes(contents: dict[str, Any]) -> None:
    """Raise FileFormatError where lists that belong together differ in length, or cells don't suit their column."""
    for i, each in enumerate(contents["dependence"]):
        name, at = f"contents.dependence[{i}]", each["at"]
        for k, line in enumerate(each["lines"]):
            if len(line["values"]) != len(at):
                raise _error(f"{name}.lines[{k}].values", f"{len(at)} numbers, one for each of `at`", line["values"])
        if {type(cell) is str for cell in at} != {each["kind"] == "category"}:
            raise _error(f"{name}.at", f"cells of a {each['kind']}", at)
        if each["kind"] == "date" and any(abs(day) > _LAST_DAY for day in at):
            raise _error(f"{name}.at", "days since 1970", at)
    confusion = contents.get("classes", {}).get("confusion")
    if confusion is not None:
        n = len(confusion["classes"])
        if [len(row) for row in confusion["rows"]] != [n] * n:
            raise _error("contents.classes.confusion.rows", f"{n} rows of {n} counts", confusion["rows"])
