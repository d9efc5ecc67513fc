"""A report as one HTML file that needs nothing else: no network, no fonts, no scripts."""

from __future__ import annotations

import os
from importlib import resources
from typing import Any

from pmlp_np.base.persistence import whole_file
from pmlp_np.report.contents_check import require_contents
from pmlp_np.report.markup import Html, element, together
from pmlp_np.report.model_sections import bottom
from pmlp_np.report.score_sections import top


def write_report(contents: dict[str, Any], path: str | os.PathLike[str]) -> None:
    """Write a report to an HTML file. It needs neither the data nor the model.

    contents: of `report_contents`; they may have been through JSON. path: of the file; an old one is replaced.

    Raises FileFormatError for other contents, with the place, and DataError for a path that is no file's.
    """
    require_contents(contents)
    with whole_file(path) as file:
        file.write(page(contents).encode("utf-8", "replace"))


def page(contents: dict[str, Any]) -> Html:
    """Return the whole page."""
    style = resources.files("pmlp_np.report").joinpath("page.css").read_text(encoding="utf-8")
    head = element(
        "head", element("meta", charset="utf-8"),
        element("meta", name_="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name_="color-scheme", content="light dark"),
        element("title", contents["title"]), element("style", Html(style)),
    )  # fmt: skip
    main = element("main", top(contents), bottom(contents))
    return together(Html("<!DOCTYPE html>\n"), element("html", head, element("body", main), lang="en"))
