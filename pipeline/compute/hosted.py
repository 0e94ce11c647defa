"""Clusters that a service starts for us: Kubernetes, through the Dask operator, and Dask Gateway.

What a worker is (image, namespace, address of the gateway, its options) stands in the configuration of dask-kubernetes
and dask-gateway; Pairscape adds how many there are, and their memory.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import dask
from distributed import Client

from pairscape.pipeline.compute.amounts import asked_bytes
from pairscape.pipeline.compute.optional import optional
from pairscape.pipeline.compute.progress import Say
from pairscape.pipeline.errors import InputError
from pairscape.pipeline.options import Compute


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
        reason = next(iter(str(error).splitlines()), "") or type(error).__name__
        raise InputError(f"{name} gives no cluster ({reason}); check its configuration and your rights.") from error
    with cluster:
        yield cluster
