"""Checkpoints of a search: its finished rounds, and the round under way, in a folder.

    run/search.pmlp      what was decided so far, and which data and arguments it is about: an archive without arrays
    run/round-0-0.pmlp   the pools of finished rounds, as `Pool.save` writes them
    run/round-1/         the round under way: the checkpoints of its fit (see `pool.checkpoints`)

A search goes on by its own means: what it has decided is read, pools are loaded, and predictions out of fold are made
again, which gives the same bits. Rounds of halving begin again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np

from pmlp_np.base import checks
from pmlp_np.base.archive import MISFITS, open_archive, unfit, write_archive
from pmlp_np.base.console import say
from pmlp_np.base.errors import DataError, FileFormatError, compose, listed, show
from pmlp_np.base.persistence import kind_of
from pmlp_np.model_selection.configurations import Configuration
from pmlp_np.model_selection.scoring import CustomMetric
from pmlp_np.model_selection.search_problem import Problem
from pmlp_np.model_selection.search_settings import Settings
from pmlp_np.model_selection.trials import Trial, evaluated
from pmlp_np.pool.checkpoints import LOCK, CheckpointError, remove_run, seconds_of
from pmlp_np.pool.files import load
from pmlp_np.pool.pool import Pool

FILE = "search.pmlp"
_KIND = "search"
_PLAIN = (str, bool, int, float, type(None))
_OF_TRIAL = {"configuration", "pool", "epochs", "seconds", "stopped"}


def has_search(folder: Any) -> bool:
    """Return whether there is a search in a folder to go on with."""
    return isinstance(folder, (str, os.PathLike)) and (Path(os.fsdecode(folder)) / FILE).is_file()


@dataclass
class Decided:
    """What a search has decided so far.

    planned: epochs of a configuration whose share is 1. queue: what is to be tried next. draw: the state of the
    generator that neighbors are drawn with. spent, rate: of the clock. current: (configurations, epochs) of the round
    under way, or None. rounds: of each finished one, what its pools and trials are.
    """

    planned: int
    queue: list[Configuration]
    draw: dict[str, Any]
    spent: float
    rate: float
    notes: list[str]
    current: tuple[list[Configuration], list[int]] | None = None
    rounds: list[list[dict[str, Any]]] = field(default_factory=list)


class SearchFolder:
    """The folder of a search. every: seconds between two checkpoints of a round."""

    def __init__(self, path: Path, every: float) -> None:
        self.path, self.every = path, every
        self._about: dict[str, str] = {}
        self._rounds: list[list[dict[str, Any]]] = []
        self._broken = False

    # Going on.

    def begin(self, problem: Problem, settings: Settings, queue: Sequence[Configuration]) -> Decided | None:
        """Note what the search is about; return what an earlier process has decided, None where it begins.

        queue: what is to be tried, before anything is drawn. Raises DataError for another search than that of the
        folder, FileFormatError for a file that is damaged.
        """
        self._about = {
            "X, y, cv, groups or sample_weight": _fingerprint(problem),
            "the arguments of the search": _hash(_of_settings(settings)),
            "space, or this version's portfolio": _hash([_plain(each) for each in queue]),
        }
        file = self.path / FILE
        if kind_of(file) is None:
            # Files of others could be taken for those of a round.
            others = sorted(each.name for each in self.path.iterdir() if each.name != LOCK and each.name[0] != ".")
            if others:
                got = f"{self.path} with {listed(others)}"
                raise CheckpointError(compose("checkpoint", "an empty folder to begin a search in", got))
            return None
        with open_archive(file, _KIND) as archive:
            try:
                about = archive.header["about"]
                for name, found in self._about.items():
                    if about[name] != found:
                        hint = "A search goes on with what it began with; only time_budget and n_threads may change."
                        raise DataError(compose("checkpoint", f"a search with the same {name}", "another", hint))
                decided = _decided_of(archive.header)
            except FileFormatError as error:
                raise FileFormatError(f"{archive.name}, {error}") from error
            except DataError:
                raise
            except MISFITS as error:
                raise unfit(file, "a search", error) from error
        self._rounds = decided.rounds
        for k in range(len(self._rounds)):
            # A kill came just before it was removed.
            remove_run(self.path / f"round-{k}")
        return decided

    def trials(self, problem: Problem) -> list[Trial]:
        """Return the trials of the finished rounds. Raises FileFormatError for files that are not the search's."""
        found: list[Trial] = []
        for k, records in enumerate(self._rounds):
            trials: dict[int, Trial] = {}
            for p in sorted({record["pool"] for record in records}):
                own = [i for i, record in enumerate(records) if record["pool"] == p]
                try:
                    trials |= zip(own, self._trials_of(problem, k, p, [records[i] for i in own]), strict=True)
                except FileFormatError:
                    raise
                except MISFITS as error:
                    raise unfit(self._pool_file(k, p), "a pool of the search", error) from error
            found += [trials[i] for i in range(len(records))]
        return found

    def _trials_of(self, problem: Problem, number: int, p: int, records: Sequence[dict[str, Any]]) -> list[Trial]:
        """Return the trials of a pool of a round."""
        path = self._pool_file(number, p)
        if kind_of(path) is None:
            raise FileFormatError(compose(f"file {self.path / FILE}", f"{path.name} beside it", "none of that name"))
        pool = load(path)
        chosen = [_configuration_of(record["configuration"]) for record in records]
        trials = evaluated(problem, pool, chosen, [max(1, record["epochs"]) for record in records], 0.0)
        return [
            replace(trial, seconds=float(record["seconds"]), stopped=bool(record["stopped"]))
            for trial, record in zip(trials, records, strict=True)
        ]

    # The round under way.

    def begin_round(self, decided: Decided) -> None:
        """Write what was decided, with the round that begins now. Raises DataError where it is the first one."""
        if not self._broken:
            self._write(decided, first=not self._rounds)

    def round_folder(self) -> Path | None:
        """Return the folder for the checkpoints of the round under way; None where checkpoints have failed."""
        return None if self._broken else self.path / f"round-{len(self._rounds)}"

    def seconds_of_round(self) -> float:
        """Return the seconds that the round under way has trained for in earlier processes."""
        folder = self.round_folder()
        return 0.0 if folder is None else seconds_of(folder)

    def end_round(self, trials: Sequence[Trial], decided: Decided) -> None:
        """Write the pools and the trials of a round that has ended."""
        folder = self.round_folder()
        if folder is None:
            return
        k, pools = len(self._rounds), list({id(trial.pool): trial.pool for trial in trials}.values())
        number = {id(pool): p for p, pool in enumerate(pools)}
        try:
            for p, pool in enumerate(pools):
                ids = np.concatenate([trial.ids for trial in trials if trial.pool is pool])
                self._members(pool, ids).save(self._pool_file(k, p))
        except OSError as error:
            self.fail(error.strerror or str(error))
            return
        self._rounds.append([
            {
                "configuration": _plain(trial.configuration), "pool": number[id(trial.pool)], "epochs": trial.epochs,
                "seconds": trial.seconds, "stopped": trial.stopped,
            }
            for trial in trials
        ])  # fmt: skip
        self._write(decided, first=False)
        remove_run(folder)

    @staticmethod
    def _members(pool: Pool, ids: np.ndarray) -> Pool:
        return pool if np.array_equal(pool.ids_, ids) else pool.subset(ids)

    def _pool_file(self, number: int, pool: int) -> Path:
        return self.path / f"round-{number}-{pool}.pmlp"

    def _write(self, decided: Decided, first: bool) -> None:
        header = {
            "about": self._about, "planned": int(decided.planned), "queue": [_plain(c) for c in decided.queue],
            "draw": decided.draw, "spent": float(decided.spent), "rate": float(decided.rate),
            "notes": decided.notes, "rounds": self._rounds,
            "current": None if decided.current is None else
            [[_plain(c) for c in decided.current[0]], [int(e) for e in decided.current[1]]],
        }  # fmt: skip
        try:
            write_archive(self.path / FILE, _KIND, header, {})
        except OSError as error:
            if first:
                reason = f"{self.path}: {error.strerror or error}"
                raise CheckpointError(compose("checkpoint", "a folder that can be written to", reason)) from error
            self.fail(error.strerror or str(error))

    def fail(self, reason: str) -> None:
        """Go on without checkpoints: later ones would lack this round."""
        self._broken = True
        say(
            f"no checkpoint could be written to {self.path}: {reason}. The search goes on without further ones; what "
            "is there stays"
        )


