"""docs/recorder.md and docs/your-own-checkpoint.md: each block as it stands, with what its text says is there."""

import textwrap
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.utils.data import DataLoader

import theodolite as th
from pasted import ROOT, at, blocks, shell

RECORDER = (ROOT / "docs/recorder.md").read_text(encoding="utf-8")
CHECKPOINT = (ROOT / "docs/your-own-checkpoint.md").read_text(encoding="utf-8")
MEASURE = "theodolite measure --model net.py:make --data mnist --samples 200"
WITHIN = {"After a crash", "Numbers of your own, and all of them as data frames", "What to measure", "Lightning"}


def section(markdown: str, heading: str) -> list[tuple[str, str, str]]:
    return blocks(markdown.partition(f"\n## {heading}\n")[2].partition("\n## ")[0])


@pytest.fixture
def training(tmp_path: Path) -> dict[str, Any]:
    """What a training has at hand: a model, a loss, a batch and its checkpoint, and a recorder that has seen a step."""
    torch.manual_seed(0)
    batch = torch.randn(20, 2), torch.randint(3, (20,))
    model, loss = nn.Linear(2, 3), nn.CrossEntropyLoss()
    torch.save({"model": model.state_dict(), "step": 7}, tmp_path / "checkpoint.pt")
    return {"th": th, "torch": torch, "model": model, "loss": loss, "batch": batch, "probe": batch, "step": 7}


def recorded(training: dict[str, Any]) -> th.Recorder:
    asked = {"gradient_norm": "gradient_norm", "hessian_eigenvalues": ("hessian_eigenvalues", {"k": 3})}
    recorder = th.Recorder(asked, data=training["probe"], every=1, flush=0)
    recorder.step(training["model"], training["loss"])
    return recorder


def test_after_a_crash_the_step_of_the_checkpoint_is_the_first(training, tmp_path):
    ((_, _, code),) = section(RECORDER, "After a crash")
    with at(tmp_path):
        exec(code, training)  # noqa: S102 - our own documentation
        training["recorder"].close()
        assert set(th.recordings("results/own").numbers["step"]) == {7}


def test_numbers_of_ones_own_and_all_of_them(training, tmp_path):
    ((_, _, code),) = section(RECORDER, "Numbers of your own, and all of them as data frames")
    with at(tmp_path):
        training["recorder"] = recorded(training)
        exec(code, training)  # noqa: S102 - our own documentation
        training["recorder"].close()
        found = th.recordings("results/own").numbers.set_index("instrument")["value"]
    assert list(found.filter(like="val_accuracy")) == pytest.approx([0.93])


def test_every_way_to_say_what_is_measured_is_taken(training, tmp_path):
    shown = [code for _, _, code in section(RECORDER, "What to measure")]
    with at(tmp_path):
        for line in "".join(shown).strip().splitlines():
            recorder = eval(line, {**training, "accuracy": lambda model, data: 0.5})  # noqa: S307 - our own documentation
            assert isinstance(recorder, th.Recorder)


@pytest.mark.parametrize("heading", ["Lightning", "Hugging Face"])
def test_a_trainer_takes_the_callback(training, tmp_path, heading):
    pytest.importorskip("lightning" if heading == "Lightning" else "transformers", reason="make test installs it")
    ((_, _, code),) = section(RECORDER, heading)
    examples = [{"x": torch.ones(2), "labels": torch.tensor(1)}]
    given = {"DataLoader": DataLoader, "some_examples": examples, "collator": None}
    with at(tmp_path):
        session = {**training, **given, "Trainer": lambda *_, callbacks: callbacks}
        exec(code, session)  # noqa: S102 - our own documentation
    (callback,) = session["trainer"]
    assert type(callback).__name__ == "RecorderCallback"


def test_every_block_of_the_page_on_recording_is_run_by_a_test():
    headings = [part.partition("\n")[0] for part in RECORDER.split("\n## ")[1:] if "```python" in part]
    others = {"Five minutes", "Hugging Face", "TensorBoard and MLflow"}  # tests/record/test_docs.py, tests/adapters
    assert set(headings) == WITHIN | others


def test_the_page_on_checkpoints_runs_as_pasted_on_a_few_images(tmp_path, monkeypatch):
    """Its lines as they stand, with 200 images in place of all 60,000 where they name no number."""
    drawn: list[dict[str, str]] = []
    monkeypatch.setattr(pd.DataFrame, "plot", lambda frame, **columns: drawn.append({**columns, "of": set(frame)}))
    session: dict[str, Any] = {"th": th}
    ran = 0
    with at(tmp_path):
        for language, title, code in blocks(CHECKPOINT):
            if title:
                Path(title).write_text(code)
            elif language == "sh":
                lines = [
                    line.replace("--data mnist", "--data mnist --samples 200") if "--samples" not in line else line
                    for line in code.splitlines()
                ]
                weights(tmp_path)
                shell("\n".join(lines))
                ran += len(lines)
            elif language == "python":
                shell(f"{MEASURE} interpolate --weights a.safetensors --weights b.safetensors --out line.safetensors")
                shell(f"{MEASURE} hessian_eigenvalues --weights w.safetensors --set k=3 --out top.safetensors")
                session |= {name: th.measure.load(f"{name}.safetensors") for name in ("line", "top")}
                exec(textwrap.dedent(code), session)  # noqa: S102 - our own documentation
        assert {path.name for path in tmp_path.iterdir()} >= {"line.svg", "path.html", "line.html", "lengths.svg"}
    assert ran == 7
    (columns,) = drawn
    assert {columns["x"], columns["y"]} <= columns["of"]


def weights(folder: Path) -> None:
    """Of the network of the page: two trained apart, and a path."""
    if (folder / "w.safetensors").exists():
        return
    (folder / "snapshots").mkdir()
    torch.manual_seed(0)
    names = ["w", "a", "b", *(f"snapshots/{n}" for n in range(4))]
    for name in names:
        model = nn.Sequential(nn.Flatten(), nn.Linear(784, 32), nn.ReLU(), nn.Linear(32, 10))
        save_file(model.state_dict(), folder / f"{name}.safetensors")
