"""The claims of this study in a reader's words: a title, a sentence for each verdict, the figures that show it."""

from theodolite.claims import Words

WORDS = {
    "starts-close": Words(
        title="Trainings start close together on the first principal axis",
        holds=(
            "On the first principal axis trainings start {estimate} times as close, measured by their "
            "ends, as paths in random directions would show."
        ),
        fails=(
            "On the first principal axis trainings start no closer than paths in random directions would "
            "show: {estimate} times their share."
        ),
        undecided=(
            "On the first principal axis the starts have between {low} and {high} times the share that "
            "random directions would leave them; less than 1 was claimed."
        ),
        figures=("figure-5*",),
    ),
    "starts-close-in-full-space": Words(
        title="Trainings start close together in the whole weight space",
        holds=(
            "In the whole weight space the starts lie {estimate} times as close, measured by the ends, as"
            " paths at right angles would leave them."
        ),
        fails=(
            "In the whole weight space the starts are no closer than paths at right angles would leave "
            "them: {estimate} times."
        ),
        undecided=(
            "In the whole weight space the starts lie at between {low} and {high} times what paths at "
            "right angles would leave; less than 1 was claimed."
        ),
        figures=("distances",),
    ),
    "quickly-diverged": Words(
        title="The weights leave the start quickly",
        holds="After a fifth of the epochs the weights have gone {estimate} times as far as a random walk would have.",
        fails=(
            "The weights do not leave quickly: after a fifth of the epochs they have gone {estimate} "
            "times as far as a random walk would have."
        ),
        undecided=(
            "After a fifth of the epochs the weights have gone between {low} and {high} times as far as a"
            " random walk would have: faster or slower, one cannot tell."
        ),
        figures=("distances",),
    ),
    "steps-shrink": Words(
        title="The weights change less and less with each epoch",
        holds="The steps grow shorter as training goes on: rank correlation of epoch and length {estimate}.",
        fails="The steps do not grow shorter: the rank correlation of epoch and length is {estimate}.",
        undecided=(
            "The rank correlation of epoch and length of the step lies between {low} and {high}: shorter "
            "or longer, one cannot tell."
        ),
        figures=("distances",),
    ),
    "converged": Words(
        title="Each training has come to a minimum",
        holds=(
            "At the end the gradient leads {estimate} of the length of the weights away, as good as "
            "nothing: the trainings have converged."
        ),
        fails=(
            "The trainings have not converged: at the end the gradient still leads {estimate} of the "
            "length of the weights away."
        ),
        undecided=(
            "At the end the gradient leads between {low} and {high} of the length of the weights away; "
            "below {least:g} counts as converged."
        ),
    ),
    "different-minima": Words(
        title="Each training ends in a minimum of its own",
        holds=(
            "Between two ends, hidden units matched, errors rise by {estimate:.1%} of the training "
            "images: they lie in different minima."
        ),
        fails=(
            "Between two ends, hidden units matched, errors rise by only {estimate:.1%} of the training "
            "images: they lie in one basin."
        ),
        undecided=(
            "Between two ends, hidden units matched, errors rise by {low:.1%} to {high:.1%} of the "
            "training images; more than {least:.0%} would part the minima."
        ),
        figures=("barriers",),
    ),
    "performance-varies": Words(
        title="Which minimum is found decides the performance",
        holds=(
            "Two trainings differ on the test images {estimate} times as much as chance alone would have them differ."
        ),
        fails="Two trainings differ on the test images no more than chance would have them differ: {estimate} times.",
        undecided=(
            "Two trainings differ on the test images between {low} and {high} times as much as chance "
            "alone would have them; more than once was claimed."
        ),
    ),
    "initial-weights-matter": Words(
        title="Lucky initial weights decide the result",
        holds="The initial weights account for {estimate:.0%} of the variance of the final test loss.",
        fails=(
            "The initial weights account for only {estimate:.0%} of the variance of the final test loss, "
            "less than {least:.0%}."
        ),
        undecided=(
            "The initial weights account for {low:.0%} to {high:.0%} of the variance of the final test "
            "loss; more than {least:.0%} was claimed."
        ),
        figures=("variance",),
    ),
}
