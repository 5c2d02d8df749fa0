"""Which backend computes the products for one model, and what it takes."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from theodolite.errors import TooLarge
from theodolite.measure.curvature.autograd import GraphTooLarge, Product, counted, made
from theodolite.measure.curvature.kinds import PER_SAMPLE, PRODUCTS, Curvature, squares_product
from theodolite.measure.curvature.likelihood import is_natural
from theodolite.measure.curvature.recomputed import Recomputed
from theodolite.measure.curvature.recorded.calls import NotRecordable
from theodolite.measure.curvature.recorded.product import RecordedProduct, recorded_product
from theodolite.measure.curvature.sequential.product import Chain, chain_product, chained
from theodolite.measure.linalg.streamed import fill_normal
from theodolite.measure.problem.batches import Batch, count
from theodolite.measure.problem.memory import in_words
from theodolite.measure.problem.microbatches import first_samples
from theodolite.measure.problem.objective import Objective
from theodolite.measure.problem.vocabulary import LOGITS_SHARE, largest_vocabulary, logit_bytes
from theodolite.streams import named_seed

TRIAL_SAMPLES = (8, 2, 1)  # that a backend is tried on: the first that fit the memory
TRIAL_BLOCK = 3  # directions in a block it is tried with: one and two go ways of their own

LOGITS_COPIES = 4  # of those held at once, while a chunk is multiplied
WORKING_COPIES = 3  # of what is kept of one microbatch pass through memory while it is made or multiplied by

CACHE_BYTES = 2**24  # that a chain keeps of one microbatch: beyond a core's cache products take up to twice as long
TENSOR_BYTES = 2**22  # of the largest tensor in a graph: many small ones gain nothing, each microbatch costs anew


Count = Callable[[Tensor], AbstractContextManager[Callable[[], list[int]]]]


@dataclass(frozen=True, slots=True)
class Backend:
    """How the product with the curvature of one batch is made, and the bytes a sample takes."""

    kind: Curvature
    name: str
    name_anew: str  # where nothing is kept
    make: Callable[[Objective, Tensor, Batch], Product]
    sample_bytes: float  # kept for each sample
    batch_bytes: float  # kept for each batch, however few its samples: as much as a few copies of the parameters
    graph_bytes: float  # of a sample in autograd's graph, which the check builds whatever the backend
    microbatch: int  # samples whose numbers fit a core's cache
    samples_independent: bool  # known to be: no layer lets them meet
    logit_bytes: float | None = None  # of logits over a large vocabulary that are held at once; None: all
    one_by_one: bool = False  # samples are large: the check takes one where one can say


def choose_backend(objective: Objective, kind: Curvature, point: Tensor, first: Batch, space: float) -> Backend:
    """The first way that takes the model and agrees with the kept graph on the first samples; else the graph.

    Layer by layer for plain chains; operation by operation for all others, with logits in chunks where they would take
    more than a small part of ``space``, the bytes that there are; block by block where
    not even one sample's graph fits.
    """
    if space * LOGITS_SHARE < logit_bytes(objective.model, first):
        found = _without_logits(objective, kind, point, first, space * LOGITS_SHARE)
        if found is not None:
            return found
    try:
        graph, batch, product = _kept_graph(objective, kind, point, first, space)
    except GraphTooLarge:
        return _blocks(objective, kind, point, first, space)
    for way in (_layer_by_layer, _by_operation):
        found = way(objective, graph, point, batch, product)
        if found is not None:
            return found
    return graph


def _kept_graph(
    objective: Objective, kind: Curvature, point: Tensor, first: Batch, space: float
) -> tuple[Backend, Batch, Product]:
    """The backend that takes every model; the samples it was tried on, as many as fit; its product with them."""
    few = partial(counted, most=space / WORKING_COPIES)
    for samples in TRIAL_SAMPLES:
        try:
            return _kept_graph_counted(objective, kind, point, first, samples, few)
        except GraphTooLarge:
            if samples == TRIAL_SAMPLES[-1]:
                raise
        except RuntimeError as error:
            if "saved tensor hooks" not in str(error):
                raise
            break
    return _kept_graph_counted(objective, kind, point, first, TRIAL_SAMPLES[0], made)  # a model with torch.func within


def _kept_graph_counted(
    objective: Objective, kind: Curvature, point: Tensor, first: Batch, samples: int, counted: Count
) -> tuple[Backend, Batch, Product]:
    make, batch = PRODUCTS[kind], first_samples(first, samples)
    half = first_samples(batch, -(-count(batch) // 2))
    try:
        with counted(point) as less:
            make(objective, point, half)
        with counted(point) as taken:
            product = make(objective, point, batch)
        fewer = count(half)
    except (torch.OutOfMemoryError, GraphTooLarge):
        raise
    except Exception:  # whatever a part of a batch raises: it is whole only
        batch, fewer = first, count(first)
        with counted(point) as taken:
            product = make(objective, point, batch)
    n = count(batch)
    if n > fewer:
        each, largest = ((f(taken()) - f(less())) / (n - fewer) for f in (sum, max))
    else:
        each, largest = (f(taken()) / n for f in (sum, max))
    each = max(1.0, each)
    fixed = max(0.0, sum(taken()) - n * each)
    microbatch = int(TENSOR_BYTES / max(1.0, largest))
    return Backend(kind, "kept graph", "graph anew", make, each, fixed, each, microbatch, False), batch, product


def _blocks(objective: Objective, kind: Curvature, point: Tensor, first: Batch, space: float) -> Backend:
    """With what is within a block computed again on the way back, so that one block's graph at a time is held.

    Raises:
        TooLarge: the model has no blocks, or what they get takes more than there is.
    """
    few = first_samples(first, 1)
    try:
        try:
            return _block_by_block(objective, kind, point, few, space)
        except (torch.OutOfMemoryError, GraphTooLarge):
            raise
        except Exception:  # whatever a part of a batch raises: it is whole only
            if few is first:
                raise
            return _block_by_block(objective, kind, point, first, space)
    except GraphTooLarge:
        raise TooLarge(
            f"expected memory for the graph of one sample, got {in_words(space)} (an instrument keeps half of its own "
            "for vectors), which is too little also block by block, a block being a module in nn.Sequential or "
            "nn.ModuleList. Pass more, or shorter samples."
        ) from None


def _block_by_block(objective: Objective, kind: Curvature, point: Tensor, few: Batch, space: float) -> Backend:
    own, n = Recomputed(objective), count(few)
    if not own.blocks:
        raise GraphTooLarge
    once = graph_bytes_once(objective, point, few, space)
    with counted(point, space) as taken:
        product = own.product(kind, point, few)
    product(torch.ones_like(point))  # sees the largest graph of a block
    kept = sum(taken()) + own.largest
    if WORKING_COPIES * kept > space:
        raise GraphTooLarge

    def make(objective: Objective, point: Tensor, batch: Batch) -> Product:
        return Recomputed(objective).product(kind, point, batch)

    name = "block by block"
    return Backend(kind, name, f"{name}, anew", make, max(1.0, kept / n), 0.0, once / n, 1, False, one_by_one=True)


def graph_bytes_once(objective: Objective, point: Tensor, batch: Batch, space: float) -> float:
    """Bytes that a batch's graph of first derivatives keeps, a part of the copies that are accounted for.

    Raises:
        GraphTooLarge: they are more than ``space``.
    """
    with torch.enable_grad(), counted(point, space) as taken, objective.at(objective.unflatten(point)):
        objective.loss_of(batch)
    return sum(taken()) / WORKING_COPIES


def _layer_by_layer(
    objective: Objective, graph: Backend, point: Tensor, batch: Batch, expected: Product
) -> Backend | None:
    modules = chained(objective)
    if modules is None:
        return None

    def make(objective: Objective, point: Tensor, batch: Batch) -> Chain:
        return chain_product(objective, modules, graph.kind, point, batch)

    try:
        chain = make(objective, point, batch)
        if not _agree(chain, expected, point):
            return None
    except torch.OutOfMemoryError:
        raise
    except Exception:  # inputs that its passes do not know
        return None
    each, microbatch = chain.bytes / count(batch), int(CACHE_BYTES * count(batch) / chain.bytes)
    name = "layer by layer"
    return Backend(graph.kind, name, f"{name}, anew", make, each, 0.0, graph.graph_bytes, microbatch, True)


def _by_operation(
    objective: Objective, graph: Backend, point: Tensor, batch: Batch, expected: Product
) -> Backend | None:
    def make(objective: Objective, point: Tensor, batch: Batch) -> Product:
        try:
            return recorded_product(objective, graph.kind, point, batch)
        except torch.OutOfMemoryError:
            raise
        except (NotRecordable, RuntimeError):  # a batch that goes another way through the model
            return graph.make(objective, point, batch)

    half = first_samples(batch, -(-count(batch) // 2))
    try:
        product = recorded_product(objective, graph.kind, point, batch)
        if not _agree(product, expected, point):
            return None
        taken, n = product.bytes(point), count(batch)
        more = n - count(half)
        each = (taken - recorded_product(objective, graph.kind, point, half).bytes(point)) / more if more else taken / n
    except torch.OutOfMemoryError:
        raise
    except Exception:  # what is not followed
        return None
    each, name = max(1.0, each), "operation by operation"
    fixed = max(0.0, taken - n * each)
    return Backend(graph.kind, name, f"{name}, anew", make, each, fixed, graph.graph_bytes, graph.microbatch, False)


def _without_logits(objective: Objective, kind: Curvature, point: Tensor, first: Batch, most: float) -> Backend | None:
    """With cross entropy in chunks: seen to agree with all logits held, on one sample, or two where each is squared.

    Operation by operation; squares of samples' gradients from these gradients, one after the other.
    """
    if kind in PER_SAMPLE:
        few, name, chunked = first_samples(first, 2), "gradient by gradient, logits in chunks", squares_product
    else:
        few, name, chunked = first_samples(first, 1), "operation by operation, logits in chunks", recorded_product
        if kind == "fisher" and not is_natural(objective.loss, few[1]):
            return None
    logits, row = logit_bytes(objective.model, few), largest_vocabulary(objective.model) * point.element_size()
    if logits < 3 * row:  # a sample is one token
        few, logits = first_samples(first, 3), logit_bytes(objective.model, first_samples(first, 3))
    try:
        small = replace(objective, logit_bytes=min(most, max(row, logits / 3)))
        product, whole = chunked(small, kind, point, few), recorded_product(objective, kind, point, few)
        if getattr(product, "holds_logits", False) or not _agree(product, whole, point, alone=True):
            return None
        kept = product.bytes(point) if isinstance(product, RecordedProduct) else whole.bytes(point)
    except torch.OutOfMemoryError:
        raise
    except Exception:  # what is not followed
        return None

    def make(objective: Objective, point: Tensor, batch: Batch) -> Product:
        try:
            return chunked(replace(objective, logit_bytes=most), kind, point, batch)
        except torch.OutOfMemoryError:
            raise
        except (NotRecordable, RuntimeError):  # a batch that goes another way through the model
            return PRODUCTS[kind](objective, point, batch)

    each = max(1.0, kept / count(few))
    checked = LOGITS_COPIES * logits / count(few) + each  # all logits of a sample, by first derivatives alone
    microbatch = int(TENSOR_BYTES * count(few) / min(most, logits))
    fixed = LOGITS_COPIES * most
    return Backend(
        kind, name, f"{name}, anew", make, each, fixed, checked / WORKING_COPIES, microbatch, False, most, True
    )


def _agree(chain: Product, graph: Product, point: Tensor, *, alone: bool = False) -> bool:
    """Whether a random product is the same, alone and in a block, to the rounding of sums over P weights.

    Args:
        chain: one way to the product.
        graph: the other.
        point: the parameters ``(P,)``.
        alone: blocks go one by one, which says nothing more.
    """
    draw = torch.Generator().manual_seed(named_seed(0, "agreement of chain and graph"))
    v = fill_normal(torch.empty_like(point, requires_grad=False), draw)
    expected = graph(v)
    rounding = 100 * torch.finfo(point.dtype).eps * len(point) ** 0.5

    def same(found: Tensor) -> bool:
        return bool((found - expected).norm() <= rounding * expected.norm())

    return same(chain(v)) and (alone or same(chain(v.expand(TRIAL_BLOCK, -1))[-1]))
