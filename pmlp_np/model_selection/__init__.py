"""Search: from a table to an ensemble of members that were tried on it, within a time."""
