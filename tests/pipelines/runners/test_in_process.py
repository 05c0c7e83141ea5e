"""Launch: how many processes, which of Beam's options, and what a runner's error was."""

import errno
import os
import sys

import apache_beam as beam
import pytest

from pipelines.runners.in_process import (
    SMALL,
    THREADS,
    beam_options,
    cause,
    run_bounded,
    sharing_threads,
    worker_count,
)
from transforms.errors import OptionError, SourceError, WarehouseError

LINE = "a b.gz: cannot be read: the gzip data ends too early; fix the file"
WORKER = f"""Traceback (most recent call last):
  File "files.py", line 133, in read
transforms.errors.SourceError: {LINE}

During handling of the above exception, another exception occurred:

transforms.errors.SourceError: {LINE} [while running 'Read/Read ranges']
"""


@pytest.mark.parametrize("raised", [SourceError(f"{LINE} [while running 'Read/Read ranges']"), RuntimeError(WORKER)])
def test_a_mistake_comes_out_of_the_runner_as_it_was_said(raised):
    found = cause(raised)
    assert type(found) is SourceError
    assert str(found) == LINE


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk_is_told_as_such_whoever_met_it(number):
    why = os.strerror(number)
    for text in (
        f"OSError: [Errno {number}] {why}: '/w/staging/x' [while running 'Note them']",
        f"{why} (os error {number})",
    ):
        found = cause(RuntimeError(text))
        assert type(found) is WarehouseError
        assert str(found) == f"the run cannot write: {why}; free space or use another --warehouse, and run it again"


@pytest.mark.parametrize("text", ["no such column", "transforms.errors.Nothing: x", "[Errno 2] No such file"])
def test_any_other_error_stays_what_it_is(text):
    problem = RuntimeError(text)
    assert cause(problem) is problem


@pytest.mark.parametrize("workers", [1, THREADS])
def test_an_error_of_the_graph_that_is_no_mistake_is_raised_as_it_is(workers):
    with pytest.raises(ZeroDivisionError):
        run_bounded(lambda pipeline: pipeline | beam.Create([0]) | beam.Map(lambda n: 1 / n), workers=workers)


def test_a_large_input_gets_threads_unless_processes_are_asked_for():
    assert worker_count(0, SMALL - 1) == 1
    assert worker_count(0, SMALL) == (THREADS if os.cpu_count() > 1 else 1)
    assert worker_count(3, 0) == 3


@pytest.mark.parametrize("workers", [1, THREADS])
def test_threads_take_turns_quickly_only_while_they_are_what_runs(workers):
    before, seen = sys.getswitchinterval(), []
    with sharing_threads(workers):
        seen.append(sys.getswitchinterval())
    assert (seen[0] < before) == (workers == THREADS)
    assert sys.getswitchinterval() == before


WRONG = {
    ("--runner=SparkRunner",): "--runner: got 'SparkRunner'; allowed: FnApiRunner",
    ("--runner", "SparkRunner"): "--runner: got 'SparkRunner'; allowed: FnApiRunner",
    ("--direct_num_workers=2",): "--direct_num_workers is decided by --workers; give that instead",
    ("--direct_running_mode", "in_memory"): "--direct_running_mode is decided by --workers",
    ("--direct_runner_bundle_repeat=x",): "argument --direct_runner_bundle_repeat: invalid int value: 'x'",
    ("--worker=2",): "unknown option '--worker'; did you mean --workers? allowed: --input, --format, ",
    ("--time-zone", "UTC"): "unknown option '--time-zone'; did you mean --time_zone?",
    ("--qqqq",): "unknown option '--qqqq'; allowed: --input, ",
    ("b.jsonl",): "'b.jsonl' belongs to no option; quote a glob (--input '*.jsonl'), or repeat --input",
}


@pytest.mark.parametrize("words", WRONG, ids=" ".join)
def test_what_neither_audience_nor_beam_knows_is_refused(words):
    with pytest.raises(OptionError) as refused:
        beam_options(words)
    assert str(refused.value).startswith(WRONG[words])


@pytest.mark.parametrize(
    "words", [[], ["--runner=DirectRunner"], ["--runner", "FnApiRunner", "--type_check_additional", "all"]]
)
def test_beams_own_options_are_handed_on(words):
    assert beam_options(words) == words
