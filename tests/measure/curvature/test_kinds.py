"""Fisher matrices and the covariance of gradients, against sums over samples and classes by hand."""

import pytest
import torch
from torch import nn
from torch.nn import functional

import cases
import oracles
from theodolite.errors import BadData, BadLoss, SettingError, TooLarge
from theodolite.measure import HessianOperator, hessian_eigenvalues, hessian_spectrum, hessian_trace

PLAIN = [(layer, "cross_entropy") for layer in cases.LAYERS] + [
    ("tanh", loss) for loss in cases.LOSSES if loss not in ("cross_entropy", "class_weights", "ignore_index")
]  # a sample's loss alone is its share of the batch's


def squares(layer, loss, operator):
    case = cases.make(layer, loss)
    rows = oracles.own_gradients(case.model, case.loss, case.batches)
    return case, rows.mT @ rows / len(rows) if operator == "empirical_fisher" else torch.cov(rows.mT, correction=0)


def relative(found, expected):
    return float((found - expected).abs().max() / expected.abs().max())


@pytest.mark.sampled(3)
@pytest.mark.parametrize("operator", ["empirical_fisher", "gradient_covariance"])
@pytest.mark.parametrize(("layer", "loss"), PLAIN)
def test_squares_of_gradients_are_those_of_samples_taken_alone(layer, loss, operator):
    case, expected = squares(layer, loss, operator)
    F = HessianOperator(case.model, case.loss, case.batches, operator=operator)
    assert relative(F.to_dense(), expected) < 1e-9
    assert F.check_error < 1e-5


def test_a_sum_is_a_sum_of_squares():
    case, expected = squares("tanh", "mse", "gradient_covariance")
    loss = lambda z, y: ((z - y) ** 2).sum() / 3  # noqa: E731 - ten times the mean over ten samples
    C = HessianOperator(case.model, loss, case.batches, operator="gradient_covariance", reduction="sum")
    assert relative(C.to_dense(), 10 * expected) < 1e-10


def test_a_sample_weighs_in_the_empirical_fisher_as_in_the_gradient():
    case = cases.make("tanh", "class_weights")
    whole = sum(oracles.divisor(case.loss, y) for _, y in case.batches)
    shares = torch.tensor([float(case.loss.weight[t]) / whole for _, y in case.batches for t in y], dtype=torch.float64)
    parts = shares[:, None] * oracles.own_gradients(case.model, case.loss, case.batches)
    assert torch.allclose(parts.sum(0), oracles.gradient(case.model, case.loss, case.batches))
    F = HessianOperator(case.model, case.loss, case.batches, operator="empirical_fisher")
    assert relative(F.to_dense(), len(shares) * parts.mT @ parts) < 1e-10


@pytest.mark.parametrize(("layer", "loss"), [("layer_norm", "cross_entropy"), ("conv2d", "cross_entropy")])
def test_microbatches_and_graphs_made_anew_give_the_same_numbers(layer, loss):
    case, expected = squares(layer, loss, "gradient_covariance")
    one = [tuple(torch.cat(part) for part in zip(*case.batches, strict=True))]
    for batches, memory in ((one, None), (one, "20kB"), (case.batches, "20kB")):
        C = HessianOperator(case.model, case.loss, batches, operator="gradient_covariance", memory=memory)
        assert relative(C.to_dense(), expected) < 1e-9


def by_classes(model, batches, likelihood, outcomes):
    """1/N Σ_n Σ_y p(y) g gᵀ with the gradient of -log p(y) through the whole model, class by class."""
    parameters, total, samples = oracles.trainable(model), 0.0, 0
    for x, _ in batches:
        for row in x:
            for y in outcomes:
                logp = likelihood(model(row[None])[0], y)
                g = oracles._row(logp, parameters)
                total = total + float(logp.detach().exp()) * g.outer(g)
            samples += 1
    return total / samples


def log_probabilities(z, y):
    return torch.log_softmax(z, -1)[y]


LOG_SOFTMAX = nn.LogSoftmax(-1)
CLASSIFIERS = {  # a last layer, a loss, and log p(y | outputs)
    "cross entropy": (nn.Identity(), nn.CrossEntropyLoss(), log_probabilities),
    "negative log likelihood": (LOG_SOFTMAX, nn.NLLLoss(), lambda z, y: z[y]),
    "a loss of one's own": (nn.Identity(), lambda z, y: functional.nll_loss(z.log_softmax(-1), y), log_probabilities),
    "one of probabilities": (
        nn.Softmax(-1),
        lambda z, y: -z.gather(1, y[:, None]).log().mean(),
        lambda z, y: z[y].log(),
    ),
}


