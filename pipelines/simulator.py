"""Write events that look like an audience's, with known faults, and a ledger of exactly what was written.

    simulate(events, seed, output, ledger)  -> a JSON lines file, its ledger as JSON, and the Ledger
    simulate_lines(events, seed)            -> the same lines one by one, to feed a stream

Lines   native form, in order of delivery (`received_time`), times in ms, about 270 bytes each.
Same    (events, seed, days, start, faults) give the same bytes on any machine: all draws are integers made of
        raw PCG64 output: numpy promises neither its distributions across versions nor `exp` across machines.
Memory  a block of 50,000 events at a time; what is delivered after a block's end waits in `carry`: minutes of
        traffic and the late hundredth of up to two days.
"""

from collections import Counter
from collections.abc import Generator, Iterable, Iterator
from contextlib import suppress
from datetime import date
from itertools import accumulate
from pathlib import Path

import msgspec
import numpy as np
import polars as pl

from pipelines.simulator_events import DAY, HOUR, MINUTE, SECOND, Audience, Draws, events_of
from transforms.errors import OptionError

_NULLISH = ("undefined", "null", "None", "NaN", "[object Object]", "00000000-0000-0000-0000-000000000000")
_UNKNOWN = (
    ',"app_version":"4.2.1"',
    ',"experiment":{"name":"hero","arm":"B"}',
    ',"legacyFlag":true',
    ',"tags":["a","b"]',
)
_BAD_TYPES = ("Page View", "9lives", "click!", "PURCHASE", "-", "x" * 65)
_BAD_CURRENCIES = ("usd", "EURO", "$", "E R")
_WRONG = (
    ',"quantity":"two"',
    ',"value":{"amount":5}',
    ',"rating":"good"',
    ',"is_bot":"maybe"',
    ',"quantity":[1]',
)
_NOT_JSON = (b"GET /pixel.gif HTTP/1.1", b"page_view,u17,2026-03-01", b'["page_view","u17"]', b"null",
             b"<html>502</html>", b"{'event_type': 'click'}", b"42")  # fmt: skip
_MALFORMED = (  # how a record is spoilt, and the code it is quarantined with
    ("truncated", "invalid_json"),
    ("not_json", "invalid_json"),
    ("bad_utf8", "invalid_json"),
    ("wrong_type", "wrong_type"),
    ("missing_event_type", "missing_event_type"),
    ("invalid_event_type", "invalid_event_type"),
    ("invalid_currency", "invalid_currency"),
    ("no_time", "no_time"),
)


