"""Deliveries as the lines of a file: JSON of the native format, and faults that edit its bytes."""

import polars as pl

_NOT_JSON = (b"GET /pixel.gif HTTP/1.1", b"page_view,u17,2026-03-01", b'["page_view","u17"]', b"null",
             b"<html>502</html>", b"{'event_type': 'click'}", b"42")  # fmt: skip
UNREAD = ("truncated", "not_json", "bad_utf8")
_EDITED = (*UNREAD, "missing_id", "huge_lines")
_PEOPLE = ("user_id", "anonymous_id", "session_id")
_ABOUT = ("content_id", "content_type", "category", "channel", "campaign", "referrer", "country", "device")
_FILLER = b"a long story, told again and again; "
_HUGE_BYTES = 100_000


def lines_of(deliveries: pl.DataFrame) -> pl.DataFrame:
    """Deliveries as arrival, index, copy, received_us (null if the line has none) and line (Binary)."""
    cents = pl.col("cents")
    value = pl.format("{}.{}", cents // 100, (cents % 100).cast(pl.String).str.zfill(2))
    unread = pl.col("fault").is_in(UNREAD)
    lines = deliveries.select(
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
            *[_field(name) for name in (*_PEOPLE, *_ABOUT)],
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
    edited = deliveries.select("fault", "cut", row=pl.int_range(pl.len())).filter(pl.col("fault").is_in(_EDITED))
    texts = lines["line"].to_list()
    for fault, cut, row in edited.iter_rows():
        texts[row] = _edit(texts[row], fault, cut)
    return lines.with_columns(line=pl.Series(texts, dtype=pl.Binary))


def huge_in_extra(cut: pl.Expr) -> pl.Expr:
    """Whether a huge line has a huge unknown field, else huge properties."""
    return cut % 2 == 1


def _field(name: str, value: pl.Expr | None = None, quote: str = '"') -> pl.Expr:
    """The text `,"name":value`, empty if the value is null; the default value is the column `name`."""
    text = pl.format(f',"{name}":{quote}{{}}{quote}', pl.col(name) if value is None else value)
    return text.fill_null("")


def _time_field(name: str, ms: str) -> pl.Expr:
    return _field(name, pl.from_epoch(ms, "ms").dt.strftime("%Y-%m-%dT%H:%M:%S%.3fZ"))


def _edit(line: bytes, fault: str, cut: int) -> bytes:
    """The line as edited by a fault of its bytes."""
    if fault == "truncated":
        return line[: 1 + cut % (len(line) - 1)]
    if fault == "not_json":
        return _NOT_JSON[cut % len(_NOT_JSON)]
    if fault == "bad_utf8":
        return line.replace(b'"event_id":"', b'"event_id":"caf\xe9-')  # Latin-1, not UTF-8
    if fault == "missing_id":  # absent or null
        return (b'{"event_id":null,' if cut % 2 else b"{") + line[line.index(b",") + 1 :]
    size = _HUGE_BYTES + cut % (3 * _HUGE_BYTES)
    story = (_FILLER * (size // len(_FILLER) + 1))[:size]
    named = b',"story":"%b"}' if cut % 2 else b',"properties":{"story":"%b"}}'
    return line[:-1] + named % story
