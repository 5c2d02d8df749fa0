"""Symmetric operators that know no model, and a user who ends what multiplies by them."""

import torch


class Dense:
    """Q diag(values) Qᵀ."""

    def __init__(self, values, dtype=torch.float64, seed=5):
        self.size, self.dtype, self.device = len(values), dtype, torch.device("cpu")
        random = torch.Generator().manual_seed(seed)
        Q = torch.linalg.qr(torch.randn(self.size, self.size, generator=random, dtype=torch.float64))[0]
        self.matrix = ((Q * values) @ Q.mT).to(dtype)

    def rows(self, vectors):
        return vectors @ self.matrix


class Stopped:
    """A user who wants what there is after some products."""

    def __init__(self, after):
        self.left = after

    @property
    def interrupted(self):
        return self.left <= 0

    def advance(self, count):
        self.left -= count
