"""The library of the charts is bundled once, and never taken from a file that is not whole."""

import pytest
import vl_convert

from theodolite.data.cache import root
from theodolite.report.library import library


@pytest.fixture
def bundles(monkeypatch, tmp_path):
    """How often it was bundled, each time in a process that begins, with a cache of its own."""
    found: list[str] = []

    def bundle(snippet: str) -> str:
        found.append(snippet)
        return "let a = '</script>';"

    monkeypatch.setattr(vl_convert, "javascript_bundle", bundle)
    monkeypatch.setenv("THEODOLITE_CACHE", str(tmp_path / "not" / "yet"))
    library.cache_clear()
    yield found
    library.cache_clear()


def again() -> str:
    library.cache_clear()
    return library()


def test_it_is_bundled_once_and_then_kept(bundles):
    first = library()
    assert first == "(() => {let a = '<\\/script>';})();"
    assert again() == first
    assert len(bundles) == 1


@pytest.mark.parametrize(
    "damage",
    [lambda kept: kept[:-3], lambda kept: kept.replace(b"let a", b"let b"), lambda kept: b"", lambda kept: b"\xff\n"],
    ids=["cut", "altered", "empty", "no text"],
)
def test_what_is_not_whole_is_bundled_again(bundles, damage):
    first = library()
    (kept,) = root().glob("*.js")
    kept.write_bytes(damage(kept.read_bytes()))
    assert again() == first
    assert again() == first
    assert len(bundles) == 2


def test_where_nothing_can_be_kept_it_is_bundled_each_time(bundles, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    for folder in (str(tmp_path / "file"), "~no-such-user-of-this-machine/cache"):
        monkeypatch.setenv("THEODOLITE_CACHE", folder)
        assert again() == again()
    assert len(bundles) == 4
