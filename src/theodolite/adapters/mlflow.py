"""Measurements of a recorder as metrics and artifacts of an MLflow run."""

import re
import time
from collections.abc import Mapping
from typing import Any

import pandas as pd

from theodolite.adapters.pictures import drawn, histograms
from theodolite.errors import MissingExtra, SettingError
from theodolite.record import Measurement

try:
    import mlflow
    from mlflow.entities import Metric
except ImportError:
    raise MissingExtra("mlflow", "mlflow", "Writing to MLflow") from None

TOGETHER = 1000  # metrics of one call, at most


class MLflowSink:
    """Numbers as metrics, spectra as histograms in JSON, and at the end the report's figures, as artifacts.

    Args:
        run_id: of the run to write to; None: the one that is active now.
        client: an ``mlflow.MlflowClient``; None: one for the tracking server that is set.

    Raises:
        SettingError: no run is given, and none is active.
    """

    def __init__(self, run_id: str | None = None, *, client: Any = None) -> None:
        active = mlflow.active_run()
        if run_id is None and active is None:
            raise SettingError(
                "expected an active MLflow run, got none. Call mlflow.start_run() before, or pass run_id."
            )
        self.run_id = run_id if run_id is not None else active.info.run_id
        self._client = client or mlflow.MlflowClient()

    def write(self, measurement: Measurement) -> None:
        """One measurement: metrics ``INSTRUMENT/QUANTITY`` at its step, ``spectra/INSTRUMENT/QUANTITY/STEP.json``."""
        now = int(time.time() * 1000)
        metrics = [
            Metric(_key(f"{measurement.instrument}/{name}"), value, now, measurement.step)
            for name, value in measurement.numbers.items()
        ]
        for start in range(0, len(metrics), TOGETHER):
            self._client.log_batch(self.run_id, metrics=metrics[start : start + TOGETHER])
        for name, found in histograms(measurement).items():
            content = {"step": measurement.step, "edges": found.edges.tolist(), "counts": found.counts.tolist()}
            file = f"spectra/{_key(f'{measurement.instrument}/{name}')}/{measurement.step:010d}.json"
            self._client.log_dict(self.run_id, content, file)

    def close(self, tables: Mapping[str, pd.DataFrame]) -> None:
        """Figures, as PNG and SVG; the run stays open."""
        with drawn(tables, "png", "svg") as paths:
            for path in paths:
                self._client.log_artifact(self.run_id, str(path), "figures")


def _key(name: str) -> str:
    """Of the signs that MLflow allows.

    >>> _key("gradient_norm/norms.0.weight"), _key("λ (largest)")
    ('gradient_norm/norms.0.weight', '_ _largest_')
    """
    return re.sub(r"[^\w\-. /]|[^\x00-\x7f]", "_", name)
