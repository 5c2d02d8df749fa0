"""Weights out of files and into a model: which tensors are meant, what does not match, what was left out."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from theodolite.checkpoint import folders, names, opened, tree
from theodolite.checkpoint.names import Fit, some
from theodolite.errors import BadModel, CodeFailed, StoreError
from theodolite.wording import counted

State = Mapping[str, Tensor]
SHARD = re.compile(r"-\d+-of-(?!0*1\.)\d+\.")  # as Hugging Face names them


def silent(text: str) -> None:
    """Tell nobody."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A file of weights, which part of it is meant, and who is told what of it was not used."""

    path: Path
    key: str | None = None  # where the weights lie in the file, "a.b" for b in a; None: wherever the model's names are
    prefix: str | None = None  # before the model's own names; None: whatever is there; "": nothing
    say: Callable[[str], None] = silent

    def __str__(self) -> str:
        """The path alone."""
        return str(self.path)


Given = TypeVar("Given", Path, Checkpoint)


@dataclass(frozen=True, slots=True)
class Stored(Mapping[str, Tensor]):
    """What a file holds. As a mapping: its one set of weights, by name, for who has no model to choose by."""

    checkpoint: Checkpoint
    tensors: dict[str, Tensor]  # all of them, by their whole paths: "state_dict.layer.weight"
    roots: frozenset[str]  # where names begin: "", "state_dict."
    top: tuple[str, ...]  # keys at the top of the file

    def __getitem__(self, name: str) -> Tensor:
        """A tensor of the one set; StoreError where there are several."""
        return self._alone()[name]

    def __iter__(self) -> Iterator[str]:
        """Names of the one set; StoreError where there are several."""
        return iter(self._alone())

    def __len__(self) -> int:
        """How many tensors the one set has; StoreError where there are several."""
        return len(self._alone())

    def _alone(self) -> dict[str, Tensor]:
        sets = names.sets(self.tensors, self.roots)
        if len(sets) > 1:
            shown = some([root.removesuffix(".") or "what lies in none of them" for root in sets])
            raise StoreError(
                f"expected one set of weights in {self.checkpoint}, got {len(sets)}: {shown}. "
                f"Say which: --weights-key {_place(self.checkpoint.key, next(filter(None, sets)))}"
            )
        return names.unwrapped(next(iter(sets.values())), self.checkpoint.prefix)


def found(paths: Sequence[Given]) -> list[Given]:
    """Each file, and all weights of each folder in the order of the numbers in their names.

    Raises:
        StoreError: one is not there, or is a folder without weights.
    """
    files: list[Given] = []
    for given in paths:
        path = given.path if isinstance(given, Checkpoint) else given
        inside = folders.inside(path) if path.is_dir() else [path]
        if not inside or not path.exists():
            what = f"a folder with none ({', '.join(opened.ENDINGS)})" if path.is_dir() else "no such file"
            raise StoreError(f"expected weights in {path}, got {what}. Check the path.")
        if isinstance(given, Checkpoint):
            files += [replace(given, path=file) for file in inside]
        else:
            files += inside
    return files


def read(checkpoint: Path | Checkpoint) -> Stored:
    """The tensors of a file, on the CPU.

    Raises:
        StoreError: it is not there, cut, of another kind, holds no tensors, or could run code; then it is not opened.
    """
    one = _checkpoint(checkpoint)
    if SHARD.search(one.path.name):
        raise StoreError(
            f"expected whole weights, got one shard, {one}. Give its folder, which must hold the index too."
        )
    content = opened.content(one.path)
    tensors, roots = tree.tensors(tree.at(content, one.key, one.path))
    if not tensors:
        kind = type(content).__name__
        kind += f" with {some(list(map(str, content)))}" if isinstance(content, Mapping) and content else ""
        raise StoreError(
            f"expected a state dict in {one}, got {kind}. Save one: torch.save(model.state_dict(), 'weights.pt')."
        )
    return Stored(one, tensors, roots, tuple(map(str, content)) if isinstance(content, Mapping) else ())


def put(model: nn.Module, state: State, checkpoint: Path | Checkpoint) -> None:
    """Load weights into a model; whatever a file puts before every name is found and left out.

    Raises:
        BadModel: names or shapes do not match, or two sets of weights do; the message says what to choose.
    """
    one = _checkpoint(checkpoint)
    stored = state if isinstance(state, Stored) else Stored(one, dict(state), frozenset({""}), tuple(state))
    wanted = {name: tensor for name, tensor in model.state_dict().items() if isinstance(tensor, Tensor)}
    fits = names.fits(stored.tensors, stored.roots, wanted, one.prefix)
    whole = names.different([fit for fit in fits if fit.fills], stored.tensors)
    if len(whole) > 1:
        raise BadModel(
            f"expected one set of weights for this model in {one}, got {len(whole)} that fit: "
            f"{some([fit.prefix.removesuffix('.') or 'names with nothing before' for fit in whole])}. "
            f"Say which: {_choice(whole, 0, one)}, or {_choice(whole, 1, one)}"
        )
    if not whole or (whole[0].unexpected and one.prefix is None):  # a larger model with the same names is another
        raise BadModel(_mismatch(fits, stored, wanted, one))
    _check_tied(whole[0], stored, wanted, one)
    model.load_state_dict({own: stored.tensors[name] for own, name in whole[0].found.items()}, strict=False)
    _say(whole[0], stored, one)


