"""What ran it: versions, processor, threads, commit and memory, for the records. Imports no torch."""

import ctypes
import platform
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

from threadpoolctl import threadpool_info, threadpool_limits

LISTED = ("theodolite", "torch", "numpy")
BFLOAT16 = ("avx512_bf16", "amx_bf16", "bf16")  # x86 with AVX-512 or AMX, and ARM
TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # parameters of glibc's mallopt, in malloc.h
KEPT, LARGEST = 256 << 20, 32 << 20  # bytes that a worker may keep, and of one block: glibc takes no more


@cache  # a survey asks once a study; git and the package index need not be read each time
def describe() -> Mapping[str, Any]:
    """Versions, platform, processor and, in a checkout of Theodolite, its git commit."""
    return {
        "versions": {name: version(name) for name in LISTED} | {"python": platform.python_version()},
        "platform": platform.platform(),
        "processor": _processor(),
        "git_commit": _commit(),
    }


@contextmanager
def one_thread() -> Iterator[None]:
    """Let every numerical library of this process compute with one thread; also a decorator.

    A sum that is cut in as many parts as there are threads is rounded otherwise with each number of them: PCA and
    eigenvalues of NumPy and SciPy would differ with the environment (OMP_NUM_THREADS and its kin) and the machine.
    Small networks lose nothing: two processes with one thread beat one with two.
    """
    import numpy  # noqa: F401
    import scipy.linalg  # noqa: F401  # only libraries that are loaded have threads to be told of

    torch = sys.modules.get("torch")  # has a linear algebra of its own inside, which shows no threads to others
    before = torch.get_num_threads() if torch else 0
    with threadpool_limits(1):
        if torch:
            torch.set_num_threads(1)
        try:
            yield
        finally:
            if torch:
                torch.set_num_threads(before)


def arithmetic() -> Mapping[str, Any]:
    """What else decides the last bits: threads, and the processor's instructions that each library chose."""
    found = [library for library in threadpool_info() if library["user_api"] == "blas"]
    torch = sys.modules.get("torch")
    threads = [library["num_threads"] for library in found] + ([torch.get_num_threads()] if torch else [])
    kernels = {f"{one['internal_api']} {one['version']}": str(one.get("architecture", "")) for one in found}
    if torch:
        kernels["torch"] = torch.backends.cpu.get_cpu_capability()
    return {"threads": max(threads, default=1), "kernels": kernels}


def forget_peak_memory() -> None:
    """Start measuring peak memory anew where the system can (Linux); elsewhere the peak is the process's."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def peak_memory() -> int:
    """Bytes: the most memory this process held since :func:`forget_peak_memory`, or since its start."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))
    except (OSError, StopIteration):
        try:
            import resource
        except ImportError:  # Windows, where the package asks for psutil
            return int(import_module("psutil").Process().memory_info().peak_wset)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024  # bytes there, KiB elsewhere


def keep_memory() -> bool:
    """Let this process keep up to 256 MB of freed memory and use it again; True where its C library can (glibc).

    It would give the memory of a training step back after each step, and the system would clear every page of the next
    one: up to 40 % of a convolutional network's time, at 60 MB of activations (docs/performance-images.md).
    Blocks above 32 MB still go back at once.
    """
    try:
        set_option = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # another C library; Windows has no CDLL(None)
        return False
    return all(set_option(option, size) == 1 for option, size in ((MMAP_THRESHOLD, LARGEST), (TRIM_THRESHOLD, KEPT)))


def has_bfloat16() -> bool:
    """Whether the processor says that it multiplies bfloat16 matrices itself; without that, float32 is faster."""
    return any(name in _features() for name in BFLOAT16)


def _features() -> frozenset[str]:
    """What the processor says that it can do; empty where the system has no way to ask it."""
    try:
        if sys.platform == "darwin":
            command = ["/usr/sbin/sysctl", "-n", "hw.optional.arm.FEAT_BF16"]
            said = subprocess.run(command, capture_output=True, text=True, timeout=5, check=True).stdout.strip()  # noqa: S603
            return frozenset({"bf16"} if said == "1" else ())
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return frozenset(next(line for line in lines if line.startswith(("flags", "Features"))).split())
    except (OSError, StopIteration, subprocess.SubprocessError):
        return frozenset()


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _commit() -> str | None:
    """The commit of the checkout this package lies in; None where it is installed."""
    home = Path(__file__).resolve().parents[2]
    if not (home / ".git").exists():
        return None
    command = ["git", "-C", str(home), "rev-parse", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=5, check=True).stdout.strip()  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return None
