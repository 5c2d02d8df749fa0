"""A survey is planned, and its workers begin, without what they alone need."""

import os
import subprocess
import sys

STARTED = """
import sys
from pathlib import Path
from theodolite import survey

updates = survey.run(survey.prepare(["simulate-function", "interpolation", "minimal-ratio"], "full"), Path(sys.argv[1]))
print(sum(study.total for study in next(updates)), "torch" in sys.modules)
updates.close()
"""


def test_a_survey_of_perceptrons_is_planned_without_torch(tmp_path):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-c", STARTED, str(tmp_path / "r")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    planned, torch = done.stdout.split()
    assert int(planned) > 300
    assert torch == "False"
