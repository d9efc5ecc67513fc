"""The version, which files, pickles and exports name."""

__version__ = "0.1.0"
