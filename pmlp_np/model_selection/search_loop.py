"""The search: a portfolio first, then neighbors of what the ensemble picked, until time is over."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pmlp_np.base.errors import DataError, compose
from pmlp_np.model_selection.clock import Clock
from pmlp_np.model_selection.configurations import Configuration, portfolio
from pmlp_np.model_selection.folds import missing_classes
from pmlp_np.model_selection.halving import cost, train_by_halving
from pmlp_np.model_selection.scoring import Scoring
from pmlp_np.model_selection.search_checkpoints import Decided, SearchFolder
from pmlp_np.model_selection.search_memory import within_memory
from pmlp_np.model_selection.search_outcome import ensemble, out_of_fold, selected
from pmlp_np.model_selection.search_problem import Problem
from pmlp_np.model_selection.search_result import SearchResult
from pmlp_np.model_selection.search_settings import Settings
from pmlp_np.model_selection.targets import CLASSIFICATION, REGRESSION
from pmlp_np.model_selection.trials import Trial, epochs_done, evaluated, multiply_adds, train
from pmlp_np.pool.checkpoints import CheckpointError

# Epochs of a configuration grow with the root of the epochs that time allows: some more configurations, some longer.
_EPOCHS = {True: (30, 250, 15.0), False: (24, 120, 8.0)}
# Configurations of a later round, how many the pilot measures, and on how many rows of a large table.
_ROUND, _PILOT, _PILOT_ROWS = 16, 4, 4096
# The share of the time for the first round, if the whole portfolio does not fit.
_FIRST_ROUND = 0.6
# The share of the time after which a pilot must have been compiling.
_SLOW_START = 0.35
# More configurations would be picked for what they happen to be good at.
_MOST_TRIALS = 96


@dataclass
class Search:
    """A search under way: what was tried, and what is to be tried next."""

    problem: Problem
    settings: Settings
    clock: Clock
    trials: list[Trial] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    ended: str = "done"
    folder: SearchFolder | None = None

    def __post_init__(self) -> None:
        known = portfolio(self.problem.targets.task != REGRESSION, len(self.problem.wide))
        space = self.settings.space
        self.queue = list(known)
        if space is not None:
            self.queue = space.candidates(
                known[0], self.settings.seed, self._most_trials() * (self.settings.halving or 1)
            )
        self.scoring = Scoring.of(self.settings.metric, self.problem.targets, *self.problem.validated)
        if self.problem.targets.task == CLASSIFICATION:
            classes = self.problem.targets.classes.tolist()
            self.notes += missing_classes(self.problem.folds, self.problem.prepared, classes)
        self.draw = np.random.default_rng([self.settings.seed, 1])
        self.weights = np.zeros(0)

    def run(self) -> SearchResult:
        """Search until time is over, all is tried, or Ctrl-C; return what was found."""
        self._drop_duplicates()
        decided = None if self.folder is None else self.folder.begin(self.problem, self.settings, self.queue)
        if decided is None:
            planned = self._planned_epochs()
            self._mix_a_grid(planned)
        else:
            planned = decided.planned
            self._go_on(decided)
        try:
            self._rounds(planned, None if decided is None else decided.current)
        except KeyboardInterrupt:
            # Between two fits; what was trained before is kept.
            if not self.trials:
                raise
            self.ended = "interrupted"
        return self._result()

    def _go_on(self, decided: Decided) -> None:
        """Stand where an earlier process stood."""
        assert self.folder is not None
        self.queue, self.notes, self.draw.bit_generator.state = decided.queue, decided.notes, decided.draw
        of_round = 0.0 if decided.current is None else self.folder.seconds_of_round()
        self.clock.go_on(decided.spent + of_round, decided.rate)
        self.trials = self.folder.trials(self.problem)
        if self.trials:
            self._select()
        if self.trials and decided.current is None and not self.queue:
            self._queue_neighbors()

    def _decided(self, planned: int, current: tuple[list[Configuration], list[int]] | None) -> Decided:
        state = dict(self.draw.bit_generator.state)
        return Decided(planned, self.queue, state, self.clock.spent(), self.clock.rate, self.notes, current)

    def _rounds(self, planned: int, current: tuple[list[Configuration], list[int]] | None) -> None:
        """Train what time allows, round by round, until nothing is left or Ctrl-C.

        current: a round that an earlier process has begun.
        """
        while (self.queue or current) and self.ended != "interrupted":
            batch, epochs = current or self._next_batch(planned)
            if not batch:
                break
            if self.folder is not None and current is None:
                self.folder.begin_round(self._decided(planned, (batch, epochs)))
            current, before = None, len(self.trials)
            halve = self.settings.halving is not None and len(batch) >= self.settings.halving
            ended = self._halve(batch, epochs) if halve else self._train(batch, epochs)
            if ended != "done":
                # What was cut short may go on in another process.
                break
            if self.folder is not None:
                self.folder.end_round(self.trials[before:], self._decided(planned, None))
            if not self.queue:
                self._queue_neighbors()

    @property
    def _n_folds(self) -> int:
        return len(self.problem.folds)

    def _most_trials(self) -> int:
        most, space = self.settings.max_members, self.settings.space
        if most is not None:
            return max(1, int(most) // self._n_folds)
        listed = space is not None and space.is_finite and hasattr(self, "queue")
        return len(self.queue) + len(self.trials) if listed else _MOST_TRIALS

    def _room(self) -> int:
        """Return how many more configurations may be tried."""
        whole = sum(not trial.stopped for trial in self.trials)
        return self._most_trials() - (whole if self.settings.max_members is None else len(self.trials))

    def _mix_a_grid(self, planned: int) -> None:
        """Try a grid in random order if not all of it can be tried, so that no choice is left out for its place."""
        space = self.settings.space
        if space is None or not space.parts or not space.is_finite:
            return
        need = sum(self._seconds(c, planned) for c in self.queue)
        if len(self.queue) > self._most_trials() or need > self.clock.left():
            self.queue = [self.queue[i] for i in self.draw.permutation(len(self.queue))]

    def _seconds(self, configuration: Configuration, planned: int) -> float:
        """Return the seconds that a configuration takes, at the measured speed."""
        return self.clock.seconds(multiply_adds(self.problem, configuration, self._epochs_of(configuration, planned)))

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
        head, problem = self.queue[:_PILOT], self.problem.sample(_PILOT_ROWS)
        for share in (0.25, 0.15):
            left = self.clock.left()
            how = self.settings.how | {"time_budget": max(0.02, share * left), "progress": False}
            pool, seconds = train(problem, head, [1] * len(head), self.settings.seed, how)
            if pool.ended_ == "interrupted":
                # Nothing is known yet that could be kept.
                raise KeyboardInterrupt
            if seconds > _SLOW_START * left:
                self.notes.append(
                    f"the first {seconds:.0f} of {self.clock.budget:g} seconds went by compiling, which a machine does "
                    "once: another search has them for training"
                )
            done = sum(record["epochs"] for record in pool.leaderboard()) / len(pool)
            self.clock.measured(done * sum(multiply_adds(problem, c, 1) for c in head), seconds)
            if done < 1.0:
                # It was cut off: there is no time for a second look.
                return

    def _epochs_of(self, configuration: Configuration, planned: int) -> int:
        epochs, most = max(1, round(planned * configuration.epochs)), self.settings.max_epochs
        return epochs if most is None else min(epochs, int(most))

    def _next_batch(self, planned: int) -> tuple[list[Configuration], list[int]]:
        """Take from the queue what time allows next, and the epochs of each."""
        tried, room = len(self.trials), self._room()
        if room <= 0:
            return [], []
        epochs = [self._epochs_of(c, planned) for c in self.queue]
        need = [self._seconds(c, planned) for c in self.queue]
        left = self.clock.left()
        allowed = left
        if not tried and sum(need) > left:
            allowed = max(_FIRST_ROUND * left, min(left, 1.05 * need[0]))
        if not tried and need[0] > left:
            # Not the cheap ones instead: the first one, with fewer epochs.
            allowed = 0.0
        chosen = self._fitting(need, allowed, min(room, self._round() if tried else len(need)))
        chosen = within_memory(self.problem, self.queue, chosen)
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

    def _fitting(self, need: list[float], allowed: float, most: int) -> list[int]:
        """Return the numbers of configurations, in order, whose seconds fit in what is allowed, by halving or not."""
        share = self._cost(min(most, len(need)))
        while True:
            chosen: list[int] = []
            left = allowed
            for i, seconds in enumerate(need):
                if share * seconds <= left and len(chosen) < most:
                    chosen.append(i)
                    left -= share * seconds
            # Fewer of them are cut less often, and cost more.
            if self._cost(len(chosen)) <= share:
                return chosen
            share = self._cost(len(chosen))

    def _cost(self, n: int) -> float:
        """Return what training of n configurations costs, as a share of training them all to their last epoch."""
        halving = self.settings.halving
        return 1.0 if halving is None or n < halving else cost(n, halving)

    def _round(self) -> int:
        """Return the most configurations of a later round."""
        return _ROUND * (self.settings.halving or 1)

    def _train(self, batch: list[Configuration], epochs: list[int]) -> str:
        """Train configurations. Returns how it ended."""
        how = self.settings.how | {"time_budget": self.clock.until_end()}
        more: dict[str, Any] = {}
        seconds = 0.0
        if self.folder is not None:
            more = {"checkpoint": self.folder.round_folder(), "checkpoint_every": self.folder.every}
            seconds = self.folder.seconds_of_round()
        seed = self.settings.seed + 1 + len(self.trials)
        try:
            pool, own = train(self.problem, batch, epochs, seed, how, **more)
        except CheckpointError as error:
            assert self.folder is not None
            self.folder.fail(str(error))
            pool, own = train(self.problem, batch, epochs, seed, how)
        seconds += own
        done = epochs_done(pool).sum() / (sum(epochs) * self._n_folds)
        total = sum(multiply_adds(self.problem, c, e) for c, e in zip(batch, epochs, strict=True))
        self.clock.measured(done * total, seconds)
        self.trials += evaluated(self.problem, pool, batch, epochs, seconds)
        self._note_end(pool.ended_)
        return pool.ended_

    def _halve(self, batch: list[Configuration], epochs: list[int]) -> str:
        """Train configurations by halving. Returns how it ended."""

        def losses(trials: Sequence[Trial]) -> np.ndarray:
            found = self.scoring.losses(out_of_fold(trials), *self.problem.validated)
            return np.where([trial.finite for trial in trials], found, np.inf)

        assert self.settings.halving is not None
        trials, seconds, ended = train_by_halving(
            self.problem, batch, epochs, self.settings.seed + 1 + len(self.trials), self.settings.how,
            self.settings.halving, losses, self.clock.until_end,
        )  # fmt: skip
        self.clock.measured(sum(multiply_adds(self.problem, t.configuration, t.epochs) for t in trials), seconds)
        self.trials += trials
        self._note_end(ended)
        return ended

    def _note_end(self, ended: str) -> None:
        """Note how the training of a round ended, and select."""
        if ended == "interrupted":
            self.ended = "interrupted"
        self._select()

    def _select(self) -> None:
        self.weights = selected(self.problem, self.scoring, self.trials, self.settings.select)

    def _queue_neighbors(self) -> None:
        if self.settings.space is not None:
            return
        chosen = self.draw.choice(len(self.trials), self._round(), p=self.weights)
        self.queue = [self.trials[i].configuration.near(self.draw) for i in chosen]
        self._drop_duplicates()

    def _result(self) -> SearchResult:
        if not any(trial.finite for trial in self.trials):
            hint = "Try smaller learning rates."
            raise DataError(compose("space", "configurations that can be trained on this table", "all diverged", hint))
        if len(self.weights) != len(self.trials):
            self._select()
        model, mean = ensemble(self.problem, self.trials, self.weights)
        return SearchResult(self.problem, tuple(self.trials), self.weights, model, mean, tuple(self.notes),
                            self.ended, self.clock.spent(), self.scoring, self.settings.select)  # fmt: skip
