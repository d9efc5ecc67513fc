"""Draw the pictures of docs/plots.md, by running the code on the page.

    python docs/draw_plots.py            # writes docs/images/plots_*.png

It needs matplotlib besides the library, and takes some seconds.
"""

import os
import re
import shutil
import tempfile
from pathlib import Path

DOCS = Path(__file__).resolve().parent


def main() -> None:
    page = (DOCS / "plots.md").read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        Path("examples").symlink_to(DOCS.parent / "examples")
        for block in re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL):
            exec(compile(block, "docs/plots.md", "exec"), {})
        for picture in sorted(Path().glob("*.png")):
            shutil.copy(picture, DOCS / "images" / picture.name)
            print(f"written to {DOCS / 'images' / picture.name}")
        os.chdir(DOCS)


if __name__ == "__main__":
    main()
