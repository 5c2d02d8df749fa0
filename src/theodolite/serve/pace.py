"""How long what was worked out serves all who ask."""

import math
from collections.abc import Callable

EVERY = 2.0  # seconds a state serves all who ask, at least
MOST = 15.0  # at most, while a training runs
SHARE = 0.005  # of one processor while a training runs: for looks and answers, for verdicts, and for pages, each


class Pace:
    """Seconds from look to look: what the last one and its answers took is then the share that they may take."""

    def __init__(self, used: Callable[[], float]) -> None:
        self.used = used  # processor seconds of this process
        self.seconds = EVERY
        self._before = used()

    def after_look(self, *, training: bool, busy: bool) -> float:
        """Seconds until the next look; ``busy``: something else took time too, so that nothing was learned."""
        now = self.used()
        spent, self._before = now - self._before, now
        if not training:
            self.seconds = EVERY
        elif not busy:
            self.seconds = min(MOST, max(EVERY, math.ceil(spent / SHARE)))
        return self.seconds
