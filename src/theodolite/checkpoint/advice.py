"""What errors advise, in the words of a shell: instruments say it for Python, as ``reduction='sum'``."""

import re
from collections.abc import Iterable

IN_SHELL = (
    (r"samples=lambda batch: len\(batch\[1\]\)", "--samples FILE.py:NAME, a function of a batch: len(batch[1])"),
    (r"\bmodel\.double\(\) and inputs\.double\(\)", "--dtype float64"),
    (r"\bCall model\.eval\(\)", "Take --mode eval"),
    (r"\breduction='(\w+)'", r"--reduction \1"),
    (r"\bmodel=(?=[,.])", "--model FILE.py:NAME"),
)
OPTION = re.compile(r"(?<![\w-])(?<!--set )([a-z_]+)=('?)([\w.+-]*\w)\2")


def in_shell(text: str, options: Iterable[str]) -> str:
    """The same sentence, with options of the instrument as a shell has them.

    Example:
        >>> in_shell("Use method='sam', or pass use_reentrant=False to checkpoint.", ["method"])
        'Use --set method=sam, or pass use_reentrant=False to checkpoint.'
    """
    for words, shell in IN_SHELL:
        text = re.sub(words, shell, text)
    known = set(options)
    return OPTION.sub(lambda m: f"--set {m[1]}={m[3]}" if m[1] in known else m[0], text)
