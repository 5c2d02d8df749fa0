"""Every claim of the ten studies has words that a reader needs, and they fit what they are about."""

import re

import pytest

from theodolite import studies
from theodolite.claims import Interval

CLAIMS = [(study, claim) for study in studies.INDEX.values() for claim in study.claims]
NUMBERS = Interval(0.25, 0.125, 0.5)


@pytest.mark.parametrize(("study", "claim"), CLAIMS, ids=[f"{study.name}-{claim.id}" for study, claim in CLAIMS])
def test_a_claim_has_a_short_title_and_three_sentences_without_identifiers(study, claim):
    said = claim.words.filled(NUMBERS, claim.threshold, 8)
    assert len(claim.words.title.split()) <= 11
    assert not claim.words.title.endswith(".")
    assert len(set(said.values())) == 3
    for decision, sentence in said.items():
        assert re.fullmatch(r"[A-Z].*\.", sentence), sentence
        assert re.search(r"0\.\d|\d %", sentence), sentence  # it names what was found
        assert not re.search(r"[a-z]+-[a-z]+-[a-z]+-[a-z]+|_|\{", sentence), sentence
        assert len(sentence) < 200, (decision, sentence)
