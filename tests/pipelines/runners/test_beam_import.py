"""What a run on this machine imports of Beam, each in a process of its own: this one has imported all of it."""

import subprocess
import sys
from pathlib import Path

import pytest
from apache_beam.transforms import userstate

from pipelines.commands.batch import _is_local
from pipelines.runners.beam_import import HIDDEN
from pipelines.runners.introspection import remember_introspection
from pipelines.settings.resolve import resolve

ROOT = Path(__file__).parents[3]
CLIENTS = ("google.cloud.bigquery", "google.cloud.pubsub", "google.cloud.storage", "pymongo", "duckdb", "sqlglot")


def run_python(code: str, *words: str) -> str:
    done = subprocess.run([sys.executable, "-c", code, *words], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_backfill_of_local_files_imports_no_client_of_a_cloud(tmp_path):
    events = tmp_path / "events.jsonl"
    events.write_text('{"event_id": "1", "event_type": "page_view", "event_time": "2026-03-01T10:00:00Z"}\n')
    run = """
import sys
from pipelines.cli import main
assert main(["backfill", "--input", sys.argv[1], "--warehouse", sys.argv[2]]) == 0
print("imported:", *sys.modules)
"""
    said = run_python(run, str(events), str(tmp_path / "warehouse"))
    imported = set(said.partition("imported:")[2].split())
    assert "apache_beam.runners.portability.fn_api_runner.fn_runner" in imported
    assert imported & {*CLIENTS, *HIDDEN} == set()


def test_a_question_to_a_folder_imports_neither_beam_nor_a_sql_parser(tmp_path):
    open_run = "LocalWarehouse.open(sys.argv[1], create=True).writer()"
    run = f"""
import sys
from pipelines.cli import main
from pipelines.warehouse.local.warehouse import LocalWarehouse
with {open_run} as run:
    run.commit([])
assert main(["query", "--warehouse", sys.argv[1], "SELECT * FROM quality_summary"]) == 0
print("imported:", *sys.modules)
"""
    imported = set(run_python(run, str(tmp_path / "warehouse")).partition("imported:")[2].split())
    assert "duckdb" in imported
    assert imported & {"apache_beam", "sqlglot", "pyarrow", "numpy"} == set()


def test_what_was_left_out_is_there_for_who_asks_for_it():
    run_python("""
from pipelines.runners.beam_import import import_local_beam, is_local
import_local_beam()
assert is_local()
import apache_beam as beam
from apache_beam.io import filesystems, textio
assert beam.io.textio is textio
assert beam.io.ReadFromText is textio.ReadFromText
from apache_beam.runners import DataflowRunner
from apache_beam.runners.dataflow import dataflow_runner
assert DataflowRunner is dataflow_runner.DataflowRunner
from apache_beam.io.gcp import gcsfilesystem
assert filesystems.FileSystems.get_filesystem("gs://bucket/file").scheme() == "gs"
try:
    beam.io.no_such_name
except AttributeError:
    print("as ever")
""")


def test_a_process_that_has_imported_beam_keeps_what_it_has():
    run_python("""
import apache_beam
from pipelines.runners.beam_import import import_local_beam, is_local
import_local_beam()
assert not is_local()
assert apache_beam.io.ReadFromText
""")


@pytest.mark.parametrize(
    ("options", "is_local"),
    [
        ({"input": ["a.jsonl"], "warehouse": "w"}, True),
        ({"input": ["a.jsonl", "gs://bucket/a.jsonl"], "warehouse": "w"}, False),
        ({"input": ["a.jsonl"], "mapping": ["gs://bucket/m.yaml"], "warehouse": "w"}, False),
        ({"input": ["a.jsonl"], "dataset": "project.dataset"}, False),
    ],
)
def test_only_a_run_that_touches_no_bucket_and_no_dataset_is_local(options, is_local):
    assert _is_local(resolve(options)) is is_local


def test_beam_asks_a_class_once_and_a_wrapped_function_each_time():
    import apache_beam as beam

    remember_introspection()

    class Double(beam.DoFn):
        def process(self, element):
            yield 2 * element

    first, second = (userstate.get_dofn_specs(Double()) for _ in range(2))
    assert first is second
    wrapped = [userstate.get_dofn_specs(beam.Map(abs).dofn) for _ in range(2)]
    assert wrapped[0] is not wrapped[1]


def test_a_run_beside_duckdb_leaves_nothing_on_the_terminal_at_its_end():
    code = (
        "import duckdb, apache_beam as beam\n"
        "from pipelines.runners.in_process import run_bounded\n"
        "run_bounded(lambda pipeline: pipeline | beam.Create([1]), 1)\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
