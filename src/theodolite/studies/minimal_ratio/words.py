"""The claims of this study in a reader's words: a title, a sentence for each verdict, the figures that show it."""

from theodolite.claims import Words

WORDS = {
    "inverse-correlation": Words(
        title="The higher the loss, the fewer upward directions",
        holds=(
            "Critical points of higher loss have a smaller minimal ratio: rank correlation {estimate} on "
            "the task where it is weakest."
        ),
        fails=(
            "On one task critical points of higher loss do not have a smaller minimal ratio: rank "
            "correlation {estimate}."
        ),
        undecided=(
            "On the task where it is weakest, the rank correlation of minimal ratio and loss lies between"
            " {low} and {high}; below 0 was claimed."
        ),
        figures=("correlation-by-seed",),
    ),
    "stronger-than-a-random-field": Words(
        title="That correlation is more than geometry",
        holds="On every task the correlation lies below that of a smooth random function, by {estimate} at least.",
        fails="On one task the correlation is no stronger than on a smooth random function: it differs by {estimate}.",
        undecided=(
            "On one task the correlation differs from that of a smooth random function by {low} to "
            "{high}: stronger or weaker, one cannot tell."
        ),
        figures=("figure-8-random-field",),
    ),
    "larger-ratio-nearer-a-minimum": Words(
        title="A larger minimal ratio means a minimum is near",
        holds=(
            "From weights of larger minimal ratio the walk ends nearer to a minimum: rank correlation "
            "{estimate} with its index on the weakest task."
        ),
        fails=(
            "On one task a larger minimal ratio does not lead nearer to a minimum: rank correlation "
            "{estimate} with the index."
        ),
        undecided=(
            "On the weakest task the rank correlation of minimal ratio and index at the end of the walk "
            "lies between {low} and {high}; below 0 was claimed."
        ),
    ),
    "report-protocol-is-critical": Words(
        title="The report's protocol ends at critical points",
        holds=(
            "The report's protocol ends where the gradient is {estimate} of the largest curvature: at critical points."
        ),
        fails=(
            "The report's protocol does not end at critical points: the gradient is still {estimate} of "
            "the largest curvature."
        ),
        undecided=(
            "The report's protocol ends where the gradient is between {low} and {high} of the largest "
            "curvature; below {least:g} counts as critical."
        ),
        figures=(
            "how-critical",
            "protocol-gradient-norm",
        ),
    ),
    "higher-loss-more-negative": Words(
        title="The higher the loss, the more downward directions",
        holds=(
            "Among like points, those of higher loss have more negative eigenvalues: rank correlation "
            "{estimate} on the task where it is weakest."
        ),
        fails=(
            "On one task points of higher loss do not have more negative eigenvalues among like points: "
            "rank correlation {estimate}."
        ),
        undecided=(
            "Among like points, the rank correlation of loss and number of negative eigenvalues lies "
            "between {low} and {high} on the weakest task."
        ),
    ),
}
