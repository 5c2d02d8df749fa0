"""Python with packages or parts of the system taken away: what somebody has who did not install them.

Where ``os`` is hidden, it loses what only POSIX has (but not ``register_at_fork``, which PyTorch calls on Linux).
"""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

CORE = """
import math
import torch
import theodolite as th

inputs = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
model = torch.nn.Linear(2, 1, bias=False)
torch.nn.init.zeros_(model.weight)
data = inputs, torch.tensor([[1.0], [1.0]])
loss = torch.nn.functional.mse_loss  # of which the Hessian is X'X = diag(1, 4), the gradient -X'y = (-1, -2)

top = th.measure.hessian_eigenvalues(model, loss, data, k=1)
assert math.isclose(top.eigenvalues.item(), 4, rel_tol=1e-5), top
norm = th.measure.gradient_norm(model, loss, data)
assert math.isclose(norm.value, math.sqrt(5), rel_tol=1e-5), norm
top.save("top.safetensors")
assert th.measure.load("top.safetensors") == top
assert len(top.to_frame()) == 1

with th.Recorder("gradient_norm", every=1, data=data, out="results") as recorder:
    for _ in range(3):
        recorder.step(model, loss)
assert (th.recordings("results").numbers.query("quantity == 'value'").value - math.sqrt(5)).abs().max() < 1e-5

assert th.claims.test([0.1, 0.2, 0.15, 0.12, 0.18, 0.11], below=1).verdict == "holds"
path = torch.arange(5.0)[:, None] * torch.tensor([[3.0, 4.0]])
assert th.measure.trajectory(path).step_lengths.tolist() == [[5.0] * 4]
"""

HIDING = """
import os, sys

for name in ("fork", "forkpty", "O_NONBLOCK", "O_CLOEXEC"):
    if "os" in {names!r} and hasattr(os, name):
        delattr(os, name)

class Refuses:
    def find_spec(self, name, path=None, target=None):
        if name != "os" and name.partition(".")[0] in {names!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name.partition(".")[0])

sys.meta_path.insert(0, Refuses())
"""


def python(
    script: str,
    *,
    hidden: Sequence[str],
    here: Path,
    arguments: Sequence[str] = (),
    environment: Mapping[str, str] = {},
) -> subprocess.CompletedProcess[str]:
    """Run a script, and every process that it starts, where these modules cannot be imported."""
    (here / "sitecustomize.py").write_text(HIDING.format(names=sorted(hidden)))  # Python runs it at every start
    paths = [str(here), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    around = os.environ | environment | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
    (here / "script.py").write_text(script)
    command = [sys.executable, str(here / "script.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=here, env=around)
