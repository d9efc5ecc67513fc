"""Epochs of all members: data, metrics, early stopping, progress. It knows no concrete backend."""
