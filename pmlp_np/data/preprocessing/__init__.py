"""Preprocessing: from tables (arrays, data frames) to feature views, which members read block by block."""
