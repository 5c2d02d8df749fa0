"""Which networks, other than perceptrons, train as a stack: those for which a stack is right, and pays.

Whether it is right is tried, on the description's own networks: as many as a stack holds take one step together, and
its gradients must be those of PyTorch's plain backward pass, and the same bits in every smaller stack.
"""

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from theodolite.measure.problem.isolation import without_subnormals
from theodolite.models import build
from theodolite.models.description import Architecture
from theodolite.models.stacks import PAYS, pays
from theodolite.specs import Training
from theodolite.train import hidden
from theodolite.train.aligned import padded
from theodolite.train.arithmetic import one_arithmetic
from theodolite.train.chance import drawn_from
from theodolite.train.data import TrainingData
from theodolite.train.evaluation import mean_of
from theodolite.train.outcome import DTYPES
from theodolite.train.together import Together, laid_out, trained, untrained, views

NETWORKS = 16
STACKS = ([5, 2], [9], [11, 0, 7], list(reversed(range(NETWORKS))))  # of some of them, at other places
CLOSE = {"float32": 1e-3, "float64": 1e-8}  # of a gradient's length: what rounding may take

Look = Callable[[Architecture, TrainingData, Training], str]
FOUND: dict[tuple[Any, ...], str] = {}  # in this process, by all that it depends on: runs of a description are many


def multiplications(module: nn.Module, inputs: Tensor) -> int:
    """Of the forward pass of one of these samples, as PyTorch counts them."""
    with FlopCounterMode(display=False) as counter:
        module(inputs)
    return int(counter.get_total_flops()) // (2 * len(inputs))


def reason(architecture: Architecture, data: TrainingData, training: Training, *, paying: bool = False) -> str:
    """Why networks of this description cannot be a stack, or, if asked, gain nothing by it; empty where neither is so.

    It depends on the description, the training and the kind of data, and never on how many networks there are.
    """
    if training.autocast:
        return "their passes are in bfloat16 (autocast), for which there are no such stacks"
    inputs = data.train.inputs
    like = (tuple(inputs.shape), inputs.dtype, tuple(data.train.targets.shape), str(inputs.device))
    for look in (_too_large, _differs) if paying else (_differs,):
        key = (look, architecture.model_dump_json(), training.model_dump_json(exclude={"learning_rate"}), *like)
        if key not in FOUND:
            FOUND[key] = _said(look, architecture, data, training)
        if FOUND[key]:
            return FOUND[key]
    return ""


def _said(look: Look, architecture: Architecture, data: TrainingData, training: Training) -> str:
    """What is found, whatever the caller has set."""
    device = data.train.inputs.device
    with one_arithmetic(onednn=True), without_subnormals(), drawn_from(0, device), warnings.catch_warnings():
        warnings.filterwarnings("error", message="There is a performance drop")  # vmap calls one after another itself
        try:
            return look(architecture, data, training)
        except Exception as error:  # whatever vmap, or a network of the user's own, does not do
            return f"{type(error).__name__}: {str(error).splitlines()[0]}" if str(error) else type(error).__name__


def _too_large(architecture: Architecture, data: TrainingData, training: Training) -> str:
    module = build(architecture, seed=0, dtype=DTYPES[training.dtype]).to(data.train.inputs.device)
    batch = _batch(data, training)
    each = multiplications(module.train(), data.train.inputs[:batch])
    if pays(each, batch):
        return ""
    return f"a batch takes {each * batch:,} multiplications, and a stack pays up to {PAYS:,}"


def _differs(architecture: Architecture, data: TrainingData, training: Training) -> str:
    train, dtype = data.train, DTYPES[training.dtype]
    modules = [
        _shaken(build(architecture, seed=n, dtype=dtype).to(train.inputs.device).train()) for n in range(NETWORKS)
    ]
    together, weights = Together.of(modules), laid_out(modules)
    constants = {name: whole.clone() for name, whole in together.constants.items()}
    filled = padded(_batch(data, training), dtype)
    count = filled // 2  # the others are there, and count nothing
    index = torch.randint(len(train), (NETWORKS, filled), device=train.inputs.device)
    inputs, targets = train.inputs[index], train.targets[index]
    shares = inputs.new_zeros(filled, dtype=dtype)
    shares[:count] = 1 / count

    def gradients(rows: list[int]) -> tuple[Tensor, ...]:
        own = views(weights.select(rows), together.module)
        return together.select(rows).gradients(own, inputs[rows], targets[rows], training.loss, shares)

    whole = gradients(list(range(NETWORKS)))
    for number in (0, NETWORKS - 1):
        module, attributes = modules[number], hidden.attributes(modules[number])
        loss = mean_of(training.loss)(module(inputs[number, :count]), targets[number, :count])
        plain = torch.autograd.grad(loss, list(trained(module).values()))
        apart, length = (
            torch.cat([part.flatten() for part in parts]).norm()
            for parts in ([a[number] - b for a, b in zip(whole, plain, strict=True)], plain)
        )
        if not apart <= CLOSE[training.dtype] * length:
            return "a network's gradient is another one beside samples that count nothing, or beside other networks"
        hidden.check_module(module, attributes)
        if any(not torch.equal(now, constants[name][number]) for name, now in untrained(module).items()):
            return "it has buffers that change"
    for rows in STACKS:
        if not all(torch.equal(a, b[rows]) for a, b in zip(gradients(rows), whole, strict=True)):
            return "its gradients round by the company they are in"
    return ""


def _batch(data: TrainingData, training: Training) -> int:
    return min(training.batch_size or len(data.train), len(data.train))


@torch.no_grad()
def _shaken(module: nn.Module) -> nn.Module:
    """The same, no weight left at zero: parts that a network begins without are tried too."""
    for parameter in module.parameters():
        parameter.add_(torch.randn_like(parameter), alpha=0.1)
    return module
