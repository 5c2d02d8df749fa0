import subprocess
import sys

import numpy as np
import pytest
from scipy.stats import chisquare

from theodolite.data import draw
from theodolite.errors import SettingError
from theodolite.streams import named_generator


def test_streams_of_one_seed_differ_and_a_stream_is_the_same_again():
    first = named_generator(0, "a").integers(2**32, size=8)
    assert (first == named_generator(0, "a").integers(2**32, size=8)).all()
    assert (first != named_generator(0, "b").integers(2**32, size=8)).any()
    assert (first != named_generator(1, "a").integers(2**32, size=8)).any()


def test_a_stream_is_the_same_in_another_process():
    drawn = "named_generator(3, 'subset train').integers(2**32, size=4).tolist()"
    code = f"from theodolite.streams import named_generator; print({drawn})"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == str(named_generator(3, "subset train").integers(2**32, size=4).tolist())


def test_a_subset_has_its_size_no_row_twice_and_lies_within_a_larger_one():
    small, large = draw.subset(1000, 10, 5, "train"), draw.subset(1000, 300, 5, "train")
    assert len(set(small)) == 10
    assert (np.diff(small) > 0).all()
    assert set(small) <= set(large) <= set(range(1000))
    assert set(small) != set(draw.subset(1000, 10, 6, "train"))
    assert set(small) != set(draw.subset(1000, 10, 5, "test"))


def test_the_whole_set_needs_no_rows():
    assert draw.subset(10, None, 0, "train") is None
    assert draw.subset(10, 10, 0, "train") is None


def test_more_samples_than_there_are_is_an_error():
    with pytest.raises(SettingError, match="expected at most 10 samples in the test set, got test=11"):
        draw.subset(10, 11, 0, "test")


@pytest.mark.parametrize("share", [0.2, 0.5, 1.0])
def test_random_labels_are_drawn_uniformly_for_exactly_the_share(share):
    true = np.full(20_000, 3)
    labels = draw.random_labels(true, 10, share, seed=1)
    counts = np.bincount(labels, minlength=10)
    redrawn = share * 20_000
    assert counts.sum() == 20_000
    expected = np.full(10, redrawn / 10)
    counts[3] -= round(20_000 - redrawn)  # those that were left alone
    assert chisquare(counts, expected).pvalue > 1e-4
    assert (true == 3).all()


def test_labels_random_at_a_small_share_are_the_same_at_a_larger_one():
    true = np.full(1000, -1)
    some, more = (draw.random_labels(true, 10, share, seed=2) for share in (0.2, 0.6))
    assert (some != -1).sum() == 200
    assert (more != -1).sum() == 600
    assert (more[some != -1] == some[some != -1]).all()
    assert (draw.random_labels(true, 10, 0.2, seed=3) != some).any()
