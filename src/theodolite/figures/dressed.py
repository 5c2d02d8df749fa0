"""A chart for a user's own hands: in the report's look or plain, in a colour of choice, composed, saved offline."""

from collections.abc import Callable, Mapping
from functools import cache
from itertools import count
from typing import Any

import altair as alt
from altair.utils.schemapi import SchemaBase
from PIL import ImageColor

from theodolite.errors import SettingError
from theodolite.figures.theme import PALETTE, config

PARTS = ("layer", "hconcat", "vconcat", "concat")
OPERATORS = ("__or__", "__and__", "__add__")  # beside, above, and over one another


def dressed(chart: Any, *, theme: bool = True, color: str | None = None) -> Any:
    """The chart, whose pages need no network, and which composes by ``|``, ``&`` and ``+``, with or without theme.

    Args:
        chart: of this room's functions; it is changed.
        theme: the report's fonts and lines; False: whatever Altair's own theme is.
        color: of what is drawn in the first colour: ``"crimson"``, ``"#0064bb"``.

    Raises:
        SettingError: it is no colour.

    Example:
        >>> dot = lambda: alt.Chart(alt.InlineData([{"x": 1}])).mark_point(color=PALETTE[0].colour).encode(x="x:Q")
        >>> both = dressed(dot()) | dressed(dot(), color="crimson")
        >>> [part["mark"]["color"] for part in both.to_dict()["hconcat"]], both.to_dict()["config"]["background"]
        (['#0064bb', 'crimson'], '#ffffff')
        >>> "background" in dressed(dot(), theme=False).to_dict()["config"]
        False
    """
    if color is not None:
        _recolour(chart, PALETTE[0].colour, _checked(color))
    # Set plainly, Altair would take it for a part of the chart.
    object.__setattr__(chart, "__class__", _handy(chart.__class__, theme))
    if theme:
        look = config()
        del look["legend"]["layout"]  # Vega's own, which Altair takes for a mistake
        chart.config = alt.Config.from_dict(look, validate=False)
    return chart


@cache
def _handy(kind: Any, theme: bool) -> type[Any]:
    """The same class of chart, whose pages hold Vega themselves, and whose parts give up their theme to the whole."""

    def save(self: Any, fp: Any, format: Any = None, *others: Any, **options: Any) -> None:  # noqa: A002 - Altair's name
        page = format == "html" or (format is None and str(fp).endswith(".html"))
        kind.save(self, fp, format, *others, **({"inline": True} if page else {}) | options)

    def operator(name: str) -> Callable[[Any, Any], Any]:
        def composed(self: Any, other: Any) -> Any:
            one, two = _bare(self), _bare(other)
            made = getattr(kind, name)(one, _told_apart(two, _selections(one)))
            # What a colour or a shape stands for is each part's own.
            made = made.resolve_scale(color="independent", strokeDash="independent", shape="independent")
            return dressed(made, theme=theme or getattr(type(other), "_themed", False))

        return composed

    own = {"save": save, "_bare": kind, "_themed": theme, "__doc__": kind.__doc__, "__module__": kind.__module__}
    return type(kind.__name__, (kind,), own | {name: operator(name) for name in OPERATORS})


def _bare(chart: Any) -> Any:
    """A copy of Altair's own class and without theme, as a part of another has to be; what is none of ours as it is."""
    if not hasattr(type(chart), "_bare"):
        return chart
    copy = chart.copy()
    object.__setattr__(copy, "__class__", type(chart)._bare)
    copy.config = alt.Undefined
    _gather(copy)
    return copy


def _gather(chart: Any) -> None:
    """One layer that all is picked in, in place of two: of a part, Altair would have every layer heed everything."""
    views = [_held(layer) for layer in _listed(chart, "layer") if isinstance(_held(layer).get("name"), str)]
    for view in views[1:]:
        view["name"] = alt.Undefined
    for param in map(_held, _listed(chart, "params") if len(views) > 1 else ()):
        if "select" in param:
            param["views"] = [views[0]["name"]]


def _selections(part: Any) -> set[str]:
    """The names of what can be picked, pointed at or zoomed in a chart, which are the same in each of ours."""
    found = {_held(param)["name"] for param in _listed(part, "params") if "select" in _held(param)}
    return found.union(*(_selections(one) for key in PARTS for one in _listed(part, key)))


def _told_apart(chart: Any, taken: set[str]) -> Any:
    """The chart with other names where they are taken, so that a zoom in one part is none in the other; in place."""
    names = {}
    for name in sorted(_selections(chart) & taken):
        free = (f"{name}_{number}" for number in count(2))
        names[name] = next(one for one in free if one not in taken)
    return _renamed(chart, names) if names else chart


def _renamed(part: Any, names: Mapping[str, str]) -> Any:
    if isinstance(part, list):
        return [_renamed(entry, names) for entry in part]
    held = _held(part)
    for key, value in list(held.items()):
        if key in ("name", "param") and isinstance(value, str):
            held[key] = names.get(value, value)
        elif key not in ("data", "datasets"):
            held[key] = _renamed(value, names)
    return part


def _listed(part: Any, key: str) -> list[Any]:
    found = _held(part).get(key)
    return found if isinstance(found, list) else []


def _held(part: Any) -> dict[str, Any]:
    """The fields of a part of a chart, to be changed in place; none of what has none."""
    held = part._kwds if isinstance(part, SchemaBase) else part
    return held if isinstance(held, dict) else {}


def _recolour(part: Any, old: str, new: str) -> Any:
    """The new colour wherever the old one is, in place where it can be."""
    if isinstance(part, str):
        return new if part == old else part
    if isinstance(part, list):
        part[:] = [_recolour(entry, old, new) for entry in part]
    held = _held(part)
    held |= {name: _recolour(entry, old, new) for name, entry in held.items() if name not in ("data", "datasets")}
    return part


def _checked(color: str) -> str:
    try:
        ImageColor.getrgb(color)
    except (ValueError, AttributeError, TypeError):
        raise SettingError(f"expected a colour such as 'crimson' or '#0064bb', got {color!r:.40}.") from None
    return color
