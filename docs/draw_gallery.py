"""Runs pages of the gallery, and writes what their blocks print, and their pictures, in place.

    python docs/draw_gallery.py                 # all pages
    python docs/draw_gallery.py uncertainty     # one, by its name

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

from page_blocks import Block, printed_by, python_blocks  # noqa: E402

GALLERY = ROOT / "docs" / "gallery"
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
    for block, printed in reversed(found):
        page = with_output(page, block, printed)
    return page


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("pages", nargs="*", help="names of pages (default: all)")
    names = parser.parse_args().pages or sorted(path.stem for path in GALLERY.glob("*.md"))
    for name in names:
        path, start = GALLERY / f"{name}.md", time.perf_counter()
        # Files that a page writes beside its pictures go with this folder.
        with tempfile.TemporaryDirectory() as folder:
            for place in ("examples", "docs"):
                Path(folder, place).symlink_to(ROOT / place)
            os.chdir(folder)
            text = drawn(path)
            os.chdir(ROOT)
        path.write_text(text, encoding="utf-8")
        print(f"{name}: {time.perf_counter() - start:.1f} s")


if __name__ == "__main__":
    main()
