"""Tables and figures of recordings: which there are, and the numbers in them, against those that were put in."""

import io
import json

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats
from torch import nn
from typer.testing import CliRunner

import theodolite as th
from theodolite import cli, report, survey
from theodolite.errors import StoreError
from theodolite.figures.theme import specification
from theodolite.record import RecorderWarning
from theodolite.recordings import findings as recorder
from theodolite.recordings import paths as recorded_paths
from theodolite.report import text
from theodolite.store import records

LOSS = nn.MSELoss()


def step(recorder_, model, number):
    recorder_.step(model, LOSS, (torch.eye(2), torch.ones(2, 1)), number=number)


def record(out, made, steps=(1, 2, 4), **options):
    """One recording whose instruments return what ``made`` maps (step) to."""
    at = {"step": 0}
    functions = {name: lambda model, loss, data, f=f: f(at["step"]) for name, f in made.items()}
    with th.Recorder(functions, every=1, out=out, **options) as found:
        for number in steps:
            at["step"] = number
            step(found, nn.Linear(2, 1), number)
    return found


def drawn(figure):
    """The rows of the lines that a figure draws."""
    frames = [pd.read_csv(io.StringIO(text)) for text in specification(figure.chart)["datasets"].values()]
    return next(frame for frame in frames if {"series", "x", "y", "low", "high", "seeds"} <= set(frame.columns))


def scales(figure):
    """The kind of scale of each axis of a figure with one panel."""
    encoding = next(part["encoding"] for part in specification(figure.chart)["layer"] if part["mark"]["type"] == "line")
    return {axis: encoding[axis]["scale"].get("type", "linear") for axis in ("x", "y")}


def found(out):
    return {figure.name: figure for figure in survey.findings(out)[0].figures}


def test_seeds_make_a_band_around_their_median(tmp_path):
    for seed in range(3):
        record(tmp_path / "own", {"height": lambda at, seed=seed: float(at + 10 * seed)}, seed=seed)
    line = drawn(found(tmp_path / "own")["height"]).set_index("x")
    assert line["y"].to_dict() == {1: 11.0, 2: 12.0, 4: 14.0}
    assert line.loc[1, "low"] == pytest.approx(3.0)  # 10 % between 1, 11 and 21
    assert set(line["seeds"]) == {3}


def test_labels_make_lines_of_their_own(tmp_path):
    for name, height in (("SGD", 1.0), ("Adam", 2.0)):
        record(tmp_path / "own", {"height": lambda at, h=height: h * at}, labels={"optimizer": name})
    line = drawn(found(tmp_path / "own")["height"])
    last = line[line["x"] == 4].set_index("series")["y"]
    assert last.to_dict() == {"optimizer SGD": 4.0, "optimizer Adam": 8.0}


@pytest.mark.parametrize(
    ("height", "steps", "expected"),
    [
        (float, range(1, 11), {"x": "linear", "y": "linear"}),
        (lambda at: 10.0**-at, range(1, 11), {"x": "linear", "y": "log"}),
        (lambda at: 10.0**-at - 1e-3, range(1, 11), {"x": "linear", "y": "linear"}),  # goes below zero
        (lambda at: 1.0, [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000], {"x": "log", "y": "linear"}),
    ],
)
def test_an_axis_is_logarithmic_where_its_numbers_span_much(tmp_path, height, steps, expected):
    record(tmp_path / "own", {"height": height}, steps=steps)
    assert scales(found(tmp_path / "own")["height"]) == expected


def test_short_vectors_are_drawn_entry_by_entry_the_largest_first(tmp_path):
    record(tmp_path / "own", {"top": lambda at: {"eigenvalues": [1.0 * at, 5.0 * at, 3.0 * at]}})
    line = drawn(found(tmp_path / "own")["top-eigenvalues-lines"])
    assert line[line["x"] == 2].set_index("series")["y"].to_dict() == {"largest": 10.0, "2nd": 6.0, "3rd": 2.0}


def test_long_vectors_are_drawn_by_their_quantiles(tmp_path):
    record(tmp_path / "own", {"all": lambda at: {"eigenvalues": np.arange(101.0) * at}})
    line = drawn(found(tmp_path / "own")["all-eigenvalues-lines"])
    expected = {
        "largest": 200.0,
        "90 % below": 180.0,
        "median of those recorded": 100.0,
        "10 % below": 20.0,
        "smallest recorded": 0.0,
    }
    assert line[line["x"] == 2].set_index("series")["y"].to_dict() == expected


