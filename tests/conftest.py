"""What one test leaves behind in the process is not there for the next."""

from collections.abc import Iterator

import pytest

from theodolite.measure import catalogue


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    """Instruments that a test registers are not known to the next."""
    before = dict(catalogue.INSTRUMENTS)
    yield
    catalogue.INSTRUMENTS.clear()
    catalogue.INSTRUMENTS.update(before)
