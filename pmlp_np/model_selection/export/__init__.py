"""Exports of whole table models: from the columns of a raw table to predictions in y's terms."""
