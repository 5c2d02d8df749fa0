"""What an error advises is done, on the case that prints it: then the number is that of brute force.

A row a kind of advice: what is refused, what the message says to do, what that makes of it, and the number that
PyTorch gives without any instrument.
"""

import ast
import itertools
import re
import traceback
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

import oracles
import uses
from operators import Dense
from theodolite import measure
from theodolite.errors import CheckFailed, TheodoliteError
from theodolite.measure.linalg.eigensolver import eigenvalues
from theodolite.measure.linalg.trace import trace

CROSS_ENTROPY = nn.CrossEntropyLoss()
DRAW = torch.Generator().manual_seed(0)
X, TOKENS = torch.randn(24, 6, generator=DRAW, dtype=torch.float64), torch.randint(0, 9, (24, 4), generator=DRAW)
Y = torch.randint(0, 3, (24,), generator=DRAW)
DATA = (X, Y)


@dataclass(frozen=True)
class Case:
    """What is refused, and what becomes of it."""

    says: str  # the advice, a part of the message
    refused: Callable[[], Any]
    advised: Callable[[], Any]  # gives numbers
    expected: Callable[[], Any]  # by brute force


class Function(nn.Module):
    """A function as a layer."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


class Squeezed(nn.Module):
    """As in MobileNetV3: an activation in place, then one that PyTorch cannot differentiate twice."""

    def __init__(self, gate: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.inner, self.act, self.gate = nn.Linear(6, 6), nn.Hardswish(inplace=True), gate

    def forward(self, x):
        return x * self.gate(self.act(self.inner(x)))


class Recomputed(nn.Module):
    def __init__(self, *, reentrant: bool) -> None:
        super().__init__()
        self.first, self.middle, self.last = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 3)
        self.reentrant = reentrant

    def forward(self, x):
        def middle(z):
            return torch.tanh(self.middle(z))

        return self.last(checkpoint(middle, self.first(x), use_reentrant=self.reentrant))


class Slope(nn.Module):
    """A network's derivative by its input, as physics-informed losses take it."""

    def __init__(self, *, asks: bool) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 1))
        self.asks = asks

    def forward(self, x):
        x = x.requires_grad_() if self.asks else x
        return torch.autograd.grad(self.net(x).sum(), x, create_graph=True)[0][:, :3]


def seeded(make: Callable[..., nn.Module], *args: Any, dtype: torch.dtype = torch.float64, **options: Any) -> nn.Module:
    torch.manual_seed(1)
    return make(*args, **options).to(dtype)


def chain(*middle: nn.Module) -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(6, 6), *middle, nn.Linear(6, 3)).double()


def words(**options: Any) -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Embedding(9, 5, **options), nn.Flatten(), nn.Linear(20, 3)).double()


def bags(*, sparse: bool) -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.EmbeddingBag(9, 5, sparse=sparse), nn.Linear(5, 3)).double()


def meant() -> nn.Module:
    """What a bag of embeddings is, by hand."""
    torch.manual_seed(1)
    return nn.Sequential(nn.Embedding(9, 5), Function(lambda rows: rows.mean(1)), nn.Linear(5, 3)).double()


def product(model: nn.Module, loss: Any = CROSS_ENTROPY, data: Any = DATA, **options: Any) -> Tensor:
    """The Hessian times the same vector."""
    H = measure.HessianOperator(model, loss, data, **options)
    return H @ _vector(H.size)


def multiplied(model: nn.Module, loss: Any = CROSS_ENTROPY, data: Any = DATA) -> Tensor:
    H = oracles.hessian(model, loss, [data])
    return H @ _vector(len(H)).to(H)


def _vector(size: int) -> Tensor:
    return torch.linspace(-1, 1, size, dtype=torch.float64)


def hessian_of(says: str, wrong: Any, right: Any, *, data: Any = DATA, loss: Any = CROSS_ENTROPY) -> Case:
    """A model that is refused and another that is not; or a pair of model and loss each."""
    (bad, bad_loss), (good, good_loss) = (m if isinstance(m, tuple) else (m, loss) for m in (wrong, right))
    return Case(
        says,
        lambda: product(bad, bad_loss, data),
        lambda: product(good, good_loss, data),
        lambda: multiplied(good, good_loss, data),
    )


def slope_of(says: str, wrong: Any, right: Any, *, data: Any = DATA) -> Case:
    """The same for the gradient's norm; each a model, its loss and its data."""
    return Case(
        says,
        lambda: measure.gradient_norm(*wrong),
        lambda: measure.gradient_norm(*right).value,
        lambda: oracles.gradient(right[0], right[1], [data]).norm(),
    )


def distances(x: Tensor) -> Tensor:
    return torch.cdist(x, torch.ones(6, x.shape[1], dtype=x.dtype))


def written_out(x: Tensor) -> Tensor:
    y = torch.ones(6, x.shape[1], dtype=x.dtype)
    return ((x[:, None] - y) ** 2).sum(-1).sqrt()


def clamped(x: Tensor) -> Tensor:
    return (x / 6 + 0.5).clamp(0, 1)


def margins(outputs: Tensor, targets: Tensor) -> Tensor:
    """The multi-class margin loss, with clamp."""
    own = outputs.gather(1, targets[:, None])
    losses = (1 - own + outputs).clamp(min=0) ** 2
    return (losses.sum(1) - 1).mean() / outputs.shape[1]


AT_ZERO = (torch.cat([torch.zeros(1, 6, dtype=torch.float64), X[1:]]), Y)  # outputs of a linear layer are zero there
RAGGED = [(X[:8], Y[:8]), (X[8:20], Y[8:20]), (X[20:], Y[20:])]
NOT_FINITE = (torch.cat([torch.full((1, 6), torch.nan, dtype=torch.float64), X[1:]]), Y)


class Drifting:
    """Data that are augmented anew at each reading."""

    def __init__(self) -> None:
        self.draw = torch.Generator().manual_seed(3)

    def __iter__(self):
        for x, y in RAGGED:
            yield x + 0.3 * torch.randn(x.shape, generator=self.draw, dtype=x.dtype), y


class Once(Drifting):
    """Data that are there once."""

    def __init__(self) -> None:
        self.left = list(RAGGED)

    def __iter__(self):
        while self.left:
            yield self.left.pop(0)


def summed(outputs: Tensor, targets: Tensor) -> Tensor:
    return functional.cross_entropy(outputs, targets, reduction="sum")


def penalty(model: nn.Module) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda o, t: CROSS_ENTROPY(o, t) + 0.3 * sum(p.pow(2).sum() for p in model.parameters())


def root(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs - 1).pow(2).sum(1).sqrt().mean()


def rounded_root(outputs: Tensor, targets: Tensor) -> Tensor:
    return ((outputs - 1).pow(2).sum(1) + 1e-12).sqrt().mean()


def length(outputs: Tensor, targets: Tensor) -> Tensor:
    return outputs.norm(dim=1).mean()


def rounded_length(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs.pow(2).sum(1) + 1e-2).sqrt().mean()


def sure(outputs: Tensor, targets: Tensor) -> Tensor:
    """Cross entropy so near zero that probabilities in float32 are rounding."""
    return CROSS_ENTROPY(outputs + 18.0 * functional.one_hot(targets, 3).to(outputs), targets)


def gauss_newton(model: nn.Module, loss: Any = CROSS_ENTROPY) -> Tensor:
    G = oracles.gauss_newton(model, loss, [DATA])
    return G @ _vector(len(G))


def ones() -> nn.Module:
    """A linear layer whose outputs are all one."""
    model = seeded(nn.Linear, 6, 3)
    nn.init.zeros_(model.weight)
    nn.init.ones_(model.bias)
    return model


