"""Specs: architecture and hyperparameters of members. `Member` is one spec; `Specs` is a table of many.

`Specs` has one array per field. A million members are a few arrays, not a million objects: a `Member` is made only when
one is read.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from numbers import Integral
from typing import Any, overload

import numpy as np

from pmlp_np.base.copying import ensure_owned
from pmlp_np.base.errors import SpecError, compose, show, unknown_name
from pmlp_np.formulas.activations import ACTIVATIONS
from pmlp_np.formulas.initializers import INITIALIZERS
from pmlp_np.formulas.optimizers import HYPERPARAMETERS, OPTIMIZERS, RULES, Optimizer, rule_name
from pmlp_np.formulas.options import OPTIONS, default_row
from pmlp_np.specs import fields as spec_fields
from pmlp_np.specs import storage as spec_columns
from pmlp_np.specs.fields import FIELDS, Choices
from pmlp_np.specs.neighbors import check_arguments, moved_columns
from pmlp_np.specs.storage import COLUMNS, PER_LAYER, gather

# Larger sums could overflow 64 bits.
_MOST_PARAMETERS = 2.0**60


@dataclass(frozen=True, init=False, repr=False)
class Member:
    """Architecture and hyperparameters of one member; frozen, and validated at construction.

    hidden: widths of the hidden layers, a tuple of whole numbers from 1 to 2**24. An int is one layer, () is none: a
        linear model. Default (100,).
    activation: a name, or a tuple of names, one per hidden layer. Case, hyphens and underscores don't matter, and
        aliases are known ("logistic"). Default "relu". Stored as one name if all layers have the same, and as
        "identity" if there are no layers.
    bias: whether every layer, the output layer included, has biases. Default True.
    initializer: distribution of the initial weights: "pytorch" (as torch.nn.Linear, the default), "glorot_uniform",
        "glorot_normal", "he_uniform", "he_normal" or "lecun_normal".
    optimizer: `pm.SGD(...)`, `pm.Adam(...)`, `pm.AdamW(...)`, `pm.RMSprop(...)`, `pm.NAdam(...)`, or a name. Default
        Adam with learning rate 1e-3.
    batch_size: rows per minibatch, at least 1. Default None: the batch_size of `fit`.
    seed: from 0 to 2**64 - 1; members with the same seed and architecture start with the same weights, in every pool.
        Default None: random numbers depend on the pool's seed and the member's id.
    hyperparameters: hyperparameters of the optimizer (learning_rate, momentum, nesterov, beta1, beta2, eps,
        weight_decay, alpha, momentum_decay); they override those of `optimizer`. Also options of formulas.options
        (zero_last, schedule, ...), which become attributes.

    Raises SpecError, which names the argument, for a value that cannot be trained.

        pm.Member(hidden=(64, 32), activation="tanh", learning_rate=1e-2)
        pm.Member(hidden=(64, 32), activation=("relu", "tanh"), optimizer=pm.SGD(momentum=0.9), batch_size=64)
    """

    hidden: tuple[int, ...]
    activation: str | tuple[str, ...]
    bias: bool
    initializer: str
    optimizer: Optimizer
    batch_size: int | None
    seed: int | None
    options: tuple[tuple[str, float | bool | str], ...]  # without options at their default

    def __init__(
        self,
        hidden: tuple[int, ...] | int = (100,),
        activation: str | tuple[str, ...] = "relu",
        bias: bool = True,
        initializer: str = "pytorch",
        optimizer: Optimizer | str | None = None,
        batch_size: int | None = None,
        seed: int | None = None,
        **hyperparameters: float,
    ) -> None:
        values = (hidden, activation, bias, initializer, optimizer, batch_size, seed)
        arguments = dict(zip(FIELDS, values, strict=True)) | hyperparameters
        choices = {name: Choices([value], name) for name, value in arguments.items()}
        self._set(*Specs(**spec_fields.assemble(1, choices, {}))._values(0))

    def __reduce__(self) -> tuple[Any, ...]:
        # The constructor validates the copy: a name of an activation may be unknown in the process that unpickles it.
        arguments = {name: getattr(self, name) for name in FIELDS} | dict(self.options)
        return _rebuild_member, (type(self), arguments)

    def _set(self, *values: Any) -> None:
        for name, value in zip((*FIELDS, "options"), values, strict=True):
            object.__setattr__(self, name, value)

    def __getattr__(self, name: str) -> Any:
        if name not in OPTIONS:
            raise AttributeError(f"'Member' object has no attribute {name!r}")
        return dict(self.options).get(name, OPTIONS[name].default)

    def __repr__(self) -> str:
        shown = [f"hidden={self.hidden}", f"activation={self.activation!r}"]
        if not self.bias:
            shown.append("bias=False")
        if self.initializer != "pytorch":
            shown.append(f"initializer={self.initializer!r}")
        shown.append(f"optimizer={self.optimizer}")
        shown += [f"{name}={getattr(self, name)}" for name in ("batch_size", "seed") if getattr(self, name) is not None]
        shown += [f"{name}={value!r}" for name, value in self.options]
        return f"Member({', '.join(shown)})"


@dataclass(frozen=True, eq=False, repr=False)
class Specs(Sequence[Member]):
    """A table of n specs, indexed like a list; made by `pm.grid`, `pm.sample` or `Specs.from_members`, joined with +.

    An integer index returns a Member; a slice, a mask or an array of integers returns Specs. Columns are read-only.

    width_offsets: (n + 1,) int64. Member i's layers are width_offsets[i] up to width_offsets[i + 1] in `widths` and
        `activations`.
    widths: int32.   activations: int16, indices into list(ACTIVATIONS).
    bias: (n,) bool.   initializer, optimizer: (n,) int16, indices into list(INITIALIZERS), list(OPTIMIZERS).
    hyperparameters: (n, len(HYPERPARAMETERS)) float64; 0 for a hyperparameter that the optimizer lacks.
    options: (n, len(OPTIONS)) float64, as formulas.options encodes them.
    batch_size: (n,) int64, 0 for the batch_size of `fit`.   seed: (n,) uint64.   has_seed: (n,) bool.

        specs = pm.grid(hidden=range(1, 101)) + [pm.Member(hidden=())]
        len(specs), specs[3], specs[10:20]
    """

    width_offsets: np.ndarray
    widths: np.ndarray
    activations: np.ndarray
    bias: np.ndarray
    initializer: np.ndarray
    optimizer: np.ndarray
    hyperparameters: np.ndarray
    options: np.ndarray
    batch_size: np.ndarray
    seed: np.ndarray
    has_seed: np.ndarray

    def __post_init__(self) -> None:
        # If no member uses an option, one row stands for all members.
        defaults = np.array(default_row())
        unused = self.options.shape == (len(self.bias), len(defaults)) and bool((self.options == defaults).all())
        if unused:
            object.__setattr__(self, "options", np.broadcast_to(defaults, self.options.shape))
        for name in COLUMNS:
            column = getattr(self, name)
            # Compiled code reads columns by address, in C order: they must own their memory.
            owned = type(column) is np.ndarray and column.flags.owndata and column.flags.c_contiguous
            if not owned and not (unused and name == "options"):
                column = np.array(column, order="C")
                object.__setattr__(self, name, column)
            column.setflags(write=False)

    @classmethod
    def from_members(cls, members: Iterable[Member]) -> Specs:
        """Make the table of these members, in this order."""
        members = list(members)
        for i, member in enumerate(members):
            if not isinstance(member, Member):
                is_table = isinstance(member, Specs)
                hint = "Join tables of specs with +." if is_table else "For example pm.Member(hidden=64)."
                raise SpecError(compose(f"member {i}", "a pm.Member", show(member), hint))
        activation_codes = {name: code for code, name in enumerate(ACTIVATIONS)}
        initializer_codes = {name: code for code, name in enumerate(INITIALIZERS)}
        optimizer_codes = {name: code for code, name in enumerate(OPTIMIZERS)}
        offsets = np.zeros(len(members) + 1, np.int64)
        np.cumsum([len(m.hidden) for m in members], out=offsets[1:])
        layer_activations = [
            activation_codes[name]
            for m in members
            for name in ((m.activation,) * len(m.hidden) if isinstance(m.activation, str) else m.activation)
        ]
        rows = [[getattr(m.optimizer, name, 0.0) for name in HYPERPARAMETERS] for m in members]
        options = np.tile(default_row(), (len(members), 1))
        index_of = {name: i for i, name in enumerate(OPTIONS)}
        for i, m in enumerate(members):
            for name, value in m.options:
                options[i, index_of[name]] = OPTIONS[name].encoded(value)
        return cls(
            width_offsets=offsets,
            widths=np.array([width for m in members for width in m.hidden], np.int32),
            activations=np.array(layer_activations, np.int16),
            bias=np.array([m.bias for m in members], bool),
            initializer=np.array([initializer_codes[m.initializer] for m in members], np.int16),
            optimizer=np.array([optimizer_codes[m.optimizer.name] for m in members], np.int16),
            hyperparameters=np.array(rows, np.float64).reshape(len(members), len(HYPERPARAMETERS)),
            options=options,
            batch_size=np.array([m.batch_size or 0 for m in members], np.int64),
            seed=np.array([m.seed or 0 for m in members], np.uint64),
            has_seed=np.array([m.seed is not None for m in members], bool),
        )

    @classmethod
    def concatenate(cls, tables: Iterable[Specs]) -> Specs:
        """Make one table of the members of all tables, in order."""
        tables = list(tables)
        if not tables:
            return cls.from_members([])
        stacked = {name: [getattr(table, name) for table in tables] for name in COLUMNS}
        columns = {name: np.concatenate(parts) for name, parts in stacked.items() if name != "options"}
        columns["options"] = _stacked(stacked["options"])
        depths = np.concatenate([table.depths for table in tables])
        return cls(**columns | {"width_offsets": np.concatenate([[0], np.cumsum(depths)])})

    @classmethod
    def from_columns(cls, columns: Mapping[str, np.ndarray], copy: bool = True) -> Specs:
        """Make a table from the arrays of `columns()`, possibly of another version of pmlp_np.

        copy: False uses the arrays without a copy.

        Raises FileFormatError for a missing or damaged column, and for names that are unknown in this version.
        """
        return cls(**spec_columns.read(columns, copy))

    def __reduce__(self) -> tuple[Any, ...]:
        """Return the pickled state: the columns and the names of codes; equal rows of options as a single row."""
        columns = self.columns()
        if not self.options.strides[0]:
            columns["options"] = self.options[:1]
        return _rebuild_specs, (columns, len(self))

    def __copy__(self) -> Specs:
        return copy.deepcopy(self)

    def columns(self) -> dict[str, np.ndarray]:
        """Return plain arrays from which `from_columns` makes the same table: columns and names of codes."""
        return {name: getattr(self, name) for name in COLUMNS} | spec_columns.name_tables()

    def __len__(self) -> int:
        return len(self.bias)

    @overload
    def __getitem__(self, index: int) -> Member: ...
    @overload
    def __getitem__(self, index: slice | Sequence[int] | np.ndarray) -> Specs: ...
    def __getitem__(self, index: Any) -> Member | Specs:
        if isinstance(index, Integral) and not isinstance(index, bool):
            if not -len(self) <= int(index) < len(self):
                raise IndexError(f"member {index}: there are {len(self)} members")
            return self._member(int(index) % len(self))
        positions = np.arange(len(self))[index]
        if positions.ndim != 1:
            raise IndexError(f"{show(index)} is no list of members")
        plain = [name for name in COLUMNS if name not in (*PER_LAYER, "width_offsets", "options")]
        columns = {name: getattr(self, name)[positions] for name in plain}
        one_row = not self.options.strides[0] and len(positions)
        shape = len(positions), self.options.shape[1]
        columns["options"] = np.broadcast_to(self.options[:1], shape) if one_row else self.options[positions]
        for name in PER_LAYER:
            columns[name], columns["width_offsets"] = gather(getattr(self, name), self.width_offsets, positions)
        return Specs(**columns)

    def __iter__(self) -> Iterator[Member]:
        return map(self._member, range(len(self)))

    def __add__(self, other: Specs | Member | Iterable[Member]) -> Specs:
        return Specs.concatenate([self, as_specs(other)])

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Specs):
            return NotImplemented
        return all(np.array_equal(getattr(self, name), getattr(other, name)) for name in COLUMNS)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        count = f"{len(self):,} member{'s' * (len(self) != 1)}"
        if not len(self):
            return count
        parts = [f"widths {_span(self.widths)}"] if len(self.widths) else []
        parts.append(f"depth {_span(self.depths)}")
        used = [list(ACTIVATIONS)[code] for code in np.unique(self.activations)]
        if used:
            parts.append(used[0] if len(used) == 1 else f"{len(used)} activations")
        parts += [list(OPTIMIZERS)[code] for code in np.unique(self.optimizer)]
        return f"{count}: {', '.join(parts)}"

    @property
    def nbytes(self) -> int:
        """Memory of the columns in bytes."""
        columns = (getattr(self, name) for name in COLUMNS)
        return sum(column.nbytes if column.strides[0] else column[:1].nbytes for column in columns)

    @property
    def depths(self) -> np.ndarray:
        """Number of hidden layers, (n,) int64."""
        return np.diff(self.width_offsets)

    @cached_property
    def rule(self) -> np.ndarray:
        """Update rule of each member, (n,) int16: indices into list(RULES)."""
        momentum, nesterov = self.hyperparameter("momentum"), self.hyperparameter("nesterov")
        shrinking = (self.option("l1") != 0.0) | (self.option("decoupled_weight_decay") != 0.0)
        kinds = self.optimizer * 8 + shrinking * 4 + (momentum == 0.0) * 2 + (nesterov != 0.0)
        _, firsts, inverse = np.unique(kinds, return_index=True, return_inverse=True)
        optimizers, rules = list(OPTIMIZERS), list(RULES)
        names = [
            rule_name(optimizers[self.optimizer[i]], float(momentum[i]), bool(nesterov[i]), bool(shrinking[i]))
            for i in firsts
        ]
        rule = np.array([rules.index(name) for name in names], np.int16)[inverse]
        rule.setflags(write=False)
        return rule

    @cached_property
    def start(self) -> np.ndarray:
        """Initializer of each member, (n,) int16: indices into list(INITIALIZERS).

        The `parametrization` option, if set, replaces the member's initializer.
        """
        divided = self.option("parametrization") != 0.0
        start = np.where(divided, np.int16(list(INITIALIZERS).index("lecun_normal")), self.initializer)
        start.setflags(write=False)
        return start

    def hyperparameter(self, name: str) -> np.ndarray:
        """Return one hyperparameter of every member, (n,) float64; 0 where the optimizer lacks it.

        Raises SpecError for a name that is not in HYPERPARAMETERS.
        """
        if name not in HYPERPARAMETERS:
            raise SpecError(unknown_name("hyperparameter", name, HYPERPARAMETERS))
        return self.hyperparameters[:, HYPERPARAMETERS.index(name)]

    def option(self, name: str) -> np.ndarray:
        """Return one option of every member, (n,) float64, as formulas.options encodes it."""
        return self.options[:, list(OPTIONS).index(name)]

    def near(self, n: int = 1, seed: int = 0, spread: float = 0.7) -> Specs:
        """Return n neighbors of each member, one member's behind another's: members with other numbers near its own.

        n: neighbors of each member. Default 1.
        seed: of the random draws, 0 ... 2**64 - 1. Default 0.
        spread: from 0 to 10. Learning rates, weight decays and l1 that are above 0 are multiplied by a factor from
            exp(-spread) to exp(spread), widths by its root; shares that drop out (dropout, input_dropout) move by
            at most 0.2 times spread, within 0 ... 0.9. Default 0.7, about half to twice.

        All else stays: depth, activations, optimizer, schedule, seed. Raises DataError for other arguments.

            best = pool.specs[[3, 17]]
            pm.Pool(best.near(50), n_features=8)
        """
        check_arguments(n, seed, spread)
        found = self[np.repeat(np.arange(len(self)), n)]
        return replace(found, **moved_columns(found.widths, found.hyperparameters, found.options, seed, spread))

    def parameter_counts(self, n_features: int | np.ndarray, n_raw_outputs: int) -> np.ndarray:
        """Return the number of weights and biases of every member, without padding, (n,) int64.

        n_features: features that members read, one number or (n,) int64.
        n_raw_outputs: columns of the raw outputs (n_outputs times the loss's heads).
        """
        has_layers = self.depths > 0
        fan_out = self.widths.astype(np.int64)
        fan_in = np.empty_like(fan_out)
        fan_in[1:] = fan_out[:-1]
        n_features = np.broadcast_to(n_features, len(self))
        fan_in[self.width_offsets[:-1][has_layers]] = n_features[has_layers]
        bias = np.repeat(self.bias, self.depths)
        layers = (fan_in + bias) * fan_out
        if layers.sum(dtype=np.float64) > _MOST_PARAMETERS:
            expected = "fewer than 2**60 parameters in all"
            raise SpecError(compose("specs", expected, "more", "Train fewer or smaller members."))
        totals = np.concatenate([[0], np.cumsum(layers)])
        last = n_features.astype(np.int64)
        last[has_layers] = fan_out[self.width_offsets[1:][has_layers] - 1]
        return np.diff(totals[self.width_offsets]) + (last + self.bias) * n_raw_outputs

    def describe(self, i: int) -> str:
        """Describe member i's architecture: "64-32 tanh", "64-32 relu-tanh", "8 relu, no bias", "linear"."""
        member = self[i]
        activation = member.activation if isinstance(member.activation, str) else "-".join(member.activation)
        text = f"{'-'.join(map(str, member.hidden))} {activation}" if member.hidden else "linear"
        return text if member.bias else f"{text}, no bias"

    def _member(self, i: int) -> Member:
        member = object.__new__(Member)
        member._set(*self._values(i))
        return member

    def _values(self, i: int) -> tuple[Any, ...]:
        """Return member i's fields, in the order of FIELDS."""
        layers = slice(self.width_offsets[i], self.width_offsets[i + 1])
        names = list(ACTIVATIONS)
        activation = tuple(names[code] for code in self.activations[layers].tolist())
        optimizer = list(OPTIMIZERS.values())[self.optimizer[i]]
        row = dict(zip(HYPERPARAMETERS, self.hyperparameters[i].tolist(), strict=True))
        arguments = {
            field.name: bool(row[field.name]) if isinstance(field.default, bool) else row[field.name]
            for field in fields(optimizer)
        }
        return (
            tuple(self.widths[layers].tolist()),
            # Without layers, specs must be equal whatever the activation.
            activation if len(set(activation)) > 1 else activation[0] if activation else "identity",
            bool(self.bias[i]),
            list(INITIALIZERS)[self.initializer[i]],
            optimizer(**arguments),
            int(self.batch_size[i]) or None,
            int(self.seed[i]) if self.has_seed[i] else None,
            tuple(
                (name, option.decoded(number))
                for (name, option), number in zip(OPTIONS.items(), self.options[i].tolist(), strict=True)
                if number != option.encoded(option.default)
            ),
        )


def _rebuild_member(kind: type[Member], arguments: dict[str, Any]) -> Member:
    return kind(**arguments)


def _rebuild_specs(columns: dict[str, np.ndarray], n: int) -> Specs:
    """Rebuild Specs from the state of `Specs.__reduce__`.

    Codes are converted if this process knows other names, or another order of names.
    """
    options = columns["options"]
    columns = ensure_owned(columns) | {"options": np.broadcast_to(ensure_owned(options), (n, options.shape[1]))}
    known = spec_columns.name_tables()
    if all(np.array_equal(columns.get(key, ()), names) for key, names in known.items()):
        return Specs(**{name: columns[name] for name in COLUMNS})
    return Specs.from_columns(columns)


def as_specs(specs: Specs | Member | Iterable[Member]) -> Specs:
    """Return the table of a pool's `specs` argument: Specs unchanged, one Member, or a list of Members.

    Raises SpecError if there is no member, or an object that is no Member.
    """
    if isinstance(specs, Member):
        return Specs.from_members([specs])
    if not isinstance(specs, Specs):
        if not isinstance(specs, Iterable) or isinstance(specs, (str, bytes, Mapping)):
            hint = "For example [pm.Member(hidden=64), pm.Member(hidden=32)]."
            expected = "pm.grid(...), pm.sample(...), a pm.Member or a list of them"
            raise SpecError(compose("specs", expected, show(specs), hint))
        specs = Specs.from_members(specs)
    if not len(specs):
        raise SpecError(compose("specs", "at least one member", "none", "For example [pm.Member(hidden=64)]."))
    return specs


def _stacked(options: list[np.ndarray]) -> np.ndarray:
    """Join the options of all tables; a single row if one row serves all members."""
    first = options[0]
    if all(len(table) and not table.strides[0] and np.array_equal(table[0], first[0]) for table in options):
        return np.broadcast_to(first[:1], (sum(map(len, options)), first.shape[1]))
    return np.concatenate(options)


def _span(values: np.ndarray) -> str:
    low, high = int(values.min()), int(values.max())
    return str(low) if low == high else f"{low}-{high}"
