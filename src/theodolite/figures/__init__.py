"""Charts from tables, one family a file, one theme for all."""
