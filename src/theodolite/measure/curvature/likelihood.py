r"""Losses that are the negative logarithm of a likelihood, and their Fisher matrix by the outputs.

.. math:: F_n = \mathbb{E}_{y \sim p(y \mid z_n)} \Big[ \frac{\partial \ell(z_n, y)}{\partial z_n}
          \frac{\partial \ell(z_n, y)}{\partial z_n}^\top \Big], \qquad \ell(z, y) = -\log p(y \mid z)

Where outputs are the natural parameters of an exponential family (logits of cross entropy, means of squared error, log
rates of counts) it does not depend on the targets, and is the loss's Hessian. PyTorch's other likelihoods have it in
closed form; a loss of the user's own over classes has it summed over all of them, once it is seen that its
probabilities add up to one.

Source: Martens 2020, "New Insights and Perspectives on the Natural Gradient Method", sections 5 and 9.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import vmap
from torch.nn import functional

from theodolite.errors import BadLoss, TooLarge
from theodolite.measure.problem.isolation import loops_allowed
from theodolite.measure.problem.objective import Objective

ADDS_UP = 1e-3  # how near one probabilities must add up: far above the rounding of float32, far below a smoothed label
MOST_CLASSES = 256  # of a user's own loss: its scores take that many numbers for each output

MODULES: dict[type[nn.Module], Any] = {
    nn.CrossEntropyLoss: functional.cross_entropy,
    nn.NLLLoss: functional.nll_loss,
    nn.MSELoss: functional.mse_loss,
    nn.BCEWithLogitsLoss: functional.binary_cross_entropy_with_logits,
    nn.BCELoss: functional.binary_cross_entropy,
    nn.PoissonNLLLoss: functional.poisson_nll_loss,
}
NATURAL = (
    functional.cross_entropy,
    functional.mse_loss,
    functional.binary_cross_entropy_with_logits,
    functional.poisson_nll_loss,
)
WEIGHTED = ("weight", "pos_weight", "label_smoothing")  # settings that make a likelihood into something else


def is_natural(loss: Any, targets: Any) -> bool:
    """Whether the outputs are natural parameters of the loss's likelihood.

    Raises:
        BadLoss: a loss of PyTorch's with settings by which it is no likelihood, or none at all.
    """
    function, setting = _known(loss)
    if function is None:
        if type(loss).__module__.startswith("torch.nn") or getattr(loss, "__module__", "") == "torch.nn.functional":
            raise _no_likelihood(_name(loss))
        return False
    for name in WEIGHTED:
        value = setting(name)
        if isinstance(value, Tensor) or value:
            raise _no_likelihood(f"{_name(loss)} with {name}")
    if function is functional.cross_entropy and isinstance(targets, Tensor) and targets.is_floating_point():
        raise _no_likelihood(f"{_name(loss)} of targets that are probabilities")
    if function is functional.poisson_nll_loss and setting("log_input") is False:
        raise _no_likelihood(f"{_name(loss)} with log_input=False")
    return function in NATURAL


def fisher_of_outputs(objective: Objective, outputs: Any, targets: Any) -> Callable[[Tensor], Tensor]:
    """The product with the Fisher matrix by the outputs of one batch, each row ``(m,)`` or of ``(k, m)``.

    Raises:
        BadLoss: the loss is no likelihood.
        TooLarge: it is one of the user's own, over too many classes.
    """
    loss, sums = objective.loss, objective.reduction == "sum"
    function, setting = _known(loss)
    if function is functional.nll_loss:
        ignored = setting("ignore_index")
        counted = targets != (-100 if ignored is None else ignored)
        p = outputs.exp()
        if not _adds_up(p.sum(1)[counted]):
            raise _no_likelihood(f"{_name(loss)} of outputs whose exponentials do not add up to one")
        diagonal = p * counted.unsqueeze(1) / (1 if sums else counted.sum())
        return partial(torch.mul, diagonal.flatten())
    if function is functional.binary_cross_entropy:
        room = outputs * (1 - outputs)
        diagonal = 1 / (room.clamp(min=torch.finfo(outputs.dtype).tiny) * (1 if sums else outputs.numel()))
        return partial(torch.mul, diagonal.flatten())
    p, s = _of_classes(loss, outputs, targets)
    weights = p / (1 if sums else len(p))

    def product(w: Tensor) -> Tensor:
        rows = w.reshape(-1, *outputs.shape)
        along = torch.einsum("nck,bnk->bnc", s, rows) * weights
        return torch.einsum("nck,bnc->bnk", s, along).reshape(w.shape)

    return product


def _of_classes(loss: Any, outputs: Any, targets: Any) -> tuple[Tensor, Tensor]:
    """Probabilities ``(n, C)`` of a loss of the user's own, and its scores ``(n, C, outputs)``, class by class."""
    if not (
        isinstance(outputs, Tensor)
        and isinstance(targets, Tensor)
        and outputs.ndim == 2
        and targets.shape == outputs.shape[:1]
        and not targets.is_floating_point()
    ):
        raise _no_likelihood(
            f"{_name(loss)}, a loss of your own that is not over classes (outputs (n, C), targets (n,))"
        )
    classes = torch.arange(outputs.shape[1], dtype=targets.dtype, device=targets.device)
    if len(classes) > MOST_CLASSES:
        raise TooLarge(
            f"expected at most {MOST_CLASSES} classes for the Fisher matrix of a loss of your own, got {len(classes)}. "
            "Pass nn.CrossEntropyLoss(), whose Fisher matrix has a closed form, or operator='ggn', which equals it for "
            "cross entropy however it is written."
        )

    def of_one(z: Tensor, y: Tensor) -> Tensor:
        value: Tensor = loss(z[None], y[None])
        return value

    with loops_allowed(), torch.enable_grad():
        z = outputs.detach()[:, None].repeat(1, len(classes), 1).requires_grad_()  # (n, classes, C)
        values = vmap(vmap(of_one), (0, None))(z, classes)
        p = values.detach().neg().exp()
        if not _adds_up(p.sum(1)):
            raise _no_likelihood(f"{_name(loss)}, whose probabilities exp(-loss) add up to {float(p.sum(1)[0]):.3g}")
        return p, torch.autograd.grad(values.sum(), z)[0]


def _adds_up(sums: Tensor) -> bool:
    return bool(((sums - 1).abs() <= ADDS_UP).all())


def _known(loss: Any) -> tuple[Any, Callable[[str], Any]]:
    """The function of PyTorch's that a loss is, if it is one, and how to ask for its settings."""
    if isinstance(loss, partial):
        return (loss.func if loss.func in MODULES.values() else None), loss.keywords.get
    if isinstance(loss, nn.Module):
        return MODULES.get(type(loss)), lambda name: getattr(loss, name, None)
    return (loss if loss in MODULES.values() else None), lambda name: None


def _name(loss: Any) -> str:
    return str(getattr(loss, "__name__", type(loss).__name__))


def _no_likelihood(what: str) -> BadLoss:
    return BadLoss(
        f"expected a loss that is the negative logarithm of a likelihood, got {what}: it has no Fisher matrix. Pass "
        "nn.CrossEntropyLoss(), nn.NLLLoss(), nn.BCEWithLogitsLoss(), nn.MSELoss() or nn.PoissonNLLLoss() without "
        "weights or smoothing, or operator='ggn'."
    )
