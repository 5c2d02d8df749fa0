"""Random models with random losses on random splits of data.

A ``Recipe`` is plain data that Hypothesis draws, prints and shrinks; ``build`` makes of it what a user would have:
model, loss, batches, and what the loss of a batch was divided by. ``random_outcomes`` asks instruments about them.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import partial
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrizations import weight_norm


class Attention(nn.Module):
    """One head of scaled_dot_product_attention, causal, over positions of three features."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(3, 9)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).unsqueeze(1).chunk(3, -1)
        return functional.scaled_dot_product_attention(q, k, v, is_causal=True).squeeze(1)


class SelfAttention(nn.MultiheadAttention):
    def __init__(self) -> None:
        super().__init__(3, 1, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x, x, x, need_weights=False)[0]


class Recurrent(nn.Module):
    def __init__(self, kind: type[nn.RNNBase]) -> None:
        super().__init__()
        self.layer = kind(3, 1, batch_first=True)
        self.out = nn.Linear(1, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.layer(x)[0])


class Joined(nn.Module):
    """Chains from one tensor to another of its shape, joined."""

    def __init__(self, how: str, chains: list[nn.Module]) -> None:
        super().__init__()
        self.how = how
        self.chains = nn.ModuleList(chains)

    def forward(self, x: Tensor) -> Tensor:
        first, *others = self.chains
        if self.how == "residual":
            return x + first(x)
        if self.how == "shared":
            return first(first(x))
        return first(x) + others[0](x) if self.how == "sum" else first(x) * torch.sigmoid(others[0](x))


