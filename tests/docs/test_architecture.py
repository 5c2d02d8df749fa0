"""The page on the code's own build: its pictures show what is there, and what it names exists."""

import ast
import re
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "theodolite"
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
SVG = "{http://www.w3.org/2000/svg}"
sys.path.insert(0, str(ROOT / "docs" / "_build"))

import architecture  # noqa: E402


def texts(svg: str, kind: str) -> list[str]:
    return [element.text or "" for element in ElementTree.fromstring(svg).iter(f"{SVG}{kind}")]  # noqa: S314 - our own


def test_every_room_at_the_top_is_in_the_picture_once_and_every_line_leads_downwards():
    picture = architecture.package()
    rooms = {path.stem for path in SOURCE.glob("*.py")} | {path.parent.name for path in SOURCE.glob("*/__init__.py")}
    svg = architecture.svg(picture)
    assert sorted(texts(svg, "text")) == sorted(room for room in rooms if not room.startswith("__"))
    layer = {room: number for number, layer in enumerate(picture.layers) for room in layer}
    drawn = [title.split(" imports ") for title in texts(svg, "title")]
    assert len(drawn) > 20
    assert all(layer[upper] < layer[lower] for upper, lower in drawn)


def test_every_room_of_measure_and_the_catalogue_is_in_its_picture_once():
    rooms = {path.parent.name for path in (SOURCE / "measure").glob("*/__init__.py")}
    assert sorted(texts(architecture.svg(architecture.measure()), "text")) == sorted(
        {"instruments", "catalogue", *rooms}
    )


def test_imports_are_found_wherever_they_stand_in_a_file():
    source = "import a.b\ndef f():\n    from c.d import e\n    from . import near\nif x:\n    import g"
    assert architecture.imported(ast.parse(source)) == {"a.b", "c.d.e", "g"}


def test_an_import_is_left_out_only_where_others_lead_around_it():
    imports = {"a": {"b", "c", "d"}, "b": {"c"}, "c": set(), "d": set()}
    assert architecture.reduced(imports) == {"a": {"b", "d"}, "b": {"c"}, "c": set(), "d": set()}
    assert architecture.sorted_in_layers(imports) == (("a",), ("b", "d"), ("c",))
    with pytest.raises(ValueError, match="circle"):
        architecture.sorted_in_layers({"a": {"b"}, "b": {"a"}})


def test_every_file_and_function_that_the_page_names_exists():
    home, missing, count = SOURCE, [], 0
    for section in PAGE.split("\n## "):
        home = SOURCE / "measure" if section.startswith("One batch") else SOURCE
        for path, name in re.findall(r"`([\w/]+(?:\.py|/))(?::(\w+))?`", section):
            count += 1
            there = ROOT / path if path.startswith("src/") else home / path
            if not there.exists() or (name and name not in defined(there)):
                missing.append(f"{path}:{name}")
    assert count > 30
    assert missing == []


def defined(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, (ast.FunctionDef, ast.ClassDef))}
