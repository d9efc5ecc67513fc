"""The result folder of a fit, written completely or not at all.

    model.pmlp        the ensemble, as pm.TableModel.load reads it
    leaderboard.csv   every configuration's record, best first, in the target's units
    plots/*.png       plots
    report.json       the report's contents; report.html, the page
    table.json        how a table is read: columns, conventions, target
    run.json          settings, versions, scores; checksums of all files that predictions need, itself included

Files are written into a hidden sibling, which gets the folder's name when all of them are complete: a fit that is
killed or runs out of disk leaves no half of a folder under that name. Files that are read are compared with their
checksums: a flipped bit would change predictions silently.
"""

from __future__ import annotations

import contextlib
import csv
import hashlib
import io
import json
import math
import os
import shutil
import stat
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, TextIO

import pmlp_np as pm
from pmlp_np.app.columns import Columns
from pmlp_np.base.archive import seal_of
from pmlp_np.base.errors import DataError, FileFormatError, compose, nearest, readable_bytes, show
from pmlp_np.base.persistence import ASIDE, draft_folder, kind_of, remove_stale_drafts, whole_path

MODEL, LEADERBOARD, PLOTS, TABLE, RUN = "model.pmlp", "leaderboard.csv", "plots", "table.json", "run.json"
REPORT, PAGE = "report.json", "report.html"
RUN_FORMAT, RUN_VERSION = "pmlp_np run", 2
_DAMAGED = "The file is damaged."
_CHANGED = "The file is damaged, or was changed since: fit again, or take it from a copy."


class Result:
    """A result folder, for reading. Raises FileNotFoundError or FileFormatError for anything else."""

    def __init__(self, path: Path) -> None:
        self.path = path
        name = f"folder {path}"
        if not path.is_dir():
            parent = path.parent
            beside = [each.name for each in parent.iterdir() if (each / RUN).exists()] if parent.is_dir() else []
            guess = nearest(path.name, beside)
            hint = (
                f"Did you mean {parent / guess}?" if guess else "Make one: pmlp fit TABLE --target COLUMN --out FOLDER."
            )
            got = "a file" if path.exists() else "none"
            raise FileNotFoundError(compose(name, "a result folder of pmlp fit", got, hint))
        self.run = _json(path / RUN, name)
        _require_own_checksum(path / RUN)
        if self.run.get("format") != RUN_FORMAT or self.run.get("version") != RUN_VERSION:
            version = self.run.get("version")
            hint = "Open it with the version of pmlp_np that wrote it."
            if version == 1:
                hint = "An earlier version of pmlp_np wrote it: fit the table again."
            raise FileFormatError(compose(name, f"a run, version {RUN_VERSION}", show(version), hint))
        source, table, checksums = (self.run.get(each) for each in ("source", "table", "checksums"))
        words = source.get("missing") if isinstance(source, dict) else None
        if not isinstance(words, list) or not all(isinstance(each, str) for each in (*words, table)):
            expected = "the table that was fitted, and how it was understood"
            raise FileFormatError(compose(f"file {path / RUN}", expected, show(source), _DAMAGED))
        if not isinstance(checksums, dict):
            raise FileFormatError(compose(f"file {path / RUN}", "checksums of files", show(checksums), _DAMAGED))

    @cached_property
    def columns(self) -> Columns:
        path = self.path / TABLE
        columns = Columns.from_plain(_json(path, f"folder {self.path}"), f"file {path}")
        self._require_checksum(TABLE, _checksum(path.read_bytes()))
        return columns

    @cached_property
    def model(self) -> pm.TableModel:
        path = self.path / MODEL
        if not path.exists():
            raise _incomplete(f"folder {self.path}", MODEL)
        model = pm.TableModel.load(path)
        self._require_checksum(MODEL, seal_of(path))
        kinds = tuple(column.kind for column in self.columns.columns)
        if (model.views.kinds, model.targets.task) != (kinds, self.columns.target.task):
            raise FileFormatError(compose(f"file {self.path / TABLE}", "the model's columns", "others", _CHANGED))
        return model

    @cached_property
    def report(self) -> dict[str, Any]:
        """The report's contents."""
        path = self.path / REPORT
        contents = _json(path, f"folder {self.path}")
        self._require_checksum(REPORT, _checksum(path.read_bytes()))
        return contents

    @cached_property
    def records(self) -> list[dict[str, Any]]:
        """The leaderboard's records, best first."""
        path = self.path / LEADERBOARD
        try:
            with open(path, newline="", encoding="utf-8") as file:
                records = [{name: _cell(text) for name, text in record.items()} for record in csv.DictReader(file)]
        except FileNotFoundError as error:
            raise _incomplete(f"folder {self.path}", LEADERBOARD) from error
        except (UnicodeDecodeError, csv.Error) as error:
            raise FileFormatError(compose(f"file {path}", "CSV", str(error), "The file is damaged.")) from error
        # DictReader puts surplus cells under the name None, and fills up missing ones.
        complete = [None not in r and isinstance(r.get("rank"), int) and isinstance(r.get("id"), int) for r in records]
        if not all(complete) or not records:
            hint = "The file is damaged."
            expected = "a record of each configuration, with rank and id"
            raise FileFormatError(compose(f"file {path}", expected, "others", hint))
        self._require_checksum(LEADERBOARD, _checksum(path.read_bytes()))
        return records

    def files(self) -> list[Path]:
        """Return the folder's files, which no output may overwrite."""
        return [self.path / name for name in (MODEL, LEADERBOARD, TABLE, RUN, REPORT, PAGE)]

    def _require_checksum(self, name: str, checksum: str | None) -> None:
        if checksum is None or self.run["checksums"].get(name) != checksum:
            expected = f"the file of the fit in {RUN}"
            raise FileFormatError(compose(f"file {self.path / name}", expected, "another one", _CHANGED))


