"""The smoke survey again and again, while something befalls it every few seconds: a process killed, or any fault.

    python benchmarks/soak.py [--faults kill|all] [--minutes 30] [--every 4] [--seed 0] [STUDY ...]

A round is one survey in a new folder: whenever the whole program ended, the same command starts it again, until it
ends by itself. With ``--faults all`` any signal comes to any process of it, terminals close, a second survey starts
beside it, and every other start is on a machine that refuses it something (`faults.py`). Nothing of that may end in a
traceback. Then its tables and verdicts must be, byte for byte, those of a survey that nobody disturbed; and when all is
over no process, no temporary file and no shared memory may be left, and memory must not have grown from round to round.
Ends with 1 where any of this does not hold.
"""

import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import faults

GROWTH = 1.25  # of the highest memory of the last rounds over that of the first: more is a leak
PATIENCE = 60  # seconds that the last processes have to end, on a machine that others use too
ENDS = (1, 2, 120, 129, 130, 143)  # 1: a run failed, its worker died three times; 2: the machine refused something
SIGNALS = {signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGSEGV, signal.SIGPIPE}
OF_WORKERS = ("files", "processes")  # refused to a worker while it begins, of which Python itself tells


def tables(folder: Path) -> dict[str, bytes]:
    """Every table and verdict, byte by byte."""
    found = [*folder.glob("*/tables/*.csv"), *folder.glob("*/claims.json")]
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(found)}


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

    def __init__(self, studies: list[str], root: Path, seed: int, *, everything: bool) -> None:
        self.draw = random.Random(seed)
        self.known, self.refused = (faults.ALL, faults.REFUSED) if everything else (faults.KILL, ("",))
        self.scratch = root / "tmp"
        self.scratch.mkdir()
        self.mark = f"THEODOLITE_SOAK={os.getpid()}-{time.time_ns()}"
        name, _, value = self.mark.partition("=")
        self.environment = {**os.environ, name: value, "TMPDIR": str(self.scratch)}
        self.words = ["run", *studies] if studies else ["survey"]
        self.befell: Counter[str] = Counter()
        self.highest = 0
        self.most = 0.0  # seconds of one round during which it is disturbed: then it may end

    def start(self, folder: Path, refused: str = "") -> faults.Running:
        """The survey, from the start or going on."""
        command = [sys.executable, "-m", "theodolite", *self.words, "--preset", "smoke", "--out", str(folder)]
        self.befell[f"without {refused}"] += bool(refused)
        return faults.start(command, self.environment, refused)

    def round(self, folder: Path, every: float, until: float) -> list[str]:
        """One survey under fire; what is wrong with it."""
        running, wrong = self.start(folder), []
        until = min(until, time.monotonic() + self.most)
        while True:
            fire = every and time.monotonic() < until
            due = time.monotonic() + (self.draw.uniform(0.2, 1.8) * every if fire else 0.2)
            while running.process.poll() is None and time.monotonic() < due:
                self.highest = max(self.highest, *map(memory, faults.family(running.process.pid)))
                time.sleep(0.1)
            if running.process.poll() is None and fire:
                name = self.draw.choice(list(self.known))
                self.befell[f"{name} ({self.known[name](running, self.draw)})"] += 1
            if running.process.poll() is None:
                continue
            code, said = running.process.returncode, running.words()
            if "Traceback" in said and running.refused not in OF_WORKERS:
                wrong.append(f"a traceback, {running.refused or 'nothing'} refused: {said[-900:]}")
            if code == 0:
                return wrong
            if code not in ENDS and -code not in SIGNALS:
                wrong.append(f"ended with {code}: {said[-500:]}")
            fire = every and time.monotonic() < until
            running = self.start(folder, self.draw.choice(self.refused) if fire else "")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("studies", nargs="*", help="studies of the survey; all by default")
    parser.add_argument("--faults", choices=["kill", "all"], default="kill")
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--every", type=float, default=4.0, help="seconds between two faults, on average")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    root = Path(tempfile.mkdtemp(prefix="soak-"))
    soak = Soak(options.studies, root, options.seed, everything=options.faults == "all")
    before, began = left_over(soak.scratch), time.monotonic()
    wrong = soak.round(root / "undisturbed", 0.0, 0.0)
    soak.most = time.monotonic() - began  # as long as it takes by itself
    expected = tables(root / "undisturbed")
    print(
        f"undisturbed: {len(expected)} tables and verdicts in {soak.most:.0f} s, "
        f"{soak.highest / 1e6:.0f} MB at most in a process",
        flush=True,
    )
    until, peaks = time.monotonic() + 60 * options.minutes, []
    while time.monotonic() < until:
        folder, soak.highest = root / "round", 0
        wrong += soak.round(folder, options.every, until)
        found = tables(folder)
        if found != expected:
            wrong.append(f"differs in {[n for n in {*found, *expected} if found.get(n) != expected.get(n)]}")
        parts = [str(path) for path in folder.rglob("*") if path.name.endswith(".part") or path.parent.name == "live"]
        wrong += [f"left in the folder: {parts}"] if parts else []
        peaks.append(soak.highest)
        befell = ", ".join(f"{name} {count}" for name, count in sorted(soak.befell.items()) if count)
        print(
            f"round {len(peaks)}: identical {found == expected}; {peaks[-1] / 1e6:.0f} MB at most; so far: {befell}",
            flush=True,
        )
        shutil.rmtree(folder)
    deadline = time.monotonic() + PATIENCE
    while ours(soak.mark) and time.monotonic() < deadline:
        time.sleep(0.2)
    left = [path for path in left_over(soak.scratch) - before if not path.endswith(".lock")]
    wrong += [f"processes left: {ours(soak.mark)}"] if ours(soak.mark) else []
    wrong += [f"temporary files or shared memory left: {left}"] if left else []
    if len(peaks) > 3 and max(peaks[-2:]) > GROWTH * max(peaks[:2]):
        wrong.append(f"memory grew: {[round(peak / 1e6) for peak in peaks]} MB")
    shutil.rmtree(root)
    print("\n".join(wrong) or f"complete and identical in {len(peaks)} rounds; nothing left behind, memory flat")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
