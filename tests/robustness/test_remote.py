"""Results on a real S3 server: what is promised of a folder holds there too, whatever befalls server or driver.

A machine is a cache folder: ``away`` is another one. A run that is trained again takes another time, which its
``spec.json`` holds: so objects that are the same byte by byte were not made again.
"""

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import tiny as survey_of
from commands import called
from s3 import BUCKET, SECRET, Server, address, content, server
from theodolite import runs, survey
from theodolite.errors import NotWritable, RecordCorrupt, StoreError, VersionMismatch
from theodolite.jobs import plan, plan_analyses
from theodolite.store import files, records
from theodolite.store.remote import lease, objects
from theodolite.store.remote import sync as exchange
from theodolite.store.remote import workspace as remote
from theodolite.store.remote.objects import connect

__all__ = ["address", "server"]

pytestmark = pytest.mark.usefixtures("tiny")


def run(place: str) -> dict[str, str]:
    """The survey of the tiny study with its results there, from the start or going on; what a reader of it sees."""
    with remote.working(place) as copy:
        survey_of.run(copy)
        return survey_of.seen(copy.directory)


def seen(place: str) -> dict[str, str]:
    with remote.reading(place, remote.tables) as copy:
        return survey_of.seen(copy.directory)


def status(place: str) -> dict[str, object]:
    with remote.reading(place, remote.states) as copy:
        return survey.status(copy.directory)[0]


def away(monkeypatch: pytest.MonkeyPatch, name: str = "another machine") -> None:
    monkeypatch.setenv("THEODOLITE_CACHE", str(Path(remote.root()).parent / name))


def wait_until(action: Callable[[], bool]) -> None:
    """For what happens in its own time, on a machine that may be busy."""
    deadline = time.monotonic() + 30
    while not action():
        assert time.monotonic() < deadline, "it never came to that"
        time.sleep(0.05)


def counts(row: dict[str, object]) -> tuple[object, ...]:
    return row["done"], row["running"], row["left"]


def copies() -> list[Path]:
    """What is kept on this machine of addresses, beside the name and lock of each."""
    return list(remote.root().glob("remote/*/results/*/*/*/*"))


def records_of(found: dict[str, bytes]) -> dict[str, bytes]:
    return {key: value for key, value in found.items() if exchange.RECORD.fullmatch(key)}


@pytest.fixture(scope="module")
def finished(server: Server) -> tuple[str, dict[str, bytes]]:
    """A finished survey at an address, and all its objects."""
    place = f"s3://{BUCKET}/finished"
    with survey_of.alone(), pytest.MonkeyPatch.context() as patch:
        patch.setenv("THEODOLITE_CACHE", str(server.folder.parent / "cache"))
        run(place)
    return place, content(place)


@pytest.fixture
def again(finished: tuple[str, dict[str, bytes]], address: str) -> tuple[str, dict[str, bytes]]:
    """The same at an address of this test's own, seen from a machine without a copy."""
    for key, value in finished[1].items():
        connect(address).put(key, value)
    return address, finished[1]


def test_results_at_an_address_are_those_in_a_folder_byte_for_byte(whole, finished):
    place, found = finished
    assert seen(place) == whole[1]
    folder = {p.relative_to(whole[0]).as_posix(): p.read_bytes() for p in whole[0].rglob("*") if p.is_file()}
    assert set(found) == {key for key in folder if not key.endswith(".lock")}
    exact = [key for key in found if key.endswith((".parquet", ".safetensors", "theodolite.json"))]
    assert len(exact) > 15
    assert {key: found[key] for key in exact} == {key: folder[key] for key in exact}
    assert status(place) == survey.status(whole[0])[0]
    assert not any(SECRET.encode() in value for value in found.values())


def test_the_same_command_on_another_machine_trains_nothing_twice(whole, again, monkeypatch):
    place, before = again
    assert run(place) == whole[1]
    away(monkeypatch)
    assert run(place) == whole[1]
    assert content(place) == before
    assert copies() == []


