"""Replay: reprocess quarantined records with the current rules, after a mapping or a rule was fixed.

With `--mapping`, records of its source, else those in the native format; late records only with `--accept_late`.
Records that pass are merged into their day as by `--add`, once. Each attempt is appended to quarantine; existing rows
there do not change.
"""

import time
from collections.abc import Iterable, Sequence
from dataclasses import replace

from pipelines.assemble import NATIVE_SOURCE, open_run
from pipelines.audience import build
from pipelines.batch.day_limit import refuse_spread
from pipelines.batch.days import days_found, days_with_events, with_neighbors, with_stored
from pipelines.batch.next_steps import written_lines
from pipelines.batch.summary import Summary
from pipelines.runners.in_process import run_bounded, worker_count
from pipelines.settings.mappings import read_mappings
from pipelines.settings.resolve import Settings
from pipelines.sources.quarantined import MAPPED, ReadSelected, Selected, select, unbooked
from pipelines.system.progress import Watch
from pipelines.warehouse import books
from pipelines.warehouse.conditions import literal
from pipelines.warehouse.file_sinks import read_confirmed
from pipelines.warehouse.tables import EVENTS
from transforms.errors import OptionError
from transforms.mapping import Mapping


def replay(settings: Settings, beam_options: Sequence[str] = ()) -> Summary:
    """Run the graph over open quarantined records, and commit the days that they belong to."""
    started = time.monotonic()
    mappings = read_mappings(settings)
    formats = [MAPPED + mapping.source for mapping in mappings] or ["native"]
    with open_run(settings) as into:
        warehouse, run = into.warehouse, into.run
        where = f"source_format IN ({', '.join(map(literal, formats))})"
        where += "" if settings.accept_late else " AND stage <> 'late'"
        chosen = select(warehouse, run.staging / "open.parquet", where)
        job = replace(into.job, source=ReadSelected(chosen, NATIVE_SOURCE), mappings=mappings)
        workers = worker_count(settings.workers, chosen.path.stat().st_size)
        with Watch(run.staging, 0).saying("replaying"):
            found = days_found(job, into, workers, beam_options)
            refuse_spread(found, settings.max_days)
            joined = sorted(days_with_events(warehouse) & found)
            run.may_write(joined)
            job = with_neighbors(job, into, found)
            run_bounded(lambda pipeline: build(pipeline, with_stored(job, warehouse, joined)), workers, beam_options)
        entries = read_confirmed(run.staging)
        counts = books.commit(run, entries, joined, into.derived, job.launch, None, [unbooked(chosen)])
        written = sorted({entry.day for entry in entries if entry.table == EVENTS.name and entry.day})
    seconds = time.monotonic() - started
    return Summary(f"quarantine: {', '.join(formats)}", counts, written, seconds, wrote=written_lines(entries))


def needed_mappings(selected: Selected, given: Iterable[Mapping]) -> tuple[Mapping, ...]:
    """Return the given mappings. Errors: OptionError if the selection contains records that none of them reads."""
    known = {MAPPED + mapping.source: mapping for mapping in given}
    lacking = sorted(selected.formats - known.keys() - {"native"})
    if lacking:
        raise OptionError(
            f"quarantine contains late records of {', '.join(lacking)}: give the mapping of each with --mapping FILE"
        )
    return tuple(known.values())
