"""What one test leaves behind in the process is not there for the next."""

from collections.abc import Iterator

import pytest
import torch

from theodolite.measure import catalogue

# For each seed that is set PyTorch keeps the stack, for devices that may yet begin: of a test, a hundred frames each.
for device in (torch.cuda, torch.xpu, torch.mtia):
    if not device.is_available():
        device.manual_seed_all = lambda seed: None


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    """Instruments that a test registers are not known to the next."""
    before = dict(catalogue.INSTRUMENTS)
    yield
    catalogue.INSTRUMENTS.clear()
    catalogue.INSTRUMENTS.update(before)
