"""Networks out of a file of the user's own."""

import json
from functools import lru_cache
from typing import Any

import torch
from torch import nn

from theodolite.code.reference import Reference
from theodolite.errors import CodeFailed
from theodolite.models.description import CodeModel


def code(reference: str, /, **arguments: Any) -> CodeModel:
    """Describe the network that a function in a file makes, for a run of our engine.

    The random state is set from the run's seed before each call. The code of the file, and of the modules that it
    imports from its own folder, enters the names of runs.

    Args:
        reference: ``FILE.py:NAME``, a function that returns a :class:`torch.nn.Module`.
        arguments: of the function: numbers, texts and lists of them.

    Raises:
        CodeFailed: there is no such file or function, it raised an error, or made no module.
    """
    made = Reference.to(reference, arguments)
    parameters, layers = _size(made.model_dump_json())
    return CodeModel(made=made, parameters=parameters, layers=layers)


def built(description: CodeModel) -> nn.Module:
    """The module, drawn from PyTorch's random state as it is."""
    module = description.made.call()
    if not isinstance(module, nn.Module):
        raise CodeFailed(
            f"expected a torch.nn.Module from {description.made.name}(), got {type(module).__name__}. Return one."
        )
    return module


@lru_cache
def _size(content: str) -> tuple[int, int]:
    """Trainable numbers, and modules that have some of their own."""
    made = Reference(**json.loads(content))
    with torch.random.fork_rng(devices=[]):
        module = built(CodeModel(made=made, parameters=0, layers=0))
    own = [part for part in module.modules() if any(p.requires_grad for p in part.parameters(recurse=False))]
    return sum(p.numel() for p in module.parameters() if p.requires_grad), len(own)
