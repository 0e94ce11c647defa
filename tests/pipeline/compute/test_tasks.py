"""The Dask edge: few tasks in flight, failures told at the end, the same results in every kind of cluster."""

import json
import logging
import os
import threading
import time

import pytest
from distributed import get_worker
from hypothesis import given
from hypothesis import strategies as st

from pairscape.pipeline.compute import clusters
from pairscape.pipeline.compute.clusters import open_client
from pairscape.pipeline.compute.local import memory_per_worker, worker_count
from pairscape.pipeline.compute.opening import smallest_memory, worker_threads
from pairscape.pipeline.compute.session import Events, Session, Usage
from pairscape.pipeline.compute.tasks import RETRIES, in_order, on_every_worker, run_tasks
from pairscape.pipeline.errors import InputError, JobError
from pairscape.pipeline.options import Compute

ATTEMPTS: dict[str, int] = {}  # of the tasks below, which run in threads of this process
LOCK = threading.Lock()


@pytest.fixture(scope="module")
def threads():
    """A client with two threads of this process."""
    with open_client(Compute("threads", workers=2)) as client:
        yield client


@pytest.fixture(params=["synchronous", "threads"])
def client(request, threads):
    return threads if request.param == "threads" else None


@pytest.fixture(autouse=True)
def _fresh_attempts():
    ATTEMPTS.clear()


def power(base, exponent, task):
    return base + task**exponent


@given(st.permutations(range(9)))
def test_results_in_order_hold_only_what_is_early(order):
    given_out = []

    def coming():
        for position, number in enumerate(order):
            done = set(order[:position])
            in_turn = next(n for n in range(10) if n not in done)
            assert given_out == list(range(in_turn))  # all that could be given before this one came
            yield number, number

    for result in in_order(coming()):
        given_out.append(result)
    assert given_out == list(range(9))


def attempt(task):
    with LOCK:
        ATTEMPTS[task] = ATTEMPTS.get(task, 0) + 1
        return ATTEMPTS[task]


def poisoned(task):
    attempt(task)
    if task % 3 == 0:
        raise OSError(f"no space left for {task}\nsecond line")
    return task


def passing(task):
    if attempt(task) <= RETRIES:
        raise OSError("no space left")
    return task


def unfit(task):
    raise InputError("gene G3 has the value nan") if task else OSError("never retried to the end")


def refuse(task):
    raise InputError(f"gene G3 has the value {task}")


def die_once(marker, task):
    if task == 1 and not marker.exists():
        marker.touch()
        os._exit(9)
    return task, get_worker().name


def test_every_task_has_its_result(client):
    assert sorted(run_tasks(Session(client), power, range(40), 100, 2)) == [(task, 100 + task**2) for task in range(40)]


def test_workers_measure_themselves(client):
    usage = Usage()
    list(run_tasks(Session(client, usage=usage), power, range(6), 0, 1))
    assert 1 <= len(usage.peak_bytes) <= 2
    assert 10e6 < usage.peak < 100e9
    assert 0 < usage.busy_seconds < 60


def test_all_events_call_a_worker_by_one_name(client, tmp_path):
    """As the scheduler does, in whose messages workers come and go."""
    if client is None:
        return
    with Events(tmp_path / "log") as log:
        list(run_tasks(Session(client, usage=Usage(events=log)), passing, range(2)))
    found = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert {event["event"] for event in found} == {"attempt failed", "task"}
    assert {event["worker"] for event in found} <= set(client.nthreads())


def test_no_task_is_no_work(client):
    assert list(run_tasks(Session(client), power, [], 1, 2)) == []


def test_synchronous_takes_the_tasks_in_order_and_shows_its_own_traceback():
    results = run_tasks(Session(), poisoned, [1, 2, 3, 4])
    assert [next(results), next(results)] == [(1, 1), (2, 2)]
    with pytest.raises(OSError, match="no space left for 3"):
        next(results)
    assert ATTEMPTS == {1: 1, 2: 1, 3: 1}


def test_the_window_bounds_the_tasks_in_flight(threads):
    """Drawn from the list and not yet answered: never more than twice the threads, whatever the list's length."""
    drawn = 0

    def tasks():
        nonlocal drawn
        for task in range(60):
            drawn += 1
            yield task

    in_flight = []
    for answered, _ in enumerate(run_tasks(Session(threads), power, tasks(), 0, 1)):
        in_flight.append(drawn - answered)
    assert drawn == 60
    assert max(in_flight) == 2 * worker_threads(threads) == 4


def test_a_failing_task_stops_no_other_and_is_named_at_the_end(threads, refuses):
    done = []
    with refuses("4 tasks failed", "OSError: no space left for", "what is finished is kept", kind=JobError):
        for task, _ in run_tasks(Session(threads), poisoned, range(1, 13)):
            done.append(task)
    assert sorted(done) == [1, 2, 4, 5, 7, 8, 10, 11]
    assert {task: ATTEMPTS[task] for task in (3, 6, 9, 12)} == dict.fromkeys([3, 6, 9, 12], 1 + RETRIES)


