"""Which operation of :mod:`~theodolite.measure.curvature.recorded.operations` a call of PyTorch is.

A rule gets the recording, what the call gave and its arguments. It says False where it does not know a use.
"""

from typing import Any

import torch
from torch import Tensor

from theodolite.measure.curvature.recorded import bilinear, normalisation, operations
from theodolite.measure.curvature.recorded.calls import NotRecordable
from theodolite.measure.curvature.recorded.recording import Recording, Rule
from theodolite.measure.curvature.recorded.vocabulary import CrossEntropyOfRows
from theodolite.measure.problem.chunked import Target

aten = torch.ops.aten


def _linear(recording: Recording, z: Tensor, a: Tensor, forwards: Any, back: Any, *, fresh: bool = False) -> bool:
    slot = recording.slot(a)
    if slot is None:
        return False
    recording.add(operations.Linear(slot, forwards, back, fresh=fresh), z)
    return True


def _same(recording: Recording, z: Tensor, a: Tensor, *_: Any, **__: Any) -> bool:
    recording.follow_alike(z, a)
    return True


def _copied(recording: Recording, z: Tensor, a: Tensor, source: Tensor, *_: Any) -> bool:
    if not recording.reaches(source):
        return True  # what was there before is gone
    return _same(recording, z, source) if source.shape == z.shape else _expanded(recording, z, source)


def _view(recording: Recording, z: Tensor, a: Tensor, *_: Any) -> bool:
    inner, outer = a.shape, z.shape
    if inner == outer:
        recording.repeat_alike(z, a)
    return _linear(recording, z, a, lambda t: t.reshape(outer), lambda t: t.reshape(inner))


def _turned(recording: Recording, z: Tensor, a: Tensor, *dims: int) -> bool:
    one, other = dims or (0, 1)
    return _linear(recording, z, a, lambda t: t.transpose(one, other), lambda t: t.transpose(one, other))


def _permuted(recording: Recording, z: Tensor, a: Tensor, dims: list[int]) -> bool:
    order = [dim % a.ndim for dim in dims]
    inverse = [order.index(at) for at in range(a.ndim)]
    return _linear(recording, z, a, lambda t: t.permute(order), lambda t: t.permute(inverse))


def _expanded(recording: Recording, z: Tensor, a: Tensor, *_: Any, **__: Any) -> bool:
    inner, outer = a.shape, z.shape
    recording.repeat(z, a)
    return _linear(recording, z, a, lambda t: t.expand(outer), lambda t: t.sum_to_size(inner))


def _selected(recording: Recording, z: Tensor, a: Tensor, dim: int, index: int) -> bool:
    slot = recording.slot(a)
    if slot is None:
        return False
    dim %= a.ndim
    part = a.narrow(dim, index % a.shape[dim], 1)
    recording.add(operations.Narrow(slot, a.shape, dim, index % a.shape[dim], 1), part)
    return _linear(recording, z, part, lambda t: t.squeeze(dim), lambda t: t.unsqueeze(dim))


def _sliced(
    recording: Recording, z: Tensor, a: Tensor, dim: int = 0, start: int | None = None, end: int | None = None,
    step: int = 1,
) -> bool:  # fmt: skip
    slot = recording.slot(a)
    if slot is None or step != 1:
        return False
    if z.shape == a.shape:
        return _same(recording, z, a)
    size = a.shape[dim]
    begin = 0 if start is None else min(max(start + size if start < 0 else start, 0), size)
    recording.add(operations.Narrow(slot, a.shape, dim % a.ndim, begin, z.shape[dim]), z)
    return True


def _split(recording: Recording, parts: list[Tensor], a: Tensor, _: Any, dim: int = 0) -> bool:
    slot = recording.slot(a)
    if slot is None:
        return False
    start = 0
    for part in parts:
        recording.add(operations.Narrow(slot, a.shape, dim % a.ndim, start, part.shape[dim]), part)
        start += part.shape[dim]
    return True


