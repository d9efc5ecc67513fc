"""The rough prototype the library grew from, kept as a measure of speed: one hidden layer, one output, squared error,
plain SGD, float32, no checks, and fast-math in the activations (so its last bits differ between machines)."""

from benchmarks.peers.prototype.pool import ACTIVATION_CODES, PrototypePool

__all__ = ["ACTIVATION_CODES", "PrototypePool"]
