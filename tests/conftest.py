"""Which cases `make test` takes; and what one test leaves behind in the process is not there for the next."""

from collections import defaultdict
from collections.abc import Iterator
from zlib import crc32

import pytest
import torch

from theodolite.measure import catalogue
from theodolite.measure.results.kinds import KINDS, OURS

# For each seed that is set PyTorch keeps the stack, for devices that may yet begin: of a test, a hundred frames each.
for device in (torch.cuda, torch.xpu, torch.mtia):
    if not device.is_available():
        device.manual_seed_all = lambda seed: None


@pytest.hookimpl(tryfirst=True)  # before they are chosen by their marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Of the cases of a test that is marked ``sampled(n)`` one in n stays in `make test`, the same ones each time.

    They are those with the lowest checksums of their names: every n-th of a table could be a single column of it.
    """
    tests = defaultdict(list)
    for item in items:
        if mark := item.get_closest_marker("sampled"):
            tests[item.nodeid.partition("[")[0], mark.args[0]].append(item)
    for (_, share), cases in tests.items():
        cases.sort(key=lambda case: crc32(case.name.encode()))
        for case in cases[-(-len(cases) // share) :]:
            case.add_marker(pytest.mark.thorough)


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
