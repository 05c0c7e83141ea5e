"""The ledger: exactly what was written, and the numbers that a warehouse must hold afterwards.

Tally(audience, faults).add(deliveries), .ledger()  -> Ledger
expectations(ledger)      -> list[Expectation], queries in BigQuery's SQL with their expected answers
unmet(ledger, warehouse)  -> list[str], a line for each expectation that the warehouse does not meet
"""

from collections import Counter
from datetime import date
from typing import NamedTuple

import msgspec
import numpy as np
import polars as pl

from pipelines.apps.simulator.deliveries import HOT, NULLISH
from pipelines.apps.simulator.events import Audience
from pipelines.apps.simulator.faults import CLEAN, CODES, NAMES, Faults
from pipelines.apps.simulator.lines import huge_in_extra
from pipelines.warehouse.interface import Warehouse

TIME_SOURCES = {  # time_source of the events with each fault; all other accepted events have `client`
    "fast_clock": "skew_corrected",
    "future": "future_clamped",
    "missing_time": "received_missing",
    "unreadable_time": "received_invalid",
}


class Ledger(msgspec.Struct, frozen=True):
    """What was written, and so what a run with default options, without --start and --end, must find.

    Always: lines = accepted + repeats + conflicts + the sum of quarantined, which is `received` of the audit counts;
    accepted = the sum of time_sources = the sum of events_by_type. "Rows" are rows of `events` unless a table is named.
    """

    seed: int
    events: int  # records generated, before copies
    days: int
    start: date
    faults: Faults
    injected: dict[str, int]  # records with each fault, by its name; `bots` and `hot_key` may come with another
    lines: int  # lines of the file; audit counts: sum of received
    accepted: int  # rows
    repeats: int  # unchanged copies in time; audit counts: duplicates = repeats + conflicts
    conflicts: int  # changed copies; audit counts: conflicts
    quarantined: dict[str, int]  # rows of `quarantine` by code, 0 for a code without any
    time_sources: dict[str, int]  # rows by time_source, 0 for a rule without any
    late: int  # rows received 2 to 20 h after event_time, and sent just before, if they have a sent_time
    slow: int  # rows of `client` time that were sent, by the client's clock, minutes to hours before they were received
    derived_ids: int  # rows whose id_source is `derived`
    warnings: dict[str, int]  # rows by warning: null_user_id, null_anonymous_id
    with_extra: int  # rows with an `extra`
    huge: int  # rows with more than 100,000 characters in properties or extra
    bots: int  # rows with is_bot
    hot: int  # rows with the user_id `hot`
    events_by_type: dict[str, int]  # rows by event_type
    users: int  # distinct person (user_id, else anonymous_id)
    # Ids delivered twice with different fields; type, person and event_time are the same in both. A batch
    # run keeps the first delivered, a stream the first that arrives.
    conflicted_ids: list[str]


