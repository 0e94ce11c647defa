"""Open a Dask client for any `--scheduler`; what is opened here is closed here."""

import json
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

import dask
from distributed import Client, Security, default_client, performance_report

from pairscape.pipeline.compute.local import local_cluster
from pairscape.pipeline.compute.opening import memory_told
from pairscape.pipeline.compute.progress import Say, silent
from pairscape.pipeline.compute.queues import gateway_client, kubernetes_client, queue_client
from pairscape.pipeline.compute.scheduler import attached
from pairscape.pipeline.compute.workers import checked_workers
from pairscape.pipeline.errors import InputError
from pairscape.pipeline.options import HERE, QUEUES, Compute
from pairscape.pipeline.storage.ownership import require_own_file

WORKER_SECONDS = 60  # that a running scheduler has for showing a worker
PATIENCE_SECONDS = 60  # between two words about a queue that lets us wait
CALM = {  # as Dask comes, its watching of itself takes 6 % of a core from every worker; so, 1.5 %
    "distributed.worker.profile.interval": "100ms",
    "distributed.admin.tick.interval": "500ms",
    "distributed.admin.system-monitor.interval": "2s",
}


@contextmanager
def open_client(
    compute: Compute,
    say: Say = silent,
    *,
    reads: Sequence[str | Path] = (),
    writes: str | Path | None = None,
) -> Iterator[Client | None]:
    """A client for the scheduler a user named; None means: in this process, one task after the other.

    Where none was named, it is the client that this Python has open, else the scheduler at `DASK_SCHEDULER_ADDRESS`,
    else processes of this machine. What is opened here is closed here, and nothing else is.

    Parameters
    ----------
    say
        Takes what the user should read: where the work runs, the dashboard, jobs that are submitted.
    reads, writes
        What the tasks read, and the store that they write: workers elsewhere have to see it. Absent: not looked at.

    Raises
    ------
    InputError
        Unreadable memory limit or certificates, nobody answers at the address, a package or a configuration is
        missing, or workers elsewhere cannot do this job.
    JobError
        The scheduler is gone, now or as long as the client is used.
    """
    with _client(compute, say) as (client, elsewhere), memory_told(compute, elsewhere):
        if client is None:
            yield None
            return
        if client.dashboard_link:
            say(_dashboard(client.dashboard_link, elsewhere))
        with attached(client):
            if elsewhere:
                _first_worker(client, compute, say)
            with checked_workers(client, reads, writes, say) if elsewhere else nullcontext():
                yield client


@contextmanager
def _client(compute: Compute, say: Say) -> Iterator[tuple[Client | None, bool]]:
    """The client, and whether its workers may be on other machines or of another installation."""
    place = compute.scheduler
    if place is None and (open_already := client_at_hand()) is not None:
        say(f"using the client at hand, of the scheduler at {address_of(open_already)}")
        yield open_already, True
        return
    if place is None and (configured := dask.config.get("scheduler-address", None)):
        say(f"using the scheduler at {configured}, as DASK_SCHEDULER_ADDRESS or Dask's configuration says")
        place = str(configured)
    with dask.config.set(CALM):
        if place == "synchronous":
            yield None, False
        elif place in (None, *HERE):
            with local_cluster(replace(compute, scheduler=place)) as cluster, Client(cluster) as client:
                yield client, False
        else:
            with _client_elsewhere(compute, place, say) as client:
                yield client, True


@contextmanager
def _client_elsewhere(compute: Compute, place: str, say: Say) -> Iterator[Client]:
    opened: AbstractContextManager[Client]
    if place in QUEUES:
        opened = queue_client(compute, security_of(compute), say)
    elif place == "kubernetes":
        opened = kubernetes_client(compute, say)
    elif place == "gateway":
        opened = gateway_client(compute, say)
    else:
        opened = connect(place, security_of(compute))
    with opened as client:
        yield client


def client_at_hand() -> Client | None:
    """The client that a notebook or script has open."""
    try:
        client = default_client()
    except ValueError:
        return None
    return None if client.asynchronous or client.status != "running" else client


def address_of(client: Client) -> str:
    """Where the scheduler of a client is reached."""
    return str(client.scheduler_info(n_workers=0)["address"])


def _dashboard(link: str, elsewhere: bool) -> str:
    """The address to look at, of a scheduler of this process on loopback; without bokeh it serves no pages there."""
    empty = not elsewhere and find_spec("bokeh") is None
    if not elsewhere and urlsplit(link).port:  # not that of a proxy in Dask's configuration
        link = urlsplit(link)._replace(netloc=f"127.0.0.1:{urlsplit(link).port}").geturl()
    return f"dashboard: {link}" + (" (once bokeh is there: pip install 'pairscape[dashboard]')" if empty else "")


