"""All rows, and the table of docs/correctness.md: ``PYTHONPATH=src:tests python -m peer_suites.table`` prints it."""

from itertools import groupby

from peer_suites import backpack, curvlinops, eigenthings, pyhessian
from peer_suites.row import Refusal, Row

ROWS = [*curvlinops.ROWS, *backpack.ROWS, *pyhessian.ROWS, *eigenthings.ROWS]


def table() -> str:
    """A line a case, its variants together where the answer is the same."""
    refused = sum(row.refused is not None for row in ROWS)
    lines = [
        f"Of {len(ROWS)} rows {len(ROWS) - refused} are right and {refused} refused.",
        "",
        "| suite | case | answer |",
        "| --- | --- | --- |",
    ]
    for (suite, case, said), rows in groupby(ROWS, key=lambda row: (row.suite, row.case, answer(row))):
        variants = "; ".join(row.variant for row in rows if row.variant)
        lines.append(f"| {suite} | {case}{': ' if variants else ''}{variants} | {said} |")
    return "\n".join(lines)


def answer(row: Row) -> str:
    said = _refused(row.refused) if row.refused else "right"
    said += f", {row.note}" if row.note else ""
    return said + (f"; Gauss-Newton {_refused(row.ggn_refused)}" if row.ggn_refused else "")


def _refused(refusal: Refusal) -> str:
    return f"refused, `{refusal.error.__name__}`: “{refusal.words}”"


if __name__ == "__main__":
    print(table())
