"""Flink as a runner: its options, the checkpoint that a start resumes from, the rule of a drain, every message; and,
where FLINK_JOB_SERVER_JAR names Beam's job server, a stream that is killed and resumed."""

import os
import shutil
import signal
import socket
import sys
from pathlib import Path
from types import SimpleNamespace

import grpc
import polars as pl
import pytest
from apache_beam.runners.runner import PipelineState

from pipelines.cli import main
from pipelines.runners import choose as runners
from pipelines.runners import flink
from pipelines.runners.flink import Flink, configuration, flink_of, job_options, newest_checkpoint, server_command
from pipelines.runners.private_sockets import loopback_servers
from pipelines.sources.queue import Backlog, Snapshot
from pipelines.streaming.drained import ASK_SECONDS, Completeness
from tests.pipelines.streaming.test_watch import Ending, run, watched
from tests.servers.needed import LIMIT
from transforms.errors import OptionError, RunnerError

JAR = "beam-runners-flink-1.20-job-server-2.77.0.jar"
RUN = ["run", "--input_subscription", "projects/my-project/subscriptions/events", "--dataset", "my-project.audience"]


@pytest.fixture
def jar(tmp_path) -> str:
    (tmp_path / JAR).write_bytes(b"")
    return str(tmp_path / JAR)


@pytest.fixture
def asked(jar, tmp_path) -> Flink:
    return flink_of(jar, None, str(tmp_path / "checkpoints"))


def checkpoint(folder: Path, job: str, number: int, at: int, whole: bool = True) -> Path:
    made = folder / job / f"chk-{number}"
    made.mkdir(parents=True)
    if whole:
        (made / "_metadata").write_bytes(b"state")
        os.utime(made / "_metadata", (at, at))
    return made


def test_a_start_resumes_from_the_newest_whole_checkpoint_of_whichever_job(asked):
    folder = asked.checkpoints
    assert newest_checkpoint(folder) is None
    checkpoint(folder, "first", 9, at=100)
    newest = checkpoint(folder, "second", 10, at=200)
    checkpoint(folder, "second", 2, at=200)  # by number, not by name
    checkpoint(folder, "second", 11, at=300, whole=False)  # a kill left it
    (folder / "second" / "shared").mkdir()
    assert newest_checkpoint(folder) == newest
    flink.note_drain(asked)
    assert newest_checkpoint(folder) is None  # every window was closed
    flink.note_start(asked)
    assert newest_checkpoint(folder) == newest


@pytest.mark.parametrize(
    ("version", "name", "resumes", "retains"),
    [
        ("1.20", "flink-conf.yaml", "execution.savepoint.path", "state.checkpoints.num-retained"),
        ("2.1", "config.yaml", "execution.state-recovery.path", "execution.checkpointing.num-retained"),
    ],
)
def test_the_embedded_cluster_gets_the_checkpoint_by_its_configuration(version, name, resumes, retains, jar, tmp_path):
    named = Path(jar).rename(tmp_path / JAR.replace("1.20", version))
    asked = flink_of(str(named), "[local]", str(tmp_path / "c"))
    resumed = checkpoint(asked.checkpoints, "job", 3, at=1)
    file, text = configuration(asked, resumed)
    lines = dict(line.split(": ") for line in text.splitlines())
    assert file == name
    assert lines[resumes] == resumed.as_uri()
    assert lines[retains] == "3"
    assert lines["rest.bind-address"] == "127.0.0.1"
    assert not any(word.startswith("--savepoint_path") for word in job_options(asked, "127.0.0.1:1", resumed))
    assert resumes not in configuration(asked, None)[1]


def test_a_session_cluster_gets_it_by_an_option_of_the_job(jar, tmp_path):
    asked = flink_of(jar, "flink.internal:8081", str(tmp_path / "c"))
    resumed = checkpoint(asked.checkpoints, "job", 3, at=1)
    assert f"--savepoint_path={resumed.as_uri()}" in job_options(asked, "127.0.0.1:1", resumed)
    assert "savepoint" not in configuration(asked, resumed)[1]


