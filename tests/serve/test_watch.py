"""What is worked out for the live page, when, and how often."""

import json
import shutil
import threading

import pytest

import tiny as survey_of
from theodolite.serve.watch import EVERY, Watch
from theodolite.store import live, lock, records


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return Clock()


def state(watch):
    return json.loads(watch.state())


def test_fifty_onlookers_cost_as_much_as_one_and_none_costs_nothing(directory, clock):
    watch = Watch(directory, [], clock)
    clock.now += 1000
    assert watch.looks == 0
    threads = [threading.Thread(target=watch.state) for _ in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert watch.looks == 1
    clock.now += EVERY
    watch.state()
    assert watch.looks == 2


def test_a_survey_is_seen_from_its_first_plan_to_its_last_verdict(directory, clock):
    kept = directory.parent / "kept"
    shutil.move(directory / "tiny" / "runs", kept)
    watch = Watch(directory, [], clock)
    begun = state(watch)
    assert (begun["studies"][0]["done"], begun["studies"][0]["left"]) == (2, 4)
    assert begun["verdicts"] == [] or begun["verdicts"][0]["seeds"] == "0"
    shutil.move(kept, directory / "tiny" / "runs")
    clock.now += 60
    state(watch)  # sees that records were finished, and has the report made
    watch.wait()
    clock.now += EVERY
    ended = state(watch)
    assert (ended["studies"][0]["done"], ended["studies"][0]["left"]) == (6, 0)
    assert [(v["row"], v["seeds"]) for v in ended["verdicts"]] == [("tiny-learns", "2")]
    assert ended["page"] != begun["page"]


def test_a_page_opened_while_records_grow_is_never_half_made(directory, clock):
    kept = directory.parent / "kept"
    shutil.move(directory / "tiny" / "runs", kept)
    watch = Watch(directory, [], clock)
    shutil.move(kept, directory / "tiny" / "runs")
    making = threading.Thread(target=watch.make)
    making.start()
    seen = []
    while making.is_alive():
        seen.append(watch.page())
        making.join(0.001)
    seen.append(watch.page())
    assert len(seen) > 2
    assert len(set(seen)) == 2  # what was there before, and then the new one
    assert all(page.startswith(b"<!doctype html>") and page.endswith(b"</html>\n") for page in seen)


def test_the_report_is_made_again_only_where_more_is_finished(directory, clock, monkeypatch):
    watch = Watch(directory, [], clock)
    made = []
    monkeypatch.setattr(watch, "make", lambda: made.append(1))
    for _ in range(5):
        clock.now += 100
        watch.state()
    assert made == []
    shutil.rmtree(min((directory / "tiny" / "runs").iterdir()))
    clock.now += 100
    watch.state()
    watch.wait()
    assert made == [1]


def test_a_damaged_record_is_named_and_the_last_good_page_stays(directory, clock):
    watch = Watch(directory, [], clock)
    before = watch.page()
    victim = min(directory.glob("tiny/runs/*/metrics.parquet"))
    victim.write_bytes(b"no")
    watch.make()
    assert str(victim) in state(watch)["problem"]
    assert watch.page() == before


def test_a_damaged_plan_is_named(directory, clock):
    watch = Watch(directory, [], clock)
    (directory / "tiny" / "plan.json").write_text("{}")
    clock.now += 100
    assert "plan.json cannot be read" in state(watch)["problem"]


def test_a_folder_without_a_finished_run_has_a_page(directory, clock):
    shutil.rmtree(directory / "tiny" / "runs")
    shutil.rmtree(directory / "tiny" / "analyses")
    watch = Watch(directory, [], clock)
    assert b"<h1" in watch.page()
    assert state(watch)["problem"] == ""
    assert state(watch)["studies"][0]["left"] == 6


def test_curves_grow_with_the_training_and_are_gone_with_it(directory, clock, monkeypatch):
    monkeypatch.setattr(live, "EVERY", 0.0)
    watch = Watch(directory, [], clock)
    seen = []
    write = live.files.write

    def look(path, content):
        write(path, content)
        if path.parent.name == "live":
            clock.now += EVERY
            seen.append(state(watch)["studies"][0])

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
    watch = Watch(directory, [], clock)
    assert state(watch)["studies"][0]["curves"] == []
    with lock.hold(directory):
        clock.now += EVERY
        (curve,) = state(watch)["studies"][0]["curves"]
        assert curve == {"label": "model small, seed 0", "epoch": [0], "train": [1.0], "test": [None]}
    live.clear(directory)
    assert live.read(directory, "tiny") == {}


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
