"""Weights as training scripts, libraries and wrappers write them: files are made here, and give them back."""

import argparse
import datetime
import json
import os
import random
import re
import runpy
import shlex
import subprocess
import sys
import zipfile
from collections import OrderedDict, defaultdict
from copy import deepcopy
from functools import partial
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from theodolite import measure
from theodolite.checkpoint import weights
from theodolite.checkpoint.weights import Checkpoint
from theodolite.errors import BadModel, StoreError, TheodoliteError, UnknownName


def net(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(OrderedDict(body=nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)), head=nn.Linear(4, 2)))


TRUE = net(1).state_dict()
OTHER = net(2).state_dict()


def prefixed(prefix: str, state: dict = TRUE) -> dict:
    return {prefix + name: tensor for name, tensor in state.items()}


def taken(path: Path, key: str | None = None, prefix: str | None = None, model: nn.Module | None = None) -> list[str]:
    """Whether the file gives a fresh model the true weights, and what is said to be left out."""
    model, said = net(0) if model is None else model, []
    for one in weights.found([Checkpoint(path, key, prefix, said.append)]):
        weights.put(model, weights.read(one), one)
    got = model.state_dict()
    assert {name: tensor.tolist() for name, tensor in got.items()} == {n: t.tolist() for n, t in TRUE.items()}
    return said


def saved(tmp_path: Path, content: object, name: str = "w.pt", **options: object) -> Path:
    torch.save(content, tmp_path / name, **options)
    return tmp_path / name


@pytest.mark.parametrize(
    "key",
    ["net", "model_state", "state_dict", "model", "model_state_dict", "weights", "ema", "ema_model", "params_ema"],
)
def test_weights_are_found_under_any_key_of_a_file(key, tmp_path):
    optimizer = torch.optim.Adam(net().parameters()).state_dict()
    said = taken(saved(tmp_path, {key: TRUE, "epoch": 3, "optimizer": optimizer}, "model_best.pth.tar"))
    assert said == ["keys epoch, optimizer"]


@pytest.mark.parametrize(
    "prefix",
    ["module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module.", "model.", "model._orig_mod.module.", "a.b.c."],
)
@pytest.mark.parametrize("wrap", [lambda s: s, lambda s: {"state_dict": s}])
def test_whatever_stands_before_all_names_is_found(prefix, wrap, tmp_path):
    assert taken(saved(tmp_path, wrap(prefixed(prefix)))) == []


def test_a_part_that_was_compiled_alone_is_found_by_its_name(tmp_path):
    state = {name.replace("body.", "body._orig_mod."): tensor for name, tensor in TRUE.items()}
    assert taken(saved(tmp_path, state)) == []


@pytest.mark.parametrize("wrapper", [nn.DataParallel, AveragedModel, partial(torch.compile, backend="eager")])
def test_a_model_that_is_wrapped_takes_weights_with_its_wrapper_and_mostly_without(wrapper, tmp_path):
    for state in (wrapper(net(1)).state_dict(), TRUE):
        if wrapper is AveragedModel and state is TRUE:
            continue  # its count of averaged models is no weight that could be made up
        model = wrapper(net(0))
        path = saved(tmp_path, state)
        weights.put(model, weights.read(path), path)
        inner = {name.removeprefix("module.").removeprefix("_orig_mod."): t for name, t in model.state_dict().items()}
        assert {name: inner[name].tolist() for name in TRUE} == {name: t.tolist() for name, t in TRUE.items()}


def test_an_averaged_model_gives_its_weights_and_its_count_is_left_out(tmp_path):
    assert taken(saved(tmp_path, AveragedModel(net(1)).state_dict())) == ["1 tensor: n_averaged"]


def test_state_of_the_loss_and_of_metrics_is_left_out_and_said(tmp_path):
    state = prefixed("model.") | {"criterion.weight": torch.ones(2), "accuracy.tp": torch.tensor(3)}
    said = taken(saved(tmp_path, {"state_dict": state, "epoch": 1, "global_step": 7}))
    assert said == ["2 tensors: criterion.weight, accuracy.tp; keys epoch, global_step"]


