"""Write docs/knobs.md, all hyperparameters and options, from the code: tables, docstrings and signatures.

python docs/draw_knobs.py            # writes docs/knobs.md
python docs/draw_knobs.py --check    # exits with an error if the page is out of date
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
# Without "auto", which chooses one of them.
BACKEND_NAMES = ", ".join(f"`{name}`" for name in BACKENDS)
_ENTRY = re.compile(r"^(\w+): (.*)$")


def entries(text: str) -> Iterator[tuple[str, str]]:
    """Yield (argument, description) of a docstring's entries, in order."""
    name, description = "", ""
    for line in [*text.splitlines(), ""]:
        entry = _ENTRY.match(line)
        if name and (entry or not line.startswith("    ")):
            yield name, description
            name = ""
        if entry:
            name, description = entry[1], entry[2]
        elif name:
            description += " " + line.strip()


def doc(value: Any) -> str:
    return inspect.getdoc(value) or ""


def cell(text: Any) -> str:
    return str(text).replace("|", "\\|").replace("\n", " ").strip()


def table(head: list[str], rows: list[list[Any]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell(value) for value in line) + " |" for line in lines)


def code(value: Any) -> str:
    """Return a value as Python code."""
    return f"`{value:g}`" if isinstance(value, float) else f"`{value!r}`"


def parts_of(text: str) -> tuple[str, str, str]:
    """Return a formula's docstring as (meaning, formula, source)."""
    flat = re.sub(r"\n(?=\w+: )", "\n\n", text)
    before, _, source = flat.partition("Source: ")
    paragraphs = [" ".join(part.split()) for part in before.strip().split("\n\n")]
    formulas = [part for part in paragraphs[1:] if not _ENTRY.match(part)]
    return paragraphs[0], " ".join(formulas), " ".join(source.split())


def aliases(name: str, table_of: dict[str, str]) -> str:
    return ", ".join(f"`{alias}`" for alias, target in table_of.items() if target == name)


def arguments(function: Any) -> str:
    """Return a table of the arguments of a function or class, except **kwargs, from its docstring and signature."""
    rows = []
    known = inspect.signature(function).parameters
    for name, description in entries(doc(function)):
        if name in known and known[name].kind is not inspect.Parameter.VAR_KEYWORD:
            default = known[name].default
            shown = "" if default is inspect.Parameter.empty else code(default)
            rows.append([f"`{name}`", description, shown])
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
        owners = [(owner, cls) for owner, cls in OPTIMIZERS.items() if name in hyperparameter_names(cls)]
        defaults = [f"{owner} {code(getattr(cls, name))}" for owner, cls in owners]
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
        parameters = [f for f in fields(loss) if f.init and f.default is not MISSING]
        defaults = ", ".join(f"`{f.name}` = {code(f.default)}" for f in parameters)
        names = ", ".join(x for x in (f"`{name!r}`", aliases(name, LOSS_ALIASES)) if x)
        rows.append([f"`pm.{type(loss).__name__}`, {names}", meaning, defaults, loss.targets, source])
    return table(["loss", "formula", "parameters and defaults", "targets", "source"], rows)


def activations() -> str:
    rows = []
    for name, activation in ACTIVATIONS.items():
        kinks = ", ".join(f"{kink:g}" for kink in activation.kinks)
        rows.append([f"`{name}`", aliases(name, ACTIVATION_ALIASES), kinks])
    return table(["activation", "aliases", "kinks"], rows)


def initializers() -> str:
    rows = []
    for name, entry in INITIALIZERS.items():
        scale = f"{entry.weight_scale(100, 50):.4g}"
        rows.append([f"`{name}`", aliases(name, INITIALIZER_ALIASES), entry.distribution, scale])
    return table(["initializer", "aliases", "distribution", "scale with 100 inputs and 50 outputs"], rows)


def page() -> str:
    return f"""# Hyperparameters and options

All hyperparameters and options, with meaning, formula, default and source. `python docs/draw_knobs.py` writes this page
from the code; a test checks that it is up to date.

The backends {BACKEND_NAMES} support all of them. The same tests compare each backend with an oracle that shares no code
with the library. The reference backend evaluates formulas with NumPy or CuPy; the Numba backend compiles the same
formulas to machine code.

## Hyperparameters of a member

`pm.Member` takes values; `pm.grid` and `pm.sample` take choices and distributions.

{arguments(pm.Member)}

## Options of a member

Options are keyword arguments, like the fields above: `pm.Member(hidden=32, dropout=0.1)`,
`pm.grid(dropout=[0.0, 0.1])`. At their defaults they cost nothing: unused options are not compiled.

{options()}

## Optimizers

{optimizers()}

## Hyperparameters of optimizers

{hyperparameters()}

## Losses

A pool has one loss. See the [derivations](derivations.md#losses). For custom losses use `pm.register_loss`.

{losses()}

## Activations

See the [derivations](derivations.md#activations) for formulas and derivatives. For custom activations use
`pm.register_activation`.

{activations()}

## Initializers

See the [derivations](derivations.md#initial-weights) for formulas.

{initializers()}

## Arguments of a pool

{arguments(pm.Pool)}

## Arguments of `fit` and `partial_fit`

{arguments(pm.Pool.fit)}

`partial_fit` also takes `members`, the ids of the members to train; the others are not trained. Members that were
stopped by early stopping or a callback continue if their ids are in `members`.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="exit with an error if the page is out of date")
    drawn = page()
    if parser.parse_args().check:
        if not PAGE.exists() or PAGE.read_text(encoding="utf-8") != drawn:
            sys.exit(f"{PAGE.name} is out of date: python docs/draw_knobs.py")
        return
    PAGE.write_text(drawn, encoding="utf-8")
    print(f"written to {PAGE}")


if __name__ == "__main__":
    main()
