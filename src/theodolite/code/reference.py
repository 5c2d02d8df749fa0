"""A function in a file of the user's own, as data: where it is, what it is called with, and the hash of its code."""

from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict

from theodolite.code import running, sources
from theodolite.errors import CodeFailed, SettingError

PLAIN = (bool, int, float, str, type(None))


class Reference(BaseModel):
    """What ``FILE.py:NAME`` names. The folder of the file is no part of what it means, and enters no name of a run."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    file: str
    name: str
    arguments: dict[str, Any]  # numbers, texts, and lists of them
    code: str

    @classmethod
    def to(cls, reference: str, arguments: dict[str, Any]) -> Self:
        """The reference to a function as its file is now; the file is not run.

        Raises:
            CodeFailed: there is no such file, or it is no Python.
            SettingError: an argument that cannot be written down.
        """
        file, colon, name = reference.rpartition(":")
        path = Path(file).expanduser().resolve()
        if not colon or not file.endswith(".py") or not name.isidentifier():
            raise CodeFailed(f"expected FILE.py:NAME, got '{reference}'. For example: net.py:make")
        if not path.is_file():
            raise CodeFailed(f"expected a Python file, but there is no file {path}. Check the path.")
        plain = {key: _plain(key, value) for key, value in arguments.items()}
        return cls(file=str(path), name=name, arguments=plain, code=sources.code(sources.read(path)))

    def __hash__(self) -> int:
        """Equal for equal ones; arguments have none."""
        return hash((self.file, self.name, self.code))

    def anywhere(self) -> Self:
        """The same without its folder."""
        return self.model_copy(update={"file": Path(self.file).name})

    def call(self) -> Any:
        """Run the file, if it was not run yet, and call the function.

        Raises:
            CodeFailed: the file is not here, has changed since it was described, or it or the function raised an error.
        """
        path = Path(self.file)
        if not path.is_file() or sources.code(sources.read(path)) != self.code:
            raise CodeFailed(
                f"expected {path} as it was when this run was described, but it is gone or has changed. Put it back, "
                "or start the command again, which describes it anew."
            )
        function = running.named(f"{path}:{self.name}", "the function of")
        return running.called(lambda: function(**self.arguments), self.name)


def _plain(name: str, value: Any) -> Any:
    if isinstance(value, PLAIN):
        return value
    if isinstance(value, list | tuple) and all(isinstance(part, PLAIN) for part in value):
        return list(value)
    raise SettingError(
        f"expected '{name}' as a number, a text or a list of them, which a file can hold, got {type(value).__name__}."
    )
