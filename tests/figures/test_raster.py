"""Pictures from fewer layers: held against the drawing as it was, painted by the same library."""

import io
import re

import numpy as np
import pytest
import vl_convert
from PIL import Image

import made
from theodolite.figures import raster, theme

FIGURES = {f"{s.name}-{f.name}": f for s in made.findings(planes=True) for f in s.figures}
HEAD = (
    '<svg xmlns="http://www.w3.org/2000/svg" width="60" height="40"><defs>{}</defs>'
    '<rect width="60" height="40" fill="#fff"/>{}</svg>'
)
CLIP = '<clipPath id="{}"><path d="M0,0h{}v40h-{}Z"/></clipPath>'
DOT = '<g clip-path="url(#{})"><path d="M{},5h30v20h-30Z" fill="#a11d3a" opacity="0.5"/></g>'


def pixels(png):
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)


def plainly(svg, scale=2.0):
    return pixels(vl_convert.svg_to_png(svg, scale=scale))


@pytest.mark.parametrize("name", FIGURES)
def test_a_picture_shows_what_the_drawing_shows(name):
    svg = str(vl_convert.vegalite_to_svg(theme.specification(FIGURES[name].chart)))
    apart = np.abs(pixels(raster.png(svg, 2.0)) - plainly(svg))
    assert (apart.max(axis=2) > 24).mean() < 5e-5  # of 255: some dots where a line ends at the panel's rim, uncut
    assert (apart > 3).mean() < 0.002


def test_marks_with_one_clip_share_it_and_others_keep_their_own():
    svg = HEAD.format(
        CLIP.format("a", 30, 30) + CLIP.format("b", 30, 30) + CLIP.format("c", 50, 50),
        DOT.format("a", 5) + DOT.format("b", 15) + DOT.format("c", 25),
    )
    lighter = raster.lighter(svg)
    assert re.findall(r'clip-path="url\(#(\w)\)"', lighter) == ["a", "c"]
    assert np.abs(plainly(lighter) - plainly(svg)).max() <= 2


def test_a_moved_group_keeps_its_clip_which_moves_with_it():
    moved = f'<g transform="translate(7,0)">{DOT.format("b", 15)}</g>'
    svg = HEAD.format(CLIP.format("a", 30, 30) + CLIP.format("b", 30, 30), DOT.format("a", 5) + moved)
    assert raster.lighter(svg).count("clip-path=") == 2
    assert np.abs(plainly(raster.lighter(svg)) - plainly(svg)).max() <= 2


@pytest.mark.parametrize(
    ("mark", "kept"),
    [
        ('<path d="M5,5L30,5L29,38" fill="none" stroke="#000"/>', False),
        ('<path d="M5,5L30,5L52,38" fill="none" stroke="#000"/>', True),
        ('<path transform="translate(20,20)" d="M4,0A4,4,0,1,1,-4,0A4,4,0,1,1,4,0" fill="#000"/>', False),
        ('<path transform="translate(48,20)" d="M4,0A4,4,0,1,1,-4,0A4,4,0,1,1,4,0" fill="#000"/>', True),
        ('<path d="M5,5h30v30h-30Z" fill="#000"/>', False),
        ('<path d="M5,5h30v-9h-30Z" fill="#000"/>', True),
        ('<line transform="translate(0,9)" x2="50" y2="0" stroke="#000"/>', False),
        ('<line transform="translate(9,9)" x2="50" y2="0" stroke="#000"/>', True),
        ('<text transform="translate(2,20)" font-size="12px" fill="#000">word</text>', False),
        ('<text transform="translate(2,20)" font-size="12px" fill="#000">wwwwww</text>', True),
        ('<path d="M5,5C9,9,9,9,30,5" fill="none" stroke="#000"/>', True),
        ('<circle cx="9" cy="9" r="3"/>', True),
    ],
)
def test_marks_within_their_clip_need_none(mark, kept):
    rectangle = '<clipPath id="a"><rect x="0" y="0" width="50" height="40"/></clipPath>'
    svg = HEAD.format(rectangle, f'<g clip-path="url(#a)">{mark}</g>')
    assert ("clip-path=" in raster.lighter(svg)) == kept
    assert np.abs(plainly(raster.lighter(svg)) - plainly(svg)).max() <= 2


def test_only_what_has_no_colour_is_left_out():
    unseen = '<path d="M0,0h9v9h-9Z" fill="#000" fill-opacity="0"/>'
    outlined = '<path d="M1,1h9v9h-9Z" fill="none" stroke="#000"/>'
    lighter = raster.lighter(HEAD.format("", unseen + outlined))
    assert len(re.findall(r"path d=", lighter)) == 1
    assert plainly(lighter).min() < 100
