"""The kernel lab: each pass of the Numba backend alone, checked before it is timed, beside what bounds it."""
