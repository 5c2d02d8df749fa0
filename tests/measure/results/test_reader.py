"""Results in the hand: saved and read back, drawn, and what a file that lies is answered."""

import json
import pickle  # noqa: TID251 - to make a file that must not be opened
import re
from dataclasses import fields, is_dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

from results_of_each_kind import EACH, network
from theodolite import measure
from theodolite.errors import BadModel, RecordCorrupt, StoreError, VersionMismatch
from theodolite.measure.catalogue import OF_KIND
from theodolite.measure.results import kinds
from theodolite.measure.results import writer as written
from theodolite.measure.results.base import Result


@pytest.fixture(scope="module")
def results() -> dict[str, Result]:
    return {name: make() for name, make in EACH.items()}


def same(a: Any, b: Any) -> bool:
    """Bit for bit, type for type, NaN equal to NaN."""
    if type(a) is not type(b):
        return False
    if isinstance(a, nn.Module):
        return same(dict(a.state_dict()), dict(b.state_dict()))
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and same(a.numpy(), b.numpy())
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    if is_dataclass(a):
        return all(same(getattr(a, f.name), getattr(b, f.name)) for f in fields(a))
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[k], b[k]) for k in a)
    if isinstance(a, tuple | list):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b or (a != a and b != b)


def test_every_kind_of_result_is_among_those_tested():
    files = {import_module(f"theodolite.measure.{name}") for name in {*measure.FILES.values(), "critical.points"}}
    classes = {
        value
        for file in files
        for value in vars(file).values()
        if isinstance(value, type) and issubclass(value, Result) and value.__module__ == file.__name__
    }
    assert {cls.__name__ for cls in classes} == {name.split(",")[0].split(" ")[0] for name in EACH}
    assert {kinds.of(cls) for cls in classes} == set(OF_KIND)


@pytest.mark.parametrize("name", EACH)
def test_a_result_comes_back_from_its_file_bit_for_bit(name, results, tmp_path):
    results[name].save(tmp_path / "r.safetensors")
    model = network(3) if name == "Alignment" else None
    again = measure.load(tmp_path / "r.safetensors", model=model)
    assert same(again, results[name])
    assert repr(again) == repr(results[name])
    again.save(tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == (tmp_path / "r.safetensors").read_bytes()


@pytest.mark.parametrize("name", EACH)
def test_a_result_is_strict_json_for_other_programs(name, results):
    text = json.dumps(written.plain(results[name]), allow_nan=False)
    assert set(json.loads(text)) == {field.name for field in fields(results[name])}


def test_an_array_too_long_for_json_is_given_by_its_shape(results):
    long = replace(results["Sensitivity"], per_sample=torch.zeros(10_001))
    assert written.plain(long)["per_sample"] == {"shape": [10_001], "dtype": "float32"}


@pytest.mark.sampled(3)
@pytest.mark.parametrize("name", [name for name in EACH if name != "CriticalPoints, none"])
def test_a_result_draws_itself_in_the_theme_of_the_report(name, results, tmp_path):
    results[name].plot().save(tmp_path / "r.svg")
    results[name].plot().save(tmp_path / "r.html")
    page = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert re.findall(r'(?:src|href)="http[^"]*"|import\("http[^"]*', page) == []
    assert len(page) > 500_000  # Vega itself
    drawing = (tmp_path / "r.svg").read_text()
    assert "<text" in drawing
    assert "system-ui" in drawing


def test_the_chart_of_an_interpolation_holds_the_numbers_of_the_interpolation(results):
    found = results["Interpolation"]
    data = json.dumps(found.plot().to_dict())
    for alpha, loss in zip(found.alphas.tolist(), found.loss.tolist(), strict=True):
        assert f"{alpha:.5g},{loss:.5g},line" in data


def test_a_result_is_a_table_in_a_notebook(results):
    for result in results.values():
        html = result._repr_html_()
        assert html.startswith("<table><caption>")
        assert html.count("<tr>") == len(repr(result).splitlines()) - 1


def test_tensors_of_other_types_and_bounds_come_back_too(results, tmp_path):
    curve = results["Curve"]
    control = {"a": torch.tensor(1.5, dtype=torch.bfloat16), "b": torch.zeros(0, 3), "c": torch.eye(3)[:, 1]}
    odd = replace(curve, highest=float("inf"), line_highest=float("-inf"), control=control)
    odd.save(tmp_path / "r")
    again = measure.load(tmp_path / "r")
    assert (again.highest, again.line_highest) == (float("inf"), float("-inf"))
    assert {n: (t.dtype, t.shape, t.tolist()) for n, t in again.control.items()} == {
        n: (t.dtype, t.shape, t.tolist()) for n, t in control.items()
    }


def test_a_saved_network_needs_a_model_to_go_into(results, tmp_path):
    results["Alignment"].save(tmp_path / "r")
    with pytest.raises(BadModel, match="Pass model="):
        measure.load(tmp_path / "r")
    with pytest.raises(BadModel, match="another"):
        measure.load(tmp_path / "r", model=network(0, hidden=5))
    given = network(3)
    before = given[0].weight.clone()
    aligned = measure.load(tmp_path / "r", model=given)
    assert torch.equal(given[0].weight, before)
    inputs = torch.randn(5, 3, dtype=torch.float64)
    assert torch.equal(aligned.model(inputs), results["Alignment"].model(inputs))


def test_a_file_that_is_not_there_or_something_else_is_named(tmp_path):
    with pytest.raises(StoreError, match="cannot be read"):
        measure.load(tmp_path / "nothing")
    safetensors.torch.save_file({"weight": torch.eye(2)}, tmp_path / "weights.safetensors")
    with pytest.raises(StoreError, match="something else"):
        measure.load(tmp_path / "weights.safetensors")
    with pytest.raises(StoreError, match="cannot write"):
        measure.gradient_norm(nn.Linear(2, 1), nn.MSELoss(), (torch.eye(2), torch.zeros(2, 1))).save(
            tmp_path / "weights.safetensors" / "below"
        )


def test_a_file_cut_or_altered_anywhere_is_refused(results, tmp_path):
    path = tmp_path / "r"
    results["CriticalPoints"].save(path)
    content = path.read_bytes()
    for cut in (0, 4, 8, 100, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:cut])
        with pytest.raises(RecordCorrupt):
            measure.load(path)
    generator = np.random.default_rng(0)
    for place in [*generator.integers(8, len(content), 60).tolist(), len(content) - 1]:
        damaged = bytearray(content)
        damaged[place] ^= 1
        path.write_bytes(damaged)
        with pytest.raises(StoreError):  # in most places RecordCorrupt
            measure.load(path)