def test_ranks_are_said_to_be_among_what_was_recorded(tmp_path):
    record(tmp_path / "own", {"top": lambda at: {"eigenvalues": np.arange(10.0 + at)}})
    title = found(tmp_path / "own")["top-eigenvalues-lines"].title
    assert title == "Eigenvalue, by rank among the 11 to 14 recorded at a time"


def test_vectors_are_in_the_table_of_what_was_recorded(tmp_path):
    made = {"top": lambda at: {"eigenvalues": [5.0 * at, 1.0 * at], "residuals": [0.1, 0.1], "value": 7.0}}
    record(tmp_path / "own", made)
    table = {t.name: t.frame for t in survey.findings(tmp_path / "own")[0].tables}["recorded"].set_index("quantity")
    assert list(table.index) == ["value", "eigenvalues, largest", "eigenvalues, 2nd"]
    assert table.loc["eigenvalues, 2nd", ["measured", "first", "last", "lowest", "highest"]].tolist() == [3, 1, 4, 1, 4]


def height(model, loss, data):
    return 1.0


def trained(out, seed, *, ends_well):
    torch.manual_seed(seed)
    with th.Recorder({"height": height}, every=1, out=out, seed=seed) as recorder_:
        step(recorder_, nn.Linear(2, 1), 5)
        if not ends_well:
            raise ZeroDivisionError


def test_a_training_that_an_error_ended_is_said_to_be_wherever_it_counts_as_done(tmp_path):
    trained(tmp_path / "own", 0, ends_well=True)
    with pytest.raises(ZeroDivisionError):
        trained(tmp_path / "own", 1, ends_well=False)
    (row,) = survey.status(tmp_path / "own")
    assert list(row["ended_by"].values()) == ["ZeroDivisionError"]
    told = CliRunner().invoke(cli.app, ["status", str(tmp_path / "own")])
    assert "recorder: the training of" in told.stderr
    assert "was ended by ZeroDivisionError." in " ".join(told.stderr.split())
    page = survey.findings(tmp_path / "own")[0]
    assert "1 training was ended by an error (ZeroDivisionError)." in text.took(page)
    assert "None diverged or failed" not in text.took(page)
    table = {t.name: t.frame for t in page.tables}["trainings"]
    assert table["seed"].tolist() == [0, 1]
    assert table["ended by"].tolist() == ["", "ZeroDivisionError"]


def logged(folder, seeds, heights, **labels):
    """Recordings whose last number of each seed is given, after another one."""
    for seed, height in zip(seeds, heights, strict=True):
        torch.manual_seed(seed)
        model = nn.Linear(2, 1)
        with th.Recorder(weights="*", every=1, out=folder, seed=seed, labels=labels) as recorder:
            for value in (99.0, height):
                recorder.step(model, nn.MSELoss())
                recorder.log(height=value, pair=torch.tensor([value, value + 1]))


def test_recordings_are_compared_series_by_series(tmp_path):
    low, high = [1.0, 1.2, 0.9, 1.1, 1.0], [3.0, 3.3, 2.8, 3.1]
    logged(tmp_path / "a", range(5), low, rate=0.1)
    logged(tmp_path / "b", range(4), high, rate=0.1)
    logged(tmp_path / "b", range(4), low[:4], rate=0.2)  # of which A has none
    told = CliRunner().invoke(cli.app, ["report", "--compare", str(tmp_path / "a"), str(tmp_path / "b")])
    assert told.exit_code == 0, told.exception
    assert "3 recorded series compared; 3 differ at the end by more than chance" in " ".join(told.output.split())
    rows = {row["quantity"]: row for row in json.loads((tmp_path / "b/comparison.json").read_text())}
    row = rows["value"]
    assert (row["training"], row["instrument"], row["seeds in A"], row["seeds in B"]) == ("rate 0.1", "height", 5, 4)
    assert (row["A"], row["B"]) == (pytest.approx(np.mean(low)), pytest.approx(np.mean(high)))
    welch = stats.ttest_ind(high, low, equal_var=False).confidence_interval(0.95)
    assert row["B − A low"] < welch.low < row["B − A"] < welch.high < row["B − A high"]  # it allows for skew besides
    assert rows["value, largest"]["A"] == pytest.approx(np.mean(low) + 1)
    for name in ("comparison.html", "comparison.md"):
        page = (tmp_path / "b" / name).read_text()
        assert "more than chance" in page
        assert "Every number" not in page  # of claims, of which there are none
    same = CliRunner().invoke(
        cli.app, ["report", "--compare", *[str(tmp_path / "a")] * 2, "--out", str(tmp_path / "c")]
    )
    assert "0 differ" in " ".join(same.output.split())


