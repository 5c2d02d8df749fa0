"""What goes wrong in a file of the user's own is one sentence, and nothing that is finished is lost."""

import re

import pytest
from pydantic import ValidationError

from commands import called, finished
from theodolite import survey
from theodolite.errors import UnknownName
from theodolite.own import file
from theodolite.own.described import Description
from theodolite.store import records

RUN = "\n@study.run(a=[1, 2])\ndef go(seed, a):\n    return {'x': seed * a}\n"
CLAIM = RUN + "study.claim('c', 'Is so.', value='metrics.x', "

FILES = {
    "no import": ("import nothing_like_it\n", "ModuleNotFoundError in line 3 of file.py"),
    "no Python": ("def f(:\n", "line 3 is no Python"),
    "no run": ("", "expected a function under @study.run"),
    "two runs": (RUN + RUN, r"line 6: expected one @study.run in 'own'|expected one @study.run in 'own'"),
    "two studies": (
        RUN + "other = th.study('other')\n",
        "expected one study in file.py, got own, other. Name one: file.py:own",
    ),
    "other arguments": ("@study.run(a=[1])\ndef go(seed, b): pass\n", r"expected go\(seed, a\), got no 'a'"),
    "one more argument": ("@study.run()\ndef go(seed, b): pass\n", "got 'b', which is no factor"),
    "a generator": ("@study.run()\ndef go(seed): yield 1\n", "got one that yields"),
    "an object": ("@study.run(a=[object()])\ndef go(seed, a): pass\n", "got object: it has no name that is the same"),
    "a lambda": ("@study.run(a=[lambda: 1])\ndef go(seed, a): pass\n", "got function: it has no name"),
    "alike": ("@study.run(a=[0.1 + 0.2, 0.3])\ndef go(seed, a): pass\n", "which both print as 0.3"),
    "one and True": ("@study.run(a=[1, 1.0])\ndef go(seed, a): pass\n", "which both print as 1"),
    "no list": (
        "@study.run(a=3)\ndef go(seed, a): pass\n",
        r"expected a list of levels for the factor 'a', got 3. Write \[3\]",
    ),
    "a taken factor": ("@study.run(epoch=[3])\ndef go(seed, epoch): pass\n", "got 'epoch'. Rename it"),
    "NaN": ("@study.run(a=[float('nan')])\ndef go(seed, a): pass\n", "levels that are finite, got nan"),
    "no threshold": (CLAIM + ")\n", "line 7: expected one of above=, below= and within=, got none"),
    "no factor": (CLAIM + "compare={'b': (1, 2)}, above=0)\n", "line 7: there is no factor 'b'. Known: a."),
    "no level": (CLAIM + "compare={'a': (1, 3)}, above=0)\n", "there is no level of a '3'.* Known: 1, 2."),
    "one level": (CLAIM + "compare={'a': (1, 1)}, above=0)\n", "got 1 twice"),
    "no pair": (CLAIM + "compare={'a': 1}, above=0)\n", "expected two levels of 'a' to compare in claim 'c', got 1"),
    "no way": (CLAIM + "compare={'a': (1, 2)}, how='quotient', above=0)\n", "got 'quotient' and 'mean'"),
    "no kind": (CLAIM + "statistic='means', above=0)\n", "there is no statistic 'means'. Did you mean 'mean'?"),
    "no dot": (RUN + "study.claim('c', '', value='x', above=0)\n", "For example: 'metrics.x'"),
    "nothing": (RUN + "study.claim('c', '', above=0)\n", "expected value= or evidence= in claim 'c', got none"),
    "twice": (CLAIM + "above=0)\n" + CLAIM[len(RUN) :] + "above=1)\n", "expected a name of its own for a claim"),
    "above run": (
        "study.claim('c', '', value='m.x', compare={'a': (1, 2)}, above=0)\n",
        "expected @study.run above claim",
    ),
    "no field": (
        RUN + "study.measure('top', th.measure.hessian_eigenvalues)\n"
        "study.claim('c', '', value='top.eigenvalue', above=0)\n",
        "there is no field of 'top', which claim 'c' names, 'eigenvalue'. Did you mean 'eigenvalues'?",
    ),
    "no measure": (RUN + "study.measure('top', 3)\n", "expected a function to measure 'top' with, got int"),
    "a measure's name": (RUN + "study.measure('metrics', abs)\n", "got 'metrics'"),
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_cannot_run_is_refused_in_one_sentence_and_leaves_no_folder(write, run, tmp_path, name):
    body, told = FILES[name]
    done = run(write(body))
    assert done.returncode == 2, done.stdout
    assert re.search(told, " ".join(done.stderr.split())), done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize(
    ("head", "told"),
    [
        ("study = th.study('sensitivity')", "got 'sensitivity', which Theodolite has"),
        ("study = th.study('a/b')", "expected a study's name of letters, digits, - and _, got 'a/b'"),
        ("study = th.study('a', seeds=0)", "expected seeds as a whole number from 1 on, got 0"),
        ("x = 1", "expected a study in file.py, got none"),
    ],
)
def test_a_study_that_is_none_is_refused(write, run, head, told):
    done = run(write("", head=f"import theodolite as th\n{head}\n"))
    assert told in " ".join(done.stderr.split())


def test_a_file_or_study_that_is_not_there_is_said(write, run, tmp_path):
    assert "there is no file" in run(tmp_path / "none.py").stderr
    done = run(f"{write(RUN)}:owm")
    assert "there is no study in file.py 'owm'. Did you mean 'own'?" in " ".join(done.stderr.split())
    assert run(f"{tmp_path}/file.py:own", "--seeds", "1").returncode == 0
    assert run(f"{tmp_path}/file.py:study", "--seeds", "1").returncode == 0


def test_two_files_with_one_name_are_refused(write, run):
    first, second = write(RUN), write(RUN, "second.py")
    assert "expected each study once, got 'own' from two files" in " ".join(run(first, str(second)).stderr.split())


RETURNS = {
    "raise ValueError('too hot')": r"go\(seed 1, a LEVEL\) failed in line LINE of file.py: ValueError: too hot",
    "raise SystemExit(3)": r"go\(seed 1, a LEVEL\) failed in line LINE of file.py: SystemExit: 3",
    "return None": "expected go.* to return th.Trained.*, got nothing",
    "return {}": "got an empty dict",
    "return 3.0": "got float. For example: return",
    "return {'x': 'high'}": "expected 'x' of go.* as a number or a DataFrame, got str",
    "return {'x': [1, 2]}": "got list. Several numbers are a DataFrame with a row each",
    "return {'x': object()}": "as a number or a DataFrame, got object",
    "return {1: 2.0}": "expected names as text",
    "return {'a': 2.0}": "without the columns of its run, got 'a'. Rename it",
    "return th.Trained(3)": "with a torch.nn.Module, got int",
    "import pandas; return {'x': 0, 't': pandas.DataFrame({'c': ['text']})}": "expected 'c' of 't' as numbers, as "
    "another run",
    "import pandas; return {'x': 0, 't': pandas.DataFrame({'c': [print]})}": "expected column 'c' of 't' .* as "
    "numbers or text",
    "import pandas; return {'x': 0, 't': pandas.DataFrame([[1, 2]])}": "expected columns of 't' .* names of their own",
    "import pandas; return {'x': 0, '../t': pandas.DataFrame({'c': [1]})}": "expected a table's name of letters",
}


def test_runs_that_go_wrong_fail_alone_with_their_reasons_and_the_rest_goes_on(write, run, tmp_path):
    wrong = dict(enumerate(RETURNS, start=1))  # each at a level of its own
    lines = "\n".join(f"    if (seed, a) == (1, {level}): {code}" for level, code in wrong.items())
    path = write(f"""
import pandas as pd
@study.run(a=list(range(1, {len(wrong) + 2})))
def go(seed, a):
{lines}
    return {{'x': seed * a, 't': pd.DataFrame({{'c': [0.5]}})}}
study.claim('c', 'Is so.', value='metrics.x', above=-1)
""")
    done = run(path, "--seeds", "3")
    assert done.returncode == 1, done.stderr
    (row,) = survey.status(tmp_path / "r")
    assert (row["done"], row["failed"]) == (3 * (len(wrong) + 1) - len(wrong), len(wrong))
    failed = records.read(tmp_path / "r", "own").runs.query("status == 'failed'").set_index("a")["error"]
    first = path.read_text().splitlines().index("def go(seed, a):") + 1
    for level, code in wrong.items():
        told = RETURNS[code].replace("LEVEL", str(level)).replace("LINE", str(first + level))
        assert re.search(told, failed[level]), failed[level]
    (verdict,) = survey.verdicts(tmp_path / "r")
    assert {part.name: part.seeds for part in verdict.parts} == {f"a {a}": 3 for a in range(1, len(wrong) + 2)}
    assert verdict.verdict == "undecided", "a seed without a number is taken at its worst"
    assert "1 of 3 seeds gave no number" in verdict.note


@pytest.mark.parametrize("number", ["float('nan')", "float('inf')"])
def test_a_number_that_is_none_is_taken_at_its_worst(write, run, tmp_path, number):
    run(write(f"""
        @study.run()
        def go(seed):
            return {{'x': {number} if seed == 2 else seed, 'other': float(seed)}}
        study.claim('c', 'Is so.', value='metrics.x', below=100)
        study.claim('middle', 'Is so.', value='metrics.x', statistic='median', below=100)
    """), "--seeds", "9")  # fmt: skip
    mean, median = survey.verdicts(tmp_path / "r")
    assert mean.verdict == "undecided"
    assert "1 of 9 seeds gave no number" in mean.note
    assert median.verdict == "holds", "the median stands whatever that one number is"


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("metrics.y", "There is no 'y' in 'metrics'. Known: x."),
        ("metric.x", "No run has a 'metric'. Did you mean 'metrics'?"),
        ("t.c", "'t.c' has 2 numbers a run. Say which: 't.c.0', or .-1 for the last."),
        ("t.words.0", "'t.words.0' is text."),
    ],
)
def test_a_claim_of_what_is_not_there_says_so_and_the_others_are_judged(write, run, tmp_path, value, told):
    done = run(write(f"""
        import pandas as pd
        @study.run()
        def go(seed):
            return {{'x': seed, 't': pd.DataFrame({{'c': [1, seed], 'words': ['a', 'b']}})}}
        study.claim('wrong', 'Is so.', value={value!r}, above=-50)
        study.claim('right', 'Is so.', value='t.c.-1', above=-50)
    """))  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert f"claim 'wrong' has no numbers. {told}" in " ".join((done.stdout + done.stderr).split())
    wrong, right = survey.verdicts(tmp_path / "r")
    assert wrong.verdict == "undecided"
    assert told in wrong.note
    assert right.verdict == "holds"
    assert right.estimate == 1.5


