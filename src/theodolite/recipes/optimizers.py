"""Optimizers as descriptions. ``adam`` and ``sgd`` are the engine's own; these are all others."""

import inspect
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator

from theodolite.errors import SettingError
from theodolite.recipes.base import OfTorch, Recipe, unknown

if TYPE_CHECKING:
    import torch
    from torch import Tensor

# Of torch.optim: each number of the weights has an update of its own, so that stacks of replicas may share tensors.
ELEMENTWISE = (
    "ASGD", "Adadelta", "Adagrad", "Adam", "AdamW", "Adamax", "NAdam", "RAdam", "RMSprop", "Rprop", "SGD",
)  # fmt: skip
Betas = tuple[float, float]


class Optimizer(Recipe):
    """What changes the weights. One's own is a class with a ``kind`` and a ``make``; its settings are its fields.

    ``Optimizer.named("NAdam", momentum_decay=0.01)`` describes any class of ``torch.optim``, and a training takes a
    bare name too: ``Training(optimizer="muon", …)``. Learning rate and weight decay are the training's own; each class
    of PyTorch has the latter where PyTorch has it, added to the gradient or apart from it.

    ``elementwise = True`` promises that the update of each number depends on its own gradients alone. Perceptrons then
    train as stacks of replicas, and one after another without.

    Example:
        >>> class Signs(Optimizer, kind="signs"):
        ...     momentum: float = 0.9
        ...     elementwise = True
        ...
        ...     def make(self, parameters, *, learning_rate, weight_decay):
        ...         import torch
        ...         return torch.optim.Rprop(parameters, lr=learning_rate, etas=(self.momentum, 1.1))
        >>> Optimizer.named("signs", momentum=0.5)
        Signs(momentum=0.5)
    """

    FAMILY: ClassVar[str] = "optimizer"
    BUILT_IN: ClassVar[tuple[str, ...]] = ("adam", "sgd")
    kinds: ClassVar[dict[str, type[Any]]] = {}
    elementwise: ClassVar[bool] = False

    @property
    def stacks(self) -> bool:
        """Whether the replicas of a stack do not notice each other in it."""
        return self.elementwise

    def make(
        self, parameters: Sequence["Tensor"], *, learning_rate: float, weight_decay: float
    ) -> "torch.optim.Optimizer":
        """A :class:`torch.optim.Optimizer` of these parameters, whose ``step`` is given a closure, as PyTorch's are.

        The training's schedule multiplies the learning rate of each of its ``param_groups``.
        """
        raise SettingError(f"expected the optimizer {type(self).__name__} to have a method 'make', got none. Write it.")

    @classmethod
    def elsewhere(cls) -> Iterable[str]:
        """Classes of ``torch.optim``."""
        import torch

        return [
            name
            for name, value in vars(torch.optim).items()
            if inspect.isclass(value)
            and issubclass(value, torch.optim.Optimizer)
            and value is not torch.optim.Optimizer
        ]

    @classmethod
    def foreign(cls, kind: str, settings: Mapping[str, Any], *, check: bool = True) -> "Self":
        """A class of ``torch.optim``, by its name."""
        result = TorchOptimizer(name=kind, settings=dict(settings))
        if check:
            import torch

            result.make([torch.zeros(1, 1, requires_grad=True)], learning_rate=1e-3, weight_decay=0.0)
        return result  # type: ignore[return-value]


def is_elementwise(optimizer: str | Optimizer) -> bool:
    """Whether the replicas of a stack do not notice each other in it."""
    return isinstance(optimizer, str) or optimizer.stacks


class TorchOptimizer(OfTorch, Optimizer):
    """A class of ``torch.optim``; settings that are not given are PyTorch's own."""

    @property
    def stacks(self) -> bool:
        """Of those that are known to."""
        return self.name in ELEMENTWISE

    def make(
        self, parameters: Sequence["Tensor"], *, learning_rate: float, weight_decay: float
    ) -> "torch.optim.Optimizer":
        """It, or an error that says what it does not take."""
        import torch

        cls = getattr(torch.optim, self.name, None)
        if cls is None or "code" in self.settings:
            raise unknown(self.FAMILY, self.name, self.settings)
        given = {name: tuple(part) if isinstance(part, list) else part for name, part in self.settings.items()}
        takes = list(inspect.signature(cls).parameters)[1:]
        own = {name for name in ("lr", "weight_decay") if name in given}
        if strange := sorted(own | (given.keys() - set(takes))):
            known = ", ".join(name for name in takes if name not in {"lr", "weight_decay"})
            hint = " The training has learning_rate and weight_decay." if own else ""
            raise SettingError(f"optimizer '{self.name}' takes no '{strange[0]}' here. Its settings: {known}.{hint}")
        if "weight_decay" in takes:
            given["weight_decay"] = weight_decay
        elif weight_decay:
            raise SettingError(f"expected weight_decay 0 with '{self.name}', which has none, got {weight_decay}.")
        try:
            made: torch.optim.Optimizer = cls(parameters, lr=learning_rate, **given)
        except (TypeError, ValueError) as error:
            raise SettingError(f"optimizer '{self.name}' refuses its settings: {error}. Correct them.") from None
        return made


