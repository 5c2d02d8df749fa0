"""The five minutes of docs/recorder.md, as they stand there."""

import re
import runpy
from inspect import Parameter, signature
from pathlib import Path

import theodolite as th
from theodolite import survey
from theodolite.measure.catalogue import in_recorder

PAGE = (Path(__file__).parents[2] / "docs" / "recorder.md").read_text()


def test_the_first_example_runs_as_it_stands_and_its_report_is_as_described(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    script = re.search(r"```python\n(.*?)```", PAGE, re.DOTALL)[1]
    (tmp_path / "train.py").write_text(script)
    runpy.run_path("train.py")
    assert capsys.readouterr().out.count("hessian_eigenvalues: measured") == 3
    found = survey.findings(Path("results/own"))[0]
    names = [figure.name for figure in found.figures]
    assert {"gradient-norm", "gradient-norm-loss", "hessian-eigenvalues-eigenvalues-lines", "weights-plane"} <= set(
        names
    )
    assert found.runs.seeds == 3
    assert not [table for table in found.tables if table.name == "failures"]


def test_the_page_names_every_instrument_and_every_option():
    assert all(f"`{name}`" in PAGE for name in in_recorder())
    options = [
        name for name, option in signature(th.Recorder).parameters.items() if option.kind is Parameter.KEYWORD_ONLY
    ]
    assert "budget" in options
    missing = [name for name in options if name != "clock" and f"{name}=" not in PAGE]
    assert missing == []