def test_numbers_outside_the_range_of_a_statistic_are_said(write, run, tmp_path):
    run(write("""
        @study.run(a=[1, 2])
        def go(seed, a):
            return {'x': (seed - 1) * a}
        study.claim('ratio', 'Is so.', value='metrics.x', compare={'a': (2, 1)}, how='ratio', above=1)
        study.claim('share', 'Is so.', value='metrics.x', statistic='share', above=0.5)
    """))  # fmt: skip
    ratio, share = survey.verdicts(tmp_path / "r")
    assert "Expected numbers above 0, got -" in ratio.note
    assert "Expected numbers 0 or 1, got -" in share.note
    assert {ratio.verdict, share.verdict} == {"undecided"}


def test_evidence_that_raises_is_said_and_the_rest_is_there(write, run, tmp_path):
    done = run(write(RUN + """
study.claim('odd', 'Is so.', above=0, evidence=lambda records: records.table('nothing')['x'])
study.claim('two', 'Is so.', above=-1, evidence=lambda records: records.table('metrics').groupby('seed')['x'].sum())
"""))  # fmt: skip
    assert done.returncode == 0
    odd, two = survey.verdicts(tmp_path / "r")
    assert "The function of claim 'odd' gave no evidence (KeyError: 'x' in line" in odd.note
    assert (two.seeds, two.estimate) == (4, 4.5)


