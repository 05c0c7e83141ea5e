"""Generate the deliveries of a block of events: each event with its fault, and later copies.

deliver(faults, audience, block, events) -> pl.DataFrame
"""

from itertools import accumulate

import numpy as np
import polars as pl

from pipelines.apps.simulator.events import DAY, HOUR, MINUTE, SECOND, Audience, Draws
from pipelines.apps.simulator.faults import CLEAN, CODES, EXCLUSIVE, GROUPS, Faults

HOT = "hot"  # user_id and content_id of the hot key
NULLISH = ("undefined", "null", "None", "NaN", "[object Object]", "00000000-0000-0000-0000-000000000000")
_UNKNOWN = (
    ',"app_version":"4.2.1"',
    ',"experiment":{"name":"hero","arm":"B"}',
    ',"legacyFlag":true',
    ',"tags":["a","b"]',
)
# As JSON writes them inside quotes: a line feed, a zero width space.
_BAD_IDS = ("", "x" * 129, "id\\nwith a line feed", "id\\u200bwith nothing")
_BAD_TYPES = ("Page View", "9lives", "click!", "PURCHASE", "-", "x" * 65)
_BAD_CURRENCIES = ("usd", "EURO", "$", "E R")
_BAD_CHANNELS = ("Web", "tv", "sms", "")
_BAD_SOURCES = (',"source":"Web Shop"', ',"source":"-"', ',"source":""', f',"source":"{"s" * 65}"')
_BAD_VALUES = (',"value":1e40', ',"value":-9e30', f',"value":{"7" * 33}.5')
_BAD_TIMES = ('"yesterday"', '"03/01/2026 10:00"', '"2026-13-01T10:00:00Z"', '"1969-12-31T23:59:59Z"', "1772359200")
_WRONG = (
    ',"quantity":"two"',
    ',"value":{"amount":5}',
    ',"rating":"good"',
    ',"is_bot":"maybe"',
    ',"quantity":[1]',
)
_LONG_FIELDS = ("user_id", "anonymous_id", "session_id", "content_id", "content_type", "category", "campaign",
                "referrer", "country", "device")  # fmt: skip
_LONG_TEXT = "Far too long. " * 700  # the limit is 8,192 bytes


def deliver(faults: Faults, audience: Audience, block: int, events: pl.DataFrame) -> pl.DataFrame:
    """The first deliveries of the block, then its copies, with the columns of `events_of` and:

    fault          a name of Faults but bots and hot_key, or CLEAN
    code           the quarantine code, null if accepted
    copy           0, or 1 for a second delivery
    arrival        Int64, when it is delivered, in ms; `received_ms`, `event_ms`, `sent_ms` are null if absent
    tail           JSON to append, or null; cut  Int64, a random number for edits of the bytes
    bot, hot       Boolean, whether it has these two faults, even if another one hides them
    """
    events = _add_bots_and_hot_key(faults, audience, block, events)
    draws = Draws(audience.seed, block, "faults")
    limits = list(
        accumulate(int(getattr(faults, name) * 2**53) for name in EXCLUSIVE)
    )  # sums of floats differ by version
    drawn = np.searchsorted(limits, draws.raw(events.height), side="right")
    is_clean = pl.Series(drawn == len(EXCLUSIVE))
    given = pl.Series(EXCLUSIVE).gather(drawn[~is_clean.to_numpy()])
    faulty = events.filter(~is_clean).with_columns(fault=given, code=given.replace_strict(CODES, default=None), copy=0)
    faulty = _spoil(draws, _shift_times(draws, faulty))
    clean = events.filter(is_clean).with_columns(
        sent_ms=pl.when("tells_sent").then("sent_ms"),
        arrival="received_ms",
        fault=pl.lit(CLEAN),
        code=pl.lit(None, pl.String),
        copy=0,
        tail=pl.lit(None, pl.String),
        cut=pl.lit(0, pl.Int64),
    )
    return pl.concat([clean, faulty.select(clean.columns), _copies(draws, faulty).select(clean.columns)])


def _add_bots_and_hot_key(faults: Faults, audience: Audience, block: int, events: pl.DataFrame) -> pl.DataFrame:
    """The events with bots and the hot key, independent of other faults."""
    n, never = events.height, pl.lit(False)
    events = events.with_columns(bot=never, hot=never)
    if faults.bots:
        session = events["session_id"]
        begins = (session != session.shift()).fill_null(True).to_numpy()
        drawn = Draws(audience.seed, block, "bots").raw(n)[np.maximum.accumulate(np.where(begins, np.arange(n), 0))]
        bot = pl.lit(pl.Series(drawn < int(faults.bots * 2**53)))
        events = events.with_columns(bot=bot, is_bot=pl.when(bot).then(True))
    if faults.hot_key:
        hot = pl.lit(pl.Series(Draws(audience.seed, block, "hot key").raw(n) < int(faults.hot_key * 2**53)))
        has_content = hot & pl.col("content_id").is_not_null()
        events = events.with_columns(
            hot=hot,
            user_id=pl.when(hot).then(pl.lit(HOT)).otherwise("user_id"),
            anonymous_id=pl.when(~hot).then("anonymous_id"),
            person=pl.when(hot).then(audience.hot_person).otherwise("person"),
            visitor=pl.when(~hot).then("visitor"),
            content_id=pl.when(has_content).then(pl.lit(HOT)).otherwise("content_id"),
            category=pl.when(has_content).then(pl.lit("news")).otherwise("category"),
        )
    return events


