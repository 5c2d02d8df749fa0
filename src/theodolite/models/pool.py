"""The 2x2 max pool, which takes half of a small network's evaluation in PyTorch's own kernel."""

import torch
from torch import Tensor, nn


class HalvingPool(nn.MaxPool2d):
    """``MaxPool2d(2)``, and the same numbers faster where nothing can be differentiated.

    PyTorch's kernel finds 64-bit indices for the backward pass whether or not there is one. In inference mode, on
    images whose channels lie side by side, three maxima of strided views make a whole network of 134,249 parameters
    1.3 times as fast (benchmarks/images.py --parts). Everywhere else it is PyTorch's own.

    Example:
        >>> HalvingPool(2)(torch.arange(16.0).view(1, 1, 4, 4)).flatten().tolist()
        [5.0, 7.0, 13.0, 15.0]
    """

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  the base class's name for it
        """Images ``(N, C, H, W)`` to ``(N, C, H // 2, W // 2)``."""
        if not torch.is_inference_mode_enabled() or not input.is_contiguous(memory_format=torch.channels_last):
            own: Tensor = super().forward(input)
            return own
        height, width = (side // 2 * 2 for side in input.shape[-2:])
        rows = torch.maximum(input[..., 0:height:2, :], input[..., 1:height:2, :])
        pooled: Tensor = torch.maximum(rows[..., 0:width:2], rows[..., 1:width:2])
        return pooled