def test_of_few_seeds_and_of_nothing_in_common_nothing_is_said(tmp_path):
    logged(tmp_path / "a", [0, 1], [1.0, 2.0])
    logged(tmp_path / "b", range(3), [5.0, 5.1, 5.2])
    logged(tmp_path / "c", range(3), [5.0, 5.1, 5.2], rate=1)
    done = CliRunner().invoke(cli.app, ["report", "--compare", str(tmp_path / "a"), str(tmp_path / "b")])
    assert done.exit_code == 0, done.exception
    rows = json.loads((tmp_path / "b/comparison.json").read_text())
    assert {row["differs by"] for row in rows} == {"cannot say"}
    assert (rows[0]["B − A"], rows[0]["B − A low"]) == (pytest.approx(3.6), None)
    told = CliRunner().invoke(cli.app, ["report", "--compare", str(tmp_path / "a"), str(tmp_path / "c")])
    assert told.exit_code == 2 or isinstance(told.exception, StoreError)
    assert "the same instruments with the same labels" in str(told.exception) + told.output


def test_densities_of_several_steps_share_one_grid(tmp_path):
    def bell(at):
        grid = np.linspace(-1.0, 1.0 + at, 500)
        return {"grid": grid, "density": np.exp(-(((grid - at / 2) / 0.3) ** 2))}

    record(tmp_path / "own", {"spectrum": bell})
    line = drawn(found(tmp_path / "own")["spectrum-density"])
    peaks = line.loc[line.groupby("series")["y"].idxmax()].set_index("series")["x"]
    assert peaks.to_dict() == pytest.approx({"step 1": 0.5, "step 2": 1.0, "step 4": 2.0}, abs=0.03)


def test_parts_of_a_model_are_drawn_apart(tmp_path):
    record(tmp_path / "own", {"slope": lambda at: {"norms": {"0.weight": 1.0 * at, "0.bias": 2.0 * at}}})
    line = drawn(found(tmp_path / "own")["slope-norms-lines"])
    assert line[line["x"] == 4].set_index("series")["y"].to_dict() == {"0.weight": 4.0, "0.bias": 8.0}


def walk(out, seed, dtype=torch.float32):
    model = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2)).to(dtype)
    generator = torch.Generator().manual_seed(seed)
    with th.Recorder(weights="*", every=1, out=out, seed=seed) as recorder_:
        for _ in range(8):
            with torch.no_grad():
                for p in model.parameters():
                    p.add_(torch.randn(p.shape, generator=generator, dtype=dtype))
            recorder_.step(model, LOSS)
    return list(recorder_.snapshots().values())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_plane_of_the_weights_is_that_of_the_instrument(tmp_path, dtype):
    states = [walk(tmp_path / "own", seed, dtype) for seed in range(3)]
    expected = th.measure.trajectory(states)
    path = recorded_paths.read(records.read(tmp_path / "own", "recorder"))[0]
    assert path.parameters == expected.parameters == 23
    assert path.shares == pytest.approx(expected.explained_variance.tolist(), rel=1e-6)
    own = path.walks[["component_1", "component_2"]].to_numpy().reshape(3, 8, 2)
    signs = np.sign((own * expected.coordinates).sum((0, 1)))
    np.testing.assert_allclose(own * signs, expected.coordinates, atol=1e-4)
    np.testing.assert_allclose(
        path.walks["distance_from_start"].to_numpy().reshape(3, 8), expected.distance_from_start, rtol=1e-5, atol=1e-6
    )
    np.testing.assert_allclose(
        path.walks["step_length"].to_numpy().reshape(3, 8)[:, 1:], expected.step_lengths, rtol=1e-5
    )


def test_many_snapshots_are_thinned_and_keep_their_ends(tmp_path, monkeypatch):
    walk(tmp_path / "own", 0)
    monkeypatch.setattr(recorded_paths, "MOST", 4)
    path = recorded_paths.read(records.read(tmp_path / "own", "recorder"))[0]
    assert path.walks["step"].tolist() == [1, 3, 6, 8]


