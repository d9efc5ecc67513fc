"""The search: a portfolio first, then neighbors of what the ensemble picked, until time is over."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pmlp_np.base import checks
from pmlp_np.base.errors import DataError, compose, show
from pmlp_np.data.preprocessing.raw_table import raw_columns
from pmlp_np.model_selection.calibration import Spread, best_temperature, log_loss_of
from pmlp_np.model_selection.clock import Clock
from pmlp_np.model_selection.configurations import Configuration, portfolio
from pmlp_np.model_selection.ensemble_selection import LogLosses, Objective, SquaredErrors, chooser
from pmlp_np.model_selection.search_problem import Problem
from pmlp_np.model_selection.search_result import SearchResult
from pmlp_np.model_selection.table_model import TableModel, tempered
from pmlp_np.model_selection.targets import CLASSIFICATION, REGRESSION
from pmlp_np.model_selection.trials import Trial, evaluated, multiply_adds, train
from pmlp_np.pool.pool import Pool

# Epochs of a configuration grow with the root of the epochs that time allows: some more configurations, some longer.
_EPOCHS = {True: (30, 250, 15.0), False: (24, 120, 8.0)}
# Configurations of a later round, and how many the pilot measures.
_ROUND, _PILOT = 16, 4
# The share of the time for the first round, if the whole portfolio does not fit.
_FIRST_ROUND = 0.6
# The share of the time after which a pilot must have been compiling.
_SLOW_START = 0.35
# Temperatures that are tried for probabilities.
_TEMPERATURES = tuple(float(t) for t in np.round(np.exp(np.linspace(-0.5, 0.9, 29)), 4)) + (1.0,)
_BATCH_SIZE = 64
# More configurations would be picked for what they happen to be good at.
_MOST_TRIALS = 96


@dataclass(frozen=True)
class Settings:
    """Arguments of a search, checked. See `search` for their meaning."""

    time_budget: float | None = 60.0
    max_members: int | None = None
    max_epochs: int | None = None
    select: str | int = "greedy"
    batch_size: int = _BATCH_SIZE
    n_threads: int | None = None
    seed: int = 0
    progress: bool | str = "auto"
    configurations: Sequence[Configuration] | None = None

    def __post_init__(self) -> None:
        budget = self.time_budget
        if budget is not None and not (checks.is_number(budget) and 0.0 < budget < float("inf")):
            raise DataError(compose("time_budget", "seconds, above 0, or None", show(budget)))
        for name in ("max_members", "max_epochs"):
            value = getattr(self, name)
            if value is not None and not (checks.is_whole(value) and int(value) >= 1):
                raise DataError(compose(name, "a whole number, at least 1, or None", show(value)))
        if budget is None and self.max_members is None:
            hint = "Say max_members= where there is no time_budget."
            raise DataError(compose("max_members", "a number of members", "None", hint))
        checks.whole("seed", self.seed, 0, 2**63)
        chooser(self.select)

    @property
    def how(self) -> dict[str, Any]:
        """Return the arguments of `fit` that every pool has."""
        return {
            "batch_size": self.batch_size, "n_threads": self.n_threads, "progress": self.progress,
            "on_interrupt": "keep",
        }  # fmt: skip


@dataclass
class Search:
    """A search under way: what was tried, and what is to be tried next."""

    problem: Problem
    settings: Settings
    clock: Clock
    trials: list[Trial] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    ended: str = "done"

    def __post_init__(self) -> None:
        classes = self.problem.targets.task != REGRESSION
        given = self.settings.configurations
        self.queue = list(portfolio(classes, len(self.problem.wide)) if given is None else given)
        self.draw = np.random.default_rng([self.settings.seed, 1])
        self.weights = np.zeros(0)

    # Training.

    def run(self) -> SearchResult:
        """Search until time is over, all is tried, or Ctrl-C; return what was found."""
        self._drop_duplicates()
        planned = self._planned_epochs()
        while self.queue and self.ended != "interrupted":
            batch, epochs = self._next_batch(planned)
            if not batch:
                break
            self._train(batch, epochs)
            if not self.queue:
                self._queue_neighbors()
        return self._result()

    @property
    def _n_folds(self) -> int:
        return len(self.problem.folds)

    def _most_trials(self) -> int:
        most = self.settings.max_members
        return _MOST_TRIALS if most is None else max(1, int(most) // self._n_folds)

    def _drop_duplicates(self) -> None:
        """Leave out configurations that would read the same inputs as an earlier one of the same kind."""
        seen: set[tuple[Any, ...]] = set()
        kept = []
        for configuration in self.queue:
            inputs = tuple(self.problem.inputs_of(configuration.view, 0).tolist())
            key = (inputs, configuration.epochs, tuple(sorted((k, str(v)) for k, v in configuration.member.items())))
            if inputs and key not in seen:
                seen.add(key)
                kept.append(configuration)
        self.queue = kept

    def _planned_epochs(self) -> int:
        """Return the epochs of a configuration whose share is 1."""
        least, most, ratio = _EPOCHS[self.problem.targets.task == REGRESSION]
        given = self.settings.max_epochs
        if self.clock.budget is None:
            return int(given or most)
        self._pilot()
        head = self.queue[: 2 * _PILOT]
        each = float(np.mean([multiply_adds(self.problem, c, 1) for c in head]))
        capacity = max(self.clock.left(), 0.0) / self.clock.seconds(each)
        planned = int(np.clip(np.sqrt(capacity * ratio), min(least, max(capacity, 1.0)), most))
        return max(1, min(planned, int(given)) if given else planned)

    def _pilot(self) -> None:
        """Train the first configurations for an epoch: once to compile what is missing, once to measure."""
        head = self.queue[:_PILOT]
        for share in (0.25, 0.15):
            left = self.clock.left()
            how = self.settings.how | {"time_budget": max(0.02, share * left), "progress": False}
            pool, seconds = train(self.problem, head, [1] * len(head), self.settings.seed, how)
            if seconds > _SLOW_START * left:
                self.notes.append(
                    f"the first {seconds:.0f} of {self.clock.budget:g} seconds went by compiling, which a machine does "
                    "once: another search has them for training"
                )
            done = sum(record["epochs"] for record in pool.leaderboard()) / len(pool)
            self.clock.measured(done * sum(multiply_adds(self.problem, c, 1) for c in head), seconds)
            if done < 1.0:
                # It was cut off: there is no time for a second look.
                return

    def _epochs_of(self, configuration: Configuration, planned: int) -> int:
        return max(1, round(planned * configuration.epochs))

    def _next_batch(self, planned: int) -> tuple[list[Configuration], list[int]]:
        """Take from the queue what time allows next, and the epochs of each."""
        tried, room = len(self.trials), self._most_trials() - len(self.trials)
        if room <= 0:
            return [], []
        epochs = [self._epochs_of(c, planned) for c in self.queue]
        need = [self.clock.seconds(multiply_adds(self.problem, c, e)) for c, e in zip(self.queue, epochs, strict=True)]
        left = self.clock.left()
        allowed = left
        if not tried and sum(need) > left:
            allowed = max(_FIRST_ROUND * left, min(left, 1.05 * need[0]))
        if not tried and need[0] > left:
            # Not the cheap ones instead: the first one, with fewer epochs.
            allowed = 0.0
        chosen: list[int] = []
        for i, seconds in enumerate(need):
            if seconds <= allowed and len(chosen) < min(room, _ROUND if tried else len(need)):
                chosen.append(i)
                allowed -= seconds
        if not chosen:
            i = int(np.argmin(need)) if tried else 0
            shorter = int(epochs[i] * left / need[i])
            if shorter < max(1, epochs[i] // 2 if tried else 1):
                if tried:
                    return [], []
                self.notes.append("the time budget is too short for one epoch: one configuration was trained in part")
                shorter = 1
            chosen, epochs[i] = [i], min(shorter, epochs[i])
        batch, lengths = [self.queue[i] for i in chosen], [epochs[i] for i in chosen]
        self.queue = [c for i, c in enumerate(self.queue) if i not in set(chosen)]
        return batch, lengths

    def _train(self, batch: list[Configuration], epochs: list[int]) -> None:
        how = self.settings.how | {"time_budget": self.clock.until_end()}
        pool, seconds = train(self.problem, batch, epochs, self.settings.seed + 1 + len(self.trials), how)
        done = self._share_done(pool, epochs)
        total = sum(multiply_adds(self.problem, c, e) for c, e in zip(batch, epochs, strict=True))
        self.clock.measured(done * total, seconds)
        self.trials += evaluated(self.problem, pool, batch, epochs, seconds)
        if pool.ended_ == "interrupted":
            self.ended = "interrupted"
        self._select()

    def _share_done(self, pool: Pool, epochs: list[int]) -> float:
        by_id = {record["id"]: record["epochs"] for record in pool.leaderboard()}
        return sum(by_id.values()) / (sum(epochs) * self._n_folds)

    def _queue_neighbors(self) -> None:
        if self.settings.configurations is not None:
            return
        chosen = self.draw.choice(len(self.trials), _ROUND, p=self.weights)
        self.queue = [self.trials[i].configuration.near(self.draw) for i in chosen]
        self._drop_duplicates()

    # Selection.

    def _out_of_fold(self) -> np.ndarray:
        return np.stack([trial.out_of_fold for trial in self.trials])

    def _select(self) -> None:
        problem, validated = self.problem, self.problem.folds.validated
        weights = None if problem.weights is None else problem.weights[validated]
        found, targets = self._out_of_fold(), problem.prepared[validated]
        if problem.targets.task == REGRESSION:
            objective: Objective = SquaredErrors(found, targets, weights)
        else:
            objective = LogLosses(likelihoods(found, targets, problem.targets.task), _by_label(weights, found))
        self.weights = chooser(self.settings.select)(objective)

    # The result.

    def _result(self) -> SearchResult:
        problem, targets = self.problem, self.problem.targets
        used = np.flatnonzero(self.weights)
        out_of_fold = np.tensordot(self.weights[used], self._out_of_fold()[used].astype(np.float64), 1)
        prepared = problem.prepared[problem.folds.validated]
        spread, temperature = None, 1.0
        if targets.task == REGRESSION:
            each = self._out_of_fold()[used].astype(np.float64)
            between = np.tensordot(self.weights[used], np.square(each - out_of_fold), 1)
            spread = Spread.learn(prepared - out_of_fold, between)
        else:
            losses = {
                t: log_loss_of(tempered(out_of_fold, t, targets.task), prepared, targets.task) for t in _TEMPERATURES
            }
            temperature = best_temperature(losses)
            out_of_fold = tempered(out_of_fold, temperature, targets.task)
        model = TableModel(
            problem.views, problem.blocks, targets, self._members(used), self.weights[used], spread, temperature
        )
        return SearchResult(problem, tuple(self.trials), self.weights, model, out_of_fold, tuple(self.notes),
                            self.ended, self.clock.spent())  # fmt: skip

    def _members(self, used: np.ndarray) -> tuple[tuple[Pool, np.ndarray], ...]:
        """Return a pool and ids of the members of these trials: of each pool only those."""
        pools = {id(self.trials[i].pool): self.trials[i].pool for i in used}
        kept = {}
        for key, pool in pools.items():
            ids = [self.trials[i].ids for i in used if id(self.trials[i].pool) == key]
            kept[key] = pool.subset(np.concatenate(ids))
        return tuple((kept[id(self.trials[i].pool)], self.trials[i].ids) for i in used)


def likelihoods(p: np.ndarray, targets: np.ndarray, task: str) -> np.ndarray:
    """Return the probability that each candidate gives to the targets: (candidates, rows), or rows times labels.

    p: (candidates, rows, outputs). targets: numbers of classes, or labels (rows, outputs).
    """
    if task == CLASSIFICATION:
        return np.asarray(p[:, np.arange(len(targets)), targets])
    return np.where(targets == 1.0, p, 1.0 - p).reshape(len(p), -1)


def _by_label(weights: np.ndarray | None, found: np.ndarray) -> np.ndarray | None:
    """Repeat weights of rows for each label, where likelihoods are of labels."""
    n = found.shape[1]
    if weights is None:
        return None
    return weights if len(weights) == n else np.repeat(weights, found.shape[2])


def search(
    X: Any,
    y: Any,
    space: Sequence[Configuration] | None = None,
    task: str | None = None,
    time_budget: float | None = 60.0,
    cv: Any = None,
    groups: Any = None,
    sample_weight: Any = None,
    max_members: int | None = None,
    max_epochs: int | None = None,
    select: str | int = "greedy",
    batch_size: int = _BATCH_SIZE,
    n_threads: int | None = None,
    seed: int = 0,
    progress: bool | str = "auto",
) -> SearchResult:
    """Search for the best ensemble of multi-layer perceptrons on a table.

    A portfolio of configurations is trained first, as much of it as time allows, then neighbors of those that the
    ensemble picked. A configuration is a member for each fold; it is evaluated by predictions of rows that the member
    has not seen, and predicts the mean of its members. No row is set aside, and nothing is trained again at the end.

    X: an array or data frame (n_samples, n_features). Columns are numbers, dates or categories by their dtype; cells
        may be missing.
    y: values or classes (n_samples,), or values or labels 0 and 1 (n_samples, n_outputs).
    space: configurations to try instead of the portfolio and neighbors, in this order. Default None.
    task: "regression", "classification" or "multilabel". Default None: as y suggests.
    time_budget: seconds for all of it. Default 60. None: no clock; then the result is the same anywhere.
    cv: number of folds, an object with `split` as scikit-learn's, or pairs of row numbers (training, validation).
        Default None: 10 folds for few rows, down to 4.
    groups: (n_samples,) labels of rows that stay in one fold. Default None.
    sample_weight: (n_samples,) weight of each row, in training and selection. Default None: equal weights.
    max_members: the most members to train; needed without a time budget. max_epochs: the most epochs of a member.
    select: "greedy" forward selection with replacement (default), "all", "best", or a number of the best.
    batch_size: rows per minibatch. Default 64. n_threads, progress: as for `Pool.fit`.
    seed: of folds, initial weights, and neighbors. Default 0.

    Ctrl-C ends the search with what it has. Raises DataError before any training.
    """
    settings = Settings(
        time_budget, max_members, max_epochs, select, batch_size, n_threads, seed, progress,
        None if space is None else tuple(space),
    )  # fmt: skip
    clock = Clock(time_budget)
    problem = Problem.of(raw_columns(X), y, task, cv, groups, sample_weight, seed)
    return Search(problem, settings, clock).run()