def test_the_first_failure_is_named_by_task_and_cause(threads):
    with pytest.raises(JobError, match=r"1 tasks failed, the first, 3, with OSError: no space left for 3;") as error:
        list(run_tasks(Session(threads), poisoned, [3, 4]))
    assert isinstance(error.value.__cause__, OSError)


def test_a_failure_that_passes_is_none(threads):
    assert sorted(run_tasks(Session(threads), passing, [1, 2])) == [(1, 1), (2, 2)]
    assert ATTEMPTS == {1: 1 + RETRIES, 2: 1 + RETRIES}


def test_the_same_tasks_run_anew_in_the_next_job(threads):
    """Results of an earlier job must not answer for this one: what it wrote may be gone."""
    for _ in range(2):
        list(run_tasks(Session(threads), poisoned, [1]))
    assert ATTEMPTS == {1: 2}


def test_a_job_given_up_leaves_nothing_running(threads):
    for _ in run_tasks(Session(threads), power, range(100), 0, 1):
        break
    assert sorted(run_tasks(Session(threads), power, range(3), 0, 1)) == [(0, 0), (1, 1), (2, 2)]
    deadline = time.monotonic() + 5  # futures are released a moment later, in the client's own thread
    while threads.futures and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threads.futures == {}


def test_every_thread_is_called_once(client):
    assert list(on_every_worker(client, power, 1, 2, 3)) == [10] * worker_threads(client)


def test_a_worker_that_cannot_start_is_told(threads):
    with pytest.raises(InputError, match="gene G3"):
        list(on_every_worker(threads, refuse, 1))


def test_two_jobs_of_one_client_do_not_mix_their_results(threads):
    first = run_tasks(Session(threads), power, range(3), 0, 1)
    results = [next(first)]
    assert sorted(run_tasks(Session(threads), power, range(3, 6), 100, 1)) == [(3, 103), (4, 104), (5, 105)]
    assert sorted([*results, *first]) == [(0, 0), (1, 1), (2, 2)]


def test_the_logs_are_as_loud_as_before(threads, caplog):
    caplog.set_level(logging.INFO, logger="distributed")
    with pytest.raises(JobError):
        list(run_tasks(Session(threads), poisoned, [3]))
    assert logging.getLogger("distributed").level == logging.INFO


@pytest.mark.cluster
def test_a_task_survives_the_death_of_its_worker(tmp_path):
    with open_client(Compute("local", workers=1)) as client:
        results = list(run_tasks(Session(client), die_once, range(4), tmp_path / "died"))
    assert (tmp_path / "died").exists()
    assert sorted(task for task, _ in results) == [0, 1, 2, 3]


def test_two_jobs_on_one_machine_do_not_meet(threads):
    """No port is taken that both would want: a warning here is an error."""
    with open_client(Compute("threads", workers=1)) as second:
        assert list(run_tasks(Session(second), power, [2], 0, 3)) == [(2, 8)]


def test_a_task_may_use_the_share_of_its_thread(threads):
    compute = Compute("threads", workers=2)
    assert smallest_memory(threads, compute) == memory_per_worker(compute)
    assert smallest_memory(None, Compute("synchronous", memory_limit="3GB")) == 3_000_000_000


def test_workers_are_as_asked_or_one_a_core():
    assert worker_count(Compute("synchronous", workers=7)) == 1
    assert worker_count(Compute("local", workers=7)) == 7
    assert worker_count(Compute("local")) == len(os.sched_getaffinity(0))
    assert worker_threads(None) == 1


@pytest.mark.parametrize(("scheduler", "limit", "words"), [
    ("slurmish", None, ["'slurmish' is unknown", "synchronous"]),
    ("threads", "lots", ["'lots' is no size", "4GB"]),
    ("threads", "inf", ["'inf' is no size"]),
    ("threads", "-1GB", ["'-1GB' is not positive"]),
    ("threads", "0", ["'0' is not positive"]),
])  # fmt: skip
def test_an_impossible_cluster_is_refused(scheduler, limit, words, refuses):
    with refuses(*words), open_client(Compute(scheduler, workers=1, memory_limit=limit)):
        pass


def test_no_workers_are_refused(refuses):
    with refuses("workers is 0"):
        Compute(workers=0)


def test_a_scheduler_that_does_not_answer_is_refused(monkeypatch, refuses):
    monkeypatch.setattr(clusters, "CONNECT_SECONDS", 0.5)
    with refuses("tcp://127.0.0.1:9", "no Dask scheduler answers"), open_client(Compute("tcp://127.0.0.1:9")):
        pass
