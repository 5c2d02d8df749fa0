"""Products without a graph, layer by layer, for plain chains of layers (Pearlmutter 1994)."""
