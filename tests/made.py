"""Made findings: numbers with the shape of a real survey, for tests of figures and report and to look at."""

from functools import cache
from types import SimpleNamespace

import numpy as np
import pandas as pd

MODELS = ("Model 1", "Model 2", "Model 3")


def learning(seeds=16, epochs=2000, diverged=False):
    """Losses that fall as a power of the epoch, stopping at 1e-4; Model 2 starts slower and falls faster."""
    generator = np.random.default_rng(7)
    parts = []
    for model, (start, rate) in zip(MODELS, ((0.45, 1.15), (0.7, 1.5), (0.45, 1.18)), strict=True):
        for seed in range(seeds):
            epoch = np.arange(epochs + 1)
            speed = rate * np.exp(0.06 * generator.normal())
            noise = np.exp(np.cumsum(generator.normal(0, 0.02, epochs + 1)))
            loss = start * noise / (1 + epoch / 12) ** speed
            reached = np.flatnonzero(loss <= 1e-4)
            stop = reached[0] + 1 if len(reached) else epochs + 1
            if diverged and model == "Model 1" and seed == 0:
                loss[300:] = np.nan
            parts.append(pd.DataFrame({"model": model, "seed": seed, "epoch": epoch[:stop], "loss": loss[:stop]}))
    return pd.concat(parts, ignore_index=True)


def fits(seeds=16):
    """Fits of cos(3x): good inside [-1, 1], straight lines of scattered slope outside."""
    generator = np.random.default_rng(8)
    x = np.linspace(-2, 2, 401)
    parts = []
    for model in MODELS:
        for seed in range(seeds):
            slope = generator.normal(0.0, 0.8, 2)
            inside = np.cos(3 * np.clip(x, -1, 1)) + 0.01 * generator.normal()
            outside = slope[0] * np.minimum(x + 1, 0) + slope[1] * np.maximum(x - 1, 0)
            parts.append(pd.DataFrame({"model": model, "seed": seed, "x": x, "y": inside + outside}))
    return pd.concat(parts, ignore_index=True), pd.DataFrame({"x": x, "y": np.cos(3 * x)})


def depths(seeds=16, limit=2000):
    """Epochs to convergence by depth for two functions, some not within the limit."""
    generator = np.random.default_rng(9)
    rows = []
    for function, factor in (("cos", 1.0), ("exp", 2.2)):
        for layers in range(2, 9):
            for seed in range(seeds):
                epochs = factor * 1400 / layers**0.9 * np.exp(0.25 * generator.normal())
                loss = 1e-4 * np.exp(0.3 * generator.normal()) * (1 if epochs < limit else epochs / limit * 3)
                rows.append((function, layers, seed, min(epochs, limit), epochs > limit, loss))
    return pd.DataFrame(rows, columns=["function", "layers", "seed", "epochs", "censored", "loss"])


def estimates():
    """Estimates with intervals, two of them open at one end."""
    return pd.DataFrame(
        {
            "label": ["cos, Model 2 / Model 1", "exp, Model 2 / Model 1", "cos, Model 3 / Model 1", "exp, 3 / 1"],
            "estimate": [0.41, 0.62, 1.04, np.nan],
            "low": [0.33, 0.45, 0.96, 1.9],
            "high": [0.49, 0.91, 1.13, np.inf],
        }
    )


