"""A chart as a picture that anybody may hand on, and that picture as a chart: nothing in it is run or fetched."""

import base64
import math
import struct
from typing import Any

import altair as alt
import pandas as pd
import vl_convert

from theodolite.figures import raster
from theodolite.figures.theme import specification

SCALE = 2.0  # pixels of the picture for one of the chart
HEAD = struct.Struct(">8sI4sII")  # of a PNG: signature, length and name of its first chunk, width and height
LARGEST = 25_000_000  # pixels: a picture of few bytes may claim more than memory holds
SIGNATURE = b"\x89PNG\r\n\x1a\n"


def png(chart: Any) -> bytes:
    """The picture of a chart."""
    return raster.png(str(vl_convert.vegalite_to_svg(specification(chart))), SCALE)


def size(content: bytes) -> tuple[int, int]:
    """Width and height of a PNG in pixels.

    Raises:
        ValueError: it is none, or one that is too large to be drawn.
    """
    if len(content) < HEAD.size:
        raise ValueError("expected a PNG, got fewer bytes than the head of one")
    signature, _, first, width, height = HEAD.unpack_from(content)
    if signature != SIGNATURE or first != b"IHDR" or not (width and height):
        raise ValueError("expected a PNG, got another file")
    if width * height > LARGEST:
        raise ValueError(f"expected a PNG of at most {LARGEST:,} pixels, got {width:,} x {height:,}")
    return width, height


def still(content: bytes) -> alt.Chart:
    """A chart that shows a PNG of :func:`png`, as large as the chart it is of was."""
    width, height = (math.ceil(side / SCALE) for side in size(content))
    address = "data:image/png;base64," + base64.b64encode(content).decode()  # the picture itself
    return (
        alt.Chart(pd.DataFrame({"picture": [address]}), view=alt.ViewBackground(stroke=None))
        .mark_image(width=width, height=height)
        .encode(x=alt.value(width / 2), y=alt.value(height / 2), url=alt.Url("picture:N"))
        .properties(width=width, height=height)
    )