class Positions(nn.Module):
    """Logits of each position, with the classes as the second dimension."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x).mT


def _normed(kind: type[nn.Module], *sizes: Any, **options: Any) -> nn.Module:
    return weight_norm(kind(*sizes, **options))


Blocks = dict[str, Callable[[], nn.Module]]
ACTIVATIONS: Blocks = {
    "tanh": nn.Tanh, "relu": nn.ReLU, "gelu": nn.GELU, "silu": nn.SiLU, "elu": nn.ELU, "softplus": nn.Softplus,
    "sigmoid": nn.Sigmoid, "softmax": partial(nn.Softmax, -1), "prelu": nn.PReLU, "mish": nn.Mish,
    "relu_in_place": partial(nn.ReLU, inplace=True), "leaky_relu": nn.LeakyReLU,
    "dropout_of_none": partial(nn.Dropout, 0.0),
}  # fmt: skip
FLAT: Blocks = ACTIVATIONS | {
    "linear": partial(nn.Linear, 4, 4),
    "linear_without_bias": partial(nn.Linear, 4, 4, bias=False),
    "weight_norm": partial(_normed, nn.Linear, 4, 4),
    "layer_norm": partial(nn.LayerNorm, 4),
    "rms_norm": partial(nn.RMSNorm, 4, eps=1e-3),
    "group_norm": partial(nn.GroupNorm, 1, 4),
    "batch_norm": partial(nn.BatchNorm1d, 4),
    "batch_norm_without_statistics": partial(nn.BatchNorm1d, 4, track_running_stats=False),
}
SEQUENCE: Blocks = ACTIVATIONS | {
    "linear": partial(nn.Linear, 3, 3),
    "conv": partial(nn.Conv1d, 2, 2, 3, padding=1),
    "weight_norm": partial(_normed, nn.Linear, 3, 3),
    "layer_norm": partial(nn.LayerNorm, 3),
    "rms_norm": partial(nn.RMSNorm, 3, eps=1e-3),
    "group_norm": partial(nn.GroupNorm, 1, 2),
    "batch_norm": partial(nn.BatchNorm1d, 2),
    "attention": Attention,
    "multihead_attention": SelfAttention,
    "transformer": partial(nn.TransformerEncoderLayer, 3, 1, 2, 0.0, batch_first=True),
    "rnn": partial(Recurrent, nn.RNN),
    "gru": partial(Recurrent, nn.GRU),
    "lstm": partial(Recurrent, nn.LSTM),
}
IMAGE: Blocks = ACTIVATIONS | {
    "conv": partial(nn.Conv2d, 2, 2, (1, 3), padding=(0, 1)),
    "conv_of_groups": partial(nn.Conv2d, 2, 2, 3, padding=1, groups=2),
    "conv_of_a_pixel": partial(nn.Conv2d, 2, 2, 1, bias=False),
    "weight_norm": partial(_normed, nn.Conv2d, 2, 2, 3, padding=1),
    "conv_transpose": partial(nn.ConvTranspose2d, 2, 2, 3, padding=1, groups=2),
    "max_pool": partial(nn.MaxPool2d, 3, 1, 1),
    "average_pool": partial(nn.AvgPool2d, 3, 1, 1),
    "layer_norm": partial(nn.LayerNorm, (2, 2)),
    "group_norm": partial(nn.GroupNorm, 2, 2),
    "instance_norm": partial(nn.InstanceNorm2d, 2, affine=True),
    "batch_norm": partial(nn.BatchNorm2d, 2),
}


@dataclass(frozen=True)
class Trunk:
    inputs: Callable[[int], Tensor]
    stem: Callable[[], nn.Module]
    blocks: Blocks
    positions: tuple[int, ...]  # of outputs that are not one a sample
    head: Callable[[], nn.Module]
    head_of_positions: Callable[[], nn.Module]


def _flattened(features: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(features, 3))


TRUNKS = {
    "features": Trunk(
        lambda n: torch.randn(n, 3), partial(nn.Linear, 3, 4), FLAT, (), *[partial(nn.Linear, 4, 3)] * 2
    ),
    "sequence": Trunk(
        lambda n: torch.randn(n, 2, 3), partial(nn.Linear, 3, 3), SEQUENCE, (2,), partial(_flattened, 6), Positions
    ),
    "tokens": Trunk(
        lambda n: torch.randint(0, 3, (n, 2)), partial(nn.Embedding, 3, 3), SEQUENCE, (2,), partial(_flattened, 6),
        Positions,
    ),
    "padded_tokens": Trunk(
        lambda n: torch.randint(0, 4, (n, 2)), partial(nn.Embedding, 4, 3, padding_idx=0), SEQUENCE, (2,),
        partial(_flattened, 6), Positions,
    ),
    "renormed_tokens": Trunk(  # every call writes rows of the weight that are too long
        lambda n: torch.randint(0, 3, (n, 2)), partial(nn.Embedding, 3, 3, max_norm=1.5), SEQUENCE, (2,),
        partial(_flattened, 6), Positions,
    ),
    "image": Trunk(
        lambda n: torch.randn(n, 1, 3, 3), partial(nn.Conv2d, 1, 2, 2), IMAGE, (2, 2), partial(_flattened, 8),
        partial(nn.Conv2d, 2, 3, 1),
    ),
}  # fmt: skip

Function = Callable[[Tensor, Tensor], Tensor]
Divisor = Callable[[Tensor], float]


@dataclass(frozen=True)
class Loss:
    make: Callable[[nn.Module, Tensor], Function]  # of the model, and inputs that are in no batch
    targets: Callable[..., Tensor]  # of (n, *positions)
    divisor: Divisor | None = len  # by what a batch's mean was divided; None: the loss is a sum
    options: dict[str, Any] = field(default_factory=dict)  # that instruments have to be given


class Penalised(nn.Module):
    """A loss that holds the model."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
        penalty = sum(p.pow(2).sum() for p in self.model.parameters())
        return functional.cross_entropy(outputs, targets) + 0.1 * penalty


def _penalised(model: nn.Module, _: Tensor) -> Function:
    return lambda o, t: functional.mse_loss(o, t) + 0.3 * sum(p.pow(4).sum() for p in model.parameters())


def _again(model: nn.Module, more: Tensor) -> Function:
    return lambda o, t: functional.mse_loss(o, t) + (model(more) - o.mean(0)).pow(2).mean()


def _physics(model: nn.Module, more: Tensor) -> Function:
    """A loss with the derivative of outputs by inputs; tokens have none."""

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        where = more.clone().requires_grad_(more.is_floating_point())
        values = model(where)
        if more.is_floating_point():
            (values,) = torch.autograd.grad(values.sin().sum(), where, create_graph=True)
        return functional.mse_loss(outputs, targets) + values.pow(2).mean()

    return loss


def _classes(*shape: int) -> Tensor:
    return torch.randint(0, 3, shape)


def _numbers(n: int, *positions: int) -> Tensor:
    return torch.randn(n, 3, *positions)


def _shares(n: int, *positions: int) -> Tensor:
    return torch.softmax(torch.randn(n, 3, *positions), 1)


WEIGHTS = (0.25, 1.0, 3.0)  # of the classes, the same numbers in both precisions


