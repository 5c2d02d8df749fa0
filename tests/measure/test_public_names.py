import subprocess
import sys

import pytest

from theodolite import measure

SHARED_WITH_A_FILE = ["gradient_norm", "interpolate", "surface", "sensitivity", "sharpness", "trajectory"]


@pytest.mark.parametrize("name", SHARED_WITH_A_FILE)
def test_name_of_an_instrument_is_the_function_even_after_its_file_was_imported(name):
    code = f"import theodolite.measure.{name}\nfrom theodolite import measure\nassert callable(measure.{name})"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("name", [*SHARED_WITH_A_FILE, "align", "connect", "random_plane", "path_plane"])
def test_instruments_are_functions_however_often_they_are_asked_for(name):
    assert callable(getattr(measure, name))
    assert getattr(measure, name) is getattr(measure, name)
