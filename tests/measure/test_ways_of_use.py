"""Ways in which people use a model, a loss and their data: the number is the one of a plain script, or refused.

Truth is a script of its own: ``loss(model(inputs), targets)`` over the batches, its derivatives taken by the model's
own parameters one entry after the other. It shares nothing with the package.
"""

import pytest
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import cross_entropy, mse_loss
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from torch.utils.checkpoint import checkpoint
from torch.utils.data import DataLoader, Dataset, TensorDataset

import uses
from theodolite import measure
from uses import Use, perceptron, problem


def penalty_by_model() -> Use:
    m, (x, y) = perceptron(), problem()

    def loss(o, t):
        return cross_entropy(o, t) + 0.3 * sum(p.pow(2).sum() for p in m.parameters())

    return Use(m, loss, (x, y), lambda: loss(m(x), y))


def penalty_by_caught_parameters() -> Use:
    m, (x, y) = perceptron(), problem()
    weights = [p for p in m.parameters() if p.ndim == 2]

    def loss(o, t):
        return cross_entropy(o, t) + 0.1 * sum((w**2).sum() for w in weights)

    return Use(m, loss, (x, y), lambda: loss(m(x), y))


class Anchored(nn.Module):
    """A loss module that holds the model, and where it was: elastic weight consolidation."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.before = [p.detach() + 0.1 for p in model.parameters()]

    def forward(self, o, t):
        far = sum((p - b).pow(2).sum() for p, b in zip(self.model.parameters(), self.before, strict=True))
        return cross_entropy(o, t) + 0.2 * far


def penalty_in_a_loss_module() -> Use:
    m, (x, y) = perceptron(), problem()
    loss = Anchored(m)
    return Use(m, loss, (x, y), lambda: loss(m(x), y))


def orthogonality() -> Use:
    m, (x, y) = perceptron(), problem()

    def loss(o, t):
        gram = m[0].weight @ m[0].weight.T
        return cross_entropy(o, t) + 0.05 * (gram - torch.eye(5).double()).pow(2).sum()

    return Use(m, loss, [(x[:30], y[:30]), (x[30:], y[30:])], lambda: loss(m(x), y))


def model_called_again() -> Use:
    m, (x, y) = perceptron(), problem()
    return Use(m, lambda o, t: cross_entropy(m(x), t), (x, y), lambda: cross_entropy(m(x), y))


def consistency() -> Use:
    m, (x, y) = perceptron(), problem()
    moved = x + 0.1

    def loss(o, t):
        return cross_entropy(o, t) + (o - m(moved)).pow(2).mean()

    return Use(m, loss, (x, y), lambda: loss(m(x), y))


class Checkpointed(nn.Module):
    def __init__(self, *, reentrant: bool) -> None:
        super().__init__()
        self.a, self.b, self.reentrant = nn.Linear(4, 5), nn.Linear(5, 3), reentrant

    def forward(self, x):
        hidden = checkpoint(lambda z: torch.tanh(self.a(z)), x, use_reentrant=self.reentrant)
        return self.b(hidden)


def checkpointed() -> Use:
    m, (x, y) = Checkpointed(reentrant=False).double(), problem()
    return Use(m, cross_entropy, (x, y), lambda: cross_entropy(m(x), y))


def a_sum() -> Use:
    m, (x, y) = perceptron(), problem()
    loss = nn.CrossEntropyLoss(reduction="sum")
    return Use(m, loss, [(x[:25], y[:25]), (x[25:], y[25:])], lambda: loss(m(x), y))


def a_sum_of_ones_own() -> Use:
    m, (x, y) = perceptron(), problem()

    def loss(o, t):
        return cross_entropy(o, t, reduction="sum")

    return Use(m, loss, [(x[:25], y[:25]), (x[25:], y[25:])], lambda: loss(m(x), y), {"reduction": "sum"})


def class_weights() -> Use:
    m, (x, y) = perceptron(), problem()
    loss = nn.CrossEntropyLoss(weight=torch.tensor([0.1, 1.0, 4.0]).double())
    return Use(m, loss, [(x[:7], y[:7]), (x[7:], y[7:])], lambda: loss(m(x), y))


def ignored() -> Use:
    m, (x, y) = perceptron(), problem()
    y[::3] = -100
    y[:5] = -100
    return Use(m, cross_entropy, [(x[:5], y[:5]), (x[5:12], y[5:12]), (x[12:], y[12:])], lambda: cross_entropy(m(x), y))


def nan_marked_targets() -> Use:
    m, (x, _) = perceptron(), problem()
    t = torch.randn(40, 3).double()
    t[::4] = torch.nan

    def loss(o, targets):
        known = ~targets.isnan()
        return (o[known] - targets[known]).pow(2).sum() / known.sum()

    return Use(m, loss, (x, t), lambda: loss(m(x), t))


class Masked(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attend, self.out = nn.MultiheadAttention(4, 2, batch_first=True), nn.Linear(4, 3)

    def forward(self, x, mask):
        return self.out(self.attend(x, x, x, attn_mask=mask[0], need_weights=False)[0].mean(1))


def infinite_mask() -> Use:
    m = Masked().double()
    x, y = torch.randn(12, 3, 4).double(), torch.randint(0, 3, (12,))
    mask = torch.triu(torch.full((3, 3), -torch.inf), 1).double().expand(12, 3, 3).contiguous()

    def script():
        with sdpa_kernel(SDPBackend.MATH):  # the fused kernel has no second derivative
            return cross_entropy(m(x, mask), y)

    return Use(m, cross_entropy, ((x, mask), y), script)


def mixed_up() -> Use:
    m, (x, y) = perceptron(), problem()
    other = y.flip(0)
    lam = torch.tensor(0.3).double()

    def loss(o, t):
        return t[0] * cross_entropy(o, t[1]) + (1 - t[0]) * cross_entropy(o, t[2])

    data = [(x[a:b], (lam, y[a:b], other[a:b])) for a, b in ((0, 30), (30, 40))]
    return Use(m, loss, data, lambda: loss(m(x), (lam, y, other)))


class Detector(nn.Module):
    """Takes a list of images of several sizes."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.out = nn.Conv2d(3, 2, 3, padding=1), nn.Linear(2, 2)

    def forward(self, images):
        return torch.stack([self.out(torch.tanh(self.conv(i[None])).mean((2, 3)))[0] for i in images])


