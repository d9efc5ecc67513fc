"""The plan: all facts of a pool's members that training does not change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pmlp_np.base.copying import Independent
from pmlp_np.data.index_sets import Sets
from pmlp_np.data.labels import Names
from pmlp_np.formulas.losses import Loss
from pmlp_np.specs.members import Specs


@dataclass
class Plan(Independent):
    """The specs, loss, dtype and random keys of a pool's members, fixed when the pool is made.

    n_features: columns of X. stream_key, order_key: (n_members,) uint64. features: the columns that each member reads;
    None: all members read all columns. names: of the columns; None where X had no names.
    """

    specs: Specs
    n_features: int
    n_outputs: int
    loss: Loss
    dtype: np.dtype
    stream_key: np.ndarray
    order_key: np.ndarray
    features: Sets | None = None
    names: Names | None = None

    @property
    def n_raw_outputs(self) -> int:
        return self.n_outputs * self.loss.heads

    @property
    def fan_in(self) -> int | np.ndarray:
        """The number of features of each member, (n_members,) int64, or one number for all."""
        return self.n_features if self.features is None else self.features.lengths

    def take(self, positions: np.ndarray) -> Plan:
        """Return the plan of the members at these positions."""
        features = None if self.features is None else self.features.take(positions)
        return Plan(self.specs[positions], self.n_features, self.n_outputs, self.loss, self.dtype,
                    self.stream_key[positions], self.order_key[positions], features, self.names)  # fmt: skip

    @classmethod
    def concatenate(cls, parts: Sequence[Plan], names: Names | None) -> Plan:
        """Return the plan of the members of several plans, which agree in features, outputs, loss and dtype.

        names: of the columns.
        """
        features, first = None, parts[0]
        if any(part.features is not None for part in parts):
            all_columns = [np.arange(first.n_features)]
            features = Sets.concatenate(
                [part.features or Sets(all_columns, np.zeros(part.n_members, np.int64)) for part in parts]
            )
        stream_key, order_key = (
            np.concatenate([getattr(part, name) for part in parts]) for name in ("stream_key", "order_key")
        )
        specs = Specs.concatenate([part.specs for part in parts])
        return cls(specs, first.n_features, first.n_outputs, first.loss, first.dtype, stream_key, order_key, features,
                   names)  # fmt: skip

    @property
    def n_members(self) -> int:
        return len(self.specs)

    @property
    def keeps_average(self) -> bool:
        """Whether any member averages its weights."""
        return bool(self.specs.option("average").any())

    def parameter_counts(self) -> np.ndarray:
        """Return the number of weights and biases of each member, (n_members,) int64."""
        return self.specs.parameter_counts(self.fan_in, self.n_raw_outputs)
