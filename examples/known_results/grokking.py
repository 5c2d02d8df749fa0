"""On modular addition a network is right on new sums long after it is right on all that it was shown.

Published: perfect generalization can come well past the point of overfitting. Power, Burda, Edwards, Babuschkin, Misra
2022, "Grokking: Generalization Beyond Overfitting on Small Algorithmic Datasets", abstract; two layers with squares:
Gromov 2023, "Grokking modular arithmetic". That "well past" is ten times as many steps is set here.
"""

import theodolite as th
import torch
from torch import nn

study = th.study("grokking", question="How much later than training sums are new sums right?", seeds=8)


@study.run(modulus=[41], steps=[4_000])
def train(seed, modulus, steps):
    pairs = torch.cartesian_prod(torch.arange(modulus), torch.arange(modulus))
    y = pairs.sum(1) % modulus
    shuffled = torch.randperm(len(y))
    shown, new = shuffled[: 7 * len(y) // 10], shuffled[7 * len(y) // 10 :]
    first, second, last = nn.Embedding(modulus, 128), nn.Embedding(modulus, 128), nn.Linear(128, modulus, bias=False)
    optimizer = torch.optim.AdamW([first.weight, second.weight, last.weight], lr=1e-3, weight_decay=1.0)

    def outputs(rows):
        return last((first(pairs[rows, 0]) + second(pairs[rows, 1])).square())

    since = {}
    for step in range(1, steps + 1):
        if step % 10 == 0:
            for name, part in (("shown", shown), ("new", new)):
                if (outputs(part).argmax(1) == y[part]).float().mean() > 0.99:
                    since.setdefault(name, step)
            if len(since) == 2:
                break
        optimizer.zero_grad()
        nn.functional.cross_entropy(outputs(shown), y[shown]).backward()
        optimizer.step()
    learned, understood = since["shown"], since.get("new", steps)  # if not within the steps, a bound
    return {"shown": learned, "new": understood, "later": understood / learned, "grokked": "new" in since}


study.claim(
    "ten-times-later",
    "New sums are right more than ten times later than those shown.",
    value="metrics.later",
    statistic="median_ratio",
    above=10.0,
    source="Power 2022, abstract",
)
study.claim(
    "in-the-end",
    "New sums are right in the end, in most runs.",
    value="metrics.grokked",
    statistic="share",
    above=0.5,
    source="Power 2022, abstract",
)

if __name__ == "__main__":
    study.main()
