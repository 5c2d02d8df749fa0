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
