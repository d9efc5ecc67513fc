"""Holds the reference backend to the oracle: every member, in pools that Hypothesis draws."""

from __future__ import annotations

import sys
import tracemalloc
from dataclasses import dataclass, replace
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import oracle
from loss_variants import VARIANTS, heads, library_loss, named, random_targets
from member_state import restore, state_of
from pmlp_np.backends.contract import SHUFFLES, Control
from pmlp_np.backends.reference.backend import MEMORY_CAP, ReferenceBackend
from pmlp_np.base.errors import DataError
from pmlp_np.data.dataset import Dataset
from pmlp_np.formulas.activations import ACTIVATIONS
from pmlp_np.formulas.initializers import INITIALIZERS
from pmlp_np.formulas.losses import LOSSES
from pmlp_np.formulas.optimizers import SGD, Adam, AdamW
from pmlp_np.specs.members import Member, Specs
from pmlp_np.state.plan import Plan
from pmlp_np.state.progress import DIVERGED, READY, Progress
from pmlp_np.state.training_state import TrainingState
from pmlp_np.training.history import History
from strict_cupy import DeviceArray, device_module

# Float64 errs by 1e-16 per operation; Adam divides by gradients, of which small ones carry larger relative errors.
SAME = {"rtol": 1e-8, "atol": 1e-9}
# Float32 errs by 1e-7 per operation, here over one step and sums of few terms.
SAME_FLOAT32 = {"rtol": 1e-4, "atol": 1e-5}
# The same arithmetic in other chunks or blocks of rows: other orders of summation, amplified by a few steps.
REORDERED = {"rtol": 1e-9, "atol": 1e-11}
# A mean loss beyond this is divergence, which amplifies rounding errors without bound.
DIVERGING = 100.0
SLOT_NAMES = {"sgd": ("momentum",), "adam": ("m", "v"), "adamw": ("m", "v")}


@dataclass
class Case:
    """A pool, the data it trains on, and how."""

    members: list[Member]
    n_features: int
    n_outputs: int
    loss: str
    n_rows: int
    shuffle: str | None
    batch_size: int
    seed: int
    dtype: str = "float64"

    def plan(self) -> Plan:
        stream = [oracle.stream_key(self.seed, i, m.seed) for i, m in enumerate(self.members)]
        order = [oracle.order_key(self.seed)] * len(self.members)
        return Plan(
            Specs.from_members(self.members),
            self.n_features,
            self.n_outputs,
            library_loss(self.loss, self.n_outputs),
            np.dtype(self.dtype),
            np.array(stream, np.uint64),
            np.array(order, np.uint64),
        )

    def data(self) -> tuple[np.ndarray, np.ndarray]:
        """X, and y as the oracle takes it."""
        rng = np.random.default_rng(self.seed)
        X = rng.normal(size=(self.n_rows, self.n_features)).astype(self.dtype)
        y = random_targets(self.loss, rng, self.n_rows, self.n_outputs)
        return X, y if y.dtype.kind == "i" else y.astype(self.dtype)

    @property
    def n_raw_outputs(self) -> int:
        return self.n_outputs * heads(self.loss)

    def rows(self) -> Dataset:
        X, y = self.data()
        lines = np.ascontiguousarray(y.reshape(len(y), -1).T.astype(self.dtype))
        return Dataset([X], lines, len(lines))

    def batch_sizes(self) -> np.ndarray:
        return np.array([m.batch_size or self.batch_size for m in self.members], np.int64)

    def backend(self, **arguments: Any) -> ReferenceBackend:
        backend = ReferenceBackend(self.plan(), **arguments)
        backend.initialize(np.arange(len(self.members)))
        return backend

    def network(self, i: int) -> oracle.OracleMLP:
        """Member i alone, with its initial weights."""
        member = self.members[i]
        hyperparameters = {name: getattr(member.optimizer, name) for name in vars(member.optimizer)}
        loss, loss_parameters = named(self.loss, self.n_outputs)
        mlp = oracle.OracleMLP(
            member.hidden,
            member.activation,
            self.n_features,
            self.n_raw_outputs,
            loss,
            member.optimizer.name,
            hyperparameters,
            member.bias,
            dict(member.options),
            loss_parameters,
            key=(key := oracle.stream_key(self.seed, i, member.seed)),
        )
        mlp.set_state(*oracle.initial_weights(member, self.n_features, self.n_raw_outputs, key))
        return mlp

    def trained_alone(self, i: int, epochs: int) -> tuple[oracle.OracleMLP, list[float]]:
        mlp = self.network(i)
        member_key = oracle.stream_key(self.seed, i, self.members[i].seed)
        key = {None: None, "shared": oracle.order_key(self.seed), "member": member_key}[self.shuffle]
        return mlp, mlp.train(*self.data(), epochs, int(self.batch_sizes()[i]), key)


