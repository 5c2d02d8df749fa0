"""What shares units, read off a network whose layers run in the order in which they are in it."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from theodolite.errors import BadModel
from theodolite.measure.problem.sequential import chain
from theodolite.measure.units.axes import Axis, Units
from theodolite.measure.units.layers import (
    CONVOLUTIONS,
    TRANSPOSED,
    each,
    is_weighted,
    layer_of,
    made,
    read,
    width_made,
    width_read,
)
from theodolite.models.pool import HalvingPool

UNITWISE = (  # layers without weights that treat every unit by itself and alike
    *(nn.ReLU, nn.LeakyReLU, nn.ELU, nn.CELU, nn.SELU, nn.GELU, nn.SiLU, nn.Mish, nn.Softplus, nn.Sigmoid, nn.Tanh),
    *(nn.ReLU6, nn.Hardtanh, nn.Hardsigmoid, nn.Hardswish, nn.Softsign, nn.LogSigmoid, nn.Tanhshrink, nn.Identity),
    *(nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d),
)
POOLS = (  # and those that treat every channel so
    *(nn.MaxPool1d, nn.MaxPool2d, HalvingPool, nn.MaxPool3d, nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d, nn.Upsample),
    *(nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d, nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d),
)
OVER_CHANNELS = (_NormBase, nn.GroupNorm, nn.PReLU)
OVER_LAST = (nn.LayerNorm, nn.RMSNorm)
SHORTCUTS = ("downsample", "shortcut")  # the way around a residual block, as torchvision and others call it


@dataclass(slots=True, eq=False)
class _Shared:
    """Units, and all that is known to hold them."""

    name: str  # of the first layer that makes them
    axes: list[Axis]
    bound: str = ""  # the convolution in groups, if any, by which they move only as its outputs do


@dataclass(frozen=True, slots=True)
class _Stream:
    """Units on their way from what makes them to what reads them, in the form that they have by then."""

    shared: _Shared
    width: int  # numbers along their axis
    places: int | None  # axes behind theirs, as the pixels of a channel; None where all is flattened
    repeated: bool = False  # flattened, and once for each time step
    unknown: str = ""  # what they went through for which a permutation is not known

    def outer(self, length: int) -> int:
        """How often the units come along an axis of that length."""
        return length // self.width if self.repeated else 1


@dataclass(slots=True)
class _Walk:
    """Through the layers of a network in their order."""

    model: nn.Module
    blocks: bool  # whether modules of other classes are residual blocks, and forward flattens channels itself
    found: list[_Shared] = field(default_factory=list)
    weighted: int = 0  # layers with weights

    def through(self, names: Iterable[str], stream: _Stream | None) -> _Stream | None:
        """Units after these layers, from those before; None: what has its own places, as the pixels of an image."""
        for name in names:
            stream = self._layer(name, layer_of(self.model, name), stream)
        return stream

    def _layer(self, name: str, module: nn.Module, stream: _Stream | None) -> _Stream | None:
        if isinstance(module, nn.Sequential):
            return self.through(_children(module, name), stream)
        if is_weighted(module) or isinstance(module, (nn.Embedding, nn.EmbeddingBag)):
            self.weighted += 1
            spatial = len(module.kernel_size) if isinstance(module, (*CONVOLUTIONS, *TRANSPOSED)) else 0
            if stream is not None:
                stream = self._readable(name, module, stream, spatial)
            if getattr(module, "groups", 1) > 1:
                return self._grouped(name, module, stream)
            if stream is not None:
                outer = stream.outer(width_read(module))
                stream.shared.axes += [replace(axis, outer=outer) for axis in read(self.model, name)]
            self.found.append(_Shared(name, list(made(self.model, name))))
            return _Stream(self.found[-1], width_made(module), spatial)
        if isinstance(module, (*OVER_CHANNELS, *OVER_LAST)):
            if stream is not None:
                self._normalised(name, module, stream)
            return stream
        if self.blocks and list(module.children()):
            return self._block(name, module, stream)
        return _passed(name, module, stream)

    def _readable(self, name: str, module: nn.Module, stream: _Stream, spatial: int) -> _Stream:
        """The stream as it is read: along its units, or a refusal."""
        if stream.unknown:
            raise BadModel(
                f"expected layers that treat units one by one, but {stream.unknown}, for which a permutation is not "
                "known. Take it out, or say in units= what shares units."
            )
        if self.blocks and not spatial and stream.places:
            stream = replace(stream, places=None)
        flat = stream.places is None and not spatial and width_read(module) % stream.width == 0
        if not flat and (stream.places != spatial or width_read(module) != stream.width):
            raise BadModel(
                f"expected '{name}' ({type(module).__name__}) to read the {stream.width} units of "
                f"'{stream.shared.name}', but it reads along another axis. Put nn.Flatten() between them if that is "
                "what is missing, or say in units= what shares units."
            )
        return stream

    def _grouped(self, name: str, module: nn.Module, stream: _Stream | None) -> _Stream | None:
        one_to_one = getattr(module, "groups", 1) == width_read(module) == width_made(module)
        if stream is None:
            if one_to_one:
                return None
            raise BadModel(
                f"expected a convolution without groups to read the inputs, but '{name}' has "
                f"{module.groups}, which have their places there. Say in units= what shares units, with start and stop."
            )
        stream.shared.axes += each(self.model, name)
        stream.shared.bound = stream.shared.bound or ("" if one_to_one else name)
        return replace(stream, width=width_made(module))

    def _normalised(self, name: str, module: nn.Module, stream: _Stream) -> None:
        """What treats units one by one, and alike but for weights of each."""
        if isinstance(module, OVER_LAST):
            along = len(module.normalized_shape) - 1 - (stream.places or 0)
            if along >= 0:  # else it normalises over pixels alone, alike for all channels
                outer = stream.outer(module.normalized_shape[along])
                stream.shared.axes += [replace(axis, outer=outer) for axis in each(self.model, name, along)]
            return
        size = next(
            int(getattr(module, n)) for n in ("num_features", "num_channels", "num_parameters") if hasattr(module, n)
        )
        if isinstance(module, nn.GroupNorm) and module.num_groups > 1:
            if stream.repeated:
                raise BadModel(
                    f"expected '{name}' to normalise groups of units, but it normalises groups of time steps and "
                    "units. Say in units= what shares units."
                )
            stream.shared.axes.append(replace(stream.shared.axes[0], blocks=module.num_groups))
        if size == stream.width or (stream.places is None and size > 1 and size % stream.width == 0):
            stream.shared.axes += [replace(axis, outer=stream.outer(size)) for axis in each(self.model, name)]

    def _block(self, name: str, module: nn.Module, stream: _Stream | None) -> _Stream:
        """A residual block: its layers, and the way around them."""
        children = _children(module, name)  # an empty Sequential leads around as it is
        around = [child for child in children if child.rpartition(".")[2] in SHORTCUTS]
        inner = self.through([child for child in children if child not in around], stream)
        outer = self.through(around, stream)
        if stream is None or inner is None or outer is None:
            raise BadModel(
                f"expected '{name}' ({type(module).__name__}) as a residual block behind other layers, but it reads "
                "the inputs. Say in units= what shares units."
            )
        unknown = inner.unknown or outer.unknown
        if unknown or (inner.width, inner.places) != (outer.width, outer.places):
            raise BadModel(
                f"expected '{name}' ({type(module).__name__}) as a residual block, whose layers give what the way "
                f"around them gives, but {unknown or f'they give {inner.width} units and it {outer.width}'}. Say in "
                "units= what shares units."
            )
        if inner.shared is not outer.shared:
            first, second = sorted((inner.shared, outer.shared), key=self.found.index)
            first.axes += second.axes
            first.bound = first.bound or second.bound
            self.found.remove(second)
            return replace(inner, shared=first)
        return inner

    def units(self) -> Units:
        """By the name of the layer that makes them; those of the outputs keep their places."""
        output = self.through(_children(self.model, ""), None)
        if output is not None:
            if output.shared.bound:
                raise BadModel(
                    f"expected a layer that reads what '{output.shared.bound}', a convolution in groups, gives, but "
                    "that is the output, whose units have their places. Say in units= what shares units."
                )
            self.found.remove(output.shared)
        return {shared.name: tuple(shared.axes) for shared in self.found}


def chained(model: nn.Module) -> Units:
    """What shares units in an ``nn.Sequential``, which may be nested.

    Raises:
        BadModel: it is none, or holds a layer whose units are not known.
    """
    links = chain(model)
    if links is None:
        raise BadModel(
            "expected an nn.Sequential without hooks, got one with some, which may change what happens in between. "
            "Remove them (remove_weight_norm, remove_spectral_norm and prune.remove of torch.nn.utils), or say what "
            "shares units in units=."
        )
    if len(links) < 2:
        raise BadModel(
            f"expected an nn.Sequential, got {type(model).__name__}. Rebuild it as a chain, or say what shares units, "
            "as in units=resnet(model) or gpt(model) of theodolite.measure.units."
        )
    names = [n for n, _ in model.named_parameters(remove_duplicate=False)]
    if len(names) != len(list(model.parameters())):
        raise BadModel(
            "expected every weight used once, but some are tied, so that their units are. Untie them, or say in units= "
            "what shares units."
        )
    walk = _Walk(model, blocks=False)
    units = walk.units()
    if not walk.weighted:
        raise BadModel("expected layers with weights, whose units can be matched, got none. Pass a network with some.")
    return units


def resnet(model: nn.Module) -> Units:
    """What shares units in a residual network: each stage's stream one kind, the inside of every block its own.

    Layers must run in the order in which they are in the model. Modules that are neither layers of PyTorch nor an
    ``nn.Sequential`` are residual blocks: their layers, plus the input, or plus what ``downsample`` or ``shortcut``
    makes of it. So are the networks of torchvision, ResNeXt among them, and the common ones for CIFAR.

    Raises:
        BadModel: a layer's units are not known, or a block is none.

    Source: Ainsworth et al. 2023, "Git Re-Basin", section 3 and appendix A, for residual streams.

    Example:
        >>> class Block(nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.conv1, self.conv2 = (nn.Conv2d(4, 4, 3, padding=1) for _ in range(2))
        ...     def forward(self, x):
        ...         return x + self.conv2(self.conv1(x).relu())
        >>> model = nn.Sequential(nn.Conv2d(1, 4, 3), Block(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
        >>> {name: len(axes) for name, axes in resnet(model).items()}  # the stream, and the inside of the block
        {'0': 6, '1.conv1': 3}
    """
    return _Walk(model, blocks=True).units()


def _passed(name: str, module: nn.Module, stream: _Stream | None) -> _Stream | None:
    """What leaves units one by one, or nobody may read them afterwards."""
    if next(module.parameters(), None) is not None:
        raise BadModel(
            f"expected layers whose units are known, but '{name}' is {type(module).__name__}, for which a permutation "
            "is not known. Take it out, or say in units= what shares units."
        )
    if stream is None or type(module) in UNITWISE:
        return stream
    if type(module) in POOLS and stream.places:
        return stream
    if isinstance(module, nn.Flatten) and module.end_dim == -1:
        if module.start_dim == 1:
            return replace(stream, places=None, repeated=stream.repeated or stream.places == 0)
        if stream.places and 2 <= module.start_dim <= stream.places + 1:
            return replace(stream, places=module.start_dim - 1)
    return replace(stream, unknown=f"'{name}' is {type(module).__name__}")


def _children(module: nn.Module, name: str) -> list[str]:
    prefix = f"{name}." if name else ""
    return [f"{prefix}{own}" for own, child in module._modules.items() if child is not None]
