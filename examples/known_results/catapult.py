"""Gradient descent survives learning rates up to twice those that are stable at the start.

Published: with λ the largest eigenvalue of the tangent kernel at the start, training diverges above 4/λ for two linear
layers, not above 2/λ, and above about 12/λ for ReLU. Lewkowycz, Bahri, Dyer, Sohl-Dickstein and Gur-Ari 2020, "The
large learning rate phase of deep learning: the catapult mechanism".
"""

import theodolite as th
import torch
from torch import nn

study = th.study("catapult", question="Up to which learning rate does training converge?", seeds=8)


class Wide(nn.Module):  # two layers in the tangent kernel's scaling
    def __init__(self, inputs, width, activation):
        super().__init__()
        self.u, self.v = nn.Parameter(torch.randn(inputs, width)), nn.Parameter(torch.randn(width, 1))
        self.activation = activation

    def forward(self, x):
        return self.activation(x @ self.u / x.shape[1] ** 0.5) @ self.v / len(self.v) ** 0.5


def survives(model, x, y, rate, steps):
    """Whether the loss ends below half of what a network has that says nothing."""
    u, v, losses = model.u.detach().clone(), model.v.detach().clone(), []
    for _ in range(steps):
        weights = {"u": u.requires_grad_(), "v": v.requires_grad_()}
        loss = (torch.func.functional_call(model, weights, x) - y).square().mean() / 2
        losses.append(loss.item())
        if not losses[-1] < 1e6:
            return False
        u, v = ((w - rate * g).detach() for w, g in zip((u, v), torch.autograd.grad(loss, (u, v)), strict=True))
    return losses[-1] < 0.25


@study.run(width=[512], steps=[200])
def largest(seed, width, steps):
    data = th.data.load(th.data.DataSpec(source="digits", train=50, seed=seed))
    x = torch.from_numpy(data.inputs_as()).flatten(1)
    y = torch.tensor(data.train_targets % 2 * 2.0 - 1).float()[:, None]
    found = {}
    for name, activation in (("linear", nn.Identity()), ("relu", nn.ReLU())):
        model = Wide(64, width, activation)
        curvature = th.measure.TangentKernel(model, (x, y)).eigenvalues(k=1).eigenvalues[0] / len(x)
        low, high = 1.0, 32.0
        while high / low > 1.03:
            middle = (low * high) ** 0.5
            low, high = (middle, high) if survives(model, x, y, middle / curvature, steps) else (low, middle)
        found[name] = low
    return found


study.claim("linear", "Linear layers train up to 4/λ.", value="metrics.linear", within=(3.5, 4.5))
study.claim("relu", "With ReLU they train up to about 12/λ.", value="metrics.relu", within=(10, 14))

if __name__ == "__main__":
    study.main()
