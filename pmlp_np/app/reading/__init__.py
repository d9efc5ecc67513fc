"""Reading of tables: records with their line numbers, and the conventions of numbers and dates."""
