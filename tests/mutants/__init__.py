"""Mutants: copies of the library with one thing broken, each of which a named test must notice. See docs/mutants.md."""
