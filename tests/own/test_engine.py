"""A whole study with optimizer, loss, network and data of its own, from the command to a page without its files."""

import shutil
import textwrap

import pandas as pd
import pytest

from commands import called
from theodolite import survey
from theodolite.errors import RecordCorrupt
from theodolite.findings import Table
from theodolite.own.described import Drawn, StoredTables, read_tables, write_tables
from theodolite.store import records

STUDY = """
import theodolite as th, torch
from pathlib import Path
from theodolite.findings import Table
from theodolite.study import Seeds, Training

class Half(th.Optimizer, kind="half"):
    share: float = 0.5
    def make(self, parameters, *, learning_rate, weight_decay):
        return torch.optim.SGD(parameters, lr=self.share * learning_rate)

class Quartic(th.Loss, kind="quartic"):
    def per_sample(self, outputs, targets):
        return (outputs - targets).pow(4).mean(1)

class Own(th.Settings):
    seeds: int = 3

HERE = Path(__file__).parent

def expand(settings):
    for seed in range(settings.seeds):
        for share in (0.0, 0.5):
            yield th.RunSpec(
                study="halves", labels={"share": share}, seed=seed,
                data=th.data.code(f"{HERE}/data.py:make", seed=seed), model=th.models.code(f"{HERE}/net.py:make"),
                seeds=Seeds(weights=seed, order=seed),
                training=Training(loss=Quartic(), optimizer=Half(share=share), learning_rate=0.1, epochs=5),
            )

def of(share):
    def evidence(records):
        losses = records.table("metrics").query(f"share == {share}").groupby("seed")["train_loss"]
        return th.Evidence.exact(losses.last() / losses.first())
    return evidence

def claim(name, share, side, threshold):
    return th.Claim(id=name, sentence="It is so.", source="own", statistic="a quotient", kind="mean", side=side,
                    threshold=threshold, evidence=of(share))

def ends(records):
    rows = records.table("metrics").groupby("share", observed=True)["train_loss"].last().reset_index()
    return [Table("ends", "Where it ends", rows.assign(nothing=float("nan"), said=rows["share"] > 0), "By share.")]

study = th.Study(
    name="halves", title="Halves", question="Does it learn?", source="own", settings_type=Own,
    presets={"smoke": Own(), "quick": Own()}, expand=expand,
    claims=[claim("still", 0.0, "above", 0.99), claim("falls", 0.5, "below", 1.0)],
    tables=ends, figures=lambda records: [], not_shown="Much.", seconds={},
)
"""
NET = "from torch import nn\ndef make():\n    return nn.Sequential(nn.Linear(1, 4), nn.Tanh(), nn.Linear(4, 1))\n"
DATA = """
import torch
def make(seed):
    x = torch.linspace(-1, 1, 20)[:, None] + seed / 100
    return (x, x**2), (x, x**2)
"""


def test_workers_train_them_and_a_reader_needs_no_file(tmp_path):
    paths = [tmp_path / name for name in ("file.py", "net.py", "data.py")]
    for path, text in zip(paths, (STUDY, NET, DATA), strict=True):
        path.write_text(textwrap.dedent(text))
    out = tmp_path / "r"
    done = called("run", str(paths[0]), "--preset", "smoke", "--jobs", "1", "--out", str(out))
    assert done.returncode == 0, done.stderr
    for path in paths:
        path.write_text("raise SystemExit('a reader ran it')")
    found = {verdict.id: verdict for verdict in survey.verdicts(out)}
    assert found["still"].estimate == 1  # steps of nothing
    assert found["falls"].estimate < 1
    assert len(records.read(out, "halves").done) == 6
    assert called("report", str(out)).returncode == 0
    losses = records.read(out, "halves").table("metrics").groupby("share", observed=True)["train_loss"].last()
    shown = pd.read_csv(out / "halves/tables/ends.csv")
    assert list(shown) == ["share", "train_loss", "nothing", "said"]
    assert list(shown["train_loss"]) == pytest.approx(list(losses))
    assert list(shown["said"].astype(str)) == ["False", "True"]
    assert shown["nothing"].isna().all()
    assert "Where it ends" in (out / "report.html").read_text()
    shutil.rmtree(next((out / "halves/runs").iterdir()))
    assert called("report", str(out)).returncode == 0
    assert "By share. Made of other runs than there are now" in (out / "report.html").read_text()


def test_a_table_that_was_changed_in_the_folder_is_refused(tmp_path):
    frame = pd.DataFrame({"a": [1, float("inf")], "b": ["x", None]})
    write_tables(tmp_path, "own", StoredTables(tables=(Drawn.of(Table("t", "T", frame)),), made_of=()))
    (found,) = read_tables(tmp_path, "own").tables
    assert dict(found.columns) == {"a": (1.0, None), "b": ("x", None)}
    path = tmp_path / "own/drawn.json"
    path.write_text(path.read_text().replace("1.0", "7.0"))
    with pytest.raises(RecordCorrupt, match="Run the study's file again"):
        read_tables(tmp_path, "own")
