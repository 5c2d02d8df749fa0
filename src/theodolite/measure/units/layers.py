"""Which axes of a layer's tensors hold the units it makes, reads, or treats one by one."""

from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.utils.parametrize import is_parametrized

from theodolite.errors import BadModel, UnknownName
from theodolite.measure.units.axes import Axis

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
STATISTICS = ("running_mean", "running_var")


def made(model: nn.Module, name: str) -> tuple[Axis, ...]:
    """The axes of layer ``name`` along the units that it makes: rows of weights and the bias; columns of an embedding.

    Raises:
        BadModel: units of such a layer are not known, or cannot be permuted one by one.
        UnknownName: the model has no such layer.

    Example:
        >>> model = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1))
        >>> [(axis.tensor, axis.axis) for axis in made(model, "0") + read(model, "2")]
        [('0.weight', 0), ('0.bias', 0), ('2.weight', 1)]
    """
    module = layer_of(model, name)
    if isinstance(module, (nn.Embedding, nn.EmbeddingBag)):
        return stored(module, name, "weight", 1)
    _by_one(module, name)
    return stored(module, name, "weight", _written(module)) + stored(module, name, "bias", 0)


def read(model: nn.Module, name: str) -> tuple[Axis, ...]:
    """The axis of layer ``name`` along the units that it reads: columns of a linear layer's weight.

    Raises:
        BadModel: units of such a layer are not known, or cannot be permuted one by one.
        UnknownName: the model has no such layer.
    """
    module = layer_of(model, name)
    _by_one(module, name)
    return stored(module, name, "weight", 1 - _written(module))


def each(model: nn.Module, name: str, axis: int = 0) -> tuple[Axis, ...]:
    """The axes of a layer that treats units one by one: normalisations, PReLU, convolutions by groups.

    Args:
        model: the network.
        name: of its layer.
        axis: of the layer's tensors along which units lie; that of a LayerNorm over more than one axis may be another.

    Raises:
        BadModel: such a layer is not known to treat units one by one.
        UnknownName: the model has no such layer.
    """
    module = layer_of(model, name)
    if isinstance(module, (*CONVOLUTIONS, *TRANSPOSED)) and module.groups > 1:
        made_each, read_each = module.out_channels // module.groups, module.in_channels // module.groups
        first = read_each if isinstance(module, TRANSPOSED) else made_each
        return stored(module, name, "weight", 0, first) + stored(module, name, "bias", 0, made_each)
    if isinstance(module, nn.PReLU):
        return stored(module, name, "weight", 0) if module.num_parameters > 1 else ()
    if not isinstance(module, (_NormBase, nn.LayerNorm, nn.RMSNorm, nn.GroupNorm)):
        raise BadModel(
            f"expected a layer that treats units one by one, but '{name}' is {type(module).__name__}. Write its axes, "
            "as Axis(tensor, axis)."
        )
    blocks = module.num_groups if isinstance(module, nn.GroupNorm) else 1
    parts = ("weight", "bias", *STATISTICS)
    return tuple(own for part in parts for own in stored(module, name, part, axis, blocks=blocks))


def heads(model: nn.Module, name: str) -> tuple[Axis, ...]:
    """The axes of an ``nn.MultiheadAttention`` along its heads, each moved whole.

    Raises:
        BadModel: the layer is no such attention, or learns keys and values of its own.
        UnknownName: the model has no such layer.
    """
    module = layer_of(model, name)
    if not isinstance(module, nn.MultiheadAttention) or module.bias_k is not None:
        raise BadModel(
            f"expected nn.MultiheadAttention without add_bias_kv as '{name}', got {type(module).__name__}. Write its "
            "axes, as Axis(tensor, axis, outer=3, inner=width of a head)."
        )
    width = module.head_dim
    apart: tuple[str, ...] = (
        () if module.in_proj_weight is not None else ("q_proj_weight", "k_proj_weight", "v_proj_weight")
    )
    joint = [part for part in ("in_proj_weight", "in_proj_bias") if getattr(module, part) is not None]
    return (
        *(Axis(f"{name}.{part}", 0, outer=3, inner=width) for part in joint),
        *(Axis(f"{name}.{part}", 0, inner=width) for part in apart),
        Axis(f"{name}.out_proj.weight", 1, inner=width),
    )


