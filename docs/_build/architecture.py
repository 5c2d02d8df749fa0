"""Pictures of the package: its rooms, and who imports whom, drawn from the imports themselves.

The layers are those that ``pyproject.toml`` has import-linter hold, so a line always leads downwards. An import that
follows from two or more others drawn is left out: of more than a hundred, nobody could follow one.
"""

import ast
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "theodolite"
PACKAGE = "theodolite"
WIDTH, HEIGHT, GAP_X, GAP_Y, MARGIN = 112, 34, 40, 44, 16  # pixels
SIDE = 130  # on both sides, for lines

STYLE = """
.room rect { fill: #eef3fb; stroke: #5b7db1; } .room text { fill: #1b2a41; font: 13px system-ui, sans-serif; }
path { fill: none; stroke: #7f8ea3; stroke-width: 1.4; stroke-opacity: .8; }
[data-md-color-scheme="slate"] .room rect { fill: #22304a; stroke: #8fb0e3; }
[data-md-color-scheme="slate"] .room text { fill: #e8eef8; }
[data-md-color-scheme="slate"] .architecture path { stroke: #a9b7cc; }
"""  # after the site's own palette, which a reader may switch

Imports = Mapping[str, set[str]]  # rooms imported, by room
Point = tuple[float, float]


@dataclass(frozen=True)
class Picture:
    """What is drawn: rooms in layers, from the top, and imports between them."""

    title: str
    layers: tuple[tuple[str, ...], ...]
    imports: Imports


def package() -> Picture:
    """The rooms at the top of the package."""
    imports = imports_of(SOURCE, PACKAGE)
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"][
        "contracts"
    ]
    layers = next(c["layers"] for c in contracts if c["type"] == "layers" and c["containers"] == [PACKAGE])
    return Picture(
        "Rooms of theodolite and their imports",
        tuple(tuple(name.strip() for name in layer.replace(":", "|").split("|")) for layer in layers),
        imports,
    )


def measure() -> Picture:
    """The rooms inside ``measure/`` and its catalogue; the instruments, one file each, are one room of the picture."""
    folder = SOURCE / "measure"
    rooms = {"catalogue", *(path.parent.name for path in folder.glob("*/__init__.py"))}
    imports: dict[str, set[str]] = {}
    for name, others in imports_of(folder, f"{PACKAGE}.measure").items():
        if name == "__init__":
            continue
        room = name if name in rooms else "instruments"
        imports.setdefault(room, set()).update(other if other in rooms else "instruments" for other in others)
        imports[room].discard(room)
    return Picture("Rooms of theodolite.measure and their imports", sorted_in_layers(imports), imports)


def imports_of(folder: Path, package: str) -> dict[str, set[str]]:
    """What each room of a package imports of the others: every import of every file, wherever it stands in it."""
    rooms = {path.stem for path in folder.glob("*.py")} | {path.parent.name for path in folder.glob("*/__init__.py")}
    found: dict[str, set[str]] = {room: set() for room in rooms if not room.startswith("__")}
    for path in sorted(folder.rglob("*.py")):
        room = path.relative_to(folder).parts[0].removesuffix(".py")
        if room in found:
            names = imported(ast.parse(path.read_text(encoding="utf-8")))
            below = {
                name.removeprefix(f"{package}.").partition(".")[0] for name in names if name.startswith(f"{package}.")
            }
            found[room] |= below & found.keys() - {room}
    return found


