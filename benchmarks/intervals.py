"""Coverage of 95 % intervals over seeds: Student's t against the bootstraps, by size of survey and kind of numbers.

Run: python benchmarks/intervals.py    (one core, about two minutes)
"""

import numpy as np
import pandas as pd
from scipy import stats

from theodolite.claims.intervals import order_statistics, student

SURVEYS, RESAMPLES, SIZES = 2000, 999, (3, 5, 8, 16, 32, 64)


def rank_correlations(generator, shape):
    """Arcsine of Spearman's correlation over five ordered values with noise, as over five batch sizes."""
    noisy = generator.normal(size=(*np.atleast_1d(shape), 5)) + np.arange(5)
    distance = (noisy.argsort(-1).argsort(-1) - np.arange(5)) ** 2
    return np.arcsin(1 - distance.sum(-1) / 20)


MADE = {
    "normal": (lambda g, shape: g.normal(size=shape), 0.0),
    "exponential": (lambda g, shape: g.exponential(size=shape), 1.0),
    "lognormal(0.7)": (lambda g, shape: np.exp(0.7 * g.normal(size=shape)), float(np.exp(0.245))),
    "arcsine of rank correlation, 5 values": (rank_correlations, None),
    "arcsine of correlation near 0.96": (lambda g, shape: np.arcsin(np.tanh(2 + 0.5 * g.normal(size=shape))), None),
}


def main():
    rows = []
    for name, (draw, mean) in MADE.items():
        many = draw(np.random.default_rng(1), 1_000_000)
        mean, median = float(many.mean()) if mean is None else mean, float(np.median(many))
        for n in SIZES:
            surveys = draw(np.random.default_rng(n), (SURVEYS, n))
            row = {"numbers": name, "n": n, "t, mean": covered(surveys, student, mean)}
            if n >= 8:
                row["BCa, mean"] = bootstrap(surveys, mean, "BCa")
                row["bootstrap-t, mean"] = studentised(surveys, mean)
            if n >= 6:
                row["order statistics, median"] = covered(surveys, order_statistics, median)
            rows.append(row)
    print(pd.DataFrame(rows).to_string(index=False, float_format="{:.3f}".format, na_rep="-"))


def covered(surveys, ends, truth):
    found = np.array([ends(survey, 0.95) for survey in surveys])
    return np.mean((found[:, 0] <= truth) & (truth <= found[:, 1]))


def bootstrap(surveys, truth, method):
    found = stats.bootstrap(
        (surveys,), np.mean, axis=1, n_resamples=RESAMPLES, method=method, batch=100, rng=np.random.default_rng(2)
    ).confidence_interval
    return np.mean((found.low <= truth) & (truth <= found.high))


def studentised(surveys, truth):
    generator, n = np.random.default_rng(2), surveys.shape[1]
    hits = 0
    for survey in surveys:
        resample = survey[generator.integers(0, n, (RESAMPLES, n))]
        error = resample.std(1, ddof=1) / np.sqrt(n)
        t = (resample.mean(1) - survey.mean()) / np.where(error > 0, error, np.nan)
        least, most = np.nanquantile(t, [0.025, 0.975])
        error = survey.std(ddof=1) / np.sqrt(n)
        hits += survey.mean() - most * error <= truth <= survey.mean() - least * error
    return hits / len(surveys)


if __name__ == "__main__":
    main()