def _unbound(recording: Recording, parts: list[Tensor], a: Tensor, dim: int = 0) -> bool:
    return all(_selected(recording, part, a, dim, at) for at, part in enumerate(parts))


def _joined(recording: Recording, z: Tensor, tensors: list[Tensor], dim: int = 0) -> bool:
    if any(t.ndim != z.ndim for t in tensors):
        return False
    slots = [recording.slot(t) for t in tensors]
    recording.add(operations.Join(slots, [t.shape for t in tensors], dim % z.ndim, z), z)
    return True


def _total(recording: Recording, z: Tensor, a: Tensor, dims: Any = None, keepdim: bool = False, **_: Any) -> bool:
    return _reduction(recording, z, a, dims, keepdim, 1.0)


def _mean(recording: Recording, z: Tensor, a: Tensor, dims: Any = None, keepdim: bool = False, **_: Any) -> bool:
    return _reduction(recording, z, a, dims, keepdim, z.numel() / max(a.numel(), 1))


def _reduction(recording: Recording, z: Tensor, a: Tensor, dims: Any, keepdim: bool, factor: float) -> bool:
    every = list(range(a.ndim)) if dims is None or dims == [] else [dim % a.ndim for dim in dims]
    kept = [1 if at in every else size for at, size in enumerate(a.shape)]
    shape, end = a.shape, z.shape

    def forwards(t: Tensor) -> Tensor:
        total = t.sum(every) if every else t
        return (total if factor == 1 else total * factor).reshape(end)

    def back(t: Tensor) -> Tensor:
        shaped = t.reshape(kept)
        return (shaped if factor == 1 else shaped * factor).expand(shape)

    return _linear(recording, z, a, forwards, back)


def _sum(recording: Recording, z: Tensor, a: Any, b: Any, alpha: float = 1, sign: float = 1) -> bool:
    factor = sign * alpha
    terms = [(each, c) for each, c in ((a, 1.0), (b, factor)) if isinstance(each, Tensor)]
    reached = [(each, c) for each, c in terms if recording.reaches(each)]
    if len(reached) == 1:
        each, c = reached[0]
        if each.shape != z.shape:
            if c != 1:
                return False
            return _expanded(recording, z, each)
        if c == 1:
            return _same(recording, z, each)
        recording.follow_function(z, each, c, 0.0)
        return True
    if recording.follow_sum(z, a, b, factor):
        return True
    slots = [(recording.slot(each), c, each.shape) for each, c in reached]
    recording.add(operations.Sum([(s, c, shape) for s, c, shape in slots if s is not None], z.shape), z)
    return True


def _difference(recording: Recording, z: Tensor, a: Any, b: Any, alpha: float = 1) -> bool:
    return _sum(recording, z, a, b, alpha, -1)


def _product(recording: Recording, z: Tensor, a: Any, b: Any) -> bool:
    number = not isinstance(b, Tensor) or (b.ndim == 0 and not recording.reaches(b))
    if number and recording.reaches(a) and a.shape == z.shape:
        recording.follow_function(z, a, float(b), 0.0)
        return True
    one, other = (recording.reaches(each) for each in (a, b))
    if one and other and recording.follow_product(z, a, b):
        return True
    for reached, each, factor in ((one, a, b), (other, b, a)):
        if reached and not (one and other) and each.shape == z.shape:
            recording.follow_function(z, each, factor.clone(), 0.0)
            return True
    recording.add(bilinear.Multiplied((recording.slot(a), a), (recording.slot(b), b)), z)
    return True


def _quotient(recording: Recording, z: Tensor, a: Any, b: Any, **options: Any) -> bool:
    if options or (isinstance(b, Tensor) and recording.reaches(b)) or a.shape != z.shape:
        return False
    recording.follow_function(z, a, 1 / (b.to(z) if isinstance(b, Tensor) else b), 0.0)
    return True


