"""`audience simulate`: simulated events and a ledger of them."""

from datetime import date

from pipelines.commands import Command
from pipelines.system.terminal import say, shown
from transforms.errors import OptionError

LIVE_RATE = 50.0  # lines a second to a collector


def add_options(parser) -> None:
    parser.add_argument("--events", required=True, help="Number of events, e.g. 100000")
    parser.add_argument("--seed", default="0", help="Random seed; the same seed writes the same bytes (default: 0)")
    parser.add_argument("--days", default="2", help="Number of days that the events span (default: 2)")
    parser.add_argument("--start", default="2026-03-01", help="First day, UTC (default: 2026-03-01)")
    parser.add_argument(
        "--faults",
        action="append",
        default=[],
        help="A preset (none, usual, many), or NAME=RATE with a rate from 0 to 1; may be repeated (default: usual)",
    )
    parser.add_argument("--rate", help="Lines per second (default: as fast as possible)")
    parser.add_argument(
        "--output", help="File of JSON lines in the native format, compressed if it ends in .gz or .zst; - for stdout"
    )
    parser.add_argument(
        "--output_topic",
        metavar="projects/PROJECT/topics/NAME",
        help="Pub/Sub topic instead of --output: one message per line, with received_time as an attribute",
    )
    parser.add_argument(
        "--output_url",
        metavar="URL",
        help="Address of a collector instead of --output, e.g. http://127.0.0.1:8090: events that happen when they are "
        f"sent, {LIVE_RATE:.0f} a second unless --rate says otherwise",
    )
    parser.add_argument(
        "--key_file", metavar="FILE", help="With --output_url: file whose first line is the write key (default: none)"
    )
    parser.add_argument(
        "--ledger", help="JSON file for the ledger: counts of the events written and the faults injected"
    )
    parser.add_argument_group(
        "faults, with the share of events that have each in the preset `usual`", _describe_faults()
    )


def run(values, rest) -> None:
    from pipelines.apps.simulator.faults import read_faults
    from pipelines.apps.simulator.output import STDOUT, check_output
    from pipelines.apps.simulator.simulate import simulate
    from pipelines.settings.forms import DATE_IN_WORDS

    events, seed, days = (_whole(name, getattr(values, name)) for name in ("events", "seed", "days"))
    try:
        start = date.fromisoformat(values.start)
    except ValueError:
        raise OptionError(f"--start: got {values.start!r}; allowed: {DATE_IN_WORDS}") from None
    faults, rate = read_faults(values.faults), _rate(values.rate)
    if [values.output, values.output_topic, values.output_url].count(None) != 2:
        raise OptionError(
            "give one of a file with --output, a topic with --output_topic and a collector with --output_url"
        )
    if values.output_url is not None:
        return _send(values, events, seed, faults, rate or LIVE_RATE)
    if values.key_file is not None:
        raise OptionError("--key_file: only with --output_url; leave it out")
    if values.output is not None:
        check_output("output", values.output)
    if values.ledger is not None:
        check_output("ledger", values.ledger)
        if values.ledger in (STDOUT, values.output):
            raise OptionError(f"--ledger: got {values.ledger!r}; allowed: a file of its own")
    if values.output_topic is not None:
        from pipelines.sources.pubsub.check import check_topic

        check_topic(values.output_topic, "output_topic")
    ledger = simulate(
        events=events,
        seed=seed,
        days=days,
        start=start,
        faults=faults,
        output=values.output,
        ledger=values.ledger,
        rate=rate,
        topic=values.output_topic,
    )
    where = values.output_topic or ("stdout" if values.output == STDOUT else values.output)
    say(f"{ledger.lines:,} lines in {shown(where)}: {ledger.accepted:,} events to accept")


def _send(values, events: int, seed: int, faults, rate: float) -> None:
    from pipelines.apps.simulator.http import collector_at, send_live

    url = collector_at("output_url", values.output_url)
    if values.ledger is not None:
        raise OptionError("--ledger: not with --output_url, where an event that is sent again is one more line")
    key = _key(values.key_file)
    say(f"sending {events:,} events, {rate:,.0f} lines a second, to {shown(values.output_url)}; Ctrl-C stops it")
    lines = send_live(url, key, events, seed, faults, rate)
    say(f"{lines:,} lines taken by {shown(values.output_url)}")


def _key(path: str | None) -> str | None:
    """The write key in a file; a key is no option, as other users see the options of a process."""
    if path is None:
        return None
    from pipelines.apps.simulator.http import KEY

    try:
        with open(path, encoding="ascii") as file:
            key = file.readline(1_000).strip()
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is not ASCII"
        raise OptionError(f"--key_file: {shown(path)}: {why}; give a file whose first line is the write key") from None
    if not KEY.fullmatch(key):
        raise OptionError(f"--key_file: the first line of {shown(path)} is no write key; allowed: ASCII without blanks")
    return key


def _whole(name: str, text: str) -> int:
    least = 0 if name == "seed" else 1
    if not text.isdecimal() or len(text) > 18 or int(text) < least:
        raise OptionError(f"--{name}: got {text!r}; allowed: a whole number, at least {least}, of at most 18 digits")
    return int(text)


def _rate(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        rate = float(text)
    except ValueError:
        rate = 0.0
    if not 0 < rate < float("inf"):
        raise OptionError(f"--rate: got {text!r}; allowed: a number of lines a second, above 0")
    return rate


def _describe_faults() -> str:
    """A line for each fault: its name, its default rate, and its outcome."""
    from pipelines.apps.simulator.faults import GROUPS, USUAL_FAULTS, describe_faults

    rates = {name: f"{getattr(USUAL_FAULTS, name):.5f}".rstrip("0").rstrip(".") for name in describe_faults()}
    lines = [f"{name:<20} {rates[name]:<8} {text}" for name, text in describe_faults().items()]
    groups = [f"{name:<20} {'':<8} split evenly: {', '.join(names)}" for name, names in GROUPS.items()]
    return "\n".join([*lines, *groups])


COMMAND = Command(
    add_options,
    run,
    "Write simulated events with known faults, and a ledger of them.",
    "audience simulate --events 100000 --seed 7 --output events.jsonl --ledger ledger.json",
)
