"""What is asked of the machine, against what the machine then does."""

import subprocess
import sys

from theodolite import machine

STEPS = """
import ctypes, resource, sys
from theodolite import machine

library = ctypes.CDLL(None)
library.malloc.restype = ctypes.c_void_p
library.free.argtypes = [ctypes.c_void_p]
library.memset.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]

def step():
    blocks = [library.malloc(15 << 20) for _ in range(4)]
    for block in blocks:
        library.memset(block, 1, 15 << 20)
    for block in blocks:
        library.free(block)

assert sys.argv[1] == "as it is" or machine.keep_memory()
step()
step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def new_pages(how):
    """Pages that the system hands out, cleared, for 60 MB that were used and freed just before."""
    said = subprocess.run([sys.executable, "-c", STEPS, how], capture_output=True, text=True, check=True)
    return int(said.stdout)


def test_a_worker_that_keeps_its_memory_is_given_no_new_pages():
    assert new_pages("kept") < 100 < 10_000 < new_pages("as it is")


def test_where_the_c_library_gives_no_say_nothing_is_kept(monkeypatch):
    monkeypatch.setattr("ctypes.CDLL", lambda _: object())
    assert machine.keep_memory() is False