@pytest.mark.filterwarnings("ignore")
def test_a_checkpoint_of_lightning_with_a_loss_and_a_metric_that_have_state(tmp_path):
    lightning = pytest.importorskip("lightning")
    import torchmetrics

    class Module(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.save_hyperparameters({"when": datetime.date(2020, 1, 1), "args": argparse.Namespace(a=1)})
            self.network, self.loss = net(1), nn.CrossEntropyLoss(weight=torch.ones(2))
            self.accuracy = torchmetrics.Accuracy("multiclass", num_classes=2)
            self.accuracy.persistent(True)

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters())

        def training_step(self, batch, number):
            self.accuracy(self.network(batch), torch.zeros(len(batch)))
            return self.loss(self.network(batch), torch.zeros(len(batch), dtype=torch.int64))

    module = Module()
    quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    trainer = lightning.Trainer(accelerator="cpu", max_steps=1, **quiet)
    trainer.fit(module, torch.ones(2, 2, 3))
    module.network.load_state_dict(TRUE)
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    (said,) = taken(tmp_path / "last.ckpt")
    assert said.startswith("5 tensors: loss.weight, accuracy.tp, accuracy.fp, accuracy.tn, accuracy.fn; keys epoch")


def test_two_sets_that_fit_are_asked_about_and_the_options_named_choose(tmp_path):
    timm = {
        "epoch": 3, "arch": "resnet18", "state_dict": OTHER, "optimizer": {"state": {0: {"m": torch.ones(3)}}},
        "version": 2, "args": argparse.Namespace(lr=0.1), "amp_scaler": {"scale": 1.0}, "state_dict_ema": TRUE,
    }  # fmt: skip
    path = saved(tmp_path, timm)
    with pytest.raises(
        BadModel, match=r"got 2 that fit: state_dict, state_dict_ema. Say which: --weights-key state_dict, "
    ):
        taken(path)
    assert taken(path, key="state_dict_ema") == ["keys epoch, arch, state_dict, optimizer, version and 2 more"]
    lightning = saved(tmp_path, {"state_dict": prefixed("model.", OTHER) | prefixed("ema.")})
    with pytest.raises(BadModel, match=r"--strip-prefix 'model\.', or --weights-key state_dict --strip-prefix 'ema\.'"):
        taken(lightning)
    for option in ("ema", "ema."):
        (said,) = taken(lightning, prefix=option)
        assert said.startswith("9 tensors: model.body.0.weight")
    bare = saved(tmp_path, TRUE | prefixed("teacher.", OTHER))
    with pytest.raises(BadModel, match=r"--strip-prefix '', or --weights-key|or --strip-prefix 'teacher\.'"):
        taken(bare)
    assert taken(bare, prefix="")[0].startswith("9 tensors: teacher.")


AMBIGUOUS = {
    "two keys": {"model": OTHER, "ema": TRUE},
    "two keys within a key": {"checkpoint": {"model": OTHER, "ema": TRUE}},
    "one above the other": {**OTHER, "ema": TRUE},
    "two prefixes under a key": {"state_dict": prefixed("student.", OTHER) | prefixed("teacher.")},
    "two prefixes": prefixed("student.", OTHER) | prefixed("teacher."),
    "one prefix and none": OTHER | prefixed("teacher."),
    "prefixes within keys": {"a": prefixed("x.", OTHER) | prefixed("y."), "b": prefixed("z.", net(3).state_dict())},
}


