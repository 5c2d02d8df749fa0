"""Thousands of random models, each instrument on each: `python benchmarks/random_models.py --models 5000`.

Models, losses and data are those of tests/random_models.py, the truth that of tests/random_outcomes.py. Models go in
rounds of fifty, the losses in turn, each round with a seed of its own. What is wrong, or an error of PyTorch's own,
ends its round, and Hypothesis shrinks the model and prints it. `--minutes` ends all after the round that is under way;
`--first` goes on where another run ended.
"""

import argparse
import sys
import time
import warnings
from collections import Counter
from pathlib import Path

import torch
from hypothesis import HealthCheck, Phase, given, seed, settings

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
import random_models
import random_outcomes

ROUND = 50
LOSSES = list(random_models.LOSSES)


class Wrong(Exception):
    """An instrument gave what it must not."""


def one_round(number: int, models: int, said: Counter[tuple[str, str]], reasons: Counter[str]) -> int:
    """Compare so many models, and return how many were; ends at the first fault, shrunk."""
    seen: set[random_models.Recipe] = set()

    @seed(number)
    @settings(
        max_examples=models, database=None, deadline=None, phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck), report_multiple_bugs=False,
    )  # fmt: skip
    @given(random_models.recipes(LOSSES[number % len(LOSSES)]))
    def each(recipe: random_models.Recipe) -> None:
        found = random_outcomes.outcomes(recipe)
        if recipe not in seen:
            seen.add(recipe)
            said.update((outcome.instrument, outcome.said) for outcome in found)
            reasons.update(outcome.why.split(",")[0] for outcome in found if outcome.said == "refused")
        faults = [outcome for outcome in found if outcome.said in ("wrong", "raw")]
        if faults:
            raise Wrong(f"{recipe}: {faults}")

    try:
        each()
    except Wrong as fault:
        print(f"round {number}: {fault}", flush=True)
    return len(seen)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=int, default=5000)
    parser.add_argument("--minutes", type=float, default=float("inf"))
    parser.add_argument("--first", type=int, default=0, help="number of the first round")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    start, models, number = time.monotonic(), 0, arguments.first
    said: Counter[tuple[str, str]] = Counter()
    reasons: Counter[str] = Counter()
    while models < arguments.models and time.monotonic() - start < 60 * arguments.minutes:
        models += one_round(number, min(ROUND, arguments.models - models), said, reasons)
        number += 1
        print(
            f"{models} models, {time.monotonic() - start:.0f} s, rounds {arguments.first} to {number - 1}", flush=True
        )
    words = ["right", "refused", "wrong", "raw"]
    print("\n| instrument | " + " | ".join(words) + " |\n| --- |" + " ---: |" * len(words))
    for instrument in random_outcomes.INSTRUMENTS:
        print(f"| {instrument} | " + " | ".join(str(said[instrument, word]) for word in words) + " |")
    print()
    for reason, times in reasons.most_common():
        print(f"refused {times} times: {reason}")


if __name__ == "__main__":
    main()