@pytest.mark.sampled(3)
@pytest.mark.parametrize("layer", ["tanh", "attention", "gru"])
@pytest.mark.parametrize("name", CLASSIFIERS)
def test_the_fisher_matrix_is_the_sum_over_all_classes(name, layer):
    last, loss, likelihood = CLASSIFIERS[name]
    case = cases.make(layer, "cross_entropy")
    model = nn.Sequential(case.model, last)
    expected = by_classes(model, case.batches, likelihood, range(3))
    F = HessianOperator(model, loss, case.batches, operator="fisher")
    assert relative(F.to_dense(), expected) < 1e-9
    assert F.check_error < 1e-5


def test_the_fisher_matrix_of_a_coin_is_the_sum_over_its_sides():
    torch.manual_seed(0)
    logits = nn.Sequential(nn.Linear(8, 4), nn.Tanh(), nn.Linear(4, 1)).double()
    data = [(torch.randn(n, 8).double(), torch.ones(n, 1).double()) for n in (5, 2)]
    expected = by_classes(logits, data, lambda z, y: functional.logsigmoid(z[0] if y else -z[0]), (0, 1))
    for model, loss in (
        (logits, nn.BCEWithLogitsLoss()),
        (nn.Sequential(logits, nn.Sigmoid()), nn.BCELoss()),
    ):
        F = HessianOperator(model, loss, data, operator="fisher")
        assert relative(F.to_dense(), expected) < 1e-9


def test_the_fisher_matrix_of_counts_and_of_numbers_has_its_closed_form():
    """A linear model: Xᵀ diag(variance of the score) X, rates for counts and 2 for squares of one output."""
    torch.manual_seed(0)
    model, x = nn.Linear(3, 1, bias=False).double(), torch.randn(9, 3).double()
    rate = model(x).detach().exp()
    data = x, torch.poisson(rate)
    for loss, variance in ((nn.PoissonNLLLoss(), rate), (nn.MSELoss(), torch.full_like(rate, 2))):
        F = HessianOperator(model, loss, data, operator="fisher")
        assert relative(F.to_dense(), x.mT @ (variance * x) / 9) < 1e-12


def test_ignored_targets_count_for_nothing():
    case = cases.make("tanh", "cross_entropy")
    model, (x, y) = nn.Sequential(case.model, LOG_SOFTMAX), case.batches[0]
    kept = [(x[2:], y[2:])]
    ignored = torch.cat([torch.full((2,), -100), y[2:]])
    expected = by_classes(model, kept, lambda z, c: z[c], range(3))
    F = HessianOperator(model, nn.NLLLoss(), (x, ignored), operator="fisher")
    assert relative(F.to_dense(), expected) < 1e-9


@pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")  # curvlinops' own dependency calls it
def test_curvlinops_and_eigenthings_agree_on_the_empirical_fisher():
    from curvlinops import EFLinearOperator
    from hessian_eigenthings.operators.fisher import EmpiricalFisherOperator
    from torch.func import functional_call

    case = cases.make("tanh", "cross_entropy")
    F = HessianOperator(case.model, case.loss, case.batches, operator="empirical_fisher")
    v = torch.randn(F.size, dtype=torch.float64)
    other = EFLinearOperator(case.model, case.loss, list(case.model.parameters()), case.batches) @ v
    assert torch.allclose(F @ v, other, rtol=1e-8, atol=1e-12)

    def of_one(model, sample):
        return case.loss(model(sample[0][None]), sample[1][None])

    assert functional_call  # what it calls the model by
    x, y = (torch.cat(parts) for parts in zip(*case.batches, strict=True))
    other = EmpiricalFisherOperator(case.model, [(x, y)], of_one).matvec(v)
    assert torch.allclose(F @ v, other, rtol=1e-8, atol=1e-12)


@pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")
def test_the_fisher_matrix_is_the_mean_of_curvlinops_draws():
    from curvlinops import FisherMCLinearOperator

    case = cases.make("tanh", "cross_entropy")
    F = HessianOperator(case.model, case.loss, case.batches, operator="fisher")
    v = torch.randn(F.size, dtype=torch.float64)
    draws = (
        FisherMCLinearOperator(case.model, case.loss, list(case.model.parameters()), case.batches, mc_samples=4000) @ v
    )
    assert float((F @ v - draws).norm() / draws.norm()) < 0.05


