"""A chart as a picture that anybody may hand on, and that picture as a chart: nothing in it is run or fetched."""

import base64
import math
from typing import Any

import altair as alt
import pandas as pd
import vl_convert

from theodolite.figures import raster
from theodolite.figures.theme import specification

SCALE = 2.0  # pixels of the picture for one of the chart


def png(chart: Any) -> bytes:
    """The picture of a chart."""
    return raster.png(str(vl_convert.vegalite_to_svg(specification(chart))), SCALE)


def still(content: bytes, size: tuple[int, int]) -> alt.Chart:
    """A chart that shows a PNG of :func:`png`, so many pixels wide and high, as large as the chart it is of was."""
    width, height = (math.ceil(side / SCALE) for side in size)
    address = "data:image/png;base64," + base64.b64encode(content).decode()  # the picture itself
    return (
        alt.Chart(pd.DataFrame({"picture": [address]}), view=alt.ViewBackground(stroke=None))
        .mark_image(width=width, height=height)
        .encode(x=alt.value(width / 2), y=alt.value(height / 2), url=alt.Url("picture:N"))
        .properties(width=width, height=height)
    )
