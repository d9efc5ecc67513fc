"""README.md and docs/: every Python block runs and prints what the page says; links lead somewhere; names that pages
mention exist; the figures are those of the committed results."""

import ast
import contextlib
import io
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from conftest import requires

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
DECIMAL = re.compile(r"(\d+\.\d+)")
CODE_SPAN = re.compile(r"`([^`\n]+)`")


class Block(NamedTuple):
    where: str
    code: str
    prints: str | None


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
        blocks.append(Block(f"{name}:{page.count(chr(10), 0, fence.start()) + 2}", fence[2], prints))
    return blocks


def same_text(printed: str, page: str) -> bool:
    """Whether two texts agree: words and whole numbers exactly, decimals to 1 %, whatever the rounding."""
    ours, theirs = DECIMAL.split(printed), DECIMAL.split(page)
    words = [" ".join(text.split()) for text in ours[::2]] == [" ".join(text.split()) for text in theirs[::2]]
    return words and np.allclose([float(x) for x in ours[1::2]], [float(x) for x in theirs[1::2]], rtol=0.01, atol=0)


def run(block: Block) -> None:
    """Execute the block in a namespace of its own; AssertionError where it prints something else than the page says."""
    lines_before = int(block.where.rpartition(":")[2]) - 1
    code = compile("\n" * lines_before + block.code, block.where, "exec")
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(code, {"__name__": "__main__"})
    if block.prints is not None:
        assert same_text(printed.getvalue(), block.prints), f"{block.where} prints\n{printed.getvalue()}"


def prose(page: str) -> str:
    return FENCE.sub("", page)


def anchors(page: str) -> set[str]:
    """The anchors that GitHub gives a page's headings."""
    headings = re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken_links(page: str, path: Path) -> list[str]:
    broken = []
    for target in LINK.findall(prose(page)):
        if target.startswith(("https://", "http://")):
            continue
        file, _, anchor = target.partition("#")
        found = path.parent / file
        if not found.exists() or (anchor and anchor not in anchors(found.read_text("utf-8") if file else page)):
            broken.append(target)
    return broken


def unknown_names(page: str, sources: str) -> list[str]:
    """Names with an underscore that stand in code spans and occur nowhere in the sources."""
    names = {span for span in CODE_SPAN.findall(prose(page)) if re.fullmatch(r"[A-Za-z0-9_]*_[A-Za-z0-9_]*", span)}
    return sorted(name for name in names if not re.search(rf"\b{name}\b", sources))


BLOCKS = [b for path in PAGES for b in python_blocks(path.read_text(encoding="utf-8"), str(path.relative_to(ROOT)))]


@pytest.mark.usefixtures("own_formulas")
@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.where)
def test_a_block_runs_and_prints_what_the_page_says(
    block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # for the files that blocks write; those they read lie where they do in a clone
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    run(block)


def test_the_pictures_of_data_of_its_own_can_be_drawn(tmp_path: Path) -> None:
    """In a hurry: with one epoch."""
    requires("matplotlib")
    done = subprocess.run([sys.executable, ROOT / "examples" / "own_data.py", "--folder", tmp_path, "--epochs", "1"],
                          capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)})  # fmt: skip
    assert done.returncode == 0, done.stderr
    for name in ("cross_validation.png", "replicas.png"):
        assert (tmp_path / name).stat().st_size > 10_000


def test_the_page_of_knobs_is_drawn_from_the_code(tmp_path: Path) -> None:
    """In a process of its own: other tests register formulas."""
    draw = [sys.executable, ROOT / "docs" / "draw_knobs.py", "--check"]
    done = subprocess.run(draw, capture_output=True, text=True, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)})
    assert done.returncode == 0, done.stderr


def test_wrong_blocks_are_noticed() -> None:
    page = "```python\nprint(1)\n```\n\n```text\n2\n```\n\n```python\nraise KeyError\n```\nwords\n```text\n3\n```\n"
    wrong, failing = python_blocks(page, "page")
    assert (wrong.where, wrong.prints, failing.where, failing.prints) == ("page:2", "2\n", "page:10", None)
    with pytest.raises(AssertionError, match="page:2 prints"):
        run(wrong)
    with pytest.raises(KeyError):
        run(failing)


@pytest.mark.parametrize("printed", ["a 2 0.511", "b 2 0.505", "a 3 0.505", "a 2 0.505 1", "a 2"])
def test_other_texts_are_noticed(printed: str) -> None:
    assert same_text("a  2 0.501\n", "a 2 0.505\n")
    assert not same_text(printed, "a 2 0.505")


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_every_fence_is_understood(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.count("```") == 2 * len(FENCE.findall(text))
    assert {language for language, _ in FENCE.findall(text)} <= {"python", "text", "math", "bash"}


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_links_lead_somewhere(path: Path) -> None:
    assert broken_links(path.read_text(encoding="utf-8"), path) == []


def test_broken_links_are_noticed() -> None:
    page = "# A heading, here\n[a](no_such.md) [b](docs/index.md) [c](#a-heading-here) [d](#none) [e](https://x.y)"
    assert broken_links(page, ROOT / "README.md") == ["no_such.md", "#none"]


@pytest.fixture(scope="module")
def sources() -> str:
    files = [ROOT / "pyproject.toml", ROOT / "Makefile"]
    for folder in ("pmlp_np", "tests", "benchmarks", "examples"):
        files += (ROOT / folder).rglob("*.py")
    return "\n".join(file.read_text(encoding="utf-8") for file in files if file != Path(__file__).resolve())


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_names_exist(path: Path, sources: str) -> None:
    assert unknown_names(path.read_text(encoding="utf-8"), sources) == []


def test_unknown_names_are_noticed() -> None:
    assert unknown_names("`some_name` and `other_name`", "some_name = 1") == ["other_name"]


def test_every_page_is_on_the_map() -> None:
    index = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    missing = [path.name for path in PAGES[1:] if path.name != "index.md" and f"]({path.name})" not in index]
    assert missing == []


def modules_in(target: Path) -> set[str]:
    """Dotted names of a module, or of all modules of a package's folder."""
    files = target.rglob("*.py") if target.is_dir() else [target]
    parts = [file.relative_to(ROOT).with_suffix("").parts for file in files]
    return {".".join(part[:-1] if part[-1] == "__init__" else part) for part in parts}


def imported_modules(module: str) -> set[str]:
    """What a module imports of the package when it is itself imported."""
    file = ROOT.joinpath(*module.split("."))
    source = (file / "__init__.py" if file.is_dir() else file.with_suffix(".py")).read_text(encoding="utf-8")
    found: set[str] = set()
    for node in ast.parse(source).body:
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "pmlp_np":
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            names = {name for name in inner if ROOT.joinpath(*name.split(".")).with_suffix(".py").exists()}
            found |= names or {node.module}
    return found


def test_the_map_lists_modules_in_the_order_of_their_imports() -> None:
    index = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    rows = [line for line in index.splitlines() if line.startswith("| [") and "](../pmlp_np/" in line]
    seen: set[str] = set()
    for row in rows:
        here = set().union(*(modules_in((ROOT / "docs" / target).resolve()) for target in LINK.findall(row)))
        seen |= here
        for module in here:
            assert imported_modules(module) <= seen, module
    # What a folder's own file says of it (and no more than that) needs no line.
    unlisted = modules_in(ROOT / "pmlp_np") - seen
    files = [ROOT.joinpath(*module.split("."), "__init__.py") for module in unlisted - {"pmlp_np"}]
    assert all(file.exists() and len(file.read_text(encoding="utf-8").splitlines()) == 1 for file in files), unlisted