class Faults(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The share of events (0 to 1) that gets each fault; an event gets one at most.

    Raises OptionError for a rate outside 0 to 1, or a sum above 1.
    """

    repeats: float = 0.02  # delivered again unchanged: half within 30 s, half 2 min to 6 h later
    conflicts: float = 0.001  # delivered again within 10 min with another value, or content if it has none
    malformed: float = 0.005  # one of eight ways, evenly; see Ledger.quarantined
    late: float = 0.004  # received 2 to 20 h after event_time: accepted
    too_late: float = 0.002  # received 25 to 49 h after event_time: quarantined
    fast_clock: float = 0.002  # event_time and sent_time 5 min to 3 h ahead
    future: float = 0.0005  # event_time 1 h to 30 days after received_time, no sent_time
    missing_time: float = 0.001  # no event_time, but a received_time
    null_ids: float = 0.001  # the only or first id of the person is "undefined" or the like
    unknown_fields: float = 0.01  # a field that the contract does not name

    def __post_init__(self) -> None:
        rates = {name: getattr(self, name) for name in self.__struct_fields__}
        for name, rate in rates.items():
            if not 0 <= rate <= 1:
                raise OptionError(f"faults.{name}: got {rate!r}; a rate is from 0 to 1")
        if (total := sum(rates.values())) > 1:
            raise OptionError(f"faults: the rates add up to {total:g}; keep the sum to 1, an event has one at most")


USUAL_FAULTS = Faults()


class Ledger(msgspec.Struct, frozen=True):
    """What was written, and so what a run with the default options, without --start and --end, must find.

    Always: lines = accepted + repeats + conflicts + the sum of quarantined, which is `received` of the books.
    """

    seed: int
    events: int  # records made, before repeats and conflicts
    days: int
    start: date
    faults: Faults
    lines: int  # lines of the file; books: sum of received
    accepted: int  # rows of `events`
    repeats: int  # books: duplicates = repeats + conflicts
    conflicts: int  # books: conflicts
    quarantined: dict[str, int]  # rows of `quarantine` by code, a code of this simulator with none is 0
    late: int  # rows of `events` received 2 h or more after event_time
    skew_corrected: int  # rows of `events` with this time_source
    future_clamped: int  # rows of `events` with this time_source
    received_missing: int  # rows of `events` with this time_source; all others have `client`
    null_ids: dict[str, int]  # rows of `events` by warning: null_user_id, null_anonymous_id
    unknown_fields: int  # rows of `events` with an `extra`
    bots: int  # rows of `events` with is_bot
    events_by_type: dict[str, int]  # rows of `events` by event_type
    users: int  # distinct person (user_id, else anonymous_id) in `events`
    # Ids delivered twice with different fields; type, person and event_time are the same in both. A bounded
    # run keeps the first delivered, a stream the first that arrives.
    conflicted_ids: list[str]


_FAULTS = Faults.__struct_fields__


class _Books:
    """What was written so far."""

    def __init__(self, audience: Audience, faults: Faults):
        self.audience, self.faults = audience, faults
        self.counts: Counter[str] = Counter()
        self.quarantined: Counter[str] = Counter({code: 0 for _, code in _MALFORMED} | {"too_late": 0})
        self.types: Counter[str] = Counter()
        self.seen = np.zeros(2 * audience.users, dtype=bool)  # by user, and behind them by anonymous visitor
        self.conflicted: list[str] = []

    def add(self, made: pl.DataFrame) -> None:
        """Count a block of first deliveries and copies, as `_deliveries` made them."""
        first = made.filter(pl.col("copy") == 0)
        self.counts["lines"] += made.height
        self.counts.update(dict(first.group_by("fault").len().iter_rows()))
        self.quarantined.update(dict(first.drop_nulls("code").group_by("code").len().iter_rows()))
        accepted = first.filter(pl.col("code").is_null())
        self.counts["accepted"] += accepted.height
        self.counts["bots"] += accepted["is_bot"].count()
        for field in ("user_id", "anonymous_id"):
            self.counts[f"null_{field}"] += accepted.filter(pl.col(field).is_in(_NULLISH)).height
        self.types.update(dict(accepted.group_by("event_type").len().iter_rows()))
        self.seen[accepted["person"].drop_nulls().to_numpy()] = True
        self.conflicted += first.filter(pl.col("fault") == "conflicts")["event_id"].to_list()

    def ledger(self) -> Ledger:
        count = self.counts
        return Ledger(
            seed=self.audience.seed,
            events=self.audience.events,
            days=self.audience.days,
            start=self.audience.start,
            faults=self.faults,
            lines=count["lines"],
            accepted=count["accepted"],
            repeats=count["repeats"],
            conflicts=count["conflicts"],
            quarantined=dict(sorted(self.quarantined.items())),
            late=count["late"],
            skew_corrected=count["fast_clock"],
            future_clamped=count["future"],
            received_missing=count["missing_time"],
            null_ids={name: count[name] for name in ("null_user_id", "null_anonymous_id")},
            unknown_fields=count["unknown_fields"],
            bots=count["bots"],
            events_by_type=dict(sorted(self.types.items())),
            users=int(self.seen.sum()),
            conflicted_ids=sorted(self.conflicted),
        )


def _assign(faults: Faults, draws: Draws, events: pl.DataFrame) -> pl.DataFrame:
    """The events with `fault` (a name of Faults, or clean), `way` if malformed, `code` if quarantined."""
    n, fault = events.height, pl.col("fault")
    rates = [getattr(faults, name) for name in _FAULTS]
    limits = list(accumulate(int(rate * 2**53) for rate in rates))  # of integers: float sums differ by version
    ways = draws.between(0, len(_MALFORMED), n)
    return events.with_columns(
        pl.Series((*_FAULTS, "clean")).gather(np.searchsorted(limits, draws.raw(n), side="right")).alias("fault"),
        pl.Series("way", [name for name, _ in _MALFORMED]).gather(ways),
        pl.Series("code", [code for _, code in _MALFORMED]).gather(ways),
    ).with_columns(
        way=pl.when(fault == "malformed").then("way"),
        code=pl.when(fault == "malformed").then("code").when(fault == "too_late").then(pl.lit("too_late")),
    )


def _mistimed(draws: Draws, events: pl.DataFrame) -> pl.DataFrame:
    """The events with the times of their fault, and `arrival`: when they are delivered, in ms, never null."""
    n, fault = events.height, pl.col("fault")

    def span(low: int, high: int) -> pl.Expr:
        return pl.lit(pl.Series(draws.between(low, high, n)))

    event, sent, received = pl.col("event_ms"), pl.col("sent_ms"), pl.col("received_ms")
    late, too_late = event + span(2 * HOUR, 20 * HOUR), event + span(25 * HOUR + MINUTE, 49 * HOUR)
    delayed = pl.when(fault == "late").then(late).when(fault == "too_late").then(too_late).otherwise(received)
    ahead = pl.when(fault == "fast_clock").then(span(5 * MINUTE, 3 * HOUR)).otherwise(0)
    far = received + HOUR + span(SECOND, 30 * DAY)
    stated = pl.when(fault == "future").then(far).otherwise(event + ahead)
    told = ~pl.col("way").eq_missing("no_time")
    sends = (pl.col("tells_sent") & (fault != "future")) | (fault == "fast_clock")
    resent = pl.when(fault.is_in(["late", "too_late"])).then(delayed - 200).otherwise(sent + ahead)
    return events.with_columns(
        arrival=delayed,
        received_ms=pl.when(told).then(delayed),
        event_ms=pl.when(told & (fault != "missing_time")).then(stated),
        sent_ms=pl.when(told & sends).then(resent),
    )


def _spoil(draws: Draws, events: pl.DataFrame) -> pl.DataFrame:
    """The events with the fields of their fault, `tail` (JSON to add), `cut` (for `_broken`), `copy` 0."""
    n, fault, way = events.height, pl.col("fault"), pl.col("way")

    def one_of(table: tuple[str, ...]) -> pl.Expr:
        return pl.lit(draws.choice(table, n))

    bad_type, bad_currency = (way.eq_missing(f"invalid_{field}") for field in ("event_type", "currency"))
    wrong = way.eq_missing("wrong_type")
    nameless, known = fault == "null_ids", pl.col("user_id").is_not_null()
    typed = pl.when(~way.eq_missing("missing_event_type")).then("event_type")
    return events.with_columns(
        event_type=pl.when(bad_type).then(one_of(_BAD_TYPES)).otherwise(typed),
        currency=pl.when(bad_currency).then(one_of(_BAD_CURRENCIES)).otherwise("currency"),
        user_id=pl.when(nameless & known).then(one_of(_NULLISH)).otherwise("user_id"),
        anonymous_id=pl.when(nameless & ~known).then(one_of(_NULLISH)).otherwise("anonymous_id"),
        person=pl.when(~nameless).then("person").when(known).then("visitor"),
        # The wrong type is appended, so the field must not stand there already.
        **{name: pl.when(~wrong).then(name) for name in ("cents", "quantity", "rating", "is_bot")},
        tail=pl.when(fault == "unknown_fields").then(one_of(_UNKNOWN)).when(wrong).then(one_of(_WRONG)),
        cut=pl.lit(pl.Series(draws.between(0, 2**31, n))),
        copy=0,
    )


def _deliveries(draws: Draws, events: pl.DataFrame) -> pl.DataFrame:
    """The events, then their repeats and conflicts as `copy` 1: received later, same client time."""
    copies = events.filter(pl.col("fault").is_in(["repeats", "conflicts"]))
    n, conflict = copies.height, pl.col("fault") == "conflicts"
    near, far = draws.between(200, 30 * SECOND, n), draws.between(2 * MINUTE, 6 * HOUR, n)
    again = pl.Series(np.where(draws.between(0, 2, n) == 0, near, far))
    delay = pl.when(conflict).then(pl.Series(draws.between(SECOND, 10 * MINUTE, n))).otherwise(again)
    priced = pl.col("cents").is_not_null()
    other = pl.concat_str(pl.col("content_id").fill_null("p"), pl.lit("-b"))
    copies = copies.with_columns(
        copy=1,
        received_ms=pl.col("received_ms") + delay,
        arrival=pl.col("arrival") + delay,
        cents=pl.when(conflict & priced).then(pl.col("cents") + 100).otherwise("cents"),
        content_id=pl.when(conflict & ~priced).then(other).otherwise("content_id"),
    )
    return pl.concat([events, copies])


def _field(name: str, value: pl.Expr | None = None, quote: str = '"') -> pl.Expr:
    """The text `,"name":value`, empty where the value is null; by default the value is the column `name`."""
    text = pl.format(f',"{name}":{quote}{{}}{quote}', pl.col(name) if value is None else value)
    return text.fill_null("")


def _time_field(name: str, ms: str) -> pl.Expr:
    return _field(name, pl.from_epoch(ms, "ms").dt.strftime("%Y-%m-%dT%H:%M:%S%.3fZ"))


def _lines(made: pl.DataFrame) -> pl.DataFrame:
    """Deliveries as arrival, index, copy, received_us (null where the line tells none) and line (Binary)."""
    cents = pl.col("cents")
    value = pl.format("{}.{}", cents // 100, (cents % 100).cast(pl.String).str.zfill(2))
    people = ("user_id", "anonymous_id", "session_id")
    about = ("content_id", "content_type", "category", "channel", "campaign", "referrer", "country", "device")
    unread = pl.col("way").is_in(["truncated", "not_json", "bad_utf8"]).fill_null(False)
    lines = made.select(
        "arrival",
        "index",
        "copy",
        pl.when(~unread).then(pl.col("received_ms") * 1000).alias("received_us"),
        pl.concat_str(
            pl.format('{{"event_id":"{}"', "event_id"),
            _field("event_type"),
            _time_field("event_time", "event_ms"),
            _time_field("sent_time", "sent_ms"),
            _time_field("received_time", "received_ms"),
            *[_field(name) for name in (*people, *about)],
            _field("value", value, ""),
            _field("currency"),
            _field("quantity", quote=""),
            _field("is_bot", pl.when("is_bot").then(pl.lit("true")), ""),
            _field("text"),
            _field("rating", quote=""),
            _field("properties", quote=""),
            pl.col("tail").fill_null(""),
            pl.lit("}"),
        )
        .cast(pl.Binary)
        .alias("line"),
    )
    spoilt = made.select("way", "cut", row=pl.int_range(pl.len())).filter(unread)
    bare = lines["line"].to_list()
    for way, cut, row in spoilt.iter_rows():
        bare[row] = _broken(bare[row], way, cut)
    return lines.with_columns(line=pl.Series(bare, dtype=pl.Binary))


def _broken(line: bytes, way: str, cut: int) -> bytes:
    """The line as a record that is not JSON at all."""
    if way == "truncated":
        return line[: 1 + cut % (len(line) - 1)]
    if way == "not_json":
        return _NOT_JSON[cut % len(_NOT_JSON)]
    return line.replace(b'"event_id":"', b'"event_id":"caf\xe9-')  # Latin-1, which is not UTF-8


def _blocks(books: _Books) -> Iterator[pl.DataFrame]:
    """The file in order of delivery, as frames of `_lines`; the books are complete once it is exhausted."""
    audience, carry = books.audience, pl.DataFrame()
    for block in range(audience.blocks):
        draws = Draws(audience.seed, block, "faults")
        events = _assign(books.faults, draws, events_of(audience, block))
        made = _deliveries(draws, _spoil(draws, _mistimed(draws, events)))
        books.add(made)
        waiting = pl.concat([carry, _lines(made)]) if block else _lines(made)
        # A block delivers nothing before it begins, so what arrives before the next one is complete.
        complete = pl.col("arrival") < audience.begin(block + 1) if block + 1 < audience.blocks else pl.lit(True)
        yield waiting.filter(complete).sort("arrival", "index", "copy")
        later = waiting.filter(~complete)
        # The lines are copied, because a filtered frame keeps all the bytes of the frame it was taken from.
        carry = later.with_columns(line=pl.Series(later["line"].to_list(), dtype=pl.Binary))


def simulate_lines(
    events: int, seed: int, days: int = 2, start: date = date(2026, 3, 1), faults: Faults = USUAL_FAULTS
) -> Generator[tuple[int | None, bytes], None, Ledger]:
    """Yield what `simulate` writes, a line at a time without its newline, and return the Ledger.

    Each is (received_us, line): received_us is the line's received_time in microseconds since 1970 UTC, None
    where the line tells none or is no JSON. Take the Ledger with `ledger = yield from`.
    Raises OptionError for a number or a rate out of its bounds.
    """
    books = _Books(Audience(events, seed, days, start), faults)
    for block in _blocks(books):
        yield from zip(block["received_us"].to_list(), block["line"].to_list(), strict=True)
    return books.ledger()


def simulate(
    events: int,
    seed: int,
    output: str | Path,
    ledger: str | Path | None = None,
    days: int = 2,
    start: date = date(2026, 3, 1),
    faults: Faults = USUAL_FAULTS,
) -> Ledger:
    """Write `events` simulated events, their repeats and conflicts to `output`, and its Ledger to `ledger`.

    Sessions begin within `days` days from `start` (UTC); deliveries run up to some 49 h longer. Each file
    appears whole or not at all and replaces what was there.
    Raises OptionError for a number or a rate out of its bounds, or a file that cannot be written.
    """
    books = _Books(Audience(events, seed, days, start), faults)
    _write(Path(output), (b"\n".join([*block["line"].to_list(), b""]) for block in _blocks(books)))
    if ledger is not None:
        _write(Path(ledger), [msgspec.json.format(msgspec.json.encode(books.ledger()), indent=2), b"\n"])
    return books.ledger()


def _write(path: Path, parts: Iterable[bytes]) -> None:
    partial = path.with_name(path.name + ".partial")
    try:
        with partial.open("wb") as file:
            file.writelines(parts)
        partial.replace(path)
    except OSError as error:
        reason = error.strerror
        raise OptionError(f"{path}: cannot be written ({reason}); name a file in a writable folder") from error
    finally:
        with suppress(OSError):
            partial.unlink()
