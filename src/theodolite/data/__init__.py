"""Data sets: named sources as arrays in memory-mapped files, checked against what was published."""
