"""Numbers at a place picked by the other half of the seeds: right by hand, and not fooled by noise."""

import numpy as np
import pandas as pd
import pytest

from theodolite.claims.picked import halves, hump, past_the_best


def table(*seeds):
    return pd.DataFrame(dict(enumerate(seeds)), dtype="float64")


def test_the_best_size_is_picked_by_the_other_half_of_the_seeds_only():
    values = table([1, 9, 5], [8, 2, 6], [9, 1, 7], [6, 5, 0])  # seeds 1 and 3 pick: means 7 and 3.5
    largest, best = past_the_best(values, highest=True)
    assert largest.to_dict() == {0: 5, 2: 7}
    assert best.to_dict() == {0: 1, 2: 9}


def test_a_seed_that_is_added_or_missing_leaves_all_others_in_their_half():
    for seeds in range(2, 9):
        picking, tested = halves(table(*np.arange(3.0 * seeds).reshape(seeds, 3)).drop(columns=[0]))
        assert list(tested) == (list(range(2, seeds, 2)) if seeds > 2 else [])
        assert list(picking) == (list(range(1, seeds, 2)) if seeds > 2 else [])


def test_the_largest_size_itself_is_never_the_best_smaller_one():
    largest, best = past_the_best(table([3, 2, 1], [3, 2, 1]), highest=False)
    assert (largest - best).tolist() == [-1]


def test_a_diverged_run_is_never_the_best_and_leaves_its_own_seed_without_a_number():
    seeds = [1, 2, np.nan], [np.nan, 2, 3], [1, np.nan, 4], [1, 3, 3]
    largest, best = past_the_best(table(*seeds), highest=False)
    assert np.isnan(largest[0])
    assert best[0] == 2  # one that picks diverged at the smallest size, so that is not picked
    assert np.isnan(best[2])  # diverged where the others pick: unknown, not replaced


def test_one_seed_has_no_others_and_gives_no_number():
    assert past_the_best(table([1, 2, 3]), highest=True)[1].empty
    assert hump(table([1, 2, 3])).empty


@pytest.mark.parametrize("shape", ["flat", "falling"])
def test_noise_alone_makes_no_size_the_best_and_no_hump(shape):
    generator = np.random.default_rng(0)
    curve = np.zeros(10) if shape == "flat" else np.linspace(1, 0, 10)
    past, naive, heights = [], [], []
    for _ in range(100):
        noisy = pd.DataFrame(curve[:, None] + 0.1 * generator.normal(size=(10, 8)))
        largest, best = past_the_best(noisy, highest=False)
        past.append((largest - best).mean())
        naive.append((noisy.iloc[-1] - noisy.iloc[:-1].min()).mean())
        heights.append(hump(noisy).mean())
    error = np.std(past) / 10
    if shape == "flat":
        assert abs(np.mean(past)) < 3 * error  # no difference is there, and none is found
        assert np.mean(naive) > 10 * error  # the seed's own minimum would have found one
    else:
        assert np.mean(past) < -3 * error
    assert np.mean(heights) < 0


@pytest.mark.parametrize(
    ("curve", "height"),
    [
        ([9, 2, 6, 3], 3),  # 6 is 4 above the valley before it, 3 above the end
        ([9, 5, 6, 1], 1),
        ([9, 6, 3, 1], -3),  # only falls: least bad is 6 after 9
        ([1, 2, 3, 4], -1),  # only rises
        ([2, 6, 1, 5, 3], 3),  # the higher of two humps, as high as the lower of its sides
    ],
)
def test_the_hump_is_as_high_as_the_lower_of_its_sides(curve, height):
    assert hump(table(curve, curve)).tolist() == [height]
