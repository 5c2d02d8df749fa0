"""Against Lightning's own trainer."""

import lightning.pytorch as pl
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import theodolite as th
from theodolite.adapters.lightning import RecorderCallback
from theodolite.record import RecorderWarning

LOSS = nn.CrossEntropyLoss()
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:lightning", "ignore:.*LeafSpec:FutureWarning")


class Module(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 3))

    def forward(self, inputs):
        return self.net(inputs)

    def training_step(self, batch, index):
        loss = LOSS(self(batch[0]), batch[1])
        self.log("train_loss", loss)
        return loss

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=0.01)


def fit(callbacks, epochs=2, module=None, ckpt_path=None, **options):
    pl.seed_everything(0, verbose=False)
    module = module or Module()
    data = TensorDataset(torch.randn(40, 4), torch.arange(40) % 3)
    trainer = pl.Trainer(
        max_epochs=epochs, callbacks=callbacks, accelerator="cpu", logger=False,
        enable_checkpointing=any(isinstance(one, pl.callbacks.ModelCheckpoint) for one in callbacks),
        enable_progress_bar=False, enable_model_summary=False, **options,
    )  # fmt: skip
    trainer.fit(module, DataLoader(data, batch_size=8, shuffle=True), ckpt_path=ckpt_path)
    return module


def test_steps_and_epochs_are_the_trainers_and_the_training_is_the_same_bit_for_bit():
    every = {"gradient_norm": 4, "top": "1 epoch", "weights": 5}
    instruments = {"gradient_norm": "gradient_norm", "top": ("hessian_eigenvalues", {"k": 1})}
    recorder = th.Recorder(instruments, every=every, weights="*", out=None)
    watched = fit([RecorderCallback(recorder, LOSS)])
    costs = recorder.table("costs").groupby("instrument")[["step", "epoch"]]
    assert costs.get_group("gradient_norm").to_numpy().tolist() == [[1, 0], [4, 0], [8, 1], [10, 2]]
    assert costs.get_group("top").to_numpy().tolist() == [[5, 1], [10, 2]]
    assert not len(recorder.table("failures"))
    plain = fit([])
    assert all(
        torch.equal(a, b) for a, b in zip(watched.state_dict().values(), plain.state_dict().values(), strict=True)
    )
    last = recorder.snapshots()[10]
    assert all(torch.equal(last[name], parameter) for name, parameter in plain.named_parameters())


def test_where_gradients_are_accumulated_a_step_is_one_of_the_optimizer():
    recorder = th.Recorder("gradient_norm", every=1, out=None)
    fit([RecorderCallback(recorder, LOSS)], epochs=1, accumulate_grad_batches=2)
    assert recorder.table("costs")["step"].tolist() == [1, 2, 3]  # of five batches


def test_a_part_of_the_module_and_a_batch_of_another_form_can_be_measured():
    recorder = th.Recorder("gradient_norm", every=5, out=None)
    callback = RecorderCallback(recorder, LOSS, model=lambda m: m.net, pair=lambda batch: (batch[0][:3], batch[1][:3]))
    fit([callback], epochs=1)
    numbers = recorder.table("numbers")
    assert set(numbers.query("quantity == 'samples'")["value"]) == {3.0}
    assert "norms.0.weight" in set(numbers["quantity"])


def test_a_training_that_fails_leaves_its_record_with_the_reason(tmp_path):
    class Failing(Module):
        def training_step(self, batch, index):
            if index == 3:
                raise ZeroDivisionError
            return super().training_step(batch, index)

    recorder = th.Recorder("gradient_norm", every=1, out=tmp_path / "own")
    with pytest.raises(ZeroDivisionError):
        fit([RecorderCallback(recorder, LOSS)], module=Failing())
    assert '"ended_by": "ZeroDivisionError"' in (recorder.folder / "spec.json").read_text()
    assert '"state": "done"' in (recorder.folder / "status.json").read_text()


@pytest.mark.filterwarnings("ignore:Checkpoint directory")
def test_a_training_that_goes_on_from_a_checkpoint_is_one_recording_with_the_trainers_steps(tmp_path):
    class Failing(Module):
        def training_step(self, batch, index):
            if failing and self.trainer.global_step == 13:
                raise ZeroDivisionError
            return super().training_step(batch, index)

    def callbacks(resume):
        every = {"gradient_norm": 2, "top": "1 epoch"}
        instruments = {"gradient_norm": "gradient_norm", "top": ("hessian_eigenvalues", {"k": 1})}
        recorder = th.Recorder(instruments, every=every, out=tmp_path / "own", seed=4, resume=resume)
        saving = pl.callbacks.ModelCheckpoint(tmp_path / "saved", filename="last", every_n_epochs=2)
        return [RecorderCallback(recorder, LOSS), saving]

    failing = True
    with pytest.raises(ZeroDivisionError):
        fit(callbacks(resume=False), epochs=4, module=Failing())
    failing = False
    with pytest.warns(RecorderWarning, match="after step 10: what was recorded of steps 11 to 13 is measured again"):
        fit(callbacks(resume=True), epochs=4, module=Failing(), ckpt_path=tmp_path / "saved" / "last.ckpt")
    found = th.recordings(tmp_path / "own")
    assert found.trainings[["seed", "status", "steps", "epochs"]].to_numpy().tolist() == [[4, "done", 20, 4]]
    costs = found.table("costs").groupby("instrument")[["step", "epoch"]]
    steps = costs.get_group("gradient_norm").to_numpy().tolist()
    assert steps == [[step, (step - 1) // 5] for step in (1, *range(2, 21, 2))]
    assert costs.get_group("top").to_numpy().tolist() == [[5, 1], [10, 2], [15, 3], [20, 4]]
