"""The hash of a claim's evidence: what changes it, and what does not, in a file written for it."""

import importlib.util

import pytest

from theodolite.claims import Claim, changed, planned

FILE = '''
"""A study."""
from theodolite.claims import Evidence

LIMIT = 0.5


def helper(records):
    """Losses."""
    return records.table("metrics")[lambda rows: rows["loss"] < LIMIT]


def unrelated():
    return 1


class Column:
    def __init__(self, name):
        self.name = name

    def __call__(self, records):
        return Evidence.exact(records.table("metrics")[self.name])


def taken(factor):
    def evidence(records):
        return Evidence.exact(helper(records)["loss"] * factor)
    return evidence


direct = lambda records: Evidence.exact(helper(records)["loss"])
closed = taken(2.0)
called = Column("loss")
'''
KINDS = ("direct", "closed", "called")


def hashes(path, text):
    path.write_text(text)
    spec = importlib.util.spec_from_file_location("a_study", path)
    module = importlib.util.module_from_spec(spec)
    importlib.invalidate_caches()
    import linecache

    linecache.clearcache()
    spec.loader.exec_module(module)
    return {name: planned(made(getattr(module, name))).evidence for name in KINDS}


def made(evidence, **changes):
    fields = {"id": "a", "sentence": "It is.", "source": "beyond", "statistic": "a mean", "kind": "mean"}
    return Claim(**{**fields, "side": "above", "threshold": 0.0, "evidence": evidence, **changes})


def test_comments_space_docstrings_and_what_is_not_used_change_nothing(tmp_path):
    before = hashes(tmp_path / "a_study.py", FILE)
    assert all(len(name) == 16 for name in before.values())
    other = FILE.replace('"""Losses."""', '"""What it says."""').replace("return 1", "return 2")
    other = other.replace("* factor)", "* factor)  # twice").replace("LIMIT = 0.5", "\n\nLIMIT = 0.5")
    assert hashes(tmp_path / "b_study.py", other) == before


@pytest.mark.parametrize(
    ("old", "new", "touched"),
    [
        ("LIMIT = 0.5", "LIMIT = 0.4", {"direct", "closed"}),
        ('rows["loss"] <', 'rows["loss"] <=', {"direct", "closed"}),
        ("taken(2.0)", "taken(3.0)", {"closed"}),
        ('Column("loss")', 'Column("error")', {"called"}),
        ("[self.name])", "[self.name].abs())", {"called"}),
    ],
)
def test_a_number_or_a_line_that_the_evidence_goes_through_changes_it(tmp_path, old, new, touched):
    before, after = hashes(tmp_path / "a.py", FILE), hashes(tmp_path / "b.py", FILE.replace(old, new))
    assert {name for name in KINDS if before[name] != after[name]} == touched


def test_a_claim_is_changed_where_anything_that_decides_its_verdict_is():
    evidence = planned  # any function
    plan = (planned(made(evidence)),)
    assert not changed(made(evidence), plan)
    assert not changed(made(evidence), ())  # a plan of an older version
    for change in ({"threshold": 0.1}, {"side": "below"}, {"kind": "median"}, {"sentence": "It was."}, {"id": "b"}):
        assert changed(made(evidence, **change), plan), change


def test_a_function_without_source_has_no_hash():
    assert planned(made(eval("lambda records: records"))).evidence == ""  # noqa: S307 — typed in a console
