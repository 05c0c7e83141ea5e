"""`audience plan`: estimate what a day of events needs, in bytes, rows, state, machines and money."""

import math
from collections.abc import Mapping

from pipelines.commands import Command, number
from pipelines.settings.arguments import add_all
from pipelines.settings.options import SHARDS
from transforms.errors import OptionError

DATAFLOW = "DataflowRunner"
RUNNERS = ("PrismRunner", "DirectRunner", DATAFLOW)
QUEUES = ("pubsub", "kafka", "kinesis")
_OPTIONS = (
    "config",
    "early_firing",
    "batch_delay",
    "readers",
    "write_method",
    "shards",
    "dedup_window",
    "max_lateness",
)
_NUMBERS = {  # name -> (default, least, most, help)
    "events_per_second": (None, 0.001, 10_000_000, "Messages per second, averaged over a day"),
    "peak": ("3", 1, 1_000, "Peak-to-average ratio of the busiest minutes"),
    "event_bytes": ("270", 1, 10_000_000, "Average size of a message in bytes"),
    "duplicates": ("0.02", 0, 0.99, "Share of messages that repeat an event"),
    "quarantined": ("0.01", 0, 0.99, "Share of messages that are quarantined"),
    "delayed": ("0.01", 0, 1, "Share of events received up to ten minutes after event time"),
    "late": ("0.005", 0, 1, "Share of events received up to a day after event time"),
    "session_events": ("10", 1, 1_000_000, "Average number of events per session"),
}


def add_options(parser) -> None:
    from pipelines.apps.plan.coefficients import DISTINCT, PRICES

    group = parser.add_argument_group("traffic")
    for name, (default, _, _, text) in _NUMBERS.items():
        shown = text if default is None else f"{text} (default: {default})"
        group.add_argument(f"--{name}", default=default, required=default is None, metavar="N", help=shown)
    group.add_argument(
        "--distinct",
        action="append",
        default=[],
        metavar="COLUMN=N",
        help="Distinct values of a column per day; repeatable (defaults: below)",
    )
    group.add_argument(
        "--runner",
        help="DataflowRunner: a job on Dataflow, whose own reader reads; else our own reader (default: our own)",
    )
    group.add_argument("--queue", help="Queue of the stream: pubsub, kafka, kinesis (default: pubsub)")
    group.add_argument("--backfill", action="store_true", help="Read the day from files instead of a queue")
    add_all(parser, _OPTIONS)
    parser.add_argument("--json", action="store_true", help="Print one JSON object")
    parser.add_argument(
        "--price",
        action="append",
        default=[],
        metavar="NAME=DOLLARS",
        help="Your own price; repeatable (assumed prices: below)",
    )
    rows = [f"{name:<14} {number:,.0f}" for name, number in DISTINCT.items()]
    rows.append(f"{'person':<14} a twentieth of the messages, at least 1")
    parser.add_argument_group("distinct values per day", "\n".join(rows))
    priced = [f"{name:<27} {price.dollars:<9g} {price.unit}" for name, price in PRICES.items()]
    parser.add_argument_group("assumed prices in dollars", "\n".join(priced))


def run(values, rest) -> None:
    numbers = {name: number(name, getattr(values, name), least, most) for name, (_, least, most, _) in _NUMBERS.items()}
    if numbers["duplicates"] + numbers["quarantined"] >= 1:
        raise OptionError("--duplicates and --quarantined: they leave no events; allowed: a sum less than 1")
    from pipelines.apps.plan.coefficients import DISTINCT, PRICES

    distinct = _override("distinct", values.distinct, {**DISTINCT, "person": 0.0}, 1)
    distinct["person"] = distinct["person"] or max(1.0, numbers["events_per_second"] * 86_400 / 20)
    prices = _override("price", values.price, {name: price.dollars for name, price in PRICES.items()}, 0)
    _plan(values, numbers, distinct, prices)


def _plan(values, numbers: dict[str, float], distinct: dict[str, float], prices: dict[str, float]) -> None:
    from pipelines.settings.resolve import resolve

    on_dataflow = _check_runner(values)
    _check_queue(values)
    settings = resolve(vars(values), "recompute")
    import msgspec

    from pipelines.apps.plan.estimate import plan_backfill, plan_stream
    from pipelines.apps.plan.steps import How, Traffic
    from pipelines.apps.plan.text import as_json, plan_lines
    from pipelines.settings.config import read_config

    traffic = Traffic(
        numbers["events_per_second"],
        numbers["peak"],
        numbers["event_bytes"],
        numbers["duplicates"],
        numbers["quarantined"],
        numbers["delayed"],
        numbers["late"],
        distinct,
        session_events=numbers["session_events"],
    )
    metrics = read_config(settings.config).metrics
    how = How(
        metrics,
        settings.shards or SHARDS,
        1 if values.queue == "kinesis" else settings.readers,  # one for all shards
        settings.batch_delay,
        settings.early_firing,
        settings.dedup_window,
        settings.max_lateness,
        on_dataflow,
        values.queue or QUEUES[0],
    )
    if values.backfill:
        plan = plan_backfill(traffic, how, prices)
    else:
        plan = plan_stream(traffic, how, settings.write_method, prices)
    if values.json:
        print(msgspec.json.encode(as_json(plan, traffic, prices)).decode())
    else:
        print("\n".join(plan_lines(plan, traffic)))


def _check_runner(values) -> bool:
    """Return whether a job on Dataflow is planned. Errors: OptionError."""
    if values.runner not in (None, *RUNNERS):
        raise OptionError(f"--runner: got {values.runner!r}; allowed: {', '.join(RUNNERS)}")
    if values.runner == DATAFLOW and values.readers is not None:
        raise OptionError("--readers is only for a stream on this machine; leave it out for a job on Dataflow")
    return values.runner == DATAFLOW


def _check_queue(values) -> None:
    """Errors: OptionError for a queue that cannot be planned with the other options."""
    if values.queue not in (None, *QUEUES):
        raise OptionError(f"--queue: got {values.queue!r}; allowed: {', '.join(QUEUES)}")
    if values.queue is not None and values.backfill:
        raise OptionError("--queue and --backfill exclude each other: a backfill is planned from files")
    if values.queue not in (None, QUEUES[0]) and values.runner == DATAFLOW:
        raise OptionError(f"--queue {values.queue}: no job on Dataflow is planned with it; leave --runner out")
    if values.queue == "kinesis" and values.readers is not None:
        raise OptionError("--readers is not for --queue kinesis, which has one reader for all shards; leave it out")


def _override(option: str, words: list[str], known: Mapping[str, float], least: float) -> dict[str, float]:
    """Return the known numbers, as changed by words of the form NAME=NUMBER."""
    numbers = dict(known)
    for word in words:
        name, _, text = word.partition("=")
        try:
            numbers[name] = float(text)
        except ValueError:
            numbers[name] = math.nan
        if name not in known or not least <= numbers[name] < math.inf:
            raise OptionError(
                f"--{option}: got {word!r}; allowed: NAME=NUMBER, at least {least:g}, of {', '.join(known)}"
            )
    return numbers


COMMAND = Command(
    add_options,
    run,
    "Estimate what a day of events needs: bytes, rows, state, machines and cost.",
    "audience plan --events_per_second 1200 --peak 3 --distinct content_id=50000",
)
