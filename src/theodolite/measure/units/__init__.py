"""Hidden units that can change places without changing the function: who shares them, said, found, matched, checked.

What shares units is a mapping from a name to the axes of tensors along which those units lie
(:class:`~theodolite.measure.units.axes.Axis`): written by hand, made of layers, or read off an architecture.
"""

from theodolite.measure.units.axes import Axis, Units
from theodolite.measure.units.layers import each, heads, made, read
from theodolite.measure.units.networks import resnet
from theodolite.measure.units.transformers import encoder_layer, gpt, gpt_block, joined

__all__ = ["Axis", "Units", "each", "encoder_layer", "gpt", "gpt_block", "heads", "joined", "made", "read", "resnet"]