def _matrix_product(recording: Recording, z: Tensor, a: Tensor, b: Tensor) -> bool:
    recording.add(bilinear.MatrixProduct((recording.slot(a), a), (recording.slot(b), b)), z)
    return True


def _stacks(recording: Recording, z: Tensor, a: Tensor, b: Tensor) -> bool:
    matrix = recording.repeated(b)
    if matrix is None or matrix.shape[-2:].numel() != matrix.numel():
        return _matrix_product(recording, z, a, b)
    rows, single, found = a.reshape(-1, a.shape[-1]), matrix.reshape(b.shape[1:]), z.reshape(-1, z.shape[-1])
    if recording.reaches(a):  # all with one matrix, as PyTorch itself does where a gradient is asked for
        _view(recording, rows, a)
    return (
        _view(recording, single, matrix)
        and _matrix_product(recording, found, rows, single)
        and _view(recording, z, found)
    )


def _with_bias(recording: Recording, z: Tensor, c: Tensor, a: Tensor, b: Tensor, beta: Any = 1, alpha: Any = 1) -> bool:
    if beta != 1 or alpha != 1 or c.shape != z.shape[1:]:
        return False
    operation = bilinear.MatrixProduct((recording.slot(a), a), (recording.slot(b), b), recording.slot(c))
    recording.add(operation, z)
    return True


def _convolution(recording: Recording, z: Tensor, a: Tensor, weight: Tensor, bias: Any, *options: Any) -> bool:
    slot = None if bias is None else recording.slot(bias)
    operation = bilinear.Convolution((recording.slot(a), a), (recording.slot(weight), weight), slot, z, options)
    recording.add(operation, z)
    return True


def _embedding(
    recording: Recording, z: Tensor, weight: Tensor, places: Tensor, padding: int = -1, scale: bool = False,
    sparse: bool = False,
) -> bool:  # fmt: skip
    if sparse:
        return False
    rows = len(weight)
    held = (places != padding).unsqueeze(-1) if padding >= 0 else None  # a constant, as it is on the way back
    return _linear(
        recording, z, weight,
        lambda t: aten.embedding(t, places) if held is None else aten.embedding(t, places) * held,
        lambda t: aten.embedding_dense_backward(t, places, rows, padding, scale), fresh=True,
    )  # fmt: skip


def _softmax(recording: Recording, z: Tensor, a: Tensor, dim: int, *_: Any, **__: Any) -> bool:
    return _simplex(recording, z, a, dim, normalisation.Softmax)


def _log_softmax(recording: Recording, z: Tensor, a: Tensor, dim: int, *_: Any, **__: Any) -> bool:
    return _simplex(recording, z, a, dim, normalisation.LogSoftmax)


def _simplex(recording: Recording, z: Tensor, a: Tensor, dim: int, kind: Any) -> bool:
    slot = recording.slot(a)
    if slot is None:
        return False
    recording.add(kind(slot, z, dim), z)
    return True


def _layer_norm(
    recording: Recording, found: tuple[Tensor, Tensor, Tensor], a: Tensor, shape: Any, gamma: Any, beta: Any, _: float
) -> bool:
    z, mean, r = found
    dims = list(range(a.ndim - len(shape), a.ndim))
    scaled = (a - mean) * r
    slot = recording.slot(a)
    if slot is not None:
        recording.add(normalisation.LayerNormalised(slot, scaled, r, dims, a, mean), scaled)
    return _affine(recording, z, None if slot is None else scaled, gamma, beta, scaled, 1.0, tuple(shape))


