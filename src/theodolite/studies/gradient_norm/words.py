"""The claims of this study in a reader's words: a title, a sentence for each verdict, the figures that show it."""

from theodolite.claims import Words

WORDS = {
    "falls-with-loss": Words(
        title="The gradient norm falls with the loss",
        holds="As the loss falls, so does the gradient norm: correlation {estimate} on the task where it is weaker.",
        fails="On one task the gradient norm does not fall with the loss: correlation {estimate}, not above {least:g}.",
        undecided=(
            "On the task where it is weaker, the correlation of loss and gradient norm lies between {low}"
            " and {high}; above {least:g} was claimed."
        ),
        figures=("figure-6-*",),
    ),
    "smaller-at-the-end": Words(
        title="The gradient is smaller at the end of training",
        holds=(
            "At the end of training the gradient norm is {estimate} times that before training, on the "
            "task where it shrinks less."
        ),
        fails=(
            "The gradient is not smaller at the end: its norm is {estimate} times that before training on"
            " one of the tasks."
        ),
        undecided=(
            "At the end the gradient norm is between {low} and {high} times that before training: smaller"
            " or larger, one cannot tell."
        ),
        figures=("norm-over-epochs-*",),
    ),
}
