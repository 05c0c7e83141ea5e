"""`audience`: a user error is one line and exit status 2, and leaves nothing half-written."""

import argparse
import csv
import gzip
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines import launcher
from pipelines.cli import COMMANDS, main, parse_command
from pipelines.warehouse.local.warehouse import LocalWarehouse

ROOT = Path(__file__).parents[2]
TIME = "2026-03-01T10:00:00Z"
MAPPING = "source: shop\nformat: csv\nfields:\n  event_type: {const: click}\n  user_id: {path: visitor}\n"


def event(n: int, **fields) -> str:
    stated = {"event_id": f"e{n}", "event_type": "page_view", "event_time": TIME, "received_time": TIME}
    return json.dumps(stated | fields) + "\n"


def write(path: Path, content: str | bytes) -> str:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return str(path)


def one_line(captured) -> str:
    """What a mistake said: nothing on stdout, one line on stderr that begins with `error: `."""
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1, captured.err
    assert captured.err.endswith("\n")
    return captured.err.removeprefix("error: ").rstrip("\n")


def assert_untouched(warehouse: Path) -> None:
    """No row, and nothing staged."""
    if not warehouse.exists():
        return
    opened = LocalWarehouse.open(warehouse)
    assert opened.manifest().files == {}
    held = sorted(path.name for path in warehouse.rglob("*") if path.is_file())
    assert held == ["lock", "manifest.json", "warehouse.json"]
    assert list((warehouse / "staging").glob("*")) == []


@pytest.fixture
def events(tmp_path) -> str:
    return write(tmp_path / "events.jsonl", "".join(map(event, range(3))))


@pytest.fixture(scope="module")
def filled(tmp_path_factory) -> str:
    """A warehouse with three events."""
    folder = tmp_path_factory.mktemp("filled")
    events = write(folder / "events.jsonl", "".join(event(n, text='say "hi",\nplease') for n in range(3)))
    assert launcher.main(["--input", events, "--warehouse", str(folder / "warehouse"), "--workers", "1"]) == 0
    return str(folder / "warehouse")


# --- Mistakes that are found before anything runs: {here} is the folder with the files of `files_of_a_person`.