def _json(path: Path, name: str) -> Any:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise _incomplete(name, path.name) from error
    except (ValueError, RecursionError) as error:
        raise FileFormatError(compose(f"file {path}", "JSON", str(error), "The file is damaged.")) from error
    if not isinstance(value, dict):
        raise FileFormatError(compose(f"file {path}", "a JSON object", show(value)))
    return value


def _checksum(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=32).hexdigest()


def _sealed(text: str) -> str:
    """Return the text of a JSON object with a last item, the checksum of the text before it."""
    head = text.rstrip().removesuffix("}").rstrip()
    return f'{head},\n "checksum": "{_checksum(head.encode())}"\n}}\n'


def _require_own_checksum(path: Path) -> None:
    content = path.read_bytes()
    head = content[: content.rfind(b',\n "checksum": ')]
    if content != _sealed(head.decode(errors="replace") + "}").encode():
        raise FileFormatError(compose(f"file {path}", "the file that pmlp fit wrote", "another one", _CHANGED))


def _incomplete(name: str, file: str) -> FileFormatError:
    hint = "It holds no result of pmlp fit, or has lost a file."
    return FileFormatError(compose(name, f"a file {file}", "none", hint))


def _cell(text: str | None) -> Any:
    for kind in (int, float):
        with contextlib.suppress(ValueError, TypeError):
            return kind(text or "nan")
    return text


# Writing.


def check_target(path: Path, overwrite: bool, needed: int = 0) -> None:
    """Raise DataError unless a result folder can be written there.

    Nothing else may be there, the disk must have `needed` bytes free, and the parent folder must be writable.
    """
    name = f"folder {path}"
    if path.is_symlink() and not path.exists():
        got = "a broken link"
        raise DataError(compose(name, "a folder to make", got, "Remove it, or choose another --out."))
    if path.exists():
        if path.is_dir() and path.samefile("."):
            hint = "Choose another --out, such as result."
            raise DataError(compose(name, "a folder to make", "the current folder", hint))
        if not path.is_dir():
            raise DataError(compose(name, "a folder to make", "a file of that name", "Choose another --out."))
        ours, empty = (path / RUN).exists(), not any(path.iterdir())
        if not ours and not empty:
            hint = "Choose another --out: other files are never overwritten."
            raise DataError(compose(name, "a folder to make", "one that holds other files", hint))
        if ours and not overwrite:
            hint = "Choose another --out, or say --overwrite."
            raise DataError(compose(name, "a folder to make", "one that already holds a result", hint))
    parent = Path(os.path.realpath(path)).parent
    if not parent.is_dir():
        raise DataError(compose(name, f"its parent {parent} to exist", "no such folder", f"mkdir -p {parent}"))
    if not os.access(parent, os.W_OK | os.X_OK):
        raise DataError(compose(name, f"a writable parent folder ({parent})", "no permission"))
    try:
        # Try what `write_folder` will do, so that errors come before the work is done.
        with draft_folder(Path(os.path.realpath(path))):
            pass
    except OSError as error:
        raise DataError(compose(name, f"a writable parent folder ({parent})", str(error.strerror))) from error
    free = shutil.disk_usage(parent).free
    if needed > free:
        hint = "Free some, or choose another --out."
        expected = f"{readable_bytes(needed)} of room on the disk"
        raise DataError(compose(name, expected, f"{readable_bytes(free)}", hint))


