"""A small network on 1,437 digits. `python net.py` trains it twice, and writes weights for the examples."""

from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import nn

import theodolite as th

digits = th.data.load(th.data.DataSpec(source="digits"))
data = torch.from_numpy(digits.inputs_as()), torch.tensor(digits.train_targets)
loss = nn.functional.cross_entropy


def make() -> nn.Module:
    """The network, with new weights."""
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.Tanh(), nn.Linear(8, 10))


def read(path: str | Path) -> nn.Module:
    """The network with the weights of a file."""
    model = make()
    model.load_state_dict(load_file(path))
    return model


def path(name: str) -> list[dict[str, torch.Tensor]]:
    """Its weights along a training, in their order."""
    return [load_file(file) for file in sorted(Path(f"path-{name}").iterdir(), key=lambda file: int(file.stem))]


def train(seed: int, name: str) -> None:
    """Train one network; keep its weights after every fifth step, and at the end."""
    torch.manual_seed(seed)
    model = make()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.03)
    Path(f"path-{name}").mkdir(exist_ok=True)
    for step in range(61):
        if step % 5 == 0:
            save_file(model.state_dict(), f"path-{name}/{step}.safetensors")
        optimizer.zero_grad()
        loss(model(data[0]), data[1]).backward()
        optimizer.step()
    save_file(model.state_dict(), f"{name}.safetensors")


if __name__ == "__main__":
    train(0, "a")
    train(1, "b")
