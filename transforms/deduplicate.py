"""Deduplicate: keep one event per (source, event_id) within a day.

    PCollection[FLOW_SCHEMA block] -> passed: PCollection[FLOW_SCHEMA block], books: PCollection[packed entries]

Window  fixed, a day by default, of the client's own time if the record has a readable one, else of `received_time`. The
        corrected time is not used: two deliveries of one event may be corrected differently, but have the same id and
        client time, so they fall into one window in both a stream and a backfill.
Kept    a batch run keeps the smallest (received_time, fingerprint); of copies that were received at once, one that is
        stored. A stream keeps the first that arrives; for an id that is stored and
        read again, it keeps the stored delivery (`claims` of the restored state). The others are
        `duplicates`; those whose fingerprint differs from that of the kept event are also `conflicts`.
        The window is a number in the key, not a Beam window (see aggregate.py).
State   of a stream, per window and shard: 16 bytes per event (id hash, fingerprint), append-only, freed when the window
        and its lateness have ended; entries of the restored state count as seen. Bounded: none, one shuffle.
Emits   a stream: at once. Bounded: when the input has ended, in blocks of at most GROUP_ROWS and about
        GROUP_BYTES.
"""

import functools
import math
import secrets
from datetime import timedelta
from typing import NamedTuple

import apache_beam as beam
import numpy as np
import polars as pl
from apache_beam.coders import BytesCoder
from apache_beam.pvalue import TaggedOutput
from apache_beam.transforms.timeutil import TimeDomain
from apache_beam.transforms.userstate import BagStateSpec, ReadModifyWriteStateSpec, TimerSpec, on_timer
from apache_beam.transforms.window import TimestampedValue
from apache_beam.utils.timestamp import Timestamp

from transforms import restored_state as seeds
from transforms.alike import base_of, number_alike
from transforms.block import FIELDS, FLOW_COLUMNS, FLOW_SCHEMA, SEPARATOR, empty, hash64, hashes, held_bytes
from transforms.publication import BOUNDED, Firing
from transforms.quality import MINUTE, entries_of, pack
from transforms.seen import CLAIM, SEEN, Claims, Seen, SeenCache
from transforms.shuffle_files import GATHER_BYTES, GATHER_ROWS, GROUP_BYTES, GROUP_ROWS, Part, parts, spill
from transforms.stage import Gathering
from transforms.windows import FOLD, MICROS, end_of, micros_of, number_of

KEY = "_key"  # hash of (source, event_id), computed once and carried to where it is compared
SEED = 7  # of KEY in a run on this machine, which outlives nothing
WINDOW = "_window"  # number of the dedup window, also computed once
_AT = "_at"
_SAME = [WINDOW, "source", "event_id"]
# A derived id with a mark or a number: without them, it has 40 characters.
_LONG = (pl.col("id_source") == "derived") & (pl.col("event_id").str.len_bytes() > 40)
Keyed = tuple[tuple[int, int], pl.DataFrame]  # ((window, shard), a block)
Gathered = tuple[tuple[int, int], tuple[int, str, pl.DataFrame]]  # (window, shard), a spilled block
# Fields outside the fingerprint may differ in two copies received at the same time: they break the tie, not the order.
_TRAVELLED = ["sent_time", "event_time", "time_source", "id_source", "source_format", "sequence", "warnings"]
_STATED = [name for name in FIELDS if name not in ("event_id", "sequence")] + ["client_time"]
_CONTENT = pl.concat_str(
    [pl.col(name).cast(pl.String).fill_null("\x00") for name in _STATED], separator=SEPARATOR
).cast(pl.Binary)
_NO_EVENTS = empty(FLOW_SCHEMA)


def dedup_time() -> pl.Expr:
    """Return the time that determines the window in which an event is compared."""
    return pl.coalesce("client_time", "received_time")


class Partition(NamedTuple):
    """Events of one window and shard, with KEY and WINDOW; `at` is their earliest dedup time in seconds."""

    window: int
    shard: int
    events: pl.DataFrame
    at: float


