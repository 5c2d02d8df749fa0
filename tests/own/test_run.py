"""A study of one's own from its file to its page: numbers that are known beforehand, seeds, what is left without it."""

import json
import random
import re
import shutil
import subprocess
import sys
import textwrap
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from commands import called, finished, tables, wait_for_runs
from theodolite import execute, survey
from theodolite.code import sources
from theodolite.errors import CodeFailed
from theodolite.own.worker import Here as Code
from theodolite.own.worker import Trainer
from theodolite.serve.folder import Folder
from theodolite.specs import CodeSpec
from theodolite.store import records
from theodolite.store.remote import workspace
from tiny import Here

HEAD = "import theodolite as th\nstudy = th.study('own', question='Is it so?', seeds=4)\n"
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


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with a survey of the two arms, whose file is gone, with curves and something nasty in its source."""
    home = tmp_path_factory.mktemp("made")
    rows = """import pandas as pd
        rows = pd.DataFrame({"epoch": [0, 1], "loss": [2.0, seed]})
        return {"curve": rows, "height\""""
    body = TWO_ARMS.replace('return {"height"', rows) + "\n    # a mark </code><script>alert(1)</script>\n"
    path = home / "file.py"
    path.write_text(HEAD + textwrap.dedent(body))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(execute, "engine", lambda *_, **__: nullcontext(Here()))
        done = called("run", str(path), "--out", str(home / "r"))
    assert done.returncode == 0, done.stderr
    path.unlink()
    return home / "r"


@pytest.fixture
def folder(made, tmp_path):
    """A copy of it."""
    return shutil.copytree(made, tmp_path / "r")


def test_claims_come_out_as_the_numbers_say_and_within_each_level_that_they_do_not_name(folder):
    found = verdicts(folder)
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


def test_quantities_may_be_called_as_our_own_columns_are(write, run, tmp_path):
    path = write("""
        @study.run(a=[1, 2])
        def go(seed, a):
            return {"number": a + 0.1 * seed, "quantity": 3.0, "entry": 0.0}

        study.claim("c", "Is so.", value="metrics.number", compare={"a": (2, 1)}, above=0)
    """)
    done = run(path)
    assert done.returncode == 0, done.stdout + done.stderr
    means = pd.read_csv(next(tmp_path.glob("r/*/tables/numbers.csv")))
    assert set(means["quantity"]) == {"metrics.number", "metrics.quantity", "metrics.entry"}


def test_no_reader_needs_the_file_or_runs_one_that_lies_in_or_beside_the_folder(folder, monkeypatch):
    mark = folder / "ran"
    trap = f"import pathlib; pathlib.Path({str(mark)!r}).touch()\n"
    for place in (folder, folder / "own", folder.parent):
        for name in ("file.py", "__init__.py", "own.py", "pandas.py"):
            (place / name).write_text(trap)
    monkeypatch.chdir(folder)
    before = {p: p.read_bytes() for p in folder.rglob("*") if p.suffix in (".json", ".csv", ".html", ".md")}
    for command in ("report", "claims", "status"):
        done = called(command, ".")
        assert done.returncode == 0, done.stderr
        assert "own" in done.stdout
    assert [part.study.name for part in Folder(Path()).look().parts] == ["own"]
    assert not mark.exists()
    assert [str(p) for p in before if before[p] != p.read_bytes()] == []


def test_the_page_has_curves_a_figure_a_claim_all_numbers_verdicts_and_the_source(folder):
    own = folder / "own"
    assert {p.stem for p in (own / "figures").glob("*.png")} == {
        "curves-curve-loss", "claim-four-fold", "claim-low", "claim-apart", "claim-by-hand",
    }  # fmt: skip
    numbers = pd.read_csv(own / "tables/runs.csv")
    assert len(numbers) == 16
    assert numbers.query("stride == 2 and width == 3 and seed == 2")["metrics.height"].item() == pytest.approx(7.2)
    means = pd.read_csv(own / "tables/numbers.csv")
    assert means.query("stride == 0.5 and width == 1")["mean"].item() == pytest.approx(0.5 * 1.15)
    page = (folder / "report.html").read_text()
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
            data = torch.full((4, 1), scale), torch.zeros(4, 1)
            return th.Trained(model, loss=loss, data=data, metrics={"s": scale})

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


def test_a_survey_stopped_midway_shows_what_there_is(folder):
    for status in sorted((folder / "own/runs").glob("*/status.json"))[:3]:
        status.unlink()
    (row,) = survey.status(folder)
    assert (row["runs"], row["done"], row["left"]) == (16, 13, 3)
    found = {verdict.id: verdict for verdict in survey.verdicts(folder)}
    assert "saw other runs" in found["by-hand"].note


def test_a_node_that_does_not_see_the_file_runs_what_came_along():
    texts = {
        "far.py": f"{HEAD}from near import twice\n@study.run(a=[3])\ndef go(seed, a): return {{'x': twice(a)}}\n",
        "near.py": "def twice(x): return 2 * x\n",
    }
    here = Code(Path("/nowhere/far.py"), "own", sources.code(texts), texts)
    made = Trainer(here)(CodeSpec(study="own", labels={"a": 3}, seed=0, code=here.code))
    assert made.tables["metrics"]["x"].tolist() == [6]


def test_a_file_that_changes_while_its_runs_are_under_way_fails_them(write):
    path = write("@study.run()\ndef go(seed): return {'x': 1}\n")
    here = Code(path, "own", "0" * 16, {path.name: path.read_text()})
    with pytest.raises(CodeFailed, match="has changed since"):
        Trainer(here)(CodeSpec(study="own", labels={}, seed=0, code="0" * 16))


def test_what_python_began_and_a_kill_ended_theodolite_run_goes_on_with(write, run, tmp_path):
    path = write(f"""
        import time
        import numpy as np

        @study.run(a=[1, 2])
        def go(seed, a):
            time.sleep(0.2)
            with open({str(tmp_path / "log")!r}, "a") as log:
                log.write(f"{{seed}} {{a}}\\n")
            return {{"x": a * np.random.rand()}}

        study.claim("c", "Is so.", value="metrics.x", compare={{"a": (2, 1)}}, above=0)
        if __name__ == "__main__":
            study.main()
    """)
    with subprocess.Popen(
        [sys.executable, str(path), "--jobs", "1", "--out", str(tmp_path / "r")], stdout=subprocess.DEVNULL
    ) as first:
        wait_for_runs(tmp_path / "r", "done", 2)
        first.kill()
    kept = finished(tmp_path / "r")
    assert 2 <= len(kept) < 8
    assert run(path).returncode == 0
    assert kept.items() <= finished(tmp_path / "r").items()
    calls = (tmp_path / "log").read_text().split("\n")[:-1]
    assert len(set(calls)) == 8
    assert len(calls) <= 9, "none twice, but for the one that was under way"
    undisturbed = called("run", str(path), "--out", str(tmp_path / "undisturbed"))
    assert undisturbed.returncode == 0, undisturbed.stderr
    assert set(finished(tmp_path / "undisturbed")) == set(finished(tmp_path / "r"))
    assert tables(tmp_path / "undisturbed") == tables(tmp_path / "r")


def test_a_claim_that_was_changed_after_the_first_run_is_said_to_be(write, run, tmp_path):
    fixed = """
        @study.run(a=[1, 2])
        def go(seed, a):
            return {"x": seed * a, "y": seed}
        study.claim("c", "So.", value="metrics.x", above=0)
        study.claim("d", "So.", above=0, evidence=lambda r: r.table("metrics").groupby("seed")["x"].sum())
    """
    run(write(fixed))
    assert [verdict.changed for verdict in survey.verdicts(tmp_path / "r")] == [False, False]
    for number, new in enumerate((fixed.replace("metrics.x", "metrics.y"), fixed.replace(".sum()", ".max()"))):
        assert run(write(new), "--keep").returncode == 0
        assert [verdict.changed for verdict in survey.verdicts(tmp_path / "r")] == [number == 0, number == 1]


def test_a_function_of_a_claim_has_the_same_hash_in_every_process_and_however_it_is_run(write):
    body = """
        @study.run()
        def go(seed): return {"x": seed}
        def last(records): return records.table("metrics").set_index("seed")["x"]
        study.claim("c", "So.", above=0, evidence=last)
        print(study.claims["c"].made_by)
    """
    path = write(body)
    script = f"from theodolite.own import loading; loading.load({str(path)!r})"
    ways = [[str(path)], ["-c", script]]
    said = {subprocess.run([sys.executable, *way], capture_output=True, text=True, check=True).stdout for way in ways}
    assert len(said) == 1
    assert re.fullmatch("[0-9a-f]{16}\n", said.pop())


def test_levels_are_set_from_the_command_and_claims_are_taken_at_those(write, run, tmp_path):
    done = run(write(TWO_ARMS), "--set", "width=[1,4]", "--set", "stride=[2.0,0.5]")
    assert done.returncode == 0, done.stderr
    found = verdicts(tmp_path / "r")
    assert [part["name"] for part in found["low"]["parts"]] == [
        "stride 2, width 1", "stride 2, width 4", "stride 0.5, width 1", "stride 0.5, width 4",
    ]  # fmt: skip
    assert found["low"]["parts"][1]["estimate"] == pytest.approx(np.mean([8 * (1 + n / 10) for n in range(4)]))
    assert called("report", str(tmp_path / "r")).returncode == 0
    assert "width 4" in (tmp_path / "r/report.html").read_text()


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("stride=[3.0]", "there is no level of stride '2'. Known: 3."),
        ("widht=3", "there is no setting 'widht'. Did you mean 'width'?"),
        ("width=[3,3.0]", "which both print as 3"),
        ('width=[{"a":1}]', "expected levels that are numbers, text"),
    ],
)
def test_levels_that_cannot_be_are_refused_before_anything_runs(write, run, tmp_path, setting, told):
    done = run(write(TWO_ARMS), "--set", setting)
    assert done.returncode == 2
    assert told in " ".join(done.stderr.split())
    assert not (tmp_path / "r").exists()


