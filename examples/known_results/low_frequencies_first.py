"""A network learns a frequency k in a time that grows as its square.

Published: gradient descent on a wide ReLU network with biases fits cos(kθ) on the circle in a number of steps that
grows as k². Basri, Jacobs, Kasten and Kritchman 2019, "The Convergence Rate of Neural Networks for Learned Functions
of Different Frequencies"; that low frequencies come first: Rahaman et al. 2019, "On the Spectral Bias of
Neural Networks".
"""

import numpy as np
import pandas as pd
import theodolite as th
import torch

RATE = 4.0  # the largest eigenvalue of the tangent kernel is 0.35
study = th.study("low-frequencies-first", question="How long does a network take for frequency k?", seeds=8)


@study.run(frequency=[4, 5, 7, 9, 12, 16], width=[1024])
def train(seed, frequency, width):
    angles = torch.arange(64) * (2 * torch.pi / 64)
    x = torch.stack([angles.cos(), angles.sin()], 1)
    wave = 0.02 * torch.cos(
        frequency * angles
    )  # so low that weights hardly move, as in the infinite width of the theory
    # Spread evenly, a thousand units are near infinitely many.
    turns = (torch.arange(width) + torch.rand(width)) * (2 * torch.pi / width)
    w, b = torch.stack([turns.cos(), turns.sin()]), torch.zeros(width)
    v = torch.randint(2, (width,)) * 2.0 - 1  # fixed, as in the paper
    start = (x @ w).relu() @ v / width**0.5  # taken off, so that training begins at zero
    for step in range(100_000):
        hidden = x @ w + b
        error = hidden.relu() @ v / width**0.5 - start - wave
        if (error @ wave).abs() < 0.1 * wave @ wave:  # nine tenths of the wave are there
            return {"steps": step}
        back = error[:, None] * (hidden > 0) * v / width**0.5 / len(x)
        w, b = w - RATE * x.T @ back, b - RATE * back.sum(0)
    raise RuntimeError("expected frequency to be learned within 100,000 steps")


def slope(records):
    """Of log steps on log frequency, a number a seed."""
    steps = records.table("metrics").pivot(index="seed", columns="frequency", values="steps")
    return pd.Series(np.polyfit(np.log(steps.columns.astype(float)), np.log(steps.T), 1)[0], steps.index)


study.claim(
    "square-of-frequency",
    "The steps to learn cos(kθ) grow as the square of k.",
    evidence=slope,
    within=(1.8, 2.2),
    source="Basri 2019",
)

if __name__ == "__main__":
    study.main()
