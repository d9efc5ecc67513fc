"""Python blocks of Markdown pages: found, run, and what they print compared with what the page says."""

import contextlib
import io
import re
from typing import Any, NamedTuple

import numpy as np

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
DECIMAL = re.compile(r"(\d+\.\d+)")


class Block(NamedTuple):
    where: str
    code: str
    prints: str | None
    end: int = 0  # where in the page its fence ends


def python_blocks(page: str, name: str) -> list[Block]:
    """The page's Python blocks; a `text` block right behind one holds what it prints."""
    blocks = []
    fences = list(FENCE.finditer(page))
    for i, fence in enumerate(fences):
        if fence[1] != "python":
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


def run(block: Block, namespace: dict[str, Any] | None = None) -> None:
    """Execute the block, by default in a namespace of its own; AssertionError where it prints something else than the
    page says."""
    printed = printed_by(block, {"__name__": "__main__"} if namespace is None else namespace)
    if block.prints is not None:
        assert same_text(printed, block.prints), f"{block.where} prints\n{printed}"
