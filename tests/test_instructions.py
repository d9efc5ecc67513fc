"""Instructions of the Numba backend: their arguments are those of the passes, by name and in order, and each pass says
what it reads, what it writes, and which page explains it."""

import inspect
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numba.core.errors import NumbaError

from pmlp_np.backends.numba.compiling import kernel, pass_address
from pmlp_np.backends.numba.passes import PASSES, argument_names
from pmlp_np.backends.numba.program import block_arguments, step_arguments
from pmlp_np.backends.numba.program.block_arguments import (
    Block,
    ByRow,
    Input,
    InputDropout,
    Layer,
    LayerTrain,
    LossEvaluate,
    LossTrain,
    Targets,
    WeightsBackward,
)
from pmlp_np.backends.numba.program.instructions import (
    INSTRUCTION_BYTES,
    LATER,
    arguments_of,
    field_address,
    over_block,
    put,
    run,
    set_block,
    set_field,
)
from pmlp_np.backends.numba.program.step_arguments import Fill, Scalars
from test_docs import ROOT, anchors

# Those that are part of others, or lines of a table.
PARTS = ("Block", "Input", "Targets", "Result", "Tensor", "Cursor")
CLASSES = {
    each.__name__: each
    for module in (block_arguments, step_arguments)
    for each in arguments_of(module)
    if each.__name__ not in PARTS
}
# The package's own passes; tests and benchmarks enter others.
LIBRARY = {name: entry for name, entry in PASSES.items() if entry.__module__.startswith("pmlp_np.backends.numba")}
NAMED = {name for name in LIBRARY if not name.startswith("machine:")}


def class_name(pass_name: str) -> str:
    """The class of its arguments: LossTrain for loss_train_weighted:huber, as weighted rows take the same ones."""
    stem = pass_name.partition(":")[0].removesuffix("_weighted")
    return "".join(word.capitalize() for word in stem.split("_"))


@pytest.mark.parametrize("name", sorted(NAMED))
def test_arguments_are_those_of_the_pass(name: str) -> None:
    arguments = CLASSES[class_name(name)]
    assert (Block._fields if over_block(arguments) else ()) + arguments._fields == argument_names(name)


def test_every_class_belongs_to_a_pass() -> None:
    assert set(CLASSES) == {class_name(name) for name in NAMED}


def test_what_blocks_change_comes_first() -> None:
    """Where the driver sets an argument without knowing which pass it is."""

    def begins_with(arguments: Any, part: Any) -> bool:
        return arguments._fields[: len(part._fields)] == part._fields

    assert all(begins_with(each, Input) for each in (Layer, LayerTrain, InputDropout, WeightsBackward))
    assert all(begins_with(each, Targets) for each in (LossTrain, LossEvaluate))


@kernel(entry=True)
def _write(at, a, b, c):
    stop = put(at, a, Scalars(step=LATER, n=b, out=c, inputs=b + c, out_stride=7))
    set_field(at, Scalars, "step", a + b)
    put(stop, 0, ByRow(out=c, ldo=LATER, block=b, ld=a, outputs=5))
    set_field(stop, ByRow, "ldo", a)
    set_block(stop, Block(rows=b, last=c, first=a))
    return stop, field_address(at, Scalars, "step")


def test_arguments_are_written_where_the_pass_reads_them() -> None:
    words = np.full(2 * INSTRUCTION_BYTES // 8, -1)
    a, b, c = np.random.default_rng().integers(0, 1 << 40, 3).tolist()
    at = words.ctypes.data
    stop, step = _write(at, a, b, c)
    assert stop == at + INSTRUCTION_BYTES and step == at + 8 * (1 + argument_names("scalars:adam").index("step"))
    first, second = words.reshape(2, -1).tolist()
    assert first[:7] == [a, c, 7, b + c, b, a + b, -1]
    assert second[:10] == [0, b, a, c, c, a, b, a, 5, -1]
    assert set(first[7:] + second[10:]) == {-1}, "written beyond"


def test_other_names_are_refused() -> None:
    @kernel(entry=True)
    def misspelled(at):
        set_field(at, Scalars, "steps", 1)

    @kernel(entry=True)
    def incomplete(at):
        put(at, 0, Fill(out=0))

    for wrong in (misspelled, incomplete):
        with pytest.raises((NumbaError, TypeError, ValueError)):
            wrong(0)


@kernel(entry=True)
def _fill(at, address, out, n):
    put(at, address, Fill(out=out, n=n))
    run(at)


def test_an_instruction_calls_its_pass() -> None:
    words, values = np.zeros(INSTRUCTION_BYTES // 8, np.int64), np.ones(40, np.float32)
    _fill(words.ctypes.data, pass_address("float32", "fill"), values.ctypes.data, 32)
    assert not values[:32].any() and values[32:].all()


# What passes say of themselves.

PAGE = re.compile(r"docs/([\w/]+\.md)#([\w-]+)")


def flaws(documentation: str, arguments: tuple[str, ...]) -> list[str]:
    """What a pass's docstring lacks: what it reads and writes, its arguments, and headings of pages."""
    found = [word for word in ("reads", "writes") if not re.search(rf"\b{word}\b", documentation, re.IGNORECASE)]
    found += [name for name in arguments if not re.search(rf"\b{name}\b", documentation)]
    links = PAGE.findall(documentation)
    found += [] if links else ["no page"]
    for page, anchor in links:
        path: Path = ROOT / "docs" / page
        if not path.exists() or anchor not in anchors(path.read_text(encoding="utf-8")):
            found.append(f"{page}#{anchor}")
    return found


@pytest.mark.parametrize("name", sorted({name.partition(":")[0]: name for name in LIBRARY}.values()))
def test_a_pass_says_what_it_reads_and_writes_and_where_it_is_explained(name: str) -> None:
    # These three mean the same for all passes: registry.py says what.
    arguments = tuple(argument for argument in argument_names(name) if argument not in Block._fields)
    assert flaws(inspect.getdoc(LIBRARY[name]) or "", arguments) == []


def test_flaws_are_noticed() -> None:
    assert flaws("Reads x. Writes y. docs/kernels.md#the-program", ("x", "y")) == []
    assert flaws("docs/kernels.md#nowhere", ("x",)) == ["reads", "writes", "x", "kernels.md#nowhere"]
    assert flaws("Reads and writes x.", ()) == ["no page"]
