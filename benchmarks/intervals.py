"""What verdicts are worth: how often intervals cover, and how often what is not so is found, on made numbers.

Calls what the product calls: `interval`, `verdict`, `holm`, `past_the_best` (docs/decisions/0039-sizes.md).
Run: python benchmarks/intervals.py [--surveys 2000]    (one core, about fifteen minutes)
"""

import argparse

import numpy as np
import pandas as pd

from theodolite.claims import Claim, Evidence, holm, interval, past_the_best
from theodolite.claims.judge import verdict
from theodolite.claims.means import CORRECTED, VERDICT

SIZES = (3, 5, 8, 10, 16, 20)
LARGE = 1_000_000


def normal(g, shape):
    return g.normal(size=shape)


def exponential(g, shape):
    return g.exponential(size=shape)


def lognormal(spread):
    return lambda g, shape: np.exp(spread * g.normal(size=shape))


def two_groups(distance):
    return lambda g, shape: np.where(g.random(shape) < 0.2, distance, 0.0) + g.normal(size=shape)


def atoms(share, usual, other):
    return lambda g, shape: np.where(g.random(shape) < share, usual, other)


def correlations(middle, spread):
    return lambda g, shape: np.tanh(middle + spread * g.normal(size=shape))


def ranked(points, noise):
    """Spearman's correlation of ordered points with noise, as over sizes; with little noise mostly exactly 1."""

    def draw(g, shape):
        noisy = np.arange(points) + noise * g.normal(size=(*np.atleast_1d(shape), points))
        distance = (noisy.argsort(-1).argsort(-1) - np.arange(points)) ** 2
        return 1 - 6 * distance.sum(-1) / (points * (points**2 - 1))

    return draw


SKEWED = {
    "normal": normal,
    "exponential": exponential,
    "lognormal(0.7)": lognormal(0.7),
    "lognormal(1)": lognormal(1.0),
    "two groups, 80/20, 4 sd apart": two_groups(4.0),
    "two groups, 80/20, 6 sd apart": two_groups(6.0),
    "0 or 1, p = 0.1": atoms(0.9, 0.0, 1.0),
    "1 in 80 %, else 0.9": atoms(0.8, 1.0, 0.9),
}
RANGED = {
    "near 0.7": correlations(0.87, 0.3),
    "z ~ N(3, 1)": correlations(3.0, 1.0),
    "z ~ N(2, 0.5)": correlations(2.0, 0.5),
    "Spearman of 10, mostly exactly 1": ranked(10, 0.25),
    "Spearman of 5": ranked(5, 1.0),
    "1 in 80 %, else 0.9": atoms(0.8, 1.0, 0.9),
}
MADE = {
    "mean": SKEWED,
    "ratio": {"lognormal(1)": lognormal(1.0), "exponential": exponential},
    "correlation": RANGED,
    "share": {f"p = {p}": atoms(1 - p, 0.0, 1.0) for p in (0.1, 0.5, 0.8)},
    "median": {**SKEWED, "two groups, 50/50, 6 sd apart": lambda g, s: 6.0 * (g.random(s) < 0.5) + g.normal(size=s)},
}
CENTRES = {"mean": np.mean, "ratio": lambda x: np.exp(np.log(x).mean()), "median": np.median}


def centre(kind, draw):
    return float(CENTRES.get(kind, np.mean)(draw(np.random.default_rng(1), (LARGE,))))


def drawn(draw, *shape):
    return draw(np.random.default_rng([7, *shape]), shape)


def found(values, kind, level=0.95, tails=VERDICT):
    return interval(Evidence.exact(pd.Series(values)), kind, level, tails)


def coverage(kind, draw, n, surveys):
    truth = centre(kind, draw)
    ends = [found(values, kind) for values in drawn(draw, surveys, n)]
    slack = 1e-9  # an atom's own value, up to rounding
    return np.mean([end.low - slack <= truth <= end.high + slack for end in ends])


def covered(surveys):
    rows = [
        {"kind": kind, "numbers": name} | {f"n = {n}": coverage(kind, draw, n, surveys) for n in SIZES}
        for kind, made in MADE.items()
        for name, draw in made.items()
    ]
    show("How often the 95 % interval covers the truth", rows)


def claim(kind, side, threshold):
    return Claim("made", "", "", "", kind, side, threshold, lambda records: records)


def margin(surveys):
    """A mean on the upper edge of a margin, where "holds" is false: nominal 2.5 %."""
    rows = []
    for name, draw in {"left-skewed exponential": lambda g, s: -g.exponential(size=s), **SKEWED}.items():
        truth = centre("mean", draw)
        test = claim("mean", "within", (truth - 10, truth))
        row = {"numbers": name}
        for n in SIZES:
            decisions = [test.decide(found(values, "mean")) for values in drawn(draw, surveys, n)]
            row[f"n = {n}"] = decisions.count("holds") / surveys
        rows.append(row)
    show("How often a margin holds with the mean on its edge", rows)


