"""What chance decides about data: which samples are kept, and which labels are random. Each has a stream of its own."""

import numpy as np

from theodolite.data.arrays import Array
from theodolite.errors import SettingError
from theodolite.streams import named_generator


def subset(samples: int, kept: int | None, seed: int, part: str) -> Array | None:
    """Rows to keep, ascending: a plain random subset, not stratified by class. None: all of them.

    With the same seed, a smaller subset lies within a larger one, so that a study over sizes compares like with like.

    Raises:
        SettingError: more are asked for than there are.
    """
    if kept is None or kept == samples:
        return None
    if kept > samples:
        raise SettingError(
            f"expected at most {samples} samples in the {part} set, got {part}={kept}. Ask for fewer, or None for all."
        )
    return np.sort(named_generator(seed, f"subset {part}").permutation(samples)[:kept])


def random_labels(targets: Array, classes: int, share: float, seed: int) -> Array:
    """Labels of which ``round(share * N)`` are drawn anew, uniformly over all classes, the true one included.

    With the same seed, the labels redrawn at a smaller share are redrawn at a larger one too, to the same classes.
    """
    if share == 0:
        return targets
    stream = named_generator(seed, "random labels")
    rows = stream.permutation(len(targets))[: round(share * len(targets))]
    drawn = stream.integers(classes, size=len(targets))
    result = np.array(targets)
    result[rows] = drawn[rows]
    return result