THREE = [(x, y, torch.ones(len(x), dtype=torch.float64)) for x, y in RAGGED]


def weighted(outputs: Tensor, targets: tuple[Tensor, Tensor]) -> Tensor:
    return (targets[1] * functional.cross_entropy(outputs, targets[0], reduction="none")).mean()


def unlabelled(outputs: Tensor, inputs: Tensor) -> Tensor:
    return (outputs.sum(1) - inputs.sum(1)).pow(2).mean()


def saddle(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs - 1).pow(2).mean()


def loaded() -> nn.Module:
    model = nn.Linear(6, 3, device="meta", dtype=torch.float64)
    model.load_state_dict(FLAT.state_dict(), assign=True)
    return model.requires_grad_()


def gradients_at(points: Any) -> Tensor:
    """Of the loss with its penalty, where a point is certified."""
    assert all(point.certified for point in points)
    return torch.tensor([round(float(point.gradient_norm), 6) for point in points])


class OwnLoss(nn.Module):
    """Gives its loss with its outputs, as models of Hugging Face do."""

    def __init__(self) -> None:
        super().__init__()
        self.net = chain(nn.Tanh())

    def forward(self, x):
        outputs = self.net(x)
        return {"loss": CROSS_ENTROPY(outputs, Y[: len(x)]), "logits": outputs}


