"""What stands in the README, on the first page and beside the peers runs as it is pasted, block after block."""

import re
import shlex

import numpy as np
import pandas as pd
import pytest
import torch
import typer

from pasted import ROOT, blocks, page
from theodolite import cli, survey

DOCS = ROOT / "docs"
COMMAND = typer.main.get_command(cli.app)


@pytest.fixture(autouse=True)
def _same_numbers():
    torch.manual_seed(0)


def test_the_readme_runs_as_pasted(tmp_path, monkeypatch, capsys):
    session = page((ROOT / "README.md").read_text(encoding="utf-8"), tmp_path)
    printed = capsys.readouterr().out
    assert printed.count("residuals") == 1
    assert len(re.findall(r"verdict +holds", printed)) == 1  # of the flat and the sharp
    monkeypatch.chdir(tmp_path)
    steps = session["recorder"].table("numbers").query("instrument == 'gradient_norm'")["step"]
    assert set(steps) == {1, 10}  # every 100, and the last of ten batches
    assert session["recorder"].folder.is_relative_to("results/own")
    assert {verdict.study for verdict in survey.verdicts(tmp_path / "results/smoke")} == {"gradient-norm", "mine"}


def test_the_first_page_runs_as_pasted(tmp_path):
    session = page((DOCS / "index.md").read_text(encoding="utf-8"), tmp_path)
    assert session["th"].measure.load(tmp_path / "top.safetensors") == session["top"]
    assert isinstance(session["top"].to_frame(), pd.DataFrame)
    assert (tmp_path / "top.png").stat().st_size > 1000
    assert (tmp_path / "density.svg").exists()
    assert (tmp_path / "results/own/report.html").exists()
    assert {verdict.study for verdict in survey.verdicts(tmp_path / "results/smoke")} == {"gradient-norm", "mine"}


@pytest.mark.parametrize(
    ("name", "package"),
    [
        ("curvlinops", "curvlinops"),
        ("hessian-eigenthings", "hessian_eigenthings"),
        ("tensorboard", "torch.utils.tensorboard"),
    ],
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")  # of the peer
def test_beside_a_peer_both_sides_run_and_agree(name, package, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shown = blocks((DOCS / f"coming-from/{name}.md").read_text(encoding="utf-8"))
    sides = {title or "made": code for language, title, code in shown if language == "python"}
    ours: dict = {}
    exec(sides["made"] + sides["ours"], ours)  # noqa: S102 - our own documentation
    assert max(len(sides[side].strip().splitlines()) for side in ("ours", "theirs")) <= 12
    pytest.importorskip(package, reason=f"needs {package}: make test installs it")
    theirs: dict = {}
    exec(sides["made"] + sides["theirs"], theirs)  # noqa: S102
    if name == "tensorboard":
        first = ours["recorder"].table("numbers").query("instrument == 'gradient_norm' and quantity == 'value'")
        assert list(first["step"]) == [1, 2, 3, 4]
        for one, other in zip(ours["model"].parameters(), theirs["model"].parameters(), strict=True):
            assert torch.equal(one, other)  # both trained the same
        return
    found = np.sort(np.asarray(theirs["eigenvalues"]))
    np.testing.assert_allclose(np.sort(np.asarray(ours["eigenvalues"])), found, rtol=1e-4)
    trace = theirs["trace"]
    assert ours["trace"].value == pytest.approx(float(getattr(trace, "estimate", trace)), rel=0.1)


def commands(text: str) -> list[str]:
    """Each line of the package's own command that a page shows: in a block, or alone between backquotes."""
    indented = re.findall(r"^(?:    )?(theodolite .*)$", text, re.MULTILINE)
    return [*indented, *re.findall(r"`(theodolite [a-z][^`]*)`", text)]


SHOWN = {
    line: path.relative_to(ROOT)
    for path in [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
    if "decisions" not in path.parts and path.name != "robustness.md"  # which shows wrong use, too
    for line in commands(path.read_text(encoding="utf-8"))
}


def test_every_command_that_a_page_shows_is_one_that_there_is():
    wrong = []
    for line, path in SHOWN.items():
        name, *rest = shlex.split(re.sub(r"\[--[^]]*\]|…| &$", "", line), comments=True)[1:]
        if name.isupper() or name.startswith("-"):  # theodolite COMMAND --help
            continue
        try:
            if rest or name not in COMMAND.commands:
                COMMAND.commands[name].make_context(name, rest)
        except typer.Exit:  # of --help
            pass
        except Exception as error:
            wrong.append(f"{path}: {line}: {error!r}")
    assert wrong == []
    assert len(SHOWN) > 60