@pytest.mark.parametrize("key", [None, "checkpoint"])
@pytest.mark.parametrize("name", AMBIGUOUS)
def test_each_of_the_options_in_the_message_chooses_another_set(name, key, tmp_path):
    path = saved(tmp_path, AMBIGUOUS[name] if key is None else {"checkpoint": AMBIGUOUS[name]})
    with pytest.raises(BadModel, match="Say which:") as refused:
        weights.put(net(), weights.read(Checkpoint(path, key)), Checkpoint(path, key))
    chosen = set()
    for options in str(refused.value).partition("Say which: ")[2].split(", or "):
        words = shlex.split(options)
        given = dict(zip(words[::2], words[1::2], strict=True))
        one = Checkpoint(path, given.get("--weights-key", key), given.get("--strip-prefix"))
        model = net()
        weights.put(model, weights.read(one), one)
        chosen.add(str(model.state_dict()["head.bias"].tolist()))
    assert chosen == {str(state["head.bias"].tolist()) for state in (TRUE, OTHER)}


def test_two_sets_that_are_the_same_are_one(tmp_path):
    assert taken(saved(tmp_path, {"model": TRUE, "ema": deepcopy(TRUE)})) == ["keys ema"]


def test_a_model_that_is_a_part_of_the_one_in_the_file_is_not_guessed(tmp_path):
    deeper = saved(tmp_path, TRUE | {"more.weight": torch.ones(2, 2)})
    with pytest.raises(BadModel, match=r"unexpected: more.weight. Let --model make .* left out: --strip-prefix ''"):
        taken(deeper)
    assert taken(deeper, prefix="") == ["1 tensor: more.weight"]
    layers = saved(tmp_path, nn.Sequential(nn.Linear(4, 2), nn.Linear(4, 2)).state_dict())
    with pytest.raises(BadModel, match=r"--strip-prefix '0\.', or --strip-prefix '1\.'"):
        taken(layers, model=nn.Linear(4, 2))


def test_weights_that_would_be_other_numbers_in_the_model_are_refused(tmp_path):
    whole = saved(tmp_path, TRUE | {"head.weight": torch.ones(2, 4, dtype=torch.int8)})
    with pytest.raises(BadModel, match=r"head\.weight int8 for float32"):
        taken(whole)
    tied = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False))
    tied[1].weight = tied[0].weight
    apart = saved(tmp_path, {"0.weight": torch.eye(4), "1.weight": torch.ones(4, 4)})
    with pytest.raises(BadModel, match="since the model ties them, but they differ"):
        weights.put(tied, weights.read(apart), apart)


def test_state_that_is_no_tensor_is_the_models_own_affair(tmp_path):
    class Extra(nn.Linear):
        def get_extra_state(self):
            return {"calls": 3}

        def set_extra_state(self, state):
            self.calls = state["calls"]

    model, path = Extra(4, 2), saved(tmp_path, Extra(4, 2).state_dict())
    weights.put(model, weights.read(path), path)
    assert model.weight.tolist() == weights.read(path)["weight"].tolist()


@pytest.mark.parametrize("key", ["optimizerG", "optim", "amp_scaler", "lr_scheduler", "cuda_rng_state", "opt_state"])
def test_what_belongs_to_training_is_no_weight(key, tmp_path):
    path = saved(tmp_path, {"model_optimized": TRUE, key: {name: tensor * 2 for name, tensor in TRUE.items()}})
    assert taken(path) == [f"keys {key}"]
    assert dict(weights.read(path)).keys() == TRUE.keys()


def test_a_key_or_prefix_that_is_not_there_is_said(tmp_path):
    path = saved(tmp_path, {"state_dict": TRUE, "epoch": 3})
    with pytest.raises(UnknownName, match="Did you mean 'state_dict'"):
        taken(path, key="statedict")
    with pytest.raises(BadModel, match=r"missing: body\.0\.weight"):
        taken(path, prefix="teacher.")
    with pytest.raises(StoreError, match="Leave --weights-key out"):
        taken(saved(tmp_path, TRUE), key="model")
    nested = saved(tmp_path, {"checkpoint": {"a": OTHER, "b": TRUE}})
    assert taken(nested, key="checkpoint.b") == []


