"""Exports: networks and means of networks for other systems. One file per target, imported on first use."""