def test_a_function_that_ignores_its_seed_is_found_out(write, run, tmp_path):
    done = run(write("""
        @study.run(a=[1, 2])
        def go(seed, a):
            return {'x': a if a == 1 else seed}
    """))  # fmt: skip
    told = "every seed gave the same numbers (a 1). Does the function use its seed?"
    assert told in " ".join((done.stdout + done.stderr).split())
    assert "The same for every seed: a 1." in (tmp_path / "r/report.md").read_text()


def test_a_measurement_that_raises_or_has_no_network_fails_its_run_and_says_which(write, run, tmp_path):
    run(write("""
        import torch
        @study.run(a=[1, 2])
        def go(seed, a):
            return {'x': a} if a == 1 else th.Trained(torch.nn.Linear(1, 1))
        study.measure('top', lambda model, loss, data: loss(model(data)))
    """), "--seeds", "1")  # fmt: skip
    (row,) = survey.status(tmp_path / "r")
    told = sorted(row["errors"].values())
    assert told[0].startswith(
        "expected go(seed 0, a 1) to return th.Trained(model, …), since 'top' is measured, got dict"
    )
    assert re.match(r"the measurement 'top' of go\(seed 0, a 2\) failed in line 8 of file.py: TypeError", told[1])


def test_what_failed_is_tried_again_when_it_is_mended(write, run, tmp_path):
    bad = RUN.replace("return", "assert a == 1 or seed < 2; return")
    assert run(write(bad)).returncode == 1
    assert len(finished(tmp_path / "r")) == 6
    before = finished(tmp_path / "r")
    assert run(write(RUN), "--keep").returncode == 0
    assert before.items() <= finished(tmp_path / "r").items()
    assert len(records.read(tmp_path / "r", "own").done) == 8


