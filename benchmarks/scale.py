"""What a survey costs its driver, and its readers, as it grows: benchmarks/scale.py [--runs 100 1000 10000].

Every survey is real: trainings of two epochs by two workers, a real results folder, the commands as a user types them,
each in a process of its own. Driver time is processor time of the process that plans, listens and writes the plan, its
workers not counted. The driver's memory is read after a tenth of the runs and
at the end: what lies between grows with the survey.

    --engine ray     the same over a Ray cluster of this machine
    --folder DIR     keep the results there, instead of in a temporary folder that is removed
    --most 600       seconds after which a command is given up, and its entry left empty
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

STUDY = "simulate-function"  # six runs a seed: three networks, two functions
SETTINGS = ["epochs=2", "evaluate_every=1", "points=64", "batch_size=null"]
COMMANDS = ("status", "claims", "report")


def driver(directory: Path, seeds: int, engine: str, workers: int) -> dict[str, float]:
    """One survey, in this process: what it cost beyond the imports."""
    from theodolite import survey

    started, imported = time.monotonic(), time.process_time()
    prepared = survey.prepare([STUDY], "smoke", seeds=seeds, overrides=SETTINGS)
    early, total = 0.0, len(prepared[0].runs)
    for (progress,) in survey.run(prepared, directory, workers=workers, engine=engine):
        if not early and progress.done >= total / 10:
            early = held()
    if progress.failed or progress.done != total:
        raise SystemExit(f"expected {total} finished runs, got {progress}")
    return {
        "runs": total,
        "driver": time.process_time() - imported,
        "wall": time.monotonic() - started,
        "early": early,
        "late": held(),
        "most": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3,
    }


def held() -> float:
    """MB this process holds now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def timed(command: list[str], most: float) -> tuple[float, float] | None:
    """Seconds of a command, and the MB it held at most; None if it was given up."""
    started = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    while True:
        pid, status, usage = os.wait4(process.pid, os.WNOHANG)
        if pid:
            process.returncode = os.waitstatus_to_exitcode(status)
            assert process.returncode == 0, command
            return time.monotonic() - started, usage.ru_maxrss / 1e3
        if time.monotonic() - started > most:
            process.kill()
            process.wait()
            return None
        time.sleep(0.02)


def row(directory: Path, count: int, arguments: argparse.Namespace) -> str:
    """One survey and its commands, as a row of the table."""
    own = [sys.executable, __file__, "--seeds", str(max(1, round(count / 6))), "--folder", str(directory)]
    own += ["--engine", arguments.engine, "--workers", str(arguments.workers)]
    found = json.loads(subprocess.run(own, check=True, capture_output=True, text=True).stdout)
    taken = [timed([sys.executable, "-m", "theodolite", c, str(directory)], arguments.most) for c in COMMANDS]
    cells = [f"{t[0]:.1f} s, {t[1]:.0f} MB" if t else f"over {arguments.most:.0f} s" for t in taken]
    each = 1e3 * found["driver"] / found["runs"]
    memory = f"{found['early']:.0f}, {found['late']:.0f}, {found['most']:.0f} MB"
    return " | ".join([f"| {found['runs']:,.0f}", f"{found['wall']:.0f} s", f"{each:.1f} ms", memory, *cells]) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, nargs="+", default=[100, 1000, 10000])
    parser.add_argument("--engine", default="local")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--most", type=float, default=600.0)
    parser.add_argument("--seeds", type=int, help=argparse.SUPPRESS)  # of one survey, whose driver this process is
    arguments = parser.parse_args()
    if arguments.seeds:
        print(json.dumps(driver(arguments.folder, arguments.seeds, arguments.engine, arguments.workers)))
        return
    print("| runs | wall | driver, a run | its memory: early, late, most | " + " | ".join(COMMANDS) + " |")
    print("| ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    with tempfile.TemporaryDirectory() as temporary:
        for count in arguments.runs:
            print(row((arguments.folder or Path(temporary)) / str(count), count, arguments), flush=True)


if __name__ == "__main__":
    main()
