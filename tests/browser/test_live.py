"""The live page in a real browser, while a survey goes on under it."""

import shutil
import threading
from contextlib import contextmanager

import pytest
import torch
from axe_playwright_python.base import AXE_FILE_PATH

import theodolite as th
import tiny as survey_of
from theodolite.serve import Server
from theodolite.store import live, lock, records
from tiny import tiny

__all__ = ["tiny"]
HOSTILE = """</script><script>alert(1)</script><img src=x onerror="alert(2)">"""


@pytest.fixture
def directory(tiny, tmp_path):
    survey_of.run(tmp_path / "results")
    return tmp_path / "results"


@contextmanager
def serving(directory):
    with pytest.MonkeyPatch.context() as patch, Server(directory) as server:
        patch.setattr("theodolite.serve.paid.LEAST", 0.0)
        patch.setattr("theodolite.serve.pace.MOST", 2.0)  # the training and this test take their time in this process
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def served(directory):
    with serving(directory) as server:
        yield server


@pytest.fixture
def look(browser):
    """Open the live page in a window of its own; what it says and asks for is kept."""
    contexts = []

    def open_(server, width=1024, scheme="light"):
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        context.set_default_timeout(60_000)
        contexts.append(context)
        page = context.new_page()
        page.said, page.asked = [], []
        page.on("console", lambda message: page.said.append(message.text))
        page.on("pageerror", lambda error: page.said.append(str(error)))
        page.on("dialog", lambda dialog: (page.said.append(dialog.message), dialog.dismiss()))
        page.on("request", lambda request: page.asked.append(request.url))
        page.goto(server.address)
        return page

    yield open_
    for context in contexts:
        context.close()


def under_way(directory, name="model small"):
    """A run with a curve so far, as its worker leaves it."""
    spec = next(survey_of.expand(survey_of.STUDY.presets["smoke"]))
    shutil.rmtree(records.folder_of(directory, spec))
    records.write_start(directory, spec)
    job = live.Live(directory, "tiny", [spec.fingerprint()])
    job.next = 0.0
    job({0: [(epoch, epoch, 1.0 / (1 + epoch), 2.0 / (1 + epoch), 0.0, 0.0) for epoch in range(30)]})
    return spec


def test_the_page_follows_a_survey_from_running_to_done(look, directory):
    under_way(directory)  # first, so that the page that is served lacks this run until the end
    with serving(directory) as served:
        with lock.hold(directory):
            page = look(served)
            page.get_by_text("A survey is running: 5 of 6 runs done, 1 running, 0 failed, 0 left.").wait_for()
            picture = page.locator("#live figure svg")
            assert (
                "Loss of 1 run of A tiny study so far, between 0.0333 and 2, up to epoch 29"
                in picture.get_attribute("aria-label")
            )
            box = picture.locator("path.train").bounding_box()
            assert box["width"] > 200
            assert box["height"] > 50
            assert page.locator("#live progress").get_attribute("value") == "5"
        survey_of.run(directory)
        page.get_by_text("No survey is running: 6 of 6 runs done, 0 running, 0 failed, 0 left.").wait_for()
        assert page.locator("#live figure").count() == 0
        page.get_by_role("button", name="Show the newest figures and tables").click()
        page.get_by_text("No survey is running: 6 of 6").wait_for()
        assert page.get_by_role("button", name="Show the newest figures and tables").is_hidden()
        assert page.said == []
        assert {url.removeprefix(served.address) for url in page.asked} == {"", "live.json"}


def test_verdicts_firm_up_in_the_table_and_beside_the_claim(look, served, directory):
    page = look(served)
    page.locator("#verdicts summary").click()
    row = page.locator("table.verdicts tbody tr")
    row.get_by_text("? undecided").wait_for()
    verdict = served.live.report.verdicts[0]
    served.live.report.verdicts = [verdict.model_copy(update={"verdict": "holds", "verdict_holm": "holds", "seeds": 9})]
    row.get_by_text("✓ holds").wait_for()
    assert row.locator("td").nth(3).inner_text() == "9"
    assert page.locator("#tiny-learns .verdict.holds").inner_text() == "✓ holds"
    assert page.locator(".forest li").get_attribute("data-verdict") == "holds"
    assert page.locator(".forest .verdict").inner_text().startswith("✓")


def test_markup_in_an_error_or_a_title_is_shown_as_text(look, directory, monkeypatch):
    from dataclasses import replace

    from theodolite import studies

    monkeypatch.setattr(studies, "INDEX", {"tiny": replace(survey_of.STUDY, title=f"A study {HOSTILE}")})
    records.write_failure(directory, next(survey_of.expand(survey_of.STUDY.presets["smoke"])), f"It fell {HOSTILE}")
    with serving(directory) as served:
        page = look(served)
        page.locator("#live .errors li").wait_for()
        assert f"It fell {HOSTILE}" in page.locator("#live .errors li").inner_text()
        assert f"A study {HOSTILE}" in page.locator("#live tbody th").inner_text()
        assert page.locator("#live img, #live script").count() == 0
        assert page.said == []


def test_a_hidden_page_asks_for_nothing_and_a_stopped_server_is_said(look, served, directory):
    page = look(served)
    page.get_by_text("No survey is running").wait_for()
    page.evaluate("Object.defineProperty(document, 'hidden', { get: () => true, configurable: true })")
    page.wait_for_timeout(2500)
    asked = len(page.asked)
    page.wait_for_timeout(2500)
    assert len(page.asked) == asked
    page.route("**/live.json", lambda route: route.abort())
    page.evaluate("""delete document.hidden; document.dispatchEvent(new Event('visibilitychange'))""")
    page.get_by_text("The server does not answer").wait_for()


@pytest.mark.sampled(2)
@pytest.mark.parametrize(("width", "scheme"), [(390, "light"), (1024, "dark"), (1920, "light")])
def test_the_live_part_fits_and_has_no_serious_accessibility_fault(look, served, directory, width, scheme):
    under_way(directory)
    with lock.hold(directory):
        page = look(served, width, scheme)
        page.locator("#live figure svg").wait_for()
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        page.evaluate(AXE_FILE_PATH.read_text())  # through the debugger, which the page's policy does not bind
        found = page.evaluate("() => axe.run('#live')")["violations"]
    assert [fault["id"] for fault in found if fault["impact"] in ("serious", "critical")] == []


def test_recordings_under_way_are_said_to_be(look, tmp_path):
    made = [th.Recorder({"one": lambda *_: 1.0}, every=1, out=tmp_path / "own", seed=seed) for seed in range(2)]
    for recorder in made:
        recorder.step(torch.nn.Linear(2, 1), torch.nn.MSELoss(), (torch.eye(2), torch.ones(2, 1)))
    with serving(tmp_path / "own") as served:
        page = look(served)
        page.get_by_text("2 recordings are running: 0 of 2 runs done, 2 running").wait_for()
        made[0].close()
        page.get_by_text("1 recording is running: 1 of 2 runs done, 1 running").wait_for()
        made[1].close()
        page.get_by_text("No survey is running: 2 of 2 runs done").wait_for()
