"""The smoke survey again and again, while a random process of its own is killed every few seconds.

    python benchmarks/soak.py [--minutes 20] [--every 4] [--seed 0] [STUDY ...]

A round is one survey in a new folder: whenever the whole program was killed, the same command starts it again, until it
ends by itself. Then its tables and verdicts must be, byte for byte, those of a survey that nobody disturbed; and when
all is over no process, no temporary file and no shared memory may be left, and memory must not have grown from round to
round. Ends with 1 where any of this does not hold.
"""

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

GROWTH = 1.25  # of the highest memory of the last rounds over that of the first: more is a leak
MOST = 90  # seconds of one round during which it is disturbed: then it may end


def tables(folder: Path) -> dict[str, bytes]:
    """Every table and verdict, byte by byte."""
    found = [*folder.glob("*/tables/*.csv"), *folder.glob("*/claims.json")]
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(found)}


def family(parent: int) -> Iterator[int]:
    """A process and all that come from it."""
    yield parent
    try:
        children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    except OSError:
        return
    for child in children:
        yield from family(int(child))


def memory(pid: int) -> int:
    """Bytes that a process holds for itself and in shared pages."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError, ValueError):
        return 0


def ours(mark: str) -> list[int]:
    """Processes whose environment bears the mark: ours, whoever is their parent by now."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if (
                mark.encode() in path.read_bytes()
                and "Z" not in (path.parent / "stat").read_text().rsplit(")", 1)[1][:3]
            ):
                found.append(int(path.parent.name))
        except OSError:
            continue
    return [pid for pid in found if pid != os.getpid()]


def left_over(scratch: Path) -> set[str]:
    """Temporary files and shared memory that are there now, but for PyTorch's empty folder.

    Whatever imports its compiler makes that one, and ``torch.func.grad`` does.
    """
    found = {path for place in (scratch, Path("/dev/shm")) if place.is_dir() for path in place.iterdir()}
    return {str(path) for path in found if not (path.name.startswith("torchinductor_") and not any(path.iterdir()))}


class Soak:
    """The program under test, its scratch folder, and what was counted."""

    def __init__(self, studies: list[str], root: Path, seed: int) -> None:
        self.draw = random.Random(seed)
        self.scratch = root / "tmp"
        self.scratch.mkdir()
        self.mark = f"THEODOLITE_SOAK={os.getpid()}-{time.time_ns()}"
        name, _, value = self.mark.partition("=")
        self.environment = {**os.environ, name: value, "TMPDIR": str(self.scratch)}
        self.words = ["run", *studies] if studies else ["survey"]
        self.kills = {"driver": 0, "worker": 0}
        self.highest = 0

    def start(self, folder: Path) -> subprocess.Popen[bytes]:
        """The survey, from the start or going on."""
        command = [sys.executable, "-m", "theodolite", *self.words, "--preset", "smoke", "--out", str(folder)]
        return subprocess.Popen(
            command, env=self.environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True
        )

    def round(self, folder: Path, every: float, until: float) -> str:
        """One survey under fire; what is wrong with it, or nothing."""
        running = self.start(folder)
        until = min(until, time.monotonic() + MOST)
        while True:
            wait = self.draw.uniform(0.2, 1.8) * every if every and time.monotonic() < until else 0.2
            due = time.monotonic() + wait
            while running.poll() is None and time.monotonic() < due:
                self.highest = max(self.highest, *map(memory, family(running.pid)))
                time.sleep(0.1)
            if running.poll() is None and every and time.monotonic() < until:
                self.kill(running)
            if running.poll() is not None:
                assert running.stderr is not None
                said = running.stderr.read().decode()
                running.stderr.close()
                if running.returncode == 0:
                    return ""
                if running.returncode not in (1, -signal.SIGKILL):  # 1: a run failed, its worker died three times
                    return f"ended with {running.returncode}: {said[-500:]}"
                running = self.start(folder)

    def kill(self, running: subprocess.Popen[bytes]) -> None:
        """Any process of the survey, the program itself included."""
        victim = self.draw.choice(list(family(running.pid)))
        try:
            os.kill(victim, signal.SIGKILL)
        except ProcessLookupError:
            return
        self.kills["driver" if victim == running.pid else "worker"] += 1
        if victim == running.pid:
            running.wait()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("studies", nargs="*", help="studies of the survey; all by default")
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--every", type=float, default=4.0, help="seconds between two kills, on average")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    root = Path(tempfile.mkdtemp(prefix="soak-"))
    soak = Soak(options.studies, root, options.seed)
    before = left_over(soak.scratch)
    faults = [soak.round(root / "undisturbed", 0.0, 0.0)]
    expected = tables(root / "undisturbed")
    print(
        f"undisturbed: {len(expected)} tables and verdicts, {soak.highest / 1e6:.0f} MB at most in a process",
        flush=True,
    )
    until, peaks = time.monotonic() + 60 * options.minutes, []
    while time.monotonic() < until:
        folder, soak.highest = root / "round", 0
        faults.append(soak.round(folder, options.every, until))
        found = tables(folder)
        if found != expected:
            faults.append(f"differs in {[n for n in {*found, *expected} if found.get(n) != expected.get(n)]}")
        parts = [str(path) for path in folder.rglob("*") if path.name.endswith(".part") or path.parent.name == "live"]
        faults += [f"left in the folder: {parts}"] if parts else []
        peaks.append(soak.highest)
        kills = f"{soak.kills['driver']} drivers and {soak.kills['worker']} other processes killed so far"
        print(
            f"round {len(peaks)}: identical {found == expected}, {kills}, {peaks[-1] / 1e6:.0f} MB at most", flush=True
        )
        shutil.rmtree(folder)
    deadline = time.monotonic() + 10
    while ours(soak.mark) and time.monotonic() < deadline:
        time.sleep(0.2)
    left = [path for path in left_over(soak.scratch) - before if not path.endswith(".lock")]
    faults += [f"processes left: {ours(soak.mark)}"] if ours(soak.mark) else []
    faults += [f"temporary files or shared memory left: {left}"] if left else []
    if len(peaks) > 3 and max(peaks[-2:]) > GROWTH * max(peaks[:2]):
        faults.append(f"memory grew: {[round(peak / 1e6) for peak in peaks]} MB")
    shutil.rmtree(root)
    faults = [fault for fault in faults if fault]
    print("\n".join(faults) or f"complete and identical in {len(peaks)} rounds; nothing left behind, memory flat")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
