"""MkDocs hook: the pages of the reference, from docstrings; and links to it wherever a page says `pm.something`."""

from __future__ import annotations

import os
import re
from typing import Any, NamedTuple

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files, InclusionLevel

import pmlp_np as pm


class Part(NamedTuple):
    title: str
    says: str
    names: tuple[str, ...]
    members: bool = True  # whether the methods of its classes are shown


PARTS = {
    "pools": Part("Pools", "Many networks, trained together.", ("Pool", "load", "resume", "concat", "EpochEnd")),
    "models": Part("Models", "An extracted member, and the mean of several. For other systems see "
                   "[Export](../models_out.md).", ("MLP", "Ensemble")),
    "search": Part("Search", "From a table to an ensemble, with examples on [Search](../search.md).",
                   ("search", "Configuration", "CustomMetric", "Proposals", "TableModel", "distill")),
    "members": Part("Members", "Specs of members: single ones, all combinations, or random ones.",
                    ("Member", "grid", "sample", "integers", "uniform", "log_uniform", "Specs", "PAPER_ACTIVATIONS")),
    "losses": Part("Losses", "For the defaults a name is enough: `loss=\"huber\"`. All losses are means over rows.",
                   ("SquaredError", "AbsoluteError", "Huber", "Quantile", "Poisson", "GaussianNLL",
                    "BinaryCrossEntropy", "CrossEntropy"), False),
    "optimizers": Part("Optimizers", "For the defaults a name is enough: `optimizer=\"sgd\"`. [All hyperparameters]"
                       "(../knobs.md), with schedules.", ("SGD", "Adam", "AdamW", "RMSprop", "NAdam"), False),
    "registration": Part("Custom formulas", "With examples on [Contributing](../contributing.md).",
                         ("register_activation", "register_loss")),
    "plots": Part("Plots", "Plots of a pool, with examples on [Plots](../plots.md).",
                  ("plots.loss_curves", "plots.score_by_size", "plots.score_by_activation", "plots.heat_map")),
    "errors": Part("Errors and warnings", "Each error states the expected and the actual value, and a correction.",
                   ("PmlpError", "SpecError", "DataError", "MemoryNeededError", "DeviceError", "FileFormatError",
                    "DivergedWarning"), False),
}  # fmt: skip
PAGE_OF = {name: f"reference/{page}.md" for page, part in PARTS.items() for name in part.names}
_CODE_OR_NAME = re.compile(r"^```.*?^```$|^#.*?$|\[[^\]]*\]\([^)]*\)|`pm\.(\w+)((?:\.\w+)?)(\([^`]*\))?`",
                           re.MULTILINE | re.DOTALL)  # fmt: skip


def page(part: Part) -> str:
    text = f"# {part.title}\n\n{part.says}\n"
    for name in part.names:
        text += f"\n::: pmlp_np.{name}\n"
        if not part.members:
            text += "    options:\n      members: false\n      inherited_members: false\n"
    return text


def on_files(files: Files, config: Any) -> Files:
    if missing := set(pm.__all__) ^ {name for name in PAGE_OF if not name.startswith("plots.")}:
        raise PluginError(f"PARTS of docs/site/reference.py: expected the names of pm.__all__, got others: {missing}")
    for name, part in PARTS.items():
        uri = f"reference/{name}.md"
        files.append(File.generated(config, uri, content=page(part), inclusion=InclusionLevel.INCLUDED))
    return files


def linked(markdown: str, uri: str) -> str:
    """The page with a link from each public name to its place in the reference."""

    def link(match: re.Match[str]) -> str:
        whole = f"{match[1]}{match[2] or ''}"
        page = PAGE_OF.get(whole) or PAGE_OF.get(match[1] or "")
        return f"[{match[0]}]({os.path.relpath(page, os.path.dirname(uri))}#pmlp_np.{whole})" if page else match[0]

    return _CODE_OR_NAME.sub(link, markdown)


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    uri = page.file.src_uri
    return markdown if uri.startswith(("reference/", "source/")) else linked(markdown, uri)
