"""The coefficients of `audience plan`: measured, derived from code or a format, or assumed.

Measured    by `python -m benchmarks.capacity` (benchmarks/RESULTS-capacity.md) on 2 cores of x86_64, with simulated
            events of 284 bytes; times differ on other machines. Rounded.
Derived     from our code or a documented format; a test compares them.
Assumed     for Google's services, without a source or a trial. Check prices and quotas by CHECK_BY.
"""

from datetime import date
from typing import NamedTuple


class Cost(NamedTuple):
    """A cost per call plus a cost per row."""

    call: float
    row: float

    def of(self, rows: float) -> float:
        return self.call + self.row * rows


# --- Measured: CPU, microseconds of one core.
BUNDLE_US = Cost(610, 2.2)  # on Dataflow, a bundle of messages: make it a block, code it for its shard
HOLD_US = Cost(170, 0.5)  # the same: add it to the state of its shard, and take it up in a large block
SETTLE_US = Cost(5_000, 4.5)  # a block of which nothing is refused: parse, validate, event time, lateness
REFUSED_US = (
    2_600.0  # beside it, a block of which something is: each rule, the id, the first of its deliveries, its row
)
SPLIT_US = Cost(60, 0.3)  # a block: the keys of its events
SPLIT_PARTITION_US = 310.0  # beside it, a partition
PARTITION_CODE_US = Cost(360, 0.77)  # a partition of a block: encode and decode it
KEEP_US = Cost(1_480, 1.1)  # a partition: which of its ids are new
WHOLE_US = Cost(145, 0.19)  # a partition that goes to scopes as it is: encode it once for all of them
PLACE_US = 95.0  # the same, a scope: which windows it lies in
PIECE_US = 240.0  # the same, each further window: filter and encode
PARTIAL_US = Cost(1_900, 0.2)  # a partition and metric: aggregate it at once
FRAME_US = 110.0  # an element of partial rows, and metric: encode it
PEND_US = 75.0  # an element: code, and add it to state
UNPACK_US = 60.0  # an element: decode it, when it is merged
TAKE_US = 0.4  # an event that went as it is, and metric: aggregate it, when it is merged
MERGE_US = 1_900.0  # a firing or compaction, and metric, of events
MERGE_PARTIAL_US = 450.0  # the same of partial rows
COMPACT_ROW_US = 0.45  # a row that a compaction merges again
FIRE_US = Cost(1_650, 0.7)  # beside the merging, a firing and metric, with its writing; its rows are those before
REGISTERS_US = 136.0  # beside it, a row published before whose distinct count is kept as registers
SHOWN_US = 5.0  # a row that a firing publishes
WRITE_US = Cost(1_050, 0.4)  # a partition of events to an Arrow batch, and to count it
BOOK_US = 40.0  # an element of audit entries: place them
BOOK_FIRE_US = 1_250.0  # a firing of them
BY_VISITOR_US = Cost(210, 0.33)  # a partition: the columns of its visits
VISIT_CODE_US = 420.0  # an element of it: cut by shard and encoded
VISIT_PEND_US = Cost(115, 0.2)  # add it to state, and decode it at a firing
SESSION_FIRE_US = Cost(11_500, 1.15)  # a firing; its rows are the hot sessions
VISIT_US = 1.8  # beside it, an event that it takes into its session
LOOK_US = 0.35  # a cold session, when one of its shard is looked for
# Overhead of a run beyond all of these, which includes pulling, landing, Parquet and Beam's worker. On Prism, with two
# readers, into a local warehouse, a worker took 49 us an event at 15,000 a second, 25 more than the steps of its graph;
# that machine did in 100 us what takes 127 here. Dataflow is assumed to have the same overhead: it was not measured
# there.
RUNNER_US = 32.0
# Of a reader: a block and a message, received, made into a block and acknowledged (`python -m benchmarks.readers`),
# scaled to the machine of the others. That of Pub/Sub is what RUNNER_US has of it.
READ_US = {"pubsub": Cost(630, 13), "kafka": Cost(680, 3), "kinesis": Cost(2_260, 23)}
# A backfill of the whole catalog with sessions in one process (benchmarks/RESULTS.md): wall-clock time, without a
# runner, on a slower machine than the figures above.
BACKFILL_US = 22.8

# --- Measured: bytes, as BlockCoder writes them (Arrow IPC, lz4), or as a batch goes to BigQuery.
MEASURED_EVENT_BYTES = 284.0  # of a message, for all that follows
BUNDLE_BYTES = Cost(1_500, 78)  # on Dataflow, the block of a bundle on its way to its shard, and in its state
PARTITION_BYTES = Cost(7_900, 74)  # a partition of a block on its way to the deduplication
EVENT_COLUMN_BYTES = 230.0  # a column of an element of events as they are, beside its rows
EVENT_ROW_BYTES = 36.0  # an event of it, in all columns that metrics read
FRAME_BYTES = Cost(400, 170)  # partial rows of a metric in an element, or in state, beside its rows; a row is a column
PARTIAL_COLUMN_BYTES = 2.4  # a column of a partial row, distinct counts apart
STATE_COLUMN_BYTES = 2.4  # the same, kept
REGISTERS_BYTES = 2_740.0  # a distinct count above 256 in a partial row or in state: 4,096 registers, compressed
EVENT_WIRE_BYTES = 250.0  # a row of `events` as Arrow
EVENT_LOGICAL_BYTES = 146.0  # a row of `events` by BigQuery's sizes of its types
WIRE_COLUMN_BYTES = 10.0  # a column of a metric's row as Arrow
LOGICAL_COLUMN_BYTES = 8.5  # the same by BigQuery's sizes
BOOK_BYTES = 57.0  # an element of audit entries
BOOK_STATE_BYTES = 3_300.0  # a minute of them in state
BOOK_ROW_BYTES = 150.0  # a row of quality_1m
VISIT_BYTES = Cost(2_560, 28)  # events of visitors on their way to the sessions of a stream
BACKFILL_VISIT_BYTES = 54.0  # the same in a backfill, where elements are long
SESSION_STATE_BYTES = Cost(8_000, 72)  # a frame of sessions in state, and a session
SESSION_LOGICAL_BYTES = 216.0  # a row of `sessions` by BigQuery's sizes
SESSION_WIRE_BYTES = 260.0  # the same as Arrow
QUARANTINE_BYTES = 250.0  # a row of `quarantine` beside its payload

