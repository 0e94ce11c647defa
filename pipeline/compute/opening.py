"""Open the session of a job: in this process, without loading Dask, or with a client of `pipeline.compute.clusters`."""

import os
import site
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pairscape.pipeline.compute.machine import cores, memory_per_worker
from pairscape.pipeline.compute.memory import SmallWorkersError
from pairscape.pipeline.compute.session import Events, Session, here
from pairscape.pipeline.compute.tasks import MORE_MEMORY, FailedTasksError
from pairscape.pipeline.options import QUEUES, Compute

if TYPE_CHECKING:
    from distributed import Client


@contextmanager
def open_session(
    compute: Compute,
    quiet: bool = True,
    *,
    reads: Sequence[Any] = (),
    writes: str | Path | None = None,
    events: Events | None = None,
    report: Path | None = None,
    small: bool = False,
) -> Iterator[Session]:
    """A session with the client of `clusters.open_client`, and bars and lines unless it is to be quiet.

    Parameters
    ----------
    small
        Whether the job is done in this process before workers would have started: it is, unless a scheduler, workers,
        memory or a report on them are asked for, or a client is at hand.
    reads
        What the tasks read; matrices in memory among it are left out.
    events
        Log of what happens to the tasks.
    report
        Page of Dask's measurements to write. Absent: none is.

    Raises
    ------
    InputError, JobError
        As `clusters.open_client` and `clusters.reported`.
    """
    places = [path for path in reads if isinstance(path, str | Path)]
    compute = Compute("synchronous") if small and report is None and nothing_asked(compute) else compute
    with here(quiet, events) as session:
        if compute.scheduler == "synchronous" and report is None:
            with memory_told(compute, False):
                yield replace(session, memory=memory_per_worker(compute))
            return
        from pairscape.pipeline.compute.clusters import open_client, reported

        here_started = compute.scheduler in (None, "local")
        session.progress.start("starting workers" if here_started else "waiting for workers", 0)
        with (
            open_client(compute, session.say, reads=places, writes=writes) as client,
            reported(client, report),
        ):
            yield replace(session, client=client, memory=smallest_memory(client, compute))
            session.progress.start("stopping workers" if here_started else "leaving workers", 0)


@contextmanager
def memory_told(compute: Compute, elsewhere: bool) -> Iterator[None]:
    """Whoever is told that workers have too little memory is told how these get more."""
    try:
        yield
    except SmallWorkersError as error:
        error.remedy = error.remedy or more_memory(compute, elsewhere, f"{error.enough} or more")
        raise
    except FailedTasksError as error:
        error.remedy = error.remedy or more_memory(compute, elsewhere, None)
        raise


def more_memory(compute: Compute, elsewhere: bool, enough: str | None) -> str:
    """How the workers of a job get more memory, which depends on who starts them.

    Parameters
    ----------
    elsewhere
        Whether they are not processes of this machine that this job started.
    enough
        How much, such as "4GB or more". Absent: it is not known.
    """
    place, amount = compute.scheduler, f" {enough}" if enough else ""
    if place in QUEUES:
        return f"give --memory-limit{amount} (of each worker), or raise jobqueue.{place}.memory (of each job)"
    if place == "kubernetes":
        return f"give --memory-limit{amount}, on nodes that have it"
    if place == "gateway":
        return f"ask for{amount or ' more'} in gateway.cluster.options, as its administrator named it"
    if elsewhere:
        return (
            f"this scheduler's workers were started by somebody else: start them with{amount or ' more memory'} each "
            "(dask worker --memory-limit, LocalCluster(memory_limit=…), in Kubernetes resources.limits.memory)"
        )
    if place == "synchronous":
        return f"give --memory-limit{amount}" if compute.memory_limit else "use a machine with more"
    return f"give --memory-limit{amount} with fewer --workers" if enough else MORE_MEMORY


def nothing_asked(compute: Compute) -> bool:
    """Whether nobody, here or in Dask's configuration, said where the work is to run."""
    if compute != Compute() or ("distributed" in sys.modules and _client_is_open()):
        return False
    if not _may_be_configured():
        return True
    from dask import config

    return not config.get("scheduler-address", None)


def _may_be_configured() -> bool:
    """Whether Dask may know of a scheduler, told without loading it: by its variables and the files that it reads."""
    if "dask" in sys.modules or any(name.startswith("DASK_") for name in os.environ):
        return True
    places = [Path(prefix, "etc", "dask") for prefix in (sys.prefix, *site.PREFIXES)]
    folders = [Path("/etc/dask"), *places, Path("~/.config/dask").expanduser()]
    return any(_names_scheduler(file) for folder in folders for file in folder.glob("*.*"))


def _names_scheduler(file: Path) -> bool:
    try:
        return b"scheduler-address" in file.read_bytes().replace(b"_", b"-")
    except OSError:
        return True  # Dask says what is wrong with it


def _client_is_open() -> bool:
    from pairscape.pipeline.compute.clusters import client_at_hand

    return client_at_hand() is not None


def measuring(compute: Compute) -> Compute:
    """The same, to measure with: no more workers than cores, and those of this machine where jobs would be submitted.

    Running schedulers measure themselves.
    """
    if compute.scheduler in (*QUEUES, "kubernetes", "gateway"):
        return Compute("local", min(compute.workers or 1, cores()), compute.memory_limit)
    local = compute.scheduler in (None, "local", "threads") and compute.workers is not None
    return replace(compute, workers=min(compute.workers or 1, cores())) if local else compute


def smallest_memory(client: "Client | None", compute: Compute) -> int | None:
    """Memory that a task has on the smallest worker, whose threads share its limit, in bytes; None: no limit."""
    if client is None:
        return memory_per_worker(compute)
    workers = client.scheduler_info(n_workers=-1)["workers"].values()
    return min((w["memory_limit"] // w["nthreads"] for w in workers if w["memory_limit"]), default=None)


def worker_threads(client: "Client | None") -> int:
    """Threads of all workers together."""
    if client is None:
        return 1
    from pairscape.pipeline.compute.scheduler import attached

    with attached(client):
        return max(sum(client.nthreads().values()), 1)
