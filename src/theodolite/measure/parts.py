"""What instruments are made of, for a study that looks at one loss at many weights: joined and checked once.

``objective`` joins model, loss and data; ``loss_and_gradient`` reads that at other weights, and ``landscape`` with its
exact Hessian at many at once. ``shuffled`` is the same network with its hidden units in another order. The rest are
kinds of results.
"""

from theodolite.measure.critical.landscape import Landscape, landscape
from theodolite.measure.critical.points import CriticalPoint, CriticalPoints
from theodolite.measure.gradient_norm import loss_and_gradient
from theodolite.measure.planes import Plane
from theodolite.measure.problem.join import objective
from theodolite.measure.problem.objective import Objective
from theodolite.measure.units.order import shuffled

__all__ = [
    "CriticalPoint", "CriticalPoints", "Landscape", "Objective", "Plane", "landscape", "loss_and_gradient", "objective",
    "shuffled",
]  # fmt: skip
