"""A drawing as a picture: the same pixels from fewer layers.

Vega clips each mark of a chart by itself, and whoever paints the SVG opens a layer as large as the panel for each of
them: that was two thirds of the time of all pictures. Neighbours with the same clip can share one.
"""

from collections.abc import Mapping
from itertools import groupby
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import vl_convert

SVG = "{http://www.w3.org/2000/svg}"
NOWHERE = ("", "translate(0,0)")  # transforms that move nothing: a clip outside is the clip inside


def png(svg: str, scale: float) -> bytes:
    """A drawing of Vega's as PNG, ``scale`` times as large."""
    return bytes(vl_convert.svg_to_png(lighter(svg), scale=scale))


def lighter(svg: str) -> str:
    """The same drawing, marks that nobody sees left out and neighbours with one clip under one."""
    root = ElementTree.fromstring(svg)  # noqa: S314 - Vega made it, here and now
    clips = {
        f"url(#{clip.get('id')})": ElementTree.tostring(clip[0], encoding="unicode")
        for clip in root.iter(f"{SVG}clipPath")
    }
    _drop_unseen(root)
    for path in root.iter(f"{SVG}path"):
        _fade(path)
    _share(root, clips)
    return ElementTree.tostring(root, encoding="unicode")


def _drop_unseen(part: Element) -> None:
    """Leave out what has no colour: the wide targets of tooltips, frames without a line."""
    for child in list(part):
        if len(child):
            _drop_unseen(child)
        elif child.tag == f"{SVG}path" and _unseen(child):
            part.remove(child)


def _unseen(path: Element) -> bool:
    nothing_inside = path.get("fill") == "none" or path.get("fill-opacity") == "0"
    hidden = path.get("display") == "none" or (path.get("class") == "background" and path.get("fill") is None)
    return path.get("stroke") is None and (nothing_inside or hidden)


def _fade(path: Element) -> None:
    """Make the colour see-through, not the mark, which would be a layer again; the same where it has one colour."""
    colours = [name for name in ("fill", "stroke") if path.get(name, "none") != "none"]
    if len(colours) == 1 and "opacity" in path.attrib:
        own = f"{colours[0]}-opacity"
        path.set(own, f"{float(path.attrib.pop('opacity')) * float(path.get(own, '1')):.6g}")


def _share(part: Element, clips: Mapping[str, str]) -> None:
    """Put runs of children that are clipped alike into one group with that clip."""
    for child in part:
        _share(child, clips)
    children = list(part)
    part[:] = []
    for shape, run in groupby(children, lambda child: _clip_of(child, clips)):
        alike = list(run)
        part.extend(alike if shape is None else _grouped(alike))


def _clip_of(part: Element, clips: Mapping[str, str]) -> str | None:
    """The shape of the one clip that bounds all of a group; None where there is none, or more than one."""
    if part.tag != f"{SVG}g" or part.get("transform", "") not in NOWHERE:
        return None
    if part.get("clip-path") is not None:
        return clips.get(part.get("clip-path", ""))
    shapes = {_clip_of(child, clips) for child in part}
    return shapes.pop() if len(shapes) == 1 else None


def _grouped(run: list[Element]) -> list[Element]:
    if len(run) < 2:
        return run
    clipped = [part for child in run for part in child.iter(f"{SVG}g") if part.get("clip-path")]
    outer = Element(f"{SVG}g", {"clip-path": clipped[0].attrib["clip-path"]})
    for part in clipped:
        del part.attrib["clip-path"]
    outer.extend(run)
    return [outer]
