"""Pages made from the package itself: instruments, studies, the command line, notebooks; and the folders of the nav.

A line ``{{ NAME argument }}`` in a page is replaced by what the function of that name below gives, and
``{{ estimate SURVEY/STUDY/CLAIM }}`` or ``{{ cell SURVEY/STUDY/TABLE | ROW | COLUMN }}`` within a line by what a stored
survey found (``surveys.py``).
"""

import base64
import inspect
import re
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import nbformat
import typer
from jupyter_client.manager import AsyncKernelManager
from mkdocs.structure.files import File
from nbclient import NotebookClient

from theodolite import cli, studies
from theodolite.measure.catalogue import COSTS, INSTRUMENTS, in_shell
from theodolite.measure.results import kinds

sys.path.insert(0, str(Path(__file__).parent))  # hooks are loaded as files, without their folder
import architecture as pictures
import known as known_files
import surveys

CALL = re.compile(r"^\{\{ (\w+) ?(\S*) \}\}$", re.MULTILINE)
INLINE = re.compile(r"\{\{ (estimate|cell) ([^{}]+) \}\}")
PATHS = ("weights",)  # options that take several
SECONDS = 120  # for a notebook's cell
MADE = {  # what instruments ask for, made with example/net.py
    "model": 'model = read("a.safetensors")',
    "model_a": 'model_a, model_b = read("a.safetensors"), read("b.safetensors")',
    "optimizer": "optimizer = torch.optim.SGD(model.parameters(), lr=0.1)",
    "weights": 'weights = path("a")',
}
ALSO = {"align": ("data",)}  # options that an example had better give


def on_config(config: Any) -> Any:
    """Fill the folders named in the nav."""
    named = set(_named(config.nav))
    config.nav = _filled(config.nav, Path(config.docs_dir), named)
    return config


def on_files(files: Any, config: Any) -> Any:
    """Add each notebook, run, as a page."""
    for path in sorted(Path(config.docs_dir, "notebooks").glob("*.ipynb")):
        files.append(File.generated(config, f"notebooks/{path.stem}.md", content=page(executed(path), path.name)))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Replace the calls in a page."""
    markdown = INLINE.sub(lambda found: getattr(surveys, found[1])(found[2]), markdown)
    return CALL.sub(lambda found: globals()[found[1]](*filter(None, [found[2]])), markdown)


def instrument(name: str) -> str:
    """What an instrument answers and costs, and how it is called on the network of ``example/net.py``."""
    return f"{facts(name)}\n{example(name)}"


def facts(name: str) -> str:
    """What an instrument answers, costs, and how it is called."""
    one = INSTRUMENTS[name]
    cost = f"{one.cost}: {COSTS[one.cost]}" + (f"; here {one.k}" if one.k else "")
    return (
        f"*{one.asks}*\n\n| cost | {cost} |\n| --- | --- |\n| shell | `{_shell(name)}` |\n"
        f"| Python | `th.measure.{name}({_arguments(name)})` |\n"
    )


def example(name: str) -> str:
    """The call in Python, whole, and the file whose network it measures."""
    needed, also = _arguments(name).split(", "), ALSO.get(name, ())
    made = [line for argument, line in MADE.items() if argument in needed]
    words = set(re.findall(r"\w+", " ".join([*made, *needed, *also])))
    taken = [word for word in ("data", "loss", "path", "read") if word in words]
    call = ", ".join([*needed, *(f"{option}={option}" for option in also)])
    lines = [*(["import torch\n"] if "torch" in "".join(made) else []), "import theodolite as th"]
    lines += [f"from net import {', '.join(taken)}\n", *made, f"print(th.measure.{name}({call}))"]
    return (
        f"{file('net.py')}\n\n```sh\npython net.py   # writes the weights: seconds\n```\n\n"
        "```python\n" + "\n".join(lines) + "\n```\n"
    )


def file(name: str) -> str:
    """A file of ``example/``, folded up."""
    text = Path(__file__).parent.joinpath("example", name).read_text(encoding="utf-8")
    return f'<details markdown><summary>{name}</summary>\n\n```python title="{name}"\n{text}```\n\n</details>'


def reference(name: str) -> str:
    """The docstrings of an instrument and its result."""
    documented = [INSTRUMENTS[name].function, *(kinds.named(kind) for kind in INSTRUMENTS[name].charts)]
    return "\n\n".join(f"::: {one.__module__}.{one.__qualname__}" for one in documented)


def instruments() -> str:
    """All instruments, by their question."""
    rows = [
        f"| {one.asks} | [`{one.name}`](instruments/{one.name.replace('_', '-')}.md) | {one.cost} |"
        for one in in_shell()
    ]
    return "| question | instrument | cost |\n| --- | --- | --- |\n" + "\n".join(rows)


def costs() -> str:
    """The classes of cost."""
    return "| class | what it is |\n| --- | --- |\n" + "\n".join(
        f"| {name} | {means} |" for name, means in COSTS.items()
    )


def study_table() -> str:
    """The studies, with the page of each that has one."""
    rows = []
    for study in studies.INDEX.values():
        facts = studies.facts(study)
        there = Path(__file__).parents[1].joinpath("studies", f"{study.name}.md").exists()
        name = f"[`{study.name}`](studies/{study.name}.md)" if there else f"`{study.name}`"
        rows.append(f"| {name} | {facts['report']} | {study.question} |")
    return "| study | report | question |\n| --- | --- | --- |\n" + "\n".join(rows)


def claims() -> str:
    """Every claim with its statistic and threshold, as the studies' sources have them."""
    rows = [
        f"| {name} | `{c['claim']}` | {c['statistic']} | {c['side']} {c['threshold']} |"
        for name, study in studies.INDEX.items()
        for c in studies.details(study)["claims"]
    ]
    return "| study | claim | statistic | holds where |\n| --- | --- | --- | --- |\n" + "\n".join(rows)


