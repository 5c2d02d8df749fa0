"""A drawing as a picture: the same picture from fewer layers.

Vega clips each mark of a chart by itself, and whoever paints the SVG opens a layer as large as the panel for each of
them: that was four fifths of the time of all pictures. Neighbours with the same clip can share one, and marks that lie
within theirs need none (but for the end of a line at a side of the panel, which is then no longer cut off at an angle).
"""

import math
import re
from collections.abc import Mapping
from itertools import groupby
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import vl_convert

SVG = "{http://www.w3.org/2000/svg}"
RIM = 0.5  # pixels that a mark's middle may lie beyond its clip
WIDEST = 0.7  # of the size of a font: what a letter takes at most, over some of them
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
    for group in root.iter(f"{SVG}g"):
        if "clip-path" in group.attrib and _within(group, clips.get(group.attrib["clip-path"], "")):
            del group.attrib["clip-path"]
    return ElementTree.tostring(root, encoding="unicode")


def _drop_unseen(part: Element) -> None:
    """Leave out what has no colour: the wide targets of tooltips, frames without a line; and groups of nothing else."""
    kept = []
    for child in part:
        if len(child):
            _drop_unseen(child)
        empty = child.tag == f"{SVG}g" and not len(child)
        if not (empty or (child.tag == f"{SVG}path" and _unseen(child))):
            kept.append(child)
    part[:] = kept


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


def _within(group: Element, clip: str) -> bool:
    """Whether all marks of a group lie within its clip, where that is a rectangle; false where it is hard to tell."""
    sides = re.search(r'rect [^>]*x="(\S+)" y="(\S+)" width="(\S+)" height="(\S+)"', clip)
    if sides is None:
        return False
    left, top, width, height = map(float, sides.groups())
    for part in group.iter():
        if part.tag == f"{SVG}g" and part.get("transform", "") in NOWHERE:
            continue
        first_x, first_y, last_x, last_y = _box(part)
        line = part.get("fill", "none") == "none"  # along the rim, half of it is cut off
        half = float(part.get("stroke-width", 0)) / 2 if "stroke" in part.attrib else 0.0
        rim = RIM if line or not half else -half  # an area's outline would frame the panel
        above, below = (first_y - half, last_y + half) if line else (first_y, last_y)
        if first_x < left - rim or above < top - rim or last_x > left + width + rim or below > top + height + rim:
            return False
    return True


def _box(mark: Element) -> tuple[float, float, float, float]:
    """Least and greatest x and y of a mark or further apart; without end where it is none of Vega's usual ones."""
    drawn, kind = mark.get("d", ""), mark.tag.removeprefix(SVG)
    moved = re.fullmatch(r"(?:translate\(([^,()]+),([^,()]+)\))?", mark.get("transform", ""))
    across, up = [-math.inf, math.inf], [-math.inf, math.inf]
    if moved is None:
        pass
    elif kind == "line":
        across, up = [0.0, float(mark.get("x2", 0))], [0.0, float(mark.get("y2", 0))]
    elif kind == "text":
        size = float(mark.get("font-size", "inf").removesuffix("px"))
        long = WIDEST * size * len(mark.text or "")
        across = {"end": [-long, 0.0], "middle": [-long / 2, long / 2]}.get(mark.get("text-anchor", ""), [0.0, long])
        up = [-0.95 * size, size / 2]
    elif kind == "path" and moved[1] is not None:  # a symbol about its place
        far = max((abs(float(number)) for number in re.findall(r"-?[\d.]+(?:e-?\d+)?", drawn)), default=0.0)
        across = up = [-far, far]
    elif kind == "path" and re.fullmatch(r"[MLZ\d.,e-]+", drawn):
        numbers = [float(number) for number in re.split("[MLZ,]+", drawn) if number]  # points, straight lines between
        across, up = numbers[::2], numbers[1::2]
    elif kind == "path" and (sides := re.fullmatch(r"M([^,]+),([^h]+)h([^v]+)v([^h]+)h[^Z]+Z", drawn)):
        left, top, width, height = map(float, sides.groups())
        across, up = [left, left + width], [top, top + height]
    x, y = (float(moved[1]), float(moved[2])) if moved and moved[1] else (0.0, 0.0)
    return x + min(across), y + min(up), x + max(across), y + max(up)


def _grouped(run: list[Element]) -> list[Element]:
    if len(run) < 2:
        return run
    clipped = [part for child in run for part in child.iter(f"{SVG}g") if part.get("clip-path")]
    outer = Element(f"{SVG}g", {"clip-path": clipped[0].attrib["clip-path"]})
    for part in clipped:
        del part.attrib["clip-path"]
    outer.extend(run)
    return [outer]
