"""The picture of the page in README and docs.

    python docs/_build/pictures.py RESULTS_FOLDER

opens its ``report.html`` in Chromium and writes ``docs/page.png``, in few colours, so that the file stays small.
"""

import io
import shutil
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

SHOWN = Path(__file__).parents[1] / "page.png"
COLOURS = 48
SIZE = {"width": 1200, "height": 760}


def page(report: Path, to: Path = SHOWN) -> None:
    """The first view of a report, as a browser shows it."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    with sync_playwright() as playwright:
        arguments = ["--headless", "--no-sandbox", "--disable-gpu"]
        browser = playwright.chromium.launch(executable_path=chromium, args=arguments)
        view = browser.new_page(viewport=SIZE)
        view.goto(report.resolve().as_uri())
        view.wait_for_selector("#summary")
        pixels = view.screenshot()
        browser.close()
    with Image.open(io.BytesIO(pixels)) as picture:
        picture.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE).save(to, optimize=True)


if __name__ == "__main__":
    page(Path(sys.argv[1]) / "report.html")
