"""The stream as a job on a cluster has it: its workers are processes that have the package, and nothing of the process
that submitted the graph."""

import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from subprocess import PIPE

import apache_beam as beam
import polars as pl
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.testing.test_stream import TestStream
from apache_beam.transforms.window import TimestampedValue

from pipelines.assemble import open_run
from pipelines.audience import build
from pipelines.runners.choose import PRISM_WORK_ROUND, prism_at
from pipelines.settings.resolve import resolve
from pipelines.warehouse.bigquery.warehouse import BigQueryWarehouse
from pipelines.warehouse.local.warehouse import LocalWarehouse
from tests.integration.same import METRICS, assert_alike
from tests.parity.runs import messages, raw_block
from tests.servers.sockets import assert_private
from transforms.block import BlockCoder
from transforms.gather import GatherBlocks

ROOT = Path(__file__).parents[2]


# Beam's own, on a private socket, until its input ends.
POOL = """
import sys
from apache_beam.runners.worker.worker_pool_main import BeamFnExternalWorkerPoolServicer as Pool
from pipelines.runners.private_sockets import private_sockets
with private_sockets():
    print(Pool.start(use_process=True)[0], flush=True)
    sys.stdin.read()
"""


@contextmanager
def worker_pool(folder: Path) -> Iterator[str]:
    """Beam's own pool of workers, a process of its own: where it answers."""
    # It starts each worker as `python`.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    env = os.environ | {"PYTHONPATH": f"{ROOT}", "PATH": path}
    with (
        (folder / "workers.log").open("wb") as log,
        subprocess.Popen(
            [sys.executable, "-c", POOL], cwd=folder, env=env, stdin=PIPE, stdout=PIPE, stderr=log
        ) as pool,
    ):
        assert pool.stdin and pool.stdout
        yield pool.stdout.readline().decode().strip()
        pool.stdin.close()


def test_a_stream_whose_workers_are_other_processes_gives_the_rows_of_a_backfill(
    few_records, bigquery, prism, tmp_path
):
    numbered = messages(few_records.lines)
    stream = TestStream(coder=BlockCoder())
    for at in range(0, len(numbered), 100):
        part = numbered[at : at + 100]
        earliest = min(message.received for message in part)
        stream = stream.add_elements([TimestampedValue(raw_block(part), earliest)])
    source = stream.advance_watermark_to_infinity().with_output_types(pl.DataFrame)
    dataset = f"demo-project.workers_{uuid.uuid4().hex[:12]}"
    queue = "projects/demo-project/subscriptions/events"
    settings = resolve({"dataset": dataset, "input_subscription": queue}, "run")
    with (
        open_run(settings, create=True, streaming=True) as into,
        worker_pool(tmp_path) as pool,
        prism_at(prism, tmp_path / "prism.log") as (endpoint, _),
    ):
        words = ["--runner=PrismRunner", f"--job_endpoint={endpoint}", "--streaming", PRISM_WORK_ROUND]
        words += ["--environment_type=EXTERNAL", f"--environment_config={pool}"]
        with beam.Pipeline(options=PipelineOptions(words)) as pipeline:
            gather = GatherBlocks(shards=into.job.shards, delay=settings.batch_delay)  # as on Dataflow
            build(pipeline, replace(into.job, source=source, input=queue, gather=gather))
        listening = {(each.kind, each.address) for each in assert_private(os.getpid())}
        assert {("unix", where.removeprefix("unix:")) for where in (pool, endpoint)} <= listening
    with closing(BigQueryWarehouse.open(dataset)) as there:
        for sql in (
            "SELECT * EXCEPT (received_time, sent_time) FROM events_unique",
            "SELECT source, stage, code, errors, payload FROM quarantine",
            *(f"SELECT * FROM {metric}_current" for metric in METRICS),
            # A file tells no minute of what cannot be read.
            "SELECT bucket_start, SUM(events + duplicates) AS n FROM quality_1m_current GROUP BY 1 HAVING n > 0",
            "SELECT SUM(received) AS r, SUM(quarantined) AS q, SUM(duplicates) AS d FROM quality_1m_current",
        ):
            assert_alike(there, LocalWarehouse.open(few_records.batch), sql)