def test_a_description_that_was_altered_is_named(write, run, tmp_path):
    run(write(RUN))
    path = tmp_path / "r/own/study.json"
    path.write_text(path.read_text().replace("Is it so?", "Is it no?"))
    done = called("claims", str(tmp_path / "r"))
    assert done.returncode == 2
    assert "study.json cannot be read" in " ".join(done.stderr.split())
    assert run(tmp_path / "file.py").returncode == 0, "running the file again mends it"


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("name",), "../own"),
        (("measures",), ["../../top"]),
        (("claims", 0, "value"), "/etc/passwd.x"),
        (("claims", 0, "value"), "../x.y"),
        (("claims", 0, "id"), "a/b"),
        (("claims", 0, "threshold"), [1, 0]),
        (("claims", 0, "threshold"), "nan"),
        (("claims", 0, "kind"), "code"),
        (("claims", 0, "compare"), {"a": [1]}),
        (("factors",), {"a": [[1]]}),
        (("run",), "import os"),
    ],
)
def test_a_description_from_others_holds_nothing_but_what_it_may(write, place, value):
    """Names that lead out of the folder above all: they would become names of files."""
    path = write(CLAIM + "compare={'a': (2, 1)}, above=0)\n")
    content = file.prepared(str(path)).code.description.model_dump(mode="json")
    Description.model_validate(content)
    inner = content
    for part in place[:-1]:
        inner = inner[part]
    inner[place[-1]] = value
    with pytest.raises(ValidationError):
        Description.model_validate(content)


def test_a_wrong_public_name_says_which_there_are():
    import theodolite as th

    with pytest.raises(UnknownName, match="there is no study 'own'"):
        th.studies.get("own")