@pytest.mark.parametrize("before", ["module.", "_orig_mod.module.", "module._orig_mod.", "module.module."])
@pytest.mark.parametrize("wrap", [lambda s: s, lambda s: {"state_dict": s}])
@pytest.mark.parametrize("asked", ["teacher", "teacher.", "module.teacher"])
def test_a_prefix_is_also_one_behind_what_wrappers_put_before_it(before, wrap, asked, tmp_path):
    if asked.startswith("module") and before == "module.module.":
        asked = "module.module.teacher"
    both = prefixed(f"{before}teacher.") | prefixed(f"{before}student.", OTHER)
    path = saved(tmp_path, wrap(both))
    (said,) = taken(path, prefix=asked)
    assert "student" in said
    assert dict(weights.read(Checkpoint(saved(tmp_path, both), prefix=asked))).keys() == TRUE.keys()


def test_where_nothing_is_behind_a_prefix_the_ones_that_fit_are_named_and_help(tmp_path):
    path = saved(tmp_path, prefixed("module.teacher.") | prefixed("module.student.", OTHER))
    with pytest.raises(BadModel, match=r"Pass --strip-prefix '(.*)' or --strip-prefix '(.*)'\.$") as refused:
        taken(path, prefix="xx")
    chosen = re.findall(r"--strip-prefix '([^']*)'", str(refused.value))
    assert chosen == ["module.teacher.", "module.student."]
    assert "student" in taken(path, prefix=chosen[0])[0]


def folder_of_trainer(folder: Path, state: dict) -> None:
    """What the Trainer of Hugging Face writes at each save."""
    folder.mkdir(parents=True)
    safetensors.torch.save_file(state, folder / "model.safetensors")
    torch.save(torch.optim.Adam(net().parameters()).state_dict(), folder / "optimizer.pt")
    torch.save({"last_epoch": 3}, folder / "scheduler.pt")
    torch.save({"cpu": torch.get_rng_state(), "python": (3, (1, 2), None)}, folder / "rng_state.pth")
    torch.save(argparse.Namespace(seed=1), folder / "training_args.bin")
    (folder / "trainer_state.json").write_text("{}")
    (folder / "config.json").write_text("{}")


def test_a_folder_of_a_trainer_is_one_checkpoint_and_a_folder_of_those_a_path(tmp_path):
    for step, state in ((500, OTHER), (1000, TRUE)):
        folder_of_trainer(tmp_path / f"checkpoint-{step}", state)
    assert taken(tmp_path / "checkpoint-1000") == []
    files = weights.found([tmp_path])
    assert [path.parent.name for path in files] == ["checkpoint-500", "checkpoint-1000"]
    steps = measure.trajectory([weights.read(path) for path in files], components=1)
    flat = [torch.cat([s[n].flatten() for n in s if "running" not in n and "num_" not in n]) for s in (OTHER, TRUE)]
    assert steps.distance_from_start[0, 1] == pytest.approx(float((flat[1] - flat[0]).norm()), rel=1e-6)


@pytest.mark.parametrize("kind", ["model-{:05d}-of-00002.safetensors", "pytorch_model-{:05d}-of-00002.bin"])
def test_shards_are_one_checkpoint(kind, tmp_path):
    names = sorted(TRUE)
    places = {name: kind.format(1 + (place > 3)) for place, name in enumerate(names)}
    for file in set(places.values()):
        part = {n: TRUE[n] for n in names if places[n] == file}
        (safetensors.torch.save_file if "safe" in kind else torch.save)(part, tmp_path / file)
    index = tmp_path / ("model.safetensors.index.json" if "safe" in kind else "pytorch_model.bin.index.json")
    index.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": places}))
    assert taken(tmp_path) == taken(index) == []
    with pytest.raises(StoreError, match="got one shard"):
        taken(tmp_path / kind.format(1))
    (tmp_path / kind.format(2)).unlink()
    with pytest.raises(StoreError, match="no such file"):
        taken(tmp_path)
    index.write_text(json.dumps({"weight_map": dict.fromkeys(names, "../other.safetensors")}))
    with pytest.raises(StoreError, match="expected an index of shards"):
        taken(tmp_path)


