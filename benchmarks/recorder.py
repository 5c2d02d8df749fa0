"""What recording within a budget takes of a training, and what a step costs on which nothing is due.

    python benchmarks/recorder.py [--seconds 60] [--budget 0.05]

The network of docs/recorder.md, asked for its gradient norm and its largest eigenvalues every ten steps. Ends with 1
where recording took more than its budget.
"""

import argparse
import sys
import time
import warnings

import torch
from sklearn.datasets import load_digits
from torch import nn

import theodolite as th
from theodolite.record.recorder import RecorderWarning

INSTRUMENTS = {"gradient_norm": "gradient_norm", "top": ("hessian_eigenvalues", {"k": 3})}


def train(seconds: float, recorder: th.Recorder | None) -> tuple[int, float]:
    """Steps that Adam takes in so many seconds, and the seconds they took."""
    torch.manual_seed(0)
    images, digits = load_digits(return_X_y=True)
    inputs, targets = torch.tensor(images / 16, dtype=torch.float32), torch.tensor(digits)
    model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Dropout(0.2), nn.Linear(32, 10))
    optimizer, loss = torch.optim.Adam(model.parameters(), lr=3e-3), nn.CrossEntropyLoss()
    started, steps = time.perf_counter(), 0
    while time.perf_counter() - started < seconds:
        batch = torch.randint(len(inputs), (64,))
        optimizer.zero_grad()
        loss(model(inputs[batch]), targets[batch]).backward()
        optimizer.step()
        steps += 1
        if recorder is not None:
            recorder.step(model, loss, (inputs[:500], targets[:500]))
    return steps, time.perf_counter() - started


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--budget", type=float, default=0.05)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", RecorderWarning)

    steps, seconds = train(asked.seconds / 4, None)
    idle = th.Recorder({**INSTRUMENTS, "other": "sharpness"}, every=10**9, out=None)
    idle_steps, idle_seconds = train(asked.seconds / 4, idle)
    print(f"a step: {1e6 * seconds / steps:.0f} µs, with an idle recorder {1e6 * idle_seconds / idle_steps:.0f} µs")

    recorder = th.Recorder(INSTRUMENTS, every=10, budget=asked.budget, out=None)
    with recorder:
        train(asked.seconds, recorder)
    print(recorder)
    share = recorder._watch.own / recorder._watch.trained(time.perf_counter())
    print(f"recording took {share:.1%} of the training time, {asked.budget:.0%} allowed")
    return int(share > asked.budget)


if __name__ == "__main__":
    sys.exit(main())