class Tied(nn.Module):
    """One layer twice."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.last = nn.Linear(6, 6, bias=False), nn.Linear(6, 1, bias=False)

    def forward(self, x):
        z = self.last(torch.tanh(self.inner(torch.tanh(self.inner(x)))))
        return torch.cat([z, -z, 2 * z], 1)


TIED = seeded(Tied)
BATCH_NORM, DROPOUT, PENALISED = chain(nn.BatchNorm1d(6)), chain(nn.Dropout(0.5)), chain(nn.Tanh())
WIDE = chain(nn.Tanh())
DENSE = Dense(torch.cat([torch.linspace(-1, 1, 199), torch.tensor([9.0])]).double())
DIAGONAL = Dense(torch.ones(200).double())
DIAGONAL.matrix = torch.diag(torch.linspace(-1, 3, 200, dtype=torch.float64))
SINGLE = seeded(nn.Linear, 6, 3, dtype=torch.float32)
SINGLE_DATA = (X.float(), Y)
SINGLE_EXACT = deepcopy(SINGLE).double(), sure, (X.float().double(), Y)
EMBEDDED = words()
AFTER = EMBEDDED[1:]  # what follows the embedding
FLAT = seeded(nn.Linear, 6, 3)


class Long(nn.Module):
    """Embeddings of some length at most, and the logits by those of the classes."""

    def __init__(self, limit: float | None) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.embed = nn.Embedding(9, 3, max_norm=limit)

    def forward(self, tokens):
        return self.embed(tokens).sum(1) @ self.embed.weight[:3].T


def consistent(model: nn.Module) -> Callable[[Tensor, Tensor], Tensor]:
    """A loss that calls the model again."""
    return lambda o, t: CROSS_ENTROPY(o, t) + (o - model(TOKENS.flip(1)[: len(o)])).pow(2).mean()


LONG, SHORT = Long(9.0).double(), Long(None).double()
SAID = torch.tensor([[1, 2], [2, 2]])


class Steps(nn.Module):
    """Logarithms of shares, steps first, as CTC losses take them."""

    def __init__(self) -> None:
        super().__init__()
        self.sound = seeded(nn.Linear, 2, 3)  # a blank and two sounds

    def forward(self, x):
        return self.sound(x).log_softmax(-1).transpose(0, 1)


SPEECH = Steps()


def ctc(logs: Tensor, said: Tensor) -> Tensor:
    sizes = (torch.full((len(said),), size) for size in (len(logs), said.shape[1]))
    return functional.ctc_loss(logs, said, *sizes)


SPOKEN = X[:8].reshape(2, 4, 6)[:, :, :2], SAID  # two samples of four steps


def alignments(said: list[int], steps: int) -> list[tuple[int, ...]]:
    """All ways to say it: repeated sounds count once, and blanks not at all."""
    ways = itertools.product(range(3), repeat=steps)
    return [way for way in ways if [s for s, _ in itertools.groupby(way) if s] == said]


def every_alignment(logs: Tensor, targets: Tensor) -> Tensor:
    losses = []
    for n, said in enumerate(targets.tolist()):
        each = [sum(logs[t, n, s] for t, s in enumerate(way)) for way in alignments(said, len(logs))]
        losses.append(-torch.stack(each).exp().sum().log() / len(said))
    return torch.stack(losses).mean()


def recursion(logs: Tensor, targets: Tensor) -> Tensor:
    """The same by the forward recursion over blanks and sounds."""
    losses = []
    for n, said in enumerate(targets.tolist()):
        states = [0, said[0], 0, said[1], 0]
        known = {0: logs[0, n, 0], 1: logs[0, n, said[0]]}
        for t in range(1, len(logs)):
            before, known = known, {}
            for s, sound in enumerate(states):
                skips = sound and s >= 2 and sound != states[s - 2]
                come = [before[b] for b in (s, s - 1, *([s - 2] if skips else [])) if b in before]
                if come:
                    known[s] = torch.logsumexp(torch.stack(come), 0) + logs[t, n, sound]
        losses.append(-torch.logsumexp(torch.stack([known[4], known[3]]), 0) / len(said))
    return torch.stack(losses).mean()


class Scales(nn.Module):
    """A factor for each feature, and no matrix."""

    def __init__(self) -> None:
        super().__init__()
        self.factors = nn.Parameter(torch.linspace(0.5, 1.5, 6).double())

    def forward(self, x):
        return (x * self.factors).view(-1, 3, 2).sum(2)


def expanded() -> nn.Module:
    """The same with one number for all features, and none of its own for any."""
    model = Scales()
    model.factors = nn.Parameter(model.factors[:1].detach().expand(6))
    return model


class Remembering(nn.Module):
    """Goes on from where its last call ended, or begins anew."""

    def __init__(self, *, reset: bool) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.cell, self.out, self.reset, self.state = nn.GRUCell(6, 4).double(), nn.Linear(4, 3).double(), reset, None

    def forward(self, x):
        state = self.cell(x, None if self.reset else self.state)
        self.state = state.detach()
        return self.out(state)


def from_one(outputs: Tensor, targets: Tensor) -> Tensor:
    """Of classes that are counted from one."""
    return CROSS_ENTROPY(outputs, targets.sub_(1))


def at(model: nn.Module, step: Tensor) -> Tensor:
    """The loss where the one parameter has moved."""
    (own,) = model.parameters()
    own.data += step.to(own)
    return CROSS_ENTROPY(model(X), Y).detach()


PATH = [{n: t + 0.1 * k**p for p, (n, t) in enumerate(FLAT.state_dict().items(), 1)} for k in range(3)]
LINE = [{n: t + 0.1 * k for n, t in FLAT.state_dict().items()} for k in range(3)]


def at_state(state: dict[str, Tensor]) -> nn.Module:
    model = deepcopy(FLAT)
    model.load_state_dict(state)
    return model


def plane_at_the_first(path: list[dict[str, Tensor]]) -> Tensor:
    """The loss on the plane of a path, where its first checkpoint is."""
    plane = measure.path_plane(FLAT, path)
    x, y = plane.coordinates[0].tolist()
    return measure.surface(FLAT, CROSS_ENTROPY, DATA, directions=plane, x=[x], y=[y]).loss[0, 0]


def lengths(path: list[dict[str, Tensor]]) -> Tensor:
    """Of the ways from the first snapshot."""
    return torch.stack([sum((s[n] - path[0][n]).pow(2).sum() for n in s).sqrt() for s in path])


FOUR = (torch.randn(24, 4, generator=DRAW, dtype=torch.float64), Y)


def at_zero_seed(make: Callable[..., nn.Module], *args: Any, **options: Any) -> nn.Module:
    torch.manual_seed(0)
    return make(*args, **options).double()


CASES = {
    # Layers that PyTorch cannot differentiate twice: of several, the one at fault is named, with what to write instead.
    "hardsigmoid": hessian_of(r"layer '1' \(Hardsigmoid\).*clamp", chain(nn.Hardsigmoid()), chain(Function(clamped))),
    "in place before it": hessian_of(
        r"the model itself \(Squeezed\).*clamp\(0, 1\)\.$",
        seeded(Squeezed, functional.hardsigmoid),
        seeded(Squeezed, clamped),
        data=(X, Y),
    ),
    "hardswish before it": hessian_of(
        r"layer '2' \(Hardsigmoid\)", chain(nn.Hardswish(), nn.Hardsigmoid()), chain(nn.Hardswish(), Function(clamped))
    ),
    "cdist": hessian_of(r"\(\(x\[:, None\] - y\) \*\* 2\)", chain(Function(distances)), chain(Function(written_out))),
    "embedding bag": Case(
        "take nn.Embedding and the sum",
        lambda: product(Weighted(bag=True), data=DATA),
        lambda: product(Weighted(bag=False), data=DATA),
        lambda: multiplied(Weighted(bag=False), data=DATA),
    ),
    "sparse": hessian_of("pass sparse=False", words(sparse=True), EMBEDDED, data=(TOKENS, Y)),
    "sparse bag": hessian_of("take nn.Embedding and the sum, mean", bags(sparse=True), meant(), data=(TOKENS, Y)),
    "only the layers after it": Case(
        r"measure only the layers after it: parameters='NAME",
        lambda: product(words(sparse=True), data=(TOKENS, Y)),
        lambda: product(words(sparse=True), data=(TOKENS, Y), parameters="2.*"),
        lambda: multiplied(AFTER, data=(EMBEDDED[0](TOKENS).detach(), Y)),
    ),
    "margin": hessian_of(
        r"the loss \(MultiMarginLoss\).*with clamp\(min=0\)\.$",
        (chain(nn.Tanh()), nn.MultiMarginLoss(p=2)),
        (chain(nn.Tanh()), margins),
    ),
    "reentrant": hessian_of(
        "use_reentrant=False", seeded(Recomputed, reentrant=True), seeded(Recomputed, reentrant=False)
    ),
    "reentrant, gradient": slope_of(
        "use_reentrant=False",
        (seeded(Recomputed, reentrant=True), CROSS_ENTROPY, DATA),
        (seeded(Recomputed, reentrant=False), CROSS_ENTROPY, DATA),
    ),
    # Derivatives that are none.
    "an input's derivative": hessian_of(
        r"call x.requires_grad_\(\) in the model", seeded(Slope, asks=False), seeded(Slope, asks=True)
    ),
    "second derivative of a norm at zero": hessian_of(
        r"in the derivative of \w+ at test_advice.py:\d+, `return outputs.norm\(dim=1\).*`, in batch 0.*\+ 1e-12",
        (seeded(nn.Linear, 6, 3, bias=False), length),
        (seeded(nn.Linear, 6, 3, bias=False), rounded_length),
        data=AT_ZERO,
    ),
    "root at zero": slope_of(
        r"of pow at test_advice.py:\d+, `return \(outputs - 1\).*`, in batch 0.*\+ 1e-12\)\.sqrt\(\)\.$",
        (ones(), root, DATA),
        (ones(), rounded_root, DATA),
    ),
    "rounding of float32": Case(
        r"Take model.double\(\) and inputs.double\(\)",
        lambda: product(SINGLE, sure, SINGLE_DATA),
        lambda: product(*SINGLE_EXACT),
        lambda: multiplied(*SINGLE_EXACT),
    ),
    "two types": slope_of(
        r"model.double\(\) and inputs.double\(\)", (SINGLE, CROSS_ENTROPY, DATA), (FLAT, CROSS_ENTROPY, DATA)
    ),
    "no gradient": slope_of(
        r"Leave out .detach\(\)",
        (chain(Function(torch.tanh)), lambda o, t: CROSS_ENTROPY(o.detach(), t), DATA),
        (chain(Function(torch.tanh)), CROSS_ENTROPY, DATA),
    ),
    # Losses and what they are over a batch.
    "no scalar": slope_of(
        "Use reduction='mean'",
        (FLAT, nn.CrossEntropyLoss(reduction="none"), DATA),
        (FLAT, nn.CrossEntropyLoss(reduction="mean"), DATA),
    ),
    "a loss that is a float": slope_of(
        r"leave out .item\(\)",
        (FLAT, lambda o, t: CROSS_ENTROPY(o, t).item(), DATA),
        (FLAT, CROSS_ENTROPY, DATA),
    ),
    "a loss among others": slope_of(
        r"as loss\(outputs, targets\)\['loss'\]",
        (FLAT, lambda o, t: {"loss": CROSS_ENTROPY(o, t)}, DATA),
        (FLAT, lambda o, t: {"loss": CROSS_ENTROPY(o, t)}["loss"], DATA),
    ),
    "a loss that writes into targets": slope_of(
        r"targets = targets.clone\(\)",
        (FLAT, from_one, (X, Y + 1)),
        (FLAT, lambda o, t: from_one(o, t.clone()), (X, Y + 1)),
        data=(X, Y + 1),
    ),
    "a batch of one": slope_of(
        "leave out batches of one sample",
        (deepcopy(BATCH_NORM).train(), CROSS_ENTROPY, [(X[1:], Y[1:]), (X[:1], Y[:1])]),
        (deepcopy(BATCH_NORM).train(), CROSS_ENTROPY, [(X[1:], Y[1:])]),
        data=(X[1:], Y[1:]),
    ),
    "a state kept": slope_of(
        "reset in forward what the model keeps",
        (Remembering(reset=False), CROSS_ENTROPY, DATA),
        (Remembering(reset=True), CROSS_ENTROPY, DATA),
    ),
    "numbers in one place": slope_of(
        r"nn.Parameter\(factors.clone\(\)\)", (expanded(), CROSS_ENTROPY, DATA), (Scales(), CROSS_ENTROPY, DATA)
    ),
    "a sum for a mean": Case(
        "Pass reduction='sum'",
        lambda: measure.gradient_norm(FLAT, summed, RAGGED),
        lambda: measure.gradient_norm(FLAT, summed, RAGGED, reduction="sum").value,
        lambda: len(X) * oracles.gradient(FLAT, CROSS_ENTROPY, [DATA]).norm(),
    ),
    "another reduction than its own": Case(
        "Leave reduction out",
        lambda: measure.gradient_norm(FLAT, CROSS_ENTROPY, RAGGED, reduction="sum"),
        lambda: measure.gradient_norm(FLAT, CROSS_ENTROPY, RAGGED).value,
        lambda: oracles.gradient(FLAT, CROSS_ENTROPY, [DATA]).norm(),
    ),
    "a penalty in a Gauss-Newton matrix": Case(
        "2 c for c times the sum of squares",
        lambda: product(PENALISED, penalty(PENALISED), operator="ggn"),
        lambda: product(PENALISED, operator="ggn") + 2 * 0.3 * _vector(sum(p.numel() for p in PENALISED.parameters())),
        lambda: gauss_newton(PENALISED) + 0.6 * _vector(sum(p.numel() for p in PENALISED.parameters())),
    ),
    "a penalty in the Hessian": Case(
        "or take operator='hessian'",
        lambda: product(PENALISED, penalty(PENALISED), operator="ggn"),
        lambda: product(PENALISED, penalty(PENALISED), operator="hessian"),
        lambda: multiplied(PENALISED, penalty(PENALISED)),
    ),
    # Data.
    "data that drift": Case(
        r"data=list\(loader\)",
        lambda: product(WIDE, data=Drifting()),
        lambda: product(WIDE, data=list(Drifting())),
        lambda: multiplied_over(WIDE, list(Drifting())),
    ),
    "an iterator": Case(
        "Pass a list of batches",
        lambda: measure.gradient_norm(FLAT, CROSS_ENTROPY, iter(RAGGED)),
        lambda: measure.gradient_norm(FLAT, CROSS_ENTROPY, list(iter(RAGGED))).value,
        lambda: oracles.gradient(FLAT, CROSS_ENTROPY, [DATA]).norm(),
    ),
    "data that are there once": Case(
        "Let __iter__ begin anew",
        lambda: product(WIDE, data=Once()),
        lambda: product(WIDE, data=RAGGED),
        lambda: multiplied(WIDE),
    ),
    "not finite": slope_of(
        "Clean",
        (FLAT, CROSS_ENTROPY, NOT_FINITE),
        (FLAT, CROSS_ENTROPY, (X[1:], Y[1:])),
        data=(X[1:], Y[1:]),
    ),
    "dropout": Case(
        r"Call model.eval\(\)",
        lambda: measure.gradient_norm(DROPOUT.train(), CROSS_ENTROPY, DATA),
        lambda: measure.gradient_norm(DROPOUT.eval(), CROSS_ENTROPY, DATA).value,
        lambda: oracles.gradient(nn.Sequential(DROPOUT[0], DROPOUT[2]), CROSS_ENTROPY, [DATA]).norm(),
    ),
    # What an instrument asks.
    "tokens": Case(
        "pass their embeddings",
        lambda: measure.sensitivity(EMBEDDED, CROSS_ENTROPY, (TOKENS, Y)),
        lambda: measure.sensitivity(AFTER, CROSS_ENTROPY, (EMBEDDED[0](TOKENS).detach(), Y)).value,
        lambda: input_slope(AFTER, EMBEDDED[0](TOKENS).detach()),
    ),
    "samples that meet": Case(
        "or pass per_sample=False",
        lambda: measure.sensitivity(BATCH_NORM.train(), CROSS_ENTROPY, DATA),
        lambda: measure.sensitivity(BATCH_NORM.train(), CROSS_ENTROPY, DATA, per_sample=False).value,
        lambda: input_slope(BATCH_NORM.train(), X),
    ),
    "samples that meet in training": Case(
        r"Call model.eval\(\)",
        lambda: measure.sensitivity(BATCH_NORM.train(), CROSS_ENTROPY, DATA),
        lambda: measure.sensitivity(BATCH_NORM.eval(), CROSS_ENTROPY, DATA).value,
        lambda: input_slope(BATCH_NORM.eval(), X),
    ),
    "a radius that float32 cannot resolve": Case(
        r"Take model.double\(\) and inputs.double\(\), or pass a larger radius",
        lambda: measure.sharpness(SINGLE, CROSS_ENTROPY, SINGLE_DATA, method="sam", radius=1e-8),
        lambda: 1e8 * measure.sharpness(FLAT, CROSS_ENTROPY, DATA, method="sam", radius=1e-8).value,
        lambda: 1e8 * oracles.rise(FLAT, CROSS_ENTROPY, [DATA], 1e-8),
    ),
    "a loss below minus one": Case(
        "Use method='sam'",
        lambda: measure.sharpness(FLAT, lambda o, t: CROSS_ENTROPY(o, t) - 9, DATA),
        lambda: measure.sharpness(FLAT, lambda o, t: CROSS_ENTROPY(o, t) - 9, DATA, method="sam", radius=0.1).value,
        lambda: oracles.rise(FLAT, CROSS_ENTROPY, [DATA], 0.1),
    ),
    "too large for a spectrum": Case(
        r"Use hessian_eigenvalues .*parameters='NAME",
        lambda: measure.hessian_spectrum(WIDE, CROSS_ENTROPY, DATA, memory="4 KiB"),
        lambda: measure.hessian_eigenvalues(WIDE, CROSS_ENTROPY, DATA, k=1, tolerance=1e-8).eigenvalues[0],
        lambda: torch.linalg.eigvalsh(oracles.hessian(WIDE, CROSS_ENTROPY, [DATA]))[-1],
    ),
    "rows for columns": Case(
        "One column is one vector",
        lambda: measure.HessianOperator(FLAT, CROSS_ENTROPY, DATA) @ torch.eye(21, dtype=torch.float64)[:2],
        lambda: measure.HessianOperator(FLAT, CROSS_ENTROPY, DATA) @ torch.eye(21, dtype=torch.float64)[:2].T,
        lambda: oracles.hessian(FLAT, CROSS_ENTROPY, [DATA])[:, :2],
    ),
    "three parts of a batch": Case(
        r"data=\[\(x, \(y, w\)\) for x, y, w in loader\]",
        lambda: measure.gradient_norm(FLAT, weighted, THREE),
        lambda: measure.gradient_norm(FLAT, weighted, [(x, (y, w)) for x, y, w in THREE]).value,
        lambda: oracles.gradient(FLAT, CROSS_ENTROPY, [DATA]).norm(),
    ),
    "a batch that is none": Case(
        "Wrap the data in such pairs",
        lambda: measure.gradient_norm(FLAT, unlabelled, [X[:8], X[8:16], X[16:]]),
        lambda: measure.gradient_norm(FLAT, unlabelled, [(x, x) for x in (X[:8], X[8:16], X[16:])]).value,
        lambda: oracles.gradient(FLAT, unlabelled, [(X, X)]).norm(),
    ),
    "a gradient of zero": Case(
        "Use method='keskar'",
        lambda: measure.sharpness(ones(), saddle, DATA, method="sam", radius=0.1),
        lambda: measure.sharpness(ones(), saddle, DATA, method="keskar", radius=1e-3).loss,
        lambda: 0.0,
    ),
    "a trace layer by layer": Case(
        r"Leave method out, or pass method='hutch\+\+'",
        lambda: measure.hessian_trace(TIED, CROSS_ENTROPY, DATA, method="layer by layer"),
        lambda: measure.hessian_trace(TIED, CROSS_ENTROPY, DATA, method="hutch++", products=3 * 42).value,
        lambda: oracles.hessian(TIED, CROSS_ENTROPY, [DATA]).trace(),
    ),
    "memory for a product": Case(
        r"Pass more, or parameters='NAME\.\*'",
        lambda: product(WIDE, memory=1000),
        lambda: product(WIDE, memory="1 MiB"),
        lambda: multiplied(WIDE),
    ),
    "memory for a basis": Case(
        "Pass more memory, or a smaller k",
        lambda: eigenvalues(DENSE, k=20, random=torch.Generator(), memory=60_000),
        lambda: eigenvalues(DENSE, k=1, tolerance=1e-10, random=torch.Generator(), memory=60_000).eigenvalues[0],
        lambda: 9.0,
    ),
    "memory for a sketch": Case(
        "Pass more memory, or method='hutchinson'",
        lambda: trace(DIAGONAL, products=120, random=torch.Generator(), memory=300_000),
        lambda: trace(DIAGONAL, method="hutchinson", random=torch.Generator(), memory=300_000).value,
        lambda: DIAGONAL.matrix.trace(),  # of a diagonal matrix each sample is exact
    ),
    "two precisions": Case(
        r"Call model.to\(…\) first",
        lambda: measure.interpolate(FLAT, SINGLE, CROSS_ENTROPY, DATA, alphas=[1.0]),
        lambda: measure.interpolate(
            FLAT, deepcopy(SINGLE).to(FLAT.weight.dtype), CROSS_ENTROPY, DATA, alphas=[1.0]
        ).loss[0],
        lambda: CROSS_ENTROPY(deepcopy(SINGLE).double()(X), Y),
    ),
    "weights on the device meta": Case(
        "Load weights",
        lambda: measure.gradient_norm(nn.Linear(6, 3, device="meta"), CROSS_ENTROPY, DATA),
        lambda: measure.gradient_norm(loaded(), CROSS_ENTROPY, DATA).value,
        lambda: oracles.gradient(FLAT, CROSS_ENTROPY, [DATA]).norm(),
    ),
    "a loss that the model computes": Case(
        "or operator='hessian'",
        lambda: product(OwnLoss(), lambda out, batch: out["loss"], (X, Y), operator="ggn"),
        lambda: product(OwnLoss(), lambda out, batch: out["loss"], (X, Y), operator="hessian"),
        lambda: multiplied(OwnLoss(), lambda out, batch: out["loss"]),
    ),
    "outputs in place of a loss of the model's": Case(
        r"loss=lambda outputs, batch: cross_entropy\(outputs.logits",
        lambda: product(OwnLoss(), lambda out, batch: out["loss"], (X, Y), operator="ggn"),
        lambda: product(OwnLoss(), lambda out, batch: CROSS_ENTROPY(out["logits"], batch), (X, Y), operator="ggn"),
        lambda: gauss_newton(OwnLoss().net),
    ),
    "an instrument's starts with kinks": Case(
        "Use tanh, softplus or GELU, or pass force=True",
        lambda: measure.find_critical_points(chain(nn.ReLU()), CROSS_ENTROPY, DATA, 1),
        lambda: gradients_at(measure.find_critical_points(chain(nn.Tanh()), CROSS_ENTROPY, DATA, 2, weight_decay=0.1)),
        lambda: torch.zeros(2),
    ),
    "directions": Case(
        r"Flatten them in the order of named_parameters\(\)",
        lambda: measure.surface(FLAT, CROSS_ENTROPY, DATA, directions=torch.ones(2, 3, 6), x=[0.0], y=[1.0]),
        lambda: measure.surface(
            FLAT,
            CROSS_ENTROPY,
            DATA,
            directions=torch.stack([torch.cat([p.flatten() for p in (torch.ones(3, 6), torch.ones(3))])] * 2),
            x=[0.0],
            y=[1.0],
        ).loss[0, 0],
        lambda: CROSS_ENTROPY(X @ (FLAT.weight + 1).T + FLAT.bias + 1, Y),
    ),
    "weights that are not there yet": Case(
        "Pass a batch through model",
        lambda: measure.gradient_norm(nn.LazyLinear(3).double(), CROSS_ENTROPY, DATA),
        lambda: measure.gradient_norm(warmed(), CROSS_ENTROPY, DATA).value,
        lambda: oracles.gradient(warmed(), CROSS_ENTROPY, [DATA]).norm(),
    ),
}


class Cubed(torch.autograd.Function):
    """A cube whose derivative is taken for a constant."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx, slope):
        (x,) = ctx.saved_tensors
        return slope * 3 * x.detach() ** 2


