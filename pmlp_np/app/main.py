"""The script `pmlp`: runs the command line, and turns errors into a line on stderr and an exit code (`exit_codes`)."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Sequence
from functools import cache
from typing import IO

from pmlp_np.app.exit_codes import INTERRUPTED, USAGE_ERROR, USER_ERROR

_NEEDED = ("typer", "rich", "pandas", "pyarrow", "click")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `pmlp` with these arguments (default: the process's). Returns the exit code."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    _open_streams()
    try:
        from pmlp_np.app.cli import app
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _NEEDED:
            raise
        return _fail(f"the command line needs {error.name}, which is not installed: pip install 'pmlp_np[app]'")
    except KeyboardInterrupt:
        return _fail("interrupted", INTERRUPTED)
    try:
        code = app(arguments, prog_name="pmlp", standalone_mode=False)
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except (BrokenPipeError, SystemExit):
        # The reader has closed the pipe, as `head` does (Typer then raises SystemExit). Buffered output must not be
        # flushed into it.
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return _fail("interrupted", INTERRUPTED)
    except ModuleNotFoundError as error:
        return _failed(error, arguments, f"{error.name} is not installed: pip install 'pmlp_np[app]'")
    except (ValueError, OSError, MemoryError, ImportError) as error:
        return _failed(error, arguments, _said(error))
    except Exception as error:
        # An error of the command line's parser, whose class depends on the version of Typer.
        if hasattr(error, "format_message") and hasattr(error, "exit_code"):
            context = getattr(error, "ctx", None)
            path = getattr(context, "command_path", "pmlp")
            message = error.format_message()
            # Without arguments `pmlp` has printed its help.
            return _fail(f"{message} See {path} --help.", USAGE_ERROR) if message else USAGE_ERROR
        if type(error).__name__ == "Abort":
            return _fail("interrupted", INTERRUPTED)
        raise


def _open_streams() -> None:
    """Open standard streams that the caller closed, on os.devnull.

    Otherwise the next file to be opened would get a stream's number, and the text that is written to the stream.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, _nowhere(mode))


@cache
def _nowhere(mode: str) -> IO[str]:
    return open(os.devnull, mode, encoding="utf-8")


def _said(error: BaseException) -> str:
    """Return the message of an error. Errors of the file system get the file's name and a hint."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename or 'output'}: {error.strerror}. {_HINTS.get(error.errno or 0, '')}".rstrip()
    return " ".join(str(error).split()) or type(error).__name__


_HINTS = {
    28: "The disk is full: free some room, or write elsewhere.",
    122: "Your share of the disk is used up: free some room, or write elsewhere.",
    13: "Write elsewhere, or have the permission changed.",
    30: "Write elsewhere.",
}


def _failed(error: BaseException, arguments: Sequence[str], text: str) -> int:
    from pmlp_np.base.errors import PmlpError

    if "--debug" in arguments:
        raise error
    ours = isinstance(error, (PmlpError, OSError, MemoryError, ImportError))
    return _fail(text if ours else f"{type(error).__name__}: {text}. (--debug shows where.)")


def _fail(text: str, code: int = USER_ERROR) -> int:
    with contextlib.suppress(Exception):
        print(f"pmlp: {text}", file=sys.stderr)
    return code


def script() -> None:
    """Run `pmlp` and exit: the entry point in pyproject.toml."""
    sys.exit(main())