def model_from(made: Any, what: str) -> nn.Module:
    """What a function of the user's gave, if it is a model.

    Raises:
        CodeFailed: it is something else.
    """
    if not isinstance(made, nn.Module):
        raise CodeFailed(f"expected {what} to give a torch.nn.Module, got {type(made).__name__}. Return the model.")
    return made


def _checkpoint(given: Path | Checkpoint) -> Checkpoint:
    return given if isinstance(given, Checkpoint) else Checkpoint(given)


def _place(key: str | None, root: str) -> str:
    """Where in a file weights lie, as ``--weights-key`` names it."""
    return ".".join(filter(None, (key, root.removesuffix("."))))


def _choice(fits: Sequence[Fit], number: int, one: Checkpoint) -> str:
    """The options that tell one of several fits from the others."""
    chosen = fits[number]
    alike = [fit for fit in fits if fit.root == chosen.root]
    place = _place(one.key, chosen.root)
    key = f"--weights-key {place}" if place else ""
    prefix = f"--strip-prefix '{chosen.prefix.removeprefix(chosen.root)}'" if len(alike) > 1 or not chosen.root else ""
    return f"{key} {prefix}".strip()


def _mismatch(fits: Sequence[Fit], stored: Stored, wanted: State, one: Checkpoint) -> str:
    """Why the nearest of the sets in a file does not fit."""
    near = max(fits, key=lambda fit: (len(fit.found), -len(fit.unexpected)))
    advice = "Let --model make the model that was trained."
    if near.missing or (near.unexpected and one.prefix is None):
        lists = (("missing:", near.missing), ("unexpected:", near.unexpected))
        parts = "; ".join(f"{what} {some(listed)}" for what, listed in lists if listed)
        behind = _places(stored, wanted) if one.prefix is not None and not near.found else []
        if behind:
            advice = f"Pass {' or '.join(behind)}."
        if not near.missing:
            advice = f"{advice[:-1]}, or have them left out: --strip-prefix '{near.prefix.removeprefix(near.root)}'"
        return f"expected the weights of this model in {one}, but names do not match: {parts}. {advice}"
    pairs = [(own, stored.tensors[near.found[own]], wanted[own]) for own in near.reshaped]
    apart = [f"{own} {_shape(has, asked)} for {_shape(asked, has)}" for own, has, asked in pairs]
    return f"expected the weights of this model in {one}, but shapes do not match: {some(apart)}. {advice}"


def _places(stored: Stored, wanted: State) -> list[str]:
    """The prefixes behind which all of the model lies, as options."""
    fits = names.fits(stored.tensors, stored.roots, wanted, None)
    return [f"--strip-prefix '{fit.prefix.removeprefix(fit.root)}'" for fit in fits if fit.fills][: names.SHOWN]


def _check_tied(fit: Fit, stored: Stored, wanted: State, one: Checkpoint) -> None:
    """Two tensors of a file for one of the model, which could take either."""
    first: dict[object, str] = {}
    for own, name in fit.found.items():
        other = first.setdefault(names.place(wanted[own]), name) if wanted[own].numel() else name
        if other != name and not torch.equal(stored.tensors[name], stored.tensors[other]):
            raise BadModel(
                f"expected equal tensors '{other}' and '{name}' in {one}, since the model ties them, but they differ. "
                "Let --model make the model that was trained."
            )


def _say(fit: Fit, stored: Stored, one: Checkpoint) -> None:
    """Tell which tensors and keys of the file were not used."""
    used = set(fit.found.values())
    near = [name.removeprefix(fit.root) for name in stored.tensors if name not in used and name.startswith(fit.root)]
    place = _place(one.key, fit.root)
    keys = [k for k in stored.top if not f"{place}.".startswith(f"{k}.") and (place or k not in stored.tensors)]
    elsewhere = [n for n in stored.tensors if not n.startswith(fit.root) and n.partition(".")[0] not in keys]
    parts = [f"{counted(len(near), 'tensor')}: {some(near)}"] if near else []
    parts += [f"elsewhere {counted(len(elsewhere), 'tensor')}: {some(elsewhere)}"] if elsewhere else []
    parts += [f"keys {some(keys)}"] if keys else []
    if parts:
        one.say("; ".join(parts))


def _shape(tensor: Tensor, other: Tensor) -> str:
    """A shape; or the type, where that is all that differs."""
    if tensor.shape == other.shape:
        return str(tensor.dtype).removeprefix("torch.")
    return " x ".join(map(str, tensor.shape)) or "a number"
