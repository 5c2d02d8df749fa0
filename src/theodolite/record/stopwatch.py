"""Time, divided: seconds of training, seconds of recording."""

from collections.abc import Callable


class Stopwatch:
    """Runs from the first step on; what was spent on recording is no training."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.own = 0.0  # seconds of recording
        self.before = 0.0, 0.0  # seconds trained, and passed, in an earlier part of this recording
        self._started: float | None = None

    @property
    def runs(self) -> bool:
        """Whether the first step was taken."""
        return self._started is not None

    def start(self, at: float) -> None:
        """The first step came at this time; what passed since was recording."""
        self._started = at
        self.own = self.clock() - at

    def trained(self, now: float) -> float:
        """Seconds of training, without any recording."""
        return self.before[0] + (now - self._started - self.own if self._started is not None else 0.0)

    def passed(self, now: float) -> float:
        """Seconds since the first step."""
        return self.before[1] + (now - self._started if self._started is not None else 0.0)
