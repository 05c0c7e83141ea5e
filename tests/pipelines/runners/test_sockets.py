"""No port is open beyond this machine, and no socket of a local run to other users of it.

test_stream.py and test_stream_demo.py look at the stream and the demo that they run, test_worker_processes.py at a
backfill.
"""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import grpc
import pytest
from apache_beam.runners.worker.worker_pool_main import BeamFnExternalWorkerPoolServicer as Pool

from pipelines.apps.doctor.check import FOUND, MISSING, WRONG
from pipelines.apps.doctor.machine import machine_checks, optional_checks
from pipelines.apps.doctor.warehouse import socket_checks
from pipelines.runners import choose as runners
from pipelines.runners import private_sockets as sockets
from pipelines.runners.private_sockets import PREFIX, private_folder, private_sockets
from pipelines.system.listening import listeners, tree
from tests.servers.needed import LIMIT, wait_until
from tests.servers.sockets import assert_private, closed, stranger_reaches
from transforms.errors import RunnerError

ROOT = Path(__file__).parents[3]


def test_each_server_that_tests_and_the_demo_start_is_on_loopback(bigquery_server, storage_server, pubsub_emulator):
    programs = Counter(each.program for each in assert_private(os.getpid()) if each.kind == "tcp")
    assert programs["java"] >= 1
    assert sum(programs.values()) >= 4  # Pub/Sub; storage; REST and gRPC of BigQuery


@pytest.fixture
def listening(request) -> Iterator[set[str]]:
    """Sockets of this process that accept connections, one for each host of the parameter: their addresses."""
    with ExitStack() as stack:
        opened = [(host, stack.enter_context(_listen(host))) for host in request.param]
        yield {f"{SHOWN.get(host, host)}:{one.getsockname()[1]}" for host, one in opened}


def _listen(host: str) -> socket.socket:
    if ":" in host:
        return socket.create_server((host, 0), family=socket.AF_INET6, dualstack_ipv6=True)
    return socket.create_server((host, 0))


SHOWN = {"::1": "[::1]", "::": "[::]", "::ffff:127.0.0.1": "127.0.0.1", "::ffff:0.0.0.0": "0.0.0.0"}
HERE = ["127.0.0.1", "127.8.0.1", "::1", "::ffff:127.0.0.1"]  # the last as Java does it
EVERYWHERE = ["0.0.0.0", "::", "::ffff:0.0.0.0"]


@pytest.mark.parametrize(("listening", "is_local"), [(HERE, True), (EVERYWHERE, False)], indirect=["listening"])
def test_what_a_process_listens_on_is_seen_as_the_kernel_has_it(listening, is_local):
    found = {each.address: each.is_local for each in listeners([os.getpid()])}
    assert {address: found.get(address) for address in listening} == dict.fromkeys(listening, is_local)


def test_a_process_that_has_gone_listens_on_nothing_and_another_users_is_not_guessed(monkeypatch, tmp_path):
    with subprocess.Popen(["true"]) as gone:
        pass
    assert listeners([gone.pid]) == []
    monkeypatch.setattr("pipelines.system.listening.PROC", tmp_path / "none")
    assert listeners([os.getpid()]) is None


@pytest.fixture
def roots(monkeypatch) -> Iterator[Path]:
    """A folder that is TMPDIR, of a path that is short enough for a socket's."""
    with tempfile.TemporaryDirectory(dir="/tmp") as root:
        monkeypatch.setattr(tempfile, "tempdir", root)
        yield Path(root)


def test_the_folder_of_sockets_is_ours_alone_whatever_the_umask_and_gone_after_an_error(roots):
    before = os.umask(0)
    try:
        with pytest.raises(ZeroDivisionError), private_folder() as folder:
            assert folder.parent == roots
            assert closed(folder)
            (folder / "socket").touch()
            raise ZeroDivisionError
    finally:
        os.umask(before)
    assert list(roots.iterdir()) == []


@pytest.mark.parametrize("name", ["x" * 90, "50% off", "a b", "a#b", "\u00e4"])
def test_a_path_that_is_too_long_for_a_socket_or_no_uri_is_not_taken(tmp_path, monkeypatch, name):
    (root := tmp_path / name).mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(root))
    with private_sockets() as folder:
        assert folder.parent == Path("/tmp")
        address, pool = Pool.start()
        grpc.channel_ready_future(grpc.insecure_channel(address)).result(timeout=LIMIT)
        pool.stop(None)
    assert list(root.iterdir()) == []


