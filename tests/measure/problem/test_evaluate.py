import pytest
import torch
from torch import nn

from theodolite.measure.problem.evaluate import evaluate, mix
from theodolite.measure.problem.join import objective


def problem(dtype=torch.float64, samples=40):
    generator = torch.Generator().manual_seed(0)
    X = torch.randn(samples, 2, 3, generator=generator, dtype=dtype)
    return X, torch.arange(samples) % 3


def one_by_one(model, loss, data, basis, weights):
    """The plain way: load, run, measure."""
    X, y = data
    losses, hits = [], []
    own = {n: p.detach().clone() for n, p in model.named_parameters()}
    for row in weights:
        model.load_state_dict({n: sum(w * t for w, t in zip(row, basis[n], strict=True)) for n in own}, strict=False)
        with torch.no_grad():
            losses.append(float(loss(model(X), y)))
            hits.append(float((model(X).argmax(1) == y).double().mean()))
    model.load_state_dict(own, strict=False)
    return losses, hits


class Residual(nn.Module):
    """Not a chain: its input also goes round the first layer."""

    def __init__(self):
        super().__init__()
        self.body, self.out = nn.Linear(6, 6), nn.Linear(6, 3)

    def forward(self, x):
        x = x.flatten(1)
        return self.out(x + torch.relu(self.body(x)))


def shared_activation():
    act = nn.ReLU()
    return nn.Sequential(nn.Flatten(), nn.Linear(6, 5), act, nn.Sequential(nn.Linear(5, 5), act), nn.Linear(5, 3))


def tied():
    model = nn.Sequential(nn.Flatten(), nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 6), nn.Linear(6, 3))
    model[3].weight = model[1].weight
    return model


def half_frozen():
    model = nn.Sequential(nn.Flatten(), nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 3))
    model[1].weight.requires_grad_(False)
    return model


def hooked():
    model = nn.Sequential(nn.Flatten(), nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 3))
    model[1].register_forward_hook(lambda module, inputs, outputs: outputs**2)
    return model


def before_the_first_layer():
    return nn.Sequential(nn.ReLU(), nn.Flatten(), nn.Linear(6, 4), nn.Tanh(), nn.Linear(4, 3))


def spectral():
    parametrized = torch.nn.utils.parametrizations.spectral_norm(nn.Linear(6, 4))
    return nn.Sequential(nn.Flatten(), parametrized, nn.Tanh(), nn.Linear(4, 3)).eval()


def branching():
    class Branching(nn.Sequential):
        def forward(self, x):
            x = super().forward(x)
            return x if x.mean() > 0 else -x  # control flow that cannot be batched

    return Branching(nn.Flatten(), nn.Linear(6, 3))


MODELS = [Residual, shared_activation, tied, half_frozen, hooked, before_the_first_layer, spectral, branching]


@pytest.mark.parametrize("make", MODELS)
def test_points_together_are_points_one_by_one(make):
    torch.manual_seed(0)
    model, data, loss = make().double(), problem(), nn.CrossEntropyLoss()
    basis = {n: torch.stack([p.detach(), torch.randn_like(p)]) for n, p in model.named_parameters()}
    if make is half_frozen:
        del basis["1.weight"]
        basis_all = basis | {"1.weight": torch.stack([model[1].weight.detach(), torch.zeros(4, 6).double()])}
    else:
        basis_all = basis
    weights = torch.cat([torch.ones(9, 1), torch.linspace(-1, 1, 9)[:, None]], 1).double()
    values = evaluate(objective(model, loss, data), basis, weights)
    losses, hits = one_by_one(model, loss, data, basis_all, weights)
    assert values.loss.tolist() == pytest.approx(losses, rel=1e-10)
    assert values.accuracy.tolist() == pytest.approx(hits)


def test_data_are_read_once_however_many_points():
    class Counted(list):
        reads = 0

        def __iter__(self):
            Counted.reads += 1
            return super().__iter__()

    model = nn.Sequential(nn.Flatten(), nn.Linear(6, 3)).double()
    whole = objective(model, nn.CrossEntropyLoss(), Counted([problem(), problem(samples=7)]))
    Counted.reads = 0
    basis = {n: p.detach()[None] for n, p in model.named_parameters()}
    evaluate(whole, basis, torch.ones(500, 1))
    assert Counted.reads == 1


def test_loss_of_one_number_in_a_vector_is_a_scalar():
    model = nn.Sequential(nn.Flatten(), nn.Linear(6, 3)).double()

    def loss(outputs, targets):
        return nn.functional.cross_entropy(outputs, targets)[None]

    basis = {n: p.detach()[None] for n, p in model.named_parameters()}
    assert evaluate(objective(model, loss, problem()), basis, torch.ones(5, 1)).loss.shape == (5,)


def test_combination_of_half_precision_tensors_is_rounded_once():
    generator = torch.Generator().manual_seed(0)
    tensors, row = torch.randn(2, 1000, generator=generator).bfloat16(), torch.tensor([0.65, 0.35])
    exact = row.double() @ tensors.double()
    half_a_step = 2**-8 * exact.abs()  # bfloat16 has 8 binary digits
    assert ((mix(row, tensors).double() - exact).abs() <= 1.001 * half_a_step).all()
    plain = row.bfloat16()[0] * tensors[0] + row.bfloat16()[1] * tensors[1]
    assert ((plain.double() - exact).abs() > 1.001 * half_a_step).any()
    assert torch.equal(mix(torch.tensor([0.0, 1.0]), tensors), tensors[1])


WEIGHT = torch.tensor([1.0, 3.0, 0.5], dtype=torch.float64)
CROSS_ENTROPIES = [
    nn.functional.cross_entropy,
    nn.CrossEntropyLoss(weight=WEIGHT, label_smoothing=0.2),
    nn.CrossEntropyLoss(ignore_index=1),
    nn.CrossEntropyLoss(reduction="sum"),
]


@pytest.mark.parametrize("loss", CROSS_ENTROPIES)
def test_cross_entropy_is_what_pytorch_makes_of_it_one_by_one(loss):
    torch.manual_seed(0)
    model, data = nn.Sequential(nn.Flatten(), nn.Linear(6, 3)).double(), problem()
    basis = {n: torch.stack([p.detach(), torch.randn_like(p)]) for n, p in model.named_parameters()}
    weights = torch.randn(6, 2, dtype=torch.float64)
    values = evaluate(objective(model, loss, data), basis, weights)
    assert values.loss.tolist() == pytest.approx(one_by_one(model, loss, data, basis, weights)[0], rel=1e-12)
