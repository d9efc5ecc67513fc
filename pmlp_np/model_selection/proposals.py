"""Proposals: what to try next, for those who train and score by other means: ask, and tell."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from pmlp_np.base import checks
from pmlp_np.base.errors import DataError, compose, listed, show
from pmlp_np.base.table import Table
from pmlp_np.model_selection.configurations import Configuration, portfolio
from pmlp_np.model_selection.space import Space
from pmlp_np.model_selection.targets import REGRESSION, TASKS

# Neighbors are those of so many of the best.
_BEST = 8


class Proposals:
    """Configurations to try, and what became of them.

    task: "regression", "classification" or "multilabel".
    space: as for `pm.search`. Default None: a search's own portfolio, then neighbors of the best so far.
    n_samples: number of rows, from which the portfolio's order follows. Default 1000.
    greater_is_better: whether larger scores are better. Default False: scores are losses.
    seed: of draws. Default 0.

    `ask(n)` returns the next n, `tell(ids, scores)` says how good they were, `records()` has all of them. With the same
    seed and the same scores the same configurations are proposed. Raises DataError or SpecError for bad arguments.

        proposals = pm.Proposals("classification")
        for id, configuration in proposals.ask(20):
            proposals.tell([id], [len(configuration.hidden)])
    """

    def __init__(
        self, task: str, space: Any = None, n_samples: int = 1000, greater_is_better: bool = False, seed: int = 0
    ) -> None:
        if task not in TASKS:
            raise DataError(compose("task", "one of " + ", ".join(map(repr, TASKS)), show(task)))
        checks.whole("n_samples", n_samples, 1, 2**63)
        if not isinstance(greater_is_better, (bool, np.bool_)):
            raise DataError(compose("greater_is_better", "True or False", show(greater_is_better)))
        self._space = None if space is None else Space.of(space)
        self._seed = checks.whole("seed", seed, 0, 2**63)
        self._grows = bool(greater_is_better)
        self._known = portfolio(task != REGRESSION, n_samples)
        self._asked: list[Configuration] = []
        self._scores: dict[int, float] = {}
        if self._space is not None:
            # So that what can't be trained is refused now.
            self._space.candidates(self._known[0], self._seed, 1)

    def ask(self, n: int = 1) -> list[tuple[int, Configuration]]:
        """Return the next n configurations, each with an id; fewer where a space of lists is used up.

        Without a space, what follows the portfolio are neighbors of the best that scores were told of; as long as there
        are none, of the portfolio's.
        """
        checks.whole("n", n, 1)
        first = len(self._asked)
        end = first + int(n)
        if self._space is not None:
            self._asked += self._space.candidates(self._known[0], self._seed, end)[first:end]
        else:
            self._asked += self._known[first:end]
            self._asked += [self._neighbor(number) for number in range(len(self._asked), end)]
        return list(enumerate(self._asked))[first:]

    def tell(self, ids: Sequence[int], scores: Sequence[float]) -> None:
        """Say how good configurations were.

        ids: of configurations. scores: one for each; NaN: it failed, and no neighbor of it is proposed.
        A score that was told before is replaced. Raises DataError for an id that `ask` did not return.
        """
        numbers, values = checks.whole_array(ids), checks.numbers("scores", scores).astype(np.float64)
        if numbers is None or numbers.ndim != 1:
            raise DataError(compose("ids", "ids that ask returned, (n,)", show(ids)))
        unknown = numbers[(numbers < 0) | (numbers >= len(self._asked))]
        if len(unknown):
            raise DataError(
                compose("ids", f"ids that ask returned, below {len(self._asked)}", listed(unknown.tolist()))
            )
        if values.shape != numbers.shape:
            raise DataError(compose("scores", f"{len(numbers)} numbers, one for each id", f"shape {values.shape}"))
        self._scores |= dict(zip(numbers.tolist(), values.tolist(), strict=True))

    def records(self) -> Table:
        """Return a record of each configuration that was asked for, best first, those without a score last.

        Keys: id, configuration (in words), score (None: none yet), view, epochs, and the arguments of its members.
        """
        scored = set(self._ranked())
        order = [*self._ranked(), *(i for i in range(len(self._asked)) if i not in scored)]
        records = [
            {"id": i, "configuration": c.text(), "score": self._scores.get(i), "view": c.view, "epochs": c.epochs}
            | dict(c.member)
            for i, c in ((i, self._asked[i]) for i in order)
        ]
        return Table(records, ("id", "configuration", "score", "epochs"))

    def _ranked(self) -> list[int]:
        """Return the ids with a score that is a number, best first; ties: the earlier one."""
        found = [i for i, score in self._scores.items() if score == score]
        return sorted(found, key=lambda i: (-self._scores[i] if self._grows else self._scores[i], i))

    def _neighbor(self, number: int) -> Configuration:
        """Return a neighbor of one of the best; the better it is, the likelier."""
        draw = np.random.default_rng([self._seed, 3, number])
        best = [self._asked[i] for i in self._ranked()[:_BEST]] or list(self._known[:_BEST])
        likely = 1.0 / np.arange(1, len(best) + 1)
        return best[int(draw.choice(len(best), p=likely / likely.sum()))].near(draw)