def test_checkpoints_are_kept_and_taken_often_and_the_server_listens_here_alone(asked, tmp_path):
    options = job_options(asked, "127.0.0.1:4321", None)
    assert {
        "--runner=PortableRunner",
        "--job_endpoint=127.0.0.1:4321",
        "--environment_type=LOOPBACK",
        "--checkpointing_interval=2000",
        "--externalized_checkpoints_enabled",
        "--retain_externalized_checkpoints_on_cancellation",
        f"--state_backend_storage_path={asked.checkpoints.as_uri()}",
    } <= set(options)
    # With it the readers' own step would take no checkpoint, and nothing would be acknowledged.
    assert not any("shutdown_sources_after_idle_ms" in word for word in options)
    if shutil.which("java"):
        words = server_command(asked, 4321, tmp_path)
        assert {"--job-host=127.0.0.1", "--job-port=4321", f"--flink-conf-dir={tmp_path}"} <= set(words)
        assert words[words.index("-jar") + 1] == asked.jar


def test_beam_s_own_servers_listen_on_this_machine_alone():
    with loopback_servers():
        server = grpc.server(SimpleNamespace(submit=None))  # type: ignore[call-overload]
        port = server.add_insecure_port("[::]:0")
    with socket.socket() as one, socket.socket(socket.AF_INET6) as other:
        assert one.connect_ex(("127.0.0.1", port)) == 0
        assert other.connect_ex(("::1", port)) != 0
    server.stop(None)


