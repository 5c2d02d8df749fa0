"""The plan of a study: what a survey set out to do in it, written before the first run. Imports no torch."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from theodolite.errors import RecordCorrupt
from theodolite.specs import AnalysisSpec, RecordingSpec, RunSpec
from theodolite.store import files
from theodolite.store.schema import LARGEST, Plan, Planned, first_line

PLAN = "plan.json"
DESCRIPTION, EVIDENCE = "study.json", "evidence.json"  # beside it, of a study of one's own (theodolite/own)
HEADS = (PLAN, DESCRIPTION, EVIDENCE)


def write_plan(directory: Path, plan: Plan) -> None:
    """Record what the survey sets out to do."""
    files.write(directory / plan.study / PLAN, plan.sealed())


def read_plan(directory: Path, study: str) -> Plan | None:
    """What the last survey in this folder set out to do in a study; None where it never ran.

    Raises:
        RecordCorrupt: it is not what was written, or is missing where there are records.
    """
    path = directory / study / PLAN
    again = "Run the study again: finished runs are kept."
    try:
        plan = Plan.unsealed(files.read(path, LARGEST))
    except (FileNotFoundError, NotADirectoryError):
        if any((directory / study / kind.FOLDER).is_dir() for kind in (RunSpec, AnalysisSpec)):
            raise RecordCorrupt(f"{path} is missing, which says what the records beside it are. {again}") from None
        return None
    except (OSError, ValueError) as error:
        raise RecordCorrupt(f"{path} cannot be read ({first_line(error)}). {again}") from None
    if plan.study != study:
        raise RecordCorrupt(f"{path} is the plan of another study, '{plan.study}'. {again}")
    return plan


def add_to_plan(directory: Path, spec: RecordingSpec, *, command: str, settings: Mapping[str, Any]) -> None:
    """Put a recording into its study's plan, which grows by one with every recording. The caller holds a lock."""
    known = read_plan(directory, spec.study)
    others = [item for item in known.runs if item.fingerprint != spec.fingerprint()] if known else []
    runs = (*others, Planned.of(spec))
    write_plan(directory, Plan(study=spec.study, preset="none", settings=dict(settings), command=command, runs=runs))
