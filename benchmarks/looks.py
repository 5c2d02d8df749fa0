"""How often a claim that is looked at after every seed is ever decided with the truth on the threshold, and its power.

Calls what the product calls: `Monitor`, whose verdict follows from the whole path, so that one look at the end counts
all looks before; and `test`, at the seeds that its own advice names, for comparison.
Run: python benchmarks/looks.py [--sequences 2000]    (one core, about five minutes)
"""

import argparse

import numpy as np
import pandas as pd

from intervals import SKEWED, atoms, centre, correlations, drawn
from theodolite.claims import Monitor, test

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


def show(title, rows):
    table = pd.DataFrame(rows).to_string(index=False, float_format="{:.3f}".format, na_rep="-")
    print(f"\n{title}\n{table}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sequences", type=int, default=2000)
    options = parser.parse_args()
    for part in (sizes, powers, advised):
        part(options.sequences)
