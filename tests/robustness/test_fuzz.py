"""Folders changed anywhere under checksums that fit, a small part of `benchmarks/fuzz.py`; and commands' arguments."""

import random

import pytest

import fuzzed
import fuzzed_folders
import tiny as survey_of
from commands import called

SECONDS = 2.5  # of a processor, for each kind of folder
FEWEST = 2  # folders in that time
WORDS = (
    "", " ", "0", "-1", "1e400", "nan", "1" + "0" * 30, "é😀", "\x1b[2J", "[/b]", "a\nb", "%s", "/", "/dev/null", "..",
    "\udcff", "x" * 300, "s3://", "s3://x:y@z/../a", "https://me:hunter2@host/x", "https://[", "file.py:", ".py",
    ":.py", "--", "-", "=", "a=b", "seeds=", "seeds=[", "simulate-function.points=-1", "=1", "cos", "dir:/",
    "function:1/0", "hub:", "function:",
)  # fmt: skip
COMMANDS = {  # with the options whose values are drawn; what would begin to train or to serve is never asked to
    "run": (
        "--preset", "--set", "--seeds", "--jobs", "--budget", "--max-seeds", "--resume-every", "--engine", "--address",
        "--out",
    ),
    "report": ("--figure-width", "--out", "--compare"),
    "claims": (), "status": (), "list": (), "data": (), "new": (), "test": ("--column", "--kind", "--above"),
    "budget": ("--parameters", "--layers", "--inputs", "--outputs", "--tolerance", "--limit"),
    "measure": ("--model", "--weights", "--data", "--loss", "--set"),
}  # fmt: skip


@pytest.mark.sampled(2)
@pytest.mark.parametrize("kind", ["tiny", *fuzzed_folders.MADE])
def test_a_folder_that_its_author_changed_is_read_or_refused_in_a_sentence(kind, tiny, tmp_path):
    place = tmp_path / "made" / kind
    if kind == "tiny":
        survey_of.run(place)
    else:
        fuzzed_folders.MADE[kind](place)
    chance = random.SystemRandom().randrange(10**9)  # another each time; a fault says which
    seen = fuzzed.run([place], tmp_path, chance, 10**6, SECONDS)
    assert not seen.faults
    assert seen.ends["folders"] >= FEWEST


@pytest.mark.parametrize("command", COMMANDS)
def test_arguments_that_make_no_sense_end_in_a_sentence(command, tmp_path):
    seed = random.SystemRandom().randrange(10**9)
    draw = random.Random(seed)
    for _ in range(12):
        words = [draw.choice(WORDS) for _ in range(draw.randrange(3))]
        for option in draw.sample(COMMANDS[command], min(len(COMMANDS[command]), draw.randrange(3))):
            words += [option, draw.choice(WORDS)]
        words += ["--dry-run"] * (command == "run")
        done = called(command, *words, cwd=tmp_path)
        assert done.returncode in (0, 1, 2), (seed, words, done.stderr)
        assert "Traceback" not in done.stderr, (seed, words)
        assert "\x1b[2J" not in done.stdout + done.stderr, (seed, words)
        if "Usage:" not in done.stderr:  # which is the words of the library that parses
            assert "hunter2" not in done.stderr, (seed, words)