def split(events: pl.DataFrame, window: timedelta, shards: int, fold: int = 0, alike: bool = False) -> list[Partition]:
    """Split a block by window and shard, in the order of both.

    alike whether events with alike content have the same KEY, so that they can be counted
    fold  windows whose numbers differ by it are one partition, named by the remainder; a run with one is on this
          machine alone, so KEY is Polars' hash, which costs a tenth
    """
    has_long = alike and events.select(_LONG.any()).item()
    id = base_of() if has_long else pl.col("event_id")
    if fold:
        keyed = id.hash(SEED) ^ pl.col("source").hash(SEED + 1)
    else:
        keyed = pl.concat_str("source", id, separator=SEPARATOR).cast(pl.Binary)
    made = events.select(keyed.alias(KEY), number_of(dedup_time(), window).alias(WINDOW), dedup_time().alias(_AT))
    key, window_numbers, times = made.get_columns()
    marked = events.with_columns(key if fold else hash64(key), window_numbers)
    windows = window_numbers.to_numpy()
    if shards == 1 and len(windows) and windows.min() == windows.max():
        window_number = int(windows[0]) % fold if fold else int(windows[0])
        return [Partition(window_number, 0, marked, micros_of(times).min() / MICROS)]
    part = pl.col(WINDOW) % fold if fold else pl.col(WINDOW)
    marked = marked.with_columns(_shard=pl.col(KEY) % shards, _part=part)
    partitions = marked.partition_by("_part", "_shard", as_dict=True, include_key=False)
    return [
        Partition(window, int(shard), partition, partition.select(dedup_time().min()).item().timestamp())
        for (window, shard), partition in sorted(partitions.items(), key=lambda partition: partition[0])
    ]


def fingerprint(events: pl.DataFrame) -> np.ndarray:
    """Return the hash of an event's content (uint64), without how it travelled or where it was read."""
    return hashes(events.select(_CONTENT).to_series())


class Kept(NamedTuple):
    """The result of deduplicating a block: FLOW_SCHEMA blocks; `conflicts` are among the `duplicates`, or replace a
    stored event with another content."""

    events: pl.DataFrame
    duplicates: pl.DataFrame
    conflicts: pl.DataFrame


def keep_smallest(events: pl.DataFrame) -> Kept:
    """Keep the smallest (received_time, fingerprint) per (window, source, event_id); exact in any order.

    Of events received at once, a stored one is not replaced by one with another content.
    """
    # An id has the same hash in all windows; that only adds a few candidates.
    if events.select(_LONG.any()).item():
        events = number_alike(events, [WINDOW, "source"], events[KEY].is_duplicated())
    repeated = events[KEY].is_duplicated()
    if not repeated.any():
        nothing = events.clear().select(FLOW_COLUMNS)
        return Kept(events.select(FLOW_COLUMNS), nothing, nothing)
    # Only ids whose hash repeats are compared by content: two different ids with the same hash both stay.
    rivals = events.filter(repeated)
    rivals = rivals.with_columns(_print=pl.Series(fingerprint(rivals)))
    # Of two copies received at once the stored one stays, so that adding a file again changes nothing.
    known = pl.col("_print").filter("stored").min().over(_SAME)
    rivals = rivals.sort(
        *_SAME,
        "received_time",
        (known != pl.col("_print")).fill_null(False),
        "_print",
        *_TRAVELLED,
        ~pl.col("stored"),
        "input",
    )
    rivals = rivals.with_columns(
        _first=pl.struct(_SAME).is_first_distinct(),
        _conflict=pl.col("_print") != pl.col("_print").first().over(_SAME),
    )
    # A stored event that is replaced by one with another content was counted before: the one that replaces it counts.
    replaces = pl.col("_first") & (pl.col("_conflict") & pl.col("stored")).any().over(_SAME)
    conflict = pl.when("stored").then(False).otherwise(pl.col("_conflict") | replaces)
    kept = pl.concat([events.filter(~repeated).select(FLOW_COLUMNS), rivals.filter("_first").select(FLOW_COLUMNS)])
    return Kept(
        kept,
        rivals.filter(~pl.col("_first")).select(FLOW_COLUMNS),
        rivals.filter(conflict).select(FLOW_COLUMNS),
    )


class Deduplicated(NamedTuple):
    """Kept events, and audit entries."""

    passed: beam.PCollection
    books: beam.PCollection


