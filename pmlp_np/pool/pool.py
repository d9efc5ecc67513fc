"""Pool: thousands of members as one object, which trains, predicts and is saved."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from pmlp_np import backends
from pmlp_np.backends.contract import SHUFFLES
from pmlp_np.base import checks, interrupts
from pmlp_np.base.archive import write_archive
from pmlp_np.base.errors import DataError, compose, show
from pmlp_np.base.exclusion import alone, require_whole
from pmlp_np.base.table import Table
from pmlp_np.data.dataset import Dataset
from pmlp_np.data.index_sets import Sets, sets_of
from pmlp_np.data.labels import kept_names, require_equal_names, require_names
from pmlp_np.formulas import random
from pmlp_np.formulas.losses import Loss, as_loss
from pmlp_np.models.ensemble import Ensemble
from pmlp_np.models.mlp import MLP
from pmlp_np.pool.contents import Contents
from pmlp_np.pool.divergence import OTHERS, diverged, refuse_diverged, say_diverged
from pmlp_np.pool.file_format import arrays_of, header_of
from pmlp_np.pool.fit_arguments import FitArguments, PartialFitArguments, takes
from pmlp_np.pool.held_members import require_room
from pmlp_np.pool.leaderboard import leaderboard
from pmlp_np.pool.prediction import Predicting
from pmlp_np.specs.members import Member, Specs, as_specs
from pmlp_np.specs.storage import COLUMNS, require_sound
from pmlp_np.state.plan import Plan
from pmlp_np.state.progress import DIVERGED, READY, STOPPED, STOPPED_EARLY
from pmlp_np.state.training_state import TrainingState
from pmlp_np.training.fit_data import fit_data, watch_of
from pmlp_np.training.loop import train
from pmlp_np.training.settings import Settings


class Pool(Predicting):
    """Many MLPs that train side by side, each as if it were alone.

    specs: what the members are: `pm.grid(...)`, `pm.sample(...)`, a `pm.Member` or a list of them.
    n_features: columns of X.
    n_outputs: values or classes to predict. Default 1.
    loss: a name, or an object with parameters. On values: "squared_error" (default), "absolute_error", "huber",
        "quantile", "poisson", "gaussian_nll", which are pm.SquaredError(), pm.AbsoluteError(), pm.Huber(delta=1.0),
        pm.Quantile(levels=(0.1, 0.5, 0.9)), pm.Poisson(), pm.GaussianNLL(). On labels: "cross_entropy", which is
        pm.CrossEntropy(label_smoothing=0.0); on several labels at once "binary_cross_entropy",
        pm.BinaryCrossEntropy(label_smoothing=0.0). All but cross-entropy take output_weight=(...), a number for each
        output. Or one that pm.register_loss has entered. As an attribute its name, with parameters where they are not
        the defaults.
    seed: 0 ... 2**64 - 1, from which initial weights and orders of rows are drawn. Default 0.
    backend: "numba" (default), "cupy" (an NVIDIA GPU, with the same bits), "reference", or "auto".
    dtype: "float32" (default) or "float64": what weights are kept and computed in.
    ids: labels of the members, distinct whole numbers. Default 0, 1, 2, ... A member's draws depend on the pool's seed
        and its id (or on its own seed), never on its place.
    device: "cpu" or "gpu". Default: the CPU, for backend="cupy" the GPU. The reference backend runs on both.

    Raises SpecError, DataError, and MemoryNeededError where the parameters would not fit, before anything is allocated.

    ids_: (n_members,) int64, the id at each place of axis 0.
    feature_names_in_: names of the columns of X, (n_features,) objects, where fit was given a data frame whose columns
        are all named by strings; else None. A frame that comes in later must have these names, in this order; arrays
        have none, and are taken by position.
    history_: curves (n_members, n_epochs) float32 by name, NaN where untrained: "loss" (mean minibatch loss before each
        update), "validation_loss", "validation_score", and "validation_r2" for metric "r2".
    ended_: how the last training ended: "done", "stopped" (by a callback), "time budget", "interrupted", or "" before
        any.
    """

    def __init__(
        self,
        specs: Specs | Member | Sequence[Member],
        n_features: int,
        n_outputs: int = 1,
        loss: str | Loss = "squared_error",
        seed: int = 0,
        backend: str = "numba",
        dtype: Any = "float32",
        ids: Any = None,
        device: str | None = None,
    ) -> None:
        specs = as_specs(specs)
        require_sound({name: getattr(specs, name) for name in COLUMNS})
        chosen = as_loss(loss)
        checks.whole("n_features", n_features, 1)
        checks.whole("n_outputs", n_outputs, 2 if chosen.targets == "labels" else 1)
        chosen.check_outputs(int(n_outputs))
        checks.whole("seed", seed, 0, 2**64)
        (name, place), ids = backends.check(backend, device), checks.ids(ids, len(specs))
        keys = random.stream_keys(int(seed), ids)
        keys[specs.has_seed] = random.seeded_keys(specs.seed[specs.has_seed])
        order_key = np.full(len(specs), random.order_key(int(seed)), np.uint64)
        plan = Plan(specs, int(n_features), int(n_outputs), chosen, checks.dtype(dtype), keys, order_key)
        require_room(plan)
        self._hold(Contents.untrained(plan, ids, name, place))

    # Training.

    @alone
    @takes(FitArguments)
    def fit(self, arguments: FitArguments) -> Pool:
        """Train all members from their initial weights. Returns self.

        X: (n_samples, n_features), anything NumPy understands; used in place where rows are contiguous and of the
            pool's dtype. Of a data frame the names of columns are kept (`feature_names_in_`). Refused are masked
            entries, sparse matrices, tensors with a gradient, and columns whose values a cast to the pool's dtype could
            no longer tell apart.
        y: values (n_samples,) or (n_samples, n_outputs); for cross-entropy class numbers 0 ... n_outputs - 1; for
            binary cross-entropy numbers from 0 to 1.
        epochs: passes over the rows per member. Default 1.
        batch_size: rows per minibatch, of members whose spec names none; the last minibatch of an epoch may be smaller.
        shuffle: the order of rows in each epoch: "shared" (default), one for all members; "member", each its own; None,
            as the rows lie.
        validation_data: (X, y) or (X, y, sample_weight), evaluated after each epoch.
        early_stopping: whether a member leaves when its validation loss (or `monitor`) no longer improves; its best
            weights are kept beside its last, and are what predictions use by default. Default False.
        patience: epochs without a value better than the best, after which a member leaves. Default 10.
        min_delta: by how much more than this a value must be better. Default 0.0.
        time_budget: seconds after which training ends, between minibatches. Default None.
        progress: show a bar on stderr, or a notebook's own; "auto" (default): on a terminal or in a notebook, when it
            takes longer than a moment.
        n_threads: threads to use, at most as many as there are cores. Default: all cores, or $NUMBA_NUM_THREADS.
        metrics: computed on the validation data after each epoch, by scikit-learn's names: of values "r2", "rmse",
            "mae"; of classes and labels "accuracy", "balanced_accuracy", "f1", "roc_auc", "log_loss". Default: none.
        monitor: what decides: "loss", "score" or one of `metrics`. Best epochs and early stopping follow it, and the
            leaderboard ranks by it. Default None: they follow the validation loss, and the loss's own score ranks.
        callbacks: functions that are called with a `pm.EpochEnd` after each epoch, and may stop members or training.
            One that raises ends training like Ctrl-C, and its exception goes on. Default: none.
        on_interrupt: what Ctrl-C does. Training ends between minibatches, and the pool keeps what it learned; then fit
            returns and says so on stderr ("keep", default), or raises KeyboardInterrupt ("raise"), which ends a loop of
            fits, too. A second press in the same fit, or within two seconds in another, raises in any case.

        Each member may see data of its own; nothing is copied per member, and what members share is kept once.

        rows: the rows that each member trains on: one array of row numbers (repeats count) or one mask (n_samples,) per
            member, the same for as many as you like; or an array (n_members, k) or mask (n_members, n_samples). A
            member gets the bits of training alone on X[its rows]. Rows are counted as they lie; pandas labels that say
            otherwise are refused. Default: all rows for all.
        features: the columns of X that each member reads, likewise. Predictions still take all columns. Default: all.
        targets: each member's own targets instead of y (which is None then): (n_members, n_samples) or (n_members,
            n_samples, n_outputs).
        sample_weight: how much each row counts in the loss, (n_samples,) or (n_members, n_samples), finite and at least
            0; scaled to mean 1 over the member's rows. A row of weight 0 may have any target, NaN included.
        class_weight: for cross-entropy, a dict from classes to weights (1 where it has none), or "balanced": inversely
            proportional to how often a class comes among the member's rows of weight above 0. It multiplies
            sample_weight, in training alone.
        validation_rows: the rows of X that each member is validated on, as `rows`, with their sample_weight; instead of
            validation_data.

        Ctrl-C is left alone in other threads than the main one, and where SIGINT has another handler than Python's own.
        A validation that it cuts short is done when training goes on. While a pool is trained it can predict and, in
        callbacks, be saved and copied; calls that would change it raise DataError.
        Raises DataError and MemoryNeededError before training starts.
        """
        X, settings = arguments.X, arguments.settings()
        plan = replace(self._plan, features=self._feature_sets(arguments.features), names=kept_names(X))
        self._refuse_given_that_do_not_fit(plan)
        if plan.names is not None and self._given_names is not None:
            require_names(self._given_names, X, source="mlp.feature_names_in_")
        own = arguments.own_data()
        data, validation = fit_data(plan, self.ids_, X, arguments.y, arguments.validation_data, own, settings)
        with interrupts.fitting(settings.on_interrupt):
            self._hold(self._contents().started_afresh(plan))
            return self._train(data, validation, settings, np.ones(len(self), bool))

    @alone
    @takes(PartialFitArguments)
    def partial_fit(self, arguments: PartialFitArguments) -> Pool:
        """Train each member for `epochs` epochs more, from where it stands. Arguments as for `fit`. Returns self.

        members: ids of those to train, which go on even where they had stopped; all others rest. Data and weights are
            given of all members as ever. Default None: members that stopped early go on unless `early_stopping` is on,
            those that a callback stopped rest, and so do diverged ones.

        Optimizers keep their state. Schedules go on, too: one without `schedule_epochs` is as long as the member's
        first call, so that all later calls stand at the end of one_cycle, linear and coslog4 (learning_rate times
        final_rate_factor, 0 by default, of coslog4 always 0: nothing more is learned), and in another cycle of cosine.
        For a loop of calls, give the specs schedule_epochs, the epochs of the whole loop less the warm-up.

        An epoch that a budget or Ctrl-C cut short is finished first, and counts as one. It begins anew where this call
        has another batch size, shuffle, or other data for the member (X, y, rows, weights; told by their contents).

        Best weights: a member that is trained on without validation data predicts with what it learned last, as if it
        had never had any. With other validation data than before, the best weights so far are measured on them first,
        and are replaced by better ones with or without `early_stopping`. Members that rest keep theirs, and so do those
        that diverge here before any callback is called.

        Raises DataError also for ids in `members` that are not here, or have diverged.
        """
        X, members, settings = arguments.X, arguments.members, arguments.settings()
        if arguments.features is not None and self._feature_sets(arguments.features) != self._plan.features:
            hint = "A member reads the features that it began with; fit starts afresh."
            raise DataError(compose("features", "those that fit was given, or None", "others", hint))
        plan, first = self._plan, not self._progress.step.any()
        if first and plan.names is None:
            plan = replace(plan, names=kept_names(X))
        asked, status = np.ones(len(self), bool), self._progress.status
        if members is not None:
            positions = self._positions(members)
            hint = "set_weights gives a member new weights, and fit begins anew with all."
            refuse_diverged("members", self.ids_[positions[status[positions] == DIVERGED]],
                            "members that have not diverged, to train on", hint)  # fmt: skip
            asked = np.isin(self._everyone, positions)
        own = arguments.own_data()
        data, validation = fit_data(plan, self.ids_, X, arguments.y, arguments.validation_data, own, settings, first)
        with interrupts.fitting(settings.on_interrupt):
            self._plan = plan
            if members is not None:
                self._go_on(asked & ((status == STOPPED_EARLY) | (status == STOPPED)))
            elif not settings.early_stopping:
                self._go_on(status == STOPPED_EARLY)
            return self._train(data, validation, settings, asked)

    def _go_on(self, stopped: np.ndarray) -> None:
        """Have these members (a mask), which had stopped, go on: they wait for something better from now on."""
        self._progress.status[stopped] = READY
        self._records.waits_from[stopped] = np.maximum(
            self._records.waits_from[stopped], self._progress.epoch[stopped] - 1
        )

    def _feature_sets(self, features: Any) -> Sets | None:
        return None if features is None else sets_of(features, self.ids_, self.n_features, "features", "feature")

    def _refuse_given_that_do_not_fit(self, plan: Plan) -> None:
        """Weights that set_weights gave to a member must be for as many features as it now reads."""
        fan_in = np.broadcast_to(plan.fan_in, len(self))
        for position, (weights, _) in self._given.items():
            if len(weights[0]) != fan_in[position]:
                name = f"features of member {self.ids_[position]}"
                expected = f"{len(weights[0])}, as the weights that set_weights gave it"
                raise DataError(compose(name, expected, str(fan_in[position])))

    def _train(self, rows: Dataset, validation: Dataset | None, settings: Settings, asked: np.ndarray) -> Pool:
        counts = rows.counts(len(self))
        own, most = self.specs.batch_size, int(counts.max())
        batch_size = np.minimum(np.where(own > 0, own, min(settings.batch_size, most)), counts)
        try:
            with interrupts.abandoning():
                backend = self._ready()
        except interrupts.Abandoned:
            self.ended_ = "interrupted"
            return self
        self._kept_best = self._kept_best or settings.early_stopping
        self.ended_ = "interrupted"
        healthy = self._progress.status != DIVERGED
        watch = watch_of(self._plan, settings)
        state = TrainingState.start(self._progress, asked, settings.epochs, batch_size, SHUFFLES[settings.shuffle])
        self.ended_ = train(
            backend, state, self._records, watch, rows, validation, settings, self.ids_, self._kept_best
        )  # fmt: skip
        say_diverged(self.ids_[healthy & (self._progress.status == DIVERGED)], len(self))
        return self

    # Looking.

    def leaderboard(self) -> Table:
        """Members from best to worst, as a list of plain records; `to_pandas()` makes a data frame, printing a table.

        Ranked by the validation score or what `fit` was told to monitor (ties: validation loss), where there is one,
        else by the training loss; members without are last, in pool order. Figures are those of the best epoch where
        early stopping kept it, else of the last. All validation figures are of the validation data given last, on which
        earlier weights were measured again; `history_` keeps what was measured in its time.

        Keys: rank, id, architecture, hidden, activation, optimizer, learning_rate, parameters, epochs, minibatch (done
        of the epoch under way), status, loss, validation_loss, metric (what ranks: the score's name, or the monitored),
        validation_score (its value), best_epoch (counted from 1; 0: none; None where best weights are not kept);
        then one for each metric that was computed, as "validation_r2".
        """
        return leaderboard(self._plan, self._progress, self._records, self.ids_, self._kept_best)

    # Members in and out.

    def ensemble(self, ids: Any, weights: Any = None) -> Ensemble:
        """The mean of these members as one model that needs NumPy alone: of values, or of probabilities.

        ids: of the members, in this order; one that is named twice counts twice.
        weights: how much each counts, numbers at least 0, scaled to sum 1. Default None: all the same.

        Members are taken as `extract` takes them. Raises DataError for ids that are not here or of members that
        diverged, and for weights that fit no ensemble.
        """
        positions = self._positions(ids)
        lost = diverged(self._progress, self._records, self._checked_weights(None))[positions]
        expected = "members that have not diverged, to take a mean of"
        refuse_diverged("ids", self.ids_[positions[lost]], expected, f"Those that did not: {OTHERS}.")
        return Ensemble([self.extract(id) for id in self.ids_[positions].tolist()], weights)

    @alone
    def set_weights(self, id: int, mlp: MLP) -> None:
        """Give the member with this id the weights of `mlp`, now and as its initial weights; it starts afresh.

        Raises DataError where widths, activations, biases or names of columns are not the member's. A pool that has not
        trained, and has no names yet, takes those of `mlp`.
        """
        (position,) = self._positions([id])
        if not isinstance(mlp, MLP):
            hint = "Make one with pm.MLP(weights, biases)."
            raise DataError(compose(f"mlp for member {id}", "a pm.MLP", show(mlp), hint))
        # Names of a table of other columns, of which the member reads some, say nothing here.
        theirs = mlp._names if mlp.n_features == self.n_features else None
        # Made anew, and so checked and copied: its arrays may have been changed since it was made.
        mlp = MLP(mlp.weights, mlp.biases if mlp.bias else None, mlp.activation)
        member = self.specs[position]
        names = member.activation if isinstance(member.activation, tuple) else (member.activation,) * len(member.hidden)
        fan_in = int(np.broadcast_to(self._plan.fan_in, len(self))[position])
        expected = (fan_in, *member.hidden, self._plan.n_raw_outputs), names, member.bias
        got = (len(mlp.weights[0]), *mlp.hidden, mlp.n_raw_outputs), mlp.activation, mlp.bias
        if got != expected:

            def text(widths: tuple[int, ...], names: tuple[str, ...], bias: bool) -> str:
                shown = "-".join(map(str, widths)), "/".join(names) or "linear", "with" if bias else "no"
                return "widths {}, {}, {} biases".format(*shown)

            raise DataError(compose(f"mlp for member {id}", text(*expected), text(*got)))
        with np.errstate(over="ignore"):
            weights = [w.astype(self.dtype) for w in mlp.weights]
            biases = [b.astype(self.dtype) for b in mlp.biases] if mlp.bias else []
        given = weights, biases
        for array in (*weights, *biases):
            if not np.isfinite(array).all():
                raise DataError(compose(f"mlp for member {id}", f"finite {self.dtype} weights", "NaN or infinity"))
        columns = require_equal_names(self._plan.names, theirs, f"columns of mlp for member {id}", "the pool")
        if theirs is not None:
            self._given_names = theirs
            if not self._progress.step.any():
                self._plan = replace(self._plan, names=columns)
        self._given[int(position)] = given
        self._ready().store.write(int(position), *given)
        if self._kept_best:
            self._ready().store.keep(np.array([position]))
        self._progress.restart(int(position))
        self._records.forget(int(position))

    def subset(self, ids: Any) -> Pool:
        """A pool of these members, in this order, with their ids, keys, weights, optimizer state, history and
        status."""
        require_whole("subset", self._trainer)
        positions = self._positions(ids)
        if len(np.unique(positions)) != len(positions):
            raise DataError(compose("ids", "each id once", show(ids)))
        return Pool._of(self._contents().take(positions))

    # Files.

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the pool, with all that training needs to go on, to a file. It is replaced as a whole or not at all."""
        require_whole("save", self._trainer)
        backend = self._ready()
        if self._kept_best and backend.store.best is None:
            backend.store.keep(self._everyone)
        contents = self._contents()
        write_archive(path, "pool", header_of(contents), arrays_of(contents, backend.store))