def lists_of_images() -> Use:
    m = Detector().double()
    images = [torch.randn(3, 4 + i, 5).double() for i in range(5)]
    boxes = [{"box": torch.randn(2).double()} for _ in images]

    def loss(o, targets):
        return mse_loss(o, torch.stack([t["box"] for t in targets]))

    return Use(m, loss, [(images[:4], boxes[:4]), (images[4:], boxes[4:])], lambda: loss(m(images), boxes))


class TimeFirst(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.out = nn.GRU(4, 3), nn.Linear(3, 3)

    def forward(self, x):
        return self.out(self.rnn(x)[0][-1])


def time_first() -> Use:
    m = TimeFirst().double()
    x, y = torch.randn(6, 10, 4).double(), torch.randint(0, 3, (10,))
    data = [(x[:, :7], y[:7]), (x[:, 7:], y[7:])]
    return Use(m, cross_entropy, data, lambda: cross_entropy(m(x), y), {"samples": lambda batch: len(batch[1])})


class Packed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.out = nn.GRU(4, 3, batch_first=True), nn.Linear(3, 3)

    def forward(self, packed):
        return self.out(pad_packed_sequence(self.rnn(packed)[0], batch_first=True)[0].mean(1))


def packed_sequences() -> Use:
    m = Packed().double()
    x, y = torch.randn(6, 5, 4).double(), torch.randint(0, 3, (6,))
    packed = pack_padded_sequence(x, torch.tensor([5, 4, 4, 3, 2, 1]), batch_first=True)
    return Use(m, cross_entropy, (packed, y), lambda: cross_entropy(m(packed), y))


class Tokens(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.out = nn.Embedding(7, 4), nn.Linear(4, 7)

    def forward(self, tokens):
        return self.out(torch.tanh(self.embed(tokens))).flatten(0, 1)


def flattened_targets() -> Use:
    m = Tokens().double()
    tokens, following = torch.randint(0, 7, (9, 5)), torch.randint(0, 7, (9, 5))
    data = [(tokens[:6], following[:6].flatten()), (tokens[6:], following[6:].flatten())]
    return Use(m, cross_entropy, data, lambda: cross_entropy(m(tokens), following.flatten()))


class Graph(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 5), nn.Linear(5, 3)

    def forward(self, x, adjacency):
        return self.b(adjacency @ torch.tanh(self.a(adjacency @ x)))


def graph() -> Use:
    m, (x, y) = Graph().double(), problem()
    A = (torch.rand(40, 40) < 0.2).double() / 8
    return Use(m, cross_entropy, ((x, A), y), lambda: cross_entropy(m(x, A), y))


def sparse_graph() -> Use:
    m, (x, y) = Graph().double(), problem()
    A = ((torch.rand(40, 40) < 0.2).double() / 8).to_sparse_coo().coalesce()
    return Use(m, cross_entropy, ((x, A), y), lambda: cross_entropy(m(x, A), y))


def whole_batch_weights() -> Use:
    m, (x, y) = perceptron(), problem(100)
    w = torch.rand(100).double()

    def loss(o, t):
        return (w * cross_entropy(o, t, reduction="none")).mean()

    return Use(m, loss, (x, y), lambda: loss(m(x), y))


class FixedView(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 5), nn.Linear(5, 3)

    def forward(self, x):
        return self.b(torch.tanh(self.a(x).view(40, 5)))


def fixed_view() -> Use:
    m, (x, y) = FixedView().double(), problem()
    return Use(m, cross_entropy, (x, y), lambda: cross_entropy(m(x), y))


def physics() -> Use:
    m = nn.Sequential(nn.Linear(1, 6), nn.Tanh(), nn.Linear(6, 1)).double()
    x = torch.linspace(0, 1, 20).double()[:, None].requires_grad_()

    def loss(u, t):
        (slope,) = torch.autograd.grad(u.sum(), x, create_graph=True)
        return (slope + u).pow(2).mean()

    return Use(m, loss, (x, torch.zeros(20, 1).double()), lambda: loss(m(x), None))


class InPlace(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 5), nn.Linear(5, 3)

    def forward(self, x):
        return self.b(torch.tanh(self.a(x.sub_(x.mean(1, keepdim=True)).mul_(1.5))))


def writes_its_input() -> Use:
    m, (x, y) = InPlace().double(), problem()
    return Use(m, cross_entropy, (x, y), lambda: cross_entropy(m(x.clone()), y))


class Keeps(nn.Module):
    """Keeps its features on itself, for a loss or a picture."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 5), nn.Linear(5, 3)
        self.features = None
        self.history: list[Tensor] = []

    def forward(self, x):
        self.features = torch.tanh(self.a(x))
        self.history.append(self.features)
        return self.b(self.features)


def features_kept() -> Use:
    m, (x, y) = Keeps().double(), problem()

    def loss(o, t):
        return cross_entropy(o, t) + 0.1 * m.features.abs().pow(3).mean()

    return Use(m, loss, (x, y), lambda: loss(m(x), y))


def collated() -> Use:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Bilinear(4, 4, 3)

        def forward(self, x, z):
            return torch.tanh(self.a(x, z))

    m, (x, y) = Two().double(), problem()
    z = torch.randn(40, 4).double()
    rows = [((a, b), int(c)) for a, b, c in zip(x, z, y, strict=True)]
    return Use(m, cross_entropy, DataLoader(rows, batch_size=16), lambda: cross_entropy(m(x, z), y))


def a_dataset() -> Use:
    m, (x, y) = perceptron(), problem(300)
    return Use(m, cross_entropy, TensorDataset(x, y), lambda: cross_entropy(m(x), y))


def bare_pair_of_two_targets() -> Use:
    m, (x, y) = perceptron(), problem()
    z = torch.randn(40, 3).double()

    def loss(o, t):
        return cross_entropy(o, t[0]) + mse_loss(o, t[1])

    return Use(m, loss, (x, (y, z)), lambda: loss(m(x), (y, z)))


class Graphs:
    """As PyTorch Geometric gives them."""

    def __init__(self, x, edge_index, y) -> None:
        self.x, self.edge_index, self.y, self.num_nodes = x, edge_index, y, len(x)

    def to(self, device):
        return self


class OnGraphs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 5), nn.Linear(5, 3)

    def forward(self, batch):
        source, target = batch.edge_index
        hidden = torch.tanh(self.a(batch.x))
        return self.b(torch.zeros_like(hidden).index_add(0, target, hidden[source]))


def graph_batches() -> Use:
    m, (x, y) = OnGraphs().double(), problem()
    edges = torch.randint(0, 40, (2, 90))
    batch = Graphs(x, edges, y)
    return Use(m, cross_entropy, [batch], lambda: cross_entropy(m(batch), y))


def graph_pair() -> Use:
    """A loss that reads more of a graph than its targets."""
    use = graph_batches()
    whole = use.data[0]

    def loss(o, g):
        return (cross_entropy(o, g.y, reduction="none") * g.x.detach().mean().exp()).mean()

    return Use(use.model, loss, (whole, whole), lambda: loss(use.model(whole), whole))


def renormalised() -> Use:
    class Text(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.out = nn.Embedding(7, 4, max_norm=50.0), nn.Linear(4, 3)

        def forward(self, tokens):
            return self.out(torch.tanh(self.embed(tokens).sum(1)))

    m = Text().double()
    tokens, y = torch.randint(0, 7, (20, 3)), torch.randint(0, 3, (20,))
    return Use(m, cross_entropy, (tokens, y), lambda: cross_entropy(m(tokens), y))


def compiled() -> Use:
    m, (x, y) = perceptron(), problem()
    return Use(torch.compile(m, backend="eager"), cross_entropy, (x, y), lambda: cross_entropy(m(x), y))


def parallel() -> Use:
    m, (x, y) = perceptron(), problem()
    return Use(nn.DataParallel(m), cross_entropy, (x, y), lambda: cross_entropy(m(x), y))


USES = {
    use.__name__: use
    for use in (
        penalty_by_model, penalty_by_caught_parameters, penalty_in_a_loss_module, orthogonality, model_called_again,
        consistency, checkpointed, a_sum, a_sum_of_ones_own, class_weights, ignored, nan_marked_targets, infinite_mask,
        mixed_up, lists_of_images, time_first, packed_sequences, flattened_targets, graph, sparse_graph,
        whole_batch_weights, fixed_view, physics, writes_its_input, features_kept, collated, a_dataset,
        bare_pair_of_two_targets, graph_batches, graph_pair, renormalised, compiled, parallel, *uses.USES,
    )
}  # fmt: skip


def made(name: str) -> Use:
    torch.manual_seed(0)
    return USES[name]()


def parameters(use: Use) -> list[nn.Parameter]:
    return [p for p in use.model.parameters() if p.requires_grad]


def gradient(use: Use, *, graph: bool = False) -> Tensor:
    parts = torch.autograd.grad(use.script(), parameters(use), create_graph=graph, materialize_grads=True)
    return torch.cat([part.flatten() for part in parts])


def hessian(use: Use) -> Tensor:
    rows = []
    for entry in gradient(use, graph=True):
        parts = torch.autograd.grad(entry, parameters(use), retain_graph=True, materialize_grads=True)
        rows.append(torch.cat([part.flatten() for part in parts]))
    return torch.stack(rows)


def moved_loss(use: Use, step: Tensor) -> float:
    start = [p.detach().clone() for p in parameters(use)]
    for p, part in zip(parameters(use), step.split([p.numel() for p in parameters(use)]), strict=True):
        p.data.add_(part.view_as(p))
    value = float(use.script().detach())
    for p, before in zip(parameters(use), start, strict=True):
        p.data.copy_(before)
    return value


def close(a: float, b: float, rtol: float = 1e-8) -> bool:
    return abs(a - b) <= rtol * (abs(a) + abs(b)) + 1e-12


@pytest.mark.parametrize("name", USES)
def test_the_gradient_is_that_of_a_script(name):
    use = made(name)
    found = measure.gradient_norm(use.model, use.loss, use.data, **use.options or {})
    assert close(found.value, float(gradient(use).norm()))
    assert close(found.loss, float(use.script().detach()))


@pytest.mark.sampled(3)
@pytest.mark.parametrize("name", USES)
def test_products_with_the_hessian_are_those_of_a_script(name):
    use = made(name)
    expected = hessian(use)
    H = measure.HessianOperator(use.model, use.loss, use.data, **use.options or {})
    found = H @ torch.eye(len(expected)).double()
    assert torch.allclose(found, expected, rtol=1e-7, atol=1e-9 * float(expected.abs().max()))
    assert H.check_error < 1e-3


@pytest.mark.sampled(3)
@pytest.mark.parametrize("name", USES)
def test_spectrum_and_trace_are_those_of_a_script(name):
    use = made(name)
    expected = torch.linalg.eigvalsh(hessian(use))
    found = measure.hessian_spectrum(use.model, use.loss, use.data, **use.options or {})
    assert torch.allclose(found.eigenvalues, expected, rtol=1e-6, atol=1e-9 * float(expected.abs().max()))
    top = measure.hessian_eigenvalues(use.model, use.loss, use.data, k=1, **use.options or {})
    assert close(float(top.eigenvalues.max()), float(expected.max()), 1e-5)


@pytest.mark.parametrize("name", USES)
def test_the_loss_of_moved_weights_is_that_of_a_script(name):
    use = made(name)
    rise = measure.sharpness(use.model, use.loss, use.data, method="sam", radius=0.05, **use.options or {})
    slope = gradient(use)
    expected = moved_loss(use, 0.05 * slope / slope.norm()) - float(use.script().detach())
    assert close(rise.value, expected, 1e-6)
    direction = torch.randn(2, len(slope), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    plane = measure.surface(
        use.model, use.loss, use.data, directions=direction, x=[-0.1, 0.0, 0.2], y=[0.0, 0.1], **use.options or {}
    )
    for i, y in enumerate((0.0, 0.1)):
        for j, x in enumerate((-0.1, 0.0, 0.2)):
            assert close(float(plane.loss[i, j]), moved_loss(use, x * direction[0] + y * direction[1]), 1e-7)


@pytest.mark.sampled(3)
@pytest.mark.parametrize("name", USES)
def test_nothing_of_the_users_is_changed(name):
    use = made(name)
    model = getattr(use.model, "_orig_mod", use.model)
    before = {n: t.clone() for n, t in model.state_dict().items()}
    kept = {id(m): set(vars(m)) for m in model.modules()}
    random = torch.get_rng_state()
    measure.gradient_norm(use.model, use.loss, use.data, **use.options or {})
    measure.hessian_eigenvalues(use.model, use.loss, use.data, k=1, **use.options or {})
    assert torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(t, before[n]) for n, t in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())
    assert {id(m): set(vars(m)) for m in model.modules()} == kept
    if isinstance(model, Keeps):
        assert model.features is None
        assert not model.history


class Flipped(Dataset):
    """Augmented with a generator of its own."""

    def __init__(self) -> None:
        self.x, self.y = problem(60)
        self.draw = torch.Generator().manual_seed(3)

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, i):
        flip = bool(torch.rand((), generator=self.draw) < 0.5)
        return self.x[i].flip(0) if flip else self.x[i], self.y[i]


def over_tokens(outputs, targets):
    return cross_entropy(outputs.flatten(0, 1), targets.flatten())  # divides by the targets that are not -100


def ignoring():
    """Two batches of sequences, the second with fewer tokens that count."""
    draw = torch.Generator().manual_seed(0)
    batches = [
        (torch.randn(6, 5, 4, dtype=torch.float64, generator=draw), torch.randint(0, 3, (6, 5), generator=draw))
        for _ in range(2)
    ]
    batches[1][1][:3, 1:] = -100
    return batches


REFUSED = {
    "augmented": lambda: (perceptron(), cross_entropy, DataLoader(Flipped(), batch_size=20), "same data at every"),
    "unsaid sum": lambda: (
        perceptron(), lambda o, t: cross_entropy(o, t, reduction="sum"), [problem(30), problem(7)], "reduction='sum'"
    ),
    "a mean over tokens, unevenly ignored": lambda: (
        nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3)).double(), over_tokens, ignoring(), "samples=lambda"
    ),
    "time first, uneven": lambda: (
        TimeFirst().double(), cross_entropy,
        [(torch.randn(6, 7, 4).double(), torch.randint(0, 3, (7,))),
         (torch.randn(6, 3, 4).double(), torch.randint(0, 3, (3,)))], "samples=lambda",
    ),
    "an annealed loss": lambda: (perceptron(), uses.Annealed(), problem(), "fix the randomness"),
    "a loss with a running mean": lambda: (
        perceptron(), uses.RunningScale(), problem(), r"keep 'mean' .* Call eval\(\)"
    ),
    "spectral norm in training": lambda: (
        uses.spectral_norm_in_training(), cross_entropy, problem(), r"Call (model\.)?eval\(\)"
    ),
    "a weight written in place": lambda: (
        uses.Written(in_place=True).double(), cross_entropy, problem(), "writes into 'a.weight'"
    ),
    "a weight kept": lambda: (uses.Kept("once").double(), cross_entropy, problem(), "kept from an earlier call"),
    "a weight kept by a function": lambda: (
        uses.Kept("by a function").double(), cross_entropy, problem(), "Compute it in each call"
    ),
    "a hook on a gradient": lambda: (
        uses.Masked(hook=True).double(), cross_entropy, problem(), "'a.weight' has a hook"
    ),
    "two parameters in one memory": lambda: (uses.OneMemory(), cross_entropy, problem(), "'a' shares that of 'b'"),
    "data without numbers": lambda: (perceptron(), cross_entropy, [t.to("meta") for t in problem()], "batch 0 is on"),
    "targets that a loss writes": lambda: (
        perceptron(), lambda o, t: cross_entropy(o, t.add_(1).remainder_(3)), problem(), r"targets.clone\(\)"
    ),
    "several numbers in one place": lambda: (uses.Expanded(), cross_entropy, problem(), "those of 'a' share theirs"),
    "a state from call to call": lambda: (uses.Stateful().double(), cross_entropy, problem(), "reset in forward"),
    "a batch of one in training": lambda: (
        nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Linear(5, 3)).double(), cross_entropy,
        [problem(9), problem(1)], "drop_last=True",
    ),
    "a loss that reads a graph": lambda: (
        OnGraphs().double(), lambda o, g: cross_entropy(o, g.y), graph_batches().data, r"Pass \(graph, graph\)"
    ),
    "triples": lambda: (perceptron(), cross_entropy, [(*problem(8), torch.ones(8))], r"\(y, w\)"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("instrument", ["gradient_norm", "hessian_eigenvalues", "sharpness"])
def test_what_has_no_one_answer_is_refused_with_what_to_do(name, instrument):
    from theodolite.errors import MeasurementError

    torch.manual_seed(0)
    model, loss, data, words = REFUSED[name]()
    before = {n: t.clone() for n, t in model.state_dict().items()}
    with pytest.raises(MeasurementError, match=words):
        getattr(measure, instrument)(model, loss, data)
    assert all(torch.equal(t, before[n]) for n, t in model.state_dict().items())
    if name == "triples":
        for batch in data:
            measure.gradient_norm(model, lambda o, t: (t[1] * cross_entropy(o, t[0], reduction="none")).mean(),
                                  [(batch[0], (batch[1], batch[2]))])  # fmt: skip


def test_a_reentrant_checkpoint_is_refused_and_its_advice_helps():
    from theodolite.errors import MeasurementError

    m, data = Checkpointed(reentrant=True).double(), problem()
    with pytest.raises(MeasurementError, match="use_reentrant=False"):
        measure.hessian_eigenvalues(m, cross_entropy, data, k=1)
    m.reentrant = False
    measure.hessian_eigenvalues(m, cross_entropy, data, k=1)


def test_a_hook_that_clips_is_seen_by_a_product_that_is_not_linear():
    from theodolite.errors import CheckFailed

    torch.manual_seed(0)
    m = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), uses.Clipping(), nn.Linear(5, 3)).double()
    with pytest.raises(CheckFailed, match="linear"):
        measure.HessianOperator(m, cross_entropy, problem())
    m[2] = nn.Identity()
    measure.HessianOperator(m, cross_entropy, problem())


def test_a_model_that_counts_its_calls_is_refused_by_what_calls_it_often():
    from theodolite.errors import NotDeterministic

    torch.manual_seed(0)
    m, data = uses.Counting(), problem()
    with pytest.raises(NotDeterministic, match="call to call"):
        measure.surface(m, cross_entropy, data, x=[0.0, 0.1], y=[0.0, 0.1])
    m.calls = 7
    found = measure.surface(m, cross_entropy, data, x=[0.0, 0.1], y=[0.0, 0.1])
    assert float(found.loss[0, 0]) == pytest.approx(float(cross_entropy(m(data[0]), data[1]).detach()))


def test_gauss_newton_of_a_loss_with_a_penalty_is_refused():
    from theodolite.errors import BadLoss

    use = made("penalty_by_model")
    with pytest.raises(BadLoss, match="not defined for that part"):
        measure.HessianOperator(use.model, use.loss, use.data, operator="ggn")


def test_a_frozen_weight_that_is_written_is_refused_and_put_back():
    from theodolite.errors import BadModel

    m, data = uses.Written(in_place=True).double(), problem()
    before = m.a.weight.detach().clone()
    with pytest.raises(BadModel, match=r"writes into 'a.weight'"):
        measure.gradient_norm(m, cross_entropy, data, parameters="b.*")
    assert torch.equal(m.a.weight, before)


class HalfWithin(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 5).bfloat16(), nn.Linear(5, 3)

    def forward(self, x):
        return self.b(torch.tanh(self.a(x.bfloat16()).float()))


def test_one_layer_in_half_precision_is_measured_as_a_script_does():
    torch.manual_seed(0)
    m, (x, y) = HalfWithin(), problem()
    expected = torch.autograd.grad(cross_entropy(m(x.float()), y), list(m.parameters()))
    found = measure.gradient_norm(m, cross_entropy, (x.float(), y))
    assert found.value == pytest.approx(float(torch.cat([g.float().flatten() for g in expected]).norm()), rel=1e-2)


def test_layers_out_of_reach_give_zeros():
    m = perceptron()
    m.aux = nn.Linear(2, 2).double()
    m.forward = lambda x: m[2](m[1](m[0](x)))
    data = problem()
    assert measure.gradient_norm(m, cross_entropy, data, parameters="aux.*").value == 0
    H = measure.HessianOperator(m, cross_entropy, data, parameters="aux.*")
    assert not (H @ torch.eye(6).double()).any()
    assert not measure.hessian_spectrum(m, cross_entropy, data, parameters="aux.*").eigenvalues.any()


def test_a_mean_over_tokens_is_that_of_all_data_once_samples_says_so():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3)).double()
    batches = ignoring()
    whole = tuple(torch.cat(parts) for parts in zip(*batches, strict=True))
    loss = over_tokens(model(whole[0]), whole[1])
    gradient = torch.cat([part.flatten() for part in torch.autograd.grad(loss, list(model.parameters()))])
    found = measure.gradient_norm(model, over_tokens, batches, samples=lambda batch: int((batch[1] >= 0).sum()))
    assert found.value == pytest.approx(float(gradient.norm()), rel=1e-12)
    even = [(x, y.masked_fill(y < 0, 0).index_fill(1, torch.tensor([2]), -100)) for x, y in batches]
    assert measure.gradient_norm(model, over_tokens, even).value > 0  # as many count in each: nothing to say