def layer_of(model: nn.Module, name: str) -> nn.Module:
    """The layer of that name."""
    try:
        return model.get_submodule(name)
    except AttributeError:
        raise UnknownName("layer", name, dict(model.named_modules(remove_duplicate=False))) from None


def is_weighted(module: nn.Module) -> bool:
    """Whether a layer makes units of others by weights."""
    return isinstance(module, (nn.Linear, *CONVOLUTIONS, *TRANSPOSED)) or _transposed_linear(module)


def stored(module: nn.Module, name: str, part: str, axis: int, inner: int = 1, *, blocks: int = 1) -> tuple[Axis, ...]:
    """An axis of a layer's tensor in all that it is made of: length and direction where weights are normalised.

    Raises:
        BadModel: it is computed from other tensors in a way whose units are not known.
    """
    prefix = f"{name}." if name else ""
    if is_parametrized(module, part):
        steps = module.parametrizations[part]  # type: ignore[index]
        if [type(step).__name__ for step in steps] != ["_WeightNorm"]:
            raise BadModel(
                f"expected weights as they are or under weight_norm, but '{prefix}{part}' is computed by "
                f"{', '.join(type(step).__name__ for step in steps)}. Call "
                f"torch.nn.utils.parametrize.remove_parametrizations(layer, '{part}') on both models."
            )
        parts = {f"parametrizations.{part}.original{i}": getattr(steps, f"original{i}") for i in range(2)}
        whole = parts[f"parametrizations.{part}.original1"].shape
        return tuple(
            Axis(f"{prefix}{own}", axis, inner=inner, blocks=blocks)
            for own, tensor in parts.items()
            if tensor.ndim == len(whole) and tensor.shape[axis] == whole[axis]  # lengths lie along one axis only
        )
    if getattr(module, part, None) is None:
        return ()
    if part not in module._parameters and part not in module._buffers:
        raise BadModel(
            f"expected '{prefix}{part}' as a parameter, but a hook computes it. Call remove_weight_norm, "
            "remove_spectral_norm or prune.remove on both models."
        )
    return (Axis(f"{prefix}{part}", axis, inner=inner, blocks=blocks),)


def _written(module: nn.Module) -> int:
    """The axis of the weight along what the layer makes; of two, what it reads is along the other."""
    return int(isinstance(module, TRANSPOSED) or _transposed_linear(module))


def _transposed_linear(module: nn.Module) -> bool:
    """The linear layer of GPT-2 in transformers, whose weight is ``(in, out)``."""
    return type(module).__name__ == "Conv1D" and not isinstance(module, nn.Conv1d)


def _by_one(module: nn.Module, name: str) -> None:
    if not is_weighted(module):
        raise BadModel(
            f"expected a linear layer or a convolution, but '{name}' is {type(module).__name__}. Write its axes, as "
            "Axis(tensor, axis)."
        )
    groups = getattr(module, "groups", 1)
    if groups != 1:
        raise BadModel(
            f"expected a convolution without groups, but '{name}' has {groups}, which move whole. Use each(model, "
            f"'{name}') beside what makes and what reads them."
        )


def width_made(module: nn.Module) -> int:
    """How many numbers a layer gives along its units."""
    if isinstance(module, (nn.Embedding, nn.EmbeddingBag)):
        return module.embedding_dim
    found = getattr(module, "out_features", getattr(module, "out_channels", getattr(module, "nf", 0)))
    return int(found)


def width_read(module: nn.Module) -> int:
    """How many numbers a layer takes along its units."""
    found = getattr(module, "in_features", getattr(module, "in_channels", getattr(module, "nx", 0)))
    return int(found)