class Tally:
    """The counts of what was written so far."""

    def __init__(self, audience: Audience, faults: Faults):
        self.audience, self.faults = audience, faults
        self.counts: Counter[str] = Counter()
        self.injected: Counter[str] = Counter(dict.fromkeys(NAMES, 0))
        self.quarantined: Counter[str] = Counter(dict.fromkeys(CODES.values(), 0))
        self.accepted: Counter[str] = Counter()  # by fault
        self.types: Counter[str] = Counter()
        self.seen = np.zeros(audience.hot_person + 1, dtype=bool)  # by user, anonymous visitor and the hot one
        self.conflicted: list[str] = []

    def add(self, deliveries: pl.DataFrame) -> None:
        """Count a block of deliveries, from `deliver`."""
        self.counts["lines"] += deliveries.height
        self.quarantined.update(_count_by(deliveries.drop_nulls("code"), "code"))
        copies = deliveries.filter((pl.col("copy") == 1) & pl.col("code").is_null())
        conflicts = copies.filter(pl.col("fault") == "conflicts")["event_id"].to_list()
        self.conflicted += conflicts
        self.counts["repeats"] += copies.height - len(conflicts)
        first = deliveries.filter(pl.col("copy") == 0)
        self.injected.update({name: n for name, n in _count_by(first, "fault").items() if name != CLEAN})
        self._accept(first.filter(pl.col("code").is_null()))
        self.injected["bots"] += int(first["bot"].sum())
        self.injected["hot_key"] += int(first["hot"].sum())

    def _accept(self, accepted: pl.DataFrame) -> None:
        self.counts["accepted"] += accepted.height
        self.counts["bots"] += accepted["is_bot"].count()
        self.counts["hot"] += accepted.filter(pl.col("user_id") == HOT).height
        self.accepted.update(_count_by(accepted, "fault"))
        for field in ("user_id", "anonymous_id"):
            self.counts[f"null_{field}"] += accepted.filter(pl.col(field).is_in(NULLISH)).height
        huge = accepted.filter(pl.col("fault") == "huge_lines")
        self.counts["huge_extra"] += huge.filter(huge_in_extra(pl.col("cut"))).height
        self.types.update(_count_by(accepted, "event_type"))
        self.seen[accepted["person"].drop_nulls().to_numpy()] = True

    def ledger(self) -> Ledger:
        """The ledger; complete once all blocks are added."""
        count, by_fault = self.counts, self.accepted
        sources = {source: by_fault[fault] for fault, source in TIME_SOURCES.items()}
        return Ledger(
            seed=self.audience.seed,
            events=self.audience.events,
            days=self.audience.days,
            start=self.audience.start,
            faults=self.faults,
            injected=dict(self.injected),
            lines=count["lines"],
            accepted=count["accepted"],
            repeats=count["repeats"],
            conflicts=len(self.conflicted),
            quarantined=dict(sorted(self.quarantined.items())),
            time_sources={"client": count["accepted"] - sum(sources.values())} | sources,
            late=by_fault["late"],
            slow=by_fault["slow_clock"],
            derived_ids=by_fault["missing_id"],
            warnings={name: count[name] for name in ("null_user_id", "null_anonymous_id")},
            with_extra=by_fault["unknown_fields"] + by_fault["unreadable_time"] + count["huge_extra"],
            huge=by_fault["huge_lines"],
            bots=count["bots"],
            hot=count["hot"],
            events_by_type=dict(sorted(self.types.items())),
            users=int(self.seen.sum()),
            conflicted_ids=sorted(self.conflicted),
        )


def _count_by(rows: pl.DataFrame, name: str) -> dict[str, int]:
    return dict(rows.group_by(name).len().iter_rows())


class Expectation(NamedTuple):
    """A query of the warehouse, in BigQuery's SQL, and the number that it must return."""

    name: str
    sql: str
    expected: int


_SENT_LONG_BEFORE = "TIMESTAMP_DIFF(received_time, sent_time, MICROSECOND) > 60000000"
_AGE = "TIMESTAMP_DIFF(received_time, event_time, MICROSECOND)"
_HOUR = 3_600_000_000  # microseconds
_WRONG_TIME = {  # rows whose event_time contradicts their time_source
    "client": "event_time <> client_time",
    "skew_corrected": f"{_AGE} <> TIMESTAMP_DIFF(sent_time, client_time, MICROSECOND)",
    "future_clamped": "event_time <> received_time OR client_time <= received_time",
    "received_missing": "event_time <> received_time OR client_time IS NOT NULL",
    "received_invalid": "event_time <> received_time OR client_time IS NOT NULL",
}
_TOO_LONG_TEXT = "TO_JSON_STRING(errors) LIKE '%$.text%'"


def expectations(ledger: Ledger) -> list[Expectation]:
    """The numbers of a warehouse that holds nothing but the ledger's file.

    They also hold for a stream that delivers the lines in order and takes received_time from them.
    """
    return [
        *_of_audit_counts(ledger),
        *_of_quarantine(ledger),
        *_of_events(ledger),
        *_of_times(ledger),
        *_of_ids(ledger),
    ]


def unmet(ledger: Ledger, warehouse: Warehouse) -> list[str]:
    """`name: expected, found` of each expectation that the warehouse does not meet."""
    every = expectations(ledger)
    asked = (f"SELECT {place} AS place, CAST(({each.sql}) AS INT64) AS found" for place, each in enumerate(every))
    answers = dict(
        pl.concat(warehouse.ask(" UNION ALL ".join(asked))).iter_rows()
    )  # one question, as each opens the warehouse
    pairs = ((each, answers[place]) for place, each in enumerate(every))
    return [f"{each.name}: expected {each.expected}, found {got}" for each, got in pairs if got != each.expected]