def train_epoch(
    backend: ReferenceBackend,
    members: np.ndarray,
    progress: Progress,
    data: Dataset,
    batch_size: np.ndarray,
    shuffle: int,
    loss: np.ndarray,
    control: Control,
) -> None:
    """One epoch of these members, which nothing follows; loss (n_members,) receives those of members that finished."""
    n = backend.plan.n_members
    state = TrainingState.start(progress, np.ones(n, bool), 1, batch_size, shuffle)
    record = History(n).record(1, progress.epoch, False)
    backend.train(members, state, backend.place(data), None, 1, record, control)
    loss[members] = record.loss[0, members]


def train(
    case: Case, backend: ReferenceBackend, epochs: int, progress: Progress | None = None
) -> tuple[Progress, np.ndarray]:
    """Train members that are READY; returns their progress and their losses (members, epochs)."""
    progress = Progress.start(len(case.members)) if progress is None else progress
    history = np.full((len(case.members), epochs), np.nan)
    for epoch in range(epochs):
        loss = np.full(len(case.members), np.nan)
        members = np.flatnonzero(progress.status == READY)
        arguments = (members, progress, case.rows(), case.batch_sizes(), SHUFFLES[case.shuffle], loss, Control())
        train_epoch(backend, *arguments)
        history[:, epoch] = loss
    return progress, history


def assert_parameters(backend: ReferenceBackend, i: int, mlp: oracle.OracleMLP, tolerance: dict[str, float]) -> None:
    weights, biases = backend.store.read(i, "last")
    for k, expected in enumerate(mlp.effective_weights):
        np.testing.assert_allclose(weights[k], expected, **tolerance, err_msg=f"member {i}, weights of layer {k}")
    assert len(biases) == (len(weights) if mlp.bias else 0)
    for k, bias in enumerate(biases):
        np.testing.assert_allclose(bias, mlp.biases[k], **tolerance, err_msg=f"member {i}, biases of layer {k}")


def canonical(mlp: oracle.OracleMLP, tensors: dict[str, list[np.ndarray]]) -> list[np.ndarray]:
    """A network's numbers in canonical order: weights, then biases, layer after layer; then scales."""
    layers = zip(tensors["weights"], tensors["biases"], strict=True)
    found = [tensor.ravel() for w, b in layers for tensor in ((w, b) if mlp.bias else (w,))]
    return found + tensors["scales"] * mlp.options["feature_scale"]


REGULARIZERS = ("dropout", "input_dropout", "clip_norm", "average")


def rates(low: float, high: float) -> st.SearchStrategy[float]:
    return st.floats(low, high).map(lambda rate: float(f"{rate:.3g}"))


optimizers = st.one_of(
    st.builds(SGD, rates(1e-3, 0.02), st.sampled_from([0.0, 0.5, 0.9]), st.booleans(), st.sampled_from([0.0, 0.1])),
    st.builds(Adam, rates(1e-4, 0.03), weight_decay=st.sampled_from([0.0, 0.1])),
    st.builds(AdamW, rates(1e-4, 0.03), rates(0.0, 0.95), weight_decay=st.sampled_from([0.0, 0.1])),
)


