"""The claims of this study in a reader's words: a title, a sentence for each verdict, the figures that show it."""

from dataclasses import replace

from theodolite.claims import Words
from theodolite.studies.image_classification.findings import NAMES

WORDS = {
    "overfits-after-15-epochs": Words(
        title="Convolutional networks overfit after about 15 epochs",
        holds=(
            "The test loss of each convolutional network is lowest close to the fifteenth epoch (at "
            "{estimate} for the farthest)."
        ),
        fails=(
            "Of one convolutional network the test loss is lowest at epoch {estimate}, not between "
            "{least:g} and {most:g}."
        ),
        undecided=(
            "Of the farthest convolutional network the test loss is lowest between epochs {low} and "
            "{high}; {least:g} to {most:g} was claimed."
        ),
        figures=(
            "figure-3-single-loss",
            "overfitting",
        ),
    ),
    "dnn-overfits-after-15-epochs": Words(
        title="Perceptrons overfit after about 15 epochs",
        holds=(
            "The test loss of each perceptron is lowest close to the fifteenth epoch (at {estimate} for the farthest)."
        ),
        fails="Of one perceptron the test loss is lowest at epoch {estimate}, not between {least:g} and {most:g}.",
        undecided=(
            "Of the farthest perceptron the test loss is lowest between epochs {low} and {high}; "
            "{least:g} to {most:g} was claimed."
        ),
        figures=(
            "figure-4-single-loss",
            "overfitting",
        ),
    ),
    "train-loss-continues-to-fall": Words(
        title="The training loss falls to the very end",
        holds=(
            "Late in training the loss still falls in every network, to {estimate} times what it was "
            "where it falls least."
        ),
        fails="In one network the training loss no longer falls: late in training it is {estimate} times what it was.",
        undecided=(
            "Where it falls least, the training loss goes to between {low} and {high} times what it was "
            "late in training: lower or higher, one cannot tell."
        ),
        figures=("figure-*-single-loss",),
    ),
    "train-accuracy-continues-to-rise": Words(
        title="Training accuracy rises to the very end",
        holds=(
            "Late in training accuracy on the training set still rises in every network, by "
            "{estimate:.2%} where it rises least."
        ),
        fails="In one network training accuracy no longer rises: late in training it changes by {estimate:+.2%}.",
        undecided=(
            "Where it rises least, training accuracy changes by {low:+.2%} to {high:+.2%} late in "
            "training: up or down, one cannot tell."
        ),
        figures=("figure-*-single-accuracy",),
    ),
    "test-accuracy-falls-after-15-epochs": Words(
        title="Test accuracy falls after about 15 epochs",
        holds=(
            "From the fifteenth epoch on test accuracy falls in every network, by {estimate:+.2%} where it falls least."
        ),
        fails="In one network test accuracy does not fall after the fifteenth epoch: it changes by {estimate:+.2%}.",
        undecided=(
            "Where it falls least, test accuracy changes by {low:+.2%} to {high:+.2%} after the fifteenth"
            " epoch: up or down, one cannot tell."
        ),
        figures=("figure-*-single-accuracy",),
    ),
    "train-loss-below-test": Words(
        title="The training loss always lies below the test loss",
        holds=(
            "In {estimate:.0%} of the trainings the training loss lies below the test loss at every "
            "epoch, in the network where that is rarest."
        ),
        fails=(
            "In one network only {estimate:.0%} of the trainings keep the training loss below the test "
            "loss at every epoch."
        ),
        undecided=(
            "In the network where it is rarest, between {low:.0%} and {high:.0%} of the trainings keep "
            "the training loss below the test loss at every epoch."
        ),
        figures=("figure-*-all-loss",),
    ),
    "train-accuracy-above-test": Words(
        title="Training accuracy always lies above test accuracy",
        holds=(
            "In {estimate:.0%} of the trainings training accuracy lies above test accuracy at every "
            "epoch, in the network where that is rarest."
        ),
        fails=(
            "In one network only {estimate:.0%} of the trainings keep training accuracy above test "
            "accuracy at every epoch."
        ),
        undecided=(
            "In the network where it is rarest, between {low:.0%} and {high:.0%} of the trainings keep "
            "training accuracy above test accuracy at every epoch."
        ),
        figures=("figure-*-all-accuracy",),
    ),
    "cnn-beats-dnn": Words(
        title="Convolutional networks beat larger perceptrons",
        holds=(
            "The convolutional networks are right on {estimate:+.1%} of the test images compared with "
            "perceptrons several times their size."
        ),
        fails=(
            "The convolutional networks are not better: they are right on {estimate:+.1%} of the test "
            "images compared with the perceptrons."
        ),
        undecided=(
            "Compared with the perceptrons, the convolutional networks are right on {low:+.1%} to "
            "{high:+.1%} of the test images: better or worse, one cannot tell."
        ),
        figures=("best-accuracy",),
    ),
    "deeper-at-equal-size": Words(
        title="A fifth layer helps a perceptron of the same size",
        holds=(
            "The perceptron with five layers is right on {estimate:+.2%} of the test images compared with"
            " that with four."
        ),
        fails=(
            "A layer more does not help: the five-layer perceptron is right on {estimate:+.2%} of the "
            "test images compared with that with four."
        ),
        undecided=(
            "With a layer more a perceptron is right on {low:+.2%} to {high:+.2%} of the test images "
            "compared with one less: better or worse, one cannot tell."
        ),
        figures=("best-accuracy",),
    ),
}
WORDS = {claim: replace(words, names=tuple(NAMES.items())) for claim, words in WORDS.items()}
