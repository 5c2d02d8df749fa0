"""Against Hugging Face's own Trainer, with a small GPT built from its configuration."""

import pytest
import torch
from torch.utils.data import DataLoader
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainerCallback, TrainingArguments, set_seed

import theodolite as th
from theodolite.adapters.huggingface import RecorderCallback, own_loss, pairs
from theodolite.errors import BadData
from theodolite.record import RecorderWarning


def examples(n=16):
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(0, 20, (n, 6), generator=generator)
    return [{"input_ids": row, "labels": row} for row in tokens]


def fit(folder, callbacks, resume=None, **options):
    set_seed(0)
    model = GPT2LMHeadModel(GPT2Config(vocab_size=20, n_positions=8, n_embd=8, n_layer=1, n_head=2))
    arguments = TrainingArguments(
        output_dir=str(folder), num_train_epochs=2, per_device_train_batch_size=4, use_cpu=True, report_to=[],
        disable_tqdm=True, logging_strategy="no", dataloader_pin_memory=False, **{"save_strategy": "no", **options},
    )  # fmt: skip
    trainer = Trainer(model, arguments, train_dataset=examples(), callbacks=callbacks)
    trainer.train(resume_from_checkpoint=resume)
    return model


def test_steps_and_epochs_are_the_trainers_and_the_training_is_the_same_bit_for_bit(tmp_path):
    probe = pairs(DataLoader(examples(8), batch_size=4))
    every = {"gradient_norm": 3, "top": "2 epochs"}
    instruments = {"gradient_norm": "gradient_norm", "top": ("hessian_eigenvalues", {"k": 1, "max_products": 20})}
    recorder = th.Recorder(instruments, every=every, data=probe, out=tmp_path / "own")
    watched = fit(tmp_path / "a", [RecorderCallback(recorder)])
    costs = recorder.table("costs").groupby("instrument")[["step", "epoch"]]
    assert recorder.table("failures").to_dict("records") == []
    assert costs.get_group("gradient_norm").to_numpy().tolist() == [[1, 0], [3, 0], [6, 1], [8, 2]]
    assert costs.get_group("top").to_numpy().tolist() == [[8, 2]]
    plain = fit(tmp_path / "b", [])
    assert all(
        torch.equal(a, b) for a, b in zip(watched.state_dict().values(), plain.state_dict().values(), strict=True)
    )
    assert '"state": "done"' in (recorder.folder / "status.json").read_text()


def test_the_loss_measured_is_the_models_own(tmp_path):
    set_seed(0)
    model = GPT2LMHeadModel(GPT2Config(vocab_size=20, n_positions=8, n_embd=8, n_layer=1, n_head=2))
    recorder = th.Recorder("gradient_norm", every=1, data=pairs(DataLoader(examples(8), batch_size=4)), out=None)
    recorder.step(model, own_loss)
    batch = {name: torch.stack([e[name] for e in examples(8)]) for name in ("input_ids", "labels")}
    with torch.no_grad():
        expected = model.eval()(**batch).loss.item()
    numbers = recorder.table("numbers").set_index("quantity")["value"]
    assert numbers["loss"] == pytest.approx(expected, rel=1e-6)


def test_batches_without_labels_are_refused_with_the_keys_there_are():
    with pytest.raises(BadData, match="expected batches with 'labels', got one with input_ids"):
        pairs([{"input_ids": torch.ones(2, 3)}])


class Crash(TrainerCallback):
    """In the seventh step."""

    def on_step_begin(self, args, state, control, **given):
        if state.global_step == 6:
            raise ZeroDivisionError


@pytest.mark.filterwarnings("ignore::UserWarning:torch")  # the Trainer's own scheduler, when it goes on
def test_a_training_that_goes_on_from_a_checkpoint_is_one_recording_with_the_trainers_steps(tmp_path):
    probe = pairs(DataLoader(examples(8), batch_size=4))
    every = {"gradient_norm": 1, "loss": "1 epoch"}

    def callback(**options):
        instruments = {"gradient_norm": "gradient_norm", "loss": "gradient_norm"}
        recorder = th.Recorder(instruments, every=every, data=probe, out=tmp_path / "own", **options)
        return RecorderCallback(recorder)

    saving = {"save_strategy": "steps", "save_steps": 4}
    first = callback()
    with pytest.raises(ZeroDivisionError):
        fit(tmp_path / "a", [first, Crash()], **saving)
    first.recorder._finish()  # the program ends
    with pytest.warns(RecorderWarning, match="after step 4: what was recorded of steps 5 to 6 is measured again"):
        fit(tmp_path / "a", [callback(resume=True)], resume=True, **saving)
    found = th.recordings(tmp_path / "own")
    assert found.trainings[["seed", "status", "steps", "epochs"]].to_numpy().tolist() == [[0, "done", 8, 2]]
    costs = found.table("costs").groupby("instrument")[["step", "epoch"]]
    assert costs.get_group("gradient_norm").to_numpy().tolist() == [[step, (step - 1) // 4] for step in range(1, 9)]
    assert costs.get_group("loss").to_numpy().tolist() == [[4, 1], [8, 2]]