def in_planes():
    """One figure of each other family: paths, a surface, one number against another, and spectra."""
    from theodolite.figures.paths import paths
    from theodolite.figures.points import scatter
    from theodolite.figures.scales import Axis
    from theodolite.figures.spectra import spectra
    from theodolite.figures.surface import surfaces
    from theodolite.findings import Figure

    generator = np.random.default_rng(10)
    steps = np.arange(18)
    walks = pd.concat(
        pd.DataFrame(
            {"run": str(k), "epoch": 3 * steps, "a": np.cos(k) * steps**0.7, "b": np.sin(k) * steps**0.5 + 0.1 * k}
        )
        for k in range(8)
    )
    x, y = np.meshgrid(np.linspace(-1, 1, 31), np.linspace(-1, 1, 31))
    surface = pd.concat(
        pd.DataFrame({"p": f"batch size {b}", "x": x.ravel(), "y": y.ravel(), "z": (0.01 + b * x**2 + y**2).ravel()})
        for b in (1, 8)
    )
    cloud = pd.DataFrame({"n": generator.normal(size=40), "g": ["training", "test"] * 20})
    cloud = cloud.assign(l=2 * cloud["n"] + generator.normal(0, 0.3, 40))
    values = pd.concat(
        pd.DataFrame({"p": p, "of": of, "v": np.linspace(-1, end, 31), "d": d})
        for p, end in (("low", 5.0), ("high", 9.0))
        for of, d in (("measured", np.nan), ("predicted", 1 / (end + 1)))
    )
    value, density = Axis("v", "eigenvalue"), Axis("d", "density")
    one, two = Axis("a", "component 1"), Axis("b", "component 2")
    loss = Axis("z", "loss", log=True)
    return [
        Figure("paths", "Paths", paths(walks, x=one, y=two, series="run", step="epoch"), "Eight.", "They part."),
        Figure(
            "surface",
            "Surface",
            surfaces(surface, x=Axis("x", "x"), y=Axis("y", "y"), z=loss, panel="p"),
            "Two bowls.",
            "The second bowl is narrower.",
        ),
        Figure("walk", "Walk", _walk(), "A way down.", "The loss falls."),
        Figure(
            "cloud", "Cloud", scatter(cloud, x=Axis("n", "n"), y=Axis("l", "l"), series="g"), "Forty.", "They rise."
        ),
        Figure(
            "spectra",
            "Spectra",
            spectra(values, x=value, y=density, panel="p", series="of", linear=0.1),
            "Two.",
            "Wide.",
        ),
    ]


def _walk():
    """A line with a slider of four steps."""
    from theodolite.figures import walk
    from theodolite.figures.lines import lines
    from theodolite.figures.scales import Axis

    table = pd.DataFrame({"epoch": [0, 1, 2, 3], "loss": [8.0, 4.0, 2.0, 1.0], "of": "loss"})
    chart = lines(table, x=Axis("epoch", "epoch"), y=Axis("loss", "loss"), series="of", stops=table["epoch"])
    return walk.slider(chart, "epoch", [f"{n}: loss {2.0 ** (3 - n):g}" for n in range(4)])


