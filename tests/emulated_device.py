"""A device whose kernels run on the CPU: the texts that a GPU would compile, compiled by g++ with emulation/host.h.

Everything but the compiler and the processor is the backend's: formulas, kernels, launch plans, memory, training. To
compile but two texts, one for each dtype, the emulation has all formulas of the tables in one and chooses among them
when a kernel is launched. Pools with registered formulas get the text that a GPU gets.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path

import numpy as np

import trained_bits
from pmlp_np import backends
from pmlp_np.backends.cupy.backend import CupyBackend
from pmlp_np.backends.cupy.cuda_text import SCALARS
from pmlp_np.backends.cupy.device import Device, Kernel
from pmlp_np.backends.cupy.formulas_text import loss_text, part_text, pool_text, rule_text
from pmlp_np.backends.cupy.program_text import (
    DRAW_ORDERS,
    DRAW_WEIGHTS,
    MIXED,
    SHARED,
    infer_kernel,
    mean_kernel,
    program_text,
    train_kernel,
)
from pmlp_np.formulas.activations import ACTIVATIONS
from pmlp_np.formulas.loss_base import Loss
from pmlp_np.formulas.losses import LOSSES
from pmlp_np.formulas.optimizers import RULES
from pmlp_np.formulas.schedules import SCHEDULES
from strict_cupy import DeviceArray, device_module

_FOLDER = Path(__file__).resolve().parent / "emulation"
# What comes before a text of kernels.
EMULATOR = "\n".join(_FOLDER.joinpath(name).read_text(encoding="utf-8") for name in ("sanitizers.h", "host.h"))
# Every operation one of IEEE 754, as COMPILER_OPTIONS has it.
FLAGS = ("-std=c++17", "-O1", "-ffp-contract=off", "-mfma", "-fno-strict-aliasing", "-w", "-shared", "-fPIC")
CACHE = Path(tempfile.gettempdir()) / f"pmlp_emulation_{os.getuid()}"
# The losses that one text has, and the rule that stands for all.
KNOWN = (*(loss for loss in LOSSES.values() if not loss.registered), *trained_bits.LOSSES.values())
ANY = "any"
PARTS = ("raw", "link", "deviation")
EVERY_KERNEL = (
    *(mean_kernel(part) for part in PARTS),
    DRAW_ORDERS, DRAW_WEIGHTS, *(train_kernel(ANY, memory) for memory in (SHARED, MIXED)),
    *(infer_kernel(task, memory) for task in ("evaluate", "predict") for memory in (SHARED, MIXED)),
)  # fmt: skip


def compiler() -> str | None:
    return shutil.which("g++")


class EmulatedKernel:
    """choices: values of the library's variables, by which a text that has all formulas chooses."""

    def __init__(self, library: ctypes.CDLL, name: str, device: EmulatedDevice, **choices: int) -> None:
        self._library, self._name, self._device, self._choices = library, name, device, choices
        self._run = getattr(library, f"emulate_{name}")
        self._run.restype = ctypes.c_char_p

    def launch(self, blocks: int, threads: int, shared_bytes: int, jobs: np.ndarray) -> None:
        device = self._device
        for name, value in self._choices.items():
            ctypes.c_int.in_dll(self._library, name).value = value
        problem = self._run(
            ctypes.c_uint(blocks), ctypes.c_uint(threads), ctypes.c_size_t(shared_bytes), ctypes.c_int(device.order),
            ctypes.c_uint64(device.seed), jobs.ctypes,
        )  # fmt: skip
        device.launches.append((self._name, blocks))
        device.most_shared = max(device.most_shared, shared_bytes)
        if problem:
            raise RuntimeError(f"{self._name}: {problem.decode()}")


class EmulatedDevice:
    """order: in which threads go on, 0 ascending, 1 descending, 2 at random by `seed`."""

    processors = 2
    operations_per_second = 5e7

    def __init__(
        self, shared_bytes: int = 227 * 1024, order: int = 1, seed: int = 0, processor_shared_bytes: int = 228 * 1024
    ) -> None:
        self.shared_bytes, self.order, self.seed = shared_bytes, order, seed
        self.processor_shared_bytes = processor_shared_bytes
        self.launches: list[tuple[str, int]] = []
        self.most_shared = 0
        # It refuses what CuPy refuses: arrays of main memory, and the other way round.
        self.xp = device_module()

    def compile(self, text: str, name: str) -> EmulatedKernel:
        return EmulatedKernel(library(text, (name,)), name, self)

    def address(self, array: DeviceArray) -> int:
        return int(array.values.__array_interface__["data"][0])

    def synchronize(self) -> None:
        pass


@cache
def library(text: str, names: Sequence[str], flags: tuple[str, ...] = FLAGS) -> ctypes.CDLL:
    """The compiled text, from earlier runs where there is one."""
    entries = [
        f'extern "C" const char* emulate_{name}(unsigned blocks, unsigned threads, size_t bytes, int order,'
        " uint64_t seed, const Jobs* jobs) {"
        f" return emulation::launch(blocks, threads, bytes, order, seed, [=] {{ {name}(*jobs); }}); }}"
        for name in names
    ]
    return ctypes.CDLL(str(compiled("\n".join([EMULATOR, "#line 1", text, *entries]), flags)))


