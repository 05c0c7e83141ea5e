"""Settings of a run: each option as typed, else as the configuration file states it, else its default, and checked.

The parser, the help, the keys of the configuration file with their schema and documentation, and the metadata of the
Dataflow template come from one list (options.py). Nothing here imports Beam: a wrong option is reported at once.
"""

from datetime import date, timedelta
from typing import Any, NamedTuple

from pipelines.settings.arguments import OF_KAFKA, OF_MESSAGES, OF_OUTPUT, OF_QUEUES, TO_DATASET, TO_FOLDER
from pipelines.settings.options import OPTIONS
from pipelines.settings.values import NAMED, Given, value_of
from transforms.errors import OptionError

MOST_LATENESS = timedelta(days=3600)  # keeps every event, and its bucket, within BigQuery's 3,650 days


class Settings(NamedTuple):
    """The options, checked and typed. Days are dates in the warehouse's time zone; `end` is exclusive."""

    input: tuple[str, ...]
    format: str
    input_subscription: str | None
    input_topic: str | None
    input_log: str | None
    input_kinesis: str | None
    input_kafka: str | None
    kafka_servers: str | None
    kafka_group: str | None
    kafka_properties: str | None
    kafka_registry: str | None
    kafka_reader: str | None
    kafka_expansion_service: str | None
    start_at: str | float | None
    stop_at: str | float | None
    timestamp_attribute: str | None
    source_attribute: str | None
    id_label: str | None
    mapping: tuple[str, ...]
    config: str | None
    warehouse: str | None
    dataset: str | None
    partition_expiration: timedelta | None
    no_active_stream: bool
    time_zone: str | None
    group: str | None
    start: date | None
    end: date | None
    due: bool
    replace: bool
    add: bool
    max_days: int
    max_lateness: timedelta
    accept_late: bool
    allow_quarantine: bool
    dedup_window: timedelta
    expected_delay: timedelta
    early_firing: timedelta | None
    refresh_every: timedelta | None
    batch_delay: timedelta
    readers: int
    write_method: str
    output_topic: str | None
    output_kafka: str | None
    output_tables: str
    landing: str
    shards: int
    workers: int
    generation: int | None
    held: bool


def effective(values: dict[str, Any]) -> dict[str, Given]:
    """Return the effective value of each option: as typed (`values`), else from the file, else the default.

    Each value is checked by itself. Errors: OptionError or, for a value in the file, ConfigError.
    """
    stated = {name: values.get(name) for name in NAMED}
    typed = {name: Given(value, "option") for name, value in stated.items() if value is not None and value is not False}
    for name, given in typed.items():
        value_of(NAMED[name], given)
    of_file: dict[str, Given] = {}
    if "config" in typed:
        from pipelines.settings.file import stated_options

        of_file = stated_options(typed["config"].value)
    defaults = {option.name: Given(option.default, "default") for option in OPTIONS}
    return defaults | of_file | typed | _one_warehouse(of_file, typed)


def _one_warehouse(of_file: dict[str, Given], typed: dict[str, Given]) -> dict[str, Given]:
    """Drop the folder if a dataset is named, or the dataset of the file if a folder is typed."""
    for given in (typed, of_file):
        if "dataset" in given and "warehouse" in given:
            named = f"--dataset {given['dataset'].value} and --warehouse {given['warehouse'].value}"
            raise given["dataset"].refusal("dataset", f"only one of {named}: a warehouse is a dataset or a folder")
        for name, other in (("dataset", "warehouse"), ("warehouse", "dataset")):
            if name in given:
                return {other: Given(None, "default")}
    return {}


def resolve(values: dict[str, Any], command: str = "backfill") -> Settings:
    """Check the options of a command, each by itself and together; an error states what was got and what is allowed."""
    settings = Settings(**{name: value_of(NAMED[name], given) for name, given in effective(values).items()})
    _check_together(settings)
    if settings.group is not None and settings.dataset is not None:
        raise OptionError(
            f"--group: got {settings.group!r} for --dataset {settings.dataset}; allowed: only with --warehouse; "
            "access to a dataset is granted in BigQuery"
        )
    if command == "backfill":
        _check_files(settings, values)
    if command == "run":
        _check_queue(settings, values)
        _check_dataset(settings, values)
    return settings


def check_on_cluster(settings: Settings) -> None:
    """Check what a backfill on Dataflow must state: its launch has ended before a file is read."""
    if settings.dataset is None:
        raise OptionError("--dataset is missing: a job on Dataflow writes to BigQuery; give --dataset project.dataset")
    if settings.add and settings.start is None:
        raise OptionError(
            "--add needs --start and --end on Dataflow: the days whose stored events are merged must be known before "
            "the job starts; name the days"
        )


class Place(NamedTuple):
    """Where a warehouse is: a BigQuery dataset or a local folder."""

    dataset: str | None
    warehouse: str | None


