"""The command line `pmlp`: from a table to a leaderboard, plots, predictions and exported models."""
