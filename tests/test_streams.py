"""Streams: no two generators of one run are seeded alike, and no two runs that must differ draw alike."""

import ast
from itertools import combinations, product
from pathlib import Path

import pytest
import torch

import theodolite
from theodolite.models import CNN, MLP, build, modules
from theodolite.streams import named_seed
from theodolite.studies import INDEX
from theodolite.study import RunSpec, Training
from theodolite.train import Replica, Split, TrainingData, train, train_replicas

TORCH = 1 << 32  # of a seed, PyTorch's generator on a CPU takes so much
ROOT = Path(theodolite.__file__).parent
RUNS = {
    f"{name}-{preset}": list(study.expand(study.presets[preset].settled()))
    for name, study in INDEX.items()
    for preset in ("smoke", "quick", "full")
}


def test_a_named_seed_is_the_start_of_the_sha256_of_seed_and_name():
    # printf '3 order' | sha256sum | cut -c1-16
    assert named_seed(3, "order") == int.from_bytes(bytes.fromhex("3b75a7e2e7f8ac9d"), "little") >> 1


def test_a_hundred_thousand_streams_have_a_hundred_thousand_seeds():
    names = [f"{stream} {number}" for stream, number in product(("weights", "order"), range(100))]
    seeds = {named_seed(seed, name) for seed, name in product(range(500), names)}
    assert len(seeds) == 100_000
    assert all(0 <= seed < 1 << 63 for seed in seeds)


def test_pytorch_takes_the_lower_half_of_a_seed():
    low, high = (torch.rand(9, generator=torch.Generator().manual_seed(seed)) for seed in (5, 5 + 77 * TORCH))
    assert torch.equal(low, high)


def generators(spec: RunSpec) -> list[int]:
    """How every generator of PyTorch's in a run of this spec is seeded."""
    weights, order = spec.seeds.weights, spec.seeds.order
    names = ((weights, "weights"), (order, "order"), (order, "augmentation"), (order, "measured batches"))
    return [named_seed(seed, name) % TORCH for seed, name in names]


@pytest.mark.parametrize("specs", RUNS.values(), ids=RUNS)
def test_no_two_generators_of_a_run_are_seeded_alike_and_no_two_seeds_of_a_study_share_one(specs):
    by_seed: dict[int, set[int]] = {}
    for spec in specs:
        own = generators(spec)
        assert len(set(own)) == len(own)
        by_seed.setdefault(spec.seed, set()).update(own)
    assert all(one.isdisjoint(other) for one, other in combinations(by_seed.values(), 2))


def test_generators_are_seeded_as_said_above(monkeypatch):
    seeds = []
    manual_seed = torch.Generator.manual_seed

    class Noted(torch.Generator):
        def manual_seed(self, seed):
            seeds.append(seed)
            return manual_seed(self, seed)

    def noted(seed, name):
        seeds.append(named_seed(seed, name))
        return seeds[-1]

    monkeypatch.setattr(torch, "Generator", Noted)
    monkeypatch.setattr(modules, "named_seed", noted)
    images = Split(torch.zeros(8, 1, 4, 4), torch.zeros(8, dtype=torch.int64))
    data, training = TrainingData(images, images), Training(loss="cross_entropy", batch_size=4, epochs=1)
    own = [named_seed(3, name) for name in ("weights", "order", "augmentation")]
    network = build(CNN(image=(1, 4, 4), channels=(2,), outputs=2), seed=3)
    train(network, data, training.model_copy(update={"augment": True}), order_seed=3)
    assert sorted(seeds) == sorted(own)
    seeds.clear()
    train_replicas(MLP(inputs=16, outputs=2), data, training, [Replica(3, 3, 0.1)])
    assert [seed for seed in seeds if seed in own] == own[:2]


@pytest.mark.parametrize("preset", ["smoke", "quick", "full"])
def test_networks_that_share_nothing_but_data_have_seeds_of_their_own(preset):
    surface = INDEX["error-surface"]
    for specs in pairs(list(surface.expand(surface.presets[preset])), "network").values():
        assert len({seed for spec in specs for seed in generators(spec)}) == len(specs) * 4
    paths = INDEX["weight-trajectory"]
    runs = list(paths.expand(paths.presets[preset]))
    for stream in ("weights", "order"):  # of one group's trainings, as many as it has numbers
        numbers = {(spec.seed, spec.labels[stream]): getattr(spec.seeds, stream) % TORCH for spec in runs}
        assert len(set(numbers.values())) == len(numbers)


def pairs(specs: list[RunSpec], label: str) -> dict[int, list[RunSpec]]:
    """The runs of each seed, which differ in this label."""
    found: dict[int, list[RunSpec]] = {}
    for spec in specs:
        assert label in spec.labels
        found.setdefault(spec.seed, []).append(spec)
    return found


def test_every_generator_is_seeded_by_name():
    bare = []
    for path in sorted(ROOT.rglob("*.py")):
        # One measures how fast a machine is, and nothing else; the other seeds what a user's own function draws from.
        if path.is_relative_to(ROOT / "doctor") or path == ROOT / "own" / "worker.py":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call) or getattr(node.func, "attr", "") != "manual_seed":
                continue
            (given,) = node.args
            if not (isinstance(given, ast.Call) and getattr(given.func, "id", "") == "named_seed"):
                bare.append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert bare == []
