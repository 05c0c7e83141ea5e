"""The faults of simulated events, each with its own rate: names, default rates and outcomes.

faults(preset, **rates)   -> Faults
read_faults(words)        -> Faults, from the words of a command line
describe_faults()         -> name -> description
"""

from collections.abc import Iterable
from typing import Annotated, Any, get_type_hints

import msgspec

from transforms.errors import OptionError


class Faults(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The share of events (0 to 1) that have each fault; an event has at most one, besides `bots` and `hot_key`.

    Raises OptionError for a rate outside 0 to 1, or a sum above 1 without `bots` and `hot_key`.
    """

    repeats_near: Annotated[float, "repeated unchanged within 30 s: a duplicate"] = 0.01
    repeats_far: Annotated[float, "repeated unchanged 2 min to 6 h later: a duplicate"] = 0.01
    repeats_too_late: Annotated[float, "repeated 25 to 49 h after event_time: the copy is too_late"] = 0.0005
    conflicts: Annotated[float, "repeated within 10 min with another value or content: a conflict"] = 0.001
    missing_id: Annotated[float, "no event_id: one is derived; half are repeated, a duplicate"] = 0.001
    late: Annotated[float, "received 2 to 20 h after event_time: accepted"] = 0.004
    too_late: Annotated[float, "received 25 to 49 h after event_time: too_late"] = 0.002
    fast_clock: Annotated[float, "event_time, sent_time 5 min to 3 h ahead: skew_corrected"] = 0.002
    slow_clock: Annotated[float, "event_time, sent_time 5 min to 3 h behind, not provable: client"] = 0.001
    future: Annotated[float, "event_time 1 h to 30 days after received_time, no sent_time: future_clamped"] = 0.0005
    missing_time: Annotated[float, "no event_time: received_missing"] = 0.001
    unreadable_time: Annotated[float, "an unreadable event_time: received_invalid"] = 0.0005
    null_ids: Annotated[float, 'a person id such as "undefined": a warning'] = 0.001
    unknown_fields: Annotated[float, "a field outside the contract: in extra"] = 0.01
    huge_lines: Annotated[float, "100 to 400 KB in properties or in extra: accepted"] = 0.00001
    truncated: Annotated[float, "a truncated line: invalid_json"] = 0.0006
    not_json: Annotated[float, "not a JSON object: invalid_json"] = 0.0006
    bad_utf8: Annotated[float, "Latin-1 bytes: invalid_json"] = 0.0006
    wrong_type: Annotated[float, "a text instead of a number, and similar: wrong_type"] = 0.0006
    missing_event_type: Annotated[float, "no event_type: missing_event_type"] = 0.0006
    invalid_event_type: Annotated[float, "capitals, spaces, too long: invalid_event_type"] = 0.0006
    invalid_event_id: Annotated[float, "empty, unprintable, too long: invalid_event_id"] = 0.0002
    invalid_source: Annotated[float, "an invalid source name: invalid_source"] = 0.0002
    invalid_channel: Annotated[float, "an unknown channel: invalid_channel"] = 0.0002
    invalid_currency: Annotated[float, "not an ISO 4217 code: invalid_currency"] = 0.0006
    invalid_value: Annotated[float, "too many digits: invalid_value"] = 0.0002
    long_field: Annotated[float, "longer than 256 characters, or 2,048: too_long"] = 0.0002
    long_text: Annotated[float, "a text longer than 8 KB: too_long"] = 0.0001
    no_time: Annotated[float, "neither event_time nor received_time: no_time"] = 0.0006
    bots: Annotated[float, "share of sessions, besides other faults: is_bot"] = 0.005
    hot_key: Annotated[float, "one user and one content item, besides other faults: accepted"] = 0.0

    def __post_init__(self) -> None:
        for name in NAMES:
            if not 0 <= (rate := getattr(self, name)) <= 1:
                raise OptionError(f"faults.{name}: got {rate!r}; a rate is from 0 to 1")
        if (total := sum(getattr(self, name) for name in EXCLUSIVE)) > 1 + 1e-9:
            raise OptionError(
                f"faults: the rates add up to {total:g}; their sum must be at most 1, as an event has at most one"
            )


NAMES = Faults.__struct_fields__
EXCLUSIVE = tuple(name for name in NAMES if name not in ("bots", "hot_key"))
CODES = {  # fault -> quarantine code; events with other faults are accepted
    "too_late": "too_late",
    "truncated": "invalid_json",
    "not_json": "invalid_json",
    "bad_utf8": "invalid_json",
    "wrong_type": "wrong_type",
    "missing_event_type": "missing_event_type",
    "invalid_event_type": "invalid_event_type",
    "invalid_event_id": "invalid_event_id",
    "invalid_source": "invalid_source",
    "invalid_channel": "invalid_channel",
    "invalid_currency": "invalid_currency",
    "invalid_value": "invalid_value",
    "long_field": "too_long",
    "long_text": "too_long",
    "no_time": "no_time",
}
GROUPS = {  # name -> faults among which its rate is split evenly
    "repeats": ("repeats_near", "repeats_far"),
    "malformed": tuple(name for name in CODES if name != "too_late"),
}
PRESETS = {
    "none": Faults(**dict.fromkeys(NAMES, 0.0)),
    "usual": Faults(),
    "many": Faults(**(dict.fromkeys(NAMES, 0.02) | {"huge_lines": 0.002, "hot_key": 0.1})),
}
USUAL_FAULTS = PRESETS["usual"]
_ALLOWED = f"{', '.join(PRESETS)}, or NAME=RATE of {', '.join((*GROUPS, *NAMES))}"
CLEAN = "clean"


def describe_faults() -> dict[str, str]:
    """The description and outcome of each fault, by name."""
    hints: dict[str, Any] = get_type_hints(Faults, include_extras=True)
    return {name: hints[name].__metadata__[0] for name in NAMES}


def faults(preset: str = "usual", **rates: float) -> Faults:
    """A preset with these rates; a name is one of Faults or GROUPS.

    Raises OptionError for an unknown name, a rate outside 0 to 1, or a sum above 1.
    """
    return read_faults([preset, *(f"{name}={rate!r}" for name, rate in rates.items())])


def read_faults(words: Iterable[str]) -> Faults:
    """Faults from words such as `many` or `late=0.1`, applied in order to the usual ones; errors as above."""
    rates = msgspec.structs.asdict(USUAL_FAULTS)
    for word in words:
        name, _, text = word.partition("=")
        if word in PRESETS:
            rates = msgspec.structs.asdict(PRESETS[word])
            continue
        names = GROUPS.get(name, (name,))
        rate = _rate(text)
        if rate is None or names[0] not in NAMES:
            raise OptionError(f"--faults: got {word!r}; allowed: {_ALLOWED}, a rate from 0 to 1")
        rates |= dict.fromkeys(names, rate / len(names))
    return Faults(**rates)


def _rate(text: str) -> float | None:
    try:
        return rate if 0 <= (rate := float(text)) <= 1 else None
    except ValueError:
        return None
