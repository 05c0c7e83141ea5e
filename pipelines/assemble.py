"""Assemble a run from its settings: the open warehouse with its declared tables, the sink, and a job without a source.

open_run(settings)              Opened: for batch runs and streams alike; each fills in what it reads
open_configured(settings)       the warehouse alone
"""

import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, cast

import apache_beam as beam
import polars as pl

from pipelines.audience import Job
from pipelines.settings.config import Configuration, read_config
from pipelines.settings.mappings import read_mappings
from pipelines.settings.options import SHARDS
from pipelines.settings.resolve import Settings
from pipelines.version import VERSION
from pipelines.warehouse.file_sinks import FileSink
from pipelines.warehouse.interface import Warehouse, WarehouseRun
from pipelines.warehouse.local.notes import note_files
from pipelines.warehouse.metric_tables import tables_of
from pipelines.warehouse.open import open_warehouse
from pipelines.warehouse.outputs import Outputs
from pipelines.warehouse.sink import Sink
from pipelines.warehouse.tables import ERASURES, EVENTS, QUALITY_1M, QUARANTINE, SESSIONS, Table
from transforms.errors import OptionError
from transforms.lateness import allowed_lateness
from transforms.mapping import Mapping as RecordMapping
from transforms.metrics.aggregations import MetricAggregation
from transforms.metrics.spec import MetricSpec
from transforms.publication import Launch

if TYPE_CHECKING:
    from pipelines.sources.kafka.publish import KafkaTopic
    from pipelines.sources.pubsub.publish import PubSubTopic

NATIVE_SOURCE = "events"  # the source of native records that do not state one


class Opened(NamedTuple):
    """A warehouse with the one run that writes to it, and the active metrics."""

    warehouse: Warehouse
    run: WarehouseRun
    metrics: tuple[MetricSpec, ...]
    job: Job  # without a source: each kind of run fills in its own
    outputs: Outputs | None = None  # of a stream

    @property
    def derived(self) -> list[str]:
        """The tables derived from events, by day."""
        return [*(spec.name for spec in self.metrics), SESSIONS.name]


@contextmanager
def open_run(settings: Settings, create: bool = False, streaming: bool = False) -> Iterator[Opened]:
    """Open the warehouse for writing and declare the tables of this run."""
    configuration = read_config(settings.config)
    tables = tables_of(configuration.metrics)
    with open_configured(settings, create) as warehouse, warehouse.writer() as run:
        run.declare([*tables.values(), ERASURES], configuration.funnel, configuration.attribution)
        outputs = _outputs(settings, tables) if streaming else None
        sink = _sink(settings, warehouse, run, tables, streaming, outputs)
        job = new_job(settings, configuration, sink, time_zone=warehouse.time_zone, streaming=streaming)
        if streaming and settings.held:
            _hold(warehouse, job.launch.generation)
        job = replace(job, spill_folder=None if streaming else str(make_folder(run.staging / "spill")))
        yield Opened(warehouse, run, configuration.metrics, job, outputs)


def new_job(settings: Settings, configuration: Configuration, sink: Sink, *, time_zone: str, streaming: bool) -> Job:
    """Return the job that the options describe, without its source."""
    return Job(
        source=beam.Create([]).with_output_types(pl.DataFrame),
        sink=sink,
        input=None,
        launch=Launch(settings.generation or time.time_ns() // 1000, VERSION),
        metrics=tuple(MetricAggregation(spec, time_zone, settings.early_firing) for spec in configuration.metrics),
        null_ids=configuration.quality.null_ids,
        bots=configuration.quality.bots,
        max_lateness=settings.max_lateness,
        accept_late=settings.accept_late,
        dedup_window=settings.dedup_window,
        shards=settings.shards or SHARDS,
        streaming=streaming,
        early=settings.early_firing,
        funnel=configuration.funnel.steps,
    )


def mappings_of(settings: Settings) -> tuple[tuple[RecordMapping, ...], str]:
    """Return the mappings of a stream, and the source of records that do not state one."""
    mappings = read_mappings(settings)
    return mappings, mappings[0].source if mappings else NATIVE_SOURCE


def _sink(
    settings: Settings,
    warehouse: Warehouse,
    run: WarehouseRun,
    tables: dict[str, Table],
    streaming: bool,
    outputs: Outputs | None,
) -> Sink:
    if streaming and settings.dataset:
        from pipelines.warehouse.bigquery.stream.sink import BigQueryStreamSink  # which imports Google's clients

        return BigQueryStreamSink(warehouse.name, tables, settings.write_method, outputs=outputs)
    return FileSink(str(run.staging), tables, warehouse.time_zone, note=note_files if streaming else None)


def _hold(warehouse: Warehouse, generation: int) -> None:
    from pipelines.warehouse.bigquery.held import hold  # which imports Google's clients
    from pipelines.warehouse.bigquery.warehouse import BigQueryWarehouse

    hold(cast(BigQueryWarehouse, warehouse), generation)  # an option of a dataset alone


def _outputs(settings: Settings, tables: Mapping[str, Table]) -> Outputs | None:
    """Return where the rows of a stream go beside the warehouse. Errors: OptionError for an unknown table,
    SourceError for a topic that cannot be used."""
    topic = _topic(settings)
    if topic is None:
        return None
    others = {EVENTS.name, QUARANTINE.name, QUALITY_1M.name, SESSIONS.name}
    metrics = frozenset(tables) - others - {ERASURES.name}
    named = frozenset(settings.output_tables.split(","))
    if unknown := sorted(named - metrics - others - {"metrics"}):
        raise OptionError(
            f"--output_tables: got {unknown[0]!r}; allowed: metrics, {', '.join(sorted(others | metrics))}"
        )
    topic.check()
    return Outputs(topic, named - {"metrics"} | (metrics if "metrics" in named else frozenset()))


def _topic(settings: Settings) -> "PubSubTopic | KafkaTopic | None":
    if settings.output_kafka is not None:
        from pipelines.sources.kafka.client import Connection
        from pipelines.sources.kafka.publish import KafkaTopic

        return KafkaTopic(settings.output_kafka, Connection(settings.kafka_servers, settings.kafka_properties))
    if settings.output_topic is not None:
        from pipelines.sources.pubsub.publish import PubSubTopic  # which imports gRPC

        return PubSubTopic(settings.output_topic)
    return None


def open_configured(settings: Settings, create: bool = False) -> AbstractContextManager[Warehouse]:
    """Open the warehouse of the options for the duration of the context."""
    # The last window of a day closes `allowed_lateness` after the day; its last rows arrive a little later.
    settled_after = None if settings.no_active_stream else allowed_lateness(settings.max_lateness) + timedelta(hours=2)
    return open_warehouse(
        settings.dataset,
        settings.warehouse,
        settings.time_zone,
        create,
        settings.partition_expiration,
        settled_after,
        settings.group,
    )


def make_folder(folder: Path) -> Path:
    """Create the folder, and return it."""
    folder.mkdir(parents=True)
    return folder
