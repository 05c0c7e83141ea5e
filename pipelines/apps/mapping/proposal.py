"""Propose a mapping for records of an unknown format, as YAML with a comment on each guess; it loads and runs."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
import polars as pl

from pipelines.apps.mapping.document import Line, document, printable
from pipelines.apps.mapping.found import FAILING, Guess, Guesses, share_text
from pipelines.apps.mapping.guess import guesses
from pipelines.apps.mapping.guess_rules import is_flag, rules_of_flags, rules_of_signs
from pipelines.apps.mapping.guess_times import explain_no_time, has_times
from pipelines.apps.mapping.guess_words import hold_types, well_known
from pipelines.apps.mapping.profile import (
    Seen,
    lists_of_objects,
    profile,
    profile_elements,
    spell,
    to_snake_case,
)
from pipelines.apps.mapping.rehearsal import INPUT, Rehearsal, apply_rules, rehearse
from pipelines.apps.mapping.remarks import examples, failure_of, remarks
from pipelines.apps.mapping.sample import Form, form_of, found_files, spread_rows
from pipelines.sources.files.discover import DOCUMENTS, LINES
from pipelines.sources.files.read import FileInput
from pipelines.sources.files.standard_input import known_as
from transforms.block import tag_input
from transforms.errors import SourceError
from transforms.mapping import load_mapping
from transforms.mapping.spec import TIMES, TYPES
from transforms.records.paths import Record
from transforms.records.payloads import read_records

SAMPLE_ROWS = 10_000
READY = "This is an access log, and templates/mappings/{}.yaml is a mapping for it: see docs/access-logs.md."
NATIVE_ROWS = 200  # by which records are known to be native
FEW_DOCUMENTS = 3  # so few documents of the sample are envelopes around the records
_EMPTY_WORDS = "min|part|slim|sample|data|train|test|export|dump|events?|all|full|raw"
_SAYS_NOTHING = re.compile(rf"(?<![a-z])({_EMPTY_WORDS})(?![a-z])")
_PAGES = {"path", "url", "uri", "page", "request"}
_VISITS = {"ip", "agent", "referrer", "referer", "method", "addr"}
_PARTS = ("concat", "coalesce", "product")
_BUYING = ("invoice", "order", "transaction", "purchase", "checkout")


class Proposal(NamedTuple):
    """A mapping as YAML, its result on the sample, and its guesses."""

    source: str
    yaml: str
    guesses: list[Guess]
    rehearsal: Rehearsal
    unused: list[str]
    examples: list[tuple[str, str, str]]  # of what is not used: path, share of records, values
    ready: str  # the name of the shipped mapping that fits, "" if there is none


def propose(patterns: Sequence[str], format: str = "auto", rows: int = SAMPLE_ROWS, delimiter: str = "") -> Proposal:
    """Propose a mapping for the files that match. Errors: SourceError with the reason if that is not possible."""
    files, format = found_files(patterns, "csv" if delimiter and format == "auto" else format)
    form = form_of(files[0], delimiter)
    source = source_name(files)
    raw = spread_rows(files, form, source, rows)
    records = _records(raw, patterns, form)
    found, unfolded = _make_guesses(records)
    if unfolded is not None and files[0].shape != LINES and len(records) <= FEW_DOCUMENTS:
        form = form._replace(records=spell(unfolded.path) or "")
        files = [file._replace(shape=f"{DOCUMENTS}:{form.records}") for file in files]
        raw = spread_rows(files, form, source, rows)
        found, unfolded = _make_guesses(_records(raw, patterns, form))
    if "event_time" not in found.made and "received_time" not in found.made:
        raise SourceError(f"{_join_patterns(patterns)}: {_no_time(found)}")
    if "event_type" not in found.made:
        found.made["event_type"] = _constant_type(files, found)
    return _refine(source, form, found, raw, unfolded)


def _records(raw: list[pl.DataFrame], patterns: Sequence[str], form: Form) -> list[Record]:
    records: list[Record] = []
    refused: list[pl.DataFrame] = []
    for block in raw:
        read, _, rejected = read_records(tag_input(block, INPUT))
        records += read
        refused.append(rejected)
    if records and any(records):
        return records
    if not raw:
        raise SourceError(f"{_join_patterns(patterns)}: contains no records; name a file that has some")
    rejected = pl.concat(refused)
    if rejected.is_empty():
        raise SourceError(f"{_join_patterns(patterns)}: its records are empty; name a file whose records have values")
    [error, *_] = msgspec.json.decode(rejected["errors"][0])
    position = rejected["position"][0]
    raise SourceError(
        f"{_join_patterns(patterns)}: none of {len(rejected):,} records can be read as {form.format}: {position}:"
        f" {error['message']}; allowed: JSON lines, CSV, Parquet; if the format was inferred wrongly, set --format"
    )


def _make_guesses(records: list[Record]) -> tuple[Guesses, Seen | None]:
    """Return the guesses; if only a list of objects has a time, or tells what happened and when, unfold that list."""
    seen = profile(records)
    has_time, has_type = has_times(seen), hold_types(seen)
    for lists in () if has_time and has_type else lists_of_objects(seen):
        inner = profile_elements(records, lists.path)
        own = [each for each in inner if each.unfolded]
        if has_times(own) and (not has_time or hold_types(own)):
            return guesses(inner), lists
    return guesses(seen), None


def _no_time(found: Guesses) -> str:
    paths = [printable(seen.spelled) for seen in found.seen][:8]
    problem = f"no time was found in {', '.join(paths)}" if paths else "no path was found"
    reasons = [printable(reason) for reason in explain_no_time(found.seen)[:3]]
    return f"{'; '.join([problem, *reasons])}; an event needs one: name files that have it, or write a mapping by hand"


def _constant_type(files: Sequence[FileInput], found: Guesses) -> Guess:
    """Guess a constant event type from the names of the file and of the paths, else `event`."""
    path = Path(files[0].path)
    words = [
        word for text in (path.name.split(".")[0], path.parent.name) for word in to_snake_case((text,))[0].split("_")
    ]
    known = [made for word in words if len(word) > 3 and (made := well_known(word))]
    names = {word for seen in found.seen for name in seen.names for word in name.split("_")}
    if known:
        made, why = known[0], "taken from the file name"
    elif "value" in found.made and ("currency" in found.made or names & set(_BUYING)):
        made, why = "purchase", "there is a price, and a currency or a name such as invoice or order"
    elif names & _PAGES and names & _VISITS:
        made, why = "page_view", "there are pages, and what a web server writes of a request"
    else:
        made, why = "event", "replace it with what the records are, such as page_view, click or purchase"
    notes = [f"no path holds the event type; {why}"]
    if rules := rules_of_flags(found, made) or rules_of_signs(found, made):
        found.rules = found.rules or rules
    flags = [seen.spelled for seen in found.seen if is_flag(seen)]
    if flags and not found.rules:
        notes.append(f"these flags may help: {', '.join(flags[:5])}")
    return Guess("event_type", {"const": made}, 1.0, tuple(notes))


def _refine(source: str, form: Form, found: Guesses, raw: list[pl.DataFrame], unfolded: Seen | None) -> Proposal:
    """Rehearse the whole mapping, and drop each guess that quarantines too many records."""
    while True:
        made = [found.made[name] for name in (*TIMES, *TYPES) if name in found.made]
        unused = [seen.spelled for seen in found.seen if seen.spelled not in _used_paths(made)]
        text = document(_head(source, form, unfolded), [_line(guess) for guess in made], rules=found.rules)
        rehearsed = rehearse(raw, load_mapping(text, source))
        wrong = _most_failing(rehearsed)
        if wrong is None or wrong not in found.made or found.made[wrong].field == "event_type":
            break
        guess = found.made.pop(wrong)
        if any(wrong in rule.get("fields", {}) for rule in found.rules.values()):
            found.rules = {}
        for path in _used_paths([guess]):
            found.refused[path] = f"no {wrong}: it would quarantine too many records"
    notes = remarks(found, unused, rehearsed, _is_native(raw))
    share = share_text(rehearsed.passed() / rehearsed.records)
    head = f"Proposed from {rehearsed.records:,} records: {share} pass. A comment states how many have the field."
    above = [*filter(None, [failure_of(rehearsed), form.ready and READY.format(form.ready)]), head]
    text = document(_head(source, form, unfolded), [_line(guess) for guess in made], above, notes, found.rules)
    load_mapping(text, source)
    return Proposal(source, text, made, rehearsed, unused, list(examples(found, unused)), form.ready)


def _most_failing(rehearsed: Rehearsal) -> str | None:
    """Return the field for which most records fail, if there are too many."""
    rejected = rehearsed.rejected
    late = len(rejected.filter(pl.col("code") == "too_late"))
    fields = [
        error["path"].removeprefix("$.")
        for errors in rejected.filter(pl.col("stage").is_in(["map", "validate"]))["errors"].to_list()
        for error in msgspec.json.decode(errors)
    ]
    counts = {name: fields.count(name) for name in set(fields)} | {"received_time": late}
    worst = max(counts, key=lambda name: counts[name])
    return worst if counts[worst] > FAILING * rehearsed.records else None


def _head(source: str, form: Form, unfolded: Seen | None) -> list[Line]:
    lines = [Line("source", source), Line("format", form.format)]
    if form.encoding:
        lines.append(Line("encoding", form.encoding, "the text is not UTF-8: check that its letters come out right"))
    if form.records:
        lines.append(Line("records", form.records, "each element of this list in a document is a record"))
    csv = {}
    if form.format == "csv":
        plain = type(form.csv)()
        csv = {name: value for name, value in msgspec.structs.asdict(form.csv).items() if value != getattr(plain, name)}
        csv = {name: list(value) if isinstance(value, tuple) else value for name, value in csv.items()}
    if csv:
        lines.append(Line("csv", csv))
    if unfolded is not None:
        lines.append(Line("explode", spell(unfolded.path), "each element of this list becomes an event"))
    return lines


def _is_native(raw: list[pl.DataFrame]) -> bool:
    """Return whether nearly all records are in the native format."""
    first = raw[0].head(NATIVE_ROWS)
    return len(apply_rules(first, None)[0]) > (1 - FAILING) * len(first)


def _line(guess: Guess) -> Line:
    share = share_text(guess.share)
    return Line(guess.field, guess.stated, "; ".join((share, *guess.notes)), guess.comments)


def _used_paths(made: list[Guess]) -> set[str]:
    stated = [guess.stated for guess in made]
    parts = [part for each in stated for key in _PARTS for part in each.get(key, [])]
    zones = [each["time_zone"] for each in stated if isinstance(each.get("time_zone"), dict)]
    return {part["path"] for part in (*stated, *parts, *zones) if "path" in part}


def source_name(files: Sequence[FileInput]) -> str:
    """Return a name for the source: that of the file without dates and numbers, else that of its folder."""
    path = Path(files[0].path)
    stem = path.name.split(".")[0] if len(files) == 1 else path.parent.name
    for text in (stem, path.parent.name, stem):
        name = re.sub(r"[^a-z0-9_]+", "-", text.lower())
        telling = re.sub(r"[^a-z]+", "", _SAYS_NOTHING.sub("", name))
        name = re.sub(r"[-_]*\d{4}[-_]?\d{2}([-_]?\d{2}([-_T]?\d{2})?)?", "", name).strip("-_")[:64]
        if len(telling) > 2 and re.fullmatch(r"[a-z0-9][a-z0-9_.-]{0,63}", name):
            return name
    return "events"


def _join_patterns(patterns: Sequence[str]) -> str:
    return " ".join(map(known_as, patterns))
