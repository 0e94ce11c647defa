"""What befalls a heatmap job: each fault of docs/reliability.md ends with every shard, or says which are missing."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import dask
import pytest

import pairscape
from benchmarks.scheduler import wait
from conftest import small_shards, store_expression
from pairscape.pipeline.compute import clusters, opening
from pairscape.pipeline.compute import scheduler as lifeline
from pairscape.pipeline.compute.clusters import open_client
from pairscape.pipeline.compute.session import Events, Session, Usage
from pairscape.pipeline.compute.tasks import HOPELESS, run_tasks
from pairscape.pipeline.errors import JobError
from pairscape.pipeline.heatmaps import count, job, shards
from pairscape.pipeline.heatmaps.images import open_images
from pairscape.pipeline.heatmaps.job import make_heatmaps, resolve_request
from pairscape.pipeline.heatmaps.shards import receipt_file, shard_file
from pairscape.pipeline.matrix.expression import open_expression
from pairscape.pipeline.options import Binning, Compute, PairSource
from pairscape.pipeline.storage import receipts
from pairscape.pipeline.storage.lock import locked
from pairscape.pipeline.storage.write import write_file

ROOT, SHARDS = Path(__file__).parents[3], 22
COUNT = count.count_task


@pytest.fixture(autouse=True)
def _shards_of_48(monkeypatch):
    """22 shards of all 1,035 pairs of the 46 genes."""
    small_shards(monkeypatch, 48)


@pytest.fixture(scope="module")
def threads():
    with open_client(Compute("threads", workers=2)) as client:
        yield client


def run(path, target, client=None, usage=None):
    expression, session = open_expression(path), Session(client, usage=usage or Usage())
    request = resolve_request(expression, PairSource(all_pairs=True), 0)
    return make_heatmaps(expression, target, None, request, Binning("max", 16), session)


def contents(store):
    return {path.relative_to(store): path.read_bytes() for path in store.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def truth(tmp_path_factory, expression_path):
    """A folder with the finished store; tests work on copies."""
    folder = tmp_path_factory.mktemp("truth")
    with pytest.MonkeyPatch.context() as patch:
        small_shards(patch, 48)
        run(expression_path, folder / "i.zarr")
    return folder


def without_codes_path(found):
    """Where the codes lie differs between folders."""
    metadata = json.loads(found[Path("zarr.json")])
    del metadata["attributes"]["spec"]["codes"]
    return {**found, Path("zarr.json"): metadata}


def same(store, truth):
    return without_codes_path(contents(store)) == without_codes_path(contents(truth / "i.zarr"))


def test_a_poisoned_shard_takes_no_other_with_it(truth, threads, expression_path, tmp_path, monkeypatch, refuses):
    """An exception every time: all other shards are done, and the job says which is not, why, and how to go on."""

    def poisoned(target, codes, share, task):
        if 5 in task.shards:
            raise ZeroDivisionError("of this tile")
        return COUNT(target, codes, share, task)

    monkeypatch.setattr(job, "count_task", poisoned)
    with Events(tmp_path / "log") as log:
        usage = Usage(events=log)
        with refuses(
            "1 of 22 shards are missing (first: 5): 5 (ZeroDivisionError: of this tile)", "run the same", kind=JobError
        ):
            run(expression_path, tmp_path / "i.zarr", threads, usage)
    assert open_images(tmp_path / "i.zarr", complete=False).missing_shards() == [5]
    events = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert usage.retries >= 2
    assert sum(event["event"] == "attempt failed" for event in events) >= 3
    assert events[-1]["shards"] == {"ZeroDivisionError: of this tile": [5]}
    told = {shard for event in events if event["event"] == "task" for shard in event.get("shards", ())}
    assert told == set(range(SHARDS)) - {5}
    monkeypatch.setattr(job, "count_task", COUNT)
    assert run(expression_path, tmp_path / "i.zarr", threads).computed == 1
    assert same(tmp_path / "i.zarr", truth)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS])
def test_a_disk_that_refuses_ends_the_job_soon(number, truth, threads, expression_path, tmp_path, monkeypatch, refuses):
    """A full disk, or a store that became read-only, refuses whatever comes next."""
    attempts = []

    def refused(target, codes, share, task):
        if max(task.shards) >= 4:
            attempts.append(task)
            raise OSError(number, os.strerror(number))
        return COUNT(target, codes, share, task)

    monkeypatch.setattr(job, "count_task", refused)
    with refuses("of 22 shards are missing", os.strerror(number), "not started", "what is finished", kind=JobError):
        run(expression_path, tmp_path / "i.zarr", threads)
    assert len(attempts) < 3 * 8
    monkeypatch.setattr(job, "count_task", COUNT)
    assert run(expression_path, tmp_path / "i.zarr", threads).kept > 0
    assert same(tmp_path / "i.zarr", truth)


def test_half_a_file_does_not_keep_the_disk_full(tmp_path, monkeypatch):
    def refuse(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(OSError, match="No space"):
        write_file(tmp_path / "1", b"content")
    assert list(tmp_path.iterdir()) == []


def test_without_workers_a_refusing_disk_is_a_line_too(expression_path, tmp_path, monkeypatch, refuses):
    def refused(*_):
        raise OSError(errno.ENOSPC, "No space left on device", str(tmp_path / "i.zarr"))

    monkeypatch.setattr(receipts, "write_file", refused)
    with refuses("cannot be finished", "No space left", "run the same command", kind=JobError):
        run(expression_path, tmp_path / "i.zarr")


def test_when_most_tasks_fail_the_rest_is_not_started(threads, refuses):
    begun = []

    def failing(task):
        begun.append(task)
        raise ValueError("always")

    with refuses("tasks failed", "ValueError: always", "the rest was not started", kind=JobError):
        list(run_tasks(Session(threads), failing, range(500)))
    assert len(set(begun)) <= HOPELESS + 8


def test_a_second_driver_is_refused_before_it_touches_anything(expression_path, tmp_path, refuses):
    with locked(tmp_path / "i.zarr"), refuses("i.zarr is being written by", kind=JobError):
        run(expression_path, tmp_path / "i.zarr")
    assert list(tmp_path.iterdir()) == []
    with locked(tmp_path / "i.codes.zarr"), refuses("i.codes.zarr is being written by", kind=JobError):
        run(expression_path, tmp_path / "i.zarr")
    assert list(tmp_path.iterdir()) == []


def test_a_driver_whose_store_was_taken_over_stops(expression_path, tmp_path, monkeypatch, refuses):
    def taken_over(target, codes, share, task):
        (tmp_path / ".i.zarr.lock").write_text(json.dumps({"name": "other", "pid": 7, "host": "far", "since": "now"}))
        return COUNT(target, codes, share, task)

    monkeypatch.setattr(job, "count_task", taken_over)
    with refuses("taken over by process 7 on far", kind=JobError):
        run(expression_path, tmp_path / "i.zarr")


def test_a_task_that_runs_twice_at_once_writes_the_same(truth, tmp_path):
    """On two workers that do not know of each other, as after a cut of the network; also processes of the same id."""
    store = shutil.copytree(truth / "i.zarr", tmp_path / "i.zarr")
    found = open_images(store)
    content = [found.counts(slice(0, 48)).copy(), found.both_zero(slice(0, 48)).copy()]
    encoded = shards.encode_shard(found, 0, *content)
    both = [threading.Thread(target=lambda: [shards.publish_shard(found, 0, encoded) for _ in range(20)]) for _ in "ab"]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join()
    assert contents(store) == contents(truth / "i.zarr")


def test_what_killed_workers_left_is_cleared(truth, expression_path, tmp_path):
    store = shutil.copytree(truth, tmp_path / "t") / "i.zarr"
    found = open_images(store)
    left = [
        file.with_name(f".{file.name}.4711471147") for file in (shard_file(found, "counts", 3), receipt_file(found, 7))
    ]
    for path in left:
        path.write_bytes(b"half")
    run(expression_path, store)
    assert [path for path in left if path.exists()] == []
    assert same(store, truth)


def test_an_interrupted_store_is_not_trusted(truth, expression_path, tmp_path):
    """A flipped bit beside a missing shard: the crash that interrupted the run may have left anything."""
    store = shutil.copytree(truth, tmp_path / "t") / "i.zarr"
    found = open_images(store)
    receipt_file(found, 2).unlink()
    content = bytearray(shard_file(found, "counts", 9).read_bytes())
    content[len(content) // 2] ^= 16
    shard_file(found, "counts", 9).write_bytes(content)
    assert run(expression_path, store).computed == 2
    assert same(store, truth)


def test_clocks_that_differ_change_nothing(truth, expression_path, tmp_path):
    """Files from the future and from 1970: nothing is decided by when a file was written."""
    store = shutil.copytree(truth, tmp_path / "t") / "i.zarr"
    receipt_file(open_images(store), 2).unlink()
    for path in store.rglob("*"):
        os.utime(path, (0, 0) if len(path.name) % 2 else (4e9, 4e9))
    assert run(expression_path, store).computed == 1
    assert same(store, truth)


def slow(seconds, task):
    time.sleep(seconds if task == 0 else 0)
    return task


def test_a_slow_worker_holds_up_only_its_own_task(threads):
    done = [task for task, _ in run_tasks(Session(threads), slow, range(30), 0.5)]
    assert sorted(done) == list(range(30))
    assert done.index(0) > 20


def die(marker, task):
    if task == 3 or (task == 1 and not marker.exists()):
        marker.touch()
        os._exit(9)
    return task


@pytest.mark.cluster
def test_a_task_that_kills_its_worker_is_named_and_its_neighbours_are_not(tmp_path, refuses):
    """Out of memory, say. Dask blames whatever a dying worker held; what is blamed is tried by itself at the end."""
    usage, done = Usage(), []
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 0}),
        open_client(Compute("local", 1)) as client,
        refuses("1 tasks failed, the first, 3, with KilledWorker", "memory", kind=JobError),
    ):
        for task, _ in run_tasks(Session(client, usage=usage), die, range(5), tmp_path / "died"):
            done.append(task)
    assert sorted(done) == [0, 1, 2, 4]
    assert usage.lost_workers >= 2


@pytest.fixture
def remote(tmp_path):
    """A scheduler and a worker, processes of their own on loopback; the scheduler."""
    start, quiet = [sys.executable, "-m", "benchmarks.scheduler", "--serve"], subprocess.DEVNULL
    scheduler = subprocess.Popen([*start, "scheduler"], cwd=ROOT, stdout=subprocess.PIPE, stderr=quiet, text=True)
    address = scheduler.stdout.readline().strip()
    workers = subprocess.Popen([*start, address, "--workers", "1"], cwd=ROOT, stderr=quiet)
    yield scheduler, address
    for process in (workers, scheduler):
        process.kill()
        process.wait()
    scheduler.stdout.close()


@pytest.mark.cluster
@pytest.mark.parametrize("blow", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "cut off"])
def test_a_scheduler_that_is_gone_ends_the_job(blow, remote, monkeypatch, refuses):
    """Closed connections tell at once; a network that was cut, like a scheduler that is stopped, says nothing."""
    monkeypatch.setattr(lifeline, "PULSE_SECONDS", 0.1)
    monkeypatch.setattr(lifeline, "SILENT_SECONDS", 1.0)
    scheduler, address = remote
    began = None
    with open_client(Compute(address)) as client:
        client.wait_for_workers(1, timeout=60)
        with refuses(f"scheduler at {address} is gone", "what is finished is kept", kind=JobError):
            for _ in run_tasks(Session(client), wait, [0.01] * 5000):
                if began is None:
                    began = time.monotonic()
                    scheduler.send_signal(blow)
    assert time.monotonic() - began < 60


@pytest.mark.cluster
@pytest.mark.parametrize(("where", "asked"), [(clusters, "_first_worker"), (opening, "worker_threads")])
def test_a_scheduler_that_goes_before_the_first_task_is_a_line(where, asked, remote, tmp_path, monkeypatch, refuses):
    """While the workers are asked whether they can do the job, and while the job is planned."""
    scheduler, address = remote
    real = getattr(where, asked)

    def too_late(client, *arguments):
        scheduler.kill()
        scheduler.wait()
        return real(client, *arguments)

    monkeypatch.setattr(where, asked, too_late)
    with (
        dask.config.set({"distributed.comm.timeouts.connect": "1s"}),
        refuses(f"scheduler at {address} is gone", "run the same command again", kind=JobError),
        open_client(Compute(address), writes=tmp_path / "i.zarr") as client,
    ):
        opening.worker_threads(client)


def test_a_result_that_is_lost_on_the_way_is_made_again(threads, monkeypatch):
    """A worker that dies after its task: Dask gives nothing for it, or None."""
    lost, gather = [], threads.gather

    async def losing(futures, **options):
        found = await gather(futures, **options)
        if len(lost) < 3:
            lost.append(found.pop(next(iter(found))))
            found |= dict.fromkeys(list(found)[:1])
        return found

    monkeypatch.setattr(threads, "gather", losing)
    assert sorted(task for task, _ in run_tasks(Session(threads), slow, range(1, 20), 0)) == list(range(1, 20))
    assert len(lost) == 3


def test_ingest_has_one_driver_too(dense, tmp_path, refuses):
    with locked(tmp_path / "e.zarr"), refuses("e.zarr is being written by", kind=JobError):
        store_expression(tmp_path / "e.zarr", dense)
    assert list(tmp_path.iterdir()) == []


def test_the_log_of_a_job_tells_what_happened(expression_path, tmp_path, capsys):
    """And the closing summary, and Dask's own report."""
    options = {"source": PairSource(all_pairs=True), "compute": Compute("threads", workers=2)}
    files = {"events": tmp_path / "log", "performance_report": tmp_path / "report.html"}
    pairscape.heatmaps(expression_path, tmp_path / "i.zarr", **options, **files)
    events = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert [event["event"] for event in events if event["event"] != "task"] == ["start", "plan", "end"]
    tasks = [event for event in events if event.get("function") == "count_task"]
    assert sum(len(event["shards"]) for event in tasks) == SHARDS
    assert sum(event["bytes"] for event in tasks) == events[-1]["bytes_written"] > 0
    assert {"worker", "task_seconds", "peak_bytes"} <= set(tasks[0])
    assert (events[-1]["ok"], events[-1]["tasks"], events[-1]["retries"]) == (True, len(tasks) + 2, 0)
    assert "0 tried again, 0 workers lost" in capsys.readouterr().out
    assert "bokeh" in (tmp_path / "report.html").read_text().lower()


@pytest.mark.parametrize(("option", "scheduler", "words"), [
    ({"performance_report": "r.html"}, "synchronous", ["--performance-report", "synchronous", "local"]),
    ({"performance_report": "no/r.html"}, "threads", ["--performance-report no/r.html", "no folder"]),
    ({"events": "no/log"}, "synchronous", ["--events no/log cannot be written"]),
])  # fmt: skip
def test_reports_that_cannot_be_written_are_refused(
    option, scheduler, words, expression_path, tmp_path, refuses, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    given = {name: Path(value) for name, value in option.items()}
    source, compute = PairSource(all_pairs=True), Compute(scheduler, workers=1)
    with refuses(*words):
        pairscape.heatmaps(expression_path, tmp_path / "i.zarr", source=source, compute=compute, quiet=True, **given)
    assert list(tmp_path.iterdir()) == []


def test_without_bokeh_the_report_is_refused(monkeypatch, threads, tmp_path, refuses):
    monkeypatch.setattr(clusters, "find_spec", lambda _: None)
    with refuses("bokeh", "pairscape[dashboard]"), clusters.reported(threads, tmp_path / "r.html"):
        pass
