"""Blocks of the page: sections, figures with their numbers, tables, bars."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pmlp_np.report.charts import swatch
from pmlp_np.report.markup import Html, element, number


def section(name: str, title: str, lead: str, *children: Any) -> Html:
    """Return a section with a heading and a sentence or two on what is in it."""
    heading = element("h2", title, id=name)
    return element("section", heading, element("p", lead, class_="lead") if lead else None, *children,
                   aria_labelledby=name)  # fmt: skip


def grid(*children: Any, width: str = "") -> Html:
    """Return blocks side by side where there is room. width: of a block, "wide", "narrow" or "" in between."""
    return element("div", *children, class_=f"side-by-side {width}".rstrip())


def figure(title: str, says: str, chart: Html, *below: Any) -> Html:
    """Return a chart with its title and how to read it, and what stands below it."""
    caption = element("figcaption", element("h3", title), element("p", says) if says else None)
    return element("figure", caption, chart, *below, class_="card")


def card(title: str, says: str, *children: Any, class_: str = "") -> Html:
    """Return a titled block that is no figure."""
    lead = element("p", says) if says else None
    return element("div", element("h3", title), lead, *children, class_=f"card {class_}".rstrip())


def numbers(table_of_it: Html) -> Html:
    """Return a chart's numbers, folded away."""
    return element("details", element("summary", "The numbers"), table_of_it)


def table(label: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], texts: int = 1, minor: Sequence[int] = (),
          class_: str = "") -> Html:  # fmt: skip
    """Return a table that scrolls in itself where it is too wide.

    label: what it is, for readers of screens. texts: so many first columns hold texts, the others numbers. minor:
    columns that a phone leaves out.
    """

    def kind(i: int) -> str | None:
        kinds = [*(["number"] if i >= texts else []), *(["minor"] if i in minor else [])]
        return " ".join(kinds) or None

    head = [element("th", name, scope="col", class_=kind(i)) for i, name in enumerate(columns)]
    body = [
        element("tr", [element("th" if i == 0 else "td", cell, scope="row" if i == 0 else None, class_=kind(i))
                       for i, cell in enumerate(row)])
        for row in rows
    ]  # fmt: skip
    inside = element("table", element("thead", element("tr", head)), element("tbody", body), class_=class_ or None)
    return element("div", inside, class_="scroll", role="region", aria_label=label, tabindex="0")


def bar(share: float, label: str) -> Html:
    """Return a bar of a share of the room for it, and its value."""
    fill = element("span", class_="fill", style=f"width:{number(100.0 * min(max(share, 0.0), 1.0))}%")
    track = element("span", fill, class_="track", aria_hidden="true")
    return element("span", track, element("span", label, class_="of-bar"), class_="bar-cell")


def legend(names: Sequence[str]) -> Html:
    """Return the series' names beside samples of their lines."""
    return element("ul", [element("li", swatch(k), name) for k, name in enumerate(names)], class_="legend")


def listing(texts: Sequence[Any]) -> Html:
    return element("ul", [element("li", each) for each in texts])