def _weights(model: nn.Module) -> Tensor:
    return torch.tensor(WEIGHTS, dtype=next(model.parameters()).dtype)


def _kept(targets: Tensor) -> float:
    return float((targets != 0).sum())


def _weighed(targets: Tensor) -> float:
    return sum(WEIGHTS[t] for t in targets.flatten().tolist())


def _weighed_and_kept(targets: Tensor) -> float:
    return sum(WEIGHTS[t] for t in targets.flatten().tolist() if t != 0)


def _plain(loss: Function) -> Callable[[nn.Module, Tensor], Function]:
    return lambda model, more: loss


LOSSES = {
    "cross_entropy": Loss(_plain(nn.CrossEntropyLoss()), _classes),
    "class_weights": Loss(lambda m, x: nn.CrossEntropyLoss(_weights(m)), _classes, _weighed),
    "class_weights_of_a_function": Loss(
        lambda m, x: partial(functional.cross_entropy, weight=_weights(m)), _classes, _weighed
    ),
    "ignore_index": Loss(_plain(nn.CrossEntropyLoss(ignore_index=0)), _classes, _kept),
    "label_smoothing": Loss(_plain(nn.CrossEntropyLoss(label_smoothing=0.1)), _classes),
    "all_of_these": Loss(
        lambda m, x: nn.CrossEntropyLoss(_weights(m), ignore_index=0, label_smoothing=0.1), _classes, _weighed_and_kept
    ),
    "cross_entropy_sum": Loss(
        lambda m, x: nn.CrossEntropyLoss(_weights(m), reduction="sum", ignore_index=0), _classes, None
    ),
    "shares": Loss(_plain(nn.CrossEntropyLoss()), _shares),
    "mse": Loss(_plain(nn.MSELoss()), _numbers),
    "mse_sum": Loss(_plain(nn.MSELoss(reduction="sum")), _numbers, None),
    "huber": Loss(_plain(nn.HuberLoss()), _numbers),
    "smooth_l1_sum": Loss(_plain(nn.SmoothL1Loss(reduction="sum")), _numbers, None),
    "l1": Loss(_plain(nn.L1Loss()), _numbers),
    "bce": Loss(_plain(nn.BCEWithLogitsLoss()), _shares),
    "bce_sum": Loss(_plain(nn.BCEWithLogitsLoss(reduction="sum")), _shares, None),
    "poisson": Loss(_plain(nn.PoissonNLLLoss()), _shares),
    "kl": Loss(
        _plain(lambda o, t: functional.kl_div(functional.log_softmax(o, 1), t, reduction="batchmean")), _shares
    ),
    "own_mean": Loss(_plain(lambda o, t: torch.log1p((o - t) ** 2).mean()), _numbers),
    "own_sum": Loss(
        _plain(lambda o, t: torch.log1p((o - t) ** 2).sum()), _numbers, None, {"reduction": "sum"}
    ),
    "own_count": Loss(  # a mean over the targets that are there
        _plain(lambda o, t: ((o - t) ** 2)[t > 0].mean()), _numbers, lambda t: float((t > 0).sum()),
        {"samples": lambda batch: float((batch[1] > 0).sum())},
    ),
    "penalty": Loss(_penalised, _numbers),
    "penalty_of_a_module": Loss(lambda m, x: Penalised(m), _classes),
    "calls_the_model_again": Loss(_again, _numbers),
    "physics": Loss(_physics, _numbers),
}  # fmt: skip


@dataclass(frozen=True)
class Recipe:
    trunk: str
    blocks: tuple[Any, ...]  # names, and (how to join, chain, ...)
    loss: str
    sizes: tuple[int, ...] = (4,)
    operator: str = "hessian"
    positions: bool = False  # outputs for each position, not one a sample
    training: bool = False
    tied: bool = False  # the first two equal shapes of weights
    frozen: tuple[int, ...] = ()  # parameter tensors, by number
    measured: int | None = None  # one trainable tensor, by number, or, if the number is even, its layer; None: all
    memory: str | None = None  # that an instrument of curvature may take
    single: bool = False  # precision
    seed: int = 0


MEMORY = (None, None, "1 GB", "300 KB", "60 KB")  # graphs are kept; made anew; refused, or one sample after the other
SPLITS = ((4,), (5, 1, 4), (3, 3, 3), (2, 5), (1, 2), (3, 0, 4), (20,), (6, 17))  # samples a batch