def test_every_instrument_takes_them():
    case, expected = squares("tanh", "cross_entropy", "gradient_covariance")
    given = case.model, case.loss, case.batches
    values = torch.linalg.eigvalsh(expected)
    top = hessian_eigenvalues(*given, k=2, operator="gradient_covariance", tolerance=1e-10)
    assert torch.allclose(top.eigenvalues, values[-2:])
    assert top.operator == "gradient_covariance"
    every = hessian_spectrum(*given, operator="gradient_covariance").eigenvalues
    assert torch.allclose(every, values, atol=1e-12)
    trace = hessian_trace(*given, operator="gradient_covariance", products=600)
    assert trace.value == pytest.approx(float(values.sum()))
    layered = hessian_trace(*given, operator="empirical_fisher", products=400)
    rows = oracles.own_gradients(*given)
    assert layered.method == "layer by layer"
    assert layered.value == pytest.approx(float(rows.square().sum() / len(rows)))


@pytest.mark.parametrize("operator", ["empirical_fisher", "gradient_covariance"])
@pytest.mark.parametrize("layer", cases.ONE_BATCH)
def test_samples_that_are_mixed_have_no_gradients_of_their_own(layer, operator):
    case = cases.make(layer, "cross_entropy")
    with pytest.raises(BadLoss, match=r"BatchNorm mixes samples in training mode"):
        HessianOperator(case.model, case.loss, case.batches, operator=operator)


REFUSED = {
    "smoothed labels": (nn.CrossEntropyLoss(label_smoothing=0.1), "CrossEntropyLoss with label_smoothing"),
    "class weights": (nn.CrossEntropyLoss(weight=torch.ones(3).double()), "CrossEntropyLoss with weight"),
    "a margin": (nn.MultiMarginLoss(), "got MultiMarginLoss: it has no Fisher matrix"),
    "log probabilities that are none": (nn.NLLLoss(), "exponentials do not add up to one"),
    "a loss of one's own that is none": (lambda z, y: functional.cross_entropy(2 * z, y) / 2, "add up to"),
    "a mean of outputs": (lambda z, y: z.square().mean(), "add up to"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_loss_that_is_no_likelihood_has_no_fisher_matrix(name):
    loss, words = REFUSED[name]
    case = cases.make("tanh", "cross_entropy")
    with pytest.raises(BadLoss, match=words):
        HessianOperator(case.model, loss, case.batches, operator="fisher")


def test_targets_that_are_numbers_and_a_loss_of_one_s_own_are_no_likelihood():
    case = cases.make("tanh", "own")
    with pytest.raises(BadLoss, match=r"a loss of your own that is not over classes"):
        HessianOperator(case.model, case.loss, case.batches, operator="fisher")


def test_more_classes_than_fit_are_refused_with_a_way_round():
    model = nn.Linear(1, 257).double()
    data = torch.randn(5, 1).double(), torch.arange(5)
    with pytest.raises(TooLarge, match="at most 256 classes"):
        HessianOperator(model, lambda z, y: functional.cross_entropy(z, y), data, operator="fisher")
    F = HessianOperator(model, nn.CrossEntropyLoss(), data, operator="fisher")
    p, (X, _) = model(data[0]).detach().softmax(1), data
    X = torch.cat([X, torch.ones(5, 1)], 1)  # a bias is the weight of an input of one: 1/N Σ x xᵀ ⊗ (diag(p) - p pᵀ)
    blocks = torch.einsum("ni,nj,nab->iajb", X, X, torch.diag_embed(p) - p[:, :, None] * p[:, None]) / 5
    V = torch.randn(514, 3).double()
    assert relative(F @ V, blocks.reshape(514, 514) @ V) < 1e-9


def test_samples_that_are_no_rows_are_refused():
    case = cases.make("tanh", "cross_entropy")
    with pytest.raises(SettingError, match="samples= to be left out"):
        HessianOperator(case.model, case.loss, case.batches, operator="empirical_fisher", samples=lambda b: 2.0)
    summed = cases.Lambda(lambda x, a: a(x).mean(0), a=nn.Linear(8, 3).double())
    data = case.batches[0][0], torch.tensor([0.2, 0.3, 0.5]).double()
    with pytest.raises(BadData, match=r"a row for each of 5 samples, got shape \(3,\)"):
        HessianOperator(summed, nn.CrossEntropyLoss(), data, operator="empirical_fisher")


@pytest.mark.parametrize("operator", ["empirical_fisher", "gradient_covariance"])
def test_a_penalty_is_no_sample_s_own(operator):
    case = cases.make("attention", "mse")
    penalised = lambda z, y: case.loss(z, y) + sum(p.square().sum() for p in case.model.parameters())  # noqa: E731
    with pytest.raises(BadLoss, match="Leave the penalty out"):
        HessianOperator(case.model, penalised, case.batches, operator=operator)
