"""Which way a product is computed for one model, and what it takes."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from theodolite.measure.curvature.autograd import PRODUCTS, Curvature, Product, counted
from theodolite.measure.curvature.sequential.product import Chain, chain_product, chained
from theodolite.measure.problem.batches import Batch, samples
from theodolite.measure.problem.microbatches import head
from theodolite.measure.problem.objective import Objective
from theodolite.streams import named_seed

TRIAL = 8  # samples a way is tried on
BESIDE = 3  # directions in a block it is tried with: one and two go ways of their own

CHAIN = 2**24  # bytes that a chain keeps of one piece: beyond a core's cache products take up to twice as long
TENSOR = 2**22  # bytes of the largest tensor in a graph: many small ones gain nothing, and each piece costs anew


@dataclass(frozen=True, slots=True)
class Way:
    """How the product with the curvature of one batch is made, and the bytes a sample takes."""

    kind: Curvature
    name: str
    anew: str  # its name where nothing is kept
    make: Callable[[Objective, Tensor, Batch], Product]
    bytes: float  # kept for each sample
    fixed: float  # kept for each batch, however few its samples: as much as a few copies of the parameters
    graph: float  # of the same in autograd's graph, which the check builds whatever the way
    piece: int  # samples whose numbers fit a core's cache


def choose(objective: Objective, kind: Curvature, point: Tensor) -> Way:
    """Layer by layer for plain chains whose product agrees with the kept graph on the first samples; else the graph."""
    first, _ = next(objective.batches())
    batch = head(first, TRIAL)
    try:
        with counted(point) as taken:
            graph = PRODUCTS[kind](objective, point, batch)
        n, half = samples(batch), head(batch, -(-samples(batch) // 2))
        with counted(point) as less:
            PRODUCTS[kind](objective, point, half)
        more = n - samples(half)
        each = (sum(taken()) - sum(less())) / more if more else sum(taken()) / n
        largest = (max(taken()) - max(less())) / more if more else max(taken()) / n
    except (RuntimeError, ValueError):  # a batch that is whole only, if anything
        batch = first
        with counted(point) as taken:
            graph = PRODUCTS[kind](objective, point, batch)
        n = samples(batch)
        each, largest = sum(taken()) / n, max(taken()) / n
    each = max(1.0, each)
    fixed = max(0.0, sum(taken()) - n * each)
    kept = Way(kind, "kept graph", "graph anew", PRODUCTS[kind], each, fixed, each, int(TENSOR / max(1.0, largest)))
    links = chained(objective)
    if links is None:
        return kept
    layers = links

    def make(objective: Objective, point: Tensor, batch: Batch) -> Chain:
        return chain_product(objective, layers, kind, point, batch)

    try:
        chain = make(objective, point, batch)
        if not _agree(chain, graph, point):
            return kept
    except RuntimeError:  # an input that its passes do not know
        return kept
    each, piece = chain.bytes / n, int(CHAIN * n / chain.bytes)
    return Way(kind, "layer by layer", "layer by layer, anew", make, each, 0.0, kept.graph, piece)


def _agree(chain: Product, graph: Product, point: Tensor) -> bool:
    """Whether a random product is the same, alone and in a block, to the rounding of sums over P weights."""
    random = torch.Generator().manual_seed(named_seed(0, "agreement of chain and graph"))
    v = torch.randn(len(point), generator=random, dtype=torch.float64).to(point)
    expected = graph(v)
    rounding = 100 * torch.finfo(point.dtype).eps * len(point) ** 0.5
    found = chain(v), chain(v.expand(BESIDE, -1))[-1]
    return all(bool((each - expected).norm() <= rounding * expected.norm()) for each in found)
