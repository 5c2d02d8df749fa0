"""Made findings: numbers with the shape of a real survey, for tests of figures and report and to look at."""

import numpy as np
import pandas as pd

MODELS = ("Model 1", "Model 2", "Model 3")


def learning(seeds=16, epochs=2000, diverged=False):
    """Losses that fall as a power of the epoch, stopping at 1e-4; Model 2 starts slower and falls faster."""
    generator = np.random.default_rng(7)
    parts = []
    for model, (start, rate) in zip(MODELS, ((0.45, 1.15), (0.7, 1.5), (0.45, 1.18)), strict=True):
        for seed in range(seeds):
            epoch = np.arange(epochs + 1)
            speed = rate * np.exp(0.06 * generator.normal())
            noise = np.exp(np.cumsum(generator.normal(0, 0.02, epochs + 1)))
            loss = start * noise / (1 + epoch / 12) ** speed
            reached = np.flatnonzero(loss <= 1e-4)
            stop = reached[0] + 1 if len(reached) else epochs + 1
            if diverged and model == "Model 1" and seed == 0:
                loss[300:] = np.nan
            parts.append(pd.DataFrame({"model": model, "seed": seed, "epoch": epoch[:stop], "loss": loss[:stop]}))
    return pd.concat(parts, ignore_index=True)


def fits(seeds=16):
    """Fits of cos(3x): good inside [-1, 1], straight lines of scattered slope outside."""
    generator = np.random.default_rng(8)
    x = np.linspace(-2, 2, 401)
    parts = []
    for model in MODELS:
        for seed in range(seeds):
            slope = generator.normal(0.0, 0.8, 2)
            inside = np.cos(3 * np.clip(x, -1, 1)) + 0.01 * generator.normal()
            outside = slope[0] * np.minimum(x + 1, 0) + slope[1] * np.maximum(x - 1, 0)
            parts.append(pd.DataFrame({"model": model, "seed": seed, "x": x, "y": inside + outside}))
    return pd.concat(parts, ignore_index=True), pd.DataFrame({"x": x, "y": np.cos(3 * x)})


def depths(seeds=16, limit=2000):
    """Epochs to convergence by depth for two functions, some not within the limit."""
    generator = np.random.default_rng(9)
    rows = []
    for function, factor in (("cos", 1.0), ("exp", 2.2)):
        for layers in range(2, 9):
            for seed in range(seeds):
                epochs = factor * 1400 / layers**0.9 * np.exp(0.25 * generator.normal())
                loss = 1e-4 * np.exp(0.3 * generator.normal()) * (1 if epochs < limit else epochs / limit * 3)
                rows.append((function, layers, seed, min(epochs, limit), epochs > limit, loss))
    return pd.DataFrame(rows, columns=["function", "layers", "seed", "epochs", "censored", "loss"])


def estimates():
    """Estimates with intervals, two of them open at one end."""
    return pd.DataFrame(
        {
            "label": ["cos, Model 2 / Model 1", "exp, Model 2 / Model 1", "cos, Model 3 / Model 1", "exp, 3 / 1"],
            "estimate": [0.41, 0.62, 1.04, np.nan],
            "low": [0.33, 0.45, 0.96, 1.9],
            "high": [0.49, 0.91, 1.13, np.inf],
        }
    )
