"""docs/mutants.md, drawn from the list and the results.

python -m tests.mutants.page            # writes docs/mutants.md
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import groupby
from pathlib import Path
from typing import Any

from .listing import ROOT, Mutant, load, load_results
from .trial import CAUGHT, HUNG, NOTICED

PAGE = ROOT / "docs" / "mutants.md"
_LONGEST = 50
_HEAD = ["what is broken, and why that matters", "in", "noticed by", "seconds"]


def cell(text: str) -> str:
    return text.replace("|", "\\|")


def link(path: str, shown: str = "") -> str:
    """A file of the checkout, by its name."""
    return f"[{shown or Path(path).name}](../{path})"


def noticed_by(result: Mapping[str, Any]) -> str:
    """The test that failed, or what else there is to say."""
    if result["outcome"] == CAUGHT:
        file, _, test = result["test"].partition("::")
        name, bracket, parameters = test.partition("[")
        # Of parameters that are whole sentences the name of the test is enough.
        return f"{link(file)} `::{name}{bracket + parameters if len(parameters) <= _LONGEST else ''}`"
    return "the time limit: it never ends" if result["outcome"] == HUNG else f"**{result['outcome']}**"


def row(mutant: Mutant, result: Mapping[str, Any] | None) -> str:
    found = ["**not run**", ""] if result is None else [noticed_by(result), f"{result['seconds']:.1f}"]
    cells = [f"**{mutant.name}.** {mutant.says}", link(mutant.path()), *found]
    return "| " + " | ".join(cell(text) for text in cells) + " |"


def page(mutants: list[Mutant], results: Mapping[str, Mapping[str, Any]]) -> str:
    """The page's text."""
    known = [results[mutant.name] for mutant in mutants if mutant.name in results]
    noticed = sum(result["outcome"] in NOTICED for result in known)
    dates = sorted({str(result["date"]) for result in known}) or ["never"]
    versions = ", ".join(sorted({str(result["version"]) for result in known}))
    took = sum(result["seconds"] for result in known)
    days = dates[0] if len(dates) == 1 else f"{dates[0]} to {dates[-1]}"
    rooms = [
        "\n".join([f"## {title}\n", "| " + " | ".join(_HEAD) + " |", "|" + "---|" * len(_HEAD)]
                  + [row(mutant, results.get(mutant.name)) for mutant in some])
        for title, some in groupby(mutants, key=lambda mutant: mutant.room)
    ]  # fmt: skip
    return (
        f"""# Mutants

Would the tests notice? Each line below is a mutant: a copy of the library in which one thing is broken, of the kind
that people get wrong. Each names the test that must fail, and it does, for the right reason: a check in the named file
fails, and nothing merely crashes. **{noticed} of {len(mutants)} are noticed** (version {versions}, {days};
{took / 60:.0f} minutes of tests in all, most of it compilation).

```bash
make mutants                                     # all of them; writes the results and this page
make mutants MUTANTS_ARGS="--only 'gelu-*'"      # some, by name
make mutants MUTANTS_ARGS=--missing              # those without a result: goes on after an interrupt
```

A mutant runs in a copy of the checkout, which is never touched itself, and compiles into an empty cache: nothing that
was compiled from other sources can stand in for it. First its tests are run with nothing broken, and must pass. One
that runs into the time limit counts as noticed, and is shown as such; one that survives is a finding about the tests,
and makes the run fail. `make test` checks that every mutant still finds the text that it breaks, that the results are
those of the list as it stands, and runs a few for real, other ones each day.

To add one, write it into {link("tests/mutants/mutants.toml")}: the text to break, which must occur once in the package
(else `file` says which file is meant), what it becomes, and the tests that must notice, as narrow as they can be. Then
`--missing`. A mutant that survives asks for a better test, one about what is promised, and not about the mutant.
{link("tests/mutants/page.py")} draws this page from {link("tests/mutants/results.json")}, which holds each failure's
message, too.

"""
        + "\n\n".join(rooms)
        + "\n"
    )


def write() -> None:
    PAGE.write_text(page(load(), load_results()), encoding="utf-8")


if __name__ == "__main__":
    write()
