"""A deep linear network learns each mode of the data in a time inverse to the mode's strength.

Published: with small initial weights and white inputs a mode of strength s goes from a share a of s to a share b in
t = τ/(2s) ln[b(1 - a) / (a(1 - b))], so log time falls on log strength with slope -1. Saxe, McClelland and Ganguli
2014, "Exact solutions to the nonlinear dynamics of learning in deep linear neural networks".
"""

import math

import numpy as np
import theodolite as th
import torch

RATE, SIZE = 0.002, 16
STRENGTHS = torch.tensor([1.0, 2.0, 3.0, 4.0, 6.0, 8.0])
study = th.study("deep-linear", question="How long does a deep linear network take for a mode of strength s?", seeds=8)


@study.run(scale=[1e-3])
def train(seed, scale):
    u, v = (torch.linalg.qr(torch.randn(SIZE, SIZE))[0][:, : len(STRENGTHS)] for _ in range(2))
    target = u @ torch.diag(STRENGTHS) @ v.T  # the inputs are white: their correlation is the identity
    first, second = (scale * torch.randn(SIZE, SIZE) for _ in range(2))
    shares = []
    while not shares or shares[-1].min() < 0.95:
        error = target - second @ first
        first, second = first + RATE * second.T @ error, second + RATE * error @ first.T
        shares.append(((u.T @ second @ first) * v.T).sum(1) / STRENGTHS)
        if len(shares) > 50 / RATE:
            raise RuntimeError("expected every mode to be learned within time 50")
    path = torch.stack(shares)
    time = RATE * ((path > 0.9).int().argmax(0) - (path > 0.1).int().argmax(0)).double()
    theory = math.log(81) / (2 * STRENGTHS)
    slope = np.polyfit(STRENGTHS.log().numpy(), time.log().numpy(), 1)[0]
    return {"slope": slope, "over_theory": (time / theory).log().mean().exp()}


study.claim(
    "inverse-to-strength",
    "The time that a mode takes is inverse to its strength: the slope of their logarithms is -1.",
    value="metrics.slope",
    within=(-1.1, -0.9),
    source="Saxe 2014",
)
study.claim(
    "as-long-as-predicted",
    "It takes as long as the equation says.",
    value="metrics.over_theory",
    statistic="ratio",
    within=(0.9, 1.1),
    source="Saxe 2014",
)

if __name__ == "__main__":
    study.main()