def test_a_plan_is_the_same_as_before_levels_could_be_set_unless_they_are(write, tmp_path):
    path = str(write(TWO_ARMS))
    (item,) = survey.prepare([path], "quick")
    assert item.plan("").settings == {"seeds": 4}
    (item,) = survey.prepare([path], "quick", overrides=["width=3"])
    assert item.plan("").settings == {"seeds": 4, "width": 3}
    assert {spec.labels["width"] for spec in item.runs} == {3}


def test_factors_may_have_names_that_settings_cannot(write, run, tmp_path):
    path = write("""
        @study.run(copy=[1], model_size=[2], data_seeds=[3], _hidden=[4], level=[10**16])
        def go(seed, copy, model_size, data_seeds, _hidden, level):
            return {"x": seed + copy + model_size + data_seeds + _hidden}
    """)
    assert run(path, "--set", "model_size=5").returncode == 0
    found = records.read(tmp_path / "r", "own").table("metrics")
    assert sorted(found["x"] - found["seed"]) == [13] * 4
    assert "there is no setting 'copy'" in " ".join(run(path, "--set", "copy=5").stderr.split())


def test_levels_that_text_cannot_name_are_those_of_the_file(write, run, tmp_path):
    path = write("""
        @study.run(kind=[list, dict])
        def go(seed, kind):
            return {"x": len(kind()) + seed}
    """)
    assert run(path, "--set", "kind=dict").returncode == 0
    assert {run["labels"]["kind"] for run in json.loads((tmp_path / "r/own/plan.json").read_text())["runs"]} == {"dict"}
    assert "expected levels of 'kind' that its file has, list, dict, got set" in " ".join(
        run(path, "--set", "kind=set").stderr.split()
    )


