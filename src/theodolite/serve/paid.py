"""Work that is done again only when the time since the last time has paid for it."""

import math
from dataclasses import dataclass

LEAST = 5.0  # seconds between two times


@dataclass
class Paid:
    """Work on all records of a results folder, which takes longer the more there are.

    Waiting comes first, and is for what the next time is expected to take: at least what the last one took, or what the
    records cost by a measurement. So the work never takes more than its share of a processor, however it grows.
    """

    study: float  # processor seconds for each study that has records
    record: float  # and for each record
    cost: float = 0.0  # processor seconds of the last time
    ended: float = -math.inf  # when that was
    changes: int = 0  # of the records until then

    def is_due(self, now: float, share: float, *, changes: int, studies: int, records: int) -> bool:
        """Whether records have changed, and waiting at this share has paid for looking at them again."""
        expected = max(self.cost, self.study * studies + self.record * records)
        return changes != self.changes and now >= self.ended + max(LEAST, expected / share)

    def did(self, now: float, cost: float, changes: int) -> None:
        """It was done for the records as of so many changes."""
        self.ended, self.cost, self.changes = now, cost, changes
