"""From one start, two orders of the data end in one valley; from two starts they do not.

Published: in small settings such as MNIST networks are stable from their initialization on: two that are trained from
the same weights with other orders of the data end in one linearly connected region. Frankle, Dziugaite, Roy and Carbin
2020, "Linear Mode Connectivity and the Lottery Ticket Hypothesis", abstract. Their bound for "stable" is 2 % of error.
"""

import theodolite as th
import torch
from torch import nn

study = th.study("linear-connectivity", question="Are networks from one start joined by a line of low error?", seeds=8)


def network(inputs):
    return nn.Sequential(nn.Linear(inputs, 300), nn.ReLU(), nn.Linear(300, 100), nn.ReLU(), nn.Linear(100, 10))


@study.run(source=["mnist"], start=["same", "other"], steps=[1000])
def barrier(seed, source, start, steps):
    data = th.data.load(
        th.data.DataSpec(
            source=source,
            train=10_000 if source == "mnist" else None,
            test=2_000 if source == "mnist" else None,
            seed=seed,
        )
    )
    x, y = torch.from_numpy(data.inputs_as()).flatten(1), torch.tensor(data.train_targets)
    test = torch.from_numpy(data.inputs_as(part="test")).flatten(1), torch.tensor(data.test_targets)
    one, other = network(x.shape[1]), network(x.shape[1])
    if start == "same":
        other.load_state_dict(one.state_dict())
    for model in (one, other):  # the generator goes on, so the second sees another order
        optimizer = torch.optim.Adam(model.parameters(), lr=1.2e-3)
        for _ in range(steps):
            batch = torch.randint(len(x), (60,))
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x[batch]), y[batch]).backward()
            optimizer.step()
    line = th.measure.interpolate(one, other, nn.CrossEntropyLoss(), test, [a / 10 for a in range(11)])
    return {"error": 1 - line.accuracy[0].item(), "barrier": line.error_barrier}


def arm(name):
    return lambda records: records.table("metrics").query(f"start == '{name}'").set_index("seed")["barrier"]


study.claim("same-start", "From one start the error rises by less than 2 %.", evidence=arm("same"), below=0.02)
study.claim("other-start", "From two starts it rises by more.", evidence=arm("other"), above=0.02)

if __name__ == "__main__":
    study.main()
