"""Run what matters of the tests at the lowest versions that are declared, and at the newest there are.

    make matrix                                     every Python, lowest and newest: an hour, and some ten gigabytes
    python tests/matrix.py 3.11 --versions lowest   one of them
    python tests/matrix.py 3.11 --pin torch==2.13.0 the lowest and newest of all else, with this one

Needs uv, and Pythons that it finds or may fetch. Each set has an environment of its own in build/matrix, and takes
nothing that must be compiled: where no wheel of a lowest version exists for a Python, the lowest that has one.
UV_FIND_LINKS or UV_TORCH_BACKEND choose a build of PyTorch. Tests that need a package that is not there are skipped.
What each set's tests print is kept beside its environment, as build/matrix/3.11-lowest.log.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
HOME = ROOT / "build" / "matrix"
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
VERSIONS = {"lowest": "lowest-direct", "newest": "highest"}
BESIDE = ("hypothesis", "mpmath", "packaging", "pytest", "pytest-timeout")
SHOWN = ("torch", "numpy", "scipy", "pandas", "pyarrow", "pydantic", "typer", "altair")
TESTS = (  # of each package whose versions differ, what would break
    "tests/measure/test_gradient_norm.py", "tests/measure/test_hessian_eigenvalues.py", "tests/measure/linalg",
    "tests/measure/test_sensitivity.py", "tests/measure/test_hessian_spectrum.py", "tests/measure/test_sharpness.py",
    "tests/measure/test_trajectory.py", "tests/measure/results", "tests/claims/test_tables.py",
    "tests/record/test_log.py", "tests/recordings/test_frames.py", "tests/figures/test_render.py",
    "tests/report/test_build.py", "tests/models", "tests/own/test_run.py", "tests/install/test_core.py",
)  # fmt: skip


def uv(*arguments: str) -> None:
    subprocess.run(["uv", *arguments], check=True, cwd=ROOT)


def installed(python: str, versions: str, pins: Sequence[str]) -> Path:
    """The interpreter of an environment with the package and all that `theodolite[studies]` brings."""
    folder = HOME / f"{python}-{versions}"
    lock, pinned, found = HOME / f"{folder.name}.lock", HOME / f"{folder.name}.txt", folder / "bin" / "python"
    HOME.mkdir(parents=True, exist_ok=True)
    pinned.write_text("\n".join(pins) + "\n")
    uv(
        "pip", "compile", "--quiet", "--python", python, "--resolution", VERSIONS[versions], "--only-binary", ":all:",
        "--extra", "studies", "--constraint", str(pinned), "pyproject.toml", "--output-file", str(lock),
    )  # fmt: skip
    uv("venv", "--quiet", "--clear", "--python", python, str(folder))
    uv("pip", "install", "--quiet", "--python", str(found), "--requirement", str(lock), *BESIDE)
    uv("pip", "install", "--quiet", "--python", str(found), "--no-deps", ".")
    return found


def outcome(python: Path) -> str:
    """The last line that pytest prints, and all of them in a file. A warning of a peer is none of our faults."""
    command = [str(python), "-m", "pytest", "-q", "-W", "default", "-o", "addopts=--import-mode=importlib", *TESTS]
    settings = {"OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": ""}  # else each process of a test compiles all anew
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=os.environ | settings)
    (HOME / f"{python.parents[1].name}.log").write_text(done.stdout + done.stderr)
    lines = [line for line in done.stdout.splitlines() if " in " in line and re.search(r"passed|failed|error", line)]
    return lines[-1] if lines else f"exit {done.returncode}: {done.stderr.strip()[-200:]}"


def row(python: str, versions: str, pins: Sequence[str]) -> tuple[str, bool]:
    """A row of the table in docs/installing.md, and whether all passed."""
    try:
        interpreter = installed(python, versions, pins)
    except subprocess.CalledProcessError as error:  # uv has said why
        return f"| {python} | {versions} | not installed: {' '.join(error.cmd[:3])} failed |", False
    code = f"from importlib.metadata import version as v; print(*map(v, {SHOWN!r}))"
    said = subprocess.run([str(interpreter), "-c", code], capture_output=True, text=True, check=True, cwd=HOME).stdout
    result = outcome(interpreter)
    cells = [python, versions, *said.split(), result.partition(" in ")[0]]
    return f"| {' | '.join(cells)} |", bool(re.match(r"\d+ passed[^,]* in|\d+ passed, \d+ (skipped|warnings?)", result))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pythons", nargs="*", default=PYTHONS, metavar="PYTHON", help="3.11 3.12 3.13 3.14")
    parser.add_argument("--versions", choices=VERSIONS, nargs="*", default=list(VERSIONS))
    parser.add_argument("--pin", action="append", default=[], metavar="NAME==VERSION", help="this version in every set")
    asked = parser.parse_args()
    if shutil.which("uv") is None:
        raise SystemExit("expected uv on the PATH, which makes the environments. Install it with: pip install uv")
    print("| Python | versions |", " | ".join(SHOWN), "| tests |")
    print("| --- " * (len(SHOWN) + 3) + "|")
    rows = []
    for python in asked.pythons:
        for versions in asked.versions:
            rows.append(row(python, versions, asked.pin))
            print(rows[-1][0], flush=True)
    sys.exit(not all(passed for _, passed in rows))


if __name__ == "__main__":
    main()
