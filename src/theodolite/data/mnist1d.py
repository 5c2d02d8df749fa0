"""MNIST-1D: ten shapes as signals of 40 numbers, shifted, stretched and made noisy; generated, so always there."""

import random
from importlib.metadata import version

import numpy as np

from theodolite.data.arrays import Arrays, Progress
from theodolite.errors import require


def mnist1d(progress: Progress) -> tuple[Arrays, str]:
    """Generate the published set: 4,000 and 1,000 signals, float32 ``(N, 40)``, mean 0 and deviation 1 over all.

    The package draws from the global generators of numpy and Python, which are put back. Importing it loads
    matplotlib (1 s), one more reason to keep what it makes.

    Source: Greydanus and Kobak 2024, "Scaling Down Deep Learning with MNIST-1D".
    """
    require("The data set 'mnist1d'", "mnist1d")
    from mnist1d.data import get_dataset_args, make_dataset

    before = np.random.get_state(), random.getstate()
    try:
        made = make_dataset(get_dataset_args())  # seeded there: 42
    finally:
        np.random.set_state(before[0])
        random.setstate(before[1])
    inputs = (made[key].astype(np.float32) for key in ("x", "x_test"))
    labels = (made[key].astype(np.int64) for key in ("y", "y_test"))
    (train, test), (train_labels, test_labels) = inputs, labels
    return Arrays(train, train_labels, test, test_labels, 10, peak=None), f"mnist1d {version('mnist1d')}"
