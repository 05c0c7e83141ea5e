r"""A mapping: how the records of a source, in any format, become events. Written in YAML, read once.

    source: github-events       # required: the name of the source
    format: jsonl               # jsonl, csv or parquet; by default inferred from the file name
    csv: {delimiter: ";"}       # and more, see transforms/records/csv_format.py
    clock: client               # trusted: the source's clock is right; client: it may be wrong
    encoding: latin-1           # of text files that are not UTF-8 and have no byte order mark
    records: page.events        # the list of records in each JSON document; without it, an object is a record
    on_error: quarantine        # for a record with an unreadable value; null: that field becomes NULL
    transport: [sent_at]        # paths about how a record travelled: not part of a derived event_id
    sequence: position          # orders the events of one time as the records of a file (or map the field `sequence`)
    derived_id: content         # position: also file and line, so that equal records are kept apart; occurrence: how
                                # many equal ones came before in its file, as in a log that grows and is rotated
    fields:
      event_time: {path: at, time: ms}             # s, ms, us, ns, rfc3339 or a pattern: "%m/%d/%Y %H:%M"
      sent_time:  {path: sent, time_zone: Europe/Berlin}   # of times that state none: or "+02:00", or {path: tz}
      event_type: {path: type, map: {watch: like}, else: other}
      user_id:    {hash: [{path: "device.id"}, {path: "ids[0]"}]}
      content_id: {concat: [{path: channel}, {const: /}, {path: page}]}
      category:   {coalesce: [{path: section}, {path: "['page section']"}], default: none}
      value:      {product: [{path: quantity}, {path: price}]}
      is_bot:     {match: {agent: {pattern: "(?i)bot|crawl"}}}
    properties: [screen, app]   # keys of the record to keep in the JSON column `properties`
    discard: [cookie]           # paths of values that no column keeps, unless a field reads them

A field is evaluated in this order: path, const, coalesce, concat, hash, cases, match (true or false) or arithmetic,
exact to nine places (sum, difference, product, quotient); functions; scale; minor_units; map, with `else` for a value
that it lacks; default, for an absent value (and for one that the map lacks, if there is no `else`); the type of the
field.

      content_id: {path: request, functions: [{extract: "^[A-Z]+ (\\S+)"}, {url: path}]}   # applied in their order
      session_id: {path: "event_params[key=ga_session_id].value"}   # the element of a list whose `key` is that
      currency:   {path: currency, functions: [upper]}
      value:      {path: amount, minor_units: {path: currency}}     # cents: by ISO 4217, or `digits: {ISK: 2}`
      quantity:   {path: menge, functions: [{number: {decimal: ",", unit: Stk}}]}
      event_time: {sum: [{path: at._seconds}, {path: at._nanoseconds, scale: 0.000000001}], time: s}
      category:   {cases: [{when: {kind: [a, b]}, const: shop}, {path: section}]}   # the first that fits

Functions without arguments are lower, upper, trim, snake, number, percent_decode and absent (a text such as
"", "-" or "(not set)" is no value); those with are extract, split, url, query, json, number and absent (see
calls.py). A coalesce passes over such texts, too; they stay in `extra`, unless a function `absent` names
them. A text of which extract, split, url, query or json takes a part stays in `extra` as a whole. A JSON number reads
like its text: state `decimal: ","` for texts only.

Which records, and how many events of each:

    match: {kind: [web, app]}   # other records are quarantined (no_rule), see transforms/records/match.py
    explode: items              # the list at this path: each element is an item, and a path now reads that element:
                                # items.id; at most 10,000, or as stated: {path: items, most: 100}; the rest of the
                                # record is repeated with each element, up to 16 MB
    events:                     # an item creates an event for each rule that it matches, in order; none: no_rule
      impression: {}
      click: {match: {clicked: 1}, fields: {event_type: {const: click}}}   # over the shared `fields`, its own win

The second and each further event of an item has `/<rule>` appended to the id that it would share with the first. Equal
elements of a list are duplicates, like equal records, unless `derived_id: position` is set.

What a message says beside its payload is read like a key of the record (transforms/records/beside.py):

      event_id: {path: $attributes.ce-id}          # also $attributes['a.b'], and $ordering_key

Of a record from a queue the mapping then reads all attributes: those that no path reads go to `extra`, and all of them
enter a derived id, but for `transport` and those that clients and the service add on the way. A message without a
payload is an event, if its attributes make one.

Everything that no path of an event's fields reads goes to its `extra`, including the whole list if one element of it is
read (`ids[0]`), values that only a match reads, and what a field read and did not keep (traces.py). There are no
expressions: what a mapping cannot express belongs in an earlier step.

    tests:                      # run whenever the mapping is read; the mapping is refused if one fails
      - record: {type: watch, at: 1424638800000}
        events: [{event_type: like, event_time: "2015-02-22T21:00:00Z", user_id: null}]   # in order; what is stated
      - text: "not JSON"
        quarantine: invalid_json                   # or a list of codes, for a record with several events
"""

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, Literal, NamedTuple

import msgspec
from msgspec import UNSET

