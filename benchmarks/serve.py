"""What fifty open live pages cost a training: the same survey with and without them, taken in turn.

    python benchmarks/serve.py [--pages 50] [--pairs 5]

Prints the seconds of each and the median of the ratios. Aim: 2 % at most.
"""

import argparse
import http.client
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

COMMAND = ["run", "simulate-function", "--preset", "smoke", "--set", "epochs=12000", "--set", "batch_size=null"]


def program(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "theodolite", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def look(port: int, stop: threading.Event, answers: list[int]) -> None:
    """One page: it loads, and then asks every two seconds for what it does not have yet."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    path, tag = "/", ""
    while not stop.is_set():
        try:
            connection.request("GET", path, headers={"If-None-Match": tag} if path != "/" else {})
            answer = connection.getresponse()
            answer.read()
            answers.append(answer.status)
            tag, path = answer.headers.get("ETag", ""), "/live.json"
        except OSError:
            connection.close()
        stop.wait(2.0)
    connection.close()


def survey(folder: Path, pages: int) -> tuple[float, int]:
    """Seconds of a survey from its first run to its report, and answers that the pages got."""
    began = time.monotonic()
    running = program(*COMMAND, "--out", str(folder))
    stop, answers, threads, server = threading.Event(), [], [], None
    if pages:
        while not list(folder.glob("*/plan.json")):
            time.sleep(0.05)
        server = program("serve", str(folder), "--port", "0")
        assert server.stdout is not None
        port = int(server.stdout.readline().split(":")[2].split("/")[0])
        threads = [threading.Thread(target=look, args=(port, stop, answers)) for _ in range(pages)]
        for thread in threads:
            thread.start()
    _, errors = running.communicate()
    seconds = time.monotonic() - began
    assert running.returncode == 0, errors
    stop.set()
    for thread in threads:
        thread.join()
    if server is not None:
        server.terminate()
        server.communicate()
    return seconds, len(answers)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pages", type=int, default=50)
    parser.add_argument("--pairs", type=int, default=5)
    options = parser.parse_args()
    ratios = []
    print(f"{'pair':>4} {'alone, s':>9} {f'{options.pages} pages, s':>12} {'ratio':>6} {'answers':>8}")
    for pair in range(options.pairs):
        with tempfile.TemporaryDirectory() as folder:
            order = [0, options.pages] if pair % 2 == 0 else [options.pages, 0]
            took = {pages: survey(Path(folder) / str(pages), pages) for pages in order}
        alone, watched = took[0][0], took[options.pages][0]
        ratios.append(watched / alone)
        print(f"{pair:4} {alone:9.2f} {watched:12.2f} {ratios[-1]:6.3f} {took[options.pages][1]:8}", flush=True)
    print(f"median ratio {statistics.median(ratios):.3f}, from {min(ratios):.3f} to {max(ratios):.3f}")


if __name__ == "__main__":
    main()
