"""What stands in the README and on the first page runs as it is pasted, one block after the other in one session."""

import re
from pathlib import Path

import pandas as pd
import pytest
import torch

ROOT = Path(__file__).parents[2]


def pasted(page: Path, monkeypatch: pytest.MonkeyPatch, folder: Path) -> dict:
    monkeypatch.chdir(folder)
    torch.manual_seed(0)
    session: dict = {}
    blocks = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    assert blocks
    for block in blocks:
        exec(block, session)  # noqa: S102 - our own documentation
    return session


def test_the_readme_runs_as_pasted(tmp_path, monkeypatch, capsys):
    session = pasted(ROOT / "README.md", monkeypatch, tmp_path)
    assert capsys.readouterr().out.count("residuals") == 1
    steps = session["recorder"].table("numbers").query("instrument == 'gradient_norm'")["step"]
    assert set(steps) == {1, 10}  # every 100, and the last of ten batches
    assert session["recorder"].folder.is_relative_to("results/own")


def test_the_first_page_runs_as_pasted(tmp_path, monkeypatch):
    session = pasted(ROOT / "docs" / "index.md", monkeypatch, tmp_path)
    assert session["th"].measure.load("top.safetensors") == session["top"]
    assert isinstance(session["top"].to_frame(), pd.DataFrame)
    assert Path("top.png").stat().st_size > 1000
