"""Pub/Sub messages as what ../messages.py makes blocks of.

received_time   the value of `timestamp_attribute` (RFC 3339, or s, ms, us or ns since 1970, whichever is between 2000
                and 2100), where it is given and readable; otherwise the publish time. Those that are given and cannot
                be read are counted
"""

from codecs import BOM_UTF8
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import polars as pl

from pipelines.sources.messages import Poll, encode_attributes
from transforms.block import TIME
from transforms.mapping.functions import to_time
from transforms.records.times import EPOCH_UNITS, read_times

STAMPS_UNREADABLE = "stamps-unreadable"  # of Beam's metrics
_EPOCH = r"^[0-9]{9,19}(?:\.[0-9]*)?$"
_FIRST, _END = 946_684_800, 4_102_444_800  # seconds of 2000 and 2100: the ranges of the units do not overlap


class Stamped(NamedTuple):
    """The received times of messages, in microseconds since 1970, and how many stamps cannot be read."""

    times: list[int]
    unreadable: int = 0


def poll_of(received: Iterable[Any], timestamp_attribute: str | None) -> Poll:
    """Protobuf ReceivedMessages as a Poll."""
    ack_ids, payloads, ids, published, attributes, stamps, size = [], [], [], [], [], [], 0
    for each in received:
        message = each.message
        data, own = message.data.removeprefix(BOM_UTF8), message.attributes
        time = message.publish_time
        ack_ids.append(each.ack_id)
        payloads.append(data)
        ids.append(message.message_id)
        published.append(time.seconds * 1_000_000 + time.nanos // 1_000)
        attributes.append(encode_attributes(own, message.ordering_key))
        if timestamp_attribute is not None:
            stamps.append(own.get(timestamp_attribute))
        size += len(data) + len(attributes[-1])
    stamped = Stamped(published) if timestamp_attribute is None else received_times(stamps, published)
    return Poll(ack_ids, payloads, ids, stamped.times, attributes, size, stamped.unreadable)


def received_times(stamps: Sequence[str | None], published: Sequence[int]) -> Stamped:
    """The times as stamped, or the publish time, in microseconds since 1970, where a stamp is absent or unreadable."""
    texts = pl.Series(stamps, dtype=pl.String)
    is_number = texts.str.contains(_EPOCH).fill_null(False)
    times = read_times(texts.set(is_number, None))
    if is_number.any():
        times = times.fill_null(_read_numbers(texts.set(~is_number, None)))
    unreadable = times.null_count() - texts.null_count()
    return Stamped(times.dt.epoch("us").fill_null(pl.Series(published, dtype=pl.Int64)).to_list(), unreadable)


def _read_numbers(texts: pl.Series) -> pl.Series:
    """Counts since 1970 in the one unit that makes each a time between 2000 and 2100; null where none does."""
    times = pl.Series([None], dtype=TIME).new_from_index(0, len(texts))
    whole = texts.str.extract(r"^([0-9]+)").cast(pl.Int64, strict=False)
    for unit, of in EPOCH_UNITS.items():
        fits = whole.is_between(_FIRST * of, _END * of, closed="left").fill_null(False)
        if fits.any():
            times = times.fill_null(to_time(texts.set(~fits, None), unit))
    return times