WRONG_COMMANDS = {
    "no command": (
        [],
        "no command given; allowed: run, stop, collect, backfill, recompute, replay, mapping, query, refresh, train,",
    ),
    "an unknown command": (["backfil"], "invalid choice: 'backfil'"),
    "an unknown option before a command": (["--verbose", "query", "SELECT 1"], "unknown option '--verbose' of query"),
    "an unknown option of query": (["query", "SELECT 1", "--xml"], "unknown option '--xml' of query"),
    "two forms at once": (["query", "SELECT 1", "--csv", "--json"], "--json: not allowed with argument --csv"),
    "no query": (["query"], "required: SQL; see audience query --help"),
    "an unknown dialect": (["query", "SELECT 1", "--dialect", "oracle"], "invalid choice: 'oracle'"),
    "a query of no warehouse": (["query", "SELECT 1", "--warehouse", "{here}/none"], "none is no warehouse; make it"),
    "a query of a file": (["query", "SELECT 1", "--warehouse", "{here}/events.jsonl"], "is a file, not a folder"),
    "no number of events": (["simulate", "--events", "many", "--output", "{here}/s"], "--events: got 'many'; allowed"),
    "no event": (["simulate", "--events", "0", "--output", "{here}/s"], "--events: got '0'; allowed: a whole number"),
    "no output": (["simulate", "--events", "1"], "give one of a file with --output, a topic with --output_topic"),
    "an output in no folder": (
        ["simulate", "--events", "1", "--output", "{here}/no/s"],
        "no/s: cannot be written (No such file or directory); name a file in a writable folder",
    ),
    "a demo in a folder of something else": (["demo", "--folder", "{here}"], "was not made by a demo: name another"),
}
WRONG_BACKFILLS = {
    "no input": ([], "name the files to read with --input"),
    "a missing file": (["--input", "{here}/none.jsonl"], "none.jsonl': there is no such file; check the path"),
    "an empty glob": (["--input", "{here}/*.parquet"], "*.parquet': "),
    "an empty glob beside a file": (["--input", "{events}", "--input", "{here}/x*"], "x*': "),
    "a glob that the shell expanded": (["--input", "{events}", "b.jsonl"], "'b.jsonl' belongs to no option; quote a"),
    "no gzip": (["--input", "{here}/no.jsonl.gz"], "no.jsonl.gz: cannot be read: "),
    "a CSV with another header": (
        ["--input", "{here}/other.csv", "--mapping", "{here}/mapping.yaml"],
        "other.csv: the CSV header lacks 'visitor'; found 'user', 'page'",
    ),
    "an unknown option": (["--input", "{events}", "--inptu", "x"], "unknown option '--inptu'; did you mean --input?"),
    "a dash for an underscore": (["--input", "{events}", "--time-zone=UTC"], "did you mean --time_zone?"),
    "another runner": (["--input", "{events}", "--runner", "SparkRunner"], "--runner: got 'SparkRunner'; allowed:"),
    "Beam's own workers": (["--input", "{events}", "--direct_num_workers=3"], "is decided by --workers"),
    "a wrong value for Beam": (["--input", "{events}", "--direct_runner_bundle_repeat=x"], "invalid int value: 'x'"),
    "an option without its value": (["--input"], "argument --input: expected one argument"),
    "replace and add": (["--input", "{events}", "--replace", "--add"], "--replace and --add exclude each other"),
    "a start without an end": (["--input", "{events}", "--start", "2026-03-01"], "--end is missing"),
    "an unknown time zone": (
        ["--input", "{events}", "--time_zone", "Mars/Base"],
        "--time_zone: got 'Mars/Base'; allowed",
    ),
    "no mapping": (
        ["--input", "{events}", "--mapping", "{here}/none.yaml"],
        "none.yaml: cannot read the mapping: No",
    ),
    "a mapping with a wrong key": (
        ["--input", "{events}", "--mapping", "{here}/wrong-mapping.yaml"],
        "wrong-mapping.yaml: $.fields.user_id.pth: got the unknown key 'pth', allowed path, ",
    ),
    "a metric of no column": (
        ["--input", "{events}", "--config", "{here}/wrong-metric.yaml"],
        "wrong-metric.yaml: $.metrics.clicks_1h",
    ),
    "a configuration with a wrong key": (
        ["--input", "{events}", "--config", "{here}/wrong-key.yaml"],
        "wrong-key.yaml: $.metric: got the unknown key 'metric', allowed max_days, warehouse, dataset,",
    ),
    "no YAML": (["--input", "{events}", "--config", "{here}/no.yaml"], "no.yaml: not YAML: "),
    "a wrong option in the configuration": (
        ["--input", "{events}", "--config", "{here}/wrong-option.yaml"],
        "wrong-option.yaml: $.max_lateness: got '1x', allowed a number above 0 and one of s, m, h, d",
    ),
    "a folder as configuration": (["--input", "{events}", "--config", "{here}"], "the configuration: Is a directory"),
}


@pytest.fixture
def here(tmp_path) -> Path:
    """A folder with files, right and wrong ones."""
    write(tmp_path / "events.jsonl", event(1))
    write(tmp_path / "no.jsonl.gz", "these bytes are no gzip at all\n")
    write(tmp_path / "other.csv", "user,page\nu1,/a\n")
    write(tmp_path / "mapping.yaml", MAPPING)
    write(tmp_path / "wrong-mapping.yaml", MAPPING.replace("path", "pth"))
    measure = "measures: {n: {distinct: nobody}}"
    write(tmp_path / "wrong-metric.yaml", f"metrics: {{clicks_1h: {{bucket: 1h, dimensions: [channel], {measure}}}}}")
    write(tmp_path / "wrong-key.yaml", "metric: {}\n")
    write(tmp_path / "wrong-option.yaml", "max_lateness: 1x\n")
    write(tmp_path / "no.yaml", "metrics: {a: [1\n")
    return tmp_path


@pytest.mark.parametrize("mistake", WRONG_COMMANDS)
def test_a_wrong_command_is_one_line_and_status_2(mistake, here, capsys):
    argv, said = WRONG_COMMANDS[mistake]
    before = sorted(here.rglob("*"))
    assert main([word.format(here=here) for word in argv]) == 2
    assert said in one_line(capsys.readouterr())
    assert sorted(here.rglob("*")) == before


@pytest.mark.parametrize("mistake", WRONG_BACKFILLS)
def test_a_wrong_backfill_is_one_line_and_status_2_and_makes_no_warehouse(mistake, here, capfd):
    argv, said = WRONG_BACKFILLS[mistake]
    given = [word.format(here=here, events=here / "events.jsonl") for word in argv]
    assert main(["backfill", "--warehouse", str(here / "warehouse"), *given]) == 2
    assert said in one_line(capfd.readouterr())
    assert not (here / "warehouse").exists()


