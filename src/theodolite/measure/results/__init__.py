"""What instruments return: printed, as a table, as a chart, and in a file."""
