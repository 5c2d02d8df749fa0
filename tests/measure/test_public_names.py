import subprocess
import sys

import pytest

from theodolite import measure

SHARED_WITH_A_FILE = ["gradient_norm", "interpolate", "surface", "sensitivity", "sharpness", "trajectory"]


def test_names_of_instruments_are_functions_even_after_their_files_were_imported():
    files = "".join(f"import theodolite.measure.{name}\n" for name in SHARED_WITH_A_FILE)
    asked = f"from theodolite import measure\nassert all(callable(getattr(measure, n)) for n in {SHARED_WITH_A_FILE})"
    subprocess.run([sys.executable, "-c", files + asked], check=True)


@pytest.mark.parametrize("name", [*SHARED_WITH_A_FILE, "align", "connect", "random_plane", "path_plane"])
def test_instruments_are_functions_however_often_they_are_asked_for(name):
    assert callable(getattr(measure, name))
    assert getattr(measure, name) is getattr(measure, name)


def test_the_first_use_of_an_instrument_which_imports_it_draws_no_random_number():
    asked = """
import random, numpy, torch
from theodolite import measure
states = random.getstate(), repr(numpy.random.get_state()), torch.get_rng_state()
for name in measure.__all__:
    getattr(measure, name)
assert "rich.style" in __import__("sys").modules  # which draws one
assert states[:2] == (random.getstate(), repr(numpy.random.get_state()))
assert torch.equal(states[2], torch.get_rng_state())
"""
    subprocess.run([sys.executable, "-c", asked], check=True)
