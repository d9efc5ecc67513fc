"""The rule for optional packages."""

import math

import pytest

from conftest import requires


def test_missing_packages_skip_here_and_fail_on_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    assert requires("math") is math
    for value, outcome in (("", pytest.skip.Exception), ("true", pytest.fail.Exception)):
        monkeypatch.setenv("CI", value)
        for name in ("no_such_package", "no_such_package.part"):
            with pytest.raises(outcome, match="no_such_package is not installed"):
                requires(name)
