"""How often a claim that is looked at after every seed is ever decided with the truth on the threshold, and its power.

Calls what the product calls: `Monitor` and `EveryLook`, whose decisions follow from the whole path, so that one look at
the end counts all looks before; `outlook`, by which a survey gives up; and `test`, at the seeds that its own advice
names, for comparison.
Run: python benchmarks/looks.py [--sequences 2000] [--only gone_on …]    (one core, about ten minutes)
"""

import argparse

import numpy as np
import pandas as pd

from intervals import SKEWED, atoms, centre, claim, correlations, drawn
from theodolite.claims import Evidence, Monitor, past_the_best, test
from theodolite.claims.going_on import outlook, seeds_to_decide
from theodolite.claims.ways import EveryLook
from theodolite.survey.deciding import HOPELESS, MOST

SEEDS = 200
MADE = {
    "mean": SKEWED,
    "median": {name: SKEWED[name] for name in ("normal", "exponential", "lognormal(1)", "1 in 80 %, else 0.9")},
    "share": {f"p = {p}": atoms(1 - p, 0.0, 1.0) for p in (0.1, 0.5, 0.9)},
    "correlation": {"near 0.7": correlations(0.87, 0.3), "z ~ N(3, 1)": correlations(3.0, 1.0)},
}


def sizes(sequences):
    rows = []
    for kind, made in MADE.items():
        for name, draw in made.items():
            truth = centre(kind, draw)
            decided = [ever(values, kind, truth) for values in drawn(draw, sequences, SEEDS)]
            rows.append({"kind": kind, "numbers": name, "ever decided": np.mean(decided)})
    show(f"Looks after every seed up to {SEEDS}, the truth on the threshold", rows)


def ever(values, kind, truth):
    return Monitor(above=truth, statistic=kind).update(values).verdict != "undecided"


def powers(sequences):
    rows = []
    for kind in ("mean", "median"):
        for effect in (0.5, 1.0, 2.0, 5.0):
            made = drawn(SKEWED["normal"], sequences // 4, 100) + effect
            row = {"kind": kind, "effect, sd": effect}
            for seeds in (8, 12, 20, 40, 100):
                held = [Monitor(above=0.0, statistic=kind).update(v[:seeds]).verdict == "holds" for v in made]
                row[f"within {seeds}"] = np.mean(held)
            rows.append(row)
    show("How often an effect in normal numbers is found", rows)


def advised(sequences):
    """The path that advice invites: 8 seeds, then as many as are named, up to 100; each look a fresh 95 % interval."""
    rows = []
    for name in ("normal", "exponential"):
        draw, wrong = SKEWED[name], 0
        truth = centre("mean", draw)
        for values in drawn(draw, sequences // 4, 100):
            seeds = 8
            while seeds:
                found = test(values[:seeds], above=truth)
                wrong += found.verdict != "undecided"
                more = found.needed_seeds
                seeds = more if more is not None and more <= 100 else None
        rows.append({"numbers": name, "test, extended as advised": wrong / (sequences // 4)})
    show("Without a monitor: a mean on the threshold, extended as advised", rows)


def seen(values):
    return {"": Evidence.exact(pd.Series(values))}


def gone_on(sequences):
    """A survey planned with a few seeds and extended by hand as often as one likes, up to 200."""
    rows = []
    for kind, made in MADE.items():
        for name, draw in made.items():
            made_claim, row = claim(kind, "above", centre(kind, draw)), {"kind": kind, "numbers": name}
            numbers = drawn(draw, sequences, SEEDS)
            for first in (3, 5, 8, 16, 20):
                decided = [EveryLook(made_claim, seen(v), seen(v[:first])).decide(0.05) != "undecided" for v in numbers]
                row[f"first {first}"] = np.mean(decided)
            rows.append(row)
    show(f"Planned seeds at one look, then looks after every seed up to {SEEDS}, the truth on the threshold", rows)


def picked(sequences):
    """Ten sizes that are alike, the best picked anew at every look by the odd seeds that are there."""
    wrong = {"until decided": 0, "first 8": 0}
    for survey in drawn(SKEWED["normal"], sequences // 8, 10, 100):
        ever = dict.fromkeys(wrong, False)
        early = {"": Evidence.exact(_difference(survey[:, :8]))}
        for seeds in range(8, 101, 4):
            parts = {"": Evidence.exact(_difference(survey[:, :seeds]))}
            for name in wrong:
                way = EveryLook(
                    claim("mean", "above", 0.0), parts, early if name == "first 8" else {}, name != "first 8"
                )
                ever[name] |= way.decide(0.05) != "undecided"
        for name, decided in ever.items():
            wrong[name] += decided
    show("Difference to a size picked anew", [{name: count / (sequences // 8) for name, count in wrong.items()}])


def _difference(survey):
    largest, best = past_the_best(pd.DataFrame(survey), highest=True)
    return largest - best


def given_up(sequences):
    """Seeds until decided, from 8 on, as a survey adds them: it gives up where few futures decide."""
    rows = []
    for effect in (0.0, 0.25, 0.5, 1.0, 2.0):
        found, at = {"holds": 0, "fails": 0, "undecided": 0}, []
        for values in drawn(SKEWED["normal"], sequences // 10, MOST) + effect:
            seeds, decision = 8, "undecided"
            while decision == "undecided" and seeds < MOST:
                parts = seen(values[:seeds])
                decision = EveryLook(claim("mean", "above", 0.0), parts, until_decided=True).decide(0.05)
                futures = outlook(claim("mean", "above", 0.0), parts, 0.05, MOST)
                if decision != "undecided" or np.mean(futures <= MOST) < HOPELESS:
                    break
                seeds = min(MOST, seeds + max(1, -(-seeds // 8)))
            found[decision] += 1
            at.append(seeds)
        share = {name: count / len(at) for name, count in found.items()}
        rows.append({"effect, sd": effect} | share | {"seeds, median": np.median(at)})
    show(f"Seeds added until it is decided or hopeless within {MOST}", rows)


def named(sequences):
    """Whether the seeds that are named after a first look decide by its path: the estimate is the truth."""
    cases = {
        "mean": (lambda g, s: g.normal(0.9, 1, s), 0.0),
        "median": (lambda g, s: g.normal(0.9, 1, s), 0.0),
        "correlation": (correlations(0.87, 0.3), 0.5),
        "share": (atoms(0.8, 1.0, 0.0), 0.6),
    }
    rows = []
    for kind, (draw, threshold) in cases.items():
        first = np.quantile(draw(np.random.default_rng(1), (100_000,)), (np.arange(20) + 0.5) / 20)
        first = np.random.default_rng(2).permutation(first)
        made = claim(kind, "above", threshold)
        needed = seeds_to_decide(made, seen(first)[""], 0.005)
        later = drawn(draw, sequences // 4, needed - 20)
        decided = [EveryLook(made, seen([*first, *v])).decide(0.05) == "holds" for v in later]
        rows.append({"kind": kind, "needed": needed, "decided": np.mean(decided)})
    show("Seeds that are named after a look at 20, and how often the path decides by then", rows)


def show(title, rows):
    table = pd.DataFrame(rows).to_string(index=False, float_format="{:.3f}".format, na_rep="-")
    print(f"\n{title}\n{table}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sequences", type=int, default=2000)
    parser.add_argument("--only", nargs="*", default=[])
    options = parser.parse_args()
    for part in (sizes, powers, gone_on, picked, given_up, named, advised):
        if not options.only or part.__name__ in options.only:
            part(options.sequences)