def _chains(blocks: Blocks) -> st.SearchStrategy[tuple[Any, ...]]:
    names = st.sampled_from(sorted(blocks))
    one, few = st.tuples(names), st.lists(names, min_size=1, max_size=2).map(tuple)
    alone = st.tuples(st.sampled_from(["residual", "shared"]), few)
    beside = st.tuples(st.sampled_from(["sum", "product"]), one, one)
    return st.lists(names | alone | beside, max_size=2).map(tuple)


def recipes(loss: str) -> st.SearchStrategy[Recipe]:
    """All that can come with a loss: strategies alone would seldom draw some of the losses."""
    return st.sampled_from(sorted(TRUNKS)).flatmap(
        lambda trunk: st.builds(
            Recipe,
            trunk=st.just(trunk),
            blocks=_chains(TRUNKS[trunk].blocks),
            loss=st.just(loss),
            sizes=st.sampled_from(SPLITS),
            operator=st.sampled_from(["hessian", "hessian", "ggn"]),
            positions=st.booleans(),
            training=st.booleans(),
            tied=st.booleans(),
            frozen=st.lists(st.integers(0, 5), max_size=2, unique=True).map(tuple),
            measured=st.none() | st.integers(0, 9),
            memory=st.sampled_from(MEMORY),
            single=st.booleans(),
            seed=st.integers(0, 2**16),
        )
    )


@dataclass(frozen=True)
class Problem:
    """What a user has."""

    model: nn.Module
    loss: Function
    batches: list[tuple[Tensor, Tensor]]
    divisor: Divisor | None
    options: dict[str, Any]
    pattern: str | None = None  # of the parameters measured

    @property
    def data(self) -> Any:
        return self.batches[0] if len(self.batches) == 1 else self.batches

    @property
    def parameters(self) -> list[nn.Parameter]:
        return [
            p for name, p in self.model.named_parameters() if p.requires_grad and fnmatchcase(name, self.pattern or "*")
        ]


def _chain(blocks: Blocks, chain: tuple[Any, ...]) -> list[nn.Module]:
    return [
        blocks[block]() if isinstance(block, str)
        else Joined(block[0], [nn.Sequential(*_chain(blocks, part)) for part in block[1:]])
        for block in chain
    ]  # fmt: skip


def _tie(model: nn.Module) -> None:
    seen: dict[torch.Size, nn.Parameter] = {}
    for module in model.modules():
        if isinstance(module, (nn.Linear, nn.Embedding, nn.Conv2d)) and "weight" in module._parameters:
            module.weight = seen.setdefault(module.weight.shape, module.weight)


def _pattern(model: nn.Module, number: int | None) -> str | None:
    if number is None:
        return None
    names = [name for name, p in model.named_parameters() if p.requires_grad]
    name = names[number % len(names)]
    return name if number % 2 else f"{name.partition('.')[0]}.*"


def build(recipe: Recipe, *, double: bool = False) -> Problem:
    """Model, loss and data of a recipe; ``double``: the same numbers in float64."""
    torch.manual_seed(recipe.seed)
    trunk, loss = TRUNKS[recipe.trunk], LOSSES[recipe.loss]
    head = trunk.head_of_positions if recipe.positions else trunk.head
    model = nn.Sequential(trunk.stem(), *_chain(trunk.blocks, recipe.blocks), head())
    if recipe.tied:
        _tie(model)
    for p in model.parameters():  # norms and biases start where all is symmetric
        p.data += 0.1 * torch.randn_like(p)
    places = trunk.positions if recipe.positions else ()
    raw = [(trunk.inputs(n), loss.targets(n, *places)) for n in recipe.sizes]
    more = trunk.inputs(3)
    model.train()
    for _ in range(3):  # running statistics that are not the defaults
        model(trunk.inputs(10))
    model.train(recipe.training)
    own = list(model.parameters())
    for number in recipe.frozen:
        if len(own) > 2:
            own[number % len(own)].requires_grad_(False)

    dtype = torch.float32 if recipe.single and not double else torch.float64
    model = model.to(dtype)

    def cast(t: Tensor) -> Tensor:
        return t.to(dtype) if t.is_floating_point() else t

    batches = [(cast(x), cast(t)) for x, t in raw]
    pattern = _pattern(model, recipe.measured)
    return Problem(model, loss.make(model, cast(more)), batches, loss.divisor, loss.options, pattern)
