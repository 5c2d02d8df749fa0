import os
import re

import numpy as np
import pytest

from theodolite.data import DataSpec, cache, fetch, load
from theodolite.data.arrays import Arrays
from theodolite.errors import DataError


def some(value=0):
    images = np.full((4, 1, 2, 2), value, np.uint8)
    return Arrays(images, np.arange(4), images, np.arange(4), 4, peak=255), "a test"


def spoil(path, how):
    """A byte turned over, the file cut, or gone: what a bad disk, a full disk or a person does."""
    content = bytearray(path.read_bytes())
    if how == "gone":
        path.unlink()
        return
    if how == "cut":
        del content[len(content) // 2 :]
    elif how == "turned":
        content[-1] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("how", ["turned", "cut", "gone"])
@pytest.mark.parametrize("name", ["train_inputs.npy", "test_targets.npy", "manifest.json"])
def test_a_spoiled_file_is_named_and_made_again(cache_folder, name, how):
    spec = DataSpec(source="digits")
    before = load(spec).inputs_as()
    path = cache_folder / "digits" / name
    whole = path.read_bytes()
    spoil(path, how)
    if (name, how) == ("manifest.json", "gone"):  # then there is no entry
        after = load(spec)
    else:
        with pytest.warns(cache.CorruptCache, match=re.escape(str(path))):
            after = load(spec)
    assert np.array_equal(after.inputs_as(), before)
    assert path.read_bytes() == whole
    load(spec)  # without a warning, which would be an error


def test_a_spoiled_file_whose_size_and_time_were_put_back_is_found_by_the_next_process(cache_folder, python):
    load(DataSpec(source="digits"))
    path = cache_folder / "digits" / "train_inputs.npy"
    status = path.stat()
    spoil(path, "turned")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    out = python(
        "import warnings; warnings.simplefilter('always')\n"
        "from theodolite.data import DataSpec, load\n"
        "with warnings.catch_warnings(record=True) as caught:\n"
        "    load(DataSpec(source='digits'))\n"
        "print([str(w.message) for w in caught])",
        THEODOLITE_CACHE=str(cache_folder),
    )
    assert str(path) in out


def test_an_entry_is_made_once_and_again_only_for_another_stamp(cache_folder):
    calls = []

    def make():
        calls.append(1)
        return some(len(calls))

    assert cache.keep("a", make, stamp="one").fresh
    assert not cache.keep("a", make, stamp="one").fresh
    assert not cache.keep("a", make).fresh
    second = cache.keep("a", make, stamp="two")
    assert second.fresh
    assert (second.arrays.train_inputs == 2).all()
    assert len(calls) == 2


def test_an_entry_of_another_format_is_made_again(cache_folder, monkeypatch):
    cache.keep("a", some)
    monkeypatch.setattr(cache, "FORMAT", cache.FORMAT + 1)
    assert cache.keep("a", some).fresh


def test_a_process_that_fails_while_making_leaves_no_entry_and_no_lock(cache_folder):
    def fail():
        raise DataError("no")

    with pytest.raises(DataError, match="no"):
        cache.keep("a", fail)
    assert cache.keep("a", some).fresh


def test_what_a_killed_process_left_is_removed(cache_folder):
    (cache_folder / "a").mkdir(parents=True)
    left = cache_folder / "a" / f".train_inputs.npy.1{cache.PART}"
    left.write_bytes(b"half")
    old = cache_folder / f"{cache.SCRATCH}old"
    old.mkdir()
    os.utime(old, (0, 0))
    cache.keep("a", some)
    with cache.scratch() as folder:
        assert folder.is_dir()
    assert not left.exists()
    assert not old.exists()
    assert not folder.exists()


def test_a_cache_that_cannot_be_written_says_which_and_what_to_do(tmp_path, monkeypatch):
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    monkeypatch.setenv("THEODOLITE_CACHE", str(blocked))
    with pytest.raises(DataError, match=r"file.*THEODOLITE_CACHE"):
        load(DataSpec(source="digits"))


def test_of_two_processes_that_fetch_at_once_one_fetches(cache_folder, python):
    code = "from theodolite.data import fetch; print(fetch(['mnist1d'])[0].fresh)"
    processes = [python.start(code, THEODOLITE_CACHE=str(cache_folder)) for _ in range(2)]
    said = sorted(process.communicate(timeout=100)[0].strip() for process in processes)
    assert said == ["False", "True"]
    assert not fetch(["mnist1d"])[0].fresh


def test_pixel_statistics_are_those_of_numpy():
    images = np.random.default_rng(0).integers(0, 256, (5000, 3, 2, 5), dtype=np.uint8)
    images[:, 1] //= 2
    from theodolite.data.arrays import pixel_statistics

    mean, deviation = pixel_statistics(images)
    assert mean == pytest.approx(images.mean(axis=(0, 2, 3)))
    assert deviation == pytest.approx(images.std(axis=(0, 2, 3)))


def test_an_entry_that_may_not_be_read_is_none_in_the_list(cache_folder):
    (cache_folder / "mnist" / "manifest.json").mkdir(parents=True)  # reading it is an error of the system
    assert not cache.holds("mnist")
