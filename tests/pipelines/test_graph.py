"""The whole graph as a runner gets it: the names of its steps, and how what crosses between workers is coded.

Beam keys state by the name of its step: a renamed one loses it in an update. After a deliberate change renew the list:

    RENEW_GOLDEN=1 pytest tests/pipelines/test_graph.py
"""

import os
import re
from collections.abc import Iterator
from datetime import date, timedelta
from functools import cache
from pathlib import Path

import apache_beam as beam
import polars as pl
import pytest
from apache_beam import coders
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.portability import common_urns
from apache_beam.portability.api import beam_runner_api_pb2
from apache_beam.runners.pipeline_context import PipelineContext
from apache_beam.testing.test_stream import TestStream

from pipelines.audience import Job, build
from pipelines.settings.config import read_config
from pipelines.sources.files.read import FileInput, ReadFiles
from pipelines.sources.stored import ReadReachAsked, ReadStoredDays
from pipelines.warehouse.file_sinks import FileSink
from pipelines.warehouse.metric_tables import table_of
from pipelines.warehouse.tables import EVENTS, QUALITY_1M, QUARANTINE, SESSIONS
from transforms.block import BlockCoder
from transforms.gather import GatherBlocks
from transforms.metrics.aggregations import MetricAggregation
from transforms.publication import Launch

GOLDEN = Path(__file__).parent / "golden"
MODES = ["bounded", "cluster", "streaming"]
PHRASE = re.compile(r"[A-Z][a-z]+( [a-z0-9_]+)*")
MOVES = (common_urns.primitives.GROUP_BY_KEY.urn, common_urns.primitives.FLATTEN.urn)
# Inside Beam's Reshuffle, which pickles the windows and panes that it carries.
PICKLED_BY_BEAM = {
    "bounded": {
        "Read/Spread files/ReshufflePerKey/GroupByKey",
        "Read/Spread ranges/ReshufflePerKey/GroupByKey",
    },
    "streaming": set(),
    "gathered": set(),
}
PICKLED_BY_BEAM["cluster"] = {
    *PICKLED_BY_BEAM["bounded"],
    "Read stored events/Spread days/ReshufflePerKey/GroupByKey",
    "Read neighbor days/Spread days/ReshufflePerKey/GroupByKey",
}


@cache
def graph(mode: str) -> beam.Pipeline:
    """The graph of the catalogue's metrics over files, here or as a job on a cluster, or over a stream, whose blocks
    Dataflow gathers; stored events join the bounded ones."""
    streaming, cluster = mode in ("streaming", "gathered"), mode == "cluster"
    metrics = read_config(None).metrics
    tables = {table.name: table for table in (EVENTS, QUARANTINE, QUALITY_1M, SESSIONS, *map(table_of, metrics))}
    stream = TestStream(coder=BlockCoder()).advance_watermark_to_infinity().with_output_types(pl.DataFrame)
    job = Job(
        source=stream if streaming else ReadFiles(["events/*.jsonl"], "events", files=FOUND if cluster else None),
        sink=FileSink("gs://b/staging", tables, "UTC", print) if cluster else FileSink("staging", tables, "UTC"),
        input="f",
        launch=Launch(1, "test"),
        metrics=tuple(MetricAggregation(spec, "UTC") for spec in metrics),
        streaming=streaming,
        gather=GatherBlocks(shards=4, delay=timedelta(seconds=1)) if mode == "gathered" else None,
        stored=None if streaming else ReadStoredDays("p.d", [date(2026, 3, 1)], "f") if cluster else Stored(),
        neighbor_events=None
        if streaming
        else ReadStoredDays("p.d", [date(2026, 2, 28)], None)
        if cluster
        else Stored(),
        spanning_sessions=None if streaming else ReadReachAsked("p.d", "SELECT 1") if cluster else Stored(),
    )
    options = PipelineOptions(["--streaming"] if streaming else [])
    pipeline = beam.Pipeline("FnApiRunner", options=options)
    build(pipeline, job)
    return pipeline


FOUND = [FileInput("gs://b/events/a.jsonl", "jsonl", "plain", 1)]


class Stored(beam.PTransform):
    """What stands for the stored events of a day."""

    def expand(self, begin):
        return begin | "Read nothing" >> beam.Create([]).with_output_types(pl.DataFrame)


def steps(pipeline: beam.Pipeline) -> list[str]:
    """The full labels of the steps that this project names; what Beam makes inside its own is left out."""

    def below(applied) -> Iterator[str]:
        for part in applied.parts:
            yield part.full_label
            if not type(part.transform).__module__.startswith("apache_beam."):
                yield from below(part)

    return list(below(pipeline.transforms_stack[0]))


def moved(pipeline: beam.Pipeline) -> Iterator[tuple[str, coders.Coder]]:
    """(step, coder) of all that enters a shuffle, a flatten or a step with state."""
    proto = pipeline.to_runner_api()
    context = PipelineContext(proto.components)
    for step in proto.components.transforms.values():
        if step.spec.urn in MOVES or has_state(step):
            for input in step.inputs.values():
                yield step.unique_name, context.coders.get_by_id(proto.components.pcollections[input].coder_id)


def has_state(step) -> bool:
    if step.spec.urn != common_urns.primitives.PAR_DO.urn:
        return False
    payload = beam_runner_api_pb2.ParDoPayload.FromString(step.spec.payload)
    return bool(payload.state_specs or payload.timer_family_specs)


def parts(coder: coders.Coder) -> Iterator[coders.Coder]:
    """A coder and the coders in it."""
    yield coder
    for inner in coder._get_component_coders():
        yield from parts(inner)


def pickles(coder: coders.Coder) -> bool:
    return any(isinstance(part, coders.FastPrimitivesCoder | coders.coders._PickleCoderBase) for part in parts(coder))


@pytest.mark.parametrize("mode", [*MODES, "gathered"])
def test_nothing_that_crosses_between_workers_is_pickled(mode):
    crossing = list(moved(graph(mode)))
    assert {step for step, coder in crossing if pickles(coder)} == PICKLED_BY_BEAM[mode]
    blocks = {step for step, coder in crossing if any(isinstance(part, BlockCoder) for part in parts(coder))}
    assert "Join rejected" in blocks
    assert any("Deduplicate" in step for step in blocks)


@pytest.mark.parametrize("mode", [*MODES, "gathered"])
def test_every_label_is_a_phrase_and_names_one_step(mode):
    labels = steps(graph(mode))
    assert len(labels) > 30
    assert len(set(labels)) == len(labels)
    assert [label for label in labels if not PHRASE.fullmatch(label.rpartition("/")[2])] == []


@pytest.mark.parametrize("mode", MODES)
def test_the_steps_keep_their_names(mode):
    golden, now = GOLDEN / f"steps_{mode}.txt", "\n".join(sorted(steps(graph(mode)))) + "\n"
    if os.environ.get("RENEW_GOLDEN"):
        golden.write_text(now)
    assert now == golden.read_text(), "state is lost in an update; if it must be, run again with RENEW_GOLDEN=1"


def test_the_check_sees_a_pickled_coder_wherever_it_hides():
    pickled = coders.FastPrimitivesCoder()
    assert pickles(coders.TupleCoder([coders.VarIntCoder(), coders.IterableCoder(pickled)]))
    assert pickles(coders.PickleCoder())
    assert not pickles(coders.TupleCoder([coders.VarIntCoder(), coders.IterableCoder(BlockCoder())]))
