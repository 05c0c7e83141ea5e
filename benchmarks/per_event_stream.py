"""The usual streaming pipeline: the same events, one at a time, to events and live counts by minute, channel and type.

    python benchmarks/per_event_stream.py SUBSCRIPTION OUT_DIR RUNNER [PRISM_ENDPOINT]

As Beam's guide teaches it: parse and validate in a DoFn, drop repeats with a stateful DoFn keyed by id, count by
CombinePerKey in minute windows with early firings, write lines. On Prism it reads through our reader, since Beam has
none there, and unpacks its blocks; on the legacy runner through Beam's ReadFromPubSub. It runs until it is killed.
"""

import json
import os
import sys
import time

import apache_beam as beam
from apache_beam.coders import BooleanCoder
from apache_beam.io.gcp.pubsub import ReadFromPubSub
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.transforms.trigger import AccumulationMode, AfterCount, AfterProcessingTime, AfterWatermark
from apache_beam.transforms.userstate import ReadModifyWriteStateSpec
from apache_beam.transforms.window import FixedWindows, TimestampedValue
from apache_beam.utils.timestamp import Duration
from per_event_records import Refused, read_event, read_record, settle_time, validate

from pipelines.runners.private_sockets import private_sockets

DAY_S, MINUTE_S = 86_400, 60


class Parse(beam.DoFn):
    """A payload -> an event at its time; what is refused is left out."""

    def process(self, payload):
        try:
            record = read_record(payload)
            event = read_event(record)
            validate(event)
            event["received_time"] = event.get("received_time") or event["client_time"]
            settle_time(event, record)
        except Refused:
            return
        yield TimestampedValue(event, event["event_time"].timestamp())


class KeepFirst(beam.DoFn):
    """Events keyed by id in a day -> the first of each."""

    SEEN = ReadModifyWriteStateSpec("seen", BooleanCoder())

    def process(self, keyed, seen=beam.DoFn.StateParam(SEEN)):
        if not seen.read():
            seen.write(True)
            yield keyed[1]


class Write(beam.DoFn):
    """Rows -> lines in one file a process and table."""

    def __init__(self, path: str):
        self.path = path

    def start_bundle(self):
        self.lines = []

    def process(self, row):
        self.lines.append(json.dumps(row, default=str))

    def finish_bundle(self):
        if self.lines:
            with open(f"{self.path}-{os.getpid()}.jsonl", "a") as file:
                file.write("\n".join(self.lines) + "\n")


def counted(keyed):
    (channel, kind), count = keyed
    return {"at": time.time(), "channel": channel, "event_type": kind, "events": count}


def build(pipeline: beam.Pipeline, subscription: str, out: str, portable: bool) -> None:
    """The graph."""
    if portable:
        from pipelines.sources.pubsub.source import Reading, ReadPubSub

        blocks = pipeline | "Read" >> ReadPubSub(Reading(subscription))
        payloads = blocks | "One at a time" >> beam.FlatMap(lambda block: block["payload"].to_list())
    else:
        payloads = pipeline | "Read" >> ReadFromPubSub(subscription=subscription)
    early = (
        AfterWatermark(early=AfterProcessingTime(10), late=AfterCount(1))
        if portable
        else AfterWatermark(late=AfterCount(1))
    )
    events = (
        payloads
        | "Parse" >> beam.ParDo(Parse())
        | "By id" >> beam.Map(lambda event: (event["event_id"], event))
        | "In days" >> beam.WindowInto(FixedWindows(DAY_S), allowed_lateness=Duration(DAY_S))
        | "Keep first" >> beam.ParDo(KeepFirst())
    )
    events | "Write events" >> beam.ParDo(Write(f"{out}/events"))
    (
        events
        | "By channel and type" >> beam.Map(lambda event: ((event.get("channel"), event["event_type"]), 1))
        | "In minutes"
        >> beam.WindowInto(
            FixedWindows(MINUTE_S),
            trigger=early,
            accumulation_mode=AccumulationMode.ACCUMULATING,
            allowed_lateness=Duration(DAY_S),
        )
        | "Count" >> beam.CombinePerKey(sum)
        | "Rows" >> beam.Map(counted)
        | "Write counts" >> beam.ParDo(Write(f"{out}/activity_1m"))
    )


def main() -> None:
    """Run until killed."""
    subscription, out, runner, *endpoint = sys.argv[1:]
    options = [f"--runner={runner}", "--streaming"]
    if endpoint:
        options += [f"--job_endpoint={endpoint[0]}", "--environment_type=LOOPBACK"]
    pipeline = beam.Pipeline(options=PipelineOptions(options))
    build(pipeline, subscription, out, portable=bool(endpoint))
    with private_sockets():
        pipeline.run().wait_until_finish()


if __name__ == "__main__":
    main()