def test_of_two_forms_of_one_model_in_a_folder_one_is_taken(tmp_path):
    safetensors.torch.save_file(TRUE, tmp_path / "model.safetensors")
    saved(tmp_path, OTHER, "pytorch_model.bin")
    assert taken(tmp_path) == []


def test_weights_without_a_model_are_the_one_set_of_a_file(tmp_path):
    path = saved(tmp_path, {"model": prefixed("module."), "epoch": torch.tensor(3), "cpu_rng": torch.get_rng_state()})
    assert dict(weights.read(path)).keys() == TRUE.keys()
    both = saved(tmp_path, {"model": TRUE, "ema": OTHER})
    with pytest.raises(StoreError, match=r"got 2: model, ema. Say which: --weights-key model"):
        len(weights.read(both))
    assert weights.read(Checkpoint(both, key="ema"))["head.bias"].tolist() == OTHER["head.bias"].tolist()
    prefix = saved(tmp_path, prefixed("net.") | {"loss.weight": torch.ones(2)})
    assert dict(weights.read(Checkpoint(prefix, prefix="net"))).keys() == TRUE.keys()


class Config:
    """As OmegaConf's: attributes that lead back to itself."""

    def __init__(self):
        self._content, self._parent = {"lr": 0.1}, self


class Dict(dict):
    pass


class Slots:
    __slots__ = ("value",)

    def __init__(self):
        self.value = 3


class List(list):
    pass


class State:
    def __init__(self, model: nn.Module):
        self.model, self.step = model, 3


def dictionary() -> Dict:
    own = Dict(lr=0.1)
    own.name = "a"
    return own


OBJECTS = {
    "a Namespace": lambda: {"state_dict": TRUE, "args": argparse.Namespace(lr=0.1)},
    "an object that holds itself": lambda: {"state_dict": TRUE, "config": Config()},
    "numbers of numpy": lambda: {"state_dict": TRUE, "best": np.float64(0.5), "curve": np.ones(3)},
    "a whole module": lambda: net(1),
    "a module in a dict": lambda: {"model": net(1), "ema": None, "epoch": 3},
    "a module in an object": lambda: {"trainer": State(net(1))},
    "a partial": lambda: {"state_dict": TRUE, "make": partial(nn.Linear, 3, bias=True)},
    "a path": lambda: {"state_dict": TRUE, "out": Path("/data"), "pure": PurePosixPath("a/b")},
    "times": lambda: {"state_dict": TRUE, "at": datetime.datetime(2020, 1, 1), "took": datetime.timedelta(3)},
    "a dict of an own class": lambda: {"state_dict": TRUE, "config": dictionary(), "best": np.float64(1)},
    "a defaultdict": lambda: {"state_dict": TRUE, "history": defaultdict(list, a=[1.0])},
    "slots": lambda: {"state_dict": TRUE, "config": Slots()},
    "a function": lambda: {"state_dict": TRUE, "activation": nn.functional.relu},
    "an optimizer": lambda: {"state_dict": TRUE, "optimizer": torch.optim.SGD(net().parameters(), 0.1, 0.9)},
    "a list of an own class": lambda: {"state_dict": TRUE, "config": List([1])},
}


@pytest.mark.parametrize("name", [name for name in OBJECTS if name != "a list of an own class"])
def test_objects_beside_weights_are_passed_over_without_their_classes(name, tmp_path, monkeypatch):
    path = saved(tmp_path, OBJECTS[name]())
    for own in (Config, Dict, Slots, State):
        monkeypatch.delitem(globals(), own.__name__)  # whoever asked for one would fail
    taken(path)


def advised(error: StoreError) -> list[str]:
    """The command in a message, as a shell takes it apart."""
    return shlex.split("python -c" + str(error).partition("python -c")[2])


