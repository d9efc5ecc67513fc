"""`pmlp doctor`: what is installed, and what this machine can do."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import time
from typing import Any

import pmlp_np as pm
from pmlp_np.app.environment import available_threads, version_of
from pmlp_np.app.screen import Screen
from pmlp_np.backends import machine_facts
from pmlp_np.base.errors import free_memory, readable_bytes

# Packages by the extra that brings them.
_PACKAGES = {
    "core": ("numpy", "numba", "llvmlite"),
    "app": ("typer", "rich", "pandas", "pyarrow", "skops"),
    "plots": ("matplotlib",),
    "export": ("onnx", "scikit-learn"),
    "beside": ("onnxruntime", "torch"),
    "gpu": ("cupy-cuda12x",),
}


def run_doctor(screen: Screen) -> None:
    """Do all of `pmlp doctor`."""
    with screen.busy("Measuring"):
        found = facts()
    machine, numba = found["machine"], found["backends"]["numba"]
    missing = [f"{name} ({extra})" for extra, group in found["packages"].items() for name, v in group.items() if not v]
    there = [f"{name} {v}" for group in found["packages"].values() for name, v in group.items() if v]
    cache = "none can be used: set PMLP_CACHE_DIR" if numba["cache"] is None else numba["cache"]
    bits = f", {numba['vector_bits']} bits" if numba["vector_bits"] else ""
    gpu = found["gpu"]
    peak, one = (f"{numba[name]:.0f}" for name in ("peak_gflops", "peak_gflops_one_core"))
    screen.facts([
        ("pmlp_np", f"{found['pmlp_np']} in {found['package']}"),
        ("Python", f"{found['python']}, {machine['system']}"),
        ("Packages", ", ".join(there)),
        ("Not installed", ", ".join(missing) or "nothing that could be of use"),
        ("Backends", "numba (default), reference"),
        ("Processor", f"{numba['processor']}: {numba['simd']}{bits}"),
        ("Memory", f"{readable_bytes(machine['free_memory'])} free"),
        ("Threads", f"{numba['threads']} of {machine['cores']} cores; {numba['threading_layer']}"),
        ("Measured peak", f"{peak} GFLOP/s in float32, {one} on one core"),
        ("Compile cache", cache),
        ("First fit", f"{found['first_fit_seconds']:.1f} s from loading Numba to the end of a tiny fit"),
        ("GPU", gpu["note"]),
    ])  # fmt: skip
    screen.document(found)


def facts() -> dict[str, Any]:
    """All findings by name."""
    began = time.perf_counter()
    pool = pm.Pool(pm.Member(hidden=4), n_features=2)
    pool.fit([[0.0, 1.0], [1.0, 0.0]], [0.0, 1.0], progress=False, on_interrupt="raise")
    first_fit = time.perf_counter() - began
    return {
        "pmlp_np": pm.__version__,
        "package": os.path.dirname(pm.__file__),
        "python": platform.python_version(),
        "packages": {extra: {name: version_of(name) for name in names} for extra, names in _PACKAGES.items()},
        "machine": {
            "system": f"{platform.system()} {platform.machine()}",
            "cores": available_threads(),
            "free_memory": free_memory(),
        },
        "backends": {"numba": machine_facts(), "reference": {"devices": ["cpu", "gpu"]}},
        "first_fit_seconds": round(first_fit, 2),
        "gpu": _gpu(),
    }


def _gpu() -> dict[str, Any]:
    """{"devices": names, "note": a sentence}. The backend "cupy" uses them, and the reference backend can."""
    tool = shutil.which("nvidia-smi")
    names: list[str] = []
    if tool:
        try:
            done = subprocess.run([tool, "--query-gpu=name", "--format=csv,noheader"], capture_output=True, text=True,
                                  timeout=10)  # fmt: skip
            names = [line.strip() for line in done.stdout.splitlines() if line.strip()] if done.returncode == 0 else []
        except (OSError, subprocess.TimeoutExpired):
            names = []
    cupy = next((v for name in ("cupy-cuda12x", "cupy-cuda13x", "cupy") if (v := version_of(name))), None)
    if not names:
        note = "none found; none is needed"
    elif cupy is None:
        note = (
            f"{', '.join(names)}; not used: CuPy is missing, pip install 'pmlp_np[gpu]' (CUDA 12) or 'pmlp_np[gpu13]'"
        )
    else:
        note = f"{', '.join(names)}; CuPy {cupy}: used by backend='cupy'"
    return {"devices": names, "cupy": cupy, "note": note}
