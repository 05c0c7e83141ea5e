"""The options as arguments of argparse: which of them each command takes, under which heading, with which help."""

from typing import Any

from pipelines.settings.options import Option
from pipelines.settings.values import NAMED

TO_DATASET = ("write_method", "landing")  # only for a stream into a dataset
# The options that each command does not have.
_FILES = {"input", "format", "replace", "add"}
_QUEUE = {
    "input_subscription",
    "input_topic",
    "input_log",
    "timestamp_attribute",
    "id_label",
    "expected_delay",
    "early_firing",
    "batch_delay",
    "readers",
    *TO_DATASET,
}
WITHOUT = {
    "backfill": frozenset(_QUEUE),
    "recompute": frozenset(_FILES | _QUEUE | {"max_days", "max_lateness", "accept_late", "allow_quarantine", "group"}),
    "replay": frozenset(_FILES | _QUEUE | {"start", "end", "allow_quarantine", "group"}),
    "run": frozenset(
        _FILES | {"start", "end", "max_days", "accept_late", "allow_quarantine", "workers", "no_active_stream"}
    ),
}


def add_all(parser, names: tuple[str, ...] = tuple(NAMED)) -> None:
    """Add options to an argparse parser, under the headings of their groups."""
    groups: dict[str, Any] = {}
    for option in map(NAMED.__getitem__, names):
        group = groups.get(option.group) or groups.setdefault(option.group, parser.add_argument_group(option.group))
        add_to(group, option)


def options_of(command: str) -> tuple[str, ...]:
    """Return the names of the options of a command that runs the graph."""
    return tuple(name for name in NAMED if name not in WITHOUT[command])


def add_to(parser, option: Option) -> None:
    """Add an option to an argparse parser, as text: `resolve` checks the value.

    The parser has no default, so that a typed value can be distinguished from the default.
    """
    shown = option.help + (f" (default: {option.default})" if option.default is not None else "")
    how: dict[str, Any] = {"help": shown, "default": None}
    if option.flag:
        # --flag alone, or --flag=true|false as a template passes it.
        how |= {"nargs": "?", "const": "true", "metavar": "true|false"}
    elif option.repeat:
        how |= {"action": "append", "metavar": _metavar(option)}
    else:
        how |= {"metavar": _metavar(option)}
    parser.add_argument(f"--{option.name}", **how)


def _metavar(option: Option) -> str:
    return "|".join(option.choices) or option.example or option.name.upper()
