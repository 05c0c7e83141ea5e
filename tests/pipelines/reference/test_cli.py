"""docs/cli.md: what the commands say of themselves, whatever the terminal."""

import argparse
import re

import pytest

from pipelines.cli import COMMANDS, main
from pipelines.commands import Command
from pipelines.reference.cli import cli_page, groups, option_row, section, usage


def parser_with(*flags: str, **how) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="audience sort")
    parser.add_argument(*flags, **how)
    return parser


def row_of(*flags: str, **how) -> tuple[str, ...]:
    return option_row(parser_with(*flags, **how)._actions[-1])


@pytest.mark.parametrize("name", COMMANDS)
def test_the_section_of_a_command_has_every_option_of_its_help(name, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "500")  # an option and its help on one line
    with pytest.raises(SystemExit):
        main([name, "--help"])
    shown = set(re.findall(r"^  (--\w+)", capsys.readouterr().out, re.MULTILINE)) - {"--debug"}
    assert shown
    assert set(re.findall(r"^\| `(--\w+)`", "\n".join(section(name, COMMANDS[name])), re.MULTILINE)) == shown


def test_the_page_does_not_depend_on_the_width_of_the_terminal(monkeypatch):
    page = cli_page()
    monkeypatch.setenv("COLUMNS", "40")
    assert cli_page() == page


def test_an_option_has_its_value_its_default_and_its_help():
    help = "Records to read (default: 10000, of --check 100000)"
    expected = ("`--limit`", "`N`", "10000, of --check 100000", "Records to read")
    assert row_of("--limit", metavar="N", help=help) == expected
    assert row_of("--form", choices=("csv", "json"), required=True, help="Form") == (
        "`--form`",
        "`csv|json`",
        "required",
        "Form",
    )
    assert row_of("--json", action="store_true", help="JSON") == ("`--json`", "", "", "JSON")
    assert row_of("sql", metavar="SQL", help="The query")[:3] == ("`SQL`", "", "required")
    assert row_of("--files", nargs="+", metavar="FILE", help="Files")[1] == "`FILE ...`"
    assert row_of("--schema", nargs="?", choices=("a", "b"), help="Schema")[1] == "`[a|b]`"


def test_a_help_with_two_defaults_keeps_them_in_its_text():
    help = "All metrics (default: their own), and sessions (default: never)"
    assert row_of("--early", help=help)[2:] == ("", help)


def test_an_option_that_a_file_may_hold_is_marked():
    assert row_of("--time_zone", help="Zone")[0] == "`--time_zone` *"


def test_usage_states_what_is_required_and_what_excludes_what():
    parser = parser_with("sql", metavar="SQL")
    either = parser.add_mutually_exclusive_group(required=True)
    either.add_argument("--find", metavar="ID")
    either.add_argument("--delete", metavar="ID")
    parser.add_argument("--count", metavar="N", required=True)
    command = Command(lambda parser: None, lambda values, rest: None, "Sort.", "audience sort", True)
    assert usage(parser, command) == "audience sort SQL --count N (--find ID | --delete ID) [OPTIONS] [BEAM OPTIONS]"


def test_groups_of_one_title_become_one_and_an_empty_group_keeps_its_text():
    parser = argparse.ArgumentParser()
    parser.add_argument_group("machine").add_argument("--shards")
    parser.add_argument_group("prices", "cpu 1")
    parser.add_argument_group("machine").add_argument("--workers")
    found = {title: (note, [action.dest for action in actions]) for title, (note, actions) in groups(parser).items()}
    assert found == {"machine": ("", ["shards", "workers"]), "prices": ("cpu 1", [])}