def write_folder(path: Path, overwrite: bool, fill: Callable[[Path], None]) -> None:
    """Write a result folder atomically: `fill` writes its files into a hidden sibling, which is renamed to `path`.

    An old result is moved aside for a moment, and removed when the new one is there.
    """
    check_target(path, overwrite)
    target = Path(os.path.realpath(path))
    with draft_folder(target) as draft:
        fill(draft)
        check_target(path, overwrite)
        if not target.exists():
            os.replace(draft, target)
            return
        # A kill between the next two steps leaves the old result in the folder aside, which is not removed as a draft.
        remove_stale_drafts(target, ASIDE)
        with draft_folder(target, ASIDE) as aside:
            os.replace(target, aside / target.name)
            try:
                os.replace(draft, target)
            except BaseException:
                os.replace(aside / target.name, target)
                raise


def write_run(draft: Path, run: dict[str, Any]) -> None:
    """Write run.json, the last of a folder's files, with the checksums of the files that predictions need."""
    texts = [name for name in (LEADERBOARD, TABLE, REPORT) if (draft / name).exists()]
    checksums = {name: _checksum((draft / name).read_bytes()) for name in texts}
    checksums[MODEL] = seal_of(draft / MODEL) or ""
    write_text(draft / RUN, _sealed(as_json({**run, "checksums": checksums})))


@contextlib.contextmanager
def whole_file(path: Path, overwrite: bool) -> Iterator[Path]:
    """Yield a path to write a file to, which is renamed to `path` on success. Raises DataError for an existing file.

    Anything but a regular file (a pipe, /dev/stdout) is written to directly.
    """
    check_file(path, overwrite)
    if kind_of(path) in (None, "a file"):
        with whole_path(path) as draft:
            yield draft
    else:
        yield path


def check_file(path: Path, overwrite: bool, inputs: Sequence[Path] = ()) -> None:
    """Raise DataError if a file can't be written, or is one of the inputs, whatever its name.

    Called before the work is done.
    """
    for each in inputs:
        same = each.exists() and path.exists() and each.samefile(path)
        if same or os.path.realpath(each) == os.path.realpath(path):
            hint = "Choose another --out: inputs are never overwritten."
            raise DataError(compose(f"file {path}", "another file than an input", f"{each}", hint))
    if path.is_dir():
        raise DataError(compose(f"file {path}", "a file to write", "a folder of that name", "Give a file's name."))
    if path.is_file() and not overwrite:
        raise DataError(compose(f"file {path}", "a new file", "one that exists", "Choose another, or say --overwrite."))
    parent = path.absolute().parent
    if not parent.is_dir():
        hint = f"Make it: mkdir -p {parent}"
        raise DataError(compose(f"file {path}", f"its folder {parent} to exist", "no such folder", hint))


def write_text(path: Path, text: str) -> None:
    """Write a file, and flush a regular one to the disk."""
    with text_file(path) as file:
        file.write(text)


@contextlib.contextmanager
def text_file(path: Path) -> Iterator[TextIO]:
    """Yield a file to write text to; a regular one is flushed to the disk at the end."""
    with open(path, "w", encoding="utf-8", newline="") as file:
        yield file
        file.flush()
        if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            os.fsync(file.fileno())


def as_json(value: Any) -> str:
    """Return indented JSON text. NaN and infinity become null."""
    return json.dumps(plain(value), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def plain(value: Any) -> Any:
    """Return a value of dictionaries, lists, texts and numbers as plain Python objects for JSON."""
    if isinstance(value, dict):
        return {str(name): plain(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(each) for each in value]
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def as_csv(records: Sequence[dict[str, Any]]) -> str:
    """Return records as CSV, with numbers in full precision and empty cells for missing values."""
    text = io.StringIO()
    if records:
        writer = csv.DictWriter(text, list(records[0]), lineterminator="\n")
        writer.writeheader()
        for record in records:
            writer.writerow({name: _written(value) for name, value in record.items()})
    return text.getvalue()


def _written(value: Any) -> Any:
    if isinstance(value, tuple):
        return "-".join(map(str, value))
    return "" if value is None or (isinstance(value, float) and not math.isfinite(value)) else value
