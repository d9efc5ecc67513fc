"""What members are: their table, its columns, checks of what fields may hold, grids and samples."""
