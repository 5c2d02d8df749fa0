"""Products of a model wrapped in DistributedDataParallel, each process with its own samples: two over gloo."""

import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from theodolite.measure.curvature.operator import HessianOperator

RANK = """
import sys

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from theodolite.measure.curvature.operator import HessianOperator

rank, port, out = int(sys.argv[1]), sys.argv[2], sys.argv[3]
dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
torch.manual_seed(0)
own = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()
x, y, v = torch.randn(10, 3).double(), torch.randint(0, 2, (10,)), torch.randn(2, 26).double()
model = DistributedDataParallel(own)
found = []
for operator, block in (("hessian", v), ("ggn", v[0])):
    H = HessianOperator(model, nn.CrossEntropyLoss(), (x[rank::2], y[rank::2]), operator=operator)
    product = H @ block.mT if block.ndim == 2 else H @ block
    product = product.contiguous()
    dist.all_reduce(product)
    found.append(product / 2)
if rank == 0:
    torch.save(found, out)
dist.barrier()
dist.destroy_process_group()
"""


@pytest.mark.slow
def test_two_processes_have_the_mean_of_their_products_and_one_process_the_same(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    out = tmp_path / "products.pt"
    ranks = [subprocess.Popen([sys.executable, "-c", RANK, str(r), port, str(out)]) for r in range(2)]
    assert [rank.wait(timeout=120) for rank in ranks] == [0, 0]
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()
    x, y, v = torch.randn(10, 3).double(), torch.randint(0, 2, (10,)), torch.randn(2, 26).double()
    hessian = HessianOperator(model, nn.CrossEntropyLoss(), (x, y)) @ v.mT
    ggn = HessianOperator(model, nn.CrossEntropyLoss(), (x, y), operator="ggn") @ v[0]
    for found, expected in zip(torch.load(out), (hessian, ggn), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-14)
