"""Names of a file's tensors against the names that a model has: what lies before them, and what fits."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

WRAPPERS = ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")  # put in by PyTorch, at any place
PARALLEL = "module."  # DistributedDataParallel, DataParallel and AveragedModel, before all names
AVERAGED = "n_averaged"  # AveragedModel's own count
SHOWN = 5  # names listed

State = Mapping[str, Tensor]


@dataclass(frozen=True, slots=True)
class Fit:
    """How the tensors behind one prefix fit a model."""

    root: str  # the part of the prefix that is keys of the file: "state_dict."
    prefix: str  # "state_dict.model."
    found: dict[str, str]  # the model's names, with the tensors that are theirs
    missing: list[str]  # names of the model
    unexpected: list[str]  # behind the prefix, for which the model has no name
    reshaped: list[str]  # names of the model whose tensors have another shape, or whole numbers for fractions

    @property
    def fills(self) -> bool:
        """Whether the model gets all that it asks for."""
        return not (self.missing or self.reshaped)


def fits(tensors: State, roots: Iterable[str], wanted: State, prefix: str | None) -> list[Fit]:
    """Every prefix behind which some name of the model lies, with how far the rest does; at least one.

    Args:
        tensors: of the file, by their whole paths.
        roots: where names begin.
        wanted: the model's own state.
        prefix: that comes before the model's names, behind the root; None: any.
    """
    bare = _bare(tensors)
    own = _bare(wanted) if AVERAGED in wanted else _unparalleled(_bare(wanted))
    starts = sorted({_without_wrappers(root) for root in roots}, key=len, reverse=True)
    behind: dict[str, dict[str, str]] = {}
    for name, whole in bare.items():
        for rest in _endings(name):
            if rest in own:
                behind.setdefault(name.removesuffix(rest), {})[own[rest]] = whole
    if prefix is not None:
        behind = _chosen(behind, starts, prefix)
    found = []
    for start, hits in (behind or {starts[-1]: {}}).items():
        used = set(hits.values())
        filled = {place(wanted[name]) for name in hits}  # a tied tensor may be stored under one of its names
        fit = Fit(
            root=_root(start, starts),
            prefix=start,
            found=hits,
            missing=[n for n, t in wanted.items() if n not in hits and not (t.numel() and place(t) in filled)],
            unexpected=[
                n.removeprefix(start) for n, whole in bare.items() if n.startswith(start) and whole not in used
            ],
            reshaped=[name for name, whole in hits.items() if not _alike(tensors[whole], wanted[name])],
        )
        found.append(fit)
    return found


def different(found: Sequence[Fit], tensors: State) -> list[Fit]:
    """Fits that give a model other weights; of those that give the same, the first."""
    kept: list[Fit] = []
    for fit in found:
        given = {own: tensors[whole] for own, whole in fit.found.items()}
        if not any(_same(given, {own: tensors[whole] for own, whole in other.found.items()}) for other in kept):
            kept.append(fit)
    return kept


def sets(tensors: State, roots: Iterable[str]) -> dict[str, dict[str, Tensor]]:
    """The different sets of weights in a file, by where their names begin; counts and single numbers are none."""
    starts = sorted(roots, key=len, reverse=True)
    found: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        root = _root(name, starts)
        found.setdefault(root, {})[name.removeprefix(root)] = tensor
    numbers = {r: own for r, own in found.items() if any(t.ndim and t.is_floating_point() for t in own.values())}
    kept: dict[str, dict[str, Tensor]] = {}
    for root, own in (numbers or found).items():
        if not any(_same(own, other) for other in kept.values()):
            kept[root] = own
    return kept


def unwrapped(state: State, prefix: str | None) -> dict[str, Tensor]:
    """A state without what wrappers put before names; or what lies behind a given prefix, without it."""
    bare = _bare(state)
    if prefix is None:
        return {name: state[whole] for name, whole in _unparalleled(bare).items()}
    start = _dotted(prefix)
    if not any(name.startswith(start) for name in bare):
        bare = _unparalleled(bare)
    return {n.removeprefix(start): state[whole] for n, whole in bare.items() if n.startswith(start)}


def some(names: Sequence[str]) -> str:
    """The first few names, and how many more there are."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def _chosen(behind: dict[str, dict[str, str]], starts: Sequence[str], prefix: str) -> dict[str, dict[str, str]]:
    """What is behind a prefix, counted from the top; or from each root; or past ``module.``; or behind more than it."""
    start = _dotted(prefix)
    if start in behind:
        return {start: behind[start]}
    rests = {whole: whole.removeprefix(_root(whole, starts)) for whole in behind}
    inner = {whole: _past_parallel(rest) for whole, rest in rests.items()}
    for begun in ({w: r for w, r in rests.items() if r == start}, {w: r for w, r in inner.items() if r == start}):
        if begun:
            return {whole: behind[whole] for whole in begun}
    more = [w for w in behind if rests[w].startswith(start)] or [w for w in behind if inner[w].startswith(start)]
    return {whole: behind[whole] for whole in more}


def _endings(name: str) -> Iterable[str]:
    """A name, and what is left of it behind each of its dots.

    >>> list(_endings("a.b.weight"))
    ['a.b.weight', 'b.weight', 'weight']
    """
    parts = name.split(".")
    return (".".join(parts[first:]) for first in range(len(parts)))


def _bare(names: Iterable[str]) -> dict[str, str]:
    """Names without what PyTorch's wrappers put into them, with the whole ones; as they are if two became one."""
    whole = list(names)
    bare = {_without_wrappers(name): name for name in whole}
    return bare if len(bare) == len(whole) else {name: name for name in whole}


def _without_wrappers(name: str) -> str:
    return ".".join(part for part in name.split(".") if part not in WRAPPERS)


def _unparalleled(names: Mapping[str, str]) -> dict[str, str]:
    """The same names without ``module.``, as often as it stands before all of them."""
    rest = {name: whole for name, whole in names.items() if name != AVERAGED}
    if not rest or not all(name.startswith(PARALLEL) for name in rest):
        return dict(names)
    return _unparalleled({name.removeprefix(PARALLEL): whole for name, whole in rest.items()})


def _past_parallel(name: str) -> str:
    """What is left of a name or prefix behind ``module.``, as often as it begins with that."""
    return _past_parallel(name.removeprefix(PARALLEL)) if name.startswith(PARALLEL) else name


def _dotted(prefix: str) -> str:
    return _without_wrappers(prefix if not prefix or prefix.endswith(".") else f"{prefix}.")


def _root(name: str, starts: Sequence[str]) -> str:
    """The longest of the roots, given longest first, that a name begins with."""
    return next((start for start in starts if name.startswith(start)), "")


def _alike(stored: Tensor, wanted: Tensor) -> bool:
    """Whether one can be copied into the other: quantised weights, which are whole numbers, would be others."""
    return stored.shape == wanted.shape and (stored.is_floating_point() or not wanted.is_floating_point())


def place(tensor: Tensor) -> tuple[int, torch.Size]:
    """Where a tensor lies in memory: tied ones are at one place."""
    return tensor.data_ptr(), tensor.shape


def _same(one: State, other: State) -> bool:
    return one.keys() == other.keys() and all(
        other[name].shape == tensor.shape and other[name].dtype == tensor.dtype and torch.equal(other[name], tensor)
        for name, tensor in one.items()
    )
