"""The wider a network, the less its weights move: the relative change falls as one over the root of the width.

Published: with the width n and the scale 1/√n on its output, the weights move by a constant while their norm grows as
√n, so the relative change of the first layer falls with slope -1/2. Chizat, Oyallon and Bach 2019, "On Lazy Training in
Differentiable Programming"; Lee et al. 2019, "Wide Neural Networks of Any Depth Evolve as Linear Models Under Gradient
Descent".
"""

import numpy as np
import pandas as pd
import theodolite as th
import torch

study = th.study("lazy-training", question="How does the relative change of the weights fall with the width?", seeds=8)


@study.run(width=[64, 128, 256, 512, 1024])
def train(seed, width):
    data = th.data.load(th.data.DataSpec(source="digits", train=100, seed=seed))
    x = torch.from_numpy(data.inputs_as()).flatten(1) / 8  # divided by the root of their number
    y = torch.tensor(data.train_targets % 2 * 2.0 - 1).float()  # odd or even
    w, v = torch.randn(64, width, requires_grad=True), torch.randn(width, requires_grad=True)
    start, steps = w.detach().clone(), 0
    while True:
        error = torch.relu(x @ w) @ v / width**0.5 - y
        loss = error.square().mean() / 2
        if loss.item() < 0.01:
            return {"change": (w.detach() - start).norm() / start.norm(), "steps": steps}
        if (steps := steps + 1) > 20_000:
            raise RuntimeError(f"expected the loss below 0.01 within 20,000 steps, got {loss.item():.3g}")
        for weight, gradient in zip((w, v), torch.autograd.grad(loss, (w, v)), strict=True):
            weight.data -= gradient


def slope(records):
    """Of log change on log width, a number a seed."""
    change = records.table("metrics").pivot(index="seed", columns="width", values="change")
    return pd.Series(np.polyfit(np.log(change.columns.astype(float)), np.log(change.T), 1)[0], change.index)


study.claim(
    "falls-as-root-of-width",
    "The relative change of the first layer falls as one over the root of the width.",
    evidence=slope,
    within=(-0.6, -0.4),
    source="Chizat 2019; Lee 2019",
)

if __name__ == "__main__":
    study.main()
