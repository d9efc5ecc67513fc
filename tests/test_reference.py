"""Holds the reference backend to the oracle: every member, in pools that Hypothesis draws; and its memory and state."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import oracle
from loss_variants import named
from member_state import restore, state_of
from pmlp_np.backends.contract import SHUFFLES, Control
from pmlp_np.backends.reference.backend import MEMORY_CAP
from pmlp_np.data.dataset import Dataset
from pmlp_np.formulas.optimizers import SGD, Adam
from pmlp_np.specs.members import Member
from pmlp_np.state.progress import Progress
from reference_pools import (
    DIVERGING,
    MIXED,
    REGULARIZERS,
    REORDERED,
    SAME,
    SAME_FLOAT32,
    Case,
    assert_parameters,
    assert_same_state,
    canonical,
    cases,
    outputs,
    train,
    train_epoch,
)

SLOT_NAMES = {"sgd": ("momentum",), "adam": ("m", "v"), "adamw": ("m", "v")}


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
