"""Training: epochs, data, metrics, early stopping and progress, on top of the backends' contract."""
