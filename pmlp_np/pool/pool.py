"""Pool: thousands of members trained, asked and kept as one object."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from pmlp_np import backends
from pmlp_np.backends.contract import SHUFFLES, Backend
from pmlp_np.base import checks, interrupts
from pmlp_np.base.archive import write_archive
from pmlp_np.base.copying import Independent, attributes
from pmlp_np.base.errors import (
    DataError,
    FileFormatError,
    UndefinedLabelError,
    compose,
    require_memory,
    show,
    unknown_name,
)
from pmlp_np.base.exclusion import Trainer, alone, first_come, require_whole
from pmlp_np.base.table import Table
from pmlp_np.data.dataset import Dataset
from pmlp_np.data.index_sets import Sets, sets_of
from pmlp_np.data.inputs import as_features
from pmlp_np.data.labels import (
    Names,
    as_strings,
    kept_names,
    require_equal_names,
    require_names,
    require_same_rows_of_each,
)
from pmlp_np.data.weights import EVALUATED, put_weights
from pmlp_np.formulas import random
from pmlp_np.formulas.losses import Loss, as_loss
from pmlp_np.formulas.optimizers import RULES
from pmlp_np.models.ensemble import Ensemble
from pmlp_np.models.mlp import MLP, hidden_layer
from pmlp_np.pool.divergence import OTHERS, diverged, of_members, refuse_diverged, say_diverged, who_counts
from pmlp_np.pool.file_format import arrays_of, header_of
from pmlp_np.pool.leaderboard import leaderboard
from pmlp_np.pool.prediction import UNWATCHED, out_of_fold, predictions
from pmlp_np.specs.members import Member, Specs, as_specs
from pmlp_np.specs.storage import COLUMNS, require_sound
from pmlp_np.state.plan import Plan
from pmlp_np.state.progress import DIVERGED, READY, STATUS_NAMES, STOPPED, STOPPED_EARLY, Progress
from pmlp_np.state.training_state import TrainingState
from pmlp_np.training.callbacks import Callback
from pmlp_np.training.fit_data import OwnData, fit_data, rows_of, watch_of
from pmlp_np.training.history import History, frozen
from pmlp_np.training.loop import train
from pmlp_np.training.measuring import finished_score, measured, require_measurable
from pmlp_np.training.metrics import canonical
from pmlp_np.training.settings import Settings

_WEIGHTS = ("last", "best", "average")


class Pool(Independent):
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
    backend: "numba" (default), "reference" or "auto".
    dtype: "float32" (default) or "float64": what weights are kept and computed in.
    ids: labels of the members, distinct whole numbers. Default 0, 1, 2, ... A member's draws depend on the pool's seed
        and its id (or on its own seed), never on its place.
    device: "cpu" (default), or "gpu" for the reference backend on CuPy.

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

    # Who is training it, if anybody is.
    _trainer: Trainer | None = None

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
        device: str = "cpu",
    ) -> None:
        specs = as_specs(specs)
        require_sound({name: getattr(specs, name) for name in COLUMNS})
        chosen = as_loss(loss)
        checks.whole("n_features", n_features, 1)
        checks.whole("n_outputs", n_outputs, 2 if chosen.targets == "labels" else 1)
        chosen.check_outputs(int(n_outputs))
        checks.whole("seed", seed, 0, 2**64)
        self.backend = backends.check(backend, device)
        self.device = device
        self.ids_ = checks.ids(ids, len(specs))
        self.ids_.setflags(write=False)
        keys = random.stream_keys(int(seed), self.ids_)
        keys[specs.has_seed] = random.seeded_keys(specs.seed[specs.has_seed])
        order_key = np.full(len(specs), random.order_key(int(seed)), np.uint64)
        self._plan = Plan(specs, int(n_features), int(n_outputs), chosen, checks.dtype(dtype), keys, order_key)
        self._start()
        require_memory("specs", self._buffer_bytes(), "Train fewer or smaller members, or float32.")

    @classmethod
    def _of(cls, plan: Plan, ids: np.ndarray, backend: str, device: str) -> Pool:
        """A pool that has not trained, of parts that were checked."""
        pool = object.__new__(cls)
        pool.backend, pool.device, pool.ids_, pool._plan = backend, device, ids, plan
        pool.ids_.setflags(write=False)
        pool._start()
        return pool

    def _start(self) -> None:
        """A pool that has not trained."""
        self._backend: Backend | None = None
        self._everyone = np.arange(len(self))
        self._progress = Progress.start(len(self))
        self._records = History(len(self))
        self._given: dict[int, tuple[list[np.ndarray], list[np.ndarray]]] = {}
        self._given_names: Names | None = None
        self._kept_best = False
        self.ended_ = ""

    def _attributes(self) -> dict[str, Any]:
        require_whole("copy or pickle", self._trainer)
        return {name: value for name, value in vars(self).items() if name != "_trainer"}

    def __setstate__(self, state: Any) -> None:
        kept = attributes("Pool", state)
        missing = vars(Pool(Member(hidden=()), 1)).keys() - kept
        if missing:
            mend = "A pickle is for one version; what is to be kept goes into a file: save and load."
            got = f"one without {', '.join(sorted(missing))}"
            raise FileFormatError(compose("pickled Pool", "all parts of a pool of this version", got, mend))
        super().__setstate__(state)
        self.ids_.setflags(write=False)

    # What the pool is.

    def __len__(self) -> int:
        return len(self.ids_)

    @property
    def specs(self) -> Specs:
        """The members' specs, in pool order."""
        return self._plan.specs

    @property
    def n_features(self) -> int:
        """Columns that X must have."""
        return self._plan.n_features

    @property
    def feature_names_in_(self) -> np.ndarray | None:
        """Names of the columns of X, (n_features,) strings as objects, a copy; None where fit was given none."""
        return as_strings(self._plan.names)

    @property
    def n_outputs(self) -> int:
        """Values or classes that are predicted."""
        return self._plan.n_outputs

    @property
    def loss(self) -> str:
        """The loss's name, with those parameters that are not at their default: "huber(delta=1.35)"."""
        return str(self._plan.loss)

    @property
    def dtype(self) -> np.dtype:
        """float32 or float64."""
        return self._plan.dtype

    @property
    def history_(self) -> dict[str, np.ndarray]:
        """Curves of training, (n_members, n_epochs) float32 by name; read-only."""
        return {name: frozen(curve) for name, curve in self._records.curves.items()}

    @property
    def status_(self) -> list[str]:
        """Each member's status: "ok", "diverged", "stopped early" or "stopped" (by a callback)."""
        return [STATUS_NAMES[code] for code in self._progress.status.tolist()]

    def __repr__(self) -> str:
        epochs = self._progress.epoch
        span = f"{epochs.min()}" if epochs.min() == epochs.max() else f"{epochs.min()}-{epochs.max()}"
        features, outputs = (
            f"{n:,} {name}{'s' * (n != 1)}" for n, name in ((self.n_features, "feature"), (self.n_outputs, "output"))
        )
        data = f"{features}, {outputs}, {self.loss}"
        return f"Pool({self.specs!r}; {data}, {self.dtype}, backend {self.backend!r}, {span} epochs)"

    # Training.

    @alone
    def fit(
        self,
        X: Any,
        y: Any = None,
        epochs: int = 1,
        batch_size: int = 32,
        shuffle: str | None = "shared",
        validation_data: tuple[Any, ...] | None = None,
        early_stopping: bool = False,
        patience: int = 10,
        min_delta: float = 0.0,
        time_budget: float | None = None,
        progress: bool | str = "auto",
        n_threads: int | None = None,
        *,
        metrics: str | Sequence[str] = (),
        monitor: str | None = None,
        callbacks: Sequence[Callback] = (),
        on_interrupt: str = "keep",
        rows: Any = None,
        features: Any = None,
        targets: Any = None,
        sample_weight: Any = None,
        class_weight: Any = None,
        validation_rows: Any = None,
    ) -> Pool:
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
        A validation that it cuts short is done when training goes on. While a pool is trained it can be asked and, in
        callbacks, saved and copied; calls that would change it raise DataError.
        Raises DataError and MemoryNeededError before training starts.
        """
        settings = Settings(
            epochs, batch_size, shuffle, early_stopping, patience, min_delta, time_budget, progress, n_threads,
            metrics, monitor, callbacks, on_interrupt,
        )  # fmt: skip
        own = OwnData(rows, features, targets, sample_weight, class_weight, validation_rows)
        plan = replace(self._plan, features=self._feature_sets(features), names=kept_names(X))
        self._refuse_given_that_do_not_fit(plan)
        if plan.names is not None and self._given_names is not None:
            require_names(self._given_names, X, source="mlp.feature_names_in_")
        data, validation = fit_data(plan, self.ids_, X, y, validation_data, own, settings)
        given, given_names, before = self._given, self._given_names, self._plan
        with interrupts.fitting(settings.on_interrupt):
            self._plan = plan
            if plan.features != before.features or (
                self._backend is not None and (self._progress.step.any() or self._kept_best)
            ):
                self._start()
                self._given, self._given_names = given, given_names
            self._progress, self._records = Progress.start(len(self)), History(len(self))
            return self._train(data, validation, settings, np.ones(len(self), bool))

    @alone
    def partial_fit(
        self,
        X: Any,
        y: Any = None,
        epochs: int = 1,
        batch_size: int = 32,
        shuffle: str | None = "shared",
        validation_data: tuple[Any, ...] | None = None,
        early_stopping: bool = False,
        patience: int = 10,
        min_delta: float = 0.0,
        time_budget: float | None = None,
        progress: bool | str = "auto",
        n_threads: int | None = None,
        *,
        metrics: str | Sequence[str] = (),
        monitor: str | None = None,
        callbacks: Sequence[Callback] = (),
        on_interrupt: str = "keep",
        rows: Any = None,
        features: Any = None,
        targets: Any = None,
        sample_weight: Any = None,
        class_weight: Any = None,
        validation_rows: Any = None,
        members: Any = None,
    ) -> Pool:
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
        settings = Settings(
            epochs, batch_size, shuffle, early_stopping, patience, min_delta, time_budget, progress, n_threads,
            metrics, monitor, callbacks, on_interrupt,
        )  # fmt: skip
        own = OwnData(rows, features, targets, sample_weight, class_weight, validation_rows)
        if features is not None and self._feature_sets(features) != self._plan.features:
            mend = "A member reads the features that it began with; fit starts afresh."
            raise DataError(compose("features", "those that fit was given, or None", "others", mend))
        plan, first = self._plan, not self._progress.step.any()
        if first and plan.names is None:
            plan = replace(plan, names=kept_names(X))
        asked, status = np.ones(len(self), bool), self._progress.status
        if members is not None:
            positions = self._positions(members)
            mend = "set_weights gives a member new weights, and fit begins anew with all."
            refuse_diverged("members", self.ids_[positions[status[positions] == DIVERGED]],
                            "members that have not diverged, to train on", mend)  # fmt: skip
            asked = np.isin(self._everyone, positions)
        data, validation = fit_data(plan, self.ids_, X, y, validation_data, own, settings, first)
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

    def _ready(self) -> Backend:
        """The backend, made and initialized at first need."""
        if self._backend is not None:
            return self._backend
        require_memory("specs", self._buffer_bytes(), "Train fewer or smaller members, or float32.")
        plan = self._plan
        backend = backends.create(self.backend, self.device, plan)
        backend.initialize(np.arange(len(self)))
        for position, (weights, biases) in self._given.items():
            backend.write(position, weights, biases)
        with first_come:
            # Two threads may ask at once: all go on with the same one.
            if self._plan is plan:
                self._backend = self._backend or backend
                return self._backend
        return backend

    def _buffer_bytes(self) -> int:
        counts = self._plan.parameter_counts()
        slots = np.array([rule.slots for rule in RULES.values()])[self.specs.rule]
        return int((counts * (1 + slots + self._plan.keeps_average)).sum()) * self.dtype.itemsize

    # Predicting.

    def forward(self, X: Any, members: Any = None, out: np.ndarray | None = None, reduce: str | None = None,
                weights: str | None = None) -> np.ndarray:  # fmt: skip
        """Raw outputs, before any link: (n_members, n_samples, n_raw_outputs) of the pool's dtype, in pool order.

        members: ids to ask, in this order. Default: all.
        out: an array of the result's shape and dtype to write to.
        reduce: None, or "mean": the mean over members, (n_samples, n_raw_outputs). Of all members, those that diverged
            are left out, and a pm.DivergedWarning says so; by id they are refused.
        weights: "last", "best" or "average"; default "best" after early stopping, else "last". Those of members that
            keep no best or no average are their last.

        Raises MemoryNeededError where the result would not fit; DataError also for a mean of members that diverged.
        """
        return self._predict(X, members, out, reduce, weights, lambda raw: raw)

    def predict(self, X: Any, members: Any = None, out: np.ndarray | None = None, reduce: str | None = None,
                weights: str | None = None) -> np.ndarray:  # fmt: skip
        """Predictions in the target's own space, members on axis 0; the arguments are those of `forward`.

        Values: (n_members, n_samples) for one output, else (..., n_outputs). Labels, int64: (n_members, n_samples)
        classes for cross-entropy; 0 or 1, shaped like values, for binary cross-entropy. reduce="mean" drops the first
        axis: means of values, or labels by the mean of probabilities.

        Of a Poisson loss these are rates, of a Gaussian one means, of a quantile loss those of the level nearest 0.5.

        Values of members that diverged may be NaN. No label is made of NaN: DataError, which names the members, or
        rows of X that are too large. Members that did not: `members=pool.ids_[np.array(pool.status_) != "diverged"]`.
        """
        loss = self._plan.loss
        if reduce is None or not loss.has_probabilities:
            return self._predict(X, members, out, reduce, weights, loss.predictions)
        # The mean probability of one label, less a half, has the sign that the label's raw output would have.
        shift = 0.0 if loss.targets == "labels" else 0.5
        result = loss.predictions(self._predict(X, members, None, reduce, weights, loss.probabilities) - shift)
        return result if out is None else checks.out(out, result.shape, result.dtype, result)

    def predict_proba(self, X: Any, members: Any = None, out: np.ndarray | None = None, reduce: str | None = None,
                      weights: str | None = None) -> np.ndarray:  # fmt: skip
        """Probabilities (n_members, n_samples, n_outputs): of the classes, or of each label being 1; arguments as
        `forward`.

        Raises DataError for losses that define none.
        """
        self._plan.loss.probabilities(np.zeros((1, self.n_outputs)))
        return self._predict(X, members, out, reduce, weights, self._plan.loss.probabilities)

    def predict_std(self, X: Any, members: Any = None, out: np.ndarray | None = None, reduce: str | None = None,
                    weights: str | None = None) -> np.ndarray:  # fmt: skip
        """Predicted standard deviations, shaped as `predict` returns values; arguments as `forward`.

        With reduce="mean" their mean, which leaves out how far members' means lie apart. Raises DataError for losses
        without a variance; "gaussian_nll" has one.
        """
        self._plan.loss.standard_deviations(np.zeros((1, self._plan.n_raw_outputs)))
        return self._predict(X, members, out, reduce, weights, self._plan.loss.standard_deviations)

    def predict_quantiles(self, X: Any, members: Any = None, out: np.ndarray | None = None, reduce: str | None = None,
                          weights: str | None = None) -> np.ndarray:  # fmt: skip
        """All levels' quantiles: (n_members, n_samples, n_levels) for one output, else (..., n_outputs, n_levels);
        arguments as `forward`.

        Each level is fitted by itself: they may cross. Raises DataError for losses without quantiles; "quantile" has
        them.
        """
        self._plan.loss.quantiles(np.zeros((1, self._plan.n_raw_outputs)))
        return self._predict(X, members, out, reduce, weights, self._plan.loss.quantiles)

    def evaluate(self, X: Any, y: Any, members: Any = None, weights: str | None = None, rows: Any = None,
                 sample_weight: Any = None) -> np.ndarray:  # fmt: skip
        """Mean loss over all rows, (n_members,) float64. members, weights: as for `forward`.

        rows: the rows of X that each of these members is asked about, as for `fit`. Default: all.
        sample_weight: how much each row counts in the mean, (n_samples,), or (n_members, n_samples) for each of these
            members; as for `fit`. Default: all count the same.
        """
        positions, weights = self._positions(members), self._checked_weights(weights)
        data = self._asked_rows(X, y, positions, rows, sample_weight)
        backend = self._ready()
        return backend.evaluate(positions, backend.place(data), weights, UNWATCHED)[0]

    def _asked_rows(self, X: Any, y: Any, positions: np.ndarray, rows: Any, sample_weight: Any) -> Dataset:
        """X and y, of which each of these members is asked about its own rows, and by its own weights, if any are
        given."""
        ids = self.ids_[positions]
        data, counted = rows_of(self._plan, ids, X, y, sample_weight)
        if rows is not None:
            found = sets_of(rows, ids, data.n, "rows", "row")
            require_same_rows_of_each(X, rows, "rows")
            data.rows = Sets(found.arrays, self._column(positions, found.of, "rows"))
        if counted is not None:
            if counted.of is not None:
                counted = replace(counted, of=self._column(positions, counted.of, "sample_weight"))
            put_weights(data, counted, self.ids_, positions, EVALUATED)
        return data

    def _column(self, positions: np.ndarray, of: np.ndarray, name: str) -> np.ndarray:
        """Numbers of these members as a column of all members, (n_members,) int64."""
        column = np.zeros(len(self), np.int64)
        column[positions] = of
        if (column[positions] != of).any():
            twice = self.ids_[positions[np.argmax(column[positions] != of)]]
            raise DataError(compose("members", f"each id once, where each has {name} of its own", f"{twice} again"))
        return column

    def out_of_fold(self, X: Any, rows: Any, groups: Any = None, method: str = "predict",
                    weights: str | None = None) -> np.ndarray:  # fmt: skip
        """Predictions for every row of X by the member that has the row in its `rows`: one line for each group.

        rows: as for `fit`, such as the validation_rows of a cross-validation.
        groups: (n_members,) whole numbers from 0: members of one group (the same architecture, trained on other folds)
            share a line. Default: all are one group.
        method: "predict" (default), "predict_proba" or "forward". weights: as for `forward`.

        Returns (n_groups, n_samples, ...), rows in the order of X. Raises DataError where a row of a group has no
        member, or more than one.
        """
        if method not in ("predict", "predict_proba", "forward"):
            raise DataError(compose("method", "'predict', 'predict_proba' or 'forward'", show(method)))
        x = as_features(X, self.n_features, self.dtype, names=self._plan.names)
        found = sets_of(rows, self.ids_, len(x), "rows", "row")
        require_same_rows_of_each(X, rows, "rows")

        def ask(part: np.ndarray, positions: np.ndarray) -> np.ndarray:
            return np.asarray(getattr(self, method)(part, members=self.ids_[positions], weights=weights))

        return out_of_fold(ask, x, found, groups)

    def score(self, X: Any, y: Any, metric: str | None = None, members: Any = None,
              weights: str | None = None, rows: Any = None, sample_weight: Any = None) -> np.ndarray:  # fmt: skip
        """A metric of each member on these rows, (n_members,) float64; NaN where outputs are not all numbers.

        metric: a name as for `metrics` of `fit`. Default: the loss's own score, as in "validation_score".
        members, weights: as for `forward`. rows, sample_weight: as for `evaluate`.

        Raises DataError for metrics that don't fit the loss, or are not defined of these targets, MemoryNeededError.
        """
        positions, weights = self._positions(members), self._checked_weights(weights)
        names = [] if metric is None else [canonical("metric", metric)]
        data = self._asked_rows(X, y, positions, rows, sample_weight)
        source = "y" if rows is None else "rows"
        require_measurable(names, self._plan, positions, data, "metric", source, self.ids_)
        backend = self._ready()
        placed = backend.place(data)
        means = backend.evaluate(positions, placed, weights, UNWATCHED)
        if not names:
            return finished_score(self._plan.loss, means)
        return measured(names, self._plan.loss, backend, positions, placed, weights, UNWATCHED, means)[names[0]]

    def hidden(self, X: Any, id: int, layer: int = -1, weights: str | None = None) -> np.ndarray:
        """Activations of a hidden layer of the member with this id, (n_samples, width) of the pool's dtype.

        layer: the layer's number, from 0 next to the features, or from -1, the last, backward. Default -1.
        weights: as for `forward`.

        By NumPy, from the extracted member: they agree with what training computed up to rounding.
        Raises DataError where there is no such member or layer.
        """
        (position,) = self._positions([id])
        widths = self.specs[position].hidden
        width = widths[hidden_layer(widths, layer, f"layer of member {id}")]
        x = as_features(X, self.n_features, self.dtype, names=self._plan.names)
        require_memory("result", len(x) * width * self.dtype.itemsize, "Ask for fewer rows at a time.")
        return self.extract(id, weights).hidden_activations(x, layer)

    def _predict(self, X: Any, members: Any, out: np.ndarray | None, reduce: str | None, weights: str | None,
                 link: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:  # fmt: skip
        positions, weights = self._positions(members), self._checked_weights(weights)
        if reduce == "mean":
            lost = diverged(self._progress, self._records, weights)
            positions = who_counts(positions, self.ids_, lost, members is not None)
        try:
            return predictions(self._plan, self._ready, positions, X, out, reduce, weights, link)
        except UndefinedLabelError as error:
            lost = diverged(self._progress, self._records, weights)
            raise of_members(error, self.ids_[positions], lost[positions]) from None

    def _positions(self, members: Any) -> np.ndarray:
        if members is None:
            return self._everyone
        ids = checks.whole_array(members)
        ids = None if ids is None else np.atleast_1d(ids)
        if ids is None or ids.ndim != 1 or not len(ids):
            mend = "They are whole numbers, as in pool.ids_."
            if getattr(members, "dtype", np.dtype(object)) == np.bool_:
                mend += " Of a mask: pool.ids_[mask]."
            raise DataError(compose("members", "a list of ids", show(members), mend))
        # Most pools number their members from 0: then an id is its own place, and nothing need be searched.
        found = np.minimum(np.maximum(ids, 0), len(self) - 1)
        if not np.array_equal(self.ids_[found], ids):
            order = np.argsort(self.ids_, kind="stable")
            found = order[np.minimum(np.searchsorted(self.ids_, ids, sorter=order), len(self) - 1)]
        missing = self.ids_[found] != ids
        if missing.any():
            some = f"{len(self):,} from {self.ids_.min()} to {self.ids_.max()}"
            raise DataError(
                compose("members", f"ids of this pool ({some})", show(ids[missing][0].item()), "See pool.ids_.")
            )
        return found

    def _checked_weights(self, weights: str | None) -> str:
        if weights is None:
            return "best" if self._kept_best else "last"
        if weights not in _WEIGHTS:
            raise DataError(unknown_name("weights", weights, _WEIGHTS))
        if weights == "best" and not self._kept_best:
            raise DataError(compose("weights", "'last'", "'best'", "Best weights are kept where early_stopping=True."))
        if weights == "average" and not self._plan.keeps_average:
            mend = "Averaged weights are kept of members that say so: pm.Member(average=0.999)."
            raise DataError(compose("weights", "'last' or 'best'", "'average'", mend))
        return weights

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

    def extract(self, id: int, weights: str | None = None) -> MLP:
        """The member with this id as a standalone network that needs NumPy alone. weights: as for `forward`."""
        (position,) = self._positions([id])
        matrices, biases = self._ready().read(int(position), self._checked_weights(weights))
        member, features = self.specs[position], self._plan.features
        own = None if features is None else features.arrays[features.of[position]]
        return MLP(matrices, biases if member.bias else None, member.activation, self._plan.loss, own,
                   None if own is None else self.n_features, self._plan.names)  # fmt: skip

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
            mend = "Make one with pm.MLP(weights, biases)."
            raise DataError(compose(f"mlp for member {id}", "a pm.MLP", show(mlp), mend))
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
        self._ready().write(int(position), *given)
        if self._kept_best:
            self._ready().keep_best(np.array([position]))
        self._progress.restart(int(position))
        self._records.forget(int(position))

    def subset(self, ids: Any) -> Pool:
        """A pool of these members, in this order, with their ids, keys, weights, optimizer state, history and
        status."""
        require_whole("subset", self._trainer)
        positions = self._positions(ids)
        if len(np.unique(positions)) != len(positions):
            raise DataError(compose("ids", "each id once", show(ids)))
        part = Pool._of(self._plan.take(positions), self.ids_[positions], self.backend, self.device)
        part._backend = None if self._backend is None else self._backend.take(part._plan, positions)
        part._progress, part._records = self._progress.take(positions), self._records.take(positions)
        part._given = {i: self._given[p] for i, p in enumerate(positions.tolist()) if p in self._given}
        part._given_names = self._given_names if part._given else None
        part._kept_best, part.ended_ = self._kept_best, self.ended_
        return part

    # Files.

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the pool, with all that training needs to go on, to a file. It is replaced as a whole or not at all."""
        require_whole("save", self._trainer)
        backend = self._ready()
        header = header_of(self._plan, self.backend, self.device, self._kept_best, self.ended_, self._records.monitor)
        if self._kept_best and "best" not in backend.buffers():
            backend.keep_best(self._everyone)
        arrays = arrays_of(self._plan, self.ids_, self._progress, self._records, self._given, backend)
        write_archive(path, "pool", header, arrays)
