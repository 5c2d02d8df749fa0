"""BatchNorm statistics renewed for given weights: between two networks neither's own statistics fit."""

import copy
from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from theodolite.measure.problem.batches import count
from theodolite.measure.problem.isolation import preserve_rng
from theodolite.measure.problem.objective import Objective


def batch_norms(model: nn.Module) -> dict[str, _BatchNorm]:
    """The layers of a model that keep running statistics, by name."""
    return {n: m for n, m in model.named_modules() if isinstance(m, _BatchNorm) and m.track_running_stats}


def on_batch_statistics(whole: Objective) -> Objective:
    """The same objective on a copy of its model whose BatchNorm layers, and only they, are in training mode."""
    model = copy.deepcopy(whole.model)
    for layer in batch_norms(model).values():
        layer.train()
    return replace(whole, model=model)


def renewed(whole: Objective, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Running means and variances that the data give at these weights: ``state`` with them in place.

    Batch means and (unbiased) batch variances, averaged with each batch's share of the samples; one batch gives the
    data's own. Dropout stays as it is, unlike in :func:`torch.optim.swa_utils.update_bn`.
    """
    copied = on_batch_statistics(whole)
    layers = batch_norms(copied.model)
    own = {n: b.clone() for n, b in copied.model.named_buffers() if n.rpartition(".")[0] in layers}
    seen = 0
    with preserve_rng(), torch.no_grad():
        for batch, _ in copied.batches():
            size = count(batch)
            seen += size
            for layer in layers.values():
                layer.momentum = size / seen
            copied.outputs({**state, **own}, batch[0])  # writes the statistics into `own`
    return {**state, **own}
