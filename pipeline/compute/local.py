"""The cluster of this machine: worker processes, or the threads of this one, for one job and for no one else.

Two things differ from Dask's own. Whoever reaches the port of a scheduler has it run any code, and every user of a
machine reaches its loopback address, so that processes talk through TLS, with a certificate that is made for the job
and never leaves their memory. And Ctrl-C, which a terminal sends to all processes at once, reaches only this one: the
workers are ended from here.
"""

import asyncio
import logging
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing import resource_tracker

import dask
from distributed import LocalCluster, Nanny, Security, Worker
from distributed.utils import LoopRunner

from pairscape.pipeline.compute.machine import memory_per_worker, worker_count
from pairscape.pipeline.compute.main_guard import require_main_guard
from pairscape.pipeline.errors import JobError, first_line
from pairscape.pipeline.options import Compute

ENDED_SECONDS = 1.0  # that workers have to end when the user interrupts


@contextmanager
def local_cluster(compute: Compute) -> Iterator[LocalCluster]:
    """Start the workers that a job asks for, and end them with the block; at once, if the user interrupts it.

    Raises
    ------
    InputError
        As `memory_per_worker` and `require_main_guard`.
    JobError
        This machine does not start processes.
    """
    with deaf_loop() as loop, _started(compute, loop) as cluster:
        try:
            yield cluster
        except KeyboardInterrupt:
            with suppress(Exception):  # whatever is left ends with this process
                cluster.sync(_end, cluster, callback_timeout=ENDED_SECONDS)
            raise


def _started(compute: Compute, loop: LoopRunner) -> LocalCluster:
    """A local cluster, or in one line why this machine does not start its processes."""
    workers, processes = worker_count(compute), compute.scheduler != "threads"
    if processes and dask.config.get("distributed.worker.multiprocessing-method") != "fork":
        require_main_guard('scheduler="threads"')
    try:
        return LocalCluster(
            n_workers=workers if processes else 1,
            threads_per_worker=1 if processes else workers,
            processes=processes,
            memory_limit=memory_per_worker(compute) * (1 if processes else workers),
            dashboard_address=None,
            scheduler_kwargs={"dashboard_address": "127.0.0.1:0"},  # else it takes 8787, and warns if another job has
            silence_logs=logging.CRITICAL,  # failed tasks are reported by the job, in one line
            security=Security.temporary() if processes else None,  # threads talk within this process
            loop=loop.loop,
            preload=[*dask.config.get("distributed.worker.preload"), *(["pairscape.garbage"] if processes else [])],
        )
    except (RuntimeError, OSError) as error:
        causes: list[BaseException] = [error]
        while (cause := causes[-1].__cause__ or causes[-1].__context__) is not None:
            causes.append(cause)
        refused = next((cause for cause in causes if isinstance(cause, OSError)), None)
        cure = "make /dev/shm and the folder for temporary files writable, or " if refused else ""
        raise JobError(
            f"the processes of --scheduler local do not start here ({first_line(refused or error)}); {cure}give "
            "--scheduler threads, which starts none."
        ) from error


async def _end(cluster: LocalCluster) -> None:
    """End the workers without waiting for their tasks."""
    threads = [one.close(timeout=0, executor_wait=False) for one in cluster.workers.values() if isinstance(one, Worker)]
    processes = [one.close(timeout=ENDED_SECONDS / 8) for one in cluster.workers.values() if isinstance(one, Nanny)]
    await asyncio.gather(*threads, *processes)


@contextmanager
def deaf_loop() -> Iterator[LoopRunner]:
    """An event loop in a thread that Ctrl-C does not reach; nor does it reach processes that are started from there."""
    _start_tracker()
    loop, heard = LoopRunner(), signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        loop.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, heard)
    try:
        yield loop
    finally:
        loop.stop()


def _start_tracker() -> None:
    """Start the process that removes what processes of Python's leave behind.

    Not from the loop: whichever thread starts it hears signals again. It warns of what it removes, which is expected
    after an interrupt and would follow the job's last line.
    """
    name, before = "PYTHONWARNINGS", os.environ.get("PYTHONWARNINGS")
    os.environ[name] = ",".join([*([before] if before else []), "ignore:resource_tracker"])
    try:
        resource_tracker.ensure_running()
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before
