"""Products by any network without a graph: the operations of one call, each with how tangents pass through it."""
