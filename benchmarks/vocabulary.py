"""Peak memory over a vocabulary of 50,257, and time a product: `python benchmarks/vocabulary.py` (Linux).

Each case is a process of its own. GPT-2 with initial weights, random tokens; the peak is the kernel's,
over what was resident once model and data were made and a smaller model had been measured.
"""

import argparse
import ctypes
import json
import subprocess
import sys
import time
import warnings
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, gelu, scaled_dot_product_attention

from theodolite.errors import TooLarge
from theodolite.measure.curvature.operator import HessianOperator
from theodolite.measure.hessian_eigenvalues import hessian_eigenvalues
from theodolite.measure.problem.memory import in_words

CASES = {  # name: width, layers, heads, sequences, tokens, memory, products
    "small, all logits": (64, 2, 2, 4, 256, "16GB", 3),
    "small, in chunks": (64, 2, 2, 4, 256, "1GB", 3),
    "GPT-2, eigenvalue": (768, 12, 12, 2, 128, "8GB", 0),
}
TOLERANCE = 1e-2  # of the eigenvalue's residual; a product takes some ten seconds


class Block(nn.Module):
    """Attention to what came before, and a perceptron, each beside a shortcut (Radford et al. 2019)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norms = nn.ModuleList([nn.LayerNorm(width), nn.LayerNorm(width)])
        self.attend, self.gather = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.wide, self.narrow = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, T, width)``."""
        parts = self.attend(self.norms[0](x)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        x = x + self.gather(scaled_dot_product_attention(*parts, is_causal=True).transpose(1, 2).flatten(2))
        found: Tensor = x + self.narrow(gelu(self.wide(self.norms[1](x)), approximate="tanh"))
        return found


class Logits(nn.Module):
    """GPT-2 with its initial weights, as a model from tokens to logits; 124 M parameters at 768, 12, 12."""

    def __init__(self, width: int, layers: int, heads: int, vocabulary: int = 50257, length: int = 1024) -> None:
        super().__init__()
        self.tokens, self.places = nn.Embedding(vocabulary, width), nn.Embedding(length, width)
        self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(layers)))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, vocabulary, bias=False)
        self.head.weight = self.tokens.weight
        for name, parameter in self.named_parameters():
            if parameter.ndim == 2:
                into_the_sum = name.endswith(("gather.weight", "narrow.weight"))
                nn.init.normal_(parameter, std=0.02 / ((2 * layers) ** 0.5 if into_the_sum else 1))
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)

    def forward(self, tokens: Tensor) -> Tensor:
        """``(B, T)`` to ``(B, T, V)``."""
        x = self.tokens(tokens) + self.places.weight[: tokens.shape[1]]
        logits: Tensor = self.head(self.norm(self.blocks(x)))
        return logits


def next_token(logits: Tensor, tokens: Tensor) -> Tensor:
    return cross_entropy(logits[:, :-1].reshape(-1, logits.shape[-1]), tokens[:, 1:].flatten())


def status(field: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024.0 * int(line.split()[1]) for line in lines if line.startswith(field))


def child(name: str, tolerance: float) -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    width, layers, heads, sequences, length, memory, products = CASES[name]
    torch.manual_seed(0)
    model = Logits(width, layers, heads).eval()
    tokens = torch.randint(0, 50257, (sequences, length))
    HessianOperator(nn.Linear(2, 2), nn.MSELoss(), (torch.randn(2, 2), torch.randn(2, 2)))
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    before, start = status("VmRSS"), time.process_time()
    found: dict[str, object] = {"parameters": sum(p.numel() for p in model.parameters())}
    try:
        if products:
            operator = HessianOperator(model, next_token, (tokens, tokens), memory=memory)
            found["made"], found["backend"] = time.process_time() - start, operator.backend
            found["made peak"] = in_words(status("VmHWM") - before)
            Path("/proc/self/clear_refs").write_text("5")
            v, start = torch.randn(operator.size), time.process_time()
            for _ in range(products):
                product = operator @ v
            found["a product"] = (time.process_time() - start) / products
            found["norm"] = float(product.norm())
        else:
            result = hessian_eigenvalues(model, next_token, (tokens, tokens), k=1, tolerance=tolerance, memory=memory)
            found["eigenvalue"], found["residual"] = float(result.eigenvalues[0]), float(result.residuals[0])
            found["converged"] = bool(result.converged.all())
            found["products"], found["backend"] = result.products, result.backend
            found["all"] = time.process_time() - start
    except TooLarge as error:
        found["refused"] = str(error)
    print(json.dumps(found | {"before": in_words(before), "peak": in_words(status("VmHWM") - before)}))


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--child", help=argparse.SUPPRESS)
    arguments.add_argument("--only", default="", help="cases whose name holds this")
    arguments.add_argument("--tolerance", type=float, default=TOLERANCE, help="of the eigenvalue's residual, relative")
    chosen = arguments.parse_args()
    if chosen.child:
        child(chosen.child, chosen.tolerance)
        return
    for name in CASES:
        if chosen.only in name:
            command = [sys.executable, __file__, "--child", name, "--tolerance", str(chosen.tolerance)]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            print(name, done.stdout.splitlines()[-1], flush=True)


if __name__ == "__main__":
    main()
