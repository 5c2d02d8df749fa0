"""The documentation: built strictly from this very package, complete, and without a request to anyone."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from theodolite import cli, measure
from theodolite.measure.catalogue import in_shell

ROOT = Path(__file__).parents[2]
COMMANDS = {"theodolite": typer.main.get_command(cli.app), **typer.main.get_command(cli.app).commands}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The whole site, with both notebooks run on the way."""
    folder = tmp_path_factory.mktemp("site")
    build = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    quiet = {"NO_MKDOCS_2_WARNING": "1", "PYDEVD_DISABLE_FILE_VALIDATION": "1", "THEODOLITE_DEBUG": ""}
    environment = {**os.environ, **quiet}
    environment.pop("THEODOLITE_DEBUG")
    done = subprocess.run(build, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_no_page_asks_anyone_for_anything(site):
    pages = list(site.rglob("*.html"))
    assert len(pages) > 40
    asks = re.compile(r'(?:src|data)="(?:https?:)?//|<link[^>]+href="(?:https?:)?//|@import|url\(["\']?(?:https?:)?//')
    styles = list(site.rglob("*.css"))
    assert {str(p.relative_to(site)): m[0] for p in [*pages, *styles] if (m := asks.search(p.read_text()))} == {}


def test_every_instrument_has_a_page_with_equation_or_question_cost_and_when_it_misleads(site):
    for facts in in_shell():
        name = facts.name
        page = (site / f"instruments/{name.replace('_', '-')}.html").read_text()
        assert facts.cost in page
        assert 'id="when-it-misleads"' in page
        warned = page.partition('id="when-it-misleads"')[2].partition('id="in-full"')[0]
        assert warned.count("<li>") >= 3
        assert f"theodolite measure {name}" in page
        assert 'class="doc doc-heading"' in page
        documented = getattr(measure, name).__doc__
        assert ("<math" in page) == (":math:" in documented or "math::" in documented)


def test_equations_became_mathematics_everywhere(site):
    for page in site.rglob("*.html"):
        text = page.read_text()
        assert "arithmatex" not in text
        shown = re.sub(r"<(pre|code)\b.*?</\1>", "", text, flags=re.DOTALL)
        left = re.findall(r"\\(?:lVert|frac|sum|mathrm|theta|alpha|text)\b|\.\. math::|:func:|:class:", shown)
        assert not left, page


def test_what_stands_beside_a_field_is_on_its_page(site):
    page = (site / "instruments/sensitivity.html").read_text()
    assert "of the samples&#39; own norms; NaN if not measured per sample" in page.replace("'", "&#39;")


def test_every_command_and_option_has_help():
    for name, command in COMMANDS.items():
        assert command.help, f"{name} says nothing"
        for parameter in command.params:
            assert parameter.help, f"{name} {parameter.name} says nothing"


def test_every_command_and_option_is_in_the_reference(site):
    page = (site / "reference/command-line.html").read_text()
    for name, command in COMMANDS.items():
        title = "theodolite" if name == "theodolite" else f"theodolite {name}"
        section = page.partition(f">{title}<a")[2].partition("<h2")[0]
        for parameter in command.params:
            for option in parameter.opts:
                shown = parameter.name.upper() if parameter.param_type_name == "argument" else option
                assert f"<code>{shown}</code>" in section, (name, option)


def test_the_notebooks_ran_and_show_what_they_found(site):
    own = (site / "notebooks/a-model-of-your-own.html").read_text()
    assert own.count("data:image/svg+xml") == 3
    assert "<caption>Eigenpairs</caption>" in own
    survey = (site / "notebooks/the-numbers-of-a-survey.html").read_text()
    assert "falls-with-loss" in survey
    assert survey.count("data:image/svg+xml") == 1


def test_every_study_and_decision_is_in_the_navigation(site):
    start = (site / "index.html").read_text()
    for folder in ("studies", "decisions", "instruments", "notebooks"):
        for path in (ROOT / "docs" / folder).iterdir():
            assert f'href="{folder}/{path.stem}.html"' in start


def test_a_page_that_is_opened_as_a_file_is_searched_without_asking_anyone(site):
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs Playwright: pip install -e '.[dev]'")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("needs Chromium: apt-get install chromium")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium, args=["--headless", "--no-sandbox", "--disable-gpu"]
        )
        page, asked, wrong = browser.new_page(viewport={"width": 1300, "height": 800}), [], []
        page.on("request", lambda request: asked.append(request.url))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.goto((site / "instruments" / "sharpness.html").as_uri())
        page.locator("input.md-search__input").click()
        page.locator("input.md-search__input").press_sequentially("certified critical points")
        first = page.locator(".md-search-result__link").first
        first.wait_for()
        assert first.get_attribute("href").partition("?")[0] == (site / "critical-points.html").as_uri()
        browser.close()
    assert wrong == []
    assert [url for url in asked if not url.startswith("file:")] == []
