"""Bad luck with a results folder: any file of it cut, altered, emptied, removed or replaced."""

import os
import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import tiny as survey_of
from theodolite import survey
from theodolite.errors import StoreError
from theodolite.store import records

DAMAGE = ("cut", "flip", "empty", "remove", "folder", "other", "longer")


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


@given(data=st.data(), damage=st.sampled_from(DAMAGE), where=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
@settings(
    max_examples=500, deadline=None, database=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)  # fmt: skip
def test_a_spoilt_file_is_an_error_that_names_it_or_a_run_that_is_redone_and_never_a_wrong_table(
    whole, tiny, tmp_path, data, damage, where, bit
):
    source, right = whole
    directory = tmp_path / "results"
    shutil.rmtree(directory, ignore_errors=True)
    shutil.copytree(source, directory)
    names = members(directory)
    name = data.draw(st.sampled_from(names))
    twin = next((other for other in names if other.name == name.name and other != name), names[0])
    victim = directory / name
    spoil(victim, damage, where, bit, (directory / twin).read_bytes())
    fingerprint = victim.parent.name
    found, said = outcome(survey_of.seen, directory)
    if said:
        assert str(victim) in said or (victim.parent == directory and victim.name in said)
    elif found != right:  # the reader is told that one run is not there, and sees nothing else that is not so
        assert without(found, fingerprint) == without(right, fingerprint)
        assert f"{fingerprint}," not in found["metrics"] + found["moved"]
        (row,) = survey.status(directory)
        assert (row["done"], row["left"]) == (5, 1)
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
