"""The memory that a search takes, estimated before a table is prepared for it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pmlp_np.data.preprocessing.category_column import MOST_CATEGORIES
from pmlp_np.data.preprocessing.feature_views import BLOCKS, waves_of
from pmlp_np.model_selection.configurations import Configuration
from pmlp_np.model_selection.search_problem import Problem

# Copies of views that the configurations of a round may take, in bytes, but for those of the first one. The same on all
# machines, as rounds must be.
MOST_COPIED = 2 << 30
# Views of which a large first round has copies.
_VIEWS = 6
_NUMBER_BYTES = 4


def bytes_of_search(n_rows: int, n_numeric: int, n_categories: Sequence[int], n_folds: int) -> int:
    """Return about how many bytes a search takes, besides those of its table.

    n_numeric: the number of columns of numbers or dates. n_categories: of each other column, different texts.
    """
    waves = waves_of(n_numeric) if n_numeric else 0
    # Two numbers for each encoded column: see `data.encoded`.
    numbers = {"raw": 1, "quant": 1, "per": waves, "ple": 2, "ple8": 2}
    assert set(numbers) == set(BLOCKS)
    of_column = [min(n, MOST_CATEGORIES) for n in n_categories]
    inputs = sum(of_column)
    wide = sum(n > MOST_CATEGORIES for n in n_categories)
    whole = n_numeric * sum(numbers.values()) + inputs + n_folds * wide
    # A view of numbers, what all members read, and for each fold another one where it has means of the target.
    read = n_numeric * (numbers["per"] + numbers["raw"] + numbers["ple"]) + inputs + wide
    one = n_rows * _NUMBER_BYTES * read * (n_folds if wide else 1)
    # The wide matrix, once more for predictions, and a column's inputs as float64, twice.
    matrices = n_rows * (2 * _NUMBER_BYTES * whole + 16 * max([*of_column, waves]))
    return matrices + max(one, min(MOST_COPIED, _VIEWS * one))


def within_memory(problem: Problem, queue: Sequence[Configuration], chosen: Iterable[int]) -> list[int]:
    """Return those of the chosen configurations of a queue, by number, whose copies of views are not too many."""
    kept: list[int] = []
    views: set[str] = set()
    for i in chosen:
        more = views | {queue[i].view}
        if not kept or more == views or problem.copied_bytes(more) <= MOST_COPIED:
            kept.append(i)
            views = more
    return kept