def test_networks_of_different_shapes_get_planes_of_their_own(tmp_path):
    walk(tmp_path / "own", 0)
    other = nn.Linear(2, 1)
    with th.Recorder(weights="*", every=1, out=tmp_path / "own", labels={"model": "small"}) as recorder_:
        for _ in range(3):
            with torch.no_grad():
                other.weight.add_(1.0)
            recorder_.step(other, LOSS)
    names = [name for name in found(tmp_path / "own") if name.startswith("weights-plane")]
    assert names == ["weights-plane-1", "weights-plane-2"]


def test_weights_that_never_moved_draw_no_path(tmp_path):
    still = nn.Linear(2, 1)
    with th.Recorder(weights="*", every=1, out=tmp_path / "own") as recorder_:
        for _ in range(3):
            recorder_.step(still, LOSS)
    assert found(tmp_path / "own") == {}


def test_tables_hold_what_was_recorded_what_it_took_and_what_failed(tmp_path):
    def sometimes(at):
        if at == 2:
            raise RuntimeError("no luck")
        return {"value": 3.0 * at, "products": 7, "interrupted": False}

    with pytest.warns(RecorderWarning, match="no luck"):
        record(tmp_path / "own", {"height": sometimes})
    tables = {table.name: table.frame for table in survey.findings(tmp_path / "own")[0].tables}
    assert tables["recorded"].to_dict("records") == [
        {
            "instrument": "height", "quantity": "value", "seeds": 1, "measured": 2,
            "first": 3.0, "last": 12.0, "lowest": 3.0, "highest": 12.0,
        }
    ]  # fmt: skip
    costs = tables["costs"].iloc[0]
    assert costs[["asked", "measured", "left out", "failed"]].tolist() == [3, 2, 0, 1]
    assert tables["failures"].to_dict("records") == [
        {"instrument": "height", "error": "RuntimeError", "times": 1, "first at step": 2, "message": "no luck"}
    ]


def test_a_folder_may_hold_recordings_alone_and_its_report_claims_nothing(tmp_path):
    record(tmp_path / "own", {"height": float})
    assert survey.verdicts(tmp_path / "own") == []
    page = report.build(tmp_path / "own", survey.findings(tmp_path / "own"))
    text = page.read_text()
    assert "<h1>Your own trainings</h1>" in text
    assert "Verdicts</h2>" not in text
    assert (tmp_path / "own" / "recorder" / "figures" / "height.png").stat().st_size > 1_000


def test_nothing_but_failures_still_makes_a_report(tmp_path):
    with pytest.warns(RecorderWarning):
        record(tmp_path / "own", {"bad": lambda at: 1 / 0})
    tables = [table.name for table in survey.findings(tmp_path / "own")[0].tables]
    assert tables == ["trainings", "costs", "failures"]


def test_a_name_of_the_users_own_becomes_a_file_name_that_harms_nobody(tmp_path):
    record(tmp_path / "own", {"../Höhe (m) | <b>": float})
    figure = survey.findings(tmp_path / "own")[0].figures[0]
    assert figure.name == "höhe--m-----b"
    report.build(tmp_path / "own", survey.findings(tmp_path / "own"))


def test_the_study_of_recordings_is_not_one_that_can_be_run(tmp_path):
    from theodolite import studies

    assert recorder.NAME not in studies.INDEX
    assert recorder.STUDY in survey.readable(tmp_path)


def table(out, name):
    return next(table.frame for table in survey.findings(out)[0].tables if table.name == name)


def test_the_report_says_how_each_training_ended(tmp_path):
    def bad(at):
        raise KeyboardInterrupt

    record(tmp_path, {"height": float}, seed=0)
    assert "ended by" not in table(tmp_path, "trainings")
    with pytest.raises(KeyboardInterrupt):
        record(tmp_path, {"height": bad}, seed=1)
    rows = table(tmp_path, "trainings")
    assert rows["ended by"].tolist() == ["", "KeyboardInterrupt"]
    assert rows["status"].tolist() == ["done", "interrupted"]
    assert rows["steps"].tolist() == [4, 1]


def test_a_recording_that_has_nothing_yet_is_reported_as_such(tmp_path):
    recorder_ = th.Recorder("gradient_norm", every="1 epoch", out=tmp_path)
    step(recorder_, nn.Linear(2, 1), 1)
    assert table(tmp_path, "trainings")["status"].tolist() == ["running"]
    assert report.build(tmp_path, survey.findings(tmp_path)).exists()
    recorder_.close()