@pytest.mark.parametrize("folder", ["events.jsonl/warehouse", "events.jsonl", "/proc/warehouse", "war*house"])
def test_a_warehouse_that_cannot_be_made_is_one_line(folder, events, capfd):
    warehouse = Path(events).parent / folder
    assert main(["backfill", "--input", events, "--warehouse", str(warehouse), "--workers", "1"]) == 2
    assert str(warehouse) in one_line(capfd.readouterr())
    assert Path(events).read_text() == "".join(map(event, range(3)))


# --- Mistakes that only a running graph finds.


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_gzip_torn_in_the_middle_is_one_line_also_from_worker_processes(workers, tmp_path, capfd):
    whole = gzip.compress("".join(event(n, text=os.urandom(16).hex()) for n in range(2_000)).encode())
    torn = write(tmp_path / "torn.jsonl.gz", whole[: len(whole) // 2])
    assert main(["backfill", "--input", torn, "--warehouse", str(tmp_path / "w"), "--workers", workers]) == 2
    said = one_line(capfd.readouterr())
    assert said == f"{torn}: cannot be read: the gzip data ends too early; fix the file or leave it out"
    assert_untouched(tmp_path / "w")


FULL = """
import resource, signal, sys
from pipelines.cli import main
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # so that a write beyond the limit fails as on a full disk
resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000))  # more than a manifest
sys.exit(main(sys.argv[1:]))
"""


def test_a_disk_that_takes_no_more_is_one_line_and_the_warehouse_stays_as_it_was(tmp_path):
    events = write(tmp_path / "events.jsonl", "".join(event(n, text=os.urandom(64).hex()) for n in range(2_000)))
    argv = ["backfill", "--input", events, "--warehouse", str(tmp_path / "w"), "--workers", "1"]
    full = subprocess.run([sys.executable, "-c", FULL, *argv], cwd=ROOT, capture_output=True, text=True, check=False)
    assert full.returncode == 2, full.stderr[-500:]
    assert full.stdout == ""
    assert full.stderr.startswith(f"error: {tmp_path}/w/staging/")
    assert "cannot be written: " in full.stderr
    assert full.stderr.endswith("; free space, check permissions or use another --warehouse\n")
    assert full.stderr.count("\n") == 1
    assert_untouched(tmp_path / "w")


# --- What a person asks, and how it is answered.


def test_debug_shows_the_traceback_and_then_the_same_line(tmp_path, capsys):
    argv = ["query", "SELECT 1", "--warehouse", str(tmp_path / "none")]
    assert main(argv) == 2
    line = capsys.readouterr().err
    for debugged in (["--debug", *argv], [*argv, "--debug"]):
        assert main(debugged) == 2
        told = capsys.readouterr().err
        assert told.startswith("Traceback (most recent call last):\n")
        assert told.endswith("\n" + line)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example_that_is_a_command(command, capsys):
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0
    shown = capsys.readouterr()
    assert shown.err == ""
    example = shown.out.rstrip().rpartition("\nexample:\n  ")[2]
    assert example.startswith(f"audience {command} ")
    assert "\n" not in example
    assert "--debug" in shown.out


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_one_line_and_each_of_its_options_says_what_it_is(command):
    line = COMMANDS[command].line
    assert line[0].isupper() and line.endswith(".") and "\n" not in line and len(line) <= 100
    parser = argparse.ArgumentParser(prog=command)
    COMMANDS[command].add_options(parser)
    for action in parser._actions:
        assert action.help and (action.help[0].isupper() or action.dest in ("help", "sql")), action.dest


@pytest.mark.parametrize("command", COMMANDS)
def test_the_example_of_every_command_parses(command):
    program, *words = shlex.split(COMMANDS[command].example)
    found, values, rest = parse_command(words)
    assert program == "audience"
    assert (found, rest) == (COMMANDS[command], [])
    stated = {name for name, value in vars(values).items() if value not in (None, False, [])}
    assert stated >= {word.removeprefix("--").partition("=")[0] for word in words if word.startswith("--")} - {
        "csv",
        "json",  # both are kept as `form`
        "from",  # a word of Python's: kept as `sample`
    }


def test_each_command_is_listed_with_its_line(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    listing = " ".join(capsys.readouterr().out.split())
    for name, command in COMMANDS.items():
        assert f" {name} {command.line}" in listing


def test_options_stand_under_the_heading_of_their_group(capsys):
    with pytest.raises(SystemExit):
        main(["backfill", "--help"])
    shown = capsys.readouterr().out
    at = [shown.index(f"\n{text}") for text in ("input:", "  --input", "days:", "  --add", "warehouse:", "  --config")]
    assert at == sorted(at)


def test_a_question_finds_the_warehouse_of_the_configuration(filled, tmp_path, capsys):
    config = write(tmp_path / "own.yaml", f"warehouse: {filled}\n")
    assert main(["query", "SELECT count(*) AS n FROM events", "--csv", "--config", config]) == 0
    assert capsys.readouterr().out == "n\n3\n"


def test_the_version_is_told(capsys):
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out == "audience 0.1.0\n"


NO_GRAPH = ["--help", "backfill --help", "backfill --shards=0", "query SELECT", "report", "doctor"]


def test_what_needs_no_graph_does_not_wait_for_beam():
    code = "import sys\nfrom pipelines.cli import main\n"
    code += f"for argv in {NO_GRAPH}:\n  try: main(argv.split())\n  except SystemExit: pass\n"
    code += "  assert 'apache_beam' not in sys.modules, argv\n"
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr


def test_data_goes_to_stdout_and_the_summary_to_stderr(filled, capsys):
    sql = "SELECT event_id, text, value FROM events ORDER BY event_id"
    assert main(["query", sql, "--csv", "--warehouse", filled]) == 0
    shown = capsys.readouterr()
    assert shown.err == ""
    assert [*csv.reader(shown.out.splitlines(keepends=True))] == [
        ["event_id", "text", "value"],
        *([f"e{n}", 'say "hi",\nplease', ""] for n in range(3)),
    ]
    assert main(["query", sql, "--json", "--warehouse", filled]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert rows == [{"event_id": f"e{n}", "text": 'say "hi",\nplease', "value": None} for n in range(3)]
    output = str(Path(filled).parent / "simulated.jsonl")
    assert main(["simulate", "--events", "10", "--output", output]) == 0
    shown = capsys.readouterr()
    assert (shown.out, shown.err.endswith("events to accept\n")) == ("", True)


@pytest.mark.parametrize("form", ["--csv", "--json"])
@pytest.mark.parametrize(
    "sql", ["SELEC 1", "SELECT nothing FROM events", "SELECT * FROM event", "", "SELECT 1 / '", "DROP"]
)
def test_a_wrong_query_is_refused_with_what_the_database_says(sql, form, filled, capsys):
    assert main(["query", sql, form, "--warehouse", filled]) == 2
    told = capsys.readouterr()
    assert told.out == "" and told.err.startswith("error: query: ") and "Traceback" not in told.err


def test_a_day_that_has_rows_is_one_line(filled, tmp_path, capfd):
    more = write(tmp_path / "more.jsonl", event(9))
    argv = ["backfill", "--input", more, "--warehouse", filled, "--start", "2026-03-01", "--end", "2026-03-02"]
    assert main(argv) == 2
    assert "already has rows for 2026-03-01 (3 rows): nothing was changed; give --add" in one_line(capfd.readouterr())


def ask_into(stdout, sql: str, warehouse: str) -> subprocess.CompletedProcess:
    """A query of its own process, whose stdout has a buffer as it has for a person's."""
    command = [sys.executable, "-m", "pipelines.cli", "query", sql, "--csv", "--warehouse", warehouse]
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    return subprocess.run(
        command, cwd=ROOT, env=buffered, stdout=stdout, stderr=subprocess.PIPE, text=True, check=False
    )


@pytest.mark.parametrize("rows", [1, 100_000], ids=["less than a buffer", "more than a buffer"])
def test_a_reader_that_stops_early_is_no_mistake(rows, filled):
    reading, writing = os.pipe()
    os.close(reading)
    ran = ask_into(writing, f"SELECT * FROM range({rows})", filled)
    os.close(writing)
    assert (ran.returncode, ran.stderr) == (0, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_an_output_that_takes_no_more_is_one_line(filled):
    with open("/dev/full", "wb") as full:
        ran = ask_into(full, "SELECT 1", filled)
    assert ran.returncode == 2
    assert ran.stderr == "error: output: No space left on device; check space and permissions (--debug shows more)\n"
