"""What all instruments' results share: they print as a short table, become a pandas table, a chart, or a file."""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from html import escape
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias, cast

import numpy as np
from torch import Tensor

from theodolite.measure import catalogue
from theodolite.measure.results import equality, kinds
from theodolite.measure.results import writer as written

if TYPE_CHECKING:
    from pathlib import Path

    import altair as alt
    import pandas as pd

    Chart: TypeAlias = alt.Chart | alt.LayerChart | alt.HConcatChart | alt.VConcatChart

SHOWN = 10  # entries of a vector printed one by one


class Result:
    """Base of the frozen results, also of a user's own: a frozen dataclass with a ``kind``, its name in saved files.

    A file with a user's result is read back where the file that defines the class was imported before. What a class
    of one's own looks like drawn is its own ``plot``; by default numbers are dots, and vectors lines.

    Raises:
        SettingError: another class has the kind, or it is no identifier.

    Example:
        >>> from dataclasses import dataclass
        >>> import torch
        >>> @dataclass(frozen=True, slots=True)
        ... class Sides(Result, kind="sides"):
        ...     mean: float
        ...     sides: Tensor
        >>> Sides(1.5, torch.tensor([1.0, 2.0]))
        Sides
        mean   1.5
        sides  1  2
        >>> Sides(1.5, torch.tensor([1.0, 2.0])).to_frame()
           mean  sides
        0   1.5      1.0
        1   1.5      2.0
    """

    __slots__ = ()
    _kind: ClassVar[str]

    def __init_subclass__(cls, *, kind: str | None = None, **others: Any) -> None:
        super().__init_subclass__(**others)
        if kind is not None:
            cls._kind = kind
        # dataclass(slots=True) makes the class a second time, from the namespace of the first and without keywords.
        if (own := kinds.of(cls)) is not None:
            kinds.register(own, cls)
        # In the class's own namespace, or dataclass would write its own: one line of raw tensors, and an equality
        # that raises on them.
        for name in ("__repr__", "__eq__", "__hash__"):
            if name not in cls.__dict__:
                setattr(cls, name, getattr(Result, name))

    def __repr__(self) -> str:
        rows = self.rows()
        width = max(len(name) for name, _ in rows)
        return "\n".join([type(self).__name__, *(f"{name:{width}}  {value}" for name, value in rows)])

    def _repr_html_(self) -> str:
        rows = "".join(f"<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>" for name, value in self.rows())
        return f"<table><caption>{type(self).__name__}</caption>{rows}</table>"

    def __eq__(self, other: object) -> bool:
        """Of one class, with the same numbers bit for bit, wherever tensors lie; so is one loaded to the one saved."""
        return type(self) is type(other) and equality.same(self, other)

    def __hash__(self) -> int:
        return hash((type(self).__qualname__, repr(self)))  # what is equal prints alike

    def to_frame(self) -> "pd.DataFrame":
        """One row for each entry of the vectors (those as long as the first one), numbers repeated beside them.

        A mapping gives a column for each of its keys; arrays of two or more dimensions are left out.
        """
        import pandas as pd  # 0.4 s that a measurement does not need

        numbers: dict[str, Any] = {}
        vectors: dict[str, Any] = {}
        for name, value in self._values():
            if isinstance(value, Mapping):
                numbers |= {f"{name}.{key}": v for key, v in value.items()}
            elif (array := _array(value)) is None:
                numbers[name] = value
            elif array.ndim == 1:
                vectors[name] = array
        lengths = [len(array) for array in vectors.values()]
        order = [name for name, _ in self._values()]
        columns = {k: v if v is not None else np.nan for k, v in numbers.items()}
        columns |= {k: v for k, v in vectors.items() if len(v) == lengths[0]}
        frame = pd.DataFrame(columns, index=range(lengths[0] if lengths else 1))
        return frame.reindex(columns=sorted(columns, key=lambda c: order.index(c.split(".")[0])))

    def plot(self, *, theme: bool = True, color: str | None = None) -> "Chart":
        """Draw the result, an Altair chart: show it in a notebook, or ``.save("a.png")``; ``"a.html"`` works offline.

        ``a.plot() | b.plot()`` puts two side by side, ``&`` above and ``+`` over one another.

        Args:
            theme: the report's own style; False: that of Altair, or yours.
            color: of what is drawn in the first colour, such as ``"crimson"``.
        """
        from theodolite.figures import measured  # who does not draw needs no altair

        draw = getattr(measured, catalogue.chart_of(kinds.of(type(self))))
        return cast("Chart", measured.chart(self, draw, theme=theme, color=color))

    def save(self, path: "Path | str") -> None:
        """Write the result to one safetensors file, without pickle; ``theodolite.measure.load`` reads it back.

        Raises:
            StoreError: it cannot be written there, its class has no ``kind``, a field is not what its annotation says,
                or the name ends as files of another format do.
        """
        written.save(self, path)

    def _values(self) -> list[tuple[str, Any]]:
        return [(field.name, getattr(self, field.name)) for field in fields(self) if field.repr]  # type: ignore[arg-type]

    def rows(self) -> list[tuple[str, str]]:
        """The short table that it prints as: a name and a few words each."""
        return [(name, show(value)) for name, value in self._values()]


def show(value: Any) -> str:
    """A value in a few words: numbers to six digits, short vectors in full, arrays by shape and range."""
    array = _array(value)
    if array is None:
        if isinstance(value, Mapping):
            return "  ".join(f"{key} {show(v)}" for key, v in list(value.items())[:SHOWN]) + " …" * (len(value) > SHOWN)
        return f"{value:.6g}" if isinstance(value, float) else str(value)
    if array.ndim == 1 and len(array) <= SHOWN:
        return "  ".join(show(entry.item()) for entry in array) or "none"
    shape = " × ".join(str(n) for n in array.shape)
    if not array.size or array.dtype.kind == "b":
        return f"{shape} values"
    if np.isnan(array).all():
        return f"{shape} values, all NaN"
    return f"{shape} values from {np.nanmin(array):.6g} to {np.nanmax(array):.6g}"


def _array(value: Any) -> Any:
    """An array of numbers, or None where the value is none."""
    if isinstance(value, Tensor):
        value = value.detach().cpu()
        array = (value.double() if value.is_floating_point() else value).numpy()
    elif isinstance(value, np.ndarray) or (isinstance(value, Sequence) and not isinstance(value, str)):
        array = np.asarray(value)
    else:
        return None
    return array if array.ndim and array.dtype.kind in "biuf" else None
