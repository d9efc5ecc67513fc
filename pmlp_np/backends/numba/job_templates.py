"""Job templates: the fields of a job that are the same in every call, for a task on some members.

These are the tables of layout and options, and the addresses of the passes that the members need. A template is built
once for each combination of passes. Passes that no member needs are not compiled.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from collections.abc import Set as AbstractSet
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from pmlp_np.backends.numba.compiling import pass_address
from pmlp_np.backends.numba.job import EVALUATE, FORWARD, INITIALIZE, MEAN, TRAIN, JobBuilder
from pmlp_np.backends.numba.passes.layers import layer_pass
from pmlp_np.backends.numba.passes.loss_passes import loss_pass
from pmlp_np.backends.numba.simd import KINDS
from pmlp_np.backends.store import Store
from pmlp_np.formulas.activations import ACTIVATIONS
from pmlp_np.formulas.initializers import DISTRIBUTIONS
from pmlp_np.formulas.optimizers import RULES
from pmlp_np.formulas.schedules import SCHEDULES
from pmlp_np.state.initial_scales import initial_distribution
from pmlp_np.state.layout import PoolLayout, spread
from pmlp_np.state.plan import Plan
from pmlp_np.state.step_inputs import StepInputs

_LAYOUT_TABLES = (
    "first_layer", "fan_in", "fan_out", "row_stride", "stride_in", "stride_out", "weight_offset", "bias_offset",
    "activation", "block_offset", "block_size",
)  # fmt: skip
_COMPUTING = (TRAIN, EVALUATE, FORWARD, MEAN)
_ALL_DEPTHS, _NO_DEPTHS = frozenset((0, 1, 2)), frozenset[int]()
# The passes that gather rows which are read in another order than the table's.
_GATHERING = ("gather_rows", "gather_targets")
# The passes of encoded columns, by task.
_ENCODING: dict[int, tuple[str, ...]] = dict.fromkeys(_COMPUTING, ("encoded_start", "encoded_tables"))
_ENCODING[TRAIN] += ("encoded_backward", "encoded_gradient")
# For each pass the tasks that need it, by the depth of members (2: two and more hidden layers).
_PASS_NEEDS: dict[str, dict[int, AbstractSet[int]]] = {
    "outputs": dict.fromkeys(_COMPUTING, {1, 2}),
    "by_output": dict.fromkeys(_COMPUTING, {0}),
    "by_row": {FORWARD: _ALL_DEPTHS, TRAIN: {0}},
    "hidden_backward": {TRAIN: {2}},
    "column_sums": {TRAIN: {2}},
    "fill": dict.fromkeys((INITIALIZE, *_COMPUTING), _ALL_DEPTHS),
    "scale": {INITIALIZE: _ALL_DEPTHS},
    "finite": {TRAIN: _ALL_DEPTHS},
}


class _Codes(NamedTuple):
    """The codes of activations, rules and so on that some members use, sorted; depths: 2 stands for two and more.

    first_activations: of the layers that may read encoded columns.
    """

    activations: list[int]
    rules: list[int]
    distributions: list[int]
    depths: list[int]
    schedules: list[int]
    rules_by_rows: list[int]
    first_activations: list[int]

    def flat(self) -> list[int]:
        """Return all codes in one list, with -1 behind each field."""
        return [code for name in self._fields for code in (*getattr(self, name), -1)]


class JobTemplates:
    """The job templates of a backend, each built at its first use."""

    def __init__(self, plan: Plan, layout: PoolLayout, store: Store) -> None:
        self._plan, self._layout, self._store = plan, layout, store
        self._kind = KINDS[plan.dtype.name]
        self._rule = plan.specs.rule.astype(np.int64)
        self._distribution = initial_distribution(plan.specs)
        self._inputs = StepInputs(plan.specs, layout)
        self._vectors = layout.vectors
        self._templates: dict[tuple[int | str, ...], JobBuilder] = {}
        self._of_all_members: dict[tuple[int, bool, bool, bool], JobBuilder] = {}

    @property
    def most_input_rows(self) -> int:
        """The most rows of inputs that any member's update rule takes; see `state.step_inputs`."""
        return int(self._inputs.count.max())

    def template(
        self, task: int, members: np.ndarray, gathers: bool = False, weighted: bool = False, encodes: bool = False
    ) -> JobBuilder:
        """Return the template of a task on these members.

        gathers: whether rows are read through an order or a row set. weighted: whether rows have weights. encodes:
        whether any member reads encoded columns.
        """
        kind = task, gathers, weighted, encodes
        if kind in self._of_all_members:
            return self._of_all_members[kind]
        codes, options = self._codes(task, members, encodes), self._options(task, members)
        key: tuple[int | str, ...] = (*kind, *codes.flat(), *options)
        if key not in self._templates:
            self._templates[key] = self._build(kind, codes, options)
        if len(members) == self._plan.n_members:
            self._of_all_members[kind] = self._templates[key]
        return self._templates[key]

    def _build(self, kind: tuple[int, bool, bool, bool], codes: _Codes, options: dict[str, Any]) -> JobBuilder:
        plan, layout, store = self._plan, self._layout, self._store
        reads_options = bool(codes.schedules) or "clip_norm" in options
        return JobBuilder().put(
            task=kind[0], itemsize=self._kind.itemsize, lanes=self._kind.lanes, n_outputs=plan.n_raw_outputs,
            slots=store.slots, slot_offset=store.slot_offset, stream_key=plan.stream_key, rule=self._rule,
            hyperparameters=plan.specs.hyperparameters, options=plan.specs.options if reads_options else None,
            input_factors=self._inputs.factors, first_input=self._inputs.first, input_count=self._inputs.count,
            distribution=self._distribution, vectors=self._vectors,
            **{name: getattr(layout, name) for name in _LAYOUT_TABLES}, **self._passes(kind, codes), **options,
        )  # fmt: skip

    def _codes(self, task: int, members: np.ndarray, encodes: bool) -> _Codes:
        layout, trains = self._layout, task == TRAIN
        every_layer = len(members) == self._plan.n_members
        layers = slice(None) if every_layer else spread(layout.first_layer[members], layout.depth[members] + 1)
        activations = set(layout.activation[layers].tolist()) - {-1} if task != INITIALIZE else set()
        first = set(layout.activation[layout.first_layer[members]].tolist()) - {-1} if encodes else set()
        rules = set(self._rule[members].tolist()) if trains else set()
        return _Codes(
            activations=sorted(activations),
            rules=sorted(rules),
            distributions=sorted(set(self._distribution[members].tolist())) if task == INITIALIZE else [],
            depths=sorted(set(np.minimum(layout.depth[members], 2).tolist())),
            schedules=sorted(self._schedules(members)) if trains else [],
            rules_by_rows=sorted(rules if encodes else self.rules_by_rows(members)) if trains else [],
            first_activations=sorted(first),
        )

    def _options(self, task: int, members: np.ndarray) -> dict[str, Any]:
        regularizers = self.regularizers(members) if task == TRAIN else {}
        return regularizers | (self.feature_scales(members, task) if task in _COMPUTING else {})

    def _schedules(self, members: np.ndarray) -> set[int]:
        """Return the codes of the schedules that change a learning rate: a constant one does with a warm-up."""
        specs = self._plan.specs
        codes, warmup = specs.option("schedule")[members], specs.option("warmup_epochs")[members]
        return set(codes[(codes != 0.0) | (warmup != 0.0)].astype(np.int64).tolist())

    def regularizers(self, members: np.ndarray) -> dict[str, Any]:
        """Return the fields of regularizers that some of these members train with: options and passes."""
        specs, kind = self._plan.specs, self._kind.name
        passes = {"dropout": "dropout", "input_dropout": "input_dropout", "clip_norm": "clip", "average": "average"}
        used = [name for name in passes if specs.option(name)[members].any()]
        fields: dict[str, Any] = {name: np.ascontiguousarray(specs.option(name)) for name in used}
        fields |= {f"{name}_pass": pass_address(kind, passes[name]) for name in used}
        if "average" in used:
            fields["averages"] = self._store.average
        return fields

    def feature_scales(self, members: np.ndarray, task: int) -> dict[str, Any]:
        """Return the fields of feature scales, offsets and passes; none where no member has feature scales."""
        if not (self._layout.scale_offset[members] >= 0).any():
            return {}
        names = ("scale_features", "scales_backward") if task == TRAIN else ("scale_features",)
        passes = {f"{name}_pass": pass_address(self._kind.name, name) for name in names}
        return {"scale_offset": self._layout.scale_offset, **passes}

    def rules_by_rows(self, members: np.ndarray) -> set[int]:
        """Return the codes of the rules whose step is taken by `update_rows`, from a member's whole gradient."""
        clips, scales = self._plan.specs.option("clip_norm")[members] > 0.0, self._layout.scale_offset[members] >= 0
        return set(self._rule[members[clips | scales]].tolist())

    def _pass_table(
        self, names: Iterable[str], prefix: str | Callable[[str], str], codes: Iterable[int], kind: str = ""
    ) -> np.ndarray:
        """Return addresses of passes by code, (len(names),) int64; 0 for codes that are not used.

        prefix: of the pass `prefix:name`, or a function from a name to that of the pass.
        """
        names = list(names)
        addresses = np.zeros(len(names), np.int64)
        for code in codes:
            name = f"{prefix}:{names[code]}" if isinstance(prefix, str) else prefix(names[code])
            addresses[code] = pass_address(kind or self._kind.name, name)
        return addresses

    def _passes(self, kind: tuple[int, bool, bool, bool], codes: _Codes) -> dict[str, Any]:
        """Return the addresses of all passes but those of options."""
        dtype, loss, table = self._kind.name, self._plan.loss, self._pass_table
        task, gathers, weighted, encodes = kind
        layer_prefix = "layer_train" if task == TRAIN else "layer"
        linear = task in _COMPUTING and 0 in codes.depths
        fixed = [n for n, needs in _PASS_NEEDS.items() if not needs.get(task, _NO_DEPTHS).isdisjoint(codes.depths)]
        fixed += _GATHERING if gathers else ()
        fixed += _ENCODING.get(task, ()) if encodes else ()
        loss_prefix = {TRAIN: "loss_train", EVALUATE: "loss_evaluate"}.get(task)
        loss_prefix = f"{loss_prefix}_weighted" if loss_prefix and weighted else loss_prefix
        return {f"{name}_pass": pass_address(dtype, name) for name in fixed} | {
            "linear_pass": pass_address(dtype, "layer:identity") if linear else 0,
            "linear_onto_pass": pass_address(dtype, layer_pass("identity", "layer_onto")) if linear and encodes else 0,
            "loss_pass": pass_address(dtype, loss_pass(loss, loss_prefix)) if loss_prefix else 0,
            "gather_weights_pass": pass_address("float64", "gather_targets") if gathers and weighted else 0,
            "layer_pass": table(ACTIVATIONS, partial(layer_pass, task=layer_prefix), codes.activations),
            "layer_onto_pass": table(
                ACTIVATIONS, partial(layer_pass, task=f"{layer_prefix}_onto"), codes.first_activations
            ),
            "schedule_pass": table(SCHEDULES, "schedule", codes.schedules, "float64"),
            "scalars_pass": table(RULES, "scalars", codes.rules),
            "update_pass": table(RULES, "update", codes.rules),
            "update_rows_pass": table(RULES, "update_rows", codes.rules_by_rows),
            "weights_backward_pass": table(RULES, "weights_backward", codes.rules),
            "output_backward_pass": table(RULES, "output_backward", codes.rules),
            "distribution_pass": table(DISTRIBUTIONS, "distribution", codes.distributions, "float64"),
        }
