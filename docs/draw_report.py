"""Take the picture of docs/report.md: run the code on the page, and open the report in a browser without a screen.

    python docs/draw_report.py            # writes docs/images/report.webp

It needs pandas and Pillow besides the library, and Chromium. It takes about a minute.
"""

import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from PIL import Image

DOCS = Path(__file__).resolve().parent
PICTURE = DOCS / "images" / "report.webp"
# Width and height of the windows, and the space between them; the phone's theme is dark.
DESKTOP, PHONE, BETWEEN = (1160, 1480), (390, 1480), 30
_DARK, _LIGHT = 0, 1


def shot(browser: str, page: Path, size: tuple[int, int], theme: int) -> Image.Image:
    """A picture of the top of a page."""
    file = page.with_suffix(f".{theme}.png")
    options = [
        "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
        f"--blink-settings=preferredColorScheme={theme}", f"--window-size={size[0]},{size[1]}", f"--screenshot={file}",
    ]  # fmt: skip
    subprocess.run([browser, *options, page.as_uri()], check=True, capture_output=True)
    return Image.open(file).convert("RGB")


def main() -> None:
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        raise SystemExit("chromium: expected a browser, got none. Install it: apt-get install chromium")
    block = re.findall(r"^```python\n(.*?)^```$", (DOCS / "report.md").read_text(encoding="utf-8"), re.M | re.S)[0]
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        Path("examples").symlink_to(DOCS.parent / "examples")
        exec(compile(block, "docs/report.md", "exec"), {})
        page = Path(folder) / "report.html"
        desktop, phone = shot(browser, page, DESKTOP, _LIGHT), shot(browser, page, PHONE, _DARK)
        os.chdir(DOCS)
    picture = Image.new("RGB", (desktop.width + BETWEEN + phone.width, desktop.height), "white")
    picture.paste(desktop, (0, 0))
    picture.paste(phone, (desktop.width + BETWEEN, 0))
    picture.save(PICTURE, quality=74, method=6)
    print(f"written to {PICTURE}, {PICTURE.stat().st_size // 1000} kB")


if __name__ == "__main__":
    main()
