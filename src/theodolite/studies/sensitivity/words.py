"""The claims of this study in a reader's words: a title, a sentence for each verdict, the figures that show it."""

from theodolite.claims import Words

WORDS = {
    "falls-with-batch-size": Words(
        title="Larger batches make a network less sensitive",
        holds="Each doubling of the batch size multiplies the sensitivity on the test set by {estimate}.",
        fails=(
            "Sensitivity does not fall with the batch size: each doubling multiplies it by {estimate} on the test set."
        ),
        undecided=(
            "Each doubling of the batch size multiplies the sensitivity on the test set by between {low} "
            "and {high}: it may fall or rise."
        ),
        figures=("figure-12",),
    ),
    "more-robust-for-training-data": Words(
        title="More steps make a network robust on its training data",
        holds=(
            "Each doubling of the batch size, and so half the steps, multiplies the sensitivity on the "
            "training set by {estimate}."
        ),
        fails=(
            "More steps do not make it more robust: half the steps multiply the sensitivity on the "
            "training set by {estimate}."
        ),
        undecided=(
            "Each doubling of the batch size multiplies the sensitivity on the training set by between "
            "{low} and {high}: it may fall or rise."
        ),
        figures=("figure-12-training",),
    ),
    "steps-explain-it": Words(
        title="The number of steps explains the trend",
        holds=(
            "At equal numbers of steps {estimate:.0%} of the trend is left, as good as nothing: the steps explain it."
        ),
        fails=(
            "At equal numbers of steps {estimate:.0%} of the trend is left (below zero it turns round): "
            "the steps do not explain it."
        ),
        undecided=(
            "At equal numbers of steps between {low:.0%} and {high:.0%} of the trend is left (below zero "
            "it turns round)."
        ),
        figures=(
            "figure-12",
            "steps",
        ),
    ),
    "loss-explains-it": Words(
        title="How far training has come explains the trend",
        holds="At equal training loss {estimate:.0%} of the trend is left, as good as nothing: the loss explains it.",
        fails=(
            "At equal training loss {estimate:.0%} of the trend is left (below zero it turns round): the "
            "loss does not explain it."
        ),
        undecided=(
            "At equal training loss between {low:.0%} and {high:.0%} of the trend is left (below zero it turns round)."
        ),
        figures=("figure-12",),
    ),
    "goes-with-overfitting": Words(
        title="Sensitive networks are those that overfit",
        holds=(
            "The wider the gap between training and test accuracy, the more sensitive the network: rank "
            "correlation {estimate}."
        ),
        fails="Sensitive networks do not overfit more: rank correlation of sensitivity and gap {estimate}.",
        undecided=(
            "The rank correlation of sensitivity and generalisation gap lies between {low} and {high}; "
            "above 0 was claimed."
        ),
        figures=("overfitting",),
    ),
    "sensitive-ones-jump-classes": Words(
        title="Sensitive networks jump classes at small changes",
        holds="The more sensitive a network, the more predictions a small step changes: rank correlation {estimate}.",
        fails="Sensitive networks do not jump classes more often: rank correlation {estimate}.",
        undecided=(
            "The rank correlation of sensitivity and changed predictions lies between {low} and {high}; "
            "above 0 was claimed."
        ),
        figures=("jumps",),
    ),
    "sharpness-grows": Words(
        title="Larger batches end in sharper minima",
        holds="At equal training loss each doubling of the batch size multiplies Keskar's sharpness by {estimate}.",
        fails=(
            "At equal training loss minima do not get sharper: each doubling multiplies Keskar's "
            "sharpness by {estimate}."
        ),
        undecided=(
            "At equal training loss each doubling multiplies Keskar's sharpness by between {low} and "
            "{high}: sharper or flatter, one cannot tell."
        ),
        figures=("sharpness-keskar",),
    ),
}
