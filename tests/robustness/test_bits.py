"""The same bits whatever the environment says of threads, hashes, language, time and place."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import scipy.linalg  # noqa: F401
from threadpoolctl import threadpool_info

from theodolite import machine

# Figures are not drawn, which is most of the time: they are made of these numbers.
SURVEY = """
import json, sys
from pathlib import Path
from theodolite import survey

if __name__ == "__main__":
    small = {"random": 3, "symmetric": 1, "field": 1, "trainings": 1, "snapshots": 2, "first": 2, "norm": 2}
    changed = [f"minimal-ratio.{name}={value}" for name, value in small.items()]
    changed += ["minimal-ratio.steps=10", "minimal-ratio.initial=8"]
    changed += ["simulate-function.epochs=4", "simulate-function.points=32"]
    prepared = survey.prepare(["minimal-ratio", "simulate-function"], "smoke", seeds=1, overrides=changed)
    for progress in survey.run(prepared, Path(sys.argv[1]), workers=int(sys.argv[2])):
        assert not any(study.failed for study in progress), progress
    found = survey.findings(Path(sys.argv[1]))
    said = [verdict.model_dump(mode="json") for study in found for verdict in study.verdicts]
    print(json.dumps([said, [table.frame.to_csv() for study in found for table in study.tables]]))
"""
ENVIRONMENTS = {
    "one thread, one worker": (
        {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONHASHSEED": "1"},
        1,
    ),
    "as many threads as there are, two workers": ({"PYTHONHASHSEED": "2", "LC_ALL": "C", "TZ": "Asia/Kathmandu"}, 2),
}  # fmt: skip


def surveyed(folder: Path, changes: dict[str, str], workers: int) -> tuple[dict[str, str], str]:
    """Every table and all weights, and what a report says.

    The other two files of a record say when and where, and have that one's checksum.
    """
    folder.mkdir()
    (folder / "program.py").write_text(SURVEY)
    ours = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    environment = {**ours, **changes, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "program.py", "results", str(workers)]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    files = [*folder.glob("results/*/*/*/*.parquet"), *folder.glob("results/*/*/*/*.safetensors")]
    assert {"minimal-ratio", "simulate-function"} == {path.parts[-4] for path in files}
    for path in folder.glob("results/*/*/*/spec.json"):
        record = json.loads(path.read_text())
        assert record["threads"] == 1
        assert record["processor"]
        assert record["kernels"]["torch"]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}, done.stdout


@pytest.mark.thorough
@pytest.mark.timeout(1900)
def test_records_and_verdicts_are_the_same_bytes_in_every_environment(tmp_path):
    first, second = (
        surveyed(tmp_path / str(number), changes, workers)
        for number, (changes, workers) in enumerate(ENVIRONMENTS.values())
    )
    assert second == first


def threads() -> list[int]:
    return [library["num_threads"] for library in threadpool_info()]


def test_every_library_computes_with_one_thread_and_takes_its_own_again():
    before = threads()
    with machine.one_thread():
        assert set(threads()) == {1}
        assert machine.arithmetic()["threads"] == 1
    assert threads() == before
