"""What helps where a device's memory runs out, by how the data came; and what a path of weights needs a model for."""

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from theodolite.checkpoint import measuring
from theodolite.errors import BadModel, SettingError

OWN = """
import torch
from torch import nn
from torch.utils.data import TensorDataset

torch.manual_seed(0)
x, y = torch.randn(12, 3), torch.randint(0, 2, (12,))

class Small(nn.Linear):
    def forward(self, x):
        if len(x) > 4:
            raise torch.OutOfMemoryError("no room")
        return super().forward(x)

class Followed(nn.Linear):
    def __init__(self):
        super().__init__(3, 2)
        self.register_buffer("shadow", torch.zeros(2, 3))

def make():
    torch.manual_seed(1)
    return Small(3, 2)

def whole():
    return x, y

def rows():
    return TensorDataset(x, y)

def parts():
    return list(zip(x.split(4), y.split(4)))
"""


@pytest.fixture
def own(tmp_path):
    file = tmp_path / "own.py"
    file.write_text(OWN)
    return file


def test_data_that_came_whole_are_to_come_in_parts_where_memory_runs_out(own):
    with pytest.raises(SettingError, match=r"Have .*:whole give smaller batches, or a torch data set") as refused:
        measuring.measure("gradient-norm", model=f"{own}:make", data=f"{own}:whole")
    assert isinstance(refused.value.__cause__, torch.OutOfMemoryError)
    torch.manual_seed(0)
    x, y = torch.randn(12, 3), torch.randint(0, 2, (12,))
    torch.manual_seed(1)
    model = nn.Linear(3, 2)
    cross_entropy(model(x), y).backward()
    expected = float(sum(p.grad.square().sum() for p in model.parameters()) ** 0.5)
    for advised in ({"data": f"{own}:parts"}, {"data": f"{own}:rows", "batch_size": 4}):
        found = measuring.measure("gradient-norm", model=f"{own}:make", **advised)
        assert found.result.value == pytest.approx(expected, rel=1e-5)


def test_a_smaller_batch_size_is_advised_for_a_data_set(own):
    with pytest.raises(SettingError, match=r"ran out. Pass a smaller --batch-size\.$"):
        measuring._run(_full, [], {}, "digits")


def _full():
    raise torch.OutOfMemoryError


def test_a_path_whose_buffers_move_needs_the_model_and_is_measured_with_it(own, tmp_path):
    files = [tmp_path / f"{number}.pt" for number in range(3)]
    for number, file in enumerate(files):
        state = {"weight": torch.full((2, 3), float(number)), "bias": torch.zeros(2)}
        torch.save(state | {"shadow": torch.full((2, 3), 7.0 * number)}, file)
    with pytest.raises(BadModel, match=r"'shadow' moves.*Pass model="):
        measuring.measure("trajectory", checkpoints=files)
    found = measuring.measure("trajectory", checkpoints=files, model=f"{own}:Followed").result
    assert found.parameters == 2 * 3 + 2
    assert found.distance_from_start[0] == pytest.approx([0, 6**0.5, 2 * 6**0.5])
