"""Products of a model that is spread over two processes (gloo), each with its own samples, against one process.

DistributedDataParallel is measured without its wrapper. FSDP has no second derivatives and is refused; what the error
says to do is done. One process imports all and forks two: imports are most of the time.
"""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from theodolite.measure.curvature.operator import HessianOperator

RANKS = """
import multiprocessing, sys

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard
from torch.nn.parallel import DistributedDataParallel

from theodolite.errors import BadModel
from theodolite.measure.curvature.operator import HessianOperator


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()


def plain(model):
    try:
        HessianOperator(model, nn.CrossEntropyLoss(), (torch.ones(2, 3).double(), torch.tensor([0, 1])))
    except BadModel as error:
        assert "get_model_state_dict(model, options=StateDictOptions(full_state_dict=True))" in str(error)
    else:
        raise AssertionError("not refused")
    state = get_model_state_dict(model, options=StateDictOptions(full_state_dict=True))
    other = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()
    other.load_state_dict(state)
    return other


def main(rank, folder):
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    network()
    x, y, v = torch.randn(10, 3).double(), torch.randint(0, 2, (10,)), torch.randn(2, 26).double()
    sharded = network()
    fully_shard(sharded[0])
    fully_shard(sharded)
    models = {
        "ddp": DistributedDataParallel(network()),
        "fully_shard": plain(sharded),
        "fsdp": plain(FullyShardedDataParallel(network(), device_id=torch.device("cpu"))),
    }
    found = {}
    for name, model in models.items():
        for operator, block in (("hessian", v), ("ggn", v[0])):
            H = HessianOperator(model, nn.CrossEntropyLoss(), (x[rank::2], y[rank::2]), operator=operator)
            product = (H @ (block.mT if block.ndim == 2 else block)).contiguous()
            dist.all_reduce(product)
            found[name, operator] = product / 2
    if rank == 0:
        torch.save(found, f"{folder}/products.pt")
    dist.barrier()
    dist.destroy_process_group()


context = multiprocessing.get_context("fork")
ranks = [context.Process(target=main, args=(rank, sys.argv[1])) for rank in range(2)]
for rank in ranks:
    rank.start()
for rank in ranks:
    rank.join()
sys.exit(max(rank.exitcode for rank in ranks))
"""


@pytest.mark.slow
def test_two_processes_have_the_mean_of_their_products_and_one_process_the_same(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", RANKS, str(tmp_path)], check=True, timeout=240)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()
    x, y, v = torch.randn(10, 3).double(), torch.randint(0, 2, (10,)), torch.randn(2, 26).double()
    expected = {
        "hessian": HessianOperator(model, nn.CrossEntropyLoss(), (x, y)) @ v.mT,
        "ggn": HessianOperator(model, nn.CrossEntropyLoss(), (x, y), operator="ggn") @ v[0],
    }
    found = torch.load(tmp_path / "products.pt")
    assert {name for name, _ in found} == {"ddp", "fully_shard", "fsdp"}
    for (_, operator), product in found.items():
        torch.testing.assert_close(product, expected[operator], rtol=1e-12, atol=1e-14)
