"""The package's version, which files, pickles and exports state."""

__version__ = "0.1.0"