def _shift_times(draws: Draws, events: pl.DataFrame) -> pl.DataFrame:
    """The events with the times of their faults, and `arrival`: when they are delivered, in ms, never null."""
    n, fault = events.height, pl.col("fault")

    def span(low: int, high: int) -> pl.Expr:
        return pl.lit(pl.Series(draws.between(low, high, n)))

    event, sent, received = pl.col("event_ms"), pl.col("sent_ms"), pl.col("received_ms")
    late, too_late = event + span(2 * HOUR, 20 * HOUR), event + _too_late(draws, n)
    delayed = pl.when(fault == "late").then(late).when(fault == "too_late").then(too_late).otherwise(received)
    off = span(5 * MINUTE, 3 * HOUR)
    ahead = pl.when(fault == "fast_clock").then(off).when(fault == "slow_clock").then(-off).otherwise(0)
    far = received + HOUR + span(SECOND, 30 * DAY)
    stated = pl.when(fault == "future").then(far).otherwise(event + ahead)
    sends = (pl.col("tells_sent") & (fault != "future")) | fault.is_in(["fast_clock", "slow_clock"])
    resent = pl.when(fault.is_in(["late", "too_late"])).then(delayed - 200).otherwise(sent + ahead)
    return events.with_columns(
        arrival=delayed,
        received_ms=pl.when(fault != "no_time").then(delayed),
        event_ms=pl.when(~fault.is_in(["no_time", "missing_time", "unreadable_time"])).then(stated),
        sent_ms=pl.when(sends & (fault != "no_time")).then(resent),
    )


def _too_late(draws: Draws, n: int) -> pl.Expr:
    """n delays, in ms, above the default limit of a day."""
    return pl.lit(pl.Series(draws.between(25 * HOUR + MINUTE, 49 * HOUR, n)))


def _spoil(draws: Draws, events: pl.DataFrame) -> pl.DataFrame:
    """The events with the fields of their faults, `tail` (JSON to append) and `cut`."""
    n, fault = events.height, pl.col("fault")

    def one_of(table: tuple[str, ...]) -> pl.Expr:
        return pl.lit(draws.choice(table, n))

    def replaced(name: str, by: str, table: tuple[str, ...]) -> pl.Expr:
        return pl.when(fault == by).then(one_of(table)).otherwise(name)

    times = tuple(f',"event_time":{time}' for time in _BAD_TIMES)
    tails = {"unknown_fields": _UNKNOWN, "wrong_type": _WRONG, "invalid_value": _BAD_VALUES,
             "invalid_source": _BAD_SOURCES, "unreadable_time": times}  # fmt: skip
    tail = pl.coalesce(pl.when(fault == name).then(one_of(table)) for name, table in tails.items())
    nameless, known = fault == "null_ids", pl.col("user_id").is_not_null()
    # The fields of the tail must not occur twice.
    without = fault.is_in(["wrong_type", "invalid_value"])
    long = pl.when(fault == "long_field").then(one_of(_LONG_FIELDS))
    events = events.with_columns(
        event_id=replaced("event_id", "invalid_event_id", _BAD_IDS),
        event_type=replaced("event_type", "invalid_event_type", _BAD_TYPES),
        channel=replaced("channel", "invalid_channel", _BAD_CHANNELS),
        currency=replaced("currency", "invalid_currency", _BAD_CURRENCIES),
        text=pl.when(fault == "long_text").then(pl.lit(_LONG_TEXT)).otherwise("text"),
        user_id=pl.when(nameless & known).then(one_of(NULLISH)).otherwise("user_id"),
        anonymous_id=pl.when(nameless & ~known).then(one_of(NULLISH)).otherwise("anonymous_id"),
        person=pl.when(~nameless).then("person").when(known).then("visitor"),
        **{name: pl.when(~without).then(name) for name in ("cents", "quantity", "rating", "is_bot")},
        tail=tail,
        cut=pl.lit(pl.Series(draws.between(0, 2**31, n))),
        _long=long,
    )
    return events.with_columns(
        event_type=pl.when(fault != "missing_event_type").then("event_type"),
        properties=pl.when(fault != "huge_lines").then("properties"),
        **{name: pl.when(pl.col("_long") == name).then(pl.lit("long " * 450)).otherwise(name) for name in _LONG_FIELDS},
    )


def _copies(draws: Draws, faulty: pl.DataFrame) -> pl.DataFrame:
    """Second deliveries: received later, with the same client time."""
    fault = pl.col("fault")
    again = (*GROUPS["repeats"], "repeats_too_late", "conflicts")
    copies = faulty.filter(fault.is_in(again) | ((fault == "missing_id") & (pl.col("cut") // 2 % 2 == 0)))
    n, conflict = copies.height, fault == "conflicts"

    def after(low: int, high: int) -> pl.Expr:
        return pl.col("received_ms") + pl.lit(pl.Series(draws.between(low, high, n)))

    received = (
        pl.when(fault == "repeats_near")
        .then(after(200, 30 * SECOND))
        .when(fault == "repeats_far")
        .then(after(2 * MINUTE, 6 * HOUR))
        .when(fault == "repeats_too_late")
        .then(pl.col("event_ms") + _too_late(draws, n))
        .otherwise(after(SECOND, 10 * MINUTE))
    )
    priced = pl.col("cents").is_not_null()
    other = pl.concat_str(pl.col("content_id").fill_null("p"), pl.lit("-b"))
    return copies.with_columns(
        copy=1,
        code=pl.when(fault == "repeats_too_late").then(pl.lit("too_late")),
        received_ms=received,
        arrival=received,
        cents=pl.when(conflict & priced).then(pl.col("cents") + 100).otherwise("cents"),
        content_id=pl.when(conflict & ~priced).then(other).otherwise("content_id"),
    )
