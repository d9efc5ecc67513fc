"""Reading tables: records as they are written, with their lines, and the conventions by which cells are numbers and
dates."""
