"""What README and the walk show is typed into an empty folder, and prints what stands there.

A block `console` is a session: `$ ` begins a command (`> ` goes on with it), the rest is what it prints on stdout;
`...` stands for any lines. `RENEW_WALKS=1` writes down what was printed.

A block `sh` is what needs a server: its commands are not run, but each has to be one of ours, with options it has.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.cli import parse_command
from pipelines.runners.in_process import beam_options

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"(?<=```console\n).*?(?=```)", re.DOTALL)
NOT_RUN = re.compile(r"(?<=```sh\n).*?(?=```)", re.DOTALL)
WALKS = ("README.md", "docs/your-own-events.md", "docs/access-logs.md", "docs/capacity.md")


def steps(block: str) -> list[tuple[str, str]]:
    """[(command, what it prints)]"""
    parts = re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]
    found = [re.match(r"(.*\n(?:> .*\n)*)((?:.*\n)*)", part) for part in parts]
    return [(each[1].replace("\n> ", "\n"), each[2]) for each in found]


def typed(command: str, folder: Path) -> str:
    tools = str(Path(sys.executable).parent)
    environment = os.environ | {"PATH": f"{tools}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(["bash", "-c", command], cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, f"{command}{done.stderr}"
    return "".join(f"{line.rstrip()}\n" for line in done.stdout.splitlines())


def fits(shown: str, printed: str) -> bool:
    """Whether what is shown, with `...` for any lines, is what was printed."""
    pattern = "".join(r"(?:.*\n)*" if line == "..." else re.escape(line) + r"\n" for line in shown.splitlines())
    return re.fullmatch(pattern, printed) is not None


@pytest.mark.parametrize("page", WALKS)
def test_what_is_shown_is_what_is_printed(page, tmp_path):
    path = ROOT / page
    text = path.read_text()
    if page == "README.md":
        (tmp_path / ".venv").symlink_to(Path(sys.executable).parents[1])  # where README finds the command
    if page == "docs/access-logs.md":
        (tmp_path / "templates").symlink_to(ROOT / "templates")
    ran = 0
    for block in BLOCK.findall(text):
        block = block.replace("$ make demo\n", "$ audience demo\n").replace("$ make test\n", "")
        for command, shown in steps(block):
            printed = typed(command, tmp_path)
            if os.environ.get("RENEW_WALKS") and not fits(shown, printed):
                text = text.replace(command.replace("\n", "\n> ", command.count("\n") - 1) + shown, command + printed)
            else:
                assert fits(shown, printed), f"$ {command}{printed}"
            ran += 1
    path.write_text(text) if os.environ.get("RENEW_WALKS") else None
    assert ran >= 3


PAGES = [path.relative_to(ROOT).as_posix() for path in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))]


def test_what_is_shown_and_not_run_are_commands_with_options_that_they_have():
    targets = set(re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE))
    seen = set()
    for page in PAGES:
        for line in "".join(NOT_RUN.findall((ROOT / page).read_text())).splitlines():
            program, *words = shlex.split(line, comments=True)
            if program == "make":
                assert {word for word in words if "=" not in word} <= targets, f"{page}: {line}"
            elif program not in ("terraform", "chgrp", "chmod"):
                assert program == "audience", f"{page}: {line}"
                command, _, rest = parse_command(words)
                left = beam_options(rest) if command.takes_beam_options else rest  # refuses what Beam lacks
                assert left == rest and (command.takes_beam_options or not rest), f"{page}: {line}"
            seen.add((program, words[0]))
    assert seen >= {("make", "stream-demo"), ("audience", "run"), ("audience", "stop"), ("audience", "simulate")}


@pytest.mark.parametrize("page", PAGES)
def test_what_a_page_leads_to_is_there(page):
    text = (ROOT / page).read_text()
    led = re.findall(r"\]\((?!https?:)([^)#]+)", text)
    assert [path for path in led if not ((ROOT / page).parent / path).exists()] == []


def test_a_walk_that_shows_something_else_is_seen():
    assert steps("$ a \\\n> b\nx\n$ c\n") == [("a \\\nb\n", "x\n"), ("c\n", "")]
    assert fits("a\n...\nb\n", "a\n1\n2\nb\n") and fits("...\n", "") and not fits("a\n", "a\nb\n")
    assert shutil.which("bash")
