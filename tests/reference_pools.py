"""Pools on the reference backend alone: cases as Hypothesis draws them, training, comparisons."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import strategies as st

import oracle
from loss_variants import VARIANTS, heads, library_loss, named, random_targets
from member_state import state_of
from pmlp_np.backends.contract import SHUFFLES, Control
from pmlp_np.backends.reference.backend import ReferenceBackend
from pmlp_np.data.dataset import Dataset
from pmlp_np.formulas.activations import ACTIVATIONS
from pmlp_np.formulas.initializers import INITIALIZERS
from pmlp_np.formulas.optimizers import SGD, Adam, AdamW
from pmlp_np.specs.members import Member, Specs
from pmlp_np.state.plan import Plan
from pmlp_np.state.progress import READY, Progress
from pmlp_np.state.training_state import TrainingState
from pmlp_np.training.history import History

# Float64 errs by 1e-16 per operation; Adam divides by gradients, of which small ones carry larger relative errors.
SAME = {"rtol": 1e-8, "atol": 1e-9}
# Float32 errs by 1e-7 per operation, here over one step and sums of few terms.
SAME_FLOAT32 = {"rtol": 1e-4, "atol": 1e-5}
# The same arithmetic in other chunks or blocks of rows: other orders of summation, amplified by a few steps.
REORDERED = {"rtol": 1e-9, "atol": 1e-11}
# A mean loss beyond this is divergence, which amplifies rounding errors without bound.
DIVERGING = 100.0


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
