"""Names that fields of results had before, still readable."""


class OldNames:
    """``path`` is ``backend`` and ``check`` is ``check_error``."""

    __slots__ = ()
    check_error: float

    @property
    def path(self) -> str:
        """The old name of ``backend``."""
        return str(self.backend)  # type: ignore[attr-defined]

    @property
    def check(self) -> float:
        """The old name of ``check_error``."""
        return self.check_error
