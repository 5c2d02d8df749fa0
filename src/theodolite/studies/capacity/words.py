"""The claims of this study in a reader's words: a title, a sentence for each verdict, the figures that show it."""

from theodolite.claims import Words

WORDS = {
    "train-accuracy-rises": Words(
        title="Larger networks reach a higher training accuracy",
        holds="In {estimate:.0%} of the seeds training accuracy rises steadily with size.",
        fails="In only {estimate:.0%} of the seeds does training accuracy rise steadily with size.",
        undecided=(
            "In {low:.0%} to {high:.0%} of the seeds training accuracy rises steadily with size; most was claimed."
        ),
        figures=("figure-10-accuracy",),
    ),
    "train-loss-falls": Words(
        title="Larger networks reach a lower training loss",
        holds="In {estimate:.0%} of the seeds the training loss falls steadily with size.",
        fails="In only {estimate:.0%} of the seeds does the training loss fall steadily with size.",
        undecided=(
            "In {low:.0%} to {high:.0%} of the seeds the training loss falls steadily with size; most was claimed."
        ),
        figures=("figure-10-loss",),
    ),
    "test-accuracy-falls-past-a-size": Words(
        title="Too large a network loses test accuracy",
        holds=(
            "The largest network is right on {estimate:+.2%} of the test images compared with the best "
            "smaller one: it has lost accuracy."
        ),
        fails=(
            "The largest network loses nothing: it is right on {estimate:+.2%} of the test images "
            "compared with the best smaller one."
        ),
        undecided=(
            "Compared with the best smaller network, the largest is right on {low:+.2%} to {high:+.2%} of"
            " the test images: lost or gained, one cannot tell."
        ),
        figures=("figure-10-accuracy",),
    ),
    "test-loss-rises-past-a-size": Words(
        title="Too large a network has a higher test loss",
        holds="The largest network has {estimate} times the test loss of the best smaller one.",
        fails="The largest network's test loss is not higher: {estimate} times that of the best smaller one.",
        undecided=(
            "The largest network has between {low} and {high} times the test loss of the best smaller "
            "one: higher or lower, one cannot tell."
        ),
        figures=("figure-10-loss",),
    ),
    "stops-helping-past-a-size": Words(
        title="Past a size, more parameters do not help",
        holds=(
            "Past the size that fits all labels, test accuracy gains {estimate:+.2%} up to the largest: "
            "less than {least:.0%}."
        ),
        fails="More parameters go on helping: past the size that fits all labels test accuracy gains {estimate:+.2%}.",
        undecided=(
            "Past the size that fits all labels, test accuracy changes by {low:+.2%} to {high:+.2%} up to"
            " the largest; less than {least:.0%} was claimed."
        ),
        figures=("figure-10-accuracy",),
    ),
    "second-descent": Words(
        title="With noisy labels the test error falls a second time",
        holds=(
            "With noisy labels the test error rises by {estimate:.1%} of the images towards the size that"
            " fits all labels, and falls again past it."
        ),
        fails="There is no hump in the test error over size: its height is {estimate:.1%} of the images.",
        undecided=(
            "The hump in the test error over size is between {low:.1%} and {high:.1%} of the images high:"
            " there or not, one cannot tell."
        ),
        figures=("double-descent",),
    ),
}
