"""The documentation's site: it builds without a warning, needs nothing from elsewhere, and holds all public names."""

import importlib.util
import inspect
import os
import re
import shutil
import subprocess
import sys
from html import unescape
from pathlib import Path
from types import ModuleType

import pytest

import pmlp_np as pm
from conftest import requires

ROOT = Path(__file__).resolve().parents[1]
SITE_TOOLS = ROOT / "docs" / "site"
# What browsers fetch by themselves when they show a page.
FETCHED = re.compile(
    r"<(?:script|img|iframe|source|video|audio|embed)\b[^>]*?\bsrc=[\"']?([^\"'\s>]+)"
    r"|<link\b(?![^>]*rel=[\"']?(?:canonical|next|prev)\b)[^>]*?\bhref=[\"']?([^\"'\s>]+)"
    r"|url\([\"']?([^\"')]+)|@import [\"']([^\"']+)"
)


def tool(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"site_{name}", SITE_TOOLS / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def build(folder: Path, root: Path = ROOT) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mkdocs", "build", "--site-dir", str(folder)]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    for package in ("mkdocs", "material", "mkdocstrings", "latex2mathml"):
        requires(package)
    folder = tmp_path_factory.mktemp("site")
    done = build(folder)
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr, done.stderr
    return folder


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[str, str]:
    return {p.relative_to(site).as_posix(): p.read_text(encoding="utf-8") for p in site.rglob("*.html")}


def fetched(text: str) -> list[str]:
    """Addresses elsewhere that a browser asks when it shows this."""
    found = [next(filter(None, groups)) for groups in FETCHED.findall(text)]
    return [address for address in found if re.match(r"(https?:)?//", address)]


def test_every_page_is_there(pages: dict[str, str]) -> None:
    written = {p.relative_to(ROOT / "docs").with_suffix(".html").as_posix() for p in (ROOT / "docs").rglob("*.md")}
    assert len(written) > 15
    assert written | {"overview.html"} <= set(pages)


def test_nothing_is_fetched_from_elsewhere(site: Path, pages: dict[str, str]) -> None:
    sheets = {sheet.name: sheet.read_text(encoding="utf-8") for sheet in site.rglob("*.css")}
    assert sheets
    assert {name: found for name, text in (pages | sheets).items() if (found := fetched(text))} == {}
    scripts = {s for text in pages.values() for s in re.findall(r'<script src="([^"]+)"', text)}
    assert {Path(script).name.split(".")[0] for script in scripts} == {"iframe-worker", "bundle"}


@pytest.mark.parametrize(
    "text",
    [
        '<script src="https://x.y/z.js"></script>',
        "<link rel=stylesheet href=//fonts.x.y/css>",
        '<img alt="a" src="http://x.y/z.png">',
        "a { background: url(https://x.y/z.png) }",
        '@import "https://x.y/z.css";',
    ],
)
def test_what_is_fetched_is_noticed(text: str) -> None:
    assert len(fetched(text)) == 1
    good = '<a href="https://x.y">word</a><img src="../images/a.png"><link rel="canonical" href="https://x.y">'
    assert fetched(good) == []


def test_the_reference_has_every_public_name(pages: dict[str, str]) -> None:
    reference = "".join(text for name, text in pages.items() if name.startswith("reference/"))
    identifiers = set(re.findall(r'id="([^"]+)"', reference))
    assert {f"pmlp_np.{name}" for name in pm.__all__} <= identifiers
    classes = (pm.Pool, pm.MLP, pm.Ensemble)
    methods = {f"pmlp_np.{c.__name__}.{m}" for c in classes for m in dir(c) if not m.startswith("_")}
    assert {"pmlp_np.Pool.fit", "pmlp_np.Pool.predict", "pmlp_np.Pool.specs"} <= methods
    methods |= {"pmlp_np.MLP.to_onnx", "pmlp_np.plots.heat_map"}
    assert methods <= identifiers
    # How a loss does its work is not what its users look for.
    assert not [i for i in identifiers if re.match(r"pmlp_np\.(Huber|Adam|SpecError)\.", i)]


def test_docstrings_become_lists(pages: dict[str, str]) -> None:
    """An entry each for every argument of `fit`."""
    fit = pages["reference/pools.html"].partition('id="pmlp_np.Pool.fit"')[2].partition('id="pmlp_np.Pool.')[0]
    terms = set(re.findall(r"<dt><code>(\w+)</code></dt>", fit))
    assert {"X", "y", "epochs", "validation_data", "callbacks", "class_weight"} <= terms


@pytest.mark.parametrize("name", ["fit", "partial_fit"])
def test_signatures_are_those_that_help_shows(pages: dict[str, str], name: str) -> None:
    """Arguments that `fit` and `partial_fit` take by way of a dataclass, in their order, with types and defaults."""
    part = pages["reference/pools.html"].partition(f'id="pmlp_np.Pool.{name}"')[2].partition("</pre>")[0]
    shown = re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]+>", "", part)))
    at = -1
    for argument in list(inspect.signature(getattr(pm.Pool, name)).parameters.values())[1:]:
        default = "" if argument.default is argument.empty else f" = {argument.default!r}"
        found = re.search(rf"\b{argument.name}: [^=]*{re.escape(default)}", shown.replace('"', "'"))
        assert found and found.start() > at, argument
        at = found.start()


