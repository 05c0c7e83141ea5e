"""Launcher: what the flex template starts: a stream where its parameters name a queue, a refresh, else a backfill.

    python templates/flex/main.py --dataset=my-project.audience --input=gs://my-bucket/events/*.jsonl ...
    python templates/flex/main.py --dataset=my-project.audience --refresh=true ...
    python -m pipelines --input 'events/*.jsonl.gz' --warehouse warehouse

The console sends every parameter that has a default, even those of the other kinds of job; the launcher drops those
that are left at their default.
"""

import sys
from collections.abc import Sequence

from pipelines.settings.arguments import options_of
from pipelines.settings.refresh_options import REFRESH, REFRESH_OPTIONS
from pipelines.settings.values import NAMED, Given, value_of
from pipelines.sources.queues import LAUNCH_OPTIONS, OPTIONS
from pipelines.system.terminal import shown
from transforms.errors import OptionError

KINDS = {"run": "a stream", "backfill": "a backfill", "refresh": "a refresh"}
STARTED_BY = {
    "run": " or ".join(f"--{name}" for name in LAUNCH_OPTIONS),
    "backfill": "--input",
    "refresh": f"--{REFRESH.name}",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Start the job; the exit status is 2 for a user error."""
    from pipelines.cli import main as command

    try:
        words = command_of(sys.argv[1:] if argv is None else argv)
    except OptionError as error:
        print(f"error: {shown(str(error))}", file=sys.stderr)
        return 2
    return command(words)


def command_of(words: Sequence[str]) -> list[str]:
    """Return the command that parameters (--name=value) start. Errors: OptionError for one of another kind of job."""
    given = [word for word in words if word.partition("=")[2] or "=" not in word]
    command = _kind_of(given)
    own = options_of(command)
    strange = {REFRESH.name, *(name for other in KINDS for name in options_of(other) if name not in own)}
    for word in given:
        name = _name(word)
        if name in strange and not _is_left(word) and not (command == name == REFRESH.name):
            others = [other for other in KINDS if name in options_of(other)]
            raise OptionError(
                f"--{name} is only for {' or '.join(KINDS[other] for other in others)}, but {_why(command, others)} a "
                f"job is {KINDS[command]}; remove one of them"
            )
    return [command, *(word for word in given if _name(word) not in strange)]


def _kind_of(given: Sequence[str]) -> str:
    asked = [word.partition("=") for word in given if _name(word) == REFRESH.name]
    if any(value_of(REFRESH, Given(value if equals else "true", "option")) for _, equals, value in asked):
        return "refresh"
    return "run" if any(_name(word) in OPTIONS for word in given) else "backfill"


def _why(command: str, others: Sequence[str]) -> str:
    """Return what was given that made it this kind of job; of a backfill, what was not."""
    return f"without {STARTED_BY[others[0]]}" if command == "backfill" else f"with {STARTED_BY[command]}"


def _name(word: str) -> str:
    return word.partition("=")[0].removeprefix("--")


def _is_left(word: str) -> bool:
    """Return whether an option has its default value."""
    option = ({each.name: each for each in REFRESH_OPTIONS} | NAMED)[_name(word)]
    return word.partition("=")[2] == ("false" if option.flag else option.default)
