"""A verdict made by hand, of which a test says what matters to it."""

from theodolite.findings import Verdict


def made_verdict(**changes):
    given = {
        "study": "made",
        "id": "made",
        "sentence": "",
        "source": "",
        "statistic": "",
        "estimate": 0.4123,
        "interval": (0.3355, 0.4912),
        "level": 0.95,
        "threshold": 0.5,
        "seeds": 16,
        "verdict": "holds",
        "verdict_holm": "holds",
        "needed_seeds": None,
        "preset": "quick",
    }
    return Verdict(**(given | changes))