def test_where_no_folder_can_be_made_is_told_in_one_line(monkeypatch):
    def refuse(**_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tempfile, "mkdtemp", refuse)
    with pytest.raises(RunnerError, match=r"for the sockets of this run \(.*: No space left on device\); set TMPDIR"):
        private_folder().__enter__()
    assert machine_checks("/")[-1][2:4] == (WRONG, "no private folder")


def test_a_folder_of_a_process_that_was_killed_is_removed_by_the_next_one_and_no_other(roots, monkeypatch):
    begin = (
        "import sys, tempfile, time; tempfile.tempdir = sys.argv[1]\n"
        "from pipelines.runners.private_sockets import private_folder\n"
        "with private_folder() as folder: print(folder, flush=True); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", begin, roots], cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        folder = Path(process.stdout.readline().strip())
        try:
            for path in (folder, foreign := roots / "mine"):
                path.mkdir(exist_ok=True)
                os.utime(path, (0, 0))
            with private_folder():
                assert folder.is_dir(), "it is locked"
        finally:
            process.kill()
    young = Path(tempfile.mkdtemp(prefix=PREFIX, dir=roots))
    monkeypatch.setattr(sockets, "MADE_SECONDS", time.time() - folder.stat().st_mtime - 1)
    with private_folder():
        assert not folder.exists()
    assert foreign.is_dir() and young.is_dir()


def test_beams_servers_are_private_within_and_as_they_were_after():
    start, make = vars(Pool)["start"], grpc.server
    with private_sockets() as folder:
        address, pool = Pool.start()
        assert address == f"unix:{folder}/1"
        grpc.channel_ready_future(grpc.insecure_channel(address)).result(timeout=LIMIT)
        here = grpc.server(None).add_insecure_port("127.0.0.1:0")
        assert isinstance(here, int) and here > 1  # as asked
        assert {each.kind for each in assert_private(os.getpid()) if str(folder) in each.address} == {"unix"}
        pool.stop(None)
    assert vars(Pool)["start"] is start and grpc.server is make
    assert sockets.target_of("localhost:unix:/a/b") == "unix:/a/b"
    assert sockets.target_of("localhost:80") == "localhost:80"


def test_a_stranger_finds_no_port_of_prism_and_no_way_to_its_socket(prism, tmp_path):
    with runners.prism_at(prism, tmp_path / "prism.log") as (endpoint, process):
        grpc.channel_ready_future(grpc.insecure_channel(endpoint)).result(timeout=LIMIT)  # we do
        path = Path(endpoint.removeprefix("unix:"))
        # A look may miss a process while others end; none shows another socket.
        wait_until(lambda: [each[:2] for each in assert_private(process.pid)] == [("Prism", "unix")], what="its socket")
        assert closed(path.parent)
        if os.getuid() == 0:
            assert not stranger_reaches(path)
            path.chmod(0o777)
            assert not stranger_reaches(path)
            path.parent.chmod(0o755)
            assert stranger_reaches(path)  # so that the answers before mean something
    assert not path.parent.exists()


@pytest.fixture
def program(tmp_path):
    """Writes a program; its path."""

    def write(text: str) -> str:
        (path := tmp_path / "prism").write_text(text)
        path.chmod(0o755)
        return str(path)

    return write


OF_BEAM = "#!/bin/sh\necho 'flag provided but not defined: -job_socket' >&2\nexit 2\n"
OPEN = f"""#!{sys.executable}
import socket, sys, time
path = next(word.partition("=")[2] for word in sys.argv if word.startswith("--job_socket="))
port = socket.create_server(("0.0.0.0", 0))
one = socket.socket(socket.AF_UNIX); one.bind(path); one.listen()
time.sleep(600)
"""


