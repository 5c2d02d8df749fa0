"""What one test leaves behind in the process is not there for the next."""

from collections.abc import Iterator

import pytest
import torch

from theodolite.measure import catalogue
from theodolite.measure.results.kinds import KINDS, OURS

# For each seed that is set PyTorch keeps the stack, for devices that may yet begin: of a test, a hundred frames each.
for device in (torch.cuda, torch.xpu, torch.mtia):
    if not device.is_available():
        device.manual_seed_all = lambda seed: None


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    """Instruments and kinds of result that a test registers are not known to the next."""
    before, kinds = dict(catalogue.INSTRUMENTS), set(KINDS)
    yield
    for kind in KINDS.keys() - kinds:
        if not KINDS[kind].__module__.startswith(OURS):  # those register once, when they are first asked for
            del KINDS[kind]
    catalogue.INSTRUMENTS.clear()
    catalogue.INSTRUMENTS.update(before)
