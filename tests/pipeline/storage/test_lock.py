"""One driver a store: the second is refused, the dead keep nothing, and no clock is believed."""

import errno
import fcntl
import json
import os
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread

import pytest
from upath import UPath

from pairscape.pipeline.errors import JobError
from pairscape.pipeline.storage import lock
from pairscape.pipeline.storage.lock import locked

ROOT = Path(__file__).parents[3]
HOLD = "import sys, time\nfrom pathlib import Path\nfrom pairscape.pipeline.storage.lock import locked\n"
HOLD += "with locked(Path(sys.argv[1])):\n    print('held', flush=True); time.sleep(60)"


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    """Beats in a hurry."""
    for name, seconds in (("BEAT_SECONDS", 0.05), ("PATIENCE_SECONDS", 0.6), ("SETTLE_SECONDS", 0.05)):
        monkeypatch.setattr(lock, name, seconds)


@pytest.fixture
def no_flock(monkeypatch):
    """A file system without flock."""

    def refuse(*_):
        raise OSError(errno.ENOTSUP, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", refuse)


@pytest.fixture
def target(tmp_path):
    return tmp_path / "i.zarr"


def lock_file(target):
    return target.with_name(f".{target.name}.lock")


def elsewhere(target, **facts):
    """The lock of a driver on another machine; returns what it writes."""
    holder = {"host": "far", "machine": "far/1", "pid": 1, "since": "2099-01-01 00:00:00", "name": "theirs", **facts}
    lock_file(target).write_text(json.dumps({**holder, "beat": 0}))
    return holder


@contextmanager
def beating(target, holder):
    """The other machine lives; its clock, which stamps the file, is 50 years slow."""
    over = Event()

    def beat():
        number = 0
        while not over.wait(0.05):
            number += 1
            lock._write(lock.Lock(lock_file(target), holder), number)
            os.utime(lock_file(target), (0, 0))

    thread = Thread(target=beat)
    thread.start()
    yield
    over.set()
    thread.join()


def test_a_lock_says_who_holds_it_and_goes(target):
    with locked(target):
        said = json.loads(lock_file(target).read_text())
        assert said["pid"] == os.getpid()
        time.sleep(0.2)
        assert json.loads(lock_file(target).read_text())["beat"] > said["beat"]
    assert list(target.parent.iterdir()) == []


def test_a_failed_job_leaves_no_lock(target):
    with pytest.raises(ValueError, match="bad"), locked(target):
        raise ValueError("bad")
    assert list(target.parent.iterdir()) == []


def test_a_second_driver_is_refused_at_once(target, refuses):
    with locked(target):
        with refuses("i.zarr is being written by process", str(os.getpid()), kind=JobError), locked(target):
            pass
        with locked(target.with_name("j.zarr")):  # another store is another matter
            pass
    with locked(target):
        pass


@pytest.mark.parametrize("killed", [True, False])
def test_another_process_keeps_it_as_long_as_it_lives(killed, target, refuses):
    holder = subprocess.Popen([sys.executable, "-c", HOLD, target], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout.readline() == "held\n"
        if killed:
            holder.kill()
            holder.wait()
            began = time.monotonic()
            with locked(target) as held:
                held.require()
            assert time.monotonic() - began < lock.PATIENCE_SECONDS  # its process is asked, nobody waits for beats
        else:
            with refuses(f"process {holder.pid} on", kind=JobError), locked(target):
                pass
    finally:
        holder.kill()
        holder.communicate()


@pytest.mark.parametrize("flock", [True, False])
def test_a_driver_on_another_machine_is_told_by_its_beats(flock, target, refuses, request):
    """Also where flock works on this machine alone, and whatever the other one's clock says."""
    if not flock:
        request.getfixturevalue("no_flock")
    holder = elsewhere(target)
    with beating(target, holder), refuses("process 1 on far", kind=JobError), locked(target):
        pass
    with locked(target):  # it beats no more
        assert json.loads(lock_file(target).read_text())["pid"] == os.getpid()


def test_without_flock_a_driver_on_this_machine_is_refused_too(target, no_flock, refuses):
    with locked(target), refuses("is being written by process", kind=JobError), locked(target):
        pass


def test_half_a_lock_is_none(target):
    lock_file(target).write_text('{"host": "far", "pi')
    with locked(target):
        pass
    assert list(target.parent.iterdir()) == []


def test_half_of_a_beat_is_no_death(target, refuses, monkeypatch):
    """Where a file is not replaced in one piece, a look may find half of it: of theirs, and of ours."""
    holder = elsewhere(target)
    seen = [{**holder, "beat": 0}, None, None, {**holder, "beat": 1}, {**holder, "beat": 1}]
    with monkeypatch.context() as patch:
        patch.setattr(lock, "_read", lambda _: seen.pop(0))
        with refuses("process 1 on far", kind=JobError), locked(target):
            pass
    lock_file(target).unlink()
    with locked(target) as held, monkeypatch.context() as patch:
        patch.setattr(lock, "_read", lambda _: None)
        held.require()


def test_a_lock_that_was_removed_is_noticed(target, refuses):
    with locked(target) as held:
        lock_file(target).unlink()
        with refuses("was taken over", kind=JobError):
            held.require()


def test_a_driver_that_stood_still_finds_out(target, refuses):
    with locked(target) as held:
        held.require()
        elsewhere(target)
        with refuses("taken over by process 1 on far", "what is finished is kept", kind=JobError):
            held.require()
    assert lock_file(target).exists()  # it is the other one's now


def test_a_store_that_cannot_be_written_is_refused(tmp_path, refuses):
    (tmp_path / "file").write_text("")
    with refuses("cannot be written", "folder", kind=JobError), locked(tmp_path / "file" / "i.zarr"):
        pass


def test_a_read_only_disk_is_refused(target, refuses, monkeypatch):
    def refuse(*_):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(os, "open", refuse)
    with refuses("i.zarr cannot be written (Read-only file system)", kind=JobError), locked(target):
        pass


def test_object_storage_has_locks_too(refuses):
    target = UPath("memory://lock/i.zarr")
    with locked(target):
        assert b"beat" in lock_file(target).read_bytes()
        with refuses("is being written by", kind=JobError), locked(target):
            pass
    assert not lock_file(target).exists()