def test_on_flink_nothing_lands_nothing_is_rebuilt_and_a_drain_does_not_end_the_job(asked):
    chosen = runners.choose("FlinkRunner", None, lambda: asked)
    assert (chosen.runs_here, chosen.lands, chosen.state_is_durable, chosen.reads_itself) == (True, False, True, False)
    assert chosen.can_drain and not chosen.ends_drained
    assert "Flink 1.20, starts without state" in chosen.said
    resumed = checkpoint(asked.checkpoints, "job", 1, at=1)
    assert f"resumes from {resumed}" in runners.choose("FlinkRunner", None, lambda: asked).said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--runner=FlinkRunner"], "--flink_job_server_jar, --flink_checkpoints: missing; required by"),
        (["--runner=FlinkRunner", "--flink_checkpoints", "c"], "mvn dependency:copy"),
        (
            ["--runner=FlinkRunner", "--flink_checkpoints", "c", "--flink_job_server_jar", "server.jar"],
            "--flink_job_server_jar: got 'server.jar'; allowed: Beam's job server under its own name",
        ),
        (["--flink_master", "a:1"], "--flink_master: only for --runner=FlinkRunner; leave it out"),
    ],
    ids=["nothing", "jar", "name", "runner"],
)
def test_a_mistake_is_one_line(words, said, capsys):
    assert main([*RUN, *words]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1


def test_a_local_warehouse_is_refused_since_events_are_written_again_after_a_crash(capsys):
    assert main([*RUN[:3], "--warehouse", "w", "--runner=FlinkRunner"]) == 2
    assert "--runner=FlinkRunner needs --dataset: after a crash it writes events again" in capsys.readouterr().err


def test_a_queue_whose_position_is_not_in_the_checkpoints_is_refused(capsys):
    words = ["run", "--input_log", "collected", "--dataset", "my-project.audience", "--runner=FlinkRunner"]
    assert main(words) == 2
    assert "--runner=FlinkRunner reads --input_subscription or --input_topic" in capsys.readouterr().err


def test_a_master_is_local_or_a_cluster(jar):
    with pytest.raises(OptionError, match=r"--flink_master: got 'spark://a'; allowed: \[local\], or HOST:PORT"):
        flink_of(jar, "spark://a", "c")


def test_a_job_server_that_does_not_start_is_one_line(tmp_path):
    failing = [sys.executable, "-c", "raise SystemExit(1)"]
    server = flink.job_server(failing, tmp_path / "flink.log", runners.free_port())
    with pytest.raises(RunnerError, match="Flink's job server does not start; see"), server:
        pass


class Books:
    """A warehouse that answers how many minutes are open, one answer after the other."""

    def __init__(self, *answers: int):
        self.answers, self.asked = list(answers), []

    def ask(self, sql: str):
        self.asked.append(sql)
        return iter([pl.DataFrame({"n": [self.answers.pop(0)]})])


def queue(watermark: float | None, waiting: int) -> SimpleNamespace:
    now = Snapshot(10, Backlog(waiting, 0, None), watermark)
    return SimpleNamespace(snapshot=lambda: now, input="projects/p/subscriptions/s")


def test_a_stream_is_drained_when_all_is_read_acknowledged_and_counted():
    ticks = [0.0]
    for watermark, waiting in ((1.0, 0), (None, 3)):
        assert not Completeness(queue(watermark, waiting), Books(), lambda: ticks[0])()  # type: ignore[arg-type]
    books = Books(2, 0)
    done = Completeness(queue(None, 0), books, lambda: ticks[0])  # type: ignore[arg-type]
    ticks[0] = 100.0
    assert not done()
    assert not done() and len(books.asked) == 1  # it is not asked at each look
    ticks[0] += ASK_SECONDS
    assert done()
    assert "input = 'projects/p/subscriptions/s' OR STARTS_WITH(input, 'projects/p/subscriptions/s@')" in books.asked[0]


def test_a_drain_ends_by_this_rule_while_the_job_still_runs():
    looks = iter([False, False, True])
    running = run(lambda: PipelineState.RUNNING)._replace(is_drained=lambda: next(looks))
    ending = Ending(looks=100, draining=True)
    watched(running, ending)
    assert not ending.stopping.is_set()
    assert next(looks, "asked for each of them") == "asked for each of them"


JOB_SERVER = os.environ.get("FLINK_JOB_SERVER_JAR")


@pytest.mark.skipif(not JOB_SERVER, reason="FLINK_JOB_SERVER_JAR names no job server: Flink itself is not tested")
def test_a_stream_on_flink_is_killed_and_resumes_from_its_checkpoint(bigquery, request, tmp_path):
    from tests.integration.test_stream_bigquery import UNIQUE, event, number, until_counted
    from tests.servers.stream import drain, streaming

    queue, dataset = request.getfixturevalue("queue"), f"demo-project.flink_{os.getpid()}"
    options = ["--runner=FlinkRunner", "--flink_job_server_jar", f"{JOB_SERVER}", "--early_firing", "2s"]
    options += ["--flink_checkpoints", str(tmp_path / "checkpoints")]
    prism = request.getfixturevalue("prism")
    with streaming(queue, prism, tmp_path, *options, dataset=dataset) as stream:
        queue.publish(*map(event, range(200)))
        until_counted(stream, dataset, UNIQUE, 200)
        stream.until(lambda: newest_checkpoint(tmp_path / "checkpoints"), what="a checkpoint")
        queue.publish(*map(event, range(200, 300)))
        stream.end(signal.SIGKILL)
    with streaming(queue, prism, tmp_path, *options, dataset=dataset) as stream:
        stream.until(lambda: "resumes from" in stream.said(), what="the checkpoint")
        queue.publish(*map(event, range(300, 400)))
        until_counted(stream, dataset, UNIQUE, 400)
        drain("--dataset", dataset, "--landing", str(tmp_path / "landing"))
        assert stream.process.wait(2 * LIMIT) == 0, stream.said()
    assert number(dataset, "SELECT SUM(events) FROM activity_1m_current") == 400
    assert number(dataset, "SELECT SUM(events) FROM user_days_current") == 400
