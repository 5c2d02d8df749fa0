"""A pruned network, put back to its own initial weights, learns better than the whole, and than from new weights.

Published: winning tickets of more than a tenth to a fifth of the weights reach a higher test accuracy than the whole
network, and drawn anew they learn worse. Frankle and Carbin 2019, "The Lottery Ticket Hypothesis: Finding Sparse,
Trainable Neural Networks", abstract. Here a fully-connected LeNet, pruned by magnitude until 21 % are left.
"""

import theodolite as th
import torch
from torch import nn

study = th.study("winning-tickets", question="Do pruned networks learn better from their own first weights?", seeds=8)


def network(inputs):
    return nn.Sequential(nn.Linear(inputs, 300), nn.ReLU(), nn.Linear(300, 100), nn.ReLU(), nn.Linear(100, 10))


def trained(start, masks, x, y, steps, generator):
    """A network from these weights, those outside the masks held at zero."""
    model = network(x.shape[1])
    with torch.no_grad():
        for weight, first, mask in zip(model.parameters(), start, masks, strict=True):
            weight.copy_(first * mask)
            weight.register_hook(lambda gradient, mask=mask: gradient * mask)
    optimizer = torch.optim.Adam(model.parameters(), lr=1.2e-3)
    for _ in range(steps):
        batch = torch.randint(len(x), (60,), generator=generator)
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x[batch]), y[batch]).backward()
        optimizer.step()
    return model


@study.run(source=["mnist"], steps=[400])
def accuracies(seed, source, steps):
    data = th.data.load(th.data.DataSpec(source=source, train=5_000 if source == "mnist" else None, seed=seed))
    x, y = torch.from_numpy(data.inputs_as()).flatten(1), torch.tensor(data.train_targets)
    test, truth = torch.from_numpy(data.inputs_as(part="test")).flatten(1), torch.tensor(data.test_targets)
    generator = torch.Generator().manual_seed(seed)
    start, other = ([weight.detach() for weight in network(x.shape[1]).parameters()] for _ in range(2))
    masks = [torch.ones_like(weight) for weight in start]
    whole = model = trained(start, masks, x, y, steps, generator)
    for _ in range(7):  # 0.8 to the seventh is 0.21
        for number, (weight, mask) in enumerate(zip(model.parameters(), masks, strict=True)):
            if weight.ndim == 2:  # of the last layer half as much
                kept = weight[mask > 0].abs()
                mask[weight.abs() < kept.quantile(0.1 if number == 4 else 0.2)] = 0
        model = trained(start, masks, x, y, steps, generator)
    fresh = trained(other, masks, x, y, steps, generator)
    ends = {"whole": whole, "ticket": model, "fresh": fresh}.items()
    found = {name: (one(test).argmax(1) == truth).float().mean().item() for name, one in ends}
    return found | {"over_whole": found["ticket"] - found["whole"], "over_fresh": found["ticket"] - found["fresh"]}


study.claim("beats-whole", "A winning ticket ends above the whole network.", value="metrics.over_whole", above=0.0)
study.claim("beats-fresh", "It ends above the same sparse network drawn anew.", value="metrics.over_fresh", above=0.0)

if __name__ == "__main__":
    study.main()
