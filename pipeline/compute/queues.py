"""Clients of clusters that a service starts: jobs of SLURM, PBS, LSF and SGE, Kubernetes, Dask Gateway.

What a worker is (queue, account, walltime, cores; image, namespace; address of the gateway) stands in the configuration
of dask-jobqueue, dask-kubernetes and dask-gateway; Pairscape adds how many workers there are, their memory and
lifetime.
"""

import ipaddress
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit

import dask
from dask.utils import parse_bytes, parse_timedelta
from distributed import Client, Security, Status
from tornado.ioloop import PeriodicCallback

from pairscape.pipeline.compute.progress import Say
from pairscape.pipeline.errors import InputError, first_line
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
        Neither a memory limit is given nor the memory of a job configured; the lifetime is no time.
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
        "worker_extra_args": [*(configured("worker-extra-args") or []), *_life_arguments(compute)],
        "scheduler_options": {"dashboard_address": "127.0.0.1:0"} | (configured("scheduler-options") or {}),
    }
    if compute.memory_limit is not None:
        options["memory"] = f"{asked_bytes(compute.memory_limit) * processes} B"
    return options


def _life_arguments(compute: Compute) -> list[str]:
    """Arguments that end workers after the time asked for; they win over configured ones, which come first."""
    if compute.lifetime is None:
        return []
    seconds = asked_seconds(compute.lifetime)
    return ["--lifetime", f"{seconds:.0f}s", "--lifetime-stagger", f"{seconds / 10:.0f}s"]


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


def asked_bytes(text: str) -> int:
    """Bytes of a memory limit.

    Raises
    ------
    InputError
        No number of bytes, or not positive.
    """
    try:
        limit = int(parse_bytes(text))
    except (ValueError, OverflowError) as error:
        raise InputError(f"memory limit {text!r} is no size; give one such as 4GB.") from error
    if limit <= 0:
        raise InputError(f"memory limit {text!r} is not positive; give one such as 4GB.")
    return limit


def asked_seconds(text: str) -> float:
    """Seconds of a lifetime.

    Raises
    ------
    InputError
        No time.
    """
    try:
        return float(parse_timedelta(text))
    except (ValueError, KeyError) as error:
        raise InputError(f"lifetime {text!r} is no time; give one such as 55m or 2h.") from error


# ── Kubernetes and Dask Gateway ──────────────────────────────────────────────────────────────────────────────────────


@contextmanager
def kubernetes_client(compute: Compute, say: Say) -> Iterator[Client]:
    """A client of a DaskCluster of our own, which is deleted at the end.

    Raises
    ------
    InputError
        dask-kubernetes is missing, or the operator gives no cluster.
    """
    package = optional("dask_kubernetes.operator", "kubernetes", "--scheduler kubernetes")
    arguments = {"n_workers": compute.workers or dask.config.get("kubernetes.count.start", 0) or 1, "quiet": True}
    if compute.memory_limit is not None:
        arguments["resources"] = _with_memory(dask.config.get("kubernetes.resources", {}), compute.memory_limit)
    say(f"asking Kubernetes for {arguments['n_workers']} workers")
    with _opened(package.KubeCluster, "Kubernetes", **arguments) as cluster, Client(cluster) as client:
        yield client


def _with_memory(configured: dict[str, Any], limit: str) -> dict[str, Any]:
    """Resources of a pod with this much memory: asked for and not exceeded, so that no node is overbooked."""
    memory = {"memory": str(asked_bytes(limit))}
    return {name: {**(configured.get(name) or {}), **memory} for name in ("requests", "limits")}


@contextmanager
def gateway_client(compute: Compute, say: Say) -> Iterator[Client]:
    """A client of a cluster of Dask Gateway, which is shut down at the end.

    Raises
    ------
    InputError
        dask-gateway is missing, the gateway gives no cluster, or a memory limit is given, which only it can set.
    """
    if compute.memory_limit is not None:
        raise InputError(
            "--memory-limit is not ours to give behind a gateway; configure gateway.cluster.options as its "
            "administrator named them, and leave the flag out."
        )
    package, workers = optional("dask_gateway", "gateway", "--scheduler gateway"), compute.workers or 1
    say(f"asking the gateway for {workers} workers")
    with _opened(package.GatewayCluster, "the gateway") as cluster:
        cluster.scale(workers)
        with cluster.get_client() as client:
            yield client


@contextmanager
def _opened(kind: Any, name: str, **arguments: Any) -> Iterator[Any]:
    try:
        cluster = kind(**arguments)
    except Exception as error:  # each service, and its HTTP library, has errors of its own
        raise InputError(
            f"{name} gives no cluster ({first_line(error)}); check its configuration and your rights."
        ) from error
    with cluster:
        yield cluster


def optional(package: str, extra: str, purpose: str) -> ModuleType:
    """The package, imported.

    Raises
    ------
    InputError
        It is not installed.
    """
    try:
        return import_module(package)
    except ImportError as error:
        raise InputError(
            f"{purpose} needs {package}, which cannot be imported here ({error}); pip install 'pairscape[{extra}]'."
        ) from error


def warn_if_open(address: str) -> None:
    """Say that a scheduler of ours is reached from elsewhere, without a certificate: it executes what it is sent."""
    parts = urlsplit(address)
    if parts.scheme in ("tls", "inproc") or _is_loopback(parts.hostname or ""):
        return
    warnings.warn(
        f"the scheduler listens at {address}, beyond this machine, and executes code for whoever reaches it; give "
        "--tls-ca, --tls-cert and --tls-key, or be sure that the network is yours (deploy/README.md)",
        stacklevel=2,
    )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
