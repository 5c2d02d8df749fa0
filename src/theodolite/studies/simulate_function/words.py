"""The claims of this study in a reader's words: a title, a sentence for each verdict, the figures that show it."""

from theodolite.claims import Words

WORDS = {
    "fits-inside": Words(
        title="All three models fit the cosine where they were trained",
        holds="Inside the domain even the worst of the three models explains {estimate:.3%} of the cosine's variance.",
        fails=(
            "Inside the domain one of the three models explains only {estimate:.1%} of the cosine's "
            "variance, less than {least:.0%}."
        ),
        undecided=(
            "Inside the domain the worst of the three models explains between {low:.1%} and {high:.1%} of"
            " the cosine's variance; more than {least:.0%} was claimed."
        ),
        figures=("figure-1-cos-fit",),
    ),
    "fails-outside": Words(
        title="No model continues the cosine outside its training domain",
        holds="Outside the domain the error is {estimate} times that inside, even for the model where it grows least.",
        fails="Outside the domain the error of one model is only {estimate} times that inside, not {least:g} times.",
        undecided=(
            "Outside the domain the error is between {low} and {high} times that inside, for the model "
            "where it grows least; more than {least:g} times was claimed."
        ),
        figures=("figure-1-cos-fit",),
    ),
    "same-depth-alike": Words(
        title="Two models of equal depth learn equally fast",
        holds="Model 1 needs {estimate} times the epochs of model 3: as many, within the margin.",
        fails=(
            "Model 1 needs {estimate} times the epochs of model 3, though both have four layers: they do "
            "not learn equally fast."
        ),
        undecided=(
            "Model 1 needs between {low} and {high} times the epochs of model 3, which is too wide to "
            "call them equal or different."
        ),
        figures=("figure-1-cos-learning-full-batch",),
    ),
    "same-depth-performs-alike": Words(
        title="Two models of equal depth fit equally well",
        holds="The error of model 1 is {estimate} times that of model 3: as large, within the margin.",
        fails=(
            "The error of model 1 is {estimate} times that of model 3, though both have four layers: they"
            " do not fit equally well."
        ),
        undecided=(
            "The error of model 1 is between {low} and {high} times that of model 3, which is too wide to"
            " call them equal or different."
        ),
        figures=("figure-1-cos-fit",),
    ),
    "same-depth-learns-alike": Words(
        title="Two models of equal depth have like learning curves",
        holds=(
            "The learning curves of models 1 and 3 lie as far apart as those of two trainings of one "
            "model: {estimate} times."
        ),
        fails=(
            "The learning curves of models 1 and 3 lie {estimate} times as far apart as those of two "
            "trainings of one model."
        ),
        undecided=(
            "The learning curves of models 1 and 3 lie between {low} and {high} times as far apart as "
            "those of one model; less than {least} was claimed."
        ),
        figures=("learning-curves-apart",),
    ),
    "deeper-twice-as-fast": Words(
        title="The deeper model needs less than half the epochs",
        holds="The six-layer model converges in {estimate} times the epochs of the two four-layer models.",
        fails="The six-layer model needs {estimate} times the epochs of the two four-layer models: not less than half.",
        undecided=(
            "The six-layer model needs between {low} and {high} times the epochs of the two four-layer "
            "models, so half is neither reached nor excluded."
        ),
        figures=("figure-1-cos-learning-full-batch",),
    ),
    "deeper-performs-better": Words(
        title="The deeper model fits better",
        holds="The error of the deeper model is {estimate} times that of the two shallower ones.",
        fails="The deeper model does not fit better: its error is {estimate} times that of the two shallower ones.",
        undecided=(
            "The error of the deeper model is between {low} and {high} times that of the shallower ones: "
            "smaller or larger, one cannot tell."
        ),
        figures=("figure-1-cos-fit",),
    ),
    "deeper-starts-slower": Words(
        title="The deeper model is harder to train at the start",
        holds="Early in training the deeper model's loss is {estimate} times that of the two shallower ones.",
        fails=(
            "Early in training the deeper model is already ahead: its loss is {estimate} times that of "
            "the two shallower ones."
        ),
        undecided=(
            "Early in training the deeper model's loss is between {low} and {high} times that of the "
            "shallower ones: it may be ahead or behind."
        ),
        figures=("figure-2-exp-learning-full-batch",),
    ),
    "deeper-ends-lower": Words(
        title="The deeper model ends at a lower loss",
        holds="The deeper model ends at {estimate} times the loss of the two shallower ones.",
        fails="The deeper model does not end lower: its final loss is {estimate} times that of the two shallower ones.",
        undecided=(
            "The deeper model ends between {low} and {high} times the loss of the shallower ones: lower "
            "or higher, one cannot tell."
        ),
        figures=("figure-2-exp-learning-full-batch",),
    ),
    "shallow-takes-much-longer": Words(
        title="The shallow models take much longer on the exponential",
        holds="On the exponential the two shallower models take {estimate} times the epochs of the deeper one.",
        fails=(
            "On the exponential the two shallower models do not take much longer: {estimate} times the "
            "epochs of the deeper one."
        ),
        undecided=(
            "On the exponential the shallower models take between {low} and {high} times the epochs of "
            "the deeper one; more than {least} was claimed."
        ),
        figures=("figure-2-exp-learning-full-batch",),
    ),
    "exponential-is-harder": Words(
        title="The exponential takes longer to learn than the cosine",
        holds="The exponential takes {estimate} times the epochs that the cosine takes, at either scale.",
        fails=(
            "The exponential is not much harder: it takes {estimate} times the epochs that the cosine "
            "takes, at one of the two scales."
        ),
        undecided=(
            "The exponential takes between {low} and {high} times the epochs of the cosine; more than "
            "{least} was claimed."
        ),
        figures=("figure-2-exp-learning-full-batch",),
    ),
}
