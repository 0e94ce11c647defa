"""Workers as jobs of a queue: SLURM, PBS, LSF and SGE through dask-jobqueue.

What a job is (queue, account, walltime, cores, network interface) stands in dask-jobqueue's own configuration, section
`jobqueue.slurm` and so on; Pairscape adds how many workers, their memory and their lifetime.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import dask
from distributed import Client, Security, Status
from tornado.ioloop import PeriodicCallback

from pairscape.pipeline.compute.addresses import warn_if_open
from pairscape.pipeline.compute.amounts import asked_bytes, asked_seconds
from pairscape.pipeline.compute.optional import optional
from pairscape.pipeline.compute.progress import Say
from pairscape.pipeline.compute.walltime import walltime_seconds, worker_life
from pairscape.pipeline.errors import InputError
from pairscape.pipeline.options import Compute

CLUSTERS = {"slurm": "SLURMCluster", "pbs": "PBSCluster", "lsf": "LSFCluster", "sge": "SGECluster"}
RENEW_MS = 5000


@contextmanager
def queue_client(compute: Compute, security: Security | None, say: Say) -> Iterator[Client]:
    """A client of a scheduler in this process, whose workers are jobs; a job that ends early is replaced.

    Raises
    ------
    InputError
        dask-jobqueue is missing, it knows too little of the jobs, or the queue refuses them.
    """
    queue = str(compute.scheduler)
    package = optional("dask_jobqueue", "slurm", f"--scheduler {queue}")
    options = job_options(compute, partial(_configured, queue))
    processes, workers = options["processes"], compute.workers or options["processes"]
    jobs = -(-workers // processes)
    try:
        opened = getattr(package, CLUSTERS[queue])(**options, security=security, silence_logs="critical")
    except (ValueError, RuntimeError, OSError) as error:
        raise InputError(f"no cluster of {queue} jobs: {_reason(error)}") from error
    with opened as cluster, _refused_jobs_forgotten(cluster):
        warn_if_open(cluster.scheduler_address)
        say(*cluster.job_script().strip().splitlines(), f"submitting {jobs} such jobs, {workers} workers")
        _submit(cluster, jobs, queue)
        with _renewed(cluster), Client(cluster) as client:
            yield client


def job_options(compute: Compute, configured: Any) -> dict[str, Any]:
    """Arguments of a cluster of dask-jobqueue, of what was asked and `configured(name)`.

    One thread a worker, where nothing else is configured: a task keeps one core busy.

    Raises
    ------
    InputError
        Neither a memory limit is given nor the memory of a job configured; a lifetime beyond the walltime.
    """
    queue = str(compute.scheduler)
    processes = configured("processes") or configured("cores") or 1
    if compute.memory_limit is None and configured("memory") is None:
        raise InputError(
            f"a job of {queue} needs to know its memory; give --memory-limit 4GB, for each worker, or configure "
            f"jobqueue.{queue}.memory, for each job."
        )
    options = {
        "cores": configured("cores") or processes,
        "processes": processes,
        "memory": configured("memory"),
        "worker_extra_args": [*(configured("worker-extra-args") or []), *_life_arguments(compute, configured)],
        "scheduler_options": {"dashboard_address": "127.0.0.1:0"} | (configured("scheduler-options") or {}),
    }
    if compute.memory_limit is not None:
        options["memory"] = f"{asked_bytes(compute.memory_limit) * processes} B"
    return options


def _life_arguments(compute: Compute, configured: Any) -> list[str]:
    if "--lifetime" in (configured("worker-extra-args") or []):
        return []
    wanted = None if compute.lifetime is None else asked_seconds(compute.lifetime)
    walltime = configured("walltime")
    life = worker_life(walltime and walltime_seconds(str(walltime), str(compute.scheduler)), wanted)
    return [] if life is None else ["--lifetime", f"{life[0]:.0f}s", "--lifetime-stagger", f"{life[1]:.0f}s"]


def _configured(queue: str, name: str) -> Any:
    return dask.config.get(f"jobqueue.{queue}.{name}", None)


def _submit(cluster: Any, jobs: int, queue: str) -> None:
    async def submitted() -> None:
        await cluster
        for job in cluster.workers.values():
            await job  # one that the queue refused is tried again here, and says why

    cluster.scale(jobs=jobs)
    try:
        cluster.sync(submitted)
    except (RuntimeError, OSError, ValueError) as error:
        raise InputError(f"{queue} takes no jobs of ours here: {_reason(error)}") from error


@contextmanager
def _refused_jobs_forgotten(cluster: Any) -> Iterator[None]:
    """A job that the queue did not take cannot be cancelled, and a cluster that still counts it does not close."""
    try:
        yield
    finally:
        for job in cluster.workers.values():
            if job.job_id is None:
                job.status = Status.failed


@contextmanager
def _renewed(cluster: Any) -> Iterator[None]:
    """Meanwhile, jobs that ended (walltime, cancelled, a node gone) are submitted again.

    Dask's own adaptive scaling does not do it while as many workers are wanted as were: it counts those that it asked
    for, not those that are left.
    """
    renewal = PeriodicCallback(lambda: cluster.scale(jobs=len(cluster.worker_spec)), RENEW_MS)
    cluster.loop.add_callback(renewal.start)
    try:
        yield
    finally:
        cluster.loop.add_callback(renewal.stop)


def _reason(error: BaseException) -> str:
    """The line of an error that says most: of a failed command, what it wrote."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    after = lines[lines.index("stderr:") + 1 :] if "stderr:" in lines else []
    return (after or lines or [type(error).__name__])[0].removeprefix("sbatch: error: ")
