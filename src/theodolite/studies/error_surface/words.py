"""The claims of this study in a reader's words: a title, a sentence for each verdict, the figures that show it."""

from theodolite.claims import Words

WORDS = {
    "small-batch-is-wider": Words(
        title="Small batches find wider minima",
        holds="The minimum found with small batches has {estimate} times the radius of that found with large ones.",
        fails=(
            "The minimum found with small batches is not wider: {estimate} times the radius of that found"
            " with large ones."
        ),
        undecided=(
            "The minimum found with small batches has between {low} and {high} times the radius of the "
            "other: wider or narrower, one cannot tell."
        ),
        figures=("width",),
    ),
    "curve-connects": Words(
        title="A curve of low loss connects two minima",
        holds=(
            "Along the trained curve the loss rises by at most {estimate} above its higher end: the "
            "minima are connected."
        ),
        fails="The trained curve does not connect them: along it the loss rises by {estimate} above its higher end.",
        undecided=(
            "Along the trained curve the loss rises by {low} to {high} above its higher end; less than "
            "{least} was claimed."
        ),
        figures=("connection",),
    ),
}
