"""Plain chains of layers: ``nn.Sequential``, nested ones laid flat."""

from torch import nn


def chain(module: nn.Module, prefix: str = "") -> list[tuple[str, nn.Module]] | None:
    """The modules of an ``nn.Sequential``, nested ones laid flat, by name; None if hooks hide what happens between."""
    if module._forward_hooks or module._forward_pre_hooks:
        return None
    if type(module) is not nn.Sequential:
        return [(prefix, module)]
    links: list[tuple[str, nn.Module]] = []
    for name, child in module._modules.items():  # named_children() leaves out a module used twice
        part = chain(child, f"{prefix}.{name}" if prefix else name) if child is not None else None
        if part is None:
            return None
        links += part
    return links
