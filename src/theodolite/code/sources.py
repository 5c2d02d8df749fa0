"""The code of a study of one's own: its file and the local modules that it imports, known by a hash. Imports no torch.

Covered are the file and whatever it imports, by a statement anywhere in it, from its own folder and below. Not covered
are installed packages (their versions are in each record), files of data, and modules whose names are made up at run
time. Comments, blank lines and line breaks within brackets change no hash.
"""

import ast
import hashlib
import io
import tokenize
from collections.abc import Iterator, Mapping
from pathlib import Path

from theodolite.errors import CodeFailed

Texts = Mapping[str, str]  # by path below the file's folder, with slashes
NOTHING = (tokenize.COMMENT, tokenize.NL, tokenize.ENCODING)
SPACE = {tokenize.NEWLINE: "\n", tokenize.INDENT: "\n>", tokenize.DEDENT: "\n<"}


def read(path: Path) -> dict[str, str]:
    """The texts of a file and of the local modules that it imports, the file first.

    Raises:
        CodeFailed: one is no Python.
    """
    home = path.parent
    texts: dict[str, str] = {}
    waiting = [path]
    while waiting:
        file = waiting.pop(0)
        name = file.relative_to(home).as_posix()
        if name not in texts:
            texts[name] = _text(file)
            waiting += _imported(texts[name], file, home)
    return texts


def code(texts: Texts) -> str:
    """A hash of what Python sees of them; the first one's name is of no account.

    >>> code({"a.py": "x = 1\\n"}) == code({"a.py": "x = 1  # one\\n\\n"}), code({"a.py": "x = 2\\n"})[:4]
    (True, 'b500')
    """
    first = next(iter(texts))
    named = {"" if name == first else name: text for name, text in texts.items()}
    parts = ["\0".join((name, *_tokens(named[name]))) for name in sorted(named)]
    return hashlib.sha256("\0\0".join(parts).encode()).hexdigest()[:16]


def changed(before: Texts, now: Texts) -> list[str]:
    """The files that differ, or that only one side has."""
    names = {**before, **now}
    return [
        name for name in names if name not in before or name not in now or _tokens(before[name]) != _tokens(now[name])
    ]


def _tokens(text: str) -> list[str]:
    """What Python sees of a text: of white space the depth alone."""
    try:
        tokens = list(tokenize.generate_tokens(io.StringIO(text).readline))
    except (tokenize.TokenError, SyntaxError):
        return [text]
    return [SPACE.get(token.type, token.string) for token in tokens if token.type not in NOTHING]


def _text(path: Path) -> str:
    try:
        with tokenize.open(path) as file:
            return file.read()
    except (OSError, SyntaxError, UnicodeDecodeError) as error:
        raise CodeFailed(f"expected Python in {path}, but it cannot be read ({error}). Check the file.") from None


def _imported(text: str, file: Path, home: Path) -> Iterator[Path]:
    """The files below the folder that a text imports; installed packages are none of them."""
    try:
        tree = ast.parse(text)
    except SyntaxError as error:
        raise CodeFailed(
            f"expected {file} to run, but line {error.lineno} is no Python ({error.msg}). Correct it there."
        ) from None
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from _files(home, alias.name.split("."))
        elif isinstance(node, ast.ImportFrom):
            start = file.parents[node.level - 1] if node.level else home
            parts = node.module.split(".") if node.module else []
            if start == home or home in start.parents:
                for alias in node.names:
                    yield from _files(start, [*parts, alias.name])


def _files(folder: Path, parts: list[str]) -> Iterator[Path]:
    """Of a dotted name each package's own file, and the module at its end, as far as they are there."""
    for number in range(1, len(parts) + 1):
        place = folder.joinpath(*parts[:number])
        for path in (place.with_name(f"{place.name}.py"), place / "__init__.py"):
            if path.is_file():
                yield path
