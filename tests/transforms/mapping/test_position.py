"""`sequence: position`: the position of a record, or of its items, as a number that orders the events of one time."""

import polars as pl
import pytest

from transforms.errors import ConfigError
from transforms.mapping import load_mapping
from transforms.mapping.position import sequence_of


def numbers(*positions: str, exploded: bool = False, attributes: str | None = None) -> list[int | None]:
    raw = pl.DataFrame(
        {"position": positions, "attributes": [attributes] * len(positions)},
        schema={"position": pl.String, "attributes": pl.String},
    )
    return sequence_of(raw, exploded).to_list()


def test_it_is_the_line_the_byte_or_the_row_group_and_row():
    assert numbers("a/b.jsonl:1", "a/b.jsonl:12", "gs://b/c.csv@4096") == [1, 12, 4096]
    rows = numbers("p:0:5", "p:0:268435455", "p:1:0", "p:2:7", attributes='{"format":"parquet"}')
    assert rows == [5, 2**28 - 1, 2**28, 2 * 2**28 + 7]


def test_a_number_in_the_name_of_a_file_is_none_of_its_position():
    assert numbers("2026-03-01T10:00:7", "log:99999999999999999999:8") == [7, 8]


def test_elements_are_ordered_within_their_record_and_records_before_the_next_one():
    items = ("f:1#0", "f:1#2/click", "f:1#99999/click", "f:2#0")
    assert numbers(*items, exploded=True) == [100_000, 100_002, 199_999, 200_000]
    assert numbers("f:3/click", "f:3") == [3, 3]


def test_a_message_has_no_position_but_its_elements_have():
    assert numbers("12345678901") == [None]
    assert numbers("12345678901#4", "12345678901#5/a", exploded=True) == [4, 5]


def test_a_mapping_states_it_once():
    load_mapping("source: s\nsequence: position\nfields: {event_type: {const: a}}", "m.yaml")
    with pytest.raises(ConfigError, match=r"\.sequence: got 'position' beside \.fields\.sequence, allowed one of them"):
        load_mapping("source: s\nsequence: position\nfields: {event_type: {const: a}, sequence: {path: n}}", "m.yaml")
    with pytest.raises(ConfigError, match=r"\.sequence: got 'line', allowed position"):
        load_mapping("source: s\nsequence: line\nfields: {event_type: {const: a}}", "m.yaml")
