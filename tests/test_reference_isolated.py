"""On the reference backend: members that stop or diverge, and those that don't."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from pmlp_np.backends.contract import SHUFFLES, Control
from pmlp_np.data.dataset import Dataset
from pmlp_np.formulas.losses import LOSSES
from pmlp_np.formulas.optimizers import SGD
from pmlp_np.specs.members import Member
from pmlp_np.state.progress import DIVERGED, READY, Progress
from reference_pools import (
    DIVERGING,
    MIXED,
    REORDERED,
    SAME,
    Case,
    assert_parameters,
    assert_same_state,
    cases,
    outputs,
    train,
    train_epoch,
)


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
