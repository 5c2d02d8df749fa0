"""The claims of this study in a reader's words: a title, a sentence for each verdict, the figures that show it."""

from theodolite.claims import Words

WORDS = {
    "train-loss-falls": Words(
        title="The training loss falls even with random labels",
        holds=(
            "In {estimate:.0%} of the seeds the training loss falls almost without a step back while "
            "random labels are learnt."
        ),
        fails=(
            "In only {estimate:.0%} of the seeds the training loss falls almost without a step back while"
            " random labels are learnt."
        ),
        undecided=(
            "In {low:.0%} to {high:.0%} of the seeds the training loss falls almost without a step back; "
            "most was claimed."
        ),
        figures=("figure-9-loss",),
    ),
    "test-loss-rises": Words(
        title="With random labels the test loss rises",
        holds=(
            "In {estimate:.0%} of the seeds the test loss rises almost without a step back while random "
            "labels are learnt."
        ),
        fails=(
            "In only {estimate:.0%} of the seeds the test loss rises almost without a step back while "
            "random labels are learnt."
        ),
        undecided=(
            "In {low:.0%} to {high:.0%} of the seeds the test loss rises almost without a step back; most was claimed."
        ),
        figures=("figure-9-loss",),
    ),
    "train-accuracy-rises": Words(
        title="With random labels training accuracy rises",
        holds=(
            "In {estimate:.0%} of the seeds training accuracy rises almost without a step back while "
            "random labels are learnt."
        ),
        fails=(
            "In only {estimate:.0%} of the seeds training accuracy rises almost without a step back while"
            " random labels are learnt."
        ),
        undecided=(
            "In {low:.0%} to {high:.0%} of the seeds training accuracy rises almost without a step back; "
            "most was claimed."
        ),
        figures=("figure-9-accuracy",),
    ),
    "test-accuracy-falls": Words(
        title="With random labels test accuracy falls",
        holds=(
            "In {estimate:.0%} of the seeds test accuracy falls almost without a step back while random "
            "labels are learnt."
        ),
        fails=(
            "In only {estimate:.0%} of the seeds test accuracy falls almost without a step back while "
            "random labels are learnt."
        ),
        undecided=(
            "In {low:.0%} to {high:.0%} of the seeds test accuracy falls almost without a step back; most was claimed."
        ),
        figures=("figure-9-accuracy",),
    ),
    "memorises": Words(
        title="A network memorises whatever labels it is given",
        holds="The network learns {estimate:.1%} of the random labels by heart.",
        fails="The network learns only {estimate:.1%} of the random labels by heart, less than {least:.0%}.",
        undecided=(
            "The network learns between {low:.1%} and {high:.1%} of the random labels by heart; more than"
            " {least:.0%} was claimed."
        ),
        figures=("figure-9-accuracy",),
    ),
    "test-at-chance": Words(
        title="What was memorised is of no use on the test set",
        holds="On the test set the network is right as often as a guess: {estimate:.1%}.",
        fails="On the test set the network is right on {estimate:.1%} of the images, which is not what guessing gives.",
        undecided=(
            "On the test set the network is right on {low:.1%} to {high:.1%} of the images; {least:.0%} "
            "to {most:.0%} counts as guessing."
        ),
        figures=("figure-9-accuracy",),
    ),
    "better-than-copying": Words(
        title="A fitted network knows more than its noisy labels",
        holds=(
            "At every share of random labels the network is right on {estimate:+.1%} of the test images "
            "compared with copying the nearest label."
        ),
        fails=(
            "At one share of random labels the network is no better than copying the nearest label: "
            "{estimate:+.1%} of the test images."
        ),
        undecided=(
            "Compared with copying the nearest label, the network is right on {low:+.1%} to {high:+.1%} "
            "of the test images: better or worse, one cannot tell."
        ),
        figures=("dial-test-error",),
    ),
}
