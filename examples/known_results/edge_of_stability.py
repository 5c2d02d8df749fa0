"""Gradient descent sharpens the loss until its steps are just unstable, and stays there.

Published: under full-batch gradient descent the largest Hessian eigenvalue λ rises until λη/2 = 1 and then hovers
right at, or just above, 1. Cohen, Kaur, Li, Kolter and Talwalkar 2021, "Gradient Descent on Neural Networks Typically
Occurs at the Edge of Stability", Figure 1. Here with a small tanh network and the squared error.
"""

import pandas as pd
import theodolite as th
import torch
from torch import nn

study = th.study(
    "edge-of-stability", question="Does gradient descent settle where its steps are just unstable?", seeds=8
)


@study.run(rate=[0.3], steps=[2000])
def train(seed, rate, steps):
    data = th.data.load(th.data.DataSpec(source="digits", train=500, seed=seed))
    x = torch.from_numpy(data.inputs_as()).flatten(1)
    y = nn.functional.one_hot(torch.tensor(data.train_targets), 10).float()
    model, loss, rows = nn.Sequential(nn.Linear(64, 50), nn.Tanh(), nn.Linear(50, 10)), nn.MSELoss(), []
    optimizer = torch.optim.SGD(model.parameters(), lr=rate)
    for step in range(steps + 1):
        value = loss(model(x), y)
        if step % (steps // 20) == 0:
            rows.append((step, value.item(), th.measure.edge_of_stability(model, loss, (x, y), optimizer).value))
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
    curve = pd.DataFrame(rows, columns=["step", "loss", "edge"])
    late = curve["edge"].tail(5).mean()  # of one step it swings, so a mean over the last quarter
    return {"start": curve["edge"].iloc[0], "late": late, "curve": curve}


study.claim(
    "starts-stable",
    "At the start the steps are stable: λη/2 is below 1.",
    value="metrics.start",
    below=1.0,
    source="Cohen 2021, Figure 1",
)
study.claim(
    "ends-at-the-edge",
    "Late in training λη/2 is 1, within a tenth.",
    value="metrics.late",
    within=(0.9, 1.1),
    source="Cohen 2021, Figure 1",
)

if __name__ == "__main__":
    study.main()