@pytest.mark.parametrize(
    ("text", "more"),
    [(OF_BEAM, "leave --prism_location out$"), (OPEN, r"on 0\.0\.0\.0:\d+\)$")],
    ids=["as Beam builds it", "open"],
)
def test_a_prism_that_others_could_reach_is_refused_before_it_has_a_job(program, tmp_path, text, more):
    binary, before = program(text), set(tree(os.getpid()))
    with pytest.raises(RunnerError, match=f"^{binary} is refused: it takes jobs from the whole network.*{more}"):
        runners.prism_at(binary, tmp_path / "log").__enter__()
    wait_until(lambda: set(tree(os.getpid())) <= before, what="it is ended")


def test_doctor_tells_whether_a_prism_is_the_private_one(program, monkeypatch, tmp_path):
    def row():
        return next(row for row in optional_checks() if row.name == "Prism")

    monkeypatch.setattr(runners, "PRISM_HERE", tmp_path / "none")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert (row().state, row().get) == (MISSING, "make prism")
    binary = program("#!/bin/sh\necho '  -job_socket string' >&2; exit 2\n")
    assert (row().state, row().detail) == (FOUND, binary)
    program("#!/bin/sh\necho '  -job_port int' >&2; exit 2\n")
    assert (row().state, row().detail) == (WRONG, f"{binary} takes jobs from the whole network")


def test_doctor_tells_how_local_runs_listen(roots):
    row = machine_checks("/")[-1]
    assert row[1:4] == ("sockets", FOUND, f"local runs use Unix sockets, in folders of mode 0700 in {roots}")
    assert list(roots.iterdir()) == []


def test_doctor_looks_at_what_the_process_that_writes_listens_on():
    with socket.create_server(("127.0.0.1", 0)):
        assert [row.state for row in socket_checks(os.getpid())] == [FOUND]
        begin = "import socket, time; one = socket.create_server(('', 0)); print(one.getsockname()[1], flush=True)"
        words = [sys.executable, "-c", f"{begin}; time.sleep(600)"]
        with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as child:
            port = child.stdout.readline().strip()
            (row,) = socket_checks(os.getpid())
            child.kill()
        assert row.state == WRONG
        assert f"process {child.pid} on 0.0.0.0:{port}" in row.detail


@pytest.fixture
def checkout(tmp_path) -> Path:
    """What Prism is built from, and a `go` that knows one module, in which the patch finds nothing to change."""
    for name in ("Makefile", "requirements.lock", "setup.py", "templates/prism"):
        (target := tmp_path / "tree" / name).parent.mkdir(parents=True, exist_ok=True)
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, target)
    (source := tmp_path / "module/go/cmd/prism/prism.go").parent.mkdir(parents=True)
    for path in (source, tmp_path / "module/go.mod", tmp_path / "module/go.sum"):
        path.write_text("package main\n")
    (bin := tmp_path / "bin").mkdir()
    (bin / "go").write_text(f'#!/bin/sh\n[ "$1" = mod ] && printf \'{{\\n\\t"Dir": "%s",\\n}}\\n\' {tmp_path}/module\n')
    (bin / "go").chmod(0o755)
    return tmp_path / "tree"


def make(checkout: Path, *words: str) -> subprocess.CompletedProcess:
    path = f"{checkout.parent}/bin:{os.environ['PATH']}"
    environ = os.environ | {"PATH": path, "TMPDIR": str(checkout.parent)}
    return subprocess.run(["make", "prism", *words], cwd=checkout, env=environ, capture_output=True, text=True)


def test_a_prism_that_the_patch_does_not_fit_is_not_built(checkout):
    before = sorted(checkout.parent.iterdir())
    made = make(checkout)
    assert made.returncode != 0
    assert "bundle-wait.patch does not apply to Prism 2." in made.stderr
    assert list((checkout / ".tools").iterdir()) == []
    assert sorted(checkout.parent.iterdir()) == before


def test_prism_is_built_again_when_its_patch_has_changed_and_only_then(checkout):
    stamp = next(word for word in make(checkout, "-n").stdout.split() if word.startswith(".tools/prism-local-2."))
    (checkout / ".tools").mkdir()
    (checkout / stamp).touch()
    assert "build.sh" not in make(checkout, "-n").stdout
    with (checkout / "templates/prism/unix-socket.patch").open("a") as patch:
        patch.write("\n")
    assert "build.sh" in make(checkout, "-n").stdout