def convert(path: Path, monkeypatch, told: str) -> None:
    """What is refused, converted by the command in the message, where its code can be imported: in this process."""
    with pytest.raises(StoreError, match=told) as refused:
        weights.read(path)
    python, flag, script, *arguments = advised(refused.value)
    assert (python, flag) == ("python", "-c")
    (path.parent / "command.py").write_text(script)
    monkeypatch.chdir(path.parent)
    monkeypatch.setattr(sys, "argv", ["-c", *arguments])
    runpy.run_path("command.py")


FORMS = {"of old": {"_use_new_zipfile_serialization": False}, "of another protocol": {"pickle_protocol": 4}}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", [name for name in OBJECTS if name != "a module in an object"])
def test_what_the_reader_refuses_is_converted_by_the_command_in_the_message(name, form, tmp_path, monkeypatch):
    path = saved(tmp_path, OBJECTS[name](), "it's here.pt", **FORMS[form])
    convert(path, monkeypatch, "could run code, so it was not opened")
    taken(tmp_path / "weights.pt")


def test_a_list_of_an_own_class_is_refused_and_converted_by_the_command(tmp_path, monkeypatch):
    convert(saved(tmp_path, OBJECTS["a list of an own class"]()), monkeypatch, "could run code")
    taken(tmp_path / "weights.pt")


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:.*TorchScript")
def test_a_program_is_converted_by_the_command_in_the_message(tmp_path, monkeypatch):
    torch.jit.script(net(1)).save(tmp_path / "program.pt")
    convert(tmp_path / "program.pt", monkeypatch, "TorchScript")
    taken(tmp_path / "weights.pt")


def test_the_command_runs_in_a_shell(tmp_path):
    path = saved(tmp_path, {"state_dict": TRUE, "args": argparse.Namespace(a=1)}, "a'b.pt", pickle_protocol=4)
    with pytest.raises(StoreError) as refused:
        weights.read(path)
    command = "python -c" + str(refused.value).partition("python -c")[2]
    script = command.replace("python -c", f"{shlex.quote(sys.executable)} -c", 1)
    subprocess.run(["sh", "-c", script], check=True, cwd=tmp_path)
    taken(tmp_path / "weights.pt")


class Bomb:
    def __init__(self, *call: object):
        self.call = call

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize(
    "call",
    [(os.mkdir, ("exploded",)), (eval, ("__import__('os').mkdir('exploded')",)), (Path.mkdir, (Path("exploded"),))],
)
def test_nothing_that_a_file_names_is_ever_called(call, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = set(torch.serialization.get_safe_globals())
    for content in (Bomb(*call), {"state_dict": TRUE, "bomb": Bomb(*call)}):
        try:
            weights.read(saved(tmp_path, content))
        except StoreError:
            continue
        finally:
            assert not (tmp_path / "exploded").exists()
    assert set(torch.serialization.get_safe_globals()) == before


def test_a_file_that_holds_itself_is_read_to_an_end(tmp_path):
    loop: dict = {"state_dict": TRUE}
    loop["again"] = loop
    stored = weights.read(saved(tmp_path, loop))
    weights.put(net(), stored, Path("w.pt"))


def test_a_file_whose_objects_are_damaged_is_read_or_refused_in_words(tmp_path):
    draw = random.Random(0)
    content = {"state_dict": TRUE, "args": argparse.Namespace(a=1), "model": net(1), "config": dictionary()}
    with zipfile.ZipFile(saved(tmp_path, content)) as whole:
        parts = {name: whole.read(name) for name in whole.namelist()}
    refused = 0
    for _ in range(300):
        with zipfile.ZipFile(
            tmp_path / "w.pt", "w"
        ) as file:  # with checksums that are right, as whoever means harm has
            for name, part in parts.items():
                damaged = bytearray(part)
                for _ in range(draw.choice((1, 2, 5)) if name.endswith("data.pkl") else 0):
                    damaged[draw.randrange(len(damaged))] = draw.randrange(256)
                file.writestr(name, bytes(damaged))
        try:
            stored = weights.read(tmp_path / "w.pt")
            weights.put(net(), stored, tmp_path / "w.pt")
            len(stored)
        except TheodoliteError:
            refused += 1
    assert refused > 150