class TimeFirst(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.rnn, self.out = nn.GRU(6, 4), nn.Linear(4, 3)

    def forward(self, x):
        return self.out(self.rnn(x)[0][-1])


LIMITED, FREE = Long(1.0).double(), Long(None).double()
LIMITED(TOKENS)  # which shortens them
FREE.load_state_dict(LIMITED.state_dict())
LIMITED.embed.weight.data *= 1 + 1e-6
HEARD = TimeFirst().double()
TIMES = [(X[:20].view(2, 10, 6), Y[:10]), (X[:12].view(2, 6, 6), Y[:6])]
ROW = FLAT.weight[:1]  # a view, made once
ALL_IGNORED = torch.full((24,), -100)
LATE = [(X[:8], Y[:8]), (torch.cat([X[8:9] * torch.nan, X[9:]]), Y[8:])]


def penalised_row(o: Tensor, t: Tensor) -> Tensor:
    return CROSS_ENTROPY(o, t) + ROW.pow(2).sum()


def penalised_row_of_the_model(o: Tensor, t: Tensor) -> Tensor:
    return CROSS_ENTROPY(o, t) + FLAT.weight[:1].pow(2).sum()


CASES |= {
    "a wrong second derivative": hessian_of(
        r"Correct its second derivative, or replace it by elementary operations\.$",
        chain(Function(Cubed.apply)),
        chain(Function(lambda x: x**3)),
    ),
    "an embedding with rows longer than they may be": hessian_of(
        "and set its max_norm = None", LIMITED, FREE, data=(TOKENS, Y)
    ),
    "a view of a weight": slope_of(
        "Take them from the model, as model.parameters",
        (FLAT, penalised_row, DATA),
        (FLAT, penalised_row_of_the_model, DATA),
    ),
    "no such parameters": Case(
        "Pass another pattern",
        lambda: product(WIDE, parameters="9.*"),
        lambda: product(WIDE, parameters="2.*"),
        lambda: multiplied(WIDE[2], data=(WIDE[:2](X).detach(), Y)),
    ),
    "frozen": slope_of(
        "or set requires_grad",
        (deepcopy(FLAT).requires_grad_(False), CROSS_ENTROPY, DATA),
        (deepcopy(FLAT).requires_grad_(False).requires_grad_(True), CROSS_ENTROPY, DATA),
    ),
    "a later batch that is not finite": slope_of(
        r"batch 1 holds NaN or infinity\. Clean it",
        (FLAT, CROSS_ENTROPY, LATE),
        (FLAT, CROSS_ENTROPY, [LATE[0], (X[9:], Y[9:])]),
        data=(torch.cat([X[:8], X[9:]]), torch.cat([Y[:8], Y[9:]])),
    ),
    "no target that counts": slope_of(
        "Check the targets, ignore_index",
        (FLAT, CROSS_ENTROPY, (X, ALL_IGNORED)),
        (FLAT, nn.CrossEntropyLoss(ignore_index=-1), DATA),
    ),
    "time first": Case(
        r"samples=lambda batch: len\(batch\[1\]\)",
        lambda: measure.gradient_norm(HEARD, CROSS_ENTROPY, TIMES),
        lambda: measure.gradient_norm(HEARD, CROSS_ENTROPY, TIMES, samples=lambda batch: len(batch[1])).value,
        lambda: oracles.gradient(HEARD, CROSS_ENTROPY, TIMES).norm(),
    ),
    "a class of losses": slope_of(
        r"Pass for example nn.CrossEntropyLoss\(\)",
        (FLAT, nn.CrossEntropyLoss, DATA),
        (FLAT, nn.CrossEntropyLoss(), DATA),
    ),
    "weights for a network": slope_of(
        "load_state_dict", (FLAT.state_dict(), CROSS_ENTROPY, DATA), (at_state(FLAT.state_dict()), CROSS_ENTROPY, DATA)
    ),
    "a path of models": Case(
        r"Pass model.state_dict\(\)",
        lambda: measure.path_plane(FLAT, list(map(at_state, PATH))),
        lambda: plane_at_the_first([m.state_dict() for m in map(at_state, PATH)]),
        lambda: CROSS_ENTROPY(X @ PATH[0]["weight"].T + PATH[0]["bias"], Y),
    ),
    # Written in place.
    "an activation in place twice": slope_of(
        "leave out inplace=True",
        (chain(nn.ReLU(inplace=True), nn.ReLU(inplace=True)), CROSS_ENTROPY, DATA),
        (chain(nn.ReLU(), nn.ReLU()), CROSS_ENTROPY, DATA),
    ),
    "an activation in place twice, on the way to a step": Case(
        "leave out inplace=True",
        lambda: measure.sharpness(chain(nn.ReLU(inplace=True), nn.ReLU(inplace=True)), CROSS_ENTROPY, DATA),
        lambda: measure.sharpness(chain(nn.ReLU(), nn.ReLU()), CROSS_ENTROPY, DATA, method="sam", radius=0.1).value,
        lambda: oracles.rise(chain(nn.ReLU(), nn.ReLU()), CROSS_ENTROPY, [DATA], 0.1),
    ),
    "an embedding with max_norm twice": slope_of(
        "leave out inplace=True, and max_norm= of an embedding",
        (LONG, consistent(LONG), (TOKENS, Y)),
        (SHORT, consistent(SHORT), (TOKENS, Y)),
        data=(TOKENS, Y),
    ),
    "a weight written in each call": slope_of(
        r"self.weight.clamp\(-c, c\)",
        (at_zero_seed(uses.Written, in_place=True), CROSS_ENTROPY, FOUR),
        (at_zero_seed(uses.Written, in_place=False), CROSS_ENTROPY, FOUR),
        data=FOUR,
    ),
    "a weight made once": slope_of(
        "compute what is made of them anew in each call",
        (at_zero_seed(uses.Kept, "once"), CROSS_ENTROPY, FOUR),
        (at_zero_seed(uses.Kept, "anew"), CROSS_ENTROPY, FOUR),
        data=FOUR,
    ),
    "a weight made once, by a function": slope_of(
        "Compute it in each call",
        (at_zero_seed(uses.Kept, "by a function"), CROSS_ENTROPY, FOUR),
        (at_zero_seed(uses.Kept, "anew"), CROSS_ENTROPY, FOUR),
        data=FOUR,
    ),
    "a hook on a gradient": Case(
        r"weight \* mask",
        lambda: product(at_zero_seed(uses.Masked, hook=True), data=FOUR),
        lambda: product(at_zero_seed(uses.Masked, hook=False), data=FOUR),
        lambda: multiplied(at_zero_seed(uses.Masked, hook=True), data=FOUR),  # its own rows
    ),
    "a loss that keeps its mean": slope_of(
        r"Call eval\(\) on what keeps it",
        (FLAT, uses.RunningScale(), DATA),
        (FLAT, uses.RunningScale().eval(), DATA),
    ),
    "ctc": Case(
        r"the loss \(ctc\).*write its recursion with torch.logsumexp",
        lambda: product(SPEECH, ctc, SPOKEN),
        lambda: product(SPEECH, recursion, SPOKEN),
        lambda: multiplied(SPEECH, every_alignment, SPOKEN),
    ),
    # Planes and paths of weights, which ask for neither model nor loss.
    "directions that leave vectors where they are": Case(
        "Pass a plane with directions of your own",
        lambda: measure.surface(Scales(), CROSS_ENTROPY, DATA, x=[0.5], y=[0.25]),
        lambda: measure.surface(Scales(), CROSS_ENTROPY, DATA, directions=torch.eye(6)[:2], x=[0.5], y=[0.25]).loss,
        lambda: at(Scales(), torch.eye(6)[:2].T @ torch.tensor([0.5, 0.25]))[None, None],
    ),
    "a path of two checkpoints": Case(
        "Save more often",
        lambda: measure.path_plane(FLAT, PATH[:2]),
        lambda: plane_at_the_first(PATH),
        lambda: CROSS_ENTROPY(X @ PATH[0]["weight"].T + PATH[0]["bias"], Y),
    ),
    "a path that lies on a line": Case(
        "Take interpolate between its ends",
        lambda: measure.path_plane(FLAT, LINE),
        lambda: measure.interpolate(at_state(LINE[0]), at_state(LINE[2]), CROSS_ENTROPY, DATA, [0.5]).loss[0],
        lambda: CROSS_ENTROPY(X @ LINE[1]["weight"].T + LINE[1]["bias"], Y),
    ),
    "three models on a line": Case(
        "Take interpolate between two of them",
        lambda: measure.three_point_plane(*map(at_state, LINE)),
        lambda: measure.interpolate(at_state(LINE[0]), at_state(LINE[2]), CROSS_ENTROPY, DATA, [0.5]).loss[0],
        lambda: CROSS_ENTROPY(X @ LINE[1]["weight"].T + LINE[1]["bias"], Y),
    ),
    "no space for a plane": Case(
        "Set requires_grad",
        lambda: measure.path_plane(deepcopy(FLAT).requires_grad_(False), PATH),
        lambda: plane_at_the_first(PATH),
        lambda: CROSS_ENTROPY(X @ PATH[0]["weight"].T + PATH[0]["bias"], Y),
    ),
    "a buffer that moves": Case(
        "Pass model=, the network",
        lambda: measure.trajectory([s | {"shadow": s["weight"]} for s in PATH]),
        lambda: measure.trajectory([s | {"shadow": s["weight"]} for s in PATH], model=FLAT).distance_from_start[0],
        lambda: lengths(PATH),
    ),
    "one snapshot": Case(
        "Save weights more often",
        lambda: measure.trajectory(PATH[:1], components=1),
        lambda: measure.trajectory(PATH, components=1).distance_from_start[0],
        lambda: lengths(PATH),
    ),
    "a run that diverged": Case(
        "Leave out diverged runs",
        lambda: measure.trajectory([PATH, [PATH[0], *[{n: t * torch.nan for n, t in s.items()} for s in PATH[1:]]]]),
        lambda: measure.trajectory([PATH]).distance_from_start[0],
        lambda: lengths(PATH),
    ),
    "models for snapshots": Case(
        r"Pass model.state_dict\(\) of every moment",
        lambda: measure.trajectory([list(map(at_state, PATH))]),
        lambda: measure.trajectory([[m.state_dict() for m in map(at_state, PATH)]]).distance_from_start[0],
        lambda: lengths(PATH),
    ),
    "snapshots of two models": Case(
        "Pass snapshots of one model",
        lambda: measure.trajectory([*PATH, {}]),
        lambda: measure.trajectory(PATH).distance_from_start[0],
        lambda: lengths(PATH),
    ),
    "runs of two lengths": Case(
        "Pass runs that were recorded alike",
        lambda: measure.trajectory([PATH, PATH[:2]]),
        lambda: measure.trajectory([PATH[:2], PATH[:2]]).distance_from_start[0],
        lambda: lengths(PATH[:2]),
    ),
    # Pairs of networks: the aligned one computes what the second does.
    "activations without data": Case(
        "Pass data, or method='weights'",
        lambda: measure.align(chain(nn.Tanh()), WIDE, method="activations"),
        lambda: measure.align(chain(nn.Tanh()), WIDE, method="activations", data=DATA).model(X),
        lambda: WIDE(X),
    ),
    "activations without data, by weights": Case(
        "Pass data, or method='weights'",
        lambda: measure.align(chain(nn.Tanh()), WIDE, method="activations"),
        lambda: measure.align(chain(nn.Tanh()), WIDE, method="weights").model(X),
        lambda: WIDE(X),
    ),
    "a network that is no chain": Case(
        "Rebuild it as a chain",
        lambda: measure.align(OwnLoss().net[0], OwnLoss().net[0]),
        lambda: measure.align(nn.Sequential(*chain(nn.Tanh())), WIDE).model(X),
        lambda: WIDE(X),
    ),
    "a curve between two precisions": Case(
        r"Call model.to\(…\) first",
        lambda: measure.connect(FLAT, SINGLE, CROSS_ENTROPY, DATA, epochs=0),
        lambda: measure.connect(FLAT, deepcopy(SINGLE).double(), CROSS_ENTROPY, DATA, epochs=0, points=2).loss,
        lambda: torch.stack([CROSS_ENTROPY(m(X), Y) for m in (FLAT, deepcopy(SINGLE).double())]),
    ),
}


class Weighted(nn.Module):
    """Sums of embeddings with weights made of the inputs, by the bag or by hand."""

    def __init__(self, *, bag: bool) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.table, self.out, self.bag = nn.Parameter(torch.randn(9, 3).double()), nn.Linear(6, 4).double(), bag

    def forward(self, x):
        weights, tokens = self.out(x).tanh(), TOKENS[: len(x)]
        if self.bag:
            return functional.embedding_bag(tokens, self.table, mode="sum", per_sample_weights=weights)
        return (weights[:, :, None] * functional.embedding(tokens, self.table)).sum(1)


def warmed() -> nn.Module:
    model = nn.LazyLinear(3).double()
    torch.manual_seed(1)
    model(X)
    return model


def multiplied_over(model: nn.Module, batches: list[Any]) -> Tensor:
    H = oracles.hessian(model, CROSS_ENTROPY, batches)
    return H @ _vector(len(H))


def input_slope(model: nn.Module, inputs: Tensor) -> Tensor:
    """The norm of the loss's derivative by the inputs."""
    leaf = inputs.clone().requires_grad_()
    return torch.autograd.grad(CROSS_ENTROPY(model(leaf), Y), leaf)[0].norm()


ROOM = Path(measure.__file__).parents[1]
TESTS = Path(__file__).parents[1]
NOT_HERE = {  # where other messages are raised -> the tests that print them, and do what they say where there is a way
    r"checkpoint/(given|inputs).py": (
        "checkpoint/test_given.py:test_what_may_be_meant_in_two_ways_is_refused_with_what_to_write",
        "checkpoint/test_memory_of_a_device.py:test_a_smaller_batch_size_is_advised_for_a_data_set",
        "checkpoint/test_measure.py:test_what_is_wrong_is_said_in_one_paragraph_with_exit_code_2",
    ),
    r"checkpoint/asked.py": (
        "checkpoint/test_samples.py:test_samples_that_are_none_are_refused",
        "checkpoint/test_own_instrument.py:test_what_is_wrong_with_an_instrument_of_one_s_own_is_told_in_one_sentence",
    ),
    r"checkpoint/(measuring|settings).py": (
        "checkpoint/test_measure.py:test_what_is_wrong_is_said_in_one_paragraph_with_exit_code_2",
        "checkpoint/test_memory_of_a_device.py:test_a_path_whose_buffers_move_needs_the_model_and_is_measured_with_it",
        "checkpoint/test_measure.py:test_every_option_listed_is_one_that_can_be_set",
    ),
    r"checkpoint/(opened|tree).py": (
        "checkpoint/test_files.py:test_what_the_reader_refuses_is_converted_by_the_command_in_the_message",
        "checkpoint/test_files.py:test_a_program_is_converted_by_the_command_in_the_message",
        "checkpoint/test_files.py:test_the_command_runs_in_a_shell",
    ),
    r"checkpoint/weights.py": (
        "checkpoint/test_files.py:test_each_of_the_options_in_the_message_chooses_another_set",
        "checkpoint/test_files.py:test_weights_that_would_be_other_numbers_in_the_model_are_refused",
        "checkpoint/test_measure.py:test_tied_weights_may_be_stored_once",
    ),
    r"measure/results/": (
        "measure/results/test_own_results.py:test_what_could_not_be_read_back_is_refused_while_it_is_still_there",
        "measure/results/test_own_results.py:test_without_its_file_it_is_one_clear_error_and_nothing_is_imported",
        "measure/results/test_reader.py:test_a_saved_network_needs_a_model_to_go_into",
        "measure/results/test_reader.py:test_a_name_that_promises_another_format_is_refused",
    ),
    r"measure/units/|align.py:_copied": (
        "measure/units/test_chains.py:test_weights_that_are_computed_are_taken_once_they_are_stored_as_the_error_says",
        "measure/units/test_chains.py:test_weights_that_a_hook_computes_are_taken_once_it_is_removed_as_the_error_says",
        "measure/units/test_chains.py:test_a_chain_for_which_no_inputs_are_found_asks_for_data_and_takes_it",
        "measure/units/test_axes.py:test_units_that_are_none_are_refused_and_the_models_stay",
        "measure/units/test_axes.py:test_a_class_of_ones_own_without_units_is_told_where_to_find_them",
        "measure/units/test_gpt.py:test_layers_that_are_no_gpts_are_refused_by_name",
        "measure/units/test_resnet.py:test_a_block_of_another_form_is_refused_by_name",
    ),
    r"measure/critical/|find_critical_points.py": (
        "measure/critical/test_critical_points.py:test_bad_input_is_named",
        "measure/critical/test_critical_points_symmetry.py:test_symmetric_starts_need_a_perceptron",
    ),
    r"catalogue.py|__init__.py|check_settings|check_products|coordinates|:_?checked|:room|:connect|:sharpness": (
        "measure/test_bad_input.py:test_bad_settings_are_refused_by_name",
        "measure/curvature/test_options.py:test_a_shared_option_of_the_wrong_kind_is_refused_by_name",
        "measure/linalg/test_any_operator.py:test_what_does_not_fit_the_memory_or_the_range_is_refused",
    ),
    r"state_dicts.py:_stack$|trajectory.py:(_runs|_components)": (
        "measure/test_trajectory.py:test_bad_input_is_named",
    ),
    r"validation.py:_check_not_spread": (
        "measure/problem/test_data_parallel.py:test_two_processes_have_the_mean_of_their_products_and_one_process_the_same",
    ),
    r"join.py:_check_over_samples": (
        "measure/test_ways_of_use.py:test_a_mean_over_tokens_is_that_of_all_data_once_samples_says_so",
    ),
    r"curvature/backend.py:_blocks": (
        "measure/curvature/test_recomputed.py:test_a_model_without_blocks_is_refused_and_taken_once_it_has_some",
    ),
    r"curvature/recorded/product.py:__call__": (
        "measure/curvature/recorded/test_product.py:test_data_that_were_written_to_are_noticed",
    ),
    r"recorded/(product.py:(rec|_hes|_product)|rules|recording|operations|bilinear)": (  # caught: the graph is
        "measure/curvature/recorded/test_product.py:test_what_is_not_followed_takes_the_graph_and_all_give_the_dense_matrix",
    ),
    r"sequential/product.py:__call__": (
        "measure/curvature/sequential/test_product.py:test_inputs_that_were_written_to_are_noticed",
    ),
    r"dense.py:_sum": ("measure/curvature/test_dense.py:test_samples_that_reach_each_other_are_noticed",),
    r"verification.py:_explain": (
        "measure/curvature/test_verification.py:test_what_is_wrong_in_a_later_batch_alone_shows_in_the_first_products",
    ),
    r"verification.py:_check_linear|evaluate.py:_check_same|plain.py:_check_apart|join.py:_check_numbers": (
        "measure/test_ways_of_use.py:test_a_hook_that_clips_is_seen_by_a_product_that_is_not_linear",
        "measure/test_ways_of_use.py:test_a_model_that_counts_its_calls_is_refused_by_what_calls_it_often",
        "measure/test_ways_of_use.py:test_what_has_no_one_answer_is_refused_with_what_to_do",
    ),
    r"verification.py:_check_not_cancelled": (
        "measure/test_advice.py:test_what_rounding_leaves_of_a_loss_is_blamed_on_no_layer",
        "measure/curvature/test_verification.py:test_what_is_detached_on_purpose_has_no_hessian_and_is_named",
    ),
    r"in_working_precision|reduction.py:weigh": ("measure/curvature/test_operator.py:test_bad_input_is_said_plainly",),
    r"curvature/(blocks|frame|kinds|likelihood|matrix|operator|steps).py|product.py:chain": (
        "measure/curvature/test_kinds.py:test_a_loss_that_is_no_likelihood_has_no_fisher_matrix",
        "measure/curvature/test_kinds.py:test_more_classes_than_fit_are_refused_with_a_way_round",
        "measure/curvature/test_kinds.py:test_samples_that_are_mixed_have_no_gradients_of_their_own",
        "measure/curvature/test_frame.py:test_an_optimizer_without_a_state_or_of_another_kind_is_refused",
        "measure/curvature/test_operator.py:test_bad_input_is_said_plainly",
    ),
    r"gradient_noise_scale.py": (
        "measure/test_gradient_noise_scale.py:test_samples_that_are_mixed_or_too_few_are_refused",
    ),
    r"curvature/jacobian.py": ("measure/curvature/test_jacobian.py:test_what_is_wrong_or_does_not_fit_is_refused",),
    r"linalg/(generalized|log_determinant|sketch|solver).py": (
        "measure/linalg/test_solver.py:test_an_indefinite_matrix_is_not_solved_without_damping",
        "measure/linalg/test_solver.py:test_what_is_not_positive_definite_has_no_log_determinant",
        "measure/linalg/test_solver.py:test_a_pair_that_is_none_is_refused",
        "measure/linalg/test_sketch.py:test_who_wants_what_there_is_gets_a_trace_and_no_half_diagonal",
    ),
    r"sequential/rules.py": (  # caught where it is raised: the graph is taken
        "measure/curvature/sequential/test_product.py:test_a_layer_that_only_looks_known_goes_operation_by_operation",
    ),
    r"execute/(actors|ray).py": (
        "execute/test_shards.py:test_what_cannot_be_sent_is_named_with_the_way_round",
        "execute/test_shards.py:test_another_address_than_the_one_this_program_is_on_is_refused",
        "measure/problem/test_distributed.py:test_without_ray_the_error_says_what_to_install_and_one_process_needs_none",
    ),
}


def raised_in_the_rooms() -> set[str]:
    """Where there is an error with a sentence: file and function."""
    places = set()
    rooms = [path for room in ("measure", "checkpoint") for path in (ROOM / room).rglob("*.py")]
    for path in [*rooms, ROOM / "execute" / "actors.py", ROOM / "execute" / "ray.py"]:
        for function in (f for f in ast.walk(ast.parse(path.read_text())) if isinstance(f, ast.FunctionDef)):
            raised = [r.exc for r in ast.walk(function) if isinstance(r, ast.Raise) and isinstance(r.exc, ast.Call)]
            text = [c.value for r in raised for c in ast.walk(r) if isinstance(c, ast.Constant)]
            if any(isinstance(words, str) and " " in words.strip() for words in text):
                places.add(f"{path.relative_to(ROOM).as_posix()}:{function.name}")
    return places


def test_every_place_that_advises_has_a_row_or_a_reason():
    reached = set()
    for case in CASES.values():
        with pytest.raises(TheodoliteError) as refused:
            case.refused()
        frames = [f for f in traceback.extract_tb(refused.value.__traceback__) if f.filename.startswith(str(ROOM))]
        reached.add(f"{Path(frames[-1].filename).relative_to(ROOM).as_posix()}:{frames[-1].name}")
    left = raised_in_the_rooms() - reached
    assert {place for place in left if not any(re.search(pattern, place) for pattern in NOT_HERE)} == set()
    assert [pattern for pattern in NOT_HERE if not any(re.search(pattern, place) for place in left)] == []


def test_the_tests_named_for_other_places_are_there():
    named = {name for tests in NOT_HERE.values() for name in tests}
    files = {name.partition(":")[0] for name in named}
    defined = {
        f"{file}:{node.name}"
        for file in files
        for node in ast.walk(ast.parse((TESTS / file).read_text()))
        if isinstance(node, ast.FunctionDef)
    }
    assert named - defined == set()


@pytest.mark.parametrize("name", CASES)
def test_what_an_error_advises_gives_the_right_number(name):
    case = CASES[name]
    with pytest.raises(TheodoliteError, match=case.says):
        case.refused()
    found, expected = (torch.as_tensor(part()).detach().double() for part in (case.advised, case.expected))
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-9 * float(expected.abs().max()))


