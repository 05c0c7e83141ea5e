"""The state from which a job starts that replaces a running stream: rebuilt by its launch, from rows to a bucket.

The launch downloads the events of the open windows, about eight days of them, as the start of a stream on this machine
does (streaming/recovery/restore.py). It corrects the metric rows as well; they are held like all rows of the job.
"""

import tempfile
from pathlib import Path
from typing import Any, cast

import polars as pl

from pipelines.assemble import Opened
from pipelines.sources.landing import COUNTS_SCHEMA
from pipelines.streaming.recovery.restore import resume, stream_of
from pipelines.warehouse.bigquery.restore import Appending, Remains
from pipelines.warehouse.bigquery.run import BigQueryRun
from pipelines.warehouse.bigquery.warehouse import BigQueryWarehouse
from transforms.restored_state import copy_to_bucket


def restore_to_bucket(into: Opened, input: str, folder: str) -> str:
    """Rebuild the state of a stream of this input from the rows that are stored now, and return its folder.

    folder  a new one in the bucket of the job; its workers read it until the windows that are open now have ended
    """
    schema: Any = COUNTS_SCHEMA
    nothing = pl.DataFrame(schema=schema)  # no record landed: the job reads all from its subscription
    with tempfile.TemporaryDirectory(prefix="audience-restored-") as work:
        remains = Remains(cast(BigQueryWarehouse, into.warehouse), nothing, into.job.dedup_window, Path(work))
        run = Appending(cast(BigQueryRun, into.run), remains, Path(work))
        return copy_to_bucket(resume(run, stream_of(input, into.job), nothing).seeds, folder)