def _of_settings(settings: Settings) -> dict[str, Any]:
    names = ("max_members", "max_epochs", "select", "batch_size", "seed", "halving")
    metric = settings.metric
    if isinstance(metric, CustomMetric):
        function = metric.function
        metric = [getattr(function, "__module__", ""), getattr(function, "__qualname__", ""), metric.greater_is_better]
    return {name: _as_plain(name, getattr(settings, name)) for name in names} | {"metric": metric}


def _fingerprint(problem: Problem) -> str:
    """Return a hash of what members are trained and evaluated on."""
    hashed = blake2b(digest_size=32)
    weights, targets = np.zeros(0) if problem.weights is None else problem.weights, problem.targets
    in_their_terms = [problem.views.to_plain(), targets.task, targets.classes.tolist(), targets.mean.tolist(),
                      targets.scale.tolist()]  # fmt: skip
    hashed.update(json.dumps(in_their_terms).encode())
    for array in (problem.wide.numbers, problem.prepared, weights, *problem.folds.training, *problem.folds.validation):
        own = np.ascontiguousarray(array)
        hashed.update(f"{own.dtype.str} {own.shape}".encode())
        hashed.update(own.reshape(-1).view(np.uint8).data)
    return hashed.hexdigest()


def _hash(plain: Any) -> str:
    return blake2b(json.dumps(plain, sort_keys=True).encode(), digest_size=32).hexdigest()