@st.composite
def members(draw: st.DrawFn) -> Member:
    hidden = tuple(draw(st.lists(st.integers(1, 9), max_size=4)))
    names = draw(st.lists(st.sampled_from(list(ACTIVATIONS)), min_size=len(hidden), max_size=len(hidden)))
    return Member(
        hidden,
        tuple(names) if hidden else "identity",
        bias=draw(st.booleans()),
        initializer=draw(st.sampled_from(list(INITIALIZERS))),
        optimizer=draw(optimizers),
        batch_size=draw(st.none() | st.integers(1, 20)),
        seed=draw(st.none() | st.integers(0, 2**64 - 1)),
        **{name: draw(st.just(0.0) | st.sampled_from([0.0, 0.2, 0.5])) for name in REGULARIZERS},
        feature_scale=draw(st.booleans()),
        feature_scale_rate_factor=draw(st.sampled_from([1.0, 6.0])),
    )


@st.composite
def cases(draw: st.DrawFn) -> Case:
    return Case(
        draw(st.lists(members(), min_size=1, max_size=6)),
        n_features=draw(st.integers(1, 6)),
        n_outputs=draw(st.integers(1, 4)),
        loss=draw(st.sampled_from(list(VARIANTS))),
        n_rows=draw(st.integers(1, 17)),
        shuffle=draw(st.sampled_from(list(SHUFFLES))),
        batch_size=draw(st.integers(1, 20)),
        seed=draw(st.integers(0, 2**64 - 1)),
    )


def outputs(case: Case, backend: ReferenceBackend, weights: str = "last") -> np.ndarray:
    everybody = np.arange(backend.plan.n_members)
    out = np.empty((len(everybody), case.n_rows, case.n_raw_outputs), case.dtype)
    backend.forward(everybody, backend.place(Dataset([case.data()[0]])), out, weights, Control())
    return out


def assert_same_state(a: ReferenceBackend, b: ReferenceBackend, **tolerance: float) -> None:
    states = state_of(a), state_of(b)
    assert states[0].keys() == states[1].keys()
    for name, buffer in states[0].items():
        np.testing.assert_allclose(buffer, states[1][name], **tolerance, err_msg=name)


# Members of every kind of rule, at several depths, for tests that draw nothing.
MIXED = Case(
    [
        Member((5, 4), "tanh", optimizer=Adam(0.01), batch_size=4),
        Member((), optimizer=SGD(0.01)),
        Member((3,), "relu", bias=False, optimizer=SGD(0.01, 0.9)),
        Member((4, 2), ("mish", "gelu"), optimizer=AdamW(0.01, weight_decay=0.1)),
        Member((6,), "elu", optimizer=SGD(0.01, 0.5, True), batch_size=4),
    ],
    n_features=3,
    n_outputs=2,
    loss="squared_error",
    n_rows=10,
    shuffle="shared",
    batch_size=5,
    seed=1,
)


@given(cases(), st.integers(1, 3), st.sampled_from([1, 20_000, MEMORY_CAP]))
@settings(max_examples=4 * settings().max_examples)
def test_members_train_as_if_alone(case: Case, epochs: int, memory_cap: int) -> None:
    backend = case.backend(memory_cap=memory_cap)
    progress, history = train(case, backend, epochs)
    assume(np.abs(history).max() < DIVERGING)
    X, y = case.data()
    out = outputs(case, backend)
    found, score = backend.evaluate(np.arange(len(case.members)), backend.place(case.rows()), "last", Control())
    slots = []
    for i, member in enumerate(case.members):
        mlp, losses = case.trained_alone(i, epochs)
        assert_parameters(backend, i, mlp, SAME)
        np.testing.assert_allclose(history[i], losses, **SAME)
        np.testing.assert_allclose(out[i], mlp.forward(X), **SAME)
        np.testing.assert_allclose(found[i], mlp.loss(X, y), **SAME)
        np.testing.assert_allclose(score[i], right_score(case, out[i], y), **SAME)
        assert progress.step[i] == mlp.step_count
        if not (isinstance(member.optimizer, SGD) and member.optimizer.momentum == 0.0):
            slots += [
                tensor for name in SLOT_NAMES[member.optimizer.name] for tensor in canonical(mlp, mlp.slots[name])
            ]
    np.testing.assert_allclose(state_of(backend)["slots"], np.concatenate([np.zeros(0), *slots]), **SAME)
    assert (progress.epoch == epochs).all() and not progress.minibatch.any() and not progress.loss_sum.any()


