"""Pool: thousands of members in one object, which trains them, predicts and can be saved."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from pmlp_np import backends
from pmlp_np.base import checks, interrupts
from pmlp_np.base.archive import write_archive
from pmlp_np.base.errors import DataError, compose, show
from pmlp_np.base.exclusion import exclusive, require_no_training
from pmlp_np.base.table import Table
from pmlp_np.data.index_sets import Sets, sets_of
from pmlp_np.data.labels import distinct_names, require_equal_names, require_names
from pmlp_np.formulas import random
from pmlp_np.formulas.losses import Loss, as_loss
from pmlp_np.models.ensemble import Ensemble
from pmlp_np.models.mlp import MLP
from pmlp_np.pool.checkpoints import CheckpointError, check_every, run_folder
from pmlp_np.pool.contents import Contents
from pmlp_np.pool.divergence import OTHERS, diverged, refuse_diverged
from pmlp_np.pool.fit_arguments import FitArguments, PartialFitArguments, takes
from pmlp_np.pool.held_members import require_room
from pmlp_np.pool.leaderboard import leaderboard
from pmlp_np.pool.running import Running
from pmlp_np.pool.sharded import check_client
from pmlp_np.specs.members import Member, Specs, as_specs
from pmlp_np.specs.storage import COLUMNS, require_sound
from pmlp_np.state.plan import Plan
from pmlp_np.state.progress import DIVERGED, READY, RESTING, STOPPED_EARLY
from pmlp_np.training.fit_data import fit_data


class Pool(Running):
    """Many MLPs that train side by side, each as if it were alone.

    specs: the members: `pm.grid(...)`, `pm.sample(...)`, a `pm.Member` or a list of them.
    n_features: number of columns of X.
    n_outputs: number of values or classes to predict. Default 1.
    loss: a name, or an object with parameters. On values: "squared_error" (default), "absolute_error", "huber",
        "quantile", "poisson", "gaussian_nll", which are pm.SquaredError(), pm.AbsoluteError(), pm.Huber(delta=1.0),
        pm.Quantile(levels=(0.1, 0.5, 0.9)), pm.Poisson(), pm.GaussianNLL(). On labels: "cross_entropy", which is
        pm.CrossEntropy(label_smoothing=0.0); on several labels at once "binary_cross_entropy",
        pm.BinaryCrossEntropy(label_smoothing=0.0). All but cross-entropy take output_weight=(...), a number for each
        output. Or a loss of pm.register_loss. The attribute `loss` is the name, with parameters that differ from their
        defaults.
    seed: seed of initial weights, shuffling and dropout, 0 ... 2**64 - 1. Default 0.
    backend: "numba" (default), "cupy" (an NVIDIA GPU, with the same bits), "reference", or "auto": "cupy" where a short
        trial finds a GPU that trains so many members faster, else "numba". The attribute `backend` is the one chosen.
    dtype: dtype of weights and computations, "float32" (default) or "float64".
    ids: labels of the members, distinct whole numbers. Default 0, 1, 2, ... A member's random numbers depend on the
        pool's seed and the member's id (or on the seed in the member's spec), never on its position.
    device: "cpu" or "gpu". Default: the GPU for backend="cupy", otherwise the CPU. The reference backend runs on both.

    Raises SpecError, DataError, and MemoryNeededError if memory is too small for the parameters, before anything is
    allocated.

    ids_: (n_members,) int64, the id at each position of axis 0.
    feature_names_in_: names of the columns of X, (n_features,) objects, if fit got a data frame whose column names are
        all strings; otherwise None. Later frames must have these names, in this order; columns of arrays are taken by
        position.
    history_: curves (n_members, n_epochs) float32 by name, NaN where untrained: "loss" (mean minibatch loss before each
        update), "validation_loss", "validation_score", and "validation_r2" for metric "r2".
    ended_: how the last training ended: "done", "stopped" (by a callback), "time budget", "interrupted", or "" if there
        was none.
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
        asked, ids = backends.check(backend, device), checks.ids(ids, len(specs))
        keys = random.stream_keys(int(seed), ids)
        keys[specs.has_seed] = random.seeded_keys(specs.seed[specs.has_seed])
        order_key = np.full(len(specs), random.order_key(int(seed)), np.uint64)
        plan = Plan(specs, int(n_features), int(n_outputs), chosen, checks.dtype(dtype), keys, order_key)
        require_room(plan)
        self._set_contents(Contents.untrained(plan, ids, *backends.resolve(*asked, plan)))

    # Training.

    @exclusive
    @takes(FitArguments)
    def fit(self, arguments: FitArguments) -> Pool:
        """Train all members from their initial weights. Returns self.

        X: (n_samples, n_features), anything NumPy can convert; not copied if rows are contiguous and of the pool's
            dtype. A data frame's column names are stored (`feature_names_in_`). Masked entries, sparse matrices and
            tensors with a gradient are refused, and so are columns with values that become equal in the pool's dtype.
        y: values (n_samples,) or (n_samples, n_outputs); for cross-entropy class numbers 0 ... n_outputs - 1; for
            binary cross-entropy numbers from 0 to 1.
        epochs: passes over the rows per member, fewer for members with max_epochs in their spec. Default 1.
        batch_size: rows per minibatch, for members without a batch_size in their spec; the last minibatch of an epoch
            may be smaller.
        shuffle: order of rows in each epoch: "shared" (default), the same for all members; "member", a separate order
            for each member; None, no shuffling.
        validation_data: (X, y) or (X, y, sample_weight), evaluated after each epoch.
        early_stopping: whether a member stops when its validation loss (or `monitor`) no longer improves. The member's
            best weights are stored beside its last, and are the default for predictions. Default False.
        patience: epochs without an improvement, after which a member stops. Default 10.
        min_delta: smallest change that counts as an improvement; a value must be better by more. Default 0.0.
        time_budget: seconds after which training ends, between minibatches. Default None.
        progress: whether to show a progress bar, on stderr or in a notebook; "auto" (default): on a terminal or in a
            notebook, if training takes longer than a moment.
        n_threads: number of threads, at most the number of cores. Default: all cores, or $NUMBA_NUM_THREADS.
        metrics: metrics of the validation data after each epoch, by scikit-learn's names: for values "r2", "rmse",
            "mae"; for classes and labels "accuracy", "balanced_accuracy", "f1", "roc_auc", "log_loss". Default: none.
        monitor: the metric for best epochs, early stopping and the leaderboard: "loss", "score" or one of `metrics`.
            Default None: the validation loss for best epochs and early stopping, the loss's score for the leaderboard.
        callbacks: functions that are called with a `pm.EpochEnd` after each epoch, and may stop members or training. An
            exception in a callback ends training like Ctrl-C, and is raised again. Default: none.
        on_interrupt: effect of Ctrl-C. Training ends between minibatches, and the pool keeps what it learned. Then fit
            returns and prints a message on stderr ("keep", default), or raises KeyboardInterrupt ("raise"), which ends
            a loop of fits, too. A second Ctrl-C in the same fit, or within two seconds in another, always raises.

        Each member may have separate data; nothing is copied per member, and shared data is stored once.

        rows: the rows that each member trains on: one array of row numbers (repeats count) or one mask (n_samples,) per
            member, where members may share an array; or an array (n_members, k) or mask (n_members, n_samples). A
            member's parameters have the same bits as if it trained alone on X[rows of the member]. Rows are numbered by
            position; pandas labels that would mean other rows are refused. Default: all rows for all members.
        features: the columns of X that each member reads, in the same form. Predictions still take all columns.
            Default: all.
        targets: separate targets of each member instead of y (which is None then): (n_members, n_samples) or
            (n_members, n_samples, n_outputs).
        sample_weight: weight of each row in the loss, (n_samples,) or (n_members, n_samples), finite and at least 0;
            scaled to mean 1 over the member's rows. A row of weight 0 may have any target, NaN included.
        class_weight: for cross-entropy, a dict from classes to weights (1 for missing classes), or "balanced":
            inversely proportional to the number of the member's rows of a class with a weight above 0. It multiplies
            sample_weight, in training only.
        validation_rows: the rows of X that each member is validated on, in the form of `rows`, with their
            sample_weight; instead of validation_data.
        validated_weights: which weights of members with averaged weights are validated, and so become their best ones:
            "last" (default) or "average", which needs early_stopping=True. Metrics, monitor and plateaus go by them,
            too.
        checkpoint: a folder for checkpoints of the run, without one so far. If the process ends in any way,
            `pm.resume(folder, X, y)` goes on from the last one, to the bits of a run that was never stopped. SIGTERM
            ends training as Ctrl-C does, with a checkpoint, and then the process. Default None: no checkpoints.
        checkpoint_every: seconds between checkpoints. Default 60.0. There is one at the start and at the end, too.
        client: a `distributed.Client` of Dask: members train on its workers, cut into shards, to the same bits. Default
            None: here.

        Ctrl-C is handled only in the main thread, and only if SIGINT has Python's default handler. If Ctrl-C ends a
        validation early, the validation is finished when training continues. During training a pool can predict and, in
        callbacks, be saved and copied; calls that would change it raise DataError.
        Raises DataError and MemoryNeededError before training starts.
        """
        X, settings = arguments.X, arguments.settings()
        check_client(arguments.client, settings.callbacks)
        plan = replace(self._plan, features=self._feature_sets(arguments.features), names=distinct_names(X))
        self._check_assigned_weights(plan)
        if plan.names is not None and self._assigned_names is not None:
            require_names(self._assigned_names, X, source="mlp.feature_names_in_")
        member_data = arguments.own_data()
        data, validation = fit_data(plan, self.ids_, X, arguments.y, arguments.validation_data, member_data, settings)
        check_every(arguments.checkpoint_every)
        with run_folder(arguments.checkpoint, begins=True) as folder, interrupts.fitting(settings.on_interrupt):
            before = self._contents()
            self._set_contents(before.started_afresh(plan))
            checkpoints = self._checkpoints(folder, arguments.checkpoint_every, settings)
            everyone = np.ones(len(self), bool)
            try:
                return self._train(data, validation, settings, everyone, checkpoints, arguments.client)
            except CheckpointError:
                # Nothing was trained: what was learned before stays.
                self._set_contents(before)
                raise

    @exclusive
    @takes(PartialFitArguments)
    def partial_fit(self, arguments: PartialFitArguments) -> Pool:
        """Train each member for `epochs` more epochs, from its current state. Arguments as for `fit`. Returns self.

        members: ids of the members to train, including members that had stopped; all others rest. Data and weights are
            still those of all members. Default None: all members, apart from diverged members, members stopped by a
            callback or dropped by a search, and, if `early_stopping` is on, members that stopped early.

        Optimizers keep their state. Schedules continue, too: a schedule without `schedule_epochs` ends with the
        member's first call. Later calls train at the end of one_cycle, linear and coslog4 (rate: learning_rate times
        final_rate_factor, which is 0 by default; for coslog4 always 0, so nothing more is learned), or in another
        cycle of cosine. For a loop of calls, set schedule_epochs in the specs: the epochs of the whole loop minus the
        warm-up.

        An epoch that a time budget or Ctrl-C interrupted is finished first, and counts as one epoch. It starts again if
        this call has another batch size, shuffle, or other data for the member (X, y, rows, weights; compared by
        contents).

        Best weights: without validation data, a member's last weights replace its best weights. With other validation
        data than before, the best weights so far are first evaluated on the new data, and are replaced by better ones
        with or without `early_stopping`. Members that rest keep their best weights, and so do members that diverge in
        this call before any callback is called.

        Raises DataError also for ids in `members` that are not in this pool, or have diverged.
        """
        X, members, settings = arguments.X, arguments.members, arguments.settings()
        check_client(arguments.client, settings.callbacks)
        if arguments.features is not None and self._feature_sets(arguments.features) != self._plan.features:
            hint = "The features of a member cannot change between calls; fit starts again with other features."
            raise DataError(compose("features", "the features of fit, or None", "others", hint))
        plan, first = self._plan, not self._progress.step.any()
        if first and plan.names is None:
            plan = replace(plan, names=distinct_names(X))
        selected, status = np.ones(len(self), bool), self._progress.status
        if members is not None:
            positions = self._positions(members)
            hint = "set_weights gives a member new weights, and fit starts again with all members."
            refuse_diverged("members", self.ids_[positions[status[positions] == DIVERGED]],
                            "members that have not diverged, to train on", hint)  # fmt: skip
            selected = np.isin(self._everyone, positions)
        member_data = arguments.own_data()
        data, validation = fit_data(
            plan, self.ids_, X, arguments.y, arguments.validation_data, member_data, settings, first
        )
        check_every(arguments.checkpoint_every)
        with run_folder(arguments.checkpoint, begins=True) as folder, interrupts.fitting(settings.on_interrupt):
            self._plan = plan
            rested, extent, ended = (status.copy(), self._records.waits_from.copy()), self._records.extent, self.ended_
            if members is not None:
                self._resume(selected & np.isin(status, RESTING))
            elif not settings.early_stopping:
                self._resume(status == STOPPED_EARLY)
            checkpoints = self._checkpoints(folder, arguments.checkpoint_every, settings)
            try:
                return self._train(data, validation, settings, selected, checkpoints, arguments.client)
            except CheckpointError:
                self._progress.status[:], self._records.waits_from[:] = rested
                self._records.shorten(*extent)
                self.ended_ = ended
                raise

    def _resume(self, stopped: np.ndarray) -> None:
        """Resume stopped members (a mask); patience is counted from now on."""
        self._progress.status[stopped] = READY
        self._records.waits_from[stopped] = np.maximum(
            self._records.waits_from[stopped], self._progress.epoch[stopped] - 1
        )

    @exclusive
    def _drop(self, members: Any) -> None:
        """Drop the members with these ids, as a search does that continues without them.

        Dropped members keep weights, history and cursor. Later calls of `partial_fit` train them only if named.
        Diverged members stay diverged. `fit` starts again with all members.
        """
        self._progress.drop(self._positions(members))

    def _feature_sets(self, features: Any) -> Sets | None:
        """Return the `features` argument as Sets."""
        return None if features is None else sets_of(features, self.ids_, self.n_features, "features", "feature")

    def _check_assigned_weights(self, plan: Plan) -> None:
        """Raise DataError if weights from set_weights are for another number of features than the member reads."""
        fan_in = np.broadcast_to(plan.fan_in, len(self))
        for position, (weights, _) in self._assigned.items():
            if len(weights[0]) != fan_in[position]:
                name = f"features of member {self.ids_[position]}"
                expected = f"{len(weights[0])}, as in its weights from set_weights"
                raise DataError(compose(name, expected, str(fan_in[position])))

    # Ranking.

    def leaderboard(self) -> Table:
        """Rank members from best to worst, as a list of records that prints as a table; `to_pandas()` converts it.

        The ranking is by the validation score or the metric in `monitor` of `fit` (ties: validation loss); without
        validation by the training loss. Members without a value are last, in pool order. Values are those of the best
        epoch with early stopping, else of the last epoch. All validation values are of the latest validation data, on
        which earlier weights were evaluated again; `history_` has the values of the time.

        Keys: rank, id, architecture, hidden, activation, optimizer, learning_rate, parameters, epochs, minibatch
        (finished minibatches of the current epoch), status, loss, validation_loss, metric (name of the ranking metric),
        validation_score (its value), best_epoch (counted from 1; 0: none; None if best weights are not stored); then
        one key for each computed metric, as "validation_r2".
        """
        return leaderboard(self._plan, self._progress, self._records, self.ids_, self._kept_best)

    # Members in and out.

    def ensemble(self, ids: Any, weights: Any = None) -> Ensemble:
        """Combine members to one model, the mean of values or of probabilities, which needs only NumPy.

        ids: ids of the members, in this order; repeated ids count repeatedly.
        weights: weight of each member in the mean, numbers at least 0, scaled to sum 1. Default None: equal weights.

        Members are extracted as by `extract`. Raises DataError for unknown ids, diverged members and invalid weights.
        """
        positions = self._positions(ids)
        lost = diverged(self._progress, self._records, self._checked_weights(None))[positions]
        expected = "members that have not diverged, to take a mean of"
        refuse_diverged("ids", self.ids_[positions[lost]], expected, f"Members that have not diverged: {OTHERS}.")
        return Ensemble([self.extract(id) for id in self.ids_[positions].tolist()], weights)

    @exclusive
    def set_weights(self, id: int, mlp: MLP) -> None:
        """Replace the weights and initial weights of the member with this id by those of `mlp`; it becomes untrained.

        Raises DataError unless `mlp` has the member's widths, activations, biases and names of columns. An untrained
        pool without names of columns gets those of `mlp`.
        """
        (position,) = self._positions([id])
        if not isinstance(mlp, MLP):
            hint = "Make one with pm.MLP(weights, biases)."
            raise DataError(compose(f"mlp for member {id}", "a pm.MLP", show(mlp), hint))
        # With another number of features, the names are those of some columns only, and cannot be compared.
        mlp_names = mlp._names if mlp.n_features == self.n_features else None
        # A new MLP checks and copies the arrays, which may have changed since `mlp` was made.
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
        for array in (*weights, *biases):
            if not np.isfinite(array).all():
                raise DataError(compose(f"mlp for member {id}", f"finite {self.dtype} weights", "NaN or infinity"))
        columns = require_equal_names(self._plan.names, mlp_names, f"columns of mlp for member {id}", "the pool")
        if mlp_names is not None:
            self._assigned_names = mlp_names
            if not self._progress.step.any():
                self._plan = replace(self._plan, names=columns)
        self._assigned[int(position)] = weights, biases
        self._ready().store.write(int(position), weights, biases)
        if self._kept_best:
            self._ready().store.keep(np.array([position]))
        self._progress.restart(int(position))
        self._records.forget(int(position))

    def subset(self, ids: Any) -> Pool:
        """Return a pool of these members, in this order.

        They keep their ids, keys, weights, optimizer state, history and status.
        """
        require_no_training("subset", self._trainer)
        positions = self._positions(ids)
        if len(np.unique(positions)) != len(positions):
            raise DataError(compose("ids", "each id once", show(ids)))
        return Pool._from_contents(self._contents().take(positions))

    # Files.

    def save(self, path: str | os.PathLike[str]) -> None:
        """Save the pool, including the state of training, to a file. The file is replaced completely or not at all."""
        require_no_training("save", self._trainer)
        write_archive(path, "pool", *self._as_archive())
