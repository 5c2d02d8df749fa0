"""`theodolite new`: what it writes runs as it is, and nothing that is there is lost."""

import subprocess
import sys
from pathlib import Path

import pytest

import theodolite as th
from commands import alone, called
from theodolite import survey
from theodolite.own.starting import KINDS


def said(done) -> str:
    return " ".join(done.stderr.split())


def test_a_new_study_runs_as_it_is_and_is_reported(tmp_path):
    assert called("new", "study", "decay_of_weights.py", cwd=tmp_path).returncode == 0
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        done = alone("run", "decay_of_weights.py", "--preset", "smoke")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "results/smoke/report.html").exists()
    found = {verdict.id: verdict for verdict in survey.verdicts(tmp_path / "results/smoke")}
    assert set(found) == {"smaller", "flatter"}
    assert {verdict.study for verdict in found.values()} == {"decay-of-weights"}
    assert found["smaller"].estimate < 0.5  # a tenth of decay on weights of some tens


def test_a_new_instrument_runs_as_it_is_in_python_and_from_the_shell(tmp_path):
    new = called("new", "instrument", "extent.py", cwd=tmp_path)
    assert new.returncode == 0, new.stderr
    done = subprocess.run([sys.executable, "extent.py"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "13" in done.stdout
    advised = new.stderr.split("Try it: theodolite ")[1].split()
    assert called(*advised, "--out", "extent.safetensors", "--figure", "extent.svg", cwd=tmp_path).returncode == 0
    result = th.measure.load(tmp_path / "extent.safetensors")
    assert result.value == pytest.approx(13)  # (9 + 16 + 144) ** 0.5
    assert result.lengths.tolist() == pytest.approx([5, 12, 0])
    summed = called(*advised, "--set", "power=1", "--json", cwd=tmp_path)
    assert '"value": 19.0' in summed.stdout  # 3 + 4 + 12


def test_a_new_instrument_is_recorded_by_its_name(tmp_path, monkeypatch):
    called("new", "instrument", "stretch.py", cwd=tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    import stretch

    with th.Recorder(["stretch"], every=1, data=stretch.data(), out=None) as recorder:
        recorder.step(stretch.make(), lambda outputs, targets: (outputs - targets).square().mean())
    assert recorder.table("numbers").query("quantity == 'value'")["value"].tolist() == [pytest.approx(13)]


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_that_is_there_is_left_as_it_is(tmp_path, kind):
    (tmp_path / "mine.py").write_text("precious")
    done = called("new", kind, "mine.py", cwd=tmp_path)
    assert done.returncode == 2
    assert "mine.py is there already" in said(done)
    assert (tmp_path / "mine.py").read_text() == "precious"


@pytest.mark.sampled(3)
@pytest.mark.parametrize(
    ("kind", "file", "why"),
    [
        ("claim", "mine.py", "there is no kind of file to begin with 'claim'"),
        ("study", "mine", "a Python file named"),
        ("study", "my study.py", "a Python file named"),
        ("instrument", "2nd.py", "a Python file named"),
        ("instrument", "class.py", "a Python file named"),
        ("study", "random.py", "would import this file in place of the package"),
        ("instrument", "torch.py", "would import this file in place of the package"),
        ("study", "gradient_norm.py", "a name of its own for a study"),
        ("instrument", "gradient_norm.py", "a name of its own for an instrument"),
        ("instrument", "make.py", "a name for the instrument"),
        ("study", "no/such/folder/mine.py", "No such file or directory"),
    ],
)
def test_a_bad_name_is_one_sentence_and_writes_nothing(tmp_path, kind, file, why):
    done = called("new", kind, file, cwd=tmp_path)
    assert done.returncode == 2
    assert why in said(done)
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_what_it_writes_names_the_file_and_no_placeholder(tmp_path):
    for kind in KINDS:
        called("new", kind, f"{kind}_of_mine.py", cwd=tmp_path)
        text = Path(tmp_path, f"{kind}_of_mine.py").read_text()
        assert "NAME:" not in text
        assert f"{kind}_of_mine.py" in text
        assert 'kind="NAME"' not in text
