"""What a page shows, done as a reader would: files written as titled, Python in one session, shell lines in order.

Lines of the package's own command with its workers, and `python FILE.py`, run in this process: imports take seconds.
"""

import os
import re
import runpy
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from commands import alone, called

FENCE = re.compile(r'^```(\w+)(?: title="([^"]+)")?\n(.*?)^```$', re.MULTILINE | re.DOTALL)
ROOT = Path(__file__).parents[1]


def blocks(markdown: str) -> list[tuple[str, str, str]]:
    """Language, title and content of each fenced block."""
    return [(language, title, content) for language, title, content in FENCE.findall(markdown)]


@contextmanager
def at(folder: Path) -> Iterator[None]:
    """In a folder, whose modules can be imported, and are forgotten afterwards."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.syspath_prepend(folder)
        patch.setenv("PATH", os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
        tests = next((one for one in folder.parents if one.name.startswith("pytest-of-")), folder)
        forget(tests)  # other tests' modules, which may have the same names
        yield
        forget(tests)


def forget(folder: Path) -> None:
    """Let modules below a folder be imported anew."""
    for name, module in list(sys.modules.items()):
        if Path(getattr(module, "__file__", None) or "/").is_relative_to(folder):
            del sys.modules[name]


def steps(markdown: str, folder: Path) -> Iterator[dict[str, Any]]:
    """Do all that a page shows; what its Python defined so far, after each block of Python."""
    session: dict[str, Any] = {}
    with at(folder):
        for language, title, content in blocks(markdown):
            if title:
                Path(title).write_text(content)
            elif language == "python":
                exec(content, session)  # noqa: S102 - our own documentation
                yield session
            elif language == "sh":
                shell(content)


def page(markdown: str, folder: Path) -> dict[str, Any]:
    """Do all that a page shows; what its Python defined is returned."""
    return [{}, *steps(markdown, folder)][-1]


def shell(content: str) -> None:
    """Each line by itself; a block with a here-document as a whole."""
    for line in [content] if "<<" in content else content.splitlines():
        words = [] if "<<" in line else shlex.split(line, comments=True)
        if words[:1] == ["theodolite"]:
            done = (alone if words[1] == "run" else called)(*words[1:])
            assert done.returncode == 0, f"{line}\n{done.stderr}"
        elif words[:1] == ["python"] and len(words) == 2:
            runpy.run_path(words[1], run_name="__main__")
        elif words[:1] == ["make"]:  # in a clone of its own it takes minutes: here, that there is such a target
            subprocess.run(["make", "--dry-run", *words[1:]], cwd=ROOT, check=True, capture_output=True)
        elif words or "<<" in line:
            subprocess.run(["bash", "-euc", line], check=True)