def _of_audit_counts(ledger: Ledger) -> list[Expectation]:
    totals = {
        "received": ledger.lines,
        "events": ledger.accepted,
        "duplicates": ledger.repeats + ledger.conflicts,
        "conflicts": ledger.conflicts,
        "quarantined": sum(ledger.quarantined.values()),
        "out_of_range": 0,
        "replaced": 0,
    }
    sums = [
        Expectation(f"audit counts: {name}", f"SELECT COALESCE(SUM({name}), 0) FROM quality_1m_current", total)
        for name, total in totals.items()
    ]
    return [*sums, _rows("audit counts: unbalanced minutes", "quality_1m_current", "balance <> 0", 0)]


def _of_quarantine(ledger: Ledger) -> list[Expectation]:
    codes, injected = ledger.quarantined, ledger.injected
    listed = ", ".join(f"'{code}'" for code in codes)
    return [
        _rows("quarantine", "quarantine", "TRUE", sum(codes.values())),
        *(_rows(f"quarantine: {code}", "quarantine", f"code = '{code}'", count) for code, count in codes.items()),
        _rows("quarantine: any other code", "quarantine", f"code IS NULL OR code NOT IN ({listed})", 0),
        _rows(
            "quarantine: a long text", "quarantine", f"code = 'too_long' AND {_TOO_LONG_TEXT}", injected["long_text"]
        ),
        Expectation("quarantine: ids", "SELECT COUNT(DISTINCT quarantine_id) FROM quarantine", sum(codes.values())),
    ]


def _of_events(ledger: Ledger) -> list[Expectation]:
    long = "LENGTH(TO_JSON_STRING({})) > 100000"
    types = ledger.events_by_type
    return [
        _events("rows", "TRUE", ledger.accepted),
        *(_events(name, f"event_type = '{name}'", count) for name, count in types.items()),
        *(_events(f"warning {name}", f"warnings = '{name}'", count) for name, count in ledger.warnings.items()),
        _events("any warning", "warnings IS NOT NULL", sum(ledger.warnings.values())),
        _events("extra", "extra IS NOT NULL", ledger.with_extra),
        _events("huge", f"{long.format('properties')} OR {long.format('extra')}", ledger.huge),
        _events("bots", "is_bot", ledger.bots),
        _events("hot key", f"user_id = '{HOT}'", ledger.hot),
        Expectation(
            "events: users", "SELECT COUNT(DISTINCT COALESCE(user_id, anonymous_id)) FROM events", ledger.users
        ),
    ]


def _of_times(ledger: Ledger) -> list[Expectation]:
    sources = ledger.time_sources
    received_late = f"time_source = 'client' AND {_AGE} >= {2 * _HOUR}"
    return [
        *(_events(f"time_source {name}", f"time_source = '{name}'", count) for name, count in sources.items()),
        *(
            _events(f"event_time not as {name} says", f"time_source = '{name}' AND ({wrong})", 0)
            for name, wrong in _WRONG_TIME.items()
        ),
        _events("late", f"{received_late} AND ({_SENT_LONG_BEFORE}) IS NOT TRUE", ledger.late),
        _events("slow clock", f"time_source = 'client' AND {_SENT_LONG_BEFORE}", ledger.slow),
        _events("too late", f"{_AGE} > {24 * _HOUR}", 0),
    ]


def _of_ids(ledger: Ledger) -> list[Expectation]:
    conflicted = ", ".join(f"'{id}'" for id in ledger.conflicted_ids) or "''"
    return [
        Expectation("events: distinct ids", "SELECT COUNT(DISTINCT event_id) FROM events", ledger.accepted),
        _events("derived ids", "id_source = 'derived' AND event_id LIKE 'derived:%'", ledger.derived_ids),
        _events("client ids", "id_source = 'client'", ledger.accepted - ledger.derived_ids),
        _events("conflicted ids", f"event_id IN ({conflicted})", ledger.conflicts),
    ]


def _rows(name: str, table: str, where: str, expected: int) -> Expectation:
    return Expectation(name, f"SELECT COUNT(*) FROM {table} WHERE {where}", expected)


def _events(name: str, where: str, expected: int) -> Expectation:
    return _rows(f"events: {name}", "events", where, expected)
