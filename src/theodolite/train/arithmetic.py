"""One way to each number, whatever the caller has set."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def one_arithmetic(*, onednn: bool) -> Iterator[None]:
    """Keep PyTorch on one thread, and with oneDNN's kernels or without; the caller's settings come back.

    More threads would cut elementwise loops where no replica ends.
    """
    threads, before = torch.get_num_threads(), torch.backends.mkldnn.enabled
    torch.set_num_threads(1)
    torch.backends.mkldnn.enabled = onednn  # type: ignore[assignment]
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.backends.mkldnn.enabled = before
