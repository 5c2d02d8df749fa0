"""Models of the transformers library, from small configurations, with their default attention and no switch set."""

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader

import oracles
from theodolite import measure
from theodolite.errors import BadLoss, NotDeterministic

transformers = pytest.importorskip("transformers", reason="pip install transformers")  # CI has it: extra dev
TINY = {"num_hidden_layers": 1, "num_attention_heads": 2, "hidden_size": 4, "intermediate_size": 4}
FLOAT32 = 1000 * torch.finfo(torch.float32).eps  # what transformers compute in float32 themselves, as test_operator's


def gpt2():
    return transformers.GPT2LMHeadModel(
        transformers.GPT2Config(n_embd=4, n_layer=1, n_head=2, n_inner=4, vocab_size=7, n_positions=5, bos_token_id=0)
    )


def llama():
    return transformers.LlamaForCausalLM(
        transformers.LlamaConfig(**TINY, num_key_value_heads=1, vocab_size=7, max_position_embeddings=8)
    )


def bert():
    return transformers.BertForSequenceClassification(
        transformers.BertConfig(**TINY, vocab_size=7, max_position_embeddings=6, num_labels=3)
    )


def vit():
    return transformers.ViTForImageClassification(
        transformers.ViTConfig(**TINY, image_size=4, patch_size=2, num_channels=1, num_labels=3)
    )


def tokens(n):
    ids = torch.randint(0, 7, (n, 5))
    return {"input_ids": ids, "labels": ids}


def padded(n):
    ids, mask = torch.randint(1, 7, (n, 5)), torch.ones(n, 5, dtype=torch.int64)
    ids[-1, 3:] = mask[-1, 3:] = 0  # BERT's token 0 is padding, whose row no gradient reaches
    return {"input_ids": ids, "attention_mask": mask, "labels": torch.randint(0, 3, (n,))}


def images(n):
    return {"pixel_values": torch.randn(n, 1, 4, 4, dtype=torch.float64), "labels": torch.randint(0, 3, (n,))}


def own_loss(outputs, _):
    return outputs.loss


def next_token(outputs, batch):
    return cross_entropy(outputs.logits[:, :-1].flatten(0, 1), batch["labels"][:, 1:].flatten())


MODELS = {  # how closely float64 can agree: Llama's norms and the loss of language models go through float32
    "gpt2": (gpt2, tokens, own_loss, FLOAT32),
    "gpt2, loss of its logits": (gpt2, tokens, next_token, 1e-8),
    "llama": (llama, tokens, own_loss, FLOAT32),
    "bert": (bert, padded, own_loss, 1e-8),
    "vit": (vit, images, own_loss, 1e-8),
}


class Keywords(nn.Module):
    """The oracle calls a model with one argument."""

    def __init__(self, model) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch):
        return self.model(**batch)


class Batch(dict):
    """The oracle weighs a batch by the length of its targets."""

    def __len__(self) -> int:
        return len(self["labels"])


def problem(name):
    torch.manual_seed(0)
    make, data, loss, bound = MODELS[name]
    return make().double().eval(), loss, [data(3), data(2)], bound


@pytest.mark.sampled(2)
@pytest.mark.parametrize("name", MODELS)
def test_product_and_spectrum_are_those_of_the_dense_kept_graph(name):
    model, loss, batches, bound = problem(name)
    expected = oracles.hessian(Keywords(model), loss, [(batch, Batch(batch)) for batch in batches])
    H = measure.HessianOperator(model, loss, batches)
    scale = float(expected.abs().max())
    assert float((H @ torch.eye(len(expected)).double() - expected).abs().max()) < bound * scale
    every = torch.linalg.eigvalsh((expected + expected.T) / 2)
    found = measure.hessian_eigenvalues(model, loss, batches, k=2, which="both", tolerance=1e-6)
    wide = float(every.abs().max())
    ends = torch.cat([every[:2], every[-2:]])
    # An eigenvalue moves by at most the norm of what the matrix is off (Weyl), that by P times its largest entry.
    assert torch.allclose(found.eigenvalues, ends, rtol=0, atol=1e-6 * wide + len(every) * bound * scale)
    assert found.path
    assert found.check < 1e-3


