"""The command line `pmlp`: from a table to a leaderboard, pictures, predictions and models for other systems."""
