"""Griffe extension: the package's docstrings as Markdown, and signatures of methods that take a dataclass's arguments.

A docstring is sentences, entries (`x: what it is`, or `x, y: what they are`; further lines indented), formulas, a line
that names the source, and examples, indented by four. Entries become a list of definitions, formulas and examples
code, and names of public things links.
"""

from __future__ import annotations

import inspect
import re
import textwrap
from typing import Any

import griffe

_ENTRY = re.compile(r"(X|[a-z_][a-z0-9_]*(?:, [a-z_][a-z0-9_]*)*): (.*)")
# A line of updates; and one that follows such a line.
_FORMULAS = {"": re.compile(r"\w+ = .*;"), "formula": re.compile(r"\w+ = .*[;,.]$")}
# Code between backticks, or a public name with what it may be called with, or an error.
_CODE = re.compile(r"(`[^`]+`|\bpm\.[A-Za-z_]+(?:\((?:[^()]|\([^()]*\))*\))?|\b[A-Z][A-Za-z]+Error\b)")
_NAME = re.compile(r"(?:`?pm\.)?(\w+)(?:\.(\w+))?")
_METHOD = re.compile(r"`(Pool|MLP|Specs|Ensemble)\.([a-z_]+)`")


def markdown(text: str, public: frozenset[str] = frozenset()) -> str:
    """A docstring as Markdown. public: names that have a place in the reference, to be linked."""
    blocks: list[str] = []
    for paragraph in re.split(r"\n\s*\n", inspect.cleandoc(text)):
        lines = paragraph.split("\n")
        if lines[0].startswith("    "):
            code = textwrap.dedent(paragraph)
            if blocks and blocks[-1].startswith("```python"):
                blocks[-1] = blocks[-1].removesuffix("\n```") + f"\n\n{code}\n```"  # an empty line within an example
            else:
                blocks.append(f"```python\n{code}\n```")
        else:
            blocks += _blocks(lines, public)
    return "\n\n".join(blocks)


def _blocks(lines: list[str], public: frozenset[str]) -> list[str]:
    """Of a paragraph without indented first line."""
    found: list[tuple[str, list[str]]] = []  # kind and lines
    for line in lines:
        entry, kind = _ENTRY.match(line), found[-1][0] if found else ""
        if entry and kind in ("", "entry"):
            found.append(("entry", [line]))
        elif kind == "entry" and line.startswith(" "):
            found[-1][1].append(line.strip())
        elif line.startswith("Source: "):
            found.append(("source", [line]))
        elif kind in _FORMULAS and _FORMULAS[kind].match(line):
            found.append(("formula", [line]))
        elif kind in ("text", "source"):
            found[-1][1].append(line)
        else:
            found.append(("text", [line]))
    blocks: list[str] = []
    previous = ""
    for kind, group in found:
        text = " ".join(group)
        if kind == "entry":
            match = _ENTRY.match(text)
            assert match
            names = ", ".join(f"`{name}`" for name in match[1].split(", "))
            blocks.append(f"{names}\n:   {_escaped(match[2], public)}")
        elif kind == "formula" and previous == "formula":
            blocks[-1] = blocks[-1].removesuffix("\n```") + f"\n{text}\n```"
        elif kind == "formula":
            blocks.append(f"```text\n{text}\n```")
        else:
            blocks.append(_escaped(text, public))
        previous = kind
    return blocks


def _escaped(text: str, public: frozenset[str]) -> str:
    """Plain text in which nothing is Markdown but code between backticks; public names are code and linked."""
    parts = _CODE.split(text)
    for i, part in enumerate(parts):
        if i % 2 == 0:
            # Underscores within words are left alone by Markdown.
            part = re.sub(r"[\\*\[\]$]|(?<!\w)_|_(?!\w)", lambda m: "\\" + m[0], part)
            parts[i] = part.replace("<", "&lt;").replace(">", "&gt;").replace("|", "&#124;")
            continue
        code = f"`{part.strip('`')}`"
        found = _METHOD.fullmatch(part) or _NAME.match(part)
        if found and found[1] in public:
            code = f"[{code}][pmlp_np.{found[1]}{'.' + found[2] if found[2] else ''}]"
        parts[i] = code
    return "".join(parts)


def _show_taken(method: griffe.Function) -> None:
    """Under the decorator `takes(SomeDataclass)` a method's parameters are, behind self, the dataclass's fields."""
    taken = [match[1] for each in method.decorators if (match := re.fullmatch(r"takes\((\w+)\)", str(each.value)))]
    if taken and method.parent:
        arguments = method.module[taken[0]].final_target
        method.parameters = griffe.Parameters(method.parameters[0], *_fields_of(arguments))


def _fields_of(dataclass: griffe.Class) -> list[griffe.Parameter]:
    """Those of the classes that it stands on first, but all keyword-only ones at the end."""
    found: list[griffe.Parameter] = []
    for part in (*reversed(dataclass.mro()), dataclass):
        kind = griffe.ParameterKind.positional_or_keyword
        for name, field in part.members.items():
            if name == "_":
                kind = griffe.ParameterKind.keyword_only
            elif isinstance(field, griffe.Attribute):
                value = None if field.value is None else str(field.value)
                found.append(griffe.Parameter(name, annotation=field.annotation, kind=kind, default=value))
    return sorted(found, key=lambda p: p.kind is griffe.ParameterKind.keyword_only)


class Docstrings(griffe.Extension):
    """Replaces docstrings when the package has been read."""

    def on_package(self, *, pkg: griffe.Module, **_: Any) -> None:
        public = frozenset(name for name in pkg.exports or () if isinstance(name, str))
        self._replace(pkg, public)

    def _replace(self, owner: griffe.Object, public: frozenset[str]) -> None:
        for member in owner.members.values():
            if isinstance(member, griffe.Alias):
                continue
            if isinstance(member, griffe.Function):
                _show_taken(member)
            if member.docstring is not None:
                member.docstring.value = markdown(member.docstring.value, public)
            self._replace(member, public)