def test_pairs_dicts_and_a_loader_of_dicts_are_the_same_data():
    model, loss, (first, second), _ = problem("gpt2")
    rows = [
        {key: value[i] for key, value in batch.items()}
        for batch in (first, second)
        for i in range(len(batch["labels"]))
    ]
    ways = {
        "pairs": [(batch, batch["labels"]) for batch in (first, second)],
        "dicts": [first, second],
        "tuple of dicts": [(batch, {"labels": batch["labels"]}) for batch in (first, second)],
        "loader": DataLoader(rows, batch_size=2, shuffle=True, generator=torch.Generator().manual_seed(3)),
        "one dict": {key: torch.cat([first[key], second[key]]) for key in first},
    }
    norms = {way: measure.gradient_norm(model, loss, data).value for way, data in ways.items()}
    assert norms == pytest.approx(dict.fromkeys(ways, norms["pairs"]), rel=1e-6)
    traces = {way: measure.hessian_trace(model, loss, data, products=6).value for way, data in ways.items()}
    assert traces == pytest.approx(dict.fromkeys(ways, traces["pairs"]), rel=1e-4)


def test_a_loaders_own_generator_is_left_as_it_was():
    model, loss, (first, _), _ = problem("gpt2")
    generator = torch.Generator().manual_seed(3)
    rows = [{key: value[i] for key, value in first.items()} for i in range(3)]
    before = generator.get_state()
    measure.HessianOperator(model, loss, DataLoader(rows, batch_size=2, shuffle=True, generator=generator))
    assert torch.equal(generator.get_state(), before)


def test_tied_weights_are_counted_once():
    model, loss, batches, _ = problem("gpt2")
    assert model.lm_head.weight is model.transformer.wte.weight
    assert measure.HessianOperator(model, loss, batches).shape[0] == sum(p.numel() for p in model.parameters())


def test_gauss_newton_takes_the_logits_and_refuses_a_loss_of_the_models_own():
    model, loss, batches, _ = problem("vit")

    def of_logits(outputs, batch):
        return cross_entropy(outputs.logits, batch["labels"])

    pairs = [(batch["pixel_values"], batch["labels"]) for batch in batches]
    expected = oracles.gauss_newton(Logits(model), cross_entropy, pairs)
    G = measure.HessianOperator(model, of_logits, batches, operator="ggn")
    assert torch.allclose(G @ torch.eye(len(expected)).double(), expected, rtol=1e-8, atol=1e-12)
    with pytest.raises(BadLoss, match="logits"):
        measure.HessianOperator(model, loss, batches, operator="ggn")


class Logits(nn.Module):
    def __init__(self, model) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixels):
        return self.model(pixel_values=pixels).logits


def test_dropout_of_a_model_fresh_from_its_configuration_is_refused_with_what_to_do():
    model, loss, batches, _ = problem("bert")
    with pytest.raises(NotDeterministic, match=r"model\.eval\(\)"):
        measure.HessianOperator(model.train(), loss, batches)


@pytest.mark.parametrize("name", ["gpt2", "llama", "bert", "vit"])
def test_float32_is_within_its_own_rounding_and_attention_stays_what_it_was(name):
    model, loss, batches, _ = problem(name)
    single = [{k: v.float() if v.is_floating_point() else v for k, v in batch.items()} for batch in batches]
    model = model.float()
    settings = torch.backends.cuda.flash_sdp_enabled(), model.config._attn_implementation
    H = measure.HessianOperator(model, loss, single)
    v = torch.ones(H.shape[0]) / H.shape[0] ** 0.5
    found = H @ v
    wide = measure.HessianOperator(model.double(), loss, batches) @ v.double()
    assert H.dtype == torch.float32
    assert float((found - wide).norm() / wide.norm()) < FLOAT32
    assert settings == (torch.backends.cuda.flash_sdp_enabled(), model.config._attn_implementation)
