"""Bad luck with a results folder: any file of it cut, altered, emptied, removed or replaced."""

import contextlib
import os
import random
import re
import shutil
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import tiny as survey_of
from theodolite import survey
from theodolite.errors import StoreError
from theodolite.store import records

DAMAGE = ("cut", "flip", "empty", "remove", "folder", "other", "longer")
PLACES = {"cut": 4, "flip": 8, "longer": 2}  # tried in each kind of file, from its begin to its end
KINDS = (
    "tiny/plan.json",
    "theodolite.json",
    *(f"tiny/runs/*/{name}" for name in ("spec.json", "status.json", "metrics.parquet", "size.parquet")),
    *(f"tiny/runs/*/{name}" for name in ("weights.safetensors", "snapshots.safetensors")),
    *(f"tiny/analyses/*/{name}" for name in ("spec.json", "status.json", "moved.parquet")),
)


def members(directory: Path) -> list[Path]:
    return sorted(
        path.relative_to(directory) for path in directory.rglob("*") if path.is_file() and path.stat().st_size
    )


def numbers(directory: Path) -> dict[Path, bytes]:
    """Whatever tables and weights are made of, byte by byte."""
    return {name: (directory / name).read_bytes() for name in members(directory) if name.suffix != ".json"}


def spoil(path: Path, damage: str, where: float, bit: int, other: bytes) -> None:
    content = path.read_bytes()
    at = int(where * len(content))
    path.unlink()
    if damage == "cut":
        path.write_bytes(content[:at])
    elif damage == "flip":
        path.write_bytes(content[:at] + bytes([content[at] ^ 1 << bit]) + content[at + 1 :])
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "folder":
        path.mkdir()
    elif damage == "other":
        path.write_bytes(other)
    elif damage == "longer":
        path.write_bytes(content + bytes([bit]) * (1 + at))


def outcome(action, directory: Path) -> tuple[object, str]:
    """What an action gives, or what it says that cannot be done; any other exception is a fault of ours."""
    try:
        return action(directory), ""
    except StoreError as error:
        return None, str(error)


def without(seen: dict[str, str], fingerprint: str) -> dict[str, list[str]]:
    """The tables, line by line, less what one run or analysis gave (whole numbers may be 9.0 beside an empty cell)."""
    return {
        name: [line for line in text.replace(".0,", ",").splitlines() if not line.startswith(fingerprint)]
        for name, text in seen.items()
        if name != "claims"
    }


def test_every_kind_of_file_is_spoilt_here(whole):
    source, _ = whole
    assert {kind for kind in KINDS for name in members(source) if name.match(kind)} == set(KINDS)
    assert all(any(name.match(kind) for kind in KINDS) for name in members(source))


@pytest.mark.sampled(3)
@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("kind", KINDS)
def test_a_spoilt_file_is_an_error_that_names_it_or_a_run_that_is_redone_and_never_a_wrong_table(
    whole, tiny, tmp_path, kind, damage
):
    source, right = whole
    chance, places = random.Random(), PLACES.get(damage, 1)  # another file and byte each time; a failure says which
    for place in range(places):
        directory = shutil.copytree(source, tmp_path / str(place))
        victim = chance.choice(sorted(directory.glob(kind)))
        twin = next((other for other in sorted(directory.glob(kind)) if other != victim), directory / KINDS[0])
        where = (place + chance.random()) / places
        print(f"{victim.relative_to(directory)}: {damage} at {where!r}")
        spoil(victim, damage, where, place % 8, twin.read_bytes())
        shown_or_said(directory, victim, right)
        redone(directory, victim, damage, source)


def shown_or_said(directory: Path, victim: Path, right: dict[str, str]) -> None:
    """The reader is told that a file is spoilt, or that one run is not there, and sees nothing else that is not so."""
    found, said = outcome(survey_of.seen, directory)
    if said:
        assert str(victim) in said or (victim.parent == directory and victim.name in said)
    elif found != right:
        fingerprint = victim.parent.name
        assert without(found, fingerprint) == without(right, fingerprint)
        assert f"{fingerprint}," not in found["metrics"] + found["moved"]
        (row,) = survey.status(directory)
        assert (row["done"], row["left"]) == (5, 1)


