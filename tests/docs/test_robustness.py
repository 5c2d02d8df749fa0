"""docs/robustness.md: every promise names the tests that try it, which are there, and when it was last broken."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/robustness.md").read_text()
TESTS = {path.name for path in (ROOT / "tests").rglob("test_*.py")}
ROWS = [line for line in PAGE.splitlines() if line.startswith("| ") and not line.startswith(("| what |", "| --- |"))]


def test_the_page_has_its_tables():
    assert len(ROWS) > 50
    heads = [line for line in PAGE.splitlines() if line.startswith("| what |")]
    assert all(head.endswith("| tried by; last broken |") for head in heads)


@pytest.mark.parametrize("row", ROWS, ids=[re.sub(r"\W+", "-", row.split("|")[1])[:50] for row in ROWS])
def test_every_promise_names_tests_that_are_there_and_when_it_was_last_broken(row):
    tried, _, broken = row.rstrip(" |").rpartition("|")[2].partition(";")
    named = re.findall(r"`(test_\w+\.py)`", tried)
    assert named
    assert set(named) <= TESTS
    assert re.match(r" (none known|[A-Z][a-z]+ 20\d\d)", broken)
