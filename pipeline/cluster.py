"""Where the work runs: one door to every kind of Dask scheduler. Whoever opens a cluster here closes it here."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import dask
from dask.utils import parse_bytes
from distributed import Client, LocalCluster
from distributed.system import MEMORY_LIMIT

from pipeline.errors import InputError
from pipeline.spec import Compute

CONNECT_SECONDS = 15
CALM = {  # as Dask comes, its watching of itself takes 6 % of a core from every worker; so, 1.5 %
    "distributed.worker.profile.interval": "100ms",
    "distributed.admin.tick.interval": "500ms",
    "distributed.admin.system-monitor.interval": "2s",
}


@contextmanager
def open_client(compute: Compute) -> Iterator[Client | None]:
    """A client for the scheduler a user named; None means: in this process, one task after the other.

    Raises
    ------
    InputError
        Unreadable memory limit, or nobody answers at the address.
    """
    if compute.scheduler == "synchronous":
        yield None
    elif compute.scheduler in ("local", "threads"):
        with dask.config.set(CALM), _local_cluster(compute) as cluster, Client(cluster) as client:
            yield client
    else:
        with _connect(compute.scheduler) as client:
            yield client


def _local_cluster(compute: Compute) -> LocalCluster:
    workers = worker_count(compute)
    processes = compute.scheduler == "local"
    return LocalCluster(
        n_workers=workers if processes else 1,
        threads_per_worker=1 if processes else workers,
        processes=processes,
        memory_limit=memory_per_worker(compute) * (1 if processes else workers),
        dashboard_address=None,
        scheduler_kwargs={"dashboard_address": "127.0.0.1:0"},  # else it takes port 8787, and warns if another job has
        silence_logs=logging.CRITICAL,  # failed tasks are reported by the job, in one line
    )


def worker_count(compute: Compute) -> int:
    """Workers of a local cluster: as asked, or one for each core that this process may use."""
    return 1 if compute.scheduler == "synchronous" else compute.workers or len(os.sched_getaffinity(0))


def measuring(compute: Compute) -> Compute:
    """The same, with no more local workers than cores: they measure for as many as will do the work."""
    local = compute.scheduler in ("local", "threads") and compute.workers is not None
    cores = len(os.sched_getaffinity(0))
    return replace(compute, workers=min(compute.workers or cores, cores)) if local else compute


def memory_per_worker(compute: Compute) -> int:
    """Bytes of memory that each local worker may use; the machine's limit is the container's, if there is one.

    Raises
    ------
    InputError
        A limit that is no number of bytes, or not positive.
    """
    if compute.memory_limit is None:
        return MEMORY_LIMIT // worker_count(compute)
    try:
        limit = int(parse_bytes(compute.memory_limit))
    except (ValueError, OverflowError) as error:
        raise InputError(f"memory limit {compute.memory_limit!r} is no size; give one such as 4GB.") from error
    if limit <= 0:
        raise InputError(f"memory limit {compute.memory_limit!r} is not positive; give one such as 4GB.")
    return limit


def _connect(address: str) -> Client:
    try:
        return Client(address, timeout=CONNECT_SECONDS)
    except (OSError, ValueError) as error:
        raise InputError(
            f"no Dask scheduler answers at {address} within {CONNECT_SECONDS} s; check the address, that the scheduler "
            "runs and that this machine may reach it."
        ) from error


def smallest_memory(client: Client | None, compute: Compute) -> int | None:
    """Memory that a task has on the smallest worker, whose threads share its limit, in bytes; None: no limit."""
    if client is None:
        return memory_per_worker(compute)
    workers = client.scheduler_info(n_workers=-1)["workers"].values()
    return min((w["memory_limit"] // w["nthreads"] for w in workers if w["memory_limit"]), default=None)


def worker_threads(client: Client | None) -> int:
    """Threads of all workers together."""
    return max(sum(client.nthreads().values()), 1) if client is not None else 1
