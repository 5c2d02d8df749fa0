"""Long after the last training error the class means become a simplex, and the classes collapse onto them.

Published: trained past zero error, the class means of the last hidden layer collapse to a simplex, in which the cosine
of any two is -1/(C - 1), here -1/9, and the scatter within classes to nothing. Papyan, Han and Donoho 2020, "Prevalence
of neural collapse during the terminal phase of deep learning training", abstract. The mean cosine is near -1/9 in any
network, for centred means sum to zero: what is tested is how far the pairs lie from it. Weight decay is ten times
theirs, since training is much shorter.
"""

import theodolite as th
import torch
from torch import nn

study = th.study("neural-collapse", question="Do class means become a simplex past zero error?", seeds=8)


def collapse(features, y):
    """Mean distance of the cosines from -1/9, and the scatter within classes over that between them."""
    means = torch.stack([features[y == label].mean(0) for label in range(10)])
    centred = means - means.mean(0)
    cosines = nn.functional.cosine_similarity(centred[:, None], centred[None], dim=2)
    apart = (cosines[~torch.eye(10, dtype=torch.bool)] + 1 / 9).abs().mean()
    within, between = (torch.cov(rows.T, correction=0) for rows in (features - means[y], centred))
    return apart.item(), (torch.trace(within @ torch.linalg.pinv(between, rtol=1e-4)) / 10).item()


@study.run(epochs=[200])
def train(seed, epochs):
    data = th.data.load(th.data.DataSpec(source="digits"))
    y = torch.tensor(data.train_targets)
    order = torch.randperm(len(y))
    kept = torch.cat([order[y[order] == label][:100] for label in range(10)])  # as many of each class
    x, y = torch.from_numpy(data.inputs_as()).flatten(1)[kept], y[kept]
    body = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU())
    model, found = nn.Sequential(body, nn.Linear(128, 10)), {}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-3)
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [epochs // 3, 2 * epochs // 3])
    for _ in range(epochs):
        for batch in torch.randperm(len(x)).split(100):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x[batch]), y[batch]).backward()
            optimizer.step()
        schedule.step()
        with torch.no_grad():
            if not found and (model(x).argmax(1) == y).all():
                found["first_angle"], found["first_scatter"] = collapse(body(x), y)
    with torch.no_grad():
        found["angle"], scatter = collapse(body(x), y)
    return found | {"scatter": scatter, "scatter_left": scatter / found.get("first_scatter", float("nan"))}


claimed = {"source": "Papyan 2020, abstract", "statistic": "ratio", "below": 0.1}
study.claim("simplex", "In the mean, cosines end within 0.1 of -1/9.", value="metrics.angle", **claimed)
study.claim(
    "collapse", "Scatter within classes falls to a tenth of its first.", value="metrics.scatter_left", **claimed
)

if __name__ == "__main__":
    study.main()