def compiled(source: str, flags: Iterable[str]) -> Path:
    """What g++ makes of a source, from earlier runs where there is one."""
    key = hashlib.sha256("\n".join([*flags, source]).encode()).hexdigest()[:24]
    CACHE.mkdir(mode=0o700, exist_ok=True)
    path = CACHE / f"{key}.so"
    if not path.exists():
        found = compiler()
        assert found is not None
        with tempfile.TemporaryDirectory() as folder:
            written, made = Path(folder) / "kernels.cpp", CACHE / f"{key}.{os.getpid()}.part"
            written.write_text(source, encoding="utf-8")
            command = [found, *flags, "-o", str(made), str(written)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr[:4000]
            os.replace(made, path)
    return path


def _switch(signature: str, code: str, calls: Sequence[str]) -> str:
    cases = [f"case {i}: {call} break;" for i, call in enumerate(calls)]
    return f"DEVICE {signature} {{ switch ({code}) {{ {' '.join(cases)} }} __builtin_trap(); }}"


@cache
def everything_text(dtype: str, losses: tuple[Loss, ...] = KNOWN) -> str:
    """A text with all formulas of the tables but for these losses, and one rule that is any of them."""
    scalar, names = SCALARS[dtype], [f"loss_{i}" for i in range(len(losses))]
    parts = ['extern "C" { int chosen_loss, chosen_rule; }']
    parts += [loss_text(loss, dtype, name) for loss, name in zip(losses, names, strict=True)]
    arguments = f"const {scalar}* raw, const int64 ld, const {scalar}* target, const int64 ld_target, const int64 n_raw"
    given = "raw, ld, target, ld_target, n_raw"
    parts.append(_switch(f"{scalar} loss_train({arguments}, const {scalar} factor, {scalar}* dz)", "chosen_loss",
                         [f"return {name}_train({given}, factor, dz);" for name in names]))  # fmt: skip
    parts.append(_switch(f"{scalar} loss_evaluate({arguments}, {scalar}& score)", "chosen_loss",
                         [f"return {name}_evaluate({given}, score);" for name in names]))  # fmt: skip
    # The rest as for a pool, but for its loss, which comes first.
    rest = pool_text(losses[0], dtype, ACTIVATIONS, (), SCHEDULES)
    parts.append(rest[len(loss_text(losses[0], dtype)) :])
    parts += [rule_text(rule, dtype) for rule in RULES]
    parts += [
        f"struct rule_{ANY} {{",
        _switch("static int n_slots()", "chosen_rule", [f"return rule_{rule}::n_slots();" for rule in RULES]),
        _switch(f"static void scalars(const double* inputs, const int64 step, {scalar}* numbers)", "chosen_rule",
                [f"return rule_{rule}::scalars(inputs, step, numbers);" for rule in RULES]),
        _switch(f"static void update({scalar}& w, const {scalar} g, {scalar}* slot, const {scalar}* numbers)",
                "chosen_rule", [f"return rule_{rule}::update(w, g, slot, numbers);" for rule in RULES]),
        "};",
    ]  # fmt: skip
    for part in PARTS:
        having = {i: loss for i, loss in enumerate(losses) if part in loss.parts}
        parts += [part_text(loss, part, dtype, f"{part}_{i}") for i, loss in having.items()]
        known = [f"part_{part}_{i}" if i in having else None for i in range(len(losses))]
        counts = [f"return {each}::count(n_raw);" if each else "__builtin_trap();" for each in known]
        added = [f"return {each}::add(raw, n_raw, sums, line);" if each else "__builtin_trap();" for each in known]
        parts += [
            f"struct part_{part} {{",
            _switch("static int64 count(const int64 n_raw)", "chosen_loss", counts),
            _switch(f"static void add(const {scalar}* raw, const int64 n_raw, double* sums, const int64 line)",
                    "chosen_loss", added),
            "};",
        ]  # fmt: skip
    return program_text(dtype, "\n\n".join(parts), EVERY_KERNEL)


class EmulatedBackend(CupyBackend):
    """The CuPy backend on the emulation."""

    on = EmulatedDevice()

    def _open(self) -> Device:
        return self.on

    def _kernel(self, name: str, rules: Iterable[str], part: str | None = None) -> Kernel:
        loss, codes = self.plan.loss, np.unique(self.layout.activation[self.layout.activation >= 0]).tolist()
        if loss.registered or any(list(ACTIVATIONS.values())[code].registered for code in codes):
            return super()._kernel(name, rules, part)
        losses = KNOWN if loss in KNOWN else (loss,)
        choices = {"chosen_loss": losses.index(loss)}
        for rule in rules:
            name, choices["chosen_rule"] = name.replace(rule, ANY, 1), list(RULES).index(rule)
        return EmulatedKernel(
            library(everything_text(self.plan.dtype.name, losses), EVERY_KERNEL), name, self.on, **choices
        )


# For the library's table of backends.
ENTRY = backends.Entry(lambda: EmulatedBackend, ("gpu",))
