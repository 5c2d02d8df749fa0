"""Trainings under Lightning and Hugging Face that kill -9 ends, and that go on from a checkpoint as one recording."""

import signal
import subprocess
import sys

import pytest

import theodolite as th
from theodolite.record import asked
from theodolite.record.once import RecorderWarning

LIGHTNING = """
import os, signal, sys, torch, lightning.pytorch as pl, theodolite as th
from torch.utils.data import DataLoader, TensorDataset
from theodolite.adapters.lightning import RecorderCallback
from theodolite.record import asked
asked.FLUSH_SHARE = 1e9  # writes after each measurement
out, killed, checkpoint = sys.argv[1], int(sys.argv[2]), sys.argv[3] if len(sys.argv) > 3 else None

class Module(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = torch.nn.Linear(4, 3)

    def training_step(self, batch, index):
        if self.trainer.global_step == killed:
            os.kill(os.getpid(), signal.SIGKILL)
        return torch.nn.functional.cross_entropy(self.net(batch[0]), batch[1])

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters())

pl.seed_everything(0)
data = DataLoader(TensorDataset(torch.randn(20, 4), torch.randint(3, (20,))), batch_size=4)
recorder = th.Recorder("gradient_norm", every=1, out=out + "/own", flush=0.0, resume=True)
callback = RecorderCallback(recorder, torch.nn.CrossEntropyLoss(), model=lambda module: module.net)
saving = pl.callbacks.ModelCheckpoint(out + "/saved", filename="last", every_n_epochs=1, save_top_k=-1)
trainer = pl.Trainer(max_epochs=3, accelerator="cpu", callbacks=[callback, saving], logger=False,
                     enable_progress_bar=False, enable_model_summary=False)
trainer.fit(Module(), data, ckpt_path=checkpoint)
"""

HUGGING_FACE = """
import os, signal, sys, torch, theodolite as th
from torch.utils.data import DataLoader
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainerCallback, TrainingArguments, set_seed
from theodolite.adapters.huggingface import RecorderCallback, pairs
from theodolite.record import asked
asked.FLUSH_SHARE = 1e9
out, killed, checkpoint = sys.argv[1], int(sys.argv[2]), sys.argv[3] if len(sys.argv) > 3 else None

class Kill(TrainerCallback):
    def on_step_begin(self, args, state, control, **given):
        if state.global_step == killed:
            os.kill(os.getpid(), signal.SIGKILL)

set_seed(0)
model = GPT2LMHeadModel(GPT2Config(vocab_size=20, n_positions=8, n_embd=8, n_layer=1, n_head=2))
tokens = torch.randint(0, 20, (20, 6), generator=torch.Generator().manual_seed(0))
examples = [{"input_ids": row, "labels": row} for row in tokens]
recorder = th.Recorder("gradient_norm", every=1, data=pairs(DataLoader(examples[:4], batch_size=4)), out=out + "/own",
                       flush=0.0, resume=True)
arguments = TrainingArguments(
    output_dir=out + "/saved", num_train_epochs=3, per_device_train_batch_size=4, use_cpu=True, report_to=[],
    disable_tqdm=True, logging_strategy="no", dataloader_pin_memory=False, save_strategy="epoch",
)
trainer = Trainer(model, arguments, train_dataset=examples, callbacks=[RecorderCallback(recorder), Kill()])
trainer.train(resume_from_checkpoint=checkpoint)
"""


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # of the two libraries
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(
    ("script", "checkpoint"), [(LIGHTNING, "last.ckpt"), (HUGGING_FACE, "checkpoint-5")], ids=["Lightning", "HF"]
)
def test_a_training_killed_in_its_eighth_step_goes_on_from_a_checkpoint_as_one_recording(
    script, checkpoint, tmp_path, monkeypatch
):
    command = [sys.executable, "-c", script, str(tmp_path)]
    first = subprocess.run([*command, "7"], check=False, capture_output=True, text=True)
    assert first.returncode == -signal.SIGKILL, first.stderr
    found = th.recordings(tmp_path / "own")
    assert found.trainings[["seed", "status", "ended_by"]].to_numpy().tolist() == [[0, "interrupted", "a kill"]]
    assert found.table("costs")["step"].tolist() == [1, 2, 3, 4, 5, 6, 7]
    monkeypatch.setattr(asked, "FLUSH_SHARE", asked.FLUSH_SHARE)
    monkeypatch.setattr(sys, "argv", ["script", str(tmp_path), "-1", str(tmp_path / "saved" / checkpoint)])
    with pytest.warns(RecorderWarning, match="after step 5: what was recorded of steps 6 to 7 is measured again"):
        exec(compile(script, "script", "exec"), {"__name__": "__main__"})  # noqa: S102 - the same, in this process
    found = th.recordings(tmp_path / "own")
    assert found.trainings[["seed", "status", "steps", "epochs"]].to_numpy().tolist() == [[0, "done", 15, 3]]
    assert found.table("costs")["step"].tolist() == list(range(1, 16))