def _group_norm(
    recording: Recording, found: tuple[Tensor, Tensor, Tensor], a: Tensor, gamma: Any, beta: Any,
    n: int, c: int, places: int, groups: int, _: float,
) -> bool:  # fmt: skip
    z, mean, r = found
    if not recording.reaches(a):
        return False
    folded = a.reshape(n, groups, -1)
    _view(recording, folded, a)
    slot, r = recording.slot(folded), r[..., None]
    if slot is None:
        return False
    scaled = (folded - mean[..., None]) * r
    recording.add(normalisation.LayerNormalised(slot, scaled, r, [2], folded, mean[..., None]), scaled)
    shaped = scaled.reshape(a.shape)
    _view(recording, shaped, scaled)
    return _affine(recording, z, shaped, gamma, beta, shaped, 1.0, (c, *[1] * (a.ndim - 2)))


def _batch_norm(
    recording: Recording, found: tuple[Tensor, Tensor, Tensor], a: Tensor, gamma: Any, beta: Any, mean: Any, var: Any,
    training: bool, _: float, eps: float,
) -> bool:  # fmt: skip
    z, batch_mean, r = found
    shape = (a.shape[1], *[1] * (a.ndim - 2))
    dims = [0, *range(2, a.ndim)]
    if any(isinstance(t, Tensor) and recording.reaches(t) for t in (mean, var)):
        return False
    if not training:
        r, batch_mean = (var + eps).rsqrt(), mean
    r = r.view(shape)
    scaled = (a - batch_mean.view(shape)) * r
    slot = recording.slot(a)
    if training:
        if slot is not None:
            recording.add(normalisation.Normalised(slot, scaled, r, dims), scaled)
        return _affine(recording, z, None if slot is None else scaled, gamma, beta, scaled, 1.0, shape)
    return _affine(recording, z, None if slot is None else a, gamma, beta, scaled, r, shape)


def _affine(
    recording: Recording, z: Tensor, a: Tensor | None, gamma: Any, beta: Any, scaled: Tensor, r: Any, shape: Any
) -> bool:
    if gamma is None and beta is None and a is not None and not isinstance(r, Tensor):
        return _same(recording, z, a)
    factor = scaled.new_ones(()).expand(shape) if gamma is None else gamma.reshape(shape)
    size = next((t.shape for t in (gamma, beta) if t is not None), factor.shape)
    slots = [None if t is None else recording.slot(t) for t in (a, gamma, beta)]
    operation = normalisation.Affine(slots[0], (slots[1], factor), slots[2], scaled, r, size)
    recording.add(operation, z)
    return True


def _cross_entropy_of_rows(
    recording: Recording, z: Tensor, a: Tensor, weight: Tensor, bias: Tensor | None, *target: Any
) -> bool:
    of = Target(*target)
    if recording.reaches(of.weight):
        raise NotRecordable("class weights that parameters reach")
    slots = [None if t is None else recording.slot(t) for t in (a, weight, bias)]
    recording.add(CrossEntropyOfRows(slots, a, weight, bias, of), z)
    return True


RULES: dict[str, Rule] = {
    "theodolite::cross_entropy_of_rows": _cross_entropy_of_rows,
    **dict.fromkeys(("view", "_unsafe_view", "reshape", "unsqueeze", "squeeze"), _view),
    **dict.fromkeys(("t", "transpose"), _turned),
    **dict.fromkeys(("alias", "clone", "contiguous", "lift_fresh"), _same),
    "copy": _copied,
    "permute": _permuted,
    "expand": _expanded,
    "select": _selected,
    "slice": _sliced,
    "split": _split,
    **dict.fromkeys(("split_with_sizes", "unsafe_split", "unsafe_split_with_sizes"), _split),
    "unbind": _unbound,
    "cat": _joined,
    "sum": _total,
    "mean": _mean,
    "add": _sum,
    "sub": _difference,
    "mul": _product,
    "div": _quotient,
    "mm": _matrix_product,
    "bmm": _stacks,
    "addmm": _with_bias,
    "convolution": _convolution,
    "embedding": _embedding,
    "_softmax": _softmax,
    "_safe_softmax": _softmax,
    "_log_softmax": _log_softmax,
    "native_layer_norm": _layer_norm,
    "native_group_norm": _group_norm,
    "native_batch_norm": _batch_norm,
}
