"""Members' specs: the table, its columns, validation of fields, grids and samples."""
