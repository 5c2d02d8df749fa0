"""Without its library an adapter names the command that installs it."""

import importlib
import sys

import pytest

from theodolite.errors import MissingExtra

ADAPTERS = {
    "lightning": ("lightning", "lightning.pytorch", "pytorch_lightning"),
    "huggingface": ("transformers",),
    "tensorboard": ("tensorboard", "torch.utils.tensorboard"),
    "mlflow": ("mlflow",),
}


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_a_missing_library_is_an_error_with_the_pip_command(adapter, monkeypatch):
    for name in ADAPTERS[adapter]:
        monkeypatch.setitem(sys.modules, name, None)  # as the import system marks what cannot be had
    monkeypatch.delitem(sys.modules, f"theodolite.adapters.{adapter}", raising=False)
    with pytest.raises(MissingExtra, match=rf"pip install 'theodolite\[{adapter}\]'"):
        importlib.import_module(f"theodolite.adapters.{adapter}")