class AdamW(Optimizer, kind="adamw"):
    """Adam with the weight decay apart from the gradient (Loshchilov and Hutter 2019)."""

    elementwise: ClassVar[bool] = True
    betas: Betas = (0.9, 0.999)
    eps: PositiveFloat = 1e-8

    def make(
        self, parameters: Sequence["Tensor"], *, learning_rate: float, weight_decay: float
    ) -> "torch.optim.Optimizer":
        """PyTorch's own."""
        from torch import optim

        return optim.AdamW(parameters, lr=learning_rate, betas=self.betas, eps=self.eps, weight_decay=weight_decay)


class RMSprop(Optimizer, kind="rmsprop"):
    """The gradient divided by a running root mean square (Tieleman and Hinton 2012)."""

    elementwise: ClassVar[bool] = True
    alpha: float = Field(default=0.99, ge=0.0, lt=1.0)
    eps: PositiveFloat = 1e-8
    momentum: NonNegativeFloat = 0.0
    centered: bool = False

    def make(
        self, parameters: Sequence["Tensor"], *, learning_rate: float, weight_decay: float
    ) -> "torch.optim.Optimizer":
        """PyTorch's own."""
        from torch import optim

        return optim.RMSprop(
            parameters, lr=learning_rate, alpha=self.alpha, eps=self.eps, momentum=self.momentum,
            centered=self.centered, weight_decay=weight_decay,
        )  # fmt: skip


class SAM(Optimizer, kind="sam"):
    """Sharpness-aware minimisation: the step of ``base``, with the gradient at the worst place ``rho`` away.

    Source: Foret et al. 2021, "Sharpness-Aware Minimization for Efficiently Improving Generalization", algorithm 1.
    """

    rho: PositiveFloat = 0.05
    base: Literal["sgd", "adam"] = "sgd"
    momentum: NonNegativeFloat = 0.0  # of sgd

    @model_validator(mode="after")
    def _check(self) -> "SAM":
        if self.momentum and self.base != "sgd":
            raise ValueError("expected momentum 0 with the base adam, which has moments of its own; leave it out")
        return self

    def make(
        self, parameters: Sequence["Tensor"], *, learning_rate: float, weight_decay: float
    ) -> "torch.optim.Optimizer":
        """Two passes a step."""
        from torch import optim

        from theodolite.recipes.sam import SharpnessAware

        if self.base == "sgd":
            base: optim.Optimizer = optim.SGD(
                parameters, lr=learning_rate, momentum=self.momentum, weight_decay=weight_decay
            )
        else:
            base = optim.Adam(parameters, lr=learning_rate, weight_decay=weight_decay)
        return SharpnessAware(base, self.rho)


class Muon(Optimizer, kind="muon"):
    """Orthogonalised momentum for every matrix, and AdamW for all else (biases, scales, kernels of convolutions).

    Both have the training's learning rate and weight decay. ``adjust="match_rms_adamw"`` makes one rate fit both.

    Source: Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks".
    """

    momentum: float = Field(default=0.95, ge=0.0, lt=1.0)
    nesterov: bool = True
    steps: PositiveInt = 5  # of the Newton-Schulz iteration
    adjust: Literal["original", "match_rms_adamw"] = "match_rms_adamw"

    def make(
        self, parameters: Sequence["Tensor"], *, learning_rate: float, weight_decay: float
    ) -> "torch.optim.Optimizer":
        """PyTorch's own two, as one."""
        from torch import optim

        from theodolite.recipes.several import Several

        if not hasattr(optim, "Muon"):
            raise SettingError("expected PyTorch 2.9 or later for the optimizer 'muon', got an older one. Upgrade it.")
        matrices = [parameter for parameter in parameters if parameter.ndim == 2]
        others = [parameter for parameter in parameters if parameter.ndim != 2]
        parts: list[optim.Optimizer] = []
        if matrices:
            parts.append(
                optim.Muon(
                    matrices, lr=learning_rate, weight_decay=weight_decay, momentum=self.momentum,
                    nesterov=self.nesterov, ns_steps=self.steps, adjust_lr_fn=self.adjust,
                )
            )  # fmt: skip
        if others:
            parts.append(optim.AdamW(others, lr=learning_rate, weight_decay=weight_decay))
        return Several(parts)
