"""Names of PyTorch that it does not promise to keep: these, and no other before the lowest version has it."""

import ast
from collections.abc import Iterator
from pathlib import Path

import theodolite

SOURCE = Path(theodolite.__file__).parent

USED = {  # all are there from 2.6.0 to 2.15.0
    "torch.Tensor._make_wrapper_subclass",
    "torch._C",
    "torch._C.DisableTorchFunctionSubclass",
    "torch._C._functorch",  # without what is asked of it, networks train one after another (train/stackable.py)
    "torch._C._functorch._add_batch_dim",
    "torch._C._functorch.get_unwrapped",
    "torch._C._functorch.is_batchedtensor",
    "torch._C._functorch.maybe_get_bdim",
    "torch._C._functorch.maybe_get_level",
    "torch._foreach_copy_",
    "torch._weight_norm",
    "torch.nn.modules.batchnorm._BatchNorm",
    "torch.nn.modules.batchnorm._NormBase",
    "torch.nn.modules.conv._ConvNd",
    "torch.nn.modules.conv._ConvTransposeNd",
    "torch.utils._python_dispatch.TorchDispatchMode",
    "torch.utils._pytree.TreeSpec",
    "torch.utils._pytree.tree_flatten",
    "torch.utils._pytree.tree_leaves",
    "torch.utils._pytree.tree_map",
    "torch.utils._pytree.tree_unflatten",
}
FEATURE_TESTED = {"_has_any_global_hook"}  # from 2.7 on; asked for by getattr


def imported(tree: ast.Module) -> dict[str, str]:
    """What each name of a file that comes from PyTorch stands for."""
    names = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found = [alias for alias in node.names if alias.name.partition(".")[0] == "torch"]
            names |= {alias.asname or "torch": alias.name if alias.asname else "torch" for alias in found}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "torch":
            names |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    return names


def dotted(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def torch_names(tree: ast.Module) -> Iterator[str]:
    names = imported(tree)
    yield from names.values()
    for node in ast.walk(tree):
        first, _, rest = dotted(node).partition(".") if isinstance(node, ast.Attribute) else ("", "", "")
        if first in names:
            yield f"{names[first]}.{rest}"


def private(name: str) -> bool:
    return any(part.startswith("_") and not part.startswith("__") for part in name.split("."))


def test_private_names_of_pytorch_are_those_that_were_looked_at():
    trees = [ast.parse(path.read_text()) for path in SOURCE.rglob("*.py")]
    assert {name for tree in trees for name in torch_names(tree) if private(name)} == USED


def test_names_that_a_version_may_lack_are_asked_for_by_getattr():
    texts = [node.value for path in SOURCE.rglob("*.py") for node in ast.walk(ast.parse(path.read_text()))
             if isinstance(node, ast.Constant) and isinstance(node.value, str)]  # fmt: skip
    assert set(texts) >= FEATURE_TESTED


def test_the_search_finds_private_names_however_they_are_written():
    tree = ast.parse(
        "import torch\nimport torch.nn as n\nfrom torch.a import _b as c\ntorch._d.e()\nn._f\nc.g\ntorch.h"
    )
    assert {name for name in torch_names(tree) if private(name)} == {
        "torch.a._b", "torch._d", "torch._d.e", "torch.nn._f", "torch.a._b.g",
    }  # fmt: skip
