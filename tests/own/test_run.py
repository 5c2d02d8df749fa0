"""A study of one's own from its file to its page: numbers that are known beforehand, seeds, what is left without it."""

import json
import random
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from commands import called, finished
from theodolite import survey
from theodolite.store import records

TWO_ARMS = """
    @study.run(stride=[0.5, 2.0], width=[1, 3])
    def go(seed, stride, width):
        return {"height": stride * width * (1 + seed / 10)}

    study.claim("four-fold", "The long step is four times as high.", value="metrics.height",
                compare={"stride": (2.0, 0.5)}, how="ratio", within=(3.5, 4.5))
    study.claim("low", "It stays low.", value="metrics.height", below=3.0)
    study.claim("apart", "The difference is one and a half widths.", value="metrics.height",
                compare={"stride": (2.0, 0.5)}, above=0.0)
    study.claim("by-hand", "A function says the same.", above=3.9, evidence=lambda records: (
        records.table("metrics").query("stride == 2 and width == 3").set_index("seed")["height"]))
"""


def verdicts(folder: Path) -> dict[str, dict]:
    return {claim["id"]: claim for claim in json.loads((folder / "own/claims.json").read_text())}


def test_claims_come_out_as_the_numbers_say_and_within_each_level_that_they_do_not_name(write, run, tmp_path):
    done = run(write(TWO_ARMS))
    assert done.returncode == 0, done.stderr
    found = verdicts(tmp_path / "r")
    heights = {(s, w): np.array([s * w * (1 + n / 10) for n in range(4)]) for s in (0.5, 2.0) for w in (1, 3)}
    four = found["four-fold"]
    assert four["estimate"] == pytest.approx(4)
    assert [part["name"] for part in four["parts"]] == ["width 1", "width 3"]
    assert "All seeds gave the same number" in four["note"]
    low = {part["name"]: part["estimate"] for part in found["low"]["parts"]}
    assert low == {f"stride {s:g}, width {w}": pytest.approx(h.mean()) for (s, w), h in heights.items()}
    apart = {part["name"]: part["estimate"] for part in found["apart"]["parts"]}
    assert apart == {f"width {w}": pytest.approx((heights[2.0, w] - heights[0.5, w]).mean()) for w in (1, 3)}
    assert found["by-hand"]["estimate"] == pytest.approx(heights[2.0, 3].mean())
    assert {claim["seeds"] for claim in found.values()} == {4}


def test_everything_but_run_works_without_the_file_and_gives_the_same(write, run, tmp_path):
    path = write(TWO_ARMS)
    run(path)
    before = {p: p.read_bytes() for p in (tmp_path / "r").rglob("*") if p.suffix in (".json", ".csv", ".html", ".md")}
    path.unlink()
    for command in ("report", "claims", "status"):
        done = called(command, str(tmp_path / "r"))
        assert done.returncode == 0, done.stderr
        assert "own" in done.stdout
    after = {p: p.read_bytes() for p in before}
    assert [str(p) for p in before if before[p] != after[p]] == []


@pytest.mark.parametrize("place", ["r/file.py", "r/own/file.py", "file.py"])
def test_no_reader_runs_a_file_that_lies_in_or_beside_the_folder(write, run, tmp_path, monkeypatch, place):
    run(write(TWO_ARMS))
    mark = tmp_path / "ran"
    trap = f"import pathlib; pathlib.Path({str(mark)!r}).touch()\n"
    (tmp_path / place).write_text(trap)
    (tmp_path / "r/own/__init__.py").write_text(trap)
    monkeypatch.chdir(tmp_path / "r")
    monkeypatch.syspath_prepend(str(tmp_path / "r"))
    for command in ("report", "claims", "status"):
        assert called(command, ".").returncode == 0
    from theodolite.serve.folder import Folder

    assert [part.study.name for part in Folder(Path()).look().parts] == ["own"]
    assert not mark.exists()


def test_the_page_has_curves_a_figure_a_claim_all_numbers_verdicts_and_the_source(write, run, tmp_path):
    body = TWO_ARMS.replace('return {"height"', 'import pandas as pd\n        rows = pd.DataFrame({"epoch": [0, 1], '
                            '"loss": [2.0, seed]})\n        return {"curve": rows, "height"')  # fmt: skip
    run(write(body + "\n    # a mark </code><script>alert(1)</script>\n"), pictures=True)
    folder = tmp_path / "r/own"
    assert {p.stem for p in (folder / "figures").glob("*.png")} == {
        "curves-curve-loss", "claim-four-fold", "claim-low", "claim-apart", "claim-by-hand",
    }  # fmt: skip
    numbers = pd.read_csv(folder / "tables/runs.csv")
    assert len(numbers) == 16
    assert numbers.query("stride == 2 and width == 3 and seed == 2")["metrics.height"].item() == pytest.approx(7.2)
    means = pd.read_csv(folder / "tables/numbers.csv")
    assert means.query("stride == 0.5 and width == 1")["mean"].item() == pytest.approx(0.5 * 1.15)
    page = (tmp_path / "r/report.html").read_text()
    assert "It stays low." in page
    assert "def go(seed, stride, width)" in page
    assert "<script>alert(1)" not in page
    assert "file.py, as it was run" in page


