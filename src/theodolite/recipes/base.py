"""What optimizers and losses share: settings as fields, a kind by which files know them, and the way back."""

import sys
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, SerializerFunctionWrapHandler, ValidationError, model_serializer

from theodolite.code import running, sources
from theodolite.errors import CodeFailed, SettingError, UnknownName


class Recipe(BaseModel, ABC):
    """Frozen settings of a kind. The class of a kind may be a user's own: its file's code then enters every name."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    FAMILY: ClassVar[str]  # for messages: "optimizer"
    BUILT_IN: ClassVar[tuple[str, ...]]  # kinds that the engine knows without a class
    kinds: ClassVar[dict[str, type[Any]]]  # of a family, by name
    kind: ClassVar[str] = ""
    file: ClassVar[Path | None] = None  # of a class of the user's own
    code: ClassVar[str | None] = None  # the hash of that file's code

    def __init_subclass__(cls, *, kind: str | None = None, **others: Any) -> None:
        """Keep the class under its kind; a file that runs again replaces what it made before."""
        super().__init_subclass__(**others)
        if kind is None:
            return
        other = cls.kinds.get(kind)
        module = sys.modules.get(cls.__module__)
        place = getattr(module, "__file__", None)
        cls.kind = kind
        if not cls.__module__.startswith("theodolite.") and place is not None:
            cls.file = Path(place).resolve()
            cls.code = sources.code(sources.read(cls.file))
        taken = other is not None and (other.file, other.__qualname__) != (cls.file, cls.__qualname__)
        if taken or kind in cls.BUILT_IN:
            raise SettingError(f"expected a kind for {cls.__name__} that no other {cls.FAMILY} has, got '{kind}'.")
        cls.kinds[kind] = cls

    @model_serializer(mode="wrap")
    def _written(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        own = {} if self.code is None else {"code": self.code}
        return {"kind": self.kind, **own, **write(self)}

    def __reduce__(self) -> tuple[Any, ...]:
        """To a worker process it goes as data, with the file of a class of the user's own."""
        family = next(cls for cls in type(self).__mro__ if "FAMILY" in vars(cls))
        return _unpacked, (family, self.model_dump(mode="json"), self.file)

    @classmethod
    def named(cls, kind: str, /, **settings: Any) -> Self:
        """The description of this kind, checked.

        Raises:
            UnknownName: there is none; the closest is named.
            SettingError: it has no such setting.
        """
        if kind in cls.kinds:
            return _made(cls.kinds[kind], settings)  # type: ignore[no-any-return]
        if kind not in cls.elsewhere():
            raise UnknownName(cls.FAMILY, kind, [*cls.BUILT_IN, *cls.kinds, *cls.elsewhere()])
        return cls.foreign(kind, settings)

    @classmethod
    def parsed(cls, value: Any) -> Any:
        """What a spec takes: a description, its name, or what a file says of it, where its class may be unknown."""
        if isinstance(value, cls) or value in cls.BUILT_IN:
            return value
        if isinstance(value, str):
            return cls.named(value)
        if not isinstance(value, Mapping) or not isinstance(value.get("kind"), str):
            raise ValueError(f"expected a name or a description with a 'kind', got {value!r:.60}")
        settings = {name: part for name, part in value.items() if name != "kind"}
        own = cls.kinds.get(value["kind"])
        if own is not None and settings.get("code", own.code) == own.code:
            return _made(own, {name: part for name, part in settings.items() if name != "code"})
        return cls.foreign(value["kind"], settings, check=False)

    @classmethod
    @abstractmethod
    def elsewhere(cls) -> Iterable[str]:
        """Names in PyTorch that the family knows without a class of ours."""

    @classmethod
    @abstractmethod
    def foreign(cls, kind: str, settings: Mapping[str, Any], *, check: bool = True) -> Self:
        """The description of a class that is PyTorch's, or of one that only a file knows."""


class OfTorch(BaseModel):
    """What describes a class of PyTorch, of any family: its name, and the settings that were given."""

    name: str
    settings: dict[str, Any]

    @model_serializer
    def _flat(self) -> dict[str, Any]:
        return {"kind": self.name, **self.settings}

    def __hash__(self) -> int:
        """Equal for equal ones; settings have none."""
        return hash(self.name)


def unknown(family: str, kind: str, settings: Mapping[str, Any]) -> CodeFailed:
    """What to say of a description whose class is not here."""
    if "code" in settings:
        return CodeFailed(
            f"expected the class of the {family} '{kind}' as it was when it was described, but it is not here or its "
            "file has changed. Import it first, or describe it anew."
        )
    return CodeFailed(f"expected a class of the {family} '{kind}', but neither a file nor PyTorch has one. Import it.")


def _made(cls: type[Any], settings: Mapping[str, Any]) -> Any:
    try:
        return cls(**settings)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        known = ", ".join(cls.model_fields) or "none"
        raise SettingError(f"{cls.FAMILY} '{cls.kind}': '{where}': {first['msg']}. Its settings: {known}.") from None


def _unpacked(family: type[Recipe], content: Mapping[str, Any], file: Path | None) -> Any:
    if file is not None and content["kind"] not in family.kinds:
        with suppress(CodeFailed):  # then whoever makes it says that its class is not here
            running.run(file)
    return family.parsed(content)