def _plain(configuration: Configuration) -> dict[str, Any]:
    """Return a configuration as JSON values."""
    member = {name: _as_plain(name, value) for name, value in configuration.member.items()}
    return {"member": member, "view": configuration.view, "epochs": float(configuration.epochs)}


def _as_plain(name: str, value: Any) -> Any:
    value = value.item() if isinstance(value, np.generic) else value
    if isinstance(value, (list, tuple)):
        return [_as_plain(name, each) for each in value]
    if not isinstance(value, _PLAIN):
        hint = "Name an optimizer, and give its hyperparameters beside it."
        raise DataError(compose(f"space: {name}", "numbers and texts, where there is a checkpoint", show(value), hint))
    return value


def _configuration_of(plain: Any) -> Configuration:
    """Return a configuration from the values of `_plain`, checked as one from a user."""
    member = {name: tuple(value) if isinstance(value, list) else value for name, value in plain["member"].items()}
    found = Configuration(member, plain["view"], plain["epochs"])
    found.check("a configuration of the file")
    return found


def _decided_of(header: Any) -> Decided:
    """Return what was decided, from a header whose archive was whole. Raises FileFormatError, or one of MISFITS."""
    current = header["current"]
    if current is not None:
        configurations, epochs = current
        current = [_configuration_of(c) for c in configurations], [_count("epochs", each) for each in epochs]
        if len(current[0]) != len(current[1]) or not current[0]:
            raise FileFormatError(compose("current", "epochs of each configuration", show(epochs)))
    spent, rate = header["spent"], header["rate"]
    for name, number in (("spent", spent), ("rate", rate)):
        if not checks.is_number(number) or not 0.0 <= number < float("inf"):
            raise FileFormatError(compose(name, "a number, at least 0", show(number)))
    if rate == 0:
        raise FileFormatError(compose("rate", "multiply-adds in a second, above 0", show(rate)))
    notes, rounds = header["notes"], header["rounds"]
    if not isinstance(notes, list) or not all(isinstance(note, str) for note in notes):
        raise FileFormatError(compose("notes", "texts", show(notes)))
    if not isinstance(rounds, list) or not all(isinstance(records, list) and records for records in rounds):
        raise FileFormatError(compose("rounds", "a list of trials for each", show(rounds)))
    for record in (each for records in rounds for each in records):
        _check_trial(record)
    # A generator takes no state that is not one of its own.
    np.random.default_rng().bit_generator.state = header["draw"]
    queue = [_configuration_of(each) for each in header["queue"]]
    planned = _count("planned", header["planned"])
    return Decided(planned, queue, header["draw"], float(spent), float(rate), list(notes), current, rounds)


def _check_trial(record: Any) -> None:
    if not isinstance(record, dict) or set(record) != _OF_TRIAL:
        raise FileFormatError(compose("rounds", f"trials with {', '.join(sorted(_OF_TRIAL))}", show(record)))
    _count("pool", record["pool"], least=0)
    _count("epochs", record["epochs"], least=0)
    _configuration_of(record["configuration"])
    seconds = record["seconds"]
    if not checks.is_number(seconds) or not 0.0 <= seconds < float("inf"):
        raise FileFormatError(compose("seconds", "a number, at least 0", show(seconds)))
    if not isinstance(record["stopped"], bool):
        raise FileFormatError(compose("stopped", "true or false", show(record["stopped"])))


def _count(name: str, value: Any, least: int = 1) -> int:
    if not checks.is_whole(value) or not least <= value < 2**31:
        raise FileFormatError(compose(name, f"a whole number, at least {least}", show(value)))
    return int(value)