def place_of(values: dict[str, Any]) -> Place:
    """Return the warehouse that a command reads: as typed, else from the configuration file."""
    given = effective({name: values.get(name) for name in ("dataset", "warehouse", "config")})
    return Place(*(value_of(NAMED[name], given[name]) for name in Place._fields))


def landing_of(values: dict[str, Any]) -> str:
    """Return the folder in which a stream into a dataset keeps records that are read but not yet written."""
    return value_of(NAMED["landing"], effective({"landing": values.get("landing")})["landing"])


def _check_files(settings: Settings, values: dict[str, Any]) -> None:
    if settings.input and settings.input_kafka:
        raise OptionError("--input and --input_kafka exclude each other: run one backfill for each")
    if not settings.input and not settings.input_kafka:
        raise OptionError("no source given: name the files to read with --input, e.g. --input 'events/*.jsonl.gz'")
    wrong, of = (("format",), "--input") if settings.input_kafka else (sorted(OF_KAFKA), "--input_kafka")
    for name in wrong:
        if values.get(name) is not None:
            raise OptionError(f"--{name}: got {values[name]!r}; allowed: only with {of}; leave it out")
    refuse_several(settings, len(settings.mapping))
    if settings.replace and settings.add:
        raise OptionError("--replace and --add exclude each other: overwrite the days, or merge into them")
    if settings.replace and settings.start is None:
        raise OptionError("--replace needs --start and --end: name the days for which the input is complete")


def _check_queue(settings: Settings, values: dict[str, Any]) -> None:
    queues = [option for option in NAMED.values() if option.names_queue]
    named = [f"--{option.name}" for option in queues if getattr(settings, option.name) is not None]
    if not named:
        allowed = " or ".join(f"--{option.name} {option.example}" for option in queues)
        raise OptionError(
            f"no source given: name the queue to read, as with {allowed}; to read files, use audience backfill"
        )
    if len(named) > 1:
        raise OptionError(f"{' and '.join(named)} exclude each other: name one")
    if settings.output_topic and settings.output_kafka:
        raise OptionError("--output_topic and --output_kafka exclude each other: name one")
    for name, of in (OF_QUEUES | OF_MESSAGES).items():
        if settings.output_kafka and name in OF_OUTPUT:
            continue
        if values.get(name) is not None and named[0] not in of:
            allowed = f"only with {' or '.join(of)}"
            raise OptionError(f"--{name}: got {values[name]!r} with {named[0]}; allowed: {allowed}; leave it out")
    refuse_several(settings, len(settings.mapping))


def refuse_several(settings: Settings, mappings: int) -> None:
    """Refuse several mappings where nothing says which records each of them reads: entries of a log, records in
    quarantine, and with --source_attribute messages state their source. Errors: OptionError."""
    queues = [option.name for option in NAMED.values() if option.names_queue and getattr(settings, option.name)]
    if mappings < 2 or settings.source_attribute or "input_log" in queues or not (settings.input or queues):
        return
    have_attributes = queues and f"--{queues[0]}" in OF_MESSAGES["source_attribute"]
    by_name = ", or name them with --source_attribute" if have_attributes else ""
    kind = "backfill" if settings.input else "job"
    raise OptionError(f"--mapping: got {mappings}; allowed: one; run one {kind} for each source{by_name}")


def _check_dataset(settings: Settings, values: dict[str, Any]) -> None:
    if settings.held and (output := settings.output_topic or settings.output_kafka):
        raise OptionError(
            f"--held and an output ({output}) exclude each other: rows that no view shows yet would be published; "
            "update the job without --parallel, or publish after the release"
        )
    for name in TO_DATASET:
        if settings.dataset is None and values.get(name) is not None:
            raise OptionError(
                f"--{name}: got {values[name]!r} for --warehouse {settings.warehouse}; allowed: only with --dataset; "
                "leave it out"
            )
    for name in TO_FOLDER:
        if settings.dataset is not None and values.get(name) is not None:
            raise OptionError(
                f"--{name}: got {values[name]!r} for --dataset {settings.dataset}; allowed: only with --warehouse; "
                "leave it out, and schedule audience refresh"
            )
    if settings.dataset and settings.max_lateness > MOST_LATENESS:
        raise OptionError(
            f"--max_lateness: got {settings.max_lateness.days}d; allowed for a stream into a dataset: at most "
            f"{MOST_LATENESS.days}d: BigQuery refuses streamed rows of days more than 10 years ago"
        )


def _check_together(settings: Settings) -> None:
    if settings.due and settings.start is not None:
        raise OptionError("--due and --start exclude each other: the dataset names the days that are due")
    if settings.due and settings.dataset is None:
        raise OptionError("--due needs --dataset: the dataset names the days that are due")
    if (settings.start is None) != (settings.end is None):
        missing = "--start" if settings.start is None else "--end"
        raise OptionError(f"{missing} is missing: a range of days needs both --start and --end (the end is exclusive)")
    if settings.start and settings.end and settings.start >= settings.end:
        raise OptionError(
            f"--start {settings.start} is not before --end {settings.end}: --end is the day after the last one written"
        )
