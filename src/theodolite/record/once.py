"""What a recorder warns of, once each, at the user's own line."""

import logging
import warnings

from theodolite.record.words import outside

_log = logging.getLogger("theodolite")


class RecorderWarning(UserWarning):
    """Something about a recording that the training does not stop for; each is said once."""


class Once:
    """Says each thing the first time only."""

    def __init__(self) -> None:
        self._said: set[str] = set()

    def say(self, key: str, message: str) -> None:
        """Warn, unless something was said under this key."""
        if key in self._said:
            return
        self._said.add(key)
        try:
            warnings.warn(message, RecorderWarning, stacklevel=outside())
        except RecorderWarning:  # where warnings are errors: the training goes on all the same
            _log.warning(message)
