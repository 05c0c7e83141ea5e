"""Launcher: what the flex template starts: a stream where its parameters name a queue, else a backfill.

    python templates/flex/main.py --dataset=my-project.audience --input=gs://my-bucket/events/*.jsonl ...
    python -m pipelines --input 'events/*.jsonl.gz' --warehouse warehouse

The console sends every parameter that has a default, even those of the other kind of job; the launcher drops those
that are left at their default.
"""

import sys
from collections.abc import Sequence

from pipelines.settings.arguments import options_of
from pipelines.settings.values import NAMED
from pipelines.sources.queues import LAUNCH_OPTIONS, OPTIONS
from pipelines.system.terminal import shown
from transforms.errors import OptionError

KINDS = {"run": "a stream", "backfill": "a backfill"}


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
    """Return the command that parameters (--name=value) start. Errors: OptionError for one of the other kind of job."""
    given = [word for word in words if word.partition("=")[2] or "=" not in word]
    queue = any(_name(word) in OPTIONS for word in given)
    command, other = ("run", "backfill") if queue else ("backfill", "run")
    strange = {name for name in options_of(other) if name not in options_of(command)}
    for word in given:
        if _name(word) in strange and not _is_left(word):
            named = " or ".join(f"--{name}" for name in LAUNCH_OPTIONS)
            raise OptionError(
                f"--{_name(word)} is only for {KINDS[other]}, but {'with' if queue else 'without'} {named} a job is "
                f"{KINDS[command]}; remove one of them"
            )
    return [command, *(word for word in given if _name(word) not in strange)]


def _name(word: str) -> str:
    return word.partition("=")[0].removeprefix("--")


def _is_left(word: str) -> bool:
    """Return whether an option has its default value."""
    option = NAMED[_name(word)]
    return word.partition("=")[2] == ("false" if option.flag else option.default)
