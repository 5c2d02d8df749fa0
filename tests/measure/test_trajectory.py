import copy

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from torch import nn
from torch.nn.utils import prune

from theodolite.errors import BadModel, SettingError, UnknownName
from theodolite.measure.trajectory import trajectory


def walks(runs, steps, size, seed=0):
    return np.random.default_rng(seed).standard_normal((runs, steps, size)).cumsum(1)


def test_coordinates_are_those_of_scikit_learn_on_all_runs_together():
    paths = walks(3, 5, 8)
    result = trajectory(paths)
    fit = PCA(2).fit(paths.reshape(15, 8))
    expected = fit.transform(paths.reshape(15, 8)).reshape(3, 5, 2)
    assert np.allclose(np.abs(result.coordinates), np.abs(expected))
    assert np.allclose(result.explained_variance, fit.explained_variance_ratio_)
    assert np.allclose(result.explained_variance_by_run[1], PCA(2).fit(paths[1]).explained_variance_ratio_)


def test_random_walk_in_many_dimensions_has_the_shares_of_the_null():
    result = trajectory(walks(1, 300, 5_000), components=3)
    assert result.random_walk == pytest.approx(np.array([0.6079, 0.1520, 0.0675]), abs=1e-4)
    assert result.explained_variance_by_run[0] == pytest.approx(result.random_walk, abs=0.02)


def test_lengths_and_distances_are_those_of_the_full_space():
    paths = walks(3, 4, 6)
    result = trajectory(paths)
    for run in range(3):
        for step in range(3):
            expected = sum((paths[run, step + 1] - paths[run, step]) ** 2) ** 0.5
            assert result.step_lengths[run, step] == pytest.approx(expected)
        assert result.distance_from_start[run, 3] == pytest.approx(sum((paths[run, 3] - paths[run, 0]) ** 2) ** 0.5)
    assert result.pairs == ((0, 1), (0, 2), (1, 2))
    assert result.pairwise_distance[1, 2] == pytest.approx(sum((paths[0, 2] - paths[2, 2]) ** 2) ** 0.5)
    frame = result.to_frame()
    assert len(frame) == 12
    assert frame[(frame.run == 2) & (frame.snapshot == 3)].step_length.item() == pytest.approx(
        result.step_lengths[2, 2]
    )


def test_one_run_may_come_as_an_array_a_tensor_or_several_of_them():
    path = walks(1, 5, 3)[0]
    first = trajectory(path)
    assert first.pairwise_distance.shape == (0, 5)
    for same in (torch.from_numpy(path), [path], path[None]):
        assert np.allclose(np.abs(trajectory(same).coordinates), np.abs(first.coordinates))


@pytest.mark.parametrize(
    ("layer", "size"),
    [("all", 4 * 9 + 4 + 4 + 4 + 16 * 3 + 3), ("first", 40), ("0", 40), ("0.weight", 36), ("5", 51), ("1", 8)],
)
def test_layers_are_chosen_by_name_and_batch_norm_statistics_are_no_weights(layer, size):
    def model():
        first = nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2)
        return nn.Sequential(*first, nn.Flatten(), nn.Linear(16, 3))

    states = [model().state_dict() for _ in range(3)]
    for number, state in enumerate(states):
        for tensor in state.values():
            tensor += number
    assert trajectory(states, layer).parameters == size


def test_first_layer_of_a_bare_linear_model_is_all_of_it():
    states = [nn.Linear(3, 2).state_dict() for _ in range(3)]
    assert trajectory(states, "first").parameters == 8


def test_bad_input_is_named():
    states = [nn.Linear(3, 2).state_dict() for _ in range(3)]
    with pytest.raises(UnknownName, match="Did you mean 'weight'"):
        trajectory(states, "weights")
    with pytest.raises(UnknownName, match="plain array"):
        trajectory(walks(1, 4, 3), "first")
    with pytest.raises(BadModel, match="all snapshots of a run are equal"):
        trajectory(np.ones((4, 3)))
    with pytest.raises(BadModel, match="two snapshots"):
        trajectory(np.ones((1, 3)))
    with pytest.raises(BadModel, match="NaN"):
        trajectory(np.full((4, 3), np.nan))
    with pytest.raises(BadModel, match="run 1 is"):
        trajectory([walks(1, 4, 3)[0], walks(1, 5, 3)[0]])
    with pytest.raises(BadModel, match="'weight' is missing"):
        trajectory([*states, {}])
    with pytest.raises(BadModel, match=r"shape \(4,\)"):
        trajectory(np.ones(4))
    with pytest.raises(BadModel, match="at least one run"):
        trajectory([])
    with pytest.raises(SettingError, match="components"):
        trajectory(walks(1, 4, 3), components=4)


