"""README.md and docs/: every Python block runs and prints what the page says; links lead somewhere; names that pages
mention exist; the figures are those of the committed results."""

import ast
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import requires
from page_blocks import FENCE, Block, python_blocks, run, same_text

ROOT = Path(__file__).resolve().parent.parent
# Here every block stands for itself; a page of the gallery is one program.
SINGLE = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
GALLERY = sorted((ROOT / "docs" / "gallery").glob("*.md"))
PAGES = [*SINGLE, *GALLERY]

LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
CODE_SPAN = re.compile(r"`([^`\n]+)`")


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


def blocks_of(path: Path) -> list[Block]:
    return python_blocks(path.read_text(encoding="utf-8"), str(path.relative_to(ROOT)))


# Optional packages that a page of the gallery uses, beside matplotlib.
NEEDS = {"pipeline": ("onnx", "onnxruntime")}
BLOCKS = [block for path in SINGLE for block in blocks_of(path)]


@pytest.mark.usefixtures("own_formulas")
@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.where)
def test_a_block_runs_and_prints_what_the_page_says(
    block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # for the files that blocks write; those they read lie where they do in a clone
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    run(block)


@pytest.mark.parametrize("path", GALLERY, ids=lambda path: path.stem)
def test_a_page_of_the_gallery_runs_from_top_to_bottom(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its blocks share one namespace, print what the page says, and draw the pictures that it shows."""
    for package in ("matplotlib", *NEEDS.get(path.stem, ())):
        requires(package)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    (tmp_path / "docs" / "images").mkdir(parents=True)
    namespace = {"__name__": "__main__"}
    for block in blocks_of(path):
        run(block, namespace)
    for name in [file.stem for file in tmp_path.glob("*.py")]:
        sys.modules.pop(name, None)
    text = path.read_text(encoding="utf-8")
    shown = {name for name in LINK.findall(prose(text)) if name.startswith("../images/")}
    drawn = {f"../images/{file.name}" for file in (tmp_path / "docs" / "images").iterdir()}
    assert shown == drawn
    assert all((tmp_path / "docs" / "gallery" / name).resolve().stat().st_size > 5_000 for name in shown)


def test_outputs_are_written_behind_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])
    spec = importlib.util.spec_from_file_location("draw_gallery", ROOT / "docs" / "draw_gallery.py")
    assert spec and spec.loader
    draw_gallery = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(draw_gallery)
    page = "```python\na = 1\n```\n\n```python\nprint(a, end=' \\n')\n```\n```text\nold\n\n```\nWords.\n\n"
    page += "```python\nprint(a + 1)\n```\n\n```python\na\n```\n```text\nold\n```\n```text\nnot an output\n```\n"
    (tmp_path / "page.md").write_text(page, encoding="utf-8")
    wanted = "```python\na = 1\n```\n\n```python\nprint(a, end=' \\n')\n```\n```text\n1\n```\nWords.\n\n"
    wanted += "```python\nprint(a + 1)\n```\n```text\n2\n```\n\n```python\na\n```\n```text\nnot an output\n```\n"
    assert draw_gallery.drawn(tmp_path / "page.md") == wanted


def test_the_gallery_has_its_pages() -> None:
    stems = {path.stem for path in GALLERY}
    assert stems >= {"first_pool", "architecture_search", "uncertainty", "pipeline", "reference_and_paper"}
    assert set(NEEDS) <= stems
    assert all(sum(block.prints is not None for block in blocks_of(path)) >= 4 for path in GALLERY)


def test_the_picture_of_data_of_its_own_can_be_drawn(tmp_path: Path) -> None:
    """In a hurry: with one epoch."""
    requires("matplotlib")
    done = subprocess.run([sys.executable, ROOT / "examples" / "own_data.py", "--folder", tmp_path, "--epochs", "1"],
                          capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)})  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "cross_validation.png").stat().st_size > 10_000


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
    assert {language for language, _ in FENCE.findall(text)} <= {"python", "text", "math", "bash", "c"}


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
    pages = [path.relative_to(ROOT / "docs").as_posix() for path in PAGES[1:]]
    missing = [page for page in pages if page != "index.md" and f"]({page})" not in index]
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
            places = {name: ROOT.joinpath(*name.split(".")) for name in inner}
            names = {name for name, place in places.items() if place.with_suffix(".py").exists() or place.is_dir()}
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
