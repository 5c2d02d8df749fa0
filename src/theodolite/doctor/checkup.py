"""What this machine has, and what each preset takes here."""

import os
import re
import shutil
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any

from theodolite import data, machine, survey
from theodolite.doctor.pace import REFERENCE, pace
from theodolite.specs import RunSpec

CORES = 2  # of the machine that the studies' seconds were measured on


def checkup(directory: Path) -> dict[str, Any]:
    """Facts by name, and a row for each preset.

    Args:
        directory: where results would be written; its disk is asked for room.
    """
    workers = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    speed = pace(workers)
    return {"machine": facts(directory, workers), "speed": speed, "presets": presets(speed)}


def facts(directory: Path, workers: int) -> dict[str, str]:
    """What is here, in words."""
    import torch

    described = machine.describe()
    versions = ", ".join(f"{name} {number}" for name, number in described["versions"].items())
    sets = {known.name: known.present for known in data.known() if ":" not in known.name}  # others are patterns
    missing = [name for name, present in sets.items() if not present]
    found = extras()
    absent = [f"{name} ({', '.join(lacking)})" for name, lacking in found.items() if lacking]
    return {
        "versions": versions,
        "platform": described["platform"],
        "processor": described["processor"],
        "threads": f"{workers} usable, PyTorch takes {torch.get_num_threads()}",
        "memory": _memory(),
        "bfloat16": "multiplied by the processor" if machine.has_bfloat16() else "slower than float32 here",
        "GPU": _gpu(),
        "data present": ", ".join(name for name, present in sets.items() if present) or "none",
        "data to fetch": ", ".join(missing) or "none",
        "extras": ", ".join(name for name, lacking in found.items() if not lacking) or "none",
        "extras missing": ", ".join(absent) or "none",
        "free disk": f"{shutil.disk_usage(_there(directory)).free / 1e9:.1f} GB",
    }


def presets(speed: Mapping[str, float]) -> list[dict[str, Any]]:
    """Seconds that each preset takes here: those measured, or worked out from them, at the pace of this machine."""
    rows = []
    for preset in ("smoke", "quick", "full"):
        prepared = survey.prepare([], preset)
        rough = {row["study"]: row for row in survey.estimate(prepared, Path(os.devnull), workers=CORES)}
        here = 0.0
        for item in prepared:
            seconds = item.study.seconds.get(preset, rough[item.study.name]["seconds"])
            ours = [spec for spec in item.runs if isinstance(spec, RunSpec)]
            kind = "convolution" if any(spec.model.kind == "cnn" for spec in ours) else "dense"
            here += seconds * REFERENCE[kind] / speed[kind]
        disk = sum(row["MB"] for row in rough.values())
        known = all(preset in item.study.seconds for item in prepared)
        rows.append(
            {
                "preset": preset,
                "studies": len(prepared),
                "here": _long(here),
                "from": "measured" if known else "quick, by cost",
                "seconds": round(here),
                "MB": round(disk),
            }
        )
    return rows


def extras() -> dict[str, list[str]]:
    """Optional parts of Theodolite, each with the packages that it still needs."""
    found: dict[str, list[str]] = {}
    for line in requires("theodolite") or []:
        wanted, _, condition = line.partition(";")
        extra = re.search(r"extra == ['\"]([^'\"]+)['\"]", condition)
        if extra and extra.group(1) != "dev":
            lacking = found.setdefault(extra.group(1), [])
            name = re.split(r"[\s<>=!~\[]", wanted, maxsplit=1)[0]
            try:
                version(name)
            except PackageNotFoundError:
                lacking.append(name)
    return found


def _gpu() -> str:
    import torch

    if torch.cuda.is_available():
        cards = range(torch.cuda.device_count())
        return ", ".join(torch.cuda.get_device_name(card) for card in cards)
    return "Apple's, as mps" if torch.backends.mps.is_available() else "none that PyTorch sees"


def _memory() -> str:
    try:
        lines = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
        total, free = (int(lines[name].split()[0]) * 1024 / 1e9 for name in ("MemTotal", "MemAvailable"))
    except (OSError, KeyError):
        return "unknown"
    return f"{free:.1f} of {total:.1f} GB free"


def _there(directory: Path) -> Path:
    """The nearest folder above that exists."""
    return next(folder for folder in (directory.resolve(), *directory.resolve().parents) if folder.exists())


def _long(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
