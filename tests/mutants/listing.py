"""The list of mutants, and what is known of them: mutants.toml and results.json."""

from __future__ import annotations

import hashlib
import json
import random
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
LIST = Path(__file__).parent / "mutants.toml"
RESULTS = Path(__file__).parent / "results.json"
# How long a sample may take, going by the seconds that its mutants took when all of them ran.
SAMPLE_SECONDS = 10.0


@dataclass(frozen=True)
class Mutant:
    """One thing to break.

    room: what it is about. name: words joined by hyphens. says: what is broken, and why that matters. file: where, from
    the root. old: text that occurs there exactly once; new: what it becomes. tests: pytest's ids of the tests of which
    one must fail.
    """

    room: str
    name: str
    says: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]

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

    def broken(self, root: Path) -> str:
        """The file's text with the change. ValueError where the old text doesn't occur exactly once."""
        text = (root / self.file).read_text(encoding="utf-8")
        count = text.count(self.old)
        if count != 1:
            raise ValueError(f"{self.name}: its old text occurs {count} times in {self.file}, expected once")
        return text.replace(self.old, self.new)


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
    chosen: list[Mutant] = []
    for mutant in sorted(quick, key=lambda mutant: mutant is not next(m for m in quick if "backends/numba" in m.file)):
        if sum(results[m.name]["seconds"] for m in (*chosen, mutant)) <= seconds:
            chosen.append(mutant)
    return chosen
