"""C headers that `to_c` writes, compiled and called."""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

# Every warning that a careful user turns on, as errors.
WARNINGS = ("-pedantic", "-Wall", "-Wextra", "-Wconversion", "-Wdouble-promotion", "-Wshadow", "-Werror")


def compiler(names: tuple[str, ...] = ("cc", "gcc", "clang")) -> str:
    """A C compiler; where there is none, skip the test, or fail it where CI=true."""
    found = next(filter(None, map(shutil.which, names)), None)
    if found:
        return found
    reason = f"there is no compiler ({', '.join(names)})"
    if os.environ.get("CI") == "true":
        pytest.fail(f"{reason}, and CI=true allows no test to be skipped for it")
    pytest.skip(reason)


@dataclass
class Functions:
    """A compiled header's functions of x. names: without the prefix."""

    library: ctypes.CDLL
    names: list[str]
    number: Any

    def rows(self, name: str, X: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """What a function says of each row: (n_samples, *shape); of shape () what it returns."""
        X = np.ascontiguousarray(X, self.number)
        labels = name == "predict_labels" or (name == "predict" and self.returns_int(name))
        out = np.full((len(X), *shape), -7, np.int32 if labels else self.number)
        getattr(self.library, f"rows_{name}")(X.ctypes, ctypes.c_long(len(X)), out.ctypes)
        return out.astype(np.int64) if labels else out

    def returns_int(self, name: str) -> bool:
        return bool(ctypes.c_int.in_dll(self.library, f"int_{name}").value)


def compiled(text: str, prefix: str = "model", standard: str = "c99") -> Functions:
    """The functions of a header, compiled in a folder of its own with every warning as an error."""
    found = re.findall(rf"^static inline (\w+) {prefix}_(forward|predict\w*)\(", text, re.MULTILINE)
    number = "float" if f"static inline float {prefix}" in text or "const float *x" in text else "double"
    macro, lines = prefix.upper(), [f'#include "{prefix}.h"']
    for returns, name in found:
        out = "int" if returns == "int" or name == "predict_labels" else number
        width = {"forward": "RAW_OUTPUTS", "predict_proba": "RAW_OUTPUTS", "predict_quantiles": "RAW_OUTPUTS"}
        step = f"{macro}_N_{width.get(name, 'OUTPUTS')}"
        call = f"{prefix}_{name}(X + i * {macro}_N_FEATURES, out + i * {step})"
        if returns != "void":
            call = f"out[i] = {prefix}_{name}(X + i * {macro}_N_FEATURES)"
        lines += [f"int int_{name} = {int(returns == 'int')};",
                  f"void rows_{name}(const {number} *X, long n, {out} *out);",
                  f"void rows_{name}(const {number} *X, long n, {out} *out)",
                  f"{{ long i; for (i = 0; i < n; ++i) {call}; }}"]  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / f"{prefix}.h").write_text(text, encoding="utf-8")
        (Path(folder) / "rows.c").write_text("\n".join(lines) + "\n")
        options = [f"-std={standard}", *WARNINGS, "-O0", "-fPIC", "-shared"]
        command = [compiler(), *options, "rows.c", "-o", "rows.so", "-lm"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=100)
        assert done.returncode == 0, done.stderr
        library = ctypes.CDLL(str(Path(folder) / "rows.so"))
    return Functions(library, [name for _, name in found], np.float32 if number == "float" else np.float64)
