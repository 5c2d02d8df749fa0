"""What a caller may have set, and what may be around a model, while something is measured: one table for all."""

from contextlib import contextmanager

import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_hook


@contextmanager
def default_dtype():
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        assert torch.get_default_dtype() == torch.float64
        torch.set_default_dtype(torch.float32)


@contextmanager
def deterministic():
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        assert torch.are_deterministic_algorithms_enabled()
        torch.use_deterministic_algorithms(False)


@contextmanager
def hooked():
    handle = register_module_forward_hook(lambda module, inputs, output: None)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def autocast_without_gradients():
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        yield


STATES = {
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "autocast without gradients": autocast_without_gradients,
    "default dtype": default_dtype,
    "default device": lambda: torch.device("meta"),
    "deterministic": deterministic,
    "hooks on all modules": hooked,
    "anomalies detected": lambda: torch.autograd.set_detect_anomaly(True),
}
WRAPPED = {"compiled": lambda m: torch.compile(m, backend="eager"), "parallel": nn.DataParallel}
