"""Instruments inside a training of the user's own: when they measure, what they leave behind, and nothing else changed.

``recorder.py`` is what a user sees; the other files are its parts.
"""

from theodolite.record.log import Measurement, Sink, read_snapshots
from theodolite.record.recorder import Recorder, RecorderWarning

__all__ = ["Measurement", "Recorder", "RecorderWarning", "Sink", "read_snapshots"]
