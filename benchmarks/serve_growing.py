"""What the live page's server takes of a processor while records appear, by how many are there already.

    python benchmarks/report.py --keep /tmp/large     # once: made records of 10,000 runs
    python benchmarks/serve_growing.py /tmp/large [--present 20 4000] [--rate 17] [--seconds 60] [--pages 50]

Records of `simulate-function` appear in a folder as a survey leaves them, at a steady rate: held, each run first under
way and then done, 32 at a time. No training runs, so nothing but the server is measured, with as many pages as in
`serve.py`. The records lie beside the made ones, as links to their files.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import serve
from theodolite.store import files, lock, records
from theodolite.store.records import Status

STUDY = "simulate-function"
UNDER_WAY = 32  # two workers with a stack each


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("made", type=Path)
    parser.add_argument("--present", type=int, nargs="+", default=[20, 4000])
    parser.add_argument("--rate", type=float, default=17.0, help="runs a second")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--pages", type=int, default=50)
    options = parser.parse_args()
    for present in options.present:
        with tempfile.TemporaryDirectory(dir=options.made.parent) as scratch:
            measure(options, Path(scratch) / "results", present)


def measure(options: argparse.Namespace, folder: Path, present: int) -> None:
    records.claim_folder(folder)
    files.write(folder / STUDY / records.PLAN, (options.made / STUDY / records.PLAN).read_bytes())
    names = [item.fingerprint for item in records.read_plan(folder, STUDY).runs]
    runs = folder / STUDY / "runs"

    def finish(name: str) -> None:
        source = options.made / STUDY / "runs" / name
        (runs / name).mkdir(parents=True, exist_ok=True)
        for file in source.iterdir():
            if file.name != records.STATUS:
                os.link(file, runs / name / file.name)
        files.write(runs / name / records.STATUS, (source / records.STATUS).read_bytes())

    for name in names[:present]:
        finish(name)
    server = serve.program("serve", str(folder), "--port", "0")
    port = int(server.stdout.readline().split(":")[2].split("/")[0])
    start = serve.spent(server.pid)
    crowding = [sys.executable, serve.__file__, "--crowd", str(port), "--pages", str(options.pages)]
    clients = subprocess.Popen(crowding, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    early, left, begun = int(clients.stdout.readline()), names[present:], 0
    with lock.hold(folder):
        before, began = serve.spent(server.pid), time.monotonic()
        while (passed := time.monotonic() - began) < options.seconds:
            while begun < min(options.rate * passed, len(left)):
                started = Status(fingerprint=left[begun], state="running")
                files.write(runs / left[begun] / records.STATUS, started.sealed())
                begun += 1
                if begun > UNDER_WAY:
                    finish(left[begun - UNDER_WAY - 1])
            time.sleep(0.05)
        spent = serve.spent(server.pid) - before
    answers, _ = clients.communicate("")
    server.terminate()
    server.communicate()
    print(
        f"{present} runs there, {begun / passed:.1f} more a second: {spent:.2f} s in {passed:.0f} s, "
        f"{spent / passed:.2%} of a processor; {(int(answers) - early) / passed:.1f} answers a second; "
        f"the start took {start:.1f} s",
        flush=True,
    )


if __name__ == "__main__":
    main()