@given(cases())
def test_one_step_in_float32(case: Case) -> None:
    case = replace(case, dtype="float32", members=[replace_batch(m, None) for m in case.members], batch_size=99)
    backend = case.backend()
    initial = [backend.store.read(i, "last") for i in range(len(case.members))]
    _, history = train(case, backend, 1)
    assert backend.store.parameters.dtype == backend.store.slots.dtype == np.float32
    X, y = case.data()
    for i, (weights, biases) in enumerate(initial):
        mlp = case.network(i)
        # Adam's first step is the sign of the gradient, which rounding decides where the gradient vanishes.
        if isinstance(case.members[i].optimizer, SGD):
            mlp.set_state(weights, biases or None)
            np.testing.assert_allclose(history[i, 0], mlp.step(X.astype(float), y), **SAME_FLOAT32)
            assert_parameters(backend, i, mlp, SAME_FLOAT32)


def right_score(case: Case, raw: np.ndarray, y: np.ndarray) -> float:
    """The mean of rows' scores, by hand: without output weights and smoothing."""
    name, parameters = named(case.loss, case.n_outputs)
    if name == "cross_entropy":
        return np.mean(raw.argmax(axis=1) == y)
    if name == "binary_cross_entropy":
        return np.mean(np.abs((raw > 0) - y) < 0.5)
    if name == "huber":
        return np.mean(np.abs(raw - y))
    parameters = {key: value for key, value in parameters.items() if key == "levels"}
    return oracle.LOSSES[name](raw, y, **parameters)[0]


def replace_batch(member: Member, batch_size: int | None) -> Member:
    names = ("hidden", "activation", "bias", "initializer", "optimizer", "seed")
    return Member(**{name: getattr(member, name) for name in names}, batch_size=batch_size)


@given(cases(), st.lists(st.integers(1, 4), min_size=1, max_size=5))
def test_stopping_between_minibatches_loses_nothing(case: Case, stops: list[int]) -> None:
    whole, pieces = case.backend(), case.backend()
    expected, history = train(case, whole, 2)
    assume(np.abs(history).max() < DIVERGING)
    progress = Progress.start(len(case.members))
    found = np.full_like(history, np.nan)
    calls = 0
    while (members := np.flatnonzero(progress.epoch < 2)).size:
        shares: list[float] = []
        patience = stops[calls % len(stops)]

        def tick(share: float, shares: list[float] = shares, patience: int = patience) -> bool:
            shares.append(share)
            return len(shares) >= patience

        before = progress.step.sum()
        epoch, loss = progress.epoch.copy(), np.full(len(case.members), np.nan)
        shuffle = SHUFFLES[case.shuffle]
        train_epoch(pieces, members, progress, case.rows(), case.batch_sizes(), shuffle, loss, Control(tick))
        assert shares == sorted(shares) and shares[0] > 0 and shares[-1] <= 1
        assert len(shares) <= patience and progress.step.sum() > before
        assert len(shares) == patience or shares[-1] == 1
        finished = np.flatnonzero(progress.epoch > epoch)
        found[finished, epoch[finished]] = loss[finished]
        assert np.isnan(np.delete(loss, finished)).all()
        calls += 1
    np.testing.assert_allclose(found, history, **REORDERED)
    np.testing.assert_array_equal(progress.step, expected.step)
    assert_same_state(pieces, whole, **REORDERED)


