"""Perceptrons for data sets: they take what the data set gives."""

import pytest

from theodolite import data
from theodolite.data import DataSpec
from theodolite.errors import UnknownName
from theodolite.studies.classifiers import classifier


@pytest.mark.parametrize("source", ["digits", "mnist1d"])
def test_a_classifier_fits_the_samples_and_classes_of_its_data_set(source):
    found = data.load(DataSpec(source=source, train=10, test=10))
    model = classifier(source, (7,))
    assert model.widths == (found.train_inputs[0].size, 7, found.classes)


def test_a_data_set_without_a_known_shape_is_refused_with_the_names_that_have_one():
    with pytest.raises(UnknownName, match="mnist"):
        classifier("mnits", (7,))
