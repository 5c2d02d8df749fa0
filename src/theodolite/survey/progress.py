"""How far each study of a survey is, counted event by event."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from theodolite.execute.schedule import Event
from theodolite.survey.prepared import Prepared

if TYPE_CHECKING:
    from theodolite.jobs import AnalysisJob, TrainingJob
    from theodolite.own.job import CodeJob


@dataclass(frozen=True)
class Progress:
    """How far one study is."""

    study: str
    total: int  # runs and analyses
    done: int  # of them finished, now or before; diverged ones included
    failed: Mapping[str, str]  # fingerprint to reason
    diverged: int  # of those that finished now
    share: float  # of the work that was left at the start, 0 to 1
    samples: int  # trained on since the start


class Tally:
    """Counts of each study, brought up to date event by event: what an event costs does not grow with the survey."""

    def __init__(self, prepared: Sequence[Prepared], jobs: "Sequence[TrainingJob | AnalysisJob | CodeJob]") -> None:
        self.jobs = list(jobs)
        self.part = [0.0] * len(jobs)  # share of each job done
        self.samples = [0] * len(jobs)  # trained on
        self.left: dict[str, float] = {}  # cost at the start, by study
        self.spent: dict[str, float] = {}  # of it
        self.counts: dict[str, Progress] = {}
        for item in prepared:
            name = item.study.name
            own = [job for job in jobs if job.specs[0].study == name]
            total, left = len(item.runs) + len(item.analyses), sum(len(job.specs) for job in own)
            self.left[name], self.spent[name] = sum(job.cost for job in own), 0.0
            self.counts[name] = Progress(name, total, total - left, {}, 0, 0.0 if left else 1.0, 0)

    def hear(self, event: Event) -> None:
        """Count what an engine told of a job."""
        if event.kind in ("tick", "started"):
            return
        job = self.jobs[event.job]
        name = job.specs[0].study
        now = self.counts[name]
        part, samples = self.part[event.job], self.samples[event.job]
        if event.kind == "progress":
            epochs, samples = event.value
            part = min(epochs / max(job.epochs, 1), 1.0)
        elif event.kind == "done":
            diverged = sum(state == "diverged" for _, state in event.value)
            now = replace(now, done=now.done + len(job.specs), diverged=now.diverged + diverged)
            part = 1.0
        elif event.kind == "failed":
            now = replace(now, failed={**now.failed, **{spec.fingerprint(): event.value for spec in job.specs}})
            part = 1.0
        elif event.kind == "died":
            part, samples = 0.0, 0
        elif event.kind == "split":
            self.jobs += event.value
            self.part += [0.0] * len(event.value)
            self.samples += [0] * len(event.value)
        self.spent[name] += job.cost * (part - self.part[event.job])
        done, self.part[event.job] = now.samples + samples - self.samples[event.job], part
        self.samples[event.job] = samples
        share = min(1.0, self.spent[name] / self.left[name]) if len(now.failed) + now.done < now.total else 1.0
        self.counts[name] = replace(now, share=share, samples=done)

    def progress(self) -> list[Progress]:
        """How far each study is by now."""
        return list(self.counts.values())