class Bomb:
    def __reduce__(self) -> Any:
        return Path.touch, (Path("exploded"),)


def test_a_pickle_is_never_opened(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "r").write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(RecordCorrupt):
        measure.load(tmp_path / "r")
    assert not (tmp_path / "exploded").exists()


FIELDS = {"value": 1.0, "loss": 1.0, "norms": {"mapping": []}, "samples": 1}
GOOD = {"result": "gradient_norm", "fields": FIELDS}


@pytest.mark.parametrize(
    "tree",
    [
        7,
        [],
        {},
        {"class": "os.system", "fields": {}},
        {"class": "saved.Path", "fields": {}},
        {"class": "results.Result", "fields": {}},
        {"class": "alignment._Hidden", "fields": {"layer": "", "unitwise": {"tuple": []}, "reader": ""}},
        {"class": "..errors.TheodoliteError", "fields": {}},
        {"class": "gradient_norm.__builtins__", "fields": {}},
        {"class": 3, "fields": {}},
        {"result": 3, "fields": {}},
        {"result": ["gradient_norm"], "fields": {}},
        {"result": "gradient_norm"},
        {"class": "critical.structure.Structure", "fields": {n: {"tuple": []} for n in ("live", "dead", "tied")}},
        {"result": "gradient_norm", "fields": {}},
        {"result": "gradient_norm", "fields": {**FIELDS, "more": 1}},
        {"result": "gradient_norm", "fields": {**FIELDS, "value": "much"}},
        {"result": "gradient_norm", "fields": {**FIELDS, "value": True}},
        {"result": "gradient_norm", "fields": {**FIELDS, "norms": {"mapping": [["a", "b"]]}}},
        {"result": "gradient_norm", "fields": {**FIELDS, "norms": {"mapping": 3}}},
        {"result": "gradient_norm", "fields": {**FIELDS, "value": {"tensor": "elsewhere"}}},
        {"result": "gradient_norm", "fields": {**FIELDS, "value": {"float": "[1]"}}},
        {"result": "gradient_norm", "fields": {**FIELDS, "value": {"code": "1"}}},
    ],
)
def test_a_file_whose_checksum_fits_but_which_lies_is_refused(tree, tmp_path):
    write(tmp_path / "good", json.dumps(GOOD))
    assert measure.load(tmp_path / "good").value == 1.0
    write(tmp_path / "bad", json.dumps(tree))
    with pytest.raises(RecordCorrupt, match="expected a whole result in"):
        measure.load(tmp_path / "bad")


