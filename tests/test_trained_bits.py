"""Trained members have the bits that are committed, on this machine as on every other."""

import pytest

from conftest import BACKENDS
from trained_bits import CASES, DTYPES, committed, digest

pytestmark = pytest.mark.skipif(
    "numba" not in BACKENDS, reason="PMLP_TEST_BACKENDS leaves out numba, which promises bits"
)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", CASES)
def test_trained_members_have_the_committed_bits(name: str, dtype: str) -> None:
    assert digest(CASES[name].train(dtype)) == committed()[name][dtype]


def test_every_committed_digest_is_compared() -> None:
    assert committed().keys() == CASES.keys()
    digests = [digest for of_case in committed().values() for digest in of_case.values()]
    # Each option does something: no two cases end alike.
    assert len(set(digests)) == len(digests)
