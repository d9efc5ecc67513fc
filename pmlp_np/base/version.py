"""The version, which files, pickles and exports name."""

VERSION = "0.1.0"
