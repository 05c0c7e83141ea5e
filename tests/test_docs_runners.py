"""The table of docs/runners.md: each test that it names exists, and each runner and queue has a row for it."""

import ast
import re
from pathlib import Path
from typing import NamedTuple

import pytest

from pipelines.runners.choose import RUNNERS
from pipelines.runners.flink import NAME
from pipelines.sources.queues import QUEUES

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "runners.md"
NODE = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")
IN_PROCESS = "in process"


class Row(NamedTuple):
    runner: str
    source: str
    mode: str
    runs: str
    shown: str


ROWS = [
    Row(*(cell.strip() for cell in line.strip("|").split("|")))
    for line in PAGE.read_text().splitlines()
    if line.startswith("| ") and not line.startswith("| runner")
]


def functions_in(path: Path) -> set[str]:
    return {node.name for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.runner}-{row.source}-{row.mode}".replace(" ", "_"))
def test_a_row_names_a_test_that_exists_or_the_reason(row):
    named = NODE.findall(row.shown)
    assert row.runs in ("yes", "in parts", "no")
    if row.runs == "yes":
        assert named
    if row.runs == "no":
        assert not named and row.shown
    for path, name in named:
        assert name in functions_in(ROOT / path), f"{path}: no test {name}"


def test_every_runner_has_a_row_for_every_queue_and_for_files():
    sources = ("files", *(queue.title for queue in QUEUES))
    expected = {(runner, source) for runner in (*RUNNERS, NAME, IN_PROCESS) for source in sources}
    assert expected <= {(row.runner, row.source) for row in ROWS}


def test_the_table_of_the_readme_says_the_same():
    lines = [line for line in (ROOT / "README.md").read_text().splitlines() if line.startswith("| ")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    (head,) = (row for row in cells if row[0] == "runner")
    shown = {
        row[0]: dict(zip(head[1:], row[1:], strict=True)) for row in cells if row[0] in {*RUNNERS, NAME, IN_PROCESS}
    }
    assert shown == {
        runner: {source: _cell(runner, source) for source in head[1:]}
        for runner in dict.fromkeys(row.runner for row in ROWS)
        if "," not in runner
    }
    assert set(head[1:]) == {"files", *(queue.title for queue in QUEUES)}


def _cell(runner: str, source: str) -> str:
    runs = [row for row in ROWS if (row.runner, row.source) == (runner, source) and row.runs != "no"]
    return ", ".join(f"{row.mode} {row.runs}".removesuffix(" yes") for row in runs)


def test_what_the_page_says_beside_the_table_exists_too():
    named = NODE.findall(PAGE.read_text())
    assert len(named) > 8
    assert all(name in functions_in(ROOT / path) for path, name in named)
