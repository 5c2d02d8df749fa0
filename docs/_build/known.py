"""Ten known results: what their files found, kept as one small table, and shown beside what was published.

    theodolite run examples/known_results/*.py --until-decided --out RESULTS_FOLDER
    python docs/_build/known.py RESULTS_FOLDER

keeps of a finished run, as ``docs/known-results.json``, each verdict and how it was made; of files that were not run,
what was kept before.
"""

import ast
import json
import sys
from pathlib import Path
from typing import Any

import surveys

from theodolite import survey
from theodolite.findings import Verdict
from theodolite.own import reading

ROOT = Path(__file__).parents[2]
FILES = ROOT / "examples/known_results"
KEPT = ROOT / "docs/known-results.json"


def keep(directory: Path, into: Path = KEPT) -> None:
    """Copy the verdicts of each study of one's own in a results folder, and how it was made, by its file."""
    found = kept(into) if into.exists() else {}
    judged = survey.verdicts(directory)
    for study in reading.in_folder(directory):
        home = directory / study.name
        made = surveys._how_made(home)
        verdicts = [one.model_dump(mode="json") for one in judged if one.study == study.name]
        found[next(iter(study.texts))] = made | {"claims": verdicts}
    into.write_text(json.dumps(found, indent=1, ensure_ascii=False, sort_keys=True) + "\n")


def kept(folder: Path = KEPT) -> dict[str, Any]:
    """What is kept, by the file of the study."""
    return dict(json.loads(folder.read_text()))


def shown(name: str) -> str:
    """What was published, what was found, and the file, of one of the files."""
    text = (FILES / name).read_text()
    about = ast.get_docstring(ast.parse(text)) or ""
    result = kept()[name]
    verdicts = [Verdict.model_validate(one) for one in result["claims"]]
    made = surveys._made_in_words(result, verdicts)
    return (
        f"{about}\n\n{surveys._verdict_table(verdicts)}\n\n{made}\n\n"
        f"<details markdown><summary><code>examples/known_results/{name}</code></summary>\n\n"
        f"```python\n{text}```\n\n</details>\n"
    )


def overview() -> str:
    """A row a claim: what became of it."""
    rows = [
        f"| [{name}](#{Path(name).stem.replace('_', '-')}) | {one['sentence']} | {one['verdict']} "
        f"| {one['verdict_holm']} |"
        for name, result in kept().items()
        for one in result["claims"]
    ]
    return "| file | claim | verdict | with Holm |\n| --- | --- | --- | --- |\n" + "\n".join(rows)


if __name__ == "__main__":
    keep(Path(sys.argv[1]))
