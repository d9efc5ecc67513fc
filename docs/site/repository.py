"""MkDocs hook: files of the repository outside docs/, as pages of the site.

Pages link to sources, tests and the README by their places in the repository, so that the links work where the
repository is browsed. The site shows each file that is linked so on a page of its own, `source/<path>.md`, and the
README as `overview.md`; links are led there.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files, InclusionLevel

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
# Code, in which nothing is a link, or a link; images too.
_CODE_OR_LINK = re.compile(r"^```.*?^```$|`[^`\n]+`(?!\]\()|(\]\()([^)\s]+)(\))", re.MULTILINE | re.DOTALL)
_LANGUAGES = {".py": "python", ".toml": "toml", ".yml": "yaml", ".csv": "text", "": "text"}


def page_of(file: Path) -> str:
    """Where the site shows a file or folder of the repository: a place in docs/, which may not be there on disk."""
    if file == ROOT / "README.md":
        return "overview.md"
    if file.is_relative_to(DOCS) and file.suffix != ".py":
        return file.relative_to(DOCS).as_posix()
    name = file.relative_to(ROOT).as_posix()
    # README.md would become the folder's index, as would a folder's own page.
    return f"source/{name.removesuffix('.md').replace('README', 'about')}.md" if name != "." else "source/repository.md"


def led(markdown: str, home: Path, page: str) -> tuple[str, set[Path]]:
    """The text of a file in the folder `home` as the page `page` shows it, and the files that its links lead to."""
    linked: set[Path] = set()

    def moved(match: re.Match[str]) -> str:
        file, hash_, anchor = (match[2] or "").partition("#")
        if not file or re.match(r"[a-z]+:", file):
            return match[0]
        target = Path(os.path.normpath(home / file))
        if not target.exists() or not target.is_relative_to(ROOT):
            return match[0]  # MkDocs speaks up
        linked.add(target)
        return f"{match[1]}{os.path.relpath(page_of(target), os.path.dirname(page))}{hash_}{anchor}{match[3]}"

    return _CODE_OR_LINK.sub(moved, markdown), linked


def shown(file: Path) -> tuple[str, set[Path]]:
    """The page of a file or folder outside docs/, and what it links to."""
    name, page = file.relative_to(ROOT).as_posix(), page_of(file)
    if file.is_dir():
        inside = [f for f in sorted(file.iterdir()) if f.suffix in (".py", ".md") or (f / "__init__.py").exists()]
        text = "\n".join(f"- [{f.name}]({f.name})" for f in inside if f.name != "__init__.py" or f.stat().st_size)
        return led(f"# {name}/\n\n{text}\n", file, page)
    text = file.read_text(encoding="utf-8")
    if file.suffix == ".md":
        return led(text, file.parent, page)
    language = _LANGUAGES.get(file.suffix, "text")
    # A fence longer than any in the file.
    return f'# {name}\n\n``````{language} linenums="1"\n{text.rstrip()}\n``````\n', set()


def on_files(files: Files, config: Any) -> Files:
    wanted: set[Path] = {ROOT / "README.md"}
    for file in files.documentation_pages():
        path = Path(file.abs_src_path) if file.abs_src_path else None
        if path is not None:
            wanted |= led(path.read_text(encoding="utf-8"), path.parent, file.src_uri)[1]
    done: set[Path] = set()
    while left := {f for f in wanted - done if not (f.is_relative_to(DOCS) and f.suffix != ".py")}:
        file = min(left)
        done.add(file)
        content, linked = shown(file)
        wanted |= linked
        place = InclusionLevel.INCLUDED
        if page_of(file) != "overview.md":
            place = InclusionLevel.NOT_IN_NAV
            content = f"---\nsearch:\n  exclude: true\n---\n{content}"
        files.append(File.generated(config, page_of(file), content=content, inclusion=place))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    if page.file.abs_src_path is None or page.file.generated_by:
        return markdown
    path = Path(page.file.abs_src_path)
    return led(markdown, path.parent, page.file.src_uri)[0]
