"""`audience mapping`: propose a mapping from sample files, or check a mapping against them."""

from pathlib import Path

from pipelines.commands import Command
from pipelines.system.terminal import faithful, option, say, shown
from transforms.errors import OptionError

_ONLY = {"from": ("output", "force", "delimiter"), "check": ("input", "json")}
_SPELLED = {"tab": "\t", "\\t": "\t", "space": " "}


def add_options(parser) -> None:
    which = parser.add_argument_group("mode (one is required)")
    which.add_argument(
        "--from",
        dest="sample",
        action="extend",
        nargs="+",
        metavar="SAMPLE",
        help="Propose a mapping for these files, local or gs:// (- for standard input), and write it to --output",
    )
    which.add_argument(
        "--check",
        metavar="FILE",
        help="Run the records of --input through this mapping without writing anything. Exit status: 0 if all pass, "
        "1 if some fail, 2 for a user error",
    )
    parser.add_argument("--input", action="extend", nargs="+", metavar="SAMPLE", help="Files for --check")
    parser.add_argument(
        "--format",
        default="auto",
        choices=("auto", "jsonl", "csv", "parquet"),
        help="File format (default: auto, inferred from the file name, else from the first bytes)",
    )
    parser.add_argument(
        "--delimiter",
        metavar="CHARACTER",
        help="Delimiter of CSV for --from: one ASCII character, tab, space, or blanks for any run of spaces and tabs "
        "(default: inferred from the records)",
    )
    parser.add_argument("--limit", metavar="N", help="Records to sample (default: 10000, with --check 100000)")
    parser.add_argument(
        "--output",
        metavar="FILE",
        help="File for the proposal, - for stdout (default: SOURCE.yaml in the working directory)",
    )
    parser.add_argument("--force", action="store_true", help="Overwrite the file if it exists")
    parser.add_argument("--json", action="store_true", help="Print the result of the check as one JSON object")


def run(values, rest) -> int:
    mode = _mode(values)
    limit = _limit(values.limit)
    return _propose(values, limit) if mode == "from" else _check(values, limit)


def _mode(values) -> str:
    if (values.sample is None) == (values.check is None):
        got = "neither" if values.check is None else "both"
        raise OptionError(f"got {got} of --from and --check; allowed: one of them; see audience mapping --help")
    mode = "check" if values.sample is None else "from"
    other = "from" if mode == "check" else "check"
    for name in _ONLY[other]:
        if getattr(values, name):
            raise OptionError(f"--{name}: only for --{other}; leave it out, or give --{other} instead of --{mode}")
    if mode == "check" and not values.input:
        raise OptionError("--check needs --input: name files to run through the mapping, e.g. --input sample.jsonl")
    return mode


def _limit(text: str | None) -> int | None:
    if text is not None and (not text.isascii() or not text.isdecimal() or not int(text)):
        raise OptionError(f"--limit: got {text!r}; allowed: a whole number, at least 1")
    return int(text) if text else None


def _delimiter(text: str | None, format: str) -> str:
    if text is None:
        return ""
    if format not in ("auto", "csv"):
        raise OptionError(f"--delimiter: got --format {format}, allowed csv or auto; leave one of them out")
    delimiter = _SPELLED.get(text, text)
    if delimiter != "blanks" and (len(delimiter) != 1 or not delimiter.isascii() or delimiter in "\r\n\"'"):
        raise OptionError(f"--delimiter: got {text!r}; allowed: one ASCII character, tab, space or blanks")
    return delimiter


def _propose(values, limit: int | None) -> int:
    delimiter = _delimiter(values.delimiter, values.format)
    if values.output not in (None, "-"):
        _refuse_to_overwrite(values.output, values.force)
    from pipelines.apps.mapping.proposal import SAMPLE_ROWS, propose
    from pipelines.apps.mapping.report import proposal_lines
    from pipelines.batch.summary import program
    from pipelines.sources.files.standard_input import spooled
    from pipelines.system.private import write_whole

    with spooled(values.sample) as patterns:
        made = propose(patterns, values.format, limit or SAMPLE_ROWS, delimiter)
    lines = list(proposal_lines(made))
    output = values.output or f"{made.source}.yaml"
    if output == "-":
        faithful(made.yaml)
    else:
        _refuse_to_overwrite(output, values.force)
        write_whole(output, made.yaml.encode())
        inputs = " ".join(option("input", pattern) for pattern in values.sample)
        lines += [
            f"written: {shown(output)}; it contains guesses: review it and fix what is wrong",
            f"next: {program()} mapping {option('check', output)} {inputs}",
            f"next: {program()} backfill {option('mapping', output)} {inputs}",
        ]
    say("\n".join(lines))
    return 0


def _refuse_to_overwrite(output: str, force: bool) -> None:
    if Path(output).exists() and not force:
        raise OptionError(f"{output}: already exists; choose another --output, or --force to overwrite")


def _check(values, limit: int | None) -> int:
    from pipelines.apps.mapping.check import SAMPLE_ROWS, check_file
    from pipelines.sources.files.standard_input import spooled

    with spooled(values.input) as patterns:
        checked = check_file(values.check, patterns, values.format, limit or SAMPLE_ROWS)
    if values.json:
        import msgspec

        print(msgspec.json.encode(checked.check).decode())
    else:
        from pipelines.apps.mapping.report import check_lines

        print("\n".join(check_lines(checked)))
    return 0 if checked.check.passed == checked.check.records else 1


COMMAND = Command(
    add_options,
    run,
    "Propose a mapping for your own files, or check one before writing anything.",
    "audience mapping --from events.json.gz",
)
