"""Transformers: what is said to share units, against permutations by hand and outputs called plainly."""

import copy

import pytest
import torch
from torch import nn

from networks import GPT, drawn, same, shuffled
from theodolite.errors import BadModel, CheckFailed
from theodolite.measure.align import align
from theodolite.measure.units import Axis, each, encoder_layer, gpt, gpt_block, joined, made, read

TOKENS = torch.arange(48).reshape(8, 6) * 7 % 11
DATA = TOKENS, TOKENS


def gpt2():
    transformers = pytest.importorskip("transformers", reason="pip install transformers")  # CI has it: extra dev
    small = {"n_embd": 8, "n_layer": 2, "n_head": 2, "vocab_size": 11, "n_positions": 6}
    return transformers.GPT2LMHeadModel(transformers.GPT2Config(**small, bos_token_id=0, eos_token_id=0))


def encoder():
    layers = [nn.TransformerEncoderLayer(8, 2, 12, batch_first=True, norm_first=bool(i)) for i in range(2)]
    return nn.Sequential(nn.Embedding(11, 8), *layers, nn.LayerNorm(8), nn.Linear(8, 5))


def encoders(model):
    around = {"residual": made(model, "0") + each(model, "3") + read(model, "4")}
    return joined(around, encoder_layer(model, "1"), encoder_layer(model, "2"))


NETWORKS = {"nanoGPT": (GPT, gpt), "GPT-2": (gpt2, gpt), "TransformerEncoder": (encoder, encoders)}


def outputs(model):
    found = model(TOKENS)
    return found if isinstance(found, torch.Tensor) else found.logits


@pytest.mark.parametrize("name", NETWORKS)
def test_an_aligned_transformer_computes_the_same_function(name):
    make, units = NETWORKS[name]
    a, b = (drawn(make, seed) for seed in (1, 2))
    result = align(a, b, data=DATA, units=units(a))
    assert any(result.moved)
    assert torch.allclose(outputs(result.model), outputs(b), rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("seed", range(3))
def test_a_transformer_whose_units_were_shuffled_is_found_again_bit_by_bit(name, seed):
    make, units = NETWORKS[name]
    a = drawn(make, 1)
    b = shuffled(a, units(a), seed)
    assert not same(a, b)
    assert torch.allclose(outputs(a), outputs(b), rtol=1e-10, atol=1e-11)
    found = align(a, b, units=units(a))
    assert found.distance == 0
    assert same(a, found.model)


def test_heads_hidden_units_and_stream_are_permuted_as_by_hand():
    a = drawn(GPT, 1)
    b = copy.deepcopy(a)
    block = b.transformer["h"][1]
    heads, hidden = torch.tensor([1, 0]), torch.arange(32).roll(5)
    with torch.no_grad():
        for tensor in (block.attn.c_attn.weight, block.attn.c_attn.bias):
            tensor.copy_(tensor.unflatten(0, (3, 2, 4))[:, heads].flatten(0, 2))
        block.attn.c_proj.weight.copy_(block.attn.c_proj.weight.unflatten(1, (2, 4))[:, heads].flatten(1, 2))
        for tensor in (block.mlp["c_fc"].weight, block.mlp["c_fc"].bias, block.mlp["c_proj"].weight.T):
            tensor.copy_(tensor[hidden].clone())
    assert torch.allclose(outputs(a), outputs(b), rtol=1e-10, atol=1e-11)
    result = align(a, b, units=gpt(a))
    assert same(a, result.model)
    orders = dict(zip(result.units, result.permutations, strict=True))
    assert torch.equal(heads[orders["transformer.h.1.attn"]], torch.arange(2))
    assert torch.equal(hidden[orders["transformer.h.1.mlp"]], torch.arange(32))
    assert sum(moved > 0 for moved in result.moved) == 2


def test_activations_of_a_gpt_are_matched_by_all_layers_that_read_the_stream():
    a = drawn(GPT, 1)
    found = align(a, shuffled(a, gpt(a)), method="activations", data=DATA, units=gpt(a))
    assert same(a, found.model)


def test_attention_that_does_not_call_its_projection_has_no_activations_to_match():
    a = drawn(encoder, 1)
    with pytest.raises(BadModel, match=r"1\.self_attn.*method='weights'"):
        align(a, a, method="activations", data=DATA, units=encoders(a))


def test_data_as_tokenizers_give_them_check_a_model_that_returns_more_than_a_tensor():
    a = drawn(gpt2, 1)
    batches = [{"input_ids": TOKENS[:5], "labels": TOKENS[:5]}, {"input_ids": TOKENS[5:], "labels": TOKENS[5:]}]
    assert same(a, align(a, shuffled(a, gpt(a)), data=batches, units=gpt(a)).model)


def test_a_block_alone_is_matched_while_the_stream_keeps_its_places():
    a = drawn(GPT, 1)
    units = {name: axes for name, axes in gpt_block(a, "transformer.h.0").items() if name != "residual"}
    assert same(a, align(a, shuffled(a, units), units=units).model)


def test_what_is_left_out_of_the_stream_is_seen_in_the_outputs():
    a, b = drawn(GPT, 1), drawn(GPT, 2)
    units = dict(gpt(a))
    units["residual"] = [axis for axis in units["residual"] if axis.tensor != "transformer.wpe.weight"]
    with pytest.raises(CheckFailed, match="every tensor that holds them"):
        align(a, b, units=units)


class Positions(nn.Module):
    """A GPT that keeps its positions as a parameter of its own."""

    def __init__(self):
        super().__init__()
        self.gpt, self.positions = GPT(), nn.Parameter(torch.randn(6, 8))

    def forward(self, tokens):
        return self.gpt(tokens) * self.positions.mean()


def test_layers_that_are_no_gpts_are_refused_by_name():
    with pytest.raises(BadModel, match="encoder_layer"):
        gpt(encoder())
    with pytest.raises(BadModel, match="is Positions"):
        gpt(Positions())
    with pytest.raises(BadModel, match="EncoderLayer, got Linear"):
        encoder_layer(encoder(), "4")
    with pytest.raises(BadModel, match="expected '0' as a block of a GPT"):
        gpt_block(encoder(), "0")
    model = GPT()
    for block in model.transformer["h"]:
        del block.attn.n_head
    with pytest.raises(BadModel, match="Pass heads="):
        gpt(model)
    assert gpt(model, heads=2) == gpt(GPT())
    assert Axis("transformer.h.0.attn.c_attn.weight", 0, outer=3, inner=4) in gpt(GPT())["transformer.h.0.attn"]
