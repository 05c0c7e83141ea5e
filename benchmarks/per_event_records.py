"""One record of per_event_rival.py: a line's bytes -> an event as dict, or the code of the rule it breaks."""

import hashlib
import json
import re
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_UP, Context, Decimal

TEXTS = (
    *(
        "user_id",
        "anonymous_id",
        "session_id",
        "content_id",
        "content_type",
        "category",
        "channel",
        "campaign",
    ),
    *("referrer", "country", "device", "currency", "text"),
)
STRINGS = ("event_id", "event_type", "source", *TEXTS)
KNOWN = {
    "event_time",
    "sent_time",
    "received_time",
    "value",
    "quantity",
    "is_bot",
    "rating",
    "properties",
    *STRINGS,
}
LONGEST = {name: 256 for name in TEXTS if name not in ("channel", "currency", "text")} | {"referrer": 2048}
EVENT_TYPE = re.compile(r"[a-z][a-z0-9_]{0,63}").fullmatch
SOURCE = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}").fullmatch
CURRENCY = re.compile(r"[A-Z]{3}").fullmatch
CHANNELS = {"web", "mobile", "social", "iot", "email", "pos", "server", "other"}
NULL_IDS = {"", "null", "undefined", "none", "nan", "[object object]", "00000000-0000-0000-0000-000000000000"}
WIDE = Context(prec=60, rounding=ROUND_HALF_UP)
NINE_PLACES = Decimal("1E-9")
SKEW, FUTURE, MAX_LATENESS = timedelta(seconds=60), timedelta(hours=1), timedelta(days=1)


class Refused(Exception):
    """A record that breaks the contract; the argument is the code."""


def read_record(line: bytes) -> dict:
    """The JSON object that a line holds; raise Refused where it holds none."""
    try:
        record = json.loads(line, parse_constant=_refuse)
    except (ValueError, RecursionError):
        raise Refused("invalid_json") from None
    if not isinstance(record, dict):
        raise Refused("invalid_json")
    return record


def _refuse(constant: str):
    raise Refused("invalid_json")


def read_event(record: dict) -> dict:
    """Take the fields of the contract out of a record; raise Refused where one has the wrong type."""
    get = record.get
    event = {name: get(name) for name in STRINGS}
    for value in event.values():
        if value is not None and type(value) is not str:
            raise Refused("wrong_type")
    value, quantity, is_bot, rating = get("value"), get("quantity"), get("is_bot"), get("rating")
    if (
        (value is not None and type(value) not in (int, float))
        or (quantity is not None and type(quantity) is not int)
        or (is_bot is not None and type(is_bot) is not bool)
        or (rating is not None and type(rating) not in (int, float))
    ):
        raise Refused("wrong_type")
    event |= {"value": value, "quantity": quantity, "is_bot": is_bot, "rating": rating}
    event["source"] = event["source"] if event["source"] is not None else "events"
    event["id_source"] = "client"
    if event["event_id"] is None:
        stated = {name: value for name, value in record.items() if name not in ("received_time", "sent_time")}
        canonical = json.dumps([event["source"], stated], sort_keys=True).encode()
        event |= {"event_id": "derived:" + hashlib.md5(canonical).hexdigest(), "id_source": "derived"}
    properties = get("properties")
    event["properties"] = None if properties is None else json.dumps(properties)
    extra = {name: value for name, value in record.items() if name not in KNOWN}
    event["extra"] = json.dumps(extra) if extra else None
    event["client_time"], event["sent_time"] = read_time(get("event_time")), read_time(get("sent_time"))
    event["received_time"] = read_time(get("received_time"))
    event["received_given"] = event["received_time"] is not None
    event["received_time"] = event["received_time"] or event["client_time"]
    return event


def read_time(text) -> datetime | None:
    """The UTC time of an RFC 3339 text, None where it is none."""
    if type(text) is not str:
        return None
    try:
        read = datetime.fromisoformat(text)
    except ValueError:
        return None
    return read.astimezone(UTC) if read.tzinfo else None


def validate(event: dict) -> None:
    """Raise Refused with the code of the first rule broken; false identifiers become None with a warning."""
    warnings = []
    for name in ("user_id", "anonymous_id"):
        if event[name] is not None and event[name].lower() in NULL_IDS:
            event[name] = None
            warnings.append(f"null_{name}")
    event["person"] = event["user_id"] if event["user_id"] is not None else event["anonymous_id"]
    event["warnings"] = ",".join(warnings) or None
    if not 1 <= len(event["event_id"]) <= 128 or not event["event_id"].isprintable():
        raise Refused("invalid_event_id")
    if event["event_type"] is None:
        raise Refused("missing_event_type")
    if not EVENT_TYPE(event["event_type"]):
        raise Refused("invalid_event_type")
    if not SOURCE(event["source"]):
        raise Refused("invalid_source")
    for name, longest in LONGEST.items():
        if event[name] is not None and len(event[name]) > longest:
            raise Refused("too_long")
    if event["channel"] is not None and event["channel"] not in CHANNELS:
        raise Refused("invalid_channel")
    if event["currency"] is not None and not CURRENCY(event["currency"]):
        raise Refused("invalid_currency")
    if event["value"] is not None:
        event["value"] = WIDE.quantize(Decimal(str(event["value"])), NINE_PLACES)
        if event["value"].adjusted() >= 29:
            raise Refused("invalid_value")
    if event["text"] is not None and len(event["text"].encode()) > 8192:
        raise Refused("too_long")


def settle_time(event: dict, record: dict) -> None:
    """Add event_time and time_source by the rules of the contract; raise Refused for no_time and too_late."""
    client, received, sent = event["client_time"], event["received_time"], event["sent_time"]
    if received is None:
        raise Refused("no_time")
    at, source = client, "client"
    if client is None:
        at, source = received, "received_missing" if record.get("event_time") is None else "received_invalid"
    else:
        if event.pop("received_given") and sent is not None and sent - received > SKEW:
            at, source = client - (sent - received), "skew_corrected"
        if at - received > FUTURE:
            at, source = received, "future_clamped"
    if received - at > MAX_LATENESS:
        raise Refused("too_late")
    event["event_time"], event["time_source"] = at, source
    event.pop("received_given", None)
