"""Blocks of Markdown pages, Python and commands: found, run, and what they print compared with what the page says."""

import contextlib
import io
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
ROOT = Path(__file__).resolve().parents[1]
DECIMAL = re.compile(r"(\d+\.\d+)")


class Block(NamedTuple):
    where: str
    code: str
    prints: str | None
    end: int = 0  # where in the page its fence ends


def python_blocks(page: str, name: str) -> list[Block]:
    """The page's Python blocks; a `text` block right behind one holds what it prints."""
    return _blocks(page, name, "python")


def command_blocks(page: str, name: str) -> list[Block]:
    """The page's blocks of commands that have such a `text` block."""
    return [block for block in _blocks(page, name, "bash") if block.prints is not None]


def _blocks(page: str, name: str, language: str) -> list[Block]:
    blocks = []
    fences = list(FENCE.finditer(page))
    for i, fence in enumerate(fences):
        if fence[1] != language:
            continue
        follower = fences[i + 1] if i + 1 < len(fences) else None
        prints = None
        if follower and follower[1] == "text" and not page[fence.end() : follower.start()].strip():
            prints = follower[2]
        where = f"{name}:{page.count(chr(10), 0, fence.start()) + 2}"
        blocks.append(Block(where, fence[2], prints, fence.end()))
    return blocks


def same_text(printed: str, page: str) -> bool:
    """Whether two texts agree: words and whole numbers exactly, decimals to 1 %, whatever the rounding."""
    ours, theirs = DECIMAL.split(printed), DECIMAL.split(page)
    words = [" ".join(text.split()) for text in ours[::2]] == [" ".join(text.split()) for text in theirs[::2]]
    return words and np.allclose([float(x) for x in ours[1::2]], [float(x) for x in theirs[1::2]], rtol=0.01, atol=0)


def printed_by(block: Block, namespace: dict[str, Any]) -> str:
    """What the block prints when it is executed in this namespace."""
    lines_before = int(block.where.rpartition(":")[2]) - 1
    code = compile("\n" * lines_before + block.code, block.where, "exec")
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(code, namespace)
    return printed.getvalue()


class Commands:
    """Runs blocks of commands in a folder with the data of examples, where `pmlp` is the command of this package."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.folder = folder
        shutil.copytree(ROOT / "examples" / "data", folder / "examples" / "data")
        (folder / "bin").mkdir()
        script = folder / "bin" / "pmlp"
        script.write_text(f'#!/bin/sh\nexec {sys.executable} -m pmlp_np "$@"\n')
        script.chmod(0o755)
        self.environment = environment | {"PATH": os.pathsep.join([str(script.parent), os.environ["PATH"]])}

    def printed_by(self, block: Block) -> str:
        """What the block's commands write, but for a word on compiling, which a machine says once."""
        done = subprocess.run(
            ["bash", "-c", block.code], cwd=self.folder, env=self.environment, capture_output=True, text=True
        )
        return re.sub(r"^pmlp_np: compiling .*\n", "", done.stdout + done.stderr, flags=re.MULTILINE)


def run(block: Block, namespace: dict[str, Any] | None = None) -> None:
    """Execute the block, by default in a namespace of its own; AssertionError where it prints something else than the
    page says."""
    printed = printed_by(block, {"__name__": "__main__"} if namespace is None else namespace)
    if block.prints is not None:
        assert same_text(printed, block.prints), f"{block.where} prints\n{printed}"
