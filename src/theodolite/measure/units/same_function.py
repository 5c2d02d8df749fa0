"""Whether two models compute the same function: asked of their outputs, on data or on inputs made for them."""

from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from itertools import chain as each_of
from typing import Any, NoReturn

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from theodolite.errors import BadData, BadModel, CheckFailed, NotDeterministic, SettingError
from theodolite.measure.problem.batches import Data, alike, count, pairs, tensors
from theodolite.measure.problem.isolation import preserve_rng
from theodolite.measure.problem.join import objective
from theodolite.measure.problem.objective import Objective
from theodolite.measure.units.layers import CONVOLUTIONS, TRANSPOSED, is_weighted, width_read
from theodolite.streams import named_seed

ENOUGH = 1000  # samples of the data
SAMPLES = 4  # of inputs made here
SIDES = (32, 28, 8, 64, 96, 128, 224, 256, *range(1, 65))  # of images to try
LENGTHS = (8, *range(1, 65), 128, 256, 512)  # of sequences


def difference(model_a: nn.Module, model_b: nn.Module, data: Data | None) -> float:
    """The largest difference between outputs of two models, over the largest output.

    Both are copied, put into evaluation mode and, where they allow it, called in float64, on the first thousand
    samples or a few more.

    Raises:
        CheckFailed: they differ by more than rounding.
        NotDeterministic: one model called twice differs as much.
        SettingError: no data were given, and none of the inputs tried fits.
    """
    copies = [deepcopy(model).eval() for model in (model_a, model_b)]
    for parameter in each_of(*(model.parameters() for model in copies)):
        if parameter.is_floating_point():
            parameter.requires_grad_(True)  # an objective wants something to measure
    with preserve_rng(), torch.no_grad():
        first, second = _doubled(*_objectives(copies, data))
        worst = 0.0
        for (inputs, _), _ in second.batches():
            there, tolerance = _outputs(second, inputs)
            if not any(bool(tensor.isfinite().any()) for tensor in there):
                raise BadModel(
                    "expected outputs to compare, but those of model_b are NaN or infinite. Use an earlier checkpoint."
                )
            found = _largest_difference(_outputs(first, inputs)[0], there)
            if found > tolerance:
                _refuse(found, _largest_difference(_outputs(second, inputs)[0], there) > tolerance)
            worst = max(worst, found)
    return worst


def any_output(outputs: Any, _: Any) -> Tensor:
    """A loss for models of which only the outputs matter."""
    return torch.stack([t.double().nan_to_num(0, 0, 0).mean() for t in _numbers(outputs)]).sum()


def _numbers(outputs: Any) -> list[Tensor]:
    found = [t for t in tensors(outputs) if t.is_floating_point() and t.numel()]
    if not found:
        raise BadModel(
            f"expected outputs that hold tensors of numbers, got {type(outputs).__name__}. Let forward give a tensor, "
            "or a tuple or dict of tensors."
        )
    return found


def _objectives(models: Sequence[nn.Module], data: Data | None) -> list[Objective]:
    """Both models with the first samples of the data: any inputs that they take will do."""
    if data is None:
        return [objective(model, any_output, _probe(models[1])) for model in models]
    batches: list[Any] = []
    for batch in pairs(data):
        batches.append(batch)
        if sum(map(_size, batches)) >= ENOUGH:
            break
    try:
        return [objective(model, any_output, [_cut(b, _size(b)) for b in batches]) for model in models]
    except (
        BadData
    ):  # what is given for a whole batch, as a graph is, cannot be cut; or it is bad, and says so once more
        return [objective(model, any_output, batches) for model in models]


def _size(batch: Any) -> int:
    """How many samples; what is no batch is enough to say so."""
    return count((batch[0], batch[1])) if isinstance(batch, (tuple, list)) and len(batch) == 2 else ENOUGH


def _cut(part: Any, size: int) -> Any:
    """The first samples of a batch of that size, or of a part of it."""
    if isinstance(part, Tensor):
        return part[:ENOUGH] if part.ndim and len(part) == size else part
    if isinstance(part, Mapping):
        return {key: _cut(value, size) for key, value in part.items()}
    return alike(part, [_cut(value, size) for value in part]) if isinstance(part, (tuple, list)) else part


