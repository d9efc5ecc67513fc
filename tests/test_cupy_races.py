"""The CuPy backend's kernels under sanitizers: no race, no address that a kernel was not given, nothing undefined; and
mutants of them, without a barrier or with a weaker bound, are caught.

Launches are recorded while pools train on the emulated device, and run again in a process of its own. With
HYPOTHESIS_PROFILE=thorough all mutants are tried, else a sample.
"""

import os
import random
import warnings

import numpy as np
import pytest

import pmlp_np as pm
from c_header import compiler
from kernel_mutants import barriers, masks
from recorded_launches import kernels_text, program, recording, replayed
from trained_bits import features, targets, uniform

N_FEATURES, N_ROWS = 11, 75
DTYPES = ("float32", "float64")
EVERYTHING = {
    "feature_scale": True, "clip_norm": 0.1, "average": 0.8, "dropout": 0.2, "input_dropout": 0.1,
    "schedule": "cosine", "parametrization": "ntk",
}  # fmt: skip
SAMPLE = 4
THOROUGH = os.environ.get("HYPOTHESIS_PROFILE") == "thorough"


def members(hiddens=((), (17,), (5, 40, 8)), **options):
    plain = {"activation": "sigmoid", "optimizer": pm.Adam(0.01)} | options
    return [pm.Member(hidden=hidden, **plain) for hidden in hiddens]


def record(specs, dtype, shared_bytes=227 * 1024, scale=1.0, outputs=3, mean=False, **arguments):
    """Launches of a pool that is trained, evaluated and asked for predictions: two chunks in a minibatch, the second
    not full, nor the last minibatch. scale: of the features; mean: whether a mean over members is asked for, on more
    rows than a thread block has threads."""
    X, y = features(N_ROWS, 1, dtype) * np.dtype(dtype).type(scale), targets(pm.SquaredError(), N_ROWS, 2, dtype)
    y = y[:, :outputs]
    with recording(shared_bytes=shared_bytes) as device, warnings.catch_warnings():
        warnings.simplefilter("ignore", pm.DivergedWarning)
        pool = pm.Pool(specs, N_FEATURES, outputs, "squared_error", seed=7, dtype=dtype, backend="recording")
        pool.fit(X, y, **{"epochs": 2, "batch_size": 40, "progress": False} | arguments)
        pool.forward(X[:37])
        if mean:
            pool.forward(np.concatenate([X, X, X, X]), reduce="mean")
        pool.evaluate(X[:50], y[:50])
    return device.recorded


def recorded(dtype):
    validation = features(40, 3, dtype), targets(pm.SquaredError(), 40, 4, dtype)
    rows = [np.floor(uniform(50 + 9 * i, 10 + i) * N_ROWS).astype(np.int64) for i in range(3)]
    stopping = {"validation_data": validation, "early_stopping": True, "patience": 2, "epochs": 5}
    # Some parameters overflow with a step, others don't.
    largest = float(np.finfo(dtype).max) / 20.0
    tanh = members(activation="tanh")
    alike = members([(5, 40, 8), (5, 39, 7)], **EVERYTHING)
    launches = [
        record(members(), dtype, mean=True),
        record(members(dropout=0.3, input_dropout=0.2, optimizer=pm.SGD(0.01), bias=False), dtype, batch_size=37),
        record(members(**EVERYTHING), dtype, sample_weight=np.floor(4.0 * uniform(N_ROWS, 30)) / 4.0),
        record(members(plateau_patience=1, optimizer=pm.Adam(0.5)), dtype, **stopping),
        record(tanh, dtype, shuffle="member", rows=rows, validation_rows=rows[::-1], batch_size=3),
        record(members(optimizer=pm.SGD(largest)), dtype, scale=100.0, batch_size=N_ROWS, **stopping),
        # One output, and minibatches of one chunk, whose gradients by weights have no place in memory.
        record([*tanh, *members(bias=False)], dtype, outputs=1, batch_size=20),
        record(alike, dtype, 9000, **stopping),
        record(alike, dtype, 0, shuffle="member"),
        record(members(optimizer=pm.SGD(0.01)), dtype, 0, shuffle=None),
        # So many threads that some have no part in the last of a layer's sums.
        record(members([(3, 150)], bias=False, **EVERYTHING), dtype, epochs=1),
    ]
    return b"".join(each for case in launches for each in case)


@pytest.fixture(scope="session")
def launches(tmp_path_factory):
    """From a dtype to a file of recorded launches; without g++ these tests are skipped, and fail where CI=true."""
    compiler(("g++",))
    folder = tmp_path_factory.mktemp("launches")

    def of(dtype):
        path = folder / dtype
        if not path.exists():
            path.write_bytes(recorded(dtype))
        return path

    return of


# Of three orders of threads; with float64, whose texts differ little, in a random one alone.
@pytest.mark.one_in(4)
@pytest.mark.parametrize(("dtype", "order"), [("float32", 0), ("float32", 1), ("float32", 2), ("float64", 2)])
@pytest.mark.parametrize("sanitizer", ["thread", "address,undefined"])
def test_kernels_are_clean(dtype, order, sanitizer, launches):
    assert replayed(program(kernels_text(dtype), sanitizer), launches(dtype), order, seed=5) == ""


def seen(mutant, launches):
    """What the first sanitizer says that notices a mutant; "" where none does."""
    for dtype in DTYPES:
        for sanitizer in mutant.sanitizers:
            # A program of this process alone, as it is removed.
            made = program(f"{mutant.text(dtype)}// {os.getpid()}\n", sanitizer)
            try:
                said = replayed(made, launches(dtype), order=2, seed=5)
            finally:
                made.unlink()
            if said:
                return said
    return ""


MUTANTS = {mutant.name: mutant for mutant in (*barriers(), *masks())}


@pytest.mark.one_in(2)
@pytest.mark.parametrize("which", MUTANTS if THOROUGH else range(SAMPLE))
def test_mutants_are_caught(which, launches):
    """which: a mutant's name, or the number of a draw."""
    seed = random.SystemRandom().randrange(2**32)
    mutant = MUTANTS[which] if THOROUGH else random.Random(seed).choice((barriers, masks)[which % 2]())
    print(f"seed {seed}: {mutant.name}")
    assert seen(mutant, launches), f"seed {seed}: nobody notices: {mutant.name}"


def test_barriers_are_found_by_their_text():
    assert len(barriers()) == len(MUTANTS) - len(masks()) > 20