def found(study: str) -> str:
    """What the stored surveys found in a study."""
    return surveys.found(study)


def known(name: str) -> str:
    """What one file of the known results found."""
    return known_files.shown(name)


def known_results() -> str:
    """What became of each of their claims."""
    return known_files.overview()


def picture(study: str) -> str:
    """The first figure of a study, as a stored survey drew it."""
    return surveys.picture(study)


def command_line() -> str:
    """Every command with its arguments and options, as the program has them."""
    program = typer.main.get_command(cli.app)
    parts = [f"## theodolite\n\n{program.help}\n\n{_parameters(program)}"]
    for name, command in sorted(program.commands.items()):
        parts.append(f"## theodolite {name}\n\n{_prose(command.help)}\n\n{_parameters(command)}")
    return "\n\n".join(parts)


def architecture(package: str) -> str:
    """A picture of the rooms of the package, or of ``measure``, and of their imports."""
    return f"<figure markdown=0>{pictures.svg(pictures.PICTURES[package]())}</figure>"


def executed(path: Path) -> nbformat.NotebookNode:
    """A notebook, run in its own process; an error in a cell is an error here."""
    notebook = nbformat.read(path, as_version=4)
    with TemporaryDirectory() as folder:  # for the sockets: no port that others could reach
        kernel = AsyncKernelManager(kernel_name="python3", transport="ipc", ip=f"{folder}/kernel")
        NotebookClient(notebook, kernel, timeout=SECONDS).execute()
    return notebook


def page(notebook: nbformat.NotebookNode, name: str) -> str:
    """A notebook as Markdown, with what its cells gave."""
    parts = [f"<!-- made from {name} -->"]
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            parts.append(cell.source)
        elif cell.source.strip():
            parts += [f"```python\n{cell.source}\n```", *(_output(output) for output in cell.outputs)]
    return "\n\n".join(parts)


def _output(output: Any) -> str:
    data = output.get("data", {})
    if "image/svg+xml" in data:
        picture = base64.b64encode("".join(data["image/svg+xml"]).encode()).decode()
        return f'<div class="output"><img alt="chart" src="data:image/svg+xml;base64,{picture}"></div>'
    if "text/html" in data:
        table = re.sub(r"<style.*?</style>|\n", "", data["text/html"], flags=re.DOTALL)
        return f'<div class="output">{table}</div>'
    text = output.get("text") or data.get("text/plain", "")
    return f"```text\n{text.rstrip()}\n```"


def _parameters(command: Any) -> str:
    rows = []
    for parameter in command.params:
        argument = parameter.param_type_name == "argument"
        names = ", ".join(f"`{name}`" for name in (*parameter.opts, *parameter.secondary_opts))
        value = "" if argument or parameter.is_flag else f"`{_value(parameter)}`" + (" …" * parameter.multiple)
        shown = parameter.default is not None and parameter.default is not False and not callable(parameter.default)
        default = "required" if parameter.required else f"`{parameter.default}`" if shown else ""
        names = f"`{parameter.name.upper()}`" if argument else names
        rows.append(f"| {names} | {value} | {_cell(parameter.help)} | {default} |")
    return "| name | value | what it does | default |\n| --- | --- | --- | --- |\n" + "\n".join(rows)


def _value(parameter: Any) -> str:
    kinds = {int: "number", float: "number", Path: "path"}
    name = kinds.get(parameter.type_descriptor.annotation, "path" if parameter.name in PATHS else "text")
    return (parameter.metavar or name).replace("|", "\\|")


def _cell(text: str | None) -> str:
    return " ".join((text or "").split()).replace("|", "\\|")


def _prose(text: str | None) -> str:
    return inspect.cleandoc(text or "")


def _shell(name: str) -> str:
    measured = {
        "one": "--model net.py:make --weights a.safetensors --data digits",
        "two": "--model net.py:make --weights a.safetensors --weights b.safetensors --data digits",
        "path": "--weights path-a",
        "starts": "--model cosine.py:make --data cosine.py:data --set starts=20",
        "one or path": "--model net.py:make --weights a.safetensors --data digits",
    }
    return f"theodolite measure {name} {measured[str(INSTRUMENTS[name].checkpoints)]}"


def _arguments(name: str) -> str:
    own = inspect.signature(INSTRUMENTS[name].function).parameters.values()
    return ", ".join(p.name for p in own if p.default is p.empty)


def _named(nav: Any) -> list[str]:
    if isinstance(nav, str):
        return [nav]
    return [n for part in (nav.values() if isinstance(nav, dict) else nav) for n in _named(part)]


def _filled(nav: Any, docs: Path, named: set[str]) -> Any:
    if isinstance(nav, dict):
        return {title: _filled(part, docs, named) for title, part in nav.items()}
    if isinstance(nav, str):
        return _pages(docs, nav, named) if nav.endswith("/") else nav
    filled: list[Any] = []
    for part in nav:
        filled += (
            _pages(docs, part, named) if isinstance(part, str) and part.endswith("/") else [_filled(part, docs, named)]
        )
    return filled


def _pages(docs: Path, folder: str, named: set[str]) -> list[str]:
    found = {
        f"{folder}{path.stem}.md".removeprefix("./")
        for path in docs.joinpath(folder).iterdir()
        if path.suffix in (".md", ".ipynb")
    }
    return sorted(found - named)