@cache  # three files of tests ask while they are collected
def findings(hostile="", planes=False):
    """A survey of two studies; ``hostile`` is put wherever text from a record could come in."""
    from theodolite.claims import Claim, Evidence, Words, epochs_to_convergence, holm, judge
    from theodolite.figures.curves import BAND, curves
    from theodolite.figures.points import CENSORED, MEDIAN, forest, over_factor
    from theodolite.figures.scales import Axis, Rule
    from theodolite.findings import Figure, Table
    from theodolite.report import RunsSummary, StudyFindings

    sweep, (fitted, target), losses = depths(), fits(seeds=8), learning(seeds=8, epochs=800)
    runs = sweep.assign(
        status="done", converged_epoch=sweep["epochs"].mask(sweep["censored"]), epochs=2000, model=sweep["layers"]
    )
    records = SimpleNamespace(runs=runs)

    def epochs(function, layers):
        return epochs_to_convergence(runs[(runs["function"] == function) & (runs["layers"] == layers)])

    claims = [
        Claim(
            "deeper-twice-as-fast",
            f"Model 2 performs better and reaches convergence in less than half the amount of epochs.{hostile}",
            "report, Figure 1 right",
            "epochs to convergence, 6 layers / 4 layers, median over seeds, cos",
            "median_ratio",
            "below",
            0.5,
            lambda _: epochs("cos", 6) / epochs("cos", 4),
            Words(
                f"The deeper one is twice as fast{hostile}",
                f"The deeper one needs {{estimate}} times the epochs.{hostile}",
                f"The deeper one needs {{estimate}} times the epochs, not half.{hostile}",
                f"The deeper one needs {{low}} to {{high}} times the epochs.{hostile}",
                ("figure-1-learning",),
            ),
        ),
        Claim(
            "exponential-is-harder",
            "This function was much more difficult for the models to learn.",
            "report, Figure 2",
            "epochs to convergence, exp / cos, median over seeds, 4 layers",
            "median_ratio",
            "above",
            1.0,
            lambda _: epochs("exp", 4) / epochs("cos", 4),
        ),
        Claim(
            "same-depth-alike",
            "Model 1 and Model 3 have similar performance.",
            "report, Figure 1 right",
            "epochs to convergence, 4 layers / 5 layers, median over seeds, cos",
            "median_ratio",
            "within",
            (0.8, 1.25),
            lambda _: epochs("cos", 4) / epochs("cos", 5),
            Words(figures=("*-learning",)),
        ),
        Claim(
            "shallow-converges",
            "Two layers are enough.",
            "beyond",
            "share of seeds that converge within 2,000 epochs, exp, 2 layers",
            "share",
            "above",
            0.9,
            lambda _: Evidence.exact((epochs("exp", 2).high < np.inf).astype(float), "Not all of them at once."),
        ),
    ]
    verdicts = holm([judge(claim, records, study="made-function", preset="quick") for claim in claims])
    epoch, loss = Axis("epoch", "epoch", log=True), Axis("loss", "training loss (mean squared error)", log=True)
    figures = [
        Figure(
            "figure-1-fits",
            f"Fits inside and outside the domain{hostile}",
            curves(
                fitted,
                x=Axis("x", "x"),
                y=Axis("y", "f(x)", domain=(-3, 3)),
                series="model",
                reference=target,
                rules=[Rule(-1, "", "x"), Rule(1, "end of the training domain", "x")],
            ),
            f"cos(3x) and three models trained between the dashed lines, 8 seeds. {BAND}{hostile}",
            f"Inside the domain all three models lie on the cosine; outside they go straight on.{hostile}",
            "Each of the 3 models accurately fits the cosine function within the domain of the training data.",
        ),
        Figure(
            "figure-1-learning",
            "Learning curves",
            curves(losses, x=epoch, y=loss, series="model", carry=True, rules=[Rule(1e-4, "convergence: 0.0001")]),
            f"Training loss of three models, 8 seeds. {BAND}",
            "Model 2 starts higher and ends lower than models 1 and 3.",
        ),
        Figure(
            "depth",
            "Epochs to convergence by depth",
            over_factor(
                sweep.assign(function=sweep["function"] + hostile),
                x=Axis("layers", "layers"),
                y=Axis("epochs", f"epochs to convergence{hostile}", log=True),
                panel="function",
                censored="censored",
                rules=[Rule(2000, "longest training")],
            ),
            f"About 670 parameters, 2 to 8 layers, 16 seeds each. {MEDIAN} {CENSORED}",
            "Epochs fall with depth for both functions.",
        ),
        Figure(
            "estimates",
            "Epochs relative to Model 1",
            forest(
                estimates(),
                x=Axis("estimate", "ratio of epochs to convergence", log=True),
                label="label",
                low="low",
                high="high",
                rules=[Rule(0.5, "half", "x"), Rule(1.0, "equal", "x")],
            ),
            "Median over seeds with its 95 % interval.",
            "Model 2 needs less than half the epochs on cos.",
        ),
    ]
    table = pd.DataFrame(
        {
            "model": [*MODELS[:2], f"Model 3{hostile}"],
            "parameters": [671, 675, 740],
            "layers": [4, 6, 4],
            "shape": ["1-15-19-16-1", "1-13-12-12-12-12-1", "1-19-17-19-1"],
            "epochs": [1204.0, 498.5, np.inf],
            "final loss": [1.2345e-4, 9.87654e-5, np.nan],
        }
    )
    return [
        StudyFindings(
            name="made-function",
            title=f"Deep against shallow on a function{hostile}",
            question=f"Does a deeper network of the same size learn a function faster?{hostile}",
            source=f"Figures 1 and 2, Table 1{hostile}",
            preset="quick",
            settings={"seeds": 16, "learning rate": 1e-3, "domain": f"-1 to 1{hostile}", "stop": True},
            tables=[Table("table-1", f"Table 1: the models{hostile}", table, f"Counts include biases.{hostile}")],
            figures=[*figures, *(in_planes() if planes else [])],
            verdicts=verdicts,
            runs=RunsSummary(
                done=95,
                failed=1,
                diverged=1,
                censored=4,
                seeds=16,
                wall_seconds=83.2,
                device="cpu",
                versions={"theodolite": "0.1.0", "torch": "2.13.0"},
                errors=[f"Model 1, seed 3: no space left{hostile}"],
            ),
            not_shown=f"One optimizer and one learning rate; that depth is the cause is not shown.{hostile}",
            command=f"theodolite run made-function --preset quick{hostile}",
        ),
        StudyFindings(
            name="made-empty",
            title="A study without finished runs",
            question="What does the page show before anything is known?",
            source="beyond",
            preset="smoke",
            settings={},
            tables=[],
            figures=[],
            verdicts=[],
            runs=RunsSummary(done=0, failed=0, diverged=0, censored=0, seeds=0, wall_seconds=0.0, unfinished=12),
            not_shown="Anything.",
            command="theodolite run made-empty",
        ),
    ]
