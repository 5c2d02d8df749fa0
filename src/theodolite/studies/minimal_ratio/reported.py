"""The report's protocol: loss, then the norm of its gradient, then loss again; every epoch put to the test."""

from collections.abc import Mapping
from typing import Any

import pandas as pd
import torch
from torch import Tensor
from torch.nn.utils import parameters_to_vector

from theodolite.streams import named_seed
from theodolite.studies.minimal_ratio.findings import AGAIN, FIRST, LETTER, NORM, WITH_DECAY
from theodolite.studies.minimal_ratio.places import places
from theodolite.studies.minimal_ratio.tasks import Problem
from theodolite.train import LOSSES


def protocol(task: Problem, settings: Mapping[str, Any], seed: int) -> Mapping[str, pd.DataFrame]:
    """The report's protocol, to the letter and on the landscape with weight decay, measured after every epoch."""
    parts = []
    for variant, decay in ((LETTER, 0.0), (WITH_DECAY, settings["weight_decay"])):
        vectors, phases = _by_the_report(task, settings, decay, seed)
        found = places(task, vectors, decay)
        parts.append(found.assign(variant=variant, phase=phases, epoch=range(len(phases))))
    return {"protocol": pd.concat(parts, ignore_index=True)}


def _by_the_report(task: Problem, settings: Mapping[str, Any], decay: float, seed: int) -> tuple[Tensor, list[str]]:
    """Weights before training and after each epoch ``(E, P)``, with the phase that each ends."""
    model, loss = task.module(named_seed(seed, "protocol")), LOSSES[task.loss]
    order = torch.Generator().manual_seed(named_seed(seed, "order of the protocol"))
    parameters = list(model.parameters())
    optimizer = torch.optim.Adam(parameters, settings["learning_rate"])
    vectors, phases = [parameters_to_vector(parameters).detach()], [FIRST]
    for phase in [FIRST] * settings["first"] + [NORM] * settings["norm"] + [AGAIN] * settings["after"]:
        for batch in torch.randperm(len(task.inputs), generator=order).split(settings["batch_size"]):
            optimizer.zero_grad()
            value = loss(model(task.inputs[batch]), task.targets[batch])
            value = value + 0.5 * decay * parameters_to_vector(parameters).square().sum()
            if phase == NORM:
                gradient = torch.autograd.grad(value, parameters, create_graph=True)
                value = parameters_to_vector(gradient).norm()
            value.backward()
            optimizer.step()
        vectors.append(parameters_to_vector(parameters).detach())
        phases.append(phase)
    return torch.stack(vectors), phases
