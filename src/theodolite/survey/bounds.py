"""What one run may cost: what no machine ends, holds or reads back is refused before anything is planned."""

import math
from collections.abc import Sequence

from theodolite.errors import SettingError
from theodolite.specs import CodeSpec, RunSpec

MOST = {
    "samples": (1e9, "they would fill the memory"),
    "parameters": (1e11, "they would fill the memory"),
    "evaluations": (5e6, "its table could not be read back"),
    "steps": (1e11, "they would take months"),
    "multiplications": (1e20, "they would take decades"),
}


def check(study: str, runs: Sequence[RunSpec | CodeSpec]) -> None:
    """Refuse runs beyond these bounds; those of one seed are looked at, for all seeds cost the same.

    Raises:
        SettingError: one is; the message says which number it is, and the bound.
    """
    for spec in runs:
        if spec.seed != runs[0].seed:
            return
        if isinstance(spec, RunSpec):
            for name, value in _costs(spec).items():
                most, why = MOST[name]
                if value > most:
                    raise SettingError(
                        f"expected settings of {study} that give a run of at most {most:.0e} {name}, got {value:.1e}: "
                        f"{why}. Make it smaller or shorter with --set."
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
        "multiplications": 3 * epochs * samples * parameters,
    }
