"""What the page for the on-call engineer says to type: its questions have answers, and its commands are in threes."""

import re
import shlex
from pathlib import Path

import pytest

from pipelines.cli import main

PAGE = Path(__file__).parents[1] / "docs/operations.md"
SECTIONS = dict(re.findall(r"^## (.+)\n((?:(?!## ).*\n?)*)", PAGE.read_text(), re.MULTILINE))
COMMANDS = {
    title: [
        shlex.split(line) for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL) for line in block.splitlines()
    ]
    for title, text in SECTIONS.items()
}
QUESTIONS = [words for commands in COMMANDS.values() for words in commands if words[1] == "query"]
ALERTS = ("Backlog age", "Watermark lag", "Quarantine share", "Zero input", "Worker errors")


@pytest.fixture(scope="module")
def warehouse(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("operations")
    events = str(folder / "events.jsonl")
    assert main(["simulate", "--events", "300", "--faults", "many", "--output", events]) == 0
    assert main(["backfill", "--input", events, "--warehouse", str(folder / "warehouse"), "--workers", "1"]) == 0
    return str(folder / "warehouse")


@pytest.mark.parametrize("words", QUESTIONS, ids=lambda words: words[2][:60])
def test_a_question_of_the_page_has_an_answer(words, warehouse, capsys):
    assert main([*words[1:], "--warehouse", warehouse]) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("alert", ALERTS)
def test_an_alert_has_three_commands(alert):
    (title,) = [title for title in SECTIONS if title.startswith(alert)]
    assert len(COMMANDS[title]) == 3


def test_the_page_says_what_was_not_proved():
    assert "Not proved: " in SECTIONS["What was proved here, and what was not"]
