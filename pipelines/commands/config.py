"""`audience config`: show the effective configuration, or the schemas of configurations and mappings for editors."""

from pipelines.commands import Command
from pipelines.settings.arguments import add_all
from pipelines.settings.values import FILE_OPTIONS
from pipelines.system.terminal import faithful


def add_options(parser) -> None:
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "--show",
        action="store_true",
        help="Print the effective configuration as YAML: each key with its unit, default and origin",
    )
    what.add_argument(
        "--schema",
        nargs="?",
        const="configuration",
        choices=("configuration", "mapping"),
        help="Print the JSON Schema of a configuration file (the default) or of a mapping",
    )
    add_all(parser, ("config", *(option.name for option in FILE_OPTIONS)))


def run(values, rest) -> None:
    if values.schema:
        from pipelines.settings.json_schema import schema_text

        faithful(schema_text(values.schema))
        return
    from pipelines.settings.show import config_lines

    for line in config_lines(vars(values)):
        print(line)


COMMAND = Command(
    add_options,
    run,
    "Show the effective configuration, or its schema for editors.",
    "audience config --show --config audience.yaml",
)
