"""Weights come back bit for bit, and in the order of the model."""

import safetensors.torch
import torch

from theodolite.store import weights

LAYERS = {f"{n}.{part}": torch.randn(3, 2) if part == "weight" else torch.randn(3) for n in (0, 2, 10)
          for part in ("weight", "bias")}  # fmt: skip


def test_weights_come_back_bit_for_bit_in_their_order():
    found = weights.from_bytes(weights.to_bytes(LAYERS))
    assert list(found) == list(LAYERS)
    assert all(torch.equal(found[name], LAYERS[name]) for name in LAYERS)


def test_snapshots_come_back_by_epoch_with_layers_in_their_order():
    states = {epoch: {name: tensor + epoch for name, tensor in LAYERS.items()} for epoch in (0, 3, 12)}
    found = weights.snapshots_from_bytes(weights.snapshots_to_bytes(states))
    assert list(found) == [0, 3, 12]
    for epoch, state in states.items():
        assert list(found[epoch]) == list(LAYERS)
        assert all(torch.equal(found[epoch][name], state[name]) for name in LAYERS)


def test_a_file_of_another_writer_is_read_too():
    content = safetensors.torch.save(LAYERS)
    assert weights.from_bytes(content).keys() == LAYERS.keys()


def test_the_same_weights_give_the_same_bytes():
    assert weights.to_bytes(LAYERS) == weights.to_bytes(dict(LAYERS))