from transforms.mapping.fields import TIMES, TYPES, Field, Fields, OnError, check_field, check_path
from transforms.records.beside import ROOTS
from transforms.records.csv_format import CsvFormat, check_encoding
from transforms.records.match import Condition, Criterion, Match, check_match, paths_in, ways_of
from transforms.records.paths import parse_path
from transforms.strict_yaml import load

MOST_RULES, MOST_ELEMENTS = 100, 100_000
_SOURCE = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}")
_RULE = re.compile(r"[a-z][a-z0-9_]{0,63}")


class Explode(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The list whose elements are items, and how many there may be."""

    path: str
    most: int = 10_000

    def __post_init__(self):
        if not 1 <= self.most <= MOST_ELEMENTS:
            raise ValueError(f".most: got {self.most}, allowed 1 to {MOST_ELEMENTS}")
        if not all(isinstance(step, str) for step in check_path(self.path, ".path")):
            raise ValueError(f".path: got {self.path!r}, allowed keys only")


class Rule(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """An event that an item creates if it matches; always if there is no match."""

    match: Match | None = None
    fields: Fields = Fields()  # type: ignore[valid-type]

    def __post_init__(self):
        if self.match is not None:
            check_match(self.match, ".match")


class Case(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A record, and its expected result."""

    record: dict[str, Any] | None = None
    text: str | None = None
    events: tuple[dict[str, Any], ...] | None = None
    quarantine: str | tuple[str, ...] | None = None

    def __post_init__(self):
        if (self.record is None) == (self.text is None):
            got = "neither" if self.record is None else "both"
            raise ValueError(f"got {got} of record and text, allowed exactly one of them")
        if self.events is None and self.quarantine is None:
            raise ValueError("got neither events nor quarantine, allowed one of them, or both")


class Event(NamedTuple):
    """A rule as applied: the shared fields, overridden by its own."""

    name: str | None  # None if the mapping creates one event per item
    match: Match | None
    fields: dict[str, Field]
    own_id: bool  # whether its own fields state the event_id


class Mapping(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How the records of a source become events."""

    source: str
    fields: Fields = Fields()  # type: ignore[valid-type]
    format: Literal["jsonl", "csv", "parquet"] | None = None
    csv: CsvFormat | None = None
    encoding: str = ""
    records: str = ""
    clock: Literal["trusted", "client"] = "client"
    on_error: OnError = "quarantine"
    transport: tuple[str, ...] = ()
    properties: tuple[str, ...] = ()
    discard: tuple[str, ...] = ()
    sequence: Literal["position"] | None = None
    derived_id: Literal["content", "position", "occurrence"] = "content"
    match: Match | None = None
    explode: str | Explode | None = None
    events: dict[str, Rule] | None = None
    tests: tuple[Case, ...] = ()

    def __post_init__(self):
        if not _SOURCE.fullmatch(self.source):
            allowed = f"a name like web-shop: ^{_SOURCE.pattern}$"
            raise ValueError(f".source: got {self.source!r}, allowed {allowed}")
        if self.csv is not None and self.format not in (None, "csv"):
            raise ValueError(f".csv: got a block with format {self.format!r}, allowed with format csv")
        self._check_files()
        for at, path in enumerate(self.transport):
            check_path(path, f".transport[{at}]")
        for at, path in enumerate(self.properties):
            if len(check_path(path, f".properties[{at}]")) > 1:
                raise ValueError(f".properties[{at}]: got {path!r}, allowed a key at the top of the record")
        self._check_discard()
        if self.match is not None:
            check_match(self.match, ".match")
        if isinstance(self.explode, str):
            try:
                Explode(self.explode)
            except ValueError as problem:
                raise ValueError(f".explode{str(problem).removeprefix('.path')}") from None
        self._check_rules()
        self._check_ids()

    def _check_discard(self) -> None:
        for at, path in enumerate(self.discard):
            steps = check_path(path, f".discard[{at}]")
            if not all(isinstance(step, str) for step in steps):
                raise ValueError(f".discard[{at}]: got {path!r}, allowed keys only")
            if any(parse_path(kept)[0] == steps[0] for kept in self.properties):
                raise ValueError(f".discard[{at}]: got {path!r}, which is in properties; state it in one of them")

    def _check_files(self) -> None:
        check_encoding(self.encoding, ".encoding")
        if self.csv is not None and self.csv.encoding and self.encoding not in ("", self.csv.encoding):
            raise ValueError(f".encoding: got {self.encoding!r}, allowed that of csv, {self.csv.encoding!r}; state one")
        if self.csv is not None and self.csv.rest and self.csv.rest in self.csv.columns:
            raise ValueError(f".csv.rest: got {self.csv.rest!r}, which is one of the columns; give another name")
        if self.records and self.format not in (None, "jsonl"):
            raise ValueError(f".records: got a path with format {self.format!r}, allowed with format jsonl")
        if self.records and any(isinstance(step, int) for step in check_path(self.records, ".records")):
            raise ValueError(f".records: got {self.records!r}, allowed keys only")

    def _check_rules(self) -> None:
        if self.events is not None and not 1 <= len(self.events) <= MOST_RULES:
            raise ValueError(f".events: got {len(self.events)} rules, allowed 1 to {MOST_RULES}")
        for name in self.events or ():
            if not _RULE.fullmatch(name):
                raise ValueError(f".events: got the rule {name!r}, allowed a name like add_to_cart: ^{_RULE.pattern}$")
        for event in self.rules():
            place = ".fields" if event.name is None else f".events.{event.name}.fields"
            if "event_type" not in event.fields:
                raise ValueError(f"{place}.event_type: missing, but required; state it")
            if self.sequence is not None and "sequence" in event.fields:
                raise ValueError(f".sequence: got 'position' beside {place}.sequence, allowed one of them")
            if self.clock == "trusted" and "event_time" not in event.fields:
                without = "" if event.name is None else f" in the rule {event.name}"
                raise ValueError(f".clock: got 'trusted' without an event_time{without}, allowed client")
        for name, field in stated(self.fields):
            check_field(name, field, f".fields.{name}")
        for rule, own in (self.events or {}).items():
            for name, field in stated(own.fields):
                check_field(name, field, f".events.{rule}.fields.{name}")

    def _check_ids(self) -> None:
        # An id of the whole record would make all its elements but one duplicates.
        if self.explode is None:
            return
        element = parse_path(self.exploded.path)
        for event in self.rules():
            field = event.fields.get("event_id")
            if field is not None and all(parse_path(path)[: len(element)] != element for path in field.paths()):
                place = f".events.{event.name}" if event.own_id and event.name else ""
                allowed = f"one that reads the elements of {self.exploded.path}; or leave it out, and it is derived"
                raise ValueError(f"{place}.fields.event_id: got an id that all elements would share, allowed {allowed}")

    def __hash__(self) -> int:
        return hash(self.source)  # a map, being a dict, has none; that equal mappings have equal ones is enough

    @property
    def exploded(self) -> Explode:
        """The list that is exploded; the mapping must have one."""
        assert self.explode is not None
        return Explode(self.explode) if isinstance(self.explode, str) else self.explode

    @property
    def plain(self) -> bool:
        """Whether each record is always exactly one event."""
        return self.match is None and self.explode is None and self.events is None

    def rules(self) -> tuple[Event, ...]:
        """The rules in their order; a mapping without `events` has one, without a name."""
        shared = dict(stated(self.fields))
        if self.events is None:
            return (Event(None, None, shared, True),)
        found = []
        for name, rule in self.events.items():
            own = dict(stated(rule.fields))
            fields = {at: own.get(at) or shared[at] for at in (*TIMES, *TYPES) if at in own or at in shared}
            found.append(Event(name, rule.match, fields, "event_id" in own))
        return tuple(found)

    def quarantines(self, field: Field) -> bool:
        """Whether a value of the field that cannot be read sends the record to quarantine."""
        return (self.on_error if field.on_error is UNSET else field.on_error) == "quarantine"


def stated(fields: Fields) -> Iterator[tuple[str, Field]]:  # type: ignore[valid-type]
    """(name, Field) of the fields that are stated, in the order of the contract, times first."""
    for name in (*TIMES, *TYPES):
        field = getattr(fields, name)
        if field is not None:
            yield name, field


def load_mapping(text: str, where: str) -> Mapping:
    """The mapping in a YAML text. Errors: ConfigError `where: $.path: got ..., allowed ...`."""
    return load(text, Mapping, where)


def required_columns(mapping: Mapping) -> set[str]:
    """Return the columns that a CSV must have: those that a field or a match reads without handling their absence."""
    paths: list[str] = []
    matches = [mapping.match] if mapping.match is not None else []
    for event in mapping.rules():
        matches += [event.match] if event.match is not None else []
        for field in event.fields.values():
            matches += field.matches()
            paths += field.minor_units.paths() if field.minor_units is not None else ()
            if field.default is None and field.coalesce is None:
                paths += field.paths()
    for match in matches:
        for _, way in ways_of(match):
            paths += [path for path, condition in way.items() if not _bears_absence(condition)]
    beside = ROOTS if mapping.csv is None else ROOTS | {mapping.csv.rest}
    return {str(parse_path(path)[0]) for path in paths} - beside


def states_zone(mapping: Mapping) -> bool:
    """Return whether the mapping states the zone of a time that has none in its record."""
    return any(field.time_zone is not None for event in mapping.rules() for field in event.fields.values())


@lru_cache(maxsize=64)
def read_beside(mapping: Mapping) -> frozenset[str]:
    """Return which keys of a message the mapping reads beside the payload: of ROOTS."""
    paths = [*mapping.properties]
    for match in (mapping.match, *(event.match for event in mapping.rules())):
        paths += [] if match is None else paths_in(match)
    for event in mapping.rules():
        for field in event.fields.values():
            paths += [*field.paths(), *field.looks()]
    return ROOTS & {str(parse_path(path)[0]) for path in paths}


def _bears_absence(condition: Condition) -> bool:
    return isinstance(condition, Criterion) and not (condition.exists is UNSET and condition.negated is UNSET)