def survivors(surveys, claims=42, n=8):
    """False survivors of Holm: none where no claim is decided at the first step's level, which is looked at first."""
    rows = []
    for kind in ("mean", "median"):
        for name, draw in SKEWED.items():
            truth = centre(kind, draw)
            test, false = claim(kind, "above", truth), 0
            for survey in drawn(draw, surveys, claims, n):
                first = [test.decide(found(values, kind, 1 - 0.05 / claims, CORRECTED)) for values in survey]
                if any(decision != "undecided" for decision in first):
                    false += any(v.verdict_holm != "undecided" for v in judged(test, survey))
            rows.append({"kind": kind, "numbers": name, "any false survivor": false / surveys})
    show(f"Holm over {claims} claims whose truth is the threshold, n = {n}", rows)
    rows = []
    for kind in ("mean", "median"):
        for effect in (2, 3, 4, 6):
            test = claim(kind, "above", 0.0)
            survey = drawn(normal, surveys, n) + effect
            passed = [test.decide(found(values, kind, 1 - 0.05 / claims, CORRECTED)) == "holds" for values in survey]
            rows.append({"kind": kind, "effect, sd": effect, "survives": np.mean(passed)})
    show("Chance that a true claim is the first of 42 to survive", rows)


def judged(test, survey):
    return holm([verdict(test, Evidence.exact(pd.Series(values)), study="", preset="") for values in survey])


def tasks(surveys):
    """Several tasks, each on the threshold: by intersection and union, and by the worst of each seed."""
    rows = []
    for k in (1, 2, 4):
        for n in (5, 8, 16):
            test, counts = claim("mean", "above", 0.0), {"holds": 0, "fails": 0, "worst of each seed fails": 0}
            for survey in drawn(normal, surveys, k, n):
                parts = {str(i): Evidence.exact(pd.Series(values)) for i, values in enumerate(survey)}
                decision = verdict(test, parts, study="", preset="").verdict.verdict
                if decision != "undecided":
                    counts[decision] += 1
                counts["worst of each seed fails"] += test.decide(found(survey.min(0), "mean")) == "fails"
            rows.append({"tasks": k, "n": n} | {name: count / surveys for name, count in counts.items()})
    show("Several tasks, each with its truth on the threshold", rows)


def picks(surveys):
    """Ten sizes that are all alike: the largest against the best smaller one, that half of the seeds pick."""
    rows = []
    for n in (8, 16, 32):
        inside = 0
        for survey in drawn(normal, surveys, 10, n):
            largest, best = past_the_best(pd.DataFrame(survey), highest=True)
            inside += found(largest - best, "mean").low <= 0 <= found(largest - best, "mean").high
        rows.append({"n": n, "covered": inside / surveys})
    show("Difference to a size picked by the other half", rows)


def universals(surveys):
    """A violation in 30 % of runs: "always" as a mean of each run's smallest gap, and as a share of runs above 0.9."""
    rows = []
    for n in SIZES:
        gaps = drawn(lambda g, s: np.where(g.random(s) < 0.3, -0.02, 1.0) + 0.1 * g.random(s), surveys, n)
        mean, share = claim("mean", "above", 0.0), claim("share", "above", 0.9)
        by_mean = np.mean([mean.decide(found(values, "mean")) == "holds" for values in gaps])
        by_share = [share.decide(found(values > 0.1, "share")) for values in gaps]
        counts = {f"share {decision}": by_share.count(decision) / surveys for decision in ("holds", "fails")}
        rows.append({"n": n, "mean holds": by_mean} | counts)
    show("'Always', where three runs of ten violate it", rows)


def advice(surveys):
    """Whether the seeds that are named decide with 80 %: fresh surveys of that size, with the estimate as the truth."""
    cases = {
        "mean": (lambda g, s: g.normal(0.6, 1, s), 0.0),
        "ratio": (lambda g, s: g.lognormal(0.25, 0.5, s), 1.0),
        "median": (lambda g, s: g.normal(0.6, 1, s), 0.0),
        "correlation": (correlations(0.87, 0.3), 0.6),
        "share": (atoms(0.8, 1.0, 0.0), 0.5),
    }
    rows = []
    for kind, (draw, threshold) in cases.items():
        # A first survey whose estimate and spread are those of the truth.
        known = np.quantile(draw(np.random.default_rng(1), (LARGE,)), (np.arange(8) + 0.5) / 8)
        values = np.repeat([1.0, 0.0], [4, 1]) if kind == "share" else known
        test = claim(kind, "above", threshold)
        first = verdict(test, Evidence.exact(pd.Series(values)), study="", preset="").verdict
        decisions = [test.decide(found(v, kind)) for v in drawn(draw, surveys, first.needed_seeds)]
        rows.append({"kind": kind, "needed": first.needed_seeds, "decided": decisions.count("holds") / surveys})
    show("Seeds that are named, and how often so many decide", rows)


def powers(surveys):
    """How often the interval of normal numbers excludes a threshold, by the effect in standard deviations."""
    rows = []
    for kind in ("mean", "median"):
        for effect in (0.5, 1.0, 1.5, 2.0, 3.0):
            test, row = claim(kind, "above", 0.0), {"kind": kind, "effect, sd": effect}
            for n in SIZES:
                decisions = [test.decide(found(values, kind)) for values in drawn(normal, surveys // 2, n) + effect]
                row[f"n = {n}"] = decisions.count("holds") / len(decisions)
            rows.append(row)
    show("How often an effect in normal numbers is found at one look", rows)


def show(title, rows):
    table = pd.DataFrame(rows).to_string(index=False, float_format="{:.3f}".format, na_rep="-")
    print(f"\n{title}\n{table}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--surveys", type=int, default=2000)
    parser.add_argument("--only", nargs="*", default=[])
    options = parser.parse_args()
    parts = (covered, powers, margin, survivors, tasks, picks, universals, advice)
    for part in parts:
        if not options.only or part.__name__ in options.only:
            part(options.surveys)


if __name__ == "__main__":
    main()
