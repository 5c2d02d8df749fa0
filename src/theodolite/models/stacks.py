"""When small networks gain by training together, by their size alone. Imports no torch."""

# Multiplications of one network's forward pass over a batch, up to which a stack of 16 is at least 1.3 times as fast as
# one after another. Below it calls of Python and PyTorch are the time, above it the numbers (benchmarks/replicas.py).
PAYS = 2_000_000


def pays(multiplications: int, batch: int) -> bool:
    """Whether a stack is worth it, by the multiplications of a sample."""
    return multiplications * batch <= PAYS
