"""Schedulers that run already: by address, by scheduler file, with or without certificates."""

import ipaddress
import json
import warnings
from pathlib import Path
from urllib.parse import urlsplit

import dask
from distributed import Client, Security

from pairscape.pipeline.errors import InputError
from pairscape.pipeline.options import Compute

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
        return str(json.loads(file.read_text())["address"])
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
