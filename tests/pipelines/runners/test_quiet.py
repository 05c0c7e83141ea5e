"""Whose words reach a person while a graph runs in this process."""

import logging
import sys
import threading

import grpc
import pytest
from apache_beam.utils.thread_pool_executor import UnboundedThreadPoolExecutor

from pipelines.runners.quiet import quiet


@pytest.fixture(autouse=True)
def stderr_of_the_test(monkeypatch):
    monkeypatch.setattr(sys, "stderr", sys.stderr)


def say(text: str) -> None:
    print(text, file=sys.stderr)


def fail(error: Exception) -> None:
    raise error


def in_thread(function, *arguments) -> None:
    thread = threading.Thread(target=function, args=arguments)
    thread.start()
    thread.join()


def test_beams_worker_prints_nothing_also_after_the_stream_and_everyone_else_does(capsys):
    with UnboundedThreadPoolExecutor() as pool:
        for _ in range(2):
            with quiet():
                pool.submit(say, "of the worker").result()
                in_thread(say, "of ours")
            pool.submit(say, "of a thread that has lost its runner").result()
            say("after it")
    assert capsys.readouterr().err.splitlines() == ["of ours", "after it"] * 2


def test_the_first_bundle_that_fails_is_known_and_a_request_about_one_is_none():
    progress = "Traceback (most recent call last):\n  File, line 1, in process_bundle_progress\nKeyError: 1\n"
    bundle = "Traceback (most recent call last):\n  File, line 1, in process_bundle\nValueError: {}\n"
    with quiet() as stderr, UnboundedThreadPoolExecutor() as pool:
        in_thread(say, bundle.format("of ours"))
        pool.submit(say, progress).result()
        assert stderr.failure is None
        pool.submit(say, bundle.format("the first")).result()
        pool.submit(say, bundle.format("the second")).result()
    assert stderr.failure is not None and stderr.failure.traceback == bundle.format("the first")


def test_a_thread_that_loses_its_runner_ends_quietly_and_another_error_is_told(monkeypatch):
    told = []
    monkeypatch.setattr(threading, "excepthook", lambda raised: told.append(raised.exc_value))
    with quiet():
        in_thread(fail, grpc.RpcError("gone"))
        in_thread(fail, ValueError("Cannot monitor channel state: Channel closed!"))
        in_thread(fail, error := ValueError("a mistake"))
    assert told == [error]


def test_what_the_runner_says_is_logged_by_nobody_and_what_we_say_is(caplog):
    with quiet():
        logging.log(logging.ERROR, "bundle failed: Traceback (most recent call last)")
        logging.getLogger("pipelines.sources").warning("let messages go")
    logging.getLogger().error("after it")
    assert caplog.messages == ["let messages go", "after it"]
