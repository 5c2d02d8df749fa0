"""Data sets as tensors."""

import numpy as np
import torch

from theodolite.data import Dataset
from theodolite.train import tensors


def test_pixels_are_scaled_channel_by_channel():
    pixels = np.arange(24, dtype=np.uint8).reshape(2, 3, 2, 2)
    offset, factor = np.array([1, 2, 3], np.float32), np.array([0.5, 0.25, 2], np.float32)
    dataset = Dataset(pixels, np.array([0, 1]), pixels[:1], np.array([1]), 2, "made", offset, factor)
    data = tensors(dataset, torch.float64)
    expected = [[[(pixels[n, c] - float(offset[c])) * float(factor[c])] for c in range(3)] for n in range(2)]
    assert torch.equal(data.train.inputs, torch.tensor(np.array(expected)).view(2, 3, 2, 2))
    assert data.train.targets.dtype == torch.int64
    assert (len(data.train), len(data.test)) == (2, 1)


def test_numbers_become_the_type_asked_for():
    x = np.linspace(0, 1, 5)[:, None]
    dataset = Dataset(x, x**2, x, x**3, None, "made", None, None)
    data = tensors(dataset)
    assert data.train.inputs.dtype == data.test.targets.dtype == torch.float32
    assert torch.equal(data.test.targets, torch.from_numpy(x**3).float())
