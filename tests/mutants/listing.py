"""The list of mutants, and what is known of them: mutants.toml and results.json."""

from __future__ import annotations

import hashlib
import json
import random
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
LIST = Path(__file__).parent / "mutants.toml"
RESULTS = Path(__file__).parent / "results.json"
# How long a sample may take, going by the seconds that its mutants took when all of them ran.
SAMPLE_SECONDS = 10.0


@cache
def sources(root: Path) -> dict[str, str]:
    """The text of each file of the package, by its path from the root. Read once: every mutant looks through all."""
    files = sorted((root / "pmlp_np").rglob("*.py"))
    return {path.relative_to(root).as_posix(): path.read_text(encoding="utf-8") for path in files}


@dataclass(frozen=True)
class Mutant:
    """One thing to break.

    room: what it is about. name: words joined by hyphens. says: what is broken, and why that matters. old: text that
    occurs exactly once in the package; new: what it becomes. tests: pytest's ids of the tests of which one must fail.
    file: for a text that occurs in several files, the one that is meant, from the root; once in that file.
    """

    room: str
    name: str
    says: str
    old: str
    new: str
    tests: tuple[str, ...]
    file: str = ""

    @property
    def digest(self) -> str:
        """A hash of all that decides the result but the library: a result belongs to one digest.

        Not of the file: a text that moves is the same mutant.
        """
        text = "\0".join((self.old, self.new, *self.tests))
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    @property
    def test_files(self) -> set[str]:
        """The files in which a test must fail."""
        return {test.partition("::")[0] for test in self.tests}

    def path(self, root: Path = ROOT) -> str:
        """The file that holds the old text, from the root. ValueError where the text doesn't occur exactly once."""
        files = sources(root)
        looked_at = {self.file: files.get(self.file, "")} if self.file else files
        counts = {file: text.count(self.old) for file, text in looked_at.items() if self.old in text}
        if sum(counts.values()) != 1:
            where = f" ({', '.join(counts)})" if len(counts) > 1 else ""
            among = self.file or "the package"
            raise ValueError(
                f"{self.name}: its old text occurs {sum(counts.values())} times in {among}, expected once{where}"
            )
        return next(iter(counts))

    def broken(self, root: Path = ROOT) -> str:
        """The text of that file with the change. ValueError as in `path`."""
        return sources(root)[self.path(root)].replace(self.old, self.new)


def load(path: Path = LIST) -> list[Mutant]:
    """All mutants, in the order of the list."""
    with path.open("rb") as file:
        rooms = tomllib.load(file)["room"]
    return [
        Mutant(room["title"], **entry | {"tests": tuple(entry["tests"])}) for room in rooms for entry in room["mutant"]
    ]


def load_results(path: Path = RESULTS) -> dict[str, dict[str, Any]]:
    """The results by name; none where there is no file yet."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def save_results(results: Mapping[str, Mapping[str, Any]], mutants: Iterable[Mutant], path: Path = RESULTS) -> None:
    """Write the results of these mutants, in their order; what else is in `results` is dropped."""
    kept = {mutant.name: results[mutant.name] for mutant in mutants if mutant.name in results}
    draft = path.with_suffix(".tmp")
    draft.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    draft.replace(path)


def is_known(mutant: Mutant, results: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether the mutant as it stands was run."""
    return results.get(mutant.name, {}).get("digest") == mutant.digest


def sample(
    mutants: list[Mutant], results: Mapping[str, Mapping[str, Any]], turn: int, seconds: float = SAMPLE_SECONDS
) -> list[Mutant]:
    """Mutants that together take no longer than this, other ones in each turn; one of compiled code among them."""
    # None takes most of the time: there are to be several.
    shuffled = random.Random(turn).sample(mutants, len(mutants))
    quick = [mutant for mutant in shuffled if results[mutant.name]["seconds"] <= seconds / 2]
    compiled = next(mutant for mutant in quick if "backends/numba" in mutant.path())
    chosen: list[Mutant] = []
    for mutant in sorted(quick, key=lambda mutant: mutant is not compiled):
        if sum(results[m.name]["seconds"] for m in (*chosen, mutant)) <= seconds:
            chosen.append(mutant)
    return chosen