def test_seeds_of_all_that_draws_are_set_before_each_call(write, run, tmp_path):
    run(write("""
        import random, numpy, torch
        @study.run(dtype=["float32", "float64"])
        def go(seed, dtype):
            torch.set_default_dtype(getattr(torch, dtype))  # the next run in this process starts afresh
            return {"t": torch.rand(1), "n": numpy.random.rand(), "p": random.random()}
    """))  # fmt: skip
    table = records.read(tmp_path / "r", "own").table("metrics")
    for seed in range(4):
        torch.manual_seed(seed)
        np.random.seed(seed)
        random.seed(seed)
        row = table[(table["seed"] == seed) & (table["dtype"] == "float32")].iloc[0]
        assert (row["t"], row["n"], row["p"]) == (torch.rand(1).item(), np.random.rand(), random.random())


def test_a_trained_network_is_measured_and_its_weights_are_kept(write, run, tmp_path):
    """The loss of a linear model without bias on one point, (w - t)², has the second derivative 2 w.r.t. w."""
    done = run(write("""
        import torch
        @study.run(scale=[1.0, 3.0])
        def go(seed, scale):
            model = torch.nn.Linear(1, 1, bias=False)
            loss = lambda output, target: ((output - target) ** 2).mean()
            return th.Trained(model, loss=loss, data=(torch.full((4, 1), scale), torch.zeros(4, 1)), metrics={"s": scale})

        study.measure("top", th.measure.hessian_eigenvalues, k=1)
        study.measure("own", lambda model, loss, data, power: {"norms": [1.0, data[0].sum() ** power], "n": 5}, power=2)
        study.claim("nine", "It curves nine times as much.", value="top.eigenvalues", compare={"scale": (3.0, 1.0)},
                    how="ratio", within=(8.9, 9.1))
        study.claim("sum", "The last is a square.", value="own.norms.-1", compare={"scale": (3.0, 1.0)}, above=100)
    """))  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = verdicts(tmp_path / "r")
    assert found["nine"]["estimate"] == pytest.approx(9, rel=1e-4)
    assert found["sum"]["estimate"] == pytest.approx(144 - 16)
    for folder in (tmp_path / "r/own/runs").iterdir():
        assert records.read_file(folder / "weights.safetensors")
    assert set(records.read(tmp_path / "r", "own").runs["parameters"]) == {1}


def test_the_same_command_again_calls_nothing_and_more_seeds_call_the_new_ones_alone(write, run, tmp_path):
    path = write(f"""
        @study.run(a=[1, 2])
        def go(seed, a):
            with open({str(tmp_path / "log")!r}, "a") as log:
                log.write(f"{{seed}} {{a}}\\n")
            return {{"x": seed * a}}
    """)
    run(path)
    before = finished(tmp_path / "r")
    assert run(path).returncode == 0
    assert finished(tmp_path / "r") == before
    run(path, "--seeds", "6")
    log = (tmp_path / "log").read_text().split("\n")[:-1]
    assert sorted(log) == sorted({f"{s} {a}" for s in range(6) for a in (1, 2)})
    assert len(finished(tmp_path / "r")) == 12


def test_factors_may_be_anything_that_has_a_name(write, run, tmp_path):
    run(write("""
        def double(x): return 2 * x
        @study.run(how=[double, abs], hidden=[(8, 8), None], depth=[True])
        def go(seed, how, hidden, depth):
            return {"x": how(seed) + (0 if hidden is None else sum(hidden)) + depth}
        study.claim("more", "Doubled is more.", value="metrics.x", compare={"how": (double, abs)}, above=-1)
    """))  # fmt: skip
    table = records.read(tmp_path / "r", "own").table("metrics").set_index(["how", "hidden", "seed"])["x"]
    assert table["double", "(8, 8)", 3] == 2 * 3 + 16 + 1
    assert table["abs", "None", 3] == 3 + 1
    assert [part["name"] for part in verdicts(tmp_path / "r")["more"]["parts"]] == ["hidden (8, 8)", "hidden None"]


def test_a_survey_of_ones_own_beside_one_of_ours_is_one_report(write, run, tmp_path):
    done = run(write(TWO_ARMS), "simulate-function", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert re.search(r"own +16 +0 +16", done.stdout)


def test_a_survey_stopped_midway_shows_what_there_is(write, run, tmp_path):
    path = write(TWO_ARMS)
    run(path)
    for status in sorted((tmp_path / "r/own/runs").glob("*/status.json"))[:3]:
        status.unlink()
    (row,) = survey.status(tmp_path / "r")
    assert (row["runs"], row["done"], row["left"]) == (16, 13, 3)
    found = {verdict.id: verdict for verdict in survey.verdicts(tmp_path / "r")}
    assert "saw other runs" in found["by-hand"].note
