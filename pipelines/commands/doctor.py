"""`audience doctor`: what is installed, what each missing part would allow, and what a warehouse holds."""

from pipelines.commands import Command
from pipelines.commands.query import add_form
from pipelines.options import add_all, warehouse_of
from transforms.errors import AudienceError


def add_options(parser) -> None:
    add_all(parser, ("warehouse", "config"))
    add_form(parser)


def run(values, rest) -> None:
    from pipelines.doctor import checks, faults, lines

    found = checks(warehouse_of(vars(values)))
    for line in lines(found, values.form):
        print(line)
    if wrong := faults(found):
        named = ", ".join(f"{row.name} ({row.state})" for row in wrong)
        raise AudienceError(f"what is required is not there: {named}; how to get each is said above")


COMMAND = Command(
    add_options,
    run,
    "Show what is installed, what each missing part would allow, and what a warehouse holds.",
    "audience doctor --warehouse warehouse --json",
)