@pytest.mark.parametrize("operation", ["evaluate", "forward"])
def test_a_stopped_evaluation_leaves_the_rest_unknown(operation: str) -> None:
    case = replace(MIXED, members=MIXED.members * 3)
    backend = case.backend(memory_cap=1)
    everybody = np.arange(len(case.members))
    ticks: list[float] = []

    def tick(share: float) -> bool:
        ticks.append(share)
        return len(ticks) == 3 * case.n_rows

    if operation == "evaluate":
        results = backend.evaluate(everybody, backend.place(case.rows()), "last", Control(tick))
    else:
        results = (np.full((len(everybody), case.n_rows, case.n_raw_outputs), np.nan),)
        backend.forward(everybody, backend.place(Dataset([case.data()[0]])), results[0], "last", Control(tick))
    for result in results:
        assert np.isfinite(result).reshape(len(everybody), -1).all(axis=1).sum() == 3
    assert ticks == sorted(ticks) and 0 < ticks[-1] < 1


@pytest.mark.parametrize("shuffle", SHUFFLES)
@pytest.mark.parametrize("loss", LOSSES)
def test_a_diverging_neighbor_touches_nobody(shuffle: str | None, loss: str) -> None:
    members = [member for good in MIXED.members for member in (good, Member(good.hidden, "relu", optimizer=SGD(1e150)))]
    case = replace(MIXED, members=members, shuffle=shuffle, loss=loss)
    backend = case.backend()
    progress, history = train(case, backend, 3)
    # Some losses bound the slopes: where they vanish or cancel, a member may end far away, but finite.
    lost = np.flatnonzero(progress.status == DIVERGED)
    assert set(lost) <= set(range(1, len(members), 2)) and len(lost) >= (1 if loss == "quantile" else 2)
    assert not np.isfinite(history[lost]).all(axis=1).any() or loss != "squared_error"
    assert (progress.epoch[::2] == 3).all() and (progress.status[::2] == READY).all()
    for i in range(0, len(members), 2):
        mlp, losses = case.trained_alone(i, 3)
        assert_parameters(backend, i, mlp, SAME)
        np.testing.assert_allclose(history[i], losses, **SAME)


@pytest.mark.parametrize("shuffle", SHUFFLES)
def test_nan_stays_in_its_member(shuffle: str | None) -> None:
    case = replace(MIXED, members=[MIXED.members[0]] * 3, shuffle=shuffle)
    backend, neighbor = case.backend(), case.backend()
    weights, biases = backend.store.read(1, "last")
    backend.store.write(1, [np.full_like(w, np.nan) for w in weights], biases)
    out, expected = outputs(case, backend), outputs(case, neighbor)
    np.testing.assert_array_equal(out[[0, 2]], expected[[0, 2]])
    assert np.isnan(out[1]).all()
    progress, history = train(case, backend, 2)
    train(case, neighbor, 2)
    assert progress.status.tolist() == [READY, DIVERGED, READY]
    assert np.isnan(history[1]).all()
    assert (progress.epoch[1], progress.minibatch[1], progress.step[1]) == (0, 1, 1)
    for i in (0, 2):
        for tensors in zip(backend.store.read(i, "last"), neighbor.store.read(i, "last"), strict=True):
            for found, wanted in zip(*tensors, strict=True):
                np.testing.assert_allclose(found, wanted, **REORDERED)


