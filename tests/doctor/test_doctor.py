"""What the doctor says, against what this machine and this PyTorch are known to be."""

import json
import shutil
import signal

import pytest
from typer.testing import CliRunner

from theodolite import console
from theodolite.cli import app
from theodolite.doctor import checkup, curvature, pace, probes
from theodolite.studies import INDEX


@pytest.fixture(scope="module")
def rows():
    return {row["layer"]: row for row in curvature.curvature()}


def test_ours_is_right_on_every_layer_and_loss(rows):
    assert set(rows) == set(probes.ROWS)
    assert {row["theodolite"] for row in rows.values()} == {"right"}
    assert {row["path"] for row in rows.values()} <= {"kept graph", "layer by layer", "operation by operation"}


def test_faults_of_this_pytorch_are_found(rows):
    """Those that test_upstream pins, and a way that ends the process is outlived by the rest of the table."""
    assert rows["LayerNorm"]["hessian"].startswith("wrong")
    assert rows["BatchNorm (batch)"]["jacrev"].startswith("wrong")
    assert rows["weight_norm"]["autograd"].startswith("wrong")
    assert rows["attention"]["autograd"] == "raises"
    assert rows["MSELoss"]["linearize"] == "crashes"
    assert rows["tanh"]["linearize"] == rows["own square"]["jacrev"] == "right"


def test_the_table_fits_eighty_columns(rows):
    with console.out.capture() as said:
        console.out.print(console.ways(list(rows.values())), width=80)
    lines = said.get().splitlines()
    assert all(len(line) <= 80 for line in lines)
    assert "…" not in said.get()


def test_cells_are_said_in_words():
    assert curvature.say({"error": 1e-9}) == "right"
    assert curvature.say({"error": 0.234}) == "wrong 23%"
    assert curvature.say({"says": "no"}) == "raises"
    assert curvature.say({"crash": -signal.SIGSEGV}) == "crashes"


def test_presets_take_their_measured_seconds_at_the_pace_they_were_measured_at():
    """At twice that pace, half of them."""
    twice = checkup.presets({kind: 2 * rate for kind, rate in pace.REFERENCE.items()})
    seconds = {row["preset"]: row["seconds"] for row in twice}
    assert seconds["quick"] == pytest.approx(sum(s.seconds["quick"] for s in INDEX.values()) / 2, abs=1)


def test_the_checkup_says_what_is_here(tmp_path, monkeypatch):
    monkeypatch.setattr(checkup, "pace", lambda workers: pace.pace(workers, seconds=0.4))
    done = CliRunner().invoke(app, ["doctor", "--json", "--out", str(tmp_path)])
    found = json.loads(done.stdout)
    assert all(rate > 0 for rate in found["speed"].values())
    assert "digits" in found["machine"]["data present"]
    assert "torch" in found["machine"]["versions"]
    assert float(found["machine"]["free disk"].split()[0]) == pytest.approx(
        shutil.disk_usage(tmp_path).free / 1e9, abs=2
    )
    assert [row["preset"] for row in found["presets"]] == ["smoke", "quick", "full"]
    monkeypatch.setattr(checkup, "checkup", lambda out: found)
    table = CliRunner().invoke(app, ["doctor", "--out", str(tmp_path)])
    assert "What each preset takes here" in table.stdout
