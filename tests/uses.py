"""Ways of using a model, each with the loss as a plain script writes it; those of a sceptic's own training scripts.

``tests/measure/test_ways_of_use.py`` has more of them, and compares instruments with the scripts.
"""

import functools
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import cross_entropy, linear, mse_loss, normalize, softplus
from torch.nn.utils import prune
from torch.nn.utils.parametrizations import spectral_norm
from torch.nn.utils.rnn import pack_padded_sequence
from torch.optim.swa_utils import AveragedModel


@dataclass(frozen=True)
class Use:
    """A model, a loss and data as instruments get them, and the loss as a script writes it."""

    model: nn.Module
    loss: Callable[..., Tensor]
    data: Any
    script: Callable[[], Tensor]  # of the model as it is
    options: dict[str, Any] | None = None


def perceptron() -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).double()


def problem(n: int = 40) -> tuple[Tensor, Tensor]:
    return torch.randn(n, 4).double(), torch.randint(0, 3, (n,))


def contrastive() -> Use:
    """Each view is to be nearest to the other of its sample, among all of the batch: InfoNCE."""
    m, (x, _) = perceptron(), problem(20)
    other = x + 0.1 * torch.randn_like(x)

    def loss(o, views):
        return cross_entropy(normalize(o) @ normalize(m(views)).T / 0.5, torch.arange(len(o)))

    return Use(m, loss, (x, other), lambda: loss(m(x), other))


def contrastive_in_batches() -> Use:
    use = contrastive()
    (x, other), loss, m = use.data, use.loss, use.model
    data = [(x[:12], other[:12]), (x[12:], other[12:])]
    return Use(m, loss, data, lambda: 0.6 * loss(m(x[:12]), other[:12]) + 0.4 * loss(m(x[12:]), other[12:]))


def gradient_penalty() -> Use:
    """The critic of a Wasserstein GAN."""
    m = nn.Sequential(nn.Linear(4, 5), nn.Softplus(), nn.Linear(5, 1)).double()
    x, _ = problem()

    def loss(o, t):
        leaf = t.clone().requires_grad_()
        (slope,) = torch.autograd.grad(m(leaf).sum(), leaf, create_graph=True)
        return -o.mean() + 10 * ((slope.norm(dim=1) - 1) ** 2).mean()

    return Use(m, loss, (x, x), lambda: loss(m(x), x))


def averaged_teacher() -> Use:
    m, (x, y) = perceptron(), problem()
    teacher = AveragedModel(m)
    for p in teacher.parameters():
        p.data.add_(0.1)

    def loss(o, t):
        with torch.no_grad():
            wanted = teacher(t[0])
        return cross_entropy(o, t[1]) + mse_loss(o, wanted)

    return Use(m, loss, (x, (x, y)), lambda: loss(m(x), (x, y)))


class Heads(nn.Module):
    """Two tasks, weighted by learned uncertainties."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk, self.kind, self.size = nn.Linear(4, 5), nn.Linear(5, 3), nn.Linear(5, 1)
        self.log_variance = nn.Parameter(torch.tensor([0.2, -0.3]))

    def forward(self, x):
        hidden = torch.tanh(self.trunk(x))
        return {"kind": self.kind(hidden), "size": self.size(hidden)[:, 0], "log": self.log_variance}


def several_heads() -> Use:
    m, (x, y) = Heads().double(), problem()
    targets = {"kind": y, "size": x.sum(1)}

    def loss(o, t):
        each = torch.stack([cross_entropy(o["kind"], t["kind"]), mse_loss(o["size"], t["size"])])
        return (each * (-o["log"]).exp() + o["log"]).sum()

    return Use(m, loss, [(x, targets)], lambda: loss(m(x), targets))


class Temperature(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.log = nn.Parameter(torch.tensor(0.4).double())

    def forward(self, o, t):
        return cross_entropy(o * self.log.exp(), t)


def learned_temperature() -> Use:
    """In the loss, whose own parameters are not measured."""
    m, (x, y), loss = perceptron(), problem(), Temperature()
    return Use(m, loss, (x, y), lambda: loss(m(x), y))


class TiedBothWays(nn.Module):
    """An autoencoder whose decoder is its encoder, transposed."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.randn(3, 4)), nn.Parameter(torch.zeros(4))

    def forward(self, x):
        return linear(torch.tanh(linear(x, self.weight)), self.weight.T, self.bias)


