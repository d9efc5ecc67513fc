"""What every test file shares: the backends to test, and the rule for optional packages. How much is tested is said by
`profiles`."""

import gc
import importlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import pmlp_np as pm
from pmlp_np import backends
from pmlp_np.base import interrupts
from pmlp_np.formulas.activations import ACTIVATION_ALIASES, ACTIVATIONS
from pmlp_np.formulas.losses import LOSS_ALIASES, LOSSES
from pmlp_np.formulas.optimizers import OPTIMIZERS, RULES
from pmlp_np.formulas.schedules import SCHEDULES
from pmlp_np.training.metrics import METRIC_ALIASES, METRICS

pytest_plugins = ["profiles"]

# Those of the library, and "emulated": the kernels of the backend "cupy", run on the CPU.
BACKENDS = tuple(name for name in os.environ.get("PMLP_TEST_BACKENDS", "numba,reference").split(",") if name)
if "emulated" in BACKENDS:
    import emulated_device

    backends.BACKENDS["emulated"] = emulated_device.ENTRY


def pytest_collection_finish() -> None:
    """Have Python's collector of garbage leave alone what lives as long as the session: each full collection walked
    through 7,000 tests, for half a second."""
    gc.collect()
    gc.freeze()


# For the whole session, so that Hypothesis may run many examples under one.
@pytest.fixture(params=BACKENDS, scope="session")
def backend(request: pytest.FixtureRequest) -> str:
    """Each backend that PMLP_TEST_BACKENDS names, by default all that need nothing but the core dependencies."""
    return str(request.param)


@pytest.fixture
def own_formulas() -> Iterator[None]:
    """What a test enters into the tables of formulas, ours and the oracle's, is forgotten after it."""
    import formula_samples
    import oracle
    import sklearn_metrics

    tables: list[dict[str, Any]] = [
        ACTIVATIONS, ACTIVATION_ALIASES, LOSSES, LOSS_ALIASES, OPTIMIZERS, RULES, SCHEDULES, METRICS, METRIC_ALIASES,
        oracle.ACTIVATIONS, oracle.KINKS, oracle.LOSSES, oracle.OPTIMIZERS, oracle.SLOT_POWERS, oracle.SCHEDULES,
        formula_samples.RULE_SETTINGS, sklearn_metrics.VALUES, sklearn_metrics.CLASSES,
    ]  # fmt: skip
    before = [dict(table) for table in tables]
    yield
    for table, entries in zip(tables, before, strict=True):
        for name in set(table) - set(entries):
            del table[name]


@pytest.fixture
def ctrl_c_as_in_a_terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Python's own handler of SIGINT, and no press before: a shell that starts the tests in the background leaves the
    signal ignored, and a press in a test before this one may be less than two seconds ago."""
    monkeypatch.setattr(interrupts._state, "last_press", float("-inf"))
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def requires(module_name: str) -> ModuleType:
    """Return the imported module; where it is not installed, skip the test, or fail it where CI=true.

    A module that is installed but broken raises its own error in both cases.
    """
    try:
        return importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        package = module_name.partition(".")[0]
        if error.name is None or error.name.partition(".")[0] != package:
            raise
        reason = f"{package} is not installed"
    if os.environ.get("CI") == "true":
        pytest.fail(f"{reason}, and CI=true allows no test to be skipped for it")
    pytest.skip(reason)


def run_python(code: str, *arguments: str, **variables: str) -> None:
    """Run code that may import the package and these tests in a process of its own, with environment variables."""
    package = Path(pm.__file__).parents[1]
    environment = os.environ | variables | {"PYTHONPATH": os.pathsep.join([str(package), str(Path(__file__).parent)])}
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, f"exit status {done.returncode}\n{done.stdout}\n{done.stderr}"