def redone(directory: Path, victim: Path, damage: str, source: Path) -> None:
    """The next survey mends the folder, or says what it cannot mend."""
    _, said = outcome(survey_of.run, directory)
    if said:
        assert victim.name in said
        assert victim.name == "theodolite.json" or damage == "folder"
        return
    assert numbers(directory) == numbers(source)  # so that a reader sees what he saw
    assert records.read_plan(directory, "tiny") == records.read_plan(source, "tiny")
    (row,) = survey.status(directory)
    assert row["done"] == 6
    assert not list(directory.rglob("*.part"))


def test_whole_folders_that_changed_places_are_redone(whole, tiny, tmp_path):
    source, right = whole
    directory = tmp_path / "results"
    shutil.copytree(source, directory)
    first, second, *_ = sorted((directory / "tiny" / "runs").iterdir())
    first.rename(tmp_path / "between")
    second.rename(first)
    (tmp_path / "between").rename(second)
    assert survey.status(directory)[0]["left"] == 2
    survey_of.run(directory)
    assert survey_of.seen(directory) == right


def socket_at(path):
    with socket.socket(socket.AF_UNIX) as made, contextlib.chdir(path.parent):  # whose path may be a hundred bytes long
        made.bind(path.name)


ODD_FILES = {
    "pipe": os.mkfifo,
    "socket": socket_at,
    "device": lambda path: path.symlink_to("/dev/zero"),
    "link to itself": lambda path: path.symlink_to(path.name),
    "link to nothing": lambda path: path.symlink_to("/nowhere/at/all"),
}


@pytest.mark.parametrize("kind", ODD_FILES)
def test_what_is_no_file_in_place_of_one_is_said_and_a_survey_mends_it(kind, whole, tiny, tmp_path):
    source, right = whole
    for name in ("plan.json", "runs/0/metrics.parquet", "runs/0/status.json"):
        directory = tmp_path / name.replace("/", "_")
        shutil.copytree(source, directory)
        first = min((directory / "tiny" / "runs").iterdir()).name
        path = directory / "tiny" / name.replace("/0/", f"/{first}/")
        path.unlink()
        ODD_FILES[kind](path)
        if name.endswith("status.json"):
            assert survey.status(directory)[0]["left"] == 1
        else:
            with pytest.raises(StoreError, match=re.escape(str(path))):
                survey.findings(directory)
        survey_of.run(directory)
        assert survey_of.seen(directory) == right


def test_files_that_change_while_they_are_read_give_right_tables_or_an_error_that_names_one(whole, tiny, tmp_path):
    source, right = whole
    directory = tmp_path / "results"
    shutil.copytree(source, directory)
    first = min((directory / "tiny" / "runs").iterdir())
    (first / "status.json").rename(tmp_path / "status")
    without = survey_of.seen(directory)
    (tmp_path / "status").rename(first / "status.json")
    kept = {path: path.read_bytes() for path in (directory / "tiny/plan.json", *first.iterdir())}
    ended, draw, seen = threading.Event(), random.Random(3), []

    def change():
        while not ended.is_set():
            for path, content in kept.items():
                path.write_bytes(content[: draw.randrange(len(content))])
                path.write_bytes(content)

    with ThreadPoolExecutor(1) as pool:
        changes = pool.submit(change)
        while len(seen) < 60:
            try:
                seen.append(survey_of.seen(directory) in (right, without))
            except StoreError as error:
                seen.append(str(directory) in str(error))
        ended.set()
        changes.result()
    assert all(seen)
    assert survey_of.seen(directory) == right


def test_a_pipe_or_device_in_place_of_a_file_does_not_hold_the_reader_up(whole, tiny, tmp_path):
    source, _ = whole
    directory = tmp_path / "results"
    shutil.copytree(source, directory)
    runs = sorted((directory / "tiny" / "runs").iterdir())
    for path, make in (
        (runs[0] / "metrics.parquet", os.mkfifo),
        (runs[1] / "status.json", lambda path: path.symlink_to("/dev/zero")),
    ):
        path.unlink()
        make(path)
    with pytest.raises(StoreError, match=r"metrics\.parquet.*not a regular file"):
        survey.findings(directory)
    assert survey.status(directory)[0]["left"] == 1
