"""The kernels' machine code, by NVIDIA's own compiler and without a GPU: nothing is fused that the text does not fuse,
registers and spills keep to a budget, and the loops of matrix products consist of multiply-adds.

What the code computes is tested on the emulation (test_cupy.py); how fast it is only a GPU can tell.
"""

import os
from collections import Counter
from typing import NamedTuple

import pytest

from benchmarks.gpu import machine_code, nvrtc
from formulas_in_machine_code import formulas
from pmlp_np import PAPER_ACTIVATIONS
from pmlp_np.backends.cupy.device import COMPILER_OPTIONS
from pmlp_np.backends.cupy.program_text import MOST_THREADS, RESIDENT

# Formulas of which the compiler merges parts that are computed twice: their code has fewer multiply-adds than the text.
MERGED = {"activation_of_sin", "loss_poisson", "loss_gaussian_nll", "rule_of_nadam", "rule_of_nadam_shrinking"}
# Of a name that the text declares and never uses. Nothing else may be warned of.
UNUSED = "#177-D"


class Budget(NamedTuple):
    """What a kernel may need at most: registers of a thread, bytes of registers that are spilled and loaded again, and
    whether there may be such loads in the loops of products."""

    registers: int
    spill_stores: int
    spill_loads: int
    spills_in_loops: bool = False


# Training is bounded to what lets two blocks of the most threads reside on a multiprocessor, of 65,536 registers. What
# does not fit is state of epochs and minibatches, which chunks of rows seldom need.
MOST = 65_536 // (MOST_THREADS * RESIDENT)
TRAINING, TRAINING_MIXED = Budget(MOST, 480, 850), Budget(MOST, 800, 1600)
TRAINING_DOUBLE = Budget(MOST, 1100, 2500, spills_in_loops=True)
INFERENCE, INFERENCE_MIXED = Budget(128, 0, 0), Budget(176, 32, 128)


class Case(NamedTuple):
    """Kernels of a pool, the architectures to compile them for, and their budget."""

    kernels: list[str]
    architectures: list[str]
    budget: Budget
    formulas: dict[str, object]


CASES = {
    "the paper's pool": Case(
        ["train_sgd_shared"], ["sm_75", "sm_80", "sm_90", "sm_100"], TRAINING, {"activations": PAPER_ACTIVATIONS}
    ),
    "classes": Case(
        ["train_adam_shared"], ["sm_80", "sm_90"], TRAINING,
        {"loss": "cross_entropy", "activations": ["relu", "gelu"], "schedules": ["cosine"]},
    ),
    "several heads": Case(
        ["train_momentum_shared"], ["sm_75"], TRAINING, {"loss": "gaussian_nll", "activations": ["tanh"]}
    ),
    "larger than shared memory": Case(
        ["train_adam_mixed"], ["sm_90", "sm_100"], TRAINING_MIXED, {"activations": ["relu", "mish"]}
    ),
    "float64": Case(
        ["train_adam_shared"], ["sm_80"], TRAINING_DOUBLE,
        {"dtype": "float64", "loss": "cross_entropy", "activations": ["tanh"]},
    ),
    "inference": Case(
        ["evaluate_shared", "predict_shared"], ["sm_75", "sm_80", "sm_90", "sm_100"], INFERENCE,
        {"loss": "cross_entropy", "activations": PAPER_ACTIVATIONS},
    ),
    "means": Case(["mean_raw", "mean_link"], ["sm_75", "sm_90"], Budget(64, 0, 0), {"loss": "cross_entropy"}),
    "means of deviations": Case(
        ["mean_deviation"], ["sm_80"], Budget(64, 0, 0), {"dtype": "float64", "loss": "gaussian_nll"}
    ),
    "inference, larger than shared memory": Case(
        ["evaluate_mixed", "predict_mixed"], ["sm_80"], INFERENCE_MIXED, {"activations": ["relu"]}
    ),
}  # fmt: skip
COMPILED = [(name, architecture) for name, case in CASES.items() for architecture in case.architectures]


@pytest.fixture(autouse=True, scope="module")
def wheels():
    """Where a wheel is not installed, skip these tests, or fail them where CI=true."""
    try:
        for compiler in (nvrtc.COMPILER, nvrtc.COMPILER_12):
            nvrtc.file_of(compiler, r"libnvrtc\.so\.\d+")
        nvrtc.file_of(nvrtc.DISASSEMBLER, "nvdisasm")
    except nvrtc.Missing as missing:
        if os.environ.get("CI") == "true":
            pytest.fail(f"{missing}, and CI=true allows no test to be skipped for it")
        pytest.skip(str(missing))


def warnings(log):
    lines = [line for line in log.splitlines() if "warning" in line]
    return [line for line in lines if UNUSED not in line and "can be suppressed" not in line]