@pytest.mark.parametrize(("kind", "damage"), [("runs", "cut"), ("analyses", "removed"), ("runs", "another's")])
def test_a_record_that_is_damaged_at_the_address_is_redone_and_nothing_else(whole, again, kind, damage):
    place, before = again
    found = connect(place)
    keys = [key for key in before if f"/{kind}/" in key]
    folder = keys[0].rpartition("/")[0]
    for key in [key for key in keys if key.startswith(folder)][-3 if damage == "another's" else 0 :]:
        if damage == "removed":
            found.delete(key)
        elif damage == "cut":
            found.put(key, before[key][: len(before[key]) // 2])
        else:
            name = key.rpartition("/")[2]
            found.put(key, next(before[k] for k in keys if not k.startswith(folder) and k.endswith(name)))
        said = outcome_of(lambda: seen(place))
        assert not said or f"{place}/{key}" in said, said
        assert run(place) == whole[1]
        after = content(place)
        assert outside(after, folder) == outside(before, folder)
        assert all(files.checksum(after[f"{folder}/{name}"]) == sum_ for name, sum_ in status_of(after, folder).items())
        before = after


def outside(found: dict[str, bytes], folder: str) -> dict[str, bytes]:
    return {key: value for key, value in found.items() if not key.startswith(folder)}


def status_of(found: dict[str, bytes], folder: str) -> dict[str, str]:
    """The checksums that a finished record has of its files."""
    sealed = records.parse_status(found[f"{folder}/status.json"], Path(folder))
    assert sealed is not None
    assert sealed.state == "done"
    return sealed.files


def outcome_of(action) -> str:
    """What an action says that cannot be done; any other error is a fault of ours."""
    try:
        action()
    except StoreError as error:
        return str(error)
    return ""


def test_a_damaged_plan_is_named_by_readers_and_restored_by_the_same_command(whole, again):
    place, before = again
    connect(place).put("tiny/plan.json", before["tiny/plan.json"][:100])
    with pytest.raises(RecordCorrupt, match=f"{place}/tiny/plan.json"):
        seen(place)
    assert run(place) == whole[1]
    assert records_of(content(place)) == records_of(before)


@pytest.mark.parametrize(
    ("mark", "error", "said"),
    [
        (b'{"format": 1}', VersionMismatch, "expected a results folder of format 2, but PLACE has format 1"),
        (b'{"for', RecordCorrupt, "PLACE/theodolite.json cannot be read"),
        (None, StoreError, "but PLACE holds other objects and no theodolite.json"),
    ],
)
def test_an_address_that_holds_something_else_is_refused_and_left_alone(again, mark, error, said):
    place, before = again
    if mark is None:
        connect(place).delete("theodolite.json")
        before = {key: value for key, value in before.items() if key != "theodolite.json"}
        with pytest.raises(StoreError, match=f"expected a results folder, but {place} has no theodolite.json"):
            seen(place)
    else:
        connect(place).put("theodolite.json", mark)
        before = {**before, "theodolite.json": mark}
    with pytest.raises(error, match=said.replace("PLACE", place)):
        run(place)
    assert content(place) == before


@pytest.mark.parametrize("trouble", ["down", "overloaded"])
def test_a_server_that_fails_for_a_while_delays_a_survey_and_costs_nothing(
    whole, server, address, monkeypatch, trouble
):
    monkeypatch.setattr(objects, "PAUSES", (0.05, 0.2))
    starts, failed, write_start = [], [], records.write_start
    monkeypatch.setattr(
        records, "write_start", lambda d, spec: (starts.append(spec.fingerprint()), write_start(d, spec))
    )

    def fail() -> None:
        with getattr(server, trouble)():
            failed.append(outcome_of(lambda: connect(address).put("x", b"1")))
            time.sleep(0.5)

    with remote.working(address) as copy:
        for number, _ in enumerate(survey.run(survey.prepare(["tiny"], "smoke"), copy, workers=1)):
            if number == 3:
                thread = threading.Thread(target=fail)
                thread.start()
                while thread.is_alive() and not failed:
                    time.sleep(0.01)
        thread.join()
    assert "cannot be written" in failed[0]
    assert len(starts) == len(set(starts)) == 6
    assert seen(address) == whole[1]
    assert copies() == []


def test_a_server_that_stays_away_ends_the_survey_and_the_next_one_brings_up_what_was_trained(
    whole, server, address, monkeypatch
):
    write = records.write

    def write_and_lose_the_server(*arguments: object, **named: object) -> None:
        write(*arguments, **named)
        server.stop()

    try:
        with monkeypatch.context() as patch:
            patch.setattr(objects, "PAUSES", (0.05, 0.1))
            patch.setattr(objects, "PATIENCE", 0.3)
            patch.setattr(records, "write", write_and_lose_the_server)
            with pytest.raises(StoreError, match=f"{address}/tiny/runs/.* cannot be written: it does not answer"):
                run(address)
        (folder,) = [path.parent for path in copies() if path.name == "metrics.parquet"]
        trained = {"/".join(path.parts[-4:]): path.read_bytes() for path in folder.iterdir()}
        assert outcome_of(lambda: run(address)).startswith(f"{address} cannot be listed: it does not answer")
    finally:
        server.stop()
        server.start()
    assert len(trained) == 6
    assert not any(key.endswith(".parquet") for key in content(address))
    assert run(address) == whole[1]
    assert {key: content(address)[key] for key in trained} == trained
    assert copies() == []


def stopped(place: str, at: int, action: Callable[[remote.Copy], None] | None = None) -> None:
    """A survey that goes so far, and then no further; or after something has happened."""
    with remote.working(place) as copy:
        for number, _ in enumerate(survey.run(survey.prepare(["tiny"], "smoke"), copy, workers=1)):
            if number == at and action is None:
                raise KeyboardInterrupt
            if number == at:
                action(copy)


def test_a_driver_that_vanished_is_followed_by_one_on_another_machine(whole, address, monkeypatch):
    monkeypatch.setattr(lease, "EXPIRY", 0.5)
    with monkeypatch.context() as patch:
        patch.setattr(lease.Lease, "release", lambda self: self._stop.set())  # killed: nobody takes its claim away
        with pytest.raises(KeyboardInterrupt):
            stopped(address, 5)
    before = records_of(content(address))
    done = [
        key for key, value in before.items() if key.endswith("status.json") and json.loads(value)["state"] == "done"
    ]
    assert 0 < len(done) < 6
    assert len(lease.beats(connect(address))) == 1
    away(monkeypatch)
    assert run(address) == whole[1]
    after = content(address)
    assert all(after[key] == value for key, value in before.items() if key.rpartition("/")[0] + "/status.json" in done)
    assert not any(key.startswith(lease.FOLDER) for key in after)


def test_two_surveys_at_once_are_refused_on_one_machine_and_on_two(address, monkeypatch):
    monkeypatch.setattr(lease, "BEAT", 0.1)
    with remote.working(address) as copy:
        assert f"another survey is writing into {address}. Wait" in outcome_of(lambda: run(address))
        with monkeypatch.context() as patch:
            away(patch)
            said = outcome_of(lambda: run(address))
        assert f"is writing into {address}. Wait for it, stop it" in said
        assert "on another machine" not in said
        survey_of.run(copy)
    assert status(address)["done"] == 6


def test_a_survey_that_was_taken_over_stops_and_says_so(address, monkeypatch):
    monkeypatch.setattr(lease, "BEAT", 0.05)

    def come(copy: remote.Copy) -> None:
        claim = lease.SignOfLife(state="holding", beat=1, machine="another")
        connect(address).put(f"{lease.FOLDER}another.json", claim.model_dump_json().encode())
        wait_until(lambda: bool(copy.held.lost))

    with pytest.raises(StoreError, match=f"another survey took {address} over.*run the same command again"):
        stopped(address, 2, come)
    assert "metrics.parquet" in {path.name for path in copies()}  # what was trained is kept


def test_onlookers_see_a_survey_under_way_and_that_one_was_interrupted(address, monkeypatch):
    monkeypatch.setattr(lease, "BEAT", 0.1)
    monkeypatch.setattr(remote, "FRESH", 0.2)
    spec = next(survey_of.expand(survey_of.Settings(seeds=2)))
    with remote.working(address) as copy:
        updates = survey.run(survey.prepare(["tiny"], "smoke"), copy, workers=1)
        next(updates)
        records.write_start(copy.directory, spec)
        remote.upload(address, records.folder_of(copy.directory, spec))
        wait_until(lambda: counts(status(address)) == (0, 1, 5))
        with remote.refreshing(address) as shown:
            wait_until(lambda: counts(survey.status(shown.directory)[0]) == (0, 1, 5))
            for _ in updates:
                pass
            wait_until(lambda: counts(survey.status(shown.directory)[0]) == (6, 0, 0))
        records.write_start(copy.directory, spec)
        remote.upload(address, records.folder_of(copy.directory, spec))
        copy.held._stop.set()  # killed: no more signs of life
        wait_until(lambda: counts(status(address)) == (5, 0, 1))


def test_a_machine_that_does_not_see_the_drivers_folder_works_at_the_address_alone(whole, address):
    (prepared,) = survey.prepare(["tiny"], "smoke")
    unseen = Path("/nowhere/results")
    with remote.working(address) as copy:
        next(survey.run([prepared], copy, workers=1))  # the plan
        jobs = [
            *plan(unseen, prepared.runs, survey_of.measure, device="cpu", workers=1, address=address),
            *plan_analyses(unseen, prepared.analyses, survey_of.analyse, device="cpu", address=address),
        ]
        for job in jobs:
            runs.execute(job, print)
        assert not unseen.exists()
        assert copies() == []
    assert seen(address) == whole[1]


def test_a_survey_whose_results_go_to_the_memory_of_this_process(whole, tmp_path, monkeypatch):
    monkeypatch.setenv("THEODOLITE_CACHE", str(tmp_path))
    assert run("memory://somewhere/results") == whole[1]
    assert seen("memory://somewhere/results") == whole[1]


def said_by(*arguments: str) -> tuple[int, str]:
    """What the command line ends with, and says."""
    done = called(*arguments)
    return done.returncode, done.stdout + done.stderr


def test_every_command_takes_an_address(whole, address, tmp_path):
    code, said = said_by("run", "tiny", "--preset", "smoke", "--dry-run", "--out", address)
    assert code == 0
    assert f"To be done in {address}" in said.replace("\n", " ")
    code, said = said_by("run", "tiny", "--preset", "smoke", "--out", address)
    assert code == 0
    assert f"Report: {address}/report.html" in said
    pages = {key: value for key, value in content(address).items() if remote.PAGES.fullmatch(key)}
    assert {"report.html", "report.md", "tiny/claims.json", "tiny/tables/metrics.csv"} <= set(pages)
    for key in pages:
        connect(address).delete(key)
    assert said_by("report", address)[0] == 0
    assert {key: value for key, value in content(address).items() if remote.PAGES.fullmatch(key)} == pages
    assert said_by("claims", address, "--json") == said_by("claims", str(whole[0]), "--json")
    assert json.loads(said_by("status", address, "--json")[1])[0]["done"] == 6
    both = ["report", "--compare", str(whole[0]), address]
    assert "expected --out with a folder" in said_by(*both)[1].replace("\n", " ")
    code, said = said_by(*both, "--out", str(tmp_path / "side by side"))
    assert code == 0, said
    assert address in next((tmp_path / "side by side").glob("*.html")).read_text()


@pytest.mark.parametrize("command", [["status"], ["run", "tiny", "--preset", "smoke", "--out"]])
@pytest.mark.parametrize(
    ("place", "said"),
    [
        (f"s3://{BUCKET}x/y", "there is no such bucket. Make it first"),
        ("s3://key:hidden@bucket/y", "expected an address without credentials"),
        ("what://x", "fsspec cannot open an address of 'what://'"),
    ],
)
def test_an_address_that_cannot_be_used_ends_a_command_with_one_paragraph(
    server, tmp_path, monkeypatch, command, place, said
):
    monkeypatch.setenv("THEODOLITE_CACHE", str(tmp_path))
    code, shown = said_by(*command, place)
    assert code == 2
    assert said in " ".join(shown.split())
    assert "Traceback" not in shown
    assert "hidden" not in shown


def test_a_key_that_leads_out_of_the_folder_or_is_no_file_of_a_record_is_not_brought_down(again, tmp_path):
    place, before = again
    folder = next(key for key in before if key.endswith("/metrics.parquet")).rpartition("/")[0]
    strange = [f"{folder}/.hidden", f"{folder}/a/b", "tiny/runs/0123/x", "other/..../plan.json", "tiny/live/x.json"]
    for key in strange:
        connect(place).put(key, b"not asked for")
    with remote.reading(place, remote.everything) as copy:
        found = {path.relative_to(copy.directory).as_posix() for path in copy.directory.rglob("*") if path.is_file()}
    assert found == {key for key in before if not remote.PAGES.fullmatch(key)}


def test_a_full_disk_of_this_machine_is_not_said_of_the_address(again, tmp_path, monkeypatch):
    place, _ = again

    def full(self: Path, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(NotWritable, match=f"cannot write {remote.root()}.*the disk is full"):
        run(place)
