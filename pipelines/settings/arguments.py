"""The options as arguments of argparse: which of them each command takes, under which heading, with which help."""

from typing import Any

from pipelines.settings.forms import Option
from pipelines.settings.refresh_options import AS_OF
from pipelines.settings.values import NAMED

TO_DATASET = ("write_method", "landing", "held")  # only for a stream into a dataset
TO_FOLDER = ("refresh_every",)  # only for a stream into a local warehouse
# The options of some queues alone, by the options that name these.
OF_QUEUES = {
    "kafka_servers": ("--input_kafka",),
    "kafka_group": ("--input_kafka",),
    "kafka_properties": ("--input_kafka",),
    "kafka_registry": ("--input_kafka",),
    "kafka_reader": ("--input_kafka",),
    "kafka_expansion_service": ("--input_kafka",),
}
# The same of those whose messages have attributes; a job on Dataflow takes them too.
OF_MESSAGES = {"source_attribute": ("--input_subscription", "--input_topic", "--input_kafka")}
OF_OUTPUT = ("kafka_servers", "kafka_properties")  # also with --output_kafka
OF_KAFKA = frozenset(
    {
        "kafka_servers",
        "kafka_properties",
        "kafka_registry",
        "start_at",
        "stop_at",
        "timestamp_attribute",
        "source_attribute",
    }
)  # of a backfill
# The options that each command does not have.
_FILES = {"input", "format", "replace", "add"}
_QUEUE = {
    "input_subscription",
    "input_topic",
    "input_log",
    "input_kinesis",
    "input_kafka",
    *OF_QUEUES,
    *OF_MESSAGES,
    "start_at",
    "stop_at",
    "timestamp_attribute",
    "id_label",
    "expected_delay",
    "early_firing",
    "batch_delay",
    "readers",
    "output_topic",
    "output_kafka",
    "output_tables",
    *TO_DATASET,
    *TO_FOLDER,
}
WITHOUT = {
    "backfill": frozenset(_QUEUE - OF_KAFKA - {"input_kafka"} | {"due"}),
    "recompute": frozenset(_FILES | _QUEUE | {"max_days", "max_lateness", "accept_late", "allow_quarantine", "group"}),
    "replay": frozenset(_FILES | _QUEUE | {"start", "end", "due", "allow_quarantine", "group"}),
    "run": frozenset(
        _FILES
        | {
            "stop_at",
            "start",
            "end",
            "due",
            "max_days",
            "accept_late",
            "allow_quarantine",
            "workers",
            "no_active_stream",
        }
    ),
}

OF_REFRESH = ("warehouse", "dataset", "config", AS_OF.name)


def add_all(parser, names: tuple[str, ...] = tuple(NAMED)) -> None:
    """Add options to an argparse parser, under the headings of their groups."""
    groups: dict[str, Any] = {}
    for option in map(NAMED.__getitem__, names):
        group = groups.get(option.group) or groups.setdefault(option.group, parser.add_argument_group(option.group))
        add_to(group, option)


def options_of(command: str) -> tuple[str, ...]:
    """Return the names of the options of a command that runs the graph, or of a refresh."""
    if command == "refresh":
        return OF_REFRESH
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
