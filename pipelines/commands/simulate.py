"""`audience simulate`: simulated events and their ledger."""

import sys
from datetime import date

from pipelines.commands import Command
from transforms.errors import OptionError


def add_options(parser) -> None:
    parser.add_argument("--events", required=True, help="Number of events, e.g. 100000")
    parser.add_argument("--seed", default="0", help="Seed: the same seed writes the same bytes (default: 0)")
    parser.add_argument("--days", default="2", help="Days that the events span (default: 2)")
    parser.add_argument("--start", default="2026-03-01", help="First day (default: 2026-03-01)")
    parser.add_argument("--output", required=True, help="File to write, JSON lines of the native form")
    parser.add_argument("--ledger", help="File for the ledger of what was written and injected, JSON")


def run(values, rest) -> None:
    from pipelines.options import DATE_IN_WORDS
    from pipelines.simulator import simulate

    events, seed, days = (_whole(name, getattr(values, name)) for name in ("events", "seed", "days"))
    try:
        start = date.fromisoformat(values.start)
    except ValueError:
        raise OptionError(f"--start: got {values.start!r}; allowed: {DATE_IN_WORDS}") from None
    ledger = simulate(events=events, seed=seed, days=days, start=start, output=values.output, ledger=values.ledger)
    print(f"{ledger.lines:,} lines in {values.output}: {ledger.accepted:,} events to accept", file=sys.stderr)


def _whole(name: str, text: str) -> int:
    if not text.isdecimal() or (name != "seed" and int(text) < 1):
        raise OptionError(f"--{name}: got {text!r}; allowed: a whole number, at least {0 if name == 'seed' else 1}")
    return int(text)


COMMAND = Command(
    add_options,
    run,
    "Write simulated events, with a ledger of what is in them.",
    "audience simulate --events 100000 --seed 7 --output events.jsonl --ledger ledger.json",
)
