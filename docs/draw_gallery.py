"""Runs pages of the gallery, and writes what their blocks print, and their pictures, in place.

    python docs/draw_gallery.py                 # all pages
    python docs/draw_gallery.py uncertainty     # one, by its name
    python docs/draw_gallery.py command_line    # docs/command_line.md, of which commands are run

It needs the packages that the pages use: `pip install '.[test]'`. The tests run the pages likewise, and compare.
"""

import argparse
import os
import re
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from command_line import environment  # noqa: E402
from page_blocks import Block, Commands, command_blocks, printed_by, python_blocks  # noqa: E402

GALLERY, COMMANDS = ROOT / "docs" / "gallery", ROOT / "docs" / "command_line.md"
_OUTPUT = re.compile(r"\n```text\n(?:.*?\n)??```$", re.MULTILINE | re.DOTALL)


def with_output(page: str, block: Block, printed: str) -> str:
    """The page with this output behind the block, instead of what stood there; none where it prints nothing."""
    before, after = page[: block.end], page[block.end :]
    if block.prints is not None:
        after = after[_OUTPUT.match(after).end() :]
    lines = "".join(f"{line.rstrip()}\n" for line in printed.splitlines())
    return before + (f"\n```text\n{lines}```" if lines else "") + after


def drawn(path: Path) -> str:
    """The page with its outputs, whose pictures are drawn meanwhile."""
    page = path.read_text(encoding="utf-8")
    namespace = {"__name__": "__main__"}
    found = [(block, printed_by(block, namespace)) for block in python_blocks(page, path.name)]
    return with_outputs(page, found)


def with_outputs(page: str, found: list[tuple[Block, str]]) -> str:
    for block, printed in reversed(found):
        page = with_output(page, block, printed)
    return page


def of_commands(page: str, folder: Path) -> str:
    """The page with what its commands print in an empty folder."""
    commands = Commands(folder, environment())
    return with_outputs(page, [(block, commands.printed_by(block)) for block in command_blocks(page, COMMANDS.name)])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("pages", nargs="*", help="names of pages (default: all)")
    names = parser.parse_args().pages or sorted(path.stem for path in GALLERY.glob("*.md"))
    for name in names:
        path = COMMANDS if name == COMMANDS.stem else GALLERY / f"{name}.md"
        start = time.perf_counter()
        # Files that a page writes beside its pictures go with this folder.
        with tempfile.TemporaryDirectory() as folder:
            if path == COMMANDS:
                text = of_commands(path.read_text(encoding="utf-8"), Path(folder))
            else:
                for place in ("examples", "docs"):
                    Path(folder, place).symlink_to(ROOT / place)
                os.chdir(folder)
                text = drawn(path)
                os.chdir(ROOT)
        path.write_text(text, encoding="utf-8")
        print(f"{name}: {time.perf_counter() - start:.1f} s")


if __name__ == "__main__":
    main()
