"""Write events that look like an audience's, with known faults, and a ledger of exactly what was written.

    simulate(events, seed, output, ledger)  -> a JSON lines file, its ledger as JSON, and the Ledger
    simulate_lines(events, seed)            -> the same lines one by one, to feed a stream
    faults("many", late=0.1)                -> Faults for either: a preset, and rates of one's own

Lines   native form, in order of delivery (`received_time`), times in ms, about 270 bytes each.
Same    (events, seed, days, start, faults) give the same bytes on any machine: all draws are integers made of
        raw PCG64 output: numpy promises neither its distributions across versions nor `exp` across machines.
Faults  change no event but those that they are given to.
Memory  a block of 50,000 events at a time; what is delivered after a block's end waits in `carry`: minutes of
        traffic and the late hundredth of up to two days.
"""

from collections.abc import Generator, Iterator
from datetime import date
from pathlib import Path

import msgspec
import polars as pl

from pipelines.apps.simulator.deliveries import deliver
from pipelines.apps.simulator.events import Audience, events_of
from pipelines.apps.simulator.faults import USUAL_FAULTS, Faults, faults
from pipelines.apps.simulator.ledger import Books, Ledger
from pipelines.apps.simulator.lines import lines_of
from pipelines.apps.simulator.output import write_paced, write_whole
from transforms.errors import OptionError

__all__ = ["USUAL_FAULTS", "Faults", "Ledger", "faults", "simulate", "simulate_lines"]
FIRST_DAY = date(2026, 3, 1)


def _blocks(books: Books) -> Iterator[pl.DataFrame]:
    """The file in order of delivery, as frames of `lines_of`; the books are complete once it is exhausted."""
    audience, carry = books.audience, pl.DataFrame()
    for block in range(audience.blocks):
        made = deliver(books.faults, audience, block, events_of(audience, block))
        books.add(made)
        waiting = pl.concat([carry, lines_of(made)]) if block else lines_of(made)
        # A block delivers nothing before it begins, so what arrives before the next one is complete.
        complete = pl.col("arrival") < audience.begin(block + 1) if block + 1 < audience.blocks else pl.lit(True)
        yield waiting.filter(complete).sort("arrival", "index", "copy")
        later = waiting.filter(~complete)
        # The lines are copied, because a filtered frame keeps all the bytes of the frame it was taken from.
        carry = later.with_columns(line=pl.Series(later["line"].to_list(), dtype=pl.Binary))


def simulate_lines(
    events: int, seed: int, days: int = 2, start: date = FIRST_DAY, faults: Faults = USUAL_FAULTS
) -> Generator[tuple[int | None, bytes], None, Ledger]:
    """Yield what `simulate` writes, a line at a time without its newline, and return the Ledger.

    Each is (received_us, line): received_us is the line's received_time in microseconds since 1970 UTC, None
    where the line tells none or is no JSON. Take the Ledger with `ledger = yield from`.
    Raises OptionError for a number or a rate out of its bounds.
    """
    books = Books(Audience(events, seed, days, start), faults)
    for block in _blocks(books):
        yield from zip(block["received_us"].to_list(), block["line"].to_list(), strict=True)
    return books.ledger()


def simulate(
    events: int,
    seed: int,
    output: str | Path | None = None,
    ledger: str | Path | None = None,
    days: int = 2,
    start: date = FIRST_DAY,
    faults: Faults = USUAL_FAULTS,
    rate: float | None = None,
    topic: str | None = None,
) -> Ledger:
    """Write `events` simulated events and their copies to `output` (`-`: stdout), and its Ledger to `ledger`.

    With a `topic` (projects/P/topics/T) in place of `output` each line is published as a message.

    Sessions begin within `days` days from `start` (UTC); deliveries run up to some 49 h longer. Each file
    appears whole or not at all and replaces what was there, but with a `rate`, lines a second: then `output` is
    written line by line as they are due. A name in .gz or .zst is compressed.
    Raises OptionError for a number or a rate out of its bounds, or a file that cannot be written, and SourceError for
    a topic that takes no messages.
    """
    books = Books(Audience(events, seed, days, start), faults)
    if topic is not None:
        from pipelines.apps.simulator.topic import publish_lines  # whose library takes a second to load

        pairs = (zip(block["received_us"].to_list(), block["line"].to_list(), strict=True) for block in _blocks(books))
        publish_lines(topic, (pair for block in pairs for pair in block), rate)
    else:
        _write_lines(books, output, rate)
    if ledger is not None:
        write_whole(ledger, [msgspec.json.format(msgspec.json.encode(books.ledger()), indent=2), b"\n"])
    return books.ledger()


def _write_lines(books: Books, output: str | Path | None, rate: float | None) -> None:
    if output is None:
        raise OptionError("simulate: neither an output nor a topic is given; name one of them")
    lines = (block["line"].to_list() for block in _blocks(books))
    if rate is None:
        write_whole(output, (b"\n".join([*block, b""]) for block in lines))
    else:
        write_paced(output, (line for block in lines for line in block), rate)
