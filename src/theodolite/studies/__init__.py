"""The studies, one short file each; the index is here.

A new study is one new file and one line in ``INDEX``.
"""

from typing import Any

from theodolite.errors import UnknownName
from theodolite.studies import (
    capacity,
    error_surface,
    gradient_norm,
    image_classification,
    interpolation,
    minimal_ratio,
    random_labels,
    recorder,
    sensitivity,
    simulate_function,
    weight_trajectory,
)
from theodolite.study import Study

INDEX: dict[str, Study] = {
    study.name: study
    for study in (
        simulate_function.STUDY,
        image_classification.STUDY,
        weight_trajectory.STUDY,
        gradient_norm.STUDY,
        minimal_ratio.STUDY,
        random_labels.STUDY,
        capacity.STUDY,
        interpolation.STUDY,
        sensitivity.STUDY,
        error_surface.STUDY,
    )
}


def get(name: str) -> Study:
    """A study by its name.

    Raises:
        UnknownName: there is none; the message gives the closest.
    """
    if name not in INDEX:
        raise UnknownName("study", name, INDEX)
    return INDEX[name]


def readable() -> list[Study]:
    """All that a results folder may hold: the studies, and recordings of trainings that are no study's."""
    return [*INDEX.values(), recorder.STUDY]


def facts(study: Study) -> dict[str, str]:
    """One line about a study: what it shows, and what it costs at each preset."""
    runs = {name: _cost(study, name) for name in study.presets}
    return {"study": study.name, "report": study.source, "title": study.title, "question": study.question, **runs}


def _cost(study: Study, preset: str) -> str:
    settings = study.presets[preset]
    trainings, analyses = (sum(1 for _ in make(settings)) for make in (study.expand, study.analyses))
    runs = f"{trainings} runs" if trainings else f"{analyses} analyses"
    if preset not in study.seconds:
        return runs
    seconds = study.seconds[preset]  # full is estimated, not measured
    return f"{runs}, about {seconds / 60:.0f} min" if preset == "full" else f"{runs}, {seconds:.0f} s"


def details(study: Study) -> dict[str, Any]:
    """A study's settings at each preset, and its claims."""
    fields = type(study.presets["quick"]).model_fields
    dumped = {preset: settings.model_dump(mode="json") for preset, settings in study.presets.items()}
    return {
        **facts(study),
        "settings": [{"setting": name, **{p: dumped[p][name] for p in dumped}} for name in fields],
        "claims": [
            {"claim": c.id, "sentence": c.sentence, "statistic": c.statistic, "side": c.side, "threshold": c.threshold}
            for c in study.claims
        ],
    }
