"""Measurements of a recorder as TensorBoard summaries."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from theodolite.adapters.pictures import drawn, histograms
from theodolite.errors import MissingExtra
from theodolite.record import Measurement

try:
    from PIL import Image
    from torch.utils.tensorboard import SummaryWriter
except ImportError:
    raise MissingExtra("tensorboard", "tensorboard", "Writing to TensorBoard") from None


class TensorBoardSink:
    """Numbers as scalars, spectra as histograms, and at the end the report's figures as images.

    Args:
        writer: where to: a folder, or a ``SummaryWriter`` of your own, which stays open.

    Example:
        >>> from theodolite import Recorder
        >>> recorder = Recorder("hessian_density", sinks=[TensorBoardSink("runs/first")])  # doctest: +SKIP
    """

    def __init__(self, writer: str | Path | Any) -> None:
        self._own = isinstance(writer, (str, Path))
        self._writer: Any = SummaryWriter(str(writer)) if self._own else writer

    def write(self, measurement: Measurement) -> None:
        """One measurement, under ``INSTRUMENT/QUANTITY`` at its step."""
        step = measurement.step
        for name, value in measurement.numbers.items():
            self._writer.add_scalar(f"{measurement.instrument}/{name}", value, step)
        for name, found in histograms(measurement).items():
            self._writer.add_histogram_raw(
                f"{measurement.instrument}/{name}",
                min=float(found.edges[0]),
                max=float(found.edges[-1]),
                num=float(found.counts.sum()),
                sum=float(found.counts @ found.middles),
                sum_squares=float(found.counts @ found.middles**2),
                bucket_limits=found.edges[1:].tolist(),
                bucket_counts=found.counts.tolist(),
                global_step=step,
            )

    def close(self, tables: Mapping[str, pd.DataFrame]) -> None:
        """Figures, at the last step."""
        last = max((int(table["step"].max()) for table in tables.values() if "step" in table), default=0)
        with drawn(tables, "png") as paths:
            for path in paths:
                with Image.open(path) as picture:
                    pixels = np.asarray(picture.convert("RGB"))
                self._writer.add_image(f"figures/{path.stem}", pixels, last, dataformats="HWC")
        self._writer.flush()
        if self._own:
            self._writer.close()
