"""Numbers and counts as they are said, the same on the page, in figures and in the terminal."""


def signed(number: str) -> str:
    """A number as Python writes it, with a true minus sign and an exponent without zeros or plus: what figures show.

    >>> [signed(number) for number in ("-0.5", "1.23e-05", "-2e+06", "671")]
    ['−0.5', '1.23e−5', '−2e6', '671']
    """
    mantissa, e, exponent = number.partition("e")
    return (mantissa + e + (str(int(exponent)) if e else "")).replace("-", "−")


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