def test_endless_nesting_and_no_json_at_all_are_refused(tmp_path):
    for text in ('{"tuple":[' * 100_000, "[" * 100_000, "nonsense", "1" * 10_000, '{"tuple":[' * 900 + "]}" * 900):
        write(tmp_path / "bad", text)
        with pytest.raises(RecordCorrupt):
            measure.load(tmp_path / "bad")


def test_a_newer_format_is_told_from_damage(tmp_path):
    write(tmp_path / "new", json.dumps(GOOD), version=3)
    with pytest.raises(VersionMismatch, match="format 2"):
        measure.load(tmp_path / "new")


def test_a_class_as_files_of_format_1_name_it_is_found_wherever_it_lies_now(tmp_path):
    for place in ("gradient_norm.GradientNorm", "once.GradientNorm"):
        write(tmp_path / "old", json.dumps({"class": place, "fields": FIELDS}), version=1)
        assert type(measure.load(tmp_path / "old")) is measure.gradient_norm.__wrapped__.__annotations__["return"]


def test_a_field_that_was_added_later_is_at_its_default_in_an_older_file(results, tmp_path):
    trace = results["Trace"]
    own = {f.name: getattr(trace, f.name) for f in fields(trace) if f.name != "interrupted"}
    write(tmp_path / "old", json.dumps({"result": "trace", "fields": own}))
    assert same(measure.load(tmp_path / "old"), trace)


def write(path: Path, tree: str, version: int = 2) -> None:
    about = json.dumps({"format": version, "result": tree, "sha256": written.digest(tree, {})})
    path.write_bytes(safetensors.torch.save({}, metadata={"theodolite": about}))


LATER = {"Surface of a path", "EdgeOfStability", "GradientNoiseScale", "Diagonal", "HessianBlocks"}


@pytest.mark.parametrize("name", [name for name in EACH if name not in LATER])
def test_a_file_saved_before_the_files_moved_is_still_read_with_the_same_numbers(name, results):
    file = Path(__file__).parent / "saved_before" / f"{name.replace(', ', '_').replace(' ', '_')}.safetensors"
    old = measure.load(file, model=network(3) if name == "Alignment" else None)
    stored = safetensors.torch.load_file(file)
    kept = [v for f in fields(old) if isinstance(v := getattr(old, f.name), torch.Tensor)]
    assert type(old) is type(results[name])
    assert all(any(same(v, t) for t in stored.values()) for v in kept)


@pytest.mark.parametrize("name", EACH)
def test_a_result_equals_the_one_that_was_loaded_and_no_other(results, tmp_path, name):
    model = network(0) if name == "Alignment" else None
    results[name].save(tmp_path / "r.safetensors")
    again = measure.load(tmp_path / "r.safetensors", model=model)
    assert again == results[name]
    assert hash(again) == hash(results[name])
    assert again != results["GradientNorm" if name != "GradientNorm" else "Trace"]
    number = next((f.name for f in fields(again) if isinstance(getattr(again, f.name), float | torch.Tensor)), None)
    if number is not None:
        assert replace(again, **{number: getattr(again, number) + 1}) != results[name]


@pytest.mark.parametrize(
    ("ending", "says"), [("pkl", "ends in .safetensors"), ("csv", r"to_frame\(\).to_csv"), ("PNG", r"plot\(\).save")]
)
def test_a_name_that_promises_another_format_is_refused(results, tmp_path, ending, says):
    with pytest.raises(StoreError, match=says):
        results["GradientNorm"].save(tmp_path / f"r.{ending}")
    assert not list(tmp_path.iterdir())