def imported(tree: ast.AST) -> set[str]:
    """Full names of all that a file imports."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def sorted_in_layers(imports: Imports) -> tuple[tuple[str, ...], ...]:
    """Rooms in as few layers as there can be, each below all that import it.

    Raises:
        ValueError: they import each other in a circle.
    """
    left, layers = {room: set(others) for room, others in imports.items()}, []
    while left:
        top = sorted(room for room in left if not any(room in others for others in left.values()))
        if not top:
            raise ValueError(f"expected imports without a circle, got one among {', '.join(sorted(left))}.")
        layers.append(tuple(top))
        for room in top:
            del left[room]
    return tuple(layers)


def reduced(imports: Imports) -> dict[str, set[str]]:
    """The imports that no way over other rooms leads around (the transitive reduction)."""

    def reached(room: str) -> set[str]:
        return set().union(*({other} | reached(other) for other in imports.get(room, ())))

    return {
        room: {other for other in others if not any(other in reached(between) for between in others - {other})}
        for room, others in imports.items()
    }


def svg(picture: Picture) -> str:
    """The picture, for a page: in the colours of its palette."""
    most = max(map(len, picture.layers))
    width = 2 * (MARGIN + SIDE) + most * (WIDTH + GAP_X) - GAP_X
    height = 2 * MARGIN + len(picture.layers) * (HEIGHT + GAP_Y) - GAP_Y
    places = {room: place for number, layer in enumerate(picture.layers) for room, place in _row(layer, number, width)}
    drawn = reduced(picture.imports)
    lines = [
        _line(room, other, places, width) for room in places for other in sorted(drawn.get(room, set()) & places.keys())
    ]
    rooms = [_room(name, place) for name, place in places.items()]
    return (
        f'<svg class="architecture" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" role="img" '
        f'aria-label="{escape(picture.title)}" style="width:100%;max-width:{width:g}px;height:auto">'
        f"<style>{''.join(STYLE.splitlines())}</style>{''.join(lines)}{''.join(rooms)}</svg>"
    )


def _row(layer: Sequence[str], number: int, width: float) -> list[tuple[str, Point]]:
    """Each room's middle; every other layer is shifted, so that lines pass between rooms."""
    step = WIDTH + GAP_X
    first = width / 2 - step * (len(layer) - 1) / 2
    if len(layer) == 1:
        first += (-1) ** number * step * 0.55
    y = MARGIN + HEIGHT / 2 + number * (HEIGHT + GAP_Y)
    return [(room, (first + step * place, y)) for place, room in enumerate(layer)]


def _line(room: str, other: str, places: Mapping[str, Point], width: float) -> str:
    """From the lower edge of one room to the upper edge of another, bowed as little as passes by the rooms between."""
    (x1, y1), (x2, y2) = places[room], places[other]
    y1, y2 = y1 + HEIGHT / 2, y2 - HEIGHT / 2
    others = [place for name, place in places.items() if name not in (room, other)]
    bows = sorted(range(-400, 401, 20), key=abs)
    curves = [((x1, y1), (x1 + bow, y1 + (y2 - y1) / 3), (x2 + bow, y2 - (y2 - y1) / 3), (x2, y2)) for bow in bows]
    curve = min(curves, key=lambda curve: _covered(curve, others, width))
    (a, b), (c, d), (e, f), (g, h) = curve
    path = f"M{a:g} {b:g}C{c:g} {d:g} {e:g} {f:g} {g:g} {h:g}"
    return f'<path d="{path}"><title>{escape(f"{room} imports {other}")}</title></path>'


def _covered(curve: Sequence[Point], rooms: Sequence[Point], width: float) -> int:
    """How many of sixty points of a Bézier curve lie on rooms, next to them, or outside of the picture."""
    count = 0
    for number in range(1, 60):
        t = number / 60
        weights = ((1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t * t * (1 - t), t**3)
        x, y = (sum(w * point[axis] for w, point in zip(weights, curve, strict=True)) for axis in (0, 1))
        count += not MARGIN < x < width - MARGIN
        count += any(abs(x - a) < WIDTH / 2 + 6 and abs(y - b) < HEIGHT / 2 + 4 for a, b in rooms)
    return count


def _room(name: str, place: Point) -> str:
    x, y = place
    return (
        f'<g class="room"><rect x="{x - WIDTH / 2:g}" y="{y - HEIGHT / 2:g}" width="{WIDTH}" height="{HEIGHT}" rx="6"/>'
        f'<text x="{x:g}" y="{y + 4.5:g}" text-anchor="middle">{escape(name)}</text></g>'
    )


PICTURES = {"theodolite": package, "measure": measure}
