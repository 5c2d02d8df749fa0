from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
import pytest

from theodolite.measure.problem.typed import in_words, is_instance, is_plain

typing_extensions = pytest.importorskip("typing_extensions")
Entry = TypeVar("Entry", bound=np.generic)
Array = typing_extensions.TypeAliasType("Array", np.ndarray[Any, np.dtype[Entry]], type_params=(Entry,))
Some = typing_extensions.TypeAliasType("Some", Sequence[float] | None)


@pytest.mark.parametrize(
    ("hint", "right", "wrong", "words"),
    [
        (Array[np.float64], np.ones(3), [1.0], "array"),
        (Array[np.float64] | None, None, 2.0, "array or None"),
        (Some, (1.0, 2), "one", "[number, …] or None"),
        (list[Some], [None, [1.0]], [1], None),
    ],
)
def test_a_name_for_a_type_is_what_it_stands_for(hint, right, wrong, words):
    """As NumPy's ``NDArray`` is one from 2.5 on."""
    assert is_instance(right, hint)
    assert not is_instance(wrong, hint)
    if words:
        assert in_words(hint) == words
        assert is_plain(hint)
