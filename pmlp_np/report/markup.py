"""HTML and SVG as text: elements whose texts are escaped by construction."""

from __future__ import annotations

import html
from typing import Any

_VOID = frozenset({"meta", "br", "wbr"})


# Control characters, which HTML has not.
_CONTROLS = dict.fromkeys((*range(9), *range(11, 32), *range(127, 160)), " ")


class Html(str):
    """Text that is markup already."""


def element(name: str, /, *children: Any, **attributes: Any) -> Html:
    """Return an element. Children that are no Html are escaped; None and False are left out, as are such attributes.

    Names of attributes: class_ is class, stroke_width is stroke-width. Numbers are rounded to hundredths; True stands
    for an attribute without a value.
    """
    opening = name + "".join(_attribute(key, value) for key, value in attributes.items())
    if name in _VOID:
        return Html(f"<{opening}>")
    return Html(f"<{opening}>{together(*children)}</{name}>")


def together(*children: Any) -> Html:
    """Return children side by side; lists among them are taken apart."""
    return Html("".join(_child(child) for child in children))


def number(value: float) -> str:
    """Return a coordinate with at most two decimals."""
    text = f"{value:.2f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def _child(child: Any) -> str:
    if child is None or child is False:
        return ""
    if isinstance(child, (list, tuple)):
        return together(*child)
    return child if isinstance(child, Html) else _escaped(str(child))


def _attribute(key: str, value: Any) -> str:
    if value is None or value is False:
        return ""
    name = key.rstrip("_").replace("_", "-") if key != "viewBox" else key
    if value is True:
        return f" {name}"
    text = number(value) if isinstance(value, float) else str(value)
    return f' {name}="{_escaped(text)}"'


def _escaped(text: str) -> str:
    return html.escape(text.translate(_CONTROLS))
