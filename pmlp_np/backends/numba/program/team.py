"""A team: the slots that train one large member together, each a part of every layer's units.

They work on the frame of the first slot and wait for each other after every pass. What can't be parted the first slot
does alone. Every number is computed by the same instructions as in a program for one slot, only elsewhere: the bits are
the same.
"""

from __future__ import annotations

from typing import NamedTuple

from pmlp_np.backends.numba.compiling import kernel
from pmlp_np.backends.numba.intrinsics import call, fetch_and_add, item, pause, read_now, set_item

# Reads of the counter before a waiting slot lets other threads have its core: some 10 microseconds.
_SPINS = 500


class Team(NamedTuple):
    """The slot whose frame is used, and which part of how many parts a program covers."""

    slot: int
    part: int
    parts: int


@kernel()
def alone(team, address):
    """The address of a pass that the first slot does alone; 0 for the others."""
    return address if team.part == 0 else 0


@kernel()
def share(job, team, width):
    """A program's share of `width` units, in whole vectors: (elements before it, width, vectors)."""
    vectors = (width + job.lanes - 1) // job.lanes
    if team.parts == 1:
        return 0, width, vectors
    first, stop = vectors * team.part // team.parts, vectors * (team.part + 1) // team.parts
    before = first * job.lanes
    return before, min(width, stop * job.lanes) - before, stop - first


@kernel()
def barrier(job, program):
    """Wait until all slots of a program's team are here."""
    if program.team.parts > 1:
        times = item(program.meetings, 0) + 1
        set_item(program.meetings, 0, times)
        fetch_and_add(job.meeting, 1)
        waited = 0
        while read_now(job.meeting) < times * program.team.parts:
            waited += 1
            if waited < _SPINS or job.give_way == 0:
                pause()
            else:
                # The slot that is waited for may need this core.
                call(job.give_way, (0,))