def _first_worker(client: Client, compute: Compute, say: Say) -> None:
    """Wait until there is one: a queue may take its time, a running scheduler should have one, or start one now.

    Raises
    ------
    InputError
        There is none.
    """
    if not client.nthreads():
        say(f"waiting for a first worker at {address_of(client)}")
    trial = client.submit(int, pure=False)  # a scheduler that adapts starts workers for tasks only
    try:
        while True:
            try:
                trial.result(timeout=PATIENCE_SECONDS if compute.scheduler in QUEUES else WORKER_SECONDS)
                return
            except TimeoutError as error:
                if compute.scheduler not in QUEUES:
                    raise InputError(
                        f"the scheduler at {address_of(client)} has had no worker for {WORKER_SECONDS} s; start some "
                        f"(dask worker {address_of(client)}), or wait until they are there."
                    ) from error
                say(f"still waiting for {compute.scheduler} to start the first worker")
    finally:
        trial.release()


# ── schedulers that run already ──────────────────────────────────────────────────────────────────────────────────────

CONNECT_SECONDS = 15


def connect(place: str, security: Security | None) -> Client:
    """A client of the scheduler at an address, or of the one that wrote a scheduler file.

    Raises
    ------
    InputError
        No such file, it is no scheduler file, certificates are missing, or nobody answers.
    """
    address = _address_in(Path(place)) if place.endswith(".json") else place
    if address.startswith("tls://") and security is None:
        raise InputError(
            f"{address} wants certificates and there are none; give --tls-ca, --tls-cert and --tls-key, or configure "
            "distributed.comm.tls (deploy/README.md)."
        )
    try:
        return Client(address, timeout=CONNECT_SECONDS, security=security)
    except (OSError, ValueError, RuntimeError) as error:
        raise InputError(
            f"no Dask scheduler answers at {address} within {CONNECT_SECONDS} s; check the address, that the scheduler "
            "runs, that this machine may reach it and, for tls://, that both have certificates of one authority."
        ) from error


def _address_in(file: Path) -> str:
    if not file.is_file():
        raise InputError(
            f"{file} does not exist; start a scheduler that writes it (dask scheduler --scheduler-file {file})."
        )
    try:
        return str(json.loads(file.read_text(encoding="utf-8"))["address"])
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{file} is no scheduler file, JSON with an address; start a scheduler that writes it (dask scheduler "
            f"--scheduler-file {file})."
        ) from error


def security_of(compute: Compute) -> Security | None:
    """Certificates as given, else those of Dask's configuration; None: there are none.

    Raises
    ------
    InputError
        A file of them does not exist.
    """
    if compute.tls_ca is None:
        configured = dask.config.get("distributed.comm.tls", {})
        return Security() if configured.get("ca-file") and configured.get("client", {}).get("cert") else None
    files = [Path(str(path)).absolute() for path in (compute.tls_ca, compute.tls_cert, compute.tls_key)]
    for file in files:
        if not file.is_file():
            raise InputError(f"{file} does not exist; --tls-ca, --tls-cert and --tls-key are PEM files.")
    authority, certificate, key = map(str, files)
    return Security(
        tls_ca_file=authority, require_encryption=True,
        tls_client_cert=certificate, tls_client_key=key,
        tls_scheduler_cert=certificate, tls_scheduler_key=key,
        tls_worker_cert=certificate, tls_worker_key=key,
    )  # fmt: skip


# ── Dask's own report ────────────────────────────────────────────────────────────────────────────────────────────────


@contextmanager
def reported(client: Client | None, path: Path | None) -> Iterator[None]:
    """Write Dask's report of what runs inside the block as one HTML page, also if it fails while the scheduler lives.

    Parameters
    ----------
    path
        Page to write. Absent: nothing is.

    Raises
    ------
    InputError
        There is no cluster to report on, bokeh is not installed, there is no such folder, or a foreign file is there.
    """
    if path is None:
        yield
        return
    if client is None:
        raise InputError(
            "--performance-report is about a cluster, and --scheduler synchronous starts none; give local."
        )
    if find_spec("bokeh") is None:
        raise InputError(
            "--performance-report draws with bokeh, which is not installed here (the scheduler needs it too): "
            "pip install 'pairscape[dashboard]'."
        )
    if not path.absolute().parent.is_dir():
        raise InputError(
            f"--performance-report {path}: there is no folder {path.parent}; make it, or give another path."
        )
    require_own_file(path, b"Dask Performance Report")
    report = performance_report(filename=str(path))
    report.__enter__()
    try:
        yield
    finally:
        if client.status == "running":
            report.__exit__(None, None, None)
