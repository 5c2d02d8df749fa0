"""Losses as descriptions. ``mse`` and ``cross_entropy`` are the engine's own; these are all others."""

import inspect
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import Field, PositiveFloat

from theodolite.errors import SettingError
from theodolite.recipes.base import OfTorch, Recipe, unknown

if TYPE_CHECKING:
    from torch import Tensor


class Loss(Recipe):
    """What a training makes small: the mean over samples of ``per_sample``. One's own is a class with a ``kind``.

    ``Loss.named("HuberLoss", delta=0.5)`` describes a loss of ``torch.nn``; a training takes a bare name too:
    ``Training(loss="hinge", …)``. ``targets`` says what it takes: ``"classes"``, of which accuracy is counted too, or
    ``"numbers"``, one an output.

    Example:
        >>> class Absolute(Loss, kind="absolute"):
        ...     def per_sample(self, outputs, targets):
        ...         return (outputs - targets).abs().mean(1)
        >>> Loss.named("absolute").model_dump()["kind"]
        'absolute'
    """

    FAMILY: ClassVar[str] = "loss"
    BUILT_IN: ClassVar[tuple[str, ...]] = ("mse", "cross_entropy")
    kinds: ClassVar[dict[str, type[Any]]] = {}
    targets: ClassVar[Literal["classes", "numbers"]] = "numbers"

    def per_sample(self, outputs: "Tensor", targets: "Tensor") -> "Tensor":
        """The loss of each sample ``(N,)``, of outputs ``(N, outputs)``; no sample's may depend on another's."""
        raise SettingError(
            f"expected the loss {type(self).__name__} to have a method 'per_sample', got none. Write it."
        )

    @classmethod
    def elsewhere(cls) -> Iterable[str]:
        """Losses of ``torch.nn`` with a value a number."""
        from torch import nn

        return [
            name
            for name, value in vars(nn).items()
            if name.endswith("Loss") and {"reduction", "reduce"} & set(inspect.signature(value).parameters)
        ]

    @classmethod
    def foreign(cls, kind: str, settings: Mapping[str, Any], *, check: bool = True) -> "Self":
        """A loss of ``torch.nn``, by its name."""
        result = TorchLoss(name=kind, settings=dict(settings))
        if check:
            result.module()
        return result  # type: ignore[return-value]


class TorchLoss(OfTorch, Loss):
    """A loss of ``torch.nn`` of two tensors of numbers; settings that are not given are PyTorch's own."""

    def module(self) -> Any:
        """The module, which keeps the values of all samples apart."""
        from torch import nn

        cls = getattr(nn, self.name, None)
        if cls is None or "code" in self.settings:
            raise unknown(self.FAMILY, self.name, self.settings)
        takes = set(inspect.signature(cls).parameters) - {"size_average", "reduce", "reduction"}
        if strange := sorted(self.settings.keys() - takes):
            raise SettingError(f"loss '{self.name}' takes no '{strange[0]}'. Its settings: {', '.join(sorted(takes))}.")
        return cls(reduction="none", **self.settings)

    def per_sample(self, outputs: "Tensor", targets: "Tensor") -> "Tensor":
        """The mean over outputs."""
        values: Tensor = self.module()(outputs, targets)
        return values.flatten(1).mean(1)


class LabelSmoothing(Loss, kind="label_smoothing"):
    """Cross entropy against the class with probability 1 − ``smoothing``, and all classes alike with the rest.

    Source: Szegedy et al. 2016, "Rethinking the Inception Architecture for Computer Vision", section 7.
    """

    targets: ClassVar[Literal["classes", "numbers"]] = "classes"
    smoothing: float = Field(default=0.1, gt=0.0, le=1.0)

    def per_sample(self, outputs: "Tensor", targets: "Tensor") -> "Tensor":
        """PyTorch's own; of a sequence the mean over its tokens."""
        from torch.nn.functional import cross_entropy

        values = cross_entropy(
            outputs.flatten(0, -2), targets.flatten(), label_smoothing=self.smoothing, reduction="none"
        )
        return values.view(len(outputs), -1).mean(1)


class Hinge(Loss, kind="hinge"):
    """How far each other class comes within ``margin`` of the right one, summed and divided by the classes.

    Source: Crammer and Singer 2001 as PyTorch has it (``multi_margin_loss``).
    """

    targets: ClassVar[Literal["classes", "numbers"]] = "classes"
    margin: PositiveFloat = 1.0

    def per_sample(self, outputs: "Tensor", targets: "Tensor") -> "Tensor":
        """PyTorch's own."""
        from torch.nn.functional import multi_margin_loss

        return multi_margin_loss(outputs, targets, margin=self.margin, reduction="none")


class OneHot(Loss, kind="mse_one_hot"):
    """Mean squared error against 1 for the class and 0 for the others, a mean over the outputs too.

    Source: Hui and Belkin 2021, "Evaluation of Neural Architectures Trained with Square Loss vs Cross-Entropy".
    """

    targets: ClassVar[Literal["classes", "numbers"]] = "classes"

    def per_sample(self, outputs: "Tensor", targets: "Tensor") -> "Tensor":
        """Of outputs as they are, without a softmax."""
        from torch.nn.functional import one_hot

        return (outputs - one_hot(targets, outputs.shape[-1]).to(outputs.dtype)).square().mean(-1)
