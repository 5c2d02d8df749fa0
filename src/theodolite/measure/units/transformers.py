"""What shares units in transformers: the residual stream, the heads of every attention, hidden units of every block."""

from dataclasses import replace

from torch import nn

from theodolite.errors import BadModel
from theodolite.measure.units.axes import Axis, Units
from theodolite.measure.units.layers import (
    each,
    heads,
    is_weighted,
    layer_of,
    made,
    read,
    stored,
    width_read,
)  # fmt: skip

STREAM = "residual"
BLOCK = ("ln_1", "attn.c_attn", "attn.c_proj", "ln_2", "mlp.c_fc", "mlp.c_proj")  # GPT-2's names


def joined(*units: Units) -> Units:
    """One specification of several: axes under the same name are of the same units.

    Example:
        >>> joined({"stream": [Axis("a", 0)]}, {"stream": [Axis("b", 1)], "hidden": [Axis("c", 0)]}).keys()
        dict_keys(['stream', 'hidden'])
    """
    names = dict.fromkeys(name for part in units for name in part)
    return {name: tuple(axis for part in units for axis in part.get(name, ())) for name in names}


def gpt_block(model: nn.Module, name: str, *, heads: int | None = None, residual: str = STREAM) -> Units:
    """What shares units in one block of a GPT, with the layers' names of GPT-2: ``attn.c_attn``, ``mlp.c_fc``.

    Heads are moved whole. The model may be OpenAI's, as transformers has it, or its kin (nanoGPT, minGPT).

    Args:
        model: the network.
        name: of the block in it, ``"transformer.h.0"``.
        heads: how many the attention has; left out, what it says itself as ``n_head`` or ``num_heads``.
        residual: the name of the units that go from block to block.

    Raises:
        BadModel: the block has no such layers, or does not say how many heads it has.
    """
    block = layer_of(model, name)
    if not _is_block(block):
        raise BadModel(
            f"expected '{name}' as a block of a GPT with {', '.join(BLOCK)}, got {type(block).__name__}. Write its "
            "axes, as Axis(tensor, axis), or call encoder_layer for PyTorch's own."
        )
    norm1, attention, projection, norm2, up, down = (f"{name}.{part}" for part in BLOCK)
    attends = layer_of(model, f"{name}.attn")
    count = heads or getattr(attends, "n_head", None) or getattr(attends, "num_heads", None)
    if not isinstance(count, int):
        raise BadModel(
            f"expected '{name}.attn' to say its number of heads as n_head or num_heads, got neither. Pass heads=."
        )
    width = width_read(layer_of(model, attention)) // count
    return {
        residual: (
            *_norm(model, norm1), *read(model, attention), *made(model, projection),
            *_norm(model, norm2), *read(model, up), *made(model, down),
        ),
        f"{name}.attn": (
            *(replace(axis, outer=3, inner=width) for axis in made(model, attention)), *read(model, projection),
        ),
        f"{name}.mlp": (*made(model, up), *read(model, down)),
    }  # fmt: skip


def gpt(model: nn.Module, *, heads: int | None = None) -> Units:
    """What shares units in a GPT: :func:`gpt_block` for every block, and what is around them on the residual stream.

    Raises:
        BadModel: there is no such block, or a layer outside them is neither embedding, normalisation nor head.
    """
    blocks = [name for name, module in model.named_modules() if _is_block(module)]
    if not blocks:
        raise BadModel(
            f"expected a GPT with blocks of {', '.join(BLOCK)}, got {type(model).__name__} without. Write what shares "
            "units, or join encoder_layer(model, name) of every layer."
        )
    stream: list[Axis] = []
    for name, module in model.named_modules():
        inside = any(name == block or name.startswith(f"{block}.") for block in blocks)
        if inside or not list(module.parameters(recurse=False)):
            continue
        if isinstance(module, nn.Embedding):
            stream += made(model, name)
        elif is_weighted(module):
            stream += read(model, name)
        elif name.rpartition(".")[2] == "ln_f":
            stream += _norm(model, name)
        else:
            raise BadModel(
                f"expected embeddings, 'ln_f' and a head around the blocks of a GPT, but '{name}' is "
                f"{type(module).__name__}. Join gpt_block(model, name) of every block with what else shares units."
            )
    return joined({STREAM: stream}, *(gpt_block(model, name, heads=heads) for name in blocks))


def encoder_layer(model: nn.Module, name: str, *, residual: str = STREAM) -> Units:
    """What shares units in an ``nn.TransformerEncoderLayer``; what is around the layers on the stream is joined to it.

    Raises:
        BadModel: the layer is another.

    Example:
        >>> model = nn.Sequential(nn.Embedding(9, 8), nn.TransformerEncoderLayer(8, 2, 16), nn.Linear(8, 9))
        >>> around = {"residual": made(model, "0") + read(model, "2")}
        >>> list(joined(around, encoder_layer(model, "1")))
        ['residual', '1.self_attn', '1.linear1']
    """
    layer = layer_of(model, name)
    if not isinstance(layer, nn.TransformerEncoderLayer):
        raise BadModel(
            f"expected '{name}' as nn.TransformerEncoderLayer, got {type(layer).__name__}. Write its axes, as "
            "Axis(tensor, axis)."
        )
    attention = f"{name}.self_attn"
    return {
        residual: (
            Axis(f"{attention}.in_proj_weight", 1), *made(model, f"{attention}.out_proj"),
            *each(model, f"{name}.norm1"), *read(model, f"{name}.linear1"),
            *made(model, f"{name}.linear2"), *each(model, f"{name}.norm2"),
        ),
        attention: heads(model, attention),
        f"{name}.linear1": (*made(model, f"{name}.linear1"), *read(model, f"{name}.linear2")),
    }  # fmt: skip


def _is_block(module: nn.Module) -> bool:
    names = {name for name, _ in module.named_modules()}
    return set(BLOCK) <= names


def _norm(model: nn.Module, name: str) -> tuple[Axis, ...]:
    """A normalisation of any class: nanoGPT has one of its own."""
    module = layer_of(model, name)
    return stored(module, name, "weight", 0) + stored(module, name, "bias", 0)
