"""Every example of the page about alignment, run as it stands there."""

import re
from pathlib import Path

import torch
from torch import nn

from networks import GPT, drawn, resnet18

PAGE = Path(__file__).parents[3] / "docs" / "instruments" / "align.md"


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.head = nn.Embedding(11, 8), nn.Linear(8, 11)
        self.layers = nn.ModuleList(nn.TransformerEncoderLayer(8, 2, 12, batch_first=True) for _ in range(2))

    def forward(self, x):
        x = self.embed(x)
        for layer in self.layers:
            x = layer(x)
        return self.head(x)


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm, self.head = nn.LSTM(5, 7, batch_first=True), nn.Linear(7, 3)

    def forward(self, x):
        return self.head(self.lstm(x)[0][:, -1])


def test_every_example_runs():
    ids = torch.arange(48).reshape(8, 6) * 7 % 11
    given = {"loss": nn.MSELoss(), "data": (torch.eye(4).double(), torch.zeros(4, 2).double()), "tokens": (ids, ids)}
    networks = {
        "chain": lambda: nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 2)),
        "resnet": resnet18,
        "gpt": GPT,
        "encoder": Encoder,
        "lstm": Recurrent,
    }
    for name, make in networks.items():
        given |= {f"{name}_{which}": drawn(make, seed) for seed, which in enumerate("ab")}
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert len(blocks) == 5
    for block in blocks:
        exec(block, given)  # noqa: S102  it is our own page
        assert given["matched"].check_error < 1e-12