def tied_both_ways() -> Use:
    m, (x, _) = TiedBothWays().double(), problem()
    return Use(m, mse_loss, (x, x), lambda: mse_loss(m(x), x))


class PackedWithin(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.out = nn.GRU(4, 3, batch_first=True), nn.Linear(3, 3)

    def forward(self, x, lengths):
        packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        return self.out(self.rnn(packed)[1][0])


def packed_within() -> Use:
    m, x, y = PackedWithin().double(), torch.randn(9, 5, 4).double(), torch.randint(0, 3, (9,))
    lengths = torch.tensor([5, 3, 2, 5, 1, 4, 4, 2, 3])
    return Use(m, cross_entropy, ((x, lengths), y), lambda: cross_entropy(m(x, lengths), y))


def weighted_samples() -> Use:
    """A mean by weights that come with the batch."""
    m, (x, y), w = perceptron(), problem(), torch.rand(40).double()

    def loss(o, t):
        return (t[1] * cross_entropy(o, t[0], reduction="none")).sum() / t[1].sum()

    data = [(x[:15], (y[:15], w[:15])), (x[15:], (y[15:], w[15:]))]
    return Use(m, loss, data, lambda: loss(m(x), (y, w)), {"samples": lambda batch: float(batch[1][1].sum())})


class LowRank(nn.Module):
    """A frozen layer and what is learned beside it."""

    def __init__(self, base: nn.Linear) -> None:
        super().__init__()
        self.base = base.requires_grad_(False)
        self.a = nn.Parameter(0.3 * torch.randn(2, base.in_features))
        self.b = nn.Parameter(0.3 * torch.randn(base.out_features, 2))

    def forward(self, x):
        return self.base(x) + x @ self.a.T @ self.b.T


def low_rank() -> Use:
    m, (x, y) = nn.Sequential(LowRank(nn.Linear(4, 5)), nn.Tanh(), LowRank(nn.Linear(5, 3))).double(), problem()
    return Use(m, cross_entropy, (x, y), lambda: cross_entropy(m(x), y))


def accumulated() -> Use:
    """A loss divided by the number of steps that gradients are added up over."""
    m, (x, y) = perceptron(), problem()
    data = [(x[i : i + 10], y[i : i + 10]) for i in range(0, 40, 10)]
    loss = lambda o, t: cross_entropy(o, t) / 4  # noqa: E731 - as scripts have it
    return Use(m, loss, data, lambda: cross_entropy(m(x), y), {"reduction": "sum"})


def hooked() -> Use:
    m, (x, y) = perceptron(), problem()
    m[0].register_forward_hook(lambda module, inputs, output: 1.5 * output + 0.1)
    m[2].register_forward_pre_hook(lambda module, inputs: (inputs[0].sin(),))
    return Use(m, cross_entropy, (x, y), lambda: cross_entropy(m(x), y))


class Swish(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x.sigmoid()

    @staticmethod
    def backward(ctx, slope):
        (x,) = ctx.saved_tensors
        s = x.sigmoid()
        return slope * s * (1 + x * (1 - s))


class Swishing(nn.Module):
    def forward(self, x):
        return Swish.apply(x)


def own_function() -> Use:
    m, (x, y) = nn.Sequential(nn.Linear(4, 5), Swishing(), nn.Linear(5, 3)).double(), problem()
    return Use(m, cross_entropy, (x, y), lambda: cross_entropy(m(x), y))


def pruned() -> Use:
    m, (x, y) = perceptron(), problem()
    prune.random_unstructured(m[0], "weight", 0.5)
    return Use(m, cross_entropy, (x, y), lambda: cross_entropy(m(x), y))


def spectrally_normed() -> Use:
    m, (x, y) = perceptron(), problem()
    spectral_norm(m[0])
    m.eval()
    return Use(m, cross_entropy, (x, y), lambda: cross_entropy(m(x), y))


class InnerStep(nn.Module):
    """A network after a step on data of its own: MAML."""

    def __init__(self) -> None:
        super().__init__()
        self.net, (self.x, self.y) = perceptron(), problem(8)

    def forward(self, x):
        own = dict(self.net.named_parameters())
        inner = cross_entropy(torch.func.functional_call(self.net, own, (self.x,)), self.y)
        slopes = torch.autograd.grad(inner, list(own.values()), create_graph=True)
        stepped = {name: p - 0.1 * s for (name, p), s in zip(own.items(), slopes, strict=True)}
        return torch.func.functional_call(self.net, stepped, (x,))


def inner_step() -> Use:
    m, (x, y) = InnerStep(), problem()
    return Use(m, cross_entropy, (x, y), lambda: cross_entropy(m(x), y))


def without_targets() -> Use:
    m, (x, _) = perceptron(), problem()
    loss = lambda o, _: o.logsumexp(1).mean()  # noqa: E731
    return Use(m, loss, (x, None), lambda: loss(m(x), None))


class InputSlopes(nn.Module):
    """The derivative of a scalar network by its inputs, sample by sample, as torch.func has it."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 1))

    def forward(self, x):
        return torch.vmap(torch.func.grad(lambda one: self.inner(one).sum()))(x)


def transformed_within() -> Use:
    m, (x, _) = InputSlopes().double(), problem()
    y = torch.randn_like(x)
    return Use(m, mse_loss, (x, y), lambda: mse_loss(m(x), y))


class AsksItsWeight(nn.Module):
    """What it gives depends on whether its weight is trained, as adapters that are merged into frozen layers do."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = perceptron()

    def forward(self, x):
        return self.inner(x) * (1.0 if self.inner[0].weight.requires_grad else 2.0)


def asks_its_weight() -> Use:
    m, (x, y) = AsksItsWeight(), problem()
    return Use(m, cross_entropy, (x, y), lambda: cross_entropy(m(x), y))


class Encoder(nn.Module):
    """Has a fused form where nothing asks for a gradient, with zeros at masked positions."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(4, 2, 5, 0.0, batch_first=True)
        self.blocks = nn.TransformerEncoder(layer, 1)
        self.out = nn.Linear(4, 3)

    def forward(self, x, masked):
        return self.out(self.blocks(x, src_key_padding_mask=masked)).mean(1)


def fused_and_masked() -> Use:
    m, x = Encoder().double().eval(), torch.randn(20, 3, 4).double()
    masked, y = torch.arange(3) >= torch.randint(1, 4, (20, 1)), torch.randint(0, 3, (20,))

    def script() -> Tensor:
        with sdpa_kernel(SDPBackend.MATH):  # of attention that can be differentiated twice
            return cross_entropy(m(x, masked), y)

    return Use(m, cross_entropy, ((x, masked), y), script)


def compiled_loss() -> Use:
    m, (x, y) = perceptron(), problem()

    def loss(o, t):
        return cross_entropy(o, t) + o.pow(4).mean()

    return Use(m, torch.compile(loss, backend="aot_eager"), (x, y), lambda: loss(m(x), y))


def scripted() -> Use:
    (x, y) = problem()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        m = torch.jit.script(perceptron())
    return Use(m, cross_entropy, (x, y), lambda: cross_entropy(m(x), y))


class Waves(nn.Module):
    """Complex factors of frequencies, kept as real and imaginary parts."""

    def __init__(self) -> None:
        super().__init__()
        self.factors, self.out = nn.Parameter(torch.randn(3, 2)), nn.Linear(4, 3)

    def forward(self, x):
        waves = torch.fft.rfft(x, dim=1) * torch.view_as_complex(self.factors)
        return self.out(torch.fft.irfft(waves, n=4, dim=1).tanh())


def complex_factors() -> Use:
    """21 numbers: in a block of vectors every second one begins at an odd place, where PyTorch takes none."""
    m, (x, y) = Waves().double(), problem()
    return Use(m, cross_entropy, (x, y), lambda: cross_entropy(m(x), y))


def adversarial() -> Use:
    """On inputs that were moved to where the loss is larger, which no gradient goes through."""
    m, (x, y) = perceptron(), problem()

    def loss(_, t):
        leaf = t[0].clone().requires_grad_()
        (slope,) = torch.autograd.grad(cross_entropy(m(leaf), t[1]), leaf)
        return cross_entropy(m((leaf + 0.1 * slope.sign()).detach()), t[1])

    return Use(m, loss, (x, (x, y)), lambda: loss(None, (x, y)))


def seeded_within() -> Use:
    """Dropout in evaluation too, from a seed that the model sets."""
    m, (x, y) = perceptron(), problem()
    inner = m.forward

    def forward(z):
        torch.manual_seed(3)
        return inner(nn.functional.dropout(z, 0.3))

    m.forward = forward
    return Use(m, cross_entropy, (x, y), lambda: cross_entropy(m(x), y))


def smoothed_weighted_and_ignored() -> Use:
    m, (x, y) = perceptron(), problem()
    y[3:8] = -100
    loss = nn.CrossEntropyLoss(weight=torch.tensor([0.0, 1.0, 4.0]).double(), label_smoothing=0.2)
    return Use(m, loss, [(x[:7], y[:7]), (x[7:], y[7:])], lambda: loss(m(x), y))


USES = (
    contrastive, contrastive_in_batches, gradient_penalty, averaged_teacher, several_heads, learned_temperature,
    tied_both_ways, packed_within, weighted_samples, low_rank, accumulated, hooked, own_function, pruned,
    spectrally_normed, inner_step, without_targets, transformed_within, asks_its_weight, fused_and_masked,
    compiled_loss, scripted, complex_factors, adversarial, seeded_within, smoothed_weighted_and_ignored,
)  # fmt: skip


def spectral_norm_in_training() -> nn.Module:
    """Whose power iteration goes on in every call."""
    m = perceptron()
    spectral_norm(m[0])
    return m


class Written(nn.Module):
    """A layer whose weight is bounded, in place or on its way."""

    def __init__(self, *, in_place: bool) -> None:
        super().__init__()
        self.a, self.b, self.in_place = nn.Linear(4, 5), nn.Linear(5, 3), in_place

    def forward(self, x):
        if self.in_place:
            self.a.weight.data.clamp_(-0.2, 0.2)
        return self.b(softplus(linear(x, self.a.weight.clamp(-0.2, 0.2), self.a.bias)))


class Kept(nn.Module):
    """A weight made of a parameter, once or in each call."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.weight, self.out, self.how, self.kept = nn.Parameter(torch.randn(5, 4)), nn.Linear(5, 3), how, None
        self.once = functools.lru_cache(self._made)

    def _made(self) -> Tensor:
        return normalize(self.weight)

    def forward(self, x):
        if self.kept is None or self.how == "anew":
            self.kept = self._made()
        return self.out(torch.tanh(x @ (self.once() if self.how == "by a function" else self.kept).T))


class Masked(nn.Module):
    """A layer of which a part is not trained: by a hook on its gradient, or as written."""

    def __init__(self, *, hook: bool) -> None:
        super().__init__()
        self.a, self.b, self.hook = nn.Linear(4, 5), nn.Linear(5, 3), hook
        self.register_buffer("mask", torch.tensor([[1.0], [1.0], [0.0], [0.0], [1.0]]))
        if hook:
            self.a.weight.register_hook(lambda slope: slope * self.mask)

    def forward(self, x):
        weight = self.a.weight
        if not self.hook:
            weight = weight * self.mask + (weight * (1 - self.mask)).detach()
        return self.b(torch.tanh(linear(x, weight, self.a.bias)))


class OneMemory(nn.Module):
    """Two parameters over the same numbers."""

    def __init__(self) -> None:
        super().__init__()
        numbers = torch.randn(4, 3).double()
        self.a, self.b = nn.Parameter(numbers), nn.Parameter(numbers[:])

    def forward(self, x):
        return torch.tanh(x @ self.a) + (x @ self.b) ** 2


class Expanded(nn.Module):
    """A parameter whose numbers are one and the same."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.out = nn.Parameter(torch.randn(4, 1).double().expand(4, 5)), nn.Linear(5, 3).double()

    def forward(self, x):
        return self.out(torch.tanh(x @ self.a))


class Stateful(nn.Module):
    """Goes on from where its last call ended."""

    def __init__(self) -> None:
        super().__init__()
        self.cell, self.out, self.state = nn.GRUCell(4, 5), nn.Linear(5, 3), None

    def forward(self, x):
        state = self.cell(x, self.state)
        self.state = state.detach()
        return self.out(state)


class Clipping(nn.Module):
    """Clips the gradient on its way, which makes a product with the second derivative no linear one."""

    def forward(self, x):
        if x.requires_grad:
            x.register_hook(lambda slope: slope.clamp(-0.003, 0.003))
        return x


class Counting(nn.Module):
    """Gives more from its seventh call on."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.calls = perceptron(), 0

    def forward(self, x):
        self.calls += 1
        return self.inner(x) * (1.5 if self.calls > 6 else 1.0)


class RunningScale(nn.Module):
    """Cross entropy by its own running mean."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.ones(()).double())

    def forward(self, o, t):
        value = cross_entropy(o, t)
        if self.training:
            self.mean.mul_(0.9).add_(0.1 * value.detach())
        return value / self.mean


class Annealed:
    """A loss that grows with each call."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, o, t):
        self.calls += 1
        return cross_entropy(o, t) * self.calls
