"""Perceptrons for data sets: they take what the data set gives."""

from dataclasses import replace

import pytest

from theodolite import data, runs
from theodolite.data import DataSpec
from theodolite.errors import UnknownName
from theodolite.jobs import plan
from theodolite.models import MLP
from theodolite.store import records
from theodolite.store.records import Plan, Planned, Records
from theodolite.studies.classifiers import classifier, covered, images, training_of
from theodolite.study import Settings, Training


def trained(directory, specs, size=None):
    """Records of these specs, trained in stacks of ``size``; None: all in one."""
    records.claim_folder(directory)
    for job in plan(directory, specs, lambda spec, outcome: {}, device="cpu", workers=1):
        for start in range(0, len(job.specs), size or len(job.specs)):
            part = replace(job, specs=job.specs[start : start + (size or len(job.specs))])
            runs.execute(part, lambda progress: None)
    planned = Plan(study="made", preset="quick", settings={"seeds": 1}, command="", runs=tuple(map(Planned.of, specs)))
    records.write_plan(directory, planned)
    return Records(directory, planned, Settings)


def specs(seeds, **kept):
    model = classifier("digits", (8,))
    sets = {seed: images("digits", seed, **kept) for seed in range(seeds)}
    return [training_of("made", {}, seed, own, model, batch_size=16, epochs=2) for seed, own in sets.items()]


@pytest.mark.parametrize("source", ["digits", "mnist1d"])
def test_a_classifier_fits_the_samples_and_classes_of_its_data_set(source):
    found = data.load(DataSpec(source=source, train=10, test=10))
    model = classifier(source, (7,))
    assert model.widths == (found.train_inputs[0].size, 7, found.classes)


def test_a_data_set_without_a_known_shape_is_refused_with_the_names_that_have_one():
    with pytest.raises(UnknownName, match="mnist"):
        classifier("mnits", (7,))


def test_each_seed_draws_its_own_subset_and_none_where_there_is_nothing_to_draw():
    own = [data.load(images("digits", seed, train=50, test=30)) for seed in (0, 1)]
    for part in ("train_inputs", "test_inputs"):
        assert (getattr(own[0], part) != getattr(own[1], part)).any()
    assert images("digits", 7, train=None, test=None) == DataSpec(source="digits")


def test_seeds_with_subsets_of_their_own_train_as_one_stack_to_what_each_is_alone(tmp_path):
    own = specs(3, train=64, test=30)
    assert len({spec.stack_key() for spec in own}) == 1
    together, alone = trained(tmp_path / "together", own), trained(tmp_path / "alone", own, size=1)
    assert together.table("metrics").equals(alone.table("metrics"))
    losses = together.table("metrics").query("epoch == 2")["test_loss"]
    assert losses.nunique() == 3


@pytest.mark.parametrize(("kept", "said"), [
    ({"train": None, "test": None}, "whole data set"), ({"train": 64, "test": None}, "Each seed draws its own images"),
])  # fmt: skip
def test_a_caption_says_what_chance_intervals_cover(tmp_path, kept, said):
    assert said in covered(trained(tmp_path, specs(2, **kept)))


def test_a_folder_of_an_earlier_version_says_that_its_seeds_share_a_subset(tmp_path):
    shared = [
        spec.model_copy(update={"data": images("digits", 0, train=64, test=30)}) for spec in specs(2, train=64, test=30)
    ]
    assert "share one subset" in covered(trained(tmp_path, shared))


def test_the_points_of_a_function_are_no_subset_that_seeds_share(tmp_path):
    function = DataSpec(source="function:cos", train=20, test=20)
    fits = [
        training_of(
            "made", {"task": "cos"}, seed, function, MLP(inputs=1, hidden=(3,), outputs=1), epochs=1
        ).model_copy(update={"training": Training(loss="mse", epochs=1)})
        for seed in range(2)
    ]
    assert "Each seed draws its own images" in covered(trained(tmp_path, [*fits, *specs(2, train=64, test=None)]))