def test_formulas_are_drawn(pages: dict[str, str]) -> None:
    derivations = pages["derivations.html"]
    prose = re.sub(r"<(pre|code|math|script)\b.*?</\1>", "", derivations, flags=re.DOTALL)
    assert derivations.count("<math") > 250
    assert not re.search(r"\\[a-z(\[]|\$[^$<]+\$", unescape(re.sub(r"<[^>]+>", "", prose)))
    for page in pages.values():
        assert "arithmatex" not in page and "merror" not in page


def test_links_to_the_repository_lead_to_its_files(pages: dict[str, str]) -> None:
    idea = pages["idea.html"]
    assert 'href="source/pmlp_np/backends/reference/m3.py.html"' in idea
    assert "segment_sum" in pages["source/pmlp_np/backends/reference/m3.py.html"]
    assert 'href="overview.html"' in pages["index.html"]
    headings = re.findall(r"^## ([\w ]+)$", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert len(headings) > 3
    assert all(heading in pages["overview.html"] for heading in headings)
    assert not [name for name, text in pages.items() if re.search(r'href="[^":]*\.(?:py|md)["#]', text)]


# The first ends the build at once.
@pytest.mark.one_in(2)
@pytest.mark.parametrize(
    "broken",
    [
        {"no_such_name": "::: pmlp_np.no_such_name"},
        {
            "no_such_page": "[a](no_such_page.md)",
            "no_such_test": "[a](../tests/no_such_test.py)",
            "no-such-heading": "[a](idea.md#no-such-heading)",
            "not_in_nav": "[a](not_in_nav.md)",
        },
    ],
    ids=len,
)
def test_broken_pages_fail_the_build(broken: dict[str, str], tmp_path: Path) -> None:
    requires("mkdocs")
    for entry in ROOT.iterdir():
        if entry.name not in ("docs", "build") and not entry.name.startswith("."):
            (tmp_path / entry.name).symlink_to(entry)
    shutil.copytree(ROOT / "docs", tmp_path / "docs")
    with open(tmp_path / "docs" / "contributing.md", "a", encoding="utf-8") as page:
        page.write("\n" + "\n\n".join(broken.values()) + "\n")
    (tmp_path / "docs" / "not_in_nav.md").write_text("# Forgotten\n", encoding="utf-8")
    done = build(tmp_path / "site", tmp_path)
    assert done.returncode != 0
    assert [says for says in broken if says not in done.stderr] == []


def test_docstrings_are_made_markdown() -> None:
    requires("griffe")
    text = """Does it: a_b * c_d < 3 [and] more_.

    x: one thing, as pm.grid(hidden=(2, 3)) makes it
        and `code`.
    y, z: two. Raises DataError.

    g = a + b;  h = g * g;
    w = w - h,
    where h is a name: so.
    Source: a book,
    of two lines.

        pm.grid()

        more()
    """
    assert (
        tool("docstrings").markdown(text, frozenset({"grid", "DataError"}))
        == """\
Does it: a_b \\* c_d &lt; 3 \\[and\\] more\\_.

`x`
:   one thing, as [`pm.grid(hidden=(2, 3))`][pmlp_np.grid] makes it and `code`.

`y`, `z`
:   two. Raises [`DataError`][pmlp_np.DataError].

```text
g = a + b;  h = g * g;
w = w - h,
```

where h is a name: so.

Source: a book, of two lines.

```python
pm.grid()

more()
```"""
    )


def test_public_names_are_linked_in_prose_alone() -> None:
    requires("mkdocs")
    page = "# `pm.Pool`\n`pm.Pool`, `pm.Pool.fit(X)`, [`pm.Pool`](x.md), `pm.nothing`\n```python\n`pm.Pool`\n```\n"
    pools = "../reference/pools.md#pmlp_np"
    there = f"[`pm.Pool`]({pools}.Pool), [`pm.Pool.fit(X)`]({pools}.Pool.fit)"
    assert tool("reference").linked(page, "gallery/a.md") == page.replace("`pm.Pool`, `pm.Pool.fit(X)`", there)