# --- Derived.
BLOCK_ROWS = 10_000.0  # a reader hands a block on once it has so many (pipelines/sources/pubsub/reader.py)
GATHERED_ROWS, GATHERED_MOST_SHARDS = 5_000.0, 4  # of a large block, and the most that wait (transforms/gather.py)
GATHERED_BYTES = 20.0  # what counts the blocks of a shard, written with each of them
TOKEN_BYTES = 16.0  # of the deduplication, a key, written with each partition (transforms/deduplicate.py)
STAMP_COLUMNS = 6  # of a metric's row: bucket_end, firing, generation, revision, emitted_time, pipeline_version
SKETCH_BYTES = 2_089.0  # a sketch in a table above 256 values: HLL_4, lg_k 12
DELAYED_SECONDS = 600.0  # delayed events arrive evenly within it
STRAGGLING_SECONDS = 2.0  # of a bucket that was just shown, what the firing at its end still finds
INSERT_LEAST_BYTES = 1_024.0  # what insertAll bills of a shorter row

# --- Our recommended limits for a step.
BUSY = 0.5  # of a core, by one shard at the peak: a shard runs on one core at a time
READER_EVENTS = 7_500.0  # a second, by one reader: two held 15,000 here, more was not tried for long
SEEN_BYTES_A_SHARD = 256e6  # of the deduplication, a window and shard: it is read whole when a shard moves
COLD_BYTES_A_SHARD = 512e6  # of the sessions, a shard's older ones: they are read and written whole at each sweep
VALUE_BYTES = 40e6  # one value of state; Dataflow is said to take 80 MB
PARTITION_EVENTS = 2_000.0  # shorter partitions cost as much as longer ones
MOST_BATCH_SECONDS = 5.0  # of --batch_delay: what rows may be late for the sake of it
FIRING_SHARE = 0.25  # of the bytes of the events, by the rows of one metric
QUOTA_SHARE = 0.7
UTILISATION = 0.6  # of a vCPU: what autoscaling aims at, and room for a backlog
BACKFILL_HOURS = 1.0

# --- Assumed.
BUNDLE_SECONDS, BUNDLE_ROWS = 0.1, 300.0  # a bundle of Dataflow's reader holds what comes meanwhile, up to so many rows
SHARD_RECORDS, SHARD_BYTES = 1_000.0, 1e6  # of a shard of Kinesis, a second
PUT_UNIT_BYTES = 25 * 1_024  # of Kinesis: a longer record is billed as several
REGION = "us-central1"
CHECK_BY = date(2027, 1, 31)
WORKER_VCPUS = 2
GIB_A_VCPU = 4.0
WRITE_QUOTA_BYTES = 300e6  # a second, Storage Write API, a project in one region; multi-regions are said to have 3 GB


class Price(NamedTuple):
    """Assumed list price in REGION in dollars per unit, without discounts or free tiers; see CHECK_BY."""

    dollars: float
    unit: str


PRICES = {
    "pubsub_tib": Price(40.0, "per TiB published, and per TiB delivered"),
    "kinesis_shard_hour": Price(0.015, "per shard-hour, in us-east-1"),
    "kinesis_put_million": Price(0.014, "per million records of up to 25 KiB, in us-east-1"),
    "streaming_vcpu_hour": Price(0.069, "per vCPU-hour of a streaming worker"),
    "batch_vcpu_hour": Price(0.056, "per vCPU-hour of a batch worker"),
    "memory_gib_hour": Price(0.003557, "per GiB-hour of worker memory"),
    "streaming_engine_gib": Price(0.018, "per GiB processed by Streaming Engine"),
    "batch_shuffle_gib": Price(0.011, "per GiB processed by Dataflow Shuffle"),
    "bigquery_write_gib": Price(0.025, "per GiB written by the Storage Write API"),
    "bigquery_insert_gib": Price(0.05, "per GiB written by insertAll, at least 1 KiB per row"),
    "bigquery_storage_gib_month": Price(0.02, "per GiB-month of active logical storage"),
}

SESSION_SECONDS = 300.0  # from the first to the last event of a session
# Distinct values of a column per day. Those of `person` are a share of the messages.
DISTINCT = {
    "event_type": 20.0,
    "channel": 5.0,
    "content_id": 10_000.0,
    "content_type": 5.0,
    "category": 50.0,
    "campaign": 50.0,
    "currency": 3.0,
    "country": 50.0,
    "device": 10.0,
    "referrer": 1_000.0,
    "source": 3.0,
}
FOLLOWS = {"category": "content_id", "content_type": "content_id"}  # the second determines the first
PRESENT = {"campaign": 0.25, "person": 1.0, "content_id": 1.0}  # share of events that have a column
EVENT_TYPES = DISTINCT["event_type"]
