"""Whether a loss has a second derivative everywhere: read off the operations that PyTorch recorded."""

import torch
from torch import Tensor
from torch.autograd.graph import Node

from theodolite.measure.problem.isolation import preserve_rng
from theodolite.measure.problem.objective import Objective

KINKED = {  # operations whose first or second derivative jumps, as PyTorch names their backward passes
    *("Relu", "LeakyRelu", "PreluKernel", "Rrelu", "RreluWithNoise", "Threshold", "Elu", "Hardtanh", "Hardswish"),
    *("Hardsigmoid", "Hardshrink", "Softshrink", "Abs", "Clamp", "ClampMin", "ClampMax", "Maximum", "Minimum", "Max"),
    *("Min", "Amax", "Amin", "MaxPool2DWithIndices", "MaxPool3DWithIndices", "AdaptiveMaxPool2D"),
    *("AdaptiveMaxPool3D", "HuberLoss", "SmoothL1Loss", "Sort", "Topk", "Median", "Sign"),
}


def kinks(objective: Objective) -> list[str]:
    """Names of the operations on the way from parameters to loss that are not twice differentiable everywhere."""
    with preserve_rng(), objective.twice_differentiable(), torch.enable_grad():
        vector = objective.vector.requires_grad_()
        batch, _ = next(objective.batches())
        loss: Tensor = objective.batch_loss(objective.unflatten(vector), batch)
    seen: set[Node] = set()
    found: set[str] = set()
    left = [loss.grad_fn] if loss.grad_fn is not None else []
    while left:
        node = left.pop()
        if node in seen:
            continue
        seen.add(node)
        name = node.name().partition("Backward")[0]
        if name in KINKED:
            found.add(name)
        left += [following for following, _ in node.next_functions if following is not None]
    return sorted(found)
