"""Numbers, counts and texts of others as they are said, the same on the page, in figures and in the terminal."""

import math
import re
import shlex
from collections.abc import Sequence

# What a terminal obeys, what turns text around, and what stands for bytes of a file's name that are no text.
_UNSHOWN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_SECRET = re.compile(r"(?<=://)[^/\s@]*@|(?<=--)([\w-]*(?:key|token|secret|password)[\w-]*[ =])\S+")


def signed(number: str) -> str:
    """A number as Python writes it, with a true minus sign and an exponent without zeros or plus: what figures show.

    >>> [signed(number) for number in ("-0.5", "1.23e-05", "-2e+06", "671")]
    ['−0.5', '1.23e−5', '−2e6', '671']
    """
    mantissa, e, exponent = number.partition("e")
    return (mantissa + e + (str(int(exponent)) if e else "")).replace("-", "−")


def rounded(value: float, digits: int = 3) -> str:
    """A number with so many significant digits.

    >>> [rounded(x) for x in (0.41234, 0.99968, 1234.5, 0.00001234, float("-inf"), float("nan"))]
    ['0.412', '1.00', '1234', '1.23e−5', '−∞', '–']
    """
    if math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    if not value:
        return "0"
    first = f"{value:.{digits - 1}e}"  # 0.9997 has a digit more before its point once it is rounded
    exponent = int(first.partition("e")[2])
    return signed(first if not -4 <= exponent < 6 else f"{value:.{max(0, digits - 1 - exponent)}f}")


class Said(float):
    """A number that a sentence names in braces: rounded by itself, otherwise by the format given.

    >>> x = Said(0.12345)
    >>> f"{x}, {x:.1%}, {x:+.2f}, {Said(-2):g}"
    '0.123, 12.3 %, +0.12, −2'
    """

    def __format__(self, form: str) -> str:
        if not form or not math.isfinite(self):
            return rounded(float(self))
        return signed(super().__format__(form)).replace("%", " %")


def counted(count: int, one: str, many: str = "") -> str:
    """So many of something; the plural takes an s unless it is given.

    >>> counted(1, "seed"), counted(3, "seed"), counted(0, "analysis", "analyses")
    ('1 seed', '3 seeds', '0 analyses')
    """
    return f"{count} {one if count == 1 else many or one + 's'}"


def per_cent(share: float, digits: int = 0) -> str:
    """A share in per cent.

    >>> per_cent(0.05), per_cent(0.1234, 1)
    ('5 %', '12.3 %')
    """
    return f"{100 * share:.{digits}f} %"


def taken(seconds: float, *, estimated: bool, about: str) -> str:
    """How long a preset takes: seconds where they were measured, minutes where they are estimated.

    >>> taken(12.4, estimated=False, about="~ "), taken(4200, estimated=True, about="~ ")
    ('12 s', '~ 70 min')
    """
    return f"{about}{seconds / 60:.0f} min" if estimated else f"{seconds:.0f} s"


def shown(text: str) -> str:
    r"""Text of anybody's, as it may go to a terminal or into a file: what is no plain text is written as an escape.

    >>> print(shown("a[1] \x1b[31mred\x07, caf\udce9"))
    a[1] \x1b[31mred\x07, caf\udce9
    """
    return _UNSHOWN.sub(lambda found: ascii(found[0])[1:-1], text)


def without_passwords(text: str) -> str:
    """The same, without what stands before the host in an address.

    >>> without_passwords("there is no study 'https://me:pw@host/data'")
    "there is no study 'https://…@host/data'"
    """
    return re.sub(r"(?<=://)[^/\s'\"]*@", "…@", text)


def command(words: Sequence[str]) -> str:
    """A command for the record: to be typed again, without passwords in addresses and options that hold secrets.

    >>> command(["python", "my train.py", "--api-key=abc", "--token", "def", "https://me:pw@host/data"])
    "python 'my train.py' --api-key=… --token … https://…@host/data"
    """
    return shown(_SECRET.sub(lambda found: f"{found[1]}…" if found[1] else "…@", shlex.join(words)))
