"""`theodolite test`: the numbers of a file, against the same numbers given to th.claims."""

import json

import numpy as np
import pytest

from commands import called
from theodolite import claims

GENERATOR = np.random.default_rng(1)
FLAT, SHARP = GENERATOR.normal(1.0, 0.1, 8), GENERATOR.normal(2.0, 0.2, 8)


@pytest.fixture
def table(tmp_path):
    rows = [
        f"{seed},{arm},{value!r}"
        for arm, side in (("0.01", FLAT), ("0", SHARP))
        for seed, value in enumerate(side.tolist())
    ]
    path = tmp_path / "table.csv"
    path.write_text("seed, decay, top\n" + "\n".join(rows) + "\n")
    return path


def asked(path, *more):
    return called("test", str(path), "--value", "top", "--seed", "seed", *more)


def test_two_arms_are_compared_as_compare_does(table):
    done = asked(table, "--arms", "decay=0.01,0", "--how", "ratio", "--below", "1", "--json")
    expected = claims.compare(dict(enumerate(FLAT)), dict(enumerate(SHARP)), how="ratio", below=1.0)
    found = json.loads(done.stdout)
    assert (found["verdict"], found["seeds"]) == ("holds", 8)
    assert found["interval"] == pytest.approx(expected.interval)
    assert found["p_value"] == pytest.approx(expected.p_value)


def test_one_column_is_tested_as_test_does_and_shown_as_a_table(tmp_path):
    path = tmp_path / "one.csv"
    path.write_text("seed,top\n" + "".join(f"{seed},{value!r}\n" for seed, value in enumerate(FLAT.tolist())))
    assert asked(path, "--within", "0.5,1.5").stdout.strip() == str(claims.test(FLAT, within=(0.5, 1.5)))


ROWS = "seed,top\n0,1.5\n1,1.4\n2,1.6\n"


@pytest.mark.parametrize(
    ("content", "more", "said"),
    [
        (ROWS.replace("top", "bottom"), [], "no column 'top'"),
        (ROWS.replace("1.4", "fast"), [], "got 'fast' in line 3"),
        (ROWS.replace("1.4", ""), [], "got '' in line 3"),
        (ROWS.replace("1.4", "nan"), [], "got 'nan' in line 3"),
        (ROWS.replace("1.4", "inf"), [], "got 'inf' in line 3"),
        (ROWS.replace("2,", "1,"), [], "got seed 1 more than once"),
        (ROWS.replace("2,", ","), [], "expected a seed in every row, got none in line 4"),
        ("seed,top\n0,1.5\n1,1.4\n", [], "expected 3 seeds or more, got 2 seeds"),
        ("", [], "expected a CSV file with a line of column names"),
        (None, [], "expected a CSV file with a line of column names"),
        ("seed;top\n0;1,5\n1;1,4\n2;1,6\n", [], "columns are separated by ';': save it with commas and"),
        ("seed,top\n0,1,5\n1,1,4\n2,1,6\n", [], "line 2 has 3 values for 2 column names"),  # decimal commas
        (ROWS, ["--arms", "decay"], "expected --arms COLUMN=A,B"),
        (ROWS, ["--arms", "decay=1,1"], "expected --arms COLUMN=A,B"),
        (ROWS, ["--arms", "decay=0,1"], "no column 'decay'"),
        (ROWS, ["--arms", "seed=0,7"], "no arm '7'"),
        (ROWS, ["--how", "ratio"], "expected --arms COLUMN=A,B with --how"),
        (ROWS, ["--below", "2"], "got above and below"),
        (ROWS, ["--statistic", "mode"], "no statistic 'mode'"),
        (ROWS, ["--level", "95"], "expected a level"),
    ],
)  # fmt: skip
def test_bad_input_ends_in_one_sentence(tmp_path, content, more, said):
    path = tmp_path / "table.csv"
    if content is not None:
        path.write_text(content)
    done = asked(path, "--above", "1", *more)
    assert done.returncode == 2
    assert said in " ".join(done.stderr.split())
    assert done.stdout == ""


def test_a_margin_that_is_none_is_refused(table):
    done = asked(table, "--arms", "decay=0.01,0", "--within", "1")
    assert "expected --within LOW,HIGH, got '1'" in " ".join(done.stderr.split())


def test_independent_arms_say_rough_of_a_median_of_few_seeds_which_may_be_of_one_group_of_two():
    few, arms = ([9.0, 9.2, 8.9, 9.1], [0.1, 0.0, 0.2, 0.15]), {"paired": False, "above": 0.0}
    median, mean = (claims.compare(*few, statistic=statistic, **arms) for statistic in ("median", "mean"))
    assert (median.verdict, median.rough, mean.verdict, mean.rough) == ("holds", True, "holds", False)
    assert "Rough" in median.note