@pytest.mark.one_in(8)
@pytest.mark.parametrize(("name", "architecture"), COMPILED, ids=[f"{name}, {where}" for name, where in COMPILED])
def test_kernels_keep_to_their_budget(name, architecture):
    case = CASES[name]
    compiled = machine_code.compiled_kernels(machine_code.kernel_text(case.kernels, **case.formulas), architecture)
    assert warnings(compiled.log) == []
    usages, instructions = machine_code.usages(compiled.log), machine_code.disassembled(compiled.code)
    for kernel in case.kernels:
        usage, budget = usages[kernel], case.budget
        assert usage.registers <= budget.registers
        assert usage.spill_stores <= budget.spill_stores and usage.spill_loads <= budget.spill_loads
        # No array has fallen into local memory: what is there are spilled registers.
        local = [
            line for line in instructions[kernel] if not line.endswith(":") and operation(line) in machine_code.LOCAL
        ]
        assert all("SpillRefill" in line for line in local)
        assert usage.shared == 0
        loops = machine_code.product_loops(instructions[kernel])
        if kernel.endswith("shared"):
            whole = [machine_code.share(loop) for loop in loops if multiply_adds(loop) >= 256]
            assert len(whole) == (3 if kernel.startswith("train") else 1)
            if case.formulas.get("dtype") != "float64":
                assert min(whole) > 0.835 and max(whole) > 0.855
        if not budget.spills_in_loops:
            assert all(not loop[name] for loop in loops for name in machine_code.LOCAL)


@pytest.mark.one_in(8)
@pytest.mark.parametrize("name", CASES)
def test_cuda_12_compiles_them_too(name):
    """It refuses what CUDA 13 takes, such as lambdas with parameters of any type."""
    case = CASES[name]
    text = machine_code.kernel_text(case.kernels, **case.formulas)
    compiled = machine_code.compiled_kernels(text, case.architectures[0], nvrtc.COMPILER_12)
    assert nvrtc.version(nvrtc.COMPILER_12)[0] == 12
    assert warnings(compiled.log) == []
    usages = machine_code.usages(compiled.log)
    assert all(usages[kernel].registers <= case.budget.registers for kernel in case.kernels)


def operation(line):
    return machine_code.opcode(line).partition(".")[0]


def multiply_adds(found):
    return sum(found[name] for name in machine_code.MULTIPLY_ADDS)


def by_formula(text, listed, options):
    """Multiply-adds in the machine code of each formula: of float32, of float64."""
    compiled = nvrtc.compiled(text, "sm_90", options)
    assert warnings(compiled.log) == []
    kernels = machine_code.disassembled(compiled.code)
    found = {}
    for formula in listed:
        total = sum((machine_code.counts(kernels[name]) for name in formula.kernels), Counter())
        found[formula.name] = (total["FFMA"], total["DFMA"])
    return found


@pytest.mark.one_in(2)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_no_formula_is_contracted(dtype):
    listed, text = formulas(dtype)
    found = by_formula(text, listed, COMPILER_OPTIONS)
    for formula in listed:
        written = (formula.multiply_adds(single=True), formula.multiply_adds(single=False))
        if formula.name in MERGED:
            assert all(code <= line for code, line in zip(found[formula.name], written, strict=True)), formula.name
        else:
            assert found[formula.name] == written, formula.name


def test_contraction_would_be_noticed():
    listed, text = formulas("float32")
    assert "--fmad=false" in COMPILER_OPTIONS
    found = by_formula(text, listed, [*(option for option in COMPILER_OPTIONS if "fmad" not in option)])
    more = [f.name for f in listed if sum(found[f.name]) > f.multiply_adds(single=True) + f.multiply_adds(single=False)]
    assert {"activation_of_mish", "loss_squared_error", "rule_of_adam", "schedule_of_cosine"} <= set(more)


# Two loops, one in the other, and a branch forward.
CODE = """\
MOV R1, R2
.L_x_1:
LDS.128 R4, [R1+UR4+0x10]
.L_x_2:
FFMA R0, R4, R5, R0
@P0 FFMA.FTZ R0, R4, R5, R0
@!P1 BRA `(.L_x_2)
@P2 BRA.U UP0, `(.L_x_1)
BRA `(.L_x_3)
.L_x_3:
EXIT
"""


def test_loops_are_found_and_counted():
    code = CODE.splitlines()
    (loop,) = machine_code.loops(code)
    assert machine_code.counts(loop) == {"FFMA": 2, "BRA": 1}
    assert machine_code.counts(code)["LDS.128"] == 1
    assert machine_code.share(machine_code.counts(loop)) == 2 / 3


def test_the_compiler_says_what_it_refuses():
    with pytest.raises(nvrtc.Refused, match="expected a"):
        nvrtc.compiled('extern "C" __global__ void broken() { int }', "sm_90")
