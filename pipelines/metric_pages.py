"""docs/metrics: a page for each metric, from its definition in templates/metrics.yaml and an answer over example data:

python -m pipelines.metric_pages
"""

import tempfile
import textwrap
from collections.abc import Iterator
from datetime import date
from pathlib import Path

from pipelines.report_definitions import TEMPLATES, Definition, definitions
from pipelines.warehouse.query import render, run_query
from pipelines.warehouse.warehouse import Warehouse

FOLDER = TEMPLATES.parent / "docs" / "metrics"
EXAMPLE_EVENTS, EXAMPLE_SEED, EXAMPLE_DAYS, EXAMPLE_START = 20_000, 7, 35, date(2026, 3, 1)
WIDTH = 118  # of a page and of an answer on it
MADE = "<!-- Made by python -m pipelines.metric_pages: change templates/metrics.yaml, not this page. -->"


def example(folder: Path) -> Warehouse:
    """The warehouse that the pages' questions are asked of, made in a folder."""
    from pipelines.backfill import backfill  # which imports Beam
    from pipelines.options import resolve
    from pipelines.simulator import simulate
    from pipelines.warehouse.local import LocalWarehouse

    events = folder / "events.jsonl"
    simulate(EXAMPLE_EVENTS, EXAMPLE_SEED, events, days=EXAMPLE_DAYS, start=EXAMPLE_START)
    backfill(resolve({"input": [str(events)], "warehouse": str(folder / "warehouse"), "workers": "1"}))
    return LocalWarehouse.open(folder / "warehouse")


def pages(warehouse: Warehouse) -> Iterator[tuple[str, str]]:
    """(file name, text) of every page, the index first."""
    yield "README.md", index()
    for name, definition in definitions().items():
        yield f"{name}.md", page(definition, list(render(run_query(warehouse, definition.query), "table", WIDTH)))


def index() -> str:
    """The page of all metrics."""
    rows = "".join(
        f"| [{each.title}]({name}.md) | {each.sentence} | {', '.join(f'`{view}`' for view in each.views)} |\n"
        for name, each in definitions().items()
    )
    text = (
        f"What each number says, by which formula, over which window, and what late data does to it. The answers on "
        f"the pages are of {EXAMPLE_EVENTS:,} simulated events:"
    )
    data = (
        f"audience simulate --events {EXAMPLE_EVENTS} --seed {EXAMPLE_SEED} --days {EXAMPLE_DAYS} "
        f"--start {EXAMPLE_START} --output events.jsonl\naudience backfill --input events.jsonl"
    )
    rates = (
        "A rate without a denominator is NULL, not 0. Its numerator and denominator are columns beside it: add those "
        "up over whatever rows you ask for, and divide. `audience report` draws these metrics on one page."
    )
    table = f"| metric | what it says | views |\n|---|---|---|\n{rows}"
    return f"# Metrics\n\n{MADE}\n\n{_filled(text)}\n\n```sh\n{data}\n```\n\n{_filled(rates)}\n\n{table}"


def page(metric: Definition, answer: list[str]) -> str:
    """The page of one metric, with the lines of the answer to its question."""
    where = ", ".join(f"`{view}`" for view in metric.views)
    formula = "\n".join(_filled(line, "- ", "  ") for line in metric.formula)
    asked = textwrap.wrap(metric.query, WIDTH - 20, break_long_words=False, break_on_hyphens=False)
    typed = "\n> ".join(asked)
    lines = "\n".join(line.rstrip() for line in answer)
    return (
        f"# {metric.title}\n\n{MADE}\n\n{_filled(metric.sentence)}\n\n"
        f"{_filled(f'**Where:** {where}')}\n\n{formula}\n\n{_filled(f'**Window:** {metric.window}')}\n\n"
        f"{_filled(f'**Late data:** {metric.late}')}\n\n"
        f'```console\n$ audience query "{typed}"\n{lines}\n```\n\n[All metrics](README.md)\n'
    )


def _filled(text: str, first: str = "", rest: str = "") -> str:
    return textwrap.fill(
        text, WIDTH, initial_indent=first, subsequent_indent=rest, break_long_words=False, break_on_hyphens=False
    )


def main() -> None:
    """Write them."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        for name, text in pages(example(Path(folder))):
            (FOLDER / name).write_text(text, encoding="utf-8")
            print(FOLDER / name)


if __name__ == "__main__":
    main()
