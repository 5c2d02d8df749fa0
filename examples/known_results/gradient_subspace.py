"""Soon the gradient lies in the few directions of largest curvature, as many as there are classes.

Published: after a short time the gradient converges to the subspace of a few top Hessian eigenvectors, as many as there
are classes, which is mostly preserved. Gur-Ari, Roberts and Dyer 2018, "Gradient Descent Happens in a Tiny Subspace",
abstract. Tested is the share |Pg|²/|g|² of the gradient g in it.
"""

import pandas as pd
import theodolite as th
import torch
from torch import nn

study = th.study("gradient-subspace", question="How much of the gradient is in the top ten directions?", seeds=8)


@study.run(epochs=[30])
def train(seed, epochs):
    data = th.data.load(th.data.DataSpec(source="digits", train=1000, seed=seed))
    x, y = torch.from_numpy(data.inputs_as()).flatten(1), torch.tensor(data.train_targets)
    model, loss, rows = nn.Sequential(nn.Linear(64, 50), nn.ReLU(), nn.Linear(50, 10)), nn.CrossEntropyLoss(), []
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for epoch in range(epochs + 1):
        if epoch % (epochs // 6) == 0:
            top = th.measure.hessian_eigenvalues(model, loss, (x, y), k=10, tolerance=1e-3).eigenvectors
            gradients = torch.autograd.grad(loss(model(x), y), list(model.parameters()))
            gradient = torch.cat([part.flatten() for part in gradients]).double()
            share = (top.double() @ gradient).square().sum() / gradient.square().sum()
            rows.append((epoch, loss(model(x), y).item(), share.item()))
        for batch in torch.randperm(len(x)).split(50):
            optimizer.zero_grad()
            loss(model(x[batch]), y[batch]).backward()
            optimizer.step()
    curve = pd.DataFrame(rows, columns=["epoch", "loss", "share"])
    return {"late": curve["share"].tail(len(curve) // 2).mean(), "start": curve["share"].iloc[0], "curve": curve}


study.claim(
    "near-one",
    "In the second half of training nine tenths of the gradient are in the top ten directions.",
    value="metrics.late",
    above=0.9,
    source="Gur-Ari 2018, abstract",
)
study.claim(
    "most-of-it",
    "In the second half of training most of the gradient is there.",
    value="metrics.late",
    above=0.5,
    source="Gur-Ari 2018, abstract",
)

if __name__ == "__main__":
    study.main()
