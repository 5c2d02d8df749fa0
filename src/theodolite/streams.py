"""Random numbers by name: every generator has a stream of its own, whatever seeds its neighbours were given."""

import hashlib

import numpy as np


def named_seed(seed: int, name: str) -> int:
    """A seed for what goes by this name, the same on every machine.

    It has 63 bits, of which PyTorch's generator on a CPU takes the lower 32: two names meet by a chance of one in four
    billion, and never by arithmetic, as the sums of seeds and offsets do.

    Args:
        seed: of the whole: a run, a measurement, a unit of evidence.
        name: of the part. What is nested says so in its name, or is named in turn: ``named_seed(named_seed(3, "second
            network"), "weights")``.

    Example:
        >>> named_seed(0, "weights") == named_seed(0, "weights"), named_seed(0, "weights") == named_seed(0, "order")
        (True, False)
    """
    return int.from_bytes(hashlib.sha256(f"{seed} {name}".encode()).digest()[:8], "little") >> 1


def named_generator(seed: int, name: str) -> np.random.Generator:
    """NumPy's generator of that name, with all the bits that it takes: for what is drawn of data.

    Example:
        >>> named_generator(0, "subset").integers(10, size=3).tolist()
        [4, 9, 6]
    """
    stream = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")
    return np.random.default_rng(np.random.SeedSequence([seed, stream]))
