"""A whole study with optimizer, loss, network and data of its own, from the command to a page without its files."""

import base64
import io
import math
import re
import shutil
import struct
import textwrap

import altair as alt
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from pydantic import ValidationError

from commands import called
from theodolite import survey
from theodolite.errors import RecordCorrupt
from theodolite.figures import still
from theodolite.findings import Figure, Table
from theodolite.own.described import Drawn, Pictured, StoredTables, read_tables, write_tables
from theodolite.store import records

STUDY = """
import theodolite as th, torch
from pathlib import Path
from theodolite.figures.curves import curves
from theodolite.figures.scales import Axis
from theodolite.findings import Figure, Table
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

def figures(records):
    rows = records.table("metrics")[["epoch", "share", "seed", "train_loss"]]
    chart = curves(rows, x=Axis("epoch", "epoch"), y=Axis("train_loss", "loss"), series="share")
    return [Figure("own-curves", "Curves of its own", chart, "Drawn here.", "Losses fall.")]

study = th.Study(
    name="halves", title="Halves", question="Does it learn?", source="own", settings_type=Own,
    presets={"smoke": Own(), "quick": Own()}, expand=expand,
    claims=[claim("still", 0.0, "above", 0.99), claim("falls", 0.5, "below", 1.0)],
    tables=ends, figures=figures, not_shown="Much.", seconds={},
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
    assert "Curves of its own" in (out / "report.html").read_text()
    drawing = (out / "halves/figures/own-curves.svg").read_text()
    (picture,) = re.findall(r'href="data:image/png;base64,([^"]+)"', drawing)
    assert base64.b64decode(picture)[:4] == b"\x89PNG"
    shutil.rmtree(next((out / "halves/runs").iterdir()))
    assert called("report", str(out)).returncode == 0
    assert "By share. Made of other runs than there are now" in (out / "report.html").read_text()


def test_a_picture_is_shown_as_large_as_its_chart_and_as_it_was_drawn(tmp_path):
    squares = alt.Chart(pd.DataFrame({"x": [0, 1]})).mark_rect(color="#ff0000").encode(x="x:O").properties(
        width=60, height=30
    )  # fmt: skip
    kept = Pictured.of(Figure("squares", "Squares", squares, "Two.", "Two squares."))
    chart = kept.figure().chart
    whole = Image.open(io.BytesIO(still.png(chart))).convert("RGB")
    drawn = Image.open(io.BytesIO(base64.b64decode(kept.png))).convert("RGB")
    assert chart.width == math.ceil(drawn.width / 2)

    def red(picture):
        return (np.asarray(picture) == [255, 0, 0]).all(-1).sum()

    assert red(whole) == pytest.approx(red(drawn), rel=0.02)
    assert red(drawn) > 1000


BOMB = b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sII", 13, b"IHDR", 100_000, 100_000)


@pytest.mark.parametrize("content", [b"<svg onload='alert(1)'/>", b"", b"\x89PNG\r\n\x1a\n" + 20 * b"0", BOMB])
def test_a_picture_that_is_none_is_refused(content):
    with pytest.raises(ValidationError, match="expected a PNG"):
        Pictured(name="a", title="", caption="", alt="", png=base64.b64encode(content).decode())


def test_a_table_that_was_changed_in_the_folder_is_refused(tmp_path):
    frame = pd.DataFrame({"a": [1, float("inf")], "b": ["x", None]})
    write_tables(tmp_path, "own", StoredTables(tables=(Drawn.of(Table("t", "T", frame)),), made_of=()))
    (found,) = read_tables(tmp_path, "own").tables
    assert dict(found.columns) == {"a": (1.0, None), "b": ("x", None)}
    path = tmp_path / "own/drawn.json"
    path.write_text(path.read_text().replace("1.0", "7.0"))
    with pytest.raises(RecordCorrupt, match="Run the study's file again"):
        read_tables(tmp_path, "own")