class Deduplicate(beam.PTransform):
    """A stream has the stateful step; a batch run on this machine keeps shuffled data in `spill_folder`."""

    def __init__(
        self,
        *,
        window: timedelta = timedelta(days=1),
        shards: int = 4,
        firing: Firing = BOUNDED,
        spill_folder: str | None = None,
    ):
        super().__init__()
        self.window, self.shards, self.firing, self.spill_folder = window, shards, firing, spill_folder

    def expand(self, events):
        if self.firing.streaming:
            partitions = events | "Split by window and shard" >> beam.ParDo(_Split(self)).with_output_types(Keyed)
            keep = beam.ParDo(KeepFirst(self.window, self.firing))
        else:
            partitions = (
                events
                | "Split by window and shard" >> beam.ParDo(_SplitGathered(self)).with_output_types(Gathered)
                | "Gather each window and shard" >> beam.GroupByKey()
            )
            keep = beam.ParDo(_KeepSmallest())
        keep = keep.with_output_types(pl.DataFrame, books=bytes).with_outputs("books", main="passed")
        kept = partitions | "Keep one of each id" >> keep
        return Deduplicated(kept.passed, kept.books)


class _Split(beam.DoFn):
    """For a stream: splits one block at a time, and stamps each partition with a time in its window."""

    def __init__(self, options: Deduplicate):
        self.window, self.shards = options.window, options.shards

    def process(self, events):
        for partition in split(events, self.window, self.shards):
            yield TimestampedValue(((partition.window, partition.shard), partition.events), partition.at)


class _SplitGathered(Gathering):
    """For a batch run: splits GATHER_ROWS at a time, since stray days would make many tiny partitions."""

    most_rows, most_bytes = GATHER_ROWS, GATHER_BYTES

    def __init__(self, options: Deduplicate):
        self.window, self.shards, self.folder = options.window, options.shards, options.spill_folder
        self.fold = FOLD if self.folder else 0  # a cluster's worker holds a group in memory: the smaller, the better

    def hold(self, events):
        yield events, len(events), held_bytes(events)

    def flush(self, blocks, rows, size):
        for partition in split(pl.concat(blocks), self.window, self.shards, self.fold, alike=True):
            yield (partition.window, partition.shard), spill(partition.events, self.folder)


class _KeepSmallest(Gathering):
    """Deduplicates whole windows and shards; small ones are compared together."""

    most_rows, most_bytes = GATHER_ROWS, GATHER_BYTES

    def hold(self, gathered):
        for part in parts(gathered[1]):
            yield part, part.rows, part.held

    def flush(self, partitions: list[Part], rows, size):
        groups = math.ceil(max(rows / GROUP_ROWS, size / GROUP_BYTES))
        for group in range(groups):
            # The shard uses the low bits of the hash: the high bits are still evenly distributed.
            mine = pl.col(KEY) // pl.lit(2**32, pl.UInt64) % groups == group
            loaded = (partition.load() for partition in partitions)
            # Not even a filter that every row passes: it would copy all of them.
            events = pl.concat(part if groups == 1 else part.filter(mine) for part in loaded)
            yield from _outcomes(keep_smallest(events))


def _outcomes(kept: Kept):
    if not kept.events.is_empty():
        yield kept.events
    for outcome, block in (("duplicates", kept.duplicates), ("conflicts", kept.conflicts)):
        # A stored event was counted by the run that stored it.
        own = block if block.is_empty() else block.filter(~pl.col("stored"))
        if not own.is_empty():
            yield TaggedOutput("books", pack(entries_of(own, outcome)))


NO_CLAIMS = Claims(np.empty(0, CLAIM))


def keep_unseen(events: pl.DataFrame, seen: Seen, claims: Claims = NO_CLAIMS) -> tuple[Kept, np.ndarray]:
    """Keep events not in `seen`, per id the claimed delivery, else the first; return (kept, new SEEN entries)."""
    keys, prints = events[KEY].to_numpy(), fingerprint(events)
    known, before = seen.look_up(keys)
    if not claims and not known.any() and len(np.unique(keys)) == len(keys):  # nearly always
        return Kept(events[FLOW_COLUMNS], _NO_EVENTS, _NO_EVENTS), _entries(keys, prints)
    if claims:  # only after a restart
        others, theirs = claims.of_others(keys, delivery(events).to_numpy())
        before = np.where(others & ~known, theirs, before)
        known = known | others
        order = np.argsort(known, kind="stable")  # the claimed delivery comes before the others of its id
        events, keys, prints, known, before = events[order], keys[order], prints[order], known[order], before[order]
    _, first, place = np.unique(keys, return_index=True, return_inverse=True)
    is_first = np.zeros(len(keys), bool)
    is_first[first] = True
    new = is_first & ~known
    conflict = ~new & (prints != np.where(known, before, prints[first][place]))
    outcomes = (
        events.filter(pl.Series(mask)).select(FLOW_COLUMNS) if mask.any() else _NO_EVENTS
        for mask in (new, ~new, conflict)
    )
    return Kept(*outcomes), _entries(keys[new], prints[new])


