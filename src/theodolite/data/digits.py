"""The 1,797 digits that scikit-learn carries: 8x8 images of 17 grey levels."""

import numpy as np

from theodolite.data.arrays import Arrays, Progress
from theodolite.errors import require
from theodolite.streams import named_generator

TRAIN = 1437  # four fifths


def digits(progress: Progress) -> tuple[Arrays, str]:
    """Shuffle them once and for all, since they come sorted by writer, then split 1,437 to 360.

    Source: scikit-learn's ``load_digits``: the test part of Alpaydin and Kaynak 1998, "Optical Recognition of
    Handwritten Digits".
    """
    require("The data set 'digits'", "sklearn")
    from sklearn import __version__
    from sklearn.datasets import load_digits

    found = load_digits()
    images = found.images.astype(np.uint8)[:, None]
    labels = found.target.astype(np.int64)
    order = named_generator(0, "digits: training and test").permutation(len(images))
    train, test = order[:TRAIN], order[TRAIN:]
    return Arrays(images[train], labels[train], images[test], labels[test], 10, peak=16), f"scikit-learn {__version__}"
