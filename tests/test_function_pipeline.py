"""Driver functions: those that only compiled functions call are translated once, and run as parts of the entries."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numba import types
from numba.core.caching import NullCache

from pmlp_np.backends.numba.compiling import kernel


@kernel()
def _twice_and(x, more):
    return 2 * x + more


@kernel()
def _nested(x, y):
    return _twice_and(x, 3) - _twice_and(y, 7) + _twice_and(x, y)


@kernel(entry=True)
def _entry(x, y):
    return _nested(x, y) if x < y else _nested(y, 5)


@kernel(entry=True)
def _calls_an_entry(x, y):
    return _entry(x, y) + _twice_and(y, 1)


# Stored code would leave nothing to compile.
for _each in (_entry, _calls_an_entry):
    _each._cache = NullCache()


def nested(x, y):
    return 2 * x + 3 - (2 * y + 7) + 2 * x + y


NUMBERS = st.integers(-(2**40), 2**40)


@given(x=NUMBERS, y=NUMBERS)
def test_an_entry_runs_what_it_calls_and_is_called_by_others(x, y):
    expected = nested(x, y) if x < y else nested(y, 5)
    assert _entry(x, y) == expected
    assert _calls_an_entry(x, y) == expected + 2 * y + 1


def test_constants_make_no_version_of_their_own():
    _entry(1, 2)
    signatures = [signature for each in (_twice_and, _nested) for signature in each.overloads]
    assert signatures and not any(isinstance(one, types.Literal) for signature in signatures for one in signature)


def test_python_cannot_call_what_has_no_machine_code():
    _entry(1, 2)
    with pytest.raises(SystemError):
        _twice_and(1, 2)


def test_only_entries_are_made_machine_code():
    _entry(1, 2)
    libraries = [next(iter(each.overloads.values())).library for each in (_twice_and, _nested, _entry)]
    compiled = [library._object_caching_enabled and library._compiled_object is not None for library in libraries]
    assert compiled == [False, False, True]


def test_entries_of_floats_have_versions_of_their_own():
    assert _calls_an_entry(np.float64(1.5), np.float64(2.5)) == nested(1.5, 2.5) + 6.0
