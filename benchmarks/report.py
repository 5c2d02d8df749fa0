"""The report of a large survey: benchmarks/report.py [--runs 10000] [--from RESULTS] [--keep FOLDER].

Runs are made, not trained: every study is planned at `full` with so many seeds that there are 10,000 runs in all, and
each gets the tables of a trained smoke run of the same place in the design, stretched to the epochs of `full` and moved
by a factor of its own; analyses likewise. Then `theodolite report` is timed there as a process of its own, with the
processor time and the memory of all processes that it starts, and the page is opened in Chromium where Playwright is
there. Memory is the sum of proportional set sizes (what several processes share counts once), read every tenth of a
second; processor time is read then too, so a tenth of a second of each process may be missing.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pandas as pd

from theodolite import studies, survey
from theodolite.store import records
from theodolite.study import AnalysisSpec, RunSpec

POINTS = 200  # evaluations of a full training: most that any study records


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--from", dest="source", type=Path, help="a smoke survey; trained first where none is given")
    parser.add_argument("--keep", type=Path, help="make the records here, or use those that are here")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        target = options.keep or Path(scratch) / "large"
        if not target.exists():
            source = options.source or trained(Path(scratch) / "smoke")
            started = time.perf_counter()
            made = make(source, target, options.runs)
            print(f"made {made} runs in {time.perf_counter() - started:.0f} s: {megabytes(target):.0f} MB")
        measure(target)


def trained(directory: Path) -> Path:
    subprocess.run(
        [*program(), "survey", "--preset", "smoke", "--out", str(directory)], check=True, stdout=subprocess.DEVNULL
    )
    return directory


def program() -> list[str]:
    return [sys.executable, "-m", "theodolite"]


def make(source: Path, target: Path, wanted: int) -> int:
    """Plan every study with the same factor more seeds than `full` has, and record a made run for each plan."""
    records.claim_folder(target)
    usual = {name: survey.prepare([name], "full")[0] for name in studies.INDEX}
    factor = wanted / sum(len(item.runs) for item in usual.values())
    made = 0
    for name, item in usual.items():
        template = records.read(source, name)
        if template is None:
            continue
        item = survey.prepare([name], "full", seeds=max(3, round(item.settings.seeds * factor)))[0]
        records.write_plan(target, item.plan(f"theodolite run {name} --preset full"))
        generator = np.random.default_rng(made)
        models = {kind: Templates(source, name, kind) for kind in ("runs", "analyses")}
        for kind, specs in (("runs", item.runs), ("analyses", item.analyses)):
            for spec in specs:
                tables, environment, blobs = models[kind].like(spec, generator)
                reached = converged(tables, spec)
                records.write(
                    target, spec, tables=tables, environment=environment, blobs=blobs, converged_epoch=reached
                )
        made += len(item.runs)
    return made


class Templates:
    """Trained records of one study, read once, by their place in its design."""

    def __init__(self, source: Path, study: str, kind: str) -> None:
        self.found = []
        for path in sorted((source / study / kind).glob("*")):
            facts = json.loads((path / "spec.json").read_bytes())
            tables = {file.stem: pd.read_parquet(file) for file in path.glob("*.parquet")}
            self.found.append((facts, tables))

    def like(self, spec: RunSpec | AnalysisSpec, generator: np.random.Generator):
        """Tables for a spec: those of the trained record with most labels in common, stretched and moved."""

        def nearness(entry):
            labels = entry[0]["spec"]["labels"]
            return sum(labels.get(key) == value for key, value in spec.labels.items())

        facts, tables = max(self.found, key=nearness)
        environment = {
            key: value for key, value in facts.items() if key not in ("spec", "seed", "fingerprint", "format")
        }
        factor = float(np.exp(0.1 * generator.normal()))
        epochs = spec.training.epochs if isinstance(spec, RunSpec) else None
        scale = epochs / max(int(tables["metrics"]["epoch"].max()), 1) if epochs and "metrics" in tables else None
        return {name: moved(table, factor, scale) for name, table in tables.items()}, environment, {}


def moved(table: pd.DataFrame, factor: float, scale: float | None) -> pd.DataFrame:
    """Losses and norms times a factor, epochs times a scale; a row an epoch becomes as many as a full training records.

    All tables of a run have one scale, so that rows that shared an epoch still do.
    """
    changed = table.copy()
    for column in table.select_dtypes("floating"):
        if "loss" in column or "norm" in column:
            changed[column] = table[column] * factor
    if scale is None or "epoch" not in table:
        return changed
    scaled = table["epoch"].to_numpy(dtype=np.float64) * scale
    if not (table["epoch"].is_unique and table["epoch"].is_monotonic_increasing and len(table) > 2):
        return changed.assign(epoch=scaled.round().astype(table["epoch"].dtype))
    times = -(-POINTS // len(table))  # so many rows for each; the first at its old epoch, which other tables share
    between = np.interp(np.arange(len(table) * times) / times, np.arange(len(table)), scaled).round()
    stretched = changed.iloc[np.repeat(np.arange(len(table)), times)].reset_index(drop=True)
    stretched["epoch"] = between.astype(table["epoch"].dtype)
    return stretched.drop_duplicates("epoch")


def converged(tables, spec) -> int | None:
    metrics = tables.get("metrics")
    level = spec.training.convergence if isinstance(spec, RunSpec) else None
    if metrics is None or level is None:
        return None
    reached = metrics.loc[metrics["train_loss"] <= level, "epoch"] if "train_loss" in metrics else []
    return int(reached.iloc[0]) if len(reached) else None


def measure(target: Path) -> None:
    for name in ("report.html", "report.md"):
        (target / name).unlink(missing_ok=True)
    for study in studies.INDEX:
        shutil.rmtree(target / study / "figures", ignore_errors=True)
    for attempt in ("first", "again"):
        started = time.perf_counter()
        command, one = [*program(), "report", str(target)], os.environ | {"OMP_NUM_THREADS": "1"}
        worker = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=one)
        spent, most, largest = dict[int, float](), 0.0, 0.0
        while worker.poll() is None:
            found = {process: held(process) for process in family(worker.pid)}
            spent |= {process: used for process, (used, _) in found.items() if used}
            most = max(most, sum(size for _, size in found.values()))
            largest = max([largest, *(size for _, size in found.values())])
            time.sleep(0.1)
        seconds = time.perf_counter() - started
        print(
            f"theodolite report, {attempt}: {seconds:.1f} s ({sum(spent.values()):.1f} s of processor), "
            f"{most:.2f} GB together, {largest:.2f} GB the largest process, exit {worker.returncode}"
        )
    page = target / "report.html"
    print(f"page: {page.stat().st_size / 1e6:.2f} MB")
    open_page(page)


def family(parent: int) -> list[int]:
    """A process and all that came of it."""
    found = [parent]
    for process in found:
        with suppress(OSError):
            for thread in Path(f"/proc/{process}/task").iterdir():
                found += map(int, (thread / "children").read_text().split())
    return found


def held(process: int) -> tuple[float, float]:
    """Processor seconds of a process so far, and the GB it holds, each page shared out among those that map it."""
    try:
        user, system = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[11:13]
        sizes = Path(f"/proc/{process}/smaps_rollup").read_text().split("\n")
    except OSError:  # it has just ended
        return 0.0, 0.0
    size = sum(int(line.split()[1]) for line in sizes if line.startswith("Pss:"))
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK"), size * 1024 / 1e9


def open_page(page: Path) -> None:
    try:
        from playwright import sync_api
    except ImportError:
        print("page not opened: pip install playwright, and Debian's chromium")
        return
    chromium = shutil.which("chromium")
    if chromium is None:
        print("page not opened: apt-get install chromium")
        return
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        view = browser.new_page(viewport={"width": 1024, "height": 900})
        view.add_init_script(
            "new MutationObserver(() => { if (!window.first && document.querySelector('.chart svg.marks'))"
            " window.first = performance.now(); }).observe(document, {subtree: true, childList: true});"
        )
        view.goto(page.as_uri())
        view.wait_for_function("window.first")
        first = view.evaluate("window.first")
        started = time.perf_counter()
        charts = view.query_selector_all(".chart")
        for chart in charts:
            chart.scroll_into_view_if_needed()
            chart.wait_for_selector("svg.marks")
        seconds = time.perf_counter() - started
        print(f"first figure after {first:.0f} ms; all {len(charts)} scrolled through in {seconds:.1f} s")
        browser.close()


def megabytes(directory: Path) -> float:
    return sum(path.stat().st_size for path in directory.rglob("*") if path.is_file()) / 1e6


if __name__ == "__main__":
    main()
