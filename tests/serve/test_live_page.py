"""What is worked out for the live page, when, and how often."""

import json
import math
import secrets
import shutil
import threading
from itertools import pairwise

import pytest
import torch

import tiny as survey_of
from theodolite import survey
from theodolite.record import Recorder
from theodolite.serve.live_page import LivePage
from theodolite.serve.pace import EVERY, MOST, SHARE
from theodolite.serve.paid import Paid
from theodolite.serve.report import IDLE
from theodolite.store import files, live, lock, records


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def used():
    """Processor seconds."""
    return Clock()


def finish_again(directory, number=0):
    """A record whose files changed, as far as its status says."""
    folder = sorted((directory / "tiny" / "runs").iterdir())[number]
    status = records.read_status(folder)
    changed = status.model_copy(update={"files": {**status.files, "more.csv": secrets.token_hex(4)}})
    files.write(folder / records.STATUS, changed.sealed())


def state(live_page):
    return json.loads(live_page.state())


def test_fifty_onlookers_cost_as_much_as_one_and_none_costs_nothing(directory, clock):
    live_page = LivePage(directory, [], clock)
    clock.now += 1000
    assert live_page.looks == 0
    threads = [threading.Thread(target=live_page.state) for _ in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert live_page.looks == 1
    clock.now += EVERY
    live_page.state()
    assert live_page.looks == 2


def test_a_survey_is_seen_from_its_first_plan_to_its_last_verdict(directory, clock):
    kept = directory.parent / "kept"
    shutil.move(directory / "tiny" / "runs", kept)
    live_page = LivePage(directory, [], clock)
    begun = state(live_page)
    assert (begun["studies"][0]["done"], begun["studies"][0]["left"]) == (2, 4)
    assert begun["verdicts"] == [] or begun["verdicts"][0]["seeds"] == "0"
    shutil.move(kept, directory / "tiny" / "runs")
    clock.now += 60
    state(live_page)  # sees that records were finished, and has the report made
    live_page.report.wait()
    clock.now += EVERY
    ended = state(live_page)
    assert (ended["studies"][0]["done"], ended["studies"][0]["left"]) == (6, 0)
    assert [(v["row"], v["seeds"]) for v in ended["verdicts"]] == [("tiny-learns", "2")]
    assert ended["page"] != begun["page"]


def test_a_page_opened_while_records_grow_is_never_half_made(directory, clock):
    kept = directory.parent / "kept"
    shutil.move(directory / "tiny" / "runs", kept)
    live_page = LivePage(directory, [], clock)
    shutil.move(kept, directory / "tiny" / "runs")
    making = threading.Thread(target=live_page.report.make, args=(live_page.folder.look(),))
    making.start()
    seen = []
    while making.is_alive():
        seen.append(live_page.page())
        making.join(0.001)
    seen.append(live_page.page())
    assert len(seen) > 2
    assert len(set(seen)) == 2  # what was there before, and then the new one
    assert all(page.startswith(b"<!doctype html>") and page.endswith(b"</html>\n") for page in seen)


def test_the_report_is_made_again_only_where_more_is_finished(directory, clock, monkeypatch):
    live_page = LivePage(directory, [], clock)
    made = []
    monkeypatch.setattr(live_page.report, "make", lambda seen: made.append(1))
    for _ in range(5):
        clock.now += 100
        live_page.state()
    assert made == []
    shutil.rmtree(min((directory / "tiny" / "runs").iterdir()))
    clock.now += 100
    live_page.state()
    live_page.report.wait()
    assert made == [1]


def test_a_damaged_record_is_named_and_the_last_good_page_stays(directory, clock):
    live_page = LivePage(directory, [], clock)
    before = live_page.page()
    victim = min(directory.glob("tiny/runs/*/metrics.parquet"))
    victim.write_bytes(b"no")
    live_page.report.make(live_page.folder.look())
    assert str(victim) in state(live_page)["problem"]
    assert live_page.page() == before


def test_a_damaged_plan_is_named(directory, clock):
    live_page = LivePage(directory, [], clock)
    (directory / "tiny" / "plan.json").write_text("{}")
    clock.now += 100
    assert "plan.json cannot be read" in state(live_page)["problem"]


def test_a_folder_without_a_finished_run_has_a_page(directory, clock):
    shutil.rmtree(directory / "tiny" / "runs")
    shutil.rmtree(directory / "tiny" / "analyses")
    live_page = LivePage(directory, [], clock)
    assert b"<h1" in live_page.page()
    assert state(live_page)["problem"] == ""
    assert state(live_page)["studies"][0]["left"] == 6


def test_curves_grow_with_the_training_and_are_gone_with_it(directory, clock, used, monkeypatch):
    monkeypatch.setattr(live, "EVERY", 0.0)
    live_page = LivePage(directory, [], clock, used)  # the training takes its time in this process
    seen = []
    write = live.files.write

    def look(path, content):
        write(path, content)
        if path.parent.name == "live":
            clock.now += EVERY
            seen.append(state(live_page)["studies"][0])

    monkeypatch.setattr(live.files, "write", look)
    shutil.rmtree(directory / "tiny" / "runs")
    survey_of.run(directory)
    lengths = [len(curve["epoch"]) for study in seen for curve in study["curves"]]
    assert min(lengths) == 1
    assert max(lengths) == 10
    last = seen[-1]["curves"][0]
    assert last["epoch"] == list(range(10))
    assert last["label"].startswith("model ")
    found = records.read(directory, "tiny").table("metrics")
    assert any(last["train"] == part["train_loss"].tolist() for _, part in found.groupby("fingerprint"))
    assert list((directory / "tiny").glob("live/*")) == []


def test_curves_that_nobody_holds_are_not_shown(directory, clock):
    spec = next(survey_of.expand(survey_of.STUDY.presets["smoke"]))
    records.write_start(directory, spec)
    job = live.Live(directory, "tiny", [spec.fingerprint()])
    job.next = 0.0
    job({0: [(0, 0, 1.0, float("inf"), float("nan"), float("nan"))]})
    live_page = LivePage(directory, [], clock)
    assert state(live_page)["studies"][0]["curves"] == []
    with lock.hold(directory):
        clock.now += EVERY
        (curve,) = state(live_page)["studies"][0]["curves"]
        assert curve == {"label": "model small, seed 0", "epoch": [0], "train": [1.0], "test": [None]}
    live.clear(directory)
    assert live.read(directory, "tiny") == {}


def test_a_job_of_a_thousand_runs_shows_the_curves_of_its_first(directory, clock, used):
    specs = list(survey_of.expand(survey_of.STUDY.presets["smoke"].model_copy(update={"seeds": 500})))
    names = [spec.fingerprint() for spec in specs]
    plan = records.read_plan(directory, "tiny").model_copy(update={"runs": tuple(map(records.Planned.of, specs))})
    records.write_plan(directory, plan)
    for spec in specs:
        records.write_start(directory, spec)
    job = live.Live(directory, "tiny", names)
    job.next = 0.0
    job({number: [(0, 0, 1.0, 1.0, 0.0, 0.0)] for number in range(len(names))})
    assert list(live.read(directory, "tiny")) == names[: live.DRAWN]
    with lock.hold(directory):
        study = state(LivePage(directory, [], clock, used))["studies"][0]
    assert study["running"] == 1000
    assert len(study["curves"]) == live.DRAWN
    assert study["more_curves"] == 1000 - live.DRAWN


def test_while_a_training_runs_looks_and_answers_keep_to_their_share(directory, clock, used):
    live_page = LivePage(directory, [], clock, used)
    began, at_first, waited = clock.now, used.now, []
    with lock.hold(directory):
        for pages, seconds in ((1, 100), (50, 2000), (400, 4000)):
            until = clock.now + seconds
            while clock.now < until:
                every = state(live_page)["every"]
                used.now += 0.004 + 0.0006 * pages  # this look, and each page's answer once
                clock.now += every
            waited.append(every)
    assert waited == [EVERY, math.ceil(0.034 / SHARE), MOST]
    spent_at_most = 100 * 0.0046 / EVERY + 2000 * SHARE + 4000 * 0.244 / MOST
    assert used.now - at_first <= spent_at_most + 0.034 + 0.244
    clock.now += MOST
    assert state(live_page)["every"] == EVERY  # the training has ended
    assert clock.now - began > 6000


@pytest.fixture
def made(clock, used, monkeypatch):
    """When pages were made, or verdicts alone, and what that takes of the processor."""
    times = {"findings": [], "verdicts": []}

    def taking(name, seconds, real):
        def make(directory):
            times[name].append(clock.now)
            used.now += seconds
            return real(directory)

        monkeypatch.setattr(survey, name, make)

    taking("findings", 2.0, survey.findings)
    taking("verdicts", 0.25, survey.verdicts)
    return times


def test_while_a_training_runs_waiting_pays_for_pages_and_verdicts_and_when_it_ends_both_come_at_once(
    directory, clock, used, made
):
    live_page = LivePage(directory, [], clock, used)
    began, pages, verdicts = clock.now, made["findings"], made["verdicts"]
    page, alone = 2.0 / SHARE, 0.25 / SHARE
    with lock.hold(directory):
        while clock.now < began + 2.5 * page:
            clock.now += state(live_page)["every"]
            live_page.report.wait()
            finish_again(directory)
        assert len(pages) == 1 + 2
        assert min(after - before for before, after in pairwise(pages)) >= page
        assert 2.5 * page / alone * 0.8 < len(verdicts) <= 2.5 * page / alone
        assert min(after - before for before, after in pairwise(verdicts)) >= alone
        clock.now += EVERY
    assert state(live_page)["running"] is False
    live_page.report.wait()
    assert pages[-1] == clock.now
    counts = len(pages), len(verdicts)
    for _ in range(10):
        clock.now += EVERY
        state(live_page)
    assert (len(pages), len(verdicts)) == counts


def test_verdicts_firm_up_while_a_training_runs_and_figures_wait(directory, clock, used):
    kept = directory.parent / "kept"
    shutil.move(directory / "tiny" / "runs", kept)
    live_page = LivePage(directory, [], clock, used)
    before = live_page.page()
    shutil.move(kept, directory / "tiny" / "runs")
    with lock.hold(directory):
        clock.now += 1.01 * (0.1 + 6 * 0.001) / SHARE
        state(live_page)
        live_page.report.wait()
        clock.now += MOST
        assert [verdict["seeds"] for verdict in state(live_page)["verdicts"]] == ["2"]
        assert live_page.page() is before


def test_where_nothing_runs_a_page_is_soon_made(directory, clock, used, made):
    live_page = LivePage(directory, [], clock, used)
    for number in range(3):
        finish_again(directory, number)
        clock.now += 1.01 * 2.0 / IDLE
        state(live_page)
        live_page.report.wait()
    assert (len(made["findings"]), len(made["verdicts"])) == (4, 0)


def test_waiting_is_for_what_the_records_cost_where_that_is_more_than_the_last_time():
    work = Paid(study=1.0, record=0.01)
    work.did(1000.0, cost=3.0, changes=5)
    grown = {"share": 0.01, "changes": 6, "studies": 2, "records": 300}
    assert [work.is_due(now, **grown) for now in (1000.0 + 499.0, 1000.0 + 500.0)] == [False, True]
    fewer = grown | {"records": 20}
    assert [work.is_due(now, **fewer) for now in (1000.0 + 299.0, 1000.0 + 300.0)] == [False, True]
    assert not work.is_due(9999.0, **(grown | {"changes": 5}))


def test_a_recording_under_way_is_a_training_and_a_killed_one_is_not(directory, clock, used, made):
    model, loss = torch.nn.Linear(2, 1), torch.nn.MSELoss()
    recorder = Recorder(["gradient_norm"], every=1, out=directory)
    recorder.step(model, loss, (torch.zeros(4, 2), torch.ones(4, 1)))
    live_page = LivePage(directory, [], clock, used)

    def seen():
        found = {study["name"]: study["running"] for study in state(live_page)["studies"]}
        live_page.report.wait()
        return found["recorder"], len(made["findings"])

    assert seen() == (1, 1)
    recorder._log.flush()
    clock.now += 2.0 / IDLE + EVERY
    assert seen() == (1, 1)
    clock.now += 2.0 / SHARE
    assert seen() == (1, 2)
    recorder._log.flush()
    recorder._log._held.close()  # as when its process is killed
    clock.now += EVERY
    assert seen() == (0, 3)


def test_long_curves_are_thinned_and_keep_both_ends(tmp_path):
    job = live.Live(tmp_path, "tiny", ["0" * 16])
    job.next = 0.0
    job({0: [(epoch, epoch, 1.0, 1.0, 0.0, 0.0) for epoch in range(5001)]})
    epochs, _, _ = live.read(tmp_path, "tiny")["0" * 16]
    assert (epochs[0], epochs[-1]) == (0, 5000)
    assert len(epochs) <= live.POINTS + 1


@pytest.mark.parametrize("content", [b"", b"[", b'{"curves": {"../x": [[], [], []]}}', b'{"curves": {}}' * 2])
def test_a_live_file_that_is_none_is_left_out(tmp_path, content):
    (tmp_path / "tiny" / "live").mkdir(parents=True)
    (tmp_path / "tiny" / "live" / "x.json").write_bytes(content)
    assert live.read(tmp_path, "tiny") == {}


def test_a_disk_that_is_full_costs_only_the_curves(tmp_path, monkeypatch):
    from theodolite.errors import StoreError

    def full(path, content):
        raise StoreError("the disk is full")

    monkeypatch.setattr(live.files, "write", full)
    job = live.Live(tmp_path, "tiny", ["0" * 16])
    job.next = 0.0
    job({0: [(0, 0, 1.0, 1.0, 0.0, 0.0)]})
    job.close()
    assert list(tmp_path.iterdir()) == []
