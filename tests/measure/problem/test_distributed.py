"""Which samples go to which shard, without a cluster; sums over shards are tested in tests/execute."""

import subprocess
import sys

import pytest
import torch
from torch import nn

from theodolite import measure
from theodolite.errors import UnknownName
from theodolite.measure.problem.batches import count
from theodolite.measure.problem.distributed import shared_out
from theodolite.measure.problem.join import objective
from theodolite.measure.problem.objective import Objective

MEAN = nn.CrossEntropyLoss()
WEIGHTED = nn.CrossEntropyLoss(weight=torch.tensor([1.0, 9.0]))  # divides by another number in each part


def OWN(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:  # noqa: N802 - stands beside the two above
    """The same, and we cannot know what it divides by."""
    return WEIGHTED(outputs, targets)


def whole(loss, *sizes: int) -> Objective:
    data = [(torch.randn(n, 3), (torch.arange(n) < n / 3).long()) for n in sizes]
    return objective(nn.Linear(3, 2), loss, data)


@pytest.mark.parametrize(
    ("loss", "sizes", "shards", "loads", "cut"),
    [
        (MEAN, (10, 10, 10, 10), 2, [20, 20], [10, 10, 10, 10]),
        (MEAN, (100,), 4, [25, 25, 25, 25], [25, 25, 25, 25]),
        (MEAN, (32, 32, 32), 2, [47, 49], [5, 5, 6, 5, 5, 6] * 3),
        (MEAN, (1, 1), 4, [1, 1], [1, 1]),  # more shards than samples
        (OWN, (100,), 4, [100], [100]),
        (OWN, (60, 20, 20), 2, [60, 40], [60, 20, 20]),
        (OWN, (5, 5), 3, [5, 5], [5, 5]),  # more shards than batches
        (WEIGHTED, (100,), 4, [25, 25, 25, 25], [25, 25, 25, 25]),
    ],
)
def test_batches_are_cut_only_where_that_is_needed_and_the_loss_adds_up(loss, sizes, shards, loads, cut):
    even, found = shared_out(whole(loss, *sizes), shards)
    assert sorted(found) == sorted(loads)
    assert sorted(count(batch) for batch in even.data) == sorted(cut)


def test_a_loss_that_cannot_take_a_piece_of_a_batch_keeps_it_whole():
    def of_ten(outputs, targets):
        assert len(outputs) == 10
        return nn.functional.cross_entropy(outputs, targets)

    assert shared_out(whole(of_ten, 10), 2)[1] == [10]


def test_an_engine_that_is_none_is_named_with_the_closest():
    with pytest.raises(UnknownName, match=r"no engine 'rey'. Did you mean 'ray'\?"):
        measure.gradient_norm(nn.Linear(3, 2), MEAN, (torch.randn(4, 3), torch.arange(4) % 2), engine="rey")


def test_without_ray_the_error_says_what_to_install_and_one_process_needs_none():
    script = (
        "import sys; sys.modules['ray'] = None\n"
        "import torch; from torch import nn; from theodolite import errors, measure\n"
        "given = nn.Linear(3, 2), nn.MSELoss(), (torch.ones(4, 3), torch.ones(4, 2))\n"
        "measure.gradient_norm(*given)\n"
        "try: measure.gradient_norm(*given, engine='ray')\n"
        "except errors.MissingExtra as error: print(error)\n"
    )
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=120)
    assert "pip install 'theodolite[ray]'" in found.stdout
