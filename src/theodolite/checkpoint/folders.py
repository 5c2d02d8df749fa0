"""Which files of a folder are weights, and which of them are one checkpoint together."""

import re
from pathlib import Path

from theodolite.checkpoint.opened import ENDINGS, INDEX, shard_files

# What training scripts, Accelerate and the Trainer of Hugging Face write beside weights, under endings of weights.
BESIDE = re.compile(r"(optimizer|scheduler|scaler|sampler|rng_state|random_states|training_args)", re.IGNORECASE)


def inside(folder: Path) -> list[Path]:
    """The weights in a folder, in the order of the numbers in their names; or else in the folders in it.

    Shards are one: their index stands for them. Of a model that lies there as safetensors and as PyTorch's file too,
    as Hugging Face names them, the first is taken.
    """
    own = _own(folder)
    if own:
        return own
    return [path for below in sorted(filter(Path.is_dir, folder.iterdir()), key=natural) for path in _own(below)]


def natural(path: Path) -> list[tuple[int, str]]:
    """Order in which epoch-2 comes before epoch-10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", path.name)]


def _own(folder: Path) -> list[Path]:
    indexes = [path for path in folder.iterdir() if path.name.endswith(INDEX)]
    shards = {folder / name for index in indexes for name in shard_files(index)}
    files = [p for p in folder.iterdir() if p.suffix in ENDINGS and not BESIDE.match(p.name) and p not in shards]
    found = [*indexes, *files]
    if any(path.name.startswith("model.safetensors") for path in found):
        found = [path for path in found if not path.name.startswith("pytorch_model.bin")]
    return sorted(found, key=natural)
