"""Schedules: formulas against PyTorch and the oracle, as machine code, and what a pool does with them."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import oracle
import pmlp_np as pm
from conftest import BACKENDS, requires
from pmlp_np.formulas.optimizers import STEP_INPUTS
from pmlp_np.formulas.options import OPTIONS, SCHEDULE_NAMES
from pmlp_np.formulas.schedules import SCHEDULES, cos_turns, floor, options_read, rate_factor
from running_passes import run_pass
from small_pool import VALIDATION, X, Y, bits

RATE = STEP_INPUTS.index("learning_rate")


def options(**given: Any) -> SimpleNamespace:
    """All options of a member, as columns hold them."""
    return SimpleNamespace(**{name: float(o.encoded(given.get(name, o.default))) for name, o in OPTIONS.items()})


def factors(
    schedule: str, epochs: int, minibatches: int = 1, fit_epochs: int | None = None, **given: Any
) -> np.ndarray:
    """The factor of every step."""
    epoch, minibatch = np.divmod(np.arange(epochs * minibatches), minibatches)
    length = epochs if fit_epochs is None else fit_epochs
    return np.asarray(rate_factor(schedule, options(**given), epoch, minibatch, minibatches, length))


# Formulas.


def test_names_are_those_of_the_option() -> None:
    assert tuple(SCHEDULES) == SCHEDULE_NAMES == OPTIONS["schedule"].choices


def test_floor_and_cosine() -> None:
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.uniform(-50, 50, 5000), np.arange(-9, 9) / 4, np.nextafter(np.arange(-3.0, 4), -9)])
    assert np.array_equal(floor(x), np.floor(x))
    np.testing.assert_allclose(cos_turns(x), np.cos(2 * np.pi * np.longdouble(x)).astype(float), atol=1e-15)
    assert cos_turns(np.array([0.0, 0.5, 1.0, -1.5, 0.25])).tolist()[:4] == [1.0, -1.0, 1.0, -1.0]


CURSORS = st.tuples(st.integers(0, 30), st.integers(1, 9)).flatmap(
    lambda place: st.tuples(st.just(place[0]), st.integers(0, place[1] - 1), st.just(place[1]))
)
SETTINGS = st.fixed_dictionaries(
    {
        "schedule_epochs": st.sampled_from([0.0, 0.4, 1.0, 3.0, 7.5]),
        "schedule_interval": st.sampled_from([0.3, 1.0, 2.0]),
        "schedule_factor": st.sampled_from([0.1, 0.5, 0.99, 1.5]),
        "final_rate_factor": st.sampled_from([0.0, 0.1, 2.0]),
        "one_cycle_start": st.sampled_from([0.0, 0.04]),
        "one_cycle_peak": st.sampled_from([0.0, 0.3, 0.9]),
        "warmup_epochs": st.sampled_from([0.0, 0.5, 1.0, 3.3, 40.0]),
    }
)


@given(cursor=CURSORS, fit_epochs=st.integers(1, 12), settings=SETTINGS)
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_schedules_are_the_oracles(schedule: str, cursor: tuple, fit_epochs: int, settings: dict) -> None:
    expected = oracle.rate_factor(settings | {"schedule": schedule}, *cursor, fit_epochs)
    found = rate_factor(schedule, options(**settings), *map(np.array, cursor), fit_epochs)
    assert float(found) == pytest.approx(expected, rel=1e-13, abs=1e-14)


@pytest.mark.skipif("numba" not in BACKENDS, reason="PMLP_TEST_BACKENDS leaves out numba")
@given(cursor=CURSORS, fit_epochs=st.integers(1, 12), settings=SETTINGS)
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_machine_code_agrees_with_arrays(schedule: str, cursor: tuple, fit_epochs: int, settings: dict) -> None:
    o = options(**settings)
    inputs, rates = np.zeros((3, len(STEP_INPUTS))), np.array([1.0, 0.5, 3.0])
    epoch, minibatch, minibatches = cursor
    run_pass("float64", f"schedule:{schedule}", inputs=inputs, rates=rates, n=3,
             options=np.array(list(vars(o).values())), minibatches=minibatches, fit_epochs=fit_epochs, epoch=epoch,
             minibatch=minibatch)  # fmt: skip
    expected = float(rate_factor(schedule, o, *map(np.array, cursor), fit_epochs))
    np.testing.assert_allclose(inputs[:, RATE], expected * rates, rtol=1e-13, atol=1e-14)
    inputs[:, RATE] = 0.0
    assert not inputs.any(), "nothing but rates is written"


def torch_rates(kind: str, steps: int, **given: Any) -> np.ndarray:
    """The learning rate of every step, of one that is 1 without schedule."""
    torch = requires("torch")
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    scheduler = getattr(torch.optim.lr_scheduler, kind)(optimizer, **given)
    rates = []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return np.array(rates)


# PyTorch's move once per epoch; so do ours with one minibatch an epoch.
@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (factors("step", 20, schedule_interval=3, schedule_factor=0.4), ("StepLR", {"step_size": 3, "gamma": 0.4})),
        (factors("exponential", 20, schedule_factor=0.8), ("ExponentialLR", {"gamma": 0.8})),
        (
            factors("cosine", 20, schedule_epochs=6, final_rate_factor=0.1),
            ("CosineAnnealingWarmRestarts", {"T_0": 6, "eta_min": 0.1}),
        ),
        (factors("cosine", 20, final_rate_factor=0.1), ("CosineAnnealingLR", {"T_max": 20, "eta_min": 0.1})),
        (
            factors("linear", 20, schedule_epochs=8, final_rate_factor=0.25),
            ("LinearLR", {"start_factor": 1.0, "end_factor": 0.25, "total_iters": 8}),
        ),
        (
            factors("constant", 20, warmup_epochs=5),
            ("LinearLR", {"start_factor": 0.2, "end_factor": 1.0, "total_iters": 4}),
        ),
        # PyTorch's cycle is over with its last step, and at its peak a step before the share that is given.
        (
            factors("one_cycle", 20, schedule_epochs=19, one_cycle_peak=5 / 19, one_cycle_start=0.1),
            ("OneCycleLR", {"max_lr": 1.0, "total_steps": 20, "pct_start": 0.3, "div_factor": 10.0,
                            "final_div_factor": 1e16}),
        ),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)  # fmt: skip
def test_schedules_are_pytorchs(ours: np.ndarray, theirs: tuple) -> None:
    kind, arguments = theirs
    np.testing.assert_allclose(ours, torch_rates(kind, 20, **arguments), rtol=1e-9, atol=1e-12)


def test_coslog4_is_realmlps() -> None:
    """Four waves over the training, of halves that double: rates peak at t = 1/30, 1/10 ..., see RealMLP, figure 2."""
    found = factors("coslog4", 1, 15)
    t = np.arange(15) / 15
    np.testing.assert_allclose(found, 0.5 * (1 - np.cos(2 * np.pi * np.log2(1 + 15 * t))), atol=1e-14)
    assert np.allclose(found[[0, 1, 3, 7]], 0.0, atol=1e-14)


def test_warm_up_comes_before_the_schedule_and_counts_the_step_itself() -> None:
    found = factors("linear", 4, 5, warmup_epochs=1.0)
    np.testing.assert_allclose(found[:5], [0.2, 0.4, 0.6, 0.8, 1.0])
    np.testing.assert_allclose(found[5:], 1 - np.arange(15) / 15)
    found = factors("one_cycle", 4, 5, warmup_epochs=9.0, one_cycle_start=0.5)
    np.testing.assert_allclose(found[:2], [0.5 / 45, 1 / 45])


def test_a_length_of_epochs_comes_before_that_of_the_fit() -> None:
    assert factors("linear", 6, fit_epochs=4).tolist() == [1.0, 0.75, 0.5, 0.25, 0.0, 0.0]
    assert factors("linear", 6, fit_epochs=4, schedule_epochs=2).tolist() == [1.0, 0.5, 0.0, 0.0, 0.0, 0.0]
    assert factors("cosine", 5, fit_epochs=2).tolist() == pytest.approx([1.0, 0.5, 1.0, 0.5, 1.0])


# Pools.


def pool_of(backend: str, *members: pm.Member, dtype: str = "float64") -> pm.Pool:
    return pm.Pool(list(members), 4, seed=3, backend=backend, dtype=dtype)


def plain_fit(pool: pm.Pool, epochs: int, **arguments: Any) -> pm.Pool:
    return pool.fit(X, Y, epochs=epochs, batch_size=16, progress=False, **arguments)


def same(a: pm.Pool, b: pm.Pool) -> bool:
    """Whether members have the same numbers: the same bits, where a backend promises them."""
    return bits(a) == bits(b)


def test_a_schedule_that_stays_at_one_changes_no_bit(backend: str) -> None:
    plain = plain_fit(pool_of(backend, pm.Member(hidden=5)), 3)
    idle = pm.Member(hidden=5, schedule="linear", final_rate_factor=1.0)
    assert same(plain_fit(pool_of(backend, idle), 3), plain)
    assert not same(plain_fit(pool_of(backend, pm.Member(hidden=5, schedule="linear")), 3), plain)


def test_the_first_fit_says_how_long_a_schedule_is(backend: str, tmp_path: Path) -> None:
    member = pm.Member(hidden=5, schedule="one_cycle", warmup_epochs=0.5)
    whole = plain_fit(pool_of(backend, member), 4)
    going_on = plain_fit(pool_of(backend, member), 2)
    going_on.partial_fit(X, Y, epochs=2, batch_size=16, progress=False)
    assert not same(whole, going_on)
    # With the length given it doesn't matter in how many parts it comes, or in which files.
    member = pm.Member(hidden=5, schedule="one_cycle", warmup_epochs=0.5, schedule_epochs=3.5)
    part = plain_fit(pool_of(backend, member), 2)
    part.save(tmp_path / "part.pmlp")
    part = pm.load(tmp_path / "part.pmlp").partial_fit(X, Y, epochs=2, batch_size=16, progress=False)
    assert same(whole, part)
    # A pool that was cut short, saved and loaded goes on by the epochs of its first fit.
    going_on = plain_fit(pool_of(backend, pm.Member(hidden=5, schedule="coslog4")), 2)
    going_on.save(tmp_path / "half.pmlp")
    loaded = pm.load(tmp_path / "half.pmlp")
    assert loaded._progress.fit_epochs.tolist() == [2]
    pools = [pool.partial_fit(X, Y, epochs=1, batch_size=16, progress=False) for pool in (going_on, loaded)]
    assert same(*pools)
    # fit starts anew, and so does a member with weights of its own.
    assert plain_fit(loaded, 5)._progress.fit_epochs.tolist() == [5]
    loaded.set_weights(0, loaded.extract(0))
    assert loaded._progress.fit_epochs.tolist() == [0] and loaded._progress.rate_factor.tolist() == [1.0]


@pytest.mark.parametrize("validation", [None, VALIDATION])
def test_rates_fall_on_a_plateau(backend: str, validation: Any, tmp_path: Path) -> None:
    """As the oracle's do, by validation loss where there is one; the state is kept by files, subset and concat."""
    members = [
        pm.Member(hidden=6, activation="tanh", learning_rate=rate, plateau_patience=patience, plateau_factor=0.5)
        for rate in (0.02, 0.3)
        for patience in (0, 1, 2)
    ]
    pool = plain_fit(pool_of(backend, *members), 12, validation_data=validation)
    reduced = pool._progress.rate_factor
    assert (reduced[[0, 3]] == 1.0).all() and (reduced < 0.5).any()
    for i, member in enumerate(members):
        optimizer = member.optimizer
        settings = {"learning_rate": optimizer.learning_rate}
        net = oracle.OracleMLP((6,), "tanh", 4, 1, "squared_error", "adam", settings, options=dict(member.options))
        key = oracle.stream_key(3, i)
        net.set_state(*oracle.initial_weights(member, 4, 1, key))
        watched = None if validation is None else tuple(np.float64(part) for part in validation)
        net.train(X.astype(float), Y, 12, 16, oracle.order_key(3), validation=watched)
        assert net.rate_factor == reduced[i]
        np.testing.assert_allclose(pool.extract(i).weights[0], net.weights[0], rtol=1e-6, atol=1e-9)
    pool.save(tmp_path / "pool.pmlp")
    half = [pool.subset([0, 4]), pool.subset([1, 2, 3, 5])]
    for other in (pm.load(tmp_path / "pool.pmlp"), pm.concat(half).subset([0, 1, 2, 3, 4, 5])):
        assert np.array_equal(other._progress.rate_factor, reduced)
        assert np.array_equal(other._progress.plateau_loss, pool._progress.plateau_loss)


