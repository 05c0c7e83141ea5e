"""Links: a token opens the page until its end, and the file holds only a hash of it."""

import json
import os
from datetime import UTC, datetime, timedelta

import pytest

from pipelines.apps.live import links
from pipelines.apps.live.links import Links, add_link, remove_link
from pipelines.cli import main
from pipelines.system import tokens
from transforms.errors import OptionError


@pytest.fixture
def path(tmp_path):
    return tmp_path / "links.json"


def test_a_link_opens_until_its_end(path):
    token, until = add_link(path, "board", timedelta(days=7))
    assert Links(path).until(token) == until
    assert timedelta(days=6) < until - datetime.now(UTC) <= timedelta(days=7)
    stored = json.loads(path.read_text())
    stored["links"][0]["until"] = "2026-01-01T00:00:00Z"
    path.write_text(json.dumps(stored))
    assert Links(path).until(token) is None


def test_the_file_is_private_and_holds_no_token(path):
    token, _ = add_link(path, "board", timedelta(hours=1))
    assert token not in path.read_text() and token.removeprefix(links.PREFIX) not in path.read_text()
    assert os.stat(path).st_mode & 0o777 == 0o600


@pytest.mark.parametrize("token", ["", "al_", "al_x", "ключ", "x" * 9999, "\udcff"], ids=range(6))
def test_another_token_opens_nothing(path, token):
    add_link(path, "board", timedelta(days=7))
    assert Links(path).until(token) is None


def test_a_removed_link_opens_nothing_in_a_running_page(path, monkeypatch):
    monkeypatch.setattr(tokens, "CHECK_SECONDS", 0)
    kept, _ = add_link(path, "kept", timedelta(days=7))
    token, _ = add_link(path, "board", timedelta(days=7))
    running = Links(path)
    assert running.until(token) and remove_link(path, "board") == 1
    assert running.until(token) is None and running.until(kept)
    path.write_text("{")
    assert running.until(kept) is None


def test_links_that_have_ended_are_removed(path):
    add_link(path, "old", timedelta(days=7))
    stored = json.loads(path.read_text())
    stored["links"][0]["until"] = "2026-01-01T00:00:00Z"
    path.write_text(json.dumps(stored))
    add_link(path, "new", timedelta(days=7))
    assert [link["name"] for link in json.loads(path.read_text())["links"]] == ["new"]


@pytest.mark.parametrize("content", ["{", "[]", '{"links": [{"name": "x"}]}', '{"keys": []}'])
def test_a_file_that_is_no_file_of_links_is_refused_and_not_quoted(path, content):
    path.write_text(content)
    path.chmod(0o600)
    with pytest.raises(OptionError, match="is no file of links; fix it, or use a new file"):
        Links(path)


def test_a_file_that_others_read_is_refused(path):
    add_link(path, "board", timedelta(days=7))
    path.chmod(0o640)
    with pytest.raises(OptionError, match="has mode 0640; allowed: 0600; run: chmod 600 FILE"):
        Links(path)


def test_the_command_prints_a_link_once_and_removes_it(path, capsys):
    argv = ["live", "--links", str(path), "--add_link", "board", "--for", "36h", "--url", "https://live.example/x/"]
    assert main(argv) == 0
    printed = capsys.readouterr()
    url, _, token = printed.out.strip().partition("#")
    assert url == "https://live.example/x/" and token not in printed.err
    until = Links(path).until(token)
    assert until and timedelta(hours=35) < until - datetime.now(UTC) <= timedelta(hours=36)
    assert main(["live", "--links", str(path), "--remove_link", "board"]) == 0
    assert main(["live", "--links", str(path), "--remove_link", "board"]) == 2
    assert "allowed: none, as the file has no link" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--add_link", "board"], "--add_link needs --links FILE"),
        (["--links", "l", "--add_link", "No Name"], "allowed: up to 64 lower-case letters"),
        (["--links", "l", "--add_link", "board", "--for", "0d"], "--for: got '0d'; allowed: a number above 0"),
        (["--links", "l", "--add_link", "board", "--for", "soon"], "--for: got 'soon'; allowed: a number above 0"),
        (["--links", "l", "--add_link", "board", "--for", "999d"], "--for: got 999 days; allowed: up to 366"),
        (["--links", "l", "--add_link", "board", "--url", "ftp://x"], "--url: got 'ftp://x'; allowed: scheme, host"),
        (["--links", "l", "--add_link", "board", "--every", "2"], "--every: only to serve the page"),
        (["--links", "l", "--remove_link", "board"], "No such file or directory; make one with --add_link NAME"),
        (["--links", "l"], "No such file or directory; make one with --add_link NAME"),
        (["--for", "7d"], "--for: only with --add_link"),
        (["--port", "0"], "--port: got '0'; allowed: a whole number from 1 to 65,535"),
        (["--every", "0.1"], "--every: got '0.1'; allowed: a number from 0.2 to 3,600"),
        (["--every", "never"], "--every: got 'never'; allowed: a number from 0.2 to 3,600"),
        (["--dataset", "p-roject.d", "--every", "1"], "--every: got '1'; allowed: a number from 10 to 3,600"),
        (["--dataset", "p-roject.d", "--maximum_bytes_billed", "1GB"], "--maximum_bytes_billed: got '1GB'; allowed:"),
        (["--maximum_bytes_billed", "9"], "--maximum_bytes_billed: only with --dataset; a folder bills nothing"),
        (["--host", "0.0.0.0"], "--host: got '0.0.0.0'; without --links allowed: a loopback address, e.g. 127.0.0.1"),
    ],
    ids=lambda each: "-".join(each) if isinstance(each, list) else "",
)
def test_a_wrong_option_is_one_line(argv, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["live", *argv]) == 2
    printed = capsys.readouterr()
    assert said in printed.err and len(printed.err.splitlines()) == 1 and printed.out == ""
    assert not (tmp_path / "l").exists()


def test_a_folder_that_is_no_warehouse_is_one_line(tmp_path, capsys):
    assert main(["live", "--warehouse", str(tmp_path / "none")]) == 2
    assert "is no warehouse; make it with `audience backfill" in capsys.readouterr().err
