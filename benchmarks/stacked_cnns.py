"""16 small convolutional networks on one thread, one after another and as a stack: benchmarks/stacked_cnns.py.

Milliseconds of processor time of a step of all 16 (forward, backward, fused Adam), each on data of its own; and how
many times faster than one after another, in the faster of the two orders in memory.

Sides:
  one after another  each network by itself, images in PyTorch's order
  channels last      the same, in the order that convolutions of oneDNN prefer
  torch.func         vmap of functional_call: takes any module
  grouped            one convolution with a group a network, channels last: written for these very layers
"""

import copy
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap
from torch.nn.functional import conv2d, cross_entropy, max_pool2d, relu

NETWORKS, SECONDS = 16, 1.5
CASES = [  # channels of the first layer, of the image, its side, batch
    (2, 1, 8, 32), (4, 1, 8, 32), (8, 1, 8, 32), (4, 1, 8, 128), (4, 1, 28, 32), (8, 1, 28, 32), (8, 3, 32, 32),
]  # fmt: skip


def network(channels: int, colours: int, side: int) -> nn.Sequential:
    first, second = (nn.Conv2d(a, b, 3, padding=1) for a, b in ((colours, channels), (channels, 2 * channels)))
    rest = nn.Flatten(), nn.Linear(2 * channels * (side // 4) ** 2, 10)
    return nn.Sequential(first, nn.ReLU(), nn.MaxPool2d(2), second, nn.ReLU(), nn.MaxPool2d(2), *rest)


class Grouped(nn.Module):
    """The networks as one, a group of channels each; inputs ``(N, networks * colours, side, side)``."""

    def __init__(self, networks: list[nn.Sequential]) -> None:
        super().__init__()
        joined = {  # convolutions side by side, linear layers on top of each other
            f"{place}_{name}": nn.Parameter(join([getattr(one[place], name).detach() for one in networks]))
            for place, join in ((0, torch.cat), (3, torch.cat), (7, torch.stack))
            for name in ("weight", "bias")
        }
        self.of = nn.ParameterDict(joined)

    def forward(self, inputs: Tensor) -> Tensor:
        """Outputs ``(networks, N, classes)``."""
        for place in (0, 3):
            weight, bias = self.of[f"{place}_weight"], self.of[f"{place}_bias"]
            inputs = max_pool2d(relu(conv2d(inputs, weight, bias, padding=1, groups=NETWORKS)), 2)
        rows = inputs.contiguous().view(len(inputs), NETWORKS, -1).transpose(0, 1)
        return torch.baddbmm(self.of["7_bias"][:, None], rows, self.of["7_weight"].mT)


def timed(step: Callable[[], object]) -> float:
    step()
    count, started = 0, time.process_time()
    while time.process_time() - started < SECONDS:
        step()
        count += 1
    return (time.process_time() - started) / count * 1e3


def trained(parameters: list[Tensor], loss: Callable[[], Tensor]) -> Callable[[], None]:
    optimizer = torch.optim.Adam(parameters, lr=1e-3, fused=True)

    def step() -> None:
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()

    return step


def one_after_another(
    networks: list[nn.Sequential], images: Tensor, labels: Tensor, order: torch.memory_format
) -> float:
    own = [copy.deepcopy(one).to(memory_format=order) for one in networks]
    batches = [part.to(memory_format=order) for part in images]
    steps = [
        trained(list(one.parameters()), lambda one=one, x=x, y=y: cross_entropy(one(x), y))
        for one, x, y in zip(own, batches, labels, strict=True)
    ]
    return timed(lambda: [step() for step in steps])


def by_torch_func(networks: list[nn.Sequential], images: Tensor, labels: Tensor) -> float:
    state, _ = stack_module_state(networks)
    parameters = {name: stacked.detach().requires_grad_() for name, stacked in state.items()}
    base = copy.deepcopy(networks[0]).to("meta")
    losses = vmap(lambda own, x, y: cross_entropy(functional_call(base, own, (x,)), y))
    return timed(trained(list(parameters.values()), lambda: losses(parameters, images, labels).sum()))


def by_groups(networks: list[nn.Sequential], images: Tensor, labels: Tensor) -> float:
    stack = Grouped(networks)
    joined = images.transpose(0, 1).flatten(1, 2).contiguous(memory_format=torch.channels_last)
    outputs = lambda: stack(joined).flatten(0, 1)  # noqa: E731
    return timed(trained(list(stack.parameters()), lambda: cross_entropy(outputs(), labels.flatten(), reduction="sum")))


def main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    print(
        f"{'channels, image, batch':28}{'one after another':>18}{'channels last':>15}{'torch.func':>18}{'grouped':>18}"
    )
    for channels, colours, side, batch in CASES:
        networks = [network(channels, colours, side) for _ in range(NETWORKS)]
        images = torch.randn(NETWORKS, batch, colours, side, side)
        labels = torch.randint(10, (NETWORKS, batch))
        orders = torch.contiguous_format, torch.channels_last
        alone = [one_after_another(networks, images, labels, order) for order in orders]
        stacks = [by(networks, images, labels) for by in (by_torch_func, by_groups)]
        told = "".join(f"{taken:9.1f} ({min(alone) / taken:4.2f} x)" for taken in stacks)
        print(f"{f'{channels}, {colours}x{side}x{side}, {batch}':28}{alone[0]:18.1f}{alone[1]:15.1f}{told}", flush=True)


if __name__ == "__main__":
    main()
