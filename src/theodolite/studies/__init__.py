"""The studies, a folder each; the index is here.

A new study is one new folder and one line in ``INDEX``.
"""

from typing import Any

from theodolite import wording
from theodolite.errors import UnknownName
from theodolite.studies.capacity.study import STUDY as CAPACITY
from theodolite.studies.error_surface.study import STUDY as ERROR_SURFACE
from theodolite.studies.gradient_norm.study import STUDY as GRADIENT_NORM
from theodolite.studies.image_classification.study import STUDY as IMAGE_CLASSIFICATION
from theodolite.studies.interpolation.study import STUDY as INTERPOLATION
from theodolite.studies.minimal_ratio.study import STUDY as MINIMAL_RATIO
from theodolite.studies.random_labels.study import STUDY as RANDOM_LABELS
from theodolite.studies.sensitivity.study import STUDY as SENSITIVITY
from theodolite.studies.simulate_function.study import STUDY as SIMULATE_FUNCTION
from theodolite.studies.weight_trajectory.study import STUDY as WEIGHT_TRAJECTORY
from theodolite.study import Study

INDEX: dict[str, Study[Any]] = {
    study.name: study
    for study in (
        SIMULATE_FUNCTION,
        IMAGE_CLASSIFICATION,
        WEIGHT_TRAJECTORY,
        GRADIENT_NORM,
        MINIMAL_RATIO,
        RANDOM_LABELS,
        CAPACITY,
        INTERPOLATION,
        SENSITIVITY,
        ERROR_SURFACE,
    )
}


def get(name: str) -> Study[Any]:
    """A study by its name.

    Raises:
        UnknownName: there is none; the message gives the closest.
    """
    if name not in INDEX:
        raise UnknownName("study", name, INDEX)
    return INDEX[name]


def facts(study: Study[Any]) -> dict[str, Any]:
    """One line about a study: what it shows, and what it costs at each preset, in words and in seconds."""
    about = {"study": study.name, "report": study.source, "title": study.title, "question": study.question}
    return {**about, **{name: _cost(study, name) for name in study.presets}, "seconds": dict(study.seconds)}


def _cost(study: Study[Any], preset: str) -> str:
    settings = study.presets[preset]
    trainings, analyses = (sum(1 for _ in make(settings)) for make in (study.expand, study.analyses))
    runs = f"{trainings} runs" if trainings else f"{analyses} analyses"
    if preset not in study.seconds:
        return runs
    return f"{runs}, {wording.taken(study.seconds[preset], estimated=preset == 'full', about='about ')}"


def details(study: Study[Any]) -> dict[str, Any]:
    """A study's settings at each preset, and its claims."""
    fields = study.settings_type.model_fields
    dumped = {preset: settings.model_dump(mode="json") for preset, settings in study.presets.items()}
    return {
        **facts(study),
        "settings": [{"setting": name, **{p: dumped[p][name] for p in dumped}} for name in fields],
        "claims": [
            {"claim": c.id, "sentence": c.sentence, "statistic": c.statistic, "side": c.side, "threshold": c.threshold}
            for c in study.claims
        ],
    }