def test_pools_without_schedules_compile_none() -> None:
    if "numba" not in BACKENDS:
        pytest.skip("PMLP_TEST_BACKENDS leaves out numba")
    pool = plain_fit(pool_of("numba", pm.Member(hidden=5), pm.Member(hidden=5, plateau_patience=1)), 1)
    backend: Any = pool._ready()
    templates = backend.runner.templates
    assert templates._schedules(np.arange(2)) == set()
    assert templates._inputs.factors.shape[0] == 2 and (templates._inputs.first == 0).all()


BAD = [
    ("schedule", "cosin", "cosine"),
    ("schedule_factor", 0.0, "above 0"),
    ("schedule_epochs", -1, "at least 0"),
    ("plateau_factor", 1.0, "below 1"),
    ("one_cycle_peak", 1.0, "below 1"),
    ("parametrization", "mup", "ntk"),
    ("l1", -0.1, "at least 0"),
    ("decay_biases", 1, "True or False"),
]


@pytest.mark.parametrize(("name", "value", "expected"), BAD)
def test_bad_values_are_refused_by_name(name: str, value: Any, expected: str) -> None:
    with pytest.raises(pm.SpecError, match=f"{name}.*{expected}"):
        pm.Member(**{name: value})


@pytest.mark.parametrize("schedule", ["one_cycle", "linear", "coslog4", "cosine"])
def test_a_loop_of_calls_stands_at_the_end_unless_it_says_how_long_it_is(schedule: str) -> None:
    """As the docstring of partial_fit says."""
    how: dict[str, Any] = {"batch_size": 8, "progress": False}
    loop = pm.Pool(pm.Member(hidden=4, schedule=schedule), X.shape[1], seed=3)
    after = [bits(loop.partial_fit(X, Y, epochs=2, **how)) for _ in range(3)]
    assert (after[0] == after[1] == after[2]) == (schedule != "cosine")
    loop = pm.Pool(pm.Member(hidden=4, schedule=schedule, schedule_epochs=6), X.shape[1], seed=3)
    for _ in range(3):
        loop.partial_fit(X, Y, epochs=2, **how)
    whole = pm.Pool(pm.Member(hidden=4, schedule=schedule), X.shape[1], seed=3).fit(X, Y, epochs=6, **how)
    assert bits(loop) == bits(whole)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_an_entry_names_the_options_that_its_formula_reads(schedule: str) -> None:
    read: set[str] = set()

    class Watched:
        def __getattr__(self, name: str) -> np.ndarray:
            read.add(name)
            return np.array(OPTIONS[name].default, float)

    rate_factor(schedule, Watched(), np.array(1), np.array(0), np.array(4), 8)
    assert read == set(options_read(schedule))
    epochs = [float(rate_factor(schedule, options(schedule_factor=0.5), np.array(3), np.array(0), np.array(4), length))
              for length in (8, 16)]  # fmt: skip
    assert (epochs[0] != epochs[1]) == SCHEDULES[schedule].has_length
