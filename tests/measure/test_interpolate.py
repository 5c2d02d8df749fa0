import pytest
import torch
from torch import nn

from theodolite.errors import BadModel, SettingError
from theodolite.measure.interpolate import interpolate, on_lines


def test_line_between_linear_models_is_the_closed_form(linear):
    V = torch.flip(linear.weight, (0, 1))
    alphas = torch.linspace(-1, 2, 31, dtype=torch.float64)
    line = interpolate(linear.model, linear.at(V), nn.MSELoss(), linear.batches, alphas)
    expected = [linear.loss((1 - a) * linear.weight + a * V) for a in alphas]
    assert torch.allclose(line.loss, torch.tensor(expected, dtype=torch.float64), rtol=1e-12)
    assert line.accuracy.isnan().all()
    assert line.ends == pytest.approx((linear.loss(linear.weight), linear.loss(V)), rel=1e-12)


def test_interpolation_at_zero_is_the_first_model_and_at_one_the_second(two_cnns):
    a, b, (X, y) = two_cnns
    loss = nn.CrossEntropyLoss()
    line = interpolate(a, b, loss, (X, y), [0, 1])
    for model, value, accuracy in zip((a, b), line.loss, line.accuracy, strict=True):
        assert float(value) == pytest.approx(float(loss(model(X), y).detach()), rel=1e-12)
        assert float(accuracy) == float((model(X).argmax(1) == y).double().mean())


def test_every_alpha_is_a_model_with_those_weights_and_statistics_loaded(two_cnns):
    a, b, (X, y) = two_cnns
    line = interpolate(a, b, nn.CrossEntropyLoss(), [(X[:5], y[:5]), (X[5:], y[5:])], [0.25, 0.5, 0.9, 0.99])
    for alpha, value in zip(line.alphas, line.loss, strict=True):
        first, second = a.state_dict(), b.state_dict()
        middle = {n: t + alpha * (second[n] - t) if t.is_floating_point() else t for n, t in first.items()}
        probe = two_cnns.fresh()
        probe.load_state_dict(middle)
        assert float(value) == pytest.approx(float(nn.functional.cross_entropy(probe.eval()(X), y).detach()), rel=1e-10)


def test_barrier_of_a_symmetric_double_well_is_its_height():
    ends = [nn.Linear(1, 1, bias=False) for _ in range(2)]
    for model, weight in zip(ends, (-1.0, 1.0), strict=True):
        nn.init.constant_(model.weight, weight)
    data = torch.ones(4, 1), torch.zeros(4, 1)
    line = interpolate(*ends, lambda o, _: ((o**2 - 1) ** 2).mean(), data, [0.25, 0.5, 3.0])  # 3.0 is off the path
    assert line.barrier == pytest.approx(1)
    assert line.barrier_above_line == pytest.approx(1)


def test_barrier_is_measured_from_the_mean_of_the_ends_and_above_the_line_from_the_line():
    ends = [nn.Linear(1, 1, bias=False) for _ in range(2)]
    for model, weight in zip(ends, (0.0, 1.0), strict=True):
        nn.init.constant_(model.weight, weight)
    data = torch.ones(4, 1), torch.zeros(4, 1)
    line = interpolate(*ends, nn.MSELoss(), data, [0.5])  # alpha², convex: no point above the line
    assert line.barrier == pytest.approx(0.5)
    assert line.barrier_above_line == pytest.approx(0)


def test_error_barrier_is_that_of_the_share_classified_wrongly():
    ends = [nn.Linear(1, 2, bias=False) for _ in range(2)]
    with torch.no_grad():
        ends[0].weight.copy_(torch.tensor([[1.0], [0.0]]))
        ends[1].weight.copy_(torch.tensor([[0.0], [-1.0]]))  # both say class 0 for x = 1
    data = torch.ones(4, 1), torch.zeros(4, dtype=torch.int64)
    line = interpolate(*ends, nn.CrossEntropyLoss(), data, [0.5, 2.0])
    assert line.error_barrier == 0
    assert line.accuracy.tolist() == [1, 1]


def test_renewed_statistics_are_those_of_batch_norm_on_the_whole_data(two_cnns):
    a, b, (X, y) = two_cnns
    line = interpolate(a, b, nn.CrossEntropyLoss(), (X, y), [0.5], update_bn=(X, y))
    probe = two_cnns.fresh()
    second = b.state_dict()
    probe.load_state_dict({n: (t + second[n]) / 2 if t.is_floating_point() else t for n, t in a.state_dict().items()})
    layer = next(m for m in probe.modules() if isinstance(m, nn.BatchNorm2d))
    given = []
    layer.register_forward_pre_hook(lambda _, inputs: given.append(inputs[0].detach()))
    probe.eval()(X)
    layer.running_mean.copy_(given[0].mean((0, 2, 3)))
    layer.running_var.copy_(given[0].var((0, 2, 3)))
    assert float(line.loss) == pytest.approx(float(nn.functional.cross_entropy(probe(X), y).detach()), rel=1e-10)


def test_statistics_stay_those_of_the_nearer_end_outside_the_line(two_cnns):
    a, b, data = two_cnns
    with torch.no_grad():
        next(m for m in b.modules() if isinstance(m, nn.BatchNorm2d)).running_var.mul_(10)
    assert interpolate(a, b, nn.CrossEntropyLoss(), data, [-1, 2]).loss.isfinite().all()


def test_models_that_do_not_match_are_named_by_their_parameter(linear):
    data, loss = linear.batches, nn.MSELoss()
    with pytest.raises(BadModel, match="'weight' of model 2 has shape"):
        interpolate(linear.model, nn.Linear(4, 2, bias=False), loss, data, [0.5])
    with pytest.raises(BadModel, match="'bias' is only in model 2"):
        interpolate(linear.model, nn.Linear(3, 2), loss, data, [0.5])
    with pytest.raises(BadModel, match="'weight' of model 2 holds NaN"):
        interpolate(linear.model, linear.at(linear.weight * torch.inf), loss, data, [0.5])


@pytest.mark.parametrize("alphas", [[], [float("nan")], [[0.0, 1.0]]])
def test_alphas_that_are_no_list_of_numbers_are_refused(linear, alphas):
    with pytest.raises(SettingError, match="alphas"):
        interpolate(linear.model, linear.model, nn.MSELoss(), linear.batches, alphas)


def test_several_sets_give_what_each_gives_and_statistics_are_renewed_once_for_all(two_cnns):
    a, b, (X, y) = two_cnns
    loss, alphas, calls = nn.CrossEntropyLoss(), [0.25, 0.5], []
    sets = [[(X[:5], y[:5])], [(X[5:], y[5:])], (X, y)]
    found = on_lines(a, b, loss, sets, alphas, update_bn=(X, y))
    for data, line in zip(sets, found, strict=True):
        assert line == interpolate(a, b, loss, data, alphas, update_bn=(X, y))
    layer = next(module for module in a.modules() if isinstance(module, nn.BatchNorm2d))
    for number in (1, 3):
        del calls[:]
        with layer.register_forward_hook(lambda module, inputs, _: calls.append(module.training)):
            on_lines(a, b, loss, sets[:number], alphas, update_bn=(X, y))
        assert calls.count(True) == 4  # one at each end and each alpha
