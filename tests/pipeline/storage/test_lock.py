"""One driver a store: the second is refused at once, and on a disk the lock of a dead one does not stay."""

import errno
import fcntl
import json
import os
import subprocess
import sys
from pathlib import Path

import fsspec
import pytest
from upath import UPath

from pairscape.pipeline.errors import JobError
from pairscape.pipeline.storage.lock import locked

ROOT = Path(__file__).parents[3]
HOLD = "import sys, time\nfrom pathlib import Path\nfrom pairscape.pipeline.storage.lock import locked\n"
HOLD += "with locked(Path(sys.argv[1])):\n    print('held', flush=True); time.sleep(60)"


@pytest.fixture(params=["disk", "disk without flock", "URL"])
def target(request, tmp_path, monkeypatch):
    """A store to lock, and whether a killed driver's lock stays."""

    def refuse(*_):
        raise OSError(errno.ENOTSUP, "Operation not supported")

    if request.param == "disk without flock":
        monkeypatch.setattr(fcntl, "flock", refuse)
    if request.param != "URL":
        yield tmp_path / "i.zarr"
        return
    yield UPath("memory://lock/i.zarr")
    if fsspec.filesystem("memory").exists("/lock"):
        fsspec.filesystem("memory").rm("/lock", recursive=True)


def lock_file(target):
    return target.with_name(f".{target.name}.lock")


def test_a_lock_says_who_holds_it_and_goes(target):
    with locked(target) as held:
        assert json.loads(lock_file(target).read_text())["pid"] == os.getpid()
        held.require()
    assert not lock_file(target).exists()


def test_a_failed_job_leaves_no_lock(target):
    with pytest.raises(ValueError, match="bad"), locked(target):
        raise ValueError("bad")
    assert not lock_file(target).exists()


def test_a_second_driver_is_refused_at_once(target, refuses):
    with locked(target):
        with refuses("i.zarr is being written by process", str(os.getpid()), kind=JobError), locked(target):
            pass
        with locked(target.with_name("j.zarr")):  # another store is another matter
            pass
        assert json.loads(lock_file(target).read_text())["pid"] == os.getpid()
    with locked(target):
        pass


@pytest.mark.parametrize("killed", [True, False])
def test_another_process_keeps_it_as_long_as_it_lives(killed, tmp_path, refuses):
    target = tmp_path / "i.zarr"
    holder = subprocess.Popen([sys.executable, "-c", HOLD, target], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout.readline() == "held\n"
        if killed:
            holder.kill()
            holder.wait()
            assert lock_file(target).exists()
            with locked(target) as held:
                held.require()
        else:
            with refuses(f"process {holder.pid} on", kind=JobError), locked(target):
                pass
    finally:
        holder.kill()
        holder.communicate()


@pytest.mark.parametrize("target", ["disk without flock", "URL"], indirect=True)
def test_where_the_lock_of_a_killed_driver_stays_it_is_said_how_to_remove_it(target, refuses):
    target.parent.mkdir(parents=True, exist_ok=True)
    lock_file(target).write_text(json.dumps({"host": "far", "pid": 1, "since": "2099-01-01 00:00:00", "name": "x"}))
    with refuses("process 1 on far", f"if it was killed, remove {lock_file(target)}", kind=JobError), locked(target):
        pass
    lock_file(target).unlink()
    with locked(target):
        pass


@pytest.mark.parametrize("target", ["disk"], indirect=True)
def test_half_a_lock_of_a_dead_driver_is_none(target):
    lock_file(target).write_text('{"host": "far", "pi')
    with locked(target):
        pass
    assert list(target.parent.iterdir()) == []


def test_a_lock_that_was_removed_is_noticed(target, refuses):
    with locked(target) as held:
        lock_file(target).unlink()
        with refuses("was taken over", kind=JobError):
            held.require()


def test_a_lock_that_another_has_taken_is_theirs(target, refuses):
    with locked(target) as held:
        lock_file(target).write_text(json.dumps({"host": "far", "pid": 1, "since": "now", "name": "theirs"}))
        with refuses("taken over by process 1 on far", "what is finished is kept", kind=JobError):
            held.require()
    assert lock_file(target).exists()


def test_a_store_that_cannot_be_written_is_refused(tmp_path, refuses):
    (tmp_path / "file").write_text("")
    with refuses("cannot be written", "folder", kind=JobError), locked(tmp_path / "file" / "i.zarr"):
        pass


def test_a_read_only_disk_is_refused(tmp_path, refuses, monkeypatch):
    def refuse(*_):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(os, "open", refuse)
    with refuses("i.zarr cannot be written (Read-only file system)", kind=JobError), locked(tmp_path / "i.zarr"):
        pass
