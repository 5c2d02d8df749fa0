"""How fast networks train here: steps a second of processor time, of the two kinds of work that studies are made of.

Processor time, so that what else the machine does meanwhile does not count. ``python -m theodolite.doctor.pace S``
takes S seconds and prints one process's numbers; :func:`pace` runs one process a core at once, as a survey does,
since cores share caches and memory.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable

from theodolite import machine

SECONDS = 5.0  # of the measurement, start of the processes left out
# What `theodolite doctor --json` gave as speed on the two cores that the studies' seconds were measured on.
REFERENCE = {"dense": 360.0, "convolution": 63.0}


def pace(workers: int, seconds: float = SECONDS) -> dict[str, float]:
    """Steps a second of all workers together, by kind of work."""
    command = [sys.executable, "-m", "theodolite.doctor.pace", str(seconds)]
    started = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(workers)]  # noqa: S603
    found = [json.loads(process.communicate()[0]) for process in started]
    return {kind: sum(each[kind] for each in found) for kind in REFERENCE}


def _measure(seconds: float) -> dict[str, float]:
    import torch
    from torch import nn

    torch.set_num_threads(1)
    torch.manual_seed(0)
    stack, batch = 16, 128  # replicas that train together, samples
    first, second = (torch.randn(stack, *shape).div(30).requires_grad_() for shape in ((784, 32), (32, 10)))
    inputs, labels = torch.randn(stack, batch, 784), torch.randint(10, (stack * batch,))
    layout, rounded = torch.channels_last, machine.has_bfloat16()  # as studies train them here
    images, classes = torch.randn(batch, 3, 32, 32).to(memory_format=layout), torch.randint(10, (batch,))
    network = nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(),
        nn.MaxPool2d(2), nn.Flatten(), nn.Linear(2048, 10),
    )  # fmt: skip
    network.to(memory_format=layout)  # type: ignore[call-overload]  # missing in PyTorch's annotations
    dense_update = torch.optim.Adam([first, second])
    convolution_update = torch.optim.Adam(network.parameters())

    def dense() -> None:
        outputs = torch.bmm(torch.relu(torch.bmm(inputs, first)), second)
        dense_update.zero_grad()
        nn.functional.cross_entropy(outputs.flatten(0, 1), labels).backward()
        dense_update.step()

    def convolution() -> None:
        convolution_update.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=rounded):
            outputs = network(images)
        nn.functional.cross_entropy(outputs.float(), classes).backward()
        convolution_update.step()

    return {"dense": _rate(dense, seconds / 2), "convolution": _rate(convolution, seconds / 2)}


def _rate(step: Callable[[], None], seconds: float) -> float:
    """Steps a second of this process's own time, after two that warm up."""
    step()
    step()
    count, started, until = 0, time.process_time(), time.monotonic() + seconds
    while time.monotonic() < until:
        step()
        count += 1
    return count / (time.process_time() - started)


if __name__ == "__main__":
    print(json.dumps(_measure(float(sys.argv[1]))))
