"""Whose words reach a person while a graph runs in this process."""

import logging
import sys
import threading

import grpc
from apache_beam.utils.thread_pool_executor import UnboundedThreadPoolExecutor

from pipelines.runners.quiet import quiet


def say(text: str) -> None:
    print(text, file=sys.stderr)


def fail(error: Exception) -> None:
    raise error


def in_thread(function, *arguments) -> None:
    thread = threading.Thread(target=function, args=arguments)
    thread.start()
    thread.join()


def test_beams_worker_prints_nothing_and_everyone_else_does(capsys):
    with quiet(), UnboundedThreadPoolExecutor() as pool:
        pool.submit(say, "of the worker").result()
        in_thread(say, "of ours")
    say("after it")
    assert capsys.readouterr().err.splitlines() == ["of ours", "after it"]


def test_a_thread_that_loses_its_runner_ends_quietly_and_another_error_is_told(monkeypatch):
    told = []
    monkeypatch.setattr(threading, "excepthook", lambda raised: told.append(raised.exc_value))
    with quiet():
        in_thread(fail, grpc.RpcError("gone"))
        in_thread(fail, error := ValueError("a mistake"))
    assert told == [error]


def test_what_the_runner_says_is_logged_by_nobody_and_what_we_say_is(caplog):
    with quiet():
        logging.log(logging.ERROR, "bundle failed: Traceback (most recent call last)")
        logging.getLogger("pipelines.sources").warning("let messages go")
    logging.getLogger().error("after it")
    assert caplog.messages == ["let messages go", "after it"]
