"""Vega, Vega-Lite and Vega-Embed as one script, bundled once for each of their versions and kept with the data sets.

Bundling takes a second, which was a fifth of making a page.
"""

from contextlib import suppress
from functools import cache
from importlib.metadata import version
from pathlib import Path

import vl_convert

from theodolite.data.cache import root
from theodolite.errors import TheodoliteError
from theodolite.store import files

SNIPPET = "window.vegaEmbed = vegaEmbed;"


@cache
def library() -> str:
    """The script; where nothing can be kept, bundled by each process."""
    path = None
    with suppress(TheodoliteError):  # no home folder, which is said where it matters: by who needs a data set
        path = root() / f"vega-{version('vl-convert-python')}.js"
    if path and (kept := _kept(path)):
        return kept
    bundled = str(vl_convert.javascript_bundle(SNIPPET)).replace("</script", "<\\/script")
    script = "(() => {" + bundled + "})();"  # its hundreds of names stay its own
    if path:
        with suppress(TheodoliteError, OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            files.write(path, f"{_sum(script)}\n{script}".encode())
    return script


def _kept(path: Path) -> str:
    """The script of a file that holds its checksum and is whole; empty where there is none."""
    try:
        total, _, script = files.read(path).decode().partition("\n")
    except (OSError, UnicodeDecodeError):
        return ""
    return script if total == _sum(script) else ""


def _sum(script: str) -> str:
    return files.checksum(f"{SNIPPET}{script}".encode())
