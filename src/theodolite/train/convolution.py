r"""A convolution and the pool behind it as evaluation takes them: in one step, with weights laid out beforehand.

Two ways, both without a backward pass:

*Directly*, by PyTorch's convolution, its output channels filled up to whole vector registers with zero weights, since
on AVX2 channels that fill no register take longer than a full one: 30 channels from images of 3 take 34 µs an image,
32 take 25.

*With fewer multiplications* (Winograd), where both sides have many channels. A tile of 4x4 outputs reads 6x6 inputs; in
a basis where the convolution is a product element by element it takes 36 multiplications for each pair of channels in
place of 144,

.. math:: Y = A^\top \left[ (G g G^\top) \odot (B^\top d B) \right] A,

and the sum over input channels makes each element a matrix product. A tile holds whole pools, so their maxima are taken
before anything is laid out as an image again.

Source: Lavin and Gray 2016, "Fast Algorithms for Convolutional Neural Networks", section 4.3, F(4x4, 3x3).
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from theodolite.models.pool import HalvingPool, halved

REGISTER = 8  # float32 numbers in a vector register of AVX2
MANY = 64  # channels on both sides from which fewer multiplications outweigh the change of basis (benchmarks/images.py)

# One side of a tile, by the points 0, 1, -1, 2, -2 and infinity: of the inputs, of the weights, and of the outputs.
_B = torch.tensor(
    [
        [4.0, 0, -5, 0, 1, 0],
        [0, -4, -4, 1, 1, 0],
        [0, 4, -4, -1, 1, 0],
        [0, -2, -1, 2, 1, 0],
        [0, 2, -1, -2, 1, 0],
        [0, 4, 0, -5, 0, 1],
    ]
)
_G = torch.tensor([[6.0, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]], dtype=torch.float64) / 24
_A = torch.tensor([[1.0, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]])
FROM_INPUTS, FROM_WEIGHTS, TO_OUTPUTS = (torch.kron(side, side) for side in (_B, _G, _A))  # of a tile: (36 or 16, ...)


class ConvolutionAndPool(nn.Module):
    """``pool(convolution(images))`` with the weights that the convolution has now."""

    def __init__(self, convolution: nn.Conv2d) -> None:
        super().__init__()
        weight = convolution.weight.detach()
        bias = weight.new_zeros(len(weight)) if convolution.bias is None else convolution.bias.detach()
        more = -len(weight) % REGISTER
        filled = functional.pad(weight, (0, 0, 0, 0, 0, 0, 0, more)).contiguous(memory_format=torch.channels_last)
        self.channels, self.filled = len(weight), (filled, functional.pad(bias, (0, more)))
        self.in_basis = (in_basis(weight), bias) if min(weight.shape[:2]) >= MANY else None

    def forward(self, images: Tensor) -> Tensor:
        """Images ``(N, C, H, W)`` to ``(N, O, H // 2, W // 2)``."""
        if self.in_basis and images.shape[2] % 4 == images.shape[3] % 4 == 0:
            return winograd(images, *self.in_basis)
        return halved(functional.conv2d(images, *self.filled, padding=1), self.channels)


def fits(layer: nn.Module, following: nn.Module) -> bool:
    """Whether these are a convolution and a pool whose function :class:`ConvolutionAndPool` is, and nobody watches."""
    return (
        type(layer) is nn.Conv2d
        and layer.weight.is_cpu
        and layer.weight.dtype is torch.float32
        and (layer.kernel_size, layer.stride, layer.padding, layer.dilation) == ((3, 3), (1, 1), (1, 1), (1, 1))
        and (layer.groups, layer.padding_mode) == (1, "zeros")
        and (type(following) is nn.MaxPool2d or type(following) is HalvingPool)
        and (following.kernel_size, following.stride) in ((2, 2), ((2, 2), (2, 2)))
        and (following.padding, following.dilation) == (0, 1)
        and not (following.ceil_mode or following.return_indices or watched(layer) or watched(following))
    )


def watched(module: nn.Module) -> bool:
    """Whether hooks want to be called when the module is: its function is then not all that it does."""
    return bool(module._forward_hooks or module._forward_pre_hooks)


def in_basis(weight: Tensor) -> Tensor:
    """Weights ``(O, C, 3, 3)`` in the basis of the products, ``(36, C, O)``."""
    outputs, channels = weight.shape[:2]
    tiles = FROM_WEIGHTS @ weight.double().reshape(-1, 9).T
    return tiles.to(weight.dtype).view(36, outputs, channels).transpose(1, 2).contiguous()


def winograd(images: Tensor, weights: Tensor, bias: Tensor) -> Tensor:
    """The pool of a convolution, images ``(N, C, H, W)`` with H and W multiples of 4, weights from :func:`in_basis`."""
    tiles = functional.pad(images, (1, 1, 1, 1)).unfold(2, 6, 4).unfold(3, 6, 4).permute(4, 5, 0, 2, 3, 1)
    *_, samples, down, across, channels = tiles.shape
    inputs = (FROM_INPUTS @ tiles.reshape(36, -1)).view(36, -1, channels)
    outputs = (TO_OUTPUTS @ torch.bmm(inputs, weights).view(36, -1)).view(2, 2, 2, 2, -1)  # rows, columns: two pairs
    rows = torch.maximum(outputs[:, 0], outputs[:, 1])
    pooled = torch.maximum(rows[:, :, 0], rows[:, :, 1]).view(2, 2, samples, down, across, -1)
    image = pooled.permute(2, 3, 0, 4, 1, 5) + bias
    return image.reshape(samples, 2 * down, 2 * across, -1).permute(0, 3, 1, 2)
