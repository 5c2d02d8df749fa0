"""A result of a user's own: named by its kind in files, which import nothing."""

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import theodolite as th
from theodolite.errors import SettingError, StoreError
from theodolite.measure.results import kinds

LENGTHS = """
from dataclasses import dataclass
import torch
import theodolite as th

@dataclass(frozen=True, slots=True)
class Lengths(th.Result, kind="lengths"):
    mean: float
    lengths: torch.Tensor
    names: list[str]
    shares: dict[str, float]

made = Lengths(1.5, torch.tensor([1.0, 2.0]), ["a", "b"], {"a": 0.25})
"""


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    """Kinds that a test defines are not known to the next."""
    before = dict(kinds.KINDS)
    yield
    kinds.KINDS.clear()
    kinds.KINDS.update(before)


def python(script: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", script], cwd=folder, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_it_is_saved_and_read_back_in_another_process_that_imported_its_file(tmp_path):
    (tmp_path / "mine.py").write_text(LENGTHS)
    saved = python("import mine; mine.made.save('r')", tmp_path)
    assert saved.returncode == 0, saved.stderr
    read = python("import mine, theodolite as th; print(th.measure.load('r') is not mine.made, mine.made)", tmp_path)
    again = python("import mine, theodolite as th; print(True, th.measure.load('r'))", tmp_path)
    assert again.stdout == read.stdout != ""
    assert b"mine" not in (tmp_path / "r").read_bytes()


@pytest.mark.slow
def test_without_its_file_it_is_one_clear_error_and_nothing_is_imported(tmp_path):
    (tmp_path / "lengths.py").write_text("raise SystemExit('imported')")
    (tmp_path / "mine.py").write_text(LENGTHS)
    python("import mine; mine.made.save('r')", tmp_path)
    read = python("import theodolite as th; th.measure.load('r')", tmp_path)
    last = read.stderr.strip().splitlines()[-1]
    assert "StoreError: expected a result of a kind that is known here, got 'lengths'." in last
    assert "Known: alignment, critical_point, critical_points, curve" in last
    assert last.endswith("import the file that defines it.")


def test_a_result_or_another_dataclass_within_a_result_comes_back_too(tmp_path):
    @dataclass(frozen=True)
    class Inner(th.Result, kind="inner"):
        values: np.ndarray

    @dataclass(frozen=True)
    class Counts:
        live: int

    @dataclass(frozen=True)
    class Outer(th.Result, kind="outer"):
        parts: tuple[Inner, ...]
        counts: Counts | None

    Outer((Inner(np.arange(3)), Inner(np.zeros((2, 0)))), Counts(3)).save(tmp_path / "r")
    again = th.measure.load(tmp_path / "r")
    assert type(again) is Outer
    assert again.counts == Counts(3)
    assert [part.values.tolist() for part in again.parts] == [[0, 1, 2], [[], []]]


def test_the_class_that_slots_make_a_second_time_is_the_one_of_the_kind():
    @dataclass(frozen=True, slots=True)
    class Slotted(th.Result, kind="slotted"):
        value: float

    assert kinds.named("slotted") is Slotted
    assert not hasattr(Slotted(1.0), "__dict__")


def test_a_class_defined_again_as_in_a_notebook_takes_its_own_place():
    def define() -> type:
        @dataclass(frozen=True)
        class Again(th.Result, kind="again"):
            value: float

        return Again

    define()
    second = define()
    assert kinds.named("again") is second


@pytest.mark.parametrize("kind", ["gradient_norm", "critical_point", "taken", "two words", "", "../x", 3])
def test_a_kind_that_is_taken_or_no_name_is_refused_where_the_class_is_written(kind):
    class Taken(th.Result, kind="taken"):
        pass

    says = {"gradient_norm": "which a result of Theodolite has", "taken": f"which Taken in {__file__} has"}.get(
        kind, ""
    )
    with pytest.raises(SettingError, match=rf"expected (a|the) kind of.*{says}"):
        type(th.Result)("Mine", (th.Result,), {"__module__": __name__}, kind=kind)


def test_what_could_not_be_read_back_is_refused_while_it_is_still_there(tmp_path):
    @dataclass(frozen=True)
    class Loose(th.Result, kind="loose"):
        value: float

    @dataclass(frozen=True)
    class Kindless(th.Result):
        value: float

    @dataclass(frozen=True)
    class Heir(Loose):
        more: float

    class Pairs(th.Result, kind="pairs"):
        pass

    Loose(np.float32(0.5)).save(tmp_path / "r")
    assert th.measure.load(tmp_path / "r").value == 0.5
    for result, says in (
        (Loose(torch.tensor(1.0)), "'value' of Loose as number, as it is annotated, got Tensor"),
        (Kindless(1.0), 'class Kindless\\(Result, kind="kindless"\\)'),
        (Loose({1.0}), "got set. Save its parts"),
        (Heir(1.0, 2.0), "with a kind to save, got Heir"),
        (Pairs(), "dataclasses in a result, got Pairs"),
    ):
        with pytest.raises(StoreError, match=says):
            result.save(tmp_path / "no")
    assert not (tmp_path / "no").exists()


def test_it_draws_vectors_as_lines_and_numbers_as_dots():
    @dataclass(frozen=True)
    class Drawn(th.Result, kind="drawn"):
        mean: float
        lengths: Tensor
        heights: Tensor

    @dataclass(frozen=True)
    class Dots(th.Result, kind="dots"):
        mean: float
        shares: dict[str, float]
        method: str

    @dataclass(frozen=True)
    class Words(th.Result, kind="words"):
        method: str

    panels = Drawn(1.5, torch.tensor([1.0, 2.25]), torch.tensor([3.0, 4.5])).plot().to_dict()
    assert len(panels["vconcat"]) == 2
    assert "2.25" in str(panels)
    dots = str(Dots(1.5, {"a": 0.125}, "exact").plot().to_dict())
    assert "shares.a,0.125" in dots
    assert "exact" not in dots
    with pytest.raises(SettingError, match="Words holds none"):
        Words("exact").plot()


def test_all_fields_of_a_result_of_one_s_own_print():
    @dataclass(frozen=True)
    class Printed(th.Result, kind="printed"):
        value: float

    assert repr(Printed(0.5)) == "Printed\nvalue  0.5"
    assert [field.name for field in fields(Printed)] == ["value"]
