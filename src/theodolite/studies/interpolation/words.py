"""The claims of this study in a reader's words: a title, a sentence for each verdict, the figures that show it."""

from theodolite.claims import Words

WORDS = {
    "ends-are-best-accuracy": Words(
        title="Accuracy is highest at the two trained networks",
        holds="Away from a network accuracy is lower by at least {estimate:.1%}, on both sets and for both networks.",
        fails="Away from one of the networks accuracy is higher: the network itself leads by {estimate:.1%}.",
        undecided=(
            "A network leads the points away from it by {low:.1%} to {high:.1%} in accuracy: best or not,"
            " one cannot tell."
        ),
        figures=("figure-11",),
    ),
    "ends-are-lowest-loss": Words(
        title="The loss is lowest at the two trained networks",
        holds="Away from a network the loss is at least {estimate} times its own, on both sets and for both networks.",
        fails=(
            "Away from a network the loss is lower, {estimate} times its own: the lowest loss is not at alpha 0 and 1."
        ),
        undecided=(
            "Away from a network the lowest loss is between {low} and {high} times its own: lower or "
            "higher, one cannot tell."
        ),
        figures=("figure-11",),
    ),
    "barrier": Words(
        title="Between two networks predictions break down",
        holds="On the way between the networks errors rise by {estimate:.0%} of the test images.",
        fails=(
            "On the way between the networks errors hardly rise, by {estimate:.1%} of the test images: "
            "they are connected."
        ),
        undecided=(
            "On the way between the networks errors rise by {low:.1%} to {high:.1%} of the test images; "
            "more than {least:.0%} is a barrier."
        ),
        figures=(
            "figure-11",
            "barriers",
        ),
    ),
    "mixing-never-helps": Words(
        title="No mixture of two networks beats the better one",
        holds=(
            "The best mixture is right on {estimate:+.2%} of the test images compared with the better "
            "network: no gain worth the name."
        ),
        fails=(
            "A mixture helps: the best one is right on {estimate:+.2%} of the test images compared with "
            "the better network."
        ),
        undecided=(
            "Compared with the better network, the best mixture is right on {low:+.2%} to {high:+.2%} of "
            "the test images; less than {least:.1%} was claimed."
        ),
        figures=("figure-11",),
    ),
    "alignment-lowers-barrier": Words(
        title="Matching hidden units lowers the barrier",
        holds="After matching hidden units the loss barrier is {estimate} times what it was.",
        fails="Matching hidden units does not lower the loss barrier: it becomes {estimate} times what it was.",
        undecided=(
            "After matching hidden units the loss barrier is between {low} and {high} times what it was: "
            "lower or higher, one cannot tell."
        ),
        figures=("aligned",),
    ),
    "alignment-removes-barrier": Words(
        title="Matching hidden units removes the barrier",
        holds=(
            "After matching hidden units errors on the way rise by only {estimate:.1%} of the test "
            "images: the networks are connected."
        ),
        fails=(
            "After matching hidden units a barrier is left: errors on the way rise by {estimate:.1%} of "
            "the test images."
        ),
        undecided=(
            "After matching hidden units errors on the way rise by {low:.1%} to {high:.1%} of the test "
            "images; less than {least:.0%} counts as connected."
        ),
        figures=(
            "aligned",
            "barriers",
        ),
    ),
}
