"""What fifty open live pages cost a training: the same training with and without them, taken in turn.

    python benchmarks/serve.py [--pages 50] [--pairs 6] [--seeds 90] [--epochs 1500]

A page is a client of its own that loads the page and then asks as often as the server says, with what it has
(`If-None-Match`), as the page's script does; all of them run at the lowest priority, since browsers are not what is
measured. Server and pages are there before the clock starts: the server has answered each page's first questions about
a short survey of the same study, whose place the training then takes. Six runs a seed make a training longer in
proportion; with fewer epochs there is more to tell of in the same time. Printed for each pair: seconds and processor
seconds of the training on both sides, processor seconds of the server while watched.
Two numbers sum it up: the median ratio of the trainings with its 95 % interval (t, on the logarithm), which noise of
the machine widens; and the server's processor seconds over those of the training, which is the most it can take from a
training on a machine with no core to spare. Aim: 2 % at most.
"""

import argparse
import http.client
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import stats

LOWEST = 19
ONE = os.environ | {"OMP_NUM_THREADS": "1"}


@dataclass(frozen=True)
class Taken:
    """What one training took."""

    wall: float  # seconds
    processor: float  # seconds of the training and its workers
    server: float = 0.0  # seconds of the server's processor while the training ran
    answers: int = 0


def program(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "theodolite", *arguments], stdout=subprocess.PIPE, text=True, env=ONE
    )


def spent(process: int) -> float:
    """Processor seconds of a living process."""
    user, system = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def look(port: int, stop: threading.Event, answers: list[int]) -> None:
    """One page: it loads, and then asks as often as it is told to for what it does not have yet."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    path, tag, every = "/", "", 2.0
    while not stop.is_set():
        try:
            connection.request("GET", path, headers={"If-None-Match": tag} if tag else {})
            answer = connection.getresponse()
            content = answer.read()
            if path != "/" and answer.status == 200:
                every = json.loads(content)["every"]
            answers.append(answer.status)
            tag, path = (answer.headers.get("ETag") or "") if path != "/" else "", "/live.json"
        except OSError:
            connection.close()
        stop.wait(every)
    connection.close()


def crowd(port: int, pages: int) -> None:
    """All pages, until standard input closes; says when all have been answered twice, and last how often in all."""
    os.nice(LOWEST)
    stop, answers = threading.Event(), list[int]()
    threads = [threading.Thread(target=look, args=(port, stop, answers)) for _ in range(pages)]
    for thread in threads:
        thread.start()
        time.sleep(2.0 / pages)  # people do not all open a page at once
    while len(answers) < 2 * pages:
        time.sleep(0.1)
    print(len(answers), flush=True)
    sys.stdin.read()
    stop.set()
    for thread in threads:
        thread.join()
    assert set(answers) <= {200, 304}, set(answers)
    print(len(answers))


def train(folder: Path, pages: int, seeds: int, epochs: int) -> Taken:
    """A training from its start to its report, in a folder where there is something to look at already."""
    timed(folder, seeds=2, epochs=20)
    if not pages:
        return timed(folder, seeds=seeds, epochs=epochs)
    server = program("serve", str(folder), "--port", "0")
    port = int(server.stdout.readline().split(":")[2].split("/")[0])
    crowding = [sys.executable, __file__, "--crowd", str(port), "--pages", str(pages)]
    clients = subprocess.Popen(crowding, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    early, at_first = int(clients.stdout.readline()), spent(server.pid)
    taken = timed(folder, seeds=seeds, epochs=epochs)
    server_took = spent(server.pid) - at_first
    answers, _ = clients.communicate("")
    server.terminate()
    server.communicate()
    return Taken(taken.wall, taken.processor, server_took, int(answers) - early)


def timed(folder: Path, *, seeds: int, epochs: int) -> Taken:
    began = time.monotonic()
    settings = ("--seeds", str(seeds), "--set", f"epochs={epochs}", "--set", "batch_size=null")
    running = program("run", "simulate-function", "--preset", "smoke", *settings, "--out", str(folder))
    running.stdout.read()
    _, status, used = os.wait4(running.pid, 0)
    running.returncode = os.waitstatus_to_exitcode(status)
    assert running.returncode == 0, running.returncode
    return Taken(time.monotonic() - began, used.ru_utime + used.ru_stime)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pages", type=int, default=50)
    parser.add_argument("--pairs", type=int, default=6)
    parser.add_argument("--seeds", type=int, default=90)
    parser.add_argument("--epochs", type=int, default=1500)
    parser.add_argument("--crowd", type=int, metavar="PORT", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.crowd:
        crowd(options.crowd, options.pages)
        return
    print("pair   alone: wall, processor   watched: wall, processor   ratios        server   answers")
    walls, processors, shares = [], [], []
    for pair in range(options.pairs):
        with tempfile.TemporaryDirectory() as folder:
            order = [0, options.pages] if pair % 2 == 0 else [options.pages, 0]
            took = {n: train(Path(folder) / str(n), n, options.seeds, options.epochs) for n in order}
        alone, watched = took[0], took[options.pages]
        walls.append(watched.wall / alone.wall)
        processors.append(watched.processor / alone.processor)
        shares.append(watched.server / watched.processor)
        print(
            f"{pair:4} {alone.wall:12.2f} s {alone.processor:8.2f} s {watched.wall:14.2f} s {watched.processor:8.2f} s"
            f" {walls[-1]:8.3f} {processors[-1]:6.3f} {watched.server:7.2f} s {watched.answers:7}",
            flush=True,
        )
    for name, ratios in (("wall time", walls), ("processor time", processors)):
        print(f"{name}, watched over alone: {summary(ratios)}")
    print(f"server over training, processor seconds: median {statistics.median(shares):.2%}, most {max(shares):.2%}")


def summary(ratios: list[float]) -> str:
    logs = np.log(ratios)
    half = stats.t.ppf(0.975, len(logs) - 1) * logs.std(ddof=1) / len(logs) ** 0.5 if len(logs) > 1 else np.inf
    low, high = np.exp([logs.mean() - half, logs.mean() + half])
    return f"median {statistics.median(ratios):.3f}, mean within [{low:.3f}, {high:.3f}]"


if __name__ == "__main__":
    main()