def test_a_claim_has_a_title_and_sentences_of_its_own_also_where_its_file_is_gone(write, run, tmp_path):
    path = write("""
        @study.run()
        def go(seed):
            return {"x": 2 + seed / 10}

        study.claim("c", "It is above one.", value="metrics.x", above=1.0,
                    words=th.claims.Words("Above one", holds="It is {estimate:.2f} of {seeds} seeds."))
    """)
    assert run(path).returncode == 0
    path.unlink()
    (found,) = survey.verdicts(tmp_path / "r")
    assert (found.title, found.finding) == ("Above one", "It is 2.15 of 4 seeds.")


def test_evidence_by_a_function_is_of_all_runs_where_a_budget_cut_the_survey(write, tmp_path, monkeypatch):
    path = write("""
        @study.run()
        def go(seed):
            return {"x": float(seed)}

        study.claim("c", "It is above a half.", above=0.5, evidence=lambda records: (
            records.table("metrics").set_index("seed")["x"]))
    """)
    monkeypatch.setattr(execute, "engine", lambda *_, **__: nullcontext(Here()))
    (item,) = survey.prepare([str(path)], "quick")
    out, ticks = tmp_path / "r", iter(range(100))
    with workspace.working(out, print) as copy:  # the clock strikes with each update: the third is too late
        for _ in survey.until_decided([item], copy, budget=5.0, clock=lambda: next(ticks)):
            pass
    done = len(records.read(out, "own").done)
    assert 0 < done < 4
    (found,) = survey.verdicts(out)
    assert found.seeds == done
    assert "other runs" not in found.note