@pytest.mark.parametrize(("n_minibatches", "epoch", "minibatch"), [(1, 1, 0), (2, 0, 2), (5, 0, 2)])
def test_where_a_member_that_overflows_stands(n_minibatches: int, epoch: int, minibatch: int) -> None:
    members = [Member((), optimizer=SGD(rate)) for rate in (1e39 if n_minibatches == 1 else 1e30, 0.01)]
    case = replace(MIXED, members=members, dtype="float32", batch_size=MIXED.n_rows // n_minibatches)
    progress, history = train(case, case.backend(), 1)
    assert progress.status.tolist() == [DIVERGED, READY]
    assert progress.epoch.tolist() == [epoch, 1]
    assert progress.minibatch.tolist() == [minibatch, 0]
    assert progress.step.tolist() == [minibatch or 1, n_minibatches]
    # The last loss overflows, but for one minibatch: its loss is that of the initial parameters.
    assert np.isfinite(history[0, 0]) == (n_minibatches == 1) and not np.isnan(history).any()


@pytest.mark.parametrize("shuffle", SHUFFLES)
def test_members_stand_at_different_places(shuffle: str | None) -> None:
    case = replace(MIXED, members=[MIXED.members[0]] * 4, shuffle=shuffle)
    backend, progress, loss = case.backend(), Progress.start(4), np.full(4, np.nan)
    fixed = (progress, case.rows(), case.batch_sizes(), SHUFFLES[shuffle], loss)
    for members, control in (([0, 1], Control()), ([0, 2], Control(lambda share: True)), ([1], Control())):
        train_epoch(backend, np.array(members), *fixed, control)
    assert progress.epoch.tolist() == [1, 2, 0, 0] and progress.minibatch.sum() == (1 if shuffle == "shared" else 2)
    for _ in range(2):
        train_epoch(backend, np.array([3, 1, 0, 2]), *fixed, Control())
    for i, epochs in enumerate((3, 4, 2, 2)):
        mlp, losses = case.trained_alone(i, epochs)
        assert_parameters(backend, i, mlp, SAME)
        np.testing.assert_allclose(loss[i], losses[-1], **SAME)


@pytest.mark.parametrize("shuffle", SHUFFLES)
def test_chunks_and_blocks_of_rows_do_not_matter(shuffle: str | None) -> None:
    case = replace(MIXED, members=MIXED.members * 4, shuffle=shuffle, n_rows=1100, batch_size=1000)
    at_once, in_parts = case.backend(), case.backend(memory_cap=30_000)
    histories = [train(case, backend, 1)[1] for backend in (at_once, in_parts)]
    np.testing.assert_allclose(*histories, **REORDERED)
    assert_same_state(at_once, in_parts, **REORDERED)
    np.testing.assert_allclose(outputs(case, at_once), outputs(case, in_parts), **REORDERED)
    members = np.array([7, 3, 12, 0])
    several = at_once.evaluate(members, at_once.place(case.rows()), "last", Control())
    for i, m in enumerate(members):
        one = in_parts.evaluate(np.array([m]), in_parts.place(case.rows()), "last", Control())
        np.testing.assert_allclose(np.ravel(one), np.array(several)[:, i], **REORDERED)


@pytest.mark.one_in(3)
@pytest.mark.parametrize(
    ("options", "shuffle", "dtype"),
    [
        ({}, "shared", "float32"),
        ({}, "member", "float64"),
        (dict.fromkeys(REGULARIZERS, 0.5), "member", "float32"),
        (dict.fromkeys(REGULARIZERS, 0.5), "shared", "float64"),
        ({"feature_scale": True}, "shared", "float32"),
        ({"feature_scale": True}, "member", "float64"),
    ],
    ids=lambda value: value if isinstance(value, str) else "-".join(value) or "plain",
)
@pytest.mark.parametrize(
    ("n_members", "hidden", "n_features", "n_outputs", "n_rows"),
    [
        (100, (40,), 50, 1, 8),
        (40, (40,), 5, 10, 300),
        (40, (20, 30, 20), 5, 3, 40),
        (100, (2, 2), 1, 1, 500),
        (150, (), 40, 8, 60),
        (2, (50, 50), 5, 3, 400),  # a member that alone has too much for all rows at once
    ],
)
def test_memory_stays_under_the_cap(
    n_members: int,
    hidden: tuple[int, ...],
    n_features: int,
    n_outputs: int,
    n_rows: int,
    options: dict[str, float],
    shuffle: str,
    dtype: str,
) -> None:
    cap = 4_000_000
    member = Member(hidden, "mish" if hidden else "identity", optimizer=Adam(), **options)
    case = Case([member] * n_members, n_features, n_outputs, "cross_entropy", n_rows, shuffle, n_rows, 1, dtype)
    # What NumPy imports at first use is no memory of ours: one member first, unmeasured.
    train(one := replace(case, members=[member]), one.backend(), 1)
    backend, rows, everybody = case.backend(memory_cap=cap), case.rows(), np.arange(n_members)
    for operation in ("train", "evaluate"):
        tracemalloc.start()
        if operation == "train":
            arguments = (rows, case.batch_sizes(), SHUFFLES[shuffle], np.zeros(n_members), Control())
            train_epoch(backend, everybody, Progress.start(n_members), *arguments)
        else:
            backend.evaluate(everybody, backend.place(rows), "last", Control())
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert cap / 10 < peak < cap, (operation, peak)


def test_state_and_restore_go_on_with_the_same_bits() -> None:
    backend, other = MIXED.backend(), MIXED.backend()
    progress, _ = train(MIXED, backend, 2)
    backend.store.keep(np.arange(len(MIXED.members)))
    train(MIXED, backend, 1, progress)
    state = state_of(backend)
    assert state.keys() == {"parameters", "slots", "best"}
    expected = []
    for i, member in enumerate(MIXED.members):
        for w, *b in zip(*(tensors for tensors in backend.store.read(i, "last") if tensors), strict=True):
            expected += [w.ravel(), *b]
        assert len(backend.store.read(i, "last")[1]) == (len(member.hidden) + 1) * member.bias
    np.testing.assert_array_equal(state["parameters"], np.concatenate(expected))
    assert {name: len(buffer) for name, buffer in state.items()} == backend.store.buffers()
    restore(other, state)
    assert_same_state(backend, other, rtol=0)
    resumed = progress.take(np.arange(len(MIXED.members)))
    train(MIXED, backend, 1, progress)
    train(MIXED, other, 1, resumed)
    assert_same_state(backend, other, rtol=0)
    np.testing.assert_array_equal(progress.step, resumed.step)
    fresh = MIXED.backend()
    restore(fresh, state_of(MIXED.backend()))
    assert_same_state(fresh, MIXED.backend(), rtol=0)


def test_best_is_kept_apart_from_training() -> None:
    backend = MIXED.backend()
    np.testing.assert_array_equal(outputs(MIXED, backend, "best"), outputs(MIXED, backend))
    progress, _ = train(MIXED, backend, 1)
    backend.store.keep(np.array([0, 3]))
    first = outputs(MIXED, backend)
    train(MIXED, backend, 1, progress)
    backend.store.keep(np.array([3]))
    second, kept = outputs(MIXED, backend), backend.store.read(3, "last")
    train(MIXED, backend, 1, progress)
    np.testing.assert_array_equal(outputs(MIXED, backend, "best")[[0, 3]], [first[0], second[3]])
    for found, wanted in zip(sum(backend.store.read(3, "best"), []), sum(kept, []), strict=True):
        np.testing.assert_array_equal(found, wanted)
    placed = backend.place(MIXED.rows())
    best, last = (backend.evaluate(np.arange(5), placed, weights, Control())[0] for weights in ("best", "last"))
    assert (best != last).all()


def test_take_copies_members_with_all_they_have() -> None:
    backend = MIXED.backend(memory_cap=123_456)
    progress, _ = train(MIXED, backend, 1)
    backend.store.keep(np.arange(5))
    train(MIXED, backend, 1, progress)
    chosen = np.array([3, 0, 2])
    part_case = replace(MIXED, members=[MIXED.members[i] for i in chosen])
    plan = replace(part_case.plan(), stream_key=backend.plan.stream_key[chosen])
    part = backend.take(plan, chosen)
    assert part.memory_cap == 123_456
    before = state_of(backend)
    for weights in ("last", "best"):
        np.testing.assert_array_equal(outputs(part_case, part, weights), outputs(MIXED, backend, weights)[chosen])
    train(part_case, part, 2, progress.take(chosen))
    for name, buffer in state_of(backend).items():
        np.testing.assert_array_equal(buffer, before[name])
    train(MIXED, backend, 2, progress)
    np.testing.assert_allclose(outputs(part_case, part), outputs(MIXED, backend)[chosen], **REORDERED)


def test_write_replaces_parameters_and_clears_slots() -> None:
    backend, fresh = MIXED.backend(), MIXED.backend()
    initial = [fresh.store.read(i, "last") for i in range(5)]
    train(MIXED, backend, 1)
    for i, (weights, biases) in enumerate(initial):
        found = backend.store.read(i, "last")
        for tensor in found[0] + found[1]:
            tensor[...] = np.nan
        backend.store.write(i, weights, biases)
    assert_same_state(backend, fresh, rtol=0)
    with pytest.raises(ValueError):
        backend.store.write(0, initial[1][0], initial[1][1])


def test_nothing_is_done_for_no_members() -> None:
    backend, nobody = MIXED.backend(), np.zeros(0, np.int64)
    loss = np.zeros(5)
    train_epoch(backend, nobody, Progress.start(5), MIXED.rows(), MIXED.batch_sizes(), 1, loss, Control())
    assert [len(found) for found in backend.evaluate(nobody, backend.place(MIXED.rows()), "last", Control())] == [0, 0]
    backend.forward(nobody, backend.place(Dataset([MIXED.data()[0]])), np.empty((0, 10, 2)), "last", Control())
    assert_same_state(backend, MIXED.backend(), rtol=0)


@pytest.fixture(scope="module")
def strict_cupy() -> ModuleType:
    return device_module()


@given(case=cases(), dtype=st.sampled_from(["float32", "float64"]))
def test_on_a_device_nothing_is_converted_or_mixed(case: Case, dtype: str, strict_cupy: ModuleType) -> None:
    case = replace(case, dtype=dtype)
    tolerance = REORDERED if dtype == "float64" else {"rtol": 1e-2, "atol": 1e-2}
    host = case.backend()
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "cupy", strict_cupy)
        device = case.backend(device="gpu")
        assert isinstance(device.store.parameters, DeviceArray)
        assert_same_state(host, device, rtol=0)
        histories = [train(case, backend, 2)[1] for backend in (host, device)]
        assume(np.abs(histories).max() < DIVERGING)
        np.testing.assert_allclose(*histories, **tolerance)
        everybody = np.arange(len(case.members))
        for backend in (host, device):
            backend.store.keep(everybody)
            backend.store.write(0, *backend.store.read(0, "best"))
            backend.store.keep(everybody[:1])
        assert_same_state(host, device, **tolerance)
        device = device.take(case.plan(), everybody)
        restore(device, state_of(device))
        assert_same_state(host, device, **tolerance)
        np.testing.assert_allclose(outputs(case, host), outputs(case, device), **tolerance)
        found = [b.evaluate(everybody, b.place(case.rows()), "best", Control())[0] for b in (host, device)]
        np.testing.assert_allclose(*found, **tolerance)


def test_the_stand_in_is_strict(strict_cupy: ModuleType) -> None:
    device, single = DeviceArray(np.ones(2)), DeviceArray(np.ones(2, np.float32))
    for mix in (
        lambda: device + np.ones(2),
        lambda: np.ones(2) + device,
        lambda: np.exp(device),
        lambda: np.concatenate([device, device]),
        lambda: strict_cupy.where(np.ones(2, bool), device, 0.0),
        lambda: device[np.array([0])],
        lambda: float(device.sum()),
        lambda: single * np.float64(2.0),
    ):
        with pytest.raises(TypeError):
            mix()
    for promote in (lambda: single * device, lambda: device.__setitem__(0, single)):
        with pytest.raises(AssertionError):
            promote()


def test_without_cupy_or_a_gpu_the_error_says_so(strict_cupy: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(DataError, match="device: expected an installed CuPy for 'gpu', got none. Install"):
        MIXED.backend(device="gpu")
    monkeypatch.setitem(sys.modules, "cupy", SimpleNamespace(cuda=SimpleNamespace(is_available=lambda: False)))
    with pytest.raises(DataError, match="device: expected a GPU that CuPy can use, got none."):
        MIXED.backend(device="gpu")