def _doubled(first: Objective, second: Objective) -> tuple[Objective, Objective]:
    """Both computed in float64, unless they take no other type than their own."""
    a, b = (replace(one.to(torch.float64), model=deepcopy(one.model).double()) for one in (first, second))
    try:
        b.outputs({}, next(b.batches())[0][0])
    except torch.OutOfMemoryError:
        raise
    except Exception:  # a model that computes in one type alone
        return first, second
    return a, b


def _outputs(whole: Objective, inputs: Any) -> tuple[list[Tensor], float]:
    """Outputs, and how far rounding may take them."""
    with _Precision() as lost:
        found = _numbers(whole.outputs({}, inputs))
    return found, max(lost.eps, *map(_eps, found)) ** 0.5


class _Precision(TorchFunctionMode):
    """Keeps the coarsest precision that numbers of a finer one lose it to: some models compute in float32 within."""

    def __init__(self) -> None:
        super().__init__()
        self.eps = 0.0

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = function(*args, **(kwargs or {}))
        before = [_eps(t) for t in tensors([args, kwargs or {}]) if t.is_floating_point()]
        after = [_eps(t) for t in tensors(found) if t.is_floating_point()]
        if before and after and max(after) > min(before):
            self.eps = max(self.eps, *after)
        return found


def _eps(tensor: Tensor) -> float:
    return torch.finfo(tensor.dtype).eps


def _refuse(apart: float, random: bool) -> NoReturn:
    if random:
        raise NotDeterministic(
            "expected one output from two passes over the same inputs, got two, so that no permutation can be checked. "
            "Fix the randomness of the model in evaluation mode."
        )
    raise CheckFailed(
        f"expected the aligned network to compute what model_b does, but outputs differ by {apart:.1e} of the largest. "
        "Units do not lie where they were taken to lie: say in units= what shares units, every tensor that holds them."
    )


def _largest_difference(found: list[Tensor], expected: list[Tensor]) -> float:
    if [t.shape for t in found] != [t.shape for t in expected]:
        return float("inf")
    worst = 0.0
    for own, other in zip(found, expected, strict=True):
        finite = other.isfinite()
        if not torch.equal(own.isfinite(), finite):  # as -inf of a mask is in both
            return float("inf")
        if finite.any():
            scale = float(other[finite].abs().max())
            apart = float((own[finite].double() - other[finite].double()).abs().max())
            worst = max(worst, apart / scale if scale else apart)
    return worst


def _probe(model: nn.Module) -> Any:
    """Random inputs of a shape that the model takes, as data."""
    for inputs in _candidates(model):
        try:
            objective(model, any_output, (inputs, inputs))
        except BadData:
            continue
        return inputs, inputs
    raise SettingError(
        "expected data on which to check that the aligned network computes the same function, got none, and found no "
        "inputs that the model takes. Pass data=(inputs, targets); one batch is enough."
    )


def _candidates(model: nn.Module) -> Iterator[Tensor]:
    """Inputs that the first layer with weights takes, of sizes that may suit what comes after it."""
    generator = torch.Generator("cpu").manual_seed(named_seed(0, "inputs to try"))
    like = next(model.parameters())

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, device="cpu").to(like)

    for module in model.modules():
        if isinstance(module, (nn.Embedding, nn.EmbeddingBag)):
            for length in LENGTHS:
                tokens = torch.randint(module.num_embeddings, (SAMPLES, length), generator=generator, device="cpu")
                yield tokens.to(like.device)
        elif isinstance(module, (*CONVOLUTIONS, *TRANSPOSED)):
            for side in SIDES:
                yield normal(SAMPLES, width_read(module), *[side] * len(module.kernel_size))
        elif is_weighted(module):
            yield normal(SAMPLES, width_read(module))
            for length in LENGTHS:
                yield normal(SAMPLES, length, width_read(module))
        elif isinstance(module, nn.RNNBase):
            for length in LENGTHS:
                yield normal(SAMPLES, length, module.input_size)
        else:
            continue
        return
