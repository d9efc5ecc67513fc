"""Draw docs/knobs.md, the table of everything that can be set, from the code: tables, docstrings and signatures.

python docs/draw_knobs.py            # writes docs/knobs.md
python docs/draw_knobs.py --check    # only says whether it is up to date
"""

import argparse
import inspect
import re
import sys
from collections.abc import Iterator
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import pmlp_np as pm
from pmlp_np.backends import BACKENDS
from pmlp_np.formulas.activations import ACTIVATION_ALIASES, ACTIVATIONS
from pmlp_np.formulas.initializers import INITIALIZER_ALIASES, INITIALIZERS
from pmlp_np.formulas.losses import LOSS_ALIASES, LOSSES
from pmlp_np.formulas.optimizers import HYPERPARAMETERS, OPTIMIZERS, hyperparameter_names, hyperparameter_range
from pmlp_np.formulas.options import OPTIONS, Option

PAGE = Path(__file__).resolve().parent / "knobs.md"
# "auto" is one of the others.
BACKEND_NAMES = ", ".join(f"`{name}`" for name in BACKENDS)
_ENTRY = re.compile(r"^(\w+): (.*)$")


def entries(text: str) -> Iterator[tuple[str, str]]:
    """(argument, what is said of it) of a docstring's entries, in order."""
    name, said = "", ""
    for line in [*text.splitlines(), ""]:
        found = _ENTRY.match(line)
        if name and (found or not line.startswith("    ")):
            yield name, said
            name = ""
        if found:
            name, said = found[1], found[2]
        elif name:
            said += " " + line.strip()


def doc(value: Any) -> str:
    return inspect.getdoc(value) or ""


def cell(text: Any) -> str:
    return str(text).replace("|", "\\|").replace("\n", " ").strip()


def table(head: list[str], rows: list[list[Any]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell(value) for value in line) + " |" for line in lines)


def code(value: Any) -> str:
    """A value as one writes it."""
    return f"`{value:g}`" if isinstance(value, float) else f"`{value!r}`"


def parts_of(text: str) -> tuple[str, str, str]:
    """A formula's docstring as (meaning, formula, source)."""
    flat = re.sub(r"\n(?=\w+: )", "\n\n", text)
    before, _, source = flat.partition("Source: ")
    paragraphs = [" ".join(part.split()) for part in before.strip().split("\n\n")]
    own = [part for part in paragraphs[1:] if not _ENTRY.match(part)]
    return paragraphs[0], " ".join(own), " ".join(source.split())


def aliases(name: str, table_of: dict[str, str]) -> str:
    return ", ".join(f"`{alias}`" for alias, meant in table_of.items() if meant == name)


def arguments(function: Any) -> str:
    """A table of what a function or class takes, from its docstring and signature; what it takes as **name is not in
    it."""
    rows = []
    known = inspect.signature(function).parameters
    for name, said in entries(doc(function)):
        if name in known and known[name].kind is not inspect.Parameter.VAR_KEYWORD:
            default = known[name].default
            shown = "" if default is inspect.Parameter.empty else code(default)
            rows.append([f"`{name}`", said, shown])
    return table(["argument", "meaning", "default"], rows)


def optimizers() -> str:
    rows = []
    for name, cls in OPTIMIZERS.items():
        meaning, formula, source = parts_of(doc(cls))
        rows.append([f"`pm.{cls.__name__}`, `{name!r}`", meaning, formula, source])
    return table(["optimizer", "meaning", "formula", "source"], rows)


def hyperparameters() -> str:
    rows = []
    for name in HYPERPARAMETERS:
        owners = [(own, cls) for own, cls in OPTIMIZERS.items() if name in hyperparameter_names(cls)]
        defaults = [f"{own} {code(getattr(cls, name))}" for own, cls in owners]
        switch = isinstance(getattr(owners[0][1], name), bool)
        rows.append([f"`{name}`", "`True` or `False`" if switch else hyperparameter_range(name), ", ".join(defaults)])
    return table(["hyperparameter", "values", "default"], rows)


def values_of(option: Option) -> str:
    if option.choices:
        return ", ".join(f"`{choice}`" for choice in option.choices)
    return "`True` or `False`" if option.limits is None else str(option.limits)


def options() -> str:
    rows = [
        [f"`{name}`", option.meaning, option.formula, values_of(option), code(option.default), option.source]
        for name, option in OPTIONS.items()
    ]
    return table(["option", "meaning", "formula", "values", "default", "source"], rows)


def losses() -> str:
    rows = []
    for name, loss in LOSSES.items():
        if loss.registered:
            continue
        meaning, _, source = parts_of(doc(type(loss)))
        own = [f for f in fields(loss) if f.init and f.default is not MISSING]
        given = ", ".join(f"`{f.name}` = {code(f.default)}" for f in own)
        names = ", ".join(x for x in (f"`{name!r}`", aliases(name, LOSS_ALIASES)) if x)
        rows.append([f"`pm.{type(loss).__name__}`, {names}", meaning, given, loss.targets, source])
    return table(["loss", "formula", "parameters and defaults", "targets", "source"], rows)


def activations() -> str:
    rows = []
    for name, activation in ACTIVATIONS.items():
        kinks = ", ".join(f"{kink:g}" for kink in activation.kinks)
        rows.append([f"`{name}`", aliases(name, ACTIVATION_ALIASES), kinks])
    return table(["activation", "also called", "kinks"], rows)


def initializers() -> str:
    rows = []
    for name, entry in INITIALIZERS.items():
        scale = f"{entry.weight_scale(100, 50):.4g}"
        rows.append([f"`{name}`", aliases(name, INITIALIZER_ALIASES), entry.distribution, scale])
    return table(["initializer", "also called", "distribution", "its scale at 100 inputs and 50 outputs"], rows)


def page() -> str:
    return f"""# Knobs

Everything that can be set, with its meaning, formula, default and source. This page is drawn from the code by
`python docs/draw_knobs.py`; a test holds it to the code.

The backends {BACKEND_NAMES} have all of it, and the same tests hold each of them to an oracle that shares no code with
them. On the reference backend formulas are NumPy or CuPy, on the Numba backend machine code made from the same text.

## A member's own

`pm.Member` takes them one by one; `pm.grid` and `pm.sample` as choices and distributions.

{arguments(pm.Member)}

## Options of a member

By name, as the fields above: `pm.Member(hidden=32, dropout=0.1)`, `pm.grid(dropout=[0.0, 0.1])`. At their defaults
they cost nothing: what a pool doesn't use isn't compiled.

{options()}

## Optimizers

{optimizers()}

## Hyperparameters of optimizers

{hyperparameters()}

## Losses

A pool has one. Derivations: [there](derivations.md#losses); one of your own: `pm.register_loss`.

{losses()}

## Activations

Formulas and derivatives: [derivations](derivations.md#activations); one of your own: `pm.register_activation`.

{activations()}

## Initializers

Formulas: [derivations](derivations.md#initial-weights).

{initializers()}

## Arguments of a pool

{arguments(pm.Pool)}

## Arguments of `fit` and `partial_fit`

{arguments(pm.Pool.fit)}

`partial_fit` also takes `members`, the ids of those to train while all others rest. Those that early stopping or a
callback stopped go on when they are named.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="only say whether the page is up to date")
    drawn = page()
    if parser.parse_args().check:
        if not PAGE.exists() or PAGE.read_text(encoding="utf-8") != drawn:
            sys.exit(f"{PAGE.name} is out of date: python docs/draw_knobs.py")
        return
    PAGE.write_text(drawn, encoding="utf-8")
    print(f"written to {PAGE}")


if __name__ == "__main__":
    main()
