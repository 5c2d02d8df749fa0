"""What one run may cost: what no machine ends, holds or reads back is refused before anything is planned."""

import math
from collections.abc import Mapping, Sequence

from theodolite.errors import SettingError
from theodolite.specs import CodeSpec, RunSpec

MOST = {
    "samples": (1e9, "they would fill the memory"),
    "parameters": (1e11, "they would fill the memory"),
    "evaluations": (5e6, "its table could not be read back"),
    "steps": (1e11, "they would take months"),
    "kept weights": (1e11, "its snapshots would fill the disk"),
    "multiplications": (1e20, "they would take decades"),
}


def check(study: str, runs: Sequence[RunSpec | CodeSpec], evaluations: float = 0.0) -> None:
    """Refuse runs beyond these bounds; those of one seed are looked at, for all seeds cost the same.

    Args:
        study: its name.
        runs: of it.
        evaluations: of its measurements, of one seed.

    Raises:
        SettingError: one is; the message says which number it is, and the bound.
    """
    _refuse(study, {"evaluations": evaluations}, "measurements")
    for spec in runs:
        if spec.seed != runs[0].seed:
            return
        if isinstance(spec, RunSpec):
            _refuse(study, _costs(spec), "a run")


def _refuse(study: str, costs: Mapping[str, float], of: str) -> None:
    for name, value in costs.items():
        most, why = MOST[name]
        if value > most:
            raise SettingError(
                f"expected settings of {study} that give {of} of at most {most:.0e} {name}, got {value:.1e}: {why}. "
                "Make it smaller or shorter with --set."
            )


def _costs(spec: RunSpec) -> dict[str, float]:
    training, samples = spec.training, max(spec.data.train or 1, spec.data.test or 1)
    epochs, parameters = float(training.epochs), float(spec.model.parameters)
    batches = math.ceil(samples / (training.batch_size or samples))
    return {
        "samples": samples,
        "parameters": parameters,
        "evaluations": epochs / training.evaluate_every,
        "steps": epochs * batches,
        "kept weights": parameters * epochs / (training.snapshot_every or math.inf),
        "multiplications": 3 * epochs * samples * parameters,
    }