def delivery(events: pl.DataFrame) -> pl.Series:
    """Return the hash of the input and of the minute of receipt: the unit that is read again as a whole, or not."""
    minute = number_of(pl.col("received_time"), MINUTE)
    return hash64(events.select(pl.concat_str(pl.col("input").fill_null(""), minute, separator=SEPARATOR)).to_series())


def claim_entries(events: pl.DataFrame) -> np.ndarray:
    """Return the CLAIM entries of stored events that are read again: a partition of `split`, in its order."""
    entries = np.empty(len(events), CLAIM)
    entries["key"], entries["print"] = events[KEY].to_numpy(), fingerprint(events)
    entries["delivery"] = delivery(events).to_numpy()
    return entries


def seen_entries(events: pl.DataFrame) -> np.ndarray:
    """Return the SEEN entries of events that were kept: a partition of `split`, in its order."""
    return _entries(events[KEY].to_numpy(), fingerprint(events))


def _entries(keys: np.ndarray, prints: np.ndarray) -> np.ndarray:
    entries = np.empty(len(keys), SEEN)
    entries["key"], entries["print"] = keys, prints
    return entries


# In the module, so that it outlives a DoFn: the legacy local runner unpickles a new DoFn for each bundle.
_CACHE = SeenCache()


@functools.lru_cache(maxsize=256)
def _claims(folder: str | None, place: seeds.Place, of: str) -> Claims:
    """Return the claims of the restored state, which never changes."""
    return Claims(np.frombuffer(seeds.read_claims(folder, place, of), CLAIM)) if folder else NO_CLAIMS


class KeepFirst(beam.DoFn):
    """The step of a stream, keyed by dedup window and shard.

    `keep` and `ends` define what it does with events; redelivered.py overrides them for refused records.
    """

    NAME = ""  # of its restored state
    SEEN = BagStateSpec("seen", BytesCoder())
    TOKEN = ReadModifyWriteStateSpec("token", BytesCoder())
    EXPIRE = TimerSpec("expire", TimeDomain.WATERMARK)

    def __init__(self, window: timedelta, firing: Firing):
        self.window, self.lateness, self.restored, self.clock = window, firing.lateness, firing.restored, firing.clock
        self.run = secrets.token_hex(8)  # two pipelines in one process must not share cache entries

    def keep(self, rows: pl.DataFrame, seen: Seen, claims: Claims):
        """Return (outputs, new SEEN entries)."""
        kept, entries = keep_unseen(rows, seen, claims)
        return _outcomes(kept), entries

    def ends(self, window: int) -> float:
        """Return when the state of a window is freed: seconds since 1970, by the watermark."""
        return end_of(window, self.window) + self.lateness.total_seconds()

    def process(
        self,
        keyed,
        seen_state=beam.DoFn.StateParam(SEEN),
        token_state=beam.DoFn.StateParam(TOKEN),
        expire=beam.DoFn.TimerParam(EXPIRE),
    ):
        (window, shard), rows = keyed
        place = seeds.Place(window, shard)
        key = (self.run, window, shard)
        token = token_state.read()
        if token is None:
            expire.set(Timestamp.of(self.ends(window)))
        seen = _CACHE.get(key, token)
        loaded = seen is None
        if seen is None:
            # The restored entries are never copied to state: they do not change, and may be large.
            seed = seeds.read_seen(self.restored, place, self.NAME)
            seen = Seen().with_(np.frombuffer(b"".join([seed, *seen_state.read()]), SEEN))
        outputs, entries = self.keep(rows, seen, _claims(self.restored, place, self.NAME))
        if len(entries):
            seen_state.add(entries.tobytes())
            seen = seen.with_(entries)
        if len(entries) or (loaded and seen):
            token = secrets.token_bytes(16)
            token_state.write(token)
            _CACHE.put(key, token, seen)
        yield from outputs

    @on_timer(EXPIRE)
    def expire(
        self,
        key=beam.DoFn.KeyParam,
        seen_state=beam.DoFn.StateParam(SEEN),
        token_state=beam.DoFn.StateParam(TOKEN),
    ):
        _CACHE.drop((self.run, *key))
        seen_state.clear()
        token_state.clear()
