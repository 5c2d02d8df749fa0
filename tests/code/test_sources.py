"""Which code a fingerprint holds."""

import pytest

from theodolite.code import sources
from theodolite.errors import CodeFailed


@pytest.fixture
def project(tmp_path):
    """A file that imports a module at its top, one in a function, and a package that imports relatively."""
    (tmp_path / "file.py").write_text(
        "import numpy, near\ndef f():\n    from lib.deep import thing\n    return thing\n"
    )
    (tmp_path / "near.py").write_text("x = 1\n")
    (tmp_path / "unused.py").write_text("x = 1\n")
    (tmp_path / "lib/deep").mkdir(parents=True)
    (tmp_path / "lib/__init__.py").write_text("")
    (tmp_path / "lib/deep/__init__.py").write_text("from ..other import thing\nfrom . import inner\n")
    (tmp_path / "lib/other.py").write_text("thing = 1\n")
    (tmp_path / "lib/deep/inner.py").write_text("")
    return tmp_path


def test_local_modules_are_covered_wherever_they_are_imported(project):
    found = sources.read(project / "file.py")
    assert next(iter(found)) == "file.py"
    assert set(found) == {
        "file.py", "near.py", "lib/__init__.py", "lib/deep/__init__.py", "lib/other.py", "lib/deep/inner.py",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("near.py", "x = 2\n", ["near.py"]),
        ("lib/other.py", "thing = 2\n", ["lib/other.py"]),
        ("near.py", "# a comment\n\nx = 1  # another\n", []),
        ("unused.py", "x = 2\n", []),
        ("file.py", "import numpy, near\ndef f():\n  from lib.deep import thing\n  return thing\n", []),
        ("file.py", "import numpy\n", ["file.py", "near.py", "lib/__init__.py", "lib/deep/__init__.py"]),
    ],
)
def test_what_changes_the_hash_is_named_and_comments_change_nothing(project, name, text, told):
    before = sources.read(project / "file.py")
    (project / name).write_text(text)
    now = sources.read(project / "file.py")
    assert sources.changed(before, now)[: len(told)] == told
    assert (sources.code(before) == sources.code(now)) == (not told)


def test_text_within_strings_is_code(project):
    a, b = ({"file.py": f'x = """{text}"""\n'} for text in ("a\n\n# b", "a\n# b"))
    assert sources.code(a) != sources.code(b)


def test_what_is_no_python_is_said_with_its_line(project):
    (project / "near.py").write_text("x = 1\nif\n")
    with pytest.raises(CodeFailed, match=r"near.py to run, but line 2 is no Python \(invalid syntax\)"):
        sources.read(project / "file.py")
