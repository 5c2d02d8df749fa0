"""Random crops and mirror images of a batch."""

import torch
from torch import Tensor
from torch.nn.functional import pad

BORDER = 4  # pixels on every side


def augmented(images: Tensor, draw: torch.Generator) -> Tensor:
    """Crop each image at random from itself with a border of 4 pixels, and mirror every other one by chance.

    The border is zero: the mean colour where images are standardised. All draws are made on the CPU, so they are the
    same on every device.

    Args:
        images: ``(N, channels, height, width)``.
        draw: where chance comes from.

    Returns:
        New images of the same shape and memory format.

    Source: He et al. 2016, "Deep Residual Learning for Image Recognition", section 4.2.
    """
    samples, _, height, width = images.shape
    down, right = (torch.randint(2 * BORDER + 1, (samples, 1), generator=draw) for _ in range(2))
    mirrored = torch.randint(2, (samples, 1), generator=draw).bool()
    columns = torch.arange(width)
    rows = (down + torch.arange(height)).to(images.device)
    columns = (right + torch.where(mirrored, columns.flip(0), columns)).to(images.device)
    framed = pad(images, (BORDER,) * 4).permute(0, 2, 3, 1)
    sample = torch.arange(samples, device=images.device)[:, None, None]
    cropped = framed[sample, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
    return cropped if images.is_contiguous(memory_format=torch.channels_last) else cropped.contiguous()