class Tied(torch.nn.Module):
    """Two layers of one weight, and a buffer that follows it: a running mean of its weights."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = torch.nn.Linear(3, 3), torch.nn.Linear(3, 3)
        self.second.weight = self.first.weight
        self.register_buffer("shadow", self.first.weight.detach().clone())


def snapshots(model, *, copied):
    torch.manual_seed(0)
    found = []
    for _ in range(4):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter))
            model.shadow.lerp_(model.first.weight, 0.5)
        found.append(
            {n: t.clone() for n, t in model.state_dict().items()} if copied else copy.deepcopy(model.state_dict())
        )
    return found


@pytest.mark.parametrize("copied", [True, False])
def test_tied_weights_count_once_and_buffers_not_at_all_where_the_model_says_which_those_are(copied):
    model = Tied()
    states = snapshots(model, copied=copied)
    own = torch.stack([torch.cat([s[n].flatten() for n, _ in model.named_parameters()]) for s in states]).double()
    found = trajectory(states, model=model)
    assert found.parameters == own.shape[1] == 9 + 3 + 3
    assert found.step_lengths[0] == pytest.approx(own.diff(dim=0).norm(dim=1).numpy())
    with pytest.raises(BadModel, match=r"'shadow' moves.*Pass model="):
        trajectory(states)


def test_weights_of_a_state_dict_that_keeps_them_as_parameters_are_told_from_buffers():
    model = Tied()
    kept = []
    for _ in range(4):
        model = copy.deepcopy(model)
        with torch.no_grad():
            for tensor in model.state_dict().values():
                tensor.add_(torch.randn_like(tensor))
        kept.append(model.state_dict(keep_vars=True))
    own = torch.stack([torch.cat([s[n].flatten() for n, _ in model.named_parameters()]) for s in kept]).double()
    found = trajectory(kept)
    assert found.parameters == 9 + 3 + 3
    assert found.step_lengths[0] == pytest.approx(own.diff(dim=0).norm(dim=1).detach().numpy())


def every_layer_of_torch():
    """Those that hold parameters, under all that PyTorch itself puts around them."""
    nn = torch.nn
    lstm = nn.LSTM(3, 4, num_layers=2, bidirectional=True, proj_size=2)
    attention = nn.MultiheadAttention(4, 2, add_bias_kv=True, kdim=3, vdim=3), nn.TransformerEncoderLayer(4, 2, 4)
    norms = nn.LayerNorm(3), nn.BatchNorm1d(3), nn.GroupNorm(1, 3), nn.RMSNorm(3), nn.InstanceNorm1d(3, affine=True)
    wrapped = [around(nn.Linear(3, 3)) for around in (nn.utils.parametrizations.weight_norm, nn.utils.weight_norm)]
    pruned = prune.l1_unstructured(nn.Linear(3, 3), "weight", 0.5)
    rest = nn.Bilinear(2, 2, 2), nn.PReLU(), nn.Embedding(3, 2), nn.ConvTranspose2d(1, 2, 3), nn.GRU(3, 3)
    return nn.ModuleList([lstm, *attention, *norms, *wrapped, pruned, *rest])


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_parameters_of_pytorchs_own_layers_are_known_by_their_names():
    model = every_layer_of_torch()
    states = [{n: t.clone() for n, t in model.state_dict().items()} for _ in range(3)]
    for number, state in enumerate(states):
        for name, _ in model.named_parameters():
            state[name] += number * torch.randn_like(state[name])
    found, told = trajectory(states), trajectory(states, model=model)
    assert found.step_lengths == pytest.approx(told.step_lengths)
