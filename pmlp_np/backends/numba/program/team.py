"""A team: the slots that train one large member together, each a part of every layer's units.

They work on the frame of the first slot and wait for each other after every pass. Passes that can't be divided are run
by the first slot alone. Every number is computed by the same instructions as in a program for one slot, so the bits are
the same.
"""

from __future__ import annotations

from typing import NamedTuple

from pmlp_np.backends.numba.compiling import kernel
from pmlp_np.backends.numba.intrinsics import call, fetch_and_add, item, pause, read_now, set_item

# Reads of the counter before a waiting slot yields its core to other threads: some 10 microseconds.
_SPINS = 500


class Team(NamedTuple):
    """The slot whose frame is used; the part of every layer that a program covers, out of `parts`."""

    slot: int
    part: int
    parts: int


@kernel()
def alone(team, address):
    """Return the address of a pass that the first slot runs alone; 0 for the others."""
    return address if team.part == 0 else 0


@kernel()
def share(job, team, width):
    """Return a program's share of `width` units, in whole vectors: (elements before it, width, vectors)."""
    vectors = (width + job.lanes - 1) // job.lanes
    if team.parts == 1:
        return 0, width, vectors
    first, stop = vectors * team.part // team.parts, vectors * (team.part + 1) // team.parts
    before = first * job.lanes
    return before, min(width, stop * job.lanes) - before, stop - first


@kernel()
def barrier(job, program):
    """Wait until all slots of a program's team have reached the barrier."""
    if program.team.parts > 1:
        passed = item(program.barriers, 0) + 1
        set_item(program.barriers, 0, passed)
        fetch_and_add(job.barrier_counter, 1)
        spins = 0
        while read_now(job.barrier_counter) < passed * program.team.parts:
            spins += 1
            if spins < _SPINS or job.yield_thread == 0:
                pause()
            else:
                # The slowest slot may need this core.
                call(job.yield_thread, (0,))
