"""What a row of the table is, and what its answer must be: the dense matrix of the loss as a script would sum it."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

import oracles

Case = tuple[Any, Callable[[Any, Any], Tensor], Any]


@dataclass(frozen=True)
class Refusal:
    """What is raised in place of a number."""

    error: type[Exception]
    words: str  # of its message, and the reason on the page


@dataclass(frozen=True)
class Row:
    suite: str
    case: str
    make: Callable[[], Case]  # model, loss and data
    variant: str = ""  # variants of a case share a line on the page
    sums: bool = False  # over samples, where a mean would divide by them
    parameters: str | None = None  # the pattern of those measured
    refused: Refusal | None = None
    ggn_refused: Refusal | None = None  # the Gauss-Newton matrix alone
    logits: bool = False  # the model's outputs are an object that holds them
    note: str = ""  # what is measured, where the case does not say
    tolerance: float = 1e-8  # relative

    @property
    def name(self) -> str:
        return " ".join(part for part in (self.suite, self.case, self.variant) if part)

    @property
    def matrices(self) -> tuple[str, ...]:
        return ("hessian",) if self.ggn_refused else ("hessian", "ggn")

    def made(self) -> Case:
        """The case, in float64 and the same whenever it is made."""
        before = torch.get_default_dtype()
        torch.set_default_dtype(torch.float64)
        try:
            torch.manual_seed(0)
            return self.make()
        finally:
            torch.set_default_dtype(before)


@dataclass(frozen=True)
class Targets:
    """Targets of any form that know for how many samples they stand, by which the oracle weighs batches."""

    given: Any
    samples: int

    def __len__(self) -> int:
        return self.samples


class Called(nn.Module):
    """A model called as a training does it: a batch that is a dict is its keywords, other inputs its one argument."""

    def __init__(self, model: nn.Module, logits: bool) -> None:
        super().__init__()
        self.model, self.logits = model, logits

    def forward(self, given: tuple[Any, bool]) -> Any:
        inputs, keywords = given
        outputs = self.model(**inputs) if keywords else self.model(inputs)
        return outputs.logits if self.logits else outputs


def matrix(row: Row, case: Case, operator: str) -> Tensor:
    """The dense matrix of the parameters measured, row by row."""
    dense = {"hessian": oracles.hessian, "ggn": oracles.gauss_newton}[operator](*_plainly(row, case))
    chosen = _chosen(row, case[0])
    return dense[chosen][:, chosen]


def gradient(row: Row, case: Case) -> Tensor:
    """The gradient by the parameters measured."""
    return oracles.gradient(*_plainly(row, case))[_chosen(row, case[0])]


def _chosen(row: Row, model: nn.Module) -> Tensor:
    """Which entries of all trainable parameters are measured; patterns are the beginning or the end of names."""
    pattern = row.parameters or "*"
    first, last = pattern.split("*") if "*" in pattern else (pattern, "")
    return torch.cat([
        torch.full((p.numel(),), name.startswith(first) and name.endswith(last))
        for name, p in model.named_parameters() if p.requires_grad
    ])  # fmt: skip


def _plainly(row: Row, case: Case) -> tuple[nn.Module, Callable[[Any, Targets], Tensor], list[Any]]:
    """Model, loss and batches as the oracle takes them, which weighs the mean of each batch by its samples."""
    model, loss, data = case
    pairs = [_pair(batch) for batch in _batches(data)]
    total = sum(len(targets) for _, targets in pairs)

    def of_batch(outputs: Any, targets: Targets) -> Tensor:
        value = loss(SimpleNamespace(logits=outputs) if row.logits else outputs, targets.given)
        return value * (total / len(targets)) if row.sums else value

    return Called(model, row.logits), of_batch, pairs


def _batches(data: Any) -> Iterable[Any]:
    return [data] if isinstance(data, tuple) else data


def _pair(batch: Any) -> tuple[tuple[Any, bool], Targets]:
    whole = isinstance(batch, Mapping)
    inputs, targets = (batch, batch) if whole else batch
    first = next(iter(inputs.values())) if isinstance(inputs, Mapping) else inputs
    return (inputs, whole), Targets(targets, len(first))
