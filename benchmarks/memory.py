"""Peak memory of the instruments of curvature beside what they were given: `python benchmarks/memory.py` (Linux).

Each measurement is a process of its own: model, data and a warm-up on two samples first (libraries, kernels compiled
on first use), then the heap is handed back and the kernel's peak counter reset. What is shown is the peak over what
was resident then, and how far the numbers are from those with all the memory there is.
"""

import argparse
import ctypes
import json
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from curvature import cnn
from peers import Logits, NextToken, batch_norm_cnn
from theodolite.errors import TooLarge
from theodolite.measure import hessian_density, hessian_eigenvalues, hessian_spectrum, hessian_trace, minimal_ratio
from theodolite.measure.problem.memory import in_words, room

Problem = tuple[nn.Module, Any, tuple[Tensor, Tensor]]


def gpt() -> Problem:
    """192 sequences: graphs of 300 MB."""
    torch.manual_seed(0)
    tokens = torch.randint(0, 65, (192, 65))
    return Logits().eval(), NextToken(), (tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous())


def small() -> Problem:
    """1,210 parameters: all eigenvalues take four matrices of 12 MB."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 16), nn.Tanh(), nn.Linear(16, 10))
    return model, nn.CrossEntropyLoss(), (torch.randn(1797, 64), torch.randint(0, 10, (1797,)))


def batch_statistics() -> Problem:
    """A batch that cannot be cut: BatchNorm in training mode."""
    model, data = batch_norm_cnn(250)
    return model.train(), nn.CrossEntropyLoss(), data


PROBLEMS: dict[str, Callable[[], Problem]] = {
    "CNN, 500 images": lambda: (cnn()[0], nn.CrossEntropyLoss(), cnn()[1]),
    "GPT-2, 192 × 64 tokens": gpt,
    "BatchNorm CNN in training mode, 250 images": batch_statistics,
    "MLP, 1,210 parameters": small,
}
INSTRUMENTS: dict[str, Callable[..., Any]] = {
    "eigenvalues": lambda *problem, **more: hessian_eigenvalues(*problem, k=3, max_products=24, **more).eigenvalues,
    "density": lambda *problem, **more: hessian_density(*problem, probes=4, steps=8, **more).density,
    "trace": lambda *problem, **more: hessian_trace(*problem, products=12, **more).value,
    "spectrum": lambda *problem, **more: hessian_spectrum(*problem, **more).eigenvalues,
    "minimal ratio": lambda *problem, **more: minimal_ratio(*problem, **more).value,
}
RUNS = [
    *((p, i, m) for p in list(PROBLEMS)[:2] for i in list(INSTRUMENTS)[:3] for m in (None, "400MB", "100MB")),
    *((list(PROBLEMS)[2], "trace", m) for m in (None, "4GB", "100MB")),
    *((list(PROBLEMS)[3], i, m) for i in list(INSTRUMENTS)[3:] for m in (None, "100MB", "60MB", "30MB")),
]


def status(field: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024.0 * int(line.split()[1]) for line in lines if line.startswith(field))


def child(problem: str, instrument: str, memory: str | None) -> None:
    """Measure one, and print it as a line of JSON."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    model, loss, (inputs, targets) = PROBLEMS[problem]()
    run = INSTRUMENTS[instrument]
    run(model, loss, (inputs[:2].clone(), targets[:2].clone()))
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    before = status("VmRSS")
    try:
        values = torch.as_tensor(run(model, loss, (inputs, targets), memory=memory)).flatten().tolist()
    except TooLarge as error:
        print(json.dumps({"error": str(error)}))
        return
    print(json.dumps({"peak": status("VmHWM") - before, "values": values}))


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    arguments.add_argument("--only", default="", help="problems whose name holds this")
    chosen = arguments.parse_args()
    if chosen.child:
        problem, instrument, memory = chosen.child
        child(problem, instrument, memory or None)
        return
    wide: dict[tuple[str, str], Tensor] = {}
    for problem, instrument, memory in RUNS:
        if chosen.only not in problem:
            continue
        command = [sys.executable, __file__, "--child", problem, instrument, memory or ""]
        out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        found = json.loads(out.splitlines()[-1])
        line = f"{problem:44}{instrument:15}{memory or 'half of free':13}"
        if "error" in found:
            print(f"{line}refused: {found['error'][:60]} …", flush=True)
            continue
        values = torch.tensor(found["values"], dtype=torch.float64)
        expected = wide.setdefault((problem, instrument), values)
        apart = float((values - expected).abs().nan_to_num().max() / expected.abs().nan_to_num().max())
        within = memory is None or found["peak"] <= room(memory, torch.device("cpu"))
        verdict = "" if memory is None else "within" if within else "OVER"
        print(f"{line}peak {in_words(max(found['peak'], 0)):8} {verdict:8} apart {apart:.1e}", flush=True)


if __name__ == "__main__":
    main()
