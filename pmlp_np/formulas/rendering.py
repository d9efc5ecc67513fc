"""Rendering of a step list in a language that computes row by row: LLVM, CUDA, C.

Steps of extent ROW are written in their order. A value per output is written at its use, within a loop over outputs: a
reduction is one loop, so that a formula of any number of outputs needs only a few loops. A word with a separate list
(`elementary`) is written as that list. `Language` lists what a language supplies.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from pmlp_np.formulas.elementary import DEFINITIONS, definition
from pmlp_np.formulas.tracing import REDUCTIONS, ROW, Argument, Constant, Step, StepList


class Language(Protocol):
    """The operations that a renderer supplies. It chooses the types of values and of indices of outputs."""

    def constant(self, constant: Constant, step: Step, known: list[Any]) -> Any:
        """Return a constant next to the other arguments of a step (`known`, None for constants)."""

    def word(self, step: Step, given: list[Any]) -> Any:
        """Return the result of a step, from a table of words."""

    def count(self, extent: str) -> Any:
        """Return the number of outputs of an extent, as the bound of a loop."""

    def number_of(self, index: Any, step: Step) -> Any:
        """Return a count, or the index of an output, as a value of the step's dtype."""

    def head(self, index: Any, heads: int, h: int) -> Any:
        """Return the index of the raw output that is head h of an output."""

    def table(self, step: Step) -> Any:
        """Write down constants that differ between outputs, once."""

    def from_table(self, table: Any, index: Any, step: Step) -> Any:
        """Return an output's constant."""

    def reduced(self, step: Step, count: Any, at: Callable[[Any], Any]) -> Any:
        """Return a reduction (see REDUCTIONS) of values `at(index)`: the first value, then a loop over the others."""


class Rendering:
    """A step list that is being rendered.

    inputs: values; for extents over outputs, functions from an output's index to a value.
    """

    def __init__(self, language: Language, steps: StepList, inputs: tuple[Any, ...]) -> None:
        self.language, self.list, self.inputs = language, steps, inputs
        self.values: list[Any] = [
            value if declared.extent == ROW else None for declared, value in zip(steps.inputs, inputs, strict=True)
        ]
        self._tables: dict[int, Any] = {}
        self._index: Any = None
        self._for_index: dict[int, Any] = {}
        for number, step in enumerate(steps.steps, len(inputs)):
            if step.word == "output_constants":
                self._tables[number] = language.table(step)
            self.values.append(self._written(step, self.values.__getitem__) if step.extent == ROW else None)

    def results(self) -> list[Any]:
        """Return the list's results: values, or functions from an output's index to a value."""
        return [self._result(result) for result in self.list.results]

    def _result(self, argument: Argument) -> Any:
        assert isinstance(argument, int)
        if self.list.value(argument).extent == ROW:
            return self.values[argument]
        return lambda index: self.at(argument, index)

    def at(self, number: int, index: Any) -> Any:
        """Return a value for one output. Within one loop each value is written once."""
        if self.list.value(number).extent == ROW:
            return self.values[number]
        if self._index is not index:
            self._index, self._for_index = index, {}
        known = self._for_index
        if number not in known:
            known[number] = self._of_output(number, index)
        return known[number]

    def _of_output(self, number: int, index: Any) -> Any:
        if number < len(self.inputs):
            return self.inputs[number](index)
        step = self.list.value(number)
        assert isinstance(step, Step)
        if step.word == "output_index":
            return self.language.number_of(index, step)
        if step.word == "output_constants":
            return self.language.from_table(self._tables[number], index, step)
        if step.word == "head":
            (raw,) = step.arguments
            assert isinstance(raw, int)
            return self.inputs[raw](self.language.head(index, *step.parameters))
        return self._written(step, lambda n: self.at(n, index))

    def _written(self, step: Step, value: Callable[[int], Any]) -> Any:
        if step.word in REDUCTIONS or step.word == "n_outputs":
            (x,) = step.arguments
            assert isinstance(x, int)
            count = self.language.count(self.list.value(x).extent)
            if step.word == "n_outputs":
                return self.language.number_of(count, step)
            return self.language.reduced(step, count, lambda index: self.at(x, index))
        known = [None if isinstance(a, Constant) else value(a) for a in step.arguments]
        arguments = [
            self.language.constant(a, step, known) if isinstance(a, Constant) else x
            for a, x in zip(step.arguments, known, strict=True)
        ]
        if step.word in DEFINITIONS:
            return Rendering(self.language, definition(step.word, step.dtype), tuple(arguments)).results()[0]
        return self.language.word(step, arguments)
