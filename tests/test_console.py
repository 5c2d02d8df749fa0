"""What the command line shows fits a terminal of 80 columns, without colour, and cuts nothing."""

import pytest
from rich.console import Console, RenderableType

from theodolite import console, studies
from theodolite.findings import Verdict

WIDTH = 80


def shown(view: RenderableType) -> str:
    narrow = Console(width=WIDTH, color_system=None, force_terminal=False)
    with narrow.capture() as capture:
        narrow.print(view)
    return capture.get()


@pytest.fixture
def verdicts() -> list[Verdict]:
    """One for every claim of every study, with the longest words a verdict may have."""
    return [
        Verdict(
            study=study.name, id=claim.id, sentence="", source="", statistic="", estimate=-0.0689, level=0.95,
            interval=(-0.0934, -0.0446), threshold=claim.threshold, seeds=128, verdict="undecided",
            verdict_holm="holds", needed_seeds=None, preset="quick",
        )
        for study in studies.INDEX.values()
        for claim in study.claims
    ]  # fmt: skip


def test_verdicts_show_every_claim_estimate_and_threshold_whole(verdicts: list[Verdict]):
    text = shown(console.verdicts(verdicts))
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= WIDTH
    assert all(verdict.id in text for verdict in verdicts)
    assert text.count("[−0.0934, −0.0446]") == len(verdicts)
    assert "claimed" in text
    assert f"Claims: {len(verdicts)}, of which {len(verdicts)} hold, 0 fail" in " ".join(text.split())  # as corrected


def test_the_index_and_the_state_of_studies_are_shown_whole():
    facts = [studies.facts(study) for study in studies.INDEX.values()]
    rows = [
        {"study": fact["study"], "preset": "quick", "runs": 10_000, "analyses": 0, "done": 10_000, "diverged": 9_999,
         "running": 9_999, "failed": 9_999, "left": 9_999}
        for fact in facts
    ]  # fmt: skip
    for view in (console.studies(facts), console.statuses("results/quick", rows)):
        text = shown(view)
        assert "…" not in text
        assert max(map(len, text.splitlines())) <= WIDTH
        assert all(fact["study"] in text for fact in facts)
