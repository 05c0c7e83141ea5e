"""What is synced, and by how many calls."""

import os

import pytest

from pipelines.system import disk


@pytest.fixture
def synced(monkeypatch):
    """The paths that `os.fsync` was called for, in order."""
    paths, fsync = [], os.fsync

    def noted(descriptor):
        paths.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", noted)
    return paths


def files(folder, count: int) -> list[str]:
    made = [str(folder / f"{number:03}") for number in range(count)]
    for path in made:
        open(path, "w").close()
    return made


def test_a_few_paths_are_synced_one_by_one(tmp_path, synced):
    paths = files(tmp_path, disk.MANY)
    disk.sync_all(tmp_path, {*paths})
    assert synced == paths


def test_many_paths_are_synced_by_one_call(tmp_path, synced):
    disk.sync_all(tmp_path, {*files(tmp_path, disk.MANY + 1)})
    assert synced == []


@pytest.mark.parametrize("changed", [("SYNCFS_REPORTS", (99, 0)), ("_sync_file_system", lambda root: False)])
def test_many_paths_are_synced_one_by_one_where_one_call_would_not_do(tmp_path, synced, monkeypatch, changed):
    monkeypatch.setattr(disk, *changed)
    paths = files(tmp_path, disk.MANY + 1)
    disk.sync_all(tmp_path, {*paths})
    assert synced == paths


def test_a_file_system_that_cannot_be_synced_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(disk.ctypes, "CDLL", lambda *_, **how: type("C", (), {"syncfs": staticmethod(lambda fd: -1)}))
    monkeypatch.setattr(disk.ctypes, "get_errno", lambda: 5)
    with pytest.raises(OSError, match="Input/output error"):
        disk.sync_all(tmp_path, {*files(tmp_path, disk.MANY + 1)})
