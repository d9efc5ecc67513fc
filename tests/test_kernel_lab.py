"""The kernel lab: what it times computes what NumPy says, its reading of assembly counts what stands there, and its
pictures show what there is."""

import numpy as np
import pytest

import pmlp_np as pm
from benchmarks.kernels import instructions, lab, pictures
from pmlp_np.backends.numba.passes import PASSES
from pmlp_np.state.layout import PoolLayout

SHAPE = lab.Shape("float32", n_features=5, width=20, rows=32)

# Two loops, one in the other, which a branch backward leaves; constants before, another function behind.
ASSEMBLY = """
	.section	.rodata
.LCPI0_0:
	.long	1
	.text
a_pass:
	movq	(%rdi), %rax
	jmp	.LBB0_2
.LBB0_1:
	vmovups	%zmm0, (%rsi,%rax,4)
	vmovups	%zmm1, (%rsi) {%k1}
	addq	$16, %rax
	cmpq	%rax, %rcx
	jge	.LBB0_4
.LBB0_2:                                # =>This Loop Header: Depth=1
	vpermt2ps	%zmm2, %zmm1, %zmm0
	.p2align	4
.LBB0_3:
	vmovups	(%r13), %zmm20
	vbroadcastss	(%r11,%rsi), %zmm23
	vfmadd231ps	%zmm20, %zmm23, %zmm19
	vfmadd231ps	64(%r13), %zmm23, %zmm18
	vmulps	(%r13){1to16}, %zmm19, %zmm19
	vmovaps	%zmm19, %zmm17
	vmovups	%zmm17, 64(%rsp)
	vaddps	64(%rsp), %zmm19, %zmm19
	vaddss	%xmm0, %xmm1, %xmm1
	incq	%rdx
	jne	.LBB0_3
	jmp	.LBB0_1
.LBB0_4:
	retq
	.size	a_pass, .-a_pass
another:
	vfmadd231ps	%zmm1, %zmm2, %zmm3
	retq
"""


def test_instructions_are_counted() -> None:
    (inner, in_it), (outer, beside_it), (whole, everything) = instructions.report(ASSEMBLY, every=True)
    assert (inner, outer, whole) == (".LBB0_3", ".LBB0_2", "whole pass")
    assert in_it == {
        "instructions": 11, "multiply-adds": 2, "arithmetic": 2, "loads": 3, "broadcasts": 2, "stores": 1,
        "shuffles": 1, "scalar": 3, "spills": 2, "registers": 5,
    }  # fmt: skip
    assert {name: n for name, n in beside_it.items() if n} == {
        "instructions": 7, "stores": 2, "shuffles": 1, "scalar": 4, "registers": 3,
    }  # fmt: skip
    assert everything["instructions"] == 21 and everything["multiply-adds"] == 2


def test_innermost_loops_alone_are_the_default() -> None:
    found = instructions.report(ASSEMBLY)
    assert [label for label, _ in found] == [".LBB0_3", "whole pass"]
    assert [len(line) for line in instructions.table(found).splitlines()] == 3 * [len(instructions.table(found[:0]))]


@pytest.mark.parametrize("case", list(lab.cases(SHAPE, ["relu"], ["sgd", "adam"])), ids=lambda case: case.name)
def test_what_is_timed_is_right(case: lab.Case) -> None:
    lab.check(case, SHAPE.kind)


def test_what_is_wrong_is_not_timed() -> None:
    case = lab.outputs(SHAPE)
    array, expected = case.results[0]
    with pytest.raises(SystemExit, match="outputs is wrong by 1.0e-03"):
        lab.check(case._replace(results=[(array, expected + 1e-3 * np.maximum(np.abs(expected), 1.0))]), SHAPE.kind)


@pytest.mark.parametrize("n_features", [10, 100])
def test_the_picture_of_memory_says_what_the_layout_says(n_features: int) -> None:
    layout = PoolLayout(pm.Specs.from_members([pm.Member(hidden=100)]), n_features, n_raw_outputs=1, lanes=16)
    shown = {entry.name: getattr(entry, f"at_{n_features}") for entry in pictures.held()}
    padded = int(layout.row_stride[0])
    assert shown["W, strip after strip"] == 4 * n_features * padded
    assert shown["activations and derivatives"] == 4 * 2 * 32 * padded


def test_the_picture_of_the_program_shows_passes_that_exist() -> None:
    known = {name.partition(":")[0] for name in PASSES}
    assert set(pictures.PASSES) <= known
    assert {name for group in pictures.ARRAYS.values() for touched in group.values() for name in touched} <= known
