"""Check a mapping against a sample: how many records pass, which fail and why, and what the events would contain.

The rules are those of a backfill (pipelines/apps/mapping/rehearsal.py). No warehouse is opened; nothing is written.
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

import msgspec
import polars as pl

from pipelines.apps.mapping.rehearsal import Rehearsal, apply_mapping, rehearse
from pipelines.apps.mapping.sample import blocks, first_rows
from pipelines.settings.config import read_mapping
from pipelines.sources.files.read import CsvFormat, check_inputs
from pipelines.sources.files.standard_input import known_as
from pipelines.system.terminal import shown
from transforms.block import FIELDS
from transforms.errors import SourceError
from transforms.mapping import Mapping, required_columns, states_zone
from transforms.mapping.spec import Field, Fields
from transforms.records.times import EPOCH_UNITS, RFC3339

SAMPLE_ROWS = 100_000
ZONED = r"(?i)[zZ]\]?$|[+-]\d{2}(:?\d{2})?\]?$|\b(UTC|GMT)\b|\[[A-Za-z/_]+\]$"  # the end of a text that states its zone
EXAMPLES, LONGEST = 3, 40
_decode = msgspec.json.Decoder().decode


class Failed(msgspec.Struct, frozen=True):
    """Records rejected by a rule for one reason. `path` is the field; `position` is that of the first such record."""

    stage: str
    code: str
    path: str
    message: str
    records: int
    share: float
    position: str


class Filled(msgspec.Struct, frozen=True):
    """A field of the events: the share of events that have it, its distinct values, and the most common ones."""

    field: str
    share: float
    distinct: int
    examples: list[str]


class Unmapped(msgspec.Struct, frozen=True):
    """A value that is missing from the map of a field."""

    field: str
    value: str
    records: int


class Check(msgspec.Struct, frozen=True):
    """The outcome of a sample; counts are of records, except `events` and what describes them."""

    records: int
    passed: int
    share: float
    events: int
    duplicates: int
    conflicts: int
    alike: int  # duplicates without an id of their own: all their fields are equal
    first_time: str | None
    last_time: str | None
    failed: list[Failed]
    event_types: dict[str, int]
    time_sources: dict[str, int]
    fields: list[Filled]
    unmapped: list[Unmapped]
    zoneless: int  # records whose time states no zone, and is read as UTC
    extra: dict[str, int]  # keys that no field reads -> the number of events that have them


class Checked(msgspec.Struct, frozen=True):
    """A check, and what only the terminal shows: the first record of each failure, shortened."""

    check: Check
    records: list[str]  # parallel to `check.failed`


def check_file(path: str, patterns: Sequence[str], format: str = "auto", rows: int = SAMPLE_ROWS) -> Checked:
    """Run up to `rows` records of the files through the mapping in the file. Errors: ConfigError, SourceError."""
    mapping = read_mapping(path)
    form = mapping.format if format == "auto" and mapping.format else format
    csv = mapping.csv or CsvFormat()
    needed, local_times = required_columns(mapping), states_zone(mapping)
    files = check_inputs(patterns, form, csv, needed, mapping.encoding, mapping.records, local_times)
    raw = list(first_rows(blocks(files, csv, mapping.source), rows))
    if not raw:
        raise SourceError(f"{' '.join(map(known_as, patterns))}: contains no records; name a file that has some")
    return check(raw, mapping)


def check(raw: Sequence[pl.DataFrame], mapping: Mapping) -> Checked:
    """Run RAW_SCHEMA blocks through the mapping."""
    done = rehearse(raw, mapping)
    events = pl.concat([done.events, done.duplicates])
    failed = _group_failures(done)
    times = events["event_time"]
    checked = Check(
        records=done.records,
        passed=done.passed(),
        share=done.passed() / done.records if done.records else 0.0,
        events=len(done.events),
        duplicates=len(done.duplicates),
        conflicts=len(done.conflicts),
        alike=len(done.duplicates.filter(pl.col("id_source") == "derived")),
        first_time=_time_text(times.min()),
        last_time=_time_text(times.max()),
        failed=[failure for failure, _ in failed],
        event_types=_counts(events["event_type"]),
        time_sources=_counts(events["time_source"]),
        fields=_describe_fields(events, mapping),
        unmapped=list(_find_unmapped(raw, mapping)),
        zoneless=_count_zoneless(raw, mapping),
        extra=_extra(events["extra"]),
    )
    return Checked(checked, [record for _, record in failed])


def _group_failures(done: Rehearsal) -> list[tuple[Failed, str]]:
    """Return the rejections by stage, code and path, the most frequent first, each with its first record."""
    groups: dict[tuple[str, str, str], Failed] = {}
    records: dict[tuple[str, str, str], str] = {}
    first = (pl.len(), pl.col("position").first(), pl.col("payload").first())
    together = done.rejected.group_by("stage", "code", "errors", maintain_order=True).agg(*first)
    for stage, code, errors, count, position, payload in together.iter_rows():
        error = next((each for each in _decode(errors) if each["code"] == code), _decode(errors)[0])
        key = (stage, code, error["path"])
        if key in groups:
            more = groups[key].records + count
            groups[key] = msgspec.structs.replace(groups[key], records=more, share=more / done.records)
            continue
        groups[key] = Failed(*key, error["message"], count, count / done.records, position)
        records[key] = (payload or b"").decode("utf-8", errors="replace")
    ordered = sorted(groups, key=lambda key: -groups[key].records)
    return [(groups[key], records[key]) for key in ordered]


def _describe_fields(events: pl.DataFrame, mapping: Mapping) -> list[Filled]:
    fields, is_mapped = [], any("received_time" in rule.fields for rule in mapping.rules())
    for name in ("event_time", "received_time", "sent_time", *FIELDS):
        values = events[name].drop_nulls()
        # A record without a received_time of its own gets its event time.
        if not len(values) or name == "extra" or (name == "received_time" and not is_mapped):
            continue
        counted = values.value_counts(name="n").sort(["n", name], descending=[True, False])
        texts = [_example(value) for value in counted[name].head(EXAMPLES).to_list()]
        examples = [shorten(text, LONGEST) for text in texts if not text.startswith("derived:")]
        fields.append(Filled(name, len(values) / len(events), len(counted), examples))
    return fields


def _example(value: Any) -> str:
    if isinstance(value, datetime):
        return _time_text(value) or ""
    if isinstance(value, Decimal):
        return f"{value:f}".rstrip("0").rstrip(".") if value else "0"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _find_unmapped(raw: Sequence[pl.DataFrame], mapping: Mapping) -> Iterator[Unmapped]:
    """Yield the values that a map lacks, whether they fail or become `else`."""
    with_map: list[tuple[str, Field]] = []
    for rule in mapping.rules():  # a field that several rules share counts once
        with_map += [each for each in rule.fields.items() if each[1].map is not None and each not in with_map]
    for name, field in with_map:
        counts: Counter[str] = Counter()
        for texts in _texts_of(raw, mapping, field):
            counts.update(_counts(texts.filter(~texts.is_in(list(field.map or ())))))
        yield from (Unmapped(name, value, count) for value, count in counts.most_common())


def _count_zoneless(raw: Sequence[pl.DataFrame], mapping: Mapping) -> int:
    read: list[Field] = []
    for rule in mapping.rules():  # a field that several rules share counts once
        field = rule.fields.get("event_time")
        read += [field] if field is not None and field not in read and _reads_texts(field) else []
    return sum(int((~texts.str.contains(ZONED)).sum()) for field in read for texts in _texts_of(raw, mapping, field))


def _reads_texts(field: Field) -> bool:
    """Return whether the zone of a time can only be in its text: no epoch, and none stated in the mapping."""
    form = field.time or RFC3339
    return form not in EPOCH_UNITS and field.const is None and not re.search(r"%[#:]*[zZ]|Z$|UTC|GMT", form)


def _texts_of(raw: Sequence[pl.DataFrame], mapping: Mapping, field: Field) -> Iterator[pl.Series]:
    """Yield what a field reads before its map and its time, as texts, by the mapping's own functions."""
    before = msgspec.structs.replace(field, map=None, otherwise=None, default=None, time=None)
    stated = {"event_type": Field(const="event"), "text": before}
    alone = msgspec.structs.replace(
        mapping, fields=Fields(**stated), match=None, events=None, tests=(), clock="client", on_error="null"
    )
    for block in raw:
        yield apply_mapping(block, alone)[0]["text"].drop_nulls()


def _extra(extra: pl.Series) -> dict[str, int]:
    counts = Counter(key for text in extra.drop_nulls().to_list() for key in _decode(text))
    return dict(counts.most_common())


def _counts(values: pl.Series) -> dict[str, int]:
    name = values.name
    counted = values.drop_nulls().value_counts(name="n").sort(["n", name], descending=[True, False])
    return dict(zip(counted[name], counted["n"], strict=True))


def _time_text(time: Any) -> str | None:
    return None if time is None else time.isoformat().replace("+00:00", "Z")


def shorten(text: str, most: int) -> str:
    """Return at most `most` characters of the text on one line, with terminal control characters escaped."""
    line = shown(text[: most + 1])  # no more than can be shown
    return line if len(line) <= most else f"{line[: most - 1]}…"