def on_a_kink(bias: float) -> tuple[nn.Module, Any]:
    """ReLU with biases of zero, and samples that are zero, as the rims of images are."""
    model = chain(nn.ReLU())
    nn.init.constant_(model[0].bias, bias)
    return model, (torch.cat([torch.zeros(20, 6, dtype=torch.float64), X[:4]]), Y)


def test_a_check_that_cannot_decide_says_so_and_what_it_advises_decides():
    model, data = on_a_kink(bias=0.0)
    with pytest.warns(UserWarning, match="cannot decide.*measure after the first steps of training"):
        H = measure.HessianOperator(model, CROSS_ENTROPY, data)
    assert H.check_error > 0.1
    torch.testing.assert_close(H @ _vector(H.size), multiplied(model, data=data))  # PyTorch's own, as it says
    moved, data = on_a_kink(bias=0.01)
    assert measure.HessianOperator(moved, CROSS_ENTROPY, data).check_error < 1e-5
    torch.testing.assert_close(product(moved, data=data), multiplied(moved, data=data))


def logits_apart(model: nn.Module, far: float) -> Any:
    """Cross entropy of a network that is sure of all classes, whose smaller probabilities are lost to rounding."""
    kind = next(model.parameters()).dtype

    def loss(outputs, targets):
        return CROSS_ENTROPY(outputs + far * functional.one_hot(targets, 3).to(outputs), targets)

    return model, loss, (X.to(kind), Y)


@pytest.mark.parametrize(
    ("kind", "far", "says"),
    [
        (torch.float32, 35.0, r"Take model.double\(\) and inputs.double\(\), or an earlier checkpoint\.$"),
        (torch.float64, 60.0, r"Measure an earlier checkpoint\.$"),
    ],
)
def test_what_rounding_leaves_of_a_loss_is_blamed_on_no_layer(kind, far, says):
    model = chain(nn.Tanh()).to(kind)
    with pytest.raises(CheckFailed, match=says) as refused:
        product(*logits_apart(model, far))
    assert "second derivative" not in str(refused.value)
    found = product(*logits_apart(model, 5.0)).double()
    exact = multiplied(*logits_apart(deepcopy(model).double(), 5.0))
    assert float((found - exact).norm()) < (1e-8 if kind == torch.float64 else 1e-3) * float(exact.norm())


def test_a_loss_whose_gradient_alone_is_rounding_has_pytorchs_number_and_a_warning():
    problem = logits_apart(chain(nn.Tanh()), 30.0)
    with pytest.warns(UserWarning, match="cannot decide"):
        found = product(*problem)
    exact = multiplied(*problem)
    assert float((found - exact).norm()) < 0.01 * float(exact.norm())
