"""Support by hour: a story with figures computed by hand, and random stories compared with a replay, event by event."""

import random
from collections import defaultdict
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from transforms.insight.support import SUPPORT_SCHEMA, SUPPORT_TYPES, support

T = datetime(2026, 3, 2, 10, tzinfo=UTC)
SCHEMA = {
    "event_id": pl.String,
    "event_type": pl.String,
    "event_time": pl.Datetime("us", "UTC"),
    "channel": pl.String,
    "properties": pl.String,
}
MINUTE = timedelta(minutes=1)


def event(minute: float, kind: str, ticket: str | None, channel: str | None = "web") -> tuple:
    properties = None if ticket is None else f'{{"ticket_id": "{ticket}"}}'
    return f"{minute}{kind}{ticket}{channel}", f"support_{kind}", T + minute * MINUTE, channel, properties


def rows(events: list[tuple]) -> list[tuple]:
    return support(pl.DataFrame(events, SCHEMA, orient="row")).rows()


def test_a_story_of_four_tickets():
    events = [
        event(1, "ticket", "a"),
        event(2, "ticket", "b"),
        event(3, "ticket", None),  # of no number: stays open
        event(11, "reply", "a", "email"),  # 600 s; the channel of the beginning counts
        event(20, "reply", "a"),
        event(22, "reply", "b"),  # 1,200 s
        event(30, "resolved", "a"),
        event(31, "resolved", "a"),  # already resolved: no change
        event(70, "reopened", "a"),
        event(75, "ticket", "c", "email"),
        event(80, "resolved", "b"),
        event(5, "resolved", "nobody"),  # of a ticket that never began
    ]
    assert rows(events) == [
        (T, "web", 3, 2, 900.0, 1140.0, 1, 0, 2),
        (T + 60 * MINUTE, "email", 1, 0, None, None, 0, 0, 1),
        (T + 60 * MINUTE, "web", 0, 0, None, None, 1, 1, 2),
    ]


def test_no_ticket_gives_no_row_with_the_columns_all_the_same():
    assert support(pl.DataFrame(schema=SCHEMA)).schema == pl.Schema(SUPPORT_SCHEMA)
    assert rows([event(1, "reply", "a")]) == []


@pytest.mark.parametrize("seed", range(3))
def test_random_stories_have_the_counts_of_a_replay(seed):
    draw = random.Random(seed)
    kinds = [kind.removeprefix("support_") for kind in SUPPORT_TYPES]
    events = [
        event(at * 7 + draw.random(), draw.choice(kinds), f"t{draw.randint(0, 30)}", draw.choice(["web", None]))
        for at in range(300)
    ]
    opened, resolved, reopened, is_open, of = defaultdict(int), defaultdict(int), defaultdict(int), {}, {}
    backlog = {}
    for _, kind, time, channel, properties in events:  # in the order of time
        ticket, hour = properties, time.replace(minute=0, second=0, microsecond=0)
        if kind == "support_ticket" and ticket not in is_open:
            of[ticket], is_open[ticket] = channel, True
            opened[hour, channel] += 1
        elif ticket in is_open and kind in ("support_ticket", "support_reopened") and not is_open[ticket]:
            is_open[ticket] = True
            reopened[hour, of[ticket]] += 1
        elif ticket in is_open and kind == "support_resolved" and is_open[ticket]:
            is_open[ticket] = False
            resolved[hour, of[ticket]] += 1
        else:
            continue
        backlog[hour, of[ticket]] = sum(is_open[each] for each in of if of[each] == of[ticket])
    shuffled = draw.sample(events, len(events))
    found = {(row[0], row[1]): (row[2], row[6], row[7], row[8]) for row in rows(shuffled)}
    expected = {key: (opened[key], resolved[key], reopened[key], backlog[key]) for key in backlog}
    assert found == expected
