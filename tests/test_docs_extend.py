"""What each page of docs/extend builds is built in a copy of this repository, and run there.

`path`: before a block    the block is written to that file; a block `diff` is applied to it
console                   typed into an empty folder, and prints what it shows (tests/test_docs_run.py)
sh                        each `make test ARGS=...` runs these tests in the copy
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.test_docs_run import fits, steps

ROOT = Path(__file__).parents[1]
PAGES = sorted((ROOT / "docs/extend").glob("*.md"))
COPIED = (
    "pipelines",
    "transforms",
    "templates",
    "tests/servers/needed.py",
    "tests/pipelines/sources/queue_contract.py",
    "tests/pipelines/warehouse/contract.py",
    "pyproject.toml",
)
BLOCK = re.compile(r"^(?:`([\w./-]+)`:\n\n)?```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
TESTS = re.compile(r"^make test ARGS=(\S+)$", re.MULTILINE)


class Block(NamedTuple):
    """A block of a page: the file that it is or changes, if one is named, and what it holds."""

    file: str
    language: str
    text: str


def blocks(page: str) -> list[Block]:
    return [Block(*found) for found in BLOCK.findall(page)]


def changed(text: str, diff: str) -> str:
    """A file with a block `diff` applied; its lines that stay or go are in the file once, one after the other."""
    before, after = (
        "".join(f"{line[1:]}\n" for line in diff.splitlines() if line[:1] != unwanted) for unwanted in ("+", "-")
    )
    assert text.count(before) == 1, f"{text.count(before)} times in the file:\n{before}"
    return text.replace(before, after)


def run_in(copy: Path, folder: Path, *command: str) -> str:
    """Run a command in a folder on the product of the copy, and return what it printed."""
    tools = str(Path(sys.executable).parent)
    environment = os.environ | {"PATH": f"{tools}:{os.environ['PATH']}", "PYTHONPATH": str(copy), "COLUMNS": "120"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, f"{command[-1]}\n{done.stdout}{done.stderr}"
    return "".join(f"{line.rstrip()}\n" for line in done.stdout.splitlines())


def build(block: Block, copy: Path) -> None:
    path = copy / block.file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(changed(path.read_text(), block.text) if block.language == "diff" else block.text)


def check_style(copy: Path, files: set[str]) -> None:
    """What `make check` asks of a file."""
    written = sorted(file for file in files if file.endswith(".py"))
    for words in (["check"], ["format", "--check"]) if written else ():
        run_in(copy, copy, sys.executable, "-m", "ruff", *words, "--no-cache", *written)


def type_in(block: Block, copy: Path, folder: Path) -> Iterator[tuple[str, str, str]]:
    """(command, what the page shows, what it prints) of each command of a session."""
    for command, shown in steps(block.text):
        yield command, shown, run_in(copy, folder, "bash", "-c", command)


@pytest.fixture
def copy(tmp_path) -> Path:
    """A copy of what the pages build on, with its compiled files, which are valid for equal times."""
    for name in COPIED:
        source, target = ROOT / name, tmp_path / "copy" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(source, target) if source.is_dir() else shutil.copy2(source, target)
    return tmp_path / "copy"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_what_a_page_builds_works(page, copy, tmp_path):
    (folder := tmp_path / "folder").mkdir()
    text, ran = page.read_text(), 0
    for block in blocks(text):
        if block.file:
            build(block, copy)
        elif block.language == "console":
            for command, shown, printed in type_in(block, copy, folder):
                ran += 1
                if os.environ.get("RENEW_WALKS") and not fits(shown, printed):
                    text = text.replace(
                        command.replace("\n", "\n> ", command.count("\n") - 1) + shown, command + printed
                    )
                    continue
                assert fits(shown, printed), f"$ {command}{printed}"
        elif block.language == "sh":
            for files in TESTS.findall(block.text):
                ran += 1
                own = f"--basetemp={tmp_path / 'tests'}"
                printed = run_in(copy, copy, sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", own, files)
                assert re.search(r"\d+ passed", printed) and "skipped" not in printed, printed
    check_style(copy, {block.file for block in blocks(text)})
    page.write_text(text) if os.environ.get("RENEW_WALKS") else None
    assert ran, "a page shows that its thing works"


def test_each_thing_has_a_page():
    assert [page.stem for page in PAGES] == ["command", "mapping", "metric", "source", "warehouse"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_block_of_a_file_has_its_name(page):
    nameless = [block.text for block in blocks(page.read_text()) if not block.file]
    assert [text for text in nameless if text.startswith(('"""', "from ", "import ", "+", "-"))] == []


def test_a_page_that_does_not_fit_the_product_is_seen():
    assert blocks("`a/b.py`:\n\n```python\nx\n```\n\n```sh\ny\n```\n") == [
        ("a/b.py", "python", "x\n"),
        ("", "sh", "y\n"),
    ]
    assert changed("a\nb\nc\n", " a\n-b\n+d\n+e\n") == "a\nd\ne\nc\n"
    with pytest.raises(AssertionError, match="0 times"):
        changed("a\nc\n", " a\n-b\n+d\n")
    with pytest.raises(AssertionError, match="2 times"):
        changed("a\na\n", " a\n+d\n")
